//! The listener itself: slow clients, too many of them, TLS, the end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_control::config::TlsFiles;
use sluice_control::http::{server, tls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::Server;

const PATIENCE: Duration = Duration::from_secs(10);

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // A reset instead of an orderly end is an end, too.
    let _ = read.expect("the server ends the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is open");
    read_all(stream).await
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn requests_over_a_real_connection_know_their_peer() {
    let mut server = Server::new();
    let address = server.listen().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = HEALTH.replace("/healthz", "/v1/calls");
    let answer = ask(&mut stream, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let answer = ask(&mut stream, &request.replace("localhost", "evil.example.org")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_no_header_or_no_body_is_let_go() {
    let settings = [("api.http.header_timeout_s", "1"), ("api.http.body_timeout_s", "1")];
    let mut server = Server::with(&settings);
    let address = server.listen().await;
    let mut silent = TcpStream::connect(address).await.expect("it listens");
    let mut half = TcpStream::connect(address).await.expect("it listens");
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.expect("it is open");
    let mut body = TcpStream::connect(address).await.expect("it listens");
    let request = "POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                   Content-Length: 10\r\n\r\n{";
    let (silent, half, body) =
        tokio::join!(read_all(&mut silent), read_all(&mut half), ask(&mut body, request));
    assert!(silent.is_empty() || silent.starts_with("HTTP/1.1 408"), "{silent}");
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("request-timeout"), "{body}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let mut server = Server::with(&[("api.http.connections_max", "1")]);
    let address = server.listen().await;
    let mut first = TcpStream::connect(address).await.expect("it listens");
    let open = HEALTH.replace("Connection: close\r\n", "");
    first.write_all(open.as_bytes()).await.expect("it is open");
    let mut some = [0; 12];
    first.read_exact(&mut some).await.expect("it answers");
    let mut second = TcpStream::connect(address).await.expect("the kernel takes it");
    second.write_all(HEALTH.as_bytes()).await.expect("it is open");
    let early = tokio::time::timeout(Duration::from_millis(50), second.read_exact(&mut some)).await;
    assert!(early.is_err(), "the only place is taken");
    drop(first);
    assert!(read_all(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let mut server = Server::new();
    let address = server.listen().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = HEALTH.replace("Host:", &format!("X: {}\r\nHost:", "x".repeat(1 << 20)));
    let _ = stream.write_all(request.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:.80}");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    assert!(ask(&mut stream, HEALTH).await.starts_with("HTTP/1.1 200"), "others are served");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_listener() {
    let mut server = Server::new();
    let address = server.listen().await;
    let mut idle = TcpStream::connect(address).await.expect("it listens");
    let open = HEALTH.replace("Connection: close\r\n", "");
    idle.write_all(open.as_bytes()).await.expect("it is open");
    let mut some = [0; 12];
    idle.read_exact(&mut some).await.expect("it answers");
    server.stop();
    read_all(&mut idle).await;
    for _ in 0..1_000 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it still listens");
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bytes = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let n = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn https_is_served_with_the_configured_certificate() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls");
    std::fs::create_dir_all(&folder).expect("the target directory is writable");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let other =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writable");
        path.to_str().expect("text").to_owned()
    };
    let certificate = write("cert.pem", pem("CERTIFICATE", made.cert.der()));
    let key = write("key.pem", pem("PRIVATE KEY", &made.signing_key.serialize_der()));
    let wrong = write("wrong.pem", pem("PRIVATE KEY", &other.signing_key.serialize_der()));
    let files = |key: &str| TlsFiles { certificate: certificate.clone(), key: key.to_owned() };
    assert!(tls::load(&files(&wrong)).is_err(), "the key is another certificate's");
    assert!(tls::load(&files(&certificate)).is_err(), "there is no key in it");
    let loaded = tls::load(&files(&key)).expect("they belong together");

    let server = Server::new();
    let mut http = server.config.http.clone();
    http.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let listener = server::bind(&http).expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let (_stop, stopped) = watch::channel(false);
    let router = server.router.clone();
    tokio::spawn(
        async move { server::serve(listener, Some(loaded), router, &http, stopped).await },
    );

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).expect("a certificate");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A client that speaks no TLS, or nothing at all, is in nobody's way.
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(HEALTH.as_bytes()).await.expect("it is open");
    let _silent = TcpStream::connect(address).await.expect("it listens");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream =
        TlsConnector::from(Arc::new(client)).connect(name, stream).await.expect("TLS is spoken");
    assert!(ask(&mut stream, HEALTH).await.starts_with("HTTP/1.1 200"));
    assert!(!read_all(&mut plain).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_leaves_nothing_half_done() {
    let mut server = Server::new();
    server.call("c").await;
    let address = server.listen().await;
    let sdp = crate::support::sdp::publishing();
    let body = json!({"offer": {"type": "offer", "sdp": sdp}}).to_string();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!(
            "POST /v1/calls/c/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("it is open");
        drop(stream);
    }
    // Whatever was begun was brought to its end: what the call lists is what the engine has.
    let mut engine = server.plane.sessions().len();
    loop {
        let listed = server.get("/v1/calls/c").await.json()["sessions"].clone();
        if listed == json!(engine) && server.plane.sessions().len() == engine {
            break;
        }
        engine = server.plane.sessions().len();
        tokio::task::yield_now().await;
    }
    assert_eq!(server.plane.count("SetRemote"), server.plane.count("AddSession"));
}
