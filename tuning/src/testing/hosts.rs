//! Ready-made hosts.

use super::Tree;

/// Settings as Debian 13 leaves them.
const STOCK: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.48+deb13-amd64\n"),
    ("proc/sys/kernel/random/boot_id", "af7ff74e-3ad3-46b0-bff3-b74c72de7a3a\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/kernel/io_uring_group", "-1\n"),
    ("proc/sys/kernel/perf_event_paranoid", "3\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/net/core/busy_poll", "0\n"),
    ("proc/sys/net/core/busy_read", "0\n"),
    ("proc/sys/net/core/default_qdisc", "pfifo_fast\n"),
    ("proc/sys/net/core/dev_weight", "64\n"),
    ("proc/sys/net/core/netdev_budget", "300\n"),
    ("proc/sys/net/core/netdev_budget_usecs", "8000\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/core/optmem_max", "131072\n"),
    ("proc/sys/net/core/rmem_default", "212992\n"),
    ("proc/sys/net/core/rmem_max", "212992\n"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/core/wmem_default", "212992\n"),
    ("proc/sys/net/core/wmem_max", "212992\n"),
    ("proc/sys/net/ipv4/udp_early_demux", "1\n"),
    ("proc/sys/net/ipv4/udp_l3mdev_accept", "0\n"),
    ("proc/sys/net/ipv4/udp_mem", "187638\t250187\t375276\n"),
    ("proc/sys/net/ipv4/udp_rmem_min", "4096\n"),
    ("proc/sys/net/ipv4/udp_wmem_min", "4096\n"),
    ("proc/self/cgroup", "0::/system.slice/sluice.service\n"),
    (
        "proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
    ),
    ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
    ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
    ("sys/fs/cgroup/system.slice/sluice.service/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/sluice.service/memory.max", "max\n"),
    ("proc/1/comm", "systemd\n"),
];

impl Tree {
    /// A virtual machine as one gets it: two CPUs, a virtio card `eth0` with one queue whose receive interrupt goes to CPU 1 and
    /// whose send interrupt goes to CPU 0, and settings as Debian leaves them.
    pub fn stock_vm() -> Self {
        let tree = Self::of(STOCK);
        tree.write("proc/meminfo", "MemTotal:        4024692 kB\nMemFree:         3525384 kB\n");
        tree.add_process(0, "1024 524288", "8388608 8388608", "000001ffffffffff", "0-1");
        tree.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 hypervisor lahf_lm\n");
        tree.write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        tree.write("sys/devices/system/cpu/online", "0-1\n");
        tree.write("sys/devices/system/cpu/smt/active", "0\n");
        tree.write("sys/devices/system/node/node0/cpulist", "0-1\n");
        for cpu in 0..2 {
            tree.add_cpu(cpu, &cpu.to_string(), 0, None);
        }
        tree.add_idle_states(&[("POLL", 0), ("haltpoll idle", 1)]);

        let slot = "sys/devices/pci0000:00/0000:00:03.0";
        tree.add_nic(&format!("{slot}/virtio2"), "virtio_net", 1, "-1", "0");
        tree.link(&format!("{slot}/virtio2/net/eth0/device"), "../../../virtio2");
        tree.add_irqs(
            &format!("{slot}/msi_irqs"),
            &[
                (37, "virtio2-config", "0-1", "0"),
                (38, "virtio2-input.0", "0-1", "1"),
                (39, "virtio2-output.0", "0-1", "0"),
            ],
        );
        tree.add_ethtool();
        tree.add_card(&[
            ("rx", "256"),
            ("rx-max", "256"),
            ("tx", "256"),
            ("tx-max", "256"),
            ("combined", "1"),
            ("combined-max", "1"),
            ("rx-usecs", "0"),
            ("features/receive-hashing", "off [fixed]"),
            ("features/tx-udp-segmentation", "off [fixed]"),
            ("features/rx-gro-hw", "on [fixed]"),
        ]);
        tree
    }

    /// A machine of two sockets with 8 cores of two threads each (0 to 7 and 16 to 23, 8 to 15 and 24 to 31), governed by
    /// `powersave`; a card `eth0` of 10 Gbit/s at the second socket, with 8 queues whose interrupts go to CPUs 8 to 15 and rings
    /// of 512 out of 4096 descriptors; and settings as Debian leaves them.
    pub fn dedicated() -> Self {
        let tree = Self::of(STOCK);
        tree.write("proc/meminfo", "MemTotal:       131891224 kB\nMemFree:        125525384 kB\n");
        tree.add_process(0, "1024 524288", "8388608 8388608", "000001ffffffffff", "0-31");
        tree.write("proc/812/comm", "irqbalance\n");
        tree.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 lahf_lm\n");
        tree.write("sys/class/dmi/id/sys_vendor", "Supermicro\n");
        tree.write("sys/class/dmi/id/product_name", "SYS-620P\n");
        tree.write("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
        tree.write("proc/sys/net/netfilter/nf_conntrack_count", "117\n");
        tree.write("proc/sys/net/netfilter/nf_conntrack_buckets", "262144\n");
        tree.write("proc/sys/net/netfilter/nf_conntrack_udp_timeout", "30\n");
        tree.write("proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", "120\n");
        tree.write("sys/devices/system/cpu/online", "0-31\n");
        tree.write("sys/devices/system/cpu/smt/active", "1\n");
        tree.write("sys/devices/system/node/node0/cpulist", "0-7,16-23\n");
        tree.write("sys/devices/system/node/node1/cpulist", "8-15,24-31\n");
        for cpu in 0..32 {
            let core = cpu % 16;
            let siblings = format!("{core},{}", core + 16);
            tree.add_cpu(cpu, &siblings, core / 8, Some("powersave"));
        }
        tree.add_idle_states(&[("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133)]);

        let slot = "sys/devices/pci0000:64/0000:65:00.0";
        tree.add_nic(slot, "ixgbe", 8, "10000", "00000000");
        tree.link(&format!("{slot}/net/eth0/device"), "../../../0000:65:00.0");
        tree.write(&format!("{slot}/numa_node"), "1\n");
        let queue = |n: u32| (71 + n, format!("eth0-TxRx-{n}"), (8 + n).to_string());
        let queues: Vec<_> = (0..8).map(queue).collect();
        let mut irqs: Vec<_> = queues
            .iter()
            .map(|(n, name, cpu)| (*n, name.as_str(), cpu.as_str(), cpu.as_str()))
            .collect();
        irqs.push((79, "eth0", "0-31", "0"));
        tree.add_irqs(&format!("{slot}/msi_irqs"), &irqs);
        tree.add_ethtool();
        tree.add_card(&[
            ("rx", "512"),
            ("rx-max", "4096"),
            ("tx", "512"),
            ("tx-max", "4096"),
            ("combined", "8"),
            ("combined-max", "63"),
            ("adaptive-rx", "off"),
            ("rx-usecs", "1"),
            ("features/generic-receive-offload", "on"),
            ("features/generic-segmentation-offload", "on"),
            ("features/large-receive-offload", "off"),
            ("features/ntuple-filters", "off"),
            ("features/receive-hashing", "on"),
            ("features/rx-all", "off [fixed]"),
            ("features/rx-checksumming", "on"),
            ("features/rx-gro-list", "off"),
            ("features/rx-udp-gro-forwarding", "off"),
            ("features/tx-checksumming", "on"),
            ("features/tx-udp-segmentation", "on"),
        ]);
        tree
    }

    /// A container of docker on a host of 16 CPUs: two CPUs' worth of time and 4 GiB, a `veth` for a card, no `ethtool`, few
    /// settings to be seen and those read-only by their mode.
    pub fn container() -> Self {
        let seen = |path: &str| {
            !path.contains("/net/core/")
                || path.ends_with("mem_max")
                || path.ends_with("mem_default")
        };
        let files = STOCK
            .iter()
            .filter(|(path, _)| seen(path) && !path.contains("/ipv4/") && !path.contains("cgroup"));
        let tree = Self::of(&files.copied().collect::<Vec<_>>());
        for name in ["rmem_max", "rmem_default", "wmem_max", "wmem_default", "optmem_max"] {
            tree.set_read_only(&format!("proc/sys/net/core/{name}"));
        }
        tree.write(".dockerenv", "");
        tree.write("proc/1/comm", "sluice\n");
        tree.write("proc/meminfo", "MemTotal:       65891224 kB\n");
        tree.add_process(2, "1048576 1048576", "8388608 8388608", "00000000a80425fb", "0-15");
        tree.write("proc/self/cgroup", "0::/\n");
        let mount = "912 911 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        tree.write("proc/self/mountinfo", mount);
        tree.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        tree.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
        tree.write("sys/fs/cgroup/memory.max", "4294967296\n");
        tree.write("sys/fs/cgroup/cpuset.cpus.effective", "0-15\n");
        tree.write("sys/devices/system/cpu/online", "0-15\n");
        for cpu in 0..16 {
            let core = cpu / 2 * 2;
            tree.add_cpu(cpu, &format!("{core}-{}", core + 1), 0, None);
        }
        tree.write("sys/devices/virtual/net/eth0/iflink", "17\n");
        tree.link("sys/class/net/eth0", "../../devices/virtual/net/eth0");
        tree.add_interface("sys/class/net/eth0", 1, "10000", "0000");
        tree
    }

    /// The files of the process itself: `limits` are soft and hard, files and bytes.
    fn add_process(&self, seccomp: u32, files: &str, locked: &str, capabilities: &str, cpus: &str) {
        let pair = |limits: &str| {
            let (soft, hard) = limits.split_once(' ').expect("two limits");
            format!("{soft:20} {hard:20}")
        };
        let limits = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max cpu time              unlimited            unlimited            seconds   \n\
             Max open files            {} files     \n\
             Max locked memory         {} bytes     \n\
             Max nice priority         0                    0                    \n",
            pair(files),
            pair(locked)
        );
        self.write("proc/self/limits", &limits);
        let status = format!(
            "Name:\tsluice\nUid:\t0\t0\t0\t0\nCapPrm:\t{capabilities}\nCapEff:\t{capabilities}\n\
             NoNewPrivs:\t0\nSeccomp:\t{seccomp}\nSeccomp_filters:\t0\n\
             Cpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0\n"
        );
        self.write("proc/self/status", &status);
    }

    fn add_cpu(&self, cpu: u32, siblings: &str, package: u32, governor: Option<&str>) {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        self.write(&format!("{folder}/topology/thread_siblings_list"), &format!("{siblings}\n"));
        self.write(&format!("{folder}/topology/physical_package_id"), &format!("{package}\n"));
        if let Some(governor) = governor {
            let file = |name| format!("{folder}/cpufreq/{name}");
            self.write(&file("scaling_governor"), &format!("{governor}\n"));
            self.write(&file("scaling_available_governors"), "performance powersave\n");
        }
    }

    fn add_idle_states(&self, states: &[(&str, u32)]) {
        for (n, (name, latency_us)) in states.iter().enumerate() {
            let file = |file| format!("sys/devices/system/cpu/cpu0/cpuidle/state{n}/{file}");
            self.write(&file("name"), &format!("{name}\n"));
            self.write(&file("latency"), &format!("{latency_us}\n"));
            self.write(&file("disable"), "0\n");
        }
    }

    /// An `eth0` at `device`, a folder below sys/devices, without its link back to the device.
    fn add_nic(&self, device: &str, driver: &str, queues: u32, speed: &str, mask: &str) {
        let below = device.strip_prefix("sys/").expect("below sys/");
        self.write(&format!("{device}/net/eth0/ifindex"), "2\n");
        self.link("sys/class/net/eth0", &format!("../../{below}/net/eth0"));
        self.link(&format!("{device}/driver"), &format!("/sys/bus/pci/drivers/{driver}"));
        self.add_interface("sys/class/net/eth0", queues, speed, mask);
    }

    fn add_interface(&self, folder: &str, queues: u32, speed: &str, mask: &str) {
        for (name, text) in [
            ("flags", "0x1003"),
            ("operstate", "up"),
            ("type", "1"),
            ("mtu", "1500"),
            ("speed", speed),
            ("tx_queue_len", "1000"),
            ("statistics/rx_dropped", "0"),
            ("statistics/rx_missed_errors", "0"),
            ("statistics/rx_fifo_errors", "0"),
        ] {
            self.write(&format!("{folder}/{name}"), &format!("{text}\n"));
        }
        for n in 0..queues {
            self.write(&format!("{folder}/queues/rx-{n}/rps_cpus"), &format!("{mask}\n"));
            self.write(&format!("{folder}/queues/rx-{n}/rps_flow_cnt"), "0\n");
            if queues > 1 {
                self.write(&format!("{folder}/queues/tx-{n}/xps_cpus"), &format!("{mask}\n"));
            } else {
                self.write(&format!("{folder}/queues/tx-{n}/tx_timeout"), "0\n");
            }
        }
    }

    /// Interrupts by number, name, and the CPUs that may and that do get them; they belong to the device of `folder`.
    fn add_irqs(&self, folder: &str, irqs: &[(u32, &str, &str, &str)]) {
        let mut table = String::from("           CPU0       CPU1\n");
        for (number, name, affinity, effective) in irqs {
            self.write(&format!("{folder}/{number}"), "msix\n");
            self.write(&format!("proc/irq/{number}/smp_affinity_list"), &format!("{affinity}\n"));
            let file = format!("proc/irq/{number}/effective_affinity_list");
            self.write(&file, &format!("{effective}\n"));
            table += &format!(
                "{number:4}:       1204          0 PCI-MSIX-0000:00:03.0   1-edge      {name}\n"
            );
        }
        table += "NMI:          0          0   Non-maskable interrupts\nERR:          0\n";
        self.write("proc/interrupts", &table);
    }

    /// What the tree's `ethtool` tells of `eth0`.
    fn add_card(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.write(&format!("ethtool/eth0/{name}"), &format!("{text}\n"));
        }
    }
}
