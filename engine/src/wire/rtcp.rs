//! RTCP: walks a compound packet; one packet type a file below. Source: RFC 3550 §6.1, §6.4.

pub mod bye;
pub mod fir;
pub mod nack;
pub mod pli;
pub mod remb;
pub mod rr;
pub mod sdes;
pub mod sr;
pub mod twcc;

use super::cursor::{Reader, Writer};
use crate::ids::Ssrc;

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// What a sender sent and received.
    SenderReport(sr::View<'a>),
    /// What a receiver received.
    ReceiverReport(rr::View<'a>),
    /// Names of sources.
    Sdes(sdes::View<'a>),
    /// Sources that leave.
    Bye(bye::View<'a>),
    /// Packets that were lost and are wanted again.
    Nack(nack::View<'a>),
    /// A key frame is wanted, because a picture was lost. Source: RFC 4585 §6.3.1.
    Pli {
        /// Who asks.
        sender: Ssrc,
        /// Whose key frame is wanted.
        media: Ssrc,
    },
    /// A key frame is wanted. Source: RFC 5104 §4.3.1.
    Fir(fir::View<'a>),
    /// When which packets of a transport arrived.
    TransportCc(twcc::View<'a>),
    /// The receiver's estimate of the available rate.
    Remb(remb::View<'a>),
    /// A packet that we leave aside, well framed.
    Other {
        /// Its packet type.
        payload_type: u8,
        /// Its format or count, 0 to 31.
        fmt: u8,
    },
}

/// Why a packet of a compound cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtcpError {
    /// Ends within the header or before the length that the header states. The walk ends here.
    Short,
    /// The version is not 2. The walk ends here.
    Version,
    /// Padding in front of the last packet, of no bytes, of no whole words, or larger than the packet. The walk ends here.
    Padding,
    /// The framing is right and the content is not; the walk goes on behind it.
    Content,
}

/// Walks the packets of `compound`, which is plain. Empty bytes have no packets.
///
/// Takes a compound as well as a reduced-size packet (RFC 5506), that is, any packet may come first.
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Whether `compound` is not empty, its lengths add up and only its last packet is padded by whole words.
/// Source: RFC 3550 appendix A.2, less the rule for the first packet, which RFC 5506 lifts.
pub fn is_valid_compound(compound: &[u8]) -> bool {
    let mut walk = packets(compound);
    let framed = |frame: Result<Frame<'_>, RtcpError>| frame.is_ok();
    !compound.is_empty() && std::iter::from_fn(|| walk.next_frame()).all(framed)
}

/// Packets of a compound, see [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = match self.next_frame()? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        Some(frame.packet().ok_or(RtcpError::Content))
    }
}

impl<'a> Packets<'a> {
    fn next_frame(&mut self) -> Option<Result<Frame<'a>, RtcpError>> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = Frame::split_from(&mut self.rest);
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

/// A packet cut out of a compound: the fields of its header, and what follows the header without padding.
#[derive(Clone, Copy)]
struct Frame<'a> {
    count: u8,
    payload_type: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn split_from(rest: &mut &'a [u8]) -> Result<Self, RtcpError> {
        let (&[first, payload_type, w0, w1], behind) =
            rest.split_first_chunk().ok_or(RtcpError::Short)?;
        if first >> 6 != VERSION {
            return Err(RtcpError::Version);
        }
        let body_len = 4 * usize::from(u16::from_be_bytes([w0, w1]));
        let (mut body, behind) = behind.split_at_checked(body_len).ok_or(RtcpError::Short)?;
        if first & PADDING_BIT != 0 {
            let padding_len = usize::from(*body.last().ok_or(RtcpError::Padding)?);
            // Transport-wide feedback ends at any byte, and str0m calls what fills its last word padding, wherever the packet stands.
            let fills_word = payload_type == TRANSPORT_FEEDBACK
                && first & COUNT_MASK == FMT_TWCC
                && padding_len < 4;
            let of_words = padding_len.is_multiple_of(4) && behind.is_empty();
            let whole = padding_len != 0 && (fills_word || of_words);
            let body_end = body.len().checked_sub(padding_len).filter(|_| whole);
            body = body_end.and_then(|end| body.get(..end)).ok_or(RtcpError::Padding)?;
        }
        *rest = behind;
        Ok(Self { count: first & COUNT_MASK, payload_type, body })
    }

    fn packet(self) -> Option<Packet<'a>> {
        let Self { count, payload_type, body } = self;
        Some(match (payload_type, count) {
            (SENDER_REPORT, _) => Packet::SenderReport(sr::View::parse(count, body)?),
            (RECEIVER_REPORT, _) => Packet::ReceiverReport(rr::View::parse(count, body)?),
            (SDES, _) => Packet::Sdes(sdes::View::parse(count, body)?),
            (BYE, _) => Packet::Bye(bye::View::parse(count, body)?),
            (TRANSPORT_FEEDBACK, FMT_NACK) => Packet::Nack(nack::View::parse(body)?),
            (TRANSPORT_FEEDBACK, FMT_TWCC) => Packet::TransportCc(twcc::View::parse(body)?),
            (PAYLOAD_FEEDBACK, FMT_PLI) => {
                let (sender, media) = read_feedback_ssrcs(&mut Reader::new(body))?;
                Packet::Pli { sender, media }
            }
            (PAYLOAD_FEEDBACK, FMT_FIR) => Packet::Fir(fir::View::parse(body)?),
            (PAYLOAD_FEEDBACK, FMT_APPLICATION) if remb::is_remb(body) => {
                Packet::Remb(remb::View::parse(body)?)
            }
            _ => Packet::Other { payload_type, fmt: count },
        })
    }
}

/// The sender and the media source that all feedback starts with. Source: RFC 4585 §6.1.
fn read_feedback_ssrcs(reader: &mut Reader<'_>) -> Option<(Ssrc, Ssrc)> {
    Some((Ssrc(reader.u32()?), Ssrc(reader.u32()?)))
}

/// Writes one packet to the front of `out`: a header, then what `body` writes, padded with zeros to whole words.
/// Returns the length of the packet; `None` when it does not fit into `out` or into the header's fields.
fn write_packet(
    out: &mut [u8],
    count: u8,
    payload_type: u8,
    body: impl FnOnce(&mut Writer<'_>) -> Option<()>,
) -> Option<usize> {
    if count > COUNT_MASK {
        return None;
    }
    let mut writer = Writer::new(out);
    writer.u8(VERSION << 6 | count)?;
    writer.u8(payload_type)?;
    writer.u16(0)?; // the length, known at the end
    body(&mut writer)?;
    writer.pad_to_word()?;
    let words_behind_first = u16::try_from(writer.len() / 4 - 1).ok()?;
    writer.patch_u16(2, words_behind_first)?;
    Some(writer.len())
}

/// As [`write_packet`], for feedback from `sender` about `media`.
fn write_feedback(
    out: &mut [u8],
    (fmt, payload_type): (u8, u8),
    sender: Ssrc,
    media: Ssrc,
    control_information: impl FnOnce(&mut Writer<'_>) -> Option<()>,
) -> Option<usize> {
    write_packet(out, fmt, payload_type, |writer| {
        writer.u32(sender.0)?;
        writer.u32(media.0)?;
        control_information(writer)
    })
}

const VERSION: u8 = 2;
const PADDING_BIT: u8 = 0x20;
const COUNT_MASK: u8 = 0x1F;

// Packet types and formats. Source: RFC 3550 §12.1, RFC 4585 §6.1, §9, RFC 5104 §4.3.1, and the two drafts.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const FMT_NACK: u8 = 1;
const FMT_TWCC: u8 = 15;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_APPLICATION: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The one packet in `bytes`.
    pub(super) fn only_packet(bytes: &[u8]) -> Packet<'_> {
        let mut walk = packets(bytes);
        let packet = walk.next().unwrap().unwrap();
        assert!(walk.next().is_none());
        assert!(is_valid_compound(bytes));
        packet
    }

    /// Cuts `packet` to every length of whole words, with the header's length to match, and gives each to `check`.
    pub(super) fn for_each_truncation(packet: &[u8], mut check: impl FnMut(&[u8])) {
        for len in (4..packet.len()).step_by(4) {
            let mut cut = packet[..len].to_vec();
            cut[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
            check(&cut);
        }
    }

    /// Asserts that `write` gives `None` for any room below `len` and leaves no panic behind.
    pub(super) fn assert_needs(len: usize, mut write: impl FnMut(&mut [u8]) -> Option<usize>) {
        let mut out = vec![0; len];
        for room in 0..len {
            assert_eq!(write(&mut out[..room]), None, "room {room}");
        }
        assert_eq!(write(&mut out), Some(len));
    }

    fn pli_then_bye() -> Vec<u8> {
        let mut out = [0; 100];
        let pli_len = pli::write(&mut out, Ssrc(1), Ssrc(2)).unwrap();
        let bye_len = bye::write(&mut out[pli_len..], &[Ssrc(3)]).unwrap();
        out[..pli_len + bye_len].to_vec()
    }

    #[test]
    fn transport_wide_feedback_fills_its_last_word_and_calls_it_padding() {
        let mut compound = vec![0xaf, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2]; // P, FMT 15, two SSRCs
        compound.extend([0, 7, 0, 1, 0, 0, 0, 0, 0x20, 0x01, 0x04, 0x01]); // one packet, one byte left
        compound.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]); // a PLI behind it
        assert!(is_valid_compound(&compound));
        let kinds: Vec<_> = packets(&compound).collect();
        assert!(matches!(kinds[..], [Ok(Packet::TransportCc(_)), Ok(Packet::Pli { .. })]));
        compound[0] = 0xa1; // a NACK has words only
        assert!(!is_valid_compound(&compound));
    }

    #[test]
    fn compound_yields_its_packets_in_order() {
        let compound = pli_then_bye();
        let read: Vec<_> = packets(&compound).collect();
        assert!(matches!(
            read[..],
            [Ok(Packet::Pli { sender: Ssrc(1), media: Ssrc(2) }), Ok(Packet::Bye(_))]
        ));
        assert!(is_valid_compound(&compound));
    }

    #[test]
    fn lengths_must_add_up() {
        let compound = pli_then_bye();
        for len in 1..compound.len() {
            let whole = len == 12; // the first packet alone
            assert_eq!(is_valid_compound(&compound[..len]), whole, "length {len}");
            let last = packets(&compound[..len]).last().unwrap();
            assert_eq!(last.is_ok(), whole, "length {len}");
        }
        assert!(!is_valid_compound(&[]));
        assert_eq!(packets(&[]).count(), 0);
    }

    #[test]
    fn an_error_of_framing_ends_the_walk() {
        let mut compound = pli_then_bye();
        compound[0] = 0x41; // version 1
        let read: Vec<_> = packets(&compound).map(|packet| packet.unwrap_err()).collect();
        assert_eq!(read, [RtcpError::Version]);
    }

    #[test]
    fn an_error_of_content_does_not_hide_what_follows() {
        let mut compound = vec![0x81, RECEIVER_REPORT, 0, 1, 0, 0, 0, 9]; // a block promised, none there
        compound.extend(pli_then_bye());
        let read: Vec<_> = packets(&compound).collect();
        assert_eq!(read[0].as_ref().unwrap_err(), &RtcpError::Content);
        assert!(matches!(read[1..], [Ok(Packet::Pli { .. }), Ok(Packet::Bye(_))]));
        assert!(is_valid_compound(&compound));
    }

    #[test]
    fn padding_is_taken_off_the_last_packet_only() {
        let padded = [0xA0, 208, 0, 2, 1, 2, 3, 4, 0, 0, 0, 4];
        assert!(matches!(only_packet(&padded), Packet::Other { payload_type: 208, fmt: 0 }));
        let frame = packets(&padded).next_frame().unwrap().ok().unwrap();
        assert_eq!(frame.body, [1, 2, 3, 4]);

        let mut in_front = padded.to_vec();
        in_front.extend(pli_then_bye());
        assert!(!is_valid_compound(&in_front));
        assert_eq!(packets(&in_front).next().unwrap().unwrap_err(), RtcpError::Padding);
    }

    #[test]
    fn impossible_padding_is_refused() {
        for count in [0, 1, 3, 6, 12, 255] {
            let padded = [0xA0, 208, 0, 2, 0, 0, 0, 0, 0, 0, 0, count];
            assert_eq!(packets(&padded).next().unwrap().unwrap_err(), RtcpError::Padding);
        }
        let nothing_to_pad = [0xA0, 208, 0, 0];
        assert_eq!(packets(&nothing_to_pad).next().unwrap().unwrap_err(), RtcpError::Padding);
    }

    #[test]
    fn unknown_packets_are_named_and_passed_over() {
        for (first, payload_type) in [(0x83, 204), (0x81, 207), (0x82, 205), (0x8F, 206)] {
            let bytes = [first, payload_type, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
            let fmt = first & 0x1F;
            let packet = only_packet(&bytes);
            assert!(
                matches!(packet, Packet::Other { payload_type: p, fmt: f } if (p, f) == (payload_type, fmt))
            );
        }
    }

    #[test]
    fn packets_longer_than_the_length_field_are_refused() {
        let mut out = vec![0; 300_000];
        let too_long = vec![0; 65_536 * 4];
        assert_eq!(write_packet(&mut out, 0, 204, |writer| writer.bytes(&too_long)), None);
        let longest = &too_long[..65_535 * 4];
        assert_eq!(write_packet(&mut out, 0, 204, |w| w.bytes(longest)), Some(65_536 * 4));
        assert!(is_valid_compound(&out[..65_536 * 4]));
    }
}
