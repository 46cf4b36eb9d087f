//! Real datagrams over loopback: nothing here depends on how fast they are.

use std::net::UdpSocket;

use sluice_engine::clock::now;

use super::*;

/// How long something may take that is to happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Datagrams under way at a time: they fit the buffers of test sockets many times over.
const WINDOW: u64 = 50;

struct Bench {
    relay: Relay,
    client: UdpSocket,
    server: UdpSocket,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn bench(impair: Impair) -> Bench {
    bench_within(impair, Limits::default())
}

fn bench_within(impair: Impair, limits: Limits) -> Bench {
    let (client, server) = (socket(), socket());
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = server.local_addr().unwrap();
    let relay = Relay::start_within(listen, address, &impair, limits).unwrap();
    client.connect(relay.address()).unwrap();
    Bench { relay, client, server }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + PATIENCE;
    while !condition() {
        assert!(now() < deadline, "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn take(socket: &UdpSocket) -> (u64, SocketAddr) {
    let mut bytes = [0; 8];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(len, 8);
    (u64::from_be_bytes(bytes), from)
}

impl Bench {
    fn send(&self, number: u64) {
        self.client.send(&number.to_be_bytes()).unwrap();
    }

    /// Sends `count` numbers to the server, and returns those that arrive there.
    fn pass(&self, count: u64) -> Vec<u64> {
        let mut arrived = Vec::new();
        for number in 0..count {
            self.send(number);
            if (number + 1) % WINDOW != 0 && number + 1 != count {
                continue;
            }
            let up = || self.relay.counters().up;
            until("relaying", || up().received == number + 1 && up().waiting == 0);
            while (arrived.len() as u64) < up().forwarded + up().duplicated {
                arrived.push(take(&self.server).0);
            }
        }
        self.server.set_nonblocking(true).unwrap();
        assert!(self.server.recv(&mut [0; 8]).is_err(), "more came than was counted");
        self.server.set_nonblocking(false).unwrap();
        arrived
    }
}

fn sum(way: &WayCounters) -> u64 {
    let played = way.forwarded + way.lost + way.burst_lost + way.queue_full;
    played + way.overflowed + way.unsent + way.waiting
}

#[test]
fn a_good_network_passes_all_in_order_both_ways() {
    let bench = bench(Impair::default());
    assert_eq!(bench.pass(2_000), (0..2_000).collect::<Vec<_>>());
    let up = bench.relay.counters().up;
    assert_eq!((up.received, up.forwarded, up.bytes, up.own_faults()), (2_000, 2_000, 16_000, 0));

    bench.send(7);
    let (_, from) = take(&bench.server);
    for number in 0..2_000_u64 {
        bench.server.send_to(&number.to_be_bytes(), from).unwrap();
        assert_eq!(take(&bench.client), (number, bench.relay.address()));
    }
    until("counting", || bench.relay.counters().down.forwarded == 2_000);
    assert_eq!(bench.relay.counters().clients, 1);
}

#[test]
fn what_is_lost_is_counted_to_the_last() {
    let impair =
        Impair { loss: 0.1, burst_loss: 0.1, burst_length: 5.0, seed: 3, ..Default::default() };
    let bench = bench(impair);
    let arrived = bench.pass(2_000);
    let up = bench.relay.counters().up;
    assert_eq!((up.received, sum(&up), arrived.len() as u64), (2_000, 2_000, up.forwarded));
    assert!(up.lost > 100 && up.burst_lost > 50, "{up:?}");
    assert!(arrived.is_sorted());
}

#[test]
fn a_seed_loses_the_same_datagrams_again() {
    let impair = Impair { loss: 0.1, duplicate: 0.1, seed: 9, ..Default::default() };
    let first = bench(impair).pass(1_000);
    assert_eq!(first, bench(impair).pass(1_000));
    assert_ne!(first, bench(Impair { seed: 10, ..impair }).pass(1_000));
}

#[test]
fn delay_and_jitter_keep_the_order_and_lose_nothing() {
    let impair = Impair { delay_ms: 3.0, jitter_ms: 5.0, ..Default::default() };
    let bench = bench(impair);
    let start = now();
    assert_eq!(bench.pass(500), (0..500).collect::<Vec<_>>());
    assert!(now().since(start) >= Duration::from_millis(3) * (500 / WINDOW as u32));
}

#[test]
fn duplicates_and_early_ones_are_counted() {
    let impair = Impair { delay_ms: 5.0, reorder: 0.2, duplicate: 0.2, ..Default::default() };
    let bench = bench(impair);
    let mut arrived = bench.pass(500);
    let up = bench.relay.counters().up;
    assert!(up.duplicated > 50 && up.reordered > 50, "{up:?}");
    assert!(!arrived.is_sorted());
    assert_eq!(arrived.len() as u64, 500 + up.duplicated);
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, (0..500).collect::<Vec<_>>());
}

#[test]
fn a_rebound_client_comes_from_another_port_and_is_answered_there() {
    let bench = bench(Impair { rebind_s: 0.3, ..Default::default() });
    bench.send(0);
    let (_, first) = take(&bench.server);
    until("rebinding", || bench.relay.counters().rebinds > 0);
    // Nobody reads this one.
    bench.server.send_to(&u64::MAX.to_be_bytes(), first).unwrap();
    bench.client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = [0; 8];
    // An answer can meet the next rebinding on its way, several in a row can not.
    let answered = (1..20_u64).find(|number| {
        bench.send(*number);
        let (heard, port) = take(&bench.server);
        assert_eq!(heard, *number);
        assert_ne!(port, first);
        bench.server.send_to(&heard.to_be_bytes(), port).unwrap();
        bench.client.recv(&mut bytes).is_ok()
    });
    assert_eq!(answered, Some(u64::from_be_bytes(bytes)));
}

#[test]
fn each_client_has_a_port_of_its_own_up_to_the_limit() {
    let limits = Limits { clients_max: 2, ..Default::default() };
    let bench = bench_within(Impair::default(), limits);
    let others = [socket(), socket()];
    bench.send(1);
    let (_, first) = take(&bench.server);
    others[0].send_to(&2_u64.to_be_bytes(), bench.relay.address()).unwrap();
    let (_, second) = take(&bench.server);
    assert_ne!(first, second);
    bench.server.send_to(&3_u64.to_be_bytes(), second).unwrap();
    assert_eq!(take(&others[0]).0, 3);

    others[1].send_to(&4_u64.to_be_bytes(), bench.relay.address()).unwrap();
    until("refusing", || bench.relay.counters().refused == 1);
    assert!(bench.relay.trouble().unwrap().starts_with("2 clients"));
    assert_eq!(bench.relay.counters().clients, 2);
}

#[test]
fn an_idle_client_is_forgotten_and_may_come_again() {
    let limits = Limits { idle: Duration::from_millis(1), ..Default::default() };
    let bench = bench_within(Impair::default(), limits);
    for number in 1..3 {
        bench.send(number);
        assert_eq!(take(&bench.server).0, number);
        until("forgetting", || bench.relay.counters().clients == 0);
    }
}

#[test]
fn what_waits_has_a_bound_and_the_end_does_not_wait_for_it() {
    let limits = Limits { held_bytes_max: 1_000, ..Default::default() };
    let bench = bench_within(Impair { delay_ms: 10_000.0, ..Default::default() }, limits);
    for number in 0..100 {
        bench.send(number);
    }
    until("relaying", || bench.relay.counters().up.received == 100);
    let up = bench.relay.counters().up;
    assert!(up.waiting > 0 && up.overflowed > 0 && sum(&up) == 100, "{up:?}");
    assert!(bench.relay.trouble().unwrap().contains("wait"));

    let start = now();
    let address = bench.relay.address();
    drop(bench.relay);
    assert!(now().since(start) < Duration::from_secs(9), "it waited for what it held");
    UdpSocket::bind(address).unwrap();
}

#[test]
fn a_server_that_is_not_there_stops_nothing() {
    let bench = bench(Impair::default());
    let address = bench.server.local_addr().unwrap();
    drop(bench.server);
    for number in 0..20 {
        bench.client.send(&[number]).unwrap();
    }
    until("relaying", || bench.relay.counters().up.received == 20);
    assert_eq!(bench.relay.counters().up.forwarded, 20);
    let server = UdpSocket::bind(address).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    bench.client.send(&99_u64.to_be_bytes()).unwrap();
    assert_eq!(take(&server).0, 99);
}

#[test]
fn addresses_that_cannot_be_are_refused_in_words() {
    let start = |listen: &str, server: &str| {
        let relay =
            Relay::start(listen.parse().unwrap(), server.parse().unwrap(), &Impair::default());
        relay.err().unwrap()
    };
    assert!(start("127.0.0.1:0", "127.0.0.1:0").contains("needs a host and a port"));
    let taken = socket();
    let taken = taken.local_addr().unwrap().to_string();
    assert!(start(&taken, "127.0.0.1:9").contains("cannot listen"));
    let bad = Impair { loss: 2.0, ..Default::default() };
    let relay = Relay::start("127.0.0.1:0".parse().unwrap(), "127.0.0.1:9".parse().unwrap(), &bad);
    assert_eq!(relay.err().unwrap(), "loss is 2; 0 to 1 is allowed");
}
