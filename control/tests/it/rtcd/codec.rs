//! The messages of the WebSocket and of the data channel, written and read without the server's code.
//!
//! What the server says is read strictly: two values and nothing after them, the keys in the order that
//! rtcd writes them. Source: rtcd-protocol.md 2.3, 3.4.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rmpv::Value;

/// `type` of an `rtc` or `vad` message.
pub(crate) mod kind {
    pub(crate) const ICE: u64 = 1;
    pub(crate) const SDP: u64 = 2;
    pub(crate) const MUTE: u64 = 3;
    pub(crate) const UNMUTE: u64 = 4;
    pub(crate) const SCREEN_ON: u64 = 5;
    pub(crate) const SCREEN_OFF: u64 = 6;
    pub(crate) const VOICE_ON: u64 = 7;
    pub(crate) const VOICE_OFF: u64 = 8;
    pub(crate) const VIDEO_ON: u64 = 9;
    pub(crate) const VIDEO_OFF: u64 = 10;
}

/// Types of data channel messages.
pub(crate) mod channel {
    pub(crate) const PING: u64 = 1;
    pub(crate) const PONG: u64 = 2;
    pub(crate) const SDP: u64 = 3;
    pub(crate) const LOSS_RATE: u64 = 4;
    pub(crate) const ROUND_TRIP_TIME: u64 = 5;
    pub(crate) const JITTER: u64 = 6;
    pub(crate) const LOCK: u64 = 7;
    pub(crate) const UNLOCK: u64 = 8;
    pub(crate) const MEDIA_MAP: u64 = 9;
}

/// What the server sends over the WebSocket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FromServer {
    Hello { client: String, connection: String },
    Rtc(Signal),
    Vad(Signal),
    Close { session: String },
}

impl FromServer {
    /// The session that it is about.
    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Self::Hello { .. } => None,
            Self::Rtc(signal) | Self::Vad(signal) => Some(&signal.session),
            Self::Close { session } => Some(session),
        }
    }
}

/// Payload of `rtc` and `vad`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Signal {
    pub(crate) group: String,
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) call: String,
    pub(crate) kind: u64,
    pub(crate) data: Vec<u8>,
}

/// One WebSocket message: a type, then a payload.
pub(crate) fn message(kind: &str, payload: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::from(kind)).expect("a Vec takes all");
    rmpv::encode::write_value(&mut bytes, payload).expect("a Vec takes all");
    bytes
}

/// A map with these keys in this order.
pub(crate) fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect())
}

/// `rtc` as the plugin sends it: only session, type and data are filled.
pub(crate) fn rtc(session: &str, kind: u64, data: &[u8]) -> Vec<u8> {
    let mut pairs = vec![
        ("group_id", Value::from("")),
        ("user_id", Value::from("")),
        ("session_id", Value::from(session)),
        ("call_id", Value::from("")),
        ("type", Value::from(kind)),
    ];
    if !data.is_empty() {
        pairs.push(("data", Value::Binary(data.to_vec())));
    }
    message("rtc", &map(&pairs))
}

/// Reads one message of the server's; the error says what is wrong with it.
pub(crate) fn read_message(bytes: &[u8]) -> Result<FromServer, String> {
    let mut rest = bytes;
    let kind = read_value(&mut rest)?;
    let payload = read_value(&mut rest)?;
    if !rest.is_empty() {
        return Err(format!("{} bytes after the payload", rest.len()));
    }
    let kind = kind.as_str().ok_or("the type is no string")?;
    let pairs = payload.as_map().ok_or_else(|| format!("the payload of {kind} is no map"))?;
    match kind {
        "hello" => {
            let (client, connection) = (text(pairs, "clientID")?, text(pairs, "connID")?);
            Ok(FromServer::Hello { client, connection })
        }
        "close" => Ok(FromServer::Close { session: text(pairs, "sessionID")? }),
        "rtc" => Ok(FromServer::Rtc(read_signal(pairs)?)),
        "vad" => Ok(FromServer::Vad(read_signal(pairs)?)),
        other => Err(format!("the type {other} is none of the server's")),
    }
}

fn read_signal(pairs: &[(Value, Value)]) -> Result<Signal, String> {
    let order = ["group_id", "user_id", "session_id", "call_id", "type", "data"];
    let keys: Vec<_> = pairs.iter().filter_map(|(key, _)| key.as_str()).collect();
    if keys != order && keys != order[..5] {
        return Err(format!("the keys are {keys:?}"));
    }
    let data = match pairs.get(5) {
        None => Vec::new(),
        Some((_, Value::Binary(data))) if !data.is_empty() => data.clone(),
        Some((_, other)) => return Err(format!("data is no binary of a length: {other}")),
    };
    Ok(Signal {
        group: text(pairs, "group_id")?,
        user: text(pairs, "user_id")?,
        session: text(pairs, "session_id")?,
        call: text(pairs, "call_id")?,
        kind: pairs[4].1.as_u64().ok_or("type is no number")?,
        data,
    })
}

fn read_value(rest: &mut &[u8]) -> Result<Value, String> {
    rmpv::decode::read_value(rest).map_err(|error| format!("no MessagePack: {error}"))
}

fn text(pairs: &[(Value, Value)], key: &str) -> Result<String, String> {
    let value = pairs.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value);
    let text = value.and_then(Value::as_str).ok_or_else(|| format!("{key} is no string"))?;
    Ok(text.to_owned())
}

/// What the server sends over the data channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FromChannel {
    Pong,
    /// The description as JSON.
    Sdp(serde_json::Value),
    Lock(bool),
    MediaMap(BTreeMap<String, MediaMapEntry>),
}

/// What one m= section carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MediaMapEntry {
    pub(crate) kind: String,
    pub(crate) sender: String,
}

/// A data channel message as the browser's client writes it: the type in its shortest form.
pub(crate) fn channel_message(kind: u64, payload: Option<Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::from(kind)).expect("a Vec takes all");
    if let Some(payload) = payload {
        rmpv::encode::write_value(&mut bytes, &payload).expect("a Vec takes all");
    }
    bytes
}

/// A description for the data channel.
pub(crate) fn channel_sdp(json: &str) -> Vec<u8> {
    channel_message(channel::SDP, Some(Value::Binary(deflate(json.as_bytes()))))
}

/// RFC 1950, default level.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

/// Reads one binary message of the server's; the error says what is wrong with it.
pub(crate) fn read_channel_message(bytes: &[u8]) -> Result<FromChannel, String> {
    let mut rest = bytes;
    let kind = read_value(&mut rest)?.as_u64().ok_or("the type is no number")?;
    let payload = if rest.is_empty() { None } else { Some(read_value(&mut rest)?) };
    if !rest.is_empty() {
        return Err(format!("{} bytes after the payload", rest.len()));
    }
    match (kind, payload) {
        (channel::PONG, None) => Ok(FromChannel::Pong),
        (channel::LOCK, Some(Value::Boolean(granted))) => Ok(FromChannel::Lock(granted)),
        (channel::SDP, Some(Value::Binary(deflated))) => {
            let mut json = Vec::new();
            ZlibDecoder::new(&deflated[..]).read_to_end(&mut json).map_err(|e| e.to_string())?;
            serde_json::from_slice(&json).map(FromChannel::Sdp).map_err(|e| e.to_string())
        }
        (channel::MEDIA_MAP, Some(Value::Map(entries))) => {
            let entry = |(mid, entry): &(Value, Value)| {
                let mid = mid.as_str().ok_or("a mid is no string")?.to_owned();
                let entry = entry.as_map().ok_or("an entry of the media map is no map")?;
                let (kind, sender) = (text(entry, "type")?, text(entry, "sender_id")?);
                Ok((mid, MediaMapEntry { kind, sender }))
            };
            let map: Result<_, String> = entries.iter().map(entry).collect();
            map.map(FromChannel::MediaMap)
        }
        (kind, payload) => Err(format!("type {kind} with {payload:?} is none of the server's")),
    }
}

/// The vectors of rtcd-protocol.md 2.6 and 3.4: this client writes and reads what rtcd's own do.
mod vectors {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hexadecimal digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn messages_to_the_server() {
        let join = map(&[
            ("callID", Value::from("callA")),
            ("userID", Value::from("userA")),
            ("sessionID", Value::from("sessA")),
            ("channelID", Value::from("chanA")),
            ("av1Support", Value::from(false)),
            ("dcSignaling", Value::from(true)),
        ]);
        let session = map(&[("sessionID", Value::from("sessA"))]);
        let cases = [
            (
                message("join", &join),
                "a46a6f696e86a663616c6c4944a563616c6c41a6757365724944a57573657241a973657373696f6e4944a57365\
                 737341a96368616e6e656c4944a56368616e41aa617631537570706f7274c2ab64635369676e616c696e67c3",
            ),
            (message("leave", &session), "a56c6561766581a973657373696f6e4944a57365737341"),
            (
                message("reconnect", &session),
                "a97265636f6e6e65637481a973657373696f6e4944a57365737341",
            ),
            (
                rtc("sessA", kind::MUTE, &[]),
                "a372746385a867726f75705f6964a0a7757365725f6964a0aa73657373696f6e5f6964a57365737341a763616c\
                 6c5f6964a0a47479706503",
            ),
        ];
        for (written, expected) in cases {
            assert_eq!(written, bytes(&expected.replace(' ', "")));
        }
    }

    #[test]
    fn messages_from_the_server() {
        let signal = |kind, data: &[u8]| Signal {
            group: "clientA".to_owned(),
            user: "userA".to_owned(),
            session: "sessA".to_owned(),
            call: "callA".to_owned(),
            kind,
            data: data.to_vec(),
        };
        let (client, connection) = ("clientA".to_owned(), "abcdefghijklmnopqrstuvwxyz".to_owned());
        let cases = [
            (
                "a568656c6c6f82a8636c69656e744944a7636c69656e7441a6636f6e6e4944ba6162636465666768696a6b6c6d\
                 6e6f707172737475767778797a",
                FromServer::Hello { client, connection },
            ),
            (
                "a5636c6f736581a973657373696f6e4944a57365737341",
                FromServer::Close { session: "sessA".to_owned() },
            ),
            (
                "a376616485a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f\
                 6964a57365737341a763616c6c5f6964a563616c6c41a47479706507",
                FromServer::Vad(signal(kind::VOICE_ON, &[])),
            ),
            (
                "a372746386a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f\
                 6964a57365737341a763616c6c5f6964a563616c6c41a47479706502a464617461c41a7b2274797065223a226f\
                 66666572222c22736470223a2278227d",
                FromServer::Rtc(signal(kind::SDP, br#"{"type":"offer","sdp":"x"}"#)),
            ),
        ];
        for (hex, expected) in cases {
            assert_eq!(read_message(&bytes(&hex.replace(' ', ""))), Ok(expected));
        }
    }

    #[test]
    fn data_channel_messages() {
        let voice = MediaMapEntry { kind: "voice".to_owned(), sender: "sessA".to_owned() };
        let cases = [
            ("cc02", FromChannel::Pong),
            ("02", FromChannel::Pong),
            ("cc07c3", FromChannel::Lock(true)),
            ("cc07c2", FromChannel::Lock(false)),
            (
                "cc0981a13182a474797065a5766f696365a973656e6465725f6964a57365737341",
                FromChannel::MediaMap([("1".to_owned(), voice)].into()),
            ),
        ];
        for (hex, expected) in cases {
            assert_eq!(read_channel_message(&bytes(hex)), Ok(expected));
        }
        assert_eq!(channel_message(channel::PING, None), [0x01]);
        assert_eq!(channel_message(channel::LOSS_RATE, Some(Value::from(0))), [0x04, 0x00]);
        let sdp = read_channel_message(&channel_sdp(r#"{"type":"offer","sdp":"x"}"#));
        assert_eq!(sdp, Ok(FromChannel::Sdp(serde_json::json!({"type": "offer", "sdp": "x"}))));
    }
}
