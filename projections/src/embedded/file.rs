//! The database's file: opening it, and opening it again after the disk refused something. It knows no rows.
//!
//! Invariants:
//! - After a failed write the database is opened again, so that one full disk does not end the process.
//! - After a failed sync nothing is written again: the system may have dropped what it could not write, and would say so only once.

use std::{
    cell::Cell,
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, Database, ReadableDatabase, StorageBackend, TableDefinition, TableHandle};

use super::{CACHE_BYTES_MAX, OpenError, format};

/// Format version and count of transactions.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Rows by key.
pub(super) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Resume points by generation and shard.
pub(super) const CHECKPOINTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("checkpoints");
/// Parts by generation, shard and name.
pub(super) const PARTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("parts");

const FORMAT: &str = "format";
const TRANSACTIONS: &str = "transactions";

/// Gives the storage again, each time that the database is opened.
pub(super) type Storage = dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync;

/// The database and how to get it back.
pub(super) struct File {
    name: String,
    storage: Box<Storage>,
    /// `None` while the disk refuses even to open it.
    database: RwLock<Option<Database>>,
    broken: AtomicBool,
    sync_failed: Arc<AtomicBool>,
}

impl File {
    pub(super) fn open(name: String, storage: Box<Storage>) -> Result<Self, OpenError> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let database = open_database(&name, &storage, &sync_failed)?;
        let database = RwLock::new(Some(database));
        Ok(Self { name, storage, database, broken: AtomicBool::new(false), sync_failed })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True once a sync has failed.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Says that the database answered with an error of the disk; whoever comes next opens it again.
    pub(super) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Calls `with` with the database, opened again if it has to be. Many may be inside at once. The database panics where it meets pages that
    /// make no sense; that is damage, and not the end of the caller's thread.
    pub(super) fn with<T>(&self, with: impl FnOnce(&Database) -> T) -> Result<T, OpenError> {
        loop {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if !self.broken.load(Ordering::Acquire)
                && let Some(database) = database.as_ref()
            {
                return no_panic(&self.name, || with(database)).inspect_err(|_| self.mark_broken());
            }
            drop(database);
            self.reopen()?;
        }
    }

    /// Waits until nobody is inside, so that the old handle has given its lock back.
    fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() || self.broken.load(Ordering::Acquire) {
            self.close(database.take());
            *database = Some(open_database(&self.name, &self.storage, &self.sync_failed)?);
            self.broken.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Closing writes, and so may meet damage; what was acknowledged is safe without it.
    fn close(&self, database: Option<Database>) {
        let _ = no_panic(&self.name, || drop(database));
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.close(database);
    }
}

/// Raises the count of transactions, by which one finds out whether a commit with a lost answer happened.
pub(super) fn count_transaction(transaction: &redb::WriteTransaction) -> Result<u64, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let count = redb::ReadableTable::get(&meta, TRANSACTIONS)?.map_or(0, |count| count.value()) + 1;
    meta.insert(TRANSACTIONS, count)?;
    Ok(count)
}

/// The number of the last transaction that stands.
pub(super) fn transactions(database: &Database) -> Result<u64, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get(TRANSACTIONS)?.map_or(0, |count| count.value()))
}

fn open_database(name: &str, storage: &Storage, sync_failed: &Arc<AtomicBool>) -> Result<Database, OpenError> {
    let refused = |source: io::Error| OpenError::Refused { name: name.to_owned(), source };
    let storage = Watched { storage: storage().map_err(refused)?, sync_failed: Arc::clone(sync_failed) };
    let open = || Database::builder().set_cache_size(CACHE_BYTES_MAX).create_with_backend(storage);
    let database = no_panic(name, open)?.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { name: name.to_owned() },
        error => because(name, error.into()),
    })?;
    no_panic(name, || check_format(name, &database))??;
    Ok(database)
}

thread_local! {
    /// How deep this thread is in `no_panic`.
    static WITHIN: Cell<usize> = const { Cell::new(0) };
}

/// True where a panic of this thread becomes an error that says what is damaged: a program that prints panics need not print this one.
pub fn panic_becomes_an_error() -> bool {
    WITHIN.get() > 0
}

fn no_panic<T>(name: &str, with: impl FnOnce() -> T) -> Result<T, OpenError> {
    WITHIN.set(WITHIN.get() + 1);
    let answer = catch_unwind(AssertUnwindSafe(with));
    WITHIN.set(WITHIN.get() - 1);
    answer.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let detail = said.map_or("a page makes no sense".to_owned(), |said| format!("a page makes no sense: {said}"));
        OpenError::Damaged { name: name.to_owned(), detail }
    })
}

fn check_format(name: &str, database: &Database) -> Result<(), OpenError> {
    let because = |error| because(name, error);
    let tables: Vec<_> = (|| {
        let tables = database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
        Ok(tables)
    })()
    .map_err(because)?;
    if tables.is_empty() {
        return create_tables(database).map_err(because);
    }
    let found = (|| {
        let meta = match database.begin_read()?.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::Storage(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        Ok(meta.get(FORMAT)?.map(|version| version.value()))
    })()
    .map_err(because)?;
    match found {
        Some(format::VERSION) => Ok(()),
        Some(found) => Err(OpenError::Version { name: name.to_owned(), found, known: format::VERSION }),
        None => Err(OpenError::Foreign { name: name.to_owned() }),
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(META)?.insert(FORMAT, format::VERSION)?;
    transaction.open_table(ROWS)?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(PARTS)?;
    Ok(transaction.commit()?)
}

fn because(name: &str, error: redb::Error) -> OpenError {
    let name = name.to_owned();
    match error {
        // What the database says of a file whose first bytes are not its own.
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => OpenError::Foreign { name },
        // The file ends before what its first bytes promise.
        redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            OpenError::Damaged { name, detail: "it is cut short".to_owned() }
        }
        redb::Error::Io(source) => OpenError::Refused { name, source },
        error => OpenError::Damaged { name, detail: error.to_string() },
    }
}

/// Storage that remembers a failed sync: the database only says that something failed.
#[derive(Debug)]
struct Watched {
    storage: Box<dyn StorageBackend>,
    sync_failed: Arc<AtomicBool>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}
