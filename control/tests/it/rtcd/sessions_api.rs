//! What a plugin asks about the sessions of a call. Section 1.7.

use serde_json::json;

use super::http::bearer;
use super::plugin::{Account, Plugin};
use super::server::Server;
use super::user::{Options, User};

#[tokio::test]
async fn sessions_are_listed_with_what_they_joined_with() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let account = plugin.account().clone();
    let options = Options { av1: true, dc_signaling: true, ..Options::default() };
    let ann = User::join_with(&plugin, "call", "ann", options).await;
    let bob = User::join(&plugin, "call", "bob").await;
    let expected = |user: &User, name: &str, support: bool| {
        json!({
            "GroupID": "clienta", "CallID": "call", "UserID": name, "SessionID": user.session,
            "Props": {
                "channelID": "channel-of-call", "av1Support": support, "dcSignaling": support,
            },
        })
    };
    let one = account.sessions("call", Some(&ann.session)).await;
    assert_eq!((one.status, one.json()), (200, expected(&ann, "ann", true)));
    assert!(one.head.to_lowercase().contains("content-type: application/json"), "{}", one.head);
    let all = account.sessions("call", None).await.json();
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 2);
    assert!(all.contains(&expected(&ann, "ann", true)), "{all:?}");
    assert!(all.contains(&expected(&bob, "bob", false)), "{all:?}");
    let path = format!("/calls/call/sessions/{}", bob.session);
    let by_token = server.get(&path, &[bearer(&account.login().await)]).await;
    assert_eq!(by_token.json(), expected(&bob, "bob", false));

    let texts = [
        (account.sessions("nowhere", None).await, "failed to get session configs: call not found"),
        (
            account.sessions("nowhere", Some("nobody")).await,
            "failed to get session config: call not found",
        ),
        (
            account.sessions("call", Some("nobody")).await,
            "failed to get session config: session not found",
        ),
    ];
    for (answer, text) in texts {
        assert_eq!((answer.status, answer.body.trim_end()), (404, text), "{answer:?}");
    }
    let stranger = Account::register(&server, "stranger").await;
    let answer = stranger.sessions("call", None).await;
    let text = "failed to get session configs: group not found";
    assert_eq!((answer.status, answer.body.trim_end()), (404, text));
    let nobody = server.get("/calls/call/sessions", &[]).await;
    assert_eq!((nobody.status, nobody.body.trim_end()), (401, "unauthorized"));
}
