//! Cameras: tracks come before the message that says what they are. Sections 3.6, 4.7.

use str0m::format::Codec::{Opus, Vp8};

use super::plugin::Plugin;
use super::server::Server;
use super::user::User;

#[tokio::test]
async fn a_camera_waits_for_its_message() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let stream = ann.next_stream();
    ann.publish(&stream, &[Vp8], false);
    ann.negotiated().await;
    ann.sends(0, 5).await;
    bob.pings().await;
    bob.look(|seen| assert!(seen.tracks.is_empty(), "nobody said what it is: {:?}", seen.tracks));
    ann.video_on(&stream);
    bob.gets("video", &ann, 0).await;
}

#[tokio::test]
async fn both_cameras_of_a_conversation_are_seen_and_can_pause() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let mut bob = User::join(&plugin, "call", "bob").await;
    let stream = ann.camera_on().await;
    bob.camera_on().await;
    ann.gets("video", &bob, 0).await;
    bob.gets("video", &ann, 0).await;
    let offers = bob.look(|seen| seen.offers.len());

    // Off is replaceTrack(null) and VideoOff; on again names a stream that no description knows (3.6).
    let sending = |user: &User, stream: &str, on: bool| {
        let stream = stream.to_owned();
        user.act(move |peer| {
            let of_stream = peer.published.iter_mut().filter(|p| p.stream == stream);
            of_stream.for_each(|p| p.sending = on);
        });
    };
    sending(&ann, &stream, false);
    ann.video_off();
    ann.note(1);
    let again = ann.next_stream();
    sending(&ann, &stream, true);
    ann.video_on(&again);
    bob.gets("video", &ann, 1).await;
    bob.look(|seen| assert_eq!(seen.offers.len(), offers, "no negotiation"));
}

#[tokio::test]
async fn video_that_nobody_declared_is_never_forwarded() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let mut cyd = User::join(&plugin, "call", "cyd").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let stream = cyd.next_stream();
    cyd.publish(&stream, &[Vp8], false);
    cyd.negotiated().await;
    cyd.video_on("another-stream");
    cyd.sends(0, 20).await;
    ann.camera_on().await;
    bob.gets("video", &ann, 0).await;
    bob.look(|seen| {
        assert!(seen.tracks.iter().all(|track| track.sender == ann.session), "{:?}", seen.tracks);
    });
}

#[tokio::test]
async fn a_camera_and_a_microphone_of_one_user_share_a_stream() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.camera_on().await;
    ann.unmute().await;
    let screen = ann.share_screen(&[Vp8, Opus], false).await;
    for kind in ["video", "voice", "screen", "screen-audio"] {
        bob.gets(kind, &ann, 0).await;
    }
    ann.stop_screen(&screen).await;
    bob.loses("screen", &ann.session).await;
    ann.note(1);
    bob.gets("voice", &ann, 1).await;
    bob.gets("video", &ann, 1).await;
}
