//! A real `sluice` on ports of its own.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{PATIENCE, bench, folder, pause, wait_until};

/// Runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

/// Others may take a port between the look for it and the start; not this often.
const ATTEMPTS: usize = 5;
/// Well below the time after which a server gives up on people who went without a word.
const LEAVE_MAX: Duration = Duration::from_secs(8);

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with further settings, as variables.
    pub(crate) fn start_with(name: &str, settings: &[(&str, &str)]) -> Self {
        for _ in 1..ATTEMPTS {
            if let Some(server) = Self::attempt(name, settings) {
                return server;
            }
        }
        Self::attempt(name, settings).expect("it starts on ports that were free")
    }

    /// Nothing when it ended by itself: the ports were not free any more.
    fn attempt(name: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let folder = folder(&format!("server-{name}"));
        let (port, media) = (free_port(), free_port());
        let log = File::create(folder.join("log")).expect("the folder is writable");
        let mut command = Command::new(binary());
        bench::without_settings(&mut command);
        let child = command
            .arg("serve")
            .arg(format!("--listen-address=127.0.0.1:{port}"))
            .args(["--ice-address-udp=127.0.0.1", "--ice-address-tcp=127.0.0.1"])
            .arg(format!("--ice-port-udp={media}"))
            .arg(format!("--ice-port-tcp={media}"))
            .arg("--drain-timeout=0")
            .envs(settings.iter().copied())
            .env("RTCD_STORE_DATASOURCE", folder.join("store"))
            .env("RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "true")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            .spawn()
            .expect("it can be executed");
        let mut server = Self { child, folder, port };
        for _ in 0..PATIENCE.as_millis() / 20 {
            if server.child.try_wait().expect("it is a child of ours").is_some() {
                eprintln!("the server ended: {}", server.log());
                return None;
            }
            if server.get("/readyz").is_ok_and(|(status, _)| status == 200) {
                return Some(server);
            }
            pause(Duration::from_millis(20));
        }
        panic!("the server is not ready after {PATIENCE:?}: {}", server.log());
    }

    /// It as a `--target` of an API.
    pub(crate) fn target(&self, api: &str) -> String {
        format!("{api}=http://127.0.0.1:{}", self.port)
    }

    /// Sessions it has.
    pub(crate) fn sessions(&self) -> u64 {
        self.metric("sluice_sessions")
    }

    /// What it counts under a name, labels included.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (status, body) = self.get("/metrics").expect("it answers");
        assert_eq!(status, 200, "{body}");
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("it counts that").parse().expect("it is a number")
    }

    /// Waits until it has so many sessions.
    pub(crate) fn await_sessions(&self, wanted: u64) {
        let is_so = || self.sessions() == wanted;
        wait_until(&format!("there are {wanted} sessions"), PATIENCE, || self.log(), is_so);
    }

    /// Nobody stayed behind when a run ended.
    pub(crate) fn assert_empty(&self) {
        // What clients said last may still be under way.
        wait_until("nobody is left", LEAVE_MAX, || self.log(), || self.sessions() == 0);
    }

    /// Ends it at once and without a word.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("it is a child of ours");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Status and body of what it answers. HTTP/1.0 knows no chunks, and ends the body with the connection.
    fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's binary, beside the program under test.
fn binary() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_sluice-bench")).with_file_name("sluice");
    assert!(
        binary.exists(),
        "{} is missing; build it first: cargo build --bin sluice",
        binary.display()
    );
    binary
}

/// A port that is free for TCP and for UDP.
pub(crate) fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = tcp.local_addr().expect("it is bound").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
