//! What the control plane asks of a shard, done one by one.

use super::handle::{Envelope, Order};
use super::mailbox::{Answer, Command, Report, ShardSnapshot};
use super::{Shard, budget};
use crate::bwe::Bounds;
use crate::call::table::{LegRef, Publisher, Track};
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::config::LayerConfig;
use crate::ids::{CallId, LegId, SessionId, SessionKey, TallyId, TrackId, TrackKey};
use crate::io::Network;
use crate::metrics::TrackTally;
use crate::session::Session;
use crate::session::params::{LegParams, RemoteParams, SessionParams, TrackParams};
use crate::session::snapshot::SessionSnapshot;

/// Legs one track can have on one shard.
pub(super) const LEGS_PER_TRACK_MAX: usize = 65_536;

impl Shard {
    /// Handles what waits in the mailbox, within the budget; true when more may wait.
    pub(super) fn take_commands<N: Network>(&mut self, now: Instant, network: &mut N) -> bool {
        for _ in 0..budget::COMMANDS {
            let Ok(envelope) = self.mailbox.try_recv() else { return false };
            let Envelope { order, reply } = envelope;
            if self.egress.is_crowded() {
                self.flush(network);
            }
            let answer = match order {
                Order::Stop => {
                    self.stop(now);
                    Ok(Answer::Done)
                }
                Order::Do(command) => {
                    if matches!(command, Command::Snapshot { .. }) {
                        self.counters.receive_drops = network.receive_drops();
                    }
                    self.handle_command(now, command)
                }
            };
            // Whoever asked may have gone away meanwhile.
            let _ = reply.send(answer);
        }
        true
    }

    fn stop(&mut self, now: Instant) {
        let keys: Vec<_> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.say_goodbye(now, key);
        }
        self.stopping = true;
    }

    fn handle_command(&mut self, now: Instant, command: Command) -> Result<Answer, CommandError> {
        match command {
            Command::AddSession(params) => self.add_session(now, *params)?,
            Command::SetRemote { session, remote } => self.set_remote(now, session, *remote)?,
            Command::RestartIce { session, local } => {
                let key = self.key_of(session)?;
                if !self.demux.add_ufrag(&local.ufrag, key) {
                    return Err(CommandError::Exists);
                }
                if let Some(session) = self.sessions.get_mut(key) {
                    session.restart_ice(local);
                }
                self.sync_ufrags(key);
            }
            Command::RemoveSession { session } => {
                let key = self.key_of(session)?;
                self.say_goodbye(now, key);
            }
            Command::AddTrack { session, track } => self.add_track(session, *track)?,
            Command::RemoveTrack { session, track } => self.remove_track(session, track)?,
            Command::AddLeg { session, leg } => self.add_leg(now, session, *leg)?,
            Command::AddRelayedLeg { session, leg, home, track } => {
                self.add_relayed_leg(now, session, *leg, home, &track)?;
            }
            Command::RemoveLeg { session, leg } => {
                let key = self.key_of(session)?;
                self.remove_leg(key, leg);
            }
            Command::SetMuted { session, track, muted } => {
                self.set_muted(now, session, track, muted)?;
            }
            Command::SendData { session, channel, kind, bytes, confirm } => {
                self.send_data(now, session, channel, kind, bytes, confirm)?;
            }
            Command::Snapshot { sessions } => {
                return Ok(Answer::Snapshot(Box::new(self.snapshot(sessions))));
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn key_of(&self, session: SessionId) -> Result<SessionKey, CommandError> {
        self.by_id.get(&session).copied().ok_or(CommandError::UnknownSession(session))
    }

    pub(super) fn session_mut(
        &mut self,
        id: SessionId,
    ) -> Result<(SessionKey, &mut Session), CommandError> {
        let key = self.key_of(id)?;
        let session = self.sessions.get_mut(key).ok_or(CommandError::UnknownSession(id))?;
        Ok((key, session))
    }

    fn add_session(&mut self, now: Instant, params: SessionParams) -> Result<(), CommandError> {
        if self.by_id.contains_key(&params.session) {
            return Err(CommandError::Exists);
        }
        let limit = self.config.sessions_max;
        if self.sessions.len() >= limit {
            return Err(CommandError::LimitReached { what: "sessions per shard", limit });
        }
        if self.demux.by_ufrag(params.local_ice.ufrag.as_bytes()).is_some() {
            return Err(CommandError::Exists);
        }
        let (id, call, ufrag) = (params.session, params.call, params.local_ice.ufrag.clone());
        let session = Session::new(now, params, &self.timeouts, &mut self.rng);
        let deadline = session.next_deadline();
        let key = self.sessions.insert_with(|_| session);
        self.by_id.insert(id, key);
        self.demux.add_ufrag(&ufrag, key);
        self.calls.entry(call).or_default().sessions.push(key);
        self.counters.sessions_created += 1;
        self.wheel.reserve(key.slot);
        self.arm(key, deadline);
        Ok(())
    }

    fn set_remote(
        &mut self,
        now: Instant,
        session: SessionId,
        remote: RemoteParams,
    ) -> Result<(), CommandError> {
        let (key, session) = self.session_mut(session)?;
        session.set_remote(now, remote)?;
        self.begin_handshake(now, key);
        Ok(())
    }

    fn add_track(&mut self, session: SessionId, params: TrackParams) -> Result<(), CommandError> {
        let interval = self.config.keyframe_interval;
        let (key, session) = self.session_mut(session)?;
        session.receiver.check_track(&params)?;
        let call = session.call;
        let track = self.insert_track(call, Publisher::Session(key), &params)?;
        if let Some(session) = self.sessions.get_mut(key) {
            session.receiver.add_track(params, track, interval);
        }
        Ok(())
    }

    /// Puts a track into the table and its call.
    pub(super) fn insert_track(
        &mut self,
        call: CallId,
        publisher: Publisher,
        params: &TrackParams,
    ) -> Result<TrackKey, CommandError> {
        if self.by_track.contains_key(&params.track) {
            return Err(CommandError::Exists);
        }
        let tally = params.tally.index();
        if tally >= TallyId::MAX_TALLIES {
            let limit = TallyId::MAX_TALLIES;
            return Err(CommandError::LimitReached { what: "tallies per shard", limit });
        }
        self.tallies.resize_with(self.tallies.len().max(tally + 1), TrackTally::default);
        let track = Track::new(call, publisher, params, &self.config);
        let key = self.table.insert_with(|_| track);
        self.by_track.insert(params.track, key);
        self.calls.entry(call).or_default().tracks.push(key);
        Ok(key)
    }

    pub(super) fn find_track(&self, call: CallId, track: TrackId) -> Option<TrackKey> {
        let key = *self.by_track.get(&track)?;
        self.table.get(key).filter(|track| track.call == call).map(|_| key)
    }

    fn remove_track(&mut self, session: SessionId, track: TrackId) -> Result<(), CommandError> {
        let (_, session) = self.session_mut(session)?;
        let key = session.receiver.remove_track(track).ok_or(CommandError::UnknownTrack(track))?;
        self.drop_track(key);
        Ok(())
    }

    /// Muting ends speech and says so even if there was none: whoever shows a speaker can rely on it. Unmuted, the legs go on where
    /// they stood.
    fn set_muted(
        &mut self,
        now: Instant,
        session: SessionId,
        id: TrackId,
        muted: bool,
    ) -> Result<(), CommandError> {
        let (_, publisher) = self.session_mut(session)?;
        let key = publisher.receiver.track_mut(id).ok_or(CommandError::UnknownTrack(id))?.key;
        let Some(track) = self.table.get_mut(key) else { return Ok(()) };
        let was_muted = std::mem::replace(&mut track.muted, muted);
        if muted {
            if let Some(voice) = &mut track.voice {
                voice.clear();
                self.report(Report::Voice { session, track: id, active: false });
            }
        } else if was_muted {
            track.resumed = track.resumed.wrapping_add(1);
            self.resume_legs(now, key);
        }
        Ok(())
    }

    /// What comes of a track from here on comes after some that was withheld from its legs.
    pub(super) fn resume_legs(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.table.get(key) else { return };
        for leg in &track.legs {
            if let Some(subscriber) = self.sessions.get_mut(leg.session)
                && let Some(leg) = subscriber.sender.leg_mut(leg.leg)
            {
                leg.skip_withheld();
            }
        }
        let layers = track.layers_in_use();
        self.request_keyframes(now, key, layers);
    }

    /// Takes a track out of the table, its call and its subscribers, and from the shards that it is relayed to.
    pub(super) fn drop_track(&mut self, key: TrackKey) {
        let Some(track) = self.table.remove(key) else { return };
        self.by_track.remove(&track.id);
        self.end_relays(&track);
        self.legs -= track.legs.len();
        for leg in track.legs {
            if let Some(session) = self.sessions.get_mut(leg.session) {
                session.sender.remove_at(leg.leg);
            }
        }
        if let Some(call) = self.calls.get_mut(&track.call) {
            call.tracks.retain(|&other| other != key);
        }
    }

    pub(super) fn add_leg(
        &mut self,
        now: Instant,
        session: SessionId,
        params: LegParams,
    ) -> Result<(), CommandError> {
        let key = self.key_of(session)?;
        let call = self.sessions.get(key).map(|session| session.call);
        let track = call.and_then(|call| self.find_track(call, params.track));
        let track = track.ok_or(CommandError::UnknownTrack(params.track))?;
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let Some(entry) = self.table.get_mut(track) else { return Ok(()) };
        if entry.legs.len() == LEGS_PER_TRACK_MAX {
            let limit = LEGS_PER_TRACK_MAX;
            return Err(CommandError::LimitReached { what: "subscribers per track", limit });
        }
        let estimate = session.sender.estimate();
        let layer = entry.simulcast.as_ref().map(|s| s.first_layer(now, estimate));
        let bounds = bounds(&self.config.layers);
        let leg = session.sender.add_leg(params, (track, layer), bounds, &mut self.rng)?;
        let layer = layer.unwrap_or(0);
        entry.add_leg(now, LegRef::new(key, leg, layer));
        self.legs += 1;
        if session.is_connected() {
            self.request_keyframe(now, track, layer);
        }
        Ok(())
    }

    fn remove_leg(&mut self, key: SessionKey, leg: LegId) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some((position, track)) = session.sender.remove_leg(leg) else { return };
        self.unlink_leg(track, key, position);
    }

    fn unlink_leg(&mut self, key: TrackKey, session: SessionKey, leg: u32) {
        let Some(track) = self.table.get_mut(key) else { return };
        let was_there = track.remove_leg(session, leg);
        self.legs -= usize::from(was_there);
        self.drop_unwanted(key);
    }

    fn say_goodbye(&mut self, now: Instant, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.send_goodbye(now, &mut self.egress);
        }
        self.remove_session(key);
    }

    /// Takes a session out of every table. What it had to say is in the egress.
    pub(super) fn remove_session(&mut self, key: SessionKey) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.wheel.disarm(key.slot);
        if session.leave_data_queue() {
            self.data_waiting.retain(|&waiting| waiting != key);
        }
        self.by_id.remove(&session.id);
        for ufrag in session.ufrags() {
            self.demux.remove_ufrag(ufrag);
        }
        while let Some((route, path)) = session.take_route() {
            self.release_route(key, route, path);
        }
        for (position, leg) in session.sender.legs() {
            self.unlink_leg(leg.track, key, position);
        }
        for track in &session.receiver.tracks {
            self.drop_track(track.key);
        }
        if let Some(call) = self.calls.get_mut(&session.call) {
            call.sessions.retain(|&other| other != key);
            if call.sessions.is_empty() {
                self.calls.remove(&session.call);
            }
        }
        self.counters.sessions_closed += 1;
    }

    fn snapshot(&self, with_sessions: bool) -> ShardSnapshot {
        let of = |(_, session): (_, &Session)| -> SessionSnapshot { session.snapshot() };
        ShardSnapshot {
            shard: self.id,
            counters: self.counters.clone(),
            drops: self.drops.clone(),
            tallies: self.tallies.clone(),
            sessions: self.sessions.len(),
            calls: self.calls.len(),
            tracks: self.table.len() - self.relayed.tracks(),
            legs: self.legs,
            session_list: match with_sessions {
                true => self.sessions.iter().map(of).collect(),
                false => Vec::new(),
            },
        }
    }
}

fn bounds(config: &LayerConfig) -> Bounds {
    Bounds {
        initial_bps: config.estimate_initial_bps as f64,
        min_bps: config.estimate_min_bps as f64,
        max_bps: config.estimate_max_bps as f64,
    }
}
