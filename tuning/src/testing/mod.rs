//! Hosts made of files, for tests: trees of /proc and /sys in a folder of their own. Feature `testing`.

mod hosts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::Host;

/// A host's files below a folder for temporary files; the folder goes when this is dropped. Paths are those of the host,
/// with or without the leading `/`. All methods panic when the folder for temporary files cannot be used.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// A host that has these files and nothing else.
    pub fn of<P: AsRef<str>, T: AsRef<str>>(files: &[(P, T)]) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sluice-tuning-{}-{nth}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&root); // of an earlier process with this number, which was killed
        fs::create_dir_all(&root).expect("the folder for temporary files is writable");
        let tree = Self { root };
        for (path, text) in files {
            tree.write(path.as_ref(), text.as_ref());
        }
        tree
    }

    /// The host that these files make up.
    pub fn host(&self) -> Host {
        Host::below(&self.root)
    }

    /// Where the files are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file and the folders above it. Links on the way are followed.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("the tree is writable");
        fs::write(path, text).expect("the tree is writable");
    }

    /// Makes a link to `target`, which is taken as the kernel takes it: from the folder that the link is in.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("the tree is writable");
        symlink(target, path).expect("the tree is writable");
    }

    /// Removes a file, a link, or a folder with all in it.
    pub fn remove(&self, path: &str) {
        let path = self.at(path);
        let is_folder = fs::symlink_metadata(&path).expect("it is there").is_dir();
        let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
        remove(path).expect("the tree is writable");
    }

    /// Gives a file the mode 0444, which says that it is not for writing; root may write it all the same.
    pub fn set_read_only(&self, path: &str) {
        let mode = fs::Permissions::from_mode(0o444);
        fs::set_permissions(self.at(path), mode).expect("it is there");
    }

    /// Puts a file in the place of `path` that nobody, not even root, may write; it reads 65536.
    pub fn refuse_writes(&self, path: &str) {
        if fs::symlink_metadata(self.at(path)).is_ok() {
            self.remove(path);
        }
        self.link(path, "/proc/sys/kernel/ngroups_max");
    }

    /// Puts an `ethtool` into the tree that gets and sets what lies in `ethtool/INTERFACE` of the tree: files `rx` and `rx-max`,
    /// `tx` and `tx-max`, `combined` and `combined-max`, `adaptive-rx`, `rx-usecs`, and `features/NAME` with `on`, `off`,
    /// `on [fixed]` or `off [fixed]`. What has no file is not supported. It speaks as version 6.1 does.
    pub fn add_ethtool(&self) {
        // A link, since a program that has only just been written cannot be started while another thread forks.
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/ethtool.sh");
        self.link("usr/sbin/ethtool", script);
    }

    /// The trimmed text of a file, which must be there.
    pub fn text(&self, path: &str) -> String {
        let text = fs::read_to_string(self.at(path));
        text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    /// All files by path and text; of a link, `-> ` and where it leads.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is readable") {
                let path = entry.expect("it is readable").path();
                let kind = fs::symlink_metadata(&path).expect("it is readable").file_type();
                let text = if kind.is_dir() {
                    folders.push(path);
                    continue;
                } else if kind.is_symlink() {
                    format!("-> {}", fs::read_link(&path).expect("it is readable").display())
                } else {
                    fs::read_to_string(&path).expect("it is text")
                };
                let below = path.strip_prefix(&self.root).expect("below the root").to_owned();
                files.insert(below, text);
            }
        }
        files
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_seen_changed_and_removed() {
        let tree = Tree::of(&[("proc/sys/net/core/rmem_max", "212992\n")]);
        tree.link("sys/class/net/eth0", "../../devices/eth0");
        let before = tree.snapshot();
        assert_eq!(before.len(), 2);
        assert_eq!(before[Path::new("sys/class/net/eth0")], "-> ../../devices/eth0");
        tree.host().write("/proc/sys/net/core/rmem_max", "1").unwrap();
        assert_eq!(tree.text("proc/sys/net/core/rmem_max"), "1");
        assert_ne!(tree.snapshot(), before);
        let root = tree.root().to_owned();
        drop(tree);
        assert!(!root.exists());
    }

    #[test]
    fn a_refusing_file_is_read_and_not_written() {
        let tree = Tree::of(&[("proc/sys/net/core/rmem_max", "212992\n")]);
        tree.refuse_writes("proc/sys/net/core/rmem_max");
        assert_eq!(tree.text("proc/sys/net/core/rmem_max"), "65536");
        assert!(tree.host().write("/proc/sys/net/core/rmem_max", "1").is_err());
    }

    #[test]
    fn the_trees_ethtool_reads_back_what_it_was_told() {
        let tree = Tree::dedicated();
        let host = tree.host();
        let before = tree.snapshot();
        for (get, line, set, then) in [
            ("-g", "RX:\t\t512", &["-G", "eth0", "rx", "4096"][..], "RX:\t\t4096"),
            ("-l", "Combined:\t8", &["-L", "eth0", "combined", "4"], "Combined:\t4"),
            (
                "-c",
                "Adaptive RX: off  TX: n/a",
                &["-C", "eth0", "adaptive-rx", "on", "rx-usecs", "20"],
                "rx-usecs: 20",
            ),
            (
                "-k",
                "rx-udp-gro-forwarding: off",
                &["-K", "eth0", "rx-udp-gro-forwarding", "on"],
                "rx-udp-gro-forwarding: on",
            ),
        ] {
            let current = |text: String| text.split("Current").last().unwrap().to_owned();
            assert!(current(host.ethtool(&[get, "eth0"]).unwrap()).contains(line), "{get} {line}");
            host.ethtool(set).unwrap();
            assert!(current(host.ethtool(&[get, "eth0"]).unwrap()).contains(then), "{get} {then}");
        }
        assert_ne!(tree.snapshot(), before);
    }

    #[test]
    fn the_trees_ethtool_refuses_what_a_card_refuses() {
        let host = Tree::dedicated();
        let before = host.snapshot();
        for (arguments, words) in [
            (&["-G", "eth0", "rx", "8192"][..], "requested ring size exceeds maximum"),
            (&["-L", "eth0", "combined", "64"], "requested channel count exceeds maximum"),
            (&["-C", "eth0", "rx-usecs", "many"], "many"),
            (&["-K", "eth0", "rx-all", "on"], "Could not change any device features"),
            (&["-K", "eth0", "nonsense", "on"], "bit name not found"),
            (&["-g", "eth7"], "No such device"),
        ] {
            let error = host.host().ethtool(arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
        assert_eq!(host.snapshot(), before);
        let error = Tree::stock_vm().host().ethtool(&["-C", "eth0", "adaptive-rx", "on"]);
        assert!(error.unwrap_err().to_string().contains("Operation not supported"));
    }
}
