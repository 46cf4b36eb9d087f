//! The relay's thread: reads from clients and server, asks the model, sends in time.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use sluice_engine::clock::{Instant, now};

use super::held::{Datagram, Held, Way};
use super::model::{Model, Reason, Verdict};
use super::relay::{Limits, RelayCounters, Shared, WayCounters};
use super::socket;
use crate::scenario::Impair;

/// All that the thread owns.
pub(super) struct Forwarder {
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer goes off.
    armed: Option<Instant>,
    listening: UdpSocket,
    /// What the kernel said last of the datagrams it dropped there.
    dropped: u32,
    server: SocketAddr,
    impair: Impair,
    limits: Limits,
    clients: HashMap<u64, Client>,
    numbers: HashMap<SocketAddr, u64>,
    /// Numbers are given once. They seed the clients' models.
    next_number: u64,
    held: Held,
    datagram: Vec<u8>,
    control: Vec<u8>,
    counters: RelayCounters,
    shared: Arc<Shared>,
    now: Instant,
    sweep_at: Instant,
}

/// One address that sent something.
struct Client {
    address: SocketAddr,
    upstream: UdpSocket,
    dropped: u32,
    /// The socket before the last rebinding. It stays open so that nobody else gets its port, and the server's datagrams to it vanish as behind a
    /// real router instead of being refused.
    _abandoned: Option<UdpSocket>,
    up: Model,
    down: Model,
    heard_at: Instant,
    rebind_at: Option<Instant>,
}

// What epoll says of descriptors that are no client's.
const STOP: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const LISTENING: u64 = u64::MAX - 2;

/// Datagrams that are read from one socket before others have their turn.
const BATCH: usize = 64;

/// Sockets that are looked at in one turn.
const EVENTS: usize = 256;

/// From one look at all clients (who is idle, who is rebound) to the next.
const SWEEP: Duration = Duration::from_millis(100);

impl Forwarder {
    pub(super) fn new(
        listening: UdpSocket,
        server: SocketAddr,
        impair: Impair,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        epoll.add(&shared.stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(&listening, EpollEvent::new(EpollFlags::EPOLLIN, LISTENING))?;
        Ok(Self {
            epoll,
            timer,
            armed: None,
            listening,
            dropped: 0,
            server,
            impair,
            limits,
            clients: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            held: Held::new(limits.held_bytes_max),
            // The largest UDP payload is a little shorter.
            datagram: vec![0; 1 << 16],
            control: socket::control_buffer(),
            counters: RelayCounters::default(),
            shared,
            now: now(),
            sweep_at: now(),
        })
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            match self.turn(&mut events) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    return self.shared.complain(|| format!("the relay stopped: {error}"));
                }
            }
        }
    }

    /// Waits, and handles what has come; `false` at the end.
    fn turn(&mut self, events: &mut [EpollEvent]) -> io::Result<bool> {
        self.arm()?;
        let until_sweep = self.sweep_at.since(now()).as_millis() as u16;
        let ready = match self.epoll.wait(events, EpollTimeout::from(until_sweep + 1)) {
            Err(nix::errno::Errno::EINTR) => 0,
            ready => ready?,
        };
        self.look_at_clock();
        for event in &events[..ready] {
            match event.data() {
                STOP => return Ok(false),
                TIMER => self.armed = None,
                LISTENING => self.receive_from_clients()?,
                client => self.receive_from_server(client),
            }
        }
        if self.now >= self.sweep_at {
            self.sweep();
            self.sweep_at = self.now + SWEEP;
        }
        self.counters.clients = self.clients.len() as u64;
        self.shared.publish(self.counters);
        Ok(true)
    }

    /// Sets the timer to the next datagram that waits: `epoll_wait` alone counts in whole milliseconds.
    fn arm(&mut self) -> io::Result<()> {
        let deadline = self.held.next_deadline();
        if deadline == self.armed {
            return Ok(());
        }
        self.armed = deadline;
        match deadline {
            // A time of zero would switch it off.
            Some(at) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(
                    at.since(now()).max(Duration::from_nanos(1)),
                )),
                TimerSetTimeFlags::empty(),
            )?,
            None => self.timer.unset()?,
        }
        Ok(())
    }

    /// Sends what is due. After this nothing waits that is due before what comes next, so order is kept though the latter may be sent at once.
    fn look_at_clock(&mut self) {
        self.now = now();
        while let Some(Datagram { at, client, way, copies, bytes }) = self.held.take_due(self.now) {
            self.counters.late_max = self.counters.late_max.max(self.now.since(at));
            let counters = self.counters.way(way);
            counters.waiting -= 1;
            match self.clients.get(&client) {
                Some(client) => client.send(&self.listening, way, &bytes, copies, counters),
                None => counters.unsent += 1,
            }
        }
    }

    fn receive_from_clients(&mut self) -> io::Result<()> {
        self.look_at_clock();
        for _ in 0..BATCH {
            let received = socket::receive(&self.listening, &mut self.datagram, &mut self.control)?;
            let Some(received) = received else { return Ok(()) };
            count_dropped(&mut self.counters.up, &mut self.dropped, received.dropped);
            match self.numbers.get(&received.from).copied().or_else(|| self.admit(received.from)) {
                Some(client) => self.handle(client, Way::Up, received.len),
                None => self.counters.refused += 1,
            }
        }
        Ok(())
    }

    fn receive_from_server(&mut self, number: u64) {
        self.look_at_clock();
        for _ in 0..BATCH {
            let Some(client) = self.clients.get_mut(&number) else { return };
            match socket::receive(&client.upstream, &mut self.datagram, &mut self.control) {
                Ok(Some(received)) => {
                    count_dropped(&mut self.counters.down, &mut client.dropped, received.dropped);
                    self.handle(number, Way::Down, received.len);
                }
                Ok(None) => return,
                // The error of one client's socket is not the others'.
                Err(error) => {
                    let server = self.server;
                    return self.shared.complain(|| format!("receiving from {server}: {error}"));
                }
            }
        }
    }

    /// Takes the first `len` bytes of the buffer as a datagram of this client.
    fn handle(&mut self, number: u64, way: Way, len: usize) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let counters = self.counters.way(way);
        counters.received += 1;
        let model = match way {
            Way::Up => {
                client.heard_at = self.now;
                &mut client.up
            }
            Way::Down => &mut client.down,
        };
        let bytes = &self.datagram[..len];
        match model.decide(self.now, len) {
            Verdict::Drop(Reason::Loss) => counters.lost += 1,
            Verdict::Drop(Reason::Burst) => counters.burst_lost += 1,
            Verdict::Drop(Reason::Queue) => counters.queue_full += 1,
            Verdict::Forward { at, copies, overtakes } => {
                counters.reordered += u64::from(overtakes);
                if at <= self.now {
                    client.send(&self.listening, way, bytes, copies, counters);
                } else if self.held.put(Datagram {
                    at,
                    client: number,
                    way,
                    copies,
                    bytes: bytes.into(),
                }) {
                    counters.waiting += 1;
                } else {
                    counters.overflowed += 1;
                    self.shared.complain(|| {
                        let held = self.limits.held_bytes_max;
                        format!("more than {held} bytes of datagrams wait: less delay or less traffic would fit")
                    });
                }
            }
        }
    }

    /// A number for somebody who was not heard before; `None` when there is no place.
    fn admit(&mut self, address: SocketAddr) -> Option<u64> {
        if self.clients.len() >= self.limits.clients_max {
            let limit = self.limits.clients_max;
            self.shared
                .complain(|| format!("{limit} clients at a time are all that one relay takes"));
            return None;
        }
        let number = self.next_number;
        let upstream = self.open_upstream(number)?;
        self.next_number += 1;
        let client = Client {
            address,
            upstream,
            dropped: 0,
            _abandoned: None,
            up: Model::new(&self.impair, seed(self.impair.seed, number, Way::Up)),
            down: Model::new(&self.impair, seed(self.impair.seed, number, Way::Down)),
            heard_at: self.now,
            rebind_at: self.rebind_interval().map(|interval| self.now + interval),
        };
        self.clients.insert(number, client);
        self.numbers.insert(address, number);
        Some(number)
    }

    fn open_upstream(&self, number: u64) -> Option<UdpSocket> {
        let open = || {
            let upstream = socket::connect(self.server)?;
            self.epoll.add(&upstream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            Ok(upstream)
        };
        open()
            .inspect_err(|error: &io::Error| {
                let (clients, server) = (self.clients.len(), self.server);
                self.shared.complain(|| {
                    format!(
                        "no further socket towards {server} while there are {clients} clients: {error}. Each \
                         needs one, and another once it was rebound; `ulimit -n` says how many files may be open"
                    )
                });
            })
            .ok()
    }

    fn rebind_interval(&self) -> Option<Duration> {
        (self.impair.rebind_s > 0.0).then(|| Duration::from_secs_f64(self.impair.rebind_s))
    }

    /// Forgets who is idle, rebinds whose time has come.
    fn sweep(&mut self) {
        let idle = self.limits.idle;
        // What a client sends keeps its place, what it is sent does not: as with the routers that RFC 4787 REQ-6 describes. Closing its socket takes
        // it out of epoll.
        self.clients.retain(|_, client| {
            let stays = self.now.since(client.heard_at) < idle;
            if !stays {
                self.numbers.remove(&client.address);
            }
            stays
        });
        let Some(interval) = self.rebind_interval() else { return };
        let is_due = |client: &Client| client.rebind_at.is_some_and(|at| at <= self.now);
        let due = self.clients.iter().filter(|(_, client)| is_due(client));
        let due: Vec<u64> = due.map(|(&number, _)| number).collect();
        for number in due {
            self.rebind(number, interval);
        }
    }

    fn rebind(&mut self, number: u64, interval: Duration) {
        let upstream = self.open_upstream(number);
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.rebind_at = Some(self.now + interval);
        let Some(upstream) = upstream else { return };
        let abandoned = std::mem::replace(&mut client.upstream, upstream);
        client.dropped = 0;
        // Both fail only for a descriptor that is none. What it holds already is lost, as behind a router.
        let _ = self.epoll.delete(&abandoned);
        let _ = socket::mute(&abandoned);
        client._abandoned = Some(abandoned);
        self.counters.rebinds += 1;
    }
}

impl Client {
    /// Sends to the server or to the client, and counts what came of it.
    fn send(
        &self,
        listening: &UdpSocket,
        way: Way,
        bytes: &[u8],
        copies: u8,
        counters: &mut WayCounters,
    ) {
        let send = || match way {
            Way::Up => self.upstream.send(bytes),
            Way::Down => listening.send_to(bytes, self.address),
        };
        for copy in 0..copies {
            let sent = match send() {
                // The refusal of an earlier datagram took the place of this one; the second attempt is its own.
                Err(error) if socket::is_of_an_earlier_one(&error) => send(),
                sent => sent,
            };
            let is_first = copy == 0;
            if sent.is_err() {
                counters.unsent += u64::from(is_first);
                continue;
            }
            counters.forwarded += u64::from(is_first);
            counters.duplicated += u64::from(!is_first);
            counters.bytes += bytes.len() as u64;
        }
    }
}

impl RelayCounters {
    fn way(&mut self, way: Way) -> &mut WayCounters {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// The kernel counts since the socket was made, and round once it has passed 32 bits.
fn count_dropped(counters: &mut WayCounters, before: &mut u32, dropped: Option<u32>) {
    if let Some(dropped) = dropped {
        counters.kernel_dropped += u64::from(dropped.wrapping_sub(*before));
        *before = dropped;
    }
}

/// Seeds of clients and ways that have nothing in common: neighbours would begin alike. Source: Steele, Lea, Flood 2014 (SplitMix64).
fn seed(seed: u64, client: u64, way: Way) -> u64 {
    let stream = client << 1 | u64::from(way == Way::Down);
    let mut mixed = seed.wrapping_add((stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
