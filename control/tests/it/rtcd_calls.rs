//! Calls of rtcd's plugins over the stand-in for the engine: what is hard to bring about with a real one.

use std::time::Duration;

use sluice_control::auth::Client;
use sluice_control::rtcd::directory::{Directory, SessionProps};
use sluice_control::rtcd::hub::Attached;
use sluice_control::rtcd::message::{FromPlugin, Join, Rtc, RtcKind, ToPlugin};
use sluice_control::rtcd::service::Rtcd;
use sluice_control::rtcd::socket::Inbox;
use sluice_engine::command_error::CommandError;
use sluice_engine::ids::ChannelId;
use sluice_engine::shard::mailbox::{Command, Report};

use super::support::{Server, sdp};

/// What has not happened by then does not happen. Nothing passes because this time is over.
const PATIENCE: Duration = Duration::from_secs(20);

struct Plugin {
    rtcd: Rtcd,
    client: Client,
    attached: Attached,
}

impl Plugin {
    fn new(server: &Server) -> Self {
        let rtcd = server.app.rtcd.clone();
        let client = Client { id: "clienta".to_owned(), is_admin: false };
        let attached = rtcd.hub().attach(&client.id).expect("a place");
        Self { rtcd, client, attached }
    }

    async fn send(&self, message: FromPlugin) {
        self.rtcd.handle(&self.client, &self.attached.id, message).await;
    }

    async fn join(&self, call: &str, session: &str) {
        let (call, user, session) = (call.to_owned(), session.to_owned(), session.to_owned());
        self.send(FromPlugin::Join(Join { call, user, session, props: SessionProps::default() }))
            .await;
    }

    async fn leave(&self, session: &str) {
        self.send(FromPlugin::Leave { session: session.to_owned() }).await;
    }

    async fn describe(&self, session: &str, sdp: &str) {
        let data = serde_json::json!({"type": "offer", "sdp": sdp}).to_string().into_bytes();
        let [group, user, call] = [const { String::new() }; 3];
        let (session, kind) = (session.to_owned(), RtcKind::Sdp);
        self.send(FromPlugin::Rtc(Rtc { group, user, session, call, kind, data })).await;
    }

    /// The next message that the plugin is sent.
    async fn next(&mut self) -> Vec<u8> {
        let next = tokio::time::timeout(PATIENCE, self.attached.queue.recv()).await;
        next.expect("a message in time").expect("the connection is open").bytes
    }
}

#[tokio::test]
async fn who_changes_calls_in_one_breath_is_in_the_new_one() {
    let server = Server::new();
    let mut plugin = Plugin::new(&server);
    plugin.join("one", "ann").await;
    for call in ["two", "two", "one"] {
        plugin.leave("ann").await;
        plugin.join(call, "ann").await;
        assert_eq!(plugin.next().await, ToPlugin::Close { session: "ann".to_owned() }.encode());
        let found = plugin.rtcd.session("clienta", call, "ann").expect("a session");
        assert_eq!(found.call, call);
    }
    // A session that is there stays the only one of its id.
    plugin.join("two", "ann").await;
    assert!(plugin.rtcd.session("clienta", "two", "ann").is_err());
    assert!(plugin.rtcd.session("clienta", "one", "ann").is_ok());
}

#[tokio::test]
async fn an_offer_does_not_go_without_its_media_map() {
    let mut server = Server::new();
    let mut plugin = Plugin::new(&server);
    for name in ["ann", "bob"] {
        plugin.join("call", name).await;
        plugin.describe(name, &sdp::offer(&[("audio", "0", "sendrecv")])).await;
        while !contains(&plugin.next().await, "\"type\":\"answer\"") {}
    }
    let mut refused = false;
    server.plane.refuse(move |command| match command {
        Command::SendData { .. } if !std::mem::replace(&mut refused, true) => {
            Some(CommandError::UnknownChannel(ChannelId(0)))
        }
        _ => None,
    });
    let (session, channel) = (server.plane.sessions()[1], ChannelId(0));
    let opened = Report::ChannelOpened { session, channel, label: String::new() };
    server.reports[0].try_report(opened).expect("there is room");
    told(&server, 2).await;
    server.reports[0]
        .try_report(Report::DataDelivered { session, channel })
        .expect("there is room");
    while !contains(&plugin.next().await, "\"type\":\"offer\"") {}
    assert_eq!(server.plane.count("SendData"), 2, "one offer after one map that was told");
}

#[tokio::test]
async fn a_plugin_is_not_sent_more_offers_at_a_time_than_it_reads() {
    const USERS: usize = 200;
    let mut server = Server::new();
    let mut plugin = Plugin::new(&server);
    let talker = sdp::offer(&[("audio", "0", "sendrecv")]);
    for user in 0..USERS {
        let name = format!("user{user}");
        plugin.join("call", &name).await;
        plugin.describe(&name, &talker).await;
        while !contains(&plugin.next().await, "\"type\":\"answer\"") {}
    }
    // Everybody is offered everybody else at once.
    let channel = ChannelId(0);
    for session in server.plane.sessions() {
        let opened = Report::ChannelOpened { session, channel, label: String::new() };
        server.reports[0].try_report(opened).expect("there is room");
    }
    told(&server, USERS).await;
    for session in server.plane.sessions() {
        let delivered = Report::DataDelivered { session, channel };
        server.reports[0].try_report(delivered).expect("there is room");
    }
    for _ in 0..USERS {
        while !contains(&plugin.next().await, "\"type\":\"offer\"") {}
    }
    assert_eq!(plugin.rtcd.hub().counters().overflowed.get(), 0);
}

#[tokio::test]
async fn a_call_that_fails_ends_its_sessions() {
    let server = Server::new();
    let mut plugin = Plugin::new(&server);
    server.plane.refuse(|_| panic!("what nobody foresaw"));
    plugin.join("call", "ann").await;
    assert_eq!(plugin.next().await, ToPlugin::Close { session: "ann".to_owned() }.encode());
    assert!(plugin.rtcd.session("clienta", "call", "ann").is_err());
    assert_eq!(server.service.sessions_left(), 0);
}

/// Waits until the engine was given this many messages for peers.
async fn told(server: &Server, count: usize) {
    let all = async {
        while server.plane.count("SendData") < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("messages for peers in time");
}

fn contains(message: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(message).contains(text)
}
