//! The signalling lock of one session: whoever holds it may change what is sent and received.

use std::time::Duration;

use sluice_engine::clock::Instant;

/// How long a client may hold the lock. One that never gives it back would otherwise get no track ever again.
pub(super) const CLIENT_HOLD_MAX: Duration = Duration::from_secs(10);

/// Who may negotiate at the moment, and who waits for it.
///
/// The client asks and is refused while the lock is held; we wait. Only who holds the lock can give it back: clients also
/// unlock what they never locked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SignalingLock {
    held: Option<Hold>,
    /// Since when we wait for it.
    waiting: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    owner: Owner,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Client,
    Server,
}

impl SignalingLock {
    /// The client asks for the lock; whether it has it. A client that holds it already is refused, as anybody else.
    pub(super) fn try_client(&mut self, now: Instant) -> bool {
        // We come first when we wait already, or a client that asks often would keep us out.
        let is_free = self.held.is_none() && self.waiting.is_none();
        if is_free {
            self.held = Some(Hold { owner: Owner::Client, since: now });
        }
        is_free
    }

    /// The client gives the lock back; how long it was held, or `None` when the client does not hold it.
    pub(super) fn release_client(&mut self, now: Instant) -> Option<Duration> {
        self.release(Owner::Client, now)
    }

    /// We ask for the lock; the time that we waited for it, or `None` while somebody else holds it: ask again when
    /// it is given back or expires.
    pub(super) fn try_server(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.waiting.get_or_insert(now);
        if self.held.is_some() {
            return None;
        }
        self.waiting = None;
        self.held = Some(Hold { owner: Owner::Server, since: now });
        Some(now.since(since))
    }

    /// There is nothing to wait for any more.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// We give the lock back; how long we held it.
    pub(super) fn release_server(&mut self, now: Instant) -> Option<Duration> {
        self.release(Owner::Server, now)
    }

    fn release(&mut self, owner: Owner, now: Instant) -> Option<Duration> {
        let hold = self.held.take_if(|hold| hold.owner == owner)?;
        Some(now.since(hold.since))
    }

    /// Takes the lock from a client that holds it too long; how long it was held.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Duration> {
        self.expires_at().filter(|&at| at <= now).and_then(|_| self.release_client(now))
    }

    /// When [`SignalingLock::expire`] is to be called.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        let hold = self.held.filter(|hold| hold.owner == Owner::Client)?;
        Some(hold.since + CLIENT_HOLD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn one_holds_it_and_only_that_one_gives_it_back() {
        let mut lock = SignalingLock::default();
        assert!(lock.try_client(at(0)));
        assert!(!lock.try_client(at(1)), "also a client that holds it is refused");
        assert_eq!(lock.release_server(at(2)), None);
        assert_eq!(lock.release_client(at(30)), millis(30));
        assert_eq!(lock.release_client(at(31)), None);

        assert_eq!(lock.try_server(at(40)), millis(0));
        assert_eq!(lock.release_client(at(41)), None, "the client unlocks what is ours");
        assert!(!lock.try_client(at(42)));
        assert_eq!(lock.release_server(at(50)), millis(10));
    }

    #[test]
    fn we_wait_and_are_next() {
        let mut lock = SignalingLock::default();
        assert!(lock.try_client(at(0)));
        assert_eq!(lock.try_server(at(10)), None);
        assert_eq!(lock.try_server(at(20)), None);
        assert!(lock.release_client(at(30)).is_some());
        assert!(!lock.try_client(at(31)), "we waited before");
        assert_eq!(lock.try_server(at(35)), millis(25));
    }

    #[test]
    fn a_client_that_never_unlocks_loses_it() {
        let mut lock = SignalingLock::default();
        assert!(lock.try_client(at(5)));
        assert_eq!(lock.expires_at(), Some(at(5) + CLIENT_HOLD_MAX));
        assert_eq!(lock.expire(at(10_004)), None);
        assert_eq!(lock.expire(at(10_005)), Some(CLIENT_HOLD_MAX));
        assert_eq!(lock.expires_at(), None);
        assert_eq!(lock.try_server(at(10_005)), millis(0));
        assert_eq!(lock.expires_at(), None, "ours ends with the answer or its deadline");
    }
}
