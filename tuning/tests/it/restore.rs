//! All is put back that is still as it was left; the rest is reported and stays known.

use sluice_tuning::apply::apply;
use sluice_tuning::change::NicParameter;
use sluice_tuning::restore::{Fate, preview, restore};
use sluice_tuning::state::status;
use sluice_tuning::testing::Tree;

use crate::support::{
    STATE, assert_as_it_was, card, for_good, one_of_each, others, sysctl, until_the_reboot,
};

const RMEM: &str = "proc/sys/net/core/rmem_max";

#[test]
fn where_nothing_was_applied_nothing_is_put_back() {
    let tree = Tree::dedicated();
    let before = tree.snapshot();
    assert!(restore(&tree.host(), false).unwrap().items.is_empty());
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn what_somebody_else_changed_stays_until_forced() {
    let tree = Tree::dedicated();
    let before = others(&tree);
    let changes =
        [sysctl("net.core.rmem_max", "16777216"), sysctl("net.core.wmem_max", "16777216")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    tree.write(RMEM, "999\n");
    let restored = restore(&tree.host(), false).unwrap();
    assert!(!restored.is_complete());
    let fates: Vec<_> = restored.items.iter().map(|item| &item.fate).collect();
    assert_eq!(fates, [&Fate::PutBack, &Fate::Changed { found: "999".to_owned() }]);
    assert_eq!(tree.text(RMEM), "999");
    assert_eq!(status(&tree.host()).unwrap().unwrap().values, 1);
    assert!(restore(&tree.host(), true).unwrap().is_complete());
    assert_as_it_was(&tree, &before);
    assert!(!tree.root().join(STATE).exists());
}

#[test]
fn what_is_so_already_is_left_alone() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &[sysctl("net.core.rmem_max", "16777216")], &until_the_reboot()).unwrap();
    tree.write(RMEM, "212992\n");
    let restored = restore(&tree.host(), false).unwrap();
    assert_eq!(restored.items[0].fate, Fate::WasSo);
    assert!(restored.is_complete() && !tree.root().join(STATE).exists());
}

#[test]
fn a_card_that_is_gone_is_reported_and_forgotten() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    tree.remove("ethtool/eth0");
    tree.remove("sys/class/net/eth0");
    tree.remove("proc/irq/71");
    let restored = restore(&tree.host(), false).unwrap();
    let gone = restored.items.iter().filter(|item| item.fate == Fate::Gone).count();
    assert_eq!(gone, 7, "{restored:#?}");
    assert!(restored.is_complete() && !tree.root().join(STATE).exists());
    assert_eq!(tree.text(RMEM), "212992");
}

#[test]
fn a_card_whose_program_is_gone_stays_known() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &[card(NicParameter::RxRing, "4096")], &until_the_reboot()).unwrap();
    tree.remove("usr/sbin/ethtool");
    let restored = restore(&tree.host(), false).unwrap();
    assert!(restored.items[0].to_string().contains("apt install ethtool"), "{restored:?}");
    assert!(!restored.is_complete());
    tree.add_ethtool();
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_eq!(tree.text("ethtool/eth0/rx"), "512");
}

#[test]
fn after_a_reboot_what_it_took_back_is_fine() {
    let tree = Tree::dedicated();
    let before = others(&tree);
    let changes =
        [sysctl("net.core.rmem_max", "16777216"), sysctl("net.core.wmem_max", "16777216")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    // One value is the kernel's own again, the other was set at boot by somebody to the value that was applied.
    tree.write("proc/sys/kernel/random/boot_id", "another\n");
    tree.write(RMEM, "212992\n");
    let restored = restore(&tree.host(), false).unwrap();
    assert!(restored.rebooted && restored.is_complete());
    tree.write(
        "proc/sys/kernel/random/boot_id",
        &before[std::path::Path::new("proc/sys/kernel/random/boot_id")],
    );
    assert_as_it_was(&tree, &before);
}

#[test]
fn an_apply_after_a_reboot_knows_what_was_there_first() {
    let tree = Tree::dedicated();
    let changes = [sysctl("net.core.rmem_max", "16777216")];
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    tree.write("proc/sys/kernel/random/boot_id", "another\n");
    tree.write(RMEM, "425984\n");
    apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
    assert!(!status(&tree.host()).unwrap().unwrap().rebooted);
    assert!(restore(&tree.host(), false).unwrap().is_complete());
    assert_eq!(tree.text(RMEM), "212992");
}

#[test]
fn a_preview_tells_each_fate_and_touches_nothing() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &for_good()).unwrap();
    tree.write(RMEM, "999\n");
    let before = tree.snapshot();
    let told = preview(&tree.host(), false).unwrap();
    assert_eq!(tree.snapshot(), before);
    assert_eq!(told, restore(&tree.host(), false).unwrap());
}

#[test]
fn what_the_kernel_refuses_to_take_back_stays_known() {
    let tree = Tree::dedicated();
    apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
    // Reads as the kernel's own number, which is neither what was there nor what was set; nobody can write it.
    tree.refuse_writes(RMEM);
    let restored = restore(&tree.host(), true).unwrap();
    let refused = restored.items.iter().filter(|item| matches!(item.fate, Fate::Refused { .. }));
    assert_eq!(refused.count(), 1);
    assert_eq!(status(&tree.host()).unwrap().unwrap().values, 1);
    assert_eq!(tree.text("ethtool/eth0/rx"), "512");
}

#[test]
fn an_interrupt_of_an_earlier_boot_is_gone() {
    for apply_again in [false, true] {
        let tree = Tree::dedicated();
        apply(&tree.host(), &one_of_each(), &until_the_reboot()).unwrap();
        tree.write("proc/sys/kernel/random/boot_id", "another\n");
        if apply_again {
            let changes = [sysctl("net.core.wmem_max", "16777216")];
            apply(&tree.host(), &changes, &until_the_reboot()).unwrap();
        }
        assert!(restore(&tree.host(), true).unwrap().is_complete());
        assert_eq!(tree.text("proc/irq/71/smp_affinity_list"), "8,24");
        assert_eq!(tree.text(RMEM), "212992");
    }
}
