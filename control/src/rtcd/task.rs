//! One task a call: gives the call its messages, reports and the time, and does what it wants done.
//!
//! Everything that happens to a call's sessions happens here, in one order; calls do not wait for each other. The queue in front of a
//! call is bounded: when it is full, the plugin's connection that wants to add to it is not read on.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use sluice_engine::clock;
use sluice_engine::command_error::CommandError;
use sluice_engine::ids::{SessionId, ShardId};
use sluice_engine::session_error::SessionError;
use sluice_engine::shard::handle::Reply;
use sluice_engine::shard::mailbox::{Command, Report};

use super::call::{Call, Joining};
use super::directory::SessionConfig;
use super::effects::{Effect, Effects};
use super::hub::{ConnectionId, Delivery};
use super::message::{Rtc, ToPlugin};
use super::service::Shared;
use crate::placement::Placement;
use crate::service::GuestReports;

/// Messages, and reports, that are handled in one go: what they come to costs one turn of the shard, and one look at all deadlines.
const BATCH: usize = 64;

/// Commands of a call that may be under way without anybody waiting for their answers.
const PASSING_MAX: usize = 64;

/// Messages that may wait for a call.
pub(super) const QUEUE_MESSAGES: usize = 256;

/// The wait before offers are looked at again for which a plugin's connection had no room.
const OFFERS_RETRY: std::time::Duration = std::time::Duration::from_millis(5);

/// The wait before a command is tried again that found the shard's mailbox full.
const MAILBOX_RETRY: std::time::Duration = std::time::Duration::from_millis(2);

/// How often a command is tried that finds the mailbox full: two seconds in all, as nobody waits longer for a join.
const MAILBOX_TRIES: usize = 1_000;

/// What a call is sent.
pub(super) enum Message {
    /// A user joins.
    Join(SessionConfig, ConnectionId),
    /// A user leaves.
    Leave(String),
    /// A session's messages take another connection.
    Reconnect(String, ConnectionId),
    /// A message for a session.
    Rtc(Rtc),
    /// Nothing; answered when all that was sent before has been done.
    Settle(oneshot::Sender<()>),
    /// All its sessions end; answered when they have.
    End(oneshot::Sender<()>),
}

/// The way to a call.
pub(super) type Route = mpsc::Sender<Message>;

/// Starts a call's task and gives the way to it. It ends when the call's last session has.
pub(super) fn start(shared: &Arc<Shared>) -> Route {
    let (route, messages) = mpsc::channel(QUEUE_MESSAGES);
    let (report_sink, reports) = mpsc::channel(QUEUE_MESSAGES);
    let (number, placement) = shared.service.place_guest_call();
    let task = Task {
        shared: Arc::clone(shared),
        placement,
        call: Call::new(number, shared.metrics.clone()),
        report_sink: report_sink.clone(),
        offers: Vec::new(),
        passing: VecDeque::new(),
    };
    let running = tokio::spawn(task.run(messages, reports));
    tokio::spawn(clean_up(running, Arc::clone(shared), route.clone(), report_sink));
    route
}

/// Ends what a call leaves behind that fails on the way: nobody would answer its sessions, and no session could take their names.
async fn clean_up(
    running: JoinHandle<()>,
    shared: Arc<Shared>,
    route: Route,
    reports: GuestReports,
) {
    if let Err(error) = running.await {
        tracing::error!(%error, "a call failed; its sessions end");
        shared.service.release_guests(&reports);
        shared.bury(&route);
    }
}

struct Task {
    shared: Arc<Shared>,
    placement: Placement,
    call: Call,
    report_sink: GuestReports,
    /// Offers that wait until the plugin has read what it was sent: one for each session at most. When somebody begins to talk all the
    /// others are made an offer, in a large call more than the queue of a connection holds.
    offers: Vec<(SessionId, ToPlugin)>,
    /// Answers of commands that nobody waits for; [`PASSING_MAX`] at most.
    passing: VecDeque<Reply>,
}

impl Task {
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut reports: mpsc::Receiver<Report>,
    ) {
        loop {
            let deadline = self.call.next_deadline();
            let (mut out, mut waiting) = (Effects::new(), Vec::new());
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.handle(message, &mut out, &mut waiting),
                    None => return,
                },
                Some(report) = reports.recv() => {
                    self.call.handle_report(clock::now(), report, &mut out);
                }
                () = wait_until(deadline) => self.call.handle_timeout(clock::now(), &mut out),
                () = tokio::time::sleep(OFFERS_RETRY), if !self.offers.is_empty() => {}
            }
            for _ in 1..BATCH {
                let (message, report) = (messages.try_recv().ok(), reports.try_recv().ok());
                if message.is_none() && report.is_none() {
                    break;
                }
                if let Some(message) = message {
                    self.handle(message, &mut out, &mut waiting);
                }
                if let Some(report) = report {
                    self.call.handle_report(clock::now(), report, &mut out);
                }
            }
            let is_over = self.carry_out(out).await;
            self.send_offers();
            for done in waiting {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            if is_over {
                return;
            }
        }
    }

    /// Handles a message; whoever is to be told when that is done goes into `waiting`.
    fn handle(
        &mut self,
        message: Message,
        out: &mut Effects,
        waiting: &mut Vec<oneshot::Sender<()>>,
    ) {
        let now = clock::now();
        match message {
            Message::Join(config, connection) => {
                let (number, local, supply) =
                    self.shared.service.prepare_guest(&mut self.placement);
                self.shared.service.adopt_guest(number, self.report_sink.clone());
                let joining = Joining { number, config, connection, local, supply };
                self.call.join(now, joining, out);
            }
            Message::Leave(name) => {
                if let Some(number) = self.call.find(&name) {
                    self.call.leave(now, number, out);
                }
            }
            Message::Reconnect(name, connection) => {
                if let Some(number) = self.call.find(&name) {
                    self.call.rebind(number, connection);
                }
            }
            Message::Rtc(rtc) => {
                if let Some(number) = self.call.find(&rtc.session) {
                    self.call.handle_rtc(now, number, &rtc, out);
                }
            }
            Message::Settle(done) => waiting.push(done),
            Message::End(done) => {
                self.call.end(out);
                waiting.push(done);
            }
        }
    }

    /// Does what the call wants done, and what comes of that. Whether the call is over.
    async fn carry_out(&mut self, mut effects: Effects) -> bool {
        let mut is_over = false;
        while !effects.is_empty() {
            let mut replies = Vec::new();
            let mut next = Effects::new();
            for effect in effects {
                match effect {
                    Effect::Command(command) => {
                        let (shard, command) = self.placement.route(command);
                        replies.push(request(&self.shared, shard, command).await)
                    }
                    Effect::Passing(command) => {
                        let (shard, command) = self.placement.route(command);
                        self.bound_passing().await;
                        // Where the mailbox is full, the peer asks again.
                        self.passing.extend(self.shared.service.plane().request(shard, command));
                    }
                    Effect::ToPlugin { session, message } => self.send(session, &message),
                    Effect::Offer { session, message } => {
                        match self.offers.iter_mut().find(|(to, _)| *to == session) {
                            Some((_, older)) => *older = message,
                            None => self.offers.push((session, message)),
                        }
                    }
                    Effect::Closed { session, config, connection } => {
                        self.shared.service.release_guest(session);
                        self.placement.left(session);
                        is_over |= self.shared.close(&config, &connection);
                    }
                }
            }
            for asked in replies {
                self.settle(asked, &mut next).await;
            }
            effects = next;
        }
        is_over
    }

    /// Waits while more commands than [`PASSING_MAX`] are under way whose answers nobody needs: a peer that asks and asks must not
    /// fill the shard's mailbox.
    async fn bound_passing(&mut self) {
        let is_done = |reply: &mut Reply| !matches!(reply.try_recv(), Ok(None));
        while self.passing.front_mut().is_some_and(is_done) {
            self.passing.pop_front();
        }
        if self.passing.len() >= PASSING_MAX
            && let Some(oldest) = self.passing.pop_front()
        {
            let _ = oldest.await;
        }
    }

    async fn settle(&mut self, asked: Asked, out: &mut Effects) {
        let answer = match asked.reply {
            Ok(reply) => reply.await.unwrap_or(Err(CommandError::ShardGone)),
            Err(error) => Err(error),
        };
        let Some(session) = asked.session else { return };
        match (answer, asked.weight) {
            (Ok(_), Weight::Birth) => self.shared.service.settle_guest(session, asked.shard),
            (Ok(_), _) | (Err(_), Weight::Passing) => {}
            (Err(error), Weight::Word) => {
                tracing::debug!(%session, %error, "a message to a peer was refused");
                self.call.unheard(clock::now(), session);
            }
            // The publisher left at the same time.
            (Err(CommandError::UnknownTrack(_)), _) => {}
            (Err(error), _) => {
                tracing::warn!(%session, %error, "the engine refused a change");
                let _ = self
                    .shared
                    .service
                    .plane()
                    .request(asked.shard, Command::RemoveSession { session });
                self.call.ended(clock::now(), session, &SessionError::Internal, out);
            }
        }
    }

    /// Sends the offers that there is room for. One whose round is over meanwhile is not worth it: it will be made again.
    fn send_offers(&mut self) {
        for (session, message) in std::mem::take(&mut self.offers) {
            let Some((group, connection)) = self.call.address(session) else { continue };
            if !self.call.awaits_answer(session) {
                continue;
            }
            match self.shared.hub.has_room(group, connection) {
                true => self.send(session, &message),
                false => self.offers.push((session, message)),
            }
        }
    }

    fn send(&mut self, session: SessionId, message: &ToPlugin) {
        let Some((group, connection)) = self.call.address(session) else { return };
        match self.shared.hub.send(group, connection, message) {
            Delivery::Delivered { to, rerouted: true } => self.call.rebind(session, to),
            Delivery::Delivered { .. } => {}
            refused @ (Delivery::NoConnection | Delivery::TooLong) => {
                tracing::debug!(%session, ?refused, "a message did not go to the plugin");
            }
        }
    }
}

/// Puts a command into the shard's mailbox. The answer is awaited later, so that a shard gets all of a step at once.
async fn request(shared: &Shared, shard: ShardId, command: Command) -> Asked {
    let (session, weight) = weigh(&command);
    let plane = shared.service.plane();
    let mut reply = plane.request(shard, command.clone());
    for _ in 0..MAILBOX_TRIES {
        if !matches!(reply, Err(CommandError::MailboxFull)) {
            break;
        }
        tokio::time::sleep(MAILBOX_RETRY).await;
        reply = plane.request(shard, command.clone());
    }
    Asked { shard, session, weight, reply }
}

/// A command that was put into the mailbox.
struct Asked {
    shard: ShardId,
    session: Option<SessionId>,
    weight: Weight,
    reply: Result<Reply, CommandError>,
}

/// What it means when a command is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// The session does not come to be.
    Birth,
    /// What the peer was told does not hold: the session ends.
    Vital,
    /// The peer does not hear it.
    Word,
    /// Nothing that lasts.
    Passing,
}

fn weigh(command: &Command) -> (Option<SessionId>, Weight) {
    match command {
        Command::AddSession(params) => (Some(params.session), Weight::Birth),
        Command::SetRemote { session, .. }
        | Command::RestartIce { session, .. }
        | Command::AddTrack { session, .. }
        | Command::AddLeg { session, .. }
        | Command::AddRelayedLeg { session, .. } => (Some(*session), Weight::Vital),
        Command::RemoveSession { session }
        | Command::RemoveTrack { session, .. }
        | Command::RemoveLeg { session, .. }
        | Command::SetMuted { session, .. } => (Some(*session), Weight::Passing),
        Command::SendData { session, .. } => (Some(*session), Weight::Word),
        Command::Snapshot { .. } => (None, Weight::Passing),
    }
}

async fn wait_until(deadline: Option<clock::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}
