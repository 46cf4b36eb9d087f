//! Who receives on the paced path: a socket for each person, read on one thread as the fleet reads its own.
//!
//! What a reader does decides what a sender pays on loopback: a packet for a thread that sleeps wakes it at the sender's expense. So
//! the sockets, the ring, the buffers, the way of waiting and the work on each packet are those of the fleet's receivers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use sluice_engine::clock::{self, WallClock};
use sluice_engine::ids::PayloadType;
use sluice_engine::io::{Network, Window};
use sluice_engine::rtp::inbound::Arrival;
use sluice_engine::wire::classify::{Kind, classify};
use sluice_engine::wire::rtp::RtpHeader;

use super::cpu::Cores;
use crate::conversation::ReceiveFormat;
use crate::fleet::received::ReceivedStream;
use crate::fleet::{BATCH, SCAN_INTERVAL, sockets};

/// Payload type of all video that the floor sends; everything else is audio.
pub const VIDEO: u8 = 96;

/// What the sender and the readers tell each other.
#[derive(Default)]
pub struct Hall {
    /// Set by the sender: nothing more comes.
    pub over: AtomicBool,
    /// Packets that came, each counted once.
    pub read: AtomicU64,
    /// CPU time of the reading thread, nanoseconds.
    pub cpu_ns: AtomicU64,
}

/// The receivers.
struct Audience {
    network: Box<dyn Network>,
    /// What each socket receives.
    received: Vec<Vec<ReceivedStream>>,
    frame_rate: u32,
    wall: WallClock,
}

/// Binds a socket for each of `people`, says on `ready` where they are or why there are none, and reads until it is over.
pub fn listen(
    people: u32,
    frame_rate: u32,
    cores: &Cores,
    hall: &Hall,
    ready: &Sender<Result<Vec<SocketAddr>, String>>,
) {
    cores.keep_off();
    let bound = match sockets::bind(people as usize, false) {
        Ok(bound) => bound,
        Err(why) => {
            let _ = ready.send(Err(why));
            return;
        }
    };
    let received = (0..bound.addresses.len()).map(|_| Vec::new()).collect();
    let wall = clock::wall_clock();
    let mut audience = Audience { network: bound.network, received, frame_rate, wall };
    if ready.send(Ok(bound.addresses)).is_err() {
        return;
    }
    while !hall.over.load(Ordering::Relaxed) {
        audience.network.wait(Some(SCAN_INTERVAL), Window::NONE);
        let mut read = 0;
        while audience.network.receive(BATCH) > 0 {
            read += audience.take_datagrams();
        }
        hall.read.fetch_add(read, Ordering::Relaxed);
        hall.cpu_ns.store(super::cpu::thread_time().as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Audience {
    /// Takes a batch; returns how many packets came for the first time.
    fn take_datagrams(&mut self) -> u64 {
        let now = clock::now();
        let wall = self.wall.ntp(now);
        let mut count = 0;
        loop {
            let arrived = self.network.next_arrival();
            let Some((route, datagram)) = self.network.next_datagram() else { break };
            let waited = u64::try_from(wall.nanos_since(arrived.unwrap_or(wall))).unwrap_or(0);
            let at = now - Duration::from_nanos(waited);
            if classify(datagram) != Some(Kind::Rtp) {
                continue;
            }
            let Ok(header) = RtpHeader::parse(datagram) else { continue };
            let Some(streams) = self.received.get_mut(usize::from(route.local)) else { continue };
            let known = streams.iter().position(|stream| stream.ssrc == header.ssrc);
            let position = known.unwrap_or_else(|| {
                let format = format(header.payload_type);
                streams.push(ReceivedStream::new(header.ssrc, format, self.frame_rate, false));
                streams.len() - 1
            });
            let (arrival, _) = streams[position].on_packet(at, &header, datagram.len());
            count += u64::from(arrival == Arrival::New);
        }
        count
    }
}

fn format(payload_type: PayloadType) -> ReceiveFormat {
    ReceiveFormat {
        payload_type,
        is_video: payload_type.0 == VIDEO,
        transport_cc: None,
        nack: false,
    }
}
