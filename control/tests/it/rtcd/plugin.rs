//! One node of a Mattermost installation: registers, holds a WebSocket, and hands messages to its users.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::codec::{self, FromServer, Signal};
use super::http::{self, Answer, basic};
use super::in_time;
use super::server::Server;

/// Credentials of an installation.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) server: SocketAddr,
    pub(crate) client: String,
    pub(crate) key: String,
}

impl Account {
    /// Registers `client` with a key of 32 characters, as a plugin makes it.
    pub(crate) async fn register(server: &Server, client: &str) -> Self {
        let key = format!("{client:-<32}");
        let body = json!({"clientID": client, "authKey": key}).to_string();
        let answer = server.post("/register", &[], &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json(), json!({"code": "201", "clientID": client}));
        Self { server: server.http, client: client.to_owned(), key }
    }

    /// The header of Basic authentication.
    pub(crate) fn basic(&self) -> String {
        basic(&self.client, &self.key)
    }

    /// Logs in; the token.
    pub(crate) async fn login(&self) -> String {
        let answer =
            self.post("/login", json!({"clientID": self.client, "authKey": self.key})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["bearerToken"].as_str().expect("a token").to_owned()
    }

    /// Ends the registration.
    pub(crate) async fn unregister(&self) -> Answer {
        self.post("/unregister", json!({"clientID": self.client})).await
    }

    /// A session of the sessions API, or all of a call.
    pub(crate) async fn sessions(&self, call: &str, session: Option<&str>) -> Answer {
        let tail = session.map(|session| format!("/{session}")).unwrap_or_default();
        let path = format!("/calls/{call}/sessions{tail}");
        http::ask(self.server, "GET", &path, &[self.basic()], "").await
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> Answer {
        http::ask(self.server, "POST", path, &[self.basic()], &body.to_string()).await
    }
}

/// What a plugin has seen of its connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How many connections were opened.
    pub(crate) opened: usize,
    /// Whether the last one is open.
    pub(crate) open: bool,
    /// Code with which the server closed the last one, if it did.
    pub(crate) close_code: Option<u16>,
    /// Each message, over all connections. `data` of `rtc` messages is left out: the user has it.
    pub(crate) log: Vec<FromServer>,
    /// Sessions of messages that no user here awaits.
    pub(crate) strays: Vec<String>,
    /// What the server may not send.
    pub(crate) wrong: Vec<String>,
}

impl Seen {
    /// Whether this session was closed.
    pub(crate) fn closed(&self, session: &str) -> bool {
        let close = |message: &FromServer| matches!(message, FromServer::Close { .. });
        self.log.iter().any(|message| close(message) && message.session() == Some(session))
    }

    /// Types of the `vad` messages of this session, oldest first.
    pub(crate) fn voice_activity(&self, session: &str) -> Vec<u64> {
        let vad = |message: &FromServer| match message {
            FromServer::Vad(signal) if signal.session == session => Some(signal.kind),
            _ => None,
        };
        self.log.iter().filter_map(vad).collect()
    }

    /// Id of the last connection.
    pub(crate) fn connection(&self) -> Option<&str> {
        self.log.iter().rev().find_map(|message| match message {
            FromServer::Hello { connection, .. } => Some(connection.as_str()),
            _ => None,
        })
    }
}

/// Where the messages of a session go.
type Route = mpsc::UnboundedSender<Signal>;

/// One node of an installation. Clones are the same node.
#[derive(Clone)]
pub(crate) struct Plugin(Arc<Inner>);

struct Inner {
    account: Account,
    authorization: String,
    routes: Mutex<HashMap<String, Route>>,
    outbox: Mutex<mpsc::UnboundedSender<Message>>,
    connection: Mutex<Option<tokio::task::JoinHandle<()>>>,
    seen: watch::Sender<Seen>,
}

impl Plugin {
    /// Registers `client` and connects.
    pub(crate) async fn new(server: &Server, client: &str) -> Self {
        Self::connect(&Account::register(server, client).await).await
    }

    /// Connects with Basic authentication and waits for `hello`.
    pub(crate) async fn connect(account: &Account) -> Self {
        Self::connect_with(account, account.basic()).await
    }

    /// Connects with any `Authorization` header and waits for `hello`.
    pub(crate) async fn connect_with(account: &Account, authorization: String) -> Self {
        let plugin = Self(Arc::new(Inner {
            account: account.clone(),
            authorization,
            routes: Mutex::default(),
            outbox: Mutex::new(mpsc::unbounded_channel().0),
            connection: Mutex::default(),
            seen: watch::Sender::default(),
        }));
        plugin.open().await;
        plugin
    }

    pub(crate) fn account(&self) -> &Account {
        &self.0.account
    }

    /// Opens a connection in place of the one before it, and waits for `hello`.
    pub(crate) async fn open(&self) {
        let opened = open_socket(self.0.account.server, &self.0.authorization).await;
        let socket = opened.expect("the server accepts the plugin");
        let (outbox, to_send) = mpsc::unbounded_channel();
        *self.0.outbox.lock().expect("nobody panics inside") = outbox;
        let before = self.0.seen.borrow().log.len();
        self.0.seen.send_modify(|seen| {
            seen.opened += 1;
            seen.open = true;
            seen.close_code = None;
        });
        let task = tokio::spawn(carry(Arc::downgrade(&self.0), socket, to_send));
        *self.0.connection.lock().expect("nobody panics inside") = Some(task);
        self.wait("hello", |seen| seen.log.len() > before).await;
        let first = self.0.seen.borrow().log[before].clone();
        let FromServer::Hello { client, connection } = first else {
            panic!("the first message is {first:?}")
        };
        assert_eq!(client, self.0.account.client);
        let alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769";
        assert!(connection.len() == 26 && connection.chars().all(|c| alphabet.contains(c)));
    }

    /// Ends the TCP connection without a word, as a host that is switched off.
    pub(crate) async fn cut(&self) {
        let task = self.0.connection.lock().expect("nobody panics inside").take();
        let task = task.expect("the connection was opened");
        task.abort();
        let _ = task.await;
        self.0.seen.send_modify(|seen| seen.open = false);
    }

    /// Waits until `happened`; what the server may not send fails the test at once.
    pub(crate) async fn wait(&self, what: &str, happened: impl Fn(&Seen) -> bool) {
        let mut seen = self.0.seen.subscribe();
        let outcome = tokio::time::timeout(
            super::PATIENCE,
            seen.wait_for(|seen| happened(seen) || !seen.wrong.is_empty()),
        )
        .await
        .is_ok();
        let seen = self.0.seen.borrow();
        assert!(seen.wrong.is_empty(), "waiting for {what}: {:?}", seen.wrong);
        assert!(outcome, "{what} did not come; the plugin has seen {:#?}", *seen);
    }

    /// Looks at what was seen.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.0.seen.borrow())
    }

    /// Waits until the server has handled everything that was sent on this connection before.
    ///
    /// Messages of a connection are handled one after the other (2.7): a session that joins, offers nothing and leaves
    /// is closed, and its `close` comes after all that was before it.
    pub(crate) async fn settle(&self) {
        let marker = format!("marker{}", self.look(|seen| seen.log.len()));
        self.0.route(&marker, &mpsc::unbounded_channel().0);
        self.join("settling", "nobody", &marker, [false; 2]);
        self.leave(&marker);
        self.wait("the close of a session that left", |seen| seen.closed(&marker)).await;
        self.unroute(&marker);
    }

    /// Sends any bytes as a binary message.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        self.send_message(Message::Binary(bytes.into()));
    }

    /// Sends any WebSocket message; what is sent after the connection has ended is lost.
    pub(crate) fn send_message(&self, message: Message) {
        let _ = self.0.outbox.lock().expect("nobody panics inside").send(message);
    }

    /// `join`; `support` is `av1Support` and `dcSignaling`.
    pub(crate) fn join(&self, call: &str, user: &str, session: &str, support: [bool; 2]) {
        self.send(codec::message(
            "join",
            &codec::map(&[
                ("callID", call.into()),
                ("userID", user.into()),
                ("sessionID", session.into()),
                ("channelID", format!("channel-of-{call}").into()),
                ("av1Support", support[0].into()),
                ("dcSignaling", support[1].into()),
            ]),
        ));
    }

    pub(crate) fn leave(&self, session: &str) {
        self.send(codec::message("leave", &codec::map(&[("sessionID", Value::from(session))])));
    }

    pub(crate) fn reconnect(&self, session: &str) {
        self.send(codec::message("reconnect", &codec::map(&[("sessionID", Value::from(session))])));
    }

    pub(crate) fn rtc(&self, session: &str, kind: u64, data: &[u8]) {
        self.send(codec::rtc(session, kind, data));
    }

    /// Messages of this session go to `route`.
    pub(crate) fn route(&self, session: &str, route: &Route) {
        self.0.route(session, route);
    }

    pub(crate) fn unroute(&self, session: &str) {
        self.0.routes.lock().expect("nobody panics inside").remove(session);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.connection.lock().expect("nobody panics inside").take() {
            task.abort();
        }
    }
}

impl Inner {
    fn route(&self, session: &str, route: &Route) {
        let mut routes = self.routes.lock().expect("nobody panics inside");
        routes.insert(session.to_owned(), route.clone());
    }

    fn handle(&self, bytes: &[u8]) {
        let message = match codec::read_message(bytes) {
            Ok(message) => message,
            Err(error) => {
                let wrong = format!("{error}: {bytes:02x?}");
                return self.seen.send_modify(|seen| seen.wrong.push(wrong));
            }
        };
        let routes = self.routes.lock().expect("nobody panics inside");
        let route = message.session().and_then(|session| routes.get(session)).cloned();
        drop(routes);
        let stray = message.session().filter(|_| route.is_none()).map(str::to_owned);
        let mut logged = message.clone();
        if let FromServer::Rtc(signal) = &mut logged {
            signal.data.clear();
        }
        let group = match &message {
            FromServer::Rtc(signal) | FromServer::Vad(signal) => Some(signal.group.clone()),
            _ => None,
        };
        if let (Some(route), FromServer::Rtc(signal)) = (route, message) {
            let _ = route.send(signal);
        }
        self.seen.send_modify(|seen| {
            seen.strays.extend(stray);
            if group.is_some_and(|group| group != self.account.client) {
                seen.wrong.push(format!("a message of another client's: {logged:?}"));
            }
            seen.log.push(logged);
        });
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens `/ws`, or gives the status of the refusal.
pub(crate) async fn open_socket(server: SocketAddr, authorization: &str) -> Result<Socket, u16> {
    let mut request = format!("ws://{server}/ws").into_client_request().expect("a URL");
    let value = authorization.strip_prefix("Authorization: ").expect("a header line");
    request.headers_mut().insert("Authorization", value.parse().expect("a header value"));
    match in_time("the WebSocket", tokio_tungstenite::connect_async(request)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
        Err(error) => panic!("no WebSocket: {error}"),
    }
}

/// Moves messages both ways until either side ends the connection.
async fn carry(
    plugin: std::sync::Weak<Inner>,
    mut socket: Socket,
    mut to_send: mpsc::UnboundedReceiver<Message>,
) {
    let mut code = None;
    loop {
        let received = tokio::select! {
            message = to_send.recv() => {
                let Some(message) = message else { break };
                if socket.send(message).await.is_err() {
                    break;
                }
                continue;
            }
            received = socket.next() => received,
        };
        let Some(inner) = plugin.upgrade() else { return };
        match received {
            Some(Ok(Message::Binary(bytes))) => inner.handle(&bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => code = frame.map(|frame| frame.code.into()),
            Some(Ok(other)) => {
                let wrong = format!("the server sends binary messages only, not {other:?}");
                inner.seen.send_modify(|seen| seen.wrong.push(wrong));
            }
            Some(Err(_)) | None => break,
        }
    }
    if let Some(inner) = plugin.upgrade() {
        inner.seen.send_modify(|seen| {
            seen.open = false;
            seen.close_code = code;
        });
    }
}
