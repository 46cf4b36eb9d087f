//! What a published track is to its call.

/// What a track shows or lets hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackClass {
    /// Somebody's microphone.
    Voice,
    /// A shared screen.
    Screen,
    /// What a shared screen sounds like.
    ScreenAudio,
    /// Somebody's camera.
    Video,
}

impl TrackClass {
    /// Its name in media maps and track ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Screen => "screen",
            Self::ScreenAudio => "screen-audio",
            Self::Video => "video",
        }
    }
}
