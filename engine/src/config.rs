//! What the engine is started with: raw documented fields, defaults, and the check that makes them usable.

use std::net::SocketAddr;
use std::time::Duration;

/// How datagrams reach the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendChoice {
    /// `uring` where a probe finds all it needs, else `mmsg`.
    Auto,
    /// io_uring; starting fails where the kernel or the container refuses it.
    Uring,
    /// epoll with recvmmsg and sendmmsg.
    Mmsg,
}

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Number of shards, one thread each. Range 1 to 1024. Default: the cores this process may use.
    pub shards: u16,
    /// Whether each shard is pinned to a core of its own, in order. Default: true.
    pub pin: bool,
    /// The cores that shards are pinned to, in their order, counted round. Empty for those that the process may use, ascending, as
    /// by default.
    pub cores: Vec<usize>,
    /// Which back-end moves datagrams. Default: `Auto`.
    pub backend: BackendChoice,
    /// UDP addresses to listen on, each with its port; one socket per shard and address. At least one unless `tcp_addresses` has one.
    /// Port 0 takes a free one, the same for all shards.
    pub addresses: Vec<SocketAddr>,
    /// TCP addresses to listen on for ICE-TCP. May be empty.
    pub tcp_addresses: Vec<SocketAddr>,
    /// Wanted SO_RCVBUF of each UDP socket, bytes. The kernel may grant less. Default: 16 MiB.
    pub receive_buffer_bytes: usize,
    /// Wanted SO_SNDBUF likewise.
    pub send_buffer_bytes: usize,
    /// The longest that a datagram lies before it is looked at, so that others join it and one wake-up serves them all. A shard
    /// finds its own time between zero and this by its load. Range 0, which is off, to 1 ms. Default: 500 µs.
    pub batch_window: Duration,
    /// Packets kept per video track for retransmission. Range 32 to 8192, a power of two. Default: 512. Memory: × 1.5 KiB per track.
    pub history_packets: usize,
    /// RTP padding in bytes that a video packet may get to be as long as the others of its frame, so that they leave as one run;
    /// 0 for none. Only towards subscribers with a retransmission stream.
    pub padding_bytes_max: u8,
    /// Sessions per shard. Default: 20,000.
    pub sessions_max: usize,
    /// Time from the peer's half being known to a finished handshake; the session closes after it. Default: 30 s.
    pub connect_timeout: Duration,
    /// Silence of authenticated checks after which nothing more is sent (RFC 7675 §5.1). Default: 30 s.
    pub consent_timeout: Duration,
    /// Time after consent was lost in which an ICE restart can bring the session back; it closes after it. Default: 30 s.
    pub disconnected_timeout: Duration,
    /// Least time between two key frame requests for one stream. Default: 1 s.
    pub keyframe_interval: Duration,
    /// How subscribers' paths are estimated and which simulcast layer each gets.
    pub layers: LayerConfig,
    /// When a voice begins and ceases to count as speech.
    pub voice_activity: VoiceActivityConfig,
}

/// How a subscriber's path is estimated, and when it gets another simulcast layer.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerConfig {
    /// Nominal rate of the lowest layer, bits per second. Default: 500,000.
    pub low_bps: u64,
    /// Nominal rate of the highest layer, bits per second; those between lie on a line. Default: 2,500,000.
    pub high_bps: u64,
    /// Share of a layer's rate that the estimate must exceed to carry it. Range 0.1 to 2. Default: 0.9.
    pub tolerance: f64,
    /// The estimate before any feedback, bits per second. Default: 250,000.
    pub estimate_initial_bps: u64,
    /// The least estimate, bits per second. Default: 250,000.
    pub estimate_min_bps: u64,
    /// The most estimate, bits per second. Default: 3,750,000.
    pub estimate_max_bps: u64,
    /// Window over which the lowest layer's rate is measured. Range 100 ms to 60 s. Default: 5 s.
    pub low_window: Duration,
    /// Window over which the other layers' rates are measured. Likewise. Default: 2 s.
    pub high_window: Duration,
    /// Mean time between two decisions for one leg. Default: 1 s.
    pub decision_interval: Duration,
    /// Decisions that may follow each other at once after a quiet time. Range 1 to 100. Default: 4.
    pub decision_burst: u32,
    /// Time after a leg's first switch in which it goes no higher. Default: 10 s.
    pub back_off: Duration,
    /// Growth of that time with each further switch, up to an hour. Range 1 to 10. Default: 1.5.
    pub back_off_growth: f64,
    /// Silence after which a layer counts as stopped, and its legs get another. Range 100 ms to 60 s. Default: 1 s.
    pub silence: Duration,
}

impl Default for LayerConfig {
    fn default() -> Self {
        Self {
            low_bps: 500_000,
            high_bps: 2_500_000,
            tolerance: 0.9,
            estimate_initial_bps: 250_000,
            estimate_min_bps: 250_000,
            estimate_max_bps: 3_750_000,
            low_window: Duration::from_secs(5),
            high_window: Duration::from_secs(2),
            decision_interval: Duration::from_secs(1),
            decision_burst: 4,
            back_off: Duration::from_secs(10),
            back_off_growth: 1.5,
            silence: Duration::from_secs(1),
        }
    }
}

/// When a voice begins and ceases to count as speech: by how far its latest audio levels are from their mean.
/// Memory: `levels` bytes per watched track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoiceActivityConfig {
    /// Packets whose levels are looked at. Range 2 to 1024. Default: 50, a second of Opus.
    pub levels: usize,
    /// Speech begins when the levels' standard deviation is above this, dB. Range 1 to 127. Default: 10.
    pub activation: u8,
    /// Speech ceases when it is below this, dB. Range 1 to `activation`. Default: 4.
    pub deactivation: u8,
    /// Least time from beginning to end of speech. Default: 2 s.
    pub active_time_min: Duration,
}

impl Default for VoiceActivityConfig {
    fn default() -> Self {
        Self {
            levels: 50,
            activation: 10,
            deactivation: 4,
            active_time_min: Duration::from_secs(2),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, |n| n.get() as u16),
            pin: true,
            cores: Vec::new(),
            backend: BackendChoice::Auto,
            addresses: Vec::new(),
            tcp_addresses: Vec::new(),
            receive_buffer_bytes: 16 << 20,
            send_buffer_bytes: 16 << 20,
            batch_window: Duration::from_micros(500),
            history_packets: 512,
            padding_bytes_max: 16,
            sessions_max: 20_000,
            connect_timeout: Duration::from_secs(30),
            consent_timeout: Duration::from_secs(30),
            disconnected_timeout: Duration::from_secs(30),
            keyframe_interval: Duration::from_secs(1),
            layers: LayerConfig::default(),
            voice_activity: VoiceActivityConfig::default(),
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The field of [`EngineConfig`].
    pub field: &'static str,
    /// What it was and what would be right.
    pub message: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for ConfigError {}

impl EngineConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// The first field that is out of range, with what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, message: String| Err(ConfigError { field, message });
        let shards_max = crate::ids::ShardId::MAX_SHARDS;
        if !(1..=shards_max).contains(&self.shards) {
            return refuse("shards", format!("{} is not between 1 and {shards_max}", self.shards));
        }
        if self.addresses.is_empty() && self.tcp_addresses.is_empty() {
            return refuse("addresses", "no address to listen on".to_owned());
        }
        if self.addresses.len() + self.tcp_addresses.len() > 256 {
            return refuse("addresses", "more than 256 addresses".to_owned());
        }
        if self.batch_window > Duration::from_millis(1) {
            return refuse("batch_window", format!("{:?} is above 1 ms", self.batch_window));
        }
        if !self.history_packets.is_power_of_two() || !(32..=8192).contains(&self.history_packets) {
            return refuse(
                "history_packets",
                format!("{} is not a power of two between 32 and 8192", self.history_packets),
            );
        }
        if !(1..=1_000_000).contains(&self.sessions_max) {
            return refuse(
                "sessions_max",
                format!("{} is not between 1 and 1000000", self.sessions_max),
            );
        }
        let VoiceActivityConfig { levels, activation, deactivation, .. } = self.voice_activity;
        if !(2..=1024).contains(&levels) {
            return refuse("voice_activity.levels", format!("{levels} is not between 2 and 1024"));
        }
        if !(1..=127).contains(&activation) || !(1..=activation).contains(&deactivation) {
            return refuse(
                "voice_activity",
                format!(
                    "activation {activation} is not between 1 and 127, or deactivation {deactivation} \
                     not between 1 and activation"
                ),
            );
        }
        self.layers.validate()
    }
}

impl LayerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, message: String| Err(ConfigError { field, message });
        if self.low_bps > self.high_bps {
            let message = format!("{} is above high_bps, {}", self.low_bps, self.high_bps);
            return refuse("layers.low_bps", message);
        }
        let (min, max) = (self.estimate_min_bps, self.estimate_max_bps);
        if min > max || !(min..=max).contains(&self.estimate_initial_bps) {
            let initial = self.estimate_initial_bps;
            let message = format!(
                "{initial} is not between estimate_min_bps, {min}, and estimate_max_bps, {max}"
            );
            return refuse("layers.estimate_initial_bps", message);
        }
        let shares = [
            ("layers.tolerance", self.tolerance, 0.1, 2.0),
            ("layers.back_off_growth", self.back_off_growth, 1.0, 10.0),
        ];
        for (field, value, least, most) in shares {
            if !(least..=most).contains(&value) {
                return refuse(field, format!("{value} is not between {least} and {most}"));
            }
        }
        let windows = [
            ("layers.low_window", self.low_window),
            ("layers.high_window", self.high_window),
            ("layers.silence", self.silence),
        ];
        for (field, window) in windows {
            if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&window) {
                return refuse(field, format!("{window:?} is not between 100 ms and 60 s"));
            }
        }
        if !(1..=100).contains(&self.decision_burst) {
            let message = format!("{} is not between 1 and 100", self.decision_burst);
            return refuse("layers.decision_burst", message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_wait_a_millisecond_at_most() {
        let check = |micros| {
            let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
            let batch_window = Duration::from_micros(micros);
            let config = EngineConfig { addresses, batch_window, ..EngineConfig::default() };
            config.validate().err().map(|error| error.field)
        };
        assert_eq!((check(0), check(1_000)), (None, None));
        assert_eq!(check(1_001), Some("batch_window"));
    }

    #[test]
    fn layers_are_checked_field_by_field() {
        let check = |change: fn(&mut LayerConfig)| {
            let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
            let mut config = EngineConfig { addresses, ..EngineConfig::default() };
            change(&mut config.layers);
            config.validate().err().map(|error| error.field)
        };
        assert_eq!(check(|_| {}), None);
        assert_eq!(check(|l| l.low_bps = l.high_bps + 1), Some("layers.low_bps"));
        let initial = Some("layers.estimate_initial_bps");
        assert_eq!(check(|l| l.estimate_initial_bps = 1), initial);
        assert_eq!(check(|l| l.estimate_min_bps = l.estimate_max_bps + 1), initial);
        assert_eq!(check(|l| l.tolerance = f64::NAN), Some("layers.tolerance"));
        assert_eq!(check(|l| l.back_off_growth = 0.9), Some("layers.back_off_growth"));
        assert_eq!(check(|l| l.low_window = Duration::ZERO), Some("layers.low_window"));
        assert_eq!(check(|l| l.high_window = Duration::MAX), Some("layers.high_window"));
        assert_eq!(check(|l| l.silence = Duration::ZERO), Some("layers.silence"));
        assert_eq!(check(|l| l.decision_burst = 0), Some("layers.decision_burst"));
    }
}
