//! ICE candidates in text: ours are written, the peer's are only checked. Source: RFC 8839 §5.1, RFC 6544 §4.5.

use std::fmt;
use std::net::SocketAddr;

use super::error::NegotiationError;

/// One host candidate of ours, component 1. `Display` writes it as it stands after `a=`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Equal for candidates of one base address and transport. Source: RFC 8445 §5.1.1.3.
    pub foundation: u32,
    /// UDP, or TCP where we listen.
    pub transport: CandidateTransport,
    /// Where the peer sends to.
    pub address: SocketAddr,
    /// Unique within a session. Source: RFC 8445 §5.1.2.
    pub priority: u32,
}

/// The transport of a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CandidateTransport {
    /// `udp`
    Udp,
    /// `tcp` with `tcptype passive`: the peer connects. Source: RFC 6544 §4.5.
    TcpPassive,
}

/// Makes host candidates with unique priorities: UDP before TCP, and within each in the order given.
///
/// Addresses beyond the first 8,192 of a transport are left out: their local preferences would not be unique.
/// Source: RFC 8445 §5.1.2.1; RFC 6544 §4.2 (direction preference 4 for passive host candidates).
pub fn host_candidates(udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<Candidate> {
    let udp = udp.iter().map(|&address| (CandidateTransport::Udp, address));
    let tcp = tcp.iter().map(|&address| (CandidateTransport::TcpPassive, address));
    let mut candidates: Vec<Candidate> = Vec::new();
    for (rank, (transport, address)) in ranked(udp).chain(ranked(tcp)) {
        let (type_preference, local_preference) = match transport {
            CandidateTransport::Udp => (UDP_HOST_TYPE_PREFERENCE, u32::from(u16::MAX) - rank),
            CandidateTransport::TcpPassive => (
                TCP_HOST_TYPE_PREFERENCE,
                (PASSIVE_DIRECTION_PREFERENCE << 13) + (PREFERENCES_PER_DIRECTION - 1 - rank),
            ),
        };
        let same_base = candidates
            .iter()
            .find(|c| c.transport == transport && c.address.ip() == address.ip())
            .map(|c| c.foundation);
        candidates.push(Candidate {
            foundation: same_base.unwrap_or(candidates.len() as u32 + 1),
            transport,
            address,
            priority: (type_preference << 24) + (local_preference << 8) + (256 - COMPONENT),
        });
    }
    candidates
}

/// Pairs candidates with their ranks, as many as have preferences of their own.
fn ranked<T>(list: impl Iterator<Item = T>) -> impl Iterator<Item = (u32, T)> {
    (0..PREFERENCES_PER_DIRECTION).zip(list)
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, tcp_type) = match self.transport {
            CandidateTransport::Udp => ("udp", ""),
            CandidateTransport::TcpPassive => ("tcp", " tcptype passive"),
        };
        write!(
            f,
            "candidate:{} {COMPONENT} {transport} {} {} {} typ host{tcp_type}",
            self.foundation,
            self.priority,
            self.address.ip(),
            self.address.port(),
        )
    }
}

/// What of a peer's candidate is worth keeping: an ICE-lite agent never contacts it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteCandidate {
    /// `udp` or `tcp` in lower case; others are possible.
    pub transport: String,
    /// The address, or a name as mDNS candidates have it.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// Checks the syntax of a candidate: the text after `a=`, or of `RTCIceCandidate.candidate` in a browser.
///
/// # Errors
/// `BadSdp` when fields are missing or out of their bounds.
/// Source: RFC 8839 §5.1.
pub fn parse_candidate(text: &str) -> Result<RemoteCandidate, NegotiationError> {
    let bad = |problem: &str| NegotiationError::bad("a=candidate", problem);
    if text.len() > CANDIDATE_BYTES_MAX {
        return Err(bad("longer than 1024 bytes"));
    }
    let fields = text.strip_prefix("a=").unwrap_or(text);
    let fields = fields.strip_prefix("candidate:").unwrap_or(fields);
    let mut fields = fields.split_ascii_whitespace();
    let mut field = |name: &str| fields.next().ok_or_else(|| bad(&format!("{name} is missing")));

    let foundation = field("the foundation")?;
    if foundation.len() > 32 || !foundation.bytes().all(is_ice_char) {
        return Err(bad("the foundation must be 1 to 32 letters, digits, + or /"));
    }
    let component: u32 =
        field("the component")?.parse().map_err(|_| bad("the component must be a number"))?;
    if !(1..=256).contains(&component) {
        return Err(bad("the component must be 1 to 256"));
    }
    let transport = field("the transport")?.to_ascii_lowercase();
    let priority: u64 =
        field("the priority")?.parse().map_err(|_| bad("the priority must be a number"))?;
    if priority > u64::from(u32::MAX) {
        return Err(bad("the priority must be a number of 32 bits"));
    }
    let address = field("the address")?;
    if !address.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("the address must be an IP address or a host name"));
    }
    let port = field("the port")?.parse().map_err(|_| bad("the port must be 0 to 65535"))?;
    if field("typ")? != "typ" {
        return Err(bad("the port must be followed by `typ` and the type"));
    }
    field("the type")?;
    Ok(RemoteCandidate { transport, address: address.to_owned(), port })
}

/// Characters of ufrag, pwd and foundation. Source: RFC 8839 §5.4.
pub(super) fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// RTP and RTCP share component 1. Source: RFC 8445 §13, RFC 5761.
const COMPONENT: u32 = 1;
/// Source: RFC 8445 §5.1.2.2.
const UDP_HOST_TYPE_PREFERENCE: u32 = 126;
/// Below every UDP candidate, as RFC 6544 §4.2 asks for.
const TCP_HOST_TYPE_PREFERENCE: u32 = 90;
/// Source: RFC 6544 §4.2.
const PASSIVE_DIRECTION_PREFERENCE: u32 = 4;
/// The direction preference takes the upper three of sixteen bits.
const PREFERENCES_PER_DIRECTION: u32 = 1 << 13;
/// Browsers write about 150 bytes.
const CANDIDATE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_candidates_have_unique_priorities_and_udp_comes_first() {
        let addresses: Vec<SocketAddr> = ["192.0.2.1:8443", "[2001:db8::1]:8443", "192.0.2.1:8444"]
            .map(|a| a.parse().unwrap())
            .into();
        let candidates = host_candidates(&addresses, &addresses);
        assert_eq!(candidates.len(), 6);
        assert!(candidates.windows(2).all(|pair| pair[0].priority > pair[1].priority));
        assert!(candidates.iter().all(|c| c.priority >= 1 && c.priority < 1 << 31));
        // The formula of RFC 8445 §5.1.2.1 with 126, 65535 and component 1.
        assert_eq!(candidates[0].priority, 2_130_706_431);
        assert_eq!(candidates[0].foundation, candidates[2].foundation);
        assert_ne!(candidates[0].foundation, candidates[1].foundation);
        assert_ne!(candidates[0].foundation, candidates[3].foundation);
    }

    #[test]
    fn what_we_write_parses() {
        let address: SocketAddr = "[2001:db8::1]:8443".parse().unwrap();
        for candidate in host_candidates(&[address], &[address]) {
            let parsed = parse_candidate(&candidate.to_string()).unwrap();
            assert_eq!((parsed.address.as_str(), parsed.port), ("2001:db8::1", 8443));
            let text = candidate.to_string();
            assert_eq!(text.ends_with("tcptype passive"), parsed.transport == "tcp", "{text}");
        }
    }

    #[test]
    fn candidates_of_browsers_are_taken() {
        for text in [
            "candidate:1693685818 1 udp 2122194687 192.0.2.2 60690 typ host generation 0 network-id 1",
            "candidate:1 1 UDP 2122252543 a6b1c5f0-3c1e-4ee6-a0a2-6d1f4e9d5f3c.local 52713 typ host",
            "a=candidate:3 2 tcp 1518280447 192.0.2.2 9 typ host tcptype active",
            "candidate:f957a2332b1715da3b0ef8ba684454eb 1 udp 2130706431 fd00::2 51736 typ host",
        ] {
            assert!(parse_candidate(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn malformed_candidates_are_refused_with_the_reason() {
        for (text, word) in [
            ("", "foundation"),
            ("candidate:1 1 udp", "priority"),
            ("candidate:1 0 udp 1 192.0.2.2 9 typ host", "component"),
            ("candidate:1 1 udp 99999999999 192.0.2.2 9 typ host", "priority"),
            ("candidate:1 1 udp 1 192.0.2.2 65536 typ host", "port"),
            ("candidate:1 1 udp 1 192.0.2.2 9 host", "typ"),
            ("candidate:1 1 udp 1 192.0.2.2 9 typ", "type"),
        ] {
            let error = parse_candidate(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
