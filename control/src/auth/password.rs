//! Keys of clients, hashed with Argon2id. Source: RFC 9106.
//!
//! rtcd uses bcrypt, which looks at 72 bytes only. Its hashes need not be read: clients register
//! again.

use std::sync::OnceLock;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{self, CustomizedPasswordHasher};
use argon2::{Algorithm, Argon2, Block, Params, PasswordVerifier as _, Version};

use crate::service::fill_random;

/// The shortest key, bytes, as in rtcd.
pub const KEY_BYTES_MIN: usize = 32;

/// The longest key, bytes. The plugin's have 32; this bounds what a stranger makes us hash.
pub const KEY_BYTES_MAX: usize = 1024;

/// Salt, bytes. Source: RFC 9106 §3.1 recommends 16.
const SALT_BYTES: usize = 16;

/// Bytes from which the C library maps memory of its own for a block and gives it back to the system
/// when it is freed, whatever came before. Smaller ones it learns to keep: 19 MiB for good.
const MAPPED_BYTES: usize = 33 << 20;

/// Hashes and compares; some 20 ms and 19 MiB each time.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    nobody: OnceLock<String>,
}

impl Passwords {
    /// The hash of `key` with a random salt, with its parameters, in the PHC string format.
    ///
    /// # Errors
    /// The library's, in words; none is known for keys of at most [`KEY_BYTES_MAX`].
    pub(super) fn hash(&self, key: &str) -> Result<String, String> {
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt);
        // The library's defaults, 19 MiB and two passes, are what OWASP asks for at least. Keys are
        // random and at least 32 bytes long, so more would only help a flooder.
        let params = Params::DEFAULT;
        let hash = Hasher.hash_password_customized(key.as_bytes(), &salt, None, None, params);
        hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
    }

    /// Whether `hash` is that of `key`. Without a hash, for a client that does not exist, it takes
    /// as long, so that time does not tell which ids exist.
    pub(super) fn verify(&self, key: &str, hash: Option<&str>) -> bool {
        let nobody = || self.nobody.get_or_init(|| self.hash("nobody").unwrap_or_default());
        let Ok(parsed) = PasswordHash::new(hash.unwrap_or_else(|| nobody())) else { return false };
        let matches = Hasher.verify_password(key.as_bytes(), &parsed).is_ok();
        matches && hash.is_some()
    }
}

/// The library's hasher, in memory that goes back to the system.
struct Hasher;

impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> password_hash::Result<PasswordHash> {
        let algorithm = algorithm.map_or(Ok(Algorithm::Argon2id), Algorithm::try_from)?;
        let version = version.map_or(Ok(Version::V0x13), Version::try_from)?;
        // What is not written to takes no memory.
        let mut blocks = Vec::with_capacity(params.block_count().max(MAPPED_BYTES / Block::SIZE));
        blocks.resize(params.block_count(), Block::new());
        let mut bytes = [0; Output::MAX_LENGTH];
        let len = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let out = bytes.get_mut(..len).ok_or(password_hash::Error::OutputSize)?;
        let argon2 = Argon2::new(algorithm, version, params);
        argon2.hash_password_into_with_memory(password, salt, out, blocks)?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(argon2.params())?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(out)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_matches() {
        let passwords = Passwords::default();
        let key = "k".repeat(KEY_BYTES_MAX);
        let hash = passwords.hash(&key).expect("it hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(&key, Some(&hash)));
        assert!(!passwords.verify(&key[1..], Some(&hash)), "no byte is left out");
        assert!(!passwords.verify("", Some(&hash)));
        assert_ne!(passwords.hash(&key).expect("it hashes"), hash, "salts are random");
    }

    #[test]
    fn nobody_matches_where_there_is_no_hash() {
        let passwords = Passwords::default();
        assert!(!passwords.verify("nobody", None));
        assert!(!passwords.verify("", Some("")));
        assert!(!passwords.verify("x", Some("$argon2id$broken")));
    }
}
