//! Handshakes between two endpoints over a network that loses, repeats and disorders; and with OpenSSL.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_engine::clock::{self, Instant};
use sluice_engine::dtls::DtlsRole;
use sluice_engine::dtls::identity::DATAGRAM_LEN_MAX;
use sluice_engine::dtls::{DtlsEndpoint, Fingerprint, HashFunction, Identity, Output};
use sluice_engine::ids::ExtSeqNum;
use sluice_engine::sctp::PACKET_LEN_MAX;
use sluice_engine::session_error::SessionError;
use sluice_engine::srtp::{
    InboundSrtp, KeyingMaterial, MasterKey, OutboundSrtp, PacketIndex, Profile,
};

/// One endpoint, and what it has said so far.
struct Side {
    endpoint: DtlsEndpoint,
    keys: Option<Box<KeyingMaterial>>,
    data: Vec<Vec<u8>>,
    closed: bool,
    failed: Option<SessionError>,
    deadline: Option<Instant>,
}

impl Side {
    fn new(identity: &Identity, role: DtlsRole, peer: &Fingerprint, now: Instant) -> Self {
        let mut endpoint = DtlsEndpoint::new(identity, role, now);
        endpoint.set_remote_fingerprints(vec![peer.clone()]);
        Self { endpoint, keys: None, data: Vec::new(), closed: false, failed: None, deadline: None }
    }

    /// Polls until it waits; returns the datagrams it wants sent.
    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut out = [0; DATAGRAM_LEN_MAX];
        loop {
            match self.endpoint.poll(now, &mut out) {
                Output::Datagram(len) => datagrams.push(out[..len].to_vec()),
                Output::Data(len) => self.data.push(out[..len].to_vec()),
                Output::Connected(keys) => {
                    assert!(self.keys.replace(keys).is_none(), "keys come once");
                }
                Output::PeerClosed => self.closed = true,
                Output::Failed(error) => {
                    assert!(self.failed.replace(error).is_none(), "an end comes once");
                }
                Output::Wait(deadline) => {
                    self.deadline = deadline;
                    return datagrams;
                }
            }
        }
    }
}

/// A network with a seed: what it does to a datagram, in thousandths, and how long it takes.
struct Net {
    random: fastrand::Rng,
    loss: u32,
    twice: u32,
    /// Datagrams under way: arrival, sequence for equal arrivals, receiver, bytes.
    under_way: Vec<(Instant, u64, usize, Vec<u8>)>,
    sent: u64,
}

impl Net {
    fn new(seed: u64, loss: u32, twice: u32) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, loss, twice, under_way: Vec::new(), sent: 0 }
    }

    fn send(&mut self, now: Instant, to: usize, datagram: Vec<u8>) {
        let copies = 1 + u32::from(self.random.u32(0..1000) < self.twice);
        for _ in 0..copies {
            if self.random.u32(0..1000) < self.loss {
                continue;
            }
            let takes = Duration::from_millis(self.random.u64(5..60));
            self.sent += 1;
            self.under_way.push((now + takes, self.sent, to, datagram.clone()));
        }
    }

    /// Runs until both sides are done, or nothing more can happen, or a minute of virtual time has passed.
    fn run(&mut self, sides: &mut [Side; 2], start: Instant) -> Instant {
        let mut now = start;
        loop {
            for (at, side) in sides.iter_mut().enumerate() {
                for datagram in side.drain(now) {
                    assert!(datagram.len() <= DATAGRAM_LEN_MAX);
                    self.send(now, 1 - at, datagram);
                }
            }
            let ended = |side: &Side| side.keys.is_some() || side.failed.is_some();
            let arrival = self.under_way.iter().map(|u| u.0).min();
            let timer = sides.iter().filter_map(|side| side.deadline).min();
            if sides.iter().all(ended) && arrival.is_none() {
                return now;
            }
            let Some(next) = arrival.into_iter().chain(timer).min() else { return now };
            if next > start + Duration::from_secs(60) {
                return now;
            }
            now = next.max(now);
            self.under_way.sort_by_key(|u| (u.0, u.1));
            while self.under_way.first().is_some_and(|u| u.0 <= now) {
                let (_, _, to, datagram) = self.under_way.remove(0);
                sides[to].endpoint.handle_datagram(now, &datagram);
            }
            for side in sides.iter_mut() {
                if side.deadline.is_some_and(|deadline| deadline <= now) {
                    side.endpoint.handle_timeout(now);
                }
            }
        }
    }
}

fn start() -> Instant {
    Instant::from_start(Duration::from_secs(1_000))
}

fn sides(roles: [DtlsRole; 2]) -> [Side; 2] {
    let identities = [Identity::generate().unwrap(), Identity::generate().unwrap()];
    let side = |at: usize| {
        Side::new(&identities[at], roles[at], identities[1 - at].fingerprint(), start())
    };
    [side(0), side(1)]
}

/// Asserts that what one key seals the other opens.
fn assert_same(profile: Profile, one: &MasterKey, other: &MasterKey) {
    let mut packet = [0x80; 80];
    packet[2..4].fill(0);
    let mut out = OutboundSrtp::new(profile, one);
    let len = out.seal_rtp(ExtSeqNum(0), &mut packet, 12, 40).unwrap();
    let mut inbound = InboundSrtp::new(profile, other);
    assert!(inbound.open_rtp(&mut PacketIndex::new(), &mut packet[..len], 12).is_ok());
}

fn assert_connected(sides: &[Side; 2]) {
    let [Some(one), Some(other)] = [&sides[0].keys, &sides[1].keys] else {
        panic!("not connected: {:?}, {:?}", sides[0].failed, sides[1].failed);
    };
    assert_eq!(one.profile, Profile::AeadAes256Gcm);
    assert_eq!(other.profile, one.profile);
    assert_same(one.profile, &one.local, &other.remote);
    assert_same(one.profile, &other.local, &one.remote);
}

const PAIRINGS: [[DtlsRole; 2]; 2] =
    [[DtlsRole::Passive, DtlsRole::Active], [DtlsRole::Active, DtlsRole::Passive]];

#[test]
fn both_sides_get_each_others_keys() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let end = Net::new(1, 0, 0).run(&mut sides, start());
        assert_connected(&sides);
        assert!(end.since(start()) < Duration::from_millis(400), "{:?}", end.since(start()));
        assert_eq!(sides[0].deadline, None);
    }
}

#[test]
fn handshake_survives_loss_disorder_and_repetition() {
    let seed = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..40, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("SLUICE_SEED={seed}");
        for roles in PAIRINGS {
            let mut sides = sides(roles);
            Net::new(seed, 200, 200).run(&mut sides, start());
            assert_connected(&sides);
        }
    }
}

#[test]
fn wrong_fingerprint_gives_no_keys() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let stranger = Fingerprint::of_certificate(HashFunction::Sha256, b"somebody else");
        sides[0].endpoint.set_remote_fingerprints(vec![stranger]);
        Net::new(2, 0, 0).run(&mut sides, start());
        assert!(sides[0].keys.is_none());
        assert!(matches!(sides[0].failed, Some(SessionError::PeerMisbehaved(_))));
    }
}

#[test]
fn one_right_fingerprint_among_several_is_enough() {
    let mut sides = sides(PAIRINGS[0]);
    let identity = Identity::generate().unwrap();
    sides[1] = Side::new(&identity, DtlsRole::Active, identity.fingerprint(), start());
    let stranger = Fingerprint::of_certificate(HashFunction::Sha512, b"somebody else");
    let right = identity.fingerprint().clone();
    sides[0].endpoint.set_remote_fingerprints(vec![stranger, right]);
    Net::new(3, 0, 0).run(&mut sides, start());
    assert!(sides[0].keys.is_some());
    assert!(matches!(sides[1].failed, Some(SessionError::PeerMisbehaved(_))));
}

#[test]
fn keys_wait_for_the_peers_fingerprint() {
    let (ours, theirs) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut sides = [
        Side::new(&ours, DtlsRole::Passive, theirs.fingerprint(), start()),
        Side::new(&theirs, DtlsRole::Active, ours.fingerprint(), start()),
    ];
    sides[0].endpoint.set_remote_fingerprints(Vec::new());
    let now = Net::new(4, 0, 0).run(&mut sides, start());
    assert!(sides[1].keys.is_some());
    assert!(sides[0].keys.is_none() && sides[0].failed.is_none());
    // The answer comes long after the handshake.
    let now = now + Duration::from_secs(45);
    sides[0].endpoint.handle_timeout(now);
    sides[0].drain(now);
    assert!(sides[0].keys.is_none() && sides[0].failed.is_none());
    sides[0].endpoint.set_remote_fingerprints(vec![theirs.fingerprint().clone()]);
    sides[0].drain(now);
    assert_connected(&sides);
}

#[test]
fn application_data_goes_both_ways_and_fits_a_datagram() {
    let mut net = Net::new(0x5eed_00da, 0, 0);
    let mut sides = sides([DtlsRole::Passive, DtlsRole::Active]);
    let now = net.run(&mut sides, start());
    assert_connected(&sides);
    let longest = vec![7; PACKET_LEN_MAX];
    for at in 0..2 {
        sides[at].endpoint.send_data(now, &longest);
        let datagrams = sides[at].drain(now);
        assert_eq!(datagrams.len(), 1);
        assert!(datagrams[0].len() <= DATAGRAM_LEN_MAX, "{} bytes", datagrams[0].len());
        sides[1 - at].endpoint.handle_datagram(now, &datagrams[0]);
        sides[1 - at].drain(now);
        assert_eq!(sides[1 - at].data, std::slice::from_ref(&longest));
        // A repetition is no second message.
        sides[1 - at].endpoint.handle_datagram(now, &datagrams[0]);
        sides[1 - at].drain(now);
        assert_eq!(sides[1 - at].data.len(), 1);
    }
    sides[0].endpoint.close();
    sides[0].drain(now);
    sides[0].endpoint.send_data(now, b"after the goodbye");
    assert!(sides[0].drain(now).is_empty());
}

#[test]
fn goodbye_reaches_the_peer() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let mut net = Net::new(5, 0, 0);
        let now = net.run(&mut sides, start());
        sides[0].endpoint.close();
        for datagram in sides[0].drain(now) {
            sides[1].endpoint.handle_datagram(now, &datagram);
        }
        let replies = sides[1].drain(now);
        assert!(sides[1].closed && sides[1].failed.is_none());
        for datagram in replies {
            sides[0].endpoint.handle_datagram(now, &datagram);
        }
        assert!(sides[0].drain(now).is_empty());
        assert!(sides[0].failed.is_none() && !sides[0].closed);
        assert_eq!((sides[0].deadline, sides[1].deadline), (None, None));
    }
}

#[test]
fn close_during_the_handshake_is_silent() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        for side in &mut sides {
            side.endpoint.close();
            assert!(side.drain(start() + Duration::from_secs(50)).is_empty());
            assert!(side.failed.is_none());
        }
    }
}

#[test]
fn unanswered_handshake_times_out() {
    let mut sides = sides(PAIRINGS[0]);
    let end = Net::new(6, 1000, 0).run(&mut sides, start());
    assert_eq!(sides[1].failed, Some(SessionError::TimedOut("DTLS handshake")));
    assert_eq!(end.since(start()), Duration::from_secs(30));
    // The passive side has heard nothing: it is for the session to give up.
    assert_eq!((sides[0].failed, sides[0].deadline), (None, None));
}

/// A record that claims to be DTLS 1.2 plaintext.
fn record(content: u8, epoch: u8, number: u8, fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, number];
    record.extend((fragment.len() as u16).to_be_bytes());
    record.extend(fragment);
    record
}

/// A ClientHello that offers `suite` alone, without extensions.
fn bare_hello(suite: u16) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2]);
    body.extend(suite.to_be_bytes());
    body.extend([1, 0]);
    let len = [0, 0, body.len() as u8];
    let message = [&[1][..], &len, &[0, 0, 0, 0, 0], &len, &body].concat();
    record(22, 0, 0, &message)
}

#[test]
fn forged_datagrams_do_not_end_a_handshake() {
    let mut random = fastrand::Rng::with_seed(7);
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let mut net = Net::new(7, 0, 0);
        let mut now = start();
        for step in 0..60 {
            now = now + Duration::from_millis(3);
            for (side, role) in sides.iter_mut().zip(roles) {
                let mut noise: Vec<Vec<u8>> = vec![
                    Vec::new(),
                    vec![22],
                    record(21, 0, step, &[2, 40]),
                    record(21, 0, step, &[1, 0]),
                    record(21, 1, step, &[2, 40]),
                    record(23, 0, step, b"plaintext data"),
                    record(20, 1, step, &[1]),
                    record(22, 0, step, &[11, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0]),
                    vec![22; 4_000],
                    (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
                ];
                if role == DtlsRole::Passive && step == 0 {
                    // TLS_NULL_WITH_NULL_NULL, then a suite of ours without the extensions we need.
                    noise.push(bare_hello(0x0000));
                    noise.push(bare_hello(0xc02b));
                }
                for datagram in noise {
                    side.endpoint.handle_datagram(now, &datagram);
                }
                assert!(side.failed.is_none());
            }
            now = net.run_for(&mut sides, now, Duration::from_millis(3));
        }
        net.run(&mut sides, now);
        assert_connected(&sides);
    }
}

impl Net {
    /// As [`Net::run`], for a while.
    fn run_for(&mut self, sides: &mut [Side; 2], start: Instant, time: Duration) -> Instant {
        let now = start + time;
        for (at, side) in sides.iter_mut().enumerate() {
            for datagram in side.drain(start) {
                self.send(start, 1 - at, datagram);
            }
        }
        self.under_way.sort_by_key(|u| (u.0, u.1));
        while self.under_way.first().is_some_and(|u| u.0 <= now) {
            let (_, _, to, datagram) = self.under_way.remove(0);
            sides[to].endpoint.handle_datagram(now, &datagram);
        }
        now
    }
}

#[test]
fn hello_that_cannot_be_answered_is_named_when_the_time_is_over() {
    let mut sides = sides(PAIRINGS[0]);
    let side = &mut sides[0];
    side.endpoint.handle_datagram(start(), &bare_hello(0xc02b));
    assert!(side.drain(start()).is_empty());
    assert_eq!(side.failed, None);
    let late = start() + Duration::from_secs(31);
    side.endpoint.handle_timeout(late);
    side.drain(late);
    let reason = SessionError::PeerIncompatible("no extended master secret");
    assert_eq!(side.failed, Some(reason));
}

#[test]
fn forged_datagrams_do_not_end_a_connection() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let now = Net::new(8, 0, 0).run(&mut sides, start());
        for side in &mut sides {
            for content in 0..=255 {
                for epoch in 0..3 {
                    for len in [0, 1, 2, 16, 40] {
                        let forged = record(content, epoch, 200, &vec![content ^ 0x5a; len]);
                        side.endpoint.handle_datagram(now, &forged);
                    }
                }
            }
            for suite in [0x0000, 0xc02b] {
                side.endpoint.handle_datagram(now, &bare_hello(suite));
            }
            side.drain(now);
            assert!(side.failed.is_none() && !side.closed);
        }
        // It still listens: a real goodbye is understood.
        sides[1].endpoint.close();
        for datagram in sides[1].drain(now) {
            sides[0].endpoint.handle_datagram(now, &datagram);
        }
        sides[0].drain(now);
        assert!(sides[0].closed);
    }
}

#[test]
fn no_length_and_no_first_byte_panics() {
    for roles in PAIRINGS {
        let mut sides = sides(roles);
        let hello = sides[roles.iter().position(|r| *r == DtlsRole::Active).unwrap()]
            .drain(start())
            .remove(0);
        for side in &mut sides {
            for len in 0..=1_500 {
                side.endpoint.handle_datagram(start(), &vec![22; len]);
                side.endpoint.handle_datagram(start(), &hello[..len.min(hello.len() - 1)]);
            }
            for first in 0..=255 {
                let mut bytes = hello.clone();
                bytes[0] = first;
                bytes[12] ^= 1;
                side.endpoint.handle_datagram(start(), &bytes);
            }
            side.drain(start());
            assert!(side.failed.is_none());
        }
    }
}

/// A peer of its own kind: `openssl s_client` against our passive side, over loopback.
fn openssl(name: &str, key_type: &[&str], profile: &str) -> Option<(Side, String)> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (key, cert) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-subj", "/CN=peer", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .args(key_type)
        .stderr(Stdio::null())
        .status();
    let Ok(made) = made else {
        println!("skipped: there is no openssl program here");
        return None;
    };
    assert!(made.success());
    let der = Command::new("openssl")
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&cert)
        .output()
        .unwrap()
        .stdout;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let exported_len = if profile.contains("SHA1_80") { "60" } else { "56" };
    let mut client = Command::new("openssl")
        .args(["s_client", "-dtls1_2", "-use_srtp", profile])
        .args(["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", exported_len])
        .args(["-connect", &socket.local_addr().unwrap().to_string(), "-cert"])
        .arg(&cert)
        .arg("-key")
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Fingerprint::of_certificate(HashFunction::Sha384, &der);
    let started = clock::now();
    let identity = Identity::generate().unwrap();
    let mut side = Side::new(&identity, DtlsRole::Passive, &peer, started);
    let mut buffer = [0; 2_048];
    let mut told = false;
    while !side.closed && side.failed.is_none() {
        let now = clock::now();
        assert!(now.since(started) < Duration::from_secs(20), "openssl does not get on");
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            side.endpoint.handle_datagram(now, &buffer[..len]);
            for datagram in side.drain(now) {
                socket.send_to(&datagram, from).unwrap();
            }
        }
        if side.keys.is_some() && !told {
            // Asks it to quit, which it does with a close_notify.
            told = client.stdin.as_mut().unwrap().write_all(b"Q\n").is_ok();
        }
    }
    drop(client.stdin.take());
    if side.failed.is_some() {
        client.kill().unwrap();
    }
    let output = client.wait_with_output().unwrap();
    Some((side, String::from_utf8_lossy(&output.stdout).into_owned()))
}

const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn openssl_connects_with_the_profile_it_asks_for_and_has_the_same_keys() {
    let cases = [
        ("gcm", "SRTP_AEAD_AES_128_GCM", Profile::AeadAes128Gcm),
        ("cm", "SRTP_AES128_CM_SHA1_80", Profile::Aes128CmHmacSha1_80),
    ];
    for (name, asked, profile) in cases {
        let Some((side, text)) = openssl(name, &EC, asked) else { return };
        let keys = side.keys.unwrap_or_else(|| panic!("{:?}\n{text}", side.failed));
        assert_eq!(keys.profile, profile);
        assert!(text.contains(asked), "{text}");
        let hex = text.split("Keying material: ").nth(1).unwrap().split_whitespace().next();
        let (pairs, _) = hex.unwrap().as_bytes().as_chunks::<2>();
        let exported: Vec<u8> = pairs
            .iter()
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
        let (keys_out, salts_out) = exported.split_at(2 * key_len);
        let client = MasterKey::new(profile, &keys_out[..key_len], &salts_out[..salt_len]);
        let server = MasterKey::new(profile, &keys_out[key_len..], &salts_out[salt_len..]);
        assert_same(profile, &client.unwrap(), &keys.remote);
        assert_same(profile, &keys.local, &server.unwrap());
    }
}

#[test]
fn peer_with_an_rsa_certificate_alone_is_told_apart() {
    let Some((side, _)) = openssl("rsa", &["-newkey", "rsa:2048"], "SRTP_AEAD_AES_128_GCM") else {
        return;
    };
    assert!(side.keys.is_none());
    assert!(matches!(side.failed, Some(SessionError::PeerIncompatible(_))), "{:?}", side.failed);
}
