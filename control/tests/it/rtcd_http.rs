//! rtcd's HTTP API, as its clients see it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sluice_control::rtcd::directory::{Directory, LookupError, SessionConfig, SessionProps};

use crate::support::{Answer, Server};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const WRONG: &str = "fedcba9876543210fedcba9876543210";
const ADMIN: &str = "admin-secret";

/// Not on this host: rtcd's API is for everybody who reaches the port.
const ELSEWHERE: &str = "192.0.2.9:4000";

fn open() -> Server {
    Server::with(&[("api.security.allow_self_registration", "true")])
}

fn with_admin() -> Server {
    Server::with(&[("api.security.enable_admin", "true"), ("api.security.admin_secret_key", ADMIN)])
}

/// `Authorization` with name and password.
fn basic(name: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{name}:{password}");
    let mut encoded = String::from("Basic ");
    for chunk in text.as_bytes().chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = (bits >> (18 - 6 * i)) as usize & 63;
            encoded.push(if i <= chunk.len() { ALPHABET[digit] as char } else { '=' });
        }
    }
    encoded
}

async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    server.send(ELSEWHERE, request.body(body.into()).expect("a request")).await
}

/// Posts an object; the answer has the form of rtcd's, which is checked. Gives status and `error`.
async fn post(
    server: &Server,
    path: &str,
    authorization: Option<&str>,
    body: Value,
) -> (u16, String) {
    let answer = ask(server, "POST", path, authorization, body.to_string()).await;
    refusal(&answer)
}

fn refusal(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert!(answer.body.ends_with("}\n"), "{answer:?}");
    let body = answer.json();
    let fields = body.as_object().expect("an object");
    assert!(fields.values().all(Value::is_string), "{answer:?}");
    assert_eq!(body["code"], answer.status.as_str(), "{answer:?}");
    assert_eq!(fields.contains_key("error"), !answer.status.is_success(), "{answer:?}");
    let error = body["error"].as_str().unwrap_or("").to_owned();
    (answer.status.as_u16(), error)
}

fn credentials(id: &str, key: &str) -> Value {
    json!({"clientID": id, "authKey": key})
}

fn failed(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[tokio::test]
async fn a_client_registers_itself_logs_in_and_leaves() {
    let server = open();
    let body = || credentials("plugin", KEY).to_string();
    // With self-registration nobody looks at Authorization.
    let registered = ask(&server, "POST", "/register", Some("nonsense"), body()).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.body, "{\"clientID\":\"plugin\",\"code\":\"201\"}\n");
    assert_eq!(registered.header("content-type"), Some("application/json"));

    let login = ask(&server, "POST", "/login", Some("nonsense"), body()).await;
    assert_eq!(refusal(&login), failed(200, ""));
    let token = login.json()["bearerToken"].as_str().expect("a token").to_owned();
    assert_eq!(token.len(), 32);
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");

    let bearer = format!("Bearer {token}");
    let sessions = ask(&server, "GET", "/calls/c/sessions", Some(&bearer), "").await;
    assert_eq!(sessions.status, 404, "let in: {sessions:?}");
    let left = ask(&server, "POST", "/unregister", Some(&bearer), body()).await;
    assert_eq!(left.body, "{\"code\":\"200\"}\n");
    let sessions = ask(&server, "GET", "/calls/c/sessions", Some(&bearer), "").await;
    assert_eq!((sessions.status.as_u16(), sessions.body.as_str()), (401, "unauthorized\n"));
    let again = post(&server, "/login", None, credentials("plugin", KEY)).await;
    assert_eq!(again, failed(400, "login failed: authentication failed"));
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said() {
    let server = open();
    let register = async |body: Value| post(&server, "/register", None, body).await;
    let short = failed(400, "registration failed: key not long enough");
    assert_eq!(register(credentials("", &KEY[1..])).await, short);
    assert_eq!(register(json!({})).await, short);
    let empty = failed(400, "registration failed: error: empty key");
    assert_eq!(register(credentials("", KEY)).await, empty);
    assert_eq!(register(credentials("a", KEY)).await, failed(201, ""));
    let taken = failed(400, "registration failed: already registered");
    assert_eq!(register(credentials("a", WRONG)).await, taken);
    let (status, text) = register(credentials(&"x".repeat(65), KEY)).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("registration failed: ") && text.contains("64 bytes"), "{text}");
    // A second object is not looked at; other keys are ignored.
    let body = format!("{{\"clientID\":\"b\",\"authKey\":\"{KEY}\",\"x\":\"y\"}} trailing");
    let answer = ask(&server, "POST", "/register", None, body).await;
    assert_eq!(refusal(&answer), failed(201, ""));
}

#[tokio::test]
async fn bodies_that_are_no_objects_of_strings_are_refused() {
    let server = open();
    let deep = "[".repeat(60_000);
    let bad = ["", "{", "[]", "\"x\"", "{\"clientID\": 5}", "{\"a\": {}}", "\u{0}", &deep];
    for path in ["/register", "/login"] {
        for body in bad {
            let answer = ask(&server, "POST", path, None, body.to_owned()).await;
            let (status, text) = refusal(&answer);
            assert_eq!(status, 400, "{path} {body:.20}");
            assert!(text.contains("JSON object of strings"), "{text}");
        }
        let long = format!("{{\"clientID\": \"{}\"}}", "x".repeat(64 * 1024));
        let (status, text) = refusal(&ask(&server, "POST", path, None, long).await);
        assert_eq!(status, 413);
        assert!(text.contains("65536 bytes"), "{text}");
    }
}

#[tokio::test]
async fn without_self_registration_only_the_admin_registers() {
    let server = with_admin();
    let register = async |authorization: Option<&str>, id: &str| {
        post(&server, "/register", authorization, credentials(id, KEY)).await
    };
    let no_header = failed(401, "authentication failed: invalid auth header");
    assert_eq!(register(None, "a").await, no_header);
    assert_eq!(register(Some("Digest x"), "a").await, no_header);
    let unauthorized = failed(401, "authentication failed: unauthorized");
    assert_eq!(register(Some(&basic("", WRONG)), "a").await, unauthorized);
    let wrong = failed(401, "authentication failed");
    assert_eq!(register(Some(&basic("a", KEY)), "a").await, wrong);
    let invalid = failed(401, "authentication failed: token is invalid");
    assert_eq!(register(Some("Bearer x"), "a").await, invalid);
    assert_eq!(register(Some(&basic("", ADMIN)), "a").await, failed(201, ""));
    assert_eq!(register(Some(&basic("any", ADMIN)), "b").await, failed(201, ""));
    // rtcd lets one client register the next.
    let (status, text) = register(Some(&basic("a", KEY)), "c").await;
    assert_eq!(status, 403);
    assert!(text.contains("only the admin"), "{text}");
    let nobody = ask(&server, "POST", "/register", None, "no JSON").await;
    assert_eq!(nobody.status, 401, "who it is comes before what is said");
    assert_eq!(nobody.header("www-authenticate"), Some("Basic realm=\"sluice\""));
}

#[tokio::test]
async fn unregistering_is_refused_in_order() {
    let closed = Server::new();
    let off = failed(403, "unregister not enabled");
    assert_eq!(post(&closed, "/unregister", None, json!({})).await, off);

    let server = with_admin();
    let admin = basic("", ADMIN);
    for id in ["a", "b"] {
        let registered = post(&server, "/register", Some(&admin), credentials(id, KEY)).await;
        assert_eq!(registered, failed(201, ""));
    }
    let client = basic("a", KEY);
    let unregister = async |authorization: Option<&str>, body: Value| {
        post(&server, "/unregister", authorization, body).await
    };
    let id = |id: &str| json!({"clientID": id});
    let no_header = failed(401, "authentication failed: invalid auth header");
    assert_eq!(unregister(None, id("a")).await, no_header);
    let answer = ask(&server, "POST", "/unregister", Some(&client), "no JSON").await;
    assert_eq!(answer.status, 400);
    let empty = failed(400, "client id should not be empty");
    assert_eq!(unregister(Some(&client), json!({})).await, empty);
    let others = failed(403, "client id not valid");
    assert_eq!(unregister(Some(&client), id("b")).await, others);
    assert_eq!(unregister(Some(&client), id("c")).await, others);
    let missing = failed(400, "unregister failed: error: not found");
    assert_eq!(unregister(Some(&admin), id("c")).await, missing);
    assert_eq!(unregister(Some(&admin), id("b")).await, failed(200, ""));
    assert_eq!(unregister(Some(&client), id("a")).await, failed(200, ""));
    assert_eq!(unregister(Some(&client), id("a")).await, failed(401, "authentication failed"));
}

#[tokio::test]
async fn every_failed_login_is_a_400() {
    let server = open();
    post(&server, "/register", None, credentials("a", KEY)).await;
    for (id, key) in [("a", WRONG), ("a", ""), ("b", KEY), ("", KEY), ("", "")] {
        let (status, text) = post(&server, "/login", None, credentials(id, key)).await;
        assert_eq!(status, 400, "{id:?}");
        assert!(text.starts_with("login failed: "), "{text}");
    }
    let (status, text) = refusal(&ask(&server, "POST", "/login", None, "{").await);
    assert_eq!(status, 400);
    assert!(text.starts_with("login failed: "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_answered_with_when_to_come_back() {
    let server = open();
    post(&server, "/register", None, credentials("a", KEY)).await;
    let flooder = "198.51.100.1:1";
    let request = || {
        let body = credentials("b", WRONG).to_string();
        Request::post("/login").body(Body::from(body)).expect("a request")
    };
    let mut limited = None;
    for _ in 0..100 {
        let answer = server.send(flooder, request()).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 400);
    }
    let limited = limited.expect("the bucket is empty at some time");
    let (_, text) = refusal(&limited);
    assert!(text.starts_with("login failed: ") && text.contains("try again"), "{text}");
    let wait = limited.header("retry-after").and_then(|v| v.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "{limited:?}");

    let wrong = basic("a", WRONG);
    let sessions = Request::get("/calls/c/sessions").header("authorization", &wrong);
    let sessions = server.send(flooder, sessions.body(Body::empty()).expect("a request")).await;
    assert_eq!(sessions.status, 429, "neither 401 nor 404: {sessions:?}");

    let elsewhere = post(&server, "/login", None, credentials("a", KEY)).await;
    assert_eq!(elsewhere.0, 200, "the client itself gets in: {elsewhere:?}");
    let metrics = server.get("/metrics").await.body;
    assert!(
        metrics.contains("sluice_auth_attempts_total{outcome=\"source_limited\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("sluice_auth_attempts_total{outcome=\"right\"} 1"), "{metrics}");
    assert!(metrics.contains("sluice_auth_evicted_total 0"), "{metrics}");
}

#[tokio::test]
async fn wrong_methods_are_404_in_plain_text() {
    let server = open();
    let cases = [
        ("GET", "/register"),
        ("PUT", "/unregister"),
        ("GET", "/login"),
        ("POST", "/version"),
        ("DELETE", "/system"),
        ("POST", "/calls/c/sessions"),
        ("OPTIONS", "/calls/c/sessions/s"),
    ];
    for (method, path) in cases {
        let answer = ask(&server, method, path, None, "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.body, "404 page not found\n");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for path in ["/registers", "/calls", "/calls/c", "/calls/c/sessions/s/x", "/login/"] {
        assert_eq!(ask(&server, "GET", path, None, "").await.problem(), "unknown-path", "{path}");
    }
}

#[tokio::test]
async fn the_version_is_one_that_rtcds_clients_take() {
    let answer = ask(&Server::new(), "GET", "/version", None, "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let version = answer.json();
    let fields = version.as_object().expect("an object");
    let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = ["buildDate", "buildHash", "buildVersion", "goArch", "goOS", "goVersion"];
    assert_eq!(names, expected);
    assert!(fields.values().all(|value| value.as_str().is_some_and(|text| !text.is_empty())));
    let ours = format!("v1.2.6+sluice.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(version["buildVersion"], ours);
    assert_eq!(version["goOS"], "linux");
    assert!(["amd64", "arm64"].contains(&version["goArch"].as_str().expect("text")));
}

#[tokio::test]
async fn the_system_says_how_busy_it_is() {
    let server = Server::with_shards(2, &[]);
    let answer = ask(&server, "GET", "/system", None, "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json(), json!({"cpu_load": 0.0, "backend": "mmsg", "shards": 2}));
}

/// Two sessions in a call of client `a`, and an empty call.
struct TwoSessions;

fn session(id: &str) -> SessionConfig {
    let props = SessionProps {
        channel: (id == "s1").then(|| "channel".to_owned()),
        av1_support: (id == "s1").then_some(true),
        dc_signaling: None,
    };
    SessionConfig {
        group: "a".to_owned(),
        call: "c".to_owned(),
        user: "u".to_owned(),
        session: id.to_owned(),
        props,
    }
}

impl Directory for TwoSessions {
    fn sessions(&self, group: &str, call: &str) -> Result<Vec<SessionConfig>, LookupError> {
        match (group, call) {
            ("a", "c") => Ok(vec![session("s1"), session("s2")]),
            ("a", "empty") => Ok(Vec::new()),
            ("a", _) => Err(LookupError::UnknownCall),
            _ => Err(LookupError::UnknownGroup),
        }
    }

    fn session(&self, group: &str, call: &str, id: &str) -> Result<SessionConfig, LookupError> {
        let sessions = self.sessions(group, call)?;
        let found = sessions.into_iter().find(|session| session.session == id);
        found.ok_or(LookupError::UnknownSession)
    }
}

#[tokio::test]
async fn sessions_are_told_to_the_client_that_has_them() {
    let mut server = with_admin();
    let mut app = server.app.clone();
    app.directory = Arc::new(TwoSessions);
    server.router = app.router();
    for id in ["a", "b"] {
        post(&server, "/register", Some(&basic("", ADMIN)), credentials(id, KEY)).await;
    }
    let (a, b) = (basic("a", KEY), basic("b", KEY));
    let get = async |authorization: &str, path: &str| {
        ask(&server, "GET", path, Some(authorization), "").await
    };
    let s1 = json!({"GroupID": "a", "CallID": "c", "UserID": "u", "SessionID": "s1",
                    "Props": {"channelID": "channel", "av1Support": true, "dcSignaling": null}});
    let s2 = json!({"GroupID": "a", "CallID": "c", "UserID": "u", "SessionID": "s2",
                    "Props": {"channelID": null, "av1Support": null, "dcSignaling": null}});
    let all = get(&a, "/calls/c/sessions").await;
    assert_eq!((all.status.as_u16(), all.json()), (200, json!([s1, s2])));
    assert_eq!(all.header("content-type"), Some("application/json"));
    let one = get(&a, "/calls/c/sessions/s1").await;
    assert_eq!((one.status.as_u16(), one.json()), (200, s1));

    let (list, single) = ("failed to get session configs: ", "failed to get session config: ");
    for (who, path, text) in [
        (&b, "/calls/c/sessions", format!("{list}group not found\n")),
        (&a, "/calls/x/sessions", format!("{list}call not found\n")),
        (&a, "/calls/empty/sessions", format!("{list}no sessions found\n")),
        (&a, "/calls/%ff/sessions", format!("{list}call not found\n")),
        (&b, "/calls/c/sessions/s1", format!("{single}group not found\n")),
        (&a, "/calls/x/sessions/s1", format!("{single}call not found\n")),
        (&a, "/calls/c/sessions/s9", format!("{single}session not found\n")),
    ] {
        let answer = get(who, path).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (404, &text), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    for path in ["/calls/c/sessions", "/calls/c/sessions/s1"] {
        for who in [&basic("", ADMIN), &basic("a", WRONG), &"Bearer x".to_owned()] {
            let answer = get(who, path).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, "unauthorized\n"));
        }
        assert_eq!(ask(&server, "GET", path, None, "").await.status, 401);
    }
}
