//! The sending half of a session: one leg per track it gets; shared payload → protected bytes in the egress.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::params::{LegParams, PayloadMap};
use super::plain::PlainRtp;
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::DropReason;
use crate::egress::Egress;
use crate::ids::{ExtSeqNum, LegId, PayloadType, RtpTime, SeqNum, Ssrc, TrackKey};
use crate::route::PathId;
use crate::rtp::outbound::OutboundStream;
use crate::rtp::resend::ResendLimiter;
use crate::rtp::rewrite::Rewriter;
use crate::rtp::rtx;
use crate::srtp::context::OutboundSrtp;
use crate::wire::rtp::{FixedHeader, write_fixed_header};
use crate::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter, needs_two_byte};

/// The legs of a session and the keys they are sealed with.
pub struct Sender {
    pub(super) srtp: Option<OutboundSrtp>,
    legs: Vec<Option<Leg>>,
    /// Every SSRC that was ever given out under this session's keys: none is used twice (RFC 7714 §8.4).
    issued: HashSet<Ssrc, RandomState>,
}

/// One track on its way to this session's peer.
pub struct Leg {
    id: LegId,
    /// The track in the shard's forward table.
    pub track: TrackKey,
    /// The SSRC on the peer's wire.
    pub ssrc: Ssrc,
    mid: crate::ids::Mid,
    rtx: Option<RtxStream>,
    payload_types: Vec<PayloadMap>,
    extensions: ExtensionMap,
    rewriter: Rewriter,
    resend: ResendLimiter,
    /// Counters behind the sender reports, and what the peer reports.
    pub stream: OutboundStream,
    /// The CNAME in the sender reports.
    pub cname: Arc<str>,
    /// The last packet that carries the MID extension; all do until the peer has shown that it knows the SSRC. A bound on the
    /// packet's number, so that a retransmission under the same SSRC repeats the original to the bit.
    mid_until: Option<ExtSeqNum>,
}

struct RtxStream {
    ssrc: Ssrc,
    next: ExtSeqNum,
}

/// Legs a session can have; a receiver of more is not one browser.
pub const LEGS_MAX: usize = 4_096;

/// SSRCs that may be given out under one session's keys, retired ones included.
pub const SSRCS_ISSUED_MAX: usize = 65_536;

/// The largest datagram we send: what an Ethernet path carries.
pub const DATAGRAM_MAX: usize = 1_472;

/// Room for the extension block of a rewritten packet.
const EXTENSIONS_MAX: usize = 256;

impl Sender {
    /// Makes the sending half, without keys and without legs.
    pub(super) fn new() -> Self {
        Self { srtp: None, legs: Vec::new(), issued: HashSet::default() }
    }

    /// Adds a leg for a track of the table; returns its position.
    ///
    /// # Errors
    /// `Exists`, `SsrcUsed`, `LimitReached`: nothing was changed.
    pub fn add_leg(
        &mut self,
        params: LegParams,
        track: TrackKey,
        rng: &mut fastrand::Rng,
    ) -> Result<u32, CommandError> {
        if self.position(params.leg).is_some() {
            return Err(CommandError::Exists);
        }
        let rtx_taken = |rtx: Ssrc| rtx == params.ssrc || self.issued.contains(&rtx);
        if self.issued.contains(&params.ssrc) || params.rtx_ssrc.is_some_and(rtx_taken) {
            return Err(CommandError::SsrcUsed);
        }
        if self.issued.len() + 2 > SSRCS_ISSUED_MAX {
            return Err(CommandError::LimitReached {
                what: "SSRCs per session",
                limit: SSRCS_ISSUED_MAX,
            });
        }
        let free = self.legs.iter().position(Option::is_none);
        if free.is_none() && self.legs.len() == LEGS_MAX {
            return Err(CommandError::LimitReached { what: "legs per session", limit: LEGS_MAX });
        }
        self.issued.insert(params.ssrc);
        self.issued.extend(params.rtx_ssrc);
        let leg = Leg {
            id: params.leg,
            track,
            ssrc: params.ssrc,
            mid: params.mid,
            rtx: params.rtx_ssrc.map(|ssrc| RtxStream { ssrc, next: first_index(rng) }),
            payload_types: params.payload_types,
            extensions: params.extensions,
            rewriter: Rewriter::new(first_index(rng)),
            resend: ResendLimiter::new(),
            stream: OutboundStream::new(),
            cname: params.cname.into(),
            mid_until: None,
        };
        let position = free.unwrap_or(self.legs.len());
        if position == self.legs.len() {
            self.legs.push(Some(leg));
        } else {
            self.legs[position] = Some(leg);
        }
        Ok(position as u32)
    }

    /// Removes a leg by its number; returns its position and track.
    pub fn remove_leg(&mut self, id: LegId) -> Option<(u32, TrackKey)> {
        let position = self.position(id)?;
        let leg = self.legs[position].take()?;
        Some((position as u32, leg.track))
    }

    /// Removes the leg at `position`.
    pub fn remove_at(&mut self, position: u32) -> Option<LegId> {
        self.legs.get_mut(position as usize)?.take().map(|leg| leg.id)
    }

    /// The leg at `position`.
    pub fn leg_mut(&mut self, position: u32) -> Option<&mut Leg> {
        self.legs.get_mut(position as usize)?.as_mut()
    }

    /// Every leg with its position.
    pub fn legs(&self) -> impl Iterator<Item = (u32, &Leg)> {
        self.legs.iter().enumerate().filter_map(|(at, leg)| Some((at as u32, leg.as_ref()?)))
    }

    /// The first position from `from` on that has a leg.
    pub fn next_leg(&self, from: u32) -> Option<u32> {
        let legs = self.legs.iter().enumerate().skip(from as usize);
        legs.into_iter().find_map(|(at, leg)| leg.as_ref().map(|_| at as u32))
    }

    /// The leg that sends under `ssrc`, media or retransmissions.
    pub fn by_ssrc(&mut self, ssrc: Ssrc) -> Option<(u32, &mut Leg)> {
        self.legs.iter_mut().enumerate().find_map(|(at, leg)| {
            let leg = leg.as_mut()?;
            let rtx = leg.rtx.as_ref().is_some_and(|rtx| rtx.ssrc == ssrc);
            (leg.ssrc == ssrc || rtx).then_some((at as u32, leg))
        })
    }

    fn position(&self, id: LegId) -> Option<usize> {
        self.legs.iter().position(|leg| leg.as_ref().is_some_and(|leg| leg.id == id))
    }

    fn keys_and_leg(&mut self, position: u32) -> Result<(&mut OutboundSrtp, &mut Leg), DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::NotConnected)?;
        let leg = self.legs.get_mut(position as usize).and_then(Option::as_mut);
        Ok((srtp, leg.ok_or(DropReason::SessionClosed)?))
    }

    /// Writes `packet` for the leg at `position`; returns the bytes of RTP, SRTP overhead excluded.
    ///
    /// # Errors
    /// Why the leg did not get it.
    pub fn send(
        &mut self,
        now: Instant,
        position: u32,
        packet: &PlainRtp<'_>,
        path: PathId,
        egress: &mut Egress,
    ) -> Result<usize, DropReason> {
        let (srtp, leg) = self.keys_and_leg(position)?;
        let to = leg.payload_map(packet.payload_type).ok_or(DropReason::UnmappedPayloadType)?.to;
        let (index, timestamp) = leg
            .rewriter
            .rewrite(packet.source, packet.index, packet.timestamp, now, packet.clock_rate_hz)
            .ok_or(DropReason::BeforeLeg)?;
        let with_mid = leg.mid_until.is_none_or(|until| index <= until);
        let head = Head { ssrc: leg.ssrc, payload_type: to, index, timestamp, with_mid, osn: None };
        let bytes = write(&head, leg, packet, srtp, path, egress)?;
        leg.stream.on_sent(packet.payload.len());
        leg.resend.on_sent(now, bytes);
        Ok(bytes)
    }

    /// What the leg sent as `seq`: its track, the stream of it, and the publisher's packet index.
    pub fn wanted(&self, position: u32, seq: SeqNum) -> Option<(TrackKey, u32, ExtSeqNum)> {
        let leg = self.legs.get(position as usize)?.as_ref()?;
        let index = leg.rewriter.inverse(seq)?;
        Some((leg.track, leg.rewriter.source()?, index))
    }

    /// Sends `packet` again: on the retransmission stream where the peer has one, else the same bytes as before.
    ///
    /// # Errors
    /// Why it was not sent; `Duplicate` when it was resent a moment ago or the budget for retransmissions is spent.
    pub fn resend(
        &mut self,
        now: Instant,
        position: u32,
        packet: &PlainRtp<'_>,
        rtt: Option<Duration>,
        path: PathId,
        egress: &mut Egress,
    ) -> Result<usize, DropReason> {
        let (srtp, leg) = self.keys_and_leg(position)?;
        let map = leg.payload_map(packet.payload_type).ok_or(DropReason::UnmappedPayloadType)?;
        if leg.rewriter.source() != Some(packet.source) {
            return Err(DropReason::BeforeLeg);
        }
        let index = leg.rewriter.out_index_of(packet.index).ok_or(DropReason::BeforeLeg)?;
        let timestamp = leg.map_timestamp(packet.timestamp).ok_or(DropReason::BeforeLeg)?;
        let bytes = FixedHeader::LEN + rtx::OSN_LEN + packet.payload.len();
        if !leg.resend.allow(now, index, bytes, rtt) {
            return Err(DropReason::Duplicate);
        }
        let with_mid = leg.mid_until.is_none_or(|until| index <= until);
        let head = match (&mut leg.rtx, map.rtx) {
            (Some(rtx), Some(payload_type)) => {
                let own = rtx.next;
                rtx.next = ExtSeqNum(own.0 + 1);
                let osn = Some(index.seq());
                Head { ssrc: rtx.ssrc, payload_type, index: own, timestamp, with_mid, osn }
            }
            // Same SSRC, same index: the header is a function of the index alone, so the bytes are those sent before.
            _ => {
                Head { ssrc: leg.ssrc, payload_type: map.to, index, timestamp, with_mid, osn: None }
            }
        };
        write(&head, leg, packet, srtp, path, egress)
    }
}

impl Leg {
    /// What the peer's report says of this leg's stream: it knows the SSRC, so the MID need not be repeated.
    pub fn confirm(&mut self) {
        if self.mid_until.is_none() {
            self.mid_until = self.rewriter.highest();
        }
    }

    /// The leg's next packet comes after some that were withheld: they are no loss to the subscriber.
    pub fn skip_withheld(&mut self) {
        self.rewriter.skip_gap();
    }

    /// The leg's timestamp for a publisher's timestamp.
    pub fn map_timestamp(&self, timestamp: RtpTime) -> Option<RtpTime> {
        self.rewriter.out_time_of(timestamp)
    }

    fn payload_map(&self, from: PayloadType) -> Option<PayloadMap> {
        self.payload_types.iter().copied().find(|map| map.from == from)
    }
}

/// What is this leg's own in a packet.
struct Head {
    ssrc: Ssrc,
    payload_type: PayloadType,
    index: ExtSeqNum,
    timestamp: RtpTime,
    with_mid: bool,
    /// The original sequence number, on a retransmission stream. Source: RFC 4588 §4.
    osn: Option<SeqNum>,
}

fn write(
    head: &Head,
    leg: &Leg,
    packet: &PlainRtp<'_>,
    srtp: &mut OutboundSrtp,
    path: PathId,
    egress: &mut Egress,
) -> Result<usize, DropReason> {
    let mut extensions = [0; EXTENSIONS_MAX];
    let extensions_len = write_extensions(&mut extensions, head, leg, packet);
    let header_len = FixedHeader::LEN + extensions_len;
    let osn_len = if head.osn.is_some() { rtx::OSN_LEN } else { 0 };
    let plain_len = header_len + osn_len + packet.payload.len();
    let room = plain_len + srtp.profile().rtp_overhead();
    if room > DATAGRAM_MAX {
        return Err(DropReason::TooLarge);
    }
    let mut slot = egress.slot(path, room).ok_or(DropReason::EgressFull)?;
    let bytes = slot.bytes();
    write_fixed_header(
        bytes,
        &FixedHeader {
            marker: packet.marker,
            payload_type: head.payload_type,
            seq: head.index.seq(),
            timestamp: head.timestamp,
            ssrc: head.ssrc,
            has_extension: extensions_len > 0,
            has_padding: false,
        },
    );
    bytes[FixedHeader::LEN..header_len].copy_from_slice(&extensions[..extensions_len]);
    if let Some(osn) = head.osn {
        rtx::write_osn(&mut bytes[header_len..], osn);
    }
    bytes[header_len + osn_len..plain_len].copy_from_slice(packet.payload);
    let sealed = srtp.seal_rtp(head.index, bytes, header_len, plain_len);
    let len = sealed.ok_or(DropReason::SessionClosed)?;
    slot.commit(len);
    Ok(plain_len)
}

/// Writes the extension block of a packet; returns its length, 0 when it has none.
fn write_extensions(out: &mut [u8], head: &Head, leg: &Leg, packet: &PlainRtp<'_>) -> usize {
    let mid = leg.extensions.id(Extension::Mid).filter(|_| head.with_mid);
    let mid = mid.map(|id| (id, leg.mid.as_bytes()));
    let forwarded = packet.elements().iter();
    let forwarded = forwarded.filter_map(|&(e, value)| Some((leg.extensions.id(e)?, value)));
    let two_byte =
        mid.into_iter().chain(forwarded.clone()).any(|(id, value)| needs_two_byte(id, value.len()));
    let mut writer = ExtensionWriter::new(out, two_byte);
    for (id, value) in mid.into_iter().chain(forwarded) {
        // What does not fit is left out; the block is far larger than what browsers send.
        writer.push(id, value);
    }
    writer.finish()
}

/// A random first packet index below 2^15, so that a receiver that misses the first packets guesses the roll-over counter right
/// (RFC 3711 §3.3.1).
fn first_index(rng: &mut fastrand::Rng) -> ExtSeqNum {
    ExtSeqNum(u64::from(rng.u16(1..1 << 15)))
}
