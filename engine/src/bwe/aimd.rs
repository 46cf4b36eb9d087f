//! How the delay-based estimate moves: multiplicatively while the capacity is unknown, additively near it, back when the path is
//! over-used. Source: draft-ietf-rmcat-gcc-02 §5.5.

use std::time::Duration;

use super::Bounds;
use super::delay::Usage;
use crate::clock::Instant;

/// The rate control of the delay-based part.
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    target_bps: f64,
    state: State,
    capacity: Option<Capacity>,
    updated_at: Option<Instant>,
    decreased_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Hold,
    Increase,
}

/// What arrived when the path was last over-used: its capacity, more or less.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    mean_bps: f64,
    /// Mean square deviation, as a share of the mean.
    variance: f64,
}

/// What over-use leaves of the rate that arrived.
const DECREASE: f64 = 0.85;

/// Growth per second far from the capacity.
const GROWTH_PER_SECOND: f64 = 1.08;

/// An estimate is not grown beyond this much of what arrives: more was not tried.
const AHEAD_MAX: f64 = 1.5;

/// The same for rates near zero.
const AHEAD_MIN_BPS: f64 = 10_000.0;

/// The least growth per second near the capacity.
const ADDITIVE_MIN_BPS: f64 = 4_000.0;

/// Bits of a packet on which additive growth is based.
const PACKET_BITS: f64 = 1_200.0 * 8.0;

/// The round trip while it is not known.
const RTT_UNKNOWN: Duration = Duration::from_millis(200);

/// What growth takes to show, beyond the round trip.
const RESPONSE_EXTRA: Duration = Duration::from_millis(100);

/// Weight of a new sample of the capacity.
const CAPACITY_WEIGHT: f64 = 0.05;

impl Aimd {
    /// Makes the control, which begins with the initial estimate.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            target_bps: bounds.initial_bps,
            state: State::Increase,
            capacity: None,
            updated_at: None,
            decreased_at: None,
        }
    }

    /// Moves the estimate by what the detector says; `arrived_bps` is the rate that arrives, once it is known.
    pub fn update(
        &mut self,
        now: Instant,
        usage: Usage,
        arrived_bps: Option<f64>,
        rtt: Option<Duration>,
    ) {
        let rtt = rtt.unwrap_or(RTT_UNKNOWN);
        let elapsed = now.since(*self.updated_at.get_or_insert(now)).min(Duration::from_secs(1));
        self.updated_at = Some(now);
        match usage {
            // Queues drain: more now would keep them full.
            Usage::Under => self.state = State::Hold,
            Usage::Over => self.decrease(now, arrived_bps, rtt),
            Usage::Normal if self.state == State::Hold => self.state = State::Increase,
            Usage::Normal => self.increase(elapsed, arrived_bps, rtt),
        }
    }

    fn decrease(&mut self, now: Instant, arrived_bps: Option<f64>, rtt: Duration) {
        self.state = State::Hold;
        let arrived = arrived_bps.unwrap_or(self.target_bps);
        let pause = rtt.clamp(Duration::from_millis(10), Duration::from_millis(200));
        let is_soon = self.decreased_at.is_some_and(|before| now.since(before) < pause);
        if is_soon && arrived > self.target_bps / 2.0 {
            return; // the last decrease has not shown yet
        }
        self.decreased_at = Some(now);
        self.learn_capacity(arrived);
        self.set_target(self.target_bps.min(arrived * DECREASE));
    }

    fn increase(&mut self, elapsed: Duration, arrived_bps: Option<f64>, rtt: Duration) {
        if self.capacity.is_some_and(|c| arrived_bps.is_some_and(|bps| bps > c.upper_bps())) {
            self.capacity = None; // the path has become wider
        }
        let seconds = elapsed.as_secs_f64();
        let grown = match self.capacity {
            Some(_) => {
                let response = (rtt + RESPONSE_EXTRA).as_secs_f64();
                self.target_bps + (PACKET_BITS / response).max(ADDITIVE_MIN_BPS) * seconds
            }
            None => self.target_bps * GROWTH_PER_SECOND.powf(seconds),
        };
        let most = arrived_bps.map_or(f64::INFINITY, |bps| AHEAD_MAX * bps + AHEAD_MIN_BPS);
        // What was set from outside may be ahead of what arrives; it is not taken back for that.
        self.set_target(self.target_bps.max(grown.min(most)));
    }

    fn learn_capacity(&mut self, arrived: f64) {
        let known = self.capacity.filter(|c| arrived > c.lower_bps());
        let Some(Capacity { mean_bps, variance }) = known else {
            self.capacity = Some(Capacity { mean_bps: arrived, variance: 0.01 });
            return;
        };
        let mean_bps = mean_bps + CAPACITY_WEIGHT * (arrived - mean_bps);
        let deviation = (arrived - mean_bps) / mean_bps.max(1.0);
        let variance = (1.0 - CAPACITY_WEIGHT) * variance + CAPACITY_WEIGHT * deviation * deviation;
        self.capacity = Some(Capacity { mean_bps, variance: variance.clamp(0.0004, 0.01) });
    }

    /// Goes on from another estimate; what is known of the capacity no longer holds.
    pub fn restart_at(&mut self, bps: f64) {
        self.capacity = None;
        self.state = State::Hold;
        self.set_target(bps);
    }

    fn set_target(&mut self, bps: f64) {
        self.target_bps = self.bounds.clamp(bps);
    }

    /// The estimate in bits per second.
    pub fn target_bps(&self) -> f64 {
        self.target_bps
    }
}

impl Capacity {
    fn three_deviations(self) -> f64 {
        3.0 * self.variance.sqrt() * self.mean_bps
    }

    fn upper_bps(self) -> f64 {
        self.mean_bps + self.three_deviations()
    }

    fn lower_bps(self) -> f64 {
        self.mean_bps - self.three_deviations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { initial_bps: 1e6, min_bps: 250_000.0, max_bps: 3_750_000.0 };

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn run(aimd: &mut Aimd, from_ms: u64, usage: Usage, arrived_bps: Option<f64>) {
        for n in 0..=10 {
            aimd.update(at(from_ms + n * 100), usage, arrived_bps, Some(Duration::from_millis(50)));
        }
    }

    #[test]
    fn far_from_the_capacity_it_grows_by_eight_percent_a_second() {
        let mut aimd = Aimd::new(BOUNDS);
        run(&mut aimd, 0, Usage::Normal, Some(1e6));
        assert!((aimd.target_bps() - 1.08e6).abs() < 1.0, "{}", aimd.target_bps());
    }

    #[test]
    fn it_does_not_run_ahead_of_what_arrives() {
        let mut aimd = Aimd::new(BOUNDS);
        for second in 0..100 {
            run(&mut aimd, second * 1_000, Usage::Normal, Some(800_000.0));
        }
        assert_eq!(aimd.target_bps(), 1_210_000.0);
        run(&mut aimd, 100_000, Usage::Normal, Some(100_000.0));
        assert_eq!(aimd.target_bps(), 1_210_000.0, "and is not taken back either");
    }

    #[test]
    fn over_use_leaves_most_of_what_arrived_and_growth_is_slow_after_it() {
        let mut aimd = Aimd::new(BOUNDS);
        aimd.update(at(0), Usage::Over, Some(800_000.0), None);
        assert_eq!(aimd.target_bps(), 680_000.0);
        aimd.update(at(100), Usage::Over, Some(760_000.0), None);
        assert_eq!(aimd.target_bps(), 680_000.0, "the first has not shown yet");
        aimd.update(at(200), Usage::Over, Some(760_000.0), None);
        assert_eq!(aimd.target_bps(), 646_000.0);
        aimd.update(at(300), Usage::Normal, Some(646_000.0), None);
        run(&mut aimd, 300, Usage::Normal, Some(646_000.0));
        let grown = aimd.target_bps() - 646_000.0;
        // 9600 bits each 150 ms.
        assert!((63_000.0..65_000.0).contains(&grown), "{grown}");
        run(&mut aimd, 1_300, Usage::Normal, Some(1.5e6));
        assert!(aimd.target_bps() > 1.07 * 710_000.0, "a wider path: {}", aimd.target_bps());
    }

    #[test]
    fn under_use_holds() {
        let mut aimd = Aimd::new(BOUNDS);
        run(&mut aimd, 0, Usage::Under, Some(3e6));
        assert_eq!(aimd.target_bps(), 1e6);
    }

    #[test]
    fn a_set_target_is_gone_on_from() {
        let mut aimd = Aimd::new(BOUNDS);
        aimd.restart_at(2.5e6);
        run(&mut aimd, 0, Usage::Normal, Some(500_000.0));
        assert_eq!(aimd.target_bps(), 2.5e6);
        aimd.update(at(1_100), Usage::Over, Some(600_000.0), None);
        assert_eq!(aimd.target_bps(), 510_000.0);
        aimd.restart_at(f64::MAX);
        assert_eq!(aimd.target_bps(), 3_750_000.0);
    }
}
