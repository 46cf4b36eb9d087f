//! One call: its sessions join, negotiate, publish and leave.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, MutexGuard};

use sluice_engine::clock::{self, Instant};
use sluice_engine::command_error::CommandError;
use sluice_engine::ids::{CallId, SessionId, ShardId, TrackId};
use sluice_engine::session::params::SessionParams;
use sluice_engine::shard::mailbox::{Command, ShardSnapshot};

use super::link::{CloseCode, Link, LinkEnd};
use super::session::{Published, Session, track_name};
use super::shards::{SessionSupply, random_id};
use super::views::{CallView, Event, SessionKind, SessionState, SessionView, TrackView};
use super::{CreatedSession, NewSession, Owner, Patched, Service, detached, locked};
use crate::error::{ApiError, Code};
use crate::media_plane::command_of;
use crate::placement::Placement;
use crate::sdp::{
    Change, Fragment, FragmentOutcome, LocalTransport, Negotiator, Policy, RemoteTrack,
};

/// A call.
pub(super) struct Call {
    pub(super) id: String,
    number: CallId,
    /// The shard of its first sessions, which never changes.
    pub(super) home: ShardId,
    /// Every shard that has had sessions of it; read without waiting for the call.
    shards: std::sync::Mutex<BTreeSet<ShardId>>,
    /// Whether it outlives its last session.
    kept: bool,
    made_at: Instant,
    state: Mutex<State>,
}

pub(super) struct State {
    /// Set once the call has left the table: whoever still holds it must not use it.
    gone: bool,
    /// Where its sessions are.
    placement: Placement,
    pub(super) sessions: BTreeMap<SessionId, Session>,
}

/// A session that can be found again without its id being compared anew.
#[derive(Clone)]
pub struct Member {
    call: Arc<Call>,
    session: SessionId,
}

impl Call {
    pub(super) fn new(
        id: &str,
        number: CallId,
        placement: Placement,
        kept: bool,
        made_at: Instant,
    ) -> Self {
        let home = placement.home();
        let state = State { gone: false, placement, sessions: BTreeMap::new() };
        let (state, shards) = (Mutex::new(state), std::sync::Mutex::new(BTreeSet::from([home])));
        Self { id: id.to_owned(), number, home, shards, kept, made_at, state }
    }

    /// Whether sessions of it may be on `shard`.
    pub(super) fn is_on(&self, shard: ShardId) -> bool {
        locked(&self.shards).contains(&shard)
    }

    /// What each session's shard counts of it.
    async fn statistics(&self, of: &Service) -> Vec<Arc<ShardSnapshot>> {
        let shards: Vec<_> = locked(&self.shards).iter().copied().collect();
        let mut snapshots = Vec::new();
        for shard in shards {
            snapshots.extend(of.shards.snapshot(shard).await);
        }
        snapshots
    }

    pub(super) async fn view(&self) -> CallView {
        let state = self.state.lock().await;
        CallView {
            id: self.id.clone(),
            shard: self.home.0,
            sessions: state.sessions.len(),
            tracks: state.sessions.values().map(|s| s.published.len()).sum(),
        }
    }

    pub(super) async fn track_views(&self) -> Vec<TrackView> {
        let state = self.state.lock().await;
        state.sessions.values().flat_map(Session::track_views).collect()
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }
}

impl State {
    fn find(&self, id: &str) -> Result<SessionId, ApiError> {
        let found = self.sessions.values().find(|s| s.id == id);
        found.map(|s| s.number).ok_or_else(|| unknown_session(id))
    }

    fn session(&mut self, number: SessionId) -> Result<&mut Session, ApiError> {
        let ended = || ApiError::new(Code::UnknownSession, "the session has ended");
        self.sessions.get_mut(&number).ok_or_else(ended)
    }

    /// Every track of the call but those of `except`.
    fn tracks_of_others(&self, except: SessionId) -> Vec<RemoteTrack> {
        let others = self.sessions.values().filter(|s| s.number != except);
        others.flat_map(|s| s.published.iter().map(|p| p.track.clone())).collect()
    }
}

fn unknown_session(id: &str) -> ApiError {
    ApiError::new(Code::UnknownSession, format!("there is no session {id:?} in this call"))
}

fn policy(kind: SessionKind, subscribe: bool, tracks_max: usize) -> Policy {
    let policy = match kind {
        SessionKind::Native => Policy { subscribe, ..Policy::NATIVE },
        SessionKind::Whip => Policy::WHIP,
        SessionKind::Whep => Policy::WHEP,
    };
    Policy { tracks_max, ..policy }
}

// Joining and leaving.
impl Service {
    /// Adds a session to a call that exists.
    ///
    /// # Errors
    /// `UnknownCall`, limits, and what negotiation and the engine refuse; nothing remains then.
    pub async fn create_session(
        self: &Arc<Self>,
        call: &str,
        new: NewSession,
    ) -> Result<CreatedSession, ApiError> {
        let call = self.call(call)?;
        let service = Arc::clone(self);
        detached(async move { service.join(&call, new).await }).await
    }

    /// Adds a session to a call, which is made when it does not exist and then ends with its last
    /// session.
    ///
    /// # Errors
    /// As [`Service::create_session`], and `BadRequest` for a bad call id.
    pub async fn create_session_and_call(
        self: &Arc<Self>,
        call: &str,
        new: NewSession,
    ) -> Result<CreatedSession, ApiError> {
        super::check_call_id(call)?;
        self.refuse_when_draining()?;
        let (service, id) = (Arc::clone(self), call.to_owned());
        detached(async move {
            loop {
                let call = {
                    let mut calls = locked(&service.calls);
                    match calls.get(&id) {
                        Some(call) => Arc::clone(call),
                        None => service.insert_call(&mut calls, &id, false)?,
                    }
                };
                match service.join(&call, new.clone()).await {
                    // It ended between the look and the lock.
                    Err(error) if error.code == Code::UnknownCall => {}
                    result => return result,
                }
            }
        })
        .await
    }

    async fn join(&self, call: &Arc<Call>, new: NewSession) -> Result<CreatedSession, ApiError> {
        let mut state = call.lock().await;
        if state.gone {
            return Err(ApiError::new(
                Code::UnknownCall,
                format!("there is no call {:?}", call.id),
            ));
        }
        let joined = self.join_locked(call, &mut state, new).await;
        if joined.is_err() {
            self.drop_when_empty(call, &mut state);
        }
        joined
    }

    async fn join_locked(
        &self,
        call: &Arc<Call>,
        state: &mut State,
        new: NewSession,
    ) -> Result<CreatedSession, ApiError> {
        self.refuse_when_draining()?;
        if state.sessions.len() >= self.limits.sessions_per_call {
            let detail = format!(
                "the call has {} sessions already (limits.sessions_per_call)",
                state.sessions.len()
            );
            return Err(ApiError::new(Code::LimitReached, detail));
        }
        let (number, shard) = self.place_session(&mut state.placement);
        let joined = self.join_on(call, state, (number, shard), new).await;
        if joined.is_err() {
            state.placement.left(number);
        }
        joined
    }

    async fn join_on(
        &self,
        call: &Arc<Call>,
        state: &mut State,
        (number, shard): (SessionId, ShardId),
        new: NewSession,
    ) -> Result<CreatedSession, ApiError> {
        let id = random_id();
        let plane = &self.shards.plane;
        let local = LocalTransport {
            ice: plane.credentials(shard),
            fingerprint: plane.facts().fingerprint.clone(),
            candidates: self.advertised.candidates(new.from_this_host),
        };
        let params = SessionParams {
            data_channels: false,
            session: number,
            call: call.number,
            local_ice: local.ice.clone(),
            remote: None,
            cname: id.clone(),
        };
        let supply =
            SessionSupply { numbers: Arc::clone(&self.numbers), plane: Arc::clone(plane), shard };
        let policy = policy(new.kind, new.subscribe, self.limits.tracks_per_session);
        let mut negotiator = Negotiator::new(&id, local, policy, Box::new(supply));
        let others = state.tracks_of_others(number);
        if new.kind == SessionKind::Whep {
            if others.is_empty() {
                let detail = "nothing is published in this call: try again later";
                return Err(ApiError::new(Code::NothingPublished, detail)
                    .with_header(axum::http::header::RETRY_AFTER, "2"));
            }
            others.iter().for_each(|track| negotiator.add_track(track.clone()));
        }
        let negotiated = match &new.offer {
            Some(sdp) => Some(negotiator.handle_offer(sdp)?),
            None => None,
        };

        locked(&call.shards).insert(shard);
        locked(&self.owners).insert(number, Owner::Call(Arc::clone(call)));
        let added = self.shards.command(shard, Command::AddSession(Box::new(params))).await;
        if let Err(error) = added {
            locked(&self.owners).remove(&number);
            // The answer may have been lost, not the command.
            let _ = plane.request(shard, Command::RemoveSession { session: number });
            return Err(error.into());
        }
        let session = Session {
            number,
            shard,
            id: id.clone(),
            name: new.name.clone(),
            kind: new.kind,
            subscribes: policy.subscribe,
            negotiator,
            offer_id: 0,
            ticket: random_id(),
            link: None,
            state: SessionState::Connecting,
            profile: None,
            published: Vec::new(),
            negotiated: false,
            alone_since: clock::now(),
            ice_generation: 1,
        };
        state.sessions.insert(number, session);
        self.tell_others(state, number, &Event::SessionJoined { session: id, name: new.name });
        let mut answer = None;
        if let Some(negotiated) = negotiated {
            self.apply(call, state, number, negotiated.changes).await?;
            answer = Some(negotiated.answer);
        }
        let session = state.session(number)?;
        if new.kind == SessionKind::Native && session.subscribes {
            others.into_iter().for_each(|track| session.negotiator.add_track(track));
        }
        let mut offer = None;
        if new.offer.is_none()
            && let Some(sdp) = session.negotiator.make_offer()
        {
            session.offer_id += 1;
            offer = Some((session.offer_id, sdp));
        }
        tracing::info!(call = call.id, session = session.id, kind = ?session.kind, "session joined");
        Ok(CreatedSession {
            session: session.view(&call.id, None),
            answer,
            offer,
            ticket: session.ticket.clone(),
            etag: session.etag(),
        })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// `UnknownCall`, `UnknownSession`.
    pub async fn delete_session(
        self: &Arc<Self>,
        call: &str,
        session: &str,
        kinds: &[SessionKind],
    ) -> Result<(), ApiError> {
        let member = self.member(call, session, kinds).await?;
        self.leave(member, "the session was deleted").await
    }

    /// Ends a member's session.
    ///
    /// # Errors
    /// `UnknownSession` when it has ended already.
    pub async fn leave(
        self: &Arc<Self>,
        member: Member,
        reason: &'static str,
    ) -> Result<(), ApiError> {
        let service = Arc::clone(self);
        detached(async move {
            let mut state = member.call.lock().await;
            state.session(member.session)?;
            let code = CloseCode::SessionEnded;
            service.remove(&member.call, &mut state, member.session, reason, code, true).await;
            Ok(())
        })
        .await
    }

    /// Takes a session out of its call and tells everyone whom it concerns. Does nothing when it is
    /// gone already.
    pub(super) async fn remove(
        &self,
        call: &Arc<Call>,
        state: &mut State,
        number: SessionId,
        reason: &str,
        code: CloseCode,
        tell_engine: bool,
    ) {
        let Some(mut session) = state.sessions.remove(&number) else { return };
        locked(&self.owners).remove(&number);
        state.placement.left(number);
        tracing::info!(call = call.id, session = session.id, reason, "session left");
        if tell_engine {
            let command = Command::RemoveSession { session: number };
            if let Err(error) = self.shards.command(session.shard, command).await
                && !matches!(error, CommandError::UnknownSession(_))
            {
                tracing::warn!(session = session.id, %error,
                        "the shard did not take the removal; it is repeated");
            }
        }
        self.count_overflow(session.send(&Event::Closed { reason: reason.to_owned() }));
        if let Some(link) = session.link.take() {
            link.close(code);
        }
        self.withdraw(state, &session, &session.track_ids());
        self.tell_others(state, number, &Event::SessionLeft { session: session.id });
        self.offer_to_others(state, number);
        self.drop_when_empty(call, state);
    }

    /// Removes a call that nobody asked to keep and nobody came to, `patience` after it was made.
    pub(super) fn drop_when_unused(
        &self,
        call: &Arc<Call>,
        state: &mut State,
        now: Instant,
        patience: Duration,
    ) {
        if now.since(call.made_at) > patience {
            self.drop_when_empty(call, state);
        }
    }

    /// Removes a call that nobody asked to keep, once it is empty.
    fn drop_when_empty(&self, call: &Arc<Call>, state: &mut State) {
        if !call.kept && state.sessions.is_empty() && !state.gone {
            state.gone = true;
            locked(&self.calls).remove(&call.id);
        }
    }

    pub(super) async fn end_call(&self, call: &Arc<Call>, reason: &str, code: CloseCode) {
        let mut state = call.lock().await;
        if !state.gone {
            state.gone = true;
            locked(&self.calls).remove(&call.id);
        }
        // Without the links of the others first, each leaver would be announced to all that leave
        // next.
        let numbers: Vec<SessionId> = state.sessions.keys().copied().collect();
        for session in state.sessions.values_mut() {
            self.count_overflow(session.send(&Event::Closed { reason: reason.to_owned() }));
            if let Some(link) = session.link.take() {
                link.close(code);
            }
        }
        for number in numbers {
            self.remove(call, &mut state, number, reason, code, true).await;
        }
    }
}

// Negotiation.
impl Service {
    /// Finds a session of one of `kinds`.
    ///
    /// # Errors
    /// `UnknownCall`, `UnknownSession`.
    pub async fn member(
        &self,
        call: &str,
        session: &str,
        kinds: &[SessionKind],
    ) -> Result<Member, ApiError> {
        let call = self.call(call)?;
        let state = call.lock().await;
        let number = state.find(session)?;
        if !state.sessions.get(&number).is_some_and(|s| kinds.contains(&s.kind)) {
            return Err(unknown_session(session));
        }
        drop(state);
        Ok(Member { call, session: number })
    }

    /// Answers an offer of a client. With a `link_reference` the answer goes to the session's
    /// WebSocket, before any offer that follows from it.
    ///
    /// # Errors
    /// `Glare`, and what negotiation and the engine refuse. When the engine refuses, the session
    /// has ended.
    pub async fn handle_offer(
        self: &Arc<Self>,
        member: Member,
        sdp: String,
        link_reference: Option<Option<u64>>,
    ) -> Result<String, ApiError> {
        let service = Arc::clone(self);
        detached(async move {
            let mut state = member.call.lock().await;
            let session = state.session(member.session)?;
            let negotiated = session.negotiator.handle_offer(&sdp)?;
            let restarted =
                negotiated.changes.iter().any(|c| matches!(c, Change::RestartIce { .. }));
            session.ice_generation += u64::from(restarted);
            service.apply(&member.call, &mut state, member.session, negotiated.changes).await?;
            let session = state.session(member.session)?;
            if let Some(reference) = link_reference {
                let event = Event::Answer { sdp: negotiated.answer.clone(), reference };
                service.count_overflow(session.send(&event));
            }
            service.count_overflow(session.push_offer());
            Ok(negotiated.answer)
        })
        .await
    }

    /// Takes a client's answer to our offer of number `offer_id`.
    ///
    /// # Errors
    /// `NoOffer`, `StaleOffer`, and as [`Service::handle_offer`].
    pub async fn handle_answer(
        self: &Arc<Self>,
        member: Member,
        sdp: String,
        offer_id: u64,
    ) -> Result<(), ApiError> {
        let service = Arc::clone(self);
        detached(async move {
            let mut state = member.call.lock().await;
            let session = state.session(member.session)?;
            if !session.negotiator.is_offer_pending() {
                return Err(ApiError::new(
                    Code::NoOffer,
                    "no offer of the server waits for an answer",
                ));
            }
            if offer_id != session.offer_id {
                let detail =
                    format!("offer {} waits for its answer, not {offer_id}", session.offer_id);
                return Err(ApiError::new(Code::StaleOffer, detail));
            }
            let changes = session.negotiator.handle_answer(&sdp)?;
            service.apply(&member.call, &mut state, member.session, changes).await?;
            let overflow = state.session(member.session)?.push_offer();
            service.count_overflow(overflow);
            Ok(())
        })
        .await
    }

    /// Restarts ICE from our side; returns the offer that tells the client, with its number.
    ///
    /// # Errors
    /// `Glare` while an offer waits, `OutOfStep` before anything was agreed.
    pub async fn restart_ice(self: &Arc<Self>, member: Member) -> Result<(u64, String), ApiError> {
        let service = Arc::clone(self);
        detached(async move {
            let mut state = member.call.lock().await;
            let session = state.session(member.session)?;
            if session.negotiator.is_offer_pending() {
                let detail = "an offer of the server waits for its answer";
                return Err(ApiError::new(Code::Glare, detail));
            }
            if session.negotiator.published().is_empty() && session.negotiator.legs().is_empty() {
                let detail = "nothing has been negotiated that could be restarted";
                return Err(ApiError::new(Code::OutOfStep, detail));
            }
            let change = session.negotiator.restart_ice();
            session.ice_generation += 1;
            service.apply(&member.call, &mut state, member.session, vec![change]).await?;
            let session = state.session(member.session)?;
            let Some(sdp) = session.negotiator.make_offer() else {
                return Err(ApiError::new(Code::Internal, "no offer came of the restart"));
            };
            session.offer_id += 1;
            Ok((session.offer_id, sdp))
        })
        .await
    }

    /// Takes a fragment under the condition of `If-Match`. Source: RFC 9725 §4.3.
    ///
    /// # Errors
    /// `PreconditionFailed` when the entity tag is not the current one, or a restart lacks the `*`;
    /// and what negotiation refuses.
    pub async fn handle_fragment(
        self: &Arc<Self>,
        member: Member,
        fragment: Fragment,
        if_match: String,
    ) -> Result<Patched, ApiError> {
        let service = Arc::clone(self);
        detached(async move {
            let mut state = member.call.lock().await;
            let session = state.session(member.session)?;
            // The RFC shows the asterisk in quotes; RFC 9110 has it without.
            let any = matches!(if_match.trim(), "*" | "\"*\"");
            let etag = session.etag();
            let matches = any || if_match.split(',').any(|tag| tag.trim() == etag);
            let restart = session.negotiator.is_restart(&fragment);
            if !matches || (restart && !any) {
                let detail = match restart {
                    true => "these are new ICE credentials: a restart needs If-Match: *",
                    false => "If-Match is not the session's current ETag",
                };
                return Err(ApiError::new(Code::PreconditionFailed, detail));
            }
            match session.negotiator.handle_fragment(&fragment)? {
                FragmentOutcome::Trickled => Ok(Patched::Trickled),
                FragmentOutcome::Restarted { answer, changes } => {
                    session.ice_generation += 1;
                    service.apply(&member.call, &mut state, member.session, changes).await?;
                    let etag = state.session(member.session)?.etag();
                    Ok(Patched::Restarted { fragment: answer, etag })
                }
            }
        })
        .await
    }

    /// Carries out what a negotiation came to. When the engine refuses a part, the session ends:
    /// what its peer was told no longer holds.
    async fn apply(
        &self,
        call: &Arc<Call>,
        state: &mut State,
        number: SessionId,
        changes: Vec<Change>,
    ) -> Result<(), ApiError> {
        let mut added = Vec::new();
        let mut removed = Vec::new();
        let mut failed = None;
        for change in changes {
            match &change {
                Change::SetRemote(_) => state.session(number)?.negotiated = true,
                Change::Publish { params, track } => {
                    added.push(Published { mid: params.mid, track: track.clone() });
                }
                Change::Unpublish(track) => removed.push(*track),
                _ => {}
            }
            let (shard, command) = state.placement.route(command_of(number, change));
            let leg_or_removal = matches!(
                command,
                Command::AddLeg { .. }
                    | Command::AddRelayedLeg { .. }
                    | Command::RemoveTrack { .. }
            );
            match self.shards.command(shard, command).await {
                Ok(_) => {}
                // The publisher ended by itself and its report is on the way; the track's removal
                // follows.
                Err(CommandError::UnknownTrack(track)) if leg_or_removal => {
                    tracing::debug!(%track, "the track has gone already");
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            let session = state.session(number)?;
            tracing::warn!(call = call.id, session = session.id, %error, "the engine refused a change");
            let code = CloseCode::SessionEnded;
            self.remove(call, state, number, "the engine refused a change", code, true).await;
            return Err(error.into());
        }
        let session = state.session(number)?;
        session.published.retain(|p| !removed.contains(&p.track.track));
        let tracks: Vec<RemoteTrack> = added.iter().map(|p| p.track.clone()).collect();
        let views: Vec<TrackView> = added.iter().map(|p| p.view(session)).collect();
        session.published.extend(added);
        let id = session.id.clone();
        if tracks.is_empty() && removed.is_empty() {
            return Ok(());
        }
        for other in state.sessions.values_mut().filter(|s| s.number != number) {
            for track in &removed {
                self.take_away(other, *track, &id);
            }
            for (track, view) in tracks.iter().zip(&views) {
                if other.subscribes {
                    other.negotiator.add_track(track.clone());
                }
                self.count_overflow(other.send(&Event::TrackAdded { track: view.clone() }));
            }
        }
        self.offer_to_others(state, number);
        Ok(())
    }

    /// Takes `tracks` of a session that left from all others.
    fn withdraw(&self, state: &mut State, publisher: &Session, tracks: &[TrackId]) {
        for other in state.sessions.values_mut() {
            for track in tracks {
                self.take_away(other, *track, &publisher.id);
            }
        }
    }

    /// The leg has gone with its track in the engine; here its description goes.
    fn take_away(&self, other: &mut Session, track: TrackId, publisher: &str) {
        let _ = other.negotiator.remove_track(track);
        let event = Event::TrackRemoved { track: track_name(track), session: publisher.to_owned() };
        self.count_overflow(other.send(&event));
    }

    fn tell_others(&self, state: &mut State, except: SessionId, event: &Event) {
        for other in state.sessions.values_mut().filter(|s| s.number != except) {
            self.count_overflow(other.send(event));
        }
    }

    fn offer_to_others(&self, state: &mut State, except: SessionId) {
        for other in state.sessions.values_mut().filter(|s| s.number != except) {
            self.count_overflow(other.push_offer());
        }
    }

    pub(super) fn count_overflow(&self, overflow: bool) {
        if overflow {
            self.counters.websockets_overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// WebSockets and views.
impl Service {
    /// Whether `ticket` opens the session's WebSocket.
    ///
    /// # Errors
    /// `UnknownCall`, `UnknownSession`.
    pub async fn ticket_fits(
        &self,
        call: &str,
        session: &str,
        ticket: &str,
    ) -> Result<bool, ApiError> {
        let call = self.call(call)?;
        let mut state = call.lock().await;
        let number = state.find(session)?;
        let right = &state.session(number)?.ticket;
        Ok(right.as_bytes().ct_eq(ticket.as_bytes()).into())
    }

    /// Gives a session's WebSocket to a new connection; an older one is closed. The queue begins
    /// with the welcome and an offer that waits.
    ///
    /// # Errors
    /// `UnknownSession` when it has ended.
    pub async fn attach(&self, member: &Member) -> Result<LinkEnd, ApiError> {
        let mut state = member.call.lock().await;
        let others = || state.sessions.values().filter(|s| s.number != member.session);
        let participants = others().map(Session::participant).collect();
        let tracks = others().flat_map(Session::track_views).collect();
        let session = state.session(member.session)?;
        let (link, end) = Link::new(self.numbers.connection());
        if let Some(old) = session.link.replace(link) {
            old.abort(CloseCode::Replaced);
        }
        self.counters.websockets_opened.fetch_add(1, Ordering::Relaxed);
        let view = Box::new(session.view(&member.call.id, None));
        let mut overflow =
            session.send(&Event::Welcome { session: view, sessions: participants, tracks });
        overflow |= match session.negotiator.outstanding_offer().map(str::to_owned) {
            Some(sdp) => session.send(&Event::Offer { offer_id: session.offer_id, sdp }),
            None => session.push_offer(),
        };
        self.count_overflow(overflow);
        Ok(end)
    }

    /// Takes the WebSocket back, unless a newer connection has it.
    pub async fn detach(&self, member: &Member, connection: u64) {
        let mut state = member.call.lock().await;
        if let Ok(session) = state.session(member.session)
            && session.link.as_ref().is_none_or(|l| l.connection == connection)
        {
            session.link = None;
            session.alone_since = clock::now();
        }
    }

    /// Queues a message for a member's WebSocket.
    pub async fn send(&self, member: &Member, event: &Event) {
        let mut state = member.call.lock().await;
        if let Ok(session) = state.session(member.session) {
            self.count_overflow(session.send(event));
        }
    }

    /// All sessions of a call.
    ///
    /// # Errors
    /// `UnknownCall`.
    pub async fn sessions(&self, call: &str) -> Result<Vec<SessionView>, ApiError> {
        let call = self.call(call)?;
        let snapshots = call.statistics(self).await;
        let state = call.lock().await;
        let of_all: HashMap<_, _> =
            snapshots.iter().flat_map(|s| &s.session_list).map(|s| (s.session, s)).collect();
        let statistics = |number| of_all.get(&number).copied();
        Ok(state.sessions.values().map(|s| s.view(&call.id, statistics(s.number))).collect())
    }

    /// One session.
    ///
    /// # Errors
    /// `UnknownCall`, `UnknownSession`.
    pub async fn session_view(&self, call: &str, session: &str) -> Result<SessionView, ApiError> {
        let call = self.call(call)?;
        let mut state = call.lock().await;
        let number = state.find(session)?;
        let shard = state.session(number)?.shard;
        drop(state);
        let snapshot = self.shards.snapshot(shard).await;
        let mut state = call.lock().await;
        let statistics =
            snapshot.as_ref().and_then(|s| s.session_list.iter().find(|s| s.session == number));
        Ok(state.session(number)?.view(&call.id, statistics))
    }
}
