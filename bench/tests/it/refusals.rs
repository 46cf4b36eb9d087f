//! What cannot be done is refused before any load, with words that name it.

use crate::support::{SMALL, Server, bench, free_port, scenario};

/// Runs something that must fail, and checks that what it says names all of `words`.
fn refuse(name: &str, arguments: &[&str], words: &[&str]) {
    let run = bench(&format!("refused-{name}"), arguments);
    assert!(run.code.is_some_and(|code| code != 0), "{:?}: {}", run.code, run.errors);
    for word in words {
        assert!(run.errors.contains(word), "`{word}` is not named: {}", run.errors);
    }
    assert!(!run.errors.contains("panicked"), "{}", run.errors);
}

/// Runs `run` with arguments that must be refused.
fn refuse_run(name: &str, target: &str, scenario: &str, more: &[&str], words: &[&str]) {
    let arguments = ["run", "--target", target, "--scenario", scenario];
    refuse(name, &[&arguments[..], more].concat(), words);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = format!("127.0.0.1:{}", free_port());
    for api in ["rtcd", "sluice", "whip"] {
        let scenario = scenario(&format!("nobody-{api}"), SMALL);
        let target = format!("{api}=http://{address}");
        refuse_run(&format!("nobody-{api}"), &target, &scenario, &[], &[&address]);
    }
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let server = Server::start("no-worker");
    let address = format!("127.0.0.1:{}", free_port());
    let more = ["--workers", &address, "--secret", "sixteen-letters-or-more"];
    refuse_run("no-worker", &server.target("rtcd"), "smoke", &more, &["worker", &address]);
    assert_eq!(server.sessions(), 0);
}

#[test]
fn a_public_address_needs_consent() {
    // Of a block that is reserved for documentation (RFC 5737): nobody is there.
    let target = "sluice=http://192.0.2.1:8045";
    refuse_run("public", target, "smoke", &[], &["192.0.2.1", "--allow-public"]);
}

#[test]
fn targets_that_are_not_understood_are_named() {
    let cases = [
        ("api", "livekit=http://127.0.0.1:1", "livekit"),
        ("scheme", "rtcd=https://127.0.0.1:1", "https"),
        ("form", "127.0.0.1:8045", "127.0.0.1:8045"),
    ];
    for (name, target, word) in cases {
        refuse_run(name, target, "smoke", &[], &[word]);
    }
}

#[test]
fn scenarios_that_cannot_be_are_named_with_what_is_allowed() {
    let target = "rtcd=http://127.0.0.1:1";
    refuse_run("unknown", target, "smok", &[], &["`smok`", "smoke"]);
    refuse_run("no-file", target, "no/such.toml", &[], &["no/such.toml"]);
    let wrong = scenario("wrong", &format!("{SMALL}[churn]\nper_second = 1e9\n"));
    refuse_run("bounds", target, &wrong, &[], &["churn.per_second", &wrong]);
    let mistyped = scenario("mistyped", &format!("{SMALL}[chrun]\nper_second = 1.0\n"));
    refuse_run("key", target, &mistyped, &[], &["chrun", &mistyped]);
    // A player of WHEP takes one audio and one video.
    let crowded = scenario("crowded", "[calls]\ncalls = 1\nparticipants = 3\nunmuted = 2\n");
    refuse_run("whep", "whip=http://127.0.0.1:1", &crowded, &[], &["WHEP", "2 unmuted"]);
    refuse_run("screens", target, "burst", &[], &["24", "the sluice API"]);
}

#[test]
fn numbers_out_of_bounds_are_named() {
    let target = "rtcd=http://127.0.0.1:1";
    for (name, option, value) in [
        ("verify-none", "--verify", "0"),
        ("verify-more", "--verify", "1.5"),
        ("verify-nan", "--verify", "NaN"),
        ("scale", "--scale", "2"),
        ("threads", "--threads", "65"),
    ] {
        refuse_run(name, target, "smoke", &[option, value], &[option, value]);
    }
    refuse_run("measure", target, "smoke", &["--measure-s", "0.5"], &["measure_s", "0.5"]);
    let words = ["no workers", "--threads", "--workers"];
    refuse_run("nobody", "sluice=http://127.0.0.1:1", "smoke", &["--threads", "0"], &words);
}

#[test]
fn runs_that_frames_do_not_allow_are_refused_with_those_that_they_do() {
    let paced = ["floor", "--paced", "--scenario", "smoke", "--run-of", "99"];
    refuse("run-of", &paced, &["99", "smoke have 1.00 to"]);
    refuse("paced", &["floor", "--paced"], &["--scenario"]);
}

#[test]
fn a_worker_that_others_could_reach_needs_a_secret() {
    refuse("worker-open", &["worker", "--listen", "0.0.0.0:0"], &["--secret", "0.0.0.0:0"]);
}
