//! The one transport of a session: BUNDLE, ICE credentials, fingerprints and the DTLS role.

use sluice_engine::dtls::DtlsRole;
use sluice_engine::dtls::Fingerprint;
use sluice_engine::ice::Credentials;
use sluice_engine::session::params::RemoteParams;

use super::error::NegotiationError;
use super::parse::{Description, MediaSection, Setup};

/// The transport that a description names for the sections that are accepted.
pub(super) struct DescribedTransport {
    pub ice: Credentials,
    pub fingerprints: Vec<Fingerprint>,
    pub setup: Setup,
}

/// What became of the peer's ICE credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IceChange {
    First,
    Same,
    Restart,
}

impl Description {
    /// Whether a section shares the transport of the BUNDLE group; without a group each live section would have its own.
    pub(super) fn is_bundled(&self, section: &MediaSection) -> bool {
        match (&self.bundle, section.mid) {
            (None, _) => true,
            (Some(mids), Some(mid)) => mids.iter().any(|m| m == mid.as_str()),
            (Some(_), None) => false,
        }
    }

    /// Finds the transport of the accepted sections; `None` when none is accepted.
    ///
    /// The first accepted section in the group's order has it. Attributes that are missing there are taken from the next that has
    /// them: a peer may write them once, in a section that we reject. Source: RFC 9143 §7.1.3, §7.3.1.
    pub(super) fn transport(
        &self,
        accepted: &[bool],
    ) -> Result<Option<DescribedTransport>, NegotiationError> {
        let mut chosen: Vec<&MediaSection> = self
            .sections
            .iter()
            .zip(accepted)
            .filter(|(_, accepted)| **accepted)
            .map(|(section, _)| section)
            .collect();
        let rank = |section: &MediaSection| {
            let mids = self.bundle.as_deref().unwrap_or_default();
            let mid = section.mid?;
            mids.iter().position(|m| m == mid.as_str())
        };
        chosen.sort_by_cached_key(|section| rank(section));
        let Some(&tagged) = chosen.first() else { return Ok(None) };
        if self.bundle.is_some() {
            let others = self.sections.iter().filter(|s| s.is_live && self.is_bundled(s));
            chosen.extend(others);
        }
        let missing =
            |what: &str| NegotiationError::bad(&tagged.place, format!("{what} is missing"));
        let ice = chosen.iter().find_map(|s| s.ice.clone());
        let fingerprints = chosen.iter().map(|s| &s.fingerprints).find(|f| !f.is_empty());
        let setup = chosen.iter().find_map(|s| s.setup);
        Ok(Some(DescribedTransport {
            ice: ice.ok_or_else(|| missing("a=ice-ufrag with a=ice-pwd"))?,
            fingerprints: fingerprints.cloned().ok_or_else(|| missing("a=fingerprint"))?,
            setup: setup.ok_or_else(|| missing("a=setup"))?,
        }))
    }
}

impl DescribedTransport {
    /// Our role after an offer of the peer. A role is kept for as long as the association lives. Source: RFC 8842 §5.3, §5.5.
    pub(super) fn role_of_offer(
        &self,
        current: Option<&RemoteParams>,
    ) -> Result<DtlsRole, NegotiationError> {
        let role = match (current.map(|c| c.dtls_role), self.setup) {
            (None, Setup::ActPass | Setup::Active) => DtlsRole::Passive,
            (None, Setup::Passive) => DtlsRole::Active,
            (Some(role), Setup::ActPass) => role,
            (Some(DtlsRole::Passive), Setup::Active) => DtlsRole::Passive,
            (Some(DtlsRole::Active), Setup::Passive) => DtlsRole::Active,
            (Some(_), _) => return Err(NegotiationError::state(ROLE_CHANGED)),
        };
        Ok(role)
    }

    /// Our role after an answer to our offer, which says `actpass`. Source: RFC 8842 §5.4.
    pub(super) fn role_of_answer(
        &self,
        current: Option<&RemoteParams>,
    ) -> Result<DtlsRole, NegotiationError> {
        let role = match self.setup {
            Setup::Active => DtlsRole::Passive,
            Setup::Passive => DtlsRole::Active,
            Setup::ActPass => {
                let problem =
                    "a=setup:actpass stands only in offers; an answer says active or passive";
                return Err(NegotiationError::bad("the answer", problem));
            }
        };
        match current {
            Some(current) if current.dtls_role != role => {
                Err(NegotiationError::state(ROLE_CHANGED))
            }
            _ => Ok(role),
        }
    }

    /// Compares with what the peer said before.
    ///
    /// # Errors
    /// `State` when the certificate changed, `BadSdp` when only one of ufrag and password did.
    pub(super) fn compare(
        &self,
        current: Option<&RemoteParams>,
    ) -> Result<IceChange, NegotiationError> {
        let Some(current) = current else { return Ok(IceChange::First) };
        let is_same = self.fingerprints.len() == current.fingerprints.len()
            && self.fingerprints.iter().all(|f| current.fingerprints.contains(f));
        if !is_same {
            return Err(NegotiationError::state(
                "a=fingerprint changed; another certificate needs another session",
            ));
        }
        compare_credentials(&self.ice, &current.ice)
    }
}

/// Whether the peer's credentials mean an ICE restart. Source: RFC 8839 §4.4.1.1.1.
pub(super) fn compare_credentials(
    described: &Credentials,
    current: &Credentials,
) -> Result<IceChange, NegotiationError> {
    match (described.ufrag == current.ufrag, described.pwd == current.pwd) {
        (true, true) => Ok(IceChange::Same),
        (false, false) => Ok(IceChange::Restart),
        _ => Err(NegotiationError::bad(
            "the ICE credentials",
            "a=ice-ufrag and a=ice-pwd change together or not at all",
        )),
    }
}

const ROLE_CHANGED: &str =
    "a=setup asks for another DTLS role than the running association has; offer actpass";
