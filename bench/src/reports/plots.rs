//! Which plots a report has, and of what.

use super::group::{Group, Section};
use super::measures::{any, floor_us, packets_out_per_second};
use super::published::{self, busy_vcpus, unscaled};
use super::svg::{Axis, Bar, Bars, COLOURS, Mark, PUBLISHED, Plot, Scale, Series};
use crate::result::{Phase, RunResult};
use crate::scenario::Scenario;

/// Lines that can be told apart in one plot.
const LINES_MAX: usize = COLOURS;

/// Plots over all scenarios: CPU against the load, cost by the packet against the floor.
pub fn all(sections: &[Section<'_>]) -> Vec<String> {
    let labels = labels(sections);
    let by_packets = scatter(
        sections,
        &labels,
        ("CPU against packets out", "packets out, per second"),
        packets_out_per_second,
        |scenario| unscaled(scenario).packets_out_per_second(),
    );
    let by_people = scatter(
        sections,
        &labels,
        ("CPU against participants", "participants"),
        |run| Some(run.scenario.as_ref()?.calls.people().into()),
        |scenario| unscaled(scenario).calls.people().into(),
    );
    let plots = [by_packets.figure(), by_people.figure(), cost(sections, &labels).figure()];
    plots.into_iter().flatten().collect()
}

/// Plots of one scenario: latency, and how the runs went.
pub fn of_scenario(groups: &[Group<'_>]) -> Vec<String> {
    let timeline = [packets(groups), cores(groups)];
    let plots = [latency(groups)].into_iter().chain(timeline);
    plots.filter_map(|plot| plot.figure()).collect()
}

/// What the servers are called, each once: a server has one colour in all scenarios.
fn labels<'a>(sections: &'a [Section<'_>]) -> Vec<&'a str> {
    let mut labels: Vec<&str> = Vec::new();
    for group in sections.iter().flat_map(|section| &section.groups) {
        if !labels.contains(&group.server.as_str()) {
            labels.push(&group.server);
        }
    }
    labels
}

fn colour_of(labels: &[&str], group: &Group<'_>) -> usize {
    labels.iter().position(|label| *label == group.server).unwrap_or(0) % COLOURS
}

/// A point for each valid run, and for each load that somebody else published.
fn scatter(
    sections: &[Section<'_>],
    labels: &[&str],
    (title, x): (&str, &str),
    load: fn(&RunResult) -> Option<f64>,
    published_load: fn(&Scenario) -> f64,
) -> Plot {
    let groups = || sections.iter().flat_map(|section| &section.groups);
    let series = labels.iter().enumerate().flat_map(|(at, label)| {
        let of = |partial: bool, name: String, mark| {
            let runs = groups().filter(|group| group.server == **label);
            let runs = runs.flat_map(|group| &group.valid).filter(|run| run.partial == partial);
            let points = runs.filter_map(|run| Some((load(run)?, run.server.cores))).collect();
            Series { name, points, mark, colour: at % COLOURS }
        };
        let whole = of(false, (*label).to_owned(), Mark::Points);
        [whole, of(true, format!("{label}, partial runs"), Mark::Hollow)]
    });
    let mut series: Vec<Series> = series.collect();
    let mut published: Vec<(f64, f64)> = Vec::new();
    for section in sections {
        let scenario = section.groups.iter().find_map(|group| group.scenario);
        let point = scenario.and_then(|scenario| {
            Some((published_load(scenario), busy_vcpus(scenario.published.as_ref()?)))
        });
        published.extend(point);
    }
    let note = if published.is_empty() { "" } else { published::CAVEAT };
    series.retain(|series| !series.points.is_empty());
    if !published.is_empty() {
        series.push(Series {
            name: "published, vCPUs of another machine".to_owned(),
            points: published,
            mark: Mark::Points,
            colour: PUBLISHED,
        });
    }
    let is_wide = |of: fn(&(f64, f64)) -> f64| spans(series.iter().flat_map(|s| &s.points).map(of));
    let (wide_x, wide_y) = (is_wide(|at| at.0), is_wide(|at| at.1));
    Plot {
        title: title.to_owned(),
        x: axis(x, wide_x),
        y: axis("CPU of the server, cores", wide_y),
        series,
        bands: Vec::new(),
        note: note.to_owned(),
    }
}

/// Whether values are so far apart that the smaller ones would lie on the axis.
fn spans(values: impl Iterator<Item = f64>) -> bool {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let ends = positive.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| {
        (least.min(value), most.max(value))
    });
    ends.1 > ends.0 * 20.0
}

fn axis(label: &str, is_log: bool) -> Axis {
    let scale = if is_log { Scale::Log } else { Scale::Linear };
    Axis { label: label.to_owned(), scale, ticks: Vec::new() }
}

/// CPU by the packet, with the floor of the same packets.
fn cost(sections: &[Section<'_>], labels: &[&str]) -> Bars {
    let mut bars = Vec::new();
    for section in sections {
        for group in &section.groups {
            let Some(us) = group.spread(|run| run.server.us_per_packet_out).0 else { continue };
            let floor = group.spread(floor_us).0.map(|floor| floor.median);
            let multiple = group.spread(|run| run.floor.as_ref()?.multiple).0;
            let multiple = multiple.map(|at| format!(", {:.1} times the floor", at.median));
            let mark = if group.partial > 0 { ", partial" } else { "" };
            bars.push(Bar {
                heading: section.name.to_owned(),
                value: us.median,
                mark: floor,
                text: format!("{:.2} µs{}{mark}", us.median, multiple.unwrap_or_default()),
                colour: colour_of(labels, group),
            });
        }
    }
    Bars {
        title: "CPU by the packet".to_owned(),
        legend: labels.iter().map(|label| (*label).to_owned()).collect(),
        label: "µs per packet out".to_owned(),
        mark_name: "floor: copy, header, cipher and send of the same packets".to_owned(),
        bars,
        note: String::new(),
    }
}

/// Latency by percentile; the further right, the rarer.
fn latency(groups: &[Group<'_>]) -> Plot {
    let series = groups.iter().take(LINES_MAX).enumerate().map(|(at, group)| Series {
        name: group.heading(),
        points: percentiles(group),
        mark: Mark::Line,
        colour: at % COLOURS,
    });
    let mut series: Vec<Series> = series.collect();
    series.retain(|series| !series.points.is_empty());
    let rarest = series.iter().flat_map(|series| &series.points).fold(1.0, |r: f64, p| r.max(p.0));
    let ticks = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let ticks = ticks.iter().enumerate().map(|(at, text)| (10_f64.powi(at as i32), *text));
    let ticks = ticks.filter(|(value, _)| *value <= (rarest * 1.000_001).max(100.0));
    let is_wide = spans(series.iter().flat_map(|series| &series.points).map(|at| at.1));
    let note = "So many of the packets took at most so long, all valid runs together. The axis is stretched towards the rarest.";
    Plot {
        title: "Latency distribution".to_owned(),
        x: Axis {
            label: "percentile of the packets".to_owned(),
            scale: Scale::Log,
            ticks: ticks.map(|(value, text)| (value, text.to_owned())).collect(),
        },
        y: axis("latency, µs", is_wide),
        series,
        bands: Vec::new(),
        note: left_out(groups, note),
    }
}

/// One by the share of packets that are slower, and the latency; of all runs together.
fn percentiles(group: &Group<'_>) -> Vec<(f64, f64)> {
    let distributions = group.valid.iter().filter_map(|run| any(&run.latency_us));
    let buckets = distributions.flat_map(|distribution| &distribution.buckets);
    let mut buckets: Vec<(f64, u64)> = buckets.copied().collect();
    buckets.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Results come from files, and a file can hold any count.
    let total = buckets.iter().fold(0_u64, |total, bucket| total.saturating_add(bucket.1));
    let rarity = |below: u64| total as f64 / (total - below).max(1) as f64;
    let mut below = 0_u64;
    let mut points = Vec::with_capacity(2 * buckets.len());
    for (latency, count) in buckets {
        // A bucket's bound is all that is known of its packets, the first as the last.
        points.push((rarity(below), latency));
        below = below.saturating_add(count);
        points.push((rarity(below), latency));
    }
    points
}

fn packets(groups: &[Group<'_>]) -> Plot {
    let lines = groups.iter().take(LINES_MAX).enumerate().flat_map(|(at, group)| {
        let line = |name: &str, mark, value: fn(&crate::result::Tick) -> f64| {
            let points = group.valid.first().map(|run| &run.series).into_iter().flatten();
            let points = points.map(|tick| (tick.at_s, value(tick))).collect();
            Series {
                name: format!("{}, {name}", group.heading()),
                points,
                mark,
                colour: at % COLOURS,
            }
        };
        [
            line("out", Mark::Line, |tick| tick.packets_out_per_s),
            line("in", Mark::Dashes, |tick| tick.packets_in_per_s),
        ]
    });
    timeline(groups, "Packets over the time", "packets per second", lines.collect())
}

fn cores(groups: &[Group<'_>]) -> Plot {
    let lines = groups.iter().take(LINES_MAX).enumerate().map(|(at, group)| {
        let points = group.valid.first().map(|run| &run.series).into_iter().flatten();
        let points = points.map(|tick| (tick.at_s, tick.server_cores)).collect();
        Series { name: group.heading(), points, mark: Mark::Line, colour: at % COLOURS }
    });
    timeline(groups, "CPU over the time", "CPU of the server, cores", lines.collect())
}

fn timeline(groups: &[Group<'_>], title: &str, y: &str, mut series: Vec<Series>) -> Plot {
    series.retain(|series| !series.points.is_empty());
    let first = groups.iter().find_map(|group| group.valid.first());
    let measured = first.map(|run| &run.series).into_iter().flatten();
    let measured = measured.filter(|tick| tick.phase == Phase::Measuring);
    let times: Vec<f64> = measured.map(|tick| tick.at_s).collect();
    let band = times.first().zip(times.last());
    // A tick stands at the end of its second.
    let band = band.map(|(from, to)| ((from - 1.0).max(0.0), *to, "measured".to_owned()));
    Plot {
        title: title.to_owned(),
        x: axis("seconds since the run began", false),
        y: axis(y, false),
        series,
        bands: band.into_iter().collect(),
        note: left_out(groups, "The first valid run of each."),
    }
}

fn left_out(groups: &[Group<'_>], note: &str) -> String {
    match groups.len().saturating_sub(LINES_MAX) {
        0 => note.to_owned(),
        more => format!("{note} {more} more have no line here."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{group, sample};
    use super::*;

    #[test]
    fn percentiles_reach_the_rarest_packet() {
        let mut runs = [(); 2].map(|()| sample::run("smoke", "a"));
        runs[0].latency_us.buckets = vec![(10.0, 90), (30.0, 10)];
        runs[1].latency_us.buckets = vec![(20.0, 100)];
        let sections = group::sections(&runs);
        let points = percentiles(&sections[0].groups[0]);
        let wanted = [
            (1.0, 10.0),
            (200.0 / 110.0, 10.0),
            (200.0 / 110.0, 20.0),
            (20.0, 20.0),
            (20.0, 30.0),
            (200.0, 30.0),
        ];
        assert_eq!(points, wanted);
    }

    #[test]
    fn published_points_are_of_the_whole_scenario_and_carry_the_caveat() {
        let mut run = sample::run("smoke", "a");
        let scenario = run.scenario.as_mut().unwrap();
        scenario.published = Some(sample::published(50.0, 4));
        scenario.scaled = Some(crate::scenario::Scaled { factor: 0.5, calls: 4, participants: 10 });
        let runs = [run];
        let sections = group::sections(&runs);
        let people = |scenario: &Scenario| f64::from(unscaled(scenario).calls.people());
        let labels = labels(&sections);
        let plot = scatter(&sections, &labels, ("", ""), packets_out_per_second, people);
        assert_eq!(plot.series.last().unwrap().points, [(40.0, 2.0)]);
        assert_eq!(plot.note, published::CAVEAT);
        assert_eq!(all(&sections).len(), 3);
    }

    #[test]
    fn partial_runs_are_apart_in_plots() {
        let mut runs = [(); 2].map(|()| sample::run("smoke", "a"));
        runs[1].partial = true;
        let sections = group::sections(&runs);
        let plots = all(&sections);
        assert!(plots[0].contains("a (sluice), partial runs"), "{}", plots[0]);
        assert_eq!(plots[0].matches(" hollow").count(), 2);
        assert!(plots[2].contains("partial"), "{}", plots[2]);
    }

    #[test]
    fn runs_without_valid_figures_make_no_plot() {
        let mut run = sample::run("smoke", "a");
        run.valid = false;
        let runs = [run];
        let sections = group::sections(&runs);
        assert!(all(&sections).is_empty());
        assert!(of_scenario(&sections[0].groups).is_empty());
    }
}
