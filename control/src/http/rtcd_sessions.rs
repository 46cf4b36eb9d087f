//! rtcd's sessions API: who is in a call. The plugin asks it whether a call that it remembers still
//! runs.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::App;
use super::access::Peer;
use super::plain::{not_found, plain};
use crate::auth::AuthError;
use crate::rtcd::directory::LookupError;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/calls/{call}/sessions", get(list).fallback(not_found))
        .route("/calls/{call}/sessions/{session}", get(one).fallback(not_found))
}

async fn list(
    State(app): State<App>,
    peer: Peer,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let group = match group(&app, peer, &headers).await {
        Ok(group) => group,
        Err(response) => return *response,
    };
    let Ok(Path(call)) = path else { return unknown(LIST_FAILED, "call not found") };
    match app.directory.sessions(&group, &call) {
        Ok(sessions) if sessions.is_empty() => unknown(LIST_FAILED, "no sessions found"),
        Ok(sessions) => Json(sessions).into_response(),
        Err(error) => unknown(LIST_FAILED, reason(error)),
    }
}

async fn one(
    State(app): State<App>,
    peer: Peer,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let group = match group(&app, peer, &headers).await {
        Ok(group) => group,
        Err(response) => return *response,
    };
    let Ok(Path((call, session))) = path else { return unknown(ONE_FAILED, "session not found") };
    match app.directory.session(&group, &call, &session) {
        Ok(session) => Json(session).into_response(),
        Err(error) => unknown(ONE_FAILED, reason(error)),
    }
}

const LIST_FAILED: &str = "failed to get session configs";
const ONE_FAILED: &str = "failed to get session config";

/// Whose sessions may be asked for: a client's own. The admin has none.
async fn group(app: &App, peer: Peer, headers: &HeaderMap) -> Result<String, Box<Response>> {
    match app.auth.authenticate(headers, peer.ip()).await {
        Ok(client) if !client.is_admin => Ok(client.id),
        // Neither 404, which means to the plugin that the call has ended.
        Err(error @ (AuthError::TooMany(_) | AuthError::Store)) => {
            Err(Box::new(error.into_response()))
        }
        _ => Err(Box::new(plain(StatusCode::UNAUTHORIZED, "unauthorized"))),
    }
}

fn reason(error: LookupError) -> &'static str {
    match error {
        LookupError::UnknownGroup => "group not found",
        LookupError::UnknownCall => "call not found",
        LookupError::UnknownSession => "session not found",
    }
}

fn unknown(failed: &str, reason: &str) -> Response {
    plain(StatusCode::NOT_FOUND, &format!("{failed}: {reason}"))
}
