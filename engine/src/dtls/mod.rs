//! The DTLS handshake over datagrams, and what it leaves: keys and a verified peer.

pub mod endpoint;
pub mod identity;
mod keying;

pub use endpoint::{DtlsEndpoint, Output};
pub use identity::{DtlsError, Identity};

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// Hash of a certificate as `a=fingerprint` carries it. Source: RFC 8122 §5.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// Which hash.
    pub hash: HashFunction,
    /// The hash; 32, 48 or 64 bytes.
    pub value: Vec<u8>,
}

/// Hash functions we accept for fingerprints; weaker ones are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashFunction {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

impl HashFunction {
    /// The name in `a=fingerprint`. Source: RFC 8122 §5.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Bytes of the hash.
    pub const fn value_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    fn digest(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }
}

impl Fingerprint {
    /// Hashes a certificate in DER form.
    pub fn of_certificate(hash: HashFunction, der: &[u8]) -> Self {
        Self { hash, value: hash.digest(der).as_ref().to_vec() }
    }

    /// Whether this is the hash of the certificate.
    pub fn matches(&self, der: &[u8]) -> bool {
        self.hash.digest(der).as_ref() == self.value
    }
}

/// Who speaks first in the handshake. Source: RFC 8842 §5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// We are the DTLS server (`a=setup:passive`): preferred, because the server picks the SRTP profile.
    Passive,
    /// We are the DTLS client (`a=setup:active`).
    Active,
}

/// Why the text of a fingerprint was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FingerprintError {
    /// A hash function that is unknown, or too weak to accept (`sha-1`, `md5`).
    UnsupportedHash,
    /// Not pairs of hexadecimal digits with colons between them, as many as the hash has bytes.
    Malformed,
}

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsupportedHash => "the fingerprint's hash is none of sha-256, sha-384, sha-512",
            Self::Malformed => "the fingerprint is not the colon-separated hash it claims to be",
        })
    }
}

impl std::error::Error for FingerprintError {}

/// Reads `sha-256 AB:CD:…`, the value of `a=fingerprint`. Digits of either case are taken, nothing else is added or left out.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (name, value) = text.split_once(' ').ok_or(FingerprintError::Malformed)?;
        let hash = HashFunction::from_name(name).ok_or(FingerprintError::UnsupportedHash)?;
        if value.len() != hash.value_len() * 3 - 1 {
            return Err(FingerprintError::Malformed);
        }
        let pair = |pair: &str| {
            let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = if digits { u8::from_str_radix(pair, 16).ok() } else { None };
            byte.ok_or(FingerprintError::Malformed)
        };
        let value = value.split(':').map(pair).collect::<Result<Vec<u8>, _>>()?;
        if value.len() != hash.value_len() {
            return Err(FingerprintError::Malformed);
        }
        Ok(Self { hash, value })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (at, byte) in self.value.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_survives_text() {
        for hash in [HashFunction::Sha256, HashFunction::Sha384, HashFunction::Sha512] {
            let fingerprint = Fingerprint::of_certificate(hash, b"not really a certificate");
            let text = fingerprint.to_string();
            assert_eq!(text.parse(), Ok(fingerprint.clone()));
            assert_eq!(text.to_lowercase().parse(), Ok(fingerprint));
        }
    }

    #[test]
    fn fingerprint_matches_its_certificate_alone() {
        let fingerprint = Fingerprint::of_certificate(HashFunction::Sha256, b"one");
        assert!(fingerprint.matches(b"one"));
        assert!(!fingerprint.matches(b"two"));
        // FIPS 180-2 appendix B.1.
        let abc = Fingerprint::of_certificate(HashFunction::Sha256, b"abc").to_string();
        assert!(
            abc.starts_with("sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23"),
            "{abc}"
        );
    }

    #[test]
    fn malformed_and_weak_fingerprints_are_refused() {
        let good = Fingerprint::of_certificate(HashFunction::Sha256, b"x").to_string();
        let hash = good.split_once(' ').unwrap().1;
        assert_eq!("sha-1 AB:CD".parse::<Fingerprint>(), Err(FingerprintError::UnsupportedHash));
        let weak = format!("md5 {hash}");
        assert_eq!(weak.parse::<Fingerprint>(), Err(FingerprintError::UnsupportedHash));
        for bad in [
            String::new(),
            "sha-256".to_owned(),
            "sha-256 ".to_owned(),
            format!("sha-384 {hash}"),
            format!("sha-256 {hash}:00"),
            format!("sha-256 {hash}:"),
            format!("sha-256 {hash} "),
            format!("sha-256  {hash}"),
            format!("sha-256 {}", hash.replace(':', "-")),
            format!("sha-256 {}", &hash[..hash.len() - 3]),
            format!("sha-256 +{}", &hash[1..]),
            format!("sha-256 {}", hash.replacen(|c: char| c.is_ascii_hexdigit(), "é", 1)),
            format!("sha-256 {}", "A:".repeat(47)),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError::Malformed), "{bad}");
        }
    }
}
