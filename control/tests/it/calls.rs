//! Calls: made, listed, shown, deleted.

use std::time::Duration;

use serde_json::json;
use sluice_engine::clock;
use sluice_engine::ids::ShardId;

use crate::support::{Server, sdp};

#[tokio::test]
async fn a_call_is_made_listed_shown_and_deleted() {
    let server = Server::new();
    let made = server.post("/v1/calls", json!({"id": "stand-up"})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), Some("/v1/calls/stand-up"));
    let call = json!({"id": "stand-up", "shard": 0, "sessions": 0, "tracks": 0});
    assert_eq!(made.json(), call);
    assert_eq!(server.get("/v1/calls").await.json(), json!({"calls": [call]}));
    assert_eq!(server.get("/v1/calls/stand-up").await.json(), call);
    assert_eq!(server.get("/v1/calls/stand-up/tracks").await.json(), json!({"tracks": []}));
    assert_eq!(server.delete("/v1/calls/stand-up").await.status, 204);
    assert_eq!(server.delete("/v1/calls/stand-up").await.problem(), "unknown-call");
    assert_eq!(server.get("/v1/calls").await.json(), json!({"calls": []}));
}

#[tokio::test]
async fn without_an_id_the_server_picks_one() {
    let server = Server::new();
    let first = server.post("/v1/calls", json!({})).await.json();
    let second = server.ask("POST", "/v1/calls", &[], "").await.json();
    assert_eq!(first["id"].as_str().map(str::len), Some(32));
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test]
async fn an_id_that_is_taken_or_cannot_be_one_is_refused() {
    let server = Server::new();
    server.call("c").await;
    assert_eq!(server.post("/v1/calls", json!({"id": "c"})).await.problem(), "call-exists");
    for bad in ["", ".", "..", "a/b", "a b", "<script>", &"x".repeat(65)] {
        let answer = server.post("/v1/calls", json!({ "id": bad })).await;
        assert_eq!(answer.problem(), "bad-request", "{bad}");
    }
}

#[tokio::test]
async fn the_number_of_calls_is_bounded() {
    let server = Server::with(&[("limits.calls", "2")]);
    server.call("a").await;
    server.call("b").await;
    let refused = server.post("/v1/calls", json!({"id": "c"})).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "limit-reached"));
    server.delete("/v1/calls/a").await;
    server.call("c").await;
}

#[tokio::test]
async fn an_empty_call_lives_and_a_deleted_one_takes_its_sessions_along() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let ann = format!("/v1/calls/c/sessions/{}", ann["session"]["id"].as_str().expect("an id"));
    assert_eq!(server.delete(&ann).await.status, 204);
    assert_eq!(server.get("/v1/calls/c").await.json()["sessions"], 0);
    server.join("c", "Bob", &sdp::publishing()).await;
    server.join("c", "Cem", &sdp::publishing()).await;
    assert_eq!(server.plane.sessions().len(), 2);
    assert_eq!(server.delete("/v1/calls/c").await.status, 204);
    assert!(server.plane.sessions().is_empty(), "the engine was told");
    let again = server.post("/v1/calls/c/sessions", json!({})).await;
    assert_eq!(again.problem(), "unknown-call");
}

#[tokio::test]
async fn a_call_until_empty_goes_with_its_last_session_or_when_none_comes() {
    let server = Server::new();
    for call in ["used", "unused"] {
        let body = json!({ "id": call, "until_empty": true });
        assert_eq!(server.post("/v1/calls", body).await.status, 201);
    }
    server.call("kept").await;
    let ann = server.join("used", "Ann", &sdp::publishing()).await;
    let bob = server.join("used", "Bob", &sdp::publishing()).await;
    for (session, left) in [(ann, 200), (bob, 404)] {
        let id = session["session"]["id"].as_str().expect("an id");
        server.delete(&format!("/v1/calls/used/sessions/{id}")).await;
        assert_eq!(server.get("/v1/calls/used").await.status, left);
    }
    for (after, left) in [(29, 200), (31, 404)] {
        let now = clock::now() + Duration::from_secs(after);
        for shard in 0..2 {
            server.service.end_abandoned(ShardId(shard), now).await;
        }
        assert_eq!(server.get("/v1/calls/unused").await.status, left);
        assert_eq!(server.get("/v1/calls/kept").await.status, 200);
    }
}

#[tokio::test]
async fn tracks_name_their_publisher() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let tracks = server.get("/v1/calls/c/tracks").await.json();
    assert_eq!(tracks["tracks"], ann["session"]["tracks"]);
    let tracks = tracks["tracks"].as_array().expect("a list");
    assert_eq!(tracks.len(), 2);
    assert_eq!((&tracks[0]["kind"], &tracks[0]["mid"]), (&json!("audio"), &json!("0")));
    assert_eq!(tracks[0]["codecs"], json!(["opus"]));
    assert_eq!((&tracks[1]["kind"], &tracks[1]["codecs"]), (&json!("video"), &json!(["VP8"])));
    assert!(tracks.iter().all(|t| t["name"] == "Ann" && t["session"] == ann["session"]["id"]));
    assert_eq!(server.get("/v1/calls/c").await.json()["tracks"], 2);
}
