//! What kind of address an address is: where clients may be for it to be of use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::addresses::local_addresses;

/// Whom an address can be reached by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Programs on the same host. Source: RFC 1122 §3.2.1.3, RFC 4291 §2.5.3.
    Loopback,
    /// Hosts on the same link. Source: RFC 3927, RFC 4291 §2.5.6.
    LinkLocal,
    /// Hosts of the same network. Source: RFC 1918, RFC 4193.
    Private,
    /// Behind a carrier's translator. Source: RFC 6598.
    Shared,
    /// Nobody: it stands in examples. Source: RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// Everybody, as far as the address tells.
    Public,
}

impl Reach {
    /// Reads it off the address.
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }

    /// As a sentence says it after "is".
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Shared => "an address behind a carrier's translator (RFC 6598)",
            Self::Documentation => "an address that is kept for examples",
            Self::Public => "a public address",
        }
    }
}

fn of_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [169, 254, ..] => Reach::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
        [100, 64..=127, ..] => Reach::Shared,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Documentation,
        _ => Reach::Public,
    }
}

fn of_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        [0xfc00..=0xfdff, ..] => Reach::Private,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Documentation,
        _ => Reach::Public,
    }
}

/// Whether one host can be meant: neither no address nor many.
pub(super) fn is_of_one_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether this host has the address: the kernel lets a socket have it. Where it lets a socket have any address, its tables tell.
pub(super) fn is_ours(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let setting = match ip {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/ip_nonlocal_bind",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/ip_nonlocal_bind",
    };
    if std::fs::read_to_string(setting).is_ok_and(|value| value.trim() != "0") {
        return ip.is_loopback() || local_addresses(Path::new("/")).contains(&ip);
    }
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_their_rfcs_end_them() {
        for (text, reach) in [
            ("127.255.255.255", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:10.0.0.1", Reach::Private),
            ("169.254.0.1", Reach::LinkLocal),
            ("febf::1", Reach::LinkLocal),
            ("172.15.255.255", Reach::Public),
            ("172.16.0.0", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("172.32.0.0", Reach::Public),
            ("192.168.0.1", Reach::Private),
            ("192.169.0.1", Reach::Public),
            ("fd00::1", Reach::Private),
            ("fe00::1", Reach::Public),
            ("100.63.255.255", Reach::Public),
            ("100.64.0.0", Reach::Shared),
            ("100.127.255.255", Reach::Shared),
            ("100.128.0.0", Reach::Public),
            ("203.0.113.7", Reach::Documentation),
            ("2001:db8::1", Reach::Documentation),
            ("2001:db9::1", Reach::Public),
        ] {
            assert_eq!(Reach::of(text.parse().expect("an address")), reach, "{text}");
        }
    }

    #[test]
    fn loopback_is_ours_and_the_block_for_examples_is_not() {
        assert!(is_ours(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_ours(IpAddr::from([203, 0, 113, 7])));
    }
}
