//! Garbage and floods in the middle of a call disturb nobody. Sections 2.2, 2.3, 3.4.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rmpv::Value;
use tokio_tungstenite::tungstenite::Message;

use super::codec::{channel, channel_message, kind, map, message, rtc};
use super::plugin::Plugin;
use super::server::Server;
use super::user::{Options, User};

/// A call with one who talks and one who listens, and one more for the mischief.
async fn call() -> (Server, Plugin, User, User, User) {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let eve = User::join(&plugin, "call", "eve").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    eve.gets("voice", &ann, 0).await;
    (server, plugin, ann, bob, eve)
}

/// Media and signalling still work.
async fn goes_on(plugin: &Plugin, ann: &User, bob: &mut User) {
    ann.note(1);
    bob.gets("voice", ann, 1).await;
    bob.unmute().await;
    ann.gets("voice", bob, 0).await;
    let mut late = User::join(plugin, "call", "late").await;
    late.gets("voice", ann, 1).await;
    late.unmute().await;
    bob.gets("voice", &late, 0).await;
}

#[tokio::test]
async fn wrong_messages_of_a_plugin_are_passed_over() {
    let (_server, plugin, ann, mut bob, _eve) = call().await;
    let session = &ann.session;
    let join = message("join", &map(&[]));
    let deep: Vec<u8> = [&b"\xa4join"[..], &vec![0x91; 100_000]].concat();
    let wrong: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0xc1],
        b"\xa4join".to_vec(),
        join,
        // Lengths of four thousand million: of a string, of bytes, of a map, of an array.
        b"\xdb\xff\xff\xff\xff".to_vec(),
        b"\xa3rtc\xc6\xff\xff\xff\xff".to_vec(),
        b"\xa4join\xdf\xff\xff\xff\xff".to_vec(),
        b"\xa5leave\xdd\xff\xff\xff\xff".to_vec(),
        deep,
        message("unknown", &Value::Nil),
        message("hello", &Value::Nil),
        message("leave", &Value::Nil),
        message("leave", &map(&[("sessionID", Value::from(7))])),
        message("reconnect", &map(&[("sessionID", Value::Boolean(true))])),
        message("rtc", &Value::from("text")),
        message("rtc", &map(&[("session_id", Value::from(1.5)), ("type", Value::from("x"))])),
        rtc(session, kind::SDP, b"no JSON"),
        rtc(session, kind::SDP, br#"{"type": "pranswer", "sdp": ""}"#),
        rtc(session, kind::SDP, br#"{"type": "rollback", "sdp": ""}"#),
        rtc(session, kind::SDP, br#"{"type": "answer", "sdp": "v=0\r\n"}"#),
        rtc(session, kind::ICE, br#"{"candidate": 7}"#),
        rtc(session, kind::ICE, br#"{"candidate": ""}"#),
        rtc(session, kind::SCREEN_ON, br#"{"screenStreamID": {}}"#),
        rtc(session, kind::VIDEO_ON, b"[]"),
        rtc(session, 99, &[]),
    ];
    for bytes in wrong {
        plugin.send(bytes);
    }
    plugin.send_message(Message::Text("text is not spoken here".into()));
    goes_on(&plugin, &ann, &mut bob).await;
    assert_eq!(plugin.look(|seen| seen.opened), 1, "the connection stayed open");
}

#[tokio::test]
async fn a_thousand_wrong_messages_do_not_keep_the_next_one() {
    let (_server, plugin, ann, mut bob, _eve) = call().await;
    for number in 0..1000_u32 {
        match number % 3 {
            0 => plugin.send(number.to_be_bytes().to_vec()),
            1 => plugin.rtc(&ann.session, kind::ICE, br#"{"candidate": "candidate:1 1 udp"}"#),
            _ => plugin.leave(&format!("nobody{number}")),
        }
    }
    goes_on(&plugin, &ann, &mut bob).await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection_with_1009() {
    let (server, plugin, ann, mut bob, _eve) = call().await;
    let other = Plugin::new(&server, "clientb").await;
    other.send(vec![0xc4; (1 << 20) + 1]);
    other.wait("the close", |seen| !seen.open).await;
    assert_eq!(other.look(|seen| seen.close_code), Some(1009));
    goes_on(&plugin, &ann, &mut bob).await;
}

#[tokio::test]
async fn wrong_data_channel_messages_disturb_nobody() {
    let (_server, plugin, ann, mut bob, eve) = call().await;
    // 64 MiB of zeros in 64 KiB.
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|_| bomb.write_all(&zeros).expect("a Vec takes all"));
    let bomb = bomb.finish().expect("a Vec takes all");
    let wrong: Vec<Vec<u8>> = vec![
        vec![0xc1],
        vec![0xdb, 0xff, 0xff, 0xff, 0xff],
        vec![0x93; 50_000],
        channel_message(channel::SDP, None),
        channel_message(channel::SDP, Some(Value::from("text"))),
        channel_message(channel::SDP, Some(Value::Binary(b"no zlib".to_vec()))),
        super::codec::channel_sdp("no JSON"),
        super::codec::channel_sdp(r#"{"type": "answer", "sdp": "v=0\r\n"}"#),
        channel_message(channel::SDP, Some(Value::Binary(bomb))),
        channel_message(channel::LOSS_RATE, Some(Value::from(f64::NAN))),
        channel_message(channel::LOSS_RATE, Some(Value::from(-1))),
        channel_message(channel::ROUND_TRIP_TIME, Some(Value::from(1e300))),
        channel_message(channel::JITTER, Some(Value::from("text"))),
        channel_message(channel::LOCK, Some(Value::Nil)),
        channel_message(u64::MAX, None),
    ];
    for bytes in wrong {
        eve.act(move |peer| peer.send_channel(&bytes));
        eve.pings().await;
    }
    goes_on(&plugin, &ann, &mut bob).await;
    eve.gets("voice", &bob, 0).await;
}

#[tokio::test]
async fn a_flood_on_a_data_channel_keeps_only_itself() {
    let (_server, plugin, ann, mut bob, eve) = call().await;
    // Its own offers and maps wait behind the pongs, all on one channel.
    let options = Options { dc_signaling: true, ..Options::default() };
    let flooder = User::join_with(&plugin, "call", "flooder", options).await;
    for _ in 0..1000 {
        flooder.act(|peer| peer.send_channel(&channel_message(channel::PING, None)));
    }
    goes_on(&plugin, &ann, &mut bob).await;
    eve.gets("voice", &bob, 0).await;
    flooder.wait("some of the pongs", |seen| seen.pongs > 50).await;
}
