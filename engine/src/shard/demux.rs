//! Whose datagram is this: route → session on first sight of the route, ufrag → session on first contact.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::clock::Instant;
use crate::ids::{SessionKey, ShardId};
use crate::route::Route;

/// Who gets the datagrams of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A session of this shard.
    Session(SessionKey),
    /// Another shard, which validated the route after we had passed its checks on.
    Shard(ShardId),
}

/// The two tables of a shard. Both hold only what an authenticated peer or the control plane made, so they are bounded by the
/// sessions: routes of a session by the ICE agent, those of other shards by [`Demux::FOREIGN_MAX`].
#[derive(Default)]
pub struct Demux {
    routes: HashMap<Route, Owner, RandomState>,
    ufrags: HashMap<Box<[u8]>, SessionKey, RandomState>,
    /// When the shard that a route belongs to last said so.
    foreign: HashMap<Route, Instant, RandomState>,
}

/// How long after a session's last check on a route no other can claim it. Whoever holds credentials can send checks from
/// somebody else's address; that must not take the datagrams from there away from a session that is alive.
pub const HELD: Duration = Duration::from_secs(10);

impl Demux {
    /// Routes that may be known to belong to other shards. Beyond it their datagrams are dropped as unknown.
    pub const FOREIGN_MAX: usize = 100_000;

    /// Who owns `route`.
    pub fn owner(&self, route: &Route) -> Option<Owner> {
        self.routes.get(route).copied()
    }

    /// Gives `route` to a session.
    pub fn claim(&mut self, route: Route, session: SessionKey) {
        if let Some(Owner::Shard(_)) = self.routes.insert(route, Owner::Session(session)) {
            self.foreign.remove(&route);
        }
    }

    /// Takes `route` from a session; another owner's claim stays.
    pub fn release(&mut self, route: Route, session: SessionKey) {
        if self.owner(&route) == Some(Owner::Session(session)) {
            self.routes.remove(&route);
        }
    }

    /// Notes that `route` belongs to `shard`; false when too many do, or when it was another shard's within [`HELD`]. A session
    /// of ours keeps its claim.
    pub fn point_to(&mut self, now: Instant, route: Route, shard: ShardId) -> bool {
        match self.owner(&route) {
            Some(Owner::Session(_)) => return false,
            Some(Owner::Shard(owner)) if owner != shard && self.is_held(now, &route) => {
                return false;
            }
            Some(Owner::Shard(_)) => {}
            None if self.foreign.len() == Self::FOREIGN_MAX => return false,
            None => {}
        }
        self.foreign.insert(route, now);
        self.routes.insert(route, Owner::Shard(shard));
        true
    }

    /// Whether another shard said within [`HELD`] that `route` is its own.
    pub fn is_held(&self, now: Instant, route: &Route) -> bool {
        self.foreign.get(route).is_some_and(|&said| now.since(said) < HELD)
    }

    /// Routes that are known to belong to other shards.
    pub fn foreign(&self) -> usize {
        self.foreign.len()
    }

    /// Forgets that `route` belongs to `shard`.
    pub fn unpoint(&mut self, route: Route, shard: ShardId) {
        if self.owner(&route) == Some(Owner::Shard(shard)) {
            self.routes.remove(&route);
            self.foreign.remove(&route);
        }
    }

    /// The session that answers to `ufrag`.
    pub fn by_ufrag(&self, ufrag: &[u8]) -> Option<SessionKey> {
        self.ufrags.get(ufrag).copied()
    }

    /// Lets a session answer to `ufrag`; false when another one does.
    pub fn add_ufrag(&mut self, ufrag: &str, session: SessionKey) -> bool {
        match self.by_ufrag(ufrag.as_bytes()) {
            Some(owner) => owner == session,
            None => self.ufrags.insert(ufrag.as_bytes().into(), session).is_none(),
        }
    }

    /// Forgets `ufrag`.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Transport;

    const SESSION: SessionKey = SessionKey { slot: 1, generation: 1 };
    const OTHER: SessionKey = SessionKey { slot: 2, generation: 1 };

    fn route() -> Route {
        let remote = "192.0.2.1:5".parse().expect("an address");
        Route { transport: Transport::Udp, local: 0, remote }
    }

    #[test]
    fn a_claim_outlives_pointers_and_foreign_releases() {
        let mut demux = Demux::default();
        let now = Instant::default();
        assert!(demux.point_to(now, route(), ShardId(3)));
        demux.claim(route(), SESSION);
        assert!(!demux.point_to(now, route(), ShardId(3)));
        demux.unpoint(route(), ShardId(3));
        demux.release(route(), OTHER);
        assert_eq!(demux.owner(&route()), Some(Owner::Session(SESSION)));
        demux.release(route(), SESSION);
        assert_eq!((demux.owner(&route()), demux.foreign()), (None, 0));
    }

    #[test]
    fn a_pointer_that_is_renewed_cannot_be_turned_elsewhere() {
        let mut demux = Demux::default();
        let now = Instant::default();
        assert!(demux.point_to(now, route(), ShardId(3)));
        assert!(demux.point_to(now + HELD / 2, route(), ShardId(3)));
        assert!(!demux.point_to(now + HELD, route(), ShardId(4)));
        assert!(demux.point_to(now + HELD / 2 + HELD, route(), ShardId(4)));
        demux.unpoint(route(), ShardId(3));
        assert_eq!(demux.owner(&route()), Some(Owner::Shard(ShardId(4))));
    }

    #[test]
    fn a_ufrag_has_one_owner() {
        let mut demux = Demux::default();
        assert!(demux.add_ufrag("aa12", SESSION));
        assert!(demux.add_ufrag("aa12", SESSION));
        assert!(!demux.add_ufrag("aa12", OTHER));
        demux.remove_ufrag("aa12");
        assert_eq!(demux.by_ufrag(b"aa12"), None);
    }
}
