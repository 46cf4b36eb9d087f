//! What is refused leaves the host as it was and says what would help.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sluice_tuning::apply::{ApplyError, apply, apply_and_look_again, preview};
use sluice_tuning::change::{Change, NicParameter};
use sluice_tuning::restore::restore;
use sluice_tuning::state::status;
use sluice_tuning::testing::Tree;

use crate::support::{
    STATE, assert_as_it_was, card, file, for_good, limit, one_of_each, others, sysctl,
    until_the_reboot,
};

/// A tree in which all values are spelled as they are written.
fn tree() -> Tree {
    let tree = Tree::dedicated();
    tree.write("proc/sys/net/ipv4/udp_mem", "187638 250187 375276\n");
    tree
}

fn refused(tree: &Tree, changes: &[Change]) -> String {
    let error = apply(&tree.host(), changes, &for_good()).expect_err("it cannot be done");
    assert!(matches!(&error, ApplyError::Refused { stuck, .. } if stuck.is_empty()), "{error}");
    error.to_string()
}

/// An `ethtool` of the tree that does `first` ahead of what the usual one does.
fn bend_ethtool(tree: &Tree, first: &str) {
    tree.remove("usr/sbin/ethtool");
    let folder = env!("CARGO_MANIFEST_DIR");
    tree.write("usr/sbin/script", &format!("{first}\n. {folder}/src/testing/ethtool.sh\n"));
    // A link, since a program that has only just been written cannot be started while another thread forks.
    tree.link("usr/sbin/ethtool", &format!("{folder}/tests/it/bent_ethtool.sh"));
}

#[test]
fn a_refusal_anywhere_in_the_plan_undoes_all_before_it() {
    let plan = one_of_each();
    for nth in 0..=10 {
        let tree = tree();
        tree.refuse_writes("proc/sys/net/core/wmem_max");
        let before = others(&tree);
        let mut changes = plan.clone();
        changes.insert(nth, sysctl("net.core.wmem_max", "16777216"));
        let error = refused(&tree, &changes);
        assert!(error.contains("net.core.wmem_max did not become 16777216"), "{error}");
        assert_as_it_was(&tree, &before);
        assert!(!tree.root().join(STATE).exists());
    }
}

#[test]
fn a_refusal_in_a_later_run_leaves_the_earlier_one() {
    let tree = tree();
    let before = others(&tree);
    apply(&tree.host(), &[sysctl("net.core.rmem_max", "300000")], &for_good()).unwrap();
    let applied = tree.snapshot();
    let mut changes = one_of_each();
    changes.push(sysctl("net.core.nonsense", "1"));
    let error = refused(&tree, &changes);
    assert!(error.contains("net.core.nonsense cannot be read"), "{error}");
    assert!(error.contains("this kernel does not have it"), "{error}");
    assert_eq!(tree.snapshot(), applied);
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

#[test]
fn files_that_cannot_be_written_undo_the_values() {
    let tree = tree();
    // A file where a folder should be.
    tree.write("etc/systemd", "");
    let before = others(&tree);
    let error = refused(&tree, &one_of_each());
    assert!(error.contains("90-tuning.conf"), "{error}");
    assert_as_it_was(&tree, &before);
}

#[test]
fn a_card_that_says_no_is_quoted() {
    let tree = tree();
    let before = others(&tree);
    for (change, words) in [
        (card(NicParameter::RxRing, "8192"), "requested ring size exceeds maximum"),
        (card(NicParameter::Feature("rx-all".to_owned()), "on"), "Could not change"),
        (card(NicParameter::Feature("nonsense".to_owned()), "on"), "does not have this"),
    ] {
        let error = refused(&tree, &[sysctl("net.core.rmem_max", "16777216"), change]);
        assert!(error.contains(words), "{error}");
        assert_as_it_was(&tree, &before);
    }
    tree.remove("usr/sbin/ethtool");
    let error = refused(&tree, &[card(NicParameter::RxRing, "1024")]);
    assert!(error.contains("apt install ethtool"), "{error}");
}

#[test]
fn a_value_that_is_not_taken_though_nothing_was_said_is_a_refusal() {
    let tree = tree();
    // Takes the change and does another.
    bend_ethtool(&tree, "[ $1 = -C ] && set -- -C $2 $3 30");
    let before = others(&tree);
    let changes = [sysctl("net.core.rmem_max", "16777216"), card(NicParameter::RxUsecs, "50")];
    let error = apply(&tree.host(), &changes, &until_the_reboot()).unwrap_err();
    let ApplyError::Refused { refusal, undone, stuck } = &error else { panic!("{error}") };
    assert!(refusal.why.contains("30 was there"), "{error}");
    // The card takes nothing but 30, so that one is stuck; the rest was undone.
    assert_eq!((*undone, stuck.len()), (1, 1));
    assert!(error.to_string().contains("Not all could be undone"), "{error}");
    assert_eq!(tree.text("proc/sys/net/core/rmem_max"), "212992");
    assert_eq!(status(&tree.host()).unwrap().unwrap().values, 1);
    tree.remove("usr/sbin/ethtool");
    tree.add_ethtool();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    let mut after = others(&tree);
    after.retain(|path, _| !path.starts_with("usr"));
    let mut before = before;
    before.retain(|path, _| !path.starts_with("usr"));
    assert_eq!(after, before);
}

#[test]
fn a_ring_may_be_rounded_up_and_comes_back() {
    let tree = tree();
    bend_ethtool(&tree, "[ \"$4\" = 1000 ] && set -- $1 $2 $3 1024");
    let before = others(&tree);
    let changes = [card(NicParameter::RxRing, "1000")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert_eq!(tree.text("ethtool/eth0/rx"), "1024");
    assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps, []);
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

#[test]
fn words_without_a_failure_behind_them_are_no_refusal() {
    let tree = tree();
    // As some versions do where nothing is to be changed.
    let sets = "case $1 in -G) echo $4 >${0%/usr/sbin/*}/ethtool/$2/$3; exit 80;; esac";
    bend_ethtool(&tree, sets);
    let changes = [card(NicParameter::RxRing, "1024")];
    assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps.len(), 1);
    assert_eq!(tree.text("ethtool/eth0/rx"), "1024");
}

#[test]
fn a_state_file_that_cannot_be_used_is_named_and_nothing_is_touched() {
    let tree = tree();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    let good = tree.text(STATE);
    let cut_off = &good[..good.len() / 2];
    for (text, words) in [
        ("", "EOF while parsing"),
        ("garbage", "expected value"),
        (cut_off, "EOF while parsing"),
        ("{}", "it has no version"),
        ("[1]", "it has no version"),
        ("{\"version\": \"1\"}", "it has no version"),
        ("{\"version\": 2, \"news\": []}", "is of version 2, and this program knows version 1"),
        ("{\"version\": 1}", "missing field"),
        (&good.replace("\"16777216\"", "16777216"), "expected a string"),
        (&good.replace("\"sysctl\"", "\"registry\""), "unknown variant"),
        (&good.replace("net.core.rmem_max", "///..etc.passwd"), "no file below"),
        (&good.replace("/proc/irq/71/", "/etc/"), "no file below"),
        (&good.replace("/etc/sysctl.d/90-sluice.conf", "/etc/passwd"), "is ever written"),
        (&good.replace("LimitNOFILE", "ExecStartPre"), "is no limit"),
        (&good.replace("\"65536\"", "\"1\\nExecStartPre=+/x\""), "is no limit"),
        (&good.replace("\"16777216\"", "\"1\\nkernel.core_pattern = x\""), "one line"),
    ] {
        tree.write(STATE, text);
        let before = tree.snapshot();
        let errors = [
            apply(&tree.host(), &one_of_each()[..1], &for_good()).unwrap_err().to_string(),
            preview(&tree.host(), &one_of_each()[..1], &for_good()).unwrap_err().to_string(),
            restore(&tree.host(), true).unwrap_err().to_string(),
            status(&tree.host()).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(error.contains("state.json") && error.contains(words), "{text}: {error}");
            assert!(error.contains("Nothing was changed"), "{error}");
        }
        assert_eq!(tree.snapshot(), before);
    }
    tree.write(STATE, &good);
    assert!(restore(&tree.host(), false).unwrap().is_complete());
}

#[test]
fn without_a_place_for_the_state_nothing_is_changed() {
    let tree = tree();
    tree.write("var/lib", "");
    let before = tree.snapshot();
    let error = apply(&tree.host(), &one_of_each(), &for_good()).unwrap_err().to_string();
    assert!(
        error.contains("var/lib/sluice-tune") && error.contains("Nothing was changed"),
        "{error}"
    );
    assert_eq!(tree.snapshot(), before);
    let elsewhere = tree.root().join("run/kept");
    let host = tree.host().with_state_folder(&elsewhere);
    apply(&host, &one_of_each(), &for_good()).unwrap();
    assert!(elsewhere.join("state.json").exists());
    assert!(restore(&host, false).unwrap().is_complete());
}

#[test]
fn a_queue_that_went_with_the_change_of_another_is_a_refusal() {
    let tree = tree();
    // With fewer queues there are fewer interrupts.
    let irq = "${0%/usr/sbin/*}/proc/irq/78/smp_affinity_list";
    let sets = format!("case $1$4 in -L4) rm {irq};; -L8) echo 15 >{irq};; esac");
    bend_ethtool(&tree, &sets);
    let before = others(&tree);
    let changes =
        [card(NicParameter::CombinedChannels, "4"), file("/proc/irq/78/smp_affinity_list", "1")];
    let error = refused(&tree, &changes);
    assert!(error.contains("/proc/irq/78/smp_affinity_list cannot be read"), "{error}");
    assert_as_it_was(&tree, &before);
}

#[test]
fn what_was_done_last_is_undone_first() {
    let tree = tree();
    // More queues are only taken back while the rings are small.
    let guard =
        "if [ $1 = -L ] && [ \"$(cat ${0%/usr/sbin/*}/ethtool/$2/rx)\" != 512 ]; then exit 1; fi";
    bend_ethtool(&tree, guard);
    let before = others(&tree);
    let changes = [card(NicParameter::CombinedChannels, "16"), card(NicParameter::RxRing, "4096")];
    let nonsense = [&changes[..], &[sysctl("net.core.nonsense", "1")]].concat();
    refused(&tree, &nonsense);
    assert_as_it_was(&tree, &before);
    apply(&tree.host(), &changes, &for_good()).unwrap();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

#[test]
fn what_a_card_forgets_with_its_queues_comes_back() {
    let tree = tree();
    let forgets = "[ $1 = -L ] && echo 0-31 >${0%/usr/sbin/*}/proc/irq/71/smp_affinity_list";
    bend_ethtool(&tree, forgets);
    let before = others(&tree);
    let changes = [
        card(NicParameter::CombinedChannels, "16"),
        file("/proc/irq/71/smp_affinity_list", "8,24"),
    ];
    let nonsense = [&changes[..], &[sysctl("net.core.nonsense", "1")]].concat();
    refused(&tree, &nonsense);
    assert_as_it_was(&tree, &before);
    let applied = apply(&tree.host(), &changes, &for_good()).unwrap();
    assert_eq!(applied.steps.len(), 3, "two values and the drop-in");
    assert_eq!(tree.text("proc/irq/71/smp_affinity_list"), "8,24");
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

/// A tree whose card gets an interrupt 80 with more queues, and has none with eight.
fn tree_that_grows() -> Tree {
    let tree = tree();
    let irq = "${0%/usr/sbin/*}/proc/irq/80";
    let sets = format!(
        "case $1$4 in -L16) mkdir {irq}; echo 0-31 >{irq}/smp_affinity_list;; -L8) rm -r {irq};; esac"
    );
    bend_ethtool(&tree, &sets);
    tree
}

const GROWN: &str = "/proc/irq/80/smp_affinity_list";

#[test]
fn what_comes_with_other_queues_is_set_in_the_same_run() {
    let tree = tree_that_grows();
    let before = others(&tree);
    let first = [card(NicParameter::CombinedChannels, "16"), limit("LimitNOFILE", "65536")];
    let look_again = || vec![file(GROWN, "9"), file("/proc/irq/71/smp_affinity_list", "9")];
    let tune = || apply_and_look_again(&tree.host(), &first, look_again, &until_the_reboot());
    let applied = tune().unwrap();
    assert_eq!((applied.steps.len(), applied.needs_persist.len()), (3, 1));
    assert_eq!(tree.text(GROWN), "9");
    assert_eq!(tune().unwrap().steps, []);
    let restored = restore(&tree.host(), false).unwrap();
    assert!(restored.is_complete(), "{restored:#?}");
    assert_as_it_was(&tree, &before);
}

#[test]
fn a_refusal_after_the_second_look_undoes_the_first_part_as_well() {
    let tree = tree_that_grows();
    let before = others(&tree);
    let first =
        [sysctl("net.core.rmem_max", "16777216"), card(NicParameter::CombinedChannels, "16")];
    let ring = card(NicParameter::RxRing, "4096");
    let nonsense = sysctl("net.core.nonsense", "1");
    let look_again = || vec![file(GROWN, "9"), ring, nonsense];
    let error =
        apply_and_look_again(&tree.host(), &first, look_again, &until_the_reboot()).unwrap_err();
    let ApplyError::Refused { undone, stuck, .. } = &error else { panic!("{error}") };
    assert_eq!((*undone, stuck.as_slice()), (4, &[][..]));
    assert_as_it_was(&tree, &before);
    assert!(!tree.root().join(STATE).exists());
}

#[test]
fn nobody_looks_again_where_no_queues_came() {
    let tree = tree();
    let changes = [card(NicParameter::RxRing, "4096")];
    let look_again = || panic!("no queue came");
    let applied = apply_and_look_again(&tree.host(), &changes, look_again, &until_the_reboot());
    assert_eq!(applied.unwrap().steps.len(), 1);
}

#[test]
fn a_state_that_others_could_have_written_is_refused() {
    let tree = tree();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    let (folder, file) = (tree.root().join("var/lib/sluice-tune"), tree.root().join(STATE));
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let before = others(&tree);
    let refused = |words: &str| {
        for error in [
            apply(&tree.host(), &[], &for_good()).unwrap_err().to_string(),
            restore(&tree.host(), true).unwrap_err().to_string(),
        ] {
            assert!(error.contains(words) && error.contains("Nothing was changed"), "{error}");
        }
        assert_as_it_was(&tree, &before);
    };
    for (path, mode) in [(&folder, 0o700), (&file, 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        for others_may_write in [0o777, 0o770] {
            set(path, others_may_write);
            refused("others may write it");
        }
        set(path, mode);
    }
    let aside = folder.join("aside.json");
    fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &file).unwrap();
    refused("it is a link");
    fs::rename(&aside, &file).unwrap();
    match std::os::unix::fs::chown(&file, Some(65_534), None) {
        Ok(()) => refused("belongs to user 65534"),
        Err(error) => println!("SKIPPED: a file of another user, which needs root: {error}"),
    }
}

#[test]
fn a_lock_that_others_could_hold_is_narrowed() {
    let tree = tree();
    tree.write("var/lib/sluice-tune/lock", "");
    let lock = tree.root().join("var/lib/sluice-tune/lock");
    let folder = lock.parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_card_may_round_its_pause_a_little() {
    let tree = tree();
    bend_ethtool(&tree, "[ $1 = -C ] && set -- -C $2 $3 48");
    let changes = [card(NicParameter::RxUsecs, "50")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert_eq!(tree.text("ethtool/eth0/rx-usecs"), "48");
    assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps, []);
}
