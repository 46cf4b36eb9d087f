//! Thousands of clients on one thread: a UDP socket each, read through one ring of shared buffers.
//!
//! [`seats`] numbers who takes part, [`peer`] is one client, [`publication`] and [`received`] its streams, [`stamp`] what packets say,
//! [`frames`] whether they make pictures. The fleet owns sockets and time; signalling runs on a thread of its own.

mod crowd;
mod frames;
mod mirror;
pub mod peer;
mod publication;
pub mod received;
pub mod seats;
pub mod sockets;
pub mod stamp;
mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::clock::{self, Instant, NtpTime, WallClock};
use sluice_engine::dtls::Identity;
use sluice_engine::egress::Egress;
use sluice_engine::io::{Network, Wake, Window};
use sluice_engine::route::{PathId, Route, Transport};
use sluice_engine::wire::classify::{Kind, classify};
use sluice_engine::wire::rtp::RtpView;

use crate::conversation::Heard;
use crate::impair::Relay;
use crate::signalling::{ClientNumber, Signalling, public_address};
use crate::worker::protocol::{Assignment, Progress};
use crowd::MuteStep;
use mirror::Mirror;
use peer::{Opening, Peer, Stage};
use publication::Publication;
use seats::Seat;
use window::Tally;

/// The clients of one worker.
pub struct Fleet {
    assignment: Assignment,
    identity: Identity,
    rng: fastrand::Rng,
    network: Box<dyn Network>,
    egress: Egress,
    signalling: Signalling,
    ports: Vec<u16>,
    /// By socket.
    peers: Vec<Option<Peer>>,
    paths: Vec<Option<Path>>,
    /// Sockets that nobody uses, the longest idle first.
    free: VecDeque<u16>,
    /// Seats that nobody has taken yet, with the time from which somebody may.
    vacant: VecDeque<(Instant, Seat)>,
    joining: u32,
    /// Clients so far, those who left included.
    newcomers: u32,
    /// Publications by the time of their next packet.
    due: BinaryHeap<Reverse<Due>>,
    is_publishing: bool,
    next_scan: Instant,
    next_churn: Option<Instant>,
    /// When somebody mutes or unmutes next: a socket, which of its clients, and what comes next.
    mutes: BinaryHeap<Reverse<(Instant, u16, u32, MuteStep)>>,
    wall: WallClock,
    next_clock: Instant,
    /// By how much the controller's clock is ahead, nanoseconds.
    ahead_ns: i64,
    mirror: Mirror,
    /// One for each address of the server's.
    relays: BTreeMap<SocketAddr, Relay>,
    last_media: Instant,
    /// Datagrams that the egress had no room for, or that the kernel refused.
    unsent: u64,
    tally: Tally,
    progress: Progress,
}

/// Where a socket's client sends.
#[derive(Clone, Copy)]
struct Path {
    remote: SocketAddr,
    id: PathId,
}

/// A publication's next packet. Stale when the publication says otherwise.
type Due = (Instant, u16, u8);

/// Datagrams handled before timers are looked at again.
pub const BATCH: usize = 256;
/// How often the timers of all clients are looked through.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(10);
/// How often the wall clock is read anew: the host may slew it.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// A wall clock that moved this much against the monotonic one was set.
const CLOCK_STEP_NS: u64 = 1_000_000;
/// Addresses of one server that relays stand in front of.
const RELAYS_MAX: usize = 64;
/// A packet this much older than the run is none of ours.
const LATENCY_MAX: Duration = Duration::from_secs(60);

impl Fleet {
    /// Binds sockets and connects to the server's API.
    ///
    /// # Errors
    /// No sockets, mostly for want of descriptors; no certificate; or the server refused.
    pub fn new(assignment: Assignment) -> Result<Self, String> {
        if !assignment.allow_public
            && let Some(address) = public_address(&assignment.target)?
        {
            return Err(format!("{address} is a public address"));
        }
        let scenario = &assignment.scenario;
        scenario.check()?;
        let seats = seats::of_worker(scenario, assignment.worker, assignment.workers);
        let churning = scenario.churn.map_or(0.0, |churn| churn.per_second);
        let spare = sockets::spare(churning / f64::from(assignment.workers));
        let bound = sockets::bind(seats.len() + spare, sockets::is_ipv6(&assignment.target.url))?;
        let wake: Arc<dyn Wake> = bound.wake;
        let signalling = Signalling::start(&assignment.target, wake)?;
        let identity = Identity::generate().map_err(|e| format!("no certificate: {e:?}"))?;
        let clients = seats.len() + spare;
        let now = clock::now();
        let mut network = bound.network;
        let mirror = Mirror::new(&mut *network, &bound.addresses, clients);
        Ok(Self {
            rng: fastrand::Rng::with_seed(assignment.seed ^ u64::from(assignment.worker) << 32),
            identity,
            network,
            egress: sockets::egress(),
            signalling,
            ports: bound.addresses.iter().map(SocketAddr::port).collect(),
            peers: (0..clients).map(|_| None).collect(),
            paths: vec![None; clients],
            free: (0..clients as u16).collect(),
            vacant: seats.iter().map(|&seat| (now, seat)).collect(),
            joining: 0,
            newcomers: 0,
            due: BinaryHeap::new(),
            is_publishing: false,
            next_scan: now,
            next_churn: None,
            mutes: BinaryHeap::new(),
            wall: clock::wall_clock(),
            next_clock: now + CLOCK_INTERVAL,
            ahead_ns: 0,
            mirror,
            relays: BTreeMap::new(),
            last_media: now,
            unsent: 0,
            tally: Tally::new(now),
            progress: Progress::default(),
            assignment,
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let streams = self.peers.iter().flatten().flat_map(|peer| &peer.received);
        let (mut gaps, mut subscriptions) = (0, 0);
        for stream in streams {
            gaps += u64::try_from(stream.inbound.lost()).unwrap_or(0);
            subscriptions += u64::from(stream.stream.is_some());
        }
        Progress { gaps, subscriptions, ..self.progress }
    }

    /// The wall clock here, before it is set to the controller's.
    pub fn own_ntp(&self) -> NtpTime {
        self.wall.ntp(clock::now())
    }

    /// By how much the controller's wall clock is ahead of this host's.
    pub fn set_clock(&mut self, ahead_ns: i64) {
        self.ahead_ns = ahead_ns;
    }

    /// When the last media packet came.
    pub fn last_media(&self) -> Instant {
        self.last_media
    }

    /// The controller's wall clock at `now`.
    fn ntp(&self, now: Instant) -> NtpTime {
        self.wall.ntp(now).offset_nanos(self.ahead_ns)
    }

    /// Media on or off. A frame under way is sent to its end: half of one would be taken for a loss.
    pub fn publish(&mut self, on: bool) {
        if on == self.is_publishing {
            return;
        }
        self.is_publishing = on;
        let now = clock::now();
        let streams = self.peers.iter_mut().flatten().flat_map(|peer| &mut peer.received);
        for frames in streams.filter_map(|stream| stream.frames.as_mut()) {
            if on { frames.run(now) } else { frames.rest(now) }
        }
        if on {
            self.due.clear();
            for socket in 0..self.peers.len() {
                self.resume(socket, now, false);
            }
        } else {
            let peers = &self.peers;
            self.due.retain(|Reverse((_, socket, at))| {
                let peer = peers[usize::from(*socket)].as_ref();
                let publication = peer.and_then(|peer| peer.publications.get(usize::from(*at)));
                publication.is_some_and(Publication::is_within_frame)
            });
            self.tally.stop(now);
        }
    }

    /// Whether media is off, and the frames that were under way are sent.
    pub fn has_sent_all(&self) -> bool {
        !self.is_publishing && self.due.is_empty()
    }

    /// Puts the publications of a client, or only its audio, on the timetable.
    fn resume(&mut self, socket: usize, now: Instant, only_audio: bool) {
        let ntp = self.ntp(now);
        let Some(peer) = &mut self.peers[socket] else { return };
        if !self.is_publishing || peer.stage != Stage::Joined {
            return;
        }
        // The layers of a source are of one camera: they keep step.
        let mut phase = (None, 0.0);
        for (at, publication) in peer.publications.iter_mut().enumerate() {
            let is_audio = !publication.is_video();
            if peer.muted && is_audio || only_audio && !is_audio {
                continue;
            }
            if phase.0 != Some(publication.source) {
                phase = (Some(publication.source), self.rng.f64());
            }
            match self.assignment.scenario.screen.in_step && publication.is_video() {
                true => publication.resume_in_step(now, ntp),
                false => publication.resume(now, phase.1),
            }
            self.due.push(Reverse((publication.next_due(), socket as u16, at as u8)));
        }
    }

    /// Waits until something arrives, something is due, or it is `until`, and handles it.
    pub fn turn(&mut self, until: Instant) {
        let mut wake_at = until.min(self.next_scan);
        if let Some(Reverse((due, ..))) = self.due.peek() {
            wake_at = wake_at.min(*due);
        }
        self.network.wait(Some(wake_at.since(clock::now())), Window::NONE);
        self.send_due();
        while self.network.receive(BATCH) > 0 {
            self.take_datagrams();
            // What is due goes first: it carries the time of sending. Timers must not starve either.
            let now = clock::now();
            let is_due = self.due.peek().is_some_and(|Reverse((due, ..))| *due <= now);
            if is_due || self.next_scan <= now {
                break;
            }
        }
        while let Some((number, heard)) = self.signalling.poll() {
            self.hear(number, heard);
        }
        let now = clock::now();
        if self.next_scan <= now {
            self.next_scan = now + SCAN_INTERVAL;
            self.scan(now);
        }
        self.flush();
    }

    /// Sends the media that is due. It leaves at once: it carries the time of sending.
    fn send_due(&mut self) {
        loop {
            let now = clock::now();
            let Some(&Reverse((due, socket, at))) = self.due.peek() else { break };
            if due > now {
                break;
            }
            self.due.pop();
            let ntp = self.ntp(now);
            let (Some(peer), Some(path)) =
                (&mut self.peers[usize::from(socket)], self.paths[usize::from(socket)])
            else {
                continue;
            };
            let at = usize::from(at);
            // An entry of before a pause, or of somebody who sat here before, does not fit.
            let fits = |publication: &Publication| publication.next_due() == due;
            let is_muted = peer.muted;
            match peer.publications.get(at) {
                Some(publication) if fits(publication) && (publication.is_video() || !is_muted) => {
                }
                _ => continue,
            }
            peer.send_next(at, now, ntp, &mut sink(&mut self.egress, Some(path)));
            self.progress.packets_sent += 1;
            let publication = &peer.publications[at];
            if self.is_publishing || publication.is_within_frame() {
                self.due.push(Reverse((publication.next_due(), socket, at as u8)));
            }
            // By itself: browsers and pion send each packet with a call of its own. Packets that leave as one run of
            // segments would cross loopback as one, and so flatter every server.
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.egress.is_empty() {
            self.network.flush(&mut self.egress);
            // What the kernel refused was not sent.
            let refused = std::mem::take(&mut self.egress.drops);
            self.unsent += refused.iter().map(|(_, count)| count).sum::<u64>();
        }
    }

    fn take_datagrams(&mut self) {
        let now = clock::now();
        let wall = self.ntp(now);
        let threshold = (self.assignment.verify * f64::from(u32::MAX)) as u32;
        loop {
            let arrived = self.network.next_arrival().map(|ntp| ntp.offset_nanos(self.ahead_ns));
            let Some((route, datagram)) = self.network.next_datagram() else { break };
            let arrived = arrived.unwrap_or(wall);
            // The moment it came, on the clock of all that is timed here.
            let waited = u64::try_from(wall.nanos_since(arrived)).unwrap_or(0);
            let at = now - Duration::from_nanos(waited);
            let socket = usize::from(route.local);
            let is_media = classify(datagram) == Some(Kind::Rtp);
            let Some(Some(peer)) = self.peers.get_mut(socket) else {
                if let Some(error) = self.mirror.take(socket, datagram, arrived) {
                    self.tally.window.clock_error.add(error);
                }
                continue;
            };
            let path = self.paths[socket];
            if !is_media {
                let mut send = sink(&mut self.egress, path);
                peer.handle_datagram(now, datagram, &mut send);
                Self::settle(peer, socket, now, &self.assignment, &mut self.signalling, &mut send);
                drop(send);
                if peer.stage == Stage::Joining {
                    self.advance(socket, now);
                }
                continue;
            }
            if peer.stage == Stage::Leaving {
                // What was under way to somebody who has left is nobody's.
                continue;
            }
            self.last_media = now;
            self.progress.packets_received += 1;
            let Some((position, opening)) = peer.count(at, datagram, &self.assignment.scenario)
            else {
                self.tally.strange += 1;
                continue;
            };
            // By chance alone: a latency of each stream's first packets, too, would be one of beginnings.
            let is_sampled = self.rng.u32(..) < threshold;
            if opening == Opening::Always || opening == Opening::Sample && is_sampled {
                let refused = peer.media.as_ref().map_or(0, |media| media.refused);
                let send = &mut sink(&mut self.egress, path);
                peer.handle_datagram(now, datagram, send);
                self.tally.window.verified += 1;
                if peer.media.as_ref().is_some_and(|media| media.refused > refused) {
                    self.tally.damage("a packet did not open");
                }
                let latency_of = is_sampled.then_some(arrived);
                Self::check(peer, position, latency_of, &self.assignment, &mut self.tally);
            }
            if let Some(took) = peer.take_first_frame(at) {
                self.tally.first_frame.add(took);
            }
        }
    }

    /// Looks at what was opened of a stream; `arrived` when its latency counts.
    fn check(
        peer: &mut Peer,
        position: usize,
        arrived: Option<NtpTime>,
        assignment: &Assignment,
        tally: &mut Tally,
    ) {
        let opened = peer.media.as_mut().map(|media| std::mem::take(&mut media.received));
        for received in opened.into_iter().flatten() {
            let Ok(view) = RtpView::parse(&received.packet) else {
                tally.damage("a packet has no RTP header after it was opened");
                continue;
            };
            let Some(stamp) = stamp::read(view.payload()) else {
                tally.damage("a payload is not what any publisher sent");
                continue;
            };
            if seats::call_of(&assignment.scenario, stamp.stream) != peer.seat.call {
                tally.damage("a packet of another call");
            }
            if let Some(arrived) = arrived {
                let latency = u64::try_from(arrived.nanos_since(stamp.sent_at));
                match latency.map(Duration::from_nanos) {
                    Ok(latency) if latency <= LATENCY_MAX => tally.window.latency.add(latency),
                    _ => tally.impossible += 1,
                }
            }
            // A receiver of simulcast goes from layer to layer under one SSRC.
            peer.received[position].stream = Some(stamp.stream);
            if seats::is_video(stamp.stream) && stamp::begins_keyframe(view.payload()) {
                peer.note_keyframe(position, view.header().timestamp);
            }
        }
    }

    fn hear(&mut self, number: ClientNumber, heard: Heard) {
        let socket = number.0 as usize;
        let now = clock::now();
        let Some(Some(peer)) = self.peers.get_mut(socket) else { return };
        peer.conversation.handle(now, heard);
        self.serve(socket, now);
        self.advance(socket, now);
    }

    /// Fulfils what a client wishes, and notes what became of it.
    fn serve(&mut self, socket: usize, now: Instant) {
        let Some(Some(peer)) = self.peers.get_mut(socket) else { return };
        let mut send = sink(&mut self.egress, self.paths[socket]);
        Self::settle(peer, socket, now, &self.assignment, &mut self.signalling, &mut send);
        drop(send);
        self.open_path(socket);
    }

    /// Carries out all wishes of a client.
    fn settle(
        peer: &mut Peer,
        socket: usize,
        now: Instant,
        assignment: &Assignment,
        signalling: &mut Signalling,
        send: peer::Send,
    ) {
        while let Some(wish) = peer.conversation.poll_wish() {
            if let Some(wish) = peer.fulfil(now, wish, assignment, send) {
                signalling.send(ClientNumber(socket as u32), wish);
            }
        }
    }

    /// Points a client's socket at the address of the server that it tries.
    fn open_path(&mut self, socket: usize) {
        let Some(Some(peer)) = self.peers.get(socket) else { return };
        let Some(address) = peer.address() else { return };
        let remote = match self.by_way_of(address) {
            Ok(remote) => remote,
            Err(why) => {
                if let Some(Some(peer)) = self.peers.get_mut(socket) {
                    peer.failed.get_or_insert(format!("the relay: {why}"));
                }
                return;
            }
        };
        if self.paths[socket].is_some_and(|path| path.remote == remote) {
            return;
        }
        if let Some(before) = self.paths[socket].take() {
            self.network.close_path(before.id);
        }
        let route = Route { transport: Transport::Udp, local: socket as u16, remote };
        let id = self.network.open_path(route);
        self.paths[socket] = Some(Path { remote, id });
        // The first check waits for nothing else.
        let (now, ntp) = (clock::now(), self.ntp(clock::now()));
        if let Some(Some(peer)) = self.peers.get_mut(socket) {
            let mut send = sink(&mut self.egress, self.paths[socket]);
            peer.handle_timeout(now, ntp, &self.assignment.scenario, &mut send);
        }
    }

    /// The address that stands for the server's: that of a relay, if the scenario wants one.
    ///
    /// # Errors
    /// There can be no relay; why, for people.
    fn by_way_of(&mut self, server: SocketAddr) -> Result<SocketAddr, String> {
        let Some(impair) = &self.assignment.scenario.impair else { return Ok(server) };
        if let Some(relay) = self.relays.get(&server) {
            return Ok(relay.address());
        }
        if self.relays.len() >= RELAYS_MAX {
            return Err(format!("the server has more than {RELAYS_MAX} addresses for media"));
        }
        let relay = Relay::start(sockets::relay_address(server), server, impair)?;
        let address = relay.address();
        self.relays.insert(server, relay);
        Ok(address)
    }

    fn scan(&mut self, now: Instant) {
        if self.next_clock <= now {
            self.next_clock = now + CLOCK_INTERVAL;
            let fresh = clock::wall_clock();
            let moved = fresh.ntp(now).nanos_since(self.wall.ntp(now));
            self.tally.window.clock_steps += u32::from(moved.unsigned_abs() > CLOCK_STEP_NS);
            self.wall = fresh;
        }
        let ntp = self.ntp(now);
        for socket in 0..self.peers.len() {
            let Some(peer) = &mut self.peers[socket] else { continue };
            let mut send = sink(&mut self.egress, self.paths[socket]);
            peer.handle_timeout(now, ntp, &self.assignment.scenario, &mut send);
            drop(send);
            self.serve(socket, now);
            self.advance(socket, now);
            self.forget_if_gone(socket, now);
            if self.egress.is_crowded() {
                self.flush();
            }
        }
        self.admit(now);
        self.churn(now);
        self.mute(now);
        // As media does, the mirror's datagram leaves at once after it was stamped.
        self.flush();
        let ntp = self.ntp(clock::now());
        self.mirror.send(now, ntp, &mut self.egress);
        self.flush();
    }
}

/// Puts datagrams of a client into the egress, which counts what it has no room for.
fn sink(egress: &mut Egress, path: Option<Path>) -> impl FnMut(&[u8]) {
    move |datagram| {
        if let Some(path) = path {
            egress.push(path.id, datagram);
        }
    }
}
