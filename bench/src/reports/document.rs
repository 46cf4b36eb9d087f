//! What a report holds, in its order, said once for all forms it is written in.

use std::collections::BTreeMap;

use super::group::{Section, is_same, machines, run_label, scenario_name, sections};
use super::{measures, plots, published};
use crate::result::{FloorResult, Machine, RunResult};

/// A part of a report. All text is as people wrote it; whoever writes it down escapes it.
pub enum Block {
    Heading(Level, String),
    Text(String),
    /// What is wrong, above all that it is wrong with.
    Warning(String),
    List(Vec<Item>),
    /// Lines that are to stand as they are.
    Code(Vec<String>),
    Table(Table),
    /// HTML of a plot, for forms that can hold it.
    Figure(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Report,
    Chapter,
    Part,
}

/// Which scenarios are shown with all their measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Details {
    /// The only one; of several, what stands in one line.
    OfOne,
    OfEach,
}

pub struct Item {
    pub text: String,
    /// Figures must not be read without it.
    pub is_grave: bool,
}

/// Rows as long as the head; the first columns are words, the others figures.
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub text_columns: usize,
    /// Cells that stand out, because of what was wrong with their runs: row, of which the head is 0, and column.
    pub grave: Vec<(usize, usize)>,
}

/// The whole report. Results of nothing make a report that says so.
pub fn document(runs: &[RunResult], floors: &[FloorResult], details: Details) -> Vec<Block> {
    let sections = sections(runs);
    let mut blocks = vec![Block::Heading(Level::Report, title(&sections, floors))];
    blocks.push(Block::Text(headline(runs, floors)));
    blocks.extend(warnings(runs));
    let is_suite = sections.len() > 1;
    let published = sections.iter().flat_map(|section| &section.groups);
    let has_published =
        published.filter_map(|group| group.scenario).any(|at| at.published.is_some());
    if let [section] = sections.as_slice() {
        blocks.extend(summary(section));
    }
    if is_suite || has_published {
        chapter(&mut blocks, "Results");
        if has_published {
            blocks.push(Block::Text(format!("{} {}", published::CAVEAT, published::METHOD)));
        }
        blocks.push(Block::Table(published::table(&sections)));
    }
    if !sections.is_empty() {
        blocks.extend(plots::all(&sections).into_iter().map(Block::Figure));
    }
    if !is_suite || details == Details::OfEach {
        blocks.extend(sections.iter().flat_map(scenario));
    }
    blocks.extend(floor(floors));
    blocks.extend(machines_described(runs, floors));
    blocks.extend(commands(runs, floors));
    blocks
}

fn chapter(blocks: &mut Vec<Block>, title: &str) {
    blocks.push(Block::Heading(Level::Chapter, title.to_owned()));
}

fn title(sections: &[Section<'_>], floors: &[FloorResult]) -> String {
    match sections {
        [] if floors.is_empty() => "Benchmark".to_owned(),
        [] => "Benchmark: the floor".to_owned(),
        [section] => format!("Benchmark: {}", section.name),
        _ => format!("Benchmark: {} scenarios", sections.len()),
    }
}

/// How much there is and how much of it counts.
fn headline(runs: &[RunResult], floors: &[FloorResult]) -> String {
    if runs.is_empty() && floors.is_empty() {
        return "There are no results.".to_owned();
    }
    let mut parts = Vec::new();
    if !runs.is_empty() {
        parts.push(format!("{}.", counted(runs.len(), "run")));
        for (count, what) in [
            (runs.iter().filter(|run| !run.valid).count(), "not valid and not used"),
            (runs.iter().filter(|run| run.partial).count(), "partial"),
            (runs.iter().filter(|run| run.disturbed).count(), "disturbed"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}."));
            }
        }
        let medians =
            "Figures are medians of the valid runs, with the least and the most in brackets.";
        parts.push(medians.to_owned());
    }
    let began = runs.iter().map(|run| &run.began).chain(floors.iter().map(|floor| &floor.began));
    let began: Vec<&String> = began.filter(|began| !began.is_empty()).collect();
    if let (Some(first), Some(last)) = (began.iter().min(), began.iter().max()) {
        let last = if last == first { String::new() } else { format!(", the last {last}") };
        parts.push(format!("The first began {first}{last}."));
    }
    parts.join(" ")
}

/// What each server did, in a line.
fn summary(section: &Section<'_>) -> Option<Block> {
    let items = section.groups.iter().filter(|group| !group.valid.is_empty()).map(|group| {
        let figure = |decimals, unit: &str, value: fn(&RunResult) -> Option<f64>| {
            group.spread(value).0.map(|_| format!("{}{unit}", group.cell(decimals, value)))
        };
        let figures = [
            figure(3, " cores", |run| Some(run.server.cores)),
            figure(0, " packets out per second", measures::packets_out_per_second),
            figure(2, " µs per packet out", |run| run.server.us_per_packet_out),
            figure(2, " packets of a mean run", measures::run_length_out),
            figure(2, " times the floor", |run| run.floor.as_ref()?.multiple),
            figure(2, " times the floor on this path", measures::path_multiple),
            figure(2, " times that with the same runs", measures::path_multiple_alike),
            figure(4, " % lost", measures::lost_percent),
            figure(0, " µs latency p99", |run| Some(measures::any(&run.latency_us)?.p99)),
        ];
        let figures = figures.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Item { text: format!("{}: {figures}", group.heading()), is_grave: group.is_grave() }
    });
    let items: Vec<Item> = items.collect();
    (!items.is_empty()).then_some(Block::List(items))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What was wrong with which run.
fn warnings(runs: &[RunResult]) -> Vec<Block> {
    let mut items = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let name = format!("run {} ({}, {})", at + 1, scenario_name(run), run_label(run));
        let mut item = |text: &str, is_grave| {
            items.push(Item { text: format!("{name}: {text}"), is_grave });
        };
        if !run.valid {
            item("its figures are not the server's and are not used", true);
        }
        if run.partial {
            item("partial: it was stopped early", true);
        }
        if run.disturbed {
            item("disturbed: other programs had a part in its figures", true);
        }
        if run.as_expected == Some(false) {
            item("it does not show what the scenario expects", true);
        }
        run.problems.iter().for_each(|problem| item(problem, false));
    }
    let mut blocks = Vec::new();
    let graves = [
        (runs.iter().any(|run| run.partial), "Some of this is partial: a run was stopped early."),
        (runs.iter().any(|run| !run.valid), "Some runs are not valid; their figures are left out."),
        (
            runs.iter().any(|run| run.as_expected == Some(false)),
            "Some runs do not show what their scenario expects.",
        ),
    ];
    let graves = graves.into_iter().filter(|(is_so, _)| *is_so);
    blocks.extend(graves.map(|(_, text)| Block::Warning(text.to_owned())));
    if !items.is_empty() {
        chapter(&mut blocks, "What was wrong");
        blocks.push(Block::List(items));
    }
    blocks
}

/// One scenario: all measures, and how they went over time.
fn scenario(section: &Section<'_>) -> Vec<Block> {
    let groups = &section.groups;
    let mut blocks = Vec::new();
    chapter(&mut blocks, &format!("Scenario {}", section.name));
    if let Some(scenario) = groups.iter().find_map(|group| group.scenario) {
        let about = scenario.about.trim();
        let scale = published::scale(scenario);
        let scaled = (scale != "whole").then(|| format!("Shrunk: {scale}."));
        let parts = [Some(about.to_owned()).filter(|text| !text.is_empty()), scaled];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
        if !text.is_empty() {
            blocks.push(Block::Text(text));
        }
    }
    if groups.iter().all(|group| group.valid.is_empty()) {
        let text = "No run of this scenario is valid, so there are no figures.";
        blocks.push(Block::Warning(text.to_owned()));
        return blocks;
    }
    blocks.push(Block::Table(measures::table(groups)));
    blocks.extend(plots::of_scenario(groups).into_iter().map(Block::Figure));
    let more = [
        ("Threads", measures::threads(groups)),
        ("Cores of the machine", measures::cores(groups)),
        ("Counters of the kernel, before and after", measures::kernel_counters(groups)),
        ("Counters that grew", measures::counters(groups)),
    ];
    for (title, table) in more {
        if let Some(table) = table {
            blocks.push(Block::Heading(Level::Part, title.to_owned()));
            blocks.push(Block::Table(table));
        }
    }
    blocks
}

/// What the packets cost with nothing but copy, header, cipher and send.
fn floor(floors: &[FloorResult]) -> Vec<Block> {
    let mut blocks = Vec::new();
    if floors.is_empty() {
        return blocks;
    }
    chapter(&mut blocks, "Floor");
    let text = "CPU of the sending thread with nothing but copy, header, cipher and send: \
        medians, with the least and the most in brackets.";
    blocks.push(Block::Text(text.to_owned()));
    let head = [
        "device",
        "payload, bytes",
        "packets of a send",
        "peers",
        "ns per packet",
        "of it sealing, ns",
    ];
    let rows = floors.iter().flat_map(|floor| &floor.points).map(|point| {
        let spread =
            format!("{:.0} ({:.0} to {:.0})", point.ns_per_packet, point.ns_least, point.ns_most);
        let numbers =
            [point.payload_bytes, point.run, point.peers].map(|number| number.to_string());
        let sealing = format!("{:.0}", point.ns_sealing);
        [point.device.clone()].into_iter().chain(numbers).chain([spread, sealing]).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let is_empty = rows.is_empty() && floors.iter().all(|floor| floor.paced.is_empty());
    blocks.extend(is_empty.then(|| Block::Text("Nothing was measured.".to_owned())));
    blocks.extend(table_of(&head, rows));
    blocks.extend(paced(floors));
    let missing = floors.iter().flat_map(|floor| &floor.missing);
    let missing: Vec<Item> =
        missing.map(|text| Item { text: text.clone(), is_grave: false }).collect();
    if !missing.is_empty() {
        blocks.push(Block::List(missing));
    }
    blocks
}

/// What scenarios cost in their own rhythm.
fn paced(floors: &[FloorResult]) -> Option<Block> {
    let head = [
        "in its own rhythm",
        "calls",
        "people of a call",
        "packets of a mean run",
        "packets per second",
        "µs per packet",
    ];
    let rows = floors.iter().flat_map(|floor| &floor.paced).map(|of| {
        let numbers = [of.calls.calls, of.calls.participants].map(|number| number.to_string());
        let cost = format!("{:.2} ({:.2} to {:.2})", of.us_per_packet_out, of.us_least, of.us_most);
        let rest = [format!("{:.2}", of.run_length), format!("{:.0}", of.packets_per_s), cost];
        [of.scenario.clone()].into_iter().chain(numbers).chain(rest).collect()
    });
    table_of(&head, rows.collect())
}

/// A table whose first column is of words; nothing without rows.
fn table_of(head: &[&str], rows: Vec<Vec<String>>) -> Option<Block> {
    let head = head.iter().map(|text| (*text).to_owned()).collect();
    let table = Table { head, rows, text_columns: 1, grave: Vec::new() };
    (!table.rows.is_empty()).then_some(Block::Table(table))
}

fn machines_described(runs: &[RunResult], floors: &[FloorResult]) -> Vec<Block> {
    let mut all = machines(runs);
    for floor in floors {
        if !all.iter().any(|machine| is_same(machine, &floor.machine)) {
            all.push(&floor.machine);
        }
    }
    let mut blocks = Vec::new();
    for (at, machine) in all.iter().enumerate() {
        let title = match all.len() {
            1 => "Machine".to_owned(),
            _ => format!("Machine {}", at + 1),
        };
        chapter(&mut blocks, &title);
        let loads = runs.iter().filter(|run| is_same(&run.machine, machine));
        let loads = loads.flat_map(|run| [&run.machine.load_before, &run.machine.load_after]);
        let loads = loads.chain([&machine.load_before, &machine.load_after]);
        let head = ["", "this machine"].map(str::to_owned).to_vec();
        let rows = described(machine, loads);
        blocks.push(Block::Table(Table { head, rows, text_columns: 2, grave: Vec::new() }));
    }
    if all.len() > 1 && !runs.is_empty() {
        let text = "These results are of several machines, or of one in several states. Compare within one only.";
        blocks.insert(0, Block::Warning(text.to_owned()));
    }
    let mut versions: Vec<String> = Vec::new();
    for run in runs.iter().filter(|run| !run.server_version.is_empty()) {
        let version = format!("{}: {}", run_label(run), run.server_version);
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if !versions.is_empty() {
        blocks.push(Block::Heading(Level::Part, "Servers".to_owned()));
        let items = versions.into_iter().map(|text| Item { text, is_grave: false });
        blocks.push(Block::List(items.collect()));
    }
    blocks
}

fn described<'a>(machine: &Machine, loads: impl Iterator<Item = &'a String>) -> Vec<Vec<String>> {
    let pairs = |map: &BTreeMap<String, String>| {
        let pairs = map.iter().map(|(name, value)| format!("{name} {value}"));
        pairs.collect::<Vec<_>>().join(", ")
    };
    // The load of one minute is the first number.
    let ones = loads.filter_map(|load| load.split(' ').next()?.parse::<f64>().ok());
    let ones: Vec<f64> = ones.collect();
    let load = match crate::spread::Spread::of(ones) {
        Some(spread) => format!("{:.2} to {:.2}", spread.least, spread.most),
        None => String::new(),
    };
    let rows = [
        ("CPU", machine.cpu.clone()),
        ("cores", machine.cpus.to_string()),
        ("memory", format!("{:.1} GiB", machine.memory_bytes as f64 / f64::from(1 << 30))),
        ("kernel", machine.kernel.clone()),
        ("distribution", machine.distribution.clone()),
        ("virtualization", machine.virtualization.clone()),
        ("interface", machine.nic.clone()),
        ("offloads", pairs(&machine.offloads)),
        ("sysctls", pairs(&machine.sysctls)),
        ("load of one minute, before and after runs", load),
        ("sluice-bench", machine.bench_version.clone()),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    rows.map(|(name, value)| vec![name.to_owned(), value]).collect()
}

/// Each command line once.
fn commands(runs: &[RunResult], floors: &[FloorResult]) -> Vec<Block> {
    let commands = runs.iter().map(|run| &run.command);
    let commands = commands.chain(floors.iter().map(|floor| &floor.command));
    let mut lines: Vec<String> = Vec::new();
    for command in commands.filter(|command| !command.is_empty()) {
        // A line break would end the line that is to stand as it is.
        let line: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut blocks = Vec::new();
    if !lines.is_empty() {
        chapter(&mut blocks, "Command lines");
        blocks.push(Block::Code(lines));
    }
    blocks
}
