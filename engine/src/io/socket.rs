//! Binds the sockets of all shards, each option with its kernel reason.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::EngineConfig;

/// The sockets of one shard, bound and not yet read from. Goes to the shard's thread.
#[derive(Debug)]
pub struct ShardSockets {
    /// One per configured UDP address, in order.
    pub udp: Vec<UdpSocket>,
    /// One per configured TCP address, in order.
    pub tcp: Vec<TcpListener>,
}

/// All sockets of the process and what the kernel made of them.
#[derive(Debug)]
pub struct BoundSockets {
    /// One entry per shard.
    pub shards: Vec<ShardSockets>,
    /// UDP addresses with the ports they got, in the order of the configuration.
    pub udp: Vec<SocketAddr>,
    /// TCP addresses likewise.
    pub tcp: Vec<SocketAddr>,
    /// The least receive buffer of all UDP sockets, bytes as asked for in SO_RCVBUF; 0 without a UDP socket.
    pub receive_buffer_bytes: usize,
    /// The least send buffer likewise.
    pub send_buffer_bytes: usize,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// The address as configured.
    pub address: SocketAddr,
    /// What the kernel said.
    pub cause: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, address, cause } = self;
        write!(f, "cannot listen on {protocol} {address}: {cause}")?;
        f.write_str(match cause.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                "; something else has the port: stop it or choose another port"
            }
            Some(libc::EADDRNOTAVAIL) => "; no interface of this host has the address",
            Some(libc::EACCES) => {
                "; low ports need root or CAP_NET_BIND_SERVICE: choose a higher one"
            }
            Some(libc::EAFNOSUPPORT) => "; the kernel has this address family switched off",
            Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n)",
            _ => "",
        })
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Connections that may wait for accept, per listener. The kernel cuts it to net.core.somaxconn.
const ACCEPT_BACKLOG: i32 = 1024;

/// Binds every configured address for every shard, so that a start fails as a whole.
///
/// Port 0 takes a free port, the same for all shards; for TCP it is that of a UDP address with the same IP, where it is free.
/// An unspecified address (`0.0.0.0`, `[::]`) answers from the address that the route to the peer prefers; a host with several
/// addresses in use lists each of them.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind_all(config: &EngineConfig) -> Result<BoundSockets, BindError> {
    let mut bound = BoundSockets {
        shards: (0..config.shards)
            .map(|_| ShardSockets { udp: Vec::new(), tcp: Vec::new() })
            .collect(),
        udp: Vec::new(),
        tcp: Vec::new(),
        receive_buffer_bytes: usize::MAX,
        send_buffer_bytes: usize::MAX,
    };
    for &address in &config.addresses {
        let error = |cause| BindError { protocol: "UDP", address, cause };
        let got = bound.bind_udp(address, config).map_err(error)?;
        bound.udp.push(got);
    }
    for &address in &config.tcp_addresses {
        let error = |cause| BindError { protocol: "TCP", address, cause };
        let twin = bound.udp.iter().find(|udp| address.port() == 0 && udp.ip() == address.ip());
        let wanted = twin.copied().unwrap_or(address);
        let got = match bound.bind_tcp(wanted) {
            Err(cause) if wanted != address && cause.kind() == io::ErrorKind::AddrInUse => {
                bound.bind_tcp(address)
            }
            result => result,
        };
        bound.tcp.push(got.map_err(error)?);
    }
    if bound.udp.is_empty() {
        (bound.receive_buffer_bytes, bound.send_buffer_bytes) = (0, 0);
    }
    Ok(bound)
}

impl BoundSockets {
    /// Binds one UDP address for every shard.
    fn bind_udp(
        &mut self,
        mut address: SocketAddr,
        config: &EngineConfig,
    ) -> io::Result<SocketAddr> {
        for shard in 0..self.shards.len() {
            let socket =
                Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            share_port(&socket, address, shard > 0)?;
            address = local_address(&socket)?;
            let (receive, send) = prepare_udp(&socket, address, config)?;
            self.receive_buffer_bytes = self.receive_buffer_bytes.min(receive);
            self.send_buffer_bytes = self.send_buffer_bytes.min(send);
            self.shards[shard].udp.push(socket.into());
        }
        Ok(address)
    }

    /// Binds one TCP address for every shard and listens. On error nothing of it stays.
    fn bind_tcp(&mut self, mut address: SocketAddr) -> io::Result<SocketAddr> {
        let mut listeners: Vec<TcpListener> = Vec::with_capacity(self.shards.len());
        for shard in 0..self.shards.len() {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart must not wait until the connections of the last process leave TIME_WAIT.
            socket.set_reuse_address(true)?;
            share_port(&socket, address, shard > 0)?;
            address = local_address(&socket)?;
            // Accepted connections inherit it: media that waits in the kernel is stale media, and beyond this much
            // of it the write fails and the newest datagram is dropped and counted instead.
            set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, TCP_UNSENT_BYTES_MAX)?;
            socket.set_nonblocking(true)?;
            socket.listen(ACCEPT_BACKLOG)?;
            listeners.push(socket.into());
        }
        for (shard, listener) in self.shards.iter_mut().zip(listeners) {
            shard.tcp.push(listener);
        }
        Ok(address)
    }
}

/// Unsent bytes that the kernel queues for one TCP connection.
const TCP_UNSENT_BYTES_MAX: libc::c_int = 128 * 1024;

/// Binds so that all shards share the port and nobody else does.
///
/// Two sockets share a port when both have SO_REUSEPORT. The first binds without it, which fails where another process
/// listens already, even another of ours; it allows sharing only afterwards.
fn share_port(socket: &Socket, address: SocketAddr, shared: bool) -> io::Result<()> {
    if address.is_ipv6() {
        // One socket per family: peers keep their plain IPv4 addresses, and [::] does not collide with 0.0.0.0.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
        return socket.bind(&address.into());
    }
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Sets the options of a UDP socket; returns the receive and send buffer that were granted.
fn prepare_udp(
    socket: &Socket,
    address: SocketAddr,
    config: &EngineConfig,
) -> io::Result<(usize, usize)> {
    socket.set_nonblocking(true)?;
    // A burst of key frames must fit while the shard does other work. FORCE passes net.core.*mem_max but needs CAP_NET_ADMIN.
    let buffers = [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, config.receive_buffer_bytes),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, config.send_buffer_bytes),
    ];
    for (force, ask, bytes) in buffers {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
        if set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            set_option(socket, libc::SOL_SOCKET, ask, bytes)?;
        }
    }
    // The kernel joins back-to-back datagrams of one peer: a tenth of the cost per datagram. Kernels before 5.0 do without.
    let _ = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    // Never fragment: fragments are lost at firewalls, and reassembly can be poisoned. PROBE rather than DO, because DO
    // believes ICMP "too big" messages, which anyone can forge to shrink a path until nothing fits. What does not fit
    // the interface is EMSGSIZE, a counted drop.
    if address.is_ipv6() {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    }
    // The kernel books twice what was asked for, for its own overhead, and reports the double.
    Ok((socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2))
}

/// Datagrams that the kernel dropped since `sockets` were opened, most of them because a receive buffer was full. Each socket's count
/// starts again at 2^32. Source: SK_MEMINFO_DROPS of linux/sock_diag.h, since kernel 4.12.
pub fn receive_drops(sockets: &[UdpSocket]) -> u64 {
    let of = |socket: &UdpSocket| {
        let mut words = [0_u32; MEMINFO_WORDS];
        let mut len = size_of_val(&words) as libc::socklen_t;
        let (fd, at) = (socket.as_raw_fd(), (&raw mut words).cast());
        // SAFETY: the kernel writes at most `len` bytes to `at`, which holds as many.
        let result =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, at, &raw mut len) };
        match result {
            0 => u64::from(words[MEMINFO_DROPS]),
            _ => 0,
        }
    };
    sockets.iter().map(of).sum()
}

/// SK_MEMINFO_VARS of linux/sock_diag.h; a kernel that knows fewer fills fewer.
const MEMINFO_WORDS: usize = 9;

/// SK_MEMINFO_DROPS.
const MEMINFO_DROPS: usize = 8;

fn set_option(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let (at, len) = ((&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option's value is one readable int, and the length says so.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, at, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(udp: &[&str], tcp: &[&str], shards: u16) -> EngineConfig {
        EngineConfig {
            shards,
            addresses: udp.iter().map(|text| text.parse().unwrap()).collect(),
            tcp_addresses: tcp.iter().map(|text| text.parse().unwrap()).collect(),
            receive_buffer_bytes: 1 << 18,
            send_buffer_bytes: 1 << 17,
            ..EngineConfig::default()
        }
    }

    #[test]
    fn all_shards_get_one_port() {
        let bound = bind_all(&config(&["127.0.0.1:0", "[::1]:0"], &["127.0.0.1:0"], 3)).unwrap();
        assert_eq!(bound.shards.len(), 3);
        for shard in &bound.shards {
            let udp: Vec<_> = shard.udp.iter().map(|s| s.local_addr().unwrap()).collect();
            let tcp: Vec<_> = shard.tcp.iter().map(|s| s.local_addr().unwrap()).collect();
            assert_eq!((udp, tcp), (bound.udp.clone(), bound.tcp.clone()));
        }
        assert!(bound.udp.iter().all(|address| address.port() != 0));
        assert!(bound.receive_buffer_bytes >= 1 << 17 && bound.send_buffer_bytes >= 1 << 17);
    }

    #[test]
    fn tcp_takes_the_number_of_udp() {
        let bound = bind_all(&config(&["127.0.0.1:0"], &["127.0.0.1:0"], 1)).unwrap();
        assert_eq!(bound.udp, bound.tcp);
    }

    #[test]
    fn the_kernel_spreads_peers_over_the_shards() {
        let bound = bind_all(&config(&["127.0.0.1:0"], &[], 2)).unwrap();
        let peers: Vec<_> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for peer in &peers {
            peer.send_to(b"x", bound.udp[0]).unwrap();
        }
        let received = bound
            .shards
            .iter()
            .map(|shard| std::iter::from_fn(|| shard.udp[0].recv_from(&mut [0; 8]).ok()).count());
        let received: Vec<_> = received.collect();
        assert_eq!(received.iter().sum::<usize>(), peers.len());
        assert!(received.iter().all(|&n| n > 0), "{received:?}");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let small =
            EngineConfig { receive_buffer_bytes: 4_096, ..config(&["127.0.0.1:0"], &[], 1) };
        let bound = bind_all(&small).unwrap();
        let sockets = &bound.shards[0].udp;
        assert_eq!(receive_drops(sockets), 0);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent = 200;
        for _ in 0..sent {
            peer.send_to(&[0; 1_000], bound.udp[0]).unwrap();
        }
        let received = std::iter::from_fn(|| sockets[0].recv_from(&mut [0; 2_048]).ok()).count();
        assert!(received < sent);
        assert_eq!(receive_drops(sockets), (sent - received) as u64);
    }

    #[test]
    fn a_second_process_is_refused_with_the_address_and_a_hint() {
        let first = bind_all(&config(&["127.0.0.1:0"], &["127.0.0.1:0"], 2)).unwrap();
        let (udp, tcp) = (first.udp[0].to_string(), first.tcp[0].to_string());
        let refused = [
            (bind_all(&config(&[&udp], &[], 2)), format!("UDP {udp}")),
            (bind_all(&config(&[], &[&tcp], 2)), format!("TCP {tcp}")),
        ];
        for (result, what) in refused {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(&what), "{message}");
            assert!(message.contains("choose another port"), "{message}");
        }
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_a_hint() {
        let message = bind_all(&config(&["192.0.2.1:0"], &[], 1)).unwrap_err().to_string();
        assert!(message.contains("no interface of this host"), "{message}");
    }
}
