//! The RTCP that a session sends: reports, requests to the publisher, transport-cc feedback, goodbye.

use std::sync::Arc;

use super::Session;
use super::inbound::{LAYERS_MAX, Role};
use super::timers::Surroundings;
use crate::clock::Instant;
use crate::egress::Egress;
use crate::ids::{SeqNum, Ssrc, TrackId};
use crate::metrics::ShardCounters;
use crate::wire::rtcp::rr::{self, ReportBlock};
use crate::wire::rtcp::sr::SenderReport;
use crate::wire::rtcp::twcc;
use crate::wire::rtcp::{bye, nack, pli, sdes, sr};

/// Plain bytes of one RTCP datagram at most: room for SRTCP's trailer below 1,200.
const COMPOUND_MAX: usize = 1_160;

/// Room for SRTCP's tag and index behind a compound.
const TRAILER_MAX: usize = 24;

/// Report blocks in one packet. Source: RFC 3550 §6.4.1 (5 bits).
const BLOCKS_MAX: usize = 31;

/// Packets that one NACK asks for.
const NACK_MAX: usize = 64;

/// Packets that one transport-cc feedback covers.
const FEEDBACK_MAX: usize = 256;

/// One RTCP datagram in the making.
struct Compound {
    bytes: [u8; COMPOUND_MAX + TRAILER_MAX],
    len: usize,
}

impl Compound {
    fn new() -> Self {
        Self { bytes: [0; COMPOUND_MAX + TRAILER_MAX], len: 0 }
    }

    /// Appends what `write` writes; false, nothing appended, when it does not fit.
    fn append(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let written = write(&mut self.bytes[self.len..COMPOUND_MAX]);
        self.len += written.unwrap_or(0);
        written.is_some()
    }
}

impl Session {
    /// Sends sender reports of all legs and reception reports of all streams. Source: RFC 3550 §6.4.
    pub(super) fn send_reports(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        let mut blocks = [ReportBlock::default(); BLOCKS_MAX];
        let mut count = 0;
        for stream in self.receiver.streams_mut() {
            if count == BLOCKS_MAX {
                break;
            }
            if stream.inbound.highest().is_none() {
                continue;
            }
            let stats = stream.inbound.report(now);
            blocks[count] = ReportBlock {
                ssrc: stream.ssrc,
                fraction_lost: stats.fraction_lost,
                cumulative_lost: stats.cumulative_lost,
                highest_seq: stats.highest_seq,
                jitter: stats.jitter,
                last_sr: stats.last_sr,
                delay_since_last_sr: stats.delay_since_last_sr,
            };
            count += 1;
        }
        let mut compound = Compound::new();
        // Every compound starts with a report (RFC 3550 §6.1); ours about what the peer sends comes first.
        compound.append(|out| rr::write(out, self.ssrc, &blocks[..count]));
        compound.append(|out| sdes::write_cname(out, self.ssrc, self.cname.as_bytes()));
        let ntp = around.wall.ntp(now);
        let mut legs = 0;
        while let Some(position) = self.sender.next_leg(legs) {
            legs = position + 1;
            let Some(leg) = self.sender.leg_mut(position) else { continue };
            if leg.stream.packets() == 0 {
                continue;
            }
            let Some(track) = around.table.get(leg.track) else { continue };
            let Some(layer) = track.layers.get(usize::from(leg.layer)) else { continue };
            let Some(rtp_now) = layer.clock.rtp_now(now, ntp) else { continue };
            let Some(rtp_time) = leg.map_timestamp(rtp_now) else { continue };
            let report = SenderReport {
                ssrc: leg.ssrc,
                ntp,
                rtp_time,
                packets: leg.stream.packets() as u32,
                octets: leg.stream.payload_bytes() as u32,
            };
            let (ssrc, cname) = (leg.ssrc, Arc::clone(&leg.cname));
            let write = |out: &mut [u8]| {
                let len = sr::write(out, &report, &[])?;
                Some(len + sdes::write_cname(&mut out[len..], ssrc, cname.as_bytes())?)
            };
            if !compound.append(write) {
                self.send_rtcp(&mut compound, around.egress, around.counters);
                compound.append(write);
            }
        }
        self.send_rtcp(&mut compound, around.egress, around.counters);
    }

    /// Asks the publisher for packets that are missing. Source: RFC 4585 §6.2.1.
    pub(super) fn send_nacks(&mut self, around: &mut Surroundings<'_>) {
        let (now, rtt, sender) = (around.now, self.timers.rtt(), self.ssrc);
        let mut compound = Compound::new();
        let mut wants_keyframe = [None; 4];
        for stream in self.receiver.streams_mut() {
            let Role::Media { missing: Some(missing), .. } = &mut stream.role else { continue };
            let mut lost = [SeqNum(0); NACK_MAX];
            let count = missing.due(now, rtt, &mut lost);
            if count > 0
                && compound.append(|out| nack::write(out, sender, stream.ssrc, &lost[..count]))
            {
                around.counters.nacks_out += count as u64;
            }
            if missing.take_needs_keyframe()
                && let Some(room) = wants_keyframe.iter_mut().find(|room| room.is_none())
            {
                *room = Some((stream.track, stream.layer));
            }
        }
        self.send_rtcp(&mut compound, around.egress, around.counters);
        for (track, layer) in wants_keyframe.into_iter().flatten() {
            self.request_keyframe(now, track, layer, around.egress, around.counters);
        }
    }

    /// Tells the publisher when its packets arrived.
    pub(super) fn send_transport_cc(&mut self, around: &mut Surroundings<'_>) {
        let mut statuses = [None; FEEDBACK_MAX];
        let media = self.receiver.streams().first().map_or(Ssrc(0), |stream| stream.ssrc);
        while let Some(plan) = self.receiver.arrivals.build(around.now, &mut statuses) {
            let feedback = twcc::Feedback {
                sender: self.ssrc,
                media,
                base_seq: plan.base_seq,
                reference_time: plan.reference_time,
                feedback_count: plan.feedback_count,
                statuses: &statuses[..plan.count],
            };
            let mut compound = Compound::new();
            if compound.append(|out| twcc::write(out, &feedback)) {
                around.counters.transport_cc_out += 1;
                self.send_rtcp(&mut compound, around.egress, around.counters);
            }
        }
    }

    /// Asks the publisher for a key frame of a track's layer, now or as soon as the last request is old enough.
    pub fn request_keyframe(
        &mut self,
        now: Instant,
        track: TrackId,
        layer: u8,
        egress: &mut Egress,
        counters: &mut ShardCounters,
    ) {
        if !self.is_connected() {
            return;
        }
        let Some(published) = self.receiver.track_mut(track) else { return };
        let answers_pli = published.answers_pli();
        let Some(keyframes) = published.keyframes.get_mut(usize::from(layer)) else { return };
        if answers_pli && keyframes.want(now) {
            self.send_pli(track, layer, egress, counters);
        }
        self.arm_keyframes();
    }

    pub(super) fn send_due_keyframe_requests(&mut self, around: &mut Surroundings<'_>) {
        for at in 0..self.receiver.tracks.len() {
            let published = &mut self.receiver.tracks[at];
            let track = published.params.track;
            let mut due = [false; LAYERS_MAX];
            for (due, keyframes) in due.iter_mut().zip(&mut published.keyframes) {
                *due = keyframes.due(around.now);
            }
            for (layer, _) in due.into_iter().enumerate().filter(|&(_, due)| due) {
                self.send_pli(track, layer as u8, around.egress, around.counters);
            }
        }
        self.arm_keyframes();
    }

    /// Source: RFC 4585 §6.3.1.
    fn send_pli(
        &mut self,
        track: TrackId,
        layer: u8,
        egress: &mut Egress,
        counters: &mut ShardCounters,
    ) {
        let Some(media) = self.receiver.media_ssrc(track, layer) else { return };
        let mut compound = Compound::new();
        compound.append(|out| pli::write(out, self.ssrc, media));
        counters.keyframe_requests_out += 1;
        self.send_rtcp(&mut compound, egress, counters);
    }

    /// Source: RFC 3550 §6.6.
    pub(super) fn send_bye(&mut self, egress: &mut Egress) {
        let mut compound = Compound::new();
        compound.append(|out| rr::write(out, self.ssrc, &[]));
        compound.append(|out| sdes::write_cname(out, self.ssrc, self.cname.as_bytes()));
        let mut ssrcs = [self.ssrc; BLOCKS_MAX];
        let mut count = 1;
        for ((_, leg), room) in self.sender.legs().zip(ssrcs.iter_mut().skip(1)) {
            *room = leg.ssrc;
            count += 1;
        }
        compound.append(|out| bye::write(out, &ssrcs[..count]));
        self.send_rtcp(&mut compound, egress, &mut ShardCounters::default());
    }

    /// Seals a compound and sends it on the media route; it is empty afterwards.
    fn send_rtcp(
        &mut self,
        compound: &mut Compound,
        egress: &mut Egress,
        counters: &mut ShardCounters,
    ) {
        let len = std::mem::take(&mut compound.len);
        if len == 0 || !self.is_connected() {
            return;
        }
        let (Some(srtp), Some(path)) = (&mut self.sender.srtp, self.path) else { return };
        let Some(sealed) = srtp.seal_rtcp(&mut compound.bytes, len) else { return };
        if egress.push(path, &compound.bytes[..sealed]) {
            counters.rtcp_packets_out += 1;
        }
    }
}
