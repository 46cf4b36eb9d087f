//! What the shards count, by shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_engine::ids::ShardId;
use sluice_engine::metrics::{FORWARD_TIME_BUCKETS_S, ForwardTimes};
use sluice_engine::shard::mailbox::ShardSnapshot;

use super::histograms;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ShardLabel {
    shard: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DropLabels {
    shard: u16,
    reason: &'static str,
}

/// Adds every shard's state: which one, its load in thousandths, and its counters if it answered.
pub(super) fn register(
    registry: &mut Registry,
    states: &[(ShardId, u32, Option<Arc<ShardSnapshot>>)],
) {
    let up = Family::<ShardLabel, Gauge>::default();
    let load = Family::<ShardLabel, Gauge>::default();
    let gauges = [
        ("shard_calls", "Calls on the shard", Family::<ShardLabel, Gauge>::default()),
        ("shard_sessions", "Sessions on the shard", Family::default()),
        ("shard_tracks", "Tracks published on the shard", Family::default()),
        ("shard_legs", "Legs on the shard: tracks times their subscribers", Family::default()),
        ("shard_estimated_sessions", "Sessions whose path is estimated", Family::default()),
        (
            "shard_estimated_bps",
            "Bits a second that the paths to those sessions carry, together",
            Family::default(),
        ),
    ];
    let drops = Family::<DropLabels, Counter>::default();
    let mut counters = BTreeMap::<&str, (&str, Family<ShardLabel, Counter>)>::new();
    let mut forward_times = Vec::new();
    for (shard, load_permille, snapshot) in states {
        let label = ShardLabel { shard: shard.0 };
        up.get_or_create(&label).set(i64::from(snapshot.is_some()));
        load.get_or_create(&label).set(i64::from(*load_permille));
        let Some(snapshot) = snapshot else { continue };
        let estimates = || snapshot.session_list.iter().filter_map(|session| session.estimate_bps);
        let counts = [
            snapshot.calls,
            snapshot.sessions,
            snapshot.tracks,
            snapshot.legs,
            estimates().count(),
            usize::try_from(estimates().sum::<u64>()).unwrap_or(usize::MAX),
        ];
        for ((_, _, gauge), count) in gauges.iter().zip(counts) {
            gauge.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (reason, count) in snapshot.drops.iter() {
            let labels = DropLabels { shard: shard.0, reason: reason.label() };
            drops.get_or_create(&labels).inc_by(count);
        }
        for (name, help, value) in snapshot.counters.iter() {
            let (_, family) = counters.entry(name).or_insert_with(|| (help, Family::default()));
            family.get_or_create(&label).inc_by(value);
        }
        let mut times = ForwardTimes::default();
        snapshot.tallies.iter().for_each(|tally| times.add(&tally.forward_times));
        forward_times.push((label, times));
    }
    registry.register("shard_up", "Whether the shard answered within a second", up);
    registry.register(
        "shard_load_permille",
        "Share of time the shard was busy lately, in thousandths",
        load,
    );
    for (name, help, gauge) in gauges {
        registry.register(name, help, gauge);
    }
    for (name, (help, family)) in counters {
        registry.register(format!("shard_{name}"), help, family);
    }
    registry.register("shard_drops", "Datagrams refused, by reason", drops);
    histograms::register(
        registry,
        (
            "shard_forward_seconds",
            "Time to write one packet for all its subscribers; one packet in 64",
        ),
        &FORWARD_TIME_BUCKETS_S,
        forward_times,
    );
}
