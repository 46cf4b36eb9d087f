//! `/debug/profile`: who may ask, for what, and what a real one says.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;

use crate::rtcd::http::{self, basic};
use crate::rtcd::server;
use crate::support::Server;

const ELSEWHERE: &str = "192.0.2.9:4000";
const TOKEN: &str = "correct-horse-battery";
const ADMIN: &str = "admin-secret";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A request that is refused for its values, but only after it was let in.
const NO_TIME: &str = "/debug/profile?seconds=0";

/// Asks from another host; `authorization` is a whole line, as [`basic`] makes them.
async fn ask(server: &Server, authorization: Option<&str>) -> (u16, String) {
    let mut request = Request::builder().uri(NO_TIME).header("host", "sluice.example.org");
    if let Some((name, value)) = authorization.and_then(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let answer = server.send(ELSEWHERE, request.body(Body::empty()).expect("a request")).await;
    (answer.status.as_u16(), answer.problem())
}

fn refused(status: u16, problem: &str) -> (u16, String) {
    (status, problem.to_owned())
}

#[tokio::test]
async fn only_whoever_may_use_the_native_api_is_answered() {
    let open = Server::new();
    assert_eq!(ask(&open, None).await, refused(403, "loopback-only"));
    let as_admin = basic("admin", ADMIN);
    assert_eq!(ask(&open, Some(&as_admin)).await, refused(403, "loopback-only"), "there is none");
    assert_eq!(open.get(NO_TIME).await.status, 400, "this host is let in");

    let server = Server::with(&[("api.native.token", TOKEN)]);
    assert_eq!(ask(&server, None).await, refused(401, "unauthorized"));
    assert_eq!(server.get(NO_TIME).await.status, 401, "so is this host");
    let wrong = format!("authorization: Bearer {TOKEN}x");
    assert_eq!(ask(&server, Some(&wrong)).await, refused(401, "unauthorized"));
    let right = format!("authorization: Bearer {TOKEN}");
    assert_eq!(ask(&server, Some(&right)).await, refused(400, "bad-request"));
}

#[tokio::test]
async fn of_those_whom_rtcd_knows_only_the_admin_is_answered() {
    let server = Server::with(&[
        ("api.security.enable_admin", "true"),
        ("api.security.admin_secret_key", ADMIN),
        ("api.security.allow_self_registration", "true"),
    ]);
    let client = serde_json::json!({"clientID": "plugin", "authKey": KEY});
    assert_eq!(server.post("/register", client).await.status, 201);

    assert_eq!(ask(&server, Some(&basic("any", ADMIN))).await, refused(400, "bad-request"));
    assert_eq!(ask(&server, Some(&basic("plugin", KEY))).await, refused(403, "admin-only"));
    let wrong = basic("plugin", &KEY.replace('0', "1"));
    assert_eq!(ask(&server, Some(&wrong)).await, refused(401, "unauthorized"));
    assert_eq!(ask(&server, Some("authorization: Basic")).await, refused(401, "unauthorized"));
    assert_eq!(ask(&server, None).await, refused(403, "loopback-only"));
}

#[tokio::test]
async fn values_out_of_bounds_are_refused_with_the_bounds() {
    let server = Server::new();
    for (query, allowed) in [
        ("seconds=121", "1 to 120"),
        ("seconds=x", "1 to 120"),
        ("frequency=0", "1 to 999"),
        ("frequency=1000&seconds=1", "1 to 999"),
        ("minutes=1", "seconds and frequency"),
        ("seconds=1&seconds=1", "twice"),
        ("seconds=%ff", "1 to 120"),
    ] {
        let answer = server.get(&format!("/debug/profile?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), refused(400, "bad-request"));
        assert!(answer.body.contains(allowed), "{query}: {answer:?}");
    }
    assert_eq!(server.post("/debug/profile", serde_json::json!({})).await.status, 405);
}

/// Whether this kernel lets no process sample itself, which must then be what the server says. Everything else that is no profile fails.
fn is_refused_by_the_kernel(status: u16, body: &str) -> bool {
    if [200, 409].contains(&status) {
        return false;
    }
    assert_eq!(status, 503, "{body}");
    for part in ["profile-refused", "perf_event_open", "kernel.perf_event_paranoid", "CAP_PERFMON"]
    {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    eprintln!("NOT TESTED: this kernel lets no process sample itself. The server says: {body}");
    true
}

#[tokio::test]
async fn a_second_one_at_once_is_refused_until_the_client_of_the_first_has_gone() {
    let mut server = Server::new();
    let address = server.listen().await;
    let first = tokio::spawn(http::ask(address, "GET", "/debug/profile?seconds=120", &[], ""));
    let begun = async {
        while !server.app.profiler.is_busy() && !first.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), begun).await.is_ok(), "no beginning");
    let short = async || server.get("/debug/profile?seconds=1&frequency=1").await;
    let answer = short().await;
    if is_refused_by_the_kernel(answer.status.as_u16(), &answer.body) {
        return;
    }
    assert_eq!((answer.status.as_u16(), answer.problem()), refused(409, "profile-running"));
    first.abort();
    let freed = async {
        loop {
            let answer = short().await;
            if answer.status != 409 {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), freed).await.expect("it ends");
    // The first may have been met in the moment in which the kernel refused it.
    if !is_refused_by_the_kernel(answer.status.as_u16(), &answer.body) {
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_profile_names_the_busy_threads_and_the_functions_they_are_in() {
    let server = server::Server::start().await;
    let address = server.http;
    let load = tokio::spawn(async move {
        loop {
            http::ask(address, "GET", "/metrics", &[], "").await;
        }
    });
    let path = "/debug/profile?seconds=2&frequency=999";
    let answer = http::ask(address, "GET", path, &[], "").await;
    load.abort();
    if is_refused_by_the_kernel(answer.status, &answer.body) {
        return;
    }
    assert!(answer.head.contains("content-type: text/plain"), "{}", answer.head);
    let lines: Vec<(&str, u64)> = answer
        .body
        .lines()
        .map(|line| line.rsplit_once(' ').expect("a stack and a count"))
        .map(|(stack, count)| (stack, count.parse().expect("a count")))
        .collect();
    let samples: u64 = lines.iter().map(|(_, count)| count).sum();
    let stated = format!("sluice-profile: samples={samples}, lost=0, not-kept=0, threads=");
    assert!(answer.head.contains(&stated), "{stated} in {}", answer.head);
    assert!(lines.is_sorted_by(|a, b| a.1 >= b.1), "the most frequent comes first");
    // Up to where the thread began: with frame pointers missing anywhere between, that would not be seen.
    let whole = lines.iter().find(|(stack, _)| {
        stack.starts_with("control;")
            && stack.contains("::thread_start;")
            && stack.contains("control::metrics::")
    });
    assert!(whole.is_some(), "none of the runtime's threads writes metrics:\n{}", answer.body);
}
