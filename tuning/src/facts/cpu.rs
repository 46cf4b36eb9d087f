//! CPUs: the kernel's Documentation/admin-guide/cputopology.rst, pm/cpufreq.rst and pm/cpuidle.rst.

use std::collections::BTreeMap;

use serde::Serialize;

use super::numbered;
use crate::cpu_set::CpuSet;
use crate::host::Host;

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

const FOLDER: &str = "/sys/devices/system/cpu";

/// CPUs that are online.
pub(super) fn cpus(host: &Host) -> Vec<Cpu> {
    let nodes = nodes(host);
    let cpu = |id: u32| {
        let text = |name: &str| host.text(format!("{FOLDER}/cpu{id}/{name}"));
        let siblings = text("topology/thread_siblings_list").and_then(|s| CpuSet::from_list(&s));
        let governors = text("cpufreq/scaling_available_governors").unwrap_or_default();
        Cpu {
            id,
            siblings: siblings.unwrap_or_else(|| [id].into_iter().collect()),
            package: text("topology/physical_package_id").and_then(|number| number.parse().ok()),
            node: nodes.get(&id).copied(),
            governor: text("cpufreq/scaling_governor"),
            governors: governors.split_whitespace().map(str::to_owned).collect(),
        }
    };
    online(host).0.into_iter().map(cpu).collect()
}

fn online(host: &Host) -> CpuSet {
    let online = host.text(format!("{FOLDER}/online")).and_then(|list| CpuSet::from_list(&list));
    online.unwrap_or_else(|| {
        let number = |line: String| {
            let (name, number) = line.split_once(':')?;
            number.trim().parse().ok().filter(|_| name.trim() == "processor")
        };
        host.lines("/proc/cpuinfo").filter_map(number).collect()
    })
}

/// The NUMA node of each CPU. Read from the nodes, of which there are fewer.
fn nodes(host: &Host) -> BTreeMap<u32, u32> {
    const NODES: &str = "/sys/devices/system/node";
    let nodes = numbered(host, NODES, "node").into_iter().filter_map(|(node, name)| {
        let cpus = CpuSet::from_list(&host.text(format!("{NODES}/{name}/cpulist"))?)?;
        Some(cpus.0.into_iter().map(move |cpu| (cpu, node)))
    });
    nodes.flatten().collect()
}

pub(super) fn smt(host: &Host) -> Option<bool> {
    host.number(format!("{FOLDER}/smt/active")).map(|active: u8| active != 0)
}

/// Idle states of CPU `id`, shallowest first, as the kernel numbers them.
pub(super) fn idle_states(host: &Host, id: u32) -> Vec<IdleState> {
    let folder = format!("{FOLDER}/cpu{id}/cpuidle");
    let state = |(_, name): (u32, String)| {
        let file = |file| format!("{folder}/{name}/{file}");
        Some(IdleState {
            name: host.text(file("name"))?,
            exit_latency_us: host.number(file("latency"))?,
            disabled: host.number(file("disable")).is_some_and(|disable: u64| disable != 0),
        })
    };
    numbered(host, &folder, "state").into_iter().filter_map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn cores_sockets_and_nodes_are_read() {
        let host = Tree::dedicated();
        let cpus = cpus(&host.host());
        assert_eq!(cpus.len(), 32);
        let cpu = &cpus[25];
        assert_eq!((cpu.id, cpu.siblings.to_string().as_str()), (25, "9,25"));
        assert_eq!((cpu.package, cpu.node), (Some(1), Some(1)));
        assert_eq!(cpu.governor.as_deref(), Some("powersave"));
        assert_eq!(cpu.governors, ["performance", "powersave"]);
        assert_eq!(smt(&host.host()), Some(true));
    }

    #[test]
    fn idle_states_are_in_the_kernels_order() {
        let tree = Tree::dedicated();
        for (file, text) in [("name", "C10"), ("latency", "890"), ("disable", "1")] {
            tree.write(&format!("sys/devices/system/cpu/cpu0/cpuidle/state10/{file}"), text);
        }
        let states = idle_states(&tree.host(), 0);
        let names: Vec<_> = states.iter().map(|state| state.name.as_str()).collect();
        assert_eq!(names, ["POLL", "C1", "C1E", "C6", "C10"]);
        assert_eq!((states[3].exit_latency_us, states[3].disabled), (133, false));
        assert!(states[4].disabled);
    }

    #[test]
    fn without_sysfs_the_cpus_are_counted_and_each_is_a_core() {
        let tree = Tree::of(&[("proc/cpuinfo", "processor\t: 0\nmodel : 1\n\nprocessor\t: 1\n")]);
        let cpus = cpus(&tree.host());
        assert_eq!(cpus.len(), 2);
        assert_eq!((cpus[1].siblings.to_string().as_str(), cpus[1].node), ("1", None));
        assert_eq!((smt(&tree.host()), idle_states(&tree.host(), 0).len()), (None, 0));
    }
}
