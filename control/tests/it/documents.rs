//! What documents say of the code is there.

use std::path::Path;

/// Every test function below `folder`, in Rust or Python.
fn functions(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            functions(&path, found);
            continue;
        }
        let keyword = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => "fn ",
            Some("py") => "def ",
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).expect("text");
        let names = text.lines().filter_map(|line| {
            let (_, after) = line.split_once(keyword)?;
            Some(after.split(['(', '<']).next()?.to_owned())
        });
        found.extend(names);
    }
}

#[test]
fn every_test_that_the_comparison_with_rtcd_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut known = Vec::new();
    for folder in ["engine/src", "engine/tests", "control/src", "control/tests"] {
        functions(&root.join(folder), &mut known);
    }
    let text = std::fs::read_to_string(root.join("docs/rtcd_compat.md")).expect("the document");
    let mut named = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let shown_by = cells.last().expect("a row has cells");
        for name in shown_by.split('`').skip(1).step_by(2) {
            named += 1;
            assert!(known.iter().any(|known| known == name), "no test {name:?}: {row}");
        }
    }
    assert!(named > 60, "only {named} tests are named: is the table still read?");
}
