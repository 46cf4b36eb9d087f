//! What scenarios can do beside sending: a bad network, people who come and go, mutes, two encodings of a screen.

use serde_json::Value;

use crate::support::{
    Finished, PEOPLE, RECEIVERS, SMALL, Server, assert_clean, assert_judged, bench, count, number,
    scenario,
};

/// Runs a scenario by rtcd's API, with one packet in ten looked at.
fn run(server: &Server, name: &str, keys: &str) -> (Finished, Value) {
    let (target, scenario) = (server.target("rtcd"), scenario(name, keys));
    let run = bench(
        name,
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
    let result = run.result();
    (run, result)
}

#[test]
fn what_a_bad_network_loses_is_told_apart_and_mostly_repaired() {
    let server = Server::start("lossy");
    let network = "[clients]\ntransport_cc = true\nnack = true\n\
        [impair]\nseed = 1\nloss = 0.03\ndelay_ms = 10.0\njitter_ms = 2.0\n";
    let (run, result) = run(&server, "lossy", &format!("{SMALL}{network}"));
    assert_judged(&run, &result);
    assert_eq!(number(&result, "/scenario/impair/loss"), 0.03);
    assert!(count(&result, "/loss/relay") > 0, "{result:#}");
    assert!(count(&result, "/loss/late") > 0, "{result:#}");
    assert!(count(&result, "/frames/complete") > 0, "{result:#}");
    // Nobody asks for lost audio; each packet of it crosses the network twice.
    let share = number(&result, "/loss/share");
    assert!(share > 0.0 && share < 0.1, "{result:#}");
    assert_eq!(count(&result, "/traffic/damaged"), 0, "{result:#}");
    assert_eq!(count(&result, "/loss/sessions_closed"), 0, "{result:#}");
    server.assert_empty();
}

#[test]
fn people_come_and_go_without_loss_for_those_who_stay() {
    let server = Server::start("churn");
    let (run, result) = run(&server, "churn", &format!("{SMALL}[churn]\nper_second = 4.0\n"));
    assert_judged(&run, &result);
    assert_clean(&result);
    assert!(count(&result, "/join_us/count") > PEOPLE, "nobody came back: {result:#}");
    server.assert_empty();
}

#[test]
fn who_is_muted_sends_nothing_and_nothing_of_it_is_missed() {
    let server = Server::start("mute");
    let keys = "[calls]\ncalls = 2\nparticipants = 3\nunmuted = 3\n\
        [time]\nwarmup_s = 0.5\nmeasure_s = 2.0\n[mute]\nevery_s = 0.5\n";
    let (run, result) = run(&server, "mute", keys);
    assert_judged(&run, &result);
    assert_clean(&result);
    let without_mute = number(&result, "/elapsed_s") * 50.0 * PEOPLE as f64;
    let sent = count(&result, "/traffic/packets_in") as f64;
    assert!(sent < 0.8 * without_mute, "{sent} of {without_mute}: {result:#}");
    server.assert_empty();
}

#[test]
fn receivers_of_two_layers_get_whole_frames() {
    let server = Server::start("simulcast");
    let layers = "[screen]\nlow_rate_bps = 300000\n[clients]\ntransport_cc = true\n";
    let (run, result) = run(&server, "simulcast", &format!("{SMALL}{layers}"));
    assert_judged(&run, &result);
    assert_clean(&result);
    let (complete, incomplete) =
        (count(&result, "/frames/complete"), count(&result, "/frames/incomplete"));
    // A key frame of the other layer may come in the middle of a frame: it ends what each receiver gets of that one.
    assert!(complete > 0 && incomplete <= 2 * RECEIVERS, "{result:#}");
    server.assert_empty();
}
