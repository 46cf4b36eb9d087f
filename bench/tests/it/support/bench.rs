//! `sluice-bench` as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{PATIENCE, folder, wait_until};

/// Runs until it ends, or is dropped.
pub(crate) struct Bench {
    child: Child,
    folder: PathBuf,
}

/// What a process that ended left behind.
pub(crate) struct Finished {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) output: String,
    /// What it told people meanwhile.
    pub(crate) errors: String,
    folder: PathBuf,
}

/// Runs it to its end.
pub(crate) fn bench(name: &str, arguments: &[&str]) -> Finished {
    Bench::start(name, arguments).finish()
}

impl Bench {
    /// Starts it in an empty folder of its own.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let folder = folder(&format!("bench-{name}"));
        let file = |name: &str| File::create(folder.join(name)).expect("the folder is writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-bench"));
        without_settings(&mut command);
        let child = command
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(file("output"))
            .stderr(file("errors"))
            .spawn()
            .expect("it can be executed");
        Self { child, folder }
    }

    /// Waits until it tells people something, and returns the rest of that line.
    pub(crate) fn await_words(&mut self, words: &str) -> String {
        let folder = self.folder.clone();
        let errors = || read(&folder, "errors");
        wait_until(&format!("it says `{words}`"), PATIENCE, errors, || {
            let is_over = self.child.try_wait().expect("it is a child of ours").is_some();
            let has_said = line_after(&errors(), words).is_some();
            assert!(has_said || !is_over, "it ended without `{words}`: {}", errors());
            has_said
        });
        line_after(&errors(), words).expect("it was there a moment ago")
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}");
    }

    /// Ends it at once and without a word.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("it is a child of ours");
    }

    /// What it told people so far.
    pub(crate) fn errors(&self) -> String {
        read(&self.folder, "errors")
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let folder = self.folder.clone();
        let mut status = None;
        wait_until(
            "it ends",
            PATIENCE,
            || read(&folder, "errors"),
            || {
                status = self.child.try_wait().expect("it is a child of ours");
                status.is_some()
            },
        );
        Finished {
            code: status.and_then(|status| status.code()),
            output: read(&folder, "output"),
            errors: read(&folder, "errors"),
            folder,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Finished {
    /// A file that it wrote.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}; it said: {}", self.errors))
    }

    /// Where such a file is.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.join(name).into_os_string();
        path.into_string().expect("the target directory has a readable name")
    }

    /// What it wrote for `--json result.json`.
    pub(crate) fn result(&self) -> Value {
        let text = self.file("result.json");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Whoever runs the tests may have settings of their own.
pub(super) fn without_settings(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("RTCD_") || name.starts_with("SLUICE_") {
            command.env_remove(&variable);
        }
    }
}

fn read(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

/// The rest of the first whole line that has some words.
fn line_after(text: &str, words: &str) -> Option<String> {
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut rests = lines.filter_map(|line| line.split_once(words));
    rests.next().map(|(_, rest)| rest.trim().to_owned())
}
