//! What a session takes of memory while nobody speaks: everything that a shard keeps of it, the C code of the cryptography included.
//!
//! Counted in the C library's own blocks, so that what rounding costs is seen; its headers of eight bytes a block are not.

#![cfg(target_env = "gnu")]
#![allow(
    unsafe_code,
    reason = "stands in for the C library's allocator; each block says why it is sound"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sluice_engine::clock::{Instant, NtpTime, WallClock};
use sluice_engine::config::EngineConfig;
use sluice_engine::dtls::Identity;
use sluice_engine::ids::{CallId, ShardId};
use sluice_engine::route::{Route, Transport};
use sluice_engine::sctp::DataKind;
use sluice_engine::sctp::dcep::Reliability;
use sluice_engine::session::params::SessionParams;
use sluice_engine::shard::handle::{Envelope, Reports};
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::shard::steering::Steering;
use sluice_engine::shard::{NextWake, Shard, ShardParts};
use sluice_engine::testing::acquainted::acquainted;
use sluice_engine::testing::client::Client;
use sluice_engine::testing::net::SimNetwork;

thread_local! {
    /// Bytes that this thread took and has not given back.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
    fn malloc_usable_size(block: *mut c_void) -> usize;
}

fn taken(block: *mut c_void) -> *mut c_void {
    // SAFETY: null, or a block of the C library's allocator that is in use.
    let size = unsafe { malloc_usable_size(block) };
    LIVE.set(LIVE.get() + size as i64);
    block
}

fn given_back(block: *mut c_void) {
    // SAFETY: as above.
    let size = unsafe { malloc_usable_size(block) };
    LIVE.set(LIVE.get() - size as i64);
}

// SAFETY (all five): they hand out what the C library's functions of the same contract hand out, and take back the same. Counting
// touches a thread-local cell that needs neither memory nor destruction.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: as above.
    taken(unsafe { __libc_malloc(size) })
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: as above.
    taken(unsafe { __libc_calloc(count, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    given_back(block);
    // SAFETY: as above; the caller answers for `block`, as it does towards the C library.
    taken(unsafe { __libc_realloc(block, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: as above; `out` is the caller's to write to, by the contract of this function.
    unsafe {
        let block = __libc_memalign(alignment, size);
        if block.is_null() {
            return 12; // ENOMEM
        }
        out.write(taken(block));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    given_back(block);
    // SAFETY: as above; the caller answers for `block`.
    unsafe { __libc_free(block) }
}

struct Forget;

impl Reports for Forget {
    fn try_report(&mut self, _report: Report) -> Result<(), Report> {
        Ok(())
    }
}

const LOCAL: u16 = 0;
const FIRST_PORT: u16 = 10_000;

/// One shard, and peers that are connected to it and send no media.
struct Crowd {
    now: Instant,
    shard: Shard,
    network: SimNetwork,
    mailbox: SyncSender<Envelope>,
    peers: Vec<Client>,
}

impl Crowd {
    fn new(identities: &[Identity; 2], sessions: usize, data_channels: bool) -> Self {
        let now = Instant::from_start(Duration::from_secs(1_000));
        let [ours, theirs] = identities;
        let (mailbox, orders) = sync_channel(256);
        let parts = ShardParts {
            id: ShardId(0),
            config: EngineConfig::default(),
            identity: Arc::new(ours.clone()),
            wall: WallClock::fixed(now, NtpTime(3_900_000_000 << 32)),
            seed: 7,
            steering: Steering::mesh(1).remove(0),
            mailbox: orders,
            reports: Box::new(Forget),
        };
        let shard = Shard::new(now, parts);
        let mut crowd =
            Self { now, shard, network: SimNetwork::default(), mailbox, peers: Vec::new() };
        let mut rng = fastrand::Rng::with_seed(7);
        for peer in 0..sessions {
            let place = (CallId(1), ShardId(0));
            let (session, client) = acquainted(peer as u64, place, (ours, theirs), &mut rng);
            crowd
                .command(Command::AddSession(Box::new(SessionParams { data_channels, ..session })));
            let mut client = Client::new(now, client);
            if data_channels {
                client.data.open("calls-dc", false, Reliability::Reliable);
            }
            crowd.peers.push(client);
        }
        crowd
    }

    fn command(&mut self, command: Command) {
        let (envelope, mut reply) = Envelope::new(command);
        assert!(self.mailbox.try_send(envelope).is_ok(), "room in the mailbox");
        self.turn();
        reply.try_recv().expect("the shard lives").expect("answered").expect("done");
    }

    /// Turns the shard until it rests, and hands what it sent to the clients.
    fn turn(&mut self) {
        loop {
            let next = self.shard.turn(self.now, &mut self.network);
            while let Some((route, datagram)) = self.network.sent.pop_front() {
                let peer = usize::from(route.remote.port() - FIRST_PORT);
                let mut datagram = datagram;
                let send = &mut to_shard(peer, &mut self.network);
                self.peers[peer].handle_datagram(self.now, &mut datagram, send);
            }
            if next != NextWake::Now && self.network.arrived.is_empty() {
                return;
            }
        }
    }

    /// Time passes; peers with a channel say something over it each second.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(5);
            let is_full_second = self.now.as_micros().is_multiple_of(1_000_000);
            for (peer, client) in self.peers.iter_mut().enumerate() {
                let send = &mut to_shard(peer, &mut self.network);
                if client.next_deadline().is_some_and(|due| due <= self.now) {
                    client.handle_timeout(self.now, send);
                }
                let ping = || b"ping".to_vec();
                if is_full_second
                    && client
                        .data
                        .send(sluice_engine::ids::ChannelId(0), DataKind::Text, ping())
                        .is_ok()
                {
                    client.serve_data(self.now, send);
                }
            }
            self.turn();
        }
    }

    /// Connects everybody, lets some time pass and leaves the shard and nothing else.
    fn settle(mut self, pings: u64) -> Shard {
        let end = self.now + Duration::from_secs(20);
        while !self.peers.iter().all(Client::is_connected) {
            assert!(self.now < end, "not everyone is connected");
            self.run(Duration::from_millis(10));
        }
        self.run(Duration::from_secs(20));
        let counters = self.shard.counters();
        assert!(counters.stun_checks > 6 * self.peers.len() as u64, "consent is kept fresh");
        let reports = counters.rtcp_packets_out / self.peers.len() as u64;
        assert!((3..=5).contains(&reports), "one in five seconds, not {reports} in twenty");
        assert!(counters.data_messages_in >= pings * self.peers.len() as u64, "and they talk");
        self.shard
    }
}

fn to_shard(peer: usize, network: &mut SimNetwork) -> impl FnMut(&[u8]) {
    let remote = SocketAddr::from(([192, 0, 2, 1], FIRST_PORT + peer as u16));
    let route = Route { transport: Transport::Udp, local: LOCAL, remote };
    move |datagram: &[u8]| network.arrived.push_back((route, datagram.to_vec()))
}

/// Bytes that a shard with so many sessions keeps.
fn kept(identities: &[Identity; 2], sessions: usize, pings: u64) -> i64 {
    let before = LIVE.get();
    let shard = Crowd::new(identities, sessions, pings > 0).settle(pings);
    let bytes = LIVE.get() - before;
    drop(shard);
    bytes
}

/// Bytes of one more session, at numbers for which tables that double have just done so.
fn bytes_per_session(pings: u64) -> i64 {
    let identities = [(); 2].map(|()| Identity::generate().expect("a certificate"));
    // The first of all leaves what the cryptography makes once for a thread.
    kept(&identities, 1, pings);
    (kept(&identities, 128, pings) - kept(&identities, 64, pings)) / 64
}

#[test]
fn an_idle_session_takes_little_memory() {
    let bytes = bytes_per_session(0);
    println!("{bytes} bytes for a session; {} of them in place", session_size());
    assert!(bytes <= BYTES_MAX, "{bytes}");
}

#[test]
fn an_idle_session_with_a_data_channel_takes_little_more() {
    let bytes = bytes_per_session(15);
    println!("{bytes} bytes for a session that talks over a data channel");
    assert!(bytes <= BYTES_WITH_DATA_MAX, "{bytes}");
}

fn session_size() -> usize {
    size_of::<sluice_engine::session::Session>()
}

/// The engine's half of the 32 KiB that an idle session may take.
const BYTES_MAX: i64 = 16 << 10;

/// With the association of its data channels.
const BYTES_WITH_DATA_MAX: i64 = 22 << 10;

/// The counter counts: without this the tests above could pass on a host where nothing is seen.
#[test]
fn memory_is_seen_while_it_is_held() {
    let before = LIVE.get();
    let block = std::hint::black_box(vec![7_u8; 10_000]);
    let held = LIVE.get() - before;
    assert!((10_000..10_100).contains(&held), "{held}");
    drop(block);
    assert_eq!(LIVE.get(), before);
}
