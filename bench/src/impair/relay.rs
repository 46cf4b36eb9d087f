//! The relay as the rest of the program holds it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::forwarder::Forwarder;
use super::{check, socket};
use crate::scenario::Impair;

/// Stands between clients and one server: clients send to [`address`](Self::address), each reaches the server from a port of its own. Works on a
/// thread of its own until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the relay has done since it started, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RelayCounters {
    /// From the clients to the server.
    pub up: WayCounters,
    /// From the server to the clients.
    pub down: WayCounters,
    /// Clients that it knows.
    pub clients: u64,
    /// Ports towards the server that were replaced.
    pub rebinds: u64,
    /// Datagrams of clients for which there was no place; [`Relay::trouble`] says why.
    pub refused: u64,
    /// The latest that a datagram was sent after it was due.
    pub late_max: Duration,
}

/// Datagrams in one direction. `received` is the sum of `forwarded`, `lost`, `burst_lost`, `queue_full`, `overflowed`, `unsent` and `waiting`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WayCounters {
    /// Read from a socket, of clients that it knows.
    pub received: u64,
    /// Sent on, second copies not counted.
    pub forwarded: u64,
    /// Dropped by `loss`.
    pub lost: u64,
    /// Dropped by `burst_loss`.
    pub burst_lost: u64,
    /// Dropped by `rate_bps`.
    pub queue_full: u64,
    /// Second copies that were sent.
    pub duplicated: u64,
    /// Sent on without their delay.
    pub reordered: u64,
    /// UDP payload that was sent, second copies included.
    pub bytes: u64,
    /// Waiting for their time.
    pub waiting: u64,
    /// Dropped since too much was waiting: the relay's fault, not the network's that it plays.
    pub overflowed: u64,
    /// Not sent, since the kernel refused or the client was forgotten meanwhile: likewise.
    pub unsent: u64,
    /// Never received, since the kernel dropped them when the relay read too slowly: likewise.
    pub kernel_dropped: u64,
}

/// What the relay takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Clients at a time.
    pub(super) clients_max: usize,
    /// Bytes of datagrams that wait, and of the records about them.
    pub(super) held_bytes_max: usize,
    /// A client that sent nothing for so long is forgotten.
    pub(super) idle: Duration,
}

/// What both threads see.
pub(super) struct Shared {
    pub(super) stop: EventFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counters: RelayCounters,
    trouble: Option<String>,
}

impl Relay {
    /// Starts relaying between whoever sends to `listen` and `server`. Port 0 of `listen` takes a free one.
    ///
    /// # Errors
    /// In words: settings that are not allowed, an address that is taken, a server without a port.
    pub fn start(listen: SocketAddr, server: SocketAddr, impair: &Impair) -> Result<Self, String> {
        Self::start_within(listen, server, impair, Limits::default())
    }

    pub(super) fn start_within(
        listen: SocketAddr,
        server: SocketAddr,
        impair: &Impair,
        limits: Limits,
    ) -> Result<Self, String> {
        check(impair)?;
        if server.port() == 0 || server.ip().is_unspecified() {
            return Err(format!("{server} is no server's address: it needs a host and a port"));
        }
        socket::raise_limit_of_files();
        let listening = socket::listen(listen)
            .map_err(|e| format!("the relay cannot listen at {listen}: {e}"))?;
        let told = |e: std::io::Error| format!("the relay does not start: {e}");
        let address = listening.local_addr().map_err(told)?;
        if address == server {
            return Err(format!("the relay at {address} would send to itself"));
        }
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let stop = stop.map_err(|e| told(e.into()))?;
        let shared = Arc::new(Shared { stop, state: Mutex::default() });
        let forwarder = Forwarder::new(listening, server, *impair, limits, Arc::clone(&shared));
        let forwarder = forwarder.map_err(told)?;
        let thread = std::thread::Builder::new()
            .name("impair".into())
            .spawn(move || forwarder.run())
            .map_err(told)?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far: up to the last turn that its thread has ended, all of one moment.
    pub fn counters(&self) -> RelayCounters {
        self.shared.state().counters
    }

    /// Why the relay could not do what was asked of it, the first time that happened.
    pub fn trouble(&self) -> Option<String> {
        self.shared.state().trouble.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The counter of an event descriptor has room for one more: nobody else writes to it.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed.
            let _ = thread.join();
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients_max: 20_000, held_bytes_max: 256 << 20, idle: Duration::from_secs(60) }
    }
}

impl WayCounters {
    /// Datagrams that went missing through the relay itself: with any of them, what clients and server saw is not what was asked for.
    pub fn own_faults(&self) -> u64 {
        self.overflowed + self.unsent + self.kernel_dropped
    }
}

impl Shared {
    pub(super) fn publish(&self, counters: RelayCounters) {
        self.state().counters = counters;
    }

    /// Remembers the first trouble.
    pub(super) fn complain(&self, trouble: impl FnOnce() -> String) {
        self.state().trouble.get_or_insert_with(trouble);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Both values are whole after each write, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
