//! Large calls: a joiner is not kept waiting. Sections 3.2, 4.5.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::plugin::Plugin;
use super::server::Server;
use super::user::{Options, User};

const PUBLISHERS: usize = 49;

#[tokio::test]
async fn a_joiner_is_offered_49_voices_in_at_most_two_rounds() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    // Their voices come seldom, so that a small host carries the 2352 streams between them.
    let options = Options {
        dc_signaling: true,
        voice_interval: Duration::from_secs(1),
        ..Options::default()
    };
    let mut joining = JoinSet::new();
    for number in 0..PUBLISHERS {
        let plugin = plugin.clone();
        joining.spawn(async move {
            User::join_with(&plugin, "call", &format!("user{number}x"), options).await
        });
    }
    let mut talking = JoinSet::new();
    for mut user in joining.join_all().await {
        talking.spawn(async move {
            user.unmute().await;
            user.sends(0, 1).await;
            user
        });
    }
    let publishers = talking.join_all().await;

    let joiner = User::join(&plugin, "call", "joiner").await;
    joiner.wait("49 voices", |seen| seen.live().count() == PUBLISHERS).await;
    joiner.look(|seen| {
        assert!(seen.offers.len() <= 2, "{} rounds", seen.offers.len());
        let senders: BTreeSet<_> = seen.live().map(|track| &track.sender).collect();
        assert_eq!(senders.len(), PUBLISHERS);
        let length = seen.offers.last().expect("there was one").length;
        assert!(length < 64 << 10, "plugins inflate at most 64 KiB: {length}");
    });
    for user in &publishers {
        joiner.gets("voice", user, 0).await;
    }
}
