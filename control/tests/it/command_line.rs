//! The command `sluice`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sluice_control::store::Store;

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
    let start = 20_000 + (std::process::id() % 10_000) as u16;
    (start..49_151).find(free).expect("some port is free").to_string()
}

#[test]
fn serve_says_where_it_is_reached_and_ends_in_order_at_a_signal() {
    for (signal, backend) in [("-TERM", "mmsg"), ("-INT", "auto")] {
        let port = media_port();
        let arguments = [
            "serve",
            "--listen-address=127.0.0.1:0",
            "--ice-address-udp=127.0.0.1",
            "--ice-address-tcp=127.0.0.1",
            "--ice-port-udp",
            &port,
            "--ice-port-tcp",
            &port,
            "--shards=1",
            "--backend",
            backend,
        ];
        let (mut command, folder) = command(&format!("serve{signal}"), &arguments, &[]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            said.push(line);
            if said.iter().any(|line| line.contains("  access ")) {
                break;
            }
        }
        let said = said.join("\n");
        assert!(said.contains(&format!("media UDP   127.0.0.1:{port}")), "{said}");
        assert!(said.contains(&format!("media TCP   127.0.0.1:{port}")), "{said}");
        assert!(said.contains("1 shards") && said.contains("SLUICE_API_TOKEN"), "{said}");
        let url = said.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let mut stream = TcpStream::connect(url.expect("a URL")).expect("it listens");
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.expect("it runs").success());
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{said}\n{}", rest.join("\n"));
        assert_eq!(std::fs::read_dir(folder).expect("it is there").count(), 0, "no files are left");
    }
}
