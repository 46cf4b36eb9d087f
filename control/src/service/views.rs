//! What the API shows of calls, sessions and tracks: the JSON of `docs/api.md`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Problem;

/// A call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Call)]
pub struct CallView {
    /// The call's id.
    pub id: String,
    /// Its home shard. Further sessions of a large call are on others.
    pub shard: u16,
    /// Sessions in it.
    pub sessions: usize,
    /// Tracks published in it.
    pub tracks: usize,
}

/// A published track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Track)]
pub struct TrackView {
    /// The track's id: second word of `a=msid` where it is received.
    pub id: String,
    /// The session that publishes it: first word of `a=msid` where it is received.
    pub session: String,
    /// The name of that session.
    pub name: Option<String>,
    /// `audio` or `video`.
    pub kind: String,
    /// The publisher's mid.
    pub mid: String,
    /// Codecs that were negotiated, in the publisher's order.
    pub codecs: Vec<String>,
}

/// A session as the others see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Participant)]
pub struct ParticipantView {
    /// The session's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
}

/// How a session came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// The native API.
    Native,
    /// WHIP: publishes only.
    Whip,
    /// WHEP: plays only.
    Whep,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// ICE and DTLS are under way.
    Connecting,
    /// Media may flow.
    Connected,
    /// Nothing was heard of the peer for a while; it may come back.
    Disconnected,
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// The session's id.
    pub id: String,
    /// Its call.
    pub call: String,
    /// Its name.
    pub name: Option<String>,
    /// How it came about.
    pub kind: SessionKind,
    /// The shard that carries it.
    pub shard: u16,
    /// How far it is.
    pub state: SessionState,
    /// What carries it: `udp` or `tcp`; null until a path is validated, and where statistics are
    /// left out.
    pub transport: Option<String>,
    /// The SRTP profile, once connected.
    pub profile: Option<String>,
    /// What it publishes.
    pub tracks: Vec<TrackView>,
    /// Counters; null where they are left out or the shard does not answer.
    pub stats: Option<StatsView>,
}

/// Counters of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SessionStats)]
pub struct StatsView {
    /// RTP packets received from the peer.
    pub packets_in: u64,
    /// RTP bytes received from the peer.
    pub bytes_in: u64,
    /// RTP packets sent to the peer.
    pub packets_out: u64,
    /// RTP bytes sent to the peer.
    pub bytes_out: u64,
    /// Packets lost on their way from the peer.
    pub packets_lost_in: i64,
    /// Packets that the peer reports as lost.
    pub packets_lost_out: i64,
    /// Round-trip time, microseconds.
    pub rtt_us: Option<u32>,
}

/// What the server sends on a session's WebSocket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// First message of a connection.
    Welcome {
        /// This session.
        session: Box<SessionView>,
        /// The others in the call.
        sessions: Vec<ParticipantView>,
        /// Their tracks.
        tracks: Vec<TrackView>,
    },
    /// The server's offer.
    Offer {
        /// Names the offer in the answer.
        offer_id: u64,
        /// The description.
        sdp: String,
    },
    /// The answer to the client's offer.
    Answer {
        /// The description.
        sdp: String,
        /// As the client sent it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    /// The client's offer was not used.
    Glare {
        /// As the client sent it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    /// Another session joined the call.
    SessionJoined {
        /// Its id.
        session: String,
        /// Its name.
        name: Option<String>,
    },
    /// Another session left the call.
    SessionLeft {
        /// Its id.
        session: String,
    },
    /// Another session publishes a track.
    TrackAdded {
        /// The track.
        track: TrackView,
    },
    /// Another session's track is gone.
    TrackRemoved {
        /// The track's id.
        track: String,
        /// The session that published it.
        session: String,
    },
    /// How far this session is.
    State {
        /// The state.
        state: SessionState,
        /// The SRTP profile, once connected.
        profile: Option<String>,
    },
    /// A message of the client was refused.
    Error {
        /// As the body of an HTTP error.
        problem: Problem,
        /// As the client sent it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    /// The session ended.
    Closed {
        /// Why.
        reason: String,
    },
}
