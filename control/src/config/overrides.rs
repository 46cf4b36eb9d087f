//! What is advertised instead of local addresses and ports: `rtc.ice_host_override` and
//! `rtc.ice_host_port_override`.

use std::net::IpAddr;

/// A local address and what clients know it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressPair {
    /// What is advertised.
    pub external: IpAddr,
    /// What is listened on.
    pub internal: IpAddr,
}

/// What is advertised instead of local addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum HostOverride {
    /// Nothing is configured.
    #[default]
    None,
    /// One address for all of its family.
    Address(IpAddr),
    /// A host name that stands for such an address.
    Name(String),
    /// Pairs, used as they stand.
    Pairs(Vec<AddressPair>),
}

impl HostOverride {
    /// Reads an address, a host name or `external/internal` pairs, comma-separated; spaces around
    /// each are ignored.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::None);
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Address(ip));
        }
        if text.contains('/') {
            return text
                .split(',')
                .map(str::trim)
                .map(pair)
                .collect::<Result<_, _>>()
                .map(Self::Pairs);
        }
        let host = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        if text.len() <= 253 && text.bytes().all(host) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(format!(
            "invalid ICEHostOverride value: {text:?} is neither an IP address, a host name nor a \
             list of externalIP/internalIP"
        ))
    }
}

fn pair(text: &str) -> Result<AddressPair, String> {
    let parsed = text.split_once('/').and_then(|(external, internal)| {
        Some(AddressPair { external: external.parse().ok()?, internal: internal.parse().ok()? })
    });
    parsed.ok_or_else(|| {
        format!("invalid ICEHostOverride value: {text:?} is not of the form externalIP/internalIP")
    })
}

/// The port that is advertised with external addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortOverride {
    /// The same on every host.
    Port(u16),
    /// By local address, so that hosts behind one address can share a configuration.
    ByAddress(Vec<(IpAddr, u16)>),
}

impl PortOverride {
    /// Reads a port or `localIP/port` pairs, comma-separated. `None` for empty text.
    ///
    /// # Errors
    /// What would be right; an address or a port that stands there twice.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if !text.contains('/') {
            let port: i64 = text.parse().map_err(|_| {
                format!(
                    "invalid ICEHostPortOverride value: {text:?} is neither a port nor a list of \
                     localIP/port"
                )
            })?;
            return Self::port(port).map(Some);
        }
        let mut pairs: Vec<(IpAddr, u16)> = Vec::new();
        for pair in text.split(',').map(str::trim) {
            let parsed = pair
                .split_once('/')
                .and_then(|(ip, port)| Some((ip.parse().ok()?, port.parse::<u16>().ok()?)));
            let Some((ip, port)) = parsed.filter(|(_, port)| *port != 0) else {
                return Err(format!(
                    "invalid ICEHostPortOverride value: {pair:?} is not of the form localIP/port"
                ));
            };
            if pairs.iter().any(|(known, _)| *known == ip) {
                return Err(format!(
                    "invalid ICEHostPortOverride value: address {ip} stands there twice"
                ));
            }
            if pairs.iter().any(|(_, known)| *known == port) {
                return Err(format!(
                    "invalid ICEHostPortOverride value: port {port} stands there twice"
                ));
            }
            pairs.push((ip, port));
        }
        Ok(Some(Self::ByAddress(pairs)))
    }

    /// Takes a single port.
    ///
    /// # Errors
    /// When it is not in the range 80 to 49151.
    pub fn port(port: i64) -> Result<Self, String> {
        match u16::try_from(port) {
            Ok(port @ 80..=49151) => Ok(Self::Port(port)),
            _ => Err(format!(
                "invalid ICEHostPortOverride value: {port} is not in the range 80 to 49151"
            )),
        }
    }

    /// The one port of this host, whose addresses are `locals`: of a list, that of the first of
    /// them which stands in it.
    pub fn of(&self, locals: &[IpAddr]) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::ByAddress(pairs) => locals
                .iter()
                .find_map(|local| pairs.iter().find(|(ip, _)| ip == local).map(|(_, port)| *port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_host_override_is_an_address_a_name_or_pairs() {
        assert_eq!(HostOverride::parse(" "), Ok(HostOverride::None));
        assert_eq!(HostOverride::parse(" 1.1.1.1 "), Ok(HostOverride::Address(ip("1.1.1.1"))));
        assert_eq!(
            HostOverride::parse("calls.example.org"),
            Ok(HostOverride::Name("calls.example.org".to_owned()))
        );
        let pairs = HostOverride::parse("1.1.1.1/127.0.0.1, 2001:db8::1/::1");
        let pair =
            |external, internal| AddressPair { external: ip(external), internal: ip(internal) };
        let expected = vec![pair("1.1.1.1", "127.0.0.1"), pair("2001:db8::1", "::1")];
        assert_eq!(pairs, Ok(HostOverride::Pairs(expected)));
        for bad in ["1.1.1.1/x", "1.1.1.1/2.2.2.2,", "a/b", "a b", "ä.example"] {
            assert!(HostOverride::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_a_list_the_first_local_address_says_the_port() {
        let list = PortOverride::parse("10.0.0.1/30001, 10.0.0.2/30002").expect("valid");
        let list = list.expect("not empty");
        assert_eq!(list.of(&[ip("127.0.0.1"), ip("10.0.0.2"), ip("10.0.0.1")]), Some(30_002));
        assert_eq!(list.of(&[ip("127.0.0.1")]), None);
        assert_eq!(PortOverride::port(8045).expect("in range").of(&[]), Some(8045));
    }

    #[test]
    fn ports_and_addresses_stand_in_a_list_once() {
        assert_eq!(PortOverride::parse(""), Ok(None));
        let twice = PortOverride::parse("10.0.0.1/1,10.0.0.1/2").expect_err("twice");
        assert!(twice.contains("address 10.0.0.1"), "{twice}");
        let twice = PortOverride::parse("10.0.0.1/1,10.0.0.2/1").expect_err("twice");
        assert!(twice.contains("port 1"), "{twice}");
        for bad in ["79", "49152", "x", "10.0.0.1/0", "10.0.0.1/65536", "10.0.0.1/1,"] {
            assert!(PortOverride::parse(bad).is_err(), "{bad}");
        }
    }
}
