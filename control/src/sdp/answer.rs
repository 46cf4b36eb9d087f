//! An offer of the peer, and our answer. Source: RFC 9429 §5.3, RFC 3264 §6.

use std::sync::Arc;

use sluice_engine::dtls::DtlsRole;
use sluice_engine::ids::Mid;
use sluice_engine::session::params::{MediaKind, RemoteParams};
use sluice_engine::wire::rtp_ext::Extension;

use super::bundle_ids::ExtensionIds;
use super::codecs::Codec;
use super::data_channel::check_data_section;
use super::error::NegotiationError;
use super::negotiator::{Change, Negotiated, Negotiator, RemoteTrack};
use super::params::{is_same_track, leg_params, may_go_on, payload_maps, track_params};
use super::parse::{Description, MediaSection, SectionKind, Setup, parse_description};
use super::policy::Policy;
use super::state::{ChangeLog, Leg, Section, State, Terms};
use super::transport::IceChange;

impl Negotiator {
    /// Answers an offer of the peer.
    ///
    /// # Errors
    /// Any [`NegotiationError`]; nothing has changed then.
    pub fn handle_offer(&mut self, sdp: &str) -> Result<Negotiated, NegotiationError> {
        if self.outstanding.is_some() {
            return Err(NegotiationError::Glare);
        }
        let mut offer = parse_description(sdp)?;
        offer.keep_codecs(self.policy.codecs);
        check_continuity(&self.agreed, &offer)?;
        self.policy.check_sections(&offer)?;
        let accepted = accept_sections(&offer, &self.policy)?;
        self.policy.check_tracks(&offer, &accepted)?;
        if self.agreed.has_ended() && accepted.contains(&true) {
            return Err(NegotiationError::state(
                "the transport ended when the last m= section was stopped; open another session",
            ));
        }
        if self.agreed.sections.is_empty() {
            check_purpose(&offer, &accepted, &self.policy)?;
        }
        let mut next = self.agreed.clone();
        // There may be room now.
        next.crowded_out.clear();
        let mut log = ChangeLog::default();
        // The last step that can fail.
        let setup = self.take_offered_transport(&mut next, &offer, &accepted, &mut log)?;
        next.bundled = offer.bundle.is_some();
        next.extmap_allow_mixed = offer.extmap_allow_mixed;
        offer.sections.iter().for_each(|section| next.note(section));
        for (index, section) in offer.sections.iter().enumerate() {
            self.answer_section(&mut next, index, section, accepted[index], &mut log);
        }
        let answer = self.write(&next, setup);
        self.agreed = next;
        // It lasts as long as the session, and a first section makes room for four.
        self.agreed.sections.shrink_to_fit();
        // The offer has told which sections the peer has.
        self.withdrawn.clear();
        Ok(Negotiated { answer, changes: log.into_changes() })
    }

    fn take_offered_transport(
        &mut self,
        next: &mut State,
        offer: &Description,
        accepted: &[bool],
        log: &mut ChangeLog,
    ) -> Result<Setup, NegotiationError> {
        let Some(transport) = offer.transport(accepted)? else { return Ok(Setup::Passive) };
        let current = next.remote.as_ref();
        let dtls_role = transport.role_of_offer(current)?;
        let change = transport.compare(current)?;
        if change == IceChange::Restart {
            next.ice = self.restarted_credentials(&mut log.transport);
        }
        if change != IceChange::Same {
            let remote = RemoteParams {
                ice: transport.ice,
                fingerprints: transport.fingerprints,
                dtls_role,
            };
            log.transport.push(Change::SetRemote(remote.clone()));
            next.remote = Some(remote);
        }
        Ok(match dtls_role {
            DtlsRole::Passive => Setup::Passive,
            DtlsRole::Active => Setup::Active,
        })
    }

    fn answer_section(
        &mut self,
        next: &mut State,
        index: usize,
        offered: &MediaSection,
        accepted: bool,
        log: &mut ChangeLog,
    ) {
        // A stopped section may come back as something else entirely.
        let before = next.sections.get(index).filter(|s| !s.stopped).cloned();
        let mut section = before.unwrap_or_else(|| {
            let ours = self.withdrawn.get(index).is_some_and(|s| s.ours && s.mid == offered.mid);
            Section { ours, ..Section::of_peer(offered) }
        });
        match (accepted, offered.mid, offered.kind) {
            (true, Some(mid), SectionKind::Media(kind)) => {
                self.answer_accepted(next, &mut section, offered, mid, kind, log);
            }
            (true, Some(_), SectionKind::DataChannel) => section.take_data(offered),
            _ => section.stop(&mut next.declined, log),
        }
        match next.sections.get_mut(index) {
            Some(slot) => *slot = section,
            None => next.sections.push(section),
        }
    }

    fn answer_accepted(
        &mut self,
        next: &mut State,
        section: &mut Section,
        offered: &MediaSection,
        mid: Mid,
        kind: MediaKind,
        log: &mut ChangeLog,
    ) {
        let publishes = self.policy.publish && offered.direction.send;
        let is_for_tracks = section.ours || (self.policy.place_in_answers && !publishes);
        section.receptive = offered.direction.recv && is_for_tracks;

        let policy = self.policy;
        let mut open = Terms::of_offer(offered, &next.extension_ids, |_| true);
        if publishes && policy.simulcast {
            open.layers.clone_from(&offered.layers);
        }
        let narrow = Terms::of_offer(offered, &next.extension_ids, |e| policy.sends(e));
        let narrow = if policy.transport_cc { narrow } else { narrow.without_transport_cc() };
        self.take_publication(section, offered, mid, kind, publishes.then_some(&open), log);

        if let Some(leg) = section.leg.take() {
            section.leg = self.keep_leg(next, section, leg, offered, mid, &narrow, log);
        }
        if section.leg.is_none() && section.receptive && self.policy.subscribe {
            match self.policy.place_in_answers {
                true => section.leg = self.place_leg(next, section, mid, kind, &narrow, log),
                // The track that was paused here comes back by our next offer.
                false => section.paused = None,
            }
        }
        section.terms = match (&section.published, &section.leg) {
            (Some(_), _) => open,
            (None, Some(leg)) => narrow.for_track(&leg.track),
            (None, None) if self.policy.publish => open,
            (None, None) => narrow,
        };
        section.direction = section.wanted_direction();
    }

    /// Compares what the peer publishes here with what it published before. `terms` is `None` when it sends nothing.
    pub(super) fn take_publication(
        &mut self,
        section: &mut Section,
        described: &MediaSection,
        mid: Mid,
        kind: MediaKind,
        terms: Option<&Terms>,
        log: &mut ChangeLog,
    ) {
        let before = section.published.take();
        let Some(terms) = terms.filter(|terms| !terms.codecs.is_empty()) else {
            section.source_stream = None;
            log.removals.extend(before.map(|params| Change::Unpublish(params.track)));
            return;
        };
        let ssrcs = (described.ssrcs.as_slice(), described.rtx_ssrcs.as_slice());
        let describe = |track| track_params(track, mid, kind, terms, ssrcs);
        // A track of another stream is another one, whatever else stayed. Descriptions without names say nothing of it.
        let was_of = section.source_stream.take();
        let moved = was_of.is_some() && described.stream.is_some() && was_of != described.stream;
        section.source_stream = described.stream.clone().or(was_of);
        if let Some(before) = before {
            if !moved && is_same_track(&before, &describe(before.track)) {
                section.published = Some(before);
                return;
            }
            log.removals.push(Change::Unpublish(before.track));
        }
        let params = describe(self.supply.track_id());
        let track = RemoteTrack {
            track: params.track,
            kind,
            codecs: terms.codecs.clone(),
            stream: self.name.clone(),
            name: format!("track-{}", params.track),
            source_stream: section.source_stream.clone(),
            label: described.label.clone().unwrap_or_else(|| mid.as_str().to_owned()),
        };
        section.published = Some(params.clone());
        log.additions.push(Change::Publish { params, track });
    }

    /// Looks at a leg of ours in an offer of the peer: it stays, is paused by the direction, or starts anew with other payload types.
    #[allow(clippy::too_many_arguments, reason = "one step of answer_accepted, which has them all")]
    fn keep_leg(
        &mut self,
        next: &mut State,
        section: &mut Section,
        leg: Leg,
        offered: &MediaSection,
        mid: Mid,
        terms: &Terms,
        log: &mut ChangeLog,
    ) -> Option<Leg> {
        if !offered.direction.recv {
            log.remove_leg(&leg);
            section.paused = Some(leg.track.track);
            return None;
        }
        let ssrcs = (leg.ssrc, leg.rtx_ssrc);
        let described = leg_params(&self.policy, leg.id, mid, &leg.track, ssrcs, terms);
        if let (Some(described), Some(running)) = (&described, &leg.live)
            && may_go_on(running, described)
        {
            return Some(leg);
        }
        log.remove_leg(&leg);
        let renewed = self.start_leg(&leg.track, mid, terms, log);
        if renewed.is_none() {
            next.declined.insert(leg.track.track);
        }
        renewed
    }

    /// Puts a waiting track into a free section of the peer's offer: the one that was paused here, else the first that fits.
    fn place_leg(
        &mut self,
        next: &State,
        section: &mut Section,
        mid: Mid,
        kind: MediaKind,
        terms: &Terms,
        log: &mut ChangeLog,
    ) -> Option<Leg> {
        let fits = |track: &&Arc<RemoteTrack>| {
            track.kind == kind && !payload_maps(track, &terms.codecs, false).is_empty()
        };
        let paused = section.paused.take();
        let track = match paused {
            Some(paused) => self.tracks.iter().filter(fits).find(|t| t.track == paused),
            None => self.unplaced(next).find(fits),
        };
        let track = Arc::clone(track?);
        self.start_leg(&track, mid, terms, log)
    }

    fn start_leg(
        &mut self,
        track: &Arc<RemoteTrack>,
        mid: Mid,
        terms: &Terms,
        log: &mut ChangeLog,
    ) -> Option<Leg> {
        let maps = payload_maps(track, &terms.codecs, true);
        if maps.is_empty() {
            return None;
        }
        let ssrc = self.fresh_ssrc()?;
        let rtx_ssrc = match maps.iter().any(|map| map.rtx.is_some()) {
            true => Some(self.fresh_ssrc()?),
            false => None,
        };
        let id = self.supply.leg_id();
        let ssrcs = (ssrc, rtx_ssrc);
        let live = leg_params(&self.policy, id, mid, track, ssrcs, terms)?;
        log.additions.push(Change::AddLeg(live.clone()));
        Some(Leg { id, track: Arc::clone(track), ssrc, rtx_ssrc, live: Some(live) })
    }
}

impl Terms {
    /// What we take of an offered section, in its order and with its numbers.
    fn of_offer(
        offered: &MediaSection,
        ids: &ExtensionIds,
        wanted: impl Fn(Extension) -> bool,
    ) -> Self {
        let known = offered.extensions.iter().filter_map(|&(id, extension)| Some((id, extension?)));
        Self {
            codecs: offered.codecs.clone(),
            extensions: known.filter(|&(id, e)| ids.means(id, e) && wanted(e)).collect(),
            rtcp_rsize: offered.rtcp_rsize,
            extmap_allow_mixed: offered.extmap_allow_mixed,
            layers: Vec::new(),
        }
    }

    /// What is left of it for a subscriber of `track`.
    fn for_track(mut self, track: &RemoteTrack) -> Self {
        self.codecs.retain(|taken| track.codecs.iter().any(|sent| sent.is_taken_by(taken)));
        self
    }

    fn without_transport_cc(mut self) -> Self {
        let strip = |codec: &mut Codec| codec.feedback = codec.feedback.without_transport_cc();
        self.codecs.iter_mut().for_each(strip);
        self
    }
}

/// Checks that an offer or answer goes on where the last description stopped. Source: RFC 9429 §5.2.2, RFC 3264 §8.
pub(super) fn check_continuity(
    state: &State,
    described: &Description,
) -> Result<(), NegotiationError> {
    let (before, here) = (state.sections.len(), described.sections.len());
    if here < before {
        let problem = format!(
            "{here} m= sections where {before} were agreed; sections are stopped by port 0, never taken out"
        );
        return Err(NegotiationError::bad("the session", problem));
    }
    for (section, described) in state.sections.iter().zip(&described.sections) {
        if section.stopped || !described.is_live {
            continue;
        }
        if section.mid != described.mid || section.media != described.media {
            let mid = section.mid.map(|mid| mid.as_str().to_owned()).unwrap_or_default();
            let problem = format!("stands where {} with a=mid:{mid} was agreed", section.media);
            return Err(NegotiationError::bad(&described.place, problem));
        }
    }
    Ok(())
}

/// Decides which sections of an offer are accepted.
fn accept_sections(offer: &Description, policy: &Policy) -> Result<Vec<bool>, NegotiationError> {
    let live = offer.sections.iter().filter(|s| s.is_live).count();
    if live > 1 && offer.bundle.is_none() {
        return Err(NegotiationError::unsupported(
            "the session",
            "several m= sections without a=group:BUNDLE; all media must share one transport (RFC 9143)",
        ));
    }
    let mut accepted = Vec::with_capacity(offer.sections.len());
    let mut has_data = false;
    for section in &offer.sections {
        let is_data = section.kind == SectionKind::DataChannel;
        // One transport carries one association.
        let is_accepted = !(is_data && has_data) && accept_section(offer, section, policy)?;
        has_data |= is_data && is_accepted;
        accepted.push(is_accepted);
    }
    check_ssrcs(offer, &accepted)?;
    Ok(accepted)
}

fn accept_section(
    offer: &Description,
    section: &MediaSection,
    policy: &Policy,
) -> Result<bool, NegotiationError> {
    if !section.is_live {
        return Ok(false);
    }
    let kind = match section.kind {
        SectionKind::Media(kind) => kind,
        SectionKind::DataChannel if policy.data_channel => {
            check_data_section(section)?;
            return Ok(offer.is_bundled(section));
        }
        SectionKind::DataChannel | SectionKind::Other => return Ok(false),
    };
    check_media_section(section)?;
    let reject = |problem: String| match policy.all_or_nothing {
        true => Err(NegotiationError::unsupported(&section.place, problem)),
        false => Ok(false),
    };
    if !offer.is_bundled(section) {
        return reject("the section stands outside the BUNDLE group".to_owned());
    }
    if section.codecs.is_empty() {
        return reject(format!("no codec in common; taken are {}", policy.codec_names(kind)));
    }
    Ok(true)
}

/// What every live audio or video section of a peer must have.
pub(super) fn check_media_section(section: &MediaSection) -> Result<(), NegotiationError> {
    let place = &section.place;
    if section.mid.is_none() {
        return Err(NegotiationError::bad(place, "a=mid is missing"));
    }
    // Source: RFC 9429 §5.1.2.
    let protocols = ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "RTP/SAVPF"];
    if !protocols.contains(&section.protocol.as_str()) {
        let problem =
            "the protocol must be UDP/TLS/RTP/SAVPF: media is always encrypted by DTLS-SRTP";
        return Err(NegotiationError::unsupported(place, problem));
    }
    if !section.rtcp_mux {
        let problem = "a=rtcp-mux is missing; RTP and RTCP must share one port (RFC 9143 §9.3)";
        return Err(NegotiationError::unsupported(place, problem));
    }
    Ok(())
}

/// One SSRC cannot lead to two tracks.
pub(super) fn check_ssrcs(
    described: &Description,
    accepted: &[bool],
) -> Result<(), NegotiationError> {
    let mut seen = std::collections::HashSet::new();
    for (section, _) in described.sections.iter().zip(accepted).filter(|(_, accepted)| **accepted) {
        for ssrc in section.ssrcs.iter().chain(&section.rtx_ssrcs) {
            if !seen.insert(*ssrc) {
                let problem = format!("SSRC {ssrc} is named in another m= section too");
                return Err(NegotiationError::bad(&section.place, problem));
            }
        }
    }
    Ok(())
}

/// Whether a session's first offer asks for something that its kind of session does.
fn check_purpose(
    offer: &Description,
    accepted: &[bool],
    policy: &Policy,
) -> Result<(), NegotiationError> {
    let any = |wanted: fn(&MediaSection) -> bool| {
        offer.sections.iter().zip(accepted).any(|(s, accepted)| *accepted && wanted(s))
    };
    let problem = match policy {
        Policy { subscribe: false, .. } if !any(|s| s.direction.send) => {
            "it only publishes, and the offer has no sendonly or sendrecv audio or video section"
        }
        Policy { publish: false, .. } if !any(|s| s.direction.recv) => {
            "it only plays, and the offer has no recvonly or sendrecv audio or video section with a common codec"
        }
        _ => return Ok(()),
    };
    Err(NegotiationError::NotAllowed { problem: problem.to_owned() })
}
