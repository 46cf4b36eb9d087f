//! Picture loss indication; the compound walk reads it, having nothing but the two sources. Source: RFC 4585 §6.3.1.

use super::{FMT_PLI, PAYLOAD_FEEDBACK, write_feedback};
use crate::ids::Ssrc;

/// Writes a picture loss indication, 12 bytes; `None` when it does not fit into `out`. Source: RFC 4585 §6.3.1.
pub fn write(out: &mut [u8], sender: Ssrc, media: Ssrc) -> Option<usize> {
    write_feedback(out, (FMT_PLI, PAYLOAD_FEEDBACK), sender, media, |_| Some(()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    #[test]
    fn round_trip() {
        let mut out = [0; 12];
        assert_eq!(write(&mut out, Ssrc(1), Ssrc(2)), Some(12));
        assert_eq!(out, [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        let packet = only_packet(&out);
        assert!(matches!(packet, Packet::Pli { sender: Ssrc(1), media: Ssrc(2) }));
    }

    #[test]
    fn indications_that_are_not_all_there_are_refused() {
        let mut out = [0; 12];
        write(&mut out, Ssrc(1), Ssrc(2)).unwrap();
        for_each_truncation(&out, |cut| assert!(packets(cut).next().unwrap().is_err()));
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(12, |out| write(out, Ssrc(1), Ssrc(2)));
    }
}
