//! What the announced addresses are: whether clients elsewhere can have any use for them.

use std::net::IpAddr;

use super::address::{Reach, is_ours};
use super::finding::Finding;
use super::host::{Device, Host};
use super::reach::list;

/// The network that Docker gives to containers where nothing else is configured.
const DOCKER_DEFAULT: [u8; 2] = [172, 17];

/// What is to be known besides the addresses.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    /// This host, when it is the server's.
    pub(super) host: Option<&'a Host>,
    /// An address by which the server is reached from elsewhere, and how that is known.
    pub(super) public: Option<(IpAddr, &'static str)>,
    /// Whether that address is the API's: then it may be a proxy's.
    pub(super) public_may_be_proxy: bool,
    /// Whether the server is asked at a loopback address and is not on this host: a container, or a tunnel.
    pub(super) behind_loopback: bool,
}

/// Judges the addresses that clients are told, loopback ones included.
pub(super) fn judge(addresses: &[IpAddr], known: Known<'_>) -> Vec<Finding> {
    let mut ips: Vec<IpAddr> = addresses.to_vec();
    ips.sort();
    ips.dedup();
    ips.retain(|ip| Reach::of(*ip) != Reach::Loopback);
    if ips.is_empty() {
        return vec![only_loopback(addresses.is_empty())];
    }
    let of = |wanted: Reach| ips.iter().copied().filter(move |ip| Reach::of(*ip) == wanted);
    if let Some((public, source)) = known.public.filter(|(public, _)| !ips.contains(public)) {
        return vec![not_announced(public, source, known.public_may_be_proxy, &ips)];
    }
    // A laboratory may have given them to its hosts.
    let foreign = of(Reach::Documentation).filter(|ip| known.host.is_none() || !is_ours(*ip));
    let examples = list(foreign.map(|ip| ip.to_string()));
    if !examples.is_empty() {
        let found = format!("{examples} is announced, {}.", Reach::Documentation.text());
        return vec![
            Finding::failure("address", found)
                .means("Nobody on the Internet has it: it may have been copied from a manual.")
                .fix("set rtc.ice_host_override to the address by which clients reach this host"),
        ];
    }
    if let Some(inside) = judge_container(&ips, known) {
        return vec![inside];
    }
    let bridges = known.host.and_then(|host| judge_bridges(&ips, host));
    let findings: Vec<Finding> = bridges.into_iter().chain(judge_public(&ips)).collect();
    if findings.is_empty() {
        let public = list(of(Reach::Public).map(|ip| ip.to_string()));
        return vec![Finding::ok("address", format!("Public addresses are announced: {public}."))];
    }
    findings
}

fn only_loopback(none_at_all: bool) -> Finding {
    if none_at_all {
        return Finding::failure("address", "The server announces no address at all.")
            .fix("list the host's addresses in rtc.ice_address_udp, or set rtc.advertise_loopback = \"auto\"");
    }
    Finding::failure("address", "Only loopback addresses are announced.")
        .means("Clients on other hosts cannot connect.")
        .fix(
            "leave rtc.ice_address_udp and rtc.ice_address_tcp empty for all addresses of the host, or list \
             those that clients reach",
        )
}

fn not_announced(public: IpAddr, source: &str, may_be_proxy: bool, ips: &[IpAddr]) -> Finding {
    let announced = list(ips.iter().map(ToString::to_string));
    let found = format!("{source} {public}, and the server announces {announced}.");
    let setting = format!("rtc.ice_host_override = \"{public}\"");
    if may_be_proxy {
        return Finding::warning("address", found)
            .means("Clients elsewhere may be told addresses that do not lead to this server. A proxy may have the other one.")
            .fix(format!(
                "if {public} forwards UDP and TCP of the media port (8443 by default) to this server: {setting}"
            ));
    }
    Finding::failure("address", found)
        .means("Clients elsewhere are told addresses that do not lead to this server.")
        .fix(setting)
}

/// Addresses of containers.
fn judge_container(ips: &[IpAddr], known: Known<'_>) -> Option<Finding> {
    let docker = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets()[..2] == DOCKER_DEFAULT);
    let fix = "run the container with the host's network (docker run --network host); or set \
               rtc.ice_host_override to the host's address and publish the media port over UDP and TCP \
               (with the default port: -p 8443:8443/udp -p 8443:8443/tcp)";
    if known.behind_loopback && ips.iter().any(docker) {
        let found = format!("{} is announced, the address of a container.", ips[0]);
        return Some(
            Finding::failure("address", found)
                .means("Only this host and its containers reach it.")
                .fix(fix),
        );
    }
    let host = known.host?;
    if let Some(engine) = host.container {
        let is_inner = |ip: &&IpAddr| {
            Reach::of(**ip) == Reach::Private
                && host.device_of(**ip).is_some_and(|(_, device)| device == Device::Pair)
        };
        if let Some(inner) = ips.iter().find(is_inner)
            && !ips.iter().any(|ip| Reach::of(*ip) == Reach::Public)
        {
            let found = format!(
                "{inner} is announced, the address of this container (it has the mark of {engine})."
            );
            return Some(
                Finding::warning("address", found)
                    .means("If this is Docker's bridge network or one like it, clients on other hosts have no way to it.")
                    .fix(format!("if this is Docker's bridge network: {fix}")),
            );
        }
    }
    None
}

/// Addresses of bridges beside others.
fn judge_bridges(ips: &[IpAddr], host: &Host) -> Option<Finding> {
    let bridge_of = |ip: &IpAddr| match host.device_of(*ip) {
        Some((device, Device::Bridge)) => Some(device),
        _ => None,
    };
    let (on_bridges, others): (Vec<IpAddr>, Vec<IpAddr>) =
        ips.iter().partition(|ip| bridge_of(ip).is_some());
    let ip = on_bridges.first().filter(|_| !others.is_empty())?;
    let device = bridge_of(ip)?;
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    let found = format!("{ip} is announced, the address of the bridge {device} on this host.");
    Some(
        Finding::warning("address", found)
            .means("Only containers or guests on this host reach it; clients try it in vain before they use another.")
            .fix(format!("list the others alone: rtc.ice_address_udp = \"{}\"", others.join(","))),
    )
}

/// Whether the rest of the world can have any use for them.
fn judge_public(ips: &[IpAddr]) -> Option<Finding> {
    if ips.iter().any(|ip| Reach::of(*ip) == Reach::Public) {
        return None;
    }
    let kinds = list(ips.iter().map(|ip| format!("{ip} ({})", Reach::of(*ip).text())));
    Some(
        Finding::warning("address", format!("No public address is announced: {kinds}."))
            .means("Clients of the same network connect, those on the Internet do not.")
            .fix(
                "for clients on the Internet: rtc.ice_host_override = \"PUBLIC ADDRESS OR NAME\"; \
                 `sluice doctor --stun HOST:PORT` asks a STUN server for it",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn verdicts(list: &[&str], known: Known<'_>) -> Vec<Verdict> {
        judge(&ips(list), known).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn loopback_alone_is_a_failure_and_beside_others_does_not_matter() {
        let none = Known::default();
        assert_eq!(verdicts(&["127.0.0.1", "::1"], none), [Verdict::Failure]);
        assert_eq!(verdicts(&[], none), [Verdict::Failure]);
        assert_eq!(verdicts(&["127.0.0.1", "8.8.8.8"], none), [Verdict::Ok]);
    }

    #[test]
    fn private_addresses_alone_are_a_warning_that_names_the_setting() {
        for private in ["10.0.0.5", "100.64.0.1", "169.254.0.1", "fd00::5"] {
            let findings = judge(&ips(&[private]), Known::default());
            assert_eq!(findings[0].verdict, Verdict::Warning, "{private}");
            assert!(findings[0].fix.as_deref().is_some_and(|f| f.contains("ice_host_override")));
        }
        assert_eq!(verdicts(&["10.0.0.5", "8.8.8.8"], Known::default()), [Verdict::Ok]);
        assert_eq!(verdicts(&["203.0.113.7"], Known::default()), [Verdict::Failure]);
    }

    #[test]
    fn a_known_public_address_that_is_not_announced_is_the_setting_to_make() {
        let public = "8.8.4.4".parse().expect("an address");
        let known = Known { public: Some((public, "A STUN server sees")), ..Known::default() };
        let findings = judge(&ips(&["10.0.0.5"]), known);
        assert_eq!(findings[0].verdict, Verdict::Failure);
        assert_eq!(findings[0].fix.as_deref(), Some("rtc.ice_host_override = \"8.8.4.4\""));
        assert_eq!(verdicts(&["8.8.4.4", "10.0.0.5"], known), [Verdict::Ok]);
        let proxy = Known { public_may_be_proxy: true, ..known };
        let findings = judge(&ips(&["10.0.0.5"]), proxy);
        assert_eq!(findings[0].verdict, Verdict::Warning);
        let fix = findings[0].fix.as_deref().expect("a fix");
        assert!(fix.starts_with("if 8.8.4.4 forwards UDP and TCP"), "{fix}");
    }

    #[test]
    fn containers_and_bridges_are_known_by_this_hosts_signs() {
        let bridged = Host::with(None, &["docker0 172.17.0.0/16", "br-ab 172.18.0.0/16"]);
        let known = Known { host: Some(&bridged), ..Known::default() };
        let findings = judge(&ips(&["8.8.8.8", "172.17.0.1", "172.18.0.1"]), known);
        assert_eq!(findings[0].verdict, Verdict::Warning);
        let fix = findings[0].fix.as_deref().expect("a fix");
        assert!(fix.ends_with("rtc.ice_address_udp = \"8.8.8.8\""), "{fix}");
        let inner = Host::with(Some("Docker"), &["eth0@ 172.17.0.0/16"]);
        let known = Known { host: Some(&inner), ..Known::default() };
        assert_eq!(verdicts(&["172.17.0.2"], known), [Verdict::Warning]);
        let fix = judge(&ips(&["172.17.0.2"]), known)[0].fix.clone().expect("a fix");
        assert!(fix.contains("if this is Docker's bridge network"), "{fix}");
        assert_eq!(verdicts(&["8.8.8.8", "172.17.0.2"], known), [Verdict::Ok]);
    }

    #[test]
    fn a_server_in_a_container_is_known_by_its_address() {
        let known = Known { behind_loopback: true, ..Known::default() };
        let findings = judge(&ips(&["172.17.0.2"]), known);
        assert_eq!(findings[0].verdict, Verdict::Failure);
        assert!(findings[0].fix.as_deref().is_some_and(|fix| fix.contains("--network host")));
        assert_eq!(verdicts(&["172.17.0.2"], Known::default()), [Verdict::Warning]);
    }
}
