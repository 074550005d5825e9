//! The Store of one machine: rows and resume points in one file of an embedded database. `design.md` beside it says why this one.
//!
//! Invariants:
//! - A commit is one durable transaction: after a crash all of it is there, or nothing.
//! - Reads use snapshots and never wait for a write. Writes go through one thread, so no caller's thread waits for the disk.
//! - One opener at a time; a second is refused.

mod answer;
mod file;
mod format;
mod path;
mod read;
mod transaction;
mod writer;

#[cfg(all(test, feature = "law"))]
mod tests;

use std::{io, num::NonZeroUsize, path::Path, sync::Arc, thread::JoinHandle};

use bytes::Bytes;
use events::position::ShardId;

pub use self::file::panic_becomes_an_error;
use self::{
    file::File,
    transaction::Offered,
    writer::{Queue, disk_said},
};
use crate::store::{
    Checkpoint, Commit, Committed, Day, Generation, KeyRef, Kind, NAME_BYTES_MAX, PART_BYTES_MAX, ROW_BYTES_MAX,
    ReadError, Row, RowKey, Rows, Span, Store, WriteError, Written, key,
};

/// Most memory that the database's pages take: the least recently used are dropped; half of it may hold pages to be written, more go to the
/// file at once.
pub const CACHE_BYTES_MAX: usize = 8 << 20;
/// Most writes that wait for the writing thread; one more is refused with `NotWritten`.
pub const WRITES_WAITING_MAX: usize = 64;
/// Most writes that share a transaction; more wait for the next.
pub const WRITES_TOGETHER_MAX: usize = 16;
/// Most rows that `expire` looks at before it removes those that are past their time, in one transaction; other writes may come between.
pub const EXPIRED_TOGETHER_MAX: usize = 10_000;
/// A page of a scan ends behind the row whose body brings it to this size.
pub const SCAN_BYTES_MAX: usize = 8 << 20;

/// The file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it open.
    #[error(
        "{name} is in use by another process (or opened twice by this one); stop the other, or choose another data folder"
    )]
    InUse {
        /// The file.
        name: String,
    },
    /// It was written by another version of this program.
    #[error(
        "{name} has format {found}, this program knows format {known}; use the program that wrote it, or move it away to rebuild it by replay"
    )]
    Version {
        /// The file.
        name: String,
        /// What it says of itself.
        found: u64,
        /// What we would write.
        known: u64,
    },
    /// It is not ours.
    #[error(
        "{name} is not a store of this program; choose another data folder, or, if rows of this folder stood there, move it away to rebuild them by replay"
    )]
    Foreign {
        /// The file.
        name: String,
    },
    /// What it holds is not what was written.
    #[error("{name} is damaged ({detail}); move it away to rebuild it by replay, or restore a copy")]
    Damaged {
        /// The file.
        name: String,
        /// What the database found.
        detail: String,
    },
    /// The system refused.
    #[error("{name} could not be opened")]
    Refused {
        /// The file.
        name: String,
        /// What it said.
        source: io::Error,
    },
}

impl OpenError {
    fn with_cause(&self) -> String {
        match self {
            Self::Refused { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Rows and resume points in one file. Dropping it waits for the writes that were handed in, and gives the file back.
pub struct Embedded {
    file: Arc<File>,
    /// `None` only while it is dropped.
    writer: Option<(Queue, JoinHandle<()>)>,
}

impl Embedded {
    /// Opens the file, or makes it; its folder must be there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |source| OpenError::Refused { name: path.display().to_string(), source };
        if !path.try_exists().map_err(refused)? {
            path::make(path)?;
        }
        Self::over(path.display().to_string(), path::storage(path, false))
    }

    /// Over any storage, which is asked for again after an error: for tests that pull the plug.
    pub fn over(
        name: String,
        storage: impl Fn() -> io::Result<Box<dyn redb::StorageBackend>> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let refused = |name: &str, source| OpenError::Refused { name: name.to_owned(), source };
        let file = Arc::new(File::open(name, Box::new(storage))?);
        let writer = writer::start(Arc::clone(&file)).map_err(|source| refused(file.name(), source))?;
        Ok(Self { file, writer: Some(writer) })
    }

    /// In memory, gone when dropped: for tests of others that need a store.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::over("memory".to_owned(), || Ok(Box::new(redb::backends::InMemoryBackend::new())))
    }

    fn queue(&self) -> Result<&Queue, WriteError> {
        let closed = || WriteError::NotWritten("it is being closed".to_owned());
        self.writer.as_ref().map(|(queue, _)| queue).ok_or_else(closed)
    }

    fn reading<T>(&self, read: impl FnOnce(&redb::Database) -> Result<T, read::Trouble>) -> Result<T, ReadError> {
        match self.file.with(read) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(read::Trouble::Damaged(what))) => Err(ReadError::Damaged(format!(
                "{what} in {}; restore a copy, or move the file away to rebuild it by replay",
                self.file.name()
            ))),
            Ok(Err(read::Trouble::Reader(error))) => Err(error),
            Ok(Err(read::Trouble::Database(redb::Error::Corrupted(detail)))) => {
                Err(ReadError::Damaged(OpenError::Damaged { name: self.file.name().to_owned(), detail }.to_string()))
            }
            Ok(Err(read::Trouble::Database(error))) => {
                self.file.mark_broken();
                Err(ReadError::Unavailable(disk_said(self.file.name(), &error)))
            }
            Err(error @ (OpenError::Damaged { .. } | OpenError::Foreign { .. })) => {
                Err(ReadError::Damaged(error.to_string()))
            }
            Err(error) => Err(ReadError::Unavailable(error.with_cause())),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some((queue, thread)) = self.writer.take() {
            drop(queue);
            // A writer that panicked has told its callers already: their answers are lost.
            drop(thread.join());
        }
    }
}

impl Store for Embedded {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let offered = offer(rows)?;
        self.queue()?.put(move |transaction| transaction::put_rows(transaction, &offered)).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        let Commit { rows, parts, checkpoint } = commit;
        check_checkpoint(&checkpoint, &parts)?;
        let offered = offer(rows)?;
        let work = move |transaction: &_| {
            let rows = transaction::put_rows(transaction, &offered)?;
            let checkpoint = transaction::move_checkpoint(transaction, &checkpoint, &parts)?;
            Ok(Committed { rows, checkpoint })
        };
        self.queue()?.put(work).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.reading(|database| read::checkpoint(database, generation, shard))
    }

    async fn resume_point(&self, generation: Generation, shard: &ShardId) -> Result<Option<Checkpoint>, ReadError> {
        self.reading(|database| read::resume_point(database, generation, shard))
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        self.reading(|database| read::rows(database, keys))
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        self.reading(|database| read::scan(database, span, after, limit.get()))
    }

    async fn walk(
        &self,
        span: &Span,
        after: Option<&RowKey>,
        limit: NonZeroUsize,
        each: impl FnMut(KeyRef<'_>, &[u8]) -> Result<bool, ReadError> + Send,
    ) -> Result<Option<RowKey>, ReadError> {
        self.reading(|database| read::walk(database, span, after, limit.get(), each))
    }

    /// Looks at every row of the kind: on a snapshot, so that no write waits for that.
    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        let (mut removed, mut after) = (0, None);
        while kind.expires() {
            let of = (generation, kind, before);
            let (past, next) = self
                .reading(|database| read::past(database, of, after.as_ref(), EXPIRED_TOGETHER_MAX))
                .map_err(|error| WriteError::NotWritten(error.to_string()))?;
            if !past.is_empty() {
                removed +=
                    self.queue()?.put(move |transaction| transaction::expire(transaction, &past, before)).await?;
            }
            if next.is_none() {
                break;
            }
            after = next;
        }
        Ok(removed)
    }
}

/// Rows in the order of their keys, or why they cannot be stored.
fn offer(rows: Vec<Row>) -> Result<Vec<Offered>, WriteError> {
    let mut offered = Vec::with_capacity(rows.len());
    for (place, row) in rows.into_iter().enumerate() {
        let key = key::encode(&row.key).map_err(|error| WriteError::NotWritten(error.to_string()))?;
        if row.body.len() > ROW_BYTES_MAX {
            let bytes = row.body.len();
            return Err(WriteError::NotWritten(format!(
                "the row with {} has {bytes} bytes, {ROW_BYTES_MAX} are allowed",
                row.key
            )));
        }
        // Its name is in the key's bytes, and its body in the value's: a commit's thousands of rows are held once.
        offered.push(Offered { place, applied_through: row.applied_through, value: format::row(&key, &row), key });
    }
    // Stable: of two rows with one key the first comes first.
    offered.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(offered)
}

fn check_checkpoint(checkpoint: &Checkpoint, parts: &[(crate::store::PartName, Bytes)]) -> Result<(), WriteError> {
    let not_written = |text: String| Err(WriteError::NotWritten(text));
    let shard = checkpoint.shard.as_str();
    if shard.len() > key::SHARD_BYTES_MAX || shard.contains('\0') {
        return not_written(format!(
            "the shard's name `{shard}` holds a NUL byte or has more than {} bytes",
            key::SHARD_BYTES_MAX
        ));
    }
    if let Some(name) = checkpoint.parts.iter().find(|name| name.0.len() > NAME_BYTES_MAX) {
        return not_written(format!("the name of part `{}` has more than {NAME_BYTES_MAX} bytes", name.0));
    }
    match parts.iter().find(|(_, body)| body.len() > PART_BYTES_MAX) {
        Some((name, body)) => {
            not_written(format!("part `{}` has {} bytes, {PART_BYTES_MAX} are allowed", name.0, body.len()))
        }
        None => Ok(()),
    }
}
