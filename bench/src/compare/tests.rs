//! Comparisons of sample results.

use std::cell::Cell;

use super::ratios::Finding;
use super::*;
use crate::result::{Distribution, Loss, ServerUse};
use crate::scenario::Scenario;
use crate::spread::Spread;

/// A sample of a valid run.
fn sample(cores: f64) -> RunResult {
    RunResult {
        valid: true,
        complete: true,
        scenario: Some(Scenario::find("smoke").unwrap()),
        server: ServerUse {
            cores,
            us_per_packet_out: Some(cores * 10.0),
            resident_joined_bytes: 50 << 20,
            ..ServerUse::default()
        },
        latency_us: Distribution { count: 9, p50: 500.0, p99: 900.0, ..Distribution::default() },
        ..RunResult::default()
    }
}

/// Compares sample runs; what each run gives is a function of its side and round.
fn compared(
    rounds: u32,
    mut run: impl FnMut(Side, u32) -> Result<RunResult, String>,
) -> Result<Comparison, String> {
    alternate(rounds, &mut run, &mut |_| {}, &|| false)
}

#[test]
fn the_order_changes_from_round_to_round() {
    let mut order = Vec::new();
    let comparison = compared(3, |side, round| {
        order.push((side.name(), round));
        Ok(sample(0.1))
    });
    assert_eq!(order, [("A", 1), ("B", 1), ("B", 2), ("A", 2), ("A", 3), ("B", 3)]);
    let comparison = comparison.unwrap();
    let first: Vec<Side> = comparison.rounds.iter().map(|round| round.first).collect();
    assert_eq!(first, [Side::A, Side::B, Side::A]);
    assert!(!comparison.partial);
}

#[test]
fn a_ratio_is_a_by_b_of_the_same_round_and_survives_a_drift_of_the_machine() {
    // A needs half of what B needs, and the machine becomes slower by half from round to round.
    let comparison = compared(3, |side, round| {
        let slower = 1.5_f64.powi(round as i32);
        Ok(sample(if side == Side::A { 0.1 * slower } else { 0.2 * slower }))
    });
    let differences = comparison.unwrap().differences;
    for spread in [differences.us_per_packet_out, differences.cores] {
        let Spread { count, median, least, most } = spread.unwrap();
        assert_eq!(count, 3);
        assert!((least - 0.5).abs() < 1e-9 && (most - 0.5).abs() < 1e-9, "{least} {most}");
        assert!((median - 0.5).abs() < 1e-9);
    }
    assert_eq!(differences.latency_p99.unwrap().median, 1.0);
    assert_eq!(differences.resident_joined.unwrap().median, 1.0);
    assert_eq!(differences.loss_share_difference.unwrap().most, 0.0);
}

#[test]
fn invalid_partial_and_unlike_runs_are_kept_named_and_not_used() {
    let comparison = compared(4, |side, round| {
        let mut run = sample(0.1);
        match (side, round) {
            (Side::A, 1) => {
                run.valid = false;
                run.problems.push("the generator was the bottleneck".to_owned());
            }
            (Side::B, 2) => run.partial = true,
            (Side::B, 3) => run.scenario = Some(Scenario::find("idle").unwrap()),
            _ => (),
        }
        Ok(run)
    });
    let comparison = comparison.unwrap();
    assert_eq!(comparison.differences.rounds, 1);
    let used: Vec<bool> = comparison.rounds.iter().map(|round| round.a_by_b.is_some()).collect();
    assert_eq!(used, [false, false, false, true]);
    assert!(comparison.rounds.iter().all(|round| round.a.is_some() && round.b.is_some()));
    let text = markdown(&comparison);
    for note in [
        "- round 1 is not used: the run of A is not valid: the generator was the bottleneck\n",
        "- round 2 is not used: B was stopped early\n",
        "- round 3 is not used: A and B had different loads\n",
        "1 of 4 can be used\n",
        "one pair has no spread",
    ] {
        assert!(text.contains(note), "{note}: {text}");
    }
}

#[test]
fn what_a_side_has_no_figure_for_has_no_ratio() {
    let comparison = compared(1, |side, _| {
        let mut run = sample(0.1);
        if side == Side::B {
            run.server = ServerUse::default();
            run.latency_us = Distribution::default();
        }
        Ok(run)
    });
    let ratios = comparison.unwrap().rounds[0].a_by_b.unwrap();
    assert_eq!(ratios, Ratios { loss_share_difference: 0.0, ..Ratios::default() });
}

#[test]
fn a_stop_ends_after_the_run_under_way_and_leaves_what_there_is() {
    let runs = Cell::new(0);
    let mut run = |_, _| {
        runs.set(runs.get() + 1);
        Ok(sample(0.1))
    };
    let comparison = alternate(5, &mut run, &mut |_| {}, &|| runs.get() == 3).unwrap();
    assert_eq!(runs.get(), 3);
    assert!(comparison.partial);
    assert_eq!((comparison.rounds.len(), comparison.differences.rounds), (2, 1));
    assert_eq!(comparison.rounds[1].unused, ["there is no run of A"]);
    let text = markdown(&comparison);
    assert!(text.contains("**partial**") && text.contains("- it was stopped early\n"), "{text}");
}

#[test]
fn a_failed_run_ends_it_and_the_first_one_is_an_error() {
    let first = compared(3, |_, _| Err("no answer".to_owned())).unwrap_err();
    assert_eq!(first, "round 1 of 3, A: no answer");
    let later = compared(3, |_, round| match round {
        1 => Ok(sample(0.1)),
        _ => Err("no answer".to_owned()),
    });
    let later = later.unwrap();
    assert!(later.partial);
    assert_eq!((later.differences.rounds, later.rounds.len()), (1, 1));
    assert_eq!(later.problems, ["round 2 of 3, B: no answer"]);
}

#[test]
fn rounds_are_bounded() {
    for rounds in [0, ROUNDS_MAX + 1] {
        let refusal = compared(rounds, |_, _| unreachable!("nothing may run")).unwrap_err();
        assert!(refusal.contains("allowed is 1 to 100"), "{refusal}");
    }
}

#[test]
fn only_a_spread_on_one_side_of_one_is_a_difference() {
    let finding = |values: &[f64]| Finding::of(&Spread::of(values.iter().copied()).unwrap());
    assert_eq!(finding(&[0.5, 0.9, 0.7]), Finding::Below);
    assert_eq!(finding(&[1.01, 1.3]), Finding::Above);
    assert_eq!(finding(&[0.9, 1.1, 0.9]), Finding::Undecided);
    assert_eq!(finding(&[0.9, 1.0]), Finding::Undecided);
    assert_eq!(finding(&[0.5]), Finding::Undecided);
    let even = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
    assert_eq!((even.median, even.least, even.most), (2.5, 1.0, 4.0));
    assert_eq!(Spread::of([]), None);
}

#[test]
fn the_table_shows_each_pair_then_the_median_then_words() {
    let mut heard = Vec::new();
    let mut run = |side, round| {
        let mut run = sample(if side == Side::A { 0.1 } else { 0.2 + f64::from(round) * 0.05 });
        run.label = if side == Side::A { "uring" } else { "original" }.to_owned();
        run.target = "rtcd".to_owned();
        run.server_version = "v1".to_owned();
        if side == Side::B {
            run.latency_us.p99 = 850.0 + f64::from(round) * 50.0;
        }
        Ok(run)
    };
    let mut progress = |line: &str| heard.push(line.to_owned());
    let comparison = alternate(2, &mut run, &mut progress, &|| false).unwrap();
    assert_eq!(heard.len(), 8);
    assert_eq!(heard[0], "round 1 of 2, A");
    assert_eq!(
        heard[1],
        "round 1 of 2, A: 1.00 µs per packet out, 0.100 cores, p99 900 µs, lost 0.0000 %"
    );
    let text = markdown(&comparison);
    for part in [
        "A: uring by the API rtcd (v1)  \nB: original by the API rtcd (v1)  \nScenario: smoke, 2 x 3 people, ",
        "Rounds: 2 of 2 can be used\n\n",
        "\n| 1 (A, B) | 1.00 / 2.50 = 0.400 | 0.100 / 0.250 = 0.400 | 500 / 500 = 1.000 | \
        900 / 900 = 1.000 | 50.0 / 50.0 = 1.000 | 0.0000 / 0.0000 |",
        "\n| 2 (B, A) | 1.00 / 3.00 = 0.333 |",
        "\n| **A by B, median (least to most)** | **0.367 (0.333 to 0.400)** |",
        "| A less B: +0.0000 (+0.0000 to +0.0000) |\n",
        "- CPU time per packet out: A's was smaller in all 2 pairs, 0.367 (0.333 to 0.400) times B's; \
        the spread excludes 1. Two equal servers would look like this once in 2 comparisons.\n",
        "- latency p99: A's was 0.974 (0.947 to 1.000) times B's; the spread includes 1, ",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
}

#[test]
fn it_comes_back_from_json_as_it_was() {
    let comparison = compared(2, |_, _| Ok(sample(0.1))).unwrap();
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
}

#[test]
fn a_loss_difference_keeps_its_sign() {
    let comparison = compared(2, |side, _| {
        let share = if side == Side::B { 0.01 } else { 0.0 };
        Ok(RunResult { loss: Loss { share, ..Loss::default() }, ..sample(0.1) })
    });
    let text = markdown(&comparison.unwrap());
    assert!(text.contains("A less B: -1.0000 (-1.0000 to -1.0000)"), "{text}");
}
