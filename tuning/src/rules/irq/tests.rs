use super::*;
use crate::load::Load;

fn set(list: &str) -> CpuSet {
    CpuSet::from_list(list).unwrap()
}

/// `cores` cores of two threads each, the second threads numbered after all first ones, on two nodes.
fn cpus(cores: u32) -> Vec<Cpu> {
    let cpu = |id: u32| Cpu {
        id,
        siblings: [id % cores, id % cores + cores].into_iter().collect(),
        node: Some(u32::from(id % cores >= cores / 2)),
        ..Cpu::default()
    };
    (0..2 * cores).map(cpu).collect()
}

fn card(effective: &[&str], node: Option<u32>) -> Nic {
    let irq = |(number, effective): (u32, &&str)| Irq {
        number,
        name: format!("eth0-TxRx-{number}"),
        affinity: set("0-15"),
        effective: set(effective),
    };
    let irqs = (40..).zip(effective).map(irq).collect();
    let driver = Some("ixgbe".to_owned());
    let rx_queues = vec![CpuSet::default(); effective.len()];
    Nic { name: "eth0".to_owned(), driver, node, irqs, rx_queues, ..Nic::default() }
}

fn look(nic: Nic, load: &str) -> Vec<Finding> {
    let facts = Facts { nics: vec![nic], cpus: cpus(8), ..Facts::default() };
    let goal = Goal { load: Load::parse(load).unwrap(), ..Goal::default() };
    findings(&facts, &goal, &Demand::of(&goal, &facts))
}

fn commands(findings: &[Finding], key: &str) -> Vec<String> {
    let finding = findings.iter().find(|finding| finding.setting.key == key).unwrap();
    finding.changes.iter().map(crate::change::Change::command).collect()
}

#[test]
fn queues_that_share_a_core_are_spread_over_cores_of_the_cards_node() {
    // CPUs 8 and 0 are threads of one core.
    let findings = look(card(&["0", "8", "0"], Some(1)), "1x10");
    assert_eq!(findings[0].verdict, Verdict::Better);
    assert_eq!(findings[0].found.as_deref(), Some("3 queues on 1 core"));
    let expected = [
        "echo 4 > /proc/irq/40/smp_affinity_list",
        "echo 5 > /proc/irq/41/smp_affinity_list",
        "echo 6 > /proc/irq/42/smp_affinity_list",
    ];
    assert_eq!(commands(&findings, "irq.affinity"), expected);
}

#[test]
fn interrupts_that_irqbalance_would_move_back_are_left_to_it() {
    let nics = vec![card(&["0", "8", "0"], Some(1))];
    let facts = Facts { nics, cpus: cpus(8), irqbalance: true, ..Facts::default() };
    let goal = Goal::default();
    let findings = findings(&facts, &goal, &Demand::of(&goal, &facts));
    let affinity = findings.iter().find(|f| f.setting.key == "irq.affinity").unwrap();
    assert_eq!((affinity.verdict, affinity.changes.len()), (Verdict::Better, 0));
    assert!(affinity.remedy.as_ref().unwrap().contains("irqbalance"));
}

#[test]
fn queues_on_cores_of_their_own_stay() {
    for effective in
        [&["0", "1", "2"][..], &["3"], &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]]
    {
        let findings = look(card(effective, None), "1x10");
        assert_eq!(findings[0].verdict, Verdict::Good, "{effective:?}");
    }
}

#[test]
fn only_interrupts_of_receiving_count() {
    for name in [
        "eth0-TxRx-0",
        "virtio1-input.0",
        "ens5-Tx-Rx-1",
        "mlx5_comp3@pci:0000",
        "eth0-rx-2",
        "virtio3-rx",
    ] {
        assert!(is_receiving(name), "{name}");
    }
    for name in
        ["virtio1-config", "virtio1-output.0", "ena-mgmnt@pci:0000", "eth0-tx-1", "mlx5_async0@pci"]
    {
        assert!(!is_receiving(name), "{name}");
    }
}

#[test]
fn an_interrupt_of_which_nothing_is_known_is_unknown() {
    let mut nic = card(&["0"], None);
    (nic.irqs[0].affinity, nic.irqs[0].effective) = (CpuSet::default(), CpuSet::default());
    assert_eq!(look(nic, "1x10")[0].verdict, Verdict::Unknown);
}

#[test]
fn other_cpus_help_a_queue_that_is_too_busy_alone() {
    let light = look(card(&["0"], None), "1x1000 2u screen");
    assert!(commands(&light, "nic.rps").is_empty());
    // 2,000 calls of two with 100 packets/s in each are 200,000 a second, reports not counted.
    let heavy = look(card(&["0"], None), "2000x2 2u");
    assert_eq!(
        commands(&heavy, "nic.rps"),
        ["echo f0e > /sys/class/net/eth0/queues/rx-0/rps_cpus"]
    );
    let mut there = card(&["0"], None);
    there.rx_queues[0] = set("1-3");
    assert!(commands(&look(there, "2000x2 2u"), "nic.rps").is_empty());
}

#[test]
fn send_queues_get_cpus_of_their_own() {
    let mut nic = card(&["0"], None);
    nic.tx_queues = vec![Some(CpuSet::default()); 4];
    let expected = ["1111", "2222", "4444", "8888"];
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(at, mask)| format!("echo {mask} > /sys/class/net/eth0/queues/tx-{at}/xps_cpus"))
        .collect();
    assert_eq!(commands(&look(nic.clone(), "1x10"), "nic.xps"), expected);
    nic.tx_queues = ["0,4,8,12", "1,5,9,13", "2", "3"].map(|list| Some(set(list))).into();
    assert!(commands(&look(nic.clone(), "1x10"), "nic.xps").is_empty());
    nic.tx_queues = vec![None; 4];
    assert!(look(nic, "1x10").iter().all(|finding| finding.setting.key != "nic.xps"));
}

#[test]
fn a_card_that_is_to_get_more_queues_is_not_looked_at_before() {
    let nic = Nic { channels: Some((2, 8)), ..card(&["0", "0"], None) };
    let findings = look(nic, "4x1000 2u screen");
    assert_eq!(findings.len(), 1, "only irqbalance: {findings:?}");
}

#[test]
fn irqbalance_is_told() {
    let facts = Facts { irqbalance: true, ..Facts::default() };
    let finding = &findings(&facts, &Goal::default(), &Demand::of(&Goal::default(), &facts))[0];
    assert_eq!((finding.verdict, finding.found.as_deref()), (Verdict::Note, Some("running")));
}
