//! The door to the host: files below a root folder, and `ethtool`.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Where facts come from and changes go to: `/`, or in tests a folder with trees of its own.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    state_folder: PathBuf,
    #[cfg(any(test, feature = "testing"))]
    changes_left: Option<std::sync::Arc<std::sync::atomic::AtomicUsize>>,
}

/// Where it is kept what was there before, below the root.
const STATE_FOLDER: &str = "/var/lib/sluice-tune";

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
        let mut host = Self {
            root: root.into(),
            state_folder: PathBuf::new(),
            #[cfg(any(test, feature = "testing"))]
            changes_left: None,
        };
        host.state_folder = host.path(STATE_FOLDER);
        host
    }

    /// The same host with another folder for what was there before, whatever the root.
    pub fn with_state_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_folder = folder.into();
        self
    }

    /// Where it is kept what was there before: `/var/lib/sluice-tune` below the root, unless told otherwise.
    pub fn state_folder(&self) -> &Path {
        &self.state_folder
    }

    /// Whether files of the host are this machine's own.
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
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

    /// The text of a file as it stands, at most the first MiB.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` when it is no text.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(self.path(path))?.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes `value` to a file of the kernel, as `echo value > path` does: in one write, without making a file that is not there.
    ///
    /// # Errors
    /// The kernel's, for example `PermissionDenied`, `ReadOnlyFilesystem` or `InvalidInput` for a value it does not take.
    pub fn write(&self, path: impl AsRef<Path>, value: &str) -> io::Result<()> {
        self.may_change()?;
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
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C");
        output_within(&mut command, ETHTOOL_TIME_MAX)
    }

    /// As [`Self::ethtool`], for arguments that change something.
    ///
    /// # Errors
    /// As there.
    pub fn ethtool_set(&self, arguments: &[&str]) -> io::Result<()> {
        self.may_change()?;
        self.ethtool(arguments).map(drop)
    }

    /// Puts a whole file in place of what is at `path`, which lies as it is, not below the root: whoever looks, and whenever the power
    /// fails, finds the old one or the new one.
    ///
    /// # Errors
    /// The kernel's; the file at `path` is as it was.
    pub fn replace(&self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        self.may_change()?;
        let ahead = ahead_of(path);
        // One that a crash left may have another mode.
        let _ = fs::remove_file(&ahead);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&ahead)?;
        let written = file
            .set_permissions(fs::Permissions::from_mode(mode))
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.may_change())
            .and_then(|()| fs::rename(&ahead, path));
        match written {
            Ok(()) => sync_folder(path),
            Err(error) => {
                if self.may_change().is_ok() {
                    let _ = fs::remove_file(&ahead);
                }
                Err(error)
            }
        }
    }

    /// Removes a file, as it lies, and what a crash left of one that was to replace it. One that is not there is removed already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.remove_ahead_of(path)?;
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        self.may_change()?;
        fs::remove_file(path)?;
        sync_folder(path)
    }

    /// Removes what a crash left of a file that was to become the one at `path`, as it lies.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_ahead_of(&self, path: &Path) -> io::Result<()> {
        let ahead = ahead_of(path);
        if !ahead.exists() {
            return Ok(());
        }
        self.may_change()?;
        fs::remove_file(ahead)
    }

    /// Makes a folder of this mode, as it lies, whatever the umask; those above it that are not there are for all to read. One that is
    /// there stays as it is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.may_change()?;
        let missing: Vec<_> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let mode = if folder == path { mode } else { 0o755 };
            fs::DirBuilder::new().mode(mode).create(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Removes a folder, as it lies, if nothing is in it.
    pub fn remove_empty_folder(&self, path: &Path) {
        if self.may_change().is_ok() {
            // Somebody else's file in it is the reason to leave it.
            let _ = fs::remove_dir(path);
        }
    }

    /// This host, which dies after so many more changes: all later ones fail and leave everything as it is, as after a crash.
    #[cfg(any(test, feature = "testing"))]
    pub fn dying_after(mut self, changes: usize) -> Self {
        self.changes_left = Some(std::sync::Arc::new(changes.into()));
        self
    }

    /// Stands ahead of each change of anything.
    #[cfg(any(test, feature = "testing"))]
    fn may_change(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(left) = &self.changes_left else { return Ok(()) };
        let one_less = |left: usize| left.checked_sub(1);
        left.fetch_update(Relaxed, Relaxed, one_less)
            .map(drop)
            .map_err(|_| io::Error::other("the host is dead"))
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unnecessary_wraps, reason = "a host in tests may die")]
    fn may_change(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The file beside `path` that becomes it. It starts with a dot and does not end as `path` does, so that nobody else reads it.
fn ahead_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.sluice-tune"))
}

/// Makes it last which files are in the folder of `path`.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}
/// Runs a program and returns what it printed, the first MiB of it.
///
/// # Errors
/// `TimedOut` when it takes longer than `time_max`, and then it is ended; its own words when its status is not 0.
fn output_within(command: &mut Command, time_max: Duration) -> io::Result<String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pipes = (child.stdout.take(), child.stderr.take());
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let text = |pipe: Option<&mut dyn io::Read>| {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                // What was printed ahead of an error counts.
                let _ = pipe.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (mut stdout, mut stderr) = pipes;
        let printed = text(stdout.as_mut().map(|pipe| pipe as _));
        let words = text(stderr.as_mut().map(|pipe| pipe as _));
        // Whoever asked may have given up.
        let _ = done.send((printed, words));
    });
    let Ok((printed, words)) = ended.recv_timeout(time_max) else {
        let _ = child.kill();
        // One that hangs in a driver ends when the driver lets it.
        std::thread::spawn(move || child.wait());
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the program did not answer within {} s", time_max.as_secs()),
        ));
    };
    match child.wait()?.success() {
        true => Ok(printed),
        false => Err(io::Error::other(words.trim().replace('\n', "; "))),
    }
}

/// A card's driver may hang, and the start of a server must not.
const ETHTOOL_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let mut hanging = Command::new("sleep");
        let error = output_within(hanging.arg("600"), Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_programs_words_are_its_error() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo half; echo no such device >&2; exit 3"]);
        let error = output_within(&mut failing, ETHTOOL_TIME_MAX).unwrap_err();
        assert_eq!(error.to_string(), "no such device");
        let mut printing = Command::new("echo");
        let printed = output_within(printing.arg("here"), ETHTOOL_TIME_MAX).unwrap();
        assert_eq!(printed, "here\n");
    }
}
