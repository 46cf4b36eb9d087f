//! Full intra request. Source: RFC 5104 §4.3.1.

use super::{FMT_FIR, PAYLOAD_FEEDBACK, read_feedback_ssrcs, write_feedback};
use crate::ids::Ssrc;
use crate::wire::cursor::Reader;

/// A full intra request as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        // The media source of the header means nothing here; the entries name theirs.
        let (sender, _) = read_feedback_ssrcs(&mut reader)?;
        Some(Self { sender, entries: reader.rest() })
    }

    /// Who asks.
    pub fn sender(&self) -> Ssrc {
        self.sender
    }

    /// Whose key frames are wanted, each with the number of the request: the same number again is the same wish.
    pub fn entries(&self) -> impl Iterator<Item = (Ssrc, u8)> + use<'a> {
        let mut reader = Reader::new(self.entries);
        std::iter::from_fn(move || {
            let entry = (Ssrc(reader.u32()?), reader.u8()?);
            let _reserved = reader.u24()?;
            Some(entry)
        })
    }
}

/// Writes a full intra request with one entry, 20 bytes; `None` when it does not fit into `out`.
///
/// `seq_nr` grows by one with each wish for the same `media` and stays when a request is repeated. Source: RFC 5104 §4.3.1.1.
pub fn write(out: &mut [u8], sender: Ssrc, media: Ssrc, seq_nr: u8) -> Option<usize> {
    write_feedback(out, (FMT_FIR, PAYLOAD_FEEDBACK), sender, Ssrc(0), |writer| {
        writer.u32(media.0)?;
        writer.u8(seq_nr)?;
        writer.u24(0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(Ssrc, u8)> {
        let Packet::Fir(view) = only_packet(bytes) else { panic!("not a request") };
        assert_eq!(view.sender(), Ssrc(1));
        view.entries().collect()
    }

    #[test]
    fn round_trip() {
        let mut out = [0; 20];
        assert_eq!(write(&mut out, Ssrc(1), Ssrc(2), 255), Some(20));
        let expected = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 255, 0, 0, 0];
        assert_eq!(out, expected);
        assert_eq!(read(&out), [(Ssrc(2), 255)]);
    }

    #[test]
    fn several_entries_are_read_and_half_a_one_is_not() {
        let mut out = [0; 20];
        write(&mut out, Ssrc(1), Ssrc(2), 3).unwrap();
        let mut two = out.to_vec();
        two.extend([0, 0, 0, 9, 4, 0, 0, 0]);
        two[3] = 6;
        assert_eq!(read(&two), [(Ssrc(2), 3), (Ssrc(9), 4)]);
        for_each_truncation(&two, |cut| match packets(cut).next().unwrap() {
            Ok(Packet::Fir(view)) => assert_eq!(view.entries().count(), (cut.len() - 12) / 8),
            other => assert!(other.is_err() && cut.len() < 12),
        });
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(20, |out| write(out, Ssrc(1), Ssrc(2), 3));
    }
}
