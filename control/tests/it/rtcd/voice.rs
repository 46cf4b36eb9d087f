//! Mute, unmute and voice activity. Sections 3.6, 4.6, 4.10.

use super::codec::kind;
use super::plugin::Plugin;
use super::publication::Sound;
use super::server::Server;
use super::user::User;

#[tokio::test]
async fn nothing_of_a_muted_user_is_forwarded() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    let offers = bob.look(|seen| seen.offers.len());

    // This client goes on sending after Mute: it is the server that keeps quiet.
    plugin.rtc(&ann.session, kind::MUTE, &[]);
    let off = |seen: &super::plugin::Seen| seen.voice_activity(&ann.session).last() == Some(&8);
    plugin.wait("voice off at Mute", off).await;
    ann.note(1);
    ann.sends(1, 20).await;
    ann.note(2);
    ann.sends(2, 1).await;
    ann.unmute().await;
    bob.gets("voice", &ann, 2).await;
    assert_eq!(bob.packets_of(&ann, 1), 0, "packets of a muted session are dropped");

    // What clients do: no packets, and no negotiation when they come back.
    ann.mute();
    ann.note(3);
    ann.unmute().await;
    bob.gets("voice", &ann, 3).await;
    bob.look(|seen| {
        assert_eq!(seen.offers.len(), offers);
        assert_eq!(seen.received("voice", &ann.session).ssrcs.len(), 1);
    });
}

#[tokio::test]
async fn every_mute_says_that_the_voice_is_off() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    // Before there is a voice track it means nothing.
    plugin.rtc(&ann.session, kind::MUTE, &[]);
    ann.unmute().await;
    ann.sound(Sound::Silence);
    bob.gets("voice", &ann, 0).await;
    for _ in 0..3 {
        ann.mute();
        ann.unmute().await;
    }
    let offs = |seen: &super::plugin::Seen| {
        let kinds = seen.voice_activity(&ann.session);
        kinds.iter().filter(|kind| **kind == kind::VOICE_OFF).count()
    };
    plugin.wait("three times off", |seen| offs(seen) >= 3).await;
    plugin.settle().await;
    plugin.look(|seen| {
        assert_eq!(offs(seen), 3);
        assert!(seen.voice_activity(&bob.session).is_empty());
    });
}

#[tokio::test]
async fn speech_and_silence_after_it_are_reported() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    ann.unmute().await;
    plugin.wait("voice on", |seen| seen.voice_activity(&ann.session) == [kind::VOICE_ON]).await;
    ann.sound(Sound::Silence);
    let both = [kind::VOICE_ON, kind::VOICE_OFF];
    plugin.wait("voice off", |seen| seen.voice_activity(&ann.session) == both).await;
    ann.sound(Sound::Speech);
    let again = [kind::VOICE_ON, kind::VOICE_OFF, kind::VOICE_ON];
    plugin.wait("voice on again", |seen| seen.voice_activity(&ann.session) == again).await;
    plugin.look(|seen| {
        let signal = seen.log.iter().find_map(|message| match message {
            super::codec::FromServer::Vad(signal) => Some(signal.clone()),
            _ => None,
        });
        let signal = signal.expect("there were some");
        assert_eq!((signal.group.as_str(), signal.call.as_str()), ("clienta", "call"));
        assert_eq!((signal.user.as_str(), signal.data.len()), ("ann", 0));
    });
}

#[tokio::test]
async fn who_joins_later_hears_who_talks_already() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    ann.unmute().await;
    let elsewhere = User::join(&plugin, "other", "eve").await;
    let bob = User::join(&plugin, "call", "bob").await;
    bob.gets("voice", &ann, 0).await;
    elsewhere.pings().await;
    elsewhere.look(|seen| assert!(seen.offers.is_empty(), "calls do not mix"));
}
