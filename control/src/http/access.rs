//! Who may ask: the holder of the token, or, without one, only clients on this host.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::App;
use crate::config::Secret;
use crate::error::{ApiError, Code};

/// The rule that is in force.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Arc<Secret>>,
}

impl Access {
    /// With a token its holder may ask, without one clients on this host.
    pub fn new(token: Option<Secret>) -> Self {
        Self { token: token.map(Arc::new) }
    }

    /// Whether a token is configured.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Checks a request by its header fields and the peer's address.
    ///
    /// # Errors
    /// `Unauthorized` or `LoopbackOnly`.
    pub fn check(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), ApiError> {
        match &self.token {
            Some(token) => check_token(token, headers),
            None => check_this_host(headers, peer),
        }
    }

    /// The part that holds where a token is not needed: with one configured, everybody; else
    /// clients on this host.
    ///
    /// # Errors
    /// `LoopbackOnly`.
    pub fn check_open(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<(), ApiError> {
        match &self.token {
            Some(_) => Ok(()),
            None => check_this_host(headers, peer),
        }
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    });
    match given {
        Some(given) if given.ct_eq(token.0.as_bytes()).into() => Ok(()),
        Some(_) => Err(unauthorized(
            "the token is wrong",
            r#"Bearer realm="sluice", error="invalid_token""#,
        )),
        None => Err(unauthorized(
            "send the header field Authorization: Bearer <token>",
            r#"Bearer realm="sluice""#,
        )),
    }
}

/// An error with the challenge that belongs to it. Source: RFC 6750 §3.
fn unauthorized(detail: &str, challenge: &'static str) -> ApiError {
    ApiError::new(Code::Unauthorized, detail).with_header(header::WWW_AUTHENTICATE, challenge)
}

/// A web page elsewhere must not get in through the user's browser either: by a name that resolves
/// to loopback (seen in `Host`), or by a request across origins (seen in `Origin`).
fn check_this_host(headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|v: &axum::http::HeaderValue| v.to_str().unwrap_or(""));
    let host_is_local = text(header::HOST).is_some_and(is_loopback_authority);
    let origin_is_local = text(header::ORIGIN).is_none_or(is_loopback_origin);
    if is_on_this_host(headers, peer) && host_is_local && origin_is_local {
        return Ok(());
    }
    Err(ApiError::new(
        Code::LoopbackOnly,
        "no token is configured, so only clients on the server's own host are answered, under the names localhost, 127.0.0.1 or [::1]. \
         To let others in, set a token: api.native.token in the configuration file or SLUICE_API_TOKEN in the environment, and send it as \
         Authorization: Bearer <token>",
    ))
}

/// Whether the connection comes from loopback and no proxy says that it forwards for somebody.
fn is_on_this_host(headers: &HeaderMap, peer: Option<SocketAddr>) -> bool {
    let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
    peer.is_some_and(|p| p.ip().to_canonical().is_loopback())
        && !forwarded.iter().any(|name| headers.contains_key(*name))
}

/// Whether an origin is on loopback, whatever its port.
pub fn is_loopback_origin(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(is_loopback_authority)
}

fn is_loopback_authority(authority: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((ip, port)) = rest.split_once(']') else { return false };
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_ok && ip.parse().is_ok_and(|ip: std::net::Ipv6Addr| ip.is_loopback());
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) => return false,
        None => authority,
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|ip: std::net::Ipv4Addr| IpAddr::V4(ip).is_loopback())
}

/// The peer's address, as the listener put it into the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<SocketAddr>);

impl Peer {
    /// The IP address; the unspecified one stands for peers that are not known.
    pub fn ip(self) -> IpAddr {
        self.0.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0)))
    }
}

/// Whether the client is on this host: loopback candidates are of use to it.
#[derive(Clone, Copy, Debug)]
pub struct FromThisHost(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for FromThisHost {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let Peer(peer) = Peer::from_request_parts(parts, state).await?;
        Ok(Self(is_on_this_host(&parts.headers, peer)))
    }
}

/// Lets a request through when its sender may ask. Preflights carry no credentials and are let
/// through (RFC 9725 §4.7.1).
///
/// # Errors
/// As [`Access::check`].
pub async fn guard(
    State(app): State<App>,
    Peer(peer): Peer,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.method() != Method::OPTIONS {
        app.access.check(request.headers(), peer)?;
    }
    Ok(next.run(request).await)
}

/// Lets a request for a static file through: it needs no token.
///
/// # Errors
/// As [`Access::check_open`].
pub async fn guard_page(
    State(app): State<App>,
    Peer(peer): Peer,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    app.access.check_open(request.headers(), peer)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_authorities_are_names_and_addresses_of_this_host_only() {
        for good in ["localhost", "LOCALHOST:8045", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"]
        {
            assert!(is_loopback_authority(good), "{good}");
        }
        for bad in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "localhost:",
            "localhost:x",
            "[::1",
            "[::1]x",
            "[::2]",
            "0.0.0.0",
            "127.0.0.1@evil:80",
            "localhost:80:80",
        ] {
            assert!(!is_loopback_authority(bad), "{bad}");
        }
        assert!(is_loopback_origin("http://localhost:3000"));
        for bad in ["null", "http://example.org", "file://", "localhost", "http://localhost/x"] {
            assert!(!is_loopback_origin(bad), "{bad}");
        }
    }
}
