//! The session's data channels: between DTLS, whose application data they are, and the shard, which reports what came of them.
//!
//! The association is made when the first SCTP packet comes; a session that opens no channel holds a pointer.

use super::timers::Timer;
use super::{Handshake, Session};
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::{DropCounters, DropReason};
use crate::egress::Egress;
use crate::ids::ChannelId;
use crate::sctp::{ChannelEvent, DataChannels, DataKind};

/// What a session keeps of its data channels.
pub(super) struct Data {
    /// Whether it may have any.
    is_allowed: bool,
    channels: Option<Box<DataChannels>>,
    drops: Drops,
    share: DataShare,
}

/// Packets that were not used, until the shard asks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Drops {
    unused: u32,
    bad: u32,
}

/// How much of the shard's time for data channels a session has had.
#[derive(Clone, Copy, Default)]
struct DataShare {
    turn: u64,
    handled: u16,
    /// Whether it stands in the shard's queue of sessions with something to report.
    is_queued: bool,
}

impl Data {
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed, channels: None, drops: Drops::default(), share: DataShare::default() }
    }
}

impl Session {
    /// Takes the application data of one record.
    pub(super) fn take_data(&mut self, now: Instant, packet: &[u8]) {
        // Without consent nothing could be answered, and what waits to be sent would only grow.
        if !self.data.is_allowed || !self.is_connected() {
            self.data.drops.unused += 1;
            return;
        }
        let channels = self.data.channels.get_or_insert_default();
        if channels.handle_packet(now, packet).is_err() {
            self.data.drops.bad += 1;
        }
    }

    /// Adds the packets that were not used since the last call.
    pub fn count_data_drops(&mut self, drops: &mut DropCounters) {
        let Drops { unused, bad } = std::mem::take(&mut self.data.drops);
        drops.add(DropReason::UnusedData, u64::from(unused));
        drops.add(DropReason::BadSctp, u64::from(bad));
    }

    /// Whether there is anything to serve: most sessions have no data channels.
    pub fn has_data(&self) -> bool {
        self.data.channels.is_some() || self.data.drops != Drops::default()
    }

    /// Whether one more datagram of data may be handled in this turn, of `limit`.
    pub fn take_data_share(&mut self, turn: u64, limit: u16) -> bool {
        let share = &mut self.data.share;
        if share.turn != turn {
            (share.turn, share.handled) = (turn, 0);
        }
        share.handled = share.handled.saturating_add(1);
        share.handled <= limit
    }

    pub(super) fn handle_data_timeout(&mut self, now: Instant) {
        self.timers.set(Timer::Sctp, None);
        if let Some(channels) = &mut self.data.channels {
            channels.handle_timeout(now);
        }
    }

    /// What happened next on a data channel; reads one message at most.
    pub fn poll_data(&mut self) -> Option<ChannelEvent> {
        self.data.channels.as_mut()?.poll_event()
    }

    /// Whether the session has to be put into the shard's queue, because something is left for [`Session::poll_data`] and it does not
    /// stand there yet. True once; then [`Session::leave_data_queue`] comes first.
    pub fn enter_data_queue(&mut self) -> bool {
        let has_events = self.data.channels.as_ref().is_some_and(|c| c.has_events());
        let enters = has_events && !self.data.share.is_queued;
        self.data.share.is_queued |= enters;
        enters
    }

    /// The shard takes the session out of its queue; true when it stood there.
    pub fn leave_data_queue(&mut self) -> bool {
        std::mem::take(&mut self.data.share.is_queued)
    }

    /// Queues one message on a data channel; [`Session::send_data`] sends it.
    ///
    /// # Errors
    /// `UnknownChannel` when the peer has no such channel open, `LimitReached` when the message is too long or too much waits.
    pub fn queue_message(
        &mut self,
        channel: ChannelId,
        kind: DataKind,
        bytes: Vec<u8>,
        confirm: bool,
    ) -> Result<(), CommandError> {
        match &mut self.data.channels {
            Some(channels) => channels.send(channel, kind, bytes, confirm),
            None => Err(CommandError::UnknownChannel(channel)),
        }
    }

    /// Sends what the association has to say, acknowledgements included, and arms its timer.
    pub fn send_data(&mut self, now: Instant, egress: &mut Egress) -> Handshake {
        if !self.is_connected() {
            return Handshake::Running;
        }
        while let Some(packet) = self.data.channels.as_mut().and_then(|c| c.poll_packet(now)) {
            if let Some(dtls) = self.phase.dtls_mut() {
                dtls.send_data(now, &packet);
            }
            let outcome = self.drive_handshake(now, egress);
            if matches!(outcome, Handshake::Ended(_)) {
                return outcome;
            }
        }
        let deadline = self.data.channels.as_ref().and_then(|channels| channels.next_deadline());
        self.timers.set(Timer::Sctp, deadline);
        Handshake::Running
    }

    /// Tells the peer that the association ends, as part of saying goodbye.
    pub(super) fn abort_data(&mut self, now: Instant, egress: &mut Egress) {
        if let Some(channels) = &mut self.data.channels {
            channels.abort();
            // What ends here ends anyway.
            let _ = self.send_data(now, egress);
        }
    }
}
