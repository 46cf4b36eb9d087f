//! The offers of the bench, by template, and what it needs of the answers.

use std::net::SocketAddr;

use sluice_engine::dtls::DtlsRole;
use sluice_engine::dtls::Fingerprint;
use sluice_engine::ice::Credentials;

/// Which way the media goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// WHIP.
    Publish,
    /// WHEP.
    Play,
}

/// What the answer says.
#[derive(Debug)]
pub struct Answer {
    pub remote: Credentials,
    pub fingerprint: Fingerprint,
    /// Our side of the handshake.
    pub dtls_role: DtlsRole,
    pub address: SocketAddr,
    /// Whether the server wants transport-wide sequence numbers.
    pub transport_cc: bool,
}

pub const PAYLOAD_TYPE: u8 = 96;
pub const EXTENSION_TRANSPORT_CC: u8 = 3;
pub const EXTENSION_MID: u8 = 4;
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Offers one VP8 video, with the feedback and the header extensions that libwebrtc offers.
pub fn offer(
    direction: Direction,
    local: &Credentials,
    fingerprint: &Fingerprint,
    ssrc: u32,
) -> String {
    let Credentials { ufrag, pwd } = local;
    let (way, source) = match direction {
        Direction::Publish => {
            ("sendonly", format!("a=msid:bench video\r\na=ssrc:{ssrc} cname:bench\r\n"))
        }
        Direction::Play => ("recvonly", String::new()),
    };
    format!(
        "v=0\r\n\
        o=- {ssrc} 1 IN IP4 127.0.0.1\r\n\
        s=-\r\n\
        t=0 0\r\n\
        a=group:BUNDLE 0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF {PAYLOAD_TYPE}\r\n\
        c=IN IP4 0.0.0.0\r\n\
        a=ice-ufrag:{ufrag}\r\n\
        a=ice-pwd:{pwd}\r\n\
        a=ice-options:trickle\r\n\
        a=fingerprint:{fingerprint}\r\n\
        a=setup:actpass\r\n\
        a=mid:0\r\n\
        a=extmap:{EXTENSION_TRANSPORT_CC} {TRANSPORT_CC}\r\n\
        a=extmap:{EXTENSION_MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a={way}\r\n\
        a=rtcp-mux\r\n\
        a=rtcp-rsize\r\n\
        a=rtpmap:{PAYLOAD_TYPE} VP8/90000\r\n\
        a=rtcp-fb:{PAYLOAD_TYPE} transport-cc\r\n\
        a=rtcp-fb:{PAYLOAD_TYPE} ccm fir\r\n\
        a=rtcp-fb:{PAYLOAD_TYPE} nack\r\n\
        a=rtcp-fb:{PAYLOAD_TYPE} nack pli\r\n\
        {source}"
    )
}

/// Reads an answer.
///
/// # Errors
/// What is missing or not understood.
pub fn read_answer(sdp: &str) -> Result<Answer, String> {
    let value = |name: &str| {
        let lines = sdp.lines().filter_map(|line| line.strip_prefix("a="));
        lines
            .filter_map(|line| line.strip_prefix(name))
            .find_map(|rest| rest.strip_prefix(':'))
            .ok_or_else(|| format!("the answer has no a={name}"))
    };
    if !sdp.lines().any(|line| line == format!("a=rtpmap:{PAYLOAD_TYPE} VP8/90000")) {
        return Err("the answer does not take VP8".to_owned());
    }
    let remote = Credentials::new(value("ice-ufrag")?, value("ice-pwd")?)
        .ok_or("the answer's ICE credentials are malformed")?;
    let fingerprint = value("fingerprint")?.parse().map_err(|e| format!("the answer: {e}"))?;
    let dtls_role = match value("setup")? {
        "passive" => DtlsRole::Active,
        "active" => DtlsRole::Passive,
        other => return Err(format!("the answer has a=setup:{other}")),
    };
    let address = sdp
        .lines()
        .filter_map(|line| line.strip_prefix("a=candidate:"))
        .filter_map(loopback_candidate)
        .next()
        .ok_or("the answer has no UDP candidate on an IPv4 loopback address")?;
    let transport_cc = sdp.lines().any(|line| line.ends_with(TRANSPORT_CC));
    Ok(Answer { remote, fingerprint, dtls_role, address, transport_cc })
}

/// The address of a candidate, if we can use it. Source: RFC 8839 §5.1.
fn loopback_candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (component, transport) = (words.next()?, words.next()?);
    let address = words.nth(1)?.parse::<std::net::Ipv4Addr>().ok()?;
    let port = words.next()?.parse().ok()?;
    let usable = component == "1" && transport.eq_ignore_ascii_case("udp") && address.is_loopback();
    usable.then(|| SocketAddr::from((address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nm=video 8443 UDP/TLS/RTP/SAVPF 96\r\n\
        a=rtpmap:96 VP8/90000\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        a=setup:passive\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.1 8443 typ host\r\n\
        a=candidate:2 1 tcp 1671430143 127.0.0.1 8443 typ host tcptype passive\r\n\
        a=candidate:3 1 UDP 2130706431 127.0.0.1 8444 typ host\r\n";

    #[test]
    fn the_loopback_candidate_of_udp_is_taken() {
        let answer = read_answer(ANSWER).unwrap();
        assert_eq!(answer.address, SocketAddr::from(([127, 0, 0, 1], 8444)));
        assert_eq!(answer.remote.ufrag, "abcd");
        assert_eq!(answer.dtls_role, DtlsRole::Active);
        assert!(!answer.transport_cc);
    }

    #[test]
    fn an_answer_that_lacks_something_says_what() {
        for name in ["ice-ufrag", "ice-pwd", "setup", "fingerprint"] {
            let without = ANSWER.replace(&format!("a={name}"), "a=x");
            assert!(read_answer(&without).unwrap_err().contains(name), "{name}");
        }
        assert!(read_answer(&ANSWER.replace("VP8", "AV1")).unwrap_err().contains("VP8"));
        assert!(read_answer(&ANSWER.replace("127.0.0.1 8444", "192.0.2.9 1")).is_err());
    }
}
