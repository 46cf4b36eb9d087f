//! Results as a Markdown table: one column for each label, the median of its runs with the least and the most.

use serde_json::Value;

use crate::stats::Spread;

/// A line of the table: what it says, where the value stands, what it is multiplied by, and its decimals.
type Row = (&'static str, &'static str, f64, usize);

const MIB: f64 = 1.0 / (1 << 20) as f64;
const KIB: f64 = 1.0 / 1_024.0;

const FANOUT: &[Row] = &[
    ("receivers", "/scenario/receivers", 1.0, 0),
    ("packets out, per second", "/packets/per_second", 1.0, 0),
    ("out, Mbit/s of UDP payload", "/packets/bits_per_second", 1e-6, 0),
    ("server CPU, cores", "/server/cores", 1.0, 3),
    ("server CPU, µs per packet out", "/server/us_per_packet", 1.0, 2),
    ("datagrams per send call", "", 1.0, 2),
    ("lost, of expected", "/lost/share", 1e2, 4),
    ("lost in the generator's sockets", "/lost/generator_sockets", 1.0, 0),
    ("lost in the server's sockets", "/lost/server_sockets", 1.0, 0),
    ("latency p50, µs", "/latency_us/p50", 1.0, 0),
    ("latency p99, µs", "/latency_us/p99", 1.0, 0),
    ("latency max, µs", "/latency_us/max", 1.0, 0),
    ("packets verified", "/latency_us/samples", 1.0, 0),
    ("packets damaged", "/latency_us/damaged", 1.0, 0),
    ("time to join p50, ms", "/join/p50_us", 1e-3, 2),
    ("time to join max, ms", "/join/max_us", 1e-3, 2),
    ("resident before clients, MiB", "/server/resident/before_bytes", MIB, 1),
    ("resident after join, MiB", "/server/resident/joined_bytes", MIB, 1),
    ("resident at the end, MiB", "/server/resident/end_bytes", MIB, 1),
    ("resident per session after join, KiB", "/server/resident/joined_bytes_per_session", KIB, 1),
    ("generator CPU, cores", "/generator/cores", 1.0, 3),
    ("generator waiting for a core, of the time", "/generator/waited_share", 1e2, 1),
    ("server waiting for a core, of the time", "/server/waited_share", 1e2, 1),
    ("softirq of all cores, s", "/machine/softirq_s", 1.0, 2),
];

const IDLE: &[Row] = &[
    ("sessions", "/scenario/sessions", 1.0, 0),
    ("server CPU, cores", "/server/cores", 1.0, 4),
    ("server CPU before, cores", "/server/cores_empty", 1.0, 4),
    ("CPU, µs per session and second", "/server/us_per_session_second", 1.0, 2),
    ("time to join p50, ms", "/join/p50_us", 1e-3, 2),
    ("time to join max, ms", "/join/max_us", 1e-3, 2),
    ("resident before clients, MiB", "/server/resident/before_bytes", MIB, 1),
    ("resident after join, MiB", "/server/resident/joined_bytes", MIB, 1),
    ("resident at the end, MiB", "/server/resident/end_bytes", MIB, 1),
    ("resident per session after join, KiB", "/server/resident/joined_bytes_per_session", KIB, 1),
    ("resident per session at the end, KiB", "/server/resident/end_bytes_per_session", KIB, 1),
];

/// Writes the table of runs of one kind, and below it what was wrong with any of them.
///
/// # Errors
/// No runs, or runs of different kinds.
pub fn table(runs: &[Value]) -> Result<String, String> {
    let kind = runs.first().and_then(|run| run["bench"].as_str()).ok_or("there are no runs")?;
    if runs.iter().any(|run| run["bench"] != kind) {
        return Err("the runs are not all of one kind".to_owned());
    }
    let rows = if kind == "idle" { IDLE } else { FANOUT };
    let mut labels: Vec<&str> = Vec::new();
    for label in runs.iter().map(label) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let columns: Vec<Vec<&Value>> =
        labels.iter().map(|l| runs.iter().filter(|run| label(run) == *l).collect()).collect();

    let mut text = "| |".to_owned();
    for (label, column) in labels.iter().zip(&columns) {
        let runs = if column.len() == 1 { "run" } else { "runs" };
        text += &format!(" {label} ({} {runs}) |", column.len());
    }
    text += "\n|---|";
    text += &"---:|".repeat(columns.len());
    for row in rows {
        text += &format!("\n| {} |", row.0);
        for column in &columns {
            text += &format!(" {} |", cell(column, row));
        }
    }
    text.push('\n');
    for (number, run) in runs.iter().enumerate() {
        let problems = run["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let partial = (run["partial"] == true).then_some("partial: it was stopped early");
        for problem in problems.chain(partial) {
            text += &format!("\n- run {} ({}): {problem}", number + 1, label(run));
        }
        if run["valid"] == false {
            text += &format!("\n- run {}: **its figures are not the server's**", number + 1);
        }
    }
    Ok(text)
}

fn label(run: &Value) -> &str {
    let named = run["label"].as_str().filter(|label| !label.is_empty());
    named.or(run["server"]["backend"].as_str()).unwrap_or("?")
}

fn cell(runs: &[&Value], (_, pointer, factor, decimals): &Row) -> String {
    let value = |run: &&Value| match *pointer {
        "" => Some(
            run["server"]["datagrams_out"].as_f64()? / run["server"]["runs_out"].as_f64()?.max(1.0),
        ),
        _ => run.pointer(pointer)?.as_f64().map(|value| value * factor),
    };
    let values: Vec<f64> = runs.iter().filter_map(value).collect();
    let missing = runs.len() - values.len();
    let Some(Spread { median, least, most }) = Spread::of(values) else { return "–".to_owned() };
    let mut text = match least == most {
        true => format!("{median:.decimals$}"),
        false => format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})"),
    };
    if pointer.ends_with("share") {
        text += " %";
    }
    if missing > 0 {
        text += &format!(", {missing} not valid");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(label: &str, micros: Value) -> Value {
        json!({"bench": "fanout", "label": label, "valid": !micros.is_null(),
            "problems": [], "server": {"us_per_packet": micros}})
    }

    #[test]
    fn runs_of_a_label_share_a_column() {
        let runs = [run("a", json!(3.0)), run("b", json!(9.0)), run("a", json!(1.0))];
        let table = table(&runs).unwrap();
        assert!(table.starts_with("| | a (2 runs) | b (1 run) |\n|---|---:|---:|\n"), "{table}");
        let line = "\n| server CPU, µs per packet out | 2.00 (1.00 to 3.00) | 9.00 |\n";
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn an_invalid_run_lends_no_figure_and_is_named() {
        let table = table(&[run("a", json!(3.0)), run("a", Value::Null)]).unwrap();
        assert!(table.contains("| 3.00, 1 not valid |"), "{table}");
        assert!(table.ends_with("- run 2: **its figures are not the server's**"), "{table}");
    }

    #[test]
    fn unlike_runs_are_not_put_together() {
        let idle = json!({"bench": "idle"});
        assert!(table(&[run("a", json!(1.0)), idle]).is_err());
        assert!(table(&[]).is_err());
    }
}
