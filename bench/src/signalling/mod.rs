//! The connections to the server's HTTP API and its WebSockets: one thread with a runtime, for all clients of a worker.
//!
//! Clients of rtcd's API share one WebSocket, as all users of a Mattermost server do. Those of Sluice's own API have one each. Requests
//! are made in the order of each client, at most [`http::REQUESTS_MAX`] at a time.
//!
//! At most [`PENDING_MAX`] wishes wait at a time, in all queues together. A wish beyond that is refused: its client hears that there
//! was no answer, or that its WebSocket has ended. What is heard waits in a queue of [`HEARD_MAX`]; while it is full, nothing
//! more is read.

pub mod account;
mod dispatcher;
mod http;
mod own_socket;
mod shared_socket;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use sluice_engine::io::Wake;
use tokio::sync::{Notify, mpsc};

use crate::conversation::target::is_public;
use crate::conversation::{Heard, Target, Wish};

/// The most wishes that wait.
pub const PENDING_MAX: usize = 65_536;
/// The most that is heard and not polled.
pub const HEARD_MAX: usize = 65_536;

/// A client of this worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientNumber(pub u32);

/// A client from its `add` to its `remove`: its number may be another's afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    number: ClientNumber,
    life: u64,
}

/// Carries wishes to the server and brings back what it says.
pub struct Signalling {
    shared: Arc<Shared>,
    heard: mpsc::Receiver<(Key, Heard)>,
    /// What is heard without the server.
    refused: VecDeque<(Key, Heard)>,
    /// With the session of each.
    clients: HashMap<ClientNumber, (Key, String)>,
    lives: u64,
    thread: Option<JoinHandle<()>>,
}

/// What both sides of the thread know.
struct Shared {
    inbox: Mutex<Inbox>,
    /// There is something in the inbox.
    notify: Notify,
    pending: AtomicUsize,
    wake: Arc<dyn Wake>,
    heard: mpsc::Sender<(Key, Heard)>,
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    /// Whose message it is (rtcd's API).
    sessions: HashMap<String, Key>,
    is_over: bool,
}

enum Command {
    Carry(Key, Wish),
    Remove(Key),
}

impl Signalling {
    /// Starts the thread; with rtcd's API it opens the worker's WebSocket and waits for `hello`.
    ///
    /// `wake` is used whenever [`Signalling::poll`] has something.
    /// # Errors
    /// No connection, or the server refused it; for people.
    pub fn start(target: &Target, wake: Arc<dyn Wake>) -> Result<Self, String> {
        let server = http::Server::find(target)?;
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            notify: Notify::new(),
            pending: AtomicUsize::new(0),
            wake,
            heard: sender,
        });
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let (api, for_thread) = (target.api, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("signalling".to_owned())
            .spawn(move || dispatcher::run(api, server, &for_thread, &started))
            .map_err(|error| format!("no thread for signalling: {error}"))?;
        let made = Self {
            shared,
            heard,
            refused: VecDeque::new(),
            clients: HashMap::new(),
            lives: 0,
            thread: Some(thread),
        };
        let outcome = outcome.recv().map_err(|_| "signalling ended at its start".to_owned())?;
        outcome.map(|()| made)
    }

    /// Tells which session is the client's, before its first wish (rtcd's API routes by session).
    pub fn add(&mut self, client: ClientNumber, session: &str) {
        self.remove(client);
        self.lives += 1;
        let key = Key { number: client, life: self.lives };
        self.clients.insert(client, (key, session.to_owned()));
        self.shared.inbox().sessions.insert(session.to_owned(), key);
    }

    /// Forgets a client: its WebSocket ends; answers to what it still asks for are not brought. What it has asked for is still carried.
    pub fn remove(&mut self, client: ClientNumber) {
        let Some((key, session)) = self.clients.remove(&client) else { return };
        let mut inbox = self.shared.inbox();
        if inbox.sessions.get(&session) == Some(&key) {
            inbox.sessions.remove(&session);
        }
        inbox.commands.push_back(Command::Remove(key));
        drop(inbox);
        self.shared.notify.notify_one();
    }

    /// Carries one of the wishes that are for signalling. Never blocks.
    ///
    /// # Panics
    /// When the client was not added, or the wish is for the media side.
    pub fn send(&mut self, client: ClientNumber, wish: Wish) {
        let (key, _) = self.clients.get(&client).expect("a client is added before its first wish");
        let key = *key;
        if self.pending() >= PENDING_MAX {
            let why = format!("{PENDING_MAX} messages and requests wait already");
            self.refused.push_back((key, refusal(&wish, why)));
            self.shared.wake.wake();
            return;
        }
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        self.shared.inbox().commands.push_back(Command::Carry(key, wish));
        self.shared.notify.notify_one();
    }

    /// What was heard next.
    pub fn poll(&mut self) -> Option<(ClientNumber, Heard)> {
        loop {
            let next = self.refused.pop_front().or_else(|| self.heard.try_recv().ok());
            let (key, heard) = next?;
            if self.clients.get(&key.number).is_some_and(|(known, _)| *known == key) {
                return Some((key.number, heard));
            }
        }
    }

    /// Requests and messages that have not left yet, and requests without their answer.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Acquire)
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        self.shared.inbox().is_over = true;
        self.shared.notify.notify_one();
        // Whoever waits for room in the queue of what is heard need not wait any more.
        self.heard.close();
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Each change of the inbox is one step: a panic elsewhere leaves it whole.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what was heard.
    async fn hear(&self, key: Key, heard: Heard) {
        // Without a receiver everything is over.
        let _ = self.heard.send((key, heard)).await;
        self.wake.wake();
    }

    /// One wish less waits.
    fn carried(&self) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a client hears of a wish that cannot be carried.
fn refusal(wish: &Wish, why: String) -> Heard {
    match wish {
        Wish::Request(_) => Heard::Response(Err(why)),
        Wish::Message(_) | Wish::OpenSocket(_) | Wish::Text(_) => Heard::SocketClosed(why),
        _ => panic!("the wish is for the media side"),
    }
}

/// Looks up where the server is.
///
/// # Errors
/// The name is unknown.
pub fn resolve(target: &Target) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = (target.host(), target.port());
    let found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(format!("{host} has no address")) } else { Ok(found) }
}

/// The target's address that may be somebody else's, if it has one: load is not for strangers.
///
/// # Errors
/// The name is unknown.
pub fn public_address(target: &Target) -> Result<Option<IpAddr>, String> {
    let addresses = resolve(target)?;
    Ok(addresses.into_iter().map(|address| address.ip()).find(|ip| is_public(*ip)))
}
