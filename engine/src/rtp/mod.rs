//! RTP streams as numbers: what arrived, what is missing, how it is numbered for each leg, what is
//! reported.
//!
//! State machines without bytes of the wire format: the session parses, converts and sends. Nothing
//! here allocates once it is made.

use std::time::Duration;

pub mod audio_level;
pub mod history;
pub mod inbound;
pub(crate) mod index_set;
pub mod keyframe;
pub mod missing;
pub mod outbound;
pub mod rate;
pub mod report;
pub mod resend;
pub mod rewrite;
pub mod rtx;

/// `duration` in ticks of a media clock, wrapping as RTP timestamps do.
pub(crate) fn ticks(duration: Duration, clock_rate_hz: u32) -> u32 {
    let rate = u64::from(clock_rate_hz);
    let of_seconds = duration.as_secs().wrapping_mul(rate);
    let of_rest = u64::from(duration.subsec_nanos()) * rate / NANOS_PER_SECOND;
    of_seconds.wrapping_add(of_rest) as u32
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_clock_rate_and_wrap() {
        let cases = [
            (Duration::from_secs(1), 90_000, 90_000),
            (Duration::from_millis(20), 48_000, 960),
            (Duration::from_nanos(11_111), 90_000, 0),
            (Duration::from_nanos(11_112), 90_000, 1),
            (Duration::from_secs(47_721), 90_000, 4_294_890_000),
            (Duration::from_secs(47_722), 90_000, 12_704),
            (Duration::MAX, 0, 0),
        ];
        for (duration, rate, expected) in cases {
            assert_eq!(ticks(duration, rate), expected, "{duration:?} at {rate} Hz");
        }
    }
}
