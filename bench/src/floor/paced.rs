//! The floor on the path of a run: what a scenario's packets cost a thread that only sends them, in the scenario's rhythm, to sockets
//! that are read as the fleet reads.
//!
//! The saturated floor is what sending costs at the least. A server that has to be asleep between its packets finds its caches cold, is
//! woken up, and on loopback wakes its receivers; that is no fault of its own, and here it is paid as well. What a server does to
//! receive is not.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::srtp::OutboundSrtp;

use super::audience::{self, Hall, VIDEO};
use super::cpu::{Cores, monotonic, sleep_until, thread_time, thread_wait};
use super::link::bind;
use super::outbox::{MESSAGES_MAX, Names, Outbox, split_by};
use super::timetable::{self, Burst, Kind, Stream, bursts};
use super::work::{Leg, PLAIN_HEADER, PROFILE, Sample, master_key, payload};
use super::{HEADER_BYTES, REPEATS_MAX, TAG_BYTES, WAITED_SHARE_MAX};
use crate::result::{FORMAT, FloorResult, Machine, PacedFloor, PathFloor, RunResult};
use crate::scenario::Scenario;
use crate::spread::Spread;
use crate::{stop, timestamp};

/// What to measure.
#[derive(Clone, PartialEq, Debug)]
pub struct PacedPlan {
    /// Packets of a mean run, each measured by itself; `None` for the longest runs that frames allow.
    pub run_of: Vec<Option<f64>>,
    /// Runs of each, 1 to 100.
    pub repeats: u32,
    /// Seconds of each run, 0.1 to 10.
    pub seconds: f64,
    /// The core that sends; none leaves the choice to the kernel.
    pub core: Option<usize>,
}

/// As many as the saturated floor has, and long enough that streams of any phase have come many times.
impl Default for PacedPlan {
    fn default() -> Self {
        Self { run_of: vec![None], repeats: 5, seconds: 1.0, core: None }
    }
}

/// What a server keeps, as far as sending needs it.
struct Server {
    /// By person.
    srtp: Vec<OutboundSrtp>,
    /// By kind: packets of a frame as their publisher sent them.
    frames: Vec<Vec<Vec<u8>>>,
    kinds: Vec<Kind>,
    streams: Vec<Forwarded>,
    /// Room for the packets of a batch.
    room: Vec<u8>,
    /// Packets in it.
    waiting: usize,
    /// The segments that the socket cuts what it sends into, bytes; 0 before the first run.
    segment: u32,
}

/// A stream and those it goes to.
struct Forwarded {
    kind: usize,
    /// Everybody in the call.
    people: Range<u32>,
    publisher: u32,
    /// One for each of the others.
    legs: Vec<Leg>,
    frame: u32,
}

/// What one run gave.
#[derive(Default)]
struct Performance {
    sample: Sample,
    bursts: u64,
    /// Of those, more than [`LATE`] after their time.
    late: u64,
    elapsed: Duration,
}

/// The runs of one cut.
struct Repeats {
    run_of: Option<f64>,
    us: Vec<f64>,
    packets: u64,
    messages: u64,
    read: u64,
    late: u64,
    bursts: u64,
    cpu: Duration,
    elapsed: Duration,
}

/// Packets that are sealed between two system calls, as in the saturated floor.
const BATCH_PACKETS: usize = MESSAGES_MAX;

const LATE: Duration = Duration::from_millis(1);
/// More late bursts than this share make it another rhythm.
const LATE_SHARE_MAX: f64 = 0.05;
/// A sender or reader that is busier is hardly ever asleep.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Packets that may be missing at the readers.
const READ_SHARE_MIN: f64 = 0.99;
/// What has not come after this long does not come.
const SILENCE: Duration = Duration::from_millis(300);
const NAP: Duration = Duration::from_millis(10);
/// Sent before the first run, without a figure.
const WARM_UP: Duration = Duration::from_millis(500);

/// Two floors of one load are alike when their runs differ by no more.
const ALIKE: f64 = 0.05;

impl PacedPlan {
    /// Says what is out of bounds.
    ///
    /// # Errors
    /// The first thing that is, and what is allowed.
    pub fn check(&self, scenario: &Scenario) -> Result<(), String> {
        if !(1..=REPEATS_MAX).contains(&self.repeats) {
            return Err(format!("{} runs; 1 to {REPEATS_MAX} are allowed", self.repeats));
        }
        if !(0.1..=10.0).contains(&self.seconds) {
            return Err(format!("a paced run takes {} s; 0.1 to 10 is allowed", self.seconds));
        }
        let (least, most) = timetable::run_lengths(&timetable::kinds(scenario)?);
        match self
            .run_of
            .iter()
            .flatten()
            .find(|&&mean| !(least * ROUNDED.0..=most * ROUNDED.1).contains(&mean))
        {
            Some(mean) => Err(format!(
                "runs of {mean} packets in the mean cannot be: those of {} have {least:.2} to {most:.2}",
                scenario.name
            )),
            None => Ok(()),
        }
    }
}

/// Bounds that people read have two decimals.
const ROUNDED: (f64, f64) = (0.995, 1.005);

/// The mean run of a server, as near to it as the scenario's frames can be cut.
///
/// # Errors
/// The scenario has no timetable.
pub fn nearest_run(scenario: &Scenario, mean: f64) -> Result<f64, String> {
    let (least, most) = timetable::run_lengths(&timetable::kinds(scenario)?);
    Ok(mean.clamp(least, most))
}

/// Measures a scenario; what is to be said of the figures goes to `notes`, a line for people now and then to `progress`.
///
/// Rounds go through all cuts. Each has streams that begin at other moments.
/// # Errors
/// The plan is out of bounds, the scenario has no timetable, there are not enough descriptors, a send failed, or it was stopped.
pub fn measure_paced(
    scenario: &Scenario,
    plan: &PacedPlan,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<PacedFloor>, String> {
    plan.check(scenario)?;
    let cores = Cores::choose(plan.core)?;
    if !cores.can_be_apart() {
        notes.push(format!("{}: sender and readers shared one core", scenario.name));
    }
    let hall = Hall::default();
    let people = scenario.calls.people();
    let (ready, is_ready) = mpsc::channel();
    std::thread::scope(|scope| {
        let (cores, hall) = (&cores, &hall);
        let frame_rate = scenario.screen.frame_rate;
        scope.spawn(move || audience::listen(people, frame_rate, cores, hall, &ready));
        let _over = Over(hall);
        match is_ready.recv() {
            Ok(Ok(addresses)) => {
                let addresses: Vec<_> = addresses.iter().map(on_loopback).collect();
                perform_all(scenario, plan, &addresses, hall, notes, progress)
            }
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the readers ended".to_owned()),
        }
    })
}

/// Sends the readers home when it is dropped, whatever became of the sender.
struct Over<'a>(&'a Hall);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// As [`measure_paced`], one scenario after the other, as a result by itself.
///
/// # Errors
/// As there, of any of them.
pub fn measure_all_paced(
    scenarios: &[Scenario],
    plan: &PacedPlan,
    progress: &mut dyn FnMut(&str),
) -> Result<FloorResult, String> {
    let mut machine = Machine::read(None);
    let began = timestamp::rfc3339(clock::wall_clock().ntp(clock::now()));
    let (mut paced, mut missing) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        paced.extend(measure_paced(scenario, plan, &mut missing, progress)?);
    }
    machine.load_after = crate::machine::load();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    Ok(FloorResult { format: FORMAT, command, began, machine, points: Vec::new(), paced, missing })
}

fn on_loopback(address: &SocketAddr) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port())
}

fn perform_all(
    scenario: &Scenario,
    plan: &PacedPlan,
    addresses: &[SocketAddrV4],
    hall: &Hall,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<PacedFloor>, String> {
    let kinds = timetable::kinds(scenario)?;
    let streams = timetable::streams(&kinds, scenario.calls.calls);
    let length = Duration::from_secs_f64(plan.seconds);
    let socket = bind(Ipv4Addr::LOCALHOST)?;
    let names = Names::new(addresses);
    let mut outbox = Outbox::new(&socket, &names);
    let mut server = Server::new(scenario, kinds.clone(), &streams);
    let mut all: Vec<Repeats> = plan.run_of.iter().map(|&run_of| Repeats::new(run_of)).collect();
    let about = (plan.seconds + SILENCE.as_secs_f64()) * f64::from(plan.repeats) * all.len() as f64;
    progress(&format!("{} on its own path, about {about:.0} s", scenario.name));
    let warm_up = bursts(&kinds, &streams, None, WARM_UP, 0)?;
    server.perform(&warm_up, &socket, &mut outbox)?;
    await_readers(hall);
    let (wait, start, heard) = (thread_wait(), monotonic(), hall.cpu_ns.load(Ordering::Relaxed));
    let mut performing = Duration::ZERO;
    for round in 0..plan.repeats {
        for repeats in &mut all {
            let bursts = bursts(&kinds, &streams, repeats.run_of, length, u64::from(round) + 1)?;
            let before = hall.read.load(Ordering::Relaxed);
            let performance = server.perform(&bursts, &socket, &mut outbox)?;
            await_readers(hall);
            performing += performance.elapsed;
            repeats.note(&performance, hall.read.load(Ordering::Relaxed) - before)?;
        }
    }
    let mut note = |text: String| notes.push(format!("{}: {text}", scenario.name));
    let heard = Duration::from_nanos(hall.cpu_ns.load(Ordering::Relaxed) - heard);
    let busy = heard.as_secs_f64() / performing.as_secs_f64();
    if busy > BUSY_SHARE_MAX {
        note(format!("the readers were busy for {:.0} % of the time and hardly slept", busy * 1e2));
    }
    let waited = (thread_wait() - wait).as_secs_f64() / (monotonic() - start).as_secs_f64();
    if waited > WAITED_SHARE_MAX {
        note(format!("other programs had the sender's core for {:.0} % of the time", waited * 1e2));
    }
    all.iter().flat_map(Repeats::reservations).for_each(note);
    Ok(all.iter().filter_map(|repeats| repeats.floor(scenario)).collect())
}

/// Waits until the readers have taken all that was sent.
fn await_readers(hall: &Hall) {
    let mut last = (monotonic(), hall.read.load(Ordering::Relaxed));
    loop {
        sleep_until(monotonic() + NAP);
        let (now, read) = (monotonic(), hall.read.load(Ordering::Relaxed));
        if read != last.1 {
            last = (now, read);
        } else if now - last.0 > SILENCE {
            return;
        }
    }
}

impl Server {
    fn new(scenario: &Scenario, kinds: Vec<Kind>, streams: &[Stream]) -> Self {
        let calls = scenario.calls;
        let others = calls.participants - 1;
        let forwarded = |(number, at): (u32, &Stream)| {
            let first = at.call * calls.participants;
            Forwarded {
                kind: at.kind,
                people: first..first + calls.participants,
                publisher: first + at.place,
                legs: (number * others..(number + 1) * others).map(Leg::new).collect(),
                frame: 0,
            }
        };
        let largest = kinds.iter().flat_map(|kind| &kind.sizes).max().copied().unwrap_or(0);
        let packet_bytes_max = (HEADER_BYTES + TAG_BYTES) as usize + largest;
        let srtp = |person| OutboundSrtp::new(PROFILE, &master_key(person));
        Self {
            srtp: (0..calls.people()).map(srtp).collect(),
            frames: kinds.iter().map(frame).collect(),
            kinds,
            streams: (0..).zip(streams).map(forwarded).collect(),
            room: vec![0; BATCH_PACKETS * packet_bytes_max],
            waiting: 0,
            segment: 0,
        }
    }

    /// Sends a timetable from now on, asleep while nothing is due.
    fn perform(
        &mut self,
        bursts: &[Burst],
        socket: &UdpSocket,
        outbox: &mut Outbox<'_>,
    ) -> Result<Performance, String> {
        let mut done = Performance::default();
        let (before, start) = (thread_time(), monotonic());
        let mut left = bursts;
        while let Some(next) = left.first() {
            let due = start + Duration::from_nanos(next.due_ns);
            let mut now = monotonic();
            if now < due {
                sleep_until(due);
                if stop::is_stopped() {
                    return Err("stopped".to_owned());
                }
                now = monotonic();
            }
            // All that is due leaves with as few calls as it takes.
            let is_due = |burst: &Burst| start + Duration::from_nanos(burst.due_ns) <= now;
            while let Some((burst, rest)) = left.split_first().filter(|(burst, _)| is_due(burst)) {
                done.late += u64::from(now - start > Duration::from_nanos(burst.due_ns) + LATE);
                self.forward(*burst, socket, outbox, &mut done.sample)?;
                left = rest;
            }
            self.flush(outbox, &mut done.sample);
        }
        done.bursts = bursts.len() as u64;
        done.sample.cpu = thread_time().saturating_sub(before);
        done.elapsed = monotonic() - start;
        Ok(done)
    }

    /// Seals a burst for each receiver.
    fn forward(
        &mut self,
        burst: Burst,
        socket: &UdpSocket,
        outbox: &mut Outbox<'_>,
        sample: &mut Sample,
    ) -> Result<(), String> {
        let kind = self.streams[burst.stream as usize].kind;
        let (first, count) = (usize::from(burst.first), usize::from(burst.count));
        let packets = first..first + count;
        let tag = TAG_BYTES as usize;
        let frame = &mut self.frames[kind][packets.clone()];
        let message_bytes: usize = frame.iter().map(|plain| plain.len() + tag).sum();
        let packet_bytes = (frame[0].len() + tag) as u32;
        let stream = &mut self.streams[burst.stream as usize];
        let timestamp = stream.frame.wrapping_mul(self.kinds[kind].ticks());
        frame.iter_mut().for_each(|plain| plain[4..8].copy_from_slice(&timestamp.to_be_bytes()));
        stream.frame += u32::from(packets.end == self.frames[kind].len());
        // What is no longer than a segment goes out whole, whatever the segments are.
        if self.segment != packet_bytes
            && (count > 1 || packet_bytes > self.segment && self.segment > 0)
        {
            self.flush(outbox, sample);
            split_by(socket, packet_bytes)?;
            self.segment = packet_bytes;
        }
        let mut at = 0;
        for person in self.streams[burst.stream as usize].people.clone() {
            let stream = &mut self.streams[burst.stream as usize];
            if person == stream.publisher {
                continue;
            }
            let leg = at;
            at += 1;
            if self.waiting + count > BATCH_PACKETS {
                self.flush(outbox, sample);
            }
            let (stream, srtp) =
                (&mut self.streams[burst.stream as usize], &mut self.srtp[person as usize]);
            let mut end = outbox.bytes();
            for plain in &self.frames[kind][packets.clone()] {
                let packet = &mut self.room[end..end + plain.len() + tag];
                end += packet.len();
                stream.legs[leg].seal(srtp, plain, packet);
            }
            outbox.add(person as usize, message_bytes);
            self.waiting += count;
            sample.messages += 1;
            sample.packets += count as u64;
        }
        Ok(())
    }

    fn flush(&mut self, outbox: &mut Outbox<'_>, sample: &mut Sample) {
        if self.waiting > 0 {
            outbox.send(&self.room, sample);
            self.waiting = 0;
        }
    }
}

/// The packets of a frame as their publisher sent them.
fn frame(kind: &Kind) -> Vec<Vec<u8>> {
    let packet = |(at, &size): (usize, &usize)| {
        let mut header = PLAIN_HEADER;
        let is_last = at + 1 == kind.sizes.len();
        // The payload type, and the marker at the end of a picture.
        header[1] = match kind.is_video {
            true => VIDEO | if is_last { 0x80 } else { 0 },
            false => AUDIO,
        };
        header.into_iter().chain(payload(size as u32)).collect()
    };
    kind.sizes.iter().enumerate().map(packet).collect()
}

/// Payload type of audio.
const AUDIO: u8 = 111;

impl Repeats {
    fn new(run_of: Option<f64>) -> Self {
        Self {
            run_of,
            us: Vec::new(),
            packets: 0,
            messages: 0,
            read: 0,
            late: 0,
            bursts: 0,
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }

    /// Adds a run; `read` packets of it arrived.
    fn note(&mut self, run: &Performance, read: u64) -> Result<(), String> {
        let sample = &run.sample;
        if let Some(error) = &sample.error {
            return Err(format!("{} of {} sends failed: {error}", sample.failed, sample.messages));
        }
        self.us.push(sample.cpu.as_secs_f64() * 1e6 / sample.packets as f64);
        self.packets += sample.packets;
        self.messages += sample.messages;
        self.read += read;
        self.late += run.late;
        self.bursts += run.bursts;
        self.cpu += sample.cpu;
        self.elapsed += run.elapsed;
        Ok(())
    }

    /// What makes the figure mean something else than it seems to.
    fn reservations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let read = self.read as f64 / self.packets as f64;
        if read < READ_SHARE_MIN {
            found.push(format!(
                "{:.1} % of the packets were read, the others found full sockets, which costs less",
                read * 1e2
            ));
        }
        let late = self.late as f64 / self.bursts as f64;
        if late > LATE_SHARE_MAX {
            found.push(format!(
                "{:.0} % of the bursts left more than a millisecond late: that is not the scenario's rhythm",
                late * 1e2
            ));
        }
        let busy = self.cpu.as_secs_f64() / self.elapsed.as_secs_f64();
        if busy > BUSY_SHARE_MAX {
            found.push(format!("the sender was busy for {:.0} % of the time", busy * 1e2));
        }
        found
    }

    fn floor(&self, scenario: &Scenario) -> Option<PacedFloor> {
        let spread = Spread::of(self.us.iter().copied())?;
        let elapsed = self.elapsed.as_secs_f64();
        Some(PacedFloor {
            scenario: scenario.name.clone(),
            calls: scenario.calls,
            audio: scenario.audio,
            screen: scenario.screen,
            run_of: self.run_of,
            run_length: self.packets as f64 / self.messages as f64,
            packets_per_s: self.packets as f64 / elapsed,
            cores: self.cpu.as_secs_f64() / elapsed,
            us_per_packet_out: spread.median,
            us_least: spread.least,
            us_most: spread.most,
        })
    }
}

/// Gives a run the floors of its load on its path, if they are among these: the one of the longest runs, and the one whose runs are as
/// long as the server's.
pub fn hold_on_path(run: &mut RunResult, floors: &[PacedFloor]) {
    let Some(scenario) = &run.scenario else { return };
    let is_same = |floor: &&PacedFloor| {
        (floor.calls, floor.audio, floor.screen)
            == (scenario.calls, scenario.audio, scenario.screen)
    };
    let of_load = || floors.iter().filter(is_same);
    let Some(best) = of_load().find(|floor| floor.run_of.is_none()).cloned() else { return };
    let wanted = run.server.run_length_out.and_then(|mean| nearest_run(scenario, mean).ok());
    let distance = |floor: &PacedFloor, mean: f64| (floor.run_length / mean - 1.0).abs();
    let alike = wanted.and_then(|mean| {
        let nearest = of_load().min_by(|a, b| distance(a, mean).total_cmp(&distance(b, mean)));
        nearest.filter(|floor| distance(floor, mean) <= ALIKE).cloned()
    });
    let cost = run.server.us_per_packet_out;
    let multiple = |floor: &PacedFloor| cost.map(|cost| cost / floor.us_per_packet_out);
    run.path_floor = Some(PathFloor {
        multiple: multiple(&best),
        multiple_alike: alike.as_ref().and_then(multiple),
        best,
        alike,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sluice_engine::srtp::{InboundSrtp, PacketIndex};

    use super::*;
    use crate::result::ServerUse;

    /// 2 calls of 3: one of each speaks and shares a screen of 6 packets a frame.
    fn scenario() -> Scenario {
        let text = "name = 'test'\n\
            calls = { calls = 2, participants = 3, unmuted = 1, screens = 1 }\n\
            screen = { spread_ms = 0, cut = 'full_and_tail' }";
        toml::from_str(text).unwrap()
    }

    fn receiver() -> (UdpSocket, SocketAddrV4) {
        let socket = bind(Ipv4Addr::LOCALHOST).unwrap();
        let address = on_loopback(&socket.local_addr().unwrap());
        (socket, address)
    }

    #[test]
    fn everybody_else_in_the_call_gets_every_packet_once_under_a_key_of_their_own() {
        let scenario = scenario();
        let kinds = timetable::kinds(&scenario).unwrap();
        let streams = timetable::streams(&kinds, 2);
        let (receivers, addresses): (Vec<_>, Vec<_>) = (0..6).map(|_| receiver()).unzip();
        let names = Names::new(&addresses);
        let socket = bind(Ipv4Addr::LOCALHOST).unwrap();
        let mut outbox = Outbox::new(&socket, &names);
        let mut server = Server::new(&scenario, kinds.clone(), &streams);
        let length = Duration::from_millis(100);
        let bursts = bursts(&kinds, &streams, Some(1.5), length, 3).unwrap();
        let done = server.perform(&bursts, &socket, &mut outbox).unwrap();
        assert!(done.elapsed >= Duration::from_nanos(bursts.last().unwrap().due_ns));
        // 5 packets of audio and 3 frames of 6, for 2 receivers of each of 2 calls.
        assert_eq!(done.sample.packets, 4 * (5 + 3 * 6));
        assert_eq!(done.sample.messages, 2 * bursts.len() as u64);
        assert!(done.sample.error.is_none(), "{:?}", done.sample.error);
        for (person, receiver) in (0..).zip(receivers) {
            let mut srtp = InboundSrtp::new(PROFILE, &master_key(person));
            let mut states = BTreeMap::new();
            let mut packet = [0; 2_048];
            while let Ok(len) = receiver.recv(&mut packet) {
                let ssrc = packet[8..12].to_vec();
                let (state, count) = states.entry(ssrc).or_insert((PacketIndex::new(), 0));
                let opened = srtp.open_rtp(state, &mut packet[..len], 12).unwrap();
                assert_eq!(opened.index.0, *count, "in order, each index once");
                *count += 1;
            }
            let mut counts: Vec<u64> = states.values().map(|(_, count)| *count).collect();
            counts.sort_unstable();
            // The first of each call is the one who sends.
            let expected: &[u64] = if person % 3 == 0 { &[] } else { &[5, 18] };
            assert_eq!(counts, expected, "person {person}");
        }
    }

    #[test]
    fn a_scenario_is_measured_with_each_mean_run_and_all_of_it_is_read() {
        let scenario = scenario();
        let plan =
            PacedPlan { run_of: vec![None, Some(1.5)], repeats: 2, seconds: 0.2, core: None };
        let mut notes = Vec::new();
        let found = measure_paced(&scenario, &plan, &mut notes, &mut |_| ()).unwrap();
        assert!(!notes.iter().any(|note| note.contains("were read")), "{notes:?}");
        assert_eq!(found.iter().map(|floor| floor.run_of).collect::<Vec<_>>(), plan.run_of);
        // 50 runs of audio and 30 of video a second at best.
        assert!((found[0].run_length - 230.0 / 80.0).abs() < 0.05, "{}", found[0].run_length);
        assert!((found[1].run_length - 1.5).abs() < 0.05, "{}", found[1].run_length);
        for floor in found {
            assert!(0.0 < floor.us_least && floor.us_least <= floor.us_per_packet_out);
            assert!(floor.us_per_packet_out <= floor.us_most && floor.cores > 0.0);
            assert!(floor.packets_per_s > 0.0);
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_what_can() {
        let refusal = |plan: PacedPlan| plan.check(&scenario()).unwrap_err();
        let run_of = |mean| PacedPlan { run_of: vec![Some(mean)], ..PacedPlan::default() };
        assert!(refusal(run_of(3.0)).contains("1.00 to 2.88"), "{}", refusal(run_of(3.0)));
        assert!(refusal(run_of(f64::NAN)).contains("1.00 to 2.88"));
        assert_eq!(run_of(2.88).check(&scenario()), Ok(()), "as it is printed");
        let long = PacedPlan { seconds: 60.0, ..PacedPlan::default() };
        assert!(refusal(long).contains("0.1 to 10"));
        let many = PacedPlan { repeats: 101, ..PacedPlan::default() };
        assert!(refusal(many).contains("1 to 100"));
        let most = nearest_run(&scenario(), 9.0).unwrap();
        assert!((most - 230.0 / 80.0).abs() < 1e-6, "{most}");
        assert_eq!(nearest_run(&scenario(), 0.5), Ok(1.0));
    }

    #[test]
    fn a_run_is_held_against_the_floors_of_its_own_load() {
        let floor = |run_of: Option<f64>, run_length, us_per_packet_out| PacedFloor {
            run_of,
            run_length,
            us_per_packet_out,
            ..Repeats { us: vec![1.0], ..Repeats::new(None) }.floor(&scenario()).unwrap()
        };
        let mut other = floor(None, 2.0, 0.5);
        other.calls.calls = 9;
        let floors = [
            other,
            floor(None, 2.875, 2.0),
            floor(Some(1.4), 1.4, 4.0),
            floor(Some(2.0), 2.0, 3.0),
        ];
        let server = ServerUse {
            us_per_packet_out: Some(6.0),
            run_length_out: Some(1.41),
            ..ServerUse::default()
        };
        let mut run = RunResult { scenario: Some(scenario()), server, ..RunResult::default() };
        hold_on_path(&mut run, &floors);
        let found = run.path_floor.take().unwrap();
        assert_eq!((found.multiple, found.multiple_alike), (Some(3.0), Some(1.5)));
        assert_eq!((found.best.run_length, found.alike.unwrap().run_length), (2.875, 1.4));
        run.server.run_length_out = Some(1.7);
        hold_on_path(&mut run, &floors);
        assert_eq!(run.path_floor.take().unwrap().alike, None, "no floor has such runs");
        hold_on_path(&mut run, &floors[..1]);
        assert_eq!(run.path_floor, None, "of another load");
    }
}
