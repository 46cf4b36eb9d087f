//! What the kernel and the server say of the server, the machine and ourselves: /proc and /metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::client::http::Api;

/// Seconds in a tick of /proc/*/stat: USER_HZ is 100 on every Linux architecture that Rust runs on.
const TICK_S: f64 = 0.01;

/// CPU time in seconds. The sum is what the scheduler measured. Kernels split it into user and system by what the timer
/// tick happened to interrupt, mostly: with work that comes in rhythm the split can be far off.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CpuTime {
    pub user_s: f64,
    pub system_s: f64,
}

/// One thread of the server.
#[derive(Clone, PartialEq, Debug)]
pub struct Thread {
    pub name: String,
    pub cpu: CpuTime,
    /// Its CPU time to the nanosecond; 0 where the kernel does not tell.
    pub ran_s: f64,
    /// Seconds in which it could have run and had no core.
    pub waited_s: f64,
}

/// One core of the machine: seconds spent in each way.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Core {
    pub user_s: f64,
    pub system_s: f64,
    pub softirq_s: f64,
    pub stolen_s: f64,
    pub idle_s: f64,
}

/// CPU time of everybody, at one moment.
#[derive(Clone, Debug)]
pub struct CpuSample {
    pub server: CpuTime,
    pub threads: BTreeMap<u32, Thread>,
    pub generator: CpuTime,
    pub generator_waited_s: f64,
    pub cores: Vec<Core>,
}

impl std::ops::Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user_s: self.user_s - earlier.user_s, system_s: self.system_s - earlier.system_s }
    }
}

impl CpuTime {
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl CpuSample {
    /// Reads all of it for the server `pid`.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn take(pid: u32) -> Result<Self, String> {
        let mut threads = BTreeMap::new();
        let folder = format!("/proc/{pid}/task");
        for entry in fs::read_dir(&folder).map_err(|e| format!("{folder}: {e}"))?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            // A thread may end between the listing and this.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((name, cpu)) = parse_stat(&stat) else { continue };
            let (ran_s, waited_s) = schedstat(&format!("{folder}/{id}/schedstat"));
            threads.insert(id, Thread { name, cpu, ran_s, waited_s });
        }
        Ok(Self {
            server: process_cpu(&pid.to_string())?,
            threads,
            generator: process_cpu("self")?,
            generator_waited_s: schedstat("/proc/thread-self/schedstat").1,
            cores: parse_cores(&read("/proc/stat")?),
        })
    }

    /// Seconds of CPU of the server: to the nanosecond where the kernel tells, else to the tick.
    pub fn server_s(&self) -> f64 {
        let ran_s: f64 = self.threads.values().map(|thread| thread.ran_s).sum();
        if ran_s > 0.0 { ran_s } else { self.server.total_s() }
    }

    /// What was spent since `earlier`. Threads that ended since are missing.
    pub fn since(&self, earlier: &Self) -> Self {
        let threads = self.threads.iter().map(|(&id, thread)| {
            let mut spent = thread.clone();
            if let Some(before) = earlier.threads.get(&id) {
                spent.cpu = spent.cpu - before.cpu;
                spent.ran_s -= before.ran_s;
                spent.waited_s -= before.waited_s;
            }
            (id, spent)
        });
        let cores = self.cores.iter().zip(&earlier.cores).map(|(core, before)| Core {
            user_s: core.user_s - before.user_s,
            system_s: core.system_s - before.system_s,
            softirq_s: core.softirq_s - before.softirq_s,
            stolen_s: core.stolen_s - before.stolen_s,
            idle_s: core.idle_s - before.idle_s,
        });
        Self {
            server: self.server - earlier.server,
            threads: threads.collect(),
            generator: self.generator - earlier.generator,
            generator_waited_s: self.generator_waited_s - earlier.generator_waited_s,
            cores: cores.collect(),
        }
    }
}

/// Counters of loss, at one moment.
#[derive(Clone, Debug, Default)]
pub struct LossSample {
    /// Datagrams that the clients' sockets had no room for.
    pub generator_sockets: u64,
    /// Datagrams that the server's UDP sockets had no room for.
    pub server_sockets: u64,
    /// The server's counters by name and labels, as /metrics shows them.
    pub metrics: BTreeMap<String, f64>,
}

impl LossSample {
    /// Reads them.
    ///
    /// # Errors
    /// The server does not answer, or /proc does not.
    pub fn take(api: &Api, clients: &[u16], server: Option<u16>) -> Result<Self, String> {
        let metrics = parse_metrics(&api.expect(200, "GET", "/metrics", "")?.body);
        let table = read("/proc/net/udp")?;
        let clients: BTreeSet<u16> = clients.iter().copied().collect();
        Ok(Self {
            generator_sockets: socket_drops(&table, |port| clients.contains(&port)),
            server_sockets: socket_drops(&table, |port| Some(port) == server),
            metrics,
        })
    }

    /// How much the sum of a counter over all its labels grew since `earlier`.
    pub fn grown(&self, earlier: &Self, name: &str) -> f64 {
        let sum = |sample: &Self| -> f64 {
            let of_name = |key: &str| key.split('{').next() == Some(name);
            sample.metrics.iter().filter(|(key, _)| of_name(key)).map(|(_, value)| value).sum()
        };
        sum(self) - sum(earlier)
    }

    /// By how much each of the server's reasons to drop grew since `earlier`; those that did not grow are left out.
    pub fn drops_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut grown = BTreeMap::new();
        for (key, value) in &self.metrics {
            if !key.starts_with("sluice_shard_drops_total{") {
                continue;
            }
            let reason = label(key, "reason").unwrap_or("?").to_owned();
            *grown.entry(reason).or_insert(0.0) += value - earlier.metrics.get(key).unwrap_or(&0.0);
        }
        grown.retain(|_, count| *count != 0.0);
        grown
    }

    /// A label of the server's `build_info`.
    pub fn build(&self, name: &str) -> Option<&str> {
        let key = self.metrics.keys().find(|key| key.starts_with("sluice_build_info{"))?;
        label(key, name)
    }
}

/// The server's resident memory, bytes.
///
/// # Errors
/// There is no such process any more.
pub fn resident_bytes(pid: u32) -> Result<u64, String> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| format!("process {pid} has no VmRSS"))
}

/// The load averages of one, five and fifteen minutes, as the kernel writes them.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Kernel release and model of the processor.
pub fn machine() -> (String, String) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|rest| rest.split_once(':')).map_or("unknown", |(_, m)| m.trim());
    (kernel.trim().to_owned(), model.to_owned())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}

fn process_cpu(pid: &str) -> Result<CpuTime, String> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(&read(&path)?).map(|(_, cpu)| cpu).ok_or_else(|| format!("{path} is not understood"))
}

/// Name and CPU time. The name stands in parentheses and may hold any character, those too.
fn parse_stat(stat: &str) -> Option<(String, CpuTime)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace().skip(11).map(|f| f.parse::<f64>());
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((name.to_owned(), CpuTime { user_s: user * TICK_S, system_s: system * TICK_S }))
}

/// Seconds that a thread ran, and that it waited for a core; 0 where the kernel does not count them.
fn schedstat(path: &str) -> (f64, f64) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut nanos = text.split_whitespace().map(|n| n.parse::<f64>().unwrap_or(0.0));
    let mut seconds = || nanos.next().unwrap_or(0.0) / 1e9;
    (seconds(), seconds())
}

fn parse_cores(stat: &str) -> Vec<Core> {
    let mut cores = Vec::new();
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let is_core = words.next().is_some_and(|w| w.starts_with("cpu") && w != "cpu");
        if !is_core {
            continue;
        }
        let ticks: Vec<f64> = words.map(|w| w.parse().unwrap_or(0.0)).collect();
        // user nice system idle iowait irq softirq steal
        let seconds = |at: usize| ticks.get(at).unwrap_or(&0.0) * TICK_S;
        cores.push(Core {
            user_s: seconds(0) + seconds(1),
            system_s: seconds(2),
            idle_s: seconds(3) + seconds(4),
            softirq_s: seconds(5) + seconds(6),
            stolen_s: seconds(7),
        });
    }
    cores
}

/// Sums the last column of /proc/net/udp over sockets whose local port is `wanted`.
fn socket_drops(table: &str, wanted: impl Fn(u16) -> bool) -> u64 {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((port, words.last()?.parse::<u64>().ok()?))
    });
    rows.filter(|&(port, _)| wanted(port)).map(|(_, drops)| drops).sum()
}

fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// The value of a label; labels of ours hold no escapes.
fn label<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    let labels = key.split_once('{')?.1.strip_suffix('}')?;
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_be_named_anything() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 150 75 0 0 20 0 4 0 1 1 1";
        let (name, cpu) = parse_stat(stat).unwrap();
        assert_eq!(name, "a) b (c");
        assert_eq!(cpu, CpuTime { user_s: 1.5, system_s: 0.75 });
        assert_eq!(cpu.total_s(), 2.25);
        assert!(parse_stat("42 (x) S 1 1").is_none());
    }

    #[test]
    fn cores_are_read_without_their_sum() {
        let stat = "cpu 9 9 9 9 9 9 9 9\ncpu0 100 50 30 1000 20 1 7 5 0 0\ncpu1 1 0 0 0\nintr 5";
        let cores = parse_cores(stat);
        assert_eq!(cores.len(), 2);
        let expected =
            Core { user_s: 1.5, system_s: 0.3, softirq_s: 0.08, stolen_s: 0.05, idle_s: 10.2 };
        for (got, want) in [
            (cores[0].user_s, expected.user_s),
            (cores[0].system_s, expected.system_s),
            (cores[0].softirq_s, expected.softirq_s),
            (cores[0].stolen_s, expected.stolen_s),
            (cores[0].idle_s, expected.idle_s),
        ] {
            assert!((got - want).abs() < 1e-9, "{got} is not {want}");
        }
    }

    #[test]
    fn drops_are_those_of_the_ports_asked_for() {
        let table = "  sl  local_address rem_address   st ... drops\n\
            1: 0100007F:20FB 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 ff 12\n\
            2: 0100007F:20FC 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 ff 5\n";
        assert_eq!(socket_drops(table, |port| port == 8_443), 12);
        assert_eq!(socket_drops(table, |_| true), 17);
        assert_eq!(socket_drops(table, |port| port == 1), 0);
    }

    #[test]
    fn counters_are_summed_over_labels_and_drops_are_told_apart() {
        let sample = |a: u32, b: u32| LossSample {
            metrics: parse_metrics(&format!(
                "# HELP x\nsluice_build_info{{version=\"1\",backend=\"mmsg\"}} 1\n\
                sluice_shard_rtp_packets_out_total{{shard=\"0\"}} {a}\n\
                sluice_shard_rtp_packets_out_total{{shard=\"1\"}} {a}\n\
                sluice_shard_drops_total{{shard=\"0\",reason=\"egress_full\"}} {b}\n\
                sluice_shard_drops_total{{shard=\"0\",reason=\"replayed\"}} 7\n"
            )),
            ..LossSample::default()
        };
        let (before, after) = (sample(10, 0), sample(15, 3));
        assert_eq!(after.grown(&before, "sluice_shard_rtp_packets_out_total"), 10.0);
        let drops = after.drops_since(&before);
        assert_eq!(drops.into_iter().collect::<Vec<_>>(), [("egress_full".to_owned(), 3.0)]);
        assert_eq!(after.build("backend"), Some("mmsg"));
    }
}
