//! Participants who hold keys and mean harm, and observers who replay and forge what they see: what each must not achieve.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::{ExtSeqNum, SeqNum, Ssrc};
use sluice_engine::wire::rtcp::{nack, pli, rr};
use sluice_engine::wire::rtp::{FixedHeader, RtpHeader};
use sluice_engine::wire::rtp_ext::ExtensionWriter;
use sluice_engine::wire::stun::{
    BindingRequest, IntegrityKey, Message, TransactionId, write_binding_request,
};

use crate::world::{Media, World};

const MS: Duration = Duration::from_millis(1);

/// Two in a call on shard 0, each with one track, on a network that loses nothing.
fn two_in_a_call(seed: u64, shards: usize, media: Media) -> World {
    let mut world = World::new(seed, shards, EngineConfig::default());
    world.conditions.delay = MS;
    for _ in 0..2 {
        let peer = world.join(1, 0, shards - 1);
        world.publish(peer, media);
    }
    world.connect_all();
    world.subscribe_all(1, true);
    world
}

/// The counters that peer 1 got of peer 0.
fn heard(world: &World, media: Media) -> Vec<u32> {
    let publisher = world.peers[0].session.0;
    world.peers[1].got.get(&(publisher, media)).cloned().unwrap_or_default()
}

/// Peer 0 says `counters` under `ssrc`, numbered from `first` on; returns what went over the wire.
fn say(world: &mut World, ssrc: Ssrc, first: u64, counters: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    let address = world.peers[0].address;
    world.sources_change = true;
    let mut wire = Vec::new();
    for (index, counter) in (first..).map(ExtSeqNum).zip(counters) {
        let plain = world.plain_packet(0, 0, (ssrc, index), counter);
        let sealed = world.seal(0, index, &plain);
        world.inject(0, address, sealed.clone());
        world.run(MS);
        wire.push(sealed);
    }
    wire
}

fn no_gap(got: &[u32]) {
    assert!(got.len() > 10, "only {} packets", got.len());
    assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in {got:?}");
}

#[test]
fn replays_of_a_stream_that_was_replaced_are_refused() {
    let mut world = two_in_a_call(21, 1, Media::Audio);
    world.peers[0].publications[0].paused = true;
    world.run(50 * MS);
    world.peers[1].got.clear();
    let old = say(&mut world, Ssrc(0xA), 1, 0..20);
    say(&mut world, Ssrc(0xB), 1, 20..40);
    // An observer on the path kept what it saw.
    let address = world.peers[0].address;
    for datagram in old {
        world.inject(0, address, datagram);
        world.run(MS);
    }
    say(&mut world, Ssrc(0xB), 21, 40..50);
    world.run(20 * MS);
    assert_eq!(heard(&world, Media::Audio), (0..50).collect::<Vec<_>>());
    assert_eq!(world.shards[0].shard.drops().of(DropReason::Replayed), 20);
}

#[test]
fn a_stream_that_comes_back_goes_on_after_its_roll_over() {
    let mut world = two_in_a_call(22, 1, Media::Audio);
    world.peers[0].publications[0].paused = true;
    world.run(50 * MS);
    world.peers[1].got.clear();
    say(&mut world, Ssrc(0xA), 32_000, 0..1);
    say(&mut world, Ssrc(0xA), 60_000, 1..2);
    say(&mut world, Ssrc(0xA), 65_530, 2..12);
    say(&mut world, Ssrc(0xB), 1, 12..20);
    say(&mut world, Ssrc(0xA), 65_540, 20..30);
    world.run(20 * MS);
    assert_eq!(heard(&world, Media::Audio), (0..30).collect::<Vec<_>>());
}

#[test]
fn changing_ssrcs_for_ever_locks_nobody_out() {
    let mut world = two_in_a_call(23, 1, Media::Video);
    world.peers[0].publications[0].paused = true;
    world.run(50 * MS);
    world.peers[1].got.clear();
    let address = world.peers[0].address;
    for n in 0..300_u32 {
        say(&mut world, Ssrc(1_000 + n), 1, n..n + 1);
        // Retransmission streams as well: header, MID, the payload type of retransmissions.
        let mut plain = world.plain_packet(0, 0, (Ssrc(9_000 + n), ExtSeqNum(1)), n);
        plain[1] = 97;
        let sealed = world.seal(0, ExtSeqNum(1), &plain);
        world.inject(0, address, sealed);
        world.run(MS);
    }
    world.run(20 * MS);
    assert_eq!(heard(&world, Media::Video), (0..300).collect::<Vec<_>>());
    assert_eq!(world.shards[0].shard.drops().of(DropReason::TooManySsrcs), 0);
}

#[test]
fn a_flood_of_dtls_from_one_participant_does_not_keep_others_out() {
    let mut world = two_in_a_call(24, 1, Media::Audio);
    let flooder = world.peers[0].address;
    for _ in 0..3 {
        world.join(1, 0, 0);
    }
    // A shard that is busy: one turn a millisecond.
    world.turns_max = 1;
    let mut n = 0_u32;
    for _ in 0..5_000 {
        for _ in 0..200 {
            n += 1;
            let mut record = vec![22, 254, 253, 0, 1, 0, 0];
            record.extend(n.to_be_bytes());
            record.extend([0, 32]);
            record.extend([n as u8; 32]);
            world.inject(0, flooder, record);
        }
        world.run(MS);
        if world.peers.iter().all(|peer| peer.client.is_connected()) {
            break;
        }
    }
    assert!(world.peers.iter().all(|peer| peer.client.is_connected()), "kept out");
    assert_eq!(world.snapshot(0).sessions, 5);
}

#[test]
fn a_check_from_somebody_elses_address_does_not_take_its_datagrams() {
    let mut world = two_in_a_call(25, 1, Media::Audio);
    let mallory = world.join(2, 0, 0);
    world.connect_all();
    world.run(500 * MS);
    let victim = world.peers[0].address;
    for check in world.checks(mallory, 5) {
        world.inject(0, victim, check);
        world.run(20 * MS);
    }
    world.run(4_000 * MS);
    let got = heard(&world, Media::Audio);
    assert!(got.len() > 220, "only {} packets", got.len());
    no_gap(&got);
}

#[test]
fn an_address_can_be_taken_over_once_its_session_is_silent() {
    let mut world = two_in_a_call(26, 1, Media::Audio);
    world.run(500 * MS);
    world.peers[0].gone = true;
    let heir = world.join(1, 0, 0);
    world.peers[heir].address = world.peers[0].address;
    world.connect_all();
    assert!(world.peers[heir].client.is_connected());
}

#[test]
fn a_storm_of_nacks_brings_half_of_the_traffic_on_top_at_most() {
    let sent_in_ten_seconds = |storm: bool| {
        let mut world = two_in_a_call(27, 1, Media::Video);
        world.peers[1].repairs = false;
        world.run(1_000 * MS);
        let (address, ssrc) = (world.peers[1].address, world.peers[1].subscriptions[0].ssrc);
        let before = world.sent_to[&address];
        for _ in 0..10_000 {
            if storm {
                let highest = world.highest_sent(1, ssrc).expect("media flows");
                let lost: Vec<_> =
                    (0..200).rev().map(|n| SeqNum(highest.seq().0.wrapping_sub(n))).collect();
                let mut compound = [0; 512];
                let len = rr::write(&mut compound, Ssrc(1), &[]).expect("room");
                let asked = nack::write(&mut compound[len..], Ssrc(1), ssrc, &lost);
                let len = len + asked.expect("room");
                let sealed = world.seal_rtcp(1, &compound[..len]);
                world.inject(0, address, sealed);
            }
            world.run(MS);
        }
        world.sent_to[&address] - before
    };
    let (calm, storm) = (sent_in_ten_seconds(false), sent_in_ten_seconds(true));
    assert!(storm > calm * 5 / 4, "the storm did something: {calm} and {storm} bytes");
    assert!(storm < calm * 8 / 5, "{calm} bytes without, {storm} with the storm");
}

#[test]
fn hopping_from_port_to_port_leaves_nothing_behind() {
    let mut world = two_in_a_call(28, 2, Media::Audio);
    world.run(100 * MS);
    let before = world.shards[1].shard.foreign_routes();
    let mallory = world.join(2, 0, 1);
    world.connect_all();
    for (n, check) in (0_u16..).zip(world.checks(mallory, 10_000)) {
        let remote = SocketAddr::from(([203, 0, 113, 77], 1_000 + n));
        world.prove(remote);
        world.inject(1, remote, check);
        if n % 1_000 == 999 {
            world.run(2 * MS);
        }
    }
    world.run(10 * MS);
    world.leave(mallory);
    world.run(500 * MS);
    assert_eq!(world.shards[1].shard.foreign_routes(), before);
    no_gap(&heard(&world, Media::Audio));
}

#[test]
fn strangers_checks_crowd_out_neither_media_nor_consent_between_shards() {
    // Consent that lasts little longer than from one check to the next.
    let consent_timeout = Duration::from_secs(3);
    let mut world = World::new(29, 2, EngineConfig { consent_timeout, ..EngineConfig::default() });
    world.conditions.delay = MS;
    for _ in 0..2 {
        let peer = world.join(1, 0, 1);
        world.publish(peer, Media::Audio);
    }
    world.connect_all();
    world.subscribe_all(1, true);
    world.run(500 * MS);
    let username = [b"aaStranger:".as_slice(), &[b'x'; 500]].concat();
    let request = BindingRequest {
        username: &username,
        priority: 1,
        controlling: Some(1),
        controlled: None,
        use_candidate: true,
    };
    let mut check = [0; 1_200];
    let key = IntegrityKey::new(b"no idea");
    let len = write_binding_request(&mut check, TransactionId([7; 12]), &request, &key);
    let check = &check[..len.expect("room")];
    // More than the ring between the shards holds, every millisecond.
    for _ in 0..3_500 {
        for n in 0..1_900_u16 {
            world.inject(1, ([203, 0, 113, 9], 1_000 + n).into(), check.to_vec());
        }
        world.run(MS);
    }
    assert!(world.snapshot(1).counters.steered_out > 1_000, "strangers' checks are passed on");
    let got = heard(&world, Media::Audio);
    assert!(got.len() > 190, "only {} packets", got.len());
    no_gap(&got);
}

#[test]
fn a_captured_check_moves_nothing_even_an_hour_later() {
    let mut world = two_in_a_call(30, 1, Media::Audio);
    let address = world.peers[0].address;
    // A check every four seconds, as a browser sends them.
    let checks = world.checks(0, 900);
    for check in &checks {
        world.inject(0, address, check.clone());
    }
    world.run(10 * MS);
    // The world sees to it that no byte goes to an address that proved nothing.
    for check in checks {
        world.inject(0, ([203, 0, 113, 66], 6_666).into(), check);
    }
    world.run(100 * MS);
    assert_eq!(world.shards[0].shard.drops().of(DropReason::ReplayedCheck), 900);
}

#[test]
fn only_header_extensions_of_the_right_size_are_passed_on_and_once() {
    let mut world = two_in_a_call(31, 1, Media::Audio);
    world.peers[0].publications[0].paused = true;
    world.run(50 * MS);
    world.peers[1].got.clear();
    let address = world.peers[0].address;
    let values: [&[&[u8]]; 5] =
        [&[&[0x9c]], &[&[]], &[&[0x9c; 5]], &[&[0x9c], &[0x9c], &[7; 9]], &[&[1; 200]]];
    for (n, levels) in values.into_iter().enumerate() {
        let index = ExtSeqNum(1 + n as u64);
        let plain = world.plain_packet(0, 0, (Ssrc(0xA), index), n as u32);
        let header = RtpHeader::parse(&plain).expect("our own packet");
        let mut packet = plain[..FixedHeader::LEN].to_vec();
        let mut block = [0; 600];
        let mut writer = ExtensionWriter::new(&mut block, true);
        writer.push(4, b"p0");
        for level in levels {
            writer.push(1, level);
        }
        let len = writer.finish();
        packet.extend_from_slice(&block[..len]);
        packet.extend_from_slice(&plain[header.header_len..]);
        let sealed = world.seal(0, index, &packet);
        world.inject(0, address, sealed);
        world.run(MS);
    }
    world.run(20 * MS);
    // The world compares the values that arrive.
    assert_eq!(heard(&world, Media::Audio), [0, 1, 2, 3, 4]);
}

#[test]
fn a_check_with_the_wrong_password_is_not_answered_and_changes_nothing() {
    let mut world = two_in_a_call(32, 1, Media::Audio);
    let captured = world.checks(0, 1).remove(0);
    let message = Message::parse(&captured).expect("a check");
    let request = BindingRequest {
        username: message.username().expect("a user name"),
        priority: 1,
        controlling: Some(1),
        controlled: None,
        use_candidate: true,
    };
    let mut forged = [0; 512];
    let key = IntegrityKey::new(b"guessed");
    let len = write_binding_request(&mut forged, TransactionId([9; 12]), &request, &key);
    let forged = &forged[..len.expect("room")];
    // The world sees to it that no byte goes to an address that proved nothing.
    world.inject(0, ([203, 0, 113, 66], 6_666).into(), forged.to_vec());
    world.run(500 * MS);
    assert_eq!(world.shards[0].shard.drops().of(DropReason::BadStunIntegrity), 1);
    no_gap(&heard(&world, Media::Audio));
}

#[test]
fn replayed_rtcp_is_refused() {
    let mut world = two_in_a_call(33, 1, Media::Video);
    world.run(1_000 * MS);
    let (address, ssrc) = (world.peers[1].address, world.peers[1].subscriptions[0].ssrc);
    let mut compound = [0; 64];
    let len = rr::write(&mut compound, Ssrc(1), &[]).expect("room");
    let asked = pli::write(&mut compound[len..], Ssrc(1), ssrc).expect("room");
    let sealed = world.seal_rtcp(1, &compound[..len + asked]);
    let before = world.peers[0].plis;
    for _ in 0..5 {
        world.inject(0, address, sealed.clone());
        world.run(1_000 * MS);
    }
    assert_eq!(world.peers[0].plis - before, 1);
    assert_eq!(world.shards[0].shard.drops().of(DropReason::Replayed), 4);
}

#[test]
fn nothing_is_sent_after_goodbye() {
    let mut world = two_in_a_call(34, 1, Media::Audio);
    world.run(500 * MS);
    let address = world.peers[1].address;
    world.leave(1);
    let sent = world.sent_to[&address];
    // The leaver's own datagrams and checks go on arriving.
    for check in world.checks(1, 3) {
        world.inject(0, address, check);
    }
    world.run(3_000 * MS);
    assert_eq!(world.sent_to[&address], sent);
}

#[test]
fn a_route_that_fell_silent_is_no_longer_listened_to() {
    let mut world = two_in_a_call(35, 1, Media::Audio);
    world.run(500 * MS);
    let old = world.peers[0].address;
    world.peers[0].address.set_port(60_000);
    // A check on the new route, then more than the thirty seconds that consent lasts.
    world.run(40_000 * MS);
    world.peers[0].publications[0].paused = true;
    world.run(50 * MS);
    world.peers[1].got.clear();
    let unknown = world.shards[0].shard.drops().of(DropReason::UnknownRoute);
    for n in 1..=10 {
        let plain = world.plain_packet(0, 0, (Ssrc(0xA), ExtSeqNum(n)), n as u32);
        let sealed = world.seal(0, ExtSeqNum(n), &plain);
        world.inject(0, old, sealed);
    }
    world.run(50 * MS);
    assert!(heard(&world, Media::Audio).is_empty());
    assert_eq!(world.shards[0].shard.drops().of(DropReason::UnknownRoute) - unknown, 10);
}

#[test]
fn a_packet_of_an_earlier_stream_is_not_sent_under_a_later_ones_number() {
    let mut world = World::new(36, 1, EngineConfig::default());
    world.conditions.delay = MS;
    for _ in 0..2 {
        let peer = world.join(1, 0, 0);
        world.publish(peer, Media::Video);
    }
    world.connect_all();
    world.subscribe_all(1, false);
    world.peers[0].publications[0].paused = true;
    world.peers[1].repairs = false;
    world.run(50 * MS);
    world.peers[1].got.clear();
    say(&mut world, Ssrc(0xA), 1, 0..20);
    say(&mut world, Ssrc(0xB), 1, 20..24);
    // The fifth of the new stream is late; the old stream had a fifth, too.
    say(&mut world, Ssrc(0xB), 6, 25..40);
    let (address, ssrc) = (world.peers[1].address, world.peers[1].subscriptions[0].ssrc);
    let highest = world.highest_sent(1, ssrc).expect("media flows");
    let mut compound = [0; 64];
    let len = rr::write(&mut compound, Ssrc(1), &[]).expect("room");
    let lost = [ExtSeqNum(highest.0 - 15).seq()];
    let len = len + nack::write(&mut compound[len..], Ssrc(1), ssrc, &lost).expect("room");
    let sealed = world.seal_rtcp(1, &compound[..len]);
    world.inject(0, address, sealed);
    world.run(50 * MS);
    // The world sees to it that no number is used for two packets.
    say(&mut world, Ssrc(0xB), 5, 24..25);
    world.run(50 * MS);
    let mut got = heard(&world, Media::Video);
    got.sort_unstable();
    assert_eq!(got, (0..40).collect::<Vec<_>>());
    assert!(world.snapshot(0).counters.rtx_missed > 0, "the packet was asked for");
}
