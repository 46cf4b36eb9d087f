//! Each way a command of the control plane can be refused.

use crate::ids::{ChannelId, SessionId, TrackId};

/// Why a command was not done; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// No such session on this shard; it may have closed meanwhile.
    UnknownSession(SessionId),
    /// No such track in the session's call.
    UnknownTrack(TrackId),
    /// The peer has no such data channel open.
    UnknownChannel(ChannelId),
    /// A session, track or leg of this number exists already.
    Exists,
    /// The SSRC was used under this session's keys before, or is used twice.
    SsrcUsed,
    /// A bound would be passed.
    LimitReached {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The DTLS role or the fingerprints cannot change any more.
    HandshakeBegan,
    /// The shard's mailbox is full: try again.
    MailboxFull,
    /// The shard has ended.
    ShardGone,
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownSession(id) => write!(f, "session {id} is not on this shard"),
            Self::UnknownTrack(id) => write!(f, "track {id} is not in this call"),
            Self::UnknownChannel(id) => write!(f, "data channel {id} is not open"),
            Self::Exists => f.write_str("exists already"),
            Self::SsrcUsed => f.write_str("the SSRC was used before under this session's keys"),
            Self::LimitReached { what, limit } => write!(f, "no more than {limit} {what}"),
            Self::HandshakeBegan => {
                f.write_str("DTLS role and fingerprints are fixed once the handshake began")
            }
            Self::MailboxFull => f.write_str("the shard's mailbox is full"),
            Self::ShardGone => f.write_str("the shard has ended"),
        }
    }
}

impl std::error::Error for CommandError {}
