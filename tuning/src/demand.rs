//! What a load needs of a host, each value with the formula it came from.

use serde::Serialize;

use crate::amount::{self, grouped};
use crate::facts::Facts;
use crate::load::{Calls, Load};

/// What is to be carried, and by what.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Expected load.
    pub load: Load,
    /// Whether somebody named it; else it is the default.
    pub load_is_given: bool,
    /// Shards that are configured; `None` lets the advice count them.
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
    /// Memory of the process.
    pub memory_bytes: Sized,
    /// Entries of connection tracking, where it sees the media port.
    pub conntrack_entries: Sized,
}

// Streams are those of the scenarios of sluice-bench (bench/src/scenario: `Audio::default`, `Video::default`).
/// Packets of one voice each second, and bytes of payload of each: 80 kbit/s.
const AUDIO_PACKETS: u128 = 50;
const AUDIO_BYTES: u128 = 200;
/// Packets of one screen or camera each second: 30 frames of 6; bytes of payload of each: 1.6 Mbit/s.
const VIDEO_PACKETS: u128 = 180;
const VIDEO_BYTES: u128 = 1_111;
/// IPv4 20, UDP 8, RTP 12, header extensions 16, authentication tag 16.
const HEADER_BYTES: u128 = 72;
/// A report, a check or an answer on the wire.
const SMALL_BYTES: u128 = 120;
/// Each second and session, each way: a report, a data channel ping, a connectivity check each 2.5 s.
const SESSION_PACKETS: u128 = 3;
/// Transport-wide feedback of who receives video, each second.
const FEEDBACK_PACKETS: u128 = 10;

// CPU time as docs/benchmarks.md has it, nanoseconds.
/// Audio to a thousand people, by the packet out.
const AUDIO_NS: u128 = 5_200;
/// Screens, by the packet out.
const VIDEO_NS: u128 = 2_500;
/// What calls of two, with a packet in for each out, cost above that.
const IN_NS: u128 = 5_500;
/// A session that only reports and pings, each second.
const SESSION_NS: u128 = 65_000;
/// Of each second, what a shard may be busy.
const BUSY_NS: u128 = 700_000_000;

// What the kernel books for a datagram in a socket's buffer: the memory it lies in, not its length.
const SMALL_BOOKED: u128 = 768;
const LARGE_BOOKED: u128 = 2_304;
/// Milliseconds for which a shard may not look at its socket: another thread has its core, or it handles a join storm.
const STALL_MS: u128 = 200;
/// Datagrams that everybody sends when all join at once: checks, and flights of the handshake.
const JOIN_SMALL: u128 = 4;
const JOIN_LARGE: u128 = 2;
/// The published advice, and below nothing is gained: it is only a bound.
const BUFFER_MIN: u64 = 16 << 20;
/// The most that the kernel takes, since it doubles it into 31 bits.
const BUFFER_MAX: u64 = 1 << 30;
/// Frames each second; the packets of one leave at once.
const FRAMES: u128 = 30;
/// Milliseconds for which a core's interrupts may wait.
const INTERRUPT_STALL_MS: u128 = 50;
/// The kernel's default of net.core.netdev_max_backlog.
const BACKLOG_MIN: u64 = 1_000;
/// Full packets that 10 Gbit/s bring in a millisecond, about.
const RING_MIN: u64 = 1_024;

/// Shards of one server (`ShardId::MAX_SHARDS` of the engine).
pub const SHARDS_MAX: u64 = 1_024;
/// Descriptors of a ring, packets in a backlog.
const PACKETS_MAX: u64 = 65_536;
/// The kernel's default of fs.nr_open.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// Over a gigabyte of the kernel's memory.
const CONNTRACK_MAX: u64 = 4 << 20;

/// A shard's io_uring: 64 submissions and 1,024 completions take 24 KiB, 256 provided buffers 4 KiB of entries.
const URING_BYTES: u64 = 28 << 10;
/// A session with its WebSocket in a call of a thousand, the dearest that was measured (docs/benchmarks.md).
const SESSION_BYTES: u64 = 76 << 10;
/// History of one video track on a shard: 512 packets of 1,500 bytes.
const HISTORY_BYTES: u64 = 512 * 1_500;
/// What each shard reserves: 24 MiB of egress, 256 KiB that wait for fan-out, 16 MiB of receive buffers.
const SHARD_BYTES: u64 = (24 << 20) + (256 << 10) + (16 << 20) + (64 << 10);
/// Rings from each shard to each other.
const PAIR_BYTES: u64 = 2 << 20;
/// The program without sessions.
const PROGRAM_BYTES: u64 = 64 << 20;

/// Packets each second, by kind.
struct Traffic {
    sessions: u128,
    watching: u128,
    audio_in: u128,
    video_in: u128,
    audio_out: u128,
    video_out: u128,
}

impl Traffic {
    fn of(load: &Load) -> Self {
        let sum = |of: &dyn Fn(&Calls) -> u128| load.shapes.iter().map(of).sum::<u128>();
        let audio = |c: &Calls| u128::from(c.calls) * u128::from(c.unmuted) * AUDIO_PACKETS;
        let video = |c: &Calls| u128::from(c.calls) * u128::from(c.videos()) * VIDEO_PACKETS;
        let others = |c: &Calls| u128::from(c.participants - 1);
        Self {
            sessions: sum(&|c| c.people().into()),
            watching: sum(&|c| if c.videos() > 0 { c.people().into() } else { 0 }),
            audio_in: sum(&audio),
            video_in: sum(&video),
            audio_out: sum(&|c| audio(c) * others(c)),
            video_out: sum(&|c| video(c) * others(c)),
        }
    }

    /// Reports, checks, pings and feedback that arrive.
    fn feedback_in(&self) -> u128 {
        self.sessions * SESSION_PACKETS + self.watching * FEEDBACK_PACKETS
    }

    fn packets_in(&self) -> u128 {
        self.audio_in + self.video_in + self.feedback_in()
    }

    fn cpu_ns(&self) -> u128 {
        self.audio_out * AUDIO_NS
            + self.video_out * VIDEO_NS
            + (self.audio_in + self.video_in) * IN_NS
            + self.sessions * SESSION_NS
    }

    fn shards(&self) -> Sized {
        let shards = self.cpu_ns().div_ceil(BUSY_NS).max(1);
        sized(
            shards,
            format!(
                "({} audio packets out × 5.2 µs + {} of video × 2.5 µs + {} of media in × 5.5 µs + {} sessions × 65 µs) / 0.7, \
                 since a shard should not be busy for more than 70 % of a second; measured on a whole core of an AMD EPYC \
                 (Zen 5, virtual machine, loopback): docs/benchmarks.md",
                group(self.audio_out),
                group(self.video_out),
                group(self.audio_in + self.video_in),
                group(self.sessions),
            ),
        )
    }
}

impl Demand {
    /// What `goal` needs of the host with these `facts`.
    pub fn of(goal: &Goal, _facts: &Facts) -> Self {
        let load = &goal.load;
        let traffic = Traffic::of(load);
        let shards = match goal.shards {
            Some(configured) => {
                let needed = traffic.shards();
                let formula = format!("configured; the load needs {}", needed.formula);
                sized(configured.max(1).into(), formula)
            }
            None => most(SHARDS_MAX, "the most of one server", traffic.shards()),
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
                    "{cores} shards × 2 × {} of receive buffer, which the kernel doubles",
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

/// What comes to a shard's socket while the shard does not look at it.
fn receive_buffer_least(traffic: &Traffic, cores: u128) -> Sized {
    let stalled = |packets: u128| packets * STALL_MS / 1_000;
    let small = stalled(traffic.audio_in + traffic.feedback_in()) + JOIN_SMALL * traffic.sessions;
    let large = stalled(traffic.video_in) + JOIN_LARGE * traffic.sessions;
    let what = "comes to a shard in 0.2 s and in a join storm (6 datagrams a session)";
    buffer_least(small.div_ceil(cores), large.div_ceil(cores), what)
}

/// What a shard sends at once.
fn send_buffer_least(traffic: &Traffic, cores: u128) -> Sized {
    let small = (traffic.audio_out / FRAMES).div_ceil(cores);
    let large = (traffic.video_out / FRAMES).div_ceil(cores);
    buffer_least(small, large, "leaves a shard in the time of a frame (1/30 s)")
}

/// A buffer that holds so many datagrams.
fn buffer_least(small: u128, large: u128, what: &str) -> Sized {
    let bytes = (small * SMALL_BOOKED + large * LARGE_BOOKED).div_ceil(2);
    let formula = format!(
        "({} small datagrams × {SMALL_BOOKED} bytes + {} large × {}) / 2, for what {what}; bytes are those that the kernel books, \
         halved, since it doubles what is set",
        group(small),
        group(large),
        group(LARGE_BOOKED),
    );
    sized(bytes.min(BUFFER_MAX.into()), formula)
}

/// The power of two from `least` up, at least the published advice and what the server asks for.
fn buffer(least: &Sized, asked: Option<u64>) -> Sized {
    let mut value = power_of_two(least.value.into()).clamp(BUFFER_MIN, BUFFER_MAX);
    let mut what = match value {
        BUFFER_MIN => "16 MiB, the published advice; the load alone needs",
        _ => "the power of two, at most 1 GiB, from what the load needs up,",
    };
    if let Some(asked) = asked.map(|asked| asked.min(BUFFER_MAX)).filter(|&asked| asked > value) {
        value = asked;
        what = "engine.socket_buffer_bytes; the load alone needs";
    }
    sized(value.into(), format!("{what} {}", least.formula))
}

fn memory(load: &Load, sessions: u64, shards: u64) -> Sized {
    let histories = |c: &Calls| {
        let shards = u128::from(shards).min(u128::from(c.participants));
        u128::from(c.calls) * u128::from(c.videos()) * shards
    };
    let histories: u128 = load.shapes.iter().map(histories).sum();
    let pairs = u128::from(shards) * u128::from(shards - 1);
    let bytes = u128::from(PROGRAM_BYTES)
        + u128::from(sessions) * u128::from(SESSION_BYTES)
        + histories * u128::from(HISTORY_BYTES)
        + u128::from(shards) * u128::from(SHARD_BYTES)
        + pairs * u128::from(PAIR_BYTES);
    let formula = format!(
        "{} of program + {} sessions × 76 KiB + {} histories of video × {} + {shards} shards × {} reserved + {} pairs of \
         shards × 2 MiB: {}",
        amount::bytes(PROGRAM_BYTES),
        grouped(sessions),
        group(histories),
        amount::bytes(HISTORY_BYTES),
        amount::bytes(SHARD_BYTES),
        group(pairs),
        amount::bytes(narrow(bytes)),
    );
    sized(bytes, formula)
}

fn sum_of_shapes(load: &Load) -> String {
    if load.shapes.len() > 4 {
        return format!("the people of {} shapes of calls", load.shapes.len());
    }
    let product =
        |c: &Calls| format!("{} × {}", grouped(c.calls.into()), grouped(c.participants.into()));
    load.shapes.iter().map(product).collect::<Vec<_>>().join(" + ")
}

/// The power of two from `packets` up, or `least`, which is what the sentence says of it.
fn at_least(least: u64, packets: u128, how: &str, what: &str) -> Sized {
    let value = if packets <= u128::from(least) { least } else { power_of_two(packets) };
    let how = format!("{how} is {}; at least {}, {what}", group(packets), grouped(least));
    most(PACKETS_MAX, "the most that is advised", sized(value.into(), how))
}

/// What is asked for, or `bound`, which is what the sentence says of it: a load beyond any host asks for no absurd settings.
fn most(bound: u64, what: &str, needed: Sized) -> Sized {
    if needed.value <= bound {
        return needed;
    }
    sized(bound.into(), format!("{what}; the load needs {}", needed.formula))
}

fn sized(value: u128, how: String) -> Sized {
    let value = narrow(value);
    Sized { value, formula: format!("{value} = {how}") }
}

fn power_of_two(number: u128) -> u64 {
    narrow(number).checked_next_power_of_two().unwrap_or(u64::MAX)
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn group(number: u128) -> String {
    grouped(narrow(number))
}

#[cfg(test)]
mod tests;
