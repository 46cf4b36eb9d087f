//! Pings, pongs and writes that do not end. The clock is the runtime's own and advances when nobody has anything to do; the
//! connections are in memory, since sockets would be nothing to do.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use sluice_control::rtcd::message::{Rtc, RtcKind, ToPlugin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::support::{BASIC_A, Plugin, Server, frame, handshake, leave};

const BUFFER: usize = 64 * 1024;

/// Reads the header of the answer to a handshake that was written by hand.
async fn open_by_hand(server: &Server, buffer: usize) -> DuplexStream {
    let mut stream = server.in_memory(buffer);
    stream.write_all(handshake("").as_bytes()).await.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a whole header"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[tokio::test(start_paused = true)]
async fn who_answers_pings_stays_and_is_pinged_every_ten_seconds() {
    let server = Server::new().await;
    let mut plugin = Plugin::open(server.in_memory(BUFFER), BASIC_A).await.expect("it opens");
    let began = Instant::now();
    for number in 1..=60 {
        // The library answers when it is asked for the next message.
        let message = plugin.stream.next().await.expect("it is open").expect("it is open");
        assert_eq!(message, Message::Ping(Vec::new().into()));
        assert_eq!(began.elapsed().as_secs(), 10 * number);
    }
    assert_eq!(server.sockets.hub.connections_of("clientA"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_answers_no_ping_is_closed_whatever_else_it_sends() {
    let server = Server::new().await;
    let stream = open_by_hand(&server, BUFFER).await;
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let talk = async {
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let bytes = [frame(2, true, &leave("s")), frame(9, true, b"?")].concat();
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let mut all = Vec::new();
    tokio::select! {
        () = talk => {}
        end = read.read_to_end(&mut all) => { end.expect("an end in order"); }
    }
    assert_eq!(began.elapsed().as_secs(), 20);
    assert_eq!(server.sockets.hub.counters().silent.get(), 1);
    assert_eq!(server.sockets.hub.connections_of("clientA"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_server_is_not_taken_for_dead() {
    let mut server = Server::new().await;
    let mut plugin = Plugin::open(server.in_memory(BUFFER), BASIC_A).await.expect("it opens");
    plugin.leave("slow").await;
    let connection = server.next_is_leave("slow").await.connection;
    // For a minute the server acts on that message and reads nothing, not even pongs.
    let mut pings = 0;
    let minute = async {
        while let Some(Ok(message)) = plugin.stream.next().await {
            pings += usize::from(message.is_ping());
        }
    };
    assert!(timeout(Duration::from_secs(61), minute).await.is_err(), "it is open all the time");
    assert_eq!(pings, 6);
    // What the server has to say goes out meanwhile.
    let close = ToPlugin::Close { session: "s".to_owned() };
    server.sockets.hub.send("clientA", &connection, &close);
    assert_eq!(plugin.next().await.0, "close");
    server.permits.add_permits(1);
    plugin.leave("after").await;
    server.next_is_leave("after").await;
    // Its pongs were not lost: it has two pings' time from here on.
    assert!(timeout(Duration::from_secs(19), plugin.message()).await.is_err());
    assert_eq!(server.sockets.hub.counters().silent.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_does_not_end_ends_the_connection() {
    let mut server = Server::new().await;
    let mut stream = open_by_hand(&server, 1024).await;
    stream.write_all(&frame(2, true, &leave("s"))).await.expect("it is open");
    let connection = server.next_is_leave("s").await.connection;
    let [group, user, session, call] = [0; 4].map(|_| "x".to_owned());
    let rtc = Rtc { group, user, session, call, kind: RtcKind::Sdp, data: vec![0; 10_000] };
    server.sockets.hub.send("clientA", &connection, &ToPlugin::Rtc(rtc));
    let began = Instant::now();
    // Nothing is read; the end is seen by what no longer can be written.
    let mut seconds = interval(Duration::from_secs(1));
    while stream.write_all(&frame(10, true, b"")).await.is_ok() {
        seconds.tick().await;
    }
    assert!((10..=11).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(server.sockets.hub.counters().stalled.get(), 1);
    assert_eq!(server.sockets.hub.connections_of("clientA"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acted_on_to_its_end_when_its_connection_is_gone() {
    let mut server = Server::new().await;
    let mut plugin = Plugin::open(server.in_memory(BUFFER), BASIC_A).await.expect("it opens");
    plugin.leave("slow").await;
    plugin.leave("next").await;
    server.next_is_leave("slow").await;
    plugin.stream.flush().await.expect("it is open");
    drop(plugin);
    server.permits.add_permits(1);
    server.next_is_leave("next").await;
    server.until_connections("clientA", 0).await;
    assert_eq!(server.permits.available_permits(), 0);
}
