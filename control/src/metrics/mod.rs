//! Everything that is counted, as text for Prometheus: ours below `sluice_`, what rtcd's dashboard reads below `rtcd_`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::auth::Auth;
use crate::host_tuning::HostTuning;
use crate::http::counters::HttpCounters;
use crate::rtcd::service::Rtcd;
use crate::service::Service;
use process::Process;

pub mod histograms;
mod host;
mod process;
mod shards;
pub mod text;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct InfoLabels {
    version: &'static str,
    backend: &'static str,
}

/// Writes all metrics, with the counters that the shards have at this moment. A shard that does not answer is left out, and
/// `sluice_shard_up` says so.
///
/// # Errors
/// None that is known: writing into memory.
pub async fn render(
    service: &Service,
    http: &HttpCounters,
    auth: &Auth,
    rtcd: &Rtcd,
    tuning: &HostTuning,
) -> Result<String, fmt::Error> {
    let states = service.shard_states().await;
    // Without /proc there is no figure to show; everything else is.
    let process = tokio::task::spawn_blocking(Process::read_own).await;
    let process = process.ok().and_then(Result::ok);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();

    let mut registry = Registry::default();
    let sluice = registry.sub_registry_with_prefix("sluice");
    register_build(sluice, service);
    shards::register(sluice, &states);
    register_service(sluice, service);
    host::register(sluice, service.facts(), tuning);
    let requests = http.requests.clone();
    sluice.register("http_requests", "HTTP requests by route, method and status", requests);
    register_auth(sluice, auth);
    rtcd.hub().counters().register(sluice);

    let of_all: Option<Vec<_>> =
        states.iter().map(|(_, _, snapshot)| Some(snapshot.as_ref()?.tallies.as_slice())).collect();
    let prefixed = registry.sub_registry_with_prefix("rtcd");
    rtcd.metrics().register(prefixed, &of_all.unwrap_or_default());
    if let Some(process) = process {
        process.register(prefixed);
        process.register_as_go(&mut registry, tasks);
    }
    let mut openmetrics = String::new();
    encode(&mut openmetrics, &registry)?;
    Ok(text::to_prometheus(&openmetrics))
}

fn register_build(registry: &mut Registry, service: &Service) {
    let info = Family::<InfoLabels, Gauge>::default();
    let backend = service.facts().backend;
    info.get_or_create(&InfoLabels { version: env!("CARGO_PKG_VERSION"), backend }).set(1);
    registry.register("build_info", "Version and back-end in use; always 1", info);
}

fn register_auth(registry: &mut Registry, auth: &Auth) {
    registry.register(
        "auth_attempts",
        "Keys that clients of rtcd's API sent, by what came of them",
        auth.counters().attempts.clone(),
    );
    let evicted = Counter::<u64>::default();
    evicted.inc_by(auth.evicted());
    registry.register("auth_evicted", "Sources and clients that authentication forgot", evicted);
}

fn register_service(registry: &mut Registry, service: &Service) {
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
    let lost = Counter::<u64>::default();
    lost.inc_by(crate::logging::file::lines_lost());
    registry.register("log_lines_lost", "Log lines that could not be written to the file", lost);
    let draining = Gauge::<i64>::default();
    draining.set(i64::from(service.is_draining()));
    registry.register("draining", "Whether new sessions are refused", draining);
}
