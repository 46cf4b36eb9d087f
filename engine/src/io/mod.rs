//! How datagrams reach the kernel: one trait, two back-ends.
//!
//! [`socket::bind_all`] binds for all shards, [`probe::probe`] says which back-end works here, and each shard makes its own
//! [`uring::Uring`] or [`mmsg::Mmsg`] on its own thread. Sending, TCP and waking are shared by both.

#![allow(unsafe_code, reason = "system calls; each block says why it is sound")]

mod address;
mod gso;
mod message;
pub mod mmsg;
mod path;
pub mod pin;
mod poller;
pub mod probe;
pub mod socket;
pub mod tcp;
pub mod uring;
pub mod wake;

use std::io;
use std::time::Duration;

use crate::clock::NtpTime;
use crate::egress::Egress;
use crate::route::{PathId, Route};

/// What a shard asks of the network. Nothing here blocks but [`Network::wait`].
pub trait Network {
    /// Takes up to `budget` datagrams that have arrived, for [`Network::next_datagram`] to hand out; returns how many wait.
    ///
    /// Must be called with the last batch handed out.
    fn receive(&mut self, budget: usize) -> usize;

    /// The next datagram of the batch, whole and mutable. Its bytes are the back-end's and live until the next call.
    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])>;

    /// When the kernel took the datagram that is handed out next from the network, by the host's wall clock. Only for sockets that
    /// ask for it (SO_TIMESTAMPNS), as measuring programs do; nothing for a frame of a TCP connection.
    fn next_arrival(&self) -> Option<NtpTime> {
        None
    }

    /// A route whose TCP connection ended without our doing, once for each that had delivered a frame.
    ///
    /// Called after a batch was handed out, until it gives `None`: a connection keeps its place until its end was told.
    fn next_closed(&mut self) -> Option<Route> {
        None
    }

    /// What happened to TCP connections so far.
    fn tcp_counters(&self) -> tcp::TcpCounters {
        tcp::TcpCounters::default()
    }

    /// Datagrams that the kernel had no room for in the receive buffers so far. Asks the kernel.
    fn receive_drops(&self) -> u64 {
        0
    }

    /// Resolves a destination once. The handle stays good until [`Network::close_path`]; opening a route twice gives two handles.
    fn open_path(&mut self, route: Route) -> PathId;

    /// Forgets a destination after the next flush, which still sends what was written for it.
    /// Closing the last path of a TCP connection closes the connection.
    fn close_path(&mut self, path: PathId);

    /// Sends all that `egress` holds and empties it. What the kernel took is counted in `egress.sent`, the rest in `egress.drops`.
    fn flush(&mut self, egress: &mut Egress);

    /// Sleeps until a datagram may be there, the waker was used, or `timeout` passed; `None` waits without end. With a `window`
    /// it sleeps on for that long, whatever comes or is due meanwhile. May return early.
    fn wait(&mut self, timeout: Option<Duration>, window: Window);

    /// Takes a TCP connection out of this back-end, with what it has read and not handed out, so that another shard can own it.
    ///
    /// Paths that are open on it stay to be closed, and send nothing.
    fn release_stream(&mut self, route: Route) -> Option<Stream>;

    /// Takes over a TCP connection from another shard; returns the route under which its datagrams arrive.
    ///
    /// # Errors
    /// The shard has as many connections as it may, or the kernel refused to watch the connection: it is closed.
    fn adopt_stream(&mut self, stream: Stream) -> io::Result<Route>;
}

/// How long a wait lets datagrams lie for others to join them, so that one turn serves them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// From the beginning of the wait, for what was there before it or comes in this time.
    pub rest: Duration,
    /// From the first datagram's arrival, when none came within `rest`.
    pub whole: Duration,
}

impl Window {
    /// The first arrival ends the wait.
    pub const NONE: Self = Self { rest: Duration::ZERO, whole: Duration::ZERO };
}

/// A TCP connection between two owners.
#[derive(Debug)]
pub struct Stream {
    /// The connection.
    pub socket: std::net::TcpStream,
    /// Which of our addresses it was accepted on.
    pub local: u16,
    /// The peer.
    pub remote: std::net::SocketAddr,
    /// Bytes read and not yet handed out as frames.
    pub unread: Vec<u8>,
    /// Framed bytes that the peer's window had no room for; may begin within a frame.
    pub unsent: Vec<u8>,
}

/// Wakes a shard out of [`Network::wait`] from another thread.
pub trait Wake: Send + Sync {
    /// Wakes it, now or at its next wait.
    fn wake(&self);
}
