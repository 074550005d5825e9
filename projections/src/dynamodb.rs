//! The Store on AWS: rows and resume points in three DynamoDB tables. `dynamodb/design.md` has each key's layout and each operation's units.
//!
//! Invariants:
//! - A row, a part and a resume point are each written on a condition, so what is late, repeated or from a zombie changes nothing.
//! - Before the first row of a partition stands, the partition is listed: so no read ever scans a table, and none misses a row.
//! - Nothing is read from an index, and every read is consistent.
//! - Every request, page and number of requests at once has a bound, and throttles are waited out up to one.

mod bound;
mod call;
mod commit;
mod expire;
mod item;
mod keep;
mod layout;
mod listed;
mod metrics;
mod read;
mod reading;
mod tables;
mod walk;
mod write;

#[cfg(all(test, feature = "law"))]
mod tests;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::Client;
use bytes::Bytes;
use events::position::ShardId;

use self::{
    call::{Meter, Pace},
    commit::{HELD_BYTES_MAX, Remembered},
    keep::Kept,
    layout::Table,
    listed::Known,
};
pub use self::{
    call::{TRIES_MAX, Units},
    reading::{Entry, Reached},
    tables::{Create, OpenError},
};
use crate::store::{
    Checkpoint, Commit, Committed, Day, Generation, Kind, ReadError, Row, RowKey, Rows, Span, Store, WriteError,
    Written,
};

/// Most writes of one call that are on their way at once; more wait for one of these.
pub const WRITES_AT_ONCE_MAX: usize = 64;
/// Most reads of one call that are on their way at once.
pub const READS_AT_ONCE_MAX: usize = 8;
/// A page of a scan ends behind the row whose body brings it to this size.
pub const SCAN_BYTES_MAX: usize = 8 << 20;

const DAY_SECS: i64 = 24 * 60 * 60;

/// Rows and resume points in the tables of one prefix.
pub struct DynamoDb {
    client: Client,
    metrics: String,
    state: String,
    checkpoints: String,
    pace: Pace,
    meter: Meter,
    kept: Mutex<Kept>,
    /// The day on which it is.
    today: fn() -> Day,
    known: Mutex<Known>,
    remembered: Mutex<HashMap<(Generation, ShardId), Remembered>>,
    held_bytes_max: usize,
}

impl DynamoDb {
    /// Finds the tables, makes those that are missing if it may, and waits until they can be used; with the names of those that it made. The client's retries are turned off: whether a
    /// request that was lost may have happened has to be known here.
    pub async fn open(client: &Client, prefix: &str, create: Create) -> Result<(Self, Vec<String>), OpenError> {
        let store = Self::over(client, prefix);
        let made = store.open_tables(create).await?;
        Ok((store, made))
    }

    /// Without a look at the tables.
    fn over(client: &Client, prefix: &str) -> Self {
        let name = |table: Table| format!("{prefix}-{}", table.suffix());
        Self {
            client: tables::without_retries(client),
            metrics: name(Table::Metrics),
            state: name(Table::State),
            checkpoints: name(Table::Checkpoints),
            pace: Pace::default(),
            meter: Meter::default(),
            kept: Mutex::default(),
            today,
            known: Mutex::default(),
            remembered: Mutex::default(),
            held_bytes_max: HELD_BYTES_MAX,
        }
    }

    /// The units that this store's requests have consumed, as the service counted them. It does not count those of failed conditions.
    pub fn units(&self) -> Units {
        self.meter.units()
    }

    fn name(&self, table: Table) -> &str {
        match table {
            Table::Metrics => &self.metrics,
            Table::State => &self.state,
            Table::Checkpoints => &self.checkpoints,
        }
    }
}

fn today() -> Day {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Day::of(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// What a panic left is still true: each change of it is one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for DynamoDb {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        let offered = write::offer(rows)?;
        self.put_rows(offered).await.map_err(WriteError::from)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        self.put_commit(commit).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.read_checkpoint(generation, shard).await
    }

    async fn resume_point(&self, generation: Generation, shard: &ShardId) -> Result<Option<Checkpoint>, ReadError> {
        let standing = self.read_point(&(generation, shard.clone())).await?;
        Ok(standing.map(|standing| standing.of(generation, shard)))
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        self.read_rows(keys).await
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        self.walk_rows(span, after, limit.get()).await
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        self.expire_rows(generation, kind, before).await
    }

    fn is_past(&self, kind: Kind, folded_on: Day) -> bool {
        self.is_past_time(kind, folded_on)
    }
}
