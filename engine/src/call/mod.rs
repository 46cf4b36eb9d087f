//! Calls: who is in one, what is published in it, and who gets it.
//!
//! A call has a part on each shard that has sessions of it; what is published on one is relayed to the others that want it. `table` is what the packet path reads; `fanout` is the loop over it; `simulcast` and `layers` choose
//! what of a track each leg gets.

use crate::ids::{SessionKey, TrackKey};

pub mod fanout;
pub mod layers;
pub mod simulcast;
pub mod table;

/// The part of a call that is on a shard. It comes with its first session there and goes with its last.
#[derive(Default)]
pub struct Call {
    /// Its sessions.
    pub sessions: Vec<SessionKey>,
    /// What they publish, and what they get of other shards.
    pub tracks: Vec<TrackKey>,
}
