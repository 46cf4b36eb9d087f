//! Sessions of rtcd's clients: a data channel first, tracks by our offers alone, simulcast, and offers that get no answer.

use std::collections::BTreeSet;

use sluice_engine::ids::{PayloadType, Ssrc, TrackId};
use sluice_engine::session::params::MediaKind;
use sluice_engine::wire::rtp_ext::Extension;

use super::client::{Client, Verdict};
use super::*;
use crate::sdp::SECTIONS_MAX;

/// A session that has its data channel.
fn joined() -> (Negotiator, Client) {
    let mut session = negotiator(Policy::RTCD);
    let mut client = Client::new();
    client.add("application", false, false);
    client_offers(&mut session, &mut client);
    (session, client)
}

fn client_offers(session: &mut Negotiator, client: &mut Client) -> (String, Outcome) {
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    client.take_answer(&negotiated.answer);
    (negotiated.answer, outcome(negotiated.changes))
}

fn exchange(session: &mut Negotiator, client: &mut Client) -> (String, Outcome) {
    let offer = session.make_offer().expect("something waits");
    let answer = client.answer(&offer, || Verdict::Take);
    let changes = session.handle_answer(&answer).unwrap();
    (offer, outcome(changes))
}

/// The names that rtcd gives what subscribers see.
fn named(track: RemoteTrack, sender: &str) -> RemoteTrack {
    RemoteTrack { stream: sender.to_owned(), name: format!("voice_{sender}_abcd1234"), ..track }
}

#[test]
fn the_first_offer_may_be_a_data_channel_alone() {
    let mut session = negotiator(Policy::RTCD);
    assert!(!session.has_data_channel());
    let negotiated = session.handle_offer(RTCD_DATA).unwrap();
    check_ours(&negotiated.answer);
    let all = sections(&negotiated.answer);
    assert_eq!(attribute(&all[0], "group"), ["BUNDLE 0"]);
    assert_eq!(
        all[1],
        [
            "m=application 8443 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 192.0.2.10",
            "a=mid:0",
            "a=ice-ufrag:first",
            "a=ice-pwd:firstppppppppppppppppppp",
            "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
             10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
            "a=setup:passive",
            "a=sctp-port:5000",
            "a=max-message-size:262144",
            "a=candidate:1 1 udp 2130706431 192.0.2.10 8443 typ host",
            "a=candidate:2 1 udp 2130706175 2001:db8::10 8443 typ host",
            "a=candidate:3 1 tcp 1520435199 192.0.2.10 8443 typ host tcptype passive",
            "a=end-of-candidates",
        ]
    );
    assert_eq!(outcome(negotiated.changes).remotes.len(), 1);
    assert!(session.has_data_channel());
    assert_eq!(session.peer_max_message_size(), Some(262_144));
}

#[test]
fn the_longest_message_of_the_peer_is_read_as_the_standard_has_it() {
    for (line, expected) in [
        ("a=max-message-size:1073741823\r\n", 1_073_741_823),
        ("a=max-message-size:0\r\n", usize::MAX),
        ("", 65_536),
    ] {
        let mut session = negotiator(Policy::RTCD);
        let offer = RTCD_DATA.replace("a=max-message-size:262144\r\n", line);
        session.handle_offer(&offer).unwrap();
        assert_eq!(session.peer_max_message_size(), Some(expected), "{line}");
    }
}

#[test]
fn data_channels_of_old_drafts_and_other_ports_are_refused_in_words() {
    let m = "UDP/DTLS/SCTP webrtc-datachannel";
    for (from, to, word) in [
        (m, "DTLS/SCTP 5000", "RFC 8841"),
        (m, "UDP/DTLS/SCTP 5000", "RFC 8841"),
        ("a=sctp-port:5000\r\n", "", "a=sctp-port must be there"),
        ("a=sctp-port:5000", "a=sctp-port:70000", "a=sctp-port must be there"),
        ("a=sctp-port:5000", "a=sctp-port:5001", "must be 5000"),
        ("size:262144", "size:many", "number of bytes"),
        ("a=mid:0\r\n", "", "a=mid is missing"),
    ] {
        assert!(RTCD_DATA.contains(from), "{from}");
        let offer = RTCD_DATA.replace(from, to);
        let sentence = refusal(negotiator(Policy::RTCD).handle_offer(&offer));
        assert!(sentence.contains(word), "{to}: {sentence}");
        // Sessions without data channels reject the section and nothing else, as they do with the current form.
        if from != "a=mid:0\r\n" {
            let negotiated = negotiator(Policy::NATIVE).handle_offer(&offer).unwrap();
            assert!(sections(&negotiated.answer)[1][0].starts_with("m=application 0 "));
        }
    }
}

#[test]
fn a_transport_has_one_section_of_data_channels() {
    let (mut session, mut client) = joined();
    client.add("application", false, false);
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    let all = sections(&negotiated.answer);
    assert!(all[1][0].starts_with("m=application 8443 "));
    assert!(all[2][0].starts_with("m=application 0 "));
    assert_eq!(attribute(&all[0], "group"), ["BUNDLE c1"]);
}

#[test]
fn the_data_channel_stays_whatever_comes_and_goes() {
    let (mut session, mut client) = joined();
    session.add_track(audio_track(1));
    let (offer, _) = exchange(&mut session, &mut client);
    assert!(sections(&offer)[1].contains(&"a=sctp-port:5000"));
    assert_eq!(attribute(&sections(&offer)[0], "group"), ["BUNDLE c1 s0"]);
    client.add("audio", true, true);
    client_offers(&mut session, &mut client);
    session.remove_track(TrackId(1));
    exchange(&mut session, &mut client);
    assert!(session.has_data_channel());
    // The peer may close it; our media does not take its place.
    client.transceivers[0].stopped = true;
    client_offers(&mut session, &mut client);
    assert!(!session.has_data_channel() && session.peer_max_message_size().is_none());
    session.add_track(audio_track(2));
    session.add_track(audio_track(3));
    let (offer, _) = exchange(&mut session, &mut client);
    assert!(sections(&offer)[1][0].starts_with("m=application 0 "));
}

#[test]
fn chrome_joins_talks_and_shares_its_screen_in_two_layers() {
    let mut session = negotiator(Policy::RTCD);
    session.handle_offer(RTCD_DATA).unwrap();
    // Somebody else is there already; his track waits for an offer of ours.
    session.add_track(named(audio_track(1), "bob"));

    let negotiated = session.handle_offer(RTCD_MICROPHONE).unwrap();
    check_ours(&negotiated.answer);
    let audio = &sections(&negotiated.answer)[2];
    assert_eq!(audio[0], "m=audio 8443 UDP/TLS/RTP/SAVPF 111");
    assert!(audio.contains(&"a=recvonly") && attribute(audio, "msid").is_empty());
    let second = outcome(negotiated.changes);
    assert!(second.legs.is_empty() && second.remotes.is_empty());
    let (params, track) = &second.published[0];
    assert_eq!(track.source_stream.as_deref(), Some("0eb3a31d-654e-48e9-bf24-7159853a8d12"));
    assert_eq!((track.stream.as_str(), &track.name), ("alice", &format!("track-{}", track.track)));
    assert_eq!(params.extensions.id(Extension::AudioLevel), Some(1));
    assert!(params.layers.is_empty());

    let negotiated = session.handle_offer(RTCD_SIMULCAST).unwrap();
    check_ours(&negotiated.answer);
    let video = &sections(&negotiated.answer)[3];
    assert_eq!(video[0], "m=video 8443 UDP/TLS/RTP/SAVPF 96 97 45 46");
    assert_eq!(attribute(video, "rid"), ["l recv", "h recv"]);
    assert_eq!(attribute(video, "simulcast"), ["recv l;h"]);
    let uris = attribute(video, "extmap").join(" ");
    for name in ["sdes:mid", "sdes:rtp-stream-id", "sdes:repaired-rtp-stream-id"] {
        assert!(uris.contains(name), "{name}: {uris}");
    }
    let third = outcome(negotiated.changes);
    assert!(third.unpublished.is_empty());
    let (params, track) = &third.published[0];
    let layers: Vec<&str> = params.layers.iter().map(|rid| rid.as_str()).collect();
    assert_eq!(layers, ["l", "h"]);
    assert!(params.extensions.id(Extension::Rid).is_some() && !params.voice_activity);
    assert_eq!(track.source_stream.as_deref(), Some("10024ef6-0cc1-4a6a-96c1-36a81755cc17"));

    // Offers of ours keep the layers of the section, and the same offer again changes nothing.
    let again = outcome(session.handle_offer(RTCD_SIMULCAST).unwrap().changes);
    assert!(again.published.is_empty() && again.unpublished.is_empty());
    let offer = session.make_offer().unwrap();
    check_ours(&offer);
    let all = sections(&offer);
    assert_eq!(attribute(&all[3], "simulcast"), ["recv l;h"]);
    // Not one of the client's own sections carries the other's voice.
    assert_eq!(all.len(), 1 + 4);
    assert_eq!(attribute(&all[4], "msid"), ["bob voice_bob_abcd1234"]);
    assert!(all[4].contains(&"a=sendonly"));
    let map: Vec<(&str, u64)> = vec![("s0", 1)];
    let legs = session.legs();
    let told: Vec<(&str, u64)> = legs.iter().map(|l| (l.mid.as_str(), l.track.0)).collect();
    assert_eq!(told, map);
    assert!(!legs[0].agreed);
}

#[test]
fn layers_are_told_lowest_first_and_mirrored_as_they_came() {
    for (list, mirrored, layers) in [
        ("send h;l", "recv h;l", vec!["l", "h"]),
        ("send ~l;h", "recv l;h", vec!["l", "h"]),
        ("send x,l;h", "recv l;h", vec!["l", "h"]),
    ] {
        let mut session = negotiator(Policy::RTCD);
        let offer = RTCD_SIMULCAST.replace("a=simulcast:send l;h", &format!("a=simulcast:{list}"));
        let negotiated = session.handle_offer(&offer).unwrap();
        let video = &sections(&negotiated.answer)[3];
        assert_eq!(attribute(video, "simulcast"), [mirrored]);
        let outcome = outcome(negotiated.changes);
        let told: Vec<&str> = outcome.published[1].0.layers.iter().map(|r| r.as_str()).collect();
        assert_eq!(told, layers);
    }
}

#[test]
fn a_screen_in_two_codecs_becomes_two_tracks_of_one_stream() {
    let mut session = negotiator(Policy::RTCD);
    let negotiated = session.handle_offer(RTCD_AV1).unwrap();
    check_ours(&negotiated.answer);
    let all = sections(&negotiated.answer);
    assert_eq!(all[1][0], "m=video 8443 UDP/TLS/RTP/SAVPF 96 97 45 46");
    assert_eq!(all[2][0], "m=video 8443 UDP/TLS/RTP/SAVPF 45");
    assert!(all[3].contains(&"a=sctp-port:5000") && session.has_data_channel());
    let outcome = outcome(negotiated.changes);
    let [(_, first), (_, second)] = outcome.published.as_slice() else { panic!("two tracks") };
    assert_eq!(first.codecs[0].name, CodecName::Vp8);
    let names: Vec<CodecName> = second.codecs.iter().map(|codec| codec.name).collect();
    assert_eq!(names, [CodecName::Av1]);
    assert!(first.source_stream.is_some() && first.source_stream == second.source_stream);
}

#[test]
fn a_track_that_moves_to_another_stream_is_another_track() {
    let mut session = negotiator(Policy::RTCD);
    let first = outcome(session.handle_offer(RTCD_MICROPHONE).unwrap().changes);
    let moved = RTCD_MICROPHONE.replace("a=msid:0eb3a31d", "a=msid:11111111");
    let second = outcome(session.handle_offer(&moved).unwrap().changes);
    assert_eq!(second.unpublished, [first.published[0].0.track]);
    let stream = second.published[0].1.source_stream.as_deref();
    assert!(stream.is_some_and(|stream| stream.starts_with("11111111-")), "{stream:?}");
    // One without a stream, as `-` says, is told so.
    let mut session = negotiator(Policy::RTCD);
    let none = RTCD_MICROPHONE.replace("a=msid:0eb3a31d-654e-48e9-bf24-7159853a8d12", "a=msid:-");
    let outcome = outcome(session.handle_offer(&none).unwrap().changes);
    assert_eq!(outcome.published[0].1.source_stream, None);
}

#[test]
fn firefox_keeps_its_numbers_and_ours_follow_them() {
    let mut session = negotiator(Policy::RTCD);
    let negotiated = session.handle_offer(FIREFOX).unwrap();
    let all = sections(&negotiated.answer);
    assert_eq!(all[1][0], "m=audio 8443 UDP/TLS/RTP/SAVPF 109");
    assert_eq!(all[2][0], "m=video 8443 UDP/TLS/RTP/SAVPF 120 124");
    session.add_track(audio_track(1));
    session
        .add_track(RemoteTrack { codecs: vec![codec(CodecName::Vp8, 96, "")], ..video_track(2) });
    let offer = session.make_offer().unwrap();
    let all = sections(&offer);
    assert_eq!(all[3][0], "m=audio 8443 UDP/TLS/RTP/SAVPF 109");
    assert_eq!(all[4][0], "m=video 8443 UDP/TLS/RTP/SAVPF 120 124");
}

#[test]
fn without_numbers_of_the_peer_ours_are_those_of_rtcd() {
    let (mut session, mut client) = joined();
    session.add_track(RemoteTrack {
        codecs: vec![codec(CodecName::Opus, 63, "minptime=10;useinbandfec=1")],
        ..audio_track(1)
    });
    session.add_track(RemoteTrack {
        codecs: vec![
            codec(CodecName::H264, 120, "packetization-mode=1"),
            codec(CodecName::Vp8, 100, ""),
        ],
        ..video_track(2)
    });
    session
        .add_track(RemoteTrack { codecs: vec![codec(CodecName::Av1, 39, "")], ..video_track(3) });
    let (offer, outcome) = exchange(&mut session, &mut client);
    let all = sections(&offer);
    // H264 is not for clients of rtcd.
    assert_eq!(all[2][0], "m=audio 8443 UDP/TLS/RTP/SAVPF 111");
    assert_eq!(all[3][0], "m=video 8443 UDP/TLS/RTP/SAVPF 96 97");
    assert_eq!(all[4][0], "m=video 8443 UDP/TLS/RTP/SAVPF 45 46");
    assert!(attribute(&all[2], "rtcp-fb").contains(&"111 transport-cc"));
    assert!(attribute(&all[3], "rtcp-fb").contains(&"96 transport-cc"));
    let to: Vec<(MediaKind, PayloadType)> = [MediaKind::Audio, MediaKind::Video, MediaKind::Video]
        .into_iter()
        .zip(outcome.legs.iter().map(|leg| leg.payload_types[0].to))
        .collect();
    assert_eq!(to.iter().map(|(_, to)| to.0).collect::<Vec<_>>(), [111, 96, 45]);
    assert!(outcome.legs.iter().all(|leg| leg.extensions.id(Extension::TransportCc).is_some()));
}

#[test]
fn transport_wide_numbers_are_written_only_for_peers_that_report_on_them() {
    for (policy, with_feedback, expected) in
        [(Policy::RTCD, true, true), (Policy::RTCD, false, false), (Policy::NATIVE, true, false)]
    {
        let mut session = negotiator(policy);
        let mut client = Client::new();
        client.add("audio", true, false);
        client_offers(&mut session, &mut client);
        session.add_track(audio_track(1));
        let offer = session.make_offer().unwrap();
        assert_eq!(offer.contains("transport-wide-cc"), policy.transport_cc);
        let mut answer = client.answer(&offer, || Verdict::Take);
        if !with_feedback {
            answer = answer.replace("a=rtcp-fb:111 transport-cc\r\n", "");
        }
        let outcome = outcome(session.handle_answer(&answer).unwrap());
        let id = outcome.legs[0].extensions.id(Extension::TransportCc);
        assert_eq!(id.is_some(), expected, "{with_feedback}");
    }
}

#[test]
fn sections_of_the_client_stay_its_own() {
    let (mut session, mut client) = joined();
    session.add_track(audio_track(1));
    client.add("audio", true, true);
    client.add("audio", false, true);
    let (answer, outcome) = client_offers(&mut session, &mut client);
    let all = sections(&answer);
    assert!(all[2].contains(&"a=recvonly") && all[3].contains(&"a=inactive"));
    assert!(outcome.legs.is_empty());
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 1 + 4);
    assert_eq!(outcome.legs[0].mid.as_str(), "s0");
}

#[test]
fn a_track_that_the_client_paused_comes_back_by_our_offer() {
    let (mut session, mut client) = joined();
    session.add_track(audio_track(1));
    let (_, first) = exchange(&mut session, &mut client);
    client.transceivers[1].recv = false;
    let (_, paused) = client_offers(&mut session, &mut client);
    assert_eq!(paused.removed, [first.legs[0].leg]);
    assert!(!session.needs_offer());
    client.transceivers[1].recv = true;
    let (_, resumed) = client_offers(&mut session, &mut client);
    assert!(resumed.legs.is_empty());
    let (offer, second) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 1 + 2);
    assert_eq!(second.legs[0].mid, first.legs[0].mid);
    assert!(second.legs[0].ssrc != first.legs[0].ssrc);
}

#[test]
fn names_that_do_not_fit_a_description_are_made_to() {
    let (mut session, mut client) = joined();
    session.add_track(RemoteTrack {
        stream: "bob and\r\na=evil:1".to_owned(),
        name: String::new(),
        ..audio_track(1)
    });
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert_eq!(attribute(&sections(&offer)[2], "msid"), ["bob_and__a_evil_1 _"]);
    assert_eq!(outcome.legs[0].cname, "bob_and__a_evil_1");
}

#[test]
fn more_tracks_than_allowed_are_refused_and_rejected_sections_are_no_tracks() {
    let policy = Policy { tracks_max: 2, ..Policy::RTCD };
    let mut session = negotiator(policy);
    // Two screens and a data channel.
    session.handle_offer(RTCD_AV1).unwrap();
    let policy = Policy { tracks_max: 1, ..policy };
    let error = negotiator(policy).handle_offer(RTCD_AV1).unwrap_err();
    assert!(matches!(error, NegotiationError::LimitReached { .. }), "{error}");
    assert!(error.to_string().contains("publishes 2 tracks; a session may have 1"), "{error}");
    let recvonly = RTCD_AV1.replacen("a=sendrecv", "a=recvonly", 1);
    assert_eq!(
        outcome(negotiator(policy).handle_offer(&recvonly).unwrap().changes).published.len(),
        1
    );
    // The second screen in a codec that nobody has.
    let (before, after) = RTCD_AV1.rsplit_once("AV1/90000").unwrap();
    let foreign = format!("{before}AV9/90000{after}");
    assert_eq!(
        outcome(negotiator(policy).handle_offer(&foreign).unwrap().changes).published.len(),
        1
    );
}

#[test]
fn an_offer_that_was_taken_back_is_as_if_never_made() {
    let (mut session, mut client) = joined();
    session.add_track(audio_track(1));
    session.add_track(video_track(2));
    let lost = session.make_offer().unwrap();
    let late = client.clone().answer(&lost, || Verdict::Take);
    session.rollback_offer();
    session.rollback_offer();
    assert!(!session.is_offer_pending() && session.needs_offer() && session.legs().is_empty());
    let error = session.handle_answer(&late).unwrap_err();
    assert!(matches!(error, NegotiationError::State { .. }), "{error}");

    let (offer, outcome) = exchange(&mut session, &mut client);
    let tracks: Vec<TrackId> = outcome.legs.iter().map(|leg| leg.track).collect();
    assert_eq!(tracks, [TrackId(1), TrackId(2)]);
    assert_eq!(sections(&offer).len(), sections(&lost).len());
    for leg in &outcome.legs {
        for Ssrc(ssrc) in std::iter::once(leg.ssrc).chain(leg.rtx_ssrc) {
            assert!(offer.contains(&format!("a=ssrc:{ssrc} ")));
            assert!(!lost.contains(&format!("a=ssrc:{ssrc} ")));
        }
    }
}

#[test]
fn a_client_that_applied_an_offer_too_late_can_apply_the_next() {
    for applied in [false, true] {
        let (mut session, mut client) = joined();
        session.add_track(audio_track(1));
        session.add_track(video_track(2));
        let lost = session.make_offer().unwrap();
        if applied {
            client.answer(&lost, || Verdict::Take);
        }
        session.rollback_offer();
        // The first of the two sections has lost its track, and keeps its place.
        session.remove_track(TrackId(1));
        let (offer, outcome) = exchange(&mut session, &mut client);
        assert!(sections(&offer)[2].contains(&"a=inactive"));
        assert_eq!(outcome.legs[0].mid.as_str(), "s1");
        assert!(!session.needs_offer());
    }
}

#[test]
fn the_clients_own_offer_shows_whether_it_has_what_was_taken_back() {
    for applied in [false, true] {
        let (mut session, mut client) = joined();
        session.add_track(audio_track(1));
        let lost = session.make_offer().unwrap();
        if applied {
            client.answer(&lost, || Verdict::Take);
        }
        session.rollback_offer();
        client.add("video", true, false);
        client_offers(&mut session, &mut client);
        let (offer, outcome) = exchange(&mut session, &mut client);
        // Its section is ours still if the client has it, and another comes behind the client's if not.
        assert_eq!(sections(&offer).len(), 1 + 3);
        let place = if applied { 2 } else { 3 };
        assert!(sections(&offer)[place].contains(&"a=sendonly"), "{offer}");
        assert_eq!(outcome.legs[0].track, TrackId(1));
    }
}

#[test]
fn an_ice_restart_that_was_taken_back_is_told_again() {
    let (mut session, mut client) = joined();
    let Change::RestartIce { local } = session.restart_ice() else { panic!("a restart") };
    let lost = session.make_offer().unwrap();
    assert!(lost.contains(&local.ufrag));
    session.rollback_offer();
    assert!(session.needs_offer());
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert!(offer.contains(&local.ufrag));
    assert_eq!(outcome.remotes.len(), 1);
    assert!(!session.needs_offer());
}

#[test]
fn two_hundred_comings_and_goings_leave_the_description_as_long_as_it_was() {
    let (mut session, mut client) = joined();
    session.add_track(audio_track(1));
    exchange(&mut session, &mut client);
    let mut ssrcs = BTreeSet::new();
    let mut longest = 0;
    for number in 2..=201 {
        // A publisher joins with voice and camera, and leaves.
        session.add_track(audio_track(number));
        session.add_track(video_track(1_000 + number));
        let (offer, outcome) = exchange(&mut session, &mut client);
        assert_eq!(sections(&offer).len(), 1 + 4);
        assert_eq!(outcome.legs.len(), 2);
        for leg in &outcome.legs {
            assert!(ssrcs.insert(leg.ssrc));
        }
        longest = longest.max(offer.len());
        session.remove_track(TrackId(number));
        session.remove_track(TrackId(1_000 + number));
        if number % 2 == 0 {
            exchange(&mut session, &mut client);
        }
    }
    assert!(longest < 8 * 1024, "{longest}");
}

#[test]
fn forty_nine_voices_fit_one_offer_that_any_signalling_path_takes() {
    let (mut session, mut client) = joined();
    for number in 1..=49 {
        let sender = format!("{number:a>26}");
        session.add_track(named(audio_track(number), &sender));
    }
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert_eq!(outcome.legs.len(), 49);
    assert!(offer.len() < 64 * 1024, "{}", offer.len());
    assert!(!session.needs_offer());
}

#[test]
fn a_track_without_room_comes_when_another_goes() {
    let (mut session, mut client) = joined();
    let tracks = SECTIONS_MAX as u64 + 5;
    (0..tracks).for_each(|track| session.add_track(audio_track(track)));
    let (_, outcome) = exchange(&mut session, &mut client);
    // The data channel has a section too.
    assert_eq!(outcome.legs.len(), SECTIONS_MAX - 1);
    assert!(!session.needs_offer());
    session.remove_track(TrackId(tracks - 1));
    assert!(!session.needs_offer(), "it had no section that could be free now");
    for gone in 0..3 {
        session.remove_track(TrackId(gone));
        let (_, outcome) = exchange(&mut session, &mut client);
        assert_eq!(outcome.legs.len(), 1);
        assert!(!session.needs_offer());
    }
}
