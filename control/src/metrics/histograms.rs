//! Histograms that others counted, as a metric.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sluice_engine::metrics::{FORWARD_TIME_BUCKETS_S, ForwardTimes};

/// Times under labels, in buckets of this metric's own.
#[derive(Debug)]
struct Histograms<L> {
    name: &'static str,
    help: &'static str,
    bounds_s: &'static [f64],
    series: Vec<(L, ForwardTimes)>,
}

/// Adds a metric for times that the engine took. `bounds_s` are the upper bounds of its buckets, of which each must be one of the
/// engine's.
pub fn register<L: EncodeLabelSet + Send + Sync + std::fmt::Debug + 'static>(
    registry: &mut Registry,
    (name, help): (&'static str, &'static str),
    bounds_s: &'static [f64],
    series: Vec<(L, ForwardTimes)>,
) {
    registry.register_collector(Box::new(Histograms { name, help, bounds_s, series }));
}

impl<L: EncodeLabelSet + Send + Sync + std::fmt::Debug + 'static> Collector for Histograms<L> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut metric =
            encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        for (labels, times) in &self.series {
            let buckets = rebucket(times, self.bounds_s);
            let count = times.counts.iter().sum();
            let mut series = metric.encode_family(labels)?;
            series.encode_histogram::<NoLabelSet>(
                times.sum.as_secs_f64(),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// The engine's fine buckets put together to coarser ones; the last takes what is longer than all bounds.
fn rebucket(times: &ForwardTimes, bounds_s: &[f64]) -> Vec<(f64, u64)> {
    let mut buckets: Vec<_> = bounds_s.iter().map(|&bound| (bound, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    let fine = FORWARD_TIME_BUCKETS_S.iter().copied().chain([f64::INFINITY]).zip(times.counts);
    for (upper, count) in fine {
        if let Some((_, sum)) = buckets.iter_mut().find(|(bound, _)| upper <= *bound) {
            *sum += count;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fine_buckets_add_up_to_coarse_ones() {
        let mut times = ForwardTimes::default();
        for micros in [5, 900, 1_000, 1_100, 40_000, 2_000_000] {
            times.observe(Duration::from_micros(micros));
        }
        let buckets = rebucket(&times, &[0.001, 0.005, 0.05, 1.0]);
        let expected = [(0.001, 3), (0.005, 1), (0.05, 1), (1.0, 0), (f64::INFINITY, 1)];
        assert_eq!(buckets, expected);
    }
}
