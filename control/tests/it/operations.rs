//! Metrics, health, readiness, node.

use serde_json::{Value, json};
use sluice_control::service::DrainCause;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::ShardId;
use sluice_engine::metrics::ShardCounters;

use crate::support::{Server, sdp};

#[tokio::test]
async fn metrics_hold_every_counter_of_every_shard() {
    let server = Server::with_shards(2, &[]);
    server.call("c").await;
    server.join("c", "Ann", &sdp::publishing()).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let lines: Vec<&str> = answer.body.lines().collect();
    for shard in 0..2 {
        for (name, help, _) in ShardCounters::default().iter() {
            let value = format!("sluice_shard_{name}_total{{shard=\"{shard}\"}} 0");
            assert!(lines.contains(&value.as_str()), "{value}");
            assert!(
                lines.contains(&format!("# HELP sluice_shard_{name}_total {help}.").as_str()),
                "{name}"
            );
        }
        for reason in DropReason::ALL {
            let label = reason.label();
            let value =
                format!("sluice_shard_drops_total{{shard=\"{shard}\",reason=\"{label}\"}} 0");
            assert!(lines.contains(&value.as_str()), "{value}");
        }
        assert!(lines.contains(&format!("sluice_shard_up{{shard=\"{shard}\"}} 1").as_str()));
    }
    assert!(lines.contains(&"sluice_shard_sessions{shard=\"0\"} 1"));
    assert!(lines.contains(&"sluice_sessions 1") && lines.contains(&"sluice_calls 1"));
}

/// Without traffic: what rtcd's dashboard reads of the process, and counters that stand at zero from the start.
#[tokio::test]
async fn metrics_hold_what_stands_for_a_go_process() {
    let server = Server::new();
    let text = server.get("/metrics").await.body;
    for (name, kind) in [
        ("rtcd_process_cpu_seconds_total", "counter"),
        ("rtcd_process_open_fds", "gauge"),
        ("rtcd_process_max_fds", "gauge"),
        ("rtcd_process_virtual_memory_bytes", "gauge"),
        ("rtcd_process_virtual_memory_max_bytes", "gauge"),
        ("rtcd_process_resident_memory_bytes", "gauge"),
        ("rtcd_process_start_time_seconds", "gauge"),
        ("go_goroutines", "gauge"),
        ("go_memstats_heap_inuse_bytes", "gauge"),
        ("go_memstats_stack_inuse_bytes", "gauge"),
    ] {
        assert!(text.contains(&format!("\n# TYPE {name} {kind}\n")), "{name}: {text}");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{name}"));
        assert!(value > 0.0 || kind == "counter" || name == "go_goroutines", "{name} {value}");
    }
    assert!(text.contains("rtcd_rtc_conn_states_total{type=\"connected\"} 0\n"));
}

#[tokio::test]
async fn metrics_are_compressed_for_those_who_take_it() {
    let server = Server::new();
    let plain = server.get("/metrics").await;
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        (None, Some("accept-encoding"))
    );
    let answer = server.ask("GET", "/metrics", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let length: usize =
        answer.header("content-length").expect("a length").parse().expect("a number");
    assert!(length * 3 < answer.body.len(), "{length} of {}", answer.body.len());
    for name in plain.body.lines().filter(|line| line.starts_with("# TYPE")) {
        assert!(answer.body.lines().any(|line| line == name), "{name} is missing");
    }
}

#[tokio::test]
async fn requests_are_counted_under_labels_that_no_client_chooses() {
    let server = Server::new();
    server.get("/v1/calls/one").await;
    server.get("/v1/calls/two").await;
    server.ask("BREW", "/v1/calls", &[], "").await;
    server.get("/made-up/by/a/stranger").await;
    let text = server.get("/metrics").await.body;
    let route = "sluice_http_requests_total{route=\"/v1/calls/{call}\",method=\"GET\",status=\"404\"} \
             2";
    assert!(text.contains(route), "{text}");
    assert!(text.contains("method=\"other\",status=\"405\""), "{text}");
    for chosen in ["BREW", "stranger", "one\"", "two\""] {
        assert!(!text.contains(chosen), "{chosen}: {text}");
    }
}

#[tokio::test]
async fn readiness_ends_with_a_silent_shard_or_a_drain() {
    let server = Server::with_shards(2, &[]);
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    server.service.begin_drain(DrainCause::Signal);
    let draining = server.get("/readyz").await;
    assert_eq!((draining.status.as_u16(), draining.problem().as_str()), (503, "unavailable"));
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_within_a_second_is_shown_as_down() {
    let server = Server::with_shards(2, &[]);
    server.plane.silence(ShardId(1));
    let before = tokio::time::Instant::now();
    assert_eq!(server.get("/readyz").await.status, 503);
    assert!(before.elapsed() < std::time::Duration::from_millis(1_500));
    let node = server.get("/v1/node").await.json();
    assert_eq!(
        (&node["shards"][0]["sessions"], &node["shards"][1]["sessions"]),
        (&json!(0), &Value::Null)
    );
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("sluice_shard_up{shard=\"1\"} 0\n"));
    assert!(metrics.contains("sluice_shard_turns_total{shard=\"0\"} 0\n"));
    assert!(!metrics.contains("sluice_shard_turns_total{shard=\"1\"}"));
}

#[tokio::test]
async fn the_node_shows_what_runs() {
    let server = Server::with_shards(2, &[]);
    server.call("c").await;
    server.join("c", "Ann", &sdp::publishing()).await;
    let node = server.get("/v1/node").await.json();
    assert_eq!(
        (&node["backend"], &node["backend_reason"]),
        (&json!("mmsg"), &json!("the kernel refuses io_uring"))
    );
    assert_eq!(node["udp"], json!(["192.0.2.7:8443", "127.0.0.1:8443"]));
    assert_eq!((&node["calls"], &node["sessions"]), (&json!(1), &json!(1)));
    assert_eq!(node["shards"].as_array().map(Vec::len), Some(2));
    assert_eq!(node["shards"][0]["load_permille"], 7);
    assert_eq!(node["host"]["net.core.rmem_max"], Value::Null);
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_page_is_served_with_a_policy() {
    let server = Server::new();
    for (path, media_type) in
        [("/", "text/html"), ("/call.js", "text/javascript"), ("/call.css", "text/css")]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").is_some_and(|t| t.starts_with(media_type)));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn a_drain_lets_calls_go_on_and_nobody_in_until_it_is_undone() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let node = server.get("/v1/node").await.json();
    assert_eq!((&node["state"], &node["drain"]), (&json!("running"), &Value::Null));

    let drain = server.post("/v1/node/drain", json!({})).await;
    assert_eq!(drain.status, 200);
    let drain = drain.json();
    assert_eq!((&drain["cause"], &drain["sessions_left"]), (&json!("api"), &json!(1)));
    assert!(drain["since_unix_s"].as_u64().is_some_and(|s| s > 1_700_000_000), "{drain}");
    assert_eq!(server.post("/v1/node/drain", json!({})).await.json(), drain, "once is enough");
    let node = server.get("/v1/node").await.json();
    assert_eq!((&node["state"], &node["drain"]), (&json!("draining"), &drain));
    assert_eq!(server.get("/readyz").await.status, 503);
    let whip = [("content-type", "application/sdp")];
    for refused in [
        server.post("/v1/calls", json!({})).await,
        server.post("/v1/calls/c/sessions", json!({})).await,
        server.ask("POST", "/whip/new", &whip, sdp::publishing()).await,
    ] {
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "unavailable"));
    }
    // Who is in a call stays there and can go on negotiating.
    let session = format!("/v1/calls/c/sessions/{}", ann["session"]["id"].as_str().expect("an id"));
    let restart = server.post(&format!("{session}/ice-restart"), json!({})).await;
    assert_eq!(restart.status, 200, "{restart:?}");

    assert_eq!(server.delete("/v1/node/drain").await.status, 204);
    assert_eq!(server.delete("/v1/node/drain").await.status, 204, "nothing is left to undo");
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.get("/v1/node").await.json()["state"], "running");
    server.join("c", "Bob", &sdp::publishing()).await;
}

#[tokio::test]
async fn a_drain_by_signal_cannot_be_undone() {
    let server = Server::new();
    assert_eq!(server.post("/v1/node/drain", json!({})).await.status, 200);
    let drain = server.service.begin_drain(DrainCause::Signal);
    assert_eq!(server.service.drain(), Some(drain));
    let refused = server.delete("/v1/node/drain").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (409, "stopping"));
    let node = server.get("/v1/node").await.json();
    assert_eq!((&node["state"], &node["drain"]["cause"]), (&json!("draining"), &json!("signal")));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_over_when_the_last_session_has_left() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    server.service.begin_drain(DrainCause::Signal);
    let hour = std::time::Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, server.service.emptied()).await.is_err());
    assert_eq!(server.service.sessions_left(), 1);
    let path = format!("/v1/calls/c/sessions/{}", ann["session"]["id"].as_str().expect("an id"));
    assert_eq!(server.delete(&path).await.status, 204);
    assert!(tokio::time::timeout(hour, server.service.emptied()).await.is_ok());
}
