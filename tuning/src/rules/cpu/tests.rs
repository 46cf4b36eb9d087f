use super::*;
use crate::cpu_set::CpuSet;
use crate::facts::{Cpu, IdleState};
use crate::load::Load;

/// `count` CPUs, two to a core: 0 and 1, 2 and 3.
fn facts(count: u32) -> Facts {
    let cpu = |id: u32| Cpu {
        id,
        siblings: [id & !1, id | 1].into_iter().collect(),
        node: Some(0),
        ..Cpu::default()
    };
    Facts { cpus: (0..count).map(cpu).collect(), smt: Some(true), ..Facts::default() }
}

fn look(facts: &Facts, goal: &Goal) -> Vec<Finding> {
    findings(facts, goal, &Demand::of(goal, facts))
}

fn of<'a>(findings: &'a [Finding], key: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.setting.key == key).unwrap()
}

fn given(load: &str) -> Goal {
    Goal { load: Load::parse(load).unwrap(), load_is_given: true, ..Goal::default() }
}

#[test]
fn cpus_are_held_against_the_shards() {
    let mut facts = facts(8);
    let verdict = |facts: &Facts, goal: &Goal| of(&look(facts, goal), "cpu.count").verdict;
    assert_eq!(verdict(&facts, &given("1x1000 screen")), Verdict::Good);
    assert_eq!(verdict(&facts, &given("20x1000 screen")), Verdict::Wrong);
    assert_eq!(verdict(&facts, &Goal { shards: Some(9), ..Goal::default() }), Verdict::Wrong);
    let few = Goal { shards: Some(1), ..given("1x1000 screen") };
    let findings = look(&facts, &few);
    let count = of(&findings, "cpu.count");
    assert_eq!(count.verdict, Verdict::Wrong);
    assert!(count.remedy.as_ref().unwrap().contains("engine.shards = 2"));
    // Of eight CPUs the process may use one.
    facts.process.cpus_allowed = CpuSet::from_list("2-5");
    facts.cgroup.cpus = CpuSet::from_list("5-7");
    assert_eq!(verdict(&facts, &given("1x1000 screen")), Verdict::Wrong);
    assert_eq!(verdict(&facts, &Goal::default()), Verdict::Better);
}

#[test]
fn the_chosen_cores_and_the_threads_are_told() {
    let findings = look(&facts(8), &given("1x1000 screen"));
    let topology = of(&findings, "cpu.topology");
    assert_eq!(topology.verdict, Verdict::Note);
    assert!(topology.found.as_ref().unwrap().starts_with("8 shards: CPU "));
    assert!(topology.formula.is_some());
    assert_eq!(of(&findings, "cpu.smt").found.as_deref(), Some("on: 8 CPUs are 4 cores"));
}

#[test]
fn governors_are_set_where_there_is_performance() {
    let mut facts = facts(3);
    let governors = vec!["performance".to_owned(), "powersave".to_owned()];
    for (cpu, governor) in facts.cpus.iter_mut().zip(["powersave", "performance", "powersave"]) {
        (cpu.governor, cpu.governors) = (Some(governor.to_owned()), governors.clone());
    }
    let findings = look(&facts, &Goal::default());
    let governor = of(&findings, "cpu.governor");
    assert_eq!(governor.verdict, Verdict::Better);
    assert_eq!(governor.found.as_deref(), Some("performance on 1 CPU, powersave on 2 CPUs"));
    let commands: Vec<_> = governor.changes.iter().map(crate::change::Change::command).collect();
    let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    assert_eq!(commands, [0, 2].map(|cpu| format!("echo performance > {}", path(cpu))));

    facts.cpus.iter_mut().for_each(|cpu| cpu.governors = vec!["powersave".to_owned()]);
    let findings = look(&facts, &Goal::default());
    assert_eq!(of(&findings, "cpu.governor").changes.len(), 0);
    assert_eq!(of(&findings, "cpu.governor").verdict, Verdict::Note);
}

#[test]
fn deep_sleep_is_the_operators_to_end() {
    let state = |name: &str, exit_latency_us| IdleState {
        name: name.to_owned(),
        exit_latency_us,
        disabled: false,
    };
    let mut facts = facts(2);
    facts.idle_states = vec![state("POLL", 0), state("C1", 2), state("C6", 133)];
    let findings = look(&facts, &Goal::default());
    let idle = of(&findings, "cpu.idle");
    assert_eq!((idle.verdict, idle.changes.len()), (Verdict::Better, 0));
    assert!(idle.remedy.as_ref().unwrap().ends_with("cpupower idle-set -D 100"));
    facts.idle_states[2].disabled = true;
    assert_eq!(of(&look(&facts, &Goal::default()), "cpu.idle").verdict, Verdict::Good);
}
