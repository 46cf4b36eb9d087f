//! What a scenario expects of a run, and the kernel's counters that say why it was not so.

use serde_json::Value;

use crate::support::{Finished, SMALL, Server, assert_judged, bench, count, number, scenario};

/// Runs a scenario by the native API.
fn run(server: &Server, name: &str, keys: &str) -> (Finished, Value) {
    let (target, scenario) = (server.target("sluice"), scenario(name, keys));
    let arguments = ["run", "--target", &target, "--scenario", &scenario, "--json", "result.json"];
    let run = bench(name, &arguments);
    let result = run.result();
    (run, result)
}

#[test]
fn a_burst_that_a_small_socket_buffer_does_not_hold_fails_a_run_that_expects_no_loss() {
    // Room for some fifty packets of a thousand that come at once.
    let settings = [
        ("SLUICE_ENGINE_SHARDS", "1"),
        ("SLUICE_ENGINE_BACKEND", "mmsg"),
        ("SLUICE_ENGINE_SOCKET_BUFFER_BYTES", "65536"),
    ];
    let server = Server::start_with("burst", &settings);
    let burst = "[calls]\ncalls = 1\nparticipants = 16\nscreens = 4\n\
        [screen]\nrate_bps = 3_000_000\nframe_rate = 5\nspread_ms = 0\n\
        keyframe_times = 4\nkeyframe_s = 1\nin_step = true\n\
        [time]\nwarmup_s = 0.5\nmeasure_s = 2.0\n[expect]\nloss_max = 0.0\n";
    let (run, result) = run(&server, "burst", burst);
    assert_eq!(run.code, Some(1), "{}", run.errors);
    let dropped = count(&result, "/loss/server_sockets");
    assert!(dropped > 0, "{result:#}");
    assert!(number(&result, "/loss/share") > 0.0, "{result:#}");
    // Other tests may drop datagrams in this namespace as well.
    assert_eq!(result["kernel"]["is_shared"], true, "{result:#}");
    for name in ["rcvbuf_errors", "in_errors"] {
        let [before, after] =
            ["before", "after"].map(|at| count(&result, &format!("/kernel/{at}/{name}")));
        assert!(after - before >= dropped, "{name}: {result:#}");
    }
    match result["valid"] == true {
        true => {
            assert!(run.output.contains("Counters of the kernel"), "{}", run.output);
            assert_eq!(result["as_expected"], false, "{result:#}");
            let why = result["problems"].to_string();
            assert!(why.contains("net.core.rmem_max"), "{why}");
        }
        false => assert!(result["as_expected"].is_null(), "{result:#}"),
    }
    server.assert_empty();
}

#[test]
fn a_run_with_no_more_loss_than_is_expected_succeeds() {
    let server = Server::start("expected");
    let (run, result) = run(&server, "expected", &format!("{SMALL}[expect]\nloss_max = 1.0\n"));
    assert_judged(&run, &result);
    let expected = if result["valid"] == true { Value::Bool(true) } else { Value::Null };
    assert_eq!(result["as_expected"], expected, "{result:#}");
    server.assert_empty();
}
