//! The cases of a shard. Each warms up, then counts turns that do the same again and again.

use std::time::Duration;

use sluice_engine::config::{EngineConfig, LayerConfig};
use sluice_engine::metrics::ShardCounters;
use sluice_engine::srtp::Profile;

use crate::rig::{Media, Publication, Rig};

/// What handshakes with browsers choose.
const GCM: Profile = Profile::AeadAes256Gcm;

/// Receivers of one voice, and of one camera or screen.
const LISTENERS: usize = 100;
const VIEWERS: usize = 25;

/// Calls of two, and people who talk to nobody.
const CALLS: usize = 50;

/// Bytes of a voice packet's payload, and of a packet of a frame.
const VOICE_BYTES: usize = 200;
const PICTURE_BYTES: usize = 1_111;

/// Packets of a frame; of one of the lower layer in simulcast.
const FRAME_PACKETS: usize = 6;
const LOW_FRAME_PACKETS: usize = 2;

/// Rounds before those that count: first packets, the reports that end the MID, feedback.
const WARM_ROUNDS: usize = 150;
const COUNTED_ROUNDS: usize = 50;

fn packets_out(counters: &ShardCounters) -> u64 {
    counters.rtp_packets_out
}

/// 20 ms in which clients do what they do without media.
fn pause(rig: &mut Rig) {
    for _ in 0..2 {
        rig.step();
        rig.settle();
    }
}

/// One round each 20 ms: `send` puts what arrives at the shard, and its turn counts once it is warm.
fn rounds(rig: &mut Rig, mut send: impl FnMut(&mut Rig)) -> u64 {
    rig.connect();
    for round in 0..WARM_ROUNDS + COUNTED_ROUNDS {
        pause(rig);
        rig.tell_arrivals();
        rig.settle();
        send(rig);
        if round == WARM_ROUNDS {
            assert_eq!(rig.dropped(), 0, "packets were refused");
        }
        if round < WARM_ROUNDS { rig.settle() } else { rig.count() }
    }
    assert_eq!(rig.dropped(), 0, "packets were refused");
    rig.units()
}

/// One publisher and all its receivers.
fn one_to_many(rig: &mut Rig, media: Media) -> (Vec<Publication>, Vec<usize>) {
    let publisher = rig.add_peer(1);
    let count = if media == Media::Audio { LISTENERS } else { VIEWERS };
    let receivers: Vec<usize> = (0..count).map(|_| rig.add_peer(1)).collect();
    (rig.publish(publisher, media, &receivers), receivers)
}

fn send_frame(rig: &mut Rig, stream: &mut Publication, packets: usize) {
    for packet in 1..=packets {
        rig.send(stream, PICTURE_BYTES, packet == packets);
    }
}

fn audio_fanout_with(profile: Profile) -> u64 {
    let mut rig = Rig::new(EngineConfig::default(), profile, packets_out);
    let (mut streams, _) = one_to_many(&mut rig, Media::Audio);
    let units = rounds(&mut rig, |rig| rig.send(&mut streams[0], VOICE_BYTES, false));
    assert_eq!(units, (COUNTED_ROUNDS * LISTENERS) as u64);
    units
}

/// A voice to many, one packet a turn.
pub fn audio_fanout() -> u64 {
    audio_fanout_with(GCM)
}

/// The same to peers that have nothing better.
pub fn audio_fanout_cm_sha1() -> u64 {
    audio_fanout_with(Profile::Aes128CmHmacSha1_80)
}

/// A camera to many, one frame a turn.
pub fn video_fanout() -> u64 {
    let mut rig = Rig::new(EngineConfig::default(), GCM, packets_out);
    let (mut streams, _) = one_to_many(&mut rig, Media::Video);
    let units = rounds(&mut rig, |rig| send_frame(rig, &mut streams[0], FRAME_PACKETS));
    assert_eq!(units, (COUNTED_ROUNDS * FRAME_PACKETS * VIEWERS) as u64);
    units
}

/// A screen in two layers to many who all get the lower one.
pub fn simulcast_fanout() -> u64 {
    // No path is found to carry more than the lower layer.
    let layers = LayerConfig { estimate_max_bps: 400_000, ..LayerConfig::default() };
    let config = EngineConfig { layers, ..EngineConfig::default() };
    let mut rig = Rig::new(config, GCM, packets_out);
    let (mut streams, _) = one_to_many(&mut rig, Media::Simulcast);
    let units = rounds(&mut rig, |rig| {
        for (stream, packets) in streams.iter_mut().zip([LOW_FRAME_PACKETS, FRAME_PACKETS]) {
            send_frame(rig, stream, packets);
        }
    });
    assert_eq!(rig.shard.counters().layer_switches, 0);
    assert_eq!(units, (COUNTED_ROUNDS * LOW_FRAME_PACKETS * VIEWERS) as u64);
    units
}

/// Calls of two: each packet in is one packet out. All of a round come in one turn.
pub fn pairs() -> u64 {
    let (mut rig, mut streams) = calls_of_two(packets_out);
    let units = rounds(&mut rig, |rig| {
        for stream in &mut streams {
            rig.send(stream, VOICE_BYTES, false);
        }
    });
    assert_eq!(units, (COUNTED_ROUNDS * CALLS * 2) as u64);
    units
}

fn calls_of_two(unit: fn(&ShardCounters) -> u64) -> (Rig, Vec<Publication>) {
    let mut rig = Rig::new(EngineConfig::default(), GCM, unit);
    let mut streams = Vec::new();
    for call in 0..CALLS {
        let (one, other) = (rig.add_peer(call as u64), rig.add_peer(call as u64));
        streams.extend(rig.publish(one, Media::Audio, &[other]));
        streams.extend(rig.publish(other, Media::Audio, &[one]));
    }
    (rig, streams)
}

/// Voices that nobody hears. All of a round come in one turn.
pub fn ingress() -> u64 {
    let mut rig = Rig::new(EngineConfig::default(), GCM, |counters| counters.rtp_packets_in);
    let mut streams = Vec::new();
    for call in 0..CALLS {
        let peer = rig.add_peer(call as u64);
        streams.extend(rig.publish(peer, Media::Audio, &[]));
    }
    let units = rounds(&mut rig, |rig| {
        for stream in &mut streams {
            rig.send(stream, VOICE_BYTES, false);
        }
    });
    assert_eq!(units, (COUNTED_ROUNDS * CALLS) as u64);
    units
}

/// Each receiver of a camera asks for one packet of each frame again. Asking is counted, the frame is not.
pub fn nack() -> u64 {
    let mut rig = Rig::new(EngineConfig::default(), GCM, |counters| counters.rtx_out);
    let (mut streams, receivers) = one_to_many(&mut rig, Media::Video);
    let units = rounds(&mut rig, |rig| {
        send_frame(rig, &mut streams[0], FRAME_PACKETS);
        rig.settle();
        for &receiver in &receivers {
            rig.ask_again(receiver, 3);
        }
    });
    assert_eq!(units, (COUNTED_ROUNDS * VIEWERS) as u64);
    units
}

/// Receivers of a camera tell when its packets came. Their other reports are not counted.
pub fn feedback() -> u64 {
    let mut rig = Rig::new(EngineConfig::default(), GCM, |counters| counters.transport_cc_in);
    let (mut streams, _) = one_to_many(&mut rig, Media::Video);
    rig.connect();
    for round in 0..WARM_ROUNDS + COUNTED_ROUNDS {
        pause(&mut rig);
        send_frame(&mut rig, &mut streams[0], FRAME_PACKETS);
        rig.settle();
        rig.tell_arrivals();
        if round < WARM_ROUNDS { rig.settle() } else { rig.count() }
    }
    assert_eq!(rig.dropped(), 0, "packets were refused");
    assert_eq!(rig.shard.counters().transport_cc_missed, 0, "told of in time");
    rig.units()
}

/// Calls of two in which nobody speaks any more: timers, reports of both sides, checks.
pub fn idle() -> u64 {
    let (mut rig, mut streams) = calls_of_two(|_| 0);
    rig.connect();
    for _ in 0..WARM_ROUNDS {
        pause(&mut rig);
        rig.tell_arrivals();
        for stream in &mut streams {
            rig.send(stream, VOICE_BYTES, false);
        }
        rig.settle();
    }
    let quiet = rig.now + Duration::from_secs(2);
    while rig.now < quiet {
        rig.step();
        rig.settle();
    }
    // Four rounds of checks, which come least often.
    let seconds = 10;
    let checks = rig.shard.counters().stun_checks;
    let end = rig.now + Duration::from_secs(seconds);
    while rig.now < end {
        rig.step();
        rig.count();
    }
    let checks = rig.shard.counters().stun_checks - checks;
    assert_eq!(checks, (CALLS * 2) as u64 * seconds * 2 / 5, "each client checks each 2.5 s");
    (CALLS * 2) as u64 * seconds
}
