//! Payload types and header extension ids of one session: all its m= sections share one RTP session, so a number means one thing
//! in all of them, for as long as the session lives. Source: RFC 9143 §9.1, RFC 8285 §5.

use sluice_engine::ids::PayloadType;
use sluice_engine::session::params::MediaKind;
use sluice_engine::wire::rtp_ext::Extension;

use super::codecs::{Codec, CodecKey, CodecName};
use super::parse::MediaSection;

/// What every payload type means in this session, as far as either side has said.
#[derive(Clone)]
pub(super) struct PayloadTable {
    /// Each payload type once, in ascending order: a session of data channels has none, a browser's some fifty.
    bindings: Vec<(PayloadType, Binding)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    Codec(CodecKey),
    /// Retransmissions of another payload type.
    Rtx(PayloadType),
    /// Something that we do not pass through.
    Foreign,
}

impl PayloadTable {
    pub(super) fn new() -> Self {
        Self { bindings: Vec::new() }
    }

    /// Learns what the peer binds. A payload type that meant something else before keeps its first meaning.
    pub(super) fn note(&mut self, section: &MediaSection) {
        for codec in &section.codecs {
            if let Some(key) = codec.key() {
                self.bind(codec.payload_type, Binding::Codec(key));
            }
            if let Some(rtx) = codec.rtx {
                self.bind(rtx, Binding::Rtx(codec.payload_type));
            }
        }
        for &payload_type in &section.payload_types {
            self.bind(payload_type, Binding::Foreign);
        }
    }

    /// The payload types under which we offer a codec, and its retransmissions for video: those that the session has already, else
    /// the usual ones, else any that are free. `None` when none is.
    pub(super) fn assign(&mut self, codec: &Codec) -> Option<(PayloadType, Option<PayloadType>)> {
        let wanted = Binding::Codec(codec.key()?);
        let usual = usual_payload_type(codec);
        let payload_type = self.find(wanted).or_else(|| self.claim(usual, wanted))?;
        if codec.name.kind() == MediaKind::Audio {
            return Some((payload_type, None));
        }
        let wanted = Binding::Rtx(payload_type);
        let usual = (usual == Some(payload_type)).then(|| PayloadType(payload_type.0 + 1));
        Some((payload_type, self.find(wanted).or_else(|| self.claim(usual, wanted))))
    }

    fn bind(&mut self, payload_type: PayloadType, binding: Binding) {
        if payload_type.0 < 128
            && let Err(at) = self.position(payload_type)
        {
            self.bindings.insert(at, (payload_type, binding));
        }
    }

    fn position(&self, payload_type: PayloadType) -> Result<usize, usize> {
        self.bindings.binary_search_by_key(&payload_type.0, |(bound, _)| bound.0)
    }

    fn find(&self, wanted: Binding) -> Option<PayloadType> {
        let (payload_type, _) = self.bindings.iter().find(|(_, binding)| *binding == wanted)?;
        Some(*payload_type)
    }

    fn claim(&mut self, usual: Option<PayloadType>, binding: Binding) -> Option<PayloadType> {
        let is_free = |number: &u8| self.position(PayloadType(*number)).is_err();
        // The dynamic range first, then the unassigned numbers below 64, as browsers do. Source: RFC 9429 §5.2.1, RFC 5761 §4.
        let free = usual.map(|p| p.0).into_iter().chain(96..=127).chain(35..=63).find(is_free)?;
        self.bind(PayloadType(free), binding);
        Some(PayloadType(free))
    }
}

/// What Chrome uses, which makes collisions with its later sections rare. The retransmission format follows.
fn usual_payload_type(codec: &Codec) -> Option<PayloadType> {
    let number = match codec.name {
        CodecName::Opus => 111,
        CodecName::Pcmu => 0,
        CodecName::Pcma => 8,
        CodecName::G722 => 9,
        CodecName::Vp8 => 96,
        CodecName::Vp9 if codec.parameter("profile-id") == Some("2") => 100,
        CodecName::Vp9 => 98,
        CodecName::H264 if codec.parameter("packetization-mode") == Some("1") => 108,
        CodecName::H264 => 114,
        CodecName::Av1 => 45,
    };
    Some(PayloadType(number))
}

/// What every header extension id means in this session.
#[derive(Clone)]
pub(super) struct ExtensionIds {
    /// Each id once; without an extension where it is one that we do not know.
    bindings: Vec<(u8, Option<Extension>)>,
}

impl ExtensionIds {
    pub(super) fn new() -> Self {
        Self { bindings: Vec::new() }
    }

    /// Learns what the peer binds. An id that meant something else before keeps its first meaning.
    pub(super) fn note(&mut self, section: &MediaSection) {
        for &(id, extension) in &section.extensions {
            // Each extension has one id; a second one is only known to be taken.
            let extension = extension.filter(|&e| self.find(e).is_none_or(|seen| seen == id));
            if !self.is_bound(id) {
                self.bindings.push((id, extension));
            }
        }
    }

    /// Whether `id` means `extension` in this session.
    pub(super) fn means(&self, id: u8, extension: Extension) -> bool {
        self.bindings.contains(&(id, Some(extension)))
    }

    fn is_bound(&self, id: u8) -> bool {
        self.bindings.iter().any(|(bound, _)| *bound == id)
    }

    /// The id under which we offer `extension`: the session's, else the usual one, else a free one of the one-byte form.
    pub(super) fn assign(&mut self, extension: Extension) -> Option<u8> {
        if let Some(id) = self.find(extension) {
            return Some(id);
        }
        let is_free = |id: &u8| !self.is_bound(*id);
        let id = std::iter::once(usual_extension_id(extension)).chain(1..=14).find(is_free)?;
        self.bindings.push((id, Some(extension)));
        Some(id)
    }

    fn find(&self, extension: Extension) -> Option<u8> {
        let (id, _) = self.bindings.iter().find(|(_, bound)| *bound == Some(extension))?;
        Some(*id)
    }
}

/// What Chrome uses, or what it leaves free.
fn usual_extension_id(extension: Extension) -> u8 {
    match extension {
        Extension::AudioLevel => 1,
        Extension::AbsSendTime => 2,
        Extension::TransportCc => 3,
        Extension::Mid => 4,
        Extension::PlayoutDelay => 5,
        Extension::VideoContentType => 6,
        Extension::ColorSpace => 8,
        Extension::AbsCaptureTime => 9,
        Extension::Rid => 10,
        Extension::RepairedRid => 11,
        Extension::DependencyDescriptor => 12,
        Extension::VideoOrientation => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::super::codecs::{Feedback, known_fmtp};
    use super::super::parse::parse_description;
    use super::*;

    fn codec(name: CodecName, fmtp: &str) -> Codec {
        Codec {
            payload_type: PayloadType(1),
            name,
            clock_rate_hz: name.clock_rate_hz(),
            channels: if name == CodecName::Opus { 2 } else { 1 },
            fmtp: known_fmtp(name, fmtp),
            feedback: Feedback::default(),
            rtx: None,
        }
    }

    fn section(lines: &str) -> MediaSection {
        let text = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{lines}");
        parse_description(&text).unwrap().sections.remove(0)
    }

    #[test]
    fn the_peers_numbers_win_over_the_usual_ones() {
        let mut table = PayloadTable::new();
        table.note(&section(
            "m=video 9 UDP/TLS/RTP/SAVPF 120 121 96\r\na=mid:0\r\na=rtpmap:120 VP8/90000\r\n\
             a=rtpmap:121 rtx/90000\r\na=fmtp:121 apt=120\r\na=rtpmap:96 foo/90000\r\n",
        ));
        let vp8 = codec(CodecName::Vp8, "");
        assert_eq!(table.assign(&vp8), Some((PayloadType(120), Some(PayloadType(121)))));
        let opus = codec(CodecName::Opus, "");
        assert_eq!(table.assign(&opus), Some((PayloadType(111), None)));
    }

    #[test]
    fn no_number_is_given_twice_and_the_supply_ends() {
        let mut table = PayloadTable::new();
        table.note(&section("m=audio 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\n"));
        let mut seen = vec![96, 97];
        let mut refused = 0;
        for idc in 0x65..=0xff {
            for mode in 0..=1 {
                let fmtp = format!("profile-level-id={idc:02x}001f;packetization-mode={mode}");
                let Some((payload_type, rtx)) = table.assign(&codec(CodecName::H264, &fmtp)) else {
                    refused += 1;
                    continue;
                };
                seen.push(payload_type.0);
                seen.extend(rtx.map(|p| p.0));
            }
        }
        assert!(refused > 0);
        let given = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), given);
        assert!(seen.iter().all(|n| (35..=63).contains(n) || (96..=127).contains(n)));
    }

    #[test]
    fn extension_ids_are_never_remapped() {
        let mut ids = ExtensionIds::new();
        ids.note(&section(
            "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=extmap:4 urn:x-unknown\r\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n",
        ));
        ids.note(&section(
            "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=extmap:1 urn:3gpp:video-orientation\r\n",
        ));
        assert!(ids.means(1, Extension::AudioLevel));
        assert!(!ids.means(1, Extension::VideoOrientation));
        let mid = ids.assign(Extension::Mid).unwrap();
        assert!(mid != 4 && mid != 1);
        assert_eq!(ids.assign(Extension::Mid), Some(mid));
    }
}
