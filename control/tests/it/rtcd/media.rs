//! Packets that say who sent them, and what a receiver can tell of them.

use std::collections::{BTreeMap, BTreeSet};

/// What a packet carries in its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Number of the sender; see [`sender_number`].
    pub(crate) sender: u32,
    /// What the test wrote on it, to tell one phase from another.
    pub(crate) note: u8,
    /// Whether it is of the higher layer.
    pub(crate) high: bool,
}

const MAGIC: &[u8; 4] = b"Slc0";

impl Stamp {
    fn write(self, payload: &mut Vec<u8>, length: usize) {
        payload.extend(MAGIC);
        payload.extend(self.sender.to_be_bytes());
        payload.extend([self.note, u8::from(self.high)]);
        payload.resize(payload.len().max(length), 0xa5);
    }

    /// Finds the stamp in a payload.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.windows(4).position(|window| window == MAGIC)?;
        let rest = payload.get(at + 4..at + 10)?;
        let sender = u32::from_be_bytes(rest[..4].try_into().ok()?);
        Some(Self { sender, note: rest[4], high: rest[5] == 1 })
    }

    /// An Opus packet: one SILK frame of 20 ms for the eye, and the stamp.
    pub(crate) fn opus(self) -> Vec<u8> {
        let mut payload = vec![0x48];
        self.write(&mut payload, 80);
        payload
    }

    /// A VP8 frame in one packet. Source: RFC 7741 section 4.2, 4.3.
    pub(crate) fn vp8(self, key_frame: bool, picture: u16, length: usize) -> Vec<u8> {
        let picture = picture.to_be_bytes();
        // X and S; I; M with 15 bits of picture id.
        let mut payload = vec![0x90, 0x80, 0x80 | picture[0], picture[1]];
        // First byte of the frame: inverse key frame bit, version 0, shown. Then start code, 640 x 360.
        payload.push(if key_frame { 0x10 } else { 0x11 });
        payload.extend([0, 0]);
        if key_frame {
            payload.extend([0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        self.write(&mut payload, length);
        payload
    }

    /// An AV1 temporal unit in one packet: one frame OBU, and a sequence header before it in a key frame.
    ///
    /// Source: RTP payload format for AV1, section 4.4.
    pub(crate) fn av1(self, key_frame: bool, length: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        if key_frame {
            // W = 2 and N: a sequence header of 4 bytes with its length, then the frame.
            payload.extend([0x28, 4, 0x08, 0x00, 0x00, 0x00]);
        } else {
            payload.push(0x10);
        }
        payload.push(0x30);
        self.write(&mut payload, length);
        payload
    }
}

/// The number that stands for a session in a stamp (FNV-1a).
pub(crate) fn sender_number(session: &str) -> u32 {
    session
        .bytes()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Whether a VP8 payload as of [`Stamp::vp8`] begins a key frame, wherever its descriptor was rewritten.
pub(crate) fn is_vp8_key_frame(payload: &[u8]) -> bool {
    payload.windows(3).take(16).any(|window| window == [0x9d, 0x01, 0x2a])
}

/// What came in one m= section.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    /// Packets by stamp.
    pub(crate) packets: BTreeMap<Stamp, usize>,
    /// SSRCs that media came with.
    pub(crate) ssrcs: BTreeSet<u32>,
    /// Payload types, each with the notes that came in it.
    pub(crate) payload_types: BTreeSet<(u8, u8)>,
    /// Packets without a stamp.
    pub(crate) unstamped: usize,
    /// Times the layer changed, with whether the first packet of the other layer was a key frame.
    pub(crate) switches: Vec<bool>,
    /// Layer of the last packet.
    last_high: Option<bool>,
}

impl Received {
    /// Notes one packet.
    pub(crate) fn note(&mut self, ssrc: u32, payload_type: u8, payload: &[u8]) {
        self.ssrcs.insert(ssrc);
        let Some(stamp) = Stamp::read(payload) else {
            self.unstamped += 1;
            return;
        };
        self.payload_types.insert((payload_type, stamp.note));
        if self.last_high.is_some_and(|high| high != stamp.high) {
            self.switches.push(is_vp8_key_frame(payload));
        }
        self.last_high = Some(stamp.high);
        *self.packets.entry(stamp).or_default() += 1;
    }

    /// Packets whose stamp `is_it`.
    pub(crate) fn count(&self, is_it: impl Fn(&Stamp) -> bool) -> usize {
        self.packets.iter().filter(|(stamp, _)| is_it(stamp)).map(|(_, count)| count).sum()
    }
}
