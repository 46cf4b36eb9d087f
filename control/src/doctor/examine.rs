//! Examines a server through its API, or the host when there is none.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::address::{Reach, is_ours};
use super::announced::{self, Known};
use super::api::{Api, ApiError};
use super::check::{Subject, Target, Transport, check_all};
use super::finding::{Finding, Verdict};
use super::host::{Device, Host};
use super::probe_session::{ProbeCall, Reachable};
use super::reach::{self, Around, Check, FROM_ELSEWHERE, Vantage};
use super::report::Report;
use super::ticket::TARGETS_MAX;
use super::{Options, node, settings};
use crate::addresses::{self, External};
use crate::config::{IceServer, Settings};
use crate::http::drain::NodeState;
use crate::http::native::Node;

/// Why nothing could be examined.
#[derive(Debug)]
pub(super) struct Trouble(pub(super) String);

impl Trouble {
    /// A signal came.
    pub(super) fn interrupted() -> Self {
        Self("the examination was interrupted".to_owned())
    }
}

/// Examines the server behind `api`; a host without one when nothing listens there and it is this host.
///
/// # Errors
/// There is no server, it is none of ours, or it lets us do nothing.
pub(super) async fn server(api: &Api, options: &Options) -> Result<Report, Trouble> {
    let node: Node = match api.ask_for("GET", "/v1/node", None).await {
        Ok(node) => node,
        Err(ApiError::Refused) if is_this_host(&api.url.host) => {
            return Ok(unstarted(api, options).await);
        }
        Err(error) => return Err(Trouble(explain(api, &error))),
    };
    let vantage = vantage(&node, &api.url.host);
    let mut findings = node::judge(&node, api);
    let mut checks = Vec::new();
    let made = checked(api, &node, vantage, options.limit).await;
    match made.transpose().ok_or_else(Trouble::interrupted)? {
        Ok((made, unread)) => {
            checks = made;
            let around = Around { vantage, is_ours: &is_ours, listening: &listening(&node) };
            findings.extend(reach::judge(&checks, &around));
            findings.extend(unread.first().map(|line| {
                Finding::unknown("address", format!("Not all candidates could be checked: {line}."))
            }));
            findings.extend(announced(api, &node, vantage, &checks, options).await);
        }
        Err(error) if node.state == NodeState::Draining => {
            let found = format!("Nothing was checked, since the server takes no session: {error}.");
            findings.push(Finding::unknown("udp", found).fix("examine it again after the drain"));
        }
        Err(error) => {
            let found = format!("The server makes no session for the checks: {error}.");
            findings.push(Finding::failure("session", found));
        }
    }
    match &options.settings {
        Ok(config) => {
            let ips: Vec<IpAddr> = checks.iter().map(|c| c.target.address.ip()).collect();
            findings.extend(settings::judge_name(config, &ips).await);
        }
        Err(error) => findings.push(Finding::failure("settings", format!("{error}."))),
    }
    if vantage == Vantage::OwnHost {
        findings.extend(node::judge_openness(&api.url, &node).await);
        let is_told = |finding: &Finding| {
            finding.verdict == Verdict::Failure || finding.fix.as_deref() == Some(FROM_ELSEWHERE)
        };
        if !findings.iter().any(is_told) {
            let found = "Firewalls between this host and others were not passed.";
            findings.push(Finding::unknown("elsewhere", found).fix(FROM_ELSEWHERE));
        }
    } else if !api.url.tls && api.token.is_some() && !is_loopback_name(&api.url.host) {
        findings.push(node::in_the_clear("The token was sent over plain HTTP just now."));
    }
    Ok(Report {
        server: api.url.to_string(),
        server_version: Some(node.version),
        vantage: match vantage {
            Vantage::OwnHost => "own-host",
            Vantage::OtherHost => "other-host",
        },
        checks,
        findings,
    })
}

/// Makes a session, checks its candidates and ends it; with the candidates that could not be read. `None` when a signal came.
async fn checked(
    api: &Api,
    node: &Node,
    vantage: Vantage,
    limit: Duration,
) -> Result<Option<(Vec<Check>, Vec<String>)>, ApiError> {
    let call = ProbeCall::open(api).await?;
    let made = async {
        let Reachable { subject, targets, unread } = call.join(api).await?;
        let own = match vantage {
            Vantage::OwnHost => listening(node),
            Vantage::OtherHost => Vec::new(),
        };
        let mut left = unread;
        if targets.len() > TARGETS_MAX {
            left.insert(
                0,
                format!("{} more than the first {TARGETS_MAX}", targets.len() - TARGETS_MAX),
            );
        }
        Ok(Some((check_announced(&subject, &targets, &own, limit).await, left)))
    };
    let made = tokio::select! {
        made = made => made,
        () = super::interrupted() => Ok(None),
    };
    call.close(api).await;
    made
}

/// Checks what is announced, and of `own`, where the server listens, what is not.
pub(super) async fn check_announced(
    subject: &Subject,
    announced: &[Target],
    own: &[Target],
    limit: Duration,
) -> Vec<Check> {
    let others = own.iter().filter(|target| !announced.contains(target));
    let all: Vec<Target> = announced.iter().chain(others).copied().take(TARGETS_MAX).collect();
    let outcomes = check_all(subject, &all, limit).await;
    outcomes
        .into_iter()
        .map(|(target, outcome)| Check { target, announced: announced.contains(&target), outcome })
        .collect()
}

/// Where the server says that it listens.
pub(super) fn listening(node: &Node) -> Vec<Target> {
    let of = |transport, list: &[String]| -> Vec<Target> {
        let addresses = list.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        addresses.map(|address| Target { transport, address }).collect()
    };
    [of(Transport::Udp, &node.udp), of(Transport::Tcp, &node.tcp)].concat()
}

/// The server is on this host when this host has its addresses: all of them, or some where the API is asked at an address of this
/// host. Those that many hosts have alike (loopback, link-local, of bridges for containers) tell nothing.
fn vantage(node: &Node, host: &str) -> Vantage {
    let bridges = Host::read(Path::new("/"));
    let is_bridge = |ip| matches!(bridges.device_of(ip), Some((_, Device::Bridge)));
    let tells = |ip: &IpAddr| {
        let is_local = matches!(Reach::of(*ip), Reach::Loopback | Reach::LinkLocal);
        let is_own_bridge = is_bridge(*ip) && is_ours(*ip);
        !is_local && !is_own_bridge
    };
    let listening = listening(node);
    let mut ips = listening.iter().map(|target| target.address.ip()).filter(tells).peekable();
    let is_here = match (ips.peek().is_some(), is_this_host(host)) {
        (false, asked_here) => asked_here && !listening.is_empty(),
        (true, true) => ips.any(is_ours),
        (true, false) => ips.all(is_ours),
    };
    if is_here { Vantage::OwnHost } else { Vantage::OtherHost }
}

async fn announced(
    api: &Api,
    node: &Node,
    vantage: Vantage,
    checks: &[Check],
    options: &Options,
) -> Vec<Finding> {
    let told = checks.iter().filter(|check| check.announced);
    let ips: Vec<IpAddr> = told.clone().map(|check| check.target.address.ip()).collect();
    let host = Host::read(Path::new("/"));
    let mut findings = Vec::new();
    let mut known = Known {
        host: Some(&host).filter(|_| vantage == Vantage::OwnHost),
        behind_loopback: vantage == Vantage::OtherHost && is_loopback_name(&api.url.host),
        public: None,
        public_may_be_proxy: false,
    };
    let answered = told.clone().any(|check| check.outcome.is_answered());
    match (&options.stun, vantage) {
        (Some(server), Vantage::OwnHost) => match seen_by(server, node).await {
            Ok(ip) => known.public = Some((ip, "A STUN server sees this host as")),
            Err(why) => findings.push(Finding::unknown("stun", why)),
        },
        (Some(_), Vantage::OtherHost) => findings.push(Finding::unknown(
            "stun",
            "No STUN server was asked: it would tell this host's address, not the server's.",
        )),
        // Who is reached by its API and not by its media may announce an address that does not lead to it.
        (None, Vantage::OtherHost) if !answered => {
            let ip = resolved(api).await.filter(|ip| Reach::of(*ip) == Reach::Public);
            let none_public = ips.iter().all(|ip| Reach::of(*ip) != Reach::Public);
            known.public_may_be_proxy = true;
            known.public = ip.filter(|_| none_public).map(|ip| (ip, "The API is reached at"));
        }
        (None, _) => {}
    }
    if vantage == Vantage::OtherHost && answered {
        // They lead here, whatever they are.
        return findings;
    }
    findings.extend(announced::judge(&ips, known));
    findings
}

async fn resolved(api: &Api) -> Option<IpAddr> {
    let addresses = tokio::net::lookup_host((api.url.host.as_str(), api.url.port)).await;
    addresses.ok()?.next().map(|address| address.ip())
}

/// Asks a STUN server as `sluice serve` does, from a port of its own.
async fn seen_by(server: &str, node: &Node) -> Result<IpAddr, String> {
    let refused = |why: &str| format!("--stun {server}: {why}");
    let url =
        if server.starts_with("stun:") { server.to_owned() } else { format!("stun:{server}") };
    let mut config = Settings::defaults().finish().map_err(|error| error.to_string())?;
    config.ice_servers = vec![IceServer { urls: vec![url], ..IceServer::default() }];
    config.media.udp_port = 0;
    // A server on loopback alone can only have a STUN server there.
    let only_loopback =
        listening(node).iter().all(|target| Reach::of(target.address.ip()) == Reach::Loopback);
    let local: IpAddr = if only_loopback { [127, 0, 0, 1].into() } else { [0, 0, 0, 0].into() };
    let local = [SocketAddr::new(local, 0)];
    match addresses::find_external(&config, &local, &[]).await? {
        External::Discovered(found) => found.first().map(|pair| pair.external).ok_or_else(|| {
            refused("no answer came within 5 s; nothing is known of the public address")
        }),
        _ => Err(refused("write HOST:PORT or stun:HOST:PORT")),
    }
}

/// No server: what would hinder one.
async fn unstarted(api: &Api, options: &Options) -> Report {
    let found = format!("No server answers: nothing listens at {}.", api.url);
    let mut findings = vec![
        Finding::failure("server", found)
            .means("What follows is what a server that starts now would find, by the settings of --config and the environment.")
            .fix("start it (systemctl start sluice, or sluice serve), or say where it is with --server"),
    ];
    match &options.settings {
        Ok(config) => findings.extend(settings::judge_unstarted(config).await),
        Err(error) => findings.push(
            Finding::failure("settings", format!("{error}.")).means("The server would not start."),
        ),
    }
    Report {
        server: api.url.to_string(),
        server_version: None,
        vantage: "no-server",
        checks: Vec::new(),
        findings,
    }
}

/// Whether a host name or address is loopback.
fn is_loopback_name(host: &str) -> bool {
    let is_loopback = |ip: IpAddr| Reach::of(ip) == Reach::Loopback;
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Whether a host name or address is this host for sure.
pub(super) fn is_this_host(host: &str) -> bool {
    is_loopback_name(host) || host.parse().is_ok_and(is_ours)
}

/// In one sentence why the API is of no use, with what to do.
pub(super) fn explain(api: &Api, error: &ApiError) -> String {
    let url = &api.url;
    match error {
        ApiError::Refused => {
            format!("{url}: nothing listens there; say with --server where the API is")
        }
        ApiError::Unreachable(why) => format!("{url}: {why}"),
        ApiError::Denied(401, detail) => format!(
            "{url} refuses the token: {detail}. Give the server's token in SLUICE_API_TOKEN or with --token"
        ),
        ApiError::Denied(_, detail) => format!(
            "{url} refuses: {detail} From here, take a ticket: `sluice doctor --ticket` on the server's host, \
             and `sluice doctor --from TICKET` on this one"
        ),
        ApiError::Problem(..) => format!("{url}: {error}"),
        ApiError::Foreign(why) => format!("what answers at {url} is no Sluice: {why}"),
    }
}
