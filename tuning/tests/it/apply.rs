//! Changes are made in order, once, and only where something is to be changed.

use sluice_tuning::apply::{ApplyError, Step, apply, preview};
use sluice_tuning::change::{NicParameter, Target};
use sluice_tuning::restore::restore;
use sluice_tuning::state::status;
use sluice_tuning::testing::Tree;

use crate::support::{
    STATE, assert_as_it_was, card, file, limit, one_of_each, others, sysctl, until_the_reboot,
};

#[test]
fn every_kind_of_change_is_made_and_put_back() {
    let tree = Tree::dedicated();
    let before = others(&tree);
    let applied = apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    assert_eq!(applied.steps.len(), 10);
    for (path, text) in [
        ("proc/sys/net/core/rmem_max", "16777216"),
        ("proc/sys/net/ipv4/udp_mem", "400000 800000 1600000"),
        ("ethtool/eth0/combined", "16"),
        ("ethtool/eth0/rx", "4096"),
        ("ethtool/eth0/adaptive-rx", "on"),
        ("ethtool/eth0/rx-usecs", "50"),
        ("ethtool/eth0/features/rx-udp-gro-forwarding", "on"),
        ("proc/irq/71/smp_affinity_list", "8,24"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "ff00"),
        ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
    ] {
        assert_eq!(tree.text(path), text, "{path}");
    }
    assert_eq!(others(&tree).len(), before.len(), "no file came or went");
    let restored = restore(&tree.host(), false).unwrap();
    assert!(restored.is_complete());
    assert_eq!(restored.items.len(), 10);
    // The kernel's own spelling of a value with tabs is lost on a tree of files.
    assert_eq!(tree.text("proc/sys/net/ipv4/udp_mem"), "187638 250187 375276");
    tree.write("proc/sys/net/ipv4/udp_mem", "187638\t250187\t375276\n");
    assert_as_it_was(&tree, &before);
    assert!(!tree.root().join(STATE).exists());
}

#[test]
fn a_second_apply_changes_nothing() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    let once = tree.snapshot();
    let again = apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    assert_eq!(again.steps, []);
    assert_eq!(tree.snapshot(), once);
}

#[test]
fn what_was_there_ahead_of_the_first_apply_stays_known() {
    let tree = Tree::dedicated();
    let before = others(&tree);
    for value in ["16777216", "33554432", "67108864"] {
        let changes = [sysctl("net.core.rmem_max", value)];
        assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps.len(), 1);
    }
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
}

#[test]
fn values_that_are_written_in_another_way_are_the_same() {
    let tree = Tree::dedicated();
    tree.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,000000ff\n");
    tree.write("proc/irq/71/smp_affinity_list", "0-3,5\n");
    tree.write("proc/sys/net/ipv4/udp_mem", "1\t2\t3\n");
    let changes = [
        file("/sys/class/net/eth0/queues/rx-0/rps_cpus", "ff"),
        file("/proc/irq/71/smp_affinity_list", "0,1,2,3,5"),
        sysctl("net.ipv4.udp_mem", "1 2 3"),
    ];
    assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps, []);
    assert!(!tree.root().join(STATE).exists());
}

#[test]
fn a_ring_that_is_larger_already_stays() {
    let tree = Tree::dedicated();
    let changes = [card(NicParameter::RxRing, "500")];
    assert_eq!(apply(&tree.host(), &changes, &until_the_reboot()).unwrap().steps, []);
    assert_eq!(tree.text("ethtool/eth0/rx"), "512");
}

#[test]
fn of_two_words_on_one_target_the_last_counts() {
    let tree = Tree::dedicated();
    let changes = [sysctl("net.core.rmem_max", "300000"), sysctl("net.core.rmem_max", "400000")];
    let applied = apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert_eq!(applied.steps.len(), 1);
    assert_eq!(tree.text("proc/sys/net/core/rmem_max"), "400000");
}

#[test]
fn a_dot_in_the_name_of_an_interface_is_a_slash() {
    let path = "proc/sys/net/ipv4/conf/eth0.100/rp_filter";
    let tree = Tree::of(&[(path, "1\n")]);
    let changes = [sysctl("net.ipv4.conf.eth0/100.rp_filter", "2")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert_eq!(tree.text(path), "2");
}

#[test]
fn limits_are_left_to_those_who_ask_for_files() {
    let tree = Tree::dedicated();
    let changes = [limit("LimitNOFILE", "65536")];
    let applied = apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert_eq!((applied.steps.len(), applied.needs_persist.as_slice()), (0, &changes[..]));
    assert_eq!(status(&tree.host()).unwrap(), None);
}

#[test]
fn a_preview_tells_the_steps_and_touches_nothing() {
    let tree = Tree::dedicated();
    let before = tree.snapshot();
    let told = preview(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.root().join("var").exists());
    let done = apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    assert_eq!(told, done);
    let ring = told.steps.iter().map(Step::to_string).find(|step| step.contains("-G")).unwrap();
    assert_eq!(ring, "ethtool -G eth0 rx 4096   # was 512; the link may be down for a moment");
}

#[test]
fn status_tells_what_is_applied_and_since_when() {
    let tree = Tree::dedicated();
    assert_eq!(status(&tree.host()).unwrap(), None);
    apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    let now = status(&tree.host()).unwrap().unwrap();
    assert_eq!((now.values, now.since_unix_s, now.rebooted), (10, 1_700_000_000, false));
    tree.write("proc/sys/kernel/random/boot_id", "another\n");
    assert!(status(&tree.host()).unwrap().unwrap().rebooted);
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &[sysctl("net.core.rmem_max", "300000")], &until_the_reboot()).unwrap();
    let before = tree.snapshot();
    let lock = std::fs::File::open(tree.root().join("var/lib/sluice-tune/lock")).unwrap();
    lock.lock().unwrap();
    let error = apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap_err();
    assert!(matches!(error, ApplyError::Busy(_)), "{error}");
    let error = restore(&tree.host(), false).unwrap_err();
    assert!(error.to_string().contains("another sluice-tune is at work"), "{error}");
    assert_eq!(tree.snapshot(), before);
    lock.unlock().unwrap();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
}

#[test]
fn a_target_outside_of_the_kernels_files_is_refused() {
    let tree = Tree::of(&[("etc/passwd", "root\n"), ("proc/sys/a", "1\n")]);
    let before = others(&tree);
    for change in [
        file("/etc/passwd", "x"),
        file("/proc/sys/../../etc/passwd", "x"),
        sysctl("//./././/./etc.passwd", "x"),
        sysctl("..a", "2"),
        card(NicParameter::Feature("--version".to_owned()), "on"),
    ] {
        apply(&tree.host(), std::slice::from_ref(&change), &until_the_reboot()).unwrap_err();
        assert_as_it_was(&tree, &before);
    }
    let target = Target::Nic { interface: "-x".to_owned(), parameter: NicParameter::RxRing };
    assert!(target.check().is_err());
}
