//! What a back-end does around its system calls. The kernel's own instructions are not seen by callgrind, so these are ours alone:
//! grouping, cutting into runs, message headers, and the way back.
//!
//! The back-end is `mmsg`: valgrind does not know all of io_uring. Sending is the same code in both.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use sluice_engine::config::EngineConfig;
use sluice_engine::egress::Egress;
use sluice_engine::io::mmsg::Mmsg;
use sluice_engine::io::socket::bind_all;
use sluice_engine::io::{Network, Window};
use sluice_engine::route::{PathId, Route, Transport};

/// Destinations of one flush.
const PATHS: usize = 100;

/// Sealed packets of a voice; of a frame, whose last one is shorter so that all kernels take it as one run.
const VOICE: &[usize] = &[240];
const FRAME: &[usize] = &[1_152, 1_152, 1_152, 1_152, 1_152, 1_100];

const WARM_ROUNDS: usize = 10;
const COUNTED_ROUNDS: usize = 50;

/// The flush that counts: callgrind collects from its beginning to its end. `black_box` keeps it from becoming a jump.
#[inline(never)]
fn counted_flush(network: &mut Mmsg, egress: &mut Egress) {
    network.flush(egress);
    black_box(());
}

/// Takes what has arrived; returns how many datagrams that was.
#[inline(never)]
fn counted_receive(network: &mut Mmsg) -> usize {
    let waiting = network.receive(512);
    for _ in 0..waiting {
        black_box(network.next_datagram());
    }
    black_box(waiting)
}

fn bind() -> (Mmsg, SocketAddr) {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = EngineConfig { shards: 1, addresses: vec![loopback], ..EngineConfig::default() };
    let mut bound = bind_all(&config).expect("a free port");
    let (network, _) = Mmsg::new(bound.shards.remove(0)).expect("an epoll instance");
    (network, bound.udp[0])
}

/// One datagram each to many.
pub fn send_single() -> u64 {
    send(VOICE)
}

/// A frame each to many.
pub fn send_runs() -> u64 {
    send(FRAME)
}

fn send(sizes: &[usize]) -> u64 {
    let (mut network, _) = bind();
    // Nobody reads it: what does not fit is lost behind the send.
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let remote = peer.local_addr().expect("its address");
    let route = Route { transport: Transport::Udp, local: 0, remote };
    let paths: Vec<PathId> = (0..PATHS).map(|_| network.open_path(route)).collect();
    let mut egress = Egress::new(1_024, 2 << 20);
    let bytes = [7; 1_472];
    for round in 0..WARM_ROUNDS + COUNTED_ROUNDS {
        // As fan-out writes them: packet by packet.
        for &size in sizes {
            for &path in &paths {
                assert!(egress.push(path, &bytes[..size]), "room in the egress");
            }
        }
        if round == WARM_ROUNDS {
            egress.sent = Default::default();
        }
        if round < WARM_ROUNDS {
            network.flush(&mut egress);
        } else {
            counted_flush(&mut network, &mut egress);
        }
    }
    assert_eq!(egress.sent.runs, (COUNTED_ROUNDS * PATHS) as u64, "one send for each");
    assert_eq!(egress.sent.datagrams, (COUNTED_ROUNDS * PATHS * sizes.len()) as u64);
    egress.sent.datagrams
}

/// A batch from many.
pub fn receive() -> u64 {
    const BATCH: usize = 64;
    let (mut network, address) = bind();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut units = 0;
    for round in 0..WARM_ROUNDS + COUNTED_ROUNDS {
        for _ in 0..BATCH {
            peer.send_to(&[7; 240], address).expect("loopback takes it");
        }
        let mut received = 0;
        while received < BATCH {
            network.wait(Some(Duration::from_secs(1)), Window::NONE);
            received += counted_receive(&mut network);
        }
        units += if round < WARM_ROUNDS { 0 } else { received as u64 };
    }
    units
}
