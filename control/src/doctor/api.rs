//! The server's HTTP API as a client: one request a connection, in plain text or over TLS.

use std::fmt;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::report::told;
use crate::config::Secret;

/// The longest answer that is read.
const BODY_BYTES_MAX: usize = 4 << 20;

/// `http://host:port` or `https://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServerUrl {
    /// Whether it is `https`.
    pub(super) tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// 80 or 443 where the URL has none.
    pub(super) port: u16,
}

impl ServerUrl {
    /// Reads a URL that an operator wrote.
    ///
    /// # Errors
    /// What would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address of a server: write http://HOST:PORT or https://HOST:PORT"
            )
        };
        let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        // Whoever has a user before the host, or something else than a number behind it, is refused here.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = match authority.strip_prefix(host).filter(|_| is_bare) {
            Some("") => Some(if tls { 443 } else { 80 }),
            Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
            None => None,
        };
        let port = port.ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Ok(Self { tls, host: bare.to_owned(), port })
    }

    /// As in the field `Host`.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Why a request has no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ApiError {
    /// Nothing listens there.
    Refused,
    /// No connection, no TLS, or no answer in time: why.
    Unreachable(String),
    /// The token is missing or wrong (401), or only the server's own host is answered (403): status and words.
    Denied(u16, String),
    /// The server refuses the request: status and words.
    Problem(u16, String),
    /// What answers is no Sluice: what it did.
    Foreign(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nothing listens there"),
            Self::Unreachable(why) | Self::Foreign(why) => f.write_str(why),
            Self::Denied(status, detail) | Self::Problem(status, detail) => {
                write!(f, "{detail} (status {status})")
            }
        }
    }
}

/// Anything that a connection may be.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server and how to talk to it.
pub(super) struct Api {
    /// Where it is.
    pub(super) url: ServerUrl,
    /// Sent as bearer token.
    pub(super) token: Option<Secret>,
    /// Time for one request with its answer.
    pub(super) limit: Duration,
}

impl Api {
    /// Opens a connection, TLS included.
    ///
    /// # Errors
    /// `Refused` or `Unreachable`.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, ApiError> {
        let ServerUrl { tls, host, port } = &self.url;
        let stream =
            TcpStream::connect((host.as_str(), *port)).await.map_err(|error| {
                match error.kind() {
                    ErrorKind::ConnectionRefused => ApiError::Refused,
                    _ => ApiError::Unreachable(format!("no connection: {error}")),
                }
            })?;
        if !tls {
            return Ok(Box::new(stream));
        }
        let no_tls = |why: String| ApiError::Unreachable(format!("no TLS connection: {why}"));
        let name = ServerName::try_from(host.clone()).map_err(|error| no_tls(error.to_string()))?;
        let connector = TlsConnector::from(trusting_the_system().map_err(no_tls)?);
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| no_tls(error.to_string()))?))
    }

    /// Makes a request; the answer's JSON, `Value::Null` for an empty one.
    ///
    /// # Errors
    /// Whatever is not a success with JSON.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ApiError> {
        let exchange = self.exchange(method, path, body);
        let (status, text) = match tokio::time::timeout(self.limit, exchange).await {
            Ok(result) => result?,
            Err(_) => {
                let why = format!("no answer to {method} {path} within {:?}", self.limit);
                return Err(ApiError::Unreachable(why));
            }
        };
        let json: Option<Value> = match text.is_empty() {
            true => Some(Value::Null),
            false => serde_json::from_str(&text).ok(),
        };
        if (200..300).contains(&status) {
            return json.ok_or_else(|| ApiError::Foreign(format!("{method} {path} gave no JSON")));
        }
        // All refusals of ours have these fields.
        let field = |name| json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let is_ours = field("type").is_some_and(|kind| kind.starts_with("urn:sluice:problem:"));
        match field("detail").filter(|_| is_ours) {
            Some(detail) if matches!(status, 401 | 403) => {
                Err(ApiError::Denied(status, told(&detail)))
            }
            Some(detail) => Err(ApiError::Problem(status, told(&detail))),
            None => Err(ApiError::Foreign(format!("{method} {path} gave status {status}"))),
        }
    }

    /// As [`Api::ask`], read into a type.
    ///
    /// # Errors
    /// `Foreign` when fields are missing.
    pub(super) async fn ask_for<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, ApiError> {
        let json = self.ask(method, path, body).await?;
        serde_json::from_value(json).map_err(|error| {
            ApiError::Foreign(format!(
                "{method} {path} gave an unknown answer: {}",
                told(&error.to_string())
            ))
        })
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, String), ApiError> {
        let lost = |error: hyper::Error| ApiError::Foreign(format!("{method} {path}: {error}"));
        let mut request =
            hyper::Request::builder().method(method).uri(path).header(HOST, self.url.authority());
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.0)).map_err(|_| {
                let why = "the token has characters that no header field may have";
                ApiError::Denied(401, why.to_owned())
            })?;
            request = request.header(AUTHORIZATION, value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        // Paths may hold ids that the server gave.
        let request = request.body(body).map_err(|error| {
            ApiError::Foreign(format!("{method} {} cannot be asked for: {error}", told(path)))
        })?;
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // How it ends is told to whoever waits for the answer.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status().as_u16();
        let text = read(response.into_body()).await;
        connection.abort();
        Ok((status, text.map_err(|why| ApiError::Foreign(format!("{method} {path}: {why}")))?))
    }
}

async fn read(mut body: Incoming) -> Result<String, String> {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    String::from_utf8(bytes).map_err(|_| "the answer is no UTF-8".to_owned())
}

/// Trusts whom the system trusts; `SSL_CERT_FILE` names another bundle.
fn trusting_the_system() -> Result<Arc<ClientConfig>, String> {
    let bundle = openssl_probe::probe().cert_file.ok_or(
        "this system has no bundle of trusted certificates: install the package ca-certificates, or name \
         a PEM file in SSL_CERT_FILE",
    )?;
    let failed = |why: String| format!("{}: {why}", bundle.display());
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&bundle).and_then(Iterator::collect);
    roots.add_parsable_certificates(certificates.map_err(|error| failed(error.to_string()))?);
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_token_is_told_from_a_bad_path_before_anything_is_sent() {
        let api = |token: &str| Api {
            url: ServerUrl::parse("http://127.0.0.1:1").expect("a URL"),
            token: Some(Secret(token.to_owned())),
            limit: Duration::from_secs(20),
        };
        let refused = api("a\nb").ask("GET", "/", None).await;
        assert!(matches!(refused, Err(ApiError::Denied(401, _))), "{refused:?}");
        let refused = api("ab").ask("GET", "/a b", None).await;
        assert!(matches!(refused, Err(ApiError::Foreign(_))), "{refused:?}");
    }

    #[test]
    fn urls_are_scheme_host_and_port() {
        let shown = |text| ServerUrl::parse(text).map(|url| url.to_string());
        assert_eq!(shown("http://127.0.0.1:8045"), Ok("http://127.0.0.1:8045".to_owned()));
        assert_eq!(
            shown("https://media.example.org/"),
            Ok("https://media.example.org:443".to_owned())
        );
        assert_eq!(shown("http://[::1]:8045"), Ok("http://[::1]:8045".to_owned()));
        for bad in [
            "",
            "127.0.0.1:8045",
            "media.example.org",
            "ftp://a",
            "http://",
            "http://a/v1",
            "http://a?b",
            "http://user@a",
            "http://a:x",
            "http://a:70000",
        ] {
            let refused = ServerUrl::parse(bad).expect_err("it is no such URL");
            assert!(refused.contains("http://HOST:PORT"), "{bad}: {refused}");
        }
    }
}
