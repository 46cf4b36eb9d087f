//! Who may offer when: the lock, crossing offers, offers that nobody answers. Sections 3.2, 3.3.

use super::codec::{channel, channel_message};
use super::peer::Peer;
use super::plugin::Plugin;
use super::server::Server;
use super::user::{Options, User};

/// Sends `Lock` and gives the answer.
async fn lock(user: &User) -> bool {
    let before = user.look(|seen| seen.locks.len());
    user.act(|peer| peer.send_channel(&channel_message(channel::LOCK, None)));
    user.wait("an answer to Lock", |seen| seen.locks.len() > before).await;
    user.look(|seen| seen.locks[before])
}

async fn unlock(user: &User) {
    user.act(|peer| peer.send_channel(&channel_message(channel::UNLOCK, None)));
    user.pings().await;
}

/// A client that uses the lock by hand.
const BY_HAND: Options = Options {
    av1: false,
    dc_signaling: false,
    locking: false,
    tcp: false,
    holds_offers: false,
    ignores_locks: true,
    voice_interval: std::time::Duration::from_millis(20),
};

#[tokio::test]
async fn the_lock_is_granted_once_and_again_after_unlock() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ann = User::join_with(&plugin, "call", "ann", BY_HAND).await;
    unlock(&ann).await;
    assert!(lock(&ann).await);
    assert!(!lock(&ann).await);
    unlock(&ann).await;
    assert!(lock(&ann).await);
}

#[tokio::test]
async fn the_lock_of_the_server_is_not_a_clients_to_give_back() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let holding = Options { holds_offers: true, ..BY_HAND };
    let bob = User::join_with(&plugin, "call", "bob", holding).await;
    ann.unmute().await;
    bob.wait("an offer", |seen| seen.offers.len() == 1).await;
    assert!(!lock(&bob).await, "the server's round is under way");
    unlock(&bob).await;
    assert!(!lock(&bob).await, "the lock was the server's");
    bob.act(Peer::release_offer);
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn a_lock_that_is_never_given_back_expires() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join_with(&plugin, "call", "bob", BY_HAND).await;
    assert!(lock(&bob).await);
    ann.unmute().await;
    bob.pings().await;
    assert_eq!(bob.look(|seen| seen.offers.len()), 0, "the client holds the lock");
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn an_offer_waits_until_the_client_gives_the_lock_back() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join_with(&plugin, "call", "bob", BY_HAND).await;
    assert!(lock(&bob).await);
    ann.unmute().await;
    bob.pings().await;
    assert_eq!(bob.look(|seen| seen.offers.len()), 0);
    unlock(&bob).await;
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn an_offer_of_the_client_gives_way_to_one_of_the_server() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    // Without the lock, as clients before plugin 1.7.
    let options = Options { locking: false, holds_offers: true, ..Options::default() };
    let mut bob = User::join_with(&plugin, "call", "bob", options).await;
    ann.unmute().await;
    bob.wait("an offer", |seen| seen.offers.len() == 1).await;
    let stream = bob.next_stream();
    bob.publish(&stream, &[str0m::format::Codec::Opus], false);
    plugin.settle().await;
    bob.pings().await;
    bob.look(|seen| assert_eq!(seen.answers.len(), 1, "the crossing offer gets no answer"));
    bob.act(Peer::release_offer);
    bob.negotiated().await;
    bob.look(|seen| assert_eq!((seen.rollbacks, seen.answers.len()), (1, 2)));
    bob.gets("voice", &ann, 0).await;
    ann.gets("voice", &bob, 0).await;
}

#[tokio::test]
async fn an_offer_without_an_answer_is_made_again() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let options = Options { holds_offers: true, ..Options::default() };
    let bob = User::join_with(&plugin, "call", "bob", options).await;
    ann.unmute().await;
    // The first is let go unanswered: the server gives it ten seconds.
    bob.wait("a second offer", |seen| seen.offers.len() == 2).await;
    bob.act(Peer::release_offer);
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn users_who_all_begin_at_once_hear_each_other() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut users = Vec::new();
    for name in ["ann", "bob", "cyd", "dan", "eve"] {
        let dc_signaling = users.len() % 2 == 0;
        let options = Options { dc_signaling, ..Options::default() };
        users.push(User::join_with(&plugin, "call", name, options).await);
    }
    let mut talking = tokio::task::JoinSet::new();
    for mut user in users {
        talking.spawn(async move {
            user.unmute().await;
            user
        });
    }
    let users = talking.join_all().await;
    for user in &users {
        for other in users.iter().filter(|other| other.session != user.session) {
            user.gets("voice", other, 0).await;
        }
        user.look(|seen| assert_eq!((seen.offers_under_lock, seen.live().count()), (0, 4)));
    }
}
