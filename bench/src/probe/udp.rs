//! What the kernel counts of UDP: in a network namespace, and of packets on their way to any.

use std::fs;

use crate::result::UdpCounters;

impl UdpCounters {
    /// Reads what is counted in the network namespace of a process, IPv4 and IPv6 together; `None` where it cannot be looked up.
    ///
    /// Source: RFC 4113 (udpInErrors), Linux Documentation/networking/snmp_counter.rst and net/core/net-procfs.c.
    pub fn of_process(pid: u32) -> Option<Self> {
        let read = |path: String| fs::read_to_string(path);
        let v4 = read(format!("/proc/{pid}/net/snmp")).ok()?;
        // A kernel without IPv6 has no such table.
        let v6 = read(format!("/proc/{pid}/net/snmp6")).unwrap_or_default();
        let backlog = read("/proc/net/softnet_stat".to_owned()).unwrap_or_default();
        parse(&v4, &v6, &backlog)
    }
}

/// Whether a process counts in the same network namespace as we do.
pub fn is_in_our_namespace(pid: u32) -> bool {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let theirs = namespace(&pid.to_string());
    theirs.is_some() && theirs == namespace("self")
}

fn parse(v4: &str, v6: &str, backlog: &str) -> Option<UdpCounters> {
    // Two lines of each protocol: names, then values.
    let mut lines = v4.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of_v4 = |name: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(other, _)| *other == name)?.1.parse::<u64>().ok()
    };
    let of_v6 = |name: &str| {
        let mut pairs = v6.lines().filter_map(|line| line.split_once(char::is_whitespace));
        pairs.find(|(other, _)| other.strip_prefix("Udp6") == Some(name))?.1.trim().parse().ok()
    };
    let of = |name: &str| of_v4(name).unwrap_or(0) + of_v6(name).unwrap_or(0);
    Some(UdpCounters {
        in_errors: of("InErrors"),
        rcvbuf_errors: of("RcvbufErrors"),
        sndbuf_errors: of("SndbufErrors"),
        mem_errors: of("MemErrors"),
        backlog_dropped: backlog_dropped(backlog),
    })
}

/// A line for each core, numbers in hexadecimal; the second is of packets that found its backlog full.
fn backlog_dropped(table: &str) -> u64 {
    let of_cores = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    of_cores.filter_map(|number| u64::from_str_radix(number, 16).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_and_all_cores_are_summed() {
        let v4 = "Tcp: InErrs\nTcp: 9\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors MemErrors\n\
            Udp: 100 1 7 200 5 3 2\n\
            UdpLite: InDatagrams InErrors\nUdpLite: 90 80\n";
        let v6 = "Ip6InReceives   \t10\nUdp6InErrors    \t11\nUdp6RcvbufErrors\t10\nUdpLite6InErrors\t70\n";
        let backlog = "000000ff 00000010 00000000\n000000ff 00000001 00000000\n";
        let expected = UdpCounters {
            in_errors: 18,
            rcvbuf_errors: 15,
            sndbuf_errors: 3,
            mem_errors: 2,
            backlog_dropped: 17,
        };
        assert_eq!(parse(v4, v6, backlog), Some(expected));
        let alone = UdpCounters { in_errors: 7, rcvbuf_errors: 5, backlog_dropped: 0, ..expected };
        assert_eq!(parse(v4, "", ""), Some(alone));
        assert_eq!(parse("Tcp: InErrs\nTcp: 9\n", v6, backlog), None);
    }

    #[test]
    fn this_process_is_in_its_own_namespace_and_nobody_in_none() {
        assert!(is_in_our_namespace(std::process::id()));
        assert!(UdpCounters::of_process(std::process::id()).is_some());
        // The greatest number that no process can have.
        assert!(!is_in_our_namespace(u32::MAX));
        assert_eq!(UdpCounters::of_process(u32::MAX), None);
    }
}
