//! A session's life after its first description.

use sluice_engine::dtls::DtlsRole;
use sluice_engine::ids::TrackId;
use sluice_engine::wire::rtp_ext::Extension;

use super::super::fragment::parse_fragment;
use super::super::negotiator::FragmentOutcome;
use super::client::{Client, Verdict};
use super::*;

/// A native session whose client has published a microphone.
fn joined() -> (Negotiator, Client) {
    let mut session = negotiator(Policy::NATIVE);
    let mut client = Client::new();
    client.add("audio", true, false);
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    client.take_answer(&negotiated.answer);
    (session, client)
}

fn exchange(session: &mut Negotiator, client: &mut Client) -> (String, Outcome) {
    let offer = session.make_offer().expect("something waits");
    let answer = client.answer(&offer, || Verdict::Take);
    let changes = session.handle_answer(&answer).unwrap();
    (offer, outcome(changes))
}

#[test]
fn many_tracks_go_into_one_offer() {
    let (mut session, mut client) = joined();
    for track in 1..=100 {
        session.add_track(if track % 2 == 0 { audio_track(track) } else { video_track(track) });
    }
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 1 + 1 + 100);
    assert_eq!(outcome.legs.len(), 100);
    assert!(!session.needs_offer() && !session.is_offer_pending());
    let mids: std::collections::BTreeSet<&str> =
        outcome.legs.iter().map(|leg| leg.mid.as_str()).collect();
    assert_eq!(mids.len(), 100);
}

#[test]
fn our_offer_says_what_a_browser_wants_to_read() {
    let (mut session, _) = joined();
    session.add_track(video_track(1));
    let offer = session.make_offer().unwrap();
    check_ours(&offer);
    let all = sections(&offer);
    assert_eq!(attribute(&all[0], "group"), ["BUNDLE c1 s0"]);
    assert!(all[0].contains(&"a=extmap-allow-mixed"));
    // The client's own section stays as it was agreed.
    assert!(all[1].contains(&"a=recvonly") && all[1].contains(&"a=setup:actpass"));
    assert!(all[1][0].ends_with(" 111"));
    let leg = &session.outstanding.as_ref().unwrap().state.sections[1].leg.clone().unwrap();
    let (ssrc, rtx) = (leg.ssrc, leg.rtx_ssrc.unwrap());
    assert_eq!(
        all[2][2..],
        [
            "a=mid:s0",
            "a=ice-ufrag:first",
            "a=ice-pwd:firstppppppppppppppppppp",
            "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
             10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
            "a=setup:actpass",
            "a=sendonly",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            "a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
            "a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space",
            "a=extmap:9 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
            "a=extmap:13 urn:3gpp:video-orientation",
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 ccm fir",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            "a=rtpmap:108 H264/90000",
            "a=rtcp-fb:108 ccm fir",
            "a=rtcp-fb:108 nack",
            "a=rtcp-fb:108 nack pli",
            "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            "a=rtpmap:109 rtx/90000",
            "a=fmtp:109 apt=108",
            "a=msid:session-1 track-1",
            &format!("a=ssrc-group:FID {ssrc} {rtx}"),
            &format!("a=ssrc:{ssrc} cname:session-1"),
            &format!("a=ssrc:{ssrc} msid:session-1 track-1"),
            &format!("a=ssrc:{rtx} cname:session-1"),
            &format!("a=ssrc:{rtx} msid:session-1 track-1"),
        ]
    );
}

#[test]
fn our_offer_uses_the_numbers_that_the_peer_has_shown() {
    let mut session = negotiator(Policy::NATIVE);
    session.handle_offer(FIREFOX).unwrap();
    session.add_track(RemoteTrack {
        codecs: vec![codec(CodecName::Vp8, 96, ""), codec(CodecName::Av1, 45, "profile=0")],
        ..video_track(1)
    });
    session.add_track(audio_track(2));
    let offer = session.make_offer().unwrap();
    check_ours(&offer);
    let all = sections(&offer);
    // Firefox has 120 for VP8 and nothing for AV1, for which the usual number is free.
    assert_eq!(all[3][0], "m=video 8443 UDP/TLS/RTP/SAVPF 120 124 45 46");
    assert_eq!(all[4][0], "m=audio 8443 UDP/TLS/RTP/SAVPF 109");
    // Its id for mid, and ours only where it has bound none: 4 to 7 are taken.
    let extensions = attribute(&all[3], "extmap");
    assert!(extensions.contains(&"3 urn:ietf:params:rtp-hdrext:sdes:mid"), "{extensions:?}");
    assert!(
        extensions.iter().all(|e| !["4", "5", "6", "7"].contains(&e.split(' ').next().unwrap()))
    );
}

#[test]
fn a_free_section_is_recycled_for_the_same_kind_only() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let (_, first) = exchange(&mut session, &mut client);
    let removed = session.remove_track(TrackId(1));
    assert!(matches!(removed, Some(Change::RemoveLeg(leg)) if leg == first.legs[0].leg));
    assert!(session.needs_offer());
    let (offer, nothing) = exchange(&mut session, &mut client);
    assert!(sections(&offer)[2].contains(&"a=inactive"));
    assert!(!offer.contains("a=ssrc"));
    assert!(nothing.removed.is_empty() && nothing.legs.is_empty());

    session.add_track(audio_track(2));
    session.add_track(video_track(3));
    let (offer, second) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 4);
    let mids: Vec<(u64, &str)> =
        second.legs.iter().map(|leg| (leg.track.0, leg.mid.as_str())).collect();
    assert_eq!(mids, [(3, "s0"), (2, "s1")]);
    assert!(second.legs.iter().all(|leg| leg.ssrc != first.legs[0].ssrc));
}

#[test]
fn a_track_that_comes_while_one_goes_takes_its_section_in_one_offer() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    exchange(&mut session, &mut client);
    session.remove_track(TrackId(1));
    session.add_track(video_track(2));
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 3);
    assert_eq!(outcome.legs[0].mid.as_str(), "s0");
    assert!(!session.needs_offer());
}

#[test]
fn a_track_that_goes_while_it_is_offered_gets_no_leg() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    session.add_track(audio_track(2));
    let offer = session.make_offer().unwrap();
    assert!(session.remove_track(TrackId(1)).is_none());
    let answer = client.answer(&offer, || Verdict::Take);
    let outcome = outcome(session.handle_answer(&answer).unwrap());
    assert_eq!(outcome.legs.len(), 1);
    assert_eq!(outcome.legs[0].track, TrackId(2));
    assert!(session.needs_offer(), "the section must be said to be inactive");
}

#[test]
fn offers_that_cross_are_refused_until_ours_is_answered() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let offer = session.make_offer().unwrap();
    assert!(session.make_offer().is_none() && !session.needs_offer());
    assert_eq!(session.handle_offer(CHROME_SENDRECV).unwrap_err(), NegotiationError::Glare);
    assert_eq!(session.outstanding_offer(), Some(offer.as_str()));
    let answer = client.answer(&offer, || Verdict::Take);
    session.handle_answer(&answer).unwrap();
    client.add("video", true, false);
    assert_eq!(outcome(session.handle_offer(&client.offer()).unwrap().changes).published.len(), 1);
}

#[test]
fn answers_without_an_offer_are_refused() {
    let (mut session, _) = joined();
    assert!(matches!(
        session.handle_answer(CHROME_SENDRECV).unwrap_err(),
        NegotiationError::State { .. }
    ));
}

#[test]
fn a_section_that_carries_our_leg_may_carry_the_clients_media_too() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let (_, first) = exchange(&mut session, &mut client);
    // A browser's addTrack reuses the transceiver that our offer made.
    client.transceivers[1].send = true;
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    client.take_answer(&negotiated.answer);
    assert!(sections(&negotiated.answer)[2].contains(&"a=sendrecv"));
    let second = outcome(negotiated.changes);
    assert_eq!(second.published.len(), 1);
    assert!(second.removed.is_empty() && second.legs.is_empty());
    assert_eq!(session.legs()[0].leg, first.legs[0].leg);
}

#[test]
fn media_that_pauses_is_unpublished_and_comes_back_as_another_track() {
    let (mut session, mut client) = joined();
    let before = session.published()[0].0;
    client.transceivers[0].send = false;
    let paused = session.handle_offer(&client.offer()).unwrap();
    assert!(sections(&paused.answer)[1].contains(&"a=inactive"));
    assert_eq!(outcome(paused.changes).unpublished, [before]);
    client.transceivers[0].send = true;
    let resumed = outcome(session.handle_offer(&client.offer()).unwrap().changes);
    assert_ne!(resumed.published[0].0.track, before);
}

#[test]
fn an_unchanged_offer_changes_nothing() {
    for offer in [CHROME_SENDRECV, FIREFOX, AIORTC_PUBLISH, ENCODER] {
        let mut session = negotiator(Policy::NATIVE);
        session.handle_offer(offer).unwrap();
        assert!(session.handle_offer(offer).unwrap().changes.is_empty());
    }
}

#[test]
fn a_leg_that_the_peer_pauses_comes_back_in_its_section_with_another_ssrc() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let (_, first) = exchange(&mut session, &mut client);
    client.transceivers[1].recv = false;
    let paused = outcome(session.handle_offer(&client.offer()).unwrap().changes);
    assert_eq!(paused.removed, [first.legs[0].leg]);
    assert!(!session.needs_offer(), "the peer has said that it wants nothing there");
    client.transceivers[1].recv = true;
    let resumed = outcome(session.handle_offer(&client.offer()).unwrap().changes);
    assert_eq!(resumed.legs[0].mid.as_str(), "s0");
    assert_ne!(resumed.legs[0].ssrc, first.legs[0].ssrc);
    assert_ne!(resumed.legs[0].rtx_ssrc, first.legs[0].rtx_ssrc);
}

#[test]
fn a_track_that_the_peer_stops_is_not_offered_again() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let offer = session.make_offer().unwrap();
    let answer = client.answer(&offer, || Verdict::Stop);
    assert!(outcome(session.handle_answer(&answer).unwrap()).legs.is_empty());
    assert!(!session.needs_offer());
    // The stopped section is there for another track, under another mid.
    session.add_track(video_track(2));
    let (offer, second) = exchange(&mut session, &mut client);
    assert_eq!(sections(&offer).len(), 3);
    assert_eq!(second.legs[0].track, TrackId(2));
    assert_ne!(second.legs[0].mid.as_str(), "s0");
}

#[test]
fn a_client_offer_may_take_waiting_tracks_in_sections_made_for_them() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    client.add("video", false, true);
    client.add("video", true, true);
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    client.take_answer(&negotiated.answer);
    let outcome = outcome(negotiated.changes);
    assert_eq!((outcome.legs.len(), outcome.published.len()), (1, 1));
    assert_eq!(outcome.legs[0].mid.as_str(), client.transceivers[1].mid);
    // The section of the client's own camera is not used for others, though it could receive.
    session.add_track(video_track(2));
    assert!(sections(&session.make_offer().unwrap()).len() == 5);
}

#[test]
fn ice_restarts_of_the_peer_are_answered_with_new_credentials() {
    let (mut session, mut client) = joined();
    client.restart_ice();
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    let outcome = outcome(negotiated.changes);
    let [local] = outcome.restarts.as_slice() else { panic!("one restart") };
    assert!(negotiated.answer.contains(&format!("a=ice-ufrag:{}\r\n", local.ufrag)));
    assert!(!negotiated.answer.contains("a=ice-ufrag:first"));
    assert_eq!(outcome.remotes[0].ice.ufrag, client.ufrag);
    assert!(outcome.published.is_empty() && outcome.unpublished.is_empty());
    // The next answer keeps them.
    let again = session.handle_offer(&client.offer()).unwrap();
    assert!(again.answer.contains(&local.ufrag) && again.changes.is_empty());
}

#[test]
fn ice_restarts_of_ours_need_new_credentials_in_the_answer() {
    let (mut session, mut client) = joined();
    let Change::RestartIce { local } = session.restart_ice() else { panic!("a restart") };
    // Until it is offered, answers keep to the old generation.
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    assert!(negotiated.answer.contains("a=ice-ufrag:first"));
    let offer = session.make_offer().unwrap();
    assert!(offer.contains(&format!("a=ice-ufrag:{}\r\n", local.ufrag)));
    let answer = client.answer(&offer, || Verdict::Take);
    let stale = answer
        .replace(&credentials(&client.ufrag).ufrag, "client0")
        .replace(&credentials(&client.ufrag).pwd, &credentials("client0").pwd);
    let sentence = refusal(session.handle_answer(&stale));
    assert!(sentence.contains("new a=ice-ufrag"), "{sentence}");
    let outcome = outcome(session.handle_answer(&answer).unwrap());
    assert_eq!(outcome.remotes[0].ice.ufrag, client.ufrag);
    assert_ne!(client.ufrag, "client0");
    assert!(!session.needs_offer());
}

#[test]
fn half_an_ice_restart_and_another_certificate_are_refused() {
    let (mut session, mut client) = joined();
    let offer = client.offer();
    let sentence =
        refusal(session.handle_offer(&offer.replace("a=ice-ufrag:client0", "a=ice-ufrag:client9")));
    assert!(sentence.contains("change together"), "{sentence}");
    let sentence = refusal(session.handle_offer(&offer.replace("AB:AB", "AC:AB")));
    assert!(sentence.contains("a=fingerprint changed"), "{sentence}");
    assert!(session.handle_offer(&offer).unwrap().changes.is_empty());
}

#[test]
fn fragments_trickle_or_restart() {
    let mut session = negotiator(Policy::WHIP);
    let fragment = |ufrag: &str, pwd: &str| {
        let text = format!(
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.7 4000 typ host\r\n"
        );
        parse_fragment(&text).unwrap()
    };
    let same = fragment("jBua", "NFSx9uNoAVFXAuFELiYTDg");
    let restart = fragment("kCvb", "OGTy0vOpBWGYBvGFMjZUEhAA");
    assert!(session.handle_fragment(&same).is_err());
    session.handle_offer(ENCODER).unwrap();
    assert!(!session.is_restart(&same) && session.is_restart(&restart));
    assert!(matches!(session.handle_fragment(&same).unwrap(), FragmentOutcome::Trickled));
    let half = fragment("jBua", "OGTy0vOpBWGYBvGFMjZUEhAA");
    assert!(!session.is_restart(&half) && session.handle_fragment(&half).is_err());
    let FragmentOutcome::Restarted { answer, changes } = session.handle_fragment(&restart).unwrap()
    else {
        panic!("a restart")
    };
    let outcome = outcome(changes);
    let ours = parse_fragment(&answer).unwrap();
    assert_eq!(ours.ufrag, outcome.restarts[0].ufrag);
    assert_eq!((ours.candidates.len(), ours.mids), (3, vec!["0".to_owned()]));
    assert_eq!(outcome.remotes[0].ice.ufrag, "kCvb");
    assert_eq!(outcome.remotes[0].dtls_role, DtlsRole::Passive);
    // An offer under the new credentials is no further restart.
    let offer = ENCODER
        .replace("jBua", "kCvb")
        .replace("NFSx9uNoAVFXAuFELiYTDg", "OGTy0vOpBWGYBvGFMjZUEhAA");
    let negotiated = session.handle_offer(&offer).unwrap();
    assert!(negotiated.changes.is_empty() && negotiated.answer.contains(&ours.ufrag));
}

#[test]
fn the_first_offer_may_be_ours() {
    let mut session = negotiator(Policy::NATIVE);
    let mut client = Client::new();
    session.add_track(audio_track(1));
    session.add_track(video_track(2));
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert!(sections(&offer)[1][0].ends_with(" 111"));
    assert_eq!(outcome.remotes[0].dtls_role, DtlsRole::Passive);
    assert_eq!(outcome.legs.len(), 2);
    let video = &outcome.legs[1];
    assert_eq!(video.extensions.id(Extension::VideoOrientation), Some(13));
    assert_eq!(video.extensions.id(Extension::TransportCc), None);
}

#[test]
fn an_answer_of_aiortc_is_taken() {
    let mut session = negotiator(Policy::NATIVE);
    session.add_track(audio_track(1));
    session.add_track(video_track(2));
    session.add_track(video_track(3));
    session.make_offer().unwrap();
    let outcome = outcome(session.handle_answer(AIORTC_ANSWER).unwrap());
    assert_eq!(outcome.remotes[0].dtls_role, DtlsRole::Passive);
    assert_eq!(outcome.remotes[0].fingerprints.len(), 3);
    assert_eq!(outcome.legs.len(), 3);
    for leg in &outcome.legs {
        assert_eq!(leg.extensions.id(Extension::Mid), Some(4));
        // It knows no other extension of video that we offer.
        assert_eq!(leg.extensions.id(Extension::VideoOrientation), None);
    }
    assert!(!session.needs_offer());
}

#[test]
fn answers_choose_our_dtls_role_and_never_actpass() {
    let mut session = negotiator(Policy::NATIVE);
    let mut client = Client::new();
    session.add_track(audio_track(1));
    let offer = session.make_offer().unwrap();
    let answer = client.answer(&offer, || Verdict::Take);
    let sentence = refusal(session.handle_answer(&answer.replace("setup:active", "setup:actpass")));
    assert!(sentence.contains("only in offers"), "{sentence}");
    let changes = session.handle_answer(&answer.replace("setup:active", "setup:passive")).unwrap();
    assert_eq!(outcome(changes).remotes[0].dtls_role, DtlsRole::Active);
    // Offers that come later are answered in the same role.
    assert!(session.handle_offer(&client.offer()).unwrap().answer.contains("a=setup:active"));
}

#[test]
fn a_session_ends_with_its_last_section() {
    let (mut session, mut client) = joined();
    client.transceivers[0].stopped = true;
    let negotiated = session.handle_offer(&client.offer()).unwrap();
    assert_eq!(outcome(negotiated.changes).unpublished.len(), 1);
    session.add_track(audio_track(1));
    assert!(!session.needs_offer() && session.make_offer().is_none());
    client.add("audio", true, false);
    let sentence = refusal(session.handle_offer(&client.offer()));
    assert!(sentence.contains("open another session"), "{sentence}");
}

#[test]
fn an_ssrc_is_never_drawn_twice_from_a_poor_source() {
    struct Poor(TestSupply);
    impl Supply for Poor {
        fn track_id(&mut self) -> TrackId {
            self.0.track_id()
        }
        fn leg_id(&mut self) -> sluice_engine::ids::LegId {
            self.0.leg_id()
        }
        fn credentials(&mut self) -> Credentials {
            self.0.credentials()
        }
        fn random(&mut self, bytes: &mut [u8]) {
            self.0.random(bytes);
            // Thirty-two values are left, and zero is none of those that count.
            let last = bytes.len() - 1;
            bytes[..last].fill(0);
            bytes[last] &= 31;
        }
    }
    let mut session = negotiator(Policy::NATIVE);
    session.supply = Box::new(Poor(TestSupply { chance: Chance(99), last: 0 }));
    let mut client = Client::new();
    let mut seen = std::collections::BTreeSet::new();
    for track in 1..=12 {
        session.add_track(video_track(track));
        for leg in exchange(&mut session, &mut client).1.legs {
            assert!(leg.ssrc.0 != 0 && seen.insert(leg.ssrc));
            assert!(leg.rtx_ssrc.is_some_and(|rtx| rtx.0 != 0 && seen.insert(rtx)));
        }
        session.remove_track(TrackId(track));
    }
    assert_eq!(seen.len(), 24);
}

#[test]
fn a_track_whose_section_the_peer_keeps_inactive_is_not_offered_again() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    let offer = session.make_offer().unwrap();
    let answer = client.answer(&offer, || Verdict::Pause);
    assert!(outcome(session.handle_answer(&answer).unwrap()).legs.is_empty());
    assert!(!session.needs_offer());
    // Nor is it when the section is stopped later.
    client.transceivers[1].stopped = true;
    session.handle_offer(&client.offer()).unwrap();
    assert!(!session.needs_offer());
}

#[test]
fn a_section_with_the_clients_media_is_not_recycled() {
    let (mut session, mut client) = joined();
    session.add_track(video_track(1));
    exchange(&mut session, &mut client);
    client.transceivers[1].send = true;
    session.handle_offer(&client.offer()).unwrap();
    session.remove_track(TrackId(1));
    session.add_track(video_track(2));
    let (offer, outcome) = exchange(&mut session, &mut client);
    assert!(sections(&offer)[2].contains(&"a=recvonly"));
    assert_eq!(outcome.legs[0].mid.as_str(), "s1");
    assert!(outcome.unpublished.is_empty() && outcome.published.is_empty());
}

#[test]
fn a_session_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&negotiator(Policy::NATIVE));
}

#[test]
fn a_session_whose_ssrcs_cannot_be_fresh_gets_no_leg() {
    struct Stuck;
    impl Supply for Stuck {
        fn track_id(&mut self) -> TrackId {
            TrackId(1)
        }
        fn leg_id(&mut self) -> sluice_engine::ids::LegId {
            sluice_engine::ids::LegId(1)
        }
        fn credentials(&mut self) -> Credentials {
            credentials("stuck")
        }
        fn random(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }
    let mut session = negotiator(Policy::NATIVE);
    session.supply = Box::new(Stuck);
    session.add_track(audio_track(1));
    assert!(session.needs_offer());
    assert!(session.make_offer().is_none());
    assert!(!session.needs_offer(), "an offer that says nothing must not be asked for again");
}
