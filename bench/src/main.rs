//! `sluice-bench`: clients with a stopwatch, against a server that already runs on this machine.
//!
//! [`scenario`] says what to do, [`run`] does it with a [`fleet`] of [`client`]s and looks at the server through [`probe`];
//! [`verdict`] judges it and [`mod@report`] makes a table of the results. Absent on purpose: starting servers, and any dependency on their code beyond
//! the engine's packet formats.

// The result of a run is one large `json!`.
#![recursion_limit = "256"]
#![allow(unreachable_pub, reason = "a program has no outside; `pub` is what a module offers")]

mod client;
#[allow(dead_code)]
mod conversation;
mod fanout_args;
mod flame;
mod fleet;
mod probe;
mod report;
#[allow(dead_code)]
mod result;
mod run;
#[allow(dead_code)]
mod scenario;
#[allow(dead_code)]
mod signalling;
mod stats;
mod stop;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

#[derive(Parser)]
#[command(name = "sluice-bench", about = "Load clients and measurements for Sluice")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One publisher and many receivers: CPU per packet, memory, loss, latency
    Fanout(fanout_args::Fanout),
    /// Connected sessions without media: memory and CPU per session
    Idle(fanout_args::Idle),
    /// A picture of where a program spent its time, to the standard output
    FlameGraph(flame::Arguments),
    /// Puts results together: medians with the least and the most
    Report {
        /// Files that --json wrote, all of fanout or all of idle
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Fanout(scenario) => measure(&scenario.server, || run::fanout(&scenario)),
        Command::Idle(scenario) => measure(&scenario.server, || run::idle(&scenario)),
        Command::FlameGraph(arguments) => flame::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Report { files } => report(&files),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("sluice-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs, writes the result, and fails when it is not the server's or only part of what was asked for.
fn measure(
    server: &fanout_args::Server,
    run: impl FnOnce() -> Result<Value, String>,
) -> Result<ExitCode, String> {
    stop::listen();
    let result = run()?;
    if let Some(path) = &server.json {
        let text = format!("{result:#}\n");
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("{}", report::table(std::slice::from_ref(&result))?);
    let is_whole = result["valid"] == true && result["partial"] == false;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(files: &[PathBuf]) -> Result<ExitCode, String> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let runs = files.iter().map(read).collect::<Result<Vec<Value>, _>>()?;
    println!("{}", report::table(&runs)?);
    Ok(ExitCode::SUCCESS)
}
