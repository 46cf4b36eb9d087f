//! What signalling agreed, typed: all that the engine is told of a session, its tracks and its legs.

use crate::dtls::{DtlsRole, Fingerprint};
use crate::ice::Credentials;
use crate::ids::{CallId, LegId, Mid, PayloadType, Rid, SessionId, Ssrc, TallyId, TrackId};
use crate::wire::payload::PayloadFormat;
use crate::wire::rtp_ext::ExtensionMap;

/// A new session. The peer's half may follow later, when we made the offer.
#[derive(Clone, Debug)]
pub struct SessionParams {
    /// The session's number, chosen by the caller.
    pub session: SessionId,
    /// The call it belongs to; the call comes to life with its first session.
    pub call: CallId,
    /// Our ICE credentials, from [`Credentials::generate`] with the shard that will own the session.
    pub local_ice: Credentials,
    /// The peer's half, once its description is known.
    pub remote: Option<RemoteParams>,
    /// The CNAME under which we report to this peer about what it sends. Source: RFC 7022.
    pub cname: String,
    /// Whether the peer may open data channels. Source: RFC 8831.
    pub data_channels: bool,
}

/// The peer's half of a transport.
#[derive(Clone, Debug)]
pub struct RemoteParams {
    /// The peer's ICE credentials.
    pub ice: Credentials,
    /// The hashes of which one must match the peer's certificate. Source: RFC 8122 §5.
    pub fingerprints: Vec<Fingerprint>,
    /// Our side of the handshake.
    pub dtls_role: DtlsRole,
}

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
}

/// What one m= section of a publisher brings.
#[derive(Clone, Debug)]
pub struct TrackParams {
    /// The track's number, chosen by the caller.
    pub track: TrackId,
    /// The publisher's mid: packets of unknown SSRC find their track by it.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The negotiated payload types.
    pub codecs: Vec<CodecParams>,
    /// SSRCs that the description names; others are learnt from the MID extension or a payload type that only this track has.
    pub ssrcs: Vec<Ssrc>,
    /// SSRCs that the description names as retransmissions (`a=ssrc-group:FID`, second of each pair).
    pub rtx_ssrcs: Vec<Ssrc>,
    /// Header extension ids that the publisher uses in this m= section.
    pub extensions: ExtensionMap,
    /// The `rid`s of its simulcast layers, lowest first; empty without simulcast. Source: RFC 8853 §5.1.
    pub layers: Vec<Rid>,
    /// Whether [`Report::Voice`](crate::shard::mailbox::Report::Voice) tells when it begins and ceases to be speech, by the audio level extension.
    pub voice_activity: bool,
    /// Where its packets and the time to forward them are counted: a tally outlives its tracks.
    pub tally: TallyId,
}

/// One negotiated payload type of a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodecParams {
    /// The payload type on the publisher's wire.
    pub payload_type: PayloadType,
    /// RTP clock rate in Hz.
    pub clock_rate_hz: u32,
    /// How its payload is laid out: tells key frames. Of `Other` a leg changes layers at any packet.
    pub format: PayloadFormat,
    /// The payload type of its retransmissions (RFC 4588 `apt`), if negotiated.
    pub rtx: Option<PayloadType>,
    /// Whether the publisher answers generic NACK (RFC 4585 §6.2.1).
    pub nack: bool,
    /// Whether the publisher answers PLI (RFC 4585 §6.3.1).
    pub pli: bool,
    /// Whether transport-cc feedback was negotiated for it.
    pub transport_cc: bool,
}

/// One track on its way to one subscriber.
#[derive(Clone, Debug)]
pub struct LegParams {
    /// The leg's number, chosen by the caller.
    pub leg: LegId,
    /// The track that is forwarded. It must be published in the same call.
    pub track: TrackId,
    /// The subscriber's mid.
    pub mid: Mid,
    /// The SSRC on the subscriber's wire. One that this session has used before is refused: a key never sees an SSRC twice
    /// (RFC 7714 §8.4).
    pub ssrc: Ssrc,
    /// The SSRC of retransmissions, when RTX was negotiated. Must be fresh likewise.
    pub rtx_ssrc: Option<Ssrc>,
    /// Publisher's payload type → subscriber's. What is not named is not forwarded.
    pub payload_types: Vec<PayloadMap>,
    /// Header extension ids that the subscriber expects.
    pub extensions: ExtensionMap,
    /// The CNAME of the leg's streams: one per publisher, so that receivers play its audio and video in step. Source: RFC 7022.
    pub cname: String,
}

/// One payload type's translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadMap {
    /// On the publisher's wire.
    pub from: PayloadType,
    /// On the subscriber's wire.
    pub to: PayloadType,
    /// The subscriber's payload type for retransmissions of it, when RTX was negotiated.
    pub rtx: Option<PayloadType>,
}
