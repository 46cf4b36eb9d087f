//! What a peer and the server say to each other over the data channel `calls-dc`: a number, and for some of them a value, in
//! MessagePack; what follows is passed over. Source: the protocol as it is seen on the wire, `docs/rtcd_compat.md`.

use std::fmt;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sluice_engine::shard::mailbox::DataKind;

use super::msgpack::{FormatError, Reader, Token, Writer};
use super::track_class::TrackClass;

/// Longest description after decompression, in bytes: one with hundreds of m= sections is below it, and a few bytes that inflate
/// without end stop here.
pub const SDP_JSON_BYTES_MAX: usize = 512 * 1024;

/// Longest time that is taken for a round-trip time or a jitter, in seconds: beyond it nothing would be a call.
const SECONDS_MAX: f64 = 60.0;

/// What mobile clients from before the binary messages send, as text or as bytes, and the answer.
const LEGACY_PING: &[u8] = b"ping";
const LEGACY_PONG: &[u8] = b"pong";

/// Numbers of the messages.
mod number {
    pub(super) const PING: u8 = 1;
    pub(super) const PONG: u8 = 2;
    pub(super) const SDP: u8 = 3;
    pub(super) const LOSS_RATE: u8 = 4;
    pub(super) const ROUND_TRIP_TIME: u8 = 5;
    pub(super) const JITTER: u8 = 6;
    pub(super) const LOCK: u8 = 7;
    pub(super) const UNLOCK: u8 = 8;
    pub(super) const MEDIA_MAP: u8 = 9;
}

/// What a peer says.
#[derive(Clone, PartialEq, Debug)]
pub enum FromPeer {
    /// To be answered with [`ToPeer::Pong`].
    Ping,
    /// To be answered with [`ToPeer::LegacyPong`].
    LegacyPing,
    /// A description: JSON, decompressed.
    Sdp(Vec<u8>),
    /// Share of packets lost, 0 to 1.
    LossRate(f64),
    /// Round-trip time in seconds.
    RoundTripTime(f64),
    /// Jitter in seconds.
    Jitter(f64),
    /// Asks for the signalling lock; to be answered with [`ToPeer::Lock`].
    Lock,
    /// Gives the signalling lock back.
    Unlock,
    /// A message of this number, which is the server's to send or of a later version: to be passed over.
    Ignored(u64),
}

/// Why a message was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelError {
    /// Text other than `ping`.
    UnexpectedText,
    /// It is not MessagePack.
    Format(FormatError),
    /// It does not begin with its number.
    NoNumber,
    /// The value is of another type.
    Payload {
        /// The message's number.
        number: u8,
        /// What would be right.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The value is not a number, below zero or too great to be meant.
    OutOfRange {
        /// The message's number.
        number: u8,
    },
    /// The description is no zlib stream, or not a whole one.
    BadZlib,
    /// The description would be longer than [`SDP_JSON_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedText => f.write_str("the only message that is text is \"ping\""),
            Self::Format(error) => write!(f, "{error}"),
            Self::NoNumber => f.write_str("a message must begin with its number"),
            Self::Payload { number, expected, found } => {
                write!(f, "the value of message {number} must be {expected}, not {found}")
            }
            Self::OutOfRange { number } => {
                write!(f, "the value of message {number} is outside of what can be measured")
            }
            Self::BadZlib => f.write_str("the description is not a whole zlib stream"),
            Self::TooLong => {
                write!(f, "the description is longer than {SDP_JSON_BYTES_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<FormatError> for ChannelError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl FromPeer {
    /// Reads one message.
    ///
    /// # Errors
    /// Every [`ChannelError`].
    pub fn decode(kind: DataKind, bytes: &[u8]) -> Result<Self, ChannelError> {
        if bytes == LEGACY_PING {
            return Ok(Self::LegacyPing);
        }
        if kind == DataKind::Text {
            return Err(ChannelError::UnexpectedText);
        }
        let mut reader = Reader::new(bytes);
        let Token::Unsigned(number) = reader.token()? else { return Err(ChannelError::NoNumber) };
        let Ok(short) = u8::try_from(number) else { return Ok(Self::Ignored(number)) };
        Ok(match short {
            number::PING => Self::Ping,
            number::SDP => match reader.token()? {
                Token::Bin(compressed) => Self::Sdp(inflate(compressed)?),
                other => {
                    let (expected, found) = ("a bin", other.name());
                    return Err(ChannelError::Payload { number: short, expected, found });
                }
            },
            number::LOSS_RATE => Self::LossRate(measure(short, reader.token()?, 1.0)?),
            number::ROUND_TRIP_TIME => {
                Self::RoundTripTime(measure(short, reader.token()?, SECONDS_MAX)?)
            }
            number::JITTER => Self::Jitter(measure(short, reader.token()?, SECONDS_MAX)?),
            number::LOCK => Self::Lock,
            number::UNLOCK => Self::Unlock,
            _ => Self::Ignored(number),
        })
    }
}

/// A number from zero to `max`, in any form: JavaScript sends whole ones as integers.
fn measure(number: u8, value: Token<'_>, max: f64) -> Result<f64, ChannelError> {
    let value = match value {
        Token::Float(value) => value,
        Token::Unsigned(value) => value as f64,
        Token::Negative(value) => value as f64,
        other => {
            let (expected, found) = ("a number", other.name());
            return Err(ChannelError::Payload { number, expected, found });
        }
    };
    // NaN is in no range.
    if (0.0..=max).contains(&value) { Ok(value) } else { Err(ChannelError::OutOfRange { number }) }
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, ChannelError> {
    let mut json = Vec::new();
    let mut decoder = ZlibDecoder::new(compressed).take(SDP_JSON_BYTES_MAX as u64 + 1);
    decoder.read_to_end(&mut json).map_err(|_| ChannelError::BadZlib)?;
    if json.len() > SDP_JSON_BYTES_MAX { Err(ChannelError::TooLong) } else { Ok(json) }
}

/// What the server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToPeer<'a> {
    /// The answer to [`FromPeer::Ping`].
    Pong,
    /// The answer to [`FromPeer::LegacyPing`].
    LegacyPong,
    /// A description, as JSON.
    Sdp(&'a str),
    /// Whether the peer got the signalling lock.
    Lock(bool),
    /// What each m= section with a sender carries. It must reach the peer before the description that it belongs to.
    MediaMap(&'a [MediaMapEntry]),
}

/// What an m= section carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaMapEntry {
    /// The section. Source: RFC 8843 §15.1.
    pub mid: String,
    /// What is sent in it.
    pub class: TrackClass,
    /// The session that it comes from.
    pub sender: String,
}

impl ToPeer<'_> {
    /// The message and how it is to be sent.
    pub fn encode(&self) -> (DataKind, Vec<u8>) {
        let mut writer = Writer::default();
        match self {
            Self::LegacyPong => return (DataKind::Text, LEGACY_PONG.to_vec()),
            Self::Pong => writer.u8_in_two_bytes(number::PONG),
            Self::Sdp(json) => {
                writer.u8_in_two_bytes(number::SDP);
                writer.bin(&deflate(json.as_bytes()));
            }
            Self::Lock(is_granted) => {
                writer.u8_in_two_bytes(number::LOCK);
                writer.bool(*is_granted);
            }
            Self::MediaMap(entries) => {
                writer.u8_in_two_bytes(number::MEDIA_MAP);
                writer.map(entries.len());
                for entry in *entries {
                    writer.str(&entry.mid);
                    writer.map(2);
                    writer.str("type");
                    writer.str(entry.class.as_str());
                    writer.str("sender_id");
                    writer.str(&entry.sender);
                }
            }
        }
        (DataKind::Binary, writer.finish())
    }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes all that is written to it")
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<FromPeer, ChannelError> {
        FromPeer::decode(DataKind::Binary, bytes)
    }

    /// A message as another encoder writes it.
    fn message(number: u8, payload: &Value) -> Vec<u8> {
        let mut bytes = vec![number];
        rmpv::encode::write_value(&mut bytes, payload).expect("memory takes it");
        bytes
    }

    #[test]
    fn the_servers_messages_are_these_bytes() {
        let binary = |bytes: &[u8]| (DataKind::Binary, bytes.to_vec());
        assert_eq!(ToPeer::Pong.encode(), binary(&[0xcc, 0x02]));
        assert_eq!(ToPeer::Lock(true).encode(), binary(&[0xcc, 0x07, 0xc3]));
        assert_eq!(ToPeer::Lock(false).encode(), binary(&[0xcc, 0x07, 0xc2]));
        assert_eq!(ToPeer::LegacyPong.encode(), (DataKind::Text, b"pong".to_vec()));
        let (mid, sender) = ("1".to_owned(), "sessA".to_owned());
        let entries = [MediaMapEntry { mid, class: TrackClass::Voice, sender }];
        let map = b"\xcc\x09\x81\xa11\x82\xa4type\xa5voice\xa9sender_id\xa5sessA";
        assert_eq!(ToPeer::MediaMap(&entries).encode(), binary(map));
        assert_eq!(ToPeer::MediaMap(&[]).encode(), binary(&[0xcc, 0x09, 0x80]));
    }

    #[test]
    fn numbers_are_read_in_any_integer_form() {
        for form in
            [&[1][..], &[0xcc, 1], &[0xcd, 0, 1], &[0xd0, 1], &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1]]
        {
            assert_eq!(decode(form), Ok(FromPeer::Ping), "{form:x?}");
        }
        assert_eq!(decode(&[7]), Ok(FromPeer::Lock));
        assert_eq!(decode(&[0xcc, 8, 0xc0]), Ok(FromPeer::Unlock));
        for ignored in [0, 2, 9, 10, 127] {
            assert_eq!(decode(&[ignored]), Ok(FromPeer::Ignored(ignored.into())));
        }
        // The low byte alone is that of a ping.
        assert_eq!(decode(&[0xcd, 1, 1]), Ok(FromPeer::Ignored(257)));
        for bytes in
            [&[0xff][..], &[0xc0], &[0xa1, 1], &[0x91, 1], &[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(decode(bytes), Err(ChannelError::NoNumber), "{bytes:x?}");
        }
        assert_eq!(decode(&[]), Err(ChannelError::Format(FormatError::Truncated)));
        assert_eq!(decode(&[0xcc]), Err(ChannelError::Format(FormatError::Truncated)));
    }

    #[test]
    fn old_clients_ping_in_text() {
        for kind in [DataKind::Text, DataKind::Binary] {
            assert_eq!(FromPeer::decode(kind, b"ping"), Ok(FromPeer::LegacyPing));
        }
        for text in [&b"pings"[..], b"", b"\x01"] {
            assert_eq!(FromPeer::decode(DataKind::Text, text), Err(ChannelError::UnexpectedText));
        }
    }

    #[test]
    fn measures_are_integers_or_floats_within_reason() {
        assert_eq!(decode(&[4, 0]), Ok(FromPeer::LossRate(0.0)));
        assert_eq!(decode(&message(4, &Value::F64(0.25))), Ok(FromPeer::LossRate(0.25)));
        assert_eq!(decode(&message(5, &Value::F32(0.5))), Ok(FromPeer::RoundTripTime(0.5)));
        assert_eq!(decode(&message(6, &Value::from(2))), Ok(FromPeer::Jitter(2.0)));
        assert_eq!(decode(&message(5, &Value::F64(60.0))), Ok(FromPeer::RoundTripTime(60.0)));
        let nonsense = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.001, 60.001, f64::MAX];
        let values = nonsense.map(Value::F64).into_iter().chain([
            Value::from(-1),
            Value::from(u64::MAX),
            Value::F32(f32::NAN),
        ]);
        for value in values {
            for number in [4, 5, 6] {
                let result = decode(&message(number, &value));
                assert_eq!(result, Err(ChannelError::OutOfRange { number }), "{value}");
            }
        }
        let above_all = decode(&message(4, &Value::F64(1.001)));
        assert_eq!(above_all, Err(ChannelError::OutOfRange { number: 4 }));
        for value in [Value::Nil, Value::from("1"), Value::from(true), Value::Array(vec![])] {
            let result = decode(&message(4, &value));
            assert!(matches!(result, Err(ChannelError::Payload { number: 4, .. })), "{result:?}");
        }
        assert_eq!(decode(&[4]), Err(ChannelError::Format(FormatError::Truncated)));
    }

    #[test]
    fn descriptions_are_compressed_json() {
        let json = r#"{"type":"offer","sdp":"v=0\r\n"}"#.repeat(50);
        let (kind, bytes) = ToPeer::Sdp(&json).encode();
        assert_eq!((kind, &bytes[..2]), (DataKind::Binary, &[0xcc, 3][..]));
        assert!(bytes.len() < json.len() / 10);
        assert_eq!(decode(&bytes), Ok(FromPeer::Sdp(json.into_bytes())));
        // {} as zlib of another make stores it: one block, not compressed.
        let stored = b"\x78\x01\x01\x02\x00\xfd\xff{}\x01\x75\x00\xf9";
        let message = message(3, &Value::Binary(stored.to_vec()));
        assert_eq!(decode(&message), Ok(FromPeer::Sdp(b"{}".to_vec())));
    }

    #[test]
    fn descriptions_that_inflate_without_end_are_refused() {
        let longest = "x".repeat(SDP_JSON_BYTES_MAX);
        assert_eq!(
            decode(&ToPeer::Sdp(&longest).encode().1),
            Ok(FromPeer::Sdp(longest.into_bytes()))
        );
        for length in [SDP_JSON_BYTES_MAX + 1, 64 << 20] {
            let (_, bomb) = ToPeer::Sdp(&"x".repeat(length)).encode();
            assert_eq!(decode(&bomb), Err(ChannelError::TooLong), "{length}");
        }
    }

    #[test]
    fn descriptions_that_are_no_zlib_are_refused() {
        let (_, whole) = ToPeer::Sdp(&"some text ".repeat(20)).encode();
        let compressed = &whole[4..];
        for end in 0..compressed.len() {
            let cut = message(3, &Value::Binary(compressed[..end].to_vec()));
            assert_eq!(decode(&cut), Err(ChannelError::BadZlib), "{end} bytes");
        }
        let mut wrong_sum = compressed.to_vec();
        let last = wrong_sum.len() - 1;
        wrong_sum[last] ^= 1;
        assert_eq!(decode(&message(3, &Value::Binary(wrong_sum))), Err(ChannelError::BadZlib));
        for value in [Value::Nil, Value::from("x"), Value::Array(vec![])] {
            let result = decode(&message(3, &value));
            assert!(matches!(result, Err(ChannelError::Payload { number: 3, .. })), "{result:?}");
        }
        let bin32 = [3, 0xc6, 0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(decode(&bin32), Err(ChannelError::Format(FormatError::Truncated)));
    }

    #[test]
    fn arbitrary_bytes_are_survived() {
        for first in 0..=255 {
            for second in 0..=255 {
                let _ = decode(&[first, second, 0x78, 0x9c, 1, 2, 3]);
            }
        }
    }
}
