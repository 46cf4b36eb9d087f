//! Commands to shards with their answers awaited, and copies of what shards count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_engine::clock::{self, Instant};
use sluice_engine::command_error::CommandError;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{CallId, LegId, SessionId, ShardId, TrackId};
use sluice_engine::shard::mailbox::{Answer, Command, ShardSnapshot};

use crate::media_plane::MediaPlane;
use crate::sdp::Supply;

/// Time for a shard to handle a command. A shard answers within a turn; one that takes longer is in
/// trouble.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a shard to tell its counters, and thereby to be called ready.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);

/// A snapshot younger than this answers further requests: whoever polls the API does not make the
/// shards busy.
const SNAPSHOT_REUSED: Duration = Duration::from_millis(500);

/// Numbers for the engine; none is given out twice.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: AtomicU64,
}

impl Numbers {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn call(&self) -> CallId {
        CallId(self.next())
    }

    pub(super) fn session(&self) -> SessionId {
        SessionId(self.next())
    }

    pub(super) fn connection(&self) -> u64 {
        self.next()
    }
}

/// What one session's negotiator asks for.
pub(super) struct SessionSupply {
    pub(super) numbers: Arc<Numbers>,
    pub(super) plane: Arc<dyn MediaPlane>,
    pub(super) shard: ShardId,
}

impl Supply for SessionSupply {
    fn track_id(&mut self) -> TrackId {
        TrackId(self.numbers.next())
    }

    fn leg_id(&mut self) -> LegId {
        LegId(self.numbers.next())
    }

    fn credentials(&mut self) -> Credentials {
        self.plane.credentials(self.shard)
    }

    fn random(&mut self, bytes: &mut [u8]) {
        fill_random(bytes);
    }
}

/// Fills `bytes` from the system's generator.
///
/// # Panics
/// When the system has no randomness to give: nothing secret can be made then.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    assert!(aws_lc_rs::rand::fill(bytes).is_ok(), "the system gives random bytes");
}

/// 128 random bits in hexadecimal.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

type Kept = tokio::sync::Mutex<Option<(Instant, Arc<ShardSnapshot>)>>;

/// The engine's shards.
pub(super) struct Shards {
    pub(super) plane: Arc<dyn MediaPlane>,
    snapshots: Vec<Kept>,
}

impl Shards {
    pub(super) fn new(plane: Arc<dyn MediaPlane>) -> Self {
        let snapshots = (0..plane.shards()).map(|_| Kept::default()).collect();
        Self { plane, snapshots }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.plane.shards()).map(ShardId)
    }

    /// Sends a command and waits until the shard has handled it.
    pub(super) async fn command(
        &self,
        shard: ShardId,
        command: Command,
    ) -> Result<Answer, CommandError> {
        self.ask(shard, command, COMMAND_TIMEOUT).await
    }

    async fn ask(
        &self,
        shard: ShardId,
        command: Command,
        limit: Duration,
    ) -> Result<Answer, CommandError> {
        let reply = self.plane.request(shard, command)?;
        match tokio::time::timeout(limit, reply).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CommandError::ShardGone),
            // Not answered in time is what a full mailbox comes to, too: try again later.
            Err(_) => Err(CommandError::MailboxFull),
        }
    }

    /// A snapshot with every session, asked for at this moment; `None` when the shard does not
    /// answer in time.
    pub(super) async fn fresh_snapshot(&self, shard: ShardId) -> Option<ShardSnapshot> {
        let command = Command::Snapshot { sessions: true };
        match self.ask(shard, command, SNAPSHOT_TIMEOUT).await {
            Ok(Answer::Snapshot(snapshot)) => Some(*snapshot),
            _ => None,
        }
    }

    /// A snapshot with every session that may be half a second old.
    pub(super) async fn snapshot(&self, shard: ShardId) -> Option<Arc<ShardSnapshot>> {
        let mut kept = self.snapshots.get(shard.index())?.lock().await;
        if let Some((at, snapshot)) = &*kept
            && clock::now().since(*at) < SNAPSHOT_REUSED
        {
            return Some(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(self.fresh_snapshot(shard).await?);
        *kept = Some((clock::now(), Arc::clone(&snapshot)));
        Some(snapshot)
    }
}
