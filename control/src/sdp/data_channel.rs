//! The section of data channels: `m=application … UDP/DTLS/SCTP webrtc-datachannel`. Source: RFC 8841, RFC 8864.

use sdp_types::Attribute;

use super::error::NegotiationError;
use super::parse::{MediaSection, values};

/// The SCTP port of both sides. No implementation uses another.
pub(super) const SCTP_PORT: u16 = 5000;

/// The longest message that we take, in bytes: what browsers say too.
pub(super) const MESSAGE_BYTES_MAX: usize = 262_144;

/// What a section of data channels says.
#[derive(Clone, Copy, Debug)]
pub(super) struct SctpAttributes {
    /// `None` when it is missing or no port.
    port: Option<u16>,
    /// The longest message that the peer takes, in bytes; `None` when it is no number.
    pub max_message_size: Option<usize>,
}

impl SctpAttributes {
    pub(super) fn read(attributes: &[Attribute]) -> Self {
        let port = values(attributes, "sctp-port").next();
        let max_message_size = match values(attributes, "max-message-size").next() {
            None => Some(MESSAGE_BYTES_MAX_UNSAID),
            Some(text) => match text.trim().parse::<u64>() {
                // Any size is taken (RFC 8841 §6.1).
                Ok(0) => Some(usize::MAX),
                Ok(bytes) => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
                Err(_) => None,
            },
        };
        Self { port: port.and_then(|text| text.trim().parse().ok()), max_message_size }
    }
}

/// Checks a live section of data channels.
///
/// # Errors
/// `Unsupported` for the form of old drafts and for other ports, `BadSdp` for missing or malformed attributes.
pub(super) fn check_data_section(section: &MediaSection) -> Result<(), NegotiationError> {
    let place = &section.place;
    if section.mid.is_none() {
        return Err(NegotiationError::bad(place, "a=mid is missing"));
    }
    let is_current = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"].contains(&section.protocol.as_str());
    if !is_current || section.first_format != "webrtc-datachannel" {
        let problem = "data channels are described by UDP/DTLS/SCTP webrtc-datachannel with a=sctp-port (RFC 8841); \
                       DTLS/SCTP with a=sctpmap, the form of old drafts, is not taken";
        return Err(NegotiationError::unsupported(place, problem));
    }
    let bad = |problem| Err(NegotiationError::bad(place, problem));
    match section.sctp {
        Some(SctpAttributes { port: None, .. }) | None => {
            bad("a=sctp-port must be there and be a port number (RFC 8841 §5.1)")
        }
        Some(SctpAttributes { max_message_size: None, .. }) => {
            bad("a=max-message-size must be a number of bytes (RFC 8841 §6.1)")
        }
        Some(SctpAttributes { port: Some(port), .. }) if port != SCTP_PORT => {
            let problem = format!("a=sctp-port must be {SCTP_PORT}, as everywhere");
            Err(NegotiationError::unsupported(place, problem))
        }
        Some(_) => Ok(()),
    }
}

/// What a peer takes that does not say. Source: RFC 8841 §6.1.
const MESSAGE_BYTES_MAX_UNSAID: usize = 65_536;
