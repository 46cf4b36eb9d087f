//! A whole call without a kernel: shards, clients and a bad network on a virtual clock, all from one seed.
//!
//! Every step checks what must never happen (nonces used twice, media across calls, a byte to an address that proved nothing), so a
//! test only says what happens and what must come of it.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sluice_engine::bwe::feedback::ArrivalLog;
use sluice_engine::clock::{Instant, NtpTime, WallClock};
use sluice_engine::command_error::CommandError;
use sluice_engine::config::EngineConfig;
use sluice_engine::dtls::DtlsRole;
use sluice_engine::dtls::Identity;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{
    CallId, ExtSeqNum, LegId, Mid, PayloadType, RtpTime, SeqNum, SessionId, ShardId, Ssrc, TallyId,
    TrackId,
};
use sluice_engine::route::{Route, Transport};
use sluice_engine::rtp::missing::MissingList;
use sluice_engine::session::params::{
    CodecParams, LegParams, MediaKind, PayloadMap, RemoteParams, SessionParams, TrackParams,
};
use sluice_engine::shard::handle::{Envelope, Reports};
use sluice_engine::shard::mailbox::{Answer, Command, Report, ShardSnapshot};
use sluice_engine::shard::steering::Steering;
use sluice_engine::shard::{NextWake, Shard, ShardParts};
use sluice_engine::testing::client::{Client, ClientParams};
use sluice_engine::testing::net::SimNetwork;
use sluice_engine::wire::classify::{Kind, classify};
use sluice_engine::wire::payload::PayloadFormat;
use sluice_engine::wire::rtcp::{self, Packet, nack, pli, rr};
use sluice_engine::wire::rtp::{FixedHeader, RtpHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter};

mod simulcast;

pub use simulcast::{Layered, Link, Part};

/// What the network does to each datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    pub loss: f64,
    pub duplicate: f64,
    /// Share of datagrams that take up to `jitter` longer.
    pub reorder: f64,
    pub jitter: Duration,
    pub delay: Duration,
}

/// What is published of each kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Media {
    Audio,
    Video,
}

impl Media {
    /// Ticks of the media clock from one packet to the next.
    fn ticks(self) -> u32 {
        match self {
            Self::Audio => 960,
            Self::Video => 990,
        }
    }

    fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Audio => 48_000,
            Self::Video => 90_000,
        }
    }
}

pub const AUDIO: PayloadType = PayloadType(111);
pub const VIDEO: PayloadType = PayloadType(96);
pub const VIDEO_RTX: PayloadType = PayloadType(97);
const AUDIO_OUT: PayloadType = PayloadType(109);
const VIDEO_OUT: PayloadType = PayloadType(120);
const VIDEO_OUT_RTX: PayloadType = PayloadType(121);

pub struct World {
    pub seed: u64,
    pub now: Instant,
    pub rng: fastrand::Rng,
    pub conditions: Conditions,
    pub shards: Vec<SimShard>,
    pub peers: Vec<Peer>,
    pub reports: Arc<Mutex<Vec<Report>>>,
    /// Whether control takes no reports for now.
    pub reports_stuck: Arc<AtomicBool>,
    /// What is published: where, and as what.
    pub tracks: HashMap<TrackId, (usize, Arc<TrackParams>)>,
    /// The rings of one shard more than there are, for a test that says what it likes to the others.
    pub elsewhere: Steering,
    /// Shards that do nothing for now.
    pub stalled: Vec<usize>,
    /// Whether sessions made from here on may have data channels.
    pub data_channels: bool,
    server: Identity,
    queue: BinaryHeap<Flight>,
    order: u64,
    next_id: u64,
    /// Addresses from which the shards got an authenticated check.
    proven: HashSet<SocketAddr>,
    /// Everything that was sealed, per subscriber's address book entry: (peer, SSRC, index) → bytes.
    sealed: HashMap<(usize, Ssrc, u64), u64>,
    sealed_rtcp: HashMap<(usize, Ssrc, u32), u64>,
    highest: HashMap<(usize, Ssrc), ExtSeqNum>,
    /// Publishers change their SSRCs, and with them the shift of their timestamps.
    pub sources_change: bool,
    /// Legs carry transport-wide numbers, and receivers tell when they came.
    pub transport_cc: bool,
    /// Turns of a shard in a millisecond; one that has not come to rest by then is overloaded. 0: as many as it takes.
    pub turns_max: usize,
    /// Bytes that the shards sent to each address.
    pub sent_to: HashMap<SocketAddr, u64>,
    /// Hash of when which kind of datagram went out and which were lost: tells two runs apart.
    pub course: u64,
}

pub struct SimShard {
    pub shard: Shard,
    pub network: SimNetwork,
    mailbox: SyncSender<Envelope>,
}

/// One participant: a client, and what signalling keeps of it.
pub struct Peer {
    pub client: Client,
    pub call: CallId,
    pub session: SessionId,
    /// The shard that owns the session.
    pub home: usize,
    /// The shard whose socket the kernel gives the client's datagrams to.
    pub kernel_shard: usize,
    pub address: SocketAddr,
    pub publications: Vec<Publication>,
    pub subscriptions: Vec<Subscription>,
    pub gone: bool,
    /// Counters of what was received, by (publisher session, kind).
    pub got: BTreeMap<(u64, Media), Vec<u32>>,
    ssrcs: u32,
    missing: BTreeMap<Ssrc, (MissingList, ExtSeqNum)>,
    /// Outgoing less published timestamp of each stream: it never changes while the publisher keeps its SSRC.
    shifts: BTreeMap<Ssrc, u32>,
    /// The newest timestamp of each stream, and when it came.
    newest: BTreeMap<Ssrc, (RtpTime, Instant, u32)>,
    next_feedback: Instant,
    next_report: Instant,
    pub plis: usize,
    pub nacks: usize,
    /// Video packets with RTP padding that came.
    pub padded: usize,
    /// Whether losses are asked for again.
    pub repairs: bool,
    /// What the peer publishes in simulcast.
    pub layered: Option<Layered>,
    /// The way to the peer, where it is a narrow one.
    pub link: Option<Link>,
    /// What came of tracks in simulcast, by leg and number.
    pub parts: BTreeMap<Ssrc, BTreeMap<u64, Part>>,
    arrivals: ArrivalLog,
}

pub struct Publication {
    pub media: Media,
    pub track: TrackId,
    pub mid: Mid,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Ssrc,
    pub sent: u32,
    pub paused: bool,
    next_at: Instant,
    index: ExtSeqNum,
    rtx_index: ExtSeqNum,
    kept: BTreeMap<u16, Vec<u8>>,
    /// Whether the server reported on the stream: until then it may not know whose it is.
    is_reported_on: bool,
}

pub struct Subscription {
    pub track: TrackId,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Option<Ssrc>,
    pub mid: Mid,
}

struct Flight {
    at: Instant,
    order: u64,
    bytes: Vec<u8>,
    to: Destination,
}

#[derive(Clone, Copy)]
enum Destination {
    Shard(usize, Route),
    Peer(usize),
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Takes reports, unless control is to be slow.
struct Collect(Arc<Mutex<Vec<Report>>>, Arc<AtomicBool>);

impl Reports for Collect {
    fn try_report(&mut self, report: Report) -> Result<(), Report> {
        if self.1.load(Ordering::Relaxed) {
            return Err(report);
        }
        self.0.lock().expect("unpoisoned").push(report);
        Ok(())
    }
}

/// Certificates are dear to make, and no test depends on which one a peer has; the waits of their handshakes come from `seed`.
fn identity(of: usize, seed: u64) -> Identity {
    static MADE: OnceLock<Vec<Identity>> = OnceLock::new();
    let made = MADE.get_or_init(|| (0..2).map(|_| Identity::generate().expect("made")).collect());
    made[of].with_seeded_handshakes(seed).expect("the library works")
}

impl World {
    pub fn new(seed: u64, shards: usize, config: EngineConfig) -> Self {
        let now = Instant::from_start(Duration::from_secs(1_000));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let reports_stuck = Arc::new(AtomicBool::new(false));
        let server = identity(0, seed);
        let wall = WallClock::fixed(now, NtpTime(3_900_000_000 << 32));
        let mut rings = Steering::mesh(shards + 1);
        let elsewhere = rings.pop().expect("one more");
        let shards = rings.into_iter().enumerate().map(|(index, steering)| {
            let (mailbox, orders) = sync_channel(1_024);
            let parts = ShardParts {
                id: ShardId(index as u16),
                config: config.clone(),
                identity: Arc::new(server.clone()),
                wall,
                seed: seed.wrapping_add(index as u64),
                steering,
                mailbox: orders,
                reports: Box::new(Collect(Arc::clone(&reports), Arc::clone(&reports_stuck))),
            };
            SimShard { shard: Shard::new(now, parts), network: SimNetwork::default(), mailbox }
        });
        Self {
            seed,
            now,
            rng: fastrand::Rng::with_seed(seed),
            conditions: Conditions::default(),
            shards: shards.collect(),
            peers: Vec::new(),
            reports,
            reports_stuck,
            tracks: HashMap::new(),
            elsewhere,
            stalled: Vec::new(),
            data_channels: true,
            server,
            queue: BinaryHeap::new(),
            order: 0,
            next_id: 1,
            proven: HashSet::new(),
            sealed: HashMap::new(),
            sealed_rtcp: HashMap::new(),
            highest: HashMap::new(),
            sources_change: false,
            transport_cc: false,
            turns_max: 0,
            sent_to: HashMap::new(),
            course: 0,
        }
    }

    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends one command to a shard and turns it until it is answered.
    pub fn command(&mut self, shard: usize, command: Command) -> Result<Answer, CommandError> {
        let (envelope, mut reply) = Envelope::new(command);
        assert!(self.shards[shard].mailbox.try_send(envelope).is_ok(), "the mailbox has room");
        self.turn(shard);
        reply.try_recv().expect("the shard lives").expect("answered within a turn")
    }

    pub fn snapshot(&mut self, shard: usize) -> ShardSnapshot {
        match self.command(shard, Command::Snapshot { sessions: true }) {
            Ok(Answer::Snapshot(snapshot)) => *snapshot,
            other => panic!("no snapshot but {other:?}"),
        }
    }

    fn credentials(&mut self, shard: usize) -> Credentials {
        let rng = &mut self.rng;
        Credentials::generate(ShardId(shard as u16), &mut |bytes: &mut [u8]| rng.fill(bytes))
    }

    /// A new participant: its session is made and its client starts to check.
    pub fn join(&mut self, call: u64, home: usize, kernel_shard: usize) -> usize {
        let session = SessionId(self.fresh_id());
        let (local, remote) = (self.credentials(home), self.credentials(home));
        let at = self.peers.len();
        let port = 10_000 + at as u16;
        let address = match at % 3 {
            0 => SocketAddr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), port),
            _ => SocketAddr::new([198, 51, 100, 1].into(), port),
        };
        let active = at % 4 == 3;
        let params = SessionParams {
            data_channels: self.data_channels,
            session,
            call: CallId(call),
            local_ice: local.clone(),
            remote: Some(RemoteParams {
                ice: remote.clone(),
                fingerprints: vec![identity(1, 0).fingerprint().clone()],
                dtls_role: if active { DtlsRole::Active } else { DtlsRole::Passive },
            }),
            cname: "server".to_owned(),
        };
        self.command(home, Command::AddSession(Box::new(params))).expect("room for a session");
        let client = ClientParams {
            identity: identity(1, self.rng.u64(..)),
            local: remote,
            remote: local,
            fingerprint: self.server.fingerprint().clone(),
            dtls_role: if active { DtlsRole::Passive } else { DtlsRole::Active },
            seed: self.rng.u64(..),
        };
        self.peers.push(Peer {
            client: Client::new(self.now, client),
            call: CallId(call),
            session,
            home,
            kernel_shard,
            address,
            publications: Vec::new(),
            subscriptions: Vec::new(),
            gone: false,
            got: BTreeMap::new(),
            ssrcs: 0,
            missing: BTreeMap::new(),
            shifts: BTreeMap::new(),
            newest: BTreeMap::new(),
            next_feedback: self.now,
            next_report: self.now,
            plis: 0,
            nacks: 0,
            padded: 0,
            repairs: true,
            layered: None,
            link: None,
            parts: BTreeMap::new(),
            arrivals: ArrivalLog::new(),
        });
        at
    }

    /// A session whose peer has not answered yet, and the answer to come.
    pub fn add_waiting_session(&mut self, call: u64) -> (SessionId, RemoteParams) {
        let session = SessionId(self.fresh_id());
        let (local, remote) = (self.credentials(0), self.credentials(0));
        let params = SessionParams {
            data_channels: false,
            session,
            call: CallId(call),
            local_ice: local,
            remote: None,
            cname: "server".to_owned(),
        };
        self.command(0, Command::AddSession(Box::new(params))).expect("room for a session");
        let remote = RemoteParams {
            ice: remote,
            fingerprints: vec![identity(1, 0).fingerprint().clone()],
            dtls_role: DtlsRole::Passive,
        };
        (session, remote)
    }

    /// The peer publishes one more track.
    pub fn publish(&mut self, peer: usize, media: Media) -> TrackId {
        let track = TrackId(self.fresh_id());
        let mid = Mid::new(&format!("p{}", self.peers[peer].publications.len())).expect("a mid");
        let ssrc = Ssrc(self.rng.u32(1..));
        let rtx_ssrc = Ssrc(self.rng.u32(1..));
        let codec = CodecParams {
            payload_type: if media == Media::Audio { AUDIO } else { VIDEO },
            clock_rate_hz: if media == Media::Audio { 48_000 } else { 90_000 },
            format: PayloadFormat::Other,
            rtx: (media == Media::Video).then_some(VIDEO_RTX),
            nack: media == Media::Video,
            pli: media == Media::Video,
            transport_cc: true,
        };
        let params = TrackParams {
            layers: Vec::new(),
            voice_activity: media == Media::Audio,
            tally: TallyId::default(),
            track,
            mid,
            kind: if media == Media::Audio { MediaKind::Audio } else { MediaKind::Video },
            codecs: vec![codec],
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            extensions: publisher_extensions(),
        };
        self.add_track(peer, params);
        // Shortly before the roll-over, so that most runs cross it. Once media flows a client may lose its path before the
        // first packet gets through, and so starts in the lower half, as RFC 3711 §3.3.1 has it and browsers do.
        let first = if self.peers[peer].client.is_connected() { 0..32_768 } else { 65_000..65_400 };
        let index = ExtSeqNum(u64::from(self.rng.u16(first)));
        let rtx_index = ExtSeqNum(u64::from(self.rng.u16(0..32_768)));
        let next_at = self.now;
        self.peers[peer].publications.push(Publication {
            media,
            track,
            mid,
            ssrc,
            rtx_ssrc,
            sent: 0,
            paused: false,
            next_at,
            index,
            rtx_index,
            kept: BTreeMap::new(),
            is_reported_on: false,
        });
        track
    }

    fn add_track(&mut self, peer: usize, params: TrackParams) {
        let (home, session) = (self.peers[peer].home, self.peers[peer].session);
        self.tracks.insert(params.track, (home, Arc::new(params.clone())));
        self.command(home, Command::AddTrack { session, track: Box::new(params) }).expect("added");
    }

    /// The command that gives a session on shard `home` a leg of a track, wherever that is published.
    pub fn add_leg(&self, home: usize, session: SessionId, leg: LegParams) -> Command {
        let leg = Box::new(leg);
        match self.tracks.get(&leg.track) {
            Some((at, track)) if *at != home => Command::AddRelayedLeg {
                session,
                leg,
                home: ShardId(*at as u16),
                track: Arc::clone(track),
            },
            _ => Command::AddLeg { session, leg },
        }
    }

    /// The peer gets a track; `rtx` says whether it negotiated retransmission streams.
    pub fn subscribe(&mut self, peer: usize, track: TrackId, rtx: bool) -> LegId {
        let params = self.leg_of(peer, track, rtx);
        let leg = params.leg;
        let (home, session) = (self.peers[peer].home, self.peers[peer].session);
        let command = self.add_leg(home, session, params);
        self.command(home, command).expect("a leg");
        leg
    }

    /// The next leg that a peer negotiates.
    pub fn leg_of(&mut self, peer: usize, track: TrackId, rtx: bool) -> LegParams {
        let leg = LegId(self.fresh_id());
        let subscriber = &mut self.peers[peer];
        subscriber.ssrcs += 2;
        let ssrc = Ssrc(subscriber.ssrcs);
        let rtx_ssrc = rtx.then_some(Ssrc(subscriber.ssrcs + 1));
        let mid = Mid::new(&format!("s{}", subscriber.subscriptions.len())).expect("a mid");
        let maps = [(AUDIO, AUDIO_OUT, None), (VIDEO, VIDEO_OUT, Some(VIDEO_OUT_RTX))];
        let payload_types =
            maps.map(|(from, to, r)| PayloadMap { from, to, rtx: r.filter(|_| rtx) });
        let mut extensions = ExtensionMap::default();
        extensions.set(Extension::Mid, 9);
        extensions.set(Extension::AudioLevel, 2);
        if self.transport_cc {
            extensions.set(Extension::TransportCc, 12);
        }
        subscriber.subscriptions.push(Subscription { track, ssrc, rtx_ssrc, mid });
        LegParams {
            leg,
            track,
            mid,
            ssrc,
            rtx_ssrc,
            payload_types: payload_types.to_vec(),
            extensions,
            cname: "publisher".to_owned(),
        }
    }

    /// Mutes or unmutes one of a peer's publications.
    pub fn set_muted(&mut self, peer: usize, publication: usize, muted: bool) {
        let Peer { home, session, publications, .. } = &self.peers[peer];
        let (home, session, track) = (*home, *session, publications[publication].track);
        self.command(home, Command::SetMuted { session, track, muted }).expect("a track");
    }

    /// Everyone in the call gets what everyone else in it publishes.
    pub fn subscribe_all(&mut self, call: u64, rtx: bool) {
        let members: Vec<_> = (0..self.peers.len())
            .filter(|&p| self.peers[p].call == CallId(call) && !self.peers[p].gone)
            .collect();
        for &subscriber in &members {
            for &publisher in members.iter().filter(|&&p| p != subscriber) {
                let Peer { publications, layered, .. } = &self.peers[publisher];
                let tracks = publications.iter().map(|p| p.track);
                let tracks: Vec<_> = tracks.chain(layered.iter().map(|l| l.track)).collect();
                for track in tracks {
                    let has = self.peers[subscriber].subscriptions.iter().any(|s| s.track == track);
                    if !has {
                        self.subscribe(subscriber, track, rtx);
                    }
                }
            }
        }
    }

    /// Signalling ends the peer's session.
    pub fn leave(&mut self, peer: usize) {
        let (home, session) = (self.peers[peer].home, self.peers[peer].session);
        self.peers[peer].gone = true;
        let tracks: Vec<_> = self.peers[peer].publications.iter().map(|p| p.track).collect();
        for other in &mut self.peers {
            other.subscriptions.retain(|s| !tracks.contains(&s.track));
        }
        self.command(home, Command::RemoveSession { session }).expect("the session is there");
    }

    /// New ICE credentials on both sides.
    pub fn restart_ice(&mut self, peer: usize) {
        let home = self.peers[peer].home;
        let (local, remote) = (self.credentials(home), self.credentials(home));
        let session = self.peers[peer].session;
        self.command(home, Command::RestartIce { session, local: local.clone() }).expect("restart");
        let remote_params = RemoteParams {
            ice: remote.clone(),
            fingerprints: vec![identity(1, 0).fingerprint().clone()],
            dtls_role: if peer % 4 == 3 { DtlsRole::Active } else { DtlsRole::Passive },
        };
        self.command(home, Command::SetRemote { session, remote: Box::new(remote_params) })
            .expect("the peer's half");
        let now = self.now;
        self.peers[peer].client.restart_ice(now, remote, local);
    }

    /// Runs for `time`, a millisecond at a step.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            self.deliver();
            for peer in 0..self.peers.len() {
                self.act(peer);
            }
            for shard in
                (0..self.shards.len()).filter(|at| !self.stalled.contains(at)).collect::<Vec<_>>()
            {
                self.turn(shard);
            }
        }
    }

    /// Runs until `done` holds; panics with the seed when that takes longer than `time`.
    pub fn run_until(&mut self, time: Duration, what: &str, done: impl Fn(&World) -> bool) {
        let end = self.now + time;
        while !done(self) {
            assert!(self.now < end, "seed {}: {what} took longer than {time:?}", self.seed);
            self.run(Duration::from_millis(10));
        }
    }

    pub fn connect_all(&mut self) {
        self.run_until(Duration::from_secs(20), "connecting", |world| {
            world.peers.iter().all(|peer| peer.gone || peer.client.is_connected())
        });
    }

    fn turn(&mut self, shard: usize) {
        for turn in 1..=1_000 {
            let SimShard { shard: core, network, .. } = &mut self.shards[shard];
            let next = core.turn(self.now, network);
            self.collect(shard);
            if next != NextWake::Now || turn == self.turns_max {
                return;
            }
        }
        panic!("seed {}: shard {shard} never comes to rest", self.seed);
    }

    fn collect(&mut self, shard: usize) {
        while let Some((route, bytes)) = self.shards[shard].network.sent.pop_front() {
            self.audit(&route, &bytes);
            let to = self.peers.iter().rposition(|peer| peer.address == route.remote);
            if let Some(peer) = to {
                self.launch(bytes, Destination::Peer(peer));
            }
        }
    }

    /// Puts a datagram on its way, or does not.
    fn launch(&mut self, bytes: Vec<u8>, to: Destination) {
        let Conditions { loss, duplicate, reorder, jitter, delay } = self.conditions;
        let millis = self.now.since(Instant::from_start(Duration::ZERO)).as_millis() as u64;
        let step = [self.course, millis, self.order, bytes[0].into()].map(u64::to_be_bytes);
        self.course = fnv(step.as_flattened());
        let mut passed = Some(self.now);
        if let Destination::Peer(peer) = to
            && let Some(link) = &mut self.peers[peer].link
        {
            passed = link.pass(self.now, bytes.len());
        }
        let Some(passed) = passed else { return };
        let copies = 1 + usize::from(self.rng.f64() < duplicate);
        for _ in 0..copies {
            if self.rng.f64() < loss {
                continue;
            }
            let mut at = passed + delay;
            if self.rng.f64() < reorder {
                at = at + jitter.mul_f64(self.rng.f64());
            }
            self.order += 1;
            self.queue.push(Flight { at, order: self.order, bytes: bytes.clone(), to });
        }
    }

    /// A datagram that no peer of the world sent: noise, or an attacker.
    pub fn inject(&mut self, shard: usize, remote: SocketAddr, bytes: Vec<u8>) {
        let route = Route { transport: Transport::Udp, local: 0, remote };
        self.shards[shard].network.arrived.push_back((route, bytes));
    }

    fn deliver(&mut self) {
        while self.queue.peek().is_some_and(|flight| flight.at <= self.now) {
            let Some(flight) = self.queue.pop() else { return };
            match flight.to {
                Destination::Shard(shard, route) => {
                    if classify(&flight.bytes) == Some(Kind::Stun) {
                        self.proven.insert(route.remote);
                    }
                    self.shards[shard].network.arrived.push_back((route, flight.bytes));
                }
                Destination::Peer(peer) => self.hand_to_peer(peer, flight.bytes),
            }
        }
    }

    fn hand_to_peer(&mut self, peer: usize, mut bytes: Vec<u8>) {
        if self.peers[peer].gone {
            return;
        }
        let mut out = Vec::new();
        let now = self.now;
        self.peers[peer].client.handle_datagram(now, &mut bytes, &mut |datagram: &[u8]| {
            out.push(datagram.to_vec());
        });
        self.take_in(peer, &mut out);
        self.send_all(peer, out);
    }

    /// Has a peer's client do something, and sends what comes of it.
    pub fn with_client<T>(
        &mut self,
        peer: usize,
        act: impl FnOnce(&mut Client, Instant, &mut dyn FnMut(&[u8])) -> T,
    ) -> T {
        let mut out = Vec::new();
        let done = act(&mut self.peers[peer].client, self.now, &mut |d| out.push(d.to_vec()));
        self.send_all(peer, out);
        done
    }

    fn send_all(&mut self, peer: usize, datagrams: Vec<Vec<u8>>) {
        let Peer { address, kernel_shard, .. } = self.peers[peer];
        let route = Route { transport: Transport::Udp, local: 0, remote: address };
        for bytes in datagrams {
            self.launch(bytes, Destination::Shard(kernel_shard, route));
        }
    }

    /// Looks at what the client decrypted: is it meant for this peer, and what has the peer to do?
    fn take_in(&mut self, at: usize, out: &mut Vec<Vec<u8>>) {
        let seed = self.seed;
        let now = self.now;
        let layered: Vec<_> =
            self.peers.iter().filter_map(|p| p.layered.as_ref().map(|l| l.track)).collect();
        let received = std::mem::take(&mut self.peers[at].client.received);
        for rtp in received {
            let view = RtpView::parse(&rtp.packet).expect("the server sends well-formed packets");
            let header = view.header();
            let peer = &mut self.peers[at];
            peer.padded += usize::from(view.padding_len() > 0);
            let media = peer.subscriptions.iter().find(|s| s.ssrc == header.ssrc);
            let repair = peer.subscriptions.iter().find(|s| s.rtx_ssrc == Some(header.ssrc));
            let (subscription, payload, index) = match (media, repair) {
                (Some(subscription), _) => (subscription, view.payload(), Some(rtp.index)),
                (None, Some(subscription)) => {
                    assert_eq!(header.payload_type, VIDEO_OUT_RTX, "seed {seed}");
                    let payload = view.payload().get(2..).expect("an original sequence number");
                    (subscription, payload, None)
                }
                // A leg that was just removed may still have packets on the way.
                (None, None) => continue,
            };
            let track = subscription.track;
            let ssrc = subscription.ssrc;
            let mut audio_level = None;
            if let Some((profile, block)) = view.extension() {
                for (id, value) in sluice_engine::wire::rtp_ext::elements(profile, block) {
                    match id {
                        9 => assert_eq!(value, subscription.mid.as_bytes(), "seed {seed}"),
                        2 => audio_level = Some(value),
                        12 if self.transport_cc => {
                            let seq = u16::from_be_bytes(value.try_into().expect("two bytes"));
                            peer.arrivals.on_packet(now, seq);
                        }
                        other => panic!("seed {seed}: extension {other} was not negotiated"),
                    }
                }
            }
            if layered.contains(&track) {
                let index = peer.note_video(now, ssrc, index, view.payload());
                let whole = peer.take_part(now, ssrc, index, &header, payload);
                assert!(whole.is_some(), "seed {seed}: damaged");
                let fresh = (header.timestamp, now, 90_000);
                let newest = peer.newest.entry(ssrc).or_insert(fresh);
                if header.timestamp.since(newest.0) > 0 {
                    *newest = fresh;
                }
                continue;
            }
            let content = Content::read(payload).unwrap_or_else(|| panic!("seed {seed}: damaged"));
            assert_eq!(content.call, peer.call.0, "seed {seed}: a packet of another call");
            assert_ne!(content.session, peer.session.0, "seed {seed}: a peer's own packet");
            assert_eq!(content.track, track.0, "seed {seed}: not this leg's track");
            let level = [level(content.counter)];
            assert!(audio_level.is_none_or(|l| l == level), "seed {seed}: the audio level is kept");
            let published = content.counter.wrapping_mul(content.media.ticks());
            let shift = header.timestamp.0.wrapping_sub(published);
            let known = *peer.shifts.entry(ssrc).or_insert(shift);
            assert!(
                known == shift || self.sources_change,
                "seed {seed}: {ssrc}'s timestamps moved"
            );
            assert_eq!(header.marker, content.marker, "seed {seed}: the marker of {ssrc}");
            let fresh = (header.timestamp, now, content.media.clock_rate_hz());
            let newest = peer.newest.entry(ssrc).or_insert(fresh);
            if header.timestamp.since(newest.0) > 0 {
                *newest = fresh;
            }
            let got = peer.got.entry((content.session, content.media)).or_default();
            got.push(content.counter);
            if content.media == Media::Video && peer.repairs {
                peer.note_video(now, ssrc, index, view.payload());
            }
        }
        let compounds = std::mem::take(&mut self.peers[at].client.received_rtcp);
        for compound in compounds {
            assert!(rtcp::is_valid_compound(&compound), "seed {seed}: malformed RTCP");
            for packet in rtcp::packets(&compound).flatten() {
                match packet {
                    Packet::Nack(wanted) => {
                        let lost: Vec<_> = wanted.lost().collect();
                        self.peers[at].nacks += lost.len();
                        self.peers[at].resend(wanted.media(), &lost, out);
                        self.peers[at].resend_layer(wanted.media(), &lost, out);
                    }
                    Packet::Pli { media, .. } => {
                        let layer = self.peers[at].layer_of(media).map(|layer| layer.on_pli());
                        let known = self.peers[at].publications.iter().any(|p| p.ssrc == media);
                        assert!(
                            known || layer.is_some(),
                            "seed {seed}: PLI for a stream nobody publishes"
                        );
                        self.peers[at].plis += 1;
                    }
                    Packet::SenderReport(report) => {
                        self.peers[at].on_report_blocks(report.blocks());
                        self.check_report(at, report.ssrc(), report.rtp_time());
                    }
                    Packet::ReceiverReport(report) => {
                        self.peers[at].on_report_blocks(report.blocks());
                    }
                    _ => {}
                }
            }
        }
    }

    /// A report's time is what the stream's clock shows now, give or take the way to the peer.
    fn check_report(&self, at: usize, ssrc: Ssrc, reported: RtpTime) {
        let Some(&(newest, came, rate)) = self.peers[at].newest.get(&ssrc) else { return };
        let elapsed = self.now.since(came).as_millis() as u32 * (rate / 1_000);
        let error = reported.since(newest.wrapping_add(elapsed));
        let ms = error / (rate as i32 / 1_000);
        let is_near = self.sources_change || ms.abs() < 500;
        assert!(is_near, "seed {}: {ssrc} is reported {ms} ms off", self.seed);
    }

    /// One millisecond of a peer's life: timers, media, feedback.
    fn act(&mut self, at: usize) {
        if self.peers[at].gone {
            return;
        }
        let now = self.now;
        let mut out = Vec::new();
        let peer = &mut self.peers[at];
        if peer.client.next_deadline().is_some_and(|due| due <= now) {
            peer.client.handle_timeout(now, &mut |d: &[u8]| out.push(d.to_vec()));
        }
        if !peer.client.is_connected() {
            // Nothing is captured for later: what a peer sends at once on connecting would lie about its clock.
            for publication in &mut peer.publications {
                publication.next_at = publication.next_at.max(now);
            }
            if let Some(layered) = &mut peer.layered {
                layered.not_before(now);
            }
        } else {
            peer.send_media(now, &mut out);
            peer.send_layers(now, &mut out);
            if peer.next_feedback <= now {
                peer.next_feedback = now + Duration::from_millis(20);
                peer.send_feedback(now, &mut out);
            }
            peer.send_transport_feedback(now, &mut out);
        }
        self.send_all(at, out);
    }

    /// The auditor at the servers' door: sees every datagram that leaves, before the network touches it.
    fn audit(&mut self, route: &Route, bytes: &[u8]) {
        let seed = self.seed;
        let remote = route.remote;
        *self.sent_to.entry(remote).or_default() += bytes.len() as u64;
        let Some(peer) = self.peers.iter().rposition(|peer| peer.address == remote) else {
            assert!(
                self.proven.contains(&remote),
                "seed {seed}: {} bytes to {remote}, which nobody proved",
                bytes.len()
            );
            return;
        };
        assert!(self.proven.contains(&remote), "seed {seed}: bytes to {remote} before a check");
        let hash = fnv(bytes);
        match classify(bytes) {
            Some(Kind::Rtp) => {
                let header = RtpHeader::parse(bytes).expect("a header of ours");
                let key = (peer, header.ssrc);
                let reference = self.highest.get(&key).copied();
                let index = match reference {
                    Some(reference) => ExtSeqNum::nearest(header.seq, reference),
                    None => ExtSeqNum(u64::from(header.seq.0)),
                };
                self.highest.insert(key, reference.map_or(index, |highest| highest.max(index)));
                let before = self.sealed.insert((peer, header.ssrc, index.0), hash);
                assert!(
                    before.is_none_or(|before| before == hash),
                    "seed {seed}: nonce used twice: SSRC {} index {index}",
                    header.ssrc
                );
            }
            Some(Kind::Rtcp) => {
                let tail = bytes.len() - 4;
                let index = u32::from_be_bytes(bytes[tail..].try_into().expect("4 bytes"));
                let ssrc = u32::from_be_bytes(bytes[4..8].try_into().expect("4 bytes"));
                let before = self.sealed_rtcp.insert((peer, Ssrc(ssrc), index), hash);
                assert!(before.is_none(), "seed {seed}: SRTCP index {index} used twice");
            }
            Some(Kind::Stun | Kind::Dtls) => {}
            None => panic!("seed {seed}: the server sent something that is no protocol"),
        }
        assert!(bytes.len() <= 1_472, "seed {seed}: a datagram of {} bytes", bytes.len());
    }
}

impl Peer {
    fn on_report_blocks(&mut self, blocks: rr::ReportBlocks<'_>) {
        for block in blocks {
            let reported = self.publications.iter_mut().find(|p| p.ssrc == block.ssrc);
            if let Some(publication) = reported {
                publication.is_reported_on = true;
            }
            if let Some(layer) = self.layer_of(block.ssrc) {
                layer.on_reported();
            }
        }
    }

    /// Notes a packet of video, so that what is missing can be asked for; returns its number on the leg. `index` is `None` for a
    /// repair, whose payload begins with the number.
    fn note_video(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        index: Option<ExtSeqNum>,
        payload: &[u8],
    ) -> ExtSeqNum {
        let fresh = || (MissingList::new(), ExtSeqNum(0));
        let (missing, highest) = self.missing.entry(ssrc).or_insert_with(fresh);
        let index = index.unwrap_or_else(|| {
            let osn = SeqNum(u16::from_be_bytes([payload[0], payload[1]]));
            ExtSeqNum::nearest(osn, *highest)
        });
        *highest = (*highest).max(index);
        missing.on_packet(now, index);
        index
    }

    fn send_media(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let (call, session) = (self.call.0, self.session.0);
        for publication in self.publications.iter_mut().filter(|p| !p.paused) {
            while publication.next_at <= now {
                let (interval, count, size) = match publication.media {
                    Media::Audio => (20, 1, 90),
                    Media::Video => (33, 3, 900),
                };
                publication.next_at = publication.next_at + Duration::from_millis(interval);
                for n in 0..count {
                    let content = Content {
                        call,
                        session,
                        track: publication.track.0,
                        media: publication.media,
                        marker: n + 1 == count,
                        counter: publication.sent,
                    };
                    publication.sent += 1;
                    let (ssrc, index) = (publication.ssrc, publication.index);
                    // As libwebrtc cuts a frame: the last ones are a byte longer.
                    let size = size + usize::from(n > 0);
                    let plain = publication.packet(ssrc, index, &content, size);
                    publication.index = ExtSeqNum(index.0 + 1);
                    publication.kept.insert(index.seq().0, plain.clone());
                    if publication.kept.len() > 600 {
                        let oldest = index.seq().0.wrapping_sub(600);
                        publication.kept.remove(&oldest);
                    }
                    self.client.send_rtp(index, &plain, &mut |d: &[u8]| out.push(d.to_vec()));
                }
            }
        }
    }

    /// Answers the server's NACK on the retransmission stream.
    fn resend(&mut self, media: Ssrc, lost: &[SeqNum], out: &mut Vec<Vec<u8>>) {
        let Some(publication) = self.publications.iter_mut().find(|p| p.ssrc == media) else {
            return;
        };
        for seq in lost {
            let Some(plain) = publication.kept.get(&seq.0) else { continue };
            let header = RtpHeader::parse(plain).expect("our own packet");
            let mut rtx = plain[..header.header_len].to_vec();
            rtx[1] = rtx[1] & 0x80 | VIDEO_RTX.0;
            rtx[2..4].copy_from_slice(&publication.rtx_index.seq().0.to_be_bytes());
            rtx[8..12].copy_from_slice(&publication.rtx_ssrc.0.to_be_bytes());
            rtx.extend_from_slice(&seq.0.to_be_bytes());
            rtx.extend_from_slice(&plain[header.header_len..]);
            let index = publication.rtx_index;
            publication.rtx_index = ExtSeqNum(index.0 + 1);
            self.client.send_rtp(index, &rtx, &mut |d: &[u8]| out.push(d.to_vec()));
        }
    }

    /// Reports, and asks for what is missing.
    fn send_feedback(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let own = Ssrc(1);
        if self.next_report <= now {
            self.next_report = now + Duration::from_millis(300);
            let heard = self.shifts.keys().take(31);
            let block = |&ssrc: &Ssrc| rr::ReportBlock { ssrc, ..Default::default() };
            let blocks: Vec<_> = heard.map(block).collect();
            let mut compound = [0; 1_024];
            let len = rr::write(&mut compound, own, &blocks).expect("room");
            self.client.send_rtcp(&compound[..len], &mut |d: &[u8]| out.push(d.to_vec()));
        }
        for (&ssrc, (missing, _)) in &mut self.missing {
            let mut lost = [SeqNum(0); 32];
            let count = missing.due(now, Some(Duration::from_millis(20)), &mut lost);
            if count == 0 {
                continue;
            }
            let mut compound = [0; 512];
            let mut len = rr::write(&mut compound, own, &[]).expect("room");
            let asked = nack::write(&mut compound[len..], own, ssrc, &lost[..count]);
            len += asked.expect("room");
            self.client.send_rtcp(&compound[..len], &mut |d: &[u8]| out.push(d.to_vec()));
        }
    }

    /// Asks for a key frame of everything it gets.
    pub fn ask_for_keyframes(&mut self, out: &mut Vec<Vec<u8>>) {
        let mut compound = [0; 1_024];
        let mut len = rr::write(&mut compound, Ssrc(1), &[]).expect("room");
        for subscription in &self.subscriptions {
            len += pli::write(&mut compound[len..], Ssrc(1), subscription.ssrc).expect("room");
        }
        self.client.send_rtcp(&compound[..len], &mut |d: &[u8]| out.push(d.to_vec()));
    }
}

impl World {
    /// A plain packet of a peer's publication with `counter`, under an SSRC and a number of the caller's choice.
    pub fn plain_packet(
        &self,
        peer: usize,
        publication: usize,
        numbers: (Ssrc, ExtSeqNum),
        counter: u32,
    ) -> Vec<u8> {
        let Peer { call, session, publications, .. } = &self.peers[peer];
        let publication = &publications[publication];
        let (track, media) = (publication.track.0, publication.media);
        let (call, session) = (call.0, session.0);
        let content = Content { call, session, track, media, marker: true, counter };
        publication.packet(numbers.0, numbers.1, &content, 90)
    }

    /// Seals a plain packet with a peer's keys.
    pub fn seal(&mut self, peer: usize, index: ExtSeqNum, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        let sent = self.peers[peer].client.send_rtp(index, plain, &mut |d| sealed = d.to_vec());
        assert!(sent, "the peer is connected");
        sealed
    }

    /// Seals a plain compound with a peer's keys.
    pub fn seal_rtcp(&mut self, peer: usize, compound: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        let sent = self.peers[peer].client.send_rtcp(compound, &mut |d| sealed = d.to_vec());
        assert!(sent, "the peer is connected");
        sealed
    }

    /// `count` fresh checks of a peer, which count as arriving from wherever they are injected.
    pub fn checks(&mut self, peer: usize, count: u64) -> Vec<Vec<u8>> {
        let mut checks = Vec::new();
        for n in 1..=count {
            let later = self.now + Duration::from_secs(10 * n);
            self.peers[peer].client.handle_timeout(later, &mut |d| checks.push(d.to_vec()));
        }
        assert_eq!(checks.len() as u64, count);
        checks
    }

    /// An address may be sent to: an authentic check is injected from there.
    pub fn prove(&mut self, remote: SocketAddr) {
        self.proven.insert(remote);
    }

    /// The highest number that a peer was sent under `ssrc`.
    pub fn highest_sent(&self, peer: usize, ssrc: Ssrc) -> Option<ExtSeqNum> {
        self.highest.get(&(peer, ssrc)).copied()
    }

    /// The peer asks for key frames of everything it gets.
    pub fn ask_for_keyframes(&mut self, peer: usize) {
        let mut out = Vec::new();
        self.peers[peer].ask_for_keyframes(&mut out);
        self.send_all(peer, out);
    }
}

impl Publication {
    fn packet(&self, ssrc: Ssrc, index: ExtSeqNum, content: &Content, size: usize) -> Vec<u8> {
        let payload_type = if self.media == Media::Audio { AUDIO } else { VIDEO };
        let mut packet = vec![0; FixedHeader::LEN + 64];
        let header = FixedHeader {
            marker: content.marker,
            payload_type,
            seq: index.seq(),
            timestamp: RtpTime(content.counter.wrapping_mul(self.media.ticks())),
            ssrc,
            has_extension: true,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        // The MID tells the server whose stream this is; browsers stop sending it once it is reported on.
        if !self.is_reported_on {
            extensions.push(4, self.mid.as_bytes());
        }
        extensions.push(3, &(content.counter as u16).to_be_bytes());
        extensions.push(1, &[level(content.counter)]);
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        content.write(&mut packet, size);
        packet
    }
}

fn publisher_extensions() -> ExtensionMap {
    let mut extensions = ExtensionMap::default();
    extensions.set(Extension::AudioLevel, 1);
    extensions.set(Extension::TransportCc, 3);
    extensions.set(Extension::Mid, 4);
    extensions
}

/// What a packet carries: who sent it, as which, and proof that it is whole.
struct Content {
    call: u64,
    session: u64,
    track: u64,
    media: Media,
    marker: bool,
    counter: u32,
}

impl Content {
    fn write(&self, packet: &mut Vec<u8>, size: usize) {
        let start = packet.len();
        packet.extend_from_slice(&self.call.to_be_bytes());
        packet.extend_from_slice(&self.session.to_be_bytes());
        packet.extend_from_slice(&self.track.to_be_bytes());
        packet.push(u8::from(self.media == Media::Video) | u8::from(self.marker) << 1);
        packet.extend_from_slice(&self.counter.to_be_bytes());
        packet.resize(start + size - 8, self.counter as u8);
        let hash = fnv(&packet[start..]);
        packet.extend_from_slice(&hash.to_be_bytes());
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (body, hash) = payload.split_last_chunk::<8>()?;
        let number = |at: usize| body.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        (fnv(body) == u64::from_be_bytes(*hash)).then_some(())?;
        Some(Self {
            call: number(0)?,
            session: number(8)?,
            track: number(16)?,
            media: if *body.get(24)? & 1 == 1 { Media::Video } else { Media::Audio },
            marker: *body.get(24)? & 2 != 0,
            counter: u32::from_be_bytes(body.get(25..29)?.try_into().ok()?),
        })
    }
}

/// The audio level of a publication's packet: four seconds of steady noise, then four of speech, and so on.
fn level(counter: u32) -> u8 {
    let speaks = counter / 200 % 2 == 1;
    if speaks && counter % 2 == 1 { 0xd0 } else { 0x9c }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
