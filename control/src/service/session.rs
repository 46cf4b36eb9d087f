//! One session as the control plane knows it.

use sluice_engine::clock::Instant;
use sluice_engine::ids::{Mid, SessionId, ShardId, TrackId};
use sluice_engine::session::params::MediaKind;
use sluice_engine::session::snapshot::SessionSnapshot;
use sluice_engine::srtp::Profile;

use super::link::{CloseCode, Link};
use super::views::{
    Event, ParticipantView, SessionKind, SessionState, SessionView, StatsView, TrackView,
};
use crate::sdp::{CodecName, Negotiator, RemoteTrack};

/// One peer's connection.
pub(super) struct Session {
    /// The engine's number.
    pub(super) number: SessionId,
    /// The shard that has it, which never changes.
    pub(super) shard: ShardId,
    /// The name in URLs: 128 random bits.
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) kind: SessionKind,
    /// Whether it is sent the others' tracks.
    pub(super) subscribes: bool,
    pub(super) negotiator: Negotiator,
    /// Number of the latest offer of ours.
    pub(super) offer_id: u64,
    /// Opens the session's WebSocket.
    pub(super) ticket: String,
    pub(super) link: Option<Link>,
    pub(super) state: SessionState,
    pub(super) profile: Option<Profile>,
    pub(super) published: Vec<Published>,
    /// Whether the peer's half was ever known: from then on the engine watches over the session.
    pub(super) negotiated: bool,
    /// When it was made, or lost its WebSocket.
    pub(super) alone_since: Instant,
    /// Grows with each ICE restart; part of the entity tag. Source: RFC 9725 §4.3.1.
    pub(super) ice_generation: u64,
}

/// A track of this session.
pub(super) struct Published {
    pub(super) mid: Mid,
    pub(super) track: RemoteTrack,
}

impl Published {
    pub(super) fn view(&self, session: &Session) -> TrackView {
        let mut codecs: Vec<String> = Vec::new();
        for codec in &self.track.codecs {
            let name = codec_name(codec.name);
            if !codecs.iter().any(|known| known == name) {
                codecs.push(name.to_owned());
            }
        }
        TrackView {
            id: track_name(self.track.track),
            session: session.id.clone(),
            name: session.name.clone(),
            kind: match self.track.kind {
                MediaKind::Audio => "audio",
                MediaKind::Video => "video",
            }
            .to_owned(),
            mid: self.mid.as_str().to_owned(),
            codecs,
        }
    }
}

impl Session {
    pub(super) fn track_views(&self) -> Vec<TrackView> {
        self.published.iter().map(|p| p.view(self)).collect()
    }

    pub(super) fn participant(&self) -> ParticipantView {
        ParticipantView { id: self.id.clone(), name: self.name.clone() }
    }

    /// `statistics` are the shard's, when they were asked for.
    pub(super) fn view(&self, call: &str, statistics: Option<&SessionSnapshot>) -> SessionView {
        SessionView {
            id: self.id.clone(),
            call: call.to_owned(),
            name: self.name.clone(),
            kind: self.kind,
            shard: self.shard.0,
            state: self.state,
            transport: statistics.and_then(|s| s.transport).map(str::to_owned),
            profile: self.profile.map(|p| profile_name(p).to_owned()),
            tracks: self.track_views(),
            stats: statistics.map(|s| StatsView {
                packets_in: s.packets_in,
                bytes_in: s.bytes_in,
                packets_out: s.packets_out,
                bytes_out: s.bytes_out,
                packets_lost_in: s.packets_lost_in,
                packets_lost_out: s.packets_lost_out,
                rtt_us: s.rtt_us,
            }),
        }
    }

    /// Queues a message for the WebSocket, if there is one. A client that does not keep up loses
    /// its connection, not its session. Returns whether it did.
    pub(super) fn send(&mut self, event: &Event) -> bool {
        let overflow = self.link.as_ref().is_some_and(|link| !link.send(event));
        if overflow && let Some(link) = self.link.take() {
            link.abort(CloseCode::TooSlow);
        }
        overflow
    }

    /// Makes one offer of all that waits, when a WebSocket is there to carry it and none is
    /// outstanding.
    pub(super) fn push_offer(&mut self) -> bool {
        if self.link.is_none() {
            return false;
        }
        let Some(sdp) = self.negotiator.make_offer() else { return false };
        self.offer_id += 1;
        self.send(&Event::Offer { offer_id: self.offer_id, sdp })
    }

    /// The entity tag of the session's ICE generation. Source: RFC 9725 §4.3.1.
    pub(super) fn etag(&self) -> String {
        format!("\"{}-{}\"", &self.id[..8.min(self.id.len())], self.ice_generation)
    }

    pub(super) fn track_ids(&self) -> Vec<TrackId> {
        self.published.iter().map(|p| p.track.track).collect()
    }
}

/// A track's id in the API: what its description carries as second word of `a=msid`.
pub(super) fn track_name(track: TrackId) -> String {
    format!("track-{track}")
}

/// The profile's name in its registry.
pub(super) fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        Profile::Aes128CmHmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
    }
}

fn codec_name(name: CodecName) -> &'static str {
    match name {
        CodecName::Opus => "opus",
        CodecName::G722 => "G722",
        CodecName::Pcmu => "PCMU",
        CodecName::Pcma => "PCMA",
        CodecName::Vp8 => "VP8",
        CodecName::Vp9 => "VP9",
        CodecName::H264 => "H264",
        CodecName::Av1 => "AV1",
    }
}
