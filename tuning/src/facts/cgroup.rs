//! Limits of a control group: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1.

use serde::Serialize;

use super::process;
use crate::cpu_set::CpuSet;
use crate::host::Host;

/// A control group, of version 1 or 2; the least of all its ancestors counts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cgroup {
    /// CPUs' worth of time; `None` without a limit.
    pub cpu_quota: Option<f64>,
    /// Bytes; `None` without a limit.
    pub memory_bytes_max: Option<u64>,
    /// CPUs it may use.
    pub cpus: Option<CpuSet>,
}

/// Version 1 writes the largest number of whole pages where there is no limit; no host has that much.
const MEMORY_BYTES_UNLIMITED: u64 = 1 << 60;

/// More levels than anybody nests.
const LEVELS_MAX: usize = 64;

/// A mounted hierarchy.
#[derive(Debug)]
struct Mount {
    /// The group that is seen at `point`.
    root: String,
    point: String,
    /// Controllers of a hierarchy of version 1; `None` is version 2.
    controllers: Option<String>,
}

pub(super) fn cgroup(host: &Host, pid: u32) -> Cgroup {
    let mut cgroup = Cgroup::default();
    let mounts = mounts(host);
    for line in host.lines(process::folder(pid) + "/cgroup") {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let ours = |mount: &&Mount| match &mount.controllers {
            None => controllers.is_empty(),
            Some(mounted) => controllers.split(',').any(|c| mounted.split(',').any(|m| m == c)),
        };
        if let Some(mount) = mounts.iter().find(ours) {
            cgroup.narrow(host, &folders(mount, path), mount.controllers.is_none());
        }
    }
    cgroup
}

/// Hierarchies as this process sees them, since it reads the files.
fn mounts(host: &Host) -> Vec<Mount> {
    let mounts: Vec<_> = host.lines("/proc/self/mountinfo").filter_map(|l| mount(&l)).collect();
    if !mounts.is_empty() || host.text("/sys/fs/cgroup/cgroup.controllers").is_none() {
        return mounts;
    }
    vec![Mount { root: "/".into(), point: "/sys/fs/cgroup".into(), controllers: None }]
}

/// Reads a line of mountinfo: `31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw`, see
/// proc_pid_mountinfo(5). `None` for other file systems.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?.to_owned(), place.next()?.to_owned());
    let mut kind = kind.split(' ');
    let controllers = match kind.next()? {
        "cgroup2" => None,
        // With its options, which name the controllers.
        "cgroup" => Some(kind.nth(1)?.to_owned()),
        _ => return None,
    };
    Some(Mount { root, point, controllers })
}

/// Folders of the group at `path` and of its ancestors, as far as they are mounted.
fn folders(mount: &Mount, path: &str) -> Vec<String> {
    // A path that is not below what is mounted belongs to another namespace; the mount is what can be seen of it.
    let below = if mount.root == "/" { Some(path) } else { path.strip_prefix(&mount.root) };
    let below = below.filter(|path| !path.contains("..")).unwrap_or("").trim_matches('/');
    let mut folders = Vec::new();
    let mut rest = below;
    while !rest.is_empty() && folders.len() < LEVELS_MAX {
        folders.push(format!("{}/{rest}", mount.point));
        rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    folders.push(mount.point.clone());
    folders
}

impl Cgroup {
    /// Takes over what `folders`, the lowest first, set as limits, where that is less.
    fn narrow(&mut self, host: &Host, folders: &[String], is_version_2: bool) {
        for folder in folders {
            let text = |name: &str| host.text(format!("{folder}/{name}"));
            let (quota, memory) = if is_version_2 {
                (text("cpu.max").and_then(|max| quota(&max)), text("memory.max"))
            } else {
                let quota = text("cpu.cfs_quota_us")
                    .and_then(|cfs| quota(&format!("{cfs} {}", text("cpu.cfs_period_us")?)));
                (quota, text("memory.limit_in_bytes"))
            };
            let memory = memory.and_then(|bytes| bytes.parse().ok());
            let memory = memory.filter(|bytes| *bytes < MEMORY_BYTES_UNLIMITED);
            self.cpu_quota = self.cpu_quota.into_iter().chain(quota).reduce(f64::min);
            self.memory_bytes_max = self.memory_bytes_max.into_iter().chain(memory).min();
        }
        let names: &[&str] = match is_version_2 {
            true => &["cpuset.cpus.effective"],
            false => &["cpuset.effective_cpus", "cpuset.cpus"],
        };
        // The lowest group has no more than those above it.
        let mut files = folders.iter().flat_map(|f| names.iter().map(move |n| format!("{f}/{n}")));
        let cpus = files.find_map(|file| CpuSet::from_list(&host.text(file)?));
        self.cpus = match (self.cpus.take(), cpus) {
            (Some(one), Some(other)) => Some(CpuSet(&one.0 & &other.0)),
            (one, other) => one.or(other),
        };
    }
}

/// CPUs' worth of `quota period`, as in `200000 100000`; `None` for `max`, for -1, and for what is no quota.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_least_of_all_ancestors_counts() {
        let tree = Tree::of(&[
            ("proc/self/cgroup", "0::/system.slice/sluice.service\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/cpuset.cpus.effective", "0-31\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "2-5\n"),
            ("sys/fs/cgroup/system.slice/sluice.service/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/system.slice/sluice.service/memory.max", "1073741824\n"),
        ]);
        let cgroup = cgroup(&tree.host(), 0);
        assert_eq!(cgroup.cpu_quota, Some(1.5));
        assert_eq!(cgroup.memory_bytes_max, Some(1 << 30));
        assert_eq!(cgroup.cpus.unwrap().to_string(), "2-5");
    }

    #[test]
    fn without_limits_there_are_none() {
        let cgroup = cgroup(&Tree::stock_vm().host(), 0);
        assert_eq!((cgroup.cpu_quota, cgroup.memory_bytes_max, cgroup.cpus), (None, None, None));
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each_controller() {
        let tree = Tree::of(&[
            (
                "proc/9/cgroup",
                "4:memory:/app\n3:cpuset:/\n2:cpu,cpuacct:/app\n1:name=systemd:/\n0::/\n",
            ),
            (
                "proc/self/mountinfo",
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/cpuset/cpuset.cpus", "0-7\n"),
            ("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-3\n"),
        ]);
        let cgroup = cgroup(&tree.host(), 9);
        assert_eq!((cgroup.cpu_quota, cgroup.memory_bytes_max), (Some(0.5), Some(1 << 28)));
        assert_eq!(cgroup.cpus.unwrap().to_string(), "0-3");
    }

    #[test]
    fn what_a_container_sees_of_its_group_is_what_is_mounted() {
        let limits = cgroup(&Tree::container().host(), 0);
        assert_eq!((limits.cpu_quota, limits.memory_bytes_max), (Some(2.0), Some(4 << 30)));

        // The path and the mount both begin at the group that the host calls /docker/7f.
        let mount =
            mount("9 8 0:2 /docker/7f /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu").unwrap();
        assert_eq!(folders(&mount, "/docker/7f"), ["/sys/fs/cgroup/cpu"]);
        assert_eq!(folders(&mount, "/docker/7f/app").len(), 2);
        for elsewhere in ["/", "/../other", "/kubepods/pod1"] {
            assert_eq!(folders(&mount, elsewhere), ["/sys/fs/cgroup/cpu"], "{elsewhere}");
        }
    }

    #[test]
    fn what_is_no_quota_is_none() {
        for text in ["max 100000", "-1 100000", "0 100000", "100000 0", "100000", "", "x y"] {
            assert_eq!(quota(text), None, "{text:?}");
        }
    }
}
