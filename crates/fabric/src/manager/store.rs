//! What a manager must not forget, on disk.
//!
//! A map in a redb database: one transaction for each [`Record`] list, durable (fsync) before
//! [`Store::commit`] returns, and either all there after a crash or not at all. Keys and values are
//! in postcard's encoding, under a format number: a store of another format is refused.
//!
//! A write that fails (a full disk) leaves the store as it was. A sync that fails leaves it with
//! all of the change or none, and only reading it again tells which ([`Store::load`]); that is what
//! a manager goes on with after any failure. The database is opened anew for it, because redb
//! trusts it no further after an error of its file. The file is locked: two managers cannot have it
//! at a time.
//!
//! Not all that changes must be on the disk at once: what a device says it says again. Such changes
//! are *held* ([`Store::hold`]) until something rests on them ([`Store::settle`]), and go with
//! whatever is made durable next, so that one sync does for several.
//!
//! Beside the map the store keeps the highest number that an operator's request ever had, so that a
//! number is never used twice, also when its request has long been forgotten.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use memtide_cxl::manager::{FIRST_OWN_ID, Key, Record, Value};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};
use serde::{Serialize, de::DeserializeOwned};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("manager");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const LAST_REQUEST_KEY: &str = "last-request";
/// The form of keys and values that this program writes.
pub const FORMAT: u64 = 2;

/// Why something cannot be kept, or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<DatabaseError>,
    },
    /// Another process has it.
    #[error("the store {} is in use by another manager", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("cannot {verb} the store {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// It is of another version of this program.
    #[error("the store {} has format {format}; expected {FORMAT}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// Something in it is none of ours.
    #[error("the store {} is damaged: {what} of {bytes} bytes cannot be read", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What cannot be read.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
}

/// How the database is opened; a test has others.
type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send>;

/// A key and its value, as they are kept.
type Pair = (Vec<u8>, Vec<u8>);
/// A key and its new value, or none.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// A manager's store.
pub struct Store {
    path: PathBuf,
    opener: Opener,
    /// Nothing after a failed write, until the next one.
    database: Option<Database>,
    last_request: u64,
    /// What changed and is not on the disk yet: keys and their new values, or none.
    held: BTreeMap<Key, Option<Value>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `path`, or makes an empty one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Box::new(|path| Database::create(path)))
    }

    fn open_with(path: &Path, opener: Opener) -> Result<Self, StoreError> {
        let (path, held) = (path.to_owned(), BTreeMap::new());
        let mut store = Self { path, opener, database: None, last_request: 0, held };
        store.ensure_open()?;
        let found = store.meta(FORMAT_KEY)?;
        match found {
            Some(FORMAT) => {}
            Some(format) => return Err(StoreError::Format { path: store.path, format }),
            None => store.transact(&[], &[(FORMAT_KEY, FORMAT)])?,
        }
        store.last_request = store.meta(LAST_REQUEST_KEY)?.unwrap_or(0);
        Ok(store)
    }

    /// Everything that is kept, without what is held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&mut self) -> Result<Vec<(Key, Value)>, StoreError> {
        self.ensure_open()?;
        // After a failed sync it may be the one that was to be kept, or the one before.
        self.last_request = self.meta(LAST_REQUEST_KEY)?.unwrap_or(0);
        let pairs = self.pairs().map_err(|source| self.failed("read", source))?;
        let decode =
            |(key, value): &Pair| Ok((self.decode("a key", key)?, self.decode("a value", value)?));
        pairs.iter().map(decode).collect()
    }

    /// The number for an operator's next request; it is used up once the request is committed.
    #[must_use]
    pub const fn next_request(&self) -> u64 {
        self.last_request + 1
    }

    /// Makes these changes durable, and those that are held, all of them or none.
    ///
    /// # Errors
    /// [`StoreError`]; the store is as it was before, or, if the disk failed at the very end, as it
    /// was to be. What was held is held still.
    pub fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut all = self.held.clone();
        all.extend(records.iter().map(|record| (record.key.clone(), record.value.clone())));
        let numbers = all.iter().filter_map(|(key, value)| match key {
            Key::Request(id) if id.0 < FIRST_OWN_ID && value.is_some() => Some(id.0),
            _ => None,
        });
        let last_request = numbers.max().unwrap_or(0).max(self.last_request);
        let meta: &[_] = if last_request > self.last_request {
            &[(LAST_REQUEST_KEY, last_request)]
        } else {
            &[]
        };
        let pairs = all.iter().map(|(key, value)| (encode(key), value.as_ref().map(encode)));
        self.transact(&pairs.collect::<Vec<_>>(), meta)?;
        self.last_request = last_request;
        self.held.clear();
        Ok(())
    }

    /// Notes changes, to be made durable by the next [`Store::commit`] or [`Store::settle`].
    pub fn hold(&mut self, records: Vec<Record>) {
        self.held.extend(records.into_iter().map(|record| (record.key, record.value)));
    }

    /// Whether something is held.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Makes durable what is held.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub fn settle(&mut self) -> Result<(), StoreError> {
        if self.holds() { self.commit(&[]) } else { Ok(()) }
    }

    /// Drops what is held: whoever it was of goes on from what is durable.
    pub fn forget_held(&mut self) {
        self.held.clear();
    }

    fn transact(&mut self, pairs: &[Change], meta: &[(&str, u64)]) -> Result<(), StoreError> {
        self.ensure_open()?;
        let database = self.database.as_ref().expect("it was just opened");
        let result = write(database, pairs, meta);
        if let Err(source) = result {
            self.database = None;
            return Err(self.failed("write", source));
        }
        Ok(())
    }

    fn ensure_open(&mut self) -> Result<(), StoreError> {
        if self.database.is_some() {
            return Ok(());
        }
        match (self.opener)(&self.path) {
            Ok(database) => {
                self.database = Some(database);
                Ok(())
            }
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                Err(StoreError::InUse { path: self.path.clone() })
            }
            Err(source) => {
                Err(StoreError::Open { path: self.path.clone(), source: Box::new(source) })
            }
        }
    }

    fn meta(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let database = self.database.as_ref().expect("it was just opened");
        read_meta(database, key).map_err(|source| self.failed("read", source))
    }

    fn pairs(&self) -> Result<Vec<Pair>, redb::Error> {
        let database = self.database.as_ref().expect("it was just opened");
        let table = match database.begin_read()?.open_table(RECORDS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut pairs = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            pairs.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(pairs)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        what: &'static str,
        text: &[u8],
    ) -> Result<T, StoreError> {
        match postcard::take_from_bytes(text) {
            Ok((value, [])) => Ok(value),
            _ => Err(StoreError::Damaged { path: self.path.clone(), what, bytes: text.len() }),
        }
    }

    fn failed(&self, verb: &'static str, source: redb::Error) -> StoreError {
        StoreError::Io { verb, path: self.path.clone(), source: Box::new(source) }
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("what is kept has only types that postcard knows")
}

fn read_meta(database: &Database, key: &str) -> Result<Option<u64>, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    Ok(table.get(key)?.map(|value| value.value()))
}

fn write(database: &Database, pairs: &[Change], meta: &[(&str, u64)]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        let mut put = |key: &[u8], value: &Option<Vec<u8>>| -> Result<(), StorageError> {
            match value {
                Some(value) => table.insert(key, value.as_slice()).map(drop),
                None => table.remove(key).map(drop),
            }
        };
        for (key, value) in pairs {
            put(key, value)?;
        }
        let mut table = transaction.open_table(META)?;
        for (key, value) in meta {
            table.insert(key, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
