//! Our offer, and the answer of the peer. Source: RFC 9429 §5.2, §5.11; RFC 3264 §5, §8.

use std::sync::Arc;

use sluice_engine::ids::Mid;
use sluice_engine::session::params::{MediaKind, RemoteParams};
use sluice_engine::wire::rtp_ext::Extension;

use super::SECTIONS_MAX;
use super::answer::{check_continuity, check_media_section, check_ssrcs};
use super::codecs::{Codec, Feedback};
use super::data_channel::check_data_section;
use super::error::NegotiationError;
use super::negotiator::{Change, Negotiator, Outstanding, RemoteTrack};
use super::params::{leg_params, may_go_on, offered_extensions};
use super::parse::{Description, Direction, MediaSection, SectionKind, Setup, parse_description};
use super::policy::Policy;
use super::state::{ChangeLog, Leg, Section, State, Terms};
use super::transport::IceChange;

impl Negotiator {
    /// Makes one offer of all that waits; `None` when nothing does, or when an offer is outstanding already.
    pub fn make_offer(&mut self) -> Option<String> {
        if !self.needs_offer() {
            return None;
        }
        let mut next = self.agreed.clone();
        self.restore_withdrawn(&mut next);
        let waiting: Vec<Arc<RemoteTrack>> = self.unplaced(&next).cloned().collect();
        let mut placed = false;
        for track in waiting {
            match free_index(&next, track.kind) {
                None => drop(next.crowded_out.insert(track.track)),
                Some(index) => match self.offer_track(&mut next, &track, index) {
                    Some(()) => placed = true,
                    None => drop(next.declined.insert(track.track)),
                },
            }
        }
        let restarts = self.must_tell_of_restart();
        if !placed && !restarts && !next.has_stale_direction() {
            // All that waited found no room.
            self.agreed.declined = next.declined;
            self.agreed.crowded_out = next.crowded_out;
            return None;
        }
        for section in next.sections.iter_mut().filter(|s| !s.stopped) {
            section.direction = section.wanted_direction();
        }
        if let Some(ice) = self.restart.take() {
            next.ice = ice;
        }
        next.bundled = true;
        next.extmap_allow_mixed = true;
        let text = self.write(&next, Setup::ActPass);
        self.outstanding = Some(Outstanding { state: next, text: text.clone(), restarts });
        Some(text)
    }

    /// Puts a track into the section at `index`. `None` when there is no number left, or nothing in the track that could be offered.
    fn offer_track(
        &mut self,
        next: &mut State,
        track: &Arc<RemoteTrack>,
        index: usize,
    ) -> Option<()> {
        let terms = offered_terms(&self.policy, next, track);
        if terms.codecs.is_empty() {
            return None;
        }
        let ssrc = self.fresh_ssrc()?;
        let rtx_ssrc = match terms.codecs.iter().any(|codec| codec.rtx.is_some()) {
            true => Some(self.fresh_ssrc()?),
            false => None,
        };
        let mut section = match next.sections.get(index).filter(|s| !s.stopped) {
            Some(free) => free.clone(),
            None => Section::of_ours(track.kind, fresh_mid(next)?),
        };
        let id = self.supply.leg_id();
        section.leg = Some(Leg { id, track: Arc::clone(track), ssrc, rtx_ssrc, live: None });
        section.terms = terms;
        match next.sections.get_mut(index) {
            Some(slot) => *slot = section,
            None => next.sections.push(section),
        }
        Some(())
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// `State` when no offer waits for an answer; else as [`Negotiator::handle_offer`]. The offer still waits then.
    pub fn handle_answer(&mut self, sdp: &str) -> Result<Vec<Change>, NegotiationError> {
        let Some(outstanding) = &self.outstanding else {
            return Err(NegotiationError::state(
                "an answer came while no offer of ours waits for one",
            ));
        };
        let restarts = outstanding.restarts;
        let mut next = outstanding.state.clone();
        let mut answer = parse_description(sdp)?;
        answer.keep_codecs(self.policy.codecs);
        let accepted = accepted_by_answer(&next, &answer)?;
        let mut log = ChangeLog::default();
        // The last step that can fail.
        take_answered_transport(&mut next, &answer, &accepted, restarts, &mut log)?;
        answer.sections.iter().for_each(|section| next.note(section));
        for (index, described) in answer.sections.iter().enumerate() {
            let mut section = next.sections[index].clone();
            match (accepted[index], section.mid, section.kind) {
                _ if section.stopped => {}
                (true, Some(_), SectionKind::DataChannel) => section.take_data(described),
                (true, Some(mid), SectionKind::Media(kind)) => {
                    self.take_answered_section(
                        &mut next,
                        &mut section,
                        described,
                        mid,
                        kind,
                        &mut log,
                    );
                }
                _ => {
                    section.stop(&mut next.declined, &mut log);
                    next.crowded_out.clear();
                }
            }
            next.sections[index] = section;
        }
        self.agreed = next;
        self.outstanding = None;
        self.withdrawn.clear();
        Ok(log.into_changes())
    }

    fn take_answered_section(
        &mut self,
        next: &mut State,
        section: &mut Section,
        described: &MediaSection,
        mid: Mid,
        kind: MediaKind,
        log: &mut ChangeLog,
    ) {
        // What the answer says beyond the offer is void.
        let offered = section.direction;
        section.direction = Direction {
            send: offered.send && described.direction.recv,
            recv: offered.recv && described.direction.send,
        };
        let agreed = section.terms.agreed_with(described);
        let publishes = (section.published.is_some() && section.direction.recv).then_some(&agreed);
        self.take_publication(section, described, mid, kind, publishes, log);

        let Some(mut leg) = section.leg.take() else { return };
        if !section.direction.send {
            log.remove_leg(&leg);
            section.paused = Some(leg.track.track);
            return;
        }
        let ssrcs = (leg.ssrc, leg.rtx_ssrc);
        let params = leg_params(&self.policy, leg.id, mid, &leg.track, ssrcs, &agreed);
        match (params, &leg.live) {
            (Some(now), Some(running)) if may_go_on(running, &now) => section.leg = Some(leg),
            (Some(now), None) => {
                log.additions.push(Change::AddLeg(now.clone()));
                leg.live = Some(now);
                section.leg = Some(leg);
            }
            // Other payload types than agreed before need a leg with other SSRCs, which the next offer brings.
            (Some(_), Some(_)) => log.remove_leg(&leg),
            (None, _) => {
                log.remove_leg(&leg);
                next.declined.insert(leg.track.track);
            }
        }
    }
}

/// Where a further track of `kind` can stand: in a free section, else a stopped one, else behind all; `None` when there is no room.
fn free_index(next: &State, kind: MediaKind) -> Option<usize> {
    let sections = &next.sections;
    // A section of another kind is not turned into ours: a client may still hold on to it, to its data channel for example.
    let is_reusable = |s: &Section| s.stopped && s.kind == SectionKind::Media(kind);
    let here = sections.iter().position(|s| s.is_free_for(kind));
    let here = here.or_else(|| sections.iter().position(is_reusable));
    here.or(Some(sections.len()).filter(|behind| *behind < SECTIONS_MAX))
}

/// What we offer to a subscriber of a track, under the session's numbers.
fn offered_terms(policy: &Policy, next: &mut State, track: &RemoteTrack) -> Terms {
    let mut codecs: Vec<Codec> = Vec::new();
    for codec in track.codecs.iter().filter(|codec| policy.codecs.contains(&codec.name)) {
        let Some((payload_type, rtx)) = next.payloads.assign(codec) else { continue };
        if codecs.iter().any(|offered| offered.payload_type == payload_type) {
            continue;
        }
        let feedback = policy.feedback(track.kind);
        codecs.push(Codec { payload_type, rtx, feedback, ..codec.clone() });
    }
    let mut extensions: Vec<(u8, Extension)> = offered_extensions(track.kind)
        .iter()
        .filter(|&&extension| policy.sends(extension))
        .filter_map(|&extension| Some((next.extension_ids.assign(extension)?, extension)))
        .collect();
    extensions.sort_by_key(|&(id, _)| id);
    Terms { codecs, extensions, rtcp_rsize: true, ..Terms::default() }
}

/// A mid that no section has. The number of sections bounds the search.
fn fresh_mid(state: &State) -> Option<Mid> {
    (0..=2 * SECTIONS_MAX)
        .filter_map(|number| Mid::new(&format!("s{number}")))
        .find(|&mid| state.sections.iter().all(|section| section.mid != Some(mid)))
}

impl Terms {
    /// What of our offer the peer's answer takes, under the numbers that the peer wants to receive.
    fn agreed_with(&self, answered: &MediaSection) -> Terms {
        let offered = |codec: &Codec| {
            let offered = self.codecs.iter().find(|o| o.key() == codec.key())?;
            Some(Codec {
                feedback: Feedback {
                    nack: offered.feedback.nack && codec.feedback.nack,
                    pli: offered.feedback.pli && codec.feedback.pli,
                    fir: offered.feedback.fir && codec.feedback.fir,
                    transport_cc: offered.feedback.transport_cc && codec.feedback.transport_cc,
                },
                rtx: codec.rtx.filter(|_| offered.rtx.is_some()),
                ..codec.clone()
            })
        };
        let known = self.extensions.iter().copied();
        Terms {
            codecs: answered.codecs.iter().filter_map(offered).collect(),
            extensions: known
                .filter(|&(id, e)| answered.extensions.contains(&(id, Some(e))))
                .collect(),
            rtcp_rsize: self.rtcp_rsize && answered.rtcp_rsize,
            extmap_allow_mixed: self.extmap_allow_mixed && answered.extmap_allow_mixed,
            layers: self.layers.iter().copied().filter(|l| answered.layers.contains(l)).collect(),
        }
    }
}

/// Which of our sections the answer accepts.
fn accepted_by_answer(
    offered: &State,
    answer: &Description,
) -> Result<Vec<bool>, NegotiationError> {
    check_continuity(offered, answer)?;
    let (ours, theirs) = (offered.sections.len(), answer.sections.len());
    if ours != theirs {
        let problem = format!("the answer has {theirs} m= sections, the offer {ours}");
        return Err(NegotiationError::bad("the session", problem));
    }
    let mut accepted = Vec::with_capacity(ours);
    for (section, described) in offered.sections.iter().zip(&answer.sections) {
        let is_accepted = described.is_live && !section.stopped;
        if described.is_live && section.stopped {
            let problem = "the answer revives a section that the offer has stopped";
            return Err(NegotiationError::bad(&described.place, problem));
        }
        match section.kind {
            _ if !is_accepted => {}
            SectionKind::DataChannel => check_data_section(described)?,
            _ => check_media_section(described)?,
        }
        accepted.push(is_accepted);
    }
    let is_apart = |(section, accepted): (&MediaSection, &bool)| {
        *accepted && (answer.bundle.is_none() || !answer.is_bundled(section))
    };
    let count = accepted.iter().filter(|accepted| **accepted).count();
    if count > 1 && answer.sections.iter().zip(&accepted).any(is_apart) {
        return Err(NegotiationError::unsupported(
            "the session",
            "the answer leaves a=group:BUNDLE; all media must share one transport (RFC 9143)",
        ));
    }
    check_ssrcs(answer, &accepted)?;
    Ok(accepted)
}

fn take_answered_transport(
    next: &mut State,
    answer: &Description,
    accepted: &[bool],
    restarts: bool,
    log: &mut ChangeLog,
) -> Result<(), NegotiationError> {
    let Some(transport) = answer.transport(accepted)? else { return Ok(()) };
    let current = next.remote.as_ref();
    let dtls_role = transport.role_of_answer(current)?;
    match (transport.compare(current)?, restarts) {
        (IceChange::Same, false) => return Ok(()),
        (IceChange::First, _) | (IceChange::Restart, true) => {}
        (IceChange::Restart, false) => {
            return Err(NegotiationError::state(
                "the answer changes the ICE credentials though the offer did not; restart ICE by an offer",
            ));
        }
        (IceChange::Same, true) => {
            return Err(NegotiationError::state(
                "the offer restarts ICE, so the answer must bring a new a=ice-ufrag and a=ice-pwd",
            ));
        }
    }
    let remote =
        RemoteParams { ice: transport.ice, fingerprints: transport.fingerprints, dtls_role };
    log.transport.push(Change::SetRemote(remote.clone()));
    next.remote = Some(remote);
    Ok(())
}
