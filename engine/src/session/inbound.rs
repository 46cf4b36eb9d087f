//! The receiving half of a session: protected datagram → plain packet of a track, or the reason why not.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::params::{CodecParams, TrackParams};
use crate::bwe::feedback::ArrivalLog;
use crate::clock::{Instant, NtpTime};
use crate::command_error::CommandError;
use crate::drop_reason::DropReason;
use crate::ids::{ExtSeqNum, PayloadType, Rid, RtpTime, SeqNum, Ssrc, TrackId, TrackKey};
use crate::rtp::inbound::{Arrival, InboundStream};
use crate::rtp::keyframe::KeyframeRequests;
use crate::rtp::missing::MissingList;
use crate::rtp::report::SenderClock;
use crate::rtp::rtx;
use crate::srtp::context::{InboundSrtp, PacketIndex};
use crate::wire::rtp::{RtpHeader, RtpView};
use crate::wire::rtp_ext::{self, Extension};

/// What a session publishes, and the streams it is sent on.
pub struct Receiver {
    pub(super) srtp: Option<InboundSrtp>,
    /// What was negotiated, in the order of negotiation.
    pub tracks: Vec<PublishedTrack>,
    streams: Vec<Stream>,
    /// Where streams stood that were replaced or whose track was removed. One that comes back goes on from there: its roll-over
    /// counter is kept, and what an observer saw of it is not taken a second time.
    retired: VecDeque<(Ssrc, PacketIndex)>,
    /// Arrival times for transport-cc feedback.
    pub arrivals: ArrivalLog,
    /// The publisher's clock against ours.
    pub clock: SenderClock,
}

/// One published track of this session.
pub struct PublishedTrack {
    /// What was negotiated.
    pub params: TrackParams,
    /// The track in the shard's forward table.
    pub key: TrackKey,
    /// Wishes for a key frame of each layer, merged; one entry without simulcast.
    pub keyframes: Box<[KeyframeRequests]>,
    /// How many media streams the track has had.
    sources: u32,
}

/// One SSRC of the peer.
pub struct Stream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The track it belongs to.
    pub track: TrackId,
    /// The simulcast layer of the track, the lowest is 0; 0 without simulcast.
    pub layer: u8,
    /// Media or retransmissions.
    pub role: Role,
    /// Numbers, losses and jitter.
    pub inbound: InboundStream,
    index: PacketIndex,
}

/// What a stream carries.
pub enum Role {
    /// The track itself. `missing` where the publisher answers NACK.
    Media {
        /// Grows with each stream of the track, whatever its layer.
        source: u32,
        /// Packets to ask for.
        missing: Option<MissingList>,
    },
    /// Retransmissions of the layer's media stream. Source: RFC 4588.
    Rtx,
}

/// A packet that came in: where it lies in the datagram and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The track in the shard's forward table.
    pub track: TrackKey,
    /// Which stream of the track.
    pub source: u32,
    /// The simulcast layer of the stream.
    pub layer: u8,
    /// The publisher's packet index.
    pub index: ExtSeqNum,
    /// Clock rate of the payload type in Hz.
    pub clock_rate_hz: u32,
    /// Where the plain packet lies in the datagram.
    pub plain: Range<usize>,
    /// Whether it was recovered by a retransmission.
    pub recovered: bool,
}

/// Tracks one session may publish. Each layer has one media stream and one of retransmissions at a time.
pub const TRACKS_MAX: usize = 64;

/// Simulcast layers that one track may have.
pub const LAYERS_MAX: usize = 8;

/// Streams that are remembered after their end; the oldest makes room.
const RETIRED_MAX: usize = 64;

impl Receiver {
    /// Makes the receiving half, without keys and without tracks.
    pub(super) fn new() -> Self {
        Self {
            srtp: None,
            tracks: Vec::new(),
            streams: Vec::new(),
            retired: VecDeque::new(),
            arrivals: ArrivalLog::new(),
            clock: SenderClock::new(),
        }
    }

    /// Whether a track can be added.
    ///
    /// # Errors
    /// `Exists` or `LimitReached`.
    pub fn check_track(&self, params: &TrackParams) -> Result<(), CommandError> {
        if self.tracks.len() == TRACKS_MAX {
            return Err(CommandError::LimitReached {
                what: "tracks per session",
                limit: TRACKS_MAX,
            });
        }
        if params.layers.len() > LAYERS_MAX {
            return Err(CommandError::LimitReached { what: "layers per track", limit: LAYERS_MAX });
        }
        match self.tracks.iter().any(|track| track.params.track == params.track) {
            true => Err(CommandError::Exists),
            false => Ok(()),
        }
    }

    /// Adds a track that [`Receiver::check_track`] found acceptable; `key` is its place in the forward table.
    pub fn add_track(&mut self, params: TrackParams, key: TrackKey, keyframe_interval: Duration) {
        let layers = params.layers.len().max(1);
        let keyframes = vec![KeyframeRequests::new(keyframe_interval); layers].into_boxed_slice();
        self.tracks.push(PublishedTrack { params, key, keyframes, sources: 0 });
    }

    /// Removes a track and its streams; returns its place in the forward table.
    pub fn remove_track(&mut self, track: TrackId) -> Option<TrackKey> {
        let position = self.tracks.iter().position(|t| t.params.track == track)?;
        self.retire(|stream| stream.track == track);
        Some(self.tracks.remove(position).key)
    }

    /// Ends streams, and remembers where they stood.
    fn retire(&mut self, is_over: impl Fn(&Stream) -> bool) {
        for stream in self.streams.extract_if(.., |stream| is_over(stream)) {
            if self.retired.len() == RETIRED_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back((stream.ssrc, stream.index));
        }
    }

    /// All streams, for reports and timers.
    pub fn streams_mut(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    /// All streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The track of this number.
    pub fn track_mut(&mut self, track: TrackId) -> Option<&mut PublishedTrack> {
        self.tracks.iter_mut().find(|t| t.params.track == track)
    }

    /// The current media stream of a track's layer: the one that came last.
    pub fn media_ssrc(&self, track: TrackId, layer: u8) -> Option<Ssrc> {
        let is_media = |s: &&Stream| {
            s.track == track && s.layer == layer && matches!(s.role, Role::Media { .. })
        };
        self.streams.iter().rev().find(is_media).map(|stream| stream.ssrc)
    }

    /// What the latest sender report of `ssrc` says of the clock of its track's layer.
    pub fn clock_of(&self, ssrc: Ssrc) -> Option<(TrackKey, u8, (SenderClock, NtpTime, RtpTime))> {
        let stream = self.streams.iter().find(|stream| stream.ssrc == ssrc)?;
        if matches!(stream.role, Role::Rtx) {
            return None;
        }
        let track = self.tracks.iter().find(|track| track.params.track == stream.track)?;
        let (ntp, rtp, _) = stream.inbound.last_sender_report()?;
        Some((track.key, stream.layer, (self.clock, ntp, rtp)))
    }

    /// Opens one protected packet in place and finds out what it is.
    ///
    /// # Errors
    /// Why it is not to be forwarded. Nothing changes unless the tag is right.
    pub fn receive(&mut self, now: Instant, datagram: &mut [u8]) -> Result<Received, DropReason> {
        let header = RtpHeader::parse(datagram).map_err(|_| DropReason::BadRtp)?;
        let srtp = self.srtp.as_mut().ok_or(DropReason::NoKeys)?;
        let at = match self.streams.iter().position(|stream| stream.ssrc == header.ssrc) {
            Some(at) => at,
            None => {
                let retired = self.retired.iter().position(|(ssrc, _)| *ssrc == header.ssrc);
                let index = retired.and_then(|at| self.retired.get(at));
                let mut index = index.map_or_else(PacketIndex::new, |(_, index)| index.clone());
                let opened = srtp.open_rtp(&mut index, datagram, header.header_len);
                let opened = opened.map_err(|error| error.drop_reason(DropReason::BadRtp))?;
                let at = self.admit(&header, &datagram[..opened.len], index)?;
                return self.accept(now, at, &header, datagram, opened.index, opened.len);
            }
        };
        let index = &mut self.streams[at].index;
        let opened = srtp.open_rtp(index, datagram, header.header_len);
        let opened = opened.map_err(|error| error.drop_reason(DropReason::BadRtp))?;
        self.accept(now, at, &header, datagram, opened.index, opened.len)
    }

    /// Finds the track of an SSRC that was not seen before and makes its stream.
    fn admit(
        &mut self,
        header: &RtpHeader,
        plain: &[u8],
        index: PacketIndex,
    ) -> Result<usize, DropReason> {
        let track = self.track_of(header, plain).ok_or(DropReason::UnknownSsrc)?;
        let track = &mut self.tracks[track];
        let id = track.params.track;
        let layer = track.layer_of(plain).ok_or(DropReason::UnknownRid)?;
        let pt = header.payload_type;
        let (media, rtx) = (track.codec(pt).copied(), track.repaired_codec(pt).copied());
        let is_media = |stream: &Stream| matches!(stream.role, Role::Media { .. });
        let is_same = |stream: &Stream| stream.track == id && stream.layer == layer;
        // The layer goes on with the new stream; what the old one still sends is no longer its own.
        let (role, codec) = match (media, rtx) {
            (Some(codec), _) => {
                track.sources = track.sources.checked_add(1).ok_or(DropReason::TooManySsrcs)?;
                let missing = codec.nack.then(MissingList::new);
                let role = Role::Media { source: track.sources, missing };
                self.retire(|stream| is_same(stream) && is_media(stream));
                (role, codec)
            }
            (None, Some(codec)) => {
                self.retire(|stream| is_same(stream) && !is_media(stream));
                (Role::Rtx, codec)
            }
            (None, None) => return Err(DropReason::UnknownPayloadType),
        };
        self.retired.retain(|(ssrc, _)| *ssrc != header.ssrc);
        self.streams.push(Stream {
            ssrc: header.ssrc,
            track: id,
            layer,
            role,
            inbound: InboundStream::new(codec.clock_rate_hz),
            index,
        });
        Ok(self.streams.len() - 1)
    }

    /// By MID, then by what the description said, then by a payload type that only one track has. Source: RFC 9143 §9.2.
    fn track_of(&self, header: &RtpHeader, plain: &[u8]) -> Option<usize> {
        if let Some(at) = self.track_by_mid(plain) {
            return Some(at);
        }
        let named = self.tracks.iter().position(|t| {
            t.params.ssrcs.contains(&header.ssrc) || t.params.rtx_ssrcs.contains(&header.ssrc)
        });
        if named.is_some() {
            return named;
        }
        let mut with_type =
            (0..self.tracks.len()).filter(|&at| self.tracks[at].has(header.payload_type));
        let only = with_type.next()?;
        with_type.next().is_none().then_some(only)
    }

    fn track_by_mid(&self, plain: &[u8]) -> Option<usize> {
        let view = RtpView::parse(plain).ok()?;
        let (profile, block) = view.extension()?;
        rtp_ext::elements(profile, block).find_map(|(id, value)| {
            self.tracks.iter().position(|track| {
                track.params.extensions.id(Extension::Mid) == Some(id)
                    && track.params.mid.as_bytes() == value
            })
        })
    }

    fn accept(
        &mut self,
        now: Instant,
        at: usize,
        header: &RtpHeader,
        datagram: &mut [u8],
        index: ExtSeqNum,
        len: usize,
    ) -> Result<Received, DropReason> {
        let stream = &self.streams[at];
        let (track_id, layer) = (stream.track, stream.layer);
        let track = self.tracks.iter_mut().find(|t| t.params.track == track_id);
        let track = track.ok_or(DropReason::UnknownSsrc)?;
        let (key, transport_cc_id) =
            (track.key, track.params.extensions.id(Extension::TransportCc));
        if let Some(id) = transport_cc_id
            && let Some(seq) = transport_seq(&datagram[..len], id)
        {
            self.arrivals.on_packet(now, seq);
        }
        if matches!(stream.role, Role::Rtx) {
            return self.accept_rtx(now, at, header, datagram, index, len);
        }
        let Some(codec) = track.codec(header.payload_type) else {
            return Err(DropReason::UnknownPayloadType);
        };
        let (clock_rate_hz, format) = (codec.clock_rate_hz, codec.format);
        let stream = &mut self.streams[at];
        let Role::Media { source, missing } = &mut stream.role else {
            return Err(DropReason::UnknownSsrc);
        };
        if stream.inbound.on_packet(now, index, header.timestamp, len) == Arrival::Duplicate {
            return Err(DropReason::Duplicate);
        }
        if let Some(missing) = missing {
            missing.on_packet(now, index);
        }
        // Only who waits for a key frame needs to know whether this is one.
        if let Some(keyframes) = track.keyframes.get_mut(usize::from(layer))
            && keyframes.next_deadline().is_some()
            && RtpView::parse(&datagram[..len]).is_ok_and(|v| format.starts_keyframe(v.payload()))
        {
            keyframes.satisfied();
        }
        let source = *source;
        let plain = 0..len;
        let recovered = false;
        Ok(Received { track: key, source, layer, index, clock_rate_hz, plain, recovered })
    }

    /// Turns a retransmission back into the packet that was lost. Source: RFC 4588 §4.
    fn accept_rtx(
        &mut self,
        now: Instant,
        at: usize,
        header: &RtpHeader,
        datagram: &mut [u8],
        index: ExtSeqNum,
        len: usize,
    ) -> Result<Received, DropReason> {
        let stream = &mut self.streams[at];
        let (track_id, layer) = (stream.track, stream.layer);
        if stream.inbound.on_packet(now, index, header.timestamp, len) == Arrival::Duplicate {
            return Err(DropReason::Duplicate);
        }
        let track = self.tracks.iter().find(|t| t.params.track == track_id);
        let track = track.ok_or(DropReason::UnknownSsrc)?;
        let key = track.key;
        let codec = track.repaired_codec(header.payload_type);
        let codec = *codec.ok_or(DropReason::UnknownPayloadType)?;
        let media = self.streams.iter_mut().rev().find_map(|s| match &mut s.role {
            Role::Media { source, missing } if s.track == track_id && s.layer == layer => {
                Some((s.ssrc, *source, missing.as_mut()?, &mut s.inbound))
            }
            _ => None,
        });
        let (ssrc, source, missing, inbound) = media.ok_or(DropReason::UselessRtx)?;
        let view = RtpView::parse(&datagram[..len]).map_err(|_| DropReason::BadRtp)?;
        // Publishers probe for bandwidth with retransmissions that carry nothing.
        let (osn, original) = rtx::osn(view.payload()).ok_or(DropReason::UselessRtx)?;
        if original.is_empty() {
            return Err(DropReason::UselessRtx);
        }
        let highest = inbound.highest().ok_or(DropReason::UselessRtx)?;
        let original = ExtSeqNum::nearest(osn, highest);
        if !missing.is_missing(original) {
            return Err(DropReason::UselessRtx);
        }
        if inbound.on_recovered(now, original) == Arrival::Duplicate {
            return Err(DropReason::Duplicate);
        }
        missing.on_packet(now, original);
        restore_original(datagram, header.header_len, codec.payload_type, osn, ssrc);
        let plain = rtx::OSN_LEN..len;
        let clock_rate_hz = codec.clock_rate_hz;
        let (index, recovered) = (original, true);
        Ok(Received { track: key, source, layer, index, clock_rate_hz, plain, recovered })
    }
}

impl PublishedTrack {
    fn codec(&self, payload_type: PayloadType) -> Option<&CodecParams> {
        self.params.codecs.iter().find(|codec| codec.payload_type == payload_type)
    }

    /// The codec whose retransmissions come under this payload type.
    fn repaired_codec(&self, payload_type: PayloadType) -> Option<&CodecParams> {
        self.params.codecs.iter().find(|codec| codec.rtx == Some(payload_type))
    }

    fn has(&self, payload_type: PayloadType) -> bool {
        self.codec(payload_type).or_else(|| self.repaired_codec(payload_type)).is_some()
    }

    /// The layer that a plain packet names, of itself or of what it repairs; 0 without simulcast. Source: RFC 8852 §3.
    fn layer_of(&self, plain: &[u8]) -> Option<u8> {
        if self.params.layers.is_empty() {
            return Some(0);
        }
        let view = RtpView::parse(plain).ok()?;
        let (profile, block) = view.extension()?;
        let of = |extension| {
            let id = self.params.extensions.id(extension)?;
            let (_, value) = rtp_ext::elements(profile, block).find(|&(e, _)| e == id)?;
            let rid = Rid::from_bytes(value)?;
            self.params.layers.iter().position(|&layer| layer == rid)
        };
        let layer = of(Extension::RepairedRid).or_else(|| of(Extension::Rid))?;
        Some(layer as u8)
    }

    /// Whether the publisher answers PLI.
    pub fn answers_pli(&self) -> bool {
        self.params.codecs.iter().any(|codec| codec.pli)
    }
}

/// Moves the header over the original sequence number and writes the original's fields into it.
fn restore_original(
    datagram: &mut [u8],
    header_len: usize,
    payload_type: PayloadType,
    seq: SeqNum,
    ssrc: Ssrc,
) {
    datagram.copy_within(..header_len, rtx::OSN_LEN);
    let header = &mut datagram[rtx::OSN_LEN..];
    header[1] = header[1] & 0x80 | payload_type.0 & 0x7f;
    header[2..4].copy_from_slice(&seq.0.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
}

fn transport_seq(plain: &[u8], id: u8) -> Option<u16> {
    let view = RtpView::parse(plain).ok()?;
    let (profile, block) = view.extension()?;
    let (_, value) = rtp_ext::elements(profile, block).find(|&(element, _)| element == id)?;
    Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?))
}
