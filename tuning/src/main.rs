//! `sluice-tune`: the library from the command line.

mod applying;
mod arguments;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use sluice_tuning::advice::{self, Report};
use sluice_tuning::demand::Goal;
use sluice_tuning::facts::Facts;
use sluice_tuning::host::Host;
use sluice_tuning::restore::{Fate, preview, restore};
use sluice_tuning::{explain, state, table};

use crate::arguments::{Arguments, Check, Command as Wanted, Expectation, Explain, Restore};

/// What is printed, and the status: 0 all is well, 1 something is not as it should be, 2 nothing could be done.
type Outcome = Result<(String, u8), Failure>;

/// What goes to the error stream, and the status.
struct Failure(String, u8);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(&arguments);
    let (text, status) = match outcome {
        Ok(outcome) => outcome,
        Err(Failure(words, status)) => {
            // Nobody reads it where the error stream is closed.
            let _ = writeln!(io::stderr(), "sluice-tune: {words}");
            return ExitCode::from(status);
        }
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Who reads through `head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "sluice-tune: the output cannot be written: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::from(status),
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let host = host(arguments)?;
    match &arguments.command {
        Wanted::Check(wanted) => check(&host, wanted),
        Wanted::Apply(wanted) => applying::apply(&host, arguments, wanted),
        Wanted::Restore(wanted) => put_back(&host, wanted),
        Wanted::Status => status(&host),
        Wanted::Explain(wanted) => explain(wanted),
    }
}

fn host(arguments: &Arguments) -> Result<Host, Failure> {
    if !arguments.root.is_dir() {
        return Err(refused(format!(
            "--root {}: there is no such folder",
            arguments.root.display()
        )));
    }
    let host = Host::below(&arguments.root);
    Ok(match &arguments.state_dir {
        Some(folder) => {
            let folder = std::path::absolute(folder).map_err(refused)?;
            host.with_state_folder(folder)
        }
        None => host,
    })
}

fn refused(words: impl ToString) -> Failure {
    Failure(words.to_string(), 2)
}

fn check(host: &Host, wanted: &Check) -> Outcome {
    let report = look(host, &wanted.expectation)?;
    let status = u8::from(report.is_wrong());
    let text = if wanted.json {
        serde_json::to_string_pretty(&report).map_err(refused)? + "\n"
    } else if wanted.verbose {
        table::render_full(&report, width())
    } else {
        table::render(&report, width())
    };
    Ok((text, status))
}

fn look(host: &Host, expectation: &Expectation) -> Result<Report, Failure> {
    let pid = match expectation.pid {
        Some(pid) if !host.path(format!("/proc/{pid}")).is_dir() => {
            return Err(refused(format!("--pid {pid}: there is no such process")));
        }
        Some(pid) => pid,
        None => service(host).unwrap_or(0),
    };
    let goal = Goal {
        load: expectation.load.clone().unwrap_or_default(),
        load_is_given: expectation.load.is_some(),
        shards: expectation.shards,
        media_port: expectation.port,
        socket_buffer_bytes: None,
    };
    Ok(advice::check(&Facts::read(host, pid), &goal))
}

/// The process of the service, where systemd runs it.
fn service(host: &Host) -> Option<u32> {
    let processes = host.text("/sys/fs/cgroup/system.slice/sluice.service/cgroup.procs")?;
    let pid = processes.lines().next()?.parse().ok()?;
    host.path(format!("/proc/{pid}/limits")).exists().then_some(pid)
}

fn put_back(host: &Host, wanted: &Restore) -> Outcome {
    let does = if wanted.dry_run { preview } else { restore };
    let done = does(host, wanted.force).map_err(refused)?;
    if done.items.is_empty() {
        return Ok(("Nothing is applied: nothing to put back.\n".to_owned(), 0));
    }
    let mut text = String::new();
    for item in &done.items {
        let _ = writeln!(text, "{item}");
    }
    let count = done.items.iter().filter(|item| item.fate == Fate::PutBack).count();
    let verb = if wanted.dry_run { "would be put back" } else { "put back" };
    let _ = writeln!(text, "# {count} of {} {verb}.", done.items.len());
    if done.items.iter().any(|item| item.place.ends_with(".conf") && item.fate == Fate::PutBack) {
        text.push_str(
            "# Run `systemctl daemon-reload`, so that systemd forgets what the files said.\n",
        );
    }
    if done.is_complete() {
        return Ok((text, 0));
    }
    text.push_str(
        "# What is left stays known: try again, or with --force where somebody else changed it.\n",
    );
    Ok((text, 1))
}

fn status(host: &Host) -> Outcome {
    let Some(summary) = state::status(host).map_err(refused)? else {
        return Ok(("Nothing is applied.\n".to_owned(), 0));
    };
    let ago = duration(now_unix_s().saturating_sub(summary.since_unix_s));
    let (values, files) = (summary.values, summary.files.len());
    let mut text = format!(
        "Changed: values: {values}, files: {files}; the first of them {ago} ago. `sluice-tune restore` puts them back.\n"
    );
    for file in &summary.files {
        let _ = writeln!(text, "  {file}");
    }
    if summary.rebooted {
        text.push_str(
            "The host was started anew since: what is in no file is the kernel's own again.\n",
        );
    }
    Ok((text, 0))
}

fn explain(wanted: &Explain) -> Outcome {
    let settings = match &wanted.key {
        Some(key) => explain::find(key).map_err(refused)?,
        None => explain::settings(),
    };
    Ok((explain::render(&settings, width()), 0))
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of a moment; the library is told the time"
)]
fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Columns of the terminal, or 100 where there is none.
fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = told.or_else(|| io::stdout().is_terminal().then(terminal_columns).flatten());
    width.unwrap_or(100).clamp(60, 300)
}

/// From stty(1) of coreutils, which asks the terminal: `24 80`.
fn terminal_columns() -> Option<usize> {
    let terminal = std::fs::File::open(Path::new("/dev/tty")).ok()?;
    let stty = Command::new("stty").arg("size").stdin(terminal).stderr(Stdio::null()).output();
    let size = String::from_utf8(stty.ok()?.stdout).ok()?;
    size.split_whitespace().nth(1)?.parse().ok().filter(|&columns| columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        for (seconds, text) in
            [(59, "59 s"), (3_599, "59 min"), (3_661, "1 h 1 min"), (180_000, "2 d 2 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
