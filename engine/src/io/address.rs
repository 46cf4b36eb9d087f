//! Socket addresses in the kernel's form.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address as system calls take and give it: big enough for IPv4 and IPv6, no bigger.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// Bytes that the kernel may write here.
    pub(super) const SIZE: usize = size_of::<Self>();

    /// An address of no family, for the kernel to fill.
    pub(super) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: libc::AF_UNSPEC as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// The address and the length that belongs to its family.
    pub(super) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::EMPTY;
        match address {
            SocketAddr::V4(v4) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// Copies an address out of bytes that the kernel wrote; shorter input is filled up with zeros.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = Self::EMPTY;
        let len = bytes.len().min(Self::SIZE);
        // SAFETY: source and destination are valid for `len` bytes and distinct; every byte pattern is a valid `RawAddress`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut raw).cast::<u8>(), len);
        }
        raw
    }

    /// The address; IPv4 in its mapped form becomes IPv4. `None` for other families.
    pub(super) fn to_std(self) -> Option<SocketAddr> {
        // SAFETY: every variant is plain integers, all bytes of the union are initialised, and `family` is the first field of each.
        let family = i32::from(unsafe { self.family });
        match family {
            libc::AF_INET => {
                // SAFETY: as above.
                let v4 = unsafe { self.v4 };
                let ip = v4.sin_addr.s_addr.to_ne_bytes().into();
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                // The flow label is no part of who the peer is.
                Some(normalise(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into()))
            }
            _ => None,
        }
    }
}

/// The address with IPv4 in mapped form (`::ffff:a.b.c.d`) turned into IPv4.
pub(super) fn normalise(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.7:8443", "[2001:db8::7]:8443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(address).0.to_std(), Some(address));
        }
        let link_local = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 4));
        assert_eq!(RawAddress::new(link_local).0.to_std(), Some(link_local));
    }

    #[test]
    fn mapped_ipv4_becomes_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:1".parse().unwrap();
        let plain: SocketAddr = "192.0.2.7:1".parse().unwrap();
        assert_eq!(RawAddress::new(mapped).0.to_std(), Some(plain));
    }

    #[test]
    fn an_address_of_no_family_is_none() {
        assert_eq!(RawAddress::EMPTY.to_std(), None);
        assert_eq!(RawAddress::from_bytes(&[]).to_std(), None);
    }
}
