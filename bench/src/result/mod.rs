//! What a run found: the JSON that `--json` writes and that reports, comparisons and the search for capacity read.

use std::collections::BTreeMap;
use std::fs;
use std::ops::AddAssign;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::scenario::{Audio, Calls, Scenario, Video};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// One run of one scenario against one server.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    pub format: u32,
    /// Names this configuration of the server.
    pub label: String,
    /// `rtcd`, `sluice` or `whip`.
    pub target: String,
    /// What the server says it is: version, and for Sluice the back-end.
    pub server_version: String,
    /// The command line.
    pub command: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// It was stopped early.
    pub partial: bool,
    /// The figures are the server's. When not, those that could mislead are absent.
    pub valid: bool,
    /// Everybody joined, and nobody's session ended by itself: the load was the one that was asked for.
    #[serde(default)]
    pub complete: bool,
    /// Other programs had a part in them.
    pub disturbed: bool,
    /// Whether it showed what its scenario expects; absent when that expects nothing, or the run does not say.
    #[serde(default)]
    pub as_expected: Option<bool>,
    /// All that was wrong, for people.
    pub problems: Vec<String>,
    pub scenario: Option<Scenario>,
    pub seed: u64,
    /// Share of received packets that were decrypted and checked.
    pub verify: f64,
    pub machine: Machine,
    /// Seconds of the measurement as it was.
    pub elapsed_s: f64,
    pub server: ServerUse,
    pub generator: GeneratorUse,
    pub traffic: Traffic,
    pub loss: Loss,
    /// What the kernel counted of UDP meanwhile; absent for a server on another host.
    #[serde(default)]
    pub kernel: Option<KernelCounters>,
    /// From the publisher's send call until the packet reached the receiver's socket, microseconds.
    pub latency_us: Distribution,
    /// RFC 3550 §6.4.1 interarrival jitter of each received stream at the end, microseconds.
    pub jitter_us: Distribution,
    /// The generator's own error: the same clock over a path without a server, during the measurement, microseconds.
    pub clock_error_us: Distribution,
    /// From the request to join until media can flow, microseconds.
    pub join_us: Distribution,
    /// Seconds from the first request until the last participant had joined.
    pub join_all_s: f64,
    /// From the request to join until the first complete key frame, microseconds; of those that came while video was sent.
    pub first_frame_us: Distribution,
    pub frames: Frames,
    /// One entry each second of the run.
    pub series: Vec<Tick>,
    /// What the same packets cost on this machine with nothing but copy, header, cipher and send.
    pub floor: Option<FloorMix>,
    /// What they cost in the rhythm and on the path of this run.
    #[serde(default)]
    pub path_floor: Option<PathFloor>,
    /// Connected sessions without media, measured before the media began; absent when it was not asked for.
    pub idle: Option<IdleUse>,
}

/// The machine that the server ran on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub kernel: String,
    pub distribution: String,
    /// `kvm`, `none`, …, or `unknown`.
    pub virtualization: String,
    /// Interface that the media crossed, its driver and speed.
    pub nic: String,
    /// Its offloads, as `ethtool -k` names them, those that concern UDP.
    pub offloads: BTreeMap<String, String>,
    /// Sysctls that concern UDP.
    pub sysctls: BTreeMap<String, String>,
    pub load_before: String,
    pub load_after: String,
    pub bench_version: String,
}

/// What the server used.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServerUse {
    /// CPU seconds by the second.
    pub cores: f64,
    pub user_s: f64,
    pub system_s: f64,
    /// Share of the time that the thread which waited most had no core.
    pub waited_share: f64,
    /// CPU microseconds by the packet sent by the server. Absent when the run is not valid.
    pub us_per_packet_out: Option<f64>,
    /// By the packet sent or received.
    pub us_per_packet: Option<f64>,
    /// CPU cores by the Gbit/s of UDP payload sent.
    pub cores_per_gbps: Option<f64>,
    /// Media packets by the run, that is, by the send; every other datagram is taken for a run of its own. Absent where the server does
    /// not count runs.
    #[serde(default)]
    pub run_length_out: Option<f64>,
    pub threads: Vec<ThreadUse>,
    pub resident_before_bytes: u64,
    pub resident_joined_bytes: u64,
    pub resident_end_bytes: u64,
    /// Growth from before to after the joins, by the session.
    pub resident_per_session_bytes: f64,
    /// Counters of the server that grew during the measurement, as `/metrics` shows them; sums over labels.
    pub counters: BTreeMap<String, f64>,
}

/// A thread of the server that used any time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ThreadUse {
    pub name: String,
    pub ran_s: f64,
    pub user_s: f64,
    pub system_s: f64,
    pub waited_s: f64,
}

/// What the generator and the whole machine used.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorUse {
    /// CPU seconds by the second, all workers.
    pub cores: f64,
    /// Of the busiest worker's media thread.
    pub busiest: f64,
    pub waited_share: f64,
    pub workers: u32,
    /// Each core of the machine the server runs on.
    pub machine_cores: Vec<CoreUse>,
}

/// How one core of the machine spent its time, shares of it.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CoreUse {
    pub user: f64,
    pub system: f64,
    pub softirq: f64,
    pub stolen: f64,
    pub idle: f64,
}

/// RTP packets during the measurement, bytes as UDP payload.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Sent by the clients.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// Received by the clients.
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Sent more than a millisecond after their time.
    pub late: u64,
    /// Decrypted and checked.
    pub verified: u64,
    /// Of those, not what was sent.
    pub damaged: u64,
}

/// What did not arrive, and where it was lost.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Loss {
    /// Packets that should have arrived.
    pub expected: u64,
    pub received: u64,
    pub lost: u64,
    /// Lost by expected, the server's and all others'.
    pub share: f64,
    /// Received streams with any loss.
    pub streams_with_loss: u64,
    /// Dropped by the generator's own sockets.
    pub generator_sockets: u64,
    /// Dropped by the server's sockets, datagrams of publishers.
    pub server_sockets: u64,
    /// The server's own reasons, by name.
    pub server_drops: BTreeMap<String, f64>,
    /// Dropped by the impairment relay.
    pub relay: u64,
    /// Publishers' packets that the server reports as lost.
    pub upstream: u64,
    /// Gaps that receivers see in the numbering of their streams.
    pub gaps: u64,
    /// Packets that came after later ones: repeated ones and those that were overtaken.
    pub late: u64,
    /// Sessions that ended by themselves.
    pub sessions_closed: u64,
}

/// The kernel's own counters at both ends of the measurement: what they grew by was dropped by somebody's socket, or before any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KernelCounters {
    pub before: UdpCounters,
    pub after: UdpCounters,
    /// The generator's sockets count in the server's network namespace, too, as they do on loopback. Whose a drop was, the
    /// sockets' own counters say: [`Loss::server_sockets`] and [`Loss::generator_sockets`].
    pub is_shared: bool,
}

/// Counters of UDP in the server's network namespace since it was made, IPv4 and IPv6 together, under the names of /proc/net/snmp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UdpCounters {
    /// Datagrams that could not be delivered for any reason but a port that nobody has; the next and `mem_errors` are among them.
    pub in_errors: u64,
    /// Datagrams that found the receive buffer of their socket full.
    pub rcvbuf_errors: u64,
    /// Sends that found the send buffer of their socket, or the queue of the device, full.
    pub sndbuf_errors: u64,
    /// Datagrams that would have taken all UDP sockets over `net.ipv4.udp_mem`.
    pub mem_errors: u64,
    /// Packets of any kind that found the backlog of a core full, in all namespaces: second column of /proc/net/softnet_stat.
    pub backlog_dropped: u64,
}

impl KernelCounters {
    /// By how much a counter grew.
    pub fn grown(&self, of: fn(&UdpCounters) -> u64) -> u64 {
        of(&self.after).saturating_sub(of(&self.before))
    }
}

/// Video at the receivers during the measurement.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Frames {
    /// Complete frames.
    pub complete: u64,
    /// Frames of which something never came.
    pub incomplete: u64,
    /// Times that no complete frame came for three frame intervals and 150 ms more than one.
    pub freezes: u64,
    /// Seconds of all freezes, over all receivers.
    pub frozen_s: f64,
}

impl AddAssign for Frames {
    fn add_assign(&mut self, other: Self) {
        self.complete += other.complete;
        self.incomplete += other.incomplete;
        self.freezes += other.freezes;
        self.frozen_s += other.frozen_s;
    }
}

/// Writes a result, a comparison or a search to a file, as JSON.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|e| format!("JSON: {e}"))?;
    fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
}

/// Values of which the quantiles count.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Distribution {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// Upper bound and count of each bucket that holds anything, ascending; at most 200.
    pub buckets: Vec<(f64, u64)>,
}

/// One second of a run.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Tick {
    /// Seconds since the run began.
    pub at_s: f64,
    pub phase: Phase,
    pub participants: u32,
    pub server_cores: f64,
    pub packets_in_per_s: f64,
    pub packets_out_per_s: f64,
    /// Gaps that receivers see, by what they should have received since they joined.
    #[serde(default)]
    pub loss: f64,
    pub resident_bytes: u64,
}

/// Parts of a run, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Joining,
    Idle,
    WarmingUp,
    Measuring,
    Leaving,
}

/// Sessions without media.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct IdleUse {
    pub elapsed_s: f64,
    pub sessions: u32,
    pub cores: f64,
    /// CPU microseconds by the session and second, what the server used without sessions taken off.
    pub us_per_session_second: f64,
}

/// What `sluice-bench floor` measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FloorResult {
    pub format: u32,
    pub command: String,
    pub began: String,
    pub machine: Machine,
    pub points: Vec<FloorPoint>,
    /// Scenarios in their own rhythm.
    #[serde(default)]
    pub paced: Vec<PacedFloor>,
    /// Devices that could not be made, and why, and what else is to be said of the figures.
    pub missing: Vec<String>,
}

/// One way of sending, measured several times.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FloorPoint {
    /// `loopback`, `veth` or `sink`.
    pub device: String,
    /// RTP payload bytes.
    pub payload_bytes: u32,
    /// Packets of one send call (UDP_SEGMENT when more than one).
    pub run: u32,
    /// Destinations in turn.
    pub peers: u32,
    /// CPU nanoseconds of the sending thread by the packet: median, least, most.
    pub ns_per_packet: f64,
    pub ns_least: f64,
    pub ns_most: f64,
    /// Of them copy, header and cipher.
    pub ns_sealing: f64,
}

/// The floor of one scenario's mix of packets.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FloorMix {
    pub points: Vec<FloorPoint>,
    /// Share of the packets out that each point stands for, same order.
    pub shares: Vec<f64>,
    /// CPU microseconds by the packet of the mix.
    pub us_per_packet_out: f64,
    /// What the server used, as a multiple of it.
    pub multiple: Option<f64>,
}

/// What a scenario's packets cost a thread that only seals and sends them when they are due, to sockets that are read as clients read theirs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PacedFloor {
    /// The scenario's name; the load that it was, with calls as they were shrunk.
    pub scenario: String,
    pub calls: Calls,
    pub audio: Audio,
    pub screen: Video,
    /// Packets of a mean run as asked for; absent for the longest runs that frames allow.
    pub run_of: Option<f64>,
    /// As it was.
    pub run_length: f64,
    pub packets_per_s: f64,
    /// CPU seconds of the sending thread by the second.
    pub cores: f64,
    /// CPU microseconds of the sending thread by the packet: median, least, most.
    pub us_per_packet_out: f64,
    pub us_least: f64,
    pub us_most: f64,
}

/// A server's figure against the floor on its path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PathFloor {
    /// With the longest runs that frames allow.
    pub best: PacedFloor,
    /// With runs as long as the server's; absent when the server does not tell.
    pub alike: Option<PacedFloor>,
    /// What the server used, as a multiple of `best`, and of `alike`.
    pub multiple: Option<f64>,
    pub multiple_alike: Option<f64>,
}
