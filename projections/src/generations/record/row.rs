//! The record's row: how it is kept, and that of two who change it at the same time one loses. Decides nothing of what it says.

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use serde::{Deserialize, Serialize};

use super::Record;
use crate::store::{Day, Generation, Kind, Partial, ReadError, Row, RowKey, Store, Subject, WriteError, Written};

/// The generation under which the record lies: no fold writes there.
const OUTSIDE: Generation = Generation(u32::MAX);

/// The record as it was read, with its version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// What it says.
    pub record: Record,
    version: u64,
}

impl Read {
    /// Each change of it makes one more: of two that were read, the higher one is the newer.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    record: Record,
}

const VERSION: u8 = 1;

fn key() -> RowKey {
    let tenant = events::identity::LOCAL_TENANT.to_owned();
    let subject = Subject { tenant, generation: OUTSIDE, kind: Kind::Generations, name: String::new() };
    RowKey { subject, at: 0, shard: ShardId::named(""), partial: Partial(0), page: 0 }
}

/// Reads it; nothing is there: nothing was ever replayed.
pub async fn read<S: Store>(store: &S) -> Result<Read, ReadError> {
    let Some(row) = store.read(&[key()]).await?.into_iter().next().flatten() else { return Ok(Read::default()) };
    let damaged =
        |why: &dyn std::fmt::Display| ReadError::Damaged(format!("the list of generations cannot be read: {why}"));
    let stored: Stored = rmp_serde::from_slice(&row.body).map_err(|error| damaged(&error))?;
    if stored.version != VERSION {
        return Err(damaged(&format!("it has version {}, and this program reads {VERSION}", stored.version)));
    }
    let version = row.applied_through.parts().map_or(0, |(_, version)| version);
    Ok(Read { record: stored.record, version })
}

/// Replaces what was read. False: somebody else did so before; read it again. After an error it may have been replaced: read it again too.
pub async fn write<S: Store>(store: &S, read: &Read, record: &Record) -> Result<bool, WriteError> {
    let stored = Stored { version: VERSION, record: record.clone() };
    let body = Bytes::from(rmp_serde::to_vec_named(&stored).expect("a record of strings and numbers always encodes"));
    let version = SequenceNumber::from_parts(0, read.version + 1);
    let row = Row {
        key: key(),
        applied_from: version,
        applied_through: version,
        folded_on: Day(0),
        fold_revision: crate::fold::FOLD_REVISION,
        body,
    };
    Ok(store.write(vec![row]).await?.into_iter().all(|written| written == Written::Stored))
}
