//! Receiver estimated maximum bitrate; read only, for peers that know nothing newer. Source: draft-alvestrand-rmcat-remb-03 §2.

use super::read_feedback_ssrcs;
use crate::ids::Ssrc;
use crate::wire::cursor::Reader;

/// An estimate as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    sender: Ssrc,
    bitrate_bps: u64,
    ssrcs: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (sender, _) = read_feedback_ssrcs(&mut reader)?;
        let _identifier = reader.u32()?;
        let count = reader.u8()?;
        let rate = reader.u24()?;
        let (exponent, mantissa) = (rate >> 18, rate & 0x3_FFFF);
        let bitrate_bps = u64::try_from(u128::from(mantissa) << exponent).unwrap_or(u64::MAX);
        Some(Self { sender, bitrate_bps, ssrcs: reader.bytes(4 * usize::from(count))? })
    }

    /// Who estimates.
    pub fn sender(&self) -> Ssrc {
        self.sender
    }

    /// The estimate for all streams together, in bits per second; `u64::MAX` for anything above.
    pub fn bitrate_bps(&self) -> u64 {
        self.bitrate_bps
    }

    /// The streams it covers; 255 at most.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        let mut reader = Reader::new(self.ssrcs);
        std::iter::from_fn(move || reader.u32().map(Ssrc))
    }
}

/// Whether application feedback with this body is an estimate. Others share the format.
pub(super) fn is_remb(body: &[u8]) -> bool {
    body.get(8..12) == Some(b"REMB")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn packet(exponent: u8, mantissa: u32, count: u8) -> Vec<u8> {
        let mut bytes = vec![0x8F, 206, 0, 4 + count, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(b"REMB");
        bytes.push(count);
        bytes.extend(&(u32::from(exponent) << 18 | mantissa).to_be_bytes()[1..]);
        for ssrc in 0..u32::from(count) {
            bytes.extend((100 + ssrc).to_be_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (u64, Vec<Ssrc>) {
        let Packet::Remb(view) = only_packet(bytes) else { panic!("not an estimate") };
        assert_eq!(view.sender(), Ssrc(1));
        (view.bitrate_bps(), view.ssrcs().collect())
    }

    #[test]
    fn rate_is_mantissa_times_a_power_of_two() {
        assert_eq!(read(&packet(0, 5, 0)), (5, vec![]));
        assert_eq!(read(&packet(3, 0x3_FFFF, 1)), (0x3_FFFF * 8, vec![Ssrc(100)]));
        assert_eq!(read(&packet(2, 250_000, 2)), (1_000_000, vec![Ssrc(100), Ssrc(101)]));
    }

    #[test]
    fn rates_beyond_all_measure_stop_at_the_largest_number() {
        assert_eq!(read(&packet(63, 0x3_FFFF, 0)).0, u64::MAX);
        assert_eq!(read(&packet(46, 0x3_FFFF, 0)).0, 0x3_FFFF << 46);
    }

    #[test]
    fn a_count_past_the_end_is_refused() {
        let bytes = packet(3, 1000, 3);
        for_each_truncation(&bytes, |cut| match packets(cut).next().unwrap() {
            Err(_) => {}
            Ok(other) => {
                assert!(matches!(other, Packet::Other { .. }) && cut.len() < 16, "{other:?}");
            }
        });
        let mut liar = packet(3, 1000, 3);
        liar[16] = 255;
        assert!(packets(&liar).next().unwrap().is_err());
    }

    #[test]
    fn other_application_feedback_is_not_an_estimate() {
        let mut bytes = packet(3, 1000, 1);
        bytes[12] = b'r';
        assert!(matches!(only_packet(&bytes), Packet::Other { payload_type: 206, fmt: 15 }));
    }
}
