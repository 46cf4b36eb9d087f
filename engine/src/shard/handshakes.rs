//! Handshakes: so much of a turn and no more, shared between sessions.

use super::mailbox::Report;
use super::{Shard, budget};
use crate::clock::Instant;
use crate::drop_reason::DropReason;
use crate::ids::SessionKey;
use crate::session::Handshake;

/// Content type of records with application data. Source: RFC 5246 §6.2.1.
const APPLICATION_DATA: u8 = 23;

impl Shard {
    /// Takes one DTLS datagram: now, or in a later turn when the time for handshakes, or this session's share of it, is spent.
    pub(super) fn handle_dtls(&mut self, now: Instant, key: SessionKey, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.drops.count(DropReason::SessionClosed);
        };
        if !session.takes_dtls() {
            return self.drops.count(DropReason::BadDtls);
        }
        if datagram.first() == Some(&APPLICATION_DATA) && session.profile().is_some() {
            return self.handle_data(now, key, datagram);
        }
        let share = &mut session.handshake_share;
        if share.turn != self.counters.turns {
            (share.turn, share.handled) = (self.counters.turns, 0);
        }
        let has_share = share.handled < budget::HANDSHAKES_PER_SESSION;
        if self.deferred.is_empty() && self.handshakes_left > 0 && has_share {
            share.handled += 1;
            return self.advance_handshake(now, key, datagram);
        }
        if share.waiting == budget::HANDSHAKES_DEFERRED_PER_SESSION
            || self.deferred.len() == budget::HANDSHAKES_DEFERRED
        {
            return self.drops.count(DropReason::HandshakeQueueFull);
        }
        share.waiting += 1;
        self.counters.handshakes_deferred += 1;
        self.deferred.push_back((key, datagram.into()));
    }

    pub(super) fn resume_handshakes(&mut self, now: Instant) -> bool {
        while self.handshakes_left > 0
            && let Some((key, datagram)) = self.deferred.pop_front()
        {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            session.handshake_share.waiting -= 1;
            self.current = Some(key);
            self.advance_handshake(now, key, &datagram);
            self.current = None;
        }
        !self.deferred.is_empty()
    }

    fn advance_handshake(&mut self, now: Instant, key: SessionKey, datagram: &[u8]) {
        self.handshakes_left -= 1;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let outcome = session.handle_dtls(now, datagram, &mut self.egress);
        self.after_handshake(now, key, outcome);
    }

    pub(super) fn after_handshake(&mut self, now: Instant, key: SessionKey, outcome: Handshake) {
        match outcome {
            Handshake::Running => {}
            Handshake::Connected => self.connected(now, key),
            Handshake::Ended(error) => return self.end_session(now, key, error),
        }
        if let Some(session) = self.sessions.get(key) {
            let deadline = session.next_deadline();
            self.arm(key, deadline);
        }
        self.serve_data(now, key);
    }

    /// The session has keys: say so, and ask for key frames of what it is to get.
    pub(super) fn connected(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        let Some(profile) = session.profile() else { return };
        self.counters.sessions_connected += 1;
        let report = Report::Connected { session: session.id, profile };
        let legs = session.sender.legs();
        let tracks: Vec<_> = legs.map(|(_, leg)| (leg.track, leg.layer)).collect();
        self.report(report);
        for (track, layer) in tracks {
            self.request_keyframe(now, track, layer);
        }
    }

    pub(super) fn begin_handshake(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let outcome = session.start_handshake(now, &self.identity, &mut self.egress);
        self.after_handshake(now, key, outcome);
    }
}
