//! Header extension blocks of the packets that are forwarded together: laid out once for all legs of one kind, then filled in for
//! each leg. Source: RFC 8285.

use arrayvec::ArrayVec;

use super::plain::PlainRtp;
use crate::ids::Mid;
use crate::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter, needs_two_byte};

/// Packets that are forwarded together: what a batch brought of one track and layer. More go in several groups.
pub const GROUP_MAX: usize = 16;

/// Bytes of the largest block.
const BLOCK_MAX: usize = 256;

/// The extension blocks of a group, and the padding that makes its packets equal.
#[derive(Default)]
pub struct Blocks {
    kind: Option<Kind>,
    blocks: ArrayVec<Block, GROUP_MAX>,
}

/// What two legs have in common whose blocks are laid out alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// The subscriber's ids.
    pub extensions: ExtensionMap,
    /// Bytes of the MID, where packets carry it.
    pub mid_len: Option<u8>,
    /// Whether packets carry a transport-wide sequence number.
    pub is_numbered: bool,
    /// The most bytes of RTP padding that a packet may get to be as long as another; 0 for none.
    pub padding_max: u8,
}

/// The block of one packet.
pub struct Block {
    bytes: [u8; BLOCK_MAX],
    len: u16,
    mid_at: u16,
    seq_at: u16,
    /// Bytes of RTP padding that the packet gets; 0 for none. Source: RFC 3550 §5.1.
    pub padding: u8,
}

impl Blocks {
    /// Makes the room; the first [`Blocks::lay_out`] fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The blocks of `packets` for legs of this kind, one for each. Called with the same packets each time.
    pub fn lay_out(&mut self, kind: Kind, packets: &[PlainRtp<'_>]) -> &[Block] {
        if self.kind != Some(kind) {
            self.kind = Some(kind);
            self.blocks.clear();
            self.blocks.extend(packets.iter().take(GROUP_MAX).map(|p| Block::new(kind, p)));
            if kind.padding_max > 0 {
                self.equalise(kind.padding_max, packets);
            }
        }
        &self.blocks
    }

    /// Pads packets that are a little shorter than the longest: libwebrtc cuts a frame into packets of which the last ones are a byte
    /// longer, and a run of segments needs equal ones.
    fn equalise(&mut self, padding_max: u8, packets: &[PlainRtp<'_>]) {
        let len = |(block, packet): (&Block, &PlainRtp<'_>)| block.len() + packet.payload.len();
        let longest = self.blocks.iter().zip(packets).map(len).max().unwrap_or(0);
        let last = self.blocks.len().saturating_sub(1);
        for (at, (block, packet)) in self.blocks.iter_mut().zip(packets).enumerate() {
            let lacks = longest - len((block, packet));
            // The last segment of a run may be shorter.
            if at < last && lacks <= usize::from(padding_max) {
                block.padding = lacks as u8;
            }
        }
    }
}

impl Block {
    /// Lays out the block of one packet. What does not fit is left out; the room is far larger than what browsers send.
    pub fn new(kind: Kind, packet: &PlainRtp<'_>) -> Self {
        const UNKNOWN: [u8; 255] = [0; 255];
        let id = |extension| kind.extensions.id(extension);
        let mid = id(Extension::Mid).zip(kind.mid_len);
        let mid = mid.map(|(id, len)| (id, &UNKNOWN[..usize::from(len)]));
        let seq = id(Extension::TransportCc).filter(|_| kind.is_numbered);
        let seq = seq.map(|id| (id, &UNKNOWN[..2]));
        let forwarded = packet.elements().iter();
        let forwarded = forwarded.filter_map(|&(extension, value)| Some((id(extension)?, value)));
        let all = || mid.into_iter().chain(seq).chain(forwarded.clone());
        let two_byte = all().any(|(id, value)| needs_two_byte(id, value.len()));
        let mut block = Self { bytes: [0; BLOCK_MAX], len: 0, mid_at: 0, seq_at: 0, padding: 0 };
        let mut writer = ExtensionWriter::new(&mut block.bytes, two_byte);
        let mut place = |element: Option<(u8, &[u8])>| {
            let (id, value) = element?;
            writer.push(id, value).then(|| (writer.written() - value.len()) as u16)
        };
        block.mid_at = place(mid).unwrap_or(0);
        block.seq_at = place(seq).unwrap_or(0);
        for (id, value) in forwarded {
            writer.push(id, value);
        }
        block.len = writer.finish() as u16;
        block
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the packet has no extensions.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the block of one leg to `out`, which has its length: with the leg's MID and the packet's transport-wide number, as
    /// far as the kind has them.
    pub fn write(&self, out: &mut [u8], mid: &Mid, transport_seq: Option<u16>) {
        out.copy_from_slice(&self.bytes[..self.len()]);
        if self.mid_at > 0 {
            let at = usize::from(self.mid_at);
            out[at..at + mid.as_bytes().len()].copy_from_slice(mid.as_bytes());
        }
        if let (1.., Some(seq)) = (self.seq_at, transport_seq) {
            let at = usize::from(self.seq_at);
            out[at..at + 2].copy_from_slice(&seq.to_be_bytes());
        }
    }
}
