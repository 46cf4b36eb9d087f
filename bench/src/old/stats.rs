//! Latencies, and the middle and spread of repeated runs.

use std::time::Duration;

/// Latencies of sampled packets, kept one by one up to a bound.
#[derive(Default)]
pub struct Latencies {
    micros: Vec<u32>,
    /// Samples beyond the bound, not kept.
    pub left_out: u64,
}

const SAMPLES_MAX: usize = 2_000_000;

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        if self.micros.len() < SAMPLES_MAX {
            self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        } else {
            self.left_out += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// The least latency that `permille` of the samples do not exceed, microseconds; `None` without samples.
    pub fn quantile_us(&mut self, permille: usize) -> Option<u32> {
        self.micros.sort_unstable();
        let rank = (self.micros.len() * permille).div_ceil(1_000).max(1);
        self.micros.get(rank - 1).copied()
    }
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// `None` without values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let half = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[half - 1], values[half]),
            _ => values[half],
        };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_us(500), None);
        for micros in (1..=100).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        let quantiles = [0, 500, 990, 1_000].map(|q| latencies.quantile_us(q));
        assert_eq!(quantiles, [Some(1), Some(50), Some(99), Some(100)]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of(vec![7.0]).unwrap().median, 7.0);
        assert!(Spread::of(vec![]).is_none());
    }
}
