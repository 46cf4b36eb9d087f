//! A search for people: what was found, and the steps on the way.

use super::{Attempt, Capacity, Ending, Load, Step, SteppedBy};

/// Writes a search as Markdown.
pub fn markdown(capacity: &Capacity) -> String {
    let limits = capacity.limits;
    let stepped_by = match capacity.stepped_by {
        SteppedBy::Calls => "calls",
        SteppedBy::Participants => "participants",
    };
    let mut text = format!("Scenario: {}, stepped by {stepped_by}  \n", capacity.start.name);
    let server =
        capacity.steps.iter().flat_map(|step| &step.runs).map(|attempt| &attempt.result).next();
    if let Some(run) = server {
        text += &format!(
            "Server: {} by the API {} ({})  \n",
            run.label, run.target, run.server_version
        );
    }
    text += &format!(
        "Carried means: everybody joins and stays, loss up to {} %, latency p99 up to {} ms; \
        a step that is not carried is repeated once\n\n",
        limits.loss_max * 100.0,
        limits.p99_max_us / 1e3
    );
    text += &format!("**{}**\n\n", conclusion(capacity));
    if capacity.partial {
        text += "**Partial**: the search did not come to its end.\n\n";
    }
    text += "| calls x people | packets/s out | CPU, cores | µs per packet out | latency p99, ms | lost, % | outcome |\n";
    text += "|---|---:|---:|---:|---:|---:|---|\n";
    for step in &capacity.steps {
        for attempt in &step.runs {
            text += &line(step, attempt);
        }
    }
    if !capacity.problems.is_empty() {
        text.push('\n');
    }
    for problem in &capacity.problems {
        text += &format!("- {problem}\n");
    }
    text
}

/// What was found, in a sentence or two.
pub(super) fn conclusion(capacity: &Capacity) -> String {
    let least = match &capacity.largest {
        Some(load) => format!("at least {} are carried", shown(load)),
        None => "nothing was carried".to_owned(),
    };
    let refused = capacity.refused.as_ref();
    let too_much =
        refused.map(|load| format!("; {} x {} people were not", load.calls, load.participants));
    let too_much = too_much.unwrap_or_default();
    match capacity.ending {
        Ending::Found => match &capacity.largest {
            Some(load) => format!("the capacity is {}{too_much}", shown(load)),
            None => least,
        },
        Ending::Generator => format!("the generator is the limit here: {least}{too_much}"),
        Ending::Joining => format!("joining is the limit here: {least}{too_much}"),
        Ending::Bounds => format!("{least}, and a scenario may not be larger"),
        Ending::Nothing => "not even the smallest load of this kind was carried".to_owned(),
        Ending::Runs => format!("all {} runs were made: {least}{too_much}", super::RUNS_MAX),
        Ending::Failed => format!("a run could not be made: {least}{too_much}"),
        Ending::Stopped => format!("stopped early: {least}{too_much}"),
    }
}

fn shown(load: &Load) -> String {
    format!(
        "{} x {} people ({:.0} packets/s out at {:.3} cores)",
        load.calls, load.participants, load.packets_out_per_second, load.cores
    )
}

fn line(step: &Step, attempt: &Attempt) -> String {
    let run = &attempt.result;
    let per_packet = run.server.us_per_packet_out;
    let has_latency = run.latency_us.count > 0;
    let disturbed = if run.disturbed { "; disturbed by other programs" } else { "" };
    format!(
        "| {} x {} | {:.0} | {:.3} | {} | {} | {:.4} | {}{disturbed} |\n",
        step.calls,
        step.participants,
        if run.elapsed_s > 0.0 { run.traffic.packets_out as f64 / run.elapsed_s } else { 0.0 },
        run.server.cores,
        per_packet.map_or("–".to_owned(), |us| format!("{us:.2}")),
        if has_latency { format!("{:.2}", run.latency_us.p99 / 1e3) } else { "–".to_owned() },
        run.loss.share * 100.0,
        attempt.outcome_words()
    )
}
