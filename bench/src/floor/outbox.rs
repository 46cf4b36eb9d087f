//! Messages to the peers, many with one system call.

use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt::UdpGsoSegment,
};

use super::work::Sample;

/// Messages of one system call.
pub const MESSAGES_MAX: usize = 64;

/// Where the peers are, in a form that a system call takes.
pub struct Names(Vec<SockaddrIn>);

impl Names {
    /// Takes the addresses in the order of the peers.
    pub fn new(addresses: &[SocketAddrV4]) -> Self {
        Self(addresses.iter().map(|&address| SockaddrIn::from(address)).collect())
    }

    /// Peers.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A socket with what its system calls need, made once, and the messages that wait for the next of them.
pub struct Outbox<'a> {
    socket: &'a UdpSocket,
    names: &'a Names,
    headers: MultiHeaders<SockaddrIn>,
    /// Of the messages that wait: to whom, and where in the bytes they end.
    to: Vec<Option<SockaddrIn>>,
    ends: Vec<usize>,
}

impl<'a> Outbox<'a> {
    pub fn new(socket: &'a UdpSocket, names: &'a Names) -> Self {
        Self {
            socket,
            names,
            headers: MultiHeaders::preallocate(MESSAGES_MAX, None),
            to: Vec::with_capacity(MESSAGES_MAX),
            ends: Vec::with_capacity(MESSAGES_MAX),
        }
    }

    /// Adds a message to a peer; its bytes follow those of the one before. At most [`MESSAGES_MAX`] may wait.
    pub fn add(&mut self, peer: usize, bytes: usize) {
        debug_assert!(self.to.len() < MESSAGES_MAX, "what waits goes out with one call");
        self.to.push(Some(self.names.0[peer]));
        self.ends.push(self.bytes() + bytes);
    }

    /// Bytes of all messages that wait.
    pub fn bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Sends all that waits. `bytes` begin with those of the messages.
    ///
    /// Messages that the kernel refused, and why, are counted in `sample`; the others are sent all the same.
    pub fn send(&mut self, bytes: &[u8], sample: &mut Sample) {
        let count = self.to.len();
        let mut slices = [[IoSlice::new(&[])]; MESSAGES_MAX];
        let mut start = 0;
        for (slice, &end) in slices.iter_mut().zip(&self.ends) {
            *slice = [IoSlice::new(&bytes[start..end])];
            start = end;
        }
        let fd = self.socket.as_raw_fd();
        let mut done = 0;
        while done < count {
            let (slices, names) = (&slices[done..count], &self.to[done..]);
            let sent = sendmmsg(fd, &mut self.headers, slices, names, [], MsgFlags::empty());
            // The results are counted and not looked at: of a send they hold no address.
            match sent.map(Iterator::count) {
                // It stops at what is refused, and tells why only when that is the first message.
                Ok(sent) if sent > 0 => done += sent,
                Ok(_) => sample.refuse(&mut done, io::ErrorKind::WriteZero.into()),
                Err(error) => sample.refuse(&mut done, error.into()),
            }
        }
        self.to.clear();
        self.ends.clear();
    }
}

/// Lets the kernel cut what `socket` sends into segments of so many bytes; 0 sends each message whole.
///
/// # Errors
/// The kernel is older than UDP_SEGMENT (4.18).
pub fn split_by(socket: &UdpSocket, segment_bytes: u32) -> Result<(), String> {
    setsockopt(socket, UdpGsoSegment, &(segment_bytes as i32))
        .map_err(|e| format!("setting UDP_SEGMENT: {e}"))
}
