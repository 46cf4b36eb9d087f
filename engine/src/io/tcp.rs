//! ICE-TCP, the passive side: accepts connections and cuts them into frames.
//!
//! Each frame is a datagram with its length before it in two bytes, big-endian. Source: RFC 4571 §2, RFC 6544 §3.
//! All connections of a shard stand behind one epoll instance, which the back-end watches as one more descriptor.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::Stream;
use super::address::normalise;
use super::gso::Tally;
use super::poller::{Poller, READ, WRITE, no_events};
use crate::clock::{self, Instant};
use crate::route::{Route, Transport};

/// What the TCP connections of one shard may take.
#[derive(Clone, Copy, Debug)]
pub struct TcpLimits {
    /// Connections at a time, at most 65,536; those beyond are accepted and closed. Default: 4096. Memory: × 2.2 KiB.
    pub connections_max: usize,
    /// Time from accept to the first whole frame; the connection is closed after it. Default: 10 s.
    pub first_frame_timeout: Duration,
    /// Time from accept to the first path that is opened on it; the connection is closed after it. Default: 30 s.
    pub first_path_timeout: Duration,
    /// Framed bytes that wait for a peer that does not read; what does not fit is dropped whole. Default: 256 KiB.
    pub backlog_bytes_max: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            first_frame_timeout: Duration::from_secs(10),
            first_path_timeout: Duration::from_secs(30),
            backlog_bytes_max: 256 * 1024,
        }
    }
}

/// What happened to the TCP connections of one shard. All fields only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpCounters {
    /// Connections accepted and kept.
    pub accepted: u64,
    /// Connections closed at once because the shard had all it may have.
    pub refused: u64,
    /// Connections closed because no frame, or no path, came in time.
    pub timed_out: u64,
    /// Connections closed for a frame larger than any we take.
    pub malformed: u64,
    /// Times that accepting was paused for want of descriptors or memory.
    pub accept_pauses: u64,
}

/// The TCP connections of one shard.
pub(super) struct Tcp {
    poller: Poller,
    listeners: Vec<TcpListener>,
    /// By slot, which is the low half of a connection's number.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    numbers_given: u64,
    /// What the last collection read, [`READ_BYTES`] per connection.
    scratch: Box<[u8]>,
    /// Whole frames in `scratch`, of which those before `at` were handed out.
    frames: Vec<Frame>,
    at: usize,
    /// Connections that came from other shards with bytes to cut.
    adopted: VecDeque<u64>,
    /// Connections that ended and whose owner was not told.
    ended: VecDeque<u64>,
    /// Connections whose last path was closed since the last flush.
    unused: Vec<u64>,
    /// Connections that no path was ever opened on.
    unproven: usize,
    sweep_at: Instant,
    accept_again_at: Option<Instant>,
    limits: TcpLimits,
    counters: TcpCounters,
}

struct Connection {
    number: u64,
    /// `None` once it ended and waits to be told.
    socket: Option<TcpStream>,
    route: Route,
    since: Instant,
    stage: Stage,
    /// Paths open on it.
    paths: u32,
    /// The beginning of a frame; for an adopted connection all that its last owner had read.
    partial: Vec<u8>,
    /// Framed bytes that the kernel had no room for.
    backlog: VecDeque<u8>,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No whole frame came.
    Silent,
    /// A frame came; no path was opened.
    Spoke,
    /// A path was opened.
    Used,
}

#[derive(Clone, Copy)]
struct Frame {
    number: u64,
    start: usize,
    len: usize,
}

/// Bytes of the largest frame taken: above any MTU that media or DTLS is cut for.
const FRAME_BYTES_MAX: usize = 2048;

/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 2;

/// Bytes read from one connection per collection, what was left of the last one included.
const READ_BYTES: usize = 8 * 1024;

/// Connections handled per collection. What is ready beyond comes first next time: epoll goes round.
const EVENTS_MAX: usize = 32;

/// Connections accepted per listener and collection.
const ACCEPTS_MAX: usize = 16;

/// Pause of accepting when descriptors or memory run out; a listener that stays readable would make the shard spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Least time between two looks at all connections.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// Datagrams per write.
const WRITE_FRAMES_MAX: usize = 16;

/// Writes per connection when its backlog drains.
const DRAIN_WRITES_MAX: usize = 4;

/// Set in the tokens of listeners, never in the number of a connection.
const LISTENER: u64 = 1 << 63;

const SLOT_BITS: u32 = 16;

const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl Tcp {
    /// Watches the listeners.
    ///
    /// # Errors
    /// The kernel refused an epoll instance.
    pub(super) fn new(listeners: Vec<TcpListener>, limits: TcpLimits) -> io::Result<Self> {
        let tcp = Self {
            poller: Poller::new()?,
            // Without a listener connections can still be adopted, and the scratch is touched only by reading.
            scratch: vec![0; EVENTS_MAX * READ_BYTES].into_boxed_slice(),
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            numbers_given: 0,
            frames: Vec::new(),
            at: 0,
            adopted: VecDeque::new(),
            ended: VecDeque::new(),
            unused: Vec::new(),
            unproven: 0,
            sweep_at: Instant::default(),
            accept_again_at: None,
            limits,
            counters: TcpCounters::default(),
        };
        tcp.watch_listeners()?;
        Ok(tcp)
    }

    /// The descriptor that is readable when [`Tcp::collect`] has something to do.
    pub(super) fn fd(&self) -> RawFd {
        self.poller.fd()
    }

    /// What happened so far.
    pub(super) fn counters(&self) -> TcpCounters {
        self.counters
    }

    /// Frames not handed out.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len() - self.at
    }

    /// Whether [`Tcp::collect`] has something to do that its descriptor does not show.
    pub(super) fn is_due(&self) -> bool {
        let is_due = |deadline| deadline <= clock::now();
        !self.adopted.is_empty() || self.next_deadline().is_some_and(is_due)
    }

    /// The part of `timeout` that the back-end may sleep before [`Tcp::is_due`].
    pub(super) fn shorten(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.adopted.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.next_deadline().map(|deadline| deadline.since(clock::now()));
        due.into_iter().chain(timeout).min()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sweep = (self.unproven > 0).then_some(self.sweep_at);
        sweep.into_iter().chain(self.accept_again_at).min()
    }

    /// Accepts, reads, writes what waited and closes what is overdue. All frames must have been handed out.
    pub(super) fn collect(&mut self, now: Instant) {
        self.frames.clear();
        self.at = 0;
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            if self.watch_listeners().is_err() {
                self.pause_accepting(now);
            }
        }
        if self.unproven > 0 && self.sweep_at <= now {
            self.sweep(now);
        }
        // An adopted connection brings its bytes; the others stay readable until the next collection.
        if let Some(number) = self.adopted.pop_front() {
            self.cut_adopted(number);
            return;
        }
        let mut events = no_events::<EVENTS_MAX>();
        let mut room = 0..;
        for event in self.poller.wait(&mut events, Some(Duration::ZERO)) {
            let (token, kind) = (event.u64, event.events);
            if token & LISTENER != 0 {
                self.accept((token & !LISTENER) as usize, now);
                continue;
            }
            if kind & WRITE != 0 {
                self.drain_backlog(token);
            }
            if kind & !WRITE != 0 {
                self.read(token, room.next().unwrap_or(0) * READ_BYTES);
            }
        }
    }

    /// The next frame that was collected.
    pub(super) fn next_frame(&mut self) -> Option<(Route, &mut [u8])> {
        loop {
            let frame = *self.frames.get(self.at)?;
            self.at += 1;
            // The connection may have gone to another shard, with this frame.
            if let Some(connection) = self.connection(frame.number) {
                let route = connection.route;
                return Some((route, &mut self.scratch[frame.start..frame.start + frame.len]));
            }
        }
    }

    /// As [`super::Network::next_closed`].
    pub(super) fn next_closed(&mut self) -> Option<Route> {
        let number = self.ended.pop_front()?;
        let route = self.connection(number)?.route;
        self.vacate(number);
        Some(route)
    }

    /// Notes a path on a connection.
    pub(super) fn open(&mut self, number: u64) {
        let Some(connection) = self.connection_mut(number) else { return };
        connection.paths += 1;
        let ended_or_used = connection.socket.is_none() || connection.stage == Stage::Used;
        connection.stage = Stage::Used;
        if !ended_or_used {
            self.unproven -= 1;
        }
    }

    /// Notes that a path is gone; with the last of them the connection goes after the flush.
    pub(super) fn close(&mut self, number: u64) {
        let Some(connection) = self.connection_mut(number) else { return };
        connection.paths = connection.paths.saturating_sub(1);
        if connection.paths == 0 && connection.socket.is_some() {
            self.unused.push(number);
        }
    }

    /// Closes the connections whose last path was closed.
    pub(super) fn close_unused(&mut self) {
        while let Some(number) = self.unused.pop() {
            if self.connection(number).is_some_and(|c| c.paths == 0 && c.socket.is_some()) {
                self.hang_up(number);
                self.vacate(number);
            }
        }
    }

    /// Writes datagrams as frames, or keeps them for when the peer reads, or drops them whole.
    pub(super) fn send<'a>(
        &mut self,
        number: u64,
        mut datagrams: impl Iterator<Item = &'a [u8]>,
        tally: &mut Tally,
    ) {
        let backlog_bytes_max = self.limits.backlog_bytes_max;
        let Some(connection) = self.connection_mut(number) else {
            tally.refused += datagrams.count() as u64;
            return;
        };
        let had_backlog = !connection.backlog.is_empty();
        loop {
            let mut batch: [&[u8]; WRITE_FRAMES_MAX] = [&[]; WRITE_FRAMES_MAX];
            let mut count = 0;
            for (place, datagram) in batch.iter_mut().zip(&mut datagrams) {
                *place = datagram;
                count += 1;
            }
            if count == 0 {
                break;
            }
            connection.write(&batch[..count], backlog_bytes_max, tally);
        }
        if !had_backlog && !connection.backlog.is_empty() {
            self.watch(number, READ | WRITE);
        }
    }

    /// As [`super::Network::release_stream`].
    pub(super) fn release(&mut self, route: Route) -> Option<Stream> {
        let Transport::Tcp(number) = route.transport else { return None };
        let socket = self.connection(number)?.socket.as_ref()?;
        self.poller.remove(socket.as_raw_fd());
        let mut unread = Vec::new();
        for frame in self.frames[self.at..].iter().filter(|frame| frame.number == number) {
            unread.extend((frame.len as u16).to_be_bytes());
            unread.extend(&self.scratch[frame.start..frame.start + frame.len]);
        }
        let mut connection = self.vacate(number)?;
        if connection.stage != Stage::Used {
            self.unproven -= 1;
        }
        unread.append(&mut connection.partial);
        Some(Stream {
            socket: connection.socket?,
            local: connection.route.local,
            remote: connection.route.remote,
            unread,
            unsent: connection.backlog.into(),
        })
    }

    /// As [`super::Network::adopt_stream`].
    pub(super) fn adopt(&mut self, stream: Stream, now: Instant) -> io::Result<Route> {
        if stream.unread.len() > self.scratch.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let number = self.insert(stream.socket, stream.local, stream.remote, now)?;
        let Some(connection) = self.connection_mut(number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // Its last owner saw a frame, or would not have known whose it is.
        connection.stage = Stage::Spoke;
        connection.partial = stream.unread;
        connection.backlog = stream.unsent.into();
        let route = connection.route;
        if !connection.partial.is_empty() {
            self.adopted.push_back(number);
        }
        if self.connection(number).is_some_and(|c| !c.backlog.is_empty()) {
            self.watch(number, READ | WRITE);
        }
        Ok(route)
    }

    fn watch_listeners(&self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            self.poller.add(listener.as_raw_fd(), LISTENER | index as u64, READ)?;
        }
        Ok(())
    }

    fn pause_accepting(&mut self, now: Instant) {
        for listener in &self.listeners {
            self.poller.remove(listener.as_raw_fd());
        }
        self.accept_again_at = Some(now + ACCEPT_PAUSE);
        self.counters.accept_pauses += 1;
    }

    fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..ACCEPTS_MAX {
            match self.listeners[index].accept() {
                Ok((socket, remote)) => match self.insert(socket, index as u16, remote, now) {
                    Ok(_) => self.counters.accepted += 1,
                    Err(_) => self.counters.refused += 1,
                },
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        return self.pause_accepting(now);
                    }
                    Some(libc::EAGAIN) => return,
                    // Errors of the connection that was to be accepted, which is gone with them.
                    _ => {}
                },
            }
        }
    }

    /// Gives a connection a slot and a number and watches it; on error it is closed.
    fn insert(
        &mut self,
        socket: TcpStream,
        local: u16,
        remote: std::net::SocketAddr,
        now: Instant,
    ) -> io::Result<u64> {
        if self.free.is_empty() {
            if self.connections.len() >= self.limits.connections_max.min(1 << SLOT_BITS) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            self.connections.push(None);
            self.free.push(self.connections.len() - 1);
        }
        // A datagram that waits for more data to come with it is late.
        socket.set_nodelay(true)?;
        let Some(&slot) = self.free.last() else {
            return Err(io::ErrorKind::QuotaExceeded.into());
        };
        self.numbers_given += 1;
        let number = self.numbers_given << SLOT_BITS | slot as u64;
        self.poller.add(socket.as_raw_fd(), number, READ)?;
        self.free.pop();
        let transport = Transport::Tcp(number);
        self.connections[slot] = Some(Connection {
            number,
            socket: Some(socket),
            route: Route { transport, local, remote: normalise(remote) },
            since: now,
            stage: Stage::Silent,
            paths: 0,
            partial: Vec::new(),
            backlog: VecDeque::new(),
        });
        let deadline = now + self.limits.first_frame_timeout.min(self.limits.first_path_timeout);
        self.sweep_at = if self.unproven == 0 { deadline } else { self.sweep_at.min(deadline) };
        self.unproven += 1;
        Ok(number)
    }

    /// Reads one connection into the scratch from `start` on and cuts what came.
    fn read(&mut self, number: u64, start: usize) {
        let Some(connection) = self.connections.get_mut(slot_of(number)).and_then(Option::as_mut)
        else {
            return;
        };
        let (true, Some(socket)) = (connection.number == number, &connection.socket) else {
            return;
        };
        // A connection that was adopted and not yet cut must be cut first.
        let Some(room) = self.scratch.get_mut(start..start + READ_BYTES) else { return };
        let carried = connection.partial.len();
        if carried > FRAME_BYTES_MAX + LENGTH_BYTES {
            return;
        }
        room[..carried].copy_from_slice(&connection.partial);
        let fresh = &mut room[carried..];
        // SAFETY: `fresh` is writable for the length given.
        let received = unsafe {
            let at = fresh.as_mut_ptr().cast();
            libc::recv(socket.as_raw_fd(), at, fresh.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(received) {
            Ok(0) => self.end(number),
            Ok(received) => self.cut(number, start, carried + received),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                _ => self.end(number),
            },
        }
    }

    /// Cuts what an adopted connection brought.
    fn cut_adopted(&mut self, number: u64) {
        let Some(connection) = self.connection_mut(number) else { return };
        let unread = std::mem::take(&mut connection.partial);
        self.scratch[..unread.len()].copy_from_slice(&unread);
        self.cut(number, 0, unread.len());
    }

    /// Finds the whole frames among `len` bytes of the scratch from `start` on, and keeps the rest for the next read.
    fn cut(&mut self, number: u64, start: usize, len: usize) {
        let (mut at, end) = (start, start + len);
        let mut spoke = false;
        while let Some(&[high, low]) = self.scratch[at..end].first_chunk::<LENGTH_BYTES>() {
            let frame_len = usize::from(u16::from_be_bytes([high, low]));
            if frame_len > FRAME_BYTES_MAX {
                self.counters.malformed += 1;
                self.note_spoke(number, spoke);
                return self.end(number);
            }
            let frame_start = at + LENGTH_BYTES;
            if end - frame_start < frame_len {
                break;
            }
            // Empty frames are legal and say nothing.
            if frame_len > 0 {
                self.frames.push(Frame { number, start: frame_start, len: frame_len });
                spoke = true;
            }
            at = frame_start + frame_len;
        }
        self.note_spoke(number, spoke);
        let Some(connection) = self.connections.get_mut(slot_of(number)).and_then(Option::as_mut)
        else {
            return;
        };
        connection.partial.clear();
        connection.partial.extend_from_slice(&self.scratch[at..end]);
    }

    fn note_spoke(&mut self, number: u64, spoke: bool) {
        if let (true, Some(connection)) = (spoke, self.connection_mut(number))
            && connection.stage == Stage::Silent
        {
            connection.stage = Stage::Spoke;
        }
    }

    fn drain_backlog(&mut self, number: u64) {
        let Some(connection) = self.connection_mut(number) else { return };
        for _ in 0..DRAIN_WRITES_MAX {
            let Some(socket) = &connection.socket else { return };
            let (bytes, _) = connection.backlog.as_slices();
            if bytes.is_empty() {
                break;
            }
            // SAFETY: `bytes` is readable for the length given.
            let sent = unsafe {
                libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), FLAGS)
            };
            // What is wrong with the connection its reading will show.
            let Ok(sent) = usize::try_from(sent) else { return };
            connection.backlog.drain(..sent);
        }
        if connection.backlog.is_empty() {
            connection.backlog = VecDeque::new();
            self.watch(number, READ);
        }
    }

    fn watch(&self, number: u64, interest: u32) {
        let socket = self.connection(number).and_then(|connection| connection.socket.as_ref());
        if let Some(socket) = socket {
            // Changing what is watched takes no memory and fails only for a descriptor that is not watched.
            let _ = self.poller.change(socket.as_raw_fd(), number, interest);
        }
    }

    /// Closes connections that did not prove themselves in time.
    fn sweep(&mut self, now: Instant) {
        let mut next: Option<Instant> = None;
        for slot in 0..self.connections.len() {
            let Some(connection) = &self.connections[slot] else { continue };
            let timeout = match connection.stage {
                _ if connection.socket.is_none() => continue,
                Stage::Used => continue,
                Stage::Silent => {
                    self.limits.first_frame_timeout.min(self.limits.first_path_timeout)
                }
                Stage::Spoke => self.limits.first_path_timeout,
            };
            let deadline = connection.since + timeout;
            if deadline <= now {
                self.counters.timed_out += 1;
                self.end(connection.number);
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.sweep_at = next.unwrap_or(now).max(now + SWEEP_INTERVAL);
    }

    /// Closes a connection that ended; its owner is told where it may have one.
    fn end(&mut self, number: u64) {
        let Some(connection) = self.connection(number) else { return };
        let has_owner = connection.stage != Stage::Silent;
        self.hang_up(number);
        if has_owner {
            self.ended.push_back(number);
        } else {
            self.vacate(number);
        }
    }

    /// Closes the socket of a connection.
    fn hang_up(&mut self, number: u64) {
        let Some(connection) = self.connection_mut(number) else { return };
        let Some(socket) = connection.socket.take() else { return };
        connection.partial = Vec::new();
        connection.backlog = VecDeque::new();
        if connection.stage != Stage::Used {
            self.unproven -= 1;
        }
        self.poller.remove(socket.as_raw_fd());
    }

    /// Takes a connection out of its slot.
    fn vacate(&mut self, number: u64) -> Option<Connection> {
        self.connection(number)?;
        self.free.push(slot_of(number));
        self.connections[slot_of(number)].take()
    }

    fn connection(&self, number: u64) -> Option<&Connection> {
        let connection = self.connections.get(slot_of(number))?.as_ref()?;
        (connection.number == number).then_some(connection)
    }

    fn connection_mut(&mut self, number: u64) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(slot_of(number))?.as_mut()?;
        (connection.number == number).then_some(connection)
    }
}

impl Connection {
    /// Writes up to [`WRITE_FRAMES_MAX`] datagrams, in one call where nothing waits before them.
    fn write(&mut self, datagrams: &[&[u8]], backlog_bytes_max: usize, tally: &mut Tally) {
        let Some(socket) = &self.socket else {
            tally.refused += datagrams.len() as u64;
            return;
        };
        let mut sent = 0;
        if self.backlog.is_empty() {
            match write_frames(socket, datagrams) {
                Ok(bytes) => sent = bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The connection is broken, which its reading will show.
                Err(_) => {
                    tally.refused += datagrams.len() as u64;
                    return;
                }
            }
        }
        tally.sent.runs += u64::from(sent > 0);
        for datagram in datagrams {
            let length = (datagram.len() as u16).to_be_bytes();
            let frame_bytes = LENGTH_BYTES + datagram.len();
            let taken = sent.min(frame_bytes);
            sent -= taken;
            let waits = frame_bytes - taken;
            // A frame that is partly out must be finished, or all that follows is garbage to the peer.
            if taken == 0 && self.backlog.len() + waits > backlog_bytes_max {
                tally.backlog += 1;
                continue;
            }
            self.backlog.extend(&length[taken.min(LENGTH_BYTES)..]);
            self.backlog.extend(&datagram[taken.saturating_sub(LENGTH_BYTES)..]);
            tally.sent.datagrams += 1;
            tally.sent.bytes += datagram.len() as u64;
        }
    }
}

/// Writes datagrams as frames in one call; returns the bytes that the kernel took, lengths included.
fn write_frames(socket: &TcpStream, datagrams: &[&[u8]]) -> io::Result<usize> {
    let mut lengths = [[0; LENGTH_BYTES]; WRITE_FRAMES_MAX];
    let mut iovecs =
        [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 2 * WRITE_FRAMES_MAX];
    for ((datagram, length), pair) in
        datagrams.iter().zip(&mut lengths).zip(iovecs.chunks_exact_mut(2))
    {
        *length = (datagram.len() as u16).to_be_bytes();
        pair[0] = libc::iovec { iov_base: length.as_mut_ptr().cast(), iov_len: LENGTH_BYTES };
        pair[1] =
            libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    }
    // SAFETY: an `msghdr` is integers and pointers, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = iovecs.as_mut_ptr();
    header.msg_iovlen = (2 * datagrams.len().min(WRITE_FRAMES_MAX)) as _;
    // SAFETY: the iovecs describe bytes that are borrowed for this call; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn slot_of(number: u64) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    use super::*;

    const T0: Duration = Duration::from_secs(100);

    fn at(after: Duration) -> Instant {
        Instant::from_start(T0 + after)
    }

    fn listening() -> (Tcp, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (Tcp::new(vec![listener], TcpLimits::default()).unwrap(), address)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    #[test]
    fn a_pause_of_accepting_ends_by_itself() {
        let (mut tcp, address) = listening();
        tcp.pause_accepting(at(Duration::ZERO));
        let _client = connect(address);
        tcp.collect(at(ACCEPT_PAUSE / 2));
        assert_eq!(tcp.counters().accepted, 0);
        assert_eq!(
            tcp.next_deadline(),
            Some(at(ACCEPT_PAUSE)),
            "and nothing wakes the shard before"
        );
        tcp.collect(at(ACCEPT_PAUSE));
        assert_eq!(
            tcp.counters(),
            TcpCounters { accepted: 1, accept_pauses: 1, ..TcpCounters::default() }
        );
    }

    #[test]
    fn a_silent_connection_has_ten_seconds() {
        let (mut tcp, address) = listening();
        let mut client = connect(address);
        tcp.collect(at(Duration::ZERO));
        assert_eq!(tcp.next_deadline(), Some(at(Duration::from_secs(10))));
        tcp.collect(at(Duration::from_millis(9_999)));
        assert_eq!(tcp.counters().timed_out, 0);
        tcp.collect(at(Duration::from_secs(10)));
        assert_eq!(tcp.counters().timed_out, 1);
        assert_eq!(tcp.next_deadline(), None);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_connection_that_spoke_has_thirty_seconds_until_its_path() {
        let (mut tcp, address) = listening();
        let mut clients = [connect(address), connect(address)];
        for client in &mut clients {
            client.write_all(b"\0\x01x").unwrap();
        }
        let mut routes = Vec::new();
        while routes.len() < 2 {
            tcp.collect(at(Duration::ZERO));
            routes.extend(std::iter::from_fn(|| tcp.next_frame().map(|(route, _)| route)));
        }
        let Transport::Tcp(used) = routes[0].transport else { panic!("not TCP") };
        tcp.open(used);
        tcp.collect(at(Duration::from_secs(10)));
        tcp.collect(at(Duration::from_millis(29_999)));
        assert_eq!(tcp.next_closed(), None);
        tcp.collect(at(Duration::from_secs(30)));
        assert_eq!(tcp.next_closed(), Some(routes[1]));
        tcp.collect(at(Duration::from_secs(3600)));
        assert_eq!((tcp.next_closed(), tcp.next_deadline()), (None, None));
    }

    #[test]
    fn a_number_is_never_used_again() {
        let (mut tcp, address) = listening();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let client = connect(address);
            let now = at(Duration::ZERO);
            tcp.collect(now);
            let number = tcp.connections[0].as_ref().unwrap().number;
            assert!(!seen.contains(&number), "the slot is the same, the number is not");
            seen.push(number);
            drop(client);
            while tcp.connections[0].is_some() {
                tcp.collect(now);
            }
        }
    }

    #[test]
    fn the_backlog_keeps_whole_frames_only() {
        let (mut tcp, address) = listening();
        // No room at all: only what finishes a frame that is partly out may wait.
        tcp.limits.backlog_bytes_max = 0;
        let mut client = connect(address);
        tcp.collect(at(Duration::ZERO));
        let number = tcp.connections[0].as_ref().unwrap().number;
        let (mut tally, datagram) = (Tally::default(), [5; 1000]);
        while tally.backlog < 50 {
            tcp.send(number, std::iter::repeat_n(&datagram[..], 7), &mut tally);
            assert!(tcp.connections[0].as_ref().unwrap().backlog.len() < 1002);
        }
        let kept = tally.sent.datagrams as usize;
        let mut bytes = vec![0; kept * 1002];
        let (mut read, now) = (0, at(Duration::ZERO));
        while read < bytes.len() {
            read += client.read(&mut bytes[read..]).unwrap();
            tcp.collect(now);
        }
        assert!(bytes.chunks(1002).all(|frame| frame[..2] == [3, 232] && frame[2..] == datagram));
        client.set_nonblocking(true).unwrap();
        assert!(client.read(&mut [0; 1]).is_err(), "nothing more was promised");
    }
}
