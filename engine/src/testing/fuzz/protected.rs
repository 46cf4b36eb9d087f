//! What arrives protected: SRTP and SRTCP under fixed keys, DTLS before and after a handshake.

use std::sync::OnceLock;
use std::time::Duration;

use super::Plan;
use crate::clock::Instant;
use crate::dtls::{DtlsEndpoint, DtlsRole, Identity, Output};
use crate::ids::{ExtSeqNum, SeqNum};
use crate::srtp::context::{InboundSrtp, OutboundSrtp, PacketIndex};
use crate::srtp::{MasterKey, Profile, SrtpError};
use crate::wire::rtp::RtpHeader;

/// Any bytes are refused under every profile and leave no trace. What we seal opens to the same once, and never with a bit
/// changed.
pub fn srtp(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    for &profile in Profile::ALL {
        let key = [7; 32];
        let master = MasterKey::new(profile, &key[..profile.key_len()], &key[..profile.salt_len()]);
        let master = master.expect("lengths of the profile");
        let mut inbound = InboundSrtp::new(profile, &master);
        let mut outbound = OutboundSrtp::new(profile, &master);
        let mut state = PacketIndex::new();
        let header_len = RtpHeader::parse(data).map_or(usize::from(choice), |h| h.header_len);
        assert!(inbound.open_rtp(&mut state, &mut data.to_vec(), header_len).is_err());
        assert_eq!(state.highest(), None, "a forged packet moved the index");
        assert!(inbound.open_rtcp(&mut data.to_vec()).is_err());

        let flip = |sealed: &[u8]| {
            let mut changed = sealed.to_vec();
            let at = usize::from(choice) * 7 % changed.len();
            changed[at] ^= 1 << (choice % 8);
            changed
        };
        if let Ok(header) = RtpHeader::parse(data) {
            let index = ExtSeqNum::nearest(header.seq, ExtSeqNum(0));
            let mut sealed = data.to_vec();
            sealed.resize(data.len() + profile.rtp_overhead(), 0);
            let len = outbound.seal_rtp(index, &mut sealed, header.header_len, data.len());
            assert_eq!(len, Some(sealed.len()));
            let mut changed = flip(&sealed);
            assert!(inbound.open_rtp(&mut state, &mut changed, header.header_len).is_err());
            assert_eq!(state.highest(), None);
            let again = sealed.clone();
            let opened = inbound.open_rtp(&mut state, &mut sealed, header.header_len);
            let opened = opened.expect("our own packet");
            assert_eq!((opened.index, &sealed[..opened.len]), (index, data));
            let replayed = inbound.open_rtp(&mut state, &mut again.clone(), header.header_len);
            assert_eq!(replayed, Err(SrtpError::Replayed));
        }
        let mut sealed = data.to_vec();
        sealed.resize(data.len() + profile.rtcp_overhead(), 0);
        let Some(len) = outbound.seal_rtcp(&mut sealed, data.len()) else {
            assert!(data.len() < 8);
            continue;
        };
        assert_eq!(len, sealed.len());
        assert!(inbound.open_rtcp(&mut flip(&sealed)).is_err());
        let again = sealed.clone();
        let opened = inbound.open_rtcp(&mut sealed).expect("our own packet");
        assert_eq!(&sealed[..opened], data);
        assert_eq!(inbound.open_rtcp(&mut again.clone()), Err(SrtpError::Replayed));
    }
}

/// Where an index is guessed: the packet that the guess makes of a number is the nearest to the last, as RFC 3711 §3.3.1 has it.
pub fn srtp_index(data: &[u8]) {
    let mut plan = Plan::new(data);
    let profile = Profile::AeadAes128Gcm;
    let master = MasterKey::new(profile, &[7; 16], &[7; 12]).expect("lengths of the profile");
    let mut inbound = InboundSrtp::new(profile, &master);
    let mut outbound = OutboundSrtp::new(profile, &master);
    let mut state = PacketIndex::new();
    let mut index = u64::from(plan.u16() >> 1);
    let mut seen = std::collections::HashSet::new();
    while let Some(operation) = plan.next() {
        let step = u64::from(plan.u16() >> (operation % 16));
        index = if operation & 128 == 0 { index + step } else { index.saturating_sub(step) };
        let mut packet = [0; 12 + 16];
        packet[0] = 0x80;
        let SeqNum(seq) = ExtSeqNum(index).seq();
        packet[2..4].copy_from_slice(&seq.to_be_bytes());
        outbound.seal_rtp(ExtSeqNum(index), &mut packet, 12, 12).expect("room");
        let before = state.highest();
        let outcome = inbound.open_rtp(&mut state, &mut packet, 12);
        match before {
            None => assert_eq!(outcome.is_ok(), index < 1 << 16),
            Some(before) if before.0.abs_diff(index) < 1 << 15 => {
                let is_old = before.0.saturating_sub(index) >= 1_024;
                assert_eq!(outcome.is_ok(), !is_old && !seen.contains(&index), "{before} {index}");
            }
            // At exactly half the range either guess is right; beyond it the packet is not understood.
            Some(_) => {}
        }
        if let Ok(opened) = outcome {
            assert_eq!(opened.index.0, index);
            assert!(seen.insert(index), "opened twice");
        }
        let highest = before.max(outcome.ok().map(|opened| opened.index));
        assert_eq!(state.highest(), highest, "the index went back, or moved without a right tag");
        index = highest.map_or(index, |highest| index.min(highest.0 + (1 << 14)));
    }
}

fn identity(of: usize) -> &'static Identity {
    static MADE: OnceLock<[Identity; 2]> = OnceLock::new();
    let make = || Identity::generate().expect("a certificate");
    &MADE.get_or_init(|| [make(), make()])[of]
}

fn endpoint(of: usize, role: DtlsRole) -> DtlsEndpoint {
    let mut endpoint = DtlsEndpoint::new(identity(of), role, Instant::default());
    endpoint.set_remote_fingerprints(vec![identity(1 - of).fingerprint().clone()]);
    endpoint
}

/// Polls until nothing more comes; gives datagrams, whether there were keys, and whether it ended.
fn drain(endpoint: &mut DtlsEndpoint, now: Instant) -> (Vec<Vec<u8>>, bool, bool) {
    let (mut datagrams, mut connected, mut ended) = (Vec::new(), false, false);
    let mut out = [0; 2_048];
    for _ in 0..200 {
        match endpoint.poll(now, &mut out) {
            Output::Datagram(len) => datagrams.push(out[..len].to_vec()),
            Output::Data(_) => panic!("data of somebody who holds no keys"),
            Output::Connected(_) => connected = true,
            Output::PeerClosed | Output::Failed(_) => ended = true,
            Output::Wait(_) => return (datagrams, connected, ended),
        }
    }
    panic!("an endpoint that never waits");
}

/// Datagrams of somebody who holds no keys: before the handshake they give none, after it they end nothing.
pub fn dtls(data: &[u8]) {
    let mut plan = Plan::new(data);
    let mode = plan.u8();
    let mut now = Instant::default();
    let role = if mode & 1 == 0 { DtlsRole::Passive } else { DtlsRole::Active };
    let is_connected = mode & 2 != 0;
    let mut ours = endpoint(0, role);
    if is_connected {
        let other = if mode & 1 == 0 { DtlsRole::Active } else { DtlsRole::Passive };
        let mut theirs = endpoint(1, other);
        let mut done = (false, false);
        for _ in 0..20 {
            let (datagrams, connected, _) = drain(&mut ours, now);
            done.0 |= connected;
            datagrams.iter().for_each(|datagram| theirs.handle_datagram(now, datagram));
            let (datagrams, connected, _) = drain(&mut theirs, now);
            done.1 |= connected;
            datagrams.iter().for_each(|datagram| ours.handle_datagram(now, datagram));
        }
        assert_eq!(done, (true, true), "two of our endpoints connect");
    }
    let mut sent = 0;
    let mut received = 0;
    while plan.has_more() {
        let operation = plan.u8();
        if operation & 1 == 0 {
            now = now + Duration::from_millis(u64::from(plan.u8()) * 4);
            ours.handle_timeout(now);
        } else {
            let len = usize::from(plan.u16() & 0x3FF);
            let datagram = plan.bytes(len);
            received += datagram.len();
            ours.handle_datagram(now, datagram);
        }
        let (datagrams, connected, ended) = drain(&mut ours, now);
        sent += datagrams.iter().map(Vec::len).sum::<usize>();
        assert!(!connected, "keys without a handshake");
        assert!(!(ended && is_connected), "bytes without keys ended an association");
    }
    // Flights are repeated with growing gaps; a connected endpoint has next to nothing to say.
    let limit = 64_000 + received * 20;
    assert!(sent <= limit, "{sent} bytes for {received}");
}
