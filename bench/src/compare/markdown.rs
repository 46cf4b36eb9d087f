//! A comparison for people: each pair in a line, their median and spread, and in words whether they differ.

use super::ratios::Finding;
use super::{Comparison, Round, Side};
use crate::result::RunResult;
use crate::spread::Spread;

/// What of a run is shown: its value of each side, and A's by B's.
struct Measure {
    /// The head of its column.
    title: &'static str,
    /// How it stands in a sentence.
    noun: &'static str,
    value: fn(&RunResult) -> Option<f64>,
    ratio: fn(&Round) -> Option<f64>,
    spread: fn(&Comparison) -> Option<Spread>,
    decimals: usize,
}

const MEASURES: [Measure; 5] = [
    Measure {
        title: "CPU, µs per packet out",
        noun: "CPU time per packet out",
        value: |run| run.server.us_per_packet_out,
        ratio: |round| round.a_by_b?.us_per_packet_out,
        spread: |comparison| comparison.differences.us_per_packet_out,
        decimals: 2,
    },
    Measure {
        title: "CPU, cores",
        noun: "CPU of the server",
        value: |run| Some(run.server.cores),
        ratio: |round| round.a_by_b?.cores,
        spread: |comparison| comparison.differences.cores,
        decimals: 3,
    },
    Measure {
        title: "latency p50, µs",
        noun: "median latency",
        value: |run| (run.latency_us.count > 0).then_some(run.latency_us.p50),
        ratio: |round| round.a_by_b?.latency_p50,
        spread: |comparison| comparison.differences.latency_p50,
        decimals: 0,
    },
    Measure {
        title: "latency p99, µs",
        noun: "latency p99",
        value: |run| (run.latency_us.count > 0).then_some(run.latency_us.p99),
        ratio: |round| round.a_by_b?.latency_p99,
        spread: |comparison| comparison.differences.latency_p99,
        decimals: 0,
    },
    Measure {
        title: "resident when joined, MiB",
        noun: "memory when all had joined",
        value: |run| Some(run.server.resident_joined_bytes as f64 / f64::from(1 << 20)),
        ratio: |round| round.a_by_b?.resident_joined,
        spread: |comparison| comparison.differences.resident_joined,
        decimals: 1,
    },
];

/// Writes a comparison as Markdown.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = head(comparison);
    text += "Each cell is A / B = A by B.\n\n| round |";
    for measure in &MEASURES {
        text += &format!(" {} |", measure.title);
    }
    text += " lost, % |\n|---|";
    text += &"---:|".repeat(MEASURES.len() + 1);
    for round in &comparison.rounds {
        text += &line(round);
    }
    text += "\n| **A by B, median (least to most)** |";
    for measure in &MEASURES {
        let spread = (measure.spread)(comparison);
        text += &format!(" {} |", spread.map_or("–".to_owned(), |s| format!("**{}**", shown(&s))));
    }
    let lost = comparison.differences.loss_share_difference.map_or("–".to_owned(), |lost| {
        let [median, least, most] =
            [lost.median, lost.least, lost.most].map(|share| format!("{:+.4}", share * 100.0));
        format!("A less B: {median} ({least} to {most})")
    });
    text += &format!(" {lost} |\n\n");
    for measure in &MEASURES {
        text += &format!("- {}\n", sentence(measure.noun, (measure.spread)(comparison)));
    }
    text + &notes(comparison)
}

/// Who was compared, doing what, and how often.
fn head(comparison: &Comparison) -> String {
    let runs_of = |side: Side| {
        comparison.rounds.iter().filter_map(move |round| match side {
            Side::A => round.a.as_ref(),
            Side::B => round.b.as_ref(),
        })
    };
    let mut text = String::new();
    for side in [Side::A, Side::B] {
        let who = runs_of(side).next().map_or("no run".to_owned(), |run| {
            format!("{} by the API {} ({})", run.label, run.target, run.server_version)
        });
        text += &format!("{}: {who}  \n", side.name());
    }
    if let Some(scenario) = runs_of(Side::A).find_map(|run| run.scenario.as_ref()) {
        let calls = scenario.calls;
        text += &format!(
            "Scenario: {}, {} x {} people, {:.0} packets/s out",
            scenario.name,
            calls.calls,
            calls.participants,
            scenario.packets_out_per_second()
        );
        if let Some(scaled) = scenario.scaled {
            text += &format!(
                ", shrunk by {:.4} from {} x {}",
                scaled.factor, scaled.calls, scaled.participants
            );
        }
        text += "  \n";
    }
    text += &format!(
        "Rounds: {} of {} can be used",
        comparison.differences.rounds, comparison.rounds_asked
    );
    text += if comparison.partial { "; **partial**\n\n" } else { "\n\n" };
    text
}

fn line(round: &Round) -> String {
    let order = if round.first == Side::A { "A, B" } else { "B, A" };
    let mut text = format!("\n| {} ({order}) |", round.number);
    let of = |run: &Option<RunResult>, value: fn(&RunResult) -> Option<f64>, decimals: usize| {
        let value = run.as_ref().and_then(value);
        value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"))
    };
    for Measure { value, ratio, decimals, .. } in &MEASURES {
        let (a, b) = (of(&round.a, *value, *decimals), of(&round.b, *value, *decimals));
        let ratio = match (ratio(round), round.a_by_b.is_some()) {
            (Some(ratio), _) => format!("{ratio:.3}"),
            (None, true) => "–".to_owned(),
            (None, false) => "not used".to_owned(),
        };
        text += &format!(" {a} / {b} = {ratio} |");
    }
    let share: fn(&RunResult) -> Option<f64> = |run| Some(run.loss.share * 100.0);
    text + &format!(" {} / {} |", of(&round.a, share, 4), of(&round.b, share, 4))
}

/// What was wrong with which run.
fn notes(comparison: &Comparison) -> String {
    let mut notes = Vec::new();
    for round in &comparison.rounds {
        for why in &round.unused {
            notes.push(format!("round {} is not used: {why}", round.number));
        }
        for (side, run) in [(Side::A, &round.a), (Side::B, &round.b)] {
            // What makes a run invalid is said above already.
            let problems = run.iter().filter(|run| run.valid).flat_map(|run| &run.problems);
            for problem in problems {
                notes.push(format!("round {}, {}: {problem}", round.number, side.name()));
            }
        }
    }
    notes.extend(comparison.problems.iter().cloned());
    if notes.is_empty() {
        return String::new();
    }
    notes.iter().fold("\n".to_owned(), |text, note| text + &format!("- {note}\n"))
}

/// Whether the spread leaves out 1, in plain words.
fn sentence(noun: &str, spread: Option<Spread>) -> String {
    let Some(spread) = spread else { return format!("{noun}: there is no pair to compare.") };
    let figures = shown(&spread);
    let which = match Finding::of(&spread) {
        Finding::Below => "smaller",
        Finding::Above => "larger",
        Finding::Undecided if spread.count == 1 => {
            return format!(
                "{noun}: A's was {figures} times B's in one pair, and one pair has no spread to judge by."
            );
        }
        Finding::Undecided => {
            return format!(
                "{noun}: A's was {figures} times B's; the spread includes 1, so these runs show no difference."
            );
        }
    };
    // All pairs pointing the same way is what two equal servers do once in 2^(pairs - 1) comparisons.
    let chance = 2_f64.powi(spread.count as i32 - 1);
    format!(
        "{noun}: A's was {which} in all {} pairs, {figures} times B's; the spread excludes 1. \
        Two equal servers would look like this once in {chance:.0} comparisons.",
        spread.count
    )
}

fn shown(spread: &Spread) -> String {
    format!("{:.3} ({:.3} to {:.3})", spread.median, spread.least, spread.most)
}
