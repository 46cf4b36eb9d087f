//! UDP sockets and listeners of this host, as /proc/net shows them.

use std::collections::BTreeSet;
use std::fs;

/// Sums the last column of /proc/net/udp over sockets whose local port is `wanted`.
pub fn socket_drops(table: &str, wanted: impl Fn(u16) -> bool) -> u64 {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((port, words.last()?.parse::<u64>().ok()?))
    });
    rows.filter(|&(port, _)| wanted(port)).map(|(_, drops)| drops).sum()
}

/// Datagrams that the UDP sockets of a process had no room for, so far.
pub fn process_socket_drops(pid: u32) -> u64 {
    let own = inodes(pid);
    let tables = ["udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let rows = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let drops = rows.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_own = own.contains(*words.get(9)?);
        is_own.then(|| words.last()?.parse::<u64>().ok()).flatten()
    });
    drops.sum()
}

/// Whether any of these sockets is UDP.
fn has_udp(pid: u32, own: &BTreeSet<String>) -> bool {
    let tables = ["udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let mut rows = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    rows.any(|line| line.split_whitespace().nth(9).is_some_and(|inode| own.contains(inode)))
}

/// Inodes of the sockets of a process, as far as they may be looked up.
fn inodes(pid: u32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets = descriptors.filter_map(|descriptor| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    });
    sockets.collect()
}

/// The process that listens on a TCP port of this host, if it may be looked up and is the only one.
pub fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let wanted: BTreeSet<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let mut owners = BTreeSet::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let own = inodes(pid);
        // A proxy in front of the server listens as well; who moves media has a UDP socket.
        let owns = !wanted.is_disjoint(&own) && has_udp(pid, &own);
        if owns {
            owners.insert(pid);
        }
    }
    if owners.len() == 1 { owners.first().copied() } else { None }
}

/// Inodes of the sockets in a table of /proc/net that listen on `port`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = words.get(1)?.rsplit_once(':')?;
        let is_listening = *words.get(3)? == "0A";
        let matches = is_listening && u16::from_str_radix(local, 16).ok()? == port;
        matches.then(|| words.get(9).map(|inode| (*inode).to_owned())).flatten()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_the_ports_asked_for() {
        let table = "  sl  local_address rem_address   st ... drops\n\
            1: 0100007F:20FB 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 ff 12\n\
            2: 0100007F:20FC 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 ff 5\n";
        assert_eq!(socket_drops(table, |port| port == 8_443), 12);
        assert_eq!(socket_drops(table, |_| true), 17);
        assert_eq!(socket_drops(table, |port| port == 1), 0);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F6D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            1: 0100007F:1F6D 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening(table, 8_045), ["4711"]);
        assert!(listening(table, 1).is_empty());
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = own.local_addr().unwrap().port();
        let _media = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(port), Some(std::process::id()));
    }
}
