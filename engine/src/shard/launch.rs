//! One pinned thread per shard: start, the loop, stop, and what a panic means.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, sync_channel};
use std::time::Duration;

use super::budget;
use super::collect::Collector;
use super::handle::{Engine, EngineFacts, Load, Reports, ShardHandle, StartError};
use super::limits;
use super::steering::Steering;
use super::{NextWake, Shard, ShardParts};
use crate::clock::{self, Instant};
use crate::config::EngineConfig;
use crate::dtls::Identity;
use crate::ids::ShardId;
use crate::io::mmsg::Mmsg;
use crate::io::probe::{Backend, probe};
use crate::io::socket::{ShardSockets, bind_all};
use crate::io::uring::Uring;
use crate::io::{Network, Wake, pin};

/// What a shard's thread tells the starter: how to wake it, or why it cannot run.
type Ready = Result<(ShardId, Arc<dyn Wake>), String>;

pub(super) fn start(
    config: EngineConfig,
    mut reports: impl FnMut(ShardId) -> Box<dyn Reports>,
) -> Result<Engine, StartError> {
    let fail = |message: String| StartError { message };
    config.validate().map_err(|error| fail(error.to_string()))?;
    let identity = Identity::generate()
        .map_err(|error| fail(format!("cannot make a DTLS certificate: {error}")))?;
    let identity = Arc::new(identity);
    let (backend, backend_reason) = probe(config.backend).map_err(fail)?;
    let bound = bind_all(&config).map_err(|error| fail(error.to_string()))?;
    let shards = usize::from(config.shards);
    let cores = match config.pin {
        true if config.cores.is_empty() => pin::allowed_cores().unwrap_or_default(),
        true => config.cores.clone(),
        false => Vec::new(),
    };
    let facts = EngineFacts {
        backend: backend.name(),
        backend_reason,
        udp: bound.udp.clone(),
        tcp: bound.tcp.clone(),
        cores: cores.iter().copied().cycle().take(shards).collect(),
        receive_buffer_bytes: bound.receive_buffer_bytes,
        send_buffer_bytes: bound.send_buffer_bytes,
        receive_buffer_bytes_wanted: config.receive_buffer_bytes,
        send_buffer_bytes_wanted: config.send_buffer_bytes,
        memory_reserved_bytes: limits::bytes_at_start(&config, backend),
        fingerprint: identity.fingerprint().clone(),
    };
    let wall = clock::wall_clock();
    let (ready, readies) = mpsc::channel::<Ready>();
    let mut threads = Vec::new();
    let mut mailboxes = Vec::new();
    let mut loads = Vec::new();
    let mut wakers_out = Vec::new();
    let rings = Steering::mesh(shards);
    for (index, (sockets, steering)) in bound.shards.into_iter().zip(rings).enumerate() {
        let id = ShardId(index as u16);
        let (mailbox, orders) = sync_channel(budget::MAILBOX);
        let (wakers, wakers_in) = mpsc::channel::<Vec<Arc<dyn Wake>>>();
        let load = Arc::new(Load::default());
        let parts = ShardParts {
            id,
            config: config.clone(),
            identity: Arc::clone(&identity),
            wall,
            seed: seed()?,
            steering,
            mailbox: orders,
            reports: reports(id),
        };
        let thread = ShardThread {
            parts,
            sockets,
            backend,
            cores: cores.clone(),
            ready: ready.clone(),
            wakers: wakers_in,
            load: Arc::clone(&load),
        };
        let spawned = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || thread.run())
            .map_err(|error| fail(format!("cannot start a thread for shard {index}: {error}")))?;
        threads.push(spawned);
        mailboxes.push(mailbox);
        loads.push(load);
        wakers_out.push(wakers);
    }
    drop(ready);
    let mut wakers: Vec<_> = Vec::new();
    for _ in 0..shards {
        match readies.recv() {
            Ok(Ok(waker)) => wakers.push(waker),
            Ok(Err(message)) => return Err(fail(message)),
            Err(_) => return Err(fail("a shard ended before it began".to_owned())),
        }
    }
    wakers.sort_by_key(|(shard, _)| *shard);
    let wakers: Vec<_> = wakers.into_iter().map(|(_, waker)| waker).collect();
    for out in wakers_out {
        // A thread that is gone has said so above.
        let _ = out.send(wakers.clone());
    }
    let handles = wakers.iter().zip(mailboxes).zip(loads).enumerate();
    let handles = handles.map(|(index, ((wake, mailbox), load))| {
        ShardHandle::new(ShardId(index as u16), mailbox, Arc::clone(wake), load)
    });
    Ok(Engine::new(handles.collect(), facts, threads))
}

fn seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StartError { message: "the system gives no random numbers".to_owned() })?;
    Ok(u64::from_le_bytes(bytes))
}

/// What a shard's thread starts with.
struct ShardThread {
    parts: ShardParts,
    sockets: ShardSockets,
    backend: Backend,
    cores: Vec<usize>,
    ready: mpsc::Sender<Ready>,
    wakers: mpsc::Receiver<Vec<Arc<dyn Wake>>>,
    load: Arc<Load>,
}

impl ShardThread {
    fn run(self) {
        let id = self.parts.id;
        // More shards than cores is allowed, for tests; they share.
        if let Some(index) = id.index().checked_rem(self.cores.len())
            && let Err(error) = pin::pin_to(&self.cores, index)
        {
            tracing::warn!(shard = id.0, %error, "cannot pin the shard to a core");
        }
        let Self { parts, sockets, backend, ready, wakers, load, .. } = self;
        // A back-end is made on its own thread: a ring belongs to the thread that made it.
        match backend {
            Backend::Mmsg => match Mmsg::new(sockets) {
                Ok((network, wake)) => begin(parts, network, wake, &ready, &wakers, &load),
                Err(error) => refuse(id, &ready, &error),
            },
            Backend::Uring => match Uring::new(sockets) {
                Ok((network, wake)) => begin(parts, network, wake, &ready, &wakers, &load),
                Err(error) => refuse(id, &ready, &error),
            },
        }
    }
}

fn refuse(id: ShardId, ready: &mpsc::Sender<Ready>, error: &std::io::Error) {
    let message = format!("shard {id} cannot set up its network: {error}");
    // The starter waits for this, unless another shard failed before.
    let _ = ready.send(Err(message));
}

fn begin<N: Network>(
    mut parts: ShardParts,
    network: N,
    wake: Arc<dyn Wake>,
    ready: &mpsc::Sender<Ready>,
    wakers: &mpsc::Receiver<Vec<Arc<dyn Wake>>>,
    load: &Load,
) {
    let id = parts.id;
    let _ = ready.send(Ok((id, wake)));
    // Without wakers another shard failed to start: there is nothing to run for.
    let Ok(wakers) = wakers.recv() else { return };
    parts.steering.set_wakers(&wakers);
    let collector = Collector::new(clock::now(), parts.config.batch_window);
    turn_until_stopped(Shard::new(clock::now(), parts), network, collector, load);
}

/// The loop. A panic takes down the session that was being served, not the shard, and never the port.
fn turn_until_stopped<N: Network>(
    mut shard: Shard,
    mut network: N,
    mut collector: Collector,
    load: &Load,
) {
    let mut meter = Meter::new(clock::now());
    loop {
        let now = clock::now();
        let datagrams_before = shard.datagrams_taken();
        let turn = catch_unwind(AssertUnwindSafe(|| shard.turn(now, &mut network)));
        let next = turn.unwrap_or_else(|_| {
            tracing::error!("a shard's turn panicked: the session being served is taken down");
            let recovered = catch_unwind(AssertUnwindSafe(|| shard.recover(now, &mut network)));
            if recovered.is_err() {
                tracing::error!("taking down a session panicked as well");
            }
            NextWake::Now
        });
        if shard.is_stopped() {
            return;
        }
        let ended = clock::now();
        shard.count_busy(ended.since(now));
        load.sessions.store(shard.session_count() as u32, Ordering::Relaxed);
        let datagrams = shard.datagrams_taken() - datagrams_before;
        collector.count_turn(now, ended, datagrams, next != NextWake::Now);
        if let Some(permille) = meter.count(now, ended) {
            load.busy_permille.store(permille, Ordering::Relaxed);
        }
        let timeout = match next {
            NextWake::Now => continue,
            NextWake::At(deadline) => Some(deadline.since(ended)),
            NextWake::Arrival => None,
        };
        let window = collector.window(ended.since(now));
        shard.count_wait(window.whole);
        network.wait(timeout, window);
    }
}

/// Share of time spent in turns, over windows of a second.
struct Meter {
    window_start: Instant,
    busy: Duration,
}

const METER_WINDOW: Duration = Duration::from_secs(1);

impl Meter {
    fn new(now: Instant) -> Self {
        Self { window_start: now, busy: Duration::ZERO }
    }

    /// Counts one turn; gives the share in thousandths when a window is full.
    fn count(&mut self, started: Instant, ended: Instant) -> Option<u32> {
        self.busy += ended.since(started);
        let window = ended.since(self.window_start);
        if window < METER_WINDOW {
            return None;
        }
        let permille = self.busy.as_micros() * 1_000 / window.as_micros();
        *self = Self::new(ended);
        Some(permille as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_gives_the_share_of_busy_time() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let mut meter = Meter::new(at(0));
        assert_eq!(meter.count(at(100), at(350)), None);
        assert_eq!(meter.count(at(1_000), at(1_250)), Some(400));
        assert_eq!(meter.count(at(2_300), at(2_350)), Some(45));
    }
}
