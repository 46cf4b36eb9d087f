//! What is seen while a run goes on: one line, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use sluice_engine::clock::Instant;

use crate::result::Phase;

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Progress {
    /// Seconds since the run began.
    pub at_s: f64,
    pub phase: Phase,
    pub joined: u32,
    /// Participants that are to join.
    pub participants: u32,
    pub packets_in_per_s: f64,
    pub packets_out_per_s: f64,
    /// Absent when nobody looks at the server's process.
    pub server_cores: Option<f64>,
    /// Lost by expected so far; absent before anything was expected.
    pub loss: Option<f64>,
}

/// Where nobody watches, a line this often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Where somebody does. A little less than a second, so that a caller who comes each second is never too early.
const REWRITE_EVERY: Duration = Duration::from_millis(900);

/// Shows progress: on a terminal one line that is written over, otherwise a line every five seconds and at each change of phase.
pub struct Shown<W> {
    out: W,
    is_terminal: bool,
    last: Option<(Instant, Phase)>,
}

impl Shown<io::Stderr> {
    pub fn on_stderr() -> Self {
        let out = io::stderr();
        let is_terminal = out.is_terminal();
        Self::new(out, is_terminal)
    }
}

impl<W: Write> Shown<W> {
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self { out, is_terminal, last: None }
    }

    /// Shows it, if it is time to. A line that cannot be written is left out: the run is worth more.
    pub fn show(&mut self, now: Instant, progress: &Progress) {
        let every = if self.is_terminal { REWRITE_EVERY } else { LINE_EVERY };
        let is_due = self
            .last
            .is_none_or(|(last, phase)| now.since(last) >= every || phase != progress.phase);
        if !is_due {
            return;
        }
        self.last = Some((now, progress.phase));
        let line = line(progress);
        let text = match self.is_terminal {
            // Cut at the edge of a narrow terminal, for a line that wraps cannot be written over; then what a longer line left behind is erased.
            true => format!("\r\x1b[?7l{line}\x1b[?7h\x1b[K"),
            false => format!("{line}\n"),
        };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }

    /// Ends the line, so that what follows has one of its own.
    pub fn finish(&mut self) {
        if self.is_terminal && self.last.take().is_some() {
            self.out.write_all(b"\n").and_then(|()| self.out.flush()).ok();
        }
    }
}

/// The line, without an end.
pub fn line(progress: &Progress) -> String {
    let seconds = progress.at_s.max(0.0) as u64;
    let mut line = format!(
        "{:02}:{:02} {:<10} {}/{} joined  in {:.1} out {:.1} kpps",
        seconds / 60,
        seconds % 60,
        phase(progress.phase),
        progress.joined,
        progress.participants,
        progress.packets_in_per_s / 1e3,
        progress.packets_out_per_s / 1e3,
    );
    if let Some(cores) = progress.server_cores {
        line += &format!("  {cores:.2} cores");
    }
    if let Some(loss) = progress.loss {
        line += &format!("  loss {:.4} %", loss * 1e2);
    }
    line
}

/// What people call a phase.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Joining => "joining",
        Phase::Idle => "idle",
        Phase::WarmingUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::Leaving => "leaving",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measuring() -> Progress {
        Progress {
            at_s: 83.4,
            phase: Phase::Measuring,
            joined: 1_000,
            participants: 1_000,
            packets_in_per_s: 2_010.0,
            packets_out_per_s: 199_800.0,
            server_cores: Some(0.8449),
            loss: Some(0.000_012),
        }
    }

    fn shown(is_terminal: bool, times: &[(u64, Phase)]) -> String {
        let mut shown = Shown::new(Vec::new(), is_terminal);
        for &(millis, phase) in times {
            let now = Instant::from_start(Duration::from_millis(millis));
            shown.show(now, &Progress { phase, ..measuring() });
        }
        shown.finish();
        String::from_utf8(shown.out).unwrap()
    }

    #[test]
    fn the_line_says_all() {
        let wanted =
            "01:23 measuring  1000/1000 joined  in 2.0 out 199.8 kpps  0.84 cores  loss 0.0012 %";
        assert_eq!(line(&measuring()), wanted);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let joining = Progress { joined: 3, participants: 20, ..Progress::default() };
        assert_eq!(line(&joining), "00:00 joining    3/20 joined  in 0.0 out 0.0 kpps");
    }

    #[test]
    fn a_terminal_s_line_is_written_over() {
        let phase = Phase::Measuring;
        let text = shown(true, &[(1_000, phase), (1_100, phase), (2_000, phase)]);
        assert_eq!(text.matches('\r').count(), 2);
        assert_eq!(text.matches("\x1b[K").count(), 2);
        assert!(text.ends_with("\x1b[K\n"), "{text:?}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_file_gets_a_line_every_five_seconds_and_at_each_phase() {
        let times: Vec<_> = (1..=12).map(|second| (second * 1_000, Phase::Measuring)).collect();
        assert_eq!(shown(false, &times).lines().count(), 3);
        let text = shown(false, &[(1_000, Phase::Joining), (2_000, Phase::Measuring)]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\r') && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn nothing_shown_leaves_nothing_to_end() {
        assert_eq!(shown(true, &[]), "");
    }
}
