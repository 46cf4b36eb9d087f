//! The interface of rtcd, the media server of Mattermost Calls: one WebSocket of a plugin carries the signalling of all its users,
//! and a data channel in each user's peer connection the rest.
//!
//! A message's way in: `socket` (one WebSocket) → `message` (bytes to a typed message) → whoever is the socket's `Inbox`. The way out:
//! `hub` (which of the client's connections takes it) → `socket`. Data channels speak `channel_message`, over the same `msgpack`.
//! `docs/rtcd_compat.md` compares behaviour by behaviour.

pub mod channel_message;
pub mod directory;
pub mod hub;
pub mod message;
pub mod msgpack;
pub mod socket;
