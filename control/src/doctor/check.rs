//! Connectivity checks from this host to the server's candidates, as a client's ICE agent makes them. Source: RFC 8445 §7.2.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use sluice_engine::clock::{self, Instant};
use sluice_engine::ice::Credentials;
use sluice_engine::wire::stun::{
    BindingRequest, Class, IntegrityKey, Message, TransactionId, write_binding_request,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::service::fill_random;

/// Until a check over UDP is repeated; each time twice as long, up to [`REPEAT_MAX`].
const REPEAT_FIRST: Duration = Duration::from_millis(200);
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// Of a peer-reflexive candidate over UDP, and over TCP as the connecting side. Source: RFC 8445 §5.1.2, RFC 6544 §4.2.
const PRIORITY_UDP: u32 = (110 << 24) + (0xffff << 8) + 255;
const PRIORITY_TCP: u32 = (80 << 24) + (6 << 21) + (0x1fff << 8) + 255;

/// The longest answer that is read.
const MESSAGE_BYTES_MAX: usize = 1500;

/// How a candidate is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// Datagrams.
    Udp,
    /// A connection that we make, framed by RFC 4571.
    Tcp,
}

impl Transport {
    /// The word as in candidates.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a check goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// How.
    pub(super) transport: Transport,
    /// Where to.
    pub(super) address: SocketAddr,
}

/// What became of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The server answered, with a right MESSAGE-INTEGRITY.
    Answered {
        /// From the request that was answered to its answer.
        round_trip: Duration,
        /// The address of our socket.
        local: SocketAddr,
        /// Our address as the server saw it.
        mapped: Option<SocketAddr>,
    },
    /// The other end said that nobody is there: an ICMP message or a reset.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// The TCP connection was made, and no answer came over it.
    Mute,
    /// Something answered that does not know the session's password, or refuses the check with an error.
    Stranger(String),
    /// Nothing could be sent from this host: the reason.
    Unsendable(String),
}

impl Outcome {
    /// Whether the server answered.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }

    /// Whether a translator stands between us and the server: `None` when it did not answer, or does not say.
    pub(super) fn is_translated(&self) -> Option<bool> {
        match self {
            Self::Answered { local, mapped: Some(mapped), .. } => {
                let (local, mapped) = (local.ip().to_canonical(), mapped.ip().to_canonical());
                Some(local != mapped)
            }
            _ => None,
        }
    }
}

/// The session that is to answer, and under what name we ask it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The server's half.
    pub(super) server: Credentials,
    /// Our ufrag, which the server expects if it was told one.
    pub(super) our_ufrag: String,
}

/// Checks all targets at once; the answers come in the order of the targets, each after `limit` at the latest.
pub(super) async fn check_all(
    subject: &Subject,
    targets: &[Target],
    limit: Duration,
) -> Vec<(Target, Outcome)> {
    let mut checks = JoinSet::new();
    for (index, &target) in targets.iter().enumerate() {
        let subject = subject.clone();
        checks.spawn(async move { (index, check(&subject, target, limit, false).await) });
    }
    let mut outcomes = checks.join_all().await;
    outcomes.sort_by_key(|(index, _)| *index);
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome);
    targets.iter().copied().zip(outcomes).collect()
}

/// Checks one target; with `nominates` it also says that this is the path to use.
pub(super) async fn check(
    subject: &Subject,
    target: Target,
    limit: Duration,
    nominates: bool,
) -> Outcome {
    let deadline = clock::now().to_std() + limit;
    let asker = Asker::new(subject, target.transport, nominates);
    match target.transport {
        Transport::Udp => asker.ask_datagrams(target.address, deadline.into()).await,
        Transport::Tcp => asker.ask_connection(target.address, deadline.into()).await,
    }
}

/// Makes requests and judges what comes back.
struct Asker {
    username: String,
    key: IntegrityKey,
    priority: u32,
    tie_breaker: u64,
    nominates: bool,
    /// Each transmission has an id of its own, so that its round trip is known.
    sent: Vec<(TransactionId, Instant)>,
    stranger: Option<String>,
}

impl Asker {
    fn new(subject: &Subject, transport: Transport, nominates: bool) -> Self {
        let mut tie_breaker = [0; 8];
        fill_random(&mut tie_breaker);
        Self {
            username: format!("{}:{}", subject.server.ufrag, subject.our_ufrag),
            key: IntegrityKey::new(subject.server.pwd.as_bytes()),
            priority: match transport {
                Transport::Udp => PRIORITY_UDP,
                Transport::Tcp => PRIORITY_TCP,
            },
            tie_breaker: u64::from_be_bytes(tie_breaker),
            nominates,
            sent: Vec::new(),
            stranger: None,
        }
    }

    async fn ask_datagrams(
        mut self,
        address: SocketAddr,
        deadline: tokio::time::Instant,
    ) -> Outcome {
        let unspecified = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let opened = async {
            let socket = UdpSocket::bind((unspecified, 0)).await?;
            socket.connect(address).await?;
            let local = socket.local_addr()?;
            io::Result::Ok((socket, local))
        };
        let (socket, local) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Outcome::Unsendable(error.to_string()),
        };
        let mut wait = REPEAT_FIRST;
        loop {
            let request = self.request();
            if let Err(error) = socket.send(&request).await {
                return match error.kind() {
                    // The answer to an earlier request.
                    ErrorKind::ConnectionRefused => Outcome::Refused,
                    _ => Outcome::Unsendable(error.to_string()),
                };
            }
            let until = deadline.min(tokio::time::Instant::now() + wait);
            let received = tokio::time::timeout_at(until, async {
                let mut datagram = [0; MESSAGE_BYTES_MAX];
                loop {
                    let len = socket.recv(&mut datagram).await?;
                    if let Some(outcome) = self.judge(&datagram[..len], local) {
                        return io::Result::Ok(outcome);
                    }
                }
            });
            match received.await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Outcome::Refused;
                }
                Ok(Err(error)) => return Outcome::Unsendable(error.to_string()),
                Err(_) if until >= deadline => {
                    return self.stranger.map_or(Outcome::Silent, Outcome::Stranger);
                }
                Err(_) => wait = (wait * 2).min(REPEAT_MAX),
            }
        }
    }

    async fn ask_connection(
        mut self,
        address: SocketAddr,
        deadline: tokio::time::Instant,
    ) -> Outcome {
        let connected = tokio::time::timeout_at(deadline, async {
            let stream = TcpStream::connect(address).await?;
            let local = stream.local_addr()?;
            io::Result::Ok((stream, local))
        });
        let (mut stream, local) = match connected.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                return match error.kind() {
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
                    ErrorKind::TimedOut => Outcome::Silent,
                    _ => Outcome::Unsendable(error.to_string()),
                };
            }
            Err(_) => return Outcome::Silent,
        };
        let request = self.request();
        let mut frame = (request.len() as u16).to_be_bytes().to_vec();
        frame.extend(request);
        let exchange = tokio::time::timeout_at(deadline, async {
            stream.write_all(&frame).await?;
            loop {
                let len = usize::from(stream.read_u16().await?);
                let mut message = vec![0; len];
                stream.read_exact(&mut message).await?;
                if let Some(outcome) = self.judge(&message, local) {
                    return io::Result::Ok(outcome);
                }
            }
        });
        match exchange.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => self.stranger.map_or(Outcome::Mute, Outcome::Stranger),
        }
    }

    /// A check with a fresh transaction id.
    fn request(&mut self) -> Vec<u8> {
        let mut id = TransactionId([0; 12]);
        fill_random(&mut id.0);
        let request = BindingRequest {
            username: self.username.as_bytes(),
            priority: self.priority,
            controlling: Some(self.tie_breaker),
            controlled: None,
            use_candidate: self.nominates,
        };
        // A name has 513 bytes at most.
        let mut out = [0; 700];
        let len = write_binding_request(&mut out, id, &request, &self.key).unwrap_or(0);
        self.sent.push((id, clock::now()));
        out[..len].to_vec()
    }

    /// What a message says of our requests; `None` to go on waiting.
    fn judge(&mut self, bytes: &[u8], local: SocketAddr) -> Option<Outcome> {
        let now = clock::now();
        let message = Message::parse(bytes).ok()?;
        let id = message.transaction_id();
        let (_, sent) = *self.sent.iter().find(|(sent, _)| *sent == id)?;
        if !message.is_binding() {
            return None;
        }
        match message.class() {
            Class::Success if message.verify_integrity(&self.key) => Some(Outcome::Answered {
                round_trip: now.since(sent),
                local,
                mapped: message.xor_mapped_address(),
            }),
            // Anybody on the path can send this: a right answer may still come.
            Class::Success => {
                self.stranger = Some("its answer was not made with the session's password".into());
                None
            }
            Class::Error => {
                let code = message.error_code().unwrap_or(0);
                self.stranger = Some(format!("it refuses the check with error {code}"));
                None
            }
            Class::Request | Class::Indication => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::wire::stun::{write_binding_error, write_binding_success};

    fn subject() -> Subject {
        let server = Credentials::new("aaServer", "aPasswordOf24IceChars/+x");
        Subject { server: server.expect("ice-chars"), our_ufrag: "doctor".to_owned() }
    }

    /// For those that end by it: long enough for an answer to come on any machine.
    const SHORT: Duration = Duration::from_secs(3);
    const PATIENT: Duration = Duration::from_secs(60);

    /// Answers each check with what `answer` makes of it, on both transports of one port.
    async fn server(
        answer: fn(&Message<'_>, SocketAddr, &mut [u8]) -> Option<usize>,
    ) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = socket.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let mut datagram = [0; MESSAGE_BYTES_MAX];
            while let Ok((len, from)) = socket.recv_from(&mut datagram).await {
                let message = Message::parse(&datagram[..len]).expect("a check");
                let mut out = [0; 128];
                if let Some(len) = answer(&message, from, &mut out) {
                    socket.send_to(&out[..len], from).await.expect("it is open");
                }
            }
        });
        address
    }

    fn key() -> IntegrityKey {
        IntegrityKey::new(subject().server.pwd.as_bytes())
    }

    fn right(message: &Message<'_>, from: SocketAddr, out: &mut [u8]) -> Option<usize> {
        assert_eq!(message.username_parts(), Some((&b"aaServer"[..], &b"doctor"[..])));
        assert!(message.verify_integrity(&key()) && message.ice_controlling().is_some());
        write_binding_success(out, message.transaction_id(), from, &key())
    }

    async fn udp(address: SocketAddr, limit: Duration) -> Outcome {
        check(&subject(), Target { transport: Transport::Udp, address }, limit, false).await
    }

    async fn tcp(address: SocketAddr, limit: Duration) -> Outcome {
        check(&subject(), Target { transport: Transport::Tcp, address }, limit, false).await
    }

    #[tokio::test]
    async fn a_right_answer_tells_how_we_are_seen() {
        let outcome = udp(server(right).await, PATIENT).await;
        let Outcome::Answered { local, mapped, .. } = &outcome else { panic!("{outcome:?}") };
        assert_eq!(Some(*local), *mapped);
        assert_eq!(outcome.is_translated(), Some(false));
        let elsewhere = server(|message, _, out| {
            let seen = "192.0.2.7:9".parse().expect("an address");
            write_binding_success(out, message.transaction_id(), seen, &key())
        });
        assert_eq!(udp(elsewhere.await, PATIENT).await.is_translated(), Some(true));
    }

    #[tokio::test]
    async fn an_answer_under_another_password_is_a_stranger_and_so_is_an_error() {
        let other = server(|message, from, out| {
            let key = IntegrityKey::new(b"another");
            write_binding_success(out, message.transaction_id(), from, &key)
        });
        let refusing = server(|message, _, out| {
            write_binding_error(out, message.transaction_id(), 487, &[], Some(&key()))
        });
        let (other, refusing) = (other.await, refusing.await);
        let (other, refusing) = tokio::join!(udp(other, SHORT), udp(refusing, SHORT));
        assert!(matches!(&other, Outcome::Stranger(why) if why.contains("password")), "{other:?}");
        assert!(matches!(&refusing, Outcome::Stranger(why) if why.contains("487")), "{refusing:?}");
    }

    #[tokio::test]
    async fn silence_and_refusal_are_told_apart() {
        let silent = server(|_, _, _| None).await;
        assert_eq!(udp(silent, SHORT).await, Outcome::Silent);
        let gone = {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
            socket.local_addr().expect("it is bound")
        };
        assert_eq!(udp(gone, PATIENT).await, Outcome::Refused);
        assert_eq!(tcp(gone, PATIENT).await, Outcome::Refused);
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_or_hangs_up_is_mute() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        assert_eq!(tcp(address, SHORT).await, Outcome::Mute, "the kernel takes the connection");
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert_eq!(tcp(address, PATIENT).await, Outcome::Mute);
    }

    #[tokio::test]
    async fn lost_requests_are_repeated() {
        let first_lost = server(|message, from, out| {
            use std::sync::atomic::{AtomicU32, Ordering};
            static CAME: AtomicU32 = AtomicU32::new(0);
            match CAME.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => None,
                _ => right(message, from, out),
            }
        });
        assert!(udp(first_lost.await, PATIENT).await.is_answered());
    }
}
