//! The interface of rtcd, the media server of Mattermost Calls: one WebSocket of a plugin carries the signalling of all its users,
//! and a data channel in each user's peer connection the rest.
//!
//! A message's way in: `socket` (one WebSocket) → `message` (bytes to a typed message) → whoever is the socket's `Inbox`. The way out:
//! `hub` (which of the client's connections takes it) → `socket`. Data channels speak `channel_message`, over the same `msgpack`.
//! `docs/rtcd_compat.md` compares behaviour by behaviour.

mod call;
pub mod channel_message;
mod descriptions;
pub mod directory;
mod effects;
pub mod hub;
mod lock;
pub mod message;
mod messages;
pub mod metrics;
pub mod msgpack;
mod registry;
pub mod service;
mod session;
mod sessions;
pub mod socket;
mod task;
pub mod track_class;
mod tracks;
