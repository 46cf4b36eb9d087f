//! What `ethtool` prints, read as ethtool(8) of versions 4 to 6 writes it. What a card lacks is `n/a` there, or 0, or left out.

use std::collections::BTreeMap;

use serde::Serialize;

/// An offload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Feature {
    /// Whether it is on.
    pub on: bool,
    /// Whether it cannot be changed.
    pub fixed: bool,
}

/// The current value and the most there can be of what `-g` and `-l` name `name`; `None` where the card has none.
pub(super) fn current_and_most(text: &str, name: &str) -> Option<(u64, u64)> {
    let (most, current) = text.split_once("Current hardware settings:")?;
    let (_, most) = most.split_once("Pre-set maximums:")?;
    let value = |section| field(section, name)?.parse().ok();
    let (current, most): (u64, u64) = (value(current)?, value(most)?);
    (most > 0).then_some((current, most))
}

/// From `-c`: whether the time to collect interrupts for is adapted, and that time, microseconds.
pub(super) fn coalescing(text: &str) -> (Option<bool>, Option<u64>) {
    let adaptive = field(text, "Adaptive RX").and_then(|rest| rest.split_whitespace().next());
    (adaptive.and_then(on_or_off), field(text, "rx-usecs").and_then(|time| time.parse().ok()))
}

/// From `-k`: offloads by long name.
pub(super) fn features(text: &str) -> BTreeMap<String, Feature> {
    let feature = |line: &str| {
        let (name, state) = line.trim().split_once(':')?;
        let (state, remark) = state.trim().split_once(' ').unwrap_or((state.trim(), ""));
        Some((
            name.to_owned(),
            Feature { on: on_or_off(state)?, fixed: remark.contains("[fixed]") },
        ))
    };
    text.lines().filter_map(feature).collect()
}

/// What stands behind the first `name:`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn on_or_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// virtio_net, ethtool 6.1.
    const VIRTIO_RINGS: &str = "Ring parameters for eth0:
Pre-set maximums:
RX:\t\t256
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t256
Current hardware settings:
RX:\t\t256
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t256
RX Buf Len:\t\tn/a
CQE Size:\t\tn/a
TX Push:\toff
TCP data split:\tn/a
";

    /// mlx5_core, ethtool 6.9: a line more among the maximums, other columns.
    const MLX5_RINGS: &str = "Ring parameters for enp65s0f0np0:
Pre-set maximums:
RX:                     8192
RX Mini:                n/a
RX Jumbo:               n/a
TX:                     8192
TX push buff len:       n/a
Current hardware settings:
RX:                     1024
RX Mini:                n/a
RX Jumbo:               n/a
TX:                     2048
RX Buf Len:             n/a
CQE Size:               n/a
TX Push:                off
RX Push:                off
TX push buff len:       n/a
TCP data split:         off
";

    /// ixgbe, ethtool 4.15, which writes 0 for what there is not.
    const IXGBE_RINGS: &str = "Ring parameters for eth0:
Pre-set maximums:
RX:\t\t4096
RX Mini:\t0
RX Jumbo:\t0
TX:\t\t4096
Current hardware settings:
RX:\t\t512
RX Mini:\t0
RX Jumbo:\t0
TX:\t\t512

";

    #[test]
    fn rings_of_several_cards_and_versions_are_read() {
        for (text, rx, tx) in [
            (VIRTIO_RINGS, (256, 256), (256, 256)),
            (MLX5_RINGS, (1024, 8192), (2048, 8192)),
            (IXGBE_RINGS, (512, 4096), (512, 4096)),
        ] {
            assert_eq!(current_and_most(text, "RX"), Some(rx));
            assert_eq!(current_and_most(text, "TX"), Some(tx));
            assert_eq!(current_and_most(text, "RX Mini"), None);
        }
    }

    #[test]
    fn channels_are_the_combined_ones() {
        let ena = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\t0\nTX:\t\t0\nOther:\t\t0\n\
            Combined:\t8\nCurrent hardware settings:\nRX:\t\t0\nTX:\t\t0\nOther:\t\t0\nCombined:\t4\n";
        assert_eq!(current_and_most(ena, "Combined"), Some((4, 8)));
        // veth and some cards have receive and send queues apart.
        let veth = "Channel parameters for veth0:\nPre-set maximums:\nRX:\t\t2\nTX:\t\t2\nOther:\t\tn/a\n\
            Combined:\tn/a\nCurrent hardware settings:\nRX:\t\t1\nTX:\t\t1\nOther:\t\tn/a\nCombined:\tn/a\n";
        assert_eq!(current_and_most(veth, "Combined"), None);
        assert_eq!(current_and_most(veth, "RX"), Some((1, 2)));
    }

    #[test]
    fn coalescing_of_several_cards_is_read() {
        let ixgbe = "Coalesce parameters for eth0:\nAdaptive RX: off  TX: off\nstats-block-usecs: 0\n\
            sample-interval: 0\npkt-rate-low: 0\npkt-rate-high: 0\n\nrx-usecs: 1\nrx-frames: 0\n\
            rx-usecs-irq: 0\nrx-frames-irq: 0\n\ntx-usecs: 0\nrx-usecs-low: 7\nrx-usecs-high: 9\n";
        assert_eq!(coalescing(ixgbe), (Some(false), Some(1)));
        let mlx5 = "Coalesce parameters for eth0:\nAdaptive RX: on  TX: on\nstats-block-usecs: n/a\n\n\
            rx-usecs:\t8\nrx-frames:\t128\n\ntx-usecs:\t8\n\nCQE mode RX: on  TX: off\n";
        assert_eq!(coalescing(mlx5), (Some(true), Some(8)));
        let without = "Coalesce parameters for eth0:\nAdaptive RX: n/a  TX: n/a\n\nrx-usecs: n/a\n";
        assert_eq!(coalescing(without), (None, None));
    }

    #[test]
    fn features_are_read_with_those_below_them() {
        let text = "Features for eth0:\nrx-checksumming: on [fixed]\ntx-checksumming: on\n\
            \ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: on\n\
            tx-udp-segmentation: off [requested on]\nudp-fragmentation-offload: off\n";
        let features = features(text);
        assert_eq!(features.len(), 6);
        assert_eq!(features["rx-checksumming"], Feature { on: true, fixed: true });
        assert_eq!(features["tx-checksum-ipv4"], Feature { on: false, fixed: true });
        assert_eq!(features["tx-checksum-ip-generic"], Feature { on: true, fixed: false });
        assert_eq!(features["tx-udp-segmentation"], Feature { on: false, fixed: false });
    }

    #[test]
    fn what_is_no_such_text_says_nothing() {
        for text in [
            "",
            "netlink error: Operation not supported\n",
            "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t256\n",
            "Current hardware settings:\nRX: 1\nPre-set maximums:\nRX: 2\n",
            "Pre-set maximums:\nRX: many\nCurrent hardware settings:\nRX: -1\n",
            "\u{0}:\u{0}:\n: on\n",
        ] {
            assert_eq!(current_and_most(text, "RX"), None, "{text:?}");
            assert_eq!(coalescing(text), (None, None), "{text:?}");
            assert!(features(text).keys().all(String::is_empty), "{text:?}");
        }
    }
}
