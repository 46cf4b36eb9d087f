//! A server of plugins' WebSockets alone, with an inbox that records, and clients over loopback or in memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use rmpv::Value;
use sluice_control::auth::{Auth, Client};
use sluice_control::config::{Config, Settings};
use sluice_control::rtcd::hub::{ConnectionId, Hub, HubLimits};
use sluice_control::rtcd::message::FromPlugin;
use sluice_control::rtcd::socket::{self, Direction, Inbox, PluginSockets, SocketEvents};
use sluice_control::store::Store;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tower::ServiceExt as _;

use crate::support::listen_on_loopback;

pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(super) const ADMIN_KEY: &str = "the key of the administrator, long enough";

/// Basic credentials of `clientA` with [`KEY`].
pub(super) const BASIC_A: &str = "Basic Y2xpZW50QTowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==";

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the inbox was given.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) client: String,
    pub(super) connection: ConnectionId,
    pub(super) message: FromPlugin,
}

/// Records, and can be made to wait.
struct Recorder {
    received: mpsc::UnboundedSender<Received>,
    /// Each message of `slow` sessions takes one; there are none to begin with.
    permits: Arc<Semaphore>,
}

impl Inbox for Recorder {
    fn handle<'a>(
        &'a self,
        client: &'a Client,
        connection: &'a ConnectionId,
        message: FromPlugin,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let is_slow = matches!(&message, FromPlugin::Leave { session } if session == "slow");
            let client = client.id.clone();
            let received = Received { client, connection: connection.clone(), message };
            self.received.send(received).expect("the test goes on");
            if is_slow {
                self.permits.acquire().await.expect("it is never closed").forget();
            }
        })
    }
}

/// What was told of the sockets.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) opened: Mutex<Vec<String>>,
    pub(super) closed: Mutex<Vec<String>>,
    messages: Mutex<HashMap<(String, String, Direction), usize>>,
}

impl Events {
    pub(super) fn messages(&self, client: &str, type_name: &str, direction: Direction) -> usize {
        let key = (client.to_owned(), type_name.to_owned(), direction);
        self.messages.lock().expect("no test panicked with it").get(&key).copied().unwrap_or(0)
    }
}

impl SocketEvents for Events {
    fn ws_opened(&self, client: &str) {
        self.opened.lock().expect("no test panicked with it").push(client.to_owned());
    }

    fn ws_closed(&self, client: &str) {
        self.closed.lock().expect("no test panicked with it").push(client.to_owned());
    }

    fn ws_message(&self, client: &str, type_name: &str, direction: Direction) {
        let key = (client.to_owned(), type_name.to_owned(), direction);
        *self.messages.lock().expect("no test panicked with it").entry(key).or_default() += 1;
    }
}

pub(super) struct Server {
    pub(super) sockets: PluginSockets,
    pub(super) events: Arc<Events>,
    pub(super) received: mpsc::UnboundedReceiver<Received>,
    /// Lets the inbox go on with messages of the session `slow`.
    pub(super) permits: Arc<Semaphore>,
    router: Router,
    config: Config,
    listening: Option<(SocketAddr, watch::Sender<bool>)>,
}

impl Server {
    /// `clientA` and `clientB` are registered, both with [`KEY`].
    pub(super) async fn with(limits: HubLimits) -> Self {
        let mut settings = Settings::defaults();
        for (key, value) in
            [("api.security.enable_admin", "true"), ("api.security.admin_secret_key", ADMIN_KEY)]
        {
            settings.apply_flag("test", key, value).expect("a valid setting");
        }
        let config = settings.finish().expect("valid settings");
        let auth = Auth::new(Store::in_memory().expect("memory"), &config.security);
        for client in ["clientA", "clientB"] {
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            auth.register(client, KEY, here, true).await.expect("a valid client");
        }
        let (sender, received) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(0));
        let events = Arc::new(Events::default());
        let sockets = PluginSockets {
            auth,
            hub: Hub::new(limits),
            inbox: Arc::new(Recorder { received: sender, permits: Arc::clone(&permits) }),
            events: Arc::clone(&events) as _,
        };
        let router = socket::router(sockets.clone());
        Self { sockets, events, received, permits, router, config, listening: None }
    }

    pub(super) async fn new() -> Self {
        Self::with(HubLimits::default()).await
    }

    /// Where it listens on loopback; it begins with the first question.
    pub(super) fn address(&mut self) -> SocketAddr {
        if let Some((address, _)) = &self.listening {
            return *address;
        }
        let (address, stop) = listen_on_loopback(self.router.clone(), &self.config);
        self.listening = Some((address, stop));
        address
    }

    /// A connection in memory, for clocks that do not run by themselves; `buffer` bytes fit in either direction.
    pub(super) fn in_memory(&self, buffer: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(buffer);
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<_>| {
            let mut request = request.map(Body::new);
            let peer: SocketAddr = "127.0.0.1:40000".parse().expect("an address");
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades();
        tokio::spawn(async move { connection.await.expect("a well-formed request") });
        ours
    }

    /// A client of loopback that was greeted.
    pub(super) async fn connect(&mut self, client: &str) -> Plugin<TcpStream> {
        let address = self.address();
        let stream = TcpStream::connect(address).await.expect("it listens");
        Plugin::open(stream, &basic(client, KEY)).await.expect("the handshake succeeds")
    }

    /// The next message that the inbox was given.
    pub(super) async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(PATIENCE, self.received.recv()).await;
        next.expect("a message arrives").expect("the inbox is there")
    }

    /// The next message is the leaving of this session.
    pub(super) async fn next_is_leave(&mut self, session: &str) -> Received {
        let next = self.next().await;
        assert_eq!(next.message, FromPlugin::Leave { session: session.to_owned() });
        next
    }

    /// Waits until a client has so many connections.
    pub(super) async fn until_connections(&self, client: &str, count: usize) {
        let reached = async {
            while self.sockets.hub.connections_of(client) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("connections come and go");
    }
}

pub(super) fn basic(client: &str, key: &str) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{client}:{key}"));
    format!("Basic {encoded}")
}

/// A plugin's end of a WebSocket.
pub(super) struct Plugin<S> {
    pub(super) stream: WebSocketStream<S>,
    /// What it was told in the greeting.
    pub(super) client: String,
    pub(super) connection: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Plugin<S> {
    /// Opens a WebSocket over `stream`, or gives the status and the text of the refusal.
    pub(super) async fn open(stream: S, authorization: &str) -> Result<Self, (u16, String)> {
        let mut request = "ws://localhost/ws".into_client_request().expect("a request");
        let value = authorization.parse().expect("a field's value");
        request.headers_mut().insert("authorization", value);
        let stream = match client_async(request, stream).await {
            Ok((stream, _)) => stream,
            Err(tungstenite::Error::Http(refusal)) => {
                let body = refusal.body().as_deref().unwrap_or_default();
                let text = String::from_utf8(body.to_vec()).expect("text");
                return Err((refusal.status().as_u16(), text));
            }
            Err(error) => panic!("{error}"),
        };
        let mut plugin = Self { stream, client: String::new(), connection: String::new() };
        let (type_name, payload) = plugin.next().await;
        assert_eq!(type_name, "hello");
        plugin.client = text(&payload, "clientID");
        plugin.connection = text(&payload, "connID");
        Ok(plugin)
    }

    pub(super) async fn send(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::Binary(bytes.into())).await.expect("it is open");
    }

    /// Says that a session leaves.
    pub(super) async fn leave(&mut self, session: &str) {
        self.send(leave(session)).await;
    }

    /// The next message of the server that is no ping.
    pub(super) async fn message(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match next.expect("the server says something or closes") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                // A connection that ends without a close.
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message's type and payload.
    pub(super) async fn next(&mut self) -> (String, Value) {
        match self.message().await {
            Some(Message::Binary(bytes)) => {
                let mut rest = bytes.as_ref();
                let mut read = || rmpv::decode::read_value(&mut rest).expect("MessagePack");
                let (type_name, payload) = (read(), read());
                (type_name.as_str().expect("text").to_owned(), payload)
            }
            other => panic!("no message but {other:?}"),
        }
    }

    /// The code with which the server closes; messages before it are passed over.
    pub(super) async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.message().await {
                Some(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Some(_) => {}
                None => return None,
            }
        }
    }
}

pub(super) fn text(map: &Value, key: &str) -> String {
    map[key].as_str().unwrap_or_else(|| panic!("{key} is text in {map}")).to_owned()
}

/// A message of a plugin.
pub(super) fn message(type_name: &str, payload: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [&Value::from(type_name), payload] {
        rmpv::encode::write_value(&mut bytes, value).expect("memory takes it");
    }
    bytes
}

pub(super) fn leave(session: &str) -> Vec<u8> {
    message("leave", &Value::Map(vec![("sessionID".into(), session.into())]))
}

/// A frame of a client as it goes over the wire, masked with zeros. Source: RFC 6455 §5.2.
pub(super) fn frame(opcode: u8, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_header(opcode, is_last, payload.len() as u64);
    bytes.extend(payload);
    bytes
}

/// The header alone, which may announce what does not follow.
pub(super) fn frame_header(opcode: u8, is_last: bool, length: u64) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_last) << 7 | opcode, 0x80 | 127];
    if length < 126 {
        bytes[1] = 0x80 | length as u8;
    } else {
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// A handshake as text.
pub(super) fn handshake(more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BASIC_A}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
    )
}
