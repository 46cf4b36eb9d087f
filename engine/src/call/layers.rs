//! Which simulcast layer a leg gets: the rules, as a function of estimates and rates. Layers are numbered from the lowest, 0.
//! Source: RFC 8853 §5.1 for what layers are; the rules are those of rtcd, `docs/decisions.md` names them.

use std::time::Duration;

use crate::bwe::estimator::Estimate;
use crate::clock::Instant;
use crate::config::LayerConfig;

/// Layers that one track may have.
pub const LAYERS_MAX: usize = 8;

/// The measured rate of each layer in bits per second; `None` where nothing comes or too little came yet.
pub type Rates = [Option<u64>; LAYERS_MAX];

/// Decides for one leg.
#[derive(Clone, Debug)]
pub struct LayerSelector {
    allowance: Allowance,
    /// Until when the leg goes no higher, after its first switch.
    quiet_until: Option<Instant>,
    /// How long the next quiet time is.
    back_off: Duration,
    previous: Option<Estimate>,
}

/// What a leg gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The layer that it is sent.
    pub current: u8,
    /// The layer that it waits for a key frame of; the same when it waits for none.
    pub target: u8,
}

/// The longest quiet time after a switch.
const BACK_OFF_MAX: Duration = Duration::from_secs(3_600);

/// The layer that a leg begins with: the highest whose nominal rate the estimate carries, the lowest without an estimate.
pub fn first_layer(config: &LayerConfig, layers: usize, estimate: Option<Estimate>) -> u8 {
    let Some(estimate) = estimate else { return 0 };
    let is_carried =
        |&layer: &usize| carries(config, estimate.target_bps, nominal_bps(config, layer, layers));
    (1..layers.min(LAYERS_MAX)).rev().find(is_carried).unwrap_or(0) as u8
}

/// What a layer is expected to take.
fn nominal_bps(config: &LayerConfig, layer: usize, layers: usize) -> u64 {
    let steps = layers.saturating_sub(1).max(1) as u64;
    config.low_bps + config.high_bps.saturating_sub(config.low_bps) * layer as u64 / steps
}

fn carries(config: &LayerConfig, estimate_bps: u64, rate_bps: u64) -> bool {
    estimate_bps as f64 > config.tolerance * rate_bps as f64
}

impl LayerSelector {
    /// Makes the selector of a leg that was not switched yet.
    pub fn new(now: Instant, config: &LayerConfig) -> Self {
        Self {
            allowance: Allowance { credit: config.decision_burst.into(), at: now },
            quiet_until: None,
            back_off: config.back_off,
            previous: None,
        }
    }

    /// Says which layer the leg is to wait for from here on; `None` when it stays as it is. To be asked whenever the estimate may
    /// have changed.
    ///
    /// An estimate that carries the current layer asks for the next one above, any other for the next one below; only layers whose
    /// rate is measured count. Loss has to agree to going down. For a while after a switch the leg does not go up, and goes down
    /// only while both parts of the estimate fall.
    pub fn decide(
        &mut self,
        now: Instant,
        config: &LayerConfig,
        standing: Standing,
        estimate: Estimate,
        rates: &Rates,
    ) -> Option<u8> {
        if !self.allowance.take(now, config) {
            return None;
        }
        let previous = self.previous.replace(estimate);
        let current = usize::from(standing.current);
        let rate = (*rates.get(current)?)?;
        let is_measured = |&layer: &usize| rates[layer].is_some();
        let wanted = if carries(config, estimate.target_bps, rate) {
            (current + 1..LAYERS_MAX).find(is_measured)
        } else {
            (0..current).rev().find(is_measured)
        };
        let wanted = wanted.unwrap_or(current);
        if wanted == usize::from(standing.target) {
            return None;
        }
        let is_quiet = self.quiet_until.is_some_and(|until| now < until);
        if wanted > current && is_quiet {
            return None;
        }
        if wanted < current {
            let falls = previous.is_some_and(|before| {
                estimate.delay_bps < before.delay_bps && estimate.loss_bps < before.loss_bps
            });
            if carries(config, estimate.loss_bps, rate) || (is_quiet && !falls) {
                return None;
            }
        }
        // Giving up a switch that has not happened is none.
        if wanted != current {
            self.quiet_until = Some(now + self.back_off);
            self.back_off = self.back_off.mul_f64(config.back_off_growth).min(BACK_OFF_MAX);
        }
        Some(wanted as u8)
    }
}

/// So many decisions in a time, some of them at once.
#[derive(Clone, Debug)]
struct Allowance {
    credit: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant, config: &LayerConfig) -> bool {
        let interval = config.decision_interval.as_secs_f64().max(0.001);
        let earned = now.since(self.at).as_secs_f64() / interval;
        self.credit = (self.credit + earned).min(config.decision_burst.into());
        self.at = now;
        let is_allowed = self.credit >= 1.0;
        if is_allowed {
            self.credit -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: u64 = 500_000;
    const HIGH: u64 = 2_500_000;
    const BOTH: [u64; 2] = [LOW, HIGH];

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn estimate(delay_bps: u64, loss_bps: u64) -> Estimate {
        Estimate { target_bps: delay_bps.min(loss_bps), delay_bps, loss_bps }
    }

    fn rates(measured: &[u64]) -> Rates {
        let mut rates = Rates::default();
        for (rate, &bps) in rates.iter_mut().zip(measured) {
            *rate = (bps > 0).then_some(bps);
        }
        rates
    }

    fn on(layer: u8) -> Standing {
        Standing { current: layer, target: layer }
    }

    fn fresh() -> LayerSelector {
        LayerSelector::new(at(0), &LayerConfig::default())
    }

    fn decide(
        selector: &mut LayerSelector,
        millis: u64,
        standing: Standing,
        estimate: Estimate,
        measured: &[u64],
    ) -> Option<u8> {
        let config = LayerConfig::default();
        selector.decide(at(millis), &config, standing, estimate, &rates(measured))
    }

    #[test]
    fn a_leg_begins_with_what_the_estimate_carries() {
        let config = LayerConfig::default();
        let cases = [
            (2, None, 0),
            (2, Some(250_000), 0),
            (2, Some(2_250_000), 0), // must be exceeded
            (2, Some(2_250_001), 1),
            (1, Some(3_750_000), 0),
            (0, Some(3_750_000), 0),
            (3, Some(1_350_000), 0), // the middle one is nominally 1.5 Mbit/s
            (3, Some(1_350_001), 1),
            (3, Some(2_250_001), 2),
            (500, Some(3_750_000), 7),
        ];
        for (layers, bps, expected) in cases {
            let first = first_layer(&config, layers, bps.map(|bps| estimate(bps, bps)));
            assert_eq!(first, expected, "{layers} layers, {bps:?} bit/s");
        }
    }

    #[test]
    fn the_first_decision_follows_the_estimate_against_the_current_layers_rate() {
        // (current, delay, loss, rates, decision)
        type Case<'a> = (u8, u64, u64, &'a [u64], Option<u8>);
        let cases: &[Case<'_>] = &[
            (0, 450_000, 450_000, &BOTH, None), // must be exceeded
            (0, 450_001, 450_001, &BOTH, Some(1)),
            (0, 3_000_000, 450_000, &BOTH, None), // both parts must
            (0, 450_001, 450_001, &[LOW], None),  // nothing above is measured
            (0, 450_001, 450_001, &[0, HIGH], None), // nor the own rate
            (1, 2_250_001, 2_250_001, &BOTH, None),
            (1, 2_250_000, 2_250_000, &BOTH, Some(0)),
            (1, 600_000, 2_250_001, &BOTH, None), // loss does not agree
            (1, 600_000, 2_250_000, &BOTH, Some(0)),
            (1, 600_000, 600_000, &[0, HIGH], None),
            (1, 600_000, 600_000, &[LOW, 0], None),
            (1, 600_000, 600_000, &[LOW, 600_000], None), // a quiet screen fits
            (1, 2_000_000, 2_000_000, &[LOW, 1_500_000, HIGH], Some(2)),
            (1, 1_000_000, 1_000_000, &[LOW, 1_500_000, HIGH], Some(0)),
            (0, 1_000_000, 1_000_000, &[LOW, 0, HIGH], Some(2)), // over one that stopped
            (9, 1_000_000, 1_000_000, &BOTH, None),
        ];
        for &(current, delay, loss, measured, expected) in cases {
            let decision = decide(&mut fresh(), 0, on(current), estimate(delay, loss), measured);
            assert_eq!(decision, expected, "{current}, {delay}, {loss}, {measured:?}");
        }
    }

    #[test]
    fn a_leg_goes_up_again_only_after_the_back_off_which_grows() {
        let mut selector = fresh();
        let plenty = estimate(3_000_000, 3_000_000);
        let little = estimate(600_000, 600_000);
        assert_eq!(decide(&mut selector, 100_000, on(0), plenty, &BOTH), Some(1));
        assert_eq!(decide(&mut selector, 111_000, on(1), little, &BOTH), Some(0));
        assert_eq!(decide(&mut selector, 125_999, on(0), plenty, &BOTH), None, "10 s and a half");
        assert_eq!(decide(&mut selector, 126_000, on(0), plenty, &BOTH), Some(1));
        assert_eq!(decide(&mut selector, 148_500, on(1), little, &BOTH), Some(0), "22.5 s");
        assert_eq!(decide(&mut selector, 182_249, on(0), plenty, &BOTH), None);
        assert_eq!(decide(&mut selector, 182_250, on(0), plenty, &BOTH), Some(1), "33.75 s");
    }

    #[test]
    fn within_the_back_off_it_goes_down_only_while_both_parts_fall() {
        let cases = [
            ((900_000, 900_000), (800_000, 800_000), Some(0)),
            ((900_000, 900_000), (800_000, 900_000), None),
            ((900_000, 900_000), (900_000, 800_000), None),
            ((900_000, 900_000), (1_000_000, 1_000_000), None),
        ];
        for (before, after, expected) in cases {
            let mut selector = fresh();
            let plenty = estimate(3_000_000, 3_000_000);
            assert_eq!(decide(&mut selector, 0, on(0), plenty, &BOTH), Some(1));
            let before = estimate(before.0, before.1);
            // The first look falls as well, so it is one at a rate that is carried.
            assert_eq!(decide(&mut selector, 1_000, on(1), before, &[LOW, LOW]), None);
            let after = estimate(after.0, after.1);
            assert_eq!(decide(&mut selector, 2_000, on(1), after, &BOTH), expected, "{after:?}");
        }
    }

    #[test]
    fn four_decisions_at_once_then_one_a_second() {
        let mut selector = fresh();
        let little = estimate(300_000, 300_000);
        let plenty = estimate(600_000, 600_000);
        for _ in 0..4 {
            assert_eq!(decide(&mut selector, 50, on(0), little, &BOTH), None);
        }
        assert_eq!(decide(&mut selector, 60, on(0), plenty, &BOTH), None, "spent");
        assert_eq!(decide(&mut selector, 999, on(0), plenty, &BOTH), None);
        assert_eq!(decide(&mut selector, 1_050, on(0), plenty, &BOTH), Some(1));
    }

    #[test]
    fn a_switch_that_waits_is_not_decided_twice_and_can_be_given_up() {
        let mut selector = fresh();
        let waiting = Standing { current: 0, target: 1 };
        let plenty = estimate(600_000, 600_000);
        let little = estimate(300_000, 300_000);
        assert_eq!(decide(&mut selector, 0, on(0), plenty, &BOTH), Some(1));
        assert_eq!(decide(&mut selector, 1_000, waiting, plenty, &BOTH), None);
        assert_eq!(decide(&mut selector, 2_000, waiting, little, &BOTH), Some(0));
        assert_eq!(decide(&mut selector, 9_999, on(0), plenty, &BOTH), None, "still quiet");
        assert_eq!(decide(&mut selector, 10_000, on(0), plenty, &BOTH), Some(1));
    }

    #[test]
    fn the_back_off_stays_below_an_hour() {
        let mut selector = fresh();
        let (plenty, little) = (estimate(3_000_000, 3_000_000), estimate(600_000, 600_000));
        for n in 0..100 {
            let (current, estimate) = if n % 2 == 0 { (0, plenty) } else { (1, little) };
            let decision = decide(&mut selector, n * 3_600_000, on(current), estimate, &BOTH);
            assert_eq!(decision, Some(1 - current), "switch {n}");
        }
    }
}
