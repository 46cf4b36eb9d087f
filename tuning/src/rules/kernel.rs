//! What the kernel offers, by its version and switches.

use super::{CAP_PERFMON, CAP_SYS_ADMIN, has_capability, sysctl_number};
use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static IO_URING: Setting = Setting {
    key: "kernel.io_uring",
    why: "One of the two ways in which a shard receives and sleeps. It needs multishot receives (kernel 6.0); from 6.1 completions \
          run without interrupting the shard. Without it the server takes epoll with recvmmsg by itself.",
    source: "io_uring(7), io_uring_setup(2), io_uring_prep_recvmsg_multishot(3); engine/src/io/probe.rs; docs/decisions.md (Packets)",
    effect: "The other back-end is used, which costs the same by the packet.",
};

static IO_URING_DISABLED: Setting = Setting {
    key: "kernel.io_uring_disabled",
    why: "0 lets every process use io_uring, 1 only privileged ones and the group of kernel.io_uring_group, 2 none.",
    source: "Linux, Documentation/admin-guide/sysctl/kernel.rst",
    effect: "The other back-end is used, which costs the same by the packet; the start fails where engine.backend = \"uring\".",
};

static MIN_WAIT: Setting = Setting {
    key: "kernel.min_wait",
    why: "From 6.12 io_uring waits for company and then for the first datagram in one call; before, that takes two.",
    source: "io_uring_enter(2), IORING_FEAT_MIN_TIMEOUT; docs/decisions.md (datagrams wait for each other)",
    effect: "One system call more for each time that a shard sleeps.",
};

static UDP_GSO: Setting = Setting {
    key: "kernel.udp_gso",
    why: "UDP_SEGMENT, from 4.18: a run of datagrams to one receiver costs about what one costs. A packet costs 2.2 µs without it and \
          0.6 µs in runs of 16.",
    source: "udp(7), UDP_SEGMENT; docs/decisions.md (Packets)",
    effect: "Video costs several times as much.",
};

static EQUAL_RUNS: Setting = Setting {
    key: "kernel.equal_runs",
    why: "Kernels 7.0 to 7.1.4 damage the headers of runs whose datagrams are all of one length. The server sends such runs one by one there.",
    source: "tailscale, pull request 19918; engine/src/io/gso.rs",
    effect: "Video costs more by the packet; nothing is damaged.",
};

static UDP_GRO: Setting = Setting {
    key: "kernel.udp_gro",
    why: "UDP_GRO, from 5.0: datagrams of one sender that come back to back are read as one, which takes a tenth of the time for each.",
    source: "udp(7), UDP_GRO; engine/src/io/socket.rs",
    effect: "Reading a publisher's video costs more.",
};

static FOUR_TUPLE_HASH: Setting = Setting {
    key: "kernel.four_tuple_hash",
    why: "From 6.13 the kernel finds connected UDP sockets by their peer. The server has one socket for all peers of a shard, which was \
          measured to cost less, and does not need it.",
    source: "docs/decisions.md (one socket for all peers)",
    effect: "None.",
};

static PERF_EVENT_PARANOID: Setting = Setting {
    key: "kernel.perf_event_paranoid",
    why: "Who may sample where time goes: at 1 and below the kernel's part too, at 2 the program's own, above that nobody without CAP_PERFMON.",
    source: "perf_event_open(2); docs/operations.md (Profiles)",
    effect: "Media is not affected; /debug/profile answers 503 or shows less.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[
    &IO_URING,
    &IO_URING_DISABLED,
    &MIN_WAIT,
    &UDP_GSO,
    &EQUAL_RUNS,
    &UDP_GRO,
    &FOUR_TUPLE_HASH,
    &PERF_EVENT_PARANOID,
];

type Version = (u32, u32, u32);

/// Looks at them.
pub fn findings(facts: &Facts, _goal: &Goal, _demand: &Demand) -> Vec<Finding> {
    let Some(version) = facts.kernel.version else {
        return SETTINGS.iter().map(|setting| Finding::new(setting, Verdict::Unknown)).collect();
    };
    vec![
        io_uring(facts, version),
        io_uring_disabled(facts, version),
        since(&MIN_WAIT, version, (6, 12, 0), Verdict::Note),
        since(&UDP_GSO, version, (4, 18, 0), Verdict::Better),
        equal_runs(version),
        since(&UDP_GRO, version, (5, 0, 0), Verdict::Better),
        since(&FOUR_TUPLE_HASH, version, (6, 13, 0), Verdict::Note),
        perf_event_paranoid(facts),
    ]
}

/// Good from the version `first` on.
fn since(setting: &'static Setting, version: Version, first: Version, before: Verdict) -> Finding {
    let verdict = if version >= first { Verdict::Good } else { before };
    let finding = Finding::new(setting, verdict).found(format!("kernel {}", dotted(version)));
    let finding = finding.wanted(format!("from {}.{}", first.0, first.1));
    if verdict <= Verdict::Note {
        return finding;
    }
    finding.remedy(format!("A kernel from {}.{} has it.", first.0, first.1))
}

fn io_uring(facts: &Facts, version: Version) -> Finding {
    let finding = since(&IO_URING, version, (6, 0, 0), Verdict::Better);
    match facts.process.seccomp {
        Some(2) if finding.verdict == Verdict::Good => Finding { verdict: Verdict::Note, ..finding }
            .found(format!("kernel {}, behind a seccomp filter", dotted(version)))
            .remedy(
                "Container runtimes' default filters forbid io_uring. The server says at start which back-end it took; to allow it, add \
                 io_uring_setup, io_uring_enter and io_uring_register to the seccomp profile.",
            ),
        _ => finding,
    }
}

fn io_uring_disabled(facts: &Facts, version: Version) -> Finding {
    let finding = |verdict| Finding::new(&IO_URING_DISABLED, verdict).wanted("0");
    match sysctl_number(facts, IO_URING_DISABLED.key) {
        Some(0) => finding(Verdict::Good).found("0"),
        Some(1) if has_capability(facts, CAP_SYS_ADMIN) => {
            finding(Verdict::Good).found("1, and this process is privileged")
        }
        Some(there) => finding(Verdict::Better).found(there.to_string()).remedy(
            "Somebody switched it off, perhaps for security; to switch it on: sysctl -w kernel.io_uring_disabled=0",
        ),
        None if version < (6, 6, 0) => {
            finding(Verdict::Good).found("no such switch before 6.6")
        }
        None => finding(Verdict::Unknown),
    }
}

fn equal_runs(version: Version) -> Finding {
    let damaged = ((7, 0, 0)..=(7, 1, 4)).contains(&version);
    let finding = |verdict| {
        let finding = Finding::new(&EQUAL_RUNS, verdict).wanted("not 7.0 to 7.1.4");
        finding.found(format!("kernel {}", dotted(version)))
    };
    match damaged {
        true => finding(Verdict::Better).remedy("Kernel 7.1.5 and later are free of it."),
        false => finding(Verdict::Good),
    }
}

fn perf_event_paranoid(facts: &Facts) -> Finding {
    let finding = Finding::new(&PERF_EVENT_PARANOID, Verdict::Note);
    let perfmon = has_capability(facts, CAP_PERFMON) || has_capability(facts, CAP_SYS_ADMIN);
    let Some(text) = facts.sysctls.get(PERF_EVENT_PARANOID.key) else {
        return Finding::new(&PERF_EVENT_PARANOID, Verdict::Unknown);
    };
    let what = match text.parse::<i32>() {
        Ok(_) if perfmon => "profiles with the kernel's part, by capability",
        Ok(..=1) => "profiles with the kernel's part",
        Ok(2) => "profiles of the program alone",
        _ => "no profiles",
    };
    finding.found(format!("{text}: {what}"))
}

fn dotted((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Kernel;

    fn look(version: Version, change: impl Fn(&mut Facts)) -> Vec<Finding> {
        let kernel = Kernel { release: None, version: Some(version) };
        let mut facts = Facts { kernel, ..Facts::default() };
        facts.sysctls.insert("kernel.io_uring_disabled".to_owned(), "0".to_owned());
        change(&mut facts);
        let goal = Goal::default();
        findings(&facts, &goal, &Demand::of(&goal, &facts))
    }

    fn verdict(findings: &[Finding], key: &str) -> Verdict {
        findings.iter().find(|finding| finding.setting.key == key).unwrap().verdict
    }

    #[test]
    fn versions_decide_what_the_kernel_offers() {
        for (version, key, expected) in [
            ((5, 15, 0), "kernel.io_uring", Verdict::Better),
            ((6, 1, 0), "kernel.io_uring", Verdict::Good),
            ((6, 11, 9), "kernel.min_wait", Verdict::Note),
            ((6, 12, 0), "kernel.min_wait", Verdict::Good),
            ((4, 17, 0), "kernel.udp_gso", Verdict::Better),
            ((4, 18, 0), "kernel.udp_gso", Verdict::Good),
            ((4, 18, 0), "kernel.udp_gro", Verdict::Better),
            ((6, 18, 44), "kernel.equal_runs", Verdict::Good),
            ((7, 0, 0), "kernel.equal_runs", Verdict::Better),
            ((7, 1, 4), "kernel.equal_runs", Verdict::Better),
            ((7, 1, 5), "kernel.equal_runs", Verdict::Good),
        ] {
            assert_eq!(verdict(&look(version, |_| {}), key), expected, "{version:?} {key}");
        }
    }

    #[test]
    fn io_uring_is_looked_at_with_who_may_use_it() {
        let of = |value: &str, capabilities| {
            let findings = look((6, 18, 0), |facts| {
                facts.sysctls.insert("kernel.io_uring_disabled".to_owned(), value.to_owned());
                facts.process.capabilities = Some(capabilities);
            });
            verdict(&findings, "kernel.io_uring_disabled")
        };
        assert_eq!(of("1", 1 << 21), Verdict::Good);
        assert_eq!(of("1", 1 << 12), Verdict::Better);
        assert_eq!(of("2", u64::MAX), Verdict::Better);
        let filtered = look((6, 18, 0), |facts| facts.process.seccomp = Some(2));
        assert_eq!(verdict(&filtered, "kernel.io_uring"), Verdict::Note);
        let none = |facts: &mut Facts| facts.sysctls.clear();
        assert_eq!(verdict(&look((6, 5, 0), none), "kernel.io_uring_disabled"), Verdict::Good);
        assert_eq!(verdict(&look((6, 6, 0), none), "kernel.io_uring_disabled"), Verdict::Unknown);
    }
}
