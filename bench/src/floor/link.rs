//! Where packets go: sockets on loopback, sockets behind a pair of devices, or a device that drops.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cpu::Cores;
use super::namespace::Namespace;
use super::outbox::{Names, split_by};
use super::work::{Sample, Sender};
use super::{Device, Shape};

/// A device that was made, with the socket that sends to it.
pub struct Link {
    device: Device,
    socket: UdpSocket,
    /// Of the peers.
    names: Names,
    /// Theirs too; none where packets are dropped.
    receivers: Vec<UdpSocket>,
    sink: Option<Sink>,
}

/// The device that drops.
struct Sink {
    namespace: Namespace,
    /// `dummy` or `ifb`.
    kind: &'static str,
}

/// One run over a link.
pub struct Run {
    pub sample: Sample,
    /// Packets that readers took.
    pub read: Option<u64>,
    /// Packets that the sink counted.
    pub counted: Option<u64>,
}

/// The name of the sink in its namespace.
const SINK: &str = "slsink";
/// Kinds of devices that drop what they should transmit, the first that the kernel has: `dummy` drops all, `ifb` all that traffic
/// control did not redirect to it.
const SINK_KINDS: [&str; 2] = ["dummy", "ifb"];

/// Datagrams that a reader takes of one socket before it looks at the next: less than what the smallest default buffer holds.
const READ_MAX: u32 = 64;

impl Link {
    /// Makes the device and the sockets.
    ///
    /// # Errors
    /// Why it cannot be made here.
    pub fn open(device: Device, peers: u32) -> Result<Self, String> {
        match device {
            Device::Loopback => Self::loopback(peers),
            Device::Veth => Self::veth(peers),
            Device::Sink => Self::sink(peers),
        }
    }

    /// What a reader of figures has to know of it.
    pub fn note(&self) -> Option<String> {
        let kind = self.sink.as_ref()?.kind;
        Some(format!("a device of the kind `{kind}`; the kernel splits runs before it"))
    }

    /// As it stands in results.
    pub fn name(&self) -> &'static str {
        self.device.name()
    }

    fn loopback(peers: u32) -> Result<Self, String> {
        let receivers = bind_all(Ipv4Addr::LOCALHOST, peers)?;
        let socket = bind(Ipv4Addr::LOCALHOST)?;
        Self::to_receivers(Device::Loopback, socket, receivers)
    }

    /// Both ends are in namespaces of their own. The addresses are of the block that is set aside for measurements
    /// (RFC 2544, appendix C.2.2).
    fn veth(peers: u32) -> Result<Self, String> {
        let (near, far) = (Namespace::make()?, Namespace::make()?);
        near.ip(&format!("link add slveth0 type veth peer name slveth1 netns {}", far.path()))?;
        near.ip("address add 198.18.0.1/30 dev slveth0")?;
        far.ip("address add 198.18.0.2/30 dev slveth1")?;
        near.ip("link set slveth0 up")?;
        far.ip("link set slveth1 up")?;
        let receivers = far.enter(|| bind_all(Ipv4Addr::new(198, 18, 0, 2), peers))?;
        let socket = near.enter(|| bind(Ipv4Addr::new(198, 18, 0, 1)))?;
        Self::to_receivers(Device::Veth, socket, receivers)
    }

    /// All peers are behind one gateway, as on the Internet; each has an address of its own.
    fn sink(peers: u32) -> Result<Self, String> {
        let namespace = Namespace::make()?;
        let add = |kind: &str| namespace.ip(&format!("link add {SINK} type {kind}"));
        let mut refusals = Vec::new();
        let kind = SINK_KINDS.into_iter().find(|kind| match add(kind) {
            Ok(()) => true,
            Err(refusal) => {
                refusals.push(refusal);
                false
            }
        });
        let kind = kind.ok_or_else(|| {
            refusals.dedup();
            format!("no device that drops could be made: {}", refusals.join("; "))
        })?;
        // A device that takes one segment at a time makes the kernel split runs, whatever else the device could do.
        namespace.ip(&format!("link set {SINK} gso_max_segs 1"))?;
        namespace.ip(&format!("address add 198.18.0.1/30 dev {SINK}"))?;
        namespace.ip(&format!("link set {SINK} up"))?;
        namespace.ip(&format!("route add 198.19.0.0/16 via 198.18.0.2 dev {SINK}"))?;
        let socket = namespace.enter(|| bind(Ipv4Addr::new(198, 18, 0, 1)))?;
        let address = |peer: u32| {
            let [.., third, last] = (peer + 1).to_be_bytes();
            SocketAddrV4::new(Ipv4Addr::new(198, 19, third, last), 40_000)
        };
        let names = Names::new(&(0..peers).map(address).collect::<Vec<_>>());
        let sink = Some(Sink { namespace, kind });
        Ok(Self { device: Device::Sink, socket, names, receivers: Vec::new(), sink })
    }

    fn to_receivers(
        device: Device,
        socket: UdpSocket,
        receivers: Vec<UdpSocket>,
    ) -> Result<Self, String> {
        let address = |receiver: &UdpSocket| match receiver.local_addr() {
            Ok(SocketAddr::V4(address)) => Ok(address),
            Ok(SocketAddr::V6(address)) => Err(format!("a socket has the address {address}")),
            Err(error) => Err(format!("asking a socket for its address: {error}")),
        };
        let addresses = receivers.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let names = Names::new(&addresses);
        Ok(Self { device, socket, names, receivers, sink: None })
    }

    /// Sends for a while from this thread, and reads on another one, away from the sender's core.
    ///
    /// # Errors
    /// The kernel does not split runs, or something could not be counted.
    pub fn run(
        &self,
        sender: &mut Sender,
        cores: &Cores,
        shape: Shape,
        length: Duration,
    ) -> Result<Run, String> {
        self.split_by(shape)?;
        let count = || self.sink.as_ref().map(|sink| sink.namespace.packets(SINK)).transpose();
        let before = count()?;
        let over = AtomicBool::new(false);
        let (sample, read) = std::thread::scope(|scope| {
            let reader = (!self.receivers.is_empty()).then(|| {
                scope.spawn(|| {
                    cores.keep_off();
                    drain(&self.receivers, &over)
                })
            });
            let sample = sender.send_for(&self.socket, &self.names, shape, length);
            over.store(true, Ordering::Relaxed);
            (sample, reader.map(|reader| reader.join().unwrap_or_default()))
        });
        let counted = count()?.zip(before).map(|(after, before)| after - before);
        Ok(Run { sample, read, counted })
    }

    /// Lets the kernel split what is longer than a packet, when there are runs.
    ///
    /// # Errors
    /// The kernel is older than UDP_SEGMENT (4.18).
    pub fn split_by(&self, shape: Shape) -> Result<(), String> {
        // One packet goes out as from any socket: with the option set it would cost a few more branches.
        split_by(&self.socket, if shape.run == 1 { 0 } else { shape.packet_bytes() })
    }

    #[cfg(test)]
    pub fn parts(&self) -> (&UdpSocket, &Names, &[UdpSocket]) {
        (&self.socket, &self.names, &self.receivers)
    }
}

/// Takes what arrives until it is `over` and nothing is left; returns how much that was.
///
/// It never sleeps: a reader that has to be woken up would be at the sender's expense.
fn drain(receivers: &[UdpSocket], over: &AtomicBool) -> u64 {
    let mut bytes = [0; 2_048];
    let mut read = 0;
    loop {
        let is_last = over.load(Ordering::Relaxed);
        let before = read;
        for receiver in receivers {
            for _ in 0..READ_MAX {
                match receiver.recv(&mut bytes) {
                    Ok(_) => read += 1,
                    Err(_) => break,
                }
            }
        }
        if is_last && read == before {
            return read;
        }
    }
}

fn bind_all(address: Ipv4Addr, peers: u32) -> Result<Vec<UdpSocket>, String> {
    (0..peers).map(|_| bind(address)).collect::<Result<_, _>>().map_err(|error| {
        format!("{peers} sockets for the peers: {error}; `ulimit -n` may be too low for them")
    })
}

/// A socket on a free port, which does not wait.
///
/// # Errors
/// No port or no descriptor is left.
pub fn bind(address: Ipv4Addr) -> Result<UdpSocket, String> {
    let bound = UdpSocket::bind((address, 0));
    let socket = bound.map_err(|e| format!("binding a socket to {address}: {e}"))?;
    socket.set_nonblocking(true).map_err(|e| format!("a socket that does not wait: {e}"))?;
    Ok(socket)
}
