//! Whether the packets of a video make whole frames, and when; from clear headers.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::ids::{ExtSeqNum, RtpTime};

use crate::result::Frames;

/// Frames of one received video.
///
/// A frame is complete when its marker came, nothing lacks between its first packet and the marker, and nothing lacks between it
/// and the frame before: the last says that its first packet is known.
pub struct FrameTracker {
    /// By number, oldest first.
    frames: VecDeque<Frame>,
    interval: Duration,
    last_complete: Option<Instant>,
    /// What was found since it was last reset.
    pub found: Frames,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    timestamp: RtpTime,
    first: u64,
    last: u64,
    packets: u64,
    marker: bool,
    is_complete: bool,
}

/// Frames that can still become complete.
const FRAMES_MAX: usize = 32;

/// A frame that comes this much later than the one before it freezes the picture, as `freezeCount` of WebRTC statistics has it.
const FREEZE: Duration = Duration::from_millis(150);

impl FrameTracker {
    /// Of a video with `frame_rate` frames a second.
    pub fn new(frame_rate: u32) -> Self {
        Self {
            frames: VecDeque::with_capacity(FRAMES_MAX),
            interval: Duration::from_secs(1) / frame_rate,
            last_complete: None,
            found: Frames::default(),
        }
    }

    /// Takes a packet that came for the first time; returns the timestamps of up to two frames that it made complete.
    pub fn on_packet(
        &mut self,
        at: Instant,
        index: ExtSeqNum,
        timestamp: RtpTime,
        marker: bool,
    ) -> [Option<RtpTime>; 2] {
        let index = index.0;
        let position = match self.frames.iter().rposition(|frame| frame.timestamp == timestamp) {
            Some(position) => {
                let frame = &mut self.frames[position];
                frame.first = frame.first.min(index);
                frame.last = frame.last.max(index);
                frame.packets += 1;
                frame.marker |= marker;
                position
            }
            None => {
                if self.frames.len() == FRAMES_MAX
                    && let Some(oldest) = self.frames.pop_front()
                {
                    self.found.incomplete += u64::from(!oldest.is_complete);
                }
                let position = self.frames.partition_point(|frame| frame.first < index);
                let frame = Frame {
                    timestamp,
                    first: index,
                    last: index,
                    packets: 1,
                    marker,
                    is_complete: false,
                };
                self.frames.insert(position, frame);
                position
            }
        };
        [self.complete(at, position), self.complete(at, position + 1)]
    }

    fn complete(&mut self, at: Instant, position: usize) -> Option<RtpTime> {
        let before = position.checked_sub(1).map(|before| self.frames[before].last + 1);
        let frame = self.frames.get_mut(position)?;
        let is_whole = frame.marker && frame.packets == frame.last - frame.first + 1;
        let begins = before.is_none_or(|end| end == frame.first);
        if frame.is_complete || !is_whole || !begins {
            return None;
        }
        frame.is_complete = true;
        let timestamp = frame.timestamp;
        self.found.complete += 1;
        self.note_gap(at);
        self.last_complete = Some(at);
        Some(timestamp)
    }

    fn note_gap(&mut self, at: Instant) {
        let Some(before) = self.last_complete else { return };
        let gap = at.since(before);
        if gap > (self.interval * 3).max(self.interval + FREEZE) {
            self.found.freezes += 1;
            self.found.frozen_s += (gap - self.interval).as_secs_f64();
        }
    }

    /// The publisher stops on purpose: a picture that stood still until `now` was frozen, one that stands still from here on is not.
    pub fn rest(&mut self, now: Instant) {
        self.note_gap(now);
        self.last_complete = None;
    }

    /// The publisher goes on: a frame that comes late from here on freezes the picture.
    pub fn run(&mut self, now: Instant) {
        self.last_complete = Some(now);
    }

    /// Whether the frame with this timestamp is complete, as far as it is remembered.
    pub fn is_complete(&self, timestamp: RtpTime) -> bool {
        self.frames.iter().any(|frame| frame.timestamp == timestamp && frame.is_complete)
    }

    /// Counts from here on. `running`: media flows, so that the first frame can be late.
    pub fn reset(&mut self, now: Instant, running: bool) {
        self.found = Frames::default();
        self.last_complete = running.then_some(now);
        self.frames.clear();
    }

    /// Ends the count: what is not complete stays so, but for a last frame that is under way while media flows; then, too, a picture
    /// that stands still until `now` is frozen.
    pub fn finish(&mut self, now: Instant, running: bool) -> Frames {
        if running {
            self.note_gap(now);
        }
        let missing = self.frames.iter().filter(|frame| !frame.is_complete).count() as u64;
        let is_under_way = running && self.frames.back().is_some_and(|frame| !frame.marker);
        self.found.incomplete += missing - u64::from(is_under_way);
        let found = self.found;
        self.reset(now, running);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    /// Packets in the order given: number and time; three make a frame.
    fn run(packets: &[(u64, u64)]) -> FrameTracker {
        let mut tracker = FrameTracker::new(50);
        for &(index, millis) in packets {
            let timestamp = RtpTime((index / 3 * 1_800) as u32);
            tracker.on_packet(at(millis), ExtSeqNum(index), timestamp, index % 3 == 2);
        }
        tracker
    }

    #[test]
    fn frames_in_order_are_complete() {
        let packets: Vec<_> = (0..30).map(|index| (index, index / 3 * 20)).collect();
        let found = run(&packets).finish(at(200), true);
        assert_eq!(found, Frames { complete: 10, ..Frames::default() });
    }

    #[test]
    fn reordered_frames_are_complete_too() {
        let packets: Vec<_> = [1, 0, 3, 2, 5, 4, 8, 7, 6].map(|index| (index, 1)).to_vec();
        assert_eq!(run(&packets).found.complete, 3);
    }

    #[test]
    fn a_lost_packet_costs_its_frame_and_only_a_lost_last_one_that_after_it() {
        let without = |lost: u64| -> Vec<(u64, u64)> {
            (0..12).filter(|&index| index != lost).map(|index| (index, 1)).collect()
        };
        let found = run(&without(4)).finish(at(2), true);
        assert_eq!((found.complete, found.incomplete), (3, 1));
        let found = run(&without(5)).finish(at(2), true);
        assert_eq!(
            (found.complete, found.incomplete),
            (2, 2),
            "nobody knows which frame it was of"
        );
        let mut late = without(5);
        late.push((5, 9));
        assert_eq!(run(&late).finish(at(9), true).complete, 4, "it came again");
    }

    #[test]
    fn a_frame_under_way_at_the_end_lacks_nothing() {
        let packets: Vec<_> = (0..5).map(|index| (index, 1)).collect();
        assert_eq!(run(&packets).finish(at(2), true).incomplete, 0);
        assert_eq!(run(&packets).finish(at(2), false).incomplete, 1, "nothing more comes");
    }

    #[test]
    fn a_rest_does_not_freeze_the_picture() {
        let packets: Vec<_> = (0..6).map(|index| (index, index / 3 * 20)).collect();
        let mut tracker = run(&packets);
        tracker.rest(at(40));
        assert_eq!(tracker.found.freezes, 0);
        assert_eq!(tracker.finish(at(900), false).freezes, 0);
        tracker.on_packet(at(1_500), ExtSeqNum(6), RtpTime(9), true);
        tracker.rest(at(2_500));
        assert_eq!(tracker.found.freezes, 1, "it stood still before the rest");
    }

    #[test]
    fn a_gap_freezes_the_picture() {
        let mut packets: Vec<_> = (0..6).map(|index| (index, index / 3 * 20)).collect();
        packets.extend((6..9).map(|index| (index, 500)));
        let mut tracker = run(&packets);
        assert_eq!(tracker.found.freezes, 1);
        assert!((tracker.found.frozen_s - 0.46).abs() < 1e-9, "{}", tracker.found.frozen_s);
        assert_eq!(tracker.finish(at(1_000), true).freezes, 2, "and it stands still at the end");
        assert_eq!(tracker.finish(at(1_010), true), Frames::default());
    }
}
