//! What the kernel says of this process, under the names that rtcd's dashboard reads.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A process at a moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Process {
    /// Time on a CPU, in the kernel and outside, seconds.
    cpu_s: f64,
    /// When it started, seconds since 1970.
    start_s: f64,
    open_fds: u64,
    /// The soft limit of open files.
    max_fds: u64,
    virtual_bytes: u64,
    /// The soft limit of the address space; `u64::MAX` for none.
    virtual_max_bytes: u64,
    resident_bytes: u64,
    /// Memory that is no file's: heap, the threads' stacks, buffers.
    anonymous_bytes: u64,
    /// The main thread's stack.
    stack_bytes: u64,
}

/// Units of the kernel's CPU times in a second: the same on every architecture, whatever the kernel's own clock.
/// Source: proc(5), USER_HZ.
const USER_HZ: f64 = 100.0;

impl Process {
    /// Reads the process that asks. Blocks as long as the kernel takes, which grows with the number of open files.
    ///
    /// # Errors
    /// When `/proc` is not there, or does not look as proc(5) has it.
    pub(super) fn read_own() -> io::Result<Self> {
        let text = |path: &str| std::fs::read_to_string(path);
        let fds = std::fs::read_dir(Path::new("/proc/self/fd"))?.count() as u64;
        let parsed = Self::parse(
            &text("/proc/self/stat")?,
            &text("/proc/self/status")?,
            &text("/proc/self/limits")?,
            &text("/proc/stat")?,
        );
        let parsed = parsed.ok_or_else(|| io::Error::other("/proc/self has another form"))?;
        Ok(Self { open_fds: fds, ..parsed })
    }

    /// Source: proc_pid_stat(5), proc_pid_status(5), proc_pid_limits(5), proc_stat(5).
    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Option<Self> {
        // The command's name may hold blanks and brackets; the third field is the first after it.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot_s = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot_s: f64 = boot_s?.trim().parse().ok()?;
        let kibibytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Some(value?.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        let soft_limit = |name: &str| {
            let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
            match values.split_ascii_whitespace().next()? {
                "unlimited" => Some(u64::MAX),
                limit => limit.parse().ok(),
            }
        };
        Some(Self {
            cpu_s: (field(14)? + field(15)?) as f64 / USER_HZ,
            start_s: boot_s + field(22)? as f64 / USER_HZ,
            open_fds: 0,
            max_fds: soft_limit("Max open files")?,
            virtual_bytes: field(23)?,
            virtual_max_bytes: soft_limit("Max address space")?,
            resident_bytes: kibibytes("VmRSS")?,
            anonymous_bytes: kibibytes("RssAnon")?,
            stack_bytes: kibibytes("VmStk")?,
        })
    }

    /// Adds `process_*`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by(self.cpu_s);
        registry.register("process_cpu_seconds", "Time on a CPU", cpu);
        let gauges = [
            ("process_start_time_seconds", "When the process started, since 1970", self.start_s),
            ("process_open_fds", "Open file descriptors", self.open_fds as f64),
            ("process_max_fds", "Most file descriptors that may be open", self.max_fds as f64),
            ("process_virtual_memory_bytes", "Address space in use", self.virtual_bytes as f64),
            (
                "process_virtual_memory_max_bytes",
                "Most address space that may be in use",
                self.virtual_max_bytes as f64,
            ),
            ("process_resident_memory_bytes", "Memory in RAM", self.resident_bytes as f64),
        ];
        register_gauges(registry, &gauges);
    }

    /// Adds what stands for figures of a Go runtime, which rtcd's dashboard reads. `tasks` is the number of live tasks of the control
    /// plane.
    pub(super) fn register_as_go(&self, registry: &mut Registry, tasks: usize) {
        let heap = self.anonymous_bytes.saturating_sub(self.stack_bytes);
        let gauges = [
            ("go_goroutines", "Live tasks of the control plane", tasks as f64),
            (
                "go_memstats_heap_inuse_bytes",
                "Memory in RAM that is no file's: heap, packet buffers, stacks of all threads but the first",
                heap as f64,
            ),
            ("go_memstats_stack_inuse_bytes", "Stack of the first thread", self.stack_bytes as f64),
        ];
        register_gauges(registry, &gauges);
    }
}

fn register_gauges(registry: &mut Registry, gauges: &[(&'static str, &'static str, f64)]) {
    for &(name, help, value) in gauges {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_found_where_the_kernel_writes_it() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 250 75 0 0 20 0 5 0 \
                    12345 1073741824 2048 18446744073709551615 1 1 0 0";
        let status =
            "Name:\ta) b (c\nVmStk:\t     132 kB\nVmRSS:\t    8192 kB\nRssAnon:\t    4096 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max address space         unlimited            unlimited            bytes     \n";
        let system = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";
        let expected = Process {
            cpu_s: 3.25,
            start_s: 1_700_000_123.45,
            open_fds: 0,
            max_fds: 1024,
            virtual_bytes: 1 << 30,
            virtual_max_bytes: u64::MAX,
            resident_bytes: 8 << 20,
            anonymous_bytes: 4 << 20,
            stack_bytes: 132 << 10,
        };
        assert_eq!(Process::parse(stat, status, limits, system), Some(expected));
        assert_eq!(Process::parse(stat, "", limits, system), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process::read_own().unwrap();
        assert!(own.open_fds > 2 && own.max_fds >= own.open_fds);
        assert!(own.resident_bytes >= own.anonymous_bytes && own.anonymous_bytes > 0);
        assert!(own.virtual_bytes > own.resident_bytes);
        assert!(own.start_s > 1.7e9 && own.cpu_s >= 0.0);
    }
}
