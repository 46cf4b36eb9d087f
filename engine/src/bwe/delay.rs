//! The delay-based part of the send-side estimate: do queues grow on the path? Source: draft-ietf-rmcat-gcc-02 §5, with a trend
//! line over the delay variations as the arrival-time filter.

use std::time::Duration;

use super::Bounds;
use super::aimd::Aimd;
use crate::clock::Instant;

/// What delay allows.
#[derive(Clone, Debug)]
pub struct DelayBased {
    groups: Groups,
    trend: TrendLine,
    detector: Detector,
    rate: Aimd,
}

/// How the path is used. Source: §5.4 of the draft.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Delay stays as it is.
    Normal,
    /// Delay grows: queues fill.
    Over,
    /// Delay shrinks: queues drain.
    Under,
}

impl DelayBased {
    /// Makes the part, which begins with the initial estimate.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            groups: Groups::default(),
            trend: TrendLine::default(),
            detector: Detector::new(),
            rate: Aimd::new(bounds),
        }
    }

    /// Takes note of a packet: when it left on our clock, and when it arrived on the peer's, in microseconds.
    pub fn on_packet(&mut self, sent: Instant, arrived_us: i64) {
        let sent_us = sent.as_micros() as i64;
        match self.groups.on_packet(sent_us, arrived_us) {
            Step::None => {}
            Step::Restart => self.trend = TrendLine::default(),
            Step::Variation(variation) => {
                let arrived_ms = millis(arrived_us);
                let trend = self.trend.on_variation(arrived_ms, millis(variation.delay_us));
                self.detector.detect(trend, arrived_ms, millis(variation.sent_us));
            }
        }
    }

    /// Moves the estimate, after the packets of one feedback.
    pub fn update(&mut self, now: Instant, arrived_bps: Option<f64>, rtt: Option<Duration>) {
        self.rate.update(now, self.detector.usage, arrived_bps, rtt);
    }

    /// Goes on from another estimate.
    pub fn restart_at(&mut self, bps: f64) {
        self.rate.restart_at(bps);
    }

    /// The estimate in bits per second.
    pub fn target_bps(&self) -> f64 {
        self.rate.target_bps()
    }
}

fn millis(us: i64) -> f64 {
    us as f64 / 1_000.0
}

/// Packets sent in one burst count as one sample. Source: §5.2 of the draft.
#[derive(Clone, Debug, Default)]
struct Groups {
    previous: Option<Group>,
    current: Option<Group>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent_us: i64,
    last_sent_us: i64,
    last_arrived_us: i64,
}

enum Step {
    /// No group was completed.
    None,
    /// The clocks jumped, or there was a pause: what was known does not compare.
    Restart,
    Variation(Variation),
}

/// The difference of two groups.
struct Variation {
    sent_us: i64,
    /// How much longer the later one was on its way.
    delay_us: i64,
}

/// What leaves within this time of a group's first packet belongs to it.
const BURST_US: i64 = 5_000;

/// Groups further apart than this are not compared.
const PAUSE_US: i64 = 3_000_000;

impl Groups {
    fn on_packet(&mut self, sent_us: i64, arrived_us: i64) -> Step {
        let fresh =
            Group { first_sent_us: sent_us, last_sent_us: sent_us, last_arrived_us: arrived_us };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return Step::None;
        };
        if sent_us < current.first_sent_us {
            return Step::None; // reordered: it belongs to a group that is done
        }
        if sent_us - current.first_sent_us <= BURST_US {
            current.last_sent_us = current.last_sent_us.max(sent_us);
            current.last_arrived_us = current.last_arrived_us.max(arrived_us);
            return Step::None;
        }
        let done = *current;
        self.current = Some(fresh);
        let Some(previous) = self.previous.replace(done) else { return Step::None };
        let sent = done.last_sent_us - previous.last_sent_us;
        let arrived = done.last_arrived_us - previous.last_arrived_us;
        if arrived < 0 || arrived.max(sent) > PAUSE_US {
            self.previous = None;
            return Step::Restart;
        }
        Step::Variation(Variation { sent_us: sent, delay_us: arrived - sent })
    }
}

/// The slope of the smoothed delay over the last groups.
#[derive(Clone, Debug, Default)]
struct TrendLine {
    points: [(f64, f64); TREND_POINTS],
    count: u32,
    start_ms: f64,
    delay_ms: f64,
    smoothed_ms: f64,
    slope: f64,
}

const TREND_POINTS: usize = 20;
const SMOOTHING: f64 = 0.9;

/// The slope counts for more the more samples it stands on, up to these.
const SAMPLES_MAX: u32 = 60;

/// Brings the slope to the scale of the detector's threshold.
const GAIN: f64 = 4.0;

impl TrendLine {
    /// Takes note of a delay variation; returns the trend in the units of the detector.
    fn on_variation(&mut self, arrived_ms: f64, variation_ms: f64) -> f64 {
        if self.count == 0 {
            self.start_ms = arrived_ms;
        }
        self.delay_ms += variation_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        let place = self.count as usize % TREND_POINTS;
        self.points[place] = (arrived_ms - self.start_ms, self.smoothed_ms);
        self.count = self.count.saturating_add(1);
        if self.count as usize >= TREND_POINTS {
            self.slope = self.fit().unwrap_or(self.slope);
        }
        f64::from(self.count.min(SAMPLES_MAX)) * self.slope * GAIN
    }

    /// Least squares over the points; `None` when they all arrived at once.
    fn fit(&self) -> Option<f64> {
        let count = TREND_POINTS as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| self.points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (sum(|point| point.0), sum(|point| point.1));
        let deviations = self.points.iter().map(|(x, y)| (x - mean_x, y - mean_y));
        let (above, below) =
            deviations.fold((0.0, 0.0), |(above, below), (x, y)| (above + x * y, below + x * x));
        (below > 0.0).then(|| above / below)
    }
}

/// Compares the trend with a threshold that follows it. Source: §5.4 of the draft.
#[derive(Clone, Debug)]
struct Detector {
    usage: Usage,
    threshold_ms: f64,
    updated_ms: Option<f64>,
    previous_trend: f64,
    over_ms: f64,
    over_count: u32,
}

const THRESHOLD_START_MS: f64 = 12.5;
const THRESHOLD_MIN_MS: f64 = 6.0;
const THRESHOLD_MAX_MS: f64 = 600.0;

/// How fast the threshold rises and falls, per millisecond. Source: §5.4 of the draft, K_u and K_d.
const RISE: f64 = 0.01;
const FALL: f64 = 0.000_18;

/// A trend so far beyond the threshold is a spike, which the threshold does not follow.
const SPIKE_MS: f64 = 15.0;

/// How long the trend must be above the threshold. Source: §5.4 of the draft, overuse_time_th.
const OVER_TIME_MS: f64 = 10.0;

impl Detector {
    fn new() -> Self {
        Self {
            usage: Usage::Normal,
            threshold_ms: THRESHOLD_START_MS,
            updated_ms: None,
            previous_trend: 0.0,
            over_ms: 0.0,
            over_count: 0,
        }
    }

    fn detect(&mut self, trend: f64, now_ms: f64, elapsed_ms: f64) {
        if trend > self.threshold_ms {
            // Of the first group beyond it, half the time is counted: it crossed somewhere in between.
            self.over_ms += if self.over_count == 0 { elapsed_ms / 2.0 } else { elapsed_ms };
            self.over_count += 1;
            let lasts = self.over_ms > OVER_TIME_MS && self.over_count > 1;
            if lasts && trend >= self.previous_trend {
                self.usage = Usage::Over;
                (self.over_ms, self.over_count) = (0.0, 0);
            }
        } else {
            let is_under = trend < -self.threshold_ms;
            self.usage = if is_under { Usage::Under } else { Usage::Normal };
            (self.over_ms, self.over_count) = (0.0, 0);
        }
        self.previous_trend = trend;
        self.adapt(trend, now_ms);
    }

    fn adapt(&mut self, trend: f64, now_ms: f64) {
        let elapsed_ms = (now_ms - self.updated_ms.unwrap_or(now_ms)).clamp(0.0, 100.0);
        self.updated_ms = Some(now_ms);
        let beyond = trend.abs() - self.threshold_ms;
        if beyond > SPIKE_MS {
            return;
        }
        let speed = if beyond < 0.0 { FALL } else { RISE };
        let threshold = self.threshold_ms + speed * beyond * elapsed_ms;
        self.threshold_ms = threshold.clamp(THRESHOLD_MIN_MS, THRESHOLD_MAX_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { initial_bps: 1e6, min_bps: 250_000.0, max_bps: 3_750_000.0 };

    /// Sends a packet each 10 ms for `count` packets, the delay growing by `growth_us` with each; returns the usage at the end.
    fn usage_after(part: &mut DelayBased, from: u64, count: u64, growth_us: i64) -> Usage {
        for n in from..from + count {
            let sent = Instant::from_start(Duration::from_millis(n * 10));
            let on_the_way = 30_000 + growth_us * (n - from) as i64;
            part.on_packet(sent, 5_000_000 + n as i64 * 10_000 + on_the_way);
        }
        part.detector.usage
    }

    #[test]
    fn a_steady_delay_is_normal_use() {
        let mut part = DelayBased::new(BOUNDS);
        assert_eq!(usage_after(&mut part, 0, 500, 0), Usage::Normal);
    }

    #[test]
    fn a_growing_delay_is_over_use_and_a_shrinking_one_under_use() {
        let mut part = DelayBased::new(BOUNDS);
        usage_after(&mut part, 0, 100, 0);
        assert_eq!(usage_after(&mut part, 100, 40, 2_000), Usage::Over);
        let mut part = DelayBased::new(BOUNDS);
        usage_after(&mut part, 0, 100, 0);
        assert_eq!(usage_after(&mut part, 100, 40, -700), Usage::Under);
    }

    #[test]
    fn jitter_without_a_trend_is_normal_use() {
        let mut part = DelayBased::new(BOUNDS);
        let mut rng = fastrand::Rng::with_seed(4);
        let mut over = 0;
        for n in 0..5_000 {
            let sent = Instant::from_start(Duration::from_millis(n * 10));
            part.on_packet(sent, n as i64 * 10_000 + rng.i64(0..4_000));
            over += u32::from(part.detector.usage == Usage::Over);
        }
        assert!(over < 50, "{over} of 5000");
    }

    #[test]
    fn bursts_count_as_one_packet() {
        let mut part = DelayBased::new(BOUNDS);
        for n in 0..2_000_u64 {
            // Ten packets at once each 100 ms, which the bottleneck spreads by 2 ms each.
            let sent = Instant::from_start(Duration::from_millis(n / 10 * 100));
            part.on_packet(sent, (n / 10 * 100_000 + n % 10 * 2_000) as i64);
        }
        assert_eq!(part.detector.usage, Usage::Normal);
    }

    #[test]
    fn pauses_and_jumps_of_the_peers_clock_start_it_anew() {
        for jump_us in [-90_000_000, 90_000_000, i64::MIN / 4, i64::MAX / 4] {
            let mut part = DelayBased::new(BOUNDS);
            usage_after(&mut part, 0, 100, 0);
            for n in 100..300_u64 {
                let sent = Instant::from_start(Duration::from_millis(n * 10));
                part.on_packet(sent, 5_000_000 + n as i64 * 10_000 + jump_us);
            }
            assert_eq!(part.detector.usage, Usage::Normal, "{jump_us}");
        }
    }

    #[test]
    fn an_arrival_at_one_moment_has_no_slope() {
        let mut part = DelayBased::new(BOUNDS);
        for n in 0..100 {
            part.on_packet(Instant::from_start(Duration::from_millis(n * 10)), 7);
        }
        assert!(part.trend.slope.is_finite() && part.detector.threshold_ms.is_finite());
    }
}
