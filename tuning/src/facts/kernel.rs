//! The kernel, and its settings below /proc/sys.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::Host;

/// The kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kernel {
    /// As it calls itself: `6.12.4-amd64`.
    pub release: Option<String>,
    /// The three numbers of it.
    pub version: Option<(u32, u32, u32)>,
}

/// Folders of which settings are read, and which: names that begin so.
const SETTINGS: &[(&str, &[&str])] = &[
    ("net/core", &[""]),
    ("net/ipv4", &["udp_"]),
    (
        "net/netfilter",
        &[
            "nf_conntrack_max",
            "nf_conntrack_count",
            "nf_conntrack_buckets",
            "nf_conntrack_udp_timeout",
        ],
    ),
    ("kernel", &["io_uring_disabled", "io_uring_group", "perf_event_paranoid"]),
    ("fs", &["nr_open", "file-max"]),
    ("vm", &["max_map_count"]),
];

pub(super) fn kernel(host: &Host) -> Kernel {
    let release = host.text("/proc/sys/kernel/osrelease");
    let version = release.as_deref().and_then(version);
    Kernel { release, version }
}

/// The three numbers that a release begins with; a missing third is 0.
fn version(release: &str) -> Option<(u32, u32, u32)> {
    let mut parts = release.splitn(3, '.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Settings by dotted name, white space made single spaces.
pub(super) fn sysctls(host: &Host) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    for (folder, beginnings) in SETTINGS {
        let path = format!("/proc/sys/{folder}");
        for name in host.names(&path) {
            if !beginnings.iter().any(|beginning| name.starts_with(beginning)) {
                continue;
            }
            if let Some(text) = host.text(format!("{path}/{name}")) {
                let words: Vec<_> = text.split_whitespace().collect();
                sysctls.insert(format!("{}.{name}", folder.replace('/', ".")), words.join(" "));
            }
        }
    }
    sysctls
}

/// Memory of the host, bytes.
pub(super) fn memory_bytes(host: &Host) -> Option<u64> {
    let total = host.lines("/proc/meminfo").find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok()
    })?;
    total.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn releases_of_distributions_have_three_numbers() {
        for (release, expected) in [
            ("6.12.48+deb13-amd64", Some((6, 12, 48))),
            ("5.15.0-1051-aws", Some((5, 15, 0))),
            ("6.18-rc3", Some((6, 18, 0))),
            ("4.18.0-553.el8_10.x86_64", Some((4, 18, 0))),
            ("6", None),
            ("linux", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn settings_are_read_by_name_with_single_spaces() {
        let tree = Tree::stock_vm();
        tree.write("proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456\n");
        tree.write("proc/sys/kernel/hostname", "host\n");
        let sysctls = sysctls(&tree.host());
        assert_eq!(sysctls["net.core.rmem_max"], "212992");
        assert_eq!(sysctls["net.ipv4.udp_mem"], "187638 250187 375276");
        assert_eq!(sysctls["kernel.io_uring_group"], "-1");
        assert!(!sysctls.contains_key("net.ipv4.tcp_rmem"));
        assert!(!sysctls.contains_key("kernel.hostname"));
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory_bytes(&Tree::stock_vm().host()), Some(4_024_692 * 1024));
        assert_eq!(memory_bytes(&Tree::of(&[("proc/meminfo", "MemTotal: much kB")]).host()), None);
    }
}
