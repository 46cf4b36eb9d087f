//! What must hold for a call on this host, for each back-end and number of shards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::command_error::CommandError;
use sluice_engine::config::BackendChoice;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::io::probe::probe;
use sluice_engine::sctp::dcep::Reliability;
use sluice_engine::sctp::{ChannelEvent, DataKind};
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::handle::{Engine, Reports};
use sluice_engine::shard::mailbox::{Answer, Command, Report};

use crate::driver::{Collect, Kind, Link, Media, PATIENCE, World, answer_of, loopback, pause};

macro_rules! for_each_engine {
    ($($name:ident)*) => {
        for_each_engine! { @ mmsg_one_shard Mmsg 1 $($name)* }
        for_each_engine! { @ mmsg_two_shards Mmsg 2 $($name)* }
        for_each_engine! { @ uring_one_shard Uring 1 $($name)* }
        for_each_engine! { @ uring_two_shards Uring 2 $($name)* }
    };
    (@ $module:ident $backend:ident $shards:literal $($name:ident)*) => {
        mod $module {
            use super::{BackendChoice, Kind};
            $(#[test] fn $name() {
                let kind = Kind { backend: BackendChoice::$backend, shards: $shards };
                super::run(kind, super::$name);
            })*
        }
    };
}

for_each_engine! {
    three_hear_each_other_over_udp
    three_hear_each_other_over_udp_on_ipv6
    everyone_hears_everyone_over_tcp_whichever_shard_accepted
    udp_and_tcp_meet_in_one_call
    sessions_get_their_datagrams_whichever_socket_got_them
    a_leaver_is_told_goodbye_and_the_others_go_on
    a_reader_that_stops_does_not_disturb_the_others
    a_stop_says_goodbye_to_all_and_joins_the_threads
    a_second_engine_on_the_same_port_is_refused
    a_panic_in_a_turn_does_not_take_the_port
    a_full_mailbox_refuses_at_once_and_answers_what_it_took
    an_ice_restart_keeps_the_media_whole
    an_ice_restart_brings_back_whoever_lost_consent
    media_follows_a_client_to_another_address
    data_channels_carry_messages_over_udp_and_tcp
}

fn run(kind: Kind, test: fn(Kind)) {
    if kind.backend == BackendChoice::Uring
        && let Err(reason) = probe(BackendChoice::Uring)
    {
        eprintln!("not tested: {reason}");
        return;
    }
    test(kind);
}

/// Packets of each track that show that media flows: a second of audio.
const ENOUGH: usize = 50;

/// A call whose sessions live on shard 0, with audio and video of everyone, connected over `links`.
fn call_over(world: &mut World, links: impl IntoIterator<Item = Link>) {
    for link in links {
        let peer = world.join(0, link);
        world.publish(peer, Media::Audio, 1);
        world.publish(peer, Media::Video, 3);
    }
    world.connect_all();
    world.subscribe_all();
}

fn three_over_udp(world: &mut World) {
    let server = world.udp();
    call_over(world, (0..3).map(|_| Link::udp(server)));
}

fn three_hear_each_other_over_udp(kind: Kind) {
    let mut world = World::new(kind.config());
    three_over_udp(&mut world);
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.sessions, snapshot.tracks, snapshot.legs), (3, 6, 12));
    for session in &snapshot.session_list {
        assert_eq!((session.transport, session.phase), (Some("udp"), "connected"));
        assert!(session.packets_in >= ENOUGH as u64 && session.packets_lost_in == 0);
    }
    assert!(snapshot.counters.transport_cc_out > 0, "publishers are told of arrivals");
}

fn three_hear_each_other_over_udp_on_ipv6(kind: Kind) {
    if let Err(error) = std::net::UdpSocket::bind(loopback(6)) {
        return eprintln!("not tested: no IPv6 on this host: {error}");
    }
    let mut config = kind.config();
    config.addresses = vec![loopback(6)];
    config.tcp_addresses = vec![loopback(6)];
    let mut world = World::new(config);
    assert!(world.udp().is_ipv6());
    let (udp, tcp) = (world.udp(), world.tcp());
    call_over(&mut world, [Link::udp(udp), Link::udp(udp), Link::tcp(tcp)]);
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
}

fn everyone_hears_everyone_over_tcp_whichever_shard_accepted(kind: Kind) {
    let mut world = World::new(kind.config());
    let server = world.tcp();
    let others = 1..usize::from(kind.shards);
    let migrated = |world: &World| -> u64 {
        others.clone().map(|shard| world.snapshot(shard).counters.steered_out).sum()
    };
    // The kernel deals connections out to the listeners as it likes: a few more until some have to move.
    for joined in 1..=40 {
        let peer = world.join(0, Link::tcp(server));
        world.publish(peer, Media::Audio, 1);
        world.connect_all();
        if joined >= 8 && (kind.shards == 1 || migrated(&world) >= 2) {
            break;
        }
    }
    world.subscribe_all();
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    assert_eq!(migrated(&world) > 0, kind.shards > 1);
    let owner = world.snapshot(0);
    assert!(owner.session_list.iter().all(|session| session.transport == Some("tcp")));
    assert_eq!(owner.sessions, world.peers.len());
}

fn udp_and_tcp_meet_in_one_call(kind: Kind) {
    let mut world = World::new(kind.config());
    let (udp, tcp) = (world.udp(), world.tcp());
    call_over(&mut world, [Link::udp(udp), Link::tcp(tcp), Link::udp(udp), Link::tcp(tcp)]);
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let sessions = world.snapshot(0).session_list;
    let over = |name| sessions.iter().filter(|s| s.transport == Some(name)).count();
    assert_eq!((over("udp"), over("tcp")), (2, 2));
}

fn sessions_get_their_datagrams_whichever_socket_got_them(kind: Kind) {
    let mut world = World::new(kind.config());
    let shards = usize::from(kind.shards);
    let links: Vec<_> = (0..4).map(|at| world.udp_on(at % shards)).collect();
    call_over(&mut world, links);
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let owner = world.snapshot(0);
    assert_eq!(owner.sessions, 4);
    let Some(other) = (shards > 1).then(|| world.snapshot(1)) else {
        return assert_eq!(owner.counters.steered_in, 0);
    };
    // Two of the four send all of their media to the other socket.
    let least = 2 * 2 * ENOUGH as u64;
    assert!(other.counters.steered_out > least, "{}", other.counters.steered_out);
    assert!(owner.counters.steered_in > least && owner.counters.datagrams_in > least);
    assert_eq!((other.sessions, other.drops.of(DropReason::RelayFull)), (0, 0));
}

fn a_leaver_is_told_goodbye_and_the_others_go_on(kind: Kind) {
    let mut world = World::new(kind.config());
    let (udp, tcp) = (world.udp(), world.tcp());
    call_over(&mut world, [Link::udp(udp), Link::udp(udp), Link::udp(udp), Link::tcp(tcp)]);
    world.all_hear_all(ENOUGH);
    for leaver in [2, 3] {
        world.leave(leaver);
        world.run_until("goodbye", |world| {
            let Some(peer) = world.peers.get(leaver) else { return false };
            peer.client.closed() == Some(SessionError::PeerLeft) && peer.byes > 0
        });
    }
    world.forget();
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.sessions, snapshot.tracks, snapshot.legs), (2, 4, 4));
    assert!(!world.reported(|report| matches!(report, Report::Closed { .. })), "it was asked for");
}

fn a_reader_that_stops_does_not_disturb_the_others(kind: Kind) {
    let mut world = World::new(kind.config());
    let (udp, tcp) = (world.udp(), world.tcp());
    for link in [Link::udp(udp), Link::tcp(tcp), Link::tcp_narrow(tcp)] {
        let peer = world.join(0, link);
        world.publish(peer, Media::Audio, 1);
    }
    // Enough to fill the kernel's buffers and ours within seconds.
    world.publish(0, Media::Video, 30);
    world.connect_all();
    world.peers[2].reads = false;
    world.subscribe_all();
    world.all_hear_all(ENOUGH);
    let start = clock::now();
    while world.snapshot(0).drops.of(DropReason::TcpBacklog) == 0 {
        assert!(clock::now().since(start) < PATIENCE, "the reader's buffers never fill");
        world.run(Duration::from_millis(100));
    }
    world.forget();
    world.all_hear_all(2 * ENOUGH);
    world.assert_gapless();
}

fn a_stop_says_goodbye_to_all_and_joins_the_threads(kind: Kind) {
    let mut world = World::new(kind.config());
    let last = usize::from(kind.shards) - 1;
    let (udp, tcp) = (world.udp(), world.tcp());
    for (home, link) in [(0, Link::udp(udp)), (last, Link::udp(udp)), (0, Link::tcp(tcp))] {
        let peer = world.join(home, link);
        world.publish(peer, Media::Audio, 1);
    }
    world.connect_all();
    let World { engine, peers, reports, .. } = world;
    let shards = engine.shards().to_vec();
    let collectors = Arc::strong_count(&reports);
    engine.stop();
    // The sinks went with the threads that held them.
    assert_eq!(Arc::strong_count(&reports), collectors - usize::from(kind.shards));
    for shard in &shards {
        let refused = shard.request(Command::Snapshot { sessions: false }).map(|_| ());
        assert_eq!(refused, Err(CommandError::ShardGone));
    }
    let deadline = clock::now() + PATIENCE;
    let mut peers = peers;
    while !peers.iter().all(|p| p.client.closed() == Some(SessionError::PeerLeft) && p.byes > 0) {
        assert!(clock::now() < deadline, "not everyone was told");
        for peer in &mut peers {
            peer.step();
        }
        pause();
    }
    // The port is free again.
    let mut again = kind.config();
    (again.addresses, again.tcp_addresses) = (vec![udp], vec![tcp]);
    World::new(again);
}

fn a_second_engine_on_the_same_port_is_refused(kind: Kind) {
    let world = World::new(kind.config());
    let (udp, tcp) = (world.udp(), world.tcp());
    for (udp, tcp, taken) in [(vec![udp], vec![], udp), (vec![], vec![tcp], tcp)] {
        let mut config = kind.config();
        (config.addresses, config.tcp_addresses) = (udp, tcp);
        let second = Engine::start(config, |_| Box::new(Collect::default()));
        let message = second.err().expect("the port is taken").to_string();
        assert!(message.contains(&taken.port().to_string()), "{message}");
    }
}

/// Panics at the first report of a connection once it is armed.
struct PanicOnce {
    armed: Arc<AtomicBool>,
    rest: Collect,
}

impl Reports for PanicOnce {
    fn try_report(&mut self, report: Report) -> Result<(), Report> {
        let connected = matches!(report, Report::Connected { .. });
        assert!(!(connected && self.armed.swap(false, Ordering::SeqCst)), "as the test wants");
        self.rest.try_report(report)
    }
}

fn a_panic_in_a_turn_does_not_take_the_port(kind: Kind) {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let armed = Arc::new(AtomicBool::new(false));
    let engine = Engine::start(kind.config(), |_| {
        Box::new(PanicOnce { armed: Arc::clone(&armed), rest: Collect(Arc::clone(&reports)) })
    });
    let mut world = World::of(engine.expect("the engine starts"), reports);
    three_over_udp(&mut world);
    world.all_hear_all(ENOUGH);
    armed.store(true, Ordering::SeqCst);
    let (udp, tcp) = (world.udp(), world.tcp());
    world.join(0, Link::udp(udp));
    world.connect_all();
    world.run_until("the panic", |world| world.snapshot(0).counters.panics > 0);
    // Whoever was there goes on, and so does whoever comes.
    let late = world.join(0, Link::tcp(tcp));
    world.publish(late, Media::Audio, 1);
    world.connect_all();
    world.subscribe_all();
    world.forget();
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.counters.panics, snapshot.sessions), (1, 5));
    let session = world.peers[late].session;
    assert!(world.reported(|r| matches!(r, Report::Connected { session: s, .. } if *s == session)));
}

/// Holds the shard's thread in the report of a connection until the gate opens: no turn ends meanwhile.
struct Gate {
    open: Arc<(Mutex<bool>, Condvar)>,
    reached: Arc<AtomicBool>,
}

impl Reports for Gate {
    fn try_report(&mut self, _report: Report) -> Result<(), Report> {
        self.reached.store(true, Ordering::SeqCst);
        let (open, opened) = &*self.open;
        let guard = open.lock().expect("unpoisoned");
        drop(opened.wait_while(guard, |open| !*open).expect("unpoisoned"));
        Ok(())
    }
}

fn a_full_mailbox_refuses_at_once_and_answers_what_it_took(kind: Kind) {
    let open = Arc::new((Mutex::new(false), Condvar::new()));
    let reached = Arc::new(AtomicBool::new(false));
    let engine = Engine::start(kind.config(), |_| {
        Box::new(Gate { open: Arc::clone(&open), reached: Arc::clone(&reached) })
    });
    let mut world = World::of(engine.expect("the engine starts"), Arc::default());
    let udp = world.udp();
    world.join(0, Link::udp(udp));
    world.run_until("a connection", |_| reached.load(Ordering::SeqCst));
    let mut accepted = Vec::new();
    let refused = (0..100_000).find_map(|_| {
        match world.engine.shards()[0].request(Command::Snapshot { sessions: true }) {
            Ok(reply) => accepted.push(reply),
            Err(error) => return Some(error),
        }
        None
    });
    assert_eq!(refused, Some(CommandError::MailboxFull));
    assert!(accepted.len() >= 1_000, "only {} fit", accepted.len());
    for other in 1..usize::from(kind.shards) {
        assert_eq!(world.snapshot(other).sessions, 0, "another shard answers meanwhile");
    }
    *open.0.lock().expect("unpoisoned") = true;
    open.1.notify_all();
    for reply in accepted {
        assert!(
            matches!(answer_of(reply), Ok(Answer::Snapshot(snapshot)) if snapshot.sessions == 1)
        );
    }
    world.connect_all();
}

fn an_ice_restart_keeps_the_media_whole(kind: Kind) {
    let mut world = World::new(kind.config());
    three_over_udp(&mut world);
    world.all_hear_all(ENOUGH);
    let before = world.peers[1].client.checks_answered();
    world.restart_ice(1);
    world.run_until("a check under the new credentials", |world| {
        world.peers[1].client.checks_answered() > before
    });
    // As when a laptop leaves its dock: new credentials from a new address.
    let server = world.udp();
    world.peers[2].link = Link::udp(server);
    world.restart_ice(2);
    world.forget();
    world.all_hear_all(2 * ENOUGH);
    let drops = world.snapshot(0).drops;
    assert_eq!((drops.of(DropReason::BadTag), drops.of(DropReason::Replayed)), (0, 0));
    for peer in &world.peers {
        assert_eq!(peer.client.refused, 0);
    }
    assert_eq!(world.snapshot(0).counters.sessions_connected, 3, "no second handshake");
}

fn an_ice_restart_brings_back_whoever_lost_consent(kind: Kind) {
    let mut config = kind.config();
    // Above the clients' interval of checks.
    config.consent_timeout = Duration::from_secs(4);
    let mut world = World::new(config);
    three_over_udp(&mut world);
    world.all_hear_all(ENOUGH);
    world.peers[0].client.stop_checks();
    let session = world.peers[0].session;
    world.run_until("lost consent", |w| w.reported(|r| *r == Report::Disconnected { session }));
    world.restart_ice(0);
    world.run_until("consent", |w| w.reported(|r| *r == Report::Reconnected { session }));
    world.forget();
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
    let others = world.peers[1..].iter().map(|peer| peer.session).collect::<Vec<_>>();
    let lost =
        |r: &Report| matches!(r, Report::Disconnected { session } if others.contains(session));
    assert!(!world.reported(lost), "the others were not disturbed");
}

fn media_follows_a_client_to_another_address(kind: Kind) {
    let mut world = World::new(kind.config());
    let links: Vec<_> = (0..3).map(|_| world.udp_on(0)).collect();
    call_over(&mut world, links);
    world.all_hear_all(ENOUGH);
    // The new address leads to another socket where there is one.
    world.peers[1].link = world.udp_on(usize::from(kind.shards) - 1);
    world.forget();
    world.all_hear_all(2 * ENOUGH);
    let snapshot = world.snapshot(0);
    assert!(snapshot.drops.of(DropReason::UnknownRoute) + steered(&world) > 0);
    assert_eq!((snapshot.sessions, snapshot.counters.sessions_connected), (3, 3));
    world.forget();
    world.all_hear_all(ENOUGH);
    world.assert_gapless();
}

fn steered(world: &World) -> u64 {
    let shards = 0..world.engine.shards().len();
    shards.map(|shard| world.snapshot(shard).counters.steered_out).sum()
}

fn data_channels_carry_messages_over_udp_and_tcp(kind: Kind) {
    let mut world = World::new(kind.config());
    let home = world.engine.shards().len() - 1;
    let (udp, tcp) = (Link::udp(world.udp()), Link::tcp(world.tcp()));
    let peers = [world.join(home, udp), world.join(home, tcp)];
    world.connect_all();
    for peer in peers {
        let channel = world.peers[peer].with_client(|client, now, send| {
            let channel = client.data.open("dc", false, Reliability::Reliable);
            client.serve_data(now, send);
            channel
        });
        let session = world.peers[peer].session;
        let opened = Report::ChannelOpened { session, channel, label: "dc".to_owned() };
        world.run_until("the channel", |world| world.reported(|report| *report == opened));
        // Several windows of the congestion control either way.
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        world.peers[peer].with_client(|client, now, send| {
            client.data.send(channel, DataKind::Binary, bytes.clone()).expect("an open channel");
            client.serve_data(now, send);
        });
        let kind = DataKind::Binary;
        let command =
            Command::SendData { session, channel, kind, bytes: bytes.clone(), confirm: false };
        assert!(matches!(world.command(home, command), Ok(Answer::Done)));
        let said = Report::Data { session, channel, kind, bytes: bytes.clone() };
        let heard = ChannelEvent::Message(channel, kind, bytes);
        world.run_until("messages", |world| {
            world.reported(|report| *report == said)
                && world.peers[peer].client.data.events.contains(&heard)
        });
    }
}
