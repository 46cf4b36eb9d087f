//! An epoll instance.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Watches descriptors, level-triggered; each is known by a token.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

/// The events of one poll.
pub(super) type Events<const N: usize> = [libc::epoll_event; N];

/// Room for `N` events.
pub(super) const fn no_events<const N: usize>() -> Events<N> {
    [libc::epoll_event { events: 0, u64: 0 }; N]
}

/// Readable, or ended.
pub(super) const READ: u32 = libc::EPOLLIN as u32;
/// Writable.
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        Ok(Self { epoll: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The instance itself; readable when a watched descriptor is ready.
    pub(super) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(super) fn add(&self, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub(super) fn change(&self, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    pub(super) fn remove(&self, fd: RawFd) {
        // Fails only for a descriptor that is not watched, which is what the caller wants.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: the event is valid for the call, the kernel copies it.
        match unsafe { libc::epoll_ctl(self.fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for events; `None` waits without end. A signal ends the wait with no event.
    pub(super) fn wait<'a, const N: usize>(
        &self,
        events: &'a mut Events<N>,
        timeout: Option<Duration>,
    ) -> &'a [libc::epoll_event] {
        let limit = timeout.map(timespec);
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: room for N events is writable; the timeout is null or valid for the call; a null signal mask is allowed.
        let count = unsafe {
            let room = events.as_mut_ptr();
            libc::syscall(libc::SYS_epoll_pwait2, self.fd(), room, N, limit, 0_usize, 0_usize)
        };
        match usize::try_from(count) {
            Ok(count) => &events[..count],
            // Some container filters answer EPERM for calls that they do not know.
            Err(_) if is_missing(&io::Error::last_os_error()) => {
                self.wait_in_milliseconds(events, timeout)
            }
            Err(_) => &[],
        }
    }

    /// As [`Poller::wait`], for kernels before 5.11.
    fn wait_in_milliseconds<'a, const N: usize>(
        &self,
        events: &'a mut Events<N>,
        timeout: Option<Duration>,
    ) -> &'a [libc::epoll_event] {
        // Rounded up: a timeout that ends early makes the shard spin until its deadline.
        let limit = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: room for N events is writable.
        let count = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), N as i32, limit) };
        &events[..usize::try_from(count).unwrap_or(0)]
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos() as _,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn old_kernels_round_the_timeout_up() {
        let poller = Poller::new().unwrap();
        let start = clock::now();
        let mut events = no_events::<4>();
        let timeout = Some(Duration::from_micros(1_200));
        assert!(poller.wait_in_milliseconds(&mut events, timeout).is_empty());
        assert!(clock::now().since(start) >= Duration::from_micros(1_200));
    }
}
