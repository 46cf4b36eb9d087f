//! UDP sockets of the relay: buffers as large as it may have, and what the kernel dropped before it was read.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What one call received.
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// Datagrams that the kernel has dropped since the socket was made, for want of room; `None` when it does not say, as long as there are none.
    pub dropped: Option<u32>,
}

/// Buffer of the socket that all clients send to.
const LISTENING_BUFFER_BYTES: usize = 4 << 20;

/// Buffer of the socket of one client: 0.2 s of 10 Mbit/s, as the kernel counts it.
const UPSTREAM_BUFFER_BYTES: usize = 512 << 10;

/// Binds the socket that clients send to.
pub fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    open(address, LISTENING_BUFFER_BYTES)
}

/// Makes a socket with a port of its own that speaks with `server` alone.
pub fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = open(SocketAddr::new(any, 0), UPSTREAM_BUFFER_BYTES)?;
    socket.connect(server)?;
    Ok(socket)
}

/// Makes a socket that nobody reads hold as little as the kernel allows.
pub fn mute(socket: &UdpSocket) -> io::Result<()> {
    SockRef::from(socket).set_recv_buffer_size(0)
}

/// Receives one datagram; `None` when there is none. `control` has the size that [`control_buffer`] gives.
///
/// A refusal that came back for an earlier datagram (nobody listens at the server) is passed over: it says nothing about this one.
pub fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<Option<Received>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut *control),
            MsgFlags::empty(),
        ) {
            Ok(message) => break message,
            Err(error) => match io::Error::from(error) {
                error if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                error if is_of_an_earlier_one(&error) => {}
                error => return Err(error),
            },
        }
    };
    let v4 = |address: &SockaddrStorage| {
        address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()))
    };
    let v6 = |address: &SockaddrStorage| {
        address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into()))
    };
    let from = message.address.as_ref().and_then(|address| v4(address).or_else(|| v6(address)));
    let from = from.ok_or_else(|| io::Error::other("a datagram came without an address"))?;
    let dropped = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::RxqOvfl(dropped) => Some(dropped),
        _ => None,
    });
    Ok(Some(Received { len: message.bytes, from, dropped }))
}

/// Room for what [`receive`] is told beside the datagram.
pub fn control_buffer() -> Vec<u8> {
    nix::cmsg_space!(u32)
}

/// Whether the kernel reports with this call what became of an earlier datagram.
pub fn is_of_an_earlier_one(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | Interrupted)
}

/// Lets this process open as many files as it may allow itself: each client needs a socket, and one more once it was rebound.
pub fn raise_limit_of_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With the limit as it was fewer clients fit, and the first that does not is named.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn open(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Root may have all of it, others what net.core.rmem_max and wmem_max leave.
    if setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
        socket.set_recv_buffer_size(buffer_bytes)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &buffer_bytes).is_err() {
        socket.set_send_buffer_size(buffer_bytes)?;
    }
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    Ok(socket.into())
}
