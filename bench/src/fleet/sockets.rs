//! The sockets of a fleet: one for each client and two for the mirror, behind one ring of receive buffers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use sluice_engine::config::EngineConfig;
use sluice_engine::egress::Egress;
use sluice_engine::io::mmsg::Mmsg;
use sluice_engine::io::socket::{ShardSockets, bind_all};
use sluice_engine::io::uring::Uring;
use sluice_engine::io::{Network, Wake};

/// Sockets that are bound, and what reads them.
pub struct Bound {
    pub network: Box<dyn Network>,
    pub wake: Arc<dyn Wake>,
    /// One of each socket.
    pub addresses: Vec<SocketAddr>,
}

/// Sockets of the mirror.
pub const MIRROR_SOCKETS: usize = 2;

/// This holds half a second of eight megabits; kernels take only what arrives.
const SOCKET_BUFFER_BYTES: usize = 512 << 10;
const EGRESS_DATAGRAMS: usize = 8_192;
const EGRESS_BYTES: usize = 12 << 20;

/// Seconds for which the socket of somebody who left stays unused: a server may still hold the address for who had it.
const REST_S: f64 = 15.0;

/// Descriptors that the process needs beside its clients' sockets.
const OTHER_DESCRIPTORS: u64 = 512;

/// Sockets more than seats, when so many leave each second.
pub fn spare(leaving_per_second: f64) -> usize {
    (leaving_per_second * REST_S).ceil() as usize
}

/// Whether the host of a URL is an IPv6 address.
pub fn is_ipv6(url: &str) -> bool {
    url.contains("://[")
}

/// The egress of a fleet: packets of a turn of all clients.
pub fn egress() -> Egress {
    Egress::new(EGRESS_DATAGRAMS, EGRESS_BYTES)
}

/// Where a relay in front of `server` listens: on a free port of loopback when the server is there, else of all addresses.
pub fn relay_address(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, 0)
}

/// Binds sockets for `clients` and the mirror.
///
/// # Errors
/// Not enough descriptors, ports or memory.
pub fn bind(clients: usize, ipv6: bool) -> Result<Bound, String> {
    let sockets = clients + MIRROR_SOCKETS;
    raise_descriptors(sockets as u64 + OTHER_DESCRIPTORS)?;
    let any: IpAddr =
        if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let config = EngineConfig {
        shards: 1,
        addresses: vec![SocketAddr::new(any, 0); sockets],
        receive_buffer_bytes: SOCKET_BUFFER_BYTES,
        send_buffer_bytes: SOCKET_BUFFER_BYTES,
        ..EngineConfig::default()
    };
    let mut bound = bind_all(&config).map_err(|e| e.to_string())?;
    let shard = bound.shards.pop().unwrap_or(ShardSockets { udp: vec![], tcp: vec![] });
    for socket in &shard.udp {
        // Latency is taken from the kernel's own time stamps: how long a packet waits for us is not the server's doing.
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|e| format!("the kernel gives no time stamps: {e}"))?;
    }
    let again = ShardSockets {
        udp: shard
            .udp
            .iter()
            .map(|udp| udp.try_clone())
            .collect::<Result<_, _>>()
            .unwrap_or_default(),
        tcp: Vec::new(),
    };
    let (network, wake): (Box<dyn Network>, Arc<dyn Wake>) = match Uring::new(shard) {
        Ok((network, wake)) => (Box::new(network), wake),
        Err(_) => {
            let (network, wake) = Mmsg::new(again).map_err(|e| format!("epoll: {e}"))?;
            (Box::new(network), wake)
        }
    };
    Ok(Bound { network, wake, addresses: bound.udp })
}

/// Allows this process so many open files, as far as its hard limit goes.
fn raise_descriptors(wanted: u64) -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| e.to_string())?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        return Err(format!(
            "{wanted} open files are needed and {hard} allowed: raise the hard limit (ulimit -Hn {wanted}), \
            or spread the clients over more workers"
        ));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(|e| format!("ulimit -n {wanted}: {e}"))
}
