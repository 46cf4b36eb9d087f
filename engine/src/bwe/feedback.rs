//! Arrival log → transport-wide feedback. Source:
//! draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.

use std::time::Duration;

use crate::clock::Instant;
use crate::ids::{ExtSeqNum, SeqNum};
use crate::rtp::index_set::IndexSet;

/// When the packets of one publishing session arrived, by transport-wide sequence number; the last
/// [`ArrivalLog::WINDOW`] of them.
///
/// A packet that arrives after it was reported lost is reported again, with all that follow it:
/// senders keep what was reported lost (and forget what was reported received), so that reordering
/// across a report does not look like loss to their rate control. More than [`REPORT_AGAIN_MAX`]
/// packets late it is ignored, which bounds the work a sender can cause.
#[derive(Clone, Debug)]
pub struct ArrivalLog {
    /// Made by the first packet: most sessions publish nothing.
    window: Option<Box<Window>>,
    /// The first number that is not reported, and the highest that came; `None` before the first
    /// packet.
    range: Option<Range>,
    round: Option<Round>,
    /// Before it no report is due, however many numbers wait.
    not_before: Instant,
    feedback_count: u8,
}

#[derive(Clone, Debug)]
struct Window {
    /// In ticks; valid where `received` says so.
    arrivals: [u32; ArrivalLog::WINDOW as usize],
    received: IndexSet<WINDOW_WORDS>,
}

impl Window {
    fn new() -> Self {
        Self { arrivals: [0; ArrivalLog::WINDOW as usize], received: IndexSet::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    next: u64,
    highest: u64,
}

/// What collects between two reports.
#[derive(Clone, Copy, Debug)]
struct Round {
    deadline: Instant,
    packets: u32,
}

/// The header of one feedback packet; the statuses are in the caller's slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feedback {
    /// Transport-wide sequence number of the first status.
    pub base_seq: u16,
    /// Multiples of 64 ms on our clock, 24 bits, wrapping. The first delta counts from here.
    pub reference_time: u32,
    /// Counts feedback packets, wrapping.
    pub feedback_count: u8,
    /// How many statuses were written.
    pub count: usize,
}

/// The unit of deltas: 250 us. Source: draft §3.1.5.
pub const TICK: Duration = Duration::from_micros(250);

/// A reference time has 64 ms, that is 256 ticks. Its 24 bits and this shift are 32 bits: ticks
/// wrap together with it.
const REFERENCE_SHIFT: u32 = 8;

/// How long arrivals collect for one report: as libwebrtc's default, which senders' estimators are
/// tuned to.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// The same at more than about a thousand packets a second, where a faster answer costs little in
/// comparison.
pub const INTERVAL_BUSY: Duration = Duration::from_millis(50);

/// The least time between two reports: a sender whose numbers jump must not have a window of losses reported for each packet.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Packets within one interval that make it a busy one.
const BUSY_PACKETS: u32 = 64;

/// Unreported numbers at which a report is due at once: half the window, so that none leaves it
/// unreported.
const PENDING_MAX: u64 = ArrivalLog::WINDOW / 2;

/// How late a packet may come to be reported after all.
pub const REPORT_AGAIN_MAX: u64 = 256;

const WINDOW_WORDS: usize = 32;

impl Default for ArrivalLog {
    fn default() -> Self {
        Self::new()
    }
}

impl ArrivalLog {
    /// How many consecutive numbers are remembered.
    pub const WINDOW: u64 = IndexSet::<WINDOW_WORDS>::WINDOW;

    /// Makes an empty log. The first packet takes 8 KiB of memory.
    pub fn new() -> Self {
        Self {
            window: None,
            range: None,
            round: None,
            not_before: Instant::default(),
            feedback_count: 0,
        }
    }

    /// Takes note of a packet that carries `transport_seq`. Of duplicates the first arrival counts.
    pub fn on_packet(&mut self, now: Instant, transport_seq: u16) {
        let mut range = self.range.unwrap_or_else(|| {
            // A cycle above zero, so that what was sent before the first to come has a number, too.
            let first = (1 << 16) + u64::from(transport_seq);
            Range { next: first, highest: first }
        });
        let index = ExtSeqNum::nearest(SeqNum(transport_seq), ExtSeqNum(range.highest)).0;
        let window = self.window.get_or_insert_with(|| Box::new(Window::new()));
        if index > range.highest {
            window.received.advance(range.highest, index);
            range.highest = index;
            // What was skipped so far that it left the window cannot be reported any more.
            range.next = range.next.max(index - (Self::WINDOW - 1));
        } else if range.highest - index >= Self::WINDOW
            || index + REPORT_AGAIN_MAX < range.next
            || window.received.contains(index)
        {
            return;
        }
        range.next = range.next.min(index);
        self.range = Some(range);
        window.received.insert(index);
        window.arrivals[Self::position(index)] = ticks(now);

        let mut round = self.round.unwrap_or(Round { deadline: now + INTERVAL, packets: 0 });
        round.packets += 1;
        if round.packets == BUSY_PACKETS {
            round.deadline = round.deadline - (INTERVAL - INTERVAL_BUSY);
        }
        if range.highest - range.next >= PENDING_MAX {
            round.deadline = round.deadline.min(self.not_before.max(now));
        }
        self.round = Some(round);
    }

    /// Builds the next feedback packet if one is due; to be called until it says `None`.
    ///
    /// Writes one status per sequence number from `base_seq` on: `None` for a packet that has not
    /// come, else the ticks of [`TICK`] since the packet with the last status that is not `None`,
    /// or since the reference time. A packet ends where `statuses` does, or before a delta that
    /// does not fit. Its last statuses may be `None`, and in a long loss all of them.
    pub fn build(&mut self, now: Instant, statuses: &mut [Option<i16>]) -> Option<Feedback> {
        let (range, window) = (self.range?, self.window.as_ref()?);
        if now < self.next_deadline()? || statuses.is_empty() {
            return None;
        }
        let mut last_tick: Option<u32> = None;
        let mut reference_time = 0;
        let mut count = 0;
        for (index, status) in (range.next..=range.highest).zip(statuses.iter_mut()) {
            *status = None;
            if window.received.contains(index) {
                let tick = window.arrivals[Self::position(index)];
                let last = last_tick.unwrap_or_else(|| {
                    reference_time = tick >> REFERENCE_SHIFT;
                    reference_time << REFERENCE_SHIFT
                });
                let Ok(delta) = i16::try_from(tick.wrapping_sub(last) as i32) else { break };
                *status = Some(delta);
                last_tick = Some(tick);
            }
            count += 1;
        }
        if last_tick.is_none() {
            // Nothing but losses: any time is right, ours keeps the reference times in order.
            reference_time = ticks(now) >> REFERENCE_SHIFT;
        }
        let feedback = Feedback {
            base_seq: range.next as u16,
            reference_time,
            feedback_count: self.feedback_count,
            count,
        };
        self.feedback_count = self.feedback_count.wrapping_add(1);
        let next = range.next + count as u64;
        self.range = Some(Range { next, ..range });
        if next > range.highest {
            self.not_before = now + INTERVAL_MIN;
            self.round = None;
        }
        Some(feedback)
    }

    /// When [`ArrivalLog::build`] is to be called next; `None` while nothing arrives.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.round.map(|round| round.deadline)
    }

    fn position(index: u64) -> usize {
        (index % Self::WINDOW) as usize
    }
}

/// `now` in ticks, wrapping.
fn ticks(now: Instant) -> u32 {
    (now.as_nanos() / TICK.as_nanos() as u64) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn build_all(log: &mut ArrivalLog, now: Instant) -> Vec<(Feedback, Vec<Option<i16>>)> {
        let mut statuses = [Some(99); 400];
        let mut all = Vec::new();
        while let Some(feedback) = log.build(now, &mut statuses) {
            all.push((feedback, statuses[..feedback.count].to_vec()));
        }
        all
    }

    #[test]
    fn a_report_tells_losses_and_deltas() {
        let mut log = ArrivalLog::new();
        // (sequence number, arrival in ms)
        for (seq, millis) in [(65_534, 130), (65_535, 140), (2, 141), (1, 150), (1, 199)] {
            log.on_packet(at(millis), seq);
        }
        assert_eq!(log.next_deadline(), Some(at(230)));
        assert_eq!(log.build(at(229), &mut [None; 10]), None);
        let expected =
            Feedback { base_seq: 65_534, reference_time: 2, feedback_count: 0, count: 5 };
        // 130 ms are 2 ms after the second 64 ms; 1 came 10 ms after 65,535, and 2 came 9 ms before
        // 1.
        let statuses = vec![Some(8), Some(40), None, Some(40), Some(-36)];
        assert_eq!(build_all(&mut log, at(230)), [(expected, statuses)]);
        assert_eq!(log.next_deadline(), None, "idle");
    }

    #[test]
    fn the_next_report_begins_after_the_last_and_tells_losses_between() {
        let mut log = ArrivalLog::new();
        log.on_packet(at(0), 10);
        build_all(&mut log, at(100));
        log.on_packet(at(150), 13);
        assert_eq!(log.next_deadline(), Some(at(250)));
        let (feedback, statuses) = build_all(&mut log, at(250)).remove(0);
        assert_eq!((feedback.base_seq, feedback.feedback_count), (11, 1));
        assert_eq!(statuses, [None, None, Some(88)]);
    }

    #[test]
    fn a_busy_sender_is_answered_sooner() {
        let mut log = ArrivalLog::new();
        for seq in 0..64 {
            log.on_packet(at(u64::from(seq) / 4), seq);
        }
        assert_eq!(log.next_deadline(), Some(at(50)));
        for seq in 64..1_025 {
            assert_eq!(log.next_deadline(), Some(at(50)), "{seq}");
            log.on_packet(at(17), seq);
        }
        assert_eq!(log.next_deadline(), Some(at(17)), "half the window is waiting");
    }

    #[test]
    fn a_delta_beyond_sixteen_bits_begins_another_packet() {
        // 32,767 ticks are 8191.75 ms.
        for (gap_us, packets) in [(8_191_750, 1), (8_192_000, 2), (600_000_000, 2)] {
            let mut log = ArrivalLog::new();
            log.on_packet(at(0), 1);
            log.on_packet(at(0) + Duration::from_micros(gap_us), 3);
            let reports = build_all(&mut log, at(700_000));
            assert_eq!(reports.len(), packets, "{gap_us} us");
            let statuses: Vec<_> = reports.iter().flat_map(|(_, statuses)| statuses).collect();
            assert_eq!(statuses.len(), 3);
            assert_eq!(statuses[1], &None);
        }
    }

    #[test]
    fn a_full_slice_begins_another_packet() {
        let mut log = ArrivalLog::new();
        for seq in 0..10 {
            log.on_packet(at(5), seq);
        }
        let mut statuses = [None; 4];
        let mut shapes = Vec::new();
        while let Some(feedback) = log.build(at(105), &mut statuses) {
            shapes.push((feedback.base_seq, feedback.feedback_count, feedback.count));
        }
        assert_eq!(shapes, [(0, 0, 4), (4, 1, 4), (8, 2, 2)]);
        log.on_packet(at(200), 10);
        assert_eq!(log.build(at(300), &mut []), None);
        assert!(log.build(at(300), &mut statuses).is_some());
    }

    #[test]
    fn a_late_packet_is_reported_again_with_its_followers() {
        let mut log = ArrivalLog::new();
        for seq in [100, 102, 103] {
            log.on_packet(at(64), seq);
        }
        build_all(&mut log, at(200));
        log.on_packet(at(192), 101);
        let (feedback, statuses) = build_all(&mut log, at(300)).remove(0);
        assert_eq!((feedback.base_seq, feedback.reference_time), (101, 3));
        assert_eq!(statuses, [Some(0), Some(-512), Some(0)]);
    }

    #[test]
    fn a_duplicate_of_a_reported_packet_causes_no_report() {
        let mut log = ArrivalLog::new();
        log.on_packet(at(0), 100);
        build_all(&mut log, at(100));
        log.on_packet(at(110), 100);
        assert_eq!(log.next_deadline(), None);
    }

    #[test]
    fn a_packet_that_is_very_late_is_ignored() {
        let mut log = ArrivalLog::new();
        log.on_packet(at(0), 1_000);
        log.on_packet(at(0), 1_300);
        build_all(&mut log, at(100));
        log.on_packet(at(110), 1_044);
        assert_eq!(log.next_deadline(), None);
        log.on_packet(at(110), 1_045);
        assert_eq!(build_all(&mut log, at(300))[0].0.base_seq, 1_045);
    }

    #[test]
    fn a_jump_over_the_window_reports_no_more_than_the_window() {
        let mut log = ArrivalLog::new();
        log.on_packet(at(0), 0);
        log.on_packet(at(1), 30_000);
        let reports = build_all(&mut log, at(1));
        let total: usize = reports.iter().map(|(feedback, _)| feedback.count).sum();
        assert_eq!(total as u64, ArrivalLog::WINDOW);
        assert_eq!(reports.last().unwrap().1.iter().flatten().count(), 1);
    }

    #[test]
    fn jumping_numbers_are_reported_every_ten_milliseconds_at_most() {
        let mut log = ArrivalLog::new();
        let mut reports = 0;
        for n in 0..1_000_u32 {
            log.on_packet(at(u64::from(n)), (n * 2_000) as u16);
            reports += usize::from(!build_all(&mut log, at(u64::from(n))).is_empty());
        }
        assert!((90..=101).contains(&reports), "{reports} reports in a second");
    }

    /// Decodes as a sender does and compares with what happened.
    #[test]
    fn random_arrivals_are_rebuilt_within_a_tick() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut log = ArrivalLog::new();
            // Reference times wrap after 2^24 × 64 ms: some runs start just before.
            let wrap_us = (1i64 << 24) * 64_000;
            let mut now_us =
                if rng.bool() { wrap_us as u64 - 3_000_000 } else { rng.u64(0..1 << 40) };
            let mut sent = rng.u64(65_536..300_000);
            let mut highest = sent;
            let mut arrived: HashMap<u64, u64> = HashMap::new();
            let mut waiting: Vec<u64> = Vec::new();
            let (mut told_received, mut feedback_count) = (HashSet::new(), 0u8);
            let mut statuses = [None; 100];
            for _ in 0..3_000 {
                now_us += match rng.u16(0..1_000) {
                    0 => rng.u64(0..30_000_000),
                    1..=20 => rng.u64(0..400_000),
                    _ => rng.u64(0..3_000),
                };
                let now = Instant::from_start(Duration::from_micros(now_us));
                sent += 1;
                match rng.u8(0..100) {
                    0..=9 => {}                    // lost
                    10..=19 => waiting.push(sent), // delayed
                    // A long loss, but together with what is pending within the window.
                    20 if sent - highest < 20 => sent += rng.u64(1..1_000),
                    _ => {
                        highest = sent;
                        arrived.insert(sent, now_us);
                        log.on_packet(now, sent as u16);
                    }
                }
                if rng.u8(0..10) == 0 && !waiting.is_empty() {
                    let late = waiting.swap_remove(rng.usize(0..waiting.len()));
                    if sent - late < 200 && arrived.keys().any(|&seq| seq > late) {
                        arrived.entry(late).or_insert(now_us);
                        log.on_packet(now, late as u16);
                    }
                }
                if log.next_deadline().is_none_or(|deadline| deadline > now) {
                    assert_eq!(log.build(now, &mut statuses), None, "seed {seed}: not due");
                    continue;
                }
                while let Some(feedback) = log.build(now, &mut statuses) {
                    assert_eq!(feedback.feedback_count, feedback_count, "seed {seed}");
                    feedback_count = feedback_count.wrapping_add(1);
                    assert!(feedback.reference_time < 1 << 24, "seed {seed}");
                    assert!((1..=100).contains(&feedback.count), "seed {seed}");
                    let base = ExtSeqNum::nearest(SeqNum(feedback.base_seq), ExtSeqNum(sent)).0;
                    let mut time_us = i64::from(feedback.reference_time) * 64_000;
                    for (seq, status) in (base..).zip(&statuses[..feedback.count]) {
                        let Some(delta) = status else {
                            assert!(!arrived.contains_key(&seq), "seed {seed}: {seq} not lost");
                            continue;
                        };
                        time_us += i64::from(*delta) * 250;
                        let arrival = arrived.get(&seq);
                        let arrival = arrival.unwrap_or_else(|| panic!("seed {seed}: {seq} lost"));
                        let error = (*arrival as i64 - time_us).rem_euclid(wrap_us);
                        assert!(error < 250, "seed {seed}: {seq} rebuilt {error} us off");
                        told_received.insert(seq);
                    }
                }
                assert_eq!(log.next_deadline(), None, "seed {seed}: drained");
                for seq in arrived.keys() {
                    assert!(told_received.contains(seq), "seed {seed}: {seq} never reported");
                }
            }
            assert!(told_received.len() > 1_500, "seed {seed}");
        }
    }
}
