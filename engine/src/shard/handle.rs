//! What control holds of the engine: a handle per shard, and what all shards have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::JoinHandle;

use futures_channel::oneshot;

use super::launch;
use super::mailbox::{Answer, Command, Report};
use crate::command_error::CommandError;
use crate::config::EngineConfig;
use crate::dtls::Fingerprint;
use crate::ids::ShardId;
use crate::io::Wake;

/// The reply of one command; resolves when the shard has handled it.
pub type Reply = oneshot::Receiver<Result<Answer, CommandError>>;

/// Where a shard's reports go. Called on the shard's thread: must not block.
pub trait Reports: Send {
    /// Takes one report, or gives it back when there is no room: the shard keeps it for its next turn.
    ///
    /// # Errors
    /// The report itself, when it could not be taken.
    fn try_report(&mut self, report: Report) -> Result<(), Report>;
}

/// The running data plane.
pub struct Engine {
    shards: Vec<ShardHandle>,
    facts: EngineFacts,
    threads: Vec<JoinHandle<()>>,
}

/// What the engine found out when it started.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    /// The back-end in use: `uring` or `mmsg`.
    pub backend: &'static str,
    /// Why `auto` did not take `uring`, when it did not.
    pub backend_reason: Option<String>,
    /// UDP addresses with the ports they got, in the order of the configuration.
    pub udp: Vec<SocketAddr>,
    /// TCP addresses likewise.
    pub tcp: Vec<SocketAddr>,
    /// The core of each shard, in order; empty where shards are not pinned.
    pub cores: Vec<usize>,
    /// SO_RCVBUF that the kernel granted, bytes, the least of all sockets.
    pub receive_buffer_bytes: usize,
    /// SO_SNDBUF likewise.
    pub send_buffer_bytes: usize,
    /// SO_RCVBUF that was asked for, bytes.
    pub receive_buffer_bytes_wanted: usize,
    /// SO_SNDBUF likewise.
    pub send_buffer_bytes_wanted: usize,
    /// Bytes of memory reserved at start, pages that are never written included; [`super::limits`] shows the sum.
    pub memory_reserved_bytes: usize,
    /// The certificate's hash, for `a=fingerprint`.
    pub fingerprint: Fingerprint,
}

/// Why the engine did not start.
#[derive(Debug)]
pub struct StartError {
    /// What failed, on what, and what to try.
    pub message: String,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}

/// One shard as seen from other threads. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    shard: ShardId,
    mailbox: SyncSender<Envelope>,
    wake: Arc<dyn Wake>,
    load: Arc<Load>,
}

/// A command on its way, with where its answer goes.
pub struct Envelope {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<Answer, CommandError>>,
}

/// What an envelope asks for.
pub(super) enum Order {
    Do(Command),
    Stop,
}

/// What a shard shows of itself without being asked.
#[derive(Default)]
pub(super) struct Load {
    pub(super) busy_permille: AtomicU32,
    pub(super) sessions: AtomicU32,
    /// How often control was sent here with a new call; written by control.
    named: AtomicU32,
}

impl Engine {
    /// Binds the sockets and starts the shards. `reports` makes the sink of each shard.
    ///
    /// # Errors
    /// A setting out of range, an address that cannot be bound, a back-end that the kernel refuses.
    pub fn start(
        config: EngineConfig,
        reports: impl FnMut(ShardId) -> Box<dyn Reports>,
    ) -> Result<Self, StartError> {
        launch::start(config, reports)
    }

    pub(super) fn new(
        shards: Vec<ShardHandle>,
        facts: EngineFacts,
        threads: Vec<JoinHandle<()>>,
    ) -> Self {
        Self { shards, facts, threads }
    }

    /// What the engine found out when it started.
    pub fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    /// All shards, in order.
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// The shard that a new call should go to: the one with the least measured load, fewest sessions among equals, and then the one
    /// that was named least often, so that calls made at once do not all land on one shard.
    ///
    /// Load is compared in steps of five per cent, so that noise does not outweigh the number of sessions.
    pub fn least_loaded(&self) -> &ShardHandle {
        let load = |shard: &&ShardHandle| {
            (shard.load_permille() / 50, shard.sessions(), shard.load.named.load(Ordering::Relaxed))
        };
        // Start refuses an engine without shards.
        let least = self.shards.iter().min_by_key(load).unwrap_or(&self.shards[0]);
        least.load.named.fetch_add(1, Ordering::Relaxed);
        least
    }

    /// Ends all shards: sessions are told goodbye, threads joined.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for shard in &self.shards {
            // A full mailbox empties; a shard that is gone needs no order.
            while matches!(shard.order(Order::Stop), Err(CommandError::MailboxFull)) {
                std::thread::yield_now();
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl ShardHandle {
    pub(super) fn new(
        shard: ShardId,
        mailbox: SyncSender<Envelope>,
        wake: Arc<dyn Wake>,
        load: Arc<Load>,
    ) -> Self {
        Self { shard, mailbox, wake, load }
    }

    /// Which shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Share of time the shard was busy lately, in thousandths.
    pub fn load_permille(&self) -> u32 {
        self.load.busy_permille.load(Ordering::Relaxed)
    }

    /// Sessions on the shard.
    pub fn sessions(&self) -> u32 {
        self.load.sessions.load(Ordering::Relaxed)
    }

    /// Sends a command; the reply resolves when the shard has handled it. Never blocks.
    ///
    /// # Errors
    /// `MailboxFull` when the bounded mailbox has no room, `ShardGone` after the end.
    pub fn request(&self, command: Command) -> Result<Reply, CommandError> {
        self.order(Order::Do(command))
    }

    fn order(&self, order: Order) -> Result<Reply, CommandError> {
        let (reply, receiver) = oneshot::channel();
        self.mailbox.try_send(Envelope { order, reply }).map_err(|error| match error {
            TrySendError::Full(_) => CommandError::MailboxFull,
            TrySendError::Disconnected(_) => CommandError::ShardGone,
        })?;
        self.wake.wake();
        Ok(receiver)
    }
}

impl Envelope {
    /// Makes an envelope and where its answer arrives, for shards that are driven without a handle.
    pub fn new(command: Command) -> (Self, Reply) {
        let (reply, receiver) = oneshot::channel();
        (Self { order: Order::Do(command), reply }, receiver)
    }
}
