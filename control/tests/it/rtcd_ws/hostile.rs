//! Plugins that send nonsense, too much, or both.

use futures_util::SinkExt as _;
use rmpv::Value;
use sluice_control::rtcd::message::{FromPlugin, MESSAGE_BYTES_MAX};
use sluice_control::rtcd::socket::Direction;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::support::{Server, frame, frame_header, leave, message};

/// An `rtc` message of exactly so many bytes.
fn rtc_of(length: usize) -> Vec<u8> {
    let of_data = |data: usize| {
        let pairs = [
            ("session_id", Value::from("s")),
            ("type", Value::from(2)),
            ("data", Value::Binary(vec![b'x'; data])),
        ];
        message("rtc", &Value::Map(pairs.map(|(k, v)| (k.into(), v)).to_vec()))
    };
    let around = of_data(length).len() - length;
    of_data(length - around)
}

#[tokio::test]
async fn nonsense_is_counted_and_the_connection_stays() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    let bombs = [
        vec![],
        vec![0xc1],
        b"\xa4join\xdf\xff\xff\xff\xff".to_vec(),
        b"\xa4join\xdb\xff\xff\xff\xff".to_vec(),
        b"\xa3rtc\x81\xa4data\xc6\xff\xff\xff\xff".to_vec(),
        vec![0x91; 100_000],
        [b"\xa4join\x81\xa1x".to_vec(), vec![0x91; 100_000]].concat(),
        message("unheard of", &Value::Nil),
        message("leave", &Value::from(5)),
    ];
    for bomb in &bombs {
        plugin.send(bomb.clone()).await;
    }
    plugin.stream.send(Message::Text("{}".into())).await.expect("it is open");
    plugin.leave("s").await;
    server.next_is_leave("s").await;
    let counters = server.sockets.hub.counters();
    assert_eq!(counters.undecodable.get(), bombs.len() as u64);
    assert_eq!(counters.text.get(), 1);
    let counted = |type_name| server.events.messages("clientA", type_name, Direction::In);
    assert_eq!([counted("unheard of"), counted("leave"), counted("join")], [1, 2, 3]);
    assert_eq!(counted("unknown"), 3);
}

#[tokio::test]
async fn a_message_of_a_mebibyte_is_read_and_a_longer_one_closes_the_connection() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    plugin.send(rtc_of(MESSAGE_BYTES_MAX)).await;
    assert!(matches!(server.next().await.message, FromPlugin::Rtc(_)));
    // The server need not read to the end of it.
    let too_long = frame_header(2, true, MESSAGE_BYTES_MAX as u64 + 1);
    plugin.stream.get_mut().write_all(&too_long).await.expect("it is open");
    assert_eq!(plugin.close_code().await, Some(1009));
    server.until_connections("clientA", 0).await;
    assert_eq!(server.sockets.hub.counters().too_long.get(), 1);
}

#[tokio::test]
async fn a_frame_that_announces_exabytes_closes_the_connection() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    let header = frame_header(2, true, u64::MAX >> 1);
    plugin.stream.get_mut().write_all(&header).await.expect("it is open");
    assert_eq!(plugin.close_code().await, Some(1009));
    server.until_connections("clientA", 0).await;
}

#[tokio::test]
async fn fragments_make_a_message_and_are_bounded_as_one() {
    let mut server = Server::new().await;
    let mut plugin = server.connect("clientA").await;
    let whole = leave("s");
    let mut bytes = frame(2, false, &whole[..1]);
    for (index, byte) in whole.iter().enumerate().skip(1) {
        // Control frames may come between fragments.
        bytes.extend(frame(9, true, b"?"));
        bytes.extend(frame(0, index + 1 == whole.len(), &[*byte]));
    }
    plugin.stream.get_mut().write_all(&bytes).await.expect("it is open");
    server.next_is_leave("s").await;
    let half = vec![0xc0; MESSAGE_BYTES_MAX / 2];
    for (opcode, payload) in [(2, &half[..]), (0, &half), (0, &[0xc0])] {
        let bytes = frame(opcode, false, payload);
        plugin.stream.get_mut().write_all(&bytes).await.expect("it is open");
    }
    assert_eq!(plugin.close_code().await, Some(1009));
    server.until_connections("clientA", 0).await;
}

#[tokio::test]
async fn frames_against_the_protocol_end_the_connection_alone() {
    let mut server = Server::new().await;
    let mut other = server.connect("clientA").await;
    let unmasked = [0x82, 1, 0xc0];
    for bytes in [&unmasked[..], &frame(3, true, b""), &frame(0, true, b""), &frame(9, false, b"")]
    {
        let mut plugin = server.connect("clientB").await;
        plugin.stream.get_mut().write_all(bytes).await.expect("it is open");
        assert_eq!(plugin.close_code().await, None);
        server.until_connections("clientB", 0).await;
    }
    other.leave("s").await;
    server.next_is_leave("s").await;
}

#[tokio::test]
async fn a_flood_waits_in_its_senders_queues_and_disturbs_nobody() {
    const FLOOD: usize = 128;
    let mut server = Server::new().await;
    let mut flooder = server.connect("clientA").await;
    let mut other = server.connect("clientB").await;
    flooder.leave("slow").await;
    server.next_is_leave("slow").await;
    // While that one takes its time, many times what kernels buffer.
    let flood = tokio::spawn(async move {
        for _ in 0..FLOOD {
            flooder.send(rtc_of(MESSAGE_BYTES_MAX)).await;
        }
        flooder
    });
    for number in 0..1000 {
        other.leave(&number.to_string()).await;
        let received = server.next_is_leave(&number.to_string()).await;
        assert_eq!(received.client, "clientB");
    }
    assert!(!flood.is_finished(), "what is not read waits with the sender");
    server.permits.add_permits(1);
    for _ in 0..FLOOD {
        let received = server.next().await;
        assert_eq!(received.client, "clientA");
    }
    flood.await.expect("it got rid of everything");
}

#[tokio::test]
async fn a_flood_of_pings_without_reading_disturbs_nobody() {
    let mut server = Server::new().await;
    let mut flooder = server.connect("clientA").await;
    let mut other = server.connect("clientB").await;
    let pings = frame(9, true, &[b'?'; 125]).repeat(1000);
    // 64 MiB of pings, of which the answers fit no buffer: it is read all the same, or the connection ends.
    for _ in 0..500 {
        let stream: &mut TcpStream = flooder.stream.get_mut();
        if stream.write_all(&pings).await.is_err() {
            break;
        }
    }
    other.leave("s").await;
    server.next_is_leave("s").await;
    drop(flooder);
    server.until_connections("clientA", 0).await;
}
