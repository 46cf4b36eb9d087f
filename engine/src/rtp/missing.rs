//! Which packets of a publisher stream to ask for, and when again. Source: RFC 4585 §6.2.1 (generic
//! NACK).

use std::time::Duration;

use crate::clock::Instant;
use crate::ids::{ExtSeqNum, SeqNum};

/// The packets of one stream that have not come, in ascending order; at most
/// [`MissingList::ENTRIES_MAX`].
///
/// A packet is asked for after a short wait, since most gaps are reordering, then again about every
/// round trip. It is given up after [`ASKS_MAX`] asks, at the age of [`AGE_MAX`], or when the list
/// is full and it is the oldest. All that is given up is counted.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))] // a clone's list would have to grow
pub struct MissingList {
    entries: Vec<Entry>, // never beyond the capacity made by the first gap
    highest: Option<u64>,
    /// Packets that raised the highest index, wrapping.
    raises: u32,
    /// Which of the last eight raises left a gap, the newest in bit 0.
    gaps: u8,
    /// When `due` has to look at the list again, or earlier.
    deadline: Option<Instant>,
    given_up: u64,
    needs_keyframe: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u64,
    missed_at: Instant,
    ask_at: Instant,
    raises: u32,
    asks: u8,
}

/// How long a gap may be reordering before the first ask.
pub const REORDER_TOLERANCE: Duration = Duration::from_millis(10);

/// How many later packets say that a gap is loss: as many as TCP's duplicate acknowledgements (RFC
/// 5681 §3.2).
pub const LATER_PACKETS: u32 = 3;

/// How often one packet is asked for.
pub const ASKS_MAX: u8 = 10;

/// How long a packet is worth asking for: a decoder that waited longer has shown a freeze and wants
/// a key frame.
pub const AGE_MAX: Duration = Duration::from_secs(1);

/// The shortest wait between two asks.
pub const REPEAT_MIN: Duration = Duration::from_millis(50);

/// The wait between two asks while no round trip was measured.
pub const REPEAT_DEFAULT: Duration = Duration::from_millis(100);

impl Default for MissingList {
    fn default() -> Self {
        Self::new()
    }
}

impl MissingList {
    /// The most packets that are missed at a time.
    pub const ENTRIES_MAX: usize = 256;

    /// Makes an empty list. The first gap makes room for all it can ever hold (8 KiB, touched only as
    /// far as it is used).
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            highest: None,
            raises: 0,
            gaps: 0,
            deadline: None,
            given_up: 0,
            needs_keyframe: false,
        }
    }

    /// Takes note of a packet, by itself or recovered: it is not missing, and what it skipped is.
    ///
    /// A gap of more than [`MissingList::ENTRIES_MAX`] packets is given up at once with all that
    /// was missing before it.
    pub fn on_packet(&mut self, now: Instant, index: ExtSeqNum) {
        let index = index.0;
        let Some(highest) = self.highest else {
            self.highest = Some(index);
            return;
        };
        if index <= highest {
            if let Ok(position) = self.position(index) {
                self.entries.remove(position);
            }
            return;
        }
        self.highest = Some(index);
        self.raises = self.raises.wrapping_add(1);
        let skipped = index - highest - 1;
        self.gaps = self.gaps << 1 | u8::from(skipped > 0);
        if skipped > 0 {
            self.insert(now, highest + 1, index);
        }
        // The gap that this packet is the third after. If it was filled meanwhile, `due` finds
        // nothing.
        if self.gaps & 1 << (LATER_PACKETS - 1) != 0 {
            self.wake_at(now);
        }
    }

    /// Whether the packet was skipped, has not come and is not given up.
    pub fn is_missing(&self, index: ExtSeqNum) -> bool {
        self.position(index.0).is_ok()
    }

    /// Writes the packets to ask for at `now` into `out`, in ascending order of their indices, and
    /// returns how many.
    ///
    /// What does not fit stays due. `rtt` is the round trip to the publisher, if known.
    pub fn due(&mut self, now: Instant, rtt: Option<Duration>, out: &mut [SeqNum]) -> usize {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return 0;
        }
        let repeat = rtt.map_or(REPEAT_DEFAULT, |rtt| rtt.saturating_add(rtt / 2).max(REPEAT_MIN));
        let raises = self.raises;
        let before = self.entries.len();
        let mut asked = 0;
        let mut deadline: Option<Instant> = None;
        self.entries.retain_mut(|entry| {
            if entry.is_given_up(now) {
                return false;
            }
            if entry.is_due(now, raises)
                && let Some(room) = out.get_mut(asked)
            {
                *room = ExtSeqNum(entry.index).seq();
                asked += 1;
                entry.asks += 1;
                entry.ask_at = now + repeat;
            }
            let next = entry.ask_at.min(entry.missed_at + AGE_MAX);
            deadline = Some(deadline.map_or(next, |earliest| earliest.min(next)));
            true
        });
        self.deadline = deadline;
        if asked == out.len() && self.entries.iter().any(|entry| entry.is_due(now, raises)) {
            self.wake_at(now);
        }
        self.give_up((before - self.entries.len()) as u64);
        asked
    }

    /// When [`MissingList::due`] is to be called next; `None` while nothing is missing. May be
    /// early, is never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.entries.is_empty() { None } else { self.deadline }
    }

    /// How many packets were given up since the start.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether packets were given up since the last call: decoders can go on only from a key frame.
    pub fn take_needs_keyframe(&mut self) -> bool {
        std::mem::take(&mut self.needs_keyframe)
    }

    /// Adds the packets from `first` up to, but not including, `end`.
    fn insert(&mut self, now: Instant, first: u64, end: u64) {
        let room = Self::ENTRIES_MAX as u64;
        let skipped = end - first;
        if skipped > room {
            self.give_up(skipped + self.entries.len() as u64);
            self.entries.clear();
            return;
        }
        let excess = (self.entries.len() as u64 + skipped).saturating_sub(room);
        self.entries.drain(..excess as usize);
        self.give_up(excess);
        let ask_at = now + REORDER_TOLERANCE;
        self.entries.reserve_exact(Self::ENTRIES_MAX - self.entries.len());
        self.entries.extend((first..end).map(|index| Entry {
            index,
            missed_at: now,
            ask_at,
            raises: self.raises,
            asks: 0,
        }));
        self.wake_at(ask_at);
    }

    fn give_up(&mut self, packets: u64) {
        self.given_up = self.given_up.saturating_add(packets);
        self.needs_keyframe |= packets > 0;
    }

    fn wake_at(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    fn position(&self, index: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&index, |entry| entry.index)
    }
}

impl Entry {
    fn is_given_up(&self, now: Instant) -> bool {
        now.since(self.missed_at) >= AGE_MAX || self.asks >= ASKS_MAX && now >= self.ask_at
    }

    fn is_due(&self, now: Instant, raises: u32) -> bool {
        // The packet that showed the gap is the first later one.
        let later = raises.wrapping_sub(self.raises) + 1;
        now >= self.ask_at || self.asks == 0 && later >= LATER_PACKETS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn receive(list: &mut MissingList, now: Instant, indices: &[u64]) {
        for &index in indices {
            list.on_packet(now, ExtSeqNum(index));
        }
    }

    fn due(list: &mut MissingList, now: Instant, rtt_ms: u64) -> Vec<u16> {
        let mut out = [SeqNum(0); 300];
        let count = list.due(now, Some(Duration::from_millis(rtt_ms)), &mut out);
        out[..count].iter().map(|seq| seq.0).collect()
    }

    #[test]
    fn a_complete_stream_has_no_deadline() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[5, 6, 7, 8]);
        assert_eq!(list.next_deadline(), None);
        assert!(due(&mut list, at(5_000), 20).is_empty());
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reorder_tolerance() {
        let mut list = MissingList::new();
        receive(&mut list, at(100), &[65_534, 65_538]);
        assert!(list.is_missing(ExtSeqNum(65_535)) && list.is_missing(ExtSeqNum(65_537)));
        assert!(!list.is_missing(ExtSeqNum(65_534)) && !list.is_missing(ExtSeqNum(65_538)));
        assert_eq!(list.next_deadline(), Some(at(110)));
        assert!(due(&mut list, at(109), 20).is_empty());
        assert_eq!(due(&mut list, at(110), 20), [65_535, 0, 1]);
        assert!(due(&mut list, at(110), 20).is_empty());
    }

    #[test]
    fn three_later_packets_end_the_wait() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[1, 3]);
        assert!(due(&mut list, at(0), 20).is_empty());
        receive(&mut list, at(1), &[4]);
        assert!(due(&mut list, at(1), 20).is_empty());
        receive(&mut list, at(2), &[5]);
        assert_eq!(list.next_deadline(), Some(at(2)));
        assert_eq!(due(&mut list, at(2), 20), [2]);
    }

    #[test]
    fn a_late_packet_is_not_asked_for() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[1, 4, 3]);
        assert!(!list.is_missing(ExtSeqNum(3)));
        assert_eq!(due(&mut list, at(20), 20), [2]);
        receive(&mut list, at(21), &[2, 2]);
        assert_eq!(list.next_deadline(), None);
        assert!(due(&mut list, at(500), 20).is_empty());
        assert_eq!(list.given_up(), 0);
        assert!(!list.take_needs_keyframe());
    }

    #[test]
    fn asks_repeat_at_one_and_a_half_round_trips() {
        // (round trip, wait between asks)
        for (rtt, wait) in [(Some(10), 50), (Some(34), 51), (Some(200), 300), (None, 100)] {
            let mut list = MissingList::new();
            receive(&mut list, at(0), &[1, 3]);
            let rtt = rtt.map(Duration::from_millis);
            let mut out = [SeqNum(0); 4];
            assert_eq!(list.due(at(10), rtt, &mut out), 1);
            assert_eq!(list.next_deadline(), Some(at(10 + wait)));
            assert_eq!(list.due(at(9 + wait), rtt, &mut out), 0);
            assert_eq!(list.due(at(10 + wait), rtt, &mut out), 1, "round trip {rtt:?}");
        }
    }

    #[test]
    fn ten_asks_in_vain_give_up() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[1, 3]);
        let mut asks = Vec::new();
        while let Some(deadline) = list.next_deadline() {
            asks.extend(due(&mut list, deadline, 20).iter().map(|_| deadline));
        }
        assert_eq!(asks.len(), 10);
        assert_eq!(asks.last(), Some(&at(10 + 9 * 50)));
        assert_eq!(list.given_up(), 1);
        assert!(!list.is_missing(ExtSeqNum(2)));
        assert!(list.take_needs_keyframe());
        assert!(!list.take_needs_keyframe(), "told once");
    }

    #[test]
    fn a_packet_is_given_up_at_one_second() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[1, 3]);
        assert_eq!(due(&mut list, at(10), 400), [2]);
        assert_eq!(due(&mut list, at(610), 400), [2]);
        assert_eq!(list.next_deadline(), Some(at(1_000)));
        assert!(due(&mut list, at(1_000), 400).is_empty());
        assert_eq!(list.given_up(), 1);
        assert_eq!(list.next_deadline(), None);
    }

    #[test]
    fn what_does_not_fit_stays_due() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[1, 7]);
        let mut out = [SeqNum(0); 3];
        assert_eq!(list.due(at(10), None, &mut out), 3);
        assert_eq!(out, [SeqNum(2), SeqNum(3), SeqNum(4)]);
        assert_eq!(list.next_deadline(), Some(at(10)));
        assert_eq!(list.due(at(10), None, &mut out), 2);
        assert_eq!(out[..2], [SeqNum(5), SeqNum(6)]);
        assert_eq!(list.next_deadline(), Some(at(110)));
        assert_eq!(list.due(at(200), None, &mut []), 0);
        assert!(list.next_deadline().is_some_and(|deadline| deadline <= at(200)));
    }

    #[test]
    fn a_full_list_gives_up_the_oldest() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[0, 201]); // 1 to 200
        receive(&mut list, at(0), &[302]); // 202 to 301
        assert_eq!(list.given_up(), 44);
        assert!(list.take_needs_keyframe());
        assert!(!list.is_missing(ExtSeqNum(44)) && list.is_missing(ExtSeqNum(45)));
        assert_eq!(due(&mut list, at(10), 20).len(), MissingList::ENTRIES_MAX);
    }

    #[test]
    fn a_gap_beyond_the_bound_gives_up_everything() {
        let mut list = MissingList::new();
        receive(&mut list, at(0), &[0, 2, 2 + 257]);
        assert_eq!(list.given_up(), 1, "256 more fill the list, the oldest goes");
        assert_eq!(due(&mut list, at(10), 20).len(), 256);
        receive(&mut list, at(10), &[1_000, 1_258]);
        assert_eq!(list.given_up(), 1 + 256 + 740 + 257);
        assert!(list.take_needs_keyframe());
        assert_eq!(list.next_deadline(), None);
        receive(&mut list, at(20), &[1_000_000_000_000, 1_000_000_000_002]);
        assert_eq!(due(&mut list, at(30), 20), [1_000_000_000_001u64 as u16]);
    }

    /// Against a plain map: who is missing, how often asked, never twice within the wait, always
    /// ascending, never more room than it may take.
    #[test]
    fn random_streams_agree_with_a_plain_model() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut list = MissingList::new();
            let mut missing: BTreeMap<u64, (u8, u64)> = BTreeMap::new();
            let (mut highest, mut millis, mut model_given_up) = (1_000u64, 0u64, 0u64);
            list.on_packet(at(0), ExtSeqNum(highest));
            for _ in 0..2_000 {
                millis += rng.u64(0..8);
                let now = at(millis);
                if rng.u8(0..4) > 0 {
                    let index = highest + if rng.u8(0..10) == 0 { rng.u64(1..120) } else { 1 };
                    missing.extend((highest + 1..index).map(|index| (index, (0, 0))));
                    highest = index;
                    while missing.len() > MissingList::ENTRIES_MAX {
                        missing.pop_first();
                        model_given_up += 1;
                    }
                    list.on_packet(now, ExtSeqNum(index));
                } else {
                    let index = highest - rng.u64(0..300).min(highest);
                    missing.remove(&index);
                    list.on_packet(now, ExtSeqNum(index));
                }
                let given_up_before = list.given_up();
                let rtt = Some(Duration::from_millis(40));
                let mut eager = list.clone();
                eager.deadline = Some(at(0));
                let (mut out, mut eager_out) = ([SeqNum(0); 40], [SeqNum(0); 40]);
                let count = list.due(now, rtt, &mut out);
                let eager_count = eager.due(now, rtt, &mut eager_out);
                assert_eq!(
                    (&out[..count], list.given_up()),
                    (&eager_out[..eager_count], eager.given_up()),
                    "seed {seed}: the deadline was late"
                );
                let given_up_now = list.given_up() - given_up_before;
                let before = missing.len();
                missing.retain(|&index, _| list.is_missing(ExtSeqNum(index)));
                assert_eq!((before - missing.len()) as u64, given_up_now, "seed {seed}");
                model_given_up += given_up_now;
                let mut previous = 0;
                for &seq in &out[..count] {
                    let index = ExtSeqNum::nearest(seq, ExtSeqNum(highest)).0;
                    assert!(index > previous, "seed {seed}: not ascending");
                    previous = index;
                    let (asks, last) = missing.get_mut(&index).expect("asked for what is missing");
                    assert!(*asks == 0 || millis - *last >= 60, "seed {seed}: asked too soon");
                    *asks += 1;
                    *last = millis;
                    assert!(*asks <= ASKS_MAX, "seed {seed}");
                }
                assert_eq!(list.entries.len(), missing.len(), "seed {seed}");
                assert_eq!(list.given_up(), model_given_up, "seed {seed}");
                assert!(list.entries.capacity() <= MissingList::ENTRIES_MAX, "seed {seed}");
                assert!(
                    missing.is_empty() == list.next_deadline().is_none(),
                    "seed {seed}: {} missing, deadline {:?}",
                    missing.len(),
                    list.next_deadline()
                );
            }
            assert!(model_given_up > 0, "seed {seed}: the test is to reach the bounds");
        }
    }
}
