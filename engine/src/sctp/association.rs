//! One SCTP association over packets: no sockets and no clock. Source: RFC 9260, RFC 8261.
//!
//! This is the only file that drives `sctp-proto`, and none of its types show outside, so that another stack can take its place.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use sctp_proto::{
    AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use super::dcep::{Open, Reliability};
use super::gate::{Gate, Verdict};
use super::packet::{self, ABORT, SHUTDOWN_COMPLETE};
use super::{MESSAGE_LEN_MAX, PACKET_LEN_MAX, RECEIVE_WINDOW, STREAMS};
use crate::clock::Instant;
use crate::drop_reason::DropReason;

/// The port of data channels on both sides. Source: RFC 8831 §6.1, the default of RFC 8841 §5.
pub(super) const PORT: u16 = 5_000;

/// Bytes before the user data of a packet with one DATA chunk.
const DATA_OVERHEAD: usize = packet::HEADER_LEN + 16;

/// The retransmission timeout: before the first measurement, the least and the most, milliseconds. The defaults of RFC 9260 §16 (one
/// second at least) are made for the open Internet; what a call says over its data channel should not wait that long after a loss.
const RTO_MS: [u64; 3] = [500, 400, 10_000];

/// One association.
pub(super) struct Association {
    endpoint: Endpoint,
    handle: AssociationHandle,
    core: sctp_proto::Association,
    gate: Gate,
    /// What the peer's INIT said of it: its port and the tag it awaits. `None` on the side that began.
    peer: Option<(u16, u32)>,
    is_established: bool,
    is_lost: bool,
    has_panicked: bool,
    /// The peer ended it: there is nobody to tell.
    is_peers_end: bool,
    /// What is sent is to be acknowledged at once.
    is_urgent: bool,
    /// Packets that the crate gave all at once.
    packets: VecDeque<Bytes>,
}

/// What became of an association without anyone having asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    /// Channels can be opened.
    Established,
    /// A message can be read on this stream.
    Readable(u16),
    /// The peer has acknowledged all that was sent on this stream.
    Acknowledged(u16),
    /// The peer reset this stream, or took our reset; all that came on it was read.
    Finished(u16),
    /// It is over; whether that is our own fault.
    Lost { panicked: bool },
}

/// One message as it came.
pub(super) struct Message {
    pub(super) ppid: Ppid,
    pub(super) bytes: Vec<u8>,
}

impl Association {
    /// Takes the INIT of a peer that begins; `None` when it is none that can be answered.
    pub(super) fn accept(now: Instant, init: &[u8]) -> Option<Self> {
        let tag = packet::initiate_tag(init)?;
        let port = u16::from_be_bytes(*init.first_chunk()?);
        let first_tsn = packet::u32_at(init, packet::HEADER_LEN + 16)?;
        if packet::destination_port(init) != Some(PORT) {
            return None;
        }
        let mut server = ServerConfig::default();
        server.transport = transport();
        let accepted = catch_unwind(|| {
            let mut endpoint = Endpoint::new(endpoint_config(), Some(Arc::new(server)));
            let init = Bytes::copy_from_slice(init);
            match endpoint.handle(now.to_std(), remote(), None, None, init) {
                Some((handle, DatagramEvent::NewAssociation(core))) => {
                    Some((endpoint, handle, core))
                }
                _ => None,
            }
        });
        let (endpoint, handle, core) = accepted.ok()??;
        let gate = Gate::new(first_tsn);
        Some(Self::of(endpoint, handle, core, gate, Some((port, tag))))
    }

    /// Begins an association, as clients do. Its INIT is not repeated: begin another one instead.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn connect() -> Self {
        let mut endpoint = Endpoint::new(endpoint_config(), None);
        let mut config = sctp_proto::ClientConfig::new();
        config.transport = transport();
        let (handle, core) = endpoint.connect(config, remote()).expect("valid ports");
        Self::of(endpoint, handle, core, Gate::new(0), None)
    }

    fn of(
        endpoint: Endpoint,
        handle: AssociationHandle,
        core: sctp_proto::Association,
        gate: Gate,
        peer: Option<(u16, u32)>,
    ) -> Self {
        Self {
            endpoint,
            handle,
            core,
            gate,
            peer,
            is_established: false,
            is_lost: false,
            has_panicked: false,
            is_peers_end: false,
            is_urgent: false,
            packets: VecDeque::new(),
        }
    }

    /// Whether an INIT with this tag is a repetition of the one that it began with.
    pub(super) fn began_with(&self, tag: u32) -> bool {
        self.peer.is_some_and(|(_, known)| known == tag)
    }

    /// Whether channels can be opened.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_established(&self) -> bool {
        self.is_established
    }

    /// Takes one packet of the peer. `is_behind`: messages wait to be read.
    ///
    /// # Errors
    /// Why it was not used.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        datagram: &[u8],
        is_behind: bool,
    ) -> Result<(), DropReason> {
        let is_init = packet::initiate_tag(datagram).is_some();
        if self.is_established && is_init {
            // A late repetition: `sctp-proto` would end the association over it.
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(datagram);
        let routed =
            self.guarded(|this| this.endpoint.handle(now.to_std(), remote(), None, None, bytes));
        let Some(Some((handle, DatagramEvent::AssociationEvent(event)))) = routed else {
            return Err(DropReason::BadSctp);
        };
        // With one association per endpoint no other handle can come.
        debug_assert_eq!(handle, self.handle);
        // The side that begins is a test's client; its gate would have to learn the first number from the INIT ACK.
        if self.peer.is_some() {
            match self.gate.inspect(datagram, is_behind) {
                Verdict::Pass => {}
                Verdict::Drop => return Err(DropReason::BadSctp),
                Verdict::Abort => {
                    self.is_lost = true;
                    return Err(DropReason::BadSctp);
                }
            }
        }
        let first = packet::chunks(datagram).next().flatten().map(|chunk| chunk.kind);
        self.is_peers_end |= matches!(first, Some(ABORT | SHUTDOWN_COMPLETE));
        self.guarded(|this| this.core.handle_event(event));
        Ok(())
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.guarded(|this| this.core.handle_timeout(now.to_std()));
    }

    /// When [`Association::handle_timeout`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.core.poll_timeout().map(Instant::from_std)
    }

    /// The next packet to send.
    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Bytes> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                if self.gate.note_sent(&packet, RECEIVE_WINDOW) == Verdict::Abort {
                    self.is_lost = true;
                }
                if packet.len() > PACKET_LEN_MAX {
                    for part in packet::cut(&packet, PACKET_LEN_MAX).into_iter().rev() {
                        self.packets.push_front(part.into());
                    }
                    continue;
                }
                if !self.is_urgent {
                    return Some(packet);
                }
                let mut packet = Vec::from(packet);
                packet::ask_for_sack(&mut packet);
                return Some(packet.into());
            }
            let transmit = self.guarded(|this| this.core.poll_transmit(now.to_std()))??;
            let Payload::RawEncode(packets) = transmit.payload else { return None };
            self.packets.extend(packets);
        }
    }

    /// What happened meanwhile.
    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        while !self.is_lost {
            match self.guarded(|this| this.core.poll())?? {
                Event::Connected => {
                    self.is_established = true;
                    return Some(Notice::Established);
                }
                Event::Stream(StreamEvent::Opened { .. }) => {
                    self.guarded(|this| this.core.accept_stream().is_some());
                }
                Event::Stream(StreamEvent::Readable { id }) => return Some(Notice::Readable(id)),
                Event::Stream(StreamEvent::Finished { id }) => return Some(Notice::Finished(id)),
                Event::Stream(StreamEvent::BufferedAmountLow { id }) => {
                    self.is_urgent = false;
                    return Some(Notice::Acknowledged(id));
                }
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => {
                    self.is_lost = true;
                }
                _ => {}
            }
        }
        Some(Notice::Lost { panicked: self.has_panicked })
    }

    /// The next whole message of a stream.
    pub(super) fn read(&mut self, stream: u16) -> Option<Message> {
        let message = self.guarded(|this| this.core.stream(stream).ok()?.read().ok()?)??;
        self.gate.note_read(message.chunks.len());
        let mut bytes = vec![0; message.len()];
        message.read(&mut bytes).ok()?;
        Some(Message { ppid: message.ppi, bytes })
    }

    /// Queues one message; false when the stream does not take it.
    pub(super) fn write(&mut self, stream: u16, ppid: Ppid, bytes: Vec<u8>) -> bool {
        let bytes = Bytes::from(bytes);
        let written = self.guarded(|this| {
            this.core.stream(stream).is_ok_and(|mut s| s.write_sctp(&bytes, ppid).is_ok())
        });
        written == Some(true)
    }

    /// Bytes of a stream that the peer has not acknowledged.
    pub(super) fn waiting(&mut self, stream: u16) -> usize {
        let waiting = self.guarded(|this| this.core.stream(stream).ok()?.buffered_amount().ok());
        waiting.flatten().unwrap_or(0)
    }

    /// Asks the peer to acknowledge what waits without its usual delay, until the next [`Notice::Acknowledged`].
    pub(super) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// Sends on a stream as its channel wants it. Source: RFC 8832 §5.1.
    pub(super) fn set_reliability(&mut self, stream: u16, open: &Open) {
        let (kind, value) = match open.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::LifetimeMs(time) => (ReliabilityType::Timed, time),
        };
        self.guarded(|this| {
            this.core
                .stream(stream)
                .is_ok_and(|mut s| s.set_reliability_params(open.unordered, kind, value).is_ok())
        });
    }

    /// Lets messages of any length be written.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn lift_send_limit(&mut self) {
        self.core.set_max_send_message_size(u32::MAX);
    }

    /// Makes a stream of ours.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn open_stream(&mut self, stream: u16) -> bool {
        self.core.open_stream(stream, Ppid::Binary).is_ok()
    }

    /// Resets a stream: the channel on it is closed. Source: RFC 8831 §6.7.
    pub(super) fn close_stream(&mut self, stream: u16) {
        self.guarded(|this| this.core.stream(stream).is_ok_and(|mut s| s.close().is_ok()));
    }

    /// The packet that tells the peer that it is over, unless the peer said so itself.
    pub(super) fn abort(&self) -> Option<Vec<u8>> {
        let (port, tag) = self.peer.filter(|_| !self.is_peers_end)?;
        Some(packet::abort([PORT, port], tag))
    }

    /// Calls `sctp-proto`; a panic in it ends this association and nothing else.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> Option<T> {
        // What a panic leaves half changed is the association, and that is dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(self)));
        self.has_panicked |= outcome.is_err();
        self.is_lost |= outcome.is_err();
        outcome.ok()
    }
}

fn endpoint_config() -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new();
    config.max_payload_size((PACKET_LEN_MAX - DATA_OVERHEAD) as u32);
    Arc::new(config)
}

fn transport() -> Arc<TransportConfig> {
    let [initial, least, most] = RTO_MS;
    let config = TransportConfig::default()
        .with_max_receive_buffer_size(RECEIVE_WINDOW)
        .with_max_receive_message_size(MESSAGE_LEN_MAX as u32)
        .with_max_send_message_size(MESSAGE_LEN_MAX as u32)
        .with_max_num_inbound_streams(STREAMS)
        .with_max_num_outbound_streams(STREAMS)
        .with_rto_initial_ms(initial)
        .with_rto_min_ms(least)
        .with_rto_max_ms(most);
    Arc::new(config)
}

/// `sctp-proto` wants an address; over DTLS there is none.
fn remote() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], PORT))
}
