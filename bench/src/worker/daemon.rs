//! `sluice-bench worker`: waits for controllers and works for them, one at a time.

use std::io::BufReader;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use clap::Args;

use super::link::{
    GREETING_BYTES_MAX, Hello, VERSION, Welcome, carry, prepare, read_line, write_line,
};

/// How a worker is started.
#[derive(Args, Clone, Debug)]
pub struct WorkerArguments {
    /// Where controllers find it.
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// What a controller has to know; needed off loopback. It travels in the clear, and so does what the controller sends (a
    /// server's token or key among it): use it on networks you trust.
    #[arg(long, env = "SLUICE_BENCH_SECRET", default_value = "", hide_env_values = true)]
    pub secret: String,
}

const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
const SECRET_BYTES_MIN: usize = 16;

/// Works for controllers until the process ends.
///
/// # Errors
/// The address cannot be listened on, or everybody could give orders.
pub fn serve_controllers(arguments: &WorkerArguments) -> Result<(), String> {
    let WorkerArguments { listen, secret } = arguments;
    if !listen.ip().is_loopback() && secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "who reaches {listen} could make this host send traffic: give --secret (or SLUICE_BENCH_SECRET) of at least \
            {SECRET_BYTES_MIN} characters, the same at the controller"
        ));
    }
    let listener =
        TcpListener::bind(listen).map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    eprintln!("waiting for controllers on {address}");
    for stream in listener.incoming() {
        let stream = stream.map_err(|e| format!("{address}: {e}"))?;
        let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
        match serve(stream, secret) {
            Ok(()) => eprintln!("{peer}: done"),
            Err(error) => eprintln!("{peer}: {error}"),
        }
    }
    Ok(())
}

/// Works for one controller.
fn serve(stream: TcpStream, secret: &str) -> Result<(), String> {
    prepare(&stream);
    let mut writer = stream.try_clone().map_err(|e| e.to_string())?;
    let watchdog = Watchdog::set(&stream)?;
    let mut reader = BufReader::new(stream);
    let hello: Hello =
        read_line(&mut reader, GREETING_BYTES_MAX)?.ok_or("it said nothing in time")?;
    watchdog.call_off();
    // Compared as a whole, so that time does not tell how much of it was right.
    let is_right = hello.secret.len() == secret.len()
        && hello.secret.bytes().zip(secret.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0;
    if !is_right {
        return Err("refused: it does not know the secret".to_owned());
    }
    write_line(&mut writer, &Welcome::new()).map_err(|e| e.to_string())?;
    if hello.version != VERSION {
        return Err(format!("refused: it is version {}, this is {VERSION}", hello.version));
    }
    let (for_worker, orders) = channel();
    let (reports, from_worker) = channel();
    carry(from_worker, writer, reader, for_worker);
    super::work(&orders, &reports);
    Ok(())
}

/// Closes a connection whose greeting takes too long, however slowly it comes.
struct Watchdog(Sender<()>);

impl Watchdog {
    fn set(stream: &TcpStream) -> Result<Self, String> {
        let stream = stream.try_clone().map_err(|e| e.to_string())?;
        let (called_off, greeting) = channel();
        std::thread::spawn(move || {
            if greeting.recv_timeout(GREETING_TIMEOUT).is_err() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Ok(Self(called_off))
    }

    fn call_off(self) {
        let _ = self.0.send(());
    }
}
