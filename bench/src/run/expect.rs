//! What should arrive: a function of the scenario and of how clients join.

use crate::conversation::TargetApi;
use crate::scenario::Scenario;

/// Whether what arrives can be compared with what was sent, packet by packet: nobody comes and goes, and no server chooses layers.
pub fn is_exact(scenario: &Scenario) -> bool {
    scenario.churn.is_none() && scenario.screen.low_rate_bps == 0 && scenario.has_media()
}

/// Clients that receive a stream, its publisher left out.
pub fn receivers(scenario: &Scenario, api: TargetApi) -> u32 {
    let calls = scenario.calls;
    match api {
        // By WHIP one sends or receives.
        TargetApi::Whip => calls.participants - calls.unmuted.max(calls.screens),
        _ => calls.participants - 1,
    }
}

/// Received streams of all clients.
pub fn subscriptions(scenario: &Scenario, api: TargetApi) -> u64 {
    let calls = scenario.calls;
    let streams = u64::from(calls.unmuted) + u64::from(calls.screens);
    u64::from(calls.calls) * streams * u64::from(receivers(scenario, api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_does_not_hear_itself() {
        let text = "name = \"x\"\n[calls]\ncalls = 3\nparticipants = 10\nunmuted = 2\nscreens = 1";
        let mut scenario: Scenario = toml::from_str(text).unwrap();
        assert_eq!(subscriptions(&scenario, TargetApi::Rtcd), 3 * 3 * 9);
        assert_eq!(subscriptions(&scenario, TargetApi::Whip), 3 * 3 * 8);
        assert!(is_exact(&scenario));
        scenario.screen.low_rate_bps = 1;
        assert!(!is_exact(&scenario));
    }
}
