//! Where a generation begins, and what it has to know of the time before: definitions, and the marks of what was taken. Decides what of a start is
//! possible; it writes under the new generation only.
//!
//! A start is a whole minute, the same for all shards by their stamps: so balances, which are kept by the minute, fall to one side. Marks are cut at the
//! first record behind it as for a stream that has lost what lies before, so a copy of bytes that were taken before counts as a duplicate. Alarms begin
//! anew: what stood in them at a time past is in no resume point any more.

use std::collections::{BTreeMap, HashMap};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{self, ReadOnly, Stream},
};
use projections::{
    fold::snapshot,
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store, WriteError},
    when::Second,
};

use crate::{
    drive::SCAN_ROWS,
    replay::{ReplayError, kept::Brought},
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// All that there is.
    Oldest,
    /// The records that arrived from the minute of this time on, Unix milliseconds.
    Time(i64),
    /// Those from the minute on in which this record arrived.
    Position(ShardId, SequenceNumber),
}

/// Where a generation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Began {
    /// A whole minute, Unix milliseconds; `None`: with the first record that there ever was.
    pub start_ms: Option<i64>,
    /// The first record of each shard that has one behind the start.
    pub starts: BTreeMap<ShardId, SequenceNumber>,
}

/// It cannot begin there.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Gone.
    #[error(
        "the stream keeps no records from before {oldest}: the first whole minute that a replay can begin with is {from}; give --start {from} or later"
    )]
    Gone {
        /// The oldest record's arrival.
        oldest: Second,
        /// What can be had.
        from: Second,
    },
    /// Not there yet.
    #[error("no record arrived at or after {asked}: the newest is of {newest}; give an earlier --start")]
    Later {
        /// What was asked for.
        asked: Second,
        /// What there is.
        newest: Second,
    },
    /// No records.
    #[error("the stream is empty: there is nothing to replay")]
    Empty,
    /// No such place.
    #[error("the stream has no record {1} on {0}; `weir metrics -o json` and `weir verify --json` name positions")]
    NoSuchPosition(ShardId, SequenceNumber),
    /// The stream.
    #[error("the stream could not be read: {0}")]
    Stream(#[from] stream::ReadError),
    /// The rows.
    #[error("rows could not be read: {0}")]
    Read(#[from] ReadError),
    /// The rows.
    #[error("rows could not be written: {0}")]
    Write(#[from] WriteError),
    /// The marks.
    #[error(transparent)]
    Marks(#[from] ReplayError),
}

fn minute_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(60_000) * 60_000
}

/// Finds the place. `counts`: the generation that knows from where on the stream was folded.
pub async fn begin<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    counts: Generation,
    asked: &Start,
) -> Result<Began, BeginError> {
    let shards = stream.shards().await?;
    let (mut oldest_ms, mut is_whole) = (None, true);
    for shard in &shards {
        let Some(record) = stream.first_from(&shard.id, stream::Start::TrimHorizon).await? else { continue };
        oldest_ms = Some(oldest_ms.unwrap_or(i64::MAX).min(record.arrived_at_ms));
        let stored = store.checkpoint(counts, &shard.id).await?;
        let began = stored.and_then(|(_, parts)| snapshot::applied_from(&parts).ok());
        is_whole &= began.is_none_or(|began| began == SequenceNumber::ZERO || record.sequence <= began);
        // A parent that is not listed is gone with its records.
        is_whole &= shard.parents.iter().all(|parent| shards.iter().any(|shard| shard.id == *parent));
    }
    let Some(oldest_ms) = oldest_ms else { return Err(BeginError::Empty) };
    let start_ms = match asked {
        Start::Oldest if is_whole => None,
        Start::Oldest => Some(minute_of(oldest_ms + 59_999)),
        Start::Time(time_ms) if is_whole && *time_ms <= oldest_ms => None,
        Start::Time(time_ms) => Some(minute_of(*time_ms)),
        Start::Position(shard, position) => {
            let unknown = || BeginError::NoSuchPosition(shard.clone(), *position);
            if !shards.iter().any(|of| of.id == *shard) {
                return Err(unknown());
            }
            let record = stream.first_from(shard, stream::Start::At(*position)).await?;
            let record = record.filter(|record| record.sequence == *position).ok_or_else(unknown)?;
            Some(minute_of(record.arrived_at_ms))
        }
    };
    if start_ms.is_some_and(|start_ms| start_ms < oldest_ms && !is_whole) {
        let from = Second(minute_of(oldest_ms + 59_999) / 1000);
        return Err(BeginError::Gone { oldest: Second(oldest_ms.div_euclid(1000)), from });
    }
    let mut starts = BTreeMap::new();
    for shard in &shards {
        let from = start_ms.map_or(stream::Start::TrimHorizon, stream::Start::AtTimestamp);
        if let Some(record) = stream.first_from(&shard.id, from).await? {
            starts.insert(shard.id.clone(), record.sequence);
        }
    }
    if starts.is_empty() {
        let asked = Second(start_ms.unwrap_or_default().div_euclid(1000));
        return Err(BeginError::Later { asked, newest: newest(stream, &shards, oldest_ms).await? });
    }
    Ok(Began { start_ms, starts })
}

/// When the newest record arrived: found by halves, as no stream tells.
async fn newest<S: Stream>(
    stream: &ReadOnly<S>,
    shards: &[stream::Shard],
    oldest_ms: i64,
) -> Result<Second, stream::ReadError> {
    let (mut there, mut not_there) = (oldest_ms, i64::MAX / 4);
    while not_there - there > 1_000 {
        let middle = there + (not_there - there) / 2;
        let mut found = false;
        for shard in shards {
            found = found || stream.first_from(&shard.id, stream::Start::AtTimestamp(middle)).await?.is_some();
        }
        *(if found { &mut there } else { &mut not_there }) = middle;
    }
    Ok(Second(there.div_euclid(1000)))
}

/// Gives a generation what it has to know of the time before its start, from one that knows it. Again: the same rows, which stand.
pub async fn give<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    from: Generation,
    to: Generation,
    began: &Began,
) -> Result<(), BeginError> {
    if began.start_ms.is_none() {
        return Ok(());
    }
    let first = |shard: &ShardId| began.starts.get(shard).copied().unwrap_or(SequenceNumber::MAX);
    let shards = stream.shards().await?;
    let firsts: HashMap<ShardId, SequenceNumber> =
        shards.iter().map(|shard| (shard.id.clone(), first(&shard.id))).collect();
    let brought = Brought::read(stream, store, from, &firsts).await?;
    for kind in [Kind::Taken, Kind::Producer, Kind::Identified, Kind::Definition] {
        let span = Span::All { tenant: None, generation: from, kind };
        let mut after: Option<RowKey> = None;
        loop {
            let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
            let given = page.rows.into_iter().filter_map(|row| {
                let first = first(&row.key.shard);
                let mut row = brought.before(row, first)?;
                row.key.subject.generation = to;
                Some(row)
            });
            let given: Vec<Row> = given.collect();
            if !given.is_empty() {
                store.write(given).await?;
            }
            match page.next_after {
                Some(key) => after = Some(key),
                None => break,
            }
        }
    }
    Ok(())
}
