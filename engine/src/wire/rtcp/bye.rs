//! Goodbye. Source: RFC 3550 §6.6.

use super::{BYE, COUNT_MASK, write_packet};
use crate::ids::Ssrc;
use crate::wire::cursor::Reader;

/// A goodbye as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    ssrcs: &'a [u8],
}

impl<'a> View<'a> {
    /// The reason that may follow the sources is nobody's business here and is not read.
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        Some(Self { ssrcs: body.get(..4 * usize::from(count))? })
    }

    /// The sources that leave; 31 at most, and possibly none.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        let mut reader = Reader::new(self.ssrcs);
        std::iter::from_fn(move || reader.u32().map(Ssrc))
    }
}

/// Writes a goodbye without a reason; `None` when it does not fit into `out` or names more than 31 sources.
/// Source: RFC 3550 §6.6.
pub fn write(out: &mut [u8], ssrcs: &[Ssrc]) -> Option<usize> {
    let count = u8::try_from(ssrcs.len()).ok().filter(|&count| count <= COUNT_MASK)?;
    write_packet(out, count, BYE, |writer| ssrcs.iter().try_for_each(|ssrc| writer.u32(ssrc.0)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Ssrc> {
        let Packet::Bye(view) = only_packet(bytes) else { panic!("not a goodbye") };
        view.ssrcs().collect()
    }

    #[test]
    fn round_trip_of_any_number_of_sources() {
        for count in 0..=31 {
            let ssrcs: Vec<_> = (0..count).map(|n| Ssrc(n << 20 | n)).collect();
            let mut out = [0; 200];
            let len = write(&mut out, &ssrcs).unwrap();
            assert_eq!(len, 4 + 4 * ssrcs.len());
            assert_eq!(read(&out[..len]), ssrcs);
        }
        assert_eq!(write(&mut [0; 200], &[Ssrc(1); 32]), None);
    }

    #[test]
    fn a_reason_is_passed_over_however_long_it_claims_to_be() {
        let bytes = [0x81, 203, 0, 2, 0, 0, 0, 9, 255, b'b', b'y', b'e'];
        assert_eq!(read(&bytes), [Ssrc(9)]);
    }

    #[test]
    fn sources_that_are_not_all_there_are_refused() {
        let mut out = [0; 12];
        write(&mut out, &[Ssrc(1), Ssrc(2)]).unwrap();
        for_each_truncation(&out, |cut| assert!(packets(cut).next().unwrap().is_err()));
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(12, |out| write(out, &[Ssrc(1), Ssrc(2)]));
    }
}
