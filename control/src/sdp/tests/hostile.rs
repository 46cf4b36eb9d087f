//! Text that nobody should send. Nothing here may panic, and refusals say where and what.

use super::super::{SDP_BYTES_MAX, SDP_LINES_MAX};
use super::*;

/// Everything at once: an offer in each kind of session, an answer, a fragment.
fn feed(text: &str) {
    for policy in [Policy::NATIVE, Policy::WHIP, Policy::WHEP, Policy::RTCD] {
        let mut session = negotiator(policy);
        session.add_track(video_track(1));
        session.add_track(audio_track(2));
        if let Ok(negotiated) = session.handle_offer(text) {
            check_ours(&negotiated.answer);
        }
        if let Some(offer) = session.make_offer() {
            check_ours(&offer);
        }
        let _ = session.handle_answer(text);
    }
    let _ = super::super::parse_fragment(text);
    let _ = super::super::parse_candidate(text);
}

#[test]
fn no_cut_of_a_description_panics() {
    for fixture in ALL_FIXTURES {
        for end in 0..fixture.len() {
            // Every cut in one kind of session; those at line ends, where more of them parse, in all.
            match fixture.as_bytes()[end] {
                b'\n' => feed(&fixture[..end]),
                _ => drop(negotiator(Policy::NATIVE).handle_offer(&fixture[..end])),
            }
        }
    }
}

#[test]
fn no_changed_byte_panics() {
    let mut chance = Chance(0x5EED);
    for fixture in ALL_FIXTURES {
        for _ in 0..150 {
            let mut bytes = fixture.as_bytes().to_vec();
            for _ in 0..1 + chance.below(4) {
                let at = chance.below(bytes.len());
                let interesting = b"0129-:/ \r\n\0=;am";
                bytes[at] = match chance.below(2) {
                    0 => interesting[chance.below(interesting.len())],
                    _ => chance.below(128) as u8,
                };
            }
            feed(std::str::from_utf8(&bytes).expect("ASCII stays ASCII"));
        }
    }
}

#[test]
fn no_shuffled_lines_panic() {
    let mut chance = Chance(0xC0FFEE);
    for fixture in ALL_FIXTURES {
        for _ in 0..40 {
            let mut lines: Vec<&str> = fixture.split_inclusive('\n').collect();
            for _ in 0..1 + chance.below(6) {
                let (a, b) = (chance.below(lines.len()), chance.below(lines.len()));
                match chance.below(3) {
                    0 => lines.swap(a, b),
                    1 => drop(lines.remove(a)),
                    _ => lines.insert(a, lines[b]),
                }
            }
            feed(&lines.concat());
        }
    }
}

#[test]
fn refusals_say_where_and_what() {
    let cases = [
        ("m=audio 9 ", "m=audio 4294967296 ", "port"),
        ("a=fmtp:111 minptime", "a=fmtp:111 \0minptime", "grammar"),
        ("a=mid:1", "a=mid:0", "same a=mid"),
        ("a=mid:1\r\n", "", "a=mid is missing"),
        ("a=mid:1", "a=mid:12345678901234567", "1 to 16"),
        ("SAVPF 111", "SAVPF 111 111", "twice in m="),
        ("SAVPF 111", "SAVPF 111 128", "0 to 127"),
        (
            "a=rtpmap:96 H264/90000",
            "a=rtpmap:96 H264/90000\r\na=rtpmap:96 VP8/90000",
            "two a=rtpmap",
        ),
        ("a=rtpmap:96 H264/90000", "a=rtpmap:96", "a=rtpmap must be"),
        ("a=rtcp-mux\r\na=rtpmap:111", "a=rtpmap:111", "a=rtcp-mux is missing"),
        ("a=group:BUNDLE 0 1\r\n", "", "BUNDLE"),
        ("UDP/TLS/RTP/SAVPF 111", "RTP/AVP 111", "DTLS-SRTP"),
        ("a=ice-ufrag:jBua\r\n", "", "a=ice-pwd without a=ice-ufrag"),
        ("a=ice-ufrag:jBua", "a=ice-ufrag:jB", "4 to 256"),
        ("a=ice-pwd:NFSx9uNoAVFXAuFELiYTDg", "a=ice-pwd:short", "22 to 256"),
        ("a=setup:actpass\r\n", "", "a=setup is missing"),
        ("a=setup:actpass", "a=setup:holdconn", "actpass, active or passive"),
        ("a=fingerprint:sha-256 75", "a=fingerprint:sha-256 7", "RFC 8122"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "sha-256, sha-384 or sha-512"),
        ("a=ssrc:2487709419 cname", "a=ssrc:2487709418 cname", "SSRC 2487709418"),
        ("a=ssrc:2487709419 cname", "a=ssrc:99999999999 cname", "32 bits"),
        ("a=rtcp-mux\r\na=rtpmap:111", "a=rtcp-mux\r\na=extmap:0 urn:x\r\na=rtpmap:111", "id 0"),
        (
            "a=rtcp-mux\r\na=rtpmap:111",
            "a=rtcp-mux\r\na=extmap:1 urn:x\r\na=extmap:1 urn:y\r\na=rtpmap:111",
            "id 1 twice",
        ),
        (
            "a=rtcp-mux\r\na=rtpmap:111",
            "a=rtcp-mux\r\na=candidate:1 1 udp\r\na=rtpmap:111",
            "a=candidate",
        ),
        ("v=0", "v=1", "grammar"),
    ];
    for (from, to, word) in cases {
        assert!(ENCODER.contains(from), "{from}");
        let mut session = negotiator(Policy::NATIVE);
        let sentence = refusal(session.handle_offer(&ENCODER.replacen(from, to, 1)));
        assert!(sentence.contains(word), "{to}: {sentence}");
        // A refusal leaves nothing behind.
        let negotiated = session.handle_offer(ENCODER).unwrap();
        assert!(negotiated.answer.contains(" 1 IN IP4"), "{to}");
        assert_eq!(outcome(negotiated.changes).published.len(), 2, "{to}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{ENCODER}a=x:{}\r\n", "y".repeat(SDP_BYTES_MAX));
    assert!(refusal(negotiator(Policy::NATIVE).handle_offer(&long)).contains("524288"));
    let lines = format!("{ENCODER}{}", "a=x\n".repeat(SDP_LINES_MAX));
    assert!(refusal(negotiator(Policy::NATIVE).handle_offer(&lines)).contains("lines"));
    let many = format!("{ENCODER}{}", "m=audio 0 X 0\r\n".repeat(300));
    assert!(refusal(negotiator(Policy::NATIVE).handle_offer(&many)).contains("256"));
    let ssrcs: String = (1..100).map(|n| format!("a=ssrc:{n} cname:x\r\n")).collect();
    let sentence = refusal(negotiator(Policy::NATIVE).handle_offer(&format!("{ENCODER}{ssrcs}")));
    assert!(sentence.contains("64 SSRCs"), "{sentence}");
    let candidates = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(300);
    let sentence =
        refusal(negotiator(Policy::NATIVE).handle_offer(&format!("{ENCODER}{candidates}")));
    assert!(sentence.contains("256 candidates"), "{sentence}");
    assert!(refusal(negotiator(Policy::NATIVE).handle_offer("")).contains("grammar"));
    let empty = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    assert!(refusal(negotiator(Policy::NATIVE).handle_offer(empty)).contains("no m= section"));
}

#[test]
fn what_one_client_writes_does_not_reach_the_others() {
    let evil = ENCODER
        .replace("obs obs-video", "obs \"><b>x")
        .replace("minptime=10", "x-evil=1;minptime=10");
    let outcome = outcome(negotiator(Policy::WHIP).handle_offer(&evil).unwrap().changes);
    let track = &outcome.published[1].1;
    assert_eq!(track.label, "1");
    assert!(outcome.published[0].1.codecs[0].fmtp.iter().all(|(key, _)| key != "x-evil"));
}

#[test]
fn later_descriptions_may_not_lose_or_swap_sections() {
    let mut session = negotiator(Policy::NATIVE);
    session.handle_offer(ENCODER).unwrap();
    let end = ENCODER.find("m=video").unwrap();
    let sentence = refusal(session.handle_offer(&ENCODER[..end]));
    assert!(sentence.contains("never taken out"), "{sentence}");
    let swapped = ENCODER.replace("a=mid:1", "a=mid:9").replace("BUNDLE 0 1", "BUNDLE 0 9");
    let sentence = refusal(session.handle_offer(&swapped));
    assert!(sentence.contains("a=mid:1 was agreed"), "{sentence}");
}
