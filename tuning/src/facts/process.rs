//! Limits and powers of a process: proc_pid_limits(5), proc_pid_status(5).

use serde::Serialize;

use crate::cpu_set::CpuSet;
use crate::host::Host;

/// A process's limits and powers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// Its number; 0 stands for this one.
    pub pid: u32,
    /// Open files, soft and hard. `u64::MAX` is unlimited.
    pub open_files: Option<(u64, u64)>,
    /// Locked memory, bytes, likewise.
    pub locked_memory_bytes: Option<(u64, u64)>,
    /// Effective capabilities, one bit each (`CapEff`).
    pub capabilities: Option<u64>,
    /// 0 none, 1 strict, 2 filtered.
    pub seccomp: Option<u32>,
    /// CPUs it may use.
    pub cpus_allowed: Option<CpuSet>,
}

/// Where the kernel tells of process `pid`.
pub(super) fn folder(pid: u32) -> String {
    if pid == 0 { "/proc/self".into() } else { format!("/proc/{pid}") }
}

pub(super) fn process(host: &Host, pid: u32) -> Process {
    let limits = host.text(folder(pid) + "/limits").unwrap_or_default();
    let status = host.text(folder(pid) + "/status").unwrap_or_default();
    let field = |name| {
        status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    Process {
        pid,
        open_files: limit(&limits, "Max open files"),
        locked_memory_bytes: limit(&limits, "Max locked memory"),
        capabilities: field("CapEff").and_then(|bits| u64::from_str_radix(bits, 16).ok()),
        seccomp: field("Seccomp").and_then(|mode| mode.parse().ok()),
        cpus_allowed: field("Cpus_allowed_list").and_then(CpuSet::from_list),
    }
}

fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn limits_and_powers_are_read() {
        let process = process(&Tree::container().host(), 0);
        assert_eq!(process.open_files, Some((1_048_576, 1_048_576)));
        assert_eq!(process.locked_memory_bytes, Some((8_388_608, 8_388_608)));
        assert_eq!(process.capabilities, Some(0xa804_25fb));
        assert_eq!(process.seccomp, Some(2));
        assert_eq!(process.cpus_allowed.unwrap().to_string(), "0-15");
    }

    #[test]
    fn another_process_is_read_by_its_number() {
        let limits = "Max locked memory         unlimited            unlimited            bytes\n";
        let tree = Tree::of(&[("proc/77/limits", limits), ("proc/77/status", "Seccomp:\tx\n")]);
        let process = process(&tree.host(), 77);
        assert_eq!((process.pid, process.open_files), (77, None));
        assert_eq!(process.locked_memory_bytes, Some((u64::MAX, u64::MAX)));
        assert_eq!((process.seccomp, process.capabilities), (None, None));
    }
}
