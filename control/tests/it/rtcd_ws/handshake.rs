//! Who may open a WebSocket, and what a handshake must look like.

use std::net::{IpAddr, Ipv4Addr};

use sluice_control::rtcd::hub::HubLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{ADMIN_KEY, KEY, Plugin, Server, basic, handshake, leave};

/// Sends text, and reads the answer's header.
async fn ask(server: &mut Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a whole header"));
    }
    String::from_utf8(answer).expect("text").to_ascii_lowercase()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).expect("a status line")
}

#[tokio::test]
async fn a_greeting_with_the_connections_id_comes_first() {
    let mut server = Server::new().await;
    let first = server.connect("clientA").await;
    let second = server.connect("clientA").await;
    assert_eq!((first.client.as_str(), second.client.as_str()), ("clientA", "clientA"));
    assert_eq!(first.connection.len(), 26);
    assert_ne!(first.connection, second.connection);
    assert_eq!(server.sockets.hub.connections_of("clientA"), 2);
}

#[tokio::test]
async fn who_has_no_credentials_is_told_so_before_anything_else() {
    let mut server = Server::new().await;
    let address = server.address();
    for wrong in [basic("clientA", "wrong"), basic("nobody", KEY), "Bearer x".to_owned()] {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let (status, text) = Plugin::open(stream, &wrong).await.err().expect("it is refused");
        assert_eq!(status, 401);
        assert!(text.starts_with("authentication failed"), "{text}");
    }
    // Neither a handshake nor authenticated.
    let answer = ask(&mut server, "POST /ws HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&answer), "401");
    assert_eq!(server.events.opened.lock().expect("no test panicked with it").len(), 0);
}

#[tokio::test]
async fn a_bearer_token_opens_it_as_well() {
    let mut server = Server::new().await;
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let token = server.sockets.auth.login("clientB", KEY, here).await.expect("the right key");
    let stream = TcpStream::connect(server.address()).await.expect("it listens");
    let plugin = Plugin::open(stream, &format!("Bearer {token}")).await.expect("it opens");
    assert_eq!(plugin.client, "clientB");
}

#[tokio::test]
async fn the_administrator_gets_a_connection_and_nothing_else() {
    let mut server = Server::new().await;
    let stream = TcpStream::connect(server.address()).await.expect("it listens");
    let mut admin = Plugin::open(stream, &basic("any", ADMIN_KEY)).await.expect("it opens");
    assert_eq!(admin.client, "");
    admin.send(leave("s")).await;
    admin.stream.close(None).await.expect("it is open");
    server.until_connections("", 0).await;
    assert_eq!(server.sockets.hub.counters().of_admin.get(), 1);
    assert!(server.received.try_recv().is_err(), "nothing of it reached the inbox");
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_the_version_that_is_spoken() {
    let mut server = Server::new().await;
    let whole = handshake("");
    for (from, to, expected) in [
        ("GET", "POST", "405"),
        ("Connection: Upgrade\r\n", "", "400"),
        ("Upgrade: websocket\r\n", "", "400"),
        ("Upgrade: websocket", "Upgrade: h2c", "400"),
        ("Version: 13", "Version: 8", "400"),
        ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "", "400"),
        ("AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAA", "400"),
        ("AAAAAAAAAAAAAAAAAAAAAA==", "?", "400"),
    ] {
        let answer = ask(&mut server, &whole.replace(from, to)).await;
        assert_eq!(status(&answer), expected, "{from} → {to}: {answer}");
        assert!(answer.contains("\r\nsec-websocket-version: 13\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: text/plain"), "{answer}");
        assert_eq!(answer.contains("\r\nallow: get\r\n"), expected == "405", "{answer}");
    }
    server.until_connections("clientA", 0).await;
    assert_eq!(server.events.opened.lock().expect("no test panicked with it").len(), 0);
}

#[tokio::test]
async fn web_pages_of_other_hosts_are_refused() {
    let mut server = Server::new().await;
    for bad in ["http://example.org", "https://localhost:1", "null", "localhost", ""] {
        let answer = ask(&mut server, &handshake(&format!("Origin: {bad}\r\n"))).await;
        assert_eq!(status(&answer), "403", "{bad}");
    }
    for good in ["http://localhost", "https://LOCALHOST"] {
        let answer = ask(&mut server, &handshake(&format!("Origin: {good}\r\n"))).await;
        assert_eq!(status(&answer), "101", "{good}");
    }
}

#[tokio::test]
async fn neither_extensions_nor_subprotocols_are_agreed_on() {
    let mut server = Server::new().await;
    let more = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: a, b\r\n";
    let answer = ask(&mut server, &handshake(more)).await;
    assert_eq!(status(&answer), "101");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused_with_words() {
    let limits =
        HubLimits { connections_per_client_max: 2, connections_max: 3, ..HubLimits::default() };
    let mut server = Server::with(limits).await;
    let first = server.connect("clientA").await;
    let _second = server.connect("clientA").await;
    refused(&mut server, "clientA", 429, "this client has 2 WebSockets").await;
    let _third = server.connect("clientB").await;
    refused(&mut server, "clientB", 503, "the server has 3 WebSockets").await;
    drop(first);
    server.until_connections("clientA", 1).await;
    server.connect("clientA").await;
}

async fn refused(server: &mut Server, client: &str, expected: u16, words: &str) {
    let stream = TcpStream::connect(server.address()).await.expect("it listens");
    let opened = Plugin::open(stream, &basic(client, KEY)).await;
    let (status, text) = opened.err().expect("it is refused");
    assert_eq!(status, expected, "{text}");
    assert!(text.starts_with(words), "{text}");
}
