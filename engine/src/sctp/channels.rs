//! The data channels of one session. Source: RFC 8831 §6.

use std::collections::VecDeque;

use bytes::Bytes;
use sctp_proto::PayloadProtocolIdentifier as Ppid;

use super::association::{Association, Message, Notice};
#[cfg(any(test, feature = "testing"))]
use super::dcep::Open;
use super::dcep::{self, Dcep};
use super::{
    CHANNELS_MAX, DataKind, MESSAGE_LEN_MAX, WAITING_BYTES_MAX, WAITING_MESSAGES_MAX, packet,
};
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::DropReason;
use crate::ids::ChannelId;

/// The channels of one session, and the association that carries them once the peer began one.
///
/// Messages stay in the association until [`DataChannels::poll_event`] asks for them: who asks slowly closes the receive window, and
/// the peer waits.
#[derive(Default)]
pub struct DataChannels {
    association: Option<Box<Association>>,
    channels: Vec<Channel>,
    /// Streams with something to read, each once.
    readable: VecDeque<u16>,
    /// What to tell before anything is read; at most two for each channel and one for the association.
    events: VecDeque<ChannelEvent>,
    /// The last word of an association that is gone.
    farewell: Option<Bytes>,
}

struct Channel {
    id: ChannelId,
    /// Messages sent since the peer had acknowledged all.
    sent: usize,
    /// Whether somebody waits for the peer to acknowledge all.
    is_awaited: bool,
}

/// What happened to a session's channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelEvent {
    /// The peer opened a channel, or took one that we opened (label empty).
    Opened(ChannelId, String),
    /// A channel is gone.
    Closed(ChannelId),
    /// A message came.
    Message(ChannelId, DataKind, Vec<u8>),
    /// The peer has acknowledged all that was sent, of which a message was to be confirmed.
    Delivered(ChannelId),
    /// A message was thrown away, or a channel refused.
    Refused(DropReason),
    /// The association ended. Its channels were closed before this.
    Lost {
        /// Whether by a panic under it, which is a bug.
        panicked: bool,
    },
}

impl DataChannels {
    /// Takes one SCTP packet of the peer.
    ///
    /// # Errors
    /// Why it was not used.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), DropReason> {
        if let Some(tag) = packet::initiate_tag(packet)
            && !self.association.as_ref().is_some_and(|known| known.began_with(tag))
        {
            // The peer begins, or begins anew, which ends what was. Source: RFC 9260 §5.2.2.
            let begun = Association::accept(now, packet).ok_or(DropReason::BadSctp)?;
            if self.association.take().is_some() {
                self.forget_channels();
            }
            self.association = Some(Box::new(begun));
            self.take_notices();
            return Ok(());
        }
        let is_behind = !self.readable.is_empty();
        let Some(association) = &mut self.association else { return Err(DropReason::BadSctp) };
        let taken = association.handle_packet(now, packet, is_behind);
        self.take_notices();
        taken
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
            self.take_notices();
        }
    }

    /// When [`DataChannels::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.association.as_ref()?.next_deadline()
    }

    /// The next packet to send; `None` when there is nothing more for now.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Bytes> {
        if self.farewell.is_some() {
            return self.farewell.take();
        }
        let packet = self.association.as_mut()?.poll_packet(now);
        self.take_notices();
        packet.or_else(|| self.farewell.take())
    }

    /// Whether [`DataChannels::poll_event`] may have something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.readable.is_empty()
    }

    /// What happened next; reads one message at most.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let stream = *self.readable.front()?;
            let message = self.association.as_mut().and_then(|a| a.read(stream));
            match message {
                Some(message) => {
                    // The next one is another stream's turn.
                    self.readable.rotate_left(1);
                    if let Some(event) = self.handle_message(stream, message) {
                        return Some(event);
                    }
                }
                None => {
                    self.readable.pop_front();
                }
            }
            self.take_notices();
        }
    }

    fn handle_message(&mut self, stream: u16, message: Message) -> Option<ChannelEvent> {
        let id = ChannelId(stream);
        let kind = match message.ppid {
            Ppid::Dcep => return self.handle_dcep(id, &message.bytes),
            Ppid::String | Ppid::StringEmpty => DataKind::Text,
            Ppid::Binary | Ppid::BinaryEmpty => DataKind::Binary,
            _ => return Some(ChannelEvent::Refused(DropReason::BadSctp)),
        };
        // An OPEN comes before all else on a stream; channels that were negotiated by other means are not supported.
        if !self.channels.iter().any(|channel| channel.id == id) {
            return Some(ChannelEvent::Refused(DropReason::DataRefused));
        }
        let bytes = match message.ppid {
            Ppid::String if str::from_utf8(&message.bytes).is_err() => {
                return Some(ChannelEvent::Refused(DropReason::DataRefused));
            }
            // The one byte of an empty message stands for none. Source: RFC 8831 §6.6.
            Ppid::StringEmpty | Ppid::BinaryEmpty => Vec::new(),
            _ => message.bytes,
        };
        Some(ChannelEvent::Message(id, kind, bytes))
    }

    fn handle_dcep(&mut self, id: ChannelId, message: &[u8]) -> Option<ChannelEvent> {
        let open = match Dcep::parse(message) {
            Ok(Dcep::Open(open)) => open,
            Ok(Dcep::Ack) => return self.handle_ack(id),
            Err(_) => return Some(self.refuse(id)),
        };
        let is_open = self.channels.iter().any(|channel| channel.id == id);
        if is_open || self.channels.len() == CHANNELS_MAX {
            return Some(self.refuse(id));
        }
        let association = self.association.as_mut()?;
        association.set_reliability(id.0, &open);
        association.write(id.0, Ppid::Dcep, dcep::ACK.to_vec());
        self.channels.push(Channel { id, sent: 0, is_awaited: false });
        Some(ChannelEvent::Opened(id, open.label))
    }

    #[cfg(any(test, feature = "testing"))]
    fn handle_ack(&mut self, id: ChannelId) -> Option<ChannelEvent> {
        let is_ours = self.channels.iter().any(|channel| channel.id == id);
        is_ours.then(|| ChannelEvent::Opened(id, String::new()))
    }

    /// We open no channels.
    #[cfg(not(any(test, feature = "testing")))]
    fn handle_ack(&mut self, _: ChannelId) -> Option<ChannelEvent> {
        Some(ChannelEvent::Refused(DropReason::DataRefused))
    }

    /// Closes a stream that cannot be, or stay, a channel.
    fn refuse(&mut self, id: ChannelId) -> ChannelEvent {
        self.close(id);
        ChannelEvent::Refused(DropReason::DataRefused)
    }

    /// Closes a channel, if it is open. The peer is told, and [`ChannelEvent::Closed`] comes when it agreed.
    pub fn close(&mut self, id: ChannelId) {
        if let Some(association) = &mut self.association {
            association.close_stream(id.0);
        }
        self.take_notices();
    }

    /// Queues one message; with `confirm`, [`ChannelEvent::Delivered`] tells when the peer has it and all before it.
    ///
    /// # Errors
    /// `UnknownChannel` when the peer did not open it, or closed it; `LimitReached` when the message is too long or too much waits.
    pub fn send(
        &mut self,
        id: ChannelId,
        kind: DataKind,
        bytes: Vec<u8>,
        confirm: bool,
    ) -> Result<(), CommandError> {
        let limited = |what, limit| Err(CommandError::LimitReached { what, limit });
        let (Some(at), Some(association)) =
            (self.channels.iter().position(|c| c.id == id), &mut self.association)
        else {
            return Err(CommandError::UnknownChannel(id));
        };
        if bytes.len() > MESSAGE_LEN_MAX {
            return limited("bytes in a message", MESSAGE_LEN_MAX);
        }
        let (mut waiting, mut messages) = (0, 0);
        for channel in &mut self.channels {
            let of_channel = association.waiting(channel.id.0);
            if of_channel == 0 {
                channel.sent = 0;
            }
            waiting += of_channel;
            messages += channel.sent;
        }
        if waiting + bytes.len() > WAITING_BYTES_MAX {
            return limited("bytes waiting for the peer", WAITING_BYTES_MAX);
        }
        if messages == WAITING_MESSAGES_MAX {
            return limited("messages waiting for the peer", WAITING_MESSAGES_MAX);
        }
        // SCTP has no empty messages. Source: RFC 8831 §6.6.
        let (ppid, bytes) = match (kind, bytes.is_empty()) {
            (DataKind::Text, false) => (Ppid::String, bytes),
            (DataKind::Text, true) => (Ppid::StringEmpty, vec![0]),
            (DataKind::Binary, false) => (Ppid::Binary, bytes),
            (DataKind::Binary, true) => (Ppid::BinaryEmpty, vec![0]),
        };
        if !association.write(id.0, ppid, bytes) {
            return Err(CommandError::UnknownChannel(id));
        }
        self.channels[at].sent += 1;
        if confirm {
            self.channels[at].is_awaited = true;
            association.hurry();
        }
        Ok(())
    }

    /// Ends the association: the peer is told by the next packet.
    pub fn abort(&mut self) {
        if let Some(association) = self.association.take() {
            self.farewell = association.abort().map(Bytes::from);
        }
        self.channels.clear();
        self.readable.clear();
        self.events.clear();
    }

    /// Takes note of what the association says of itself.
    fn take_notices(&mut self) {
        while let Some(association) = &mut self.association
            && let Some(notice) = association.poll_notice()
        {
            match notice {
                Notice::Established => {}
                Notice::Readable(stream) => {
                    if !self.readable.contains(&stream) {
                        self.readable.push_back(stream);
                    }
                }
                Notice::Acknowledged(stream) => self.note_acknowledged(ChannelId(stream)),
                Notice::Finished(stream) => self.forget_channel(ChannelId(stream)),
                Notice::Lost { panicked } => {
                    self.farewell = association.abort().map(Bytes::from);
                    self.association = None;
                    self.forget_channels();
                    // A peer that begins and ends over and over is told of once.
                    let lost = ChannelEvent::Lost { panicked };
                    if self.events.back() != Some(&lost) {
                        self.events.push_back(lost);
                    }
                }
            }
        }
    }

    fn note_acknowledged(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.iter_mut().find(|channel| channel.id == id) else {
            return;
        };
        let delivered = ChannelEvent::Delivered(id);
        if std::mem::take(&mut channel.is_awaited) && !self.events.contains(&delivered) {
            self.events.push_back(delivered);
        }
    }

    fn forget_channel(&mut self, id: ChannelId) {
        if let Some(at) = self.channels.iter().position(|channel| channel.id == id) {
            self.channels.swap_remove(at);
            self.events.push_back(ChannelEvent::Closed(id));
        }
    }

    fn forget_channels(&mut self) {
        self.readable.clear();
        while let Some(channel) = self.channels.last() {
            self.forget_channel(channel.id);
        }
    }
}

/// The side that begins: what the tests' clients are.
#[cfg(any(test, feature = "testing"))]
impl DataChannels {
    /// Begins an association. One whose packets got lost is given up for another: see [`DataChannels::is_established`].
    pub fn connect() -> Self {
        Self { association: Some(Box::new(Association::connect())), ..Self::default() }
    }

    /// Whether channels can be opened.
    pub fn is_established(&self) -> bool {
        self.association.as_ref().is_some_and(|association| association.is_established())
    }

    /// Opens a channel on a stream; messages may follow at once.
    pub fn open(&mut self, id: ChannelId, open: &Open) -> bool {
        let Some(association) = &mut self.association else { return false };
        let is_open = association.open_stream(id.0);
        association.write(id.0, Ppid::Dcep, open.to_bytes());
        association.set_reliability(id.0, open);
        self.channels.push(Channel { id, sent: 0, is_awaited: false });
        is_open
    }

    /// Queues a binary message of any length, on a channel or not.
    pub fn send_unbounded(&mut self, id: ChannelId, bytes: Vec<u8>) {
        if let Some(association) = &mut self.association {
            association.lift_send_limit();
            association.open_stream(id.0);
            association.write(id.0, Ppid::Binary, bytes);
        }
    }
}
