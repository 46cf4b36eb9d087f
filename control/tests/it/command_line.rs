//! The command `sluice`.

mod doctor;

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use sluice_control::store::Store;

use crate::support::sdp;

/// With no settings from outside, in a folder of its own.
fn sluice(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Output, PathBuf) {
    let (mut command, folder) = command(name, arguments, variables);
    (command.output().expect("it runs"), folder)
}

fn command(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Command, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the target directory is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).current_dir(&folder);
    for (variable, _) in std::env::vars() {
        if variable.starts_with("RTCD_") || variable.starts_with("SLUICE_") {
            command.env_remove(variable);
        }
    }
    command.env("RTCD_STORE_DATASOURCE", store_of(name));
    command.envs(variables.iter().copied());
    (command, folder)
}

/// Both outputs.
fn text_of(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Where a command's clients are registered: not in its folder, and not where another server on
/// this machine has its own.
fn store_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-store"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_is_printed() {
    let (output, _) = sluice("version", &["--version"], &[]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), concat!("sluice ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_printed_default_passes_the_check_without_a_notice() {
    let (printed, folder) = sluice("default", &["config", "--print-default"], &[]);
    assert!(printed.status.success());
    let file = folder.join("sample.toml");
    std::fs::write(&file, &printed.stdout).expect("writable");
    let file = file.to_str().expect("text");
    let (checked, _) = sluice("default-check", &["config", "--check", file], &[]);
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(said.ends_with("is right\n") && !said.contains("unknown key"), "{said}");
}

#[test]
fn a_bad_value_ends_with_status_1_and_says_what_would_be_right() {
    let port = ("RTCD_RTC_ICEPORTUDP", "70000");
    let (output, _) = sluice("bad-env", &["serve"], &[port]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in ["rtc.ice_port_udp", "RTCD_RTC_ICEPORTUDP", "70000", "80 to 49151"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let (output, _) = sluice("bad-flag", &["serve", "--backend", "dpdk"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--backend"));
    let (output, _) = sluice("bad-set", &["serve", "--set", "engine.shrads=2"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("engine.shards"));
    let (output, _) = sluice("no-file", &["serve", "--config", "nowhere.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere.toml"));
}

#[test]
fn a_port_in_use_ends_with_status_1_and_leaves_no_files() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (output, folder) = sluice("in-use", &["serve", "--listen-address", &address], &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("api.http.listen_address") && error.contains(&address), "{error}");
    assert_eq!(std::fs::read_dir(folder).expect("it is there").count(), 0);
}

#[test]
fn a_store_in_use_ends_with_status_1_and_says_what_to_do() {
    let store = store_of("store-in-use");
    let _held = Store::open(&store).expect("it opens");
    let arguments = ["serve", "--listen-address=127.0.0.1:0"];
    let (output, _) = sluice("store-in-use", &arguments, &[]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in ["store.data_source", "sluice.redb", "in use by another process"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

/// A port for media that is free for UDP and TCP; the range of the setting leaves 0 out.
fn media_port() -> String {
    let free = |port: &u16| {
        UdpSocket::bind(("127.0.0.1", *port)).is_ok()
            && TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    // Tests run at the same time: each looks from another port on.
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 10_000) as u16;
    let start = start + 20 * CALLS.fetch_add(1, Ordering::Relaxed);
    (start..49_151).find(free).expect("some port is free").to_string()
}

/// A server that runs until it is told to end.
struct Serving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said until it served.
    said: String,
    folder: PathBuf,
}

impl Serving {
    /// On free ports of loopback, in a folder of its own.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let (command, folder) = command(name, arguments, &[]);
        Self::spawn(command, folder, &media_port())
    }

    fn spawn(mut command: Command, folder: PathBuf, port: &str) -> Self {
        command
            .env("RTCD_API_HTTP_LISTENADDRESS", "127.0.0.1:0")
            .env("RTCD_RTC_ICEADDRESSUDP", "127.0.0.1")
            .env("RTCD_RTC_ICEADDRESSTCP", "127.0.0.1")
            .env("RTCD_RTC_ICEPORTUDP", port)
            .env("RTCD_RTC_ICEPORTTCP", port)
            .env("SLUICE_ENGINE_SHARDS", "1");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut serving = Self { child, lines, said: String::new(), folder };
        serving.said = serving.read_until("  access ");
        serving
    }

    /// What it says up to a line with `mark`, or to its end.
    fn read_until(&mut self, mark: &str) -> String {
        let mut said = Vec::new();
        while let Some(Ok(line)) = self.lines.next() {
            said.push(line);
            if said.last().is_some_and(|line| line.contains(mark)) {
                break;
            }
        }
        said.join("\n")
    }

    fn ask(&self, request: &str, body: &str) -> String {
        let url = self.said.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let mut stream = TcpStream::connect(url.expect("a URL")).expect("it listens");
        let request = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Makes a call with a session; returns the session's path.
    fn join(&self) -> String {
        assert!(self.ask("POST /v1/calls", r#"{"id": "c"}"#).starts_with("HTTP/1.1 201"));
        let answer = self.ask("POST /v1/calls/c/sessions", "{}");
        let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
        location.unwrap_or_else(|| panic!("no session: {answer}")).to_owned()
    }

    fn kill(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("it runs").success());
    }

    /// Reads to the end; status, and what it said.
    fn end(&mut self) -> (Option<i32>, String) {
        let rest = self.read_until("\u{0}");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serve_says_where_it_is_reached_and_ends_in_order_at_a_signal() {
    for (signal, backend) in [("-TERM", "mmsg"), ("-INT", "auto")] {
        let port = media_port();
        let arguments = ["serve", "--backend", backend];
        let (command, folder) = command(&format!("serve{signal}"), &arguments, &[]);
        let mut serving = Serving::spawn(command, folder, &port);
        let said = serving.said.clone();
        assert!(said.contains(&format!("media UDP   127.0.0.1:{port}")), "{said}");
        assert!(said.contains(&format!("media TCP   127.0.0.1:{port}")), "{said}");
        assert!(said.contains("1 shards") && said.contains("SLUICE_API_TOKEN"), "{said}");
        let answer = serving.ask("GET /readyz", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        serving.kill(signal);
        let (status, rest) = serving.end();
        assert_eq!(status, Some(0), "{said}\n{rest}");
        let left = std::fs::read_dir(&serving.folder).expect("it is there").count();
        assert_eq!(left, 0, "no files are left");
    }
}

#[test]
fn a_signal_lets_calls_go_on_until_they_have_ended() {
    let mut serving = Serving::start("drain", &["serve"]);
    let session = serving.join();
    serving.kill("-TERM");
    let said = serving.read_until("draining");
    assert!(said.contains("sessions=1"), "{said}");
    for refused in ["GET /readyz", "POST /v1/calls"] {
        let answer = serving.ask(refused, "{}");
        assert!(answer.starts_with("HTTP/1.1 503"), "{refused}: {answer}");
    }
    let undo = serving.ask("DELETE /v1/node/drain", "");
    assert!(undo.starts_with("HTTP/1.1 409"), "{undo}");
    let node = serving.ask("GET /v1/node", "");
    assert!(
        node.contains(r#""cause":"signal""#) && node.contains(r#""sessions_left":1"#),
        "{node}"
    );
    let ended = serving.ask(&format!("DELETE {session}"), "");
    assert!(ended.starts_with("HTTP/1.1 204"), "{ended}");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn a_second_signal_or_the_time_limit_ends_running_calls() {
    let mut serving = Serving::start("second-signal", &["--log-level=info"]);
    serving.join();
    serving.kill("-INT");
    serving.read_until("draining");
    serving.kill("-TERM");
    let (status, rest) = serving.end();
    assert_eq!(status, Some(130), "{rest}");

    let mut serving = Serving::start("time-limit", &["--drain-timeout=0"]);
    serving.join();
    serving.kill("-TERM");
    let (status, rest) = serving.end();
    assert!(status == Some(0) && rest.contains("the time to drain is over"), "{status:?} {rest}");
}

const DEFAULTS_OF_RTCD: &str = include_str!("fixtures/rtcd_defaults.toml");
const ODD_FORMS: &str = include_str!("fixtures/rtcd_odd.toml");

#[test]
fn files_of_rtcd_pass_the_check() {
    for (name, text) in [("check-defaults", DEFAULTS_OF_RTCD), ("check-odd", ODD_FORMS)] {
        let (mut command, folder) = command(name, &["config", "--check", "config.toml"], &[]);
        std::fs::write(folder.join("config.toml"), text).expect("writable");
        let output = command.output().expect("it runs");
        let said = text_of(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("rtc.udp_sockets_count") == (name == "check-defaults"), "{said}");
        assert!(said.contains("unknown_key") == (name == "check-odd"), "{said}");
    }
}

#[test]
fn files_of_rtcd_start_the_server_under_the_name_of_rtcd() {
    for (name, text) in [("rtcd-defaults", DEFAULTS_OF_RTCD), ("rtcd-odd", ODD_FORMS)] {
        let (mut command, folder) = command(name, &["-config", "config.toml"], &[]);
        std::fs::write(folder.join("config.toml"), text).expect("writable");
        command.arg0("rtcd");
        let mut serving = Serving::spawn(command, folder, &media_port());
        assert!(serving.ask("GET /version", "").starts_with("HTTP/1.1 200"));
        serving.kill("-TERM");
        let (status, rest) = serving.end();
        assert_eq!(status, Some(0), "{rest}");
        let log = std::fs::read_to_string(serving.folder.join("rtcd.log"));
        assert_eq!(log.is_ok(), name == "rtcd-defaults", "{log:?}");
        for line in log.iter().flat_map(|log| log.lines()) {
            serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line");
        }
    }
}

#[test]
fn under_the_name_of_rtcd_a_log_file_is_tried_and_no_configuration_is_needed() {
    for (location, written) in [("some.log", true), ("missing/some.log", false)] {
        let place = [("RTCD_LOGGER_FILELOCATION", location)];
        let (mut command, folder) =
            command(&format!("named-{written}"), &["-config", "nowhere.toml"], &place);
        command.arg0("/opt/rtcd/bin/rtcd");
        let mut serving = Serving::spawn(command, folder, &media_port());
        assert!(serving.said.contains("nowhere.toml is missing"), "{}", serving.said);
        assert_eq!(serving.folder.join(location).exists(), written);
        assert_eq!(serving.said.contains("no log file is written"), !written, "{}", serving.said);
        serving.kill("-TERM");
        assert_eq!(serving.end().0, Some(0));
    }
    let asked_for = [("RTCD_LOGGER_ENABLEFILE", "true"), ("RTCD_LOGGER_FILELOCATION", "no/x.log")];
    let (output, _) = sluice("asked-for", &["serve"], &asked_for);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(&output).contains("logger.file_location no/x.log"), "{}", text_of(&output));
}

#[test]
fn addresses_that_cannot_work_end_the_start_with_what_would_be_right() {
    let (output, _) = sluice("foreign", &["serve"], &[("RTCD_RTC_ICEADDRESSUDP", "198.51.100.77")]);
    let said = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("rtc.ice_address_udp") && said.contains("127.0.0.1"), "{said}");
    let (output, _) = sluice("unresolved", &["serve"], &[("RTCD_RTC_ICEHOSTOVERRIDE", "a..b")]);
    let said = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("rtc.ice_host_override") && said.contains("a..b"), "{said}");
}

/// A STUN server that sees everybody at 203.0.113.7; returns its URL. Ends with the test's process.
fn stun_server() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let port = socket.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        let mut request = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            // Success response with XOR-MAPPED-ADDRESS. Source: RFC 8489 §5, §14.2.
            let mut answer = vec![0x01, 0x01, 0, 12];
            answer.extend(&request[4..20]);
            answer.extend([0x00, 0x20, 0, 8, 0, 1, 0x21, 0x13]);
            answer.extend([203 ^ 0x21, 0x12, 113 ^ 0xa4, 7 ^ 0x42]);
            let _ = socket.send_to(&answer, from);
        }
    });
    format!("stun:127.0.0.1:{port}")
}

#[test]
fn what_a_stun_server_saw_is_offered_to_clients_with_the_port_of_the_translator() {
    let servers = format!("[{:?}]", stun_server());
    let variables = [
        ("RTCD_RTC_ICESERVERS", servers.as_str()),
        ("RTCD_RTC_ICEHOSTPORTOVERRIDE", "127.0.0.9/30001,127.0.0.1/30443"),
    ];
    let (command, folder) = command("stun", &["--drain-timeout=0"], &variables);
    let mut serving = Serving::spawn(command, folder, &media_port());
    let offer = serde_json::json!({"offer": {"type": "offer", "sdp": sdp::publishing()}});
    assert!(serving.ask("POST /v1/calls", r#"{"id": "c"}"#).starts_with("HTTP/1.1 201"));
    let answer = serving.ask("POST /v1/calls/c/sessions", &offer.to_string());
    let candidates: Vec<&str> =
        answer.split("\\r\\n").filter(|line| line.starts_with("a=candidate:")).collect();
    let at = |candidate: &&str| candidate.contains(" 203.0.113.7 30443 typ host");
    assert!(!candidates.is_empty() && candidates.iter().all(at), "{answer}");
    serving.kill("-TERM");
    assert_eq!(serving.end().0, Some(0));
}
