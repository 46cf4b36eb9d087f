use std::time::Duration;

use super::*;

/// A check of `udp 192.0.2.7:8443` and the like; of an address that is not announced with `=` before it.
fn check(text: &str, outcome: Outcome) -> Check {
    let (announced, text) = match text.strip_prefix('=') {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    let (transport, address) = text.split_once(' ').expect("two words");
    let transport = if transport == "udp" { Transport::Udp } else { Transport::Tcp };
    let target = Target { transport, address: address.parse().expect("an address") };
    Check { target, announced, outcome }
}

fn answered() -> Outcome {
    Outcome::Answered {
        round_trip: Duration::from_millis(1),
        local: "10.0.0.9:4".parse().expect("an address"),
        mapped: None,
    }
}

fn unsendable() -> Outcome {
    Outcome::Unsendable("Network is unreachable".to_owned())
}

/// Judged from a host that has only the addresses of 10.0.0.0/8, with a server that listens on one of them.
fn judged(vantage: Vantage, checks: &[Check]) -> Vec<Finding> {
    let is_ours = |ip: IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10);
    let address = "10.0.0.5:8443".parse().expect("an address");
    let listening = [Transport::Udp, Transport::Tcp].map(|transport| Target { transport, address });
    judge(checks, &Around { vantage, is_ours: &is_ours, listening: &listening })
}

/// Subjects with their verdicts.
fn verdicts(findings: &[Finding]) -> Vec<(&str, Verdict)> {
    findings.iter().map(|finding| (finding.subject, finding.verdict)).collect()
}

const OK: Verdict = Verdict::Ok;
const PUBLIC_UDP: &str = "udp 8.8.8.8:8443";
const PUBLIC_TCP: &str = "tcp 8.8.8.8:8443";

#[test]
fn what_answers_is_well() {
    let checks = [check(PUBLIC_UDP, answered()), check(PUBLIC_TCP, answered())];
    assert_eq!(verdicts(&judged(Vantage::OtherHost, &checks)), [("udp", OK), ("tcp", OK)]);
}

#[test]
fn silent_udp_beside_tcp_is_a_firewall_with_the_port_to_open() {
    let checks = [check(PUBLIC_UDP, Outcome::Silent), check(PUBLIC_TCP, answered())];
    let findings = judged(Vantage::OtherHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Failure), ("tcp", OK)]);
    assert_eq!(findings[0].found, "UDP does not arrive at 8.8.8.8:8443; TCP does.");
    let fix = findings[0].fix.as_deref().expect("a fix");
    assert!(fix.contains("ufw allow 8443/udp") && fix.contains("security group"), "{fix}");
    assert!(fix.contains("`nft list ruleset`") && fix.contains("`udp dport 8443 accept`"), "{fix}");
}

#[test]
fn tcp_alone_that_fails_is_a_warning() {
    for outcome in [Outcome::Silent, Outcome::Refused, Outcome::Mute] {
        let checks = [check(PUBLIC_UDP, answered()), check(PUBLIC_TCP, outcome)];
        let findings = judged(Vantage::OtherHost, &checks);
        assert_eq!(verdicts(&findings), [("udp", OK), ("tcp", Verdict::Warning)]);
        assert!(findings[1].fix.is_some());
    }
}

#[test]
fn a_refusal_is_told_from_silence() {
    let checks = [check(PUBLIC_UDP, Outcome::Refused), check(PUBLIC_TCP, Outcome::Refused)];
    let findings = judged(Vantage::OtherHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Failure), ("tcp", Verdict::Failure)]);
    let fix = findings[0].fix.as_deref().expect("a fix");
    assert!(findings[0].found.contains("refused") && fix.contains("-p 8443:8443/udp"), "{fix}");
}

#[test]
fn a_refusal_on_the_own_host_is_a_firewalls() {
    let checks =
        [check("udp 10.0.0.5:8443", Outcome::Refused), check("tcp 10.0.0.5:8443", answered())];
    let findings = judged(Vantage::OwnHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Failure), ("tcp", OK)]);
    assert!(findings[0].found.contains("firewall"), "{findings:?}");
    assert!(findings[0].fix.as_deref().is_some_and(|fix| fix.contains("ufw allow 8443/udp")));
}

#[test]
fn a_stranger_on_the_port_is_named() {
    let stranger = Outcome::Stranger("its answer was not ours".to_owned());
    let checks = [check(PUBLIC_UDP, stranger), check(PUBLIC_TCP, answered())];
    let findings = judged(Vantage::OtherHost, &checks);
    assert_eq!(findings[0].verdict, Verdict::Failure);
    assert!(findings[0].found.contains("its answer was not ours"), "{findings:?}");
}

#[test]
fn an_address_of_a_translator_may_be_silent_to_its_own_host() {
    let checks = [
        check(PUBLIC_UDP, Outcome::Silent),
        check(PUBLIC_TCP, Outcome::Silent),
        check("udp 127.0.0.1:8443", answered()),
        check("=udp 10.0.0.5:8443", answered()),
        check("=tcp 10.0.0.5:8443", answered()),
    ];
    let findings = judged(Vantage::OwnHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Unknown), ("tcp", Verdict::Unknown)]);
    assert!(findings[0].found.contains("10.0.0.5:8443"), "{findings:?}");
    assert!(findings[0].fix.as_deref().is_some_and(|fix| fix.contains("--ticket")));
    assert_eq!(findings[1].fix, None, "once is enough");
    let elsewhere = judged(Vantage::OtherHost, &checks);
    assert_eq!(verdicts(&elsewhere), [("udp", Verdict::Failure), ("tcp", Verdict::Failure)]);
}

#[test]
fn an_own_address_that_does_not_answer_is_a_failure_even_if_loopback_does() {
    let checks = [
        check("udp 10.0.0.5:8443", Outcome::Silent),
        check("udp 127.0.0.1:8443", answered()),
        check("tcp 10.0.0.5:8443", answered()),
    ];
    let findings = judged(Vantage::OwnHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Failure), ("tcp", OK)]);
}

#[test]
fn ipv6_that_does_not_answer_is_a_warning_and_without_ipv6_here_unknown() {
    let with = |outcome| {
        [
            check(PUBLIC_UDP, answered()),
            check("udp [2600::7]:8443", outcome),
            check(PUBLIC_TCP, answered()),
        ]
    };
    let silent = judged(Vantage::OtherHost, &with(Outcome::Silent));
    assert_eq!(verdicts(&silent)[2..], [("ipv6", Verdict::Warning)]);
    assert!(silent[2].fix.as_deref().is_some_and(|fix| fix.contains("rtc.enable_ipv6")));
    let without = judged(Vantage::OtherHost, &with(unsendable()));
    assert_eq!(verdicts(&without)[2..], [("ipv6", Verdict::Unknown)]);
}

#[test]
fn private_addresses_beside_one_that_answers_are_not_told_of_from_elsewhere() {
    let checks = [
        check(PUBLIC_UDP, answered()),
        check("udp 192.168.1.2:8443", Outcome::Silent),
        check(PUBLIC_TCP, answered()),
    ];
    assert_eq!(judged(Vantage::OtherHost, &checks).len(), 2);
}

#[test]
fn what_cannot_be_sent_says_nothing_of_the_server() {
    let checks = [check(PUBLIC_UDP, unsendable()), check(PUBLIC_TCP, unsendable())];
    let findings = judged(Vantage::OtherHost, &checks);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Unknown), ("tcp", Verdict::Unknown)]);
}

#[test]
fn a_transport_that_is_not_announced_is_told() {
    let findings = judged(Vantage::OtherHost, &[check(PUBLIC_TCP, answered())]);
    assert_eq!(verdicts(&findings), [("udp", Verdict::Failure), ("tcp", OK)]);
    let findings = judged(Vantage::OtherHost, &[check(PUBLIC_UDP, answered())]);
    assert_eq!(verdicts(&findings), [("udp", OK), ("tcp", Verdict::Warning)]);
}

#[test]
fn many_addresses_stay_one_sentence() {
    let texts = (1..=6).map(|n| n.to_string());
    assert_eq!(list(texts), "1, 2, 3, 4 and 2 more");
}
