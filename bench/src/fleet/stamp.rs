//! What the payload of every packet says: who sent it and when, with a checksum.

use sluice_engine::clock::NtpTime;

/// What a verified packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The stream, by the numbers of [`super::seats`].
    pub stream: u32,
    /// Packets that the stream had sent before.
    pub counter: u64,
    /// When it was sent, by the controller's wall clock.
    pub sent_at: NtpTime,
}

/// Bytes before the stamp: what a server may look at or rewrite.
const HEAD_BYTES: usize = 2;
const STAMP_BYTES: usize = 24;

/// The least payload: head, stamp, and something to check.
pub const PAYLOAD_BYTES_MIN: usize = 48;

/// What the first bytes of a payload say to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// Opus: one frame of 20 ms. Source: RFC 6716 §3.1.
    Opus,
    /// VP8: S begins a frame; the lowest bit of the frame says that it is no key frame. Source: RFC 7741 §4.2, RFC 6386 §9.1.
    Vp8 { starts_frame: bool, is_keyframe: bool },
}

/// Fills a payload of at least [`PAYLOAD_BYTES_MIN`] bytes.
pub fn write(payload: &mut [u8], head: Head, stamp: Stamp) {
    (payload[0], payload[1]) = match head {
        Head::Opus => (0xF8, 0),
        Head::Vp8 { starts_frame, is_keyframe } => {
            (u8::from(starts_frame) << 4, u8::from(!is_keyframe))
        }
    };
    let (body, check) = payload[HEAD_BYTES..].split_at_mut(STAMP_BYTES - 4);
    body[..4].copy_from_slice(&stamp.stream.to_be_bytes());
    body[4..12].copy_from_slice(&stamp.counter.to_be_bytes());
    body[12..20].copy_from_slice(&stamp.sent_at.0.to_be_bytes());
    let (check, filler) = check.split_at_mut(4);
    for (at, byte) in filler.iter_mut().enumerate() {
        *byte = (stamp.counter as u8).wrapping_add(at as u8);
    }
    check.copy_from_slice(&checksum(body, filler).to_be_bytes());
}

/// Reads the stamp of a decrypted payload; `None` when anything behind the head was changed on the way.
pub fn read(payload: &[u8]) -> Option<Stamp> {
    let (body, rest) = payload.get(HEAD_BYTES..)?.split_at_checked(STAMP_BYTES - 4)?;
    let (check, filler) = rest.split_at_checked(4)?;
    if checksum(body, filler).to_be_bytes() != check {
        return None;
    }
    Some(Stamp {
        stream: u32::from_be_bytes(body[..4].try_into().ok()?),
        counter: u64::from_be_bytes(body[4..12].try_into().ok()?),
        sent_at: NtpTime(u64::from_be_bytes(body[12..20].try_into().ok()?)),
    })
}

/// Whether a decrypted VP8 payload begins a key frame.
pub fn begins_keyframe(payload: &[u8]) -> bool {
    matches!(payload, [0x10, second, ..] if second & 1 == 0)
}

fn checksum(body: &[u8], filler: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(filler);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_and_a_changed_byte_is_seen() {
        let stamp = Stamp { stream: 7, counter: 300, sent_at: NtpTime(0xE000_0000_1234_5678) };
        for (head, key) in [
            (Head::Opus, false),
            (Head::Vp8 { starts_frame: true, is_keyframe: true }, true),
            (Head::Vp8 { starts_frame: true, is_keyframe: false }, false),
            (Head::Vp8 { starts_frame: false, is_keyframe: true }, false),
        ] {
            let mut payload = [0; PAYLOAD_BYTES_MIN];
            write(&mut payload, head, stamp);
            assert_eq!(read(&payload), Some(stamp));
            assert_eq!(begins_keyframe(&payload), key, "{head:?}");
            for at in HEAD_BYTES..payload.len() {
                let mut changed = payload;
                changed[at] ^= 1;
                assert_eq!(read(&changed), None, "byte {at}");
            }
        }
        assert_eq!(read(&[0; 20]), None);
    }
}
