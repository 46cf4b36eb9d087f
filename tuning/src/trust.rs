//! Whether nobody else could have written a file: what the state says is done with the powers of root.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Looks at a folder, through a link only where that is this user's own. One that is not there is fine.
///
/// # Errors
/// `PermissionDenied`, with whose it is or who may write it and what helps; else the kernel's.
pub(crate) fn of_folder(path: &Path) -> io::Result<()> {
    let itself = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if itself.is_symlink() {
        of_owner(&itself)?;
    }
    of(&fs::metadata(path)?)
}

/// Looks at what is open or was looked at, which is to be no link.
///
/// # Errors
/// As [`of_folder`].
pub(crate) fn of(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() {
        return Err(refused("it is a link, which others may have laid; move it away".to_owned()));
    }
    of_owner(metadata)?;
    match metadata.permissions().mode() & 0o022 {
        0 => Ok(()),
        _ => Err(refused(
            "others may write it, so what is in it may be theirs; look at it, then: chmod go-w"
                .to_owned(),
        )),
    }
}

fn of_owner(metadata: &Metadata) -> io::Result<()> {
    let (owner, user) = (metadata.uid(), user()?);
    if owner == user {
        return Ok(());
    }
    Err(refused(format!(
        "it belongs to user {owner}, and this is done for user {user}; take a folder of your own (--state-dir), or run it as that user"
    )))
}

/// The effective user of this process.
fn user() -> io::Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    let unknown = || io::Error::other("/proc/self/status does not tell the user of this process");
    user.and_then(|user| user.parse().ok()).ok_or_else(unknown)
}

fn refused(words: String) -> io::Error {
    io::Error::other(words)
}
