//! Time and cores of threads.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use nix::unistd::Pid;

/// CPU time that the calling thread has used.
pub fn thread_time() -> Duration {
    // It fails for clocks alone that a kernel does not have, and all have this one; then every difference is zero.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// The monotonic clock, which [`sleep_until`] sleeps by.
pub fn monotonic() -> Duration {
    // As above, it does not fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Sleeps until the monotonic clock shows `at`, or a signal comes.
pub fn sleep_until(at: Duration) {
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    // Whoever sleeps looks at the clock again.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &TimeSpec::from_duration(at));
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

/// The one core that a process may run on; nothing when there are several, or they may not be looked up.
pub fn only_core(pid: u32) -> Option<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(pid as i32)).ok()?;
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    let core = cores.next()?;
    cores.next().is_none().then_some(core)
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
        let mut only = CpuSet::new();
        let mut others = before;
        // A core outside of those that this program was started on is good as well: it may be the server's.
        if only.set(core).and_then(|()| sched_setaffinity(THIS, &only)).is_err() {
            return Err(format!("core {core} is not one that this program may use"));
        }
        // It is one of a set.
        let _ = others.unset(core);
        let is_alone = (0..CpuSet::count()).all(|c| !others.is_set(c).unwrap_or(false));
        Ok(Self { before: Some(before), others: (!is_alone).then_some(others) })
    }

    /// Whether readers can be on another core than the sender.
    pub fn can_be_apart(&self) -> bool {
        if self.before.is_some() {
            return self.others.is_some();
        }
        let allowed = sched_getaffinity(THIS).unwrap_or_default();
        (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).count() > 1
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
