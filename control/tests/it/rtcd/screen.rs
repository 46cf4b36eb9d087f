//! Screen sharing: the slot, its tracks, key frames, codecs. Sections 3.6, 4.6 to 4.8.

use str0m::format::Codec::{Av1, Opus, Vp8};

use super::peer::now;
use super::plugin::Plugin;
use super::server::Server;
use super::user::{Options, User};

#[tokio::test]
async fn a_call_has_one_screen_at_a_time() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let mut cyd = User::join(&plugin, "call", "cyd").await;

    let screen = ann.share_screen(&[Vp8, Opus], false).await;
    bob.gets("screen", &ann, 0).await;
    bob.gets("screen-audio", &ann, 0).await;

    // The slot is taken: what the second sharer sends goes nowhere, and it cannot free the slot.
    let refused = cyd.share_screen(&[Vp8], false).await;
    cyd.sends(0, 5).await;
    cyd.screen_off();
    cyd.unpublish(&refused).await;
    plugin.settle().await;
    ann.note(1);
    bob.gets("screen", &ann, 1).await;

    ann.stop_screen(&screen).await;
    for user in [&bob, &cyd] {
        user.loses("screen", &ann.session).await;
        user.loses("screen-audio", &ann.session).await;
    }
    let before = |seen: &super::seen::Seen| seen.tracks.iter().any(|t| t.sender == cyd.session);
    assert!(!bob.look(before), "the second screen was forwarded");
    cyd.share_screen(&[Vp8], false).await;
    bob.gets("screen", &cyd, 0).await;
    ann.gets("screen", &cyd, 0).await;
}

#[tokio::test]
async fn a_viewer_who_joins_later_sees_the_screen() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    ann.share_screen(&[Vp8], false).await;
    ann.sends(0, 3).await;
    let bob = User::join(&plugin, "call", "bob").await;
    bob.gets("screen", &ann, 0).await;
    // What the section of a screen says: VP8 with its number, feedback, and the names of 3.5.
    bob.look(|seen| {
        let track = seen.track("screen", &ann.session).expect("it came");
        let section = seen.offers.last().and_then(|offer| offer.section(&track.mid));
        let section = section.expect("it was offered");
        let received = seen.received("screen", &ann.session);
        let (number, _) = received.payload_types.first().copied().expect("packets came");
        assert_eq!((number, section.codec(number)), (96, Some("VP8")));
        for feedback in ["nack", "nack pli", "transport-cc"] {
            let line = format!("rtcp-fb:{number} {feedback}");
            assert!(section.lines.contains(&line), "{line} in {:?}", section.lines);
        }
    });
}

#[tokio::test]
async fn the_slot_is_freed_when_its_owner_leaves() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let mut bob = User::join(&plugin, "call", "bob").await;
    let cyd = User::join(&plugin, "call", "cyd").await;
    ann.share_screen(&[Vp8], false).await;
    bob.gets("screen", &ann, 0).await;
    ann.leave().await;
    bob.loses("screen", &ann.session).await;
    bob.share_screen(&[Vp8], false).await;
    cyd.gets("screen", &bob, 0).await;
}

#[tokio::test]
async fn many_wishes_for_a_key_frame_become_one_a_second() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let mut viewers = Vec::new();
    for name in ["bob", "cyd", "dan", "eve", "fay", "gus"] {
        viewers.push(User::join(&plugin, "call", name).await);
    }
    let begin = now();
    ann.share_screen(&[Vp8], false).await;
    for viewer in &viewers {
        viewer.gets("screen", &ann, 0).await;
    }
    ann.wait("a wish for a key frame", |seen| !seen.keyframe_requests.is_empty()).await;
    ann.pings().await;
    let asked: usize = ann.look(|seen| seen.keyframe_requests.values().sum());
    let most = 1 + begin.elapsed().as_secs() as usize;
    assert!(asked <= most, "{asked} wishes reached the publisher, {most} may have");
}

#[tokio::test]
async fn av1_goes_between_those_who_support_it_and_vp8_to_the_rest() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let with_av1 = Options { av1: true, ..Options::default() };
    let mut ann = User::join_with(&plugin, "call", "ann", with_av1).await;
    let bob = User::join_with(&plugin, "call", "bob", with_av1).await;
    let cyd = User::join(&plugin, "call", "cyd").await;
    ann.share_screen(&[Vp8, Av1], false).await;
    // VP8 may be shown until AV1 has come, and then no more.
    let codecs = |seen: &super::seen::Seen, note: u8| -> Vec<String> {
        let Some(track) = seen.track("screen", &ann.session) else { return Vec::new() };
        let section = seen.offers.last().and_then(|offer| offer.section(&track.mid));
        let numbers = seen.received("screen", &ann.session).payload_types;
        let of_note = numbers.iter().filter(|(_, of)| *of == note);
        of_note.filter_map(|(n, _)| Some(section?.codec(*n)?.to_owned())).collect()
    };
    bob.wait("AV1", |seen| codecs(seen, 0).iter().any(|codec| codec == "AV1")).await;
    cyd.gets("screen", &ann, 0).await;
    ann.note(1);
    for (viewer, codec) in [(&bob, "AV1"), (&cyd, "VP8")] {
        viewer.gets("screen", &ann, 1).await;
        ann.sends(1, 40).await;
        viewer.look(|seen| {
            assert_eq!(seen.live().count(), 1, "one of the two: {:?}", seen.tracks);
            assert_eq!(codecs(seen, 1), [codec], "{}", viewer.session);
        });
    }
}

#[tokio::test]
async fn a_publisher_without_av1_is_seen_by_those_who_support_it() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let with_av1 = Options { av1: true, ..Options::default() };
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join_with(&plugin, "call", "bob", with_av1).await;
    ann.share_screen(&[Vp8], false).await;
    bob.gets("screen", &ann, 0).await;
}
