//! What a call must do when the network behaves.

use std::time::Duration;

use sluice_engine::command_error::CommandError;
use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::{LegId, Mid, SessionId, Ssrc, TrackId};
use sluice_engine::session::params::LegParams;
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::mailbox::{Command, Report};
use sluice_engine::srtp::Profile;

use crate::world::{Conditions, Media, World};

const SECOND: Duration = Duration::from_secs(1);

/// Three participants with audio and video, everything forwarded.
fn three_in_a_call(shards: usize, rtx: bool) -> World {
    three_in_a_call_with(shards, rtx, EngineConfig::default())
}

fn three_in_a_call_with(shards: usize, rtx: bool, config: EngineConfig) -> World {
    let mut world = World::new(1, shards, config);
    world.conditions.delay = Duration::from_millis(5);
    for at in 0..3 {
        // All live on shard 0; the kernel gives each to another socket.
        let peer = world.join(1, 0, at % shards);
        world.publish(peer, Media::Audio);
        world.publish(peer, Media::Video);
    }
    world.connect_all();
    world.subscribe_all(1, rtx);
    world
}

fn all_hear_all(world: &World) {
    all_hear_all_more_than(world, 40);
}

fn all_hear_all_more_than(world: &World, packets: usize) {
    for (at, peer) in world.peers.iter().enumerate().filter(|(_, peer)| !peer.gone) {
        let others = world.peers.iter().filter(|p| !p.gone && p.session != peer.session);
        for other in others {
            for publication in &other.publications {
                let got = peer.got.get(&(other.session.0, publication.media));
                let got = got.map_or(0, Vec::len);
                assert!(got > packets, "peer {at} got {got} {:?} packets", publication.media);
            }
        }
    }
}

#[test]
fn everyone_gets_everything_of_the_others_in_order() {
    for shards in [1, 2, 3] {
        let mut world = three_in_a_call(shards, true);
        world.run(3 * SECOND);
        all_hear_all(&world);
        for peer in &world.peers {
            for got in peer.got.values() {
                assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap, no repeat");
            }
            assert_eq!(peer.client.refused, 0);
        }
        let drops = world.shards[0].shard.drops().clone();
        for reason in [DropReason::BadTag, DropReason::Replayed, DropReason::UnknownSsrc] {
            assert_eq!(drops.of(reason), 0, "{reason:?}");
        }
    }
}

#[test]
fn datagrams_reach_the_owner_whichever_socket_got_them() {
    let mut world = three_in_a_call(2, true);
    world.run(2 * SECOND);
    let foreign = world.snapshot(1);
    let owner = world.snapshot(0);
    assert_eq!((owner.sessions, foreign.sessions), (3, 0));
    assert!(foreign.counters.steered_out > 200, "{}", foreign.counters.steered_out);
    assert_eq!(owner.counters.steered_in, foreign.counters.steered_out);
    all_hear_all(&world);
}

#[test]
fn gcm_is_chosen_when_the_server_decides() {
    let world = three_in_a_call(1, true);
    for peer in &world.peers {
        let profile = peer.client.profile().expect("connected");
        assert_ne!(profile, Profile::Aes128CmHmacSha1_80);
    }
}

#[test]
fn a_leaver_is_told_goodbye_and_its_streams_end() {
    let mut world = three_in_a_call(1, true);
    world.run(SECOND);
    world.leave(2);
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.sessions, snapshot.tracks, snapshot.legs), (2, 4, 4));
    // What was on its way arrives; nothing follows.
    world.run(Duration::from_millis(50));
    let leaver = world.peers[2].session.0;
    let before = world.peers[0].got[&(leaver, Media::Audio)].len();
    world.run(SECOND);
    assert_eq!(world.peers[0].got[&(leaver, Media::Audio)].len(), before);
    all_hear_all(&world);
}

#[test]
fn a_peer_that_says_goodbye_over_dtls_is_reported_as_left() {
    let mut world = three_in_a_call(1, true);
    let now = world.now;
    let mut out = Vec::new();
    world.peers[1].client.close(now, &mut |d: &[u8]| out.push(d.to_vec()));
    assert!(!out.is_empty(), "close_notify leaves");
    let address = world.peers[1].address;
    for datagram in out {
        world.inject(0, address, datagram);
    }
    world.run(Duration::from_millis(10));
    let left = Report::Closed { session: world.peers[1].session, error: SessionError::PeerLeft };
    assert!(world.reports.lock().expect("unpoisoned").contains(&left));
    assert_eq!(world.snapshot(0).sessions, 2);
}

#[test]
fn a_vanished_peer_loses_consent_and_then_its_session() {
    let mut world = three_in_a_call(1, true);
    world.peers[0].gone = true;
    world.run(29 * SECOND);
    let session = world.peers[0].session;
    let reported =
        |world: &World, report: &Report| world.reports.lock().expect("unpoisoned").contains(report);
    assert!(!reported(&world, &Report::Disconnected { session }));
    world.run(4 * SECOND);
    assert!(reported(&world, &Report::Disconnected { session }));
    let counters = world.shards[0].shard.counters().clone();
    world.run(SECOND);
    let sent = world.shards[0].shard.drops().of(DropReason::NotConnected);
    assert!(sent > 0 && world.snapshot(0).counters.turns > counters.turns);
    world.run(31 * SECOND);
    let error = SessionError::TimedOut("consent was lost and did not come back");
    assert!(reported(&world, &Report::Closed { session, error }));
    assert_eq!(world.snapshot(0).sessions, 2);
}

#[test]
fn a_session_waits_for_its_peers_half_and_then_for_its_checks() {
    let mut world = World::new(5, 1, EngineConfig::default());
    let (session, remote) = world.add_waiting_session(1);
    world.run(120 * SECOND);
    assert_eq!(world.snapshot(0).sessions, 1);
    let remote = Box::new(remote);
    world.command(0, Command::SetRemote { session, remote }).expect("the peer's half");
    world.run(29 * SECOND);
    assert_eq!(world.snapshot(0).sessions, 1);
    world.run(2 * SECOND);
    let error = SessionError::TimedOut("no connectivity check came");
    let closed = Report::Closed { session, error };
    assert!(world.reports.lock().expect("unpoisoned").contains(&closed));
    assert_eq!(world.snapshot(0).sessions, 0);
}

#[test]
fn an_ice_restart_brings_a_disconnected_session_back() {
    let mut world = three_in_a_call(1, true);
    world.peers[0].client.stop_checks();
    world.run(40 * SECOND);
    let session = world.peers[0].session;
    let has =
        |world: &World, report: Report| world.reports.lock().expect("unpoisoned").contains(&report);
    assert!(has(&world, Report::Disconnected { session }));
    world.restart_ice(0);
    world.run(SECOND);
    assert!(has(&world, Report::Reconnected { session }));
    for peer in &mut world.peers {
        peer.got.clear();
    }
    world.run(2 * SECOND);
    all_hear_all(&world);
}

#[test]
fn media_follows_a_client_whose_address_changes() {
    let mut world = three_in_a_call(2, true);
    world.run(SECOND);
    world.peers[1].address.set_port(60_001);
    world.peers[1].kernel_shard = 0;
    // The client's next check comes within its interval.
    world.run(3 * SECOND);
    for peer in &mut world.peers {
        peer.got.clear();
    }
    world.run(2 * SECOND);
    all_hear_all(&world);
}

#[test]
fn packets_of_a_frame_are_made_equal_for_those_with_a_retransmission_stream() {
    // A packet that is sent again under its own number has to be the same to the bit.
    for (rtx, padding_bytes_max, is_padded) in
        [(true, 16, true), (true, 0, false), (false, 16, false)]
    {
        let config = EngineConfig { padding_bytes_max, ..EngineConfig::default() };
        let mut world = three_in_a_call_with(1, rtx, config);
        world.run(SECOND);
        all_hear_all_more_than(&world, 20);
        for peer in &world.peers {
            assert_eq!(peer.padded > 20, is_padded, "rtx {rtx}: {} of a second", peer.padded);
            assert_eq!(peer.padded > 0, is_padded);
        }
    }
}

#[test]
fn lost_video_is_asked_for_and_found() {
    for rtx in [true, false] {
        let mut world = three_in_a_call(1, rtx);
        world.conditions.loss = 0.05;
        world.run(5 * SECOND);
        world.conditions.loss = 0.0;
        world.run(2 * SECOND);
        for peer in &world.peers {
            assert!(peer.nacks > 0, "the server asks publishers");
            for ((_, media), got) in &peer.got {
                let mut distinct = got.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let span = (distinct[distinct.len() - 1] - distinct[0] + 1) as usize;
                let lost = span - distinct.len();
                match media {
                    Media::Video => assert_eq!(lost, 0, "rtx {rtx}: {lost} of {span} missing"),
                    Media::Audio => assert!(lost > 0, "audio is not repaired"),
                }
            }
        }
        let snapshot = world.snapshot(0);
        assert!(snapshot.counters.rtx_out > 0 && snapshot.counters.rtx_in > 0);
    }
}

#[test]
fn many_wishes_for_a_key_frame_become_one_request() {
    let mut world = three_in_a_call(1, true);
    world.run(2 * SECOND);
    let before = world.peers[0].plis;
    for _ in 0..10 {
        world.ask_for_keyframes(1);
        world.ask_for_keyframes(2);
        world.run(Duration::from_millis(5));
    }
    world.run(2 * SECOND);
    // One at once, one for the wishes that came within the interval.
    assert_eq!(world.peers[0].plis - before, 2);
}

#[test]
fn legs_of_another_call_and_spent_ssrcs_are_refused() {
    let mut world = three_in_a_call(1, true);
    let stranger = world.join(2, 0, 0);
    world.connect_all();
    let leg = |track, ssrc| LegParams {
        leg: LegId(9_999),
        track,
        mid: Mid::new("x").expect("a mid"),
        ssrc: Ssrc(ssrc),
        rtx_ssrc: None,
        payload_types: Vec::new(),
        extensions: Default::default(),
        cname: String::new(),
    };
    let track = world.peers[0].publications[0].track;
    let session = world.peers[stranger].session;
    let add = |session, params| Command::AddLeg { session, leg: Box::new(params) };
    let refused = world.command(0, add(session, leg(track, 77))).expect_err("another call");
    assert_eq!(refused, CommandError::UnknownTrack(track));
    let spent = world.peers[1].subscriptions[0].ssrc.0;
    let session = world.peers[1].session;
    let refused = world.command(0, add(session, leg(track, spent))).expect_err("spent");
    assert_eq!(refused, CommandError::SsrcUsed);
    let nobody = SessionId(424_242);
    let refused = world.command(0, add(nobody, leg(TrackId(1), 5))).expect_err("nobody");
    assert_eq!(refused, CommandError::UnknownSession(nobody));
}

#[test]
fn handles_and_tables_are_empty_when_everyone_left() {
    let mut world = three_in_a_call(2, true);
    world.run(SECOND);
    for peer in 0..3 {
        world.leave(peer);
    }
    world.run(SECOND);
    let snapshot = world.snapshot(0);
    let left = (snapshot.sessions, snapshot.calls, snapshot.tracks, snapshot.legs);
    assert_eq!(left, (0, 0, 0, 0));
    assert!(world.shards.iter().all(|shard| shard.network.open_paths() == 0));
}

#[test]
fn a_join_storm_does_not_exceed_the_handshake_budget_and_still_connects() {
    let mut world = World::new(3, 1, EngineConfig::default());
    world.conditions = Conditions { delay: Duration::from_millis(5), ..Conditions::default() };
    for _ in 0..120 {
        world.join(1, 0, 0);
    }
    world.connect_all();
    assert!(world.snapshot(0).counters.handshakes_deferred > 0);
}
