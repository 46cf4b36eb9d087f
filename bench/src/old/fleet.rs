//! All clients on one thread: a UDP socket each, on loopback, read by epoll and recvmmsg.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sluice_engine::clock::{self, Instant, WallClock};
use sluice_engine::config::EngineConfig;
use sluice_engine::dtls::Identity;
use sluice_engine::egress::Egress;
use sluice_engine::io::Network;
use sluice_engine::io::mmsg::Mmsg;
use sluice_engine::io::socket::{ShardSockets, bind_all};
use sluice_engine::route::{PathId, Route, Transport};
use sluice_engine::wire::classify::{Kind, classify};
use sluice_engine::wire::rtcp::{self, Packet};
use sluice_engine::wire::rtp::RtpView;

use crate::client::Peer;
use crate::client::http::Api;
use crate::client::media::{Video, read_stamp};
use crate::client::sdp::Direction;
use crate::stats::Latencies;

/// Clients, of which the first publishes and the others receive.
pub struct Fleet {
    api: Api,
    call: String,
    identity: Identity,
    rng: fastrand::Rng,
    network: Mmsg,
    egress: Egress,
    wall: WallClock,
    ports: Vec<u16>,
    peers: Vec<Peer>,
    paths: Vec<PathId>,
    server: Option<SocketAddr>,
    wants_transport_cc: bool,
    next_scan: Instant,
    /// The publisher's video, once it sends.
    pub video: Option<Video>,
    /// Whether the video goes on.
    pub is_publishing: bool,
    /// Whether sampled packets go into [`Fleet::checked`].
    pub is_measuring: bool,
    verify: f64,
    /// What the sampled packets said.
    pub checked: Checked,
    last_media: Instant,
}

/// The sampled packets.
#[derive(Default)]
pub struct Checked {
    /// From the publisher's send call until the packet was taken from the receiver's socket.
    pub latencies: Latencies,
    /// Packets that did not open, or were not what the publisher sent.
    pub damaged: u64,
}

/// Clients need no large buffers one by one: this holds half a second of eight megabits.
const SOCKET_BUFFER_BYTES: usize = 512 << 10;
const EGRESS_DATAGRAMS: usize = 4_096;
const EGRESS_BYTES: usize = 6 << 20;
/// Datagrams handled before timers are looked at again.
const BATCH: usize = 64;
/// How often the timers of all clients are looked through.
const SCAN_INTERVAL: Duration = Duration::from_millis(10);
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Fleet {
    /// Binds sockets for `clients`.
    ///
    /// # Errors
    /// No sockets, mostly for want of descriptors, or no certificate.
    pub fn new(
        api: Api,
        call: &str,
        clients: usize,
        verify: f64,
        seed: u64,
    ) -> Result<Self, String> {
        let config = EngineConfig {
            shards: 1,
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); clients],
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
            ..EngineConfig::default()
        };
        let mut bound = bind_all(&config).map_err(|e| e.to_string())?;
        let sockets = bound.shards.pop().unwrap_or(ShardSockets { udp: vec![], tcp: vec![] });
        let (network, _) = Mmsg::new(sockets).map_err(|e| format!("epoll: {e}"))?;
        let identity = Identity::generate().map_err(|e| format!("no certificate: {e:?}"))?;
        Ok(Self {
            api,
            call: call.to_owned(),
            identity,
            rng: fastrand::Rng::with_seed(seed),
            network,
            egress: Egress::new(EGRESS_DATAGRAMS, EGRESS_BYTES),
            wall: clock::wall_clock(),
            ports: bound.udp.iter().map(SocketAddr::port).collect(),
            peers: Vec::with_capacity(clients),
            paths: Vec::with_capacity(clients),
            server: None,
            wants_transport_cc: false,
            next_scan: clock::now(),
            video: None,
            is_publishing: false,
            is_measuring: false,
            verify,
            checked: Checked::default(),
            last_media: clock::now(),
        })
    }

    /// Joins one more client and waits until it is connected; returns how long that took, from the request on.
    ///
    /// # Errors
    /// The server refused it, or it was not connected in ten seconds.
    pub fn join(&mut self, direction: Direction) -> Result<Duration, String> {
        let start = clock::now();
        let seed = self.rng.u64(..);
        let (peer, answer) =
            Peer::join(&self.api, &self.call, direction, &self.identity, seed, clock::now())?;
        let at = self.peers.len();
        self.paths.push(self.network.open_path(Route {
            transport: Transport::Udp,
            local: at as u16,
            remote: answer.address,
        }));
        self.server = Some(answer.address);
        if direction == Direction::Publish {
            self.wants_transport_cc = answer.transport_cc;
        }
        self.peers.push(peer);
        self.next_scan = clock::now();
        while !self.peers[at].client.is_connected() {
            self.turn(start + JOIN_TIMEOUT);
            let waited = clock::now().since(start);
            if let Some(error) = self.peers[at].client.closed() {
                return Err(format!("client {at}: {error:?}"));
            }
            if waited >= JOIN_TIMEOUT {
                return Err(format!("client {at} was not connected after {waited:?}"));
            }
        }
        Ok(clock::now().since(start))
    }

    /// SSRC of the publisher.
    pub fn publisher_ssrc(&self) -> u32 {
        self.peers.first().map_or(0, |peer| peer.ssrc().0)
    }

    /// Whether the server agreed to transport-wide sequence numbers with the publisher.
    pub fn wants_transport_cc(&self) -> bool {
        self.wants_transport_cc
    }

    /// The ports of all clients.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Where the server takes media.
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// Packets and bytes that the receivers got so far.
    pub fn received(&self) -> (u64, u64) {
        let receivers = self.peers.iter().skip(1);
        receivers.fold((0, 0), |(packets, bytes), p| (packets + p.packets, bytes + p.bytes))
    }

    /// Packets of each receiver so far.
    pub fn received_each(&self) -> Vec<u64> {
        self.peers.iter().skip(1).map(|peer| peer.packets).collect()
    }

    /// Receivers whose session ended.
    pub fn closed(&self) -> usize {
        self.peers.iter().filter(|peer| peer.client.closed().is_some()).count()
    }

    /// When the last media packet came.
    pub fn last_media(&self) -> Instant {
        self.last_media
    }

    /// Waits until something arrives, something is due, or it is `until`, and handles it.
    pub fn turn(&mut self, until: Instant) {
        let mut wake_at = until.min(self.next_scan);
        if let Some(video) = self.video.as_ref().filter(|_| self.is_publishing) {
            wake_at = wake_at.min(video.next_due());
        }
        self.network.wait(Some(wake_at.since(clock::now())));
        let now = clock::now();
        self.publish(now);
        if self.network.receive(BATCH) > 0 {
            self.take_datagrams();
        }
        if self.next_scan <= now {
            self.next_scan = now + SCAN_INTERVAL;
            self.handle_timeouts(now);
        }
        self.network.flush(&mut self.egress);
    }

    /// Sends what of the video is due. It leaves at once: it carries the time of sending.
    fn publish(&mut self, now: Instant) {
        let (Some(video), Some(peer)) = (&mut self.video, self.peers.first_mut()) else { return };
        if !self.is_publishing || video.next_due() > now {
            return;
        }
        let path = self.paths[0];
        let mut plain = [0; 1_500];
        while video.next_due() <= now {
            let (index, len) = video.write_packet(clock::now(), &mut plain);
            let egress = &mut self.egress;
            peer.client.send_rtp(index, &plain[..len], &mut |d| _ = egress.push(path, d));
        }
        self.network.flush(&mut self.egress);
    }

    fn take_datagrams(&mut self) {
        let now = clock::now();
        while let Some((route, datagram)) = self.network.next_datagram() {
            let at = usize::from(route.local);
            let Some(peer) = self.peers.get_mut(at) else { continue };
            let is_media = classify(datagram) == Some(Kind::Rtp);
            if is_media {
                peer.count(datagram);
                self.last_media = now;
                // The first one always: from it the client knows the roll-over counter of the later ones.
                if peer.packets > 1 && self.rng.f64() >= self.verify {
                    continue;
                }
            }
            let refused = peer.client.refused;
            let (egress, path) = (&mut self.egress, self.paths[at]);
            peer.client.handle_datagram(now, datagram, &mut |d| _ = egress.push(path, d));
            if is_media {
                if !self.is_measuring {
                    peer.client.received.clear();
                    continue;
                }
                self.checked.damaged += peer.client.refused - refused;
                self.checked.take(peer, self.video.as_ref());
            }
            for compound in peer.client.received_rtcp.drain(..) {
                if at == 0
                    && rtcp::packets(&compound).any(|packet| asks_for_keyframe(&packet))
                    && let Some(video) = &mut self.video
                {
                    video.want_keyframe();
                }
            }
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        let ntp = self.wall.ntp(now);
        for (peer, &path) in self.peers.iter_mut().zip(&self.paths) {
            let egress = &mut self.egress;
            let video = self.video.as_ref();
            peer.handle_timeout(now, ntp, video, &mut |d| _ = egress.push(path, d));
            if self.egress.is_crowded() {
                self.network.flush(&mut self.egress);
            }
        }
    }

    /// Ends all sessions; returns how many could not be ended.
    pub fn leave(&mut self) -> usize {
        self.peers.drain(..).rev().filter(|peer| peer.leave(&self.api).is_err()).count()
    }
}

fn asks_for_keyframe(packet: &Result<Packet<'_>, rtcp::RtcpError>) -> bool {
    matches!(packet, Ok(Packet::Pli { .. } | Packet::Fir(_)))
}

impl Checked {
    fn take(&mut self, peer: &mut Peer, video: Option<&Video>) {
        let (stream, sent) = video.map_or((0, 0), |video| (video.ssrc().0, video.sent()));
        for received in peer.client.received.drain(..) {
            let now = clock::now();
            let stamp = RtpView::parse(&received.packet)
                .ok()
                .and_then(|view| read_stamp(view.payload()))
                .filter(|s| s.stream == stream && s.counter < sent && s.sent_at <= now);
            match stamp {
                Some(stamp) => self.latencies.add(now.since(stamp.sent_at)),
                None => self.damaged += 1,
            }
        }
    }
}
