//! Sessions end, and leave nothing behind. Section 4.5.

use str0m::format::Codec::Vp8;

use super::peer::Peer;
use super::plugin::Plugin;
use super::server::Server;
use super::user::User;

#[tokio::test]
async fn who_leaves_is_closed_and_taken_out_of_the_call() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    ann.share_screen(&[Vp8], false).await;
    bob.gets("voice", &ann, 0).await;
    bob.gets("screen", &ann, 0).await;
    ann.leave().await;
    bob.loses("voice", &ann.session).await;
    bob.loses("screen", &ann.session).await;
    bob.look(|seen| assert!(seen.media_map.is_empty(), "{:?}", seen.media_map));
    let left = plugin.account().sessions("call", None).await.json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    bob.leave().await;
    let gone = plugin.account().sessions("call", None).await;
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[tokio::test]
async fn a_peer_connection_that_is_closed_ends_its_session() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    ann.act(Peer::close);
    ann.closed().await;
    bob.loses("voice", &ann.session).await;
}

#[tokio::test]
async fn the_same_session_id_can_join_again_after_its_close() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let bob = User::join(&plugin, "call", "bob").await;
    User::join(&plugin, "call", "ann").await.leave().await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn descriptions_do_not_grow_as_people_come_and_go() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let size = || bob.look(|seen| seen.offers.last().map(|o| (o.sections.len(), o.length)));
    let mut after_two = None;
    for round in 0..20 {
        let mut guest = User::join(&plugin, "call", &format!("guest{round}x")).await;
        guest.unmute().await;
        guest.share_screen(&[Vp8], false).await;
        bob.gets("voice", &guest, 0).await;
        bob.gets("screen", &guest, 0).await;
        guest.leave().await;
        bob.loses("voice", &guest.session).await;
        bob.loses("screen", &guest.session).await;
        if round == 1 {
            after_two = size();
        }
    }
    let (sections, length) = size().expect("there were offers");
    let (sections_before, length_before) = after_two.expect("there were two rounds");
    assert_eq!(sections, sections_before);
    // Numbers in it (o= version, SSRCs) may have more digits.
    assert!(length < length_before + 100, "{length_before} bytes became {length}");
}

#[tokio::test]
async fn one_who_comes_back_often_does_not_make_the_descriptions_of_others_grow() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    let sections = || bob.look(|seen| seen.offers.last().map(|offer| offer.sections.len()));
    let mut first = None;
    for _ in 0..5 {
        let screen = ann.share_screen(&[Vp8], false).await;
        bob.gets("screen", &ann, 0).await;
        ann.stop_screen(&screen).await;
        bob.loses("screen", &ann.session).await;
        first = first.or(sections());
    }
    assert_eq!(sections(), first);
}
