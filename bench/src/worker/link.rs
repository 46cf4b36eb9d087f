//! A controller's end of a worker: a thread of its own process, or a connection to another host.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::SockRef;

use super::protocol::{Order, Report};

/// A worker, as the controller has it.
pub struct Link {
    /// Names it in messages.
    pub name: String,
    orders: Sender<Order>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
}

/// A line longer than this is no message of ours: a window of twenty thousand clients takes a tenth of it.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// A greeting has a version and a secret.
pub(super) const GREETING_BYTES_MAX: u64 = 4 << 10;
/// Data that the other host does not acknowledge for this long: it is gone, and the clients with it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Link {
    /// Sends an order.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn send(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).map_err(|_| format!("worker {} is gone", self.name))
    }

    /// Waits up to `timeout` for what the worker says; nothing when it says nothing.
    ///
    /// # Errors
    /// The worker is gone, or said that it cannot go on.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Report>, String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.reports.recv_timeout(timeout) {
            Ok(Report::Failed(why)) => Err(format!("worker {}: {why}", self.name)),
            Ok(report) => Ok(Some(report)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(format!("worker {} is gone", self.name)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without orders a worker takes its clients down and ends.
        let (nobody, _) = channel();
        self.orders = nobody;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a worker on a thread of this process.
///
/// # Errors
/// No thread could be made.
pub fn spawn(number: u32) -> Result<Link, String> {
    let (orders, for_worker) = channel();
    let (for_controller, reports) = channel();
    let thread = std::thread::Builder::new()
        .name(format!("clients-{number}"))
        .spawn(move || super::work(&for_worker, &for_controller))
        .map_err(|e| format!("no thread for a worker: {e}"))?;
    Ok(Link { name: format!("{number} (here)"), orders, reports, thread: Some(thread) })
}

/// Connects to a worker that runs as `sluice-bench worker`, on this host or another.
///
/// # Errors
/// Nobody listens there, or it refused the secret.
pub fn connect(address: SocketAddr, secret: &str) -> Result<Link, String> {
    let failed = |error| format!("worker {address}: {error}");
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
    prepare(&stream);
    let mut writer = stream.try_clone().map_err(failed)?;
    write_line(&mut writer, &Hello::of(secret)).map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let _ = reader.get_ref().set_read_timeout(Some(CONNECT_TIMEOUT));
    let answer: Welcome = read_line(&mut reader, GREETING_BYTES_MAX)
        .map_err(|e| format!("worker {address} did not greet: {e}"))?
        .ok_or_else(|| {
            format!(
                "worker {address} closed the connection: another secret, another version, or busy"
            )
        })?;
    let _ = reader.get_ref().set_read_timeout(None);
    answer.check(address)?;
    let (orders, from_controller) = channel();
    let (for_controller, reports) = channel();
    carry(from_controller, writer, reader, for_controller);
    Ok(Link { name: address.to_string(), orders, reports, thread: None })
}

/// Sets what both ends want of their connection. Workers send twice a second, so that a host which vanished is noticed.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
}

/// Carries what is to be sent to `writer`, and what `reader` brings to `received`, each on a thread of its own, until either side ends.
pub(super) fn carry<S: Serialize + Send + 'static, R: DeserializeOwned + Send + 'static>(
    to_send: Receiver<S>,
    mut writer: TcpStream,
    mut reader: BufReader<TcpStream>,
    received: Sender<R>,
) {
    std::thread::spawn(move || {
        for value in to_send {
            if write_line(&mut writer, &value).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(std::net::Shutdown::Both);
    });
    std::thread::spawn(move || {
        while let Ok(Some(value)) = read_line(&mut reader, LINE_BYTES_MAX) {
            if received.send(value).is_err() {
                break;
            }
        }
        let _ = reader.get_ref().shutdown(std::net::Shutdown::Both);
    });
}

/// The first line of a controller.
#[derive(Serialize, serde::Deserialize)]
pub(super) struct Hello {
    pub(super) version: String,
    pub(super) secret: String,
}

/// The first line of a worker.
#[derive(Serialize, serde::Deserialize)]
pub(super) struct Welcome {
    version: String,
}

impl Hello {
    fn of(secret: &str) -> Self {
        Self { version: VERSION.to_owned(), secret: secret.to_owned() }
    }
}

impl Welcome {
    pub(super) fn new() -> Self {
        Self { version: VERSION.to_owned() }
    }

    fn check(&self, address: SocketAddr) -> Result<(), String> {
        match self.version == VERSION {
            true => Ok(()),
            false => Err(format!(
                "worker {address} is version {}, this is {VERSION}: use the same everywhere",
                self.version
            )),
        }
    }
}

/// Controllers and workers of one version understand each other.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn write_line(writer: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line)
}

/// The next message; `None` at the end.
pub(super) fn read_line<T: DeserializeOwned>(
    reader: &mut impl BufRead,
    bytes_max: u64,
) -> Result<Option<T>, String> {
    let mut line = Vec::new();
    let read = reader.take(bytes_max).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
    if read == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| format!("a line that is no message: {e}"))
}
