//! Header extension blocks of the packets that are forwarded together: laid out once for all legs of one kind, then filled in for
//! each leg. Source: RFC 8285.

use arrayvec::ArrayVec;

use super::outbound::DATAGRAM_MAX;
use super::plain::PlainRtp;
use crate::ids::Mid;
use crate::srtp::Profile;
use crate::wire::rtp::FixedHeader;
use crate::wire::rtp_ext::{Extension, ExtensionMap, ExtensionWriter, needs_two_byte};

/// Packets that are forwarded together: what a batch brought of one track and layer. More go in several groups.
pub const GROUP_MAX: usize = 16;

/// Extensions and payload of the longest packet that may be sent, under the profile that adds most.
const LEN_MAX: usize = DATAGRAM_MAX - FixedHeader::LEN - Profile::AeadAes256Gcm.rtp_overhead();

/// Bytes of the largest block.
const BLOCK_MAX: usize = 256;

/// The extension blocks of a group, and the padding that makes its packets equal. Made once per shard.
pub struct Blocks {
    kind: Option<Kind>,
    places: ArrayVec<Place, GROUP_MAX>,
    /// [`BLOCK_MAX`] for each packet.
    bytes: Box<[u8]>,
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

/// What is where in the block of one packet.
struct Place {
    len: u16,
    mid_at: u16,
    seq_at: u16,
    padding: u8,
}

/// The block of one packet.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    bytes: &'a [u8],
    mid_at: usize,
    seq_at: usize,
    /// Bytes of RTP padding that the packet gets; 0 for none. Source: RFC 3550 §5.1.
    pub padding: u8,
}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Blocks {
    /// Makes room for a group.
    pub fn new() -> Self {
        let bytes = vec![0; GROUP_MAX * BLOCK_MAX].into_boxed_slice();
        Self { kind: None, places: ArrayVec::new(), bytes }
    }

    /// What comes is another group.
    pub fn clear(&mut self) {
        self.kind = None;
    }

    /// The block of packet `at` of a group, for legs of this kind. Called with the same packets until [`Blocks::clear`]; `None` for
    /// a packet that the group does not have.
    pub fn lay_out(
        &mut self,
        kind: Kind,
        packets: &[PlainRtp<'_>],
        at: usize,
    ) -> Option<Block<'_>> {
        if self.kind != Some(kind) {
            self.kind = Some(kind);
            self.places.clear();
            for (packet, room) in packets.iter().zip(self.bytes.chunks_exact_mut(BLOCK_MAX)) {
                self.places.push(Place::new(kind, packet, room));
            }
            if kind.padding_max > 0 && packets.len() > 1 {
                self.equalise(kind.padding_max, packets);
            }
        }
        let place = self.places.get(at)?;
        Some(Block {
            bytes: &self.bytes[at * BLOCK_MAX..at * BLOCK_MAX + usize::from(place.len)],
            mid_at: place.mid_at.into(),
            seq_at: place.seq_at.into(),
            padding: place.padding,
        })
    }

    /// Pads packets that are a little shorter than the longest: libwebrtc cuts a frame into packets of which the last ones are a byte
    /// longer, and a run of segments needs equal ones.
    fn equalise(&mut self, padding_max: u8, packets: &[PlainRtp<'_>]) {
        let len = |(place, packet): (&Place, &PlainRtp<'_>)| {
            usize::from(place.len) + packet.payload.len()
        };
        let longest = self.places.iter().zip(packets).map(len).max().unwrap_or(0);
        // What is too long to be sent must not make others so.
        if longest > LEN_MAX {
            return;
        }
        let last = self.places.len().saturating_sub(1);
        // The last segment of a run may be shorter.
        for (place, packet) in self.places.iter_mut().zip(packets).take(last) {
            let lacks = longest - len((place, packet));
            if lacks <= usize::from(padding_max) {
                place.padding = lacks as u8;
            }
        }
    }
}

impl Place {
    /// Lays out the block of one packet in `out`. What does not fit is left out; the room is far larger than what browsers send.
    fn new(kind: Kind, packet: &PlainRtp<'_>, out: &mut [u8]) -> Self {
        const UNKNOWN: [u8; 255] = [0; 255];
        let id = |extension| kind.extensions.id(extension);
        let mid = id(Extension::Mid).zip(kind.mid_len);
        let mid = mid.map(|(id, len)| (id, &UNKNOWN[..usize::from(len)]));
        let seq = id(Extension::TransportCc).filter(|_| kind.is_numbered);
        let seq = seq.map(|id| (id, &UNKNOWN[..2]));
        let forwarded = packet.elements();
        let forwarded = forwarded.filter_map(|(extension, value)| Some((id(extension)?, value)));
        let mut all = mid.into_iter().chain(seq).chain(forwarded.clone());
        let two_byte = all.any(|(id, value)| needs_two_byte(id, value.len()));
        let mut writer = ExtensionWriter::new(out, two_byte);
        let mut place = |element: Option<(u8, &[u8])>| {
            let (id, value) = element?;
            writer.push(id, value).then(|| (writer.written() - value.len()) as u16)
        };
        let (mid_at, seq_at) = (place(mid).unwrap_or(0), place(seq).unwrap_or(0));
        for (id, value) in forwarded {
            writer.push(id, value);
        }
        Self { len: writer.finish() as u16, mid_at, seq_at, padding: 0 }
    }
}

impl Block<'_> {
    /// Its bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the packet has no extensions.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the block of one leg to `out`, which has its length: with the leg's MID and the packet's transport-wide number, as
    /// far as the kind has them.
    pub fn write(&self, out: &mut [u8], mid: &Mid, transport_seq: Option<u16>) {
        out.copy_from_slice(self.bytes);
        if self.mid_at > 0 {
            out[self.mid_at..self.mid_at + mid.as_bytes().len()].copy_from_slice(mid.as_bytes());
        }
        if let (1.., Some(seq)) = (self.seq_at, transport_seq) {
            out[self.seq_at..self.seq_at + 2].copy_from_slice(&seq.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ExtSeqNum, PayloadType, RtpTime, SeqNum, Ssrc};
    use crate::wire::rtp::write_fixed_header;
    use crate::wire::rtp_ext::elements;

    const FROM: [(Extension, u8); 2] =
        [(Extension::VideoOrientation, 5), (Extension::DependencyDescriptor, 6)];

    const HEADER: FixedHeader = FixedHeader {
        marker: false,
        payload_type: PayloadType(96),
        seq: SeqNum(9),
        timestamp: RtpTime(1),
        ssrc: Ssrc(2),
        has_extension: false,
        has_padding: false,
    };

    fn map(ids: &[(Extension, u8)]) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        ids.iter().for_each(|&(extension, id)| map.set(extension, id));
        map
    }

    /// A plain packet as a publisher sends it.
    fn packet(elements: &[(u8, &[u8])], payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; FixedHeader::LEN + BLOCK_MAX];
        let header = FixedHeader { has_extension: !elements.is_empty(), ..HEADER };
        write_fixed_header(&mut bytes, &header).unwrap();
        let mut writer = ExtensionWriter::new(&mut bytes[FixedHeader::LEN..], false);
        elements.iter().for_each(|&(id, value)| assert!(writer.push(id, value)));
        let len = FixedHeader::LEN + writer.finish();
        bytes.truncate(len);
        bytes.resize(len + payload, 7);
        bytes
    }

    fn read(bytes: &[u8]) -> PlainRtp<'_> {
        PlainRtp::read(bytes, 1, ExtSeqNum(9), 90_000, &map(&FROM)).unwrap()
    }

    fn kind(ids: &[(Extension, u8)], padding_max: u8) -> Kind {
        Kind { extensions: map(ids), mid_len: Some(3), is_numbered: true, padding_max }
    }

    /// The elements of a block, ids and values.
    fn written(block: Block<'_>, mid: &str, seq: Option<u16>) -> Vec<(u8, Vec<u8>)> {
        let mut out = vec![0xEE; block.len()];
        block.write(&mut out, &Mid::new(mid).unwrap(), seq);
        if out.is_empty() {
            return Vec::new();
        }
        let profile = u16::from_be_bytes([out[0], out[1]]);
        elements(profile, &out[4..]).map(|(id, value)| (id, value.to_vec())).collect()
    }

    #[test]
    fn a_block_has_the_legs_own_and_what_the_publisher_sent_under_the_legs_ids() {
        let bytes = packet(&[(5, &[1]), (6, &[2; 4]), (9, &[3])], 100);
        let ids =
            [(Extension::Mid, 1), (Extension::TransportCc, 2), (Extension::VideoOrientation, 3)];
        let mut blocks = Blocks::new();
        let packets = [read(&bytes)];
        let block = blocks.lay_out(kind(&ids, 0), &packets, 0).unwrap();
        let expected = [(1, b"abc".to_vec()), (2, vec![0x12, 0x34]), (3, vec![1])];
        assert_eq!(written(block, "abc", Some(0x1234)), expected);
        assert_eq!(written(block, "xyz", Some(7))[0].1, b"xyz", "each leg has its own");
    }

    #[test]
    fn a_kind_without_mid_and_number_has_neither() {
        let bytes = packet(&[], 100);
        let ids = [(Extension::Mid, 1), (Extension::TransportCc, 2)];
        let bare = Kind { mid_len: None, is_numbered: false, ..kind(&ids, 0) };
        let (mut blocks, packets) = (Blocks::new(), [read(&bytes)]);
        assert_eq!(blocks.lay_out(kind(&ids, 0), &packets, 0).unwrap().len(), 12);
        let block = blocks.lay_out(bare, &packets, 0).unwrap();
        assert!(block.is_empty(), "laid out anew");
        assert_eq!(written(block, "abc", None), []);
        assert!(blocks.lay_out(bare, &packets, 1).is_none());
    }

    #[test]
    fn long_values_and_high_ids_take_the_two_byte_form() {
        let long = [9; 40];
        let mut bytes = vec![0; 200];
        let header = FixedHeader { has_extension: true, ..HEADER };
        write_fixed_header(&mut bytes, &header).unwrap();
        let mut writer = ExtensionWriter::new(&mut bytes[12..], true);
        assert!(writer.push(6, &long));
        let len = 12 + writer.finish();
        let ids = [(Extension::Mid, 1), (Extension::DependencyDescriptor, 20)];
        let (mut blocks, packets) = (Blocks::new(), [read(&bytes[..len + 10])]);
        let block = blocks.lay_out(kind(&ids, 0), &packets, 0).unwrap();
        let expected = [(1, b"abc".to_vec()), (20, long.to_vec())];
        assert_eq!(written(block, "abc", None), expected);
    }

    fn paddings(sizes: &[usize], padding_max: u8) -> Vec<u8> {
        let packets: Vec<_> = sizes.iter().map(|&size| packet(&[], size)).collect();
        let plain: Vec<_> = packets.iter().map(|bytes| read(bytes)).collect();
        all_paddings(kind(&[(Extension::Mid, 1)], padding_max), &plain)
    }

    fn all_paddings(kind: Kind, packets: &[PlainRtp<'_>]) -> Vec<u8> {
        let mut blocks = Blocks::new();
        let padding = |at| blocks.lay_out(kind, packets, at).unwrap().padding;
        (0..packets.len()).map(padding).collect()
    }

    #[test]
    fn packets_a_little_shorter_than_the_longest_are_padded() {
        assert_eq!(paddings(&[1000, 1000, 1001, 1001], 16), [1, 1, 0, 0]);
        assert_eq!(
            paddings(&[1000, 1000, 1000, 300], 16),
            [0, 0, 0, 0],
            "a shorter last one may be"
        );
        assert_eq!(paddings(&[1000, 983, 984, 1000], 16), [0, 0, 16, 0], "17 are too many");
        assert_eq!(paddings(&[1000, 1001], 0), [0, 0], "switched off");
        assert_eq!(paddings(&[500], 16), [0]);
        let most = LEN_MAX - 8; // the block takes eight bytes
        assert_eq!(paddings(&[most - 9, most, most - 9], 16), [9, 0, 0]);
        assert_eq!(paddings(&[most - 9, most + 1, most - 9], 16), [0; 3], "dropped alone");
    }

    #[test]
    fn extensions_count_towards_the_length() {
        let packets = [packet(&[(5, &[1])], 1000), packet(&[], 1000), packet(&[], 1001)];
        let plain = packets.each_ref().map(|bytes| read(bytes));
        let ids = [(Extension::VideoOrientation, 3)];
        // The first one's block takes eight bytes where the leg has that extension.
        assert_eq!(all_paddings(kind(&ids, 16), &plain), [0, 8, 0]);
        assert_eq!(all_paddings(kind(&[], 16), &plain), [1, 1, 0]);
    }
}
