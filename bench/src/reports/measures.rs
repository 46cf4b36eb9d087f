//! What a run measured, line by line.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Table;
use super::group::Group;
use crate::result::{CoreUse, Distribution, RunResult, UdpCounters};

/// A line of the table: what it says with its unit, its decimals, and the value, absent when nothing of the kind was measured.
pub struct Measure {
    pub name: &'static str,
    pub decimals: usize,
    pub value: fn(&RunResult) -> Option<f64>,
}

/// Share of a core's time.
type Part = fn(&CoreUse) -> f64;

/// One of the kernel's counters.
type Counter = fn(&UdpCounters) -> u64;

const MIB: f64 = (1 << 20) as f64;
const KIB: f64 = 1_024.0;

/// All measures, the load first, then what it cost, what it lost, how long it took.
pub const MEASURES: &[Measure] = &[
    measure("calls", 0, |run| Some(run.scenario.as_ref()?.calls.calls.into())),
    measure("participants", 0, |run| Some(run.scenario.as_ref()?.calls.people().into())),
    measure("measured, s", 1, |run| Some(run.elapsed_s)),
    measure("packets in, per second", 0, |run| per_second(run, run.traffic.packets_in)),
    measure("packets out, per second", 0, packets_out_per_second),
    measure("in, Mbit/s of UDP payload", 2, |run| mbps(run, run.traffic.bytes_in)),
    measure("out, Mbit/s of UDP payload", 2, |run| mbps(run, run.traffic.bytes_out)),
    measure("server CPU, cores", 3, |run| Some(run.server.cores)),
    measure("of it user, cores", 3, |run| share_of_time(run, run.server.user_s)),
    measure("of it system, cores", 3, |run| share_of_time(run, run.server.system_s)),
    measure("server CPU, µs per packet out", 2, |run| run.server.us_per_packet_out),
    measure("server CPU, µs per packet in or out", 2, |run| run.server.us_per_packet),
    measure("server CPU, cores per Gbit/s out", 3, |run| run.server.cores_per_gbps),
    measure("packets of a mean run out", 2, run_length_out),
    measure("floor, µs per packet out", 2, floor_us),
    measure("server CPU, multiple of the floor", 2, |run| run.floor.as_ref()?.multiple),
    measure("floor on this path, µs per packet out", 2, |run| {
        Some(run.path_floor.as_ref()?.best.us_per_packet_out)
    }),
    measure("packets of a mean run there", 2, |run| Some(run.path_floor.as_ref()?.best.run_length)),
    measure("server CPU, multiple of the floor on this path", 2, path_multiple),
    measure("floor on this path with the server's runs, µs per packet out", 2, |run| {
        Some(run.path_floor.as_ref()?.alike.as_ref()?.us_per_packet_out)
    }),
    measure("server CPU, multiple of the floor on this path with its runs", 2, path_multiple_alike),
    measure("idle, µs per session and second", 2, |run| Some(run.idle?.us_per_session_second)),
    measure("server waiting for a core, %", 1, |run| Some(run.server.waited_share * 1e2)),
    measure("whole machine busy, cores", 3, |run| machine_cores(run, |core| 1.0 - core.idle)),
    measure("of it softirq, cores", 3, |run| machine_cores(run, |core| core.softirq)),
    measure("of it stolen, cores", 3, |run| machine_cores(run, |core| core.stolen)),
    measure("generator CPU, cores", 3, |run| Some(run.generator.cores)),
    measure("busiest generator thread, cores", 3, |run| Some(run.generator.busiest)),
    measure("generator waiting for a core, %", 1, |run| Some(run.generator.waited_share * 1e2)),
    measure("generator workers", 0, |run| Some(run.generator.workers.into())),
    measure("lost, % of expected", 4, lost_percent),
    measure("lost, packets", 0, |run| count(run.loss.lost)),
    measure("dropped by the server's sockets", 0, |run| count(run.loss.server_sockets)),
    measure("dropped by the generator's sockets", 0, |run| count(run.loss.generator_sockets)),
    measure("RcvbufErrors in the server's namespace", 0, |run| kernel(run, |of| of.rcvbuf_errors)),
    measure("SndbufErrors there", 0, |run| kernel(run, |of| of.sndbuf_errors)),
    measure("dropped by the backlogs of all cores", 0, |run| kernel(run, |of| of.backlog_dropped)),
    measure("dropped by the impairment relay", 0, |run| count(run.loss.relay)),
    measure("publishers' packets the server missed", 0, |run| count(run.loss.upstream)),
    measure("gaps receivers saw", 0, |run| count(run.loss.gaps)),
    measure("packets behind later ones", 0, |run| count(run.loss.late)),
    measure("streams with loss", 0, |run| count(run.loss.streams_with_loss)),
    measure("sessions that ended by themselves", 0, |run| count(run.loss.sessions_closed)),
    measure("latency p50, µs", 0, |run| Some(any(&run.latency_us)?.p50)),
    measure("latency p99, µs", 0, |run| Some(any(&run.latency_us)?.p99)),
    measure("latency p99.9, µs", 0, |run| Some(any(&run.latency_us)?.p999)),
    measure("latency max, µs", 0, |run| Some(any(&run.latency_us)?.max)),
    measure("clock error p99, µs", 0, |run| Some(any(&run.clock_error_us)?.p99)),
    measure("clock error max, µs", 0, |run| Some(any(&run.clock_error_us)?.max)),
    measure("jitter p50, µs", 0, |run| Some(any(&run.jitter_us)?.p50)),
    measure("jitter p99, µs", 0, |run| Some(any(&run.jitter_us)?.p99)),
    measure("jitter max, µs", 0, |run| Some(any(&run.jitter_us)?.max)),
    measure("time to join p50, ms", 2, |run| Some(any(&run.join_us)?.p50 / 1e3)),
    measure("time to join p99, ms", 2, |run| Some(any(&run.join_us)?.p99 / 1e3)),
    measure("time to join max, ms", 2, |run| Some(any(&run.join_us)?.max / 1e3)),
    measure("until all had joined, s", 2, |run| Some(run.join_all_s)),
    measure("time to first frame p50, ms", 2, |run| Some(any(&run.first_frame_us)?.p50 / 1e3)),
    measure("time to first frame p99, ms", 2, |run| Some(any(&run.first_frame_us)?.p99 / 1e3)),
    measure("time to first frame max, ms", 2, |run| Some(any(&run.first_frame_us)?.max / 1e3)),
    measure("complete frames", 0, |run| count(run.frames.complete)),
    measure("incomplete frames", 0, |run| count(run.frames.incomplete)),
    measure("times frozen", 0, |run| count(run.frames.freezes)),
    measure("frozen, s of all receivers", 2, |run| Some(run.frames.frozen_s)),
    measure("resident before clients, MiB", 1, |run| mib(run.server.resident_before_bytes)),
    measure("resident after the joins, MiB", 1, |run| mib(run.server.resident_joined_bytes)),
    measure("resident at the end, MiB", 1, |run| mib(run.server.resident_end_bytes)),
    measure("resident per session, KiB", 1, |run| {
        Some(run.server.resident_per_session_bytes / KIB)
    }),
    measure("packets sent late", 0, |run| count(run.traffic.late)),
    measure("packets verified", 0, |run| count(run.traffic.verified)),
    measure("of them damaged", 0, |run| count(run.traffic.damaged)),
];

const fn measure(
    name: &'static str,
    decimals: usize,
    value: fn(&RunResult) -> Option<f64>,
) -> Measure {
    Measure { name, decimals, value }
}

/// Packets that arrived at clients, by the second of the measurement; absent when there was none.
pub fn packets_out_per_second(run: &RunResult) -> Option<f64> {
    per_second(run, run.traffic.packets_out)
}

pub fn floor_us(run: &RunResult) -> Option<f64> {
    Some(run.floor.as_ref()?.us_per_packet_out)
}

/// Absent where the server does not count runs.
pub fn run_length_out(run: &RunResult) -> Option<f64> {
    run.server.run_length_out
}

/// Against runs as long as frames allow.
pub fn path_multiple(run: &RunResult) -> Option<f64> {
    run.path_floor.as_ref()?.multiple
}

/// Against runs as long as the server's own.
pub fn path_multiple_alike(run: &RunResult) -> Option<f64> {
    run.path_floor.as_ref()?.multiple_alike
}

/// Absent when nothing was to arrive.
pub fn lost_percent(run: &RunResult) -> Option<f64> {
    (run.loss.expected > 0).then_some(run.loss.share * 1e2)
}

/// A distribution that holds anything.
pub fn any(distribution: &Distribution) -> Option<&Distribution> {
    (distribution.count > 0).then_some(distribution)
}

pub fn mib(bytes: u64) -> Option<f64> {
    Some(bytes as f64 / MIB)
}

fn count(value: u64) -> Option<f64> {
    Some(value as f64)
}

/// By how much a counter of the kernel grew.
fn kernel(run: &RunResult, of: Counter) -> Option<f64> {
    count(run.kernel?.grown(of))
}

fn per_second(run: &RunResult, value: u64) -> Option<f64> {
    share_of_time(run, value as f64)
}

fn mbps(run: &RunResult, bytes: u64) -> Option<f64> {
    Some(per_second(run, bytes)? * 8.0 / 1e6)
}

fn share_of_time(run: &RunResult, value: f64) -> Option<f64> {
    (run.elapsed_s > 0.0).then(|| value / run.elapsed_s)
}

fn machine_cores(run: &RunResult, part: Part) -> Option<f64> {
    let cores = &run.generator.machine_cores;
    (!cores.is_empty()).then(|| cores.iter().map(part).sum())
}

/// All measures of a scenario, a column for each group. What no group has is left out.
pub fn table(groups: &[Group<'_>]) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for measure in MEASURES {
        push(&mut rows, groups, measure.name, measure.decimals, measure.value);
    }
    for reason in names(groups, |run| &run.loss.server_drops) {
        let name = format!("dropped by the server: {reason}");
        push(&mut rows, groups, &name, 0, |run| run.loss.server_drops.get(&reason).copied());
    }
    Table { head: head(groups), rows, text_columns: 1, grave: grave(groups) }
}

/// The server's threads: cores each used. Threads of one name are put together. `None` when none is known.
pub fn threads(groups: &[Group<'_>]) -> Option<Table> {
    let runs = groups.iter().flat_map(|group| &group.valid);
    let names: BTreeSet<&str> =
        runs.flat_map(|run| &run.server.threads).map(|thread| thread.name.as_str()).collect();
    let rows = names.into_iter().map(|name| {
        let cores = |run: &RunResult| {
            let threads = run.server.threads.iter().filter(|thread| thread.name == name);
            let ran: Vec<f64> = threads.map(|thread| thread.ran_s).collect();
            (!ran.is_empty()).then(|| share_of_time(run, ran.iter().sum()))?
        };
        let cells = groups.iter().map(|group| group.cell(3, cores));
        std::iter::once(name.to_owned()).chain(cells).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut head = head(groups);
    head[0] = "thread of the server, cores".to_owned();
    (!rows.is_empty()).then_some(Table { head, rows, text_columns: 1, grave: grave(groups) })
}

/// The server's counters that grew. `None` when none is known.
pub fn counters(groups: &[Group<'_>]) -> Option<Table> {
    let mut rows = Vec::new();
    for name in names(groups, |run| &run.server.counters) {
        push(&mut rows, groups, &name, 0, |run| run.server.counters.get(&name).copied());
    }
    let mut head = head(groups);
    head[0] = "counter of the server".to_owned();
    (!rows.is_empty()).then_some(Table { head, rows, text_columns: 1, grave: grave(groups) })
}

/// The kernel's counters before and after each valid run, and by whom the difference was dropped. `None` when none is known.
pub fn kernel_counters(groups: &[Group<'_>]) -> Option<Table> {
    let counters: [(&str, Counter); 5] = [
        ("RcvbufErrors", |of| of.rcvbuf_errors),
        ("SndbufErrors", |of| of.sndbuf_errors),
        ("InErrors", |of| of.in_errors),
        ("MemErrors", |of| of.mem_errors),
        ("backlogs", |of| of.backlog_dropped),
    ];
    let mut rows = Vec::new();
    for group in groups {
        for (at, run) in group.valid.iter().enumerate() {
            let Some(kernel) = &run.kernel else { continue };
            let cells = counters.map(|(_, of)| {
                let (before, after) = (of(&kernel.before), of(&kernel.after));
                if before == after { before.to_string() } else { format!("{before} to {after}") }
            });
            let generator = match kernel.is_shared {
                true => run.loss.generator_sockets.to_string(),
                false => "counted elsewhere".to_owned(),
            };
            let sockets = [run.loss.server_sockets.to_string(), generator];
            let names = [group.label.clone(), (at + 1).to_string()];
            rows.push(names.into_iter().chain(cells).chain(sockets).collect());
        }
    }
    let names = counters.map(|(name, _)| name);
    let head = ["server", "run"].into_iter().chain(names);
    let head = head.chain(["of them the server's sockets", "the generator's sockets"]);
    let head = head.map(str::to_owned).collect();
    (!rows.is_empty()).then_some(Table { head, rows, text_columns: 1, grave: Vec::new() })
}

/// How the machine's cores spent their time, per cent: median over the runs, a line for each core. `None` when not known.
pub fn cores(groups: &[Group<'_>]) -> Option<Table> {
    let parts: [(&str, Part); 5] = [
        ("user, %", |core| core.user),
        ("system, %", |core| core.system),
        ("softirq, %", |core| core.softirq),
        ("stolen, %", |core| core.stolen),
        ("idle, %", |core| core.idle),
    ];
    let mut rows = Vec::new();
    for group in groups {
        let count = group.valid.iter().map(|run| run.generator.machine_cores.len()).max();
        for at in 0..count.unwrap_or(0) {
            let cell = |part: Part| {
                group.cell(1, |run| Some(part(run.generator.machine_cores.get(at)?) * 1e2))
            };
            let cells = parts.iter().map(|(_, part)| cell(*part));
            rows.push([group.label.clone(), at.to_string()].into_iter().chain(cells).collect());
        }
    }
    let names = parts.iter().map(|(name, _)| *name);
    let head = ["server", "core"].into_iter().chain(names).map(str::to_owned).collect();
    (!rows.is_empty()).then_some(Table { head, rows, text_columns: 1, grave: Vec::new() })
}

fn head(groups: &[Group<'_>]) -> Vec<String> {
    std::iter::once(String::new()).chain(groups.iter().map(Group::heading)).collect()
}

/// Columns of a group with something wrong.
fn grave(groups: &[Group<'_>]) -> Vec<(usize, usize)> {
    let columns = groups.iter().zip(1..).filter(|(group, _)| group.is_grave());
    columns.map(|(_, column)| (0, column)).collect()
}

fn push(
    rows: &mut Vec<Vec<String>>,
    groups: &[Group<'_>],
    name: &str,
    decimals: usize,
    value: impl Fn(&RunResult) -> Option<f64>,
) {
    if groups.iter().any(|group| group.spread(&value).0.is_some()) {
        let cells = groups.iter().map(|group| group.cell(decimals, &value));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
}

fn names(groups: &[Group<'_>], of: fn(&RunResult) -> &BTreeMap<String, f64>) -> BTreeSet<String> {
    groups.iter().flat_map(|group| &group.valid).flat_map(|run| of(run).keys().cloned()).collect()
}
