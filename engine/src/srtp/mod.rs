//! SRTP and SRTCP: keys, packet indices and the three transforms we negotiate. Source: RFC 3711, RFC 7714.

mod aes_cm;
mod aes_gcm;
pub mod context;
mod kdf;

pub use context::{InboundSrtp, Opened, OutboundSrtp, PacketIndex};

use crate::drop_reason::DropReason;

/// An SRTP protection profile. Source: RFC 5764 §4.1.2, RFC 7714 §14.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// AEAD_AES_128_GCM (0x0007)
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM (0x0008)
    AeadAes256Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80 (0x0001)
    Aes128CmHmacSha1_80,
}

impl Profile {
    /// All profiles, in the order in which we prefer them as a DTLS server.
    pub const ALL: &'static [Profile] =
        &[Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmHmacSha1_80];

    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes that protection adds to an RTP packet: the tag.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => aes_gcm::TAG_LEN,
            Self::Aes128CmHmacSha1_80 => aes_cm::TAG_LEN,
        }
    }

    /// Bytes that protection adds to a compound RTCP packet: the tag, and the word with the E flag and the index.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + context::RTCP_WORD_LEN
    }

    /// The number in the DTLS `use_srtp` extension. Source: RFC 5764 §4.1.2, RFC 7714 §14.2.
    pub const fn dtls_id(self) -> u16 {
        match self {
            Self::Aes128CmHmacSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile of a number in the DTLS `use_srtp` extension, if it is one of ours.
    pub fn from_dtls_id(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|profile| profile.dtls_id() == id)
    }

    /// The registered name without the `SRTP_` prefix, for people and for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::Aes128CmHmacSha1_80 => "AES128_CM_HMAC_SHA1_80",
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Longest master key of any profile, bytes.
const KEY_LEN_MAX: usize = 32;
/// Longest master salt of any profile, bytes.
const SALT_LEN_MAX: usize = 14;

/// Master key and master salt of one direction. `Debug` shows neither. Source: RFC 3711 §3.2.1.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; KEY_LEN_MAX],
    salt: [u8; SALT_LEN_MAX],
}

impl MasterKey {
    /// Takes a master key and a master salt; `None` unless both have the lengths that `profile` wants.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return None;
        }
        let mut master = Self { profile, key: [0; KEY_LEN_MAX], salt: [0; SALT_LEN_MAX] };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        Some(master)
    }

    fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_len()]
    }

    /// The salt as key derivation wants it: 14 bytes, a salt of 12 padded with zeros at its end.
    ///
    /// Source: RFC 7714 §11 with erratum 4938.
    fn padded_salt(&self) -> &[u8; SALT_LEN_MAX] {
        &self.salt
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// What the handshake leaves for media: one profile, one master key a direction.
#[derive(Clone, Debug)]
pub struct KeyingMaterial {
    /// The negotiated profile.
    pub profile: Profile,
    /// Protects what we send.
    pub local: MasterKey,
    /// Protects what the peer sends.
    pub remote: MasterKey,
}

/// Why a protected packet was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrtpError {
    /// Shorter than header, tag and index take.
    Short,
    /// The authentication tag is wrong.
    BadTag,
    /// The index was seen before, or is older than the replay window.
    Replayed,
    /// The index lies beyond what one key may protect (2^48 RTP packets). Source: RFC 3711 §9.2.
    Exhausted,
}

impl SrtpError {
    /// What the datagram counts as; `short` is what a too short one counts as, which only RTP and RTCP can tell.
    pub fn drop_reason(self, short: DropReason) -> DropReason {
        match self {
            Self::Short => short,
            Self::BadTag => DropReason::BadTag,
            Self::Replayed => DropReason::Replayed,
            Self::Exhausted => DropReason::SessionClosed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtls_ids_round_trip_and_others_are_refused() {
        for &profile in Profile::ALL {
            assert_eq!(Profile::from_dtls_id(profile.dtls_id()), Some(profile));
        }
        // SRTP_AES128_CM_HMAC_SHA1_32 and the NULL profiles.
        for id in [0x0000, 0x0002, 0x0005, 0x0006, 0x0009, 0xffff] {
            assert_eq!(Profile::from_dtls_id(id), None);
        }
    }

    #[test]
    fn master_key_of_a_wrong_length_is_refused() {
        for &profile in Profile::ALL {
            for key_len in 0..=40 {
                for salt_len in 0..=20 {
                    let right = key_len == profile.key_len() && salt_len == profile.salt_len();
                    let made = MasterKey::new(profile, &vec![1; key_len], &vec![2; salt_len]);
                    assert_eq!(made.is_some(), right);
                }
            }
        }
    }

    #[test]
    fn debug_output_holds_no_key_bytes() {
        let profile = Profile::AeadAes128Gcm;
        let key = MasterKey::new(profile, &[0xab; 16], &[0xcd; 12]).unwrap();
        let text = format!("{:?}", KeyingMaterial { profile, local: key.clone(), remote: key });
        assert!(!text.contains("171") && !text.contains("205") && !text.contains("ab"), "{text}");
    }
}
