//! Workers in processes of their own.

use crate::support::{
    Bench, PATIENCE, PEOPLE, RECEIVERS, SMALL, Server, assert_clean, assert_judged, bench, count,
    scenario, wait_until,
};

const SECRET: &str = "sixteen-letters-or-more";

/// A worker on a free port, and where it is.
fn worker(name: &str) -> (Bench, String) {
    let arguments = ["worker", "--listen", "127.0.0.1:0", "--secret", SECRET];
    let mut worker = Bench::start(&format!("{name}-worker"), &arguments);
    let address = worker.await_words("waiting for controllers on ");
    (worker, address)
}

#[test]
fn a_thread_here_and_a_worker_elsewhere_share_one_run() {
    let server = Server::start("workers");
    let (_worker, address) = worker("workers");
    let scenario = scenario("workers", SMALL);
    let run = bench(
        "workers",
        &[
            "run",
            "--target",
            &server.target("rtcd"),
            "--scenario",
            &scenario,
            "--verify",
            "0.1",
            "--workers",
            &address,
            "--secret",
            SECRET,
            "--json",
            "result.json",
        ],
    );
    let result = run.result();
    assert_judged(&run, &result);
    assert_clean(&result);
    assert_eq!(count(&result, "/generator/workers"), 2, "{result:#}");
    assert_eq!(count(&result, "/join_us/count"), PEOPLE, "{result:#}");
    let sent = count(&result, "/traffic/packets_in");
    assert_eq!(count(&result, "/loss/expected"), sent * RECEIVERS, "{result:#}");
    let everything = run.file("result.json") + &run.output + &run.errors;
    assert!(!everything.contains(SECRET), "{everything}");
    server.assert_empty();
}

#[test]
fn a_worker_takes_no_orders_from_who_does_not_know_the_secret() {
    let server = Server::start("secret");
    let (worker, address) = worker("secret");
    let scenario = scenario("secret", SMALL);
    let target = server.target("rtcd");
    let known = ["run", "--target", &target, "--scenario", &scenario, "--workers", &address];
    for (name, secret) in [("secret-other", "sixteen-other-letters"), ("secret-none", "")] {
        let mut arguments = known.to_vec();
        if !secret.is_empty() {
            arguments.extend(["--secret", secret]);
        }
        let run = bench(name, &arguments);
        assert_eq!(run.code, Some(1), "{}", run.errors);
        let words = format!("worker {address} closed the connection: another secret");
        assert!(run.errors.contains(&words), "{}", run.errors);
    }
    wait_until(
        "it says why",
        PATIENCE,
        || worker.errors(),
        || worker.errors().matches("refused: it does not know the secret").count() == 2,
    );
    assert_eq!(server.sessions(), 0);
}

#[test]
fn a_worker_whose_controller_dies_takes_its_clients_down_and_serves_the_next() {
    let server = Server::start("orphan");
    let (mut worker, address) = worker("orphan");
    let scenario = scenario("orphan", SMALL);
    let target = server.target("rtcd");
    let run = |name: &str, measure_s: &str| {
        let arguments = [
            "run",
            "--target",
            &target,
            "--scenario",
            &scenario,
            "--measure-s",
            measure_s,
            "--threads",
            "0",
            "--workers",
            &address,
            "--secret",
            SECRET,
            "--json",
            "result.json",
        ];
        Bench::start(name, &arguments)
    };
    let mut controller = run("orphan-first", "600");
    server.await_sessions(PEOPLE);
    controller.kill();
    server.assert_empty();
    worker.await_words(": done");

    let second = run("orphan-second", "1").finish();
    let result = second.result();
    assert_judged(&second, &result);
    assert_clean(&result);
    assert_eq!(count(&result, "/generator/workers"), 1, "{result:#}");
    server.assert_empty();
}
