//! Describes the machine: a figure without the machine it was measured on is not a figure.
//!
//! What was read is parsed by functions of text; a root folder other than `/` and programs that answer what a test wants come in through [`Sources`].

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use crate::result::Machine;

/// What describes UDP's way through the kernel and the card; `udp_*` below `net/ipv4` is added as found.
const CORE_SYSCTLS: [&str; 10] = [
    "rmem_max",
    "rmem_default",
    "wmem_max",
    "wmem_default",
    "optmem_max",
    "netdev_max_backlog",
    "netdev_budget",
    "netdev_budget_usecs",
    "busy_poll",
    "busy_read",
];

/// Features of `ethtool -k` that change what a UDP packet costs.
const OFFLOADS: [&str; 10] = [
    "rx-checksumming",
    "tx-checksumming",
    "scatter-gather",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-udp-segmentation",
    "tx-gso-partial",
    "tx-gso-list",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
];

impl Machine {
    /// Reads what this machine is. `interface` is the one that media crosses, when it is known. What cannot be read is empty or says so.
    ///
    /// `load_before` is the load at this moment; `load_after` is left to the caller, see [`load`].
    pub fn read(interface: Option<&str>) -> Self {
        Sources { root: Path::new("/"), run }.machine(interface)
    }
}

/// The load averages of 1, 5 and 15 minutes, as `0.18 0.23 0.80`; empty when they cannot be read.
pub fn load() -> String {
    Sources { root: Path::new("/"), run }.load()
}

/// Where facts come from.
struct Sources<'a, Run> {
    root: &'a Path,
    /// Runs a program and returns its standard output, whatever its status.
    run: Run,
}

impl<Run: Fn(&str, &[&str]) -> io::Result<String>> Sources<'_, Run> {
    fn machine(&self, interface: Option<&str>) -> Machine {
        let cpuinfo = self.text("proc/cpuinfo").unwrap_or_default();
        let governor = self.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let cpu = cpu_model(&cpuinfo);
        let (nic, offloads) = self.nic(interface);
        Machine {
            cpu: governor.map_or(cpu.clone(), |governor| format!("{cpu}, governor {governor}")),
            cpus: cpus(&cpuinfo),
            memory_bytes: memory_bytes(&self.text("proc/meminfo").unwrap_or_default()),
            kernel: self.text("proc/sys/kernel/osrelease").unwrap_or_default(),
            distribution: self
                .text("etc/os-release")
                .and_then(|text| pretty_name(&text))
                .unwrap_or_default(),
            virtualization: self.virtualization(&cpuinfo),
            nic,
            offloads,
            sysctls: self.sysctls(),
            load_before: self.load(),
            load_after: String::new(),
            bench_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The trimmed text of a file; `None` when it is empty or cannot be read.
    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn load(&self) -> String {
        let text = self.text("proc/loadavg").unwrap_or_default();
        text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    }

    /// A machine can be virtual and hold a container, and both matter.
    fn virtualization(&self, cpuinfo: &str) -> String {
        let ask = |kind| {
            let answer = (self.run)("systemd-detect-virt", &[kind]).ok()?;
            Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty())
        };
        let dmi = |file: &str| self.text(&format!("sys/class/dmi/id/{file}")).unwrap_or_default();
        let machine = ask("--vm").unwrap_or_else(|| {
            hypervisor(cpuinfo, &dmi("sys_vendor"), &dmi("product_name")).to_owned()
        });
        match ask("--container").filter(|container| container != "none") {
            Some(container) => format!("{machine}, in a container ({container})"),
            None => machine,
        }
    }

    fn nic(&self, interface: Option<&str>) -> (String, BTreeMap<String, String>) {
        let none = BTreeMap::new();
        let Some(name) = interface else { return ("not known".to_owned(), none) };
        // A name is part of a path and an argument of a program below.
        let is_name = (1..=15).contains(&name.len())
            && !name.starts_with(['-', '.'])
            && !name.contains(['/', '\0']);
        let folder = format!("sys/class/net/{name}");
        if !is_name || !self.root.join(&folder).exists() {
            return (format!("{name:?}, which is no interface of this machine"), none);
        }
        let driver = fs::read_link(self.root.join(&folder).join("device/driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        let mut nic = format!("{name}, {}", driver.as_deref().unwrap_or("no driver"));
        // Virtual cards say -1, others refuse to be read.
        let speed = self.text(&format!("{folder}/speed")).and_then(|text| text.parse::<u32>().ok());
        if let Some(mbps) = speed {
            nic += &format!(", {mbps} Mbit/s");
        }
        match self.ethtool(name) {
            Ok(text) => (nic, offloads(&text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (nic + "; ethtool is not installed", none)
            }
            Err(e) => (format!("{nic}; ethtool: {e}"), none),
        }
    }

    /// Who is not root often has no `sbin` among the places where programs are looked for.
    fn ethtool(&self, interface: &str) -> io::Result<String> {
        (self.run)("ethtool", &["-k", interface]).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => (self.run)("/usr/sbin/ethtool", &["-k", interface]),
            _ => Err(e),
        })
    }

    fn sysctls(&self) -> BTreeMap<String, String> {
        let udp = fs::read_dir(self.root.join("proc/sys/net/ipv4"));
        let udp = udp.into_iter().flatten().flatten();
        let udp = udp.filter_map(|entry| entry.file_name().into_string().ok());
        let udp = udp.filter(|name| name.starts_with("udp_")).map(|name| format!("ipv4/{name}"));
        let core = CORE_SYSCTLS.iter().map(|name| format!("core/{name}"));
        core.chain(udp)
            .filter_map(|name| {
                let value = self.text(&format!("proc/sys/net/{name}"))?;
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                Some((format!("net.{}", name.replace('/', ".")), value))
            })
            .collect()
    }
}

fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The value of the first line `key : value`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| *name == key)
        .map(|at| at.1)
}

/// The CPU's name; Arm has numbers instead, of its maker and of the part.
fn cpu_model(cpuinfo: &str) -> String {
    let named = value_of(cpuinfo, "model name").or_else(|| value_of(cpuinfo, "Model"));
    let numbered = || {
        let maker = value_of(cpuinfo, "CPU implementer")?;
        Some(format!("implementer {maker}, part {}", value_of(cpuinfo, "CPU part")?))
    };
    named.map(str::to_owned).or_else(numbered).unwrap_or_else(|| "unknown".to_owned())
}

fn cpus(cpuinfo: &str) -> u32 {
    let is_cpu =
        |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.trim() == "processor");
    cpuinfo.lines().filter(is_cpu).count() as u32
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = value_of(meminfo, "MemTotal").and_then(|value| value.strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1_024)
}

fn pretty_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

/// The hypervisor by what the firmware says, where no program knows better. Firmware of a cloud says its name on bare metal too,
/// so the CPU's flag comes first; Arm has no such flag.
fn hypervisor(cpuinfo: &str, vendor: &str, product: &str) -> &'static str {
    let flags = value_of(cpuinfo, "flags");
    if flags.is_some_and(|flags| flags.split_whitespace().all(|flag| flag != "hypervisor")) {
        return "none";
    }
    let known = [
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Amazon EC2", "amazon"),
        ("Google", "google"),
        ("VMware", "vmware"),
        ("innotek GmbH", "virtualbox"),
        ("Microsoft Corporation", "microsoft"),
        ("Xen", "xen"),
    ];
    let says = |name: &str| vendor.contains(name) || product.contains(name);
    match known.iter().find(|(name, _)| says(name)) {
        Some((_, hypervisor)) => hypervisor,
        None if flags.is_some() => "a hypervisor that does not say its name",
        None => "unknown",
    }
}

/// Those features that concern UDP, as `on`, `off` or `off [fixed]`.
fn offloads(ethtool: &str) -> BTreeMap<String, String> {
    let features = ethtool.lines().filter_map(|line| line.split_once(':'));
    features
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, value)| OFFLOADS.contains(name) && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor aes\n\n\
        processor\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor aes\n";
    const ARM: &str = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
    const ETHTOOL: &str = "Features for eth0:\nrx-checksumming: on [fixed]\ntx-checksumming: on\n\
        \ttx-checksum-ipv4: off [fixed]\ntcp-segmentation-offload: on\n\ttx-udp-segmentation: off\n";

    /// A folder that is there as long as the test.
    struct Root(PathBuf);

    impl Root {
        fn of(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("sl-machine-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn nothing_installed(_: &str, _: &[&str]) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn the_cpu_is_named_and_counted() {
        assert_eq!((cpu_model(CPUINFO).as_str(), cpus(CPUINFO)), ("AMD EPYC", 2));
        assert_eq!((cpu_model(ARM).as_str(), cpus(ARM)), ("implementer 0x41, part 0xd40", 1));
        assert_eq!((cpu_model("").as_str(), cpus("")), ("unknown", 0));
    }

    #[test]
    fn memory_and_distribution_are_read() {
        assert_eq!(
            memory_bytes("MemTotal:       24684092 kB\nMemFree: 1 kB\n"),
            24_684_092 * 1_024
        );
        assert_eq!(memory_bytes("MemTotal: much\n"), 0);
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("PRETTY_NAME=\n"), None);
    }

    #[test]
    fn the_hypervisor_is_told_by_flag_and_firmware() {
        assert_eq!(hypervisor(CPUINFO, "Amazon EC2", "c7i.xlarge"), "amazon");
        assert_eq!(hypervisor(CPUINFO, "QEMU", "Standard PC"), "kvm");
        assert_eq!(hypervisor(CPUINFO, "", ""), "a hypervisor that does not say its name");
        assert_eq!(hypervisor("flags : fpu aes\n", "Amazon EC2", "c7i.metal"), "none");
        assert_eq!(hypervisor(ARM, "", ""), "unknown");
    }

    #[test]
    fn offloads_are_those_of_udp() {
        let wanted = [
            ("rx-checksumming", "on [fixed]"),
            ("tx-checksumming", "on"),
            ("tx-udp-segmentation", "off"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(offloads(ETHTOOL), BTreeMap::from(wanted));
        assert!(offloads("Cannot get device feature names\n").is_empty());
    }

    #[test]
    fn a_machine_is_read_whole() {
        let files = [
            ("proc/cpuinfo", CPUINFO),
            ("proc/meminfo", "MemTotal: 4 kB\n"),
            ("proc/loadavg", "0.18 0.23 0.80 1/100 4242\n"),
            ("proc/sys/kernel/osrelease", "6.12.4\n"),
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/ipv4/udp_mem", "1\t2\t3\n"),
            ("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n"),
            ("etc/os-release", "PRETTY_NAME=\"Debian 12\"\n"),
            ("sys/class/net/eth0/speed", "10000\n"),
            ("sys/class/net/eth0/device/vendor", "1\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ];
        let root = Root::of("whole", &files);
        symlink("../drivers/virtio_net", root.0.join("sys/class/net/eth0/device/driver")).unwrap();
        let run = |program: &str, arguments: &[&str]| match (program, arguments) {
            ("/usr/sbin/ethtool", ["-k", "eth0"]) => Ok(ETHTOOL.to_owned()),
            ("systemd-detect-virt", ["--vm"]) => Ok("kvm\n".to_owned()),
            ("systemd-detect-virt", ["--container"]) => Ok("docker\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let machine = Sources { root: &root.0, run }.machine(Some("eth0"));
        assert_eq!(machine.cpu, "AMD EPYC, governor performance");
        assert_eq!((machine.cpus, machine.memory_bytes), (2, 4_096));
        assert_eq!(machine.kernel, "6.12.4");
        assert_eq!(machine.distribution, "Debian 12");
        assert_eq!(machine.virtualization, "kvm, in a container (docker)");
        assert_eq!(machine.nic, "eth0, virtio_net, 10000 Mbit/s");
        assert_eq!(machine.offloads.len(), 3);
        assert_eq!(machine.sysctls["net.core.rmem_max"], "212992");
        assert_eq!(machine.sysctls["net.ipv4.udp_mem"], "1 2 3");
        assert_eq!(machine.sysctls.len(), 2);
        assert_eq!(
            (machine.load_before.as_str(), machine.load_after.as_str()),
            ("0.18 0.23 0.80", "")
        );
        assert!(!machine.bench_version.is_empty());
    }

    #[test]
    fn what_is_missing_is_said() {
        let root = Root::of("missing", &[("sys/class/net/lo/speed", "-1\n")]);
        let sources = Sources { root: &root.0, run: nothing_installed };
        assert_eq!(sources.machine(Some("lo")).nic, "lo, no driver; ethtool is not installed");
        assert_eq!(sources.machine(None).nic, "not known");
        for name in ["eth9", "../net/lo", "-k", ""] {
            let nic = sources.machine(Some(name)).nic;
            assert!(nic.ends_with("which is no interface of this machine"), "{nic}");
        }
        assert_eq!(sources.machine(None).virtualization, "unknown");
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_cpu() {
        let machine = Machine::read(Some("lo"));
        assert!(!machine.kernel.is_empty() && machine.cpus > 0 && machine.memory_bytes > 0);
        assert!(machine.nic.starts_with("lo, "), "{}", machine.nic);
        assert_eq!(load().split(' ').count(), 3);
    }
}
