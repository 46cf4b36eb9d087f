//! What the host said no to, with the kernel's words and what helps.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;

use crate::change::Target;

/// One thing that could not be read, written or kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The target, where it is one.
    pub target: Option<Target>,
    /// What it is about: a target or a file, for people.
    pub place: String,
    /// The value that should be there; `None` when it was about reading.
    pub asked: Option<String>,
    /// What was said, with what helps.
    pub why: String,
}

impl Refusal {
    /// A target that cannot be read (`asked` is `None`) or set.
    pub(crate) fn of_target(target: &Target, asked: Option<&str>, error: &io::Error) -> Self {
        let why = match error.kind() {
            ErrorKind::NotFound if matches!(target, Target::Nic { .. }) => {
                match error.to_string() {
                    words if words.contains("ethtool") => format!("{words}: apt install ethtool"),
                    words => words,
                }
            }
            ErrorKind::NotFound => {
                format!(
                    "{}: this kernel does not have it, or its module is not loaded",
                    words(error)
                )
            }
            ErrorKind::InvalidInput | ErrorKind::ArgumentListTooLong
                if error.raw_os_error().is_some() =>
            {
                format!("{}: the kernel does not take this value", words(error))
            }
            _ => with_help(error),
        };
        Self {
            target: Some(target.clone()),
            place: target.to_string(),
            asked: asked.map(str::to_owned),
            why,
        }
    }

    /// A target that took something else than it was asked for.
    pub(crate) fn of_value(target: &Target, asked: &str, found: &str) -> Self {
        Self {
            target: Some(target.clone()),
            place: target.to_string(),
            asked: Some(asked.to_owned()),
            why: format!("the kernel reported no error, and then {found} was there"),
        }
    }

    /// A file that cannot be kept, replaced or removed.
    pub(crate) fn of_file(place: impl Into<String>, error: &io::Error) -> Self {
        Self { target: None, place: place.into(), asked: None, why: with_help(error) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.asked, &self.target) {
            (Some(asked), _) => write!(f, "{} did not become {asked}: {}", self.place, self.why),
            (None, Some(_)) => write!(f, "{} cannot be read: {}", self.place, self.why),
            (None, None) => write!(f, "{}: {}", self.place, self.why),
        }
    }
}

/// The kernel's words without Rust's number behind them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The kernel's words and what to do about them.
fn with_help(error: &io::Error) -> String {
    let said = error.to_string();
    let is_forbidden = error.kind() == ErrorKind::PermissionDenied
        || said.contains("not permitted")
        || said.contains("ermission denied");
    let help = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            ": it is read-only here, as in a container; do this on the host"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": make room there",
        _ if is_forbidden && is_root() => {
            ": not even root may change it here, as in a container or a network namespace of its own; do this on the host"
        }
        _ if is_forbidden => {
            ": this needs root, or CAP_NET_ADMIN for a network card; run it with sudo"
        }
        _ => "",
    };
    format!("{}{help}", words(error))
}

/// Whether this process is root. The kernel gives /proc/self to the user whose powers a process has.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
