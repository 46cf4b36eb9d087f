//! Data channels: SCTP over DTLS, and on it channels that the peer opens. Source: RFC 8831, RFC 8832, RFC 8261.
//!
//! Packets in and out, time told, no sockets. We never open a channel and never begin an association: every WebRTC client does. All
//! that a peer can make us hold has a bound here; what `sctp-proto` leaves unbounded is bounded by a gate before it.

mod association;
pub mod channels;
pub mod dcep;
mod gate;
mod packet;

pub use channels::{ChannelEvent, DataChannels};
#[cfg(feature = "testing")]
pub use packet::write_checksum;

use crate::dtls::identity::DATAGRAM_LEN_MAX;

/// What a message is. Source: RFC 8831 §8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// Channels of one session. An OPEN beyond it is answered by closing the channel.
pub const CHANNELS_MAX: usize = 16;

/// Streams of one association, as we negotiate it: room for every channel on numbers of one parity, reused or not.
pub const STREAMS: u16 = 256;

/// Bytes of a channel's label. An OPEN with a longer one is answered by closing the channel.
pub const LABEL_LEN_MAX: usize = 256;

/// Bytes of one message, either way. A peer that sends a longer one loses its association; sending one is refused.
pub const MESSAGE_LEN_MAX: usize = 256 << 10;

/// Bytes of messages, whole or not, that an association holds unread: one of the longest and the start of another. The rest waits at
/// the peer.
pub const RECEIVE_WINDOW: u32 = 384 << 10;

/// Bytes that wait until the peer acknowledged them, over all channels of a session. Beyond it sending is refused.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// Messages that wait likewise: each costs memory beyond its bytes.
pub const WAITING_MESSAGES_MAX: usize = 4_096;

/// What a DTLS 1.2 record adds: header, explicit nonce, tag. Source: RFC 6347 §4.1, RFC 5288 §3.
const RECORD_OVERHEAD: usize = 13 + 8 + 16;

/// Bytes of one SCTP packet of ours: with its record it is no longer than any other datagram of DTLS. A multiple of four.
pub const PACKET_LEN_MAX: usize = (DATAGRAM_LEN_MAX - RECORD_OVERHEAD) / 4 * 4;
