//! Simulcast: each receiver gets the layer that its path carries, under one SSRC whose numbers go on.

use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::{ExtSeqNum, Ssrc};
use sluice_engine::wire::payload::PayloadFormat;

use crate::world::{Conditions, Link, Part, World};

const SECOND: Duration = Duration::from_secs(1);

/// Peer 0 publishes two layers; the others are each behind a link of so many bits a second.
fn behind(seed: u64, links: &[u64], rtx: bool) -> World {
    on_shards(1, seed, links, rtx)
}

/// The same on so many shards, on which the participants take turns.
fn on_shards(shards: usize, seed: u64, links: &[u64], rtx: bool) -> World {
    let mut world = World::new(seed, shards, EngineConfig::default());
    world.conditions = Conditions { delay: Duration::from_millis(10), ..Conditions::default() };
    world.transport_cc = true;
    world.join(1, 0, 0);
    for (at, &bps) in links.iter().enumerate() {
        let peer = world.join(1, (at + 1) % shards, 0);
        world.peers[peer].link = Some(Link::new(bps, 200));
    }
    world.connect_all();
    world.publish_layers(0, PayloadFormat::Vp8);
    world.subscribe_all(1, rtx);
    world
}

fn leg(world: &World, peer: usize) -> Ssrc {
    world.peers[peer].subscriptions[0].ssrc
}

fn estimate(world: &mut World, peer: usize) -> Option<u64> {
    let session = world.peers[peer].session;
    let snapshot = world.snapshot(0);
    snapshot.session_list.iter().find(|s| s.session == session).expect("there").estimate_bps
}

/// What holds of a leg whatever happened: frames come in the order of their capture, another layer begins with the start of a key
/// frame, and pictures count on. Returns how often the layer changed.
fn check_leg(world: &World, peer: usize) -> usize {
    let seed = world.seed;
    let parts = world.parts_of(peer, leg(world, peer));
    let mut switches = 0;
    for pair in parts.windows(2) {
        let [(index, before), (next, after)] = pair else { continue };
        let is_next = *next == index + 1;
        let elapsed = after.timestamp.since(before.timestamp);
        if before.layer == after.layer {
            assert!(after.frame >= before.frame, "seed {seed}: {before:?} before {after:?}");
            assert_eq!(after.frame == before.frame, elapsed == 0, "seed {seed}: {after:?}");
            let pictures = after.picture.wrapping_sub(before.picture) & 0x7FFF;
            // A gap may hide that another layer was sent meanwhile.
            if is_next {
                let frames = u8::from(after.frame != before.frame);
                assert_eq!(pictures, frames.into(), "seed {seed}: {before:?} before {after:?}");
                assert_eq!(after.tl0.wrapping_sub(before.tl0), frames, "seed {seed}");
            }
        } else {
            switches += 1;
            assert!(elapsed > 0, "seed {seed}: time stands still at {after:?}");
            if is_next {
                let is_start = after.is_key && after.part == 0;
                assert!(is_start, "seed {seed}: a switch in the middle: {after:?}");
                assert_eq!(after.picture, before.picture.wrapping_add(1) & 0x7FFF, "seed {seed}");
                assert_eq!(after.tl0, before.tl0.wrapping_add(1), "seed {seed}");
            }
        }
    }
    switches
}

/// Nothing is missing between the first and the last packet.
fn check_whole(world: &World, peer: usize) {
    let parts = world.parts_of(peer, leg(world, peer));
    let (first, last) = (parts[0].0, parts[parts.len() - 1].0);
    assert_eq!(last - first + 1, parts.len() as u64, "seed {}: gaps", world.seed);
}

/// How far the leg's clock strays from the capture clock, in ticks of 90 kHz.
fn clock_error(parts: &[(u64, Part)], from: Instant) -> u32 {
    let parts = parts.iter().filter(|(_, part)| part.at >= from);
    let shifts: Vec<_> = parts
        .map(|(_, part)| part.timestamp.0.wrapping_sub((part.captured_ms * 90) as u32) as i32)
        .collect();
    let base = shifts[0];
    shifts.iter().map(|s| s.wrapping_sub(base).unsigned_abs()).max().expect("parts")
}

#[test]
fn a_receiver_joins_low_and_goes_up_in_place_when_its_path_carries_it() {
    let mut world = behind(1, &[20_000_000], true);
    world.run(5 * SECOND);
    assert_eq!(world.layer_now(1), Some(0), "always low at first");
    assert!(estimate(&mut world, 1).is_some_and(|bps| bps > 300_000), "it grows");
    world.run_until(20 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    let upgraded_to = estimate(&mut world, 1).expect("measured");
    assert!(upgraded_to > 1_700_000, "{upgraded_to}: set to the rate of the layer");
    world.run(20 * SECOND);
    assert_eq!(world.layer_now(1), Some(1), "and it stays");
    assert_eq!(check_leg(&world, 1), 1);
    check_whole(&world, 1);
    let parts = world.parts_of(1, leg(&world, 1));
    let error = clock_error(&parts, Instant::default());
    assert!(error <= 2, "{error} ticks: the reports tie the layers' clocks together");
    assert_eq!(world.snapshot(0).counters.layer_switches, 1);
    assert!(world.layers(0)[1].plis >= 1, "the layer's key frame was asked for");
}

#[test]
fn a_receiver_on_another_shard_goes_up_in_place_as_well() {
    let mut world = on_shards(2, 1, &[20_000_000, 20_000_000], true);
    world.run_until(30 * SECOND, "going up", |world| {
        [1, 2].iter().all(|&peer| world.layer_now(peer) == Some(1))
    });
    world.run(10 * SECOND);
    for peer in [1, 2] {
        assert_eq!(world.layer_now(peer), Some(1), "and it stays");
        assert_eq!(check_leg(&world, peer), 1);
        check_whole(&world, peer);
        let error = clock_error(&world.parts_of(peer, leg(&world, peer)), Instant::default());
        assert!(error <= 2, "{error} ticks: the reports tie the layers' clocks together");
    }
    assert_eq!(world.snapshot(1).counters.layer_switches, 1, "that of peer 1");
}

#[test]
fn a_layer_that_stops_leaves_receivers_on_another_shard_to_the_one_that_goes_on() {
    let mut world = on_shards(2, 5, &[20_000_000], true);
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    world.run(SECOND);
    world.layers(0)[1].is_sent = false;
    world.run_until(3 * SECOND, "falling to the low one", |world| world.layer_now(1) == Some(0));
    world.layers(0)[1].is_sent = true;
    world.run_until(40 * SECOND, "going up again", |world| world.layer_now(1) == Some(1));
    check_whole(&world, 1);
}

#[test]
fn without_reports_the_time_that_passed_ties_the_clocks() {
    let mut world = behind(2, &[20_000_000], false);
    world.peers[0].layered.as_mut().expect("published").reports = false;
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    world.run(SECOND);
    assert_eq!(check_leg(&world, 1), 1);
    check_whole(&world, 1);
    let error = clock_error(&world.parts_of(1, leg(&world, 1)), Instant::default());
    assert!(error <= 90 * 60, "{error} ticks: about a frame");
}

#[test]
fn receivers_behind_different_bottlenecks_get_different_layers() {
    let mut world = behind(3, &[20_000_000, 1_200_000, 4_000_000, 400_000], true);
    world.run(40 * SECOND);
    let (mut high, mut packets) = ([0; 5], [0; 5]);
    for _ in 0..20 {
        world.run(SECOND);
        for peer in 1..5 {
            high[peer] += usize::from(world.layer_now(peer) == Some(1));
            packets[peer] = world.parts_of(peer, leg(&world, peer)).len();
        }
    }
    assert_eq!((high[1], high[3]), (20, 20), "wide paths: {high:?}");
    assert!(high[2] <= 8 && high[4] == 0, "narrow paths: {high:?}");
    assert!(packets[1..].iter().all(|&count| count > 1_000), "nobody is left without: {packets:?}");
    for peer in 1..5 {
        check_leg(&world, peer);
    }
}

#[test]
fn a_path_that_narrows_brings_its_receiver_down_and_the_back_off_holds_it_there() {
    let mut world = behind(4, &[20_000_000], false);
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    world.run(15 * SECOND);
    world.peers[1].link = Some(Link::new(1_000_000, 200));
    let narrowed = world.now;
    world.run_until(8 * SECOND, "going down", |world| world.layer_now(1) == Some(0));
    let down = world.now;
    world.peers[1].link = Some(Link::new(20_000_000, 200));
    world.run_until(60 * SECOND, "going up again", |world| world.layer_now(1) == Some(1));
    assert!(world.now.since(down) >= 10 * SECOND, "back-off: {:?}", world.now.since(down));
    assert!(down.since(narrowed) <= 6 * SECOND, "{:?} to go down", down.since(narrowed));
    assert!(check_leg(&world, 1) >= 3);
}

#[test]
fn a_layer_that_stops_leaves_its_receivers_to_the_one_that_goes_on() {
    let mut world = behind(5, &[20_000_000], true);
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    world.run(SECOND);
    world.layers(0)[1].is_sent = false;
    world.run_until(3 * SECOND, "falling to the low one", |world| world.layer_now(1) == Some(0));
    world.layers(0)[1].is_sent = true;
    world.run_until(40 * SECOND, "going up again", |world| world.layer_now(1) == Some(1));
    world.layers(0)[0].is_sent = false;
    world.run(5 * SECOND);
    assert_eq!(world.layer_now(1), Some(1));
    assert_eq!(check_leg(&world, 1), 3);
    check_whole(&world, 1);
}

#[test]
fn a_receiver_of_a_low_layer_that_never_comes_gets_the_high_one() {
    let mut world = behind(6, &[20_000_000], true);
    world.layers(0)[0].is_sent = false;
    world.run_until(4 * SECOND, "getting anything", |world| world.layer_now(1).is_some());
    assert_eq!(world.layer_now(1), Some(1));
    check_leg(&world, 1);
}

#[test]
fn a_wish_for_a_key_frame_goes_to_the_layer_that_the_receiver_gets() {
    let mut world = behind(7, &[20_000_000, 400_000], true);
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    world.run(2 * SECOND);
    let plis = |world: &mut World| [0, 1].map(|layer| world.layers(0)[layer].plis);
    let before = plis(&mut world);
    world.ask_for_keyframes(1);
    world.run(Duration::from_millis(500));
    let between = plis(&mut world);
    assert_eq!(between, [before[0], before[1] + 1]);
    world.ask_for_keyframes(2);
    world.run(Duration::from_millis(500));
    assert_eq!(plis(&mut world), [between[0] + 1, between[1]]);
}

#[test]
fn many_wishes_at_the_start_of_a_track_are_one_request_that_a_key_frame_fulfils() {
    let mut world = behind(8, &[20_000_000; 10], true);
    world.run(3 * SECOND);
    let before = world.layers(0)[0].plis;
    for peer in 1..=10 {
        world.ask_for_keyframes(peer);
        world.run(Duration::from_millis(3));
    }
    world.run(2 * SECOND);
    assert_eq!(world.layers(0)[0].plis - before, 1);
}

#[test]
fn a_format_whose_key_frames_are_unknown_changes_layers_all_the_same() {
    let mut world = World::new(9, 1, EngineConfig::default());
    world.conditions = Conditions { delay: Duration::from_millis(10), ..Conditions::default() };
    world.transport_cc = true;
    world.join(1, 0, 0);
    world.join(1, 0, 0);
    world.connect_all();
    world.publish_layers(0, PayloadFormat::Other);
    world.subscribe_all(1, true);
    world.run_until(30 * SECOND, "going up", |world| world.layer_now(1) == Some(1));
    check_whole(&world, 1);
}

#[test]
fn a_stream_that_names_no_layer_is_of_none() {
    let mut world = behind(10, &[20_000_000], true);
    world.run(SECOND);
    // A stream of the track's mid that carries no rid, and one whose rid was not negotiated.
    for rid in [None, Some("x")] {
        let before = world.shards[0].shard.drops().of(DropReason::UnknownRid);
        let packet = world.layer_packet(0, Ssrc(77), rid);
        let sealed = world.seal(0, ExtSeqNum(9), &packet);
        let from = world.peers[0].address;
        world.inject(0, from, sealed);
        world.run(Duration::from_millis(5));
        assert_eq!(world.shards[0].shard.drops().of(DropReason::UnknownRid), before + 1);
    }
    world.run(SECOND);
    assert_eq!(world.layer_now(1), Some(0), "the layers go on");
    check_whole(&world, 1);
}

/// The auditor of the world looks at every nonce; what receivers make of the packets is looked at here.
#[test]
fn switches_keep_their_promises_on_bad_networks_under_every_seed() {
    let mut switches = 0;
    for seed in 100..124 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rtx = rng.bool();
        let shards = 1 + seed as usize % 3;
        let mut world = on_shards(shards, seed, &[20_000_000, 1_500_000, 3_000_000], rtx);
        for _ in 0..4 {
            world.conditions = Conditions {
                loss: rng.f64() * 0.04,
                duplicate: rng.f64() * 0.03,
                reorder: rng.f64() * 0.2,
                jitter: Duration::from_millis(rng.u64(0..20)),
                delay: Duration::from_millis(rng.u64(1..30)),
            };
            let layer = rng.usize(0..2);
            world.run(Duration::from_millis(rng.u64(2_000..8_000)));
            world.layers(0)[layer].is_sent = rng.bool();
            let peer = rng.usize(1..4);
            let bps = [400_000, 1_500_000, 20_000_000][rng.usize(0..3)];
            world.peers[peer].link = Some(Link::new(bps, rng.u64(20..400)));
        }
        world.conditions = Conditions { delay: Duration::from_millis(5), ..Conditions::default() };
        for layer in world.layers(0) {
            layer.is_sent = true;
        }
        world.run(3 * SECOND);
        for peer in 1..4 {
            let so_far = world.parts_of(peer, leg(&world, peer)).len();
            switches += check_leg(&world, peer);
            world.run(SECOND);
            let got = world.parts_of(peer, leg(&world, peer)).len() - so_far;
            assert!(got > 30, "seed {seed}: peer {peer} got {got} packets in a second");
        }
    }
    assert!(switches > 30, "only {switches} switches");
}
