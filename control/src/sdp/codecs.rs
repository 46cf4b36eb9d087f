//! The codecs that pass through, and when two descriptions mean the same one. A session's policy may take fewer of them.
//!
//! | format | taken | matched by |
//! | --- | --- | --- |
//! | opus/48000/2, G722, PCMU, PCMA | yes | name, clock, channels |
//! | VP8 | yes | name |
//! | VP9 | yes | `profile-id`, 0 when absent |
//! | AV1 | yes | `profile`, 0 when absent |
//! | H264 | packetization modes 0 and 1 | mode, sub-profile of `profile-level-id`; level unless both sides allow asymmetry |
//! | rtx | with the codec that its `apt` names | RFC 4588 |
//! | RED, ULPFEC, FlexFEC | **not**: repair is by retransmission, and a forwarder would have to take redundancy apart for each leg | |
//! | telephone-event, CN | **not**: nothing between browsers needs them | |
//! | H265, multiopus, everything else | **not**: not every browser has them | |
//!
//! | feedback | towards publishers | towards subscribers |
//! | --- | --- | --- |
//! | `nack`, `nack pli`, `ccm fir` | as offered | video |
//! | `transport-cc` | as offered | where [`Policy`](super::Policy) sends transport-wide numbers |
//! | `goog-remb` | **not**: superseded by `transport-cc` | **not** |

use sluice_engine::ids::PayloadType;
use sluice_engine::session::params::{CodecParams, MediaKind};
use sluice_engine::wire::payload::PayloadFormat;

/// A codec as one m= section describes it under one payload type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    /// The payload type on the wire of whoever the description is about.
    pub payload_type: PayloadType,
    /// Which codec.
    pub name: CodecName,
    /// RTP clock rate in Hz.
    pub clock_rate_hz: u32,
    /// Channels as `a=rtpmap` has them: 2 for Opus, 1 where none are given.
    pub channels: u8,
    /// The parameters of `a=fmtp` that we know, in their order; empty when there are none.
    pub fmtp: Vec<(String, String)>,
    /// The feedback agreed on.
    pub feedback: Feedback,
    /// The payload type of its retransmissions (RFC 4588), if any.
    pub rtx: Option<PayloadType>,
}

/// Codecs that pass through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodecName {
    /// RFC 7587
    Opus,
    /// RFC 3551 §4.5.2
    G722,
    /// RFC 3551 §4.5.14
    Pcmu,
    /// RFC 3551 §4.5.14
    Pcma,
    /// RFC 7741
    Vp8,
    /// RFC 9628
    Vp9,
    /// RFC 6184
    H264,
    /// The AV1 RTP payload specification of AOMedia
    Av1,
}

/// RTCP feedback of one payload type: the part of `a=rtcp-fb` that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Feedback {
    /// `nack`. Source: RFC 4585 §6.2.1.
    pub nack: bool,
    /// `nack pli`. Source: RFC 4585 §6.3.1.
    pub pli: bool,
    /// `ccm fir`. Source: RFC 5104 §4.3.1.
    pub fir: bool,
    /// `transport-cc`. Source: draft-holmer-rmcat-transport-wide-cc-extensions-01.
    pub transport_cc: bool,
}

/// What makes two descriptions of a codec the same format, apart from levels: equal keys may share a payload type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CodecKey {
    name: CodecName,
    clock_rate_hz: u32,
    channels: u8,
    variant: u16,
}

/// Sub-profiles of H.264 that `profile-level-id` tells apart. Source: RFC 6184 §8.1, table 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    Extended,
    High,
    ConstrainedHigh,
    /// Any other: `profile_idc` as it is; its constraint flags are taken to say nothing.
    Other(u8),
}

impl CodecName {
    /// All codecs that pass through.
    pub const ALL: [Self; 8] = [
        Self::Opus,
        Self::G722,
        Self::Pcmu,
        Self::Pcma,
        Self::Vp8,
        Self::Vp9,
        Self::H264,
        Self::Av1,
    ];

    /// The encoding name in `a=rtpmap`; compared without regard to case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
        }
    }

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::G722 | Self::Pcmu | Self::Pcma => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => MediaKind::Video,
        }
    }

    /// The codec of an `a=rtpmap`, if it passes through at this clock rate and number of channels.
    pub(super) fn of_rtpmap(encoding: &str, clock_rate_hz: u32, channels: u8) -> Option<Self> {
        let name =
            Self::ALL.into_iter().find(|name| name.as_str().eq_ignore_ascii_case(encoding))?;
        let shape = match name {
            Self::Opus => (48_000, 2),
            // G.722 samples at 16 kHz, its RTP clock is 8 kHz by an old mistake (RFC 3551 §4.5.2).
            Self::G722 | Self::Pcmu | Self::Pcma => (8_000, 1),
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => (90_000, 1),
        };
        ((clock_rate_hz, channels) == shape).then_some(name)
    }

    /// What a payload type means without `a=rtpmap`. Source: RFC 3551 §6.
    pub(super) fn of_static_payload_type(payload_type: PayloadType) -> Option<Self> {
        match payload_type.0 {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            _ => None,
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 | Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }

    /// The parameters that go on from one peer to another. Others are dropped: what one client writes must not end up unseen in the
    /// descriptions of all others.
    fn known_parameters(self) -> &'static [&'static str] {
        match self {
            Self::Opus => &[
                "minptime",
                "maxptime",
                "ptime",
                "useinbandfec",
                "usedtx",
                "stereo",
                "sprop-stereo",
                "cbr",
                "maxplaybackrate",
                "sprop-maxcapturerate",
                "maxaveragebitrate",
            ],
            Self::G722 | Self::Pcmu | Self::Pcma => &[],
            Self::Vp8 => &["max-fr", "max-fs"],
            Self::Vp9 => &["profile-id", "max-fr", "max-fs"],
            Self::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
            Self::Av1 => &["profile", "level-idx", "tier"],
        }
    }
}

impl Codec {
    /// The value of an `a=fmtp` parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// What makes it the same format as another; `None` when its parameters ask for something that does not pass through.
    pub(super) fn key(&self) -> Option<CodecKey> {
        let variant = match self.name {
            CodecName::Vp9 => self.small_number("profile-id", 3)?,
            CodecName::Av1 => self.small_number("profile", 2)?,
            CodecName::H264 => {
                // Mode 2 (interleaved) sends in another order than it decodes; nobody on the web has it.
                let mode = self.small_number("packetization-mode", 1)?;
                let (profile, _) = self.h264_profile_and_level()?;
                profile.number() << 1 | mode
            }
            _ => 0,
        };
        Some(CodecKey {
            name: self.name,
            clock_rate_hz: self.clock_rate_hz,
            channels: self.channels,
            variant,
        })
    }

    /// Whether a receiver that describes itself by `receiver` can take what a sender describes by `self`.
    ///
    /// H.264 levels are compared unless both sides allow them to differ by `level-asymmetry-allowed=1`, as all browsers do.
    /// Source: RFC 6184 §8.2.2, RFC 9628 §6, RFC 3264 §6.1.
    pub(super) fn is_taken_by(&self, receiver: &Codec) -> bool {
        let (Some(ours), Some(theirs)) = (self.key(), receiver.key()) else { return false };
        if ours != theirs {
            return false;
        }
        if self.name != CodecName::H264 {
            return true;
        }
        let asymmetric = |codec: &Codec| codec.parameter("level-asymmetry-allowed") == Some("1");
        if asymmetric(self) && asymmetric(receiver) {
            return true;
        }
        match (self.h264_profile_and_level(), receiver.h264_profile_and_level()) {
            (Some((_, sent)), Some((_, taken))) => sent <= taken,
            _ => false,
        }
    }

    /// The engine's view of it, as a publisher's payload type.
    pub(super) fn params(&self) -> CodecParams {
        CodecParams {
            payload_type: self.payload_type,
            clock_rate_hz: self.clock_rate_hz,
            format: self.payload_format(),
            rtx: self.rtx,
            nack: self.feedback.nack,
            pli: self.feedback.pli,
            transport_cc: self.feedback.transport_cc,
        }
    }

    /// How its payload is laid out.
    fn payload_format(&self) -> PayloadFormat {
        match self.name {
            CodecName::Vp8 => PayloadFormat::Vp8,
            CodecName::Vp9 => PayloadFormat::Vp9,
            CodecName::H264 => PayloadFormat::H264,
            CodecName::Av1 => PayloadFormat::Av1,
            _ => PayloadFormat::Other,
        }
    }

    /// A parameter that is a number up to `max`; 0 when it is not there.
    fn small_number(&self, name: &str, max: u16) -> Option<u16> {
        match self.parameter(name) {
            None => Some(0),
            Some(text) => text.parse().ok().filter(|&number| number <= max),
        }
    }

    /// Sub-profile and level. The level is in tenths (31 for 3.1), level 1b is 10 as it is no more than 1.0 in what it asks.
    fn h264_profile_and_level(&self) -> Option<(H264Profile, u8)> {
        // Without the parameter, Baseline at level 1 is meant (RFC 6184 §8.1).
        let text = self.parameter("profile-level-id").unwrap_or("42000a");
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let [_, profile_idc, constraints, level] =
            u32::from_str_radix(text, 16).ok()?.to_be_bytes();
        let set = |mask: u8| constraints & mask == mask;
        let profile = match profile_idc {
            0x42 if set(0x40) => H264Profile::ConstrainedBaseline,
            0x4d if set(0x80) => H264Profile::ConstrainedBaseline,
            0x58 if set(0xc0) => H264Profile::ConstrainedBaseline,
            0x42 => H264Profile::Baseline,
            0x58 if set(0x80) => H264Profile::Baseline,
            0x4d => H264Profile::Main,
            0x58 => H264Profile::Extended,
            0x64 if set(0x0c) => H264Profile::ConstrainedHigh,
            0x64 => H264Profile::High,
            other => H264Profile::Other(other),
        };
        Some((profile, level))
    }
}

impl H264Profile {
    fn number(self) -> u16 {
        match self {
            Self::ConstrainedBaseline => 0x100,
            Self::Baseline => 0x101,
            Self::Main => 0x102,
            Self::Extended => 0x103,
            Self::High => 0x104,
            Self::ConstrainedHigh => 0x105,
            Self::Other(idc) => u16::from(idc),
        }
    }
}

impl Feedback {
    /// What an SFU asks of subscribers to a video track, whatever its publisher does: it answers NACK itself and merges the wishes
    /// for key frames. Whether it sends transport-wide sequence numbers is for the session's policy to say.
    pub(super) const TO_SUBSCRIBERS: Self =
        Self { nack: true, pli: true, fir: true, transport_cc: false };

    /// The same towards a peer that is sent no transport-wide sequence numbers.
    pub(super) fn without_transport_cc(self) -> Self {
        Self { transport_cc: false, ..self }
    }
}

/// The parameters of an `a=fmtp` value that go on to others: `key=value` pairs between semicolons.
pub(super) fn known_fmtp(name: CodecName, value: &str) -> Vec<(String, String)> {
    let harmless = |text: &str| {
        !text.is_empty()
            && text.len() <= FMTP_VALUE_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let mut parameters: Vec<(String, String)> = Vec::new();
    for pair in value.split(';') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let Some(&key) = name.known_parameters().iter().find(|k| k.eq_ignore_ascii_case(key))
        else {
            continue;
        };
        if harmless(value) && !parameters.iter().any(|(seen, _)| seen == key) {
            parameters.push((key.to_owned(), value.to_owned()));
        }
    }
    parameters
}

/// All values of known parameters are numbers, or six hexadecimal digits.
const FMTP_VALUE_BYTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(fmtp: &str) -> Codec {
        codec(CodecName::H264, fmtp)
    }

    fn codec(name: CodecName, fmtp: &str) -> Codec {
        Codec {
            payload_type: PayloadType(96),
            name,
            clock_rate_hz: name.clock_rate_hz(),
            channels: 1,
            fmtp: known_fmtp(name, fmtp),
            feedback: Feedback::default(),
            rtx: None,
        }
    }

    #[test]
    fn h264_profiles_are_equal_by_what_they_mean_not_by_their_digits() {
        // All three are Constrained Baseline by table 5 of RFC 6184.
        let spellings = ["42e01f", "42c01f", "4d801f", "58c01f"];
        for a in spellings {
            for b in spellings {
                assert_eq!(
                    h264(&format!("profile-level-id={a}")).key(),
                    h264(&format!("profile-level-id={b}")).key(),
                    "{a} {b}"
                );
            }
        }
        let distinct = ["42e01f", "42001f", "4d001f", "58001f", "64001f", "640c1f", "f4001f"];
        for (i, a) in distinct.iter().enumerate() {
            for b in &distinct[i + 1..] {
                assert_ne!(
                    h264(&format!("profile-level-id={a}")).key(),
                    h264(&format!("profile-level-id={b}")).key(),
                    "{a} {b}"
                );
            }
        }
    }

    #[test]
    fn h264_packetization_modes_do_not_mix_and_mode_2_is_declined() {
        let mode_0 = h264("profile-level-id=42e01f");
        let mode_1 = h264("profile-level-id=42e01f;packetization-mode=1");
        assert!(!mode_1.is_taken_by(&mode_0));
        assert!(!mode_0.is_taken_by(&mode_1));
        assert!(mode_0.is_taken_by(&h264("packetization-mode=0; profile-level-id=42E01F")));
        assert_eq!(h264("profile-level-id=42e01f;packetization-mode=2").key(), None);
    }

    #[test]
    fn h264_levels_matter_unless_both_sides_allow_asymmetry() {
        let high = h264("profile-level-id=42e028");
        let low = h264("profile-level-id=42e01f");
        assert!(low.is_taken_by(&high));
        assert!(!high.is_taken_by(&low));
        let asymmetric_high = h264("profile-level-id=42e028;level-asymmetry-allowed=1");
        let asymmetric_low = h264("profile-level-id=42e01f;level-asymmetry-allowed=1");
        assert!(asymmetric_high.is_taken_by(&asymmetric_low));
        assert!(!asymmetric_high.is_taken_by(&low));
    }

    #[test]
    fn malformed_profile_level_ids_match_nothing() {
        for bad in ["42e0", "zzzzzz", "42e01f00", "+2e01f"] {
            let codec =
                Codec { fmtp: vec![("profile-level-id".to_owned(), bad.to_owned())], ..h264("") };
            assert_eq!(codec.key(), None, "{bad}");
        }
    }

    #[test]
    fn vp9_and_av1_match_by_profile() {
        let vp9 = |fmtp| codec(CodecName::Vp9, fmtp);
        assert!(vp9("").is_taken_by(&vp9("profile-id=0")));
        assert!(!vp9("profile-id=2").is_taken_by(&vp9("profile-id=0")));
        assert_eq!(vp9("profile-id=9").key(), None);
        let av1 = |fmtp| codec(CodecName::Av1, fmtp);
        assert!(av1("level-idx=5;profile=0;tier=0").is_taken_by(&av1("")));
        assert!(!av1("profile=1").is_taken_by(&av1("profile=0")));
    }

    #[test]
    fn only_known_and_harmless_parameters_go_on() {
        let fmtp = known_fmtp(
            CodecName::Opus,
            "minptime=10;x-evil=1; useinbandfec=1;stereo=<script>;minptime=20;cbr",
        );
        let expected = [("minptime", "10"), ("useinbandfec", "1")];
        assert_eq!(fmtp, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn codecs_are_known_by_name_clock_and_channels() {
        assert_eq!(CodecName::of_rtpmap("OPUS", 48_000, 2), Some(CodecName::Opus));
        assert_eq!(CodecName::of_rtpmap("opus", 48_000, 1), None);
        assert_eq!(CodecName::of_rtpmap("multiopus", 48_000, 6), None);
        assert_eq!(CodecName::of_rtpmap("vp8", 90_000, 1), Some(CodecName::Vp8));
        assert_eq!(CodecName::of_rtpmap("H265", 90_000, 1), None);
    }
}
