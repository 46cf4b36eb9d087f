//! Time and cores of threads.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// CPU time that the calling thread has used.
pub fn thread_time() -> Duration {
    // It fails for clocks alone that a kernel does not have, and all have this one; then every difference is zero.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// How long the calling thread could have run and had no core; zero where the kernel does not count it.
pub fn thread_wait() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(parse_wait_ns(&text).unwrap_or(0))
}

fn parse_wait_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// Who runs where. Dropped, it lets the thread that made it run where it was allowed to before.
pub struct Cores {
    /// Where the sender may run otherwise; none when it was not pinned.
    before: Option<CpuSet>,
    /// Where readers run.
    others: Option<CpuSet>,
}

/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

impl Cores {
    /// Pins the calling thread to `core`, if there is one, and keeps all other allowed cores for readers.
    ///
    /// # Errors
    /// The thread may not run there.
    pub fn choose(core: Option<usize>) -> Result<Self, String> {
        let Some(core) = core else { return Ok(Self { before: None, others: None }) };
        let before = sched_getaffinity(THIS).map_err(|e| format!("asking for cores: {e}"))?;
        if !before.is_set(core).unwrap_or(false) {
            let allowed = (0..CpuSet::count()).filter(|&c| before.is_set(c).unwrap_or(false));
            let allowed: Vec<String> = allowed.map(|core| core.to_string()).collect();
            return Err(format!(
                "core {core} is not one that this program may use; those are {}",
                allowed.join(", ")
            ));
        }
        let mut only = CpuSet::new();
        let mut others = before;
        // Neither can fail: the core is one of a set.
        let _ = (only.set(core), others.unset(core));
        sched_setaffinity(THIS, &only).map_err(|e| format!("pinning to core {core}: {e}"))?;
        let is_alone = (0..CpuSet::count()).all(|c| !others.is_set(c).unwrap_or(false));
        Ok(Self { before: Some(before), others: (!is_alone).then_some(others) })
    }

    /// Moves the calling thread away from the sender's core, where there is another one.
    pub fn keep_off(&self) {
        if let Some(others) = &self.others {
            // When it is refused, since cores were taken away meanwhile, the reader is only slower; how much was read is told.
            let _ = sched_setaffinity(THIS, others);
        }
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = sched_setaffinity(THIS, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_second_number() {
        assert_eq!(parse_wait_ns("1500 42 7\n"), Some(42));
        assert_eq!(parse_wait_ns(""), None);
    }

    #[test]
    fn a_thread_is_pinned_until_its_cores_are_dropped() {
        let before = sched_getaffinity(THIS).unwrap();
        let core = (0..CpuSet::count()).find(|&core| before.is_set(core).unwrap()).unwrap();
        let cores = Cores::choose(Some(core)).unwrap();
        let mut only = CpuSet::new();
        only.set(core).unwrap();
        assert_eq!(sched_getaffinity(THIS).unwrap(), only);
        drop(cores);
        assert_eq!(sched_getaffinity(THIS).unwrap(), before);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = thread_time();
        while thread_time() == before {
            std::hint::spin_loop();
        }
        assert!(thread_time() > before);
    }
}
