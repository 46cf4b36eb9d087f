//! The search itself: a step, perhaps its repeat, and on to the next.

use super::bracket::{Bracket, Next};
use super::{
    Attempt, Capacity, Ending, FORMAT, Limits, Load, Outcome, RUNS_MAX, Step, SteppedBy, markdown,
};
use crate::result::RunResult;
use crate::scenario::{self, Scenario};

/// A search under way.
pub(super) struct Search {
    capacity: Capacity,
    bracket: Bracket,
    runs: usize,
}

impl Search {
    pub(super) fn new(scenario: &Scenario, limits: Limits) -> Result<Self, String> {
        limits.check()?;
        scenario.check()?;
        if scenario.packets_out_per_second() == 0.0 {
            return Err(format!(
                "in {} nobody is sent anything: there is no load to step",
                scenario.name
            ));
        }
        if scenario.impair.is_some() {
            return Err(format!(
                "{} has a bad network (`impair`), whose loss and delay would be taken for the server's",
                scenario.name
            ));
        }
        let (stepped_by, least, start) = match scenario.calls.calls {
            1 => {
                let least = scenario::participants_min(scenario.calls);
                (SteppedBy::Participants, least, scenario.calls.participants)
            }
            calls => (SteppedBy::Calls, 1, calls),
        };
        // What others published or what was shrunk concerns one load, not these.
        let start_scenario = Scenario { published: None, scaled: None, ..scenario.clone() };
        let capacity = Capacity {
            format: FORMAT,
            limits,
            start: start_scenario,
            stepped_by,
            ending: Ending::Runs,
            partial: false,
            largest: None,
            refused: None,
            steps: Vec::new(),
            problems: Vec::new(),
        };
        let sizes: Vec<u32> = (start..=scenario::COUNT_MAX).collect();
        let fitting = sizes.partition_point(|size| capacity.sized(*size).check().is_ok());
        // The start fits, for it was checked.
        let most = sizes[fitting.max(1) - 1];
        let bracket = Bracket { start, least, most, carried: None, refused: None };
        Ok(Self { capacity, bracket, runs: 0 })
    }

    /// Steps until the search ends.
    pub(super) fn go(
        mut self,
        run: &mut dyn FnMut(&Scenario) -> Result<RunResult, String>,
        progress: &mut dyn FnMut(&str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Capacity, String> {
        let ending = loop {
            let size = match self.bracket.next() {
                Next::Try(size) => size,
                Next::End(ending) => break ending,
            };
            match self.step(size, run, progress, is_stopped) {
                Ok(()) => (),
                Err(Ending::Failed) if self.capacity.steps.is_empty() => {
                    return Err(self.capacity.problems.join("; "));
                }
                Err(ending) => break ending,
            }
        };
        self.capacity.ending = ending;
        self.capacity.partial = matches!(ending, Ending::Stopped | Ending::Failed);
        progress(&markdown::conclusion(&self.capacity));
        Ok(self.capacity)
    }

    /// Runs one size, twice when it is not carried at once, and notes what it says of the size. `Err` ends the search.
    fn step(
        &mut self,
        size: u32,
        run: &mut dyn FnMut(&Scenario) -> Result<RunResult, String>,
        progress: &mut dyn FnMut(&str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), Ending> {
        let scenario = self.capacity.sized(size);
        for is_repeat in [false, true] {
            if is_stopped() {
                return Err(Ending::Stopped);
            }
            if self.runs == RUNS_MAX {
                return Err(Ending::Runs);
            }
            self.runs += 1;
            let (calls, participants) = (scenario.calls.calls, scenario.calls.participants);
            let again = if is_repeat { ", again" } else { "" };
            let place = format!("run {}: {calls} x {participants} people{again}", self.runs);
            progress(&place);
            let result = run(&scenario).map_err(|why| {
                self.capacity.problems.push(format!("{place}: {why}"));
                Ending::Failed
            })?;
            let attempt = Attempt::judge(result, &scenario, self.capacity.limits);
            let outcome = attempt.outcome;
            progress(&format!(
                "{place}: {}; {:.3} cores, p99 {:.1} ms",
                attempt.outcome_words(),
                attempt.result.server.cores,
                attempt.result.latency_us.p99 / 1e3
            ));
            self.note(size, &scenario, attempt, is_repeat);
            if outcome == Outcome::Carried {
                return Ok(());
            }
        }
        // Twice not carried; the second time decides why. Where everybody joined the first time, joining is not what ends here.
        let joined_once =
            |step: &Step| step.runs.iter().any(|run| run.outcome == Outcome::Exceeded);
        let last = self.capacity.steps.last();
        match last.map(|step| step.outcome) {
            Some(Outcome::NotValid) => Err(Ending::Generator),
            Some(Outcome::NotJoined) if !last.is_some_and(joined_once) => Err(Ending::Joining),
            Some(Outcome::Partial) => Err(Ending::Stopped),
            _ => Ok(()),
        }
    }

    /// Keeps an attempt, and moves the bracket when it is known on which side the size lies.
    fn note(&mut self, size: u32, scenario: &Scenario, attempt: Attempt, is_repeat: bool) {
        let outcome = attempt.outcome;
        let load = Load::of(scenario, &attempt.result);
        match self.capacity.steps.last_mut().filter(|_| is_repeat) {
            Some(step) => {
                step.outcome = outcome;
                step.runs.push(attempt);
            }
            None => {
                let (calls, participants) = (load.calls, load.participants);
                let runs = vec![attempt];
                self.capacity.steps.push(Step { calls, participants, outcome, runs });
            }
        }
        if outcome == Outcome::Carried {
            self.bracket.carried = Some(size);
            self.capacity.largest = Some(load);
        } else if is_repeat && matches!(outcome, Outcome::Exceeded | Outcome::NotJoined) {
            self.bracket.refused = Some(size);
            self.capacity.refused = Some(load);
        }
    }
}
