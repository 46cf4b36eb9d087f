//! Key frames of VP9. Source: RFC 9628 §4.2.

use crate::wire::cursor::Reader;

/// Whether a payload is the first of a key frame: not predicted from other pictures (P), the start of a frame (B), and of the
/// lowest spatial layer, which alone has none below it to be predicted from.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    read(payload).unwrap_or(false)
}

fn read(payload: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(payload);
    let first = reader.u8()?;
    let has = |bit: u8| first & bit != 0;
    if has(PICTURE_ID) && reader.u8()? & 0x80 != 0 {
        reader.u8()?;
    }
    let spatial_layer = if has(LAYER_INDICES) { reader.u8()? >> 1 & 7 } else { 0 };
    Some(!has(PREDICTED) && has(FRAME_START) && spatial_layer == 0 && !reader.rest().is_empty())
}

const PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FRAME_START: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_starts_where_nothing_is_predicted_in_the_lowest_layer() {
        let cases: &[(&[u8], bool)] = &[
            (&[], false),
            (&[0x08], false),
            (&[0x08, 1], true),
            (&[0x48, 1], false),            // predicted
            (&[0x00, 1], false),            // not the start of a frame
            (&[0x88, 0x7F, 1], true),       // a short picture id
            (&[0x88, 0xFF, 0xFF, 1], true), // a long one
            (&[0x88, 0xFF], false),
            (&[0xA8, 0x01, 0x10, 1], true), // layer indices: spatial layer 0
            (&[0xA8, 0x01, 0x12, 1], false), // spatial layer 1
            (&[0x28], false),
        ];
        for (payload, expected) in cases {
            assert_eq!(starts_keyframe(payload), *expected, "{payload:02x?}");
        }
    }
}
