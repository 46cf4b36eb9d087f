//! Paced video whose packets say who sent them and when.

use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::ids::{ExtSeqNum, PayloadType, RtpTime, Ssrc};
use sluice_engine::wire::rtp::{FixedHeader, write_fixed_header};

use super::sdp::{EXTENSION_MID, EXTENSION_TRANSPORT_CC, PAYLOAD_TYPE};
use crate::fanout_args::VideoPlan;

/// One video source.
pub struct Video {
    plan: VideoPlan,
    ssrc: Ssrc,
    transport_cc: bool,
    /// When the frame in work began or begins.
    frame_at: Instant,
    frame: u64,
    /// Packets of this frame that are sent.
    part: u32,
    sent: u64,
    octets: u64,
    /// Packets that were sent more than a millisecond after their time.
    pub late: u64,
    keyframe_wanted: bool,
    is_keyframe: bool,
}

/// What a verified packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The source.
    pub stream: u32,
    /// Packets that the source had sent before.
    pub counter: u64,
    /// When it was sent.
    pub sent_at: Instant,
}

/// VP8's descriptor and the first byte of its frame, before the stamp.
const VP8_BYTES: usize = 2;
const STAMP_BYTES: usize = 24;
const LATE: Duration = Duration::from_millis(1);

impl Video {
    pub fn new(plan: VideoPlan, ssrc: u32, transport_cc: bool, start: Instant) -> Self {
        Self {
            plan,
            ssrc: Ssrc(ssrc),
            transport_cc,
            frame_at: start,
            frame: 0,
            part: 0,
            sent: 0,
            octets: 0,
            late: 0,
            keyframe_wanted: true,
            is_keyframe: false,
        }
    }

    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Packets sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Payload bytes sent.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    pub fn rtp_time(&self) -> RtpTime {
        RtpTime((self.frame as u32).wrapping_mul(self.plan.ticks))
    }

    /// A receiver lacks a key frame: the next frame is one.
    pub fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// Goes on with the next frame at `start`, after a pause.
    pub fn resume(&mut self, start: Instant) {
        if self.part != 0 {
            (self.frame, self.part) = (self.frame + 1, 0);
        }
        self.frame_at = start;
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Instant {
        self.frame_at + self.plan.gap * self.part
    }

    /// Writes the next packet, stamped with `now`, in the clear; returns its index and length.
    pub fn write_packet(&mut self, now: Instant, out: &mut [u8; 1_500]) -> (ExtSeqNum, usize) {
        if now.since(self.next_due()) > LATE {
            self.late += 1;
        }
        if self.part == 0 {
            let regular = self.frame.is_multiple_of(self.plan.keyframe_frames);
            self.is_keyframe = std::mem::take(&mut self.keyframe_wanted) || regular;
        }
        let index = ExtSeqNum(self.sent);
        let header = FixedHeader {
            marker: self.part + 1 == self.plan.packets,
            payload_type: PayloadType(PAYLOAD_TYPE),
            seq: index.seq(),
            timestamp: self.rtp_time(),
            ssrc: self.ssrc,
            has_extension: true,
            has_padding: false,
        };
        let mut at = write_fixed_header(out, &header).unwrap_or_default();
        for byte in self.extensions(index) {
            out[at] = byte;
            at += 1;
        }
        let payload = payload_bytes(&self.plan, self.part);
        write_payload(
            &mut out[at..at + payload],
            self.part == 0,
            self.is_keyframe,
            Stamp { stream: self.ssrc.0, counter: self.sent, sent_at: now },
        );
        self.sent += 1;
        self.octets += payload as u64;
        self.part += 1;
        if self.part == self.plan.packets {
            (self.frame, self.part) = (self.frame + 1, 0);
            self.frame_at = self.frame_at + self.plan.interval;
        }
        (index, at + payload)
    }

    /// The extension block: mid, and the transport-wide number if it was agreed. Source: RFC 8285 §4.2.
    fn extensions(&self, index: ExtSeqNum) -> [u8; 12] {
        let [high, low] = index.seq().0.to_be_bytes();
        let number = match self.transport_cc {
            true => [EXTENSION_TRANSPORT_CC << 4 | 1, high, low],
            false => [0; 3],
        };
        let [a, b, c] = number;
        [0xBE, 0xDE, 0, 2, EXTENSION_MID << 4, b'0', a, b, c, 0, 0, 0]
    }
}

/// Payload bytes of one packet of a frame: all equal, the last ones a byte longer where it does not go even.
fn payload_bytes(plan: &VideoPlan, part: u32) -> usize {
    let longer = plan.frame_bytes % plan.packets;
    let extra = u32::from(part >= plan.packets - longer);
    (plan.frame_bytes / plan.packets + extra) as usize
}

fn write_payload(payload: &mut [u8], starts_frame: bool, is_keyframe: bool, stamp: Stamp) {
    // S begins a partition, RFC 7741 §4.2; the lowest bit of a frame says that it is no key frame, RFC 6386 §9.1.
    payload[0] = u8::from(starts_frame) << 4;
    payload[1] = u8::from(!is_keyframe);
    let (body, check) = payload[VP8_BYTES..].split_at_mut(STAMP_BYTES - 4);
    body[..4].copy_from_slice(&stamp.stream.to_be_bytes());
    body[4..12].copy_from_slice(&stamp.counter.to_be_bytes());
    body[12..20].copy_from_slice(&stamp.sent_at.as_nanos().to_be_bytes());
    let (check, filler) = check.split_at_mut(4);
    for (at, byte) in filler.iter_mut().enumerate() {
        *byte = (stamp.counter as u8).wrapping_add(at as u8);
    }
    check.copy_from_slice(&checksum(body, filler).to_be_bytes());
}

/// Reads the stamp of a decrypted payload; `None` when anything of it was changed on the way.
pub fn read_stamp(payload: &[u8]) -> Option<Stamp> {
    let (body, rest) = payload.get(VP8_BYTES..)?.split_at_checked(STAMP_BYTES - 4)?;
    let (check, filler) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*check) != checksum(body, filler) {
        return None;
    }
    let (stream, body) = body.split_first_chunk::<4>()?;
    let (counter, body) = body.split_first_chunk::<8>()?;
    let (nanos, _) = body.split_first_chunk::<8>()?;
    let sent_at = Instant::from_start(Duration::from_nanos(u64::from_be_bytes(*nanos)));
    let (stream, counter) = (u32::from_be_bytes(*stream), u64::from_be_bytes(*counter));
    Some(Stamp { stream, counter, sent_at })
}

fn checksum(body: &[u8], filler: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(filler);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use sluice_engine::wire::rtp::RtpView;

    use super::*;

    const PLAN: VideoPlan = VideoPlan {
        frame_bytes: 6_250,
        packets: 6,
        interval: Duration::from_millis(33),
        gap: Duration::from_millis(2),
        ticks: 3_000,
        keyframe_frames: 60,
    };

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn packets_fill_their_frames_and_keep_their_times() {
        let mut video = Video::new(PLAN, 7, true, at(100));
        let mut out = [0; 1_500];
        let mut bytes = 0;
        for part in 0..12 {
            let frame = part / 6;
            assert_eq!(video.next_due(), at(100 + 33 * frame + 2 * (part % 6)));
            let (index, len) = video.write_packet(video.next_due(), &mut out);
            let view = RtpView::parse(&out[..len]).unwrap();
            assert_eq!(index, ExtSeqNum(part));
            assert_eq!(view.header().marker, part % 6 == 5);
            assert_eq!(view.header().timestamp, RtpTime(frame as u32 * 3_000));
            assert!(matches!(view.payload().len(), 1_041 | 1_042));
            assert_eq!(view.payload()[1], u8::from(frame == 1), "the first frame is a key frame");
            bytes += view.payload().len();
        }
        assert_eq!(bytes, 2 * 6_250);
        assert_eq!((video.sent(), video.late), (12, 0));
    }

    #[test]
    fn a_late_packet_is_counted_and_moves_nothing() {
        let mut video = Video::new(PLAN, 7, true, at(100));
        video.write_packet(at(110), &mut [0; 1_500]);
        assert_eq!((video.late, video.next_due()), (1, at(102)));
    }

    #[test]
    fn a_stamp_survives_and_a_changed_byte_is_seen() {
        let mut video = Video::new(PLAN, 7, true, at(1));
        let mut out = [0; 1_500];
        let (_, len) = video.write_packet(at(5), &mut out);
        let payload = RtpView::parse(&out[..len]).unwrap().payload().to_vec();
        let stamp = Stamp { stream: 7, counter: 0, sent_at: at(5) };
        assert_eq!(read_stamp(&payload), Some(stamp));
        for at in VP8_BYTES..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert_eq!(read_stamp(&changed), None, "byte {at}");
        }
        assert_eq!(read_stamp(&payload[..20]), None);
    }
}
