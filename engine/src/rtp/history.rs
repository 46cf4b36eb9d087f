//! The last packets of one track, kept plain for retransmission to any leg.

use crate::ids::ExtSeqNum;

/// One copy of each packet per track, whatever the number of legs, in memory made at once.
///
/// A packet is kept until another with the same index modulo the number of slots takes its place.
/// Only packets whose tag was right may be stored: what lies here is sealed and sent on request.
pub struct History {
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    slot_bytes: usize,
    too_large: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    index: u64,
    source: u32,
    len: u32, // 0: empty
}

impl History {
    /// Makes an empty history of `packets` slots of `slot_bytes` bytes: `packets` × `slot_bytes`
    /// bytes of memory, and 16 per slot.
    ///
    /// # Panics
    /// When `packets` is not a power of two, or `slot_bytes` is beyond 32 bits.
    pub fn new(packets: usize, slot_bytes: usize) -> Self {
        assert!(packets.is_power_of_two(), "a history of {packets} packets: not a power of two");
        assert!(u32::try_from(slot_bytes).is_ok(), "packet slots of {slot_bytes} bytes");
        Self {
            slots: vec![Slot::default(); packets].into_boxed_slice(),
            bytes: vec![0; packets * slot_bytes].into_boxed_slice(),
            slot_bytes,
            too_large: 0,
        }
    }

    /// Keeps a copy of `packet`, the publisher's packet `index` of its SSRC number `source`;
    /// returns whether it is kept.
    ///
    /// Not kept: a packet larger than a slot (counted), an empty one, and one so late that its slot
    /// holds a newer one of the same source.
    pub fn store(&mut self, source: u32, index: ExtSeqNum, packet: &[u8]) -> bool {
        if packet.len() > self.slot_bytes {
            self.too_large += 1;
            return false;
        }
        let position = self.position(index);
        let slot = &mut self.slots[position];
        let holds_newer = slot.len > 0 && slot.source == source && slot.index > index.0;
        if packet.is_empty() || holds_newer {
            return false;
        }
        *slot = Slot { index: index.0, source, len: packet.len() as u32 };
        let start = position * self.slot_bytes;
        self.bytes[start..start + packet.len()].copy_from_slice(packet);
        true
    }

    /// The packet `index` of `source`, if it is still here.
    pub fn get(&self, source: u32, index: ExtSeqNum) -> Option<&[u8]> {
        let position = self.position(index);
        let slot = self.slots[position];
        if slot.len == 0 || slot.source != source || slot.index != index.0 {
            return None;
        }
        let start = position * self.slot_bytes;
        Some(&self.bytes[start..start + slot.len as usize])
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.slots.fill(Slot::default());
    }

    /// How many packets were larger than a slot.
    pub fn too_large(&self) -> u64 {
        self.too_large
    }

    /// Bytes of memory for packets and their slots. The kernel gives pages only as they are first
    /// written.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.slots)
    }

    fn position(&self, index: ExtSeqNum) -> usize {
        // The number of slots is a power of two, so that the low bits are the position.
        index.0 as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_found_by_source_and_index_until_its_slot_is_needed() {
        let mut history = History::new(4, 8);
        let far = 1u64 << 40;
        for n in 0..6 {
            assert!(history.store(1, ExtSeqNum(far + n), &[n as u8; 5]));
        }
        for (n, expected) in [(0, None), (1, None), (2, Some([2; 5])), (5, Some([5; 5])), (6, None)]
        {
            let packet = history.get(1, ExtSeqNum(far + n));
            assert_eq!(packet, expected.as_ref().map(|p| &p[..]), "packet {n}");
        }
        assert_eq!(history.get(2, ExtSeqNum(far + 5)), None, "another source");
        assert_eq!(history.get(1, ExtSeqNum(5)), None, "another cycle");
    }

    #[test]
    fn a_slot_takes_its_full_size_and_no_more() {
        let mut history = History::new(2, 8);
        assert!(history.store(0, ExtSeqNum(0), &[1; 8]));
        assert!(history.store(0, ExtSeqNum(1), &[2; 8]));
        assert!(!history.store(0, ExtSeqNum(2), &[3; 9]));
        assert!(!history.store(0, ExtSeqNum(2), &[]));
        assert_eq!(history.too_large(), 1);
        assert_eq!(history.get(0, ExtSeqNum(0)), Some(&[1; 8][..]));
        assert_eq!(history.get(0, ExtSeqNum(1)), Some(&[2; 8][..]));
        assert_eq!(history.get(0, ExtSeqNum(2)), None);
    }

    #[test]
    fn a_late_packet_does_not_displace_a_newer_one() {
        let mut history = History::new(4, 8);
        history.store(3, ExtSeqNum(9), &[9]);
        assert!(!history.store(3, ExtSeqNum(5), &[5]));
        assert_eq!(history.get(3, ExtSeqNum(9)), Some(&[9][..]));
        assert!(history.store(4, ExtSeqNum(1), &[1]), "another source starts anywhere");
        assert_eq!(history.get(3, ExtSeqNum(9)), None);
        assert!(history.store(4, ExtSeqNum(1), &[7, 7]), "the same packet again");
        assert_eq!(history.get(4, ExtSeqNum(1)), Some(&[7, 7][..]));
    }

    #[test]
    fn clearing_forgets_all() {
        let mut history = History::new(4, 8);
        history.store(3, ExtSeqNum(9), &[9]);
        history.clear();
        assert_eq!(history.get(3, ExtSeqNum(9)), None);
        assert!(history.store(3, ExtSeqNum(1), &[1]));
    }

    #[test]
    fn memory_is_slots_times_size() {
        assert_eq!(History::new(512, 1_500).memory_bytes(), 512 * 1_500 + 512 * 16);
    }
}
