//! How much of each kind of work one turn may do, so that no kind starves the others.

/// Datagrams taken from the network in one turn.
pub const DATAGRAMS: usize = 512;

/// Plain packets that wait for fan-out while a batch is read.
pub const STAGED_PACKETS: usize = DATAGRAMS;

/// Bytes of these packets. Beyond it they are forwarded before the next datagram is read.
pub const STAGED_BYTES: usize = 256 << 10;

/// Datagrams taken from each other shard in one turn.
pub const STEERED: usize = 512;

/// Messages about tracks, most of them packets, taken from each other shard in one turn.
pub const RELAYED: usize = 512;

/// DTLS datagrams handled in one turn; each can cost a signature, about 0.1 ms. The rest waits in a bounded queue.
pub const HANDSHAKES: usize = 16;

/// DTLS datagrams that may wait for a later turn. Beyond it they are dropped; peers repeat their flights.
pub const HANDSHAKES_DEFERRED: usize = 4_096;

/// DTLS datagrams of one session handled as they come in one turn; the rest waits.
pub const HANDSHAKES_PER_SESSION: u8 = 4;

/// DTLS datagrams of one session that may wait: two flights. Whoever floods fills its own share.
pub const HANDSHAKES_DEFERRED_PER_SESSION: u8 = 16;

/// Datagrams with application data of one session handled in one turn. Beyond it they are dropped, and SCTP sends more slowly.
pub const DATA_PER_SESSION: u16 = 128;

/// Events of one session's data channels reported at a time; what is left waits for the other sessions' turns.
pub const DATA_EVENTS: usize = 32;

/// Reports in the backlog beyond which no more data messages are read: the other half is for all other reports.
pub const DATA_REPORTS: usize = REPORTS / 2;

/// Bytes of data messages in the backlog beyond which no more are read; by one message at most it is passed.
pub const DATA_BYTES: usize = 8 << 20;

/// Commands handled in one turn.
pub const COMMANDS: usize = 64;

/// Commands that may wait in the mailbox.
pub const MAILBOX: usize = 4_096;

/// Reports that may wait for control to take them. Beyond it they are lost and counted; control compares snapshots.
pub const REPORTS: usize = 16_384;

/// Outgoing datagrams of one turn; the egress is flushed on the way when three quarters are taken.
pub const EGRESS_DATAGRAMS: usize = 16_384;

/// Bytes of outgoing datagrams of one turn.
pub const EGRESS_BYTES: usize = 24 << 20;
