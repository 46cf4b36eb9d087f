//! Searches against a model: a server that carries so many packets a second and loses what is more.

use std::cell::Cell;

use super::*;
use crate::result::{Distribution, Loss, ServerUse, Traffic};

/// What limits the model.
#[derive(Clone, Copy)]
struct Model {
    /// Packets a second that the server carries.
    server: f64,
    /// Packets a second that the generator makes.
    generator: f64,
    /// People who can join.
    people: u32,
}

const ENDLESS: Model = Model { server: f64::INFINITY, generator: f64::INFINITY, people: u32::MAX };

impl Model {
    fn run(self, scenario: &Scenario) -> RunResult {
        let packets = scenario.packets_out_per_second();
        let people = scenario.calls.people();
        let carried = packets.min(self.server);
        let lost = (packets - carried) / packets;
        let valid = packets <= self.generator;
        let why = "the generator was the bottleneck".to_owned();
        RunResult {
            valid,
            problems: if valid { Vec::new() } else { vec![why] },
            elapsed_s: 10.0,
            server: ServerUse {
                cores: carried * 4e-6,
                us_per_packet_out: Some(4.0),
                ..ServerUse::default()
            },
            traffic: Traffic { packets_out: (carried * 10.0) as u64, ..Traffic::default() },
            loss: Loss { share: lost, ..Loss::default() },
            latency_us: Distribution { count: 1, p99: 3_000.0, ..Distribution::default() },
            join_us: Distribution {
                count: u64::from(people.min(self.people)),
                ..Distribution::default()
            },
            ..RunResult::default()
        }
    }

    fn search(self, scenario: &Scenario) -> Capacity {
        searched(scenario, &mut |scenario| Ok(self.run(scenario))).unwrap()
    }
}

fn searched(
    scenario: &Scenario,
    run: &mut dyn FnMut(&Scenario) -> Result<RunResult, String>,
) -> Result<Capacity, String> {
    Search::new(scenario, Limits::default())?.go(run, &mut |_| {}, &|| false)
}

/// A call of `participants` in which one sends audio: each further participant is 50 packets a second more.
fn one_call(participants: u32) -> Scenario {
    let text =
        format!("name = \"one\"\n[calls]\ncalls = 1\nparticipants = {participants}\nunmuted = 1");
    Scenario::parse(&text).unwrap()
}

/// Calls of 5: each is 200 packets a second.
fn calls(calls: u32) -> Scenario {
    let text = format!("name = \"more\"\n[calls]\ncalls = {calls}\nparticipants = 5\nunmuted = 1");
    Scenario::parse(&text).unwrap()
}

fn runs(capacity: &Capacity) -> usize {
    capacity.steps.iter().map(|step| step.runs.len()).sum()
}

#[test]
fn the_knee_is_found_within_five_per_cent_from_below_and_from_above() {
    for knee in [3, 7, 20, 100, 333, 1_000] {
        for start in [knee / 4 + 1, knee, knee + 1, knee * 3] {
            let model = Model { server: f64::from(knee) * 200.0, ..ENDLESS };
            let capacity = model.search(&calls(start.max(2)));
            let case = format!("{knee} from {start}");
            assert_eq!((capacity.ending, capacity.partial), (Ending::Found, false), "{case}");
            let largest = capacity.largest.unwrap();
            assert!(largest.calls <= knee && largest.participants == 5, "{case}");
            let refused = capacity.refused.unwrap().calls;
            let is_near = refused == largest.calls + 1
                || f64::from(refused) <= f64::from(largest.calls) * 1.05;
            assert!(refused > knee && is_near, "{case}: {} to {refused}", largest.calls);
            assert!(runs(&capacity) <= RUNS_MAX);
            assert!(
                (largest.packets_out_per_second - f64::from(largest.calls) * 200.0).abs() < 1.0
            );
            assert!((largest.cores - largest.packets_out_per_second * 4e-6).abs() < 1e-6);
        }
    }
}

#[test]
fn a_single_call_grows_by_participants_and_several_by_calls() {
    let model = Model { server: 10_000.0, ..ENDLESS };
    let capacity = model.search(&one_call(100));
    assert_eq!(capacity.stepped_by, SteppedBy::Participants);
    let people: Vec<u32> = capacity.steps.iter().map(|step| step.participants).collect();
    assert_eq!(people, [100, 150, 225, 187, 206, 196, 201]);
    assert!(capacity.steps.iter().all(|step| step.calls == 1));
    assert_eq!((capacity.largest.unwrap().participants, capacity.ending), (201, Ending::Found));
}

#[test]
fn latency_and_ended_sessions_count_as_loss_does() {
    for spoil in [
        |run: &mut RunResult| run.latency_us.p99 = 20_001.0,
        |run: &mut RunResult| run.loss.share = 1.1e-4,
        |run: &mut RunResult| run.loss.sessions_closed = 1,
        |run: &mut RunResult| run.latency_us.count = 0,
    ] {
        let capacity = searched(&one_call(20), &mut |scenario| {
            let mut run = ENDLESS.run(scenario);
            if scenario.calls.participants > 30 {
                spoil(&mut run);
            }
            Ok(run)
        });
        let capacity = capacity.unwrap();
        assert_eq!(capacity.largest.unwrap().participants, 30);
        assert_eq!(capacity.refused.unwrap().participants, 31);
    }
    let just = searched(&one_call(20), &mut |scenario| {
        let mut run = ENDLESS.run(scenario);
        run.latency_us.p99 = 20_000.0;
        run.loss.share = 1e-4;
        Ok(run)
    });
    assert!(just.unwrap().largest.is_some());
}

#[test]
fn a_hiccup_is_repeated_once_and_does_not_decide() {
    let count = Cell::new(0);
    let capacity = searched(&one_call(20), &mut |scenario| {
        count.set(count.get() + 1);
        let mut run = Model { server: 1_500.0, ..ENDLESS }.run(scenario);
        match count.get() {
            1 => run.loss.share = 0.5,
            3 => run.valid = false,
            _ => (),
        }
        Ok(run)
    });
    let capacity = capacity.unwrap();
    let sizes: Vec<(u32, Outcome, usize)> = capacity.steps[..2]
        .iter()
        .map(|step| (step.participants, step.outcome, step.runs.len()))
        .collect();
    assert_eq!(sizes, [(20, Outcome::Carried, 2), (30, Outcome::Carried, 2)]);
    assert_eq!(capacity.largest.unwrap().participants, 31);
}

#[test]
fn a_generator_at_its_limit_ends_the_search_and_is_not_called_the_server() {
    let model = Model { generator: 5_000.0, ..ENDLESS };
    let capacity = model.search(&one_call(50));
    assert_eq!((capacity.ending, capacity.refused), (Ending::Generator, None));
    assert_eq!(capacity.largest.unwrap().participants, 75);
    let last = capacity.steps.last().unwrap();
    assert_eq!((last.outcome, last.runs.len()), (Outcome::NotValid, 2));
    let text = markdown(&capacity);
    let words = "**the generator is the limit here: at least 1 x 75 people (3700 packets/s out at 0.015 cores) are carried**";
    assert!(text.contains(words), "{text}");
    let nothing = Model { generator: 1.0, ..ENDLESS }.search(&one_call(50));
    assert!(
        markdown(&nothing).contains("**the generator is the limit here: nothing was carried**")
    );
}

#[test]
fn joins_that_fail_end_the_search() {
    let capacity = Model { people: 60, ..ENDLESS }.search(&one_call(50));
    assert_eq!((capacity.ending, capacity.partial), (Ending::Joining, false));
    assert_eq!(capacity.largest.unwrap().participants, 50);
    assert_eq!(capacity.refused.unwrap().participants, 75);
    assert_eq!(capacity.steps[1].runs[0].why, ["60 of 75 joined"]);
    assert!(markdown(&capacity).contains("joining is the limit here: at least 1 x 50 people"));
}

#[test]
fn a_step_that_all_joined_once_does_not_end_the_search_by_joining() {
    let runs = Cell::new(0);
    let capacity = searched(&one_call(50), &mut |scenario| {
        let first = scenario.calls.participants != 75 || runs.replace(runs.get() + 1) == 0;
        let people = if first { u32::MAX } else { 60 };
        // Above 60 people the first run is too slow, the repeat lets not everybody in.
        let mut result = Model { people, ..ENDLESS }.run(scenario);
        if scenario.calls.participants > 60 {
            result.latency_us.p99 = 50_000.0;
        }
        Ok(result)
    });
    let capacity = capacity.unwrap();
    assert_eq!(capacity.steps[1].outcome, Outcome::NotJoined);
    assert_ne!(capacity.ending, Ending::Joining);
    let largest = capacity.largest.unwrap().participants;
    assert!((57..=60).contains(&largest), "{largest}");
}

#[test]
fn it_ends_at_the_bounds_of_scenarios_and_at_the_smallest() {
    let large = ENDLESS.search(&calls(3_000));
    assert_eq!((large.ending, large.largest.unwrap().calls), (Ending::Bounds, 4_000));
    let none = Model { server: 1.0, ..ENDLESS }.search(&one_call(30));
    assert_eq!((none.ending, none.largest), (Ending::Nothing, None));
    assert_eq!(none.refused.unwrap().participants, 2);
}

#[test]
fn there_are_never_more_runs_than_sixteen() {
    let far = Model { server: 2_000_000.0, ..ENDLESS }.search(&one_call(2));
    assert!(runs(&far) <= RUNS_MAX);
    // Each size fails once and then holds, so that each takes two runs.
    let count = Cell::new(0);
    let slow = searched(&one_call(2), &mut |scenario| {
        count.set(count.get() + 1);
        let mut run = ENDLESS.run(scenario);
        run.loss.share = f64::from(count.get() % 2);
        Ok(run)
    });
    let slow = slow.unwrap();
    assert_eq!((slow.ending, runs(&slow), slow.steps.len()), (Ending::Runs, RUNS_MAX, 8));
    assert!(markdown(&slow).contains("all 16 runs were made: at least"));
}

#[test]
fn a_stop_leaves_what_is_known() {
    let count = Cell::new(0);
    let mut run = |scenario: &Scenario| {
        count.set(count.get() + 1);
        Ok(ENDLESS.run(scenario))
    };
    let search = Search::new(&one_call(20), Limits::default()).unwrap();
    let capacity = search.go(&mut run, &mut |_| {}, &|| count.get() == 2).unwrap();
    assert_eq!(count.get(), 2);
    assert_eq!((capacity.ending, capacity.partial), (Ending::Stopped, true));
    assert_eq!(capacity.largest.unwrap().participants, 30);
    assert!(markdown(&capacity).contains("**Partial**"));
    let cut = searched(&one_call(20), &mut |s| Ok(RunResult { partial: true, ..ENDLESS.run(s) }));
    let cut = cut.unwrap();
    assert_eq!((cut.ending, cut.largest, cut.refused), (Ending::Stopped, None, None));
}

#[test]
fn a_run_that_cannot_be_made_ends_it_and_the_first_one_is_an_error() {
    let first = searched(&one_call(20), &mut |_| Err("no answer".to_owned())).unwrap_err();
    assert_eq!(first, "run 1: 1 x 20 people: no answer");
    let later = searched(&one_call(20), &mut |scenario| match scenario.calls.participants {
        20 => Ok(ENDLESS.run(scenario)),
        _ => Err("no answer".to_owned()),
    });
    let later = later.unwrap();
    assert_eq!((later.ending, later.partial), (Ending::Failed, true));
    assert_eq!(later.largest.unwrap().participants, 20);
    assert!(markdown(&later).contains("\n- run 2: 1 x 30 people: no answer\n"));
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let refusal = |scenario: &Scenario, limits: Limits| {
        let mut run = |_: &Scenario| unreachable!("nothing may run");
        search(scenario, limits, &mut run, &mut |_| {}).unwrap_err()
    };
    let named = |name: &str| Scenario::find(name).unwrap();
    assert!(refusal(&named("idle"), Limits::default()).contains("no load"));
    assert!(refusal(&named("lossy"), Limits::default()).contains("impair"));
    let smoke = named("smoke");
    let limits = Limits { loss_max: f64::NAN, ..Limits::default() };
    assert!(refusal(&smoke, limits).contains("allowed loss"));
    let limits = Limits { p99_max_us: f64::NAN, ..Limits::default() };
    assert!(refusal(&smoke, limits).contains("allowed latency"));
}

#[test]
fn every_step_keeps_to_the_bounds_of_scenarios_and_none_claims_published_figures() {
    let row = Scenario::find("c7i-4xlarge-250x10-2u-screen").unwrap();
    let mut ramps = Vec::new();
    let capacity = searched(&row, &mut |scenario| {
        scenario.check().unwrap();
        assert_eq!((&scenario.published, scenario.scaled), (&None, None));
        ramps.push((scenario.calls.calls, scenario.join.ramp_s));
        Ok(ENDLESS.run(scenario))
    });
    assert_eq!(capacity.unwrap().ending, Ending::Bounds);
    assert_eq!(ramps[..2], [(250, 30.0), (375, 45.0)]);
    assert_eq!(ramps.last().unwrap().0, 1_984);
}

#[test]
fn the_table_has_a_line_for_each_run() {
    let capacity = Model { server: 1_000.0, ..ENDLESS }.search(&one_call(20));
    let text = markdown(&capacity);
    for part in [
        "Scenario: one, stepped by participants  \n",
        "loss up to 0.01 %, latency p99 up to 20 ms;",
        "**the capacity is 1 x 21 people (1000 packets/s out at 0.004 cores); 1 x 22 people were not**",
        "\n| 1 x 20 | 950 | 0.004 | 4.00 | 3.00 | 0.0000 | carried |\n",
        "\n| 1 x 30 | 1000 | 0.004 | 4.00 | 3.00 | 31.0345 | not carried: lost 31.0345 % |\n",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    assert_eq!(text.matches("\n| 1 x ").count(), runs(&capacity));
}

#[test]
fn it_comes_back_from_json_as_it_was() {
    let capacity = Model { server: 1_000.0, ..ENDLESS }.search(&one_call(20));
    let text = serde_json::to_string(&capacity).unwrap();
    assert_eq!(serde_json::from_str::<Capacity>(&text).unwrap(), capacity);
}
