//! Signs on this host that an address belongs to a container or to a bridge for containers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// What holds an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Device {
    /// A bridge that Docker, Podman, libvirt and the like make for their guests, by its name. Other bridges may be how a host has
    /// its own address.
    Bridge,
    /// One end of a pair whose other end is in another network namespace, as a container has it.
    Pair,
    /// Anything else.
    Other,
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Host {
    /// What runs this container, if it is one that says so.
    pub(super) container: Option<&'static str>,
    /// Networks that are at hand without a gateway: device, address, mask.
    networks: Vec<(String, Ipv4Addr, Ipv4Addr)>,
    pairs: Vec<String>,
}

/// How names of such bridges begin.
const BRIDGE_NAMES: [&str; 8] =
    ["docker", "br-", "podman", "cni", "virbr", "lxcbr", "lxdbr", "incusbr"];

/// Files that container engines put into what they run.
const CONTAINER_MARKS: [(&str, &str); 3] = [
    (".dockerenv", "Docker"),
    ("run/.containerenv", "Podman"),
    ("var/run/secrets/kubernetes.io", "Kubernetes"),
];

impl Host {
    /// Reads below `root`, which is `/` but for tests. What cannot be read is left out.
    pub(super) fn read(root: &Path) -> Self {
        let mark = CONTAINER_MARKS.iter().find(|(path, _)| root.join(path).exists());
        let routes = fs::read_to_string(root.join("proc/net/route")).unwrap_or_default();
        let networks = parse_routes(&routes);
        let devices = networks.iter().map(|(device, ..)| device);
        let folder = |device: &str| root.join("sys/class/net").join(device);
        let number = |device: &str, file: &str| {
            fs::read_to_string(folder(device).join(file)).ok()?.trim().parse::<u32>().ok()
        };
        let here: Vec<u32> = fs::read_dir(root.join("sys/class/net"))
            .into_iter()
            .flatten()
            .filter_map(|entry| number(entry.ok()?.file_name().to_str()?, "ifindex"))
            .collect();
        let is_vlan = |device: &str| root.join("proc/net/vlan").join(device).exists();
        let is_pair = |device: &&String| {
            // It is this device's own for one without another end, and that of the device below for a VLAN and the like.
            let other = number(device, "iflink");
            other.is_some_and(|other| !here.contains(&other)) && !is_vlan(device)
        };
        Self {
            container: mark.map(|(_, name)| *name),
            pairs: devices.filter(is_pair).cloned().collect(),
            networks,
        }
    }

    /// The device in whose network an address is; the smallest network counts.
    pub(super) fn device_of(&self, ip: IpAddr) -> Option<(&str, Device)> {
        let IpAddr::V4(ip) = ip.to_canonical() else { return None };
        let networks = self.networks.iter().filter(|(_, network, mask)| ip & *mask == *network);
        let (device, ..) = networks.max_by_key(|(_, _, mask)| *mask)?;
        let kind = match () {
            () if BRIDGE_NAMES.iter().any(|name| device.starts_with(name)) => Device::Bridge,
            () if self.pairs.contains(device) => Device::Pair,
            () => Device::Other,
        };
        Some((device, kind))
    }
}

#[cfg(test)]
impl Host {
    /// A host with networks as `DEVICE NETWORK/BITS`; an `@` behind the device makes it one end of a pair.
    pub(super) fn with(container: Option<&'static str>, networks: &[&str]) -> Self {
        let mut host = Self { container, ..Self::default() };
        for text in networks {
            let (device, network) = text.split_once(' ').expect("two words");
            let (network, bits) = network.split_once('/').expect("a network");
            let bits: u32 = bits.parse().expect("a number");
            let name = device.trim_end_matches('@').to_owned();
            if device.ends_with('@') {
                host.pairs.push(name.clone());
            }
            let mask = Ipv4Addr::from(u32::MAX << (32 - bits));
            host.networks.push((name, network.parse().expect("an address"), mask));
        }
        host
    }
}

/// Lines of `/proc/net/route` without a gateway. Addresses stand there as the kernel has them in memory, read as one number.
fn parse_routes(table: &str) -> Vec<(String, Ipv4Addr, Ipv4Addr)> {
    let address = |text: &str| {
        u32::from_str_radix(text, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()))
    };
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [device, network, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let (network, mask) = (address(network)?, address(mask)?);
        let is_direct = address(gateway)?.is_unspecified() && !mask.is_unspecified();
        is_direct.then(|| (device.to_owned(), network, mask))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A number as `/proc/net/route` has it on this machine.
    fn hex(text: &str) -> String {
        let address: Ipv4Addr = text.parse().expect("an address");
        format!("{:08X}", u32::from_ne_bytes(address.octets()))
    }

    /// A tree with a default route and networks at `eth0`, `docker0` and `br0`.
    fn tree(name: &str) -> std::path::PathBuf {
        let unique = format!("doctor-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(unique);
        let _ = fs::remove_dir_all(&root);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            fs::write(path, text).expect("writable");
        };
        let line = |device: &str, network: &str, gateway: &str, mask: &str| {
            let (network, gateway, mask) = (hex(network), hex(gateway), hex(mask));
            format!("{device}\t{network}\t{gateway}\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let routes = [
            header.to_owned(),
            line("eth0", "0.0.0.0", "10.1.0.1", "0.0.0.0"),
            line("eth0", "10.1.0.0", "0.0.0.0", "255.255.0.0"),
            line("docker0", "172.17.0.0", "0.0.0.0", "255.255.0.0"),
            line("br0", "10.2.0.0", "0.0.0.0", "255.255.0.0"),
            line("macvlan0", "10.3.0.0", "0.0.0.0", "255.255.0.0"),
            line("vlan0", "10.4.0.0", "0.0.0.0", "255.255.0.0"),
        ];
        write("proc/net/route", &routes.concat());
        let devices = [
            ("eth0", "2", "7"),
            ("docker0", "3", "3"),
            ("macvlan0", "4", "3"),
            ("vlan0", "5", "9"),
        ];
        write("proc/net/vlan/vlan0", "");
        for (device, own, other) in devices {
            write(&format!("sys/class/net/{device}/ifindex"), own);
            write(&format!("sys/class/net/{device}/iflink"), other);
        }
        root
    }

    #[test]
    fn devices_are_found_by_their_networks() {
        let root = tree("devices");
        let host = Host::read(&root);
        assert_eq!(host.device_of(ip("10.1.2.3")), Some(("eth0", Device::Pair)));
        assert_eq!(host.device_of(ip("172.17.0.1")), Some(("docker0", Device::Bridge)));
        assert_eq!(host.device_of(ip("10.2.0.1")), Some(("br0", Device::Other)));
        assert_eq!(host.device_of(ip("10.3.0.1")), Some(("macvlan0", Device::Other)));
        assert_eq!(host.device_of(ip("10.4.0.1")), Some(("vlan0", Device::Other)));
        assert_eq!(host.device_of(ip("8.8.8.8")), None, "that is behind a gateway");
        assert_eq!(host.device_of(ip("2001:db8::1")), None);
        assert_eq!(host.container, None);
        fs::write(root.join(".dockerenv"), "").expect("writable");
        assert_eq!(Host::read(&root).container, Some("Docker"));
        fs::remove_dir_all(root).expect("it is there");
    }

    #[test]
    fn a_host_without_these_files_gives_nothing() {
        assert_eq!(Host::read(Path::new("/nonexistent")), Host::default());
        assert!(parse_routes("a b c\nx 0 0 0 0 0 0 zz\n\u{0}").is_empty());
    }
}
