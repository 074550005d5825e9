//! A stream of which one shard's next records were handed over already, as Lambda's event source does. Decides from where a read is answered, and never
//! passes over a record in silence: whether one stands before those that were handed over, the stream itself is asked.
//!
//! | a read of that shard goes on after | it is answered by |
//! | --- | --- |
//! | a record that was handed over, but the last | what was handed over, which has no hole |
//! | the record before the first of them | the same, once the stream has shown the first of them to be the next |
//! | an earlier one | the stream, up to the first of them |
//! | the last of them, or a later one | the stream |
//!
//! That nothing is missing between two of them is the event source's word: it holds for a Kinesis mapping without filter criteria and with one batch of
//! a shard at a time (`ParallelizationFactor` 1).

#[cfg(test)]
mod tests;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, Record, Refused, Shard, Start, Stream},
};

/// A page of what was handed over has no more records: who has little time looks at the clock behind each page.
const PAGE_RECORDS_MAX: usize = 100;

/// See the module.
#[derive(Debug)]
pub struct Delivered<S> {
    stream: Arc<S>,
    batch: Mutex<Option<Arc<Batch>>>,
}

#[derive(Debug)]
struct Batch {
    shard: ShardId,
    /// Not empty, in order.
    records: Vec<Record>,
    /// After this place the first of them comes next.
    next_after: Mutex<Option<Start>>,
    /// Records stand before the first of them: they are read in pages rather than one, to see whether there are any.
    has_gap: Mutex<bool>,
}

/// What stands behind a place before the batch.
enum Before {
    /// The batch's first record.
    Nothing,
    /// This page, of records before it or of none yet.
    Page(Page),
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    fn first(&self) -> SequenceNumber {
        self.records.first().map_or(SequenceNumber::MAX, |record| record.sequence)
    }

    /// How many of them are at or before a position.
    fn through(&self, position: SequenceNumber) -> usize {
        self.records.partition_point(|record| record.sequence <= position)
    }

    /// A page of them from the one with this number on.
    fn page(&self, from: usize, limits: &Limits) -> Page {
        let (mut records, mut bytes) = (vec![], 0);
        for record in self.records[from..].iter().take(limits.records.get().min(PAGE_RECORDS_MAX)) {
            bytes += record.data.len();
            records.push(record.clone());
            if bytes >= limits.bytes {
                break;
            }
        }
        let arrived_ms = |record: Option<&Record>| record.map_or(0, |record| record.arrived_at_ms);
        let left = from + records.len() < self.records.len();
        let behind_ms = arrived_ms(self.records.last()).saturating_sub(arrived_ms(records.last())).max(i64::from(left));
        let next = records.last().map(|record| Start::After(record.sequence));
        Page { records, next, behind_ms: u64::try_from(behind_ms).unwrap_or(0) }
    }
}

impl<S: Stream> Delivered<S> {
    /// Over a stream; nothing is handed over yet.
    pub fn new(stream: Arc<S>) -> Self {
        Self { stream, batch: Mutex::default() }
    }

    /// Hands over records of a shard, between which none is missing, in any order. What was handed over before is forgotten.
    pub fn hand_over(&self, shard: ShardId, mut records: Vec<Record>) {
        records.sort_by_key(|record| record.sequence);
        records.dedup_by_key(|record| record.sequence);
        let batch = Batch { shard, records, next_after: Mutex::default(), has_gap: Mutex::default() };
        *held(&self.batch) = (!batch.records.is_empty()).then(|| Arc::new(batch));
    }

    /// Forgets what was handed over.
    pub fn forget(&self) {
        *held(&self.batch) = None;
    }

    fn batch(&self, shard: &ShardId) -> Option<Arc<Batch>> {
        held(&self.batch).clone().filter(|batch| batch.shard == *shard)
    }

    /// True if whoever has folded a shard up to this position finds the next record among those that were handed over, or has folded all of these. False:
    /// others come first, or that could not be seen yet.
    pub async fn follows(&self, shard: &ShardId, position: SequenceNumber) -> Result<bool, ReadError> {
        let Some(batch) = self.batch(shard) else { return Ok(false) };
        if position >= batch.first() {
            return Ok(true);
        }
        let from = if position == SequenceNumber::ZERO { Start::TrimHorizon } else { Start::After(position) };
        let limits = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };
        Ok(matches!(self.before(&batch, from, limits).await?, Before::Nothing))
    }

    /// Asks the stream what stands between a place and the batch.
    async fn before(&self, batch: &Batch, from: Start, limits: Limits) -> Result<Before, ReadError> {
        if *held(&batch.next_after) == Some(from) {
            return Ok(Before::Nothing);
        }
        let first = batch.first();
        let records = if *held(&batch.has_gap) { limits.records } else { NonZeroUsize::MIN };
        let mut page = match self.stream.read(&batch.shard, from, Limits { records, ..limits }).await {
            Ok(page) => page,
            // Of a shard that is gone only the batch is left.
            Err(ReadError::NoSuchShard(_)) => Page { records: vec![], next: None, behind_ms: 0 },
            Err(error) => return Err(error),
        };
        if page.records.is_empty() && (page.next.is_none() || page.behind_ms == 0) {
            return self.nothing_seen(batch, from).await;
        }
        let is_reached = page.records.last().is_some_and(|last| last.sequence >= first);
        page.records.retain(|record| record.sequence < first);
        match page.records.last() {
            None if is_reached => {
                *held(&batch.next_after) = Some(from);
                Ok(Before::Nothing)
            }
            None => Ok(Before::Page(page)),
            Some(last) => {
                let next = Start::After(last.sequence);
                *held(&batch.has_gap) = true;
                if is_reached {
                    *held(&batch.next_after) = Some(next);
                }
                page.next = Some(next);
                page.behind_ms = page.behind_ms.max(1);
                Ok(Before::Page(page))
            }
        }
    }

    /// The stream shows nothing behind the place, where the batch at least has come from: it keeps nothing any more, or does not show it yet.
    async fn nothing_seen(&self, batch: &Batch, from: Start) -> Result<Before, ReadError> {
        let again = Page { records: vec![], next: Some(from), behind_ms: 1 };
        let kept = events::stream::ReadOnly::new(self.stream.clone()).oldest(&batch.shard).await;
        let is_gone = match kept {
            Ok(oldest) => oldest.is_none(),
            Err(ReadError::NoSuchShard(_)) => true,
            Err(error) => return Err(error),
        };
        match from {
            _ if !is_gone => Ok(Before::Page(again)),
            // Before the first record that is kept stands none, and of those that are not the first is in the batch.
            Start::TrimHorizon => {
                *held(&batch.next_after) = Some(from);
                Ok(Before::Nothing)
            }
            Start::After(asked) => Err(ReadError::Trimmed { shard: batch.shard.clone(), asked, oldest: batch.first() }),
            _ => Ok(Before::Page(again)),
        }
    }
}

impl<S: Stream> Stream for Delivered<S> {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        self.stream.append(puts).await
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        self.stream.shards().await
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        let Some(batch) = self.batch(shard) else { return self.stream.read(shard, from, limits).await };
        let position = match from {
            Start::TrimHorizon => SequenceNumber::ZERO,
            Start::After(position) => position,
            Start::At(_) | Start::AtTimestamp(_) | Start::Latest => return self.stream.read(shard, from, limits).await,
        };
        if position < batch.first() {
            return match self.before(&batch, from, limits).await? {
                Before::Nothing => Ok(batch.page(0, &limits)),
                Before::Page(page) => Ok(page),
            };
        }
        match batch.through(position) {
            taken if taken < batch.records.len() => Ok(batch.page(taken, &limits)),
            _ => self.stream.read(shard, from, limits).await,
        }
    }
}
