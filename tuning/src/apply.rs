//! Makes changes in order and stops at the first refusal, after which all is as it was.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::change::{Change, NicParameter, Target};
use crate::facts::Facts;
use crate::host::Host;
use crate::persist::{self, FileDue, Persist};
use crate::refusal::Refusal;
use crate::state::{Content, Lock, NoLock, State, StateError, busy};

/// How changes are made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Also writes the files that make them outlive a reboot; `None` for until the reboot.
    pub persist: Option<Persist>,
    /// Seconds since 1970, for people who ask later since when it is so.
    pub now_unix_s: u64,
}

/// One thing that is done, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    /// A value is written.
    Set {
        /// Where.
        target: Target,
        /// What was there; `None` where a preview could not read it, so that `apply` would stop here.
        from: Option<String>,
        /// What is there after it, which a card may have rounded up.
        to: String,
    },
    /// A file is written.
    Write {
        /// From `/`.
        path: String,
        /// All of it.
        text: String,
        /// Whether another one was there. It is kept for `restore`.
        replaces: bool,
    },
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Applied {
    /// In order; empty when all was as it should be.
    pub steps: Vec<Step>,
    /// Limits of the service, which only the files of [`Options::persist`] can set, and were not set.
    pub needs_persist: Vec<Change>,
}

/// Nothing was applied.
#[derive(Debug)]
pub enum ApplyError {
    /// Another run holds the lock, a file. Nothing was touched.
    Busy(PathBuf),
    /// It cannot be saved what is there, since the state file cannot be used. Nothing was touched.
    State(StateError),
    /// Something was refused.
    Refused {
        /// The first one.
        refusal: Box<Refusal>,
        /// How many steps were made before it and were undone.
        undone: usize,
        /// Those of them that could not be undone. They stay in the state file, so that `restore` can try again.
        stuck: Vec<Refusal>,
    },
}

/// Makes `changes` in their order, those that are not yet so. What was there is saved ahead of each, and stays known over any number of
/// runs; limits only go into the files of `persist`, which hold all that was ever applied.
///
/// # Errors
/// None of them leaves a change behind, unless undoing it was refused as well.
pub fn apply(host: &Host, changes: &[Change], options: &Options) -> Result<Applied, ApplyError> {
    apply_and_look_again(host, changes, Vec::new, options)
}

/// As [`apply`]; where that changed how many queues a card has, which brings interrupts and queues that nobody has set, also makes what
/// `look_again` then asks for, its limits aside. Both are one run: a refusal in the second part undoes the first as well.
///
/// # Errors
/// As [`apply`].
pub fn apply_and_look_again(
    host: &Host,
    changes: &[Change],
    look_again: impl FnOnce() -> Vec<Change>,
    options: &Options,
) -> Result<Applied, ApplyError> {
    let _lock = Lock::take(host).map_err(|no_lock| match no_lock {
        NoLock::Busy(path) => ApplyError::Busy(path),
        NoLock::Refused(refusal) => refusal.into(),
    })?;
    let found = State::read(host).map_err(ApplyError::State)?;
    let mut state = found.clone().unwrap_or_else(|| State::empty(host, options.now_unix_s));
    state.forget_unreached(host);
    let mut run =
        Run { host, found, state, undo: Vec::new(), steps: Vec::new(), ahead: HashMap::new() };
    if let Err(refusal) = run.make(changes, look_again, options) {
        let undone = run.steps.len();
        let stuck = run.roll_back();
        return Err(ApplyError::Refused { refusal: refusal.into(), undone, stuck });
    }
    Ok(Applied { needs_persist: needs_persist(changes, &run.state), steps: run.steps })
}

/// Why nothing should be applied from here unless the state folder is named: a container's own goes with the container, and what it changed
/// is the host's and stays.
pub fn would_forget(facts: &Facts) -> Option<String> {
    let kind = facts.container.as_ref()?;
    Some(format!(
        "this is a container ({kind}), and what was there before would be forgotten with it. Run it on the host, or name a folder \
         that outlives the container: --state-dir. Nothing was changed"
    ))
}

/// What [`apply`] would do, without doing it. What the kernel would refuse cannot be known.
///
/// # Errors
/// As [`apply`], where it would refuse without asking the kernel.
pub fn preview(host: &Host, changes: &[Change], options: &Options) -> Result<Applied, ApplyError> {
    let found = State::read(host).map_err(ApplyError::State)?;
    let mut state = found.unwrap_or_else(|| State::empty(host, options.now_unix_s));
    state.forget_unreached(host);
    let mut applied = Applied::default();
    for change in &values(changes) {
        let from = change.target.read(host).ok();
        if from.as_ref().is_some_and(|from| change.target.meets(from, &change.to)) {
            continue;
        }
        let now = from.as_deref().unwrap_or_default();
        state.note(&change.target, now, now, &change.to);
        let (target, to) = (change.target.clone(), change.to.clone());
        applied.steps.push(Step::Set { target, from, to });
    }
    if let Some(persist) = &options.persist {
        note_limits(&mut state, changes);
        applied.steps.extend(persist.due(host, &state)?.into_iter().map(Step::from));
    }
    applied.needs_persist = needs_persist(changes, &state);
    Ok(applied)
}

/// A run under way.
struct Run<'a> {
    host: &'a Host,
    /// As it lies on the disk when the run begins.
    found: Option<State>,
    state: State,
    /// What was touched, in order, with what was there.
    undo: Vec<Undo>,
    steps: Vec<Step>,
    /// What was there ahead of the run, where a change of a card may change it before its turn comes.
    ahead: HashMap<Target, String>,
}

enum Undo {
    Value { target: Target, was: String },
    File { path: &'static str, was: Option<Content>, folders_made: Vec<String> },
}

impl Undo {
    fn of_value((target, was): (Target, String)) -> Self {
        Self::Value { target, was }
    }
}

impl Run<'_> {
    fn make(
        &mut self,
        changes: &[Change],
        look_again: impl FnOnce() -> Vec<Change>,
        options: &Options,
    ) -> Result<(), Refusal> {
        self.ahead = ahead(self.host, &values(changes));
        self.set_values(changes)?;
        if self.steps.iter().any(Step::changes_queues) {
            self.set_values(&look_again())?;
        }
        if let Some(persist) = &options.persist {
            note_limits(&mut self.state, changes);
            let due = persist.due(self.host, &self.state)?;
            if !due.is_empty() {
                self.write_all(due)?;
            }
        }
        if self.steps.is_empty() {
            return Ok(());
        }
        self.state.settle(self.host);
        self.state.save(self.host)
    }

    fn set_values(&mut self, changes: &[Change]) -> Result<(), Refusal> {
        let changes = values(changes);
        // Files do not change each other, so they are saved at once; what `ethtool` sets may change all that follows.
        let are_files =
            |one: &Change, other: &Change| !one.target.is_card() && !other.target.is_card();
        changes.chunk_by(are_files).try_for_each(|batch| self.set_all(batch))
    }

    fn set_all(&mut self, batch: &[Change]) -> Result<(), Refusal> {
        let mut due = Vec::new();
        for Change { target, to, .. } in batch {
            let was = target.read(self.host);
            let was = was.map_err(|error| Refusal::of_target(target, None, &error))?;
            if !target.meets(&was, to) {
                let first = self.ahead.get(target).unwrap_or(&was).clone();
                self.state.note(target, &first, &was, to);
                due.push((target, first, was, to));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        self.state.save(self.host)?;
        for (target, first, was, to) in due {
            self.undo.push(Undo::of_value((target.clone(), first.clone())));
            let found = set(self.host, target, to)?;
            // A card may have rounded it up.
            self.state.note(target, &first, &was, &found);
            self.steps.push(Step::Set { target: target.clone(), from: Some(first), to: found });
        }
        Ok(())
    }

    fn write_all(&mut self, due: Vec<FileDue>) -> Result<(), Refusal> {
        for FileDue { path, text, now } in &due {
            let folders_made = persist::missing_folders(self.host, path);
            self.state.note_file(path, now.as_ref(), text, folders_made.clone());
            self.undo.push(Undo::File { path, was: now.clone(), folders_made });
        }
        self.state.save(self.host)?;
        for file in due {
            let after = Content { text: file.text.clone(), mode: 0o644 };
            put(self.host, file.path, Some(&after), &[])?;
            self.steps.push(file.into());
        }
        Ok(())
    }

    /// Undoes what the run did, the last first, and returns what could not be undone.
    fn roll_back(&mut self) -> Vec<Refusal> {
        let mut stuck = Vec::new();
        let none = || State::empty(self.host, self.state.since_unix_s);
        let mut left = self.found.clone().unwrap_or_else(none);
        // Cards forget the settings of their queues when those change, so those have a last turn, also the ones not yet reached.
        let has_card = |undo: &Undo| matches!(undo, Undo::Value { target, .. } if target.is_card());
        let ahead = self.undo.iter().any(has_card).then(|| std::mem::take(&mut self.ahead));
        let forgotten: Vec<_> = ahead.into_iter().flatten().map(Undo::of_value).collect();
        for undo in self.undo.iter().rev().chain(&forgotten) {
            let result = match undo {
                Undo::Value { target, was } => set_exactly(self.host, target, was),
                Undo::File { path, was, folders_made } => {
                    put(self.host, path, was.as_ref(), folders_made)
                }
            };
            let Err(refusal) = result else { continue };
            if !stuck.contains(&refusal) {
                stuck.push(refusal);
            }
            match undo {
                Undo::Value { target, was } => {
                    let now = target.read(self.host);
                    let now = now.or_else(|_| self.wanted(target).ok_or(())).unwrap_or_default();
                    left.note(target, was, was, &now);
                }
                Undo::File { path, was, folders_made } => {
                    let wanted = self.state.files.iter().find(|file| file.path == *path);
                    let after = wanted.map(|file| file.after.as_str()).unwrap_or_default();
                    left.note_file(path, was.as_ref(), after, folders_made.clone());
                }
            }
        }
        // The entries stand in the order in which they were made, whatever the order in which they got stuck.
        let position =
            |target: &Target| self.state.entries.iter().position(|entry| entry.target == *target);
        left.entries.sort_by_key(|entry| position(&entry.target));
        let left = (!left.is_empty()).then_some(left);
        let saved = match &left {
            _ if State::read(self.host).is_ok_and(|on_disk| on_disk == left) => Ok(()),
            None => State::remove(self.host),
            Some(left) => left.save(self.host),
        };
        stuck.extend(saved.err());
        stuck
    }

    fn wanted(&self, target: &Target) -> Option<String> {
        self.state.entry(target).map(|entry| entry.after.clone())
    }
}

/// The changes of values, each target once: the last word counts.
fn values(changes: &[Change]) -> Vec<Change> {
    let is_value = |change: &&Change| !matches!(change.target, Target::Limit { .. });
    let last: HashMap<&Target, usize> =
        changes.iter().enumerate().map(|(index, change)| (&change.target, index)).collect();
    let with_index = changes.iter().enumerate().filter(|(_, change)| is_value(change));
    let once = with_index.filter(|(index, change)| last[&change.target] == *index);
    once.map(|(_, change)| change.clone()).collect()
}

/// What is there of all that a card may change, if a card is to be changed.
fn ahead(host: &Host, changes: &[Change]) -> HashMap<Target, String> {
    let has_card = changes.iter().any(|change| change.target.is_card());
    let targets = changes.iter().map(|change| &change.target).filter(|target| !target.is_card());
    let read = |target: &Target| Some((target.clone(), target.read(host).ok()?));
    targets.filter(|_| has_card).filter_map(read).collect()
}

fn note_limits(state: &mut State, changes: &[Change]) {
    for change in changes {
        if let Target::Limit { directive } = &change.target {
            state.limits.insert(directive.clone(), change.to.clone());
        }
    }
}

/// Limits that no drop-in says yet.
fn needs_persist(changes: &[Change], state: &State) -> Vec<Change> {
    let is_missing = |change: &&Change| match &change.target {
        Target::Limit { directive } => state.limits.get(directive) != Some(&change.to),
        _ => false,
    };
    changes.iter().filter(is_missing).cloned().collect()
}

/// Writes a value and returns what is there then, which a card may have rounded up.
fn set(host: &Host, target: &Target, to: &str) -> Result<String, Refusal> {
    ask(host, target, to, Target::meets)
}

/// Puts back a value that was there, if it is not there already.
pub(crate) fn set_exactly(host: &Host, target: &Target, to: &str) -> Result<(), Refusal> {
    if target.read(host).is_ok_and(|found| target.same(&found, to)) {
        return Ok(());
    }
    ask(host, target, to, Target::same).map(drop)
}

fn ask(
    host: &Host,
    target: &Target,
    to: &str,
    is_it: fn(&Target, &str, &str) -> bool,
) -> Result<String, Refusal> {
    let written = target.write(host, to);
    let found = target.read(host);
    match (written, found) {
        // What is there counts, not the words: `ethtool` calls it an error to be asked for what is so already.
        (_, Ok(found)) if is_it(target, &found, to) => Ok(found),
        (Err(error), _) | (Ok(()), Err(error)) => Err(Refusal::of_target(target, Some(to), &error)),
        (Ok(()), Ok(found)) => Err(Refusal::of_value(target, to, &found)),
    }
}

/// Makes a file of the host hold `content`, or not be there, and then none of the folders that were made for it.
pub(crate) fn put(
    host: &Host,
    path: &str,
    content: Option<&Content>,
    folders_made: &[String],
) -> Result<(), Refusal> {
    let place = host.path(path);
    let is_so = persist::content(host, path).is_ok_and(|found| found.as_ref() == content);
    let done = match content {
        Some(_) if is_so => host.remove_ahead_of(&place),
        Some(content) => {
            let folder = place.parent().map_or(Ok(()), |folder| host.make_folder(folder, 0o755));
            folder.and_then(|()| host.replace(&place, &content.text, content.mode))
        }
        None => host.remove(&place),
    };
    done.map_err(|error| Refusal::of_file(path, &error))?;
    if content.is_none() {
        for folder in folders_made.iter().rev() {
            host.remove_empty_folder(&host.path(folder));
        }
    }
    Ok(())
}

impl Step {
    /// Whether a card has another number of queues after it.
    pub fn changes_queues(&self) -> bool {
        let Self::Set { target: Target::Nic { parameter, .. }, .. } = self else { return false };
        *parameter == NicParameter::CombinedChannels
    }
}

impl From<FileDue> for Step {
    fn from(due: FileDue) -> Self {
        Self::Write { path: due.path.to_owned(), text: due.text, replaces: due.now.is_some() }
    }
}

impl From<Refusal> for ApplyError {
    /// A refusal ahead of the first change.
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal: refusal.into(), undone: 0, stuck: Vec::new() }
    }
}

/// The command that does the same, with what was there behind it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { target, from, to } => {
                write!(f, "{}", target.command(to))?;
                match from {
                    Some(from) => write!(f, "   # was {from}")?,
                    None => f.write_str("   # cannot be read: apply would stop here")?,
                }
                target.warning().map_or(Ok(()), |warning| write!(f, "; {warning}"))
            }
            Self::Write { path, text, replaces } => {
                let kept = if *replaces { "   # what is there is kept for restore" } else { "" };
                writeln!(f, "cat > {path} << END{kept}")?;
                write!(f, "{text}END")
            }
        }
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(lock) => f.write_str(&busy(lock)),
            Self::State(error) => error.fmt(f),
            Self::Refused { refusal, undone, stuck } => {
                write!(f, "{refusal}. ")?;
                if !stuck.is_empty() {
                    f.write_str("Not all could be undone; `sluice-tune restore` tries again:")?;
                    return stuck.iter().try_for_each(|refusal| write!(f, "\n  {refusal}"));
                }
                match undone {
                    0 => f.write_str("Nothing was changed"),
                    _ => {
                        f.write_str("What was changed before it was undone; the host is as it was")
                    }
                }
            }
        }
    }
}

impl std::error::Error for ApplyError {}
