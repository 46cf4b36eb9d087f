//! What the kernel and the server say of the server, the machine and ourselves.

mod cpu;
mod metrics;
mod sockets;
mod udp;

use std::fs;

pub use cpu::{Core, CpuSample, schedstat};
pub use metrics::Metrics;
pub use sockets::{listener, process_socket_drops, socket_drops};
pub use udp::is_in_our_namespace;

/// The server's resident memory, bytes.
///
/// # Errors
/// There is no such process any more.
pub fn resident_bytes(pid: u32) -> Result<u64, String> {
    let gone = |error| format!("the server's process {pid} is not there: {error}");
    let status = read(&format!("/proc/{pid}/status")).map_err(gone)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    // One that ended and that nobody waited for has a status, but no memory.
    kib.map(|kib| kib << 10).ok_or_else(|| gone("it has no VmRSS".to_owned()))
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}
