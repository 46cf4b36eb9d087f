//! What the checks say: whether UDP and TCP get through, and which announced addresses do not.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::address::Reach;
use super::check::{Outcome, Target, Transport};
use super::finding::{Finding, Verdict};

/// What to do where this host cannot tell.
pub(super) const FROM_ELSEWHERE: &str =
    "run `sluice doctor --ticket` here, and `sluice doctor --from TICKET` on another host";

/// From where the checks were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vantage {
    /// The server's own host.
    OwnHost,
    /// Another one.
    OtherHost,
}

/// One check with what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Check {
    /// Where it went.
    pub(super) target: Target,
    /// Whether clients are told this address. From its own host, the addresses that the server listens on are checked as well.
    pub(super) announced: bool,
    /// What came of it.
    pub(super) outcome: Outcome,
}

impl Check {
    fn is_to_loopback(&self) -> bool {
        Reach::of(self.target.address.ip()) == Reach::Loopback
    }
}

/// What is to be known besides the checks.
pub(super) struct Around<'a> {
    pub(super) vantage: Vantage,
    /// Whether this host has an address.
    pub(super) is_ours: &'a dyn Fn(IpAddr) -> bool,
    /// Where the server says that it listens; empty where it did not say.
    pub(super) listening: &'a [Target],
}

/// Judges all checks.
pub(super) fn judge(checks: &[Check], around: &Around<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        [Transport::Udp, Transport::Tcp].map(|t| judge_transport(t, checks, around)).into();
    if let [udp, tcp] = &mut findings[..]
        && (udp.verdict, tcp.verdict) == (Verdict::Unknown, Verdict::Unknown)
        && udp.fix == tcp.fix
    {
        // Once is enough.
        (tcp.means, tcp.fix) = (None, None);
    }
    findings.extend(judge_stragglers(checks, around));
    findings
}

/// The checks that speak for clients elsewhere: those of loopback addresses only when there are no others.
fn speaking(transport: Transport, checks: &[Check]) -> Vec<&Check> {
    let of = checks.iter().filter(|c| c.announced && c.target.transport == transport);
    let (loopback, others): (Vec<_>, Vec<_>) = of.partition(|check| check.is_to_loopback());
    if others.is_empty() { loopback } else { others }
}

fn is_answered(transport: Transport, checks: &[Check]) -> bool {
    speaking(transport, checks).iter().any(|check| check.outcome.is_answered())
}

fn judge_transport(transport: Transport, checks: &[Check], around: &Around<'_>) -> Finding {
    let (subject, name) = match transport {
        Transport::Udp => ("udp", "UDP"),
        Transport::Tcp => ("tcp", "TCP"),
    };
    let of = speaking(transport, checks);
    let Some(first) = of.first() else {
        let found = format!("The server announces no {name} address.");
        return match transport {
            Transport::Udp => Finding::failure(subject, found)
                .means("Media has to go over TCP, which delays it when packets are lost.")
                .fix("list the host's addresses in rtc.ice_address_udp"),
            Transport::Tcp => Finding::warning(subject, found)
                .means("Clients whose network lets no UDP through cannot join.")
                .fix("list the host's addresses in rtc.ice_address_tcp"),
        };
    };
    let answered: Vec<&&Check> = of.iter().filter(|check| check.outcome.is_answered()).collect();
    if let Some(best) = answered.first() {
        let found = match (answered.len(), of.len()) {
            (1, 1) => format!("{name} gets through to {}.", best.target.address),
            (some, all) => format!("{name} gets through to {some} of {all} announced addresses."),
        };
        return Finding::ok(subject, found);
    }
    let addresses = list(of.iter().map(|check| check.target.address.to_string()));
    if let Some(local) = behind_translator(&of, checks, around) {
        return hairpin(subject, name, &addresses, local);
    }
    if let Some(Outcome::Unsendable(why)) = all_unsendable(&of) {
        return Finding::unknown(
            subject,
            format!("This host cannot send to {addresses} over {name}: {why}."),
        )
        .fix("run the check from a host with a network that leads there, and without a firewall on what it sends");
    }
    let port = first.target.address.port();
    let other_works = match transport {
        Transport::Udp => is_answered(Transport::Tcp, checks),
        Transport::Tcp => is_answered(Transport::Udp, checks),
    };
    let listens = of.iter().all(|check| around.listening.contains(&check.target));
    let listens = listens && around.vantage == Vantage::OwnHost;
    unanswered(&Unanswered { transport, name, of: &of, addresses, port, other_works, listens })
}

/// Checks of one transport without a single answer.
struct Unanswered<'a> {
    transport: Transport,
    name: &'static str,
    of: &'a [&'a Check],
    addresses: String,
    port: u16,
    /// Whether the other transport gets through.
    other_works: bool,
    /// Whether the server runs on this host and listens on them.
    listens: bool,
}

fn unanswered(what: &Unanswered<'_>) -> Finding {
    let &Unanswered { transport, name, of, ref addresses, port, other_works, listens } = what;
    let stranger = of.iter().find_map(|check| match &check.outcome {
        Outcome::Stranger(why) => Some(why),
        _ => None,
    });
    let refused = of.iter().any(|check| check.outcome == Outcome::Refused);
    let mute = of.iter().any(|check| check.outcome == Outcome::Mute);
    let (found, fix) = match (stranger, refused, mute) {
        (Some(why), ..) => (
            format!("Something else than this server answers over {name} at {addresses}: {why}."),
            another_server(port),
        ),
        (None, true, _) if listens => (
            format!("{name} to {addresses} is refused, by a firewall: the server listens there."),
            open_port(transport, port),
        ),
        (None, true, _) => (
            format!("{name} to {addresses} is refused: nobody listens there."),
            format!(
                "see that the announced address leads to this host (rtc.ice_host_override) and that {name} \
                 port {port} is forwarded or published to it (Docker: -p {port}:{port}/{})",
                transport.text()
            ),
        ),
        (None, false, true) => (
            format!("{name} connections to {addresses} are made, and nothing answers over them."),
            another_server(port),
        ),
        (None, false, false) if transport == Transport::Udp && other_works => {
            (format!("UDP does not arrive at {addresses}; TCP does."), open_port(transport, port))
        }
        (None, false, false) if other_works => {
            (format!("TCP does not arrive at {addresses}; UDP does."), open_port(transport, port))
        }
        (None, false, false) => (
            format!("{name} does not arrive at {addresses}."),
            open_port(transport, port)
                + "; and see that the announced address is this server's (rtc.ice_host_override)",
        ),
    };
    match (transport, other_works) {
        (Transport::Udp, true) => Finding::failure("udp", found).means(
            "Clients connect over TCP, where a lost packet holds up all that follow: sound and pictures stutter.",
        ),
        (Transport::Udp, false) => Finding::failure("udp", found),
        (Transport::Tcp, true) => Finding::warning("tcp", found)
            .means("Clients whose network lets no UDP through cannot join."),
        (Transport::Tcp, false) => Finding::failure("tcp", found),
    }
    .fix(fix)
}

fn another_server(port: u16) -> String {
    format!(
        "see which program has port {port}: ss -lnptu 'sport = :{port}'; and that no proxy stands before it"
    )
}

/// How the port is let in.
fn open_port(transport: Transport, port: u16) -> String {
    let name = transport.text();
    format!(
        "let {name} port {port} in, on the server's host: `ufw allow {port}/{name}`, `firewall-cmd --permanent \
         --add-port={port}/{name} && firewall-cmd --reload` or, with nftables, where `nft list ruleset` shows \
         the chain with hook input that drops, add `{name} dport {port} accept` there, and in /etc/nftables.conf to \
         outlast a reboot; at a cloud, in the security group of the host"
    )
}

fn all_unsendable<'a>(of: &[&'a Check]) -> Option<&'a Outcome> {
    let all = of.iter().all(|check| matches!(check.outcome, Outcome::Unsendable(_)));
    of.first().filter(|_| all).map(|check| &check.outcome)
}

/// From the server's own host: an address that is listened on and answers, when none of `of` is of this host.
fn behind_translator<'a>(
    of: &[&Check],
    checks: &'a [Check],
    around: &Around<'_>,
) -> Option<&'a Target> {
    let is_outside = |check: &&Check| !(around.is_ours)(check.target.address.ip());
    if around.vantage != Vantage::OwnHost || !of.iter().all(is_outside) {
        return None;
    }
    let transport = of.first()?.target.transport;
    let local = checks.iter().filter(|c| c.target.transport == transport);
    local
        .filter(|check| check.outcome.is_answered())
        .map(|check| &check.target)
        .max_by_key(|target| Reach::of(target.address.ip()) != Reach::Loopback)
}

fn hairpin(subject: &'static str, name: &str, addresses: &str, local: &Target) -> Finding {
    Finding::unknown(
        subject,
        format!(
            "{name} does not get through to {addresses} from the server's own host; to {}, where the server \
             listens, it does.",
            local.address
        ),
    )
    .means(
        "A translator (NAT) stands before this host. Many of them do not send back what comes from inside, so \
         the rest of the world may get through all the same.",
    )
    .fix(FROM_ELSEWHERE)
}

/// Announced addresses that do not answer although others of their transport do.
fn judge_stragglers(checks: &[Check], around: &Around<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told: BTreeSet<IpAddr> = BTreeSet::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        if !is_answered(transport, checks) {
            continue;
        }
        for check in speaking(transport, checks).iter().filter(|c| !c.outcome.is_answered()) {
            if told.insert(check.target.address.ip()) {
                findings.extend(judge_straggler(check, around));
            }
        }
    }
    findings
}

fn judge_straggler(check: &Check, around: &Around<'_>) -> Option<Finding> {
    let Target { transport, address } = check.target;
    let (ip, name) = (address.ip(), transport.text().to_uppercase());
    if let (IpAddr::V6(_), Outcome::Unsendable(why)) = (ip, &check.outcome) {
        let found =
            format!("{address} is announced, and this host has no IPv6 to check it: {why}.");
        return Some(
            Finding::unknown("ipv6", found).fix("run the check from a host that has IPv6"),
        );
    }
    if around.vantage == Vantage::OwnHost && !(around.is_ours)(ip) {
        let found = format!("{address} is announced, and does not answer from its own host.");
        return Some(
            Finding::unknown("address", found)
                .means("It is a translator's: the rest of the world may get through all the same.")
                .fix(FROM_ELSEWHERE),
        );
    }
    // From elsewhere nobody expects more; what it means to announce it is another finding.
    if around.vantage == Vantage::OtherHost && Reach::of(ip) != Reach::Public {
        return None;
    }
    if ip.is_ipv6() {
        let found = format!("{address} is announced, and {name} does not arrive there.");
        return Some(
            Finding::warning("ipv6", found)
                .means("Clients with IPv6 try it in vain before they use another address.")
                .fix(format!(
                    "let {} port {} in for IPv6 as well, or announce no IPv6: rtc.enable_ipv6 = false and no \
                     IPv6 address in rtc.ice_address_udp and rtc.ice_address_tcp",
                    transport.text(),
                    address.port()
                )),
        );
    }
    let found = format!("{address} is announced, and {name} does not arrive there.");
    Some(
        Finding::warning("address", found)
            .means("Clients try it in vain before they use another address.")
            .fix("list only the addresses that clients can reach in rtc.ice_address_udp"),
    )
}

/// At most four of many, so that a sentence stays one.
pub(super) fn list(texts: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = texts.collect();
    match all.len() {
        0..=4 => all.join(", "),
        len => format!("{} and {} more", all[..4].join(", "), len - 4),
    }
}

#[cfg(test)]
mod tests;
