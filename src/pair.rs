//! The stream and the store that a system works on: one machine's, or AWS's. Decides by which of them a call is carried out, and what is a property
//! of the pair: how often is committed, and whether a worker that failed may try again. Everything else knows the ports alone.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
#[cfg(feature = "aws")]
use events::kinesis::{FanOut, Kinesis};
use events::{
    embedded::{self as stream, disk::RealDisk},
    position::ShardId,
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, Refused, Shard, Start, Stream},
};
use processor::consume::Cadence;
#[cfg(feature = "aws")]
use projections::dynamodb::DynamoDb;
use projections::{
    embedded as rows,
    store::{
        self, Checkpoint, Commit, Committed, Day, Generation, KeyRef, Kind, Row, RowKey, Rows, Span, Store, WriteError,
        Written,
    },
};

/// The stream of a data folder.
pub type LocalStream = stream::Embedded<RealDisk>;
/// The store of a data folder.
pub type LocalStore = rows::Embedded;

/// The stream of a system.
pub enum AnyStream {
    /// Of a data folder.
    Local(LocalStream),
    /// Of an AWS account.
    #[cfg(feature = "aws")]
    Kinesis(Kinesis),
    /// The same, whose records are pushed to a consumer of its own.
    #[cfg(feature = "aws")]
    FanOut(Box<FanOut>),
}

/// The rows of a system.
pub enum AnyStore {
    /// Of a data folder.
    Local(LocalStore),
    /// Of an AWS account.
    #[cfg(feature = "aws")]
    DynamoDb(Box<DynamoDb>),
}

/// How workers treat a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// How long what is folded waits for its commit.
    pub(crate) cadence: Cadence,
    /// How long a worker that has nothing to commit waits for a record.
    pub(crate) idle_wait: Duration,
    /// How long it waits while a commit is outstanding.
    pub(crate) busy_wait: Duration,
    /// Between two looks at the list of shards.
    pub(crate) shards_look: Duration,
    /// Between two looks of a shard that follows how far the one that counts has come.
    pub(crate) follow_look: Duration,
    /// Between two looks of a shard that goes on with another generation, as soon as that has come so far.
    pub(crate) turn_look: Duration,
    /// This process alone has the pair: what was appended is folded before it ends, and a failure ends it, as nobody else can have caused it.
    pub(crate) is_alone: bool,
}

impl Manner {
    /// A data folder.
    pub(crate) const LOCAL: Self = Self {
        cadence: Cadence::EMBEDDED,
        idle_wait: Duration::from_millis(250),
        busy_wait: Duration::from_millis(20),
        shards_look: Duration::from_millis(250),
        follow_look: Duration::from_millis(20),
        turn_look: Duration::from_millis(20),
        is_alone: true,
    };

    /// Kinesis and DynamoDB: a shard may be read five times a second by all who read it, and `ListShards` is shared by the account.
    #[cfg(feature = "aws")]
    pub(crate) const AWS: Self = Self {
        cadence: Cadence::PAID,
        idle_wait: Duration::from_secs(1),
        busy_wait: Duration::from_secs(1),
        shards_look: Duration::from_secs(10),
        follow_look: Duration::from_secs(1),
        turn_look: Duration::from_millis(250),
        is_alone: false,
    };
}

impl AnyStream {
    /// The stream of a data folder, if it is one.
    pub(crate) fn local(&self) -> Option<&LocalStream> {
        match self {
            Self::Local(stream) => Some(stream),
            #[cfg(feature = "aws")]
            Self::Kinesis(_) | Self::FanOut(_) => None,
        }
    }
}

impl AnyStream {
    /// Why appends or reads have not got anywhere for some seconds, although they go on trying.
    pub(crate) fn trouble(&self) -> Option<String> {
        match self {
            Self::Local(_) => None,
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.trouble(),
            #[cfg(feature = "aws")]
            Self::FanOut(stream) => stream.stream().trouble(),
        }
    }
}

impl Stream for AnyStream {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        match self {
            Self::Local(stream) => stream.append(puts).await,
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.append(puts).await,
            #[cfg(feature = "aws")]
            Self::FanOut(stream) => stream.append(puts).await,
        }
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        match self {
            Self::Local(stream) => stream.shards().await,
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.shards().await,
            #[cfg(feature = "aws")]
            Self::FanOut(stream) => stream.shards().await,
        }
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        match self {
            Self::Local(stream) => stream.read(shard, from, limits).await,
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.read(shard, from, limits).await,
            #[cfg(feature = "aws")]
            Self::FanOut(stream) => stream.read(shard, from, limits).await,
        }
    }
}

impl Store for AnyStore {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        match self {
            Self::Local(store) => store.write(rows).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.write(rows).await,
        }
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        match self {
            Self::Local(store) => store.commit(commit).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.commit(commit).await,
        }
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, store::ReadError> {
        match self {
            Self::Local(store) => store.checkpoint(generation, shard).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.checkpoint(generation, shard).await,
        }
    }

    async fn resume_point(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<Checkpoint>, store::ReadError> {
        match self {
            Self::Local(store) => store.resume_point(generation, shard).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.resume_point(generation, shard).await,
        }
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, store::ReadError> {
        match self {
            Self::Local(store) => store.read(keys).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.read(keys).await,
        }
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, store::ReadError> {
        match self {
            Self::Local(store) => store.scan(span, after, limit).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.scan(span, after, limit).await,
        }
    }

    async fn walk(
        &self,
        span: &Span,
        after: Option<&RowKey>,
        limit: NonZeroUsize,
        each: impl FnMut(KeyRef<'_>, &[u8]) -> Result<bool, store::ReadError> + Send,
    ) -> Result<Option<RowKey>, store::ReadError> {
        match self {
            Self::Local(store) => store.walk(span, after, limit, each).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.walk(span, after, limit, each).await,
        }
    }

    fn is_past(&self, kind: Kind, folded_on: Day) -> bool {
        match self {
            Self::Local(store) => store.is_past(kind, folded_on),
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.is_past(kind, folded_on),
        }
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        match self {
            Self::Local(store) => store.expire(generation, kind, before).await,
            #[cfg(feature = "aws")]
            Self::DynamoDb(store) => store.expire(generation, kind, before).await,
        }
    }
}
