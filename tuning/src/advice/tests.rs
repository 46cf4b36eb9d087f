use std::collections::BTreeSet;

use super::*;
use crate::load::Load;
use crate::testing::Tree;

fn look(tree: &Tree, goal: &Goal) -> Report {
    check(&Facts::read(&tree.host(), 0), goal)
}

#[test]
fn a_check_is_in_the_order_of_its_subjects_and_says_each_thing_once() {
    for tree in [Tree::stock_vm(), Tree::dedicated(), Tree::container()] {
        let report = look(&tree, &Goal::default());
        let order: Vec<_> = report
            .findings
            .iter()
            .map(|f| rules::SUBJECTS.iter().position(|s| s.settings.contains(&f.setting)).unwrap())
            .collect();
        assert!(order.is_sorted());
        let rows: BTreeSet<_> =
            report.findings.iter().map(|f| (f.setting.key, f.subject.clone())).collect();
        assert_eq!(rows.len(), report.findings.len());
    }
}

#[test]
fn only_what_is_not_good_is_changed_and_each_target_once() {
    for tree in [Tree::stock_vm(), Tree::dedicated(), Tree::container()] {
        let report = look(&tree, &Goal::default());
        for finding in &report.findings {
            assert!(finding.changes.is_empty() || finding.verdict >= Verdict::Better);
            assert!(
                finding.verdict < Verdict::Better
                    || finding.remedy.is_some()
                    || !finding.changes.is_empty(),
                "{}",
                finding.setting.key
            );
            assert!(finding.changes.iter().all(|change| change.from.as_ref() != Some(&change.to)));
        }
        let plan = report.plan();
        let targets: std::collections::HashSet<_> =
            plan.iter().map(|change| &change.target).collect();
        assert_eq!(targets.len(), plan.len());
        let is_limit = |change: &Change| matches!(change.target, Target::Limit { .. });
        assert!(plan.iter().map(is_limit).is_sorted(), "limits come last");
    }
}

#[test]
fn a_stock_host_is_wrong_by_its_buffers() {
    let report = look(&Tree::stock_vm(), &Goal::default());
    let wrong: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.verdict == Verdict::Wrong)
        .map(|f| f.setting.key)
        .collect();
    assert_eq!(wrong, ["net.core.rmem_max", "net.core.wmem_max"]);
    assert!(report.is_wrong());
}

#[test]
fn a_container_changes_nothing_of_the_host_and_tells_what_to_do_there() {
    let report = look(&Tree::container(), &Goal::default());
    assert_eq!(report.plan(), []);
    let wrong = report.findings.iter().filter(|finding| finding.verdict >= Verdict::Better);
    for finding in wrong {
        assert!(finding.remedy.is_some(), "{}", finding.setting.key);
    }
}

#[test]
fn a_load_that_the_host_cannot_carry_is_wrong_once_it_is_named() {
    let load = Load::parse("200x1000 4u 2 screens").unwrap();
    let named = Goal { load: load.clone(), load_is_given: true, ..Goal::default() };
    let keys = |goal: &Goal| -> Vec<_> {
        let report = look(&Tree::stock_vm(), goal);
        report
            .findings
            .iter()
            .filter(|f| f.verdict == Verdict::Wrong)
            .map(|f| f.setting.key)
            .collect()
    };
    assert!(keys(&named).contains(&"cpu.count"));
    assert!(!keys(&Goal { load_is_given: false, ..named }).contains(&"cpu.count"));
}

#[test]
fn json_is_flat_and_its_words_are_stable() {
    let report = look(&Tree::stock_vm(), &Goal::default());
    let json = serde_json::to_value(&report).unwrap();
    let finding = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["key"] == "net.core.rmem_max")
        .unwrap();
    let mut fields: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "changes", "effect", "formula", "found", "key", "remedy", "source", "subject", "verdict",
        "wanted", "why",
    ];
    assert_eq!(fields, expected);
    assert_eq!(finding["verdict"], "wrong");
    let change = serde_json::json!({
        "target": { "kind": "sysctl", "name": "net.core.rmem_max" },
        "from": "212992",
        "to": "16777216",
    });
    assert_eq!(finding["changes"][0], change);
    assert_eq!(json["demand"]["load"]["shapes"][0]["participants"], 1000);
    assert_eq!(json["demand"]["load_is_given"], false);
    assert_eq!(json["demand"]["sessions"]["value"], 1000);
}
