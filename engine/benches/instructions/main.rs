//! What `scripts/instructions` counts: warm stretches of calls, and the back-end that sends and receives for them.
//!
//! `instructions CASE...` runs cases and prints a line for each: its name, how much work counted, the unit of the work. Without
//! a name it runs all; `instructions --list` names them.

#![allow(unreachable_pub, reason = "modules of one binary")]

mod cases;
mod kernel;
mod rig;

use std::process::ExitCode;

/// One thing to count.
struct Case {
    name: &'static str,
    /// What the instructions are divided by.
    unit: &'static str,
    /// Does the work, and tells how much of it counted.
    run: fn() -> u64,
}

const CASES: &[Case] = &[
    Case { name: "audio_fanout", unit: "packet out", run: cases::audio_fanout },
    Case { name: "audio_fanout_cm_sha1", unit: "packet out", run: cases::audio_fanout_cm_sha1 },
    Case { name: "video_fanout", unit: "packet out", run: cases::video_fanout },
    Case { name: "simulcast_fanout", unit: "packet out", run: cases::simulcast_fanout },
    Case { name: "pairs", unit: "packet in and out", run: cases::pairs },
    Case { name: "ingress", unit: "packet in", run: cases::ingress },
    Case { name: "nack", unit: "packet resent", run: cases::nack },
    Case { name: "feedback", unit: "feedback packet in", run: cases::feedback },
    Case { name: "idle", unit: "session and second", run: cases::idle },
    Case { name: "send_single", unit: "datagram", run: kernel::send_single },
    Case { name: "send_runs", unit: "datagram", run: kernel::send_runs },
    Case { name: "receive", unit: "datagram", run: kernel::receive },
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments == ["--list"] {
        for case in CASES {
            println!("{}", case.name);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.iter().find(|a| CASES.iter().all(|case| case.name != **a)) {
        eprintln!("there is no case \"{unknown}\"; --list names them");
        return ExitCode::from(2);
    }
    for case in
        CASES.iter().filter(|c| arguments.is_empty() || arguments.iter().any(|a| a == c.name))
    {
        println!("{}\t{}\t{}", case.name, (case.run)(), case.unit);
    }
    ExitCode::SUCCESS
}
