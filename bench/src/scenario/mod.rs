//! What a run does: calls, who is in them, what they send, for how long. Read from TOML, checked, shrunk to fit.
//!
//! [`Scenario`] is plain data with `bounds`; `file` reads it, `scale` shrinks it, `builtin` holds the files that come with the program.

mod bounds;
pub mod builtin;
mod file;
mod scale;

use serde::{Deserialize, Serialize};

pub use bounds::COUNT_MAX;
pub use scale::{fit, parse_factor, participants_min, scale, with_people};

/// One scenario. All fields have defaults but `name` and `calls`; unknown keys are refused.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called in reports: letters, digits, `-`, `_`; 1 to 64.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub about: String,
    /// Who is in which call.
    pub calls: Calls,
    /// What an unmuted participant sends.
    #[serde(default)]
    pub audio: Audio,
    /// What a participant that shares its screen sends.
    #[serde(default)]
    pub screen: Video,
    /// How participants come.
    #[serde(default)]
    pub join: Join,
    /// How long it takes.
    #[serde(default)]
    pub time: Time,
    /// How clients behave beside their media.
    #[serde(default)]
    pub clients: Clients,
    /// Mutes and unmutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute: Option<Mute>,
    /// Participants that leave and come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// A bad network between clients and server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impair: Option<Impair>,
    /// What a run has to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// What somebody else measured for this load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// How it was shrunk, if it was. Not in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
}

/// Who is in which call. All calls are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// Calls, 1 to 10,000.
    pub calls: u32,
    /// Participants of each, 1 to 10,000; all calls together at most 20,000.
    pub participants: u32,
    /// The first so many of each call send audio.
    #[serde(default)]
    pub unmuted: u32,
    /// The first so many of each call share a screen.
    #[serde(default)]
    pub screens: u32,
}

/// Audio: packets of one size at one pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audio {
    /// Payload bits a second.
    pub rate_bps: u32,
    /// Packets a second.
    pub packets_per_second: u32,
}

/// Video: frames of one size at one pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Video {
    /// Payload bits a second, of the high layer when there are two.
    pub rate_bps: u32,
    /// Frames a second.
    pub frame_rate: u32,
    /// The largest payload of a packet, bytes.
    pub packet_bytes: u16,
    /// How a frame becomes packets.
    pub cut: Cut,
    /// Milliseconds over which the packets of a frame are sent; 0 sends them at once.
    pub spread_ms: u32,
    /// Payload bits a second of a second, low layer; 0 sends one encoding.
    pub low_rate_bps: u32,
    /// A key frame is this many times as long as another frame, and comes on top of the rates; 1 makes all frames alike.
    pub keyframe_times: u32,
    /// Seconds from one key frame to the next; where somebody asks for one, it comes sooner.
    pub keyframe_s: u32,
    /// Whether all begin their frames, and so their key frames, at the same moments; else at random ones.
    pub in_step: bool,
}

/// How a frame becomes packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// As few as fit, equal but for a byte, the longer ones last: as libwebrtc.
    Equal,
    /// Full ones and what is left: as pion.
    FullAndTail,
}

/// How participants come.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// Seconds over which they come, evenly; 0 lets all come at once.
    pub ramp_s: f64,
    /// Joins that may be under way at a time, in each worker.
    pub at_once_max: u32,
    /// Seconds that one may take.
    pub timeout_s: f64,
}

/// How long it takes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// Seconds of media before the measurement.
    pub warmup_s: f64,
    /// Seconds of the measurement.
    pub measure_s: f64,
}

/// How clients behave beside their media.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Seconds between RTCP reports.
    pub report_s: f64,
    /// Seconds between pings over the data channel, where the target has one; 0 sends none.
    pub ping_s: f64,
    /// Whether receivers send transport-wide feedback, ten times a second.
    pub transport_cc: bool,
    /// Whether receivers ask for lost video packets, and publishers send them again.
    pub nack: bool,
}

/// Mutes and unmutes: each unmuted participant in turn is silent for a while.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// Seconds from one change of a participant to its next.
    pub every_s: f64,
}

/// Participants that leave and come back.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Participants that leave each second, over all calls. Each comes back at once as somebody new.
    pub per_second: f64,
}

/// A bad network, both ways unless said otherwise.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impair {
    /// Seeds all choices.
    pub seed: u64,
    /// Share of datagrams lost, 0 to 1, each by itself.
    pub loss: f64,
    /// Share of the time that a burst of loss takes, 0 to 0.9 (Gilbert-Elliott; all is lost within a burst).
    pub burst_loss: f64,
    /// Datagrams of a mean burst.
    pub burst_length: f64,
    /// Milliseconds each way.
    pub delay_ms: f64,
    /// Milliseconds more, uniformly chosen; order is kept.
    pub jitter_ms: f64,
    /// Share of datagrams that overtake: sent without their delay.
    pub reorder: f64,
    /// Share of datagrams sent twice.
    pub duplicate: f64,
    /// Bits a second of UDP payload for each client and way; 0 is without limit. What waits longer than 200 ms is dropped.
    pub rate_bps: u64,
    /// Seconds after which a client gets another port towards the server; 0 never.
    pub rebind_s: f64,
}

/// What a run has to show; one that does not has failed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Share of the packets that may be lost, 0 to 1.
    pub loss_max: f64,
}

/// What somebody else measured for this load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Who, and with what.
    pub source: String,
    /// Kind of machine.
    pub instance: String,
    /// Its virtual processors.
    pub vcpus: u32,
    /// CPU of the whole machine, per cent.
    pub cpu_percent: f64,
    /// Memory, GB.
    pub memory_gb: f64,
    /// Traffic into the server, Mbit/s.
    pub in_mbps: f64,
    /// Traffic out of it.
    pub out_mbps: f64,
}

/// How a scenario was shrunk.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scaled {
    /// What was asked for.
    pub factor: f64,
    /// Calls and participants as the file has them.
    pub calls: u32,
    /// Participants of each call as the file has them.
    pub participants: u32,
}

impl Default for Audio {
    fn default() -> Self {
        Self { rate_bps: 80_000, packets_per_second: 50 }
    }
}

impl Default for Video {
    fn default() -> Self {
        Self {
            rate_bps: 1_600_000,
            frame_rate: 30,
            packet_bytes: 1_180,
            cut: Cut::Equal,
            spread_ms: 12,
            low_rate_bps: 0,
            keyframe_times: 1,
            keyframe_s: 2,
            in_step: false,
        }
    }
}

impl Default for Join {
    fn default() -> Self {
        Self { ramp_s: 0.0, at_once_max: 64, timeout_s: 20.0 }
    }
}

impl Default for Time {
    fn default() -> Self {
        Self { warmup_s: 5.0, measure_s: 20.0 }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self { report_s: 1.0, ping_s: 1.0, transport_cc: false, nack: false }
    }
}

impl Calls {
    /// Participants of all calls.
    pub fn people(&self) -> u32 {
        self.calls * self.participants
    }
}

impl Video {
    /// Payload bytes of each packet of a frame of `rate_bps`, in the order they are sent.
    pub fn packets(&self, rate_bps: u32) -> Vec<usize> {
        self.cut_up((rate_bps / 8 / self.frame_rate) as usize)
    }

    /// The same of a key frame.
    pub fn keyframe_packets(&self, rate_bps: u32) -> Vec<usize> {
        self.cut_up((rate_bps / 8 / self.frame_rate) as usize * self.keyframe_times as usize)
    }

    /// Whether all frames are alike and begin at random moments, as floors have it.
    pub fn is_steady(&self) -> bool {
        self.keyframe_times == 1 && !self.in_step
    }

    /// Frames from one key frame to the next.
    pub fn keyframe_frames(&self) -> u32 {
        self.frame_rate * self.keyframe_s
    }

    /// Packets a second of one layer. Key frames that somebody asks for come on top.
    fn packets_per_second(&self, rate_bps: u32) -> f64 {
        let [frame, keyframe] = [self.packets(rate_bps), self.keyframe_packets(rate_bps)]
            .map(|packets| packets.len() as f64);
        f64::from(self.frame_rate) * frame + (keyframe - frame) / f64::from(self.keyframe_s)
    }

    fn cut_up(&self, frame: usize) -> Vec<usize> {
        let largest = usize::from(self.packet_bytes);
        let count = frame.div_ceil(largest).max(1);
        match self.cut {
            Cut::Equal => {
                let longer = frame % count;
                (0..count).map(|at| frame / count + usize::from(at >= count - longer)).collect()
            }
            Cut::FullAndTail => (0..count).map(|at| largest.min(frame - at * largest)).collect(),
        }
    }
}

impl Scenario {
    /// Whether anybody sends anything.
    pub fn has_media(&self) -> bool {
        self.calls.unmuted + self.calls.screens > 0
    }

    /// Packets a second that the server sends when all arrives: what it costs most.
    pub fn packets_out_per_second(&self) -> f64 {
        let Calls { calls, participants, unmuted, screens } = self.calls;
        let others = f64::from(participants.saturating_sub(1));
        let audio = f64::from(unmuted * self.audio.packets_per_second);
        let screen = f64::from(screens) * self.screen.packets_per_second(self.screen.rate_bps);
        f64::from(calls) * others * (audio + screen)
    }

    /// Packets a second that all clients send: each layer of a screen counts.
    pub fn packets_in_per_second(&self) -> f64 {
        let Calls { calls, unmuted, screens, .. } = self.calls;
        let layers = [self.screen.rate_bps, self.screen.low_rate_bps];
        let sent = layers.iter().filter(|rate| **rate > 0);
        let each: f64 = sent.map(|rate| self.screen.packets_per_second(*rate)).sum();
        let audio = f64::from(unmuted * self.audio.packets_per_second);
        let screen = f64::from(screens) * each;
        f64::from(calls) * (audio + screen)
    }
}
