//! Whole calls on one shard, with clients at the other end, of which single turns are counted.
//!
//! Time is made up, so that what happens in a turn is the same in each run. Between the turns that count the clients do what
//! browsers do: checks, reports, transport-wide feedback.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sluice_engine::bwe::feedback::ArrivalLog;
use sluice_engine::clock::{Instant, NtpTime, WallClock};
use sluice_engine::config::EngineConfig;
use sluice_engine::dtls::Identity;
use sluice_engine::egress::Egress;
use sluice_engine::ids::{
    CallId, ExtSeqNum, LegId, Mid, PayloadType, Rid, RtpTime, SeqNum, SessionId, ShardId, Ssrc,
    TallyId, TrackId,
};
use sluice_engine::io::{Network, Stream, Window};
use sluice_engine::metrics::ShardCounters;
use sluice_engine::route::{PathId, Route, Transport};
use sluice_engine::session::params::{CodecParams, LegParams, MediaKind, PayloadMap, TrackParams};
use sluice_engine::shard::handle::{Envelope, Reports};
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::shard::steering::Steering;
use sluice_engine::shard::{NextWake, Shard, ShardParts};
use sluice_engine::srtp::Profile;
use sluice_engine::testing::acquainted::acquainted;
use sluice_engine::testing::client::Client;
use sluice_engine::testing::net::SimNetwork;
use sluice_engine::wire::payload::PayloadFormat;
use sluice_engine::wire::rtcp::rr::{self, ReportBlock};
use sluice_engine::wire::rtcp::sr::{self, SenderReport};
use sluice_engine::wire::rtcp::{nack, twcc};
use sluice_engine::wire::rtp::{FixedHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter, elements};

/// The simulated network, in functions of its own within turns that count: `scripts/instructions` leaves them out, since what they
/// cost is nobody's. Callgrind changes between collecting and not collecting at each of them, so nowhere else may they be called.
#[derive(Default)]
struct Apart {
    inner: SimNetwork,
    is_counted: bool,
}

#[inline(never)]
fn aside_receive(network: &mut SimNetwork, budget: usize) -> usize {
    black_box(network.receive(budget))
}

#[inline(never)]
fn aside_next(network: &mut SimNetwork) -> Option<(Route, &mut [u8])> {
    black_box(network.next_datagram())
}

#[inline(never)]
fn aside_flush(network: &mut SimNetwork, egress: &mut Egress) {
    network.flush(egress);
    black_box(());
}

impl Network for Apart {
    fn receive(&mut self, budget: usize) -> usize {
        match self.is_counted {
            true => aside_receive(&mut self.inner, budget),
            false => self.inner.receive(budget),
        }
    }

    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])> {
        match self.is_counted {
            true => aside_next(&mut self.inner),
            false => self.inner.next_datagram(),
        }
    }

    fn open_path(&mut self, route: Route) -> PathId {
        self.inner.open_path(route)
    }

    fn close_path(&mut self, path: PathId) {
        self.inner.close_path(path);
    }

    fn flush(&mut self, egress: &mut Egress) {
        match self.is_counted {
            true => aside_flush(&mut self.inner, egress),
            false => self.inner.flush(egress),
        }
    }

    fn wait(&mut self, _timeout: Option<Duration>, _window: Window) {}

    fn release_stream(&mut self, _route: Route) -> Option<Stream> {
        None
    }

    fn adopt_stream(&mut self, _stream: Stream) -> io::Result<Route> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The turn that counts: callgrind collects from its beginning to its end. `black_box` keeps it from becoming a jump.
#[inline(never)]
fn counted_turn(shard: &mut Shard, now: Instant, network: &mut Apart) -> NextWake {
    black_box(shard.turn(now, network))
}

struct Forget;

impl Reports for Forget {
    fn try_report(&mut self, _report: Report) -> Result<(), Report> {
        Ok(())
    }
}

/// What a publisher sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Opus with levels, as a browser sends it.
    Audio,
    /// VP8 with retransmissions.
    Video,
    /// The same in two layers.
    Simulcast,
}

impl Media {
    fn codec(self) -> CodecParams {
        let video = self != Self::Audio;
        CodecParams {
            payload_type: if video { VIDEO } else { AUDIO },
            clock_rate_hz: if video { 90_000 } else { 48_000 },
            format: if video { PayloadFormat::Vp8 } else { PayloadFormat::Other },
            rtx: video.then_some(VIDEO_RTX),
            nack: video,
            pli: video,
            transport_cc: true,
        }
    }

    /// Those that control negotiates with browsers, under the ids that Chrome gives them.
    fn extensions(self) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        map.set(Extension::TransportCc, TRANSPORT_CC);
        map.set(Extension::Mid, MID);
        if self == Self::Audio {
            map.set(Extension::AudioLevel, AUDIO_LEVEL);
        }
        map
    }
}

/// One stream of a publisher: a track, or a layer of one.
#[derive(Clone, Copy)]
pub struct Publication {
    peer: usize,
    media: Media,
    ssrc: Ssrc,
    rid: Option<&'static [u8]>,
    sent: u64,
}

struct Peer {
    client: Client,
    arrivals: ArrivalLog,
    transport_seq: u16,
    /// What it sends.
    sends: Vec<Ssrc>,
    /// What it gets, and the newest packet of each.
    gets: Vec<(Ssrc, SeqNum)>,
}

/// One shard, its clients, and the count of what was done in turns that count.
pub struct Rig {
    pub now: Instant,
    pub shard: Shard,
    network: Apart,
    next: NextWake,
    mailbox: SyncSender<Envelope>,
    profile: Profile,
    ours: Identity,
    theirs: Identity,
    rng: fastrand::Rng,
    peers: Vec<Peer>,
    numbers_given: u32,
    unit: fn(&ShardCounters) -> u64,
    units: u64,
}

const AUDIO: PayloadType = PayloadType(111);
const VIDEO: PayloadType = PayloadType(96);
const VIDEO_RTX: PayloadType = PayloadType(97);

const AUDIO_LEVEL: u8 = 1;
const TRANSPORT_CC: u8 = 3;
const MID: u8 = 4;
const RID: u8 = 10;

/// Lowest first.
const RIDS: [&str; 2] = ["l", "h"];

const FIRST_PORT: u16 = 10_000;

/// The step of the made-up time.
const STEP: Duration = Duration::from_millis(10);

/// Packets that name their stream; browsers stop once they are reported on.
const NAMED_PACKETS: u64 = 50;

fn route_of(peer: usize) -> Route {
    let remote = SocketAddr::from(([192, 0, 2, 1], FIRST_PORT + peer as u16));
    Route { transport: Transport::Udp, local: 0, remote }
}

fn to_shard(peer: usize, network: &mut Apart) -> impl FnMut(&[u8]) {
    move |datagram: &[u8]| network.inner.arrived.push_back((route_of(peer), datagram.to_vec()))
}

impl Rig {
    /// Makes a shard without sessions, whose handshakes end with `profile`. `unit` tells how much work was done.
    pub fn new(config: EngineConfig, profile: Profile, unit: fn(&ShardCounters) -> u64) -> Self {
        let now = Instant::from_start(Duration::from_secs(1_000));
        let identity = || Identity::generate().expect("a certificate").with_profile(profile);
        let (ours, theirs) = (identity(), identity());
        let (mailbox, orders) = sync_channel(1);
        let parts = ShardParts {
            id: ShardId(0),
            config,
            identity: Arc::new(ours.clone()),
            wall: WallClock::fixed(now, NtpTime(3_900_000_000 << 32)),
            seed: 7,
            steering: Steering::mesh(1).remove(0),
            mailbox: orders,
            reports: Box::new(Forget),
        };
        Self {
            now,
            shard: Shard::new(now, parts),
            network: Apart::default(),
            next: NextWake::Now,
            mailbox,
            profile,
            ours,
            theirs,
            rng: fastrand::Rng::with_seed(7),
            peers: Vec::new(),
            numbers_given: 0,
            unit,
            units: 0,
        }
    }

    /// Adds a client to a call; it connects in [`Rig::connect`].
    pub fn add_peer(&mut self, call: u64) -> usize {
        let peer = self.peers.len();
        let place = (CallId(call), ShardId(0));
        let identities = (&self.ours, &self.theirs);
        let (session, client) = acquainted(peer as u64, place, identities, &mut self.rng);
        self.command(Command::AddSession(Box::new(session)));
        self.peers.push(Peer {
            client: Client::new(self.now, client),
            arrivals: ArrivalLog::new(),
            transport_seq: 0,
            sends: Vec::new(),
            gets: Vec::new(),
        });
        peer
    }

    /// Publishes one track to `receivers`; returns its streams, lowest layer first.
    pub fn publish(&mut self, peer: usize, media: Media, receivers: &[usize]) -> Vec<Publication> {
        let track = TrackId(self.number().into());
        let mut extensions = media.extensions();
        let layered = media == Media::Simulcast;
        if layered {
            extensions.set(Extension::Rid, RID);
        }
        let codec = media.codec();
        let params = TrackParams {
            layers: RIDS
                .iter()
                .filter(|_| layered)
                .map(|rid| Rid::new(rid).expect("a rid"))
                .collect(),
            voice_activity: media == Media::Audio,
            tally: TallyId::default(),
            track,
            mid: Mid::new("m").expect("a mid"),
            kind: if media == Media::Audio { MediaKind::Audio } else { MediaKind::Video },
            codecs: vec![codec],
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            extensions,
        };
        let session = SessionId(peer as u64);
        self.command(Command::AddTrack { session, track: Box::new(params) });
        for &receiver in receivers {
            let (ssrc, rtx) = (Ssrc(self.number()), Ssrc(self.number()));
            let leg = LegParams {
                leg: LegId(self.number().into()),
                track,
                mid: Mid::new("s").expect("a mid"),
                ssrc,
                rtx_ssrc: codec.rtx.map(|_| rtx),
                payload_types: vec![PayloadMap {
                    from: codec.payload_type,
                    to: codec.payload_type,
                    rtx: codec.rtx,
                }],
                extensions: media.extensions(),
                cname: "publisher".to_owned(),
            };
            let session = SessionId(receiver as u64);
            self.command(Command::AddLeg { session, leg: Box::new(leg) });
            self.peers[receiver].gets.push((ssrc, SeqNum(0)));
        }
        let rids = if layered { RIDS.map(|rid| Some(rid.as_bytes())).to_vec() } else { vec![None] };
        let streams = rids.into_iter().map(|rid| {
            let ssrc = Ssrc(self.number());
            self.peers[peer].sends.push(ssrc);
            Publication { peer, media, ssrc, rid, sent: 0 }
        });
        streams.collect()
    }

    /// Lets all clients connect.
    pub fn connect(&mut self) {
        let end = self.now + Duration::from_secs(60);
        while !self.peers.iter().all(|peer| peer.client.is_connected()) {
            assert!(self.now < end, "not everyone is connected");
            self.step();
            self.settle();
        }
        let is_right = |peer: &Peer| peer.client.profile() == Some(self.profile);
        assert!(self.peers.iter().all(is_right), "not everyone has {}", self.profile);
    }

    /// Time goes on by one step, and clients do what is due: it arrives, but the shard has not looked.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        let tick = self.now.as_nanos() / STEP.as_nanos() as u64;
        for number in 0..self.peers.len() {
            let send = &mut to_shard(number, &mut self.network);
            let peer = &mut self.peers[number];
            if peer.client.next_deadline().is_some_and(|due| due <= self.now) {
                peer.client.handle_timeout(self.now, send);
            }
            if !peer.client.is_connected() {
                continue;
            }
            // Each second, one after the other.
            if tick % 100 == number as u64 % 100 {
                peer.report(self.now, send);
            }
        }
    }

    /// Clients tell when packets came, where it is due.
    pub fn tell_arrivals(&mut self) {
        for number in 0..self.peers.len() {
            let send = &mut to_shard(number, &mut self.network);
            self.peers[number].tell_arrivals(self.now, send);
        }
    }

    /// Turns the shard until nothing is left to do, without counting.
    pub fn settle(&mut self) {
        while self.is_due() {
            self.next = self.shard.turn(self.now, &mut self.network);
            self.deliver();
        }
    }

    /// The same, counted.
    pub fn count(&mut self) {
        while self.is_due() {
            let before = (self.unit)(self.shard.counters());
            self.network.is_counted = true;
            self.next = counted_turn(&mut self.shard, self.now, &mut self.network);
            self.network.is_counted = false;
            self.units += (self.unit)(self.shard.counters()) - before;
            self.deliver();
        }
    }

    /// Units of work done in turns that counted.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Sends one packet with a payload of so many bytes.
    pub fn send(&mut self, from: &mut Publication, payload_len: usize, marker: bool) {
        let number = from.sent;
        from.sent += 1;
        let index = ExtSeqNum(100 + number);
        let peer = &mut self.peers[from.peer];
        peer.transport_seq = peer.transport_seq.wrapping_add(1);
        let codec = from.media.codec();
        let header = FixedHeader {
            marker,
            payload_type: codec.payload_type,
            seq: index.seq(),
            timestamp: RtpTime(
                (self.now.as_micros() * u64::from(codec.clock_rate_hz) / 1_000_000) as u32,
            ),
            ssrc: from.ssrc,
            has_extension: true,
            has_padding: false,
        };
        let mut packet = vec![0; FixedHeader::LEN + 32];
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        if from.media == Media::Audio {
            extensions.push(AUDIO_LEVEL, &[0x9c]);
        }
        extensions.push(TRANSPORT_CC, &peer.transport_seq.to_be_bytes());
        if number < NAMED_PACKETS {
            extensions.push(MID, b"m");
            if let Some(rid) = from.rid {
                extensions.push(RID, rid);
            }
        }
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        if codec.format == PayloadFormat::Vp8 {
            // A picture id of 15 bits and TL0PICIDX; no key frame. Source: RFC 7741 §4.2.
            let picture = (self.now.as_micros() / 10_000) as u16 | 0x8000;
            let [high, low] = picture.to_be_bytes();
            packet.extend([0x80, 0xC0, high, low, low]);
        }
        packet.resize(len + payload_len, 1);
        let sent =
            peer.client.send_rtp(index, &packet, &mut to_shard(from.peer, &mut self.network));
        assert!(sent, "the publisher is connected");
    }

    /// A receiver asks again for the `back`th packet before the newest of each track it gets.
    pub fn ask_again(&mut self, peer: usize, back: u16) {
        let Peer { client, gets, .. } = &mut self.peers[peer];
        for &(ssrc, newest) in gets.iter() {
            let mut compound = [0; 128];
            let lost = SeqNum(newest.0.wrapping_sub(back));
            let mut len = rr::write(&mut compound, Ssrc(9), &[]).expect("room");
            len += nack::write(&mut compound[len..], Ssrc(9), ssrc, &[lost]).expect("room");
            client.send_rtcp(&compound[..len], &mut to_shard(peer, &mut self.network));
        }
    }

    /// All packets that the shard refused so far.
    pub fn dropped(&self) -> u64 {
        self.shard.drops().iter().map(|(_, count)| count).sum()
    }

    fn is_due(&self) -> bool {
        let is_time = match self.next {
            NextWake::Now => true,
            NextWake::At(deadline) => deadline <= self.now,
            NextWake::Arrival => false,
        };
        is_time || !self.network.inner.arrived.is_empty()
    }

    fn deliver(&mut self) {
        while let Some((route, mut datagram)) = self.network.inner.sent.pop_front() {
            let number = usize::from(route.remote.port() - FIRST_PORT);
            let peer = &mut self.peers[number];
            let send = &mut to_shard(number, &mut self.network);
            peer.client.handle_datagram(self.now, &mut datagram, send);
            peer.client.received_rtcp.clear();
            peer.note_arrivals(self.now);
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers_given += 1;
        self.numbers_given
    }

    fn command(&mut self, command: Command) {
        let (envelope, mut reply) = Envelope::new(command);
        assert!(self.mailbox.try_send(envelope).is_ok(), "room in the mailbox");
        self.next = NextWake::Now;
        self.settle();
        reply.try_recv().expect("the shard lives").expect("answered").expect("done");
    }
}

impl Peer {
    fn note_arrivals(&mut self, now: Instant) {
        for received in self.client.received.drain(..) {
            let Ok(view) = RtpView::parse(&received.packet) else { continue };
            let header = view.header();
            if let Some((_, newest)) = self.gets.iter_mut().find(|(ssrc, _)| *ssrc == header.ssrc) {
                *newest = header.seq;
            }
            let Some((profile, block)) = view.extension() else { continue };
            let element = elements(profile, block).find(|&(id, _)| id == TRANSPORT_CC);
            if let Some(seq) = element.and_then(|(_, value)| value.try_into().ok()) {
                self.arrivals.on_packet(now, u16::from_be_bytes(seq));
            }
        }
    }

    /// Transport-wide feedback, where it is due.
    fn tell_arrivals(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let Some(&(media, _)) = self.gets.first() else { return };
        let mut statuses = [None; 256];
        while let Some(plan) = self.arrivals.build(now, &mut statuses) {
            let feedback = twcc::Feedback {
                sender: Ssrc(9),
                media,
                base_seq: plan.base_seq,
                reference_time: plan.reference_time,
                feedback_count: plan.feedback_count,
                statuses: &statuses[..plan.count],
            };
            let mut compound = [0; 1_024];
            let len = twcc::write(&mut compound, &feedback).expect("room");
            self.client.send_rtcp(&compound[..len], send);
        }
    }

    /// One compound: reports of what it sends, and on what it gets.
    fn report(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let mut compound = [0; 1_024];
        let mut len = 0;
        let ntp = NtpTime(3_900_000_000 << 32).offset_nanos(now.as_nanos() as i64);
        for &ssrc in &self.sends {
            let rtp_time = RtpTime(now.as_micros() as u32);
            let report = SenderReport { ssrc, ntp, rtp_time, packets: 1, octets: 1 };
            len += sr::write(&mut compound[len..], &report, &[]).expect("room");
        }
        for chunk in self.gets.chunks(31) {
            let blocks: Vec<_> =
                chunk.iter().map(|&(ssrc, _)| ReportBlock { ssrc, ..Default::default() }).collect();
            len += rr::write(&mut compound[len..], Ssrc(9), &blocks).expect("room");
        }
        self.client.send_rtcp(&compound[..len], send);
    }
}
