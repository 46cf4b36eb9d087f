//! What shards pass each other: bounded one-to-one rings between all of them.
//!
//! One kind carries the packets of tracks to shards with subscribers of them; [`crate::relay`] says what goes over it. Packets leave
//! some of it free, so that words about tracks find room when they do not.
//!
//! The others are for datagrams that the kernel gave to one shard and that belong to another.
//!
//! A shard that gets a stranger's check reads the owner out of the ufrag and passes the datagram on. Once the owner has validated
//! the route it says so, and the first shard sends it everything that arrives there. Datagrams and claims are lost when a ring
//! is full; peers repeat checks, and the next one mends it. That a route is given up is never lost: it waits for room, and
//! until it got some no further claim is made. What strangers send has half of each ring at most.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::clock::Instant;
use crate::ids::ShardId;
use crate::io::{Stream, Wake};
use crate::relay::{self, Message, Word};
use crate::route::{Route, Transport};

/// Bytes of the datagram ring from one shard to another: about a thousand full datagrams.
pub const RING_BYTES: usize = 1 << 20;

/// Handovers from one shard to another that may wait.
pub const RING_HANDOVERS: usize = 256;

/// The largest datagram that is passed on; larger ones are no traffic of ours.
pub const STEERED_BYTES_MAX: usize = 2048;

/// Bytes of the ring that carries tracks from one shard to another: about nine hundred full packets, a tenth of a second of sixty
/// videos.
pub const RELAY_BYTES: usize = 1 << 20;

/// What packets leave free of that ring.
const RELAY_RESERVE: usize = RELAY_BYTES / 16;

/// The largest packet that is relayed: what a datagram that came in can hold.
pub const RELAYED_BYTES_MAX: usize = STEERED_BYTES_MAX;

/// What one shard tells another besides datagrams.
#[derive(Debug)]
pub enum Handover {
    /// The sender owns this route: what arrives there is to be passed to it.
    Own(Route),
    /// The sender no longer owns this route.
    Disown(Route),
    /// A TCP connection whose first check names a session of the receiver.
    Stream(Stream),
}

/// One shard's ends of the rings to and from all others.
pub struct Steering {
    neighbours: Vec<Option<Neighbour>>,
    frame: Box<[u8; FRAME_MAX]>,
}

struct Neighbour {
    datagrams_out: Producer<u8>,
    datagrams_in: Consumer<u8>,
    handovers_out: Producer<Handover>,
    handovers_in: Consumer<Handover>,
    relay_out: Producer<u8>,
    relay_in: Consumer<u8>,
    /// Routes whose end the ring had no room for. Each was claimed before, so there are no more than claimed routes.
    disowned: VecDeque<Route>,
    wake: Option<Arc<dyn Wake>>,
    /// Something was written since the neighbour was last woken.
    touched: bool,
}

const HEADER: usize = 24;
const FRAME_MAX: usize = RELAY_HEADER + STEERED_BYTES_MAX;
/// Length, and the message.
const RELAY_HEADER: usize = 2 + relay::HEAD_LEN;

impl Steering {
    /// Makes the rings between `shards` shards; element `i` belongs to shard `i`.
    pub fn mesh(shards: usize) -> Vec<Self> {
        let mut all: Vec<Self> = (0..shards)
            .map(|_| Self {
                neighbours: (0..shards).map(|_| None).collect(),
                frame: Box::new([0; FRAME_MAX]),
            })
            .collect();
        for low in 0..shards {
            for high in low + 1..shards {
                let (datagrams_up, datagrams_from_low) = RingBuffer::new(RING_BYTES);
                let (datagrams_down, datagrams_from_high) = RingBuffer::new(RING_BYTES);
                let (handovers_up, handovers_from_low) = RingBuffer::new(RING_HANDOVERS);
                let (handovers_down, handovers_from_high) = RingBuffer::new(RING_HANDOVERS);
                let (relay_up, relay_from_low) = RingBuffer::new(RELAY_BYTES);
                let (relay_down, relay_from_high) = RingBuffer::new(RELAY_BYTES);
                all[low].neighbours[high] = Some(Neighbour {
                    datagrams_out: datagrams_up,
                    datagrams_in: datagrams_from_high,
                    handovers_out: handovers_up,
                    handovers_in: handovers_from_high,
                    relay_out: relay_up,
                    relay_in: relay_from_high,
                    disowned: VecDeque::new(),
                    wake: None,
                    touched: false,
                });
                all[high].neighbours[low] = Some(Neighbour {
                    datagrams_out: datagrams_down,
                    datagrams_in: datagrams_from_low,
                    handovers_out: handovers_down,
                    handovers_in: handovers_from_low,
                    relay_out: relay_down,
                    relay_in: relay_from_low,
                    disowned: VecDeque::new(),
                    wake: None,
                    touched: false,
                });
            }
        }
        all
    }

    /// Says how to wake each shard, once all exist.
    pub fn set_wakers(&mut self, wakers: &[Arc<dyn Wake>]) {
        for (neighbour, waker) in self.neighbours.iter_mut().zip(wakers) {
            if let Some(neighbour) = neighbour {
                neighbour.wake = Some(Arc::clone(waker));
            }
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.neighbours.len()
    }

    /// Passes a datagram to `to`; false when it is too large, the ring is full, or there is no such shard.
    pub fn send_datagram(&mut self, to: ShardId, route: Route, datagram: &[u8]) -> bool {
        let Some(Some(neighbour)) = self.neighbours.get_mut(to.index()) else { return false };
        let len = HEADER + datagram.len();
        if datagram.len() > STEERED_BYTES_MAX || neighbour.datagrams_out.slots() < len {
            return false;
        }
        write_header(&mut self.frame[..HEADER], route, datagram.len() as u16);
        self.frame[HEADER..len].copy_from_slice(datagram);
        // One push for the whole frame, so that the reader never sees half of one.
        let pushed = neighbour.datagrams_out.push_entire_slice(&self.frame[..len]).is_ok();
        neighbour.touched |= pushed;
        pushed
    }

    /// Tells `to` something of a track, with the packet that belongs to it; false when it is too large, the ring is full, or there
    /// is no such shard.
    pub fn send_relay(&mut self, to: ShardId, message: &Message, packet: &[u8]) -> bool {
        let Some(Some(neighbour)) = self.neighbours.get_mut(to.index()) else { return false };
        let len = RELAY_HEADER + packet.len();
        let reserved = match message.word {
            Word::Packet(_) => RELAY_RESERVE,
            _ => 0,
        };
        if packet.len() > RELAYED_BYTES_MAX || neighbour.relay_out.slots() < len + reserved {
            return false;
        }
        self.frame[..2].copy_from_slice(&(packet.len() as u16).to_le_bytes());
        self.frame[2..RELAY_HEADER].copy_from_slice(&message.write());
        self.frame[RELAY_HEADER..len].copy_from_slice(packet);
        let pushed = neighbour.relay_out.push_entire_slice(&self.frame[..len]).is_ok();
        neighbour.touched |= pushed;
        pushed
    }

    /// Takes what `from` said next of a track, with the packet that belongs to it in `into`, which holds [`RELAYED_BYTES_MAX`] bytes;
    /// returns the packet's length. A message of an unknown kind is passed over.
    pub fn take_relay(
        &mut self,
        now: Instant,
        from: ShardId,
        into: &mut [u8],
    ) -> Option<(Message, usize)> {
        let neighbour = self.neighbours.get_mut(from.index())?.as_mut()?;
        loop {
            let (mut len, mut head) = ([0; 2], [0; relay::HEAD_LEN]);
            neighbour.relay_in.pop_entire_slice(&mut len).ok()?;
            neighbour.relay_in.pop_entire_slice(&mut head).ok()?;
            let len = usize::from(u16::from_le_bytes(len));
            neighbour.relay_in.pop_entire_slice(into.get_mut(..len)?).ok()?;
            if let Some(message) = Message::read(now, &head) {
                return Some((message, len));
            }
        }
    }

    /// As [`Steering::send_datagram`], for a datagram of a route that nobody owns: false also when the ring is half full.
    pub fn send_strangers(&mut self, to: ShardId, route: Route, datagram: &[u8]) -> bool {
        let has_room = |n: &Neighbour| n.datagrams_out.slots() >= RING_BYTES / 2;
        self.neighbour(to).is_some_and(has_room) && self.send_datagram(to, route, datagram)
    }

    /// Tells `to` that the sender owns this route; false when there is no room to.
    pub fn send_own(&mut self, to: ShardId, route: Route) -> bool {
        let waits = |n: &mut Neighbour| !n.disowned.is_empty();
        !self.neighbour_mut(to).is_none_or(waits) && self.send_handover(to, Handover::Own(route))
    }

    /// Tells `to` that the sender no longer owns this route, as soon as there is room to.
    pub fn send_disown(&mut self, to: ShardId, route: Route) {
        if let Some(neighbour) = self.neighbour_mut(to) {
            neighbour.disowned.push_back(route);
        }
        self.send_disowned(to);
    }

    /// Hands a stranger's connection to `to`; false, the connection closed, when the ring is half full.
    pub fn send_stream(&mut self, to: ShardId, stream: Stream) -> bool {
        let has_room = |n: &Neighbour| n.handovers_out.slots() >= RING_HANDOVERS / 2;
        self.neighbour(to).is_some_and(has_room) && self.send_handover(to, Handover::Stream(stream))
    }

    fn send_disowned(&mut self, to: ShardId) {
        while let Some(&route) = self.neighbour(to).and_then(|n| n.disowned.front())
            && self.send_handover(to, Handover::Disown(route))
        {
            if let Some(neighbour) = self.neighbour_mut(to) {
                neighbour.disowned.pop_front();
            }
        }
    }

    /// Whether something waits for room in a ring: [`Steering::wake_touched`] is to be called again soon.
    pub fn is_waiting(&self) -> bool {
        self.neighbours.iter().flatten().any(|n| !n.disowned.is_empty())
    }

    fn send_handover(&mut self, to: ShardId, handover: Handover) -> bool {
        let Some(neighbour) = self.neighbour_mut(to) else { return false };
        let pushed = neighbour.handovers_out.push(handover).is_ok();
        neighbour.touched |= pushed;
        pushed
    }

    fn neighbour(&self, shard: ShardId) -> Option<&Neighbour> {
        self.neighbours.get(shard.index())?.as_ref()
    }

    fn neighbour_mut(&mut self, shard: ShardId) -> Option<&mut Neighbour> {
        self.neighbours.get_mut(shard.index())?.as_mut()
    }

    /// Takes one datagram that `from` passed on into `into`, which holds [`STEERED_BYTES_MAX`] bytes; returns its length.
    pub fn take_datagram(&mut self, from: ShardId, into: &mut [u8]) -> Option<(Route, usize)> {
        let neighbour = self.neighbours.get_mut(from.index())?.as_mut()?;
        let mut header = [0; HEADER];
        neighbour.datagrams_in.pop_entire_slice(&mut header).ok()?;
        let (route, len) = read_header(&header);
        let room = into.get_mut(..len)?;
        neighbour.datagrams_in.pop_entire_slice(room).ok()?;
        Some((route, len))
    }

    /// Takes one message of `from`.
    pub fn take_handover(&mut self, from: ShardId) -> Option<Handover> {
        self.neighbours.get_mut(from.index())?.as_mut()?.handovers_in.pop().ok()
    }

    /// Whether anything waits from any shard.
    pub fn has_mail(&self) -> bool {
        let waits = |n: &Neighbour| {
            !n.datagrams_in.is_empty() || !n.handovers_in.is_empty() || !n.relay_in.is_empty()
        };
        self.neighbours.iter().flatten().any(waits)
    }

    /// Sends what waited for room, and wakes every shard that was written to since the last call.
    pub fn wake_touched(&mut self) {
        for to in (0..self.neighbours.len() as u16).map(ShardId) {
            self.send_disowned(to);
        }
        for neighbour in self.neighbours.iter_mut().flatten().filter(|n| n.touched) {
            neighbour.touched = false;
            if let Some(wake) = &neighbour.wake {
                wake.wake();
            }
        }
    }
}

/// Layout: length 2, transport 1, family 1, local 2, port 2, address 16. TCP routes are never passed on: the connection moves.
fn write_header(out: &mut [u8], route: Route, len: u16) {
    out[..2].copy_from_slice(&len.to_le_bytes());
    out[2] = 0;
    out[3] = u8::from(route.remote.is_ipv6());
    out[4..6].copy_from_slice(&route.local.to_le_bytes());
    out[6..8].copy_from_slice(&route.remote.port().to_le_bytes());
    out[8..HEADER].fill(0);
    match route.remote.ip() {
        IpAddr::V4(ip) => out[8..12].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out[8..24].copy_from_slice(&ip.octets()),
    }
}

fn read_header(header: &[u8; HEADER]) -> (Route, usize) {
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[8..]);
    let ip = if header[3] == 1 {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    };
    let remote = SocketAddr::new(ip, u16_at(6));
    let route = Route { transport: Transport::Udp, local: u16_at(4), remote };
    (route, usize::from(u16_at(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallId, ExtSeqNum, TrackId};
    use crate::relay::PacketHead;

    fn route(remote: &str) -> Route {
        Route { transport: Transport::Udp, local: 7, remote: remote.parse().expect("an address") }
    }

    #[test]
    fn datagrams_cross_in_order_with_their_route() {
        let mut mesh = Steering::mesh(3);
        let (a, b) = (route("192.0.2.1:4000"), route("[2001:db8::1]:65535"));
        assert!(mesh[0].send_datagram(ShardId(2), a, b"one"));
        assert!(mesh[0].send_datagram(ShardId(2), b, b""));
        assert!(mesh[2].has_mail() && !mesh[1].has_mail());
        let mut into = [0; STEERED_BYTES_MAX];
        assert_eq!(mesh[2].take_datagram(ShardId(0), &mut into), Some((a, 3)));
        assert_eq!(&into[..3], b"one");
        assert_eq!(mesh[2].take_datagram(ShardId(0), &mut into), Some((b, 0)));
        assert_eq!(mesh[2].take_datagram(ShardId(0), &mut into), None);
        assert_eq!(mesh[2].take_datagram(ShardId(1), &mut into), None);
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let mut mesh = Steering::mesh(2);
        let datagram = [7; 1200];
        let mut sent = 0;
        while mesh[1].send_datagram(ShardId(0), route("192.0.2.1:1"), &datagram) {
            sent += 1;
        }
        assert_eq!(sent, RING_BYTES / (HEADER + 1200));
        let mut into = [0; STEERED_BYTES_MAX];
        assert!(mesh[0].take_datagram(ShardId(1), &mut into).is_some());
        assert!(mesh[1].send_datagram(ShardId(0), route("192.0.2.1:1"), &datagram));
    }

    #[test]
    fn nothing_goes_to_oneself_to_strangers_or_beyond_the_size() {
        let mut mesh = Steering::mesh(2);
        let route = route("192.0.2.1:1");
        assert!(!mesh[0].send_datagram(ShardId(0), route, b"x"));
        assert!(!mesh[0].send_datagram(ShardId(9), route, b"x"));
        assert!(!mesh[0].send_datagram(ShardId(1), route, &[0; STEERED_BYTES_MAX + 1]));
        assert!(!mesh[0].send_own(ShardId(5), route));
    }

    #[test]
    fn the_end_of_a_claim_waits_for_room_and_comes_before_new_claims() {
        let mut mesh = Steering::mesh(2);
        let mut claimed = 0;
        while mesh[0].send_own(ShardId(1), route("192.0.2.1:1")) {
            claimed += 1;
        }
        assert_eq!(claimed, RING_HANDOVERS);
        mesh[0].send_disown(ShardId(1), route("192.0.2.1:2"));
        assert!(mesh[0].is_waiting());
        assert!(mesh[1].take_handover(ShardId(0)).is_some());
        assert!(!mesh[0].send_own(ShardId(1), route("192.0.2.1:3")), "behind the end");
        mesh[0].wake_touched();
        assert!(!mesh[0].is_waiting());
        let mut last = None;
        while let Some(handover) = mesh[1].take_handover(ShardId(0)) {
            last = Some(handover);
        }
        assert!(matches!(last, Some(Handover::Disown(of)) if of == route("192.0.2.1:2")));
    }

    fn said(word: Word) -> Message {
        Message { call: CallId(1), track: TrackId(2), word }
    }

    fn packet() -> Message {
        let index = ExtSeqNum(5);
        let head = PacketHead { source: 1, layer: 0, index, clock_rate_hz: 48_000, resumed: 0 };
        said(Word::Packet(head))
    }

    #[test]
    fn words_about_tracks_cross_in_order_with_their_packets() {
        let mut mesh = Steering::mesh(2);
        let now = Instant::default();
        let mut into = [0; RELAYED_BYTES_MAX];
        assert!(mesh[0].send_relay(ShardId(1), &packet(), b"plain"));
        assert!(mesh[0].send_relay(ShardId(1), &said(Word::Ended), b""));
        assert!(mesh[1].has_mail() && !mesh[0].has_mail());
        let taken = mesh[1].take_relay(now, ShardId(0), &mut into);
        assert!(matches!(taken, Some((Message { word: Word::Packet(_), .. }, 5))));
        assert_eq!(&into[..5], b"plain");
        let taken = mesh[1].take_relay(now, ShardId(0), &mut into);
        assert!(matches!(taken, Some((Message { word: Word::Ended, .. }, 0))));
        assert!(mesh[1].take_relay(now, ShardId(0), &mut into).is_none());
        assert!(!mesh[1].has_mail());
    }

    #[test]
    fn packets_leave_room_for_words_and_none_is_too_large() {
        let mut mesh = Steering::mesh(2);
        let mut sent = 0;
        while mesh[0].send_relay(ShardId(1), &packet(), &[7; 1_200]) {
            sent += 1;
        }
        assert_eq!(sent, (RELAY_BYTES - RELAY_RESERVE) / (RELAY_HEADER + 1_200));
        assert!(mesh[0].send_relay(ShardId(1), &said(Word::Stop), b""));
        let mut into = [0; RELAYED_BYTES_MAX];
        assert!(mesh[1].take_relay(Instant::default(), ShardId(0), &mut into).is_some());
        assert!(mesh[0].send_relay(ShardId(1), &packet(), &[7; 1_200]), "there is room again");
        assert!(mesh[1].send_relay(ShardId(0), &packet(), &[0; RELAYED_BYTES_MAX]));
        assert!(!mesh[1].send_relay(ShardId(0), &packet(), &[0; RELAYED_BYTES_MAX + 1]));
        assert!(!mesh[1].send_relay(ShardId(1), &packet(), b""), "to itself");
        assert!(!mesh[1].send_relay(ShardId(9), &packet(), b""), "to nobody");
    }

    #[test]
    fn strangers_get_half_of_a_ring() {
        let mut mesh = Steering::mesh(2);
        let (route, datagram) = (route("192.0.2.1:1"), [7; 1200]);
        let mut sent = 0;
        while mesh[1].send_strangers(ShardId(0), route, &datagram) {
            sent += 1;
        }
        assert_eq!(sent, RING_BYTES / 2 / (HEADER + 1200) + 1);
        assert!(mesh[1].send_datagram(ShardId(0), route, &datagram));
    }
}
