//! What the process may take: files, locked memory, CPU time, memory.

use super::sysctl::or_more;
use super::{
    CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, counted, has_capability, is_server,
    too_small,
};
use crate::amount;
use crate::change::Target;
use crate::demand::{self, Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static OPEN_FILES: Setting = Setting {
    key: "process.open_files",
    why: "Each WebSocket and each client whose media comes over TCP is an open file; UDP sessions are none.",
    source: "getrlimit(2), RLIMIT_NOFILE; systemd.exec(5), LimitNOFILE",
    effect: "With none left, connections are refused and people cannot join.",
};

static LOCKED_MEMORY: Setting = Setting {
    key: "process.locked_memory",
    why: "The rings of io_uring count as locked memory of the user on some kernels, 28 KiB a shard. CAP_IPC_LOCK lifts the limit.",
    source: "io_uring_setup(2), ENOMEM; systemd.exec(5), LimitMEMLOCK; engine/src/io/uring.rs",
    effect: "Where a shard's ring is refused, the server does not start with io_uring.",
};

static CAPABILITIES: Setting = Setting {
    key: "process.capabilities",
    why: "CAP_NET_ADMIN sets socket buffers beyond net.core.rmem_max and wmem_max, and lets a server apply settings; CAP_PERFMON shows \
          the kernel's part in profiles; CAP_IPC_LOCK lifts the limit of locked memory. None is needed to carry media.",
    source: "capabilities(7); socket(7), SO_RCVBUFFORCE",
    effect: "None where the settings are as they should be.",
};

static CGROUP_CPU: Setting = Setting {
    key: "cgroup.cpu",
    why: "CPU time that the control group may take, in CPUs. A group that used it up stands still until the next period begins, usually \
          for tens of milliseconds.",
    source: "Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max; systemd.resource-control(5), CPUQuota",
    effect: "All shards stand still at times: late packets, and lost ones where a buffer overflows.",
};

static CGROUP_MEMORY: Setting = Setting {
    key: "cgroup.memory",
    why: "Memory that the control group may take. What waits in its sockets counts, too.",
    source: "Linux, Documentation/admin-guide/cgroup-v2.rst, memory.max; systemd.resource-control(5), MemoryMax",
    effect: "The kernel ends the server, and all calls with it.",
};

static HOST_MEMORY: Setting = Setting {
    key: "host.memory",
    why: "Memory of the host.",
    source: "docs/benchmarks.md (An idle session); engine/src/shard/limits.rs",
    effect: "The kernel ends processes, perhaps the server.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] =
    &[&OPEN_FILES, &LOCKED_MEMORY, &CAPABILITIES, &CGROUP_CPU, &CGROUP_MEMORY, &HOST_MEMORY];

/// What the unit asks for at least: enough for anything but the largest hosts.
const OPEN_FILES_MIN: u64 = 65_536;
/// The default of current kernels and of systemd.
const LOCKED_MEMORY_MIN: u64 = 8 << 20;

/// Looks at them.
pub fn findings(facts: &Facts, goal: &Goal, demand: &Demand) -> Vec<Finding> {
    vec![
        open_files(facts, goal, demand),
        locked_memory(facts, goal, demand),
        capabilities(facts),
        cgroup_cpu(facts, goal, demand),
        cgroup_memory(facts, goal, demand),
        host_memory(facts, goal, demand),
    ]
}

fn open_files(facts: &Facts, goal: &Goal, demand: &Demand) -> Finding {
    let need = &demand.open_files;
    let Some((soft, hard)) = facts.process.open_files else {
        return Finding::new(&OPEN_FILES, Verdict::Unknown);
    };
    let finding = |verdict| {
        let finding = Finding::new(&OPEN_FILES, verdict).found(limit(soft, u64::to_string));
        finding.wanted(or_more(need.value)).formula(&need.formula)
    };
    if soft >= need.value {
        return finding(Verdict::Good);
    }
    let wanted = need.value.max(OPEN_FILES_MIN);
    raise(finding(missing(facts, goal)), facts, goal, "LimitNOFILE", (soft, hard), wanted)
}

fn locked_memory(facts: &Facts, goal: &Goal, demand: &Demand) -> Finding {
    let need = &demand.locked_memory_bytes;
    let Some((soft, hard)) = facts.process.locked_memory_bytes else {
        return Finding::new(&LOCKED_MEMORY, Verdict::Unknown);
    };
    let finding = |verdict, found| {
        let finding = Finding::new(&LOCKED_MEMORY, verdict).found(found);
        finding.wanted(or_more(amount::bytes(need.value))).formula(&need.formula)
    };
    let found = limit(soft, |bytes| amount::bytes(*bytes));
    if soft >= need.value {
        return finding(Verdict::Good, found);
    }
    if has_capability(facts, CAP_IPC_LOCK) {
        return finding(Verdict::Good, format!("{found}, lifted by CAP_IPC_LOCK"));
    }
    let wanted = need.value.max(LOCKED_MEMORY_MIN);
    raise(finding(missing(facts, goal), found), facts, goal, "LimitMEMLOCK", (soft, hard), wanted)
}

/// How it stands when a limit is too low: of a server wrong, of a shell perhaps meaningless.
fn missing(facts: &Facts, goal: &Goal) -> Verdict {
    if is_server(facts, goal) { Verdict::Wrong } else { Verdict::Better }
}

fn raise(
    finding: Finding,
    facts: &Facts,
    goal: &Goal,
    directive: &str,
    (soft, hard): (u64, u64),
    wanted: u64,
) -> Finding {
    let target = Target::Limit { directive: directive.to_owned() };
    let how = match (is_server(facts, goal), facts.container.is_some()) {
        (_, true) => {
            "In a container the runtime sets it: docker run --ulimit, or the runtime's default limits."
        }
        (false, false) => {
            "This is the limit of this shell; the running server's is shown with --pid. Under systemd the unit sets it."
        }
        (true, false) => "The unit sets it; it counts from the next start of the service.",
    };
    let finding = finding.remedy(how);
    // A shell's limits say nothing of the service's, which may be higher already.
    if facts.container.is_some() || !is_server(facts, goal) {
        return finding;
    }
    let wanted = if hard == u64::MAX { wanted } else { wanted.max(hard) };
    let from = format!("{}:{}", limit(soft, u64::to_string), limit(hard, u64::to_string));
    finding.change(target, Some(from), wanted.to_string())
}

fn limit(value: u64, words: impl Fn(&u64) -> String) -> String {
    if value == u64::MAX { "infinity".to_owned() } else { words(&value) }
}

fn capabilities(facts: &Facts) -> Finding {
    if facts.process.capabilities.is_none() {
        return Finding::new(&CAPABILITIES, Verdict::Unknown);
    }
    let named = [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (CAP_PERFMON, "CAP_PERFMON"),
        (CAP_IPC_LOCK, "CAP_IPC_LOCK"),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    ];
    let names: Vec<_> = named
        .iter()
        .filter(|(number, _)| has_capability(facts, *number))
        .map(|(_, n)| *n)
        .collect();
    let found = if names.is_empty() { "none of these".to_owned() } else { names.join(", ") };
    Finding::new(&CAPABILITIES, Verdict::Note).found(found)
}

fn cgroup_cpu(facts: &Facts, goal: &Goal, demand: &Demand) -> Finding {
    let Some(quota) = facts.cgroup.cpu_quota else {
        return Finding::new(&CGROUP_CPU, Verdict::Good).found("no limit");
    };
    // Shards that were configured run, whatever the load; else their number follows the quota, and the load may be too much.
    let shards = match goal.shards {
        Some(configured) => u64::from(configured),
        None => demand::shards_needed(&goal.load).min(demand::SHARDS_MAX),
    };
    let found = format!("{} CPUs", (quota * 100.0).round() / 100.0);
    let finding = |verdict| {
        let finding = Finding::new(&CGROUP_CPU, verdict).found(&*found);
        finding.wanted(or_more(counted(shards as usize, "CPU"))).formula(&demand.shards.formula)
    };
    if quota >= shards as f64 {
        return finding(Verdict::Good);
    }
    let verdict = if goal.shards.is_some() { Verdict::Wrong } else { too_small(goal) };
    let needed = shards.max(demand::shards_needed(&goal.load).min(demand::SHARDS_MAX));
    finding(verdict).remedy(format!(
        "systemctl set-property sluice CPUQuota={}%   # docker: --cpus={needed}; Kubernetes: no limits.cpu, or {needed}",
        needed.saturating_mul(100)
    ))
}

fn cgroup_memory(facts: &Facts, goal: &Goal, demand: &Demand) -> Finding {
    let Some(max) = facts.cgroup.memory_bytes_max else {
        return Finding::new(&CGROUP_MEMORY, Verdict::Good).found("no limit");
    };
    let need = demand.memory_bytes.value.saturating_add(demand.udp_memory_bytes.value);
    let formula = format!("{}; and {} in sockets", demand.memory_bytes.formula, {
        amount::bytes(demand.udp_memory_bytes.value)
    });
    let verdict = enough(max, need, demand.memory_least_bytes.value, goal);
    let finding = Finding::new(&CGROUP_MEMORY, verdict).found(amount::bytes(max));
    let finding = finding.wanted(or_more(amount::bytes(need))).formula(formula);
    if verdict == Verdict::Good {
        return finding;
    }
    let mebibytes = need.div_ceil(1 << 20);
    finding.remedy(format!(
        "systemctl set-property sluice MemoryMax={mebibytes}M   # docker: --memory={mebibytes}m; Kubernetes: limits.memory: {mebibytes}Mi"
    ))
}

/// How memory stands: what is reserved is used as it is needed, and seldom all of it.
fn enough(there: u64, need: u64, least: u64, goal: &Goal) -> Verdict {
    match there {
        there if there >= need => Verdict::Good,
        there if there >= least => Verdict::Better,
        _ => too_small(goal),
    }
}

fn host_memory(facts: &Facts, goal: &Goal, demand: &Demand) -> Finding {
    let Some(memory) = facts.memory_bytes else {
        return Finding::new(&HOST_MEMORY, Verdict::Unknown);
    };
    let need = &demand.memory_bytes;
    let verdict = enough(memory, need.value, demand.memory_least_bytes.value, goal);
    let finding = Finding::new(&HOST_MEMORY, verdict).found(amount::bytes(memory));
    let finding = finding.wanted(or_more(amount::bytes(need.value))).formula(&need.formula);
    if verdict == Verdict::Good {
        return finding;
    }
    finding.remedy("A host with more memory, or fewer calls on this one.")
}

#[cfg(test)]
mod tests;
