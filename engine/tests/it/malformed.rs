//! Hostile input at the port: counted, never answered, and running calls go on.

use std::time::Duration;

use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;

use crate::world::{Media, World};

fn call_of_two(seed: u64) -> World {
    let mut world = World::new(seed, 2, EngineConfig::default());
    world.conditions.delay = Duration::from_millis(2);
    for at in 0..2 {
        let peer = world.join(1, 0, at);
        world.publish(peer, Media::Audio);
        world.publish(peer, Media::Video);
    }
    world.connect_all();
    world.subscribe_all(1, true);
    world.run(Duration::from_millis(500));
    world
}

fn gap_free(world: &World) {
    for peer in &world.peers {
        assert_eq!(peer.got.len(), 2);
        for got in peer.got.values() {
            assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in the media");
        }
    }
}

#[test]
fn noise_from_strangers_is_dropped_unanswered_and_the_call_goes_on() {
    let mut world = call_of_two(11);
    let mut rng = fastrand::Rng::with_seed(11);
    for n in 0..3_000_u32 {
        let mut bytes = vec![0; rng.usize(0..1_500)];
        rng.fill(&mut bytes);
        // Half looks like STUN, DTLS, RTP or RTCP at first sight.
        if let (Some(first), true) = (bytes.first_mut(), n % 2 == 0) {
            *first = [0, 1, 22, 128, 144, 160][rng.usize(0..6)];
        }
        world.inject((n % 2) as usize, ([203, 0, 113, 9], 1_000 + n as u16).into(), bytes);
        if n % 10 == 0 {
            world.run(Duration::from_millis(1));
        }
    }
    world.run(Duration::from_secs(1));
    gap_free(&world);
    let unknown: u64 =
        world.shards.iter().map(|shard| shard.shard.drops().of(DropReason::UnknownRoute)).sum();
    assert!(unknown > 500, "{unknown}");
}

#[test]
fn noise_from_a_participants_own_address_ends_nothing() {
    let mut world = call_of_two(12);
    let mut rng = fastrand::Rng::with_seed(12);
    let address = world.peers[0].address;
    for n in 0..3_000_u32 {
        let mut bytes = vec![0; rng.usize(0..1_500)];
        rng.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = [0, 1, 20, 21, 22, 23, 63, 128, 144, 160, 191][rng.usize(0..11)];
        }
        if let Some(second) = bytes.get_mut(1)
            && n % 3 == 0
        {
            *second = rng.u8(192..=223);
        }
        world.inject(0, address, bytes);
        if n % 10 == 0 {
            world.run(Duration::from_millis(1));
        }
    }
    world.run(Duration::from_secs(1));
    gap_free(&world);
    assert_eq!(world.snapshot(0).sessions, 2);
    let drops = world.shards[0].shard.drops().clone();
    assert!(drops.of(DropReason::BadTag) > 100);
}

#[test]
fn every_length_and_first_byte_from_a_participant_is_survived() {
    let mut world = call_of_two(13);
    let address = world.peers[1].address;
    for first in 0..=255_u8 {
        for len in (0..=80).chain([200, 576, 1_199, 1_200, 1_472, 1_500, 2_047]) {
            let mut bytes = vec![first; len];
            if let Some(second) = bytes.get_mut(1) {
                *second = 200;
            }
            world.inject(0, address, bytes);
        }
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_secs(1));
    gap_free(&world);
}

#[test]
fn replayed_and_altered_media_is_not_forwarded() {
    let mut world = call_of_two(14);
    world.conditions.duplicate = 0.3;
    world.run(Duration::from_secs(2));
    gap_free(&world);
    assert!(world.shards[0].shard.drops().of(DropReason::Replayed) > 50);
}
