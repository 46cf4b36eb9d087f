//! One run by each API that clients can join by: every packet is accounted for, and nobody stays behind.

use crate::support::{
    Bench, PATIENCE, PEOPLE, RECEIVERS, SMALL, Server, assert_clean, assert_judged, bench, count,
    number, scenario, text, wait_until,
};

/// Runs a small scenario and checks all that a result says of it.
fn run_by(api: &str) {
    let server = Server::start(api);
    let scenario = scenario(api, SMALL);
    let run = bench(
        api,
        &[
            "run",
            "--target",
            &server.target(api),
            "--scenario",
            &scenario,
            "--verify",
            "0.1",
            "--label",
            "here",
            "--json",
            "result.json",
        ],
    );
    let result = run.result();
    assert_judged(&run, &result);
    assert_clean(&result);
    let sent = count(&result, "/traffic/packets_in");
    assert_eq!(count(&result, "/loss/expected"), sent * RECEIVERS, "{result:#}");
    assert_eq!(count(&result, "/traffic/packets_out"), sent * RECEIVERS, "{result:#}");
    assert_eq!(count(&result, "/latency_us/count"), count(&result, "/traffic/verified"));
    assert_eq!(count(&result, "/join_us/count"), PEOPLE, "{result:#}");
    assert_eq!(count(&result, "/first_frame_us/count"), 2 * RECEIVERS, "{result:#}");
    assert!(count(&result, "/frames/complete") > 0, "{result:#}");
    assert_eq!(count(&result, "/frames/incomplete"), 0, "{result:#}");

    assert_eq!((text(&result, "/target"), text(&result, "/label")), (api, "here"));
    assert_eq!(text(&result, "/scenario/name"), api);
    assert!(text(&result, "/server_version").starts_with("sluice "), "{result:#}");
    assert!(text(&result, "/command").starts_with("sluice-bench run --target"), "{result:#}");
    let machine = &result["machine"];
    assert!(count(machine, "/cpus") > 0 && count(machine, "/memory_bytes") > 0, "{machine:#}");
    assert!(!text(machine, "/kernel").is_empty() && !text(machine, "/cpu").is_empty());

    // The server's process was found by its port.
    assert!(number(&result, "/server/cores") > 0.0, "{result:#}");
    for path in ["resident_before_bytes", "resident_joined_bytes", "resident_end_bytes"] {
        assert!(count(&result, &format!("/server/{path}")) > 0, "{path} of {result:#}");
    }
    let counted = number(&result, "/server/counters/sluice_shard_rtp_packets_out_total");
    assert!(counted >= (sent * RECEIVERS) as f64, "{result:#}");
    server.assert_empty();
}

/// A call of a hundred on two shards: half of them on each, and nothing is lost between them.
fn one_large_call_by(api: &str) {
    let name = format!("large-{api}");
    let spread = [("SLUICE_ENGINE_SHARDS", "2"), ("SLUICE_ENGINE_CALL_SESSIONS_PER_SHARD", "20")];
    let server = Server::start_with(&name, &spread);
    let keys = "[calls]\ncalls = 1\nparticipants = 100\nunmuted = 1\nscreens = 1\n\
        [time]\nwarmup_s = 0.5\nmeasure_s = 1.0\n";
    let scenario = scenario(&name, keys);
    let target = server.target(api);
    let bench = Bench::start(
        &name,
        &[
            "run",
            "--target",
            &target,
            "--scenario",
            &scenario,
            "--verify",
            "0.1",
            "--json",
            "result.json",
        ],
    );
    server.await_sessions(100);
    let shards = || {
        [0, 1].map(|shard| server.metric(&format!("sluice_shard_sessions{{shard=\"{shard}\"}}")))
    };
    let so_far = || format!("{:?}", shards());
    wait_until("half of them are on each shard", PATIENCE, so_far, || shards() == [50, 50]);
    let run = bench.finish();
    let result = run.result();
    assert_judged(&run, &result);
    assert_clean(&result);
    let sent = count(&result, "/traffic/packets_in");
    assert_eq!(count(&result, "/loss/expected"), sent * 99, "{result:#}");
    assert_eq!(count(&result, "/traffic/packets_out"), sent * 99, "{result:#}");
    let crossed = number(&result, "/server/counters/sluice_shard_relayed_in_total");
    assert!(crossed >= sent as f64, "{crossed} of {sent}");
    server.assert_empty();
}

#[test]
fn by_rtcds_api_a_large_call_loses_nothing_between_shards() {
    one_large_call_by("rtcd");
}

#[test]
fn by_the_native_api_a_large_call_loses_nothing_between_shards() {
    one_large_call_by("sluice");
}

#[test]
fn by_rtcds_api_every_packet_is_accounted_for() {
    run_by("rtcd");
}

#[test]
fn by_the_native_api_every_packet_is_accounted_for() {
    run_by("sluice");
}

#[test]
fn by_whip_and_whep_every_packet_is_accounted_for() {
    run_by("whip");
}
