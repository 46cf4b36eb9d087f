//! What is around the process: a container, a hypervisor, a network namespace, irqbalance.

use std::os::unix::fs::PermissionsExt;

use crate::host::Host;

/// Words in the name of a machine or its maker, and the hypervisor that they stand for.
const MACHINES: &[(&str, &str)] = &[
    ("amazon ec2", "amazon"),
    ("google", "google"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("parallels", "parallels"),
    ("bhyve", "bhyve"),
    ("microsoft corporation virtual machine", "hyper-v"),
    ("xen", "xen"),
    ("qemu", "kvm"),
    ("kvm", "kvm"),
    ("openstack", "kvm"),
    ("digitalocean", "kvm"),
    ("hetzner", "kvm"),
    ("alibaba cloud", "kvm"),
    ("nutanix", "kvm"),
];

/// Processes that are looked at for irqbalance.
const PROCESSES_MAX: usize = 65_536;

/// `docker`, `podman`, `kubernetes`, `lxc`, `systemd-nspawn` or `container`.
pub(super) fn container(host: &Host) -> Option<String> {
    let exists = |path: &str| host.path(path).exists();
    let environment = |pid: &str| host.text(format!("/proc/{pid}/environ")).unwrap_or_default();
    let (own, first) = (environment("self"), environment("1"));
    let has = |environment: &str, name: &str| {
        environment.split('\0').any(|variable| variable.starts_with(name))
    };
    // What systemd and container engines tell the first process; see systemd's CONTAINER_INTERFACE.
    let told = first.split('\0').find_map(|variable| variable.strip_prefix("container="));
    let told = told.map(str::to_owned).or_else(|| host.text("/run/systemd/container"));
    let group = host.text("/proc/1/cgroup").unwrap_or_default();
    let kind = if has(&own, "KUBERNETES_SERVICE_HOST=")
        || has(&first, "KUBERNETES_SERVICE_HOST=")
        || exists("/var/run/secrets/kubernetes.io")
        || group.contains("/kubepods")
    {
        "kubernetes"
    } else if exists("/run/.containerenv") {
        "podman"
    } else if exists("/.dockerenv") || group.contains("/docker/") {
        "docker"
    } else {
        match told.as_deref() {
            Some("lxc" | "lxc-libvirt") => "lxc",
            Some("docker") => "docker",
            Some("podman") => "podman",
            Some("systemd-nspawn") => "systemd-nspawn",
            Some(_) => "container",
            None if group.contains("/lxc/") => "lxc",
            None => return None,
        }
    };
    Some(kind.to_owned())
}

/// What the host runs on; `unknown` where it is virtual and does not say more, `None` on bare metal.
pub(super) fn hypervisor(host: &Host) -> Option<String> {
    let flags = host.lines("/proc/cpuinfo").find(|line| line.starts_with("flags"));
    let is_virtual = flags.map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    // A cloud's machines without a hypervisor have the same maker as those with one.
    if is_virtual == Some(false) {
        return None;
    }
    let names = ["sys_vendor", "product_name", "bios_vendor", "board_vendor"];
    let names = names.iter().filter_map(|name| host.text(format!("/sys/class/dmi/id/{name}")));
    let machine = names.collect::<Vec<_>>().join(" ").to_lowercase();
    if is_virtual.is_none() && machine.contains("metal") {
        return None; // arm64 has no such flag
    }
    let known = MACHINES.iter().find(|(words, _)| machine.contains(words));
    let known = known.map(|(_, hypervisor)| (*hypervisor).to_owned());
    let by_clock = || {
        let folder = "/sys/devices/system/clocksource/clocksource0";
        let clocks = host.text(format!("{folder}/available_clocksource"))?;
        let clocks = [("kvm-clock", "kvm"), ("hyperv", "hyper-v"), ("xen", "xen")]
            .into_iter()
            .find(|(clock, _)| clocks.contains(clock))?;
        Some(clocks.1.to_owned())
    };
    let by_tree = || {
        let compatible = host.text("/proc/device-tree/hypervisor/compatible")?;
        ["kvm", "xen"].into_iter().find(|name| compatible.contains(name)).map(str::to_owned)
    };
    known
        .or_else(|| host.text("/sys/hypervisor/type"))
        .or_else(by_clock)
        .or_else(by_tree)
        .or_else(|| is_virtual?.then(|| "unknown".to_owned()))
}

/// Whether this is the first network namespace. In others the largest buffers are not there (before Linux 6.9) or not for writing.
pub(super) fn is_first_network_namespace(host: &Host) -> Option<bool> {
    let folder = host.path("/proc/sys/net/core");
    if !folder.is_dir() {
        return None;
    }
    let metadata = folder.join("rmem_max").metadata();
    Some(metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o200 != 0))
}

/// Whether a process called irqbalance runs, as far as processes are seen.
pub(super) fn irqbalance(host: &Host) -> bool {
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = host.names("/proc").into_iter().filter(is_number).take(PROCESSES_MAX);
    processes
        .filter_map(|pid| host.text(format!("/proc/{pid}/comm")))
        .any(|name| name == "irqbalance")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn containers_are_known_by_what_they_leave() {
        for (path, text, expected) in [
            (".dockerenv", "", Some("docker")),
            ("proc/1/cgroup", "12:cpu:/docker/7f00\n", Some("docker")),
            ("run/.containerenv", "", Some("podman")),
            ("proc/self/environ", "A=b\0KUBERNETES_SERVICE_HOST=10.0.0.1\0", Some("kubernetes")),
            ("proc/1/cgroup", "0::/kubepods.slice/pod7\n", Some("kubernetes")),
            ("proc/1/environ", "container=lxc\0TERM=linux\0", Some("lxc")),
            ("run/systemd/container", "systemd-nspawn\n", Some("systemd-nspawn")),
            ("proc/1/environ", "container=oci\0", Some("container")),
            ("proc/1/environ", "HOME=/\0", None),
            ("proc/1/cgroup", "0::/init.scope\n", None),
        ] {
            let tree = Tree::of(&[(path, text)]);
            assert_eq!(container(&tree.host()).as_deref(), expected, "{path} {text}");
        }
    }

    #[test]
    fn a_pod_of_docker_is_kubernetes() {
        let tree = Tree::of(&[(".dockerenv", ""), ("var/run/secrets/kubernetes.io/x", "")]);
        assert_eq!(container(&tree.host()).as_deref(), Some("kubernetes"));
    }

    #[test]
    fn hypervisors_are_known_by_machine_and_clock() {
        const VIRTUAL: &str = "flags\t: fpu hypervisor sse\n";
        const METAL: &str = "flags\t: fpu sse\n";
        let clock = "sys/devices/system/clocksource/clocksource0/available_clocksource";
        let vendor = "sys/class/dmi/id/sys_vendor";
        let product = "sys/class/dmi/id/product_name";
        for (cpuinfo, path, text, expected) in [
            (VIRTUAL, vendor, "Amazon EC2", Some("amazon")),
            (METAL, vendor, "Amazon EC2", None),
            (VIRTUAL, vendor, "QEMU", Some("kvm")),
            (VIRTUAL, product, "Google Compute Engine", Some("google")),
            (VIRTUAL, clock, "tsc kvm-clock", Some("kvm")),
            (VIRTUAL, clock, "tsc", Some("unknown")),
            (METAL, vendor, "Supermicro", None),
            ("BogoMIPS : 50\n", vendor, "QEMU", Some("kvm")),
            ("BogoMIPS : 50\n", product, "Amazon EC2 c7g.metal", None),
            ("BogoMIPS : 50\n", product, "Altra", None),
        ] {
            let tree = Tree::of(&[("proc/cpuinfo", cpuinfo), (path, text)]);
            assert_eq!(hypervisor(&tree.host()).as_deref(), expected, "{cpuinfo} {text}");
        }
        let tree = Tree::of(&[
            ("proc/cpuinfo", VIRTUAL),
            (vendor, "Microsoft Corporation\n"),
            (product, "Virtual Machine\n"),
        ]);
        assert_eq!(hypervisor(&tree.host()).as_deref(), Some("hyper-v"));
    }

    #[test]
    fn in_a_namespace_the_largest_buffers_are_not_for_writing() {
        assert_eq!(is_first_network_namespace(&Tree::of::<&str, &str>(&[]).host()), None);
        assert_eq!(is_first_network_namespace(&Tree::stock_vm().host()), Some(true));
        assert_eq!(is_first_network_namespace(&Tree::container().host()), Some(false));
        let tree = Tree::of(&[("proc/sys/net/core/somaxconn", "4096")]);
        assert_eq!(is_first_network_namespace(&tree.host()), Some(false));
    }

    #[test]
    fn irqbalance_is_found_among_processes() {
        assert!(irqbalance(&Tree::dedicated().host()));
        assert!(!irqbalance(&Tree::stock_vm().host()));
    }
}
