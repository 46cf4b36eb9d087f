//! The command line of `sluice-tune`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sluice_tuning::load::Load;

/// Tunes this host for carrying calls: looks, proposes, applies and puts back.
#[derive(Parser)]
#[command(name = "sluice-tune", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Folder that the host's files lie below; in a container, where the host's root is mounted.
    #[arg(long, global = true, display_order = 100, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Folder that keeps what was there before [default: /var/lib/sluice-tune below the root].
    #[arg(long, global = true, display_order = 100, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows each setting: what is there, what should be there, and why. Ends with status 1 when something needed is wrong.
    Check(Check),
    /// Makes the changes that a check proposes, or none when one is refused (status 1).
    Apply(Apply),
    /// Puts back what was there before the first apply. Ends with status 1 when something could not be put back.
    Restore(Restore),
    /// Tells what is applied, and since when.
    Status,
    /// Tells what a setting does to a media server, and where that is written.
    Explain(Explain),
}

/// What the host is to carry, and for whom.
#[derive(Args)]
pub(crate) struct Expectation {
    /// Calls expected at the same time: `1x1000 screen`, `100x10 2u screen, 500x2`.
    #[arg(long, value_name = "LOAD", value_parser = Load::parse)]
    pub(crate) load: Option<Load>,
    /// Shards that the server is configured for; else one for each CPU that may be used.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) shards: Option<u32>,
    /// UDP and TCP port of media.
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Process whose limits count; else that of sluice.service, or of this shell where it does not run.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) expectation: Expectation,
    /// Prints all of it as JSON.
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) json: bool,
    /// Explains also what is as it should be.
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) expectation: Expectation,
    /// Makes it outlive a reboot: writes a file for sysctl and a drop-in for sluice.service.
    #[arg(long)]
    pub(crate) persist: bool,
    /// Prints what would be done, in order, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only these settings; `nic` stands for all that begin with `nic.`.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// All but these settings.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub(crate) except: Vec<String>,
    /// Prints nothing unless something is refused.
    #[arg(long, short, conflicts_with = "dry_run")]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// Also puts back what somebody else changed since.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints what would be done, in order, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Explain {
    /// A setting as a check names it, or the beginning of several: `net.core.rmem_max`, `nic`.
    pub(crate) key: Option<String>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
}
