//! Plain counters of a shard: written by its thread alone, read as a copy.

use std::time::Duration;

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
    /// Waits for something to arrive or to be due
    wakes,
    /// Microseconds that waits let datagrams lie at most for others to join them, summed over all waits
    collect_window_us,
    /// Datagrams received
    datagrams_in,
    /// Bytes of datagrams received
    datagram_bytes_in,
    /// Datagrams that the kernel dropped since a media socket's receive buffer was full
    receive_drops,
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
    /// Packets of tracks handed to other shards for their subscribers, once for each such shard
    relayed_out,
    /// Packets of tracks taken over from their home shards for the subscribers here
    relayed_in,
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
    /// RTP packets of muted tracks: received and not forwarded
    rtp_packets_muted,
    /// RTP packets sent with padding, so that they are as long as others of their frame
    rtp_packets_padded,
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
    /// Data channels that peers opened
    data_channels_opened,
    /// Messages that came over data channels
    data_messages_in,
    /// Bytes of messages that came over data channels
    data_bytes_in,
    /// Messages sent over data channels
    data_messages_out,
    /// Bytes of messages sent over data channels
    data_bytes_out,
    /// SCTP associations that ended before their session did
    data_associations_lost,
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

/// What tracks of one kind carried. All fields only grow.
#[derive(Clone, Debug, Default)]
pub struct TrackTally {
    /// RTP packets received, those of muted tracks included.
    pub packets_in: u64,
    /// Their bytes: header and payload, SRTP overhead excluded.
    pub bytes_in: u64,
    /// RTP packets sent to subscribers, retransmissions excluded.
    pub packets_out: u64,
    /// Their bytes, likewise.
    pub bytes_out: u64,
    /// How long it took to write one packet for all its subscribers, sealed and ready to leave.
    pub forward_times: ForwardTimes,
}

impl TrackTally {
    /// Whether the time of one of the `packets` counted last is to be taken: one in [`FORWARDS_TIMED`], the first among them.
    pub fn times_one_of(&self, packets: usize) -> bool {
        let before = self.packets_in.saturating_sub(packets as u64);
        before.next_multiple_of(FORWARDS_TIMED) < self.packets_in
    }
}

/// Of how many packets one has its time taken. Reading the clock twice costs about as much as a tenth of a subscriber.
pub const FORWARDS_TIMED: u64 = 64;

/// Upper bounds of the buckets of [`ForwardTimes`] in seconds; one more bucket takes what is longer.
pub const FORWARD_TIME_BUCKETS_S: [f64; 20] = [
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.0075, 0.01, 0.025, 0.05,
    0.075, 0.1, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0,
];

/// A histogram of times.
#[derive(Clone, Debug, Default)]
pub struct ForwardTimes {
    /// Times in each bucket of [`FORWARD_TIME_BUCKETS_S`], and in the last all that are longer. Not cumulative.
    pub counts: [u64; FORWARD_TIME_BUCKETS_S.len() + 1],
    /// All times together.
    pub sum: Duration,
}

impl ForwardTimes {
    /// Counts one time.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = FORWARD_TIME_BUCKETS_S.iter().position(|&bound| seconds <= bound);
        self.counts[bucket.unwrap_or(FORWARD_TIME_BUCKETS_S.len())] += 1;
        self.sum += time;
    }

    /// Adds the times of `other`.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let mut times = ForwardTimes::default();
        for (micros, bucket) in
            [(0, 0), (10, 0), (11, 1), (1_000, 6), (1_001, 7), (999_999, 19), (1_000_001, 20)]
        {
            let before = times.counts[bucket];
            times.observe(Duration::from_micros(micros));
            assert_eq!(times.counts[bucket], before + 1, "{micros} µs");
        }
        let mut twice = times.clone();
        twice.add(&times);
        assert_eq!(twice.counts.iter().sum::<u64>(), 14);
        assert_eq!(twice.sum, 2 * times.sum);
    }

    #[test]
    fn the_first_packet_and_every_64th_after_it_are_timed() {
        let mut tally = TrackTally::default();
        let mut timed = Vec::new();
        for packet in 0..200 {
            tally.packets_in += 1;
            if tally.times_one_of(1) {
                timed.push(packet);
            }
        }
        assert_eq!(timed, [0, 64, 128, 192]);
        tally.packets_in = 66;
        assert!(tally.times_one_of(3), "packets 63 to 65");
        assert!(!tally.times_one_of(1), "packet 65");
    }
}
