//! The real server: the binary `sluice`, set up as an operator sets up rtcd.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::http::{self, Answer};
use super::in_time;

/// A running server. What it logged is printed when the test fails.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    media_port: u16,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Open to registration, on loopback, with a store of its own.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further `RTCD_*` or `SLUICE_*` variables.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let media_port = media_port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("rtcd-{}-{media_port}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the target directory is writable");
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let log = Arc::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, http) = launch(&folder, any, media_port, &settings, &log).await;
        Self { http, folder, settings, media_port, child, log }
    }

    /// Ends it at once and starts it anew with the same ports and store.
    pub(crate) async fn restart(&mut self) {
        self.child.kill().await.expect("it runs");
        let (folder, settings) = (&self.folder, &self.settings);
        let (child, http) = launch(folder, self.http, self.media_port, settings, &self.log).await;
        assert_eq!(http, self.http);
        self.child = child;
    }

    /// SIGTERM, as a service manager sends it.
    pub(crate) async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        in_time("the end of the server", self.child.wait()).await.expect("it was started")
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_some()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[String]) -> Answer {
        http::ask(self.http, "GET", path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[String], body: &str) -> Answer {
        http::ask(self.http, "POST", path, headers, body).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().expect("no reader panics");
            eprintln!("--- the server's log\n{}\n---", log.join("\n"));
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

async fn launch(
    folder: &Path,
    http: SocketAddr,
    media_port: u16,
    settings: &[(String, String)],
    log: &Arc<Mutex<Vec<String>>>,
) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (variable, _) in std::env::vars() {
        if variable.starts_with("RTCD_") || variable.starts_with("SLUICE_") {
            command.env_remove(variable);
        }
    }
    command
        .arg("serve")
        .env("SLUICE_ENGINE_SHARDS", "1")
        .env("RTCD_API_HTTP_LISTENADDRESS", http.to_string())
        .env("RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "true")
        .env("RTCD_RTC_ICEADDRESSUDP", "127.0.0.1")
        .env("RTCD_RTC_ICEADDRESSTCP", "127.0.0.1")
        .env("RTCD_RTC_ICEPORTUDP", media_port.to_string())
        .env("RTCD_RTC_ICEPORTTCP", media_port.to_string())
        .env("RTCD_STORE_DATASOURCE", folder.join("store"))
        .env("RTCD_LOGGER_ENABLEFILE", "false")
        .env("RTCD_LOGGER_CONSOLELEVEL", "DEBUG")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("the binary was built with this test");
    let (listening, mut listens) = watch::channel(None);
    read_log(child.stdout.take().expect("it is piped"), log, listening.clone());
    read_log(child.stderr.take().expect("it is piped"), log, listening);
    let started = async { listens.wait_for(Option::is_some).await.map(|address| *address).ok() };
    let Some(Some(address)) = in_time("the server's address", started).await else {
        let log = log.lock().expect("no reader panics");
        panic!("the server ended instead of starting:\n{}", log.join("\n"));
    };
    (child, address)
}

/// Keeps what the server says, and finds its address: the first URL of loopback in it.
fn read_log(
    output: impl AsyncRead + Unpin + Send + 'static,
    log: &Arc<Mutex<Vec<String>>>,
    listening: watch::Sender<Option<SocketAddr>>,
) {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, url)) = line.split_once("http://127.0.0.1:") {
                let digits: String = url.chars().take_while(char::is_ascii_digit).collect();
                let port = digits.parse().ok();
                listening.send_if_modified(|address| {
                    let first = address.is_none();
                    *address = address.or(port.map(|port| ([127, 0, 0, 1], port).into()));
                    first
                });
            }
            log.lock().expect("no reader panics").push(line);
        }
    });
}

/// A port that is free for UDP and TCP; the range of the setting leaves 0 out.
fn media_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 31_000 + (std::process::id() % 800) as u16 * 20;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 49_151, "no port is free");
        if UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return port;
        }
    }
}
