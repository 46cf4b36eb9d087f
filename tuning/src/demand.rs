//! What a load needs of a host, each value with the formula it came from.

use serde::Serialize;

use crate::load::Load;

/// What is to be carried, and by what.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Expected load.
    pub load: Load,
    /// Whether somebody named it; else it is the default.
    pub load_is_given: bool,
    /// Shards that are configured; `None` lets the advice count them.
    pub shards: Option<u32>,
    /// UDP and TCP port of media.
    pub media_port: u16,
    /// SO_RCVBUF and SO_SNDBUF that the server asks for, bytes; `None` outside a server.
    pub socket_buffer_bytes: Option<u64>,
}

/// A value and how it came about, for people: `16777216 = …`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sized {
    /// In the unit that the field's name says.
    pub value: u64,
    /// With its numbers.
    pub formula: String,
}

/// What the load comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Demand {
    /// The load.
    pub load: Load,
    /// People connected at once.
    pub sessions: Sized,
    /// Packets that arrive each second, feedback and checks included.
    pub packets_in_per_s: Sized,
    /// Packets that leave each second.
    pub packets_out_per_s: Sized,
    /// Bits that leave each second.
    pub bits_out_per_s: Sized,
    /// Shards, each a core.
    pub shards: Sized,
    /// SO_RCVBUF of each media socket.
    pub receive_buffer_bytes: Sized,
    /// SO_SNDBUF of each media socket.
    pub send_buffer_bytes: Sized,
    /// Memory that all socket buffers may take together.
    pub udp_memory_bytes: Sized,
    /// Packets that wait per core between card and stack.
    pub backlog_packets: Sized,
    /// Descriptors of each receive ring of the card.
    pub ring_descriptors: Sized,
    /// Files open at once.
    pub open_files: Sized,
    /// Memory locked for io_uring.
    pub locked_memory_bytes: Sized,
    /// Memory of the process.
    pub memory_bytes: Sized,
    /// Entries of connection tracking, where it sees the media port.
    pub conntrack_entries: Sized,
}
