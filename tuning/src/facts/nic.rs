//! Network interfaces: the kernel's Documentation/ABI/testing/sysfs-class-net*, and `ethtool`.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::Serialize;

use super::ethtool::{self, Feature};
use super::irq::{self, Irq};
use super::numbered;
use crate::cpu_set::CpuSet;
use crate::host::Host;

/// A network interface.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its driver; `None` for those without a device: bridges, veth.
    pub driver: Option<String>,
    /// Interfaces that lie on it: bonds, VLANs, bridges.
    pub uppers: Vec<String>,
    /// Megabits each second, where it is known.
    pub speed_mbps: Option<u64>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// NUMA node of its slot.
    pub node: Option<u32>,
    /// Packets in its queueing discipline (`tx_queue_len`).
    pub tx_queue_len: Option<u64>,
    /// `rps_cpus` of each receive queue.
    pub rx_queues: Vec<CpuSet>,
    /// `xps_cpus` of each send queue; `None` where it cannot be read.
    pub tx_queues: Vec<Option<CpuSet>>,
    /// Interrupts of its queues.
    pub irqs: Vec<Irq>,
    /// From `ethtool -g`: current and most, receive and send. `None` where the card has none.
    pub rx_ring: Option<(u64, u64)>,
    /// Likewise.
    pub tx_ring: Option<(u64, u64)>,
    /// From `ethtool -l`: pairs of queues, current and most.
    pub channels: Option<(u64, u64)>,
    /// From `ethtool -c`: whether the card adapts the time it collects interrupts for.
    pub adaptive_rx: Option<bool>,
    /// From `ethtool -c`: that time, microseconds.
    pub rx_usecs: Option<u64>,
    /// From `ethtool -k`, by long name.
    pub features: BTreeMap<String, Feature>,
    /// Packets that the card or the driver lost on receiving (`statistics/rx_{dropped,missed_errors,fifo_errors}`), since the boot.
    pub rx_lost: u64,
    /// Why `ethtool` said nothing, if so.
    pub ethtool_error: Option<String>,
}

const FOLDER: &str = "/sys/class/net";

/// More interfaces than that are not looked at, as each costs four runs of `ethtool`.
const NICS_MAX: usize = 64;

/// IFF_UP of netdevice(7).
const UP: u32 = 1;

/// Interfaces that are up and have a device; where none has one, as in a container, those that carry traffic in its place.
pub(super) fn nics(host: &Host) -> Vec<Nic> {
    let mut names = host.names(FOLDER);
    names.retain(|name| is_up(host, name));
    let has = |name: &str, what: &str| host.path(format!("{FOLDER}/{name}/{what}")).exists();
    if names.iter().any(|name| has(name, "device")) {
        names.retain(|name| has(name, "device"));
    } else {
        names.retain(|name| !has(name, "bridge") && !has(name, "brport"));
    }
    names.truncate(NICS_MAX);
    let irqs = irq::names(host);
    names.iter().map(|name| nic(host, name, &irqs)).collect()
}

fn is_up(host: &Host, name: &str) -> bool {
    let text = |file| host.text(format!("{FOLDER}/{name}/{file}"));
    let flags =
        text("flags").and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
    let is_loopback = text("type").as_deref() == Some("772"); // ARPHRD_LOOPBACK
    let carries = matches!(text("operstate").as_deref(), None | Some("up" | "unknown"));
    name != "lo" && !is_loopback && carries && flags.is_some_and(|flags| flags & UP != 0)
}

fn nic(host: &Host, name: &str, irqs: &BTreeMap<u32, String>) -> Nic {
    let folder = format!("{FOLDER}/{name}");
    // A virtio device has no node; the PCI device above it has.
    let nodes = ["device/numa_node", "device/../numa_node"];
    let node = nodes.iter().find_map(|file| host.text(format!("{folder}/{file}")));
    let upper = |name: String| name.strip_prefix("upper_").map(str::to_owned);
    let lost = ["rx_dropped", "rx_missed_errors", "rx_fifo_errors"];
    let lost = lost.iter().filter_map(|file| host.number(format!("{folder}/statistics/{file}")));
    let mut nic = Nic {
        name: name.to_owned(),
        driver: host.link_name(format!("{folder}/device/driver")),
        uppers: host.names(&folder).into_iter().filter_map(upper).collect(),
        speed_mbps: host.number(format!("{folder}/speed")).filter(|speed| *speed > 0),
        mtu: host.number(format!("{folder}/mtu")),
        node: node.and_then(|node| node.parse().ok()),
        tx_queue_len: host.number(format!("{folder}/tx_queue_len")),
        rx_queues: masks(host, &folder, "rx-", "rps_cpus").map(Option::unwrap_or_default).collect(),
        tx_queues: masks(host, &folder, "tx-", "xps_cpus").collect(),
        irqs: irq::of_interface(host, name, irqs),
        rx_lost: lost.fold(0, u64::saturating_add),
        ..Nic::default()
    };
    nic.ask_ethtool(host);
    nic
}

/// A mask of each queue, in their order.
fn masks(
    host: &Host,
    folder: &str,
    queue: &str,
    file: &str,
) -> impl Iterator<Item = Option<CpuSet>> {
    let folder = format!("{folder}/queues");
    numbered(host, &folder, queue)
        .into_iter()
        .map(move |(_, name)| CpuSet::from_mask(&host.text(format!("{folder}/{name}/{file}"))?))
}

impl Nic {
    fn ask_ethtool(&mut self, host: &Host) {
        let mut errors = Vec::new();
        let mut answers = 0;
        for option in ["-g", "-l", "-c", "-k"] {
            let text = match host.ethtool(&[option, &self.name]) {
                Ok(text) => text,
                Err(error) => {
                    let is_missing = error.kind() == ErrorKind::NotFound;
                    errors.push(error.to_string());
                    if is_missing {
                        break;
                    }
                    continue;
                }
            };
            answers += 1;
            match option {
                "-g" => {
                    self.rx_ring = ethtool::current_and_most(&text, "RX");
                    self.tx_ring = ethtool::current_and_most(&text, "TX");
                }
                "-l" => self.channels = ethtool::current_and_most(&text, "Combined"),
                "-c" => (self.adaptive_rx, self.rx_usecs) = ethtool::coalescing(&text),
                _ => self.features = ethtool::features(&text),
            }
        }
        // A card that lacks rings or queues refuses to tell of them, and answers the rest.
        self.ethtool_error = errors.into_iter().next().filter(|_| answers == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn a_virtio_card_is_read() {
        let nics = nics(&Tree::stock_vm().host());
        let [nic] = &nics[..] else { panic!("{nics:?}") };
        assert_eq!((nic.name.as_str(), nic.driver.as_deref()), ("eth0", Some("virtio_net")));
        assert_eq!((nic.speed_mbps, nic.mtu, nic.node), (None, Some(1500), None));
        assert_eq!((nic.rx_queues.len(), &nic.tx_queues[..]), (1, &[None][..]));
        assert_eq!((nic.rx_ring, nic.channels), (Some((256, 256)), Some((1, 1))));
        assert_eq!((nic.adaptive_rx, nic.rx_usecs), (None, Some(0)));
        assert_eq!(nic.features["rx-gro-hw"], Feature { on: true, fixed: true });
        assert_eq!((nic.irqs.len(), nic.ethtool_error.as_deref()), (2, None));
    }

    #[test]
    fn a_card_of_a_dedicated_host_is_read() {
        let tree = Tree::dedicated();
        tree.write("sys/class/net/eth0/statistics/rx_missed_errors", "40\n");
        tree.write("sys/class/net/eth0/statistics/rx_dropped", "2\n");
        tree.write("sys/class/net/eth0/queues/rx-7/rps_cpus", "ff00ff00\n");
        tree.link("sys/class/net/eth0/upper_bond0", "../bond0");
        let nic = &nics(&tree.host())[0];
        assert_eq!(
            (nic.node, nic.speed_mbps, nic.tx_queue_len),
            (Some(1), Some(10_000), Some(1000))
        );
        assert_eq!((nic.rx_ring, nic.tx_ring), (Some((512, 4096)), Some((512, 4096))));
        assert_eq!((nic.rx_queues.len(), nic.tx_queues.len(), nic.irqs.len()), (8, 8, 8));
        assert_eq!(nic.rx_queues[7].to_string(), "8-15,24-31");
        assert_eq!(nic.tx_queues[0], Some(CpuSet::default()));
        assert_eq!((nic.adaptive_rx, nic.channels), (Some(false), Some((8, 63))));
        assert_eq!((nic.rx_lost, &nic.uppers[..]), (42, &["bond0".to_owned()][..]));
    }

    #[test]
    fn in_a_container_the_veth_is_the_card() {
        let nics = nics(&Tree::container().host());
        let [nic] = &nics[..] else { panic!("{nics:?}") };
        assert_eq!((nic.name.as_str(), &nic.driver, nic.irqs.len()), ("eth0", &None, 0));
        assert_eq!(nic.ethtool_error.as_deref(), Some("ethtool is not installed"));
    }

    #[test]
    fn interfaces_that_are_down_or_made_of_others_are_left_out() {
        let tree = Tree::stock_vm();
        for (name, flags, state) in [
            ("lo", "0x9", "unknown"),
            ("eth1", "0x1002", "down"),
            ("docker0", "0x1003", "up"),
            ("veth7", "0x1003", "up"),
        ] {
            tree.write(&format!("sys/class/net/{name}/flags"), flags);
            tree.write(&format!("sys/class/net/{name}/operstate"), state);
        }
        tree.write("sys/class/net/bonding_masters", "\n");
        tree.write("sys/class/net/eth1/device/vendor", "0x8086");
        tree.write("sys/class/net/docker0/bridge/stp_state", "0");
        tree.write("sys/class/net/veth7/brport/state", "3");
        let found = || nics(&tree.host()).into_iter().map(|nic| nic.name).collect::<Vec<_>>();
        assert_eq!(found(), ["eth0"]);
        tree.remove("sys/class/net/eth0");
        assert_eq!(found(), Vec::<String>::new());
        tree.remove("sys/class/net/veth7/brport");
        assert_eq!(found(), ["veth7"]);
    }

    #[test]
    fn a_card_without_rings_answers_the_rest() {
        let tree = Tree::dedicated();
        tree.remove("ethtool/eth0/rx");
        let nic = &nics(&tree.host())[0];
        assert_eq!((nic.rx_ring, nic.channels), (None, Some((8, 63))));
        assert_eq!(nic.ethtool_error, None);
        tree.remove("ethtool/eth0");
        let nic = &nics(&tree.host())[0];
        let error = nic.ethtool_error.as_deref().unwrap();
        assert!(error.contains("No such device"), "{error}");
    }
}
