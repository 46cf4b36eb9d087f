//! What is read from the host, as plain data. A fact that could not be read is `None` or empty: in a container some files are missing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cpu_set::CpuSet;

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
    /// Network cards and interfaces but the loopback, those that are up.
    pub nics: Vec<Nic>,
    /// Whether a process called irqbalance runs.
    pub irqbalance: bool,
    /// What kind of container this is in: `docker`, `podman`, `kubernetes`, `lxc`, `systemd-nspawn`, `container`.
    pub container: Option<String>,
    /// The hypervisor: `kvm`, `amazon`, `vmware`… `None` on bare metal or where unknown.
    pub hypervisor: Option<String>,
    /// Whether this is the host's first network namespace, as far as one can see (`net.core.rmem_max` is writable by its mode, or missing).
    pub network_namespace: Option<bool>,
}

/// The kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kernel {
    /// As it calls itself: `6.12.4-amd64`.
    pub release: Option<String>,
    /// The three numbers of it.
    pub version: Option<(u32, u32, u32)>,
}

/// A process's limits and powers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// Its number; 0 stands for this one.
    pub pid: u32,
    /// Open files, soft and hard. `u64::MAX` is unlimited.
    pub open_files: Option<(u64, u64)>,
    /// Locked memory, bytes, likewise.
    pub locked_memory_bytes: Option<(u64, u64)>,
    /// Effective capabilities, one bit each (`CapEff`).
    pub capabilities: Option<u64>,
    /// 0 none, 1 strict, 2 filtered.
    pub seccomp: Option<u32>,
    /// CPUs it may use.
    pub cpus_allowed: Option<CpuSet>,
}

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

/// A hardware thread.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// All threads of its core, itself too.
    pub siblings: CpuSet,
    /// Its socket.
    pub package: Option<u32>,
    /// Its NUMA node.
    pub node: Option<u32>,
    /// `performance`, `powersave`, `schedutil`…; `None` where the frequency is not ours to govern.
    pub governor: Option<String>,
    /// Which governors there are.
    pub governors: Vec<String>,
}

/// A way of sleeping.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IdleState {
    /// `C1`, `C6`, `POLL`.
    pub name: String,
    /// Time to wake from it, microseconds.
    pub exit_latency_us: u64,
    /// Whether somebody switched it off.
    pub disabled: bool,
}

/// A network interface.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its driver; `None` for those without a device: bridges, veth.
    pub driver: Option<String>,
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

/// An offload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Feature {
    /// Whether it is on.
    pub on: bool,
    /// Whether it cannot be changed.
    pub fixed: bool,
}

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

impl Facts {
    /// Reads everything of `host`. `pid` is the process whose limits count; 0 for this one.
    pub fn read(_host: &crate::host::Host, _pid: u32) -> Self {
        unimplemented!()
    }
}
