//! A shard: all state of one core, and the turn that moves it.
//!
//! [`Shard::turn`] is the whole of it: receive a batch, handle each, what other shards passed on, tracks of other shards, timers, mailbox, flush. The
//! same turn runs on a pinned thread over a real back-end and in the simulator over a seeded network with a virtual clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver as MailboxReceiver;

use foldhash::fast::RandomState;

use crate::call::Call;
use crate::call::table::ForwardTable;
use crate::clock::{Instant, WallClock};
use crate::config::EngineConfig;
use crate::drop_reason::{DropCounters, DropReason};
use crate::dtls::Identity;
use crate::egress::Egress;
use crate::ids::{CallId, SessionId, SessionKey, ShardId, TrackId, TrackKey};
use crate::io::Network;
use crate::metrics::{ShardCounters, TrackTally};
use crate::route::{PathId, Route};
use crate::session::blocks::Blocks;
use crate::session::feedback::Wishes;
use crate::session::{Due, Session, Surroundings, Timeouts};
use crate::slots::Slots;
use crate::wire::classify::{Kind, classify};

pub mod budget;
mod checks;
mod collect;
mod commands;
mod data;
pub mod demux;
pub mod handle;
mod handshakes;
pub mod launch;
pub mod limits;
pub mod mailbox;
mod media;
mod relay;
mod stage;
pub mod steering;
pub mod timer_wheel;

use crate::session_error::SessionError;
use data::data_bytes;
use demux::{Demux, Owner};
use handle::{Envelope, Reports};
use mailbox::Report;
use relay::Relayed;
use stage::Stage;
use steering::{STEERED_BYTES_MAX, Steering};
use timer_wheel::TimerWheel;

/// All state of one core.
pub struct Shard {
    id: ShardId,
    config: EngineConfig,
    timeouts: Timeouts,
    identity: Arc<Identity>,
    wall: WallClock,
    rng: fastrand::Rng,
    sessions: Slots<SessionKey, Session>,
    by_id: HashMap<SessionId, SessionKey, RandomState>,
    calls: HashMap<CallId, Call, RandomState>,
    table: ForwardTable,
    by_track: HashMap<TrackId, TrackKey, RandomState>,
    relayed: Relayed,
    legs: usize,
    demux: Demux,
    wheel: TimerWheel,
    stage: Stage,
    blocks: Blocks,
    egress: Egress,
    wishes: Wishes,
    steering: Steering,
    deferred: VecDeque<(SessionKey, Box<[u8]>)>,
    mailbox: MailboxReceiver<Envelope>,
    reports: Box<dyn Reports>,
    backlog: VecDeque<Report>,
    /// Bytes of data messages in the backlog.
    backlog_bytes: usize,
    /// Sessions whose data channels have something to report; each once.
    data_waiting: VecDeque<SessionKey>,
    closing_paths: Vec<PathId>,
    counters: ShardCounters,
    drops: DropCounters,
    /// By [`TallyId`](crate::ids::TallyId); grows when a track with a higher one is added.
    tallies: Vec<TrackTally>,
    /// Which shard passes on what arrives on these routes of ours.
    steered_from: HashMap<Route, ShardId, RandomState>,
    handshakes_left: usize,
    /// Who is being served: taken down when serving it panics.
    current: Option<SessionKey>,
    stopping: bool,
}

/// What a shard is made of.
pub struct ShardParts {
    /// Which shard.
    pub id: ShardId,
    /// The validated configuration.
    pub config: EngineConfig,
    /// The process's certificate.
    pub identity: Arc<Identity>,
    /// Dates sender reports.
    pub wall: WallClock,
    /// Seeds everything that is random here but not secret.
    pub seed: u64,
    /// The rings to the other shards.
    pub steering: Steering,
    /// Where commands come from.
    pub mailbox: MailboxReceiver<Envelope>,
    /// Where reports go.
    pub reports: Box<dyn Reports>,
}

/// When the next turn should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextWake {
    /// At once: something is left to do.
    Now,
    /// When something arrives, at this moment at the latest.
    At(Instant),
    /// When something arrives.
    Arrival,
}

impl Shard {
    /// Makes a shard that has no sessions.
    pub fn new(now: Instant, parts: ShardParts) -> Self {
        let timeouts = Timeouts {
            connect: parts.config.connect_timeout,
            consent: parts.config.consent_timeout,
            disconnected: parts.config.disconnected_timeout,
        };
        Self {
            id: parts.id,
            timeouts,
            identity: parts.identity,
            wall: parts.wall,
            rng: fastrand::Rng::with_seed(parts.seed),
            sessions: Slots::default(),
            by_id: HashMap::default(),
            calls: HashMap::default(),
            table: ForwardTable::default(),
            by_track: HashMap::default(),
            relayed: Relayed::default(),
            legs: 0,
            demux: Demux::default(),
            wheel: TimerWheel::new(now),
            stage: Stage::new(budget::STAGED_PACKETS, budget::STAGED_BYTES),
            blocks: Blocks::new(),
            egress: Egress::new(budget::EGRESS_DATAGRAMS, budget::EGRESS_BYTES),
            wishes: Wishes::new(),
            steering: parts.steering,
            deferred: VecDeque::new(),
            mailbox: parts.mailbox,
            reports: parts.reports,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            data_waiting: VecDeque::new(),
            closing_paths: Vec::new(),
            counters: ShardCounters::default(),
            drops: DropCounters::default(),
            tallies: Vec::new(),
            steered_from: HashMap::default(),
            handshakes_left: budget::HANDSHAKES,
            config: parts.config,
            current: None,
            stopping: false,
        }
    }

    /// Does one turn: everything that has arrived and is due, within its budget, and the flush of what it led to.
    pub fn turn<N: Network>(&mut self, now: Instant, network: &mut N) -> NextWake {
        self.counters.turns += 1;
        let received = self.receive(now, network);
        let has_mail = self.steering.has_mail();
        let steered = has_mail && self.receive_steered(now, network);
        let relayed = has_mail && self.receive_relayed(now, network);
        self.forward_staged(now, network);
        let deferred = self.resume_handshakes(now);
        self.fire_timers(now, network);
        let commands = self.take_commands(now, network);
        self.deliver_reports();
        let data = self.resume_data(now);
        self.flush(network);
        self.say_what_is_wanted(now);
        self.steering.wake_touched();
        self.deliver_reports();
        if received
            || steered
            || relayed
            || deferred
            || commands
            || data
            || self.steering.has_mail()
        {
            return NextWake::Now;
        }
        let is_waiting =
            self.steering.is_waiting() || !self.backlog.is_empty() || self.relayed.is_waiting();
        let retry = is_waiting.then(|| now + RETRY);
        let refresh = self.relayed.next_refresh();
        match self.wheel.next_deadline().into_iter().chain(retry).chain(refresh).min() {
            Some(deadline) => NextWake::At(deadline),
            None => NextWake::Arrival,
        }
    }

    /// Whether the control plane asked the shard to end; what it had to say is flushed.
    pub fn is_stopped(&self) -> bool {
        self.stopping
    }

    /// Datagrams that turns took so far, from the network and from other shards.
    pub fn datagrams_taken(&self) -> u64 {
        self.counters.datagrams_in + self.counters.steered_in + self.counters.relayed_in
    }

    /// Counts time spent in turns.
    pub fn count_busy(&mut self, busy: std::time::Duration) {
        self.counters.busy_us += busy.as_micros() as u64;
    }

    /// Counts a wait that lets datagrams lie for up to `window`.
    pub fn count_wait(&mut self, window: std::time::Duration) {
        self.counters.wakes += 1;
        self.counters.collect_window_us += window.as_micros() as u64;
    }

    /// Sessions on this shard.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Routes that this shard knows to belong to others.
    pub fn foreign_routes(&self) -> usize {
        self.demux.foreign()
    }

    /// The shard's counters.
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    /// The shard's drop counters.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// After a panic in [`Shard::turn`]: takes down the session that was being served and drops what the turn had not sent.
    pub fn recover<N: Network>(&mut self, now: Instant, network: &mut N) {
        self.counters.panics += 1;
        self.egress.clear();
        self.stage = Stage::new(budget::STAGED_PACKETS, budget::STAGED_BYTES);
        if let Some(key) = self.current.take() {
            self.end_session(now, key, SessionError::Internal);
        }
        if let Some(key) = self.relayed.current.take() {
            self.give_up(key);
        }
        while network.next_datagram().is_some() {}
        self.flush(network);
    }

    fn receive<N: Network>(&mut self, now: Instant, network: &mut N) -> bool {
        self.handshakes_left = budget::HANDSHAKES;
        let waiting = network.receive(budget::DATAGRAMS);
        for _ in 0..waiting {
            self.make_room(now, network);
            let Some((route, datagram)) = network.next_datagram() else { break };
            self.counters.datagrams_in += 1;
            self.counters.datagram_bytes_in += datagram.len() as u64;
            match classify(datagram) {
                Some(Kind::Stun) => {
                    // The answer needs the network, which lends the datagram: go on with a copy.
                    let mut copy = [0; STUN_MAX];
                    match copy.get_mut(..datagram.len()) {
                        Some(copy) => {
                            copy.copy_from_slice(datagram);
                            self.handle_stun(now, route, copy, None, network);
                        }
                        None => self.drops.count(DropReason::BadStun),
                    }
                }
                Some(kind) => self.handle_datagram(now, kind, route, datagram, None),
                None => self.drops.count(DropReason::Unclassified),
            }
            self.current = None;
        }
        while let Some(route) = network.next_closed() {
            self.forget_route(route);
        }
        waiting >= budget::DATAGRAMS
    }

    fn receive_steered<N: Network>(&mut self, now: Instant, network: &mut N) -> bool {
        let mut more = false;
        let mut buffer = [0; STEERED_BYTES_MAX];
        for from in (0..self.steering.shards() as u16).map(ShardId) {
            let mut left = budget::STEERED;
            while left > 0
                && let Some((route, len)) = self.steering.take_datagram(from, &mut buffer)
            {
                left -= 1;
                self.counters.steered_in += 1;
                self.make_room(now, network);
                let datagram = &mut buffer[..len];
                match classify(datagram) {
                    Some(Kind::Stun) => self.handle_stun(now, route, datagram, Some(from), network),
                    Some(kind) => self.handle_datagram(now, kind, route, datagram, Some(from)),
                    None => self.drops.count(DropReason::Unclassified),
                }
                self.current = None;
            }
            more |= left == 0;
            while let Some(handover) = self.steering.take_handover(from) {
                self.handle_handover(now, from, handover, network);
            }
        }
        more
    }

    /// Makes sure that whatever one datagram leads to has room.
    fn make_room<N: Network>(&mut self, now: Instant, network: &mut N) {
        if self.stage.is_crowded() {
            self.forward_staged(now, network);
        }
        if self.egress.is_crowded() {
            self.flush(network);
        }
    }

    /// Anything but STUN: only from a route that belongs to somebody.
    fn handle_datagram(
        &mut self,
        now: Instant,
        kind: Kind,
        route: Route,
        datagram: &mut [u8],
        via: Option<ShardId>,
    ) {
        let key = match self.demux.owner(&route) {
            Some(Owner::Session(key)) => key,
            // Passed on once only: two shards with stale pointers must not play ping-pong.
            Some(Owner::Shard(shard)) if via.is_none() => {
                match self.steering.send_datagram(shard, route, datagram) {
                    true => self.counters.steered_out += 1,
                    false => self.drops.count(DropReason::RelayFull),
                }
                return;
            }
            _ => return self.drops.count(DropReason::UnknownRoute),
        };
        self.current = Some(key);
        match kind {
            Kind::Rtp => self.handle_rtp(now, key, datagram),
            Kind::Rtcp => self.handle_rtcp(now, key, datagram),
            Kind::Dtls => self.handle_dtls(now, key, datagram),
            Kind::Stun => {}
        }
    }

    fn fire_timers<N: Network>(&mut self, now: Instant, network: &mut N) {
        while let Some(slot) = self.wheel.pop_due(now) {
            let Some(key) = self.sessions.key_at(slot) else { continue };
            if self.egress.is_crowded() {
                self.flush(network);
            }
            let Some(session) = self.sessions.get_mut(key) else { continue };
            self.current = Some(key);
            let due = session.handle_timeout(&mut Surroundings {
                now,
                wall: &self.wall,
                table: &self.table,
                rng: &mut self.rng,
                egress: &mut self.egress,
                counters: &mut self.counters,
            });
            let id = session.id;
            let deadline = session.next_deadline();
            self.arm(key, deadline);
            self.drop_stale_routes(key);
            match due {
                Due::Nothing => {}
                Due::Disconnected => self.report(Report::Disconnected { session: id }),
                Due::Connected => self.connected(now, key),
                Due::Ended(error) => self.end_session(now, key, error),
            }
            self.serve_data(now, key);
            self.current = None;
        }
    }

    fn arm(&mut self, key: SessionKey, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.wheel.arm(key.slot, deadline);
        }
    }

    /// Ends a session by itself: tells control why.
    fn end_session(&mut self, now: Instant, key: SessionKey, error: SessionError) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let id = session.id;
        if error != SessionError::Internal {
            session.send_goodbye(now, &mut self.egress);
        }
        if error != SessionError::PeerLeft {
            self.counters.sessions_failed += 1;
        }
        self.remove_session(key);
        self.report(Report::Closed { session: id, error });
    }

    fn flush<N: Network>(&mut self, network: &mut N) {
        let counted = (&mut self.counters, &mut self.drops);
        send(&mut self.egress, &mut self.closing_paths, counted, network);
    }

    fn report(&mut self, report: Report) {
        if self.backlog.len() == budget::REPORTS {
            self.counters.reports_lost += 1;
            return;
        }
        self.backlog_bytes += data_bytes(&report);
        self.backlog.push_back(report);
    }

    fn deliver_reports(&mut self) {
        while let Some(report) = self.backlog.pop_front() {
            let bytes = data_bytes(&report);
            if let Err(report) = self.reports.try_report(report) {
                self.backlog.push_front(report);
                break;
            }
            self.backlog_bytes -= bytes;
        }
    }
}

/// Sends what `egress` holds, closes the paths that were waiting for that, and counts.
fn send<N: Network>(
    egress: &mut Egress,
    closing_paths: &mut Vec<PathId>,
    (counters, drops): (&mut ShardCounters, &mut DropCounters),
    network: &mut N,
) {
    network.flush(egress);
    let sent = std::mem::take(&mut egress.sent);
    counters.datagrams_out += sent.datagrams;
    counters.datagram_bytes_out += sent.bytes;
    counters.runs_out += sent.runs;
    drops.take_from(&mut egress.drops);
    for path in closing_paths.drain(..) {
        network.close_path(path);
    }
}

/// The largest STUN message we read; browsers stay below 200 bytes.
const STUN_MAX: usize = 1_280;

/// How long a shard with undelivered reports or messages to other shards sleeps before it tries again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(5);
