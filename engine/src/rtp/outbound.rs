//! What one leg was sent, and what its subscriber says of it. Source: RFC 3550 §6.4.1.

use std::time::Duration;

/// Counters behind the sender reports of one outgoing SSRC, and the subscriber's last report block
/// about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboundStream {
    packets: u64,
    payload_bytes: u64,
    report: Option<ReceiverView>,
}

/// What the subscriber reported last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiverView {
    /// Share of packets lost in its last interval, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start; negative when duplicates outweigh losses.
    pub cumulative_lost: i32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Round trip: of this report, or of the last one that gave any.
    pub rtt: Option<Duration>,
}

impl OutboundStream {
    /// Makes the counters of a stream that was sent nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a packet with `payload_bytes` of payload: without header, extensions and padding, and
    /// without the SRTP tag.
    pub fn on_sent(&mut self, payload_bytes: usize) {
        self.packets += 1;
        self.payload_bytes += payload_bytes as u64;
    }

    /// Takes note of a report block about this stream; `rtt` as [`super::report::round_trip`] makes
    /// it of the same block.
    pub fn on_receiver_report(
        &mut self,
        fraction_lost: u8,
        cumulative_lost: i32,
        jitter: u32,
        rtt: Option<Duration>,
    ) {
        let rtt = rtt.or(self.rtt());
        self.report = Some(ReceiverView { fraction_lost, cumulative_lost, jitter, rtt });
    }

    /// Packets sent. A sender report carries the low 32 bits.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Octets of payload sent. A sender report carries the low 32 bits.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The subscriber's last report.
    pub fn last_report(&self) -> Option<ReceiverView> {
        self.report
    }

    /// The last round trip that a report gave.
    pub fn rtt(&self) -> Option<Duration> {
        self.report.and_then(|report| report.rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_payload_are_counted() {
        let mut stream = OutboundStream::new();
        for payload in [0, 1_200, 37] {
            stream.on_sent(payload);
        }
        assert_eq!((stream.packets(), stream.payload_bytes()), (3, 1_237));
        assert_eq!(stream.last_report(), None);
    }

    #[test]
    fn a_report_without_round_trip_keeps_the_one_before() {
        let mut stream = OutboundStream::new();
        stream.on_receiver_report(1, 2, 3, None);
        assert_eq!(stream.rtt(), None);
        let rtt = Some(Duration::from_millis(42));
        stream.on_receiver_report(3, 4, 5, rtt);
        stream.on_receiver_report(0, -1, 6, None);
        let expected = ReceiverView { fraction_lost: 0, cumulative_lost: -1, jitter: 6, rtt };
        assert_eq!(stream.last_report(), Some(expected));
    }
}
