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

#[test]
fn each_cpu_is_taken_once_whatever_is_said_of_siblings() {
    let mut facts = host(&[("0,1", 0), ("2,3", 0)], None, &["0"]);
    facts.cpus[1].siblings = CpuSet::from_list("1-3").unwrap();
    facts.cpus[3].siblings = CpuSet::default();
    let mut cores = place(&facts, 5, &[0, 1, 2, 3, 9]).cores;
    cores.sort_unstable();
    assert_eq!(cores, [0, 1, 2, 3, 9]);
}

#[test]
fn the_interrupt_of_sending_alone_is_not_avoided() {
    let mut facts = host(&[("0", 0), ("1", 0), ("2", 0)], None, &["0", "1"]);
    facts.nics[0].irqs[0].name = "virtio2-input.0".into();
    facts.nics[0].irqs[1].name = "virtio2-output.0".into();
    assert_eq!(place(&facts, 2, &[0, 1, 2]).cores, [1, 2]);
}
