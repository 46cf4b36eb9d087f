//! Plain packets of one batch that wait for fan-out, so that all of a track go to a receiver together.

use super::media::Incoming;
use crate::ids::TrackKey;

/// What a batch brought, in memory made at start.
#[derive(Default)]
pub(super) struct Stage {
    memory: Box<[u8]>,
    used: usize,
    packets: Vec<Staged>,
}

/// One packet that waits.
#[derive(Clone, Copy)]
pub(super) struct Staged {
    /// The track in the forward table.
    pub(super) track: TrackKey,
    /// Beside its bytes.
    pub(super) packet: Incoming,
    start: u32,
    len: u16,
}

impl Stage {
    /// Makes room for `packets_max` packets and `bytes_max` bytes in all.
    pub(super) fn new(packets_max: usize, bytes_max: usize) -> Self {
        Self {
            memory: vec![0; bytes_max].into_boxed_slice(),
            used: 0,
            packets: Vec::with_capacity(packets_max),
        }
    }

    /// Copies a packet in; false when there is no room: what waits is to be forwarded first.
    pub(super) fn push(&mut self, track: TrackKey, packet: Incoming, bytes: &[u8]) -> bool {
        let Ok(len) = u16::try_from(bytes.len()) else { return false };
        let room = self.memory.get_mut(self.used..self.used + bytes.len());
        let Some(room) = room.filter(|_| self.packets.len() < self.packets.capacity()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.packets.push(Staged { track, packet, start: self.used as u32, len });
        self.used += bytes.len();
        true
    }

    /// Whether a datagram of any size might find no room: what waits is to be forwarded first.
    pub(super) fn is_crowded(&self) -> bool {
        self.packets.len() == self.packets.capacity()
            || self.memory.len() - self.used < usize::from(u16::MAX)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Puts the packets of each track together; those of one track keep their order.
    pub(super) fn sort(&mut self) {
        if self.packets.len() < 2 {
            return;
        }
        let track = |staged: &Staged| (staged.track.slot, staged.track.generation);
        // Stable, and without memory of its own: no packet is empty, so no two start at the same place.
        self.packets.sort_unstable_by_key(|staged| (track(staged), staged.start));
    }

    /// The packets, track by track once sorted.
    pub(super) fn packets(&self) -> &[Staged] {
        &self.packets
    }

    /// The bytes of one of them.
    pub(super) fn bytes(&self, staged: &Staged) -> &[u8] {
        let start = staged.start as usize;
        &self.memory[start..start + usize::from(staged.len)]
    }

    /// Forgets all packets; memory is kept.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.packets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ExtSeqNum;

    fn track(slot: u32) -> TrackKey {
        TrackKey { slot, generation: 1 }
    }

    fn packet(index: u64) -> Incoming {
        Incoming { source: 1, layer: 0, index: ExtSeqNum(index), clock_rate_hz: 90_000 }
    }

    #[test]
    fn packets_of_a_track_come_together_and_in_order() {
        let mut stage = Stage::new(8, 100);
        for (at, slot) in [7, 3, 7, 3, 7].into_iter().enumerate() {
            assert!(stage.push(track(slot), packet(at as u64), &[at as u8; 2]));
        }
        stage.sort();
        let order = stage.packets().iter().map(|s| (s.track.slot, s.packet.index.0));
        assert_eq!(order.collect::<Vec<_>>(), [(3, 1), (3, 3), (7, 0), (7, 2), (7, 4)]);
        let bytes: Vec<_> = stage.packets().iter().map(|s| stage.bytes(s)[0]).collect();
        assert_eq!(bytes, [1, 3, 0, 2, 4]);
        stage.clear();
        assert!(stage.is_empty());
    }

    #[test]
    fn a_full_stage_refuses_and_keeps_what_it_has() {
        let mut stage = Stage::new(2, 10);
        assert!(stage.push(track(0), packet(0), &[1; 8]));
        assert!(!stage.push(track(0), packet(1), &[2; 3]), "no bytes left");
        assert!(stage.push(track(0), packet(1), &[2; 2]));
        assert!(!stage.push(track(0), packet(2), &[]), "no places left");
        assert_eq!(stage.packets().len(), 2);
        assert!(!Stage::new(1, 1 << 20).push(track(0), packet(0), &[0; 1 << 16]), "too long");
    }
}
