//! Smaller scenarios of the same kind, for machines that do not carry the whole.

use super::{Calls, Churn, Join, Scaled, Scenario, bounds};

/// The least factor.
pub const FACTOR_MIN: f64 = 0.001;

/// Shrinks a scenario to `factor` of its load, 0.001 to 1; what lies outside is taken for the nearer end.
///
/// Calls shrink first, down to one; only then its participants, in such a way that what the server sends shrinks by the factor.
/// Senders stay: as many unmuted and screens in each call, and one more at the least who receives. The join ramp and the churn
/// shrink with the people, so that the joins and changes that each meets stay what they were. The load is that much or less,
/// except where nothing smaller is left. `scaled` says what was done, unless the factor is 1.
pub fn scale(scenario: &Scenario, factor: f64) -> Scenario {
    // `max` takes what is no number for the least factor.
    shrink(scenario, factor.max(FACTOR_MIN))
}

/// Shrinks a scenario as [`scale`] does until the server has at most so many packets a second to send, and half as many to
/// receive, or as few as there can be; what fits already stays as it is.
///
/// Half: a packet costs the generator twice as much to send, each by a call of its own, as to receive.
pub fn fit(scenario: &Scenario, packets_per_second: f64) -> Scenario {
    let whole = load(scenario);
    let factor = if whole > 0.0 { packets_per_second / whole } else { 1.0 };
    shrink(scenario, factor.max(0.0))
}

/// Packets a second that the server sends, or twice those that it receives, whatever is more.
fn load(scenario: &Scenario) -> f64 {
    scenario.packets_out_per_second().max(2.0 * scenario.packets_in_per_second())
}

/// Reads a factor that a person gave.
/// # Errors
/// It is no number, or not 0.001 to 1.
pub fn parse_factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (FACTOR_MIN..=1.0).contains(factor));
    factor.ok_or_else(|| format!("the scale is {text:?}; allowed is {FACTOR_MIN} to 1"))
}

/// The same scenario with other numbers of calls and participants: ramp and churn change with the people, within their bounds.
pub fn with_people(scenario: &Scenario, calls: u32, participants: u32) -> Scenario {
    let calls = Calls { calls, participants, ..scenario.calls };
    let share = f64::from(calls.people()) / f64::from(scenario.calls.people());
    let ramp_s = (scenario.join.ramp_s * share).min(*bounds::RAMP_S.end());
    let churn = scenario.churn.map(|churn| Churn {
        per_second: (churn.per_second * share)
            .clamp(bounds::CHURN_PER_SECOND_MIN, f64::from(calls.people())),
    });
    Scenario { calls, join: Join { ramp_s, ..scenario.join }, churn, ..scenario.clone() }
}

/// The fewest participants of a call in which all senders are left, and somebody who receives.
pub fn participants_min(calls: Calls) -> u32 {
    let senders = calls.unmuted.max(calls.screens);
    (senders + 1).max(2).min(calls.participants)
}

fn shrink(scenario: &Scenario, factor: f64) -> Scenario {
    if factor >= 1.0 {
        return scenario.clone();
    }
    let Calls { calls, participants, .. } = scenario.calls;
    let left = f64::from(calls) * factor;
    let (calls, participants) = match left >= 1.0 {
        true => (whole(left), participants),
        // Less than one call is left, and in it everybody's packets go to all others.
        false => {
            let others = whole(f64::from(participants - 1) * left);
            (1, (others + 1).max(participants_min(scenario.calls)))
        }
    };
    let before = scenario.scaled.unwrap_or(Scaled {
        factor: 1.0,
        calls: scenario.calls.calls,
        participants: scenario.calls.participants,
    });
    let scaled = Scaled { factor: before.factor * factor, ..before };
    Scenario { scaled: Some(scaled), ..with_people(scenario, calls, participants) }
}

/// Cuts off the fraction. A tenth of 10 is 1, though the product may fall short of it by the last bit.
fn whole(count: f64) -> u32 {
    (count + 1e-9) as u32
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    fn named(name: &str) -> Scenario {
        Scenario::find(name).unwrap()
    }

    fn size(scenario: &Scenario) -> (u32, u32) {
        (scenario.calls.calls, scenario.calls.participants)
    }

    #[test]
    fn several_calls_become_fewer_and_one_call_becomes_smaller() {
        for (name, factor, expected) in [
            ("c7i-xlarge-100x10-2u", 0.29, (29, 10)),
            ("c7i-2xlarge-1000x2-2u", 0.2, (200, 2)),
            ("c7i-4xlarge-4x1000-2u-screen", 0.3, (1, 1_000)),
            ("c7i-4xlarge-4x1000-2u-screen", 0.1, (1, 400)),
            ("c7i-xlarge-1x1000-2u", 0.2, (1, 200)),
            ("c7i-xlarge-1x1000-2u", 0.001, (1, 3)),
            ("c7i-xlarge-1x1000-1u-screen", 0.001, (1, 2)),
            ("c7i-2xlarge-1000x2-2u", 0.001, (1, 2)),
            ("smoke", 0.1, (1, 2)),
            ("idle", 0.1, (1, 50)),
        ] {
            assert_eq!(size(&scale(&named(name), factor)), expected, "{name} at {factor}");
        }
    }

    #[test]
    fn the_report_can_say_what_was_done() {
        let row = named("c7i-4xlarge-4x1000-2u-screen");
        let half = scale(&row, 0.5);
        assert_eq!(half.scaled, Some(Scaled { factor: 0.5, calls: 4, participants: 1_000 }));
        let quarter = scale(&half, 0.5);
        assert_eq!(quarter.scaled, Some(Scaled { factor: 0.25, calls: 4, participants: 1_000 }));
        assert_eq!((size(&quarter), &quarter.published), ((1, 1_000), &row.published));
        assert_eq!(scale(&row, 1.0), row);
    }

    #[test]
    fn joins_and_churn_keep_their_pace_for_each_person() {
        let row = scale(&named("c7i-xlarge-100x10-2u"), 0.1);
        assert_eq!((row.calls.people(), row.join.ramp_s), (100, 3.0));
        let churn = scale(&named("churn"), 0.5);
        assert_eq!((churn.calls.people(), churn.churn.unwrap().per_second), (50, 2.5));
    }

    #[test]
    fn the_load_is_never_more_than_asked_for_never_nothing_and_grows_with_the_factor() {
        for scenario in builtin::all() {
            let whole = scenario.packets_out_per_second();
            let least = shrink(&scenario, 0.0);
            let mut last = 0.0;
            for permille in 1..=1_000 {
                let factor = f64::from(permille) / 1_000.0;
                let scaled = scale(&scenario, factor);
                scaled.check().unwrap();
                let Calls { calls, participants, unmuted, screens } = scaled.calls;
                assert_eq!((unmuted, screens), (scenario.calls.unmuted, scenario.calls.screens));
                assert!(calls >= 1 && participants >= 2 && participants >= unmuted.max(screens));
                let load = scaled.packets_out_per_second();
                let name = &scenario.name;
                assert!(load <= whole * factor + 1e-3 || size(&scaled) == size(&least), "{name}");
                assert!(load >= last && (load > 0.0 || whole == 0.0), "{name} at {factor}");
                last = load;
            }
            assert_eq!(last, whole);
        }
    }

    #[test]
    fn what_is_no_factor_becomes_the_nearest_one() {
        let row = named("c7i-xlarge-1x1000-2u");
        assert_eq!(scale(&row, 7.0), row);
        for factor in [0.0, -1.0, f64::NAN] {
            assert_eq!(size(&scale(&row, factor)), (1, 3), "{factor}");
        }
        assert_eq!(parse_factor("0.25"), Ok(0.25));
        for text in ["0", "1.01", "nan", "half", ""] {
            assert!(parse_factor(text).unwrap_err().contains("0.001 to 1"), "{text}");
        }
    }

    #[test]
    fn fitting_takes_no_more_packets_than_there_may_be_and_not_far_fewer() {
        for scenario in builtin::all() {
            let least = shrink(&scenario, 0.0);
            for packets in [100.0, 3_000.0, 40_000.0, 1e6] {
                let fitted = fit(&scenario, packets);
                assert!(load(&fitted) <= packets + 1e-3 || size(&fitted) == size(&least));
                if load(&scenario) <= packets {
                    assert_eq!(fitted, scenario);
                    continue;
                }
                let Calls { calls, participants, .. } = fitted.calls;
                let more = match calls > 1 || participants == scenario.calls.participants {
                    true => with_people(&scenario, calls + 1, participants),
                    false => with_people(&scenario, calls, participants + 1),
                };
                assert!(load(&more) > packets, "{}", scenario.name);
            }
        }
        assert_eq!(size(&fit(&named("smoke"), f64::NAN)), (1, 2));
    }
}
