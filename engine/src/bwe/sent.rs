//! What one session was sent lately, by transport-wide sequence number.
//! Source: draft-holmer-rmcat-transport-wide-cc-extensions-01 §2.

use crate::clock::Instant;
use crate::ids::{ExtSeqNum, SeqNum};

/// The last [`SentLog::PACKETS`] packets that carried a transport-wide sequence number, and the counter that numbers them.
///
/// What is older makes room: feedback about it is not used, and it cannot be sent again under its own SSRC, since its number is
/// part of the bytes that must be the same.
pub struct SentLog {
    packets: Box<[Sent]>,
    next: ExtSeqNum,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When, in microseconds of our clock; the low 32 bits.
    at_us: u32,
    bytes: u16,
    leg: u16,
    /// Its RTP sequence number.
    seq: SeqNum,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Sent,
    /// Sent more than once: nobody knows which of them a report is about.
    SentAgain,
    ReportedLost,
    Arrived,
}

/// Whose packet it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Media of the leg at this position.
    Leg(u32),
    /// Any retransmission stream.
    Rtx,
}

/// What feedback tells of a packet, the first time that it tells anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reported {
    /// When it left; `None` when it was sent more than once.
    pub at: Option<Instant>,
    /// Its bytes.
    pub bytes: usize,
}

/// Stands for every stream whose packets are not looked up.
const NO_LEG: u16 = u16::MAX;

impl Default for SentLog {
    fn default() -> Self {
        Self::new()
    }
}

impl SentLog {
    /// How many packets are remembered: at a thousand a second, a second.
    pub const PACKETS: usize = 1_024;

    /// Makes an empty log, 12 KiB of memory.
    pub fn new() -> Self {
        let none = Sent { at_us: 0, bytes: 0, leg: NO_LEG, seq: SeqNum(0), state: State::Arrived };
        Self {
            packets: vec![none; Self::PACKETS].into_boxed_slice(),
            // A cycle above zero, so that the number before the first is one, too.
            next: ExtSeqNum(1 << 16),
        }
    }

    /// The number that the next packet is to carry.
    pub fn next_seq(&self) -> u16 {
        self.next.seq().0
    }

    /// Notes that a packet of `stream` with `bytes` left under [`SentLog::next_seq`]; the next one gets another.
    pub fn on_sent(&mut self, now: Instant, stream: Stream, seq: SeqNum, bytes: usize) {
        let leg = match stream {
            Stream::Leg(position) => u16::try_from(position).unwrap_or(NO_LEG),
            Stream::Rtx => NO_LEG,
        };
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let at = Self::place(self.next);
        let at_us = now.as_micros() as u32;
        self.packets[at] = Sent { at_us, bytes, leg, seq, state: State::Sent };
        self.next = ExtSeqNum(self.next.0 + 1);
    }

    /// The number that the packet `seq` of the leg at `position` left under, which then leaves once more; `None` when it is not
    /// remembered.
    pub fn send_again(&mut self, position: u32, seq: SeqNum) -> Option<u16> {
        let leg = u16::try_from(position).ok().filter(|&leg| leg != NO_LEG)?;
        let oldest = self.next.0 - Self::PACKETS as u64;
        let is_it = |number: &u64| {
            let sent = &self.packets[Self::place(ExtSeqNum(*number))];
            sent.leg == leg && sent.seq == seq
        };
        let number = ExtSeqNum((oldest..self.next.0).rev().find(is_it)?);
        let sent = &mut self.packets[Self::place(number)];
        if sent.state != State::Arrived {
            sent.state = State::SentAgain;
        }
        Some(number.seq().0)
    }

    /// Forgets the packets of the leg at `position`: another may take its place.
    pub fn forget_leg(&mut self, position: u32) {
        let Ok(leg) = u16::try_from(position) else { return };
        for sent in self.packets.iter_mut().filter(|sent| sent.leg == leg) {
            sent.leg = NO_LEG;
        }
    }

    /// Notes what feedback says of the packet numbered `seq`. `Err` when it is not remembered, `Ok(None)` when nothing is learnt.
    pub fn on_reported(
        &mut self,
        now: Instant,
        seq: u16,
        arrived: bool,
    ) -> Result<Option<Reported>, Unknown> {
        let number = ExtSeqNum::nearest(SeqNum(seq), self.next);
        let is_known = number < self.next && self.next.0 - number.0 <= Self::PACKETS as u64;
        if !is_known || number.0 < 1 << 16 {
            return Err(Unknown);
        }
        let sent = &mut self.packets[Self::place(number)];
        let is_news = match sent.state {
            State::Sent | State::SentAgain => true,
            State::ReportedLost => arrived,
            State::Arrived => false,
        };
        if !is_news {
            return Ok(None);
        }
        let age_us = (now.as_micros() as u32).wrapping_sub(sent.at_us);
        let at = now - std::time::Duration::from_micros(age_us.into());
        let reported = Reported {
            at: (sent.state != State::SentAgain).then_some(at),
            bytes: usize::from(sent.bytes),
        };
        sent.state = if arrived { State::Arrived } else { State::ReportedLost };
        Ok(Some(reported))
    }

    fn place(number: ExtSeqNum) -> usize {
        number.0 as usize % Self::PACKETS
    }
}

/// Feedback about a packet that was not sent, or too long ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn filled(packets: u64) -> SentLog {
        let mut log = SentLog::new();
        for n in 0..packets {
            log.on_sent(at(n), Stream::Leg((n % 2) as u32), SeqNum(n as u16), 100 + n as usize % 7);
        }
        log
    }

    #[test]
    fn a_packet_is_reported_once() {
        let mut log = filled(10);
        let reported = |bytes, millis| Ok(Some(Reported { at: Some(at(millis)), bytes }));
        assert_eq!(log.on_reported(at(100), 3, true), reported(103, 3));
        assert_eq!(log.on_reported(at(101), 3, true), Ok(None));
        assert_eq!(log.on_reported(at(101), 4, false), reported(104, 4));
        assert_eq!(log.on_reported(at(102), 4, false), Ok(None));
        assert_eq!(log.on_reported(at(103), 4, true), reported(104, 4), "late, not lost");
        assert_eq!(log.on_reported(at(104), 4, false), Ok(None));
    }

    #[test]
    fn what_was_not_sent_or_long_ago_is_unknown() {
        let mut log = filled(10);
        for seq in [10, 11, 40_000, u16::MAX] {
            assert_eq!(log.on_reported(at(100), seq, true), Err(Unknown), "{seq}");
        }
        let mut log = filled(70_000);
        assert_eq!(log.next_seq(), 70_000u32 as u16);
        let oldest = (70_000u32 - 1_024) as u16;
        assert!(log.on_reported(at(70_000), oldest, true).is_ok());
        assert_eq!(log.on_reported(at(70_000), oldest.wrapping_sub(1), true), Err(Unknown));
    }

    #[test]
    fn what_is_sent_again_keeps_its_number_and_loses_its_time() {
        let mut log = filled(70_000);
        let last = 69_999u32 as u16;
        assert_eq!(log.send_again(1, SeqNum(last)), Some(last));
        assert_eq!(log.send_again(0, SeqNum(last)), None, "of the other leg");
        assert_eq!(log.send_again(1, SeqNum(last.wrapping_sub(1_024))), None, "too old");
        assert_eq!(log.next_seq(), last.wrapping_add(1));
        let reported = log.on_reported(at(70_100), last, true);
        assert_eq!(reported.map(|r| r.map(|r| r.at)), Ok(Some(None)));
    }

    #[test]
    fn a_leg_that_went_is_not_mistaken_for_the_next_in_its_place() {
        let mut log = filled(10);
        log.on_sent(at(11), Stream::Rtx, SeqNum(3), 100);
        log.forget_leg(1);
        assert_eq!(log.send_again(1, SeqNum(3)), None);
        assert_eq!(log.send_again(0, SeqNum(4)), Some(4));
        assert_eq!(log.send_again(u32::from(u16::MAX), SeqNum(3)), None);
    }

    #[test]
    fn the_send_time_survives_the_wrap_of_its_32_bits() {
        let mut log = SentLog::new();
        let sent = Instant::from_start(Duration::from_micros((1 << 32) - 5));
        log.on_sent(sent, Stream::Leg(0), SeqNum(9), 50);
        let later = sent + Duration::from_millis(40);
        let reported = log.on_reported(later, 0, true);
        assert_eq!(reported, Ok(Some(Reported { at: Some(sent), bytes: 50 })));
    }
}
