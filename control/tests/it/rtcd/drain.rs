//! SIGTERM: no new sessions, and an end when the last has left. Section 4.5, and better: joins are refused.

use super::plugin::Plugin;
use super::server::Server;
use super::user::{Options, User, session_of};

#[tokio::test]
async fn a_running_call_goes_on_until_the_last_has_left() {
    let mut server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let mut bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    assert_eq!(server.get("/readyz", &[]).await.status, 200);

    server.terminate().await;
    while server.get("/readyz", &[]).await.status == 200 {
        tokio::task::yield_now().await;
    }
    let cyd = User::begin(&plugin, "call", "cyd", Options::default()).await;
    // Messages of a connection are handled in their order: with bob's offer answered, cyd's join was looked at.
    bob.unmute().await;
    ann.gets("voice", &bob, 0).await;
    assert_eq!(plugin.account().sessions("call", Some(&session_of("cyd"))).await.status, 404);
    cyd.look(|seen| assert!(seen.answers.is_empty(), "nobody joins a server that drains"));

    assert!(!server.has_ended());
    ann.leave().await;
    bob.note(1);
    bob.leave().await;
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_sessions_and_says_so() {
    let mut server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ann = User::join(&plugin, "call", "ann").await;
    server.terminate().await;
    while server.get("/readyz", &[]).await.status == 200 {
        tokio::task::yield_now().await;
    }
    server.terminate().await;
    plugin.wait("the end of the connection", |seen| !seen.open).await;
    assert!(plugin.look(|seen| seen.closed(&ann.session)), "ann's plugin is told before");
    assert_eq!(server.ended().await.code(), Some(130));
}

#[tokio::test]
async fn a_server_without_sessions_ends_at_once() {
    let mut server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    User::join(&plugin, "call", "ann").await.leave().await;
    server.terminate().await;
    assert_eq!(server.ended().await.code(), Some(0));
    plugin.wait("the end of the connection", |seen| !seen.open).await;
}
