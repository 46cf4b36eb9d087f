//! Retransmission payloads: the original sequence number, then the original payload. Source: RFC
//! 4588 §4.

use crate::ids::SeqNum;

/// Bytes that [`write_osn`] puts before the original payload.
pub const OSN_LEN: usize = 2;

/// Splits the payload of a retransmission into the original sequence number and the original
/// payload.
///
/// `None` below two bytes. The original payload may be empty: browsers probe with such packets, and
/// they retransmit nothing.
pub fn osn(payload: &[u8]) -> Option<(SeqNum, &[u8])> {
    let (osn, original) = payload.split_first_chunk::<OSN_LEN>()?;
    Some((SeqNum(u16::from_be_bytes(*osn)), original))
}

/// Writes the original sequence number to the first [`OSN_LEN`] bytes of `out`; the original
/// payload belongs behind them.
///
/// # Panics
/// When `out` is shorter: the caller sizes the packet.
pub fn write_osn(out: &mut [u8], osn: SeqNum) {
    out[..OSN_LEN].copy_from_slice(&osn.0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_by_length() {
        assert_eq!(osn(&[]), None);
        assert_eq!(osn(&[1]), None);
        assert_eq!(osn(&[0x12, 0x34]), Some((SeqNum(0x1234), &[][..])));
        assert_eq!(osn(&[0xff, 0xfe, 7, 8]), Some((SeqNum(0xfffe), &[7, 8][..])));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_touched() {
        let mut out = [9; 4];
        write_osn(&mut out, SeqNum(40_000));
        assert_eq!(osn(&out), Some((SeqNum(40_000), &[9u8, 9][..])));
    }
}
