//! Messages on the data channel of rtcd's clients: a MessagePack number, and for some of them a value.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rmpv::Value;

const PING: u8 = 1;
const SDP: u64 = 3;
const LOCK: u8 = 7;
const UNLOCK: u8 = 8;

/// The longest description that is inflated: as much as servers of this API take themselves.
const DESCRIPTION_BYTES_MAX: u64 = 512 << 10;
/// Values within values that a message may have.
const DEPTH_MAX: usize = 16;

/// What the server says over the channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromServer {
    /// A description, JSON.
    Sdp(Vec<u8>),
    /// Whether the lock is ours.
    Lock(bool),
    /// Pongs, media maps, and kinds that later versions may have.
    Other,
}

/// Asks for a pong.
pub fn ping() -> Vec<u8> {
    vec![PING]
}

/// Asks for the lock.
pub fn lock() -> Vec<u8> {
    vec![LOCK]
}

/// Gives the lock back.
pub fn unlock() -> Vec<u8> {
    vec![UNLOCK]
}

/// A description, JSON, compressed.
pub fn sdp(json: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(json).and_then(|()| encoder.finish());
    let compressed = compressed.expect("a Vec takes every byte");
    let mut message = Vec::new();
    for value in [Value::from(SDP), Value::from(compressed)] {
        rmpv::encode::write_value(&mut message, &value).expect("a Vec takes every byte");
    }
    message
}

/// Takes a message of the server apart; `None` when it is malformed, or inflates beyond 512 KiB.
pub fn decode(mut message: &[u8]) -> Option<FromServer> {
    let mut next = || rmpv::decode::read_value_with_max_depth(&mut message, DEPTH_MAX).ok();
    let number = next()?.as_u64()?;
    if number == u64::from(LOCK) {
        return Some(FromServer::Lock(next()?.as_bool()?));
    }
    if number != SDP {
        return Some(FromServer::Other);
    }
    let value = next()?;
    let mut json = Vec::new();
    let mut decoder = ZlibDecoder::new(value.as_slice()?).take(DESCRIPTION_BYTES_MAX + 1);
    decoder.read_to_end(&mut json).ok()?;
    (json.len() as u64 <= DESCRIPTION_BYTES_MAX).then_some(FromServer::Sdp(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_and_of_two_bytes_are_the_same() {
        for granted in [&[0x07, 0xc3][..], &[0xcc, 0x07, 0xc3]] {
            assert_eq!(decode(granted), Some(FromServer::Lock(true)));
        }
        assert_eq!(decode(&[0xcc, 0x07, 0xc2]), Some(FromServer::Lock(false)));
        assert_eq!(decode(&[0xcc, 0x02]), Some(FromServer::Other), "a pong");
        let map = "\u{1}1";
        assert_eq!(
            decode(&[&[0xcc, 9, 0x81][..], map.as_bytes()].concat()),
            Some(FromServer::Other)
        );
    }

    #[test]
    fn descriptions_are_compressed() {
        let json = br#"{"type":"answer","sdp":"v=0"}"#;
        assert_eq!(decode(&sdp(json)), Some(FromServer::Sdp(json.to_vec())));
        let mut two_bytes = sdp(json);
        two_bytes.splice(..1, [0xcc, 3]);
        assert_eq!(decode(&two_bytes), Some(FromServer::Sdp(json.to_vec())));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(b"\xcc"), None);
        assert_eq!(decode(&[0x07]), None, "a lock without its answer");
        assert_eq!(decode(&[0x03, 0xc4, 2, 1, 2]), None, "not compressed");
        let endless = sdp(&vec![b' '; DESCRIPTION_BYTES_MAX as usize + 1]);
        assert_eq!(decode(&endless), None);
    }
}
