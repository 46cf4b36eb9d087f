//! `sluice`: arguments, configuration, start, wait for a signal, drain.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use sluice_control::auth::Auth;
use sluice_control::config::keys::KEYS;
use sluice_control::config::value::Kind;
use sluice_control::config::{Config, Origin, Refusal, Settings, document};
use sluice_control::http::{App, server, tls};
use sluice_control::media_plane::MediaPlane;
use sluice_control::service::{Service, report_channels};
use sluice_control::store::Store;
use sluice_control::{addresses, logging};
use sluice_engine::shard::handle::Engine;
use sluice_tuning::facts::Facts;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Read when it exists and no other file is named, as rtcd does.
const DEFAULT_FILE: &str = "config/config.toml";

/// Threads of the control plane; the shards have their own.
const CONTROL_THREADS: usize = 2;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("serve", arguments)) => serve(arguments),
        Some(("config", arguments)) => config(arguments),
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sluice: {message}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let mut serve = Command::new("serve")
        .about("Runs the server; needs no configuration")
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
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(config)
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

fn load(arguments: &ArgMatches) -> Result<(Config, Vec<String>), String> {
    let mut settings = Settings::defaults();
    match arguments.get_one::<String>("config") {
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
    let config = settings.finish().map_err(|e| e.to_string())?;
    if let Origin::Flag(name) = settings.origin("api.native.token") {
        settings.notices.push(format!(
            "the token stands in {name}, where other users of this host can read \
                     it: SLUICE_API_TOKEN hides it"
        ));
    }
    Ok((config, settings.notices))
}

fn serve(arguments: &ArgMatches) -> Result<(), String> {
    let (mut config, notices) = load(arguments)?;
    logging::start(&config.logger)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    let tls = config.http.tls.as_ref().map(tls::load).transpose()?;
    let host = Facts::read(Path::new("/"));
    let (udp, tcp) = addresses::listen_addresses(&config.media, &PathBuf::from("/"))?;
    config.engine.addresses = udp;
    config.engine.tcp_addresses = tcp;
    config.engine.validate().map_err(|error| error.to_string())?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| format!("the control threads did not start: {error}"))?;
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

    let url = page_url(&config, listener.local_addr().ok());
    announce(&config, &engine, &url);
    let plane: Arc<dyn MediaPlane> = Arc::clone(&engine) as Arc<dyn MediaPlane>;
    let result = runtime.block_on(async {
        let service = Service::new(plane, &config);
        service.watch(queues);
        let app = App::new(Arc::clone(&service), &config, host, auth);
        app.cpu_load.watch(PathBuf::from("/"));
        let mut signals = Signals::new()?;
        let (stop, stopped) = watch::channel(false);
        let http = config.http.clone();
        let serving = tokio::spawn(async move {
            server::serve(listener, tls, app.router(), &http, stopped).await;
        });
        let name = signals.next().await;
        tracing::info!(signal = name, "shutting down; a second signal ends at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(130);
        });
        service.drain().await;
        let _ = stop.send(true);
        let _ = serving.await;
        Ok(())
    });
    // Whatever still runs holds the engine; it is dropped here.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Ok(engine) = Arc::try_unwrap(engine) {
        engine.stop();
    }
    result
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
    let wanted = config.engine.socket_buffer_bytes;
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
        "  buffers     receive {}, send {} bytes granted of {wanted}",
        facts.receive_buffer_bytes, facts.send_buffer_bytes
    ));
    if facts.receive_buffer_bytes < wanted || facts.send_buffer_bytes < wanted {
        lines.push(format!(
            "              for the rest: sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}"
        ));
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
