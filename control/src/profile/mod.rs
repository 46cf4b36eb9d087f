//! A CPU profile of this process: where its threads are, some hundred times a second of their time.
//!
//! `events` has the kernel write down each thread's stack by a clock that runs while the thread does, and collects what it wrote;
//! `stacks` counts equal ones; afterwards `symbols` gives the addresses names, kernel functions by way of `kernel`, and `folded`
//! writes the text that flame graphs are made of. The threads that are looked at get no signal and are not stopped: each sample costs
//! them an interrupt and the walk along their frame pointers, which `.cargo/config.toml` has the compiler keep.

mod events;
mod folded;
mod kernel;
mod maps;
mod stacks;
mod symbols;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use sluice_engine::clock;
use tokio::sync::{Semaphore, oneshot};

use events::Events;
use stacks::Stacks;

/// The longest profile, seconds.
pub const SECONDS_MAX: u64 = 120;

/// The most samples of a second of a thread's time. Each costs the thread some microseconds.
pub const FREQUENCY_MAX: u64 = 999;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How long to look.
    pub duration: Duration,
    /// Samples for each second that a thread runs, from 1 to [`FREQUENCY_MAX`].
    pub frequency: u64,
}

impl Plan {
    /// How often the kernel's buffers are emptied: after 20 samples of a busy thread, and at least four times a second.
    fn interval(&self) -> Duration {
        Duration::from_micros(20_000_000 / self.frequency.max(1)).min(Duration::from_millis(250))
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// One line for each stack: the thread's name, the functions from the outermost in, each after a semicolon, then a blank and the
    /// number of samples. Kernel functions end with `_[k]`. The most frequent stack comes first.
    pub folded: String,
    /// Samples in `folded`.
    pub samples: u64,
    /// Samples for which the kernel had no room.
    pub lost: u64,
    /// Samples for which we had none.
    pub not_kept: u64,
    /// Threads that were looked at.
    pub threads: usize,
    /// Threads beyond the 512 that are looked at, and those for which the process had no file left to open.
    pub threads_left_out: usize,
    /// Whether time in the kernel was looked at.
    pub with_kernel: bool,
}

/// Why there is no profile.
#[derive(Debug)]
pub enum ProfileError {
    /// Another one is being made.
    Busy,
    /// The kernel does not let us; the text says what would.
    Refused(String),
    /// Whoever asked has gone.
    Abandoned,
    /// The thread that makes it could not be started, or ended without a word.
    Failed(String),
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another profile is being recorded; there is one at a time"),
            Self::Refused(text) | Self::Failed(text) => f.write_str(text),
            Self::Abandoned => f.write_str("nobody waits for the profile any longer"),
        }
    }
}

impl std::error::Error for ProfileError {}

/// Makes profiles, one at a time.
#[derive(Clone, Debug)]
pub struct Profiler {
    /// One permit. The thread that makes a profile holds it to its own end, which comes after that of a request that was given up.
    free: Arc<Semaphore>,
}

impl Default for Profiler {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(1)) }
    }
}

impl Profiler {
    /// Whether one is being made.
    pub fn is_busy(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Makes a profile, on a thread of its own. When the future is dropped, the recording ends within a quarter of a second.
    ///
    /// # Errors
    /// Every [`ProfileError`] but `Abandoned`.
    pub async fn record(&self, plan: Plan) -> Result<Profile, ProfileError> {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            return Err(ProfileError::Busy);
        };
        // Lives as long as this future: its end is how the thread learns that nobody waits.
        let (_waiting, gone) = mpsc::channel();
        let (sender, receiver) = oneshot::channel();
        let thread = std::thread::Builder::new().name("profiler".to_owned());
        let spawned = thread.spawn(move || {
            let result = record(plan, &gone);
            drop(permit);
            let _ = sender.send(result);
        });
        spawned
            .map_err(|error| ProfileError::Failed(format!("no thread to record on: {error}")))?;
        let ended = || ProfileError::Failed("the recording ended without a result".to_owned());
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Blocks until the profile is made, or until the other end of `gone` is dropped.
fn record(plan: Plan, gone: &Receiver<()>) -> Result<Profile, ProfileError> {
    let mut events = Events::start(plan.frequency).map_err(ProfileError::Refused)?;
    let mut stacks = Stacks::default();
    let end = clock::now() + plan.duration;
    loop {
        let left = end.since(clock::now());
        match gone.recv_timeout(plan.interval().min(left)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Err(ProfileError::Abandoned),
        }
        events.drain(&mut stacks);
        if left.is_zero() {
            break;
        }
        events.follow_threads();
    }
    let (lost, threads) = (events.lost(), events.threads());
    let (threads_left_out, with_kernel) = (events.threads_left_out(), events.with_kernel());
    // Before the names are looked up, which is work that nobody asked about.
    drop(events);
    let written = folded::write(&stacks, || gone.try_recv() == Err(mpsc::TryRecvError::Empty));
    let Some((folded, samples)) = written else { return Err(ProfileError::Abandoned) };
    let not_kept = stacks.samples() + stacks.not_kept() - samples;
    Ok(Profile { folded, samples, lost, not_kept, threads, threads_left_out, with_kernel })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seconds: u64) -> Plan {
        Plan { duration: Duration::from_secs(seconds), frequency: 199 }
    }

    #[test]
    fn buffers_are_emptied_often_enough_for_every_frequency() {
        for (frequency, milliseconds) in [(1, 250), (199, 100), (999, 20)] {
            let interval = Plan { frequency, ..plan(1) }.interval();
            assert_eq!(interval.as_millis(), milliseconds, "{frequency}");
        }
    }

    #[tokio::test]
    async fn while_one_is_made_another_is_refused() {
        let profiler = Profiler::default();
        assert!(!profiler.is_busy());
        let _made = profiler.free.try_acquire();
        assert!(profiler.is_busy());
        let refused = profiler.record(plan(1)).await;
        assert!(matches!(refused, Err(ProfileError::Busy)), "{refused:?}");
    }
}
