//! Each way a session can end by itself.

/// Why a session ended, and whose fault it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionError {
    /// The peer said goodbye (DTLS close_notify).
    PeerLeft,
    /// The peer broke the protocol or its certificate does not match the fingerprint.
    PeerMisbehaved(&'static str),
    /// The peer and we have nothing in common, for example only RSA certificates.
    PeerIncompatible(&'static str),
    /// Something did not happen in time.
    TimedOut(&'static str),
    /// A bug of ours: the session was taken down so that the others live.
    Internal,
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PeerLeft => f.write_str("the peer left"),
            Self::PeerMisbehaved(what) => write!(f, "the peer misbehaved: {what}"),
            Self::PeerIncompatible(what) => write!(f, "the peer is incompatible: {what}"),
            Self::TimedOut(what) => write!(f, "timed out: {what}"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}
