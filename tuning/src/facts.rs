//! Reads what matters for moving packets into plain data.

use std::fs;
use std::path::Path;

/// The host's settings. A fact that could not be read is `None`: in a container some files are
/// missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Kernel release, for example `6.12.4`.
    pub kernel: Option<String>,
    /// CPUs that are online.
    pub cpus: Option<u64>,
    /// The most that SO_RCVBUF grants, bytes (`net.core.rmem_max`).
    pub rmem_max: Option<u64>,
    /// The most that SO_SNDBUF grants, bytes (`net.core.wmem_max`).
    pub wmem_max: Option<u64>,
    /// SO_RCVBUF of a socket that asks for nothing, bytes (`net.core.rmem_default`).
    pub rmem_default: Option<u64>,
    /// Ancillary data and zero-copy bookkeeping of a socket, bytes (`net.core.optmem_max`).
    pub optmem_max: Option<u64>,
    /// Packets that wait per CPU between driver and stack (`net.core.netdev_max_backlog`).
    pub netdev_max_backlog: Option<u64>,
    /// 0: io_uring for all, 1: for a group, 2: for nobody (`kernel.io_uring_disabled`, kernels from
    /// 6.6).
    pub io_uring_disabled: Option<u64>,
}

impl Facts {
    /// Reads the facts below `root`, which is `/` but for tests.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            Some(text.trim().to_owned()).filter(|t| !t.is_empty())
        };
        let number = |path: &str| text(path)?.parse().ok();
        Self {
            kernel: text("proc/sys/kernel/osrelease"),
            cpus: text("sys/devices/system/cpu/online").and_then(|list| count_in_list(&list)),
            rmem_max: number("proc/sys/net/core/rmem_max"),
            wmem_max: number("proc/sys/net/core/wmem_max"),
            rmem_default: number("proc/sys/net/core/rmem_default"),
            optmem_max: number("proc/sys/net/core/optmem_max"),
            netdev_max_backlog: number("proc/sys/net/core/netdev_max_backlog"),
            io_uring_disabled: number("proc/sys/kernel/io_uring_disabled"),
        }
    }

    /// Every fact as name and value, in a fixed order.
    pub fn rows(&self) -> Vec<(&'static str, Option<String>)> {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        vec![
            ("kernel", self.kernel.clone()),
            ("cpus", number(self.cpus)),
            ("net.core.rmem_max", number(self.rmem_max)),
            ("net.core.wmem_max", number(self.wmem_max)),
            ("net.core.rmem_default", number(self.rmem_default)),
            ("net.core.optmem_max", number(self.optmem_max)),
            ("net.core.netdev_max_backlog", number(self.netdev_max_backlog)),
            ("kernel.io_uring_disabled", number(self.io_uring_disabled)),
        ]
    }
}

/// How many numbers a kernel list such as `0-3,8` holds; `None` when it is no such list.
fn count_in_list(list: &str) -> Option<u64> {
    let mut count = 0_u64;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists_are_counted() {
        assert_eq!(count_in_list("0"), Some(1));
        assert_eq!(count_in_list("0-3,8,10-11"), Some(7));
        for bad in ["", "a", "3-1", "0-", "0-18446744073709551615"] {
            assert_eq!(count_in_list(bad), None, "{bad:?}");
        }
    }
}
