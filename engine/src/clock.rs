//! Time: our `Instant`, and the one place that reads the operating system's clocks.
//!
//! Everything below `shard/` is told the time. A test or the simulator makes instants of its own.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::Duration;

/// A moment on the monotonic clock: nanoseconds since an arbitrary start of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment `since_start` after the start of the clock; for tests and simulations.
    pub fn from_start(since_start: Duration) -> Self {
        Self(since_start.as_nanos() as u64)
    }

    /// Nanoseconds since the start of the clock.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the start of the clock.
    pub fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same moment for crates that speak `std::time::Instant`.
    pub fn to_std(self) -> std::time::Instant {
        start() + Duration::from_nanos(self.0)
    }

    /// The moment that a crate named as `std::time::Instant`; the start of the clock when it lies before it.
    pub fn from_std(std: std::time::Instant) -> Self {
        Self(std.saturating_duration_since(start()).as_nanos() as u64)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos() as u64))
    }
}

/// Wall-clock time in NTP format: 32.32 bits, seconds since 1900. Source: RFC 3550 §4, RFC 5905 §6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The time `seconds` and `nanos` after the beginning of 1970.
    pub fn from_unix(seconds: u64, nanos: u32) -> Self {
        let fraction = (u64::from(nanos) << 32) / 1_000_000_000;
        Self((seconds + NTP_UNIX_OFFSET_S) << 32 | fraction)
    }

    /// The middle 32 bits, as LSR and DLSR carry them.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// Signed distance from `earlier` to `self` in nanoseconds.
    pub fn nanos_since(self, earlier: Self) -> i64 {
        let units = i128::from(self.0) - i128::from(earlier.0);
        ((units * 1_000_000_000) >> 32) as i64
    }

    /// This time moved by `nanos`.
    pub fn offset_nanos(self, nanos: i64) -> Self {
        let units = (i128::from(nanos) << 32) / 1_000_000_000;
        Self((i128::from(self.0) + units) as u64)
    }
}

/// Ties the monotonic clock to NTP time once, so that reports stay on one line however the wall clock jumps later.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    at: Instant,
    ntp: NtpTime,
}

impl WallClock {
    /// Ties `at` to `ntp`; for tests and simulations.
    pub fn fixed(at: Instant, ntp: NtpTime) -> Self {
        Self { at, ntp }
    }

    /// NTP time at `now`.
    pub fn ntp(&self, now: Instant) -> NtpTime {
        let nanos = now.0 as i128 - self.at.0 as i128;
        self.ntp.offset_nanos(nanos as i64)
    }
}

/// Seconds between 1900 (NTP) and 1970 (Unix). Source: RFC 5905 §6.
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

fn start() -> std::time::Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "this file is the reader of the clock")]
    *START.get_or_init(std::time::Instant::now)
}

/// Reads the monotonic clock. Called by the shard's loop and by measuring programs, by nobody else.
pub fn now() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "this file is the reader of the clock")]
    let std = std::time::Instant::now();
    Instant::from_std(std)
}

/// Reads both clocks and ties them together.
pub fn wall_clock() -> WallClock {
    #[allow(clippy::disallowed_methods, reason = "this file is the reader of the clock")]
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    WallClock { at: now(), ntp: NtpTime::from_unix(unix.as_secs(), unix.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_moves_with_the_monotonic_clock() {
        let at = Instant::from_start(Duration::from_secs(10));
        let wall = WallClock::fixed(at, NtpTime(100 << 32));
        assert_eq!(wall.ntp(at + Duration::from_millis(1500)), NtpTime(101 << 32 | 1 << 31));
        assert_eq!(wall.ntp(at - Duration::from_secs(1)), NtpTime(99 << 32));
    }

    #[test]
    fn std_round_trip_is_exact() {
        let at = Instant::from_start(Duration::from_nanos(1_234_567_890));
        assert_eq!(Instant::from_std(at.to_std()), at);
    }
}
