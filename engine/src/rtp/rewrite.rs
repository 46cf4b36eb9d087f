//! Publisher numbering → one leg's numbering: sequence numbers and timestamps.

use crate::clock::Instant;
use crate::ids::{ExtSeqNum, RtpTime, SeqNum};
use crate::wire::payload::vp8::PictureNumbers;

use super::ticks;

/// Numbers one leg's packets.
///
/// The leg has one SSRC and one SRTP key, so an index it has used for one packet must never be used
/// for another, whatever the publisher sends (RFC 3711 §9.1, RFC 7714 §8.4). It holds because each
/// stretch, that is what the leg gets of one source without a break, owns the range from the index
/// after all earlier ones up, and within it the distance between packets is the publisher's: what
/// the publisher's network lost stays a gap, which the subscriber sees and can ask for.
#[derive(Clone, Debug)]
pub struct Rewriter {
    first_out: ExtSeqNum,
    current: Option<Stretch>,
    /// The one before: subscribers ask for its last packets when the leg has gone on already.
    former: Option<Stretch>,
    leaving: Option<Leaving>,
    /// The next gap was made by us.
    skips_gap: bool,
}

/// The numbers of one packet as the publisher has them.
#[derive(Clone, Copy, Debug)]
pub struct PacketNumbers {
    /// Which of the track's SSRCs it came on.
    pub source: u32,
    /// Its packet index.
    pub index: ExtSeqNum,
    /// Its timestamp.
    pub timestamp: RtpTime,
    /// Its picture numbers, of VP8 in simulcast; else zeros.
    pub picture: PictureNumbers,
}

/// The numbers of one packet as a leg has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LegNumbers {
    /// Its packet index.
    pub index: ExtSeqNum,
    /// Its timestamp.
    pub timestamp: RtpTime,
    /// Its picture numbers.
    pub picture: PictureNumbers,
}

/// How a stretch of packets of one publisher SSRC is mapped.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    source: u32,
    first_in: u64,
    first_out: u64,
    highest_in: u64,
    /// Outgoing less incoming timestamp, wrapping.
    time_shift: u32,
    /// The same for picture numbers.
    picture_shift: PictureNumbers,
    /// Outgoing timestamp and picture of the packet with the highest index, and when it came.
    highest_time: RtpTime,
    highest_picture: PictureNumbers,
    highest_at: Instant,
}

/// The leg goes on with whatever source comes next.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// Timestamp of the source that is left less that of the next, for what was captured at one
    /// moment; wrapping.
    offset: Option<u32>,
}

/// The largest step from one outgoing index to the next. A receiver guesses the roll-over counter
/// right for steps below 2^15 (RFC 3711 §3.3.1); half of it leaves as much for what the
/// subscriber's network loses on top.
pub const STEP_MAX: u64 = 1 << 14;

/// SRTP indices have 48 bits; beyond them nonces would repeat. Source: RFC 3711 §3.3.1, §9.2.
const INDEX_END: u64 = 1 << 48;

/// How far a known offset of timestamps may be from the time that passed, in seconds; one further
/// off comes from reports that make no sense.
const OFFSET_ERROR_MAX_S: u32 = 1;

impl Rewriter {
    /// Makes a rewriter whose first packet gets the index `first_out`.
    ///
    /// The caller chooses it at random below 2^15: if the first packets come reordered around the
    /// first roll-over, the receiver could not know that the counter starts at 0.
    pub fn new(first_out: ExtSeqNum) -> Self {
        Self { first_out, current: None, former: None, leaving: None, skips_gap: false }
    }

    /// The leg changes layers: the next packet to be rewritten, of whatever source, continues after
    /// the last index.
    ///
    /// `offset` is the timestamp of what was sent so far less that of what comes, for one moment of
    /// capture, wrapping, where the publisher's reports tell. Without it, or when it is more than a
    /// second off, the time since the last packet counts.
    pub fn leave(&mut self, offset: Option<u32>) {
        self.leaving = Some(Leaving { offset });
    }

    /// Gives a packet of the publisher its numbers on this leg.
    ///
    /// `source` counts the publisher's SSRCs: it grows each time that the track goes on with
    /// another. A grown `source` continues after the last index, with the timestamp moved on by the
    /// time since then. So does any after [`Rewriter::leave`], and one that skips more than
    /// [`STEP_MAX`] or is the first after [`Rewriter::skip_gap`], but then timestamps go on as they
    /// are. The same packet gets the same numbers each time.
    ///
    /// `None` for a packet of an earlier source, for one before the first of this source, and when
    /// the 48 bits are used up.
    pub fn rewrite(
        &mut self,
        packet: &PacketNumbers,
        now: Instant,
        clock_rate_hz: u32,
    ) -> Option<LegNumbers> {
        let index = packet.index.0;
        let Some(current) = self.current else {
            let first = Stretch::first(packet, self.first_out, now);
            return self.take(first, false, packet);
        };
        if let Some(Leaving { offset }) = self.leaving {
            return self.take(current.next(packet, offset, now, clock_rate_hz), true, packet);
        }
        if packet.source > current.source {
            return self.take(current.next(packet, None, now, clock_rate_hz), true, packet);
        }
        if packet.source < current.source || index < current.first_in {
            return None;
        }
        if index <= current.highest_in {
            return Some(current.numbers_of(packet));
        }
        let closes_gap = self.skips_gap || index - current.highest_in > STEP_MAX;
        let goes_on = if closes_gap { current.continued_at(index) } else { current };
        self.take(goes_on.reached(packet, now), closes_gap, packet)
    }

    /// Goes on with `stretch`, which follows the current one or is it, one packet on.
    fn take(
        &mut self,
        stretch: Stretch,
        follows: bool,
        packet: &PacketNumbers,
    ) -> Option<LegNumbers> {
        let numbers = stretch.numbers_of(packet);
        if numbers.index.0 >= INDEX_END {
            return None;
        }
        if follows {
            self.former = self.current;
        }
        self.current = Some(stretch);
        (self.leaving, self.skips_gap) = (None, false);
        Some(numbers)
    }

    /// Lets the next new packet follow the highest index at once: what lies between was withheld
    /// from this leg, not lost.
    pub fn skip_gap(&mut self) {
        self.skips_gap = true;
    }

    /// The source and the publisher's index of the packet that this leg's subscriber knows as
    /// `out`; for NACKs. Reaches back to the beginning of the stretch before the current one.
    pub fn inverse(&self, out: SeqNum) -> Option<(u32, ExtSeqNum)> {
        let current = self.current?;
        let out = ExtSeqNum::nearest(out, ExtSeqNum(current.out(current.highest_in))).0;
        self.stretches().find_map(|stretch| Some((stretch.source, stretch.inverse(out)?)))
    }

    /// The numbers on this leg of a packet that may have been rewritten before; `None` where it was
    /// not. For retransmissions.
    pub fn numbers_of(&self, packet: &PacketNumbers) -> Option<LegNumbers> {
        let stretch = self.stretches().find(|stretch| stretch.includes(packet))?;
        Some(stretch.numbers_of(packet))
    }

    fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.current.into_iter().chain(self.former)
    }

    /// The current source's `timestamp` as this leg has it; for sender reports. `None` while the
    /// leg goes from one source to another.
    pub fn out_time_of(&self, timestamp: RtpTime) -> Option<RtpTime> {
        let current = self.current.filter(|_| self.leaving.is_none())?;
        Some(timestamp.wrapping_add(current.time_shift))
    }

    /// The highest index given out.
    pub fn highest(&self) -> Option<ExtSeqNum> {
        self.current.map(|current| ExtSeqNum(current.out(current.highest_in)))
    }
}

impl Stretch {
    fn first(packet: &PacketNumbers, first_out: ExtSeqNum, now: Instant) -> Self {
        Self {
            source: packet.source,
            first_in: packet.index.0,
            first_out: first_out.0,
            highest_in: packet.index.0,
            time_shift: 0,
            picture_shift: PictureNumbers::default(),
            highest_time: packet.timestamp,
            highest_picture: packet.picture,
            highest_at: now,
        }
    }

    /// What follows when `packet` of another source, or after a break, is the next.
    fn next(
        self,
        packet: &PacketNumbers,
        offset: Option<u32>,
        now: Instant,
        clock_rate_hz: u32,
    ) -> Self {
        let elapsed = ticks(now.since(self.highest_at), clock_rate_hz).max(1);
        let expected = self.highest_time.wrapping_add(elapsed);
        let known = offset
            .map(|offset| packet.timestamp.wrapping_add(offset).wrapping_add(self.time_shift));
        let error_max = clock_rate_hz.saturating_mul(OFFSET_ERROR_MAX_S);
        let known = known.filter(|time| time.since(expected).unsigned_abs() <= error_max);
        // Two frames of one time would be taken for one.
        let earliest = self.highest_time.wrapping_add(1);
        let time = known.map_or(expected, |t| if t.since(earliest) < 0 { earliest } else { t });
        let picture_shift = packet.picture.shift_to_follow(self.highest_picture);
        Self {
            source: packet.source,
            time_shift: time.0.wrapping_sub(packet.timestamp.0),
            picture_shift,
            highest_time: time,
            highest_picture: packet.picture.moved_by(picture_shift),
            highest_at: now,
            ..self.continued_at(packet.index.0)
        }
    }

    /// The same with `packet`, which is not below the first, as the highest.
    fn reached(self, packet: &PacketNumbers, now: Instant) -> Self {
        let LegNumbers { timestamp, picture, .. } = self.numbers_of(packet);
        Self {
            highest_in: packet.index.0,
            highest_time: timestamp,
            highest_picture: picture,
            highest_at: now,
            ..self
        }
    }

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

    fn includes(&self, packet: &PacketNumbers) -> bool {
        self.source == packet.source && (self.first_in..=self.highest_in).contains(&packet.index.0)
    }

    /// The numbers of a packet that is not below the first.
    fn numbers_of(&self, packet: &PacketNumbers) -> LegNumbers {
        LegNumbers {
            index: ExtSeqNum(self.out(packet.index.0)),
            timestamp: packet.timestamp.wrapping_add(self.time_shift),
            picture: packet.picture.moved_by(self.picture_shift),
        }
    }

    fn inverse(&self, out: u64) -> Option<ExtSeqNum> {
        let is_own = (self.first_out..=self.out(self.highest_in)).contains(&out);
        is_own.then(|| ExtSeqNum(self.first_in + (out - self.first_out)))
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
        let numbers = rewriter.rewrite(&packet(source, index), at(millis), RATE_HZ)?;
        Some((numbers.index.0, numbers.timestamp.0))
    }

    /// A packet with a timestamp of 100 times the index and pictures that count from it.
    fn packet(source: u32, index: u64) -> PacketNumbers {
        PacketNumbers {
            source,
            index: ExtSeqNum(index),
            timestamp: RtpTime((index as u32).wrapping_mul(100)),
            picture: PictureNumbers { id: index as u16 & 0x7FFF, tl0: index as u8 },
        }
    }

    fn out_index_of(rewriter: &Rewriter, source: u32, index: u64) -> Option<u64> {
        rewriter.numbers_of(&packet(source, index)).map(|numbers| numbers.index.0)
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
        let at_time =
            |source, time| PacketNumbers { timestamp: RtpTime(time), ..packet(source, 1) };
        rewriter.rewrite(&at_time(0, u32::MAX - 10), at(0), RATE_HZ);
        let numbers = rewriter.rewrite(&at_time(1, 4_000_000_000), at(1), RATE_HZ).unwrap();
        assert_eq!(numbers.timestamp, RtpTime(79));
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
        assert_eq!(
            rewriter.inverse(SeqNum(100)),
            Some((1, ExtSeqNum(1_000))),
            "of before the step"
        );
        assert_eq!(out_index_of(&rewriter, 1, far), Some(100 + STEP_MAX));
        assert_eq!(out_index_of(&rewriter, 1, far + 1), None, "within the step");
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
            let expected = index.map(|index| (1, ExtSeqNum(index)));
            assert_eq!(rewriter.inverse(seq), expected, "{seq}");
        }
        let seq = |out: u32| SeqNum((out - 65_536) as u16);
        rewrite(&mut rewriter, 2, 5, 0);
        assert_eq!(rewriter.inverse(seq(92_001)), Some((2, ExtSeqNum(5))));
        assert_eq!(
            rewriter.inverse(seq(92_000)),
            Some((1, ExtSeqNum(60_000))),
            "of the one before"
        );
        assert_eq!(out_index_of(&rewriter, 1, 60_000), Some(92_000));
        assert_eq!(out_index_of(&rewriter, 2, 5), Some(92_001));
        assert_eq!(out_index_of(&rewriter, 2, 6), None);
        assert_eq!(out_index_of(&rewriter, 2, 4), None);
        rewrite(&mut rewriter, 3, 5, 0);
        assert_eq!(rewriter.inverse(seq(92_001)), Some((2, ExtSeqNum(5))));
        assert_eq!(rewriter.inverse(seq(92_000)), None, "two before");
    }

    #[test]
    fn a_leg_goes_to_another_layer_and_back() {
        let mut rewriter = Rewriter::new(ExtSeqNum(100));
        let low = |index| packet(2, index);
        let high = |index| packet(1, index);
        let send = |rewriter: &mut Rewriter, packet: PacketNumbers, millis| {
            rewriter.rewrite(&packet, at(millis), RATE_HZ)
        };
        let first = send(&mut rewriter, low(1_000), 0).unwrap();
        send(&mut rewriter, low(1_001), 10);
        assert_eq!(send(&mut rewriter, high(500), 11), None, "not without leaving");
        rewriter.leave(None);
        assert_eq!(rewriter.out_time_of(RtpTime(0)), None, "between two sources");
        let up = send(&mut rewriter, high(500), 20).unwrap();
        assert_eq!(up.index, ExtSeqNum(102));
        assert_eq!(up.timestamp, RtpTime(100_100 + 900), "ten milliseconds on");
        let follows = PictureNumbers { id: 1_002, tl0: 234 };
        assert_eq!((up.picture, first.picture.id), (follows, 1_000));
        assert_eq!(send(&mut rewriter, high(503), 30).map(|n| n.picture.id), Some(1_005));
        assert_eq!(rewriter.inverse(SeqNum(101)), Some((2, ExtSeqNum(1_001))));
        assert_eq!(rewriter.numbers_of(&low(1_000)), Some(first), "as it was sent");
        rewriter.leave(None);
        let down = send(&mut rewriter, low(1_040), 40).unwrap();
        assert_eq!((down.index, down.picture.id), (ExtSeqNum(106), 1_006));
        assert_eq!(send(&mut rewriter, low(1_039), 41), None, "before the switch");
        assert_eq!(send(&mut rewriter, low(1_001), 41), None, "sent before under another number");
        assert_eq!(send(&mut rewriter, low(1_041), 42).map(|n| n.index), Some(ExtSeqNum(107)));
    }

    #[test]
    fn a_known_offset_keeps_the_clock_of_the_layer_that_is_left() {
        // The layer that is left had timestamp 100,100 at 10 ms; the next has 50,000 at 20 ms.
        let cases = [
            (Some(52_000_u32), 102_000), // captured 21 ms after it, by the reports
            (Some(50_100), 100_101),     // the same frame: one tick later
            (Some(40_000), 100_101),     // an earlier one
            (Some(50_000 + 1_000 + 90_000), 191_000), // a second off at the most
            (Some(50_000 + 1_001 + 90_000), 101_000),
            (Some(7), 100_101),
            (Some(1 << 31), 101_000),
            (None, 101_000),
        ];
        for (offset, expected) in cases {
            let mut rewriter = Rewriter::new(ExtSeqNum(100));
            rewrite(&mut rewriter, 2, 1_001, 10);
            rewriter.leave(offset);
            let out = rewrite(&mut rewriter, 1, 500, 20);
            assert_eq!(out, Some((101, expected)), "{offset:?}");
            assert_eq!(rewriter.out_time_of(RtpTime(50_000)), Some(RtpTime(expected)));
        }
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
                if rng.u8(0..100) == 0 {
                    rewriter.leave(rng.bool().then(|| rng.u32(..)));
                }
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
                let packet = packet(from, index);
                let rewritten = rewriter.rewrite(&packet, at(millis), RATE_HZ);
                let Some(numbers) = rewritten else { continue };
                let out = numbers.index;
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
                assert_eq!(rewriter.numbers_of(&packet), Some(numbers), "seed {seed}");
                if last_highest.is_some_and(|last| last - out.0 < 1 << 15) {
                    let found = rewriter.inverse(out.seq());
                    assert_eq!(found, Some((from, packet.index)), "seed {seed}");
                }
            }
            assert!(given.len() > 200, "seed {seed}: too few packets got through");
        }
    }
}
