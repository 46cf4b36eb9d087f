//! What the tests share: a server on ports of its own, the program under test, scenarios, and how results are read.

mod bench;
mod result;
mod server;

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use sluice_engine::clock;

pub(crate) use bench::{Bench, Finished, bench};
pub(crate) use result::{assert_clean, assert_judged, count, number, text};
pub(crate) use server::{Server, free_port};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The people of [`SMALL`].
pub(crate) const PEOPLE: u64 = 6;
/// Who receives each stream of [`SMALL`].
pub(crate) const RECEIVERS: u64 = 2;
/// Two calls, so that packets could go astray; three people in each, so that a stream is copied.
pub(crate) const SMALL: &str = "[calls]\ncalls = 2\nparticipants = 3\nunmuted = 1\nscreens = 1\n\
    [time]\nwarmup_s = 0.5\nmeasure_s = 1.0\n";

/// An empty folder for a test's files.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It may be of the last time.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// Writes a scenario; `keys` follow its name.
pub(crate) fn scenario(name: &str, keys: &str) -> String {
    let path = folder(&format!("scenario-{name}")).join("scenario.toml");
    fs::write(&path, format!("name = \"{name}\"\n{keys}")).expect("the folder is writable");
    path.into_os_string().into_string().expect("the target directory has a readable name")
}

/// Waits until something is so; `what` is waited for, and `else_say` tells what is known when it does not come.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    else_say: impl Fn() -> String,
    mut is_so: impl FnMut() -> bool,
) {
    let start = clock::now();
    while !is_so() {
        assert!(clock::now().since(start) < limit, "waited {limit:?} until {what}: {}", else_say());
        pause(Duration::from_millis(20));
    }
}

/// Waits in a test; nothing in the program waits like this.
pub(crate) fn pause(time: Duration) {
    let (_never, timer) = sync_channel::<()>(1);
    assert!(timer.recv_timeout(time).is_err());
}
