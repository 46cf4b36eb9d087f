//! The program itself: what it prints, how it ends, and that hosts made of files are tuned and put back by it.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Output, Stdio};

use sluice_tuning::testing::Tree;

use crate::support::{STATE, assert_as_it_was, others};

fn command(tree: &Tree, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-tune"));
    command.arg("--root").arg(tree.root()).args(words).env("COLUMNS", "100");
    command
}

fn run(tree: &Tree, words: &[&str]) -> Output {
    command(tree, words).output().expect("it starts")
}

/// What it printed, where it ended with `status`.
fn told(tree: &Tree, words: &[&str], status: i32) -> String {
    let output = run(tree, words);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{words:?}\n{out}\n{err}");
    out + &err
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

/// A host whose values are spelled as they are written.
fn spelled(tree: Tree) -> Tree {
    if tree.root().join("proc/sys/net/ipv4/udp_mem").exists() {
        let words = tree.text("proc/sys/net/ipv4/udp_mem").replace('\t', " ");
        tree.write("proc/sys/net/ipv4/udp_mem", &format!("{words}\n"));
    }
    tree
}

/// What the service has once it is started with the drop-in.
fn start_the_service(tree: &Tree) {
    let limits = tree.text("proc/self/limits");
    let unlimited = |line: &str| {
        let is_ours = line.starts_with("Max open files") || line.starts_with("Max locked memory");
        let name = line.get(..26).filter(|_| is_ours)?;
        Some(format!("{name}{:20} {:20} {}", "unlimited", "unlimited", "units"))
    };
    let lines = limits.lines().map(|line| unlimited(line).unwrap_or_else(|| line.to_owned()));
    tree.write("proc/self/limits", &(lines.collect::<Vec<_>>().join("\n") + "\n"));
}

#[test]
fn hosts_are_checked_tuned_and_put_back() {
    for (tree, is_ours) in
        [(Tree::stock_vm(), true), (Tree::dedicated(), true), (Tree::container(), false)]
    {
        let tree = spelled(tree);
        let before = others(&tree);
        told(&tree, &["check"], 1);
        assert_as_it_was(&tree, &before);
        let planned = told(&tree, &["apply", "--persist", "--dry-run"], 0);
        assert_eq!(tree.snapshot(), before, "a dry run leaves not even a lock");
        let done = told(&tree, &["apply", "--persist"], 0);
        let steps = |told: &str| {
            let lines = told.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(steps(&planned), steps(&done));
        assert_eq!(is_ours, tree.root().join(STATE).exists(), "{done}");
        let limits = tree.text("proc/self/limits");
        start_the_service(&tree);
        // In the container it stays wrong what only the host can change.
        told(&tree, &["check"], i32::from(!is_ours));
        let applied = tree.snapshot();
        let again = told(&tree, &["apply", "--persist"], 0);
        assert!(again.contains("Nothing to do"), "{again}");
        assert_eq!(tree.snapshot(), applied);
        tree.write("proc/self/limits", &(limits + "\n"));
        told(&tree, &["restore"], 0);
        let mut after = others(&tree);
        let mut before = before;
        // The limits were the test's doing.
        for files in [&mut after, &mut before] {
            files.remove(std::path::Path::new("proc/self/limits"));
        }
        assert_eq!(after, before);
        assert!(told(&tree, &["restore"], 0).contains("nothing to put back"));
    }
}

#[test]
fn the_start_of_the_service_finds_nothing_to_do_after_an_apply() {
    let tree = Tree::dedicated();
    let load = "1x100 2u";
    told(&tree, &["apply", "--persist", "--load", load], 0);
    let drop_in = tree.text("etc/systemd/system/sluice.service.d/90-tuning.conf");
    let start = drop_in.lines().find_map(|line| line.strip_prefix("ExecStartPre=-+")).unwrap();
    assert_eq!(start, format!("/usr/bin/sluice-tune apply --quiet --load \"{load}\""));
    let before = tree.snapshot();
    assert_eq!(told(&tree, &["apply", "--quiet", "--load", load], 0), "");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_kill_in_the_middle_is_put_back() {
    let tree = spelled(Tree::dedicated());
    let before = others(&tree);
    let folder = env!("CARGO_MANIFEST_DIR");
    tree.remove("usr/sbin/ethtool");
    tree.link("usr/sbin/ethtool", &format!("{folder}/tests/it/bent_ethtool.sh"));
    // The card has taken the change, and nobody is there any more to hear of it.
    let kills = format!(
        "case $1 in -G) echo $4 >${{0%/usr/sbin/*}}/ethtool/$2/$3; kill -9 $PPID;; \
         *) . {folder}/src/testing/ethtool.sh;; esac\n"
    );
    tree.write("usr/sbin/script", &kills);
    assert_eq!(run(&tree, &["apply"]).status.signal(), Some(9));
    assert_ne!(tree.text("proc/sys/net/core/rmem_max"), "212992");
    assert_ne!(tree.text("ethtool/eth0/rx"), "512");
    tree.remove("usr/sbin/script");
    tree.remove("usr/sbin/ethtool");
    tree.add_ethtool();
    assert!(told(&tree, &["status"], 0).contains("Changed: values: "));
    told(&tree, &["restore"], 0);
    assert_as_it_was(&tree, &before);
}

#[test]
fn one_setting_is_applied_or_left_out() {
    let tree = Tree::dedicated();
    let only = told(&tree, &["apply", "--only", "net.core.rmem_max,net.core.wmem_max"], 0);
    let lines: Vec<_> = only.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 2, "{only}");
    assert!(lines[0].starts_with("sysctl -w net.core.rmem_max="), "{only}");
    let except = told(&tree, &["apply", "--except", "nic,net,irq", "--dry-run"], 0);
    assert!(!except.contains("sysctl") && !except.contains("ethtool"), "{except}");
    assert!(except.contains("scaling_governor"), "{except}");
}

#[test]
fn a_refusal_names_the_way_round_it() {
    let tree = spelled(Tree::dedicated());
    tree.refuse_writes("proc/sys/net/core/optmem_max");
    let before = others(&tree);
    let words = told(&tree, &["apply"], 1);
    assert!(words.contains("net.core.optmem_max did not become"), "{words}");
    assert!(words.contains("sluice-tune apply --except net.core.optmem_max"), "{words}");
    assert_as_it_was(&tree, &before);
    told(&tree, &["apply", "--except", "net.core.optmem_max"], 0);
}

#[test]
fn bad_input_is_refused_with_what_would_be_right() {
    let tree = Tree::dedicated();
    let before = tree.snapshot();
    for (words, answer) in [
        (&["apply", "--only", "net.core.rmem_mix"][..], "net.core.rmem_max"),
        (&["explain", "net.core.rmem_mix"], "net.core.rmem_max"),
        (&["explain"], "Usage"),
        (&["check", "--load", "many"], "1x1000"),
        (&["check", "--shards", "0"], "1..=4096"),
        (&["check", "--port", "70000"], "70000"),
        (&["check", "--pid", "4999999"], "no such process"),
        (&["tune"], "Usage"),
    ] {
        let told = told(&tree, words, 2);
        assert!(told.contains(answer), "{words:?}: {told}");
    }
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-tune"));
    let output = command.args(["--root", "/proc/version", "check"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--root /proc/version: there is no such folder"));
}

#[test]
fn a_state_file_that_cannot_be_used_ends_with_its_name() {
    let tree = Tree::dedicated();
    tree.write(STATE, "{\"version\": 1, \"entr");
    let before = tree.snapshot();
    for words in [&["apply"][..], &["apply", "--dry-run"], &["restore", "--force"], &["status"]] {
        let told = told(&tree, words, 2);
        assert!(told.contains("state.json") && told.contains("Nothing was changed"), "{told}");
    }
    assert!(others(&tree).len() < before.len());
    assert_eq!(tree.text(STATE), "{\"version\": 1, \"entr");
}

#[test]
fn without_root_it_says_so_and_changes_nothing() {
    let tree = Tree::dedicated();
    if std::fs::metadata(tree.root()).is_ok_and(|folder| folder.uid() != 0) {
        println!("SKIPPED: the files are to be another user's, which needs root");
        return;
    }
    let before = tree.snapshot();
    let output = command(&tree, &["apply"]).uid(65_534).gid(65_534).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: it cannot be started as another user, which needs root: {error}");
            return;
        }
    };
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("Permission denied") && words.contains("sudo"), "{words}");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_check_is_read_by_programs_and_fits_the_terminal() {
    let tree = Tree::dedicated();
    let json: serde_json::Value =
        serde_json::from_str(&told(&tree, &["check", "--json"], 1)).expect("it is JSON");
    assert!(json["findings"].as_array().is_some_and(|findings| findings.len() > 10));
    for columns in ["80", "100", "160"] {
        let output =
            command(&tree, &["check"]).env("COLUMNS", columns).output().expect("it starts");
        let widest = text(&output.stdout).lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= columns.parse().unwrap()), "{widest:?}");
    }
}

#[test]
fn who_reads_only_the_beginning_is_no_error() {
    let tree = Tree::dedicated();
    let mut child = command(&tree, &["explain", "--all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((child.wait().unwrap().code(), words.as_str()), (Some(0), ""));
}

#[test]
fn each_setting_is_explained_with_its_source() {
    let tree = Tree::of::<&str, &str>(&[]);
    let one = told(&tree, &["explain", "net.core.rmem_max"], 0);
    assert!(one.starts_with("net.core.rmem_max\n") && one.contains("source"), "{one}");
    let all = told(&tree, &["explain", "--all"], 0);
    assert!(all.contains(&one) && all.len() > 20 * one.len());
}

#[test]
fn status_tells_what_is_changed() {
    let tree = Tree::dedicated();
    assert!(told(&tree, &["status"], 0).contains("Nothing is applied"));
    told(&tree, &["apply", "--persist"], 0);
    let words = told(&tree, &["status"], 0);
    assert!(words.contains("/etc/sysctl.d/90-sluice.conf"), "{words}");
    tree.write("proc/sys/kernel/random/boot_id", "another\n");
    assert!(told(&tree, &["status"], 0).contains("started anew"));
}
