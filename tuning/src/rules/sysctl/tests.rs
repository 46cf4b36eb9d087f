use super::*;
use crate::load::Load;

const STOCK: &[(&str, &str)] = &[
    ("net.core.rmem_max", "212992"),
    ("net.core.wmem_max", "33554432"),
    ("net.core.optmem_max", "131072"),
    ("net.core.netdev_max_backlog", "1000"),
    ("net.core.busy_read", "50"),
    ("net.core.somaxconn", "128"),
    ("net.ipv4.udp_mem", "1000 9000 9000000"),
    ("fs.nr_open", "1048576"),
];

fn facts(sysctls: &[(&str, &str)]) -> Facts {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Facts { sysctls: sysctls.iter().map(owned).collect(), ..Facts::default() }
}

fn look(facts: &Facts, goal: &Goal) -> Vec<Finding> {
    findings(facts, goal, &Demand::of(goal, facts))
}

fn of<'a>(findings: &'a [Finding], key: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.setting.key == key).unwrap()
}

#[test]
fn values_below_the_need_are_raised_and_those_above_stay() {
    let findings = look(&facts(STOCK), &Goal::default());
    for (key, verdict, to) in [
        ("net.core.rmem_max", Verdict::Wrong, Some("16777216")),
        ("net.core.wmem_max", Verdict::Good, None),
        ("net.core.optmem_max", Verdict::Better, Some("16777216")),
        ("net.core.netdev_max_backlog", Verdict::Good, None),
        ("net.core.busy_read", Verdict::Better, None),
        ("net.core.somaxconn", Verdict::Better, Some("1024")),
        ("net.ipv4.udp_mem", Verdict::Wrong, Some("16384 21845 9000000")),
        ("fs.nr_open", Verdict::Good, None),
    ] {
        let finding = of(&findings, key);
        assert_eq!(finding.verdict, verdict, "{key}");
        assert_eq!(finding.changes.first().map(|change| &*change.to), to, "{key}");
    }
    let rmem = of(&findings, "net.core.rmem_max");
    assert_eq!(rmem.found.as_deref(), Some("212992 (208 KiB)"));
    assert_eq!(rmem.wanted.as_deref(), Some("≥ 16777216 (16 MiB)"));
    assert!(rmem.formula.as_ref().unwrap().starts_with("16777216 = "));
    assert_eq!(rmem.changes[0].from.as_deref(), Some("212992"));
    assert_eq!(rmem.changes[0].command(), "sysctl -w net.core.rmem_max=16777216");
    assert_eq!(of(&findings, "net.core.busy_poll").verdict, Verdict::Unknown);
}

#[test]
fn what_the_load_needs_is_needed_and_what_is_above_it_is_advice() {
    // The default load on two shards needs 2.3 MiB to receive and 3.9 MiB to send.
    let between = [
        ("net.core.rmem_max", "3000000"),
        ("net.core.wmem_max", "3000000"),
        ("net.ipv4.udp_mem", "3000 4000 6000"),
    ];
    let findings = look(&facts(&between), &Goal::default());
    for (key, verdict) in [
        ("net.core.rmem_max", Verdict::Better),
        ("net.core.wmem_max", Verdict::Wrong),
        ("net.ipv4.udp_mem", Verdict::Better),
    ] {
        let finding = of(&findings, key);
        assert_eq!((finding.verdict, finding.changes.len()), (verdict, 1), "{key}");
    }
}

#[test]
fn values_that_were_applied_are_good() {
    let goal = Goal { load: Load::parse("20x1000 4u 2 screens").unwrap(), ..Goal::default() };
    let mut facts = facts(STOCK);
    for finding in look(&facts, &goal) {
        for change in finding.changes {
            facts.sysctls.insert(finding.setting.key.to_owned(), change.to);
        }
    }
    let findings = look(&facts, &goal);
    // Busy polling is somebody's choice, which stays.
    let is_theirs = |f: &Finding| f.setting.key == "net.core.busy_read";
    let is_good = |f: &Finding| f.verdict <= Verdict::Unknown || is_theirs(f);
    assert!(findings.iter().all(|f| is_good(f) && f.changes.is_empty()));
}

#[test]
fn a_server_that_may_pass_the_bound_does_not_need_it() {
    let of_process = |capabilities, buffer| {
        let goal = Goal { socket_buffer_bytes: buffer, ..Goal::default() };
        let mut facts = facts(STOCK);
        facts.process.capabilities = Some(capabilities);
        of(&look(&facts, &goal), "net.core.rmem_max").verdict
    };
    assert_eq!(of_process(1 << 12, Some(1 << 24)), Verdict::Better);
    assert_eq!(of_process(1 << 13, Some(1 << 24)), Verdict::Wrong);
    // It is the shell of root that may, not the server.
    assert_eq!(of_process(1 << 12, None), Verdict::Wrong);
}

#[test]
fn settings_of_the_host_are_not_changed_from_within_a_network_namespace() {
    let within = Facts { network_namespace: Some(false), ..facts(STOCK) };
    let findings = look(&within, &Goal::default());
    let rmem = of(&findings, "net.core.rmem_max");
    assert_eq!((rmem.verdict, rmem.changes.len()), (Verdict::Wrong, 0));
    let remedy = rmem.remedy.as_ref().unwrap();
    assert!(remedy.ends_with("sysctl -w net.core.rmem_max=16777216"), "{remedy}");
    assert_eq!(of(&findings, "net.core.somaxconn").changes.len(), 1);

    let contained = Facts { container: Some("docker".to_owned()), ..within };
    assert!(look(&contained, &Goal::default()).iter().all(|finding| finding.changes.is_empty()));
}

#[test]
fn buffers_that_memory_cannot_hold_are_not_asked_for() {
    let small = Facts { memory_bytes: Some(100 << 20), ..facts(STOCK) };
    let findings = look(&small, &Goal::default());
    let udp_mem = of(&findings, "net.ipv4.udp_mem");
    assert_eq!((udp_mem.verdict, udp_mem.changes.len()), (Verdict::Wrong, 0));
    assert!(udp_mem.remedy.is_some());
}

#[test]
fn what_is_no_number_is_unknown() {
    let findings = look(
        &facts(&[("net.core.rmem_max", "many"), ("net.ipv4.udp_mem", "1 2")]),
        &Goal::default(),
    );
    assert_eq!(of(&findings, "net.core.rmem_max").verdict, Verdict::Unknown);
    assert_eq!(of(&findings, "net.ipv4.udp_mem").verdict, Verdict::Unknown);
}
