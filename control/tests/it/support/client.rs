//! A server over the stand-in, asked in memory or over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use flate2::read::GzDecoder;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sluice_control::auth::Auth;
use sluice_control::config::{Config, Settings};
use sluice_control::host_tuning::HostTuning;
use sluice_control::http::{App, server};
use sluice_control::service::{Service, report_channels};
use sluice_control::store::Store;
use sluice_engine::shard::handle::Reports;
use sluice_tuning::demand::Goal;
use sluice_tuning::host::Host;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::ServiceExt as _;

use super::FakePlane;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) plane: Arc<FakePlane>,
    pub(crate) service: Arc<Service>,
    pub(crate) router: Router,
    /// What the router was made of.
    pub(crate) app: App,
    /// One for each shard: what the engine reports by itself.
    pub(crate) reports: Vec<Box<dyn Reports>>,
    pub(crate) config: Config,
    listening: Option<(SocketAddr, watch::Sender<bool>)>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().expect("ASCII"))
    }

    /// The code of a problem, with its form checked.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{self:?}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{self:?}");
        let kind = problem["type"].as_str().expect("type is a string");
        kind.strip_prefix("urn:sluice:problem:").expect("a type of ours").to_owned()
    }
}

impl Server {
    /// With the defaults changed by `settings`.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        Self::with_shards(1, settings)
    }

    pub(crate) fn with_shards(shards: u16, settings: &[(&str, &str)]) -> Self {
        Self::on_host(Host::below("/nowhere"), shards, settings)
    }

    /// On a host of its own.
    pub(crate) fn on_host(host: Host, shards: u16, settings: &[(&str, &str)]) -> Self {
        let mut all = Settings::defaults();
        for (key, value) in settings {
            all.apply_flag("test", key, value).expect("a valid setting");
        }
        let config = all.finish().expect("valid settings");
        let plane = FakePlane::new(shards);
        let service = Service::new(Arc::clone(&plane) as _, &config);
        let (reports, queues) = (0..shards).map(|_| report_channels()).unzip();
        service.watch(queues);
        let auth = Auth::new(Store::in_memory().expect("memory is there"), &config.security);
        let goal = Goal { shards: Some(u32::from(shards)), ..config.goal() };
        let tuning = HostTuning::new(config.tuning.mode, goal, host);
        tuning.start();
        let app = App::new(Arc::clone(&service), &config, tuning, auth);
        Self { plane, service, router: app.router(), app, reports, config, listening: None }
    }

    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Sends any request as if it had come from `peer`.
    pub(crate) async fn send(&self, peer: &str, request: Request<Body>) -> Answer {
        let peer: SocketAddr = peer.parse().expect("an address");
        let mut request = request;
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("it never fails");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 16 << 20).await.expect("a whole body");
        let is_gzip = parts.headers.get("content-encoding").is_some_and(|coding| coding == "gzip");
        let body = match is_gzip {
            true => std::io::read_to_string(GzDecoder::new(body.as_ref())).expect("gzip of text"),
            false => String::from_utf8(body.to_vec()).expect("text"),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// From this host, with `headers` and a body.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send("127.0.0.1:40000", request.body(body.into()).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Makes a call.
    pub(crate) async fn call(&self, id: &str) {
        assert_eq!(self.post("/v1/calls", json!({"id": id})).await.status, 201);
    }

    /// Makes a session with an offer; returns what the server said.
    pub(crate) async fn join(&self, call: &str, name: &str, sdp: &str) -> Value {
        let body = json!({"name": name, "offer": {"type": "offer", "sdp": sdp}});
        let answer = self.post(&format!("/v1/calls/{call}/sessions"), body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Starts to listen on loopback, on a free port.
    pub(crate) async fn listen(&mut self) -> SocketAddr {
        if let Some((address, _)) = &self.listening {
            return *address;
        }
        let (address, stop) = listen_on_loopback(self.router.clone(), &self.config);
        self.listening = Some((address, stop));
        address
    }

    /// Stops listening.
    pub(crate) fn stop(&self) {
        if let Some((_, stop)) = &self.listening {
            let _ = stop.send(true);
        }
    }

    /// Opens a session's WebSocket as `ws_url` says.
    pub(crate) async fn socket(&mut self, created: &Value) -> Socket {
        let path = created["ws_url"].as_str().expect("a path").to_owned();
        let mut socket = self.try_socket(&path).await.expect("the WebSocket opens");
        let welcome = socket.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        socket.welcome = welcome;
        socket
    }

    /// Opens a WebSocket, or gives the status of the refusal.
    pub(crate) async fn try_socket(&mut self, path: &str) -> Result<Socket, StatusCode> {
        let address = self.listen().await;
        match tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await {
            Ok((stream, _)) => Ok(Socket { stream, welcome: Value::Null }),
            Err(tokio_tungstenite::tungstenite::Error::Http(refusal)) => {
                Err(StatusCode::from_u16(refusal.status().as_u16()).expect("a status"))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A WebSocket client.
pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) welcome: Value,
}

impl Socket {
    pub(crate) async fn say(&mut self, message: Value) {
        self.say_text(message.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.stream.send(Message::Text(text.into())).await.expect("it is open");
    }

    async fn message(&mut self) -> Option<Message> {
        let message = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        message.expect("the server says something").and_then(Result::ok)
    }

    /// The next JSON message.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Message::Text(text)) => {
                    return serde_json::from_str(text.as_str()).expect("JSON");
                }
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The next message of this type; others are passed over.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The code with which the server closes; messages before it are passed over.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(_) => {}
                None => panic!("the connection ended without a code"),
            }
        }
    }
}

/// Serves on loopback, on a free port, until told to stop.
pub(crate) fn listen_on_loopback(
    router: Router,
    config: &Config,
) -> (SocketAddr, watch::Sender<bool>) {
    let mut http = config.http.clone();
    http.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let listener = server::bind(&http).expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move { server::serve(listener, None, router, &http, stopped).await });
    (address, stop)
}
