//! The two measurements: join, warm up, measure, drain, leave.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_engine::clock;

use crate::client::http::Api;
use crate::client::media::Video;
use crate::client::sdp::Direction;
use crate::fanout_args::{Fanout, Idle, Server};
use crate::fleet::Fleet;
use crate::probe::{self, CpuSample, LossSample};
use crate::stats::Latencies;
use crate::stop;
use crate::verdict::{Observed, Verdict, judge};

/// Silence after which no packet is under way any more.
const SILENCE: Duration = Duration::from_millis(300);
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long a turn may sleep, so that Ctrl-C is seen.
const NAP: Duration = Duration::from_millis(100);

/// A fleet that has joined, and what was seen on the way.
struct Crowd {
    fleet: Fleet,
    joins: Latencies,
    join_s: f64,
    resident_before: u64,
    resident_joined: u64,
    receivers: usize,
}

/// Measures a fan-out; the result is JSON that [`mod@crate::report`] reads.
///
/// # Errors
/// The scenario makes no sense, the server refused somebody or went away, or there are no sockets.
pub fn fanout(scenario: &Fanout) -> Result<Value, String> {
    let plan = scenario.video()?;
    let server = &scenario.server;
    let api = Api::new(server.address()?, server.token.clone());
    let load_before = probe::load_average();
    let mut crowd = join(&api, server, usize::from(scenario.receivers), scenario.verify)?;
    let fleet = &mut crowd.fleet;
    let media_port = fleet.server().map(|address| address.port());

    let ssrc = fleet.publisher_ssrc();
    fleet.video = Some(Video::new(plan, ssrc, fleet.wants_transport_cc(), clock::now()));
    eprintln!("warming up for {} s", scenario.warmup);
    fleet.is_publishing = true;
    run_for(fleet, Duration::from_secs(scenario.warmup.into()));
    pause(fleet);

    let loss_before = LossSample::take(&api, fleet.ports(), media_port)?;
    let each_before = fleet.received_each();
    let (packets_before, bytes_before) = fleet.received();
    let (sent_before, late_before) = fleet.video.as_ref().map_or((0, 0), |v| (v.sent(), v.late));
    eprintln!("measuring for {} s", scenario.seconds);
    let cpu_before = CpuSample::take(server.pid)?;
    let start = clock::now();
    if let Some(video) = &mut fleet.video {
        video.resume(start);
    }
    fleet.is_publishing = true;
    fleet.is_measuring = true;
    run_for(fleet, Duration::from_secs(scenario.seconds.into()));
    let elapsed_s = clock::now().since(start).as_secs_f64().max(0.001);
    let cpu = CpuSample::take(server.pid)?.since(&cpu_before);
    let (packets_window, bytes_window) = fleet.received();
    let (packets_window, bytes_window) =
        (packets_window - packets_before, bytes_window - bytes_before);
    pause(fleet);
    fleet.is_measuring = false;

    let loss_after = LossSample::take(&api, fleet.ports(), media_port)?;
    let resident_end = probe::resident_bytes(server.pid)?;
    let (sent, late) = fleet.video.as_ref().map_or((0, 0), |v| (v.sent(), v.late));
    let (sent, late) = (sent - sent_before, late - late_before);
    let each: Vec<u64> =
        fleet.received_each().iter().zip(&each_before).map(|(now, then)| now - then).collect();
    let received: u64 = each.iter().sum();
    let expected = sent * each.len() as u64;
    let lost: u64 = each.iter().map(|&got| sent.saturating_sub(got)).sum();
    let generator_drops =
        loss_after.generator_sockets.saturating_sub(loss_before.generator_sockets);
    let server_drops = loss_after.server_sockets.saturating_sub(loss_before.server_sockets);

    let server_waited = cpu.threads.values().map(|thread| thread.waited_s).fold(0.0, f64::max);
    let observed = Observed {
        generator_cores: cpu.generator.total_s() / elapsed_s,
        generator_waited: cpu.generator_waited_s / elapsed_s,
        server_waited: server_waited / elapsed_s,
        generator_drops,
        packets: packets_window,
        sent,
        late,
        closed: fleet.closed(),
        damaged: fleet.checked.damaged,
    };
    let Verdict { is_valid, is_disturbed, problems } = judge(&observed);

    let server_s = cpu.server_s();
    let per_packet = |seconds: f64| is_valid.then(|| seconds * 1e6 / packets_window as f64);
    let checked = &mut fleet.checked;
    let result = json!({
        "bench": "fanout",
        "label": server.label,
        "partial": stop::is_stopped(),
        "valid": is_valid,
        "disturbed": is_disturbed,
        "problems": problems,
        "scenario": {
            "receivers": scenario.receivers, "rate_bps": scenario.rate_bps,
            "frame_rate": scenario.frame_rate, "packets_per_frame": plan.packets,
            "packet_bytes_max": scenario.packet_bytes, "spread_ms": scenario.spread_ms,
            "seconds": scenario.seconds, "warmup": scenario.warmup, "verify": scenario.verify,
            "seed": server.seed,
        },
        "machine": machine(&cpu, &load_before),
        "elapsed_s": elapsed_s,
        "server": {
            "version": loss_after.build("version"),
            "backend": loss_after.build("backend"),
            "cores": server_s / elapsed_s,
            "waited_share": observed.server_waited,
            "user_s": cpu.server.user_s,
            "system_s": cpu.server.system_s,
            "us_per_packet": per_packet(server_s),
            "user_us_per_packet": per_packet(cpu.server.user_s),
            "system_us_per_packet": per_packet(cpu.server.system_s),
            "threads": threads(&cpu),
            "resident": resident(crowd.resident_before, crowd.resident_joined, resident_end,
                crowd.receivers + 1),
            "rtp_packets_out": loss_after.grown(&loss_before, "sluice_shard_rtp_packets_out_total"),
            "runs_out": loss_after.grown(&loss_before, "sluice_shard_runs_out_total"),
            "datagrams_out": loss_after.grown(&loss_before, "sluice_shard_datagrams_out_total"),
            "turns": loss_after.grown(&loss_before, "sluice_shard_turns_total"),
        },
        "generator": {
            "cores": observed.generator_cores, "waited_share": observed.generator_waited,
            "sent": sent, "late": late,
        },
        "packets": {
            "window": packets_window,
            "per_second": packets_window as f64 / elapsed_s,
            "bits_per_second": bytes_window as f64 * 8.0 / elapsed_s,
            "expected": expected, "received": received,
        },
        "lost": {
            "total": lost,
            "share": if expected == 0 { 0.0 } else { lost as f64 / expected as f64 },
            "receivers_with_loss": each.iter().filter(|&&got| got < sent).count(),
            "generator_sockets": generator_drops,
            "server_sockets": server_drops,
            "server_drops": loss_after.drops_since(&loss_before),
        },
        "latency_us": {
            "samples": checked.latencies.len(),
            "left_out": checked.latencies.left_out,
            "damaged": checked.damaged,
            "p50": checked.latencies.quantile_us(500),
            "p99": checked.latencies.quantile_us(990),
            "max": checked.latencies.quantile_us(1_000),
        },
        "join": join_times(&mut crowd.joins, crowd.join_s),
    });
    leave(&mut crowd.fleet);
    Ok(result)
}

/// Measures sessions without media; the result is JSON that [`mod@crate::report`] reads.
///
/// # Errors
/// As [`fanout`].
pub fn idle(scenario: &Idle) -> Result<Value, String> {
    let server = &scenario.server;
    let api = Api::new(server.address()?, server.token.clone());
    let load_before = probe::load_average();

    // What the server spends on nobody, to be taken off.
    let window = Duration::from_secs(scenario.seconds.into());
    eprintln!("measuring the empty server for {} s", scenario.seconds);
    let mut nobody = Fleet::new(api.clone(), &server.call, 0, 0.0, 0)?;
    let (empty, empty_s) = measure(&mut nobody, server.pid, window)?;
    drop(nobody);

    let mut crowd = join(&api, server, usize::from(scenario.sessions), 0.0)?;
    eprintln!("measuring for {} s", scenario.seconds);
    let (cpu, elapsed_s) = measure(&mut crowd.fleet, server.pid, window)?;
    let resident_end = probe::resident_bytes(server.pid)?;

    let sessions = crowd.receivers + 1;
    let spent = cpu.server_s() / elapsed_s - empty.server_s() / empty_s;
    let closed = crowd.fleet.closed();
    let mut problems = Vec::new();
    if closed > 0 {
        problems.push(format!("{closed} sessions ended during the run"));
    }
    let loss = LossSample::take(&api, &[], None)?;
    let result = json!({
        "bench": "idle",
        "label": server.label,
        "partial": stop::is_stopped(),
        "valid": closed == 0,
        "problems": problems,
        "scenario": {
            "sessions": sessions, "seconds": scenario.seconds, "seed": server.seed,
        },
        "machine": machine(&cpu, &load_before),
        "elapsed_s": elapsed_s,
        "server": {
            "version": loss.build("version"),
            "backend": loss.build("backend"),
            "cores": cpu.server_s() / elapsed_s,
            "cores_empty": empty.server_s() / empty_s,
            "us_per_session_second": spent * 1e6 / sessions as f64,
            "threads": threads(&cpu),
            "resident": resident(crowd.resident_before, crowd.resident_joined, resident_end,
                sessions),
        },
        "generator": { "cores": cpu.generator.total_s() / elapsed_s },
        "join": join_times(&mut crowd.joins, crowd.join_s),
    });
    leave(&mut crowd.fleet);
    Ok(result)
}

/// Joins a publisher and then the receivers, one after another.
fn join(api: &Api, server: &Server, receivers: usize, verify: f64) -> Result<Crowd, String> {
    // Every shard has answered: what they make at start is there.
    LossSample::take(api, &[], None)?;
    let resident_before = probe::resident_bytes(server.pid)?;
    let mut fleet = Fleet::new(api.clone(), &server.call, receivers + 1, verify, server.seed)?;
    let start = clock::now();
    fleet.join(Direction::Publish)?;
    let mut joins = Latencies::default();
    for at in 0..receivers {
        if stop::is_stopped() {
            break;
        }
        match fleet.join(Direction::Play) {
            Ok(took) => joins.add(took),
            Err(error) => {
                leave(&mut fleet);
                return Err(error);
            }
        }
        if (at + 1) % 100 == 0 || at + 1 == receivers {
            eprintln!("joined {} of {receivers}", at + 1);
        }
    }
    let join_s = clock::now().since(start).as_secs_f64();
    // What a handshake leaves behind is freed a little later.
    run_for(&mut fleet, Duration::from_secs(1));
    let resident_joined = probe::resident_bytes(server.pid)?;
    let receivers = joins.len();
    Ok(Crowd { fleet, joins, join_s, resident_before, resident_joined, receivers })
}

/// Turns until `time` has passed or Ctrl-C was pressed.
fn run_for(fleet: &mut Fleet, time: Duration) {
    let end = clock::now() + time;
    loop {
        let now = clock::now();
        if now >= end || stop::is_stopped() {
            return;
        }
        fleet.turn(end.min(now + NAP));
    }
}

/// Stops the video and waits until what is under way has arrived.
fn pause(fleet: &mut Fleet) {
    fleet.is_publishing = false;
    let start = clock::now();
    loop {
        let now = clock::now();
        let silent = now.since(fleet.last_media().max(start)) >= SILENCE;
        if silent || now.since(start) >= DRAIN_MAX {
            return;
        }
        fleet.turn(now + NAP);
    }
}

fn measure(fleet: &mut Fleet, pid: u32, window: Duration) -> Result<(CpuSample, f64), String> {
    let before = CpuSample::take(pid)?;
    let start = clock::now();
    run_for(fleet, window);
    let elapsed_s = clock::now().since(start).as_secs_f64().max(0.001);
    Ok((CpuSample::take(pid)?.since(&before), elapsed_s))
}

fn leave(fleet: &mut Fleet) {
    let left = fleet.leave();
    if left > 0 {
        eprintln!("{left} sessions could not be ended");
    }
}

fn machine(cpu: &CpuSample, load_before: &str) -> Value {
    let (kernel, model) = probe::machine();
    let cores = cpu.cores.iter().map(|core| {
        json!({
            "user_s": core.user_s, "system_s": core.system_s, "softirq_s": core.softirq_s,
            "stolen_s": core.stolen_s, "idle_s": core.idle_s,
        })
    });
    json!({
        "kernel": kernel, "cpu": model, "cores": cores.collect::<Vec<_>>(),
        "softirq_s": cpu.cores.iter().map(|core| core.softirq_s).sum::<f64>(),
        "load_average_before": load_before, "load_average_after": probe::load_average(),
    })
}

/// Threads that used any time at all.
fn threads(cpu: &CpuSample) -> Value {
    let busy = cpu.threads.values().filter(|thread| thread.cpu.total_s() > 0.0);
    let threads = busy.map(|thread| {
        json!({
            "name": thread.name, "ran_s": thread.ran_s, "user_s": thread.cpu.user_s,
            "system_s": thread.cpu.system_s, "waited_s": thread.waited_s,
        })
    });
    threads.collect()
}

fn resident(before: u64, joined: u64, end: u64, sessions: usize) -> Value {
    let per_session = |after: u64| after.saturating_sub(before) as f64 / sessions as f64;
    json!({
        "before_bytes": before, "joined_bytes": joined, "end_bytes": end,
        "joined_bytes_per_session": per_session(joined),
        "end_bytes_per_session": per_session(end),
    })
}

fn join_times(joins: &mut Latencies, total_s: f64) -> Value {
    json!({
        "count": joins.len(), "total_s": total_s, "p50_us": joins.quantile_us(500),
        "p99_us": joins.quantile_us(990), "max_us": joins.quantile_us(1_000),
    })
}
