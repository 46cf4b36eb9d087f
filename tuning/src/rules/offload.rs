//! What the card or the kernel does for runs of packets instead of for each.

use super::nic::cards;
use crate::change::{NicParameter, Target};
use crate::demand::{Demand, Goal};
use crate::facts::{Facts, Nic};
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static TX_CHECKSUMMING: Setting = Setting {
    key: "nic.tx_checksumming",
    why: "The card computes checksums of what it sends. Kernels before 6.11 refuse runs of datagrams on cards that do not; later ones \
          compute them, at a small cost for each packet.",
    source: "ethtool(8), -K tx; engine/src/io/gso.rs (refusals that are known)",
    effect: "Before 6.11 each packet of video is a send of its own, which costs several times as much.",
};

static TX_UDP_SEGMENTATION: Setting = Setting {
    key: "nic.tx_udp_segmentation",
    why: "The card cuts a run of datagrams into packets; else the kernel does, just before the card.",
    source: "Linux, Documentation/networking/segmentation-offloads.rst; measured over a veth pair on 6.18 with runs of 8: 0.43 µs a packet on, 0.92 µs off",
    effect: "Each packet of video costs up to twice the kernel's time.",
};

static GENERIC_SEGMENTATION: Setting = Setting {
    key: "nic.gso",
    why: "TCP hands the kernel large pieces. It matters to media over TCP and to WebSockets; runs of UDP are cut late either way, without a \
          measurable difference (6.18, veth).",
    source: "Linux, Documentation/networking/segmentation-offloads.rst",
    effect: "Media over TCP costs more.",
};

static GENERIC_RECEIVE: Setting = Setting {
    key: "nic.gro",
    why: "The kernel joins packets of one sender that come back to back; media sockets take them joined (UDP_GRO), which costs a tenth for each.",
    source: "Linux, Documentation/networking/segmentation-offloads.rst; udp(7), UDP_GRO; engine/src/io/socket.rs",
    effect: "Receiving video costs more for each packet.",
};

static RX_UDP_GRO_FORWARDING: Setting = Setting {
    key: "nic.rx_udp_gro_forwarding",
    why: "Joins UDP packets that the host only forwards, such as those of containers. Sockets that ask for joined packets, as media sockets \
          do, get them without it.",
    source: "ethtool(8), -K; Linux, net/ipv4/udp_offload.c (udp_gro_receive)",
    effect: "None where the server runs on the host's network.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[
    &TX_CHECKSUMMING,
    &TX_UDP_SEGMENTATION,
    &GENERIC_SEGMENTATION,
    &GENERIC_RECEIVE,
    &RX_UDP_GRO_FORWARDING,
];

/// Kernels from here on send runs on cards without checksums.
const RUNS_WITHOUT_CHECKSUMS: (u32, u32, u32) = (6, 11, 0);

/// Looks at them.
pub fn findings(facts: &Facts, _goal: &Goal, _demand: &Demand) -> Vec<Finding> {
    let is_old = facts.kernel.version.is_some_and(|version| version < RUNS_WITHOUT_CHECKSUMS);
    let without_checksums = if is_old { Verdict::Wrong } else { Verdict::Better };
    let of_card = |nic| {
        [
            feature(&TX_CHECKSUMMING, nic, "tx-checksumming", without_checksums),
            feature(&TX_UDP_SEGMENTATION, nic, "tx-udp-segmentation", Verdict::Better),
            feature(&GENERIC_SEGMENTATION, nic, "generic-segmentation-offload", Verdict::Better),
            feature(&GENERIC_RECEIVE, nic, "generic-receive-offload", Verdict::Better),
            feature(&RX_UDP_GRO_FORWARDING, nic, "rx-udp-gro-forwarding", Verdict::Note),
        ]
    };
    cards(facts).flat_map(of_card).flatten().collect()
}

/// Good when on, a note when it cannot be switched on, else as `off` says. Nothing where the card does not speak of it.
fn feature(setting: &'static Setting, nic: &Nic, name: &str, off: Verdict) -> Option<Finding> {
    let feature = nic.features.get(name)?;
    let finding = |verdict, found| Finding::new(setting, verdict).about(&nic.name).found(found);
    // tx-checksumming is a group, which ethtool does not call fixed when all of its parts are.
    let mut parts = nic.features.iter().filter(|(part, _)| part.starts_with("tx-checksum-"));
    let is_group = name == "tx-checksumming" && parts.clone().next().is_some();
    let fixed = feature.fixed || is_group && parts.all(|(_, part)| part.fixed);
    Some(match (feature.on, fixed) {
        (true, _) => finding(if off == Verdict::Note { off } else { Verdict::Good }, "on"),
        (false, true) => finding(Verdict::Note, "off, the card cannot"),
        (false, false) if off == Verdict::Note => finding(off, "off"),
        (false, false) => {
            let parameter = NicParameter::Feature(name.to_owned());
            let target = Target::Nic { interface: nic.name.clone(), parameter };
            finding(off, "off").wanted("on").change(target, Some("off".to_owned()), "on")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Feature;

    fn look(version: (u32, u32, u32), feature: &str, on: bool, fixed: bool) -> Vec<Finding> {
        let features = [(feature.to_owned(), Feature { on, fixed })].into();
        let driver = Some("ena".to_owned());
        let nic = Nic { name: "ens5".to_owned(), driver, features, ..Nic::default() };
        let mut facts = Facts { nics: vec![nic], ..Facts::default() };
        facts.kernel.version = Some(version);
        let goal = Goal::default();
        findings(&facts, &goal, &Demand::of(&goal, &facts))
    }

    #[test]
    fn what_is_off_is_switched_on_unless_the_card_cannot() {
        for feature in [
            "tx-checksumming",
            "tx-udp-segmentation",
            "generic-segmentation-offload",
            "generic-receive-offload",
        ] {
            let off = look((6, 18, 0), feature, false, false);
            assert_eq!((off.len(), off[0].verdict), (1, Verdict::Better), "{feature}");
            assert_eq!(off[0].changes[0].command(), format!("ethtool -K ens5 {feature} on"));
            let fixed = look((6, 18, 0), feature, false, true);
            assert_eq!((fixed[0].verdict, fixed[0].changes.len()), (Verdict::Note, 0), "{feature}");
            assert_eq!(look((6, 18, 0), feature, true, false)[0].verdict, Verdict::Good);
        }
    }

    #[test]
    fn a_group_whose_parts_are_fixed_is_fixed() {
        let feature = |on, fixed| Feature { on, fixed };
        let features = [
            ("tx-checksumming", feature(false, false)),
            ("tx-checksum-ipv4", feature(false, true)),
            ("tx-checksum-ip-generic", feature(false, true)),
        ];
        let features = features.map(|(name, feature)| (name.to_owned(), feature)).into();
        let nic = Nic { features, ..Nic::default() };
        let finding = feature_of(&nic);
        assert_eq!((finding.verdict, finding.changes.len()), (Verdict::Note, 0));
    }

    fn feature_of(nic: &Nic) -> Finding {
        super::feature(&TX_CHECKSUMMING, nic, "tx-checksumming", Verdict::Better).unwrap()
    }

    #[test]
    fn without_checksums_old_kernels_refuse_runs() {
        let old = look((6, 1, 0), "tx-checksumming", false, false);
        assert_eq!(old[0].verdict, Verdict::Wrong);
    }

    #[test]
    fn what_makes_no_difference_is_only_told() {
        for on in [false, true] {
            let finding = &look((6, 18, 0), "rx-udp-gro-forwarding", on, false)[0];
            assert_eq!((finding.verdict, finding.changes.len()), (Verdict::Note, 0));
        }
        assert_eq!(look((6, 18, 0), "tx-vlan-stag-hw-insert", false, false).len(), 0);
    }
}
