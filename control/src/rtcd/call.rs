//! One call: its users join, talk, share and leave. No IO, no clock: messages and reports in, effects out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sluice_engine::clock::Instant;
use sluice_engine::ids::{CallId, SessionId, TrackId};
use sluice_engine::session::params::SessionParams;
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::mailbox::Command;

use super::directory::SessionConfig;
use super::effects::{Effect, Effects};
use super::hub::ConnectionId;
use super::metrics::{ConnState, Direction, RtcdMetrics};
use super::session::{Overdue, Session};
use super::sessions::Sessions;
use super::track_class::TrackClass;
use super::tracks::{Published, chosen, classify};
use crate::media_plane::command_of;
use crate::sdp::{Change, LocalTransport, Negotiator, Policy, Supply};

/// A call.
pub(super) struct Call {
    number: CallId,
    pub(super) sessions: Sessions,
    names: HashMap<String, SessionId>,
    /// Who shares its screen: one at a time.
    pub(super) screen: Option<SessionId>,
    /// What each track that somebody may get is, and whose.
    classes: HashMap<TrackId, (TrackClass, String)>,
    pub(super) metrics: RtcdMetrics,
}

/// A user that joins.
pub(super) struct Joining {
    /// The engine's number for its session.
    pub(super) number: SessionId,
    /// Who it is.
    pub(super) config: SessionConfig,
    /// The plugin's connection that it came by.
    pub(super) connection: ConnectionId,
    /// Our half of its transport.
    pub(super) local: LocalTransport,
    /// Where its negotiation gets numbers from.
    pub(super) supply: Box<dyn Supply>,
}

impl Call {
    /// Makes a call of no users.
    pub(super) fn new(number: CallId, metrics: RtcdMetrics) -> Self {
        Self {
            number,
            sessions: Sessions::default(),
            names: HashMap::new(),
            screen: None,
            classes: HashMap::new(),
            metrics,
        }
    }

    /// The number of a session's name.
    pub(super) fn find(&self, name: &str) -> Option<SessionId> {
        self.names.get(name).copied()
    }

    /// The client of a session, and the connection that messages about it take.
    pub(super) fn address(&self, number: SessionId) -> Option<(&str, &ConnectionId)> {
        self.sessions.get(number).map(|session| (session.group(), &session.connection))
    }

    /// Messages about a session take another connection.
    pub(super) fn rebind(&mut self, number: SessionId, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(number) {
            session.connection = connection;
        }
    }

    /// A message to a session's peer was refused.
    pub(super) fn unheard(&mut self, now: Instant, number: SessionId) {
        if let Some(session) = self.sessions.get_mut(number) {
            session.unheard(now, &self.metrics);
        }
    }

    /// Whether an offer to a session waits for its answer.
    pub(super) fn awaits_answer(&self, number: SessionId) -> bool {
        self.sessions.get(number).is_some_and(Session::awaits_answer)
    }

    /// A user joins. It is sent everything once it has opened its data channel.
    pub(super) fn join(&mut self, now: Instant, joining: Joining, out: &mut Effects) {
        let Joining { number, config, connection, local, supply } = joining;
        out.push(Effect::Command(Command::AddSession(Box::new(SessionParams {
            session: number,
            call: self.number,
            local_ice: local.ice.clone(),
            remote: None,
            cname: config.session.clone(),
            data_channels: true,
        }))));
        let negotiator = Negotiator::new(&config.session, local, Policy::RTCD, supply);
        let mut session = Session::new(now, number, config, connection, negotiator);
        for publisher in self.sessions.values() {
            for published in chosen(&publisher.published, session.takes_av1()) {
                session.add_track(published);
            }
        }
        tracing::info!(session = session.config.session, call = session.config.call, "joined");
        self.metrics.session_opened(session.group());
        self.names.insert(session.config.session.clone(), number);
        self.sessions.insert(number, Box::new(session));
    }

    /// A user leaves.
    pub(super) fn leave(&mut self, now: Instant, number: SessionId, out: &mut Effects) {
        if self.sessions.get(number).is_some() {
            out.push(Effect::Command(Command::RemoveSession { session: number }));
        }
        self.close(now, number, ConnState::Closed, out);
    }

    /// The engine has ended a session.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        number: SessionId,
        error: &SessionError,
        out: &mut Effects,
    ) {
        let state = match error {
            SessionError::PeerLeft => ConnState::Closed,
            _ => ConnState::Failed,
        };
        self.close(now, number, state, out);
    }

    /// All sessions end.
    pub(super) fn end(&mut self, out: &mut Effects) {
        // All are taken out first, so that nobody is offered the end of the others.
        for (number, session) in self.sessions.take_all() {
            out.push(Effect::Command(Command::RemoveSession { session: number }));
            self.forget(session, ConnState::Closed, out);
        }
    }

    fn close(&mut self, now: Instant, number: SessionId, state: ConnState, out: &mut Effects) {
        let Some(session) = self.sessions.remove(number) else { return };
        let tracks = self.forget(session, state, out);
        if tracks.is_empty() {
            return;
        }
        for other in self.sessions.values_mut() {
            // In the engine the legs go with their tracks.
            tracks.iter().for_each(|track| drop(other.drop_track(*track, &self.metrics)));
        }
        self.advance_others(now, number, out);
    }

    /// Lets go of a session that was taken out; what it published.
    fn forget(
        &mut self,
        session: Box<Session>,
        state: ConnState,
        out: &mut Effects,
    ) -> Vec<TrackId> {
        let (number, config) = (session.number, &session.config);
        tracing::info!(session = config.session, call = config.call, ?state, "left");
        self.names.remove(&config.session);
        if self.screen == Some(number) {
            self.screen = None;
        }
        self.metrics.conn_state(state);
        self.metrics.session_closed(session.group());
        for (_, mime) in session.legs.values() {
            self.metrics.track_removed(session.group(), Direction::Out, mime);
        }
        for published in &session.published {
            self.classes.remove(&published.track());
            self.metrics.track_removed(session.group(), Direction::In, published.mime());
        }
        let tracks = session.published.iter().map(Published::track).collect();
        let Session { config, connection, .. } = *session;
        out.push(Effect::Closed { session: number, config, connection });
        tracks
    }

    /// Carries out what a negotiation of a session came to.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        number: SessionId,
        changes: Vec<Change>,
        out: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        let is_sharing = self.screen == Some(number);
        let (mut publishes, mut gone, mut ended) = (false, Vec::new(), Vec::new());
        for mut change in changes {
            match &mut change {
                Change::Publish { params, track } => {
                    let screen = session.screen_stream.as_deref().filter(|_| is_sharing);
                    let stream = track.source_stream.as_deref();
                    let camera = session.camera_stream.as_deref();
                    let class = classify(track.kind, stream, screen, camera);
                    params.voice_activity = class == Some(TrackClass::Voice);
                    let remote = track.clone();
                    let mut published = Published { remote, class: None, withdrawn: false };
                    // What shows nothing yet is most likely a camera: its tracks come before it is announced.
                    let tallied = class.unwrap_or(TrackClass::Video);
                    params.tally = self.metrics.tally(session.group(), tallied);
                    self.metrics.track_added(session.group(), Direction::In, published.mime());
                    published.remote.stream.clone_from(&session.config.session);
                    session.published.push(published);
                    out.push(Effect::Command(command_of(number, change)));
                    publishes = true;
                    continue;
                }
                Change::Unpublish(track) => {
                    let at = session.published.iter().position(|p| p.track() == *track);
                    let removed = at.map(|at| session.published.remove(at));
                    if let Some(removed) = removed {
                        self.metrics.track_removed(session.group(), Direction::In, removed.mime());
                        ended.push(removed);
                    }
                    session.silence(*track, out);
                    self.classes.remove(track);
                    gone.push(*track);
                }
                Change::AddLeg(leg) => {
                    let mime = session.mime_of(leg.track);
                    session.legs.insert(leg.leg, (leg.track, mime));
                    self.metrics.track_added(session.group(), Direction::Out, mime);
                }
                Change::RemoveLeg(leg) => {
                    if let Some((_, mime)) = session.legs.remove(leg) {
                        self.metrics.track_removed(session.group(), Direction::Out, mime);
                    }
                }
                Change::RestartIce { .. } | Change::SetRemote(_) => {}
            }
            out.push(Effect::Command(command_of(number, change)));
        }
        for other in self.sessions.values_mut().filter(|other| other.number != number) {
            gone.iter().for_each(|track| drop(other.drop_track(*track, &self.metrics)));
        }
        if publishes {
            self.classify_tracks(number, &ended, out);
        }
        let is_new = (publishes || !gone.is_empty()) && self.share(number, out);
        if is_new || !gone.is_empty() {
            self.advance_others(now, number, out);
        }
    }

    /// Looks again at what a session publishes: what could not be told apart before may be now. `ended` is what it published until
    /// now: what only is described anew stays what it was.
    pub(super) fn classify_tracks(
        &mut self,
        number: SessionId,
        ended: &[Published],
        out: &mut Effects,
    ) {
        let is_sharing = self.screen == Some(number);
        let Some(session) = self.sessions.get_mut(number) else { return };
        let screen = session.screen_stream.as_deref().filter(|_| is_sharing);
        let camera = session.camera_stream.as_deref();
        let (mut voices, mut others) = (Vec::new(), Vec::new());
        for published in session.published.iter_mut().filter(|p| !p.withdrawn) {
            let stream = published.remote.source_stream.as_deref();
            // What was told once stays: a camera that was restarted has a stream of another name than its description.
            let class = classify(published.remote.kind, stream, screen, camera);
            let Some(class) = class.or_else(|| published.class_before(ended)) else { continue };
            if published.class == Some(class) {
                continue;
            }
            let sender = &session.config.session;
            match (published.class, class) {
                (_, TrackClass::Voice) => voices.push(published.track()),
                (Some(TrackClass::Voice), _) => others.push(published.track()),
                _ => {}
            }
            published.class = Some(class);
            published.remote.name = track_name(class, sender);
            self.classes.insert(published.track(), (class, sender.clone()));
        }
        others.iter().for_each(|track| session.silence(*track, out));
        if session.muted {
            // Muting is for voices alone.
            for (track, muted) in
                voices.iter().map(|t| (*t, true)).chain(others.iter().map(|t| (*t, false)))
            {
                out.push(Effect::Command(Command::SetMuted { session: number, track, muted }));
            }
        }
    }

    /// Brings what a session publishes to the others: what is theirs to get and not yet there, and back what no longer is. Whether
    /// that is anything.
    pub(super) fn share(&mut self, number: SessionId, out: &mut Effects) -> bool {
        let Some(publisher) = self.sessions.remove(number) else { return false };
        let mut is_new = false;
        for other in self.sessions.values_mut() {
            let wanted: BTreeMap<TrackId, &Published> =
                chosen(&publisher.published, other.takes_av1()).map(|p| (p.track(), p)).collect();
            let has: BTreeSet<TrackId> = other.gets(&publisher.published);
            is_new |= !has.iter().eq(wanted.keys());
            for track in has.iter().filter(|track| !wanted.contains_key(track)) {
                if let Some(change) = other.drop_track(*track, &self.metrics) {
                    out.push(Effect::Command(command_of(other.number, change)));
                }
            }
            for (_, published) in wanted.iter().filter(|(track, _)| !has.contains(track)) {
                other.add_track(published);
            }
        }
        self.sessions.insert(number, publisher);
        is_new
    }

    /// Lets a session negotiate if it has to and can.
    pub(super) fn advance(&mut self, now: Instant, number: SessionId, out: &mut Effects) {
        let classes = &self.classes;
        if let Some(session) = self.sessions.get_mut(number) {
            session.advance(now, &|track| classes.get(&track).cloned(), &self.metrics, out);
        }
    }

    /// Lets all but one negotiate.
    pub(super) fn advance_others(&mut self, now: Instant, except: SessionId, out: &mut Effects) {
        let classes = &self.classes;
        for session in self.sessions.values_mut().filter(|s| s.number != except) {
            session.advance(now, &|track| classes.get(&track).cloned(), &self.metrics, out);
        }
    }

    /// Does what has run out of time.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Effects) {
        for number in self.sessions.due(now) {
            let Some(session) = self.sessions.get_mut(number) else { continue };
            match session.handle_timeout(now, &self.metrics) {
                Overdue::FirstOffer => {
                    tracing::warn!(session = session.config.session, "no offer came in time");
                    self.leave(now, number, out);
                }
                Overdue::Nothing => self.advance(now, number, out),
            }
        }
    }

    /// When [`Call::handle_timeout`] is to be called next.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        self.sessions.next_deadline()
    }
}

/// What receivers see as a track's id: three fields, so that who has no media map can tell type and sender.
fn track_name(class: TrackClass, sender: &str) -> String {
    let random = crate::service::random_id();
    format!("{}_{sender}_{}", class.as_str(), &random[..8])
}

#[cfg(test)]
mod tests;
