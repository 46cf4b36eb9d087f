//! Runs of the same load against the same server on the same machine, and the middle and spread of their figures.

use crate::result::{Machine, RunResult};
use crate::scenario::Scenario;
use crate::spread::Spread;

/// Repeated runs. Figures come from `valid` alone.
pub struct Group<'a> {
    /// Tells this group from the others of its scenario.
    pub label: String,
    /// Label and target, alike in all scenarios.
    pub server: String,
    pub scenario: Option<&'a Scenario>,
    pub valid: Vec<&'a RunResult>,
    /// Runs of the group, valid or not.
    pub runs: usize,
    /// Valid runs that were stopped early.
    pub partial: usize,
    /// Valid runs in whose figures other programs had a part.
    pub disturbed: usize,
}

/// All groups whose scenario has one name, in the order they came.
pub struct Section<'a> {
    pub name: &'a str,
    pub groups: Vec<Group<'a>>,
}

impl Group<'_> {
    /// The label, and what is to be known before any of its figures is read.
    pub fn heading(&self) -> String {
        let runs = |count: usize| if count == 1 { "run" } else { "runs" };
        let mut text = match self.runs - self.valid.len() {
            0 => format!("{} ({} {}", self.label, self.runs, runs(self.runs)),
            _ => format!("{} ({} of {} runs valid", self.label, self.valid.len(), self.runs),
        };
        for (count, what) in [(self.partial, "partial"), (self.disturbed, "disturbed")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text + ")"
    }

    /// Whether its figures, if there are any, must not be read without knowing what was wrong.
    pub fn is_grave(&self) -> bool {
        self.valid.is_empty() || self.partial + self.disturbed > 0
    }

    /// The spread of a figure over the valid runs, and how many of them do not have it.
    pub fn spread(&self, value: impl Fn(&RunResult) -> Option<f64>) -> (Option<Spread>, usize) {
        let values: Vec<f64> = self.valid.iter().filter_map(|run| value(run)).collect();
        let missing = self.valid.len() - values.len();
        (Spread::of(values), missing)
    }

    /// A cell of a table: the median, with the least and the most when they differ as written; `–` without values.
    pub fn cell(&self, decimals: usize, value: impl Fn(&RunResult) -> Option<f64>) -> String {
        let (spread, missing) = self.spread(value);
        let Some(spread) = spread else { return "–".to_owned() };
        let [median, least, most] =
            [spread.median, spread.least, spread.most].map(|value| format!("{value:.decimals$}"));
        let mut text = median;
        if least != most {
            text += &format!(" ({least} to {most})");
        }
        if missing > 0 {
            text += &format!(", {missing} without");
        }
        text
    }
}

/// Puts runs together: by scenario, label and target, and never two loads, versions or machines in one group.
pub fn sections<'a>(runs: &'a [RunResult]) -> Vec<Section<'a>> {
    let mut sections: Vec<(&str, Vec<Vec<&RunResult>>)> = Vec::new();
    for run in runs {
        let name = scenario_name(run);
        let at = sections.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
            sections.push((name, Vec::new()));
            sections.len() - 1
        });
        let groups = &mut sections[at].1;
        match groups.iter_mut().find(|group| belongs(group[0], run)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    let machines = machines(runs);
    sections
        .into_iter()
        .map(|(name, groups)| {
            let firsts: Vec<&RunResult> = groups.iter().map(|group| group[0]).collect();
            let group = |runs: &Vec<&'a RunResult>| of(runs, &firsts, &machines);
            Section { name, groups: groups.iter().map(group).collect() }
        })
        .collect()
}

/// The machines of the runs, each once, in the order they came.
pub fn machines(runs: &[RunResult]) -> Vec<&Machine> {
    let mut machines: Vec<&Machine> = Vec::new();
    for run in runs {
        if !machines.iter().any(|machine| is_same(machine, &run.machine)) {
            machines.push(&run.machine);
        }
    }
    machines
}

/// What a run's scenario is called.
pub fn scenario_name(run: &RunResult) -> &str {
    run.scenario.as_ref().map_or("without a scenario", |scenario| &scenario.name)
}

/// What a run's server is called.
pub fn run_label(run: &RunResult) -> String {
    match (run.label.is_empty(), run.target.is_empty()) {
        (false, false) => format!("{} ({})", run.label, run.target),
        (false, true) => run.label.clone(),
        (true, false) => run.target.clone(),
        (true, true) => "without a label".to_owned(),
    }
}

fn belongs(one: &RunResult, other: &RunResult) -> bool {
    (&one.label, &one.target, &one.server_version)
        == (&other.label, &other.target, &other.server_version)
        && one.scenario == other.scenario
        && is_same(&one.machine, &other.machine)
}

/// Whether two descriptions are of one machine in one state; its load differs from run to run.
pub fn is_same(one: &Machine, other: &Machine) -> bool {
    let without_load = |machine: &Machine| Machine {
        load_before: String::new(),
        load_after: String::new(),
        ..machine.clone()
    };
    without_load(one) == without_load(other)
}

fn of<'a>(runs: &[&'a RunResult], firsts: &[&RunResult], machines: &[&Machine]) -> Group<'a> {
    let first = runs[0];
    let mut label = run_label(first);
    // Of groups that are called the same, each says what it differs in.
    let alike: Vec<_> = firsts.iter().filter(|other| run_label(other) == label).collect();
    let size = |run: &RunResult| run.scenario.as_ref().map(|scenario| scenario.calls);
    if let Some(calls) = size(first).filter(|_| alike.iter().any(|o| size(o) != size(first))) {
        label += &format!(", {} people in calls of {}", calls.people(), calls.participants);
    }
    if alike.iter().any(|other| other.server_version != first.server_version) {
        label += &format!(", {}", first.server_version);
    }
    if alike.iter().any(|other| !is_same(&other.machine, &first.machine)) {
        let at = machines.iter().position(|machine| is_same(machine, &first.machine)).unwrap_or(0);
        label += &format!(", machine {}", at + 1);
    }
    let valid: Vec<&RunResult> = runs.iter().copied().filter(|run| run.valid).collect();
    Group {
        label,
        server: run_label(first),
        scenario: first.scenario.as_ref(),
        runs: runs.len(),
        partial: valid.iter().filter(|run| run.partial).count(),
        disturbed: valid.iter().filter(|run| run.disturbed).count(),
        valid,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn repeated_runs_share_a_group_and_an_invalid_one_lends_no_figure() {
        let [mut one, mut two, three] = [(); 3].map(|()| sample::run("smoke", "a"));
        one.server.cores = 1.0;
        two.valid = false;
        two.server.cores = 100.0;
        let runs = [one, two, three, sample::run("smoke", "b"), sample::run("lossy", "a")];
        let sections = sections(&runs);
        assert_eq!(sections.iter().map(|at| at.name).collect::<Vec<_>>(), ["smoke", "lossy"]);
        let groups = &sections[0].groups;
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].heading(), "a (sluice) (2 of 3 runs valid)");
        assert_eq!(groups[1].heading(), "b (sluice) (1 run)");
        let most = groups[0].spread(|run| Some(run.server.cores)).0.unwrap().most;
        assert_eq!(most, 1.0);
    }

    #[test]
    fn cells_say_the_spread_and_what_is_missing() {
        let mut runs = [(); 3].map(|()| sample::run("smoke", "a"));
        for (run, cores) in runs.iter_mut().zip([0.2, 0.4, 0.1]) {
            run.server.cores = cores;
        }
        let sections = sections(&runs);
        let group = &sections[0].groups[0];
        let cores = |run: &RunResult| Some(run.server.cores);
        assert_eq!(group.cell(2, cores), "0.20 (0.10 to 0.40)");
        assert_eq!(group.cell(0, cores), "0");
        assert_eq!(
            group.cell(1, |run| cores(run).filter(|at| *at > 0.1)),
            "0.3 (0.2 to 0.4), 1 without"
        );
        assert_eq!(group.cell(1, |_| None), "–");
    }

    #[test]
    fn other_loads_versions_and_machines_are_not_put_together() {
        let mut runs = [(); 4].map(|()| sample::run("smoke", "a"));
        runs[1].scenario.as_mut().unwrap().calls.calls += 1;
        runs[2].server_version = "other".to_owned();
        runs[3].machine.kernel = "other".to_owned();
        let sections = sections(&runs);
        let labels: Vec<_> = sections[0].groups.iter().map(|group| group.label.as_str()).collect();
        assert_eq!(labels.len(), 4);
        assert!(labels[1].contains("people in calls of"), "{labels:?}");
        assert!(labels[2].contains(", other"), "{labels:?}");
        assert!(labels[3].ends_with(", machine 2"), "{labels:?}");
    }

    #[test]
    fn another_load_average_does_not_make_another_machine() {
        let mut runs = [(); 2].map(|()| sample::run("smoke", "a"));
        runs[1].machine.load_after = "3 2 1".to_owned();
        assert_eq!(machines(&runs).len(), 1);
        assert_eq!(sections(&runs)[0].groups.len(), 1);
    }
}
