//! Durations counted in buckets of at most a thousandth of their value: latencies, jitter, times to join.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram as Buckets;
use serde::{Deserialize, Serialize};

use crate::result::Distribution;

/// Durations of a nanosecond to a minute; longer ones count as a minute.
///
/// Units: nanoseconds within. Shape: about 220 KB whatever it holds; over the network pairs of value and count, those buckets alone that hold anything.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Pairs", try_from = "Pairs")]
pub struct Histogram(Buckets<u64>);

/// Value in nanoseconds and count of each bucket that holds anything, ascending.
type Pairs = Vec<(u64, u64)>;

/// The longest duration that is told from longer ones.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Three digits: a bucket is at most a thousandth of its value wide.
const DIGITS: u8 = 3;
/// Buckets of a [`Distribution`].
const BUCKETS_MAX: usize = 200;

impl Default for Histogram {
    fn default() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        let buckets = Buckets::new_with_bounds(1, longest, DIGITS);
        Self(buckets.expect(
            "the bounds are constants: at least 1, more than twice apart, at most 5 digits",
        ))
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: Duration) {
        self.add_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one duration of so many nanoseconds.
    pub fn add_ns(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.min(LONGEST.as_nanos() as u64));
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least duration that `share` of the durations do not exceed, to a thousandth; `None` of nothing. `share` is 0 to 1.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.value_at_quantile(share)))
    }

    /// The longest duration, to a thousandth.
    pub fn longest(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.max()))
    }

    /// What reports show, all values as multiples of `unit`.
    ///
    /// Buckets are put together until they are few: evenly on a logarithmic scale, for the thin tail is what is looked at.
    pub fn to_distribution(&self, unit: Duration) -> Distribution {
        if self.is_empty() {
            return Distribution::default();
        }
        let scaled = |nanos: u64| nanos as f64 / unit.as_nanos() as f64;
        let quantile = |share| scaled(self.0.value_at_quantile(share));
        let (least, most) = (self.0.min().max(1) as f64, self.0.max().max(1) as f64);
        let width = ((most / least).ln() / (BUCKETS_MAX - 1) as f64).max(f64::MIN_POSITIVE);
        let place = |nanos: u64| ((nanos.max(1) as f64 / least).ln() / width) as usize;
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        let mut last = None;
        for (nanos, count) in self.pairs() {
            let at = place(nanos).min(BUCKETS_MAX - 1);
            match buckets.last_mut() {
                Some(bucket) if last == Some(at) => *bucket = (scaled(nanos), bucket.1 + count),
                _ => buckets.push((scaled(nanos), count)),
            }
            last = Some(at);
        }
        Distribution {
            count: self.len(),
            mean: self.0.mean() / unit.as_nanos() as f64,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: scaled(self.0.max()),
            buckets,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value()))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs()).finish()
    }
}

impl From<Histogram> for Pairs {
    fn from(histogram: Histogram) -> Self {
        histogram.pairs().collect()
    }
}

/// A text cannot name more buckets than there are, each once, so what a peer sends cannot make this long or wrong.
impl TryFrom<Pairs> for Histogram {
    type Error = String;

    fn try_from(pairs: Pairs) -> Result<Self, String> {
        let mut histogram = Self::default();
        let mut total = 0_u64;
        for (at, &(nanos, count)) in pairs.iter().enumerate() {
            if at > 0 && nanos <= pairs[at - 1].0 {
                return Err(format!("a histogram's values must ascend, {nanos} does not"));
            }
            // The bucket that holds a minute ends a little above it.
            if nanos > histogram.0.highest_equivalent(LONGEST.as_nanos() as u64) {
                return Err(format!("a histogram's values end at a minute, {nanos} ns is more"));
            }
            total = total.checked_add(count).ok_or("a histogram counts more than 2^64")?;
            histogram.0.saturating_record_n(nanos, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    fn of(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().for_each(|value| histogram.add(Duration::from_micros(value)));
        histogram
    }

    fn near(value: f64, wanted: f64) -> bool {
        (value - wanted).abs() <= wanted / 1_000.0
    }

    #[test]
    fn quantiles_are_right_to_a_thousandth() {
        let histogram = of(1..=10_000);
        for (share, micros) in [(0.5, 5_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)] {
            let got = histogram.quantile(share).unwrap().as_nanos() as f64;
            assert!(near(got, micros as f64 * 1e3), "{share}: {got} ns");
        }
        assert_eq!(histogram.len(), 10_000);
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().longest(), None);
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_secs(3_600));
        histogram.add(Duration::MAX);
        assert_eq!(histogram.quantile(0.0), Some(Duration::ZERO));
        assert!(near(histogram.longest().unwrap().as_secs_f64(), 60.0));
        assert_eq!(histogram.len(), 3);
    }

    #[test]
    fn merged_is_as_if_counted_together() {
        let mut merged = of(1..=700);
        merged.merge(&of(701..=1_000));
        assert_eq!(merged, of(1..=1_000));
    }

    #[test]
    fn a_distribution_has_few_buckets_and_loses_no_count() {
        let mut histogram = of((1..=5_000).map(|n| n * n));
        histogram.add_ns(3);
        let distribution = histogram.to_distribution(MICROSECOND);
        assert!(distribution.buckets.len() <= BUCKETS_MAX, "{}", distribution.buckets.len());
        assert!(distribution.buckets.len() > BUCKETS_MAX / 4, "{}", distribution.buckets.len());
        assert_eq!(distribution.buckets.iter().map(|(_, count)| count).sum::<u64>(), 5_001);
        assert_eq!(distribution.count, 5_001);
        assert!(distribution.buckets.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(distribution.buckets.last().unwrap().0, distribution.max);
        assert!(near(distribution.p50, 6_250_000.0), "{}", distribution.p50);
        assert!(near(distribution.mean, 25e6 / 3.0), "{}", distribution.mean);
    }

    #[test]
    fn one_value_makes_one_bucket_and_none_makes_none() {
        let distribution = of([42, 42]).to_distribution(MICROSECOND);
        assert_eq!(distribution.buckets.len(), 1);
        assert_eq!(distribution.buckets[0].1, 2);
        assert!(near(distribution.p999, 42.0) && near(distribution.mean, 42.0));
        assert_eq!(Histogram::default().to_distribution(MICROSECOND), Distribution::default());
    }

    #[test]
    fn it_crosses_the_network_whole() {
        let mut histogram = of((1..100).map(|n| n * 997));
        histogram.add(Duration::from_secs(61));
        let text = serde_json::to_string(&histogram).unwrap();
        let back: Histogram = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{histogram:?}"));
        assert_eq!(back.quantile(0.99), histogram.quantile(0.99));
        assert_eq!(back.longest(), histogram.longest());
        assert_eq!(serde_json::to_string(&of([])).unwrap(), "[]");
    }

    #[test]
    fn what_no_histogram_says_is_refused() {
        let parse = |text| serde_json::from_str::<Histogram>(text).unwrap_err().to_string();
        assert!(parse("[[5,1],[5,1]]").contains("must ascend"));
        assert!(parse("[[99000000000,1]]").contains("end at a minute"));
        assert!(parse("[[5,18446744073709551615],[6,1]]").contains("more than 2^64"));
        assert!(parse("[[-1,1]]").contains("invalid value"));
    }
}
