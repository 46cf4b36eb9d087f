//! The command line: what each command takes, and which parts it calls.

mod load;
mod measure;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::worker::{self, WorkerArguments};
use crate::{flame, floor, impair};

#[derive(Parser)]
#[command(
    name = "sluice-bench",
    about = "Load clients and measurements for Sluice and other servers",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario against a server: CPU, memory, loss, latency, frames
    Run(measure::RunArguments),
    /// Runs a scenario against two servers in turns and prints the ratios
    Compare(measure::CompareArguments),
    /// Finds the largest load that a server carries
    Capacity(measure::CapacityArguments),
    /// Measures what copy, header, cipher and send cost on this machine with nothing else
    Floor(floor::Floor),
    /// Puts results together: Markdown, HTML
    Report(show::ReportArguments),
    /// Draws folded stacks, or the output of `perf script`, as SVG
    FlameGraph(flame::Arguments),
    /// Lists the scenarios that come with the program, or prints one
    Scenarios {
        /// Prints this one as TOML
        name: Option<String>,
    },
    /// Waits for a controller on another host and lends it clients
    Worker(WorkerArguments),
    /// Plays a bad network between clients and a server
    Impair(impair::command::Arguments),
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => measure::run(&arguments),
        Command::Compare(arguments) => measure::compare(&arguments),
        Command::Capacity(arguments) => measure::capacity(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Report(arguments) => done(show::report(&arguments)),
        Command::FlameGraph(arguments) => done(flame::run(&arguments)),
        Command::Scenarios { name } => done(show::scenarios(name.as_deref())),
        Command::Worker(arguments) => done(worker::serve_controllers(&arguments)),
        Command::Impair(arguments) => impair::command::run(&arguments),
    };
    result.unwrap_or_else(|message| {
        eprintln!("sluice-bench: {message}");
        ExitCode::FAILURE
    })
}

fn done(result: Result<(), String>) -> Result<ExitCode, String> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Writes a file, with an error for people.
fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The command line as it was given, for reports. Secrets are not in it.
fn command_line() -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for word in std::env::args() {
        let secret =
            ["--token", "--secret", "--rtcd-key"].iter().find(|name| word.starts_with(**name));
        match secret {
            _ if std::mem::take(&mut hide) => words.push("…".to_owned()),
            Some(name) if word.contains('=') => words.push(format!("{name}=…")),
            Some(_) => {
                hide = true;
                words.push(word);
            }
            None => words.push(word),
        }
    }
    if let Some(program) = words.first_mut() {
        "sluice-bench".clone_into(program);
    }
    words.join(" ")
}
