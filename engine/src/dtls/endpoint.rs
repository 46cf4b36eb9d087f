//! One handshake: datagrams in, datagrams and keys out, no sockets and no clock. Source: RFC 6347, RFC 5764.
//!
//! This is the only file that drives `dimpl`, and none of its types show outside, so that another stack can take its place.
//! DTLS 1.2 alone is spoken: as a 1.2 server `dimpl` picks the SRTP profile by its own order (AES-GCM first), as a 1.3 server it
//! follows the client, and Chromium names AES128_CM_HMAC_SHA1_80 first, which costs four times as much per packet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dimpl::{
    CertificateError, CryptoError, Dtls, Error, Output as Polled, SecurityError, SrtpProfile,
};

use super::identity::{HANDSHAKE_MAX, Identity};
use super::{Fingerprint, keying};
use crate::clock::Instant;
use crate::dtls::DtlsRole;
use crate::session_error::SessionError;
use crate::srtp::{KeyingMaterial, Profile};

/// Largest datagram that is looked at. A flight of ours and of every browser fits in less.
const RECEIVED_LEN_MAX: usize = 2_048;
/// Largest handshake message that is looked at: a certificate with a generous chain.
const MESSAGE_LEN_MAX: usize = 8_192;
/// Content type of alert records. Source: RFC 5246 §6.2.1.
const ALERT: u8 = 21;
/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Deadlines further away than this stand for "none" in `dimpl`.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// One side of one DTLS association.
///
/// After each `handle_*` and after [`DtlsEndpoint::close`], [`DtlsEndpoint::poll`] is called until it says
/// [`Output::Wait`]. Only datagrams of paths that ICE validated may be given to it.
///
/// Noise, plaintext alerts and ClientHellos that cannot be answered do not end it, whoever sent them: the first two are
/// dropped, the last is forgotten so that it does not stand in the way of the real one. What remains is what DTLS 1.2 leaves open:
/// who forges the peer's validated address and the right message of a running handshake spoils that handshake.
pub struct DtlsEndpoint {
    identity: Identity,
    role: DtlsRole,
    dtls: Option<Dtls>,
    /// Where `dimpl` writes what it has to say during the handshake, when a certificate may be longer than a datagram.
    scratch: Vec<u8>,
    /// The latest time it was told.
    now: Instant,
    /// When the handshake is given up; set once it began, cleared when it is done.
    deadline: Option<Instant>,
    /// What probably is the matter, should the handshake time out.
    suspicion: Option<SessionError>,
    fingerprints: Vec<Fingerprint>,
    /// The certificate that the peer presents; proved once there are keys.
    peer_certificate: Vec<u8>,
    /// The keys, until a fingerprint is known that they can be released for.
    keys: Option<Box<KeyingMaterial>>,
    connected: bool,
    /// Whether the handshake gave keys.
    keyed: bool,
    /// We said goodbye.
    closing: bool,
    /// An end that has to be told.
    verdict: Option<SessionError>,
}

/// What an endpoint wants of its owner.
#[derive(Debug)]
pub enum Output {
    /// So many bytes of the buffer are a datagram to send.
    Datagram(usize),
    /// So many bytes of the buffer are application data of the peer. Before [`Output::Connected`] nobody knows whose they are.
    Data(usize),
    /// The handshake is done, and the peer's certificate is one that signalling named. Comes once.
    Connected(Box<KeyingMaterial>),
    /// The peer said goodbye. Nothing follows but [`Output::Wait`].
    PeerClosed,
    /// It is over. Nothing follows but [`Output::Wait`].
    Failed(SessionError),
    /// Nothing more for now; [`DtlsEndpoint::handle_timeout`] is due at the time given.
    Wait(Option<Instant>),
}

impl DtlsEndpoint {
    /// Makes an endpoint. An active one has its ClientHello ready at once.
    pub fn new(identity: &Identity, role: DtlsRole, now: Instant) -> Self {
        let mut endpoint = Self {
            identity: identity.clone(),
            role,
            dtls: None,
            scratch: vec![0; MESSAGE_LEN_MAX],
            now,
            deadline: None,
            suspicion: None,
            fingerprints: Vec::new(),
            peer_certificate: Vec::new(),
            keys: None,
            connected: false,
            keyed: false,
            closing: false,
            verdict: None,
        };
        endpoint.begin();
        if role == DtlsRole::Active {
            endpoint.deadline = Some(now + HANDSHAKE_MAX);
        }
        endpoint
    }

    /// Names the certificates that the peer may have. Keys are released only when one of them is the one that the peer proved;
    /// until this is called they are held back. Source: RFC 8122 §6.2, RFC 8827 §6.5.
    pub fn set_remote_fingerprints(&mut self, fingerprints: Vec<Fingerprint>) {
        self.fingerprints = fingerprints;
    }

    /// Takes one datagram of the peer. Malformed, forged and oversized ones are dropped in silence.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        if datagram.len() > RECEIVED_LEN_MAX || self.closing {
            return;
        }
        match inspect(datagram) {
            Inspection::Pass => {}
            Inspection::Drop => return,
            Inspection::Alert => {
                self.suspect(SessionError::PeerIncompatible(
                    "it refused the handshake by an alert",
                ));
                return;
            }
        }
        self.advance(now);
        if self.deadline.is_none() && !self.connected && datagram.first() == Some(&HANDSHAKE) {
            self.deadline = Some(now + HANDSHAKE_MAX);
        }
        match self.guarded(|dtls| dtls.handle_packet(datagram)) {
            Some(Err(error)) if self.role == DtlsRole::Passive && blames_hello(&error) => {
                // Anyone who can forge the peer's address can send a ClientHello like this one.
                self.suspect(blame(&error));
                self.begin();
            }
            Some(Err(error)) => self.fail(blame(&error)),
            Some(Ok(())) | None => {}
        }
    }

    /// Sends a flight again, or gives up, if it is time to.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Says what there is to do. `out` holds one datagram: at least [`super::identity::DATAGRAM_LEN_MAX`] bytes.
    pub fn poll(&mut self, now: Instant, out: &mut [u8]) -> Output {
        self.advance(now);
        loop {
            if let Some(verdict) = self.verdict.take() {
                return Output::Failed(verdict);
            }
            if let Some(output) = self.release() {
                return output;
            }
            match self.poll_dtls(out) {
                Step::Datagram(len) => return Output::Datagram(len),
                Step::Data(len) => return Output::Data(len),
                Step::Certificate(der) => self.peer_certificate = der,
                Step::Connected => self.connected = true,
                Step::Keys(profile, exported) => {
                    #[cfg(any(test, feature = "testing"))]
                    let (profile, exported) = self.chosen_keys(profile, exported);
                    let keys = profile.and_then(|p| keying::cut(p, self.role, &exported));
                    self.keyed = keys.is_some();
                    self.keys = keys.map(Box::new);
                }
                Step::Closed => {
                    self.end();
                    return Output::PeerClosed;
                }
                Step::Enlarge(len) => self.scratch = vec![0; len],
                Step::Again => {}
                Step::Wait(_) if self.closing => {
                    self.end();
                    return Output::Wait(None);
                }
                Step::Wait(next) => {
                    if self.connected && self.deadline.take().is_some() {
                        // Done with the handshake: the keys came with it, or never come.
                        if !self.keyed {
                            self.fail(SessionError::PeerIncompatible("no SRTP profile in common"));
                            continue;
                        }
                        self.scratch = Vec::new();
                    }
                    let next = next.into_iter().chain(self.deadline).min();
                    return Output::Wait(next);
                }
            }
        }
    }

    /// Protects `data` and queues it as one datagram; at most so much that the record fits
    /// [`super::identity::DATAGRAM_LEN_MAX`]. Poll before the next: a full queue ends the association. Only once connected.
    pub fn send_data(&mut self, now: Instant, data: &[u8]) {
        self.advance(now);
        if self.closing {
            return;
        }
        if let Some(Err(error)) = self.guarded(|dtls| dtls.send_application_data(data)) {
            self.fail(blame(&error));
        }
    }

    /// Says goodbye: a close_notify is queued if there is a peer to tell. What arrives later is ignored.
    pub fn close(&mut self) {
        if self.guarded(|dtls| dtls.close()).is_some_and(|closed| closed.is_err()) {
            self.end();
        }
        self.closing = true;
        self.deadline = None;
        self.keys = None;
    }

    /// A fresh association that has heard nothing.
    fn begin(&mut self) {
        let (config, certificate) = (self.identity.config(), self.identity.certificate());
        let (role, now) = (self.role, self.now.to_std());
        let made = catch_unwind(|| {
            let mut dtls = Dtls::new_12(config, certificate, now);
            dtls.set_active(role == DtlsRole::Active);
            dtls.handle_timeout(now).map(|()| dtls)
        });
        match made {
            Ok(Ok(dtls)) => self.dtls = Some(dtls),
            Ok(Err(_)) | Err(_) => self.fail(SessionError::Internal),
        }
    }

    /// Tells the time. It never runs backwards in here.
    fn advance(&mut self, now: Instant) {
        if now <= self.now || self.closing {
            return;
        }
        self.now = now;
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.time_out();
            return;
        }
        if let Some(Err(error)) = self.guarded(|dtls| dtls.handle_timeout(now.to_std())) {
            match blame(&error) {
                SessionError::TimedOut(_) => self.time_out(),
                other => self.fail(other),
            }
        }
    }

    /// Calls `dimpl`. `None` when there is no association any more; a panic ends this session and no other.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Dtls) -> T) -> Option<T> {
        let dtls = self.dtls.as_mut()?;
        // What a panic leaves half changed is the association, and that is dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(dtls)));
        if outcome.is_err() {
            self.fail(SessionError::Internal);
        }
        outcome.ok()
    }

    fn poll_dtls(&mut self, out: &mut [u8]) -> Step {
        let now = self.now;
        // Taken out for the call; a panic in it leaves an ended endpoint without scratch.
        let mut scratch = std::mem::take(&mut self.scratch);
        let step = self.guarded(|dtls| {
            let in_scratch = !scratch.is_empty();
            let buffer = if in_scratch { &mut scratch[..] } else { &mut *out };
            match dtls.poll_output(buffer) {
                Polled::Packet(packet) => Step::Datagram(packet.len()),
                Polled::PeerCert(der) => Step::Certificate(der.to_vec()),
                Polled::Connected => Step::Connected,
                Polled::KeyingMaterial(exported, profile) => {
                    Step::Keys(profile_of(profile), exported.to_vec())
                }
                Polled::CloseNotify => Step::Closed,
                Polled::BufferTooSmall { needed } => Step::Enlarge(needed),
                Polled::Timeout(at) => {
                    let at = Instant::from_std(at);
                    Step::Wait((at < now + NEVER).then_some(at))
                }
                Polled::ApplicationData(data) => Step::Data(data.len()),
                _ => Step::Again,
            }
        });
        let Some(step) = step else { return Step::Wait(None) };
        if let Step::Datagram(len) | Step::Data(len) = step
            && !scratch.is_empty()
        {
            // A buffer below one datagram loses it, as the network may.
            let Some(room) = out.get_mut(..len) else {
                self.scratch = scratch;
                return Step::Again;
            };
            room.copy_from_slice(&scratch[..len]);
        }
        self.scratch = scratch;
        step
    }

    /// The profile that a test wants instead of the negotiated one, which has more bytes than that needs.
    #[cfg(any(test, feature = "testing"))]
    fn chosen_keys(
        &self,
        profile: Option<Profile>,
        mut exported: Vec<u8>,
    ) -> (Option<Profile>, Vec<u8>) {
        let chosen = self.identity.profile();
        if let Some(chosen) = chosen {
            exported.truncate(2 * (chosen.key_len() + chosen.salt_len()));
        }
        (chosen.or(profile), exported)
    }

    /// Compares the certificate that the peer proved with those that signalling named, once both are known.
    fn release(&mut self) -> Option<Output> {
        if !self.connected || self.keys.is_none() || self.fingerprints.is_empty() {
            return None;
        }
        let der = &self.peer_certificate;
        let proved = !der.is_empty() && self.fingerprints.iter().any(|f| f.matches(der));
        if !proved {
            let verdict = "its certificate is not the one that signalling named";
            self.fail(SessionError::PeerMisbehaved(verdict));
            return self.verdict.take().map(Output::Failed);
        }
        self.peer_certificate = Vec::new();
        self.keys.take().map(Output::Connected)
    }

    /// Notes what would explain a handshake that does not get on. The first explanation stays.
    fn suspect(&mut self, suspicion: SessionError) {
        if !self.connected {
            self.suspicion.get_or_insert(suspicion);
        }
    }

    fn time_out(&mut self) {
        self.fail(self.suspicion.unwrap_or(SessionError::TimedOut("DTLS handshake")));
    }

    fn fail(&mut self, verdict: SessionError) {
        self.end();
        if !self.closing {
            self.verdict = Some(verdict);
        }
    }

    fn end(&mut self) {
        self.dtls = None;
        self.scratch = Vec::new();
        self.deadline = None;
        self.keys = None;
        self.peer_certificate = Vec::new();
    }
}

/// What `dimpl` said, without its borrows.
enum Step {
    Datagram(usize),
    Data(usize),
    Certificate(Vec<u8>),
    Connected,
    Keys(Option<Profile>, Vec<u8>),
    Closed,
    Enlarge(usize),
    Again,
    Wait(Option<Instant>),
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmHmacSha1_80),
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        _ => None,
    }
}

/// Whether an error says no more than that a ClientHello, which anyone may have sent, cannot be answered.
fn blames_hello(error: &Error) -> bool {
    matches!(
        error,
        Error::SecurityError(
            SecurityError::UnsupportedClientVersion(_)
                | SecurityError::UnsupportedClientCompression
                | SecurityError::ExtendedMasterSecretNotNegotiated
                | SecurityError::NoMutuallyAcceptableCipherSuite
        )
    )
}

/// Whose fault an error is. Every one of them ends the association.
fn blame(error: &Error) -> SessionError {
    match error {
        Error::CertificateError(CertificateError::NoClientCertificateReceived) => {
            // A peer that has an RSA certificate only sends none when it is asked for ECDSA.
            SessionError::PeerIncompatible("it has no ECDSA certificate")
        }
        Error::CertificateError(
            CertificateError::UnsupportedEcCurve | CertificateError::UnsupportedHashAlgorithm(_),
        )
        | Error::CryptoError(
            CryptoError::UnsupportedPublicKeyAlgorithm
            | CryptoError::UnsupportedEcCurve
            | CryptoError::UnsupportedSignatureAlgorithm(_)
            | CryptoError::UnsupportedSignaturePair { .. }
            | CryptoError::SignatureAlgorithmNotOfferedByClient
            | CryptoError::UnsupportedEcdheNamedGroup(_)
            | CryptoError::UnsupportedKeyExchangeGroup(_)
            | CryptoError::NoSupportedKeyExchangeGroups,
        ) => SessionError::PeerIncompatible("its certificate or key exchange is not supported"),
        Error::SecurityError(SecurityError::ExtendedMasterSecretNotNegotiated) => {
            SessionError::PeerIncompatible("no extended master secret")
        }
        Error::SecurityError(
            SecurityError::NoMutuallyAcceptableCipherSuite
            | SecurityError::ServerSelectedDisallowedCipherSuite(_)
            | SecurityError::ServerSelectedIncompatibleCipherSuite(_),
        ) => SessionError::PeerIncompatible("no DTLS cipher suite in common"),
        Error::SecurityError(
            SecurityError::UnsupportedClientVersion(_)
            | SecurityError::UnsupportedServerVersion(_)
            | SecurityError::UnsupportedClientCompression
            | SecurityError::UnsupportedServerCompression(_),
        ) => SessionError::PeerIncompatible("it does not speak DTLS 1.2"),
        // Plaintext alerts do not get here: this one was authenticated.
        Error::SecurityError(SecurityError::FatalAlert { .. }) | Error::ConnectionClosed => {
            SessionError::PeerLeft
        }
        Error::Timeout(_) => SessionError::TimedOut("DTLS handshake"),
        Error::InvalidState(_) | Error::ConfigError(_) | Error::TransmitQueueFull => {
            SessionError::Internal
        }
        _ => SessionError::PeerMisbehaved("it broke the DTLS handshake"),
    }
}

/// What the outside of a datagram's records says.
#[derive(PartialEq, Eq, Debug)]
enum Inspection {
    Pass,
    /// It would make `dimpl` hold a message that is too long.
    Drop,
    /// A fatal alert that nobody has authenticated: it must not end anything. Source: RFC 6347 §4.1.2.7.
    Alert,
}

/// Looks at the plaintext records of a datagram. What is malformed passes: `dimpl` discards it.
fn inspect(mut datagram: &[u8]) -> Inspection {
    // Type, version, epoch, sequence number, length. Source: RFC 6347 §4.1.
    while let Some((header, rest)) = datagram.split_at_checked(13) {
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let Some((mut fragment, rest)) = rest.split_at_checked(len) else { break };
        datagram = rest;
        let plaintext = header[3..5] == [0, 0];
        if !plaintext {
            continue;
        }
        match header[0] {
            ALERT => return Inspection::Alert,
            HANDSHAKE => {
                // Type, length, message number, fragment offset, fragment length. Source: RFC 6347 §4.2.2.
                while let Some((header, rest)) = fragment.split_at_checked(12) {
                    let three =
                        |at| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]);
                    if three(1) as usize > MESSAGE_LEN_MAX {
                        return Inspection::Drop;
                    }
                    let Some(rest) = rest.get(three(9) as usize..) else { break };
                    fragment = rest;
                }
            }
            _ => {}
        }
    }
    Inspection::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
        let mut record = vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1];
        record.extend((fragment.len() as u16).to_be_bytes());
        record.extend(fragment);
        record
    }

    #[test]
    fn plaintext_alerts_are_found_wherever_they_stand() {
        let alert = record(21, 0, &[2, 40]);
        let hello = record(22, 0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(inspect(&alert), Inspection::Alert);
        assert_eq!(inspect(&[hello.clone(), alert].concat()), Inspection::Alert);
        assert_eq!(inspect(&record(21, 1, &[2, 40])), Inspection::Pass);
        assert_eq!(inspect(&hello), Inspection::Pass);
    }

    #[test]
    fn messages_that_are_too_long_are_dropped_by_their_first_fragment() {
        let message = |len: u32| {
            let mut message = vec![11];
            message.extend(&len.to_be_bytes()[1..]);
            message.extend([0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
            message
        };
        let longest = MESSAGE_LEN_MAX as u32;
        assert_eq!(inspect(&record(22, 0, &message(longest))), Inspection::Pass);
        assert_eq!(inspect(&record(22, 0, &message(longest + 1))), Inspection::Drop);
        let second = [message(4), message(0x00ff_ffff)].concat();
        assert_eq!(inspect(&record(22, 0, &second)), Inspection::Drop);
    }

    #[test]
    fn inspection_takes_any_bytes() {
        let mut random = fastrand::Rng::with_seed(0x5eed_0010);
        for len in 0..300 {
            for first in 0..=255 {
                let mut bytes: Vec<u8> = (0..len).map(|_| random.u8(..) & random.u8(..)).collect();
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                inspect(&bytes);
            }
        }
    }
}
