//! Shard snapshots, service and HTTP counters as text for Prometheus.

pub mod histograms;
#[cfg(test)]
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::auth::Auth;
use crate::http::counters::HttpCounters;
use crate::rtcd::hub::HubCounters;
use crate::service::Service;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ShardLabel {
    shard: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DropLabels {
    shard: u16,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct InfoLabels {
    version: &'static str,
    backend: &'static str,
}

/// Writes all metrics, with the counters that the shards have at this moment. A shard that does not
/// answer is left out, and
/// `sluice_shard_up` says so.
///
/// # Errors
/// None that is known: writing into memory.
pub async fn render(
    service: &Service,
    http: &HttpCounters,
    auth: &Auth,
    plugins: &HubCounters,
) -> Result<String, fmt::Error> {
    let states = service.shard_states().await;
    let mut registry = Registry::with_prefix("sluice");

    let info = Family::<InfoLabels, Gauge>::default();
    let backend = service.facts().backend;
    info.get_or_create(&InfoLabels { version: env!("CARGO_PKG_VERSION"), backend }).set(1);
    registry.register("build_info", "Version and back-end in use; always 1", info);

    let up = Family::<ShardLabel, Gauge>::default();
    let load = Family::<ShardLabel, Gauge>::default();
    let gauges = [
        ("shard_calls", "Calls on the shard", Family::<ShardLabel, Gauge>::default()),
        ("shard_sessions", "Sessions on the shard", Family::default()),
        ("shard_tracks", "Tracks published on the shard", Family::default()),
        ("shard_legs", "Legs on the shard: tracks times their subscribers", Family::default()),
    ];
    let drops = Family::<DropLabels, Counter>::default();
    let mut counters = BTreeMap::<&str, (&str, Family<ShardLabel, Counter>)>::new();
    for (shard, load_permille, snapshot) in &states {
        let label = ShardLabel { shard: shard.0 };
        up.get_or_create(&label).set(i64::from(snapshot.is_some()));
        load.get_or_create(&label).set(i64::from(*load_permille));
        let Some(snapshot) = snapshot else { continue };
        let counts = [snapshot.calls, snapshot.sessions, snapshot.tracks, snapshot.legs];
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

    let (calls, sessions) = service.totals();
    for (name, help, count) in [("calls", "Calls", calls), ("sessions", "Sessions", sessions)] {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let counted: [(&str, &str, &AtomicU64); 3] = [
        ("websockets_opened", "WebSockets opened", &service.counters.websockets_opened),
        (
            "websockets_overflowed",
            "WebSockets closed because the client read too slowly",
            &service.counters.websockets_overflowed,
        ),
        (
            "sessions_reconciled",
            "Sessions that only the engine or only the control plane knew, cleaned up",
            &service.counters.sessions_reconciled,
        ),
    ];
    for (name, help, value) in counted {
        let counter = Counter::<u64>::default();
        counter.inc_by(value.load(Ordering::Relaxed));
        registry.register(name, help, counter);
    }
    registry.register(
        "http_requests",
        "HTTP requests by route, method and status",
        http.requests.clone(),
    );
    registry.register(
        "auth_attempts",
        "Keys that clients of rtcd's API sent, by what came of them",
        auth.counters().attempts.clone(),
    );
    let evicted = Counter::<u64>::default();
    evicted.inc_by(auth.evicted());
    registry.register("auth_evicted", "Sources and clients that authentication forgot", evicted);
    plugins.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
