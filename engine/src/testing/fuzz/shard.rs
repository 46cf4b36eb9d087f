//! A whole shard with two participants, driven by bytes as a list of datagrams, commands and steps of time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Plan;
use crate::clock::{Instant, NtpTime, WallClock};
use crate::command_error::CommandError;
use crate::config::EngineConfig;
use crate::dtls::{DtlsRole, Identity};
use crate::ice::Credentials;
use crate::ids::{
    CallId, ExtSeqNum, LegId, Mid, PayloadType, Rid, RtpTime, SeqNum, SessionId, ShardId, Ssrc,
    TallyId, TrackId,
};
use crate::relay::{Message, PacketHead, Word};
use crate::route::{Route, Transport};
use crate::rtp::report::SenderClock;
use crate::session::params::{
    CodecParams, LegParams, MediaKind, PayloadMap, RemoteParams, SessionParams, TrackParams,
};
use crate::shard::handle::{Envelope, Reports};
use crate::shard::mailbox::{Answer, Command, Report};
use crate::shard::steering::{RELAYED_BYTES_MAX, Steering};
use crate::shard::{NextWake, Shard, ShardParts};
use crate::testing::client::{Client, ClientParams};
use crate::testing::net::SimNetwork;
use crate::wire::classify::{Kind, classify};
use crate::wire::payload::PayloadFormat;
use crate::wire::rtcp::twcc;
use crate::wire::rtp::RtpHeader;
use crate::wire::rtp_ext::{Extension, ExtensionMap};

/// Whatever two participants, a stranger and the control plane do: no panic, no nonce twice with other bytes, nothing to an
/// address that proved nothing, rest after every step, and nothing left when both have gone.
pub fn shard(data: &[u8]) {
    let mut plan = Plan::new(data);
    let mut scene = Scene::new();
    scene.set_up();
    while plan.has_more() {
        scene.step(&mut plan);
    }
    scene.tear_down();
}

struct Quiet;

impl Reports for Quiet {
    fn try_report(&mut self, _report: Report) -> Result<(), Report> {
        Ok(())
    }
}

struct Scene {
    now: Instant,
    shard: Shard,
    network: SimNetwork,
    mailbox: SyncSender<Envelope>,
    /// The rings of another shard, which says what the plan has it say.
    elsewhere: Steering,
    /// Packets that it said so far.
    relayed: u64,
    clients: [Client; 2],
    proven: HashSet<SocketAddr>,
    sealed: HashMap<(SocketAddr, u32, u64), Vec<u8>>,
    highest: HashMap<(SocketAddr, u32), ExtSeqNum>,
    sealed_rtcp: HashSet<(SocketAddr, u32, u32)>,
    /// Where each client's streams stand.
    indices: [[u64; STREAMS]; 2],
    fresh_ssrc: u32,
}

const STREAMS: usize = 6;
/// The first half are those of sessions, the others another shard's.
const TRACKS_IN_ALL: u64 = 8;
const CODECS: [(u8, Option<u8>); 2] = [(111, None), (96, Some(97))];

fn identity(of: usize) -> &'static Identity {
    static MADE: OnceLock<[Identity; 2]> = OnceLock::new();
    let make = || Identity::generate().expect("a certificate");
    &MADE.get_or_init(|| [make(), make()])[of]
}

fn credentials(of: u8) -> Credentials {
    Credentials::generate(ShardId(0), &mut |bytes: &mut [u8]| bytes.fill(of))
}

fn address(of: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, of as u8], 5_000))
}

fn session(of: usize) -> SessionId {
    SessionId(of as u64)
}

fn remote(of: usize, generation: u8) -> RemoteParams {
    RemoteParams {
        ice: credentials(100 + of as u8 + 2 * generation),
        fingerprints: vec![identity(1).fingerprint().clone()],
        dtls_role: DtlsRole::Passive,
    }
}

impl Scene {
    fn new() -> Self {
        let now = Instant::from_start(Duration::from_secs(1_000));
        let (mailbox, orders) = sync_channel(64);
        let mut rings = Steering::mesh(2);
        let elsewhere = rings.remove(1);
        let parts = ShardParts {
            id: ShardId(0),
            config: EngineConfig { history_packets: 32, ..EngineConfig::default() },
            identity: Arc::new(identity(0).clone()),
            wall: WallClock::fixed(now, NtpTime(3_900_000_000 << 32)),
            seed: 1,
            steering: rings.remove(0),
            mailbox: orders,
            reports: Box::new(Quiet),
        };
        let client = |of: usize| {
            let params = ClientParams {
                identity: identity(1).clone(),
                local: credentials(100 + of as u8),
                remote: credentials(of as u8),
                fingerprint: identity(0).fingerprint().clone(),
                dtls_role: DtlsRole::Active,
                seed: of as u64,
            };
            Client::new(now, params)
        };
        Self {
            now,
            shard: Shard::new(now, parts),
            network: SimNetwork::default(),
            mailbox,
            elsewhere,
            relayed: 0,
            clients: [client(0), client(1)],
            proven: HashSet::from([address(0), address(1)]),
            sealed: HashMap::new(),
            highest: HashMap::new(),
            sealed_rtcp: HashSet::new(),
            indices: [[1; STREAMS]; 2],
            fresh_ssrc: 100,
        }
    }

    fn set_up(&mut self) {
        for of in 0..2 {
            let params = SessionParams {
                data_channels: false,
                session: session(of),
                call: CallId(1),
                local_ice: credentials(of as u8),
                remote: Some(remote(of, 0)),
                cname: "server".to_owned(),
            };
            self.command(Command::AddSession(Box::new(params))).expect("room");
            self.add_track(of, of as u64);
        }
        for _ in 0..40 {
            self.now = self.now + Duration::from_millis(10);
            self.clients_act();
            self.turn();
        }
        assert!(self.clients.iter().all(Client::is_connected), "both connect");
        self.add_leg(1, 0, true);
        self.add_leg(0, 1, false);
    }

    fn clients_act(&mut self) {
        for of in 0..2 {
            let mut out = Vec::new();
            if self.clients[of].next_deadline().is_some_and(|due| due <= self.now) {
                self.clients[of].handle_timeout(self.now, &mut |d: &[u8]| out.push(d.to_vec()));
            }
            out.into_iter().for_each(|datagram| self.arrive(address(of), datagram));
        }
    }

    fn arrive(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        let route = Route { transport: Transport::Udp, local: 0, remote };
        self.network.arrived.push_back((route, datagram));
    }

    fn command(&mut self, command: Command) -> Result<Answer, CommandError> {
        let (envelope, mut reply) = Envelope::new(command);
        assert!(self.mailbox.try_send(envelope).is_ok(), "room in the mailbox");
        self.turn();
        reply.try_recv().expect("the shard lives").expect("answered within a turn")
    }

    fn turn(&mut self) {
        for _ in 0..100 {
            let next = self.shard.turn(self.now, &mut self.network);
            while let Some((route, datagram)) = self.network.sent.pop_front() {
                self.audit(route.remote, &datagram);
                if let Some(of) = (0..2).find(|&of| address(of) == route.remote) {
                    let mut out = Vec::new();
                    let send = &mut |d: &[u8]| out.push(d.to_vec());
                    self.clients[of].handle_datagram(self.now, &mut datagram.clone(), send);
                    self.clients[of].received.clear();
                    self.clients[of].received_rtcp.clear();
                    out.into_iter().for_each(|datagram| self.arrive(address(of), datagram));
                }
            }
            match next {
                NextWake::Now => {}
                NextWake::At(at) => return assert!(at > self.now, "a timer in the past"),
                NextWake::Arrival if self.network.arrived.is_empty() => return,
                NextWake::Arrival => {}
            }
        }
        panic!("a shard that never rests");
    }

    fn audit(&mut self, remote: SocketAddr, datagram: &[u8]) {
        assert!(self.proven.contains(&remote), "a byte to {remote}");
        assert!(datagram.len() <= 1_472, "{} bytes", datagram.len());
        match classify(datagram) {
            Some(Kind::Rtp) => {
                let header = RtpHeader::parse(datagram).expect("a header of ours");
                let stream = (remote, header.ssrc.0);
                let reference = self.highest.get(&stream).copied();
                let reference = reference.unwrap_or(ExtSeqNum(u64::from(header.seq.0)));
                let index = ExtSeqNum::nearest(header.seq, reference);
                self.highest.insert(stream, reference.max(index));
                let key = (remote, header.ssrc.0, index.0);
                let before = self.sealed.entry(key).or_insert_with(|| datagram.to_vec());
                assert_eq!(before, datagram, "a nonce used twice");
            }
            Some(Kind::Rtcp) => {
                let (_, word) = datagram.split_last_chunk::<4>().expect("a packet of ours");
                let ssrc = [datagram[4], datagram[5], datagram[6], datagram[7]];
                let key = (remote, u32::from_be_bytes(ssrc), u32::from_be_bytes(*word));
                assert!(self.sealed_rtcp.insert(key), "an SRTCP index used twice");
            }
            Some(Kind::Stun | Kind::Dtls) => {}
            None => panic!("something that is no protocol"),
        }
    }

    fn step(&mut self, plan: &mut Plan<'_>) {
        let operation = plan.u8();
        let of = usize::from(operation >> 7);
        match operation & 0x0F {
            0 => {
                let from = [address(0), address(1), address(77)][usize::from(plan.u8()) % 3];
                let len = usize::from(plan.u8());
                let datagram = plan.bytes(len).to_vec();
                self.arrive(from, datagram);
            }
            1 => {
                let len = usize::from(plan.u8());
                let compound = plan.bytes(len).to_vec();
                self.send_rtcp(of, &compound);
            }
            2 => self.nack(of, plan),
            3 => self.send_raw_rtp(of, plan),
            4 => {
                let scale = if operation & 0x10 == 0 { 1 } else { 200 };
                self.now = self.now + Duration::from_millis(1 + u64::from(plan.u8()) * scale);
                self.clients_act();
            }
            5 => self.order(of, plan),
            8 => self.say_of_a_track(plan),
            7 => self.tell_arrivals(of, plan),
            6 => {
                let later = self.now + Duration::from_secs(5);
                let mut out = Vec::new();
                self.clients[of].handle_timeout(later, &mut |d: &[u8]| out.push(d.to_vec()));
                let from = address([of, 1 - of, 200][usize::from(operation >> 4) % 3]);
                self.proven.insert(from);
                out.into_iter().for_each(|datagram| self.arrive(from, datagram));
            }
            _ => self.send_rtp(of, operation, plan),
        }
        self.turn();
    }

    fn send_rtcp(&mut self, of: usize, compound: &[u8]) {
        let mut out = Vec::new();
        self.clients[of].send_rtcp(compound, &mut |d: &[u8]| out.push(d.to_vec()));
        out.into_iter().for_each(|datagram| self.arrive(address(of), datagram));
    }

    /// Asks for packets near the last that were sent, of a leg or of nothing.
    fn nack(&mut self, of: usize, plan: &mut Plan<'_>) {
        let known: Vec<u32> =
            self.highest.keys().filter(|(to, _)| *to == address(of)).map(|&(_, s)| s).collect();
        let choice = usize::from(plan.u8());
        let ssrc = known.get(choice % (known.len() + 1)).copied().unwrap_or(1);
        let highest = self.highest.get(&(address(of), ssrc)).copied().unwrap_or_default();
        let SeqNum(seq) = highest.seq();
        let pid = seq.wrapping_sub(u16::from(plan.u8()));
        let mut compound = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
        compound.extend(ssrc.to_be_bytes());
        compound.extend(pid.to_be_bytes());
        compound.extend(plan.u16().to_be_bytes());
        // A report about the stream as well: it confirms the MID.
        if choice & 0x80 != 0 {
            compound.extend([0x81, 201, 0, 7, 0, 0, 0, 1]);
            compound.extend(ssrc.to_be_bytes());
            compound.extend([0; 20]);
        }
        self.send_rtcp(of, &compound);
    }

    /// Transport-wide feedback about some of the first numbers: each arrived, now or a little later than the one before, or not.
    fn tell_arrivals(&mut self, of: usize, plan: &mut Plan<'_>) {
        let base_seq = u16::from(plan.u8());
        let len = 1 + usize::from(plan.u8() % 32);
        let status = |&byte: &u8| (byte & 3 != 0).then_some(i16::from(byte >> 2));
        let statuses: Vec<_> = plan.bytes(len).iter().map(status).collect();
        let feedback = twcc::Feedback {
            sender: Ssrc(1),
            media: Ssrc(1),
            base_seq,
            reference_time: (self.now.as_micros() / 64_000) as u32,
            feedback_count: 0,
            statuses: &statuses,
        };
        let mut compound = [0; 256];
        if let Some(len) = twcc::write(&mut compound, &feedback) {
            self.send_rtcp(of, &compound[..len]);
        }
    }

    /// A packet of one of the client's streams; which, how far on, and what is odd about it come from the plan.
    fn send_rtp(&mut self, of: usize, operation: u8, plan: &mut Plan<'_>) {
        let shape = plan.u8();
        let stream = usize::from(shape) % STREAMS;
        let step = plan.u8();
        let index = &mut self.indices[of][stream];
        *index = match step {
            0..=199 => *index + 1,
            200..=229 => *index + u64::from(step - 199),
            230..=239 => *index + u64::from(step) * 100,
            _ => index.saturating_sub(u64::from(step - 239)),
        };
        let index = ExtSeqNum(*index);
        let payload_type = [111, 96, 97, 96, 97, 64][stream];
        let mut packet = vec![0x90, payload_type | shape & 0x80];
        packet.extend(index.seq().0.to_be_bytes());
        packet.extend((index.0 as u32).wrapping_mul(900).to_be_bytes());
        packet.extend((stream as u32 + 10).to_be_bytes());
        // MID, RID, audio level and transport-wide number.
        let (mid, rid) = (b'0' + (operation >> 4) % 3, b'a' + (operation >> 6) % 2);
        packet.extend([0xBE, 0xDE, 0, 3, 0x40, mid, 0x50, rid, 0x10, shape, 0x31, shape, step]);
        packet.extend([0; 3]);
        if payload_type == 97 {
            let media = ExtSeqNum(self.indices[of][stream - 1]).seq().0;
            packet.extend(media.wrapping_sub(u16::from(step >> 4)).to_be_bytes());
        }
        packet.resize(packet.len() + usize::from(shape & 0x3F) * 30, shape);
        self.send_sealed(of, index, &packet);
    }

    /// Any bytes behind a header that seals: CSRCs, extensions and padding as they come, under a known SSRC or a new one.
    fn send_raw_rtp(&mut self, of: usize, plan: &mut Plan<'_>) {
        let len = usize::from(plan.u8());
        let mut packet = plan.bytes(len).to_vec();
        let Some(head) = packet.first_chunk_mut::<12>() else { return };
        head[0] = head[0] & 0x3F | 0x80;
        let ssrc = if head[8] & 1 == 0 {
            self.fresh_ssrc += 1;
            self.fresh_ssrc
        } else {
            u32::from(head[9]) % 8 + 10
        };
        head[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let seq = u16::from_be_bytes([head[2], head[3]]);
        self.send_sealed(of, ExtSeqNum(u64::from(seq)), &packet);
    }

    /// Another shard says something of a track that it has or has not. It never says one packet twice.
    fn say_of_a_track(&mut self, plan: &mut Plan<'_>) {
        let mut heard = [0; RELAYED_BYTES_MAX];
        while self.elsewhere.take_relay(self.now, ShardId(0), &mut heard).is_some() {}
        let (what, layer, flags) = (plan.u8(), plan.u8() % 4, plan.u8());
        let word = match what % 8 {
            0 => {
                let clock =
                    SenderClock::with_offset(self.now, i64::from(plan.u16()) << (flags % 48));
                let (ntp, rtp) = (NtpTime(u64::from(plan.u16()) << 32), RtpTime(plan.u16().into()));
                Word::Clock { layer, clock, ntp, rtp }
            }
            1 => Word::Want { layers: flags },
            2 => Word::Stop,
            3 if flags < 16 => Word::Ended,
            _ => {
                self.relayed += 1 + u64::from(flags >> 5);
                Word::Packet(PacketHead {
                    source: u32::from(layer),
                    layer,
                    index: ExtSeqNum(self.relayed),
                    clock_rate_hz: 90_000,
                    resumed: u32::from(flags & 1),
                })
            }
        };
        let mut packet = Vec::new();
        if let Word::Packet(head) = word {
            packet.extend([0x80, [111, 96][usize::from(flags >> 1 & 1)]]);
            packet.extend(head.index.seq().0.to_be_bytes());
            packet.extend((head.index.0 as u32).wrapping_mul(900).to_be_bytes());
            packet.extend([0; 4]);
            let len = usize::from(plan.u8());
            packet.extend(plan.bytes(len));
            if flags & 4 != 0 {
                packet[0] = plan.u8();
            }
        }
        let track = TrackId(u64::from(what >> 3) % TRACKS_IN_ALL);
        let message = Message { call: CallId(1 + u64::from(what >> 7)), track, word };
        self.elsewhere.send_relay(ShardId(0), &message, &packet);
    }

    fn send_sealed(&mut self, of: usize, index: ExtSeqNum, plain: &[u8]) {
        let mut out = Vec::new();
        self.clients[of].send_rtp(index, plain, &mut |d: &[u8]| out.push(d.to_vec()));
        out.into_iter().for_each(|datagram| self.arrive(address(of), datagram));
    }

    /// One command, of ids that exist or not, in any order.
    fn order(&mut self, of: usize, plan: &mut Plan<'_>) {
        let (what, id) = (plan.u8(), u64::from(plan.u8() % 4));
        let session = session(of);
        match what % 8 {
            0 => self.add_track(of, id),
            1 => {
                let _ = self.command(Command::RemoveTrack { session, track: TrackId(id) });
            }
            2 | 3 if what & 16 == 0 => self.add_leg(of, id, what & 8 == 0),
            2 | 3 => self.add_relayed_leg(of, id, what & 8 == 0),
            4 => {
                let _ = self.command(Command::RemoveLeg { session, leg: LegId(id) });
            }
            5 => {
                let local = credentials(10 + of as u8 + 2 * id as u8);
                let _ = self.command(Command::RestartIce { session, local });
            }
            6 => {
                let remote = Box::new(remote(of, id as u8));
                let _ = self.command(Command::SetRemote { session, remote });
            }
            // Rarely, since not much happens after it.
            _ if what > 250 => {
                let _ = self.command(Command::RemoveSession { session });
            }
            _ => {
                let (track, muted) = (TrackId(id), what & 8 == 0);
                let _ = self.command(Command::SetMuted { session, track, muted });
            }
        }
    }

    fn add_track(&mut self, of: usize, id: u64) {
        let track = Box::new(track_params(id));
        let _ = self.command(Command::AddTrack { session: session(of), track });
    }

    fn add_leg(&mut self, of: usize, id: u64, rtx: bool) {
        let leg = Box::new(self.leg_params(id, rtx));
        let _ = self.command(Command::AddLeg { session: session(of), leg });
    }

    /// Of a track that no session here can publish.
    fn add_relayed_leg(&mut self, of: usize, id: u64, rtx: bool) {
        let id = id + TRACKS_IN_ALL / 2;
        let leg = Box::new(self.leg_params(id, rtx));
        let (home, track) = (ShardId(1), Arc::new(track_params(id)));
        let _ = self.command(Command::AddRelayedLeg { session: session(of), leg, home, track });
    }

    fn leg_params(&mut self, id: u64, rtx: bool) -> LegParams {
        self.fresh_ssrc += 2;
        let map = |(from, repair): (u8, Option<u8>)| PayloadMap {
            from: PayloadType(from),
            to: PayloadType(from - 10),
            rtx: repair.map(PayloadType).filter(|_| rtx),
        };
        let mut extensions = ExtensionMap::default();
        extensions.set(Extension::AudioLevel, 2);
        extensions.set(Extension::Mid, 9);
        if id < 3 {
            extensions.set(Extension::TransportCc, 12);
        }
        LegParams {
            leg: LegId(id),
            track: TrackId(id),
            mid: Mid::new("s").expect("a letter"),
            ssrc: Ssrc(self.fresh_ssrc),
            rtx_ssrc: rtx.then_some(Ssrc(self.fresh_ssrc + 1)),
            payload_types: CODECS.map(map).to_vec(),
            extensions,
            cname: "publisher".to_owned(),
        }
    }

    /// Whoever has not left vanishes: within two minutes nothing may be left of the call.
    fn tear_down(&mut self) {
        for _ in 0..240 {
            self.now = self.now + Duration::from_millis(500);
            self.turn();
        }
        let answer = self.command(Command::Snapshot { sessions: true });
        let Ok(Answer::Snapshot(left)) = answer else { panic!("no snapshot") };
        assert_eq!((left.sessions, left.calls, left.tracks, left.legs), (0, 0, 0, 0));
        assert_eq!(self.network.open_paths(), 0, "handles leak");
        assert_eq!(left.counters.panics, 0);
    }
}

fn track_params(id: u64) -> TrackParams {
    let mut extensions = ExtensionMap::default();
    extensions.set(Extension::AudioLevel, 1);
    extensions.set(Extension::TransportCc, 3);
    extensions.set(Extension::Mid, 4);
    extensions.set(Extension::Rid, 5);
    // Every second track is in simulcast.
    let rids = ["a", "b"].iter().take(if id % 2 == 1 { 2 } else { 0 });
    let layers = rids.filter_map(|rid| Rid::new(rid)).collect();
    let codec = |(payload_type, rtx): (u8, Option<u8>)| CodecParams {
        payload_type: PayloadType(payload_type),
        clock_rate_hz: 90_000,
        format: PayloadFormat::Vp8,
        rtx: rtx.map(PayloadType),
        nack: rtx.is_some(),
        pli: rtx.is_some(),
        transport_cc: true,
    };
    TrackParams {
        layers,
        voice_activity: true,
        tally: TallyId::default(),
        track: TrackId(id),
        mid: Mid::new(&id.to_string()).expect("a digit"),
        kind: MediaKind::Video,
        codecs: CODECS.map(codec).to_vec(),
        ssrcs: vec![Ssrc(id as u32 + 10)],
        rtx_ssrcs: Vec::new(),
        extensions,
    }
}
