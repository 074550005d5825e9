//! Why a worker cannot go on: which shard, the cause, and where people have to do something, what.

use events::{
    position::{SequenceNumber, ShardId},
    stream::ReadError,
};
use projections::{
    fold::{FOLD_REVISION, snapshot::BadSnapshot},
    store::{self, WriteError},
};

use crate::drive::DriveError;

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The fold or its reads.
    #[error("{shard}: {source}")]
    Drive {
        /// The shard.
        shard: ShardId,
        /// The cause.
        source: DriveError,
    },
    /// The stream could not be read.
    #[error("{shard}: {source}")]
    Stream {
        /// The shard.
        shard: ShardId,
        /// The cause.
        source: ReadError,
    },
    /// The resume point could not be read.
    #[error("{shard}: the resume point could not be read: {source}")]
    Checkpoint {
        /// The shard.
        shard: ShardId,
        /// The cause.
        source: store::ReadError,
    },
    /// The snapshot of the resume point could not be read.
    #[error("{shard}: {source}")]
    Snapshot {
        /// The shard.
        shard: ShardId,
        /// The cause.
        source: BadSnapshot,
    },
    /// What the resume point holds of other shards' words could not be read.
    #[error("{shard}: what its resume point holds of what shards told each other cannot be read: {why}")]
    Kept {
        /// The shard.
        shard: ShardId,
        /// The cause.
        why: String,
    },
    /// The rows were made by another revision of the fold: by a later one, or they have to be made anew first.
    #[error(
        "{shard}: its rows were made by revision {stored} of the fold; this program has {FOLD_REVISION}, and goes on only with rows of its own. \
         Use the program that made them, or a newer one"
    )]
    Revision {
        /// The shard.
        shard: ShardId,
        /// What made the rows.
        stored: u32,
    },
    /// The stream ends before the resume point: it was replaced or cut.
    #[error(
        "{shard}: the rows hold records up to {resume_point:?}, but the stream ends at {tip:?}. The two do not belong together: restore \
         both from one backup"
    )]
    StreamShorter {
        /// The shard.
        shard: ShardId,
        /// Where the rows are.
        resume_point: SequenceNumber,
        /// Where the stream ends.
        tip: SequenceNumber,
    },
    /// Rows or the resume point could not be written.
    #[error("{shard}: {source}")]
    Write {
        /// The shard.
        shard: ShardId,
        /// The cause.
        source: WriteError,
    },
    /// An effect could not be carried out.
    #[error("{shard}: an event of this shard could not be appended: {why}")]
    Effect {
        /// The shard.
        shard: ShardId,
        /// The cause.
        why: String,
    },
    /// A parent was not read to its end: try again later.
    #[error("{shard}: its parent {parent} has not ended yet")]
    NotYet {
        /// The shard.
        shard: ShardId,
        /// The parent.
        parent: ShardId,
    },
    /// A step before this one failed, or was given up half way.
    #[error("{0}: this worker has failed before; another one has to start from the resume point")]
    Failed(ShardId),
    /// Another worker has moved the resume point past ours.
    #[error("{shard}: another worker has gone on to {position:?}; this one stops")]
    Overtaken {
        /// The shard.
        shard: ShardId,
        /// Its resume point.
        position: SequenceNumber,
    },
}
