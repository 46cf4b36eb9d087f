//! The forward table: track → contiguous legs, and what retransmission and reports need of a track.

use crate::clock::{Instant, NtpTime};
use crate::config::EngineConfig;
use crate::ids::{CallId, RtpTime, SessionKey, TallyId, TrackId, TrackKey};
use crate::rtp::audio_level::VoiceDetector;
use crate::rtp::history::History;
use crate::rtp::report::{SenderClock, rtp_time_after};
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
    pub publisher: SessionKey,
    /// The publisher's header extension ids.
    pub extensions: ExtensionMap,
    /// Who gets it.
    pub legs: Vec<LegRef>,
    /// Packets that subscribers may ask for again: one copy for all of them. Video with NACK only.
    pub history: Option<History>,
    /// How its timestamps run against our clock.
    pub clock: TrackClock,
    /// Where it is counted.
    pub tally: TallyId,
    /// Nobody gets it.
    pub muted: bool,
    /// Listens for speech, where that is wanted and the publisher sends levels.
    pub voice: Option<VoiceDetector>,
}

/// Where a leg lives: a session and a position in its list of legs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LegRef {
    /// The subscriber.
    pub session: SessionKey,
    /// Position among the subscriber's legs.
    pub leg: u32,
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
}

impl Track {
    /// Makes the table's part of a track. `config.history_packets` slots are reserved when a subscriber could ask for them.
    pub fn new(
        call: CallId,
        publisher: SessionKey,
        params: &TrackParams,
        config: &EngineConfig,
    ) -> Self {
        let has_levels = params.extensions.id(Extension::AudioLevel).is_some();
        let is_watched = params.voice_activity && has_levels;
        let keeps_history = params.codecs.iter().any(|codec| codec.nack);
        Self {
            id: params.track,
            call,
            publisher,
            extensions: params.extensions,
            legs: Vec::new(),
            history: keeps_history
                .then(|| History::new(config.history_packets, HISTORY_SLOT_BYTES)),
            clock: TrackClock::default(),
            tally: params.tally,
            muted: false,
            voice: is_watched.then(|| VoiceDetector::new(config.voice_activity)),
        }
    }

    /// Listens to a packet; tells when speech begins (`true`) or ceases (`false`).
    pub fn hear(&mut self, now: Instant, packet: &PlainRtp<'_>) -> Option<bool> {
        self.voice.as_mut()?.on_level(now, packet.audio_level()?)
    }
}

/// Largest plain packet that is kept for retransmission; browsers stay below 1,250 bytes.
pub const HISTORY_SLOT_BYTES: usize = 1_500;
