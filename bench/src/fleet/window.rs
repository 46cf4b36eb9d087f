//! What a fleet counts between two moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use sluice_engine::clock::{self, Instant};

use super::Fleet;
use super::peer::{Peer, Stage};
use crate::histogram::Histogram;
use crate::impair::{RelayCounters, WayCounters};
use crate::probe;
use crate::worker::protocol::{ReceivedStreams, SentStream, Window};

/// Counters of a window, and of the whole run where it says so.
pub struct Tally {
    began: Instant,
    /// What is counted as it happens; the rest is added when it ends.
    pub window: Window,
    /// Packets of payload types that nobody agreed to.
    pub strange: u64,
    /// Latencies below nothing or beyond a minute.
    pub impossible: u64,
    /// Whole run.
    pub join: Histogram,
    /// Whole run.
    pub first_frame: Histogram,
    /// Whole run.
    failures: Vec<String>,
    /// When the media was stopped, and what the thread had run and waited until then.
    stopped: Option<(Instant, f64, f64)>,
    sent_before: BTreeMap<u32, SentStream>,
    upstream_before: i64,
    drops_before: u64,
    /// What it dropped as it should, and by its own fault.
    relay_before: (u64, u64),
    unsent_before: u64,
    ran_before: (f64, f64),
}

/// After this long everybody gets every stream.
const FIRST_PACKET_MAX: Duration = Duration::from_secs(5);

/// Failures told in words.
const FAILURES_MAX: usize = 5;

impl Tally {
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            window: Window::default(),
            strange: 0,
            impossible: 0,
            join: Histogram::default(),
            first_frame: Histogram::default(),
            failures: Vec::new(),
            stopped: None,
            sent_before: BTreeMap::new(),
            upstream_before: 0,
            drops_before: 0,
            relay_before: (0, 0),
            unsent_before: 0,
            ran_before: (0.0, 0.0),
        }
    }

    /// A packet was not what was sent.
    pub fn damage(&mut self, why: &str) {
        self.window.damaged += 1;
        self.window.damage.get_or_insert_with(|| why.to_owned());
    }

    /// The media stops: what the thread does from here on is not part of the load.
    pub fn stop(&mut self, now: Instant) {
        let (ran, waited) = thread_times();
        self.stopped = Some((now, ran, waited));
    }

    /// Adds what one of those who leave received, which was no whole subscription, and sent.
    pub fn take_leaver(&mut self, peer: &mut Peer, now: Instant, running: bool) {
        for received in &mut peer.received {
            received.is_whole = false;
        }
        self.window.take(peer, now, running, &mut BTreeMap::new());
        self.window.sent.extend(sent_by(peer).map(|sent| less(sent, &self.sent_before)));
        self.window.upstream_lost += peer.upstream_lost();
    }

    /// A client cannot go on.
    pub fn fail(&mut self, why: String) {
        if self.failures.len() < FAILURES_MAX && !self.failures.contains(&why) {
            self.failures.push(why);
        }
    }
}

impl Window {
    /// Adds what a client received since the window began. `whole`: it was there all the time.
    fn take(
        &mut self,
        peer: &mut Peer,
        now: Instant,
        running: bool,
        whole: &mut BTreeMap<u32, Vec<u64>>,
    ) {
        for received in &mut peer.received {
            let brought = received.close_window(now, running);
            self.packets_out += brought.packets;
            self.bytes_out += brought.bytes;
            self.gaps += brought.gaps;
            self.late_packets += brought.late;
            self.frames += brought.frames;
            if brought.packets > 0 {
                self.jitter.add(received.jitter());
            }
            match received.stream {
                Some(stream) if received.is_whole => {
                    whole.entry(stream).or_default().push(brought.packets);
                }
                _ => self.partial_received += brought.packets,
            }
        }
    }
}

impl Fleet {
    /// Counts from here on.
    pub fn open_window(&mut self) {
        let now = clock::now();
        for peer in self.peers.iter_mut().flatten() {
            for received in &mut peer.received {
                received.open_window(now, self.is_publishing);
            }
        }
        self.begin_moving(now);
        let tally = &mut self.tally;
        (tally.began, tally.stopped) = (now, None);
        tally.window = Window::default();
        (tally.strange, tally.impossible) = (0, 0);
        tally.unsent_before = self.unsent;
        tally.ran_before = thread_times();
        self.tally.sent_before = self.sent().map(|sent| (sent.stream, sent)).collect();
        self.tally.upstream_before = self.upstream_lost();
        self.tally.drops_before = self.socket_drops();
        self.tally.relay_before = (self.relay_sum(dropped), self.relay_sum(faults));
    }

    /// What was counted since.
    pub fn close_window(&mut self) -> Window {
        let now = clock::now();
        let mut window = std::mem::take(&mut self.tally.window);
        window.sent.extend(self.sent().map(|sent| less(sent, &self.tally.sent_before)));
        window.upstream_lost += self.upstream_lost() - self.tally.upstream_before;
        window.missing = self.count_missing(now);
        let mut whole = BTreeMap::new();
        for peer in self.peers.iter_mut().flatten() {
            window.take(peer, now, self.is_publishing, &mut whole);
        }
        let running = thread_times();
        let tally = &mut self.tally;
        let (ended, ran, waited) = tally.stopped.unwrap_or((now, running.0, running.1));
        if tally.strange > 0 {
            let count = tally.strange;
            window.damaged += count;
            let why = || format!("{count} packets of unknown payload types");
            window.damage.get_or_insert_with(why);
        }
        if tally.impossible > 0 {
            let count = tally.impossible;
            tally.fail(format!("{count} latencies were below nothing or beyond a minute"));
        }
        Window {
            received: whole
                .into_iter()
                .map(|(stream, packets)| ReceivedStreams { stream, packets })
                .collect(),
            join: tally.join.clone(),
            first_frame: tally.first_frame.clone(),
            failures: tally.failures.clone(),
            unsent: self.unsent - tally.unsent_before,
            ran_s: ran - tally.ran_before.0,
            waited_s: waited - tally.ran_before.1,
            elapsed_s: ended.since(tally.began).as_secs_f64().max(1e-3),
            socket_drops: self.socket_drops().saturating_sub(self.tally.drops_before),
            relay_dropped: self.relay_sum(dropped).saturating_sub(self.tally.relay_before.0),
            relay_faults: self.relay_sum(faults).saturating_sub(self.tally.relay_before.1),
            ..window
        }
    }

    fn relay_sum(&self, of: fn(&RelayCounters) -> u64) -> u64 {
        self.relays.values().map(|relay| of(&relay.counters())).sum()
    }

    /// All that was sent so far by those who are here.
    fn sent(&self) -> impl Iterator<Item = SentStream> {
        self.peers.iter().flatten().flat_map(sent_by)
    }

    /// Streams that somebody who is here for a while should get and never got a packet of.
    fn count_missing(&self, now: Instant) -> u64 {
        let scenario = &self.assignment.scenario;
        let streams = u64::from(scenario.calls.unmuted + scenario.calls.screens);
        let missing = self.peers.iter().flatten().filter(|peer| {
            peer.stage == Stage::Joined
                && peer.receives
                && now.since(peer.asked_at) > FIRST_PACKET_MAX
        });
        let each = missing.map(|peer| {
            let own = peer.seat.sources(scenario).len() as u64;
            let known =
                peer.received.iter().filter(|stream| stream.stream.is_some()).count() as u64;
            (streams - own).saturating_sub(known)
        });
        each.sum()
    }

    fn upstream_lost(&self) -> i64 {
        self.peers.iter().flatten().map(Peer::upstream_lost).sum()
    }

    /// Datagrams that sockets of ours had no room for.
    fn socket_drops(&self) -> u64 {
        let ports: BTreeSet<u16> = self.ports.iter().copied().collect();
        let tables = ["/proc/net/udp", "/proc/net/udp6"].map(fs::read_to_string);
        let tables = tables.iter().flatten();
        tables.map(|table| probe::socket_drops(table, |port| ports.contains(&port))).sum()
    }
}

fn sent_by(peer: &Peer) -> impl Iterator<Item = SentStream> {
    peer.publications.iter().map(|publication| SentStream {
        stream: publication.stream,
        packets: publication.sent(),
        bytes: publication.bytes(),
        late: publication.late,
    })
}

/// What was sent since the window began.
fn less(mut sent: SentStream, before: &BTreeMap<u32, SentStream>) -> SentStream {
    if let Some(before) = before.get(&sent.stream) {
        sent.packets = sent.packets.saturating_sub(before.packets);
        sent.bytes = sent.bytes.saturating_sub(before.bytes);
        sent.late = sent.late.saturating_sub(before.late);
    }
    sent
}

fn dropped(counters: &RelayCounters) -> u64 {
    let of = |way: &WayCounters| way.lost + way.burst_lost + way.queue_full;
    of(&counters.up) + of(&counters.down)
}

fn faults(counters: &RelayCounters) -> u64 {
    counters.up.own_faults() + counters.down.own_faults() + counters.refused
}

/// Seconds that this thread ran, and that it waited for a core.
fn thread_times() -> (f64, f64) {
    probe::schedstat("/proc/thread-self/schedstat")
}
