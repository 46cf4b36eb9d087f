//! The controlled ICE-lite agent of one session: it answers checks, keeps the routes they validate, follows the peer's choice
//! and forgets who no longer consents. Source: RFC 8445 §7.3, §8.2, §9; RFC 7675.
//!
//! A lite agent sends no checks, so a valid check of the peer is its evidence of consent. It never selects a route by
//! itself: USE-CANDIDATE on another route moves the selection there at once (which is how libwebrtc renominates, and how a
//! peer behind a NAT that changed its port comes back), and a selected route that falls silent stays selected until it expires,
//! even while others are heard.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::Credentials;
use crate::clock::Instant;
use crate::drop_reason::DropReason;
use crate::route::Route;
use crate::wire::stun::{
    Class, IntegrityKey, Message, TransactionId, write_binding_error, write_binding_success,
};

/// Validated routes that one session may have.
const ROUTES_MAX: usize = 8;
/// Transaction ids that are remembered with the route they came on, so that a retransmitted check gets its answer again.
const TRANSACTIONS_MAX: usize = 16;
/// Older transaction ids, remembered by a hash: about forty minutes of a browser's checks. One of them that comes again is a
/// replay, and may not move the media: MESSAGE-INTEGRITY does not cover the address (RFC 8445 §19.2).
const OLD_TRANSACTIONS_MAX: usize = 1_024;

/// The ICE side of one session.
pub struct IceLiteAgent {
    current: Generation,
    /// The credentials before a restart, until the new ones are used.
    previous: Option<Box<Generation>>,
    routes: Vec<ValidRoute>,
    selected: Option<Route>,
    transactions: Transactions,
    consent_timeout: Duration,
    /// The latest valid check; `None` before the first, and once consent is lost.
    heard: Option<Instant>,
}

/// What became of a check that is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Bytes of the reply, which goes back the way the check came. Zero when `reply` was too small.
    pub reply_len: usize,
    /// What changed, if anything.
    pub event: Option<IceEvent>,
    /// A route that had to make room and is not valid any more.
    pub evicted: Option<Route>,
}

/// What a check changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IceEvent {
    /// A route was proved that was not valid before.
    Validated(Route),
    /// The peer nominated this route (valid with it): another one than before, or the first under new credentials, when
    /// [`IceLiteAgent::local_ufrags`] has changed too.
    Selected(Route),
}

/// What time took away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expired {
    /// A route was silent for too long and is not valid any more.
    Route(Route),
    /// No route was heard for too long. Nothing may be sent until checks under new credentials arrive (RFC 7675 §5.1).
    Consent,
}

/// One set of local credentials, and which peer may use it.
struct Generation {
    local: Credentials,
    key: IntegrityKey,
    /// The peer's ufrag, once signalled; until then any is taken, since checks may overtake the answer (RFC 8445 §7.3).
    remote: Option<String>,
    /// The one before it: checks under way still carry it.
    former_remote: Option<String>,
    /// Whether a check under it nominated a route.
    nominated: bool,
    /// Whether any check under it was valid.
    used: bool,
    /// Whether consent was lost under it: it cannot bring it back.
    expired: bool,
}

#[derive(Clone, Copy)]
struct ValidRoute {
    route: Route,
    heard: Instant,
}

impl IceLiteAgent {
    /// Makes an agent. `consent_timeout` is 30 s by RFC 7675 §5.1.
    pub fn new(local: Credentials, remote: Option<Credentials>, consent_timeout: Duration) -> Self {
        Self {
            current: Generation::new(local, remote.map(|remote| remote.ufrag)),
            previous: None,
            routes: Vec::new(),
            selected: None,
            transactions: Transactions::new(),
            consent_timeout,
            heard: None,
        }
    }

    /// Judges one STUN message and writes the reply to the front of `reply`, which holds at least 128 bytes.
    ///
    /// A check must carry USERNAME `ours:theirs` and a MESSAGE-INTEGRITY made with our password. One that does is answered:
    /// with success; with 420 when it needs attributes that we do not know; with 487 when the peer thinks that it is
    /// controlled, which nobody opposite a lite agent is (RFC 8445 §6.1.1). The retransmission of a check gets its answer
    /// again and changes nothing: repeating a captured check does not renew consent.
    /// # Errors
    /// No answer is due, and nothing changed. `UnusedStun` for anything but a Binding request, and for credentials under which
    /// consent was lost; `BadStunIntegrity` for a USERNAME or MESSAGE-INTEGRITY that is missing or wrong; `ReplayedCheck` when the
    /// transaction id was seen on another route, or long ago.
    /// Source: RFC 8445 §7.3, RFC 8489 §6.3.1, §9.1.3.
    pub fn handle_check(
        &mut self,
        now: Instant,
        route: Route,
        message: &Message<'_>,
        reply: &mut [u8],
    ) -> Result<Checked, DropReason> {
        if message.class() != Class::Request || !message.is_binding() {
            return Err(DropReason::UnusedStun);
        }
        let (ours, theirs) = message.username_parts().ok_or(DropReason::BadStunIntegrity)?;
        let is_current = self.current.admits(ours, theirs);
        let previous = self.previous.as_deref().filter(|previous| previous.admits(ours, theirs));
        let generation = if is_current { Some(&self.current) } else { previous };
        let generation = generation.ok_or(DropReason::BadStunIntegrity)?;
        if !message.verify_integrity(&generation.key) {
            return Err(DropReason::BadStunIntegrity);
        }
        // The timer may be a little late; consent is not.
        let expired = generation.used && self.heard.is_some() && !self.has_consent(now);
        if expired || generation.expired {
            return Err(DropReason::UnusedStun);
        }
        let id = message.transaction_id();
        let seen = self.transactions.seen(id, route);
        if seen == Seen::Before {
            return Err(DropReason::ReplayedCheck);
        }
        let is_first = seen == Seen::Never;

        let key = &generation.key;
        let unknown = message.unknown_required();
        let error = if !unknown.is_empty() {
            write_binding_error(reply, id, 420, unknown.as_slice(), Some(key))
        } else if message.ice_controlled().is_some() {
            write_binding_error(reply, id, 487, &[], Some(key))
        } else {
            let reply_len = write_binding_success(reply, id, route.remote, key);
            let mut checked =
                Checked { reply_len: reply_len.unwrap_or(0), event: None, evicted: None };
            if is_first {
                self.transactions.note(id, route);
                self.accept(now, route, message.use_candidate(), is_current, &mut checked);
            }
            return Ok(checked);
        };
        if is_first {
            self.transactions.note(id, route);
        }
        Ok(Checked { reply_len: error.unwrap_or(0), event: None, evicted: None })
    }

    /// Takes a valid check into account.
    fn accept(
        &mut self,
        now: Instant,
        route: Route,
        nominates: bool,
        is_current: bool,
        checked: &mut Checked,
    ) {
        self.heard = Some(now);
        let known = self.routes.iter_mut().find(|valid| valid.route == route);
        if let Some(valid) = known {
            valid.heard = now;
        } else {
            checked.evicted = self.make_room();
            // Most peers are heard on one route or two.
            self.routes.reserve_exact(1);
            self.routes.push(ValidRoute { route, heard: now });
            checked.event = Some(IceEvent::Validated(route));
        }
        let mut switched = false;
        if is_current {
            self.current.used = true;
            if nominates && !self.current.nominated {
                self.current.nominated = true;
                self.previous = None;
                switched = true;
            }
        }
        if nominates && (switched || self.selected != Some(route)) {
            self.selected = Some(route);
            checked.event = Some(IceEvent::Selected(route));
        }
    }

    /// Takes out the least recently heard route that is not selected, when there is no room for one more.
    fn make_room(&mut self) -> Option<Route> {
        if self.routes.len() < ROUTES_MAX {
            return None;
        }
        let others = self.routes.iter().enumerate().filter(|(_, v)| Some(v.route) != self.selected);
        let (at, _) = others.min_by_key(|(_, valid)| valid.heard)?;
        Some(self.routes.remove(at).route)
    }

    /// Takes away what was silent for too long, one thing a call: call until it returns `None`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Expired> {
        let timeout = self.consent_timeout;
        let silent = self.routes.iter().find(|valid| now >= valid.heard + timeout);
        if let Some(&ValidRoute { route, .. }) = silent {
            self.forget_route(route);
            return Some(Expired::Route(route));
        }
        self.heard.filter(|&heard| now >= heard + timeout)?;
        self.heard = None;
        if let Some(previous) = &mut self.previous {
            previous.expired = true;
        }
        // Credentials of a restart that no check has used yet may still bring the peer back.
        self.current.expired |= self.current.used;
        Some(Expired::Consent)
    }

    /// When [`IceLiteAgent::handle_timeout`] has something to take away, if nothing is heard until then.
    pub fn next_deadline(&self) -> Option<Instant> {
        let heard = self.routes.iter().map(|valid| valid.heard).chain(self.heard);
        heard.min().map(|heard| heard + self.consent_timeout)
    }

    /// Whether anything but STUN may be sent to this peer.
    pub fn has_consent(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now < heard + self.consent_timeout)
    }

    /// Whether a check proved this route and it has not expired: only then anything but STUN is read from it.
    pub fn is_valid(&self, route: Route) -> bool {
        self.routes.iter().any(|valid| valid.route == route)
    }

    /// When the latest check came on a validated route.
    pub fn heard_on(&self, route: Route) -> Option<Instant> {
        self.routes.iter().find(|valid| valid.route == route).map(|valid| valid.heard)
    }

    /// The route that the peer nominated: where media goes.
    pub fn selected(&self) -> Option<Route> {
        self.selected
    }

    /// Where the handshake and media go: the selected route, or the first validated one while none is nominated.
    pub fn handshake_route(&self) -> Option<Route> {
        self.selected.or_else(|| self.routes.first().map(|valid| valid.route))
    }

    /// All validated routes, eight at most, in the order in which they were proved.
    pub fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.routes.iter().map(|valid| valid.route)
    }

    /// The ufrags under which checks for this session may come: the current one and, during a restart, the one before it.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_deref().filter(|previous| !previous.expired);
        [Some(&self.current), previous].into_iter().flatten().map(|g| g.local.ufrag.as_str())
    }

    /// Gives us new credentials. The old ones are answered until a check under the new ones nominates a route; routes and
    /// selection stay meanwhile. Source: RFC 8445 §9.
    pub fn restart(&mut self, local: Credentials) {
        if local.ufrag == self.current.local.ufrag {
            return;
        }
        let former = std::mem::replace(&mut self.current, Generation::new(local, None));
        // A restart that nobody has used is overtaken by this one; what carries the media is still the one before.
        if former.used || self.previous.is_none() {
            self.previous = Some(Box::new(former));
        }
    }

    /// Names the peer's credentials: its answer to our offer, or its half of a restart, before or after
    /// [`IceLiteAgent::restart`].
    pub fn set_remote(&mut self, remote: Credentials) {
        let current = &mut self.current;
        if current.remote.as_ref() != Some(&remote.ufrag) {
            current.former_remote = current.remote.replace(remote.ufrag);
        }
    }

    /// Forgets a route that is gone by itself, such as a closed TCP connection.
    pub fn forget_route(&mut self, route: Route) {
        self.routes.retain(|valid| valid.route != route);
        if self.selected == Some(route) {
            self.selected = None;
        }
    }
}

impl Generation {
    fn new(local: Credentials, remote: Option<String>) -> Self {
        let key = IntegrityKey::new(local.pwd.as_bytes());
        Self {
            local,
            key,
            remote,
            former_remote: None,
            nominated: false,
            used: false,
            expired: false,
        }
    }

    /// Whether these are the two halves of a USERNAME under these credentials.
    fn admits(&self, ours: &[u8], theirs: &[u8]) -> bool {
        let is = |ufrag: &Option<String>| ufrag.as_ref().is_some_and(|u| u.as_bytes() == theirs);
        ours == self.local.ufrag.as_bytes()
            && (self.remote.is_none() || is(&self.remote) || is(&self.former_remote))
    }
}

/// Hashes of the transaction ids that were seen: the latest with those of the routes they are bound to, and those before them.
///
/// The old ones take memory as they come. Who makes a route collide with the one of a check that it captured gets an answer and nothing else.
struct Transactions {
    latest: VecDeque<(u32, u32)>,
    old: VecDeque<u32>,
}

/// Whether a transaction id came before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    /// Lately, on this route: a retransmission.
    Here,
    /// On another route, or long ago.
    Before,
}

impl Transactions {
    fn new() -> Self {
        Self { latest: VecDeque::with_capacity(TRANSACTIONS_MAX), old: VecDeque::new() }
    }

    fn seen(&self, id: TransactionId, route: Route) -> Seen {
        let id = Self::hash(id);
        match self.latest.iter().find(|(seen, _)| *seen == id) {
            Some(&(_, on)) if on == Self::hash_route(route) => Seen::Here,
            None if !self.old.contains(&id) => Seen::Never,
            _ => Seen::Before,
        }
    }

    fn note(&mut self, id: TransactionId, route: Route) {
        if self.latest.len() == TRANSACTIONS_MAX
            && let Some((oldest, _)) = self.latest.pop_front()
        {
            if self.old.len() == OLD_TRANSACTIONS_MAX {
                self.old.pop_front();
            }
            self.old.push_back(oldest);
        }
        self.latest.push_back((Self::hash(id), Self::hash_route(route)));
    }

    /// Mixed, since a peer may count where it should choose at random. Only its own checks can collide.
    fn hash(id: TransactionId) -> u32 {
        let words = id.0.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
        words.fold(0, |hash: u32, word| (hash.rotate_left(7) ^ word).wrapping_mul(0x9E37_79B1))
    }

    fn hash_route(route: Route) -> u32 {
        FixedState::default().hash_one(route) as u32
    }
}

#[cfg(test)]
mod tests;
