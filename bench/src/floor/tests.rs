//! The floor does the work that it claims, on real sockets.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use sluice_engine::srtp::{InboundSrtp, PacketIndex};

use super::outbox::{Names, Outbox};
use super::*;

const LENGTH: Duration = Duration::from_millis(20);

/// Sends a shape to three peers, then opens what each of them got.
fn opens_with_the_keys_of_the_peers(shape: Shape) {
    let link = Link::open(Device::Loopback, 3).unwrap();
    let (socket, names, receivers) = link.parts();
    link.split_by(shape).unwrap();
    let mut sender = Sender::new(3);
    let sample = sender.send_for(socket, names, shape, LENGTH);
    assert_eq!(sample.failed, 0, "{:?}", sample.error);
    assert_eq!(sample.packets, sample.messages * u64::from(shape.run));
    let mut opened = 0;
    for (peer, receiver) in (0..).zip(receivers) {
        opened += open_all(peer, receiver, shape);
    }
    // Nobody read meanwhile, so that a socket holds what came first, as much as its buffer takes.
    assert!(opened >= 3 * 16, "{opened} packets of {}", sample.packets);
}

/// Checks what waits at a peer's socket; returns how many packets that were.
fn open_all(peer: u32, receiver: &UdpSocket, shape: Shape) -> u64 {
    let mut srtp = InboundSrtp::new(work::PROFILE, &work::master_key(peer));
    let mut state = PacketIndex::new();
    let mut packet = [0; 2_048];
    let mut count = 0;
    while let Ok(len) = receiver.recv(&mut packet) {
        assert_eq!(len, shape.packet_bytes() as usize);
        let opened = srtp.open_rtp(&mut state, &mut packet[..len], 12).unwrap();
        assert_eq!(opened.index.0, count, "one index for each packet, in order");
        assert_eq!(packet[..2], [0x80, 96]);
        assert_eq!(packet[2..4], (count as u16).to_be_bytes());
        let time = work::PLAIN_TIME.wrapping_add(work::time_shift(peer));
        assert_eq!(packet[4..8], time.to_be_bytes());
        assert_eq!(packet[8..12], work::ssrc(peer).to_be_bytes());
        assert!(packet[12..opened.len].iter().copied().eq(work::payload(shape.payload_bytes)));
        count += 1;
    }
    count
}

#[test]
fn what_the_kernel_refuses_is_counted_and_the_rest_is_sent() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_nonblocking(true).unwrap();
    let SocketAddr::V4(good) = receiver.local_addr().unwrap() else { panic!("asked for IPv4") };
    // Nothing can be sent to port 0.
    let bad = SocketAddrV4::new(*good.ip(), 0);
    let names = Names::new(&[good, bad, bad, good]);
    let mut outbox = Outbox::new(&socket, &names);
    let mut sample = work::Sample::default();
    (0..4).for_each(|peer| outbox.add(peer, 3));
    outbox.send(b"onetwosixten", &mut sample);
    assert_eq!(outbox.bytes(), 0, "nothing waits any more");
    assert_eq!(sample.failed, 2);
    assert!(sample.error.is_some());
    let mut bytes = [0; 16];
    let mut next = || receiver.recv(&mut bytes).map(|len| bytes[..len].to_vec()).ok();
    assert_eq!(next().as_deref(), Some(b"one".as_slice()));
    assert_eq!(next().as_deref(), Some(b"ten".as_slice()));
    assert_eq!(next(), None);
}

#[test]
fn single_packets_open_with_the_keys_of_their_peers() {
    opens_with_the_keys_of_the_peers(Shape { payload_bytes: 200, run: 1 });
}

#[test]
fn runs_arrive_as_packets_that_open_with_the_keys_of_their_peers() {
    opens_with_the_keys_of_the_peers(Shape { payload_bytes: 1_180, run: 4 });
}

/// Devices that need root are measured where there is root, and named with the reason where there is none.
#[test]
fn each_device_has_figures_or_a_reason() {
    let shapes = vec![Shape { payload_bytes: 200, run: 1 }, Shape { payload_bytes: 500, run: 4 }];
    let plan = FloorPlan {
        shapes,
        peers: 5,
        devices: Device::ALL.to_vec(),
        repeats: 2,
        seconds: 0.02,
        core: None,
    };
    let mut lines = 0;
    let result = measure(&plan, &mut |_| lines += 1).unwrap();
    assert!(lines > 0);
    for device in Device::ALL.map(Device::name) {
        let points = result.points.iter().filter(|point| point.device == device).count();
        let is_told = result.missing.iter().any(|note| note.starts_with(device));
        assert!(points == 2 || (points == 0 && is_told), "{device}: {result:?}");
    }
    for point in &result.points {
        assert!(point.ns_least > 0.0 && point.ns_sealing > 0.0, "{point:?}");
        assert!(point.ns_least <= point.ns_per_packet && point.ns_per_packet <= point.ns_most);
    }
    let loopback = result.points.iter().filter(|point| point.device == "loopback");
    assert_eq!(loopback.map(|point| point.run).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn a_sender_that_waits_for_its_core_is_told() {
    let second = Duration::from_secs(1);
    assert_eq!(disturbance(Duration::from_millis(40), second), None);
    let told = disturbance(Duration::from_millis(250), second);
    assert!(told.is_some_and(|note| note.contains("25 % of the time")));
}

#[test]
fn a_core_that_is_not_there_is_refused_by_name() {
    let plan = FloorPlan {
        shapes: vec![Shape { payload_bytes: 200, run: 1 }],
        peers: 1,
        devices: vec![Device::Loopback],
        repeats: 1,
        seconds: 0.01,
        core: Some(100_000),
    };
    let refusal = measure(&plan, &mut |_| ()).unwrap_err();
    assert!(refusal.starts_with("core 100000 is not one"), "{refusal}");
}
