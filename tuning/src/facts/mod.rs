//! What is read from the host, as plain data. A fact that could not be read is `None` or empty: in a container some files are missing.

mod cgroup;
mod cpu;
mod ethtool;
mod irq;
mod kernel;
mod nic;
mod process;
mod surroundings;

use std::collections::BTreeMap;

use serde::Serialize;

pub use cgroup::Cgroup;
pub use cpu::{Cpu, IdleState};
pub use ethtool::Feature;
pub use irq::Irq;
pub use kernel::Kernel;
pub use nic::Nic;
pub use process::Process;

use crate::host::Host;

/// All that rules look at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Identity of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// Settings below /proc/sys by dotted name, white space made single spaces: all of `net.core`, `net.ipv4.udp_*`,
    /// `net.netfilter.nf_conntrack_{max,count,buckets,udp_timeout,udp_timeout_stream}`, `kernel.io_uring_disabled`,
    /// `kernel.io_uring_group`, `kernel.perf_event_paranoid`, `fs.nr_open`, `fs.file-max`, `vm.max_map_count`.
    pub sysctls: BTreeMap<String, String>,
    /// Memory of the host, bytes.
    pub memory_bytes: Option<u64>,
    /// The process looked at.
    pub process: Process,
    /// Limits of the control group that process is in.
    pub cgroup: Cgroup,
    /// CPUs that are online.
    pub cpus: Vec<Cpu>,
    /// Whether cores run two threads (`/sys/devices/system/cpu/smt/active`).
    pub smt: Option<bool>,
    /// Idle states of the first CPU, shallowest first.
    pub idle_states: Vec<IdleState>,
    /// Network cards that are up; where there is none, as in a container, interfaces that are up but the loopback and bridges.
    pub nics: Vec<Nic>,
    /// Whether a process called irqbalance runs.
    pub irqbalance: bool,
    /// What kind of container this is in: `docker`, `podman`, `kubernetes`, `lxc`, `systemd-nspawn`, `container`.
    pub container: Option<String>,
    /// The hypervisor: `kvm`, `amazon`, `vmware`…, or `unknown` of a machine that is virtual and says no more. `None` on bare
    /// metal, or where nothing tells.
    pub hypervisor: Option<String>,
    /// Whether this is the host's first network namespace, as far as one can see: `net.core.rmem_max` is there and for writing by
    /// its mode. `None` where /proc/sys cannot be seen.
    pub network_namespace: Option<bool>,
}

impl Facts {
    /// Reads everything of `host`. `pid` is the process whose limits count; 0 for this one.
    pub fn read(host: &Host, pid: u32) -> Self {
        let cpus = cpu::cpus(host);
        let first_cpu = cpus.first().map_or(0, |cpu| cpu.id);
        Self {
            boot_id: host.text("/proc/sys/kernel/random/boot_id"),
            kernel: kernel::kernel(host),
            sysctls: kernel::sysctls(host),
            memory_bytes: kernel::memory_bytes(host),
            process: process::process(host, pid),
            cgroup: cgroup::cgroup(host, pid),
            cpus,
            smt: cpu::smt(host),
            idle_states: cpu::idle_states(host, first_cpu),
            nics: nic::nics(host),
            irqbalance: surroundings::irqbalance(host),
            container: surroundings::container(host),
            hypervisor: surroundings::hypervisor(host),
            network_namespace: surroundings::is_first_network_namespace(host),
        }
    }
}

/// The names in a folder that are `beginning` and a number, such as `rx-0`, in the order of the numbers.
fn numbered(host: &Host, folder: &str, beginning: &str) -> Vec<(u32, String)> {
    let number = |name: String| Some((name.strip_prefix(beginning)?.parse().ok()?, name));
    let mut names: Vec<_> = host.names(folder).into_iter().filter_map(number).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn a_dedicated_host_is_read_whole() {
        let facts = Facts::read(&Tree::dedicated().host(), 0);
        assert_eq!(facts.kernel.version, Some((6, 12, 48)));
        assert!(facts.boot_id.is_some());
        assert_eq!(facts.sysctls["net.netfilter.nf_conntrack_max"], "262144");
        assert_eq!((facts.cpus.len(), facts.nics.len(), facts.idle_states.len()), (32, 1, 4));
        assert_eq!(facts.process.open_files, Some((1024, 524_288)));
        assert_eq!((facts.smt, facts.irqbalance), (Some(true), true));
        assert_eq!((facts.container, facts.hypervisor), (None, None));
        assert_eq!(facts.network_namespace, Some(true));
    }

    #[test]
    fn what_a_container_hides_is_unknown() {
        let facts = Facts::read(&Tree::container().host(), 0);
        assert_eq!(facts.container.as_deref(), Some("docker"));
        assert_eq!(facts.network_namespace, Some(false));
        assert!(!facts.sysctls.contains_key("net.core.netdev_max_backlog"));
        assert_eq!((facts.cgroup.cpu_quota, facts.smt), (Some(2.0), None));
    }

    #[test]
    fn a_host_without_any_file_has_no_facts() {
        let facts = Facts::read(&Tree::of::<&str, &str>(&[]).host(), 0);
        let nothing = serde_json::to_value(Facts::default()).unwrap();
        assert_eq!(serde_json::to_value(facts).unwrap(), nothing);
    }

    #[test]
    fn what_is_no_text_and_what_is_endless_does_no_harm() {
        let tree = Tree::of(&[
            ("proc/sys/net/core/rmem_max", "\u{fffd}\0\0"),
            ("proc/meminfo", "MemTotal:"),
        ]);
        tree.link("proc/sys/net/core/wmem_max", "/dev/zero");
        tree.link("proc/interrupts", "/dev/zero");
        tree.link("sys/devices/system/cpu/online", "/dev/null");
        let facts = Facts::read(&tree.host(), 0);
        assert_eq!(facts.sysctls["net.core.wmem_max"].len(), 1 << 20);
        assert_eq!((facts.memory_bytes, facts.cpus.len()), (None, 0));
    }
}
