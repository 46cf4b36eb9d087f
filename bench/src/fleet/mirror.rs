//! The generator's own error: stamped datagrams from one of its sockets to another, on the clock and the way of all others.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sluice_engine::clock::{Instant, NtpTime};
use sluice_engine::egress::Egress;
use sluice_engine::io::Network;
use sluice_engine::route::{PathId, Route, Transport};

/// Sends to itself.
pub struct Mirror {
    path: PathId,
    /// The socket that receives.
    socket: usize,
    next: Instant,
    counter: u64,
}

/// Bytes of a datagram: a mark, a number and a time.
pub const BYTES: usize = 24;

const MARK: &[u8; 8] = b"mirrored";
const INTERVAL: Duration = Duration::from_millis(20);

impl Mirror {
    /// Uses the two sockets after the clients'.
    pub fn new(network: &mut dyn Network, addresses: &[SocketAddr], clients: usize) -> Self {
        let socket = clients + 1;
        let port = addresses.get(socket).map_or(0, SocketAddr::port);
        let remote = match addresses.first() {
            Some(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            _ => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        let route = Route { transport: Transport::Udp, local: clients as u16, remote };
        Self { path: network.open_path(route), socket, next: Instant::default(), counter: 0 }
    }

    /// Sends when it is time; `ntp` is the wall clock at this moment.
    pub fn send(&mut self, now: Instant, ntp: NtpTime, egress: &mut Egress) {
        if self.next > now {
            return;
        }
        self.next = now + INTERVAL;
        self.counter += 1;
        let mut datagram = [0; BYTES];
        datagram[..8].copy_from_slice(MARK);
        datagram[8..16].copy_from_slice(&self.counter.to_be_bytes());
        datagram[16..].copy_from_slice(&ntp.0.to_be_bytes());
        egress.push(self.path, &datagram);
    }

    /// How long a datagram of ours took; `None` for any other.
    pub fn take(&self, socket: usize, datagram: &[u8], arrived: NtpTime) -> Option<Duration> {
        let time: [u8; 8] = datagram.get(16..)?.try_into().ok()?;
        if socket != self.socket || !datagram.starts_with(MARK) {
            return None;
        }
        let nanos = arrived.nanos_since(NtpTime(u64::from_be_bytes(time)));
        // Before it was sent is as wrong as after.
        Some(Duration::from_nanos(nanos.unsigned_abs()))
    }
}
