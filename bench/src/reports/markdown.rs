//! A report as Markdown, as GitHub reads it.

use super::document::{Block, Details, Level, Table, document};
use crate::result::{FloorResult, RunResult};

/// Writes all results as one report; of several scenarios a line each.
pub fn markdown(runs: &[RunResult], floors: &[FloorResult]) -> String {
    let blocks = document(runs, floors, Details::OfOne);
    let blocks = blocks.iter().filter_map(block).collect::<Vec<_>>();
    blocks.join("\n\n") + "\n"
}

/// `None` for what Markdown cannot hold.
fn block(block: &Block) -> Option<String> {
    Some(match block {
        Block::Heading(level, text) => {
            let marks = match level {
                Level::Report => "#",
                Level::Chapter => "##",
                Level::Part => "###",
            };
            format!("{marks} {}", escape(text))
        }
        Block::Text(text) => escape(text),
        Block::Warning(text) => format!("**{}**", escape(text)),
        Block::List(items) => {
            let items = items.iter().map(|item| match item.is_grave {
                true => format!("- **{}**", escape(&item.text)),
                false => format!("- {}", escape(&item.text)),
            });
            items.collect::<Vec<_>>().join("\n")
        }
        // Indented, because a command may hold any mark that would end a fence.
        Block::Code(lines) => {
            let lines = lines.iter().map(|line| format!("    {line}"));
            lines.collect::<Vec<_>>().join("\n")
        }
        Block::Table(table) => self::table(table),
        Block::Figure(_) => return None,
    })
}

fn table(table: &Table) -> String {
    let line = |row: usize, cells: &[String]| {
        let cells = cells.iter().enumerate().map(|(column, cell)| {
            match table.grave.contains(&(row, column)) {
                true => format!(" **{}** |", escape(cell)),
                false => format!(" {} |", escape(cell)),
            }
        });
        format!("|{}", cells.collect::<String>())
    };
    let rule = (0..table.head.len()).map(|at| match at < table.text_columns {
        true => "---|",
        false => "---:|",
    });
    let rule = format!("|{}", rule.collect::<String>());
    let rows = table.rows.iter().zip(1..).map(|(cells, row)| line(row, cells));
    [line(0, &table.head), rule].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// Text that means nothing to Markdown: no cell ends early, no tag begins, no line breaks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '`' | '*' | '[' | ']' => escaped.extend(['\\', c]),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// Rows of the first table whose head begins so, cells trimmed.
    fn rows(text: &str, head: &str) -> Vec<Vec<String>> {
        let lines = text.lines().skip_while(|line| !line.starts_with(head));
        let lines = lines.take_while(|line| line.starts_with('|'));
        let cells = |line: &str| {
            let cells = line.trim_matches('|').split(" |").map(|cell| cell.trim().to_owned());
            cells.collect()
        };
        lines.map(cells).collect()
    }

    #[test]
    fn every_cell_of_a_scenario_is_the_sample_s() {
        let mut runs = [sample::run("smoke", "a"), sample::run("smoke", "a")];
        runs[1].server.cores = 0.3;
        let text = markdown(&runs, &[]);
        let wanted = [
            ["calls", "2"],
            ["participants", "20"],
            ["measured, s", "10.0"],
            ["packets in, per second", "2000"],
            ["packets out, per second", "18000"],
            ["in, Mbit/s of UDP payload", "16.00"],
            ["out, Mbit/s of UDP payload", "144.00"],
            ["server CPU, cores", "0.200 (0.100 to 0.300)"],
            ["of it user, cores", "0.030"],
            ["of it system, cores", "0.070"],
            ["server CPU, µs per packet out", "5.56"],
            ["server CPU, µs per packet in or out", "5.00"],
            ["server CPU, cores per Gbit/s out", "0.694"],
            ["packets of a mean run out", "2.50"],
            ["floor, µs per packet out", "2.00"],
            ["server CPU, multiple of the floor", "2.78"],
            ["floor on this path, µs per packet out", "3.00"],
            ["packets of a mean run there", "6.00"],
            ["server CPU, multiple of the floor on this path", "1.85"],
            ["floor on this path with the server's runs, µs per packet out", "4.00"],
            ["server CPU, multiple of the floor on this path with its runs", "1.39"],
            ["idle, µs per session and second", "25.00"],
            ["server waiting for a core, %", "0.2"],
            ["whole machine busy, cores", "0.400"],
            ["of it softirq, cores", "0.040"],
            ["of it stolen, cores", "0.020"],
            ["generator CPU, cores", "0.120"],
            ["busiest generator thread, cores", "0.110"],
            ["generator waiting for a core, %", "0.1"],
            ["generator workers", "1"],
            ["lost, % of expected", "0.0050"],
            ["lost, packets", "9"],
            ["dropped by the server's sockets", "4"],
            ["dropped by the generator's sockets", "1"],
            ["RcvbufErrors in the server's namespace", "5"],
            ["SndbufErrors there", "0"],
            ["dropped by the backlogs of all cores", "0"],
            ["dropped by the impairment relay", "2"],
            ["publishers' packets the server missed", "3"],
            ["gaps receivers saw", "8"],
            ["packets behind later ones", "7"],
            ["streams with loss", "6"],
            ["sessions that ended by themselves", "5"],
            ["latency p50, µs", "482"],
            ["latency p99, µs", "1199"],
            ["latency p99.9, µs", "2400"],
            ["latency max, µs", "4195"],
            ["clock error p99, µs", "20"],
            ["clock error max, µs", "70"],
            ["jitter p50, µs", "110"],
            ["jitter p99, µs", "410"],
            ["jitter max, µs", "900"],
            ["time to join p50, ms", "0.72"],
            ["time to join p99, ms", "1.90"],
            ["time to join max, ms", "3.29"],
            ["until all had joined, s", "1.25"],
            ["time to first frame p50, ms", "31.00"],
            ["time to first frame p99, ms", "64.00"],
            ["time to first frame max, ms", "67.00"],
            ["complete frames", "5400"],
            ["incomplete frames", "3"],
            ["times frozen", "1"],
            ["frozen, s of all receivers", "0.40"],
            ["resident before clients, MiB", "27.0"],
            ["resident after the joins, MiB", "35.0"],
            ["resident at the end, MiB", "37.0"],
            ["resident per session, KiB", "42.0"],
            ["packets sent late", "12"],
            ["packets verified", "1800"],
            ["of them damaged", "0"],
            ["dropped by the server: unknown_source", "4"],
        ];
        let rows = rows(&text, "|  | a (sluice) (2 runs) |");
        assert_eq!(rows[0], ["", "a (sluice) (2 runs)"]);
        assert_eq!(rows[2..], wanted.map(|row| row.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_suite_stands_beside_what_was_published() {
        let mut audio = sample::run("1x1000_u2", "a");
        audio.scenario.as_mut().unwrap().published = Some(sample::published(47.0, 4));
        let text = markdown(&[audio, sample::run("lossy", "a")], &[]);
        let rows = rows(&text, "| scenario |");
        // The sample sends 18,000 packets a second by its scenario: 2 calls, 9 others, 1000 packets a second of each.
        let wanted = "1x1000_u2, whole, c7i.xlarge, a (sluice) (1 run), 20, 1.88, 104.44, 0.100, \
            18000, 5.56, 2.00, 2.78, 1.85, 1.39, 0.0050, 482, 1199, 37.0";
        assert_eq!(rows[2].join(", "), wanted);
        assert_eq!(rows[3][4..8].join(", "), "20, –, –, 0.100");
        assert!(text.contains("not which server is faster"), "{text}");
        assert!(!text.contains("## Scenario"), "{text}");
    }

    #[test]
    fn without_published_figures_there_is_no_caveat() {
        let text = markdown(&[sample::run("smoke", "a"), sample::run("lossy", "a")], &[]);
        assert!(text.contains("| scenario |") && !text.contains("not which server"), "{text}");
    }

    #[test]
    fn partial_and_invalid_runs_are_named() {
        let mut runs = [(); 3].map(|()| sample::run("smoke", "a"));
        runs[0].partial = true;
        runs[1].valid = false;
        runs[1].problems = vec!["the generator used 0.95 of a core".to_owned()];
        runs[2].disturbed = true;
        let text = markdown(&runs, &[]);
        assert!(
            text.contains("3 runs. 1 not valid and not used. 1 partial. 1 disturbed."),
            "{text}"
        );
        assert!(text.contains("**Some of this is partial: a run was stopped early.**"), "{text}");
        assert!(text.contains("- **run 1 (smoke, a (sluice)): partial: it was stopped early**"));
        assert!(
            text.contains("- **run 2 (smoke, a (sluice)): its figures are not the server's and")
        );
        assert!(
            text.contains("- **run 3 (smoke, a (sluice)): disturbed: other programs"),
            "{text}"
        );
        assert!(text.contains("- run 2 (smoke, a (sluice)): the generator used 0.95 of a core"));
        let head = "| **a (sluice) (2 of 3 runs valid, 1 partial, 1 disturbed)** |";
        assert!(text.contains(head), "{text}");
    }

    #[test]
    fn the_kernel_s_counters_stand_there_before_and_after_with_whose_they_are() {
        let mut runs = [sample::run("smoke", "a"), sample::run("smoke", "a")];
        runs[1].kernel.as_mut().unwrap().is_shared = false;
        let table = rows(&markdown(&runs, &[]), "| server | run |");
        let figures = ["90 to 95", "7", "100 to 111", "3 to 9", "40"];
        for (row, run, generator) in [(2, "1", "1"), (3, "2", "counted elsewhere")] {
            let expected = ["a (sluice)", run].into_iter().chain(figures).chain(["4", generator]);
            assert_eq!(table[row], expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_run_that_does_not_show_what_is_expected_is_named() {
        let mut run = sample::run("smoke", "a");
        run.as_expected = Some(false);
        let text = markdown(&[run], &[]);
        assert!(text.contains("**Some runs do not show what their scenario expects.**"), "{text}");
        assert!(text.contains("- **run 1 (smoke, a (sluice)): it does not show what"), "{text}");
    }

    #[test]
    fn without_a_valid_run_there_are_no_figures() {
        let mut run = sample::run("smoke", "a");
        run.valid = false;
        let text = markdown(&[run], &[]);
        assert!(text.contains("**No run of this scenario is valid"), "{text}");
        assert!(!text.contains("server CPU"), "{text}");
    }

    #[test]
    fn marks_in_names_stay_text() {
        let mut run = sample::run("smoke", "a|b <script>*x*`");
        run.command = "sluice-bench run\n# heading".to_owned();
        let text = markdown(&[run], &[]);
        assert!(text.contains("a\\|b &lt;script&gt;\\*x\\*\\`"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
        assert!(text.contains("\n    sluice-bench run # heading\n"), "{text}");
    }

    #[test]
    fn the_floor_has_a_table_of_its_own() {
        let text = markdown(&[], &[sample::floor()]);
        assert!(text.starts_with("# Benchmark: the floor\n"), "{text}");
        let table = rows(&text, "| device |");
        assert_eq!(table[2], ["loopback", "1042", "1", "200", "2000 (1900 to 2300)", "310"]);
        let paced = rows(&text, "| in its own rhythm |");
        assert_eq!(paced[2], ["smoke", "2", "10", "6.00", "18000", "3.00 (2.50 to 3.50)"]);
        assert!(text.contains("- veth: not permitted"), "{text}");
    }

    #[test]
    fn the_machine_is_described() {
        let text = markdown(&[sample::run("smoke", "a")], &[]);
        assert!(text.contains("| CPU | AMD EPYC |"), "{text}");
        assert!(text.contains("| memory | 24.0 GiB |"), "{text}");
        assert!(text.contains("| offloads | tx-udp-segmentation on |"), "{text}");
        assert!(text.contains("| load of one minute, before and after runs | 0.10 to 0.40 |"));
        assert!(text.contains("- a (sluice): sluice 0.1.0 uring"), "{text}");
    }

    #[test]
    fn nothing_makes_a_report_that_says_so() {
        assert_eq!(markdown(&[], &[]), "# Benchmark\n\nThere are no results.\n");
    }
}
