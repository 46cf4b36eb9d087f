//! Settings: defaults → TOML file → environment → flags, then one check. Past start nobody reads
//! raw settings.

pub mod document;
pub mod file;
pub mod keys;
pub mod overrides;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use sluice_engine::config::{BackendChoice, EngineConfig, LayerConfig};
use sluice_tuning::demand::Goal;
use sluice_tuning::load::Load;

use keys::{KEYS, Key};
pub use overrides::{AddressPair, HostOverride, PortOverride};
pub use value::IceServer;
use value::Value;

/// Everything `sluice serve` is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP server.
    pub http: HttpConfig,
    /// The bearer token of the native API, WHIP and WHEP; without one only loopback clients are
    /// answered.
    pub token: Option<Secret>,
    /// Who may use rtcd's API.
    pub security: SecurityConfig,
    /// The directory of the registered clients' store.
    pub store: PathBuf,
    /// Where media arrives and what is advertised.
    pub media: MediaConfig,
    /// STUN and TURN servers for WHIP and WHEP clients.
    pub ice_servers: Vec<IceServer>,
    /// The data plane; its addresses are filled in at start, from [`Config::media`], its cores and buffers from what the host's
    /// tuning says.
    pub engine: EngineConfig,
    /// What is done about the host's settings.
    pub tuning: TuningConfig,
    /// Bounds of the control plane.
    pub limits: Limits,
    /// Time that calls may go on after a signal to end.
    pub drain_timeout: Duration,
    /// What is logged where.
    pub logger: LoggerConfig,
}

impl Config {
    /// What the host is to carry.
    pub fn goal(&self) -> Goal {
        Goal {
            load: self.tuning.load.clone().unwrap_or_default(),
            load_is_given: self.tuning.load.is_some(),
            shards: Some(u32::from(self.engine.shards)),
            media_port: self.media.udp_port,
            // Zero lets the load decide.
            socket_buffer_bytes: Some(self.tuning.socket_buffer_bytes.unwrap_or(0) as u64),
        }
    }
}

/// What is done about the host's settings, and for which load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TuningConfig {
    /// What is done.
    pub mode: TuneMode,
    /// The load that is expected, when one is named.
    pub load: Option<Load>,
    /// Receive and send buffer wanted for each UDP socket, bytes; what the load needs, when none is named.
    pub socket_buffer_bytes: Option<usize>,
}

/// How far tuning goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TuneMode {
    /// Nobody looks.
    Off,
    /// What is wrong is said.
    Check,
    /// What is wrong is changed, where the process may.
    Apply,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who may use rtcd's API.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// The admin's key, when there is an admin.
    pub admin: Option<Secret>,
    /// Whether clients may register themselves.
    pub self_registration: bool,
    /// How long a bearer token is good for.
    pub token_lifetime: Duration,
}

/// The HTTP server's settings.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Addresses to try, the first that can be bound is used.
    pub listen: Vec<SocketAddr>,
    /// Certificate and key files, when HTTPS is served.
    pub tls: Option<TlsFiles>,
    /// Connections open at a time.
    pub connections_max: usize,
    /// Time for a request's header.
    pub header_timeout: Duration,
    /// Time for a request's body.
    pub body_timeout: Duration,
}

/// PEM files of the HTTPS server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Where media arrives.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// Addresses for UDP; empty for all.
    pub udp: Vec<IpAddr>,
    /// Port for UDP.
    pub udp_port: u16,
    /// Addresses for TCP; empty for all.
    pub tcp: Vec<IpAddr>,
    /// Port for TCP.
    pub tcp_port: u16,
    /// Whether "all" holds IPv6 addresses.
    pub ipv6: bool,
    /// Whether loopback candidates are advertised.
    pub advertise_loopback: AdvertiseLoopback,
    /// Advertised instead of local addresses.
    pub host_override: HostOverride,
    /// Advertised with external addresses instead of the local port.
    pub port_override: Option<PortOverride>,
}

/// Whether candidates on loopback addresses are advertised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdvertiseLoopback {
    /// To clients that signal from this host, and when there is no other address.
    Auto,
    /// To all.
    Always,
    /// To nobody.
    Never,
}

/// Bounds of the control plane.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at a time.
    pub calls: usize,
    /// Sessions in one call.
    pub sessions_per_call: usize,
    /// Sessions of one call on its first shard before others get some; 0 for never.
    pub call_sessions_per_shard: usize,
    /// Tracks that one session may publish.
    pub tracks_per_session: usize,
}

/// What is logged where.
#[derive(Clone, Debug)]
pub struct LoggerConfig {
    /// Standard output.
    pub console: Option<LogSink>,
    /// A file and its path.
    pub file: Option<(LogSink, String)>,
    /// Colours on the console.
    pub color: bool,
}

/// Form and level of one log.
#[derive(Clone, Debug)]
pub struct LogSink {
    /// JSON lines instead of text.
    pub json: bool,
    /// What is let through.
    pub level: tracing::level_filters::LevelFilter,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file and the line in it.
    File(String, usize),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value that cannot work: which key, where it was set, to what, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The key's dotted path; empty when the file as a whole is unreadable.
    pub key: &'static str,
    /// Where the value was set.
    pub origin: Origin,
    /// The value as it was given; `***` for secrets.
    pub value: String,
    /// What would be right.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{} = {} ({}): {}", self.key, self.value, self.origin, self.message)
        }
    }
}

impl std::error::Error for Refusal {}

/// Raw values with their origins, layer over layer.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
    /// What the operator should know: unknown keys, keys without effect.
    pub notices: Vec<String>,
}

impl Settings {
    /// The built-in defaults.
    pub fn defaults() -> Self {
        let values =
            KEYS.iter().map(|key| (key.path, (document::default_value(key), Origin::Default)));
        Self { values: values.collect(), notices: Vec::new() }
    }

    /// Takes over rtcd's default where ours differs on purpose: for a process that runs in rtcd's
    /// place.
    pub fn take_rtcd_defaults(&mut self) {
        self.values.insert("logger.enable_file", (Value::Bool(true), Origin::Default));
    }

    /// Sets one key, when the value can work.
    ///
    /// # Errors
    /// The value with what would be right.
    pub fn set(
        &mut self,
        key: &'static Key,
        value: Result<Value, String>,
        shown: &str,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let checked = value.and_then(|value| (key.check)(&value).map(|()| value));
        match checked {
            Ok(value) => {
                self.values.insert(key.path, (value, origin));
                Ok(())
            }
            Err(message) => {
                let value = if key.secret { "***".to_owned() } else { format!("{shown:?}") };
                Err(Refusal { key: key.path, origin, value, message })
            }
        }
    }

    /// Applies the environment. `lookup` gives a variable's value; one that is set but empty counts
    /// as set, as in rtcd.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn apply_environment(
        &mut self,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Refusal> {
        for key in KEYS {
            if let Some(text) = lookup(key.env) {
                let value = Value::from_text(key.kind, &text);
                self.set(key, value, &text, Origin::Environment(key.env))?;
            }
        }
        Ok(())
    }

    /// Applies one flag: `name` as the user wrote it, `path` the key's.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot work.
    pub fn apply_flag(&mut self, name: &str, path: &str, text: &str) -> Result<(), Refusal> {
        let origin = Origin::Flag(name.to_owned());
        let Some(key) = Key::find(path) else {
            let hint =
                Key::nearest(path).map(|k| format!("; did you mean {k}?")).unwrap_or_default();
            let message = format!("there is no key {path:?}{hint}");
            return Err(Refusal { key: "", origin, value: text.to_owned(), message });
        };
        self.set(key, Value::from_text(key.kind, text), text, origin)
    }

    /// Where the value of `path` came from.
    pub fn origin(&self, path: &str) -> Origin {
        self.values.get(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The value of `path`; `None` for a path that is no key.
    pub fn value(&self, path: &str) -> Option<&Value> {
        self.values.get(path).map(|(value, _)| value)
    }

    fn text(&self, path: &'static str) -> &str {
        match self.value(path) {
            Some(Value::Text(text)) => text,
            _ => unreachable!("{path} is a text key"),
        }
    }

    fn bool(&self, path: &'static str) -> bool {
        match self.value(path) {
            Some(Value::Bool(b)) => *b,
            _ => unreachable!("{path} is a bool key"),
        }
    }

    fn int(&self, path: &'static str) -> i64 {
        match self.value(path) {
            Some(Value::Int(n)) => *n,
            _ => unreachable!("{path} is an int key"),
        }
    }

    fn refuse<T>(&self, key: &'static str, message: &str) -> Result<T, Refusal> {
        let value = match self.value(key) {
            Some(Value::Text(text)) => format!("{text:?}"),
            Some(Value::Int(n)) => n.to_string(),
            Some(Value::Bool(b)) => b.to_string(),
            _ => String::new(),
        };
        Err(Refusal { key, origin: self.origin(key), value, message: message.to_owned() })
    }

    /// Checks what spans several keys and makes the typed settings.
    ///
    /// # Errors
    /// The first key that cannot work.
    pub fn finish(&mut self) -> Result<Config, Refusal> {
        for key in KEYS.iter().filter(|key| key.without_effect) {
            let origin = self.origin(key.path);
            if origin != Origin::Default {
                self.notices.push(format!("{} ({origin}) has no effect", key.path));
            }
        }
        let tls = self.tls()?;
        let security = self.security()?;
        let turn_minutes = self.int("rtc.turn.credentials_expiration_minutes");
        if !self.text("rtc.turn.static_auth_secret").is_empty()
            && !(1..10_080).contains(&turn_minutes)
        {
            return self.refuse(
                "rtc.turn.credentials_expiration_minutes",
                "invalid CredentialsExpirationMinutes value: should be in the range 1 to 10079",
            );
        }
        let logger = self.logger()?;
        let ice_servers = match self.value("rtc.ice_servers") {
            Some(Value::IceServers(servers)) => servers.clone(),
            _ => Vec::new(),
        };
        let token = self.text("api.native.token");
        let seconds = |path| Duration::from_secs(self.int(path).unsigned_abs());
        let count = |path| usize::try_from(self.int(path)).unwrap_or(0);
        Ok(Config {
            http: HttpConfig {
                listen: listen_addresses(self.text("api.http.listen_address")).unwrap_or_default(),
                tls,
                connections_max: count("api.http.connections_max"),
                header_timeout: seconds("api.http.header_timeout_s"),
                body_timeout: seconds("api.http.body_timeout_s"),
            },
            token: (!token.is_empty()).then(|| Secret(token.to_owned())),
            security,
            store: PathBuf::from(self.text("store.data_source")),
            media: self.media(),
            ice_servers,
            engine: self.engine(),
            limits: Limits {
                calls: count("limits.calls"),
                sessions_per_call: count("limits.sessions_per_call"),
                call_sessions_per_shard: count("engine.call_sessions_per_shard"),
                tracks_per_session: count("limits.tracks_per_session"),
            },
            tuning: self.tuning(),
            drain_timeout: seconds("node.drain_timeout"),
            logger,
        })
    }

    fn security(&self) -> Result<SecurityConfig, Refusal> {
        let admin = self.text("api.security.admin_secret_key");
        let has_admin = self.bool("api.security.enable_admin");
        if has_admin && admin.is_empty() {
            return self.refuse(
                "api.security.admin_secret_key",
                "invalid AdminSecretKey value: should not be empty",
            );
        }
        let minutes = self.int("api.security.session_cache.expiration_minutes").unsigned_abs();
        Ok(SecurityConfig {
            admin: has_admin.then(|| Secret(admin.to_owned())),
            self_registration: self.bool("api.security.allow_self_registration"),
            token_lifetime: Duration::from_secs(minutes.saturating_mul(60)),
        })
    }

    fn tls(&self) -> Result<Option<TlsFiles>, Refusal> {
        if !self.bool("api.http.tls.enable") {
            return Ok(None);
        }
        let files = [("api.http.tls.cert_file", "CertFile"), ("api.http.tls.cert_key", "CertKey")];
        for (key, field) in files {
            if self.text(key).is_empty() {
                let message =
                    format!("invalid TLS config: invalid {field} value: should not be empty");
                return self.refuse(key, &message);
            }
        }
        let files = TlsFiles {
            certificate: self.text("api.http.tls.cert_file").to_owned(),
            key: self.text("api.http.tls.cert_key").to_owned(),
        };
        match crate::http::tls::load(&files) {
            Ok(_) => Ok(Some(files)),
            Err(message) => {
                self.refuse("api.http.tls.cert_file", &format!("invalid TLS config: {message}"))
            }
        }
    }

    fn media(&self) -> MediaConfig {
        let list = |path| {
            let text: &str = self.text(path);
            text.split(',').filter_map(|part| part.trim().parse().ok()).collect()
        };
        let port = |path| u16::try_from(self.int(path)).unwrap_or(0);
        MediaConfig {
            udp: list("rtc.ice_address_udp"),
            udp_port: port("rtc.ice_port_udp"),
            tcp: list("rtc.ice_address_tcp"),
            tcp_port: port("rtc.ice_port_tcp"),
            ipv6: self.bool("rtc.enable_ipv6"),
            advertise_loopback: match self
                .text("rtc.advertise_loopback")
                .to_ascii_lowercase()
                .as_str()
            {
                "always" => AdvertiseLoopback::Always,
                "never" => AdvertiseLoopback::Never,
                _ => AdvertiseLoopback::Auto,
            },
            // Both passed the same parsers when they were set.
            host_override: HostOverride::parse(self.text("rtc.ice_host_override"))
                .unwrap_or_default(),
            port_override: match self.value("rtc.ice_host_port_override") {
                Some(Value::Int(port)) => PortOverride::port(*port).ok(),
                Some(Value::Text(text)) => PortOverride::parse(text).ok().flatten(),
                _ => None,
            },
        }
    }

    /// Texts passed the same parsers when they were set.
    fn tuning(&self) -> TuningConfig {
        TuningConfig {
            mode: match self.text("tuning.mode").to_ascii_lowercase().as_str() {
                "off" => TuneMode::Off,
                "apply" => TuneMode::Apply,
                _ => TuneMode::Check,
            },
            load: self.value("tuning.load").and_then(|v| keys::load(v).ok().flatten()),
            socket_buffer_bytes: self
                .value("engine.socket_buffer_bytes")
                .and_then(|value| keys::socket_buffer(value).ok().flatten()),
        }
    }

    fn engine(&self) -> EngineConfig {
        let defaults = EngineConfig::default();
        let seconds = |path| Duration::from_secs(self.int(path).unsigned_abs());
        let count = |path| usize::try_from(self.int(path)).unwrap_or(0);
        let rtcd_history = self.origin("rtc.nack_buffer_size") != Origin::Default
            && self.origin("engine.history_packets") == Origin::Default;
        let history_packets = match (rtcd_history, count("rtc.nack_buffer_size")) {
            (true, 0) => 256,
            (true, packets) => packets,
            (false, _) => count("engine.history_packets"),
        };
        EngineConfig {
            shards: match self.int("engine.shards") {
                0 => defaults.shards,
                n => u16::try_from(n).unwrap_or(u16::MAX),
            },
            pin: self.bool("engine.pin"),
            backend: match self.text("engine.backend").to_ascii_lowercase().as_str() {
                "uring" => BackendChoice::Uring,
                "mmsg" => BackendChoice::Mmsg,
                _ => BackendChoice::Auto,
            },
            batch_window: self
                .value("engine.batch_window_us")
                .and_then(|value| keys::batch_window(value).ok().flatten())
                .unwrap_or(defaults.batch_window),
            history_packets,
            padding_bytes_max: u8::try_from(self.int("engine.padding_bytes_max")).unwrap_or(0),
            sessions_max: count("limits.sessions_per_shard"),
            connect_timeout: seconds("engine.connect_timeout_s"),
            consent_timeout: seconds("engine.consent_timeout_s"),
            disconnected_timeout: seconds("engine.disconnected_timeout_s"),
            keyframe_interval: Duration::from_millis(
                self.int("engine.keyframe_interval_ms").unsigned_abs(),
            ),
            layers: LayerConfig {
                low_bps: self.int("engine.layers.low_bps").unsigned_abs(),
                high_bps: self.int("engine.layers.high_bps").unsigned_abs(),
                estimate_max_bps: self.int("engine.layers.estimate_max_bps").unsigned_abs(),
                back_off: seconds("engine.layers.back_off_s"),
                ..defaults.layers
            },
            ..defaults
        }
    }

    fn logger(&self) -> Result<LoggerConfig, Refusal> {
        let sink = |enable, json, level| {
            self.bool(enable)
                .then(|| LogSink { json: self.bool(json), level: level_filter(self.text(level)) })
        };
        let console = sink("logger.enable_console", "logger.console_json", "logger.console_level");
        let file = sink("logger.enable_file", "logger.file_json", "logger.file_level");
        let location = self.text("logger.file_location");
        if file.is_some() && location.is_empty() {
            return self
                .refuse("logger.file_location", "invalid FileLocation value: should not be empty");
        }
        // Switching the console off leaves rtcd with its file, which it writes by default; here the
        // file must be asked for.
        if console.is_none() && file.is_none() {
            return self.refuse(
                "logger.enable_console",
                "invalid EnableConsole value: at least one of \
                         logger.enable_console and logger.enable_file should be true",
            );
        }
        Ok(LoggerConfig {
            console,
            file: file.map(|sink| (sink, location.to_owned())),
            color: self.bool("logger.enable_color"),
        })
    }
}

/// rtcd's level names as filters of `tracing`, which has nothing above error.
fn level_filter(name: &str) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter;
    match name.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        "trace" | "stdlog" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    }
}

/// The addresses that `host:port` means, to be tried in order. Without a host: all addresses, IPv6
/// with IPv4 first, then IPv4 alone.
///
/// # Errors
/// What would be right.
pub fn listen_addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port; write host:port or :port"));
    };
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port from 0 to 65535"))?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() {
        let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::UNSPECIFIED)];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if bare.eq_ignore_ascii_case("localhost") {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]);
    }
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Err(_) => {
            Err(format!("{host:?} is not an IP address; write an address, localhost or nothing"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_complete_and_pass_every_check() {
        let mut settings = Settings::defaults();
        for key in KEYS {
            let value = settings.value(key.path).expect("every key has a default");
            assert_eq!((key.check)(value), Ok(()), "{}", key.path);
        }
        let config = settings.finish().expect("defaults work");
        assert_eq!(config.media.udp_port, 8443);
        assert_eq!(config.http.listen[0].port(), 8045);
        assert!(config.logger.file.is_none() && config.token.is_none());
        assert!(settings.notices.is_empty());
    }

    #[test]
    fn listen_address_takes_the_forms_that_operators_write() {
        let one = |text| listen_addresses(text).map(|a| a[0].to_string());
        assert_eq!(one(":8045"), Ok("[::]:8045".to_owned()));
        assert_eq!(one("127.0.0.1:0"), Ok("127.0.0.1:0".to_owned()));
        assert_eq!(one("[::1]:80"), Ok("[::1]:80".to_owned()));
        assert_eq!(one("localhost:80"), Ok("127.0.0.1:80".to_owned()));
        for bad in ["8045", "host:80", ":x", ":70000", ""] {
            assert!(listen_addresses(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_do_not_show_in_refusals_or_debug_output() {
        let mut settings = Settings::defaults();
        let refusal =
            settings.apply_flag("--set", "api.native.token", "short").expect_err("too short");
        assert!(!refusal.to_string().contains("short"), "{refusal}");
        assert_eq!(format!("{:?}", Secret("hidden".to_owned())), "***");
    }
}
