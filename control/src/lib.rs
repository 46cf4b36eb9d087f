//! Sluice's control plane: speaks to people and other services, turns text into typed parameters,
//! and sends the engine commands.
//!
//! A request's way: `http` (listener, access, one handler group a file) → `service` (calls and
//! sessions) → `sdp` (what the description means) → `media_plane` (the engine). Back come reports
//! of the shards, into `service`, which tells the sessions' WebSockets. Packets never come here.
//!
//! Beside it stands rtcd's API: `auth` (who is registered, over `store`) and `rtcd`. And `profile`, which
//! looks at the process itself, and `host_tuning`, which looks at the host.

pub mod addresses;
pub mod auth;
pub mod command_line;
pub mod config;
pub mod error;
pub mod host_tuning;
pub mod http;
pub mod logging;
pub mod media_plane;
pub mod metrics;
pub mod placement;
pub mod profile;
pub mod rtcd;
pub mod sdp;
pub mod service;
pub mod store;
