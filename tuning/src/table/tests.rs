use super::*;
use crate::advice::check;
use crate::demand::Goal;
use crate::facts::Facts;
use crate::testing::Tree;

fn reports() -> Vec<Report> {
    [Tree::stock_vm(), Tree::dedicated(), Tree::container()]
        .iter()
        .map(|tree| check(&Facts::read(&tree.host(), 0), &Goal::default()))
        .collect()
}

#[test]
fn no_line_is_longer_than_the_width() {
    for report in reports() {
        for width in [60, 80, 100, 160, 300] {
            for text in [render(&report, width), render_full(&report, width)] {
                let long = text.lines().find(|line| columns(line) > width);
                assert_eq!(long, None, "{width}");
                assert_eq!(text.lines().find(|line| line.ends_with(' ')), None);
            }
        }
        assert_eq!(render(&report, 0), render(&report, WIDTH_MIN));
    }
}

#[test]
fn every_finding_is_a_row_and_every_wrong_one_is_explained() {
    for report in reports() {
        let text = render(&report, 500);
        for finding in &report.findings {
            let is_row = |line: &&str| {
                line.starts_with(&format!("  {} ", name(finding)))
                    && line.ends_with(&format!(" {}", word(finding.verdict)))
            };
            assert_eq!(text.lines().filter(is_row).count(), 1, "{}\n{text}", name(finding));
            let told =
                text.contains(&format!("{}  {}", pad(word(finding.verdict), 7), name(finding)));
            if finding.verdict > Verdict::Unknown {
                assert!(told, "{}", name(finding));
                for change in finding.changes.iter().take(CHANGES_SHOWN) {
                    assert!(text.contains(&change.command()), "{}", change.command());
                }
            }
        }
        assert!(text.contains(&report.demand.receive_buffer_bytes.formula));
    }
}

#[test]
fn buffers_stand_on_one_line_in_80_columns() {
    for report in reports() {
        let text = render(&report, 80);
        let row = text.lines().find(|line| line.starts_with("  net.core.rmem_max")).unwrap();
        assert!(row.contains("212992 (208 KiB)  ≥ 16777216 (16 MiB)"), "{row}");
    }
}

#[test]
fn the_default_load_is_called_so_and_a_named_one_is_not() {
    let tree = Tree::stock_vm();
    let facts = Facts::read(&tree.host(), 0);
    let text = render(&check(&facts, &Goal::default()), 100);
    assert!(text.contains("Load  1x1000 2u screen\n      This is the default"), "{text}");
    let named = Goal { load_is_given: true, ..Goal::default() };
    assert!(!render(&check(&facts, &named), 100).contains("This is the default"));
}

#[test]
fn the_end_says_what_to_do() {
    let tree = Tree::stock_vm();
    let report = check(&Facts::read(&tree.host(), 0), &Goal::default());
    let text = render(&report, 400);
    let last = text.lines().last().unwrap();
    assert!(last.contains("sluice-tune apply\" makes"), "{last}");
    let good = Report {
        findings: report.findings.into_iter().filter(|f| f.verdict == Verdict::Good).collect(),
        ..report
    };
    let text = render(&good, 200);
    assert!(text.ends_with(" ok. Nothing needs to be done.\n"), "{text}");
}
