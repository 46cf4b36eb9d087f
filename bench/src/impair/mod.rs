//! A bad network on one machine: a UDP relay between clients and a server that loses, delays and doubles as it is told, by a seed.
//!
//! [`model`] decides about each datagram and owns nothing but its numbers; [`relay`] is what the rest of the program holds, [`forwarder`] the
//! thread behind it, with [`held`] for what waits and [`socket`] for what the kernel wants to hear; [`command`] is `sluice-bench impair`.

pub mod command;
mod forwarder;
mod held;
mod model;
mod relay;
mod socket;

use std::ops::RangeInclusive;

use crate::scenario::Impair;

pub use relay::{Relay, RelayCounters, WayCounters};

/// Checks what the settings of a bad network may be, alone and together.
///
/// # Errors
/// Names the setting, its value and what is allowed.
pub fn check(impair: &Impair) -> Result<(), String> {
    let within = |name: &str, value: f64, allowed: RangeInclusive<f64>| {
        // What is not a number lies in no range.
        if allowed.contains(&value) {
            return Ok(());
        }
        Err(format!("{name} is {value}; {} to {} is allowed", allowed.start(), allowed.end()))
    };
    within("loss", impair.loss, 0.0..=1.0)?;
    within("burst_loss", impair.burst_loss, 0.0..=0.9)?;
    within("delay_ms", impair.delay_ms, 0.0..=10_000.0)?;
    within("jitter_ms", impair.jitter_ms, 0.0..=10_000.0)?;
    within("reorder", impair.reorder, 0.0..=1.0)?;
    within("duplicate", impair.duplicate, 0.0..=1.0)?;
    if impair.burst_loss > 0.0 {
        within("burst_length", impair.burst_length, 1.0..=10_000.0)?;
        // At least one datagram lies between two bursts. A little less is a matter of rounding.
        let least = impair.burst_loss / (1.0 - impair.burst_loss);
        if impair.burst_length < least * (1.0 - 1e-9) {
            return Err(format!(
                "burst_length is {}; bursts that take {} of the time are {least:.1} or longer in the mean",
                impair.burst_length, impair.burst_loss
            ));
        }
    } else if impair.burst_length != 0.0 {
        within("burst_length", impair.burst_length, 1.0..=10_000.0)?;
    }
    if impair.reorder > 0.0 && impair.delay_ms + impair.jitter_ms == 0.0 {
        return Err("reorder sends without delay: it needs delay_ms or jitter_ms above 0".into());
    }
    if impair.rate_bps != 0 {
        within("rate_bps", impair.rate_bps as f64, 1_000.0..=100e9)?;
    }
    if impair.rebind_s != 0.0 {
        within("rebind_s", impair.rebind_s, 0.1..=3_600.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        let good = Impair {
            loss: 0.02,
            burst_loss: 0.9,
            burst_length: 9.0,
            delay_ms: 50.0,
            reorder: 0.01,
            rate_bps: 1_000,
            rebind_s: 0.1,
            ..Impair::default()
        };
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&Impair::default()), Ok(()));
        for (name, bad) in [
            ("loss", Impair { loss: 1.1, ..good }),
            ("loss", Impair { loss: f64::NAN, ..good }),
            ("burst_loss", Impair { burst_loss: 0.95, ..good }),
            ("burst_length", Impair { burst_length: 0.0, ..good }),
            ("burst_length", Impair { burst_length: 8.9, ..good }),
            ("burst_length", Impair { burst_loss: 0.0, burst_length: -1.0, ..good }),
            ("delay_ms", Impair { delay_ms: -1.0, ..good }),
            ("jitter_ms", Impair { jitter_ms: f64::INFINITY, ..good }),
            ("reorder", Impair { reorder: 2.0, ..good }),
            ("reorder", Impair { delay_ms: 0.0, ..good }),
            ("duplicate", Impair { duplicate: -0.1, ..good }),
            ("rate_bps", Impair { rate_bps: 999, ..good }),
            ("rebind_s", Impair { rebind_s: 0.01, ..good }),
        ] {
            let refusal = check(&bad).unwrap_err();
            assert!(refusal.starts_with(name), "{refusal}");
        }
    }
}
