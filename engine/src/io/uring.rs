//! The back-end of io_uring: one ring per shard, multishot receives into a ring of provided buffers.
//!
//! Sends go by sendmmsg like those of the other back-end: as submissions they were measured to cost the same or more.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::address::RawAddress;
use super::gso::Sender;
use super::message::{ControlRoom, MESSAGE_BYTES_MAX, Message, read_control};
use super::path::{PathTable, Target};
use super::socket::{ShardSockets, receive_drops};
use super::tcp::{Tcp, TcpCounters, TcpLimits};
use super::wake::EventWake;
use super::{Network, Stream, Window};
use crate::clock::{self, Instant, NtpTime};
use crate::egress::Egress;
use crate::route::{PathId, Route, Transport};

/// One shard's sockets behind io_uring. Made and used on the shard's thread, which alone may submit.
pub struct Uring {
    // Dropped first: no receive may be under way when the memory it writes to is freed.
    ring: IoUring,
    inbox: Inbox,
    /// What the kernel reads of a receive's form; the same for all sockets.
    form: Box<libc::msghdr>,
    receivers: Vec<Receiver>,
    /// Whether each of them is armed.
    all_armed: bool,
    sockets: Vec<UdpSocket>,
    wake: Arc<EventWake>,
    wake_armed: bool,
    tcp: Tcp,
    tcp_armed: bool,
    tcp_ready: bool,
    /// Datagrams that the shard may still take of this batch.
    allowed: usize,
    paths: PathTable,
    sender: Sender,
}

/// The receive of one socket.
#[derive(Clone, Copy)]
struct Receiver {
    armed: bool,
    /// Not armed before, because it failed.
    after: Option<Instant>,
}

/// Received messages and the buffers they lie in.
struct Inbox {
    buffers: BufferRing,
    messages: Vec<Received>,
    /// Index of the message that is handed out.
    at: usize,
    /// Datagrams not handed out.
    waiting: usize,
}

/// A message and the buffer it lies in.
#[derive(Clone, Copy)]
struct Received {
    message: Message,
    buffer: u16,
}

/// The buffers that the kernel may fill, and the ring through which it gets them.
struct BufferRing {
    /// [`BUFFERS`] entries, page-aligned; shared with the kernel.
    entries: NonNull<BufRingEntry>,
    /// [`BUFFERS`] buffers of [`STRIDE`] bytes. The kernel writes only to those it was given.
    memory: NonNull<u8>,
    tail: u16,
}

/// Buffers per shard: 16 MiB of memory, of which pages are used once a message reaches them. What exceeds them waits in
/// the sockets. A power of two, and at most 32,768.
const BUFFERS: u16 = 256;

/// Bytes of the head that the kernel writes before the peer's address.
const HEAD_BYTES: usize = 16;

/// Bytes before the payload: head, address, control data. A multiple of eight, so that each part is aligned.
const PAYLOAD_START: usize = HEAD_BYTES + NAME_BYTES + ControlRoom::SIZE;

const NAME_BYTES: usize = 32;

/// Distance of two buffers. Not a power of two, lest the heads of all share one cache set.
const STRIDE: usize = MESSAGE_BYTES_MAX + 256;

/// Bytes of receive memory per shard.
pub(super) const RECEIVE_BYTES: usize = BUFFERS as usize * STRIDE;

const GROUP: u16 = 0;

/// Queued at a time; more are submitted in parts. Small, because the ring counts as locked memory: 24 KiB as it is.
const SUBMISSIONS: u32 = 64;

/// More than all buffers and polls can complete at a time, so that the queue does not overflow in practice.
const COMPLETIONS: u32 = 1024;

const PAGE: usize = 4096;

const TOKEN_WAKE: u64 = u64::MAX;
const TOKEN_TCP: u64 = u64::MAX - 1;

/// Pause after a receive failed, so that a socket that keeps failing does not make the shard spin.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How often, and how long each time, the end waits for the completions of what it cancelled.
const TEARDOWN_ROUNDS: usize = 32;
const TEARDOWN_WAIT: Duration = Duration::from_millis(10);

/// Completions that a wait is never given: it ends by its time.
const MORE_THAN_COMES: usize = COMPLETIONS as usize;

/// A timeout that is none.
const FOREVER: Duration = Duration::from_secs(1 << 24);

/// Time that the kernel takes at the end of a wait to read what came. A wait that took longer beyond its least time slept on.
const READING: Duration = Duration::from_micros(50);

const _: () = assert!(PAYLOAD_START + MESSAGE_BYTES_MAX <= STRIDE && STRIDE.is_multiple_of(64));
const _: () = assert!(RawAddress::SIZE <= NAME_BYTES && BUFFERS.is_power_of_two());

impl Uring {
    /// Takes over a shard's sockets; returns the back-end and what wakes it. Must be called on the shard's thread.
    ///
    /// # Errors
    /// The kernel, or the container, refuses io_uring or what is used of it.
    pub fn new(sockets: ShardSockets) -> io::Result<(Self, Arc<EventWake>)> {
        Self::with_limits(sockets, TcpLimits::default())
    }

    /// As [`Uring::new`], with bounds on TCP.
    ///
    /// # Errors
    /// As [`Uring::new`].
    pub fn with_limits(
        sockets: ShardSockets,
        limits: TcpLimits,
    ) -> io::Result<(Self, Arc<EventWake>)> {
        let ring = new_ring()?;
        let mut buffers = BufferRing::new();
        // SAFETY: the entries are page-aligned, BUFFERS of them, and outlive the ring: `Drop` ends all receives first.
        unsafe {
            let at = buffers.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(at, BUFFERS, GROUP, 0)?;
        }
        (0..BUFFERS).for_each(|buffer| buffers.give(buffer));
        let messages = Vec::with_capacity(usize::from(BUFFERS));
        // SAFETY: an `msghdr` is integers and pointers, for which zeros are valid.
        let mut form: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        form.msg_namelen = NAME_BYTES as libc::socklen_t;
        form.msg_controllen = ControlRoom::SIZE as _;
        let wake = Arc::new(EventWake::new()?);
        let mut network = Self {
            ring,
            inbox: Inbox { buffers, messages, at: 0, waiting: 0 },
            form,
            receivers: vec![Receiver { armed: false, after: None }; sockets.udp.len()],
            all_armed: false,
            wake: Arc::clone(&wake),
            wake_armed: false,
            tcp: Tcp::new(sockets.tcp, limits)?,
            tcp_armed: false,
            tcp_ready: false,
            allowed: 0,
            paths: PathTable::default(),
            sender: Sender::new(sockets.udp.len()),
            sockets: sockets.udp,
        };
        network.arm();
        network.ring.submit()?;
        Ok((network, wake))
    }

    /// Whether a multishot receive is under way on every socket.
    pub(super) fn is_receiving(&self) -> bool {
        self.all_armed
    }

    /// Queues every receive and poll that is not under way.
    fn arm(&mut self) {
        if !self.wake_armed {
            let poll = opcode::PollAdd::new(Fd(self.wake.fd()), libc::POLLIN as u32);
            self.wake_armed = self.queue(&poll.build().user_data(TOKEN_WAKE));
        }
        if !self.tcp_armed {
            let poll = opcode::PollAdd::new(Fd(self.tcp.fd()), libc::POLLIN as u32);
            self.tcp_armed = self.queue(&poll.build().user_data(TOKEN_TCP));
        }
        if self.all_armed {
            return;
        }
        for local in 0..self.receivers.len() {
            let receiver = self.receivers[local];
            if receiver.armed || receiver.after.is_some_and(|after| clock::now() < after) {
                continue;
            }
            let fd = Fd(self.sockets[local].as_raw_fd());
            let receive = opcode::RecvMsgMulti::new(fd, &raw const *self.form, GROUP);
            let armed = self.queue(&receive.build().user_data(local as u64));
            self.receivers[local] = Receiver { armed, after: None };
        }
        self.all_armed = self.receivers.iter().all(|receiver| receiver.armed);
    }

    /// Queues a submission; false when there is no room even after submitting what waits.
    fn queue(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: descriptors and the form that entries point to live as long as the ring: both belong to `self`,
            // the form in a box of its own.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            let _ = self.ring.submit();
        }
        false
    }

    /// Submits what is queued and sleeps until something completed.
    fn enter(&mut self, timeout: Option<Duration>) {
        // What is wrong with the ring itself, if anything, was found when it was made; a signal or the timeout ends the wait.
        let _ = match timeout {
            None => self.ring.submitter().submit_and_wait(1),
            Some(timeout) if timeout.is_zero() => self.ring.submit(),
            Some(timeout) => {
                let limit = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
        };
    }

    /// Submits what is queued and sleeps for `time`, whatever completes.
    fn doze(&mut self, time: Duration) {
        let limit = Timespec::from(time);
        let args = SubmitArgs::new().timespec(&limit);
        let _ = self.ring.submitter().submit_with_args(MORE_THAN_COMES, &args);
    }

    /// Submits what is queued and sleeps for `rest`, and if nothing completed in it, until something does or `timeout`,
    /// which is longer, passed.
    fn doze_and_wait(&mut self, rest: Duration, timeout: Option<Duration>) {
        if rest.is_zero() {
            return self.enter(timeout);
        }
        if !self.ring.params().is_feature_min_timeout() {
            // Kernels before 6.12.
            self.doze(rest);
            if !self.has_news() {
                self.enter(timeout.map(|timeout| timeout.saturating_sub(rest)));
            }
            return;
        }
        // Without a timeout the kernel takes the least wait for the longest.
        let limit = Timespec::from(timeout.unwrap_or(FOREVER));
        let rest_us = u32::try_from(rest.as_micros()).unwrap_or(u32::MAX);
        let args = SubmitArgs::new().min_wait_usec(rest_us).timespec(&limit);
        let _ = self.ring.submitter().submit_with_args(MORE_THAN_COMES, &args);
    }

    /// Sleeps as [`Network::wait`] with a window.
    fn collect(&mut self, timeout: Option<Duration>, window: Window) {
        let is_short = timeout.is_some_and(|timeout| timeout <= window.rest);
        if is_short || self.has_news() {
            if !window.rest.is_zero() {
                self.doze(window.rest);
            }
            return;
        }
        let start = clock::now();
        self.doze_and_wait(window.rest, timeout);
        if clock::now().since(start) < window.rest + READING {
            return;
        }
        self.complete();
        if self.inbox.waiting > 0 {
            self.doze(window.whole);
            self.complete();
        }
    }

    /// The timeout, or an earlier moment at which the back-end itself has something to do.
    fn shorten(&self, timeout: Option<Duration>) -> Option<Duration> {
        let timeout = self.tcp.shorten(timeout);
        if self.all_armed {
            return timeout;
        }
        let retry = self.receivers.iter().filter_map(|receiver| receiver.after).min();
        let retry = retry.map(|after| after.since(clock::now()));
        timeout.into_iter().chain(retry).min()
    }

    /// Whether something completed, or would when the kernel is asked.
    fn has_news(&mut self) -> bool {
        let behind = {
            let submissions = self.ring.submission();
            submissions.taskrun() || submissions.cq_overflow()
        };
        behind || !self.ring.completion().is_empty()
    }

    /// Takes all completions.
    fn complete(&mut self) {
        let mut completions = self.ring.completion();
        completions.sync();
        for entry in &mut completions {
            match entry.user_data() {
                TOKEN_WAKE => {
                    self.wake_armed = false;
                    self.wake.drain();
                }
                TOKEN_TCP => (self.tcp_armed, self.tcp_ready) = (false, true),
                local => {
                    let Some(receiver) = self.receivers.get_mut(local as usize) else { continue };
                    if !cqueue::more(entry.flags()) {
                        receiver.armed = false;
                        self.all_armed = false;
                    }
                    if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
                        let len = usize::try_from(entry.result()).unwrap_or(0);
                        self.inbox.take(buffer, len, &self.form, local as u16);
                    } else if entry.result() < 0 && entry.result() != -libc::ENOBUFS {
                        receiver.after = Some(clock::now() + RETRY_PAUSE);
                    }
                }
            }
        }
    }

    /// Submits what is queued and runs what the kernel put off until this thread asks.
    fn catch_up(&mut self) {
        let submissions = self.ring.submission();
        let behind = !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow();
        drop(submissions);
        if behind {
            let _ = self.ring.submit();
        }
    }
}

impl Network for Uring {
    fn receive(&mut self, budget: usize) -> usize {
        // Only once all is handed out, so that a flood over UDP does not keep TCP waiting.
        if self.inbox.waiting + self.tcp.waiting() == 0 {
            self.inbox.recycle();
            self.arm();
            self.catch_up();
            self.complete();
        }
        if self.tcp.waiting() == 0 && (std::mem::take(&mut self.tcp_ready) || self.tcp.is_due()) {
            self.tcp.collect(clock::now());
        }
        self.allowed = (self.inbox.waiting + self.tcp.waiting()).min(budget);
        self.allowed
    }

    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])> {
        self.allowed = self.allowed.checked_sub(1)?;
        self.inbox.next().or_else(|| self.tcp.next_frame())
    }

    fn next_arrival(&self) -> Option<NtpTime> {
        let mut waiting = self.inbox.messages.get(self.inbox.at..)?.iter().map(|r| &r.message);
        waiting.find(|message| message.datagrams() > 0)?.arrived
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
        if self.inbox.waiting + self.tcp.waiting() > 0 {
            return;
        }
        self.inbox.recycle();
        self.arm();
        if !self.wake.may_sleep() {
            return;
        }
        match self.shorten(timeout) {
            timeout if window == Window::NONE => self.enter(timeout),
            timeout => self.collect(timeout, window),
        }
        self.wake.woke();
    }

    fn release_stream(&mut self, route: Route) -> Option<Stream> {
        self.tcp.release(route)
    }

    fn adopt_stream(&mut self, stream: Stream) -> io::Result<Route> {
        self.tcp.adopt(stream, clock::now())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Receives write to the buffers: they end here, before the memory goes. The kernel runs them on this thread alone,
        // inside of system calls on the ring, of which there are none after these.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        // What was cancelled holds its socket until its completion has run. Left to the kernel's own teardown of the ring,
        // which comes some time later, the port would still be taken when a successor binds it.
        for _ in 0..TEARDOWN_ROUNDS {
            let idle = self.receivers.iter().all(|receiver| !receiver.armed);
            if idle && !self.wake_armed && !self.tcp_armed {
                return;
            }
            self.enter(Some(TEARDOWN_WAIT));
            self.complete();
        }
    }
}

impl Inbox {
    /// Takes the buffer of a completed receive.
    fn take(&mut self, buffer: u16, len: usize, form: &libc::msghdr, local: u16) {
        match self.buffers.parse(buffer, len, form, local) {
            Some(message) => {
                self.waiting += message.datagrams();
                self.messages.push(Received { message, buffer });
            }
            None => self.buffers.give(buffer),
        }
    }

    /// Forgets the last batch, all of which was handed out.
    fn recycle(&mut self) {
        for received in &self.messages[self.at..] {
            self.buffers.give(received.buffer);
        }
        self.messages.clear();
        self.at = 0;
    }

    fn next(&mut self) -> Option<(Route, &mut [u8])> {
        loop {
            let received = self.messages.get_mut(self.at)?;
            let (route, buffer) = (received.message.route, received.buffer);
            if let Some(range) = received.message.take() {
                self.waiting -= 1;
                // SAFETY: the range lies within the buffer of a completed receive, which the kernel does not touch until
                // it is given back; that takes `&mut self`, so it cannot happen while the slice lives.
                let bytes = unsafe {
                    let start = self.buffers.memory.as_ptr().add(range.start);
                    std::slice::from_raw_parts_mut(start, range.len())
                };
                return Some((route, bytes));
            }
            // Back at once, so that a burst finds room while the turn goes on.
            self.buffers.give(buffer);
            self.at += 1;
        }
    }
}

impl BufferRing {
    fn new() -> Self {
        let entries = allocate(Self::entries_layout()).cast();
        Self { entries, memory: allocate(Self::memory_layout()), tail: 0 }
    }

    fn entries_layout() -> Layout {
        layout(usize::from(BUFFERS) * size_of::<BufRingEntry>(), PAGE)
    }

    fn memory_layout() -> Layout {
        layout(usize::from(BUFFERS) * STRIDE, PAGE)
    }

    /// Gives a buffer to the kernel. It must not be given already.
    fn give(&mut self, buffer: u16) {
        debug_assert!(buffer < BUFFERS, "the kernel hands back what it was given");
        // SAFETY: the index is masked to the ring's size. Entries at the tail belong to us until the tail passes them. The
        // tail's place is the unused field of the first entry, which the setters leave alone; it is two bytes and aligned.
        unsafe {
            let entry = self.entries.as_ptr().add(usize::from(self.tail & (BUFFERS - 1)));
            (*entry).set_addr(self.memory.as_ptr().add(usize::from(buffer) * STRIDE) as u64);
            (*entry).set_len((PAYLOAD_START + MESSAGE_BYTES_MAX) as u32);
            (*entry).set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Reads what the kernel wrote into a buffer: `len` bytes of head, address, control data and payload.
    fn parse(&self, buffer: u16, len: usize, form: &libc::msghdr, local: u16) -> Option<Message> {
        if buffer >= BUFFERS || len > PAYLOAD_START + MESSAGE_BYTES_MAX {
            return None;
        }
        let start = usize::from(buffer) * STRIDE;
        // SAFETY: the buffer is ours since its receive completed, and `len` was checked against its size.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), len) };
        let out = RecvMsgOut::parse(bytes, form).ok()?;
        if out.is_payload_truncated() || out.is_name_data_truncated() {
            return None;
        }
        let remote = RawAddress::from_bytes(out.name_data()).to_std()?;
        let control = out.control_data();
        // SAFETY: an `msghdr` is integers and pointers, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len() as _;
        let route = Route { transport: Transport::Udp, local, remote };
        let (payload, control) = (out.payload_data().len(), read_control(&header));
        Some(Message::new(route, start + PAYLOAD_START, payload, control))
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts, and the ring, which is dropped before, uses them no more.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout());
            dealloc(self.memory.as_ptr(), Self::memory_layout());
        }
    }
}

fn layout(size: usize, align: usize) -> Layout {
    match Layout::from_size_align(size, align) {
        Ok(layout) => layout,
        Err(_) => unreachable!("sizes and alignments are constants"),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    let at = unsafe { alloc_zeroed(layout) };
    NonNull::new(at).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Makes a ring with the best flags that the kernel takes.
fn new_ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS).setup_clamp();
    // No interrupt of this thread for completions: they run when it enters the kernel, and a flag says that there are some.
    builder.setup_coop_taskrun().setup_taskrun_flag();
    // Kernels from 6.1: completions run only when this thread asks for them, and nobody else submits.
    let mut best = builder.clone();
    best.setup_single_issuer().setup_defer_taskrun();
    match best.build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(SUBMISSIONS),
        result => result,
    }
}
