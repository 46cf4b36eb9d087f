//! Messages both ways, several connections of a client, and the end of a connection.

use sluice_control::rtcd::hub::{Delivery, HubLimits};
use sluice_control::rtcd::message::{FromPlugin, Rtc, RtcKind, ToPlugin};
use sluice_control::rtcd::socket::Direction;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use super::support::{KEY, Plugin, Server, basic, text};

fn rtc(kind: RtcKind, data: Vec<u8>) -> Rtc {
    let [group, user, session, call] = ["clientA", "u", "s", "c"].map(str::to_owned);
    Rtc { group, user, session, call, kind, data }
}

#[tokio::test]
async fn messages_are_acted_on_in_order_under_the_clients_name() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    for number in 0..100 {
        plugin.leave(&number.to_string()).await;
    }
    for number in 0..100 {
        let received = server.next_is_leave(&number.to_string()).await;
        assert_eq!(received.client, "clientA");
        assert_eq!(received.connection.as_str(), plugin.connection);
    }
    assert_eq!(server.events.messages("clientA", "leave", Direction::In), 100);
}

#[tokio::test]
async fn the_servers_messages_arrive_in_order_and_signalling_is_counted() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    plugin.leave("s").await;
    let connection = server.next_is_leave("s").await.connection;
    let sdp = rtc(RtcKind::Sdp, br#"{"type":"offer"}"#.to_vec());
    let hub = &server.sockets.hub;
    for message in [
        ToPlugin::Rtc(sdp),
        ToPlugin::Vad(rtc(RtcKind::VoiceOn, Vec::new())),
        ToPlugin::Close { session: "s".to_owned() },
    ] {
        let delivered = Delivery::Delivered { to: connection.clone(), rerouted: false };
        assert_eq!(hub.send("clientA", &connection, &message), delivered);
    }
    let (type_name, payload) = plugin.next().await;
    assert_eq!(
        (type_name.as_str(), payload["data"].as_slice()),
        ("rtc", Some(&br#"{"type":"offer"}"#[..]))
    );
    let (type_name, payload) = plugin.next().await;
    assert_eq!((type_name.as_str(), payload["type"].as_u64()), ("vad", Some(7)));
    let (type_name, payload) = plugin.next().await;
    assert_eq!((type_name.as_str(), text(&payload, "sessionID").as_str()), ("close", "s"));
    for (type_name, count) in [("rtc", 1), ("vad", 1), ("close", 0), ("hello", 0)] {
        let counted = server.events.messages("clientA", type_name, Direction::Out);
        assert_eq!(counted, count, "{type_name}");
    }
}

#[tokio::test]
async fn what_was_said_before_a_close_is_still_acted_on() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    for number in 0..50 {
        plugin.leave(&number.to_string()).await;
    }
    plugin.stream.close(None).await.expect("it is open");
    for number in 0..50 {
        server.next_is_leave(&number.to_string()).await;
    }
    assert_eq!(plugin.message().await, Some(tokio_tungstenite::tungstenite::Message::Close(None)));
    server.until_connections("clientA", 0).await;
    // The reading end follows the writing one.
    while server.events.closed.lock().expect("no test panicked with it").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*server.events.opened.lock().expect("no test panicked with it"), ["clientA"]);
    assert_eq!(*server.events.closed.lock().expect("no test panicked with it"), ["clientA"]);
    assert!(server.received.try_recv().is_err(), "the end says nothing of sessions");
}

#[tokio::test]
async fn a_connection_that_is_gone_is_replaced_by_another_of_the_same_client() {
    let mut server = Server::new().await;
    let mut first = server.connect("clientA").await;
    first.leave("s").await;
    let mapped = server.next_is_leave("s").await.connection;
    let mut second = server.connect("clientA").await;
    let _stranger = server.connect("clientB").await;
    // Without a close: as when a process dies.
    drop(first);
    server.until_connections("clientA", 1).await;
    let close = ToPlugin::Close { session: "s".to_owned() };
    match server.sockets.hub.send("clientA", &mapped, &close) {
        Delivery::Delivered { to, rerouted: true } => assert_eq!(to.as_str(), second.connection),
        other => panic!("{other:?}"),
    }
    assert_eq!(second.next().await.0, "close");
    drop(second);
    server.until_connections("clientA", 0).await;
    assert_eq!(server.sockets.hub.send("clientA", &mapped, &close), Delivery::NoConnection);
}

#[tokio::test]
async fn a_plugin_that_does_not_read_is_closed_and_delays_nobody() {
    let limits = HubLimits { queue_bytes_max: 1 << 20, ..HubLimits::default() };
    let mut server = Server::with(limits).await;
    // Its kernel takes next to nothing of what it does not read.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1024).expect("a small buffer");
    socket.connect(&server.address().into()).expect("it listens");
    socket.set_nonblocking(true).expect("a socket of tokio");
    let stream = TcpStream::from_std(socket.into()).expect("a socket of tokio");
    let mut slow = Plugin::open(stream, &basic("clientA", KEY)).await.expect("it opens");
    slow.leave("s").await;
    let of_slow = server.next_is_leave("s").await.connection;
    let mut quick = server.connect("clientA").await;
    quick.leave("q").await;
    let of_quick = server.next_is_leave("q").await.connection;

    let hub = std::sync::Arc::clone(&server.sockets.hub);
    let large = ToPlugin::Rtc(rtc(RtcKind::Sdp, vec![b'x'; 100_000]));
    let mut to_slow = 0;
    loop {
        match hub.send("clientA", &of_slow, &large) {
            Delivery::Delivered { to, rerouted: false } => assert_eq!(to, of_slow),
            Delivery::Delivered { to, rerouted: true } => {
                assert_eq!(to, of_quick);
                break;
            }
            other => panic!("{other:?}"),
        }
        to_slow += 1;
        // Buffers of the kernel on this side are a few MiB.
        assert!(to_slow < 1000, "the queue of a connection that reads nothing is bounded");
        let mark = ToPlugin::Close { session: to_slow.to_string() };
        let delivered = Delivery::Delivered { to: of_quick.clone(), rerouted: false };
        assert_eq!(hub.send("clientA", &of_quick, &mark), delivered);
        let (_, payload) = quick.next().await;
        assert_eq!(text(&payload, "sessionID"), to_slow.to_string());
    }
    assert_eq!(quick.next().await.0, "rtc", "what the slow one had no room for");
    assert_eq!(hub.counters().overflowed.get(), 1);
    assert_eq!(hub.connections_of("clientA"), 1);
    quick.leave("still-there").await;
    server.next_is_leave("still-there").await;
    drop(slow);
}

#[tokio::test]
async fn a_shutdown_says_so_and_takes_no_more() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    server.sockets.hub.shut_down();
    assert_eq!(plugin.close_code().await, Some(1001));
    let stream = TcpStream::connect(server.address()).await.expect("it listens");
    let (status, text) =
        Plugin::open(stream, &basic("clientA", KEY)).await.err().expect("it is refused");
    assert_eq!((status, text.as_str()), (503, "the server shuts down\n"));
}

#[tokio::test]
async fn a_join_arrives_with_what_the_client_can_do() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    let pairs = [("callID", "c".into()), ("userID", "u".into()), ("sessionID", "s".into())];
    let pairs = pairs.into_iter().chain([("dcSignaling", true.into()), ("groupID", "x".into())]);
    let payload = rmpv::Value::Map(pairs.map(|(k, v)| (k.into(), v)).collect());
    plugin.send(super::support::message("join", &payload)).await;
    let received = server.next().await;
    let FromPlugin::Join(join) = received.message else { panic!("a join, not {received:?}") };
    assert_eq!((join.call.as_str(), join.props.dc_signaling), ("c", Some(true)));
    assert_eq!(received.client, "clientA");
}

#[tokio::test]
async fn what_comes_to_nothing_is_seen_in_the_metrics() {
    let server = crate::support::Server::new();
    let shown = server.get("/metrics").await.body;
    for kind in ["refused", "overflowed", "stalled", "silent", "too_long"] {
        assert!(shown.contains(&format!("sluice_plugin_connections_{kind}_total 0\n")), "{shown}");
    }
    for kind in ["rerouted", "undelivered", "undecodable", "text", "of_admin"] {
        assert!(shown.contains(&format!("sluice_plugin_messages_{kind}_total 0\n")), "{shown}");
    }
}
