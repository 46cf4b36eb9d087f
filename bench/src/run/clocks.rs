//! The clocks of other hosts: how far a worker's is from the controller's.

use std::time::Duration;

use sluice_engine::clock::{self, NtpTime};

use crate::worker::Link;
use crate::worker::protocol::{Order, Report};

/// What was found of a worker's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// By how much the controller's is ahead.
    pub ahead_ns: i64,
    /// It is right to within this.
    pub within_ns: u64,
}

const ROUNDS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a worker for its time, several times; the quickest answer says most. Source: RFC 5905 §8.
///
/// # Errors
/// The worker is gone, or does not answer.
pub fn offset(link: &Link) -> Result<Offset, String> {
    let wall = clock::wall_clock();
    let mut best = None;
    for _ in 0..ROUNDS {
        let sent = wall.ntp(clock::now());
        link.send(Order::Clock { sent: sent.0 })?;
        let worker = loop {
            match link.receive(TIMEOUT)? {
                Some(Report::Clock { sent: of, worker }) if of == sent.0 => break NtpTime(worker),
                Some(_) => {}
                None => return Err(format!("worker {} does not answer", link.name)),
            }
        };
        let found = estimate(sent, worker, wall.ntp(clock::now()));
        if best.is_none_or(|best: Offset| found.within_ns < best.within_ns) {
            best = Some(found);
        }
    }
    best.ok_or_else(|| format!("worker {} does not tell the time", link.name))
}

/// The worker's clock was read at some moment between our two.
fn estimate(sent: NtpTime, worker: NtpTime, heard: NtpTime) -> Offset {
    let there = sent.nanos_since(worker);
    let back = heard.nanos_since(worker);
    Offset { ahead_ns: there.midpoint(back), within_ns: (back - there).unsigned_abs() / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_exchange_is_taken() {
        let at = |nanos: i64| NtpTime(0xE000_0000_0000_0000).offset_nanos(nanos);
        let found = estimate(at(0), at(-5_000_000 + 40_000), at(100_000));
        assert!((found.ahead_ns - 5_010_000).abs() < 10, "{found:?}");
        assert!(found.within_ns.abs_diff(50_000) < 10, "{found:?}");
    }
}
