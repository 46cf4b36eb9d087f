//! What a session publishes, what that is, and who gets it.

use sluice_engine::ids::TrackId;
use sluice_engine::session::params::MediaKind;

use super::track_class::TrackClass;
use crate::sdp::{CodecName, RemoteTrack};

/// A track of a session.
pub(super) struct Published {
    /// As its receivers know it.
    pub(super) remote: RemoteTrack,
    /// What it is; `None` until the publisher has said so, and nobody gets it.
    pub(super) class: Option<TrackClass>,
    /// Whether its publisher has said that it is over, though it still stands in its description.
    pub(super) withdrawn: bool,
}

impl Published {
    /// The track's number.
    pub(super) fn track(&self) -> TrackId {
        self.remote.track
    }

    /// Whether it comes as AV1: the first codec is the one that is sent.
    pub(super) fn is_av1(&self) -> bool {
        self.remote.codecs.first().is_some_and(|codec| codec.name == CodecName::Av1)
    }

    /// What this was when it was one of `ended`, the tracks that this description took the place of.
    pub(super) fn class_before(&self, ended: &[Self]) -> Option<TrackClass> {
        let (kind, stream) = (self.remote.kind, self.remote.source_stream.as_ref()?);
        let is_it = |before: &&Self| {
            before.remote.kind == kind && before.remote.source_stream.as_ref() == Some(stream)
        };
        ended.iter().find(is_it).filter(|before| !before.withdrawn)?.class
    }

    /// The media type of what is sent, as metrics name it.
    pub(super) fn mime(&self) -> &'static str {
        match self.remote.codecs.first().map(|codec| codec.name) {
            Some(CodecName::Opus) => "audio/opus",
            Some(CodecName::Vp8) => "video/VP8",
            Some(CodecName::Av1) => "video/AV1",
            _ => "unknown",
        }
    }
}

/// What its publisher has said that a track is: `screen` and `camera` are the stream ids of the screen that it shares (and holds the
/// call's screen slot for) and of its camera.
pub(super) fn classify(
    kind: MediaKind,
    stream: Option<&str>,
    screen: Option<&str>,
    camera: Option<&str>,
) -> Option<TrackClass> {
    let is = |known: Option<&str>| stream.is_some() && stream == known;
    match kind {
        MediaKind::Audio if is(screen) => Some(TrackClass::ScreenAudio),
        MediaKind::Audio => Some(TrackClass::Voice),
        MediaKind::Video if is(screen) => Some(TrackClass::Screen),
        MediaKind::Video if is(camera) => Some(TrackClass::Video),
        MediaKind::Video => None,
    }
}

/// Which of one publisher's tracks a receiver gets. A picture that is there in two codecs is sent in one: AV1 when both sides can,
/// so `takes_av1`, else the other one, and what there is when only one has come.
pub(super) fn chosen(published: &[Published], takes_av1: bool) -> impl Iterator<Item = &Published> {
    published.iter().filter(move |p| match p.class {
        _ if p.withdrawn => false,
        None => false,
        Some(TrackClass::Screen | TrackClass::Video) => {
            preferred(published, p, takes_av1) == Some(p.track())
        }
        Some(TrackClass::Voice | TrackClass::ScreenAudio) => true,
    })
}

/// The one that is sent of the tracks that show the same as `shown`: there is one screen, but a camera for each stream.
fn preferred(published: &[Published], shown: &Published, takes_av1: bool) -> Option<TrackId> {
    let shows_it = |p: &&Published| {
        let same_stream = p.remote.source_stream == shown.remote.source_stream;
        !p.withdrawn
            && p.class == shown.class
            && (same_stream || p.class == Some(TrackClass::Screen))
    };
    let same = || published.iter().filter(shows_it);
    let fitting = same().find(|p| p.is_av1() == takes_av1);
    // A receiver without AV1 has no use for it; one with it takes VP8 while there is nothing else.
    fitting.or_else(|| same().next().filter(|_| takes_av1)).map(Published::track)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{Codec, Feedback};
    use sluice_engine::ids::PayloadType;

    fn published(track: u64, name: CodecName, class: Option<TrackClass>) -> Published {
        let codec = Codec {
            name,
            payload_type: PayloadType(96),
            clock_rate_hz: 90_000,
            channels: 1,
            fmtp: Vec::new(),
            feedback: Feedback::default(),
            rtx: None,
        };
        let remote = RemoteTrack {
            track: TrackId(track),
            kind: MediaKind::Video,
            codecs: vec![codec],
            stream: "sender".to_owned(),
            label: String::new(),
            name: String::new(),
            source_stream: None,
        };
        Published { remote, class, withdrawn: false }
    }

    #[test]
    fn tracks_are_told_apart_by_the_stream_they_stand_in() {
        let cases = [
            (MediaKind::Audio, Some("mic"), Some(TrackClass::Voice)),
            (MediaKind::Audio, None, Some(TrackClass::Voice)),
            (MediaKind::Audio, Some("screen"), Some(TrackClass::ScreenAudio)),
            (MediaKind::Video, Some("screen"), Some(TrackClass::Screen)),
            (MediaKind::Video, Some("camera"), Some(TrackClass::Video)),
            (MediaKind::Video, Some("other"), None),
            (MediaKind::Video, None, None),
        ];
        for (kind, stream, expected) in cases {
            let class = classify(kind, stream, Some("screen"), Some("camera"));
            assert_eq!(class, expected, "{kind:?} {stream:?}");
            if stream.is_none() {
                assert_eq!(classify(kind, stream, None, None), expected, "{kind:?} {stream:?}");
            }
        }
    }

    #[test]
    fn a_screen_goes_to_each_in_one_codec() {
        let screen = Some(TrackClass::Screen);
        let both = [
            published(1, CodecName::Vp8, screen),
            published(2, CodecName::Av1, screen),
            published(3, CodecName::Vp8, Some(TrackClass::Video)),
            published(4, CodecName::Vp8, None),
        ];
        let numbers = |published: &[Published], takes_av1| -> Vec<u64> {
            chosen(published, takes_av1).map(|p| p.track().0).collect()
        };
        assert_eq!(numbers(&both, false), [1, 3]);
        assert_eq!(numbers(&both, true), [2, 3]);
        assert_eq!(numbers(&both[..1], true), [1], "nothing else has come");
        assert_eq!(numbers(&both[1..2], false), [] as [u64; 0], "it could not be decoded");
        assert_eq!(numbers(&both[3..], true), [] as [u64; 0]);
    }
}
