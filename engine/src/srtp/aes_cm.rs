//! AES in counter mode and the HMAC-SHA1 tag. Source: RFC 3711 §4.1.1, §4.2.1.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Bytes of the tag: HMAC-SHA1 cut to 80 bits.
pub(super) const TAG_LEN: usize = 10;
/// Bytes of the session salt.
pub(super) const SALT_LEN: usize = 14;
/// Bytes of the session authentication key.
pub(super) const AUTH_KEY_LEN: usize = 20;

/// AES-CTR with the key schedule kept: no expansion per packet.
pub(super) struct AesCtr(EncryptingKey);

impl AesCtr {
    /// Takes an AES key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr);
        Self(key.expect("AES keys are cut to 16 or 32 bytes"))
    }

    /// Adds the keystream that starts at counter block `iv` to `data`; the same call encrypts and decrypts.
    pub(super) fn apply(&self, iv: [u8; 16], data: &mut [u8]) {
        // An empty payload needs no keystream.
        if data.is_empty() {
            return;
        }
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        let done = self.0.less_safe_encrypt(data, context);
        assert!(done.is_ok(), "counter mode takes data of any length");
    }
}

/// The session keys of one direction for RTP, or for RTCP.
pub(super) struct AesCm {
    ctr: AesCtr,
    salt: [u8; SALT_LEN],
    /// HMAC with its key absorbed, cloned for every packet.
    hmac: Hmac<Sha1>,
}

impl AesCm {
    pub(super) fn new(key: &[u8], salt: [u8; SALT_LEN], auth_key: &[u8; AUTH_KEY_LEN]) -> Self {
        let hmac = Hmac::<Sha1>::new_from_slice(auth_key).expect("HMAC takes keys of any length");
        Self { ctr: AesCtr::new(key), salt, hmac }
    }

    /// Encrypts or decrypts `data` of the packet `index` (48 bits for RTP, 31 for RTCP).
    ///
    /// The counter block is (salt · 2^16) XOR (SSRC · 2^64) XOR (index · 2^16). Source: RFC 3711 §4.1.1.
    pub(super) fn apply(&self, ssrc: [u8; 4], index: u64, data: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..SALT_LEN].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc);
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        self.ctr.apply(iv, data);
    }

    /// The tag over `bytes` and then `trailer`: the roll-over counter for RTP, nothing for RTCP.
    pub(super) fn tag(&self, bytes: &[u8], trailer: &[u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&self.absorb(bytes, trailer).finalize().into_bytes()[..TAG_LEN]);
        tag
    }

    /// Whether `tag` belongs to `bytes` and `trailer`; takes the same time for any wrong tag.
    pub(super) fn verify(&self, bytes: &[u8], trailer: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.absorb(bytes, trailer).verify_truncated_left(tag).is_ok()
    }

    fn absorb(&self, bytes: &[u8], trailer: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.hmac.clone();
        mac.update(bytes);
        mac.update(trailer);
        mac
    }
}

/// Adds `from` to the start of `to`.
fn xor(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::kdf::hex;

    /// RFC 3711 appendix B.2: the keystream segment, its first and its last three blocks.
    #[test]
    fn keystream_is_that_of_rfc_3711_b2() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let cm = AesCm::new(&key, salt, &[0; AUTH_KEY_LEN]);
        let mut stream = vec![0; 1_044_512];
        cm.apply([0; 4], 0, &mut stream);
        let first = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
                     41E95B3BB0A2E8DD477901E4FCA894C0";
        let last = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE
                    6A2CC3787889374FBEB4C81B17BA6C44";
        assert_eq!(stream[..48], hex(first));
        assert_eq!(stream[stream.len() - 48..], hex(last));
    }

    #[test]
    fn ssrc_and_index_enter_the_counter_block_where_the_rfc_puts_them() {
        let (key, salt) = ([7; 16], [9; SALT_LEN]);
        let cm = AesCm::new(&key, salt, &[0; AUTH_KEY_LEN]);
        let (mut data, mut expected) = ([0; 40], [0; 40]);
        cm.apply([1, 2, 3, 4], 0x0a0b_0c0d_0e0f, &mut data);
        let iv = u128::from_be_bytes([9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0])
            ^ 0x0102_0304_u128 << 64
            ^ 0x0a0b_0c0d_0e0f_u128 << 16;
        AesCtr::new(&key).apply(iv.to_be_bytes(), &mut expected);
        assert_eq!(data, expected);
    }

    /// RFC 2202 §3, test case 1, cut to 80 bits; the message is split as a packet and its trailer are.
    #[test]
    fn tag_is_hmac_sha1_cut_to_eighty_bits() {
        let cm = AesCm::new(&[0; 16], [0; SALT_LEN], &[0x0b; AUTH_KEY_LEN]);
        assert_eq!(cm.tag(b"Hi T", b"here")[..], hex("b617318655057264e28b"));
        assert!(cm.verify(b"Hi T", b"here", &cm.tag(b"Hi There", b"")));
        for bit in 0..80 {
            let mut tag = cm.tag(b"Hi There", b"");
            tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!cm.verify(b"Hi There", b"", &tag));
        }
    }
}
