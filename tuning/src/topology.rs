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
fn cores(facts: &Facts, cpus: &BTreeSet<u32>) -> BTreeSet<BTreeSet<u32>> {
    let known = facts.cpus.iter().map(|cpu| &cpu.siblings.0 & cpus).filter(|core| !core.is_empty());
    let mut cores: BTreeSet<BTreeSet<u32>> = known.collect();
    let of_cores: BTreeSet<u32> = cores.iter().flatten().copied().collect();
    cores.extend((cpus - &of_cores).into_iter().map(|cpu| BTreeSet::from([cpu])));
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
mod tests {
    use super::*;
    use crate::facts::{Cpu, Irq};
    use crate::testing::Tree;

    /// CPUs by their cores, each a list, and the node of each core; a card `eth0` at `node` with an interrupt for each of `irqs`.
    fn host(cores: &[(&str, u32)], node: Option<u32>, irqs: &[&str]) -> Facts {
        let cpus = cores.iter().flat_map(|(list, node)| {
            let siblings = CpuSet::from_list(list).unwrap();
            let cpu = move |id| {
                let siblings = CpuSet::from_list(list).unwrap();
                Cpu { id, siblings, node: Some(*node), ..Cpu::default() }
            };
            siblings.0.into_iter().map(cpu)
        });
        let irq = |list: &&str| Irq {
            name: "eth0-TxRx-0".into(),
            effective: CpuSet::from_list(list).unwrap(),
            ..Irq::default()
        };
        let irqs = irqs.iter().map(irq).collect();
        let nic = Nic { name: "eth0".into(), node, irqs, ..Nic::default() };
        let mut cpus: Vec<_> = cpus.collect();
        cpus.sort_unstable_by_key(|cpu| cpu.id);
        Facts { cpus, nics: vec![nic], ..Facts::default() }
    }

    fn check(facts: &Facts, allowed: &[usize], table: &[(usize, &[usize], &str)]) {
        for (shards, cores, reason) in table {
            let placement = place(facts, *shards, allowed);
            assert_eq!(
                (&placement.cores[..], placement.reason.as_str()),
                (*cores, *reason),
                "{shards} shards"
            );
        }
    }

    #[test]
    fn of_two_cpus_one_is_left_to_the_card_while_it_can_be() {
        let facts = Facts::read(&Tree::stock_vm().host(), 0);
        check(
            &facts,
            &[0, 1],
            &[
                (1, &[0], "one per physical core, away from CPU 1, which serves eth0"),
                (
                    2,
                    &[0, 1],
                    "one per physical core; every CPU is needed, also CPU 1, which serves eth0",
                ),
                (
                    3,
                    &[0, 1, 0],
                    "3 shards go round on 2 CPUs; every CPU is needed, also CPU 1, which serves eth0",
                ),
            ],
        );
    }

    #[test]
    fn the_core_beside_the_card_is_taken_after_the_others() {
        let facts = host(&[("0,1", 0), ("2,3", 0)], None, &["0"]);
        let away = "one per physical core, away from CPU 0, which serves eth0";
        let doubled = "one per physical core first, then the cores' other threads";
        check(
            &facts,
            &[0, 1, 2, 3],
            &[
                (1, &[2], away),
                (2, &[2, 1], away),
                (3, &[2, 1, 3], &format!("{doubled}, away from CPU 0, which serves eth0")),
                (
                    4,
                    &[0, 2, 1, 3],
                    &format!("{doubled}; every CPU is needed, also CPU 0, which serves eth0"),
                ),
            ],
        );
    }

    #[test]
    fn siblings_may_be_numbered_far_apart() {
        let cores: Vec<_> = (0..8).map(|core| (format!("{core},{}", core + 8), 0)).collect();
        let cores: Vec<_> = cores.iter().map(|(list, node)| (list.as_str(), *node)).collect();
        let allowed: Vec<_> = (0..16).collect();
        let facts = host(&cores, None, &["0"]);
        assert_eq!(place(&facts, 4, &allowed).cores, [1, 2, 3, 4]);
        assert_eq!(place(&facts, 8, &allowed).cores, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(place(&facts, 10, &allowed).cores, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(place(&facts, 16, &allowed).cores, allowed);
    }

    #[test]
    fn the_node_of_the_card_comes_first() {
        let cores: Vec<_> = (0..16).map(|core| (core.to_string(), core / 8)).collect();
        let cores: Vec<_> = cores.iter().map(|(list, node)| (list.as_str(), *node)).collect();
        let allowed: Vec<_> = (0..16).collect();
        let queues: Vec<_> = (8..16).map(|cpu: u32| cpu.to_string()).collect();
        let queues: Vec<_> = queues.iter().map(String::as_str).collect();
        let spread = "; all CPUs there serve eth0, so that none is avoided";
        check(
            &host(&cores, Some(1), &queues),
            &allowed,
            &[
                (
                    4,
                    &[8, 9, 10, 11],
                    &format!("one per physical core, on NUMA node 1, where eth0 is{spread}"),
                ),
                (
                    10,
                    &[8, 9, 10, 11, 12, 13, 14, 15, 0, 1],
                    &format!("one per physical core, on NUMA node 1 first, where eth0 is{spread}"),
                ),
            ],
        );
        // With two queues there is a choice: away from their CPUs, on the other node rather than on them.
        let few = host(&cores, Some(1), &["8", "9"]);
        assert_eq!(place(&few, 4, &allowed).cores, [10, 11, 12, 13]);
        assert_eq!(place(&few, 8, &allowed).cores, [10, 11, 12, 13, 14, 15, 0, 1]);
        let placement = place(&few, 15, &allowed);
        assert_eq!(placement.cores.last(), Some(&8));
        assert!(placement.reason.contains("not enough others are left to avoid CPU 8"));
        assert_eq!(place(&few, 16, &allowed).cores[..3], [8, 9, 10]);
    }

    #[test]
    fn a_dedicated_host_has_its_shards_beside_the_card() {
        let facts = Facts::read(&Tree::dedicated().host(), 0);
        check(
            &facts,
            &(0..32).collect::<Vec<_>>(),
            &[(
                8,
                &[24, 25, 26, 27, 28, 29, 30, 31],
                "one per physical core, on NUMA node 1, where eth0 is, away from CPUs 8-15, which serve eth0",
            )],
        );
    }

    #[test]
    fn only_allowed_cpus_are_taken() {
        let cores: Vec<_> = (0..8).map(|core| (core.to_string(), 0)).collect();
        let cores: Vec<_> = cores.iter().map(|(list, node)| (list.as_str(), *node)).collect();
        check(
            &host(&cores, Some(0), &["0"]),
            &[2, 3, 4, 5],
            &[
                (2, &[2, 3], "one per physical core"),
                (6, &[2, 3, 4, 5, 2, 3], "6 shards go round on 4 CPUs"),
            ],
        );
        check(
            &host(&cores, Some(0), &["3"]),
            &[2, 3, 4, 5],
            &[(3, &[2, 4, 5], "one per physical core, away from CPU 3, which serves eth0")],
        );
    }

    #[test]
    fn one_cpu_is_all_there_is() {
        check(
            &host(&[("0", 0)], None, &["0"]),
            &[0],
            &[(1, &[0], "there is one CPU"), (3, &[0, 0, 0], "there is one CPU")],
        );
    }

    #[test]
    fn interrupts_that_may_go_anywhere_avoid_nothing() {
        let facts = host(&[("0", 0), ("1", 0)], None, &["0,1"]);
        let reason = "one per physical core; all CPUs serve eth0, so that none is avoided";
        check(&facts, &[0, 1], &[(1, &[0], reason)]);
        // Packets that are steered are work of where they are steered to.
        let mut facts = host(&[("0", 0), ("1", 0), ("2", 0)], None, &["0"]);
        facts.nics[0].rx_queues = vec![CpuSet::from_list("1").unwrap()];
        assert_eq!(place(&facts, 1, &[0, 1, 2]).cores, [2]);
    }

    #[test]
    fn the_fastest_card_counts() {
        let mut facts = host(&[("0", 0), ("1", 1)], Some(0), &["0"]);
        facts.nics[0].speed_mbps = Some(1_000);
        let mut fast = facts.nics[0].clone();
        (fast.name, fast.speed_mbps, fast.node) = ("eth1".into(), Some(10_000), Some(1));
        fast.irqs[0].effective = CpuSet::from_list("1").unwrap();
        facts.nics.push(fast);
        let reason = "one per physical core, on NUMA node 1, where eth1 is; all CPUs there serve eth1, so that none is avoided";
        check(&facts, &[0, 1], &[(1, &[1], reason)]);
    }

    #[test]
    fn without_facts_the_allowed_cpus_are_taken_in_order() {
        let facts = Facts::default();
        check(
            &facts,
            &[3, 7],
            &[
                (0, &[], "one per physical core"),
                (1, &[3], "one per physical core"),
                (3, &[3, 7, 3], "3 shards go round on 2 CPUs"),
            ],
        );
        check(&facts, &[], &[(2, &[], "the CPUs are not known")]);
        let facts = host(&[("4", 0), ("5", 0)], None, &[]);
        assert_eq!(place(&facts, 1, &[]).cores, [4]);
    }
}
