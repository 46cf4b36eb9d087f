//! What control may ask of a shard, and what a shard reports by itself. Both ways are bounded.

use std::sync::Arc;

use crate::drop_reason::DropCounters;
use crate::ice::Credentials;
use crate::ids::{ChannelId, LegId, SessionId, ShardId, TrackId};
use crate::session::params::{LegParams, RemoteParams, SessionParams, TrackParams};
use crate::session::snapshot::SessionSnapshot;
use crate::session_error::SessionError;
use crate::srtp::Profile;

pub use crate::sctp::DataKind;

/// One wish of the control plane. Each is answered once.
#[derive(Clone, Debug)]
pub enum Command {
    /// Makes a session.
    AddSession(Box<SessionParams>),
    /// Tells a session its peer's half: the answer to our offer, or new ICE credentials of the peer (an ICE restart).
    SetRemote {
        /// The session.
        session: SessionId,
        /// The peer's half. `fingerprints` and `dtls_role` must not change once the handshake began.
        remote: Box<RemoteParams>,
    },
    /// Gives a session new ICE credentials of ours; the old ones are answered until the new are used. Source: RFC 8445 §9.
    RestartIce {
        /// The session.
        session: SessionId,
        /// Our new credentials.
        local: Credentials,
    },
    /// Ends a session: BYE and close_notify are sent, its tracks and legs go.
    RemoveSession {
        /// The session.
        session: SessionId,
    },
    /// Starts to receive a track from a session.
    AddTrack {
        /// The publisher.
        session: SessionId,
        /// What was negotiated.
        track: Box<TrackParams>,
    },
    /// Stops a track; its legs go with it.
    RemoveTrack {
        /// The publisher.
        session: SessionId,
        /// The track.
        track: TrackId,
    },
    /// Starts to forward a track to a session. Asks the publisher for a key frame.
    AddLeg {
        /// The subscriber.
        session: SessionId,
        /// What was negotiated.
        leg: Box<LegParams>,
    },
    /// As [`Command::AddLeg`], for a track that is published on another shard. With its first leg here the track comes to this shard,
    /// and goes with the last one, or when its home says that it has ended. While it is muted, which its home is told, nothing comes.
    AddRelayedLeg {
        /// The subscriber.
        session: SessionId,
        /// What was negotiated with the subscriber.
        leg: Box<LegParams>,
        /// The publisher's shard.
        home: ShardId,
        /// What was negotiated with the publisher: as in its [`Command::AddTrack`], which the home has answered.
        track: Arc<TrackParams>,
    },
    /// Stops forwarding. Unknown legs are no error: the track may have gone first.
    RemoveLeg {
        /// The subscriber.
        session: SessionId,
        /// The leg.
        leg: LegId,
    },
    /// Stops or resumes the forwarding of a track. While muted its packets are received, counted and dropped.
    SetMuted {
        /// The publisher.
        session: SessionId,
        /// The track.
        track: TrackId,
        /// Whether nobody gets it.
        muted: bool,
    },
    /// Sends one message over a data channel that the peer opened. Source: RFC 8831 §6.6.
    SendData {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
        /// Text or binary.
        kind: DataKind,
        /// The message.
        bytes: Vec<u8>,
        /// Whether [`Report::DataDelivered`] is to follow.
        confirm: bool,
    },
    /// Asks for the shard's counters, and for each session's when `sessions` is set.
    Snapshot {
        /// Whether every session is listed.
        sessions: bool,
    },
}

/// What a command gives back.
#[derive(Debug)]
pub enum Answer {
    /// It was done.
    Done,
    /// The answer to [`Command::Snapshot`].
    Snapshot(Box<ShardSnapshot>),
}

/// What a shard tells without being asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The handshake is done, media may flow.
    Connected {
        /// The session.
        session: SessionId,
        /// The SRTP profile that was negotiated.
        profile: Profile,
    },
    /// Consent was lost: nothing is sent until an ICE restart brings it back (RFC 7675 §5.1).
    Disconnected {
        /// The session.
        session: SessionId,
    },
    /// Consent is back after [`Report::Disconnected`].
    Reconnected {
        /// The session.
        session: SessionId,
    },
    /// A track that is watched for voice activity began or ceased to be speech.
    Voice {
        /// The publisher.
        session: SessionId,
        /// The track.
        track: TrackId,
        /// Whether somebody speaks.
        active: bool,
    },
    /// The peer opened a data channel.
    ChannelOpened {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
        /// Its label.
        label: String,
    },
    /// A data channel is closed: by the peer, or because it broke a bound.
    ChannelClosed {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
    },
    /// A message came over a data channel.
    Data {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
        /// Text or binary.
        kind: DataKind,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The peer has acknowledged all that was sent over a data channel, of which a message was to be confirmed. When the channel
    /// closes before that, there is [`Report::ChannelClosed`] instead.
    DataDelivered {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
    },
    /// The session ended by itself; it is gone from the shard.
    Closed {
        /// The session.
        session: SessionId,
        /// Whose fault it was.
        error: SessionError,
    },
}

impl Report {
    /// The session that it is about.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Connected { session, .. }
            | Self::Disconnected { session }
            | Self::Reconnected { session }
            | Self::Voice { session, .. }
            | Self::ChannelOpened { session, .. }
            | Self::ChannelClosed { session, .. }
            | Self::Data { session, .. }
            | Self::DataDelivered { session, .. }
            | Self::Closed { session, .. } => *session,
        }
    }
}

/// One shard's state at a moment. Counters only grow.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: ShardId,
    /// Everything that is counted, each with its metric name.
    pub counters: crate::metrics::ShardCounters,
    /// Datagrams refused, by reason.
    pub drops: DropCounters,
    /// What tracks carried, by [`TallyId`](crate::ids::TallyId). Tallies that no track has used yet may be missing at the end.
    pub tallies: Vec<crate::metrics::TrackTally>,
    /// Sessions on this shard.
    pub sessions: usize,
    /// Calls on this shard.
    pub calls: usize,
    /// Tracks published on this shard.
    pub tracks: usize,
    /// Legs on this shard.
    pub legs: usize,
    /// Every session, when asked for.
    pub session_list: Vec<SessionSnapshot>,
}
