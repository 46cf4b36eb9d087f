//! The fuzz body of data channels: a peer that holds the keys and says whatever it likes.

use std::collections::HashSet;
use std::time::Duration;

use super::Plan;
use crate::clock::Instant;
use crate::ids::ChannelId;
use crate::sctp::dcep::{Dcep, Open, Reliability};
use crate::sctp::{
    CHANNELS_MAX, ChannelEvent, DataChannels, DataKind, LABEL_LEN_MAX, MESSAGE_LEN_MAX,
    PACKET_LEN_MAX, write_checksum,
};

const FIRST_TSN: u32 = 0xFFFF_FFF0;

/// An OPEN that is read, and the packets of a peer in and out of an association.
pub fn sctp(data: &[u8]) {
    if let Ok(Dcep::Open(open)) = Dcep::parse(data) {
        assert!(open.label.len() <= LABEL_LEN_MAX);
        assert_eq!(Dcep::parse(&open.to_bytes()), Ok(Dcep::Open(open)));
    }
    let mut peer = Peer::new(data);
    while peer.plan.has_more() {
        peer.act();
        peer.drain();
    }
}

struct Peer<'a> {
    plan: Plan<'a>,
    now: Instant,
    ours: DataChannels,
    open: HashSet<ChannelId>,
    /// The tag that our side awaits, from its INIT ACK.
    tag: [u8; 4],
    cookie: Vec<u8>,
    tsn: u32,
    ssn: u16,
    /// Up to where our side sent.
    sent_tsn: u32,
    inits: u8,
}

impl<'a> Peer<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut peer = Self {
            plan: Plan::new(data),
            now: Instant::default(),
            ours: DataChannels::default(),
            open: HashSet::new(),
            tag: [0; 4],
            cookie: Vec::new(),
            tsn: FIRST_TSN,
            ssn: 0,
            sent_tsn: 0,
            inits: 0,
        };
        // Most inputs should get past the handshake; the rest can undo it.
        peer.send_init();
        peer.drain();
        let cookie = chunk(10, 0, &peer.cookie.clone());
        peer.send(&cookie);
        peer.drain();
        peer
    }

    fn send_init(&mut self) {
        self.inits = self.inits.wrapping_add(1);
        (self.tsn, self.ssn) = (FIRST_TSN, 0);
        let mut init = vec![0, 0, 1, self.inits, 0, 2, 0, 0, 1, 0, 1, 0];
        init.extend(FIRST_TSN.to_be_bytes());
        // FORWARD TSN and re-configuration are supported.
        init.extend([0xC0, 0x00, 0, 4, 0x80, 0x08, 0, 6, 192, 130, 0, 0]);
        let tag = std::mem::take(&mut self.tag);
        self.send(&chunk(1, 0, &init));
        self.tag = tag;
    }

    fn send(&mut self, chunks: &[u8]) {
        let mut packet = vec![0x13, 0x88, 0x13, 0x88];
        packet.extend(self.tag);
        packet.extend([0; 4]);
        packet.extend(chunks);
        write_checksum(&mut packet);
        // Whether it is used is not what is asked here.
        let _ = self.ours.handle_packet(self.now, &packet);
    }

    fn act(&mut self) {
        let mut chunks = Vec::new();
        for _ in 0..1 + self.plan.u8() % 3 {
            let chunk = self.next_chunk();
            chunks.extend(chunk);
        }
        match self.plan.u8() % 16 {
            0 => self.now = self.now + Duration::from_millis(self.plan.u8().into()),
            1 => self.now = self.now + Duration::from_secs(3),
            2 => self.send_init(),
            3 => {
                let id = ChannelId(u16::from(self.plan.u8() % 4));
                let bytes = vec![0; usize::from(self.plan.u16())];
                let confirm = bytes.len().is_multiple_of(2);
                let _ = self.ours.send(id, DataKind::Binary, bytes, confirm);
            }
            4 => self.ours.close(ChannelId(u16::from(self.plan.u8() % 4))),
            _ => {}
        }
        self.send(&chunks);
        if self.ours.next_deadline().is_some_and(|due| due <= self.now) {
            self.ours.handle_timeout(self.now);
        }
    }

    fn next_chunk(&mut self) -> Vec<u8> {
        let near = |base: u32, by: u8| base.wrapping_add((by as i8) as u32);
        match self.plan.u8() % 12 {
            // In order, as an honest peer sends: an OPEN, a message, a piece.
            0 => {
                let open = Open {
                    label: "l".repeat(usize::from(self.plan.u8()) * 2),
                    unordered: self.plan.u8() & 1 == 1,
                    reliability: Reliability::Retransmits(self.plan.u8().into()),
                };
                self.next_data(50, &open.to_bytes())
            }
            1..=3 => {
                let len = usize::from(self.plan.u8()) + 1;
                let bytes = vec![b'm'; len];
                let ppid = self.plan.u8() % 10 + 49;
                self.next_data(ppid, &bytes)
            }
            // DATA of any number.
            4 => {
                let tsn = near(self.tsn, self.plan.u8());
                let (flags, stream) = (self.plan.u8(), self.plan.u16() % 300);
                data_chunk(flags, tsn, stream, self.plan.u8().into(), 51, b"data")
            }
            5 => {
                let mut value = near(self.sent_tsn, self.plan.u8()).to_be_bytes().to_vec();
                value.extend((u32::from(self.plan.u16()) << 4).to_be_bytes());
                let blocks = self.plan.u8() % 3;
                value.extend([0, blocks, 0, 0]);
                for _ in 0..blocks {
                    value.extend([0, self.plan.u8(), 0, self.plan.u8()]);
                }
                chunk(3, 0, &value)
            }
            6 => {
                self.tsn = near(self.tsn, self.plan.u8() % 8);
                let mut value = self.tsn.wrapping_sub(1).to_be_bytes().to_vec();
                value.extend([0, self.plan.u8() % 4, 0, self.plan.u8()]);
                chunk(192, 0, &value)
            }
            7 => {
                let mut value = vec![0, 13, 0, 18];
                let number = FIRST_TSN.wrapping_add(u32::from(self.plan.u8() % 4));
                value.extend(number.to_be_bytes());
                value.extend(self.plan.u8().to_be_bytes().repeat(4));
                value.extend(near(self.tsn, self.plan.u8() % 4).wrapping_sub(3).to_be_bytes());
                value.extend([0, self.plan.u8() % 4]);
                chunk(130, 0, &value)
            }
            8 => {
                let number = u32::from(self.plan.u8()).to_be_bytes();
                chunk(130, 0, &[&[0, 16, 0, 12], &number[..], &[0, 0, 0, self.plan.u8()]].concat())
            }
            9 => chunk(10, 0, &self.cookie.clone()),
            // Any chunk of any content.
            10 => {
                let (kind, flags, len) = (self.plan.u8(), self.plan.u8(), self.plan.u8());
                let value = self.plan.bytes(len.into()).to_vec();
                chunk(kind, flags, &value)
            }
            _ => {
                let len = self.plan.u8();
                self.plan.bytes(len.into()).to_vec()
            }
        }
    }

    fn next_data(&mut self, ppid: u8, bytes: &[u8]) -> Vec<u8> {
        // Most messages are whole.
        let whole = if self.plan.u8().is_multiple_of(4) { 0 } else { 0x03 };
        let flags = self.plan.u8() & 0x0F | whole;
        let stream = u16::from(self.plan.u8() % 4);
        let data = data_chunk(flags, self.tsn, stream, self.ssn, ppid, bytes);
        self.tsn = self.tsn.wrapping_add(1);
        self.ssn = self.ssn.wrapping_add(u16::from(self.plan.u8().is_multiple_of(4)));
        data
    }

    /// Takes all that comes out, and checks it.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if let Some(event) = self.ours.poll_event() {
                self.check(event);
                continue;
            }
            let Some(packet) = self.ours.poll_packet(self.now) else { return };
            assert!(packet.len() <= PACKET_LEN_MAX, "a packet of {} bytes", packet.len());
            self.learn(&packet);
        }
        panic!("channels that never come to rest");
    }

    fn check(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Opened(id, label) => {
                assert!(label.len() <= LABEL_LEN_MAX);
                // The empty label stands for an ACK as well.
                assert!(self.open.insert(id) || label.is_empty(), "{id:?} is opened twice");
                assert!(self.open.len() <= CHANNELS_MAX);
            }
            ChannelEvent::Closed(id) => assert!(self.open.remove(&id), "{id:?} is closed unopened"),
            ChannelEvent::Message(id, kind, bytes) => {
                assert!(self.open.contains(&id), "a message on {id:?}, which is not open");
                assert!(bytes.len() <= MESSAGE_LEN_MAX);
                assert!(kind == DataKind::Binary || str::from_utf8(&bytes).is_ok());
            }
            ChannelEvent::Delivered(id) => assert!(self.open.contains(&id), "{id:?} is not open"),
            ChannelEvent::Refused(_) => {}
            ChannelEvent::Lost { panicked } => {
                assert!(!panicked, "a panic under the association");
                assert!(self.open.is_empty(), "channels outlive their association");
            }
        }
    }

    /// What a peer has to know of our packets.
    fn learn(&mut self, packet: &[u8]) {
        let Some((&[kind, ..], value)) = packet[12..].split_first_chunk::<4>() else { return };
        match kind {
            0 => self.sent_tsn = u32::from_be_bytes(value[..4].try_into().expect("a number")),
            2 => {
                self.tag = value[..4].try_into().expect("a tag");
                let first = u32::from_be_bytes(value[12..16].try_into().expect("a number"));
                self.sent_tsn = first.wrapping_sub(1);
                // The cookie is the first parameter.
                let len = usize::from(u16::from_be_bytes([value[18], value[19]]));
                self.cookie = value[20..16 + len].to_vec();
            }
            _ => {}
        }
    }
}

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend((value.len() as u16 + 4).to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().div_ceil(4) * 4, 0);
    chunk
}

fn data_chunk(flags: u8, tsn: u32, stream: u16, ssn: u16, ppid: u8, bytes: &[u8]) -> Vec<u8> {
    let mut value = tsn.to_be_bytes().to_vec();
    value.extend([stream.to_be_bytes(), ssn.to_be_bytes()].as_flattened());
    value.extend(u32::from(ppid).to_be_bytes());
    value.extend(bytes);
    chunk(0, flags, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets full of DATA of one byte each, until the association ends; gives the chunks that it took.
    fn hoard(flags: u8, ssn: impl Fn(u32) -> u16, stream: impl Fn(u32) -> u16) -> u32 {
        let mut peer = Peer::new(&[]);
        for packet in 0..1_000 {
            let mut chunks = Vec::new();
            for n in packet * 50..packet * 50 + 50 {
                let tsn = FIRST_TSN.wrapping_add(n);
                chunks.extend(data_chunk(flags, tsn, stream(n), ssn(n), 51, b"x"));
            }
            peer.send(&chunks);
            while let Some(event) = peer.ours.poll_event() {
                if event == (ChannelEvent::Lost { panicked: false }) {
                    return packet * 50;
                }
            }
            peer.drain();
        }
        panic!("a peer may hoard as much as it likes");
    }

    #[test]
    fn whoever_hoards_single_bytes_loses_the_association_before_they_cost_much() {
        // One endless message; messages behind one that never comes; the same on many streams.
        let endless = hoard(0, |_| 0, |_| 1);
        let behind_a_gap = hoard(3, |n| n as u16 + 1, |_| 1);
        let everywhere = hoard(3, |n| (n / 200) as u16 + 1, |n| (n % 200) as u16);
        for chunks in [endless, behind_a_gap, everywhere] {
            assert!((4_000..4_200).contains(&chunks), "{chunks} chunks were held");
        }
    }
}
