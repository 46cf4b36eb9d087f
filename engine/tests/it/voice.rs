//! Mute, who speaks, and what is counted of tracks.

use std::time::Duration;

use sluice_engine::command_error::CommandError;
use sluice_engine::config::EngineConfig;
use sluice_engine::ids::{Mid, SessionId, TallyId, TrackId};
use sluice_engine::metrics::FORWARDS_TIMED;
use sluice_engine::session::params::{MediaKind, TrackParams};
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::wire::rtp_ext::ExtensionMap;

use crate::world::{Media, World};

const SECOND: Duration = Duration::from_secs(1);

/// A publisher of audio and video, and somebody who gets both.
fn talk() -> World {
    talk_across(1)
}

/// The same, each on a shard of its own where there is more than one.
fn talk_across(shards: usize) -> World {
    let mut world = World::new(11, shards, EngineConfig::default());
    world.conditions.delay = Duration::from_millis(5);
    for home in [0, shards - 1] {
        world.join(1, home, 0);
    }
    world.publish(0, Media::Audio);
    world.publish(0, Media::Video);
    world.connect_all();
    world.subscribe_all(1, true);
    world
}

/// What was told of the first publication's voice, in order.
fn voice(world: &World) -> Vec<bool> {
    let (session, track) = (world.peers[0].session, world.peers[0].publications[0].track);
    let reports = world.reports.lock().expect("unpoisoned");
    let active = reports.iter().filter_map(|report| match *report {
        Report::Voice { session: of, track: on, active } => {
            assert_eq!((of, on), (session, track), "only audio is watched");
            Some(active)
        }
        _ => None,
    });
    active.collect()
}

#[test]
fn a_muted_track_is_received_and_not_forwarded() {
    let mut world = talk();
    world.run(SECOND);
    world.set_muted(0, 0, true);
    world.run(SECOND / 10);
    for peer in &mut world.peers {
        peer.got.clear();
    }
    let before = world.snapshot(0).counters;
    world.run(SECOND);
    let after = world.snapshot(0).counters;
    let got = &world.peers[1].got;
    let publisher = world.peers[0].session.0;
    assert_eq!(got.get(&(publisher, Media::Audio)), None);
    assert!(got[&(publisher, Media::Video)].len() > 80, "only one track is muted");
    assert_eq!(after.rtp_packets_muted - before.rtp_packets_muted, 50);
    assert!(after.rtp_packets_in - before.rtp_packets_in > 130, "audio is counted too");
}

#[test]
fn unmuting_looks_like_silence_and_not_like_loss() {
    (1..=2).for_each(unmuting_looks_like_silence_across);
}

fn unmuting_looks_like_silence_across(shards: usize) {
    let mut world = talk_across(shards);
    world.run(SECOND);
    let publisher = world.peers[0].session.0;
    for (publication, media) in [(0, Media::Audio), (1, Media::Video)] {
        let ssrc = world.peers[1].subscriptions[publication].ssrc;
        world.set_muted(0, publication, true);
        world.run(SECOND / 10);
        let last_before = world.highest_sent(1, ssrc).expect("sent").0;
        world.peers[1].got.clear();
        let plis = world.peers[0].plis;
        world.run(SECOND);
        assert_eq!(world.highest_sent(1, ssrc).expect("sent").0, last_before);
        world.set_muted(0, publication, false);
        world.run(SECOND);
        let got = &world.peers[1].got[&(publisher, media)];
        assert!(got.len() > 40, "{media:?} goes on: {}", got.len());
        assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing of before");
        let sent = world.highest_sent(1, ssrc).expect("sent").0 - last_before;
        assert!(sent - got.len() as u64 <= 3, "{sent} numbers for {} packets", got.len());
        let asked = world.peers[0].plis > plis;
        assert_eq!(asked, media == Media::Video, "video goes on with a key frame");
    }
    assert_eq!(world.peers[1].nacks, 0, "the publisher is asked for nothing");
    let home = world.peers[1].home;
    assert_eq!(world.snapshot(home).counters.nacks_in, 0, "the subscriber misses nothing");
}

/// The publications' levels are steady for four seconds, then those of speech for four, and so on.
#[test]
fn speech_is_told_when_it_begins_and_ceases() {
    talk_is_told(talk());
    talk_is_told(talk_across(2));
}

/// Once, though two shards may have the track.
fn talk_is_told(mut world: World) {
    world.run(4 * SECOND);
    assert_eq!(voice(&world), [], "steady noise is no speech");
    world.run(4 * SECOND);
    assert_eq!(voice(&world), [true]);
    world.run(4 * SECOND);
    assert_eq!(voice(&world), [true, false]);
}

#[test]
fn a_muted_voice_is_still_heard_and_muting_always_ends_speech() {
    let mut world = talk();
    world.set_muted(0, 0, true);
    assert_eq!(voice(&world), [false], "even if there was none");
    world.run(7 * SECOND);
    assert_eq!(voice(&world), [false, true]);
    world.set_muted(0, 0, true);
    assert_eq!(voice(&world), [false, true, false]);
    world.set_muted(0, 0, false);
    world.set_muted(0, 1, true);
    assert_eq!(voice(&world).len(), 3, "neither unmuting nor a track that is not watched is told");
}

#[test]
fn only_the_publisher_may_be_named() {
    let mut world = talk();
    let track = world.peers[0].publications[0].track;
    let session = world.peers[1].session;
    let refused = world.command(0, Command::SetMuted { session, track, muted: true });
    assert_eq!(refused.err(), Some(CommandError::UnknownTrack(track)));
    let (session, nobody) = (world.peers[0].session, SessionId(404));
    let refused = world.command(0, Command::SetMuted { session: nobody, track, muted: true });
    assert_eq!(refused.err(), Some(CommandError::UnknownSession(nobody)));
    let nothing = TrackId(404);
    let refused = world.command(0, Command::SetMuted { session, track: nothing, muted: true });
    assert_eq!(refused.err(), Some(CommandError::UnknownTrack(nothing)));
}

#[test]
fn a_tally_outlives_its_tracks() {
    let mut world = talk();
    world.set_muted(0, 1, true);
    world.run(2 * SECOND);
    world.leave(0);
    let snapshot = world.snapshot(0);
    let (all, tally) = (&snapshot.counters, &snapshot.tallies[TallyId::default().index()]);
    assert_eq!(snapshot.tracks, 0);
    assert_eq!((tally.packets_in, tally.bytes_in), (all.rtp_packets_in, all.rtp_bytes_in));
    assert_eq!((tally.packets_out, tally.bytes_out), (all.rtp_packets_out, all.rtp_bytes_out));
    assert!(tally.packets_out > 90 && tally.packets_in > 2 * tally.packets_out);
    let timed = tally.forward_times.counts.iter().sum::<u64>();
    assert!((1..=tally.packets_in.div_ceil(FORWARDS_TIMED)).contains(&timed), "{timed} timed");
}

#[test]
fn a_tally_beyond_the_last_is_refused() {
    let mut world = talk();
    let limit = TallyId::MAX_TALLIES;
    let track = TrackParams {
        track: TrackId(404),
        mid: Mid::new("t").expect("a mid"),
        kind: MediaKind::Audio,
        codecs: Vec::new(),
        ssrcs: Vec::new(),
        rtx_ssrcs: Vec::new(),
        extensions: ExtensionMap::default(),
        layers: Vec::new(),
        voice_activity: false,
        tally: TallyId(limit as u16),
    };
    let session = world.peers[0].session;
    let refused = world.command(0, Command::AddTrack { session, track: Box::new(track) });
    let expected = CommandError::LimitReached { what: "tallies per shard", limit };
    assert_eq!(refused.err(), Some(expected));
}
