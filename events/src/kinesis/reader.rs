//! Reads a shard: decides which iterator to ask with, when to ask again, and whether what comes first is what was to come. Never calls an empty answer the
//! tip unless Kinesis says so, and never goes on behind a gap without saying it.
//!
//! Kinesis says nothing when a position was trimmed: an iterator "after" it begins silently at the oldest record that is kept. So a read that goes
//! on after a record asks for an iterator *at* that record, and looks whether it comes:
//!
//! | first record | then |
//! | --- | --- |
//! | the one asked for | nothing behind it can be gone, as retention takes the oldest first; the read goes on |
//! | a later one | `Trimmed`: records between may be gone. That none were cannot be known, if the one asked for was the last to go |
//! | none, and the shard is closed and ends | `Trimmed`, likewise |
//! | none, and more may come | the shard holds nothing; whether anything was lost is decided, as above, by the first record that comes |
//!
//! An iterator from an earlier answer is within five minutes of it, and gives no such proof: a reader that is behind by nearly the retention (see
//! `EDGE`) asks by position each time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_kinesis::{
    operation::get_records::GetRecordsOutput,
    primitives::{Blob, DateTime},
    types::{self, ShardIteratorType},
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Inner, Options,
    failure::{Failure, Kind},
    pace::{Hold, Rate},
    places::{Begins, Expected, Iterator, Place},
    shards,
};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::{Limits, Page, ReadError, Record, Start},
};

/// Most records that one GetRecords call gives (API reference, `GetRecords`).
const CALL_RECORDS_MAX: usize = 10_000;
/// After an answer of about 10 MiB, the most there is, calls fail for five seconds (API reference, `GetRecords`).
const FULL_BYTES: usize = 9 << 20;
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// However small the pages are, so many bytes are worth a call.
const AHEAD_BYTES_MIN: usize = 1 << 20;
/// How often a call of one read fails. Then the read does.
pub(super) const TRIES_MAX: u32 = 8;
/// Empty answers in a row that say that they are behind: so many, and the read returns an empty page that says it too.
pub(super) const BEHIND_MAX: u32 = 50;
/// A reader that is behind by the retention less this asks by position: what an iterator stands at may be trimmed while it lives.
const EDGE: Duration = Duration::from_secs(600);
/// How far this machine's clock may be ahead of Kinesis' for `Latest` never to miss a record once its iterator is gone.
pub(super) const CLOCK_AHEAD_MS_MAX: i64 = 60_000;
/// Shards whose rates are remembered. Then all begin anew.
const LANES_MAX: usize = 20_000;

/// What the reads of one shard share: its limits hold for all readers of this process together.
#[derive(Debug)]
pub(super) struct Lane {
    calls: Rate,
    iterators: Rate,
    bytes: Rate,
    /// Bytes of the last answers, to be paid for before the next call.
    owed: AtomicUsize,
    /// Bytes of a record, on the average of the last answer that had any; 0: there was none.
    record_bytes: AtomicUsize,
    hold: Hold,
    /// Where the last reader at the tip stands, and until when it is not worth a call to ask again from there.
    idle: Mutex<Option<(Start, Instant)>>,
}

impl Lane {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            calls: Rate::new(options.reads_per_sec),
            iterators: Rate::new(options.reads_per_sec),
            bytes: Rate::new(options.read_bytes_per_sec),
            owed: AtomicUsize::new(0),
            record_bytes: AtomicUsize::new(0),
            hold: Hold::default(),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<(Start, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is behind this place, said the shard just now.
    fn is_idle_at(&self, from: Start, pause: Duration) {
        *self.idle() = Some((from, Instant::now() + pause));
    }

    /// Until when nothing is to be asked from there.
    fn idle_until(&self, from: Start) -> Option<Instant> {
        self.idle().filter(|(at, until)| *at == from && *until > Instant::now()).map(|(_, until)| until)
    }

    /// Waits for the next call's turn.
    pub(super) async fn turn(&self) {
        self.bytes.taken(self.owed.swap(0, Relaxed)).await;
        self.calls.taken(1).await;
        self.held().await;
    }

    async fn held(&self) {
        while let Some(until) = self.hold.until() {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Notes what an answer held.
    pub(super) fn owe(&self, bytes: usize, records: usize) {
        self.owed.fetch_add(bytes, Relaxed);
        if let Some(mean) = bytes.checked_div(records) {
            self.record_bytes.store(mean, Relaxed);
        }
        if bytes >= FULL_BYTES {
            self.hold.for_at_least(FULL_PAUSE);
        }
    }
}

impl Lane {
    /// How many records to ask for, to get what a page holds and not much more: what is beyond it has to be kept, and is fetched in vain if that is
    /// forgotten. An answer has up to 10 MiB otherwise.
    pub(super) fn records_for(&self, limits: &Limits) -> usize {
        let bytes = limits.bytes.max(AHEAD_BYTES_MIN).saturating_mul(2);
        let enough = bytes.checked_div(self.record_bytes.load(Relaxed)).unwrap_or(usize::MAX);
        limits.records.get().min(enough.max(1))
    }
}

impl Lane {
    /// How many bytes an answer of so many records may have.
    fn bytes_of(&self, records: usize) -> usize {
        records.saturating_mul(self.record_bytes.load(Relaxed)).clamp(AHEAD_BYTES_MIN, FULL_BYTES)
    }
}

/// See `Lane`.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<ShardId, Arc<Lane>>>);

impl Lanes {
    fn of(&self, shard: &ShardId, options: &Options) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= LANES_MAX && !lanes.contains_key(shard) {
            lanes.clear();
        }
        lanes.entry(shard.clone()).or_insert_with(|| Arc::new(Lane::new(options))).clone()
    }
}

impl Lanes {
    /// This process has just put a record there.
    pub(super) fn has_more(&self, shard: &ShardId) {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(shard) {
            *lane.idle() = None;
        }
    }
}

/// Why one answer did not come.
pub(super) enum Stop {
    /// It may come.
    Failed(Failure),
    /// This is the read's answer.
    Answer(ReadError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Inner {
    pub(super) async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        let deadline = Instant::now().checked_add(limits.wait);
        let lane = self.lanes.of(shard, &self.options);
        let mut place = match from {
            // What others read at the end is not where this one begins.
            Start::Latest => Place::new(from),
            Start::At(SequenceNumber::ZERO) | Start::After(SequenceNumber::ZERO) => {
                self.places.take(shard, Start::TrimHorizon, None)
            }
            from => self.places.take(shard, from, self.edge()),
        };
        let mut behind = 0;
        while place.ahead.is_empty() && !place.ended {
            // Who does not wait wants to know now.
            if let Some(wake) = lane.idle_until(place.from).filter(|_| !limits.wait.is_zero()) {
                if let Some(deadline) = deadline.filter(|deadline| *deadline < wake) {
                    tokio::time::sleep_until(deadline).await;
                    place.behind_ms = 0;
                    break;
                }
                tokio::time::sleep_until(wake).await;
            }
            let records = lane.records_for(&limits);
            self.fetch(shard, &lane, &mut place, records).await?;
            if !place.ahead.is_empty() || place.ended {
                break;
            }
            if place.behind_ms > 0 {
                behind += 1;
                if behind >= BEHIND_MAX {
                    break;
                }
                continue;
            }
            lane.is_idle_at(place.from, self.options.idle_pause);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
        }
        let page = place.page(&limits);
        if page.next.is_some() {
            self.places.keep(shard, place);
        }
        Ok(page)
    }

    pub(super) fn edge(&self) -> Option<Duration> {
        self.retention().map(|retention| retention.saturating_sub(EDGE))
    }

    /// The next answer of the shard, into `place`; tries again what may pass.
    async fn fetch(&self, shard: &ShardId, lane: &Lane, place: &mut Place, records: usize) -> Result<(), ReadError> {
        let (mut failures, mut records) = (0, records);
        loop {
            let failure = match self.fetch_once(shard, lane, place, records).await {
                Ok(()) => {
                    self.troubles[1].is_over();
                    return Ok(());
                }
                Err(Stop::Answer(error)) => return Err(error),
                Err(Stop::Failed(failure)) => failure,
            };
            failures += 1;
            if failure.kind != Kind::Expired {
                self.troubles[1].failed(&failure.why);
            }
            match failure.kind {
                Kind::Gone => return Err(self.gone(shard, failure.why).await),
                Kind::Refused | Kind::InUse => return Err(ReadError::Unavailable(self.say(&failure.why))),
                _ if failures >= TRIES_MAX => return Err(ReadError::Unavailable(self.say(&failure.why))),
                // The position is known: a new iterator is made from it.
                Kind::Expired => place.iterator = None,
                Kind::Throttled => lane.hold.for_at_least(self.options.throttle_pause),
                Kind::Unknown | Kind::NeverSent | Kind::Late => {
                    if failure.kind == Kind::Late {
                        records = (records / 2).max(1);
                    }
                    tokio::time::sleep(self.options.back_off().pause(failures)).await;
                }
            }
        }
    }

    async fn fetch_once(&self, shard: &ShardId, lane: &Lane, place: &mut Place, records: usize) -> Result<(), Stop> {
        if let Start::AtTimestamp(since_ms) = place.from
            && place.iterator.is_none()
            && since_ms > now_ms()
        {
            // Kinesis refuses times that are still to come; nothing can have arrived since.
            place.behind_ms = 0;
            return Ok(());
        }
        let iterator = match place.iterator.take() {
            Some(iterator) => iterator,
            None => self.iterator(shard, lane, place).await?,
        };
        let seen_only = iterator.must_begin_at.is_some_and(|expected| !expected.wanted);
        let limit = records.saturating_add(usize::from(seen_only)).min(CALL_RECORDS_MAX);
        lane.turn().await;
        let call = self.once.get_records().shard_iterator(&iterator.token).limit(limit as i32);
        let longest = self.options.longest_for(lane.bytes_of(limit));
        let answer = match call.customize().config_override(longest).send().await {
            Ok(answer) => answer,
            Err(error) => {
                place.iterator = Some(iterator);
                return Err(Failure::of(&error).into());
            }
        };
        let bytes = answer.records.iter().map(|record| record.data.as_ref().len()).sum();
        lane.owe(bytes, answer.records.len());
        self.take(shard, place, iterator, answer).await
    }

    /// Checks an answer and puts it into `place`.
    async fn take(
        &self,
        shard: &ShardId,
        place: &mut Place,
        iterator: Iterator,
        answer: GetRecordsOutput,
    ) -> Result<(), Stop> {
        let mut ahead = answer.records.into_iter().map(record).collect::<Result<std::collections::VecDeque<_>, _>>()?;
        let mut must_begin_at = iterator.must_begin_at;
        match Begins::of(&mut must_begin_at, &mut ahead, answer.next_shard_iterator.is_none()) {
            Begins::Well => {}
            Begins::Later { asked, oldest } => {
                let oldest = match oldest {
                    Some(oldest) => oldest,
                    None => self.ending(shard).await,
                };
                return Err(Stop::Answer(ReadError::Trimmed { shard: shard.clone(), asked, oldest }));
            }
        }
        place.ahead = ahead;
        place.behind_ms = u64::try_from(answer.millis_behind_latest.unwrap_or(0)).unwrap_or(0);
        place.heard_at = Instant::now();
        place.ended = answer.next_shard_iterator.is_none();
        let made_at = place.heard_at;
        place.iterator = answer.next_shard_iterator.map(|token| Iterator { token, made_at, must_begin_at });
        Ok(())
    }

    /// A new iterator for where the place is.
    async fn iterator(&self, shard: &ShardId, lane: &Lane, place: &mut Place) -> Result<Iterator, Stop> {
        lane.iterators.taken(1).await;
        lane.held().await;
        let call = self.once.get_shard_iterator().stream_name(&self.name).shard_id(shard.as_str());
        let asked_at_ms = now_ms();
        let must_begin_at = match place.from {
            Start::At(sequence) => Some(Expected { sequence, wanted: true }),
            Start::After(sequence) => Some(Expected { sequence, wanted: false }),
            Start::TrimHorizon | Start::AtTimestamp(_) | Start::Latest => None,
        };
        let call = match place.from {
            Start::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Start::Latest => call.shard_iterator_type(ShardIteratorType::Latest),
            Start::AtTimestamp(since_ms) => {
                call.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(since_ms))
            }
            Start::At(sequence) | Start::After(sequence) => call
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(sequence.to_string()),
        };
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        let token = answer.shard_iterator.ok_or_else(|| Failure::new(Kind::Unknown, "Kinesis gave no iterator"))?;
        if place.from == Start::Latest {
            // From here on the place has a name that means it even without the iterator, or a little before it, never after.
            place.from = Start::AtTimestamp(asked_at_ms - CLOCK_AHEAD_MS_MAX);
        }
        Ok(Iterator { token, made_at: Instant::now(), must_begin_at })
    }

    /// A number that no record of the closed shard is behind.
    pub(super) async fn ending(&self, shard: &ShardId) -> SequenceNumber {
        let all = shards::list(&self.client, &self.name).await.unwrap_or_default();
        let ending = all.iter().find(|listed| listed.shard.id == *shard).and_then(|listed| listed.ending);
        ending.unwrap_or(SequenceNumber::MAX)
    }

    /// Kinesis says the same of a stream, a shard and a position that it does not know.
    pub(super) async fn gone(&self, shard: &ShardId, why: String) -> ReadError {
        match shards::list(&self.client, &self.name).await {
            Ok(all) if all.iter().all(|listed| listed.shard.id != *shard) => ReadError::NoSuchShard(shard.clone()),
            Ok(_) => ReadError::Unavailable(self.say(&why)),
            Err(failure) => ReadError::Unavailable(self.say(&failure.why)),
        }
    }
}

pub(super) fn record(record: types::Record) -> Result<Record, Stop> {
    let sequence = record.sequence_number.parse().map_err(|error| {
        Stop::Answer(ReadError::Damaged(format!("Kinesis gave a record with no known position: {error}")))
    })?;
    let data = Blob::into_inner(record.data);
    Ok(Record {
        sequence,
        arrived_at_ms: record.approximate_arrival_timestamp.map_or(0, |at| to_ms(&at)),
        partition_key: record.partition_key.unwrap_or_default(),
        data: Bytes::from(data),
    })
}

/// To the nearest millisecond. The stamp has whole ones, but the JSON has it as a fraction of seconds, which no binary number holds: cut off, it would
/// often be one less than what Kinesis compares `AT_TIMESTAMP` with.
fn to_ms(at: &DateTime) -> i64 {
    at.secs().saturating_mul(1_000).saturating_add((i64::from(at.subsec_nanos()) + 500_000) / 1_000_000)
}

/// The host's clock, Unix milliseconds. Decides no position: see `Start::Latest` above.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
