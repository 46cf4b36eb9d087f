//! AES-GCM for SRTP and SRTCP. Source: RFC 7714 §8, §9.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of the tag.
pub(super) const TAG_LEN: usize = 16;
/// Bytes of the session salt and of the IV.
pub(super) const SALT_LEN: usize = 12;

/// The session key of one direction for RTP, or for RTCP; the key schedule is kept.
pub(super) struct AesGcm {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl AesGcm {
    /// Takes an AES key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8], salt: [u8; SALT_LEN]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).expect("AES keys are cut to 16 or 32 bytes");
        Self { key: LessSafeKey::new(key), salt }
    }

    /// The IV of an RTP packet: (0 ‖ SSRC ‖ ROC ‖ SEQ) XOR salt, where ROC ‖ SEQ is the index. Source: RFC 7714 §8.1.
    pub(super) fn rtp_iv(&self, ssrc: [u8; 4], index: u64) -> [u8; SALT_LEN] {
        let mut iv = [0; SALT_LEN];
        iv[2..6].copy_from_slice(&ssrc);
        iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        self.salted(iv)
    }

    /// The IV of an RTCP packet: (0 ‖ SSRC ‖ 0 ‖ index) XOR salt, the index of 31 bits in four bytes. Source: RFC 7714 §9.1.
    pub(super) fn rtcp_iv(&self, ssrc: [u8; 4], index: u32) -> [u8; SALT_LEN] {
        let mut iv = [0; SALT_LEN];
        iv[2..6].copy_from_slice(&ssrc);
        iv[8..].copy_from_slice(&index.to_be_bytes());
        self.salted(iv)
    }

    fn salted(&self, mut iv: [u8; SALT_LEN]) -> [u8; SALT_LEN] {
        for (byte, salt) in iv.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        iv
    }

    /// Encrypts `data` in place and returns the tag over it and the associated data.
    pub(super) fn seal(
        &self,
        iv: [u8; SALT_LEN],
        associated: &[u8],
        data: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(associated), data).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `data`, whose last bytes are the tag, in place. When it returns false the bytes are undefined.
    #[must_use]
    pub(super) fn open(&self, iv: [u8; SALT_LEN], associated: &[u8], data: &mut [u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(iv);
        self.key.open_in_place(nonce, Aad::from(associated), data).is_ok()
    }
}
