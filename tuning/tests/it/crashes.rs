//! Whatever the point at which a run is cut off, all can be put back.

use sluice_tuning::apply::{ApplyError, apply};
use sluice_tuning::change::{Change, NicParameter};
use sluice_tuning::persist::SYSCTL_FILE;
use sluice_tuning::restore::restore;
use sluice_tuning::testing::Tree;

use crate::support::{STATE, assert_as_it_was, card, file, for_good, limit, others, sysctl};

/// No more than [`plan`] needs, since there are many of them.
fn tree() -> Tree {
    let tree = Tree::of(&[
        ("proc/sys/kernel/random/boot_id", "af7ff74e-3ad3-46b0-bff3-b74c72de7a3a\n"),
        ("proc/sys/net/core/rmem_max", "212992\n"),
        ("proc/sys/net/core/wmem_max", "212992\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
        ("ethtool/eth0/rx", "512\n"),
        ("ethtool/eth0/rx-max", "4096\n"),
    ]);
    tree.add_ethtool();
    tree
}

fn plan() -> [Change; 5] {
    [
        sysctl("net.core.rmem_max", "16777216"),
        sysctl("net.core.wmem_max", "16777216"),
        card(NicParameter::RxRing, "4096"),
        file("/sys/class/net/eth0/queues/rx-0/rps_cpus", "2"),
        limit("LimitNOFILE", "65536"),
    ]
}

/// Applies the plan on a host that dies after 0, 1, 2… changes of anything until it lives through, then restores.
fn cut_off_everywhere(prepare: impl Fn(&Tree)) {
    for alive in 0.. {
        let tree = tree();
        let before = others(&tree);
        prepare(&tree);
        let result = apply(&tree.host().dying_after(alive), &plan(), &for_good());
        let restored = restore(&tree.host(), false).expect("it can be put back");
        assert!(restored.is_complete(), "cut off after {alive}: {restored:#?}");
        assert_as_it_was(&tree, &before);
        assert!(!tree.root().join(STATE).exists());
        assert!(!tree.root().join("etc").exists(), "cut off after {alive}");
        if result.is_ok() {
            assert!(alive > 10, "it died at many points before");
            return;
        }
    }
}

#[test]
fn a_first_run_that_is_cut_off_is_put_back() {
    cut_off_everywhere(|_| ());
}

#[test]
fn a_later_run_that_is_cut_off_is_put_back() {
    let first = [
        sysctl("net.core.rmem_max", "300000"),
        sysctl("net.core.wmem_max", "300000"),
        card(NicParameter::RxRing, "1024"),
        limit("LimitNOFILE", "4096"),
    ];
    cut_off_everywhere(|tree| {
        apply(&tree.host(), &first, &for_good()).unwrap();
    });
}

#[test]
fn an_undoing_that_is_cut_off_is_put_back() {
    let nonsense = [&plan()[..], &[sysctl("net.core.nonsense", "1")]].concat();
    for alive in 0.. {
        let tree = tree();
        let before = others(&tree);
        let first = [sysctl("net.core.rmem_max", "300000"), limit("LimitNOFILE", "4096")];
        apply(&tree.host(), &first, &for_good()).unwrap();
        let applied = tree.snapshot();
        let host = tree.host().dying_after(alive);
        let Err(ApplyError::Refused { refusal, stuck, .. }) = apply(&host, &nonsense, &for_good())
        else {
            panic!("it cannot be done")
        };
        let is_undone = refusal.place == "net.core.nonsense" && stuck.is_empty();
        if is_undone {
            assert_eq!(tree.snapshot(), applied);
        }
        assert!(restore(&tree.host(), false).unwrap().is_complete(), "cut off after {alive}");
        assert_as_it_was(&tree, &before);
        if is_undone {
            return;
        }
    }
}

#[test]
fn a_run_after_one_that_was_cut_off_finishes_it() {
    for alive in 0.. {
        let tree = tree();
        let before = others(&tree);
        let cut_off = apply(&tree.host().dying_after(alive), &plan(), &for_good());
        apply(&tree.host(), &plan(), &for_good()).unwrap();
        assert_eq!(tree.text("proc/sys/net/core/rmem_max"), "16777216");
        assert_eq!(apply(&tree.host(), &plan(), &for_good()).unwrap().steps, []);
        assert!(restore(&tree.host(), false).unwrap().is_complete(), "cut off after {alive}");
        assert_as_it_was(&tree, &before);
        if cut_off.is_ok() {
            return;
        }
    }
}

#[test]
fn what_a_run_that_was_cut_off_had_not_reached_is_not_persisted() {
    let tree = tree();
    let before = others(&tree);
    // It lives until what was there is saved.
    let host = tree.host().dying_after(3);
    apply(&host, &plan()[..1], &for_good()).unwrap_err();
    assert!(tree.text(STATE).contains("net.core.rmem_max"));
    apply(&tree.host(), &plan()[1..2], &for_good()).unwrap();
    let file = tree.text(SYSCTL_FILE);
    assert!(file.contains("wmem_max") && !file.contains("rmem_max"), "{file}");
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

#[test]
fn a_restore_that_is_cut_off_is_finished_by_the_next() {
    for alive in 0.. {
        let tree = tree();
        let before = others(&tree);
        apply(&tree.host(), &plan(), &for_good()).unwrap();
        let cut_off = restore(&tree.host().dying_after(alive), false);
        assert!(restore(&tree.host(), false).unwrap().is_complete(), "cut off after {alive}");
        assert_as_it_was(&tree, &before);
        assert!(!tree.root().join("etc").exists(), "cut off after {alive}");
        assert!(!tree.root().join(STATE).exists());
        if cut_off.is_ok_and(|restored| restored.is_complete()) {
            return;
        }
    }
}
