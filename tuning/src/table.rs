//! A check as text for people.

use crate::advice::Report;
use crate::change::Target;
use crate::finding::{Finding, Verdict};
use crate::rules::{SUBJECTS, Subject};
use crate::wrap::{beside, columns, labelled, pad, wrap, wrap_command};

/// The report as a table, then what there is to say of each row that is not as it should be, then what the load needs with its
/// formulas, then what to do. No line is longer than `width` columns, of which there are 60 at least.
pub fn render(report: &Report, width: usize) -> String {
    text(report, width, |finding| match finding.verdict {
        Verdict::Wrong | Verdict::Better => true,
        Verdict::Note => finding.remedy.is_some(),
        Verdict::Good | Verdict::Unknown => false,
    })
}

/// The same with what there is to say of every row.
pub fn render_full(report: &Report, width: usize) -> String {
    text(report, width, |finding| finding.verdict != Verdict::Unknown)
}

const WIDTH_MIN: usize = 60;
const GAP: &str = "  ";
/// The longest of the words for a verdict.
const VERDICT_WIDTH: usize = 7;
const LABEL_WIDTH: usize = 8;
/// Changes of one finding that are shown; a host has dozens of CPUs.
const CHANGES_SHOWN: usize = 3;

fn text(report: &Report, width: usize, is_told: impl Fn(&Finding) -> bool) -> String {
    let width = width.max(WIDTH_MIN);
    let mut text = table(report, width);
    for verdict in [Verdict::Wrong, Verdict::Better, Verdict::Note, Verdict::Good] {
        let findings = report.findings.iter().filter(|finding| finding.verdict == verdict);
        for finding in findings.filter(|finding| is_told(finding)) {
            text.push('\n');
            text += &details(finding, width);
        }
    }
    text += &unknown(report, width);
    text.push('\n');
    text += &demand(report, width);
    text.push('\n');
    text += &summary(report, width);
    text
}

/// How wide each column is.
struct Columns {
    setting: usize,
    found: usize,
    wanted: usize,
}

impl Columns {
    /// As wide as what is in them, and where that is too much, what they need most.
    fn of(findings: &[Finding], width: usize) -> Self {
        let widest = |of: &dyn Fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
        let of_text = |text: &Option<String>| text.as_deref().map_or(0, columns);
        let room = width - 2 - VERDICT_WIDTH - 3 * GAP.len();
        // The key is never cut where there is room for it; its subject may go to a second line.
        let key = widest(&|finding| columns(finding.setting.key));
        let name = widest(&|finding| columns(&name(finding)));
        let setting = name.min(key.max(room * 2 / 5)).min(room / 2);
        let room = room - setting;
        let (found, wanted) = (widest(&|f| of_text(&f.found)), widest(&|f| of_text(&f.wanted)));
        // A bound with its bytes in brackets just fits beside the longest keys in 80 columns.
        let share = (room * 11 / 20).max(room.saturating_sub(found));
        let wanted_most = wanted.max("wanted".len()).min(share);
        let found = found.max("found".len()).min(room - wanted_most);
        Self { setting, found, wanted: wanted_most }
    }
}

fn table(report: &Report, width: usize) -> String {
    let columns = Columns::of(&report.findings, width);
    let mut text = row(&columns, "", ["setting", "found", "wanted", ""]);
    for subject in SUBJECTS {
        let rows: Vec<_> = report.findings.iter().filter(|f| is_of(subject, f)).collect();
        if rows.is_empty() {
            continue;
        }
        text.push('\n');
        text += subject.title;
        text.push('\n');
        for finding in rows {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            let (found, wanted) = (part(&finding.found), part(&finding.wanted));
            text += &row(&columns, "  ", [&name(finding), &found, &wanted, word(finding.verdict)]);
        }
    }
    text
}

fn is_of(subject: &Subject, finding: &Finding) -> bool {
    subject.settings.contains(&finding.setting)
}

/// One row in as many lines as its fullest cell takes.
fn row(columns: &Columns, indent: &str, [setting, found, wanted, verdict]: [&str; 4]) -> String {
    let indented = columns.setting + 2 - indent.len();
    let setting = wrap(setting, indented);
    let (found, wanted) = (wrap(found, columns.found), wrap(wanted, columns.wanted));
    let lines = setting.len().max(found.len()).max(wanted.len());
    let mut text = String::new();
    for at in 0..lines {
        let cell = |lines: &[String], width| pad(lines.get(at).map_or("", String::as_str), width);
        let line = [
            format!("{indent}{}", cell(&setting, indented)),
            cell(&found, columns.found),
            cell(&wanted, columns.wanted),
            if at == 0 { verdict.to_owned() } else { String::new() },
        ];
        text += line.join(GAP).trim_end();
        text.push('\n');
    }
    text
}

/// `nic.rx_ring eth0`.
fn name(finding: &Finding) -> String {
    let subject = finding.subject.as_ref().map(|subject| format!(" {subject}"));
    format!("{}{}", finding.setting.key, subject.unwrap_or_default())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Unknown => "unknown",
        Verdict::Better => "better",
        Verdict::Wrong => "WRONG",
    }
}

/// Everything there is to say of one row.
fn details(finding: &Finding, width: usize) -> String {
    let mut title = name(finding);
    for (before, value) in [(": ", &finding.found), (", wanted: ", &finding.wanted)] {
        if let Some(value) = value {
            title = title + before + value;
        }
    }
    let mut text = labelled("", word(finding.verdict), VERDICT_WIDTH, &title, width);
    let mut say = |label, what: &str| text += &labelled("  ", label, LABEL_WIDTH, what, width);
    say("why", finding.setting.why);
    if finding.verdict > Verdict::Note {
        say("if left", finding.setting.effect);
    }
    if let Some(formula) = &finding.formula {
        say("how much", formula);
    }
    say("source", finding.setting.source);
    let mut label = "do";
    for change in finding.changes.iter().take(CHANGES_SHOWN) {
        let room = width - 2 - LABEL_WIDTH - GAP.len();
        let lines = wrap_command(&change.command(), room);
        text += &beside("  ", label, LABEL_WIDTH, &lines);
        label = "";
    }
    if let Some(more) = finding.changes.len().checked_sub(CHANGES_SHOWN + 1) {
        let more = format!("and {} more: sluice-tune apply --dry-run", more + 1);
        text += &labelled("  ", label, LABEL_WIDTH, &more, width);
    }
    for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
        text += &labelled("  ", label, LABEL_WIDTH, line, width);
        label = "";
    }
    text
}

/// What could not be read, by what can be done about it.
fn unknown(report: &Report, width: usize) -> String {
    let mut groups: Vec<(Option<&str>, Vec<String>)> = Vec::new();
    for finding in report.findings.iter().filter(|f| f.verdict == Verdict::Unknown) {
        let remedy = finding.remedy.as_deref();
        let reason = finding.found.as_ref().map(|found| format!(" ({found})"));
        let name = format!("{}{}", name(finding), reason.unwrap_or_default());
        match groups.iter_mut().find(|(of, _)| *of == remedy) {
            Some((_, names)) => names.push(name),
            None => groups.push((remedy, vec![name])),
        }
    }
    let mut text = String::new();
    for (remedy, names) in groups {
        text.push('\n');
        text += &labelled("", word(Verdict::Unknown), VERDICT_WIDTH, &names.join(", "), width);
        let remedy = remedy
            .unwrap_or("It could not be read here: another kernel or driver, or no permission.");
        text += &labelled("  ", "do", LABEL_WIDTH, remedy, width);
    }
    text
}

fn demand(report: &Report, width: usize) -> String {
    let demand = &report.demand;
    let mut text = labelled("", "Load", 4, &demand.load.to_string(), width);
    if !demand.load_is_given {
        let told =
            "This is the default, since none was named. Yours: --load \"100x10 2u screen, 500x2\"";
        text += &labelled("", "", 4, told, width);
    }
    let rows = [
        ("people connected", &demand.sessions),
        ("packets in, each second", &demand.packets_in_per_s),
        ("packets out, each second", &demand.packets_out_per_s),
        ("bits out, each second", &demand.bits_out_per_s),
        ("shards", &demand.shards),
        ("receive buffer, bytes", &demand.receive_buffer_bytes),
        ("send buffer, bytes", &demand.send_buffer_bytes),
        ("all UDP buffers, bytes", &demand.udp_memory_bytes),
        ("backlog, packets", &demand.backlog_packets),
        ("ring, descriptors", &demand.ring_descriptors),
        ("open files", &demand.open_files),
        ("locked memory, bytes", &demand.locked_memory_bytes),
        ("memory, bytes", &demand.memory_bytes),
        ("connection tracking", &demand.conntrack_entries),
    ];
    let label_width = rows.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
    for (label, sized) in rows {
        text += &labelled("  ", label, label_width, &sized.formula, width);
    }
    text
}

fn summary(report: &Report, width: usize) -> String {
    let of = |verdict| report.findings.iter().filter(|f| f.verdict == verdict).count();
    let counts = [
        (of(Verdict::Wrong), "wrong"),
        (of(Verdict::Better), "could be better"),
        (of(Verdict::Unknown), "unknown"),
        (of(Verdict::Note), "noted"),
        (of(Verdict::Good), "ok"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let mut sentences = vec![format!("{}.", counts.join(", "))];
    let plan = report.plan();
    let limits = plan.iter().filter(|c| matches!(c.target, Target::Limit { .. })).count();
    let changes = plan.len() - limits;
    if changes > 0 {
        sentences.push(format!(
            "\"sluice-tune apply --dry-run\" shows {}, \"sluice-tune apply\" makes them, \"sluice-tune restore\" puts back what was there.",
            counted(changes, "change")
        ));
    }
    if limits > 0 {
        let limits = counted(limits, "limit");
        sentences.push(format!("\"sluice-tune apply --persist\" raises {limits} of the service."));
    }
    let by_hand =
        report.findings.iter().filter(|f| f.verdict > Verdict::Unknown && f.changes.is_empty());
    match by_hand.count() {
        0 => {}
        count => {
            sentences.push(format!("{} by hand: see \"do\" above.", counted(count, "finding")))
        }
    }
    if report.findings.iter().all(|finding| finding.verdict <= Verdict::Unknown) {
        sentences.push("Nothing needs to be done.".to_owned());
    }
    wrap(&sentences.join(" "), width).join("\n") + "\n"
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
