//! `sluice`: arguments, configuration, start, wait for a signal, drain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use sluice_control::auth::Auth;
use sluice_control::config::keys::KEYS;
use sluice_control::config::value::Kind;
use sluice_control::config::{Config, HostOverride, Origin, Refusal, Settings, document};
use sluice_control::host_tuning::HostTuning;
use sluice_control::http::{App, server, tls};
use sluice_control::media_plane::MediaPlane;
use sluice_control::rtcd::service::Rtcd;
use sluice_control::service::{DrainCause, Service, report_channels};
use sluice_control::store::Store;
use sluice_control::{addresses, command_line, doctor, logging};
use sluice_engine::io::pin;
use sluice_engine::shard::handle::Engine;
use sluice_tuning::host::Host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Read when it exists and no other file is named, as rtcd does.
const DEFAULT_FILE: &str = "config/config.toml";

/// Variables that rtcd reads besides those of its keys: Go's profiling, and a switch of its DTLS library.
const NOT_KEYS: &[&str] = &["PERF_PROFILES", "RTCD_RTC_DTLS_INSECURE_SKIP_HELLOVERIFY"];

/// Status of a process that a second signal ended, as shells have it for SIGINT.
const INTERRUPTED: u8 = 130;

/// Time for goodbyes after a second signal.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Threads of the control plane; the shards have their own. Two wake each other for every report of a shard, which is for hosts
/// with cores for it.
fn control_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < CORES_FOR_TWO { 1 } else { 2 }
}

/// Cores from which on the control plane has two threads.
const CORES_FOR_TWO: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let as_rtcd = command_line::is_rtcd(&arguments);
    let matches = command().get_matches_from(command_line::completed(arguments));
    let result = match matches.subcommand() {
        Some(("serve", arguments)) => serve(arguments, as_rtcd),
        Some(("config", arguments)) => config(arguments).map(|()| ExitCode::SUCCESS),
        Some(("doctor", arguments)) => Ok(doctor::run(arguments)),
        _ => Ok(ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("sluice: {message}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let mut serve = Command::new("serve")
        .about("Runs the server; needs no configuration. What is done without a subcommand")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help(format!("TOML file with settings [default: {DEFAULT_FILE}, if it is there]")),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("KEY=VALUE")
                .action(ArgAction::Append)
                .help("Sets any key of the configuration; may be repeated"),
        );
    for key in KEYS {
        let Some(flag) = key.flag else { continue };
        let argument = Arg::new(flag)
            .long(flag)
            .value_name(match key.kind {
                Kind::Bool => "BOOL",
                Kind::Int => "NUMBER",
                _ => "TEXT",
            })
            .help(format!("{} [{}, default: {}]", key.doc, key.path, key.default));
        serve = serve.arg(match key.kind {
            Kind::Bool => {
                argument.num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            _ => argument,
        });
    }
    let config = Command::new("config")
        .about("Prints or checks the configuration")
        .arg(
            Arg::new("print-default")
                .long("print-default")
                .action(ArgAction::SetTrue)
                .help("Prints a file with every key, its meaning and its default"),
        )
        .arg(
            Arg::new("print-docs")
                .long("print-docs")
                .action(ArgAction::SetTrue)
                .help("Prints docs/configuration.md"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .value_name("FILE")
                .help("Checks a file together with the environment"),
        )
        .group(
            ArgGroup::new("action").args(["print-default", "print-docs", "check"]).required(true),
        );
    Command::new("sluice")
        .about("A WebRTC forwarding server")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::Version)
                .help("Prints the version"),
        )
        .subcommand(serve)
        .subcommand(config)
        .subcommand(doctor::command())
}

fn config(arguments: &ArgMatches) -> Result<(), String> {
    if arguments.get_flag("print-default") {
        print!("{}", document::sample());
    } else if arguments.get_flag("print-docs") {
        print!("{}", document::markdown());
    } else if let Some(path) = arguments.get_one::<String>("check") {
        let mut settings = Settings::defaults();
        settings.apply_file(path, &read(path)?).map_err(|e| e.to_string())?;
        apply_environment(&mut settings).map_err(|e| e.to_string())?;
        settings.finish().map_err(|e| e.to_string())?;
        for notice in &settings.notices {
            println!("{notice}");
        }
        println!("{path} is right");
    }
    Ok(())
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn apply_environment(settings: &mut Settings) -> Result<(), Refusal> {
    settings.apply_environment(|name| {
        // A value that is no UTF-8 is set, and wrong.
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    })
}

fn load(arguments: &ArgMatches, as_rtcd: bool) -> Result<(Config, Vec<String>), String> {
    let mut settings = Settings::defaults();
    if as_rtcd {
        settings.take_rtcd_defaults();
    }
    match arguments.get_one::<String>("config") {
        Some(path) if as_rtcd && !Path::new(path).exists() => {
            settings.notices.push(format!("{path} is missing: defaults and environment count"));
        }
        Some(path) => settings.apply_file(path, &read(path)?).map_err(|e| e.to_string())?,
        None if Path::new(DEFAULT_FILE).exists() => {
            settings.apply_file(DEFAULT_FILE, &read(DEFAULT_FILE)?).map_err(|e| e.to_string())?;
        }
        None => {}
    }
    apply_environment(&mut settings).map_err(|e| e.to_string())?;
    for key in KEYS {
        let Some(flag) = key.flag else { continue };
        if let Some(value) = arguments.get_one::<String>(flag) {
            let applied = settings.apply_flag(&format!("--{flag}"), key.path, value);
            applied.map_err(|e| e.to_string())?;
        }
    }
    for pair in arguments.get_many::<String>("set").unwrap_or_default() {
        let Some((path, value)) = pair.split_once('=') else {
            return Err(format!("--set {pair}: write KEY=VALUE"));
        };
        settings.apply_flag("--set", path, value).map_err(|e| e.to_string())?;
    }
    for name in NOT_KEYS.iter().filter(|name| std::env::var_os(name).is_some()) {
        settings.notices.push(format!("environment variable {name} has no effect"));
    }
    let mut config = settings.finish().map_err(|e| e.to_string())?;
    if settings.origin("logger.enable_file") == Origin::Default {
        settings.notices.extend(logging::skip_unwritable_file(&mut config.logger));
    }
    if let Origin::Flag(name) = settings.origin("api.native.token") {
        settings.notices.push(format!(
            "the token stands in {name}, where other users of this host can read \
                     it: SLUICE_API_TOKEN hides it"
        ));
    }
    Ok((config, settings.notices))
}

fn serve(arguments: &ArgMatches, as_rtcd: bool) -> Result<ExitCode, String> {
    let (mut config, notices) = load(arguments, as_rtcd)?;
    logging::start(&config.logger)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    let tls = config.http.tls.as_ref().map(tls::load).transpose()?;
    let tuning = tune(&mut config);
    let (udp, tcp) = addresses::listen_addresses(&config.media, &PathBuf::from("/"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(control_threads())
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| format!("the control threads did not start: {error}"))?;
    // Before the engine has the media port, from which a STUN server is asked.
    let external = runtime.block_on(addresses::find_external(&config, &udp, &tcp))?;
    config.engine.addresses = udp;
    config.engine.tcp_addresses = tcp;
    config.engine.validate().map_err(|error| error.to_string())?;

    // Before the engine: a port in use is found before anything runs.
    let listener = {
        let _entered = runtime.enter();
        server::bind(&config.http).map_err(|error| format!("api.http.listen_address: {error}"))?
    };
    let auth = Auth::new(Store::open(&config.store)?, &config.security);
    let mut queues = Vec::new();
    let engine = Engine::start(config.engine.clone(), |_| {
        let (sink, queue) = report_channels();
        queues.push(queue);
        sink
    });
    let engine = Arc::new(engine.map_err(|error| error.to_string())?);

    // Before it says that it serves: whoever reads that may send a signal.
    let signals = {
        let _entered = runtime.enter();
        Signals::new()?
    };
    let url = page_url(&config, listener.local_addr().ok());
    announce(&config, &engine, &url);
    let plane: Arc<dyn MediaPlane> = Arc::clone(&engine) as Arc<dyn MediaPlane>;
    let result = runtime.block_on(async {
        let service = Service::new(plane, &config);
        service.advertised().learn(&external);
        keep_resolved(&service, &config, external);
        service.watch(queues);
        let app = App::new(Arc::clone(&service), &config, tuning, auth);
        app.cpu_load.watch(PathBuf::from("/"));
        let rtcd = app.rtcd.clone();
        let (stop, stopped) = watch::channel(false);
        let http = config.http.clone();
        let serving = tokio::spawn(async move {
            server::serve(listener, tls, app.router(), &http, stopped).await;
        });
        let interrupted = drained(&service, &rtcd, signals, config.drain_timeout).await;
        let _ = stop.send(true);
        if interrupted {
            let _ = tokio::time::timeout(LAST_WORDS, serving).await;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let _ = serving.await;
        Ok(ExitCode::SUCCESS)
    });
    // Whatever still runs holds the engine; it is dropped here.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Ok(engine) = Arc::try_unwrap(engine) {
        engine.stop();
    }
    result
}

/// Looks at the host, changes it where that was asked for, and gives the engine the cores and buffers that follow. Before any socket is
/// made: what it may ask for depends on the host's settings.
fn tune(config: &mut Config) -> HostTuning {
    let shards = config.engine.shards;
    let tuning = HostTuning::new(config.tuning.mode, config.goal(), Host::this());
    tuning.start();
    let demand = tuning.demand();
    let bytes = |needed: u64| {
        config.tuning.socket_buffer_bytes.unwrap_or(usize::try_from(needed).unwrap_or(usize::MAX))
    };
    config.engine.receive_buffer_bytes = bytes(demand.receive_buffer_bytes.value);
    config.engine.send_buffer_bytes = bytes(demand.send_buffer_bytes.value);
    let allowed = pin::allowed_cores().unwrap_or_default();
    if let Some(placement) = tuning.place(usize::from(shards), &allowed)
        && config.engine.pin
    {
        tracing::info!(cores = ?placement.cores, "shards: {}", placement.reason);
        config.engine.cores = placement.cores;
    }
    tuning
}

/// Serves until a signal, then lets calls go on until they have ended, their time is over or a second
/// signal comes; returns whether one did. A third one ends the process where it stands.
async fn drained(
    service: &Arc<Service>,
    rtcd: &Rtcd,
    mut signals: Signals,
    limit: Duration,
) -> bool {
    let signal = signals.next().await;
    service.begin_drain(DrainCause::Signal);
    let sessions = service.sessions_left();
    tracing::info!(signal, sessions, ?limit, "draining; a second signal ends at once");
    let interrupted = tokio::select! {
        () = service.emptied() => false,
        () = tokio::time::sleep(limit) => {
            tracing::warn!(sessions = service.sessions_left(), "the time to drain is over");
            false
        }
        _ = signals.next() => true,
    };
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(INTERRUPTED.into());
    });
    let end = async {
        service.end_calls().await;
        rtcd.end().await;
        rtcd.hub().shut_down();
    };
    if interrupted {
        tracing::warn!(sessions = service.sessions_left(), "a second signal: ending at once");
        let _ = tokio::time::timeout(LAST_WORDS, end).await;
    } else {
        end.await;
    }
    interrupted
}

/// Watches the name of the override, if it has one.
fn keep_resolved(service: &Arc<Service>, config: &Config, external: addresses::External) {
    let (HostOverride::Name(name), addresses::External::Override(current)) =
        (config.media.host_override.clone(), external)
    else {
        return;
    };
    let (advertised, ipv6) = (Arc::clone(service.advertised()), config.media.ipv6);
    tokio::spawn(async move {
        let resolve = async |name: &str| addresses::resolve(name).await;
        addresses::keep_resolved(&advertised, &name, ipv6, current, resolve).await;
    });
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Where somebody on this host opens the call page.
fn page_url(config: &Config, address: Option<std::net::SocketAddr>) -> String {
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    match address {
        Some(a) if a.ip().is_unspecified() => format!("{scheme}://localhost:{}/", a.port()),
        Some(a) => format!("{scheme}://{a}/"),
        None => String::new(),
    }
}

/// Says plainly what runs where; as a log line where the console is JSON.
fn announce(config: &Config, engine: &Engine, url: &str) {
    let facts = Engine::facts(engine);
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![
        format!("Sluice {}", env!("CARGO_PKG_VERSION")),
        format!("  call page   {url}"),
        format!("  media UDP   {}", list(&facts.udp)),
        format!("  media TCP   {}", list(&facts.tcp)),
        format!("  back-end    {}, {} shards", facts.backend, Engine::shards(engine).len()),
    ];
    if let Some(reason) = &facts.backend_reason {
        lines.push(format!("              not uring: {reason}"));
    }
    lines.push(format!(
        "  buffers     receive {} of {}, send {} of {} bytes granted",
        facts.receive_buffer_bytes,
        facts.receive_buffer_bytes_wanted,
        facts.send_buffer_bytes,
        facts.send_buffer_bytes_wanted
    ));
    let buffers = [
        ("rmem_max", facts.receive_buffer_bytes, facts.receive_buffer_bytes_wanted),
        ("wmem_max", facts.send_buffer_bytes, facts.send_buffer_bytes_wanted),
    ];
    for (name, granted, wanted) in buffers {
        if granted < wanted {
            lines.push(format!("              for the rest: sysctl -w net.core.{name}={wanted}"));
        }
    }
    let memory_mib = facts.memory_reserved_bytes.div_ceil(1 << 20);
    lines.push(format!("  memory      {memory_mib} MiB reserved, used as needed"));
    lines.push(match config.token {
        Some(_) => "  access      with the token".to_owned(),
        None => {
            "  access      from this host only; to let others in, set SLUICE_API_TOKEN".to_owned()
        }
    });
    match &config.logger.console {
        Some(console) if console.json => {
            lines.iter().for_each(|line| tracing::info!("{}", line.trim()));
        }
        _ => lines.iter().for_each(|line| println!("{line}")),
    }
}
