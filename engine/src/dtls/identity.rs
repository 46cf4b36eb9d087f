//! Our certificate: one for the process, made when it starts. Source: RFC 8122, RFC 8827 §6.5.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Config, ConfigBuilder, DtlsCertificate, certificate};

use super::{Fingerprint, HashFunction};
#[cfg(any(test, feature = "testing"))]
use crate::srtp::Profile;

/// First wait before a flight is sent again; doubles each time. A second, the default of RFC 6347 §4.2.4.1, would be heard as a
/// slow join whenever one datagram is lost; the paths of a call have round trips well below this.
const FLIGHT_WAIT: Duration = Duration::from_millis(300);
/// How often a flight is sent again: more often than [`HANDSHAKE_MAX`] leaves time for, so that this alone decides.
const FLIGHT_RETRIES: usize = 8;
/// How long a handshake may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// Largest datagram we send, bytes of UDP payload: fits every path that IPv6 may use, tunnels included.
pub const DATAGRAM_LEN_MAX: usize = 1_200;

/// An ECDSA P-256 certificate, its key and its fingerprint. Cheap to clone; shared by all shards.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
    #[cfg(any(test, feature = "testing"))]
    profile: Option<Profile>,
}

/// Why no identity could be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsError {
    /// The certificate could not be generated: the system's random source failed.
    Certificate,
    /// The cryptographic library refused its own self-test.
    Crypto,
}

impl fmt::Display for DtlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "no certificate could be generated",
            Self::Crypto => "the cryptographic library failed its self-test",
        })
    }
}

impl std::error::Error for DtlsError {}

impl Identity {
    /// Generates a key and a self-signed certificate, valid for a year from today.
    ///
    /// # Errors
    /// When the random source or the cryptographic library fails.
    pub fn generate() -> Result<Self, DtlsError> {
        let certificate =
            certificate::generate_self_signed_certificate().map_err(|_| DtlsError::Certificate)?;
        let config = config_builder().build().map_err(|_| DtlsError::Crypto)?;
        let fingerprint =
            Fingerprint::of_certificate(HashFunction::Sha256, &certificate.certificate);
        let inner = Inner {
            certificate,
            fingerprint,
            config: Arc::new(config),
            #[cfg(any(test, feature = "testing"))]
            profile: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same certificate for handshakes whose waits come from `seed`, so that a simulated call can be had again.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_seeded_handshakes(&self, seed: u64) -> Result<Self, DtlsError> {
        let builder = config_builder().dangerously_set_rng_seed(seed);
        let config = builder.build().map_err(|_| DtlsError::Crypto)?;
        let inner = Inner {
            certificate: self.certificate(),
            fingerprint: self.inner.fingerprint.clone(),
            config: Arc::new(config),
            profile: self.inner.profile,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same certificate for handshakes that end with the keys of `profile`, whatever was negotiated. Both ends must want it.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_profile(&self, profile: Profile) -> Self {
        let inner = Inner {
            certificate: self.certificate(),
            fingerprint: self.inner.fingerprint.clone(),
            config: self.config(),
            profile: Some(profile),
        };
        Self { inner: Arc::new(inner) }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn profile(&self) -> Option<Profile> {
        self.inner.profile
    }

    /// The certificate's SHA-256 hash, for `a=fingerprint`.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.inner.fingerprint
    }

    pub(super) fn certificate(&self) -> DtlsCertificate {
        self.inner.certificate.clone()
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.inner.config)
    }
}

fn config_builder() -> ConfigBuilder {
    Config::builder()
        .mtu(DATAGRAM_LEN_MAX)
        // Only paths that ICE validated reach DTLS, so the peer's address is proved: a cookie would add a round trip.
        .use_server_cookie(false)
        .require_client_certificate(true)
        .flight_start_rto(FLIGHT_WAIT)
        .flight_retries(FLIGHT_RETRIES)
        .handshake_timeout(HANDSHAKE_MAX)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.inner.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_shared_between_shards() {
        fn shareable<T: Send + Sync + Clone>(_: &T) {}
        let identity = Identity::generate().unwrap();
        shareable(&identity);
        assert_eq!(identity.clone().fingerprint(), identity.fingerprint());
        assert!(identity.fingerprint().matches(&identity.certificate().certificate));
        assert_ne!(Identity::generate().unwrap().fingerprint(), identity.fingerprint());
    }
}
