//! Changes to ask for, and what is left aside when trees are compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sluice_tuning::apply::Options;
use sluice_tuning::change::{Change, NicParameter, Target};
use sluice_tuning::persist::Persist;
use sluice_tuning::testing::Tree;

/// Where the tree keeps what was there before.
pub(crate) const STATE: &str = "var/lib/sluice-tune/state.json";

pub(crate) fn sysctl(name: &str, to: &str) -> Change {
    Change { target: Target::Sysctl { name: name.to_owned() }, from: None, to: to.to_owned() }
}

pub(crate) fn file(path: &str, to: &str) -> Change {
    Change { target: Target::File { path: path.to_owned() }, from: None, to: to.to_owned() }
}

pub(crate) fn card(parameter: NicParameter, to: &str) -> Change {
    let target = Target::Nic { interface: "eth0".to_owned(), parameter };
    Change { target, from: None, to: to.to_owned() }
}

pub(crate) fn limit(directive: &str, to: &str) -> Change {
    let target = Target::Limit { directive: directive.to_owned() };
    Change { target, from: None, to: to.to_owned() }
}

/// One of each kind, for `Tree::dedicated`; all of them change something.
pub(crate) fn one_of_each() -> Vec<Change> {
    let feature = NicParameter::Feature("rx-udp-gro-forwarding".to_owned());
    vec![
        sysctl("net.core.rmem_max", "16777216"),
        sysctl("net.ipv4.udp_mem", "400000 800000 1600000"),
        card(NicParameter::CombinedChannels, "16"),
        card(NicParameter::RxRing, "4096"),
        card(NicParameter::AdaptiveRx, "on"),
        card(NicParameter::RxUsecs, "50"),
        card(feature, "on"),
        file("/proc/irq/71/smp_affinity_list", "8,24"),
        file("/sys/class/net/eth0/queues/rx-0/rps_cpus", "ff00"),
        file("/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
        limit("LimitNOFILE", "65536"),
        limit("LimitMEMLOCK", "67108864"),
    ]
}

pub(crate) fn until_the_reboot() -> Options {
    Options { persist: None, now_unix_s: 1_700_000_000 }
}

pub(crate) fn for_good() -> Options {
    let arguments = vec!["--load".to_owned(), "1x1000 screen".to_owned()];
    Options {
        persist: Some(Persist { arguments, ..Persist::default() }),
        now_unix_s: 1_700_000_000,
    }
}

/// All files but those that this program keeps for itself.
pub(crate) fn others(tree: &Tree) -> BTreeMap<PathBuf, String> {
    let mut files = tree.snapshot();
    files.retain(|path, _| !path.starts_with("var/lib/sluice-tune"));
    files
}

/// Holds the tree's files, but those that this program keeps for itself, against what they were.
#[track_caller]
pub(crate) fn assert_as_it_was(tree: &Tree, before: &BTreeMap<PathBuf, String>) {
    let now = others(tree);
    let paths = before.keys().chain(now.keys());
    let differs = |path: &&PathBuf| before.get(*path) != now.get(*path);
    let differences: Vec<_> =
        paths.filter(differs).map(|path| (path, before.get(path), now.get(path))).collect();
    assert!(differences.is_empty(), "file, before, now: {differences:#?}");
}
