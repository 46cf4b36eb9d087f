//! Sessions by HTTP: negotiation, what the engine is asked, and what remains when something fails.

use serde_json::{Value, json};
use sluice_engine::command_error::CommandError;
use sluice_engine::ids::{SessionId, ShardId};
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::srtp::Profile;

use crate::support::{Server, sdp};

fn path(created: &Value) -> String {
    format!("/v1/calls/c/sessions/{}", created["session"]["id"].as_str().expect("an id"))
}

fn offer(sdp: &str) -> Value {
    json!({"offer": {"type": "offer", "sdp": sdp}})
}

#[tokio::test]
async fn an_offer_is_answered_and_carried_out_in_order() {
    let server = Server::new();
    server.call("c").await;
    let body = json!({"name": "Ann", "offer": {"type": "offer", "sdp": sdp::publishing()}});
    let made = server.post("/v1/calls/c/sessions", body).await;
    assert_eq!(made.status, 201);
    let created = made.json();
    assert_eq!(made.header("location"), Some(path(&created).as_str()));
    assert_eq!(created["answer"]["type"], "answer");
    assert!(created.get("offer").is_none() && created.get("offer_id").is_none());
    let answer = created["answer"]["sdp"].as_str().expect("text");
    assert_eq!(sdp::media_lines(answer).len(), 2);
    assert!(answer.contains("a=ice-lite") && answer.contains("a=ice-ufrag:s0u"), "{answer}");
    assert_eq!(server.plane.log(), ["AddSession", "SetRemote", "AddTrack", "AddTrack"]);
    let session = &created["session"];
    assert_eq!((&session["state"], &session["kind"]), (&json!("connecting"), &json!("native")));
    assert_eq!((&session["name"], &session["call"]), (&json!("Ann"), &json!("c")));
}

#[tokio::test]
async fn loopback_candidates_are_for_clients_on_this_host() {
    let server = Server::with(&[("api.native.token", "correct-horse-battery")]);
    let bearer = ("authorization", "Bearer correct-horse-battery");
    let json = ("content-type", "application/json");
    server.ask("POST", "/v1/calls", &[bearer, json], r#"{"id":"c"}"#).await;
    let request = |peer: &'static str| {
        let body = offer(&sdp::publishing()).to_string();
        let request = axum::http::Request::post("/v1/calls/c/sessions")
            .header(bearer.0, bearer.1)
            .header(json.0, json.1)
            .body(body.into());
        server.send(peer, request.expect("a request"))
    };
    let sdp = |answer: Value| answer["answer"]["sdp"].as_str().expect("text").to_owned();
    let near = sdp(request("127.0.0.1:1").await.json());
    let far = sdp(request("192.0.2.9:1").await.json());
    assert!(near.contains(" 127.0.0.1 8443 ") && near.contains(" 192.0.2.7 8443 "), "{near}");
    assert!(!far.contains(" 127.0.0.1 8443 ") && far.contains(" 192.0.2.7 8443 "), "{far}");
}

#[tokio::test]
async fn the_server_offers_what_is_there_when_the_client_does_not() {
    let server = Server::new();
    server.call("c").await;
    let first = server.post("/v1/calls/c/sessions", json!({"name": "Watcher"})).await.json();
    assert!(first.get("offer").is_none(), "there is nothing to offer yet: {first}");
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let second = server.post("/v1/calls/c/sessions", json!({})).await.json();
    let offer = second["offer"]["sdp"].as_str().expect("an offer");
    assert_eq!((sdp::media_lines(offer).len(), &second["offer_id"]), (2, &json!(1)));
    let stream = format!("a=msid:{} ", ann["session"]["id"].as_str().expect("an id"));
    for track in ann["session"]["tracks"].as_array().expect("a list") {
        let msid = format!("{stream}{}", track["id"].as_str().expect("an id"));
        assert!(offer.lines().any(|line| line == msid), "{msid} in {offer}");
    }

    let answer = json!({"type": "answer", "sdp": sdp::answer_to(offer, 1)});
    let url = format!("{}/answer", path(&second));
    let stale = server.post(&url, json!({"answer": answer, "offer_id": 7})).await;
    assert_eq!(stale.problem(), "stale-offer");
    let missing = server.post(&url, json!({ "answer": answer })).await;
    assert_eq!(missing.problem(), "bad-request");
    let taken = server.post(&url, json!({"answer": answer, "offer_id": 1})).await;
    assert_eq!(taken.status, 204, "{taken:?}");
    assert_eq!(server.plane.count("AddLeg"), 2);
    let again = server.post(&url, json!({"answer": answer, "offer_id": 1})).await;
    assert_eq!(again.problem(), "no-offer");
}

#[tokio::test]
async fn a_client_renegotiates_by_another_offer() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::offer(&[("audio", "0", "sendonly")])).await;
    let more = sdp::offer(&[("audio", "0", "sendonly"), ("video", "1", "sendonly")]);
    let url = format!("{}/offer", path(&ann));
    let answer = server.post(&url, offer(&more)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["answer"]["type"]), (200, &json!("answer")));
    assert_eq!(server.plane.count("AddTrack"), 2);
    let less = sdp::offer(&[("audio", "0", "inactive"), ("video", "1", "sendonly")]);
    assert_eq!(server.post(&url, offer(&less)).await.status, 200);
    assert_eq!(server.plane.count("RemoveTrack"), 1);
    let tracks = server.get("/v1/calls/c/tracks").await.json();
    assert_eq!(tracks["tracks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_offer_that_meets_one_of_the_server_is_refused_as_glare() {
    let server = Server::new();
    server.call("c").await;
    server.join("c", "Ann", &sdp::publishing()).await;
    let bob = server.post("/v1/calls/c/sessions", json!({})).await.json();
    assert!(bob.get("offer").is_some());
    let refused = server.post(&format!("{}/offer", path(&bob)), offer(&sdp::publishing())).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (409, "glare"));
    let restart = server.post(&format!("{}/ice-restart", path(&bob)), json!({})).await;
    assert_eq!(restart.problem(), "glare");
}

#[tokio::test]
async fn ice_restarts_from_the_server_with_new_credentials() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let ufrag = |sdp: &str| {
        sdp.lines().find(|l| l.starts_with("a=ice-ufrag:")).map(str::to_owned).expect("a ufrag")
    };
    let before = ufrag(ann["answer"]["sdp"].as_str().expect("text"));
    let answer = server.ask("POST", &format!("{}/ice-restart", path(&ann)), &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let offer = answer["offer"]["sdp"].as_str().expect("text");
    assert_ne!(ufrag(offer), before);
    assert_eq!(server.plane.count("RestartIce"), 1);
    let description = json!({"type": "answer", "sdp": sdp::answer_to(offer, 2)});
    let body = json!({"answer": description, "offer_id": answer["offer_id"]});
    let taken = server.post(&format!("{}/answer", path(&ann)), body).await;
    assert_eq!(taken.status, 204, "{taken:?}");
    assert_eq!(server.plane.count("SetRemote"), 2, "the peer's new credentials");
}

#[tokio::test]
async fn candidates_are_checked_and_taken() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let url = format!("{}/candidates", path(&ann));
    let good = "candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host";
    for candidate in [good, "", "candidate:1 1 udp 1 x.local 9 typ host generation 0"] {
        let body = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0});
        assert_eq!(server.post(&url, body).await.status, 204, "{candidate}");
    }
    for bad in ["candidate:", "nonsense", "candidate:1 1 udp 1 192.0.2.1 99999 typ host"] {
        let answer = server.post(&url, json!({ "candidate": bad })).await;
        assert_eq!(answer.problem(), "bad-sdp", "{bad}");
    }
}

#[tokio::test]
async fn a_session_shows_what_its_shard_counts() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let shown = server.get(&path(&ann)).await.json();
    assert_eq!((&shown["transport"], &shown["profile"]), (&json!("udp"), &Value::Null));
    assert_eq!(shown["stats"]["packets_in"], 11);
    assert_eq!(shown["stats"]["rtt_us"], 1_234);
    let list = server.get("/v1/calls/c/sessions").await.json();
    assert_eq!(list["sessions"], json!([shown]));

    let session = server.plane.sessions()[0];
    let report = Report::Connected { session, profile: Profile::AeadAes128Gcm };
    server.reports[0].try_report(report).expect("there is room");
    let connected = eventually(&server, &path(&ann), |s| s["state"] == "connected").await;
    assert_eq!(connected["profile"], "AEAD_AES_128_GCM");
    server.reports[0].try_report(Report::Disconnected { session }).expect("there is room");
    eventually(&server, &path(&ann), |s| s["state"] == "disconnected").await;
    server.reports[0].try_report(Report::Reconnected { session }).expect("there is room");
    eventually(&server, &path(&ann), |s| s["state"] == "connected").await;
}

/// Asks until the answer is as wanted; reports are handled by a task of their own.
async fn eventually(server: &Server, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..10_000 {
        let answer = server.get(path).await;
        if let Ok(value) = serde_json::from_str(&answer.body)
            && wanted(&value)
        {
            return value;
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} never became what was wanted");
}

#[tokio::test]
async fn a_session_that_ends_by_itself_is_gone_without_another_removal() {
    let mut server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let session = server.plane.sessions()[0];
    server.plane.lose(session);
    let report = Report::Closed { session, error: SessionError::PeerLeft };
    server.reports[0].try_report(report).expect("there is room");
    eventually(&server, &path(&ann), |s| s["status"] == 404).await;
    assert_eq!(server.get("/v1/calls/c").await.json()["tracks"], 0);
    assert_eq!(server.plane.count("RemoveSession"), 0);
}

#[tokio::test]
async fn a_refusal_of_the_engine_leaves_nothing_behind() {
    for kind in ["AddSession", "SetRemote", "AddTrack"] {
        let server = Server::new();
        server.call("c").await;
        server.plane.refuse(move |command| {
            let limit = CommandError::LimitReached { what: "sessions", limit: 1 };
            format!("{command:?}").starts_with(kind).then_some(limit)
        });
        let answer = server.post("/v1/calls/c/sessions", offer(&sdp::publishing())).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (429, "limit-reached"),
            "{kind}"
        );
        assert_eq!(server.get("/v1/calls/c").await.json()["sessions"], 0, "{kind}");
        assert_eq!(server.get("/v1/calls/c").await.json()["tracks"], 0, "{kind}");
        assert!(server.plane.sessions().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn an_overloaded_shard_is_answered_with_try_again() {
    let server = Server::new();
    server.call("c").await;
    server.plane.refuse(|_| Some(CommandError::MailboxFull));
    let answer = server.post("/v1/calls/c/sessions", offer(&sdp::publishing())).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "unavailable"));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_track_that_went_meanwhile_does_not_end_its_subscriber() {
    let server = Server::new();
    server.call("c").await;
    server.join("c", "Ann", &sdp::publishing()).await;
    let bob = server.post("/v1/calls/c/sessions", json!({})).await.json();
    server.plane.refuse(|command| match command {
        Command::AddLeg { leg, .. } => Some(CommandError::UnknownTrack(leg.track)),
        _ => None,
    });
    let sdp = sdp::answer_to(bob["offer"]["sdp"].as_str().expect("text"), 1);
    let body = json!({"answer": {"type": "answer", "sdp": sdp}, "offer_id": 1});
    assert_eq!(server.post(&format!("{}/answer", path(&bob)), body).await.status, 204);
    assert_eq!(server.get(&path(&bob)).await.status, 200);
}

#[tokio::test]
async fn limits_of_sessions_and_tracks_are_kept() {
    let server =
        Server::with(&[("limits.sessions_per_call", "1"), ("limits.tracks_per_session", "2")]);
    server.call("c").await;
    let three = sdp::offer(&[
        ("audio", "0", "sendonly"),
        ("video", "1", "sendonly"),
        ("video", "2", "sendonly"),
    ]);
    let answer = server.post("/v1/calls/c/sessions", offer(&three)).await;
    assert_eq!(answer.problem(), "limit-reached");
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let answer = server.post(&format!("{}/offer", path(&ann)), offer(&three)).await;
    assert_eq!(answer.problem(), "limit-reached");
    assert_eq!(server.get(&path(&ann)).await.status, 200, "the session goes on");
    let answer = server.post("/v1/calls/c/sessions", offer(&sdp::publishing())).await;
    assert_eq!(answer.problem(), "limit-reached");
    assert_eq!(server.plane.sessions().len(), 1);
}

#[tokio::test]
async fn both_sides_are_reconciled() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let bob = server.join("c", "Bob", &sdp::publishing()).await;
    server.plane.lose(server.plane.sessions()[0]);
    server.plane.add_stray(SessionId(9_999));
    server.service.reconcile(ShardId(0)).await;
    assert_eq!(server.get(&path(&ann)).await.problem(), "unknown-session");
    assert_eq!(server.get(&path(&bob)).await.status, 200);
    assert_eq!(server.plane.sessions().len(), 1, "the stray was removed");
    server.service.reconcile(ShardId(0)).await;
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("sluice_sessions_reconciled_total 2\n"), "{metrics}");
}

#[tokio::test]
async fn names_are_bounded_text() {
    let server = Server::new();
    server.call("c").await;
    for bad in ["x".repeat(129), "a\u{7}b".to_owned(), "line\nbreak".to_owned()] {
        let answer = server.post("/v1/calls/c/sessions", json!({ "name": bad })).await;
        assert_eq!(answer.problem(), "bad-request", "{bad:?}");
    }
    let wide = "ü".repeat(128);
    assert_eq!(server.post("/v1/calls/c/sessions", json!({ "name": wide })).await.status, 201);
}

#[tokio::test]
async fn a_session_is_found_in_its_own_call_only() {
    let server = Server::new();
    server.call("c").await;
    server.call("d").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let elsewhere = path(&ann).replace("/c/", "/d/");
    assert_eq!(server.get(&elsewhere).await.problem(), "unknown-session");
    assert_eq!(server.delete(&elsewhere).await.problem(), "unknown-session");
    for action in ["offer", "answer"] {
        let kind = json!({"type": action, "sdp": sdp::publishing()});
        let body = json!({ action: kind, "offer_id": 1 });
        let answer = server.post(&format!("{elsewhere}/{action}"), body).await;
        assert_eq!(answer.problem(), "unknown-session", "{action}");
    }
    assert_eq!(server.get(&path(&ann)).await.status, 200);
}
