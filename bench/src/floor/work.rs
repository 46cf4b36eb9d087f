//! The work that is measured: packets sealed for one destination after the other, and sent.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::ids::ExtSeqNum;
use sluice_engine::srtp::{MasterKey, OutboundSrtp, Profile};

use super::cpu::thread_time;
use super::outbox::{MESSAGES_MAX, Names, Outbox};
use super::{HEADER_BYTES, Shape};

/// A thread's peers and memory.
pub struct Sender {
    peers: Vec<Peer>,
    /// Whose turn it is.
    next: usize,
    /// The packet as the publisher sent it, header and payload: what all copies are made of.
    plain: Vec<u8>,
    /// Room for the packets of one batch.
    room: Vec<u8>,
}

/// What a server keeps of a leg, as far as sending needs it.
struct Peer {
    srtp: OutboundSrtp,
    leg: Leg,
}

/// A stream to one peer.
pub struct Leg {
    ssrc: u32,
    /// The index of its next packet. It only grows: no key seals two packets of an SSRC under one index.
    index: u64,
    /// Outgoing less incoming timestamp.
    time_shift: u32,
}

/// What one run gave.
#[derive(Debug, Default)]
pub struct Sample {
    /// Packets that were sealed and, where there is a socket, taken by the kernel.
    pub packets: u64,
    /// Runs to one destination each.
    pub messages: u64,
    /// Of those, refused by the kernel.
    pub failed: u64,
    /// Why, the last time.
    pub error: Option<io::Error>,
    /// CPU time of this thread.
    pub cpu: Duration,
}

/// Packets between two looks at the clock, and in one system call.
const BATCH_PACKETS: u32 = MESSAGES_MAX as u32;

/// The profile that costs least, and that servers choose.
pub const PROFILE: Profile = Profile::AeadAes128Gcm;

/// Header of the plain packet: version 2, a dynamic payload type, and the publisher's numbers, which no peer sees.
pub const PLAIN_HEADER: [u8; HEADER_BYTES as usize] = [0x80, 96, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 1];
/// The timestamp within.
#[cfg(test)]
pub const PLAIN_TIME: u32 = 0x8000;

/// The key of a peer. It keeps nothing secret, since what is sent says nothing: it has to differ from the others alone.
pub fn master_key(peer: u32) -> MasterKey {
    let mut bytes = [0; 28];
    fastrand::Rng::with_seed(u64::from(peer)).fill(&mut bytes);
    let (key, salt) = bytes.split_at(PROFILE.key_len());
    MasterKey::new(PROFILE, key, salt).expect("the bytes were split as the profile has them")
}

/// The SSRC of a leg.
pub fn ssrc(leg: u32) -> u32 {
    0x5100_0000 + leg
}

/// By how much a leg's timestamps differ from the publisher's.
pub fn time_shift(leg: u32) -> u32 {
    leg.wrapping_mul(0x9e37_79b1)
}

/// Payload of the plain packet.
pub fn payload(bytes: u32) -> impl Iterator<Item = u8> {
    (0..bytes).map(|at| at as u8)
}

impl Sender {
    /// Derives the keys of so many peers.
    pub fn new(peers: u32) -> Self {
        let peer =
            |at: u32| Peer { srtp: OutboundSrtp::new(PROFILE, &master_key(at)), leg: Leg::new(at) };
        Self { peers: (0..peers).map(peer).collect(), next: 0, plain: Vec::new(), room: Vec::new() }
    }

    /// Seals packets for one peer after the other, and drops them.
    pub fn seal_for(&mut self, shape: Shape, length: Duration) -> Sample {
        self.work(shape, length, |_, _, _| ())
    }

    /// Seals packets for one peer after the other, and sends each run to that peer.
    ///
    /// `names` are those of the peers. `socket` splits what is longer than a packet, when `shape` is a run.
    pub fn send_for(
        &mut self,
        socket: &UdpSocket,
        names: &Names,
        shape: Shape,
        length: Duration,
    ) -> Sample {
        debug_assert!(names.len() == self.peers.len(), "each peer has its address");
        let mut outbox = Outbox::new(socket, names);
        let message_bytes = (shape.run * shape.packet_bytes()) as usize;
        self.work(shape, length, |first, bytes, sample| {
            let peers = (first..names.len()).chain((0..names.len()).cycle());
            peers
                .take(bytes.len() / message_bytes)
                .for_each(|peer| outbox.add(peer, message_bytes));
            outbox.send(bytes, sample);
        })
    }

    /// Calls `send` with the first peer's place and all messages of a batch.
    fn work(
        &mut self,
        shape: Shape,
        length: Duration,
        mut send: impl FnMut(usize, &[u8], &mut Sample),
    ) -> Sample {
        self.plain.clear();
        self.plain.extend(PLAIN_HEADER.into_iter().chain(payload(shape.payload_bytes)));
        let packet_bytes = shape.packet_bytes() as usize;
        let message_bytes = shape.run as usize * packet_bytes;
        let messages = (BATCH_PACKETS / shape.run).max(1);
        self.room.resize(messages as usize * message_bytes, 0);
        let mut sample = Sample::default();
        let (before, began) = (thread_time(), clock::now());
        while clock::now().since(began) < length {
            let first = self.next;
            for message in self.room.chunks_exact_mut(message_bytes) {
                let at = self.next;
                self.next = if at + 1 == self.peers.len() { 0 } else { at + 1 };
                let peer = &mut self.peers[at];
                for packet in message.chunks_exact_mut(packet_bytes) {
                    peer.leg.seal(&mut peer.srtp, &self.plain, packet);
                }
            }
            sample.messages += u64::from(messages);
            send(first, std::hint::black_box(&self.room), &mut sample);
        }
        sample.cpu = thread_time().saturating_sub(before);
        sample.packets = (sample.messages - sample.failed) * u64::from(shape.run);
        sample
    }
}

impl Sample {
    /// Counts a message that the kernel refused, and goes on to the next.
    pub fn refuse(&mut self, done: &mut usize, error: io::Error) {
        *done += 1;
        self.failed += 1;
        self.error = Some(error);
    }
}

impl Leg {
    /// One of its own SSRC and timestamps.
    pub fn new(number: u32) -> Self {
        Self { ssrc: ssrc(number), index: 0, time_shift: time_shift(number) }
    }

    /// Copies `plain` to the head of `packet`, gives it this leg's numbers and seals it. `packet` has room for the tag and no more.
    pub fn seal(&mut self, srtp: &mut OutboundSrtp, plain: &[u8], packet: &mut [u8]) {
        let index = ExtSeqNum(self.index);
        self.index += 1;
        packet[..plain.len()].copy_from_slice(plain);
        let time = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
        packet[2..4].copy_from_slice(&index.seq().0.to_be_bytes());
        packet[4..8].copy_from_slice(&time.wrapping_add(self.time_shift).to_be_bytes());
        packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        let sealed = srtp.seal_rtp(index, packet, HEADER_BYTES as usize, plain.len());
        debug_assert!(sealed == Some(packet.len()), "the room is that of a packet");
    }
}
