//! `sluice-bench floor`: its arguments, and what is done with them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, value_parser};

use super::table::{paced_sentence, sentence, table};
use super::{
    Device, FloorPlan, PAYLOAD_BYTES_MAX, PEERS_MAX, PacedPlan, REPEATS_MAX, Shape, measure,
    measure_all_paced, mix, plan_for_all,
};
use crate::result::{FloorResult, write_json};
use crate::scenario::{Scenario, fit, parse_factor, scale};
use crate::stop;

/// What sending costs at the least.
#[derive(Args, Clone, Debug)]
pub struct Floor {
    /// Measures what these scenarios send: names or files, separated by commas
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',', conflicts_with_all = ["payload", "run"])]
    pub scenario: Vec<String>,
    /// Sends what each scenario does in its own rhythm, asleep in between, over loopback to sockets that are read as clients read theirs
    #[arg(long, requires = "scenario", conflicts_with_all = ["device", "peers"])]
    pub paced: bool,
    /// Packets of a mean run, several separated by commas, where a frame can leave in several runs [default: the longest that frames allow]
    #[arg(long, value_name = "PACKETS", value_delimiter = ',', requires = "paced")]
    pub run_of: Vec<f64>,
    /// Shrinks the scenarios, as `run` does
    #[arg(long, requires = "scenario", conflicts_with = "fit", value_parser = parse_factor)]
    pub scale: Option<f64>,
    /// Shrinks them until a server would send no more than so many packets a second and receive no more than half as many
    #[arg(long, requires = "scenario", value_name = "PACKETS_PER_SECOND")]
    pub fit: Option<f64>,
    /// RTP payload bytes, several separated by commas
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [200, 1_180],
        value_parser = value_parser!(u32).range(1..=i64::from(PAYLOAD_BYTES_MAX)))]
    pub payload: Vec<u32>,
    /// Packets of one send, several separated by commas
    #[arg(long, value_name = "PACKETS", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16],
        value_parser = value_parser!(u32).range(1..=64))]
    pub run: Vec<u32>,
    /// Destinations [default: 1000, or as many as the scenario has people, if that is less]
    #[arg(long, value_parser = value_parser!(u32).range(1..=i64::from(PEERS_MAX)))]
    pub peers: Option<u32>,
    /// What to send to, several separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = Device::ALL)]
    pub device: Vec<Device>,
    /// Runs of each point
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=i64::from(REPEATS_MAX)))]
    pub runs: u32,
    /// Seconds of each run, 0.01 to 10 [default: 0.3, or 1 when paced]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Core to send from; readers run on the others
    #[arg(long)]
    pub core: Option<usize>,
    /// Also writes the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Measures, prints the table, and fails when a point has no figure.
///
/// # Errors
/// As [`measure`] and [`super::measure_paced`]; a scenario or the file for the result is in the way.
pub fn run(arguments: &Floor) -> Result<ExitCode, String> {
    let scenarios = arguments.scenarios()?;
    if arguments.paced {
        return run_paced(arguments, &scenarios);
    }
    let plan = arguments.plan(&scenarios);
    stop::listen();
    let result = measure(&plan, &mut |line| eprintln!("floor: {line}"))?;
    if let Some(path) = &arguments.json {
        write_json(path, &result)?;
    }
    println!("{}", table(&result));
    for line in mixes(&scenarios, &plan, &result) {
        println!("{line}");
    }
    let is_whole = result.points.len() == plan.shapes.len() * plan.devices.len();
    Ok(if is_whole && !stop::is_stopped() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_paced(arguments: &Floor, scenarios: &[Scenario]) -> Result<ExitCode, String> {
    stop::listen();
    let plan = arguments.paced_plan();
    let result = measure_all_paced(scenarios, &plan, &mut |line| eprintln!("floor: {line}"))?;
    if let Some(path) = &arguments.json {
        write_json(path, &result)?;
    }
    println!("{}", table(&result));
    for paced in &result.paced {
        println!("{}", paced_sentence(paced));
    }
    Ok(ExitCode::SUCCESS)
}

impl Floor {
    fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let shrunk = |scenario: Scenario| match (self.scale, self.fit) {
            (Some(factor), _) => scale(&scenario, factor),
            (None, Some(packets)) => fit(&scenario, packets),
            (None, None) => scenario,
        };
        self.scenario.iter().map(|name| Scenario::find(name).map(shrunk)).collect()
    }

    fn paced_plan(&self) -> PacedPlan {
        let default = PacedPlan::default();
        let run_of = match self.run_of.as_slice() {
            [] => default.run_of,
            means => means.iter().copied().map(Some).collect(),
        };
        let seconds = self.seconds.unwrap_or(default.seconds);
        PacedPlan { run_of, repeats: self.runs, seconds, core: self.core }
    }

    fn plan(&self, scenarios: &[Scenario]) -> FloorPlan {
        let mut plan = plan_for_all(scenarios);
        if scenarios.is_empty() {
            let runs = |&payload_bytes: &u32| {
                self.run.iter().map(move |&run| Shape { payload_bytes, run })
            };
            plan.shapes = self.payload.iter().flat_map(runs).collect();
            plan.shapes.sort_unstable();
            plan.shapes.dedup();
            plan.peers = PEERS;
        }
        plan.devices.retain(|device| self.device.contains(device));
        FloorPlan {
            peers: self.peers.unwrap_or(plan.peers),
            repeats: self.runs,
            seconds: self.seconds.unwrap_or(plan.seconds),
            core: self.core,
            ..plan
        }
    }
}

/// Destinations when there is no scenario.
const PEERS: u32 = 1_000;

fn mixes(scenarios: &[Scenario], plan: &FloorPlan, result: &FloorResult) -> Vec<String> {
    let mut lines = Vec::new();
    for scenario in scenarios {
        for device in plan.devices.iter().map(|device| device.name()) {
            if let Some(mix) = mix(scenario, &result.points, device) {
                lines.push(sentence(&scenario.name, device, &mix));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        floor: Floor,
    }

    fn parse(arguments: &[&str]) -> Result<Floor, clap::Error> {
        Line::try_parse_from(["floor"].iter().chain(arguments)).map(|line| line.floor)
    }

    #[test]
    fn payloads_and_runs_are_crossed_and_each_shape_stands_once() {
        let floor = parse(&["--payload", "1180,200,200", "--run", "1,4", "--device", "sink"]);
        let plan = floor.unwrap().plan(&[]);
        let shapes: Vec<_> = plan.shapes.iter().map(|s| (s.payload_bytes, s.run)).collect();
        assert_eq!(shapes, [(200, 1), (200, 4), (1_180, 1), (1_180, 4)]);
        assert_eq!((plan.devices, plan.peers), (vec![Device::Sink], 1_000));
        let default = parse(&[]).unwrap().plan(&[]);
        assert_eq!(default.check(), Ok(()));
        assert_eq!((default.shapes.len(), default.devices.len()), (10, 3));
    }

    #[test]
    fn a_scenario_says_what_is_measured() {
        let calls = "name = 'a'\ncalls = { calls = 1, participants = 8, unmuted = 1 }";
        let scenario: Scenario = toml::from_str(calls).unwrap();
        let floor = parse(&["--scenario", "a.toml", "--runs", "2"]).unwrap();
        let plan = floor.plan(std::slice::from_ref(&scenario));
        assert_eq!(plan.shapes, [Shape { payload_bytes: 200, run: 1 }]);
        assert_eq!((plan.peers, plan.repeats), (8, 2));
        assert!(parse(&["--scenario", "a.toml", "--payload", "200"]).is_err());
    }

    #[test]
    fn a_paced_plan_has_its_own_seconds_and_shrinks_as_runs_do() {
        let arguments = ["--paced", "--scenario", "fanout", "--run-of", "1.5,2", "--scale", "0.5"];
        let floor = parse(&arguments).unwrap();
        let plan = floor.paced_plan();
        assert_eq!((plan.run_of, plan.seconds), (vec![Some(1.5), Some(2.0)], 1.0));
        let shrunk = scale(&Scenario::find("fanout").unwrap(), 0.5);
        assert_eq!(floor.scenarios().unwrap(), [shrunk]);
        let plain = parse(&["--paced", "--scenario", "fanout", "--seconds", "0.2"]).unwrap();
        assert_eq!((plain.paced_plan().run_of, plain.paced_plan().seconds), (vec![None], 0.2));
        for bad in [&["--paced"][..], &["--scenario", "fanout", "--run-of", "2"], &["--fit", "9"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_bounds() {
        for bad in [
            ["--payload", "0"],
            ["--payload", "1445"],
            ["--run", "65"],
            ["--peers", "10001"],
            ["--runs", "0"],
            ["--device", "eth0"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        let refusal = |arguments: &[&str]| parse(arguments).unwrap().plan(&[]).check().unwrap_err();
        assert!(refusal(&["--seconds", "NaN"]).contains("0.01 to 10"));
        assert!(refusal(&["--run", "64"]).contains("65507"));
    }
}
