//! rtcd's registration: `/register`, `/unregister`, `/login`. Bodies are objects of strings; an
//! answer holds the status as `code` and, after a failure, `error`.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize as _;

use super::access::Peer;
use super::plain::not_found;
use super::{App, body};
use crate::auth::{AuthError, RegisterError, UnregisterError};

/// The longest body, bytes: more than the longest id and key, however they are escaped.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/register", post(register).fallback(not_found))
        .route("/unregister", post(unregister).fallback(not_found))
        .route("/login", post(login).fallback(not_found))
}

async fn register(State(app): State<App>, peer: Peer, request: Request) -> Response {
    match try_register(&app, peer, request).await {
        Ok(id) => answer(StatusCode::CREATED, [("clientID", id)]),
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_register(app: &App, peer: Peer, request: Request) -> Result<String, Refusal> {
    let (parts, body) = request.into_parts();
    let by_admin = match app.auth.allows_self_registration() {
        true => false,
        false => {
            let client = app.auth.authenticate(&parts.headers, peer.ip()).await?;
            if !client.is_admin {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "registration failed: only the admin may register clients".to_owned(),
                ));
            }
            true
        }
    };
    let mut fields = fields(app, &parts.headers, body).await?;
    let (id, key) = (fields.take("clientID"), fields.take("authKey"));
    match app.auth.register(&id, &key, peer.ip(), by_admin).await {
        Ok(()) => {
            tracing::info!(client = ?id, "a client was registered");
            Ok(id)
        }
        Err(error) => {
            let text = format!("registration failed: {error}");
            Err(match error {
                RegisterError::Limited(limited) => Refusal::of(&limited, limited.status(), text),
                _ => Refusal::new(StatusCode::BAD_REQUEST, text),
            })
        }
    }
}

async fn unregister(State(app): State<App>, peer: Peer, request: Request) -> Response {
    match try_unregister(&app, peer, request).await {
        Ok(()) => answer(StatusCode::OK, []),
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_unregister(app: &App, peer: Peer, request: Request) -> Result<(), Refusal> {
    let refuse = |status, text: &str| Err(Refusal::new(status, text.to_owned()));
    if !app.auth.has_admin() && !app.auth.allows_self_registration() {
        return refuse(StatusCode::FORBIDDEN, "unregister not enabled");
    }
    let (parts, body) = request.into_parts();
    let client = app.auth.authenticate(&parts.headers, peer.ip()).await?;
    let id = fields(app, &parts.headers, body).await?.take("clientID");
    if id.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "client id should not be empty");
    }
    if !client.is_admin && client.id != id {
        return refuse(StatusCode::FORBIDDEN, "client id not valid");
    }
    match app.auth.unregister(&id).await {
        Ok(()) => {
            tracing::info!(client = ?id, "a client was unregistered");
            Ok(())
        }
        Err(error @ (UnregisterError::NotFound | UnregisterError::Store(_))) => {
            refuse(StatusCode::BAD_REQUEST, &format!("unregister failed: {error}"))
        }
    }
}

async fn login(State(app): State<App>, peer: Peer, request: Request) -> Response {
    match try_login(&app, peer, request).await {
        Ok(token) => answer(StatusCode::OK, [("bearerToken", token)]),
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_login(app: &App, peer: Peer, request: Request) -> Result<String, Refusal> {
    let (parts, body) = request.into_parts();
    let failed = |text| format!("login failed: {text}");
    let mut fields = fields(app, &parts.headers, body).await.map_err(|refusal| {
        let text = failed(refusal.text);
        Refusal { text, ..refusal }
    })?;
    let (id, key) = (fields.take("clientID"), fields.take("authKey"));
    app.auth.login(&id, &key, peer.ip()).await.map_err(|error| {
        // Never 401: rtcd's clients know 400 only.
        let status = match error.status() {
            StatusCode::UNAUTHORIZED => StatusCode::BAD_REQUEST,
            other => other,
        };
        Refusal::of(&error, status, failed(error.to_string()))
    })
}

/// The strings of a request.
struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The value; empty where there is none.
    fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }
}

/// Reads the body. What follows the object is not looked at, as in rtcd.
async fn fields(app: &App, headers: &HeaderMap, body: Body) -> Result<Fields, Refusal> {
    let bytes = body::read(headers, body, BODY_BYTES_MAX, app).await;
    let bytes = bytes.map_err(|error| Refusal::new(error.code.status(), error.detail))?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    BTreeMap::deserialize(&mut json).map(Fields).map_err(|error| {
        let text = format!("the body is not a JSON object of strings: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })
}

/// Why a request was refused, in rtcd's form.
struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(header::HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, text: String) -> Self {
        Self { status, text, header: None }
    }

    /// With the header field that goes with `error`, unless it is one for another status.
    fn of(error: &AuthError, status: StatusCode, text: String) -> Self {
        let header = error.header().filter(|_| status == error.status());
        Self { status, text, header }
    }

    fn into_response(self) -> Response {
        let mut response = answer(self.status, [("error", self.text)]);
        response.headers_mut().extend(self.header);
        response
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::of(&error, error.status(), error.to_string())
    }
}

fn answer<const N: usize>(status: StatusCode, fields: [(&str, String); N]) -> Response {
    let mut all = BTreeMap::from([("code", status.as_str().to_owned())]);
    all.extend(fields);
    let mut body = serde_json::to_string(&all).unwrap_or_default();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
