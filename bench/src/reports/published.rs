//! Measured figures beside those that somebody else published for the same load.

use super::document::Table;
use super::group::{Group, Section};
use super::measures::{
    any, floor_us, lost_percent, mib, packets_out_per_second, path_multiple, path_multiple_alike,
};
use crate::scenario::{Published, Scenario};

/// Stands beside every table and plot that shows both.
pub const CAVEAT: &str = "Published figures are the CPU of a whole machine of another kind, with an older rtcd that was being profiled; measured ones are of the \
server's process alone, on the machine described here. They say how much was asked of a server, not which server is faster; for that, run both here (sluice-bench compare).";

/// How the published cost by the packet was reached.
pub const METHOD: &str = "Published µs per packet out is the published CPU by the packets that the whole, unscaled scenario sends. Where a scenario was shrunk, the \
packets out of the two columns are not the same load.";

/// Processors that were busy.
pub fn busy_vcpus(published: &Published) -> f64 {
    published.cpu_percent * f64::from(published.vcpus) / 1e2
}

/// The scenario as its file has it.
pub fn unscaled(scenario: &Scenario) -> Scenario {
    let mut whole = scenario.clone();
    if let Some(scaled) = whole.scaled.take() {
        (whole.calls.calls, whole.calls.participants) = (scaled.calls, scaled.participants);
    }
    whole
}

/// CPU microseconds by the packet out that the published figures come to; `None` for a scenario that sends nothing.
pub fn us_per_packet_out(scenario: &Scenario) -> Option<f64> {
    let packets = unscaled(scenario).packets_out_per_second();
    let published = scenario.published.as_ref()?;
    (packets > 0.0).then(|| busy_vcpus(published) * 1e6 / packets)
}

/// How much of a scenario was run, for people.
pub fn scale(scenario: &Scenario) -> String {
    let Some(scaled) = scenario.scaled else { return "whole".to_owned() };
    let part = |run: u32, whole: u32, what: &str| match run {
        _ if run == whole => None,
        0 => Some(format!("none of the {what}")),
        _ if whole.is_multiple_of(run) => Some(format!("1/{} of the {what}", whole / run)),
        _ => Some(format!("{run} of {whole} {what}")),
    };
    let calls = part(scenario.calls.calls, scaled.calls, "calls");
    let people = part(scenario.calls.participants, scaled.participants, "people of a call");
    let parts: Vec<String> = calls.into_iter().chain(people).collect();
    if parts.is_empty() { "whole".to_owned() } else { parts.join(", ") }
}

/// The column that names the server and says what was wrong; the last of words.
const SERVER: usize = 3;

/// A line for each group of each scenario.
pub fn table(sections: &[Section<'_>]) -> Table {
    let head = [
        "scenario",
        "scale",
        "published on",
        "server",
        "people",
        "published, vCPUs busy",
        "published, µs per packet out",
        "measured, cores",
        "packets out, per second",
        "µs per packet out",
        "floor, µs",
        "multiple of the floor",
        "of that on this path",
        "of that with the same runs",
        "lost, %",
        "latency p50, µs",
        "latency p99, µs",
        "resident, MiB",
    ];
    let rows = sections.iter().flat_map(|section| {
        section.groups.iter().map(|group| row(section.name, group)).collect::<Vec<_>>()
    });
    let groups = sections.iter().flat_map(|section| &section.groups).zip(1..);
    let grave = groups.filter(|(group, _)| group.is_grave()).map(|(_, row)| (row, SERVER));
    Table {
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
        text_columns: SERVER + 1,
        grave: grave.collect(),
    }
}

fn row(name: &str, group: &Group<'_>) -> Vec<String> {
    let none = || "–".to_owned();
    let scenario = group.scenario;
    let published = scenario.and_then(|scenario| scenario.published.as_ref());
    let published_us = scenario.and_then(us_per_packet_out);
    vec![
        name.to_owned(),
        scenario.map_or_else(none, scale),
        published.map_or_else(none, |at| at.instance.clone()),
        group.heading(),
        scenario.map_or_else(none, |scenario| scenario.calls.people().to_string()),
        published.map_or_else(none, |at| format!("{:.2}", busy_vcpus(at))),
        published_us.map_or_else(none, |us| format!("{us:.2}")),
        group.cell(3, |run| Some(run.server.cores)),
        group.cell(0, packets_out_per_second),
        group.cell(2, |run| run.server.us_per_packet_out),
        group.cell(2, floor_us),
        group.cell(2, |run| run.floor.as_ref()?.multiple),
        group.cell(2, path_multiple),
        group.cell(2, path_multiple_alike),
        group.cell(4, lost_percent),
        group.cell(0, |run| Some(any(&run.latency_us)?.p50)),
        group.cell(0, |run| Some(any(&run.latency_us)?.p99)),
        group.cell(1, |run| mib(run.server.resident_end_bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{group, sample};
    use super::*;
    use crate::scenario::Scaled;

    fn scenario() -> Scenario {
        sample::run("c7i_1x1000_u2", "a").scenario.unwrap()
    }

    #[test]
    fn the_scale_is_said_in_words() {
        let mut scenario = scenario();
        assert_eq!(scale(&scenario), "whole");
        scenario.calls.calls = 20;
        scenario.calls.participants = 10;
        let mut with = |calls, participants| {
            scenario.scaled = Some(Scaled { factor: 0.2, calls, participants });
            scale(&scenario)
        };
        assert_eq!(with(100, 10), "1/5 of the calls");
        assert_eq!(with(30, 10), "20 of 30 calls");
        assert_eq!(with(20, 1_000), "1/100 of the people of a call");
        assert_eq!(with(40, 15), "1/2 of the calls, 10 of 15 people of a call");
        assert_eq!(with(20, 10), "whole");
    }

    #[test]
    fn published_cost_is_of_the_whole_scenario() {
        let mut scenario = scenario();
        scenario.calls.calls = 1;
        scenario.calls.participants = 1_000;
        scenario.calls.unmuted = 2;
        scenario.calls.screens = 0;
        scenario.published = Some(sample::published(47.0, 4));
        // 1.88 vCPUs for 2 * 50 * 999 packets a second.
        let whole = us_per_packet_out(&scenario).unwrap();
        assert!((whole - 1.88e6 / 99_900.0).abs() < 1e-9, "{whole}");
        scenario.scaled = Some(Scaled { factor: 0.1, calls: 1, participants: 1_000 });
        scenario.calls.participants = 100;
        assert_eq!(us_per_packet_out(&scenario), Some(whole));
        scenario.calls.unmuted = 0;
        assert_eq!(us_per_packet_out(&scenario), None);
    }

    #[test]
    fn every_cell_of_a_row_is_filled_or_dashed() {
        let mut run = sample::run("c7i_1x1000_u2", "a");
        run.scenario = None;
        run.floor = None;
        let runs = [run];
        let table = table(&group::sections(&runs));
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
        assert_eq!(&table.rows[0][..4], ["without a scenario", "–", "–", "a (sluice) (1 run)"]);
    }
}
