//! OpenMetrics text → the older Prometheus text, which every scraper reads.
//!
//! The library writes OpenMetrics alone, where a counter's family lacks the `_total` of its samples, and where a gauge may not end in
//! `_total`, as some of rtcd's do.

/// Turns OpenMetrics text into Prometheus text of version 0.0.4: types under the names of the samples, no end mark, and bounds of
/// buckets as whole numbers where they are whole.
pub fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), Some(words)) => help = Some(words),
            (Some("#"), Some("TYPE"), Some(family), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some(help) = help.take() {
                    text.push_str(&format!("# HELP {family}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
            }
            (Some("#"), ..) => {}
            _ => {
                push_sample(&mut text, line);
                text.push('\n');
            }
        }
    }
    text
}

/// `le="1.0"` is another series than `le="1"`, which rtcd has.
fn push_sample(text: &mut String, line: &str) {
    let bound = line.split_once("le=\"").and_then(|(before, rest)| {
        let (bound, after) = rest.split_once('"')?;
        Some((before, bound.strip_suffix(".0")?, after))
    });
    match bound {
        Some((before, bound, after)) => {
            text.push_str(&format!("{before}le=\"{bound}\"{after}"));
        }
        None => text.push_str(line),
    }
}

/// Media type of what [`to_prometheus`] makes.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn types_stand_under_the_names_of_their_samples() {
        let mut registry = Registry::default();
        registry.register("errors", "Errors", Counter::<u64>::default());
        registry.register("tracks_total", "Tracks", Gauge::<i64>::default());
        let times = Histogram::new([0.5, 1.0]);
        times.observe(0.75);
        registry.register("time", "Times", times);
        let mut openmetrics = String::new();
        encode(&mut openmetrics, &registry).unwrap();
        let expected = "\
            # HELP errors_total Errors.\n\
            # TYPE errors_total counter\n\
            errors_total 0\n\
            # HELP tracks_total Tracks.\n\
            # TYPE tracks_total gauge\n\
            tracks_total 0\n\
            # HELP time Times.\n\
            # TYPE time histogram\n\
            time_sum 0.75\n\
            time_count 1\n\
            time_bucket{le=\"0.5\"} 0\n\
            time_bucket{le=\"1\"} 1\n\
            time_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(to_prometheus(&openmetrics), expected);
    }
}
