use super::*;
use crate::facts::Cpu;
use crate::load::Load;

/// A card with everything as it should be.
fn card() -> Nic {
    Nic {
        name: "eth0".to_owned(),
        driver: Some("ixgbe".to_owned()),
        speed_mbps: Some(10_000),
        tx_queue_len: Some(16_384),
        rx_ring: Some((4_096, 4_096)),
        tx_ring: Some((4_096, 4_096)),
        channels: Some((8, 63)),
        adaptive_rx: Some(true),
        rx_usecs: Some(1),
        ..Nic::default()
    }
}

fn facts(nic: Nic) -> Facts {
    let cpus = (0..8).map(|id| Cpu { id, ..Cpu::default() }).collect();
    Facts { nics: vec![nic], cpus, ..Facts::default() }
}

fn goal(load: &str) -> Goal {
    Goal { load: Load::parse(load).unwrap(), load_is_given: true, ..Goal::default() }
}

fn look(facts: &Facts, load: &str) -> Vec<Finding> {
    let goal = goal(load);
    findings(facts, &goal, &Demand::of(&goal, facts))
}

fn of<'a>(findings: &'a [Finding], key: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.setting.key == key).unwrap()
}

fn command(finding: &Finding) -> Option<String> {
    finding.changes.first().map(crate::change::Change::command)
}

#[test]
fn a_card_that_is_as_it_should_be_is_left() {
    let findings = look(&facts(card()), "1x1000 2u screen");
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Good), "{findings:?}");
    assert!(findings.iter().all(|finding| finding.subject.as_deref() == Some("eth0")));
}

#[test]
fn each_setting_that_is_not_has_its_command() {
    let nic = Nic {
        tx_queue_len: Some(1_000),
        rx_ring: Some((256, 4_096)),
        tx_ring: Some((256, 512)),
        channels: Some((1, 63)),
        adaptive_rx: Some(false),
        rx_usecs: Some(8),
        ..card()
    };
    let findings = look(&facts(nic), "4x1000 2u screen");
    for (key, expected) in [
        ("nic.rx_ring", "ethtool -G eth0 rx 4096"),
        ("nic.tx_ring", "ethtool -G eth0 tx 512"),
        ("nic.channels", "ethtool -L eth0 combined 6"),
        ("nic.coalescing", "ethtool -C eth0 rx-usecs 50"),
        ("nic.tx_queue_len", "echo 65536 > /sys/class/net/eth0/tx_queue_len"),
    ] {
        let finding = of(&findings, key);
        assert_eq!(command(finding).as_deref(), Some(expected), "{key}");
        assert_eq!(finding.verdict, Verdict::Better, "{key}");
    }
}

#[test]
fn the_low_numbers_of_drivers_that_adapt_are_left() {
    for (driver, verdict) in [("ixgbe", Verdict::Good), ("virtio_net", Verdict::Better)] {
        let driver = Some(driver.to_owned());
        let nic = Nic { driver, adaptive_rx: Some(false), rx_usecs: Some(1), ..card() };
        let findings = look(&facts(nic), "1x10");
        assert_eq!(of(&findings, "nic.coalescing").verdict, verdict);
    }
}

#[test]
fn a_card_at_its_most_is_good() {
    let nic = Nic { rx_ring: Some((256, 256)), channels: Some((1, 1)), ..card() };
    let findings = look(&facts(nic), "4x1000 2u screen");
    assert_eq!(of(&findings, "nic.rx_ring").verdict, Verdict::Good);
    assert_eq!(of(&findings, "nic.channels").verdict, Verdict::Good);
}

#[test]
fn a_card_that_may_not_collect_interrupts_is_not_made_to() {
    let nic = Nic { adaptive_rx: Some(false), rx_usecs: Some(0), ..card() };
    let findings = look(&facts(nic), "1x10");
    let coalescing = of(&findings, "nic.coalescing");
    assert_eq!((coalescing.verdict, coalescing.changes.len()), (Verdict::Note, 0));
}

#[test]
fn a_load_that_does_not_fit_the_fastest_card_is_wrong() {
    let slow = Nic { speed_mbps: Some(1_000), ..card() };
    assert_eq!(
        of(&look(&facts(slow.clone()), "1x1000 2u screen"), "nic.speed").verdict,
        Verdict::Wrong
    );
    assert_eq!(
        of(&look(&facts(slow.clone()), "1x100 2u screen"), "nic.speed").verdict,
        Verdict::Good
    );
    let mut both = facts(slow);
    both.nics.push(Nic { name: "eth1".to_owned(), ..card() });
    let findings = look(&both, "1x1000 2u screen");
    let speeds: Vec<_> =
        findings.iter().filter(|f| f.setting.key == "nic.speed").map(|f| f.verdict).collect();
    assert_eq!(speeds, [Verdict::Note, Verdict::Good]);
    let unknown = facts(Nic { speed_mbps: None, ..card() });
    assert_eq!(of(&look(&unknown, "1x1000 2u screen"), "nic.speed").verdict, Verdict::Note);
}

#[test]
fn disciplines_with_a_queue_of_their_own_do_not_need_the_cards() {
    let mut facts = facts(Nic { tx_queue_len: Some(1_000), ..card() });
    facts.sysctls.insert("net.core.default_qdisc".to_owned(), "fq_codel".to_owned());
    let findings = look(&facts, "1x1000 2u screen");
    assert_eq!(of(&findings, "nic.tx_queue_len").verdict, Verdict::Good);
}

#[test]
fn without_ethtool_the_remedy_is_to_install_it() {
    let nic = Nic {
        rx_ring: None,
        tx_ring: None,
        channels: None,
        adaptive_rx: None,
        rx_usecs: None,
        ethtool_error: Some("ethtool is not installed".to_owned()),
        ..card()
    };
    let findings = look(&facts(nic), "1x10");
    let ethtool = of(&findings, "nic.ethtool");
    assert_eq!(ethtool.verdict, Verdict::Unknown);
    assert!(ethtool.remedy.as_ref().unwrap().starts_with("apt install ethtool"));
    assert!(findings.iter().all(|finding| finding.setting.key != "nic.rx_ring"));
}

#[test]
fn losses_are_told_and_bridges_are_passed_over() {
    let mut facts = facts(Nic { rx_lost: 1_234, ..card() });
    facts.nics.push(Nic { name: "docker0".to_owned(), driver: None, ..card() });
    let findings = look(&facts, "1x10");
    assert_eq!(of(&findings, "nic.rx_lost").found.as_deref(), Some("1,234"));
    assert!(findings.iter().all(|finding| finding.subject.as_deref() == Some("eth0")));
}
