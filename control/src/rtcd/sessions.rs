//! The sessions of a call, and which of them wait for a moment: most wait for none, and a call of a thousand is not looked through at
//! each message of one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;

use sluice_engine::clock::Instant;
use sluice_engine::ids::SessionId;

use super::session::Session;

/// The sessions of a call by their numbers.
#[derive(Default)]
pub(super) struct Sessions {
    /// Boxed: half of a tree's places are empty.
    all: BTreeMap<SessionId, Box<Session>>,
    /// Every session that waits for a moment, and some that were touched and wait for none.
    restless: BTreeSet<SessionId>,
}

impl Sessions {
    pub(super) fn insert(&mut self, number: SessionId, session: Box<Session>) {
        self.restless.insert(number);
        self.all.insert(number, session);
    }

    pub(super) fn remove(&mut self, number: SessionId) -> Option<Box<Session>> {
        self.restless.remove(&number);
        self.all.remove(&number)
    }

    /// Takes all of them out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (SessionId, Box<Session>)> + use<> {
        self.restless.clear();
        std::mem::take(&mut self.all).into_iter()
    }

    pub(super) fn get(&self, number: SessionId) -> Option<&Session> {
        self.all.get(&number).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, number: SessionId) -> Option<&mut Session> {
        let session = self.all.get_mut(&number)?;
        self.restless.insert(number);
        Some(session)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Session> {
        self.all.values().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.restless.extend(self.all.keys());
        self.all.values_mut().map(Box::as_mut)
    }

    /// Those whose moment has come.
    pub(super) fn due(&self, now: Instant) -> Vec<SessionId> {
        let is_due = |number: &SessionId| {
            let deadline = self.get(*number).and_then(Session::next_deadline);
            deadline.is_some_and(|at| at <= now)
        };
        self.restless.iter().copied().filter(is_due).collect()
    }

    /// The earliest moment that any of them waits for.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        let all = &self.all;
        self.restless.retain(|number| {
            let deadline = all.get(number).and_then(|session| session.next_deadline());
            earliest = earliest.into_iter().chain(deadline).min();
            deadline.is_some()
        });
        earliest
    }
}

impl Index<&SessionId> for Sessions {
    type Output = Session;

    fn index(&self, number: &SessionId) -> &Session {
        &self.all[number]
    }
}
