//! A running engine and clients on real sockets of this host: what a test of a whole call needs, paced by the real clock.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sluice_engine::clock::{self, Instant};
use sluice_engine::command_error::CommandError;
use sluice_engine::config::{BackendChoice, EngineConfig};
use sluice_engine::dtls::{DtlsRole, Identity};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{
    CallId, ExtSeqNum, LegId, Mid, PayloadType, RtpTime, SessionId, ShardId, Ssrc, TallyId, TrackId,
};
use sluice_engine::session::params::{
    CodecParams, LegParams, MediaKind, PayloadMap, RemoteParams, SessionParams, TrackParams,
};
use sluice_engine::shard::handle::{Engine, Reply, Reports};
use sluice_engine::shard::mailbox::{Answer, Command, Report, ShardSnapshot};
use sluice_engine::testing::client::{Client, ClientParams};
use sluice_engine::wire::payload::PayloadFormat;
use sluice_engine::wire::rtcp::{self, Packet};
use sluice_engine::wire::rtp::{FixedHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter};

/// How an engine is started: which back-end, how many shards.
#[derive(Clone, Copy)]
pub struct Kind {
    pub backend: BackendChoice,
    pub shards: u16,
}

impl Kind {
    /// Settings for a test: free ports on loopback, threads wherever the scheduler puts them.
    pub fn config(self) -> EngineConfig {
        EngineConfig {
            shards: self.shards,
            pin: false,
            backend: self.backend,
            addresses: vec![loopback(4)],
            tcp_addresses: vec![loopback(4)],
            receive_buffer_bytes: 1 << 20,
            send_buffer_bytes: 1 << 20,
            ..EngineConfig::default()
        }
    }
}

/// A free port on loopback.
pub fn loopback(version: u8) -> SocketAddr {
    let ip = if version == 6 { "[::1]:0" } else { "127.0.0.1:0" };
    ip.parse().expect("an address")
}

/// How long anything may take before the test fails. Generous: the host may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Media {
    Audio,
    Video,
}

/// How a client reaches the engine.
pub enum Link {
    /// A socket that only hears the engine.
    Udp(UdpSocket),
    /// A connection with RFC 4571 framing.
    Tcp { stream: TcpStream, unread: Vec<u8>, unsent: Vec<u8> },
}

pub struct World {
    pub engine: Engine,
    pub reports: Arc<Mutex<Vec<Report>>>,
    pub peers: Vec<Peer>,
    rng: fastrand::Rng,
    next_id: u64,
}

pub struct Peer {
    pub client: Client,
    pub link: Link,
    pub session: SessionId,
    pub home: usize,
    pub gone: bool,
    /// Whether the client takes what its socket holds.
    pub reads: bool,
    /// The counters of what arrived, by (publisher's session, kind), in order of arrival.
    pub got: BTreeMap<(u64, Media), Vec<u32>>,
    /// SSRCs that the engine said goodbye to.
    pub byes: usize,
    publications: Vec<Publication>,
    subscriptions: Vec<(TrackId, Ssrc)>,
}

struct Publication {
    media: Media,
    track: TrackId,
    mid: Mid,
    ssrc: Ssrc,
    sent: u32,
    per_frame: u32,
    next_at: Instant,
}

#[derive(Default)]
pub struct Collect(pub Arc<Mutex<Vec<Report>>>);

impl Reports for Collect {
    fn try_report(&mut self, report: Report) -> Result<(), Report> {
        self.0.lock().expect("unpoisoned").push(report);
        Ok(())
    }
}

const AUDIO: PayloadType = PayloadType(111);
const VIDEO: PayloadType = PayloadType(96);
const AUDIO_OUT: PayloadType = PayloadType(109);
const VIDEO_OUT: PayloadType = PayloadType(120);

/// The clients' certificate: dear to make, and no test depends on whose it is.
fn identity() -> &'static Identity {
    static MADE: OnceLock<Identity> = OnceLock::new();
    MADE.get_or_init(|| Identity::generate().expect("a certificate"))
}

impl Link {
    pub fn udp(server: SocketAddr) -> Self {
        let own = loopback(if server.is_ipv6() { 6 } else { 4 });
        let socket = UdpSocket::bind(own).expect("a free port");
        // A client that the host does not run for a while must not lose what waits for it.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        socket.connect(server).expect("a route to loopback");
        socket.set_nonblocking(true).expect("non-blocking");
        Self::Udp(socket)
    }

    pub fn tcp(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect(server).expect("the engine listens"))
    }

    /// A connection whose receive buffer holds some twenty packets.
    pub fn tcp_narrow(server: SocketAddr) -> Self {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(server),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        );
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(16 << 10).expect("less than the default");
        socket.connect(&server.into()).expect("the engine listens");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_nonblocking(true).expect("non-blocking");
        Self::Tcp { stream, unread: Vec::new(), unsent: Vec::new() }
    }

    /// Sends one datagram. UDP may lose it, as UDP does.
    pub fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => {
                let _ = socket.send(datagram);
            }
            Self::Tcp { unsent, .. } => {
                unsent.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
                unsent.extend_from_slice(datagram);
                self.push_out();
            }
        }
    }

    fn push_out(&mut self) {
        let Self::Tcp { stream, unsent, .. } = self else { return };
        while !unsent.is_empty()
            && let Ok(written) = stream.write(unsent)
        {
            unsent.drain(..written);
        }
    }

    /// Everything that has arrived, each datagram whole.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut buffer = [0; 64 * 1024];
        match self {
            Self::Udp(socket) => loop {
                match socket.recv(&mut buffer) {
                    Ok(len) => datagrams.push(buffer[..len].to_vec()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return datagrams,
                    // The port of an engine that has ended: what was queued may come after it.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => panic!("cannot receive: {error}"),
                }
            },
            Self::Tcp { stream, unread, .. } => {
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    unread.extend_from_slice(&buffer[..len]);
                }
                while let Some(len) = unread.first_chunk::<2>() {
                    let end = 2 + usize::from(u16::from_be_bytes(*len));
                    let Some(frame) = unread.get(2..end) else { break };
                    datagrams.push(frame.to_vec());
                    unread.drain(..end);
                }
                datagrams
            }
        }
    }
}

impl World {
    pub fn new(config: EngineConfig) -> Self {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let engine = Engine::start(config, |_| Box::new(Collect(Arc::clone(&reports))));
        Self::of(engine.expect("the engine starts"), reports)
    }

    pub fn of(engine: Engine, reports: Arc<Mutex<Vec<Report>>>) -> Self {
        let rng = fastrand::Rng::new();
        Self { engine, reports, peers: Vec::new(), rng, next_id: 0 }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn udp(&self) -> SocketAddr {
        self.engine.facts().udp[0]
    }

    pub fn tcp(&self) -> SocketAddr {
        self.engine.facts().tcp[0]
    }

    /// A UDP link whose datagrams the kernel gives to the socket of `shard`.
    pub fn udp_on(&self, shard: usize) -> Link {
        let deadline = clock::now() + PATIENCE;
        let counts = || -> Vec<_> {
            let shards = 0..self.engine.shards().len();
            shards.map(|shard| self.snapshot(shard).counters.datagrams_in).collect()
        };
        while clock::now() < deadline {
            let before = counts();
            let mut link = Link::udp(self.udp());
            // No protocol begins so: it is counted and dropped.
            link.send(&[0xff; 8]);
            while clock::now() < deadline {
                let after = counts();
                match (0..after.len()).find(|&at| after[at] > before[at]) {
                    Some(at) if at == shard => return link,
                    Some(_) => break,
                    None => pause(),
                }
            }
        }
        panic!("no port of ours leads to shard {shard}");
    }

    pub fn command(&self, shard: usize, command: Command) -> Result<Answer, CommandError> {
        answer_of(self.engine.shards()[shard].request(command).expect("room in the mailbox"))
    }

    pub fn snapshot(&self, shard: usize) -> ShardSnapshot {
        match self.command(shard, Command::Snapshot { sessions: true }) {
            Ok(Answer::Snapshot(snapshot)) => *snapshot,
            other => panic!("no snapshot but {other:?}"),
        }
    }

    fn credentials(&mut self, shard: usize) -> Credentials {
        let rng = &mut self.rng;
        Credentials::generate(ShardId(shard as u16), &mut |bytes: &mut [u8]| rng.fill(bytes))
    }

    /// A new participant of call 1 with its session on shard `home`; its client starts to check.
    pub fn join(&mut self, home: usize, link: Link) -> usize {
        let session = SessionId(self.fresh_id());
        let (local, remote) = (self.credentials(home), self.credentials(home));
        let at = self.peers.len();
        let params = SessionParams {
            data_channels: true,
            session,
            call: CallId(1),
            local_ice: local.clone(),
            remote: Some(remote_params(at, remote.clone())),
            cname: "server".to_owned(),
        };
        self.command(home, Command::AddSession(Box::new(params))).expect("room for a session");
        let client = ClientParams {
            identity: identity().clone(),
            local: remote,
            remote: local,
            fingerprint: self.engine.facts().fingerprint.clone(),
            dtls_role: match server_role(at) {
                DtlsRole::Active => DtlsRole::Passive,
                DtlsRole::Passive => DtlsRole::Active,
            },
            seed: self.rng.u64(..),
        };
        self.peers.push(Peer {
            client: Client::new(clock::now(), client),
            link,
            session,
            home,
            gone: false,
            reads: true,
            got: BTreeMap::new(),
            byes: 0,
            publications: Vec::new(),
            subscriptions: Vec::new(),
        });
        at
    }

    /// The peer publishes one more track: 50 audio packets a second, or 30 video frames of `per_frame` packets.
    pub fn publish(&mut self, peer: usize, media: Media, per_frame: u32) {
        let track = TrackId(self.fresh_id());
        let mid = Mid::new(&format!("p{}", self.peers[peer].publications.len())).expect("a mid");
        let video = media == Media::Video;
        let codec = CodecParams {
            payload_type: if video { VIDEO } else { AUDIO },
            clock_rate_hz: if video { 90_000 } else { 48_000 },
            format: PayloadFormat::Other,
            rtx: None,
            nack: video,
            pli: video,
            transport_cc: true,
        };
        let mut extensions = ExtensionMap::default();
        extensions.set(Extension::TransportCc, 3);
        extensions.set(Extension::Mid, 4);
        let params = TrackParams {
            layers: Vec::new(),
            voice_activity: false,
            tally: TallyId::default(),
            track,
            mid,
            kind: if video { MediaKind::Video } else { MediaKind::Audio },
            codecs: vec![codec],
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            extensions,
        };
        let (home, session) = (self.peers[peer].home, self.peers[peer].session);
        self.command(home, Command::AddTrack { session, track: Box::new(params) }).expect("added");
        let ssrc = Ssrc(self.rng.u32(1..));
        let next_at = clock::now();
        let publication = Publication { media, track, mid, ssrc, sent: 0, per_frame, next_at };
        self.peers[peer].publications.push(publication);
    }

    /// Everyone gets what everyone else publishes.
    pub fn subscribe_all(&mut self) {
        let members: Vec<_> = (0..self.peers.len()).filter(|&p| !self.peers[p].gone).collect();
        for &subscriber in &members {
            for &publisher in members.iter().filter(|&&p| p != subscriber) {
                let tracks: Vec<_> =
                    self.peers[publisher].publications.iter().map(|p| p.track).collect();
                for track in tracks {
                    if !self.peers[subscriber].subscriptions.iter().any(|s| s.0 == track) {
                        self.subscribe(subscriber, track);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, peer: usize, track: TrackId) {
        let leg = LegId(self.fresh_id());
        let ssrc = Ssrc(leg.0 as u32);
        let maps = [(AUDIO, AUDIO_OUT), (VIDEO, VIDEO_OUT)];
        let mut extensions = ExtensionMap::default();
        extensions.set(Extension::Mid, 9);
        let params = LegParams {
            leg,
            track,
            mid: Mid::new("s").expect("a mid"),
            ssrc,
            rtx_ssrc: None,
            payload_types: maps.map(|(from, to)| PayloadMap { from, to, rtx: None }).to_vec(),
            extensions,
            cname: "publisher".to_owned(),
        };
        self.peers[peer].subscriptions.push((track, ssrc));
        let (home, session) = (self.peers[peer].home, self.peers[peer].session);
        self.command(home, Command::AddLeg { session, leg: Box::new(params) }).expect("a leg");
    }

    /// Signalling ends the peer's session.
    pub fn leave(&mut self, peer: usize) {
        let Peer { home, session, .. } = self.peers[peer];
        self.peers[peer].gone = true;
        self.command(home, Command::RemoveSession { session }).expect("the session is there");
    }

    /// New ICE credentials on both sides.
    pub fn restart_ice(&mut self, peer: usize) {
        let Peer { home, session, .. } = self.peers[peer];
        let (local, remote) = (self.credentials(home), self.credentials(home));
        let restart = Command::RestartIce { session, local: local.clone() };
        self.command(home, restart).expect("a restart");
        let theirs = Box::new(remote_params(peer, remote.clone()));
        self.command(home, Command::SetRemote { session, remote: theirs }).expect("their half");
        self.peers[peer].client.restart_ice(clock::now(), remote, local);
    }

    pub fn run(&mut self, time: Duration) {
        let end = clock::now() + time;
        while clock::now() < end {
            self.step();
        }
    }

    /// Runs until `done` holds; fails after [`PATIENCE`].
    pub fn run_until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        let end = clock::now() + PATIENCE;
        while !done(self) {
            assert!(clock::now() < end, "{what}: not within {PATIENCE:?}");
            self.step();
        }
    }

    pub fn connect_all(&mut self) {
        self.run_until("connecting", |world| {
            world.peers.iter().all(|peer| peer.gone || peer.client.is_connected())
        });
    }

    /// Forgets what was received until now.
    pub fn forget(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.got.clear());
    }

    /// Runs until everyone who is present and reads has `count` packets of each track it subscribed to.
    pub fn all_hear_all(&mut self, count: usize) {
        self.run_until("media", |world| {
            let members = || world.peers.iter().filter(|peer| !peer.gone);
            members().filter(|peer| peer.reads).all(|peer| {
                members().filter(|other| other.session != peer.session).all(|other| {
                    other.publications.iter().all(|publication| {
                        let got = peer.got.get(&(other.session.0, publication.media));
                        got.is_some_and(|got| got.len() >= count)
                    })
                })
            })
        });
    }

    /// Checks that nobody who reads missed, repeated or reordered a packet since [`World::forget`].
    pub fn assert_gapless(&self) {
        for peer in self.peers.iter().filter(|peer| peer.reads) {
            for ((publisher, media), got) in &peer.got {
                let gap = got.windows(2).find(|pair| pair[1] != pair[0] + 1);
                assert_eq!(gap, None, "{} of {publisher}, {media:?}", peer.session);
            }
            assert_eq!(peer.client.refused, 0, "{} could not open something", peer.session);
        }
    }

    pub fn reported(&self, wanted: impl Fn(&Report) -> bool) -> bool {
        self.reports.lock().expect("unpoisoned").iter().any(wanted)
    }

    fn step(&mut self) {
        for peer in &mut self.peers {
            peer.step();
        }
        pause();
    }
}

impl Peer {
    pub fn step(&mut self) {
        let now = clock::now();
        let Self { client, link, .. } = self;
        if self.reads {
            for mut datagram in link.receive() {
                client.handle_datagram(now, &mut datagram, &mut |d: &[u8]| link.send(d));
            }
        }
        self.take_in();
        if self.gone {
            return;
        }
        let Self { client, link, .. } = self;
        link.push_out();
        if client.next_deadline().is_some_and(|due| due <= now) {
            client.handle_timeout(now, &mut |d: &[u8]| link.send(d));
        }
        if client.is_connected() {
            for publication in &mut self.publications {
                publication.send_due(now, self.session, client, link);
            }
        }
    }

    /// Has the client do something, and sends what comes of it.
    pub fn with_client<T>(
        &mut self,
        act: impl FnOnce(&mut Client, Instant, &mut dyn FnMut(&[u8])) -> T,
    ) -> T {
        let Self { client, link, .. } = self;
        act(client, clock::now(), &mut |datagram: &[u8]| link.send(datagram))
    }

    fn take_in(&mut self) {
        for rtp in self.client.received.drain(..) {
            let view = RtpView::parse(&rtp.packet).expect("the server sends well-formed packets");
            let payload = view.payload();
            let number =
                |at: usize| payload.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
            let (Some(session), Some(track), Some(counter)) = (number(0), number(8), number(16))
            else {
                panic!("a payload of {} bytes", payload.len());
            };
            let ssrc = view.header().ssrc;
            let legs = &self.subscriptions;
            assert!(legs.contains(&(TrackId(track), ssrc)), "a leg carries another's track");
            let video = view.header().payload_type == VIDEO_OUT;
            let media = if video { Media::Video } else { Media::Audio };
            self.got.entry((session, media)).or_default().push(counter as u32);
        }
        for compound in self.client.received_rtcp.drain(..) {
            assert!(rtcp::is_valid_compound(&compound), "malformed RTCP");
            let packets = rtcp::packets(&compound).flatten();
            self.byes += packets.filter(|packet| matches!(packet, Packet::Bye(_))).count();
        }
    }
}

impl Publication {
    fn send_due(&mut self, now: Instant, from: SessionId, client: &mut Client, link: &mut Link) {
        let (interval_ms, size) = match self.media {
            Media::Audio => (20, 90),
            Media::Video => (33, 1_000),
        };
        while self.next_at <= now {
            self.next_at = self.next_at + Duration::from_millis(interval_ms);
            for n in 1..=self.per_frame {
                // Near the roll-over, so that longer tests cross it.
                let index = ExtSeqNum(u64::from(self.sent) + 32_700);
                let plain = self.packet(index, n == self.per_frame, from, size);
                client.send_rtp(index, &plain, &mut |d: &[u8]| link.send(d));
                self.sent += 1;
            }
        }
    }

    fn packet(&self, index: ExtSeqNum, marker: bool, from: SessionId, size: usize) -> Vec<u8> {
        let mut packet = vec![0; FixedHeader::LEN + 64];
        let video = self.media == Media::Video;
        let header = FixedHeader {
            marker,
            payload_type: if video { VIDEO } else { AUDIO },
            seq: index.seq(),
            timestamp: RtpTime(self.sent / self.per_frame * if video { 3_000 } else { 960 }),
            ssrc: self.ssrc,
            has_extension: true,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        extensions.push(4, self.mid.as_bytes());
        extensions.push(3, &(self.sent as u16).to_be_bytes());
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        for number in [from.0, self.track.0, u64::from(self.sent)] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        packet.resize(size, 0);
        packet
    }
}

/// The answer to a command that was accepted.
pub fn answer_of(mut reply: Reply) -> Result<Answer, CommandError> {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(answer) = reply.try_recv().expect("the shard lives") {
            return answer;
        }
        assert!(clock::now() < deadline, "a command was not answered within {PATIENCE:?}");
        pause();
    }
}

/// Lets the engine's threads have the core. Nothing depends on how long.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(1));
}

/// Every fourth client is the DTLS server.
fn server_role(peer: usize) -> DtlsRole {
    if peer % 4 == 3 { DtlsRole::Active } else { DtlsRole::Passive }
}

fn remote_params(peer: usize, ice: Credentials) -> RemoteParams {
    let fingerprints = vec![identity().fingerprint().clone()];
    RemoteParams { ice, fingerprints, dtls_role: server_role(peer) }
}
