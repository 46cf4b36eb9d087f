//! The kernel itself, in network and mount namespaces of one thread, so that the host's own settings stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use sluice_tuning::apply::{ApplyError, apply};
use sluice_tuning::change::{NicParameter, Target};
use sluice_tuning::host::Host;
use sluice_tuning::restore::restore;
use sluice_tuning::testing::Tree;

use crate::support::{card, file, sysctl, until_the_reboot};

/// Settings that each network namespace has its own of.
const OWN: [&str; 2] = ["net.core.somaxconn", "net.ipv4.udp_rmem_min"];

/// One that belongs to the host, so that nobody in a namespace may change it.
const HOSTS: &str = "net.core.rmem_max";

fn text(name: &str) -> String {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Runs `act` on this host as it looks in a network namespace of its own, with the state in a folder that goes afterwards; says so where
/// that cannot be had. What the host itself has is the same afterwards.
fn in_a_namespace(flags: CloneFlags, act: impl FnOnce(&Host) + Send) {
    let settings = || OWN.map(text).into_iter().chain([text(HOSTS)]).collect::<Vec<_>>();
    let before = settings();
    let folder = Tree::of::<&str, &str>(&[]);
    let host = Host::this().with_state_folder(folder.root().join("state"));
    thread::scope(|scope| {
        let within = scope.spawn(|| {
            if let Err(error) = unshare(flags) {
                println!("SKIPPED: a network namespace cannot be made, which needs root: {error}");
                return;
            }
            // Its capability alone is not enough where /proc/sys is read-only, as in a container.
            let own = fs::OpenOptions::new().write(true).open("/proc/sys/net/core/somaxconn");
            if let Err(error) = own {
                println!("SKIPPED: a namespace's own settings are not for writing: {error}");
                return;
            }
            act(&host);
        });
        within.join().expect("what is within holds");
    });
    assert_eq!(settings(), before, "the host's own settings");
}

fn run(words: &str) -> bool {
    let mut words = words.split(' ');
    let command = Command::new(words.next().expect("a program")).args(words).output();
    let ran = command.as_ref().is_ok_and(|output| output.status.success());
    if !ran {
        println!("{command:?}");
    }
    ran
}

/// One more than what is there, so that it is a change whatever that is.
fn more(name: &str) -> String {
    (text(name).parse::<u64>().expect("a number") + 1).to_string()
}

#[test]
fn a_namespaces_own_settings_are_changed_and_put_back() {
    in_a_namespace(CloneFlags::CLONE_NEWNET, |host| {
        let before = OWN.map(text);
        let changes = OWN.map(|name| sysctl(name, &more(name)));
        let applied = apply(host, &changes, &until_the_reboot()).unwrap();
        assert_eq!(applied.steps.len(), 2);
        assert_eq!(OWN.map(text), changes.each_ref().map(|change| change.to.clone()));
        assert_eq!(apply(host, &changes, &until_the_reboot()).unwrap().steps, []);
        assert!(restore(host, false).unwrap().is_complete());
        assert_eq!(OWN.map(text), before);
    });
}

#[test]
fn what_is_the_hosts_is_refused_and_the_rest_undone() {
    in_a_namespace(CloneFlags::CLONE_NEWNET, |host| {
        let before = OWN.map(text);
        let mut changes: Vec<_> = OWN.iter().map(|name| sysctl(name, &more(name))).collect();
        changes.push(sysctl(HOSTS, "16777217"));
        let error = apply(host, &changes, &until_the_reboot()).unwrap_err();
        let ApplyError::Refused { refusal, stuck, .. } = &error else { panic!("{error}") };
        assert_eq!(refusal.target, Some(Target::Sysctl { name: HOSTS.to_owned() }));
        assert!(stuck.is_empty());
        // Older kernels do not show it in a namespace at all.
        let words = error.to_string();
        assert!(
            words.contains("do this on the host") || words.contains("does not have it"),
            "{words}"
        );
        assert_eq!(OWN.map(text), before);
        assert!(restore(host, false).unwrap().items.is_empty());
    });
}

#[test]
fn values_that_the_kernel_does_not_take_are_refused_in_its_words() {
    in_a_namespace(CloneFlags::CLONE_NEWNET, |host| {
        let before = OWN.map(text);
        for (value, words) in [("many", "Invalid argument"), ("-5", "Invalid argument")] {
            let changes = [sysctl(OWN[0], &more(OWN[0])), sysctl(OWN[1], value)];
            let error = apply(host, &changes, &until_the_reboot()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(value), "{error}");
            assert_eq!(OWN.map(text), before);
        }
    });
}

#[test]
fn a_read_only_proc_is_named_as_such() {
    in_a_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS, |host| {
        let are_mounted = run("mount --make-rprivate /")
            && run("mount --bind /proc/sys /proc/sys")
            && run("mount -o remount,bind,ro /proc/sys");
        if !are_mounted {
            println!("SKIPPED: /proc/sys cannot be made read-only here");
            return;
        }
        let error = apply(host, &[sysctl(OWN[0], &more(OWN[0]))], &until_the_reboot());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("Read-only file system") && error.contains("on the host"),
            "{error}"
        );
    });
}

#[test]
fn a_card_and_its_queues_are_changed_and_put_back() {
    in_a_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS, |host| {
        let is_ready = run("mount --make-rprivate /")
            && run("mount -t sysfs sysfs /sys")
            && run("ip link add eth0 numrxqueues 2 numtxqueues 2 type veth peer name eth1")
            && run("ethtool -k eth0");
        if !is_ready {
            println!("SKIPPED: it needs mount, and ip and ethtool installed");
            return;
        }
        let queue = PathBuf::from("/sys/class/net/eth0");
        let read = |name: &str| fs::read_to_string(queue.join(name)).unwrap().trim().to_owned();
        let (length, mask) = (read("tx_queue_len"), read("queues/rx-0/rps_cpus"));
        let offload = NicParameter::Feature("generic-receive-offload".to_owned());
        let was = card(offload.clone(), "").target.read(host).unwrap();
        let other = if was == "on" { "off" } else { "on" };
        let changes = [
            card(offload, other),
            file("/sys/class/net/eth0/tx_queue_len", "2345"),
            file("/sys/class/net/eth0/queues/rx-0/rps_cpus", "1"),
        ];
        assert_eq!(apply(host, &changes, &until_the_reboot()).unwrap().steps.len(), 3);
        assert_eq!(changes[0].target.read(host).unwrap(), other);
        assert_eq!(read("tx_queue_len"), "2345");
        assert_eq!(apply(host, &changes, &until_the_reboot()).unwrap().steps, []);
        // No card of this kind has rings.
        let ring =
            [file("/sys/class/net/eth0/tx_queue_len", "3456"), card(NicParameter::RxRing, "9")];
        apply(host, &ring, &until_the_reboot()).unwrap_err();
        assert_eq!(read("tx_queue_len"), "2345");
        assert!(restore(host, false).unwrap().is_complete());
        assert_eq!((read("tx_queue_len"), read("queues/rx-0/rps_cpus")), (length, mask));
        assert_eq!(changes[0].target.read(host).unwrap(), was);
    });
}
