//! The largest load that a server carries: the scenario in steps, up by half until it is too much, then between the last two.
//!
//! What counts as carried: everybody joins and stays, and loss and latency keep to [`Limits`]. A step that is not carried is
//! repeated once, for one hiccup of the machine must not decide. Where the generator is the limit, the search ends and says so.

mod bracket;
mod markdown;
mod steps;

use serde::{Deserialize, Serialize};

use crate::result::RunResult;
use crate::scenario::{self, Scenario};
use crate::stop;
use steps::Search;

pub use markdown::markdown;

/// The version of this format.
pub const FORMAT: u32 = 1;

/// Runs that one search may make, repeats included.
pub const RUNS_MAX: usize = 16;

/// What a carried load keeps to.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Share of the packets that may be lost.
    pub loss_max: f64,
    /// Latency that 99 of 100 packets must not exceed, microseconds.
    pub p99_max_us: f64,
}

/// What changes from step to step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteppedBy {
    Calls,
    Participants,
}

/// What the search found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Capacity {
    pub format: u32,
    pub limits: Limits,
    /// The scenario of the first step.
    pub start: Scenario,
    pub stepped_by: SteppedBy,
    /// Why there is no further step.
    pub ending: Ending,
    /// It was stopped early, or a run failed.
    pub partial: bool,
    /// The largest load that was carried.
    pub largest: Option<Load>,
    /// The smallest load that was tried and not carried.
    pub refused: Option<Load>,
    pub steps: Vec<Step>,
    /// What ended it early, for people.
    pub problems: Vec<String>,
}

/// Why a search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The smallest load that was not carried is within 5 % of the largest that was.
    Found,
    /// The generator could not make or take more.
    Generator,
    /// Not everybody could join.
    Joining,
    /// The largest load that a scenario may have was carried.
    Bounds,
    /// Not even the smallest was.
    Nothing,
    /// All runs there may be were made.
    Runs,
    /// A run could not be made.
    Failed,
    /// Ctrl-C.
    Stopped,
}

/// A load, and what the server needed for it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Load {
    pub calls: u32,
    pub participants: u32,
    /// As they arrived.
    pub packets_out_per_second: f64,
    /// CPU of the server.
    pub cores: f64,
    pub us_per_packet_out: Option<f64>,
    pub p99_us: f64,
    pub loss_share: f64,
}

/// One size of the scenario.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    pub calls: u32,
    pub participants: u32,
    /// Of the last of its runs.
    pub outcome: Outcome,
    /// One, or two when the first was not carried.
    pub runs: Vec<Attempt>,
}

/// One run of a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub outcome: Outcome,
    /// Why it was not carried, for people.
    pub why: Vec<String>,
    pub result: RunResult,
}

/// What became of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Carried,
    /// More loss, latency or ended sessions than allowed.
    Exceeded,
    /// Not everybody joined.
    NotJoined,
    /// The run says nothing of the server.
    NotValid,
    /// The run was stopped early.
    Partial,
}

impl Default for Limits {
    fn default() -> Self {
        Self { loss_max: 1e-4, p99_max_us: 20_000.0 }
    }
}

/// Searches the largest load of a kind that a server carries, beginning with the scenario as it is.
///
/// Calls change where it has several, else the participants of its one call; ramp and churn change with the people. `run` makes
/// one run and may take minutes; `progress` hears a line before and after each. There are at most [`RUNS_MAX`] runs. Ctrl-C ends it after the
/// run that is under way, and so does a run that cannot be made once there are others: the result is then partial.
/// # Errors
/// The scenario or the limits do not suit a search, or the very first run could not be made; for people.
pub fn search(
    scenario: &Scenario,
    limits: Limits,
    run: &mut dyn FnMut(&Scenario) -> Result<RunResult, String>,
    progress: &mut dyn FnMut(&str),
) -> Result<Capacity, String> {
    Search::new(scenario, limits)?.go(run, progress, &stop::is_stopped)
}

impl Limits {
    fn check(self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.loss_max) {
            return Err(format!(
                "the allowed loss is {}; it must be 0 or more and below 1",
                self.loss_max
            ));
        }
        if !(1.0..=60e6).contains(&self.p99_max_us) {
            return Err(format!(
                "the allowed latency is {} µs; it must be 1 µs to a minute",
                self.p99_max_us
            ));
        }
        Ok(())
    }
}

impl Capacity {
    /// The scenario at one size.
    fn sized(&self, size: u32) -> Scenario {
        let calls = self.start.calls;
        match self.stepped_by {
            SteppedBy::Calls => scenario::with_people(&self.start, size, calls.participants),
            SteppedBy::Participants => scenario::with_people(&self.start, calls.calls, size),
        }
    }
}

impl Attempt {
    fn judge(result: RunResult, scenario: &Scenario, limits: Limits) -> Self {
        let mut why = Vec::new();
        let people = u64::from(scenario.calls.people());
        let joined = result.join_us.count;
        let (loss, latency) = (result.loss.share, &result.latency_us);
        if loss > limits.loss_max {
            why.push(format!("lost {:.4} %", loss * 100.0));
        }
        if latency.count == 0 {
            why.push("no latency was measured".to_owned());
        } else if latency.p99 > limits.p99_max_us {
            why.push(format!("latency p99 was {:.1} ms", latency.p99 / 1e3));
        }
        if result.loss.sessions_closed > 0 {
            why.push(format!("{} sessions ended by themselves", result.loss.sessions_closed));
        }
        let mut outcome = if why.is_empty() { Outcome::Carried } else { Outcome::Exceeded };
        if joined < people {
            outcome = Outcome::NotJoined;
            why.insert(0, format!("{joined} of {people} joined"));
        }
        if !result.valid {
            outcome = Outcome::NotValid;
            why.splice(0..0, result.problems.iter().cloned());
        }
        if result.partial {
            outcome = Outcome::Partial;
            why.insert(0, "it was stopped early".to_owned());
        }
        Self { outcome, why, result }
    }

    /// The outcome, and why it is none that was hoped for.
    fn outcome_words(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Carried => return "carried".to_owned(),
            Outcome::Exceeded | Outcome::NotJoined => "not carried",
            Outcome::NotValid => "not valid",
            Outcome::Partial => "not finished",
        };
        format!("{outcome}: {}", self.why.join("; "))
    }
}

impl Load {
    fn of(scenario: &Scenario, result: &RunResult) -> Self {
        let per_second = result.traffic.packets_out as f64 / result.elapsed_s;
        Self {
            calls: scenario.calls.calls,
            participants: scenario.calls.participants,
            packets_out_per_second: if per_second.is_finite() { per_second } else { 0.0 },
            cores: result.server.cores,
            us_per_packet_out: result.server.us_per_packet_out,
            p99_us: result.latency_us.p99,
            loss_share: result.loss.share,
        }
    }
}

#[cfg(test)]
mod tests;
