//! Why the stream cannot be opened or trimmed: each says the thing, the cause and the next step.

use std::io;

use super::time;
use crate::position::ShardId;

/// The stream cannot be opened. Nothing was appended; what was there is still there.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{folder} is in use by another process: stop that one, go through it, or choose another folder")]
    InUse {
        /// The folder.
        folder: String,
    },
    /// What is stored is not what was written.
    #[error("{file} is damaged at byte {offset}: {what}; {next_step}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
        /// What a person can do.
        next_step: String,
    },
    /// A newer program wrote it.
    #[error("{file} has format version {version}, this program knows 1: use the newer program")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The host's clock went back, or the stamps were written by one that was ahead.
    #[error(
        "the host's clock says {} but the newest record was stamped {}: set the clock, or confirm that it is right",
        time::rfc3339(*clock_ms), time::rfc3339(*newest_ms)
    )]
    ClockBehind {
        /// What the clock says, Unix milliseconds.
        clock_ms: i64,
        /// The newest stamp, Unix milliseconds.
        newest_ms: i64,
    },
    /// A file could not be read or written.
    #[error("{file} could not be {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// Segments could not be removed; those that were stay removed.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// There is no such shard.
    #[error("the stream has no shard {0}")]
    NoSuchShard(ShardId),
    /// The stream has ended.
    #[error("the stream has ended: {0}")]
    Ended(String),
    /// A file could not be removed.
    #[error("{file} could not be removed")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
}
