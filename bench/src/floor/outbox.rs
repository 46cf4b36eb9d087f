//! Messages to the peers, many with one system call.

use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

use super::work::Sample;

/// Messages of one system call.
pub const MESSAGES_MAX: usize = 64;

/// Where the peers are, in a form that a system call takes.
pub struct Names {
    /// Once round, and on from the beginning for as many as a call takes, so that those of a call always stand side by side.
    names: Vec<Option<SockaddrIn>>,
    peers: usize,
}

impl Names {
    /// Takes at least one address, and in the order of the peers.
    pub fn new(addresses: &[SocketAddrV4]) -> Self {
        let names = addresses.iter().map(|&address| Some(SockaddrIn::from(address)));
        let names = names.cycle().take(addresses.len() + MESSAGES_MAX).collect();
        Self { names, peers: addresses.len() }
    }

    /// Peers.
    pub fn len(&self) -> usize {
        self.peers
    }

    fn slice(&self, first: usize, count: usize) -> &[Option<SockaddrIn>] {
        &self.names[first..first + count]
    }
}

/// A socket with what its system calls need, made once.
pub struct Outbox<'a> {
    socket: &'a UdpSocket,
    names: &'a Names,
    headers: MultiHeaders<SockaddrIn>,
}

impl<'a> Outbox<'a> {
    pub fn new(socket: &'a UdpSocket, names: &'a Names) -> Self {
        Self { socket, names, headers: MultiHeaders::preallocate(MESSAGES_MAX, None) }
    }

    /// Sends `bytes`, cut into at most [`MESSAGES_MAX`] messages of `message_bytes`, to the peers from `first` on.
    ///
    /// Messages that the kernel refused, and why, are counted in `sample`; the others are sent all the same.
    pub fn send(&mut self, first: usize, bytes: &[u8], message_bytes: usize, sample: &mut Sample) {
        let count = bytes.len() / message_bytes;
        let message = |at: usize| bytes.get(at * message_bytes..(at + 1) * message_bytes);
        let slices: [_; MESSAGES_MAX] =
            std::array::from_fn(|at| [IoSlice::new(message(at).unwrap_or_default())]);
        let names = self.names.slice(first, count);
        let fd = self.socket.as_raw_fd();
        let mut done = 0;
        while done < count {
            let (slices, names) = (&slices[done..count], &names[done..]);
            let sent = sendmmsg(fd, &mut self.headers, slices, names, [], MsgFlags::empty());
            // The results are counted and not looked at: of a send they hold no address.
            match sent.map(Iterator::count) {
                // It stops at what is refused, and tells why only when that is the first message.
                Ok(sent) if sent > 0 => done += sent,
                Ok(_) => sample.refuse(&mut done, io::ErrorKind::WriteZero.into()),
                Err(error) => sample.refuse(&mut done, error.into()),
            }
        }
    }
}
