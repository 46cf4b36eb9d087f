//! Finds out which back-end works here.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use super::socket::ShardSockets;
use super::uring::Uring;
use super::{Network, Window};
use crate::clock;
use crate::config::BackendChoice;

/// What moves datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// epoll with recvmmsg and sendmmsg.
    Mmsg,
}

impl Backend {
    /// Bytes that a shard's receive slots take under this back-end.
    pub fn receive_bytes(self) -> usize {
        match self {
            Self::Uring => super::uring::RECEIVE_BYTES,
            Self::Mmsg => super::mmsg::RECEIVE_BYTES,
        }
    }

    /// The name as in configuration, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// Time in which a datagram must come back over loopback.
const PATIENCE: Duration = Duration::from_secs(2);

/// Decides on a back-end by receiving a datagram through io_uring; with it comes why `Auto` did not take `uring`.
///
/// # Errors
/// `Uring` was asked for and does not work here: what failed, and what to try.
pub fn probe(choice: BackendChoice) -> Result<(Backend, Option<String>), String> {
    if choice == BackendChoice::Mmsg {
        return Ok((Backend::Mmsg, None));
    }
    match (try_uring(), choice) {
        (Ok(()), _) => Ok((Backend::Uring, None)),
        (Err(error), BackendChoice::Uring) => Err(explain(&error)),
        (Err(error), _) => Ok((Backend::Mmsg, Some(explain(&error)))),
    }
}

/// Makes a ring with a buffer ring and receives datagrams by multishot on a real socket.
fn try_uring() -> io::Result<()> {
    let (socket, peer) = loopback_pair("127.0.0.1:0").or_else(|_| loopback_pair("[::1]:0"))?;
    let address = socket.local_addr()?;
    let sockets = ShardSockets { udp: vec![socket], tcp: Vec::new() };
    let (mut network, _wake) = Uring::new(sockets)?;
    for datagram in [b"one", b"two"] {
        peer.send_to(datagram, address)?;
        let start = clock::now();
        while network.receive(1) == 0 {
            if clock::now().since(start) > PATIENCE {
                return Err(io::Error::other("a multishot receive did not complete"));
            }
            network.wait(Some(Duration::from_millis(50)), Window::NONE);
        }
        let came = network.next_datagram().is_some_and(|(_, bytes)| bytes == datagram);
        if !came || !network.is_receiving() {
            return Err(io::Error::other("a multishot receive does not work"));
        }
    }
    Ok(())
}

fn loopback_pair(address: &str) -> io::Result<(UdpSocket, UdpSocket)> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok((socket, UdpSocket::bind(address)?))
}

fn explain(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let disabled = disabled.as_deref().map_or("0", str::trim);
    format!("io_uring does not work here: {error}{}", hint(error.raw_os_error(), disabled))
}

/// What to try after an error, given the content of `kernel.io_uring_disabled`.
fn hint(errno: Option<i32>, disabled: &str) -> &'static str {
    match (errno, disabled) {
        (Some(libc::EPERM | libc::EACCES), "2") => {
            "; it is switched off for all: sysctl kernel.io_uring_disabled=0 allows it"
        }
        (Some(libc::EPERM | libc::EACCES), "1") => {
            "; it is kept for privileged processes: sysctl kernel.io_uring_disabled=0 allows it, \
             or put this user's group into kernel.io_uring_group"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "; a seccomp filter or security module forbids it, as containers do by default: \
             allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
        }
        (Some(libc::ENOSYS), _) => "; the kernel is built without it, or a seccomp filter hides it",
        (Some(libc::EINVAL), _) => "; kernel 6.0 or newer is needed",
        (Some(libc::ENOMEM), _) => "; raise the limit of locked memory (ulimit -l)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmsg_needs_no_probe_and_auto_gives_a_reason_for_it() {
        assert_eq!(probe(BackendChoice::Mmsg), Ok((Backend::Mmsg, None)));
        let (backend, reason) = probe(BackendChoice::Auto).unwrap();
        assert_eq!(backend == Backend::Mmsg, reason.is_some());
        assert_eq!(probe(BackendChoice::Uring).is_ok(), backend == Backend::Uring);
    }

    #[test]
    fn refusals_come_with_what_to_try() {
        assert!(hint(Some(libc::EPERM), "2").contains("io_uring_disabled=0"));
        assert!(hint(Some(libc::EPERM), "1").contains("io_uring_group"));
        assert!(hint(Some(libc::EPERM), "0").contains("seccomp"));
        assert!(hint(Some(libc::EINVAL), "0").contains("6.0"));
        let error = io::Error::from_raw_os_error(libc::ENOSYS);
        assert!(explain(&error).contains("does not work here"));
    }
}
