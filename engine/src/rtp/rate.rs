//! How much one source sends.

use std::time::Duration;

use crate::clock::Instant;

/// The rate of a stream over its newest window.
///
/// Bytes are kept in a number of equal parts of the window and the one that is filling; the rate is that of the whole ones, so that
/// it is neither of more nor of less time than the window. It has no value until the samples span twice the window, and starts
/// anew after a pause longer than the window.
#[derive(Clone, Debug)]
pub struct RateMonitor {
    bucket_nanos: u64,
    bytes: [u32; BUCKETS + 1],
    /// The bucket that is filling, counted from the start of the clock.
    newest: u64,
    /// The bucket of the first sample.
    first: Option<u64>,
}

/// Parts of a window.
const BUCKETS: usize = 20;

/// Buckets that are kept: the window's and the one that is filling.
const KEPT: u64 = BUCKETS as u64 + 1;

impl RateMonitor {
    /// Makes the monitor of a stream that sent nothing yet.
    ///
    /// # Panics
    /// When `window` is below 20 ns.
    pub fn new(window: Duration) -> Self {
        let bucket_nanos = window.as_nanos() as u64 / BUCKETS as u64;
        assert!(bucket_nanos > 0, "a window of {window:?} cannot be measured");
        Self { bucket_nanos, bytes: [0; BUCKETS + 1], newest: 0, first: None }
    }

    /// Takes note of `bytes` at `now`. A sample older than the newest counts as of that one.
    pub fn on_packet(&mut self, now: Instant, bytes: usize) {
        let bucket = (now.as_nanos() / self.bucket_nanos).max(self.newest);
        let passed = bucket - self.newest;
        if self.first.is_none() || passed >= KEPT {
            self.bytes = [0; BUCKETS + 1];
            self.first = Some(bucket);
        } else {
            for skipped in self.newest + 1..=bucket {
                self.bytes[(skipped % KEPT) as usize] = 0;
            }
        }
        self.newest = bucket;
        let filling = &mut self.bytes[(bucket % KEPT) as usize];
        *filling = filling.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Bits per second over the window that ends with the newest sample; `None` until samples span twice the window.
    pub fn bps(&self) -> Option<u64> {
        if self.newest - self.first? < 2 * BUCKETS as u64 {
            return None;
        }
        let filling = (self.newest % KEPT) as usize;
        let bytes: u64 = self.bytes.iter().map(|&bytes| u64::from(bytes)).sum();
        let whole = bytes - u64::from(self.bytes[filling]);
        let window_nanos = self.bucket_nanos * BUCKETS as u64;
        Some((u128::from(whole * 8) * 1_000_000_000 / u128::from(window_nanos)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn monitor(window_ms: u64) -> RateMonitor {
        RateMonitor::new(Duration::from_millis(window_ms))
    }

    #[test]
    fn a_thousand_bytes_each_100_ms_are_80_000_bps() {
        for phase in [0, 1, 33, 99] {
            let mut rate = monitor(1_000);
            for n in 0..100 {
                rate.on_packet(at(7_000 + phase + n * 100), 1_000);
                let expected = (n >= 20).then_some(80_000);
                assert_eq!(rate.bps(), expected, "packet {n}, phase {phase}");
            }
        }
    }

    #[test]
    fn the_value_is_of_the_newest_window_alone() {
        let mut rate = monitor(2_000);
        for n in 0..1_000 {
            let bytes = if n < 500 { 100 } else { 300 };
            rate.on_packet(at(n * 10), bytes);
        }
        assert_eq!(rate.bps(), Some(240_000));
    }

    #[test]
    fn after_a_pause_it_starts_anew() {
        let mut rate = monitor(1_000);
        let feed = |rate: &mut RateMonitor, from: u64| {
            (0..=40).for_each(|n| rate.on_packet(at(from + n * 50), 500));
        };
        assert_eq!(rate.bps(), None);
        feed(&mut rate, 0);
        assert_eq!(rate.bps(), Some(80_000));
        rate.on_packet(at(60_000), 500);
        assert_eq!(rate.bps(), None, "one packet after a minute");
        feed(&mut rate, 60_000);
        assert_eq!(rate.bps(), Some(80_000));
    }

    #[test]
    fn a_clock_that_goes_back_and_huge_packets_do_no_harm() {
        let mut rate = monitor(100);
        for n in 0..100 {
            rate.on_packet(at(1_000 + n * 5), usize::MAX);
        }
        rate.on_packet(at(3), usize::MAX);
        let full = u64::from(u32::MAX) * 8 * 20 * 10;
        assert_eq!(rate.bps(), Some(full));
    }
}
