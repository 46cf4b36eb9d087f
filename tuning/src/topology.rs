//! Which cores the shards get.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::cpu_set::CpuSet;
use crate::facts::{Facts, Nic};

/// The cores of the shards and why these.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Placement {
    /// One for each shard, in order.
    pub cores: Vec<usize>,
    /// A sentence for people, such as `one per physical core, away from CPU 0, which serves eth0`.
    pub reason: String,
}

/// Chooses cores for `shards` shards out of `allowed` (ascending): one per physical core first, on the card's NUMA node first, away
/// from the CPU that the card's interrupts go to where enough others are left. With more shards than CPUs they go round.
///
/// Of several cards the fastest counts, or all that are as fast. Where `allowed` is empty, the CPUs that the process may use or
/// that are online are allowed; where those are not known either, there are no cores, and nothing is to be pinned.
pub fn place(facts: &Facts, shards: usize, allowed: &[usize]) -> Placement {
    let mut cpus: BTreeSet<_> = allowed.iter().filter_map(|cpu| u32::try_from(*cpu).ok()).collect();
    if cpus.is_empty() {
        let online = facts.cpus.iter().map(|cpu| cpu.id).collect();
        cpus = facts.process.cpus_allowed.as_ref().map_or(online, |allowed| allowed.0.clone());
    }
    if cpus.is_empty() {
        return Placement { cores: Vec::new(), reason: "the CPUs are not known".into() };
    }
    let choice = Choice::new(facts, shards, cpus);
    let cores = choice.order.iter().cycle().take(shards).map(|cpu| *cpu as usize).collect();
    Placement { cores, reason: choice.to_string() }
}

/// The cards that carry the media, as one.
#[derive(Debug, Default)]
struct Cards {
    /// Their names, for people.
    names: String,
    /// The NUMA node that they are at.
    node: Option<u32>,
    /// CPUs that receive from them: those of the interrupts, and those that packets are steered to.
    serving: BTreeSet<u32>,
}

impl Cards {
    fn of(facts: &Facts) -> Self {
        let has_irqs = |nic: &&Nic| !nic.irqs.is_empty();
        let speed = facts.nics.iter().filter(has_irqs).map(|nic| nic.speed_mbps).max();
        let fastest =
            facts.nics.iter().filter(has_irqs).filter(|nic| Some(nic.speed_mbps) == speed);
        let fastest: Vec<_> = fastest.collect();
        let nodes: BTreeSet<_> = fastest.iter().map(|nic| nic.node).collect();
        let names: Vec<_> = fastest.iter().map(|nic| nic.name.as_str()).collect();
        Self {
            names: names.join(" and "),
            node: nodes.first().copied().flatten().filter(|_| nodes.len() == 1),
            serving: fastest.into_iter().flat_map(serving).collect(),
        }
    }
}

/// CPUs that receive from `nic`. Interrupts of sending alone cost little and do not count.
fn serving(nic: &Nic) -> BTreeSet<u32> {
    let receives = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.contains("rx") || name.contains("input")
    };
    let some_are_named = nic.irqs.iter().any(|irq| receives(&irq.name));
    let irqs = nic.irqs.iter().filter(|irq| !some_are_named || receives(&irq.name));
    irqs.map(|irq| &irq.effective).chain(&nic.rx_queues).flat_map(|cpus| &cpus.0).copied().collect()
}

/// What was chosen and what it was chosen by.
#[derive(Debug)]
struct Choice {
    shards: usize,
    cards: Cards,
    /// All that may be used, the best first.
    order: Vec<u32>,
    /// Those at the cards' node; all where that says nothing.
    near: BTreeSet<u32>,
    /// Those that serve the cards.
    serving: BTreeSet<u32>,
    /// Whether two of the chosen are threads of one core.
    shares_cores: bool,
}

impl Choice {
    fn new(facts: &Facts, shards: usize, cpus: BTreeSet<u32>) -> Self {
        let cards = Cards::of(facts);
        let at_node = facts.cpus.iter().filter(|cpu| cpu.node.is_some() && cpu.node == cards.node);
        let mut near: BTreeSet<_> =
            at_node.map(|cpu| cpu.id).filter(|id| cpus.contains(id)).collect();
        if near.is_empty() {
            near = cpus.clone();
        }
        let serving = &cards.serving & &cpus;
        // When each one will be used, or when each one by the card serves it, none is better than another.
        let avoids = shards < cpus.len() && !near.is_subset(&serving);
        let is_avoided = |cpu: &u32| avoids && serving.contains(cpu);

        let mut ranked = Vec::new();
        for core in cores(facts, &cpus) {
            let beside_avoided = core.iter().any(is_avoided);
            let mut threads: Vec<_> = core.into_iter().map(|cpu| (is_avoided(&cpu), cpu)).collect();
            threads.sort_unstable();
            for (nth, (avoided, cpu)) in threads.into_iter().enumerate() {
                ranked.push((nth, avoided, !near.contains(&cpu), beside_avoided, cpu));
            }
        }
        ranked.sort_unstable();
        let shares_cores = ranked.iter().take(shards).any(|(nth_thread, ..)| *nth_thread > 0);
        let order = ranked.into_iter().map(|(.., cpu)| cpu).collect();
        Self { shards, cards, order, near, serving, shares_cores }
    }

    fn chosen(&self) -> BTreeSet<u32> {
        self.order.iter().take(self.shards).copied().collect()
    }
}

/// The physical cores that `cpus` are threads of. What nothing is known of is a core by itself.
fn cores(facts: &Facts, cpus: &BTreeSet<u32>) -> Vec<BTreeSet<u32>> {
    let (mut left, mut cores) = (cpus.clone(), Vec::new());
    for cpu in facts.cpus.iter().filter(|cpu| cpus.contains(&cpu.id)) {
        let core = &cpu.siblings.0 & &left;
        left.retain(|cpu| !core.contains(cpu));
        cores.push(core);
    }
    cores.extend(left.into_iter().map(|cpu| BTreeSet::from([cpu])));
    cores
}

/// As a sentence.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, cards, chosen) = (self.order.len(), &self.cards.names, self.chosen());
        if all == 1 {
            return write!(f, "there is one CPU");
        }
        if self.shards > all {
            write!(f, "{} shards go round on {all} CPUs", self.shards)?;
        } else if self.shares_cores {
            write!(f, "one per physical core first, then the cores' other threads")?;
        } else {
            write!(f, "one per physical core")?;
        }
        let is_divided = self.near.len() < all;
        let node = self.cards.node.unwrap_or_default();
        if is_divided && chosen.is_subset(&self.near) {
            write!(f, ", on NUMA node {node}, where {cards} is")?;
        } else if is_divided {
            write!(f, ", on NUMA node {node} first, where {cards} is")?;
        }

        let taken: BTreeSet<_> = chosen.intersection(&self.serving).copied().collect();
        let serve = |cpus: &BTreeSet<u32>| match cpus.len() {
            1 => format!("CPU {}, which serves {cards}", CpuSet(cpus.clone())),
            _ => format!("CPUs {}, which serve {cards}", CpuSet(cpus.clone())),
        };
        if self.serving.is_empty() {
            Ok(())
        } else if self.near.is_subset(&self.serving) {
            let all = if is_divided { "all CPUs there" } else { "all CPUs" };
            write!(f, "; {all} serve {cards}, so that none is avoided")
        } else if self.shards >= all {
            write!(f, "; every CPU is needed, also {}", serve(&taken))
        } else if taken.is_empty() {
            write!(f, ", away from {}", serve(&self.serving))
        } else {
            write!(f, "; not enough others are left to avoid {}", serve(&taken))
        }
    }
}

#[cfg(test)]
mod tests;
