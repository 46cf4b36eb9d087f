//! Settings: the order of the sources, and every key of rtcd with its name, type, default and
//! range.

use std::collections::HashMap;
use std::time::Duration;

use sluice_control::config::keys::{KEYS, Key};
use sluice_control::config::value::Value;
use sluice_control::config::{AdvertiseLoopback, Origin, Settings, document};
use sluice_engine::config::BackendChoice;

fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let map: HashMap<String, String> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |name| map.get(name).cloned()
}

#[test]
fn flags_go_before_the_environment_before_the_file_before_defaults() {
    let key = "rtc.ice_port_udp";
    let mut settings = Settings::defaults();
    let port = |s: &Settings| s.value(key).and_then(Value::as_int);
    assert_eq!((port(&settings), settings.origin(key)), (Some(8443), Origin::Default));
    settings.apply_file("f.toml", "[rtc]\n\nice_port_udp = 1001\n").expect("valid");
    assert_eq!(
        (port(&settings), settings.origin(key)),
        (Some(1001), Origin::File("f.toml".to_owned(), 3))
    );
    settings.apply_environment(environment(&[("RTCD_RTC_ICEPORTUDP", "1002")])).expect("valid");
    assert_eq!(
        (port(&settings), settings.origin(key)),
        (Some(1002), Origin::Environment("RTCD_RTC_ICEPORTUDP"))
    );
    settings.apply_flag("--ice-port-udp", key, "1003").expect("valid");
    assert_eq!(port(&settings), Some(1003));
    let config = settings.finish().expect("valid");
    assert_eq!((config.media.udp_port, config.media.tcp_port), (1003, 8443));
}

type RtcdKey =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// rtcd's keys as its documentation has them: path, variable, default, values that it takes, values
/// that it refuses. Values are as in the environment.
const RTCD: &[RtcdKey] = &[
    ("api.http.listen_address", "RTCD_API_HTTP_LISTENADDRESS", ":8045", &["127.0.0.1:80"], &[""]),
    ("api.http.tls.enable", "RTCD_API_HTTP_TLS_ENABLE", "false", &["0", "F"], &["", "no"]),
    ("api.http.tls.cert_file", "RTCD_API_HTTP_TLS_CERTFILE", "", &["x"], &[]),
    ("api.http.tls.cert_key", "RTCD_API_HTTP_TLS_CERTKEY", "", &["x"], &[]),
    ("api.security.enable_admin", "RTCD_API_SECURITY_ENABLEADMIN", "false", &["f"], &["", "yes"]),
    ("api.security.admin_secret_key", "RTCD_API_SECURITY_ADMINSECRETKEY", "", &["x"], &[]),
    (
        "api.security.allow_self_registration",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION",
        "false",
        &["True"],
        &["tRUE"],
    ),
    (
        "api.security.session_cache.expiration_minutes",
        "RTCD_API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES",
        "1440",
        &["1"],
        &["0", "-1", ""],
    ),
    (
        "rtc.ice_address_udp",
        "RTCD_RTC_ICEADDRESSUDP",
        "",
        &["127.0.0.1", "127.0.0.1, ::1", ""],
        &["localhost", "1.2.3"],
    ),
    (
        "rtc.ice_port_udp",
        "RTCD_RTC_ICEPORTUDP",
        "8443",
        &["80", "49151", "0x1fff"],
        &["79", "49152", "", "x"],
    ),
    ("rtc.ice_address_tcp", "RTCD_RTC_ICEADDRESSTCP", "", &["10.0.0.1"], &["host"]),
    ("rtc.ice_port_tcp", "RTCD_RTC_ICEPORTTCP", "8443", &["80", "49151"], &["79", "49152", ""]),
    (
        "rtc.ice_host_override",
        "RTCD_RTC_ICEHOSTOVERRIDE",
        "",
        &["1.1.1.1", "host.example.org", "1.1.1.1/127.0.0.1,1.1.1.1/10.1.1.1"],
        &["a b", "1.1.1.1/x"],
    ),
    (
        "rtc.ice_host_port_override",
        "RTCD_RTC_ICEHOSTPORTOVERRIDE",
        "",
        &["8443", "127.0.0.1/80,10.0.0.1/81", "127.0.0.1/1"],
        &["79", "49152", "x", "10.0.0.1/1,10.0.0.1/2", "10.0.0.1/1,10.0.0.2/1"],
    ),
    (
        "rtc.ice_servers",
        "RTCD_RTC_ICESERVERS",
        "[]",
        &[r#"["stun:a:1"]"#, r#"[{"urls":["turn:a","turns:b"]}]"#, "[]"],
        &[
            "",
            "x",
            r#"[""]"#,
            r#"["stun:a","turn:b"]"#,
            r#"["http://a"]"#,
            r#"[{"urls":[]}]"#,
            r#"[{}]"#,
        ],
    ),
    ("rtc.turn.static_auth_secret", "RTCD_RTC_TURNCONFIG_STATICAUTHSECRET", "", &["x"], &[]),
    (
        "rtc.turn.credentials_expiration_minutes",
        "RTCD_RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES",
        "1440",
        &["0", "99999"],
        &["", "1.5"],
    ),
    ("rtc.enable_ipv6", "RTCD_RTC_ENABLEIPV6", "false", &["TRUE"], &["", "2"]),
    ("rtc.udp_sockets_count", "RTCD_RTC_UDPSOCKETSCOUNT", "", &["1"], &["0", "-5"]),
    (
        "rtc.nack_buffer_size",
        "RTCD_RTC_NACKBUFFERSIZE",
        "256",
        &["0", "32", "8192"],
        &["16", "33", "16384", "-32"],
    ),
    ("rtc.nack_disable_copy", "RTCD_RTC_NACKDISABLECOPY", "true", &["false"], &[""]),
    ("store.data_source", "RTCD_STORE_DATASOURCE", "/tmp/rtcd_db", &["x"], &[""]),
    ("logger.enable_console", "RTCD_LOGGER_ENABLECONSOLE", "true", &["1"], &[""]),
    ("logger.console_json", "RTCD_LOGGER_CONSOLEJSON", "false", &["t"], &[""]),
    (
        "logger.console_level",
        "RTCD_LOGGER_CONSOLELEVEL",
        "INFO",
        &["panic", "Fatal", "error", "warn", "debug", "trace", "stdlog"],
        &["", "verbose"],
    ),
    // rtcd: true. See docs/configuration.md.
    ("logger.enable_file", "RTCD_LOGGER_ENABLEFILE", "false", &["0"], &[""]),
    ("logger.file_json", "RTCD_LOGGER_FILEJSON", "true", &["0"], &[""]),
    ("logger.file_level", "RTCD_LOGGER_FILELEVEL", "DEBUG", &["INFO"], &["", "all"]),
    ("logger.file_location", "RTCD_LOGGER_FILELOCATION", "rtcd.log", &["x"], &[]),
    ("logger.enable_color", "RTCD_LOGGER_ENABLECOLOR", "false", &["1"], &[""]),
];

#[test]
fn every_key_of_rtcd_has_its_name_default_and_range() {
    for (path, variable, default, taken, refused) in RTCD {
        let key = Key::find(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!((key.path, key.env), (*path, *variable));
        if *path != "rtc.udp_sockets_count" {
            let default = Value::from_text(key.kind, default).expect("a value");
            assert_eq!(Settings::defaults().value(path), Some(&default), "{path}");
        }
        for value in *taken {
            let mut settings = Settings::defaults();
            let applied = settings.apply_environment(environment(&[(*variable, *value)]));
            assert_eq!(applied, Ok(()), "{path} = {value:?}");
            assert_eq!(settings.origin(path), Origin::Environment(key.env), "{path}");
            assert!(settings.finish().is_ok(), "{path} = {value:?}");
        }
        for value in *refused {
            let mut settings = Settings::defaults();
            let refusal = settings
                .apply_environment(environment(&[(*variable, *value)]))
                .expect_err(&format!("{path} = {value:?} cannot work"));
            let text = refusal.to_string();
            assert!(text.contains(path) && text.contains(variable), "{text}");
            assert!(key.secret || text.contains(&format!("{value:?}")), "{text}");
        }
    }
    assert_eq!(KEYS.iter().filter(|k| k.env.starts_with("RTCD_")).count(), RTCD.len());
}

#[test]
fn messages_are_those_of_rtcd_where_its_tests_look_at_them() {
    let refusal = |pairs: &[(&str, &str)]| {
        let mut settings = Settings::defaults();
        let applied = settings.apply_environment(environment(pairs));
        applied.and_then(|()| settings.finish().map(|_| ())).expect_err("it cannot work").message
    };
    assert_eq!(
        refusal(&[("RTCD_API_HTTP_LISTENADDRESS", "")]),
        "invalid ListenAddress value: should not be empty"
    );
    assert_eq!(
        refusal(&[("RTCD_API_HTTP_TLS_ENABLE", "true")]),
        "invalid TLS config: invalid CertFile value: should not be empty"
    );
    assert_eq!(
        refusal(&[("RTCD_API_HTTP_TLS_ENABLE", "true"), ("RTCD_API_HTTP_TLS_CERTFILE", "x")]),
        "invalid TLS config: invalid CertKey value: should not be empty"
    );
    let missing = refusal(&[
        ("RTCD_API_HTTP_TLS_ENABLE", "true"),
        ("RTCD_API_HTTP_TLS_CERTFILE", "/nonexistent.pem"),
        ("RTCD_API_HTTP_TLS_CERTKEY", "/nonexistent.pem"),
    ]);
    assert!(missing.starts_with("invalid TLS config: /nonexistent.pem"), "{missing}");
    assert_eq!(
        refusal(&[("RTCD_API_SECURITY_ENABLEADMIN", "true")]),
        "invalid AdminSecretKey value: should not be empty"
    );
    for minutes in ["0", "10080"] {
        let message = refusal(&[
            ("RTCD_RTC_TURNCONFIG_STATICAUTHSECRET", "s"),
            ("RTCD_RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES", minutes),
        ]);
        assert!(message.starts_with("invalid CredentialsExpirationMinutes value"), "{message}");
    }
    let none = refusal(&[("RTCD_LOGGER_ENABLECONSOLE", "false")]);
    assert!(none.contains("at least one of"), "{none}");
    let nowhere = refusal(&[("RTCD_LOGGER_ENABLEFILE", "1"), ("RTCD_LOGGER_FILELOCATION", "")]);
    assert_eq!(nowhere, "invalid FileLocation value: should not be empty");
}

#[test]
fn a_file_of_rtcd_is_read() {
    let mut settings = Settings::defaults();
    let file = r#"
[api]
http.listen_address = ":9045"
security.allow_self_registration = true

[rtc]
ice_address_udp = "127.0.0.1, 10.0.0.1"
ICE_Port_TCP = 9443
ice_host_port_override = 8443
ice_servers = ["stun:a:3478", { urls = ["turn:b:3478"], username = "u", credential = "p" }]
turn.static_auth_secret = "s"
nack_buffer_size = 1024
nack_disable_copy = false
"#;
    settings.apply_file("config.toml", file).expect("valid");
    let config = settings.finish().expect("valid");
    assert_eq!(config.http.listen[0].port(), 9045);
    assert_eq!(config.media.udp.len(), 2);
    assert_eq!(config.media.tcp_port, 9443, "keys are matched ignoring case, too");
    assert_eq!(config.ice_servers.len(), 2, "in TOML each URL is a server");
    assert_eq!(config.ice_servers[1].username, "u");
    assert_eq!(config.engine.history_packets, 1024);
    let named = |key: &str| settings.notices.iter().filter(|n| n.contains(key)).count();
    assert_eq!(named("rtc.nack_disable_copy"), 1, "{:?}", settings.notices);
    assert_eq!(named("rtc.turn.static_auth_secret"), 1);
    assert_eq!(named("api.security.allow_self_registration"), 0);
    assert_eq!(named("rtc.ice_port_tcp"), 0, "keys with an effect are not named");
}

#[test]
fn rtcds_security_keys_reach_what_they_are_for() {
    let mut settings = Settings::defaults();
    let config = settings.clone().finish().expect("defaults work");
    assert!(config.security.admin.is_none() && !config.security.self_registration);
    assert_eq!(config.security.token_lifetime, Duration::from_secs(24 * 3600));
    assert_eq!(config.store, std::path::Path::new("/tmp/rtcd_db"));
    let variables = [
        ("RTCD_API_SECURITY_ADMINSECRETKEY", "secret"),
        ("RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "true"),
        ("RTCD_API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES", "2"),
        ("RTCD_STORE_DATASOURCE", "/var/lib/sluice"),
    ];
    settings.apply_environment(environment(&variables)).expect("valid");
    let config = settings.clone().finish().expect("valid");
    assert!(config.security.admin.is_none(), "a key alone makes no admin");
    assert!(config.security.self_registration);
    assert_eq!(config.security.token_lifetime, Duration::from_secs(120));
    assert_eq!(config.store, std::path::Path::new("/var/lib/sluice"));
    assert!(settings.notices.is_empty(), "{:?}", settings.notices);
    let admin = [("RTCD_API_SECURITY_ENABLEADMIN", "true")];
    settings.apply_environment(environment(&admin)).expect("valid");
    let config = settings.finish().expect("valid");
    assert_eq!(config.security.admin.map(|key| key.0), Some("secret".to_owned()));
}

#[test]
fn a_list_in_the_environment_is_one_server() {
    let mut settings = Settings::defaults();
    let servers = ("RTCD_RTC_ICESERVERS", r#"["stun:a:1", "stun:b:2"]"#);
    settings.apply_environment(environment(&[servers])).expect("valid");
    let config = settings.finish().expect("valid");
    assert_eq!(config.ice_servers.len(), 1);
    assert_eq!(config.ice_servers[0].urls.len(), 2);
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line() {
    let refusal = |text: &str| {
        Settings::defaults().apply_file("s.toml", text).expect_err("it cannot work").to_string()
    };
    let text = refusal("[rtc]\nice_port_udp = 70000\n");
    assert!(
        text.contains("rtc.ice_port_udp") && text.contains("s.toml:2") && text.contains("70000"),
        "{text}"
    );
    assert!(text.contains("80 to 49151"), "{text}");
    let text = refusal("[rtc]\n\nenable_ipv6 = \"yes\"\n");
    assert!(text.contains("s.toml:3") && text.contains("bool"), "{text}");
    let text = refusal("[rtc\n");
    assert!(text.contains("s.toml:1") && text.contains("no TOML"), "{text}");
    for bad in ["rtc = [", "a = 1\na = 2", "\u{0}", "x = \"\\q\""] {
        refusal(bad);
    }
    let secret = refusal("[api.native]\ntoken = \"hunter2\"\n");
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[test]
fn an_unknown_key_is_named_with_its_neighbour_and_ignored() {
    let mut settings = Settings::defaults();
    settings
        .apply_file("s.toml", "[engine]\nshard = 3\n[cluster.redis]\nurl = \"x\"\n")
        .expect("unknown keys are no error");
    assert_eq!(settings.notices.len(), 2, "{:?}", settings.notices);
    assert!(settings.notices[0].contains("s.toml:2") || settings.notices[1].contains("s.toml:2"));
    assert!(settings.notices.iter().any(|n| n.contains("did you mean engine.shards?")));
    assert!(settings.finish().is_ok());
}

#[test]
fn our_own_keys_reach_what_they_are_for() {
    let mut settings = Settings::defaults();
    let variables = environment(&[
        ("SLUICE_API_TOKEN", "correct-horse-battery"),
        ("SLUICE_ENGINE_SHARDS", "3"),
        ("SLUICE_ENGINE_BACKEND", "mmsg"),
        ("SLUICE_ENGINE_PIN", "false"),
        ("SLUICE_ENGINE_HISTORY_PACKETS", "64"),
        ("SLUICE_ENGINE_SOCKET_BUFFER_BYTES", "65536"),
        ("SLUICE_ENGINE_CONNECT_TIMEOUT_S", "11"),
        ("SLUICE_ENGINE_CONSENT_TIMEOUT_S", "12"),
        ("SLUICE_ENGINE_DISCONNECTED_TIMEOUT_S", "13"),
        ("SLUICE_ENGINE_KEYFRAME_INTERVAL_MS", "14"),
        ("SLUICE_ENGINE_LAYERS_LOW_BPS", "300000"),
        ("SLUICE_ENGINE_LAYERS_HIGH_BPS", "3000000"),
        ("SLUICE_ENGINE_LAYERS_ESTIMATE_MAX_BPS", "4000000"),
        ("SLUICE_ENGINE_LAYERS_BACK_OFF_S", "7"),
        ("SLUICE_RTC_ADVERTISE_LOOPBACK", "never"),
        ("SLUICE_LIMITS_CALLS", "15"),
        ("SLUICE_LIMITS_SESSIONS_PER_CALL", "16"),
        ("SLUICE_LIMITS_SESSIONS_PER_SHARD", "17"),
        ("SLUICE_ENGINE_CALL_SESSIONS_PER_SHARD", "22"),
        ("SLUICE_LIMITS_TRACKS_PER_SESSION", "18"),
        ("SLUICE_API_HTTP_CONNECTIONS_MAX", "19"),
        ("SLUICE_API_HTTP_HEADER_TIMEOUT_S", "20"),
        ("SLUICE_API_HTTP_BODY_TIMEOUT_S", "21"),
        ("RTCD_RTC_NACKBUFFERSIZE", "4096"),
        ("SLUICE_ENGINE_BATCH_WINDOW_US", "250"),
    ]);
    settings.apply_environment(variables).expect("valid");
    let config = settings.finish().expect("valid");
    let engine = &config.engine;
    assert_eq!(engine.batch_window, Duration::from_micros(250));
    let layers = &engine.layers;
    assert_eq!((layers.low_bps, layers.high_bps), (300_000, 3_000_000));
    assert_eq!((layers.estimate_max_bps, layers.back_off), (4_000_000, Duration::from_secs(7)));
    assert_eq!(config.token.as_ref().map(|t| t.0.as_str()), Some("correct-horse-battery"));
    assert_eq!((engine.shards, engine.backend, engine.pin), (3, BackendChoice::Mmsg, false));
    assert_eq!((engine.history_packets, config.tuning.socket_buffer_bytes), (64, Some(65_536)));
    assert_eq!(
        (engine.connect_timeout, engine.consent_timeout),
        (Duration::from_secs(11), Duration::from_secs(12))
    );
    assert_eq!(engine.disconnected_timeout, Duration::from_secs(13));
    assert_eq!(engine.keyframe_interval, Duration::from_millis(14));
    assert_eq!(config.media.advertise_loopback, AdvertiseLoopback::Never);
    assert_eq!((config.limits.calls, config.limits.sessions_per_call), (15, 16));
    assert_eq!((engine.sessions_max, config.limits.tracks_per_session), (17, 18));
    assert_eq!(config.limits.call_sessions_per_shard, 22);
    assert_eq!(config.http.connections_max, 19);
    assert_eq!(
        (config.http.header_timeout, config.http.body_timeout),
        (Duration::from_secs(20), Duration::from_secs(21))
    );
    for (path, bad) in [
        ("engine.shards", "1025"),
        ("engine.backend", "dpdk"),
        ("engine.history_packets", "100"),
        ("engine.batch_window_us", "1001"),
        ("engine.batch_window_us", "-1"),
        ("engine.batch_window_us", "always"),
        ("rtc.advertise_loopback", "sometimes"),
        ("api.native.token", "short"),
        ("api.native.token", "with spaces in the middle"),
        ("limits.calls", "0"),
        ("no.such.key", "1"),
    ] {
        assert!(Settings::defaults().apply_flag("--set", path, bad).is_err(), "{path} = {bad}");
    }
}

#[test]
fn the_written_documentation_is_current() {
    let written = include_str!("../../../docs/configuration.md");
    assert!(
        written == document::markdown(),
        "run: sluice config --print-docs > docs/configuration.md"
    );
}
