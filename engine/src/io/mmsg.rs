//! The back-end of epoll, recvmmsg and sendmmsg, for kernels and containers that refuse io_uring.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::address::RawAddress;
use super::gso::Sender;
use super::message::{ControlRoom, MESSAGE_BYTES_MAX, Message, read_control};
use super::path::{PathTable, Target};
use super::poller::{Poller, READ, no_events};
use super::socket::{ShardSockets, receive_drops};
use super::tcp::{Tcp, TcpCounters, TcpLimits};
use super::wake::EventWake;
use super::{Network, Stream, Window};
use crate::clock::{self, NtpTime};
use crate::egress::Egress;
use crate::route::{PathId, Route, Transport};

/// One shard's sockets behind epoll. Made and used on the shard's thread.
pub struct Mmsg {
    sockets: Vec<UdpSocket>,
    /// Which sockets may have datagrams: set by a poll, cleared by a read that came back short.
    readable: Vec<bool>,
    /// Which socket is read first next time, so that a busy one starves no other.
    first: usize,
    polled: bool,
    poller: Poller,
    wake: Arc<EventWake>,
    inbox: Inbox,
    /// Datagrams that the shard may still take of this batch.
    allowed: usize,
    paths: PathTable,
    sender: Sender,
    tcp: Tcp,
    tcp_ready: bool,
}

/// Received messages and their memory.
struct Inbox {
    memory: Box<[u8]>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<ControlRoom>,
    messages: Vec<Message>,
    /// Index of the message that is handed out.
    at: usize,
    /// Datagrams not handed out.
    waiting: usize,
    /// Slots of memory that this batch has filled.
    filled: usize,
}

/// Messages per batch: 4 MiB of memory, of which pages are used once a message reaches them.
const MESSAGES_MAX: usize = 64;

/// Distance of two messages in memory. Three cache lines more than a power of two, lest the heads of all share one cache set.
const STRIDE: usize = MESSAGE_BYTES_MAX + 192;

/// Bytes of receive memory per shard.
pub(super) const RECEIVE_BYTES: usize = MESSAGES_MAX * STRIDE;

const TOKEN_WAKE: u64 = u64::MAX;
const TOKEN_TCP: u64 = u64::MAX - 1;

impl Mmsg {
    /// Takes over a shard's sockets; returns the back-end and what wakes it.
    ///
    /// # Errors
    /// The kernel refused an epoll instance or an eventfd, mostly for want of descriptors.
    pub fn new(sockets: ShardSockets) -> io::Result<(Self, Arc<EventWake>)> {
        Self::with_limits(sockets, TcpLimits::default())
    }

    /// As [`Mmsg::new`], with bounds on TCP.
    ///
    /// # Errors
    /// As [`Mmsg::new`].
    pub fn with_limits(
        sockets: ShardSockets,
        limits: TcpLimits,
    ) -> io::Result<(Self, Arc<EventWake>)> {
        let poller = Poller::new()?;
        let tcp = Tcp::new(sockets.tcp, limits)?;
        poller.add(tcp.fd(), TOKEN_TCP, READ)?;
        let wake = Arc::new(EventWake::new()?);
        poller.add(wake.fd(), TOKEN_WAKE, READ)?;
        for (token, socket) in sockets.udp.iter().enumerate() {
            poller.add(socket.as_raw_fd(), token as u64, READ)?;
        }
        let network = Self {
            readable: vec![false; sockets.udp.len()],
            first: 0,
            polled: false,
            poller,
            wake: Arc::clone(&wake),
            inbox: Inbox::new(),
            allowed: 0,
            paths: PathTable::default(),
            sender: Sender::new(sockets.udp.len()),
            sockets: sockets.udp,
            tcp,
            tcp_ready: false,
        };
        Ok((network, wake))
    }

    /// Asks epoll what is readable; says whether something is.
    fn poll(&mut self, timeout: Option<Duration>) -> bool {
        let mut events = no_events::<32>();
        let events = self.poller.wait(&mut events, timeout);
        for event in events {
            match event.u64 {
                TOKEN_WAKE => self.wake.drain(),
                TOKEN_TCP => self.tcp_ready = true,
                token => self.readable[token as usize] = true,
            }
        }
        !events.is_empty()
    }

    /// Sleeps as [`Network::wait`] with a window; says whether epoll was asked after that.
    fn collect(&mut self, timeout: Option<Duration>, window: Window) -> bool {
        let came = self.poll(Some(Duration::ZERO));
        if !window.rest.is_zero() {
            doze(window.rest);
            if came || self.poll(Some(Duration::ZERO)) {
                return !came;
            }
        } else if came {
            return true;
        }
        self.poll(timeout.map(|timeout| timeout.saturating_sub(window.rest)));
        let late = self.readable.contains(&true);
        if late {
            doze(window.whole);
        }
        !late
    }

    /// Reads sockets that may have datagrams, each its share of at most `messages_max` messages.
    fn read_sockets(&mut self, messages_max: usize) {
        let sockets = self.sockets.len();
        let mut waiting = self.readable.iter().filter(|&&readable| readable).count();
        for offset in 0..sockets {
            let local = (self.first + offset) % sockets;
            if !self.readable[local] {
                continue;
            }
            let room = messages_max.saturating_sub(self.inbox.filled);
            let share = room.div_ceil(waiting);
            waiting -= 1;
            if share == 0 {
                break;
            }
            let received = self.inbox.read(self.sockets[local].as_raw_fd(), local as u16, share);
            self.readable[local] = received == share;
        }
        self.first = (self.first + 1) % sockets.max(1);
    }
}

impl Network for Mmsg {
    fn receive(&mut self, budget: usize) -> usize {
        let mut waiting = self.inbox.waiting + self.tcp.waiting();
        if waiting == 0 {
            if !std::mem::take(&mut self.polled) {
                self.poll(Some(Duration::ZERO));
            }
            self.inbox.clear();
            self.read_sockets(budget.min(MESSAGES_MAX));
            if std::mem::take(&mut self.tcp_ready) || self.tcp.is_due() {
                self.tcp.collect(clock::now());
            }
            waiting = self.inbox.waiting + self.tcp.waiting();
        }
        self.allowed = waiting.min(budget);
        self.allowed
    }

    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])> {
        self.allowed = self.allowed.checked_sub(1)?;
        self.inbox.next().or_else(|| self.tcp.next_frame())
    }

    fn next_arrival(&self) -> Option<NtpTime> {
        let waiting = self.inbox.messages.get(self.inbox.at..)?;
        waiting.iter().find(|message| message.datagrams() > 0)?.arrived
    }

    fn next_closed(&mut self) -> Option<Route> {
        self.tcp.next_closed()
    }

    fn tcp_counters(&self) -> TcpCounters {
        self.tcp.counters()
    }

    fn receive_drops(&self) -> u64 {
        receive_drops(&self.sockets)
    }

    fn open_path(&mut self, route: Route) -> PathId {
        if let Transport::Tcp(number) = route.transport {
            self.tcp.open(number);
        }
        self.paths.open(route, self.sockets.len())
    }

    fn close_path(&mut self, path: PathId) {
        if let Some(Target::Tcp(number)) = self.paths.close(path) {
            self.tcp.close(number);
        }
    }

    fn flush(&mut self, egress: &mut Egress) {
        self.sender.flush(egress, &mut self.paths, &self.sockets, &mut self.tcp);
    }

    fn wait(&mut self, timeout: Option<Duration>, window: Window) {
        let busy = self.inbox.waiting + self.tcp.waiting() > 0 || self.readable.contains(&true);
        if !busy && self.wake.may_sleep() {
            let timeout = self.tcp.shorten(timeout);
            self.polled = match window {
                Window::NONE => {
                    self.poll(timeout);
                    true
                }
                window => self.collect(timeout, window),
            };
            self.wake.woke();
        } else {
            self.poll(Some(Duration::ZERO));
            self.polled = true;
        }
    }

    fn release_stream(&mut self, route: Route) -> Option<Stream> {
        self.tcp.release(route)
    }

    fn adopt_stream(&mut self, stream: Stream) -> io::Result<Route> {
        self.tcp.adopt(stream, clock::now())
    }
}

impl Inbox {
    fn new() -> Self {
        // SAFETY: an `mmsghdr` is integers and pointers, for which zeros are valid.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            memory: vec![0; MESSAGES_MAX * STRIDE].into_boxed_slice(),
            headers: vec![header; MESSAGES_MAX],
            iovecs: vec![iovec; MESSAGES_MAX],
            names: vec![RawAddress::EMPTY; MESSAGES_MAX],
            controls: vec![ControlRoom([0; ControlRoom::SIZE]); MESSAGES_MAX],
            messages: Vec::with_capacity(MESSAGES_MAX),
            at: 0,
            waiting: 0,
            filled: 0,
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.at = 0;
        self.waiting = 0;
        self.filled = 0;
    }

    fn next(&mut self) -> Option<(Route, &mut [u8])> {
        loop {
            let message = self.messages.get_mut(self.at)?;
            let route = message.route;
            if let Some(range) = message.take() {
                self.waiting -= 1;
                return Some((route, &mut self.memory[range]));
            }
            self.at += 1;
        }
    }

    /// Reads up to `count` messages of one socket; returns how many came.
    fn read(&mut self, fd: RawFd, local: u16, count: usize) -> usize {
        let first = self.filled;
        let count = count.min(MESSAGES_MAX - first);
        let memory = self.memory.as_mut_ptr();
        for index in first..first + count {
            // SAFETY: `memory` holds MESSAGES_MAX strides and `index` is below that.
            let start = unsafe { memory.add(index * STRIDE) };
            self.iovecs[index] = libc::iovec { iov_base: start.cast(), iov_len: MESSAGE_BYTES_MAX };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = RawAddress::SIZE as libc::socklen_t;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = ControlRoom::SIZE as _;
            header.msg_flags = 0;
        }
        // SAFETY: `count` headers from `first` on were filled above; what they point to is writable for the lengths given,
        // belongs to `self` and does not move during the call.
        let received = unsafe {
            let headers = self.headers.as_mut_ptr().add(first);
            let flags = libc::MSG_DONTWAIT as _;
            libc::recvmmsg(fd, headers, count as libc::c_uint, flags, std::ptr::null_mut())
        };
        let received = usize::try_from(received).unwrap_or(0);
        self.filled += received;
        for index in first..self.filled {
            let header = &self.headers[index].msg_hdr;
            let Some(remote) = self.names[index].to_std() else { continue };
            if header.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            let route = Route { transport: Transport::Udp, local, remote };
            let len = self.headers[index].msg_len as usize;
            let message = Message::new(route, index * STRIDE, len, read_control(header));
            self.waiting += message.datagrams();
            self.messages.push(message);
        }
        received
    }
}

/// Sleeps, whatever comes.
fn doze(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "this is Network::wait")]
    std::thread::sleep(time);
}
