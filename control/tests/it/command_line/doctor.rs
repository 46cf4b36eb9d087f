//! `sluice doctor` against real servers: on loopback, and on hosts in network namespaces.

mod namespace;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rcgen::generate_simple_self_signed;
use serde_json::Value;

use super::{Serving, command, media_port, stun_server, text, text_of};
use crate::listener::pem;
use namespace::Host;

/// What a run came to.
struct Examined {
    status: Option<i32>,
    report: Value,
    said: String,
}

impl Examined {
    fn of(output: &Output) -> Self {
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Self { status: output.status.code(), report, said: text_of(output) }
    }

    /// The finding on a subject.
    fn finding(&self, subject: &str) -> &Value {
        let findings =
            self.report["findings"].as_array().unwrap_or_else(|| panic!("{}", self.said));
        let found = findings.iter().find(|finding| finding["subject"] == subject);
        found.unwrap_or_else(|| panic!("nothing on {subject}: {}", self.said))
    }

    fn assert_finding(&self, subject: &str, verdict: &str, parts: &[&str]) {
        let finding = self.finding(subject);
        assert_eq!(finding["verdict"], verdict, "{finding:#}");
        for part in parts {
            assert!(finding.to_string().contains(part), "{part} in {finding:#}");
        }
    }

    /// Transport, address and outcome of each check.
    fn checks(&self) -> Vec<String> {
        let checks = self.report["checks"].as_array().unwrap_or_else(|| panic!("{}", self.said));
        let word = |check: &Value, name: &str| check[name].as_str().expect("text").to_owned();
        checks
            .iter()
            .map(|c| [word(c, "transport"), word(c, "address"), word(c, "outcome")].join(" "))
            .collect()
    }
}

/// Time for checks that all get their answer, seconds: as long as is allowed, since a busy machine takes its time.
const PATIENCE: &str = "20";

/// Time for checks of which some get no answer, seconds: the others must have theirs within it on any machine.
const SILENCE: &str = "6";

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let all: Vec<&str> = ["doctor"].iter().chain(arguments).copied().collect();
    // Its folder does not matter: it writes no files.
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    command(&format!("doctor-{call}"), &all, variables).0
}

fn examine(arguments: &[&str]) -> Examined {
    let all: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
    Examined::of(&doctor(&all, &[]).output().expect("it runs"))
}

/// The URL of a server's API.
fn url_of(serving: &Serving) -> String {
    let page = serving.said.lines().find_map(|line| line.trim().strip_prefix("call page "));
    page.expect("a URL").trim().trim_end_matches('/').to_owned()
}

#[test]
fn every_candidate_of_a_server_answers_and_nothing_is_left_behind() {
    let port = media_port();
    let (command, folder) = command("doctor-loopback", &["serve", "--drain-timeout=0"], &[]);
    let serving = Serving::spawn(command, folder, &port);
    let examined = examine(&["--server", &url_of(&serving), "--timeout", PATIENCE]);
    let address = format!("127.0.0.1:{port}");
    assert_eq!(
        examined.checks(),
        [format!("udp {address} answered"), format!("tcp {address} answered")]
    );
    let check = &examined.report["checks"][0];
    assert_eq!((&check["translated"], &check["announced"]), (&false.into(), &true.into()));
    assert!(check["round_trip_us"].is_u64(), "{check}");
    examined.assert_finding("udp", "ok", &[&address]);
    examined.assert_finding("tcp", "ok", &[&address]);
    examined.assert_finding("address", "failure", &["Only loopback"]);
    assert_eq!(examined.report["vantage"], "own-host");
    assert_eq!((examined.status, &examined.report["verdict"]), (Some(1), &"failure".into()));
    let calls = serving.ask("GET /v1/calls", "");
    assert!(calls.ends_with(r#"{"calls":[]}"#), "{calls}");
}

#[test]
fn the_report_for_people_fits_a_terminal() {
    let serving = Serving::start("doctor-text", &["serve", "--drain-timeout=0"]);
    let output = doctor(&["--server", &url_of(&serving), "--timeout", PATIENCE], &[])
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    for part in ["examined from its own host", "answered in", "failure  address", "Fix: "] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_server_that_drains_is_not_checked_and_that_is_no_failure_of_it() {
    let serving = Serving::start("doctor-drain", &["serve", "--drain-timeout=0"]);
    assert!(serving.ask("POST /v1/node/drain", "").starts_with("HTTP/1.1 200"));
    let examined = examine(&["--server", &url_of(&serving), "--timeout", PATIENCE]);
    examined.assert_finding("drain", "warning", &["DELETE", "/v1/node/drain"]);
    examined.assert_finding("udp", "unknown", &["draining"]);
    assert_eq!(examined.status, Some(0), "{}", examined.said);
}

#[test]
fn without_a_server_what_would_hinder_one_is_told() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let taken = udp.local_addr().expect("it is bound").port().to_string();
    // No program listens on port 1, and the kernel gives it to none.
    let url = "http://127.0.0.1:1".to_owned();
    let run = |variables: &[(&str, &str)]| {
        let mut command = doctor(&["--json", "--server", &url], variables);
        Examined::of(&command.output().expect("it runs"))
    };
    let loopback = ("RTCD_RTC_ICEADDRESSUDP", "127.0.0.1");
    let examined = run(&[loopback, ("RTCD_RTC_ICEPORTUDP", &taken)]);
    assert_eq!(examined.status, Some(1), "{}", examined.said);
    examined.assert_finding("server", "failure", &[&url]);
    // The port of this test is one that the kernel gives to clients, so the setting refuses some of them.
    let subject = if taken.parse::<u16>().expect("a port") > 49_151 { "settings" } else { "port" };
    examined.assert_finding(subject, "failure", &[&taken]);
    let examined = run(&[loopback, ("RTCD_RTC_ICEHOSTOVERRIDE", "a..b")]);
    examined.assert_finding("name", "failure", &["a..b", "does not resolve"]);
    assert!(examined.finding("tuning")["found"].is_string(), "{}", examined.said);
    let examined = run(&[("RTCD_RTC_ICEADDRESSUDP", "198.51.100.77")]);
    examined.assert_finding("address", "failure", &["198.51.100.77"]);
}

/// Answers every connection with status 404 and a page. Ends with the test's process.
fn other_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n");
        }
    });
    url
}

#[test]
fn what_cannot_be_examined_ends_with_status_2_and_a_sentence() {
    let port = media_port();
    let token = [("SLUICE_API_TOKEN", "the-right-token-of-this-test")];
    let (command, folder) = command("doctor-token", &["serve", "--drain-timeout=0"], &token);
    let serving = Serving::spawn(command, folder, &port);
    let url = url_of(&serving);
    let other = other_server();
    for (arguments, part) in [
        (&["--server", &url][..], "SLUICE_API_TOKEN"),
        (&["--server", &url, "--token", "wrong"], "the token is wrong"),
        (&["--server", &other], "is no Sluice"),
        (&["--server", "http://no-such-host.invalid:1"], "no-such-host.invalid"),
        (&["--server", "127.0.0.1"], "http://HOST:PORT"),
        (&["--from", "cut"], "--ticket"),
        (&["--from", "cut", "--server", &url], "--server"),
        (&["--timeout", "0"], "1..=20"),
    ] {
        let examined = examine(arguments);
        assert_eq!(examined.status, Some(2), "{arguments:?}: {}", examined.said);
        assert!(examined.said.contains(part), "{part} in {}", examined.said);
    }
    let right = examine(&["--server", &url, "--token", token[0].1, "--timeout", PATIENCE]);
    right.assert_finding("udp", "ok", &[&port]);
}

#[test]
fn a_server_with_https_is_examined_when_its_certificate_is_trusted() {
    let pair = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is made");
    let port = media_port();
    let variables = [
        ("RTCD_API_HTTP_TLS_ENABLE", "true"),
        ("RTCD_API_HTTP_TLS_CERTFILE", "cert.pem"),
        ("RTCD_API_HTTP_TLS_CERTKEY", "key.pem"),
    ];
    let (command, folder) = command("doctor-tls", &["serve", "--drain-timeout=0"], &variables);
    let certificate = folder.join("cert.pem");
    std::fs::write(&certificate, pem("CERTIFICATE", pair.cert.der())).expect("writable");
    let key = pem("PRIVATE KEY", &pair.signing_key.serialize_der());
    std::fs::write(folder.join("key.pem"), key).expect("writable");
    let serving = Serving::spawn(command, folder, &port);
    let url = url_of(&serving).replace("127.0.0.1", "localhost");
    let run = |bundle: &std::path::Path| {
        let bundle = bundle.to_str().expect("text");
        let mut command = doctor(
            &["--json", "--server", &url, "--timeout", PATIENCE],
            &[("SSL_CERT_FILE", bundle)],
        );
        Examined::of(&command.output().expect("it runs"))
    };
    let examined = run(&certificate);
    examined.assert_finding("udp", "ok", &[&port]);
    examined.assert_finding("api", "ok", &["TLS"]);
    let another = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is made");
    let bundle = serving.folder.join("another.pem");
    std::fs::write(&bundle, pem("CERTIFICATE", another.cert.der())).expect("writable");
    let refused = run(&bundle);
    assert_eq!(refused.status, Some(2), "{}", refused.said);
    assert!(refused.said.contains("no TLS connection"), "{}", refused.said);
}

/// `sluice doctor --ticket` while it waits.
struct Waiting {
    child: Child,
    output: BufReader<ChildStdout>,
    ticket: String,
}

impl Waiting {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut ticket = String::new();
        output.read_line(&mut ticket).expect("text");
        Self { child, output, ticket: ticket.trim().to_owned() }
    }

    /// Ends it by a signal; its status.
    fn interrupt(&mut self) -> Option<i32> {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.expect("it runs").success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupted_ticket_leaves_nothing_behind() {
    let elsewhere = [("RTCD_RTC_ICEHOSTOVERRIDE", "198.51.100.77")];
    let (command, folder) = command("doctor-ticket", &["serve", "--drain-timeout=0"], &elsewhere);
    let serving = Serving::spawn(command, folder, &media_port());
    let mut waiting = Waiting::spawn(doctor(
        &["--ticket", "--server", &url_of(&serving), "--timeout", PATIENCE],
        &[],
    ));
    assert!(waiting.ticket.len() > 50, "{}", waiting.ticket);
    let calls = serving.ask("GET /v1/calls", "");
    assert!(calls.contains(r#""sessions":2"#), "{calls}");
    assert_eq!(waiting.interrupt(), Some(1), "nobody came");
    let calls = serving.ask("GET /v1/calls", "");
    assert!(calls.ends_with(r#"{"calls":[]}"#), "{calls}");
}

#[test]
fn a_server_on_loopback_alone_gives_no_ticket() {
    let serving = Serving::start("doctor-no-ticket", &["serve", "--drain-timeout=0"]);
    let output =
        doctor(&["--ticket", "--server", &url_of(&serving), "--timeout", PATIENCE], &[]).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no address but loopback"), "{}", text_of(&output));
}

#[test]
fn an_address_that_a_stun_server_sees_and_nobody_is_told_is_the_setting_to_make() {
    let elsewhere = [("RTCD_RTC_ICEHOSTOVERRIDE", "198.51.100.77")];
    let (command, folder) = command("doctor-stun", &["serve", "--drain-timeout=0"], &elsewhere);
    let serving = Serving::spawn(command, folder, &media_port());
    let url = url_of(&serving);
    let stun = stun_server();
    let examined = examine(&["--server", &url, "--timeout", SILENCE, "--stun", &stun]);
    let setting = r#"rtc.ice_host_override = \"203.0.113.7\""#;
    examined.assert_finding("address", "failure", &["198.51.100.77", setting]);
    // Where it listens it answers: a translator may keep the rest from its own host.
    examined.assert_finding("udp", "unknown", &["198.51.100.77", "127.0.0.1", "--ticket"]);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let silent = silent.local_addr().expect("it is bound").to_string();
    let examined = examine(&["--server", &url, "--timeout", SILENCE, "--stun", &silent]);
    examined.assert_finding("stun", "unknown", &["no answer"]);
}

/// A server on a host of its own, with the ports that servers have by default.
fn serve_on(host: &Host, name: &str, variables: &[(&str, &str)]) -> Serving {
    let arguments = ["serve", "--listen-address=:8045", "--ice-address-udp=10.9.0.1"];
    let (command, folder) = command(name, &arguments, variables);
    let mut command = host.within(command);
    command.args(["--ice-address-tcp=10.9.0.1", "--drain-timeout=0"]);
    Serving::spawn(command, folder, "8443")
}

fn examine_on(host: &Host, arguments: &[&str]) -> Examined {
    let all: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
    Examined::of(&host.within(doctor(&all, &[])).output().expect("it runs"))
}

#[test]
fn udp_that_the_own_firewall_drops_is_told_with_the_port_to_open() {
    let Some(host) = Host::new() else { return };
    host.run("ip addr add 10.9.0.1/32 dev lo");
    let _serving = serve_on(&host, "doctor-firewall", &[]);
    let examined = examine_on(&host, &["--timeout", PATIENCE]);
    examined.assert_finding("udp", "ok", &["10.9.0.1:8443"]);
    examined.assert_finding("address", "warning", &["rtc.ice_host_override"]);
    examined.assert_finding("elsewhere", "unknown", &["--ticket"]);
    assert_eq!(examined.status, Some(0), "{}", examined.said);
    host.drop_incoming("udp dport 8443");
    let examined = examine_on(&host, &["--timeout", SILENCE]);
    assert_eq!(examined.checks(), ["udp 10.9.0.1:8443 silent", "tcp 10.9.0.1:8443 answered"]);
    examined.assert_finding(
        "udp",
        "failure",
        &["UDP does not arrive", "TCP does", "ufw allow 8443/udp"],
    );
    assert_eq!(examined.status, Some(1), "{}", examined.said);
}

#[test]
fn a_ticket_shows_from_another_host_what_the_own_host_cannot_see() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    let _serving = serve_on(&host, "doctor-elsewhere", &[]);
    let mut waiting = Waiting::spawn(
        host.within(doctor(&["--ticket", "--wait", "600", "--timeout", PATIENCE], &[])),
    );
    let ticket = waiting.ticket.clone();
    let examined = examine_on(&neighbour, &["--from", &ticket, "--timeout", PATIENCE]);
    assert_eq!(examined.checks(), ["udp 10.9.0.1:8443 answered", "tcp 10.9.0.1:8443 answered"]);
    assert_eq!((examined.status, &examined.report["vantage"]), (Some(0), &"ticket".into()));
    let mut arrival = String::new();
    waiting.output.read_line(&mut arrival).expect("text");
    assert!(arrival.contains("arrived over UDP"), "{arrival}");

    host.drop_incoming("iifname here udp dport 8443");
    let own = examine_on(&host, &["--timeout", PATIENCE]);
    own.assert_finding("udp", "ok", &["10.9.0.1:8443"]);
    let other = examine_on(&neighbour, &["--from", &ticket, "--timeout", SILENCE]);
    other.assert_finding("udp", "failure", &["UDP does not arrive", "ufw allow 8443/udp"]);
    other.assert_finding("tcp", "ok", &["10.9.0.1:8443"]);
    assert_eq!(other.status, Some(1), "{}", other.said);
    assert_eq!(waiting.interrupt(), Some(0), "somebody came");
    let late = examine_on(&neighbour, &["--from", &ticket, "--timeout", SILENCE]);
    late.assert_finding("ticket", "failure", &["still waits"]);
    assert_eq!(late.status, Some(1), "{}", late.said);
}

#[test]
fn a_token_over_plain_http_is_told_on_both_hosts() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    let token = "the-right-token-of-this-test";
    let _serving = serve_on(&host, "doctor-clear", &[("SLUICE_API_TOKEN", token)]);
    let own = examine_on(&host, &["--token", token, "--timeout", PATIENCE]);
    own.assert_finding("api", "warning", &["http://10.9.0.1:8045", "api.http.tls.enable"]);
    let server = ["--server", "http://10.9.0.1:8045", "--timeout", PATIENCE];
    let other = examine_on(&neighbour, &[&server[..], &["--token", token]].concat());
    other.assert_finding("api", "warning", &["plain HTTP"]);
    assert!(other.said.contains("the token goes to http://10.9.0.1:8045"), "{}", other.said);
    assert!(!own.said.contains("the token goes to"), "{}", own.said);
    other.assert_finding("udp", "ok", &["10.9.0.1:8443"]);
    assert_eq!(other.report["vantage"], "other-host");
    assert_eq!(examine_on(&neighbour, &server).status, Some(2));
}

#[test]
fn a_bridge_that_both_hosts_have_alike_makes_no_visitor_the_server() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    for each in [&host, &neighbour] {
        each.run("ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0");
        each.run("ip link set docker0 up");
    }
    // Some containers forbid it; the bridge is there all the same.
    neighbour.run("(echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind) 2>/dev/null || true");
    let arguments = ["serve", "--listen-address=:8045", "--drain-timeout=0"];
    let both = "10.9.0.1,172.17.0.1";
    let token = "the-right-token-of-this-test";
    let variables = [
        ("RTCD_RTC_ICEADDRESSUDP", both),
        ("RTCD_RTC_ICEADDRESSTCP", both),
        ("SLUICE_API_TOKEN", token),
    ];
    let (command, folder) = command("doctor-bridge", &arguments, &variables);
    let _serving = Serving::spawn(host.within(command), folder, "8443");
    let own = examine_on(&host, &["--token", token, "--timeout", PATIENCE]);
    assert_eq!(own.report["vantage"], "own-host", "{}", own.said);
    let server = ["--server", "http://10.9.0.1:8045", "--token", token, "--timeout", SILENCE];
    let other = examine_on(&neighbour, &server);
    assert_eq!(other.report["vantage"], "other-host", "{}", other.said);
}
