//! What the server says of itself at `/metrics`.

use std::collections::BTreeMap;

/// All samples of a scrape by name and labels.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus text; what is no sample is left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// By how much each counter grew since `earlier`, summed over its labels; those that did not grow are left out.
    pub fn grown(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut grown = BTreeMap::new();
        for (key, value) in &self.0 {
            let name = key.split('{').next().unwrap_or(key);
            if ["_total", "_sum", "_count"].iter().any(|end| name.ends_with(end)) {
                let before = earlier.0.get(key).unwrap_or(&0.0);
                *grown.entry(name.to_owned()).or_insert(0.0) += value - before;
            }
        }
        grown.retain(|_, by| *by > 0.0);
        grown
    }

    /// By how much each of Sluice's reasons to drop a packet grew since `earlier`; those that did not grow are left out.
    pub fn drops_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut grown = BTreeMap::new();
        for (key, value) in &self.0 {
            if !key.starts_with("sluice_shard_drops_total{") {
                continue;
            }
            let reason = label(key, "reason").unwrap_or("?").to_owned();
            *grown.entry(reason).or_insert(0.0) += value - earlier.0.get(key).unwrap_or(&0.0);
        }
        grown.retain(|_, count| *count != 0.0);
        grown
    }

    /// What Sluice says it is: version and back-end.
    pub fn version(&self) -> Option<String> {
        let key = self.0.keys().find(|key| key.starts_with("sluice_build_info{"))?;
        Some(format!("sluice {} ({})", label(key, "version")?, label(key, "backend")?))
    }
}

/// The value of a label; labels of ours hold no escapes.
fn label<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    let labels = key.split_once('{')?.1.strip_suffix('}')?;
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_labels_and_drops_are_told_apart() {
        let sample = |a: u32, b: u32| {
            Metrics::parse(&format!(
                "# HELP x\nsluice_build_info{{version=\"1\",backend=\"mmsg\"}} 1\n\
                sluice_shard_rtp_packets_out_total{{shard=\"0\"}} {a}\n\
                sluice_shard_rtp_packets_out_total{{shard=\"1\"}} {a}\n\
                sluice_shard_drops_total{{shard=\"0\",reason=\"egress_full\"}} {b}\n\
                sluice_shard_drops_total{{shard=\"0\",reason=\"replayed\"}} 7\n\
                sluice_sessions{{shard=\"0\"}} {a}\n"
            ))
        };
        let (before, after) = (sample(10, 0), sample(15, 3));
        let grown = after.grown(&before);
        let names: Vec<_> = grown.iter().map(|(name, by)| (name.as_str(), *by)).collect();
        assert_eq!(
            names,
            [("sluice_shard_drops_total", 3.0), ("sluice_shard_rtp_packets_out_total", 10.0)]
        );
        let drops = after.drops_since(&before);
        assert_eq!(drops.into_iter().collect::<Vec<_>>(), [("egress_full".to_owned(), 3.0)]);
        assert_eq!(after.version().as_deref(), Some("sluice 1 (mmsg)"));
    }
}
