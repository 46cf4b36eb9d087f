//! What the service needs of the engine, so that it can be tested without sockets.

use sluice_engine::command_error::CommandError;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{SessionId, ShardId};
use sluice_engine::shard::handle::{Engine, EngineFacts, Reply};
use sluice_engine::shard::mailbox::Command;

use crate::sdp::Change;

/// The data plane as the service sees it: as thin as [`Engine`] itself.
pub trait MediaPlane: Send + Sync + 'static {
    /// What the engine found out when it started.
    fn facts(&self) -> &EngineFacts;

    /// How many shards there are, numbered from 0.
    fn shards(&self) -> u16;

    /// The shard that a new call should go to.
    fn least_loaded(&self) -> ShardId;

    /// Share of time that a shard was busy lately, in thousandths.
    fn load_permille(&self, shard: ShardId) -> u32;

    /// ICE credentials that lead to `shard`, which nobody can guess.
    fn credentials(&self, shard: ShardId) -> Credentials;

    /// Sends a command without blocking.
    ///
    /// # Errors
    /// `MailboxFull`, or `ShardGone` after the end.
    fn request(&self, shard: ShardId, command: Command) -> Result<Reply, CommandError>;
}

impl MediaPlane for Engine {
    fn facts(&self) -> &EngineFacts {
        Engine::facts(self)
    }

    fn shards(&self) -> u16 {
        u16::try_from(Engine::shards(self).len()).unwrap_or(u16::MAX)
    }

    fn least_loaded(&self) -> ShardId {
        Engine::least_loaded(self).shard()
    }

    fn load_permille(&self, shard: ShardId) -> u32 {
        Engine::shards(self).get(shard.index()).map_or(0, |s| s.load_permille())
    }

    fn credentials(&self, shard: ShardId) -> Credentials {
        Credentials::generate(shard, &mut crate::service::fill_random)
    }

    fn request(&self, shard: ShardId, command: Command) -> Result<Reply, CommandError> {
        match Engine::shards(self).get(shard.index()) {
            Some(handle) => handle.request(command),
            None => Err(CommandError::ShardGone),
        }
    }
}

/// What the engine is to do for a change of a session's negotiation.
pub fn command_of(session: SessionId, change: Change) -> Command {
    match change {
        Change::RestartIce { local } => Command::RestartIce { session, local },
        Change::SetRemote(remote) => Command::SetRemote { session, remote: Box::new(remote) },
        Change::Publish { params, .. } => Command::AddTrack { session, track: Box::new(params) },
        Change::Unpublish(track) => Command::RemoveTrack { session, track },
        Change::AddLeg(leg) => Command::AddLeg { session, leg: Box::new(leg) },
        Change::RemoveLeg(leg) => Command::RemoveLeg { session, leg },
    }
}
