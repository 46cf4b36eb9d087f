//! Who is answered, with a token and without one.

use axum::body::Body;
use axum::http::Request;

use crate::support::{Server, sdp};

const TOKEN: &str = "correct-horse-battery";
const LOCAL: &str = "127.0.0.1:4000";

/// Peer, header fields, whether it is answered.
type Case = (&'static str, &'static [(&'static str, &'static str)], bool);

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn without_a_token_only_this_host_is_answered() {
    let server = Server::new();
    const HOST: (&str, &str) = ("host", "localhost:8045");
    let cases: &[Case] = &[
        (LOCAL, &[HOST], true),
        ("[::1]:4000", &[("host", "[::1]:8045")], true),
        ("[::ffff:127.0.0.1]:4000", &[("host", "127.0.0.1")], true),
        (LOCAL, &[HOST, ("origin", "http://localhost:3000")], true),
        ("192.0.2.9:4000", &[HOST], false),
        ("[::ffff:192.0.2.9]:4000", &[HOST], false),
        (LOCAL, &[HOST, ("x-forwarded-for", "192.0.2.9")], false),
        (LOCAL, &[HOST, ("forwarded", "for=192.0.2.9")], false),
        (LOCAL, &[("host", "rebound.example.org:8045")], false),
        (LOCAL, &[], false),
        (LOCAL, &[HOST, ("origin", "https://example.org")], false),
        (LOCAL, &[HOST, ("origin", "null")], false),
    ];
    for path in ["/v1/calls", "/v1/openapi.json", "/v1/node", "/", "/call.js", "/whip/c", "/whep/c"]
    {
        for (peer, headers, answered) in cases {
            let answer = server.send(peer, get(path, headers)).await;
            if *answered {
                assert!(answer.status.is_success(), "{path} {peer} {headers:?}: {answer:?}");
            } else {
                assert_eq!(answer.status, 403, "{path} {peer} {headers:?}");
                assert_eq!(answer.problem(), "loopback-only");
                assert!(answer.body.contains("SLUICE_API_TOKEN"), "it says how to set a token");
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_a_known_peer_is_not_from_this_host() {
    use tower::ServiceExt as _;
    let router = Server::new().router;
    let answer = router.oneshot(get("/v1/calls", &[("host", "localhost")])).await;
    assert_eq!(answer.expect("it never fails").status(), 403);
}

#[tokio::test]
async fn with_a_token_its_holder_is_answered_from_anywhere() {
    let server = Server::with(&[("api.native.token", TOKEN)]);
    let bearer = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let longer = format!("Bearer {TOKEN}x");
    for path in ["/v1/calls", "/v1/openapi.json", "/v1/node", "/whip/c", "/whep/c"] {
        for right in [&bearer, &lower] {
            let answer = server.send("192.0.2.9:1", get(path, &[("authorization", right)])).await;
            assert!(answer.status.is_success(), "{path}: {answer:?}");
        }
        let shorter = &bearer[..bearer.len() - 1];
        for wrong in
            [Some(longer.as_str()), Some(shorter), Some("Bearer"), Some("Basic eDp5"), None]
        {
            let headers: Vec<_> = wrong.map(|w| ("authorization", w)).into_iter().collect();
            // Being on this host does not stand in for the token.
            let answer = server.send(LOCAL, get(path, &headers)).await;
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "unauthorized"));
            assert!(answer.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer ")));
        }
    }
    for path in ["/", "/call.js", "/call.css"] {
        let answer = server.send("192.0.2.9:1", get(path, &[])).await;
        assert_eq!(answer.status, 200, "the page asks for the token itself");
    }
}

#[tokio::test]
async fn every_method_of_whip_and_whep_needs_the_token_but_the_preflight() {
    let server = Server::with(&[("api.native.token", TOKEN)]);
    for path in ["/whip/c", "/whep/c", "/whip/c/s", "/whep/c/s"] {
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            let answer = server.ask(method, path, &[("content-type", "application/sdp")], "").await;
            assert!([401, 405].contains(&answer.status.as_u16()), "{method} {path}: {answer:?}");
        }
        assert_eq!(server.ask("OPTIONS", path, &[], "").await.status, 204);
    }
}

#[tokio::test]
async fn a_websocket_opens_with_its_ticket_or_the_token_and_with_nothing_else() {
    let mut server = Server::with(&[("api.native.token", TOKEN)]);
    let bearer = format!("Bearer {TOKEN}");
    let json = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.ask("POST", "/v1/calls", &json, r#"{"id":"c"}"#).await;
    let create = |name: &str| {
        serde_json::json!({"name": name, "offer": {"type": "offer", "sdp": sdp::publishing()}})
            .to_string()
    };
    let ann = server.ask("POST", "/v1/calls/c/sessions", &json, create("ann")).await.json();
    let bob = server.ask("POST", "/v1/calls/c/sessions", &json, create("bob")).await.json();
    let right = ann["ws_url"].as_str().expect("a path");
    let (path, ticket) = right.split_once('?').expect("a ticket");
    let bobs = bob["ws_url"].as_str().expect("a path").split_once('?').expect("a ticket").1;
    assert_eq!(ticket.len(), "ticket=".len() + 32, "128 bits in hexadecimal");
    for wrong in [
        path.to_owned(),
        format!("{path}?ticket="),
        format!("{path}?{bobs}"),
        format!("{path}?{}", &ticket[..ticket.len() - 1]),
        format!("/v1/calls/c/sessions/nobody/ws?{ticket}"),
        format!("/v1/calls/other/sessions/nobody/ws?{ticket}"),
    ] {
        assert_eq!(server.try_socket(&wrong).await.err().map(|s| s.as_u16()), Some(401), "{wrong}");
    }
    // The ticket is good any number of times.
    assert!(server.try_socket(right).await.is_ok());
    assert!(server.try_socket(right).await.is_ok());
}

#[tokio::test]
async fn session_ids_and_tickets_do_not_repeat_or_contain_each_other() {
    let server = Server::new();
    server.call("c").await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let created = server.join("c", "x", &sdp::publishing()).await;
        let id = created["session"]["id"].as_str().expect("an id").to_owned();
        let ticket = created["ws_url"].as_str().expect("a path").split_once('=').expect("=").1;
        assert_eq!((id.len(), ticket.len()), (32, 32));
        assert!(seen.insert(id) && seen.insert(ticket.to_owned()));
    }
}
