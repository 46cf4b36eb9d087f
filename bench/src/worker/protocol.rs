//! What a controller asks of its workers, and what they say: values, carried by a channel within a process and as lines of JSON
//! between hosts.

use serde::{Deserialize, Serialize};

use crate::conversation::Target;
use crate::histogram::Histogram;
use crate::result::Frames;
use crate::scenario::Scenario;

/// What the controller asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Says which run it is. Comes first.
    Prepare(Box<Assignment>),
    /// What the controller's wall clock showed when it sent this; answered at once.
    Clock { sent: u64 },
    /// By how many nanoseconds the controller's wall clock is ahead of the worker's.
    SetClock { ahead_ns: i64 },
    /// Begins to join.
    Join,
    /// Media on or off. Off is answered by [`Report::Quiet`] when nothing is under way any more.
    Publish(bool),
    /// Counts from here on.
    OpenWindow,
    /// Ends the count; answered by [`Report::Window`].
    CloseWindow,
    /// All leave; answered by [`Report::Left`].
    Leave,
}

/// One worker's part of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub target: Target,
    pub scenario: Scenario,
    /// Distinguishes this run's calls from all others.
    pub run: String,
    pub seed: u64,
    /// Share of received packets that are decrypted and checked.
    pub verify: f64,
    /// Whether traffic may go to public addresses.
    pub allow_public: bool,
    pub worker: u32,
    pub workers: u32,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It has its sockets and its connection to the server.
    Prepared {
        host: String,
    },
    /// Its own wall clock when it got the order.
    Clock {
        sent: u64,
        worker: u64,
    },
    /// Twice a second.
    Tick(Progress),
    /// Media is off and nothing is under way.
    Quiet,
    Window(Box<Window>),
    Left,
    /// Something that people should know.
    Warning(String),
    /// It cannot go on; why, for people.
    Failed(String),
}

/// How far a worker is; sums since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    pub joined: u32,
    /// Clients that could not join or whose session ended.
    pub failed: u32,
    pub packets_sent: u64,
    pub packets_received: u64,
    /// Numbers that lack in what they received.
    pub gaps: u64,
    /// Streams that clients receive and know the publisher of.
    pub subscriptions: u64,
}

/// What a worker counted in a window.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    pub sent: Vec<SentStream>,
    /// Whole subscriptions: those that were there from the beginning to the end.
    pub received: Vec<ReceivedStreams>,
    /// Packets of all others.
    pub partial_received: u64,
    /// Streams that somebody should have got and never got a packet of.
    pub missing: u64,
    /// Those who left for somebody new.
    pub replaced: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub verified: u64,
    pub damaged: u64,
    /// Why the first damaged packet was called so.
    pub damage: Option<String>,
    pub gaps: u64,
    /// Packets that came after later ones.
    pub late_packets: u64,
    pub upstream_lost: i64,
    pub sessions_closed: u64,
    pub socket_drops: u64,
    /// What relays in front of the server dropped, as they should.
    pub relay_dropped: u64,
    /// What went missing in relays by their own fault.
    pub relay_faults: u64,
    /// Datagrams that the kernel refused to send, or that there was no room for.
    pub unsent: u64,
    pub frames: Frames,
    pub latency: Histogram,
    pub clock_error: Histogram,
    pub jitter: Histogram,
    /// Over the whole run.
    pub join: Histogram,
    /// Over the whole run.
    pub first_frame: Histogram,
    /// Seconds that the worker's thread ran, and that it waited for a core.
    pub ran_s: f64,
    pub waited_s: f64,
    pub elapsed_s: f64,
    /// The wall clock was set during the window: latencies are of no use.
    pub clock_steps: u32,
    /// Why clients failed, the first few.
    pub failures: Vec<String>,
}

/// A stream that this worker's clients sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SentStream {
    pub stream: u32,
    pub packets: u64,
    pub bytes: u64,
    pub late: u64,
}

/// All subscriptions of this worker's clients to one stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReceivedStreams {
    pub stream: u32,
    /// Packets that each subscription got.
    pub packets: Vec<u64>,
}
