//! Calls: who is in one, what is published in it, and who gets it.
//!
//! A call lives on one shard. `table` is what the packet path reads; `fanout` is the loop over it; `simulcast` and `layers` choose
//! what of a track each leg gets.

use crate::ids::{SessionKey, TrackKey};

pub mod fanout;
pub mod layers;
pub mod simulcast;
pub mod table;

/// The members of a call. It comes with its first session and goes with its last.
#[derive(Default)]
pub struct Call {
    /// Its sessions.
    pub sessions: Vec<SessionKey>,
    /// What they publish.
    pub tracks: Vec<TrackKey>,
}
