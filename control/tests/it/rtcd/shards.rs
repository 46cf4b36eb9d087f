//! Users of one call on several shards: they notice nothing of it.

use str0m::format::Codec::Vp8;

use super::codec::kind;
use super::plugin::Plugin;
use super::server::Server;
use super::user::User;

/// Every second user is on another shard than the first.
const SPREAD: [(&str, &str); 2] =
    [("SLUICE_ENGINE_SHARDS", "2"), ("SLUICE_ENGINE_CALL_SESSIONS_PER_SHARD", "1")];

async fn four_users(plugin: &Plugin) -> [User; 4] {
    [
        User::join(plugin, "call", "ann").await,
        User::join(plugin, "call", "bob").await,
        User::join(plugin, "call", "cyd").await,
        User::join(plugin, "call", "dan").await,
    ]
}

/// A shard's value of a metric.
async fn metric(server: &Server, name: &str, shard: u16) -> u64 {
    let metrics = server.get("/metrics", &[]).await.body;
    let start = format!("{name}{{shard=\"{shard}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("no {start} in {metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn everyone_hears_everyone_and_mutes_and_leavers_are_known_everywhere() {
    let server = Server::start_with(&SPREAD).await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut users = four_users(&plugin).await;
    for user in &mut users {
        user.unmute().await;
    }
    for user in &users {
        for other in users.iter().filter(|other| other.session != user.session) {
            user.gets("voice", other, 0).await;
        }
    }
    for shard in 0..2 {
        assert_eq!(metric(&server, "sluice_shard_sessions", shard).await, 2, "shard {shard}");
        assert!(metric(&server, "sluice_shard_relayed_in_total", shard).await > 0);
    }

    let [ann, bob, cyd, dan] = &mut users;
    plugin.rtc(&bob.session, kind::MUTE, &[]);
    let off = |seen: &super::plugin::Seen| seen.voice_activity(&bob.session).last() == Some(&8);
    plugin.wait("voice off at Mute", off).await;
    bob.note(1);
    bob.sends(1, 20).await;
    bob.note(2);
    bob.sends(2, 1).await;
    bob.unmute().await;
    for other in [&*ann, &*cyd, &*dan] {
        other.gets("voice", bob, 2).await;
        assert_eq!(other.packets_of(bob, 1), 0, "packets of a muted session are dropped");
    }

    bob.leave().await;
    for other in [&*ann, &*cyd, &*dan] {
        other.loses("voice", &bob.session).await;
    }
    cyd.note(3);
    dan.note(3);
    ann.gets("voice", dan, 3).await;
    dan.gets("voice", cyd, 3).await;
    ann.leave().await;
    cyd.leave().await;
    dan.leave().await;
}

#[tokio::test]
async fn a_screen_in_two_layers_reaches_viewers_of_another_shard() {
    let server = Server::start_with(&SPREAD).await;
    let plugin = Plugin::new(&server, "clienta").await;
    let [mut ann, bob, cyd, dan] = four_users(&plugin).await;
    let stream = ann.share_screen(&[Vp8], true).await;
    for viewer in [&bob, &cyd, &dan] {
        viewer.gets("screen", &ann, 0).await;
        let screen = |seen: &super::seen::Seen| seen.received("screen", &ann.session);
        viewer.wait("the high layer", |seen| screen(seen).count(|stamp| stamp.high) > 5).await;
        viewer.look(|seen| {
            let received = screen(seen);
            assert_eq!(received.ssrcs.len(), 1, "one stream: {received:?}");
            assert!(received.switches.iter().all(|key_frame| *key_frame), "{received:?}");
        });
    }
    ann.stop_screen(&stream).await;
    for viewer in [&bob, &cyd, &dan] {
        viewer.loses("screen", &ann.session).await;
    }
}
