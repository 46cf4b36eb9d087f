//! Made-up results, for tests of reports only.

use std::collections::BTreeMap;

use crate::result::*;
use crate::scenario::{Published, Scenario};

const MIB: u64 = 1 << 20;

fn scenario(name: &str) -> Scenario {
    let text = format!(
        "name = {name:?}\nabout = \"Sample data.\"\n\
        [calls]\ncalls = 2\nparticipants = 10\nunmuted = 20\n"
    );
    toml::from_str(&text).unwrap()
}

/// A whole and valid run whose figures all differ.
pub fn run(scenario: &str, label: &str) -> RunResult {
    let scenario = self::scenario(scenario);
    RunResult {
        format: FORMAT,
        label: label.to_owned(),
        target: "sluice".to_owned(),
        server_version: "sluice 0.1.0 uring".to_owned(),
        command: format!("sluice-bench run --scenario {} --label {label}", scenario.name),
        began: "2026-01-02T03:04:05Z".to_owned(),
        valid: true,
        complete: true,
        scenario: Some(scenario),
        seed: 1,
        verify: 0.01,
        machine: machine(),
        elapsed_s: 10.0,
        server: server(),
        generator: generator(),
        traffic: Traffic {
            packets_in: 20_000,
            bytes_in: 20_000_000,
            packets_out: 180_000,
            bytes_out: 180_000_000,
            late: 12,
            verified: 1_800,
            damaged: 0,
        },
        loss: loss(),
        kernel: Some(kernel()),
        latency_us: distribution(482.0, 1_199.0, 2_400.0, 4_195.0),
        jitter_us: distribution(110.0, 410.0, 700.0, 900.0),
        clock_error_us: distribution(5.0, 20.0, 50.0, 70.0),
        join_us: distribution(720.0, 1_900.0, 3_000.0, 3_290.0),
        join_all_s: 1.25,
        first_frame_us: distribution(31_000.0, 64_000.0, 66_000.0, 67_000.0),
        frames: Frames { complete: 5_400, incomplete: 3, freezes: 1, frozen_s: 0.4 },
        series: series(),
        floor: Some(FloorMix {
            points: floor().points,
            shares: vec![1.0],
            us_per_packet_out: 2.0,
            multiple: Some(2.78),
        }),
        path_floor: Some(PathFloor {
            best: paced(None, 6.0, 3.0),
            alike: Some(paced(Some(2.5), 2.5, 4.0)),
            multiple: Some(1.85),
            multiple_alike: Some(1.39),
        }),
        idle: Some(IdleUse {
            elapsed_s: 5.0,
            sessions: 20,
            cores: 0.0005,
            us_per_session_second: 25.0,
        }),
        ..RunResult::default()
    }
}

/// What the table of somebody else says.
pub fn published(cpu_percent: f64, vcpus: u32) -> Published {
    Published {
        source: "sample".to_owned(),
        instance: "c7i.xlarge".to_owned(),
        vcpus,
        cpu_percent,
        memory_gb: 1.46,
        in_mbps: 1.0,
        out_mbps: 194.0,
    }
}

/// A floor of one point; another device could not be made.
pub fn floor() -> FloorResult {
    FloorResult {
        format: FORMAT,
        command: "sluice-bench floor".to_owned(),
        began: "2026-01-02T03:04:05Z".to_owned(),
        machine: machine(),
        points: vec![FloorPoint {
            device: "loopback".to_owned(),
            payload_bytes: 1_042,
            run: 1,
            peers: 200,
            ns_per_packet: 2_000.0,
            ns_least: 1_900.0,
            ns_most: 2_300.0,
            ns_sealing: 310.0,
        }],
        paced: vec![paced(None, 6.0, 3.0)],
        missing: vec!["veth: not permitted".to_owned()],
    }
}

fn paced(run_of: Option<f64>, run_length: f64, us: f64) -> PacedFloor {
    let Scenario { name, calls, audio, screen, .. } = scenario("smoke");
    PacedFloor {
        scenario: name,
        calls,
        audio,
        screen,
        run_of,
        run_length,
        packets_per_s: 18_000.0,
        cores: 18_000.0 * us / 1e6,
        us_per_packet_out: us,
        us_least: us - 0.5,
        us_most: us + 0.5,
    }
}

fn machine() -> Machine {
    let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    Machine {
        cpu: "AMD EPYC".to_owned(),
        cpus: 2,
        memory_bytes: 24 << 30,
        kernel: "6.18.44".to_owned(),
        distribution: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        virtualization: "kvm".to_owned(),
        nic: "lo, no driver".to_owned(),
        offloads: pair("tx-udp-segmentation", "on"),
        sysctls: pair("net.core.rmem_max", "212992"),
        load_before: "0.10 0.20 0.30".to_owned(),
        load_after: "0.40 0.20 0.30".to_owned(),
        bench_version: "0.1.0".to_owned(),
    }
}

fn server() -> ServerUse {
    ServerUse {
        cores: 0.1,
        user_s: 0.3,
        system_s: 0.7,
        waited_share: 0.002,
        us_per_packet_out: Some(5.56),
        us_per_packet: Some(5.0),
        cores_per_gbps: Some(0.694),
        run_length_out: Some(2.5),
        threads: vec![ThreadUse {
            name: "shard-0".to_owned(),
            ran_s: 0.9,
            user_s: 0.25,
            system_s: 0.65,
            waited_s: 0.02,
        }],
        resident_before_bytes: 27 * MIB,
        resident_joined_bytes: 35 * MIB,
        resident_end_bytes: 37 * MIB,
        resident_per_session_bytes: 42.0 * 1_024.0,
        counters: BTreeMap::from([("sluice_packets_out".to_owned(), 180_000.0)]),
    }
}

fn generator() -> GeneratorUse {
    let core = |user, system| CoreUse {
        user,
        system,
        softirq: 0.02,
        stolen: 0.01,
        idle: 1.0 - user - system - 0.03,
    };
    GeneratorUse {
        cores: 0.12,
        busiest: 0.11,
        waited_share: 0.001,
        workers: 1,
        machine_cores: vec![core(0.04, 0.1), core(0.12, 0.08)],
    }
}

fn loss() -> Loss {
    Loss {
        expected: 180_000,
        received: 179_991,
        lost: 9,
        share: 0.000_05,
        streams_with_loss: 6,
        generator_sockets: 1,
        server_sockets: 4,
        server_drops: BTreeMap::from([("unknown_source".to_owned(), 4.0)]),
        relay: 2,
        upstream: 3,
        gaps: 8,
        late: 7,
        sessions_closed: 5,
    }
}

fn kernel() -> KernelCounters {
    let before = UdpCounters {
        in_errors: 100,
        rcvbuf_errors: 90,
        sndbuf_errors: 7,
        mem_errors: 3,
        backlog_dropped: 40,
    };
    let after = UdpCounters { in_errors: 111, rcvbuf_errors: 95, mem_errors: 9, ..before };
    KernelCounters { before, after, is_shared: true }
}

/// 10,000 values between a fifth of the median and the greatest.
fn distribution(p50: f64, p99: f64, p999: f64, max: f64) -> Distribution {
    let buckets = [
        (p50 * 0.2, 200),
        (p50 * 0.5, 1_300),
        (p50 * 0.8, 2_000),
        (p50, 1_500),
        (f64::midpoint(p50, p99) * 0.8, 3_500),
        (p99 * 0.9, 1_200),
        (p99, 200),
        (p999, 90),
        (max, 10),
    ];
    Distribution { count: 10_000, mean: p50 * 1.1, p50, p99, p999, max, buckets: buckets.to_vec() }
}

fn series() -> Vec<Tick> {
    let tick = |at: u32| {
        let phase = match at {
            0..3 => Phase::Joining,
            3..6 => Phase::WarmingUp,
            6..16 => Phase::Measuring,
            _ => Phase::Leaving,
        };
        let media = if (3..16).contains(&at) { 1.0 + f64::from(at % 3) / 50.0 } else { 0.0 };
        Tick {
            at_s: f64::from(at) + 1.0,
            phase,
            participants: (at * 7).min(20),
            server_cores: 0.01 + 0.09 * media,
            packets_in_per_s: 2_000.0 * media,
            packets_out_per_s: 18_000.0 * media,
            loss: 0.0,
            resident_bytes: 35 * MIB,
        }
    };
    (0..18).map(tick).collect()
}
