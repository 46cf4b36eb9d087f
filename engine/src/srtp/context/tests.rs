use super::*;
use crate::srtp::kdf::hex;

fn master(profile: Profile, seed: u8) -> MasterKey {
    let key: Vec<u8> = (0..profile.key_len() as u8).map(|i| i ^ seed).collect();
    let salt: Vec<u8> = (0..profile.salt_len() as u8).map(|i| i.wrapping_mul(7) ^ seed).collect();
    MasterKey::new(profile, &key, &salt).unwrap()
}

fn pair(profile: Profile) -> (OutboundSrtp, InboundSrtp) {
    let key = master(profile, 0x5a);
    (OutboundSrtp::new(profile, &key), InboundSrtp::new(profile, &key))
}

fn plain_rtp(seq: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 1, 2, 3, 4, 0xca, 0xfe, 0xba, 0xbe];
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet.extend((0..payload).map(|i| i as u8));
    packet
}

fn sealed_rtp(out: &mut OutboundSrtp, index: u64) -> Vec<u8> {
    let mut packet = plain_rtp(index as u16, 50);
    packet.resize(62 + out.profile.rtp_overhead(), 0);
    let len = out.seal_rtp(ExtSeqNum(index), &mut packet, 12, 62).unwrap();
    assert_eq!(len, packet.len());
    packet
}

fn plain_rtcp(ssrc: u32, words: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, (words + 1) as u8];
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..words * 4).map(|i| i as u8 ^ 0x33));
    packet
}

fn sealed_rtcp(out: &mut OutboundSrtp, plain: &[u8]) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + out.profile.rtcp_overhead(), 0);
    let len = out.seal_rtcp(&mut packet, plain.len()).unwrap();
    assert_eq!(len, packet.len());
    packet
}

/// Contexts that use the vectors' session keys, which the RFC gives without derivation.
fn rfc_7714(profile: Profile) -> (OutboundSrtp, InboundSrtp) {
    let key: Vec<u8> = (0..profile.key_len() as u8).collect();
    let salt: [u8; 12] = *b"Quid pro quo";
    let keys = || Keys::Gcm(Pair { rtp: AesGcm::new(&key, salt), rtcp: AesGcm::new(&key, salt) });
    let out = OutboundSrtp { profile, keys: keys(), rtcp_index: 0x5d4 };
    (out, InboundSrtp { profile, keys: keys(), rtcp_sources: RtcpSources::new() })
}

/// RFC 7714 §16.1.1, §16.1.2, §16.2.1, §16.2.2.
#[test]
fn rtp_is_that_of_rfc_7714_section_16() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
                     69736120 696e2070 61727465 73207472 6573");
    let cases = [
        (
            Profile::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
             42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            Profile::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3
             b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ];
    for (profile, protected) in cases {
        let protected = hex(protected);
        let (mut out, mut inbound) = rfc_7714(profile);
        let mut packet = plain.clone();
        packet.resize(plain.len() + 16, 0);
        let len = out.seal_rtp(ExtSeqNum(0xf17b), &mut packet, 12, plain.len());
        assert_eq!(len, Some(protected.len()));
        assert_eq!(packet, protected, "{profile}");
        let opened = inbound.open_rtp(&mut PacketIndex::new(), &mut packet, 12).unwrap();
        assert_eq!(opened, Opened { index: ExtSeqNum(0xf17b), len: plain.len() });
        assert_eq!(packet[..opened.len], plain);
    }
}

/// RFC 7714 §17.1 to §17.4: encrypted, and tagged only. The packet is the one of the subsections; the section's preamble
/// prints another.
#[test]
fn rtcp_is_that_of_rfc_7714_section_17() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                     deadbeef deadbeef deadbeef deadbeef deadbeef");
    let cases = [
        (
            Profile::AeadAes128Gcm,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
             730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
            "841dd968 3dd78ec9 2ae58790 125f62b3 000005d4",
        ),
        (
            Profile::AeadAes256Gcm,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1
             110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
            "91db4afb feee5a97 8fab4393 ed2615fe 000005d4",
        ),
    ];
    for (profile, protected, tag_and_word) in cases {
        let (mut out, mut inbound) = rfc_7714(profile);
        let mut packet = sealed_rtcp(&mut out, &plain);
        assert_eq!(packet, hex(protected), "{profile}");
        assert_eq!(inbound.open_rtcp(&mut packet), Ok(plain.len()));
        assert_eq!(packet[..plain.len()], plain);

        let (_, mut inbound) = rfc_7714(profile);
        let tagged = [plain.clone(), hex(tag_and_word)].concat();
        let mut packet = tagged.clone();
        assert_eq!(inbound.open_rtcp(&mut packet), Ok(plain.len()), "{profile} tagged only");
        assert_eq!(packet[..plain.len()], plain);
        let mut forged = tagged;
        forged[20] ^= 1;
        let (_, mut inbound) = rfc_7714(profile);
        assert_eq!(inbound.open_rtcp(&mut forged), Err(SrtpError::BadTag));
    }
}

#[test]
fn unencrypted_srtcp_of_the_counter_mode_profile_is_checked_and_accepted() {
    let profile = Profile::Aes128CmHmacSha1_80;
    let (out, mut inbound) = pair(profile);
    let Keys::Cm(pair) = &out.keys else { unreachable!() };
    let plain = plain_rtcp(7, 3);
    let mut packet = [&plain[..], &9_u32.to_be_bytes()].concat();
    let tag = pair.rtcp.tag(&packet, &[]);
    packet.extend(tag);
    let mut forged = packet.clone();
    forged[9] ^= 0x80;
    assert_eq!(inbound.open_rtcp(&mut forged), Err(SrtpError::BadTag));
    assert_eq!(inbound.open_rtcp(&mut packet), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

#[test]
fn what_is_sealed_opens_to_the_same_bytes() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        for index in 65_500..65_600 {
            let mut packet = sealed_rtp(&mut out, index);
            let sealed = packet.clone();
            let opened = inbound.open_rtp(&mut state, &mut packet, 12);
            assert_eq!(opened, Ok(Opened { index: ExtSeqNum(index), len: 62 }));
            assert_eq!(packet[..62], plain_rtp(index as u16, 50));
            assert_ne!(sealed[12..62], packet[12..62]);
        }
    }
}

/// RFC 3711 appendix A, in its own arithmetic, for cycles that have a predecessor and a successor.
fn appendix_a(highest: u64, seq: u16) -> u64 {
    let (roc, s_l, seq) = ((highest >> 16) as i64, (highest & 0xffff) as i64, i64::from(seq));
    let v = if s_l < 32_768 {
        if seq - s_l > 32_768 { roc - 1 } else { roc }
    } else if s_l - 32_768 > seq {
        roc + 1
    } else {
        roc
    };
    (v << 16 | seq) as u64
}

#[test]
fn index_guess_is_that_of_appendix_a() {
    let mut random = fastrand::Rng::with_seed(0x5eed_0001);
    let edges = [0, 1, 2, 32_766, 32_767, 32_768, 32_769, 65_534, 65_535];
    for round in 0..200_000 {
        let roc = random.u64(1..0xffff_ffff);
        let (s_l, seq) = if round % 2 == 0 {
            (edges[random.usize(..9)], edges[random.usize(..9)])
        } else {
            (random.u16(..), random.u16(..))
        };
        let highest = roc << 16 | u64::from(s_l);
        let mut state = PacketIndex::new();
        state.window.note(highest);
        assert_eq!(state.guess(SeqNum(seq)).0, appendix_a(highest, seq), "{highest:x} {seq:x}");
    }
}

#[test]
fn index_guess_in_the_first_cycle_never_goes_below_zero() {
    let mut state = PacketIndex::new();
    assert_eq!(state.guess(SeqNum(65_535)), ExtSeqNum(65_535));
    state.window.note(3);
    assert_eq!(state.guess(SeqNum(65_535)), ExtSeqNum(65_535));
    assert_eq!(state.guess(SeqNum(1)), ExtSeqNum(1));
}

#[test]
fn late_packet_of_the_former_cycle_is_opened() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        // The packets around the wrap come swapped and with losses.
        for index in [65_530, 65_537, 65_535, 65_531, 65_536, 65_540, 65_534] {
            let opened = inbound.open_rtp(&mut state, &mut sealed_rtp(&mut out, index), 12);
            assert_eq!(opened.map(|o| o.index), Ok(ExtSeqNum(index)), "{profile}");
        }
        assert_eq!(state.highest(), Some(ExtSeqNum(65_540)));
    }
}

#[test]
fn cycles_are_counted_through_losses_around_every_wrap() {
    let mut random = fastrand::Rng::with_seed(0x5eed_0004);
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        let mut index = 65_000;
        while index < 40 * 65_536 {
            let opened = inbound.open_rtp(&mut state, &mut sealed_rtp(&mut out, index), 12);
            assert_eq!(opened.map(|o| o.index), Ok(ExtSeqNum(index)));
            // Up to just below half the range may be lost at once.
            index += random.u64(1..32_768);
        }
    }
}

#[test]
fn loss_of_more_than_half_the_range_fails_without_moving_the_state() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        assert!(inbound.open_rtp(&mut state, &mut sealed_rtp(&mut out, 40_000), 12).is_ok());
        let far = inbound.open_rtp(&mut state, &mut sealed_rtp(&mut out, 120_000), 12);
        assert_eq!(far, Err(SrtpError::BadTag));
        assert_eq!(state.highest(), Some(ExtSeqNum(40_000)));
    }
}

#[test]
fn packet_is_opened_once_in_any_order() {
    let mut random = fastrand::Rng::with_seed(0x5eed_0002);
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        let mut order: Vec<u64> = (64_000..67_000).collect();
        // Local disorder of up to four hundred packets, and everything comes twice.
        for block in order.chunks_mut(400) {
            random.shuffle(block);
        }
        for &index in &order {
            let sealed = sealed_rtp(&mut out, index);
            assert!(inbound.open_rtp(&mut state, &mut sealed.clone(), 12).is_ok(), "{index}");
            let again = inbound.open_rtp(&mut state, &mut sealed.clone(), 12);
            assert_eq!(again, Err(SrtpError::Replayed));
        }
    }
}

#[test]
fn replay_window_holds_exactly_its_size() {
    let mut window = ReplayWindow::<16>::new();
    assert!(window.admits(0));
    window.note(5_000);
    assert_eq!(window.highest(), Some(5_000));
    assert!(!window.admits(5_000));
    assert!(window.admits(5_000 - 1_023));
    assert!(!window.admits(5_000 - 1_024));
    window.note(5_000 - 1_024);
    assert!(!window.admits(5_000 - 1_024));
}

/// The window against a list of all that was noted.
#[test]
fn replay_window_agrees_with_a_full_memory() {
    let mut random = fastrand::Rng::with_seed(0x5eed_0003);
    for _ in 0..50 {
        let mut window = ReplayWindow::<2>::new();
        let mut noted = std::collections::BTreeSet::new();
        let mut near: u64 = random.u64(..300);
        for _ in 0..600 {
            near += [0, 1, 1, 2, 63, 64, 127, 128, 129, 400][random.usize(..10)];
            let index = near.saturating_sub(random.u64(..200));
            let highest = noted.last().copied();
            let old = highest.is_some_and(|highest: u64| index + 128 <= highest);
            let expected = !old && !noted.contains(&index);
            assert_eq!(window.admits(index), expected, "{index} below {highest:?}");
            if expected {
                window.note(index);
                noted.insert(index);
            }
        }
    }
}

#[test]
fn bad_tag_leaves_no_state() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut state = PacketIndex::new();
        let good = sealed_rtp(&mut out, 100);
        for at in 0..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 0x10;
            let outcome = inbound.open_rtp(&mut state, &mut forged, 12);
            assert_eq!(outcome, Err(SrtpError::BadTag), "byte {at} of {profile}");
            assert_eq!(state.highest(), None);
        }
        // A forged jump ahead must not shift the guess either.
        assert!(inbound.open_rtp(&mut state, &mut good.clone(), 12).is_ok());
        let mut forged = sealed_rtp(&mut out, 30_000);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let outcome = inbound.open_rtp(&mut state, &mut forged, 12);
        assert_eq!(outcome, Err(SrtpError::BadTag));
        assert_eq!(state.highest(), Some(ExtSeqNum(100)));

        let good = sealed_rtcp(&mut out, &plain_rtcp(1, 4));
        for at in 0..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 0x10;
            assert_eq!(inbound.open_rtcp(&mut forged), Err(SrtpError::BadTag), "byte {at}");
        }
        assert!(inbound.rtcp_sources.sources.is_empty());
        assert!(inbound.open_rtcp(&mut good.clone()).is_ok());
        assert_eq!(inbound.open_rtcp(&mut good.clone()), Err(SrtpError::Replayed));
    }
}

#[test]
fn rtcp_indices_of_different_senders_do_not_meet() {
    for &profile in Profile::ALL {
        let key = master(profile, 1);
        let mut inbound = InboundSrtp::new(profile, &key);
        for ssrc in 0..20 {
            // Each sender counts from zero, as libsrtp does.
            let mut out = OutboundSrtp::new(profile, &key);
            for _ in 0..3 {
                let mut packet = sealed_rtcp(&mut out, &plain_rtcp(ssrc, 2));
                assert!(inbound.open_rtcp(&mut packet).is_ok());
            }
        }
    }
}

#[test]
fn rtcp_senders_are_bounded_and_the_least_recent_makes_room() {
    let profile = Profile::AeadAes128Gcm;
    let (mut out, mut inbound) = pair(profile);
    let first = sealed_rtcp(&mut out, &plain_rtcp(0, 2));
    assert!(inbound.open_rtcp(&mut first.clone()).is_ok());
    let second = sealed_rtcp(&mut out, &plain_rtcp(1, 2));
    assert!(inbound.open_rtcp(&mut second.clone()).is_ok());
    for ssrc in 2..=RTCP_SOURCES_MAX as u32 {
        assert!(inbound.open_rtcp(&mut sealed_rtcp(&mut out, &plain_rtcp(0, 2))).is_ok());
        assert!(inbound.open_rtcp(&mut sealed_rtcp(&mut out, &plain_rtcp(ssrc, 2))).is_ok());
    }
    assert_eq!(inbound.rtcp_sources.sources.len(), RTCP_SOURCES_MAX);
    assert_eq!(inbound.rtcp_sources.sources.capacity(), RTCP_SOURCES_MAX);
    assert_eq!(inbound.open_rtcp(&mut first.clone()), Err(SrtpError::Replayed));
    assert!(!inbound.rtcp_sources.sources.iter().any(|source| source.ssrc == Ssrc(1)));
}

#[test]
fn no_length_panics_and_short_ones_are_named() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        for first in 0..=255 {
            for len in 0..=60 {
                let rtcp = inbound.open_rtcp(&mut vec![first; len]);
                let short = len < 8 + profile.rtcp_overhead();
                assert_eq!(rtcp == Err(SrtpError::Short), short, "{len} bytes of {profile}");
                assert!(rtcp.is_err());
            }
        }
        for len in 0..=80 {
            for header_len in 0..=len + 2 {
                let mut state = PacketIndex::new();
                let rtp = inbound.open_rtp(&mut state, &mut vec![0x80; len], header_len);
                let short = header_len < 12 || len < header_len + profile.rtp_overhead();
                assert_eq!(rtp == Err(SrtpError::Short), short);
                assert!(rtp.is_err());
                for room in 0..20 {
                    let mut packet = vec![0; len + room];
                    let sealed = out.seal_rtp(ExtSeqNum(0), &mut packet, header_len, len);
                    let fits = header_len >= 12 && header_len <= len;
                    assert_eq!(sealed.is_some(), fits && room >= profile.rtp_overhead());
                }
            }
        }
        assert_eq!(out.seal_rtp(ExtSeqNum(0), &mut [0; 40], 12, usize::MAX), None);
        assert_eq!(out.seal_rtcp(&mut [0; 40], usize::MAX), None);
        assert_eq!(out.seal_rtcp(&mut [0; 40], 7), None);
        assert_eq!(out.seal_rtcp(&mut [0; 40], 8 + 40), None);
    }
}

#[test]
fn empty_payload_and_bare_header_are_legal() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        let mut packet = plain_rtp(1, 0);
        packet.resize(12 + profile.rtp_overhead(), 0);
        assert_eq!(out.seal_rtp(ExtSeqNum(1), &mut packet, 12, 12), Some(packet.len()));
        let opened = inbound.open_rtp(&mut PacketIndex::new(), &mut packet, 12).unwrap();
        assert_eq!(opened.len, 12);
        let plain = plain_rtcp(3, 0);
        let mut packet = sealed_rtcp(&mut out, &plain);
        assert_eq!(inbound.open_rtcp(&mut packet), Ok(8));
    }
}

#[test]
fn counters_end_instead_of_starting_again() {
    for &profile in Profile::ALL {
        let (mut out, mut inbound) = pair(profile);
        out.rtcp_index = RTCP_ENCRYPTED - 1;
        let mut last = sealed_rtcp(&mut out, &plain_rtcp(1, 1));
        assert_eq!(inbound.open_rtcp(&mut last), Ok(12));
        for _ in 0..3 {
            let mut packet = plain_rtcp(1, 1);
            packet.resize(60, 0);
            assert_eq!(out.seal_rtcp(&mut packet, 12), None);
        }

        let mut state = PacketIndex::new();
        state.window.note(RTP_INDEX_END - 2);
        let mut last = sealed_rtp(&mut out, RTP_INDEX_END - 1);
        assert!(inbound.open_rtp(&mut state, &mut last, 12).is_ok());
        let mut packet = plain_rtp(0, 50);
        packet.resize(80, 0);
        assert_eq!(out.seal_rtp(ExtSeqNum(RTP_INDEX_END), &mut packet, 12, 62), None);
        let beyond = inbound.open_rtp(&mut state, &mut packet, 12);
        assert_eq!(beyond, Err(SrtpError::Exhausted));
    }
}

#[test]
fn rtcp_index_starts_at_zero_and_counts_every_packet() {
    for &profile in Profile::ALL {
        let (mut out, _) = pair(profile);
        for index in 0..5_u32 {
            let packet = sealed_rtcp(&mut out, &plain_rtcp(index * 11, 2));
            let at = match profile {
                Profile::Aes128CmHmacSha1_80 => packet.len() - 14,
                _ => packet.len() - 4,
            };
            assert_eq!(four_bytes(&packet, at), index | RTCP_ENCRYPTED);
        }
    }
}
