//! A session of our own on the server, for its credentials and candidates, and its end.
//!
//! Whatever becomes of us, nothing stays: the call goes with its last session, a session that was offered to ends after
//! `engine.connect_timeout_s` without a handshake, and one that waits for our answer ends that long after its WebSocket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_engine::ice::Credentials;

use super::address::is_of_one_host;
use super::api::{Api, ApiError};
use super::check::{Subject, Target, Transport};
use super::report::told;
use crate::sdp::parse_candidate;
use crate::service::fill_random;

/// Time for the goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// A call with the sessions that the doctor made in it.
pub(super) struct ProbeCall {
    id: String,
}

/// What a description of the server tells.
#[derive(Clone, Debug)]
pub(super) struct Reachable {
    /// With whom checks are made.
    pub(super) subject: Subject,
    /// The candidates.
    pub(super) targets: Vec<Target>,
    /// Candidates whose address could not be read: names, other transports.
    pub(super) unread: Vec<String>,
}

/// A session that waits for an answer that never comes, so that it answers the checks of any peer for as long as its WebSocket is open.
pub(super) struct WaitingSession {
    /// What to check.
    pub(super) reachable: Reachable,
    /// Its path in the API.
    pub(super) path: String,
    /// Path of its WebSocket, with the ticket that opens it.
    pub(super) ws_path: String,
}

impl ProbeCall {
    /// Makes the call.
    ///
    /// # Errors
    /// The server is not there, is none of ours, or refuses.
    pub(super) async fn open(api: &Api) -> Result<Self, ApiError> {
        let mut random = [0; 6];
        fill_random(&mut random);
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = format!("doctor-{id}");
        api.ask("POST", "/v1/calls", Some(json!({"id": id, "until_empty": true}))).await?;
        Ok(Self { id })
    }

    /// Makes a session by an offer of ours. It answers checks for as long as a handshake may take.
    ///
    /// # Errors
    /// As [`ProbeCall::open`].
    pub(super) async fn join(&self, api: &Api) -> Result<Reachable, ApiError> {
        let ours = own_credentials();
        let offer = json!({"type": "offer", "sdp": offer(&ours)});
        let body = json!({"name": "doctor", "subscribe": "none", "offer": offer});
        let path = format!("/v1/calls/{}/sessions", self.id);
        let created = api.ask("POST", &path, Some(body)).await?;
        Reachable::read(text_at(&created, "/answer/sdp")?, ours.ufrag)
    }

    /// Makes a session that waits; needs one that [`ProbeCall::join`] made, whose track is offered to it.
    ///
    /// # Errors
    /// As [`ProbeCall::open`].
    pub(super) async fn join_waiting(&self, api: &Api) -> Result<WaitingSession, ApiError> {
        let path = format!("/v1/calls/{}/sessions", self.id);
        let body = json!({"name": "doctor", "subscribe": "all"});
        let created = api.ask("POST", &path, Some(body)).await?;
        Ok(WaitingSession {
            reachable: Reachable::read(text_at(&created, "/offer/sdp")?, own_credentials().ufrag)?,
            path: format!("{path}/{}", text_at(&created, "/session/id")?),
            ws_path: text_at(&created, "/ws_url")?.to_owned(),
        })
    }

    /// Ends the call with its sessions.
    pub(super) async fn close(self, api: &Api) {
        let path = format!("/v1/calls/{}", self.id);
        // What is left then ends by itself.
        let _ = tokio::time::timeout(GOODBYE, api.ask("DELETE", &path, None)).await;
    }
}

impl Reachable {
    fn read(sdp: &str, our_ufrag: String) -> Result<Self, ApiError> {
        let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name));
        let credentials = value("a=ice-ufrag:").zip(value("a=ice-pwd:"));
        let credentials = credentials.and_then(|(ufrag, pwd)| Credentials::new(ufrag, pwd));
        let server = credentials.ok_or_else(|| {
            ApiError::Foreign("its description has no ICE credentials".to_owned())
        })?;
        let mut targets: Vec<Target> = Vec::new();
        let mut unread = Vec::new();
        // Every m= section may repeat them.
        for line in sdp.lines().filter(|line| line.starts_with("a=candidate:")) {
            match target_of(line) {
                Some(target) if targets.contains(&target) => {}
                Some(target) => targets.push(target),
                None => unread.push(told(line)),
            }
        }
        Ok(Self { subject: Subject { server, our_ufrag }, targets, unread })
    }
}

fn target_of(line: &str) -> Option<Target> {
    let candidate = parse_candidate(line).ok()?;
    let transport = match candidate.transport.as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    let ip: IpAddr = candidate.address.parse().ok()?;
    is_of_one_host(ip).then(|| Target { transport, address: SocketAddr::new(ip, candidate.port) })
}

fn text_at<'a>(json: &'a Value, place: &str) -> Result<&'a str, ApiError> {
    json.pointer(place)
        .and_then(Value::as_str)
        .ok_or_else(|| ApiError::Foreign(format!("its answer to a new session has no {place}")))
}

fn own_credentials() -> Credentials {
    let mut random = [0; 28];
    fill_random(&mut random);
    // Sixteen of the ice-chars: eight of them for the ufrag are 32 random bits, the others 80. Nobody checks us with them.
    let mut chars = random.iter().map(|byte| char::from(b'a' + (byte & 0x0f)));
    let ufrag = chars.by_ref().take(8).collect();
    Credentials { ufrag, pwd: chars.chain("doctor".chars().cycle()).take(24).collect() }
}

/// Offers one audio track, so that there is something to negotiate. The certificate's hash is that of no certificate: no
/// handshake follows.
fn offer(ours: &Credentials) -> String {
    let fingerprint = vec!["00"; 32].join(":");
    let Credentials { ufrag, pwd } = ours;
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:active\r\na=mid:0\r\na=sendonly\r\na=msid:doctor doctor\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:doctor\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{host_candidates, parse_fragment};

    #[test]
    fn candidates_of_all_sections_are_read_once_and_others_are_named() {
        let address = "192.0.2.7:8443".parse().expect("an address");
        let ours = host_candidates(&[address], &[address]);
        let section: String =
            ours.iter().map(|candidate| format!("a={candidate}\r\n")).collect::<String>();
        let named = "a=candidate:1 1 udp 1 a.local 9 typ host";
        let many = "a=candidate:1 1 udp 1 224.0.0.1 9 typ host";
        let sdp = format!(
            "a=ice-ufrag:aaServer\r\na=ice-pwd:aPasswordOf24IceChars/+x\r\n{section}{section}{named}\r\n{many}\r\n"
        );
        let reachable = Reachable::read(&sdp, "us".to_owned()).expect("it is whole");
        assert_eq!(
            reachable.targets,
            [Transport::Udp, Transport::Tcp].map(|transport| Target { transport, address })
        );
        assert_eq!(reachable.unread, [named, many]);
        assert_eq!(reachable.subject.server.ufrag, "aaServer");
        assert!(Reachable::read("v=0\r\n", String::new()).is_err());
    }

    #[test]
    fn our_credentials_are_such_as_rfc_8839_wants() {
        let ours = own_credentials();
        assert!(Credentials::new(&ours.ufrag, &ours.pwd).is_some());
        assert_ne!(ours.ufrag, own_credentials().ufrag);
        let sdp = offer(&ours);
        let lines = sdp.lines().filter(|line| line.starts_with("a=ice-"));
        let fragment: String = lines.map(|line| format!("{line}\r\n")).collect();
        assert_eq!(parse_fragment(&fragment).expect("grammar").ufrag, ours.ufrag);
    }
}
