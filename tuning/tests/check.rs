//! `sluice-tune check` against a fake tree.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sluice_tuning::facts::Facts;

/// A folder below the target directory, fresh for each test.
fn fake_tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).expect("the target directory is writable");
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
        fs::write(path, text).expect("writable");
    }
    root
}

const TREE: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.4\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("proc/sys/net/core/rmem_max", "212992\n"),
    ("proc/sys/net/core/wmem_max", "33554432\n"),
    ("proc/sys/net/core/rmem_default", "212992\n"),
    ("proc/sys/net/core/optmem_max", "131072\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
];

#[test]
fn facts_are_read_below_the_given_root() {
    let facts = Facts::read(&fake_tree("facts", TREE));
    assert_eq!(facts.kernel.as_deref(), Some("6.12.4"));
    assert_eq!(facts.cpus, Some(8));
    assert_eq!((facts.rmem_max, facts.wmem_max), (Some(212_992), Some(33_554_432)));
    assert_eq!((facts.rmem_default, facts.optmem_max), (Some(212_992), Some(131_072)));
    assert_eq!((facts.netdev_max_backlog, facts.io_uring_disabled), (Some(1000), Some(2)));
}

#[test]
fn missing_and_unreadable_facts_are_unknown() {
    let root = fake_tree("missing", &[("proc/sys/net/core/rmem_max", "many\n")]);
    assert_eq!(Facts::read(&root), Facts::default());
}

#[test]
fn check_prints_each_fact_with_its_value() {
    let root = fake_tree("table", &TREE[..3]);
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-tune"))
        .args(["check", "--root"])
        .arg(root)
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("it is text");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = text.lines().map(words).collect();
    assert!(rows.contains(&vec!["net.core.rmem_max".to_owned(), "212992".to_owned()]), "{text}");
    assert!(rows.contains(&vec!["net.core.wmem_max".to_owned(), "unknown".to_owned()]), "{text}");
    assert_eq!(rows.len(), Facts::default().rows().len());
}

#[test]
fn anything_else_is_refused_with_the_usage() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluice-tune")).arg("apply").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage"));
}
