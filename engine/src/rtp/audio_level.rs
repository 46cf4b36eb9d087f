//! RFC 6464 levels → speaking or silent.

use crate::clock::Instant;
use crate::config::VoiceActivityConfig;

/// Tells when a track begins and ceases to be speech.
///
/// Speech goes up and down where silence and steady noise stay at one level, so what decides is how far the latest levels are
/// from their mean. Allocates its ring when it is made and nothing after.
#[derive(Debug)]
pub struct VoiceDetector {
    config: VoiceActivityConfig,
    /// The latest levels; zeros where there were none yet.
    levels: Box<[u8]>,
    /// Where the next level goes.
    next: usize,
    /// Levels heard, up to the length of the ring.
    filled: usize,
    sum: u32,
    sum_of_squares: u32,
    active_since: Option<Instant>,
}

impl VoiceDetector {
    /// Makes a detector that has heard nothing.
    pub fn new(config: VoiceActivityConfig) -> Self {
        Self {
            levels: vec![0; config.levels].into(),
            config,
            next: 0,
            filled: 0,
            sum: 0,
            sum_of_squares: 0,
            active_since: None,
        }
    }

    /// Takes one packet's level; tells when speech begins (`true`) or ceases (`false`).
    ///
    /// `level` is the extension's byte: 0 to 127 −dBov, and above them the sender's own opinion, which is not used. The levels
    /// that fill the ring for the first time decide nothing. Source: RFC 6464 §3.
    pub fn on_level(&mut self, now: Instant, level: u8) -> Option<bool> {
        let level = level & LEVEL_MASK;
        let room = self.levels.get_mut(self.next)?;
        let oldest = std::mem::replace(room, level);
        self.next = (self.next + 1) % self.levels.len();
        self.sum = self.sum + u32::from(level) - u32::from(oldest);
        self.sum_of_squares = self.sum_of_squares + square(level) - square(oldest);
        if self.filled < self.levels.len() {
            self.filled += 1;
            return None;
        }
        match self.active_since {
            None if self.deviation_is_above(self.config.activation) => {
                self.active_since = Some(now);
                Some(true)
            }
            Some(since)
                if now.since(since) >= self.config.active_time_min
                    && !self.deviation_is_above(self.config.deactivation - 1) =>
            {
                self.active_since = None;
                Some(false)
            }
            _ => None,
        }
    }

    /// Forgets every level, and that there was speech.
    pub fn clear(&mut self) {
        *self = Self::new(self.config);
    }

    /// Whether the levels' sample standard deviation around their rounded mean, itself rounded, is above `threshold`.
    ///
    /// In whole numbers: with `squares` the sum of squared distances, a root rounds to more than `threshold` when
    /// `squares / (n - 1) >= (threshold + 1/2)²`.
    fn deviation_is_above(&self, threshold: u8) -> bool {
        let n = self.levels.len() as i64;
        let (sum, sum_of_squares) = (i64::from(self.sum), i64::from(self.sum_of_squares));
        let mean = (2 * sum + n) / (2 * n);
        let squares = sum_of_squares - 2 * mean * sum + n * mean * mean;
        let bound = 2 * i64::from(threshold) + 1;
        4 * squares >= bound * bound * (n - 1)
    }
}

fn square(level: u8) -> u32 {
    u32::from(level) * u32::from(level)
}

/// The seven bits of the level. Source: RFC 6464 §3.
const LEVEL_MASK: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn detector(levels: usize, activation: u8, deactivation: u8) -> VoiceDetector {
        VoiceDetector::new(VoiceActivityConfig {
            levels,
            activation,
            deactivation,
            ..VoiceActivityConfig::default()
        })
    }

    /// The published vector: ten levels, thresholds 10 and 5.
    #[test]
    fn the_published_vector_switches_where_it_should() {
        let mut voice = detector(10, 10, 5);
        for level in [55, 45].repeat(5) {
            assert_eq!(voice.on_level(at(0), level), None);
        }
        assert!(voice.deviation_is_above(4) && !voice.deviation_is_above(5), "it is 5");
        for expected in [None, None, None, Some(true)] {
            assert_eq!(voice.on_level(at(0), 30), expected);
        }
        for _ in 0..8 {
            assert_eq!(voice.on_level(at(1_999), 40), None, "active for too short a time");
        }
        assert_eq!(voice.on_level(at(2_000), 40), Some(false));
        assert_eq!(voice.on_level(at(2_000), 40), None, "told once");
    }

    #[test]
    fn the_first_levels_only_fill_the_ring() {
        let mut voice = VoiceDetector::new(VoiceActivityConfig::default());
        for _ in 0..25 {
            assert_eq!(voice.on_level(at(0), 0), None);
            assert_eq!(voice.on_level(at(0), 127), None);
        }
        assert_eq!(voice.on_level(at(0), 0), Some(true), "the 51st decides");
    }

    #[test]
    fn a_cleared_detector_starts_over() {
        let mut voice = detector(4, 10, 4);
        for level in [0, 127, 0, 127] {
            voice.on_level(at(0), level);
        }
        voice.clear();
        for level in [0, 127, 0, 127] {
            assert_eq!(voice.on_level(at(0), level), None);
        }
        assert_eq!(voice.on_level(at(0), 0), Some(true));
        voice.clear();
        for _ in 0..9 {
            assert_eq!(voice.on_level(at(9_000), 50), None, "nothing is left to cease");
        }
    }

    #[test]
    fn the_senders_own_opinion_is_not_part_of_the_level() {
        let mut voice = detector(4, 10, 4);
        for level in [30, 30, 30, 30, 30 | 0x80, 30, 30 | 0x80] {
            assert_eq!(voice.on_level(at(0), level), None);
        }
    }

    /// The rule as it is written: a rounded mean, and a rounded root of the mean square around it.
    fn deviation(levels: &[u8]) -> f64 {
        let n = levels.len() as f64;
        let mean = (levels.iter().map(|&l| f64::from(l)).sum::<f64>() / n).round();
        let squares = levels.iter().map(|&l| (f64::from(l) - mean).powi(2)).sum::<f64>();
        (squares / (n - 1.0)).sqrt().round()
    }

    #[test]
    fn whole_numbers_decide_as_the_rule_does() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let length = rng.usize(2..60);
            let spread = rng.u8(1..60);
            let mut voice = detector(length, 10, 4);
            let mut all = Vec::new();
            for _ in 0..200 {
                let level = 40 + rng.u8(0..spread);
                all.push(level);
                voice.on_level(at(0), level);
                let Some(from) = all.len().checked_sub(length) else { continue };
                let expected = deviation(&all[from..]);
                for threshold in 0..40 {
                    let is_above = expected > f64::from(threshold);
                    let what = || format!("seed {seed}: {expected} of {:?}", &all[from..]);
                    assert_eq!(voice.deviation_is_above(threshold), is_above, "{}", what());
                }
            }
        }
    }
}
