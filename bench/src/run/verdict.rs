//! Whether a run says something of the server, or of the generator and the machine.

use crate::result::RunResult;

/// Share of a core above which a worker is taken for the limit.
const GENERATOR_CORES_MAX: f64 = 0.9;

/// Share of the time that a thread waited for a core, above which a run says more of the machine's other work than of the
/// server: what comes late comes in larger batches, and those are cheaper.
const DISTURBED: f64 = 0.05;

/// Of the packets that were sent: later than a millisecond. Above the first it is said, above the second the load was another one.
const LATE_TOLD: f64 = 0.01;
const LATE_MAX: f64 = 0.05;

/// Seconds of measurement without which a run that was stopped says nothing.
const MEASURED_MIN_S: f64 = 1.0;

/// Microseconds that the generator's own clock may be off, at the 99th percentile.
const CLOCK_ERROR_MAX_US: f64 = 100.0;

/// Judges a run: fills in `valid`, `disturbed` and `problems`, and withholds what would mislead.
pub fn judge(result: &mut RunResult, problems: Vec<String>) {
    result.problems.splice(0..0, problems);
    if result.partial && result.elapsed_s < MEASURED_MIN_S {
        result.problems.push("it was stopped before anything was measured".to_owned());
        withhold(result);
        return;
    }
    let faults = faults_of_generator(result);
    result.valid = faults.is_empty();
    result.problems.splice(0..0, faults);
    result.problems.extend(remarks(result));
    result.problems.dedup();
    let waited = result.generator.waited_share.max(result.server.waited_share);
    result.disturbed = waited > DISTURBED;
    if result.disturbed {
        let share = waited * 100.0;
        result
            .problems
            .push(format!("disturbed: one side waited for a core for {share:.0} % of the time"));
    }
    if !result.valid {
        withhold(result);
        return;
    }
    hold_against_expectation(result);
}

/// Whether a run that says something of the server shows what its scenario expects; if not, where it was lost.
fn hold_against_expectation(result: &mut RunResult) {
    let Some(expect) = result.scenario.as_ref().and_then(|scenario| scenario.expect) else {
        return;
    };
    let loss = &result.loss;
    let is_met = loss.share <= expect.loss_max;
    result.as_expected = Some(is_met);
    if is_met {
        return;
    }
    let mut text = format!(
        "not as expected: {:.4} % of the packets were lost ({} of {}), {:.4} % may be",
        loss.share * 1e2,
        loss.lost,
        loss.expected,
        expect.loss_max * 1e2
    );
    let sockets = loss.server_sockets;
    if sockets > 0 {
        text += &format!(
            "; the server's sockets had no room for {sockets} datagrams: larger buffers hold them \
            (net.core.rmem_max, and engine.socket_buffer_bytes where the server is Sluice)"
        );
    }
    let unsent = result.kernel.map_or(0, |kernel| kernel.grown(|of| of.sndbuf_errors));
    if unsent > 0 {
        text += &format!(
            "; {unsent} sends found the send buffer or the queue of the device full (net.core.wmem_max, txqueuelen)"
        );
    }
    let backlog = result.kernel.map_or(0, |kernel| kernel.grown(|of| of.backlog_dropped));
    if backlog > 0 {
        text += &format!(
            "; {backlog} packets found a core's backlog full (net.core.netdev_max_backlog)"
        );
    }
    result.problems.push(text);
}

fn withhold(result: &mut RunResult) {
    let server = &mut result.server;
    server.us_per_packet_out = None;
    server.us_per_packet = None;
    server.cores_per_gbps = None;
}

fn faults_of_generator(result: &RunResult) -> Vec<String> {
    let generator = &result.generator;
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("the generator was the bottleneck: {text}"));
    if generator.busiest > GENERATOR_CORES_MAX {
        fault(format!("a worker used {:.2} of its one core", generator.busiest));
    } else if generator.busiest + generator.waited_share > 0.98 {
        let share = generator.waited_share * 100.0;
        fault(format!(
            "a worker had no core for {share:.0} % of the time and was busy for the rest"
        ));
    }
    let dropped = result.loss.generator_sockets;
    if dropped > 0 {
        fault(format!("its sockets or its relay dropped or could not send {dropped} datagrams"));
    }
    let late = share(result.traffic.late, result.traffic.packets_in);
    if late > LATE_MAX {
        fault(format!("{:.1} % of its packets were sent more than 1 ms late", late * 100.0));
    }
    let has_media = result.scenario.as_ref().is_some_and(|scenario| scenario.has_media());
    if has_media && result.traffic.packets_out == 0 {
        faults.push("no packets arrived".to_owned());
    }
    faults
}

fn remarks(result: &RunResult) -> Vec<String> {
    let mut remarks = Vec::new();
    let late = share(result.traffic.late, result.traffic.packets_in);
    if late > LATE_TOLD && late <= LATE_MAX {
        remarks.push(format!("{:.1} % of the packets were sent more than 1 ms late", late * 100.0));
    }
    let error = result.clock_error_us.p99;
    if error > CLOCK_ERROR_MAX_US {
        remarks.push(format!(
            "latencies are uncertain: the generator's own clock was off by {error:.0} µs (p99)"
        ));
    }
    if !result.complete {
        let closed = result.loss.sessions_closed;
        remarks.push(format!(
            "it was a smaller load: not everybody took part, {closed} sessions failed or ended"
        ));
    }
    if result.traffic.damaged > 0 {
        remarks.push(format!("{} checked packets were not what was sent", result.traffic.damaged));
    }
    remarks
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Distribution, GeneratorUse, KernelCounters, Traffic, UdpCounters};
    use crate::scenario::Expect;

    type Spoil = fn(&mut RunResult);

    fn clean() -> RunResult {
        let text = "name = \"x\"\n[calls]\ncalls = 1\nparticipants = 2\nunmuted = 1";
        let mut result = RunResult {
            scenario: Some(toml::from_str(text).unwrap()),
            traffic: Traffic { packets_in: 100, packets_out: 1_000, late: 1, ..Traffic::default() },
            generator: GeneratorUse { busiest: 0.5, waited_share: 0.01, ..GeneratorUse::default() },
            clock_error_us: Distribution { p99: 20.0, ..Distribution::default() },
            complete: true,
            elapsed_s: 10.0,
            ..RunResult::default()
        };
        result.server.us_per_packet_out = Some(3.0);
        result
    }

    #[test]
    fn a_clean_run_has_no_problems() {
        let mut result = clean();
        judge(&mut result, Vec::new());
        assert!(result.valid && !result.disturbed && result.problems.is_empty(), "{result:?}");
        assert_eq!(result.server.us_per_packet_out, Some(3.0));
    }

    #[test]
    fn a_generator_at_its_limit_lends_no_figure() {
        let spoil: [Spoil; 5] = [
            |result| result.generator.busiest = 0.91,
            |result| (result.generator.busiest, result.generator.waited_share) = (0.6, 0.39),
            |result| result.loss.generator_sockets = 1,
            |result| result.traffic.late = 6,
            |result| result.traffic.packets_out = 0,
        ];
        for spoil in spoil {
            let mut result = clean();
            spoil(&mut result);
            judge(&mut result, Vec::new());
            assert!(!result.valid && result.server.us_per_packet_out.is_none());
            assert!(!result.problems.is_empty());
        }
    }

    #[test]
    fn a_run_that_was_stopped_before_it_measured_says_only_that() {
        let mut result = RunResult { partial: true, elapsed_s: 0.1, ..clean() };
        judge(&mut result, Vec::new());
        assert!(!result.valid && result.server.us_per_packet_out.is_none());
        assert_eq!(result.problems, ["it was stopped before anything was measured"]);
    }

    #[test]
    fn loss_beyond_what_is_expected_fails_a_valid_run_and_says_where_it_was_lost() {
        let expecting = |loss_max: f64, share: f64| {
            let mut result = clean();
            result.scenario.as_mut().unwrap().expect = Some(Expect { loss_max });
            (result.loss.share, result.loss.lost, result.loss.expected) = (share, 20, 1_000);
            result
        };
        let mut met = expecting(0.02, 0.02);
        judge(&mut met, Vec::new());
        assert_eq!((met.as_expected, met.problems.len()), (Some(true), 0));

        let mut missed = expecting(0.0, 0.02);
        missed.loss.server_sockets = 3;
        let after = UdpCounters { sndbuf_errors: 5, backlog_dropped: 4, ..UdpCounters::default() };
        missed.kernel = Some(KernelCounters { after, ..KernelCounters::default() });
        judge(&mut missed, Vec::new());
        assert_eq!((missed.as_expected, missed.valid), (Some(false), true));
        for words in ["20 of 1000", "no room for 3 datagrams", "5 sends found", "4 packets found"] {
            assert!(missed.problems[0].contains(words), "{:?}", missed.problems);
        }

        let mut not_the_servers = expecting(0.0, 0.02);
        not_the_servers.loss.generator_sockets = 1;
        judge(&mut not_the_servers, Vec::new());
        assert_eq!(not_the_servers.as_expected, None);
        let mut nothing_expected = clean();
        nothing_expected.loss.share = 0.5;
        judge(&mut nothing_expected, Vec::new());
        assert_eq!((nothing_expected.as_expected, nothing_expected.problems.len()), (None, 0));
    }

    #[test]
    fn other_trouble_is_named_and_leaves_the_figures() {
        let spoil: [(Spoil, &str); 6] = [
            (|result| result.server.waited_share = 0.06, "disturbed"),
            (|result| result.generator.waited_share = 0.06, "disturbed"),
            (|result| result.traffic.late = 2, "late"),
            (|result| result.complete = false, "smaller load"),
            (|result| result.traffic.damaged = 1, "not what was sent"),
            (|result| result.clock_error_us.p99 = 101.0, "clock"),
        ];
        for (spoil, word) in spoil {
            let mut result = clean();
            spoil(&mut result);
            judge(&mut result, Vec::new());
            assert!(result.valid && result.server.us_per_packet_out.is_some());
            assert!(result.problems.len() == 1 && result.problems[0].contains(word), "{result:?}");
        }
    }
}
