//! Descriptions: what is agreed about each m= section, and how it is written and read. Source: RFC 8866, RFC 8829.

pub mod read;
pub mod write;

use sluice_engine::ids::{PayloadType, Ssrc};

use super::{Extensions, Source};

/// One m= section, as it was offered by us or as we answered it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    pub mid: String,
    pub content: Content,
}

/// What a section carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Data channels.
    Data,
    /// Audio or video.
    Media(Media),
    /// Nothing; its m= line with port 0, behind `m=`.
    Rejected(String),
}

/// A section of audio or video.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    pub format: Format,
    /// What we send in it.
    pub sends: Option<Sending>,
    /// Whether the other side sends in it.
    pub receives: bool,
    pub payload_type: PayloadType,
    pub extensions: Vec<(u8, Extension)>,
    /// Of [`Format::feedback`].
    pub feedback: Vec<&'static str>,
}

/// A source and the streams that carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sending {
    pub source: Source,
    /// With their RIDs when there are two: low, high.
    pub layers: Vec<(Ssrc, Option<&'static str>)>,
}

/// The two codecs that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Opus,
    Vp8,
}

/// Header extensions that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extension {
    AudioLevel,
    TransportCc,
    Mid,
    Rid,
}

impl Format {
    /// As in `m=`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Opus => "audio",
            Self::Vp8 => "video",
        }
    }

    /// As in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus/48000/2",
            Self::Vp8 => "VP8/90000",
        }
    }

    /// The payload type of our own offers, that of libwebrtc.
    pub fn payload_type(self) -> PayloadType {
        match self {
            Self::Opus => PayloadType(111),
            Self::Vp8 => PayloadType(96),
        }
    }

    /// What stands in `a=fmtp`.
    pub fn parameters(self) -> Option<&'static str> {
        match self {
            Self::Opus => Some("minptime=10;useinbandfec=1"),
            Self::Vp8 => None,
        }
    }

    /// Feedback that we can give and take.
    pub fn feedback(self) -> &'static [&'static str] {
        match self {
            Self::Opus => &["transport-cc"],
            Self::Vp8 => &["goog-remb", "ccm fir", "nack", "nack pli", "transport-cc"],
        }
    }

    /// Header extensions with the ids of our own offers. One id means the same in all sections, as BUNDLE wants it.
    /// Source: RFC 9143 §9.
    pub fn extensions(self) -> &'static [(u8, Extension)] {
        match self {
            Self::Opus => &[(1, Extension::AudioLevel), (3, Extension::TransportCc)],
            Self::Vp8 => &[(3, Extension::TransportCc), (4, Extension::Mid), (5, Extension::Rid)],
        }
    }
}

impl Extension {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::AudioLevel, Self::TransportCc, Self::Mid, Self::Rid];

    /// As in `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        }
    }
}

impl Source {
    /// How it is coded.
    pub fn format(self) -> Format {
        match self {
            Self::Audio => Format::Opus,
            Self::Screen | Self::SimulcastScreen => Format::Vp8,
        }
    }

    /// RIDs of its encodings, in the order they are offered.
    pub fn rids(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Audio | Self::Screen => &[None],
            Self::SimulcastScreen => &[Some("l"), Some("h")],
        }
    }

    /// What its MediaStream is called in a session: the id in `a=msid`.
    pub fn stream_id(self, session: &str) -> String {
        match self {
            Self::Audio => format!("{session}-voice"),
            Self::Screen | Self::SimulcastScreen => format!("{session}-screen"),
        }
    }
}

impl Media {
    /// A section of our own offer that sends.
    pub fn sending(sending: Sending) -> Self {
        let format = sending.source.format();
        Self { sends: Some(sending), receives: false, ..Self::receiving(format) }
    }

    /// A section of our own offer that receives.
    pub fn receiving(format: Format) -> Self {
        Self {
            format,
            sends: None,
            receives: true,
            payload_type: format.payload_type(),
            extensions: format.extensions().to_vec(),
            feedback: format.feedback().to_vec(),
        }
    }

    /// Which way the media goes, from our side.
    pub fn direction(&self) -> &'static str {
        match (self.sends.is_some(), self.receives) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }

    /// Ids of the agreed header extensions.
    pub fn extension_ids(&self) -> Extensions {
        let id = |wanted| {
            let found = self.extensions.iter().find(|(_, extension)| *extension == wanted);
            found.map(|&(id, _)| id)
        };
        Extensions {
            mid: id(Extension::Mid),
            rid: id(Extension::Rid),
            transport_cc: id(Extension::TransportCc),
            audio_level: id(Extension::AudioLevel),
        }
    }

    /// Whether lost packets may be asked for.
    pub fn has_nack(&self) -> bool {
        self.feedback.contains(&"nack")
    }
}
