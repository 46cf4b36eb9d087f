//! What a fleet counts between two moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use sluice_engine::clock::{self, Instant};

use super::Fleet;
use super::peer::Peer;
use crate::histogram::Histogram;
use crate::impair::WayCounters;
use crate::probe;
use crate::worker::protocol::{ReceivedStreams, SentStream, Window};

/// Counters of a window, and of the whole run where it says so.
pub struct Tally {
    began: Instant,
    pub latency: Histogram,
    pub clock_error: Histogram,
    pub verified: u64,
    damaged: u64,
    damage: Option<String>,
    /// Packets of payload types that nobody agreed to.
    pub strange: u64,
    /// Latencies below nothing or beyond a minute.
    pub impossible: u64,
    pub clock_steps: u32,
    /// Whole run.
    pub join: Histogram,
    /// Whole run.
    pub first_frame: Histogram,
    /// Whole run.
    failures: Vec<String>,
    pub closed: u64,
    /// What those who left in the window had received and sent.
    pub left: Window,
    sent_before: BTreeMap<u32, (u64, u64, u64)>,
    upstream_before: i64,
    drops_before: u64,
    relay_before: u64,
    unsent_before: u64,
    ran_before: (f64, f64),
}

/// Failures told in words.
const FAILURES_MAX: usize = 5;

impl Tally {
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            latency: Histogram::default(),
            clock_error: Histogram::default(),
            verified: 0,
            damaged: 0,
            damage: None,
            strange: 0,
            impossible: 0,
            clock_steps: 0,
            join: Histogram::default(),
            first_frame: Histogram::default(),
            failures: Vec::new(),
            closed: 0,
            left: Window::default(),
            sent_before: BTreeMap::new(),
            upstream_before: 0,
            drops_before: 0,
            relay_before: 0,
            unsent_before: 0,
            ran_before: (0.0, 0.0),
        }
    }

    /// A packet was not what was sent.
    pub fn damage(&mut self, why: &str) {
        self.damaged += 1;
        self.damage.get_or_insert_with(|| why.to_owned());
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
            self.repaired += brought.late;
            self.frames.complete += brought.frames.complete;
            self.frames.incomplete += brought.frames.incomplete;
            self.frames.freezes += brought.frames.freezes;
            self.frames.frozen_s += brought.frames.frozen_s;
            if brought.packets > 0 {
                self.jitter.add(received.jitter());
            }
            match received.stream {
                Some(stream) if received.is_whole => {
                    whole.entry(stream).or_default().push(brought.packets);
                }
                _ => {
                    self.partial_expected += brought.packets + brought.gaps;
                    self.partial_received += brought.packets;
                }
            }
        }
    }

    /// Adds one of those who leave: theirs are no whole subscriptions.
    pub fn take_leaver(&mut self, peer: &mut Peer, now: Instant, running: bool) {
        for received in &mut peer.received {
            received.is_whole = false;
        }
        self.take(peer, now, running, &mut BTreeMap::new());
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
        let tally = &mut self.tally;
        tally.began = now;
        tally.latency = Histogram::default();
        tally.clock_error = Histogram::default();
        (tally.verified, tally.damaged, tally.damage) = (0, 0, None);
        (tally.strange, tally.impossible, tally.clock_steps, tally.closed) = (0, 0, 0, 0);
        tally.left = Window::default();
        tally.unsent_before = self.unsent;
        tally.ran_before = thread_times();
        self.tally.sent_before =
            self.sent().into_iter().map(|s| (s.stream, (s.packets, s.bytes, s.late))).collect();
        self.tally.upstream_before = self.upstream_lost();
        self.tally.drops_before = self.socket_drops();
        self.tally.relay_before = self.relay_dropped();
    }

    /// What was counted since.
    pub fn close_window(&mut self) -> Window {
        let now = clock::now();
        let mut sent = self.sent();
        for stream in &mut sent {
            let before = self.tally.sent_before.get(&stream.stream).copied().unwrap_or_default();
            stream.packets -= before.0.min(stream.packets);
            stream.bytes -= before.1.min(stream.bytes);
            stream.late -= before.2.min(stream.late);
        }
        let mut window = std::mem::take(&mut self.tally.left);
        let mut whole = BTreeMap::new();
        for peer in self.peers.iter_mut().flatten() {
            window.take(peer, now, self.is_publishing, &mut whole);
        }
        let (ran, waited) = thread_times();
        let tally = &mut self.tally;
        if tally.strange > 0 {
            let count = tally.strange;
            tally.damaged += count;
            tally.damage.get_or_insert_with(|| format!("{count} packets of unknown payload types"));
        }
        if tally.impossible > 0 {
            let count = tally.impossible;
            tally.fail(format!("{count} latencies were below nothing or beyond a minute"));
        }
        Window {
            sent,
            received: whole
                .into_iter()
                .map(|(stream, packets)| ReceivedStreams { stream, packets })
                .collect(),
            verified: tally.verified,
            damaged: tally.damaged,
            damage: tally.damage.clone(),
            latency: std::mem::take(&mut tally.latency),
            clock_error: std::mem::take(&mut tally.clock_error),
            join: tally.join.clone(),
            first_frame: tally.first_frame.clone(),
            sessions_closed: tally.closed,
            clock_steps: tally.clock_steps,
            failures: tally.failures.clone(),
            unsent: self.unsent - tally.unsent_before,
            ran_s: ran - tally.ran_before.0,
            waited_s: waited - tally.ran_before.1,
            elapsed_s: now
                .since(tally.began)
                .as_secs_f64()
                .max(Duration::from_millis(1).as_secs_f64()),
            upstream_lost: self.upstream_lost() - self.tally.upstream_before,
            socket_drops: self.socket_drops() - self.tally.drops_before,
            relay_dropped: self.relay_dropped() - self.tally.relay_before,
            ..window
        }
    }

    fn relay_dropped(&self) -> u64 {
        let Some(relay) = &self.relay else { return 0 };
        let counters = relay.counters();
        let dropped = |way: WayCounters| way.lost + way.burst_lost + way.queue_full;
        dropped(counters.up) + dropped(counters.down)
    }

    /// All that was sent so far, by stream.
    fn sent(&self) -> Vec<SentStream> {
        let peers = self.peers.iter().flatten();
        let streams = peers.flat_map(|peer| &peer.publications).map(|publication| SentStream {
            stream: publication.stream,
            packets: publication.sent(),
            bytes: publication.bytes(),
            late: publication.late,
        });
        streams.collect()
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

    /// Subscriptions that know their publisher, over all clients.
    pub(super) fn count_subscriptions(&self) -> u64 {
        let streams = self.peers.iter().flatten().flat_map(|peer| &peer.received);
        streams.filter(|stream| stream.stream.is_some()).count() as u64
    }
}

/// Seconds that this thread ran, and that it waited for a core.
fn thread_times() -> (f64, f64) {
    probe::schedstat("/proc/thread-self/schedstat")
}
