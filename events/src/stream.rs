//! The Stream port: the only way in. It decides what an append promised and what a reader may see, and never looks into a payload.
//!
//! Invariants that every adapter keeps (the suite in `law` checks them):
//! - A record that a reader has seen, or that an append acknowledged, is never lost and never changes.
//! - Sequence numbers of a shard grow strictly; a position is never used for two records, not even after a crash.
//! - A child's positions are higher than all of its parents': what has one order on a key keeps it when its shard is split or merged. (Kinesis
//!   developer guide, "Sequence Number": those of one partition key grow over time.)
//! - Arrival stamps of a shard never go back in the embedded adapter; Kinesis makes no such promise, so the fold takes the highest.

#[cfg(any(test, feature = "law"))]
pub mod law;

use std::{future::Future, num::NonZeroUsize, time::Duration};

use bytes::Bytes;

use crate::position::{HashKey, HashRange, SequenceNumber, ShardId};

/// Longest partition key in characters (Kinesis API reference, `PutRecordsRequestEntry`).
pub const PARTITION_KEY_CHARS_MAX: usize = 256;
/// Most bytes of payload and partition key together in one record.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most records in one append (Kinesis API reference, `PutRecords`).
pub const APPEND_RECORDS_MAX: usize = 500;

/// What a producer hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Decides the shard, by its hash, unless `hash_key` does.
    pub partition_key: String,
    /// Addresses a shard directly: a tick goes to every shard.
    pub hash_key: Option<HashKey>,
    /// One of the payloads of `wire`.
    pub data: Bytes,
}

impl Put {
    /// Refuses what no stream takes.
    pub fn check(&self) -> Result<(), Refused> {
        let invalid = |what: String| Err(Refused::Invalid(what));
        let bytes = self.partition_key.len() + self.data.len();
        match self.partition_key.chars().count() {
            0 => invalid("the partition key is empty".to_owned()),
            chars if chars > PARTITION_KEY_CHARS_MAX => invalid(format!(
                "the partition key has {chars} characters, at most {PARTITION_KEY_CHARS_MAX} are taken"
            )),
            _ if bytes > RECORD_BYTES_MAX => {
                invalid(format!("payload and partition key have {bytes} bytes, at most {RECORD_BYTES_MAX} are taken"))
            }
            _ => Ok(()),
        }
    }
}

/// Where a record was put: it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The shard that took it.
    pub shard: ShardId,
    /// Its position there.
    pub sequence: SequenceNumber,
}

/// One record of an append that did not happen; the others may have. Retrying it alone is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The shard takes no more just now: back off, then again.
    #[error("the shard is over its rate: retry after a pause")]
    Throttled,
    /// The stream failed for this record.
    #[error("the stream failed for this record: retry")]
    Failed,
    /// This record can never be taken.
    #[error("the stream takes no such record: {0}")]
    Invalid(String),
}

/// A whole append failed. The caller's only question: may it have happened?
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was appended.
    #[error("nothing was appended: {0}")]
    NotAppended(String),
    /// Some, all or none may have been appended: send the same bytes again under the same identity.
    #[error("the answer was lost; the records may have been appended: {0}")]
    Unknown(String),
}

/// What a reader gets back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in its shard.
    pub sequence: SequenceNumber,
    /// The stream's own stamp, Unix milliseconds.
    pub arrived_at_ms: i64,
    /// As it was put.
    pub partition_key: String,
    /// As it was put.
    pub data: Bytes,
}

/// One shard of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The keys that it owns, or owned.
    pub range: HashRange,
    /// The shards whose keys it took over: none, one (split) or two (merge). They stay named when they are not listed any more.
    pub parents: Vec<ShardId>,
    /// No more records will come.
    pub closed: bool,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// The oldest record that is still kept.
    TrimHorizon,
    /// The record at this position, or the first after it.
    At(SequenceNumber),
    /// The first record after this position.
    After(SequenceNumber),
    /// The first record that arrived at or after this time, Unix milliseconds.
    AtTimestamp(i64),
    /// Only what comes from now on.
    Latest,
}

/// How much one read may return, and how long it may wait for the first record.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most so many records.
    pub records: NonZeroUsize,
    /// Stop after the record that reaches this many bytes: one record always fits.
    pub bytes: usize,
    /// An empty page is only returned after so long (sooner if the adapter cannot wait).
    pub wait: Duration,
}

/// A page of records, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// May be empty although more will come: `behind_ms` tells.
    pub records: Vec<Record>,
    /// Where the next read goes on. `None`: the shard is closed and read to its end.
    pub next: Option<Start>,
    /// How much older than the shard's newest readable record the end of this page is; 0: nothing more was readable.
    pub behind_ms: u64,
}

/// A read that could not be answered. Nothing was changed; the same read may be tried again unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such shard (any more).
    #[error("the stream has no shard {0}")]
    NoSuchShard(ShardId),
    /// Records between the asked position and the oldest kept one are gone: a loss, to be said.
    #[error("{shard}: the records after {asked} were trimmed; the oldest kept one is {oldest}")]
    Trimmed {
        /// The shard.
        shard: ShardId,
        /// The position asked for.
        asked: SequenceNumber,
        /// The oldest record still there.
        oldest: SequenceNumber,
    },
    /// Try again later.
    #[error("the stream could not be read: {0}")]
    Unavailable(String),
    /// What is stored is not what was written: stop, and ask a person.
    #[error("{0}")]
    Damaged(String),
}

/// The role that Kinesis and the embedded stream play.
pub trait Stream: Send + Sync {
    /// Appends records and returns when each is durable or refused; the answers stand in the order of `puts`.
    ///
    /// Empty: an empty answer. More than `APPEND_RECORDS_MAX`: `NotAppended`. At the same time: allowed; order between calls is that of
    /// arrival, and the order of records within one call is kept only within a shard and only by the embedded adapter. The caller retries.
    fn append(
        &self,
        puts: Vec<Put>,
    ) -> impl Future<Output = Result<Vec<Result<Appended, Refused>>, AppendError>> + Send;

    /// All shards that still hold records or can take them, parents before children.
    fn shards(&self) -> impl Future<Output = Result<Vec<Shard>, ReadError>> + Send;

    /// Reads on from a place. Called twice with the same place: the same records again (and perhaps more of them).
    fn read(
        &self,
        shard: &ShardId,
        from: Start,
        limits: Limits,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send;
}

/// A stream whose type cannot append: what replay, backtest and verify are given. It can be read:
///
/// ```
/// use events::stream::{ReadOnly, Stream};
/// fn read<S: Stream>(stream: ReadOnly<S>) {
///     drop(stream.shards());
/// }
/// ```
///
/// And neither it nor what is inside can be made to append:
///
/// ```compile_fail,E0599
/// use events::stream::{ReadOnly, Stream};
/// fn append<S: Stream>(stream: ReadOnly<S>) {
///     drop(stream.append(vec![]));
/// }
/// ```
///
/// ```compile_fail,E0616
/// use events::stream::{ReadOnly, Stream};
/// fn append<S: Stream>(stream: ReadOnly<S>) {
///     drop(stream.0.append(vec![]));
/// }
/// ```
#[derive(Debug)]
pub struct ReadOnly<S>(std::sync::Arc<S>);

impl<S> Clone for ReadOnly<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Stream> ReadOnly<S> {
    /// Takes the right to append away.
    pub fn new(stream: std::sync::Arc<S>) -> Self {
        Self(stream)
    }

    /// As [`Stream::shards`].
    pub async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        self.0.shards().await
    }

    /// As [`Stream::read`].
    pub async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.0.read(shard, from, limits).await
    }

    /// The oldest record that is still kept.
    pub async fn oldest(&self, shard: &ShardId) -> Result<Option<SequenceNumber>, ReadError> {
        Ok(self.first(shard).await?.map(|record| record.sequence))
    }

    /// As `oldest`, the whole record. Behind an empty page that is not the tip there may still be one.
    pub async fn first(&self, shard: &ShardId) -> Result<Option<Record>, ReadError> {
        self.first_from(shard, Start::TrimHorizon).await
    }

    /// The first record from a place on.
    pub async fn first_from(&self, shard: &ShardId, mut from: Start) -> Result<Option<Record>, ReadError> {
        let limits = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };
        loop {
            let page = self.read(shard, from, limits).await?;
            match (page.records.into_iter().next(), page.next) {
                (None, Some(next)) if page.behind_ms > 0 => from = next,
                (first, _) => return Ok(first),
            }
        }
    }
}
