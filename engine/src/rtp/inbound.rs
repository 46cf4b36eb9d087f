//! What arrived of one publisher stream: extended numbers, loss, jitter. Source: RFC 3550 §6.4.1,
//! A.3, A.8.
//!
//! There is no probation (RFC 3550 A.1) and no restart of numbering: a packet gets here only after
//! SRTP has authenticated it, and the roll-over counter and so the whole index is part of what the
//! tag covers (RFC 3711 §4.2, RFC 7714 §9). A stray or restarted sequence does not pass the tag; an
//! SSRC that starts again does so with other keys, as another session.

use std::time::Duration;

use super::index_set::IndexSet;
use super::ticks;
use crate::clock::{Instant, NtpTime};
use crate::ids::{ExtSeqNum, RtpTime};

/// Reception state of one SSRC.
///
/// Loss is what the network lost: a packet that came only as a retransmission stays lost, since the
/// retransmission is a packet of another SSRC, and counting it would hide the loss from the
/// publisher's rate control. It counts as received if the original arrives after all.
#[derive(Clone, Debug)]
pub struct InboundStream {
    clock_rate_hz: u32,
    range: Option<Range>,
    seen: IndexSet<WINDOW_WORDS>,
    recovered: IndexSet<WINDOW_WORDS>,
    packets: u64,
    bytes: u64,
    recovered_packets: u64,
    transit: Option<u32>,
    jitter_q4: u64,
    reported: Reported,
    sender_report: Option<(NtpTime, RtpTime, Instant)>,
    latest: Option<(RtpTime, Instant)>,
}

/// Lowest and highest index that came.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    highest: u64,
}

/// The state at the last report: `expected_prior` and `received_prior` of RFC 3550 A.3.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    expected: u64,
    packets: u64,
}

/// Whether a packet is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The first time that this index is seen.
    New,
    /// Seen before, or too old to tell.
    Duplicate,
}

/// The numbers of one report block. Source: RFC 3550 §6.4.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReceptionStats {
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start, within 24 bits signed.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the roll-over count in the upper half.
    pub highest_seq: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 without one.
    pub last_sr: u32,
    /// Time since that report came, in 1/65536 s; 0 without one.
    pub delay_since_last_sr: u32,
}

const WINDOW_WORDS: usize = 16; // 1024 packets, as many as the SRTP replay list
const CUMULATIVE_LOST_MIN: i64 = -(1 << 23);
const CUMULATIVE_LOST_MAX: i64 = (1 << 23) - 1;

impl InboundStream {
    /// Makes the state of a stream whose timestamps run at `clock_rate_hz`.
    pub fn new(clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            range: None,
            seen: IndexSet::new(),
            recovered: IndexSet::new(),
            packets: 0,
            bytes: 0,
            recovered_packets: 0,
            transit: None,
            jitter_q4: 0,
            reported: Reported::default(),
            sender_report: None,
            latest: None,
        }
    }

    /// Takes note of a packet that came on this SSRC; `bytes` is what [`InboundStream::bytes`]
    /// shall count.
    ///
    /// `Duplicate` packets are not to be forwarded. An index more than 1023 below the highest is
    /// always `Duplicate`.
    pub fn on_packet(
        &mut self,
        now: Instant,
        index: ExtSeqNum,
        timestamp: RtpTime,
        bytes: usize,
    ) -> Arrival {
        let is_newest = self.range.is_none_or(|range| index.0 > range.highest);
        if self.mark(index.0) == Arrival::Duplicate {
            let is_late_original = self.in_window(index.0) && self.recovered.remove(index.0);
            if is_late_original {
                self.recovered_packets -= 1;
                self.packets += 1;
                self.bytes += bytes as u64;
            }
            return Arrival::Duplicate;
        }
        self.packets += 1;
        self.bytes += bytes as u64;
        self.update_jitter(now, timestamp);
        if is_newest {
            self.latest = Some((timestamp, now));
        }
        Arrival::New
    }

    /// Takes note of a packet that came as a retransmission on another SSRC.
    ///
    /// Says nothing about arrival times, so jitter and [`InboundStream::latest`] stay as they are.
    pub fn on_recovered(&mut self, _now: Instant, index: ExtSeqNum) -> Arrival {
        let arrival = self.mark(index.0);
        if arrival == Arrival::New {
            self.recovered.insert(index.0);
            self.recovered_packets += 1;
        }
        arrival
    }

    /// The highest index that came, by itself or as a retransmission.
    pub fn highest(&self) -> Option<ExtSeqNum> {
        self.range.map(|range| ExtSeqNum(range.highest))
    }

    /// Packets that came on this SSRC, duplicates not counted.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of these packets.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that came only as a retransmission. What is missing in the end is
    /// [`InboundStream::lost`] less these.
    pub fn recovered(&self) -> u64 {
        self.recovered_packets
    }

    /// Packets that the network lost since the start: expected less received. Source: RFC 3550 A.3.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.packets as i64
    }

    /// Takes note of the publisher's sender report: its NTP time and the RTP time that belongs to
    /// it.
    pub fn on_sender_report(&mut self, now: Instant, ntp: NtpTime, rtp: RtpTime) {
        self.sender_report = Some((ntp, rtp, now));
    }

    /// The last sender report and when it came.
    pub fn last_sender_report(&self) -> Option<(NtpTime, RtpTime, Instant)> {
        self.sender_report
    }

    /// Timestamp and arrival of the packet with the highest index.
    pub fn latest(&self) -> Option<(RtpTime, Instant)> {
        self.latest
    }

    /// The report block for `now`; the share of lost packets is since the last call.
    ///
    /// Before the first packet ([`InboundStream::highest`] is `None`) there is nothing to report
    /// on: no block should be sent. Source: RFC 3550 §6.4.1, A.3.
    pub fn report(&mut self, now: Instant) -> ReceptionStats {
        let expected = self.expected();
        let expected_since = expected - self.reported.expected;
        let lost_since = expected_since.saturating_sub(self.packets - self.reported.packets);
        self.reported = Reported { expected, packets: self.packets };
        // All packets lost would be 256/256, which the octet cannot say.
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255);
        let (last_sr, delay_since_last_sr) = match self.sender_report {
            Some((ntp, _, at)) => (ntp.middle(), units_of_65536th(now.since(at))),
            None => (0, 0),
        };
        ReceptionStats {
            fraction_lost: fraction as u8,
            cumulative_lost: self.lost().clamp(CUMULATIVE_LOST_MIN, CUMULATIVE_LOST_MAX) as i32,
            highest_seq: self.range.map_or(0, |range| range.highest as u32),
            jitter: (self.jitter_q4 >> 4) as u32,
            last_sr,
            delay_since_last_sr,
        }
    }

    fn expected(&self) -> u64 {
        self.range.map_or(0, |range| range.highest - range.first + 1)
    }

    fn in_window(&self, index: u64) -> bool {
        let window = IndexSet::<WINDOW_WORDS>::WINDOW;
        self.range.is_some_and(|range| range.highest.saturating_sub(index) < window)
    }

    /// Puts `index` among the seen ones and widens the range.
    fn mark(&mut self, index: u64) -> Arrival {
        let range = *self.range.get_or_insert(Range { first: index, highest: index });
        if index > range.highest {
            self.seen.advance(range.highest, index);
            self.recovered.advance(range.highest, index);
            self.range = Some(Range { highest: index, ..range });
        } else if !self.in_window(index) || self.seen.contains(index) {
            return Arrival::Duplicate;
        } else if index < range.first {
            // The first to come was not the first sent: what lies between was sent as well.
            self.range = Some(Range { first: index, ..range });
        }
        self.seen.insert(index);
        Arrival::New
    }

    /// One step of RFC 3550 A.8, in 1/16 units; in 64 bits, since timestamps may jump by as much as
    /// they like.
    fn update_jitter(&mut self, now: Instant, timestamp: RtpTime) {
        let arrival = ticks(Duration::from_nanos(now.as_nanos()), self.clock_rate_hz);
        let transit = arrival.wrapping_sub(timestamp.0);
        if let Some(before) = self.transit.replace(transit) {
            let difference = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter_q4 = self.jitter_q4 + difference - ((self.jitter_q4 + 8) >> 4);
        }
    }
}

/// `duration` in 1/65536 s, at most what 32 bits hold (18 hours).
fn units_of_65536th(duration: Duration) -> u32 {
    let units = duration.as_nanos() * 65_536 / 1_000_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RATE_HZ: u32 = 90_000;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn receive(stream: &mut InboundStream, index: u64) -> Arrival {
        stream.on_packet(at(index), ExtSeqNum(index), RtpTime(index as u32 * 90), 100)
    }

    #[test]
    fn a_complete_stream_has_no_loss() {
        let mut stream = InboundStream::new(RATE_HZ);
        for index in 65_530..65_550 {
            assert_eq!(receive(&mut stream, index), Arrival::New);
        }
        assert_eq!((stream.packets(), stream.bytes(), stream.lost()), (20, 2_000, 0));
        assert_eq!(stream.highest(), Some(ExtSeqNum(65_549)));
        let report = stream.report(at(0));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
        assert_eq!(report.highest_seq, 1 << 16 | 13);
    }

    #[test]
    fn nothing_to_report_is_all_zero() {
        assert_eq!(InboundStream::new(RATE_HZ).report(at(5)), ReceptionStats::default());
    }

    #[test]
    fn fraction_lost_is_of_the_interval_and_cumulative_of_the_whole() {
        let mut stream = InboundStream::new(RATE_HZ);
        // (received indices, fraction, cumulative)
        let intervals: [(&[u64], u8, i32); 5] = [
            (&[10, 11, 13, 14], 51, 1), // one of five
            (&[15, 16, 17, 18], 0, 1),
            (&[22], 192, 4),       // three of four
            (&[19, 20, 21], 0, 1), // late ones: negative loss in the interval
            (&[], 0, 1),
        ];
        for (indices, fraction, cumulative) in intervals {
            for &index in indices {
                receive(&mut stream, index);
            }
            let report = stream.report(at(0));
            assert_eq!((report.fraction_lost, report.cumulative_lost), (fraction, cumulative));
        }
    }

    #[test]
    fn fraction_and_cumulative_stay_in_their_fields() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 0);
        stream.report(at(0));
        receive(&mut stream, 1 << 40);
        let report = stream.report(at(0));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (255, 0x7f_ffff));
        assert_eq!(stream.lost(), (1 << 40) - 1);
    }

    #[test]
    fn duplicates_are_told_and_not_counted() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 5);
        assert_eq!(receive(&mut stream, 5), Arrival::Duplicate);
        receive(&mut stream, 7);
        assert_eq!(receive(&mut stream, 5), Arrival::Duplicate);
        assert_eq!(receive(&mut stream, 6), Arrival::New);
        assert_eq!((stream.packets(), stream.bytes(), stream.lost()), (3, 300, 0));
    }

    #[test]
    fn what_is_older_than_the_window_is_a_duplicate() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 0);
        receive(&mut stream, 2_000);
        assert_eq!(receive(&mut stream, 2_000 - 1_024), Arrival::Duplicate);
        assert_eq!(receive(&mut stream, 2_000 - 1_023), Arrival::New);
    }

    #[test]
    fn a_packet_before_the_first_to_come_moves_the_start() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 100);
        assert_eq!(receive(&mut stream, 97), Arrival::New);
        assert_eq!(stream.lost(), 2);
    }

    #[test]
    fn a_recovered_packet_stays_lost_in_reports_until_the_original_comes() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 1);
        receive(&mut stream, 3);
        assert_eq!(stream.on_recovered(at(9), ExtSeqNum(2)), Arrival::New);
        assert_eq!(stream.on_recovered(at(9), ExtSeqNum(2)), Arrival::Duplicate);
        assert_eq!(stream.on_recovered(at(9), ExtSeqNum(3)), Arrival::Duplicate);
        assert_eq!((stream.packets(), stream.lost(), stream.recovered()), (2, 1, 1));
        assert_eq!(receive(&mut stream, 2), Arrival::Duplicate, "it was forwarded once");
        assert_eq!((stream.packets(), stream.lost(), stream.recovered()), (3, 0, 0));
        assert_eq!(receive(&mut stream, 2), Arrival::Duplicate);
        assert_eq!((stream.packets(), stream.lost(), stream.recovered()), (3, 0, 0));
    }

    #[test]
    fn a_recovery_is_forgotten_with_its_window() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 4);
        stream.on_recovered(at(9), ExtSeqNum(5));
        receive(&mut stream, 5 + 1_024);
        assert_eq!(receive(&mut stream, 5 + 1_024), Arrival::Duplicate);
        assert_eq!((stream.packets(), stream.recovered()), (2, 1));
    }

    #[test]
    fn jitter_follows_the_recurrence() {
        let mut stream = InboundStream::new(8_000);
        // Twenty milliseconds of 8 kHz are 160 ticks. Arrival deviates by 0, +5 ms (40 ticks), then
        // back.
        stream.on_packet(at(0), ExtSeqNum(0), RtpTime(0), 1);
        stream.on_packet(at(20), ExtSeqNum(1), RtpTime(160), 1);
        assert_eq!(stream.report(at(0)).jitter, 0);
        stream.on_packet(at(45), ExtSeqNum(2), RtpTime(320), 1);
        assert_eq!(stream.report(at(0)).jitter, 40 / 16);
        stream.on_packet(at(60), ExtSeqNum(3), RtpTime(480), 1);
        // 40 + 40 - (40 + 8) / 16 = 77 sixteenths
        assert_eq!(stream.report(at(0)).jitter, 77 / 16);
    }

    #[test]
    fn jitter_settles_at_the_mean_deviation_and_survives_timestamp_wrap() {
        let mut stream = InboundStream::new(RATE_HZ);
        let start = u32::MAX - 5_000;
        for n in 0..1_000u64 {
            let millis = 20 * n + if n % 2 == 0 { 0 } else { 10 };
            let timestamp = RtpTime(start).wrapping_add(n as u32 * 1_800);
            stream.on_packet(at(millis), ExtSeqNum(n), timestamp, 1);
        }
        let jitter = stream.report(at(0)).jitter;
        assert!((890..=900).contains(&jitter), "{jitter} ticks, 900 are ten milliseconds");
    }

    #[test]
    fn wild_timestamps_do_not_overflow_the_jitter() {
        let mut stream = InboundStream::new(RATE_HZ);
        for n in 0..10_000u64 {
            let timestamp = RtpTime(if n % 2 == 0 { 0 } else { 1 << 31 });
            stream.on_packet(at(0), ExtSeqNum(n), timestamp, 1);
        }
        let jitter = stream.report(at(0)).jitter;
        assert!(jitter <= 1 << 31 && jitter > 1 << 30, "{jitter}");
    }

    #[test]
    fn the_last_sender_report_is_echoed_with_its_age() {
        let mut stream = InboundStream::new(RATE_HZ);
        receive(&mut stream, 1);
        stream.on_sender_report(at(1_000), NtpTime(0x1122_3344_5566_7788), RtpTime(7));
        let report = stream.report(at(2_500));
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x3344_5566, 98_304));
        assert_eq!(
            stream.last_sender_report(),
            Some((NtpTime(0x1122_3344_5566_7788), RtpTime(7), at(1_000)))
        );
        let next_day = stream.report(at(90_000_000)).delay_since_last_sr;
        assert_eq!(next_day, u32::MAX);
    }

    #[test]
    fn latest_is_of_the_highest_index_that_came_by_itself() {
        let mut stream = InboundStream::new(RATE_HZ);
        assert_eq!(stream.latest(), None);
        receive(&mut stream, 10);
        receive(&mut stream, 9);
        assert_eq!(stream.latest(), Some((RtpTime(900), at(10))));
        stream.on_recovered(at(50), ExtSeqNum(11));
        assert_eq!(stream.latest(), Some((RtpTime(900), at(10))));
        assert_eq!(stream.highest(), Some(ExtSeqNum(11)));
    }

    #[test]
    fn each_packet_is_new_exactly_once_over_random_arrivals() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut stream = InboundStream::new(RATE_HZ);
            let mut highest = rng.u64(0..100_000);
            let mut seen = HashSet::from([highest]);
            receive(&mut stream, highest);
            for _ in 0..3_000 {
                let index = match rng.u8(0..100) {
                    0..=69 => highest + 1,
                    70..=79 => highest + rng.u64(1..400),
                    80 => highest + rng.u64(1..5_000),
                    _ => highest.saturating_sub(rng.u64(0..1_500)),
                };
                let is_old = index + 1_024 <= highest;
                let arrival = if rng.bool() {
                    stream.on_recovered(at(0), ExtSeqNum(index))
                } else {
                    receive(&mut stream, index)
                };
                let expected =
                    if !is_old && seen.insert(index) { Arrival::New } else { Arrival::Duplicate };
                assert_eq!(arrival, expected, "seed {seed}, index {index}, highest {highest}");
                highest = highest.max(index);
            }
            let first = *seen.iter().min().unwrap();
            assert_eq!(
                stream.lost() - stream.recovered() as i64,
                (highest - first + 1) as i64 - seen.len() as i64,
                "seed {seed}"
            );
        }
    }
}
