//! The whole system in one process: the stream, a worker for each shard, the store, the ticker; on a data folder, or on Kinesis and DynamoDB.
//!
//! A data folder holds:
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | held by the one process that has the folder open, and names it |
//! | `address` | how other commands reach that process, while it serves |
//! | `stream/` | the embedded stream |
//! | `rows.redb` | rows and resume points |
//! | `rows-new.redb` | rows that are being made anew, beside the old ones |
//! | `verify-*.redb` | what `verify` folds into, for as long as it runs |
//! | `readers*/` | which files were read, and how far, for each tenant and system; `readers*.known` says that there is such a list |
//!
//! Beside Kinesis and DynamoDB it is a cache: only the last two, and any number of processes may use it.

#[cfg(feature = "aws")]
mod apart;
mod archive;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "aws")]
pub mod batches;
mod causes;
mod folder;
mod generations;
#[cfg(feature = "aws")]
mod leasing;
mod local;
mod made;
mod operator;
mod pair;
mod reshard;
mod run;
mod sink;
#[cfg(test)]
mod staged;
mod system;
mod ticker;
mod verifying;
mod waiting;
mod workers;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::{SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "aws")]
pub use apart::Apart;
pub use archive::{AnyObjects, OpenArchiveError, check_archive, look_at_archive};
pub use causes::with_causes;
pub use folder::{holder, serving, serving_as};
pub use generations::starts::check as check_start;
pub use local::{OpenError, Options, SHARDS_MAX};
pub use made::Opening;
pub use pair::{AnyStore, AnyStream, LocalStore, LocalStream};
pub use system::{HeldUp, System};
pub use verifying::VERIFY;

/// How the names of folders begin that list which files were read into the stream beside them.
pub const LISTS: &str = "readers";
/// How the names of folders begin that list which files were read into other systems: their positions say nothing about this stream.
pub const LISTS_ELSEWHERE: &str = "readers-at-";

/// Unix milliseconds by the host's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Another number each time, which nobody has to be kept from guessing: names of openings, and pauses that should not meet.
pub(crate) fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}
