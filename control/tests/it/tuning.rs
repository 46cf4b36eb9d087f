//! What the node says of its host, and what the API may change there.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sluice_engine::config::EngineConfig;
use sluice_engine::io::probe::Backend;
use sluice_engine::shard::limits;
use sluice_tuning::demand::{Demand, Goal};
use sluice_tuning::facts::Facts;
use sluice_tuning::testing::Tree;

use crate::support::{Answer, Server, sdp};

const TOKEN: &str = "correct-horse-battery";
const APPLY: &[(&str, &str)] = &[("tuning.mode", "apply"), ("api.native.token", TOKEN)];
const RMEM_MAX: &str = "proc/sys/net/core/rmem_max";

/// A stock host, and a process without a capability.
fn stock() -> Tree {
    let tree = Tree::stock_vm();
    tree.write("proc/self/status", "CapEff:\t0000000000000000\nSeccomp:\t0\n");
    tree
}

/// As the holder of the token.
async fn ask(server: &Server, method: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    server.ask(method, path, &[("authorization", &bearer)], "").await
}

fn setting<'a>(tuning: &'a Value, key: &str) -> &'a Value {
    let settings = tuning["settings"].as_array().expect("settings");
    settings.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key}"))
}

/// One sample of the metric, which is there.
async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

#[tokio::test]
async fn the_node_tells_how_its_host_stands() {
    let tree = stock();
    let before = tree.snapshot();
    let server = Server::on_host(tree.host(), 1, &[("tuning.load", "1x300 1u screen")]);
    let node = server.get("/v1/node").await.json();
    assert_eq!(node["tuning"]["mode"], "check");
    assert_eq!(node["tuning"]["load"], "1x300 1u screen");
    assert_eq!(node["cores"], json!([0]));
    let wrong = node["tuning"]["wrong"].as_u64().expect("a number");
    assert!(wrong > 0, "{node}");
    assert_eq!(metric(&server, "sluice_tuning_settings{verdict=\"wrong\"}").await, wrong);
    let wanted = metric(&server, "sluice_socket_buffer_wanted_bytes{direction=\"receive\"}").await;
    assert_eq!(node["receive_buffer_bytes_wanted"], wanted);

    let tuning = server.get("/v1/node/tuning").await.json();
    assert_eq!(tuning["summary"], node["tuning"]);
    let buffer = setting(&tuning, "net.core.rmem_max");
    assert_eq!(
        (&buffer["found"], &buffer["verdict"]),
        (&json!("212992 (208 KiB)"), &json!("wrong"))
    );
    assert_eq!(buffer["commands"], json!(["sysctl -w net.core.rmem_max=16777216"]));
    for text in ["wanted", "formula", "why", "source", "effect"] {
        assert!(buffer[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {buffer}");
    }
    assert_eq!(tree.snapshot(), before, "looking changes nothing");
}

#[tokio::test]
async fn a_look_shows_what_changed_meanwhile() {
    let tree = stock();
    let server = Server::on_host(tree.host(), 1, &[]);
    let wrong = metric(&server, "sluice_tuning_settings{verdict=\"wrong\"}").await;
    tree.write(RMEM_MAX, "33554432\n");
    let tuning = server.get("/v1/node/tuning").await.json();
    assert_eq!(setting(&tuning, "net.core.rmem_max")["verdict"], "good");
    assert_eq!(metric(&server, "sluice_tuning_settings{verdict=\"wrong\"}").await, wrong - 1);
}

#[tokio::test]
async fn without_permission_the_host_stays_as_it_is() {
    let tree = stock();
    let before = tree.snapshot();
    for mode in ["check", "off"] {
        let settings = [("tuning.mode", mode), ("api.native.token", TOKEN)];
        let server = Server::on_host(tree.host(), 1, &settings);
        for path in ["/v1/node/tuning/apply", "/v1/node/tuning/restore"] {
            let answer = ask(&server, "POST", path).await;
            assert_eq!(answer.status, 403);
            assert_eq!(answer.problem(), "tuning-not-allowed");
            assert!(answer.body.contains("--tune apply"), "{answer:?}");
        }
    }
    assert_eq!(tree.snapshot(), before);
}

#[tokio::test]
async fn a_server_that_may_tunes_its_host_at_start_and_puts_it_back_when_asked() {
    let tree = stock();
    let server = Server::on_host(tree.host(), 1, APPLY);
    assert_eq!(tree.text(RMEM_MAX), "16777216");
    let answer = ask(&server, "POST", "/v1/node/tuning/restore").await;
    assert_eq!(answer.status, 200);
    let done = answer.json();
    assert_eq!(tree.text(RMEM_MAX), "212992");
    let command = "sysctl -w net.core.rmem_max=212992";
    assert!(done["done"].as_array().expect("a list").contains(&json!(command)), "{done}");
    assert_eq!(setting(&done["tuning"], "net.core.rmem_max")["verdict"], "wrong");
    let again = ask(&server, "POST", "/v1/node/tuning/restore").await.json();
    assert_eq!(again["done"], json!([]));

    let applied = ask(&server, "POST", "/v1/node/tuning/apply").await.json();
    assert_eq!(tree.text(RMEM_MAX), "16777216");
    assert_eq!(setting(&applied["tuning"], "net.core.rmem_max")["verdict"], "good");
    let twice = ask(&server, "POST", "/v1/node/tuning/apply").await.json();
    assert_eq!(twice["done"], json!([]));
}

#[tokio::test]
async fn a_host_that_refuses_is_left_as_it_was() {
    let tree = stock();
    tree.refuse_writes("proc/sys/net/core/wmem_max");
    let before = tree.text(RMEM_MAX);
    let server = Server::on_host(tree.host(), 1, APPLY);
    assert_eq!(tree.text(RMEM_MAX), before);
    let answer = ask(&server, "POST", "/v1/node/tuning/apply").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (409, "tuning-refused"));
    assert!(answer.body.contains("net.core.wmem_max"), "{answer:?}");
    assert_eq!(tree.text(RMEM_MAX), before);
}

#[tokio::test]
async fn nobody_changes_the_host_without_a_token() {
    let tree = stock();
    let server = Server::on_host(tree.host(), 1, &[("tuning.mode", "apply")]);
    let tuned = tree.snapshot();
    for path in ["/v1/node/tuning/apply", "/v1/node/tuning/restore"] {
        let answer = server.ask("POST", path, &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (403, "tuning-not-allowed")
        );
        assert!(answer.body.contains("SLUICE_API_TOKEN"), "{answer:?}");
    }
    assert_eq!(tree.snapshot(), tuned);
}

#[tokio::test]
async fn what_only_could_be_better_does_not_hold_up_what_is_needed() {
    let tree = stock();
    tree.refuse_writes("proc/sys/net/core/optmem_max");
    let server = Server::on_host(tree.host(), 1, APPLY);
    assert_eq!(tree.text(RMEM_MAX), "16777216");
    let applied = ask(&server, "POST", "/v1/node/tuning/apply").await.json();
    assert_eq!(applied["done"], json!([]));
    assert!(applied["left"].to_string().contains("net.core.optmem_max"), "{applied}");
}

#[tokio::test]
async fn cards_stay_on_the_network_while_calls_run() {
    let tree = Tree::dedicated();
    let server = Server::on_host(tree.host(), 1, APPLY);
    ask(&server, "POST", "/v1/node/tuning/restore").await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let call = server.ask("POST", "/v1/calls", &headers, r#"{"id": "c"}"#).await;
    assert_eq!(call.status, 201);
    let offer = json!({"name": "Ann", "offer": {"type": "offer", "sdp": sdp::publishing()}});
    let joined = server.ask("POST", "/v1/calls/c/sessions", &headers, offer.to_string()).await;
    assert_eq!(joined.status, 201, "{joined:?}");
    let before = tree.snapshot();
    let applied = ask(&server, "POST", "/v1/node/tuning/apply").await.json();
    assert!(applied["left"].to_string().contains("ethtool -G"), "{applied}");
    assert!(!applied["done"].to_string().contains("ethtool -G"), "{applied}");
    let ring = |files: &BTreeMap<_, String>| files[Path::new("ethtool/eth0/rx")].clone();
    assert_eq!(ring(&tree.snapshot()), ring(&before));
}

#[tokio::test]
async fn nobody_looks_when_tuning_is_off() {
    let server = Server::on_host(stock().host(), 1, &[("tuning.mode", "off")]);
    let tuning = server.get("/v1/node/tuning").await.json();
    assert_eq!((&tuning["summary"]["mode"], &tuning["settings"]), (&json!("off"), &json!([])));
    assert_eq!(metric(&server, "sluice_tuning_settings{verdict=\"wrong\"}").await, 0);
}

/// The tuning crate knows nothing of the engine, so it repeats what the engine reserves.
#[test]
fn a_shard_is_reckoned_with_what_it_reserves() {
    let reserved = |shards| {
        let config = EngineConfig { shards, ..EngineConfig::default() };
        limits::bytes_at_start(&config, Backend::Uring) as u64
    };
    let reckoned = |shards| {
        let goal = Goal { shards: Some(shards), ..Goal::default() };
        let memory = Demand::of(&goal, &Facts::default()).memory_bytes.value;
        // The rest is of the load: a history of its screen on each shard.
        memory - u64::from(shards) * 512 * 1_500
    };
    for (few, many) in [(1, 2), (2, 8)] {
        let reserved = reserved(many as u16) - reserved(few as u16);
        let reckoned = reckoned(many) - reckoned(few);
        let share = reckoned as f64 / reserved as f64;
        assert!((0.9..1.1).contains(&share), "{few} to {many} shards: {reckoned} and {reserved}");
    }
}
