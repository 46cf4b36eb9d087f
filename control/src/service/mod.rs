//! Calls and sessions: the only place where requests, negotiation and the engine meet.
//!
//! A call's state is behind one asynchronous lock, so that everything that
//! happens to its sessions happens in one order; calls do not wait for each other. While the lock
//! is held only shards are waited for, never a client: what clients are told goes into
//! bounded queues ([`link`]). Steps run in tasks of their own, so that a client that hangs up in
//! the middle of a request leaves nothing half done.

mod call;
mod drain;
mod guests;
pub mod link;
mod session;
mod shards;
pub mod views;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::ids::{SessionId, ShardId};
use sluice_engine::shard::handle::EngineFacts;
use sluice_engine::shard::mailbox::ShardSnapshot;

use crate::addresses::Advertised;
use crate::config::{Config, Limits};
use crate::error::{ApiError, Code};
use crate::media_plane::MediaPlane;
use crate::placement::Placement;
use call::Call;
pub use call::Member;
pub(crate) use drain::unix_s;
pub use drain::{Drain, DrainCause};
pub use guests::GuestReports;
use shards::{Numbers, Shards};
pub(crate) use shards::{fill_random, random_id};
pub use watch::{ReportQueue, report_channels};

/// Calls and sessions, and the way to the engine.
pub struct Service {
    shards: Shards,
    advertised: Arc<Advertised>,
    limits: Limits,
    /// Time that a session may be without a negotiation and without a WebSocket.
    abandoned_after: Duration,
    numbers: Arc<Numbers>,
    calls: Mutex<HashMap<String, Arc<Call>>>,
    /// Whose a session is, for reports of the engine.
    owners: Mutex<HashMap<SessionId, Owner>>,
    drain: RwLock<Option<Drain>>,
    /// What the service counts.
    pub counters: Counters,
}

/// Whose a session is.
enum Owner {
    /// A call of the service.
    Call(Arc<Call>),
    /// Another interface.
    Guest {
        /// Where reports about it go.
        reports: GuestReports,
        /// The shard that has it, once it has.
        shard: Option<ShardId>,
    },
}

/// What the service counts. All only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// WebSockets opened.
    pub websockets_opened: AtomicU64,
    /// WebSockets closed because the client read too slowly.
    pub websockets_overflowed: AtomicU64,
    /// Sessions on one side only that were cleaned up.
    pub sessions_reconciled: AtomicU64,
}

/// A new session.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The kind, which says what it may do.
    pub kind: views::SessionKind,
    /// The name that the others see.
    pub name: Option<String>,
    /// Whether it is sent the others' tracks.
    pub subscribe: bool,
    /// The client's offer; without it the server offers.
    pub offer: Option<String>,
    /// Whether the client is on this host, so that loopback candidates are of use to it.
    pub from_this_host: bool,
}

/// What a new session is answered with.
#[derive(Clone, Debug)]
pub struct CreatedSession {
    /// The session.
    pub session: views::SessionView,
    /// The answer to the client's offer.
    pub answer: Option<String>,
    /// The server's offer with its number, when the client made none and there is something to
    /// offer.
    pub offer: Option<(u64, String)>,
    /// Opens the session's WebSocket.
    pub ticket: String,
    /// The entity tag of its ICE generation.
    pub etag: String,
}

/// What a fragment of a WHIP or WHEP client came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Patched {
    /// Candidates were taken.
    Trickled,
    /// ICE was restarted: the fragment to answer with, and the new entity tag.
    Restarted {
        /// The fragment.
        fragment: String,
        /// The entity tag.
        etag: String,
    },
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is a single map operation: a panic elsewhere leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a step to its end even if whoever waits for it goes away.
async fn detached<T: Send + 'static>(
    step: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(step).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "a step of the service failed");
            Err(ApiError::new(Code::Internal, "the server failed; its log says more"))
        }
    }
}

impl Service {
    /// Takes the running engine.
    pub fn new(plane: Arc<dyn MediaPlane>, config: &Config) -> Arc<Self> {
        let facts = plane.facts();
        let advertised = Advertised::new(&config.media, &facts.udp, &facts.tcp);
        Arc::new(Self {
            advertised: Arc::new(advertised),
            limits: config.limits,
            abandoned_after: config.engine.connect_timeout,
            numbers: Arc::new(Numbers::default()),
            calls: Mutex::default(),
            owners: Mutex::default(),
            drain: RwLock::default(),
            counters: Counters::default(),
            shards: Shards::new(plane),
        })
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> u16 {
        self.shards.plane.shards()
    }

    /// What the engine found out when it started.
    pub fn facts(&self) -> &EngineFacts {
        self.shards.plane.facts()
    }

    /// What clients are told of this host's addresses.
    pub fn advertised(&self) -> &Arc<Advertised> {
        &self.advertised
    }

    /// Each shard with its load in thousandths and its counters; `None` where it does not answer
    /// within a second.
    pub async fn shard_states(&self) -> Vec<(ShardId, u32, Option<Arc<ShardSnapshot>>)> {
        let mut states = Vec::new();
        for shard in self.shards.ids() {
            let load = self.shards.plane.load_permille(shard);
            states.push((shard, load, self.shards.snapshot(shard).await));
        }
        states
    }

    /// Whether new sessions are welcome: not draining, and every shard answers within a second.
    pub async fn is_ready(&self) -> bool {
        !self.is_draining()
            && self.shard_states().await.iter().all(|(_, _, snapshot)| snapshot.is_some())
    }

    /// How many calls and sessions there are.
    pub fn totals(&self) -> (usize, usize) {
        (locked(&self.calls).len(), locked(&self.owners).len())
    }

    /// Makes a call. One that is `kept` lives until it is deleted, another goes with its last session, or when none comes. Without an id it
    /// gets a random one.
    ///
    /// # Errors
    /// `BadRequest`, `CallExists`, `LimitReached`, `Unavailable` when draining.
    pub fn create_call(&self, id: Option<String>, kept: bool) -> Result<views::CallView, ApiError> {
        self.refuse_when_draining()?;
        let id = id.unwrap_or_else(shards::random_id);
        check_call_id(&id)?;
        let mut calls = locked(&self.calls);
        if calls.contains_key(&id) {
            return Err(ApiError::new(Code::CallExists, format!("there is a call {id:?} already")));
        }
        let call = self.insert_call(&mut calls, &id, kept)?;
        Ok(views::CallView { id, shard: call.home.0, sessions: 0, tracks: 0 })
    }

    fn insert_call(
        &self,
        calls: &mut HashMap<String, Arc<Call>>,
        id: &str,
        kept: bool,
    ) -> Result<Arc<Call>, ApiError> {
        if calls.len() >= self.limits.calls {
            let detail = format!("there are {} calls already (limits.calls)", calls.len());
            return Err(ApiError::new(Code::LimitReached, detail));
        }
        let placement = self.new_placement();
        let call = Arc::new(Call::new(id, self.numbers.call(), placement, kept, clock::now()));
        calls.insert(id.to_owned(), Arc::clone(&call));
        Ok(call)
    }

    /// Of a call that is about to begin.
    fn new_placement(&self) -> Placement {
        Placement::new(self.shards.plane.least_loaded(), self.limits.call_sessions_per_shard)
    }

    /// A number for a new session, and the shard that it goes to.
    fn place_session(&self, placement: &mut Placement) -> (SessionId, ShardId) {
        let (number, plane) = (self.numbers.session(), &self.shards.plane);
        let shard = placement.place(number, plane.shards(), |shard| plane.load_permille(shard));
        (number, shard)
    }

    /// The call of this id.
    fn call(&self, id: &str) -> Result<Arc<Call>, ApiError> {
        locked(&self.calls)
            .get(id)
            .cloned()
            .ok_or_else(|| ApiError::new(Code::UnknownCall, format!("there is no call {id:?}")))
    }

    fn all_calls(&self) -> Vec<Arc<Call>> {
        let mut calls: Vec<_> = locked(&self.calls).values().cloned().collect();
        calls.sort_by(|a, b| a.id.cmp(&b.id));
        calls
    }

    /// All calls.
    pub async fn calls(&self) -> Vec<views::CallView> {
        let mut views = Vec::new();
        for call in self.all_calls() {
            views.push(call.view().await);
        }
        views
    }

    /// One call.
    ///
    /// # Errors
    /// `UnknownCall`.
    pub async fn call_view(&self, id: &str) -> Result<views::CallView, ApiError> {
        Ok(self.call(id)?.view().await)
    }

    /// The tracks of a call.
    ///
    /// # Errors
    /// `UnknownCall`.
    pub async fn tracks(&self, id: &str) -> Result<Vec<views::TrackView>, ApiError> {
        Ok(self.call(id)?.track_views().await)
    }

    /// Ends a call and its sessions.
    ///
    /// # Errors
    /// `UnknownCall`.
    pub async fn delete_call(self: &Arc<Self>, id: &str) -> Result<(), ApiError> {
        let call = self.call(id)?;
        let service = Arc::clone(self);
        detached(async move {
            service.end_call(&call, "the call was deleted", link::CloseCode::SessionEnded).await;
            Ok(())
        })
        .await
    }
}

/// A call id: 1 to 64 unreserved characters of a URL, and no dot segment. Source: RFC 3986 §2.3.
///
/// # Errors
/// `BadRequest`.
pub fn check_call_id(id: &str) -> Result<(), ApiError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
    if (1..=64).contains(&id.len()) && id.bytes().all(allowed) && id != "." && id != ".." {
        return Ok(());
    }
    Err(ApiError::new(
        Code::BadRequest,
        "a call id is 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and neither . nor ..",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_are_what_a_path_segment_can_hold_unescaped() {
        for good in ["a", "Team.stand-up_7~", &"x".repeat(64)] {
            assert!(check_call_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a%20", "<b>", &"x".repeat(65)] {
            assert!(check_call_id(bad).is_err(), "{bad}");
        }
    }
}
