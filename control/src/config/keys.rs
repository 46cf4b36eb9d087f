//! The table of every key: path, environment variable, type, default, range and text. The file
//! reader, the environment, the flags, the printed sample and `docs/configuration.md` are all made
//! from it.

use std::time::Duration;

use sluice_tuning::load::Load;

use super::overrides::{HostOverride, PortOverride};
use super::value::{Kind, Value};

/// One setting.
pub struct Key {
    /// Where it stands in the TOML file, dotted.
    pub path: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// The flag of `sluice serve`, without dashes, for the main settings.
    pub flag: Option<&'static str>,
    /// What it may hold.
    pub kind: Kind,
    /// The default, in TOML.
    pub default: &'static str,
    /// What it does, its unit and range.
    pub doc: &'static str,
    /// Whether the value must not be shown.
    pub secret: bool,
    /// Set for keys that rtcd knows and that have no effect here.
    pub without_effect: bool,
    /// Refuses a value that cannot work, with what would be right.
    pub check: fn(&Value) -> Result<(), String>,
}

impl Key {
    const fn new(path: &'static str, env: &'static str, kind: Kind, default: &'static str) -> Self {
        Self {
            path,
            env,
            flag: None,
            kind,
            default,
            doc: "",
            secret: false,
            without_effect: false,
            check: |_| Ok(()),
        }
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn without_effect(mut self) -> Self {
        self.without_effect = true;
        self
    }

    const fn check(mut self, check: fn(&Value) -> Result<(), String>) -> Self {
        self.check = check;
        self
    }

    /// The key of this path: exactly, else ignoring case, as rtcd matches them.
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter()
            .find(|k| k.path == path)
            .or_else(|| KEYS.iter().find(|k| k.path.eq_ignore_ascii_case(path)))
    }

    /// The known path that looks most like `path`, if any looks like it at all.
    pub fn nearest(path: &str) -> Option<&'static str> {
        let lower = path.to_ascii_lowercase();
        let (distance, nearest) =
            KEYS.iter().map(|k| (edit_distance(&lower, k.path), k.path)).min()?;
        (distance <= path.len().max(6) / 3).then_some(nearest)
    }
}

/// Insertions, deletions and substitutions between two short texts; anything over 128 bytes is far
/// from everything.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len() > 128 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

fn not_empty(field: &str, value: &Value) -> Result<(), String> {
    match value.as_text() {
        Some("") => Err(format!("invalid {field} value: should not be empty")),
        _ => Ok(()),
    }
}

fn in_range(field: &str, value: &Value, min: i64, max: i64) -> Result<(), String> {
    match value.as_int() {
        Some(n) if !(min..=max).contains(&n) => {
            Err(format!("invalid {field} value: {n} is not in the range {min} to {max}"))
        }
        _ => Ok(()),
    }
}

fn one_of(field: &str, value: &Value, choices: &[&str]) -> Result<(), String> {
    match value.as_text() {
        Some(text) if !choices.iter().any(|c| c.eq_ignore_ascii_case(text)) => {
            Err(format!("invalid {field} value: {text:?} is not one of {}", choices.join(", ")))
        }
        _ => Ok(()),
    }
}

fn addresses(field: &str, value: &Value) -> Result<(), String> {
    let text = value.as_text().unwrap_or("");
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        if part.parse::<std::net::IpAddr>().is_err() {
            return Err(format!(
                "invalid {field} value: {part:?} is not an IP address; give a comma-separated list"
            ));
        }
    }
    Ok(())
}

fn log_level(field: &str, value: &Value) -> Result<(), String> {
    one_of(field, value, LEVELS)
}

/// rtcd's levels, each of which enables those before it.
pub const LEVELS: &[&str] =
    &["panic", "fatal", "error", "warn", "info", "debug", "trace", "stdlog"];

/// Every key, in the order of the sample file.
pub const KEYS: &[Key] = &[
    Key::new("api.http.listen_address", "RTCD_API_HTTP_LISTENADDRESS", Kind::Text, r#"":8045""#)
        .flag("listen-address")
        .doc(
            "Address and port of the HTTP API and the call page: `host:port`; without \
                 a host all addresses, IPv4 and IPv6.",
        )
        .check(|v| {
            not_empty("ListenAddress", v)?;
            let text = v.as_text().unwrap_or("");
            super::listen_addresses(text)
                .map(|_| ())
                .map_err(|e| format!("invalid ListenAddress value: {e}"))
        }),
    Key::new("api.http.connections_max", "SLUICE_API_HTTP_CONNECTIONS_MAX", Kind::Int, "4096")
        .doc(
            "HTTP connections and WebSockets open at a time, 1 to 1000000; further \
                 ones wait in the kernel.",
        )
        .check(|v| in_range("ConnectionsMax", v, 1, 1_000_000)),
    Key::new("api.http.header_timeout_s", "SLUICE_API_HTTP_HEADER_TIMEOUT_S", Kind::Int, "10")
        .doc(
            "Seconds a client may take to send the header of a request, 1 to 600. An \
                 idle connection is closed after it too.",
        )
        .check(|v| in_range("HeaderTimeout", v, 1, 600)),
    Key::new("api.http.body_timeout_s", "SLUICE_API_HTTP_BODY_TIMEOUT_S", Kind::Int, "10")
        .doc("Seconds a client may take to send the body of a request, 1 to 600.")
        .check(|v| in_range("BodyTimeout", v, 1, 600)),
    Key::new("api.http.tls.enable", "RTCD_API_HTTP_TLS_ENABLE", Kind::Bool, "false")
        .doc("Serve HTTPS instead of HTTP."),
    Key::new("api.http.tls.cert_file", "RTCD_API_HTTP_TLS_CERTFILE", Kind::Text, r#""""#)
        .doc("PEM file with the certificate chain. Needed with `api.http.tls.enable`."),
    Key::new("api.http.tls.cert_key", "RTCD_API_HTTP_TLS_CERTKEY", Kind::Text, r#""""#)
        .doc("PEM file with the private key. Needed with `api.http.tls.enable`."),
    Key::new("api.native.token", "SLUICE_API_TOKEN", Kind::Text, r#""""#)
        .secret()
        .doc(
            "Bearer token for the native API, WHIP and WHEP: at least 16 characters \
                 without spaces. Empty: only clients on this host are answered.",
        )
        .check(|v| match v.as_text() {
            Some(t)
                if !t.is_empty() && (t.len() < 16 || !t.bytes().all(|b| b.is_ascii_graphic())) =>
            {
                Err("invalid Token value: should be at least 16 visible ASCII \
                         characters, or empty"
                    .to_owned())
            }
            _ => Ok(()),
        }),
    Key::new("api.security.enable_admin", "RTCD_API_SECURITY_ENABLEADMIN", Kind::Bool, "false")
        .doc(
            "rtcd's API: whether there is an admin, who registers and unregisters \
                 clients with `api.security.admin_secret_key`.",
        ),
    Key::new(
        "api.security.admin_secret_key",
        "RTCD_API_SECURITY_ADMINSECRETKEY",
        Kind::Text,
        r#""""#,
    )
    .secret()
    .doc("The admin's key. Needed with `api.security.enable_admin`."),
    Key::new(
        "api.security.allow_self_registration",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION",
        Kind::Bool,
        "false",
    )
    .doc(
        "rtcd's API: whether anybody who reaches the port may register a client. Without it only \
             the admin may.",
    ),
    Key::new(
        "api.security.session_cache.expiration_minutes",
        "RTCD_API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES",
        Kind::Int,
        "1440",
    )
    .doc("Minutes that a bearer token of `/login` is good for; above 0.")
    .check(|v| in_range("ExpirationMinutes", v, 1, i64::MAX)),
    Key::new("rtc.ice_address_udp", "RTCD_RTC_ICEADDRESSUDP", Kind::Text, r#""""#)
        .flag("ice-address-udp")
        .doc(
            "Local IP addresses for media over UDP, comma-separated. Empty: those of \
                 `rtc.ice_address_tcp`, or if that is empty too, all addresses of interfaces \
                 that are up, link-local ones excepted. `0.0.0.0` stands for all IPv4 addresses, \
                 `::` for all of both families.",
        )
        .check(|v| addresses("ICEAddressUDP", v)),
    Key::new("rtc.ice_port_udp", "RTCD_RTC_ICEPORTUDP", Kind::Int, "8443")
        .flag("ice-port-udp")
        .doc("UDP port for media, 80 to 49151.")
        .check(|v| in_range("ICEPortUDP", v, 80, 49151)),
    Key::new("rtc.ice_address_tcp", "RTCD_RTC_ICEADDRESSTCP", Kind::Text, r#""""#)
        .flag("ice-address-tcp")
        .doc("Local IP addresses for media over TCP, as `rtc.ice_address_udp`.")
        .check(|v| addresses("ICEAddressTCP", v)),
    Key::new("rtc.ice_port_tcp", "RTCD_RTC_ICEPORTTCP", Kind::Int, "8443")
        .flag("ice-port-tcp")
        .doc("TCP port for media, 80 to 49151.")
        .check(|v| in_range("ICEPortTCP", v, 80, 49151)),
    Key::new("rtc.enable_ipv6", "RTCD_RTC_ENABLEIPV6", Kind::Bool, "false")
        .flag("enable-ipv6")
        .doc(
            "Listen for media on IPv6 addresses too, and advertise them. IPv6 \
                 addresses that are listed by hand are used in any case.",
        ),
    Key::new("rtc.advertise_loopback", "SLUICE_RTC_ADVERTISE_LOOPBACK", Kind::Text, r#""auto""#)
        .flag("advertise-loopback")
        .doc(
            "Whether candidates on loopback addresses are advertised: `always`, \
                 `never`, or `auto`, for clients that signal from this host or when there \
                 is no other address.",
        )
        .check(|v| one_of("AdvertiseLoopback", v, &["auto", "always", "never"])),
    Key::new("rtc.ice_host_override", "RTCD_RTC_ICEHOSTOVERRIDE", Kind::Text, r#""""#)
        .flag("ice-host-override")
        .doc(
            "What is advertised instead of local addresses, for hosts behind NAT. An IP \
                 address stands for all local ones of its family, loopback ones excepted unless \
                 there is no other. A host name is resolved at start, which fails without an \
                 answer, and every 30 seconds after that: IPv4 addresses only, unless \
                 `rtc.enable_ipv6`. Pairs `external/internal`, comma-separated, are used as they \
                 stand.",
        )
        .check(host_override),
    Key::new(
        "rtc.ice_host_port_override",
        "RTCD_RTC_ICEHOSTPORTOVERRIDE",
        Kind::TextOrInt,
        r#""""#,
    )
    .doc(
        "Port that is advertised with external addresses (those of `rtc.ice_host_override`, or \
                 found by STUN) instead of the local one, for UDP and TCP: a port of 80 to 49151, \
                 or `localIP/port` pairs, comma-separated, of which the first local address of \
                 this host counts.",
    )
    .check(host_port_override),
    Key::new("rtc.ice_servers", "RTCD_RTC_ICESERVERS", Kind::IceServers, "[]")
        .doc(
            "STUN and TURN servers that WHIP and WHEP clients are told of: a list of \
                 URLs, or of tables with `urls`, `username` and `credential`. In the \
                 environment: JSON. Unless `rtc.ice_host_override` is set, the first `stun:` URL \
                 is asked at start for the public address of each local one, up to 5 seconds.",
        )
        .check(ice_servers),
    Key::new("rtc.udp_sockets_count", "RTCD_RTC_UDPSOCKETSCOUNT", Kind::Int, "100")
        .without_effect()
        .doc(
            "UDP sockets of rtcd, above 0 (its default is 100 for each CPU). Sluice \
                 has one for each shard and address.",
        )
        .check(|v| in_range("UDPSocketsCount", v, 1, i64::MAX)),
    Key::new("rtc.nack_buffer_size", "RTCD_RTC_NACKBUFFERSIZE", Kind::Int, "256")
        .doc(
            "Packets kept for retransmission: 0 for 256, or a power of two from 32 to \
                 8192. Used when it is set and `engine.history_packets` is not.",
        )
        .check(|v| match v.as_int() {
            Some(n) if n != 0 && !power_of_two(n) => Err(format!(
                "invalid NACKBufferSize value: {n} should be 0 or a power of two from 32 to 8192"
            )),
            _ => Ok(()),
        }),
    Key::new("rtc.nack_disable_copy", "RTCD_RTC_NACKDISABLECOPY", Kind::Bool, "true")
        .without_effect()
        .doc("A memory trade-off of rtcd."),
    Key::new(
        "rtc.turn.static_auth_secret",
        "RTCD_RTC_TURNCONFIG_STATICAUTHSECRET",
        Kind::Text,
        r#""""#,
    )
    .secret()
    .without_effect()
    .doc("Secret from which short-lived TURN credentials are made."),
    Key::new(
        "rtc.turn.credentials_expiration_minutes",
        "RTCD_RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES",
        Kind::Int,
        "1440",
    )
    .without_effect()
    .doc(
        "Minutes that short-lived TURN credentials are good for, 1 to 10079; \
                 checked when there is a secret.",
    ),
    Key::new("node.drain_timeout", "SLUICE_DRAIN_TIMEOUT", Kind::Int, "18000")
        .flag("drain-timeout")
        .doc(
            "Seconds that running calls may go on after SIGTERM or SIGINT, 0 to 604800; then \
                 they are ended. A second signal ends them at once.",
        )
        .check(|v| in_range("DrainTimeout", v, 0, 604_800)),
    Key::new("tuning.mode", "SLUICE_TUNE", Kind::Text, r#""check""#)
        .flag("tune")
        .doc(
            "What is done about the host's settings at start: `check` names in the log what costs \
                 packets, with the command that mends it; `apply` changes it, where the process may, \
                 and lets the API do so; `off` does not look.",
        )
        .check(|v| one_of("Tune", v, &["check", "apply", "off"])),
    Key::new("tuning.load", "SLUICE_TUNING_LOAD", Kind::Text, r#""""#)
        .doc(
            "The load that is expected, such as `1x1000 2u screen, 50x10`: calls x people, unmuted, \
                 screens, cameras. Buffers and advice are sized for it; empty stands for \
                 `1x1000 2u screen`.",
        )
        .check(|v| load(v).map(|_| ())),
    Key::new("engine.shards", "SLUICE_ENGINE_SHARDS", Kind::Int, "0")
        .flag("shards")
        .doc("Threads that move media, 1 to 1024; 0 for one per core that this process may use.")
        .check(|v| in_range("Shards", v, 0, 1024)),
    Key::new(
        "engine.call_sessions_per_shard",
        "SLUICE_ENGINE_CALL_SESSIONS_PER_SHARD",
        Kind::Int,
        "64",
    )
    .doc(
        "Sessions of one call that share a shard before further ones go to the shard with the \
             fewest of them, 0 to 100000; 0 keeps every call on one shard.",
    )
    .check(|v| in_range("CallSessionsPerShard", v, 0, 100_000)),
    Key::new("engine.pin", "SLUICE_ENGINE_PIN", Kind::Bool, "true")
        .flag("pin")
        .doc("Whether each shard is pinned to a core of its own."),
    Key::new("engine.backend", "SLUICE_ENGINE_BACKEND", Kind::Text, r#""auto""#)
        .flag("backend")
        .doc(
            "How datagrams reach the kernel: `uring` (io_uring), `mmsg` (epoll, \
                 recvmmsg, sendmmsg), or `auto`, the first where the kernel allows it.",
        )
        .check(|v| one_of("Backend", v, &["auto", "uring", "mmsg"])),
    Key::new(
        "engine.batch_window_us",
        "SLUICE_ENGINE_BATCH_WINDOW_US",
        Kind::TextOrInt,
        r#""auto""#,
    )
    .doc(
        "The longest that a datagram waits for others before one wake-up serves them all, \
                 microseconds, 0 to 1000; `auto` is 500. Each shard finds its own time below it by its \
                 load: none while it has little to do. 0 switches waiting off.",
    )
    .check(|v| batch_window(v).map(|_| ())),
    Key::new(
        "engine.socket_buffer_bytes",
        "SLUICE_ENGINE_SOCKET_BUFFER_BYTES",
        Kind::TextOrInt,
        r#""auto""#,
    )
    .doc(
        "Receive and send buffer wanted for each UDP socket, bytes, 65536 to \
                 1073741824; `auto` is what `tuning.load` needs, 16777216 at least. The kernel grants \
                 up to `net.core.rmem_max` and `wmem_max`, or all of it with CAP_NET_ADMIN.",
    )
    .check(|v| socket_buffer(v).map(|_| ())),
    Key::new("engine.padding_bytes_max", "SLUICE_ENGINE_PADDING_BYTES_MAX", Kind::Int, "16")
        .doc(
            "RTP padding that a video packet may get to be as long as the others of its frame, bytes, \
                 0 to 255; 0 for none. Equal packets of a frame leave as \
                 one run. Only towards subscribers that negotiated retransmission (RTX).",
        )
        .check(|v| in_range("PaddingBytesMax", v, 0, 255)),
    Key::new("engine.history_packets", "SLUICE_ENGINE_HISTORY_PACKETS", Kind::Int, "512")
        .doc(
            "Packets kept of each video track for retransmission, a power of two from \
                 32 to 8192. Memory: 1.5 KiB each.",
        )
        .check(|v| match v.as_int() {
            Some(n) if !power_of_two(n) => Err(format!(
                "invalid HistoryPackets value: {n} should be a power of two from \
                         32 to 8192"
            )),
            _ => Ok(()),
        }),
    Key::new("engine.connect_timeout_s", "SLUICE_ENGINE_CONNECT_TIMEOUT_S", Kind::Int, "30")
        .doc(
            "Seconds from the first description of a peer to its finished handshake, 1 to \
                 600; it is closed after them.",
        )
        .check(|v| in_range("ConnectTimeout", v, 1, 600)),
    Key::new("engine.consent_timeout_s", "SLUICE_ENGINE_CONSENT_TIMEOUT_S", Kind::Int, "30")
        .doc(
            "Seconds without an authenticated check of the peer after which nothing \
                 more is sent to it, 5 to 300 (RFC 7675: 30).",
        )
        .check(|v| in_range("ConsentTimeout", v, 5, 300)),
    Key::new(
        "engine.disconnected_timeout_s",
        "SLUICE_ENGINE_DISCONNECTED_TIMEOUT_S",
        Kind::Int,
        "30",
    )
    .doc(
        "Seconds after that in which the peer can come back, 0 to 3600; then the \
                 session is closed.",
    )
    .check(|v| in_range("DisconnectedTimeout", v, 0, 3600)),
    Key::new(
        "engine.keyframe_interval_ms",
        "SLUICE_ENGINE_KEYFRAME_INTERVAL_MS",
        Kind::Int,
        "1000",
    )
    .doc("Least milliseconds between two key frame requests for one stream, 0 to 10000.")
    .check(|v| in_range("KeyframeInterval", v, 0, 10_000)),
    Key::new("engine.layers.low_bps", "SLUICE_ENGINE_LAYERS_LOW_BPS", Kind::Int, "500000")
        .doc("Nominal rate of the lowest layer of a simulcast, bits per second, 10000 to 1000000000.")
        .check(|v| in_range("LowBps", v, 10_000, 1_000_000_000)),
    Key::new("engine.layers.high_bps", "SLUICE_ENGINE_LAYERS_HIGH_BPS", Kind::Int, "2500000")
        .doc("The same of the highest layer. A receiver gets it at once when its path carries 0.9 of that.")
        .check(|v| in_range("HighBps", v, 10_000, 1_000_000_000)),
    Key::new(
        "engine.layers.estimate_max_bps",
        "SLUICE_ENGINE_LAYERS_ESTIMATE_MAX_BPS",
        Kind::Int,
        "3750000",
    )
    .doc(
        "The most that a receiver's path is taken to carry, bits per second, 250000 to 1000000000. \
             Layers that send more than that are not chosen.",
    )
    .check(|v| in_range("EstimateMaxBps", v, 250_000, 1_000_000_000)),
    Key::new("engine.layers.back_off_s", "SLUICE_ENGINE_LAYERS_BACK_OFF_S", Kind::Int, "10")
        .doc("Seconds after a change of layer in which a receiver goes no higher, 1 to 3600; half as long again after each further one.")
        .check(|v| in_range("BackOff", v, 1, 3_600)),
    Key::new("limits.calls", "SLUICE_LIMITS_CALLS", Kind::Int, "10000")
        .doc("Calls at a time, 1 to 1000000.")
        .check(|v| in_range("Calls", v, 1, 1_000_000)),
    Key::new("limits.sessions_per_call", "SLUICE_LIMITS_SESSIONS_PER_CALL", Kind::Int, "1000")
        .doc("Sessions in one call, 1 to 100000.")
        .check(|v| in_range("SessionsPerCall", v, 1, 100_000)),
    Key::new("limits.sessions_per_shard", "SLUICE_LIMITS_SESSIONS_PER_SHARD", Kind::Int, "20000")
        .doc("Sessions on one shard, 1 to 1000000.")
        .check(|v| in_range("SessionsPerShard", v, 1, 1_000_000)),
    Key::new("limits.tracks_per_session", "SLUICE_LIMITS_TRACKS_PER_SESSION", Kind::Int, "16")
        .doc("Tracks that one session may publish, 1 to 64.")
        .check(|v| in_range("TracksPerSession", v, 1, 64)),
    Key::new("store.data_source", "RTCD_STORE_DATASOURCE", Kind::Text, r#""/tmp/rtcd_db""#)
        .doc(
            "Directory for the registered clients of rtcd's API, made if it is missing. They stand \
                 in `sluice.redb` there, which one process at a time can use; files of rtcd itself \
                 stay as they are.",
        )
        .check(|v| not_empty("DataSource", v)),
    Key::new("logger.enable_console", "RTCD_LOGGER_ENABLECONSOLE", Kind::Bool, "true")
        .doc("Log to standard output."),
    Key::new("logger.console_json", "RTCD_LOGGER_CONSOLEJSON", Kind::Bool, "false")
        .doc("One JSON object a line instead of text."),
    Key::new("logger.console_level", "RTCD_LOGGER_CONSOLELEVEL", Kind::Text, r#""INFO""#)
        .flag("log-level")
        .doc(
            "One of panic, fatal, error, warn, info, debug, trace, stdlog; each \
                 enables those before it.",
        )
        .check(|v| log_level("ConsoleLevel", v)),
    Key::new("logger.enable_file", "RTCD_LOGGER_ENABLEFILE", Kind::Bool, "false").doc(
        "Log to a file too. rtcd's default is true; here nothing is written to \
                 the working directory unless it is asked for, or the command is called `rtcd`.",
    ),
    Key::new("logger.file_json", "RTCD_LOGGER_FILEJSON", Kind::Bool, "true")
        .doc("One JSON object a line instead of text."),
    Key::new("logger.file_level", "RTCD_LOGGER_FILELEVEL", Kind::Text, r#""DEBUG""#)
        .doc("As `logger.console_level`.")
        .check(|v| log_level("FileLevel", v)),
    Key::new("logger.file_location", "RTCD_LOGGER_FILELOCATION", Kind::Text, r#""rtcd.log""#).doc(
        "The log file. At 100 MB it is moved to the same name with `.1` behind it and \
                 compressed; 10 old files are kept. Needed with `logger.enable_file`.",
    ),
    Key::new("logger.enable_color", "RTCD_LOGGER_ENABLECOLOR", Kind::Bool, "false")
        .doc("Colours on the console."),
];

fn power_of_two(n: i64) -> bool {
    (32..=8192).contains(&n) && n.count_ones() == 1
}

fn host_override(value: &Value) -> Result<(), String> {
    HostOverride::parse(value.as_text().unwrap_or("")).map(|_| ())
}

fn host_port_override(value: &Value) -> Result<(), String> {
    match value.as_int() {
        Some(port) => PortOverride::port(port).map(|_| ()),
        None => PortOverride::parse(value.as_text().unwrap_or("")).map(|_| ()),
    }
}

/// Reads `engine.batch_window_us`; nothing for `auto`.
///
/// # Errors
/// What would be right.
pub(super) fn batch_window(value: &Value) -> Result<Option<Duration>, String> {
    let text = value.as_text().unwrap_or("");
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match value.as_int().or_else(|| text.parse().ok()) {
        Some(us @ 0..=1000) => Ok(Some(Duration::from_micros(us.unsigned_abs()))),
        _ => {
            let given = value.as_int().map_or_else(|| format!("{text:?}"), |n| n.to_string());
            Err(format!(
                "invalid BatchWindow value: {given} is neither \"auto\" nor a number from 0 to 1000"
            ))
        }
    }
}

/// `None` for `auto`.
pub(super) fn socket_buffer(value: &Value) -> Result<Option<usize>, String> {
    let text = value.as_text().unwrap_or("");
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match value.as_int().or_else(|| text.parse().ok()) {
        Some(bytes @ 65_536..=SOCKET_BUFFER_MAX) => Ok(usize::try_from(bytes).ok()),
        _ => {
            let given = value.as_int().map_or_else(|| format!("{text:?}"), |n| n.to_string());
            Err(format!(
                "invalid SocketBufferBytes value: {given} is neither \"auto\" nor a number in the \
                 range 65536 to {SOCKET_BUFFER_MAX}"
            ))
        }
    }
}

/// SO_RCVBUF is an int, and the kernel books its double.
const SOCKET_BUFFER_MAX: i64 = 1 << 30;

/// `None` for the empty text.
pub(super) fn load(value: &Value) -> Result<Option<Load>, String> {
    match value.as_text().map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => match Load::parse(text) {
            Ok(load) => Ok(Some(load)),
            Err(error) => Err(format!("invalid Load value: {error}")),
        },
    }
}

fn ice_servers(value: &Value) -> Result<(), String> {
    let Value::IceServers(servers) = value else { return Ok(()) };
    for server in servers {
        if server.urls.is_empty() || server.urls.iter().any(String::is_empty) {
            return Err(
                "invalid ICEServers value: each server needs at least one URL, none of them empty"
                    .to_owned(),
            );
        }
        let kind = |url: &String| match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("stun" | "stuns") => Some("stun"),
            Some("turn" | "turns") => Some("turn"),
            _ => None,
        };
        let first = kind(&server.urls[0]);
        if let Some(bad) = server.urls.iter().find(|url| kind(url).is_none()) {
            return Err(format!(
                "invalid ICEServers value: {bad:?} does not begin with stun:, \
                         stuns:, turn: or turns:"
            ));
        }
        if server.urls.iter().any(|url| kind(url) != first) {
            return Err(
                "invalid ICEServers value: the URLs of one server are all STUN or all TURN"
                    .to_owned(),
            );
        }
        // They are written into a header field, where these characters would end the reference.
        if server
            .urls
            .iter()
            .any(|url| !url.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"".contains(&b)))
        {
            return Err(
                "invalid ICEServers value: URLs hold visible ASCII characters only".to_owned()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_variables_and_flags_are_unique_and_documented() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(!key.doc.is_empty(), "{} has no text", key.path);
            for other in &KEYS[..i] {
                assert_ne!(key.path, other.path);
                assert_ne!(key.env, other.env);
                assert!(key.flag.is_none() || key.flag != other.flag, "{}", key.path);
            }
        }
    }

    #[test]
    fn nearest_finds_a_typing_error_and_nothing_for_nonsense() {
        assert_eq!(Key::nearest("rtc.ice_prot_udp"), Some("rtc.ice_port_udp"));
        assert_eq!(Key::nearest("engine.shard"), Some("engine.shards"));
        assert_eq!(Key::nearest("x"), None);
        assert_eq!(Key::nearest(&"rtc".repeat(1000)), None);
    }
}
