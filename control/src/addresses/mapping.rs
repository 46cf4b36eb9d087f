//! From local addresses to those that are advertised: a function of the addresses alone.

use std::net::IpAddr;

use crate::config::AddressPair;

/// What is known of this host's external addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum External {
    /// Nothing: local addresses are advertised.
    #[default]
    None,
    /// At most one address for each family.
    Override(Vec<IpAddr>),
    /// Pairs of the operator.
    Pairs(Vec<AddressPair>),
    /// What a STUN server saw; a local address that is missing was not answered.
    Discovered(Vec<AddressPair>),
}

/// What each local address is advertised as.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Mapping {
    pairs: Vec<AddressPair>,
    /// Addresses of a translator in front of this host, to which the port override applies.
    externals: Vec<IpAddr>,
}

impl Mapping {
    /// Works out the pairs for the addresses that are listened on.
    pub(super) fn new(external: &External, locals: &[IpAddr]) -> Self {
        match external {
            External::None => Self::default(),
            External::Override(ips) => Self {
                pairs: ips.iter().flat_map(|ip| overridden(*ip, locals)).collect(),
                externals: ips.clone(),
            },
            External::Pairs(pairs) => Self {
                pairs: pairs.clone(),
                externals: pairs
                    .iter()
                    .filter(|pair| pair.external != pair.internal)
                    .map(|pair| pair.external)
                    .collect(),
            },
            External::Discovered(found) => Self {
                pairs: locals
                    .iter()
                    .map(|local| {
                        let known = found.iter().find(|pair| pair.internal == *local);
                        known.copied().unwrap_or(AddressPair { external: *local, internal: *local })
                    })
                    .collect(),
                externals: found.iter().map(|pair| pair.external).collect(),
            },
        }
    }

    /// What `local` is advertised as: itself where nothing is known of it.
    pub(super) fn advertised(&self, local: IpAddr) -> Vec<IpAddr> {
        let known: Vec<IpAddr> = self
            .pairs
            .iter()
            .filter(|pair| pair.internal == local)
            .map(|pair| pair.external)
            .collect();
        if known.is_empty() { vec![local] } else { known }
    }

    /// Whether `advertised` belongs to a translator in front of this host.
    pub(super) fn is_external(&self, advertised: IpAddr) -> bool {
        self.externals.contains(&advertised)
    }
}

/// A single address of the family is mapped whatever it is; of several, loopback ones stay, since a
/// translator does not lead to them.
fn overridden(external: IpAddr, locals: &[IpAddr]) -> Vec<AddressPair> {
    let family: Vec<IpAddr> =
        locals.iter().copied().filter(|local| local.is_ipv4() == external.is_ipv4()).collect();
    if let [internal] = family[..] {
        return vec![AddressPair { external, internal }];
    }
    let shown = |local: IpAddr| if local.is_loopback() { local } else { external };
    family.iter().map(|local| AddressPair { external: shown(*local), internal: *local }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostOverride;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| ip(text)).collect()
    }

    /// The pairs as an operator would write them.
    fn pairs(external: &External, locals: &[&str]) -> String {
        let mapping = Mapping::new(external, &ips(locals));
        let pairs = mapping.pairs.iter().map(|p| format!("{}/{}", p.external, p.internal));
        pairs.collect::<Vec<_>>().join(",")
    }

    fn pair(external: &str, internal: &str) -> AddressPair {
        AddressPair { external: ip(external), internal: ip(internal) }
    }

    const LOCALS: &[&str] = &["127.0.0.1", "10.1.1.1"];

    #[test]
    fn the_vectors_of_rtcd() {
        let mapped = "127.0.0.1/127.0.0.1,1.1.1.1/10.1.1.1";
        assert_eq!(pairs(&External::Override(ips(&["1.1.1.1"])), LOCALS), mapped);
        let found = vec![pair("1.1.1.1", "10.1.1.1")];
        assert_eq!(pairs(&External::Discovered(found), LOCALS), mapped);
        assert_eq!(
            pairs(&External::Discovered(vec![]), LOCALS),
            "127.0.0.1/127.0.0.1,10.1.1.1/10.1.1.1"
        );
        let verbatim = "1.1.1.1/127.0.0.1,1.1.1.1/10.1.1.1";
        let Ok(HostOverride::Pairs(listed)) = HostOverride::parse(verbatim) else {
            panic!("these are pairs")
        };
        assert_eq!(pairs(&External::Pairs(listed), LOCALS), verbatim);
    }

    #[test]
    fn an_override_maps_its_family_and_a_lone_address_even_if_it_is_loopback() {
        let both = External::Override(ips(&["1.1.1.1", "2001:db8::1"]));
        let locals = &["127.0.0.1", "10.1.1.1", "10.1.1.2", "fd00::2"];
        assert_eq!(
            pairs(&both, locals),
            "127.0.0.1/127.0.0.1,1.1.1.1/10.1.1.1,1.1.1.1/10.1.1.2,2001:db8::1/fd00::2"
        );
        let one = External::Override(ips(&["1.1.1.1"]));
        assert_eq!(pairs(&one, &["127.0.0.1"]), "1.1.1.1/127.0.0.1");
        assert_eq!(pairs(&one, &["::1"]), "");
        assert_eq!(Mapping::new(&one, &ips(&["::1"])).advertised(ip("::1")), ips(&["::1"]));
    }

    #[test]
    fn addresses_without_a_pair_are_advertised_as_they_are() {
        let listed =
            External::Pairs(vec![pair("1.1.1.1", "10.1.1.1"), pair("2.2.2.2", "10.1.1.1")]);
        let mapping = Mapping::new(&listed, &ips(LOCALS));
        assert_eq!(mapping.advertised(ip("10.1.1.1")), ips(&["1.1.1.1", "2.2.2.2"]));
        assert_eq!(mapping.advertised(ip("127.0.0.1")), ips(&["127.0.0.1"]));
        assert_eq!(Mapping::default().advertised(ip("10.1.1.1")), ips(&["10.1.1.1"]));
    }

    #[test]
    fn external_are_the_override_what_stun_found_and_pairs_with_two_sides() {
        let external = |external: External, ip_text| {
            Mapping::new(&external, &ips(LOCALS)).is_external(ip(ip_text))
        };
        assert!(external(External::Override(ips(&["10.1.1.1"])), "10.1.1.1"));
        assert!(!external(External::Override(ips(&["1.1.1.1"])), "127.0.0.1"));
        let found = || External::Discovered(vec![pair("10.1.1.1", "10.1.1.1")]);
        assert!(external(found(), "10.1.1.1"), "seen by the server, if only as it is");
        assert!(!external(found(), "127.0.0.1"));
        let listed =
            || External::Pairs(vec![pair("1.1.1.1", "10.1.1.1"), pair("127.0.0.1", "127.0.0.1")]);
        assert!(external(listed(), "1.1.1.1"));
        assert!(!external(listed(), "127.0.0.1"));
        assert!(!external(External::None, "10.1.1.1"));
    }
}
