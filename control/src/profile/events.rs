//! The kernel's side: an event for each thread of the process, and the buffers into which its samples are written.
//!
//! A buffer belongs to one thread, since the kernel shares none between threads that may change their CPU. The clock of each event runs
//! only while its thread does, so an idle thread costs nothing and is not in the profile.
//!
//! Source: perf_event_open(2).

use std::collections::{HashMap, HashSet};
use std::io;

use perf_event::data::Record;
use perf_event::events::Software;
use perf_event::{Builder, SampleFlag, Sampler};

use super::stacks::Stacks;

/// Threads that are looked at. Each costs an open file and [`BUFFER_BYTES`].
pub(super) const THREADS_MAX: usize = 512;

/// Room for the samples of a thread: 116 of the deepest stacks (127 addresses by default, and the marks between them), where 20 come
/// between two looks.
const BUFFER_BYTES: usize = 128 * 1024;

/// A thread that is looked at.
struct Thread {
    name: String,
    sampler: Sampler,
}

/// Everything that is being recorded.
pub(super) struct Events {
    frequency: u64,
    with_kernel: bool,
    threads: HashMap<i32, Thread>,
    /// Those that could not be looked at.
    left_out: HashSet<i32>,
    /// Threads that were looked at, ended ones included.
    looked_at: usize,
    lost: u64,
}

impl Events {
    /// Begins to record every thread of this process, in the kernel too where that is allowed.
    ///
    /// # Errors
    /// For the operator: what does not allow it, and what would.
    pub(super) fn start(frequency: u64) -> Result<Self, String> {
        let (own, mut with_kernel) = (0, true);
        let mut first = open(own, frequency, with_kernel);
        if first.as_ref().is_err_and(Refusal::is_of_permission) {
            with_kernel = false;
            first = open(own, frequency, with_kernel);
        }
        first.map_err(|refusal| refusal.text(frequency))?;
        let mut events = Self {
            frequency,
            with_kernel,
            threads: HashMap::new(),
            left_out: HashSet::new(),
            looked_at: 0,
            lost: 0,
        };
        match (events.follow_threads(), events.threads.is_empty()) {
            (_, false) => Ok(events),
            (Some(refusal), true) => Err(refusal.text(frequency)),
            (None, true) => Err(
                "the threads of this process are not to be found: /proc/self/task cannot be read"
                    .to_owned(),
            ),
        }
    }

    /// Begins with threads that were born, and lets go of those that ended; their samples must have been taken before. Returns why the
    /// last of those that are left out is.
    pub(super) fn follow_threads(&mut self) -> Option<Refusal> {
        // Without an open file to spare they are not to be found, and nothing changes.
        let alive = alive()?;
        self.threads.retain(|id, _| alive.contains(id));
        let mut last = None;
        for id in alive {
            if self.threads.contains_key(&id) || self.left_out.contains(&id) {
                continue;
            }
            let name = name_of(id);
            let opened = match self.threads.len() < THREADS_MAX {
                true => open(id, self.frequency, self.with_kernel),
                false => Err(Refusal::TooMany),
            };
            match opened {
                Ok(sampler) => {
                    self.looked_at += 1;
                    self.threads.insert(id, Thread { name, sampler });
                }
                Err(refusal) if refusal.is_end_of_thread() => {}
                Err(refusal) => {
                    self.left_out.insert(id);
                    last = Some(refusal);
                }
            }
        }
        last
    }

    /// Takes what the kernel has written since the last time.
    pub(super) fn drain(&mut self, stacks: &mut Stacks) {
        for thread in self.threads.values_mut() {
            while let Some(record) = thread.sampler.next_record() {
                match record.parse_record() {
                    Ok(Record::Sample(sample)) => {
                        stacks.add(&thread.name, sample.callchain().unwrap_or(&[]));
                    }
                    Ok(Record::Lost(lost)) => self.lost += lost.lost,
                    // Nothing else was asked for but word of throttling, which shows in the number of samples.
                    _ => {}
                }
            }
        }
    }

    /// Samples for which the kernel found no room in a buffer.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Threads that were looked at.
    pub(super) fn threads(&self) -> usize {
        self.looked_at
    }

    /// Threads that could not be looked at.
    pub(super) fn threads_left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Whether time in the kernel is recorded.
    pub(super) fn with_kernel(&self) -> bool {
        self.with_kernel
    }
}

/// Every thread of this process; `None` when that cannot be read.
fn alive() -> Option<HashSet<i32>> {
    let entries = std::fs::read_dir("/proc/self/task").ok()?;
    Some(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn name_of(id: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm"));
    match name.as_deref().map(str::trim) {
        Ok(name) if !name.is_empty() => name.to_owned(),
        _ => format!("thread {id}"),
    }
}

/// Begins to record a thread; 0 is the one that calls.
fn open(id: i32, frequency: u64, with_kernel: bool) -> Result<Sampler, Refusal> {
    let mut builder = Builder::new(Software::CPU_CLOCK);
    builder.observe_pid(id).any_cpu().sample_frequency(frequency).sample(SampleFlag::CALLCHAIN);
    if with_kernel {
        builder.include_kernel();
    }
    let counter = builder.build().map_err(Refusal::Event)?;
    let mut sampler = counter.sampled(BUFFER_BYTES).map_err(Refusal::Buffer)?;
    sampler.enable().map_err(Refusal::Event)?;
    Ok(sampler)
}

/// Why a thread is not looked at.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By perf_event_open.
    Event(io::Error),
    /// By mmap.
    Buffer(io::Error),
    /// There are [`THREADS_MAX`] already.
    TooMany,
}

impl Refusal {
    fn is_of_permission(&self) -> bool {
        matches!(self, Self::Event(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    fn is_end_of_thread(&self) -> bool {
        matches!(self, Self::Event(error) if error.raw_os_error() == Some(libc::ESRCH))
    }

    /// What an operator can do about it.
    fn text(&self, frequency: u64) -> String {
        let setting = |name: &str| {
            let value = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
            value.map_or_else(|_| "not to be read".to_owned(), |value| value.trim().to_owned())
        };
        match self {
            Self::Event(error) if error.kind() == io::ErrorKind::PermissionDenied => format!(
                "the kernel does not let this process sample its threads (perf_event_open: {error}). What it takes: the sysctl \
                 kernel.perf_event_paranoid at 2 or lower (it is {}) or the capability CAP_PERFMON, and in a container a seccomp profile \
                 that lets perf_event_open through",
                setting("perf_event_paranoid")
            ),
            Self::Event(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => format!(
                    "a file has to be open for each thread, and there are too many already (perf_event_open: {error}): raise the limit of \
                     open files, LimitNOFILE in systemd"
                ),
                Some(libc::EINVAL) => format!(
                    "the kernel does not sample {frequency} times a second (perf_event_open: {error}): ask for less, or raise the sysctl \
                     kernel.perf_event_max_sample_rate (it is {})",
                    setting("perf_event_max_sample_rate")
                ),
                Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP) => {
                    format!(
                        "this kernel is built without what samples threads (perf_event_open: {error})"
                    )
                }
                _ => format!("the kernel does not sample this process (perf_event_open: {error})"),
            },
            Self::Buffer(error) => format!(
                "the kernel gives no memory for samples (mmap: {error}), {} KiB for each thread. What it takes: a higher sysctl \
                 kernel.perf_event_mlock_kb (it is {}), a higher limit of locked memory (LimitMEMLOCK in systemd), or the capability \
                 CAP_IPC_LOCK",
                BUFFER_BYTES / 1024,
                setting("perf_event_mlock_kb")
            ),
            Self::TooMany => format!("the process has more than {THREADS_MAX} threads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_would_let_us() {
        let event = |code| Refusal::Event(io::Error::from_raw_os_error(code)).text(199);
        for code in [libc::EACCES, libc::EPERM] {
            for part in ["kernel.perf_event_paranoid", "CAP_PERFMON", "seccomp"] {
                assert!(event(code).contains(part), "{part} in {}", event(code));
            }
        }
        assert!(event(libc::EMFILE).contains("LimitNOFILE"));
        assert!(event(libc::EINVAL).contains("perf_event_max_sample_rate"));
        assert!(event(libc::ENOSYS).contains("built without"));
        let buffer = Refusal::Buffer(io::Error::from_raw_os_error(libc::EPERM));
        assert!(buffer.text(199).contains("perf_event_mlock_kb"));
        assert!(!buffer.is_of_permission(), "sampling less would not help");
    }

    #[test]
    fn threads_of_this_process_are_found_with_their_names() {
        let (tell, told) = std::sync::mpsc::channel();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("of-a-test".to_owned()).spawn(move || {
            let _ = tell.send(());
            let _ = held.recv();
        });
        told.recv().unwrap();
        assert!(alive().unwrap().into_iter().any(|id| name_of(id) == "of-a-test"));
        drop(hold);
        thread.unwrap().join().unwrap();
        assert_eq!(name_of(i32::MAX), format!("thread {}", i32::MAX));
    }
}
