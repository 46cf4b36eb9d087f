//! `sluice doctor`: finds out why clients do not connect, from the operator's side.
//!
//! It asks the running server what it is (`node`), makes a session of its own (`probe_session`) and does to each announced
//! candidate what a client's ICE agent does (`check`). From that (`reach`), from the addresses themselves (`announced`, `address`,
//! `host`) and from the settings (`settings`) it makes findings, each with its fix (`finding`, `report`); `examine` puts that
//! together. For a look from outside without the API there are tickets (`ticket`): `waiting` is the server's side, `visit` the other.
//!
//! The media port answers nobody for it that it would not answer anyway.

mod address;
mod announced;
mod api;
mod check;
mod examine;
mod finding;
mod host;
mod node;
mod probe_session;
mod reach;
mod report;
mod settings;
mod ticket;
mod visit;
mod waiting;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Secret};
use crate::service::unix_s;
use api::{Api, ServerUrl};
use examine::Trouble;
use finding::Verdict;
use report::Report;

/// Nothing could be examined, or the command is wrong.
const NOTHING_EXAMINED: u8 = 2;

/// Where a server is that nothing is said of.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8045";

/// What the command line says.
pub(crate) struct Options {
    /// Time for each check.
    limit: Duration,
    /// The settings of the file and the environment, or what is wrong with them.
    settings: Result<Config, String>,
    /// A STUN server to ask for the public address.
    stun: Option<String>,
}

/// The subcommand.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("doctor")
        .about("Finds out whether clients can reach the running server, and what to change if not")
        .after_help(
            "Status: 0 nothing fails, 1 something fails, 2 nothing could be examined.\n\
             From another host: give --server the server's HTTPS address and the token. Where the API is not reachable,\n\
             run `sluice doctor --ticket` on the server's host and `sluice doctor --from TICKET` on the other.",
        )
        .arg(text(
            "server",
            "URL",
            "The server's API [default: http://127.0.0.1:8045, or as --config says]",
        ))
        .arg(text("token", "TOKEN", "The API's token; SLUICE_API_TOKEN hides it from other users"))
        .arg(text("config", "FILE", "The server's settings, for what the API does not tell"))
        .arg(text("stun", "HOST:PORT", "Asks this STUN server for the host's public address"))
        .arg(
            text("timeout", "SECONDS", "Time for each check, 1 to 20")
                .default_value("5")
                .value_parser(value_parser!(u64).range(1..=20)),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .conflicts_with("ticket")
                .help("Prints JSON"),
        )
        .arg(
            Arg::new("ticket")
                .long("ticket")
                .action(ArgAction::SetTrue)
                .help("Prints a ticket for a check from another host, and waits for it"),
        )
        .arg(
            text("wait", "SECONDS", "How long the ticket is good, 10 to 3600 [default: 120]")
                .requires("ticket")
                .value_parser(value_parser!(u64).range(10..=3600)),
        )
        .arg(
            text("from", "TICKET", "Checks, from this host, the server that a ticket is of")
                .conflicts_with_all(["server", "config", "stun", "ticket"]),
        )
}

/// Runs the subcommand.
pub fn run(arguments: &ArgMatches) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(examined(arguments)),
        Err(error) => Err(Trouble(format!("the runtime did not start: {error}"))),
    };
    result.unwrap_or_else(|Trouble(why)| {
        eprintln!("sluice doctor: {}", report::escaped(&why));
        ExitCode::from(NOTHING_EXAMINED)
    })
}

async fn examined(arguments: &ArgMatches) -> Result<ExitCode, Trouble> {
    let given = |name: &str| arguments.get_one::<String>(name).cloned();
    let seconds = |name: &str, default| {
        Duration::from_secs(arguments.get_one::<u64>(name).copied().unwrap_or(default))
    };
    let limit = seconds("timeout", 5);
    let as_json = arguments.get_flag("json");
    if let Some(text) = given("from") {
        return Ok(print(&visit::by_ticket(&text, limit, unix_s()).await?, as_json));
    }
    let settings = settings::load(given("config").as_deref());
    let of_settings = settings.as_ref().ok();
    let url = given("server").unwrap_or_else(|| of_settings.map_or(DEFAULT_SERVER.into(), url_of));
    let url = ServerUrl::parse(&url).map_err(|why| Trouble(format!("--server: {why}")))?;
    let token = given("token").map(Secret);
    let token = token.or_else(|| of_settings.and_then(|config| config.token.clone()));
    if !url.tls && token.is_some() && !examine::is_this_host(&url.host) {
        eprintln!(
            "sluice doctor: the token goes to {url} over plain HTTP; whoever is on the way can read it"
        );
    }
    let api = Api { url, token, limit };
    if arguments.get_flag("ticket") {
        let came = waiting::for_others(&api, seconds("wait", 120)).await?;
        return Ok(if came { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let options = Options { limit, settings, stun: given("stun") };
    Ok(print(&examine::server(&api, &options).await?, as_json))
}

/// The API's address by the settings, for somebody on the host.
fn url_of(config: &Config) -> String {
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    match config.http.listen.first() {
        Some(address) if !address.ip().is_unspecified() => format!("{scheme}://{address}"),
        Some(address) if config.http.tls.is_some() => {
            format!("{scheme}://localhost:{}", address.port())
        }
        Some(address) => format!("{scheme}://127.0.0.1:{}", address.port()),
        None => DEFAULT_SERVER.to_owned(),
    }
}

fn print(report: &Report, as_json: bool) -> ExitCode {
    let text = if as_json { format!("{:#}\n", report.json()) } else { report.text() };
    say(&text);
    match report.verdict() {
        Verdict::Failure => ExitCode::FAILURE,
        Verdict::Ok | Verdict::Unknown | Verdict::Warning => ExitCode::SUCCESS,
    }
}

/// Prints. Whoever does not read to the end is no reason to end early: there is something to tidy up.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Ends with the first signal that asks for the end.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}
