//! A session's WebSocket: messages in, messages out, a heartbeat. Source: RFC 6455.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use sluice_engine::clock;
use tokio::sync::OwnedSemaphorePermit;

use super::access::Peer;
use super::body::JSON_BYTES_MAX;
use super::native::{CandidateBody, check_sdp_length};
use super::{App, SessionPath};
use crate::error::{ApiError, Code};
use crate::service::link::{CloseCode, LinkEnd, Outgoing};
use crate::service::views::{Event, SessionKind};
use crate::service::{Member, Service};

/// The WebSocket's route. It has an access rule of its own, since a browser can give it no header
/// fields.
pub fn router() -> Router<App> {
    Router::new().route("/v1/calls/{call}/sessions/{session}/ws", get(open))
}

const PING_EVERY: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Time for one message to be written: beyond it the peer reads nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that are read at a time. Each connection keeps them, all touched, for as long as it lasts; a longer message has the buffer grow.
const READ_BUFFER_BYTES: usize = 4 << 10;

#[derive(Deserialize)]
struct Parameters {
    ticket: Option<String>,
}

/// A place among the connections that may be open at a time; held as long as the WebSocket.
#[derive(Clone)]
pub struct ConnectionPermit(
    #[allow(dead_code, reason = "held for its drop")] pub Arc<OwnedSemaphorePermit>,
);

/// What a client sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Incoming {
    Offer {
        sdp: String,
        #[serde(rename = "ref")]
        reference: Option<u64>,
    },
    Answer {
        sdp: String,
        offer_id: u64,
        #[serde(rename = "ref")]
        reference: Option<u64>,
    },
    Candidate(CandidateBody),
    Leave,
}

async fn open(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    Peer(peer): Peer,
    Query(parameters): Query<Parameters>,
    permit: Option<Extension<ConnectionPermit>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    match parameters.ticket {
        Some(ticket) => {
            app.access.check_open(&headers, peer)?;
            let fits = app.service.ticket_fits(&call, &session, &ticket).await;
            // Whether the session exists is not for those to know who have no ticket for it.
            if !fits.unwrap_or(false) {
                return Err(ApiError::new(Code::Unauthorized, "the ticket opens no session here")
                    .with_header(
                        axum::http::header::WWW_AUTHENTICATE,
                        r#"Bearer realm="sluice""#,
                    ));
            }
        }
        None => app.access.check(&headers, peer)?,
    }
    let member = app.service.member(&call, &session, &[SessionKind::Native]).await?;
    let service = Arc::clone(&app.service);
    let upgrade = upgrade
        .max_message_size(JSON_BYTES_MAX)
        .max_frame_size(JSON_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _permit = permit;
        if let Ok(link) = service.attach(&member).await {
            let connection = link.connection;
            serve(&service, &member, link, socket).await;
            service.detach(&member, connection).await;
        }
    }))
}

/// Runs one connection until either side ends it.
async fn serve(service: &Arc<Service>, member: &Member, mut link: LinkEnd, mut socket: WebSocket) {
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = clock::now();
    loop {
        let message = tokio::select! {
            // First of all: a connection that is to end at once does not go on writing.
            biased;
            code = link.abort.wait() => {
                close(&mut socket, code.on_wire()).await;
                return;
            }
            outgoing = link.queue.recv() => match outgoing {
                Some(Outgoing::Text(text)) => Message::Text(text.into()),
                Some(Outgoing::Close(code)) => {
                    close(&mut socket, code.on_wire()).await;
                    return;
                }
                // The service let go of the link and said nothing more.
                None => {
                    close(&mut socket, CloseCode::SessionEnded.on_wire()).await;
                    return;
                }
            },
            message = socket.recv() => {
                heard = clock::now();
                match message {
                    Some(Ok(Message::Text(text))) => {
                        handle(service, member, text.as_str()).await;
                        continue;
                    }
                    Some(Ok(Message::Binary(_))) => {
                        close(&mut socket, (1003, "messages are JSON text")).await;
                        return;
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) | None => return,
                    Some(Err(error)) => {
                        if error.to_string().to_ascii_lowercase().contains("too long") {
                            close(&mut socket, (1009, "a message is at most 1 MiB")).await;
                        }
                        return;
                    }
                }
            }
            _ = pings.tick() => {
                if clock::now().since(heard) > SILENCE_MAX {
                    close(&mut socket, (1001, "nothing was heard of the client")).await;
                    return;
                }
                Message::Ping(Vec::new().into())
            }
        };
        // A write that does not come to its end must not outlive an abort.
        let written = tokio::select! {
            biased;
            code = link.abort.wait() => {
                close(&mut socket, code.on_wire()).await;
                return;
            }
            written = tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)) => written,
        };
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// Says why and leaves; a peer that does not read is not waited for.
async fn close(socket: &mut WebSocket, (code, reason): (u16, &'static str)) {
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(Message::Close(Some(frame))))
        .await;
}

async fn handle(service: &Arc<Service>, member: &Member, text: &str) {
    let incoming = match serde_json::from_str::<Incoming>(text) {
        Ok(incoming) => incoming,
        Err(error) => {
            let detail = format!("the message is not what is expected here: {error}");
            refuse(service, member, &ApiError::new(Code::BadRequest, detail), None).await;
            return;
        }
    };
    let (result, reference) = match incoming {
        Incoming::Offer { sdp, reference } => {
            (offer(service, member, sdp, reference).await, reference)
        }
        Incoming::Answer { sdp, offer_id, reference } => {
            let result = match check_sdp_length(&sdp) {
                Ok(()) => service.handle_answer(member.clone(), sdp, offer_id).await,
                Err(error) => Err(error),
            };
            (result, reference)
        }
        Incoming::Candidate(candidate) => (candidate.check(), None),
        Incoming::Leave => (service.leave(member.clone(), "the client left").await, None),
    };
    if let Err(error) = result {
        refuse(service, member, &error, reference).await;
    }
}

async fn offer(
    service: &Arc<Service>,
    member: &Member,
    sdp: String,
    reference: Option<u64>,
) -> Result<(), ApiError> {
    check_sdp_length(&sdp)?;
    match service.handle_offer(member.clone(), sdp, Some(reference)).await {
        Err(error) if error.code == Code::Glare => {
            service.send(member, &Event::Glare { reference }).await;
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

async fn refuse(service: &Arc<Service>, member: &Member, error: &ApiError, reference: Option<u64>) {
    service.send(member, &Event::Error { problem: error.problem(), reference }).await;
}
