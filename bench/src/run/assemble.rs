//! From what was seen to the result: arithmetic alone.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_engine::clock;

use super::{Look, RunOptions, expect};
use crate::histogram::Histogram;
use crate::probe::{self, Core};
use crate::result::{
    CoreUse, FORMAT, KernelCounters, Loss, Machine, RunResult, ThreadUse, Traffic,
};
use crate::timestamp;
use crate::worker::protocol::Window;

/// What is known before anything happens.
pub fn begin(options: &RunOptions) -> RunResult {
    RunResult {
        format: FORMAT,
        label: options.label.clone(),
        target: options.target.api.name().to_owned(),
        command: options.command.clone(),
        began: timestamp::rfc3339(clock::wall_clock().ntp(clock::now())),
        scenario: Some(options.scenario.clone()),
        seed: options.seed,
        verify: options.verify,
        machine: Machine::read(options.interface.as_deref()),
        ..RunResult::default()
    }
}

/// Fills in what was measured between two looks.
pub fn finish(
    result: &mut RunResult,
    options: &RunOptions,
    first: &Look,
    last: &Look,
    windows: &[Window],
) {
    let elapsed = last.at.since(first.at).as_secs_f64().max(1e-3);
    result.elapsed_s = elapsed;
    traffic(result, windows);
    if let Some(churn) = options.scenario.churn {
        let replaced: u64 = windows.iter().map(|window| window.replaced).sum();
        let wanted = churn.per_second * elapsed;
        if (replaced as f64) < 0.9 * wanted {
            result.problems.push(format!(
                "{replaced} people were replaced where {wanted:.0} should have been"
            ));
        }
    }
    loss(result, options, windows);
    result.loss.server_sockets = last.server_sockets.saturating_sub(first.server_sockets);
    result.kernel = first.kernel.zip(last.kernel).map(|(before, after)| KernelCounters {
        before,
        after,
        is_shared: options.workers.is_empty()
            && options.pid.is_some_and(probe::is_in_our_namespace),
    });
    result.loss.server_drops = last.metrics.drops_since(&first.metrics);
    let merged = |of: fn(&Window) -> &Histogram| {
        let mut sum = Histogram::default();
        windows.iter().for_each(|window| sum.merge(of(window)));
        sum.to_distribution(Duration::from_micros(1))
    };
    result.latency_us = merged(|window| &window.latency);
    result.clock_error_us = merged(|window| &window.clock_error);
    result.jitter_us = merged(|window| &window.jitter);
    result.join_us = merged(|window| &window.join);
    result.first_frame_us = merged(|window| &window.first_frame);
    for window in windows {
        result.frames += window.frames;
    }

    let cpu = last.cpu.since(&first.cpu);
    let server = &mut result.server;
    let spent = cpu.server_s();
    server.cores = spent / elapsed;
    server.user_s = cpu.server.user_s;
    server.system_s = cpu.server.system_s;
    let busy =
        cpu.threads.values().filter(|thread| thread.cpu.total_s() > 0.0 || thread.ran_s > 0.0);
    server.threads = busy
        .map(|thread| ThreadUse {
            name: thread.name.clone(),
            ran_s: thread.ran_s,
            user_s: thread.cpu.user_s,
            system_s: thread.cpu.system_s,
            waited_s: thread.waited_s,
        })
        .collect();
    let waited = server.threads.iter().map(|thread| thread.waited_s).fold(0.0, f64::max);
    server.waited_share = waited / elapsed;
    server.counters = last.metrics.grown(&first.metrics);
    server.run_length_out = run_length(&server.counters);
    result.server_version = last.metrics.version().unwrap_or_default();
    if options.pid.is_some() {
        let Traffic { packets_in, packets_out, bytes_out, .. } = result.traffic;
        let by = |amount: f64| (amount > 0.0).then(|| spent / amount);
        server.us_per_packet_out = by(packets_out as f64 / 1e6);
        server.us_per_packet = by((packets_in + packets_out) as f64 / 1e6);
        server.cores_per_gbps = by(bytes_out as f64 * 8.0 / 1e9);
    }

    let generator = &mut result.generator;
    // Workers elsewhere say for themselves what they used.
    generator.cores = windows.iter().map(|window| window.ran_s / window.elapsed_s).sum();
    let share = |of: fn(&Window) -> f64| {
        windows.iter().map(|window| of(window) / window.elapsed_s).fold(0.0, f64::max)
    };
    generator.busiest = share(|window| window.ran_s);
    generator.waited_share = share(|window| window.waited_s);
    generator.workers = windows.len() as u32;
    generator.machine_cores = cpu.cores.iter().map(core_use).collect();
}

/// Media packets by the run, from Sluice's counters: of a server that has no such, nothing.
///
/// Reports and answers to checks are taken for runs of their own, which some are not: then the figure is a little too high.
fn run_length(counters: &BTreeMap<String, f64>) -> Option<f64> {
    let of = |name: &str| counters.get(&format!("sluice_shard_{name}_out_total")).copied();
    let (datagrams, runs, packets) = (of("datagrams")?, of("runs")?, of("rtp_packets")?);
    let runs = runs - (datagrams - packets);
    (packets > 0.0 && runs > 0.0).then(|| packets / runs)
}

fn core_use(core: &Core) -> CoreUse {
    let sum = core.user_s + core.system_s + core.softirq_s + core.stolen_s + core.idle_s;
    let share = |seconds: f64| if sum > 0.0 { seconds / sum } else { 0.0 };
    CoreUse {
        user: share(core.user_s),
        system: share(core.system_s),
        softirq: share(core.softirq_s),
        stolen: share(core.stolen_s),
        idle: share(core.idle_s),
    }
}

fn traffic(result: &mut RunResult, windows: &[Window]) {
    let traffic = &mut result.traffic;
    for window in windows {
        for stream in &window.sent {
            traffic.packets_in += stream.packets;
            traffic.bytes_in += stream.bytes;
            traffic.late += stream.late;
        }
        traffic.packets_out += window.packets_out;
        traffic.bytes_out += window.bytes_out;
        traffic.verified += window.verified;
        traffic.damaged += window.damaged;
    }
}

fn loss(result: &mut RunResult, options: &RunOptions, windows: &[Window]) {
    let scenario = &options.scenario;
    let loss = &mut result.loss;
    for window in windows {
        loss.generator_sockets += window.socket_drops + window.unsent + window.relay_faults;
        loss.relay += window.relay_dropped;
        loss.upstream += u64::try_from(window.upstream_lost).unwrap_or(0);
        loss.gaps += window.gaps;
        loss.late += window.late_packets;
        loss.sessions_closed += window.sessions_closed;
        result.problems.extend(window.failures.iter().cloned());
        result.problems.extend(window.damage.clone());
        if window.missing > 0 {
            let missing = window.missing;
            result
                .problems
                .push(format!("{missing} streams never came to somebody who should get them"));
        }
        if window.clock_steps > 0 {
            result
                .problems
                .push("a wall clock was set during the run: latencies are wrong".to_owned());
        }
    }
    if expect::is_exact(scenario) {
        let receivers = u64::from(expect::receivers(scenario, options.target.api));
        exact(windows, receivers, loss);
    } else {
        by_numbers(windows, loss);
    }
    loss.share = if loss.expected == 0 { 0.0 } else { loss.lost as f64 / loss.expected as f64 };
}

/// All that was sent, to all who should get it, against what each got.
fn exact(windows: &[Window], receivers: u64, loss: &mut Loss) {
    let mut got: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for of in windows.iter().flat_map(|window| &window.received) {
        got.entry(of.stream).or_default().extend(&of.packets);
    }
    for stream in windows.iter().flat_map(|window| &window.sent) {
        let each = got.remove(&stream.stream).unwrap_or_default();
        let missing = receivers.saturating_sub(each.len() as u64);
        let lost: u64 = each.iter().map(|got| stream.packets.saturating_sub(*got)).sum();
        loss.expected += stream.packets * receivers;
        loss.received += each.iter().map(|got| (*got).min(stream.packets)).sum::<u64>();
        loss.lost += lost + missing * stream.packets;
        let with_loss = each.iter().filter(|got| **got < stream.packets).count() as u64;
        loss.streams_with_loss += with_loss + if stream.packets > 0 { missing } else { 0 };
    }
}

/// What the packets' numbers say.
fn by_numbers(windows: &[Window], loss: &mut Loss) {
    for window in windows {
        let whole: u64 = window.received.iter().flat_map(|of| &of.packets).sum();
        loss.received += whole + window.partial_received;
    }
    loss.expected = loss.received + loss.gaps;
    loss.lost = loss.gaps;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::{ReceivedStreams, SentStream};

    fn window(sent: &[(u32, u64)], received: &[(u32, &[u64])]) -> Window {
        Window {
            sent: sent
                .iter()
                .map(|&(stream, packets)| SentStream { stream, packets, ..SentStream::default() })
                .collect(),
            received: received
                .iter()
                .map(|&(stream, packets)| ReceivedStreams { stream, packets: packets.to_vec() })
                .collect(),
            ..Window::default()
        }
    }

    #[test]
    fn a_mean_run_is_of_media_alone() {
        let counters = |datagrams: f64, runs: f64, packets: f64| {
            BTreeMap::from([
                ("sluice_shard_datagrams_out_total".to_owned(), datagrams),
                ("sluice_shard_runs_out_total".to_owned(), runs),
                ("sluice_shard_rtp_packets_out_total".to_owned(), packets),
            ])
        };
        assert_eq!(run_length(&counters(110.0, 60.0, 100.0)), Some(2.0));
        assert_eq!(run_length(&counters(10.0, 10.0, 0.0)), None, "no media");
        assert_eq!(run_length(&BTreeMap::new()), None, "another server");
    }

    #[test]
    fn loss_is_told_by_subscription_over_all_workers() {
        let windows = [
            window(&[(0, 100), (4, 50)], &[(0, &[100, 97])]),
            window(&[], &[(0, &[100]), (4, &[50, 50, 51])]),
        ];
        let mut loss = Loss::default();
        exact(&windows, 3, &mut loss);
        assert_eq!((loss.expected, loss.received, loss.lost), (450, 447, 3));
        assert_eq!(loss.streams_with_loss, 1);
    }

    #[test]
    fn a_receiver_that_got_nothing_of_a_stream_lost_all_of_it() {
        let mut loss = Loss::default();
        exact(&[window(&[(0, 100)], &[(0, &[100])])], 2, &mut loss);
        assert_eq!(
            (loss.expected, loss.received, loss.lost, loss.streams_with_loss),
            (200, 100, 100, 1)
        );
    }

    #[test]
    fn with_people_who_come_and_go_the_numbers_count() {
        let mut loss = Loss { gaps: 5, ..Loss::default() };
        let mut one = window(&[(0, 1_000)], &[(0, &[90])]);
        one.partial_received = 10;
        by_numbers(&[one], &mut loss);
        assert_eq!((loss.expected, loss.received, loss.lost), (105, 100, 5));
    }
}
