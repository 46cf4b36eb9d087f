//! Simulcast of the screen: one stream per viewer, whose layer changes in place. Section 4.9.

use str0m::format::Codec::Vp8;

use super::plugin::Plugin;
use super::server::Server;
use super::user::User;

#[tokio::test]
async fn a_viewer_begins_low_and_goes_up_in_place() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.share_screen(&[Vp8], true).await;
    ann.look(|seen| {
        let section = seen.answers.last().expect("it was answered").sections.last();
        let lines = &section.expect("the screen's").lines;
        for line in ["rid:l recv", "rid:h recv", "simulcast:recv l;h"] {
            assert!(lines.iter().any(|l| l.starts_with(line)), "{line} in {lines:?}");
        }
    });
    bob.gets("screen", &ann, 0).await;
    let offers = bob.look(|seen| seen.offers.len());
    let screen = |seen: &super::seen::Seen| seen.received("screen", &ann.session);
    bob.wait("the low layer", |seen| screen(seen).count(|stamp| !stamp.high) > 0).await;
    bob.wait("the high layer", |seen| screen(seen).count(|stamp| stamp.high) > 5).await;
    bob.look(|seen| {
        let received = screen(seen);
        assert_eq!(received.ssrcs.len(), 1, "one stream: {received:?}");
        assert_eq!(seen.offers.len(), offers, "without a negotiation");
        assert!(received.switches.iter().all(|key_frame| *key_frame), "{received:?}");
    });

    // Who joins later begins with the low layer, whatever the others get.
    let cyd = User::join(&plugin, "call", "cyd").await;
    cyd.gets("screen", &ann, 0).await;
    cyd.look(|seen| {
        let received = screen(seen);
        assert!(received.count(|stamp| !stamp.high) > 0, "{received:?}");
        assert!(received.switches.len() <= 1, "{received:?}");
    });
}
