//! What a forwarder needs to know of payloads: where a key frame starts, and the numbers that must go on over a switch of layers.

pub mod av1;
pub mod h264;
pub mod vp8;
pub mod vp9;

/// How the payload of a codec is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PayloadFormat {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AV1 payload format of the Alliance for Open Media, version 1.0.
    Av1,
    /// Audio, or one whose key frames are not recognised.
    #[default]
    Other,
}

impl PayloadFormat {
    /// Whether a payload is the first of a key frame: a decoder can begin with it. Anything malformed is not.
    pub fn starts_keyframe(self, payload: &[u8]) -> bool {
        match self {
            Self::Vp8 => vp8::Descriptor::read(payload).is_some_and(|d| d.starts_keyframe),
            Self::Vp9 => vp9::starts_keyframe(payload),
            Self::H264 => h264::starts_keyframe(payload),
            Self::Av1 => av1::starts_keyframe(payload),
            Self::Other => false,
        }
    }
}
