//! Runs that do not get to their end.

use crate::support::{Bench, PEOPLE, SMALL, Server, count, number, scenario};

/// A run that would take ten minutes, while it measures.
fn measuring(server: &Server, name: &str, api: &str) -> Bench {
    let (target, scenario) = (server.target(api), scenario(name, SMALL));
    let arguments = [
        "run",
        "--target",
        &target,
        "--scenario",
        &scenario,
        "--measure-s",
        "600",
        "--verify",
        "0.1",
        "--json",
        "result.json",
    ];
    let mut run = Bench::start(name, &arguments);
    run.await_words(" measuring ");
    run
}

#[test]
fn ctrl_c_ends_a_run_in_order_with_a_result_that_says_so() {
    let server = Server::start("ctrl-c");
    let run = measuring(&server, "ctrl-c", "rtcd");
    assert_eq!(server.sessions(), PEOPLE);
    run.interrupt();
    let run = run.finish();
    assert_eq!(run.code, Some(1), "{}", run.errors);
    let result = run.result();
    assert_eq!(result["partial"], true, "{result:#}");
    assert!(number(&result, "/elapsed_s") < 600.0, "{result:#}");
    assert!(count(&result, "/loss/expected") > 0, "{result:#}");
    assert_eq!(count(&result, "/loss/lost"), 0, "{result:#}");
    assert_eq!(count(&result, "/join_us/count"), PEOPLE, "{result:#}");
    assert!(run.output.contains("partial"), "{}", run.output);
    server.assert_empty();
}

#[test]
fn a_run_whose_server_dies_fails_and_says_of_whom() {
    for api in ["rtcd", "sluice"] {
        let name = format!("death-{api}");
        let mut server = Server::start(&name);
        let run = measuring(&server, &name, api);
        server.kill();
        let run = run.finish();
        assert_eq!(run.code, Some(1), "{}", run.errors);
        assert!(run.errors.contains("the server"), "{}", run.errors);
    }
}
