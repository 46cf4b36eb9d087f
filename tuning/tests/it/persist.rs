//! Files that make changes outlive a reboot: what they say, and that nothing of others is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sluice_tuning::apply::{apply, preview};
use sluice_tuning::persist::{DROP_IN, SYSCTL_FILE};
use sluice_tuning::restore::{Fate, restore};
use sluice_tuning::testing::Tree;

use crate::support::{
    STATE, assert_as_it_was, file, for_good, limit, one_of_each, others, sysctl, until_the_reboot,
};

fn lines(tree: &Tree, path: &str) -> Vec<String> {
    let text = tree.text(path);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn files_say_all_that_was_applied() {
    let tree = Tree::dedicated();
    let told = preview(&tree.host(), &one_of_each(), &for_good()).unwrap();
    let applied = apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    assert_eq!(applied, told);
    assert_eq!((applied.steps.len(), applied.needs_persist.len()), (12, 0));
    assert_eq!(
        lines(&tree, SYSCTL_FILE),
        ["net.core.rmem_max = 16777216", "net.ipv4.udp_mem = 400000 800000 1600000"]
    );
    assert_eq!(
        lines(&tree, DROP_IN),
        [
            "[Service]",
            "LimitMEMLOCK=67108864",
            "LimitNOFILE=65536",
            "ExecStartPre=-+/usr/bin/sluice-tune apply --quiet --load \"1x1000 screen\"",
        ]
    );
}

#[test]
fn restore_removes_files_and_the_folders_made_for_them() {
    let tree = Tree::dedicated();
    fs::create_dir_all(tree.root().join("etc/systemd/system")).unwrap();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert!(!tree.root().join("etc/sysctl.d").exists());
    assert!(!tree.root().join("etc/systemd/system/sluice.service.d").exists());
    assert!(tree.root().join("etc/systemd/system").exists(), "it was there before");
}

#[test]
fn a_folder_in_which_somebody_put_a_file_stays() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    tree.write("etc/sysctl.d/99-mine.conf", "kernel.panic = 10\n");
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_eq!(tree.text("etc/sysctl.d/99-mine.conf"), "kernel.panic = 10");
}

#[test]
fn a_later_run_persists_what_earlier_ones_applied() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    let steps = apply(&tree.host(), &[], &for_good()).unwrap().steps;
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(lines(&tree, SYSCTL_FILE).len(), 2);
    apply(&tree.host(), &[limit("LimitNOFILE", "1024")], &for_good()).unwrap();
    apply(&tree.host(), &[sysctl("net.core.wmem_max", "16777216")], &for_good()).unwrap();
    assert_eq!(lines(&tree, SYSCTL_FILE).len(), 3);
    assert!(lines(&tree, DROP_IN).contains(&"LimitNOFILE=1024".to_owned()));
    let before = tree.snapshot();
    assert_eq!(apply(&tree.host(), &one_of_each()[..1], &for_good()).unwrap().steps, []);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_start_of_the_service_is_needed_only_for_what_is_in_no_file() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &[sysctl("net.core.rmem_max", "16777216")], &for_good()).unwrap();
    assert!(!tree.root().join(DROP_IN.trim_start_matches('/')).exists());
    let governor = "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor";
    apply(&tree.host(), &[file(governor, "performance")], &for_good()).unwrap();
    assert!(tree.text(DROP_IN).contains("ExecStartPre="));
}

#[test]
fn files_of_the_same_name_come_back_as_they_were() {
    let tree = Tree::dedicated();
    tree.write(SYSCTL_FILE, "# mine\nnet.core.rmem_max = 1\n");
    tree.write(DROP_IN, "[Service]\nEnvironment=SECRET=x\n");
    let drop_in = tree.root().join(DROP_IN.trim_start_matches('/'));
    fs::set_permissions(&drop_in, fs::Permissions::from_mode(0o600)).unwrap();
    let before = others(&tree);
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    apply(&tree.host(), &[sysctl("net.core.rmem_max", "33554432")], &for_good()).unwrap();
    assert!(!tree.text(DROP_IN).contains("SECRET"));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&tree.root().join(STATE)), 0o600, "it holds what not everybody may read");
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_eq!(mode(&drop_in), 0o600);
    tree.write("proc/sys/net/ipv4/udp_mem", "187638\t250187\t375276\n");
    assert_as_it_was(&tree, &before);
}

#[test]
fn a_file_that_was_edited_since_stays_until_forced() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    tree.write(SYSCTL_FILE, "net.core.rmem_max = 5\n");
    let restored = restore(&tree.host(), false).unwrap();
    let changed = restored.items.iter().filter(|item| matches!(item.fate, Fate::Changed { .. }));
    assert_eq!(changed.map(|item| item.place.as_str()).collect::<Vec<_>>(), [SYSCTL_FILE]);
    assert_eq!(tree.text(SYSCTL_FILE), "net.core.rmem_max = 5");
    assert!(restore(&tree.host(), true).unwrap().is_complete());
    assert!(!tree.root().join("etc").exists());
}

#[test]
fn what_is_no_file_of_text_is_refused_and_stays() {
    let tree = Tree::dedicated();
    let path = tree.root().join(SYSCTL_FILE.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink("/dev/null", &path).unwrap();
    let before = others(&tree);
    let error = apply(&tree.host(), &one_of_each(), &for_good()).unwrap_err().to_string();
    assert!(error.contains(SYSCTL_FILE) && error.contains("move it away"), "{error}");
    tree.write("proc/sys/net/ipv4/udp_mem", "187638\t250187\t375276\n");
    assert_as_it_was(&tree, &before);
    fs::remove_file(&path).unwrap();
    fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = apply(&tree.host(), &one_of_each(), &for_good()).unwrap_err().to_string();
    assert!(error.contains("no text"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), [0xff, 0xfe]);
}

#[test]
fn files_of_a_state_that_was_lost_are_ours_all_the_same() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    tree.remove(STATE);
    apply(&tree.host(), &[sysctl("net.core.wmem_max", "1")], &for_good()).unwrap();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert!(!tree.root().join(SYSCTL_FILE.trim_start_matches('/')).exists());
}

#[test]
fn what_somebody_raised_since_is_not_lowered_by_the_file() {
    let tree = Tree::stock_vm();
    let plan = [sysctl("net.core.rmem_max", "16777216")];
    apply(&tree.host(), &plan, &until_the_reboot()).unwrap();
    tree.write("proc/sys/net/core/rmem_max", "67108864\n");
    // A check finds it good, so that it is in no plan any more.
    apply(&tree.host(), &[], &for_good()).unwrap();
    assert_eq!(lines(&tree, SYSCTL_FILE), ["net.core.rmem_max = 67108864"]);
}
