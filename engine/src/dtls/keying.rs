//! The exporter's output, cut into keys and salts. Source: RFC 5764 §4.2.

use crate::dtls::DtlsRole;
use crate::srtp::{KeyingMaterial, MasterKey, Profile};

/// Cuts the output of the exporter `EXTRACTOR-dtls_srtp`: client key, server key, client salt, server salt.
///
/// `None` unless it has exactly the bytes that `profile` wants. `role` is ours.
pub(super) fn cut(profile: Profile, role: DtlsRole, exported: &[u8]) -> Option<KeyingMaterial> {
    let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
    let (client_key, rest) = exported.split_at_checked(key_len)?;
    let (server_key, rest) = rest.split_at_checked(key_len)?;
    let (client_salt, server_salt) = rest.split_at_checked(salt_len)?;
    let client = MasterKey::new(profile, client_key, client_salt)?;
    let server = MasterKey::new(profile, server_key, server_salt)?;
    Some(match role {
        DtlsRole::Active => KeyingMaterial { profile, local: client, remote: server },
        DtlsRole::Passive => KeyingMaterial { profile, local: server, remote: client },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ExtSeqNum;
    use crate::srtp::{InboundSrtp, OutboundSrtp, PacketIndex};

    /// Whether what one key seals the other opens.
    fn same(profile: Profile, one: &MasterKey, other: &MasterKey) -> bool {
        let mut packet = [0x80; 80];
        packet[2..4].fill(0);
        let mut out = OutboundSrtp::new(profile, one);
        let len = out.seal_rtp(ExtSeqNum(0), &mut packet, 12, 40).unwrap();
        let mut inbound = InboundSrtp::new(profile, other);
        inbound.open_rtp(&mut PacketIndex::new(), &mut packet[..len], 12).is_ok()
    }

    #[test]
    fn bytes_are_taken_in_the_order_of_the_rfc() {
        for &profile in Profile::ALL {
            let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
            let exported: Vec<u8> = (0..(key_len + salt_len) as u8 * 2).collect();
            let key = |key_at: usize, salt_at: usize| {
                let (key, salt) =
                    (&exported[key_at..][..key_len], &exported[salt_at..][..salt_len]);
                MasterKey::new(profile, key, salt).unwrap()
            };
            let client = key(0, 2 * key_len);
            let server = key(key_len, 2 * key_len + salt_len);
            let passive = cut(profile, DtlsRole::Passive, &exported).unwrap();
            assert!(same(profile, &passive.local, &server));
            assert!(same(profile, &passive.remote, &client));
            assert!(!same(profile, &passive.local, &client));
            let active = cut(profile, DtlsRole::Active, &exported).unwrap();
            assert!(same(profile, &active.local, &client));
            assert!(same(profile, &active.remote, &server));
        }
    }

    #[test]
    fn output_of_a_wrong_length_is_refused() {
        for &profile in Profile::ALL {
            for len in 0..130 {
                let right = len == 2 * (profile.key_len() + profile.salt_len());
                assert_eq!(cut(profile, DtlsRole::Active, &vec![0; len]).is_some(), right);
            }
        }
    }
}
