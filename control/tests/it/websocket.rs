//! A session's WebSocket: events, renegotiation both ways, reconnecting, slow and hostile clients.

use std::time::Duration;

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use sluice_control::sdp::SDP_BYTES_MAX;
use sluice_control::service::DrainCause;
use sluice_engine::clock;
use sluice_engine::ids::ShardId;
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::mailbox::Report;
use sluice_engine::srtp::Profile;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, Socket, sdp};

fn id(created: &Value) -> &str {
    created["session"]["id"].as_str().expect("an id")
}

async fn answer_offer(socket: &mut Socket, offer: &Value) {
    let sdp = sdp::answer_to(offer["sdp"].as_str().expect("text"), 1);
    socket.say(json!({"type": "answer", "sdp": sdp, "offer_id": offer["offer_id"]})).await;
}

#[tokio::test]
async fn others_tracks_come_in_one_offer_and_go_in_another() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut ann_socket = server.socket(&ann).await;
    assert_eq!(ann_socket.welcome["sessions"], json!([]));

    let bob = server.join("c", "Bob", &sdp::publishing()).await;
    let joined = ann_socket.next().await;
    assert_eq!(joined, json!({"type": "session_joined", "session": id(&bob), "name": "Bob"}));
    for track in bob["session"]["tracks"].as_array().expect("a list") {
        assert_eq!(ann_socket.next().await, json!({"type": "track_added", "track": track}));
    }
    let offer = ann_socket.next_of("offer").await;
    let text = offer["sdp"].as_str().expect("text");
    assert_eq!(sdp::media_lines(text).len(), 4, "two of Ann's and both of Bob's in one offer");
    assert!(text.contains(&format!("a=msid:{} ", id(&bob))));
    answer_offer(&mut ann_socket, &offer).await;

    let mut bob_socket = server.socket(&bob).await;
    assert_eq!(bob_socket.welcome["sessions"], json!([{"id": id(&ann), "name": "Ann"}]));
    assert_eq!(bob_socket.welcome["tracks"], ann["session"]["tracks"]);
    let offer = bob_socket.next_of("offer").await;
    answer_offer(&mut bob_socket, &offer).await;
    // Asked and answered, so that the answers before it were handled.
    bob_socket.say(json!({"type": "nonsense"})).await;
    bob_socket.next_of("error").await;
    ann_socket.say(json!({"type": "nonsense"})).await;
    ann_socket.next_of("error").await;
    assert_eq!(server.plane.count("AddLeg"), 4);

    bob_socket.say(json!({"type": "leave"})).await;
    assert_eq!(bob_socket.next_of("closed").await["reason"], "the client left");
    assert_eq!(bob_socket.close_code().await, 4000);
    for track in bob["session"]["tracks"].as_array().expect("a list") {
        let removed = json!({"type": "track_removed", "track": track["id"], "session": id(&bob)});
        assert_eq!(ann_socket.next().await, removed);
    }
    assert_eq!(ann_socket.next().await, json!({"type": "session_left", "session": id(&bob)}));
    let offer = ann_socket.next_of("offer").await;
    assert!(!offer["sdp"].as_str().expect("text").contains(id(&bob)));
}

#[tokio::test]
async fn changes_while_an_offer_waits_come_in_the_next_one() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::offer(&[("audio", "0", "sendonly")])).await;
    let mut socket = server.socket(&ann).await;
    server.join("c", "Bob", &sdp::publishing()).await;
    let first = socket.next_of("offer").await;
    server.join("c", "Cem", &sdp::publishing()).await;
    server.join("c", "Dia", &sdp::publishing()).await;
    answer_offer(&mut socket, &first).await;
    let second = socket.next_of("offer").await;
    assert_eq!(second["offer_id"].as_u64(), first["offer_id"].as_u64().map(|n| n + 1));
    assert_eq!(sdp::media_lines(second["sdp"].as_str().expect("text")).len(), 7);
}

#[tokio::test]
async fn a_clients_offer_is_answered_with_its_reference() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::offer(&[("audio", "0", "sendonly")])).await;
    let mut socket = server.socket(&ann).await;
    let more = sdp::offer(&[("audio", "0", "sendonly"), ("video", "1", "sendonly")]);
    socket.say(json!({"type": "offer", "sdp": more, "ref": 7})).await;
    let answer = socket.next().await;
    assert_eq!((&answer["type"], &answer["ref"]), (&json!("answer"), &json!(7)));
    socket.say(json!({"type": "offer", "sdp": more})).await;
    let answer = socket.next().await;
    assert!(answer["type"] == "answer" && answer.get("ref").is_none(), "{answer}");
}

#[tokio::test]
async fn glare_is_won_by_the_server() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::offer(&[("audio", "0", "sendonly")])).await;
    let mut socket = server.socket(&ann).await;
    server.join("c", "Bob", &sdp::offer(&[("audio", "0", "sendonly")])).await;
    let offer = socket.next_of("offer").await;
    let mine = sdp::offer(&[("audio", "0", "sendonly"), ("video", "1", "sendonly")]);
    socket.say(json!({"type": "offer", "sdp": mine, "ref": 3})).await;
    assert_eq!(socket.next().await, json!({"type": "glare", "ref": 3}));
    answer_offer(&mut socket, &offer).await;
    let both = sdp::answer_to(offer["sdp"].as_str().expect("text"), 1);
    assert_eq!(sdp::media_lines(&both).len(), 2);
}

#[tokio::test]
async fn a_reconnect_takes_over_and_gets_the_offer_that_waits() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut old = server.socket(&ann).await;
    server.join("c", "Bob", &sdp::publishing()).await;
    let offer = old.next_of("offer").await;
    let mut new = server.socket(&ann).await;
    assert_eq!(old.close_code().await, 4001);
    assert_eq!(new.next().await, offer);
    assert_eq!(new.welcome["sessions"].as_array().map(Vec::len), Some(1));
    answer_offer(&mut new, &offer).await;
    // The end of the old connection must not take the new one's place away.
    server.join("c", "Cem", &sdp::publishing()).await;
    new.next_of("offer").await;
}

#[tokio::test]
async fn what_happened_without_a_connection_is_told_at_the_next() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    drop(server.socket(&ann).await);
    let bob = server.join("c", "Bob", &sdp::publishing()).await;
    let mut socket = server.socket(&ann).await;
    assert_eq!(socket.welcome["sessions"], json!([{"id": id(&bob), "name": "Bob"}]));
    socket.next_of("offer").await;
}

#[tokio::test]
async fn who_subscribes_to_nothing_is_offered_nothing() {
    let mut server = Server::new();
    server.call("c").await;
    let offer = json!({"type": "offer", "sdp": sdp::publishing()});
    let body = json!({"subscribe": "none", "offer": offer});
    let quiet = server.post("/v1/calls/c/sessions", body).await.json();
    let mut socket = server.socket(&quiet).await;
    let bob = server.join("c", "Bob", &sdp::publishing()).await;
    socket.next_of("track_added").await;
    socket.next_of("track_added").await;
    server.delete(&format!("/v1/calls/c/sessions/{}", id(&bob))).await;
    assert_eq!(socket.next().await["type"], "track_removed", "no offer came in between");
}

#[tokio::test]
async fn the_engines_reports_reach_the_client() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut socket = server.socket(&ann).await;
    let session = server.plane.sessions()[0];
    let connected = Report::Connected { session, profile: Profile::AeadAes256Gcm };
    server.reports[0].try_report(connected).expect("there is room");
    let state = json!({"type": "state", "state": "connected", "profile": "AEAD_AES_256_GCM"});
    assert_eq!(socket.next().await, state);
    let error = SessionError::TimedOut("consent");
    server.reports[0].try_report(Report::Closed { session, error }).expect("there is room");
    assert_eq!(socket.next().await, json!({"type": "closed", "reason": "timed out: consent"}));
    assert_eq!(socket.close_code().await, 4000);
}

#[tokio::test]
async fn hostile_messages_are_refused_and_the_connection_stays() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut socket = server.socket(&ann).await;
    let deep = "[".repeat(50_000);
    for text in ["", "{", "[]", "null", "\u{0}", "{\"type\": 5}", "{\"type\": \"offer\"}", &deep] {
        socket.say_text(text.to_owned()).await;
        let error = socket.next().await;
        assert_eq!(error["problem"]["status"], 400, "{text:.40}: {error}");
    }
    for (message, code) in [
        (json!({"type": "offer", "sdp": "v=0", "ref": 1}), "bad-sdp"),
        (json!({"type": "answer", "sdp": "v=0", "offer_id": 1, "ref": 2}), "no-offer"),
        (
            json!({"type": "offer", "sdp": "x".repeat(SDP_BYTES_MAX + 1), "ref": 3}),
            "body-too-large",
        ),
    ] {
        socket.say(message.clone()).await;
        let error = socket.next().await;
        assert_eq!(error["type"], "error");
        assert_eq!(error["ref"], message["ref"]);
        assert_eq!(error["problem"]["type"], format!("urn:sluice:problem:{code}"));
    }
    socket.say(json!({"type": "candidate", "candidate": "nonsense"})).await;
    assert_eq!(socket.next().await["problem"]["type"], "urn:sluice:problem:bad-sdp");
    socket.say(json!({"type": "candidate", "candidate": "", "extra": true})).await;
    socket.say(json!({"type": "offer", "sdp": sdp::publishing()})).await;
    assert_eq!(socket.next().await["type"], "answer");
}

#[tokio::test]
async fn messages_that_are_too_long_or_binary_close_the_connection() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut socket = server.socket(&ann).await;
    let _ = socket.stream.send(Message::Text("x".repeat((1 << 20) + 1).into())).await;
    assert_eq!(socket.close_code().await, 1009);
    let mut socket = server.socket(&ann).await;
    socket.stream.send(Message::Binary(vec![1, 2, 3].into())).await.expect("it is open");
    assert_eq!(socket.close_code().await, 1003);
    let path = format!("/v1/calls/c/sessions/{}", id(&ann));
    assert_eq!(server.get(&path).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_delays_nobody() {
    let mut server = Server::new();
    server.call("c").await;
    let slow = server.join("c", "Slow", &sdp::publishing()).await;
    let quick = server.join("c", "Quick", &sdp::publishing()).await;
    let unread = server.socket(&slow).await;
    let mut socket = server.socket(&quick).await;
    let first = socket.next_of("offer").await;
    answer_offer(&mut socket, &first).await;
    // Each refusal goes into the queue of whoever erred; the slow one errs without reading, and the
    // quick one sees all events.
    let name = "n".repeat(128);
    let mut overflowed = false;
    for _ in 0..40_000 {
        let body = json!({ "name": name });
        let made = server.post("/v1/calls/c/sessions", body).await.json();
        let path = format!("/v1/calls/c/sessions/{}", id(&made));
        assert_eq!(server.delete(&path).await.status, 204);
        assert_eq!(socket.next_of("session_joined").await["name"], name);
        socket.next_of("session_left").await;
        let metrics = server
            .service
            .counters
            .websockets_overflowed
            .load(std::sync::atomic::Ordering::Relaxed);
        if metrics > 0 {
            overflowed = true;
            break;
        }
    }
    assert!(overflowed, "the queue of a client that reads nothing is bounded");
    let path = format!("/v1/calls/c/sessions/{}", id(&slow));
    assert_eq!(server.get(&path).await.status, 200, "it loses its connection, not its session");
    drop(unread);
}

#[tokio::test]
async fn a_session_that_nobody_came_for_ends_and_one_that_waits_stays() {
    let mut server = Server::new();
    server.call("c").await;
    let forgotten = server.post("/v1/calls/c/sessions", json!({})).await.json();
    let waiting = server.post("/v1/calls/c/sessions", json!({})).await.json();
    let _socket = server.socket(&waiting).await;
    let negotiated = server.join("c", "Ann", &sdp::publishing()).await;
    let shard = ShardId(0);
    server.service.end_abandoned(shard, clock::now() + Duration::from_secs(29)).await;
    assert_eq!(server.plane.sessions().len(), 3);
    server.service.end_abandoned(shard, clock::now() + Duration::from_secs(31)).await;
    for (session, status) in [(&forgotten, 404), (&waiting, 200), (&negotiated, 200)] {
        let path = format!("/v1/calls/c/sessions/{}", id(session));
        assert_eq!(server.get(&path).await.status, status);
    }
    assert_eq!(server.plane.sessions().len(), 2);
}

#[tokio::test]
async fn a_shutdown_tells_everyone() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let mut socket = server.socket(&ann).await;
    server.service.begin_drain(DrainCause::Signal);
    server.service.end_calls().await;
    assert_eq!(socket.next_of("closed").await["reason"], "the server shuts down");
    assert_eq!(socket.close_code().await, 1001);
    assert!(server.plane.sessions().is_empty());
    let refused = server.post("/v1/calls", json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn a_plain_request_to_the_websocket_is_a_problem() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let answer = server.get(ann["ws_url"].as_str().expect("a path")).await;
    assert!(answer.status.is_client_error());
    answer.problem();
}
