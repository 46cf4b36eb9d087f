//! Conversations step by step, against texts as servers send them.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_engine::clock::Instant;
use sluice_engine::dtls::{DtlsRole, Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::PayloadType;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

fn begin(target: &str, sources: &[Source]) -> (Conversation, Vec<Wish>) {
    let participant = Participant {
        call: "call".to_owned(),
        session: "sess".to_owned(),
        sources: sources.to_vec(),
        receives: true,
        local: Credentials::new("ours", "abcdefghijklmnopqrstuv").unwrap(),
        fingerprint: Fingerprint::of_certificate(HashFunction::Sha256, b"ours"),
        seed: 1,
    };
    let target = Target::parse(target).unwrap();
    let mut conversation = Conversation::new(&target, participant, at(0));
    let wishes = wishes(&mut conversation);
    (conversation, wishes)
}

fn wishes(conversation: &mut Conversation) -> Vec<Wish> {
    std::iter::from_fn(|| conversation.poll_wish()).collect()
}

/// What the server's description has for a transport.
const TRANSPORT: &str = "a=ice-ufrag:theirs\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";
const CANDIDATE: &str = "candidate:1 1 udp 2130706431 127.0.0.1 8443 typ host";

/// A description of the server with these sections, each from its m= line on.
fn described(setup: &str, sections: &[&str]) -> String {
    let mut text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    for section in sections {
        text += &format!("m={section}\r\n{TRANSPORT}a=setup:{setup}\r\n");
    }
    text
}

const DATA: &str = "application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0";
const TAKES_AUDIO: &str = "audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\n\
    a=rtpmap:111 opus/48000/2\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TAKES_VIDEO: &str = "video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=recvonly\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack";
const SENDS_VIDEO: &str = "video 9 UDP/TLS/RTP/SAVPF 45 120\r\na=mid:7\r\na=sendrecv\r\n\
    a=rtpmap:45 AV1/90000\r\na=rtpmap:120 VP8/90000\r\na=rtcp-fb:120 nack\r\na=rtcp-fb:120 nack pli\r\n\
    a=extmap:9 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

fn rtc(about: RtcType, json: &Value) -> Heard {
    Heard::Message(rtcd_message::rtc("sess", about, json.to_string().as_bytes()))
}

use rtcd_message::RtcType;

fn description(kind: &str, sdp: &str) -> Heard {
    rtc(RtcType::Sdp, &json!({ "type": kind, "sdp": sdp }))
}

/// The description in a message to the server.
fn said(wish: &Wish) -> (String, String) {
    let Wish::Message(bytes) = wish else { panic!("{wish:?}") };
    let Some((session, rtcd_message::FromServer::Sdp(json))) = rtcd_message::decode(bytes) else {
        panic!("{wish:?}")
    };
    assert_eq!(session, "sess");
    let json: Value = serde_json::from_slice(&json).unwrap();
    (json["type"].as_str().unwrap().to_owned(), json["sdp"].as_str().unwrap().to_owned())
}

const RTCD: &str = "rtcd=http://127.0.0.1:8045";

/// A client of rtcd's API whose channel is open.
fn joined(sources: &[Source]) -> Conversation {
    let (mut client, _) = begin(RTCD, sources);
    client.handle(at(0), description("answer", &described("active", &[DATA])));
    let nested = json!({ "type": "candidate", "candidate": { "candidate": CANDIDATE } });
    client.handle(at(0), rtc(RtcType::Ice, &nested));
    client.handle(at(0), Heard::Connected);
    client.handle(at(0), Heard::ChannelOpen);
    client
}

#[test]
fn rtcd_join_goes_from_the_first_offer_to_the_open_channel() {
    let (mut client, first) = begin(RTCD, &[]);
    let [Wish::Message(join), offer, Wish::OpenChannel("calls-dc")] = &first[..] else {
        panic!("{first:?}")
    };
    assert_eq!(*join, rtcd_message::join("call", "sess", "sess", "call"));
    let (kind, sdp) = said(offer);
    assert_eq!(kind, "offer");
    assert!(sdp.contains("m=application") && !sdp.contains("m=audio"), "{sdp}");

    // A candidate may come before the answer, in either form.
    client.handle(at(0), rtc(RtcType::Ice, &json!({ "candidate": CANDIDATE })));
    assert!(wishes(&mut client).is_empty());
    client.handle(at(0), description("answer", &described("active", &[DATA])));
    let connect = wishes(&mut client);
    let [Wish::Connect(remote)] = &connect[..] else { panic!("{connect:?}") };
    assert_eq!(remote.dtls_role, DtlsRole::Passive, "the server is active, as rtcd");
    assert_eq!(remote.addresses, ["127.0.0.1:8443".parse().unwrap()]);
    assert_eq!(remote.credentials.ufrag, "theirs");

    client.handle(at(0), Heard::ChannelOpen);
    assert!(matches!(wishes(&mut client)[..], [Wish::Ready]));
}

#[test]
fn pings_come_at_the_interval_that_was_set() {
    let mut client = joined(&[]);
    wishes(&mut client);
    assert_eq!(client.next_deadline(), Some(at(1_000)));
    client.handle_timeout(at(1_000));
    let pings = wishes(&mut client);
    assert!(matches!(&pings[..], [Wish::Channel(bytes)] if bytes == &[1]), "{pings:?}");
    client.set_ping_interval(at(1_000), Duration::ZERO);
    assert_eq!(client.next_deadline(), None);
}

#[test]
fn rtcd_publication_holds_the_lock_from_its_offer_to_the_answer() {
    let mut client = joined(&[Source::Audio, Source::Screen]);
    let begun = wishes(&mut client);
    assert!(matches!(begun.last(), Some(Wish::Channel(lock)) if lock == &[7]), "{begun:?}");
    // Refused, asked for again, granted: in the forms of Go.
    client.handle(at(10), Heard::Channel(vec![0xcc, 7, 0xc2]));
    assert_eq!(client.next_deadline(), Some(at(110)));
    client.handle_timeout(at(110));
    assert!(matches!(&wishes(&mut client)[..], [Wish::Channel(lock)] if lock == &[7]));
    client.handle(at(120), Heard::Channel(vec![0xcc, 7, 0xc3]));
    let offered = wishes(&mut client);
    let [Wish::Message(screen_on), offer] = &offered[..] else { panic!("{offered:?}") };
    let stream = json!({ "screenStreamID": "sess-screen" }).to_string();
    assert_eq!(*screen_on, rtcd_message::rtc("sess", RtcType::ScreenOn, stream.as_bytes()));
    let (_, sdp) = said(offer);
    assert!(sdp.contains("a=msid:sess-screen ") && sdp.contains("m=audio 9"), "{sdp}");

    let answer = described("active", &[DATA, TAKES_AUDIO, TAKES_VIDEO]);
    client.handle(at(130), description("answer", &answer));
    let done = wishes(&mut client);
    let [
        Wish::Send(audio),
        Wish::Send(screen),
        Wish::Channel(unlock),
        Wish::Message(unmute),
        Wish::Ready,
    ] = &done[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((audio.source, audio.payload_type), (Source::Audio, PayloadType(111)));
    assert_eq!(audio.extensions.audio_level, Some(1));
    assert_eq!(audio.extensions.transport_cc, None, "the answer leaves it out");
    assert_eq!((screen.source, screen.mid.as_str()), (Source::Screen, "2"));
    assert_eq!(unlock, &[8]);
    assert_eq!(*unmute, rtcd_message::rtc("sess", RtcType::Unmute, &[]));

    client.set_muted(at(140), true);
    let muted = wishes(&mut client);
    let mute = rtcd_message::rtc("sess", RtcType::Mute, &[]);
    assert!(matches!(&muted[..], [Wish::Message(said)] if *said == mute), "{muted:?}");
}

#[test]
fn an_offer_of_the_server_goes_before_ours_which_is_made_again_behind_it() {
    let mut client = joined(&[Source::Audio]);
    client.handle(at(0), Heard::Channel(vec![7, 0xc3]));
    wishes(&mut client);
    // The server puts its section where ours would have been.
    let theirs = described("actpass", &[DATA, SENDS_VIDEO]);
    client.handle(at(10), description("offer", &theirs));
    let answered = wishes(&mut client);
    let Some(Wish::Receive(format)) = answered.iter().find(|w| matches!(w, Wish::Receive(_)))
    else {
        panic!("{answered:?}")
    };
    let wanted = ReceiveFormat {
        payload_type: PayloadType(120),
        is_video: true,
        transport_cc: Some(9),
        nack: true,
    };
    assert_eq!(*format, wanted);
    let answer = answered.iter().find(|w| matches!(w, Wish::Message(_))).unwrap();
    let (kind, sdp) = said(answer);
    assert_eq!(kind, "answer");
    assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 120\r\n"), "{sdp}");
    assert!(sdp.contains("a=recvonly\r\n") && sdp.contains("a=setup:passive\r\n"), "{sdp}");
    assert!(!sdp.contains("m=audio"), "{sdp}");

    assert_eq!(client.next_deadline(), Some(at(110)));
    client.handle_timeout(at(110));
    let (_, again) = said(&wishes(&mut client)[0]);
    let mids: Vec<&str> = again.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
    assert_eq!(mids, ["0", "7", "8"], "{again}");
}

#[test]
fn an_offer_without_an_answer_is_repeated_and_then_given_up() {
    let mut client = joined(&[Source::Audio]);
    client.set_ping_interval(at(0), Duration::ZERO);
    client.handle(at(0), Heard::Channel(vec![7, 0xc3]));
    wishes(&mut client);
    for repetition in 1..4 {
        assert_eq!(client.next_deadline(), Some(at(5_000 * repetition)));
        client.handle_timeout(at(5_000 * repetition));
        let (_, sdp) = said(&wishes(&mut client)[0]);
        assert!(sdp.contains("a=mid:1\r\n") && !sdp.contains("a=mid:2"), "{sdp}");
    }
    client.handle_timeout(at(20_000));
    assert!(matches!(&wishes(&mut client)[..], [Wish::Fail(why)] if why.contains("4 offers")));
    assert_eq!(client.next_deadline(), None);
}

#[test]
fn a_lock_that_is_never_granted_is_given_up() {
    let mut client = joined(&[Source::Audio]);
    client.set_ping_interval(at(0), Duration::ZERO);
    wishes(&mut client);
    client.handle_timeout(at(5_000));
    assert!(matches!(&wishes(&mut client)[..], [Wish::Fail(why)] if why.contains("lock")));
}

#[test]
fn an_offer_over_the_channel_is_answered_over_the_channel() {
    let mut client = joined(&[]);
    wishes(&mut client);
    let offer = json!({ "type": "offer", "sdp": described("actpass", &[DATA, SENDS_VIDEO]) });
    let offer = rtcd_channel::sdp(offer.to_string().as_bytes());
    client.handle(at(10), Heard::Channel(offer));
    let answered = wishes(&mut client);
    let answer = answered.iter().find_map(|wish| match wish {
        Wish::Channel(bytes) => rtcd_channel::decode(bytes),
        _ => None,
    });
    let Some(rtcd_channel::FromServer::Sdp(json)) = answer else { panic!("{answered:?}") };
    assert!(String::from_utf8(json).unwrap().starts_with(r#"{"type":"answer""#));
}

#[test]
fn sections_that_we_cannot_use_are_rejected_and_may_be_used_again() {
    let mut client = joined(&[]);
    wishes(&mut client);
    let av1 = "video 9 UDP/TLS/RTP/SAVPF 45\r\na=mid:7\r\na=sendonly\r\na=rtpmap:45 AV1/90000";
    let gone = "audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:8\r\na=inactive";
    client.handle(at(0), description("offer", &described("actpass", &[DATA, av1, gone])));
    let (_, sdp) = said(&wishes(&mut client)[0]);
    assert!(sdp.contains("m=video 0 UDP/TLS/RTP/SAVPF 45\r\n"), "{sdp}");
    assert!(sdp.contains("m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n"), "{sdp}");
    assert!(sdp.contains("a=group:BUNDLE 0\r\n"), "{sdp}");
    client.handle(at(0), description("offer", &described("actpass", &[DATA, SENDS_VIDEO, gone])));
    let wished = wishes(&mut client);
    assert!(wished.iter().any(|wish| matches!(wish, Wish::Receive(_))), "{wished:?}");
    // Sections never vanish.
    client.handle(at(0), description("offer", &described("actpass", &[DATA])));
    assert!(matches!(&wishes(&mut client)[..], [Wish::Fail(why)] if why.contains("leaves out")));
}

#[test]
fn what_ends_a_session_fails_unless_the_client_has_left() {
    let close = || {
        let mut bytes = rtcd_message::leave("sess");
        bytes.splice(..6, *b"\xa5close");
        Heard::Message(bytes)
    };
    let mut client = joined(&[]);
    wishes(&mut client);
    client.handle(at(0), close());
    assert!(matches!(&wishes(&mut client)[..], [Wish::Fail(why)] if why.contains("closed")));

    let mut client = joined(&[]);
    wishes(&mut client);
    client.leave(at(0));
    let left = wishes(&mut client);
    let leave = rtcd_message::leave("sess");
    assert!(matches!(&left[..], [Wish::Message(said)] if *said == leave), "{left:?}");
    client.handle(at(0), close());
    assert!(wishes(&mut client).is_empty());
    assert_eq!(client.next_deadline(), None);
}

fn answer(status: u16, location: Option<&str>, body: impl Into<String>) -> Heard {
    let location = location.map(str::to_owned);
    Heard::Response(Ok(Response { status, location, body: body.into() }))
}

fn request(wishes: &[Wish]) -> &Request {
    let [Wish::Request(request)] = wishes else { panic!("{wishes:?}") };
    request
}

const CANDIDATE_LINE: &str = "a=candidate:1 1 udp 2130706431 127.0.0.1 8443 typ host\r\n";

#[test]
fn whip_is_one_request_and_its_end_another() {
    let (mut client, first) = begin("whip=http://127.0.0.1:1", &[Source::Screen]);
    let asked = request(&first);
    assert_eq!((asked.method, asked.path.as_str()), ("POST", "/whip/call"));
    assert_eq!(asked.content_type, "application/sdp");
    let takes = TAKES_VIDEO.replace("a=mid:2", "a=mid:0");
    let sdp = described("passive", &[&takes]) + CANDIDATE_LINE;
    client.handle(at(0), answer(201, Some("/whip/call/1"), sdp));
    let joined = wishes(&mut client);
    let [Wish::Connect(remote), Wish::Send(_), Wish::Ready] = &joined[..] else {
        panic!("{joined:?}")
    };
    assert_eq!(remote.dtls_role, DtlsRole::Active);
    client.leave(at(0));
    let left = wishes(&mut client);
    assert_eq!((request(&left).method, request(&left).path.as_str()), ("DELETE", "/whip/call/1"));
    client.handle(at(0), answer(404, None, ""));
    assert!(wishes(&mut client).is_empty(), "how DELETE is answered is nobody's concern");
}

#[test]
fn who_leaves_before_the_answer_ends_the_session_when_it_comes() {
    let (mut client, _) = begin("whip=http://127.0.0.1:1", &[Source::Screen]);
    client.leave(at(0));
    assert!(wishes(&mut client).is_empty());
    client.handle(at(0), answer(201, Some("/r/1"), ""));
    assert_eq!(request(&wishes(&mut client)).path, "/r/1");

    let (mut client, _) = begin("sluice=http://127.0.0.1:1", &[]);
    client.leave(at(0));
    client.handle(
        at(0),
        answer(201, None, json!({"session": {"id": "1"}, "ws_url": "/w"}).to_string()),
    );
    assert_eq!(request(&wishes(&mut client)).path, "/v1/calls/call/sessions/1");
}

#[test]
fn a_player_asks_again_until_something_is_published() {
    let (mut client, first) = begin("whip=http://127.0.0.1:1", &[]);
    let body = request(&first).body.clone();
    assert_eq!(request(&first).path, "/whep/call");
    assert_eq!(body.matches("a=recvonly\r\n").count(), 2, "{body}");
    client.handle(at(100), answer(409, None, ""));
    assert_eq!(client.next_deadline(), Some(at(600)));
    client.handle_timeout(at(600));
    assert_eq!(request(&wishes(&mut client)).body, body);
    client.handle(at(19_600), answer(409, None, json!({"detail": "no tracks"}).to_string()));
    let failed = wishes(&mut client);
    let [Wish::Fail(why)] = &failed[..] else { panic!("{failed:?}") };
    assert!(why.contains("409") && why.contains("no tracks") && why.contains("20 s"), "{why}");
}

#[test]
fn answers_that_cannot_be_used_say_why() {
    let video = TAKES_VIDEO.replace("a=mid:2", "a=mid:0");
    let whole = described("passive", &[&video]) + CANDIDATE_LINE;
    for (body, wanted) in [
        (String::new(), "v=0"),
        (described("passive", &[&video]), "no UDP address"),
        (described("passive", &[&video, &video]) + CANDIDATE_LINE, "2 m= sections"),
        (whole.replace("a=setup:passive", "a=setup:holdconn"), "holdconn"),
        (whole.replace("m=video 9", "m=video 0"), "does not take the video"),
        (whole.replace("a=recvonly", "a=inactive"), "does not take the video"),
        (whole.replace("VP8/90000", "H264/90000"), "not VP8/90000"),
    ] {
        let (mut client, _) = begin("whip=http://127.0.0.1:1", &[Source::Screen]);
        client.handle(at(0), answer(201, Some("/r"), body));
        let failed = wishes(&mut client);
        let Some(Wish::Fail(why)) = failed.last() else { panic!("{wanted}: {failed:?}") };
        assert!(why.contains(wanted), "{why}");
        client.leave(at(0));
        assert_eq!(
            request(&wishes(&mut client)).method,
            "DELETE",
            "the session is ended all the same"
        );
    }
}

const NATIVE: &str = "sluice=http://127.0.0.1:1";

#[test]
fn a_native_session_makes_its_call_when_it_is_missing() {
    let (mut client, first) = begin(NATIVE, &[Source::Audio]);
    let asked = request(&first).clone();
    assert_eq!(asked.path, "/v1/calls/call/sessions");
    client.handle(at(0), answer(404, None, ""));
    let made = wishes(&mut client);
    assert_eq!(request(&made).path, "/v1/calls");
    assert_eq!(serde_json::from_str::<Value>(&request(&made).body).unwrap()["id"], "call");
    // Somebody else was first.
    client.handle(at(0), answer(409, None, ""));
    assert_eq!(*request(&wishes(&mut client)), asked);
    let takes = TAKES_AUDIO.replace("a=mid:1", "a=mid:0");
    let sdp = described("passive", &[&takes]) + CANDIDATE_LINE;
    let created = json!({
        "session": { "id": "s1", "call": "call" }, "answer": { "type": "answer", "sdp": sdp },
        "ws_url": "/ws?ticket=1",
    });
    client.handle(at(0), answer(201, None, created.to_string()));
    let begun = wishes(&mut client);
    let [Wish::Connect(_), Wish::Send(_), Wish::OpenSocket(path)] = &begun[..] else {
        panic!("{begun:?}")
    };
    assert_eq!(path, "/ws?ticket=1");
    client.handle(at(0), Heard::SocketOpen);
    assert!(matches!(wishes(&mut client)[..], [Wish::Ready]));
    client.leave(at(0));
    assert_eq!(request(&wishes(&mut client)).path, "/v1/calls/call/sessions/s1");
}

#[test]
fn a_native_receiver_answers_each_offer_once() {
    let (mut client, first) = begin(NATIVE, &[]);
    let body: Value = serde_json::from_str(&request(&first).body).unwrap();
    assert!(body.get("offer").is_none() && body["subscribe"] == "all", "{body}");
    let sends = SENDS_VIDEO.replace("a=mid:7", "a=mid:0");
    let sdp = described("actpass", &[&sends]) + CANDIDATE_LINE;
    let created = json!({
        "session": { "id": "s1" }, "offer": { "type": "offer", "sdp": sdp }, "offer_id": 1,
        "ws_url": "/ws",
    });
    client.handle(at(0), answer(201, None, created.to_string()));
    assert!(matches!(&wishes(&mut client)[..], [Wish::OpenSocket(_)]));
    client.handle(at(0), Heard::SocketOpen);
    let answered = wishes(&mut client);
    let [Wish::Text(text), Wish::Connect(remote), Wish::Receive(_), Wish::Ready] = &answered[..]
    else {
        panic!("{answered:?}")
    };
    assert_eq!(remote.dtls_role, DtlsRole::Active);
    let text: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&text["type"], &text["offer_id"]), (&json!("answer"), &json!(1)));
    // The WebSocket repeats it.
    let offer = |id| json!({ "type": "offer", "offer_id": id, "sdp": sdp }).to_string();
    client.handle(at(0), Heard::Text(offer(1)));
    client.handle(at(0), Heard::Text(json!({ "type": "welcome", "tracks": [] }).to_string()));
    assert!(wishes(&mut client).is_empty());
    client.handle(at(0), Heard::Text(offer(2)));
    assert!(matches!(&wishes(&mut client)[..], [Wish::Text(_)]));
}

#[test]
fn refusals_of_the_native_api_are_told() {
    for (status, body) in [(429, r#"{"detail":"64 sessions"}"#), (500, "it broke")] {
        let (mut client, _) = begin(NATIVE, &[]);
        client.handle(at(0), answer(status, None, body));
        let failed = wishes(&mut client);
        let [Wish::Fail(why)] = &failed[..] else { panic!("{failed:?}") };
        let detail = if status == 429 { "64 sessions" } else { "it broke" };
        assert!(why.contains(detail) && !why.contains('{'), "{why}");
    }
    let (mut client, _) = begin(NATIVE, &[]);
    for _ in 0..5 {
        client.handle(at(0), answer(404, None, ""));
        client.handle(at(0), answer(201, None, ""));
    }
    client.handle(at(0), answer(404, None, ""));
    assert!(matches!(wishes(&mut client).last(), Some(Wish::Fail(_))));
    for text in [
        r#"{"type":"closed","reason":"deleted"}"#,
        r#"{"type":"error","problem":{"detail":"deleted"}}"#,
        "deleted",
    ] {
        let (mut client, _) = begin(NATIVE, &[]);
        wishes(&mut client);
        client.handle(at(0), Heard::Text(text.to_owned()));
        assert!(matches!(&wishes(&mut client)[..], [Wish::Fail(_)]), "{text}");
    }
}
