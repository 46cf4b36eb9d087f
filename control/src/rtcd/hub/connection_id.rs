//! The names of connections, in the form that rtcd gives them.

use std::fmt;
use std::sync::Arc;

use crate::service::fill_random;

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Which connection: 26 characters, z-base-32 of a random UUID (RFC 9562 §5.4).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId(Arc<str>);

impl ConnectionId {
    /// One that nobody has.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fill_random(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(z_base_32(&bytes).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Five bits a character, the first bits first; the last character is filled up with zeros.
fn z_base_32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let character = |at: usize| {
        let value = (at..at + 5).fold(0, |value, at| value << 1 | bit(at));
        char::from(ALPHABET[usize::from(value)])
    };
    (0..bytes.len() * 8).step_by(5).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encodings_own_examples_come_out() {
        for (bytes, text) in [
            (&[0xf0, 0xbf, 0xc7][..], "6n9hq"),
            (&[0xd4, 0x7a, 0x04], "4t7ye"),
            (&[0; 16], "yyyyyyyyyyyyyyyyyyyyyyyyyy"),
            (&[0xff; 16], "9999999999999999999999999h"),
            (&[], ""),
        ] {
            assert_eq!(z_base_32(bytes), text);
        }
    }

    #[test]
    fn ids_have_26_characters_and_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..100).map(|_| ConnectionId::random()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            assert_eq!(id.as_str().len(), 26);
            assert!(id.as_str().bytes().all(|b| ALPHABET.contains(&b)), "{id}");
        }
    }
}
