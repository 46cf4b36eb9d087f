//! Opens the store's file: for us alone to read, and for one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use redb::{Database, DatabaseError};

/// Stands in the directory beside whatever rtcd keeps there, which is not touched.
const FILE: &str = "sluice.redb";

/// Few clients, small values: the library's default of 1 GiB would never be used.
const CACHE_BYTES: usize = 4 << 20;

pub(super) fn open(directory: &Path) -> Result<Database, String> {
    let path = directory.join(FILE);
    let failed = |shown: &Path, error: io::Error| {
        format!("store.data_source: {}: {error}; {WANTED}", shown.display())
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed(directory, error))?;
    let file = open_file(&path).map_err(|error| failed(&path, error))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.create_file(file).map_err(|error| {
        let shown = path.display();
        match error {
            DatabaseError::DatabaseAlreadyOpen => format!(
                "store.data_source: {shown} is in use by another process; stop that one, or give each \
                 its own directory"
            ),
            error => format!(
                "store.data_source: {shown} cannot be read: {error}; restore it, or move it away to \
                 start with no registered clients: they have to register again then"
            ),
        }
    })
}

const WANTED: &str = "it should be a directory that only this user can write to";

/// The default directory is in `/tmp`, where somebody else may have put a file or a link before us:
/// what is not our own file is refused.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let found = file.metadata()?;
    let is_ours = fs::metadata("/proc/self").map_or(true, |us| us.uid() == found.uid());
    if !found.is_file() || !is_ours {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is no file of the user that runs the server",
        ));
    }
    if found.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::Store;

    /// A directory of one test alone: not there at first, and removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("sluice-store-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl std::ops::Deref for Directory {
        type Target = Path;

        fn deref(&self) -> &Path {
            &self.0
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_was_written_is_there_after_a_restart_and_only_we_can_read_it() {
        let parent = Directory::new("restart");
        let directory = parent.join("deep");
        let store = Store::open(&directory).expect("it opens");
        assert_eq!(store.insert("a", "hash"), Ok(true));
        drop(store);
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
        fs::set_permissions(directory.join(FILE), Permissions::from_mode(0o644)).expect("ours");
        let store = Store::open(&directory).expect("it opens again");
        assert_eq!(store.get("a"), Ok(Some("hash".to_owned())));
        assert_eq!(mode(&directory.join(FILE)), 0o600);
    }

    #[test]
    fn a_second_process_is_told_that_the_first_has_it() {
        let directory = Directory::new("locked");
        let _first = Store::open(&directory).expect("it opens");
        let error = Store::open(&directory).expect_err("it is in use");
        assert!(error.contains("in use by another process"), "{error}");
    }

    #[test]
    fn the_files_of_rtcd_stay_as_they_are() {
        let directory = Directory::new("bitcask");
        fs::create_dir_all(&*directory).expect("writable");
        for name in ["000000000.data", "config.json", "lock"] {
            fs::write(directory.join(name), name).expect("writable");
        }
        let store = Store::open(&directory).expect("it opens beside them");
        assert_eq!(store.insert("a", "hash"), Ok(true));
        drop(store);
        for name in ["000000000.data", "config.json", "lock"] {
            assert_eq!(fs::read_to_string(directory.join(name)).expect("still there"), name);
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_what_to_do() {
        let path = Directory::new("broken");
        fs::create_dir_all(&*path).expect("writable");
        let refused = |path: &Path| Store::open(path).expect_err("it cannot be used");
        fs::write(path.join(FILE), "no database at all, but long enough".repeat(1000)).expect("ok");
        let error = refused(&path);
        assert!(error.contains("move it away") && error.contains(FILE), "{error}");
        let error = refused(&path.join(FILE));
        assert!(error.contains(FILE) && error.contains("should be a directory"), "{error}");
        fs::remove_file(path.join(FILE)).expect("it is there");
        std::os::unix::fs::symlink(path.join("elsewhere"), path.join(FILE)).expect("writable");
        let error = refused(&path);
        assert!(error.contains(FILE) && !path.join("elsewhere").exists(), "{error}");
    }

    #[test]
    fn a_file_that_was_cut_short_is_refused() {
        let path = Directory::new("cut");
        drop(Store::open(&path).expect("it opens"));
        let file = OpenOptions::new().write(true).open(path.join(FILE)).expect("it is there");
        file.set_len(1000).expect("it is ours");
        let error = Store::open(&path).expect_err("most of it is gone");
        assert!(error.contains("cannot be read"), "{error}");
    }
}
