//! How the host stands: its settings, and what the kernel granted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_engine::shard::handle::EngineFacts;
use sluice_tuning::finding::Verdict;

use crate::host_tuning::HostTuning;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

const VERDICTS: [Verdict; 5] =
    [Verdict::Good, Verdict::Note, Verdict::Unknown, Verdict::Better, Verdict::Wrong];

/// Adds what the last look at the host showed, and the buffers of the media sockets.
pub(super) fn register(registry: &mut Registry, facts: &EngineFacts, tuning: &HostTuning) {
    let settings = Family::<VerdictLabel, Gauge>::default();
    let last = tuning.last();
    for verdict in VERDICTS {
        let count = last.as_ref().map_or(0, |look| look.count(verdict));
        let label = VerdictLabel { verdict: verdict.name() };
        settings.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let help = "Settings of the host by how they stood at the last look";
    registry.register("tuning_settings", help, settings);
    let granted = (facts.receive_buffer_bytes, facts.send_buffer_bytes);
    let wanted = (facts.receive_buffer_bytes_wanted, facts.send_buffer_bytes_wanted);
    let buffers = [
        (
            "socket_buffer_granted_bytes",
            "Least buffer that the kernel granted a media socket",
            granted,
        ),
        ("socket_buffer_wanted_bytes", "Buffer that was asked for each media socket", wanted),
    ];
    for (name, help, (receive, send)) in buffers {
        let family = Family::<DirectionLabel, Gauge>::default();
        for (direction, bytes) in [("receive", receive), ("send", send)] {
            let gauge = family.get_or_create(&DirectionLabel { direction }).clone();
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        registry.register(name, help, family);
    }
}
