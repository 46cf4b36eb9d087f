//! One stream that a client receives: what came, what lacks, from clear headers; and whose it is, from the packets that are opened.

use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::ids::{ExtSeqNum, RtpTime, SeqNum, Ssrc};
use sluice_engine::rtp::inbound::{Arrival, InboundStream};
use sluice_engine::rtp::missing::MissingList;
use sluice_engine::wire::rtcp::rr::ReportBlock;
use sluice_engine::wire::rtp::RtpHeader;

use super::frames::FrameTracker;
use crate::conversation::ReceiveFormat;
use crate::result::Frames;

/// One received SSRC.
pub struct ReceivedStream {
    pub ssrc: Ssrc,
    pub format: ReceiveFormat,
    /// The number of the publisher's stream, once a packet was opened.
    pub stream: Option<u32>,
    pub inbound: InboundStream,
    highest: ExtSeqNum,
    pub frames: Option<FrameTracker>,
    missing: Option<Box<MissingList>>,
    /// Packets that came after later ones, repeated ones among them.
    late: u64,
    since: Mark,
    /// Whether it began before the window: then it had its chance at all that was sent.
    pub is_whole: bool,
}

/// Counters at the beginning of a window.
#[derive(Clone, Copy, Default)]
struct Mark {
    packets: u64,
    bytes: u64,
    lost: i64,
    late: u64,
}

/// What one stream brought in a window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Brought {
    /// Packets, each counted once.
    pub packets: u64,
    /// Their datagrams' bytes.
    pub bytes: u64,
    /// Numbers that lack between the first and the last.
    pub gaps: u64,
    /// Packets that came after later ones.
    pub late: u64,
    pub frames: Frames,
}

const AUDIO_HZ: u32 = 48_000;
const VIDEO_HZ: u32 = 90_000;

impl ReceivedStream {
    /// A stream that its first packet begins. `repairs`: whether lost packets are asked for.
    pub fn new(ssrc: Ssrc, format: ReceiveFormat, frame_rate: u32, repairs: bool) -> Self {
        Self {
            ssrc,
            format,
            stream: None,
            inbound: InboundStream::new(if format.is_video { VIDEO_HZ } else { AUDIO_HZ }),
            highest: ExtSeqNum(0),
            frames: format.is_video.then(|| FrameTracker::new(frame_rate)),
            missing: (repairs && format.nack).then(Box::default),
            late: 0,
            since: Mark::default(),
            is_whole: false,
        }
    }

    /// Takes a packet by its clear header; whether it came for the first time, and frames that it made complete, by timestamp.
    pub fn on_packet(
        &mut self,
        at: Instant,
        header: &RtpHeader,
        bytes: usize,
    ) -> (Arrival, [Option<RtpTime>; 2]) {
        if self.inbound.highest().is_none() {
            // A cycle above zero, so that what was sent before the first to come has a number, too.
            self.highest = ExtSeqNum((1 << 16) + u64::from(header.seq.0));
        }
        let index = ExtSeqNum::nearest(header.seq, self.highest);
        let arrival = self.inbound.on_packet(at, index, header.timestamp, bytes);
        if arrival == Arrival::Duplicate {
            return (arrival, [None; 2]);
        }
        if let Some(missing) = &mut self.missing {
            missing.on_packet(at, index);
        }
        self.late += u64::from(index < self.highest);
        self.highest = self.highest.max(index);
        let complete = match &mut self.frames {
            Some(frames) => frames.on_packet(at, index, header.timestamp, header.marker),
            None => [None; 2],
        };
        (arrival, complete)
    }

    /// Numbers to ask for, and whether so much is lost that only a key frame helps.
    pub fn due(&mut self, now: Instant, out: &mut [SeqNum]) -> (usize, bool) {
        let Some(missing) = &mut self.missing else { return (0, false) };
        if missing.next_deadline().is_none_or(|due| due > now) {
            return (0, missing.take_needs_keyframe());
        }
        (missing.due(now, None, out), missing.take_needs_keyframe())
    }

    /// What a receiver report says of it.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.inbound.highest()?;
        let stats = self.inbound.report(now);
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: stats.fraction_lost,
            cumulative_lost: stats.cumulative_lost,
            highest_seq: stats.highest_seq,
            jitter: stats.jitter,
            last_sr: stats.last_sr,
            delay_since_last_sr: stats.delay_since_last_sr,
        })
    }

    /// Interarrival jitter.
    pub fn jitter(&self) -> Duration {
        // `report` changes what the next report says; a copy does not.
        let ticks = self.inbound.clone().report(Instant::default()).jitter;
        let hz = if self.format.is_video { VIDEO_HZ } else { AUDIO_HZ };
        Duration::from_secs(ticks.into()) / hz
    }

    /// Begins a window.
    pub fn open_window(&mut self, now: Instant, running: bool) {
        self.is_whole = true;
        self.since = self.mark();
        if let Some(frames) = &mut self.frames {
            frames.reset(now, running);
        }
    }

    /// What came since the window began, or since the stream did.
    pub fn close_window(&mut self, now: Instant, running: bool) -> Brought {
        let (mark, since) = (self.mark(), self.since);
        self.since = mark;
        Brought {
            packets: mark.packets - since.packets,
            bytes: mark.bytes - since.bytes,
            gaps: u64::try_from(mark.lost - since.lost).unwrap_or(0),
            late: mark.late - since.late,
            frames: self.frames.as_mut().map_or_else(Frames::default, |f| f.finish(now, running)),
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            packets: self.inbound.packets(),
            bytes: self.inbound.bytes(),
            lost: self.inbound.lost(),
            late: self.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_engine::ids::PayloadType;
    use sluice_engine::wire::rtp::{FixedHeader, write_fixed_header};

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn stream(is_video: bool) -> ReceivedStream {
        let format = ReceiveFormat {
            payload_type: PayloadType(96),
            is_video,
            transport_cc: None,
            nack: is_video,
        };
        ReceivedStream::new(Ssrc(1), format, 30, true)
    }

    fn take(stream: &mut ReceivedStream, millis: u64, seq: u16) -> Arrival {
        let mut packet = [0; 32];
        let header = FixedHeader {
            marker: true,
            payload_type: PayloadType(96),
            seq: SeqNum(seq),
            timestamp: RtpTime(u32::from(seq) * 3_000),
            ssrc: Ssrc(1),
            has_extension: false,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).unwrap();
        stream.on_packet(at(millis), &RtpHeader::parse(&packet).unwrap(), 32).0
    }

    #[test]
    fn a_window_counts_what_came_once_and_what_lacks() {
        let mut stream = stream(true);
        for seq in [65_533, 65_534, 65_535] {
            assert_eq!(take(&mut stream, 1, seq), Arrival::New);
        }
        stream.open_window(at(2), true);
        for seq in [0, 1, 4, 3, 3, 6] {
            take(&mut stream, 3, seq);
        }
        let brought = stream.close_window(at(4), true);
        assert_eq!((brought.packets, brought.bytes, brought.gaps, brought.late), (5, 160, 2, 1));
        assert_eq!(stream.close_window(at(4), true).packets, 0);
        assert_eq!(take(&mut stream, 5, 2), Arrival::New);
        let brought = stream.close_window(at(6), true);
        assert_eq!((brought.packets, brought.gaps), (1, 0), "it fills a gap of the window before");
    }

    #[test]
    fn lost_video_is_asked_for_and_audio_is_not() {
        for (mut stream, expected) in [(stream(true), 1), (stream(false), 0)] {
            for seq in [10, 12, 13, 14, 15] {
                take(&mut stream, 20, seq);
            }
            let mut lost = [SeqNum(0); 8];
            let (count, needs_keyframe) = stream.due(at(40), &mut lost);
            assert_eq!((count, needs_keyframe), (expected, false));
            assert!(count == 0 || lost[0] == SeqNum(11));
        }
    }

    #[test]
    fn its_report_has_the_highest_number_with_its_cycle() {
        let mut stream = stream(false);
        assert_eq!(stream.report(at(0)), None, "nothing came yet");
        for seq in [65_534, 1, 65_535] {
            take(&mut stream, 1, seq);
        }
        let block = stream.report(at(2)).unwrap();
        assert_eq!((block.ssrc, block.highest_seq), (Ssrc(1), 0x2_0001));
    }
}
