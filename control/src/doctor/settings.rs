//! What the settings alone tell: the name of the override, and, where no server runs, what would hinder one.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use sluice_engine::io::probe::probe;
use sluice_tuning::facts::Facts;
use sluice_tuning::finding::Verdict;
use sluice_tuning::{advice, host};

use super::address::is_ours;
use super::announced::{self, Known};
use super::finding::Finding;
use super::host::Host;
use super::node::{not_uring, tuning};
use crate::addresses;
use crate::config::{Config, HostOverride, Settings};

/// Reads the settings as `sluice serve` does: the file, if one is named, and the environment.
///
/// # Errors
/// What is wrong with them.
pub(super) fn load(file: Option<&str>) -> Result<Config, String> {
    let mut settings = Settings::defaults();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        settings.apply_file(path, &text).map_err(|error| error.to_string())?;
    }
    let lookup = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
    settings.apply_environment(lookup).map_err(|error| error.to_string())?;
    settings.finish().map_err(|error| error.to_string())
}

/// Whether the name of the override leads to an address that is announced, or to this host. `None` without a name.
pub(super) async fn judge_name(config: &Config, announced: &[IpAddr]) -> Option<Finding> {
    let HostOverride::Name(name) = &config.media.host_override else { return None };
    let answers = match addresses::resolve(name).await {
        Ok(answers) => answers,
        Err(error) => {
            let found =
                format!("rtc.ice_host_override: the name {name} does not resolve: {error}.");
            return Some(
                Finding::failure("name", found)
                    .means("A server that starts now ends at once; one that runs keeps the last address.")
                    .fix(format!("make an A record for {name}, or set an address in its place")),
            );
        }
    };
    let shown = super::reach::list(answers.iter().map(ToString::to_string));
    if answers.iter().any(|ip| announced.contains(ip) || is_ours(*ip)) {
        return Some(Finding::ok("name", format!("{name} resolves to {shown}.")));
    }
    let found =
        format!("rtc.ice_host_override: {name} resolves to {shown}, no address of this host.");
    Some(
        Finding::warning("name", found)
            .means("That is right where a translator with this address forwards to this host, and wrong elsewhere.")
            .fix(format!("see where the name leads: getent ahosts {name}")),
    )
}

/// What can be said of a server that does not run.
pub(super) async fn judge_unstarted(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match addresses::listen_addresses(&config.media, Path::new("/")) {
        Ok((udp, tcp)) => {
            findings.extend(judge_ports(&udp, &tcp));
            findings.extend(judge_addresses(config, &udp).await);
        }
        Err(error) => {
            findings.push(
                Finding::failure("address", format!("{error}."))
                    .means("The server would not start."),
            );
        }
    }
    findings.push(match probe(config.engine.backend) {
        Ok((backend, None)) => {
            Finding::ok("backend", format!("The back-end would be {}.", backend.name()))
        }
        Ok((backend, Some(reason))) => not_uring(backend.name(), &reason),
        Err(error) => Finding::failure("backend", format!("engine.backend: {error}."))
            .means("The server would not start.")
            .fix("engine.backend = \"auto\" takes what works"),
    });
    findings.push(judge_host(config));
    findings
}

async fn judge_addresses(config: &Config, udp: &[SocketAddr]) -> Vec<Finding> {
    let own: Vec<IpAddr> = udp.iter().map(SocketAddr::ip).collect();
    let announced = match &config.media.host_override {
        HostOverride::None => own,
        HostOverride::Address(ip) => vec![*ip],
        HostOverride::Pairs(pairs) => pairs.iter().map(|pair| pair.external).collect(),
        HostOverride::Name(name) => addresses::resolve(name).await.unwrap_or_default(),
    };
    let host = Host::read(Path::new("/"));
    let mut findings = Vec::new();
    // A name that does not resolve is told of itself.
    if !announced.is_empty() {
        let known = Known { host: Some(&host), ..Known::default() };
        findings.extend(announced::judge(&announced, known));
    }
    findings.extend(judge_name(config, &[]).await);
    findings
}

/// Whether the ports are free, and this user may have them.
fn judge_ports(udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<Finding> {
    let datagrams = udp.iter().map(|&a| ("UDP", "u", a, UdpSocket::bind(a).map(drop)));
    let connections = tcp.iter().map(|&a| ("TCP", "t", a, TcpListener::bind(a).map(drop)));
    let refused = datagrams.chain(connections).find_map(|(name, letter, address, bound)| {
        bound.err().map(|error| (name, letter, address, error))
    });
    let Some((name, letter, address, error)) = refused else {
        let port = udp.first().map_or(0, SocketAddr::port);
        let found = format!("Media port {port} is free for this user on {} addresses.", udp.len());
        return vec![Finding::ok("port", found)];
    };
    let finding =
        Finding::failure("port", format!("{name} {address} cannot be listened on: {error}."));
    let port = address.port();
    vec![match error.kind() {
        ErrorKind::AddrInUse => finding
            .means(
                "Another program has the port: perhaps a Sluice whose API is at another address.",
            )
            .fix(format!(
                "ss -ln{letter}p 'sport = :{port}' shows which; --server says where its API is"
            )),
        ErrorKind::PermissionDenied => finding
            .means("The server would not start as this user.")
            .fix("take a port above 1023 (rtc.ice_port_udp, rtc.ice_port_tcp)"),
        _ => finding.means("The server would not start."),
    }]
}

/// As `sluice-tune check` does, for the load of the settings.
fn judge_host(config: &Config) -> Finding {
    let goal = config.goal();
    let report = advice::check(&Facts::read(&host::Host::this(), 0), &goal);
    let wrong = report.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong);
    tuning(wrong.count(), &goal.load.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let mut all = Settings::defaults();
        for (key, value) in settings {
            all.apply_flag("test", key, value).expect("a valid setting");
        }
        all.finish().expect("valid settings")
    }

    #[test]
    fn a_port_in_use_is_named_with_its_transport() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        let address = udp.local_addr().expect("it is bound");
        let findings = judge_ports(&[address], &[]);
        assert_eq!(findings[0].verdict, Verdict::Failure);
        assert!(findings[0].found.contains(&address.to_string()), "{findings:?}");
        assert!(findings[0].fix.as_deref().is_some_and(|fix| fix.starts_with("ss -lnup")));
        let any = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(judge_ports(&[any], &[any])[0].verdict, Verdict::Ok);
    }

    #[tokio::test]
    async fn a_name_is_judged_by_where_it_leads() {
        let name = |name| config(&[("rtc.ice_host_override", name)]);
        let judged = judge_name(&name("localhost"), &[]).await.expect("it is a name");
        assert_eq!(judged.verdict, Verdict::Ok, "{judged:?}");
        let judged = judge_name(&name("a..b"), &[]).await.expect("it is a name");
        assert_eq!(judged.verdict, Verdict::Failure);
        assert_eq!(judge_name(&config(&[]), &[]).await, None);
    }
}
