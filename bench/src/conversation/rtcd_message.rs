//! Messages on the WebSocket of rtcd's API: two MessagePack values in a row, a name and what belongs to it.

use rmpv::Value;

/// What an `rtc` message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RtcType {
    /// A candidate. Our clients send none: the server finds them by their checks.
    #[cfg(test)]
    Ice = 1,
    Sdp = 2,
    Mute = 3,
    Unmute = 4,
    ScreenOn = 5,
}

/// What the server says of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromServer {
    /// A candidate, JSON.
    Ice(Vec<u8>),
    /// A description, JSON.
    Sdp(Vec<u8>),
    /// The session has ended.
    Close,
    /// What a client need not know: voice activity, and kinds that later versions may have.
    Other,
}

/// Values within values that a message may have.
const DEPTH_MAX: usize = 16;

/// Asks for a session. There is no answer to it.
pub fn join(call: &str, user: &str, session: &str, channel: &str) -> Vec<u8> {
    let payload = [
        ("callID", Value::from(call)),
        ("userID", Value::from(user)),
        ("sessionID", Value::from(session)),
        ("channelID", Value::from(channel)),
        ("av1Support", Value::from(false)),
        ("dcSignaling", Value::from(false)),
    ];
    encode("join", &payload)
}

/// Ends a session.
pub fn leave(session: &str) -> Vec<u8> {
    encode("leave", &[("sessionID", Value::from(session))])
}

/// Says something for a session; `data` is JSON or empty.
pub fn rtc(session: &str, about: RtcType, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![
        ("group_id", Value::from("")),
        ("user_id", Value::from("")),
        ("session_id", Value::from(session)),
        ("call_id", Value::from("")),
        ("type", Value::from(about as u8)),
    ];
    if !data.is_empty() {
        payload.push(("data", Value::from(data)));
    }
    encode("rtc", &payload)
}

fn encode(name: &str, payload: &[(&str, Value)]) -> Vec<u8> {
    let pairs = payload.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
    let mut message = Vec::new();
    for value in [Value::from(name), Value::Map(pairs)] {
        rmpv::encode::write_value(&mut message, &value).expect("a Vec takes every byte");
    }
    message
}

/// Takes a message of the server apart: its session and what is said of it. `None` for what is of no session (`hello`) or is
/// malformed.
pub fn decode(message: &[u8]) -> Option<(String, FromServer)> {
    let (name, payload) = split(message)?;
    let text = |key| field(&payload, key)?.as_str().map(str::to_owned);
    let data = || match field(&payload, "data") {
        Some(Value::Binary(bytes)) => Some(bytes.clone()),
        Some(Value::String(text)) => Some(text.as_bytes().to_vec()),
        _ => None,
    };
    match name.as_str() {
        "close" => Some((text("sessionID")?, FromServer::Close)),
        "rtc" => {
            let said = match field(&payload, "type")?.as_u64()? {
                1 => FromServer::Ice(data()?),
                2 => FromServer::Sdp(data()?),
                _ => FromServer::Other,
            };
            Some((text("session_id")?, said))
        }
        "vad" => Some((text("session_id")?, FromServer::Other)),
        _ => None,
    }
}

/// Whether a message is the first of a connection.
pub fn is_hello(message: &[u8]) -> bool {
    split(message).is_some_and(|(name, _)| name == "hello")
}

fn split(mut message: &[u8]) -> Option<(String, Value)> {
    let mut next = || rmpv::decode::read_value_with_max_depth(&mut message, DEPTH_MAX).ok();
    let name = next()?.as_str()?.to_owned();
    Some((name, next()?))
}

fn field<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    let (_, value) = map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key))?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// A join as rtcd's plugin writes it, without descriptions over the data channel.
    const JOIN: &str = "a46a6f696e86a663616c6c4944a563616c6c41a6757365724944a57573657241a973657373696f6e4944a57365737341a96368616e6e656c4944a56368616e41aa617631537570706f7274c2ab64635369676e616c696e67c2";

    #[test]
    fn what_is_sent_has_the_bytes_of_rtcds_plugin() {
        assert_eq!(join("callA", "userA", "sessA", "chanA"), bytes(JOIN));
        let leaving = "a56c6561766581a973657373696f6e4944a57365737341";
        assert_eq!(leave("sessA"), bytes(leaving));
        let mute = "a372746385a867726f75705f6964a0a7757365725f6964a0aa73657373696f6e5f6964a57365737341a763616c6c5f6964a0a47479706503";
        assert_eq!(rtc("sessA", RtcType::Mute, &[]), bytes(mute));
        let with_data = rtc("sessA", RtcType::Sdp, br#"{"type":"offer","sdp":"x"}"#);
        let data = "a464617461c41a7b2274797065223a226f66666572222c22736470223a2278227d";
        assert!(with_data.ends_with(&bytes(data)), "{with_data:x?}");
    }

    #[test]
    fn what_the_server_sends_is_understood() {
        let sdp = "a372746386a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f6964a57365737341a763616c6c5f6964a563616c6c41a47479706502a464617461c41a7b2274797065223a226f66666572222c22736470223a2278227d";
        let json = br#"{"type":"offer","sdp":"x"}"#.to_vec();
        assert_eq!(decode(&bytes(sdp)), Some(("sessA".to_owned(), FromServer::Sdp(json))));
        let vad = "a376616485a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f6964a57365737341a763616c6c5f6964a563616c6c41a47479706507";
        assert_eq!(decode(&bytes(vad)), Some(("sessA".to_owned(), FromServer::Other)));
        let close = "a5636c6f736581a973657373696f6e4944a57365737341";
        assert_eq!(decode(&bytes(close)), Some(("sessA".to_owned(), FromServer::Close)));
        let hello = "a568656c6c6f82a8636c69656e744944a7636c69656e7441a6636f6e6e4944ba6162636465666768696a6b6c6d6e6f707172737475767778797a";
        assert!(is_hello(&bytes(hello)) && !is_hello(&bytes(close)));
        assert_eq!(decode(&bytes(hello)), None);
    }

    #[test]
    fn a_type_in_two_bytes_is_the_same() {
        let mut message = rtc("sessA", RtcType::Sdp, b"{}");
        let at = message.windows(5).position(|w| w == b"type\x02").unwrap() + 4;
        message.splice(at..=at, [0xcc, 2]);
        assert_eq!(decode(&message), Some(("sessA".to_owned(), FromServer::Sdp(b"{}".to_vec()))));
    }

    #[test]
    fn garbage_is_nobodys() {
        let whole = rtc("sessA", RtcType::Mute, b"{}");
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len]), None, "{len}");
        }
        assert_eq!(decode(&[0xdd; 64]), None, "a list of three thousand million");
        assert_eq!(decode(&[0x91; 100_000]), None, "deeper than the stack");
        assert_eq!(decode(&encode("rtc", &[("type", Value::from("2"))])), None);
    }
}
