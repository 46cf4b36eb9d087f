//! HTTP requests over connections that are used again.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper_util::rt::TokioIo;
use sluice_engine::clock::{self, Instant};
use tokio::net::TcpStream;

use crate::conversation::{Request, Response, Target};

/// The most requests that are under way at a time.
pub const REQUESTS_MAX: usize = 64;
/// How long an answer may take, or a connection.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer: metrics of a full server are below it.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How long an unused connection is kept: less than servers keep theirs.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Where the server is and who we are.
#[derive(Clone, Debug)]
pub struct Server {
    pub addresses: Vec<SocketAddr>,
    /// As in the field `Host`.
    pub authority: String,
    /// The field `Authorization`.
    pub authorization: Option<String>,
}

/// Connections to one server.
pub struct Connections {
    server: Server,
    /// With the moment of their last use. Never more than [`REQUESTS_MAX`], since each was made for a request.
    idle: Mutex<Vec<(SendRequest<String>, Instant)>>,
}

impl Server {
    /// Looks it up.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn find(target: &Target) -> Result<Self, String> {
        let basic = target.account.as_ref().map(|account| {
            let pair = format!("{}:{}", account.client, account.key);
            format!("Basic {}", STANDARD.encode(pair))
        });
        let bearer = target.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(Self {
            addresses: super::resolve(target)?,
            authority: target.authority().to_owned(),
            authorization: basic.or(bearer),
        })
    }

    /// Makes a TCP connection.
    ///
    /// # Errors
    /// No address could be reached, or not in time.
    pub async fn connect(&self) -> Result<TcpStream, String> {
        let connecting = TcpStream::connect(&self.addresses[..]);
        let stream = match tokio::time::timeout(TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| format!("{}: {error}", self.authority))?,
            Err(_) => return Err(format!("{}: no connection within 20 s", self.authority)),
        };
        // Messages are small and should not wait for each other. Without it they arrive all the same.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Connections {
    /// No connections.
    pub fn new(server: Server) -> Arc<Self> {
        Arc::new(Self { server, idle: Mutex::default() })
    }

    /// Makes a request and reads its answer.
    ///
    /// # Errors
    /// No connection, no answer within 20 seconds, or a malformed one.
    pub async fn exchange(&self, request: &Request) -> Result<Response, String> {
        let Request { method, path, .. } = request;
        match tokio::time::timeout(TIMEOUT, self.try_exchange(request)).await {
            Ok(result) => result.map_err(|why| format!("{method} {path}: {why}")),
            Err(_) => Err(format!("{method} {path}: no answer within 20 s")),
        }
    }

    async fn try_exchange(&self, request: &Request) -> Result<Response, String> {
        let mut request = self.write(request)?;
        loop {
            let (mut sender, is_used) = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let response = read(response).await?;
                    self.keep(sender);
                    return Ok(response);
                }
                // The server closed a connection that waited for us, before anything of the request went out.
                Err(mut error) if is_used && error.message().is_some() => {
                    let Some(unsent) = error.take_message() else {
                        return Err(error.into_error().to_string());
                    };
                    request = unsent;
                }
                Err(error) => return Err(error.into_error().to_string()),
            }
        }
    }

    fn write(&self, request: &Request) -> Result<hyper::Request<String>, String> {
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(&request.path)
            .header(HOST, &self.server.authority);
        if let Some(authorization) = &self.server.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if !request.content_type.is_empty() {
            builder = builder.header(CONTENT_TYPE, request.content_type);
        }
        builder.body(request.body.clone()).map_err(|error| error.to_string())
    }

    /// A connection, and whether it was used before.
    async fn sender(&self) -> Result<(SendRequest<String>, bool), String> {
        let now = clock::now();
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some((sender, since)) if sender.is_ready() && now.since(since) < IDLE_MAX => {
                    return Ok((sender, true));
                }
                Some(_) => {}
                None => break,
            }
        }
        let stream = self.server.connect().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // How it ends is told to whoever waits for an answer on it.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok((sender, false))
    }

    fn keep(&self, sender: SendRequest<String>) {
        if !sender.is_closed() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((sender, clock::now()));
        }
    }
}

async fn read(response: hyper::Response<Incoming>) -> Result<Response, String> {
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.map(str::to_owned);
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(data) = next_data(&mut body).await? {
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    let body = String::from_utf8(bytes).map_err(|_| "the answer is no UTF-8".to_owned())?;
    Ok(Response { status, location, body })
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(error.to_string()),
            // Trailers say nothing to us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
