//! Interrupts of network cards: the kernel's Documentation/core-api/irq/irq-affinity.rst, proc_interrupts(5).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cpu_set::CpuSet;
use crate::host::Host;

/// An interrupt of a card.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// As /proc/interrupts names it: `eth0-rx-0`.
    pub name: String,
    /// CPUs that may get it (`smp_affinity_list`).
    pub affinity: CpuSet,
    /// CPUs that do get it (`effective_affinity_list`), or the same.
    pub effective: CpuSet,
}

/// Beginnings and parts of names of interrupts that carry no packets.
const WITHOUT_PACKETS: &[&str] =
    &["config", "control", "mgmnt", "misc", "async", "event", "fdir", "pages", "cmd"];

/// Names of all interrupts that somebody asked for, by number.
pub(super) fn names(host: &Host) -> BTreeMap<u32, String> {
    host.lines("/proc/interrupts").filter_map(|line| named(&line)).collect()
}

/// Reads a line of /proc/interrupts: `38:  0  68093  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0`.
fn named(line: &str) -> Option<(u32, String)> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let name = rest.split_whitespace().next_back()?;
    // Without a name the line ends with how the interrupt is triggered, or with a count.
    let last_word = name.rsplit('-').next().unwrap_or_default().to_ascii_lowercase();
    let is_trigger = matches!(last_word.as_str(), "edge" | "level" | "fasteoi") || name == "-event";
    let is_name = !is_trigger && name.parse::<u64>().is_err();
    is_name.then(|| (number, name.to_owned()))
}

/// Interrupts of the queues of `interface`, by number. `names` are those of the whole host.
pub(super) fn of_interface(
    host: &Host,
    interface: &str,
    names: &BTreeMap<u32, String>,
) -> Vec<Irq> {
    let mut numbers = numbers(host, interface, names);
    let name = |number: &u32| names.get(number).map_or("", String::as_str);
    // What nobody asked for has no name. Where no name can be read, all are kept.
    for keep in [
        &(|name: &str| !name.is_empty()) as &dyn Fn(&str) -> bool,
        // Several interfaces may share a device.
        &|name| belongs(name, interface),
        &|name| carries_packets(name, interface),
    ] {
        if numbers.iter().any(|number| keep(name(number))) {
            numbers.retain(|number| keep(name(number)));
        }
    }
    numbers.into_iter().map(|number| irq(host, number, name(&number))).collect()
}

/// Numbers of the interrupts of the interface's device, ascending.
fn numbers(host: &Host, interface: &str, names: &BTreeMap<u32, String>) -> Vec<u32> {
    let device = format!("/sys/class/net/{interface}/device");
    let device_name = host.link_name(&device).unwrap_or_default();
    // A virtio device is a child of the PCI device that has the interrupts.
    let folders = [format!("{device}/msi_irqs"), format!("{device}/../msi_irqs")];
    let folders = &folders[..if device_name.starts_with("virtio") { 2 } else { 1 }];
    let numbers = folders.iter().flat_map(|folder| host.names(folder));
    let mut numbers: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
    if numbers.is_empty() {
        // Not on PCI, or without message-signalled interrupts.
        let own = |name: &str| {
            belongs(name, interface) || (!device_name.is_empty() && belongs(name, &device_name))
        };
        let line: Option<u32> = host.number(format!("{device}/irq"));
        let named = names.iter().filter(|(number, name)| own(name) || line == Some(**number));
        numbers = named.map(|(number, _)| *number).collect();
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Whether `name` has `part` in it as a whole word: `ice-eth1-TxRx-0` has `eth1`, `eth10-TxRx-0` has not.
fn belongs(name: &str, part: &str) -> bool {
    let is_edge = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    name.match_indices(part).any(|(start, _)| {
        let (before, after) = (&name[..start], &name[start + part.len()..]);
        is_edge(before.chars().next_back()) && is_edge(after.chars().next())
    })
}

fn carries_packets(name: &str, interface: &str) -> bool {
    let own = name.split('@').next().unwrap_or_default();
    own != interface
        && !WITHOUT_PACKETS.iter().any(|part| own.replace(interface, "").contains(part))
}

fn irq(host: &Host, number: u32, name: &str) -> Irq {
    let list = |file: &str| {
        let set = CpuSet::from_list(&host.text(format!("/proc/irq/{number}/{file}"))?)?;
        Some(set).filter(|set| !set.is_empty())
    };
    let affinity = list("smp_affinity_list").unwrap_or_default();
    let effective = list("effective_affinity_list").unwrap_or_else(|| affinity.clone());
    Irq { number, name: name.to_owned(), affinity, effective }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn names_of(irqs: &[Irq]) -> Vec<&str> {
        irqs.iter().map(|irq| irq.name.as_str()).collect()
    }

    fn read(tree: &Tree, interface: &str) -> Vec<Irq> {
        of_interface(&tree.host(), interface, &names(&tree.host()))
    }

    #[test]
    fn lines_of_several_machines_are_read() {
        for (line, expected) in [
            (
                " 38:          0      68093 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0",
                Some((38, "virtio2-input.0")),
            ),
            ("  71:  12  0   PCI-MSI 34078721-edge      eth0-TxRx-0", Some((71, "eth0-TxRx-0"))),
            (
                "112:   9  0  ITS-MSI 1048577 Edge      mlx5_comp0@pci:0000:41:00.0",
                Some((112, "mlx5_comp0@pci:0000:41:00.0")),
            ),
            (" 16:  0  0  IO-APIC  16-fasteoi   uhci_hcd:usb5, eth1", Some((16, "eth1"))),
            (" 67:          0        163  PCI-MSIX-0000:27:00.0   2-edge    ", None),
            ("113:   9  0  ITS-MSI 1048578 Edge", None),
            ("NMI:          0          0   Non-maskable interrupts", None),
            ("ERR:          0", None),
            ("  9:", None),
            ("           CPU0       CPU1       ", None),
        ] {
            let expected = expected.map(|(number, name)| (number, name.to_owned()));
            assert_eq!(named(line), expected, "{line}");
        }
    }

    #[test]
    fn a_virtio_card_has_the_interrupts_of_its_parent() {
        let irqs = read(&Tree::stock_vm(), "eth0");
        assert_eq!(names_of(&irqs), ["virtio2-input.0", "virtio2-output.0"]);
        assert_eq!((irqs[0].number, irqs[0].affinity.to_string().as_str()), (38, "0,1"));
        assert_eq!(irqs[0].effective.to_string(), "1");
    }

    #[test]
    fn the_interrupt_of_the_link_carries_no_packets() {
        let irqs = read(&Tree::dedicated(), "eth0");
        assert_eq!(irqs.len(), 8);
        assert_eq!(
            (irqs[7].name.as_str(), irqs[7].effective.to_string()),
            ("eth0-TxRx-7", "15".into())
        );
        for (name, carries) in [
            ("ena-mgmnt@pci:0000:00:05.0", false),
            ("eth0-Tx-Rx-0", true),
            ("mlx5_async0@pci:0000:41:00.0", false),
            ("mlx5_comp3@pci:0000:41:00.0", true),
            ("i40e-0001:00:0f.0:misc", false),
            ("gve-ntfy-blk0@pci:0000:00:04.0", true),
            ("virtio0-virtqueues", true),
            ("eth0-event-2", false),
        ] {
            assert_eq!(carries_packets(name, "eth0"), carries, "{name}");
        }
        assert!(carries_packets("misc0-TxRx-0", "misc0"));
    }

    #[test]
    fn without_a_list_of_its_device_a_card_is_known_by_name() {
        let interrupts =
            "  9:  1  2  GICv3  74 Edge  virtio1\n 10:  1  2  GICv3  75 Edge  virtio10\n";
        let tree =
            Tree::of(&[("proc/interrupts", interrupts), ("proc/irq/9/smp_affinity_list", "0-3")]);
        tree.link("sys/class/net/eth0/device", "../../../virtio1");
        let irqs = read(&tree, "eth0");
        assert_eq!(names_of(&irqs), ["virtio1"]);
        assert_eq!(irqs[0].effective.to_string(), "0-3");

        let xen =
            " 80:  1  2  xen-dyn -event  eth0-q0-rx\n 81:  1  2  xen-dyn -event  eth0-q0-tx\n";
        let tree = Tree::of(&[("proc/interrupts", xen), ("sys/class/net/eth0/type", "1")]);
        assert_eq!(names_of(&read(&tree, "eth0")), ["eth0-q0-rx", "eth0-q0-tx"]);
    }

    #[test]
    fn a_card_of_two_ports_has_its_own_interrupts_alone() {
        let interrupts = " 50: 0 0 PCI-MSI 1-edge eth0-rx-0\n 51: 0 0 PCI-MSI 2-edge eth1-rx-0\n";
        let tree = Tree::of(&[
            ("proc/interrupts", interrupts),
            ("sys/class/net/eth1/device/msi_irqs/50", "msi"),
            ("sys/class/net/eth1/device/msi_irqs/51", "msi"),
            ("sys/class/net/eth1/device/msi_irqs/52", "msi"),
        ]);
        assert_eq!(names_of(&read(&tree, "eth1")), ["eth1-rx-0"]);
    }

    #[test]
    fn where_names_cannot_be_read_all_are_kept() {
        let tree = Tree::of(&[("sys/class/net/eth1/device/msi_irqs/50", "msi")]);
        let irqs = read(&tree, "eth1");
        assert_eq!((irqs.len(), irqs[0].number, irqs[0].name.as_str()), (1, 50, ""));
        assert!(irqs[0].affinity.is_empty());
    }
}
