//! Which addresses media arrives on, and which of them a client is told.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::{AdvertiseLoopback, MediaConfig};
use crate::sdp::{Candidate, host_candidates};

/// Addresses to listen on: UDP, TCP.
pub type ListenAddresses = (Vec<SocketAddr>, Vec<SocketAddr>);

/// The addresses to listen on for media: those that are configured, else all that this host has,
/// link-local ones excepted.
///
/// `root` is `/` but for tests; the kernel's tables below `proc/net` are read.
///
/// # Errors
/// When nothing is configured and no address is found: what to configure.
pub fn listen_addresses(config: &MediaConfig, root: &Path) -> Result<ListenAddresses, String> {
    let found = local_addresses(root);
    let choose = |listed: &[IpAddr], port: u16, key: &str| {
        let mut chosen: Vec<IpAddr> = match listed {
            [] => found.iter().copied().filter(|ip| config.ipv6 || ip.is_ipv4()).collect(),
            listed => listed.to_vec(),
        };
        let mut seen = Vec::new();
        chosen.retain(|ip| {
            !seen.contains(ip) && {
                seen.push(*ip);
                true
            }
        });
        if chosen.is_empty() {
            return Err(format!("found no local IP address in /proc/net: list them in {key}"));
        }
        Ok(chosen.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>())
    };
    Ok((
        choose(&config.udp, config.udp_port, "rtc.ice_address_udp")?,
        choose(&config.tcp, config.tcp_port, "rtc.ice_address_tcp")?,
    ))
}

/// The addresses of interfaces that are up, link-local and multicast ones left out: IPv4 first,
/// loopback last within its family.
///
/// The IPv4 table holds addresses of interfaces that are up only; an IPv6 address that is still
/// being probed or was found to be somebody else's is left out.
fn local_addresses(root: &Path) -> Vec<IpAddr> {
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

/// What a client is told of our addresses.
#[derive(Clone, Debug)]
pub struct Advertised {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    loopback: AdvertiseLoopback,
    host_override: Option<IpAddr>,
}

impl Advertised {
    /// Takes the addresses that the engine got, with their ports.
    pub fn new(config: &MediaConfig, udp: &[SocketAddr], tcp: &[SocketAddr]) -> Self {
        Self {
            udp: udp.to_vec(),
            tcp: tcp.to_vec(),
            loopback: config.advertise_loopback,
            host_override: config.host_override,
        }
    }

    /// The candidates for one client; `from_this_host` when its signalling came over loopback.
    pub fn candidates(&self, from_this_host: bool) -> Vec<Candidate> {
        let only_loopback =
            self.udp.iter().chain(&self.tcp).all(|address| address.ip().is_loopback());
        let with_loopback = match self.loopback {
            AdvertiseLoopback::Always => true,
            AdvertiseLoopback::Never => false,
            AdvertiseLoopback::Auto => from_this_host || only_loopback,
        };
        let choose = |addresses: &[SocketAddr]| {
            let mut chosen: Vec<SocketAddr> = Vec::new();
            for address in addresses {
                if address.ip().is_loopback() && !with_loopback {
                    continue;
                }
                let shown = SocketAddr::new(self.shown(address.ip()), address.port());
                if !chosen.contains(&shown) {
                    chosen.push(shown);
                }
            }
            chosen
        };
        host_candidates(&choose(&self.udp), &choose(&self.tcp))
    }

    /// The override replaces all addresses of its family but loopback ones, as rtcd maps them.
    fn shown(&self, ip: IpAddr) -> IpAddr {
        match self.host_override {
            Some(external) if !ip.is_loopback() && external.is_ipv4() == ip.is_ipv4() => external,
            _ => ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        MediaConfig {
            udp: vec![],
            udp_port: 8443,
            tcp: vec![],
            tcp_port: 8444,
            ipv6: false,
            advertise_loopback: AdvertiseLoopback::Auto,
            host_override: None,
        }
    }

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        candidates.iter().map(|c| c.address.to_string()).collect()
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
    fn listed_addresses_are_used_as_they_are_and_an_empty_host_is_refused() {
        let mut config = config();
        let nowhere = Path::new("/nonexistent");
        assert!(
            listen_addresses(&config, nowhere)
                .expect_err("no table")
                .contains("rtc.ice_address_udp")
        );
        config.udp = vec!["::1".parse().expect("an address"), "::1".parse().expect("an address")];
        config.tcp = vec!["127.0.0.1".parse().expect("an address")];
        let (udp, tcp) = listen_addresses(&config, nowhere).expect("listed");
        assert_eq!((udp, tcp), (addresses(&["[::1]:8443"]), addresses(&["127.0.0.1:8444"])));
    }

    #[test]
    fn loopback_is_shown_to_this_host_or_when_there_is_nothing_else() {
        let both = addresses(&["192.0.2.2:8443", "127.0.0.1:8443"]);
        let advertised = Advertised::new(&config(), &both, &[]);
        assert_eq!(shown(&advertised.candidates(false)), ["192.0.2.2:8443"]);
        assert_eq!(shown(&advertised.candidates(true)), ["192.0.2.2:8443", "127.0.0.1:8443"]);
        let alone = Advertised::new(&config(), &both[1..], &[]);
        assert_eq!(shown(&alone.candidates(false)), ["127.0.0.1:8443"]);
        let never = MediaConfig { advertise_loopback: AdvertiseLoopback::Never, ..config() };
        assert_eq!(
            shown(&Advertised::new(&never, &both, &[]).candidates(true)),
            ["192.0.2.2:8443"]
        );
    }

    #[test]
    fn the_override_replaces_its_family_once_and_spares_loopback() {
        let config = MediaConfig { host_override: "198.51.100.9".parse().ok(), ..config() };
        let udp = addresses(&[
            "192.0.2.2:8443",
            "192.0.2.3:8443",
            "[2001:db8::2]:8443",
            "127.0.0.1:8443",
        ]);
        let advertised = Advertised::new(&config, &udp, &[]);
        assert_eq!(
            shown(&advertised.candidates(true)),
            ["198.51.100.9:8443", "[2001:db8::2]:8443", "127.0.0.1:8443"]
        );
    }
}
