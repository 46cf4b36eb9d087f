//! CPUs: how many, which ones for the shards, their speed and their sleep.

use std::collections::{BTreeMap, BTreeSet};

use super::nic::cards;
use super::sysctl::or_more;
use super::{counted, too_small};
use crate::change::Target;
use crate::demand::{self, Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;
use crate::topology;

static COUNT: Setting = Setting {
    key: "cpu.count",
    why: "CPUs that the process may use. Each shard is a thread that wants one for itself.",
    source: "sched_setaffinity(2), cpuset(7); the load's formula",
    effect: "Shards wait for each other, and what arrives meanwhile waits or is lost.",
};

static TOPOLOGY: Setting = Setting {
    key: "cpu.topology",
    why: "Which CPUs the shards get: one for each physical core first, near the card, away from the CPU that its interrupts go to where enough others are left.",
    source: "sysfs, /sys/devices/system/cpu/cpu*/topology; tuning/src/topology.rs",
    effect: "None: the server chooses them itself.",
};

static SMT: Setting = Setting {
    key: "cpu.smt",
    why: "Two threads of one core share its units. Two shards on one core do less than two on two cores, so that hosts should be sized by \
          cores.",
    source: "Linux, Documentation/ABI/testing/sysfs-devices-system-cpu (smt)",
    effect: "None by itself; a count of CPUs promises more than they do.",
};

static GOVERNOR: Setting = Setting {
    key: "cpu.governor",
    why: "How the frequency of a CPU follows its load. Shards sleep thousands of times a second, which looks like little load.",
    source: "Linux, Documentation/admin-guide/pm/cpufreq.rst",
    effect: "Cores run slowly just when a burst arrives: packets leave later.",
};

static IDLE: Setting = Setting {
    key: "cpu.idle",
    why: "How deeply CPUs sleep. Waking from the deepest states takes longer than 0.1 ms, and a shard sleeps between any two datagrams when \
          there is little to do.",
    source: "Linux, Documentation/admin-guide/pm/cpuidle.rst; cpupower-idle-set(1)",
    effect: "With little load a packet leaves up to some tenths of a millisecond later; power is saved.",
};

static NUMA: Setting = Setting {
    key: "cpu.numa",
    why: "On hosts with several memory nodes, a core far from the card reads packets from another node's memory.",
    source: "numa(7); Linux, Documentation/networking/scaling.rst",
    effect: "Packets cost more on cores of another node; the server takes those near the card first.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[&COUNT, &TOPOLOGY, &SMT, &GOVERNOR, &IDLE, &NUMA];

const EXIT_LATENCY_MAX_US: u64 = 100;

/// Looks at them.
pub fn findings(facts: &Facts, goal: &Goal, demand: &Demand) -> Vec<Finding> {
    let allowed = allowed(facts);
    let mut findings = vec![count(&allowed, goal, demand)];
    if !allowed.is_empty() {
        let shards = usize::try_from(demand.shards.value).unwrap_or(usize::MAX);
        findings.push(placed(facts, shards.min(allowed.len()), &allowed));
    }
    findings.extend([smt(facts), governor(facts), idle(facts), numa(facts)].into_iter().flatten());
    findings
}

/// CPUs that the process may use, ascending.
fn allowed(facts: &Facts) -> Vec<usize> {
    let sets = [&facts.process.cpus_allowed, &facts.cgroup.cpus];
    let may = |id: &u32| sets.iter().all(|set| set.as_ref().is_none_or(|set| set.0.contains(id)));
    let allowed: BTreeSet<u32> = facts.cpus.iter().map(|cpu| cpu.id).filter(may).collect();
    allowed.into_iter().map(|id| id as usize).collect()
}

fn count(allowed: &[usize], goal: &Goal, demand: &Demand) -> Finding {
    let cpus = allowed.len() as u64;
    let shards = &demand.shards;
    let finding = |verdict| {
        let finding = Finding::new(&COUNT, verdict).found(counted(allowed.len(), "CPU"));
        finding.wanted(or_more(shards.value)).formula(&shards.formula)
    };
    if cpus == 0 {
        return Finding::new(&COUNT, Verdict::Unknown);
    }
    if let Some(configured) = goal.shards.filter(|&configured| u64::from(configured) > cpus) {
        return finding(Verdict::Wrong).remedy(format!(
            "{configured} shards share {cpus} CPUs: set engine.shards = {cpus}, or 0."
        ));
    }
    let needed = demand::shards_needed(&goal.load);
    if goal.shards.is_some() && needed > shards.value && cpus >= needed {
        return finding(too_small(goal)).wanted(format!("{needed} shards")).remedy(format!(
            "The load needs more shards than are configured: set engine.shards = {needed}, or 0."
        ));
    }
    if needed > cpus {
        return finding(too_small(goal))
            .wanted(or_more(needed))
            .remedy("A host with more CPUs, or the calls spread over several hosts.");
    }
    finding(Verdict::Good)
}

fn placed(facts: &Facts, shards: usize, allowed: &[usize]) -> Finding {
    let placement = topology::place(facts, shards, allowed);
    let cores = placement.cores.iter().map(|&core| core as u32);
    let cores: crate::cpu_set::CpuSet = cores.collect();
    Finding::new(&TOPOLOGY, Verdict::Note)
        .found(format!("{}: CPU {cores}", counted(shards, "shard")))
        .formula(placement.reason)
}

fn smt(facts: &Facts) -> Option<Finding> {
    let finding = |found: String| Finding::new(&SMT, Verdict::Note).found(found);
    Some(match facts.smt? {
        false => finding("off, or not there".to_owned()),
        true => {
            let core = |cpu: &crate::facts::Cpu| cpu.siblings.0.first().copied().unwrap_or(cpu.id);
            let cores: BTreeSet<u32> = facts.cpus.iter().map(core).collect();
            let cores = counted(cores.len(), "core");
            finding(format!("on: {} are {cores}", counted(facts.cpus.len(), "CPU")))
        }
    })
}

fn governor(facts: &Facts) -> Option<Finding> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for governor in facts.cpus.iter().filter_map(|cpu| cpu.governor.as_deref()) {
        *counts.entry(governor).or_default() += 1;
    }
    if counts.is_empty() {
        let finding = Finding::new(&GOVERNOR, Verdict::Note);
        return (!facts.cpus.is_empty()).then(|| finding.found("not governed from here"));
    }
    let one =
        |(governor, cpus): (&&str, &usize)| format!("{governor} on {}", counted(*cpus, "CPU"));
    let found = counts.iter().map(one).collect::<Vec<_>>().join(", ");
    let mut finding = Finding::new(&GOVERNOR, Verdict::Good).found(found).wanted("performance");
    for cpu in &facts.cpus {
        let can = cpu.governors.iter().any(|governor| governor == "performance");
        let Some(there) = cpu.governor.as_ref().filter(|there| can && *there != "performance")
        else {
            continue;
        };
        let path = format!("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", cpu.id);
        finding = finding.change(Target::File { path }, Some(there.clone()), "performance");
    }
    if !finding.changes.is_empty() {
        finding.verdict = Verdict::Better;
    } else if counts.keys().any(|governor| *governor != "performance") {
        finding.verdict = Verdict::Note;
    }
    Some(finding)
}

fn idle(facts: &Facts) -> Option<Finding> {
    let deepest =
        facts.idle_states.iter().filter(|state| !state.disabled).max_by_key(|s| s.exit_latency_us);
    let Some(deepest) = deepest else {
        return (!facts.cpus.is_empty())
            .then(|| Finding::new(&IDLE, Verdict::Good).found("no idle states"));
    };
    let found = format!("{}, {} µs to wake", deepest.name, deepest.exit_latency_us);
    let finding = |verdict| {
        Finding::new(&IDLE, verdict)
            .found(&*found)
            .wanted(format!("below {EXIT_LATENCY_MAX_US} µs"))
    };
    if deepest.exit_latency_us < EXIT_LATENCY_MAX_US {
        return Some(finding(Verdict::Good));
    }
    Some(finding(Verdict::Better).remedy(format!(
        "It costs power, so it is yours to decide. It lasts until the next boot.\ncpupower idle-set -D {EXIT_LATENCY_MAX_US}"
    )))
}

fn numa(facts: &Facts) -> Option<Finding> {
    let nodes: BTreeSet<u32> = facts.cpus.iter().filter_map(|cpu| cpu.node).collect();
    if nodes.is_empty() {
        return None;
    }
    let place =
        |nic: &crate::facts::Nic| nic.node.map(|node| format!("{} at node {node}", nic.name));
    let cards: Vec<_> = cards(facts).filter_map(place).collect();
    let found = match (nodes.len(), cards.is_empty()) {
        (1, _) | (_, true) => counted(nodes.len(), "node"),
        (count, false) => format!("{count} nodes, {}", cards.join(", ")),
    };
    Some(Finding::new(&NUMA, Verdict::Note).found(found))
}

#[cfg(test)]
mod tests;
