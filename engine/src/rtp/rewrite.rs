//! Publisher numbering → one leg's numbering: sequence numbers and timestamps.

use crate::clock::Instant;
use crate::ids::{ExtSeqNum, RtpTime, SeqNum};

use super::ticks;

/// Numbers one leg's packets.
///
/// The leg has one SSRC and one SRTP key, so an index it has used for one packet must never be used
/// for another, whatever the publisher sends (RFC 3711 §9.1, RFC 7714 §8.4). It holds because each
/// source owns the range from the index after all earlier ones up, and within it the distance
/// between packets is the publisher's: what the publisher's network lost stays a gap, which the
/// subscriber sees and can ask for.
#[derive(Clone, Debug)]
pub struct Rewriter {
    first_out: ExtSeqNum,
    current: Option<Source>,
    /// The next gap was made by us.
    skips_gap: bool,
}

/// How one publisher SSRC is mapped.
#[derive(Clone, Copy, Debug)]
struct Source {
    source: u32,
    first_in: u64,
    first_out: u64,
    highest_in: u64,
    /// Outgoing less incoming timestamp, wrapping.
    time_shift: u32,
    /// Outgoing timestamp of the packet with the highest index, and when it came.
    highest_time: RtpTime,
    highest_at: Instant,
}

/// The largest step from one outgoing index to the next. A receiver guesses the roll-over counter
/// right for steps below 2^15 (RFC 3711 §3.3.1); half of it leaves as much for what the
/// subscriber's network loses on top.
pub const STEP_MAX: u64 = 1 << 14;

/// SRTP indices have 48 bits; beyond them nonces would repeat. Source: RFC 3711 §3.3.1, §9.2.
const INDEX_END: u64 = 1 << 48;

impl Rewriter {
    /// Makes a rewriter whose first packet gets the index `first_out`.
    ///
    /// The caller chooses it at random below 2^15: if the first packets come reordered around the
    /// first roll-over, the receiver could not know that the counter starts at 0.
    pub fn new(first_out: ExtSeqNum) -> Self {
        Self { first_out, current: None, skips_gap: false }
    }

    /// Gives the packet `index` with `timestamp` of the publisher its numbers on this leg.
    ///
    /// `source` counts the publisher's SSRCs: it grows each time that the track goes on with
    /// another. A grown `source` continues after the last index, with the timestamp moved on by the
    /// time since then. So does one that skips more than [`STEP_MAX`], but its timestamps go on as
    /// they are, and the first after [`Rewriter::skip_gap`]. The same packet gets the same numbers each time.
    ///
    /// `None` for a packet of an earlier source, for one before the first of this source, and when
    /// the 48 bits are used up.
    pub fn rewrite(
        &mut self,
        source: u32,
        index: ExtSeqNum,
        timestamp: RtpTime,
        now: Instant,
        clock_rate_hz: u32,
    ) -> Option<(ExtSeqNum, RtpTime)> {
        let is_straggler = |at: Source| source == at.source && index.0 <= at.highest_in;
        let is_straggler = self.current.is_some_and(is_straggler);
        let next = match self.current {
            None => Source {
                source,
                first_in: index.0,
                first_out: self.first_out.0,
                highest_in: index.0,
                time_shift: 0,
                highest_time: timestamp,
                highest_at: now,
            },
            Some(current) if source < current.source => return None,
            Some(current) if source > current.source => {
                let elapsed = ticks(now.since(current.highest_at), clock_rate_hz).max(1);
                let time = current.highest_time.wrapping_add(elapsed);
                Source {
                    source,
                    time_shift: time.0.wrapping_sub(timestamp.0),
                    highest_time: time,
                    highest_at: now,
                    ..current.continued_at(index.0)
                }
            }
            Some(current) if index.0 < current.first_in => return None,
            Some(current) if index.0 <= current.highest_in => current,
            Some(current) => {
                let closes_gap = self.skips_gap || index.0 - current.highest_in > STEP_MAX;
                let current = if closes_gap { current.continued_at(index.0) } else { current };
                Source {
                    highest_in: index.0,
                    highest_time: timestamp.wrapping_add(current.time_shift),
                    highest_at: now,
                    ..current
                }
            }
        };
        let out = next.out(index.0);
        if out >= INDEX_END {
            return None;
        }
        self.current = Some(next);
        self.skips_gap &= is_straggler;
        Some((ExtSeqNum(out), timestamp.wrapping_add(next.time_shift)))
    }

    /// Lets the next new packet follow the highest index at once: what lies between was withheld from this leg, not lost.
    pub fn skip_gap(&mut self) {
        self.skips_gap = true;
    }

    /// The publisher's index, in the current source, of the packet that this leg's subscriber knows
    /// as `out`; for NACKs.
    pub fn inverse(&self, out: SeqNum) -> Option<ExtSeqNum> {
        let current = self.current?;
        let highest_out = current.out(current.highest_in);
        let out = ExtSeqNum::nearest(out, ExtSeqNum(highest_out)).0;
        let is_of_current = (current.first_out..=highest_out).contains(&out);
        is_of_current.then(|| ExtSeqNum(current.first_in + (out - current.first_out)))
    }

    /// The index on this leg of the current source's packet `index`; `None` beyond what was
    /// rewritten.
    pub fn out_index_of(&self, index: ExtSeqNum) -> Option<ExtSeqNum> {
        let current = self.current?;
        let is_of_current = (current.first_in..=current.highest_in).contains(&index.0);
        is_of_current.then(|| ExtSeqNum(current.out(index.0)))
    }

    /// The current source's `timestamp` as this leg has it; for retransmissions and sender reports.
    pub fn out_time_of(&self, timestamp: RtpTime) -> Option<RtpTime> {
        self.current.map(|current| timestamp.wrapping_add(current.time_shift))
    }

    /// Which of the publisher's SSRCs is the current one.
    pub fn source(&self) -> Option<u32> {
        self.current.map(|current| current.source)
    }

    /// The highest index given out.
    pub fn highest(&self) -> Option<ExtSeqNum> {
        self.current.map(|current| ExtSeqNum(current.out(current.highest_in)))
    }
}

impl Source {
    /// The outgoing index of `index`, which is not below the first.
    fn out(&self, index: u64) -> u64 {
        self.first_out.saturating_add(index - self.first_in)
    }

    /// The same with `index` mapped to the index after the highest, and nothing before it mapped.
    fn continued_at(self, index: u64) -> Self {
        Self {
            first_in: index,
            first_out: self.out(self.highest_in) + 1,
            highest_in: index,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    const RATE_HZ: u32 = 90_000;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    /// Rewrites with a timestamp of 100 times the index and returns plain numbers.
    fn rewrite(
        rewriter: &mut Rewriter,
        source: u32,
        index: u64,
        millis: u64,
    ) -> Option<(u64, u32)> {
        let time = RtpTime((index as u32).wrapping_mul(100));
        rewriter
            .rewrite(source, ExtSeqNum(index), time, at(millis), RATE_HZ)
            .map(|(out, time)| (out.0, time.0))
    }

    #[test]
    fn losses_and_reordering_stay_as_they_are() {
        let mut rewriter = Rewriter::new(ExtSeqNum(10));
        let cases = [
            (70_000, Some((10, 7_000_000))),
            (70_001, Some((11, 7_000_100))),
            (70_005, Some((15, 7_000_500))),
            (70_003, Some((13, 7_000_300))),
            (69_999, None), // before the first
            (70_005, Some((15, 7_000_500))),
        ];
        for (index, expected) in cases {
            assert_eq!(rewrite(&mut rewriter, 1, index, 0), expected, "index {index}");
        }
        assert_eq!(rewriter.highest(), Some(ExtSeqNum(15)));
    }

    #[test]
    fn another_source_continues_after_the_last_index_and_time() {
        let mut rewriter = Rewriter::new(ExtSeqNum(10));
        rewrite(&mut rewriter, 1, 500, 1_000);
        rewrite(&mut rewriter, 1, 503, 1_030);
        // Forty milliseconds are 3600 ticks.
        assert_eq!(rewrite(&mut rewriter, 2, 9, 1_070), Some((14, 50_300 + 3_600)));
        assert_eq!(rewrite(&mut rewriter, 2, 11, 1_080), Some((16, 53_900 + 200)));
        assert_eq!(rewriter.out_time_of(RtpTime(1_000)), Some(RtpTime(54_000)));
        assert_eq!(rewrite(&mut rewriter, 1, 504, 1_081), None, "straggler");
        assert_eq!(rewrite(&mut rewriter, 2, 8, 1_082), None, "before the switch");
        assert_eq!(rewrite(&mut rewriter, 7, 9, 1_080), Some((17, 54_101)), "at least one tick");
    }

    #[test]
    fn a_time_shift_wraps() {
        let mut rewriter = Rewriter::new(ExtSeqNum(0));
        let high = RtpTime(u32::MAX - 10);
        rewriter.rewrite(0, ExtSeqNum(1), high, at(0), RATE_HZ);
        let (_, time) =
            rewriter.rewrite(1, ExtSeqNum(1), RtpTime(4_000_000_000), at(1), RATE_HZ).unwrap();
        assert_eq!(time, RtpTime(79));
    }

    #[test]
    fn a_step_beyond_the_bound_is_closed() {
        let mut rewriter = Rewriter::new(ExtSeqNum(100));
        rewrite(&mut rewriter, 1, 1_000, 0);
        let far = 1_000 + STEP_MAX;
        assert_eq!(rewrite(&mut rewriter, 1, far, 0).unwrap().0, 100 + STEP_MAX);
        let farther = far + STEP_MAX + 1;
        let time = (farther as u32).wrapping_mul(100);
        assert_eq!(rewrite(&mut rewriter, 1, farther, 0), Some((101 + STEP_MAX, time)));
        assert_eq!(rewrite(&mut rewriter, 1, farther - 1, 0), None, "its index is taken");
        assert_eq!(rewriter.inverse(SeqNum(100)), None);
        assert_eq!(rewriter.out_index_of(ExtSeqNum(far)), None);
    }

    #[test]
    fn what_was_withheld_is_no_gap() {
        let mut rewriter = Rewriter::new(ExtSeqNum(10));
        rewriter.skip_gap();
        rewrite(&mut rewriter, 1, 100, 0);
        rewrite(&mut rewriter, 1, 104, 0);
        rewriter.skip_gap();
        assert_eq!(rewrite(&mut rewriter, 1, 102, 0), Some((12, 10_200)), "late, not withheld");
        assert_eq!(rewrite(&mut rewriter, 1, 200, 0), Some((15, 20_000)), "its time stays its own");
        assert_eq!(rewrite(&mut rewriter, 1, 150, 0), None, "withheld, and too late");
        assert_eq!(rewrite(&mut rewriter, 1, 202, 0), Some((17, 20_200)), "a loss is a gap");
        rewriter.skip_gap();
        assert_eq!(rewrite(&mut rewriter, 2, 7, 10), Some((18, 21_100)));
        assert_eq!(rewrite(&mut rewriter, 2, 9, 10), Some((20, 21_300)), "a loss is a gap");
    }

    #[test]
    fn indices_end_at_48_bits() {
        let mut rewriter = Rewriter::new(ExtSeqNum((1 << 48) - 2));
        assert!(rewrite(&mut rewriter, 1, 7, 0).is_some());
        assert!(rewrite(&mut rewriter, 1, 8, 0).is_some());
        assert_eq!(rewrite(&mut rewriter, 1, 9, 0), None);
        assert_eq!(rewrite(&mut rewriter, 2, 9, 0), None);
        assert_eq!(rewrite(&mut rewriter, 2, u64::MAX, 0), None);
        assert_eq!(rewriter.highest(), Some(ExtSeqNum((1 << 48) - 1)));
    }

    #[test]
    fn a_nacked_number_leads_back_to_the_publisher_index() {
        let mut rewriter = Rewriter::new(ExtSeqNum(32_000));
        assert_eq!(rewriter.inverse(SeqNum(32_000)), None, "nothing sent");
        for index in (0..=60_000).step_by(10_000) {
            rewrite(&mut rewriter, 1, index, 0);
        }
        // Out indices 32,000 to 92,000: the last went over the first roll-over.
        let cases = [
            (SeqNum((92_000u32 - 65_536) as u16), Some(60_000)),
            (SeqNum((70_000u32 - 65_536) as u16), Some(38_000)),
            (SeqNum(65_535), Some(33_535)),
            (SeqNum((92_001u32 - 65_536) as u16), None), // not sent yet
        ];
        for (seq, index) in cases {
            assert_eq!(rewriter.inverse(seq), index.map(ExtSeqNum), "{seq}");
        }
        rewrite(&mut rewriter, 2, 5, 0);
        assert_eq!(rewriter.inverse(SeqNum((92_001u32 - 65_536) as u16)), Some(ExtSeqNum(5)));
        assert_eq!(rewriter.inverse(SeqNum((92_000u32 - 65_536) as u16)), None, "earlier source");
        assert_eq!(rewriter.out_index_of(ExtSeqNum(5)), Some(ExtSeqNum(92_001)));
        assert_eq!(rewriter.out_index_of(ExtSeqNum(6)), None);
        assert_eq!(rewriter.out_index_of(ExtSeqNum(4)), None);
    }

    /// The invariant that SRTP's nonces stand on.
    #[test]
    fn no_index_is_ever_given_to_two_packets() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut rewriter = Rewriter::new(ExtSeqNum(rng.u64(0..1 << 15)));
            let mut given: HashMap<u64, (u32, u64)> = HashMap::new();
            let (mut source, mut millis) = (rng.u32(0..5), 0);
            let mut highest_in: HashMap<u32, u64> = HashMap::new();
            let mut last_highest = None;
            for _ in 0..2_000 {
                millis += rng.u64(0..30);
                let from = match rng.u8(0..100) {
                    0 => {
                        source += rng.u32(1..3);
                        source
                    }
                    1..=10 => rng.u32(0..=source),
                    _ => source,
                };
                let highest = highest_in.entry(from).or_insert_with(|| rng.u64(0..200_000));
                let index = match rng.u8(0..100) {
                    0..=59 => *highest + 1,
                    60..=69 => *highest + rng.u64(1..50),
                    70 => *highest + rng.u64(1..100_000),
                    71 => highest.saturating_sub(rng.u64(0..100_000)),
                    _ => highest.saturating_sub(rng.u64(0..60)),
                };
                *highest = index.max(*highest);
                if rng.u8(0..50) == 0 {
                    rewriter.skip_gap();
                }
                let rewritten = rewriter.rewrite(
                    from,
                    ExtSeqNum(index),
                    RtpTime(rng.u32(..)),
                    at(millis),
                    RATE_HZ,
                );
                let Some((out, _)) = rewritten else { continue };
                let before = given.insert(out.0, (from, index));
                assert!(
                    before.is_none_or(|packet| packet == (from, index)),
                    "seed {seed}: {out} for {before:?} and {:?}",
                    (from, index)
                );
                if let Some(last) = last_highest {
                    assert!(out.0 <= last + STEP_MAX, "seed {seed}: step from {last} to {out}");
                }
                last_highest = last_highest.max(Some(out.0));
                assert_eq!(rewriter.highest().map(|out| out.0), last_highest, "seed {seed}");
                assert_eq!(rewriter.out_index_of(ExtSeqNum(index)), Some(out), "seed {seed}");
                if last_highest.is_some_and(|last| last - out.0 < 1 << 15) {
                    assert_eq!(rewriter.inverse(out.seq()), Some(ExtSeqNum(index)), "seed {seed}");
                }
            }
            assert!(given.len() > 200, "seed {seed}: too few packets got through");
        }
    }
}
