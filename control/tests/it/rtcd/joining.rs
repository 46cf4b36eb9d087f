//! A user joins: first offer, candidates, data channel, media. Sections 3.1, 3.4.

use rmpv::Value;
use tokio_tungstenite::tungstenite::Message;

use super::codec::{channel, channel_message, kind};
use super::http::{basic, bearer};
use super::plugin::{Account, Plugin, open_socket};
use super::server::Server;
use super::user::{Options, User, session_of};

/// Two users talk.
async fn talk(options: Options) -> (Server, User, User) {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let mut ann = User::join_with(&plugin, "call", "ann", options).await;
    let mut bob = User::join_with(&plugin, "call", "bob", options).await;
    ann.unmute().await;
    bob.unmute().await;
    ann.gets("voice", &bob, 0).await;
    bob.gets("voice", &ann, 0).await;
    (server, ann, bob)
}

#[tokio::test]
async fn two_users_hear_each_other() {
    let (_server, ann, bob) = talk(Options::default()).await;
    for user in [&ann, &bob] {
        user.look(|seen| {
            let lines = &seen.answers[0].sections[0].lines;
            assert_eq!(
                seen.answers[0].sections.len(),
                1,
                "the first answer is for the channel alone"
            );
            assert!(lines.iter().any(|line| line == "sctp-port:5000"), "{lines:?}");
            let host = |candidate: &String| candidate.contains(" typ host");
            assert!(!seen.candidates.is_empty() && seen.candidates.iter().all(host));
            let of = |protocol| seen.candidates.iter().any(|c| c.to_lowercase().contains(protocol));
            assert!(of(" udp ") && of("tcptype passive"), "{:?}", seen.candidates);
            assert_eq!(seen.live().count(), 1, "nobody hears themselves: {:?}", seen.tracks);
            assert_eq!(seen.offers_under_lock, 0);
            assert!(seen.locks.iter().any(|granted| *granted), "the lock was taken to unmute");
            let received = seen.received.values().next().expect("there is one section");
            assert_eq!(received.ssrcs.len(), 1);
            assert_eq!(received.payload_types.iter().collect::<Vec<_>>(), [&(111, 0)]);
        });
    }
}

#[tokio::test]
async fn two_users_hear_each_other_over_tcp() {
    talk(Options { tcp: true, ..Options::default() }).await;
}

#[tokio::test]
async fn later_descriptions_go_over_the_data_channel_when_the_join_says_so() {
    let (_server, ann, bob) = talk(Options { dc_signaling: true, ..Options::default() }).await;
    for user in [&ann, &bob] {
        user.look(|seen| {
            assert!(!seen.answers[0].by_channel && seen.answers[1..].iter().all(|a| a.by_channel));
            assert!(!seen.offers.is_empty() && seen.offers.iter().all(|offer| offer.by_channel));
        });
    }
}

#[tokio::test]
async fn old_clients_that_take_no_lock_are_served() {
    talk(Options { locking: false, ..Options::default() }).await;
}

#[tokio::test]
async fn media_goes_on_over_an_ice_restart() {
    let (_server, ann, bob) = talk(Options::default()).await;
    let password = |user: &User| {
        user.look(|seen| {
            let lines = seen.answers.last().map(|answer| answer.sections[0].lines.clone());
            lines.into_iter().flatten().find(|line| line.starts_with("ice-pwd:"))
        })
    };
    let before = password(&ann);
    ann.restart_ice().await;
    assert_ne!(password(&ann), before, "RFC 8445 section 9: a restart changes the credentials");
    ann.note(1);
    bob.note(1);
    bob.gets("voice", &ann, 1).await;
    ann.gets("voice", &bob, 1).await;
}

#[tokio::test]
async fn pings_are_answered_in_both_their_forms() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ann = User::join(&plugin, "call", "ann").await;
    ann.pings().await;
    // The type in two bytes, as the Go client writes it.
    ann.act(|peer| peer.send_channel(&[0xcc, 0x01]));
    ann.wait("a second pong", |seen| seen.pongs == 2).await;
    ann.act(|peer| peer.send_channel_as(false, b"ping"));
    ann.act(|peer| peer.send_channel_as(true, b"ping"));
    ann.wait("both pongs in text", |seen| seen.texts == ["pong", "pong"]).await;
    ann.report_figures();
    let metrics = async || server.get("/metrics", &[]).await.body;
    ann.pings().await;
    let metrics = metrics().await;
    for name in ["loss_rate", "rtt", "jitter"] {
        let count = format!("rtcd_rtc_client_{name}_count{{groupID=\"clienta\"}} 1");
        assert!(metrics.contains(&count), "{count} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn a_session_that_never_offers_is_closed() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let session = session_of("ann");
    let (route, mut signals) = tokio::sync::mpsc::unbounded_channel();
    plugin.route(&session, &route);
    plugin.join("call", "ann", &session, [false; 2]);
    plugin.wait("the close after ten seconds", |seen| seen.closed(&session)).await;
    assert_eq!(plugin.account().sessions("call", None).await.status, 404);
    assert!(signals.try_recv().is_err(), "nothing is said to who has not offered");
}

#[tokio::test]
async fn a_first_offer_that_is_none_closes_the_session() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let session = session_of("ann");
    plugin.join("call", "ann", &session, [false; 2]);
    let offer = br#"{"type": "offer", "sdp": "v=0\r\nthis is none\r\n"}"#;
    plugin.rtc(&session, kind::SDP, offer);
    plugin.wait("the close", |seen| seen.closed(&session)).await;
}

#[tokio::test]
async fn a_registration_outlives_the_server_and_ends_when_it_is_taken_back() {
    let mut server = Server::start().await;
    let account = Account::register(&server, "clienta").await;
    let body = format!(r#"{{"clientID": "clienta", "authKey": "{}"}}"#, account.key);
    let again = server.post("/register", &[], &body).await;
    assert_eq!(again.status, 400);
    assert_eq!(again.json()["error"], "registration failed: already registered");

    let token = account.login().await;
    let by_token = Plugin::connect_with(&account, bearer(&token)).await;
    let newer = account.login().await;
    let old_token = open_socket(server.http, &bearer(&token)).await.err();
    assert_eq!(old_token, Some(401), "a login ends the token before it");
    Plugin::connect_with(&account, bearer(&newer)).await;
    assert!(by_token.look(|seen| seen.open), "an open connection is not asked again");

    server.restart().await;
    let plugin = Plugin::connect(&account).await;
    assert_eq!(open_socket(server.http, &bearer(&newer)).await.err(), Some(401));
    let wrong = basic("clienta", &"x".repeat(32));
    assert_eq!(open_socket(server.http, &wrong).await.err(), Some(401));
    assert_eq!(account.unregister().await.status, 200);
    assert_eq!(open_socket(server.http, &account.basic()).await.err(), Some(401));
    plugin.send_message(Message::Ping(Vec::new().into()));
}

#[tokio::test]
async fn a_plugin_is_told_version_and_load() {
    let server = Server::start().await;
    let version = server.get("/version", &[]).await.json();
    for key in ["buildDate", "buildVersion", "buildHash", "goVersion", "goOS", "goArch"] {
        assert!(version[key].is_string(), "{key} in {version}");
    }
    let build = version["buildVersion"].as_str().expect("text");
    assert!(build.starts_with("v1.2.6"), "plugins compare it as a version: {build}");
    assert!(server.get("/system", &[]).await.json()["cpu_load"].is_number());
    let wrong_method = server.post("/version", &[], "").await;
    assert_eq!((wrong_method.status, wrong_method.body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn unknown_data_channel_messages_are_passed_over() {
    let server = Server::start().await;
    let plugin = Plugin::new(&server, "clienta").await;
    let ann = User::join(&plugin, "call", "ann").await;
    for kind in [channel::PONG, channel::MEDIA_MAP, 10, 200] {
        ann.act(move |peer| peer.send_channel(&channel_message(kind, Some(Value::from(1)))));
    }
    ann.pings().await;
}
