//! The RTCP that a session receives: reports into statistics; wishes out, for the shard to hand to whom they concern.

use super::Session;
use crate::clock::{Instant, WallClock};
use crate::drop_reason::DropReason;
use crate::ids::{SeqNum, Ssrc, TrackKey};
use crate::metrics::ShardCounters;
use crate::rtp::report::round_trip;
use crate::wire::rtcp::rr::ReportBlock;
use crate::wire::rtcp::{self, Packet};

/// What a peer's RTCP asks for. Made once per shard; bounded by [`Wishes::RESENDS_MAX`] and [`Wishes::KEYFRAMES_MAX`].
#[derive(Default)]
pub struct Wishes {
    /// Packets to send again: the leg's position, and the number the leg sent it under.
    pub resends: Vec<(u32, SeqNum)>,
    /// Tracks and their layers that a key frame is wanted of.
    pub keyframes: Vec<(TrackKey, u8)>,
    /// Whether the peer's feedback may have changed the estimate of its path.
    pub estimated: bool,
    /// Tracks of this session that a sender report came for: their clock in the table is to be set.
    pub reported: Vec<Ssrc>,
}

impl Wishes {
    /// Packets that one RTCP datagram may ask for; the rest is ignored.
    pub const RESENDS_MAX: usize = 256;

    /// Tracks that one RTCP datagram may want key frames of.
    pub const KEYFRAMES_MAX: usize = 64;

    /// Makes room for the most there can be.
    pub fn new() -> Self {
        Self {
            resends: Vec::with_capacity(Self::RESENDS_MAX),
            keyframes: Vec::with_capacity(Self::KEYFRAMES_MAX),
            estimated: false,
            reported: Vec::with_capacity(Self::KEYFRAMES_MAX),
        }
    }

    fn clear(&mut self) {
        self.resends.clear();
        self.keyframes.clear();
        self.estimated = false;
        self.reported.clear();
    }

    fn want_keyframe(&mut self, track: TrackKey, layer: u8) {
        let wish = (track, layer);
        if self.keyframes.len() < Self::KEYFRAMES_MAX && !self.keyframes.contains(&wish) {
            self.keyframes.push(wish);
        }
    }
}

impl Session {
    /// Opens one SRTCP packet in place and takes in what it says; `wishes` holds afterwards what others must do.
    ///
    /// # Errors
    /// Why it was not read. Nothing changes unless the tag is right and the lengths add up.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        wall: &WallClock,
        datagram: &mut [u8],
        wishes: &mut Wishes,
        counters: &mut ShardCounters,
    ) -> Result<(), DropReason> {
        wishes.clear();
        let srtp = self.receiver.srtp.as_mut().ok_or(DropReason::NoKeys)?;
        let opened = srtp.open_rtcp(datagram);
        let len = opened.map_err(|error| error.drop_reason(DropReason::BadRtcp))?;
        let compound = &datagram[..len];
        if !rtcp::is_valid_compound(compound) {
            return Err(DropReason::BadRtcp);
        }
        counters.rtcp_packets_in += 1;
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            self.handle_packet(now, wall, packet, wishes, counters);
        }
        Ok(())
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        wall: &WallClock,
        packet: Packet<'_>,
        wishes: &mut Wishes,
        counters: &mut ShardCounters,
    ) {
        match packet {
            Packet::SenderReport(report) => {
                let streams = self.receiver.streams_mut();
                if let Some(stream) = streams.iter_mut().find(|s| s.ssrc == report.ssrc()) {
                    stream.inbound.on_sender_report(now, report.ntp(), report.rtp_time());
                    self.receiver.clock.on_sender_report(now, wall.ntp(now), report.ntp());
                    if wishes.reported.len() < Wishes::KEYFRAMES_MAX {
                        wishes.reported.push(report.ssrc());
                    }
                }
                self.handle_blocks(now, wall, report.blocks());
            }
            Packet::ReceiverReport(report) => self.handle_blocks(now, wall, report.blocks()),
            Packet::Nack(nack) => {
                let Some((leg, _)) = self.sender.by_ssrc(nack.media()) else { return };
                for seq in nack.lost() {
                    counters.nacks_in += 1;
                    if wishes.resends.len() < Wishes::RESENDS_MAX {
                        wishes.resends.push((leg, seq));
                    }
                }
            }
            Packet::Pli { media, .. } => self.wish_for_keyframe(media, wishes, counters),
            Packet::Fir(fir) => {
                for (ssrc, _) in fir.entries() {
                    self.wish_for_keyframe(ssrc, wishes, counters);
                }
            }
            // A publisher's goodbye to a stream needs no answer: the description says what is published.
            Packet::Bye(_) | Packet::Sdes(_) | Packet::Remb(_) | Packet::Other { .. } => {}
            Packet::TransportCc(feedback) => {
                let Some(estimator) = &mut self.sender.estimator else { return };
                let unknown = estimator.on_feedback(now, &feedback, self.timers.rtt());
                counters.transport_cc_in += 1;
                counters.transport_cc_missed += unknown;
                wishes.estimated = true;
            }
        }
    }

    fn handle_blocks(
        &mut self,
        now: Instant,
        wall: &WallClock,
        blocks: impl Iterator<Item = ReportBlock>,
    ) {
        for block in blocks {
            let Some((_, leg)) = self.sender.by_ssrc(block.ssrc) else { continue };
            // What is said of the retransmission stream is no account of the media.
            if leg.ssrc != block.ssrc {
                continue;
            }
            let rtt = round_trip(wall.ntp(now), block.last_sr, block.delay_since_last_sr);
            let (fraction, cumulative) = (block.fraction_lost, block.cumulative_lost);
            leg.stream.on_receiver_report(fraction, cumulative, block.jitter, rtt);
            leg.confirm();
            if let Some(rtt) = rtt {
                self.timers.set_rtt(rtt);
            }
        }
    }

    fn wish_for_keyframe(
        &mut self,
        media: Ssrc,
        wishes: &mut Wishes,
        counters: &mut ShardCounters,
    ) {
        if let Some((_, leg)) = self.sender.by_ssrc(media) {
            counters.keyframe_requests_in += 1;
            wishes.want_keyframe(leg.track, leg.layer);
        }
    }
}
