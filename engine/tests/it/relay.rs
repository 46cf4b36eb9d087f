//! One call on several shards: what crosses, how often, and what becomes of it when words or packets are lost.
//!
//! Beside the shards of a world stands the end of one more, from which a test says and hears what it likes.

use std::time::Duration;

use sluice_engine::clock::NtpTime;
use sluice_engine::command_error::CommandError;
use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::{CallId, ExtSeqNum, LegId, RtpTime, ShardId, TallyId, TrackId};
use sluice_engine::relay::{LEASE, Message, PacketHead, REFRESH, Word};
use sluice_engine::rtp::report::SenderClock;
use sluice_engine::shard::mailbox::Command;
use sluice_engine::wire::payload::PayloadFormat;

use crate::world::{Media, World};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

/// Peer 0 publishes audio and video on shard 0; each shard has `listeners` that get both.
fn lecture(shards: usize, listeners: usize) -> World {
    let mut world = World::new(21, shards, EngineConfig::default());
    world.conditions.delay = Duration::from_millis(5);
    world.join(1, 0, 0);
    for home in (0..shards).flat_map(|shard| vec![shard; listeners]) {
        world.join(1, home, 0);
    }
    world.publish(0, Media::Audio);
    world.publish(0, Media::Video);
    world.connect_all();
    world.subscribe_all(1, true);
    world
}

fn got(world: &World, peer: usize, media: Media) -> &[u32] {
    let publisher = world.peers[0].session.0;
    world.peers[peer].got.get(&(publisher, media)).map_or(&[], Vec::as_slice)
}

fn forget(world: &mut World) {
    world.peers.iter_mut().for_each(|peer| peer.got.clear());
}

/// How many packets home has handed to other shards.
fn relayed(world: &mut World) -> u64 {
    world.snapshot(0).counters.relayed_out
}

/// What the shard that is not there hears, with the length of what came along.
fn heard(world: &mut World) -> Vec<(Message, usize)> {
    let mut heard = Vec::new();
    let mut packet = [0; 2_048];
    for from in 0..world.shards.len() as u16 {
        while let Some(said) = world.elsewhere.take_relay(world.now, ShardId(from), &mut packet) {
            heard.push(said);
        }
    }
    heard
}

fn say(world: &mut World, to: u16, call: u64, track: TrackId, word: Word, packet: &[u8]) {
    let message = Message { call: CallId(call), track, word };
    assert!(world.elsewhere.send_relay(ShardId(to), &message, packet), "room in the ring");
}

#[test]
fn a_packet_crosses_once_for_each_shard_and_everyone_gets_it() {
    let mut world = lecture(3, 4);
    world.run(SECOND);
    let before = [0, 1, 2].map(|shard| world.snapshot(shard));
    forget(&mut world);
    world.run(3 * SECOND);
    let after = [0, 1, 2].map(|shard| world.snapshot(shard));
    let more = |shard: usize, of: fn(&sluice_engine::metrics::ShardCounters) -> u64| {
        of(&after[shard].counters) - of(&before[shard].counters)
    };
    let packets = more(0, |c| c.rtp_packets_in);
    assert!(packets > 400, "{packets}");
    assert_eq!(more(0, |c| c.relayed_out), 2 * packets);
    for shard in [1, 2] {
        assert_eq!(more(shard, |c| c.relayed_in), packets, "shard {shard}");
        assert_eq!(more(shard, |c| c.rtp_packets_out), 4 * packets, "shard {shard}");
    }
    for peer in 1..world.peers.len() {
        for media in [Media::Audio, Media::Video] {
            let got = got(&world, peer, media);
            assert!(got.len() > 140, "peer {peer} got {} {media:?} packets", got.len());
            assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap, no repeat");
        }
    }
    let counts = |shard: usize| {
        let tally = &after[shard].tallies[TallyId::default().index()];
        let timed = tally.forward_times.counts.iter().sum::<u64>();
        (tally.packets_in, tally.packets_out, timed > 0)
    };
    let all = &after[0].counters;
    assert_eq!(counts(0), (all.rtp_packets_in, all.rtp_packets_out, true));
    assert_eq!(counts(1), (0, after[1].counters.rtp_packets_out, false), "received at home alone");
    assert_eq!((after[0].tracks, after[1].tracks, after[1].legs), (2, 0, 8));
}

#[test]
fn nothing_crosses_to_where_nobody_gets_it() {
    let mut world = lecture(2, 2);
    world.run(SECOND);
    let track = world.peers[0].publications[1].track;
    // Peers 3 and 4 are on shard 1. One of two who get a track leaves, then the other.
    world.leave(3);
    world.run(MOMENT);
    forget(&mut world);
    world.run(SECOND);
    assert!(got(&world, 4, Media::Video).len() > 80);
    world.leave(4);
    world.run(MOMENT);
    let before = relayed(&mut world);
    world.run(2 * SECOND);
    assert_eq!(relayed(&mut world), before);
    assert_eq!(world.snapshot(1).drops.of(DropReason::UnknownRelay), 0, "told, not run out");
    // Whoever comes next is served as the first was.
    let late = world.join(1, 1, 1);
    world.connect_all();
    world.subscribe(late, track, true);
    world.run(SECOND);
    assert!(got(&world, late, Media::Video).len() > 80);
}

#[test]
fn a_leg_that_comes_back_at_once_goes_on() {
    let mut world = lecture(2, 1);
    world.run(SECOND);
    let (track, session) = (world.peers[0].publications[0].track, world.peers[2].session);
    let leg = world.leg_of(2, track, false);
    // Between these no word can cross: the track goes, comes, goes and comes again.
    world.stalled = vec![0];
    for leg_id in 0..20 {
        let leg = world.leg_of(2, track, false);
        let id = leg.leg;
        let add = world.add_leg(1, session, leg);
        world.command(1, add).expect("a leg");
        world.command(1, Command::RemoveLeg { session, leg: id }).expect("removed");
        world.command(1, Command::RemoveLeg { session, leg: LegId(leg_id) }).expect("no error");
    }
    let add = world.add_leg(1, session, leg);
    world.command(1, add).expect("a leg");
    world.stalled.clear();
    world.run(MOMENT);
    forget(&mut world);
    world.run(SECOND);
    assert!(got(&world, 2, Media::Audio).len() > 40);
}

#[test]
fn many_wishes_for_a_key_frame_on_another_shard_become_one_request() {
    let mut world = lecture(2, 3);
    world.run(2 * SECOND);
    let before = world.peers[0].plis;
    for _ in 0..10 {
        (4..=6).for_each(|peer| world.ask_for_keyframes(peer));
        world.run(Duration::from_millis(5));
    }
    world.run(2 * SECOND);
    // One at once, one for the wishes that came within the interval.
    assert_eq!(world.peers[0].plis - before, 2);
}

#[test]
fn lost_video_is_found_where_its_receiver_lives() {
    for rtx in [true, false] {
        let mut world = World::new(22, 2, EngineConfig::default());
        world.conditions.delay = Duration::from_millis(5);
        for home in 0..2 {
            world.join(1, home, 0);
        }
        world.publish(0, Media::Video);
        world.connect_all();
        world.subscribe_all(1, rtx);
        world.run(SECOND);
        world.conditions.loss = 0.05;
        world.run(5 * SECOND);
        world.conditions.loss = 0.0;
        world.run(2 * SECOND);
        let mut distinct = got(&world, 1, Media::Video).to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let span = (distinct[distinct.len() - 1] - distinct[0] + 1) as usize;
        assert_eq!(span - distinct.len(), 0, "rtx {rtx}: of {span}");
        let [home, away] = [0, 1].map(|shard| world.snapshot(shard).counters);
        assert!(away.rtx_out > 10 && home.rtx_out == 0, "{} and {}", away.rtx_out, home.rtx_out);
        assert!(home.rtx_in > 10 && away.rtx_in == 0, "the publisher's losses are found at home");
    }
}

#[test]
fn a_shard_that_comes_late_is_told_the_publishers_clock_at_once_and_at_each_report() {
    let mut world = World::new(23, 1, EngineConfig::default());
    world.conditions.delay = Duration::from_millis(10);
    world.join(1, 0, 0);
    world.connect_all();
    let track = world.publish_layers(0, PayloadFormat::Vp8);
    world.run(10 * SECOND);
    world.peers[0].layered.as_mut().expect("published").reports = false;
    world.run(SECOND);
    let clocks = |world: &mut World| {
        let heard = heard(world).into_iter();
        let clock = |(said, _): (Message, usize)| match said.word {
            Word::Clock { layer, clock, ntp, .. } => Some((layer, clock.offset_nanos(), ntp)),
            _ => None,
        };
        heard.filter_map(clock).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        say(&mut world, 0, 1, track, Word::Want { layers: 0 }, &[]);
    }
    world.run(MOMENT);
    let at_once = clocks(&mut world);
    let [(0, Some(offset), low), (1, Some(_), high)] = at_once[..] else {
        panic!("not the clock of each layer, once: {at_once:?}")
    };
    assert!(offset > 0, "{offset}: a report takes its time");
    world.run(SECOND);
    assert_eq!(clocks(&mut world), [], "nothing new is known");
    world.peers[0].layered.as_mut().expect("published").reports = true;
    world.run(2 * SECOND);
    let later = clocks(&mut world);
    assert!(later.iter().any(|&(layer, _, ntp)| layer == 0 && ntp > low), "{later:?}");
    assert!(later.iter().any(|&(layer, _, ntp)| layer == 1 && ntp > high), "{later:?}");
}

#[test]
fn a_track_that_ends_ends_everywhere() {
    for whole_session in [true, false] {
        let mut world = lecture(3, 2);
        world.run(SECOND);
        match whole_session {
            true => world.leave(0),
            false => {
                let session = world.peers[0].session;
                for track in [0, 1].map(|at| world.peers[0].publications[at].track) {
                    world.command(0, Command::RemoveTrack { session, track }).expect("removed");
                }
            }
        }
        world.run(MOMENT);
        for shard in 0..3 {
            let snapshot = world.snapshot(shard);
            assert_eq!((snapshot.tracks, snapshot.legs), (0, 0), "shard {shard}");
            assert_eq!(snapshot.drops.of(DropReason::UnknownRelay), 0, "shard {shard}");
        }
        forget(&mut world);
        world.run(SECOND);
        assert_eq!(got(&world, 6, Media::Video), [0; 0]);
    }
}

#[test]
fn a_full_ring_loses_packets_for_its_shard_alone_and_recovers() {
    let mut world = lecture(3, 1);
    let more: Vec<_> = (0..12).map(|_| world.publish(0, Media::Video)).collect();
    // The receiver on shard 1 is the only one that gets these.
    for track in more {
        world.subscribe(2, track, true);
    }
    world.run(SECOND);
    world.stalled = vec![1];
    forget(&mut world);
    world.run(LEASE - SECOND);
    let lost = world.snapshot(0).drops.of(DropReason::TrackRelayFull);
    assert!(lost > 500, "{lost}");
    assert!(got(&world, 3, Media::Video).windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(got(&world, 3, Media::Video).len() > 250, "shard 2 does not notice");
    world.stalled.clear();
    world.run(SECOND);
    let lost = world.snapshot(0).drops.of(DropReason::TrackRelayFull);
    forget(&mut world);
    world.run(SECOND);
    assert!(got(&world, 2, Media::Video).len() > 80 * 13, "all thirteen go on");
    assert_eq!(world.snapshot(0).drops.of(DropReason::TrackRelayFull), lost);
}

#[test]
fn a_shard_that_is_silent_is_forgotten_and_served_again_when_it_asks() {
    let mut world = lecture(2, 1);
    world.run(SECOND);
    world.stalled = vec![1];
    world.run(LEASE + SECOND);
    let before = relayed(&mut world);
    world.run(SECOND);
    assert_eq!(relayed(&mut world), before, "nothing crosses to a shard that died");
    world.stalled.clear();
    world.run(SECOND);
    forget(&mut world);
    world.run(SECOND);
    assert!(got(&world, 2, Media::Audio).len() > 40);
}

#[test]
fn who_wants_a_track_gets_it_as_long_as_it_says_so() {
    let mut world = lecture(1, 0);
    world.run(SECOND);
    let track = world.peers[0].publications[0].track;
    let packets = |world: &mut World| {
        let heard = heard(world);
        let is_packet = |(said, len): &(Message, usize)| {
            assert_eq!((said.call, said.track), (CallId(1), track));
            matches!(said.word, Word::Packet(_)) && *len > 90
        };
        heard.iter().filter(|said| is_packet(said)).count()
    };
    say(&mut world, 0, 1, track, Word::Want { layers: 0 }, &[]);
    world.run(LEASE);
    assert!((249..=250).contains(&packets(&mut world)), "50 a second");
    world.run(SECOND);
    assert!(packets(&mut world) <= 1, "it did not say so again");
    for _ in 0..8 {
        say(&mut world, 0, 1, track, Word::Want { layers: 0xFF }, &[]);
        world.run(SECOND);
    }
    assert!((399..=400).contains(&packets(&mut world)), "once each, however often it is wanted");
    say(&mut world, 0, 1, track, Word::Stop, &[]);
    say(&mut world, 0, 1, track, Word::Stop, &[]);
    world.run(SECOND);
    assert!(packets(&mut world) <= 1);
}

#[test]
fn no_packet_crosses_into_another_call() {
    let mut world = lecture(2, 1);
    let stranger = world.join(2, 1, 1);
    world.connect_all();
    world.run(SECOND);
    let track = world.peers[0].publications[0].track;
    // A shard that wants it for a call that it is not of.
    say(&mut world, 0, 2, track, Word::Want { layers: 1 }, &[]);
    world.run(MOMENT);
    let answers = heard(&mut world);
    let [(Message { call: CallId(2), word: Word::Ended, .. }, 0)] = answers[..] else {
        panic!("not refused: {answers:?}")
    };
    // A session that wants what is published in another call, whether its shard has the track or not.
    let session = world.peers[stranger].session;
    for publication in [0, 1] {
        let track = world.peers[0].publications[publication].track;
        let leg = world.leg_of(stranger, track, false);
        let add = world.add_leg(1, session, leg);
        assert_eq!(world.command(1, add).err(), Some(CommandError::Exists));
    }
    let fresh = world.publish(0, Media::Audio);
    let leg = world.leg_of(stranger, fresh, false);
    let add = world.add_leg(1, session, leg);
    world.command(1, add).expect("the shard cannot know");
    world.run(SECOND);
    assert_eq!(world.snapshot(1).legs, 2, "its home does");
    assert!(world.peers[stranger].got.is_empty());
}

#[test]
fn a_shard_takes_packets_from_the_tracks_home_alone() {
    let mut world = lecture(2, 1);
    world.run(SECOND);
    let track = world.peers[0].publications[0].track;
    let head = PacketHead {
        source: 1,
        layer: 0,
        index: ExtSeqNum(1 << 20),
        clock_rate_hz: 48_000,
        resumed: 7,
    };
    let clock = SenderClock::with_offset(world.now, 0);
    let clock = Word::Clock { layer: 0, clock, ntp: NtpTime(1), rtp: RtpTime(1) };
    let packet = world.plain_packet(0, 0, (sluice_engine::ids::Ssrc(1), ExtSeqNum(9)), 9);
    // To the shard that has it from its home, to the home itself, and of tracks and calls that nobody knows.
    for (to, call, of) in [(1, 1, track), (0, 1, track), (1, 1, TrackId(4_242)), (1, 2, track)] {
        let before = world.snapshot(usize::from(to)).drops.of(DropReason::UnknownRelay);
        say(&mut world, to, call, of, Word::Packet(head), &packet);
        say(&mut world, to, call, of, clock, &[]);
        say(&mut world, to, call, of, Word::Ended, &[]);
        world.run(MOMENT);
        let after = world.snapshot(usize::from(to)).drops.of(DropReason::UnknownRelay);
        assert_eq!(after - before, 1, "to {to}");
    }
    forget(&mut world);
    world.run(SECOND);
    let got = got(&world, 2, Media::Audio);
    assert!(got.len() > 40 && got.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

/// The test is a track's home: it is asked again and again, and may say what it likes.
#[test]
fn a_home_that_says_nonsense_is_survived_and_one_that_is_silent_is_asked_again() {
    let mut world = lecture(1, 1);
    let template = world.tracks[&world.peers[0].publications[1].track].1.clone();
    let track = TrackId(world.fresh_id());
    let params = sluice_engine::session::params::TrackParams { track, ..(*template).clone() };
    world.tracks.insert(track, (1, params.into()));
    let leg = world.leg_of(1, track, true);
    let session = world.peers[1].session;
    let add = world.add_leg(0, session, leg);
    world.command(0, add).expect("a leg");
    heard(&mut world);
    world.run(10 * REFRESH);
    let wants = heard(&mut world);
    assert_eq!(wants.len(), 10, "once in each interval");
    assert!(wants.iter().all(|(said, _)| matches!(said.word, Word::Want { .. })));
    // The end of its track, to a home that has one: that is for homes to say.
    let own = world.peers[0].publications[0].track;
    for word in [Word::Ended, Word::Stop, Word::Want { layers: 0xFF }] {
        say(&mut world, 0, 9, own, word, &[]);
    }
    let clock = SenderClock::with_offset(world.now, i64::MIN);
    for layer in [0, 1, 7, 200] {
        let (ntp, rtp) = (NtpTime(u64::MAX), RtpTime(u32::MAX));
        say(&mut world, 0, 1, track, Word::Clock { layer, clock, ntp, rtp }, &[]);
        for (n, packet) in [&[][..], &[0x80], &[0xFF; 100], &[0x80; 2_048]].iter().enumerate() {
            let head = PacketHead {
                source: u32::from(layer),
                layer,
                index: ExtSeqNum(1_000 + n as u64),
                clock_rate_hz: n as u32,
                resumed: n as u32,
            };
            say(&mut world, 0, 1, track, Word::Packet(head), packet);
        }
    }
    forget(&mut world);
    world.run(SECOND);
    assert!(got(&world, 1, Media::Audio).len() > 40, "the shard's own call goes on");
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.counters.panics, snapshot.counters.relayed_in), (0, 16));
    assert!(snapshot.drops.of(DropReason::BadRtp) >= 8, "what is no packet goes nowhere");
    assert_eq!(snapshot.legs, 3);
    say(&mut world, 0, 1, track, Word::Ended, &[]);
    say(&mut world, 0, 1, track, Word::Ended, &[]);
    world.run(MOMENT);
    assert_eq!(world.snapshot(0).legs, 2);
}

#[test]
fn legs_of_tracks_that_cannot_be_relayed_are_refused() {
    let mut world = lecture(2, 1);
    world.run(SECOND);
    let session = world.peers[2].session;
    let known = world.peers[0].publications[0].track;
    let params = world.tracks[&known].1.clone();
    let unknown = TrackId(4_242);
    let elsewhere =
        sluice_engine::session::params::TrackParams { track: unknown, ..(*params).clone() };
    let order = |world: &mut World, of: TrackId, home: u16, named| {
        let leg = Box::new(world.leg_of(2, of, false));
        let track = std::sync::Arc::clone(named);
        world.command(1, Command::AddRelayedLeg { session, leg, home: ShardId(home), track })
    };
    let before = world.snapshot(1).legs;
    let elsewhere = elsewhere.into();
    for home in [1, 3, u16::MAX] {
        let refused = order(&mut world, unknown, home, &elsewhere).err();
        assert_eq!(refused, Some(CommandError::UnknownTrack(unknown)), "of shard {home}");
    }
    let refused = order(&mut world, unknown, 0, &params).err();
    assert_eq!(refused, Some(CommandError::UnknownTrack(unknown)), "another track's parameters");
    // A track that nobody publishes is wanted in vain.
    order(&mut world, unknown, 0, &elsewhere).expect("its shard cannot know");
    world.run(MOMENT);
    assert_eq!(world.snapshot(1).legs, before);
    // When the leg is refused the track does not stay.
    let spent = world.peers[2].subscriptions[0].ssrc;
    let fresh = world.publish(0, Media::Audio);
    let mut leg = world.leg_of(2, fresh, false);
    leg.ssrc = spent;
    let add = world.add_leg(1, session, leg);
    assert_eq!(world.command(1, add).err(), Some(CommandError::SsrcUsed));
    let relayed_before = relayed(&mut world);
    let packets_before = world.snapshot(0).counters.rtp_packets_in;
    world.run(SECOND);
    let crossed = relayed(&mut world) - relayed_before;
    let packets = world.snapshot(0).counters.rtp_packets_in - packets_before;
    assert!(crossed < packets, "{crossed} of {packets}: the fresh track's are not among them");
    // A leg of a track that is here already may be added either way.
    let leg = Box::new(world.leg_of(2, known, false));
    world.command(1, Command::AddLeg { session, leg }).expect("a second leg of it");
}
