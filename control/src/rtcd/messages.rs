//! What users' messages do to a call, by whichever way they come.

use sluice_engine::clock::Instant;
use sluice_engine::ids::SessionId;
use sluice_engine::shard::mailbox::{Command, DataKind, Report};

use super::call::Call;
use super::channel_message::{FromPeer, ToPeer};
use super::descriptions::{
    Description, DescriptionKind, check_candidate, read_stream_id, write_candidate,
};
use super::effects::{Effect, Effects};
use super::message::{Rtc, RtcKind, ToPlugin};
use super::metrics::{ConnState, ErrorKind};
use super::session::Carrier;
use super::tracks::Published;
use crate::sdp::{Change, NegotiationError};

impl Call {
    /// A message of the plugin for one of its users.
    pub(super) fn handle_rtc(
        &mut self,
        now: Instant,
        number: SessionId,
        message: &Rtc,
        out: &mut Effects,
    ) {
        let data = message.data.as_slice();
        let outcome = match message.kind {
            RtcKind::Ice => check_candidate(data).map_err(|error| (ErrorKind::Ice, error)),
            RtcKind::Sdp => {
                self.handle_description(now, number, data, Carrier::WebSocket, out);
                Ok(())
            }
            RtcKind::Mute | RtcKind::Unmute => {
                self.mute(number, message.kind == RtcKind::Mute, out);
                Ok(())
            }
            RtcKind::ScreenOn => read_stream_id(data, "screenStreamID")
                .and_then(|stream| self.share_screen(now, number, stream, out))
                .map_err(|error| (ErrorKind::Signaling, error)),
            RtcKind::ScreenOff => {
                self.stop_screen(now, number, out);
                Ok(())
            }
            RtcKind::VideoOn => read_stream_id(data, "videoStreamID")
                .map(|stream| self.show_camera(now, number, stream, out))
                .map_err(|error| (ErrorKind::Signaling, error)),
            // The camera's track stays and sends nothing.
            RtcKind::VideoOff => Ok(()),
            RtcKind::VoiceOn | RtcKind::VoiceOff => {
                Err((ErrorKind::Signaling, "voice activity is ours to tell".to_owned()))
            }
        };
        if let Err((kind, error)) = outcome {
            self.note_error(number, kind, &error);
        }
    }

    /// What the engine says of one of the sessions.
    pub(super) fn handle_report(&mut self, now: Instant, report: Report, out: &mut Effects) {
        match report {
            Report::Connected { session, .. } => {
                if let Some(session) = self.sessions.get(session) {
                    self.metrics.conn_state(ConnState::Connected);
                    self.metrics.connection_time(session.group(), now.since(session.joined_at));
                }
            }
            Report::Reconnected { .. } => self.metrics.conn_state(ConnState::Connected),
            Report::Disconnected { .. } => self.metrics.conn_state(ConnState::Disconnected),
            Report::Closed { session, error } => self.ended(now, session, &error, out),
            Report::Voice { session, track, active } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.tell_voice(track, active, out);
                }
            }
            Report::ChannelOpened { session, channel, .. } => {
                let Some(opened) = self.sessions.get_mut(session) else { return };
                let is_first = opened.channel_opened(channel);
                if let Some(answered) = opened.answered_at.filter(|_| is_first) {
                    self.metrics.dc_open_time(opened.group(), now.since(answered));
                }
                self.advance(now, session, out);
            }
            Report::ChannelClosed { session, channel } => {
                if let Some(closed) = self.sessions.get_mut(session) {
                    closed.channel_closed(now, channel, &self.metrics);
                }
                self.advance(now, session, out);
            }
            Report::DataDelivered { session, .. } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.map_delivered(now);
                }
                self.advance(now, session, out);
            }
            Report::Data { session, kind, bytes, .. } => {
                self.handle_data(now, session, kind, &bytes, out);
            }
        }
    }

    fn handle_data(
        &mut self,
        now: Instant,
        number: SessionId,
        kind: DataKind,
        bytes: &[u8],
        out: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        match FromPeer::decode(kind, bytes) {
            Ok(FromPeer::Ping) => session.answer_ping(&ToPeer::Pong, out),
            Ok(FromPeer::LegacyPing) => session.answer_ping(&ToPeer::LegacyPong, out),
            Ok(FromPeer::Sdp(json)) => {
                self.handle_description(now, number, &json, Carrier::DataChannel, out);
            }
            Ok(FromPeer::LossRate(ratio)) => self.metrics.client_loss_rate(session.group(), ratio),
            Ok(FromPeer::RoundTripTime(seconds)) => {
                self.metrics.client_rtt(session.group(), seconds);
            }
            Ok(FromPeer::Jitter(seconds)) => self.metrics.client_jitter(session.group(), seconds),
            Ok(FromPeer::Lock) => {
                let granted = session.lock.try_client(now);
                session.tell_peer(&ToPeer::Lock(granted), out);
            }
            Ok(FromPeer::Unlock) => {
                if let Some(held) = session.lock.release_client(now) {
                    self.metrics.lock_locked_time(session.group(), held);
                }
                self.advance(now, number, out);
            }
            Ok(FromPeer::Ignored(_)) => {}
            Err(error) => self.note_error(number, ErrorKind::Signaling, &error.to_string()),
        }
    }

    fn handle_description(
        &mut self,
        now: Instant,
        number: SessionId,
        json: &[u8],
        carrier: Carrier,
        out: &mut Effects,
    ) {
        match Description::read(json) {
            Ok(Description { kind: DescriptionKind::Offer, sdp }) => {
                self.handle_offer(now, number, &sdp, carrier, out);
            }
            Ok(Description { kind: DescriptionKind::Answer, sdp }) => {
                self.handle_answer(now, number, &sdp, out);
            }
            Err(error) => self.note_error(number, ErrorKind::Signaling, &error),
        }
    }

    fn handle_offer(
        &mut self,
        now: Instant,
        number: SessionId,
        sdp: &str,
        carrier: Carrier,
        out: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        let is_first = session.answered_at.is_none();
        let negotiated = match session.negotiator.handle_offer(sdp) {
            Ok(negotiated) => negotiated,
            // The client takes its offer back when it sees ours, and makes it again.
            Err(NegotiationError::Glare) => {
                tracing::debug!(session = session.config.session, "glare: the offer is ignored");
                return;
            }
            Err(error) => {
                self.note_error(number, ErrorKind::Signaling, &error.to_string());
                if is_first {
                    self.leave(now, number, out);
                }
                return;
            }
        };
        let connects = |change: &Change| matches!(change, Change::SetRemote(_));
        if is_first && !negotiated.changes.iter().any(connects) {
            self.note_error(
                number,
                ErrorKind::Signaling,
                "nothing in the first offer can be taken",
            );
            return self.leave(now, number, out);
        }
        self.apply(now, number, negotiated.changes, out);
        let Some(session) = self.sessions.get_mut(number) else { return };
        session.describe(DescriptionKind::Answer, &negotiated.answer, carrier, out);
        if is_first {
            session.answered_at = Some(now);
            let mid = session.negotiator.first_mid().map(|mid| mid.as_str().to_owned());
            for candidate in session.negotiator.local_candidates() {
                let json = write_candidate(candidate, mid.as_deref().unwrap_or("0"));
                let rtc = session.rtc(RtcKind::Ice, json.into_bytes());
                session.tell_plugin(ToPlugin::Rtc(rtc), out);
            }
        }
        self.advance(now, number, out);
    }

    fn handle_answer(&mut self, now: Instant, number: SessionId, sdp: &str, out: &mut Effects) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        if !session.awaits_answer() {
            tracing::debug!(session = session.config.session, "an answer that nobody waits for");
            return;
        }
        match session.negotiator.handle_answer(sdp) {
            Ok(changes) => {
                session.round_succeeded(now, &self.metrics);
                self.apply(now, number, changes, out);
            }
            Err(error) => {
                let name = &session.config.session;
                tracing::warn!(session = name, %error, "the answer cannot be taken");
                session.round_failed(now, &self.metrics);
            }
        }
        self.advance(now, number, out);
    }

    fn mute(&mut self, number: SessionId, muted: bool, out: &mut Effects) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        // Without a voice there is nothing to mute, and what comes later is meant to be heard.
        if muted && session.voices().next().is_none() {
            return;
        }
        session.muted = muted;
        for track in session.voices() {
            out.push(Effect::Command(Command::SetMuted { session: number, track, muted }));
        }
    }

    fn share_screen(
        &mut self,
        now: Instant,
        number: SessionId,
        stream: String,
        out: &mut Effects,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(number) else { return Ok(()) };
        if self.screen.is_some_and(|owner| owner != number) {
            return Err("somebody else shares the screen already".to_owned());
        }
        self.screen = Some(number);
        session.withdraw_screen();
        let is_of_it = |p: &&mut Published| p.remote.source_stream.as_ref() == Some(&stream);
        for published in session.published.iter_mut().filter(is_of_it) {
            published.withdrawn = false;
        }
        session.screen_stream = Some(stream);
        self.reconsider(now, number, out);
        Ok(())
    }

    fn stop_screen(&mut self, now: Instant, number: SessionId, out: &mut Effects) {
        if self.screen != Some(number) {
            return;
        }
        self.screen = None;
        if let Some(session) = self.sessions.get_mut(number) {
            session.screen_stream = None;
            session.withdraw_screen();
        }
        self.reconsider(now, number, out);
    }

    fn show_camera(&mut self, now: Instant, number: SessionId, stream: String, out: &mut Effects) {
        if let Some(session) = self.sessions.get_mut(number) {
            session.camera_stream = Some(stream);
        }
        self.reconsider(now, number, out);
    }

    fn reconsider(&mut self, now: Instant, number: SessionId, out: &mut Effects) {
        self.classify_tracks(number, &[], out);
        if self.share(number, out) {
            self.advance_others(now, number, out);
        }
    }

    fn note_error(&self, number: SessionId, kind: ErrorKind, error: &str) {
        let Some(session) = self.sessions.get(number) else { return };
        // Counted rather than warned of: whoever sends such messages sends many.
        tracing::debug!(session = session.config.session, error, "a message was not followed");
        self.metrics.error(session.group(), kind);
    }
}
