//! Puts back what was there before the first `apply`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::Serialize;

use crate::apply::{put, set_exactly};
use crate::host::Host;
use crate::persist::{DROP_IN, content};
use crate::refusal::Refusal;
use crate::state::{Entry, Lock, NoLock, SavedFile, State, StateError, busy};

/// What became of one value or file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum Fate {
    /// It is what it was before.
    PutBack,
    /// It was so already.
    WasSo,
    /// Somebody else changed it since; it stays, and stays known.
    Changed {
        /// What is there.
        found: String,
    },
    /// The file, the interface or the parameter is not there any more, or the interrupt is of an earlier boot.
    Gone,
    /// It cannot be put back, and stays known.
    Refused {
        /// The kernel's words with what helps.
        why: String,
    },
}

/// A value or a file that was changed, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Restoration {
    /// The target or the file, for people.
    pub place: String,
    /// The command that puts it back.
    pub command: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What `restore` did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Restored {
    /// In order, which is the reverse of that of `apply`; empty when nothing was applied.
    pub items: Vec<Restoration>,
    /// Whether the host was started anew since the last change.
    pub rebooted: bool,
}

/// Nothing was put back.
#[derive(Debug)]
pub enum RestoreError {
    /// Another run holds the lock, a file.
    Busy(PathBuf),
    /// The state file cannot be used.
    State(StateError),
    /// The state file or the lock cannot be written. All that could be put back is; doing it again does no harm.
    Refused(Refusal),
}

impl Restored {
    /// Whether all is as it was before the first `apply`.
    pub fn is_complete(&self) -> bool {
        self.items.iter().all(|item| !item.fate.stays_known())
    }
}

impl Fate {
    fn stays_known(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Refused { .. })
    }
}

/// Puts back each value and file that `apply` changed, the last first. One that somebody else changed since stays, unless by `force`.
/// What cannot be put back stays in the state file for the next try.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(host: &Host, force: bool) -> Result<Restored, RestoreError> {
    // Where nothing was applied, nothing needs to be writable.
    if State::read(host).map_err(RestoreError::State)?.is_none() {
        return Ok(Restored::default());
    }
    let _lock = Lock::take(host).map_err(|no_lock| match no_lock {
        NoLock::Busy(path) => RestoreError::Busy(path),
        NoLock::Refused(refusal) => RestoreError::Refused(refusal),
    })?;
    let Some(mut state) = State::read(host).map_err(RestoreError::State)? else {
        return Ok(Restored::default());
    };
    let restored = walk(host, &state, force, true);
    let mut items = restored.items.iter();
    let mut stays = || items.next().is_some_and(|item| item.fate.stays_known());
    state.files.reverse();
    state.files.retain(|_| stays());
    state.files.reverse();
    state.entries.reverse();
    state.entries.retain(|_| stays());
    state.entries.reverse();
    if !state.files.iter().any(|file| file.path == DROP_IN) {
        state.limits.clear();
    }
    if state.is_empty() { State::remove(host) } else { state.save(host) }
        .map_err(RestoreError::Refused)?;
    Ok(restored)
}

/// What [`restore`] would do, without doing it: what it would put back counts as put back.
///
/// # Errors
/// The state file cannot be used.
pub fn preview(host: &Host, force: bool) -> Result<Restored, RestoreError> {
    let state = State::read(host).map_err(RestoreError::State)?;
    Ok(state.map(|state| walk(host, &state, force, false)).unwrap_or_default())
}

/// Files first, since they were written last.
fn walk(host: &Host, state: &State, force: bool, act: bool) -> Restored {
    let files = state.files.iter().rev().map(|file| of_file(host, file, force, act));
    let rebooted = state.is_of_another_boot(host);
    let values = state.entries.iter().rev().map(|entry| match entry.target.is_irq() {
        // The number may be that of another device by now.
        true if rebooted => restoration(entry, Fate::Gone),
        _ => of_entry(host, entry, force, act),
    });
    let mut items: Vec<_> = files.chain(values).collect();
    // Cards forget the settings of their queues when those change, so files have a second turn.
    let has_card = state.entries.iter().any(|entry| entry.target.is_card());
    for (item, entry) in items.iter_mut().skip(state.files.len()).zip(state.entries.iter().rev()) {
        let was_put_back = matches!(item.fate, Fate::PutBack | Fate::WasSo);
        if act
            && has_card
            && was_put_back
            && !entry.target.is_card()
            // A queue that came with the change is gone with it.
            && !is_gone(&entry.target.read(host))
            && let Err(refusal) = set_exactly(host, &entry.target, &entry.before)
        {
            item.fate = Fate::Refused { why: refusal.why };
        }
    }
    Restored { items, rebooted }
}

/// Whether the file, the interface or the parameter is not there; that `ethtool` is not tells nothing of them.
fn is_gone(read: &io::Result<String>) -> bool {
    let says_so = |error: &io::Error| {
        error.kind() == ErrorKind::NotFound && !error.to_string().contains("ethtool")
    };
    read.as_ref().is_err_and(says_so)
}

fn of_entry(host: &Host, entry: &Entry, force: bool, act: bool) -> Restoration {
    let Entry { target, before, after, replaced } = entry;
    let fate = match target.read(host) {
        read if is_gone(&read) => Fate::Gone,
        Err(error) => Fate::Refused { why: Refusal::of_target(target, None, &error).why },
        Ok(found) if target.same(&found, before) => Fate::WasSo,
        Ok(found) => {
            let is_ours = target.same(&found, after)
                || replaced.as_ref().is_some_and(|replaced| {
                    target.same(&found, replaced) || target.meets(&found, after)
                });
            if !is_ours && !force {
                Fate::Changed { found }
            } else if !act {
                Fate::PutBack
            } else {
                fate(set_exactly(host, target, before))
            }
        }
    };
    restoration(entry, fate)
}

fn restoration(entry: &Entry, fate: Fate) -> Restoration {
    let Entry { target, before, .. } = entry;
    Restoration { place: target.to_string(), command: target.command(before), fate }
}

fn of_file(host: &Host, file: &SavedFile, force: bool, act: bool) -> Restoration {
    let SavedFile { path, before, after, replaced, folders_made } = file;
    let fate = match content(host, path) {
        Err(refusal) => Fate::Refused { why: refusal.why },
        Ok(found) => {
            let is_so = found == *before;
            let text = found.map(|found| found.text);
            let is_ours = is_so || text.as_ref() == Some(after) || text == *replaced;
            match text {
                Some(text) if !is_ours && !force => Fate::Changed { found: first_line(&text) },
                // Somebody removed it, with what was there before it.
                None if !is_ours && !force => Fate::Changed { found: "no file".to_owned() },
                _ if !act && is_so => Fate::WasSo,
                _ if !act => Fate::PutBack,
                // Also where it is so already: a crash may have left a folder, or a part of a file beside it.
                _ => match fate(put(host, path, before.as_ref(), folders_made)) {
                    Fate::PutBack if is_so => Fate::WasSo,
                    other => other,
                },
            }
        }
    };
    let command = match before {
        Some(_) => format!("cat > {path}   # what was there before"),
        None => format!("rm {path}"),
    };
    Restoration { place: path.clone(), command, fate }
}

fn fate(done: Result<(), Refusal>) -> Fate {
    match done {
        Ok(()) => Fate::PutBack,
        Err(refusal) => Fate::Refused { why: refusal.why },
    }
}

fn first_line(text: &str) -> String {
    format!("another file, which begins with {:?}", text.lines().next().unwrap_or_default())
}

/// One line for people.
impl fmt::Display for Restoration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, command, fate } = self;
        match fate {
            Fate::PutBack => f.write_str(command),
            Fate::WasSo => write!(f, "# {place} is what it was already"),
            Fate::Gone => write!(f, "# {place} is not there any more"),
            Fate::Changed { found } => write!(
                f,
                "# {place} was changed by somebody else since: {found}. It stays; --force does `{command}`"
            ),
            Fate::Refused { why } => {
                write!(f, "# {place} cannot be put back: {why}. `{command}` was to be done")
            }
        }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(lock) => f.write_str(&busy(lock)),
            Self::State(error) => error.fmt(f),
            Self::Refused(refusal) => {
                write!(
                    f,
                    "{refusal}. It is not noted what was put back; doing it again does no harm"
                )
            }
        }
    }
}

impl std::error::Error for RestoreError {}
