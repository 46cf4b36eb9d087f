//! A load as packets each second, and the CPU time that they cost.

use super::Sized;
use super::sizing::{group, sized};
use crate::load::{Calls, Load};

/// Packets each second, by kind.
pub(super) struct Traffic {
    pub(super) sessions: u128,
    pub(super) watching: u128,
    pub(super) audio_in: u128,
    pub(super) video_in: u128,
    pub(super) audio_out: u128,
    pub(super) video_out: u128,
}

impl Traffic {
    pub(super) fn of(load: &Load) -> Self {
        let sum = |of: &dyn Fn(&Calls) -> u128| load.shapes.iter().map(of).sum::<u128>();
        let audio = |c: &Calls| u128::from(c.calls) * u128::from(c.unmuted) * AUDIO_PACKETS;
        let video = |c: &Calls| u128::from(c.calls) * u128::from(c.videos()) * VIDEO_PACKETS;
        let others = |c: &Calls| u128::from(c.participants - 1);
        Self {
            sessions: sum(&|c| c.people().into()),
            watching: sum(&|c| if c.videos() > 0 { c.people().into() } else { 0 }),
            audio_in: sum(&audio),
            video_in: sum(&video),
            audio_out: sum(&|c| audio(c) * others(c)),
            video_out: sum(&|c| video(c) * others(c)),
        }
    }

    /// Reports, checks, pings and feedback that arrive.
    pub(super) fn feedback_in(&self) -> u128 {
        self.sessions * SESSION_PACKETS + self.watching * FEEDBACK_PACKETS
    }

    pub(super) fn packets_in(&self) -> u128 {
        self.audio_in + self.video_in + self.feedback_in()
    }

    fn cpu_ns(&self) -> u128 {
        self.audio_out * AUDIO_NS
            + self.video_out * VIDEO_NS
            + (self.audio_in + self.video_in) * IN_NS
            + self.sessions * SESSION_NS
    }

    pub(super) fn shards(&self) -> Sized {
        let shards = self.cpu_ns().div_ceil(BUSY_NS).max(1);
        sized(
            shards,
            format!(
                "({} audio packets out × 5.2 µs + {} of video × 2.5 µs + {} of media in × 5.5 µs + {} sessions × 65 µs) / 0.7, \
                 since a shard should not be busy for more than 70 % of a second; measured on a whole core of an AMD EPYC \
                 (Zen 5, virtual machine, loopback): docs/benchmarks.md",
                group(self.audio_out),
                group(self.video_out),
                group(self.audio_in + self.video_in),
                group(self.sessions),
            ),
        )
    }
}

// Streams are those of the scenarios of sluice-bench (bench/src/scenario: `Audio::default`, `Video::default`).
/// Packets of one voice each second, and bytes of payload of each: 80 kbit/s.
const AUDIO_PACKETS: u128 = 50;
pub(super) const AUDIO_BYTES: u128 = 200;
/// Packets of one screen or camera each second: 30 frames of 6; bytes of payload of each: 1.6 Mbit/s.
const VIDEO_PACKETS: u128 = 180;
pub(super) const VIDEO_BYTES: u128 = 1_111;
/// IPv4 20, UDP 8, RTP 12, header extensions 16, authentication tag 16.
pub(super) const HEADER_BYTES: u128 = 72;
/// A report, a check or an answer on the wire.
pub(super) const SMALL_BYTES: u128 = 120;
/// Each second and session, each way: a report, a data channel ping, a connectivity check each 2.5 s.
pub(super) const SESSION_PACKETS: u128 = 3;
/// Transport-wide feedback of who receives video, each second.
const FEEDBACK_PACKETS: u128 = 10;

// CPU time as docs/benchmarks.md has it, nanoseconds.
/// Audio to a thousand people, by the packet out.
const AUDIO_NS: u128 = 5_200;
/// Screens, by the packet out.
const VIDEO_NS: u128 = 2_500;
/// What calls of two, with a packet in for each out, cost above that.
const IN_NS: u128 = 5_500;
/// A session that only reports and pings, each second.
const SESSION_NS: u128 = 65_000;
/// Of each second, what a shard may be busy.
const BUSY_NS: u128 = 700_000_000;
