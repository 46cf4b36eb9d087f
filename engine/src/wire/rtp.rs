//! RTP packets: header, CSRC list, extension block, padding. Source: RFC 3550 §5.1.

use super::cursor::Writer;
use crate::ids::{PayloadType, RtpTime, SeqNum, Ssrc};

/// The header of an RTP packet, protected or plain. Source: RFC 3550 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpHeader {
    /// Meaning by payload format: last packet of a frame (video), start of a talkspurt (audio).
    pub marker: bool,
    /// Which codec.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub seq: SeqNum,
    /// Timestamp.
    pub timestamp: RtpTime,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// Whether the payload ends in padding; how much stands in its last byte, behind the cipher.
    pub has_padding: bool,
    /// Whether the header ends in an extension block.
    pub has_extension: bool,
    /// Bytes up to the payload: fixed header, CSRC list and extension block. At most the length of the packet.
    pub header_len: usize,
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtpError {
    /// Ends within the header, the CSRC list or the extension block.
    Short,
    /// The version is not 2.
    Version,
    /// The padding count is zero or larger than the payload.
    Padding,
}

impl RtpHeader {
    /// Reads the header of `packet` and looks at nothing behind it, so that a protected packet can be given.
    ///
    /// # Errors
    /// `Version` unless it is 2, `Short` when the header does not fit into `packet`.
    /// Source: RFC 3550 §5.1, §5.3.1.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let (fixed, _) = packet.split_first_chunk::<FIXED_LEN>().ok_or(RtpError::Short)?;
        let &[first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = fixed;
        if first >> 6 != VERSION {
            return Err(RtpError::Version);
        }
        let has_extension = first & EXTENSION_BIT != 0;
        let mut header_len = fixed_and_csrc_len(first);
        if has_extension {
            let block = packet.get(header_len..).and_then(|rest| rest.first_chunk::<4>());
            let &[_, _, w0, w1] = block.ok_or(RtpError::Short)?;
            header_len += 4 + 4 * usize::from(u16::from_be_bytes([w0, w1]));
        }
        if header_len > packet.len() {
            return Err(RtpError::Short);
        }
        Ok(Self {
            marker: second & MARKER_BIT != 0,
            payload_type: PayloadType(second & !MARKER_BIT),
            seq: SeqNum(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTime(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: Ssrc(u32::from_be_bytes([c0, c1, c2, c3])),
            has_padding: first & PADDING_BIT != 0,
            has_extension,
            header_len,
        })
    }
}

/// A plain RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct RtpView<'a> {
    packet: &'a [u8],
    header: RtpHeader,
    padding_len: usize,
}

impl<'a> RtpView<'a> {
    /// Reads `packet`, which is plain: the padding count is checked.
    ///
    /// # Errors
    /// As [`RtpHeader::parse`]; `Padding` when the count in the last byte is zero or larger than the payload.
    /// Source: RFC 3550 §5.1.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let header = RtpHeader::parse(packet)?;
        let mut padding_len = 0;
        if header.has_padding {
            let behind_header = packet.get(header.header_len..).unwrap_or_default();
            padding_len = usize::from(*behind_header.last().ok_or(RtpError::Padding)?);
            if padding_len == 0 || padding_len > behind_header.len() {
                return Err(RtpError::Padding);
            }
        }
        Ok(Self { packet, header, padding_len })
    }

    /// The header.
    pub fn header(&self) -> RtpHeader {
        self.header
    }

    /// The extension block: its profile, and its data without the four bytes in front.
    /// [`elements`](super::rtp_ext::elements) reads it. Source: RFC 3550 §5.3.1.
    pub fn extension(&self) -> Option<(u16, &'a [u8])> {
        if !self.header.has_extension {
            return None;
        }
        let block_at = fixed_and_csrc_len(*self.packet.first()?);
        let block = self.packet.get(block_at..self.header.header_len)?;
        let (&[p0, p1, _, _], data) = block.split_first_chunk()?;
        Some((u16::from_be_bytes([p0, p1]), data))
    }

    /// The payload without padding; empty in a packet sent only to probe.
    pub fn payload(&self) -> &'a [u8] {
        let end = self.packet.len() - self.padding_len;
        self.packet.get(self.header.header_len..end).unwrap_or_default()
    }

    /// Bytes of padding behind the payload, their count included.
    pub fn padding_len(&self) -> usize {
        self.padding_len
    }
}

/// What goes into the first twelve bytes of a packet. No CSRC list: a forwarder mixes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FixedHeader {
    /// As in [`RtpHeader`].
    pub marker: bool,
    /// 0 to 127; the top bit is not written.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub seq: SeqNum,
    /// Timestamp.
    pub timestamp: RtpTime,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// Whether an extension block follows.
    pub has_extension: bool,
    /// Whether the payload ends in padding.
    pub has_padding: bool,
}

impl FixedHeader {
    /// Bytes of the fixed header.
    pub const LEN: usize = FIXED_LEN;
}

/// Writes the fixed header to the front of `out`; returns its length, 12, or `None` when `out` is shorter.
/// Source: RFC 3550 §5.1.
pub fn write_fixed_header(out: &mut [u8], header: &FixedHeader) -> Option<usize> {
    let mut first = VERSION << 6;
    if header.has_padding {
        first |= PADDING_BIT;
    }
    if header.has_extension {
        first |= EXTENSION_BIT;
    }
    let marker = if header.marker { MARKER_BIT } else { 0 };
    let mut writer = Writer::new(out.get_mut(..FIXED_LEN)?);
    writer.u8(first)?;
    writer.u8(marker | header.payload_type.0 & !MARKER_BIT)?;
    writer.u16(header.seq.0)?;
    writer.u32(header.timestamp.0)?;
    writer.u32(header.ssrc.0)?;
    Some(writer.len())
}

fn fixed_and_csrc_len(first: u8) -> usize {
    FIXED_LEN + 4 * usize::from(first & CSRC_COUNT_MASK)
}

const FIXED_LEN: usize = 12;
const VERSION: u8 = 2;
const PADDING_BIT: u8 = 0x20;
const EXTENSION_BIT: u8 = 0x10;
const CSRC_COUNT_MASK: u8 = 0x0F;
const MARKER_BIT: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: FixedHeader = FixedHeader {
        marker: true,
        payload_type: PayloadType(111),
        seq: SeqNum(0xFFFE),
        timestamp: RtpTime(0xDEAD_BEEF),
        ssrc: Ssrc(0x0102_0304),
        has_extension: false,
        has_padding: false,
    };

    fn packet(first: u8, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 12];
        write_fixed_header(&mut packet, &FIXED).unwrap();
        packet[0] = first;
        packet.extend_from_slice(behind);
        packet
    }

    #[test]
    fn fixed_header_round_trip() {
        for flags in 0..8_u8 {
            let written = FixedHeader {
                marker: flags & 1 != 0,
                has_padding: flags & 2 != 0,
                has_extension: flags & 4 != 0,
                ..FIXED
            };
            let mut bytes = [0; 16]; // an empty extension block stands behind the header
            assert_eq!(write_fixed_header(&mut bytes, &written), Some(12));
            let read = RtpHeader::parse(&bytes).unwrap();
            assert_eq!(
                (read.marker, read.has_padding, read.has_extension),
                (written.marker, written.has_padding, written.has_extension)
            );
            assert_eq!(read.payload_type, FIXED.payload_type);
            assert_eq!(read.seq, FIXED.seq);
            assert_eq!(read.timestamp, FIXED.timestamp);
            assert_eq!(read.ssrc, FIXED.ssrc);
            assert_eq!(read.header_len, if written.has_extension { 16 } else { 12 });
        }
        assert_eq!(write_fixed_header(&mut [0; 11], &FIXED), None);
    }

    #[test]
    fn fixed_header_has_the_bytes_of_the_standard() {
        let mut bytes = [0; 12];
        write_fixed_header(&mut bytes, &FIXED).unwrap();
        assert_eq!(bytes, [0x80, 0xEF, 0xFF, 0xFE, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4]);
    }

    #[test]
    fn payload_starts_behind_csrc_and_extension() {
        let mut behind = vec![0xCC; 8]; // two CSRC
        behind.extend([0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0]);
        behind.extend(b"media");
        let packet = packet(0x92, &behind);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(view.header().header_len, 12 + 8 + 8);
        assert_eq!(view.extension(), Some((0xBEDE, &[0x10, 0xAA, 0, 0][..])));
        assert_eq!(view.payload(), b"media");
        assert_eq!(view.padding_len(), 0);
    }

    #[test]
    fn padding_is_stripped_from_plain_packets() {
        let padded = packet(0xA0, b"media\0\0\x03");
        let view = RtpView::parse(&padded).unwrap();
        assert_eq!((view.payload(), view.padding_len()), (&b"media"[..], 3));
        let only_padding = packet(0xA0, b"\0\0\x03");
        assert_eq!(RtpView::parse(&only_padding).unwrap().payload(), b"");
    }

    #[test]
    fn impossible_padding_is_refused() {
        for behind in [&b"media\0"[..], b"media\x07", b""] {
            let packet = packet(0xA0, behind);
            assert_eq!(RtpView::parse(&packet).unwrap_err(), RtpError::Padding);
            assert!(RtpHeader::parse(&packet).unwrap().has_padding, "protected: not looked at");
        }
    }

    #[test]
    fn headers_that_do_not_fit_are_short() {
        let whole = packet(0x9F, &[0; 64]); // 15 CSRC, then an empty extension block
        assert_eq!(RtpHeader::parse(&whole).unwrap().header_len, whole.len());
        for len in 0..whole.len() {
            assert_eq!(RtpHeader::parse(&whole[..len]), Err(RtpError::Short), "length {len}");
        }
        let huge_block = packet(0x90, &[0xBE, 0xDE, 0xFF, 0xFF, 0, 0, 0, 0]);
        assert_eq!(RtpHeader::parse(&huge_block), Err(RtpError::Short));
    }

    #[test]
    fn other_versions_are_refused() {
        for first in [0x00, 0x40, 0xC0] {
            assert_eq!(RtpHeader::parse(&packet(first, &[])), Err(RtpError::Version));
        }
    }
}
