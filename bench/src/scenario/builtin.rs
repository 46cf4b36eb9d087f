//! The scenarios that come with the program: the rows of the published table, and ours.

use super::Scenario;

/// The scenario of this name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

/// All of them, ours first, then the published table in its order.
pub fn all() -> Vec<Scenario> {
    let parse = |text: &&str| {
        Scenario::parse(text).expect("a test parses every scenario that comes with the program")
    };
    FILES.iter().map(parse).collect()
}

/// A table of them for people: name, calls by participants, thousands of packets a second that the server has to send, and what
/// it is about.
pub fn listing() -> String {
    let mut text = format!("{:<32} {:>12} {:>9}  about\n", "name", "people", "kpps out");
    for scenario in all() {
        let people = format!("{} x {}", scenario.calls.calls, scenario.calls.participants);
        let packets = scenario.packets_out_per_second() / 1e3;
        text += &format!("{:<32} {people:>12} {packets:>9.1}  {}\n", scenario.name, scenario.about);
    }
    text
}

const FILES: &[&str] = &[
    include_str!("../../scenarios/smoke.toml"),
    include_str!("../../scenarios/fanout.toml"),
    include_str!("../../scenarios/burst.toml"),
    include_str!("../../scenarios/idle.toml"),
    include_str!("../../scenarios/join_storm.toml"),
    include_str!("../../scenarios/churn.toml"),
    include_str!("../../scenarios/mute.toml"),
    include_str!("../../scenarios/simulcast.toml"),
    include_str!("../../scenarios/lossy.toml"),
    include_str!("../../scenarios/relay.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-1x1000-2u.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-1x800-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-1x1000-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-10x100-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-100x10-2u.toml"),
    include_str!("../../scenarios/c7i/c7i-xlarge-100x10-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-1x1000-2u.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-1x1000-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-2x1000-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-100x10-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-150x10-1u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-150x10-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-250x10-2u.toml"),
    include_str!("../../scenarios/c7i/c7i-2xlarge-1000x2-2u.toml"),
    include_str!("../../scenarios/c7i/c7i-4xlarge-2x1000-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-4xlarge-3x1000-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-4xlarge-4x1000-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-4xlarge-250x10-2u-screen.toml"),
    include_str!("../../scenarios/c7i/c7i-4xlarge-500x2-2u-screen.toml"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::super::{Cut, Published};
    use super::*;

    /// Instance, vCPUs, calls, participants, unmuted, screen sharing, CPU in per cent, memory in GB, Mbit/s in and out.
    const PUBLISHED: &str = "
        c7i.xlarge,4,1,1000,2,no,47,1.46,1,194
        c7i.xlarge,4,1,800,1,yes,64,1.43,2.7,1360
        c7i.xlarge,4,1,1000,1,yes,79,1.54,2.9,1680
        c7i.xlarge,4,10,100,1,yes,74,1.56,18.2,1680
        c7i.xlarge,4,100,10,2,no,49,1.46,18.7,175
        c7i.xlarge,4,100,10,1,yes,84,1.73,171,1530
        c7i.2xlarge,8,1,1000,2,no,20,1.44,1.4,194
        c7i.2xlarge,8,1,1000,2,yes,49,1.53,3.6,1790
        c7i.2xlarge,8,2,1000,1,yes,73,2.38,5.7,3060
        c7i.2xlarge,8,100,10,2,yes,60,1.74,181,1620
        c7i.2xlarge,8,150,10,1,yes,72,2.26,257,2300
        c7i.2xlarge,8,150,10,2,yes,79,2.34,271,2410
        c7i.2xlarge,8,250,10,2,no,58,2.66,47,439
        c7i.2xlarge,8,1000,2,2,no,78,2.31,178,195
        c7i.4xlarge,16,2,1000,2,yes,41,2.6,7.23,3600
        c7i.4xlarge,16,3,1000,2,yes,63,3.53,10.9,5380
        c7i.4xlarge,16,4,1000,2,yes,83,4.40,14.5,7170
        c7i.4xlarge,16,250,10,2,yes,79,3.49,431,3730
        c7i.4xlarge,16,500,2,2,yes,71,2.54,896,919
    ";

    #[test]
    fn every_file_is_built_in_under_its_own_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut on_disk = BTreeSet::new();
        for folder in [folder.clone(), folder.join("c7i")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let scenario = Scenario::find(path.to_str().unwrap()).unwrap();
                    assert_eq!(path.file_stem().unwrap().to_str(), Some(&*scenario.name));
                    on_disk.insert(scenario.name);
                }
            }
        }
        let built_in: Vec<Scenario> = all();
        assert_eq!(built_in.len(), on_disk.len());
        for scenario in built_in {
            assert!(on_disk.contains(&scenario.name), "{}", scenario.name);
            assert!(!scenario.about.is_empty());
            assert_eq!(find(&scenario.name), Some(scenario));
        }
    }

    #[test]
    fn the_published_table_is_there_row_by_row() {
        let of_table: Vec<Scenario> = all().into_iter().filter(|s| s.published.is_some()).collect();
        let rows: Vec<Vec<&str>> =
            PUBLISHED.trim().lines().map(|line| line.trim().split(',').collect()).collect();
        assert_eq!((rows.len(), of_table.len()), (19, 19));
        for (row, scenario) in rows.iter().zip(&of_table) {
            let number = |at: usize| row[at].parse::<f64>().unwrap();
            let count = |at: usize| row[at].parse::<u32>().unwrap();
            let screens = u32::from(row[5] == "yes");
            let calls = scenario.calls;
            assert_eq!(
                [calls.calls, calls.participants, calls.unmuted, calls.screens],
                [count(2), count(3), count(4), screens],
                "{}",
                scenario.name
            );
            let published = Published {
                source:
                    "Mattermost Calls performance documentation: rtcd 0.16.0, all Go profiling on"
                        .to_owned(),
                instance: row[0].to_owned(),
                vcpus: count(1),
                cpu_percent: number(6),
                memory_gb: number(7),
                in_mbps: number(8),
                out_mbps: number(9),
            };
            assert_eq!(scenario.published, Some(published));
            let screen = if screens == 1 { "-screen" } else { "" };
            let instance = row[0].replace('.', "-");
            let name = format!("{instance}-{}x{}-{}u{screen}", row[2], row[3], row[4]);
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn rows_send_as_the_published_load_test_does() {
        for scenario in all().into_iter().filter(|s| s.published.is_some()) {
            assert_eq!((scenario.audio.rate_bps, scenario.audio.packets_per_second), (80_000, 50));
            assert_eq!((scenario.join.ramp_s, scenario.clients.ping_s), (30.0, 1.0));
            assert!(!scenario.clients.nack && !scenario.clients.transport_cc);
            if scenario.calls.screens > 0 {
                let screen = scenario.screen;
                assert_eq!((screen.cut, screen.spread_ms), (Cut::FullAndTail, 0));
                assert_eq!(
                    screen.packets(screen.rate_bps),
                    [1_180, 1_180, 1_180, 1_180, 1_180, 766]
                );
            }
        }
    }

    /// Published is what the interface carried, with headers and all else; in one row it is a tenth less than this payload would be.
    #[test]
    fn the_payload_that_rows_send_is_near_the_published_traffic() {
        for scenario in all() {
            let Some(published) = &scenario.published else { continue };
            let calls = scenario.calls;
            let others = f64::from(calls.participants - 1);
            let rate = f64::from(calls.unmuted * scenario.audio.rate_bps)
                + f64::from(calls.screens * scenario.screen.rate_bps);
            let mbps = f64::from(calls.calls) * others * rate / 1e6;
            let share = mbps / published.out_mbps;
            assert!((0.75..1.11).contains(&share), "{}: {share:.2}", scenario.name);
        }
    }

    #[test]
    fn the_listing_has_a_line_for_each() {
        let listing = listing();
        assert_eq!(listing.lines().count(), 1 + FILES.len());
        let line =
            "fanout                                1 x 201      36.0  1 call of 201, one screen";
        assert!(listing.lines().any(|l| l.starts_with(line)), "{listing}");
    }
}
