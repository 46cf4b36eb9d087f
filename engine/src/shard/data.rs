//! Data channels: what peers say over them becomes reports, as fast as control takes them and no faster.
//!
//! A message stays in its session's association until it is read here, and it is read only while the backlog of reports is less than
//! half full ([`budget::DATA_REPORTS`], [`budget::DATA_BYTES`]). Beyond that sessions wait in a queue, each once, and are served in
//! turn, [`budget::DATA_EVENTS`] at a time, as the backlog shrinks. Meanwhile their receive windows close and their peers hold what
//! they have to say. So a peer that floods fills its own window, never the backlog's other half, and delays the messages of the others
//! by one round of the queue.

use super::mailbox::Report;
use super::{Shard, budget};
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::DropReason;
use crate::ids::{ChannelId, SessionId, SessionKey};
use crate::sctp::{ChannelEvent, DataKind};
use crate::session::Handshake;

impl Shard {
    /// Takes one DTLS datagram with application data of a connected session: no signature can hide in it, so it need not wait among
    /// the handshakes.
    pub(super) fn handle_data(&mut self, now: Instant, key: SessionKey, datagram: &[u8]) {
        let turn = self.counters.turns;
        let Some(session) = self.sessions.get_mut(key) else {
            return self.drops.count(DropReason::SessionClosed);
        };
        if !session.take_data_share(turn, budget::DATA_PER_SESSION) {
            return self.drops.count(DropReason::DataFlood);
        }
        let outcome = session.handle_dtls(now, datagram, &mut self.egress);
        self.after_handshake(now, key, outcome);
    }

    /// Reports what happened on a session's data channels, and sends what their association has to say.
    pub(super) fn serve_data(&mut self, now: Instant, key: SessionKey) {
        if !self.sessions.get(key).is_some_and(|session| session.has_data()) {
            return;
        }
        for _ in 0..budget::DATA_EVENTS {
            if self.has_data_backlog() {
                break;
            }
            let Some(session) = self.sessions.get_mut(key) else { return };
            let id = session.id;
            let Some(event) = session.poll_data() else { break };
            self.report_data(id, event);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.enter_data_queue() {
            self.data_waiting.push_back(key);
        }
        session.count_data_drops(&mut self.drops);
        let outcome = session.send_data(now, &mut self.egress);
        let deadline = session.next_deadline();
        self.arm(key, deadline);
        if let Handshake::Ended(error) = outcome {
            self.end_session(now, key, error);
        }
    }

    /// Goes once round the sessions that have something left to report; true when there is more to do at once.
    pub(super) fn resume_data(&mut self, now: Instant) -> bool {
        for _ in 0..self.data_waiting.len() {
            if self.has_data_backlog() {
                return false;
            }
            let Some(key) = self.data_waiting.pop_front() else { break };
            let Some(session) = self.sessions.get_mut(key) else { continue };
            session.leave_data_queue();
            self.current = Some(key);
            self.serve_data(now, key);
            self.current = None;
        }
        !self.data_waiting.is_empty()
    }

    fn has_data_backlog(&self) -> bool {
        self.backlog.len() >= budget::DATA_REPORTS || self.backlog_bytes >= budget::DATA_BYTES
    }

    fn report_data(&mut self, session: SessionId, event: ChannelEvent) {
        match event {
            ChannelEvent::Opened(channel, label) => {
                self.counters.data_channels_opened += 1;
                self.report(Report::ChannelOpened { session, channel, label });
            }
            ChannelEvent::Closed(channel) => {
                self.report(Report::ChannelClosed { session, channel });
            }
            ChannelEvent::Message(channel, kind, bytes) => {
                self.counters.data_messages_in += 1;
                self.counters.data_bytes_in += bytes.len() as u64;
                self.report(Report::Data { session, channel, kind, bytes });
            }
            ChannelEvent::Delivered(channel) => {
                self.report(Report::DataDelivered { session, channel });
            }
            ChannelEvent::Refused(reason) => self.drops.count(reason),
            ChannelEvent::Lost { panicked } => {
                self.counters.data_associations_lost += 1;
                self.counters.panics += u64::from(panicked);
            }
        }
    }

    /// Sends one message over a data channel.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        session: SessionId,
        channel: ChannelId,
        kind: DataKind,
        bytes: Vec<u8>,
        confirm: bool,
    ) -> Result<(), CommandError> {
        let (key, session) = self.session_mut(session)?;
        let len = bytes.len() as u64;
        session.queue_message(channel, kind, bytes, confirm)?;
        self.counters.data_messages_out += 1;
        self.counters.data_bytes_out += len;
        self.serve_data(now, key);
        Ok(())
    }
}

/// Bytes of the message that a report carries.
pub(super) fn data_bytes(report: &Report) -> usize {
    match report {
        Report::Data { bytes, .. } => bytes.len(),
        _ => 0,
    }
}
