//! The door to the host: files below a root folder, and `ethtool`.

use std::fs;
use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where facts come from and changes go to: `/`, or in tests a folder with trees of its own.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

/// Where distributions put `ethtool`.
const ETHTOOL: &[&str] = &["usr/sbin/ethtool", "sbin/ethtool", "usr/bin/ethtool"];

/// More than is in any file that is read as a whole.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// More than is in the longest that is read by lines: /proc/interrupts of a thousand CPUs and as many interrupts.
const LINES_BYTES_MAX: u64 = 1 << 24;

impl Host {
    /// This host.
    pub fn this() -> Self {
        Self::below("/")
    }

    /// The host whose files lie below `root`; its `ethtool` is the one that lies there, too.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a path of the host, such as `/proc/sys/net/core/rmem_max`, really lies.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The trimmed text of a file, its first 1 MiB at most; `None` when it is empty or cannot be read, as in a container.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(path)).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The lines of a file that may be long, one at a time, as far as they can be read and 16 MiB at most.
    pub fn lines(&self, path: impl AsRef<Path>) -> impl Iterator<Item = String> {
        let file = fs::File::open(self.path(path)).ok();
        let lines = file.map(|file| io::BufReader::new(file.take(LINES_BYTES_MAX)).lines());
        lines.into_iter().flatten().map_while(Result::ok)
    }

    /// A file that holds one number.
    pub fn number<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; none when it cannot be read.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The last part of where a link leads to, which is how sysfs names drivers and devices.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Writes `value` to a file of the kernel, as `echo value > path` does: in one write, without making a file that is not there.
    ///
    /// # Errors
    /// The kernel's, for example `PermissionDenied`, `ReadOnlyFilesystem` or `InvalidInput` for a value it does not take.
    pub fn write(&self, path: impl AsRef<Path>, value: &str) -> io::Result<()> {
        use io::Write;
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(self.path(path))?;
        file.write_all(format!("{value}\n").as_bytes())
    }

    /// Runs `ethtool` and returns what it printed.
    ///
    /// # Errors
    /// `NotFound` where it is not installed; else its own words when it ends with a status but 0.
    pub fn ethtool(&self, arguments: &[&str]) -> io::Result<String> {
        let candidates = ETHTOOL.iter().map(|path| self.path(path));
        let Some(program) = candidates.into_iter().find(|path| path.exists()) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "ethtool is not installed"));
        };
        let output = Command::new(program).args(arguments).env("LC_ALL", "C").output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(words.trim().replace('\n', "; ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
