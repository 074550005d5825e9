//! Where a generation begins, and what it has to know of the time before: definitions, and the marks of what was taken. Decides what of a start is
//! possible; it writes under the new generation only.
//!
//! A start is a whole minute, the same for all shards by their stamps: so balances, which are kept by the minute, fall to one side. Marks are cut at the
//! first record behind it as for a stream that has lost what lies before, so a copy of bytes that were taken before counts as a duplicate. Alarms begin
//! anew: what stood in them at a time past is in no resume point any more.
//!
//! | of a shard the stream has | the generation begins it |
//! | --- | --- |
//! | records behind the start | at the first of them, with the marks of what came before |
//! | nothing behind the start yet | at what comes next, with all marks |
//! | its end before the start, or does not list it, and lists a child | not: it has ended, and its children know it by its end, which is given |
//! | records before the start that are not folded | nowhere: its marks are not known yet (`BeginError::Unfolded`) |

use std::collections::{BTreeMap, HashMap};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{self, ReadOnly, Shard as Listed, Stream},
};
use projections::{
    fold::{
        Place, Shard,
        sabotage::{self, Sabotage},
        snapshot,
    },
    generations::Live,
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store, WriteError},
    when::Second,
};

use crate::{
    consume::ConsumeError,
    drive::{self, DriveError, SCAN_ROWS},
    replay::{ReplayError, first_of, kept::Brought},
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// All that there is.
    Oldest,
    /// All that there is in the archive and behind it; the stream is then one that reads both.
    Archive,
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
    /// What came before the start is not folded yet.
    #[error(
        "{shard} is folded up to {at} only, and more of it came before the start, which the new generation has to know: wait until it has been \
         folded, and run the same again"
    )]
    Unfolded {
        /// The shard.
        shard: ShardId,
        /// How far it is.
        at: SequenceNumber,
    },
    /// No records.
    #[error("the stream is empty: there is nothing to replay")]
    Empty,
    /// No such place.
    #[error("the stream has no record {1} on {0}; `weir shards -o json` and `weir generations -o json` name positions")]
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

/// What the stream has of the time that a replay may begin in.
#[derive(Default)]
struct Kept {
    /// Its oldest record's arrival; `None`: it has none.
    oldest_ms: Option<i64>,
    /// It has lost something, and all of that arrived before.
    lost_before_ms: Option<i64>,
}

impl Kept {
    fn lose(&mut self, before_ms: i64) {
        self.lost_before_ms = Some(self.lost_before_ms.unwrap_or(i64::MIN).max(before_ms));
    }
}

/// `counts` has folded the stream since before anything of it was lost, so its resume points tell what was.
async fn kept<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    counts: Generation,
    shards: &[Listed],
) -> Result<Kept, BeginError> {
    let mut kept = Kept::default();
    for shard in shards {
        let first = stream.first_from(&shard.id, stream::Start::TrimHorizon).await?;
        let first_ms = first.as_ref().map(|record| record.arrived_at_ms);
        kept.oldest_ms = kept.oldest_ms.into_iter().chain(first_ms).min();
        // A parent that is not listed is gone with its records, which came before its children's.
        for parent in shard.parents.iter().filter(|parent| shards.iter().all(|shard| shard.id != **parent)) {
            let stored = store.checkpoint(counts, parent).await?;
            let ended_ms = stored.and_then(|(_, parts)| snapshot::time_ms(&parts).ok()).map(|time_ms| time_ms + 1);
            kept.lose(ended_ms.or(first_ms).unwrap_or(i64::MIN));
        }
        let Some((_, parts)) = store.checkpoint(counts, &shard.id).await? else { continue };
        let (Ok(began), Ok(time_ms)) = (snapshot::applied_from(&parts), snapshot::time_ms(&parts)) else { continue };
        match first {
            _ if began == SequenceNumber::ZERO => {}
            Some(first) if first.sequence <= began => {}
            Some(first) => kept.lose(first.arrived_at_ms),
            None => kept.lose(time_ms + 1),
        }
    }
    Ok(kept)
}

/// Finds the place. `counts`: the generation that knows from where on the stream was folded.
pub async fn begin<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    counts: Generation,
    asked: &Start,
) -> Result<Began, BeginError> {
    let shards = stream.shards().await?;
    let Kept { oldest_ms, lost_before_ms } = kept(stream, store, counts, &shards).await?;
    let Some(oldest_ms) = oldest_ms else { return Err(BeginError::Empty) };
    let is_whole = lost_before_ms.is_none();
    let oldest_ms = oldest_ms.max(lost_before_ms.unwrap_or(i64::MIN));
    let start_ms = match asked {
        Start::Oldest | Start::Archive if is_whole => None,
        Start::Oldest | Start::Archive => Some(minute_of(oldest_ms + 59_999)),
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
    shards: &[Listed],
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

/// What a generation is given of a shard.
struct Before {
    /// What was taken before this position.
    first: SequenceNumber,
    /// All of it came before the start.
    has_ended: bool,
}

/// What came of each shard before the start. All of that has to be folded: who gives what it does not know yet gives too little.
async fn before<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    from: Generation,
    began: &Began,
    start_ms: i64,
) -> Result<BTreeMap<ShardId, Before>, BeginError> {
    let mut before = BTreeMap::new();
    for shard in stream.shards().await? {
        // Before the records are looked at: what is folded meanwhile is none of this.
        let point = store.resume_point(from, &shard.id).await?;
        let (at, has_ended) = point.map_or((SequenceNumber::ZERO, false), |point| (point.position, point.ended));
        let mut first = began.starts.get(&shard.id).copied();
        if first.is_none() {
            // It may have one since, or was made since.
            let since = stream.first_from(&shard.id, stream::Start::AtTimestamp(start_ms)).await?;
            first = since.map(|record| record.sequence);
        }
        if sabotage::breaks(Sabotage::LateShardsGivenWhole) {
            first = Some(began.starts.get(&shard.id).copied().unwrap_or(SequenceNumber::MAX));
        }
        let next = match at {
            SequenceNumber::ZERO => stream::Start::TrimHorizon,
            at => stream::Start::After(at),
        };
        let next = match stream.first_from(&shard.id, next).await {
            Ok(next) => next.map(|record| record.sequence),
            Err(stream::ReadError::Trimmed { oldest, .. }) => Some(oldest),
            Err(error) => return Err(error.into()),
        };
        let is_folded = match (next, first) {
            (Some(next), Some(first)) => next >= first,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (None, None) => has_ended || !shard.closed,
        };
        if !is_folded && !sabotage::breaks(Sabotage::BeginsUnfolded) {
            return Err(BeginError::Unfolded { shard: shard.id, at });
        }
        let has_ended = first.is_none() && shard.closed;
        let none_since = if has_ended { SequenceNumber::MAX } else { at.next() };
        before.insert(shard.id, Before { first: first.unwrap_or(none_since), has_ended });
        for parent in shard.parents {
            // One that is not listed has nothing left, else it is found by itself.
            before.entry(parent).or_insert(Before { first: SequenceNumber::MAX, has_ended: true });
        }
    }
    Ok(before)
}

/// Gives a generation what it has to know of the time before its start, from one that knows it. Again: the same rows, which stand.
pub async fn give<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    from: Generation,
    to: Generation,
    began: &Began,
) -> Result<(), BeginError> {
    let Some(start_ms) = began.start_ms else { return Ok(()) };
    let before = before(stream, store, from, began, start_ms).await?;
    let firsts: HashMap<ShardId, SequenceNumber> =
        before.iter().map(|(shard, before)| (shard.clone(), before.first)).collect();
    let brought = Brought::read(stream, store, from, &firsts).await?;
    for kind in [Kind::Taken, Kind::Producer, Kind::Identified, Kind::Definition] {
        if kind == Kind::Taken && sabotage::breaks(Sabotage::MarksNotGiven) {
            continue;
        }
        let span = Span::All { tenant: None, generation: from, kind };
        let mut after: Option<RowKey> = None;
        loop {
            let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
            let given = page.rows.into_iter().filter_map(|row| {
                let first = first_of(&firsts, &row.key.shard);
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
    let ended = before.into_iter().filter(|(_, before)| before.has_ended).map(|(shard, _)| shard);
    give_ends(store, from, to, ended.collect()).await
}

/// Gives it the ends of shards of which it folds nothing. Their children ask by them whose marks are theirs, also once the stream does not list them.
async fn give_ends<T: Store>(
    store: &T,
    from: Generation,
    to: Generation,
    shards: Vec<ShardId>,
) -> Result<(), BeginError> {
    for shard in shards.into_iter().filter(|_| !sabotage::breaks(Sabotage::EndsNotGiven)) {
        // One that nobody has folded has taken nothing that is known.
        let Some((checkpoint, parts)) = store.checkpoint(from, &shard).await? else { continue };
        let place = Place { generation: to, shard: shard.clone(), ring: vec![] };
        let end = Shard::ancestor(place, checkpoint.position, &parts);
        let end = end.map_err(|source| ReplayError::Replay(ConsumeError::Snapshot { shard, source }))?;
        // Whoever has done so before wrote the same.
        let _stands = store.commit(end).await?;
    }
    Ok(())
}

/// The highest number of a generation that the stream's definitions name, whether or not it is still among the rows. Another one of that number would
/// begin to count where the stream says that the first one of it did.
pub async fn named_through<T: Store>(store: &T, counts: Generation) -> Result<u32, DriveError> {
    let all = drive::definitions(store, counts).await?;
    let numbers = all.chunks(1).map(|definition| Live::of(definition).generation.0);
    Ok(numbers.max().unwrap_or_default())
}

/// Up to where a generation's definitions can be read when its shards begin, or begin again: those that it was given, and those that it has folded since.
pub async fn defined<T: Store>(
    store: &T,
    generation: Generation,
    starts: &BTreeMap<ShardId, SequenceNumber>,
) -> Result<SequenceNumber, DriveError> {
    let mut defined = drive::newest_revision(store, generation).await?;
    let mut after: Option<RowKey> = None;
    loop {
        let span = Span::All { tenant: None, generation, kind: Kind::Definition };
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        for row in page.rows {
            let is_given = match starts.get(&row.key.shard) {
                Some(first) => row.applied_through < *first,
                // It had nothing behind the start when that was found: what it has folded since stands where its resume point does.
                None => {
                    let point = store.resume_point(generation, &row.key.shard).await?;
                    point.is_none_or(|point| row.applied_through <= point.position)
                }
            };
            if is_given && generation != Generation::default() {
                defined = defined.max(row.applied_through);
            }
        }
        match page.next_after {
            Some(key) => after = Some(key),
            None => return Ok(defined),
        }
    }
}
