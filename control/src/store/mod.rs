//! The registered clients of rtcd's API: a client's id and the hash of its key, in one file that
//! outlives the process. Nothing else is kept.
//!
//! Every call may wait for the disk: they belong on a blocking thread.

mod file;

use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use redb::{TableDefinition, TableError};

/// The longest id of a client, bytes; rtcd's store has the same bound.
pub const ID_BYTES_MAX: usize = 64;

/// Clients that the store holds at most. Where clients may register themselves, this bounds what
/// they can make us write: some 30 MiB.
pub const CLIENTS_MAX: u64 = 100_000;

const CLIENTS: TableDefinition<'_, &str, &str> = TableDefinition::new("clients");

/// Registered clients: id → hash of the key.
#[derive(Debug)]
pub struct Store {
    database: Database,
    clients_max: u64,
}

/// Why the store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The id is longer than [`ID_BYTES_MAX`].
    IdTooLong,
    /// [`CLIENTS_MAX`] clients are registered.
    Full,
    /// The disk, or the file's content, in words.
    Storage(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IdTooLong => write!(f, "the client id is longer than {ID_BYTES_MAX} bytes"),
            Self::Full => write!(f, "no more than {CLIENTS_MAX} clients can be registered"),
            Self::Storage(cause) => write!(f, "the store cannot be used: {cause}"),
        }
    }
}

impl std::error::Error for StoreError {}

fn storage(error: impl std::fmt::Display) -> StoreError {
    StoreError::Storage(error.to_string())
}

impl Store {
    /// Opens the store in `directory`, which is made if it is missing, for this process alone.
    ///
    /// # Errors
    /// A sentence for the operator: what is wrong with which path, and what to do.
    pub fn open(directory: &Path) -> Result<Self, String> {
        Ok(Self { database: file::open(directory)?, clients_max: CLIENTS_MAX })
    }

    /// A store that ends with the process, for tests.
    ///
    /// # Errors
    /// None that is known: writing into memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        Ok(Self { database: database.map_err(storage)?, clients_max: CLIENTS_MAX })
    }

    /// The hash of the client's key, if the client is registered.
    ///
    /// # Errors
    /// `Storage`.
    pub fn get(&self, id: &str) -> Result<Option<String>, StoreError> {
        let transaction = self.database.begin_read().map_err(storage)?;
        let table = match transaction.open_table(CLIENTS) {
            Ok(table) => table,
            // Before the first registration.
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(storage(error)),
        };
        let hash = table.get(id).map_err(storage)?;
        Ok(hash.map(|hash| hash.value().to_owned()))
    }

    /// Adds a client and says whether it was new; one that is there stays as it is. On return the
    /// client is on the disk.
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn insert(&self, id: &str, hash: &str) -> Result<bool, StoreError> {
        if id.len() > ID_BYTES_MAX {
            return Err(StoreError::IdTooLong);
        }
        let transaction = self.database.begin_write().map_err(storage)?;
        {
            let mut table = transaction.open_table(CLIENTS).map_err(storage)?;
            if table.get(id).map_err(storage)?.is_some() {
                return Ok(false);
            }
            if table.len().map_err(storage)? >= self.clients_max {
                return Err(StoreError::Full);
            }
            table.insert(id, hash).map_err(storage)?;
        }
        transaction.commit().map_err(storage)?;
        Ok(true)
    }

    /// Removes a client and says whether it was there. On return it is off the disk.
    ///
    /// # Errors
    /// `Storage`.
    pub fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let transaction = self.database.begin_write().map_err(storage)?;
        let was_there = {
            let mut table = transaction.open_table(CLIENTS).map_err(storage)?;
            table.remove(id).map_err(storage)?.is_some()
        };
        transaction.commit().map_err(storage)?;
        Ok(was_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_added_once_found_and_removed() {
        let store = Store::in_memory().expect("memory is there");
        assert_eq!(store.get("a"), Ok(None));
        assert_eq!(store.remove("a"), Ok(false));
        assert_eq!(store.insert("a", "hash"), Ok(true));
        assert_eq!(store.insert("a", "another"), Ok(false));
        assert_eq!(store.get("a"), Ok(Some("hash".to_owned())));
        assert_eq!(store.get("A"), Ok(None), "ids are compared byte by byte");
        assert_eq!(store.remove("a"), Ok(true));
        assert_eq!(store.get("a"), Ok(None));
    }

    #[test]
    fn ids_and_clients_are_bounded() {
        let mut store = Store::in_memory().expect("memory is there");
        store.clients_max = 2;
        let longest = "x".repeat(ID_BYTES_MAX);
        assert_eq!(store.insert(&format!("{longest}x"), "h"), Err(StoreError::IdTooLong));
        assert_eq!(store.insert(&longest, "h"), Ok(true));
        assert_eq!(store.insert("b", "h"), Ok(true));
        assert_eq!(store.insert("c", "h"), Err(StoreError::Full));
        assert_eq!(store.insert("b", "h"), Ok(false), "one that is there is no further one");
        assert_eq!(store.remove("b"), Ok(true));
        assert_eq!(store.insert("c", "h"), Ok(true));
    }
}
