//! Which CPU does the kernel's part of receiving and sending for which queue.

use std::collections::{BTreeMap, BTreeSet};

use super::counted;
use super::nic::{cards, channels_wanted};
use crate::amount::grouped;
use crate::change::Target;
use crate::cpu_set::CpuSet;
use crate::demand::{Demand, Goal};
use crate::facts::{Cpu, Facts, Irq, Nic};
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static AFFINITY: Setting = Setting {
    key: "irq.affinity",
    why: "Which CPU each receive queue of a card interrupts. That CPU does the kernel's part for all packets of the queue, about 1.2 µs \
          for each where it was measured.",
    source: "Linux, Documentation/core-api/irq/irq-affinity.rst, Documentation/networking/scaling.rst (RSS IRQ configuration)",
    effect: "One core does the work of several queues while others have time, and the shard that runs there is late.",
};

static IRQBALANCE: Setting = Setting {
    key: "irq.irqbalance",
    why: "A service that moves interrupts between CPUs as it sees fit, also those that were given a CPU.",
    source: "irqbalance(1)",
    effect: "Interrupts may wander to the CPU of a busy shard.",
};

static RPS: Setting = Setting {
    key: "nic.rps",
    why: "Lets other CPUs do the protocol's part of receiving for a card with fewer queues than CPUs. It costs an interrupt between \
          CPUs, so that it pays only where a queue's own CPU would be full.",
    source: "Linux, Documentation/networking/scaling.rst (RPS)",
    effect: "The CPU that a queue interrupts is full, and packets are lost before they reach a socket.",
};

static XPS: Setting = Setting {
    key: "nic.xps",
    why: "Which CPUs send through which queue of the card. With one queue for each, shards do not wait for each other when they send.",
    source: "Linux, Documentation/networking/scaling.rst (XPS)",
    effect: "Shards contend for the locks of send queues.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[&AFFINITY, &IRQBALANCE, &RPS, &XPS];

/// Packets each second through one queue from which on other CPUs should help: 6 % of a core at 1.2 µs each.
const QUEUE_PACKETS_MAX: u64 = 50_000;

/// Looks at them.
pub fn findings(facts: &Facts, _goal: &Goal, demand: &Demand) -> Vec<Finding> {
    let mut findings = Vec::new();
    for nic in cards(facts) {
        // Other queues have other interrupts: they are looked at once they are there.
        if channels_wanted(nic, facts, demand).is_none() {
            let of_card = [affinity(nic, facts), rps(nic, facts, demand), xps(nic, facts)];
            findings.extend(of_card.into_iter().flatten().map(|f| f.about(&nic.name)));
        }
    }
    findings.push(irqbalance(facts));
    findings
}

fn affinity(nic: &Nic, facts: &Facts) -> Option<Finding> {
    let irqs: Vec<&Irq> = nic.irqs.iter().filter(|irq| is_receiving(&irq.name)).collect();
    if irqs.is_empty() || facts.cpus.is_empty() {
        return None;
    }
    let core_of: BTreeMap<u32, u32> = facts.cpus.iter().map(|cpu| (cpu.id, core(cpu))).collect();
    let cpus: Option<Vec<u32>> = irqs.iter().map(|irq| cpu_of(irq)).collect();
    let Some(cpus) = cpus else {
        return Some(Finding::new(&AFFINITY, Verdict::Unknown));
    };
    let cores: BTreeSet<u32> =
        cpus.iter().map(|cpu| core_of.get(cpu).copied().unwrap_or(*cpu)).collect();
    let near = cores_near(nic, facts);
    let possible = irqs.len().min(near.len());
    let queues = counted(irqs.len(), "queue");
    let found = match cpus[..] {
        [cpu] => format!("1 queue on CPU {cpu}"),
        _ => format!("{queues} on {}", counted(cores.len(), "core")),
    };
    let finding = |verdict| {
        let wanted = format!("{queues} on {}", counted(possible, "core"));
        Finding::new(&AFFINITY, verdict).found(&*found).wanted(wanted)
    };
    if cores.len() >= possible {
        return Some(finding(Verdict::Good));
    }
    if facts.irqbalance {
        return Some(finding(Verdict::Better).remedy(
            "irqbalance runs, which moves them: have it leave these alone (--banirq=NUMBER) or stop it, then apply.",
        ));
    }
    let mut finding = finding(Verdict::Better)
        .remedy("Drivers that spread their interrupts by themselves refuse this.");
    for (irq, cpu) in irqs.iter().zip(near.iter().cycle()) {
        let wanted = CpuSet::from_iter([*cpu]);
        if irq.affinity != wanted {
            let path = format!("/proc/irq/{}/smp_affinity_list", irq.number);
            let from = Some(irq.affinity.to_string());
            finding = finding.change(Target::File { path }, from, wanted.to_string());
        }
    }
    Some(finding)
}

/// Whether an interrupt is about received packets, by the names that drivers give: `eth0-TxRx-3`, `virtio1-input.0`, `ens5-Tx-Rx-1`.
fn is_receiving(name: &str) -> bool {
    let name = name.to_lowercase();
    let other = ["config", "mgmnt", "mgmt", "async", "ctrl", "cmd", "misc", "event", "link"];
    let sends_only = name.contains("output") || name.contains("tx") && !name.contains("rx");
    !sends_only && !other.iter().any(|word| name.contains(word))
}

/// The CPU that an interrupt goes to.
fn cpu_of(irq: &Irq) -> Option<u32> {
    irq.effective.0.first().or(irq.affinity.0.first()).copied()
}

/// A core is named after its first thread.
fn core(cpu: &Cpu) -> u32 {
    cpu.siblings.0.first().copied().unwrap_or(cpu.id)
}

/// First threads of the cores on the card's node, or of all.
fn cores_near(nic: &Nic, facts: &Facts) -> Vec<u32> {
    let of = |near: &dyn Fn(&Cpu) -> bool| -> BTreeSet<u32> {
        facts.cpus.iter().filter(|cpu| near(cpu)).map(core).collect()
    };
    let near = of(&|cpu| nic.node.is_some() && cpu.node == nic.node);
    let near = if near.is_empty() { of(&|_| true) } else { near };
    near.into_iter().collect()
}

fn irqbalance(facts: &Facts) -> Finding {
    if !facts.irqbalance {
        return Finding::new(&IRQBALANCE, Verdict::Good).found("not running");
    }
    Finding::new(&IRQBALANCE, Verdict::Note).found("running").remedy(
        "To keep interrupts where they are: systemctl disable --now irqbalance; or exclude each with its option --banirq=NUMBER.",
    )
}

fn rps(nic: &Nic, facts: &Facts, demand: &Demand) -> Option<Finding> {
    let queues = nic.rx_queues.len() as u64;
    if queues == 0 || facts.cpus.len() < 2 {
        return None;
    }
    let finding = |verdict, found: String| Finding::new(&RPS, verdict).found(found);
    if nic.rx_queues.iter().any(|cpus| !cpus.is_empty()) {
        return Some(finding(Verdict::Good, "on".to_owned()));
    }
    let of_queue = demand.packets_in_per_s.value / queues;
    let has_queue_each = queues >= facts.cpus.len() as u64;
    if has_queue_each || of_queue <= QUEUE_PACKETS_MAX {
        return Some(finding(Verdict::Good, "off, not needed".to_owned()));
    }
    let formula = format!(
        "{} packets/s in / {} = {} through each, above {}",
        grouped(demand.packets_in_per_s.value),
        counted(nic.rx_queues.len(), "queue"),
        grouped(of_queue),
        grouped(QUEUE_PACKETS_MAX),
    );
    let mut finding = finding(Verdict::Better, "off".to_owned()).wanted("on").formula(formula);
    let irqs: Vec<&Irq> = nic.irqs.iter().filter(|irq| is_receiving(&irq.name)).collect();
    for queue in 0..nic.rx_queues.len() {
        let own = irqs.get(queue).and_then(|irq| cpu_of(irq));
        let node = facts.cpus.iter().find(|cpu| Some(cpu.id) == own).and_then(|cpu| cpu.node);
        let node = nic.node.or(node);
        let near = facts.cpus.iter().filter(|cpu| node.is_none() || cpu.node == node);
        let helpers: CpuSet = near.map(|cpu| cpu.id).filter(|&id| Some(id) != own).collect();
        if !helpers.is_empty() {
            let path = format!("/sys/class/net/{}/queues/rx-{queue}/rps_cpus", nic.name);
            finding =
                finding.change(Target::File { path }, Some("0".to_owned()), helpers.to_mask());
        }
    }
    Some(finding)
}

fn xps(nic: &Nic, facts: &Facts) -> Option<Finding> {
    let queues: Option<Vec<&CpuSet>> = nic.tx_queues.iter().map(Option::as_ref).collect();
    let queues = queues.filter(|queues| queues.len() > 1 && facts.cpus.len() > 1)?;
    let empty = queues.iter().filter(|cpus| cpus.is_empty()).count();
    let finding = |verdict, found: String| Finding::new(&XPS, verdict).found(found);
    if empty == 0 {
        return Some(finding(Verdict::Good, "on".to_owned()));
    }
    let found = format!("off for {empty} of {}", counted(queues.len(), "queue"));
    let mut finding = finding(Verdict::Better, found).wanted("CPUs for each queue");
    for (at, there) in queues.iter().enumerate() {
        let cpus = facts.cpus.iter().enumerate().filter(|(index, _)| index % queues.len() == at);
        let cpus: CpuSet = cpus.map(|(_, cpu)| cpu.id).collect();
        // More queues than CPUs: those beyond serve nobody.
        if !cpus.is_empty() && **there != cpus {
            let path = format!("/sys/class/net/{}/queues/tx-{at}/xps_cpus", nic.name);
            let from = Some(there.to_mask());
            finding = finding.change(Target::File { path }, from, cpus.to_mask());
        }
    }
    Some(finding).filter(|finding| !finding.changes.is_empty())
}

#[cfg(test)]
mod tests;
