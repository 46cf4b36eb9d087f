//! `run`, `compare` and `capacity`: commands that put load on a server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;

use clap::Args;
use sluice_engine::clock;

use super::load::{LoadArguments, least_time};
use super::write;
use crate::compare::Side;
use crate::floor::{self, Device};
use crate::reports;
use crate::reports::progress::{Progress, Shown};
use crate::result::{RunResult, write_json};
use crate::run::{self, RunOptions};
use crate::scenario::Scenario;
use crate::signalling::account;
use crate::{capacity, compare, stop};

/// One run.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// The server, which already runs: rtcd=URL, sluice=URL or whip=URL
    #[arg(long)]
    target: String,
    /// Its process, for CPU and memory; found by itself on this host where it may be looked up
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    load: LoadArguments,
    /// Measures the floors of the same packets on this machine afterwards: saturated, and in this rhythm on loopback
    #[arg(long)]
    floor: bool,
    /// The core that the floors are sent from; readers run on the others [default: the server's, if it has but one]
    #[arg(long, requires = "floor")]
    floor_core: Option<usize>,
    /// What the floor sends to
    #[arg(long, default_value_t = Device::Loopback, requires = "floor")]
    floor_device: Device,
    /// Names this configuration of the server in reports
    #[arg(long, default_value = "")]
    label: String,
    /// Writes the result to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the report as a page
    #[arg(long)]
    html: Option<PathBuf>,
}

/// A comparison.
#[derive(Args, Clone, Debug)]
pub struct CompareArguments {
    /// The first server: rtcd=URL, sluice=URL or whip=URL
    #[arg(long)]
    a: String,
    /// The second one
    #[arg(long)]
    b: String,
    /// Process of the first; found by itself on this host where it may be looked up
    #[arg(long)]
    pid_a: Option<u32>,
    /// Process of the second
    #[arg(long)]
    pid_b: Option<u32>,
    #[command(flatten)]
    load: LoadArguments,
    /// Pairs of runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Writes both sides' results to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A search for the largest load.
#[derive(Args, Clone, Debug)]
pub struct CapacityArguments {
    /// The server: rtcd=URL, sluice=URL or whip=URL
    #[arg(long)]
    target: String,
    /// Its process
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    load: LoadArguments,
    /// Loss that is still carried, share of the packets
    #[arg(long, default_value_t = 1e-4)]
    loss_max: f64,
    /// Latency that is still carried, p99, milliseconds
    #[arg(long, default_value_t = 20.0)]
    p99_max_ms: f64,
    /// Writes all steps to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs once, shows and writes the result; fails when it is not the server's, only part of what was asked for, or not what the
/// scenario expects.
pub fn run(arguments: &RunArguments) -> Result<ExitCode, String> {
    stop::listen();
    let load = &arguments.load;
    let scenario = load.scenario()?;
    let target = load.target(&arguments.target, &scenario)?;
    let options = load.options(target, arguments.pid, scenario, &arguments.label);
    let mut result = run_once(&options)?;
    if arguments.floor && !result.partial && options.scenario.has_media() {
        let core = arguments.floor_core.or_else(|| options.pid.and_then(floor::only_core));
        measure_floors(&mut result, &options.scenario, arguments.floor_device, core);
    }
    if let Some(path) = &arguments.json {
        write_json(path, &result)?;
    }
    if let Some(path) = &arguments.html {
        write(path, &reports::html(slice::from_ref(&result), &[]))?;
    }
    println!("{}", reports::markdown(slice::from_ref(&result), &[]));
    let is_met = result.as_expected != Some(false);
    let is_good = result.valid && result.complete && is_met && !result.partial;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gives a run the floors of its packets: as fast as can be, and as they were sent, also with runs as long as the server's.
///
/// A run is whole without them: what was in the way stands among its problems.
fn measure_floors(
    result: &mut RunResult,
    scenario: &Scenario,
    device: Device,
    core: Option<usize>,
) {
    let progress = &mut |text: &str| eprintln!("floor: {text}");
    let plan = floor::FloorPlan { devices: vec![device], core, ..floor::plan_for(scenario) };
    match floor::measure(&plan, progress) {
        Ok(found) => {
            floor::hold_against(result, &found.points, device.name());
            result.problems.extend(found.missing);
        }
        Err(why) => result.problems.push(format!("no floor: {why}")),
    }
    let alike =
        result.server.run_length_out.and_then(|mean| floor::nearest_run(scenario, mean).ok());
    let run_of = std::iter::once(None).chain(alike.map(Some)).collect();
    let plan = floor::PacedPlan { run_of, core, ..floor::PacedPlan::default() };
    match floor::measure_paced(scenario, &plan, &mut result.problems, progress) {
        Ok(found) => floor::hold_on_path(result, &found),
        Err(why) => result.problems.push(format!("no floor on this path: {why}")),
    }
}

/// Runs both sides in turns.
pub fn compare(arguments: &CompareArguments) -> Result<ExitCode, String> {
    stop::listen();
    let load = &arguments.load;
    let scenario = load.scenario()?;
    let side = |text: &str, pid, label: &str| -> Result<RunOptions, String> {
        let target = load.target(text, &scenario)?;
        Ok(load.options(target, pid, scenario.clone(), label))
    };
    let a = side(&arguments.a, arguments.pid_a, "a")?;
    let b = side(&arguments.b, arguments.pid_b, "b")?;
    let mut one = |side: Side, round: u32| {
        let options = if side == Side::A { &a } else { &b };
        // Both sides of a round have the same seed.
        run_once(&RunOptions { seed: options.seed + u64::from(round), ..options.clone() })
    };
    let found = compare::compare(arguments.rounds, &mut one, &mut |text| eprintln!("{text}"))?;
    if let Some(path) = &arguments.json {
        write_json(path, &found)?;
    }
    println!("{}", compare::markdown(&found));
    Ok(if found.partial { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Steps the load until it is too much.
pub fn capacity(arguments: &CapacityArguments) -> Result<ExitCode, String> {
    stop::listen();
    let load = &arguments.load;
    let scenario = load.scenario()?;
    let target = load.target(&arguments.target, &scenario)?;
    let mut step = |scenario: &Scenario| {
        run_once(&load.options(target.clone(), arguments.pid, scenario.clone(), ""))
    };
    let limits =
        capacity::Limits { loss_max: arguments.loss_max, p99_max_us: arguments.p99_max_ms * 1e3 };
    let found = capacity::search(&scenario, limits, &mut step, &mut |text| eprintln!("{text}"))?;
    if let Some(path) = &arguments.json {
        write_json(path, &found)?;
    }
    println!("{}", capacity::markdown(&found));
    Ok(if found.partial { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Registers, runs with progress on the screen, and takes the registration back.
fn run_once(options: &RunOptions) -> Result<RunResult, String> {
    let mut options = options.clone();
    account::prepare(&mut options.target)?;
    eprintln!(
        "{}: {} calls of {}, at least {:.0?}",
        options.scenario.name,
        options.scenario.calls.calls,
        options.scenario.calls.participants,
        least_time(&options.scenario)
    );
    let mut shown = Shown::on_stderr();
    let has_process = options.pid.is_some();
    let mut result = run::run(&options, &mut |tick, participants| {
        let progress = Progress {
            at_s: tick.at_s,
            phase: tick.phase,
            joined: tick.participants,
            participants,
            packets_in_per_s: tick.packets_in_per_s,
            packets_out_per_s: tick.packets_out_per_s,
            loss: (tick.packets_out_per_s > 0.0).then_some(tick.loss),
            server_cores: has_process.then_some(tick.server_cores),
        };
        shown.show(clock::now(), &progress);
    });
    shown.finish();
    // What was measured counts all the same, and a run that failed has the better reason.
    if let (Err(why), Ok(result)) = (account::finish(&options.target), &mut result) {
        result.problems.push(format!("the account of this run stays at the server: {why}"));
    }
    result
}
