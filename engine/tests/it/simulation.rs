//! Whole calls under seeds: loss, reordering, duplication, churn, rebinding and ICE restarts at once.
//!
//! `SLUICE_SEED` runs one seed, `SLUICE_SEEDS` another number of them.

use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::config::EngineConfig;
use sluice_engine::ids::ChannelId;
use sluice_engine::sctp::dcep::Reliability;
use sluice_engine::sctp::{ChannelEvent, DataKind};
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::testing::client::Client;

use crate::world::{Conditions, Media, World};

const SEEDS: u64 = 200;

#[test]
fn calls_survive_bad_networks_and_churn_under_every_seed() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(SEEDS),
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| one_call(seed));
        if let Err(panic) = outcome {
            eprintln!("failed under SLUICE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_call() {
    for seed in [3, 7, 155] {
        assert_eq!(one_call(seed), one_call(seed), "seed {seed}");
    }
}

/// Gives the hash of the call's course.
fn one_call(seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let shards = rng.usize(1..=3);
    let mut world = World::new(seed, shards, EngineConfig::default());
    world.conditions = Conditions {
        loss: rng.f64() * 0.08,
        duplicate: rng.f64() * 0.05,
        reorder: rng.f64() * 0.3,
        jitter: Duration::from_millis(rng.u64(0..40)),
        delay: Duration::from_millis(rng.u64(1..30)),
    };
    world.transport_cc = rng.bool();
    let calls = rng.u64(1..=2);
    for call in 1..=calls {
        let homes = if rng.bool() { one_of(&mut rng, shards) } else { 0..shards };
        for _ in 0..rng.usize(2..=3) {
            let home = rng.usize(homes.clone());
            let kernel_shard = rng.usize(0..shards);
            let peer = world.join(call, home, kernel_shard);
            world.publish(peer, Media::Audio);
            if rng.bool() {
                world.publish(peer, Media::Video);
            }
        }
    }
    let rtx = rng.bool();
    let mut talk = Talk::new(&mut world);
    world.connect_all();
    for call in 1..=calls {
        world.subscribe_all(call, rtx);
    }
    for _ in 0..rng.usize(1..=4) {
        world.run(Duration::from_millis(rng.u64(100..900)));
        talk.go_on(&mut world);
        disturb(&mut world, &mut rng, rtx);
    }
    // The network recovers, and everyone who is left gets everything from here on.
    world.conditions = Conditions { delay: Duration::from_millis(5), ..Conditions::default() };
    world.connect_all();
    for call in 1..=calls {
        world.subscribe_all(call, rtx);
    }
    for peer in (0..world.peers.len()).filter(|&peer| !world.peers[peer].gone).collect::<Vec<_>>() {
        (0..world.peers[peer].publications.len()).for_each(|at| world.set_muted(peer, at, false));
    }
    world.run(Duration::from_secs(4));
    for peer in &mut world.peers {
        peer.got.clear();
    }
    world.run(Duration::from_secs(1));
    everyone_gets_everything(&world);
    numbers_are_consistent(&world);
    talk.all_arrives(&mut world);
    for peer in 0..world.peers.len() {
        if !world.peers[peer].gone {
            world.leave(peer);
        }
    }
    world.run(Duration::from_secs(1));
    for shard in 0..shards {
        let left = world.snapshot(shard);
        assert_eq!((left.sessions, left.tracks, left.legs, left.calls), (0, 0, 0, 0));
        assert_eq!(world.shards[shard].network.open_paths(), 0, "seed {seed}: handles leak");
    }
    world.course
}

/// A range of one shard, for a call that is on no other.
fn one_of(rng: &mut fastrand::Rng, shards: usize) -> std::ops::Range<usize> {
    let shard = rng.usize(0..shards);
    shard..shard + 1
}

/// What the first peers and control say to each other over data channels, all along.
struct Talk {
    channels: Vec<ChannelId>,
    /// How often each peer, and control to each peer, said something.
    said: Vec<[u32; 2]>,
}

impl Talk {
    fn new(world: &mut World) -> Self {
        let open = |client: &mut Client, _: Instant, _: &mut dyn FnMut(&[u8])| {
            client.data.open("talk", false, Reliability::Reliable)
        };
        let peers = world.peers.len();
        let channels = (0..peers).map(|peer| world.with_client(peer, open)).collect();
        Self { channels, said: vec![[0; 2]; peers] }
    }

    fn go_on(&mut self, world: &mut World) {
        for (peer, &channel) in self.channels.iter().enumerate() {
            if world.peers[peer].gone {
                continue;
            }
            for _ in 0..5 {
                let [peers, ours] = &mut self.said[peer];
                let kind = DataKind::Binary;
                let theirs = world.with_client(peer, |client, now, send| {
                    let taken = client.data.send(channel, kind, sentence(*peers)).is_ok();
                    client.serve_data(now, send);
                    taken
                });
                *peers += u32::from(theirs);
                let (home, session) = (world.peers[peer].home, world.peers[peer].session);
                let command = Command::SendData {
                    session,
                    channel,
                    kind,
                    bytes: sentence(*ours),
                    confirm: true,
                };
                // Before its channel is open a peer cannot be talked to.
                *ours += u32::from(world.command(home, command).is_ok());
            }
        }
    }

    fn all_arrives(&self, world: &mut World) {
        let arrived = |world: &World| {
            let reports = world.reports.lock().expect("unpoisoned");
            let present = self.channels.iter().zip(&world.peers).zip(&self.said);
            present.filter(|((_, peer), _)| !peer.gone).all(|((channel, peer), said)| {
                let theirs = reports.iter().filter_map(|report| match report {
                    Report::Data { session, channel: on, bytes, .. }
                        if *session == peer.session =>
                    {
                        Some((on, bytes))
                    }
                    _ => None,
                });
                let ours = peer.client.data.events.iter().filter_map(|event| match event {
                    ChannelEvent::Message(on, _, bytes) => Some((on, bytes)),
                    _ => None,
                });
                is_whole(theirs, *channel, said[0]) && is_whole(ours, *channel, said[1])
            })
        };
        world.run_until(Duration::from_secs(30), "all that was said", arrived);
    }
}

/// Whether `count` sentences have arrived; panics when one is not the next.
fn is_whole<'a>(
    heard: impl Iterator<Item = (&'a ChannelId, &'a Vec<u8>)>,
    channel: ChannelId,
    count: u32,
) -> bool {
    let mut next = 0;
    for (&on, bytes) in heard {
        assert_eq!(on, channel);
        assert_eq!(*bytes, sentence(next), "a sentence is damaged or out of order");
        next += 1;
    }
    assert!(next <= count, "a sentence that nobody said");
    next == count
}

fn sentence(n: u32) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(4 + n as usize * 331 % 4_000, n as u8);
    bytes
}

fn disturb(world: &mut World, rng: &mut fastrand::Rng, rtx: bool) {
    let present: Vec<_> = (0..world.peers.len()).filter(|&p| !world.peers[p].gone).collect();
    let peer = present[rng.usize(0..present.len())];
    match rng.u8(0..7) {
        0 if present.len() > 2 => world.leave(peer),
        1 => {
            let call = world.peers[peer].call.0;
            let home = rng.usize(0..world.shards.len());
            let kernel_shard = rng.usize(0..world.shards.len());
            let joiner = world.join(call, home, kernel_shard);
            world.publish(joiner, Media::Audio);
            world.subscribe_all(call, rtx);
        }
        2 => world.restart_ice(peer),
        3 => {
            // No NAT gives one port to two clients at a time.
            let taken = |port: &u16| world.peers.iter().any(|p| p.address.port() == *port);
            let port = std::iter::repeat_with(|| 40_000 + rng.u16(0..10_000)).find(|p| !taken(p));
            world.peers[peer].address.set_port(port.expect("far more ports than peers"));
            world.peers[peer].kernel_shard = rng.usize(0..world.shards.len());
        }
        4 => {
            let call = world.peers[peer].call.0;
            world.publish(peer, Media::Video);
            world.subscribe_all(call, rtx);
        }
        5 => {
            let publication = rng.usize(0..world.peers[peer].publications.len());
            world.set_muted(peer, publication, true);
        }
        _ => world.ask_for_keyframes(peer),
    }
}

fn everyone_gets_everything(world: &World) {
    let seed = world.seed;
    for peer in world.peers.iter().filter(|peer| !peer.gone) {
        for subscription in &peer.subscriptions {
            let publisher = world
                .peers
                .iter()
                .find(|p| p.publications.iter().any(|p| p.track == subscription.track));
            let publisher = publisher.expect("a subscription has a publisher");
            let publication = publisher.publications.iter().find(|p| p.track == subscription.track);
            let media = publication.expect("just found").media;
            let got = peer.got.get(&(publisher.session.0, media)).map_or(0, Vec::len);
            assert!(
                got > 30,
                "seed {seed}: {:?} got {got} {media:?} packets of {:?} in a second",
                peer.session,
                publisher.session
            );
        }
    }
}

/// Without loss, each stream's packets come once each and in the publisher's order.
fn numbers_are_consistent(world: &World) {
    let seed = world.seed;
    for peer in world.peers.iter().filter(|peer| !peer.gone) {
        for ((publisher, media), got) in &peer.got {
            let tracks = world
                .peers
                .iter()
                .filter(|p| p.session.0 == *publisher)
                .flat_map(|p| &p.publications)
                .filter(|p| p.media == *media)
                .count();
            if tracks == 1 {
                let in_order = got.windows(2).all(|pair| pair[1] == pair[0] + 1);
                assert!(in_order, "seed {seed}: {media:?} of {publisher} is not in order");
            }
        }
    }
}
