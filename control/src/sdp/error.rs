//! Why a description was not taken.

use std::fmt;

/// Why a description was refused. Nothing was changed by it. `Display` is a sentence for whoever wrote the description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NegotiationError {
    /// The text breaks the grammar or contradicts itself.
    BadSdp {
        /// The line or m= section, for example `line 7` or `m= section 2 (mid "1")`.
        place: String,
        /// What is wrong there, and what would be right.
        problem: String,
    },
    /// The description is well formed, but asks for something that Sluice does not do.
    Unsupported {
        /// The line or m= section.
        place: String,
        /// What is not supported, and what would be.
        problem: String,
    },
    /// Our own offer waits for its answer. The client rolls its offer back, answers ours, and offers again (RFC 9429 §4.1.10.2).
    Glare,
    /// This kind of session may not do that.
    NotAllowed {
        /// What was asked for.
        problem: String,
    },
    /// The peer would publish more than it may.
    LimitReached {
        /// What there is too much of, and how much may be.
        problem: String,
    },
    /// It does not fit what was agreed before: an answer without an offer, a changed fingerprint.
    State {
        /// What does not fit.
        problem: String,
    },
}

impl NegotiationError {
    pub(crate) fn bad(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::BadSdp { place: place.to_string(), problem: problem.to_string() }
    }

    pub(crate) fn unsupported(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::Unsupported { place: place.to_string(), problem: problem.to_string() }
    }

    pub(crate) fn state(problem: impl fmt::Display) -> Self {
        Self::State { problem: problem.to_string() }
    }
}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSdp { place, problem } => write!(f, "bad SDP, {place}: {problem}"),
            Self::Unsupported { place, problem } => write!(f, "unsupported, {place}: {problem}"),
            Self::Glare => f.write_str(
                "an offer of the server waits for its answer: roll back, answer it, then offer again",
            ),
            Self::NotAllowed { problem } => write!(f, "not allowed in this session: {problem}"),
            Self::LimitReached { problem } => write!(f, "too much: {problem}"),
            Self::State { problem } => write!(f, "out of step: {problem}"),
        }
    }
}

impl std::error::Error for NegotiationError {}
