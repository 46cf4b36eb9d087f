//! The sockets of a user's peer: a UDP socket, or one ICE-TCP connection.

use std::io;
use std::net::SocketAddr;

use str0m::net::{Protocol, Transmit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

/// A datagram, from the network or out of a TCP stream.
pub(crate) struct Datagram {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Transport {
    udp: UdpSocket,
    /// Packets to frame, once a connection is open.
    tcp: Option<mpsc::UnboundedSender<Vec<u8>>>,
    from_tcp: mpsc::UnboundedReceiver<Datagram>,
    to_self: mpsc::UnboundedSender<Datagram>,
}

impl Transport {
    pub(crate) async fn bind() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
        let (to_self, from_tcp) = mpsc::unbounded_channel();
        Self { udp, tcp: None, from_tcp, to_self }
    }

    pub(crate) fn udp_address(&self) -> SocketAddr {
        self.udp.local_addr().expect("it is bound")
    }

    /// Whether an ICE-TCP connection was opened.
    pub(crate) fn has_tcp(&self) -> bool {
        self.tcp.is_some()
    }

    /// Opens an ICE-TCP connection to a passive candidate; gives the local address. Source: RFC 6544 section 4.1.
    pub(crate) async fn connect(&mut self, remote: SocketAddr) -> io::Result<SocketAddr> {
        let stream = TcpStream::connect(remote).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (mut reader, mut writer) = stream.into_split();
        let (tcp, mut to_send) = mpsc::unbounded_channel::<Vec<u8>>();
        let to_self = self.to_self.clone();
        // RFC 4571 section 2: a length of 16 bits before each packet.
        tokio::spawn(async move {
            while let Some(bytes) = to_send.recv().await {
                let length = u16::try_from(bytes.len()).expect("a datagram fits");
                let framed = [&length.to_be_bytes(), &bytes[..]].concat();
                if writer.write_all(&framed).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Ok(length) = reader.read_u16().await {
                let mut bytes = vec![0; usize::from(length)];
                if reader.read_exact(&mut bytes).await.is_err() {
                    return;
                }
                let datagram =
                    Datagram { protocol: Protocol::Tcp, source: remote, destination: local, bytes };
                if to_self.send(datagram).is_err() {
                    return;
                }
            }
        });
        self.tcp = Some(tcp);
        Ok(local)
    }

    /// Sends what it can; a full socket loses a datagram, as a network does.
    pub(crate) fn send(&self, transmit: &Transmit) {
        match (transmit.proto, &self.tcp) {
            (Protocol::Udp, _) => {
                let _ = self.udp.try_send_to(&transmit.contents, transmit.destination);
            }
            (_, Some(tcp)) => {
                let _ = tcp.send(transmit.contents.to_vec());
            }
            (_, None) => {}
        }
    }

    /// The next datagram.
    pub(crate) async fn receive(&mut self, buffer: &mut [u8]) -> Datagram {
        loop {
            tokio::select! {
                received = self.udp.recv_from(buffer) => {
                    // An error says that an earlier datagram met a closed port.
                    let Ok((length, source)) = received else { continue };
                    return Datagram {
                        protocol: Protocol::Udp,
                        source,
                        destination: self.udp_address(),
                        bytes: buffer[..length].to_vec(),
                    };
                }
                Some(datagram) = self.from_tcp.recv() => return datagram,
            }
        }
    }
}
