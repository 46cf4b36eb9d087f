//! Offer and answer: session descriptions as text on one side, the engine's typed parameters on the other.
//!
//! [`Negotiator`] is the state machine of one session. It does no IO, reads no clock and takes its numbers, credentials and random
//! bytes from a [`Supply`], so the native API, WHIP, WHEP and rtcd's clients share it; [`Policy`] says what sets them apart. The path of a description through the files:
//! `parse` makes it a typed description, `answer` or `offer` compares it with what was agreed before, `params` says the
//! outcome in the engine's types, and `write` turns our half into text.
//!
//! Source: RFC 9429 (JSEP), RFC 3264 (offer and answer), RFC 9143 (BUNDLE), RFC 8842 (setup), RFC 8839 (ICE).

mod answer;
mod bundle_ids;
pub mod candidates;
pub mod codecs;
mod data_channel;
pub mod error;
pub mod fragment;
pub mod negotiator;
mod offer;
mod params;
mod parse;
mod policy;
mod rollback;
mod simulcast;
mod state;
mod transport;
mod write;

pub use candidates::{Candidate, CandidateTransport, host_candidates, parse_candidate};
pub use codecs::{Codec, CodecName, Feedback};
pub use error::NegotiationError;
pub use fragment::{Fragment, parse_fragment};
pub use negotiator::{
    Change, FragmentOutcome, LegSummary, LocalTransport, Negotiated, Negotiator, RemoteTrack,
    Supply,
};
pub use policy::Policy;

/// The longest description that is read, in bytes. Chrome writes 2 to 4 KiB for each video section, so 64 KiB would end at about
/// twenty publishers.
pub const SDP_BYTES_MAX: usize = 512 * 1024;

/// The most lines of one description: they bound what reading costs, about 100 bytes each. Chrome writes about 100 for each section.
pub const SDP_LINES_MAX: usize = 32 * 1024;

/// The longest fragment that is read, in bytes.
pub const FRAGMENT_BYTES_MAX: usize = 64 * 1024;

/// The most m= sections of one description.
pub const SECTIONS_MAX: usize = 256;

/// The most codecs of one m= section that are considered, retransmission formats not counted; further ones are declined.
pub const CODECS_MAX: usize = 32;

/// The most SSRCs that one m= section may name.
pub const SSRCS_MAX: usize = 64;

/// The most simulcast layers of one track; further ones are declined. Browsers have three.
pub const LAYERS_MAX: usize = 4;

/// The most candidates that one description or fragment may name.
pub const CANDIDATES_MAX: usize = 256;

#[cfg(test)]
pub(crate) mod tests;
