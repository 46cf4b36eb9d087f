//! Both back-ends against the kernel, on loopback. Every test runs for each back-end.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::config::{BackendChoice, EngineConfig};
use sluice_engine::drop_reason::DropReason;
use sluice_engine::egress::Egress;
use sluice_engine::io::mmsg::Mmsg;
use sluice_engine::io::probe::probe;
use sluice_engine::io::socket::{ShardSockets, bind_all};
use sluice_engine::io::tcp::TcpLimits;
use sluice_engine::io::uring::Uring;
use sluice_engine::io::wake::EventWake;
use sluice_engine::io::{Network, Wake, Window};
use sluice_engine::route::{PathId, Route, Transport};

/// A back-end as the tests make it.
trait Backend: Network + Sized {
    fn make(sockets: ShardSockets, limits: TcpLimits) -> (Self, Arc<EventWake>);
    fn is_available() -> bool;
}

impl Backend for Mmsg {
    fn make(sockets: ShardSockets, limits: TcpLimits) -> (Self, Arc<EventWake>) {
        Mmsg::with_limits(sockets, limits).unwrap()
    }

    fn is_available() -> bool {
        true
    }
}

impl Backend for Uring {
    fn make(sockets: ShardSockets, limits: TcpLimits) -> (Self, Arc<EventWake>) {
        Uring::with_limits(sockets, limits).unwrap()
    }

    fn is_available() -> bool {
        match probe(BackendChoice::Uring) {
            Ok(_) => true,
            Err(reason) => {
                eprintln!("not tested: {reason}");
                false
            }
        }
    }
}

macro_rules! for_each_backend {
    ($($name:ident)*) => {
        mod mmsg { $(#[test] fn $name() { super::run::<super::Mmsg>(super::$name::<super::Mmsg>) })* }
        mod uring { $(#[test] fn $name() { super::run::<super::Uring>(super::$name::<super::Uring>) })* }
    };
}

for_each_backend! {
    datagrams_are_echoed_over_ipv4_and_ipv6
    order_is_kept_per_destination
    a_run_arrives_as_separate_datagrams
    joined_input_is_cut_into_datagrams
    the_budget_holds_within_joined_input
    refused_datagrams_are_counted_and_delay_nobody
    a_receiver_that_does_not_read_delays_nobody
    a_closed_path_sends_what_was_written_and_then_nothing
    a_wait_ends_with_its_timeout
    a_wait_ends_when_woken_from_another_thread
    a_wait_ends_with_data
    a_window_lets_what_is_there_lie_for_others
    a_window_begins_with_the_first_arrival
    a_window_does_not_outlast_itself
    nothing_is_lost_when_drained_between_bursts
    a_burst_beyond_all_buffers_is_read_whole
    frames_survive_any_segmentation
    empty_frames_are_ignored_and_huge_ones_end_the_connection
    many_frames_in_one_segment_respect_the_budget
    a_slow_reader_hurts_itself_alone
    a_connection_moves_between_shards_within_a_frame
    unsent_bytes_move_with_the_connection
    silent_connections_are_closed
    connections_without_a_path_are_closed
    connections_beyond_the_limit_are_closed
    the_end_of_a_connection_is_told_once
    closing_the_last_path_closes_the_connection
    a_datagram_for_an_ended_connection_is_refused
}

/// Runs a test where the kernel has the back-end.
fn run<N: Backend>(test: fn()) {
    if N::is_available() {
        test();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

struct Shard<N> {
    network: N,
    wake: Arc<EventWake>,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    egress: Egress,
}

impl<N: Backend> Shard<N> {
    fn start() -> Self {
        Self::with_limits(TcpLimits::default())
    }

    fn with_limits(limits: TcpLimits) -> Self {
        let any: [SocketAddr; 2] = ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        let config = EngineConfig {
            shards: 1,
            addresses: any.to_vec(),
            tcp_addresses: any.to_vec(),
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            ..EngineConfig::default()
        };
        let mut bound = bind_all(&config).unwrap();
        let (network, wake) = N::make(bound.shards.remove(0), limits);
        let egress = Egress::new(4096, 8 << 20);
        Self { network, wake, udp: bound.udp, tcp: bound.tcp, egress }
    }

    /// One turn: sleeps at most a moment, then hands out all that came.
    fn turn(&mut self, datagrams: &mut Vec<(Route, Vec<u8>)>) {
        self.network.wait(Some(Duration::from_millis(20)), Window::NONE);
        while self.network.receive(64) > 0 {
            while let Some((route, bytes)) = self.network.next_datagram() {
                datagrams.push((route, bytes.to_vec()));
            }
        }
    }

    /// Turns until `enough` says so.
    fn turn_until(
        &mut self,
        enough: impl Fn(&mut Self, &[(Route, Vec<u8>)]) -> bool,
    ) -> Vec<(Route, Vec<u8>)> {
        let (start, mut datagrams) = (clock::now(), Vec::new());
        while !enough(self, &datagrams) {
            assert!(clock::now().since(start) < PATIENCE, "got {} datagrams", datagrams.len());
            self.turn(&mut datagrams);
        }
        datagrams
    }

    fn take(&mut self, count: usize) -> Vec<(Route, Vec<u8>)> {
        self.turn_until(|_, datagrams| datagrams.len() >= count)
    }

    fn open_udp(&mut self, remote: SocketAddr) -> PathId {
        let local = u16::from(remote.is_ipv6());
        self.network.open_path(Route { transport: Transport::Udp, local, remote })
    }

    fn push(&mut self, path: PathId, datagram: &[u8]) {
        assert!(self.egress.push(path, datagram));
    }

    fn flush(&mut self) {
        self.network.flush(&mut self.egress);
        assert!(self.egress.is_empty());
    }

    fn refused(&self) -> u64 {
        self.egress.drops.of(DropReason::SendRefused)
    }

    /// A client of the first TCP address whose first frame has come in.
    fn connect(&mut self) -> (TcpStream, Route) {
        let mut client = connect(self.tcp[0]);
        client.write_all(&frame(b"hello")).unwrap();
        let (route, bytes) = self.take(1).remove(0);
        assert_eq!(bytes, b"hello");
        assert_eq!(route.remote, client.local_addr().unwrap());
        (client, route)
    }
}

fn peer(like: SocketAddr) -> UdpSocket {
    let peer = UdpSocket::bind(if like.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer
}

fn read_datagrams(peer: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let mut read = || {
        let len = peer.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    (0..count).map(|_| read()).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u16).to_be_bytes(), payload].concat()
}

fn read_frame(client: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    client.read_exact(&mut len).unwrap();
    let mut payload = vec![0; usize::from(u16::from_be_bytes(len))];
    client.read_exact(&mut payload).unwrap();
    payload
}

/// A datagram that says which one it is.
fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number_of(datagram: &[u8]) -> u32 {
    u32::from_be_bytes(datagram[..4].try_into().unwrap())
}

/// Whether the other end closed the connection, orderly or not; what it still sent is skipped.
fn is_closed(client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let closed = loop {
        match client.read(&mut buffer) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    client.set_nonblocking(false).unwrap();
    closed
}

fn datagrams_are_echoed_over_ipv4_and_ipv6<N: Backend>() {
    let mut shard = Shard::<N>::start();
    for local in 0..2 {
        let peer = peer(shard.udp[local]);
        for payload in [&b"first"[..], b"", &[7; 1200]] {
            peer.send_to(payload, shard.udp[local]).unwrap();
            let received = shard.take(1);
            let expected = Route {
                transport: Transport::Udp,
                local: local as u16,
                remote: peer.local_addr().unwrap(),
            };
            assert_eq!(received, [(expected, payload.to_vec())]);
            let path = shard.network.open_path(received[0].0);
            shard.push(path, payload);
            shard.flush();
            assert_eq!(read_datagrams(&peer, 1), [payload]);
            shard.network.close_path(path);
        }
    }
    assert_eq!(shard.egress.sent.datagrams, 6);
}

fn order_is_kept_per_destination<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let peers: Vec<_> = (0..3).map(|_| peer(shard.udp[0])).collect();
    let paths: Vec<_> =
        peers.iter().map(|peer| shard.open_udp(peer.local_addr().unwrap())).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..300 {
        let len = [100, 100, 100, 400, 1200][random.usize(..5)];
        shard.push(paths[number as usize % 3], &numbered(number, len));
    }
    shard.flush();
    for (index, peer) in peers.iter().enumerate() {
        let numbers: Vec<_> = read_datagrams(peer, 100).iter().map(|d| number_of(d)).collect();
        assert_eq!(numbers, (0..100).map(|n| n * 3 + index as u32).collect::<Vec<_>>());
    }
    assert_eq!(shard.egress.sent.datagrams, 300);
    assert!(shard.egress.sent.runs < 300, "equal neighbours share a send");
}

fn a_run_arrives_as_separate_datagrams<N: Backend>() {
    let mut shard = Shard::<N>::start();
    for local in 0..2 {
        let peer = peer(shard.udp[local]);
        let path = shard.open_udp(peer.local_addr().unwrap());
        // A run with a shorter tail, one that begins longer, and one beyond 64 segments.
        let sizes = [&[1000, 1000, 1000, 300][..], &[600; 2], &[80; 100]].concat();
        let runs = shard.egress.sent.runs;
        for (number, &size) in sizes.iter().enumerate() {
            shard.push(path, &numbered(number as u32, size));
        }
        shard.flush();
        for (number, datagram) in read_datagrams(&peer, sizes.len()).iter().enumerate() {
            assert_eq!(*datagram, numbered(number as u32, sizes[number]));
        }
        // The first 80 follows two of 600 as their tail.
        assert_eq!(shard.egress.sent.runs - runs, 4);
    }
    assert_eq!(shard.refused(), 0);
}

fn joined_input_is_cut_into_datagrams<N: Backend>() {
    let (mut from, mut to) = (Shard::<N>::start(), Shard::<N>::start());
    for local in 0..2 {
        let path = from.open_udp(to.udp[local]);
        let sizes = [&[1200; 40][..], &[500], &[900, 900]].concat();
        let runs = from.egress.sent.runs;
        for (number, &size) in sizes.iter().enumerate() {
            from.push(path, &numbered(number as u32, size));
        }
        from.flush();
        assert_eq!(from.egress.sent.runs - runs, 2, "the kernel got them joined");
        for (number, (route, datagram)) in to.take(sizes.len()).into_iter().enumerate() {
            assert_eq!((route.remote, usize::from(route.local)), (from.udp[local], local));
            assert_eq!(datagram, numbered(number as u32, sizes[number]));
        }
    }
}

fn the_budget_holds_within_joined_input<N: Backend>() {
    let (mut from, mut to) = (Shard::<N>::start(), Shard::<N>::start());
    let path = from.open_udp(to.udp[0]);
    for number in 0..25 {
        from.push(path, &numbered(number, 200));
    }
    from.flush();
    let (start, mut numbers) = (clock::now(), Vec::new());
    while numbers.len() < 25 {
        assert!(clock::now().since(start) < PATIENCE);
        to.network.wait(Some(Duration::from_millis(20)), Window::NONE);
        let promised = to.network.receive(10);
        assert!(promised <= 10);
        let before = numbers.len();
        while let Some((_, datagram)) = to.network.next_datagram() {
            datagram[4] = 99;
            numbers.push(number_of(datagram));
        }
        assert_eq!(numbers.len() - before, promised);
    }
    assert_eq!(numbers, (0..25).collect::<Vec<_>>());
}

fn refused_datagrams_are_counted_and_delay_nobody<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let peer = peer(shard.udp[0]);
    let good = shard.open_udp(peer.local_addr().unwrap());
    // Broadcast is not allowed on the socket, port 0 is nobody's, IPv6 is not this socket's.
    let broadcast = shard.open_udp("255.255.255.255:9".parse().unwrap());
    let nobody = shard.open_udp("127.0.0.1:0".parse().unwrap());
    let remote = "[::1]:9".parse().unwrap();
    let foreign = shard.network.open_path(Route { transport: Transport::Udp, local: 0, remote });
    let absent = shard.network.open_path(Route { transport: Transport::Udp, local: 9, remote });
    let closed = shard.open_udp(UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for number in 0..100 {
        for bad in [broadcast, nobody, foreign, absent] {
            shard.push(bad, &numbered(number, 100 + number as usize % 7));
        }
        shard.push(closed, b"the kernel takes these and nobody gets them");
        shard.push(good, &numbered(number, 300));
        if number == 50 {
            shard.push(good, &[0; 65_520]);
        }
        if number % 10 == 9 {
            shard.flush();
        }
    }
    let numbers: Vec<_> = read_datagrams(&peer, 100).iter().map(|d| number_of(d)).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(shard.refused(), 401, "four bad paths and one datagram that is too large");
    assert_eq!(shard.egress.sent.datagrams, 200);
}

fn a_receiver_that_does_not_read_delays_nobody<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let (idle, peer) = (peer(shard.udp[0]), peer(shard.udp[0]));
    let flood = shard.open_udp(idle.local_addr().unwrap());
    let good = shard.open_udp(peer.local_addr().unwrap());
    for round in 0..20 {
        for number in 0..100 {
            shard.push(flood, &numbered(number, 1200));
        }
        shard.push(good, &numbered(round, 1000));
        shard.flush();
    }
    let numbers: Vec<_> = read_datagrams(&peer, 20).iter().map(|d| number_of(d)).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let accounted = shard.egress.sent.datagrams + shard.refused();
    assert_eq!(accounted, 20 * 101);
}

fn a_closed_path_sends_what_was_written_and_then_nothing<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let peer = peer(shard.udp[0]);
    let path = shard.open_udp(peer.local_addr().unwrap());
    shard.push(path, b"goodbye");
    shard.network.close_path(path);
    shard.flush();
    assert_eq!(read_datagrams(&peer, 1), [b"goodbye"]);
    shard.push(path, b"stale");
    shard.flush();
    assert_eq!((shard.refused(), shard.egress.sent.datagrams), (1, 1));
    let again = shard.open_udp(peer.local_addr().unwrap());
    assert_eq!(again.slot, path.slot);
    assert_ne!(again.generation, path.generation);
}

fn a_wait_ends_with_its_timeout<N: Backend>() {
    let mut shard = Shard::<N>::start();
    // The first may end early, for what the back-end does when it starts.
    shard.network.wait(Some(Duration::from_millis(1)), Window::NONE);
    let start = clock::now();
    shard.network.wait(Some(Duration::from_millis(30)), Window::NONE);
    let slept = clock::now().since(start);
    assert!(slept >= Duration::from_millis(29) && slept < PATIENCE, "{slept:?}");
    let start = clock::now();
    shard.network.wait(Some(Duration::ZERO), Window::NONE);
    assert!(clock::now().since(start) < Duration::from_millis(500));
}

fn a_wait_ends_when_woken_from_another_thread<N: Backend>() {
    let mut shard = Shard::<N>::start();
    for _ in 0..100 {
        let wake = Arc::clone(&shard.wake);
        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asking = Arc::clone(&asked);
        let waker = std::thread::spawn(move || {
            asking.store(true, std::sync::atomic::Ordering::Release);
            wake.wake();
        });
        let start = clock::now();
        while !asked.load(std::sync::atomic::Ordering::Acquire) {
            shard.network.wait(Some(PATIENCE), Window::NONE);
        }
        assert!(clock::now().since(start) < PATIENCE, "a wake was lost");
        waker.join().unwrap();
    }
    shard.wake.wake();
    shard.wake.wake();
    shard.network.wait(None, Window::NONE);
}

fn a_wait_ends_with_data<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let address = shard.udp[0];
    let peer = peer(address);
    for _ in 0..20 {
        let sender = peer.try_clone().unwrap();
        let thread = std::thread::spawn(move || sender.send_to(b"x", address).unwrap());
        let start = clock::now();
        let mut received = 0;
        while received == 0 {
            shard.network.wait(Some(PATIENCE), Window::NONE);
            received = shard.network.receive(8);
        }
        assert!(clock::now().since(start) < PATIENCE);
        assert!(shard.network.next_datagram().is_some());
        thread.join().unwrap();
    }
}

fn a_window_lets_what_is_there_lie_for_others<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let address = shard.udp[0];
    let peer = peer(address);
    let rest = Duration::from_millis(50);
    for round in 0..3 {
        peer.send_to(b"first", address).unwrap();
        let sender = peer.try_clone().unwrap();
        let thread = std::thread::spawn(move || sender.send_to(b"second", address).unwrap());
        let start = clock::now();
        shard.network.wait(Some(PATIENCE), Window { rest, whole: rest });
        let waited = clock::now().since(start);
        thread.join().unwrap();
        // The first wait may end early, for what the back-end does when it starts.
        assert!(round == 0 || waited >= rest && waited < PATIENCE, "{waited:?}");
        let mut received = 0;
        while received < 2 {
            shard.network.receive(8);
            while shard.network.next_datagram().is_some() {
                received += 1;
            }
        }
    }
}

fn a_window_begins_with_the_first_arrival<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let address = shard.udp[0];
    let peer = peer(address);
    let whole = Duration::from_millis(50);
    let window = Window { rest: Duration::from_micros(1), whole };
    // A datagram that is there before the wait begins is not waited with, so the sender takes longer each time.
    let is_late = |head_start_ms| {
        let sender = peer.try_clone().unwrap();
        let start = clock::now();
        let thread = std::thread::spawn(move || {
            std::thread::park_timeout(Duration::from_millis(head_start_ms));
            sender.send_to(b"x", address).unwrap()
        });
        shard.network.wait(Some(PATIENCE), window);
        let waited = clock::now().since(start);
        thread.join().unwrap();
        while shard.network.receive(8) > 0 {
            while shard.network.next_datagram().is_some() {}
        }
        assert!(waited < PATIENCE);
        waited >= whole
    };
    assert!((1..100).any(is_late), "no wait collected");
}

fn a_window_does_not_outlast_itself<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let window = Window { rest: Duration::from_millis(2), whole: PATIENCE };
    shard.network.wait(Some(Duration::ZERO), window);
    // Nothing comes: the timeout ends the wait, not the window, and neither does a wake begin one.
    let start = clock::now();
    shard.network.wait(Some(Duration::from_millis(40)), window);
    let waited = clock::now().since(start);
    assert!(waited >= Duration::from_millis(39) && waited < PATIENCE, "{waited:?}");
    for _ in 0..10 {
        let wake = Arc::clone(&shard.wake);
        let start = clock::now();
        let waker = std::thread::spawn(move || wake.wake());
        shard.network.wait(None, window);
        assert!(clock::now().since(start) < PATIENCE);
        waker.join().unwrap();
    }
    let start = clock::now();
    shard.network.wait(Some(Duration::ZERO), window);
    assert!(
        clock::now().since(start) < Duration::from_millis(500),
        "what is due waits for the rest alone"
    );
}

fn nothing_is_lost_when_drained_between_bursts<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let peers = [peer(shard.udp[0]), peer(shard.udp[1])];
    let mut numbers = Vec::new();
    for burst in 0..40 {
        for number in burst * 100..burst * 100 + 100 {
            let local = number as usize % 2;
            peers[local].send_to(&numbered(number, 50), shard.udp[local]).unwrap();
        }
        numbers.extend(shard.take(100).iter().map(|(_, datagram)| number_of(datagram)));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..4000).collect::<Vec<_>>());
}

fn a_burst_beyond_all_buffers_is_read_whole<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let peer = peer(shard.udp[0]);
    // More than either back-end has buffers, and less than the receive buffer of an unprivileged socket.
    for number in 0..400 {
        peer.send_to(&numbered(number, 20), shard.udp[0]).unwrap();
    }
    let numbers: Vec<_> = shard.take(400).iter().map(|(_, d)| number_of(d)).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}

fn frames_survive_any_segmentation<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let mut random = fastrand::Rng::with_seed(11);
    for local in 0..2 {
        let mut client = connect(shard.tcp[local]);
        let sizes = [4, 5, 2048, 100, 1200, 4, 700, 2048, 2048, 30];
        let bytes: Vec<_> =
            (0..).zip(sizes).flat_map(|(n, len)| frame(&numbered(n, len))).collect();
        let mut received = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Single bytes at first, so that each boundary within a header is met.
            let most = if bytes.len() - rest.len() < 40 { 1 } else { 900 };
            let (now, later) = rest.split_at(random.usize(1..=most).min(rest.len()));
            client.write_all(now).unwrap();
            shard.turn(&mut received);
            rest = later;
        }
        let missing = sizes.len() - received.len();
        received.extend(shard.take(missing));
        for (number, (route, datagram)) in received.iter().enumerate() {
            assert_eq!(*datagram, numbered(number as u32, sizes[number]));
            assert_eq!(usize::from(route.local), local);
            assert_eq!(route.remote, client.local_addr().unwrap());
        }
        let path = shard.network.open_path(received[0].0);
        for (number, len) in (0..).zip(sizes) {
            shard.push(path, &numbered(number, len));
        }
        shard.flush();
        for (number, len) in (0..).zip(sizes) {
            assert_eq!(read_frame(&mut client), numbered(number, len));
        }
    }
}

fn empty_frames_are_ignored_and_huge_ones_end_the_connection<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let mut client = connect(shard.tcp[0]);
    client.write_all(&[0; 64]).unwrap();
    client.write_all(&frame(b"one")).unwrap();
    client.write_all(&[&[0, 0][..], &frame(b"two")[..], &[0x08, 0x01]].concat()).unwrap();
    let received = shard.take(2);
    assert_eq!(received[0].1, b"one");
    assert_eq!(received[1].1, b"two");
    shard.turn_until(|_, _| is_closed(&mut client.try_clone().unwrap()));
    assert_eq!(shard.network.tcp_counters().malformed, 1);
    assert_eq!(shard.network.next_closed(), Some(received[0].0));
}

fn many_frames_in_one_segment_respect_the_budget<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let mut client = connect(shard.tcp[0]);
    let bytes: Vec<_> = (0..3000).flat_map(|number| frame(&numbered(number, 4))).collect();
    client.write_all(&bytes).unwrap();
    let (start, mut numbers) = (clock::now(), Vec::new());
    while numbers.len() < 3000 {
        assert!(clock::now().since(start) < PATIENCE);
        shard.network.wait(Some(Duration::from_millis(20)), Window::NONE);
        let promised = shard.network.receive(7);
        assert!(promised <= 7);
        while let Some((_, datagram)) = shard.network.next_datagram() {
            numbers.push(number_of(datagram));
        }
    }
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
}

fn a_slow_reader_hurts_itself_alone<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let (mut slow, slow_route) = shard.connect();
    let (mut quick, quick_route) = shard.connect();
    let udp = peer(shard.udp[0]);
    let slow_path = shard.network.open_path(slow_route);
    let quick_path = shard.network.open_path(quick_route);
    let udp_path = shard.open_udp(udp.local_addr().unwrap());
    let mut pushed = 0;
    while shard.egress.drops.of(DropReason::TcpBacklog) == 0 {
        assert!(pushed < 60_000, "the kernel and the backlog took {pushed} datagrams");
        for _ in 0..10 {
            shard.push(slow_path, &numbered(pushed, 1200));
            pushed += 1;
        }
        shard.push(quick_path, &numbered(pushed, 600));
        shard.push(udp_path, &numbered(pushed, 600));
        shard.flush();
        assert_eq!(read_frame(&mut quick), numbered(pushed, 600));
        assert_eq!(read_datagrams(&udp, 1), [numbered(pushed, 600)]);
    }
    let lost = shard.egress.drops.of(DropReason::TcpBacklog) as usize;
    // What was kept arrives whole and in order once the peer reads.
    let reader = std::thread::spawn(move || {
        let numbers: Vec<_> = (0..pushed as usize - lost)
            .map(|_| {
                let frame = read_frame(&mut slow);
                assert_eq!(frame, numbered(number_of(&frame), 1200));
                number_of(&frame)
            })
            .collect();
        assert!(numbers.is_sorted());
        (slow, numbers.len())
    });
    shard.turn_until(|_, _| reader.is_finished());
    let (mut slow, _) = reader.join().unwrap();
    shard.push(slow_path, b"after");
    shard.flush();
    assert_eq!(read_frame(&mut slow), b"after");
}

fn a_connection_moves_between_shards_within_a_frame<N: Backend>() {
    let (mut a, mut b) = (Shard::<N>::start(), Shard::<N>::start());
    let mut client = connect(a.tcp[0]);
    let bytes =
        [frame(&numbered(0, 50)), frame(&numbered(1, 60)), frame(&numbered(2, 70))].concat();
    let (now, later) = bytes.split_at(120);
    client.write_all(now).unwrap();
    // Only the first frame is handed out; the second waits, the third is on its way.
    let start = clock::now();
    while a.network.receive(64) < 2 {
        assert!(clock::now().since(start) < PATIENCE);
        a.network.wait(Some(Duration::from_millis(20)), Window::NONE);
    }
    let (route, datagram) = a.network.next_datagram().unwrap();
    assert_eq!(datagram, numbered(0, 50));
    let old_path = a.network.open_path(route);
    let stream = a.network.release_stream(route).unwrap();
    assert!(a.network.release_stream(route).is_none(), "it is gone");
    assert!(a.network.next_datagram().is_none(), "its frames went with it");
    assert_eq!(stream.remote, client.local_addr().unwrap());

    let adopted = b.network.adopt_stream(stream).unwrap();
    assert_eq!((adopted.remote, adopted.local), (route.remote, route.local));
    let mut received = b.take(1);
    client.write_all(later).unwrap();
    received.extend(b.take(1));
    assert_eq!(received, [(adopted, numbered(1, 60)), (adopted, numbered(2, 70))]);
    let path = b.network.open_path(adopted);
    b.push(path, b"from b");
    b.flush();
    assert_eq!(read_frame(&mut client), b"from b");

    a.push(old_path, b"from a");
    a.flush();
    assert_eq!(a.refused(), 1);
    a.network.close_path(old_path);
    a.flush();
    drop(client);
    b.turn_until(|b, _| b.network.next_closed() == Some(adopted));
    assert_eq!(a.network.next_closed(), None);
}

fn unsent_bytes_move_with_the_connection<N: Backend>() {
    let (mut a, mut b) = (Shard::<N>::start(), Shard::<N>::start());
    let (mut client, route) = a.connect();
    let path = a.network.open_path(route);
    let mut pushed = 0;
    while a.egress.drops.of(DropReason::TcpBacklog) == 0 {
        assert!(pushed < 60_000);
        a.push(path, &numbered(pushed, 1000));
        a.flush();
        pushed += 1;
    }
    let stream = a.network.release_stream(route).unwrap();
    assert!(!stream.unsent.is_empty());
    b.network.adopt_stream(stream).unwrap();
    let reader = std::thread::spawn(move || {
        for number in 0..pushed - 1 {
            assert_eq!(read_frame(&mut client), numbered(number, 1000));
        }
    });
    b.turn_until(|_, _| reader.is_finished());
    reader.join().unwrap();
}

fn silent_connections_are_closed<N: Backend>() {
    let first_frame_timeout = Duration::from_millis(1);
    let mut shard =
        Shard::<N>::with_limits(TcpLimits { first_frame_timeout, ..TcpLimits::default() });
    let client = connect(shard.tcp[0]);
    // Part of a frame and empty frames are no frame.
    (&client).write_all(&[0, 0, 0, 9, 1, 2]).unwrap();
    shard.turn_until(|_, _| is_closed(&mut client.try_clone().unwrap()));
    assert_eq!(shard.network.tcp_counters().timed_out, 1);
    assert_eq!(shard.network.next_closed(), None, "nobody knew of it");
}

fn connections_without_a_path_are_closed<N: Backend>() {
    let first_path_timeout = Duration::from_millis(500);
    let mut shard =
        Shard::<N>::with_limits(TcpLimits { first_path_timeout, ..TcpLimits::default() });
    let (used, used_route) = shard.connect();
    shard.network.open_path(used_route);
    let (unused, unused_route) = shard.connect();
    shard.turn_until(|_, _| is_closed(&mut unused.try_clone().unwrap()));
    assert!(!is_closed(&mut used.try_clone().unwrap()));
    assert_eq!(shard.network.next_closed(), Some(unused_route));
    assert_eq!(shard.network.next_closed(), None);
}

fn connections_beyond_the_limit_are_closed<N: Backend>() {
    let mut shard =
        Shard::<N>::with_limits(TcpLimits { connections_max: 2, ..TcpLimits::default() });
    let (first, _) = shard.connect();
    let (_second, _) = shard.connect();
    let third = connect(shard.tcp[0]);
    shard.turn_until(|_, _| is_closed(&mut third.try_clone().unwrap()));
    let counters = shard.network.tcp_counters();
    assert_eq!((counters.accepted, counters.refused), (2, 1));
    drop(first);
    shard.turn_until(|shard, _| shard.network.next_closed().is_some());
    shard.connect();
}

fn the_end_of_a_connection_is_told_once<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let (mut client, route) = shard.connect();
    let path = shard.network.open_path(route);
    assert_eq!(shard.network.next_closed(), None);
    client.write_all(&frame(b"last words")).unwrap();
    drop(client);
    let received = shard.take(1);
    assert_eq!(received, [(route, b"last words".to_vec())]);
    shard.turn_until(|shard, _| shard.network.next_closed() == Some(route));
    assert_eq!(shard.network.next_closed(), None);
    shard.network.close_path(path);
    shard.flush();
    assert_eq!(shard.network.next_closed(), None);
}

fn closing_the_last_path_closes_the_connection<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let (mut client, route) = shard.connect();
    let (a, b) = (shard.network.open_path(route), shard.network.open_path(route));
    shard.network.close_path(a);
    shard.network.close_path(a);
    shard.push(b, b"still here");
    shard.flush();
    assert_eq!(read_frame(&mut client), b"still here");
    shard.push(b, b"goodbye");
    shard.network.close_path(b);
    shard.flush();
    assert_eq!(read_frame(&mut client), b"goodbye");
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(shard.network.next_closed(), None, "it was our doing");
}

fn a_datagram_for_an_ended_connection_is_refused<N: Backend>() {
    let mut shard = Shard::<N>::start();
    let (client, route) = shard.connect();
    let path = shard.network.open_path(route);
    drop(client);
    shard.turn_until(|shard, _| {
        shard.push(path, b"anyone?");
        shard.flush();
        shard.refused() > 0
    });
    shard.turn_until(|shard, _| shard.network.next_closed() == Some(route));
    let before = shard.refused();
    shard.push(path, b"anyone?");
    shard.flush();
    assert_eq!(shard.refused(), before + 1);
}
