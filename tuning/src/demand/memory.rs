//! Memory of the process.

use super::Sized;
use super::sizing::{group, narrow, sized};
use crate::amount::{self, grouped};
use crate::load::{Calls, Load};

/// What `sessions` people and their histories take on so many shards, reserved memory included.
pub(super) fn memory(load: &Load, sessions: u64, shards: u64) -> Sized {
    let (least, words) = used(load, sessions, shards);
    let pairs = u128::from(shards) * u128::from(shards - 1);
    let bytes =
        least + u128::from(shards) * u128::from(SHARD_BYTES) + pairs * u128::from(PAIR_BYTES);
    let formula = format!(
        "{words} + {shards} shards × {} reserved + {} pairs of shards × 2 MiB: {}",
        amount::bytes(SHARD_BYTES),
        group(pairs),
        amount::bytes(narrow(bytes)),
    );
    sized(bytes, formula)
}

/// The same without what is only reserved, which takes memory as it is used.
pub(super) fn memory_least(load: &Load, sessions: u64, shards: u64) -> Sized {
    let (bytes, words) = used(load, sessions, shards);
    sized(bytes, format!("{words}: {}", amount::bytes(narrow(bytes))))
}

fn used(load: &Load, sessions: u64, shards: u64) -> (u128, String) {
    let histories = |c: &Calls| {
        let shards = u128::from(shards).min(u128::from(c.participants));
        u128::from(c.calls) * u128::from(c.videos()) * shards
    };
    let histories: u128 = load.shapes.iter().map(histories).sum();
    let bytes = u128::from(PROGRAM_BYTES)
        + u128::from(sessions) * u128::from(SESSION_BYTES)
        + histories * u128::from(HISTORY_BYTES);
    let words = format!(
        "{} of program + {} sessions × 76 KiB + {} histories of video × {}",
        amount::bytes(PROGRAM_BYTES),
        grouped(sessions),
        group(histories),
        amount::bytes(HISTORY_BYTES),
    );
    (bytes, words)
}

/// A session with its WebSocket in a call of a thousand, the dearest that was measured (docs/benchmarks.md).
const SESSION_BYTES: u64 = 76 << 10;
/// History of one video track on a shard: 512 packets of 1,500 bytes.
const HISTORY_BYTES: u64 = 512 * 1_500;
/// What each shard reserves: 24 MiB of egress, 256 KiB that wait for fan-out, 16 MiB of receive buffers.
const SHARD_BYTES: u64 = (24 << 20) + (256 << 10) + (16 << 20) + (64 << 10);
/// Rings from each shard to each other.
const PAIR_BYTES: u64 = 2 << 20;
/// The program without sessions.
const PROGRAM_BYTES: u64 = 64 << 20;
