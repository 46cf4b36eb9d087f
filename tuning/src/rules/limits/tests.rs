use super::*;
use crate::facts::{Cgroup, Process};
use crate::load::Load;

fn look(facts: &Facts, goal: &Goal) -> Vec<Finding> {
    findings(facts, goal, &Demand::of(goal, facts))
}

fn of<'a>(findings: &'a [Finding], key: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.setting.key == key).unwrap()
}

fn server(process: Process) -> Facts {
    Facts { process: Process { pid: 7, ..process }, ..Facts::default() }
}

fn given(load: &str) -> Goal {
    Goal { load: Load::parse(load).unwrap(), load_is_given: true, ..Goal::default() }
}

#[test]
fn limits_of_a_server_that_are_too_low_are_raised_by_the_unit() {
    let process = Process {
        open_files: Some((1_024, 524_288)),
        locked_memory_bytes: Some((65_536, 65_536)),
        ..Process::default()
    };
    let findings = look(&server(process), &Goal::default());
    let files = of(&findings, "process.open_files");
    assert_eq!(files.verdict, Verdict::Wrong);
    // A limit that is higher already stays.
    assert_eq!(files.changes[0].to, "524288");
    assert_eq!(files.changes[0].from.as_deref(), Some("1024:524288"));
    let locked = of(&findings, "process.locked_memory");
    assert_eq!(locked.verdict, Verdict::Wrong);
    assert_eq!(locked.changes[0].to, "8388608");
}

#[test]
fn limits_of_a_shell_are_advice_and_limits_in_a_container_are_the_runtimes() {
    let process = Process { open_files: Some((1_024, 1_024)), ..Process::default() };
    let shell = Facts { process: process.clone(), ..Facts::default() };
    let findings = look(&shell, &Goal::default());
    let files = of(&findings, "process.open_files");
    assert_eq!((files.verdict, files.changes.len()), (Verdict::Better, 0));
    let contained = Facts { container: Some("docker".to_owned()), ..server(process) };
    let findings = look(&contained, &Goal::default());
    let files = of(&findings, "process.open_files");
    assert_eq!((files.verdict, files.changes.len()), (Verdict::Wrong, 0));
    assert!(files.remedy.as_ref().unwrap().contains("--ulimit"));
}

#[test]
fn enough_is_enough_and_a_capability_lifts_the_limit() {
    let process = Process {
        open_files: Some((u64::MAX, u64::MAX)),
        locked_memory_bytes: Some((0, 0)),
        capabilities: Some(1 << 14),
        ..Process::default()
    };
    let findings = look(&server(process), &Goal::default());
    assert_eq!(of(&findings, "process.open_files").verdict, Verdict::Good);
    assert_eq!(of(&findings, "process.open_files").found.as_deref(), Some("infinity"));
    assert_eq!(of(&findings, "process.locked_memory").verdict, Verdict::Good);
    assert_eq!(of(&findings, "process.capabilities").found.as_deref(), Some("CAP_IPC_LOCK"));
}

#[test]
fn a_group_with_less_than_the_shards_take_is_wrong_once_the_load_is_known() {
    let cgroup = Cgroup { cpu_quota: Some(1.5), ..Cgroup::default() };
    let cpus_allowed = crate::cpu_set::CpuSet::from_list("0-7");
    let process = Process { cpus_allowed, ..Process::default() };
    let facts = Facts { cgroup, process, ..Facts::default() };
    let verdict = |goal: &Goal| of(&look(&facts, goal), "cgroup.cpu").verdict;
    assert_eq!(verdict(&Goal::default()), Verdict::Better);
    assert_eq!(verdict(&given("1x1000 screen")), Verdict::Wrong);
    assert_eq!(verdict(&given("1x10")), Verdict::Good);
    assert_eq!(verdict(&Goal { shards: Some(2), ..Goal::default() }), Verdict::Wrong);
    let findings = look(&facts, &given("1x1000 screen"));
    let remedy = of(&findings, "cgroup.cpu").remedy.as_ref().unwrap();
    assert!(remedy.starts_with("systemctl set-property sluice CPUQuota=200% "), "{remedy}");
}

#[test]
fn memory_is_held_against_the_load() {
    let cgroup = Cgroup { memory_bytes_max: Some(512 << 20), ..Cgroup::default() };
    let facts = Facts { cgroup, memory_bytes: Some(1 << 30), ..Facts::default() };
    for (load, in_group, on_host) in [
        ("1x100", Verdict::Good, Verdict::Good),
        ("5x1000 screen", Verdict::Better, Verdict::Good),
        ("7x1000 screen", Verdict::Wrong, Verdict::Better),
        ("20x1000 screen", Verdict::Wrong, Verdict::Wrong),
    ] {
        let findings = look(&facts, &given(load));
        assert_eq!(of(&findings, "cgroup.memory").verdict, in_group, "{load}");
        assert_eq!(of(&findings, "host.memory").verdict, on_host, "{load}");
    }
}
