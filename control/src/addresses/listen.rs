//! Which addresses media arrives on.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use crate::config::MediaConfig;

/// Addresses to listen on: UDP, TCP.
pub type ListenAddresses = (Vec<SocketAddr>, Vec<SocketAddr>);

/// The addresses to listen on for media: those that are configured, else all that this host has,
/// link-local ones excepted. One list alone counts for UDP and TCP.
///
/// `root` is `/` but for tests; the kernel's tables below `proc/net` are read.
///
/// # Errors
/// A listed address that no interface has, or no address at all: what to configure.
pub fn listen_addresses(config: &MediaConfig, root: &Path) -> Result<ListenAddresses, String> {
    let found = local_addresses(root);
    let choose = |listed: &[IpAddr], other: &[IpAddr], port: u16, key: &str| {
        for ip in listed {
            check_local(*ip, &found).map_err(|error| format!("{key}: {error}"))?;
        }
        let listed = if listed.is_empty() { other } else { listed };
        let chosen = expand(listed, &found, config.ipv6);
        if chosen.is_empty() {
            return Err(format!("found no local IP address in /proc/net: list them in {key}"));
        }
        Ok(chosen.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>())
    };
    Ok((
        choose(&config.udp, &config.tcp, config.udp_port, "rtc.ice_address_udp")?,
        choose(&config.tcp, &config.udp, config.tcp_port, "rtc.ice_address_tcp")?,
    ))
}

/// What a list stands for, each address once. An unspecified address stands for all: candidates
/// need addresses that a client can send to.
fn expand(listed: &[IpAddr], found: &[IpAddr], ipv6: bool) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    match listed {
        [] => all.extend(found.iter().filter(|ip| ipv6 || ip.is_ipv4())),
        listed => {
            for ip in listed {
                match ip {
                    IpAddr::V4(v4) if v4.is_unspecified() => {
                        all.extend(found.iter().filter(|ip| ip.is_ipv4()));
                    }
                    IpAddr::V6(v6) if v6.is_unspecified() => all.extend(found),
                    _ => all.push(*ip),
                }
            }
        }
    }
    let mut chosen = Vec::with_capacity(all.len());
    for ip in all {
        if !chosen.contains(&ip) {
            chosen.push(ip);
        }
    }
    chosen
}

/// The kernel is asked, not the tables: it may let addresses be used that no interface has
/// (`net.ipv4.ip_nonlocal_bind`).
fn check_local(ip: IpAddr, found: &[IpAddr]) -> Result<(), String> {
    match UdpSocket::bind((ip, 0)) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            let known: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(format!("no interface of this host has {ip}; it has {}", known.join(", ")))
        }
        // Other troubles are found, and named, when the engine binds.
        _ => Ok(()),
    }
}

/// The addresses of interfaces that are up, link-local and multicast ones left out: IPv4 first,
/// loopback last within its family.
///
/// The IPv4 table holds addresses of interfaces that are up only; an IPv6 address that is still
/// being probed or was found to be somebody else's is left out.
pub fn local_addresses(root: &Path) -> Vec<IpAddr> {
    let v4_table = fs::read_to_string(root.join("proc/net/fib_trie")).unwrap_or_default();
    let v6_table = fs::read_to_string(root.join("proc/net/if_inet6")).unwrap_or_default();
    let mut v4 = local_v4(&v4_table);
    let mut v6 = local_v6(&v6_table);
    v4.sort_by_key(|ip| (ip.is_loopback(), *ip));
    v4.dedup();
    v6.sort_by_key(|ip| (ip.is_loopback(), *ip));
    v6.dedup();
    v4.into_iter().map(IpAddr::V4).chain(v6.into_iter().map(IpAddr::V6)).collect()
}

/// A leaf `|-- 192.0.2.2` followed by `/32 host LOCAL` is an address of this host.
fn local_v4(table: &str) -> Vec<Ipv4Addr> {
    let mut leaf = None;
    let mut found = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf.filter(|ip| !ip.is_link_local()));
        }
    }
    found
}

const IFA_F_DADFAILED: u32 = 0x08; // linux/if_addr.h
const IFA_F_TENTATIVE: u32 = 0x40;

/// Fields of a line: address in hex, interface index, prefix length, scope, flags, name.
fn local_v6(table: &str) -> Vec<Ipv6Addr> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let address = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
            let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
            let usable = flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE) == 0;
            (usable && !address.is_unicast_link_local()).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const FIB_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
     |-- 169.254.7.7
        /32 host LOCAL
Local:
     |-- 192.0.2.2
        /32 host LOCAL
";
    const IF_INET6: &str = "\
20010db8000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
20010db8000000000000000000000003 04 40 00 c2     eth0
20010db8000000000000000000000004 04 40 00 88     eth0
";

    fn config() -> MediaConfig {
        match Settings::defaults().finish() {
            Ok(config) => config.media,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().expect("an address")).collect()
    }

    #[test]
    fn tables_give_usable_addresses_without_link_local_ones() {
        assert_eq!(local_v4(FIB_TRIE).iter().filter(|ip| !ip.is_loopback()).count(), 2);
        assert!(local_v4(FIB_TRIE).iter().all(|ip| ip.octets()[0] != 169));
        let v6: Vec<_> = local_v6(IF_INET6).iter().map(ToString::to_string).collect();
        assert_eq!(v6, ["2001:db8::2", "::1"]);
    }

    #[test]
    fn tables_of_another_shape_give_nothing_and_do_no_harm() {
        for text in ["", "|-- \n/32 host LOCAL", "zz 1 2 3 4", "\u{0}\u{ff}", "1", "|-- 1.2.3"] {
            assert!(local_v4(text).is_empty() && local_v6(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn listed_addresses_are_used_once_each_and_a_host_without_any_is_refused() {
        let mut config = MediaConfig { tcp_port: 8444, ..config() };
        let nowhere = Path::new("/nonexistent");
        let refused = listen_addresses(&config, nowhere).expect_err("no table");
        assert!(refused.contains("rtc.ice_address_udp"), "{refused}");
        config.udp = vec![ip("127.0.0.2"), ip("127.0.0.2")];
        let (udp, tcp) = listen_addresses(&config, nowhere).expect("listed");
        assert_eq!(
            (udp, tcp),
            (addresses(&["127.0.0.2:8443"]), addresses(&["127.0.0.2:8444"])),
            "one list counts for both"
        );
        config.tcp = vec![ip("127.0.0.1"), ip("127.0.0.3")];
        let (udp, tcp) = listen_addresses(&config, nowhere).expect("listed");
        let expected = addresses(&["127.0.0.1:8444", "127.0.0.3:8444"]);
        assert_eq!((udp, tcp), (addresses(&["127.0.0.2:8443"]), expected));
    }

    #[test]
    fn a_listed_address_of_another_host_is_refused_with_those_of_this_one() {
        // TEST-NET-2: nobody has it. Source: RFC 5737.
        let refused = check_local(ip("198.51.100.77"), &[ip("192.0.2.2")]).expect_err("not ours");
        assert!(refused.contains("198.51.100.77") && refused.contains("192.0.2.2"), "{refused}");
        assert_eq!(check_local(ip("127.0.0.1"), &[]), Ok(()));
    }

    #[test]
    fn an_unspecified_address_stands_for_all() {
        let found = [ip("192.0.2.2"), ip("127.0.0.1"), ip("2001:db8::2")];
        assert_eq!(expand(&[ip("0.0.0.0")], &found, true), found[..2]);
        assert_eq!(expand(&[ip("::")], &found, false), found);
        assert_eq!(expand(&[ip("127.0.0.1"), ip("0.0.0.0")], &found, false).len(), 2);
        assert_eq!(expand(&[], &found, false), found[..2]);
        assert_eq!(expand(&[], &found, true), found);
    }
}
