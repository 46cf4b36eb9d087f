//! What the engine tells by itself, and the periodic comparison of what both sides believe.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use sluice_engine::clock::{self, Instant};
use sluice_engine::ids::{SessionId, ShardId};
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::handle::Reports;
use sluice_engine::shard::mailbox::{Command, Report};

use super::link::CloseCode;
use super::session::profile_name;
use super::views::{Event, SessionState};
use super::{GuestReports, Owner, Service, locked};

/// Reports that may wait for the service; beyond them the shard keeps its reports.
const REPORTS_MAX: usize = 4096;

/// How often both sides are compared. Reports are not lost in normal running: this catches what
/// nobody foresaw.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// One shard's reports: the sink for the engine, and the end for [`Service::watch`].
pub type ReportQueue = mpsc::Receiver<Report>;

struct ReportSink(mpsc::Sender<Report>);

impl Reports for ReportSink {
    fn try_report(&mut self, report: Report) -> Result<(), Report> {
        match self.0.try_send(report) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(report)) => Err(report),
            // Nobody listens any more: the process is ending.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// A sink for one shard's reports, and where they come out.
pub fn report_channels() -> (Box<dyn Reports>, ReportQueue) {
    let (sender, receiver) = mpsc::channel(REPORTS_MAX);
    (Box::new(ReportSink(sender)), receiver)
}

impl Service {
    /// Follows the shards' reports and compares both sides from time to time, as long as the
    /// runtime lives. One task a shard, so that a shard in trouble delays its own calls alone.
    pub fn watch(self: &Arc<Self>, queues: Vec<ReportQueue>) {
        for mut queue in queues {
            let service = Arc::downgrade(self);
            tokio::spawn(async move {
                while let Some(report) = queue.recv().await {
                    let Some(service) = service.upgrade() else { return };
                    service.handle_report(report).await;
                }
            });
        }
        for shard in self.shards.ids() {
            let service = Arc::downgrade(self);
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(RECONCILE_EVERY);
                loop {
                    ticks.tick().await;
                    let Some(service) = service.upgrade() else { return };
                    service.end_abandoned(shard, clock::now()).await;
                    service.reconcile(shard).await;
                }
            });
        }
    }

    async fn handle_report(&self, report: Report) {
        let call = match locked(&self.owners).get(&report.session()) {
            None => return,
            Some(Owner::Call(call)) => Ok(Arc::clone(call)),
            Some(Owner::Guest { reports, .. }) => Err(reports.clone()),
        };
        let call = match call {
            Ok(call) => call,
            Err(guest) => {
                // An error means that the guest has ended and its sessions are about to.
                let _ = guest.send(report).await;
                return;
            }
        };
        let (number, change) = match report {
            Report::Connected { session, profile } => {
                (session, Some((SessionState::Connected, Some(profile))))
            }
            Report::Disconnected { session } => (session, Some((SessionState::Disconnected, None))),
            Report::Reconnected { session } => (session, Some((SessionState::Connected, None))),
            Report::Closed { session, .. } => (session, None),
            // Native sessions ask for none of these.
            Report::Voice { .. }
            | Report::ChannelOpened { .. }
            | Report::ChannelClosed { .. }
            | Report::Data { .. }
            | Report::DataDelivered { .. } => return,
        };
        let mut state = call.lock().await;
        if let Some((new, profile)) = change {
            let Some(session) = state.sessions.get_mut(&number) else { return };
            session.state = new;
            session.profile = profile.or(session.profile);
            let profile = session.profile.map(|p| profile_name(p).to_owned());
            self.count_overflow(session.send(&Event::State { state: new, profile }));
        } else if let Report::Closed { error, .. } = report {
            let code = CloseCode::SessionEnded;
            self.remove(&call, &mut state, number, &error.to_string(), code, false).await;
        }
    }

    /// Ends sessions of a shard that never negotiated and have had no WebSocket for as long as a handshake
    /// may take, and calls made for sessions that never came. The engine waits for a peer's half without end.
    pub async fn end_abandoned(&self, shard: ShardId, now: Instant) {
        for call in self.all_calls().into_iter().filter(|c| c.is_on(shard)) {
            let mut state = call.lock().await;
            let here = state.sessions.values().filter(|session| session.shard == shard);
            let abandoned = here.filter(|session| {
                let alone = session.link.is_none() && !session.negotiated;
                alone && now.since(session.alone_since) > self.abandoned_after
            });
            for number in abandoned.map(|s| s.number).collect::<Vec<_>>() {
                let (reason, code) = ("nothing was negotiated", CloseCode::SessionEnded);
                self.remove(&call, &mut state, number, reason, code, true).await;
            }
            self.drop_when_unused(&call, &mut state, now, self.abandoned_after);
        }
    }

    fn guests_on(&self, shard: ShardId) -> Vec<(SessionId, GuestReports)> {
        let of = |(number, owner): (&SessionId, &Owner)| match owner {
            Owner::Guest { reports, shard: Some(at) } if *at == shard => {
                Some((*number, reports.clone()))
            }
            _ => None,
        };
        locked(&self.owners).iter().filter_map(of).collect()
    }

    /// Removes sessions that only one side knows.
    pub async fn reconcile(&self, shard: ShardId) {
        // Those known before the question must be in the answer. Joins in flight hold their call's
        // lock: their sessions are not in its table yet, so they are left alone.
        let mut expected = Vec::new();
        for call in self.all_calls().into_iter().filter(|c| c.is_on(shard)) {
            let state = call.lock().await;
            let here = state.sessions.values().filter(|session| session.shard == shard);
            let numbers: Vec<SessionId> = here.map(|session| session.number).collect();
            drop(state);
            expected.extend(numbers.into_iter().map(|number| (Arc::clone(&call), number)));
        }
        let guests = self.guests_on(shard);
        let Some(snapshot) = self.shards.fresh_snapshot(shard).await else {
            tracing::warn!(%shard, "the shard does not answer");
            return;
        };
        let present: HashSet<SessionId> = snapshot.session_list.iter().map(|s| s.session).collect();
        for (call, number) in expected.into_iter().filter(|(_, n)| !present.contains(n)) {
            let mut state = call.lock().await;
            if state.sessions.contains_key(&number) {
                self.counters.sessions_reconciled.fetch_add(1, Ordering::Relaxed);
                let code = CloseCode::SessionEnded;
                self.remove(&call, &mut state, number, "the engine has lost it", code, false).await;
            }
        }
        for (number, reports) in guests.into_iter().filter(|(n, _)| !present.contains(n)) {
            self.counters.sessions_reconciled.fetch_add(1, Ordering::Relaxed);
            let lost = Report::Closed { session: number, error: SessionError::Internal };
            let _ = reports.send(lost).await;
        }
        for number in present {
            if !locked(&self.owners).contains_key(&number) {
                self.counters.sessions_reconciled.fetch_add(1, Ordering::Relaxed);
                let command = Command::RemoveSession { session: number };
                // An error is no loss: the next comparison finds it again.
                let _ = self.shards.command(shard, command).await;
            }
        }
    }
}
