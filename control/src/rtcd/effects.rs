//! What a call wants done: its only way out.

use sluice_engine::ids::SessionId;
use sluice_engine::shard::mailbox::Command;

use super::directory::SessionConfig;
use super::hub::ConnectionId;
use super::message::ToPlugin;

/// Something that is to be done, in the order in which it stands.
#[derive(Debug)]
pub(super) enum Effect {
    /// A command for the shard of its session.
    Command(Command),
    /// One whose answer nobody needs: awaiting it would wake the call once more for each.
    Passing(Command),
    /// A message for the plugin, by the connection of a session.
    ToPlugin {
        /// The session.
        session: SessionId,
        /// The message.
        message: ToPlugin,
    },
    /// An offer of ours by the same way, as soon as the plugin has read what it was sent before.
    Offer {
        /// The session.
        session: SessionId,
        /// The message.
        message: ToPlugin,
    },
    /// A session has ended: it is forgotten, and its plugin is told.
    Closed {
        /// The engine's number.
        session: SessionId,
        /// Who it was.
        config: SessionConfig,
        /// The plugin's connection that it had.
        connection: ConnectionId,
    },
}

/// What is to be done.
pub(super) type Effects = Vec<Effect>;
