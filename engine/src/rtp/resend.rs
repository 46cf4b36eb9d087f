//! How much one leg may have sent again.

use std::time::Duration;

use crate::clock::Instant;
use crate::ids::ExtSeqNum;

/// Bounds the retransmissions of one leg: a subscriber who asks for everything, again and again,
/// must not multiply the traffic.
///
/// Two bounds: one packet leaves at most once in about a round trip, and over any time the bytes
/// sent again stay below half of those sent plus [`FLOOR_BYTES`]. What a quiet subscriber did not
/// use is saved up to that, or to half of the last second where that is more.
#[derive(Clone, Debug)]
pub struct ResendLimiter {
    /// Made with the first packet that is asked for: most legs lose none.
    recent: Option<Box<[Resent; RECENT_PACKETS]>>,
    sent: ByteWindow,
    /// Bytes that may be sent again.
    credit: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Resent {
    index: u64,
    at: Option<Instant>,
}

/// The shortest time between two retransmissions of a packet, and the one while the round trip is
/// not known.
pub const GAP_MIN: Duration = Duration::from_millis(30);

/// Bytes that may be sent again whatever was sent: a key frame lost at the start of a leg.
pub const FLOOR_BYTES: u64 = 64 * 1024;

/// Packets remembered for [`GAP_MIN`]. When two that are this far apart are asked for, only the
/// later ask is remembered; the bytes stay bounded all the same.
const RECENT_PACKETS: usize = 64;

const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 10;

impl Default for ResendLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl ResendLimiter {
    /// Makes the limiter of a leg to which nothing was sent yet.
    pub fn new() -> Self {
        Self { recent: None, sent: ByteWindow::new(), credit: FLOOR_BYTES, refused: 0 }
    }

    /// Takes note that a packet of `bytes` bytes left on the leg for the first time.
    pub fn on_sent(&mut self, now: Instant, bytes: usize) {
        self.sent.add(now, bytes);
        let credit_max = FLOOR_BYTES.max(self.sent.sum / 2);
        self.credit = (self.credit + bytes as u64 / 2).min(credit_max);
    }

    /// Whether the leg's packet `index` of `bytes` bytes may be sent again at `now`; counts it as
    /// sent again if so.
    ///
    /// `rtt` is the round trip to the subscriber, if known. A receiver repeats a NACK after about a
    /// round trip; three quarters of one leave room for its variation.
    pub fn allow(
        &mut self,
        now: Instant,
        index: ExtSeqNum,
        bytes: usize,
        rtt: Option<Duration>,
    ) -> bool {
        let gap = rtt.map_or(GAP_MIN, |rtt| (rtt - rtt / 4).max(GAP_MIN));
        let recent =
            self.recent.get_or_insert_with(|| Box::new([Resent::default(); RECENT_PACKETS]));
        let entry = &mut recent[index.0 as usize % RECENT_PACKETS];
        let is_repeat =
            entry.index == index.0 && entry.at.is_some_and(|before| now.since(before) < gap);
        let Some(credit) = self.credit.checked_sub(bytes as u64).filter(|_| !is_repeat) else {
            self.refused += 1;
            return false;
        };
        *entry = Resent { index: index.0, at: Some(now) };
        self.credit = credit;
        true
    }

    /// How many retransmissions were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Bytes over the last second, the current and possibly incomplete bucket included.
#[derive(Clone, Debug)]
struct ByteWindow {
    buckets: [u64; BUCKETS],
    /// Of all buckets.
    sum: u64,
    newest: u64,
}

impl ByteWindow {
    fn new() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0, newest: 0 }
    }

    fn add(&mut self, now: Instant, bytes: usize) {
        let bucket = now.as_nanos() / BUCKET.as_nanos() as u64;
        // Empties the buckets between the last call and this one.
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS as u64);
        for n in 1..=passed {
            let emptied = &mut self.buckets[((bucket - passed + n) % BUCKETS as u64) as usize];
            self.sum -= std::mem::take(emptied);
        }
        self.newest = self.newest.max(bucket);
        self.buckets[(self.newest % BUCKETS as u64) as usize] += bytes as u64;
        self.sum += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn a_packet_leaves_once_in_about_a_round_trip() {
        for (rtt, gap) in [(None, 30), (Some(8), 30), (Some(200), 150)] {
            let rtt = rtt.map(Duration::from_millis);
            let mut limiter = ResendLimiter::new();
            let mut allow = |millis, index| limiter.allow(at(millis), ExtSeqNum(index), 100, rtt);
            assert!(allow(1_000, 7));
            assert!(!allow(1_000 + gap - 1, 7), "{rtt:?}");
            assert!(allow(1_000 + gap - 1, 8), "another packet");
            assert!(allow(1_000 + gap, 7), "{rtt:?}");
            assert_eq!(limiter.refused(), 1);
        }
    }

    #[test]
    fn the_first_packet_of_all_may_be_sent_again() {
        assert!(ResendLimiter::new().allow(at(0), ExtSeqNum(0), 1, None));
    }

    #[test]
    fn without_traffic_the_floor_is_all_there_is() {
        let mut limiter = ResendLimiter::new();
        let allowed =
            (0..1_000).filter(|&n| limiter.allow(at(n / 10), ExtSeqNum(n), 1_024, None)).count();
        assert_eq!(allowed, 64);
        assert!(!limiter.allow(at(60_000), ExtSeqNum(5_000), 1_024, None), "a minute later");
    }

    #[test]
    fn half_of_the_traffic_may_be_sent_again_and_a_second_of_it_is_saved() {
        let mut limiter = ResendLimiter::new();
        for n in 0..1_000 {
            limiter.on_sent(at(n * 5), 1_024);
        }
        let allowed = |limiter: &mut ResendLimiter, millis, from: u64| {
            (from..from + 1_000)
                .filter(|&n| limiter.allow(at(millis), ExtSeqNum(n), 1_024, None))
                .count()
        };
        assert_eq!(allowed(&mut limiter, 5_000, 0), 100, "half of the last second's 200");
        assert_eq!(allowed(&mut limiter, 6_000, 10_000), 0);
        limiter.on_sent(at(6_000), 40 * 1_024);
        assert_eq!(allowed(&mut limiter, 6_000, 20_000), 20);
    }

    #[test]
    fn a_storm_stays_within_budget_over_all_time() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut limiter = ResendLimiter::new();
            let (mut sent, mut resent) = (0, 0);
            let mut millis = rng.u64(0..10_000);
            for n in 0..20_000u64 {
                millis += u64::from(rng.u8(0..8) == 0) * rng.u64(0..12);
                if rng.u8(0..100) == 0 {
                    millis += rng.u64(0..3_000);
                }
                let bytes = rng.usize(50..1_200);
                if rng.bool() {
                    limiter.on_sent(at(millis), bytes);
                    sent += bytes as u64;
                } else if limiter.allow(at(millis), ExtSeqNum(n), bytes, None) {
                    resent += bytes as u64;
                    assert!(resent <= FLOOR_BYTES + sent / 2, "seed {seed} at {millis} ms");
                }
            }
            assert!(limiter.refused() > 0, "seed {seed}: the budget was never reached");
        }
    }
}
