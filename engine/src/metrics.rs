//! Plain counters of a shard: written by its thread alone, read as a copy.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a shard counts. All fields only grow.
        #[derive(Clone, Debug, Default)]
        pub struct ShardCounters { $($(#[doc = $doc])* pub $name: u64,)* }

        impl ShardCounters {
            /// Every counter as (name, help, value), for whoever renders them.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Turns of the shard's loop
    turns,
    /// Microseconds that turns took, sleeping excluded
    busy_us,
    /// Datagrams received
    datagrams_in,
    /// Bytes of datagrams received
    datagram_bytes_in,
    /// Datagrams handed to the kernel
    datagrams_out,
    /// Bytes of datagrams handed to the kernel
    datagram_bytes_out,
    /// Send calls, or runs of datagrams that one call carried
    runs_out,
    /// Datagrams handed to the shard that owns them
    steered_out,
    /// Datagrams taken over from other shards
    steered_in,
    /// STUN checks answered
    stun_checks,
    /// RTP packets received and accepted
    rtp_packets_in,
    /// Bytes of accepted RTP packets, SRTP overhead excluded
    rtp_bytes_in,
    /// RTP packets sent to subscribers, retransmissions included
    rtp_packets_out,
    /// Bytes of RTP packets sent to subscribers, SRTP overhead excluded
    rtp_bytes_out,
    /// Packets resent to subscribers
    rtx_out,
    /// Packets recovered from publishers by retransmission
    rtx_in,
    /// Packets that subscribers asked for and the history no longer held
    rtx_missed,
    /// Packets asked of publishers
    nacks_out,
    /// Packets that subscribers asked for
    nacks_in,
    /// Key frame requests from subscribers
    keyframe_requests_in,
    /// Key frame requests sent to publishers
    keyframe_requests_out,
    /// RTCP packets received and accepted
    rtcp_packets_in,
    /// RTCP packets sent
    rtcp_packets_out,
    /// Transport-cc feedback packets sent
    transport_cc_out,
    /// Transport-cc feedback packets received and used
    transport_cc_in,
    /// Packets that transport-cc feedback told of when they were no longer remembered
    transport_cc_missed,
    /// Legs that went from one simulcast layer to another
    layer_switches,
    /// Sessions created
    sessions_created,
    /// Sessions that finished their handshake
    sessions_connected,
    /// Sessions that ended
    sessions_closed,
    /// Sessions that ended for an error
    sessions_failed,
    /// Handshake datagrams put off to a later turn
    handshakes_deferred,
    /// Reports that could not be delivered
    reports_lost,
    /// Panics caught
    panics,
}
