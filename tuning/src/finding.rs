//! What a look at one setting gave.

use serde::Serialize;

use crate::change::{Change, Target};
use crate::setting::Setting;

/// How a setting stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be, or better.
    Good,
    /// Stated for the reader; nothing to want.
    Note,
    /// Could not be read, in a container for instance.
    Unknown,
    /// Works, and something else works better.
    Better,
    /// Costs packets, calls or the start under the expected load.
    Wrong,
}

impl Verdict {
    /// Its name for programs, as it is serialized.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Better => "better",
            Self::Wrong => "wrong",
        }
    }
}

/// One row of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Key, why, source and effect: what `explain` tells.
    #[serde(flatten)]
    pub setting: &'static Setting,
    /// Which of several: an interface, a CPU.
    pub subject: Option<String>,
    /// What is there, for people; `None` when it could not be read.
    pub found: Option<String>,
    /// What should be there, for people; `None` when there is nothing to want.
    pub wanted: Option<String>,
    /// How the wanted value came about, with its numbers.
    pub formula: Option<String>,
    /// How it stands.
    pub verdict: Verdict,
    /// What to do where no change below does it: a command, a sentence.
    pub remedy: Option<String>,
    /// What `apply` does about it, in order. Empty unless the verdict is `Better` or `Wrong`.
    pub changes: Vec<Change>,
}

/// Made step by step: verdict first, then what there is to say.
impl Finding {
    /// A finding that says no more than how `setting` stands.
    pub fn new(setting: &'static Setting, verdict: Verdict) -> Self {
        Self {
            setting,
            subject: None,
            found: None,
            wanted: None,
            formula: None,
            verdict,
            remedy: None,
            changes: Vec::new(),
        }
    }

    /// With which of several it is about.
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// With what is there.
    pub fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    /// With what should be there.
    pub fn wanted(self, wanted: impl Into<String>) -> Self {
        Self { wanted: Some(wanted.into()), ..self }
    }

    /// With how the wanted value came about.
    pub fn formula(self, formula: impl Into<String>) -> Self {
        Self { formula: Some(formula.into()), ..self }
    }

    /// With what people can do about it.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// With one more change that `apply` makes.
    pub fn change(mut self, target: Target, from: Option<String>, to: impl Into<String>) -> Self {
        self.changes.push(Change { target, from, to: to.into() });
        self
    }
}
