//! A real `sluice` on ports of its own.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluice_engine::clock;

use crate::conversation::Target;
use crate::signalling::account;

/// Runs until it is dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    url: String,
}

/// How long the start may take: this machine may have other things to do.
const START_MAX: Duration = Duration::from_secs(60);

impl Server {
    /// Starts it and waits until it is ready. `settings` are environment variables.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let binary = binary();
        let name = format!("sluice-bench-{}-{}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let (api, media) = (free_port(), free_port());
        let log = File::create(folder.join("log")).unwrap();
        let child = Command::new(binary)
            .arg("serve")
            .arg(format!("--listen-address=127.0.0.1:{api}"))
            .args(["--ice-address-udp=127.0.0.1", "--ice-address-tcp=127.0.0.1"])
            .arg(format!("--ice-port-udp={media}"))
            .arg(format!("--ice-port-tcp={media}"))
            .arg("--drain-timeout=0")
            .env("RTCD_STORE_DATASOURCE", folder.join("store"))
            .env("RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "true")
            .envs(settings.iter().copied())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, folder, url: format!("http://127.0.0.1:{api}") };
        let target = server.target("rtcd");
        let start = clock::now();
        while !account::get(&target, "/readyz").is_ok_and(|answer| answer.status == 200) {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && clock::now().since(start) < START_MAX, "{}", server.log());
            super::pause(Duration::from_millis(20));
        }
        server
    }

    /// It as a target of an API.
    pub fn target(&self, api: &str) -> Target {
        Target::parse(&format!("{api}={}", self.url)).unwrap()
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // A folder that stays behind in /tmp harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The server's binary, in the profile's folder that this test stands in, too.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("sluice");
    assert!(
        binary.exists(),
        "{} is missing; build it first: cargo build --bin sluice",
        binary.display()
    );
    binary
}

/// A port that is free for TCP and for UDP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
