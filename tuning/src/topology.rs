//! Which cores the shards get.

use serde::Serialize;

use crate::facts::Facts;

/// The cores of the shards and why these.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Placement {
    /// One for each shard, in order.
    pub cores: Vec<usize>,
    /// A sentence for people, such as `one per physical core, away from CPU 0, which serves eth0`.
    pub reason: String,
}

/// Chooses cores for `shards` shards out of `allowed` (ascending): one per physical core first, on the card's NUMA node first, away
/// from the CPU that the card's interrupts go to where enough others are left. With more shards than CPUs they go round.
pub fn place(_facts: &Facts, _shards: usize, _allowed: &[usize]) -> Placement {
    unimplemented!()
}
