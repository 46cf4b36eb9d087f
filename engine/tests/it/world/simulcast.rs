//! What simulcast adds to a world: a publisher of layers, paths of their own for receivers, and what receivers make of the packets.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_engine::clock::{Instant, NtpTime};
use sluice_engine::ids::{ExtSeqNum, Mid, Rid, RtpTime, SeqNum, Ssrc, TallyId, TrackId};
use sluice_engine::session::params::{CodecParams, MediaKind, TrackParams};
use sluice_engine::wire::payload::PayloadFormat;
use sluice_engine::wire::rtcp::sr::{self, SenderReport};
use sluice_engine::wire::rtcp::twcc;
use sluice_engine::wire::rtp::{FixedHeader, RtpHeader, write_fixed_header};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionWriter};

use super::{Peer, VIDEO, VIDEO_RTX, World, fnv, publisher_extensions};

/// The way to one receiver: so much a second, and a queue of so much time before it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub bps: u64,
    pub queue: Duration,
    free_at: Instant,
}

impl Link {
    pub fn new(bps: u64, queue_ms: u64) -> Self {
        Self { bps, queue: Duration::from_millis(queue_ms), free_at: Instant::default() }
    }

    /// When `bytes` that are handed over at `now` have passed; `None` when the queue is full.
    pub fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let start = self.free_at.max(now);
        if start.since(now) > self.queue {
            return None;
        }
        self.free_at = start + Duration::from_secs_f64(bytes as f64 * 8.0 / self.bps as f64);
        Some(self.free_at)
    }
}

/// A track in simulcast: one picture, encoded several times.
pub struct Layered {
    pub track: TrackId,
    pub mid: Mid,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// Whether the publisher reports on what it sends.
    pub reports: bool,
    next_at: Instant,
    next_report: Instant,
    frame: u32,
}

pub struct Layer {
    rid: Rid,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Ssrc,
    /// Packets of a frame.
    pub parts: u8,
    pub is_sent: bool,
    /// Key frames sent.
    pub keyframes: u32,
    /// Requests that came.
    pub plis: u32,
    wants_keyframe: bool,
    index: ExtSeqNum,
    rtx_index: ExtSeqNum,
    picture: u16,
    tl0: u8,
    /// What its timestamps are at the start of the clock.
    time_offset: u32,
    kept: BTreeMap<u16, Vec<u8>>,
    is_reported_on: bool,
}

/// One packet as a receiver got it, by itself or repaired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub at: Instant,
    pub layer: u8,
    pub frame: u32,
    pub part: u8,
    pub parts: u8,
    pub is_key: bool,
    pub timestamp: RtpTime,
    pub captured_ms: u64,
    pub picture: u16,
    pub tl0: u8,
}

const FRAME_MS: u64 = 50;
const PART_BYTES: usize = 1_000;
const DESCRIPTOR_LEN: usize = 5;

impl World {
    /// The peer publishes one track in two layers: about half a megabit and two of them, each under an SSRC that only its packets tell.
    pub fn publish_layers(&mut self, peer: usize, format: PayloadFormat) -> TrackId {
        let track = TrackId(self.fresh_id());
        let mid = Mid::new("sim").expect("a mid");
        let rids = ["l", "h"].map(|rid| Rid::new(rid).expect("a rid"));
        let codec = CodecParams {
            payload_type: VIDEO,
            clock_rate_hz: 90_000,
            format,
            rtx: Some(VIDEO_RTX),
            nack: true,
            pli: true,
            transport_cc: true,
        };
        let mut extensions = publisher_extensions();
        extensions.set(Extension::Rid, 5);
        extensions.set(Extension::RepairedRid, 6);
        let params = TrackParams {
            layers: rids.to_vec(),
            voice_activity: false,
            tally: TallyId::default(),
            track,
            mid,
            kind: MediaKind::Video,
            codecs: vec![codec],
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            extensions,
        };
        self.add_track(peer, params);
        let mut layer = |rid, parts| Layer {
            rid,
            ssrc: Ssrc(self.rng.u32(1..)),
            rtx_ssrc: Ssrc(self.rng.u32(1..)),
            parts,
            is_sent: true,
            keyframes: 0,
            plis: 0,
            wants_keyframe: true,
            index: ExtSeqNum(self.rng.u64(0..32_768)),
            rtx_index: ExtSeqNum(self.rng.u64(0..32_768)),
            picture: self.rng.u16(..) & 0x7FFF,
            tl0: self.rng.u8(..),
            time_offset: self.rng.u32(..),
            kept: BTreeMap::new(),
            is_reported_on: false,
        };
        let layers = vec![layer(rids[0], 3), layer(rids[1], 12)];
        let now = self.now;
        let next_report = now + Duration::from_millis(100);
        self.peers[peer].layered = Some(Layered {
            track,
            mid,
            layers,
            reports: true,
            next_at: now,
            next_report,
            frame: 0,
        });
        track
    }

    /// A packet of the peer's layered track under an SSRC and with a rid of the caller's choice.
    pub fn layer_packet(&self, peer: usize, ssrc: Ssrc, rid: Option<&str>) -> Vec<u8> {
        let layered = self.peers[peer].layered.as_ref().expect("published");
        let mut packet = vec![0; FixedHeader::LEN + 64];
        let header = FixedHeader {
            marker: true,
            payload_type: VIDEO,
            seq: SeqNum(9),
            timestamp: RtpTime(9),
            ssrc,
            has_extension: true,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        extensions.push(4, layered.mid.as_bytes());
        if let Some(rid) = rid {
            extensions.push(5, rid.as_bytes());
        }
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        packet.resize(len + 20, 0);
        packet
    }

    /// The layers of what the peer publishes.
    pub fn layers(&mut self, peer: usize) -> &mut [Layer] {
        &mut self.peers[peer].layered.as_mut().expect("published").layers
    }

    /// All that a receiver got of a leg, in the order of its numbers.
    pub fn parts_of(&self, peer: usize, ssrc: Ssrc) -> Vec<(u64, Part)> {
        let parts = self.peers[peer].parts.get(&ssrc).into_iter().flatten();
        parts.map(|(&index, part)| (index, part.clone())).collect()
    }

    /// The layer of the newest packet that a receiver got, by its number.
    pub fn layer_now(&self, peer: usize) -> Option<u8> {
        let ssrc = self.peers[peer].subscriptions.first()?.ssrc;
        let (_, newest) = self.peers[peer].parts.get(&ssrc)?.last_key_value()?;
        Some(newest.layer)
    }
}

impl Peer {
    /// Sends what is captured by `now` of the layers, and reports on it.
    pub(super) fn send_layers(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let Some(layered) = &mut self.layered else { return };
        while layered.next_at <= now {
            let at = layered.next_at;
            layered.next_at = at + Duration::from_millis(FRAME_MS);
            layered.frame += 1;
            let (mid, frame) = (layered.mid, layered.frame);
            for (number, layer) in layered.layers.iter_mut().enumerate().filter(|(_, l)| l.is_sent)
            {
                for (index, packet) in layer.encode(at, mid, number as u8, frame) {
                    self.client.send_rtp(index, &packet, &mut |d: &[u8]| out.push(d.to_vec()));
                }
            }
        }
        if layered.reports && layered.next_report <= now {
            layered.next_report = now + Duration::from_millis(500);
            let ntp = NtpTime(1_000 << 32).offset_nanos(now.as_nanos() as i64);
            let mut compound = [0; 256];
            let mut len = 0;
            for layer in &layered.layers {
                let rtp_time = layer.time_of(now);
                let report =
                    SenderReport { ssrc: layer.ssrc, ntp, rtp_time, packets: 1, octets: 1 };
                len += sr::write(&mut compound[len..], &report, &[]).expect("room");
            }
            self.client.send_rtcp(&compound[..len], &mut |d: &[u8]| out.push(d.to_vec()));
        }
    }

    /// The layer that the peer sends under `ssrc`.
    pub(super) fn layer_of(&mut self, ssrc: Ssrc) -> Option<&mut Layer> {
        let layers = self.layered.iter_mut().flat_map(|layered| &mut layered.layers);
        layers.into_iter().find(|layer| layer.ssrc == ssrc)
    }

    /// Answers the server's NACK of a layer on its retransmission stream.
    pub(super) fn resend_layer(&mut self, ssrc: Ssrc, lost: &[SeqNum], out: &mut Vec<Vec<u8>>) {
        let Some(layer) = self.layer_of(ssrc) else { return };
        let packets: Vec<_> = lost.iter().filter_map(|seq| layer.repair(*seq)).collect();
        for (index, packet) in packets {
            self.client.send_rtp(index, &packet, &mut |d: &[u8]| out.push(d.to_vec()));
        }
    }

    /// Tells the server when its numbered packets came.
    pub(super) fn send_transport_feedback(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let mut statuses = [None; 256];
        while let Some(plan) = self.arrivals.build(now, &mut statuses) {
            let feedback = twcc::Feedback {
                sender: Ssrc(1),
                media: Ssrc(1),
                base_seq: plan.base_seq,
                reference_time: plan.reference_time,
                feedback_count: plan.feedback_count,
                statuses: &statuses[..plan.count],
            };
            let mut compound = [0; 1_200];
            let len = twcc::write(&mut compound, &feedback).expect("room");
            self.client.send_rtcp(&compound[..len], &mut |d: &[u8]| out.push(d.to_vec()));
        }
    }

    /// Reads one packet of a layered track and keeps it under its number on the leg.
    pub(super) fn take_part(
        &mut self,
        at: Instant,
        ssrc: Ssrc,
        index: ExtSeqNum,
        header: &RtpHeader,
        payload: &[u8],
    ) -> Option<()> {
        let (descriptor, rest) = payload.split_at_checked(DESCRIPTOR_LEN)?;
        let (body, hash) = rest.split_last_chunk::<8>()?;
        (fnv(body) == u64::from_be_bytes(*hash)).then_some(())?;
        let part = Part {
            at,
            layer: body[1],
            frame: u32::from_be_bytes(body[2..6].try_into().ok()?),
            part: body[6],
            parts: body[7],
            is_key: body[8] == 1,
            captured_ms: u64::from_be_bytes(body[9..17].try_into().ok()?),
            timestamp: header.timestamp,
            picture: u16::from_be_bytes([descriptor[2], descriptor[3]]) & 0x7FFF,
            tl0: descriptor[4],
        };
        let known = self.parts.entry(ssrc).or_default().entry(index.0);
        let before = known.or_insert_with(|| part.clone());
        assert_eq!(*before, Part { at: before.at, ..part }, "{index} of {ssrc} is two packets");
        Some(())
    }
}

impl Layered {
    /// Nothing is captured before `now`.
    pub(super) fn not_before(&mut self, now: Instant) {
        self.next_at = self.next_at.max(now);
    }
}

impl Layer {
    fn time_of(&self, at: Instant) -> RtpTime {
        RtpTime((at.as_nanos() / 1_000 * 9 / 100) as u32).wrapping_add(self.time_offset)
    }

    /// One frame's packets, each with its index.
    fn encode(
        &mut self,
        at: Instant,
        mid: Mid,
        number: u8,
        frame: u32,
    ) -> Vec<(ExtSeqNum, Vec<u8>)> {
        let is_key = std::mem::take(&mut self.wants_keyframe);
        self.keyframes += u32::from(is_key);
        self.picture = self.picture.wrapping_add(1) & 0x7FFF;
        self.tl0 = self.tl0.wrapping_add(1);
        let mut packets = Vec::new();
        for part in 0..self.parts {
            let index = self.index;
            self.index = ExtSeqNum(index.0 + 1);
            let mut packet =
                self.header(at, mid, index, (self.ssrc, VIDEO), 5, part + 1 == self.parts);
            let [high, low] = self.picture.to_be_bytes();
            packet.extend([if part == 0 { 0x90 } else { 0x80 }, 0xC0, high | 0x80, low, self.tl0]);
            let start = packet.len();
            packet.extend([u8::from(!(is_key && part == 0)), number]);
            packet.extend(frame.to_be_bytes());
            packet.extend([part, self.parts, u8::from(is_key)]);
            packet.extend((at.as_nanos() / 1_000_000).to_be_bytes());
            packet.resize(start + PART_BYTES - 8, part);
            let hash = fnv(&packet[start..]);
            packet.extend(hash.to_be_bytes());
            self.kept.insert(index.seq().0, packet.clone());
            if self.kept.len() > 600 {
                self.kept.remove(&index.seq().0.wrapping_sub(600));
            }
            packets.push((index, packet));
        }
        packets
    }

    /// Header and extensions; the rid under extension id `rid_id`. Browsers stop to name stream and layer once they are reported on.
    fn header(
        &self,
        at: Instant,
        mid: Mid,
        index: ExtSeqNum,
        (ssrc, payload_type): (Ssrc, sluice_engine::ids::PayloadType),
        rid_id: u8,
        marker: bool,
    ) -> Vec<u8> {
        let mut packet = vec![0; FixedHeader::LEN + 64];
        let header = FixedHeader {
            marker,
            payload_type,
            seq: index.seq(),
            timestamp: self.time_of(at),
            ssrc,
            has_extension: true,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).expect("room");
        let mut extensions = ExtensionWriter::new(&mut packet[FixedHeader::LEN..], false);
        if !self.is_reported_on {
            extensions.push(4, mid.as_bytes());
            extensions.push(rid_id, self.rid.as_bytes());
        }
        extensions.push(3, &index.seq().0.to_be_bytes());
        let len = FixedHeader::LEN + extensions.finish();
        packet.truncate(len);
        packet
    }

    /// The packet `seq` on the retransmission stream.
    fn repair(&mut self, seq: SeqNum) -> Option<(ExtSeqNum, Vec<u8>)> {
        let plain = self.kept.get(&seq.0)?;
        let header = RtpHeader::parse(plain).expect("our own packet");
        let index = self.rtx_index;
        let mut packet = plain[..FixedHeader::LEN].to_vec();
        packet[1] = packet[1] & 0x80 | VIDEO_RTX.0;
        packet[2..4].copy_from_slice(&index.seq().0.to_be_bytes());
        packet[8..12].copy_from_slice(&self.rtx_ssrc.0.to_be_bytes());
        let mut block = [0; 32];
        let mut extensions = ExtensionWriter::new(&mut block, false);
        extensions.push(4, b"sim");
        extensions.push(6, self.rid.as_bytes());
        let len = extensions.finish();
        packet.extend_from_slice(&block[..len]);
        packet.extend_from_slice(&seq.0.to_be_bytes());
        packet.extend_from_slice(&plain[header.header_len..]);
        self.rtx_index = ExtSeqNum(index.0 + 1);
        Some((index, packet))
    }

    /// The server asks for a key frame.
    pub(super) fn on_pli(&mut self) {
        self.plis += 1;
        self.wants_keyframe = true;
    }

    /// The server reports on the layer: it knows whose the SSRC is.
    pub(super) fn on_reported(&mut self) {
        self.is_reported_on = true;
    }
}
