//! A warm call takes no memory: nothing that a shard's turn does for media, reports, feedback or timers allocates.
//!
//! The binary's own `malloc` counts, so that what the C code of the cryptography allocates is seen as well.

#![cfg(target_env = "gnu")]
#![allow(
    unsafe_code,
    reason = "stands in for the C library's allocator; each block says why it is sound"
)]

use std::alloc::{Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
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
    CallId, ExtSeqNum, LegId, Mid, PayloadType, RtpTime, SeqNum, SessionId, ShardId, Ssrc, TallyId,
    TrackId,
};
use sluice_engine::io::{Network, Stream, Window};
use sluice_engine::metrics::ShardCounters;
use sluice_engine::route::{PathId, Route, Transport};
use sluice_engine::session::params::{CodecParams, LegParams, MediaKind, PayloadMap, TrackParams};
use sluice_engine::shard::handle::{Envelope, Reports};
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::shard::steering::Steering;
use sluice_engine::shard::{NextWake, Shard, ShardParts};
use sluice_engine::srtp::context::{InboundSrtp, OutboundSrtp, PacketIndex};
use sluice_engine::srtp::{MasterKey, Profile};
use sluice_engine::testing::acquainted::acquainted;
use sluice_engine::testing::client::Client;
use sluice_engine::wire::payload::PayloadFormat;
use sluice_engine::wire::rtcp::rr::{self, ReportBlock};
use sluice_engine::wire::rtcp::sr::{self, SenderReport};
use sluice_engine::wire::rtcp::{self, Packet, nack, pli, twcc};
use sluice_engine::wire::rtp::{FixedHeader, RtpHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter, elements};

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNTED: Cell<u64> = const { Cell::new(0) };
    /// Whether the next allocation that counts is to be shown with where it was made.
    static SHOWING: Cell<bool> = const { Cell::new(false) };
}

/// Counts one allocation of this thread, if it is to be counted.
fn note() {
    if !COUNTING.get() {
        return;
    }
    COUNTED.set(COUNTED.get() + 1);
    if SHOWING.replace(false) {
        COUNTING.set(false);
        eprintln!("an allocation:\n{}", std::backtrace::Backtrace::force_capture());
        COUNTING.set(true);
    }
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
}

// SAFETY (all four): they hand out what the C library's functions of the same contract hand out, so its `free` takes it back.
// Counting touches thread-local cells that need neither memory nor destruction.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    note();
    // SAFETY: as above.
    unsafe { __libc_malloc(size) }
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    note();
    // SAFETY: as above.
    unsafe { __libc_calloc(count, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    note();
    // SAFETY: as above; the caller answers for `block`, as it does towards the C library.
    unsafe { __libc_realloc(block, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    note();
    // SAFETY: as above; `out` is the caller's to write to, by the contract of this function.
    unsafe {
        let block = __libc_memalign(alignment, size);
        if block.is_null() {
            return 12; // ENOMEM
        }
        out.write(block);
    }
    0
}

/// A network whose memory is made at start, and which is asked nothing that it would need more for.
struct Still {
    arrived: Ring,
    sent: Ring,
    routes: Vec<Option<Route>>,
}

/// Datagrams in fixed slots, first in, first out.
struct Ring {
    slots: Vec<(Route, usize, [u8; SLOT])>,
    first: usize,
    len: usize,
}

const SLOT: usize = 2_048;

const NOWHERE: Route = Route {
    transport: Transport::Udp,
    local: 0,
    remote: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0)),
};

impl Ring {
    fn new(capacity: usize) -> Self {
        Self { slots: vec![(NOWHERE, 0, [0; SLOT]); capacity], first: 0, len: 0 }
    }

    fn push(&mut self, route: Route, bytes: &[u8]) {
        assert!(self.len < self.slots.len(), "the ring was made large enough");
        let at = (self.first + self.len) % self.slots.len();
        let slot = &mut self.slots[at];
        (slot.0, slot.1) = (route, bytes.len());
        slot.2[..bytes.len()].copy_from_slice(bytes);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<(Route, &mut [u8])> {
        self.len = self.len.checked_sub(1)?;
        let at = self.first;
        self.first = (at + 1) % self.slots.len();
        let (route, len, bytes) = &mut self.slots[at];
        Some((*route, &mut bytes[..*len]))
    }
}

impl Network for Still {
    fn receive(&mut self, budget: usize) -> usize {
        self.arrived.len.min(budget)
    }

    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])> {
        self.arrived.pop()
    }

    fn open_path(&mut self, route: Route) -> PathId {
        let slot = self.routes.iter().position(Option::is_none).expect("few paths");
        self.routes[slot] = Some(route);
        PathId { slot: slot as u32, generation: 1 }
    }

    fn close_path(&mut self, path: PathId) {
        self.routes[path.slot as usize] = None;
    }

    fn flush(&mut self, egress: &mut Egress) {
        for &path in egress.paths() {
            for datagram in egress.datagrams(path) {
                let Some(route) = self.routes[path.slot as usize] else { continue };
                self.sent.push(route, datagram);
            }
        }
        egress.clear();
    }

    fn wait(&mut self, _timeout: Option<Duration>, _window: Window) {}

    fn release_stream(&mut self, _route: Route) -> Option<Stream> {
        None
    }

    fn adopt_stream(&mut self, _stream: Stream) -> io::Result<Route> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Forget;

impl Reports for Forget {
    fn try_report(&mut self, _report: Report) -> Result<(), Report> {
        Ok(())
    }
}

const AUDIO: PayloadType = PayloadType(111);
const VIDEO: PayloadType = PayloadType(96);
const VIDEO_RTX: PayloadType = PayloadType(97);

const AUDIO_SSRC: Ssrc = Ssrc(1_000_001);
const VIDEO_SSRC: Ssrc = Ssrc(1_000_002);
const RTX_SSRC: Ssrc = Ssrc(1_000_003);

/// What subscribers get: the leg's SSRCs are the same in every session.
const AUDIO_LEG: Ssrc = Ssrc(1);
const VIDEO_LEG: Ssrc = Ssrc(2);
const RTX_LEG: Ssrc = Ssrc(3);

/// The extension id of transport-wide numbers towards subscribers.
const TRANSPORT_CC: u8 = 5;

const SUBSCRIBERS: usize = 50;
const FIRST_PORT: u16 = 10_000;

/// One call: peer 0 publishes, all others listen, on its shard or all on another.
struct Call {
    now: Instant,
    shards: Vec<OneShard>,
    peers: Vec<Client>,
    /// When each peer's numbered packets came.
    arrivals: Vec<ArrivalLog>,
    sent_audio: u64,
    sent_video: u64,
    sent_rtx: u64,
    kept: VecDeque<(u16, Vec<u8>)>,
    /// What subscribers lost and will ask for: (when, who, what).
    lost: VecDeque<(Instant, usize, SeqNum)>,
    lost_of: Vec<Option<SeqNum>>,
    allocations: u64,
}

struct OneShard {
    shard: Shard,
    network: Still,
    mailbox: SyncSender<Envelope>,
}

/// Where a peer lives: the publisher on the first shard, its subscribers on the last.
fn home(peer: usize, shards: usize) -> usize {
    if peer == 0 { 0 } else { shards - 1 }
}

fn to_shard(peer: usize, shards: &mut [OneShard]) -> impl FnMut(&[u8]) {
    let network = &mut shards[home(peer, shards.len())].network;
    let remote = SocketAddr::from(([192, 0, 2, 1], FIRST_PORT + peer as u16));
    move |datagram: &[u8]| network.arrived.push(Route { remote, ..NOWHERE }, datagram)
}

impl Call {
    fn new(shards: usize) -> Self {
        let now = Instant::from_start(Duration::from_secs(1_000));
        let (ours, theirs) = (
            Identity::generate().expect("a certificate"),
            Identity::generate().expect("a certificate"),
        );
        let rings = Steering::mesh(shards).into_iter().enumerate();
        let shards = rings.map(|(index, steering)| {
            let (mailbox, orders) = sync_channel(256);
            let parts = ShardParts {
                id: ShardId(index as u16),
                config: EngineConfig::default(),
                identity: Arc::new(ours.clone()),
                wall: WallClock::fixed(now, NtpTime(3_900_000_000 << 32)),
                seed: 7,
                steering,
                mailbox: orders,
                reports: Box::new(Forget),
            };
            let network = Still {
                arrived: Ring::new(4_096),
                sent: Ring::new(16_384),
                routes: vec![None; SUBSCRIBERS + 8],
            };
            OneShard { shard: Shard::new(now, parts), network, mailbox }
        });
        let shards: Vec<_> = shards.collect();
        let mut call = Self {
            now,
            shards,
            peers: Vec::new(),
            arrivals: vec![ArrivalLog::new(); SUBSCRIBERS + 1],
            sent_audio: 0,
            sent_video: 0,
            sent_rtx: 0,
            kept: VecDeque::new(),
            lost: VecDeque::new(),
            lost_of: vec![None; SUBSCRIBERS + 1],
            allocations: 0,
        };
        let mut rng = fastrand::Rng::with_seed(7);
        for peer in 0..=SUBSCRIBERS {
            let shard = ShardId(home(peer, call.shards.len()) as u16);
            let (session, client) =
                acquainted(peer as u64, (CallId(1), shard), (&ours, &theirs), &mut rng);
            call.command(peer, Command::AddSession(Box::new(session)));
            call.peers.push(Client::new(now, client));
        }
        call.add_tracks();
        call
    }

    fn command(&mut self, peer: usize, command: Command) {
        let (envelope, mut reply) = Envelope::new(command);
        let at = home(peer, self.shards.len());
        assert!(self.shards[at].mailbox.try_send(envelope).is_ok(), "room in the mailbox");
        self.turn();
        reply.try_recv().expect("the shard lives").expect("answered").expect("done");
    }

    fn counters(&self) -> Vec<ShardCounters> {
        self.shards.iter().map(|at| at.shard.counters().clone()).collect()
    }

    fn add_tracks(&mut self) {
        let mut publisher = ExtensionMap::default();
        publisher.set(Extension::AudioLevel, 1);
        publisher.set(Extension::TransportCc, 3);
        publisher.set(Extension::Mid, 4);
        let mut subscriber = ExtensionMap::default();
        subscriber.set(Extension::Mid, 9);
        for (number, video) in [(1, false), (2, true)] {
            let codec = CodecParams {
                payload_type: if video { VIDEO } else { AUDIO },
                clock_rate_hz: if video { 90_000 } else { 48_000 },
                format: PayloadFormat::Other,
                rtx: video.then_some(VIDEO_RTX),
                nack: video,
                pli: video,
                transport_cc: true,
            };
            let track = TrackParams {
                layers: Vec::new(),
                voice_activity: true,
                tally: TallyId::default(),
                track: TrackId(number),
                mid: Mid::new(if video { "v" } else { "a" }).expect("a mid"),
                kind: if video { MediaKind::Video } else { MediaKind::Audio },
                codecs: vec![codec],
                ssrcs: Vec::new(),
                rtx_ssrcs: Vec::new(),
                extensions: publisher,
            };
            let session = SessionId(0);
            let home_has = Arc::new(track.clone());
            self.command(0, Command::AddTrack { session, track: Box::new(track) });
            for peer in 1..=SUBSCRIBERS {
                // Every second subscriber gets retransmissions under the SSRC of the original.
                let rtx = video && peer % 2 == 0;
                let payload_type = codec.payload_type;
                // And two of three tell when their packets came.
                let mut extensions = subscriber;
                if peer % 3 > 0 {
                    extensions.set(Extension::TransportCc, TRANSPORT_CC);
                }
                let leg = LegParams {
                    leg: LegId(number * 1_000 + peer as u64),
                    track: TrackId(number),
                    mid: Mid::new("s").expect("a mid"),
                    ssrc: if video { VIDEO_LEG } else { AUDIO_LEG },
                    rtx_ssrc: rtx.then_some(RTX_LEG),
                    payload_types: vec![PayloadMap {
                        from: payload_type,
                        to: payload_type,
                        rtx: rtx.then_some(VIDEO_RTX),
                    }],
                    extensions,
                    cname: "publisher".to_owned(),
                };
                let session = SessionId(peer as u64);
                let (leg, home) = (Box::new(leg), ShardId(0));
                let command = match self.shards.len() {
                    1 => Command::AddLeg { session, leg },
                    _ => {
                        let track = Arc::clone(&home_has);
                        Command::AddRelayedLeg { session, leg, home, track }
                    }
                };
                self.command(peer, command);
            }
        }
    }

    /// Turns the shards until they rest, counting, and hands what they sent to the clients.
    fn turn(&mut self) {
        let mut at_rest = false;
        while !at_rest {
            at_rest = true;
            for at in 0..self.shards.len() {
                let OneShard { shard, network, .. } = &mut self.shards[at];
                COUNTING.set(true);
                let next = shard.turn(self.now, network);
                COUNTING.set(false);
                self.allocations += COUNTED.replace(0);
                self.deliver(at);
                at_rest &= next != NextWake::Now;
            }
        }
    }

    fn deliver(&mut self, at: usize) {
        let mut datagram = [0; SLOT];
        while let Some((route, bytes)) = self.shards[at].network.sent.pop() {
            let len = bytes.len();
            datagram[..len].copy_from_slice(bytes);
            let datagram = &mut datagram[..len];
            let peer = usize::from(route.remote.port() - FIRST_PORT);
            let header =
                RtpHeader::parse(datagram).ok().filter(|_| (128..192).contains(&datagram[0]));
            // Each subscriber loses one video packet in forty, one at a time, at its first coming.
            if let Some(header) = header
                && header.ssrc == VIDEO_LEG
                && (usize::from(header.seq.0) + peer) % 40 == 0
                && self.lost_of[peer] != Some(header.seq)
                && (datagram[1] & 0x7f) == VIDEO.0
            {
                self.lost_of[peer] = Some(header.seq);
                self.lost.push_back((self.now + Duration::from_millis(20), peer, header.seq));
                continue;
            }
            let send = &mut to_shard(peer, &mut self.shards);
            self.peers[peer].handle_datagram(self.now, datagram, send);
        }
        self.answer_nacks();
    }

    /// The publisher sends again what the shard asks for.
    fn answer_nacks(&mut self) {
        let Some(publisher) = self.peers.first_mut() else { return };
        for compound in std::mem::take(&mut publisher.received_rtcp) {
            for packet in rtcp::packets(&compound).flatten() {
                let Packet::Nack(wanted) = packet else { continue };
                for seq in wanted.lost() {
                    let Some((_, plain)) = self.kept.iter().find(|(kept, _)| *kept == seq.0) else {
                        continue;
                    };
                    let header = RtpHeader::parse(plain).expect("our own packet");
                    let index = ExtSeqNum(100 + self.sent_rtx);
                    self.sent_rtx += 1;
                    let mut rtx = plain[..header.header_len].to_vec();
                    rtx[1] = VIDEO_RTX.0;
                    rtx[2..4].copy_from_slice(&index.seq().0.to_be_bytes());
                    rtx[8..12].copy_from_slice(&RTX_SSRC.0.to_be_bytes());
                    rtx.extend_from_slice(&seq.0.to_be_bytes());
                    rtx.extend_from_slice(&plain[header.header_len..]);
                    let send = &mut to_shard(0, &mut self.shards);
                    self.peers[0].send_rtp(index, &rtx, send);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            let tick = self.now.as_micros() / 1_000;
            for peer in 0..self.peers.len() {
                let client = &mut self.peers[peer];
                if client.next_deadline().is_some_and(|due| due <= self.now) {
                    client.handle_timeout(self.now, &mut to_shard(peer, &mut self.shards));
                }
                for received in client.received.drain(..) {
                    if let Some(seq) = transport_seq(&received.packet) {
                        self.arrivals[peer].on_packet(self.now, seq);
                    }
                }
                if client.is_connected() && tick % 500 == peer as u64 {
                    self.report(peer);
                }
            }
            if self.peers[0].is_connected() {
                if tick.is_multiple_of(20) {
                    self.publish(false);
                }
                if tick.is_multiple_of(11) {
                    self.publish(true);
                }
            }
            self.ask_for_lost();
            self.tell_arrivals();
            self.turn();
        }
    }

    /// Subscribers' transport-wide feedback.
    fn tell_arrivals(&mut self) {
        for peer in 1..self.peers.len() {
            let mut statuses = [None; 256];
            while let Some(plan) = self.arrivals[peer].build(self.now, &mut statuses) {
                let feedback = twcc::Feedback {
                    sender: Ssrc(9),
                    media: VIDEO_LEG,
                    base_seq: plan.base_seq,
                    reference_time: plan.reference_time,
                    feedback_count: plan.feedback_count,
                    statuses: &statuses[..plan.count],
                };
                let mut compound = [0; 1_024];
                let len = twcc::write(&mut compound, &feedback).expect("room");
                let send = &mut to_shard(peer, &mut self.shards);
                self.peers[peer].send_rtcp(&compound[..len], send);
            }
        }
    }

    fn ask_for_lost(&mut self) {
        while let Some(&(at, peer, seq)) = self.lost.front()
            && at <= self.now
        {
            self.lost.pop_front();
            let mut compound = [0; 128];
            let mut len = rr::write(&mut compound, Ssrc(9), &[]).expect("room");
            len += nack::write(&mut compound[len..], Ssrc(9), VIDEO_LEG, &[seq]).expect("room");
            let send = &mut to_shard(peer, &mut self.shards);
            self.peers[peer].send_rtcp(&compound[..len], send);
        }
    }

    /// The publisher's sender reports; a subscriber's receiver report, and now and then a wish for a key frame.
    fn report(&mut self, peer: usize) {
        let mut compound = [0; 256];
        let send = &mut to_shard(peer, &mut self.shards);
        let mut len = 0;
        if peer == 0 {
            let ntp = NtpTime(3_900_000_000 << 32).offset_nanos(self.now.as_nanos() as i64);
            for ssrc in [AUDIO_SSRC, VIDEO_SSRC] {
                let rtp_time = RtpTime(self.now.as_micros() as u32);
                let report = SenderReport { ssrc, ntp, rtp_time, packets: 1, octets: 1 };
                len += sr::write(&mut compound[len..], &report, &[]).expect("room");
            }
        } else {
            let blocks =
                [AUDIO_LEG, VIDEO_LEG].map(|ssrc| ReportBlock { ssrc, ..Default::default() });
            len += rr::write(&mut compound, Ssrc(9), &blocks).expect("room");
            if peer.is_multiple_of(10) {
                len += pli::write(&mut compound[len..], Ssrc(9), VIDEO_LEG).expect("room");
            }
        }
        self.peers[peer].send_rtcp(&compound[..len], send);
    }

    /// Sends one packet; one video packet in fifty is lost on its way to the shard.
    fn publish(&mut self, video: bool) {
        let (count, payload_type, ssrc, mid, size) = match video {
            true => (&mut self.sent_video, VIDEO, VIDEO_SSRC, b"v", 1_000),
            false => (&mut self.sent_audio, AUDIO, AUDIO_SSRC, b"a", 100),
        };
        let number = *count;
        *count += 1;
        let transport_seq = (self.sent_audio + self.sent_video) as u16;
        let index = ExtSeqNum(100 + number);
        let mut packet = vec![0; FixedHeader::LEN + 32];
        let header = FixedHeader {
            marker: video && number % 3 == 2,
            payload_type,
            seq: index.seq(),
            timestamp: RtpTime(number as u32 * 960),
            ssrc,
            has_extension: true,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        if number < 50 {
            extensions.push(4, mid);
        }
        extensions.push(1, &[0x9c]);
        extensions.push(3, &transport_seq.to_be_bytes());
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        packet.resize(len + size, 0);
        if video {
            if self.kept.len() == 256 {
                self.kept.pop_front();
            }
            self.kept.push_back((index.seq().0, packet.clone()));
        }
        let arrives = !(video && number % 50 == 49);
        let mut send = to_shard(0, &mut self.shards);
        self.peers[0].send_rtp(index, &packet, &mut |d: &[u8]| {
            if arrives {
                send(d);
            }
        });
    }
}

fn transport_seq(packet: &[u8]) -> Option<u16> {
    let view = RtpView::parse(packet).ok()?;
    let (profile, block) = view.extension()?;
    let (_, value) = elements(profile, block).find(|&(id, _)| id == TRANSPORT_CC)?;
    Some(u16::from_be_bytes(value.try_into().ok()?))
}

#[test]
fn a_warm_call_takes_no_memory() {
    takes_no_memory(Call::new(1));
}

#[test]
fn a_warm_call_on_two_shards_takes_no_memory() {
    takes_no_memory(Call::new(2));
}

fn takes_no_memory(mut call: Call) {
    let end = call.now + Duration::from_secs(20);
    while !call.peers.iter().all(Client::is_connected) {
        assert!(call.now < end, "not everyone is connected");
        call.run(Duration::from_millis(10));
    }
    call.run(Duration::from_secs(3));
    let before = call.counters();
    call.allocations = 0;
    SHOWING.set(true);
    call.run(Duration::from_secs(6));
    let after = call.counters();
    let sum =
        |of: fn(&ShardCounters) -> u64, all: &[ShardCounters]| all.iter().map(of).sum::<u64>();
    let more = |of| sum(of, &after) - sum(of, &before);
    let forwarded = more(|c| c.rtp_packets_out);
    println!("{forwarded} packets forwarded with {} allocations", call.allocations);
    assert!(forwarded > 6 * 130 * SUBSCRIBERS as u64, "{forwarded}");
    assert!(more(|c| c.rtx_out) > 6 * SUBSCRIBERS as u64, "subscribers get what they lost");
    assert!(more(|c| c.rtx_in) > 5 && more(|c| c.nacks_out) > 5, "the publisher is asked");
    assert!(more(|c| c.transport_cc_out) > 50);
    assert!(more(|c| c.transport_cc_in) > 30 * SUBSCRIBERS as u64, "subscribers tell arrivals");
    assert_eq!(sum(|c| c.transport_cc_missed, &after), 0, "of what is remembered");
    assert!(more(|c| c.rtcp_packets_in) > 10 * SUBSCRIBERS as u64);
    assert!(more(|c| c.rtcp_packets_out) > 3 * SUBSCRIBERS as u64, "reports went out");
    assert!(more(|c| c.keyframe_requests_out) > 5);
    assert!(more(|c| c.stun_checks) >= 2 * SUBSCRIBERS as u64, "consent is kept fresh");
    assert_eq!(more(|c| c.relayed_in) > 6 * 130, call.shards.len() == 2);
    assert_eq!(call.allocations, 0);
}

/// What a call does per packet, for every profile: the call above chose but one.
#[test]
fn sealing_and_opening_take_no_memory() {
    for &profile in Profile::ALL {
        let key = vec![7; profile.key_len()];
        let salt = vec![9; profile.salt_len()];
        let master = MasterKey::new(profile, &key, &salt).expect("a key");
        let mut outbound = OutboundSrtp::new(profile, &master);
        let mut inbound = InboundSrtp::new(profile, &master);
        let mut index = PacketIndex::new();
        let mut bytes = [0; SLOT];
        for number in 0..2_000_u64 {
            let at = ExtSeqNum(60_000 + number);
            let header = FixedHeader {
                marker: false,
                payload_type: VIDEO,
                seq: at.seq(),
                timestamp: RtpTime(0),
                ssrc: VIDEO_SSRC,
                has_extension: false,
                has_padding: false,
            };
            write_fixed_header(&mut bytes, &header).expect("room");
            // The first packets of a stream may make what the others use.
            COUNTING.set(number >= 10);
            let sealed = outbound.seal_rtp(at, &mut bytes, FixedHeader::LEN, 1_000);
            let sealed = &mut bytes[..sealed.expect("an index that is not used up")];
            let opened = inbound.open_rtp(&mut index, sealed, FixedHeader::LEN);
            COUNTING.set(false);
            assert_eq!(opened.map(|opened| (opened.len, opened.index)), Ok((1_000, at)));
            let len = rr::write(&mut bytes, VIDEO_SSRC, &[]).expect("room");
            COUNTING.set(number >= 10);
            let sealed = outbound.seal_rtcp(&mut bytes, len).expect("an index that is not used up");
            let opened = inbound.open_rtcp(&mut bytes[..sealed]);
            COUNTING.set(false);
            assert_eq!(opened, Ok(len));
        }
        assert_eq!(COUNTED.replace(0), 0, "{profile:?}");
    }
}

/// The counter counts: without this the test above could pass on a host where nothing is seen.
#[test]
fn an_allocation_is_seen() {
    COUNTING.set(true);
    let block = std::hint::black_box(Box::new([0_u8; 100]));
    COUNTING.set(false);
    drop(block);
    assert_eq!(COUNTED.replace(0), 1);
    COUNTING.set(true);
    let layout = Layout::from_size_align(64, 64).expect("a layout");
    // SAFETY: the layout has a size, and the block is given back under the same layout.
    unsafe {
        use std::alloc::GlobalAlloc;
        let block = std::hint::black_box(System.alloc_zeroed(layout));
        System.dealloc(block, layout);
    }
    COUNTING.set(false);
    assert_eq!(COUNTED.replace(0), 1);
    // And so is one that C code makes.
    COUNTING.set(true);
    let digest = aws_lc_rs::signature::EcdsaKeyPair::generate(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    );
    COUNTING.set(false);
    assert!(digest.is_ok() && COUNTED.replace(0) > 1);
}
