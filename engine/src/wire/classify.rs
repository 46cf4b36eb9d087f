//! First byte of a datagram to its protocol. Source: RFC 7983 §7, RFC 5761 §4.

/// What shares one port of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Connectivity checks.
    Stun,
    /// Handshake and alerts.
    Dtls,
    /// Media, protected by SRTP.
    Rtp,
    /// Reports and feedback, protected by SRTCP.
    Rtcp,
}

/// Tells the protocol of `datagram`; `None` when the first byte belongs to none of ours (TURN channels included)
/// or the datagram is shorter than the smallest header of its protocol.
///
/// Whatever passes is still unchecked: each parser looks at the rest itself.
/// Source: RFC 7983 §7 for the first byte; RFC 5761 §4 for the second, which reads 192 to 223 in RTCP only.
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    let (&first, rest) = datagram.split_first()?;
    let (kind, len_min) = match (first, rest.first()?) {
        (0..=3, _) => (Kind::Stun, STUN_LEN_MIN),
        (20..=63, _) => (Kind::Dtls, DTLS_LEN_MIN),
        (128..=191, 192..=223) => (Kind::Rtcp, RTCP_LEN_MIN),
        (128..=191, _) => (Kind::Rtp, RTP_LEN_MIN),
        _ => return None,
    };
    (datagram.len() >= len_min).then_some(kind)
}

/// The header. Source: RFC 8489 §5.
const STUN_LEN_MIN: usize = 20;
/// The header of a record. Source: RFC 6347 §4.1.
const DTLS_LEN_MIN: usize = 13;
/// The fixed header. Source: RFC 3550 §5.1.
const RTP_LEN_MIN: usize = 12;
/// The part in the clear: header and SSRC of the sender. Source: RFC 3711 §3.4.
const RTCP_LEN_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(first: u8, second: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = first;
        datagram[1] = second;
        datagram
    }

    #[test]
    fn every_first_byte_has_its_protocol() {
        for first in 0..=255 {
            let expected = match first {
                0..=3 => Some(Kind::Stun),
                20..=63 => Some(Kind::Dtls),
                128..=191 => Some(Kind::Rtp),
                _ => None,
            };
            assert_eq!(classify(&datagram(first, 96, 40)), expected, "first byte {first}");
        }
    }

    #[test]
    fn second_byte_tells_rtcp_from_rtp() {
        for second in 0..=255 {
            let rtcp = (192..=223).contains(&second);
            let expected = if rtcp { Kind::Rtcp } else { Kind::Rtp };
            assert_eq!(classify(&datagram(0x80, second, 40)), Some(expected), "byte {second}");
        }
    }

    #[test]
    fn shorter_than_the_header_is_nothing() {
        for (first, second, len_min, kind) in [
            (0, 1, 20, Kind::Stun),
            (22, 254, 13, Kind::Dtls),
            (128, 111, 12, Kind::Rtp),
            (129, 201, 8, Kind::Rtcp),
        ] {
            assert_eq!(classify(&datagram(first, second, len_min)), Some(kind));
            assert_eq!(classify(&datagram(first, second, len_min - 1)), None);
        }
        assert_eq!(classify(&[]), None);
        assert_eq!(classify(&[0x80]), None);
    }
}
