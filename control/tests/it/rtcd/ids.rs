//! Ids that are missing, wrong, taken, or somebody else's. Sections 2.3, 2.4, 2.7.

use rmpv::Value;

use super::codec::{kind, map, message};
use super::http::basic;
use super::plugin::{Account, Plugin};
use super::server::Server;
use super::user::{User, session_of};

#[tokio::test]
async fn a_join_needs_all_of_its_ids_as_strings() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ids = [("callID", "call"), ("userID", "ann"), ("sessionID", "session")];
    for (wrong, _) in ids {
        let kept = |(key, value): &(&'static str, &str)| (*key, Value::from(*value));
        let without: Vec<_> = ids.iter().filter(|(key, _)| *key != wrong).map(kept).collect();
        for value in [None, Some(""), Some("binary")] {
            let mut pairs = without.clone();
            pairs.extend(value.map(|value| match value {
                "" => (wrong, Value::from("")),
                bytes => (wrong, Value::Binary(bytes.as_bytes().to_vec())),
            }));
            plugin.send(message("join", &map(&pairs)));
        }
    }
    plugin.settle().await;
    let answer = plugin.account().sessions("call", None).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    User::join(&plugin, "call", "ann").await;
}

#[tokio::test]
async fn a_session_id_is_taken_once() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    plugin.join("call", "somebody", &ann.session, [true; 2]);
    plugin.settle().await;
    let session = plugin.account().sessions("call", Some(&ann.session)).await.json();
    assert_eq!(
        (&session["UserID"], &session["Props"]["av1Support"]),
        (&"ann".into(), &false.into())
    );
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
    assert!(!plugin.look(|seen| seen.closed(&ann.session)));
}

#[tokio::test]
async fn messages_for_unknown_sessions_are_passed_over() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    for kind in 0..12 {
        plugin.rtc("nobody", kind, b"{}");
    }
    plugin.rtc("", kind::MUTE, &[]);
    plugin.rtc(&ann.session, 0, &[]);
    plugin.leave("nobody");
    plugin.reconnect("nobody");
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;
}

#[tokio::test]
async fn a_client_acts_on_its_own_sessions_only() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let stranger = Plugin::new(&server, "stranger").await;
    let mut ann = User::join(&plugin, "call", "ann").await;
    let bob = User::join(&plugin, "call", "bob").await;
    ann.unmute().await;
    bob.gets("voice", &ann, 0).await;

    for session in [&ann.session, &bob.session] {
        stranger.reconnect(session);
        stranger.rtc(session, kind::MUTE, &[]);
        let offer = br#"{"type": "offer", "sdp": "v=0\r\n"}"#;
        stranger.rtc(session, kind::SDP, offer);
        stranger.rtc(session, kind::SCREEN_ON, br#"{"screenStreamID": "theirs"}"#);
        stranger.leave(session);
    }
    // The same names with another client are another call.
    let other = User::join(&stranger, "call", "eve").await;
    assert_eq!(stranger.account().sessions("call", Some(&ann.session)).await.status, 404);
    assert_eq!(plugin.account().sessions("call", Some(&other.session)).await.status, 404);

    ann.note(1);
    bob.gets("voice", &ann, 1).await;
    let mut cyd = User::join(&plugin, "call", "cyd").await;
    cyd.unmute().await;
    bob.gets("voice", &cyd, 0).await;
    ann.leave().await;
    other.look(|seen| assert!(seen.offers.is_empty()));
    stranger.look(|seen| {
        assert!(seen.strays.is_empty(), "messages went astray: {:?}", seen.strays);
        assert!(seen.log.iter().all(|message| message.session() != Some(&ann.session)));
    });
}

#[tokio::test]
async fn two_clients_may_use_the_same_session_id() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let other = Plugin::new(&server, "clientb").await;
    let ann = User::join(&plugin, "call", "ann").await;
    let theirs = User::join(&other, "call", "ann").await;
    theirs.leave().await;
    ann.pings().await;
    assert!(!plugin.look(|seen| seen.closed(&ann.session)));
    ann.leave().await;
}

#[tokio::test]
async fn an_admin_may_connect_and_join_nothing() {
    let secret = "an-admin-secret-of-some-length-0";
    let server = Server::start_with(&[
        ("RTCD_API_SECURITY_ENABLEADMIN", "true"),
        ("RTCD_API_SECURITY_ADMINSECRETKEY", secret),
    ])
    .await;
    // The name is not looked at; `hello` says that the client is nobody.
    let account = Account { server: server.http, client: String::new(), key: secret.to_owned() };
    let admin = Plugin::connect_with(&account, basic("anybody", secret)).await;
    admin.join("call", "ann", &session_of("ann"), [false; 2]);
    let sessions = server.get("/calls/call/sessions", &[basic("anybody", secret)]).await;
    assert_eq!((sessions.status, sessions.body.trim_end()), (401, "unauthorized"));

    // Others are served as ever.
    let plugin = Plugin::new(&server, "clienta").await;
    User::join(&plugin, "call", "ann").await.leave().await;
    admin.look(|seen| assert_eq!(seen.log.len(), 1, "{:?}", seen.log));
}
