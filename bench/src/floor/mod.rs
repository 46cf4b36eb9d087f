//! What sending costs at the least on this machine: copy, header, cipher and send, with nothing else.
//!
//! A [`FloorPlan`] names [`Shape`]s of what is sent and [`Device`]s to send to; [`measure`] sends as a server would that had nothing to
//! receive, look up or remember, and counts CPU time of the one thread by the packet. [`mix()`] puts shapes together as a scenario has
//! them, so that a server's figure can be given as a multiple.
//!
//! [`work`] seals, [`outbox`] sends, [`link`] makes devices (in namespaces without a name, [`namespace`], that the kernel removes by
//! itself), [`series`] keeps what each run gave. There is one socket that is not connected, as a server has. It sends by `sendmmsg`, 64
//! packets a call: `sendto` for each run was measured beside it and took 3 to 8 % longer on each device.
//!
//! That floor is saturated. [`paced`] measures a second one, on the path of a run: [`timetable`] says when a server has what to send, and
//! [`audience`] reads as the fleet does.

mod arguments;
mod audience;
mod cpu;
mod link;
mod mix;
mod namespace;
mod outbox;
mod paced;
mod series;
mod table;
mod timetable;
mod work;

pub use arguments::{Floor, run};
pub use cpu::only_core;
pub use mix::{hold_against, mix, plan_for, plan_for_all};
pub use paced::{PacedPlan, hold_on_path, measure_all_paced, measure_paced, nearest_run};

use std::time::Duration;

use clap::ValueEnum;
use sluice_engine::clock;
use sluice_engine::egress::RUN_SEGMENTS_MAX;

use crate::result::{FORMAT, FloorResult, Machine};
use crate::{stop, timestamp};
use link::Link;
use series::{Series, Target};
use work::Sender;

/// What to measure.
#[derive(Clone, PartialEq, Debug)]
pub struct FloorPlan {
    /// What is sent, 1 to 64.
    pub shapes: Vec<Shape>,
    /// Destinations, each with a key of its own, 1 to 10,000.
    pub peers: u32,
    /// What it is sent to.
    pub devices: Vec<Device>,
    /// Runs of each point, 1 to 100.
    pub repeats: u32,
    /// Seconds of each run, 0.01 to 10.
    pub seconds: f64,
    /// The core that sends; none leaves the choice to the kernel.
    pub core: Option<usize>,
}

/// Packets of one send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shape {
    /// RTP payload of each, 1 to 1444 bytes: what fits an Ethernet frame.
    pub payload_bytes: u32,
    /// How many, 1 to 64, to one destination; more than one are split by the kernel (UDP_SEGMENT).
    pub run: u32,
}

/// Where packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Device {
    /// Sockets on 127.0.0.1, read by another thread.
    Loopback,
    /// A pair of virtual Ethernet devices, with the sockets in another network namespace, read by another thread. Needs root.
    Veth,
    /// A device that drops what it is given to transmit; the kernel splits runs just before it, as for a network card that cannot.
    /// Needs root.
    Sink,
}

/// RTP header without CSRCs and extensions, bytes.
const HEADER_BYTES: u32 = 12;
/// Tag of AES-128-GCM, bytes.
const TAG_BYTES: u32 = 16;
/// The largest payload that fits an Ethernet frame: 1500 bytes less the headers of IPv4, UDP and RTP, and the tag.
const PAYLOAD_BYTES_MAX: u32 = 1_500 - 20 - 8 - HEADER_BYTES - TAG_BYTES;
/// The largest datagram before it is split.
const SEND_BYTES_MAX: u32 = 65_507;

const SHAPES_MAX: usize = 64;
const PEERS_MAX: u32 = 10_000;
const REPEATS_MAX: u32 = 100;

impl Shape {
    /// Bytes of a packet as UDP payload.
    pub fn packet_bytes(self) -> u32 {
        HEADER_BYTES + self.payload_bytes + TAG_BYTES
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "payload {} B, run {}", self.payload_bytes, self.run)
    }
}

impl Device {
    /// All, in the order they are measured.
    pub const ALL: [Self; 3] = [Self::Loopback, Self::Veth, Self::Sink];

    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
            Self::Sink => "sink",
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FloorPlan {
    /// Says what is out of bounds.
    ///
    /// # Errors
    /// The first thing that is, and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u64, least: u64, most: u64| match value {
            _ if (least..=most).contains(&value) => Ok(()),
            _ => Err(format!("{what} is {value}; {least} to {most} is allowed")),
        };
        within("the number of shapes to measure", self.shapes.len() as u64, 1, SHAPES_MAX as u64)?;
        within("the number of devices", self.devices.len() as u64, 1, Device::ALL.len() as u64)?;
        within("the number of peers", self.peers.into(), 1, PEERS_MAX.into())?;
        within("the number of runs of each point", self.repeats.into(), 1, REPEATS_MAX.into())?;
        if !(0.01..=10.0).contains(&self.seconds) {
            return Err(format!("a run takes {} s; 0.01 to 10 is allowed", self.seconds));
        }
        for shape in &self.shapes {
            within("a payload", shape.payload_bytes.into(), 1, PAYLOAD_BYTES_MAX.into())?;
            within("a run", shape.run.into(), 1, RUN_SEGMENTS_MAX as u64)?;
            let bytes = shape.run * shape.packet_bytes();
            if bytes > SEND_BYTES_MAX {
                return Err(format!("{shape} is {bytes} bytes; a send takes {SEND_BYTES_MAX}"));
            }
        }
        Ok(())
    }

    /// Seconds that it takes, about: each point and the sealing of each shape, all once more to warm up.
    fn about_s(&self) -> f64 {
        let points = self.shapes.len() * (self.devices.len() + 1);
        points as f64 * self.seconds * (f64::from(self.repeats) + WARM_UP_SHARE)
    }
}

/// How long each point is sent before the first round, by the length of a run.
const WARM_UP_SHARE: f64 = 0.3;

/// Measures all shapes over all devices that can be made here. `progress` gets a line for people now and then.
///
/// Rounds go through all points, so that a change of the machine's load meets them all. Ctrl-C ends it after the run under way; what
/// the whole rounds gave is the result then, and `missing` says so. The calling thread is pinned meanwhile when the plan has a core.
///
/// The time is that of the calling thread: user and system, as the kernel accounts it. Interrupts that happen to come are in it or not
/// as the kernel was built; time that a hypervisor took away is not.
/// # Errors
/// The plan is out of bounds, no device could be made or no point gave a figure, or it was stopped before the first round was over.
pub fn measure(plan: &FloorPlan, progress: &mut dyn FnMut(&str)) -> Result<FloorResult, String> {
    plan.check()?;
    let mut machine = Machine::read(None);
    let began = timestamp::rfc3339(clock::wall_clock().ntp(clock::now()));
    let cores = cpu::Cores::choose(plan.core)?;
    let (links, mut missing) = open_links(plan, progress);
    if links.is_empty() {
        return Err(missing.join("; "));
    }
    let mut sender = Sender::new(plan.peers);
    let mut all = series_of(plan, &links);
    progress(&format!("{} points, about {:.0} s", all.len(), plan.about_s()));
    let (wait, start) = (cpu::thread_wait(), clock::now());
    let rounds = measure_rounds(plan, &cores, &mut sender, &mut all, progress)?;
    missing.extend(disturbance(cpu::thread_wait() - wait, clock::now().since(start)));
    if rounds < plan.repeats {
        missing.push(format!("stopped after {rounds} of {} rounds", plan.repeats));
    }
    machine.load_after = crate::machine::load();
    let points = series::points(&all, plan.peers, &mut missing);
    if points.is_empty() {
        return Err(missing.join("; "));
    }
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let paced = Vec::new();
    Ok(FloorResult { format: FORMAT, command, began, machine, points, paced, missing })
}

/// The devices that can be made, and what is to be said of them and of the others.
fn open_links(plan: &FloorPlan, progress: &mut dyn FnMut(&str)) -> (Vec<Link>, Vec<String>) {
    let (mut links, mut notes) = (Vec::new(), Vec::new());
    for &device in &plan.devices {
        match Link::open(device, plan.peers) {
            Ok(link) => {
                notes.extend(link.note().map(|note| format!("{}: {note}", device.name())));
                links.push(link);
            }
            Err(reason) => {
                let note = format!("{}: {reason}", device.name());
                progress(&note);
                notes.push(note);
            }
        }
    }
    (links, notes)
}

/// One series for the sealing of each shape, then one for each device and shape.
fn series_of<'a>(plan: &FloorPlan, links: &'a [Link]) -> Vec<Series<'a>> {
    let sealing = plan.shapes.iter().map(|&shape| Series::new(Target::Sealing, shape));
    let sent = links.iter().flat_map(|link| {
        plan.shapes.iter().map(move |&shape| Series::new(Target::Link(link), shape))
    });
    sealing.chain(sent).collect()
}

/// Warms up and measures; returns how many rounds came to their end, at least one.
fn measure_rounds(
    plan: &FloorPlan,
    cores: &cpu::Cores,
    sender: &mut Sender,
    all: &mut [Series<'_>],
    progress: &mut dyn FnMut(&str),
) -> Result<u32, String> {
    let length = Duration::from_secs_f64(plan.seconds);
    for series in all.iter_mut() {
        series.warm_up(sender, cores, length.mul_f64(WARM_UP_SHARE));
        if stop::is_stopped() {
            return Err("stopped before anything was measured".to_owned());
        }
    }
    for round in 0..plan.repeats {
        progress(&format!("round {} of {}", round + 1, plan.repeats));
        for series in all.iter_mut() {
            series.run(sender, cores, length);
            if stop::is_stopped() {
                break;
            }
        }
        if stop::is_stopped() && round + 1 < plan.repeats {
            if round == 0 {
                return Err("stopped before the first round was over".to_owned());
            }
            // Of a round that was cut short, no point keeps its figure: all stand for the same rounds.
            all.iter_mut().for_each(|series| series.truncate(round));
            return Ok(round);
        }
    }
    Ok(plan.repeats)
}

/// Says so when other programs took the core too often to speak of nothing else.
fn disturbance(waited: Duration, elapsed: Duration) -> Option<String> {
    let share = waited.as_secs_f64() / elapsed.as_secs_f64();
    (share > WAITED_SHARE_MAX).then(|| {
        format!(
            "other programs had the core for {:.0} % of the time; what they leave in the caches makes each packet dearer",
            share * 100.0
        )
    })
}

/// The share of the time that the sender may wait for its core without a word about it.
const WAITED_SHARE_MAX: f64 = 0.05;

#[cfg(test)]
mod tests;
