//! What bounds memory: every pool, ring and queue of the engine with its size, as a visible sum.
//!
//! All of it is reserved at start or has a bound here or in [`budget`]; the kernel gives pages when they are first written, so an idle
//! server holds far less. What happens when something is full stands beside each bound, and each refusal has a counter.

use super::{budget, steering};
use crate::call::table::HISTORY_SLOT_BYTES;
use crate::config::EngineConfig;
use crate::io::probe::Backend;
use crate::sctp;

/// One kind of memory: how many of how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    /// What it holds.
    pub name: &'static str,
    /// How many there are at most.
    pub count: usize,
    /// Bytes of each.
    pub bytes_each: usize,
    /// Whether it is reserved at start; otherwise it grows with what it is named after.
    pub at_start: bool,
}

impl Pool {
    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.count * self.bytes_each
    }
}

/// Every pool under `config` with this back-end. Sessions and legs themselves are small and bounded by `sessions_max`.
pub fn pools(config: &EngineConfig, backend: Backend) -> [Pool; 8] {
    let shards = usize::from(config.shards);
    let pairs = shards * shards.saturating_sub(1);
    [
        Pool { name: "egress", count: shards, bytes_each: budget::EGRESS_BYTES, at_start: true },
        Pool {
            name: "packets that wait for fan-out",
            count: shards,
            bytes_each: budget::STAGED_BYTES,
            at_start: true,
        },
        Pool {
            name: "kernel receive slots",
            count: shards,
            bytes_each: backend.receive_bytes(),
            at_start: true,
        },
        Pool {
            name: "rings between shards",
            count: pairs,
            bytes_each: steering::RING_BYTES + steering::RELAY_BYTES,
            at_start: true,
        },
        Pool {
            name: "handshakes put off",
            count: shards * budget::HANDSHAKES_DEFERRED,
            bytes_each: steering::STEERED_BYTES_MAX,
            at_start: false,
        },
        Pool {
            name: "history of one video track, on each shard with subscribers of it",
            count: config.history_packets,
            bytes_each: HISTORY_SLOT_BYTES,
            at_start: false,
        },
        Pool {
            name: "messages of one session's data channels",
            count: 1,
            bytes_each: sctp::RECEIVE_WINDOW as usize + sctp::WAITING_BYTES_MAX,
            at_start: false,
        },
        Pool {
            name: "data messages that wait for control",
            count: shards,
            bytes_each: budget::DATA_BYTES + sctp::MESSAGE_LEN_MAX,
            at_start: false,
        },
    ]
}

/// Bytes that are reserved at start under `config`.
pub fn bytes_at_start(config: &EngineConfig, backend: Backend) -> usize {
    pools(config, backend).iter().filter(|pool| pool.at_start).map(Pool::bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_grows_with_the_shards_and_their_pairs() {
        let of = |shards| EngineConfig { shards, ..EngineConfig::default() };
        let sum = |shards| bytes_at_start(&of(shards), Backend::Mmsg);
        let (one, two, three) = (sum(1), sum(2), sum(3));
        let pair = steering::RING_BYTES + steering::RELAY_BYTES;
        assert_eq!(two - 2 * one, 2 * pair);
        assert_eq!(three - 3 * one, 6 * pair);
    }
}
