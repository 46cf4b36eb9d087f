//! What should be different, one subject a file. Each has its settings and `findings(facts, goal, demand)`.

use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

pub mod conntrack;
pub mod cpu;
pub mod irq;
pub mod kernel;
pub mod limits;
pub mod nic;
pub mod offload;
pub mod surroundings;
pub mod sysctl;

/// Settings that belong together.
pub struct Subject {
    /// What they are about, for people.
    pub title: &'static str,
    /// Each of them once.
    pub settings: &'static [&'static Setting],
    /// Looks at them.
    pub findings: fn(&Facts, &Goal, &Demand) -> Vec<Finding>,
}

/// Every subject, in the order of a check.
pub static SUBJECTS: &[Subject] = &[
    Subject { title: "Buffers and queues", settings: sysctl::SETTINGS, findings: sysctl::findings },
    Subject { title: "Kernel", settings: kernel::SETTINGS, findings: kernel::findings },
    Subject { title: "Process and limits", settings: limits::SETTINGS, findings: limits::findings },
    Subject { title: "Network cards", settings: nic::SETTINGS, findings: nic::findings },
    Subject { title: "Offloads", settings: offload::SETTINGS, findings: offload::findings },
    Subject { title: "Interrupts", settings: irq::SETTINGS, findings: irq::findings },
    Subject { title: "CPUs", settings: cpu::SETTINGS, findings: cpu::findings },
    Subject {
        title: "Connection tracking",
        settings: conntrack::SETTINGS,
        findings: conntrack::findings,
    },
    Subject {
        title: "Surroundings",
        settings: surroundings::SETTINGS,
        findings: surroundings::findings,
    },
];

/// How it stands when the host is too small for the load: wrong if somebody said that this load comes. The default load is a guess.
fn too_small(goal: &Goal) -> Verdict {
    if goal.load_is_given { Verdict::Wrong } else { Verdict::Better }
}

/// The number in a setting below /proc/sys.
fn sysctl_number(facts: &Facts, key: &str) -> Option<u64> {
    facts.sysctls.get(key)?.parse().ok()
}

/// Whether the process has a capability of this number, those of linux/capability.h.
fn has_capability(facts: &Facts, number: u32) -> bool {
    facts.process.capabilities.is_some_and(|all| all >> number & 1 == 1)
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

/// Whether the process looked at is a server: this one, or one that was named. Else it is the shell of who asks.
fn is_server(facts: &Facts, goal: &Goal) -> bool {
    goal.socket_buffer_bytes.is_some() || facts.process.pid != 0
}

/// `1 queue`, `8 queues`.
fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn findings_are_about_settings_of_their_subject_and_only_what_is_not_good_changes() {
        let goal = Goal::default();
        let facts = Facts::default();
        let demand = Demand::of(&goal, &facts);
        for subject in SUBJECTS {
            for finding in (subject.findings)(&facts, &goal, &demand) {
                assert!(subject.settings.contains(&finding.setting), "{}", finding.setting.key);
                // Nothing is known of this host, so nothing may be changed.
                assert_eq!(finding.changes, [], "{}", finding.setting.key);
                assert!(finding.verdict <= Verdict::Unknown, "{}", finding.setting.key);
            }
        }
    }

    #[test]
    fn every_setting_has_its_own_key_and_says_all() {
        let mut keys = BTreeSet::new();
        for setting in SUBJECTS.iter().flat_map(|subject| subject.settings) {
            assert!(keys.insert(setting.key), "{}", setting.key);
            for text in [setting.why, setting.effect, setting.source] {
                assert!(text.len() > 4 && text.trim() == text, "{}: {text:?}", setting.key);
                assert!(!text.contains("  "), "{}: {text:?}", setting.key);
            }
            for sentence in [setting.why, setting.effect] {
                assert!(sentence.ends_with('.'), "{}: {sentence:?}", setting.key);
            }
        }
    }
}
