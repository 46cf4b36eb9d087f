//! What was there before: saved ahead of each change, read by `restore`.
//!
//! A run that is cut off at any point leaves this file in such a state that each value and file on the host is either what was there
//! `before`, what should come `after`, or what the cut-off run `replaced`; so all of them can be put back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Target;
use crate::host::Host;
use crate::refusal::Refusal;
use crate::trust;

/// The form of the file; another one is of another version of this program.
const VERSION: u32 = 1;

/// All that was changed and not put back.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// Which boot it was last written in (`/proc/sys/kernel/random/boot_id`).
    pub(crate) boot_id: Option<String>,
    /// When the first of these changes was made, seconds since 1970.
    pub(crate) since_unix_s: u64,
    /// In the order in which they were made.
    pub(crate) entries: Vec<Entry>,
    /// Likewise; after all entries.
    pub(crate) files: Vec<SavedFile>,
    /// What the drop-in of the service says, by directive.
    pub(crate) limits: BTreeMap<String, String>,
}

/// A value that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) target: Target,
    /// Ahead of the first change.
    pub(crate) before: String,
    pub(crate) after: String,
    /// What was there ahead of `after`, while the run that sets it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced: Option<String>,
}

/// A file that was written or replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedFile {
    /// On the host, from `/`.
    pub(crate) path: String,
    /// `None` when there was none.
    pub(crate) before: Option<Content>,
    /// The text that was written.
    pub(crate) after: String,
    /// As with [`Entry::replaced`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced: Option<String>,
    /// Folders that were made for it, the deepest last.
    pub(crate) folders_made: Vec<String>,
}

/// A file as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    pub(crate) text: String,
    pub(crate) mode: u32,
}

/// What is applied, for people and for the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Summary {
    /// Values that were changed.
    pub values: usize,
    /// Files that were written, from `/`.
    pub files: Vec<String>,
    /// When the first of them was changed, seconds since 1970.
    pub since_unix_s: u64,
    /// Whether the host was started anew after the last of them, which takes all back that is in no file.
    pub rebooted: bool,
}

/// The state file cannot be used. Nothing was changed.
#[derive(Debug)]
pub enum StateError {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It is not what this program writes: garbage, cut off, or edited by hand.
    Broken(PathBuf, String),
    /// It is of another version of this program.
    Foreign(PathBuf, u64),
}

/// How many values and files are changed; `None` when nothing is.
///
/// # Errors
/// The state file is there and cannot be used.
pub fn status(host: &Host) -> Result<Option<Summary>, StateError> {
    let Some(state) = State::read(host)? else { return Ok(None) };
    Ok(Some(Summary {
        values: state.entries.len(),
        files: state.files.iter().map(|file| file.path.clone()).collect(),
        since_unix_s: state.since_unix_s,
        rebooted: state.is_of_another_boot(host),
    }))
}

impl State {
    /// One in which nothing is changed.
    pub(crate) fn empty(host: &Host, now_unix_s: u64) -> Self {
        let boot_id = boot_id(host);
        Self { version: VERSION, boot_id, since_unix_s: now_unix_s, ..Self::default() }
    }

    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn read(host: &Host) -> Result<Option<Self>, StateError> {
        let path = path(host);
        let text = match trusted_text(host, &path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(StateError::Broken(path, "it is no text".to_owned()));
            }
            // Of the rules of trust.
            Err(error) if error.raw_os_error().is_none() => {
                return Err(StateError::Broken(path, error.to_string()));
            }
            Err(error) => return Err(StateError::Unreadable(path, error)),
        };
        let broken = |why: String| StateError::Broken(path.clone(), why);
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        match json.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(StateError::Foreign(path, version)),
            None => return Err(broken("it has no version".to_owned())),
        }
        let state: Self =
            serde_json::from_value(json).map_err(|error| broken(error.to_string()))?;
        state.check().map_err(broken)?;
        Ok(Some(state))
    }

    /// Nothing that this program wrote leads out of the places it writes to.
    fn check(&self) -> Result<(), String> {
        for entry in &self.entries {
            entry.target.check().map_err(|error| format!("{}: {error}", entry.target))?;
            let Entry { before, after, replaced, .. } = entry;
            if [Some(before), Some(after), replaced.as_ref()].into_iter().flatten().any(is_odd) {
                return Err(format!("{}: no value has more than one line", entry.target));
            }
        }
        for (directive, value) in &self.limits {
            check_limit(directive, value)?;
        }
        let known = |path: &str| crate::persist::PATHS.contains(&path);
        match self.files.iter().find(|file| !known(&file.path)) {
            Some(file) => Err(format!("{} is no file that is ever written", file.path)),
            None => Ok(()),
        }
    }

    /// Makes it last.
    pub(crate) fn save(&self, host: &Host) -> Result<(), Refusal> {
        let path = path(host);
        let refused = |error: &io::Error| Refusal::of_file(path.display().to_string(), error);
        let text = serde_json::to_string_pretty(self).map_err(|error| refused(&error.into()))?;
        host.make_folder(host.state_folder(), 0o700).map_err(|error| refused(&error))?;
        // It holds what not everybody may read: files of others.
        host.replace(&path, &format!("{text}\n"), 0o600).map_err(|error| refused(&error))
    }

    /// Forgets it: all is put back.
    pub(crate) fn remove(host: &Host) -> Result<(), Refusal> {
        let path = path(host);
        host.remove(&path).map_err(|error| Refusal::of_file(path.display().to_string(), &error))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.files.is_empty()
    }

    /// Whether the host was started anew since it was saved.
    pub(crate) fn is_of_another_boot(&self, host: &Host) -> bool {
        let now = boot_id(host);
        now.is_some() && self.boot_id.is_some() && now != self.boot_id
    }

    pub(crate) fn entry(&self, target: &Target) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.target == *target)
    }

    /// Notes that `target`, which was `first` when the run began, is about to change from `now` to `after`. What was there ahead of
    /// the first run stays.
    pub(crate) fn note(&mut self, target: &Target, first: &str, now: &str, after: &str) {
        let (before, now, after) = (first.to_owned(), now.to_owned(), after.to_owned());
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.target == *target) {
            entry.after = after;
            entry.replaced = Some(now);
            return;
        }
        let target = target.clone();
        self.entries.push(Entry { target, before, after, replaced: Some(now) });
    }

    /// Likewise, of a file. One that this program wrote and nothing is known of any more counts as none.
    pub(crate) fn note_file(
        &mut self,
        path: &str,
        now: Option<&Content>,
        after: &str,
        folders_made: Vec<String>,
    ) {
        let replaced = now.map(|now| now.text.clone());
        let after = after.to_owned();
        if let Some(file) = self.files.iter_mut().find(|file| file.path == path) {
            file.after = after;
            file.replaced = replaced;
            file.folders_made.extend(folders_made);
            return;
        }
        let before = now.filter(|now| !crate::persist::is_ours(&now.text)).cloned();
        let path = path.to_owned();
        self.files.push(SavedFile { path, before, after, replaced, folders_made });
    }

    /// Forgets what a run that was cut off was about to change, and did not, and interrupts of an earlier boot: their numbers may be those
    /// of other devices by now.
    pub(crate) fn forget_unreached(&mut self, host: &Host) {
        if self.is_of_another_boot(host) {
            self.entries.retain(|entry| !entry.target.is_irq());
        }
        let is_as_before = |entry: &Entry| {
            entry.target.read(host).is_ok_and(|now| entry.target.same(&now, &entry.before))
        };
        self.entries.retain(|entry| entry.replaced.is_none() || !is_as_before(entry));
    }

    /// The run is over: each value is what should come after.
    pub(crate) fn settle(&mut self, host: &Host) {
        self.boot_id = boot_id(host);
        self.entries.iter_mut().for_each(|entry| entry.replaced = None);
        self.files.iter_mut().for_each(|file| file.replaced = None);
    }
}

/// The text of the state file, which nobody else can have written.
fn trusted_text(host: &Host, path: &Path) -> io::Result<String> {
    trust::of_folder(host.state_folder())?;
    trust::of(&std::fs::symlink_metadata(path)?)?;
    let mut file = File::open(path)?;
    // It may be another one by now.
    trust::of(&file.metadata()?)?;
    // Not through `Host::read`, which ends at a MiB: the files saved in it may be longer.
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[expect(clippy::ptr_arg, reason = "what the iterator has")]
fn is_odd(value: &String) -> bool {
    value.contains(char::is_control)
}

/// Whether it is a limit that goes to the drop-in, which systemd reads with the powers of root.
pub(crate) fn check_limit(directive: &str, value: &str) -> Result<(), String> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if ["LimitNOFILE", "LimitMEMLOCK"].contains(&directive) && (is_number || value == "infinity") {
        return Ok(());
    }
    Err(format!(
        "{directive:?} with {value:?} is no limit that is ever set: LimitNOFILE or LimitMEMLOCK with a number"
    ))
}

/// The state file.
pub(crate) fn path(host: &Host) -> PathBuf {
    host.state_folder().join("state.json")
}

fn boot_id(host: &Host) -> Option<String> {
    host.text("/proc/sys/kernel/random/boot_id")
}

/// Held by the only run that changes anything; given back when it is dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// A program that another thread starts at this moment has the file open until it runs, so closing it is not enough.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// What is said of a lock that another run holds.
pub(crate) fn busy(lock: &Path) -> String {
    format!(
        "another sluice-tune is at work, or a server that tunes ({} is locked). Nothing was changed; try again when it is done",
        lock.display()
    )
}

/// Why there is no lock.
pub(crate) enum NoLock {
    /// Another run has it, by this file.
    Busy(PathBuf),
    /// The file cannot be made.
    Refused(Refusal),
}

impl Lock {
    pub(crate) fn take(host: &Host) -> Result<Self, NoLock> {
        let path = host.state_folder().join("lock");
        let refused = |error| NoLock::Refused(Refusal::of_file(path.display().to_string(), &error));
        let folder = host.state_folder();
        let refused_folder = |error: io::Error| {
            NoLock::Refused(Refusal::of_file(folder.display().to_string(), &error))
        };
        trust::of_folder(folder).map_err(refused_folder)?;
        host.make_folder(folder, 0o700).map_err(refused)?;
        // Who can open it can hold it.
        let options =
            File::options().write(true).create(true).truncate(false).mode(0o600).to_owned();
        let file = options.open(&path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        trust::of(&metadata).map_err(refused)?;
        if metadata.permissions().mode() & 0o777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600)).map_err(refused)?;
        }
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(NoLock::Busy(path)),
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, why) = match self {
            Self::Unreadable(path, error) => {
                return write!(
                    f,
                    "{}: {error}. Nothing was changed; run it with sudo",
                    path.display()
                );
            }
            Self::Broken(path, why) => (path, format!("cannot be relied on: {why}")),
            Self::Foreign(path, version) => (
                path,
                format!(
                    "is of version {version}, and this program knows version {VERSION}; use the one that wrote it"
                ),
            ),
        };
        write!(
            f,
            "{} {why}. Nothing was changed. It says what was there before the host was tuned: if you have no copy of it, move it away; \
             the values are then put back by hand or by a reboot, once /etc/sysctl.d/90-sluice.conf is removed",
            path.display()
        )
    }
}

impl std::error::Error for StateError {}
