//! The forward table: track → contiguous legs, and what retransmission and reports need of a track.

use std::time::Duration;

use super::simulcast::Simulcast;
use crate::clock::{Instant, NtpTime};
use crate::config::EngineConfig;
use crate::ids::{CallId, RtpTime, SessionKey, TallyId, TrackId, TrackKey};
use crate::relay::{Lease, Upstream};
use crate::rtp::audio_level::VoiceDetector;
use crate::rtp::history::History;
use crate::rtp::report::{SenderClock, rtp_time_after};
use crate::rtp::ticks;
use crate::session::params::TrackParams;
use crate::session::plain::PlainRtp;
use crate::slots::Slots;
use crate::wire::rtp_ext::{Extension, ExtensionMap};

/// Every track of a shard.
pub type ForwardTable = Slots<TrackKey, Track>;

/// A published track as the packet path needs it.
pub struct Track {
    /// Its number.
    pub id: TrackId,
    /// Its call: legs of another call are refused.
    pub call: CallId,
    /// Who publishes it.
    pub publisher: Publisher,
    /// The other shards with subscribers of it; none of a track that is itself another shard's.
    pub relays: Vec<Lease>,
    /// How often it was unmuted.
    pub resumed: u32,
    /// The publisher's header extension ids.
    pub extensions: ExtensionMap,
    /// Who gets it.
    pub legs: Vec<LegRef>,
    /// Its simulcast layers, the lowest first; one without simulcast.
    pub layers: Box<[Layer]>,
    /// What chooses among them.
    pub simulcast: Option<Box<Simulcast>>,
    /// Where it is counted.
    pub tally: TallyId,
    /// Nobody gets it.
    pub muted: bool,
    /// Listens for speech, where that is wanted and the publisher sends levels.
    pub voice: Option<VoiceDetector>,
}

/// Where a track's packets come from.
#[derive(Clone, Copy, Debug)]
pub enum Publisher {
    /// A session of this shard: the track is at home here.
    Session(SessionKey),
    /// Another shard, the track's home.
    Relay(Upstream),
}

impl Publisher {
    /// The session, of a track that is at home here.
    pub fn session(&self) -> Option<SessionKey> {
        match self {
            Self::Session(key) => Some(*key),
            Self::Relay(_) => None,
        }
    }

    /// The other shard's side, of a track that is at home there.
    pub fn upstream(&mut self) -> Option<&mut Upstream> {
        match self {
            Self::Session(_) => None,
            Self::Relay(upstream) => Some(upstream),
        }
    }
}

/// What is kept of a layer.
pub struct Layer {
    /// Packets that subscribers may ask for again: one copy for all of them. Video with NACK only.
    pub history: Option<History>,
    /// How its timestamps run against our clock.
    pub clock: TrackClock,
}

/// Where a leg lives: a session and a position in its list of legs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LegRef {
    /// The subscriber.
    pub session: SessionKey,
    /// Position among the subscriber's legs.
    pub leg: u32,
    /// The layer that the leg gets. Here, so that fan-out passes over the others without a look at the session.
    pub layer: u8,
    /// The layer whose next key frame the leg changes to; the same when it stays.
    pub target: u8,
}

/// What a subscriber's sender reports are made of: the publisher's clock as far as it is known.
#[derive(Clone, Copy, Default)]
pub struct TrackClock {
    /// The publisher's clock against ours, and its latest sender report of this track.
    pub report: Option<(SenderClock, NtpTime, RtpTime)>,
    /// The newest packet: timestamp, arrival, clock rate in Hz.
    pub latest: Option<(RtpTime, Instant, u32)>,
}

impl TrackClock {
    /// Notes a packet; older ones than the newest change nothing.
    pub fn on_packet(&mut self, now: Instant, timestamp: RtpTime, clock_rate_hz: u32) {
        if self.latest.is_none_or(|(newest, ..)| timestamp.since(newest) > 0) {
            self.latest = Some((timestamp, now, clock_rate_hz));
        }
    }

    /// The publisher's RTP time at this moment; `None` before the first packet.
    pub fn rtp_now(&self, now: Instant, ntp_now: NtpTime) -> Option<RtpTime> {
        let (timestamp, arrival, clock_rate_hz) = self.latest?;
        if let Some((clock, ntp, rtp)) = self.report {
            return Some(clock.rtp_time_at(ntp_now, (ntp, rtp), clock_rate_hz));
        }
        Some(rtp_time_after((timestamp, arrival), now, clock_rate_hz))
    }

    /// This clock's timestamp less the other's at one moment, wrapping, by the publisher's reports of both.
    pub fn offset_to(&self, other: &Self) -> Option<u32> {
        let (_, ntp, rtp) = self.report?;
        let (_, other_ntp, other_rtp) = other.report?;
        let (_, _, clock_rate_hz) = self.latest?;
        let nanos = other_ntp.nanos_since(ntp);
        let elapsed = ticks(Duration::from_nanos(nanos.unsigned_abs()), clock_rate_hz);
        let elapsed = if nanos < 0 { elapsed.wrapping_neg() } else { elapsed };
        Some(rtp.0.wrapping_add(elapsed).wrapping_sub(other_rtp.0))
    }
}

impl Track {
    /// Makes the table's part of a track. `config.history_packets` slots a layer are reserved when a subscriber could ask for them.
    pub fn new(
        call: CallId,
        publisher: Publisher,
        params: &TrackParams,
        config: &EngineConfig,
    ) -> Self {
        let simulcast = Simulcast::new(params, &config.layers).map(Box::new);
        let mut extensions = params.extensions;
        if simulcast.is_some() {
            // Its frame numbers are a layer's own and would repeat after a switch; receivers do without it.
            extensions.set(Extension::DependencyDescriptor, 0);
        }
        let has_levels = params.extensions.id(Extension::AudioLevel).is_some();
        // Who publishes is told once that it speaks: by the shard that has it.
        let is_watched = params.voice_activity && has_levels && publisher.session().is_some();
        let keeps_history = params.codecs.iter().any(|codec| codec.nack);
        let layer = || Layer {
            history: keeps_history
                .then(|| History::new(config.history_packets, HISTORY_SLOT_BYTES)),
            clock: TrackClock::default(),
        };
        Self {
            id: params.track,
            call,
            publisher,
            relays: Vec::new(),
            resumed: 0,
            extensions,
            legs: Vec::new(),
            layers: (0..params.layers.len().max(1)).map(|_| layer()).collect(),
            simulcast,
            tally: params.tally,
            muted: false,
            voice: is_watched.then(|| VoiceDetector::new(config.voice_activity)),
        }
    }

    /// Adds a leg.
    pub fn add_leg(&mut self, now: Instant, leg: LegRef) {
        self.legs.push(leg);
        if let Some(simulcast) = &mut self.simulcast {
            simulcast.leg_added(now);
        }
    }

    /// The layers that legs get, one bit each.
    pub fn layers_in_use(&self) -> u8 {
        self.legs.iter().fold(0, |layers, leg| layers | 1 << leg.layer)
    }

    /// Removes the leg at position `leg` of `session`; whether it was there.
    pub fn remove_leg(&mut self, session: SessionKey, leg: u32) -> bool {
        let is_it = |other: &LegRef| other.session == session && other.leg == leg;
        let Some(at) = self.legs.iter().position(is_it) else { return false };
        self.legs.swap_remove(at);
        if let Some(simulcast) = &mut self.simulcast {
            simulcast.leg_removed(at);
        }
        true
    }

    /// Listens to a packet; tells when speech begins (`true`) or ceases (`false`).
    pub fn hear(&mut self, now: Instant, packet: &PlainRtp<'_>) -> Option<bool> {
        self.voice.as_mut()?.on_level(now, packet.audio_level()?)
    }
}

/// Largest plain packet that is kept for retransmission; browsers stay below 1,250 bytes.
pub const HISTORY_SLOT_BYTES: usize = 1_500;
