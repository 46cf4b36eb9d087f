//! User name fragments and passwords: making them, checking them, finding the shard in them. Source: RFC 8445 §5.3.

use super::Credentials;
use crate::ids::ShardId;

/// The sixty-four ice-chars; six random bits make one. Source: RFC 8839 §5.4.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The digits of the shard's number: two of them, five bits each.
const SHARD_CHARS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Random characters of a ufrag: 48 bits, where RFC 8445 §5.3 wants 24.
const UFRAG_RANDOM_LEN: usize = 8;
/// Characters of a password: 144 bits, where RFC 8445 §5.3 wants 128.
const PWD_LEN: usize = 24;

impl Credentials {
    /// Makes credentials whose ufrag names `shard`. `random` fills a slice with bytes that nobody can guess.
    ///
    /// # Panics
    /// When the shard is not below [`ShardId::MAX_SHARDS`].
    pub fn generate(shard: ShardId, random: &mut dyn FnMut(&mut [u8])) -> Self {
        assert!(shard.0 < ShardId::MAX_SHARDS, "a shard fits into two digits");
        let mut bytes = [0; UFRAG_RANDOM_LEN + PWD_LEN];
        random(&mut bytes);
        let mut chars = bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 0x3f)]));
        let digit = |number: u16| char::from(SHARD_CHARS[usize::from(number & 0x1f)]);
        let mut ufrag = String::from_iter([digit(shard.0 >> 5), digit(shard.0)]);
        ufrag.extend(chars.by_ref().take(UFRAG_RANDOM_LEN));
        Self { ufrag, pwd: chars.collect() }
    }

    /// Takes credentials from a description; `None` unless they are 4 to 256 and 22 to 256 ice-chars. Source: RFC 8839 §5.4.
    pub fn new(ufrag: &str, pwd: &str) -> Option<Self> {
        let right = |text: &str, least: usize| {
            (least..=256).contains(&text.len()) && text.bytes().all(|b| ICE_CHARS.contains(&b))
        };
        (right(ufrag, 4) && right(pwd, 22))
            .then(|| Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
    }
}

/// The shard that a ufrag of ours names; `None` when it cannot be one of ours.
pub fn shard_of_ufrag(ufrag: &[u8]) -> Option<ShardId> {
    let digit = |byte: u8| SHARD_CHARS.iter().position(|&c| c == byte).map(|at| at as u16);
    let (&[high, low], random) = ufrag.split_first_chunk::<2>()?;
    if random.len() != UFRAG_RANDOM_LEN {
        return None;
    }
    Some(ShardId(digit(high)? << 5 | digit(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_found_in_its_ufrags() {
        let mut random = fastrand::Rng::with_seed(0x5eed_0020);
        for shard in 0..ShardId::MAX_SHARDS {
            let made = Credentials::generate(ShardId(shard), &mut |bytes| random.fill(bytes));
            assert_eq!(shard_of_ufrag(made.ufrag.as_bytes()), Some(ShardId(shard)));
            assert_eq!(Credentials::new(&made.ufrag, &made.pwd), Some(made));
        }
    }

    #[test]
    fn random_bytes_reach_every_character() {
        let made = |byte| Credentials::generate(ShardId(0), &mut |bytes| bytes.fill(byte));
        assert_eq!(made(0).ufrag, "aaAAAAAAAA");
        assert_eq!(made(0xff).ufrag, "aa////////");
        assert_eq!(made(1).pwd, "B".repeat(24));
    }

    #[test]
    fn ufrags_of_others_name_no_shard() {
        for ufrag in ["", "a", "aa", "aaAAAAAAA", "aaAAAAAAAAA", "AaAAAAAAAA", "a1AAAAAAAA"] {
            assert_eq!(shard_of_ufrag(ufrag.as_bytes()), None, "{ufrag}");
        }
        assert_eq!(shard_of_ufrag(&[0xff; 10]), None);
    }

    #[test]
    fn lengths_and_characters_are_those_of_rfc_8839() {
        let of = |ufrag: usize, pwd: usize| {
            Credentials::new(&"a".repeat(ufrag), &"b".repeat(pwd)).is_some()
        };
        assert!(of(4, 22) && of(256, 256));
        assert!(!of(3, 22) && !of(4, 21) && !of(257, 22) && !of(4, 257));
        for bad in ["abc:", "abc ", "abc\n", "abc-", "abcé", "abc\0"] {
            assert_eq!(Credentials::new(bad, &"b".repeat(22)), None, "{bad:?}");
        }
        assert!(Credentials::new("+/09", "AZaz+/0123456789abcdef").is_some());
    }
}
