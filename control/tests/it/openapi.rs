//! The served description and the routes say the same.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Server, sdp};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// `METHOD path` of everything that the description names.
async fn documented(server: &Server) -> BTreeSet<String> {
    let document = server.get("/v1/openapi.json").await;
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.")));
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut found = BTreeSet::new();
    for (path, item) in paths {
        let methods = item.as_object().expect("methods").keys();
        found.extend(
            methods
                .filter(|m| METHODS.contains(&m.as_str()))
                .map(|m| format!("{} {path}", m.to_uppercase())),
        );
    }
    found
}

#[tokio::test]
async fn every_documented_operation_exists() {
    let server = Server::new();
    let operations = documented(&server).await;
    assert!(operations.len() >= 14, "{operations:?}");
    for operation in operations {
        // The one before may have deleted them, or let the node drain.
        server.delete("/v1/node/drain").await;
        server.post("/v1/calls", json!({"id": "c"})).await;
        let session = server.join("c", "Ann", &sdp::publishing()).await;
        let (method, path) = operation.split_once(' ').expect("two words");
        let path = path
            .replace("{call}", "c")
            .replace("{session}", session["session"]["id"].as_str().expect("an id"));
        let headers = [("content-type", "application/json")];
        let answer = server.ask(method, &path, &headers, "{}").await;
        assert!(![404, 405, 500].contains(&answer.status.as_u16()), "{operation}: {answer:?}");
    }
}

#[tokio::test]
async fn every_operation_that_exists_is_documented() {
    let server = Server::new();
    let documented = documented(&server).await;
    // Paths are collected from the sources, so that a route that bypasses the description is found.
    let sources = [
        include_str!("../../src/http/native.rs"),
        include_str!("../../src/http/drain.rs"),
        include_str!("../../src/http/tuning.rs"),
        include_str!("../../src/http/ws.rs"),
        include_str!("../../src/http/mod.rs"),
    ];
    let paths: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split('"'))
        .filter(|text| text.starts_with("/v1/") && !text.contains(' ') && !text.contains("{}"))
        .collect();
    assert!(paths.len() >= 11, "{paths:?}");
    // The description itself, and what OpenAPI has no words for.
    let exempt = ["/v1/openapi.json", "/v1/calls/{call}/sessions/{session}/ws"];
    for path in paths.into_iter().filter(|path| !exempt.contains(path)) {
        server.delete("/v1/node/drain").await;
        server.post("/v1/calls", json!({"id": "c"})).await;
        let session = server.join("c", "Ann", &sdp::publishing()).await;
        let url = path
            .replace("{call}", "c")
            .replace("{session}", session["session"]["id"].as_str().expect("an id"));
        for method in METHODS.map(str::to_uppercase) {
            let status = server.ask(&method, &url, &[], "").await.status;
            let operation = format!("{method} {path}");
            assert_eq!(status != 405, documented.contains(&operation), "{operation}: {status}");
        }
    }
}

#[tokio::test]
async fn the_written_documentation_names_every_operation() {
    let text = include_str!("../../../docs/api.md");
    for operation in documented(&Server::new()).await {
        let short = operation.replace("/v1/calls/{call}/sessions/{session}/", "…/{session}/");
        assert!(
            text.contains(&operation) || text.contains(&short),
            "{operation} is not in docs/api.md"
        );
    }
    for code in sluice_control::error::Code::ALL {
        assert!(text.contains(&format!("`{}`", code.as_str())), "{code:?} is not in docs/api.md");
    }
}
