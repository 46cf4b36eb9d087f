//! Wakes a sleeping shard through an eventfd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use super::Wake;

/// The shard runs: it looks at its queues before it sleeps, nobody needs to wake it.
const AWAKE: u8 = 0;
/// The shard sleeps, or is about to: waking it takes a write.
const ASLEEP: u8 = 1;
/// Somebody woke the shard since it last slept.
const NOTIFIED: u8 = 2;

/// Wakes one shard. Costs a system call only when the shard sleeps and nobody else woke it.
pub struct EventWake {
    event: OwnedFd,
    state: AtomicU8,
}

impl EventWake {
    /// Makes the waker of a back-end.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { event, state: AtomicU8::new(AWAKE) })
    }

    /// The descriptor that becomes readable.
    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Announces sleep; false when somebody woke the shard meanwhile, so that it must look at its queues instead.
    pub(super) fn may_sleep(&self) -> bool {
        let slept = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if slept.is_err() {
            self.woke();
        }
        slept.is_ok()
    }

    /// Ends sleep. What a waker wrote before it woke us is visible from here on.
    pub(super) fn woke(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Takes back the readiness of the descriptor.
    pub(super) fn drain(&self) {
        let mut count = 0_u64;
        // SAFETY: the buffer is eight writable bytes, as eventfd wants. Being already empty is no error for us.
        unsafe {
            libc::read(self.fd(), (&raw mut count).cast(), size_of::<u64>());
        }
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            let one = 1_u64;
            // SAFETY: the buffer is eight readable bytes. The count cannot overflow: each sleep allows one write.
            unsafe {
                libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(wake: &EventWake) -> bool {
        let mut poll = libc::pollfd { fd: wake.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    fn a_wake_before_sleep_forbids_it_once() {
        let wake = EventWake::new().unwrap();
        wake.wake();
        assert!(!is_readable(&wake), "nobody sleeps, so nothing is written");
        assert!(!wake.may_sleep());
        assert!(wake.may_sleep());
    }

    #[test]
    fn a_sleeper_is_woken_by_the_first_of_many() {
        let wake = EventWake::new().unwrap();
        assert!(wake.may_sleep());
        wake.wake();
        wake.wake();
        assert!(is_readable(&wake));
        wake.woke();
        wake.drain();
        assert!(!is_readable(&wake));
        assert!(wake.may_sleep(), "both wakes were one");
    }
}
