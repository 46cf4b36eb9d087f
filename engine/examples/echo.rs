//! Sends every datagram back, with one shard on either back-end, and says what a datagram costs.
//!
//! `cargo run --release -p sluice-engine --example echo -- uring|mmsg [seconds] [bytes] [window] [peers]`
//!
//! The clients run in a thread of their own on loopback; a window of datagrams is under way at any time. CPU is that of the
//! shard's thread alone, user and system, of which the kernel's half includes delivery to the client, as loopback does.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::config::EngineConfig;
use sluice_engine::egress::Egress;
use sluice_engine::io::mmsg::Mmsg;
use sluice_engine::io::pin::{allowed_cores, pin_to};
use sluice_engine::io::socket::{BindError, bind_all};
use sluice_engine::io::uring::Uring;
use sluice_engine::io::{Network, Wake, Window};
use sluice_engine::route::{PathId, Route};

struct Load {
    seconds: u64,
    bytes: usize,
    window: usize,
    peers: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let load = Load {
        seconds: number(1, 3),
        bytes: number(2, 1200) as usize,
        window: number(3, 64) as usize,
        peers: number(4, 16).max(1) as usize,
    };
    let config = EngineConfig {
        shards: 1,
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        receive_buffer_bytes: 4 << 20,
        send_buffer_bytes: 4 << 20,
        ..EngineConfig::default()
    };
    let mut bound = bind_all(&config).map_err(|error: BindError| error.to_string())?;
    let (sockets, address) = (bound.shards.remove(0), bound.udp[0]);
    let cores = allowed_cores()?;
    pin_to(&cores, 0)?;
    match arguments.first().map(String::as_str) {
        Some("mmsg") => {
            let (network, wake) = Mmsg::new(sockets)?;
            measure("mmsg", network, wake, address, &load, cores);
        }
        Some("uring") => {
            let (network, wake) = Uring::new(sockets)?;
            measure("uring", network, wake, address, &load, cores);
        }
        _ => return Err("the first argument is uring or mmsg".into()),
    }
    Ok(())
}

fn measure<N: Network>(
    name: &str,
    mut network: N,
    wake: Arc<impl Wake + 'static>,
    address: SocketAddr,
    load: &Load,
    cores: Vec<usize>,
) {
    let done = Arc::new(AtomicBool::new(false));
    let clients = {
        let done = Arc::clone(&done);
        let (seconds, bytes, window, peers) = (load.seconds, load.bytes, load.window, load.peers);
        std::thread::spawn(move || {
            // Off the shard's core where there is another.
            let _ = pin_to(&cores, 1);
            run_clients(address, Duration::from_secs(seconds), bytes, window, peers);
            done.store(true, Ordering::Release);
            wake.wake();
        })
    };
    let mut egress = Egress::new(4096, 8 << 20);
    let mut paths: Vec<(Route, Option<PathId>)> = Vec::new();
    let (start, cpu_start) = (clock::now(), thread_cpu());
    let (mut datagrams, mut turns) = (0_u64, 0_u64);
    while !done.load(Ordering::Acquire) {
        network.wait(Some(Duration::from_millis(100)), Window::NONE);
        turns += 1;
        while network.receive(64) > 0 {
            while let Some((route, bytes)) = network.next_datagram() {
                // The few peers of a measurement are found fast enough in a list.
                match paths.iter().find(|(known, _)| *known == route) {
                    Some((_, Some(path))) => {
                        egress.push(*path, bytes);
                    }
                    // The first few of a peer are dropped; the client gives them up.
                    Some((_, None)) => {}
                    None => paths.push((route, None)),
                }
                datagrams += 1;
            }
            for (route, path) in paths.iter_mut().filter(|(_, path)| path.is_none()) {
                *path = Some(network.open_path(*route));
            }
            network.flush(&mut egress);
        }
    }
    let (wall, cpu) = (clock::now().since(start), thread_cpu().saturating_sub(cpu_start));
    if clients.join().is_err() {
        eprintln!("the clients failed");
    }
    println!(
        "{name}: {datagrams} datagrams of {} bytes in {:.2} s, {:.0} per second, {:.0} ns of CPU each, \
         {:.1} per turn, {:.2} per send",
        load.bytes,
        wall.as_secs_f64(),
        datagrams as f64 / wall.as_secs_f64(),
        cpu.as_nanos() as f64 / datagrams.max(1) as f64,
        datagrams as f64 / turns as f64,
        egress.sent.datagrams as f64 / egress.sent.runs.max(1) as f64,
    );
}

/// Keeps `window` datagrams under way for `time`, spread over `peers` sockets.
fn run_clients(to: SocketAddr, time: Duration, bytes: usize, window: usize, peers: usize) {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        // A datagram that was lost leaves the window after this.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(socket)
    };
    let sockets: Vec<UdpSocket> = (0..peers).filter_map(|_| open().ok()).collect();
    let (payload, mut buffer) = (vec![7; bytes], vec![0; 65_536]);
    let each = window.div_ceil(sockets.len().max(1));
    let start = clock::now();
    while clock::now().since(start) < time {
        for socket in &sockets {
            for _ in 0..each {
                let _ = socket.send(&payload);
            }
        }
        for socket in &sockets {
            for _ in 0..each {
                if socket.recv(&mut buffer).is_err() {
                    break;
                }
            }
        }
    }
}

/// CPU time of this thread by the scheduler's own accounting.
fn thread_cpu() -> Duration {
    // Nanoseconds on the CPU are the first number.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}
