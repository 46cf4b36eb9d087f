//! `--ticket`: keeps a session for checks from other hosts and says when one came.
//!
//! The session waits for an answer that nobody gives, so it answers any peer with its credentials and never shakes hands. Its
//! WebSocket keeps it; consent, which ends 30 s after a peer's last check, is kept by checks of our own once somebody came.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use sluice_engine::clock;
use tokio_tungstenite::WebSocketStream;

use super::address::Reach;
use super::api::{Api, ApiError, Stream};
use super::check::{Subject, Target, check, check_all};
use super::examine::{Trouble, explain, listening};
use super::probe_session::{ProbeCall, WaitingSession};
use super::report::told;
use super::ticket::{TARGETS_MAX, Ticket};
use super::{interrupted, say};
use crate::http::native::Node;
use crate::service::unix_s;

/// Between two looks at the session.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two checks of our own: three of them within the time that consent lasts. Source: RFC 7675 §5.1.
const CONSENT_INTERVAL: Duration = Duration::from_secs(9);

/// Time for one of them.
const OWN_CHECK_LIMIT: Duration = Duration::from_secs(2);

/// The session is gone.
const ENDED: &str = "the server ended the session of the ticket";

/// What of a session tells that somebody came.
#[derive(Deserialize)]
struct Look {
    transport: Option<String>,
}

/// Prints a ticket, and then each arrival, for as long as `wait`; returns whether somebody came.
///
/// # Errors
/// There is no server, it refuses, it announces nothing that others can reach, or it ended the session.
pub(super) async fn for_others(api: &Api, wait: Duration) -> Result<bool, Trouble> {
    let refused = |error: ApiError| Trouble(explain(api, &error));
    let node: Node = api.ask_for("GET", "/v1/node", None).await.map_err(refused)?;
    let call = ProbeCall::open(api).await.map_err(refused)?;
    let mut arrived = None;
    let waited = tokio::select! {
        waited = wait_in(api, &node, &call, wait, &mut arrived) => waited,
        () = interrupted() => Ok(()),
    };
    call.close(api).await;
    waited.map(|()| arrived.is_some())
}

/// Waits for the whole time; `arrived` is the transport of the latest arrival.
async fn wait_in(
    api: &Api,
    node: &Node,
    call: &ProbeCall,
    wait: Duration,
    arrived: &mut Option<String>,
) -> Result<(), Trouble> {
    let refused = |error: ApiError| Trouble(explain(api, &error));
    // Its track is what the other is offered. It ends by itself.
    call.join(api).await.map_err(refused)?;
    let session = call.join_waiting(api).await.map_err(refused)?;
    let mut socket = open(api, &session).await?;
    let ticket = ticket_of(&session, wait)?;
    say(&format!("{}\n", ticket.to_text()));
    eprintln!(
        "On another host, within {} s:  sluice doctor --from TICKET  (the line above). Ctrl-C ends it.",
        wait.as_secs()
    );

    let start = clock::now();
    let deadline = tokio::time::Instant::now() + wait;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut own_check = start;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                // Reading answers the server's pings; what it tells is of no interest.
                Some(Ok(message)) if !message.is_close() => {}
                _ => return Err(Trouble(ENDED.to_owned())),
            },
            _ = looks.tick() => {
                let look: Look = match api.ask_for("GET", &session.path, None).await {
                    Ok(look) => look,
                    Err(ApiError::Problem(404, _)) => return Err(Trouble(ENDED.to_owned())),
                    // One slow or lost answer is no end; the WebSocket tells of that.
                    Err(_) => Look { transport: None },
                };
                if look.transport.is_some() && look.transport != *arrived {
                    let name = told(look.transport.as_deref().unwrap_or_default()).to_uppercase();
                    let after = clock::now().since(start).as_secs();
                    say(&format!("After {after} s a check from another host arrived over {name}.\n"));
                    *arrived = look.transport;
                }
                if arrived.is_some() && clock::now().since(own_check) >= CONSENT_INTERVAL {
                    own_check = clock::now();
                    keep_consent(&session.reachable.subject, node).await;
                }
            }
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    if arrived.is_none() {
        say(&format!("No check from another host arrived within {} s.\n", wait.as_secs()));
    }
    Ok(())
}

/// What others can use of a session.
fn ticket_of(session: &WaitingSession, wait: Duration) -> Result<Ticket, Trouble> {
    let mut targets = session.reachable.targets.clone();
    targets.retain(|target| Reach::of(target.address.ip()) != Reach::Loopback);
    targets.truncate(TARGETS_MAX);
    if targets.is_empty() {
        return Err(Trouble(
            "the server announces no address but loopback, so no other host can reach it: leave \
             rtc.ice_address_udp empty, or list the addresses that clients reach"
                .to_owned(),
        ));
    }
    let expires_unix_s = unix_s() + wait.as_secs();
    Ok(Ticket { server: session.reachable.subject.server.clone(), expires_unix_s, targets })
}

async fn open(
    api: &Api,
    session: &WaitingSession,
) -> Result<WebSocketStream<Box<dyn Stream>>, Trouble> {
    let failed = |why: String| Trouble(format!("{}: the session's WebSocket: {why}", api.url));
    let scheme = if api.url.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{}", api.url.authority(), session.ws_path);
    let opened = async {
        let stream = api.connect().await.map_err(|error| failed(error.to_string()))?;
        let opened = tokio_tungstenite::client_async(url, stream).await;
        opened.map(|(socket, _)| socket).map_err(|error| failed(error.to_string()))
    };
    match tokio::time::timeout(api.limit, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(failed(format!("no answer within {:?}", api.limit))),
    }
}

/// Checks the server where it listens, without nominating anything. Where none of it is reached from here, the ticket ends 30 s
/// after the last check of another host.
async fn keep_consent(subject: &Subject, node: &Node) {
    let targets: Vec<Target> = listening(node).into_iter().take(TARGETS_MAX).collect();
    let Some(first) = targets.first() else { return };
    if !check(subject, *first, OWN_CHECK_LIMIT, false).await.is_answered() {
        check_all(subject, &targets, OWN_CHECK_LIMIT).await;
    }
}
