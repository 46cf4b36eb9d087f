//! Containers and virtual machines: what cannot be changed from in here.

use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static CONTAINER: Setting = Setting {
    key: "host.container",
    why: "In a container most settings of the kernel are read-only, and those of cards, CPUs and limits are the host's and the runtime's.",
    source: "namespaces(7); proc(5)",
    effect: "What is wrong must be put right on the host; the commands are given for there.",
};

static NETWORK_NAMESPACE: Setting = Setting {
    key: "host.network_namespace",
    why: "In a network namespace of its own, bounds of socket buffers are those of the host and read-only, and packets take the way \
          through a virtual device, which costs more for each.",
    source: "network_namespaces(7)",
    effect: "Each packet costs more; docker run --network host, or hostNetwork: true in Kubernetes, does without.",
};

static VM: Setting = Setting {
    key: "host.vm",
    why: "A hypervisor shares the CPUs: what it gives to others (steal time) stops shards in the middle of their work. Cards are virtual \
          and have fewer queues and offloads.",
    source: "Linux, Documentation/filesystems/proc.rst (steal in /proc/stat)",
    effect: "Where others are busy, packets leave late; top shows it as st.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[&CONTAINER, &NETWORK_NAMESPACE, &VM];

/// Looks at them.
pub fn findings(facts: &Facts, _goal: &Goal, _demand: &Demand) -> Vec<Finding> {
    let note = |setting, found: &str| Finding::new(setting, Verdict::Note).found(found);
    let network = match facts.network_namespace {
        Some(true) => "the host's",
        Some(false) => "its own",
        None => "not known",
    };
    vec![
        note(&CONTAINER, facts.container.as_deref().unwrap_or("none seen")),
        note(&NETWORK_NAMESPACE, network),
        note(&VM, facts.hypervisor.as_deref().unwrap_or("none seen")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_are_told_and_never_judged() {
        let facts = Facts {
            container: Some("docker".to_owned()),
            hypervisor: Some("kvm".to_owned()),
            network_namespace: Some(false),
            ..Facts::default()
        };
        let goal = Goal::default();
        let findings = findings(&facts, &goal, &Demand::of(&goal, &facts));
        let found: Vec<_> =
            findings.iter().filter_map(|finding| finding.found.as_deref()).collect();
        assert_eq!(found, ["docker", "its own", "kvm"]);
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Note));
    }
}
