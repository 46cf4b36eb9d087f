//! `GET /ws`: the WebSocket of a plugin, with rtcd's conditions. Source: RFC 6455.
//!
//! Whoever asks is known before anything else is looked at. A request that is no handshake then is refused with plain text.

mod connection;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, FromRequestParts as _, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::hub::{ConnectionId, Hub, HubFull};
use super::message::{FromPlugin, MESSAGE_BYTES_MAX};
pub use super::metrics::Direction;
use super::metrics::RtcdMetrics;
use crate::auth::{Auth, Client};
use crate::http::access::Peer;
use crate::http::ws::ConnectionPermit;

/// Bytes that are read or written at a time. A connection holds both buffers as long as it is open.
const BUFFER_BYTES: usize = 4096;

/// Bytes that wait for the socket: one message, and the answers to a client's pings, which are made even while it reads nothing.
const WRITE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Who acts on plugins' messages.
pub trait Inbox: Send + Sync + 'static {
    /// Acts on one message; `client` is never the administrator, who has no calls.
    ///
    /// A connection's next message is not read before this is done, so that a flood waits in the sender's own queues. It is always
    /// run to its end, also when the connection is gone.
    fn handle<'a>(
        &'a self,
        client: &'a Client,
        connection: &'a ConnectionId,
        message: FromPlugin,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Who counts what happens on plugins' WebSockets.
pub trait SocketEvents: Send + Sync + 'static {
    /// A WebSocket is open; [`Self::ws_closed`] follows once.
    fn ws_opened(&self, client: &str);

    /// It is not open any longer.
    fn ws_closed(&self, client: &str);

    /// A message was read, or one of type `rtc` or `vad` written. The type of one that was read is what the plugin said, or `unknown`
    /// where it said none: at most 32 bytes, otherwise anything.
    fn ws_message(&self, client: &str, type_name: &str, direction: Direction);
}

impl SocketEvents for RtcdMetrics {
    fn ws_opened(&self, client: &str) {
        Self::ws_opened(self, client);
    }

    fn ws_closed(&self, client: &str) {
        Self::ws_closed(self, client);
    }

    fn ws_message(&self, client: &str, type_name: &str, direction: Direction) {
        Self::ws_message(self, client, type_name, direction);
    }
}

/// What the WebSockets of plugins need.
#[derive(Clone)]
pub struct PluginSockets {
    /// Who may open one.
    pub auth: Auth,
    /// Where they are found by those who have something to say.
    pub hub: Arc<Hub>,
    /// Who acts on what comes.
    pub inbox: Arc<dyn Inbox>,
    /// Who counts.
    pub events: Arc<dyn SocketEvents>,
}

impl fmt::Debug for PluginSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginSockets").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// The route. Its refusals are plain text, as rtcd's: it belongs outside of layers that turn errors into another form.
pub fn router<S: Clone + Send + Sync + 'static>(sockets: PluginSockets) -> Router<S> {
    Router::new().route("/ws", any(open)).with_state(sockets)
}

async fn open(
    State(sockets): State<PluginSockets>,
    Peer(peer): Peer,
    permit: Option<Extension<ConnectionPermit>>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let ip = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let client = match sockets.auth.authenticate(&parts.headers, ip).await {
        Ok(client) => client,
        Err(error) => return error.into_response(),
    };
    let upgrade = match handshake(&mut parts).await {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    // If the handshake comes to nothing, the place is given back when the closure is dropped.
    let attached = match sockets.hub.attach(&client.id) {
        Ok(attached) => attached,
        Err(full) => return full.into_response(),
    };
    let upgrade = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    upgrade.on_upgrade(move |socket| async move {
        let _permit = permit;
        connection::run(&sockets, client, attached, socket).await;
    })
}

/// Checks what RFC 6455 §4.2.1 asks of a handshake, and that no web page of another host makes it.
async fn handshake(parts: &mut Parts) -> Result<WebSocketUpgrade, Refusal> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await.map_err(|rejection| {
        let text = rejection.to_string();
        Refusal { status: rejection.into_response().status(), text }
    })?;
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    if !key.is_some_and(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)) {
        let text = "Sec-WebSocket-Key must be the base64 of 16 bytes".to_owned();
        return Err(Refusal { status: StatusCode::BAD_REQUEST, text });
    }
    if !is_same_origin(&parts.headers) {
        let text = "the Origin is another host than this one".to_owned();
        return Err(Refusal { status: StatusCode::FORBIDDEN, text });
    }
    Ok(upgrade)
}

/// Plugins send no `Origin`; browsers always do.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, authority)), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Why a request is no handshake.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = plain(self.status, &self.text);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl IntoResponse for HubFull {
    fn into_response(self) -> Response {
        let status = match self {
            Self::OfClient(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::InAll(_) | Self::ShutDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        plain(status, &self.to_string())
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
