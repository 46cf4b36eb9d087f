//! Holds facts against a goal: all findings, and the plan that they come to.

use serde::Serialize;

use crate::change::{Change, Target};
use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::rules;

/// A whole check.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the load comes to.
    pub demand: Demand,
    /// Every setting looked at, grouped by subject, in a fixed order.
    pub findings: Vec<Finding>,
}

/// Looks at every setting.
pub fn check(facts: &Facts, goal: &Goal) -> Report {
    let demand = Demand::of(goal, facts);
    let of_subject = |subject: &rules::Subject| (subject.findings)(facts, goal, &demand);
    let mut findings: Vec<_> = rules::SUBJECTS.iter().flat_map(of_subject).collect();
    if facts.container.is_some() {
        findings.iter_mut().for_each(leave_to_the_host);
    }
    Report { demand, findings }
}

/// Cards, interrupts and CPUs are the host's: from within a container they are told, not changed.
fn leave_to_the_host(finding: &mut Finding) {
    let is_hosts =
        |change: &Change| matches!(change.target, Target::File { .. } | Target::Nic { .. });
    let Some(first) = finding.changes.iter().find(|change| is_hosts(change)) else {
        return;
    };
    let and_more = if finding.changes.len() > 1 { ", and so on" } else { "" };
    let told =
        format!("On the host, since it cannot be set in here: {}{and_more}", first.command());
    finding.remedy = Some(told);
    finding.changes.clear();
}

impl Report {
    /// What is to be done, in the order in which it is done: limits last, since they need a start of the service.
    pub fn plan(&self) -> Vec<Change> {
        let changes = self.findings.iter().flat_map(|finding| &finding.changes).cloned();
        let (limits, mut plan): (Vec<_>, Vec<_>) =
            changes.partition(|change| matches!(change.target, Target::Limit { .. }));
        plan.extend(limits);
        plan
    }

    /// Whether something needed is wrong.
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Wrong)
    }
}

#[cfg(test)]
mod tests;
