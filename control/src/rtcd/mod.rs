//! The interface of rtcd, the media server of Mattermost Calls: one WebSocket of a plugin carries the signalling of all its users,
//! and a data channel in each user's peer connection the rest.
//!
//! A message's way in: `socket` (one WebSocket) → `message` (bytes to a typed message). `docs/rtcd_compat.md` compares behaviour by
//! behaviour.

pub mod directory;
pub mod metrics;
