//! The sending half of a session: one leg per track it gets; shared payload → protected bytes in the egress.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::blocks::{Block, Blocks, Kind};
use super::params::{LegParams, PayloadMap};
use super::plain::PlainRtp;
use crate::bwe::Bounds;
use crate::bwe::estimator::{Estimate, SendSideEstimator};
use crate::bwe::sent::Stream;
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::{DropCounters, DropReason};
use crate::egress::Egress;
use crate::ids::{ExtSeqNum, LegId, PayloadType, RtpTime, SeqNum, Ssrc, TrackKey};
use crate::prefetch::prefetch;
use crate::route::PathId;
use crate::rtp::outbound::OutboundStream;
use crate::rtp::resend::ResendLimiter;
use crate::rtp::rewrite::{LegNumbers, Rewriter};
use crate::rtp::rtx;
use crate::srtp::context::OutboundSrtp;
use crate::wire::rtp::{FixedHeader, write_fixed_header};
use crate::wire::rtp_ext::{Extension, ExtensionMap};

/// The legs of a session and the keys they are sealed with.
pub struct Sender {
    pub(super) srtp: Option<OutboundSrtp>,
    legs: Vec<Option<Leg>>,
    /// How many of them are of tracks in simulcast.
    simulcast_legs: usize,
    /// Every SSRC that was ever given out under this session's keys: none is used twice (RFC 7714 §8.4).
    issued: HashSet<Ssrc, RandomState>,
    /// What the path carries; made with the first leg that carries transport-wide numbers.
    pub(super) estimator: Option<Box<SendSideEstimator>>,
}

/// One track on its way to this session's peer.
pub struct Leg {
    id: LegId,
    /// The track in the shard's forward table.
    pub track: TrackKey,
    /// The simulcast layer of it that the leg gets; 0 without simulcast.
    pub layer: u8,
    is_simulcast: bool,
    /// The SSRC on the peer's wire.
    pub ssrc: Ssrc,
    mid: crate::ids::Mid,
    rtx: Option<RtxStream>,
    payload_types: Vec<PayloadMap>,
    /// The one of them that was used last: most legs carry one.
    latest_map: Option<PayloadMap>,
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

/// What every leg of a group needs to write its packets.
pub struct Group<'a> {
    /// When.
    pub now: Instant,
    /// The packets, of one track, layer and payload type, in the order in which they came.
    pub packets: &'a [PlainRtp<'a>],
    /// Their extension blocks, once for all legs of a kind.
    pub blocks: &'a mut Blocks,
    /// RTP padding that a packet may get to be as long as the others; 0 for none.
    pub padding_max: u8,
}

/// What legs were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Packets.
    pub packets: u64,
    /// Those of them that got padding.
    pub padded: u64,
    /// Bytes of RTP: header, payload and padding, SRTP overhead excluded.
    pub bytes: u64,
}

impl Sender {
    /// Makes the sending half, without keys and without legs.
    pub(super) fn new() -> Self {
        Self {
            srtp: None,
            legs: Vec::new(),
            simulcast_legs: 0,
            issued: HashSet::default(),
            estimator: None,
        }
    }

    /// Adds a leg for a track of the table, which begins with a layer of it where it has layers; returns its position. `bounds`
    /// are those of the path's estimate.
    ///
    /// # Errors
    /// `Exists`, `SsrcUsed`, `LimitReached`: nothing was changed.
    pub fn add_leg(
        &mut self,
        params: LegParams,
        (track, layer): (TrackKey, Option<u8>),
        bounds: Bounds,
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
        if params.extensions.id(Extension::TransportCc).is_some() && self.estimator.is_none() {
            self.estimator = Some(Box::new(SendSideEstimator::new(bounds)));
        }
        self.simulcast_legs += usize::from(layer.is_some());
        self.issued.insert(params.ssrc);
        self.issued.extend(params.rtx_ssrc);
        let leg = Leg {
            id: params.leg,
            track,
            layer: layer.unwrap_or(0),
            is_simulcast: layer.is_some(),
            ssrc: params.ssrc,
            mid: params.mid,
            rtx: params.rtx_ssrc.map(|ssrc| RtxStream { ssrc, next: first_index(rng) }),
            payload_types: params.payload_types,
            latest_map: None,
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
        let position = self.position(id)? as u32;
        let track = self.leg_mut(position)?.track;
        self.remove_at(position)?;
        Some((position, track))
    }

    /// Removes the leg at `position`.
    pub fn remove_at(&mut self, position: u32) -> Option<LegId> {
        let leg = self.legs.get_mut(position as usize)?.take()?;
        self.simulcast_legs -= usize::from(leg.is_simulcast);
        if let Some(estimator) = &mut self.estimator {
            estimator.log.forget_leg(position);
        }
        Some(leg.id)
    }

    /// What the path to the peer carries, once its feedback told.
    pub fn estimate(&self) -> Option<Estimate> {
        self.estimator.as_ref()?.estimate()
    }

    /// The leg at `position` goes on with another layer, from its next packet on. `offset` as [`Rewriter::leave`] takes it; the
    /// estimate goes on from `estimate_bps` where it is given.
    pub fn switch_layer(
        &mut self,
        position: u32,
        layer: u8,
        offset: Option<u32>,
        estimate_bps: Option<u64>,
    ) {
        let Some(leg) = self.leg_mut(position) else { return };
        leg.layer = layer;
        leg.rewriter.leave(offset);
        if let (Some(estimator), Some(bps)) = (&mut self.estimator, estimate_bps) {
            estimator.restart_at(bps);
        }
    }

    /// The leg at `position`.
    pub fn leg_mut(&mut self, position: u32) -> Option<&mut Leg> {
        self.legs.get_mut(position as usize)?.as_mut()
    }

    /// Asks the core for what sending on the leg at `position` takes.
    pub fn prefetch(&self, position: u32) {
        if let Some(leg) = self.legs.get(position as usize) {
            prefetch(leg, size_of::<Leg>());
        }
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

    /// The first leg of a simulcast track from position `from` on, and its track.
    pub fn next_simulcast_leg(&self, from: u32) -> Option<(u32, TrackKey)> {
        if self.simulcast_legs == 0 {
            return None;
        }
        let legs = self.legs.iter().enumerate().skip(from as usize);
        let mut legs = legs.filter_map(|(at, leg)| Some((at as u32, leg.as_ref()?)));
        legs.find(|(_, leg)| leg.is_simulcast).map(|(at, leg)| (at, leg.track))
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

    fn parts(&mut self, position: u32) -> Result<Parts<'_>, DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::NotConnected)?;
        let leg = self.legs.get_mut(position as usize).and_then(Option::as_mut);
        let leg = leg.ok_or(DropReason::SessionClosed)?;
        let numbered = leg.extensions.id(Extension::TransportCc).is_some();
        let estimator = self.estimator.as_deref_mut().filter(|_| numbered);
        Ok((srtp, leg, estimator))
    }

    /// Writes the packets of `group` for the leg at `position`; returns what was written. Packets that the leg does not get are
    /// counted in `drops`.
    pub fn send(
        &mut self,
        position: u32,
        group: &mut Group<'_>,
        path: PathId,
        egress: &mut Egress,
        drops: &mut DropCounters,
    ) -> Written {
        let mut written = Written::default();
        let Some(first) = group.packets.first() else { return written };
        let refuse = |drops: &mut DropCounters, reason| {
            drops.add(reason, group.packets.len() as u64);
        };
        let (srtp, leg, mut estimator) = match self.parts(position) {
            Ok(parts) => parts,
            Err(reason) => {
                refuse(drops, reason);
                return written;
            }
        };
        let Some(map) = leg.payload_map(first.payload_type) else {
            refuse(drops, DropReason::UnmappedPayloadType);
            return written;
        };
        // Where a packet is sent again under its own number it has to be the same to the bit, and then nobody knows what stood
        // beside it at first.
        let is_repeated = leg.rtx.is_none() || map.rtx.is_none();
        let padding_max = if is_repeated { 0 } else { group.padding_max };
        for (at, packet) in group.packets.iter().enumerate() {
            let numbers = leg.rewriter.rewrite(&packet.numbers, group.now, packet.clock_rate_hz);
            let Some(numbers) = numbers else {
                drops.count(DropReason::BeforeLeg);
                continue;
            };
            let kind = leg.kind(numbers.index, estimator.is_some(), padding_max);
            let Some(block) = group.blocks.lay_out(kind, group.packets, at) else { continue };
            let transport_seq = estimator.as_ref().map(|estimator| estimator.log.next_seq());
            let head = Head {
                ssrc: leg.ssrc,
                payload_type: map.to,
                index: numbers.index,
                numbers,
                transport_seq,
                osn: None,
            };
            match write(&head, leg, &block, packet, srtp, path, egress) {
                Ok(bytes) => {
                    if let Some(estimator) = &mut estimator {
                        let stream = Stream::Leg(position);
                        estimator.log.on_sent(group.now, stream, numbers.index.seq(), bytes);
                    }
                    leg.stream.on_sent(packet.payload.len());
                    leg.resend.on_sent(group.now, bytes);
                    written.packets += 1;
                    written.padded += u64::from(block.padding > 0);
                    written.bytes += bytes as u64;
                }
                Err(reason) => drops.count(reason),
            }
        }
        written
    }

    /// What the leg sent as `seq`: its track, the stream of it, and the publisher's packet index.
    pub fn wanted(&self, position: u32, seq: SeqNum) -> Option<(TrackKey, u32, ExtSeqNum)> {
        let leg = self.legs.get(position as usize)?.as_ref()?;
        let (source, index) = leg.rewriter.inverse(seq)?;
        Some((leg.track, source, index))
    }

    /// Sends the packet of `group`, which has one, again: on the retransmission stream where the peer has one, else the same bytes as
    /// before.
    ///
    /// # Errors
    /// Why it was not sent; `Duplicate` when it was resent a moment ago or the budget for retransmissions is spent,
    /// `NotRepeatable` when the same bytes are wanted and the number that the transport gave them is forgotten.
    pub fn resend(
        &mut self,
        position: u32,
        group: &mut Group<'_>,
        rtt: Option<Duration>,
        path: PathId,
        egress: &mut Egress,
    ) -> Result<usize, DropReason> {
        let Group { now, packets, blocks, .. } = group;
        let now = *now;
        let packet = packets.first().ok_or(DropReason::BadRtp)?;
        let (srtp, leg, mut estimator) = self.parts(position)?;
        let map = leg.payload_map(packet.payload_type).ok_or(DropReason::UnmappedPayloadType)?;
        let numbers = leg.rewriter.numbers_of(&packet.numbers).ok_or(DropReason::BeforeLeg)?;
        let bytes = FixedHeader::LEN + rtx::OSN_LEN + packet.payload.len();
        let rtx = leg.rtx.as_mut().zip(map.rtx);
        let seq = numbers.index.seq();
        if !leg.resend.allow(now, numbers.index, bytes, rtt) {
            return Err(DropReason::Duplicate);
        }
        let transport_seq = match (&mut estimator, &rtx) {
            (None, _) => None,
            (Some(estimator), Some(_)) => Some(estimator.log.next_seq()),
            (Some(estimator), None) => {
                let before = estimator.log.send_again(position, seq);
                Some(before.ok_or(DropReason::NotRepeatable)?)
            }
        };
        let is_numbered = transport_seq.is_some();
        let Some((rtx, payload_type)) = rtx else {
            // Same SSRC, same index: the header is a function of the index and of what the log keeps of it, so the bytes are
            // those sent before.
            let (ssrc, payload_type, index) = (leg.ssrc, map.to, numbers.index);
            let head = Head { ssrc, payload_type, index, numbers, transport_seq, osn: None };
            let kind = leg.kind(index, is_numbered, 0);
            let block = blocks.lay_out(kind, packets, 0).ok_or(DropReason::TooLarge)?;
            return write(&head, leg, &block, packet, srtp, path, egress);
        };
        let (ssrc, index) = (rtx.ssrc, rtx.next);
        rtx.next = ExtSeqNum(index.0 + 1);
        let head = Head { ssrc, payload_type, index, numbers, transport_seq, osn: Some(seq) };
        let kind = leg.kind(numbers.index, is_numbered, 0);
        let block = blocks.lay_out(kind, packets, 0).ok_or(DropReason::TooLarge)?;
        let bytes = write(&head, leg, &block, packet, srtp, path, egress)?;
        if let Some(estimator) = estimator {
            estimator.log.on_sent(now, Stream::Rtx, index.seq(), bytes);
        }
        Ok(bytes)
    }
}

/// What a packet of a leg is made with; the estimator where its packets are numbered for the transport.
type Parts<'a> = (&'a mut OutboundSrtp, &'a mut Leg, Option<&'a mut SendSideEstimator>);

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

    /// How the extensions of the leg's packet `index` are laid out.
    fn kind(&self, index: ExtSeqNum, is_numbered: bool, padding_max: u8) -> Kind {
        let with_mid = self.mid_until.is_none_or(|until| index <= until);
        let mid_len = with_mid.then(|| self.mid.as_bytes().len() as u8);
        Kind { extensions: self.extensions, mid_len, is_numbered, padding_max }
    }

    fn payload_map(&mut self, from: PayloadType) -> Option<PayloadMap> {
        if self.latest_map.is_none_or(|map| map.from != from) {
            let found = self.payload_types.iter().copied().find(|map| map.from == from)?;
            self.latest_map = Some(found);
        }
        self.latest_map
    }
}

/// What is this leg's own in a packet.
struct Head {
    ssrc: Ssrc,
    payload_type: PayloadType,
    /// On the stream that it is sent on.
    index: ExtSeqNum,
    /// On the leg's media stream.
    numbers: LegNumbers,
    /// The number that the transport gives it, where the leg carries one.
    transport_seq: Option<u16>,
    /// The original sequence number, on a retransmission stream. Source: RFC 4588 §4.
    osn: Option<SeqNum>,
}

/// Writes and seals one packet; returns the bytes of RTP.
fn write(
    head: &Head,
    leg: &Leg,
    block: &Block<'_>,
    packet: &PlainRtp<'_>,
    srtp: &mut OutboundSrtp,
    path: PathId,
    egress: &mut Egress,
) -> Result<usize, DropReason> {
    let header_len = FixedHeader::LEN + block.len();
    let osn_len = if head.osn.is_some() { rtx::OSN_LEN } else { 0 };
    let payload_start = header_len + osn_len;
    let padding_start = payload_start + packet.payload.len();
    let plain_len = padding_start + usize::from(block.padding);
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
            timestamp: head.numbers.timestamp,
            ssrc: head.ssrc,
            has_extension: !block.is_empty(),
            has_padding: block.padding > 0,
        },
    );
    block.write(&mut bytes[FixedHeader::LEN..header_len], &leg.mid, head.transport_seq);
    if let Some(osn) = head.osn {
        rtx::write_osn(&mut bytes[header_len..], osn);
    }
    let payload = &mut bytes[payload_start..padding_start];
    payload.copy_from_slice(packet.payload);
    if let Some(vp8) = &packet.vp8 {
        vp8.renumber(payload, head.numbers.picture);
    }
    if let Some((count, zeros)) = bytes[padding_start..plain_len].split_last_mut() {
        zeros.fill(0);
        *count = block.padding;
    }
    let sealed = srtp.seal_rtp(head.index, bytes, header_len, plain_len);
    let len = sealed.ok_or(DropReason::SessionClosed)?;
    slot.commit(len);
    Ok(plain_len)
}

/// A random first packet index below 2^15, so that a receiver that misses the first packets guesses the roll-over counter right
/// (RFC 3711 §3.3.1).
fn first_index(rng: &mut fastrand::Rng) -> ExtSeqNum {
    ExtSeqNum(u64::from(rng.u16(1..1 << 15)))
}
