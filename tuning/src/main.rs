//! `sluice-tune`: shows the settings of the host that matter for moving packets.

use std::path::PathBuf;
use std::process::ExitCode;

use sluice_tuning::facts::Facts;

const USAGE: &str = "\
Usage: sluice-tune check [--root FOLDER]

Prints the settings of this host that matter for moving packets. Changes nothing.
--root reads below FOLDER instead of /.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = match arguments[..] {
        ["check"] => PathBuf::from("/"),
        ["check", "--root", root] => PathBuf::from(root),
        ["--version"] => {
            println!("sluice-tune {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    for (name, value) in Facts::read(&root).rows() {
        println!("{name:<28} {}", value.as_deref().unwrap_or("unknown"));
    }
    ExitCode::SUCCESS
}
