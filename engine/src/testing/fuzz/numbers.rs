//! The state machines behind a stream, driven by bytes as a list of operations, with what must hold after each.

use std::collections::HashMap;
use std::time::Duration;

use super::Plan;
use crate::bwe::feedback::ArrivalLog;
use crate::clock::Instant;
use crate::ids::{ExtSeqNum, RtpTime, SeqNum};
use crate::rtp::history::History;
use crate::rtp::inbound::{Arrival, InboundStream};
use crate::rtp::missing::{ASKS_MAX, MissingList};
use crate::rtp::resend::{FLOOR_BYTES, ResendLimiter};
use crate::rtp::rewrite::{PacketNumbers, Rewriter, STEP_MAX};
use crate::wire::payload::vp8::PictureNumbers;

/// One publisher's packets through one leg: no number of the leg is given to two packets, and what is found again is what it was.
pub fn rewriter(data: &[u8]) {
    let mut plan = Plan::new(data);
    let mut now = Instant::default();
    let mut rewriter = Rewriter::new(ExtSeqNum(u64::from(plan.u16() >> 1)));
    let mut history = History::new(32, 8);
    // Leg's number → source, publisher's number, timestamp, picture.
    let mut given: HashMap<u64, (u32, u64, u32, u16)> = HashMap::new();
    let (mut source, mut index) = (1_u32, u64::from(plan.u16()));
    while let Some(operation) = plan.next() {
        now = now + Duration::from_millis(u64::from(plan.u8()));
        match operation % 8 {
            0 => source += u32::from(plan.u8() % 3),
            1 => index = index.saturating_add(u64::from(plan.u16())),
            2 => index = index.saturating_sub(u64::from(plan.u8())),
            // Near the end of the numbers, as nobody gets there otherwise.
            3 if plan.u8() == 255 => index |= 0xFFFF_FFFF_0000,
            4 => rewriter.leave((operation & 8 != 0).then(|| u32::from(plan.u16()) << 8)),
            _ => index = index.saturating_add(u64::from(operation >> 6)),
        }
        // Now and then a straggler of the source before.
        let of = source - u32::from(operation == 0xF7 && source > 1);
        let timestamp = RtpTime((index as u32).wrapping_mul(90));
        let picture = PictureNumbers { id: index as u16 & 0x7FFF, tl0: index as u8 };
        let packet = PacketNumbers { source: of, index: ExtSeqNum(index), timestamp, picture };
        let before = rewriter.highest();
        let numbers = rewriter.rewrite(&packet, now, 90_000);
        history.store(of, ExtSeqNum(index), &index.to_be_bytes());
        let Some(numbers) = numbers else { continue };
        let (out, time) = (numbers.index, numbers.timestamp);
        assert!(out.0 < 1 << 48, "beyond the last index");
        let entry = (of, index, time.0, numbers.picture.id);
        assert_eq!(*given.entry(out.0).or_insert(entry), entry, "a number given twice");
        if let Some(before) = before {
            assert!(out.0 <= before.0 + STEP_MAX, "a step that receivers may misunderstand");
        }
        assert_eq!(rewriter.numbers_of(&packet), Some(numbers));
        assert_eq!(rewriter.out_time_of(timestamp), Some(time));
        let highest = rewriter.highest().expect("just rewritten");
        if highest.0 - out.0 < 1 << 15 {
            assert_eq!(rewriter.inverse(out.seq()), Some((of, ExtSeqNum(index))));
        }
        if let Some(kept) = history.get(of, ExtSeqNum(index)) {
            assert_eq!(kept, index.to_be_bytes());
        }
    }
}

/// One stream as it arrives: losses, requests for them, reports.
pub fn arrivals(data: &[u8]) {
    let mut plan = Plan::new(data);
    let mut now = Instant::default();
    let (mut missing, mut inbound) = (MissingList::new(), InboundStream::new(90_000));
    let mut log = ArrivalLog::new();
    let (mut index, mut transport_seq) = (u64::from(plan.u16()), plan.u16());
    let mut asks: HashMap<u64, u8> = HashMap::new();
    while let Some(operation) = plan.next() {
        match operation % 8 {
            0 => now = now + Duration::from_millis(u64::from(plan.u16())),
            1 => index += u64::from(plan.u16() >> 1),
            2 => index = index.saturating_sub(u64::from(plan.u16())),
            3 => transport_seq = transport_seq.wrapping_add(plan.u16()),
            4 => {
                let mut lost = [SeqNum(0); 16];
                let rtt = Some(Duration::from_millis(u64::from(plan.u8())));
                let count = missing.due(now, rtt, &mut lost);
                for seq in &lost[..count] {
                    let highest = inbound.highest().expect("something came before it");
                    let asked = ExtSeqNum::nearest(*seq, highest);
                    assert!(asked < highest && missing.is_missing(asked));
                    let asks = asks.entry(asked.0).or_default();
                    *asks += 1;
                    assert!(*asks <= ASKS_MAX, "{asked} was asked for too often");
                }
                assert!(count > 0 || missing.next_deadline().is_none_or(|next| next > now));
            }
            5 => {
                let stats = inbound.report(now);
                assert!(inbound.highest().is_some() || stats.highest_seq == 0);
            }
            6 => {
                let mut statuses = [None; 64];
                let mut packets = 0;
                while let Some(feedback) = log.build(now, &mut statuses) {
                    assert!(
                        (1..=64).contains(&feedback.count) && feedback.reference_time < 1 << 24
                    );
                    packets += 1;
                    assert!(packets <= ArrivalLog::WINDOW, "feedback without end");
                }
                assert!(log.next_deadline().is_none_or(|next| next > now));
            }
            _ => {
                index += u64::from(operation >> 6);
                let timestamp = RtpTime(u32::from(plan.u16()) << 16);
                log.on_packet(now, transport_seq);
                transport_seq = transport_seq.wrapping_add(1);
                let near = inbound.highest().is_none_or(|h| h.0.abs_diff(index) < 1 << 15);
                if !near {
                    index = inbound.highest().map_or(0, |highest| highest.0);
                    continue;
                }
                let index = ExtSeqNum(index);
                let arrival = if operation & 8 != 0 && missing.is_missing(index) {
                    inbound.on_recovered(now, index)
                } else {
                    inbound.on_packet(now, index, timestamp, 100)
                };
                if arrival == Arrival::New {
                    missing.on_packet(now, index);
                    assert!(!missing.is_missing(index));
                }
                assert_eq!(inbound.on_recovered(now, index), Arrival::Duplicate);
            }
        }
    }
}

/// One leg's retransmissions: never more than half of what was sent and the floor.
pub fn resends(data: &[u8]) {
    let mut plan = Plan::new(data);
    let mut now = Instant::default();
    let mut limiter = ResendLimiter::new();
    let (mut sent, mut resent) = (0_u64, 0_u64);
    while let Some(operation) = plan.next() {
        now = now + Duration::from_millis(u64::from(plan.u8()));
        let bytes = usize::from(plan.u16() >> 5);
        if operation & 1 == 0 {
            limiter.on_sent(now, bytes);
            sent += bytes as u64;
        } else {
            let rtt = (operation & 2 != 0).then(|| Duration::from_millis(u64::from(operation)));
            let index = ExtSeqNum(u64::from(operation >> 2));
            if limiter.allow(now, index, bytes, rtt) {
                resent += bytes as u64;
                assert!(!limiter.allow(now, index, bytes, rtt), "twice at once");
            }
            assert!(resent <= FLOOR_BYTES + sent / 2);
        }
    }
}
