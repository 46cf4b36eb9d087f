//! Settings below /proc/sys that bound buffers, queues and files.

use super::{CAP_NET_ADMIN, has_capability, is_server, sysctl_number};
use crate::amount;
use crate::change::Target;
use crate::demand::{Demand, Goal, Sized};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static RMEM_MAX: Setting = Setting {
    key: "net.core.rmem_max",
    why: "The most that a socket's receive buffer may be set to without CAP_NET_ADMIN. All media of a shard arrives through one \
          socket for each address; what comes while the shard does something else waits there.",
    source: "socket(7), SO_RCVBUF; Mattermost documentation, RTCD setup, System tuning",
    effect: "A key frame burst or a join storm overflows the buffer, and the kernel drops packets (RcvbufErrors in /proc/net/snmp).",
};

static WMEM_MAX: Setting = Setting {
    key: "net.core.wmem_max",
    why: "The most that a socket's send buffer may be set to without CAP_NET_ADMIN. One frame of a screen leaves for all receivers \
          at once and lies there until the card has sent it.",
    source: "socket(7), SO_SNDBUF; Mattermost documentation, RTCD setup, System tuning",
    effect: "Sends are refused in the middle of a frame, and the rest of it is lost to some receivers (SndbufErrors).",
};

static RMEM_DEFAULT: Setting = Setting {
    key: "net.core.rmem_default",
    why: "The receive buffer of sockets whose program asks for none. Media sockets ask, so it does not concern them.",
    source: "socket(7); engine/src/io/socket.rs",
    effect: "None for media.",
};

static OPTMEM_MAX: Setting = Setting {
    key: "net.core.optmem_max",
    why: "The most memory for a socket's ancillary data and options. A run of segments takes less than a kibibyte of it, which the \
          kernel's default of 20 KiB to 128 KiB holds many times; it is here because the published advice names it.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst; Mattermost documentation, RTCD setup, System tuning",
    effect: "None is known for this server at the kernel's default.",
};

static BACKLOG: Setting = Setting {
    key: "net.core.netdev_max_backlog",
    why: "Packets that wait for a core when another core or a virtual device (veth, a container's network, RPS, loopback) hands \
          them over. Cards that deliver to the core itself do not use it.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst",
    effect: "In a container's network or with RPS, bursts are dropped before any socket sees them (/proc/net/softnet_stat, second column).",
};

static BUDGET: Setting = Setting {
    key: "net.core.netdev_budget",
    why: "Packets that one round of receiving may take from all cards of a core before it makes way for others.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst",
    effect: "The card's ring is emptied in smaller portions and overflows sooner (/proc/net/softnet_stat, third column, counts rounds cut short).",
};

static BUDGET_USECS: Setting = Setting {
    key: "net.core.netdev_budget_usecs",
    why: "Microseconds that such a round may take.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst",
    effect: "Rounds are cut short, as with a small net.core.netdev_budget.",
};

static BUSY_POLL: Setting = Setting {
    key: "net.core.busy_poll",
    why: "Microseconds that poll and epoll spin on the card's queue instead of sleeping. Shards collect datagrams and sleep meanwhile; \
          spinning takes the time in which they forward.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst; docs/decisions.md (datagrams wait for each other)",
    effect: "None was measured on a virtual card (docs/tuning.md, Measured); on others cores may be busy without work.",
};

static BUSY_READ: Setting = Setting {
    key: "net.core.busy_read",
    why: "The same for reads of a socket: each read that finds nothing spins.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst",
    effect: "None was measured on a virtual card (docs/tuning.md, Measured); on others cores may be busy without work.",
};

static DEFAULT_QDISC: Setting = Setting {
    key: "net.core.default_qdisc",
    why: "The queue in front of cards that come up later. pfifo_fast keeps nic.tx_queue_len packets; fq_codel and fq keep some 10,000 of their own.",
    source: "Linux, Documentation/admin-guide/sysctl/net.rst; tc-fq_codel(8), tc-fq(8)",
    effect: "None: either carries media.",
};

static SOMAXCONN: Setting = Setting {
    key: "net.core.somaxconn",
    why: "Connections that may wait to be accepted on one listening socket. Media over TCP listens with 1,024.",
    source: "listen(2); engine/src/io/socket.rs",
    effect: "When many who need TCP join at once, some connect only on a second try.",
};

static UDP_MEM: Setting = Setting {
    key: "net.ipv4.udp_mem",
    why: "Pages that all UDP sockets of the host may hold together: three numbers. The first is where the kernel begins to refuse \
          packets, whatever room their own socket has.",
    source: "udp(7); Linux, Documentation/networking/ip-sysctl.rst",
    effect: "Packets are dropped although the sockets have room (MemErrors in /proc/net/snmp).",
};

static NR_OPEN: Setting = Setting {
    key: "fs.nr_open",
    why: "The most that a process's limit of open files can be raised to.",
    source: "Linux, Documentation/admin-guide/sysctl/fs.rst",
    effect: "LimitNOFILE cannot be what the load needs.",
};

static FILE_MAX: Setting = Setting {
    key: "fs.file-max",
    why: "Files that may be open on the whole host.",
    source: "Linux, Documentation/admin-guide/sysctl/fs.rst",
    effect: "Connections are refused although the process may open more.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[
    &RMEM_MAX,
    &WMEM_MAX,
    &RMEM_DEFAULT,
    &OPTMEM_MAX,
    &UDP_MEM,
    &BACKLOG,
    &BUDGET,
    &BUDGET_USECS,
    &BUSY_POLL,
    &BUSY_READ,
    &DEFAULT_QDISC,
    &SOMAXCONN,
    &NR_OPEN,
    &FILE_MAX,
];

const OPTMEM_ADVICE: u64 = 16 << 20;
/// The kernel's default of net.core.netdev_budget.
const BUDGET_MIN: u64 = 300;
/// Two ticks of a kernel with 1,000 a second, its default.
const BUDGET_USECS_MIN: u64 = 2_000;
const ACCEPT_BACKLOG: u64 = 1_024;
const PAGE: u64 = 4_096;
/// What the kernel shows where nothing bounds.
const NO_BOUND: u64 = i64::MAX as u64;
/// Each network namespace has its own of these (net/core/sysctl_net_core.c); the others below net.core are the host's.
const PER_NAMESPACE: [&str; 2] = ["net.core.somaxconn", "net.core.optmem_max"];

/// Looks at them.
pub fn findings(facts: &Facts, goal: &Goal, demand: &Demand) -> Vec<Finding> {
    let plain = |setting, least, below| at_least(facts, setting, least, below, in_digits);
    // A server with this capability passes the bound by SO_RCVBUFFORCE and SO_SNDBUFFORCE.
    let passes = is_server(facts, goal) && has_capability(facts, CAP_NET_ADMIN);
    let buffer = |setting: &'static Setting, least: &Sized, need: &Sized| {
        let loses = sysctl_number(facts, setting.key).is_some_and(|there| there < least.value);
        let below = if loses && !passes { Verdict::Wrong } else { Verdict::Better };
        at_least(facts, setting, need.value, below, in_bytes).formula(&need.formula)
    };
    vec![
        buffer(&RMEM_MAX, &demand.receive_buffer_least_bytes, &demand.receive_buffer_bytes),
        buffer(&WMEM_MAX, &demand.send_buffer_least_bytes, &demand.send_buffer_bytes),
        note(facts, &RMEM_DEFAULT),
        at_least(facts, &OPTMEM_MAX, OPTMEM_ADVICE, Verdict::Better, in_bytes),
        udp_mem(facts, demand),
        plain(&BACKLOG, demand.backlog_packets.value, Verdict::Better)
            .formula(&demand.backlog_packets.formula),
        plain(&BUDGET, BUDGET_MIN, Verdict::Better),
        plain(&BUDGET_USECS, BUDGET_USECS_MIN, Verdict::Better),
        zero(facts, &BUSY_POLL),
        zero(facts, &BUSY_READ),
        note(facts, &DEFAULT_QDISC),
        plain(&SOMAXCONN, ACCEPT_BACKLOG, Verdict::Better),
        plain(&NR_OPEN, demand.open_files.value, Verdict::Wrong)
            .formula(&demand.open_files.formula),
        plain(&FILE_MAX, demand.open_files.value.saturating_mul(2), Verdict::Wrong)
            .formula(format!("twice the files of the server: {}", demand.open_files.formula)),
    ]
}

/// Good from `least` up, and never lowered.
pub(super) fn at_least(
    facts: &Facts,
    setting: &'static Setting,
    least: u64,
    below: Verdict,
    words: fn(u64) -> String,
) -> Finding {
    match sysctl_number(facts, setting.key) {
        None => unknown(facts, setting),
        Some(there) if there >= least => {
            Finding::new(setting, Verdict::Good).found(words(there)).wanted(or_more(words(least)))
        }
        Some(there) => {
            let finding = Finding::new(setting, below).found(words(there));
            let finding = finding.wanted(or_more(words(least)));
            set(finding, facts, least.to_string())
        }
    }
}

fn zero(facts: &Facts, setting: &'static Setting) -> Finding {
    match sysctl_number(facts, setting.key) {
        None => unknown(facts, setting),
        Some(0) => Finding::new(setting, Verdict::Good).found("0").wanted("0"),
        Some(there) => {
            // Somebody chose it, perhaps for another program of this host.
            let finding = Finding::new(setting, Verdict::Better);
            let command = Target::Sysctl { name: setting.key.to_owned() }.command("0");
            finding
                .found(there.to_string())
                .wanted("0")
                .remedy(format!("If no other program of this host needs it: {command}"))
        }
    }
}

fn note(facts: &Facts, setting: &'static Setting) -> Finding {
    match facts.sysctls.get(setting.key) {
        None => Finding::new(setting, Verdict::Note),
        Some(there) => Finding::new(setting, Verdict::Note).found(there),
    }
}

fn udp_mem(facts: &Facts, demand: &Demand) -> Finding {
    let text = facts.sysctls.get(UDP_MEM.key).map_or("", String::as_str);
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [min, pressure, max] = numbers[..] else {
        return unknown(facts, &UDP_MEM);
    };
    let need = &demand.udp_memory_bytes;
    let pages = need.value.div_ceil(PAGE);
    let wanted = [pages, pressure.max(pages + pages / 3), max.max(pages.saturating_mul(2))];
    // The least buffers of all shards, full, doubled as the kernel does.
    let least = demand.receive_buffer_least_bytes.value.saturating_mul(2 * demand.shards.value);
    let below = if min < least / PAGE { Verdict::Wrong } else { Verdict::Better };
    let formula = format!("{pages} pages of 4 KiB: {}", need.formula);
    let finding = |verdict| {
        let words = format!("≥ {pages} first");
        Finding::new(&UDP_MEM, verdict).found(text).wanted(words).formula(formula)
    };
    if min >= pages {
        return finding(Verdict::Good);
    }
    if facts.memory_bytes.is_some_and(|memory| need.value > memory / 2) {
        return finding(below).remedy(
            "Full buffers would take more than half of the host's memory: add memory, or set engine.socket_buffer_bytes or engine.shards lower.",
        );
    }
    set(finding(below), facts, wanted.map(|pages| pages.to_string()).join(" "))
}

/// `finding` with the change to `value`, or where it is the host's to set, with the command for there.
fn set(finding: Finding, facts: &Facts, value: String) -> Finding {
    let key = finding.setting.key;
    let target = Target::Sysctl { name: key.to_owned() };
    if is_ours(facts, key) {
        return finding.change(target, facts.sysctls.get(key).cloned(), value);
    }
    if PER_NAMESPACE.contains(&key) {
        return finding.remedy(format!(
            "Where the container is started: docker run --sysctl {key}={value}, or securityContext.sysctls in Kubernetes."
        ));
    }
    let command = target.command(&value);
    finding.remedy(format!("On the host, since it cannot be set in here: {command}"))
}

/// Nothing is known of it.
fn unknown(facts: &Facts, setting: &'static Setting) -> Finding {
    let finding = Finding::new(setting, Verdict::Unknown);
    if facts.network_namespace == Some(false) || facts.container.is_some() {
        return finding.remedy("It is not shown in here: run sluice-tune on the host.");
    }
    finding
}

/// Whether a setting can be expected to take a write from here: those of the host's network are read-only in other network namespaces.
fn is_ours(facts: &Facts, key: &str) -> bool {
    let own = PER_NAMESPACE.contains(&key);
    match (facts.network_namespace, facts.container.is_some()) {
        (Some(false), false) => own || !key.starts_with("net."),
        (Some(true), _) | (None, false) => true,
        (Some(false) | None, true) => false,
    }
}

/// As a bound from below.
pub(super) fn or_more(words: impl std::fmt::Display) -> String {
    format!("≥ {words}")
}

/// As it is, but for what stands for no bound.
pub(super) fn in_digits(number: u64) -> String {
    if number >= NO_BOUND { "no limit".to_owned() } else { number.to_string() }
}

fn in_bytes(number: u64) -> String {
    format!("{number} ({})", amount::bytes(number))
}

#[cfg(test)]
mod tests;
