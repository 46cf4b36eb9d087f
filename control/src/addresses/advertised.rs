//! The candidates that a client is given.

use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};

use super::local_ips;
use super::mapping::{External, Mapping};
use crate::config::{AdvertiseLoopback, HostOverride, MediaConfig};
use crate::sdp::{Candidate, host_candidates};

/// What a client is told of our addresses.
#[derive(Debug)]
pub struct Advertised {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    locals: Vec<IpAddr>,
    loopback: AdvertiseLoopback,
    /// Advertised with external addresses.
    external_port: Option<u16>,
    /// Changes when the name of an override resolves anew.
    mapping: RwLock<Mapping>,
}

impl Advertised {
    /// Takes the addresses that the engine got, with their ports. What has to be asked of others
    /// is learnt later, by [`Advertised::learn`].
    pub fn new(config: &MediaConfig, udp: &[SocketAddr], tcp: &[SocketAddr]) -> Self {
        let locals = local_ips(udp, tcp);
        let external = match &config.host_override {
            HostOverride::Address(ip) => External::Override(vec![*ip]),
            HostOverride::Pairs(pairs) => External::Pairs(pairs.clone()),
            HostOverride::Name(_) | HostOverride::None => External::None,
        };
        Self {
            udp: udp.to_vec(),
            tcp: tcp.to_vec(),
            loopback: config.advertise_loopback,
            external_port: config.port_override.as_ref().and_then(|port| port.of(&locals)),
            mapping: RwLock::new(Mapping::new(&external, &locals)),
            locals,
        }
    }

    /// Replaces what is known of external addresses; sessions that come later are told so.
    pub fn learn(&self, external: &External) {
        let mapping = Mapping::new(external, &self.locals);
        *self.mapping.write().unwrap_or_else(PoisonError::into_inner) = mapping;
    }

    /// The candidates for one client; `from_this_host` when its signalling came over loopback.
    pub fn candidates(&self, from_this_host: bool) -> Vec<Candidate> {
        let mapping = self.mapping.read().unwrap_or_else(PoisonError::into_inner);
        let (udp, tcp) = (self.shown(&mapping, &self.udp), self.shown(&mapping, &self.tcp));
        let with_loopback = match self.loopback {
            AdvertiseLoopback::Always => true,
            AdvertiseLoopback::Never => false,
            AdvertiseLoopback::Auto => {
                from_this_host || udp.iter().chain(&tcp).all(|address| address.ip().is_loopback())
            }
        };
        let choose = |mut addresses: Vec<SocketAddr>| {
            addresses.retain(|address| with_loopback || !address.ip().is_loopback());
            addresses
        };
        host_candidates(&choose(udp), &choose(tcp))
    }

    /// Each address as clients know it, once.
    fn shown(&self, mapping: &Mapping, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut shown: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            for ip in mapping.advertised(address.ip()) {
                let port = self.external_port.filter(|_| mapping.is_external(ip));
                let address = SocketAddr::new(ip, port.unwrap_or(address.port()));
                if !shown.contains(&address) {
                    shown.push(address);
                }
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(settings: &[(&str, &str)]) -> MediaConfig {
        let mut all = Settings::defaults();
        for (key, value) in settings {
            all.apply_flag("test", key, value).expect("a valid setting");
        }
        all.finish().expect("valid settings").media
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().expect("an address")).collect()
    }

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        candidates.iter().map(|c| c.address.to_string()).collect()
    }

    #[test]
    fn loopback_is_shown_to_this_host_or_when_there_is_nothing_else() {
        let both = addresses(&["192.0.2.2:8443", "127.0.0.1:8443"]);
        let advertised = Advertised::new(&config(&[]), &both, &[]);
        assert_eq!(shown(&advertised.candidates(false)), ["192.0.2.2:8443"]);
        assert_eq!(shown(&advertised.candidates(true)), ["192.0.2.2:8443", "127.0.0.1:8443"]);
        let alone = Advertised::new(&config(&[]), &both[1..], &[]);
        assert_eq!(shown(&alone.candidates(false)), ["127.0.0.1:8443"]);
        let never = config(&[("rtc.advertise_loopback", "never")]);
        assert_eq!(
            shown(&Advertised::new(&never, &both, &[]).candidates(true)),
            ["192.0.2.2:8443"]
        );
    }

    #[test]
    fn the_override_replaces_its_family_once_and_spares_loopback() {
        let config = config(&[("rtc.ice_host_override", "198.51.100.9")]);
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

    #[test]
    fn a_lone_loopback_address_behind_an_override_is_shown_to_all() {
        let config = config(&[("rtc.ice_host_override", "198.51.100.9")]);
        let advertised = Advertised::new(&config, &addresses(&["127.0.0.1:8443"]), &[]);
        assert_eq!(shown(&advertised.candidates(false)), ["198.51.100.9:8443"]);
    }

    #[test]
    fn the_port_override_goes_with_external_addresses_of_both_transports() {
        let local = addresses(&["10.1.1.1:8443", "127.0.0.1:8443"]);
        let candidates = |settings: &[(&str, &str)], learnt: Option<External>| {
            let advertised = Advertised::new(&config(settings), &local, &local);
            if let Some(external) = learnt {
                advertised.learn(&external);
            }
            shown(&advertised.candidates(true)).join(" ")
        };
        let port = ("rtc.ice_host_port_override", "30443");
        assert_eq!(
            candidates(&[port, ("rtc.ice_host_override", "1.1.1.1")], None),
            "1.1.1.1:30443 127.0.0.1:8443 1.1.1.1:30443 127.0.0.1:8443"
        );
        let plain = "10.1.1.1:8443 127.0.0.1:8443 10.1.1.1:8443 127.0.0.1:8443";
        assert_eq!(candidates(&[port], None), plain, "there is nothing external");
        assert_eq!(candidates(&[port], Some(External::Discovered(vec![]))), plain);
        let named = External::Override(vec!["1.1.1.1".parse().expect("an address")]);
        let name = ("rtc.ice_host_override", "calls.example.org");
        assert_eq!(
            candidates(&[port, name], Some(named)),
            "1.1.1.1:30443 127.0.0.1:8443 1.1.1.1:30443 127.0.0.1:8443",
            "a name is external like its address"
        );
        let list = ("rtc.ice_host_port_override", "10.9.9.9/30001,10.1.1.1/30002");
        assert_eq!(
            candidates(&[list, ("rtc.ice_host_override", "1.1.1.1/10.1.1.1")], None),
            "1.1.1.1:30002 127.0.0.1:8443 1.1.1.1:30002 127.0.0.1:8443"
        );
        let other = ("rtc.ice_host_port_override", "10.9.9.9/30001");
        assert_eq!(
            candidates(&[other, ("rtc.ice_host_override", "1.1.1.1")], None),
            "1.1.1.1:8443 127.0.0.1:8443 1.1.1.1:8443 127.0.0.1:8443"
        );
    }
}
