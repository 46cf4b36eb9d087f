//! WHIP and WHEP: status codes and header fields. Source: RFC 9725, draft-ietf-wish-whep.

use sluice_engine::ids::ShardId;

use crate::support::{Answer, Server, sdp};

const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

async fn publish(server: &Server, call: &str) -> Answer {
    let answer = server.ask("POST", &format!("/whip/{call}"), &[SDP], sdp::publishing()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

fn location(answer: &Answer) -> String {
    answer.header("location").expect("a Location").to_owned()
}

#[tokio::test]
async fn publishing_and_playing_by_post() {
    let server = Server::new();
    let whip = publish(&server, "show").await;
    assert_eq!(whip.header("content-type"), Some("application/sdp"));
    assert_eq!(whip.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    assert!(whip.header("etag").is_some_and(|e| e.starts_with('"') && e.ends_with('"')));
    assert!(location(&whip).starts_with("/whip/show/"));
    assert!(whip.body.contains("a=recvonly") && !whip.body.contains("a=sendrecv"), "{}", whip.body);
    assert!(whip.body.contains("a=candidate:"));

    let whep = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
    assert_eq!(whep.status, 201, "{whep:?}");
    assert!(location(&whep).starts_with("/whep/show/"));
    assert_eq!(whep.body.matches("a=sendonly").count(), 2, "{}", whep.body);
    assert_eq!(server.plane.count("AddLeg"), 2);

    let sessions = server.get("/v1/calls/show/sessions").await.json();
    let kinds: Vec<_> =
        sessions["sessions"].as_array().expect("a list").iter().map(|s| &s["kind"]).collect();
    assert_eq!(kinds, ["whip", "whep"]);
}

/// The stand-in refuses what goes to another shard than that of its session, and legs of tracks that are not where they are said to be.
#[tokio::test]
async fn a_call_beyond_its_shard_goes_on_on_others() {
    let server = Server::with_shards(3, &[("engine.call_sessions_per_shard", "2")]);
    let whip = publish(&server, "show").await;
    let mut players = Vec::new();
    for _ in 0..6 {
        let whep = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
        assert_eq!((whep.status.as_u16(), whep.body.matches("a=sendonly").count()), (201, 2));
        players.push(location(&whep));
    }
    let shards = async |server: &Server| {
        let sessions = server.get("/v1/calls/show/sessions").await.json();
        let sessions = sessions["sessions"].as_array().expect("a list").clone();
        sessions.iter().map(|s| s["shard"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(shards(&server).await, [0, 0, 1, 2, 1, 2, 0]);
    assert_eq!(server.get("/v1/calls/show").await.json()["shard"], 0);
    let one = server.get("/v1/calls/show/sessions").await.json()["sessions"][3].clone();
    assert_eq!((&one["shard"], &one["stats"]["packets_in"]), (&2.into(), &11.into()));
    let path = format!("/v1/calls/show/sessions/{}", one["id"].as_str().expect("a string"));
    assert_eq!(server.get(&path).await.json(), one);
    assert_eq!((server.plane.count("AddLeg"), server.plane.count("AddRelayedLeg")), (4, 8));

    // A place at home that is free again is taken first; what one side lost is found on every shard.
    assert_eq!(server.delete(&players[0]).await.status, 200);
    assert_eq!(server.delete(&players[5]).await.status, 200);
    let whep = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
    assert_eq!(whep.status, 201);
    assert_eq!(shards(&server).await, [0, 1, 2, 1, 2, 0]);
    let lost = server.plane.sessions()[1];
    server.plane.lose(lost);
    for shard in 0..3 {
        server.service.reconcile(ShardId(shard)).await;
    }
    assert_eq!(shards(&server).await, [0, 2, 1, 2, 0]);
    assert_eq!(server.delete(&location(&whip)).await.status, 200);
    assert_eq!(server.delete("/v1/calls/show").await.status, 204);
    assert!(server.plane.sessions().is_empty());
}

#[tokio::test]
async fn a_call_of_whip_goes_with_its_last_session_and_one_of_the_api_stays() {
    let server = Server::new();
    server.call("kept").await;
    for call in ["show", "kept"] {
        let whip = publish(&server, call).await;
        assert_eq!(server.get(&format!("/v1/calls/{call}")).await.status, 200);
        let end = server.delete(&location(&whip)).await;
        assert_eq!((end.status.as_u16(), end.body.as_str()), (200, ""));
    }
    assert_eq!(server.get("/v1/calls/show").await.problem(), "unknown-call");
    assert_eq!(server.get("/v1/calls/kept").await.status, 200);
    let refused = server.ask("POST", "/whip/show", &[SDP], "v=0\r\n").await;
    assert!(refused.status.is_client_error());
    assert_eq!(server.get("/v1/calls/show").await.problem(), "unknown-call");
}

#[tokio::test]
async fn players_are_told_to_come_back_when_nothing_is_published() {
    let server = Server::new();
    let nowhere = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.problem().as_str()), (404, "unknown-call"));
    server.call("show").await;
    let empty = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
    assert_eq!((empty.status.as_u16(), empty.problem().as_str()), (409, "nothing-published"));
    assert!(empty.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok()));
    assert!(server.plane.sessions().is_empty());
}

#[tokio::test]
async fn a_player_keeps_its_session_when_the_publisher_leaves() {
    let server = Server::new();
    server.call("show").await;
    let whip = publish(&server, "show").await;
    let whep = server.ask("POST", "/whep/show", &[SDP], sdp::receiving()).await;
    server.delete(&location(&whip)).await;
    assert_eq!(server.get(&location(&whep)).await.status, 204);
    assert_eq!(server.delete(&location(&whep)).await.status, 200);
}

#[tokio::test]
async fn wrong_types_and_descriptions_are_refused_by_their_kind() {
    let server = Server::new();
    for path in ["/whip/show", "/whep/show"] {
        for content_type in ["text/plain", "application/json", ""] {
            let headers = [("content-type", content_type)];
            let answer = server.ask("POST", path, &headers, sdp::publishing()).await;
            assert_eq!(answer.problem(), "unsupported-media-type");
            assert_eq!(answer.header("accept-post"), Some("application/sdp"));
        }
        let headers = [SDP, ("accept", "text/html")];
        let answer = server.ask("POST", path, &headers, sdp::publishing()).await;
        assert_eq!(answer.problem(), "not-acceptable");
    }
    let malformed = server.ask("POST", "/whip/show", &[SDP], "hello").await;
    assert_eq!((malformed.status.as_u16(), malformed.problem().as_str()), (400, "bad-sdp"));
    let no_codec = sdp::publishing().replace("VP8/90000", "H263/90000");
    let unsupported = server.ask("POST", "/whip/show", &[SDP], no_codec).await;
    assert_eq!(
        (unsupported.status.as_u16(), unsupported.problem().as_str()),
        (422, "unsupported-sdp")
    );
    let two = sdp::offer(&[("video", "0", "sendonly"), ("video", "1", "sendonly")]);
    let too_many = server.ask("POST", "/whip/show", &[SDP], two).await;
    assert_eq!((too_many.status.as_u16(), too_many.problem().as_str()), (422, "unsupported-sdp"));
    let bad_call = server.ask("POST", "/whip/a%20b", &[SDP], sdp::publishing()).await;
    assert_eq!(bad_call.problem(), "bad-request");
    assert!(server.plane.sessions().is_empty());
    assert_eq!(server.get("/v1/calls").await.json()["calls"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn candidates_are_trickled_under_the_entity_tag() {
    let server = Server::new();
    let whip = publish(&server, "show").await;
    let (url, etag) = (location(&whip), whip.header("etag").expect("an ETag").to_owned());
    let same = sdp::fragment(1);
    for if_match in [etag.as_str(), "*", &format!("\"other\", {etag}")] {
        let headers = [FRAGMENT, ("if-match", if_match)];
        let answer = server.ask("PATCH", &url, &headers, same.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""), "{answer:?}");
        assert_eq!(answer.header("etag"), None, "RFC 9725 §4.3.2");
    }
    let missing = server.ask("PATCH", &url, &[FRAGMENT], same.clone()).await;
    assert_eq!(
        (missing.status.as_u16(), missing.problem().as_str()),
        (428, "precondition-required")
    );
    let wrong = server.ask("PATCH", &url, &[FRAGMENT, ("if-match", "\"x\"")], same.clone()).await;
    assert_eq!((wrong.status.as_u16(), wrong.problem().as_str()), (412, "precondition-failed"));
    let typed = server.ask("PATCH", &url, &[SDP, ("if-match", "*")], same).await;
    assert_eq!(typed.problem(), "unsupported-media-type");
    assert_eq!(typed.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    let malformed = server.ask("PATCH", &url, &[FRAGMENT, ("if-match", "*")], "hello").await;
    assert_eq!((malformed.status.as_u16(), malformed.problem().as_str()), (400, "bad-sdp"));
}

#[tokio::test]
async fn ice_restarts_with_an_asterisk_and_gets_another_entity_tag() {
    let server = Server::new();
    let whip = publish(&server, "show").await;
    let (url, etag) = (location(&whip), whip.header("etag").expect("an ETag").to_owned());
    let refused =
        server.ask("PATCH", &url, &[FRAGMENT, ("if-match", &etag)], sdp::fragment(2)).await;
    assert_eq!(refused.problem(), "precondition-failed");
    assert_eq!(server.plane.count("RestartIce"), 0);

    // The RFC's examples have the asterisk in quotes.
    let headers = [FRAGMENT, ("if-match", "\"*\"")];
    let restarted = server.ask("PATCH", &url, &headers, sdp::fragment(2)).await;
    assert_eq!(restarted.status, 200, "{restarted:?}");
    assert_eq!(restarted.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    let new = restarted.header("etag").expect("an ETag").to_owned();
    assert_ne!(new, etag);
    let line =
        |text: &str, name: &str| text.lines().find(|l| l.starts_with(name)).map(str::to_owned);
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        assert!(line(&restarted.body, name).is_some(), "{}", restarted.body);
        assert_ne!(line(&restarted.body, name), line(&whip.body, name), "{name}");
    }
    assert!(restarted.body.contains("a=candidate:"));
    assert_eq!((server.plane.count("RestartIce"), server.plane.count("SetRemote")), (1, 2));

    let old = server.ask("PATCH", &url, &[FRAGMENT, ("if-match", &etag)], sdp::fragment(2)).await;
    assert_eq!(old.problem(), "precondition-failed");
    let current =
        server.ask("PATCH", &url, &[FRAGMENT, ("if-match", &new)], sdp::fragment(2)).await;
    assert_eq!(current.status, 204);
    // The entity tag is ignored on DELETE.
    let end = server.ask("DELETE", &url, &[("if-match", "\"x\"")], "").await;
    assert_eq!(end.status, 200);
    assert!(server.plane.sessions().is_empty());
}

#[tokio::test]
async fn resources_answer_without_content_and_only_under_their_own_path() {
    let server = Server::new();
    let whip = publish(&server, "show").await;
    let url = location(&whip);
    for (method, path) in
        [("GET", "/whip/show"), ("HEAD", "/whip/show"), ("GET", &url), ("HEAD", &url)]
    {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""), "{method} {path}");
    }
    let other = url.replace("/whip/", "/whep/");
    for method in ["GET", "DELETE", "PATCH"] {
        let answer =
            server.ask(method, &other, &[FRAGMENT, ("if-match", "*")], sdp::fragment(1)).await;
        assert_eq!(answer.problem(), "unknown-session", "{method}");
    }
    server.delete(&url).await;
    for method in ["GET", "DELETE", "PATCH"] {
        let answer =
            server.ask(method, &url, &[FRAGMENT, ("if-match", "*")], sdp::fragment(1)).await;
        assert_eq!(answer.status, 404, "{method}");
    }
}

#[tokio::test]
async fn preflights_say_what_may_be_sent() {
    let server = Server::new();
    let origin = ("origin", "http://localhost:3000");
    for (path, name, value) in [
        ("/whip/show", "accept-post", "application/sdp"),
        ("/whep/show", "accept-post", "application/sdp"),
        ("/whip/show/s", "accept-patch", "application/trickle-ice-sdpfrag"),
    ] {
        let headers = [origin, ("access-control-request-method", "POST")];
        let answer = server.ask("OPTIONS", path, &headers, "").await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header(name), Some(value));
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
        for (field, wanted) in [
            ("access-control-allow-methods", ["POST", "PATCH", "DELETE"]),
            ("access-control-allow-headers", ["Authorization", "Content-Type", "If-Match"]),
            ("access-control-expose-headers", ["Location", "ETag", "Link"]),
        ] {
            let given = answer.header(field).expect(field);
            assert!(wanted.iter().all(|w| given.contains(w)), "{field}: {given}");
        }
    }
}

#[tokio::test]
async fn other_origins_may_use_it_when_a_token_protects_it_and_never_without() {
    let origin = ("origin", "https://studio.example.org");
    let open = Server::new();
    let answer = open.ask("OPTIONS", "/whip/show", &[origin], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = open.ask("POST", "/whip/show", &[origin, SDP], sdp::publishing()).await;
    assert_eq!(answer.problem(), "loopback-only");

    let token = "correct-horse-battery";
    let guarded = Server::with(&[("api.native.token", token)]);
    let refused = guarded.ask("POST", "/whip/show", &[origin, SDP], sdp::publishing()).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "a page can read why");
    let bearer = format!("Bearer {token}");
    let headers = [origin, SDP, ("authorization", bearer.as_str())];
    let made = guarded.ask("POST", "/whip/show", &headers, sdp::publishing()).await;
    assert_eq!(
        (made.status.as_u16(), made.header("access-control-allow-origin")),
        (201, Some("*"))
    );
    assert_eq!(made.header("access-control-allow-credentials"), None);
    let native = guarded.ask("GET", "/v1/calls", &[origin, headers[2]], "").await;
    assert_eq!(native.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn configured_ice_servers_are_linked() {
    let server = Server::with(&[(
        "rtc.ice_servers",
        r#"[{"urls": ["turn:turn.example.org:3478"], "username": "u", "credential": "p"}]"#,
    )]);
    let whip = publish(&server, "show").await;
    assert_eq!(
        whip.header("link"),
        Some(
            "<turn:turn.example.org:3478>; rel=\"ice-server\"; username=\"u\"; \
                 credential=\"p\"; credential-type=\"password\""
        )
    );
}
