//! A report as one HTML file: no script, nothing from elsewhere.

use super::document::{Block, Details, Level, Table, document};
use crate::result::{FloorResult, RunResult};

/// Light and dark colours, for screens of any width and for paper.
const STYLE: &str = include_str!("style.css");

/// Tables of more columns than this are set smaller, to fit a screen.
const DENSE: usize = 10;

/// Writes all results as one page.
pub fn html(runs: &[RunResult], floors: &[FloorResult]) -> String {
    let blocks = document(runs, floors, Details::OfEach);
    let title = blocks.iter().find_map(|block| match block {
        Block::Heading(Level::Report, text) => Some(escape(text)),
        _ => None,
    });
    let title = title.unwrap_or_default();
    let body: String =
        blocks.iter().enumerate().map(|(at, part)| block(at, part, &blocks)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn block(at: usize, block: &Block, all: &[Block]) -> String {
    match block {
        Block::Heading(Level::Report, text) => {
            format!("<h1>{}</h1>\n{}", escape(text), contents(all))
        }
        Block::Heading(Level::Chapter, text) => format!("<h2 id=s{at}>{}</h2>\n", escape(text)),
        Block::Heading(Level::Part, text) => format!("<h3>{}</h3>\n", escape(text)),
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::Warning(text) => format!("<p class=warning>{}</p>\n", escape(text)),
        Block::List(items) => {
            let items = items.iter().map(|item| {
                let class = if item.is_grave { " class=grave" } else { "" };
                format!("<li{class}>{}</li>\n", escape(&item.text))
            });
            format!("<ul>\n{}</ul>\n", items.collect::<String>())
        }
        Block::Code(lines) => format!("<pre>{}</pre>\n", escape(&lines.join("\n"))),
        Block::Table(table) => self::table(table),
        Block::Figure(figure) => format!("{figure}\n"),
    }
}

/// Links to the chapters, when there are enough to look for one.
fn contents(all: &[Block]) -> String {
    let chapters = all.iter().enumerate().filter_map(|(at, block)| match block {
        Block::Heading(Level::Chapter, text) => {
            Some(format!("<a href=\"#s{at}\">{}</a>\n", escape(text)))
        }
        _ => None,
    });
    let chapters: Vec<String> = chapters.collect();
    if chapters.len() < 2 { String::new() } else { format!("<nav>\n{}</nav>\n", chapters.concat()) }
}

fn table(table: &Table) -> String {
    let cells = |row: usize, cells: &[String], tag: &str| {
        let cells = cells.iter().enumerate().map(|(at, cell)| {
            let class = match (at < table.text_columns, table.grave.contains(&(row, at))) {
                (true, false) => "",
                (true, true) => " class=grave",
                (false, false) => " class=figure",
                (false, true) => " class=\"figure grave\"",
            };
            format!("<{tag}{class}>{}</{tag}>", escape(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let class = if table.head.len() > DENSE { " class=dense" } else { "" };
    let rows: String = table.rows.iter().zip(1..).map(|(row, at)| cells(at, row, "td")).collect();
    format!(
        "<div class=wide><table{class}>\n<thead>\n{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        cells(0, &table.head, "th")
    )
}

/// Text that means nothing to HTML, between tags and within quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' => escaped.push('\n'),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::sample;
    use super::*;
    use crate::scenario::Scaled;

    /// Nineteen scenarios of two servers, of different sizes.
    fn suite() -> Vec<RunResult> {
        let mut runs = Vec::new();
        for at in 0..19_u32 {
            for (label, factor) in [("uring", 1.0), ("mmsg", 1.2)] {
                let mut run = sample::run(&format!("c7i_{at:02}_sample"), label);
                let size = f64::from(at + 1);
                let scenario = run.scenario.as_mut().unwrap();
                scenario.published = Some(sample::published(40.0 + 2.0 * size, 4 + at / 6 * 4));
                scenario.calls.calls = at + 1;
                scenario.scaled =
                    Some(Scaled { factor: 0.2, calls: 5 * (at + 1), participants: 10 });
                run.server.cores *= size * factor;
                run.traffic.packets_out *= u64::from(at + 1);
                run.server.us_per_packet_out = Some(5.56 * factor);
                run.series.iter_mut().for_each(|tick| {
                    tick.server_cores *= size * factor;
                    tick.packets_out_per_s *= size;
                });
                for bucket in &mut run.latency_us.buckets {
                    bucket.0 *= factor;
                }
                run.partial = at == 18;
                run.valid = at != 7 || label == "uring";
                runs.push(run);
            }
        }
        runs
    }

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let page = html(&suite(), &[sample::floor()]);
        for outside in ["http://", "https://", "src=", "<script", "@import", "url(", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        for tag in ["table", "svg", "figure", "div", "p", "ul", "text"] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let mut run = sample::run("smoke", "<script>alert('x')</script>\" onload=\"");
        run.problems = vec!["<b>bold</b>".to_owned()];
        run.machine.cpu = "A & <i>B</i>".to_owned();
        run.command = "</pre><script>".to_owned();
        run.server.threads[0].name = "</td><script>".to_owned();
        let page = html(&[run], &[]);
        for tag in ["<script", "<b>", "<i>B", "onload=\""] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{page}");
    }

    #[test]
    fn partial_and_invalid_runs_are_marked() {
        let page = html(&suite(), &[]);
        assert!(page.contains("<p class=warning>Some of this is partial"), "{page}");
        assert!(page.contains("<p class=warning>Some runs are not valid"), "{page}");
        assert!(
            page.contains("<li class=grave>run 16 (c7i_07_sample, mmsg (sluice)): its figures")
        );
        assert!(page.contains("<td class=grave>mmsg (sluice) (0 of 1 runs valid)</td>"), "{page}");
        assert!(page.contains("<th class=\"figure grave\">uring (sluice) (1 run, 1 partial)</th>"));
        assert!(!html(&[sample::run("smoke", "a")], &[]).contains("class=warning"));
    }

    #[test]
    fn nothing_makes_a_page_that_says_so() {
        let page = html(&[], &[]);
        assert!(page.contains("<p>There are no results.</p>") && !page.contains("<table"));
    }

    /// For the eye: pages of sample data are left in the target folder.
    #[test]
    fn sample_pages_are_written() {
        let program = std::env::current_exe().unwrap();
        let folder = program.parent().unwrap();
        let mut one = [(); 4].map(|()| sample::run("smoke", "uring"));
        for (at, run) in one.iter_mut().enumerate() {
            let factor = 1.0 + at as f64 / 8.0;
            run.label = if at < 2 { "uring" } else { "mmsg" }.to_owned();
            run.server.cores *= factor;
            run.latency_us.buckets.iter_mut().for_each(|bucket| bucket.0 *= factor);
            run.series.iter_mut().for_each(|tick| tick.server_cores *= factor);
        }
        for (name, runs) in [("suite", suite()), ("one", one.to_vec())] {
            let path = folder.join(format!("sample_report_{name}.html"));
            fs::write(&path, html(&runs, &[sample::floor()])).unwrap();
            assert!(fs::metadata(path).unwrap().len() > 10_000);
        }
    }
}
