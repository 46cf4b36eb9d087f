//! Session keys from master keys. Source: RFC 3711 §4.3, RFC 7714 §11.

use super::MasterKey;
use super::aes_cm::{self, AesCm, AesCtr};
use super::aes_gcm::{self, AesGcm};

/// Which of the two protocols a session key serves.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Rtp,
    Rtcp,
}

impl Purpose {
    /// The labels of encryption key, authentication key and salt. Source: RFC 3711 §4.3.2.
    const fn labels(self) -> [u8; 3] {
        match self {
            Self::Rtp => [0x00, 0x01, 0x02],
            Self::Rtcp => [0x03, 0x04, 0x05],
        }
    }
}

/// Derives the keys of the counter-mode profile.
pub(super) fn aes_cm(master: &MasterKey, purpose: Purpose) -> AesCm {
    let [encryption, authentication, salting] = purpose.labels();
    let prf = AesCtr::new(master.key());
    let mut key = [0; 16];
    derive(&prf, master, encryption, &mut key);
    let mut auth_key = [0; aes_cm::AUTH_KEY_LEN];
    derive(&prf, master, authentication, &mut auth_key);
    let mut salt = [0; aes_cm::SALT_LEN];
    derive(&prf, master, salting, &mut salt);
    AesCm::new(&key, salt, &auth_key)
}

/// Derives the keys of a GCM profile: as above, with a key as long as the master key and no authentication key.
pub(super) fn aes_gcm(master: &MasterKey, purpose: Purpose) -> AesGcm {
    let [encryption, _, salting] = purpose.labels();
    let prf = AesCtr::new(master.key());
    let mut key = [0; super::KEY_LEN_MAX];
    let key = &mut key[..master.profile.key_len()];
    derive(&prf, master, encryption, key);
    let mut salt = [0; aes_gcm::SALT_LEN];
    derive(&prf, master, salting, &mut salt);
    AesGcm::new(key, salt)
}

/// Fills `out` with the keystream that belongs to `label`.
///
/// The key derivation rate is zero, as DTLS-SRTP has it: `x` is the master salt with the label added to its eighth byte
/// from the left, and the counter starts at `x · 2^16`. Source: RFC 3711 §4.3.1, §4.3.3, RFC 5764 §4.1.2.
fn derive(prf: &AesCtr, master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..super::SALT_LEN_MAX].copy_from_slice(master.padded_salt());
    iv[7] ^= label;
    out.fill(0);
    prf.apply(iv, out);
}

/// Bytes from hexadecimal text with white space.
#[cfg(test)]
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    pairs.iter().map(|p| u8::from_str_radix(str::from_utf8(p).unwrap(), 16).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::Profile;

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_are_those_of_rfc_3711_b3() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::new(Profile::Aes128CmHmacSha1_80, &key, &salt).unwrap();
        let prf = AesCtr::new(&key);
        let expected = [
            (0x00, "C61E7A93744F39EE10734AFE3FF7A087"),
            (0x02, "30CBBC08863D8C85D49DB34A9AE1"),
            (0x01, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
        ];
        for (label, bytes) in expected {
            let bytes = hex(bytes);
            let mut derived = vec![0; bytes.len()];
            derive(&prf, &master, label, &mut derived);
            assert_eq!(derived, bytes, "label {label}");
        }
    }

    #[test]
    fn every_label_gives_another_key() {
        for &profile in Profile::ALL {
            let (key, salt) = (vec![3; profile.key_len()], vec![5; profile.salt_len()]);
            let master = MasterKey::new(profile, &key, &salt).unwrap();
            let prf = AesCtr::new(&key);
            let mut derived: Vec<[u8; 16]> = Vec::new();
            for label in [Purpose::Rtp.labels(), Purpose::Rtcp.labels()].concat() {
                let mut bytes = [0; 16];
                derive(&prf, &master, label, &mut bytes);
                assert!(!derived.contains(&bytes), "label {label} of {profile}");
                derived.push(bytes);
            }
        }
    }
}
