//! Sluice's data plane: it takes in the packets of WebRTC peers and sends each on to those who are to get it.
//!
//! Each core has a shard of its own: a thread with its sockets, its sessions and its calls, that shares nothing. The control plane
//! starts an [`Engine`](shard::handle::Engine), gives its shards [`Command`](shard::mailbox::Command)s with typed parameters
//! ([`SessionParams`](session::params::SessionParams), [`TrackParams`](session::params::TrackParams),
//! [`LegParams`](session::params::LegParams)), and hears of them by [`Report`](shard::mailbox::Report)s and
//! [`ShardSnapshot`](shard::mailbox::ShardSnapshot)s. These are the types to start from;
//! `engine/tests/live` places calls with them.
//!
//! # The map
//!
//! In the order a datagram meets them:
//!
//! | layer | what it does |
//! |---|---|
//! | [`io`] | receives batches from the kernel by io_uring or recvmmsg; frames of ICE-TCP look like datagrams from here on |
//! | [`shard`] | the turn: whose datagram is this, by route or by ufrag, and the other shard's if it is not ours |
//! | [`wire`] | views of bytes: STUN, RTP and its extensions, RTCP; writers of the same |
//! | [`ice`] | answers checks as a lite agent, keeps the routes that they validate, watches consent |
//! | [`dtls`] | the handshake; checks the peer's certificate and yields keys |
//! | [`sctp`] | data channels over that same DTLS |
//! | [`srtp`] | opens and seals packets, in place |
//! | [`session`] | one peer: what it publishes, what it gets, and its timers |
//! | [`rtp`] | numbers, losses, retransmission, reports, rates, key frame requests: one stream at a time |
//! | [`bwe`] | transport-wide feedback to the publisher; what the path to a subscriber carries |
//! | [`call`] | the forward table, which simulcast layer each subscriber gets, and the loop over a track's subscribers |
//! | [`relay`] | what shards tell each other of a track that is published on one and received on another |
//! | [`egress`] | the datagrams of this turn, grouped by destination, which the back-end sends in runs |
//!
//! Under all of these lie [`ids`], [`prefetch`], [`slots`], [`clock`], [`route`], [`config`], [`drop_reason`], [`session_error`],
//! [`command_error`] and [`metrics`].
//!
//! A file uses only layers that lie below its own: `shard` uses `io` and `call`, `call` uses `session`, `session` the protocols,
//! the protocols `wire`. All from [`wire`] to [`egress`] in this table are cores: they are told the time, given bytes and a sink,
//! and own no socket, thread, clock or source of chance. So the same code runs on a pinned thread and in a simulation with a
//! virtual clock. `unsafe` is confined to [`io`] and one instruction of [`prefetch`]. `engine/tests/layering.rs` holds the tree to all this.
//!
//! # What is absent on purpose
//!
//! - Text and files: no SDP, HTTP, JSON or configuration files. The control plane turns those into typed parameters.
//! - Logs per packet: what is refused is counted by [`DropReason`](drop_reason::DropReason).
//! - Mixing, transcoding, recording: a packet leaves with the payload it came with.
//! - Full ICE, TURN, mDNS: the server has public addresses, so a lite agent does.
//! - Locks and allocation on the packet path: `engine/tests/alloc.rs` counts.

pub mod bwe;
pub mod call;
pub mod clock;
pub mod command_error;
pub mod config;
pub mod drop_reason;
pub mod dtls;
pub mod egress;
pub mod ice;
pub mod ids;
pub mod io;
pub mod metrics;
pub mod prefetch;
pub mod relay;
pub mod route;
pub mod rtp;
pub mod sctp;
pub mod session;
pub mod session_error;
pub mod shard;
pub mod slots;
pub mod srtp;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
