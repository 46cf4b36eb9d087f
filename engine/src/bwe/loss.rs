//! The loss-based part of the send-side estimate. Source: draft-ietf-rmcat-gcc-02 §6.

use std::time::Duration;

use super::Bounds;
use crate::clock::Instant;

/// What the share of lost packets allows: more while next to nothing is lost, less when much is.
#[derive(Clone, Debug)]
pub struct LossBased {
    bounds: Bounds,
    target_bps: f64,
    since: Option<Instant>,
    arrived: u32,
    lost: u32,
}

/// How long packets are counted for one decision.
const INTERVAL: Duration = Duration::from_millis(200);

/// Fewer packets than these say little: they are counted on, up to [`INTERVAL_MAX`].
const PACKETS_MIN: u32 = 20;

/// The longest that packets are counted for one decision.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Below this share the estimate grows.
const LOSS_LOW: f64 = 0.02;

/// Above this share it shrinks.
const LOSS_HIGH: f64 = 0.10;

/// Growth per decision.
const GROWTH: f64 = 1.05;

impl LossBased {
    /// Makes the part, which begins with the initial estimate.
    pub fn new(bounds: Bounds) -> Self {
        let target_bps = bounds.initial_bps;
        Self { bounds, target_bps, since: None, arrived: 0, lost: 0 }
    }

    /// Takes note of what one feedback says.
    pub fn on_feedback(&mut self, now: Instant, arrived: u32, lost: u32) {
        let since = *self.since.get_or_insert(now);
        self.arrived += arrived;
        self.lost += lost;
        let packets = self.arrived + self.lost;
        let elapsed = now.since(since);
        let is_enough = elapsed >= INTERVAL && packets >= PACKETS_MIN;
        if packets == 0 || !(is_enough || elapsed >= INTERVAL_MAX) {
            return;
        }
        let share = f64::from(self.lost) / f64::from(packets);
        let factor = match share {
            ..LOSS_LOW => GROWTH,
            LOSS_HIGH.. => 1.0 - 0.5 * share,
            _ => 1.0,
        };
        self.set_target(self.target_bps * factor);
        (self.since, self.arrived, self.lost) = (Some(now), 0, 0);
    }

    /// Goes on from another estimate.
    pub fn set_target(&mut self, bps: f64) {
        self.target_bps = self.bounds.clamp(bps);
    }

    /// The estimate in bits per second.
    pub fn target_bps(&self) -> f64 {
        self.target_bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { initial_bps: 1_000_000.0, min_bps: 250_000.0, max_bps: 3_750_000.0 };

    /// The estimate after one second of 50 packets each 100 ms, of which `lost` are lost.
    fn after_a_second(lost: u32) -> f64 {
        let mut part = LossBased::new(BOUNDS);
        for n in 0..=10 {
            let now = Instant::from_start(Duration::from_millis(n * 100));
            part.on_feedback(now, 50 - lost, lost);
        }
        part.target_bps()
    }

    #[test]
    fn it_grows_below_two_percent_holds_below_ten_and_shrinks_above() {
        // Five decisions of two feedbacks each; the first one covers three.
        let grown = 1_000_000.0 * 1.05_f64.powi(5);
        let cases = [(0, grown), (1, 1_000_000.0), (5, 1_000_000.0 * 0.95_f64.powi(5))];
        for (lost, expected) in cases {
            assert!((after_a_second(lost) - expected).abs() < 1.0, "{lost} of 50 lost");
        }
        assert_eq!(after_a_second(50), 250_000.0, "never below the least");
    }

    #[test]
    fn few_packets_are_judged_after_a_second() {
        let mut part = LossBased::new(BOUNDS);
        for n in 0..10 {
            part.on_feedback(Instant::from_start(Duration::from_millis(n * 100)), 0, 1);
            assert_eq!(part.target_bps(), 1_000_000.0, "after {n} packets");
        }
        part.on_feedback(Instant::from_start(Duration::from_secs(1)), 0, 1);
        assert_eq!(part.target_bps(), 500_000.0);
    }

    #[test]
    fn feedback_about_nothing_changes_nothing() {
        let mut part = LossBased::new(BOUNDS);
        for n in 0..100 {
            part.on_feedback(Instant::from_start(Duration::from_secs(n)), 0, 0);
        }
        assert_eq!(part.target_bps(), 1_000_000.0);
    }

    #[test]
    fn a_set_target_stays_within_bounds() {
        let mut part = LossBased::new(BOUNDS);
        for (set, expected) in [(9e9, 3_750_000.0), (1.0, 250_000.0), (2e6, 2e6)] {
            part.set_target(set);
            assert_eq!(part.target_bps(), expected);
        }
    }
}
