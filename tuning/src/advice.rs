//! Holds facts against a goal: all findings, and the plan that they come to.

use serde::Serialize;

use crate::change::Change;
use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::Finding;

/// A whole check.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the load comes to.
    pub demand: Demand,
    /// Every setting looked at, grouped by subject, in a fixed order.
    pub findings: Vec<Finding>,
}

/// Looks at every setting.
pub fn check(_facts: &Facts, _goal: &Goal) -> Report {
    unimplemented!()
}

impl Report {
    /// What is to be done, in the order in which it is done: limits last, since they need a start of the service.
    pub fn plan(&self) -> Vec<Change> {
        self.findings.iter().flat_map(|finding| finding.changes.clone()).collect()
    }

    /// Whether something needed is wrong.
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|f| f.verdict == crate::finding::Verdict::Wrong)
    }
}
