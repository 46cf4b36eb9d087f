use super::*;
use crate::facts::{Cgroup, Process};

fn goal(load: &str) -> Goal {
    Goal { load: Load::parse(load).unwrap(), load_is_given: true, ..Goal::default() }
}

fn demand(load: &str) -> Demand {
    Demand::of(&goal(load), &Facts::default())
}

#[test]
fn packets_are_those_of_the_bench_scenarios() {
    // There: calls × (people - 1) × (50 × unmuted + 180 × screens). Besides, 3 a session and 10 for each who watches.
    for (load, media_out, media_in, watching) in [
        ("1x1000 2u screen", 999 * 280, 280, 1_000),
        ("100x10 2u", 100 * 9 * 100, 100 * 100, 0),
        ("1000x2 2u", 1000 * 100, 1000 * 100, 0),
        ("4x100 1u 2 cameras, 1x1 1u", 4 * 99 * 410, 4 * 410 + 50, 400),
    ] {
        let demand = demand(load);
        let sessions = demand.sessions.value;
        assert_eq!(demand.packets_out_per_s.value, media_out + 3 * sessions, "{load}");
        let feedback = 3 * sessions + 10 * watching;
        assert_eq!(demand.packets_in_per_s.value, media_in + feedback, "{load}");
    }
}

#[test]
fn shards_follow_the_measured_cost() {
    for (load, shards) in
        [("1x10 1u", 1), ("1x1000 2u", 1), ("1x1000 2u screen", 2), ("4x1000 2u screen", 6)]
    {
        assert_eq!(demand(load).shards.value, shards, "{load}");
        assert_eq!(shards_needed(&Load::parse(load).unwrap()), shards);
    }
    let configured = Goal { shards: Some(5), ..goal("1x10") };
    let demand = Demand::of(&configured, &Facts::default());
    assert_eq!(demand.shards.value, 5);
    assert!(demand.shards.formula.starts_with("5 = configured; the load needs 1 = ("));
}

#[test]
fn buffers_start_at_the_published_advice_and_grow_with_the_load() {
    let small = demand("1x1000 2u screen");
    assert_eq!(small.receive_buffer_bytes.value, 16 << 20);
    assert_eq!(small.send_buffer_bytes.value, 16 << 20);
    assert_eq!(small.udp_memory_bytes.value, 2 * 2 * (16 << 20));
    // On one shard 20,000 join at once: 20,000 × (4 × 768 + 2 × 2304) / 2 is above 64 MiB.
    let storm = Goal { shards: Some(1), ..goal("1x20000 0u") };
    let storm = Demand::of(&storm, &Facts::default());
    assert_eq!(storm.receive_buffer_bytes.value, 128 << 20);
    assert!(storm.receive_buffer_bytes.formula.starts_with("134217728 = the power of two"));
    let most = Goal { shards: Some(1), ..goal("10000x1000 2u screen") };
    assert_eq!(Demand::of(&most, &Facts::default()).receive_buffer_bytes.value, 1 << 30);
}

#[test]
fn what_the_server_asks_for_wins_where_it_is_larger() {
    let of = |bytes| {
        let goal = Goal { socket_buffer_bytes: Some(bytes), ..goal("1x10") };
        Demand::of(&goal, &Facts::default()).receive_buffer_bytes
    };
    assert_eq!(of(65_536).value, 16 << 20);
    assert_eq!(of(20_000_000).value, 20_000_000);
    assert!(of(20_000_000).formula.contains("engine.socket_buffer_bytes"));
    assert_eq!(of(1 << 40).value, 1 << 30);
}

#[test]
fn there_is_a_shard_for_each_cpu_that_may_be_used_unless_it_is_said() {
    let shards = |cpus: &str, cpu_quota| {
        let process = Process { cpus_allowed: CpuSet::from_list(cpus), ..Process::default() };
        let cgroup = Cgroup { cpu_quota, ..Cgroup::default() };
        let facts = Facts { process, cgroup, ..Facts::default() };
        Demand::of(&goal("1x10"), &facts).shards.value
    };
    assert_eq!(shards("0-7", None), 8);
    assert_eq!(shards("0-7", Some(2.5)), 2);
    assert_eq!(shards("0-7", Some(0.5)), 1);
    assert_eq!(shards("3", Some(16.0)), 1);
}

#[test]
fn every_formula_begins_with_its_value() {
    for load in ["1x1", "1x1000 2u screen", "100x100000 100000u 100000 screens 100000 cameras"] {
        let json = serde_json::to_value(demand(load)).unwrap();
        let sized: Vec<_> =
            json.as_object().unwrap().values().filter(|v| v["formula"].is_string()).collect();
        assert_eq!(sized.len(), 17);
        for sized in sized {
            let start = format!("{} = ", sized["value"]);
            assert!(sized["formula"].as_str().unwrap().starts_with(&start), "{sized}");
        }
    }
}

#[test]
fn a_load_beyond_any_host_asks_for_no_absurd_settings() {
    let demand = demand("100x100000 100000u 100000 screens 100000 cameras");
    assert!(
        demand
            .shards
            .formula
            .starts_with("1024 = the most of one server; the load needs 1657159429 = (")
    );
    let bounded = [
        (&demand.shards, 1_024),
        (&demand.receive_buffer_bytes, 1 << 30),
        (&demand.backlog_packets, 65_536),
        (&demand.ring_descriptors, 65_536),
        (&demand.open_files, 1 << 20),
        (&demand.conntrack_entries, 4 << 20),
    ];
    for (sized, most) in bounded {
        assert!(sized.value <= most, "{}", sized.formula);
    }
    assert_eq!(demand.sessions.value, 10_000_000);
}
