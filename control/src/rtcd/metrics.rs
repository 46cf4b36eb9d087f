//! rtcd's metrics: its names, types, labels and buckets, so that its dashboard goes on.
//!
//! What is told here by signalling counts as it happens. What packets do is counted by the engine in tallies, one for each client
//! and kind of track, and put together when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sluice_engine::ids::TallyId;
use sluice_engine::metrics::{ForwardTimes, TrackTally};

use super::track_class::TrackClass;
use crate::metrics::histograms;

mod labels;
mod names;
#[cfg(test)]
mod tests;

pub use labels::{ConnState, Direction, ErrorKind};
pub use names::NAMES_MAX;
use names::Names;

/// Message types that clients are known to send; others are counted as `unknown`.
const TYPES_IN: [&str; 7] = ["hello", "close", "join", "leave", "reconnect", "rtc", "vad"];

/// Message types to clients that are counted.
const TYPES_OUT: [&str; 2] = ["rtc", "vad"];

const LATENCY_S: [f64; 14] =
    [0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0];
const LOSS: [f64; 12] = [0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0];
const DEFAULT_S: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// rtcd's metrics. Clones count together.
#[derive(Clone)]
pub struct RtcdMetrics {
    groups: Arc<Names>,
    clients: Arc<Names>,
    tracks: Family<Labels<3>, Gauge>,
    sessions: Family<Labels<1>, Gauge>,
    conn_states: Family<Labels<1>, Counter>,
    errors: Family<Labels<2>, Counter>,
    connection_time: Histograms,
    dc_open_time: Histograms,
    lock_grab_time: Histograms,
    lock_locked_time: Histograms,
    client_loss_rate: Histograms,
    client_rtt: Histograms,
    client_jitter: Histograms,
    ws_connections: Family<Labels<1>, Gauge>,
    ws_messages: Family<Labels<3>, Counter>,
}

impl Default for RtcdMetrics {
    fn default() -> Self {
        let by_default: fn() -> Histogram = || Histogram::new(DEFAULT_S);
        let by_latency: fn() -> Histogram = || Histogram::new(LATENCY_S);
        let by_loss: fn() -> Histogram = || Histogram::new(LOSS);
        let conn_states = Family::<Labels<1>, Counter>::default();
        // A rate cannot see a counter's first step unless it was there before, at zero.
        for state in ConnState::ALL {
            drop(conn_states.get_or_create(&[("type", state.label().to_owned())]));
        }
        Self {
            groups: Arc::default(),
            clients: Arc::default(),
            tracks: Family::default(),
            sessions: Family::default(),
            conn_states,
            errors: Family::default(),
            connection_time: Family::new_with_constructor(by_default),
            dc_open_time: Family::new_with_constructor(by_default),
            lock_grab_time: Family::new_with_constructor(by_default),
            lock_locked_time: Family::new_with_constructor(by_default),
            client_loss_rate: Family::new_with_constructor(by_loss),
            client_rtt: Family::new_with_constructor(by_latency),
            client_jitter: Family::new_with_constructor(by_latency),
            ws_connections: Family::default(),
            ws_messages: Family::default(),
        }
    }
}

impl RtcdMetrics {
    /// A session of `group` came to life.
    pub fn session_opened(&self, group: &str) {
        let group = self.groups.label(group);
        for kind in ErrorKind::ALL {
            let labels = [("groupID", group.clone()), ("type", kind.label().to_owned())];
            drop(self.errors.get_or_create(&labels));
        }
        self.sessions.get_or_create(&[("groupID", group)]).inc();
    }

    /// A session that was opened ended.
    pub fn session_closed(&self, group: &str) {
        self.sessions.get_or_create(&self.group(group)).dec();
    }

    /// A peer connection changed its state.
    pub fn conn_state(&self, state: ConnState) {
        self.conn_states.get_or_create(&[("type", state.label().to_owned())]).inc();
    }

    /// Something went wrong in a session of `group`.
    pub fn error(&self, group: &str, kind: ErrorKind) {
        let labels = [("groupID", self.groups.label(group)), ("type", kind.label().to_owned())];
        self.errors.get_or_create(&labels).inc();
    }

    /// Time from joining to a standing connection.
    pub fn connection_time(&self, group: &str, time: Duration) {
        self.observe(&self.connection_time, group, time.as_secs_f64());
    }

    /// Time from the first answer to an open data channel.
    pub fn dc_open_time(&self, group: &str, time: Duration) {
        self.observe(&self.dc_open_time, group, time.as_secs_f64());
    }

    /// Time that the server waited for the signalling lock.
    pub fn lock_grab_time(&self, group: &str, time: Duration) {
        self.observe(&self.lock_grab_time, group, time.as_secs_f64());
    }

    /// Time that somebody held the signalling lock.
    pub fn lock_locked_time(&self, group: &str, time: Duration) {
        self.observe(&self.lock_locked_time, group, time.as_secs_f64());
    }

    /// Share of packets that a client says it lost, 0 to 1.
    pub fn client_loss_rate(&self, group: &str, share: f64) {
        self.observe(&self.client_loss_rate, group, share);
    }

    /// Round-trip time that a client measured, seconds.
    pub fn client_rtt(&self, group: &str, seconds: f64) {
        self.observe(&self.client_rtt, group, seconds);
    }

    /// Jitter that a client measured, seconds.
    pub fn client_jitter(&self, group: &str, seconds: f64) {
        self.observe(&self.client_jitter, group, seconds);
    }

    /// A WebSocket of `client` was opened.
    pub fn ws_opened(&self, client: &str) {
        self.ws_connections.get_or_create(&self.client(client)).inc();
    }

    /// A WebSocket that was opened is gone.
    pub fn ws_closed(&self, client: &str) {
        self.ws_connections.get_or_create(&self.client(client)).dec();
    }

    /// A message came from or went to `client`. Types that clients are not known to send count as `unknown`; of those to clients only
    /// `rtc` and `vad` count at all.
    pub fn ws_message(&self, client: &str, message_type: &str, direction: Direction) {
        let is = |known: &&str| *known == message_type;
        let message_type = match direction {
            Direction::In => TYPES_IN.iter().copied().find(is).unwrap_or("unknown"),
            Direction::Out => match TYPES_OUT.iter().copied().find(is) {
                Some(known) => known,
                None => return,
            },
        };
        let labels = [
            ("clientID", self.clients.label(client)),
            ("type", message_type.to_owned()),
            ("direction", direction.label().to_owned()),
        ];
        self.ws_messages.get_or_create(&labels).inc();
    }

    /// A track came from (`In`) or goes to (`Out`) a session of `group`. `mime` is that of its codec, as negotiated: `audio/opus`.
    pub fn track_added(&self, group: &str, direction: Direction, mime: &str) {
        self.tracks.get_or_create(&self.track(group, direction, mime)).inc();
    }

    /// A track that was added is gone.
    pub fn track_removed(&self, group: &str, direction: Direction, mime: &str) {
        self.tracks.get_or_create(&self.track(group, direction, mime)).dec();
    }

    /// In which tally of its shard a published track is to be counted; for [`TrackParams`](sluice_engine::session::params::TrackParams).
    pub fn tally(&self, group: &str, class: TrackClass) -> TallyId {
        let place = self.groups.place(group) * TrackClass::ALL.len();
        // Fits, as the assertion below says.
        TallyId((FIRST_TALLY + place + class as usize) as u16)
    }

    fn track(&self, group: &str, direction: Direction, mime: &str) -> Labels<3> {
        let group = self.groups.label(group);
        let direction = direction.label().to_owned();
        [("groupID", group), ("direction", direction), ("type", mime.to_owned())]
    }

    fn group(&self, group: &str) -> Labels<1> {
        [("groupID", self.groups.label(group))]
    }

    fn client(&self, client: &str) -> Labels<1> {
        [("clientID", self.clients.label(client))]
    }

    /// What is no number, as a client may send it, would spoil the sum for ever.
    fn observe(&self, histograms: &Histograms, group: &str, value: f64) {
        if value.is_finite() {
            histograms.get_or_create(&self.group(group)).observe(value);
        }
    }

    /// Adds every metric below `registry`, whose prefix is rtcd's. `tallies` are those of all shards; none when a shard did not
    /// answer, since a sum without it would look like a restart.
    pub fn register(&self, registry: &mut Registry, tallies: &[&[TrackTally]]) {
        registry.register("rtc_rtp_tracks_total", "Tracks", self.tracks.clone());
        registry.register("rtc_sessions_total", "Sessions", self.sessions.clone());
        registry.register(
            "rtc_conn_states",
            "Changes of peer connections",
            self.conn_states.clone(),
        );
        registry.register("rtc_errors", "Errors of sessions", self.errors.clone());
        for (name, help, family) in [
            ("rtc_connection_time", "Time from joining to a connection", &self.connection_time),
            (
                "rtc_dc_open_time",
                "Time from the first answer to a data channel",
                &self.dc_open_time,
            ),
            (
                "rtc_signaling_lock_grab_time",
                "Time the server waited for the signalling lock",
                &self.lock_grab_time,
            ),
            (
                "rtc_signaling_lock_locked_time",
                "Time the signalling lock was held",
                &self.lock_locked_time,
            ),
            ("rtc_client_loss_rate", "Loss that clients measured", &self.client_loss_rate),
            ("rtc_client_rtt", "Round-trip time that clients measured", &self.client_rtt),
            ("rtc_client_jitter", "Jitter that clients measured", &self.client_jitter),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register("ws_connections_total", "WebSockets", self.ws_connections.clone());
        registry.register("ws_messages", "Messages on WebSockets", self.ws_messages.clone());
        self.register_tallies(registry, tallies);
    }

    fn register_tallies(&self, registry: &mut Registry, shards: &[&[TrackTally]]) {
        let mut write_times = BTreeMap::<_, ForwardTimes>::new();
        let packets = Family::<Labels<3>, Counter>::default();
        let bytes = Family::<Labels<3>, Counter>::default();
        let kinds =
            self.groups.all().into_iter().flat_map(|(place, group)| {
                TrackClass::ALL.map(|class| (place, group.clone(), class))
            });
        for (place, group, class) in kinds {
            let at = FIRST_TALLY + place * TrackClass::ALL.len() + class as usize;
            for tally in shards.iter().filter_map(|tallies| tallies.get(at)) {
                if tally.packets_in == 0 {
                    continue;
                }
                let key = (group.clone(), class.write_type());
                write_times.entry(key).or_default().add(&tally.forward_times);
                let ways = [
                    (Direction::In, tally.packets_in, tally.bytes_in),
                    (Direction::Out, tally.packets_out, tally.bytes_out),
                ];
                for (direction, count, size) in ways {
                    let labels = [
                        ("groupID", group.clone()),
                        ("direction", direction.label().to_owned()),
                        ("type", class.media_type().to_owned()),
                    ];
                    packets.get_or_create(&labels).inc_by(count);
                    bytes.get_or_create(&labels).inc_by(size);
                }
            }
        }
        let series = write_times.into_iter().map(|((group, write_type), times)| {
            ([("groupID", group), ("type", write_type.to_owned())], times)
        });
        histograms::register(
            registry,
            ("rtc_rtp_tracks_writes_time", "Time to write a packet for all that get it"),
            &LATENCY_S,
            series.collect(),
        );
        registry.register("rtc_rtp_packets", "RTP packets of tracks", packets);
        registry.register("rtc_rtp_bytes", "Bytes of RTP packets of tracks", bytes);
    }
}

/// Tallies below it are for tracks that are not of this interface.
const FIRST_TALLY: usize = 1;

const _: () = assert!(
    FIRST_TALLY + (NAMES_MAX + 1) * TrackClass::ALL.len() <= TallyId::MAX_TALLIES,
    "every client has a tally for each kind of track, those beyond the bound together as well"
);
