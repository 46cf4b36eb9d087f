//! `sluice-tune apply`: which changes are chosen, and what is told of them.

use std::fmt::Write as _;

use sluice_tuning::advice::Report;
use sluice_tuning::apply::{self, Applied, ApplyError, Options, Step};
use sluice_tuning::change::{Change, Target};
use sluice_tuning::explain;
use sluice_tuning::facts::Facts;
use sluice_tuning::finding::{Finding, Verdict};
use sluice_tuning::host::Host;
use sluice_tuning::persist::{DROP_IN, Persist};

use crate::arguments::{Apply, Arguments};
use crate::{Failure, Outcome, look, now_unix_s, refused};

pub(crate) fn apply(host: &Host, arguments: &Arguments, wanted: &Apply) -> Outcome {
    let report = look(host, &wanted.expectation)?;
    let chosen = chosen(&report, wanted)?;
    let changes = changes(&chosen);
    let is_kept = arguments.state_dir.is_some() || wanted.dry_run || changes.is_empty();
    if let (false, Some(sentence)) = (is_kept, apply::would_forget(&Facts::read(host, 0))) {
        return Err(refused(sentence));
    }
    let persist = wanted.persist.then(|| persist(host, arguments, wanted));
    let options = Options { persist, now_unix_s: now_unix_s() };
    let applied = if wanted.dry_run {
        apply::preview(host, &changes, &options)
    } else {
        // Only a process that has ended since could fail it, and of that nothing is left to be set.
        let look_again = || {
            let report = look(host, &wanted.expectation).ok();
            let chosen = report.as_ref().and_then(|report| self::chosen(report, wanted).ok());
            chosen.as_deref().map(self::changes).unwrap_or_default()
        };
        apply::apply_and_look_again(host, &changes, look_again, &options)
    };
    let applied = applied.map_err(|error| failure(&error, &chosen))?;
    let text =
        if wanted.quiet { String::new() } else { told(&applied, &chosen, arguments, wanted) };
    Ok((text, 0))
}

/// The findings that are to be acted upon, in the order of the plan.
fn chosen<'a>(report: &'a Report, wanted: &Apply) -> Result<Vec<&'a Finding>, Failure> {
    let keys = |named: &[String]| {
        let mut keys = Vec::new();
        for key in named {
            let settings = explain::find(key.trim()).map_err(refused)?;
            keys.extend(settings.iter().map(|setting| setting.key));
        }
        Ok(keys)
    };
    let (only, except) = (keys(&wanted.only)?, keys(&wanted.except)?);
    let is_chosen = |finding: &&Finding| {
        let key = finding.setting.key;
        (wanted.only.is_empty() || only.contains(&key)) && !except.contains(&key)
    };
    Ok(report.findings.iter().filter(is_chosen).collect())
}

fn changes(chosen: &[&Finding]) -> Vec<Change> {
    chosen.iter().flat_map(|finding| finding.changes.clone()).collect()
}

/// What the service runs ahead of each start: the same words as were said here.
fn persist(host: &Host, arguments: &Arguments, wanted: &Apply) -> Persist {
    let mut words = Vec::new();
    let expectation = &wanted.expectation;
    let mut say = |option: &str, value: Option<String>| {
        words.extend(value.map(|value| [option.to_owned(), value]).into_iter().flatten());
    };
    let list = |keys: &[String]| (!keys.is_empty()).then(|| keys.join(","));
    say("--load", expectation.load.as_ref().map(ToString::to_string));
    say("--shards", expectation.shards.map(|shards| shards.to_string()));
    say("--port", (expectation.port != 8443).then(|| expectation.port.to_string()));
    say("--only", list(&wanted.only));
    say("--except", list(&wanted.except));
    let folder = host.state_folder().display();
    say("--state-dir", arguments.state_dir.is_some().then(|| folder.to_string()));
    // The installed program, never this one: root runs it at each start, and this one may lie where others can write.
    Persist { arguments: words, ..Persist::default() }
}

fn failure(error: &ApplyError, chosen: &[&Finding]) -> Failure {
    let ApplyError::Refused { refusal, .. } = error else { return refused(error) };
    let is_it = |change: &Change| Some(&change.target) == refusal.target.as_ref();
    let finding = chosen.iter().find(|finding| finding.changes.iter().any(is_it));
    let way_round = finding.map(|finding| {
        let key = finding.setting.key;
        format!("\nTo do the rest without it: sluice-tune apply --except {key}")
    });
    Failure(format!("{error}{}", way_round.unwrap_or_default()), 1)
}

fn told(applied: &Applied, chosen: &[&Finding], arguments: &Arguments, wanted: &Apply) -> String {
    let mut text = String::new();
    for step in &applied.steps {
        let _ = writeln!(text, "{step}");
    }
    let count = applied.steps.len();
    let _ = match (count, wanted.dry_run) {
        (0, _) => writeln!(text, "# Nothing to do: all that can be changed is as it should be."),
        (_, true) => writeln!(text, "# {count} steps would be made; nothing was changed."),
        (_, false) => {
            let undo = match &arguments.state_dir {
                Some(folder) => format!("sluice-tune restore --state-dir {}", folder.display()),
                None => "sluice-tune restore".to_owned(),
            };
            let lasts = match wanted.persist {
                true => "They outlive a reboot.",
                false => "They last until a reboot; --persist keeps them.",
            };
            writeln!(text, "# {count} steps were made. {lasts} To undo all of them: {undo}")
        }
    };
    if wanted.dry_run && applied.steps.iter().any(Step::changes_queues) {
        text.push_str(
            "# What the card's other queues need is seen, and done, once they are there.\n",
        );
    }
    let writes_drop_in = |step: &Step| matches!(step, Step::Write { path, .. } if path == DROP_IN);
    if applied.steps.iter().any(writes_drop_in) {
        text.push_str(
            "# The limits count from the next start: systemctl daemon-reload && systemctl restart sluice\n",
        );
    }
    for Change { target, to, .. } in &applied.needs_persist {
        if let Target::Limit { directive } = target {
            let _ = writeln!(
                text,
                "# {directive}={to} is systemd's to set: --persist writes it for sluice.service."
            );
        }
    }
    let is_left =
        |finding: &&&Finding| finding.verdict == Verdict::Wrong && finding.changes.is_empty();
    for finding in chosen.iter().filter(is_left) {
        let remedy = finding.remedy.as_deref().unwrap_or("see `sluice-tune check`");
        let _ = writeln!(text, "# {} is wrong and not changed here: {remedy}", finding.setting.key);
    }
    text
}
