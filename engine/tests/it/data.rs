//! Data channels: opened by peers, carried under loss, bounded whatever a peer does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_engine::command_error::CommandError;
use sluice_engine::config::EngineConfig;
use sluice_engine::drop_reason::DropReason;
use sluice_engine::ids::ChannelId;
use sluice_engine::sctp::dcep::{Open, Reliability};
use sluice_engine::sctp::{
    CHANNELS_MAX, ChannelEvent, DataKind, LABEL_LEN_MAX, MESSAGE_LEN_MAX, WAITING_BYTES_MAX,
};
use sluice_engine::shard::budget;
use sluice_engine::shard::mailbox::{Command, Report};

use super::world::{Conditions, World};

const PATIENCE: Duration = Duration::from_secs(60);

type Said = (ChannelId, DataKind, Vec<u8>);

/// A connected call of `peers`.
fn call(seed: u64, peers: usize) -> World {
    let mut world = World::new(seed, 1, EngineConfig::default());
    for _ in 0..peers {
        world.join(1, 0, 0);
    }
    world.connect_all();
    world
}

fn open(world: &mut World, peer: usize, label: &str) -> ChannelId {
    open_as(world, peer, label, false, Reliability::Reliable)
}

/// Opens a channel and waits until both sides know.
fn open_as(
    world: &mut World,
    peer: usize,
    label: &str,
    unordered: bool,
    reliability: Reliability,
) -> ChannelId {
    let id = world.with_client(peer, |client, now, send| {
        let id = client.data.open(label, unordered, reliability);
        client.serve_data(now, send);
        id
    });
    let opened = ChannelEvent::Opened(id, String::new());
    world.run_until(PATIENCE, "opening", |world| {
        world.peers[peer].client.data.events.contains(&opened)
    });
    let session = world.peers[peer].session;
    let report = Report::ChannelOpened { session, channel: id, label: label.to_owned() };
    assert!(world.reports.lock().expect("unpoisoned").contains(&report), "{id:?} is reported");
    id
}

fn say(world: &mut World, peer: usize, id: ChannelId, kind: DataKind, bytes: &[u8]) {
    world.with_client(peer, |client, now, send| {
        client.data.send(id, kind, bytes.to_vec()).expect("an open channel with room");
        client.serve_data(now, send);
    });
}

fn tell(
    world: &mut World,
    peer: usize,
    channel: ChannelId,
    kind: DataKind,
    bytes: &[u8],
) -> Result<(), CommandError> {
    tell_and(world, peer, channel, kind, bytes, false)
}

/// Tells a peer something, and perhaps asks to be told when it arrived.
fn tell_and(
    world: &mut World,
    peer: usize,
    channel: ChannelId,
    kind: DataKind,
    bytes: &[u8],
    confirm: bool,
) -> Result<(), CommandError> {
    let (home, session) = (world.peers[peer].home, world.peers[peer].session);
    let command = Command::SendData { session, channel, kind, bytes: bytes.to_vec(), confirm };
    world.command(home, command).map(|_| ())
}

fn deliveries(world: &World, peer: usize, channel: ChannelId) -> usize {
    let delivered = Report::DataDelivered { session: world.peers[peer].session, channel };
    let reports = world.reports.lock().expect("unpoisoned");
    reports.iter().filter(|report| **report == delivered).count()
}

/// What control was told that a peer said.
fn reported(world: &World, peer: usize) -> Vec<Said> {
    let of = world.peers[peer].session;
    let reports = world.reports.lock().expect("unpoisoned");
    let said = reports.iter().filter_map(|report| match report {
        Report::Data { session, channel, kind, bytes } if *session == of => {
            Some((*channel, *kind, bytes.clone()))
        }
        _ => None,
    });
    said.collect()
}

/// What a peer was told.
fn heard(world: &World, peer: usize) -> Vec<Said> {
    let events = world.peers[peer].client.data.events.iter();
    let messages = events.filter_map(|event| match event {
        ChannelEvent::Message(id, kind, bytes) => Some((*id, *kind, bytes.clone())),
        _ => None,
    });
    messages.collect()
}

fn closed(world: &World, peer: usize, channel: ChannelId) -> bool {
    let session = world.peers[peer].session;
    world.reports.lock().expect("unpoisoned").contains(&Report::ChannelClosed { session, channel })
}

fn drops(world: &mut World, reason: DropReason) -> u64 {
    world.shards[0].shard.drops().of(reason)
}

#[test]
fn a_channel_carries_messages_of_every_kind_both_ways() {
    // The fourth peer is DTLS server, the others are clients.
    let mut world = call(0x5eed_da01, 4);
    for peer in 0..4 {
        let id = open(&mut world, peer, "calls-dc");
        let messages: Vec<Said> = vec![
            (id, DataKind::Text, "grüße".into()),
            (id, DataKind::Text, Vec::new()),
            (id, DataKind::Binary, vec![0, 1, 2]),
            (id, DataKind::Binary, Vec::new()),
            (id, DataKind::Binary, vec![7; MESSAGE_LEN_MAX]),
        ];
        for (id, kind, bytes) in &messages {
            say(&mut world, peer, *id, *kind, bytes);
            tell(&mut world, peer, *id, *kind, bytes).expect("an open channel");
        }
        world.run_until(PATIENCE, "talking", |world| {
            reported(world, peer).len() == messages.len()
                && heard(world, peer).len() == messages.len()
        });
        assert_eq!(reported(&world, peer), messages);
        assert_eq!(heard(&world, peer), messages);
    }
    let counters = world.shards[0].shard.counters();
    assert_eq!((counters.data_channels_opened, counters.data_associations_lost), (4, 0));
    assert_eq!((counters.data_messages_in, counters.data_messages_out), (20, 20));
    let bytes = 4 * (MESSAGE_LEN_MAX as u64 + "grüße".len() as u64 + 3);
    assert_eq!((counters.data_bytes_in, counters.data_bytes_out), (bytes, bytes));
    assert_eq!(drops(&mut world, DropReason::BadSctp), 0);
}

#[test]
fn messages_arrive_in_order_and_once_whatever_the_network_does() {
    for seed in 0..6 {
        let mut world = World::new(0x5eed_da10 + seed, 1, EngineConfig::default());
        world.conditions = Conditions {
            loss: 0.08,
            duplicate: 0.05,
            reorder: 0.2,
            jitter: Duration::from_millis(30),
            delay: Duration::from_millis(15),
        };
        for _ in 0..2 {
            world.join(1, 0, 0);
        }
        world.connect_all();
        let ids = [0, 1].map(|peer| open(&mut world, peer, "dc"));
        let message = |n: u32| {
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.resize(4 + (n as usize * 977) % 5_000, n as u8);
            bytes
        };
        for n in 0..60 {
            for (peer, id) in ids.into_iter().enumerate() {
                say(&mut world, peer, id, DataKind::Binary, &message(n));
                tell(&mut world, peer, id, DataKind::Binary, &message(n)).expect("room");
            }
            world.run(Duration::from_millis(5));
        }
        world.run_until(4 * PATIENCE, "all to arrive", |world| {
            (0..2).all(|p| reported(world, p).len() >= 60 && heard(world, p).len() >= 60)
        });
        for (peer, id) in ids.into_iter().enumerate() {
            let all: Vec<_> = (0..60).map(|n| (id, DataKind::Binary, message(n))).collect();
            assert_eq!(reported(&world, peer), all, "seed {seed}");
            assert_eq!(heard(&world, peer), all, "seed {seed}");
        }
    }
}

#[test]
fn who_asks_is_told_when_the_peer_has_a_message_and_not_before() {
    for seed in 0..6 {
        let mut world = World::new(0x5eed_da18 + seed, 1, EngineConfig::default());
        world.join(1, 0, 0);
        world.connect_all();
        let id = open(&mut world, 0, "calls-dc");
        // A loss of everything stands for a network that is gone for a while.
        for (round, loss) in [(1, 0.0), (2, 0.3), (3, 1.0)] {
            world.conditions.loss = loss;
            tell_and(&mut world, 0, id, DataKind::Binary, &[7; 3_000], true).expect("room");
            if loss == 1.0 {
                world.run(Duration::from_secs(2));
                assert_eq!((heard(&world, 0).len(), deliveries(&world, 0, id)), (2, 2));
                world.conditions.loss = 0.0;
            }
            world.run_until(PATIENCE, "the message to arrive", |world| {
                let heard = heard(world, 0).len();
                assert!(deliveries(world, 0, id) <= heard, "seed {seed}");
                deliveries(world, 0, id) == round
            });
        }
        tell(&mut world, 0, id, DataKind::Binary, b"nobody asks").expect("room");
        world.run(Duration::from_secs(1));
        assert_eq!((heard(&world, 0).len(), deliveries(&world, 0, id)), (4, 3));
    }
}

#[test]
fn what_is_to_be_confirmed_is_acknowledged_without_the_usual_delay() {
    let mut world = call(0x5eed_da1f, 1);
    let id = open(&mut world, 0, "calls-dc");
    for round in 1..=4 {
        tell_and(&mut world, 0, id, DataKind::Binary, b"now", true).expect("room");
        world.run(Duration::from_millis(100));
        assert_eq!(deliveries(&world, 0, id), round);
    }
}

#[test]
fn a_channel_that_may_lose_messages_loses_some_and_stalls_for_none() {
    let mut world = call(0x5eed_da20, 1);
    let dear = open(&mut world, 0, "dear");
    let cheap = open_as(&mut world, 0, "cheap", true, Reliability::Retransmits(0));
    world.conditions.loss = 0.2;
    for n in 0..200_u8 {
        say(&mut world, 0, cheap, DataKind::Binary, &[n]);
        tell(&mut world, 0, cheap, DataKind::Binary, &[n]).expect("room");
        world.run(Duration::from_millis(20));
    }
    world.conditions.loss = 0.0;
    say(&mut world, 0, dear, DataKind::Text, b"the end");
    tell(&mut world, 0, dear, DataKind::Text, b"the end").expect("room");
    let end = (dear, DataKind::Text, b"the end".to_vec());
    world.run_until(PATIENCE, "the end", |world| {
        reported(world, 0).contains(&end) && heard(world, 0).contains(&end)
    });
    for got in [reported(&world, 0).len(), heard(&world, 0).len()] {
        assert!((60..201).contains(&got), "{got} of 201 messages");
    }
}

#[test]
fn a_channel_that_its_peer_closes_is_reported_and_its_number_used_again() {
    let mut world = call(0x5eed_da30, 1);
    let id = open(&mut world, 0, "first");
    say(&mut world, 0, id, DataKind::Text, b"last words");
    world.with_client(0, |client, now, send| {
        client.data.close(id);
        client.serve_data(now, send);
    });
    world.run_until(PATIENCE, "closing", |world| closed(world, 0, id));
    assert_eq!(reported(&world, 0).len(), 1, "what came before the end is not lost");
    assert_eq!(
        tell(&mut world, 0, id, DataKind::Text, b"?"),
        Err(CommandError::UnknownChannel(id))
    );
    world.run(Duration::from_secs(1));
    world.with_client(0, |client, now, send| {
        let reliability = Reliability::Reliable;
        client.data.open_at(id, Open { label: "second".to_owned(), unordered: false, reliability });
        client.serve_data(now, send);
    });
    world.run(Duration::from_secs(1));
    tell(&mut world, 0, id, DataKind::Text, b"again").expect("it is open again");
    world.run(Duration::from_secs(1));
    assert_eq!(heard(&world, 0), [(id, DataKind::Text, b"again".to_vec())]);
}

#[test]
fn channels_and_labels_are_bounded() {
    let mut world = call(0x5eed_da40, 1);
    open(&mut world, 0, &"l".repeat(LABEL_LEN_MAX));
    let refused = |world: &mut World, label: &str| {
        let before = drops(world, DropReason::DataRefused);
        world.with_client(0, |client, now, send| {
            client.data.open(label, false, Reliability::Reliable);
            client.serve_data(now, send);
        });
        world.run(Duration::from_secs(2));
        drops(world, DropReason::DataRefused) - before
    };
    assert_eq!(refused(&mut world, &"l".repeat(LABEL_LEN_MAX + 1)), 1);
    for _ in 1..CHANNELS_MAX {
        open(&mut world, 0, "one more");
    }
    assert_eq!(refused(&mut world, "one too many"), 1);
    let closed = ChannelEvent::Closed(ChannelId(2 * CHANNELS_MAX as u16 + 2));
    assert!(world.peers[0].client.data.events.contains(&closed), "its opener is told");
    // The others live.
    tell(&mut world, 0, ChannelId(0), DataKind::Text, b"still here").expect("open");
    assert_eq!(world.shards[0].shard.counters().data_associations_lost, 0);
}

#[test]
fn a_message_on_a_stream_that_is_no_channel_and_text_that_is_none_are_refused() {
    let mut world = call(0x5eed_da48, 1);
    let id = open(&mut world, 0, "dc");
    say(&mut world, 0, id, DataKind::Text, &[0xFF]);
    world.with_client(0, |client, now, send| {
        client.data.send_unbounded(ChannelId(8), b"without an OPEN".to_vec());
        client.serve_data(now, send);
    });
    world.run(Duration::from_secs(1));
    assert_eq!(drops(&mut world, DropReason::DataRefused), 2);
    assert_eq!(reported(&world, 0), []);
}

#[test]
fn a_message_that_is_too_long_costs_its_sender_the_association_and_nothing_else() {
    let mut world = call(0x5eed_da50, 2);
    let id = open(&mut world, 0, "dc");
    let other = open(&mut world, 1, "dc");
    let long = vec![1; MESSAGE_LEN_MAX + 1];
    let limit = MESSAGE_LEN_MAX;
    let what = "bytes in a message";
    let refused = Err(CommandError::LimitReached { what, limit });
    assert_eq!(tell(&mut world, 0, id, DataKind::Binary, &long), refused);
    world.with_client(0, |client, now, send| {
        client.data.send_unbounded(id, long.clone());
        client.serve_data(now, send);
    });
    world.run_until(PATIENCE, "the end of the association", |world| closed(world, 0, id));
    world.run(Duration::from_secs(1));
    assert_eq!(world.shards[0].shard.counters().data_associations_lost, 1);
    assert!(
        world.peers[0].client.data.events.contains(&ChannelEvent::Lost { panicked: false }),
        "the peer is told"
    );
    assert!(world.peers[0].client.is_connected(), "the session lives");
    say(&mut world, 1, other, DataKind::Text, b"undisturbed");
    world.run(Duration::from_secs(1));
    assert_eq!(reported(&world, 1).len(), 1);
    // It may begin anew.
    let now = world.now;
    world.peers[0].client.data.begin_anew(now);
    open(&mut world, 0, "second try");
}

#[test]
fn what_waits_for_a_peer_is_bounded_and_goes_on_when_it_reads() {
    let mut world = call(0x5eed_da60, 1);
    let id = open(&mut world, 0, "dc");
    world.peers[0].client.data.is_reading = false;
    let mut sent = 0;
    let refused = loop {
        match tell(&mut world, 0, id, DataKind::Binary, &[sent as u8; 50_000]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        world.run(Duration::from_millis(50));
    };
    let (what, limit) = ("bytes waiting for the peer", WAITING_BYTES_MAX);
    assert_eq!(refused, CommandError::LimitReached { what, limit });
    assert!(sent > WAITING_BYTES_MAX / 50_000, "{sent} messages");
    world.peers[0].client.data.is_reading = true;
    world.run_until(PATIENCE, "reading", |world| heard(world, 0).len() == sent);
    tell(&mut world, 0, id, DataKind::Binary, &[0; 50_000]).expect("room again");
}

#[test]
fn a_flood_waits_at_its_sender_while_control_is_slow_and_nobody_elses_reports_are_lost() {
    let mut world = call(0x5eed_da70, 3);
    let id = open(&mut world, 0, "flood");
    let other = open(&mut world, 1, "calm");
    world.reports_stuck.store(true, Ordering::Relaxed);
    let (mut sent, mut calm) = (0_u32, 0);
    for round in 0..600 {
        while world.with_client(0, |client, now, send| {
            let mut bytes = sent.to_be_bytes().to_vec();
            bytes.resize(100_000, 0);
            let taken = client.data.send(id, DataKind::Binary, bytes).is_ok();
            client.serve_data(now, send);
            taken
        }) {
            sent += 1;
        }
        if round % 100 == 0 {
            say(&mut world, 1, other, DataKind::Text, b"calm");
            calm += 1;
        }
        world.run(Duration::from_millis(10));
    }
    let taken = world.shards[0].shard.counters().data_bytes_in as usize;
    assert!(taken >= budget::DATA_BYTES, "{taken} bytes: the flood was no flood");
    assert!(taken <= budget::DATA_BYTES + 2 * MESSAGE_LEN_MAX, "{taken} bytes are held");
    // Somebody leaves in the middle of it.
    world.with_client(2, |client, now, send| client.close(now, send));
    world.run(Duration::from_millis(100));
    world.reports_stuck.store(false, Ordering::Relaxed);
    world.run_until(PATIENCE, "the flood to run off", |world| {
        reported(world, 0).len() == sent as usize && reported(world, 1).len() == calm
    });
    let numbers = reported(&world, 0)
        .into_iter()
        .map(|(_, _, bytes)| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")));
    assert!(numbers.eq(0..sent), "all in order");
    let gone = world.peers[2].session;
    let reports = world.reports.lock().expect("unpoisoned");
    assert!(
        reports.iter().any(|r| matches!(r, Report::Closed { session, .. } if *session == gone))
    );
    drop(reports);
    assert_eq!(world.shards[0].shard.counters().reports_lost, 0);
    assert_eq!(world.shards[0].shard.counters().data_associations_lost, 0);
}

#[test]
fn a_session_without_data_channels_answers_none() {
    let mut world = World::new(0x5eed_da80, 1, EngineConfig::default());
    world.data_channels = false;
    world.join(1, 0, 0);
    world.connect_all();
    world.with_client(0, |client, now, send| {
        client.data.open("dc", false, Reliability::Reliable);
        client.serve_data(now, send);
    });
    world.run(Duration::from_secs(3));
    assert!(drops(&mut world, DropReason::UnusedData) >= 2, "INITs are dropped and counted");
    assert_eq!(world.peers[0].client.data.events, []);
    assert!(world.peers[0].client.is_connected());
    let id = ChannelId(0);
    assert_eq!(
        tell(&mut world, 0, id, DataKind::Text, b"?"),
        Err(CommandError::UnknownChannel(id))
    );
}

#[test]
fn nothing_leaves_without_consent_and_what_waited_leaves_when_it_is_back() {
    let mut world = call(0x5eed_da90, 1);
    let id = open(&mut world, 0, "dc");
    world.peers[0].client.stop_checks();
    world.run(Duration::from_secs(40));
    let address = world.peers[0].address;
    let before = world.sent_to[&address];
    tell(&mut world, 0, id, DataKind::Text, b"are you there?").expect("it waits");
    world.run(Duration::from_secs(5));
    assert_eq!(world.sent_to[&address], before, "without consent nothing leaves");
    world.restart_ice(0);
    world.run_until(PATIENCE, "the message", |world| !heard(world, 0).is_empty());
    assert_eq!(heard(&world, 0), [(id, DataKind::Text, b"are you there?".to_vec())]);
}

#[test]
fn a_peer_that_begins_anew_loses_its_channels_and_opens_others() {
    let mut world = call(0x5eed_daa0, 1);
    let id = open(&mut world, 0, "dc");
    world.with_client(0, |client, now, send| {
        client.data.begin_anew(now);
        client.serve_data(now, send);
    });
    world.run_until(PATIENCE, "the old channel's end", |world| closed(world, 0, id));
    let next = open(&mut world, 0, "another");
    say(&mut world, 0, next, DataKind::Text, b"hello again");
    world.run(Duration::from_secs(1));
    assert_eq!(reported(&world, 0), [(next, DataKind::Text, b"hello again".to_vec())]);
}

#[test]
fn application_data_that_is_no_sctp_is_counted_and_disturbs_nothing() {
    let mut world = call(0x5eed_dab0, 1);
    let id = open(&mut world, 0, "dc");
    let before = drops(&mut world, DropReason::BadSctp);
    for len in [0, 1, 11, 12, 16, 28, 1_100] {
        world.with_client(0, |client, now, send| {
            client.send_application_data(now, &vec![len as u8; len], send);
        });
    }
    world.run(Duration::from_millis(100));
    assert!(drops(&mut world, DropReason::BadSctp) - before >= 6);
    say(&mut world, 0, id, DataKind::Text, b"fine");
    world.run(Duration::from_secs(1));
    assert_eq!(reported(&world, 0).len(), 1);
}

#[test]
fn more_data_in_a_turn_than_a_session_may_send_is_dropped() {
    let mut world = call(0x5eed_dac0, 1);
    open(&mut world, 0, "dc");
    let count = usize::from(budget::DATA_PER_SESSION) + 50;
    for _ in 0..count {
        world.with_client(0, |client, now, send| client.send_application_data(now, b"x", send));
    }
    world.run(Duration::from_millis(5));
    assert_eq!(drops(&mut world, DropReason::DataFlood), 50);
}

#[test]
fn a_goodbye_ends_the_channels_too() {
    let mut world = call(0x5eed_dad0, 1);
    open(&mut world, 0, "dc");
    let session = world.peers[0].session;
    world.command(0, Command::RemoveSession { session }).expect("it is there");
    world.run(Duration::from_millis(100));
    assert!(world.peers[0].client.data.events.contains(&ChannelEvent::Lost { panicked: false }));
    assert!(world.peers[0].client.closed().is_some());
}

#[test]
fn many_small_messages_that_were_lost_all_arrive_in_the_end() {
    const COUNT: usize = 500;
    let mut world = call(23, 1);
    let id = open(&mut world, 0, "calls-dc");
    let good = world.conditions;
    world.conditions.loss = 1.0;
    for number in 0..COUNT {
        let bytes = (number as u16).to_be_bytes();
        say(&mut world, 0, id, DataKind::Binary, &bytes);
        tell(&mut world, 0, id, DataKind::Binary, &bytes).expect("room");
    }
    world.run(Duration::from_secs(2));
    world.conditions = good;
    world.run_until(PATIENCE, "both directions", |world| {
        reported(world, 0).len() == COUNT && heard(world, 0).len() == COUNT
    });
    for came in [reported(&world, 0), heard(&world, 0)] {
        let numbers = came.iter().map(|(_, _, bytes)| u16::from_be_bytes([bytes[0], bytes[1]]));
        assert!(numbers.eq(0..COUNT as u16), "in order");
    }
}
