//! `report` and `scenarios`: commands that only read and print.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::write;
use crate::floor;
use crate::reports;
use crate::result::{FloorResult, RunResult};
use crate::scenario::{self, Scenario};

/// Results to put together.
#[derive(Args, Clone, Debug)]
pub struct ReportArguments {
    /// Files that `run --json` and `floor --json` wrote
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Writes the report as Markdown, instead of printing it
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Writes the report as a page
    #[arg(long)]
    html: Option<PathBuf>,
    /// Device of the floor that servers are compared with, when a floor is among the files
    #[arg(long, default_value = "loopback")]
    floor_device: String,
}

/// Puts results together.
pub fn report(arguments: &ReportArguments) -> Result<(), String> {
    let (mut runs, mut floors) = (Vec::<RunResult>::new(), Vec::<FloorResult>::new());
    for path in &arguments.files {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
        match value.get("points") {
            Some(_) => {
                floors.push(serde_json::from_value(value).map_err(|e| failed(e.to_string()))?)
            }
            None => {
                let run: RunResult =
                    serde_json::from_value(value).map_err(|e| failed(e.to_string()))?;
                run.scenario.as_ref().map_or(Ok(()), Scenario::check).map_err(failed)?;
                runs.push(run);
            }
        }
    }
    let points: Vec<_> = floors.iter().flat_map(|floor| floor.points.clone()).collect();
    let paced: Vec<_> = floors.iter().flat_map(|floor| floor.paced.clone()).collect();
    for run in runs.iter_mut().filter(|run| run.floor.is_none()) {
        floor::hold_against(run, &points, &arguments.floor_device);
    }
    for run in runs.iter_mut().filter(|run| run.path_floor.is_none()) {
        floor::hold_on_path(run, &paced);
    }
    let markdown = reports::markdown(&runs, &floors);
    match &arguments.markdown {
        Some(path) => write(path, &markdown)?,
        None => println!("{markdown}"),
    }
    if let Some(path) = &arguments.html {
        write(path, &reports::html(&runs, &floors))?;
    }
    Ok(())
}

/// Lists scenarios, or prints one.
pub fn scenarios(name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) => println!(
            "{}",
            toml::to_string_pretty(&Scenario::find(name)?).map_err(|e| e.to_string())?
        ),
        None => println!("{}", scenario::builtin::listing()),
    }
    Ok(())
}
