//! Several runs in one: two servers in turns, and the search for the largest load.

use crate::support::{Bench, PEOPLE, SMALL, Server, assert_clean, bench, count, scenario, text};

#[test]
fn a_comparison_runs_both_sides_with_the_same_load() {
    let server = Server::start("compare");
    let scenario = scenario("compare", SMALL);
    let run = bench(
        "compare",
        &[
            "compare",
            "--a",
            &server.target("rtcd"),
            "--b",
            &server.target("sluice"),
            "--scenario",
            &scenario,
            "--verify",
            "0.1",
            "--rounds",
            "1",
            "--json",
            "result.json",
        ],
    );
    let result = run.result();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert_eq!((count(&result, "/rounds_asked"), &result["partial"]), (1, &false.into()));
    let round = &result["rounds"][0];
    for (side, api) in [("a", "rtcd"), ("b", "sluice")] {
        let of_side = &round[side];
        assert_eq!((text(of_side, "/label"), text(of_side, "/target")), (side, api));
        assert_eq!(count(of_side, "/join_us/count"), PEOPLE, "{of_side:#}");
        assert_clean(of_side);
    }
    assert_eq!(round["a"]["scenario"], round["b"]["scenario"]);
    assert_eq!(round["a"]["seed"], round["b"]["seed"]);
    let are_valid = round["a"]["valid"] == true && round["b"]["valid"] == true;
    assert_eq!(round["a_by_b"].is_object(), are_valid, "{round:#}");
    server.assert_empty();
}

#[test]
fn a_search_says_what_was_not_carried_and_why() {
    let server = Server::start("capacity");
    // The smallest size there is: what cannot be carried is repeated, and then there is nothing less to try.
    let keys = "[calls]\ncalls = 1\nparticipants = 2\nunmuted = 1\n\
        [time]\nwarmup_s = 0.0\nmeasure_s = 1.0\n";
    let scenario = scenario("capacity", keys);
    let target = server.target("sluice");
    let arguments = [
        "capacity",
        "--target",
        &target,
        "--scenario",
        &scenario,
        "--verify",
        "1",
        "--p99-max-ms",
        // No packet is as fast as a microsecond.
        "0.001",
        "--json",
        "result.json",
    ];
    let run = bench("capacity", &arguments);
    let result = run.result();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert!(result["largest"].is_null() && result["partial"] == false, "{result:#}");
    let runs = result["steps"][0]["runs"].as_array().expect("a step has runs");
    assert_eq!(runs.len(), 2, "{result:#}");
    // The second run decides; on a machine that has too much else to do, it is the generator that could not.
    let ending = if runs[1]["result"]["valid"] == true { "nothing" } else { "generator" };
    assert_eq!(text(&result, "/ending"), ending, "{result:#}");
    for attempt in runs {
        assert_clean(&attempt["result"]);
        assert!(attempt["why"].to_string().contains("latency p99 was"), "{attempt:#}");
    }
    server.assert_empty();
}

#[test]
fn a_search_that_is_stopped_keeps_its_steps_and_fails() {
    let server = Server::start("capacity-stopped");
    let keys = "[calls]\ncalls = 2\nparticipants = 2\nunmuted = 1\n\
        [time]\nwarmup_s = 0.0\nmeasure_s = 1.0\n";
    let scenario = scenario("capacity-stopped", keys);
    let target = server.target("sluice");
    let arguments = [
        "capacity",
        "--target",
        &target,
        "--scenario",
        &scenario,
        "--p99-max-ms",
        "60000",
        "--json",
        "result.json",
    ];
    let mut run = Bench::start("capacity-stopped", &arguments);
    run.await_words("run 2: ");
    run.interrupt();
    let run = run.finish();
    let result = run.result();
    assert_eq!(text(&result, "/ending"), "stopped", "{result:#}");
    assert_eq!(result["partial"], true, "{result:#}");
    assert_eq!(run.code, Some(1), "{}", run.errors);
    let first = &result["steps"][0];
    assert_eq!(count(first, "/calls"), 2, "{result:#}");
    assert_clean(&first["runs"][0]["result"]);
    server.assert_empty();
}
