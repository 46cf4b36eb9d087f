//! Draining: new sessions are refused while running calls go on.

use std::sync::PoisonError;
use std::time::Duration;

use sluice_engine::clock;

use super::{Service, link, locked};
use crate::error::{ApiError, Code};

/// Who asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainCause {
    /// The API, which can undo it.
    Api,
    /// A signal: the process ends afterwards.
    Signal,
}

/// A drain that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// Who asked for it.
    pub cause: DrainCause,
    /// Since when, seconds of Unix time.
    pub since_unix_s: u64,
}

/// Between two looks at how many sessions are left. A drain lasts as long as calls do: nobody
/// notices the half second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Between the epochs of NTP and Unix, seconds. Source: RFC 5905 §6.
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

impl Service {
    /// Refuses new calls and sessions from here on. A signal takes over a drain of the API; how long
    /// it lasts is counted from the first.
    pub fn begin_drain(&self, cause: DrainCause) -> Drain {
        let mut drain = self.drain.write().unwrap_or_else(PoisonError::into_inner);
        let drain = drain.get_or_insert_with(|| Drain { cause, since_unix_s: unix_s() });
        if cause == DrainCause::Signal {
            drain.cause = cause;
        }
        *drain
    }

    /// Lets new calls and sessions in again.
    ///
    /// # Errors
    /// `Stopping` when the process is about to end.
    pub fn end_drain(&self) -> Result<(), ApiError> {
        let mut drain = self.drain.write().unwrap_or_else(PoisonError::into_inner);
        if drain.is_some_and(|drain| drain.cause == DrainCause::Signal) {
            let detail = "the server got a signal to end, which cannot be undone";
            return Err(ApiError::new(Code::Stopping, detail));
        }
        *drain = None;
        Ok(())
    }

    /// The drain that is under way.
    pub fn drain(&self) -> Option<Drain> {
        *self.drain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new sessions are refused.
    pub fn is_draining(&self) -> bool {
        self.drain().is_some()
    }

    /// Sessions of every kind that a drain waits for.
    pub fn sessions_left(&self) -> usize {
        locked(&self.owners).len()
    }

    /// Resolves once no session is left.
    pub async fn emptied(&self) {
        while self.sessions_left() > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends every call; its sessions are told goodbye.
    pub async fn end_calls(&self) {
        for call in self.all_calls() {
            self.end_call(&call, "the server shuts down", link::CloseCode::GoingAway).await;
        }
    }

    /// Refuses what would make a call or a session.
    pub(super) fn refuse_when_draining(&self) -> Result<(), ApiError> {
        match self.is_draining() {
            true => Err(ApiError::new(
                Code::Unavailable,
                "the server takes no new sessions: it is draining",
            )),
            false => Ok(()),
        }
    }
}

/// Seconds since 1970, by the wall clock.
pub(crate) fn unix_s() -> u64 {
    (clock::wall_clock().ntp(clock::now()).0 >> 32).saturating_sub(NTP_UNIX_OFFSET_S)
}
