//! Coming and going: joins along the ramp, churn, mutes, the end.

use std::cmp::Reverse;
use std::time::Duration;

use sluice_engine::clock::{self, Instant};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::ShardId;

use super::Fleet;
use super::peer::{ClientIdentity, Peer, Stage};
use super::seats::Seat;
use crate::conversation::{Conversation, Participant, TargetApi};
use crate::signalling::ClientNumber;

/// How long somebody who left is kept for answers that are under way.
const GRACE: Duration = Duration::from_secs(2);

/// How long those who leave have to say so.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// How long word of a mute may take to the server. Media that overtook it would be dropped there, as it should, and be taken for lost.
const WORD: Duration = Duration::from_millis(100);

/// What somebody who mutes and unmutes does next. Silence begins before the server is told, and ends after.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MuteStep {
    FallSilent,
    SayMuted,
    SayUnmuted,
    Speak,
}

impl Fleet {
    /// Lets the vacant seats be taken along the ramp, from `now` on.
    pub fn begin_joining(&mut self) {
        let now = clock::now();
        let scenario = &self.assignment.scenario;
        let step = scenario.join.ramp_s / f64::from(scenario.calls.people());
        for (at, (from, _)) in self.vacant.iter_mut().enumerate() {
            let position =
                at as f64 * f64::from(self.assignment.workers) + f64::from(self.assignment.worker);
            *from = now + Duration::from_secs_f64(step * position);
        }
    }

    /// Lets people leave and mute from here on, as the scenario says.
    pub(super) fn begin_moving(&mut self, now: Instant) {
        self.next_churn = self.assignment.scenario.churn.map(|_| now);
        let Some(mute) = self.assignment.scenario.mute else { return };
        for (socket, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            if peer.publications.iter().any(|publication| !publication.is_video()) {
                let first = Duration::from_secs_f64(mute.every_s * self.rng.f64());
                let step = MuteStep::FallSilent;
                self.mutes.push(Reverse((now + first, socket as u16, peer.number, step)));
            }
        }
    }

    /// Lets people take their seats, as many at a time as may.
    pub(super) fn admit(&mut self, now: Instant) {
        while self.joining < self.assignment.scenario.join.at_once_max {
            let Some(&(from, seat)) = self.vacant.front() else { return };
            if from > now {
                return;
            }
            let Some(socket) = self.free.pop_front() else { return };
            self.vacant.pop_front();
            self.take_seat(usize::from(socket), seat, from, now);
        }
    }

    /// Lets somebody join who wanted to since `from`: time in the queue is time to join.
    fn take_seat(&mut self, socket: usize, seat: Seat, from: Instant, now: Instant) {
        let Fleet { assignment, rng, identity, .. } = self;
        let scenario = &assignment.scenario;
        let session = format!("{}w{}p{}", assignment.run, assignment.worker, self.newcomers);
        let identity = ClientIdentity {
            params: identity.clone(),
            local: Credentials::generate(ShardId(0), &mut |bytes| rng.fill(bytes)),
            seed: rng.u64(..),
        };
        let sources = seat.sources(scenario);
        // By WHIP one sends or receives.
        let receives = assignment.target.api != TargetApi::Whip || sources.is_empty();
        let participant = Participant {
            call: format!("{}c{}", assignment.run, seat.call),
            session,
            receives,
            sources,
            local: identity.local.clone(),
            fingerprint: identity.params.fingerprint().clone(),
            seed: identity.seed,
        };
        self.signalling.add(ClientNumber(socket as u32), &participant.session);
        let mut conversation = Conversation::new(&assignment.target, participant, now);
        conversation.set_ping_interval(now, Duration::from_secs_f64(scenario.clients.ping_s));
        let mut peer =
            Peer::new(seat, conversation, identity, scenario, self.newcomers, receives, now);
        peer.asked_at = from;
        self.peers[socket] = Some(peer);
        self.newcomers += 1;
        self.joining += 1;
        self.serve(socket, now);
    }

    /// Notes that somebody is in, has failed, or took too long.
    pub(super) fn advance(&mut self, socket: usize, now: Instant) {
        let Some(Some(peer)) = self.peers.get_mut(socket) else { return };
        if peer.stage == Stage::Leaving {
            return;
        }
        let waited = now.since(peer.asked_at);
        if let Some(reason) = peer.failed.take() {
            return self.drop_failed(socket, reason);
        }
        let timeout = Duration::from_secs_f64(self.assignment.scenario.join.timeout_s);
        match peer.stage {
            Stage::Joining if peer.is_in() => {
                peer.stage = Stage::Joined;
                self.joining -= 1;
                self.progress.joined += 1;
                self.tally.join.add(waited);
                self.resume(socket, now, false);
            }
            Stage::Joining if waited > timeout => {
                let step = peer.what_lacks();
                self.drop_failed(
                    socket,
                    format!("a client had not joined after {waited:?}: {step}"),
                );
            }
            _ => {}
        }
    }

    fn drop_failed(&mut self, socket: usize, reason: String) {
        self.tally.fail(reason);
        self.tally.window.sessions_closed += 1;
        self.progress.failed += 1;
        self.depart(socket, clock::now());
    }

    /// Of those who only receive some leave for somebody new, as often as the scenario says.
    pub(super) fn churn(&mut self, now: Instant) {
        let Some(churn) = self.assignment.scenario.churn else { return };
        let interval = f64::from(self.assignment.workers) / churn.per_second;
        while let Some(due) = self.next_churn.filter(|due| *due <= now) {
            self.next_churn = Some(due + Duration::from_secs_f64(interval));
            if !self.replace_somebody(now) {
                return;
            }
        }
    }

    fn replace_somebody(&mut self, now: Instant) -> bool {
        let calls = self.assignment.scenario.calls;
        let senders = calls.unmuted.max(calls.screens);
        let count = self.peers.len();
        let start = self.rng.usize(..count.max(1));
        let goes = (0..count).map(|at| (start + at) % count).find(|&at| {
            self.peers[at]
                .as_ref()
                .is_some_and(|peer| peer.stage == Stage::Joined && peer.seat.place >= senders)
        });
        let Some(socket) = goes else { return false };
        if let Some(seat) = self.peers[socket].as_ref().map(|peer| peer.seat) {
            self.depart(socket, now);
            self.vacant.push_back((now, seat));
            self.tally.window.replaced += 1;
        }
        true
    }

    /// Mutes and unmutes whose time has come.
    pub(super) fn mute(&mut self, now: Instant) {
        let Some(mute) = self.assignment.scenario.mute else { return };
        let every = Duration::from_secs_f64(mute.every_s);
        let word = WORD.min(every / 4);
        while let Some(&Reverse((due, socket, number, step))) = self.mutes.peek() {
            if due > now {
                return;
            }
            self.mutes.pop();
            let at = usize::from(socket);
            let Some(Some(peer)) = self.peers.get_mut(at) else { continue };
            if peer.number != number {
                continue;
            }
            let (next, after) = match step {
                MuteStep::FallSilent => (MuteStep::SayMuted, word),
                MuteStep::SayMuted => (MuteStep::SayUnmuted, every - word * 2),
                MuteStep::SayUnmuted => (MuteStep::Speak, word),
                MuteStep::Speak => (MuteStep::FallSilent, every),
            };
            match step {
                MuteStep::FallSilent => peer.muted = true,
                MuteStep::SayMuted => peer.conversation.set_muted(now, true),
                MuteStep::SayUnmuted => peer.conversation.set_muted(now, false),
                MuteStep::Speak => peer.muted = false,
            }
            self.mutes.push(Reverse((due + after, socket, number, next)));
            self.serve(at, now);
            if step == MuteStep::Speak {
                self.resume(at, now, true);
            }
        }
    }

    /// A client tells the server that it goes. It is forgotten a little later: an answer that is under way may still name what is to be ended.
    fn depart(&mut self, socket: usize, now: Instant) {
        self.say_goodbye(socket, now);
        let Some(Some(peer)) = self.peers.get_mut(socket) else { return };
        self.tally.take_leaver(peer, now, self.is_publishing);
        peer.leaves_until = now + GRACE;
        peer.media = None;
        peer.received.clear();
        peer.publications.clear();
        if let Some(path) = self.paths[socket].take() {
            self.network.close_path(path.id);
        }
    }

    /// Forgets a client that has left; its socket rests.
    pub(super) fn forget_if_gone(&mut self, socket: usize, now: Instant) {
        let Some(Some(peer)) = self.peers.get(socket) else { return };
        if peer.stage == Stage::Leaving && peer.leaves_until <= now {
            self.forget(socket);
        }
    }

    fn forget(&mut self, socket: usize) {
        if self.peers[socket].take().is_some() {
            self.signalling.remove(ClientNumber(socket as u32));
            self.free.push_back(socket as u16);
        }
    }

    fn say_goodbye(&mut self, socket: usize, now: Instant) {
        let Some(Some(peer)) = self.peers.get_mut(socket) else { return };
        match std::mem::replace(&mut peer.stage, Stage::Leaving) {
            Stage::Joining => self.joining -= 1,
            Stage::Joined => {
                self.progress.joined -= 1;
            }
            Stage::Leaving => return,
        }
        peer.conversation.leave(now);
        self.serve(socket, now);
    }

    /// All leave; returns how many could not say so in time.
    pub fn leave(&mut self) -> usize {
        let now = clock::now();
        self.publish(false);
        // Nobody waits for what is left of a frame.
        self.due.clear();
        self.vacant.clear();
        self.next_churn = None;
        for socket in 0..self.peers.len() {
            self.say_goodbye(socket, now);
        }
        while self.signalling.pending() > 0 && clock::now().since(now) < LEAVE_MAX {
            self.turn(clock::now() + Duration::from_millis(20));
        }
        let left = self.signalling.pending();
        for socket in 0..self.peers.len() {
            self.depart(socket, now);
            self.forget(socket);
        }
        left
    }
}
