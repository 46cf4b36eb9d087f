//! What a load needs of a host, each value with the formula it came from.

mod buffers;
mod memory;
mod sizing;
mod traffic;

use serde::Serialize;

use self::buffers::{buffer, receive_buffer_least, send_buffer_least};
use self::memory::{memory, memory_least};
use self::sizing::{at_least, group, most, narrow, power_of_two, sized};
use self::traffic::{
    AUDIO_BYTES, HEADER_BYTES, SESSION_PACKETS, SMALL_BYTES, Traffic, VIDEO_BYTES,
};
use crate::amount::{self, grouped};
use crate::cpu_set::CpuSet;
use crate::facts::Facts;
use crate::load::{Calls, Load};

/// What is to be carried, and by what.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Expected load.
    pub load: Load,
    /// Whether somebody named it; else it is the default.
    pub load_is_given: bool,
    /// Shards that are configured; `None` is one for each CPU that the process may use.
    pub shards: Option<u32>,
    /// UDP and TCP port of media.
    pub media_port: u16,
    /// SO_RCVBUF and SO_SNDBUF that the server asks for, bytes; `None` outside a server.
    pub socket_buffer_bytes: Option<u64>,
}

/// The default load on the default port, looked at from outside a server.
impl Default for Goal {
    fn default() -> Self {
        Self {
            load: Load::default(),
            load_is_given: false,
            shards: None,
            media_port: 8443,
            socket_buffer_bytes: None,
        }
    }
}

/// A value and how it came about, for people: `16777216 = …`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sized {
    /// In the unit that the field's name says.
    pub value: u64,
    /// With its numbers.
    pub formula: String,
}

/// What the load comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Demand {
    /// The load.
    pub load: Load,
    /// Whether somebody named it; else it is the default.
    pub load_is_given: bool,
    /// People connected at once.
    pub sessions: Sized,
    /// Packets that arrive each second, feedback and checks included.
    pub packets_in_per_s: Sized,
    /// Packets that leave each second.
    pub packets_out_per_s: Sized,
    /// Bits that leave each second.
    pub bits_out_per_s: Sized,
    /// Shards, each a core.
    pub shards: Sized,
    /// The least SO_RCVBUF of each media socket with which this load loses nothing, by this reckoning.
    pub receive_buffer_least_bytes: Sized,
    /// SO_RCVBUF of each media socket: the published advice, or more.
    pub receive_buffer_bytes: Sized,
    /// Likewise of SO_SNDBUF.
    pub send_buffer_least_bytes: Sized,
    /// Likewise of SO_SNDBUF.
    pub send_buffer_bytes: Sized,
    /// Memory that all socket buffers may take together.
    pub udp_memory_bytes: Sized,
    /// Packets that wait per core between card and stack.
    pub backlog_packets: Sized,
    /// Descriptors of each receive ring of the card.
    pub ring_descriptors: Sized,
    /// Files open at once.
    pub open_files: Sized,
    /// Memory locked for io_uring.
    pub locked_memory_bytes: Sized,
    /// Memory of the process, with all that it reserves.
    pub memory_bytes: Sized,
    /// Memory that the load itself takes.
    pub memory_least_bytes: Sized,
    /// Entries of connection tracking, where it sees the media port.
    pub conntrack_entries: Sized,
}

/// Milliseconds for which a core's interrupts may wait.
const INTERRUPT_STALL_MS: u128 = 50;
/// The kernel's default of net.core.netdev_max_backlog.
const BACKLOG_MIN: u64 = 1_000;
/// Full packets that 10 Gbit/s bring in a millisecond, about.
const RING_MIN: u64 = 1_024;

/// Shards of one server (`ShardId::MAX_SHARDS` of the engine).
pub const SHARDS_MAX: u64 = 1_024;
/// The kernel's default of fs.nr_open.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// Over a gigabyte of the kernel's memory.
const CONNTRACK_MAX: u64 = 4 << 20;

/// A shard's io_uring: 64 submissions and 1,024 completions take 24 KiB, 256 provided buffers 4 KiB of entries.
const URING_BYTES: u64 = 28 << 10;

/// CPUs that a server may use, which has a shard for each unless it is told otherwise; 0 when unknown.
fn cpus_allowed(facts: &Facts) -> u128 {
    let allowed = facts.process.cpus_allowed.as_ref().map(CpuSet::len);
    let cpus = allowed.filter(|&cpus| cpus > 0).unwrap_or(facts.cpus.len());
    match facts.cgroup.cpu_quota {
        Some(quota) if cpus > 0 => cpus.min((quota as usize).max(1)) as u128,
        _ => cpus as u128,
    }
}

impl Demand {
    /// What `goal` needs of the host with these `facts`.
    pub fn of(goal: &Goal, facts: &Facts) -> Self {
        let load = &goal.load;
        let traffic = Traffic::of(load);
        let shards = match goal.shards {
            Some(configured) => {
                let needed = traffic.shards();
                let formula = format!("configured; the load needs {}", needed.formula);
                sized(configured.max(1).into(), formula)
            }
            None => match cpus_allowed(facts) {
                0 => most(SHARDS_MAX, "the most of one server", traffic.shards()),
                cpus => {
                    let needed = traffic.shards();
                    let formula = format!("one for each CPU; the load needs {}", needed.formula);
                    most(SHARDS_MAX, "the most of one server", sized(cpus, formula))
                }
            },
        };
        let cores = u128::from(shards.value);
        let sessions = narrow(traffic.sessions);
        let receive_buffer_least_bytes = receive_buffer_least(&traffic, cores);
        let receive_buffer_bytes = buffer(&receive_buffer_least_bytes, goal.socket_buffer_bytes);
        let send_buffer_least_bytes = send_buffer_least(&traffic, cores);
        let stalled = traffic.packets_in() * INTERRUPT_STALL_MS / 1_000;
        let stall =
            format!("{} packets/s in × {INTERRUPT_STALL_MS} ms", group(traffic.packets_in()));
        Self {
            load: load.clone(),
            load_is_given: goal.load_is_given,
            sessions: sized(traffic.sessions, sum_of_shapes(load)),
            packets_in_per_s: sized(
                traffic.packets_in(),
                format!(
                    "{} of audio (50 a voice) + {} of video (180 a screen or camera) + 3 × {} sessions (reports, checks, \
                     pings) + 10 × {} who watch video (feedback)",
                    group(traffic.audio_in),
                    group(traffic.video_in),
                    group(traffic.sessions),
                    group(traffic.watching),
                ),
            ),
            packets_out_per_s: sized(
                traffic.audio_out + traffic.video_out + traffic.sessions * SESSION_PACKETS,
                format!(
                    "{} of audio + {} of video, each to all others of the call, + 3 × {} sessions (reports, answers)",
                    group(traffic.audio_out),
                    group(traffic.video_out),
                    group(traffic.sessions),
                ),
            ),
            bits_out_per_s: sized(
                8 * (traffic.audio_out * (AUDIO_BYTES + HEADER_BYTES)
                    + traffic.video_out * (VIDEO_BYTES + HEADER_BYTES)
                    + traffic.sessions * SESSION_PACKETS * SMALL_BYTES),
                format!(
                    "8 × ({} of audio × {} bytes + {} of video × {} + {} others × {SMALL_BYTES}), headers and tag included",
                    group(traffic.audio_out),
                    AUDIO_BYTES + HEADER_BYTES,
                    group(traffic.video_out),
                    grouped(narrow(VIDEO_BYTES + HEADER_BYTES)),
                    group(traffic.sessions * SESSION_PACKETS),
                ),
            ),
            send_buffer_bytes: buffer(&send_buffer_least_bytes, goal.socket_buffer_bytes),
            send_buffer_least_bytes,
            udp_memory_bytes: sized(
                cores * 2 * u128::from(receive_buffer_bytes.value),
                format!(
                    "{cores} shards × 2 × {} of receive buffer, which the kernel doubles, for each address (one is reckoned with)",
                    amount::bytes(receive_buffer_bytes.value)
                ),
            ),
            receive_buffer_least_bytes,
            receive_buffer_bytes,
            backlog_packets: at_least(BACKLOG_MIN, stalled, &stall, "the kernel's default"),
            ring_descriptors: at_least(
                RING_MIN,
                stalled,
                &stall,
                "about what 10 Gbit/s bring in a millisecond",
            ),
            open_files: most(
                OPEN_FILES_MAX,
                "the kernel's default of fs.nr_open",
                sized(
                    u128::from(power_of_two(traffic.sessions * 2 + 16 * cores + 1_024)),
                    format!(
                        "the power of two from 2 × {} sessions (WebSocket, media over TCP) + 16 × {cores} shards + 1,024 up",
                        group(traffic.sessions)
                    ),
                ),
            ),
            locked_memory_bytes: sized(
                (cores + 1) * u128::from(URING_BYTES),
                format!(
                    "({cores} shards + 1 that is tried at start) × 28 KiB: 64 submissions, 1,024 completions, 256 buffers"
                ),
            ),
            memory_bytes: memory(load, sessions, shards.value),
            memory_least_bytes: memory_least(load, sessions, shards.value),
            conntrack_entries: most(
                CONNTRACK_MAX,
                "above which leaving the media port out of tracking is the better way",
                sized(
                    traffic.sessions * 5 + 1_024,
                    format!(
                        "{} sessions × (4 paths that ICE tries + 1 for signalling) + 1,024",
                        group(traffic.sessions)
                    ),
                ),
            ),
            shards,
        }
    }
}

/// Shards that carry `load`, whatever is configured.
pub fn shards_needed(load: &Load) -> u64 {
    Traffic::of(load).shards().value
}

fn sum_of_shapes(load: &Load) -> String {
    if load.shapes.len() > 4 {
        return format!("the people of {} shapes of calls", load.shapes.len());
    }
    let product =
        |c: &Calls| format!("{} × {}", grouped(c.calls.into()), grouped(c.participants.into()));
    load.shapes.iter().map(product).collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests;
