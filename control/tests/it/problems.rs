//! Errors have one form, whatever goes wrong; hostile bodies get a clear answer and do no harm.

use axum::body::Body;
use serde_json::json;
use sluice_control::sdp::SDP_BYTES_MAX;

use crate::support::{Server, sdp};

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = Server::new();
    for path in ["/nothing", "/v1", "/v1/", "/v1/calls/", "/whip", "/whip/a/b/c", "/v2/calls"] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (404, "unknown-path"),
            "{path}"
        );
    }
    for (method, path, allowed) in [
        ("PUT", "/v1/calls", "GET"),
        ("DELETE", "/v1/node", "GET"),
        ("PUT", "/whip/c", "POST"),
        ("PUT", "/whip/c/s", "PATCH"),
        ("POST", "/", "GET"),
        ("POST", "/metrics", "GET"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.problem(), "method-not-allowed");
        assert!(answer.header("allow").is_some_and(|a| a.contains(allowed)), "{answer:?}");
    }
}

#[tokio::test]
async fn json_that_is_none_or_not_what_is_expected_is_refused() {
    let server = Server::new();
    server.call("c").await;
    let deep = "[".repeat(100_000);
    let cases: &[&str] = &[
        "{",
        "null",
        "[]",
        "\"x\"",
        "{\"id\": 5}",
        "{\"id\": {}}",
        "{\"id\": \"a\"} trailing",
        "{\"id\": \"\\ud800\"}",
        &deep,
        "\u{0}",
        "NaN",
        "{\"id\": \"a\", \"id\": \"b\"}",
    ];
    for body in cases {
        let headers = [("content-type", "application/json")];
        let answer = server.ask("POST", "/v1/calls", &headers, (*body).to_owned()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (400, "bad-request"),
            "{body:.40}"
        );
    }
    let invalid = Body::from(vec![b'{', 0xff, 0xfe, b'}']);
    let answer =
        server.ask("POST", "/v1/calls", &[("content-type", "application/json")], invalid).await;
    assert_eq!(answer.problem(), "bad-request");
    for body in [
        json!({"offer": "v=0"}),
        json!({"offer": {"type": "answer", "sdp": "v=0"}}),
        json!({"offer": {"type": "rollback", "sdp": ""}}),
        json!({"offer": {"type": "offer"}}),
        json!({"subscribe": "some"}),
        json!({"name": 7}),
    ] {
        let answer = server.post("/v1/calls/c/sessions", body.clone()).await;
        assert_eq!(answer.problem(), "bad-request", "{body}");
    }
    assert_eq!(server.get("/v1/calls/c").await.json()["sessions"], 0);
}

#[tokio::test]
async fn bodies_of_another_type_or_too_long_are_refused() {
    let server = Server::new();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/sdp", ""] {
        let headers = [("content-type", content_type)];
        let answer = server.ask("POST", "/v1/calls", &headers, "{\"id\": \"c\"}").await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (415, "unsupported-media-type")
        );
    }
    let headers = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(server.ask("POST", "/v1/calls", &headers, "{\"id\": \"c\"}").await.status, 201);

    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(1 << 20));
    let answer = server.ask("POST", "/v1/calls", &headers, long.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body-too-large"));
    let stream = futures_util::stream::iter(
        long.into_bytes()
            .chunks(10_000)
            .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
            .collect::<Vec<_>>(),
    );
    let answer = server.ask("POST", "/v1/calls", &headers, Body::from_stream(stream)).await;
    assert_eq!(answer.problem(), "body-too-large", "also when no length was announced");

    let body = json!({"offer": {"type": "offer", "sdp": "x".repeat(SDP_BYTES_MAX + 1)}});
    assert_eq!(server.post("/v1/calls/c/sessions", body).await.problem(), "body-too-large");
    let answer = server
        .ask("POST", "/whip/c", &[("content-type", "application/sdp")], "x".repeat(64 * 1024 + 1))
        .await;
    assert_eq!(answer.problem(), "body-too-large");
}

#[tokio::test]
async fn every_truncation_of_an_offer_is_answered_and_the_call_goes_on() {
    let server = Server::new();
    server.call("c").await;
    let ann = server.join("c", "Ann", &sdp::publishing()).await;
    let whole = sdp::publishing();
    for end in (0..whole.len()).step_by(7) {
        let body = json!({"offer": {"type": "offer", "sdp": &whole[..end]}});
        let answer = server.post("/v1/calls/c/sessions", body).await;
        let status = answer.status.as_u16();
        assert!(status == 201 || (400..500).contains(&status), "{end}: {answer:?}");
        if status != 201 {
            answer.problem();
        }
    }
    let path = format!("/v1/calls/c/sessions/{}", ann["session"]["id"].as_str().expect("an id"));
    assert_eq!(server.get(&path).await.status, 200);
}

#[tokio::test]
async fn hostile_descriptions_get_a_clear_refusal() {
    let server = Server::new();
    server.call("c").await;
    let whole = sdp::publishing();
    let cases = [
        "not sdp at all".to_owned(),
        "\u{0}".repeat(1000),
        "v=0\r\n".repeat(10_000),
        whole.replace("m=audio 9", "m=audio 4294967296"),
        whole.replace("a=mid:1", "a=mid:0"),
        whole.replace("sha-256", "md5"),
        whole.replace("a=ice-ufrag:peer0001\r\n", ""),
        whole.replace("a=ice-pwd:peerpasswordpeerpassword0001", "a=ice-pwd:short"),
        whole.replace("a=mid:0", &format!("a=mid:{}", "m".repeat(5000))),
    ];
    for sdp in cases {
        let body = json!({"offer": {"type": "offer", "sdp": sdp}});
        let answer = server.post("/v1/calls/c/sessions", body).await;
        assert!(answer.status.is_client_error(), "{}: {:.80}", answer.status, sdp);
        assert!(["bad-sdp", "unsupported-sdp"].contains(&answer.problem().as_str()), "{answer:?}");
    }
    assert!(server.plane.sessions().is_empty());
}

#[tokio::test]
async fn paths_that_are_no_text_are_refused() {
    let server = Server::new();
    for path in ["/v1/calls/%ff", "/v1/calls/%ff/sessions/%ff", "/whip/%ff/%c3%28"] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (400, "bad-request"),
            "{path}"
        );
    }
    for path in ["/v1/calls/%2e%2e", "/v1/calls/a%2fb", "/v1/calls/%00"] {
        assert_eq!(server.get(path).await.problem(), "unknown-call", "{path}");
    }
}
