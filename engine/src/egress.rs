//! The outgoing datagrams of one turn, grouped by destination and size: the sink everyone writes to.
//!
//! A writer borrows a slot, seals straight into it and commits the length. The back-end takes *runs*: consecutive datagrams to one
//! destination, equal in size but for a shorter last one, which is what one UDP_SEGMENT send can carry.

use crate::drop_reason::{DropCounters, DropReason};
use crate::route::PathId;

/// Outgoing datagrams of one turn, in memory made at start.
pub struct Egress {
    memory: Box<[u8]>,
    used: usize,
    datagrams: Vec<Datagram>,
    chains: Vec<Chain>,
    touched: Vec<PathId>,
    epoch: u32,
    /// What was dropped here or refused by the kernel; taken by the shard once a turn.
    pub drops: DropCounters,
    /// Datagrams, bytes and runs that the kernel took; taken by the shard once a turn.
    pub sent: Sent,
}

/// What the kernel took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Runs, that is, sends.
    pub runs: u64,
}

#[derive(Clone, Copy)]
struct Datagram {
    start: u32,
    len: u16,
    next: u32,
}

/// The datagrams of one path within this turn; stale unless `epoch` is the turn's.
#[derive(Clone, Copy)]
struct Chain {
    epoch: u32,
    head: u32,
    tail: u32,
}

/// Room for one datagram. Dropped without [`Slot::commit`], nothing is sent.
pub struct Slot<'a> {
    egress: &'a mut Egress,
    path: PathId,
    len_max: usize,
}

const END: u32 = u32::MAX;

/// A quarter of the second-level cache of a server's core.
const RIPE_BYTES: usize = 256 << 10;

/// The most segments one UDP_SEGMENT send takes before kernel 6.9.
pub const RUN_SEGMENTS_MAX: usize = 64;

/// The most bytes of a run: below the 65,507 of an IPv4 UDP payload, with room for IPv6 headers.
pub const RUN_BYTES_MAX: usize = 63 * 1024;

impl Egress {
    /// Makes the sink with room for `datagrams_max` datagrams and `bytes_max` bytes in all.
    pub fn new(datagrams_max: usize, bytes_max: usize) -> Self {
        assert!(
            datagrams_max < END as usize && bytes_max <= u32::MAX as usize,
            "indices are 32 bits"
        );
        Self {
            memory: vec![0; bytes_max].into_boxed_slice(),
            used: 0,
            datagrams: Vec::with_capacity(datagrams_max),
            chains: Vec::new(),
            touched: Vec::with_capacity(datagrams_max),
            epoch: 1,
            drops: DropCounters::default(),
            sent: Sent::default(),
        }
    }

    /// Borrows room for one datagram of at most `len_max` bytes; `None`, counted as `EgressFull`, when there is none.
    pub fn slot(&mut self, path: PathId, len_max: usize) -> Option<Slot<'_>> {
        let full = self.datagrams.len() == self.datagrams.capacity()
            || self.memory.len() - self.used < len_max;
        if full || len_max > usize::from(u16::MAX) {
            self.drops.count(DropReason::EgressFull);
            return None;
        }
        Some(Slot { egress: self, path, len_max })
    }

    /// Copies a finished datagram in; false, counted, when there is no room.
    pub fn push(&mut self, path: PathId, datagram: &[u8]) -> bool {
        let Some(mut slot) = self.slot(path, datagram.len()) else { return false };
        slot.bytes().copy_from_slice(datagram);
        slot.commit(datagram.len());
        true
    }

    /// Datagrams waiting.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether less than a quarter of the room is left: the shard flushes before it handles the next datagram.
    pub fn is_crowded(&self) -> bool {
        self.datagrams.len() > self.datagrams.capacity() / 4 * 3
            || self.used > self.memory.len() / 4 * 3
    }

    /// Whether so much waits that it is better sent before more is written: the kernel copies it while it is still in the core's
    /// own cache.
    pub fn is_ripe(&self) -> bool {
        self.used >= RIPE_BYTES || self.is_crowded()
    }

    /// The paths that have datagrams waiting, in the order they were first written to.
    pub fn paths(&self) -> &[PathId] {
        &self.touched
    }

    /// The datagrams waiting for `path`, in order.
    pub fn datagrams(&self, path: PathId) -> impl Iterator<Item = &[u8]> {
        let mut at = match self.chains.get(path.slot as usize) {
            Some(chain) if chain.epoch == self.epoch => chain.head,
            _ => END,
        };
        std::iter::from_fn(move || {
            let datagram = self.datagrams.get(at as usize)?;
            at = datagram.next;
            let start = datagram.start as usize;
            Some(&self.memory[start..start + usize::from(datagram.len)])
        })
    }

    /// Forgets all datagrams; memory is kept.
    pub fn clear(&mut self) {
        self.used = 0;
        self.datagrams.clear();
        self.touched.clear();
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn append(&mut self, path: PathId, len: usize) {
        let index = self.datagrams.len() as u32;
        let start = self.used as u32;
        self.datagrams.push(Datagram { start, len: len as u16, next: END });
        self.used += len;
        let slot = path.slot as usize;
        if slot >= self.chains.len() {
            self.chains.resize(slot + 1, Chain { epoch: 0, head: END, tail: END });
        }
        let chain = &mut self.chains[slot];
        if chain.epoch == self.epoch {
            self.datagrams[chain.tail as usize].next = index;
            chain.tail = index;
        } else {
            *chain = Chain { epoch: self.epoch, head: index, tail: index };
            self.touched.push(path);
        }
    }
}

impl Slot<'_> {
    /// The room, `len_max` bytes; its content is undefined.
    pub fn bytes(&mut self) -> &mut [u8] {
        let used = self.egress.used;
        &mut self.egress.memory[used..used + self.len_max]
    }

    /// Sends the first `len` bytes of the room at the next flush.
    pub fn commit(self, len: usize) {
        debug_assert!(len <= self.len_max, "a slot holds what was asked for");
        self.egress.append(self.path, len);
    }
}

/// How many of the datagrams at the head of `sizes` form one run: all equal but a last that may be shorter, within the bounds.
pub fn run_length(sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut segment = 0;
    let mut bytes = 0;
    let mut count = 0;
    for size in sizes {
        if count == 0 {
            segment = size;
        } else if size > segment || count == RUN_SEGMENTS_MAX || bytes + size > RUN_BYTES_MAX {
            break;
        }
        bytes += size;
        count += 1;
        if size < segment {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PathId = PathId { slot: 0, generation: 1 };
    const B: PathId = PathId { slot: 5, generation: 1 };

    #[test]
    fn datagrams_are_grouped_by_path_in_order() {
        let mut egress = Egress::new(8, 1000);
        egress.push(A, b"a1");
        egress.push(B, b"b1");
        egress.push(A, b"a2");
        assert_eq!(egress.paths(), [A, B]);
        assert_eq!(egress.datagrams(A).collect::<Vec<_>>(), [b"a1", b"a2"]);
        assert_eq!(egress.datagrams(B).collect::<Vec<_>>(), [b"b1"]);
        egress.clear();
        assert!(egress.is_empty());
        assert_eq!(egress.datagrams(A).count(), 0);
    }

    #[test]
    fn a_full_egress_refuses_and_counts() {
        let mut egress = Egress::new(2, 1000);
        assert!(egress.push(A, b"1") && egress.push(A, b"2"));
        assert!(!egress.push(A, b"3"));
        assert!(Egress::new(2, 4).slot(A, 5).is_none());
        assert_eq!(egress.drops.of(DropReason::EgressFull), 1);
    }

    #[test]
    fn an_uncommitted_slot_sends_nothing() {
        let mut egress = Egress::new(2, 100);
        let _ = egress.slot(A, 10);
        assert!(egress.is_empty());
    }

    #[test]
    fn a_run_is_equal_sizes_with_a_shorter_tail() {
        assert_eq!(run_length([100, 100, 60, 100]), 3);
        assert_eq!(run_length([100, 101]), 1);
        assert_eq!(run_length([100; 70]), RUN_SEGMENTS_MAX);
        assert_eq!(run_length([1200; 64]), RUN_BYTES_MAX / 1200);
        assert_eq!(run_length([]), 0);
    }
}
