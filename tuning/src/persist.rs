//! What makes changes outlive a reboot: a file for sysctl and a drop-in for the unit of the service.

use std::fmt::Write;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;

use crate::change::Target;
use crate::host::Host;
use crate::refusal::Refusal;
use crate::state::{Content, State};

/// Read at boot by systemd-sysctl, and by `sysctl --system`.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/90-sluice.conf";

/// Read by systemd with the unit of the service, once told to (`systemctl daemon-reload`).
pub const DROP_IN: &str = "/etc/systemd/system/sluice.service.d/90-tuning.conf";

/// All files that are ever written for others to read.
pub(crate) const PATHS: [&str; 2] = [SYSCTL_FILE, DROP_IN];

/// How changes outlive a reboot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Persist {
    /// The `sluice-tune` that the service runs ahead of each start, for what is in no file: network cards, interrupts, governors.
    pub program: String,
    /// Its arguments behind `apply --quiet`: the same load, the same settings.
    pub arguments: Vec<String>,
}

impl Default for Persist {
    /// The program as packages install it.
    fn default() -> Self {
        Self { program: "/usr/bin/sluice-tune".to_owned(), arguments: Vec::new() }
    }
}

/// A file that is to be written.
pub(crate) struct FileDue {
    pub(crate) path: &'static str,
    pub(crate) text: String,
    pub(crate) now: Option<Content>,
}

impl Persist {
    /// The files that are not yet as `state` wants them.
    pub(crate) fn due(&self, host: &Host, state: &State) -> Result<Vec<FileDue>, Refusal> {
        let wanted = [(SYSCTL_FILE, sysctl_file(host, state)), (DROP_IN, self.drop_in(state))];
        let mut due = Vec::new();
        for (path, text) in wanted {
            let Some(text) = text else { continue };
            let now = content(host, path)?;
            let is_known = state.files.iter().any(|file| file.path == path);
            if !is_known || now.as_ref().is_none_or(|now| now.text != text) {
                due.push(FileDue { path, text, now });
            }
        }
        Ok(due)
    }

    fn drop_in(&self, state: &State) -> Option<String> {
        let needs_a_start = state.entries.iter().any(|entry| is_in_no_file(&entry.target));
        if state.limits.is_empty() && !needs_a_start {
            return None;
        }
        let mut text = header("systemctl daemon-reload");
        text.push_str("[Service]\n");
        for (directive, value) in &state.limits {
            let _ = writeln!(text, "{directive}={value}");
        }
        if needs_a_start {
            // `-`: the service starts even when this is refused. `+`: with the powers that the service itself does not have.
            let _ = write!(text, "ExecStartPre=-+{} apply --quiet", quoted(&self.program));
            for argument in &self.arguments {
                let _ = write!(text, " {}", quoted(argument));
            }
            text.push('\n');
        }
        Some(text)
    }
}

/// A value that somebody raised since stays raised when the file is read.
fn sysctl_file(host: &Host, state: &State) -> Option<String> {
    let mut text = header("sysctl --system");
    let mut is_empty = true;
    for entry in &state.entries {
        if let Target::Sysctl { name } = &entry.target {
            let now = entry.target.read(host).unwrap_or_default();
            let is_raised = matches!((now.parse::<u64>(), entry.after.parse::<u64>()), (Ok(now), Ok(after)) if now > after);
            let value = if is_raised { &now } else { &entry.after };
            let _ = writeln!(text, "{name} = {value}");
            is_empty = false;
        }
    }
    (!is_empty).then_some(text)
}

/// What this program begins its files with.
const FIRST_WORDS: &str = "# Written by `sluice-tune apply --persist`";

/// Whether a file was written by this program.
pub(crate) fn is_ours(text: &str) -> bool {
    text.starts_with(FIRST_WORDS)
}

fn header(read_again: &str) -> String {
    format!(
        "{FIRST_WORDS}; the next one writes it anew. `sluice-tune restore` removes it and puts back what\n\
         # was there before. `{read_again}` reads it again.\n"
    )
}

/// Whether only the start of the service can set it after a boot. Connection tracking forgets its settings until its module is loaded,
/// which is later than sysctl.d is read.
fn is_in_no_file(target: &Target) -> bool {
    match target {
        Target::File { .. } | Target::Nic { .. } => true,
        Target::Sysctl { name } => name.starts_with("net.netfilter."),
        Target::Limit { .. } => false,
    }
}

/// A word as systemd.service(5) wants it on a command line.
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$")
        .replace('\n', " ");
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) { escaped } else { format!("\"{escaped}\"") }
}

/// What is in a file of the host; `None` where there is none.
///
/// # Errors
/// It cannot be read, or is something else than a file of text, which could not be put back.
pub(crate) fn content(host: &Host, path: &str) -> Result<Option<Content>, Refusal> {
    let place = host.path(path);
    let refused = |error: &io::Error| Refusal::of_file(path, error);
    let metadata = match fs::symlink_metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(&error)),
    };
    if !metadata.is_file() {
        return Err(refused(&io::Error::other("it is no plain file and stays; move it away")));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    match fs::read_to_string(&place) {
        Ok(text) => Ok(Some(Content { text, mode })),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(refused(&io::Error::other("it is no text and stays; move it away")))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// The folders of `path` that are not there, the deepest last.
pub(crate) fn missing_folders(host: &Host, path: &str) -> Vec<String> {
    let above = std::path::Path::new(path).ancestors().skip(1);
    let missing = above.take_while(|folder| !host.path(folder).exists());
    let mut missing: Vec<_> = missing.map(|folder| folder.display().to_string()).collect();
    missing.reverse();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        for (word, written) in [
            ("--load", "--load"),
            ("1x1000 screen", "\"1x1000 screen\""),
            ("", "\"\""),
            ("50%", "50%%"),
            ("a\"b\\c$d", "\"a\\\"b\\\\c$$d\""),
        ] {
            assert_eq!(quoted(word), written);
        }
    }
}
