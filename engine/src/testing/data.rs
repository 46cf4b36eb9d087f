//! A client's data channels: the side that begins and opens.

use std::time::Duration;

use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::ids::ChannelId;
use crate::sctp::dcep::{Open, Reliability};
use crate::sctp::{ChannelEvent, DataChannels, DataKind};

/// How long an association may take before another is begun in its place. The crate's own repetition of an INIT would go by the
/// operating system's clock.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// The channels of one client.
pub struct ClientChannels {
    channels: DataChannels,
    /// Opened before the association was there.
    wanted: Vec<(ChannelId, Open)>,
    next_id: u16,
    is_wanted: bool,
    begin_at: Option<Instant>,
    /// Everything that happened, in order. Emptied by whoever reads it.
    pub events: Vec<ChannelEvent>,
    /// Whether messages are read; when not, our receive window closes.
    pub is_reading: bool,
}

impl ClientChannels {
    /// No channels. A DTLS client has the even numbers. Source: RFC 8832 §6.
    pub(super) fn new(is_dtls_client: bool) -> Self {
        Self {
            channels: DataChannels::default(),
            wanted: Vec::new(),
            next_id: u16::from(!is_dtls_client),
            is_wanted: false,
            begin_at: None,
            events: Vec::new(),
            is_reading: true,
        }
    }

    /// Opens a channel as soon as there is an association.
    pub fn open(&mut self, label: &str, unordered: bool, reliability: Reliability) -> ChannelId {
        let id = ChannelId(self.next_id);
        self.next_id += 2;
        self.open_at(id, Open { label: label.to_owned(), unordered, reliability });
        id
    }

    /// Opens a channel on a stream of the caller's choice.
    pub fn open_at(&mut self, id: ChannelId, open: Open) {
        self.is_wanted = true;
        self.wanted.push((id, open));
    }

    /// Queues one message.
    ///
    /// # Errors
    /// When the channel is not open, or too much waits.
    pub fn send(
        &mut self,
        id: ChannelId,
        kind: DataKind,
        bytes: Vec<u8>,
    ) -> Result<(), CommandError> {
        self.channels.send(id, kind, bytes, false)
    }

    /// Queues a binary message of any length, on a channel or not.
    pub fn send_unbounded(&mut self, id: ChannelId, bytes: Vec<u8>) {
        self.channels.send_unbounded(id, bytes);
    }

    /// Closes a channel.
    pub fn close(&mut self, id: ChannelId) {
        self.channels.close(id);
    }

    /// Drops the association in silence and begins another, as after a crash.
    pub fn begin_anew(&mut self, now: Instant) {
        self.channels = DataChannels::connect();
        self.begin_at = Some(now + BEGIN_AGAIN);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.channels.is_established() {
            true => self.channels.next_deadline(),
            false => self.begin_at,
        }
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        // What came for an association that was given up is nobody's.
        let _ = self.channels.handle_packet(now, packet);
    }

    /// Does what is due; true when there may be packets to send.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.channels.is_established() {
            if self.channels.next_deadline().is_some_and(|due| due <= now) {
                self.channels.handle_timeout(now);
            }
        } else if self.is_wanted && self.begin_at.is_none_or(|at| at <= now) {
            self.begin_anew(now);
        }
    }

    /// The next packet to send.
    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.channels.is_established() {
            for (id, open) in std::mem::take(&mut self.wanted) {
                assert!(self.channels.open(id, &open), "stream {id} is free");
            }
        }
        while self.is_reading
            && let Some(event) = self.channels.poll_event()
        {
            self.events.push(event);
        }
        self.channels.poll_packet(now).map(|packet| packet.to_vec())
    }
}
