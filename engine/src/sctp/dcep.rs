//! The two messages by which a data channel is opened. Source: RFC 8832 §5.

use super::LABEL_LEN_MAX;

/// `DATA_CHANNEL_ACK`, all of it. Source: RFC 8832 §5.2.
pub const ACK: [u8; 1] = [0x02];
/// Message type of `DATA_CHANNEL_OPEN`.
const OPEN: u8 = 0x03;
/// Bytes before the label.
const HEADER_LEN: usize = 12;

/// A message of the establishment protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dcep {
    /// The peer opens a channel on the stream that the message came on.
    Open(Open),
    /// The peer took the channel that we opened.
    Ack,
}

/// What a `DATA_CHANNEL_OPEN` says. Priority and protocol are read over: nothing here depends on them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The channel's name, at most [`LABEL_LEN_MAX`] bytes.
    pub label: String,
    /// Whether messages may overtake each other.
    pub unordered: bool,
    /// How hard both sides try to deliver a message.
    pub reliability: Reliability,
}

/// How hard a message is tried. Source: RFC 8832 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reliability {
    /// Until it arrives.
    Reliable,
    /// With at most so many retransmissions.
    Retransmits(u32),
    /// For at most so many milliseconds.
    LifetimeMs(u32),
}

/// Why a message of the establishment protocol is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DcepError {
    /// Neither an OPEN nor an ACK, or lengths that do not add up.
    Malformed,
    /// A label that is no UTF-8, or longer than [`LABEL_LEN_MAX`].
    Label,
}

impl Dcep {
    /// Reads one message.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse(message: &[u8]) -> Result<Self, DcepError> {
        match message {
            [0x02, ..] => Ok(Self::Ack),
            [OPEN, ..] => Open::parse(message).map(Self::Open),
            _ => Err(DcepError::Malformed),
        }
    }
}

impl Open {
    fn parse(message: &[u8]) -> Result<Self, DcepError> {
        let (header, rest) = message.split_at_checked(HEADER_LEN).ok_or(DcepError::Malformed)?;
        let short = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        let value = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let (label_len, protocol_len) = (short(8), short(10));
        let reliability = match header[1] & 0x7F {
            0x00 => Reliability::Reliable,
            0x01 => Reliability::Retransmits(value),
            0x02 => Reliability::LifetimeMs(value),
            _ => return Err(DcepError::Malformed),
        };
        if rest.len() != label_len + protocol_len {
            return Err(DcepError::Malformed);
        }
        if label_len > LABEL_LEN_MAX {
            return Err(DcepError::Label);
        }
        let label = str::from_utf8(&rest[..label_len]).map_err(|_| DcepError::Label)?;
        Ok(Self { label: label.to_owned(), unordered: header[1] & 0x80 != 0, reliability })
    }

    /// The message, with an empty protocol and the lowest priority.
    #[cfg(any(test, feature = "testing"))]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, value) = match self.reliability {
            Reliability::Reliable => (0x00, 0),
            Reliability::Retransmits(count) => (0x01, count),
            Reliability::LifetimeMs(time) => (0x02, time),
        };
        let mut message = vec![OPEN, kind | u8::from(self.unordered) << 7, 0, 0];
        message.extend(value.to_be_bytes());
        message.extend((self.label.len() as u16).to_be_bytes());
        message.extend([0, 0]);
        message.extend(self.label.as_bytes());
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(label: &str) -> Open {
        let reliability = Reliability::Reliable;
        Open { label: label.to_owned(), unordered: false, reliability }
    }

    #[test]
    fn an_open_is_read_as_it_stands_in_the_rfc() {
        // Type, channel type, priority, reliability parameter, label and protocol length, label, protocol.
        let message = b"\x03\x82\x01\x00\x00\x00\x00\xFA\x00\x04\x00\x02chatv1";
        let expected = Open {
            label: "chat".to_owned(),
            unordered: true,
            reliability: Reliability::LifetimeMs(250),
        };
        assert_eq!(Dcep::parse(message), Ok(Dcep::Open(expected)));
        assert_eq!(Dcep::parse(&ACK), Ok(Dcep::Ack));
    }

    #[test]
    fn every_kind_of_channel_survives_the_wire() {
        let kinds =
            [Reliability::Reliable, Reliability::Retransmits(7), Reliability::LifetimeMs(9)];
        for reliability in kinds {
            for unordered in [false, true] {
                let open = Open { unordered, reliability, ..open("a label, ü") };
                assert_eq!(Dcep::parse(&open.to_bytes()), Ok(Dcep::Open(open)));
            }
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let whole = open("label").to_bytes();
        for len in 0..whole.len() {
            assert_eq!(Dcep::parse(&whole[..len]), Err(DcepError::Malformed), "{len} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(Dcep::parse(&longer), Err(DcepError::Malformed));
        let mut unknown = whole.clone();
        unknown[1] = 0x03;
        assert_eq!(Dcep::parse(&unknown), Err(DcepError::Malformed));
        assert_eq!(Dcep::parse(&[0x04]), Err(DcepError::Malformed));
        let mut latin = whole;
        latin[HEADER_LEN] = 0xE9;
        assert_eq!(Dcep::parse(&latin), Err(DcepError::Label));
    }

    #[test]
    fn labels_are_bounded() {
        let longest = open(&"x".repeat(LABEL_LEN_MAX));
        assert_eq!(Dcep::parse(&longest.to_bytes()), Ok(Dcep::Open(longest)));
        let longer = open(&"x".repeat(LABEL_LEN_MAX + 1));
        assert_eq!(Dcep::parse(&longer.to_bytes()), Err(DcepError::Label));
    }
}
