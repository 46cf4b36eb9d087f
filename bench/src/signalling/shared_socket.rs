//! The worker's WebSocket of rtcd's API: what all clients say goes over it, what comes is given to the client whose session it names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::AUTHORIZATION};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::{Server, TIMEOUT};
use super::{Key, Shared};
use crate::conversation::{Heard, rtcd_message};

/// The longest message, as of the servers.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A WebSocket over TCP.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// The WebSocket while it is open.
pub(super) struct SharedSocket {
    /// What is put into it is sent; it ends with the WebSocket.
    pub(super) messages: mpsc::UnboundedSender<(Key, Vec<u8>)>,
    reader: JoinHandle<()>,
}

/// How long a server may take to answer a close.
const CLOSE_MAX: Duration = Duration::from_secs(2);

impl SharedSocket {
    /// Closes it and waits for the server's close: by then it has read all that was said. Without, what clients said last could be
    /// lost with the connection, and their sessions would stay.
    pub(super) async fn close(self) {
        drop(self.messages);
        // A server that does not answer is left without.
        let _ = tokio::time::timeout(CLOSE_MAX, self.reader).await;
    }
}

/// Opens the WebSocket and waits until the server has greeted.
///
/// # Errors
/// No connection, or the server refused it.
pub(super) async fn open(server: &Server, shared: &Arc<Shared>) -> Result<SharedSocket, String> {
    let mut socket = connect(server, "/ws").await?;
    let greeted = tokio::time::timeout(TIMEOUT, greeting(&mut socket)).await;
    greeted.map_err(|_| "the server's WebSocket said no hello within 20 s".to_owned())??;
    let (sink, stream) = socket.split();
    let (sender, to_send) = mpsc::unbounded_channel();
    let ended = Arc::new(Notify::new());
    tokio::spawn(write(sink, to_send, Arc::clone(shared), Arc::clone(&ended)));
    let reader = tokio::spawn(read(stream, Arc::clone(shared), ended));
    Ok(SharedSocket { messages: sender, reader })
}

/// Makes a WebSocket at a path of the server.
///
/// # Errors
/// No connection, or the server refused it.
pub(super) async fn connect(server: &Server, path: &str) -> Result<Socket, String> {
    let url = format!("ws://{}{path}", server.authority);
    let mut request = url.as_str().into_client_request().map_err(|e| format!("{url}: {e}"))?;
    if let Some(authorization) = &server.authorization {
        let value = HeaderValue::from_str(authorization).map_err(|_| {
            "the account or token has characters that HTTP does not carry".to_owned()
        })?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let stream = server.connect().await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    match tokio::time::timeout(TIMEOUT, opening).await {
        Ok(Ok((socket, _))) => Ok(socket),
        // rtcd says 200 where it should say 401.
        Ok(Err(Error::Http(answer))) if matches!(answer.status().as_u16(), 200 | 401 | 403) => {
            let status = answer.status().as_u16();
            Err(format!("{url}: the server does not know the account or token (status {status})"))
        }
        Ok(Err(error)) => Err(format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: no WebSocket within 20 s")),
    }
}

async fn greeting(socket: &mut Socket) -> Result<(), String> {
    while let Some(message) = socket.next().await {
        let message = message.map_err(|error| format!("the server's WebSocket: {error}"))?;
        if matches!(&message, Message::Binary(bytes) if rtcd_message::is_hello(bytes)) {
            return Ok(());
        }
    }
    Err("the server closed its WebSocket without a hello".to_owned())
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut messages: mpsc::UnboundedReceiver<(Key, Vec<u8>)>,
    shared: Arc<Shared>,
    ended: Arc<Notify>,
) {
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = ended.notified() => break,
        };
        let Some((key, bytes)) = message else {
            // The reader hears what comes of it.
            let _ = sink.close().await;
            return;
        };
        let sent = sink.send(Message::binary(bytes)).await;
        shared.carried();
        if let Err(error) = sent {
            shared.hear(key, Heard::SocketClosed(error.to_string())).await;
            break;
        }
    }
    messages.close();
    while let Some((key, _)) = messages.recv().await {
        shared.carried();
        shared.hear(key, Heard::SocketClosed("it has ended".to_owned())).await;
    }
}

async fn read(mut stream: SplitStream<Socket>, shared: Arc<Shared>, ended: Arc<Notify>) {
    let why = loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                let named = rtcd_message::decode(&bytes).map(|(session, _)| session);
                let key = named.and_then(|session| shared.inbox().sessions.get(&session).copied());
                if let Some(key) = key {
                    shared.hear(key, Heard::Message(bytes.into())).await;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.to_string(),
            None => break "the server closed it".to_owned(),
        }
    };
    ended.notify_one();
    let all: Vec<Key> = shared.inbox().sessions.values().copied().collect();
    for key in all {
        shared.hear(key, Heard::SocketClosed(why.clone())).await;
    }
}
