//! WebSockets come and go, sessions stay. Section 2.7.

use super::plugin::{Account, Plugin};
use super::server::Server;
use super::user::User;

#[tokio::test]
async fn a_new_connection_serves_the_sessions_of_the_one_before_it() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;

    let before = plugin.look(|seen| seen.connection().map(str::to_owned));
    plugin.cut().await;
    ann.note(1);
    bob.gets("voice", &ann, 1).await;
    plugin.open().await;
    assert_ne!(plugin.look(|seen| seen.connection().map(str::to_owned)), before);

    // No `reconnect` was sent: plugins send none for their own connection.
    let mut cyd = User::join(&plugin, "call", "cyd").await;
    cyd.unmute().await;
    ann.gets("voice", &cyd, 0).await;
    bob.gets("voice", &cyd, 0).await;
    ann.leave().await;
}

#[tokio::test]
async fn reconnect_moves_a_session_to_the_node_that_says_so() {
    let server = Server::start().await;
    let account = Account::register(&server, "clienta").await;
    let first = Plugin::connect(&account).await;
    let second = Plugin::connect(&account).await;
    let mut ann = User::join(&first, "call", "ann").await;
    let mut bob = User::join(&first, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;

    bob.reconnect(&second);
    second.settle().await;
    let mut cyd = User::join(&first, "call", "cyd").await;
    cyd.unmute().await;
    bob.gets("voice", &cyd, 0).await;
    bob.unmute().await;
    ann.gets("voice", &bob, 0).await;
    bob.leave().await;
    first.settle().await;
    first.look(|seen| {
        assert!(seen.strays.is_empty(), "to the wrong node: {:?}", seen.strays);
        assert!(!seen.closed(&bob.session));
    });
}

#[tokio::test]
async fn a_session_whose_node_is_gone_is_served_through_another() {
    let server = Server::start().await;
    let account = Account::register(&server, "clienta").await;
    let first = Plugin::connect(&account).await;
    let second = Plugin::connect(&account).await;
    let mut ann = User::join(&second, "call", "ann").await;
    let mut bob = User::join(&first, "call", "bob").await;
    first.cut().await;
    bob.move_to(&second);
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    bob.leave().await;
}

#[tokio::test]
async fn connections_of_one_client_serve_their_own_sessions() {
    let server = Server::start().await;
    let account = Account::register(&server, "clienta").await;
    let mut nodes = Vec::new();
    let mut users = Vec::new();
    for name in ["ann", "bob", "cyd", "dan"] {
        let node = Plugin::connect(&account).await;
        users.push(User::join(&node, "call", name).await);
        nodes.push(node);
    }
    for user in &mut users {
        user.unmute().await;
    }
    for user in &users {
        for other in users.iter().filter(|other| other.session != user.session) {
            user.gets("voice", other, 0).await;
        }
    }
    for (node, user) in nodes.iter().zip(&users) {
        user.leave().await;
        node.look(|seen| assert!(seen.strays.is_empty(), "{:?}", seen.strays));
    }
}

#[tokio::test]
async fn a_session_can_end_while_its_plugin_is_away() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    plugin.cut().await;
    ann.act(super::peer::Peer::close);
    ann.wait("the end", |seen| seen.ended).await;
    plugin.open().await;
    bob.pings().await;
    let again = User::join(&plugin, "call", "ann2").await;
    again.leave().await;
}
