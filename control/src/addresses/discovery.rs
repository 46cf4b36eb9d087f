//! Asks a STUN server what each local address looks like from outside. Source: RFC 8489 §12, §6.2.1.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_engine::wire::stun::{Class, Message, TransactionId, write_address_request};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::config::{AddressPair, IceServer};
use crate::service::fill_random;

/// A STUN server over UDP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StunServer {
    /// A host name or an address.
    pub(super) host: String,
    /// 3478 where the URL has none. Source: RFC 7064 §3.2.
    pub(super) port: u16,
}

impl StunServer {
    /// The first `stun:` URL; `stuns:` is STUN over TLS, which tells nothing about UDP.
    pub(super) fn first_of(servers: &[IceServer]) -> Option<Self> {
        servers.iter().flat_map(|server| &server.urls).find_map(|url| Self::parse(url))
    }

    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("stun:")?;
        let (host, port) = match rest.rsplit_once(':') {
            // A colon within brackets belongs to the address.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, 3478),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        (!bare.is_empty() && port != 0).then(|| Self { host: bare.to_owned(), port })
    }
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Until the first retransmission; each further one waits twice as long. Source: RFC 8489 §6.2.1.
    pub(super) first: Duration,
    /// Until the server counts as silent.
    pub(super) limit: Duration,
}

impl Default for Timing {
    /// Half a second, as the RFC has it, and 5 seconds, as rtcd waits: the start must not take long.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), limit: Duration::from_secs(5) }
    }
}

/// Asks `server` from all of `locals` at once. An address that gets no answer is missing in what is
/// returned, with a warning in the log.
pub(super) async fn discover(
    locals: &[SocketAddr],
    server: &StunServer,
    timing: Timing,
) -> Vec<AddressPair> {
    let mut asked = JoinSet::new();
    for &local in locals {
        let server = server.clone();
        asked.spawn(async move {
            let answer =
                tokio::time::timeout(timing.limit, ask(local, &server, timing.first)).await;
            let silent = || Err(format!("no answer within {:?}", timing.limit));
            (local.ip(), answer.unwrap_or_else(|_| silent()))
        });
    }
    let mut found = Vec::new();
    for (internal, answer) in asked.join_all().await {
        match answer {
            Ok(external) => {
                tracing::info!(%internal, %external, "the STUN server saw the address");
                found.push(AddressPair { external, internal });
            }
            // No server on the internet answers loopback.
            Err(error) if internal.is_loopback() => {
                tracing::debug!(%internal, error, "the STUN server was not asked");
            }
            Err(error) => tracing::warn!(
                "rtc.ice_servers: STUN server {}:{} did not tell the public address of {internal} \
                 ({error}); it is advertised as it is",
                server.host,
                server.port
            ),
        }
    }
    found
}

async fn ask(
    local: SocketAddr,
    server: &StunServer,
    first_timeout: Duration,
) -> Result<IpAddr, String> {
    let text = |error: io::Error| error.to_string();
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let remote = addresses.map_err(text)?.find(|remote| remote.is_ipv4() == local.is_ipv4());
    let remote = remote.ok_or("it has no address of this family")?;
    if local.ip().is_loopback() && !remote.ip().is_loopback() {
        return Err("it cannot be reached from a loopback address".to_owned());
    }
    let socket = bind(local).map_err(text)?;
    // From here on the kernel drops what others send.
    socket.connect(remote).await.map_err(text)?;

    let mut transaction = TransactionId([0; 12]);
    fill_random(&mut transaction.0);
    let mut request = [0; 28];
    let len = write_address_request(&mut request, transaction).unwrap_or(0);
    let mut wait = first_timeout;
    loop {
        socket.send(&request[..len]).await.map_err(text)?;
        if let Ok(answer) = tokio::time::timeout(wait, answer(&socket, transaction)).await {
            return answer;
        }
        wait *= 2;
    }
}

/// Shares the port with a server that another process runs there, as a restart may have it for a
/// moment.
fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

/// Waits for the answer to `transaction`; anything else is passed over.
async fn answer(socket: &UdpSocket, transaction: TransactionId) -> Result<IpAddr, String> {
    let mut datagram = [0; 1500];
    loop {
        let len = socket.recv(&mut datagram).await.map_err(|error| error.to_string())?;
        let Ok(message) = Message::parse_without_fingerprint(&datagram[..len]) else { continue };
        if message.transaction_id() != transaction || !message.is_binding() {
            continue;
        }
        match message.class() {
            Class::Success => {
                let mapped = message.xor_mapped_address();
                return mapped
                    .map(|address| address.ip())
                    .ok_or_else(|| "its answer has no XOR-MAPPED-ADDRESS".to_owned());
            }
            Class::Error => {
                return Err(format!(
                    "it answered with error {}",
                    message.error_code().unwrap_or(0)
                ));
            }
            Class::Request | Class::Indication => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sees everybody at `seen`: each datagram that comes is answered by `answers`.
    async fn responder(
        mut answers: impl FnMut(&Message<'_>) -> Vec<Vec<u8>> + Send + 'static,
    ) -> StunServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
        let port = socket.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            let mut datagram = [0; 1500];
            loop {
                let (len, from) = socket.recv_from(&mut datagram).await.expect("it is open");
                // With FINGERPRINT, so that it can share a port with other protocols.
                let request = Message::parse(&datagram[..len]).expect("a request");
                assert!(request.class() == Class::Request && request.is_binding());
                for answer in answers(&request) {
                    socket.send_to(&answer, from).await.expect("it is open");
                }
            }
        });
        StunServer { host: "127.0.0.1".to_owned(), port }
    }

    /// A success response with 203.0.113.7:1 and no FINGERPRINT, as many servers answer.
    fn success(transaction: TransactionId) -> Vec<u8> {
        let mut out = vec![0x01, 0x01, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        out.extend(transaction.0);
        let masked = [203 ^ 0x21, 0x12, 113 ^ 0xa4, 7 ^ 0x42];
        out.extend([0x00, 0x20, 0, 8, 0, 1, 0x21, 0x13]);
        out.extend(masked);
        out
    }

    fn locals() -> Vec<SocketAddr> {
        ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().expect("an address")).to_vec()
    }

    const PATIENT: Timing =
        Timing { first: Duration::from_millis(5), limit: Duration::from_secs(60) };

    fn externals(found: &[AddressPair]) -> Vec<String> {
        let mut pairs: Vec<_> =
            found.iter().map(|p| format!("{}/{}", p.external, p.internal)).collect();
        pairs.sort();
        pairs
    }

    #[tokio::test]
    async fn each_address_learns_how_the_server_sees_it() {
        let server = responder(|request| vec![success(request.transaction_id())]).await;
        let found = discover(&locals(), &server, PATIENT).await;
        assert_eq!(externals(&found), ["203.0.113.7/127.0.0.1", "203.0.113.7/127.0.0.2"]);
    }

    #[tokio::test]
    async fn lost_requests_are_repeated_and_answers_to_others_are_passed_over() {
        let mut requests = 0;
        let server = responder(move |request| {
            requests += 1;
            let right = success(request.transaction_id());
            let other = success(TransactionId([9; 12]));
            let request_back = [&[0x00], &right[1..]].concat();
            match requests {
                1..3 => vec![],
                3 => vec![vec![], vec![1; 20], other, right[..24].to_vec(), request_back],
                _ => vec![right],
            }
        })
        .await;
        let found = discover(&locals()[..1], &server, PATIENT).await;
        assert_eq!(externals(&found), ["203.0.113.7/127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_silent_or_refusing_server_leaves_the_address_out() {
        let silent = responder(|_| vec![]).await;
        let timing = Timing { first: Duration::from_millis(1), limit: Duration::from_millis(20) };
        assert!(discover(&locals(), &silent, timing).await.is_empty());
        let refusing = responder(|request| {
            let mut out = vec![0x01, 0x11, 0, 8, 0x21, 0x12, 0xa4, 0x42];
            out.extend(request.transaction_id().0);
            out.extend([0x00, 0x09, 0, 4, 0, 0, 4, 0]);
            vec![out]
        })
        .await;
        assert!(discover(&locals(), &refusing, PATIENT).await.is_empty());
        let nobody = StunServer { host: "127.0.0.1".to_owned(), port: refused_port().await };
        assert!(discover(&locals(), &nobody, PATIENT).await.is_empty(), "the kernel says so");
    }

    async fn refused_port() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
        socket.local_addr().expect("it is bound").port()
    }

    #[test]
    fn the_first_stun_url_is_asked_with_the_standard_port_where_it_names_none() {
        let server = |urls: &[&str]| {
            let urls = urls.iter().map(|url| (*url).to_owned()).collect();
            StunServer::first_of(&[IceServer { urls, ..IceServer::default() }])
                .map(|server| format!("{} {}", server.host, server.port))
        };
        assert_eq!(
            server(&["stun:stun.example.org:19302"]).as_deref(),
            Some("stun.example.org 19302")
        );
        assert_eq!(server(&["stun:stun.example.org"]).as_deref(), Some("stun.example.org 3478"));
        assert_eq!(server(&["stun:[2001:db8::1]"]).as_deref(), Some("2001:db8::1 3478"));
        assert_eq!(server(&["stun:[2001:db8::1]:1"]).as_deref(), Some("2001:db8::1 1"));
        assert_eq!(server(&["turn:a:1", "stuns:b:2", "stun:c:3"]).as_deref(), Some("c 3"));
        for none in ["turn:a:1", "stuns:a:1", "stun:", "stun::1", "stun:a:0", "stun:a:x"] {
            assert_eq!(server(&[none]), None, "{none}");
        }
    }
}
