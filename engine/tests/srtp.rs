//! Our SRTP against `webrtc-srtp`, an independent implementation: what one seals the other opens.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use sluice_engine::ids::ExtSeqNum;
use sluice_engine::srtp::{InboundSrtp, MasterKey, OutboundSrtp, PacketIndex, Profile};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Random numbers of this run: the seed is `SLUICE_SEED` if set. Printed, so that a failure can be run again.
fn seeded() -> fastrand::Rng {
    let seed = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x0005_10ce);
    println!("SLUICE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

struct Keys {
    profile: Profile,
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl Keys {
    fn random(profile: Profile, random: &mut fastrand::Rng) -> Self {
        let mut bytes = |len| (0..len).map(|_| random.u8(..)).collect();
        Self { profile, key: bytes(profile.key_len()), salt: bytes(profile.salt_len()) }
    }

    fn ours(&self) -> MasterKey {
        MasterKey::new(self.profile, &self.key, &self.salt).unwrap()
    }

    fn theirs(&self) -> Context {
        let profile = match self.profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Profile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let rtp = Some(srtp_replay_protection(1024));
        let rtcp = Some(srtcp_replay_protection(1024));
        Context::new(&self.key, &self.salt, profile, rtp, rtcp).unwrap()
    }
}

/// A plain RTP packet with random CSRCs, header extension and payload, and the length of its header.
fn rtp_packet(seq: u16, ssrc: u32, random: &mut fastrand::Rng) -> (Vec<u8>, usize) {
    let csrcs = random.u8(0..=15);
    let extension = random.u8(0..3);
    let mut packet = vec![0x80 | csrcs | (u8::from(extension > 0) << 4), random.u8(..)];
    packet.extend(seq.to_be_bytes());
    packet.extend(random.u32(..).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    for _ in 0..csrcs {
        packet.extend(random.u32(..).to_be_bytes());
    }
    if extension > 0 {
        // One element of one byte, or of four with a two-byte head, filled up with padding.
        let (form, block): (u16, &[u8]) = match extension {
            1 => (0xbede, &[0x10, 0x7f, 0, 0]),
            _ => (0x1000, &[0x05, 0x04, 1, 2, 3, 4, 0, 0]),
        };
        packet.extend(form.to_be_bytes());
        packet.extend((block.len() as u16 / 4).to_be_bytes());
        packet.extend(block);
    }
    let header_len = packet.len();
    let payload = random.usize(0..1400);
    packet.extend((0..payload).map(|_| random.u8(..)));
    (packet, header_len)
}

/// Indices over three wraps, with losses and with disorder over a few packets.
fn indices(random: &mut fastrand::Rng) -> Vec<u64> {
    let mut indices = Vec::new();
    let mut index = random.u64(30_000..32_768);
    while index < 3 * 65_536 + 10_000 {
        for _ in 0..20 {
            indices.push(index);
            index += random.u64(1..4);
        }
        // A loss of up to a tenth of the range, so that few packets see several wraps.
        index += random.u64(0..6_000);
    }
    for block in indices.chunks_mut(5) {
        random.shuffle(block);
    }
    indices
}

#[test]
fn webrtc_srtp_opens_the_rtp_we_seal() {
    let mut random = seeded();
    for &profile in Profile::ALL {
        let keys = Keys::random(profile, &mut random);
        let (mut ours, mut theirs) = (OutboundSrtp::new(profile, &keys.ours()), keys.theirs());
        for ssrc in [0, 1, 0xdead_beef, u32::MAX] {
            for index in indices(&mut random) {
                let (plain, header_len) = rtp_packet(index as u16, ssrc, &mut random);
                let mut packet = plain.clone();
                packet.resize(plain.len() + profile.rtp_overhead(), 0);
                let len = ours.seal_rtp(ExtSeqNum(index), &mut packet, header_len, plain.len());
                assert_eq!(len, Some(packet.len()));
                let opened = theirs.decrypt_rtp(&packet);
                let opened = opened.unwrap_or_else(|e| panic!("{profile} index {index}: {e}"));
                assert_eq!(opened[..], plain);
            }
        }
    }
}

#[test]
fn we_open_the_rtp_that_webrtc_srtp_seals() {
    let mut random = seeded();
    for &profile in Profile::ALL {
        let keys = Keys::random(profile, &mut random);
        let (mut ours, mut theirs) = (InboundSrtp::new(profile, &keys.ours()), keys.theirs());
        for ssrc in [0, 1, 0xdead_beef, u32::MAX] {
            let mut state = PacketIndex::new();
            for index in indices(&mut random) {
                let (plain, header_len) = rtp_packet(index as u16, ssrc, &mut random);
                let mut packet = theirs.encrypt_rtp(&plain).unwrap().to_vec();
                let again = packet.clone();
                let opened = ours.open_rtp(&mut state, &mut packet, header_len);
                let opened = opened.unwrap_or_else(|e| panic!("{profile} index {index}: {e:?}"));
                assert_eq!(opened.index, ExtSeqNum(index));
                assert_eq!(packet[..opened.len], plain);
                assert!(ours.open_rtp(&mut state, &mut again.clone(), header_len).is_err());
            }
        }
    }
}

/// A plain compound packet: one RTCP packet of a random type and length.
fn rtcp_packet(ssrc: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let words = random.u16(0..300);
    let mut packet = vec![0x80 | random.u8(0..32), random.u8(200..=206)];
    packet.extend((words + 1).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..words * 4).map(|_| random.u8(..)));
    packet
}

#[test]
fn webrtc_srtp_opens_the_rtcp_we_seal() {
    let mut random = seeded();
    for &profile in Profile::ALL {
        let keys = Keys::random(profile, &mut random);
        let (mut ours, mut theirs) = (OutboundSrtp::new(profile, &keys.ours()), keys.theirs());
        for _ in 0..500 {
            let plain = rtcp_packet(random.u32(..4), &mut random);
            let mut packet = plain.clone();
            packet.resize(plain.len() + profile.rtcp_overhead(), 0);
            assert_eq!(ours.seal_rtcp(&mut packet, plain.len()), Some(packet.len()));
            assert_eq!(theirs.decrypt_rtcp(&packet).unwrap()[..], plain, "{profile}");
        }
    }
}

#[test]
fn we_open_the_rtcp_that_webrtc_srtp_seals() {
    let mut random = seeded();
    for &profile in Profile::ALL {
        let keys = Keys::random(profile, &mut random);
        let (mut ours, mut theirs) = (InboundSrtp::new(profile, &keys.ours()), keys.theirs());
        // It counts an index per SSRC, as libsrtp does: sender by sender the indices repeat.
        let mut sealed = Vec::new();
        for _ in 0..500 {
            let plain = rtcp_packet(random.u32(..8), &mut random);
            sealed.push((theirs.encrypt_rtcp(&plain).unwrap(), plain));
        }
        for block in sealed.chunks_mut(40) {
            random.shuffle(block);
        }
        for (packet, plain) in sealed {
            let mut bytes = packet.to_vec();
            assert_eq!(ours.open_rtcp(&mut bytes), Ok(plain.len()), "{profile}");
            assert_eq!(bytes[..plain.len()], plain);
            assert!(ours.open_rtcp(&mut packet.to_vec()).is_err());
        }
    }
}
