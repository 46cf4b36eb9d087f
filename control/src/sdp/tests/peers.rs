//! Offers of real peers, answered line by line.

use sluice_engine::dtls::DtlsRole;
use sluice_engine::ids::{PayloadType, Ssrc, TrackId};
use sluice_engine::session::params::MediaKind;
use sluice_engine::wire::rtp_ext::Extension;

use super::*;

#[test]
fn chrome_publishing_gets_a_recvonly_answer_in_its_own_numbers() {
    let mut session = negotiator(Policy::WHIP);
    let negotiated = session.handle_offer(CHROME_SENDRECV).unwrap();
    check_ours(&negotiated.answer);
    let sections = sections(&negotiated.answer);
    assert_eq!(sections.len(), 3);
    assert!(sections[0][1].starts_with("o=- ") && sections[0][1].ends_with(" 1 IN IP4 127.0.0.1"));
    assert_eq!(
        sections[0][2..],
        [
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0 1",
            "a=extmap-allow-mixed",
            "a=msid-semantic: WMS *",
            "a=ice-lite",
        ]
    );
    assert_eq!(
        sections[1],
        [
            "m=audio 8443 UDP/TLS/RTP/SAVPF 111 9 0 8",
            "c=IN IP4 192.0.2.10",
            "a=mid:0",
            "a=ice-ufrag:first",
            "a=ice-pwd:firstppppppppppppppppppp",
            "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
             10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
            "a=setup:passive",
            "a=recvonly",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=rtpmap:111 opus/48000/2",
            "a=rtcp-fb:111 transport-cc",
            "a=fmtp:111 minptime=10;useinbandfec=1",
            "a=rtpmap:9 G722/8000",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=candidate:1 1 udp 2130706431 192.0.2.10 8443 typ host",
            "a=candidate:2 1 udp 2130706175 2001:db8::10 8443 typ host",
            "a=candidate:3 1 tcp 1520435199 192.0.2.10 8443 typ host tcptype passive",
            "a=end-of-candidates",
        ]
    );
    // RED, ULPFEC and their rtx are gone, everything else keeps its place.
    assert_eq!(
        sections[2][0],
        "m=video 8443 UDP/TLS/RTP/SAVPF 96 97 102 103 104 107 108 109 114 115 116 117 39 40 45 46 98 99 100 101"
    );
    let feedback: Vec<&str> =
        attribute(&sections[2], "rtcp-fb").into_iter().filter(|v| v.starts_with("96 ")).collect();
    assert_eq!(feedback, ["96 transport-cc", "96 ccm fir", "96 nack", "96 nack pli"]);
    assert!(attribute(&sections[2], "fmtp").contains(&"97 apt=96"));
    assert!(attribute(&sections[2], "extmap").contains(&"13 urn:3gpp:video-orientation"));
    assert!(!negotiated.answer.contains("toffset") && !negotiated.answer.contains("goog-remb"));
}

#[test]
fn chrome_publishing_becomes_engine_parameters() {
    let mut session = negotiator(Policy::WHIP);
    let outcome = outcome(session.handle_offer(CHROME_SENDRECV).unwrap().changes);
    let [remote] = outcome.remotes.as_slice() else { panic!("one SetRemote") };
    assert_eq!(remote.ice.ufrag, "WgCi");
    assert_eq!(remote.dtls_role, DtlsRole::Passive);
    assert_eq!(remote.fingerprints[0].value[..4], [0xA4, 0xE7, 0xC3, 0x18]);

    let [(audio, _), (video, track)] = outcome.published.as_slice() else { panic!("two tracks") };
    assert_eq!((audio.mid.as_str(), audio.kind), ("0", MediaKind::Audio));
    assert_eq!(audio.ssrcs, [Ssrc(2908921600)]);
    assert_eq!(audio.extensions.id(Extension::AudioLevel), Some(1));
    assert_eq!(audio.extensions.id(Extension::Mid), Some(4));
    assert_eq!(video.ssrcs, [Ssrc(3225905507)]);
    assert_eq!(video.rtx_ssrcs, [Ssrc(1357612592)]);
    let vp8 = video.codecs[0];
    assert_eq!((vp8.payload_type, vp8.rtx), (PayloadType(96), Some(PayloadType(97))));
    assert!(vp8.nack && vp8.pli && vp8.transport_cc && vp8.clock_rate_hz == 90_000);
    assert_eq!(track.stream, "alice");
    assert_eq!(track.label, "3faec2a2-a61e-4417-95d3-6a83d3b7ad38");
    assert_eq!(track.codecs.len(), video.codecs.len());
    assert_eq!(session.published(), [(audio.track, audio.mid), (video.track, video.mid)]);
}

#[test]
fn every_publisher_is_answered() {
    for offer in [CHROME_SENDRECV, CHROME_SENDONLY, CHROME_FIRST, AIORTC_PUBLISH, FIREFOX, ENCODER]
    {
        for policy in [Policy::WHIP, Policy::NATIVE] {
            let negotiated = negotiator(policy).handle_offer(offer).unwrap();
            check_ours(&negotiated.answer);
            let sections = sections(&negotiated.answer);
            assert!(
                sections[1..].iter().all(|s| s.contains(&"a=recvonly")),
                "{}",
                negotiated.answer
            );
            assert!(sections[1..].iter().all(|s| s.contains(&"a=setup:passive")));
            assert_eq!(outcome(negotiated.changes).published.len(), 2);
        }
    }
}

#[test]
fn simulcast_and_its_rids_are_declined_but_the_section_is_not() {
    let negotiated = negotiator(Policy::WHIP).handle_offer(CHROME_SIMULCAST).unwrap();
    assert!(!negotiated.answer.contains("a=simulcast") && !negotiated.answer.contains("a=rid"));
    let outcome = outcome(negotiated.changes);
    assert_eq!(outcome.published.len(), 1);
    assert!(outcome.published[0].0.ssrcs.is_empty());
}

#[test]
fn firefox_keeps_its_payload_types_and_bundle_only_sections_live() {
    let negotiated = negotiator(Policy::NATIVE).handle_offer(FIREFOX).unwrap();
    let sections = sections(&negotiated.answer);
    assert_eq!(sections[2][0], "m=video 8443 UDP/TLS/RTP/SAVPF 120 124 121 125 126 127 97 98");
    assert!(!negotiated.answer.contains("bundle-only"));
    // One-way extensions are declined, and so is what was not offered at all.
    assert!(!negotiated.answer.contains("playout-delay"));
    assert!(!negotiated.answer.contains("extmap-allow-mixed"));
    assert!(
        attribute(&sections[1], "fmtp")
            .contains(&"109 maxplaybackrate=48000;stereo=1;useinbandfec=1")
    );
    let outcome = outcome(negotiated.changes);
    assert_eq!(outcome.published[1].0.rtx_ssrcs, [Ssrc(3310927845)]);
}

#[test]
fn an_encoder_that_says_everything_at_session_level_is_understood() {
    let negotiated = negotiator(Policy::WHIP).handle_offer(ENCODER).unwrap();
    let sections = sections(&negotiated.answer);
    assert_eq!(sections[2][0], "m=video 8443 UDP/TLS/RTP/SAVPF 96");
    assert!(!sections[2].contains(&"a=rtcp-rsize"));
    let outcome = outcome(negotiated.changes);
    assert_eq!(outcome.remotes[0].ice.ufrag, "jBua");
    assert_eq!(outcome.published[1].1.label, "obs-video");
    assert_eq!(outcome.published[1].0.codecs[0].rtx, None);
}

#[test]
fn a_player_is_given_all_tracks_there_and_then() {
    for offer in [CHROME_RECVONLY, AIORTC_PLAY, CHROME_SENDRECV] {
        let mut session = negotiator(Policy::WHEP);
        session.add_track(video_track(1));
        session.add_track(audio_track(2));
        session.add_track(audio_track(3));
        let negotiated = session.handle_offer(offer).unwrap();
        check_ours(&negotiated.answer);
        let sections = sections(&negotiated.answer);
        assert!(sections[1..].iter().all(|s| s.contains(&"a=sendonly")), "{}", negotiated.answer);
        assert!(!negotiated.answer.contains("transport-"), "{}", negotiated.answer);
        assert!(!negotiated.answer.contains("abs-send-time"));
        let outcome = outcome(negotiated.changes);
        assert!(outcome.published.is_empty());
        let tracks: Vec<TrackId> = outcome.legs.iter().map(|leg| leg.track).collect();
        // The third finds no section, and a player cannot be offered one.
        assert_eq!(tracks, [TrackId(2), TrackId(1)]);
        assert!(!session.needs_offer() && session.make_offer().is_none());
        for (leg, section) in outcome.legs.iter().zip(&sections[1..]) {
            let stream = format!("session-{}", leg.track);
            let names = [format!("{} cname:{stream}", leg.ssrc)];
            assert!(attribute(section, "ssrc").contains(&names[0].as_str()));
            assert_eq!(attribute(section, "msid"), [format!("{stream} track-{}", leg.track)]);
            assert!(leg.extensions.id(Extension::Mid).is_some());
        }
    }
}

#[test]
fn a_player_is_told_only_the_codecs_of_the_track() {
    let mut session = negotiator(Policy::WHEP);
    session.add_track(video_track(1));
    let negotiated = session.handle_offer(CHROME_RECVONLY).unwrap();
    let sections = sections(&negotiated.answer);
    assert_eq!(sections[2][0], "m=video 8443 UDP/TLS/RTP/SAVPF 96 97 108 109");
    assert!(sections[1].contains(&"a=inactive"));
    let outcome = outcome(negotiated.changes);
    let maps: Vec<(u8, u8, Option<u8>)> = outcome.legs[0]
        .payload_types
        .iter()
        .map(|map| (map.from.0, map.to.0, map.rtx.map(|p| p.0)))
        .collect();
    assert_eq!(maps, [(120, 96, Some(97)), (126, 108, Some(109))]);
    let group = attribute(&sections[2], "ssrc-group");
    let rtx = outcome.legs[0].rtx_ssrc.unwrap();
    assert_eq!(group, [format!("FID {} {rtx}", outcome.legs[0].ssrc)]);
}

#[test]
fn data_channels_are_rejected_without_failing_the_offer() {
    let mut session = negotiator(Policy::NATIVE);
    let negotiated = session.handle_offer(CHROME_DATA).unwrap();
    check_ours(&negotiated.answer);
    let all = sections(&negotiated.answer);
    assert_eq!(
        all[1],
        [
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=mid:0",
            "a=inactive"
        ]
    );
    assert!(!negotiated.answer.contains("BUNDLE"));
    assert!(negotiated.changes.is_empty());
    // Our own media does not take the place of the data channel.
    session.add_track(audio_track(1));
    let offer = session.make_offer().unwrap();
    check_ours(&offer);
    assert!(sections(&offer)[1][0].starts_with("m=application 0"));
    assert_eq!(attribute(&sections(&offer)[0], "group"), ["BUNDLE s0"]);
}

#[test]
fn a_stopped_section_ends_its_track_and_may_be_reused() {
    let mut session = negotiator(Policy::NATIVE);
    let first = outcome(session.handle_offer(CHROME_FIRST).unwrap().changes);
    let (audio, video) = (first.published[0].0.track, first.published[1].0.track);

    let stopped = session.handle_offer(CHROME_STOPPED).unwrap();
    check_ours(&stopped.answer);
    assert!(sections(&stopped.answer)[2][0].starts_with("m=video 0 "));
    assert_eq!(attribute(&sections(&stopped.answer)[0], "group"), ["BUNDLE 0"]);
    let second = outcome(stopped.changes);
    assert_eq!(second.unpublished, [video]);
    assert!(second.published.is_empty() && second.remotes.is_empty());

    let reused = session.handle_offer(CHROME_REUSED).unwrap();
    check_ours(&reused.answer);
    assert_eq!(attribute(&sections(&reused.answer)[0], "group"), ["BUNDLE 0 2 3"]);
    assert!(sections(&reused.answer)[3].contains(&"a=inactive"));
    let third = outcome(reused.changes);
    assert!(third.unpublished.is_empty());
    assert_eq!(third.published.len(), 1);
    assert_eq!(third.published[0].0.mid.as_str(), "2");
    assert!(third.published[0].0.track != video);
    assert_eq!(session.published()[0].0, audio);
    // The o= line counts on.
    assert!(reused.answer.lines().nth(1).unwrap().contains(" 3 IN "));
}

#[test]
fn whip_takes_all_or_nothing() {
    let foreign = ENCODER.replace("H264/90000", "H265/90000");
    let sentence = refusal(negotiator(Policy::WHIP).handle_offer(&foreign));
    assert!(
        sentence.contains("m= section 2 (mid \"1\")") && sentence.contains("H264"),
        "{sentence}"
    );
    let negotiated = negotiator(Policy::NATIVE).handle_offer(&foreign).unwrap();
    assert!(sections(&negotiated.answer)[2][0].starts_with("m=video 0 "));
}

#[test]
fn whip_takes_one_section_of_each_kind() {
    let at = ENCODER.find("m=video").unwrap();
    let second = ENCODER[at..].replace("a=mid:1", "a=mid:2");
    let offer = format!("{}{second}", ENCODER.replace("BUNDLE 0 1", "BUNDLE 0 1 2"));
    let offer = offer.replacen("a=ssrc:", "a=x-ssrc:", 100);
    let sentence = refusal(negotiator(Policy::WHIP).handle_offer(&offer));
    assert!(sentence.contains("at most one audio and one video section"), "{sentence}");
    let negotiated = negotiator(Policy::NATIVE).handle_offer(&offer).unwrap();
    assert_eq!(outcome(negotiated.changes).published.len(), 3);
}

#[test]
fn sessions_of_one_purpose_refuse_offers_without_it() {
    let sentence = refusal(negotiator(Policy::WHIP).handle_offer(CHROME_RECVONLY));
    assert!(sentence.contains("only publishes"), "{sentence}");
    let sentence = refusal(negotiator(Policy::WHEP).handle_offer(CHROME_SENDONLY));
    assert!(sentence.contains("only plays"), "{sentence}");
}

#[test]
fn dtls_roles_follow_the_offer() {
    for (setup, line, role) in [
        ("actpass", "a=setup:passive", DtlsRole::Passive),
        ("active", "a=setup:passive", DtlsRole::Passive),
        ("passive", "a=setup:active", DtlsRole::Active),
    ] {
        let mut session = negotiator(Policy::WHIP);
        let offer = ENCODER.replace("setup:actpass", &format!("setup:{setup}"));
        let negotiated = session.handle_offer(&offer).unwrap();
        assert!(negotiated.answer.contains(line), "{setup}");
        assert_eq!(outcome(negotiated.changes).remotes[0].dtls_role, role);
        // The association lives on, so the role does, whatever a later actpass would allow.
        let again = session.handle_offer(ENCODER).unwrap();
        assert!(again.answer.contains(line), "{setup}");
    }
    let mut session = negotiator(Policy::WHIP);
    session.handle_offer(ENCODER).unwrap();
    let sentence = refusal(session.handle_offer(&ENCODER.replace("actpass", "passive")));
    assert!(sentence.contains("DTLS role"), "{sentence}");
}
