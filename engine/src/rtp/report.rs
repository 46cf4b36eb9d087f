//! When reports are due, what a round trip is, and the publisher's clock as we see it. Source: RFC
//! 3550 §6.2 to §6.4.

use std::time::Duration;

use super::ticks;
use crate::clock::{Instant, NtpTime};
use crate::ids::RtpTime;

/// When the next compound RTCP packet of a session is due: every second, times 0.5 to 1.5 at
/// random.
///
/// A second instead of the five of RFC 3550 §6.2, as RFC 4585 §3.4 allows: round trips and loss are
/// wanted while they still mean something, and a report a second is far below the 5 % share of any
/// media. With one peer per RTP session there is no crowd to reconsider the timer for (§6.3.3), and
/// so no factor that makes up for it.
#[derive(Clone, Copy, Debug)]
pub struct ReportTimer {
    next: Instant,
}

/// The mean time between two reports.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl ReportTimer {
    /// Makes the timer of a session that begins at `now`; the first report comes after half the
    /// time (RFC 3550 §6.2).
    ///
    /// `random` is any 32 random bits.
    pub fn new(now: Instant, random: u32) -> Self {
        Self { next: now + randomised(random) / 2 }
    }

    /// Whether a report is due at `now`; if so the next one is put off by an interval made from
    /// `random`.
    pub fn due(&mut self, now: Instant, random: u32) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + randomised(random);
        }
        is_due
    }

    /// When [`ReportTimer::due`] is to be called next.
    pub fn next_deadline(&self) -> Instant {
        self.next
    }
}

/// Half an interval to one and a half.
fn randomised(random: u32) -> Duration {
    let nanos = REPORT_INTERVAL.as_nanos() as u64;
    Duration::from_nanos(nanos / 2 + ((nanos * u64::from(random)) >> 32))
}

/// The round trip from a report block that came at `now_ntp`: now less LSR less DLSR.
///
/// `last_sr` and `delay` as in the block, the latter in 1/65536 s. `None` when the block echoes no
/// report of ours (`last_sr` 0), or when the peer's numbers make no sense: less than nothing, or
/// above [`ROUND_TRIP_MAX`]. Up to a millisecond less than nothing is rounding and clock skew: a
/// round trip of zero. Source: RFC 3550 §6.4.1.
pub fn round_trip(now_ntp: NtpTime, last_sr: u32, delay: u32) -> Option<Duration> {
    if last_sr == 0 {
        return None;
    }
    let units = now_ntp.middle().wrapping_sub(last_sr).wrapping_sub(delay) as i32;
    if units < -ROUNDING_UNITS {
        return None;
    }
    let nanos = units.max(0) as u64 * 1_000_000_000 / 65_536;
    Some(Duration::from_nanos(nanos)).filter(|&rtt| rtt <= ROUND_TRIP_MAX)
}

/// The longest round trip that is believed.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// A millisecond in 1/65536 s.
const ROUNDING_UNITS: i32 = 66;

/// A publisher's wall clock in terms of ours.
///
/// One per publishing session, shared by its tracks: their sender reports all carry one clock, and
/// so our reports about all of them are moved by one offset, which keeps lips and voice together.
/// The offset is that of the report that travelled fastest; it creeps up by [`DRIFT_PPM`], so that
/// a peer's clock which runs slow is followed too.
#[derive(Clone, Copy, Debug, Default)]
pub struct SenderClock {
    estimate: Option<Estimate>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// Our clock less the peer's, the shortest way included.
    offset_nanos: i64,
    at: Instant,
}

/// How fast the offset creeps up, in millionths: above the skew of crystals, below what lip sync
/// would notice.
pub const DRIFT_PPM: u64 = 200;

/// A report that comes this much later than the estimate says was not delayed: the peer's clock was
/// set back.
const STEP: Duration = Duration::from_secs(2);

impl SenderClock {
    /// Makes the clock of a publisher that has sent no report yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the clock of a publisher whose clock is `offset_nanos` behind ours, as another shard found out.
    pub fn with_offset(now: Instant, offset_nanos: i64) -> Self {
        Self { estimate: Some(Estimate { offset_nanos, at: now }) }
    }

    /// Our clock less the publisher's, in nanoseconds, the shortest way included; `None` before its first report.
    pub fn offset_nanos(&self) -> Option<i64> {
        self.estimate.map(|estimate| estimate.offset_nanos)
    }

    /// Takes note of a sender report that came at `now`, which is `our_ntp` on our clock and
    /// carries `peer_ntp`.
    pub fn on_sender_report(&mut self, now: Instant, our_ntp: NtpTime, peer_ntp: NtpTime) {
        let measured = our_ntp.nanos_since(peer_ntp);
        let offset_nanos = match self.estimate {
            None => measured,
            Some(estimate) => {
                let elapsed = now.since(estimate.at).as_nanos() as u64;
                let drift = (elapsed / 1_000_000).saturating_mul(DRIFT_PPM);
                let crept = estimate.offset_nanos.saturating_add_unsigned(drift);
                let is_step = measured.saturating_sub(crept) > STEP.as_nanos() as i64;
                if is_step { measured } else { measured.min(crept) }
            }
        };
        self.estimate = Some(Estimate { offset_nanos, at: now });
    }

    /// The publisher's RTP time at `our_ntp_now`, from the track's last sender report `sr`: its NTP
    /// time and RTP time.
    ///
    /// This is the publisher's timestamp; a leg's sender report carries it as
    /// `Rewriter::out_time_of` gives it. While no report was noted it is the report's own.
    pub fn rtp_time_at(
        &self,
        our_ntp_now: NtpTime,
        sr: (NtpTime, RtpTime),
        clock_rate_hz: u32,
    ) -> RtpTime {
        let (peer_ntp, rtp) = sr;
        let Some(estimate) = self.estimate else { return rtp };
        let since_report = our_ntp_now.nanos_since(peer_ntp).saturating_sub(estimate.offset_nanos);
        let elapsed = ticks(Duration::from_nanos(since_report.unsigned_abs()), clock_rate_hz);
        rtp.wrapping_add(if since_report < 0 { elapsed.wrapping_neg() } else { elapsed })
    }
}

/// The publisher's RTP time at `now` before any sender report: that of the `latest` packet plus the
/// time since it came.
pub fn rtp_time_after(latest: (RtpTime, Instant), now: Instant, clock_rate_hz: u32) -> RtpTime {
    let (timestamp, at) = latest;
    timestamp.wrapping_add(ticks(now.since(at), clock_rate_hz))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 90_000;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn ntp(seconds: u64, millis: i64) -> NtpTime {
        NtpTime(seconds << 32).offset_nanos(millis * 1_000_000)
    }

    fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn reports_are_due_every_half_to_one_and_a_half_seconds() {
        let mut timer = ReportTimer::new(at(0), 1 << 31);
        assert_eq!(timer.next_deadline(), at(500));
        assert!(!timer.due(at(499), 0));
        assert!(timer.due(at(510), 0));
        assert_eq!(timer.next_deadline(), at(1_010));
        assert!(!timer.due(at(1_009), 0));
        assert!(timer.due(at(1_010), u32::MAX));
        let wait = timer.next_deadline().since(at(1_010));
        assert!(wait > Duration::from_millis(1_499) && wait < Duration::from_millis(1_500));
    }

    #[test]
    fn the_mean_interval_is_a_second() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut timer = ReportTimer::new(at(0), rng.u32(..));
        for _ in 0..1_000 {
            assert!(timer.due(timer.next_deadline(), rng.u32(..)));
        }
        let seconds = timer.next_deadline().since(at(0)).as_secs();
        assert!((970..=1_030).contains(&seconds), "{seconds} s for a thousand reports");
    }

    #[test]
    fn round_trip_matches_the_example_of_the_rfc() {
        // RFC 3550 §6.4.1, figure 2.
        let now = NtpTime(0xb710_8000 << 16);
        assert_eq!(round_trip(now, 0xb705_2000, 0x0005_4000), millis(6_125));
    }

    #[test]
    fn round_trips_without_sense_are_refused() {
        let now = ntp(100, 0); // middle 100 << 16
        let unit = 65_536;
        let cases = [
            (100 * unit - unit / 10 * 3, unit / 10, 199),
            (100 * unit, 0, 0),
            (100 * unit, 66, 0), // a millisecond too much
        ];
        for (last_sr, delay, expected_ms) in cases {
            let rtt = round_trip(now, last_sr, delay).map(|rtt| rtt.as_millis());
            assert_eq!(rtt, Some(expected_ms), "{last_sr} {delay}");
        }
        let nonsense =
            [(0, 0), (100 * unit, 67), (99 * unit, u32::MAX / 2), (89 * unit, 0), (101 * unit, 0)];
        for (last_sr, delay) in nonsense {
            assert_eq!(round_trip(now, last_sr, delay), None, "{last_sr} {delay}");
        }
        assert_eq!(round_trip(ntp(1 << 16, 500), 65_535 << 16, 0), millis(1_500), "wrapped");
    }

    #[test]
    fn the_fastest_report_sets_the_offset() {
        let mut clock = SenderClock::new();
        let sr = (ntp(50, 0), RtpTime(1_000));
        assert_eq!(clock.rtp_time_at(ntp(1_000, 0), sr, RATE_HZ), RtpTime(1_000), "no report");
        // (when sent, how long the way took, the shortest way so far), all in milliseconds; our
        // clock is 950 s ahead.
        for (sent, way, fastest) in [(0, 80, 80), (100, 20, 20), (200, 90, 20)] {
            clock.on_sender_report(at(sent), ntp(1_000, (sent + way) as i64), ntp(50, sent as i64));
            let rtp = clock.rtp_time_at(ntp(1_000, fastest + 100), sr, RATE_HZ);
            assert!(is_within_a_tick_or_two(rtp, 10_000), "{rtp:?} after the report of {sent} ms");
        }
    }

    /// NTP fractions and nanoseconds do not divide each other.
    fn is_within_a_tick_or_two(rtp: RtpTime, expected: u32) -> bool {
        rtp.since(RtpTime(expected)).abs() <= 2
    }

    #[test]
    fn times_before_the_report_and_over_the_wrap_are_right() {
        let mut clock = SenderClock::new();
        clock.on_sender_report(at(0), ntp(10, 0), ntp(20, 0));
        let cases = [
            (RtpTime(90_000), ntp(9, 0), RtpTime(0)),
            (RtpTime(0), ntp(9, 0), RtpTime(0u32.wrapping_sub(90_000))),
            (RtpTime(u32::MAX), ntp(11, 0), RtpTime(89_999)),
            (
                RtpTime(5),
                ntp(10 + 100_000, 0),
                RtpTime(5 + (9_000_000_000u64 & 0xffff_ffff) as u32),
            ),
        ];
        for (rtp, now, expected) in cases {
            assert_eq!(clock.rtp_time_at(now, (ntp(20, 0), rtp), RATE_HZ), expected, "{rtp:?}");
        }
    }

    #[test]
    fn two_tracks_of_one_publisher_stay_together() {
        let mut clock = SenderClock::new();
        let (audio, video) = ((ntp(50, 0), RtpTime(48_000)), (ntp(50, 300), RtpTime(0)));
        clock.on_sender_report(at(0), ntp(1_000, 40), audio.0);
        clock.on_sender_report(at(400), ntp(1_000, 400), video.0); // slower by 60 ms
        let now = ntp(1_002, 0);
        let audio_ms = clock.rtp_time_at(now, audio, 48_000).since(audio.1) / 48;
        let video_ms = clock.rtp_time_at(now, video, 90_000).since(video.1) / 90;
        assert_eq!(audio_ms - video_ms, 300, "as far apart as on the publisher's clock");
    }

    #[test]
    fn a_slow_peer_clock_is_followed() {
        let mut clock = SenderClock::new();
        for second in 0..1_000i64 {
            // Fifty microseconds a second slow.
            let peer = NtpTime(1 << 40).offset_nanos(second * 999_950_000);
            let ours = NtpTime(2 << 40).offset_nanos(second * 1_000_000_000);
            clock.on_sender_report(at(second as u64 * 1_000), ours, peer);
            let rtp = clock.rtp_time_at(ours, (peer, RtpTime(0)), RATE_HZ);
            assert!(rtp.since(RtpTime(0)).abs() <= 1, "{rtp:?} at {second} s");
        }
    }

    #[test]
    fn a_delayed_report_moves_the_offset_by_no_more_than_the_drift() {
        let mut clock = SenderClock::new();
        clock.on_sender_report(at(0), ntp(100, 0), ntp(100, 0));
        clock.on_sender_report(at(1_000), ntp(102, 0), ntp(101, 0));
        let rtp = clock.rtp_time_at(ntp(101, 0), (ntp(101, 0), RtpTime(0)), RATE_HZ);
        assert_eq!(rtp, RtpTime(18u32.wrapping_neg()), "200 us late");
    }

    #[test]
    fn a_peer_clock_that_is_set_is_taken_over() {
        for step_s in [-100i64, 100] {
            let mut clock = SenderClock::new();
            clock.on_sender_report(at(0), ntp(1_000, 0), ntp(500, 0));
            let peer = ntp((501 + step_s) as u64, 0);
            clock.on_sender_report(at(1_000), ntp(1_001, 0), peer);
            let rtp = clock.rtp_time_at(ntp(1_001, 500), (peer, RtpTime(0)), RATE_HZ);
            assert_eq!(rtp, RtpTime(45_000), "step of {step_s} s");
        }
    }

    #[test]
    fn no_ntp_time_overflows() {
        let values = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        for ours in values {
            for peer in values {
                let mut clock = SenderClock::new();
                clock.on_sender_report(at(0), NtpTime(ours), NtpTime(peer));
                clock.on_sender_report(
                    Instant::from_std(at(0).to_std()),
                    NtpTime(peer),
                    NtpTime(ours),
                );
                clock.on_sender_report(at(u64::MAX / 1_000_000), NtpTime(ours), NtpTime(peer));
                for sr in values {
                    clock.rtp_time_at(NtpTime(ours), (NtpTime(sr), RtpTime(1)), u32::MAX);
                }
                let _ = round_trip(NtpTime(ours), peer as u32, (peer >> 7) as u32);
            }
        }
    }

    #[test]
    fn before_any_report_time_runs_on_from_the_latest_packet() {
        let latest = (RtpTime(u32::MAX), at(1_000));
        assert_eq!(rtp_time_after(latest, at(1_020), 48_000), RtpTime(959));
        assert_eq!(rtp_time_after(latest, at(900), 48_000), RtpTime(u32::MAX));
    }
}
