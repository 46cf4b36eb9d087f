//! What is printed: a table for people, the same as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::check::Outcome;
use super::finding::{Finding, Verdict, worst};
use super::reach::Check;

/// Columns of a terminal.
const WIDTH: usize = 100;

/// Where texts of findings begin.
const INDENT: usize = 20;

/// All that was found out.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// The server's URL, or how it was named.
    pub(super) server: String,
    /// The server's version, when it told.
    pub(super) server_version: Option<String>,
    /// From where: `own-host`, `other-host`, `ticket`, `no-server`.
    pub(super) vantage: &'static str,
    /// Each candidate.
    pub(super) checks: Vec<Check>,
    /// What it comes to.
    pub(super) findings: Vec<Finding>,
}

#[derive(Serialize)]
struct CheckView {
    transport: &'static str,
    address: String,
    announced: bool,
    outcome: &'static str,
    round_trip_us: Option<u64>,
    mapped: Option<String>,
    translated: Option<bool>,
    detail: Option<String>,
}

impl Report {
    /// The worst of the findings.
    pub(super) fn verdict(&self) -> Verdict {
        worst(&self.findings)
    }

    /// For programs; `docs/doctor.md` describes it.
    pub(super) fn json(&self) -> Value {
        let checks: Vec<CheckView> = self.checks.iter().map(view).collect();
        json!({
            "doctor_version": env!("CARGO_PKG_VERSION"),
            "server": self.server,
            "server_version": self.server_version,
            "vantage": self.vantage,
            "verdict": self.verdict(),
            "checks": checks,
            "findings": self.findings,
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = match &self.server_version {
            Some(version) => format!("Sluice {} at {}", told(version), escaped(&self.server)),
            None => escaped(&self.server),
        };
        out += match self.vantage {
            "own-host" => ", examined from its own host\n",
            "other-host" => ", examined from another host\n",
            _ => "\n",
        };
        if !self.checks.is_empty() {
            out.push('\n');
        }
        let addresses = self.checks.iter().map(|check| check.target.address.to_string().len());
        let width = addresses.max().unwrap_or(0);
        for check in &self.checks {
            let (transport, address) = (check.target.transport.text(), check.target.address);
            let note = if check.announced { "" } else { " (not announced)" };
            let said = escaped(&say(&check.outcome));
            let _ = writeln!(out, "  {transport}  {:<width$}  {said}{note}", address.to_string());
        }
        let mut was_long = true;
        for finding in &self.findings {
            let is_long = finding.means.is_some() || finding.fix.is_some();
            if is_long || was_long {
                out.push('\n');
            }
            was_long = is_long;
            let _ = write!(out, "{:<9}{:<11}", finding.verdict.text(), finding.subject);
            wrap(&mut out, &finding.found);
            for (label, text) in [("", &finding.means), ("Fix: ", &finding.fix)] {
                if let Some(text) = text {
                    let _ = write!(out, "{:INDENT$}", "");
                    wrap(&mut out, &format!("{label}{text}"));
                }
            }
        }
        let count = |verdict| self.findings.iter().filter(|f| f.verdict == verdict).count();
        let counts = [Verdict::Failure, Verdict::Warning, Verdict::Unknown, Verdict::Ok]
            .map(|verdict| format!("{} {}", count(verdict), verdict.text()));
        let _ = writeln!(out, "\n{}", counts.join(", "));
        out
    }
}

fn view(check: &Check) -> CheckView {
    let (round_trip_us, mapped) = match &check.outcome {
        Outcome::Answered { round_trip, mapped, .. } => {
            (u64::try_from(round_trip.as_micros()).ok(), mapped.map(|mapped| mapped.to_string()))
        }
        _ => (None, None),
    };
    let detail = match &check.outcome {
        Outcome::Stranger(why) | Outcome::Unsendable(why) => Some(told(why)),
        _ => None,
    };
    CheckView {
        transport: check.target.transport.text(),
        address: check.target.address.to_string(),
        announced: check.announced,
        outcome: match &check.outcome {
            Outcome::Answered { .. } => "answered",
            Outcome::Refused => "refused",
            Outcome::Silent => "silent",
            Outcome::Mute => "mute",
            Outcome::Stranger(_) => "stranger",
            Outcome::Unsendable(_) => "unsendable",
        },
        round_trip_us,
        mapped,
        translated: check.outcome.is_translated(),
        detail,
    }
}

fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { round_trip, mapped, .. } => {
            let time = format!("answered in {:.1} ms", round_trip.as_secs_f64() * 1e3);
            match (outcome.is_translated(), mapped) {
                (Some(true), Some(mapped)) => {
                    format!("{time}, through a translator: we are {mapped}")
                }
                _ => time,
            }
        }
        Outcome::Refused => "refused".to_owned(),
        Outcome::Silent => "silent".to_owned(),
        Outcome::Mute => "connected, and then silent".to_owned(),
        Outcome::Stranger(why) => format!("answered by a stranger: {why}"),
        Outcome::Unsendable(why) => format!("cannot be sent to: {why}"),
    }
}

/// The longest text of a server that is shown, characters.
const TOLD_CHARS_MAX: usize = 200;

/// Text from outside as a terminal may show it: control characters are written as escapes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// What a server said of itself: [`escaped`], and cut where it is too long.
pub(super) fn told(text: &str) -> String {
    match text.char_indices().nth(TOLD_CHARS_MAX) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// Writes words with a line's end after each that would pass the last column.
fn wrap(out: &mut String, text: &str) {
    let mut column = INDENT;
    for word in text.split_ascii_whitespace() {
        let word = escaped(word);
        let len = word.chars().count();
        if column > INDENT && column + 1 + len > WIDTH {
            let _ = write!(out, "\n{:INDENT$}", "");
            column = INDENT;
        }
        if column > INDENT {
            out.push(' ');
            column += 1;
        }
        out.push_str(&word);
        column += len;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::check::{Target, Transport};
    use super::*;

    fn report() -> Report {
        let address = "192.0.2.7:8443".parse().expect("an address");
        let check = |transport, outcome| Check {
            target: Target { transport, address },
            announced: true,
            outcome,
        };
        let answered = Outcome::Answered {
            round_trip: Duration::from_micros(1_234),
            local: "10.0.0.9:4".parse().expect("an address"),
            mapped: Some("198.51.100.3:5".parse().expect("an address")),
        };
        Report {
            server: "http://127.0.0.1:8045".to_owned(),
            server_version: Some("0.1.0".to_owned()),
            vantage: "other-host",
            checks: vec![check(Transport::Udp, answered), check(Transport::Tcp, Outcome::Refused)],
            findings: vec![
                Finding::ok("udp", "UDP gets through."),
                Finding::warning("tcp", "word ".repeat(40)).means("It matters.").fix("do it"),
            ],
        }
    }

    #[test]
    fn text_stays_within_the_columns_and_names_all() {
        let text = report().text();
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        for part in [
            "192.0.2.7:8443  answered in 1.2 ms, through a translator: we are 198.51.100.3:5",
            "tcp  192.0.2.7:8443  refused",
            "warning  tcp        word",
            "Fix: do it",
            "0 failure, 1 warning, 0 unknown, 1 ok",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn text_from_outside_moves_no_cursor_and_is_cut() {
        let mut report = report();
        report.server_version = Some("\u{1b}[2J".repeat(100));
        report.server = "http://a\u{7}".to_owned();
        report.findings = vec![Finding::failure("a", "x\u{9b}31m y").means("\u{1b}]0;z").fix("\r")];
        let text = report.text();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains(r"x\u{9b}31m y") && text.contains('…'), "{text}");
    }

    #[test]
    fn json_holds_the_same() {
        let json = report().json();
        assert_eq!(json["verdict"], "warning");
        assert_eq!(json["checks"][0]["round_trip_us"], 1234);
        assert_eq!(json["checks"][0]["translated"], true);
        assert_eq!(json["checks"][1]["outcome"], "refused");
        assert_eq!(json["findings"][1]["fix"], "do it");
        assert!(json["findings"][0].get("fix").is_none());
    }
}
