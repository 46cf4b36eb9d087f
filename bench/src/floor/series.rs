//! The runs of one point, and the figure they give.

use std::time::Duration;

use super::Shape;
use super::cpu::Cores;
use super::link::{Link, Run};
use super::work::{Sample, Sender};
use crate::result::FloorPoint;

/// All runs of one shape to one target.
pub struct Series<'a> {
    target: Target<'a>,
    shape: Shape,
    /// CPU nanoseconds by the packet, of each run.
    ns: Vec<f64>,
    totals: Totals,
    /// Why it has no figure.
    refused: Option<String>,
}

/// What becomes of packets that were sealed.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// Nothing.
    Sealing,
    /// They are sent there.
    Link(&'a Link),
}

/// Sums over all runs.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Totals {
    packets: u64,
    messages: u64,
    failed: u64,
    read: Option<u64>,
    counted: Option<u64>,
}

/// The share of packets that has to be read, lest a note says so.
const READ_SHARE_MIN: f64 = 0.99;

/// Packets that a device may count beside ours: multicast of the kernel itself, when a device comes up.
const STRAY_PACKETS_MAX: u64 = 32;

impl<'a> Series<'a> {
    pub fn new(target: Target<'a>, shape: Shape) -> Self {
        Self { target, shape, ns: Vec::new(), totals: Totals::default(), refused: None }
    }

    /// Runs without a figure. A refusal counts.
    pub fn warm_up(&mut self, sender: &mut Sender, cores: &Cores, length: Duration) {
        self.run(sender, cores, length);
        self.ns.clear();
        self.totals = Totals::default();
    }

    /// Runs once, unless it was refused earlier.
    pub fn run(&mut self, sender: &mut Sender, cores: &Cores, length: Duration) {
        if self.refused.is_some() {
            return;
        }
        let run = match self.target {
            Target::Sealing => {
                let sample = sender.seal_for(self.shape, length);
                Ok(Run { sample, read: None, counted: None })
            }
            Target::Link(link) => link.run(sender, cores, self.shape, length),
        };
        match run {
            Ok(run) => self.note(&run),
            Err(reason) => self.refused = Some(reason),
        }
    }

    /// Forgets all but the first `rounds` figures.
    pub fn truncate(&mut self, rounds: u32) {
        self.ns.truncate(rounds as usize);
    }

    fn note(&mut self, run: &Run) {
        let Sample { packets, messages, failed, error, cpu } = &run.sample;
        let totals = &mut self.totals;
        totals.packets += packets;
        totals.messages += messages;
        totals.failed += failed;
        totals.read = run.read.map(|read| read + totals.read.unwrap_or(0));
        totals.counted = run.counted.map(|counted| counted + totals.counted.unwrap_or(0));
        if let Some(error) = error {
            let Totals { failed, messages, .. } = *totals;
            self.refused = Some(format!("{failed} of {messages} sends failed: {error}"));
            return;
        }
        if run.counted.is_some_and(|counted| counted < *messages) {
            self.refused = Some(format!(
                "the device counted {} of {packets} packets in {messages} sends",
                run.counted.unwrap_or(0)
            ));
            return;
        }
        self.ns.push(cpu.as_nanos() as f64 / *packets as f64);
    }

    fn title(&self) -> String {
        match self.target {
            Target::Sealing => format!("sealing, {}", self.shape),
            Target::Link(link) => format!("{}, {}", link.name(), self.shape),
        }
    }
}

impl Totals {
    /// What makes a figure mean something else than it seems to.
    fn reservations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let share = self.read.map(|read| read as f64 / self.packets as f64);
        if let Some(share) = share.filter(|&share| share < READ_SHARE_MIN) {
            found.push(format!(
                "{:.1} % of the packets were read, the others found full sockets, which costs less",
                share * 100.0
            ));
        }
        if self.counted.is_some_and(|counted| counted + STRAY_PACKETS_MAX < self.packets) {
            found.push("the device took runs whole".to_owned());
        }
        found
    }
}

/// The points that have figures; what is to be said of them and of the others goes to `notes`.
pub fn points(all: &[Series<'_>], peers: u32, notes: &mut Vec<String>) -> Vec<FloorPoint> {
    for series in all {
        let reservations = series.totals.reservations();
        let reasons = series.refused.iter().chain(&reservations);
        notes.extend(reasons.map(|reason| format!("{}: {reason}", series.title())));
    }
    let sealing = |shape: Shape| {
        let mut series = all.iter().filter(|series| matches!(series.target, Target::Sealing));
        series.find(|series| series.shape == shape).and_then(|series| spread(&series.ns))
    };
    let sent = all.iter().filter(|series| series.refused.is_none());
    let point = |series: &Series<'_>| {
        let Target::Link(link) = series.target else { return None };
        let (least, median, most) = spread(&series.ns)?;
        let (_, ns_sealing, _) = sealing(series.shape)?;
        Some(FloorPoint {
            device: link.name().to_owned(),
            payload_bytes: series.shape.payload_bytes,
            run: series.shape.run,
            peers,
            ns_per_packet: median,
            ns_least: least,
            ns_most: most,
            ns_sealing,
        })
    };
    sent.filter_map(point).collect()
}

/// Least, median and most; the middle of the two in the middle when there are two.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let is_odd = sorted.len() % 2 == 1;
    let median = if is_odd { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
    Some((least, median, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { payload_bytes: 200, run: 2 };

    fn run(packets: u64, failed: u64, read: Option<u64>, counted: Option<u64>) -> Run {
        let error = (failed > 0).then(|| std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        let cpu = Duration::from_micros(packets);
        Run { sample: Sample { packets, messages: packets / 2, failed, error, cpu }, read, counted }
    }

    #[test]
    fn the_median_stands_between_least_and_most() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_failed_send_refuses_the_point_and_says_how_many() {
        let mut series = Series::new(Target::Sealing, SHAPE);
        series.note(&run(100, 0, None, None));
        assert_eq!((series.ns.as_slice(), &series.refused), ([1_000.0].as_slice(), &None));
        series.note(&run(96, 3, None, None));
        assert!(series.refused.as_ref().is_some_and(|why| why.contains("3 of 98 sends failed")));
        let mut notes = Vec::new();
        assert!(points(&[series], 1, &mut notes).is_empty());
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn packets_that_never_reached_the_device_refuse_the_point() {
        let mut series = Series::new(Target::Sealing, SHAPE);
        series.note(&run(100, 0, None, Some(49)));
        assert!(series.refused.is_some_and(|why| why.contains("counted 49 of 100")));
    }

    #[test]
    fn a_reader_that_falls_behind_and_a_device_that_splits_are_told() {
        let mut series = Series::new(Target::Sealing, SHAPE);
        series.note(&run(1_000, 0, Some(995), None));
        assert!(series.totals.reservations().is_empty());
        series.note(&run(1_000, 0, Some(500), None));
        assert!(series.totals.reservations()[0].starts_with("74.8 %"));
        let mut series = Series::new(Target::Sealing, SHAPE);
        series.note(&run(1_000, 0, None, Some(1_000)));
        assert!(series.totals.reservations().is_empty());
        series.note(&run(1_000, 0, None, Some(500)));
        assert_eq!(series.totals.reservations(), ["the device took runs whole"]);
    }
}
