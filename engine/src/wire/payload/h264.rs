//! Key frames of H.264. Source: RFC 6184 §5.2, §5.7, §5.8.

/// Whether a payload begins with what a decoder needs first: a sequence parameter set, by itself or at the head of an aggregate or
/// of fragments. Peers of WebRTC send one before each key frame; a picture without it could not be decoded after a switch.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let unit_type = |at: usize| payload.get(at).map(|byte| byte & 0x1F);
    match unit_type(0) {
        Some(PARAMETER_SET) => true,
        // Behind the aggregate's own header stands the size of its first unit.
        Some(AGGREGATE) => unit_type(3) == Some(PARAMETER_SET),
        Some(FRAGMENT) => {
            let is_first = payload.get(1).is_some_and(|header| header & 0x80 != 0);
            is_first && unit_type(1) == Some(PARAMETER_SET)
        }
        _ => false,
    }
}

/// NAL unit type 7.
const PARAMETER_SET: u8 = 7;
/// STAP-A.
const AGGREGATE: u8 = 24;
/// FU-A.
const FRAGMENT: u8 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_starts_with_its_parameter_set() {
        let cases: &[(&[u8], bool)] = &[
            (&[], false),
            (&[0x67, 0x42], true),
            (&[0x68, 0xCE], false), // picture parameter set
            (&[0x65, 0x88], false), // a slice of it
            (&[0x41, 0x9A], false),
            (&[0x78, 0, 2, 0x67, 0x42], true),
            (&[0x78, 0, 2, 0x68, 0x42], false),
            (&[0x78, 0], false),
            (&[0x7C, 0x87, 1], true),
            (&[0x7C, 0x07, 1], false), // not the first fragment
            (&[0x7C, 0x85, 1], false),
            (&[0x7C], false),
        ];
        for (payload, expected) in cases {
            assert_eq!(starts_keyframe(payload), *expected, "{payload:02x?}");
        }
    }
}
