//! The connections to the server's HTTP API and its WebSockets: one thread with a runtime, for all clients of a worker.

use std::sync::Arc;

use sluice_engine::io::Wake;

use crate::conversation::{Heard, Target, Wish};

/// A client of this worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientNumber(pub u32);

/// Carries wishes to the server and brings back what it says.
pub struct Signalling {}

impl Signalling {
    /// Starts the thread; with rtcd's API it opens the worker's WebSocket and waits for `hello`.
    ///
    /// `wake` is used whenever [`Signalling::poll`] has something.
    /// # Errors
    /// No connection, or the server refused it; for people.
    pub fn start(_target: &Target, _wake: Arc<dyn Wake>) -> Result<Self, String> {
        Ok(Self {})
    }

    /// Tells which session is the client's, before its first wish (rtcd's API routes by session).
    pub fn add(&mut self, _client: ClientNumber, _session: &str) {}

    /// Forgets a client: its WebSocket ends; answers to what it still asks for are not brought.
    pub fn remove(&mut self, _client: ClientNumber) {}

    /// Carries one of the wishes that are for signalling. Never blocks.
    pub fn send(&mut self, _client: ClientNumber, _wish: Wish) {}

    /// What was heard next.
    pub fn poll(&mut self) -> Option<(ClientNumber, Heard)> {
        None
    }

    /// Requests and messages that have not left yet, and requests without their answer.
    pub fn pending(&self) -> usize {
        0
    }
}
