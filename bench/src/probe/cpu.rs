//! CPU time of the server, the generator and the machine: /proc.

use std::collections::BTreeMap;
use std::fs;

/// Seconds in a tick of /proc/*/stat: USER_HZ is 100 on every Linux architecture that Rust runs on.
const TICK_S: f64 = 0.01;

/// By how many ticks the kernel's two counts may differ.
const TICKS_ERROR: f64 = 10.0;

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
    /// Reads all of it for the server `pid`; without one, of the machine and ourselves alone.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn take(pid: Option<u32>) -> Result<Self, String> {
        let mut sample = Self {
            server: CpuTime::default(),
            threads: BTreeMap::new(),
            cores: parse_cores(&super::read("/proc/stat")?),
        };
        if let Some(pid) = pid {
            let gone = |error| format!("the server's process {pid} is not there: {error}");
            sample.server = process_cpu(&pid.to_string()).map_err(gone)?;
            sample.threads = threads(pid).map_err(gone)?;
        }
        Ok(sample)
    }

    /// Seconds of CPU of the server: to the nanosecond where the kernel tells, else to the tick.
    ///
    /// Threads that ended are in the ticks alone, so that the ticks count when they say clearly more.
    pub fn server_s(&self) -> f64 {
        let ran_s: f64 = self.threads.values().map(|thread| thread.ran_s).sum();
        let ticks_s = self.server.total_s();
        let is_close = ticks_s <= ran_s * 1.02 + TICKS_ERROR * TICK_S;
        if ran_s > 0.0 && is_close { ran_s } else { ticks_s }
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
            cores: cores.collect(),
        }
    }
}

/// The threads of a process.
fn threads(pid: u32) -> Result<BTreeMap<u32, Thread>, String> {
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
        // It ended in between: with nothing for its time, its whole past would be taken off.
        if ran_s == 0.0 && cpu.total_s() > 0.0 && !entry.path().exists() {
            continue;
        }
        threads.insert(id, Thread { name, cpu, ran_s, waited_s });
    }
    Ok(threads)
}

fn process_cpu(pid: &str) -> Result<CpuTime, String> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(&super::read(&path)?)
        .map(|(_, cpu)| cpu)
        .ok_or_else(|| format!("{path} is not understood"))
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
pub fn schedstat(path: &str) -> (f64, f64) {
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
}
