//! The real server with its real engine, seen by a Mattermost plugin and its end users.
//!
//! The client was written from `rtcd-protocol.md` alone; section numbers in these files are of that document. Its
//! WebRTC peer is str0m. `server` starts the binary, `plugin` is one WebSocket of one installation, `user` is a
//! person in a call; the rest are tests, one subject a file.

mod codec;
mod description;
pub(crate) mod http;
mod media;
mod peer;
mod plugin;
mod publication;
mod seen;
pub(crate) mod server;
mod transport;
mod user;

mod crowd;
mod drain;
mod hostile;
mod ids;
mod joining;
mod leaving;
mod reconnecting;
mod screen;
mod sessions_api;
mod shards;
mod signalling;
mod simulcast;
mod video;
mod voice;

use std::time::Duration;

/// What has not happened by then does not happen. Nothing passes because this time is over.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, and fails with `what` when it takes too long.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}
