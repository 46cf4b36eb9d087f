//! Two servers in turns: the same load on A and on B, again and again, and the ratio of each pair.
//!
//! Pairs are what is compared, for the machine of this minute is not that of the next. Who goes first changes from round to
//! round, so that a drift meets both. [`markdown()`] writes it down.

mod markdown;
mod ratios;

use serde::{Deserialize, Serialize};

use crate::result::RunResult;
use crate::stop;

pub use markdown::markdown;
pub use ratios::{Differences, Ratios};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// Rounds that one comparison may have.
pub const ROUNDS_MAX: u32 = 100;

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    A,
    B,
}

/// All rounds, and what they say together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub format: u32,
    /// Rounds that were asked for.
    pub rounds_asked: u32,
    /// It ended before all of them.
    pub partial: bool,
    /// Those that began, in their order.
    pub rounds: Vec<Round>,
    /// Of the rounds that can be used: median, least and most.
    pub differences: Differences,
    /// What ended it early, for people.
    pub problems: Vec<String>,
}

/// A run of each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// Who went first.
    pub first: Side,
    pub a: Option<RunResult>,
    pub b: Option<RunResult>,
    /// A's figures by B's; absent when the pair cannot be used.
    pub a_by_b: Option<Ratios>,
    /// Why it cannot be used, for people.
    pub unused: Vec<String>,
}

/// Runs A and B in turns, A B, B A, A B, …, and compares the runs of each round.
///
/// `run` makes one run of a side in a round (from 1) and may take minutes; `progress` hears a line before and after each.
/// Ctrl-C ends it after the run that is under way, and so does a run that fails once there are others: the comparison is then
/// partial.
/// # Errors
/// No rounds or too many, or the very first run failed; for people.
pub fn compare(
    rounds: u32,
    run: &mut dyn FnMut(Side, u32) -> Result<RunResult, String>,
    progress: &mut dyn FnMut(&str),
) -> Result<Comparison, String> {
    alternate(rounds, run, progress, &stop::is_stopped)
}

fn alternate(
    rounds: u32,
    run: &mut dyn FnMut(Side, u32) -> Result<RunResult, String>,
    progress: &mut dyn FnMut(&str),
    is_stopped: &dyn Fn() -> bool,
) -> Result<Comparison, String> {
    if !(1..=ROUNDS_MAX).contains(&rounds) {
        return Err(format!("{rounds} rounds were asked for; allowed is 1 to {ROUNDS_MAX}"));
    }
    let mut comparison = Comparison::of(rounds);
    'rounds: for number in 1..=rounds {
        let order = if number % 2 == 1 { [Side::A, Side::B] } else { [Side::B, Side::A] };
        for side in order {
            if is_stopped() {
                comparison.problems.push("it was stopped early".to_owned());
                break 'rounds;
            }
            let place = format!("round {number} of {rounds}, {}", side.name());
            progress(&place);
            match run(side, number) {
                Ok(result) => {
                    progress(&format!("{place}: {}", brief(&result)));
                    comparison.keep(number, order[0], side, result);
                }
                Err(why) if comparison.rounds.is_empty() => return Err(format!("{place}: {why}")),
                Err(why) => {
                    comparison.problems.push(format!("{place}: {why}"));
                    break 'rounds;
                }
            }
        }
    }
    Ok(comparison.judge())
}

impl Side {
    /// `A` or `B`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

impl Comparison {
    fn of(rounds_asked: u32) -> Self {
        Self {
            format: FORMAT,
            rounds_asked,
            partial: false,
            rounds: Vec::new(),
            differences: Differences::default(),
            problems: Vec::new(),
        }
    }

    /// Puts a result into its round, which begins with its first one.
    fn keep(&mut self, number: u32, first: Side, side: Side, result: RunResult) {
        if self.rounds.last().is_none_or(|round| round.number != number) {
            let (a_by_b, unused) = (None, Vec::new());
            self.rounds.push(Round { number, first, a: None, b: None, a_by_b, unused });
        }
        if let Some(round) = self.rounds.last_mut() {
            match side {
                Side::A => round.a = Some(result),
                Side::B => round.b = Some(result),
            }
        }
    }

    /// Looks at what there is when no more comes.
    fn judge(mut self) -> Self {
        for round in &mut self.rounds {
            round.judge();
        }
        let is_whole = |round: &Round| round.a.is_some() && round.b.is_some();
        let whole = self.rounds.iter().filter(|round| is_whole(round)).count();
        self.partial = whole < self.rounds_asked as usize;
        self.differences = Differences::of(self.rounds.iter().filter_map(|round| round.a_by_b));
        self
    }
}

impl Round {
    fn judge(&mut self) {
        for (side, result) in [(Side::A, &self.a), (Side::B, &self.b)] {
            let name = side.name();
            match result {
                None => self.unused.push(format!("there is no run of {name}")),
                Some(run) if run.partial => self.unused.push(format!("{name} was stopped early")),
                Some(run) if !run.valid => {
                    let why = run.problems.join("; ");
                    self.unused.push(format!("the run of {name} is not valid: {why}"));
                }
                Some(_) => (),
            }
        }
        for (name, run) in [("A", &self.a), ("B", &self.b)] {
            if run.as_ref().is_some_and(|run| !run.complete) {
                self.unused.push(format!("not everybody took part in the run of {name}"));
            }
        }
        if let (Some(a), Some(b)) = (&self.a, &self.b) {
            if a.scenario != b.scenario {
                self.unused.push("A and B had different loads".to_owned());
            }
            if self.unused.is_empty() {
                self.a_by_b = Some(Ratios::of(a, b));
            }
        }
    }
}

/// A run in half a line.
fn brief(run: &RunResult) -> String {
    let micros = run.server.us_per_packet_out;
    let per_packet = micros.map(|us| format!("{us:.2} µs per packet out, ")).unwrap_or_default();
    let mut text = format!(
        "{per_packet}{:.3} cores, p99 {:.0} µs, lost {:.4} %",
        run.server.cores,
        run.latency_us.p99,
        run.loss.share * 100.0
    );
    for (is_so, word) in [
        (!run.valid, "not valid"),
        (run.partial, "stopped early"),
        (run.disturbed, "disturbed by other programs"),
    ] {
        if is_so {
            text += &format!(", {word}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
