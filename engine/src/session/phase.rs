//! The phases of a session's life. Each owns only what it needs.

use crate::clock::Instant;
use crate::dtls::DtlsEndpoint;
use crate::srtp::Profile;

/// Where a session stands.
pub(super) enum Phase {
    /// No route was validated, or our offer is not answered yet: nothing but checks is listened to.
    Checking,
    /// A route is there and the handshake runs.
    Handshaking(Box<DtlsEndpoint>),
    /// Keys are there: media flows while there is consent.
    Connected {
        /// Answers the peer's repeated flights, and its goodbye.
        dtls: Box<DtlsEndpoint>,
        /// What protects the media.
        profile: Profile,
        /// When consent was lost, if it was.
        lost: Option<Instant>,
    },
}

impl Phase {
    /// The phase as the control plane shows it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Handshaking(_) => "handshaking",
            Self::Connected { lost: None, .. } => "connected",
            Self::Connected { lost: Some(_), .. } => "disconnected",
        }
    }

    /// The handshake's endpoint, once there is one.
    pub(super) fn dtls_mut(&mut self) -> Option<&mut DtlsEndpoint> {
        match self {
            Self::Checking => None,
            Self::Handshaking(dtls) | Self::Connected { dtls, .. } => Some(dtls),
        }
    }
}
