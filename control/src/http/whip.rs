//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer by POST, candidates and restarts by
//! PATCH, the end by DELETE.
//!
//! Both speak alike; they differ in who may send media and in whether a call is made when it is
//! missing.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::{FromThisHost, is_loopback_origin};
use super::{App, CallPath, SessionPath, body};
use crate::config::IceServer;
use crate::error::{ApiError, Code};
use crate::sdp::{FRAGMENT_BYTES_MAX, SDP_BYTES_MAX, parse_fragment};
use crate::service::views::SessionKind;
use crate::service::{NewSession, Patched};

/// The media type of fragments. Source: RFC 8840 §9.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const SDP: &str = "application/sdp";
/// A publisher's offer has one audio and one video section (RFC 9725 §4.4.2).
const WHIP_OFFER_BYTES_MAX: usize = 64 * 1024;
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The four routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/whip/{call}", get(no_content).options(no_content).post(publish))
        .route(
            "/whip/{call}/{session}",
            get(show_whip).options(no_content).patch(patch_whip).delete(delete_whip),
        )
        .route("/whep/{call}", get(no_content).options(no_content).post(play))
        .route(
            "/whep/{call}/{session}",
            get(show_whep).options(no_content).patch(patch_whep).delete(delete_whep),
        )
}

/// `Link` fields, one for each URL. The user name and the password are quoted strings. Source: RFC
/// 9725 §4.6, RFC 8288 §3.
pub fn ice_links(servers: &[IceServer]) -> Arc<[HeaderValue]> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut links = Vec::new();
    for server in servers {
        for url in &server.urls {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if !server.username.is_empty() {
                link += &format!(
                    "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
                    quoted(&server.username),
                    quoted(&server.credential)
                );
            }
            match HeaderValue::from_str(&link) {
                Ok(value) => links.push(value),
                Err(_) => tracing::warn!(
                    url,
                    "the credentials of this server do not fit into a header field"
                ),
            }
        }
    }
    links.into()
}

/// GET and HEAD are answered without content, and OPTIONS says what may be sent. Source: RFC 9725
/// §4.1, §4.2.
async fn no_content(path: MatchedPath) -> Response {
    let endpoint = !path.as_str().ends_with("{session}");
    let accepted = match endpoint {
        true => (ACCEPT_POST, HeaderValue::from_static(SDP)),
        false => (ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)),
    };
    (StatusCode::NO_CONTENT, [accepted]).into_response()
}

async fn publish(
    State(app): State<App>,
    CallPath(call): CallPath,
    from_this_host: FromThisHost,
    request: Request,
) -> Result<Response, ApiError> {
    create(app, call, SessionKind::Whip, from_this_host, request).await
}

async fn play(
    State(app): State<App>,
    CallPath(call): CallPath,
    from_this_host: FromThisHost,
    request: Request,
) -> Result<Response, ApiError> {
    create(app, call, SessionKind::Whep, from_this_host, request).await
}

async fn create(
    app: App,
    call: String,
    kind: SessionKind,
    FromThisHost(from_this_host): FromThisHost,
    request: Request,
) -> Result<Response, ApiError> {
    expect_acceptable(request.headers(), SDP)?;
    let bytes_max = if kind == SessionKind::Whip { WHIP_OFFER_BYTES_MAX } else { SDP_BYTES_MAX };
    let offer = body::text(request, SDP, bytes_max, &app)
        .await
        .map_err(|error| accepting(error, ACCEPT_POST, SDP))?;
    let new = NewSession {
        kind,
        name: None,
        subscribe: kind == SessionKind::Whep,
        offer: Some(offer),
        from_this_host,
    };
    let created = match kind {
        SessionKind::Whip => app.service.create_session_and_call(&call, new).await?,
        _ => app.service.create_session(&call, new).await?,
    };
    let prefix = if kind == SessionKind::Whip { "whip" } else { "whep" };
    let mut headers = super::native::location(&format!("/{prefix}/{call}/{}", created.session.id));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    insert_etag(&mut headers, &created.etag);
    for link in app.ice_links.iter() {
        headers.append(header::LINK, link.clone());
    }
    Ok((StatusCode::CREATED, headers, created.answer.unwrap_or_default()).into_response())
}

fn insert_etag(headers: &mut HeaderMap, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, value);
    }
}

/// A 415 says what would be taken. Source: RFC 9110 §15.5.16.
fn accepting(error: ApiError, name: HeaderName, media_type: &'static str) -> ApiError {
    match error.code {
        Code::UnsupportedMediaType => error.with_header(name, media_type),
        _ => error,
    }
}

/// Refuses a client that would not take our answer. Source: RFC 9110 §12.5.1.
fn expect_acceptable(headers: &HeaderMap, media_type: &str) -> Result<(), ApiError> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .peekable();
    if ranges.peek().is_none() {
        return Ok(());
    }
    let main_type = media_type.split('/').next().unwrap_or("");
    let takes = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("").to_ascii_lowercase();
        let refused = parts
            .filter_map(|p| p.strip_prefix("q="))
            .any(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        !refused && (name == media_type || name == "*/*" || name == format!("{main_type}/*"))
    };
    match ranges.any(takes) {
        true => Ok(()),
        false => {
            let detail = format!("the answer is {media_type}, which Accept does not take");
            Err(ApiError::new(Code::NotAcceptable, detail))
        }
    }
}

async fn show_whip(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    path: MatchedPath,
) -> Result<Response, ApiError> {
    app.service.member(&call, &session, &[SessionKind::Whip]).await?;
    Ok(no_content(path).await)
}

async fn show_whep(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    path: MatchedPath,
) -> Result<Response, ApiError> {
    app.service.member(&call, &session, &[SessionKind::Whep]).await?;
    Ok(no_content(path).await)
}

async fn delete_whip(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
) -> Result<StatusCode, ApiError> {
    app.service.delete_session(&call, &session, &[SessionKind::Whip]).await.map(|()| StatusCode::OK)
}

async fn delete_whep(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
) -> Result<StatusCode, ApiError> {
    app.service.delete_session(&call, &session, &[SessionKind::Whep]).await.map(|()| StatusCode::OK)
}

async fn patch_whip(
    State(app): State<App>,
    path: SessionPath,
    request: Request,
) -> Result<Response, ApiError> {
    patch(app, path, SessionKind::Whip, request).await
}

async fn patch_whep(
    State(app): State<App>,
    path: SessionPath,
    request: Request,
) -> Result<Response, ApiError> {
    patch(app, path, SessionKind::Whep, request).await
}

/// Trickled candidates, or an ICE restart. Source: RFC 9725 §4.3.
async fn patch(
    app: App,
    SessionPath(call, session): SessionPath,
    kind: SessionKind,
    request: Request,
) -> Result<Response, ApiError> {
    let member = app.service.member(&call, &session, &[kind]).await?;
    let if_match: Vec<String> = request
        .headers()
        .get_all(header::IF_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok().map(str::to_owned))
        .collect();
    let text = body::text(request, FRAGMENT, FRAGMENT_BYTES_MAX, &app)
        .await
        .map_err(|error| accepting(error, ACCEPT_PATCH, FRAGMENT))?;
    if if_match.is_empty() {
        let detail = "If-Match is missing: send the session's ETag, or * to restart ICE";
        return Err(ApiError::new(Code::PreconditionRequired, detail));
    }
    let fragment = parse_fragment(&text)?;
    match app.service.handle_fragment(member, fragment, if_match.join(",")).await? {
        Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        Patched::Restarted { fragment, etag } => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
            insert_etag(&mut headers, &etag);
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
    }
}

/// Lets web pages of other origins use WHIP and WHEP: all origins when a token protects them,
/// loopback ones otherwise. No cookies are used, so nothing is allowed with credentials. Source:
/// RFC 9725 §4.2, the Fetch standard §3.2.
pub async fn cross_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let concerned = path.starts_with("/whip/") || path.starts_with("/whep/");
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let Some(origin) = origin.filter(|_| concerned) else { return response };
    let allowed = match app.access.has_token() {
        true => HeaderValue::from_static("*"),
        false if origin.to_str().is_ok_and(is_loopback_origin) => origin,
        false => return response,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_quote_credentials_and_name_each_url() {
        let server = IceServer {
            urls: vec!["turn:a:3478".to_owned(), "turns:a:5349".to_owned()],
            username: "u\"x".to_owned(),
            credential: "p\\y".to_owned(),
        };
        let links = ice_links(&[
            server,
            IceServer { urls: vec!["stun:b".to_owned()], ..IceServer::default() },
        ]);
        let links: Vec<_> = links.iter().map(|l| l.to_str().expect("ASCII")).collect();
        assert_eq!(
            links[0],
            r#"<turn:a:3478>; rel="ice-server"; username="u\"x"; credential="p\\y"; credential-type="password""#
        );
        assert_eq!(links[2], r#"<stun:b>; rel="ice-server""#);
        assert_eq!(links.len(), 3);
    }

    #[test]
    fn accept_is_weighed_as_rfc_9110_says() {
        let accept = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            expect_acceptable(&headers, SDP).is_ok()
        };
        for good in ["*/*", "application/sdp", "text/html, application/*;q=0.5", "Application/SDP"]
        {
            assert!(accept(good), "{good}");
        }
        for bad in ["text/html", "application/json", "application/sdp;q=0", ""] {
            assert!(!accept(bad), "{bad}");
        }
        assert!(expect_acceptable(&HeaderMap::new(), SDP).is_ok());
    }
}
