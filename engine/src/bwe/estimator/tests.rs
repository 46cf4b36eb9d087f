//! The estimator behind a bottleneck: real feedback, made of real arrivals, parsed as it comes.

use super::super::feedback::ArrivalLog;
use super::super::sent::Stream;
use super::*;
use crate::ids::{SeqNum, Ssrc};
use crate::wire::rtcp::{self, Packet};

const BOUNDS: Bounds = Bounds { initial_bps: 250_000.0, min_bps: 250_000.0, max_bps: 3_750_000.0 };

const PACKET: usize = 1_000;
const DELAY: Duration = Duration::from_millis(25);

/// A link that carries `bps` and queues up to `queue` of time; what comes on top is lost.
struct Link {
    bps: f64,
    queue: Duration,
    free_at: Instant,
}

/// A sender, the link, and a receiver that answers with feedback.
struct Path {
    now: Instant,
    link: Link,
    estimator: SendSideEstimator,
    log: ArrivalLog,
    /// When the numbered packet arrives.
    on_the_way: Vec<(Instant, u16)>,
    owed: f64,
    rng: fastrand::Rng,
    /// Share of packets lost besides.
    loss: f64,
    sent: u64,
}

impl Path {
    fn new(bps: f64, queue_ms: u64) -> Self {
        let now = Instant::from_start(Duration::from_secs(500));
        Self {
            now,
            link: Link { bps, queue: Duration::from_millis(queue_ms), free_at: now },
            estimator: SendSideEstimator::new(BOUNDS),
            log: ArrivalLog::new(),
            on_the_way: Vec::new(),
            owed: 0.0,
            rng: fastrand::Rng::with_seed(11),
            loss: 0.0,
            sent: 0,
        }
    }

    /// Sends `bps` for `time`; without a rate, what the estimate says.
    fn run(&mut self, time: Duration, bps: Option<f64>) -> Estimate {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            let own = self.estimator.estimate().map_or(BOUNDS.initial_bps, |e| e.target_bps as f64);
            self.owed += bps.unwrap_or(own) / 1_000.0 / 8.0;
            while self.owed >= PACKET as f64 {
                self.owed -= PACKET as f64;
                self.send();
            }
            self.arrive();
            self.answer();
        }
        self.estimator.estimate().expect("packets arrived")
    }

    fn send(&mut self) {
        let seq = self.estimator.log.next_seq();
        self.estimator.log.on_sent(self.now, Stream::Leg(0), SeqNum(seq), PACKET);
        self.sent += 1;
        let start = self.link.free_at.max(self.now);
        if start.since(self.now) > self.link.queue || self.rng.f64() < self.loss {
            return;
        }
        let takes = Duration::from_secs_f64(PACKET as f64 * 8.0 / self.link.bps);
        self.link.free_at = start + takes;
        self.on_the_way.push((self.link.free_at + DELAY, seq));
    }

    fn arrive(&mut self) {
        let now = self.now;
        for (_, seq) in self.on_the_way.extract_if(.., |(at, _)| *at <= now) {
            self.log.on_packet(now, seq);
        }
    }

    fn answer(&mut self) {
        let mut statuses = [None; 256];
        while let Some(plan) = self.log.build(self.now, &mut statuses) {
            let feedback = twcc::Feedback {
                sender: Ssrc(1),
                media: Ssrc(2),
                base_seq: plan.base_seq,
                reference_time: plan.reference_time,
                feedback_count: plan.feedback_count,
                statuses: &statuses[..plan.count],
            };
            let mut bytes = [0; 1_200];
            let len = twcc::write(&mut bytes, &feedback).expect("room");
            let unknown = tell(&mut self.estimator, self.now, &bytes[..len]);
            assert_eq!(unknown, 0, "all of it was sent");
        }
    }
}

fn tell(estimator: &mut SendSideEstimator, now: Instant, compound: &[u8]) -> u64 {
    let Some(Ok(Packet::TransportCc(view))) = rtcp::packets(compound).next() else {
        panic!("not feedback");
    };
    estimator.on_feedback(now, &view, Some(2 * DELAY))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_wide_path_is_estimated_a_half_above_what_is_sent() {
    let mut path = Path::new(10e6, 200);
    let estimate = path.run(30 * SECOND, Some(500_000.0));
    assert!((700_000..=800_000).contains(&estimate.target_bps), "{estimate:?}");
    assert_eq!(estimate.loss_bps, 3_750_000, "nothing is lost");
}

#[test]
fn what_is_sent_by_the_estimate_finds_the_bottleneck() {
    for (bps, queue_ms) in [(1.2e6, 200), (1.2e6, 1_000), (2.5e6, 100), (600_000.0, 300)] {
        let mut path = Path::new(bps, queue_ms);
        path.run(40 * SECOND, None);
        let mut total = 0.0;
        for _ in 0..20 {
            total += path.run(SECOND, None).target_bps as f64 / 20.0;
        }
        let share = total / bps;
        assert!((0.6..=1.15).contains(&share), "{share} of {bps} bit/s behind {queue_ms} ms");
    }
}

#[test]
fn too_much_for_the_path_brings_both_parts_down() {
    let mut path = Path::new(1e6, 200);
    path.run(10 * SECOND, Some(500_000.0));
    path.estimator.restart_at(2_500_000);
    let at_once = path.estimator.estimate().expect("measured");
    assert_eq!((at_once.delay_bps, at_once.loss_bps), (2_500_000, 2_500_000.max(at_once.loss_bps)));
    let after = path.run(3 * SECOND, Some(2.5e6));
    assert!(after.delay_bps < 1_000_000, "{after:?}");
    assert!(after.loss_bps < 1_000_000, "{after:?}");
}

#[test]
fn delay_gives_warning_before_anything_is_lost() {
    let mut path = Path::new(1e6, 10_000);
    path.run(10 * SECOND, Some(500_000.0));
    path.estimator.restart_at(2_500_000);
    let after = path.run(2 * SECOND, Some(1.5e6));
    assert!(after.delay_bps < 1_000_000 && after.loss_bps >= 2_500_000, "{after:?}");
}

#[test]
fn random_loss_moves_the_loss_based_part_alone() {
    let mut path = Path::new(10e6, 200);
    path.loss = 0.3;
    let estimate = path.run(20 * SECOND, Some(1e6));
    assert_eq!(estimate.loss_bps, 250_000);
    assert!(estimate.delay_bps > 600_000, "{estimate:?}");
}

#[test]
fn without_feedback_there_is_no_estimate() {
    let mut estimator = SendSideEstimator::new(BOUNDS);
    assert_eq!(estimator.estimate(), None);
    estimator.restart_at(1_000_000);
    assert_eq!(estimator.estimate(), None);
}

#[test]
fn reference_times_stay_on_one_line_when_they_wrap() {
    let mut estimator = SendSideEstimator::new(BOUNDS);
    let start = estimator.unwrapped(0x00FF_FFFE);
    for (reference, units) in [(0x00FF_FFFF, 1), (0, 2), (5, 7), (0x00FF_FFFE, 0), (1, 3)] {
        let ticks = estimator.unwrapped(reference) - start;
        assert_eq!(ticks, units * REFERENCE_TICKS, "{reference:x}");
    }
    for _ in 0..2_000_000 {
        let before = estimator.reference.expect("set");
        let step = (before / REFERENCE_TICKS) as u32;
        estimator.unwrapped(step.wrapping_add(0x007F_FFFF) & 0x00FF_FFFF);
    }
    assert!(estimator.reference.is_some_and(|reference| reference <= REFERENCE_MAX));
}

#[test]
fn feedback_of_a_liar_does_no_harm() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut estimator = SendSideEstimator::new(BOUNDS);
    let mut now = Instant::from_start(Duration::from_secs(1));
    let mut unknown = 0;
    for _ in 0..5_000 {
        now = now + Duration::from_millis(rng.u64(0..50));
        for _ in 0..rng.usize(0..4) {
            let seq = SeqNum(rng.u16(..));
            estimator.log.on_sent(now, Stream::Leg(rng.u32(0..3)), seq, rng.usize(0..1_500));
        }
        let statuses: Vec<_> =
            (0..rng.usize(1..2_000)).map(|_| rng.bool().then(|| rng.i16(..))).collect();
        let base = estimator.log.next_seq().wrapping_sub(rng.u16(0..50));
        let feedback = twcc::Feedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_seq: if rng.bool() { base } else { rng.u16(..) },
            reference_time: rng.u32(..),
            feedback_count: rng.u8(..),
            statuses: &statuses,
        };
        let mut bytes = vec![0; 10_000];
        let len = twcc::write(&mut bytes, &feedback).expect("room");
        unknown += tell(&mut estimator, now, &bytes[..len]);
        if let Some(estimate) = estimator.estimate() {
            assert!((250_000..=3_750_000).contains(&estimate.target_bps), "{estimate:?}");
        }
    }
    assert!(unknown > 0 && estimator.estimate().is_some());
}
