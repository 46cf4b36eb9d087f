//! What a user sends: paced packets that carry its stamp.

use std::time::{Duration, Instant};

use str0m::format::Codec;
use str0m::media::{ExtensionValues, Mid, Pt, Rid};
use str0m::rtp::RtpWrite;

use super::media::Stamp;

/// What the microphone hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sound {
    /// Loud and soft in turn, as speech is to the detector of 4.10.
    Speech,
    /// One level.
    Silence,
}

/// Packets of one track; more than one encoding with simulcast.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// Section, once it was agreed.
    pub(crate) mid: Option<Mid>,
    /// The MediaStream it belongs to.
    pub(crate) stream: String,
    /// Whether packets leave; `false` after `replaceTrack(null)`.
    pub(crate) sending: bool,
    pub(crate) stamp: Stamp,
    pub(crate) sound: Sound,
    /// Packets that are still sent, if their number is limited.
    pub(crate) limit: Option<usize>,
    /// Time between two packets of voice.
    pub(crate) voice_interval: Duration,
    codec: Codec,
    payload_type: Pt,
    encodings: Vec<Encoding>,
}

#[derive(Debug, Clone)]
struct Encoding {
    rid: Option<Rid>,
    interval: Duration,
    /// Bytes of a packet.
    length: usize,
    due: Instant,
    begun: Instant,
    sequence: u64,
    needs_key_frame: bool,
}

impl Publication {
    pub(crate) fn new(stream: &str, stamp: Stamp) -> Self {
        Self {
            mid: None,
            stream: stream.to_owned(),
            sending: true,
            stamp,
            sound: Sound::Speech,
            limit: None,
            voice_interval: Duration::from_millis(20),
            codec: Codec::Opus,
            payload_type: Pt::new_with_value(111),
            encodings: Vec::new(),
        }
    }

    /// The section was agreed: the first packet is due.
    pub(crate) fn begin(
        mut self,
        mid: Mid,
        payload_type: Pt,
        codec: Codec,
        simulcast: bool,
        now: Instant,
    ) -> Self {
        let encoding = |rid: Option<&str>, interval, length| Encoding {
            rid: rid.map(Rid::from),
            interval,
            length,
            due: now,
            begun: now,
            sequence: 1000,
            needs_key_frame: true,
        };
        // Far below the rates of 3.6, so that a small test host carries many; the layers differ clearly.
        self.encodings = match (codec, simulcast) {
            (Codec::Opus, _) => vec![encoding(None, self.voice_interval, 80)],
            (_, false) => vec![encoding(None, Duration::from_millis(50), 500)],
            (_, true) => vec![
                encoding(Some("l"), Duration::from_millis(100), 500),
                encoding(Some("h"), Duration::from_millis(50), 900),
            ],
        };
        (self.mid, self.payload_type, self.codec) = (Some(mid), payload_type, codec);
        self
    }

    /// When the next packet leaves.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sends = self.sending && self.limit != Some(0);
        self.encodings.iter().filter(|_| sends).map(|encoding| encoding.due).min()
    }

    /// The next frame of an encoding begins a picture anew.
    pub(crate) fn ask_key_frame(&mut self, rid: Option<Rid>) {
        let asked = self.encodings.iter_mut().filter(|encoding| encoding.rid == rid);
        asked.for_each(|encoding| encoding.needs_key_frame = true);
    }

    /// The next packet that is due.
    pub(crate) fn next_packet(&mut self, now: Instant) -> Option<(Mid, Option<Rid>, RtpWrite)> {
        if self.due()? > now {
            return None;
        }
        self.limit = self.limit.map(|limit| limit - 1);
        let (mid, codec, sound) = (self.mid?, self.codec, self.sound);
        let encoding = self.encodings.iter_mut().find(|encoding| encoding.due <= now)?;
        // Behind after a pause or on a busy host: what was missed is not made up for.
        encoding.due = (encoding.due + encoding.interval).max(now);
        encoding.sequence += 1;
        let number = encoding.sequence;
        let key_frame = std::mem::take(&mut encoding.needs_key_frame);
        let elapsed = now.duration_since(encoding.begun);
        let stamp = Stamp { high: encoding.rid == Some(Rid::from("h")), ..self.stamp };
        let (clock, payload) = match codec {
            Codec::Opus => (48_000, stamp.opus()),
            Codec::Av1 => (90_000, stamp.av1(key_frame, encoding.length)),
            _ => (90_000, stamp.vp8(key_frame, number as u16 & 0x7fff, encoding.length)),
        };
        let time = (elapsed.as_micros() * clock / 1_000_000) as u32;
        let mut extensions = ExtensionValues::default();
        if codec == Codec::Opus {
            let level = match sound {
                Sound::Speech if number.is_multiple_of(2) => -20,
                Sound::Speech => -60,
                Sound::Silence => -90,
            };
            extensions.audio_level = Some(level);
            extensions.voice_activity = Some(sound == Sound::Speech);
        }
        let write = RtpWrite::new(self.payload_type, number.into(), time, now, payload)
            .marker(codec != Codec::Opus)
            .ext_vals(extensions)
            .nackable(codec != Codec::Opus);
        Some((mid, encoding.rid, write))
    }
}
