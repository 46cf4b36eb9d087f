//! The negotiation of one session.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_engine::dtls::Fingerprint;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{LegId, Mid, Ssrc, TrackId};
use sluice_engine::session::params::{LegParams, MediaKind, RemoteParams, TrackParams};

use super::candidates::Candidate;
use super::codecs::Codec;
use super::error::NegotiationError;
use super::fragment::{Fragment, write_restart};
use super::parse::{Setup, is_msid_char};
use super::policy::Policy;
use super::state::{Section, State};
use super::transport::{IceChange, compare_credentials};
use super::write::{Origin, write_description};

/// Our half of the transport.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    /// Our credentials: those in the session's `SessionParams`.
    pub ice: Credentials,
    /// The hash of our certificate.
    pub fingerprint: Fingerprint,
    /// Where we are reached; [`super::host_candidates`] makes them.
    pub candidates: Vec<Candidate>,
}

/// What a negotiator asks of its caller: numbers, credentials and chance.
pub trait Supply: Send {
    /// A track number that was never used in this process.
    fn track_id(&mut self) -> TrackId;
    /// A leg number that was never used in this process.
    fn leg_id(&mut self) -> LegId;
    /// New ICE credentials that lead to this session's shard, for an ICE restart.
    fn credentials(&mut self) -> Credentials;
    /// Fills `bytes` from a source that nobody can guess.
    fn random(&mut self, bytes: &mut [u8]);
}

/// A published track as subscribers must know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteTrack {
    /// The track.
    pub track: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it may be encoded with, in the publisher's order and with the publisher's payload types.
    pub codecs: Vec<Codec>,
    /// The stream as subscribers see it: the first word of `a=msid`, and the CNAME, so that receivers play a publisher's tracks in
    /// step. The negotiator fills in the publisher's session name.
    pub stream: String,
    /// The track as subscribers see it: the second word of `a=msid`. The negotiator fills in `track-` and the track's number, which
    /// nobody can claim for another track.
    pub name: String,
    /// The publisher's own name for the track: the second word of its `a=msid`, else its mid.
    pub label: String,
    /// The publisher's own name for the stream that the track belongs to: the first word of its `a=msid`, if it names one.
    pub source_stream: Option<String>,
}

/// What a negotiation did to the session; to be carried out in order.
#[derive(Clone, Debug)]
pub enum Change {
    /// The session answers to new credentials of ours.
    RestartIce {
        /// The new credentials.
        local: Credentials,
    },
    /// The peer's half of the transport is known, or has new ICE credentials.
    SetRemote(RemoteParams),
    /// The peer publishes a track.
    Publish {
        /// For the engine.
        params: TrackParams,
        /// For the negotiators of other sessions of the call: [`Negotiator::add_track`].
        track: RemoteTrack,
    },
    /// The peer no longer publishes a track.
    Unpublish(TrackId),
    /// A track is forwarded to the peer.
    AddLeg(LegParams),
    /// A track is no longer forwarded to the peer.
    RemoveLeg(LegId),
}

/// The outcome of an offer of the peer.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// The answer's text.
    pub answer: String,
    /// What changed.
    pub changes: Vec<Change>,
}

/// The outcome of a fragment.
#[derive(Clone, Debug)]
pub enum FragmentOutcome {
    /// Candidates, which an ICE-lite agent has no use for.
    Trickled,
    /// The peer restarted ICE.
    Restarted {
        /// The fragment to answer with: our new credentials and our candidates.
        answer: String,
        /// What changed.
        changes: Vec<Change>,
    },
}

/// Where a track stands in this session's descriptions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LegSummary {
    /// The leg.
    pub leg: LegId,
    /// The track.
    pub track: TrackId,
    /// The m= section.
    pub mid: Mid,
    /// Whether the peer has agreed; false while it stands in an offer that waits for its answer.
    pub agreed: bool,
}

/// The negotiation of one session: what was agreed, what is offered, what waits.
///
/// Every method leaves it unchanged when it returns an error. We are the impolite side: while an offer of ours waits for its answer,
/// offers of the peer are refused with [`NegotiationError::Glare`].
pub struct Negotiator {
    pub(super) policy: Policy,
    pub(super) name: String,
    pub(super) supply: Box<dyn Supply>,
    pub(super) local: LocalTransport,
    origin: Origin,
    /// Everything that should reach the peer, in the order of its coming.
    pub(super) tracks: Vec<Arc<RemoteTrack>>,
    /// Every SSRC that we ever announced in this session: a key never sees one twice (RFC 7714 §8.4).
    used_ssrcs: BTreeSet<Ssrc>,
    pub(super) agreed: State,
    pub(super) outstanding: Option<Outstanding>,
    /// Our new credentials of an ICE restart that the peer has not been told of.
    pub(super) restart: Option<Credentials>,
    /// The sections of an offer that was rolled back: the peer may have them all the same. See [`Negotiator::rollback_offer`].
    pub(super) withdrawn: Vec<Section>,
}

/// Our offer that waits for its answer.
pub(super) struct Outstanding {
    pub state: State,
    pub text: String,
    /// Whether it restarts ICE.
    pub restarts: bool,
}

impl Negotiator {
    /// Starts with nothing agreed. `name` is the session's name within its call: what the peer publishes carries it as stream id.
    /// Characters that may not stand in a stream id are replaced by `_`, and 64 are kept.
    pub fn new(
        name: &str,
        local: LocalTransport,
        policy: Policy,
        mut supply: Box<dyn Supply>,
    ) -> Self {
        let mut bytes = [0; 8];
        supply.random(&mut bytes);
        // RFC 9429 §5.2.1: 64 bits with the highest zero.
        let session_id = u64::from_be_bytes(bytes) >> 1;
        Self {
            policy,
            name: msid_word(name),
            supply,
            origin: Origin { session_id, version: 0 },
            tracks: Vec::new(),
            used_ssrcs: BTreeSet::new(),
            agreed: State::new(local.ice.clone()),
            outstanding: None,
            restart: None,
            withdrawn: Vec::new(),
            local,
        }
    }

    /// The offer that waits for its answer, for a client that has lost it.
    pub fn outstanding_offer(&self) -> Option<&str> {
        self.outstanding.as_ref().map(|offer| offer.text.as_str())
    }

    /// Whether an offer of ours waits for its answer.
    pub fn is_offer_pending(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Whether [`Negotiator::make_offer`] has something to say; false while an offer waits for its answer.
    pub fn needs_offer(&self) -> bool {
        self.policy.offers
            && self.outstanding.is_none()
            && !self.agreed.has_ended()
            && (self.must_tell_of_restart()
                || self.agreed.has_stale_direction()
                || self.unplaced(&self.agreed).next().is_some())
    }

    /// A track of somebody else should reach this peer. It waits for our next offer, or for a free section of the peer's next offer.
    /// A track that is here already is left alone, and so is every track when the peer subscribes to nothing.
    ///
    /// Of `stream` and `name`, characters that may not stand in `a=msid` are replaced by `_`, and 64 are kept.
    pub fn add_track(&mut self, track: RemoteTrack) {
        let is_known = self.tracks.iter().any(|t| t.track == track.track);
        if self.policy.subscribe && !is_known {
            let (stream, name) = (msid_word(&track.stream), msid_word(&track.name));
            self.tracks.push(Arc::new(RemoteTrack { stream, name, ..track }));
        }
    }

    /// Whether a track is to reach this peer, or does.
    pub fn has_track(&self, track: TrackId) -> bool {
        self.tracks.iter().any(|known| known.track == track)
    }

    /// Where we tell the peer to reach us.
    pub fn local_candidates(&self) -> &[Candidate] {
        &self.local.candidates
    }

    /// The first m= section that is not stopped, as far as it was agreed.
    pub fn first_mid(&self) -> Option<Mid> {
        self.agreed.sections.iter().find(|section| !section.stopped)?.mid
    }

    /// A track should no longer reach this peer. The leg to remove at once, if there is one; the description follows with the next offer.
    pub fn remove_track(&mut self, track: TrackId) -> Option<Change> {
        self.tracks.retain(|t| t.track != track);
        if let Some(offer) = &mut self.outstanding {
            offer.state.forget_track(track);
        }
        self.agreed.forget_track(track).map(Change::RemoveLeg)
    }

    /// Restarts ICE from our side: the change is to be carried out at once, the peer learns of it by the next offer.
    pub fn restart_ice(&mut self) -> Change {
        let local = self.supply.credentials();
        self.restart = Some(local.clone());
        Change::RestartIce { local }
    }

    /// Whether a fragment asks for an ICE restart: both credentials differ from those the peer has used.
    pub fn is_restart(&self, fragment: &Fragment) -> bool {
        let Some(remote) = &self.agreed.remote else { return false };
        fragment.ufrag != remote.ice.ufrag && fragment.pwd != remote.ice.pwd
    }

    /// Takes a fragment: trickled candidates, or an ICE restart.
    ///
    /// # Errors
    /// `State` when nothing was agreed before, `Glare` when an offer of ours is outstanding, `BadSdp` when only one of ufrag and
    /// password differs from those that the peer has used.
    /// Source: RFC 9725 §4.3.
    pub fn handle_fragment(
        &mut self,
        fragment: &Fragment,
    ) -> Result<FragmentOutcome, NegotiationError> {
        let Some(remote) = &self.agreed.remote else {
            return Err(NegotiationError::state("a fragment came before any offer was answered"));
        };
        let ice = Credentials { ufrag: fragment.ufrag.clone(), pwd: fragment.pwd.clone() };
        if compare_credentials(&ice, &remote.ice)? == IceChange::Same {
            return Ok(FragmentOutcome::Trickled);
        }
        if self.outstanding.is_some() {
            return Err(NegotiationError::Glare);
        }
        let remote = RemoteParams { ice, ..remote.clone() };
        let tagged = self.agreed.sections.iter().find(|s| !s.stopped);
        let Some((media, mid)) = tagged.and_then(|s| Some((s.media.clone(), s.mid?))) else {
            return Err(NegotiationError::state("ICE cannot restart: every m= section is stopped"));
        };
        let mut changes = Vec::new();
        let local = self.restarted_credentials(&mut changes);
        let answer = write_restart((&media, mid.as_str()), &local, &self.local.candidates);
        changes.push(Change::SetRemote(remote.clone()));
        self.agreed.ice = local;
        self.agreed.remote = Some(remote);
        Ok(FragmentOutcome::Restarted { answer, changes })
    }

    /// The tracks that stand in this session's descriptions, for telling the client which mid is which.
    pub fn legs(&self) -> Vec<LegSummary> {
        let state = self.outstanding.as_ref().map_or(&self.agreed, |offer| &offer.state);
        let summary = |section: &Section| {
            let leg = section.leg.as_ref()?;
            Some(LegSummary {
                leg: leg.id,
                track: leg.track.track,
                mid: section.mid?,
                agreed: leg.live.is_some(),
            })
        };
        state.sections.iter().filter_map(summary).collect()
    }

    /// The tracks that the peer publishes, with their m= sections.
    pub fn published(&self) -> Vec<(TrackId, Mid)> {
        let published = self.agreed.sections.iter().filter_map(|s| s.published.as_ref());
        published.map(|params| (params.track, params.mid)).collect()
    }

    /// Whether a section of data channels is agreed on.
    pub fn has_data_channel(&self) -> bool {
        self.peer_max_message_size().is_some()
    }

    /// The longest message that the peer takes on its data channels, in bytes; `None` without data channels, `usize::MAX` when the
    /// peer takes any. Source: RFC 8841 §6.
    pub fn peer_max_message_size(&self) -> Option<usize> {
        self.agreed.sections.iter().find_map(|section| section.message_bytes_max)
    }

    /// Whether the peer must hear of new credentials of ours; without a live section there is nothing to write them into.
    pub(super) fn must_tell_of_restart(&self) -> bool {
        self.restart.is_some() && self.agreed.sections.iter().any(|s| !s.stopped)
    }

    /// The tracks that have no place in `state` and may get one.
    pub(super) fn unplaced<'a>(
        &'a self,
        state: &'a State,
    ) -> impl Iterator<Item = &'a Arc<RemoteTrack>> {
        let placed = state.placed();
        self.tracks.iter().filter(move |t| !placed.contains(&t.track))
    }

    /// Our credentials after an ICE restart of the peer: those of a restart of our own that it has not heard of, else fresh ones, which
    /// the engine is told of.
    pub(super) fn restarted_credentials(&mut self, changes: &mut Vec<Change>) -> Credentials {
        if let Some(announced) = self.restart.take() {
            return announced;
        }
        let local = self.supply.credentials();
        changes.push(Change::RestartIce { local: local.clone() });
        local
    }

    /// An SSRC that this session has never seen; `None` when it has had too many of them, or the random source is broken.
    pub(super) fn fresh_ssrc(&mut self) -> Option<Ssrc> {
        if self.used_ssrcs.len() >= SSRCS_PER_SESSION_MAX {
            return None;
        }
        for _ in 0..64 {
            let mut bytes = [0; 4];
            self.supply.random(&mut bytes);
            let ssrc = Ssrc(u32::from_be_bytes(bytes));
            let is_taken = ssrc.0 == 0 || self.agreed.is_ssrc_of_peer(ssrc);
            if !is_taken && self.used_ssrcs.insert(ssrc) {
                return Some(ssrc);
            }
        }
        None
    }

    /// Writes `state` under the next version.
    pub(super) fn write(&mut self, state: &State, setup: Setup) -> String {
        self.origin.version += 1;
        write_description(state, &self.local, setup, self.origin)
    }
}

/// A name as it may stand in `a=msid`. Source: RFC 8830 §2.
fn msid_word(name: &str) -> String {
    let keep = |c: char| if u8::try_from(c).is_ok_and(is_msid_char) { c } else { '_' };
    let id: String = name.chars().take(64).map(keep).collect();
    // `-` alone means "no stream" (RFC 8830 §2).
    if id.is_empty() || id == "-" { "_".to_owned() } else { id }
}

/// A peer that makes us start a leg anew again and again is stopped here: two SSRCs each, which is far beyond an honest day.
const SSRCS_PER_SESSION_MAX: usize = 65_536;
