//! Key frames of AV1. Source: RTP Payload Format For AV1, version 1.0, §4.4.

/// Whether a payload is the first of a coded video sequence: the aggregation header's N is set. It begins with a key frame.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    // A packet that goes on with an element of the packet before (Z) starts nothing, whatever N says.
    payload.len() > 1 && payload[0] & (CONTINUES | NEW_SEQUENCE) == NEW_SEQUENCE
}

const CONTINUES: u8 = 0x80;
const NEW_SEQUENCE: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_starts_with_a_new_sequence() {
        let cases: &[(&[u8], bool)] = &[
            (&[], false),
            (&[0x08], false),
            (&[0x18, 0x0A], true),
            (&[0x58, 0x0A], true), // goes on in the next packet
            (&[0x88, 0x0A], false),
            (&[0x10, 0x0A], false),
        ];
        for (payload, expected) in cases {
            assert_eq!(starts_keyframe(payload), *expected, "{payload:02x?}");
        }
    }
}
