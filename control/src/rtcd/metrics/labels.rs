//! What is told apart by rtcd's labels, and by which words.

use crate::rtcd::track_class::TrackClass;

/// What a peer connection became.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnState {
    /// Media can flow.
    Connected,
    /// Nothing is heard of the peer for the moment.
    Disconnected,
    /// It could not be made, or was given up.
    Failed,
    /// It ended as it should.
    Closed,
}

impl ConnState {
    pub(super) const ALL: [Self; 4] =
        [Self::Connected, Self::Disconnected, Self::Failed, Self::Closed];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// What went wrong in a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// A description could not be made, sent or understood.
    Signaling,
    /// A candidate could not be used.
    Ice,
    /// Packets could not be forwarded.
    Rtp,
    /// A track could not be published or passed on.
    Track,
    /// The signalling lock was not free in time.
    SignalingLockTimeout,
}

impl ErrorKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Signaling, Self::Ice, Self::Rtp, Self::Track, Self::SignalingLockTimeout];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Signaling => "signaling",
            Self::Ice => "ice",
            Self::Rtp => "rtp",
            Self::Track => "track",
            Self::SignalingLockTimeout => "signaling_lock_timeout",
        }
    }
}

/// Which way something goes, as the server sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// To the server.
    In,
    /// From the server.
    Out,
}

impl Direction {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl TrackClass {
    pub(super) const ALL: [Self; 4] = [Self::Voice, Self::ScreenAudio, Self::Screen, Self::Video];

    /// As a type of write times, where rtcd counts cameras as screens.
    pub(super) fn write_type(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::ScreenAudio => "screen-audio",
            Self::Screen | Self::Video => "screen",
        }
    }

    /// As a type of packets and bytes.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Voice | Self::ScreenAudio => "audio",
            Self::Screen | Self::Video => "video",
        }
    }
}
