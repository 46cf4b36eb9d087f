//! Where a datagram came from and where one goes: plain data, shared by all layers.

use std::net::SocketAddr;

/// What carries the datagrams of a route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// UDP datagrams on one of our sockets.
    Udp,
    /// One accepted TCP connection with RFC 4571 framing; the number is the shard's own and is never used again.
    Tcp(u64),
}

/// The two ends of a path as the kernel shows them: what ICE validates and what a session listens to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// UDP, or which TCP connection.
    pub transport: Transport,
    /// Which of the addresses we listen on: an index into [`crate::config::EngineConfig::addresses`].
    pub local: u16,
    /// The peer's address; IPv4 peers are always `SocketAddr::V4`.
    pub remote: SocketAddr,
}

/// A destination that a back-end has resolved: slot and generation, so that a closed one misses.
///
/// Slots are small and dense: [`crate::egress::Egress`] uses them as an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PathId {
    /// Position in the back-end's table.
    pub slot: u32,
    /// Grows each time the slot is given out.
    pub generation: u32,
}
