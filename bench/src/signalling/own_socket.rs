//! A WebSocket of one client (Sluice's own API): text both ways.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::http::Server;
use super::shared_socket::{Socket, connect};
use super::{Key, Shared};
use crate::conversation::Heard;

/// Carries texts until the WebSocket ends, or nobody can send any more.
pub(super) async fn run(
    key: Key,
    path: String,
    server: Server,
    shared: Arc<Shared>,
    mut texts: mpsc::UnboundedReceiver<String>,
) {
    let why = match connect(&server, &path).await {
        Ok(socket) => {
            shared.hear(key, Heard::SocketOpen).await;
            carry(key, socket, &shared, &mut texts).await
        }
        Err(why) => Some(why),
    };
    texts.close();
    while texts.recv().await.is_some() {
        shared.carried();
    }
    if let Some(why) = why {
        shared.hear(key, Heard::SocketClosed(why)).await;
    }
}

/// Why the server ended it; `None` when we did.
async fn carry(
    key: Key,
    mut socket: Socket,
    shared: &Shared,
    texts: &mut mpsc::UnboundedReceiver<String>,
) -> Option<String> {
    loop {
        tokio::select! {
            text = texts.recv() => {
                let Some(text) = text else {
                    // The session ends without it, too.
                    let _ = socket.close(None).await;
                    return None;
                };
                let sent = socket.send(Message::text(text)).await;
                shared.carried();
                if let Err(error) = sent {
                    return Some(error.to_string());
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    shared.hear(key, Heard::Text(text.to_string())).await;
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Some(format!("code {} {}", u16::from(frame.code), frame.reason));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the server closed it".to_owned()),
            },
        }
    }
}
