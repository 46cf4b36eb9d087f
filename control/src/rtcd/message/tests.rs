//! Byte vectors of the protocol's description, and messages as another encoder makes them.

use rmpv::Value;

use super::*;
use crate::rtcd::msgpack::FormatError;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |d: &[u8]| u8::from_str_radix(std::str::from_utf8(d).expect("ASCII"), 16);
    digits.map(|d| byte(d).expect("hexadecimal")).collect()
}

/// A message as another encoder writes it.
fn message(type_name: &str, payload: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::from(type_name)).expect("memory takes it");
    rmpv::encode::write_value(&mut bytes, payload).expect("memory takes it");
    bytes
}

fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect())
}

fn problem(bytes: &[u8]) -> Problem {
    FromPlugin::decode(bytes).expect_err("it is refused").problem().clone()
}

fn rtc(kind: RtcKind, data: &[u8]) -> Rtc {
    let [group, user, session, call] = ["clientA", "userA", "sessA", "callA"].map(str::to_owned);
    Rtc { group, user, session, call, kind, data: data.to_vec() }
}

const SDP: &str = "a372746386a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f6964a57365737341a763616c6c5f6964a563616c6c41a47479706502a464617461c41a7b2274797065223a226f66666572222c22736470223a2278227d";
const VAD: &str = "a376616485a867726f75705f6964a7636c69656e7441a7757365725f6964a57573657241aa73657373696f6e5f6964a57365737341a763616c6c5f6964a563616c6c41a47479706507";
const MUTE: &str = "a372746385a867726f75705f6964a0a7757365725f6964a0aa73657373696f6e5f6964a57365737341a763616c6c5f6964a0a47479706503";
const JOIN: &str = "a46a6f696e86a663616c6c4944a563616c6c41a6757365724944a57573657241a973657373696f6e4944a57365737341a96368616e6e656c4944a56368616e41aa617631537570706f7274c2ab64635369676e616c696e67c3";

#[test]
fn the_servers_messages_are_these_bytes() {
    let client = "clientA".to_owned();
    let connection = "abcdefghijklmnopqrstuvwxyz".to_owned();
    let hello = "a568656c6c6f82a8636c69656e744944a7636c69656e7441a6636f6e6e4944ba6162636465666768696a6b6c6d6e6f707172737475767778797a";
    assert_eq!(ToPlugin::Hello { client, connection }.encode(), bytes(hello));
    let close = "a5636c6f736581a973657373696f6e4944a57365737341";
    assert_eq!(ToPlugin::Close { session: "sessA".to_owned() }.encode(), bytes(close));
    assert_eq!(ToPlugin::Vad(rtc(RtcKind::VoiceOn, &[])).encode(), bytes(VAD));
    let offer = rtc(RtcKind::Sdp, br#"{"type":"offer","sdp":"x"}"#);
    assert_eq!(ToPlugin::Rtc(offer).encode(), bytes(SDP));
    let empty = String::new;
    let mute = Rtc { group: empty(), user: empty(), call: empty(), ..rtc(RtcKind::Mute, &[]) };
    assert_eq!(ToPlugin::Rtc(mute).encode(), bytes(MUTE));
}

#[test]
fn the_plugins_messages_are_these_bytes() {
    let session = || "sessA".to_owned();
    let join = Join {
        call: "callA".to_owned(),
        user: "userA".to_owned(),
        session: session(),
        props: SessionProps {
            channel: Some("chanA".to_owned()),
            av1_support: Some(false),
            dc_signaling: Some(true),
        },
    };
    assert_eq!(FromPlugin::decode(&bytes(JOIN)), Ok(FromPlugin::Join(join)));
    let leave = bytes("a56c6561766581a973657373696f6e4944a57365737341");
    assert_eq!(FromPlugin::decode(&leave), Ok(FromPlugin::Leave { session: session() }));
    let reconnect = bytes("a97265636f6e6e65637481a973657373696f6e4944a57365737341");
    assert_eq!(FromPlugin::decode(&reconnect), Ok(FromPlugin::Reconnect { session: session() }));
    let empty = String::new;
    let mute = Rtc { group: empty(), user: empty(), call: empty(), ..rtc(RtcKind::Mute, &[]) };
    assert_eq!(FromPlugin::decode(&bytes(MUTE)), Ok(FromPlugin::Rtc(mute)));
    let offer = rtc(RtcKind::Sdp, br#"{"type":"offer","sdp":"x"}"#);
    assert_eq!(FromPlugin::decode(&bytes(SDP)), Ok(FromPlugin::Rtc(offer)));
}

#[test]
fn keys_come_in_any_order_and_what_follows_is_passed_over() {
    let payload = map(&[
        ("dcSignaling", Value::from(true)),
        ("sessionID", Value::from("s")),
        ("unknown", Value::Array(vec![map(&[("a", Value::Nil)]), Value::Ext(1, vec![2])])),
        ("userID", Value::from("u")),
        ("groupID", Value::from("somebody else's")),
        ("channelID", Value::Nil),
        ("callID", Value::from("c")),
    ]);
    let mut bytes = message("join", &payload);
    bytes.extend([0xc1, 0xff]);
    let props = SessionProps { dc_signaling: Some(true), ..SessionProps::default() };
    let [call, user, session] = ["c", "u", "s"].map(str::to_owned);
    let join = Join { call, user, session, props };
    assert_eq!(FromPlugin::decode(&bytes), Ok(FromPlugin::Join(join)));
}

#[test]
fn a_struct_comes_as_map_or_array_with_text_or_bytes_and_nil_for_nothing() {
    let all = Value::Array(vec![
        Value::from("clientA"),
        Value::Binary(b"userA".to_vec()),
        Value::from("sessA"),
        Value::from("callA"),
        Value::from(1),
        Value::from("{}"),
    ]);
    let expected = Ok(FromPlugin::Rtc(rtc(RtcKind::Ice, b"{}")));
    assert_eq!(FromPlugin::decode(&message("rtc", &all)), expected);
    let some = map(&[
        ("more", map(&[("x", Value::from(1.5))])),
        ("user_id", Value::Nil),
        ("data", Value::Nil),
        ("type", Value::from(10)),
        ("session_id", Value::Binary(b"sessA".to_vec())),
    ]);
    let Ok(FromPlugin::Rtc(rtc)) = FromPlugin::decode(&message("rtc", &some)) else {
        panic!("it is well-formed")
    };
    assert_eq!((rtc.session.as_str(), rtc.kind, rtc.data.len()), ("sessA", RtcKind::VideoOff, 0));
    // All that is absent is zero, so it has neither session nor type.
    assert_eq!(problem(&message("rtc", &Value::Nil)), Problem::Missing("session_id"));
}

#[test]
fn fields_of_another_type_are_refused_by_name() {
    let others = [
        Value::from(1),
        Value::from(-1),
        Value::from(1.0),
        Value::Binary(vec![65]),
        Value::Array(vec![Value::Nil]),
        Value::Map(vec![]),
        Value::Ext(1, vec![]),
    ];
    let right = [("callID", "c"), ("userID", "u"), ("sessionID", "s"), ("channelID", "h")];
    for (field, _) in right {
        for other in others.iter().chain([&Value::from(true)]) {
            let pairs = right.map(|(k, v)| (k, if k == field { other.clone() } else { v.into() }));
            let problem = problem(&message("join", &map(&pairs)));
            assert!(
                matches!(problem, Problem::Field { field: f, .. } if f == field),
                "{problem:?}"
            );
        }
    }
    for field in ["av1Support", "dcSignaling"] {
        for other in others.iter().chain([&Value::from("true")]) {
            let problem = problem(&message("join", &map(&[(field, other.clone())])));
            assert!(
                matches!(problem, Problem::Field { field: f, .. } if f == field),
                "{problem:?}"
            );
        }
    }
    for type_name in ["leave", "reconnect"] {
        for other in others.iter().chain([&Value::Nil, &Value::from(true)]) {
            for field in ["sessionID", "more"] {
                let pairs = [("sessionID", Value::from("s")), (field, other.clone())];
                let problem = problem(&message(type_name, &map(&pairs)));
                assert!(matches!(problem, Problem::Field { expected: "a str", .. }), "{problem:?}");
            }
        }
    }
    for field in ["group_id", "user_id", "session_id", "call_id", "type", "data"] {
        for other in [Value::from(-1), Value::from(1.0), Value::from(true), Value::Map(vec![])] {
            let problem = problem(&message("rtc", &map(&[(field, other)])));
            assert!(
                matches!(problem, Problem::Field { field: f, .. } if f == field),
                "{problem:?}"
            );
        }
    }
}

#[test]
fn payloads_and_keys_of_another_type_are_refused() {
    for type_name in ["join", "leave", "reconnect", "rtc"] {
        for payload in [Value::from("x"), Value::from(1), Value::Array(vec![Value::Nil; 5])] {
            let problem = problem(&message(type_name, &payload));
            assert!(matches!(problem, Problem::Payload { .. }), "{type_name}: {problem:?}");
        }
        let keyed_by_number = Value::Map(vec![(Value::from(1), Value::from("x"))]);
        let problem = problem(&message(type_name, &keyed_by_number));
        assert!(matches!(problem, Problem::Field { field: "every key", .. }), "{problem:?}");
    }
}

#[test]
fn what_is_needed_must_be_there() {
    let all = [("callID", "c"), ("userID", "u"), ("sessionID", "s")];
    for (field, _) in all {
        let without: Vec<_> =
            all.iter().filter(|(k, _)| *k != field).map(|(k, v)| (*k, Value::from(*v))).collect();
        assert_eq!(problem(&message("join", &map(&without))), Problem::Missing(field));
        let empty = all.map(|(k, v)| (k, if k == field { "".into() } else { v.into() }));
        assert_eq!(problem(&message("join", &map(&empty))), Problem::Missing(field));
    }
    for payload in [Value::Nil, Value::Map(vec![]), map(&[("sessionID", Value::from(""))])] {
        for type_name in ["leave", "reconnect"] {
            assert_eq!(problem(&message(type_name, &payload)), Problem::Missing("sessionID"));
        }
    }
    for number in [0_u64, 7, 8, 11, u64::MAX] {
        let pairs = [("session_id", Value::from("s")), ("type", Value::from(number))];
        assert_eq!(problem(&message("rtc", &map(&pairs))), Problem::UnknownKind(number));
    }
}

#[test]
fn ids_are_short_text_without_control_characters() {
    let leave = |id: &str| message("leave", &map(&[("sessionID", Value::from(id))]));
    let longest = "é".repeat(ID_BYTES_MAX / 2);
    assert_eq!(FromPlugin::decode(&leave(&longest)), Ok(FromPlugin::Leave { session: longest }));
    for bad in ["a\r\nb", "a\0", "a b", "\u{85}", &"x".repeat(ID_BYTES_MAX + 1)] {
        assert_eq!(problem(&leave(bad)), Problem::NoId("sessionID"), "{bad:?}");
    }
    let mut not_utf8 = leave("xx");
    let end = not_utf8.len();
    not_utf8[end - 2..].fill(0xff);
    assert_eq!(problem(&not_utf8), Problem::NoId("sessionID"));
}

#[test]
fn types_that_a_plugin_does_not_send_are_named_in_the_error() {
    for type_name in ["hello", "close", "vad", "", "Join", "anything"] {
        let error = FromPlugin::decode(&message(type_name, &Value::Nil)).expect_err("refused");
        assert_eq!(
            (error.type_name(), error.problem()),
            (Some(type_name), &Problem::UnexpectedType)
        );
    }
    let error = FromPlugin::decode(&message("a\nb", &Value::Nil)).expect_err("refused");
    let text = r#"a message of type "a\nb": a plugin sends join, leave, reconnect and rtc only"#;
    assert_eq!(error.to_string(), text);
    for bytes in
        [vec![1], vec![0xc0], vec![0x81, 0xa1, 65, 0xc0], message(&"x".repeat(33), &Value::Nil)]
    {
        let error = FromPlugin::decode(&bytes).expect_err("refused");
        assert_eq!((error.type_name(), error.problem()), (None, &Problem::NoType));
    }
}

#[test]
fn every_prefix_is_refused_and_every_changed_byte_is_survived() {
    for vector in [JOIN, SDP, VAD, MUTE] {
        let whole = bytes(vector);
        for end in 0..whole.len() {
            assert!(FromPlugin::decode(&whole[..end]).is_err(), "{end} bytes of {vector}");
        }
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = value;
                if let Err(error) = FromPlugin::decode(&changed) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}

#[test]
fn lengths_that_are_not_there_are_refused_before_anything_is_made_of_them() {
    let truncated = Problem::Format(FormatError::Truncated);
    let start = |type_name: &str| {
        let mut bytes = vec![0xa0 | type_name.len() as u8];
        bytes.extend(type_name.as_bytes());
        bytes
    };
    for type_name in ["join", "leave", "reconnect", "rtc"] {
        let mut map32 = start(type_name);
        map32.extend([0xdf, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(problem(&map32), truncated);
        let mut str32 = start(type_name);
        str32.extend([0x81, 0xdb, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(problem(&str32), truncated);
    }
    let mut bin32 = start("rtc");
    bin32.extend([0x81, 0xa4]);
    bin32.extend(b"data");
    bin32.extend([0xc6, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(problem(&bin32), truncated);
    assert_eq!(problem(&[0xdb, 0xff, 0xff, 0xff, 0xff]), truncated);
}

#[test]
fn nesting_of_a_hundred_thousand_arrays_is_passed_over() {
    let mut bytes = message("join", &Value::Nil);
    bytes.pop();
    bytes.push(0x84);
    for (key, value) in [("callID", "c"), ("userID", "u"), ("sessionID", "s")] {
        for text in [key, value] {
            bytes.push(0xa0 | text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes.extend([0xa1, b'x']);
    bytes.extend([0x91; 100_000]);
    assert_eq!(problem(&bytes), Problem::Format(FormatError::Truncated));
    bytes.push(0xc0);
    assert!(matches!(FromPlugin::decode(&bytes), Ok(FromPlugin::Join(_))));
}
