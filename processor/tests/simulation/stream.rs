//! A stream in memory that plays Kinesis at its worst: refusals, lost answers, late arrivals, pages cut anywhere, stamps of a clock that jumps.

use std::{
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard},
};

use events::{
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{
        APPEND_RECORDS_MAX, AppendError, Appended, Limits, Page, Put, ReadError, Record, Refused, Shard, Start, Stream,
    },
};
use projections::store::law::random::Random;

use crate::fuse::Fuse;

/// Of a thousand calls, or records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub throttled: u16,
    pub not_appended: u16,
    pub unknown: u16,
    pub unavailable: u16,
    /// Records of an append whose answer was lost arrive later.
    pub late: u16,
    /// Records of one call stand in another order.
    pub shuffled: u16,
}

#[derive(Debug)]
struct State {
    random: Random,
    rates: Rates,
    page_max: u64,
    clock_ms: i64,
    /// Each with the number of splits and merges before it began: its positions are higher than its parents'.
    shards: Vec<(Shard, u64)>,
    logs: Vec<Vec<Record>>,
    late: Vec<Put>,
}

/// See the module.
#[derive(Debug)]
pub struct SimStream {
    fuse: Arc<Fuse>,
    state: Mutex<State>,
}

impl SimStream {
    pub fn new(shards: u16, seed: u64, fuse: Arc<Fuse>, clock_ms: i64, page_max: u64) -> Self {
        let ranges = HashRange::even(NonZeroU16::new(shards).unwrap());
        let shards: Vec<(Shard, u64)> = (0..)
            .zip(ranges)
            .map(|(n, range)| (Shard { id: ShardId::numbered(n), range, parents: vec![], closed: false }, 0))
            .collect();
        let logs = shards.iter().map(|_| vec![]).collect();
        let (random, rates) = (Random::new(seed), Rates::default());
        let state = State { random, rates, page_max, clock_ms, shards, logs, late: vec![] };
        Self { fuse, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn ring(&self) -> Vec<(ShardId, HashRange)> {
        self.listed().into_iter().filter(|shard| !shard.closed).map(|shard| (shard.id, shard.range)).collect()
    }

    /// All shards that ever were.
    pub fn listed(&self) -> Vec<Shard> {
        self.state().shards.iter().map(|(shard, _)| shard.clone()).collect()
    }

    /// Closes neighbours, or one shard, and gives their keys to a child for each of these ranges.
    pub fn reshard(&self, parents: &[usize], ranges: &[HashRange]) {
        let state = &mut *self.state();
        let ids: Vec<ShardId> = parents.iter().map(|parent| state.shards[*parent].0.id.clone()).collect();
        let began = state.shards.iter().map(|(_, began)| began + 1).max().unwrap();
        parents.iter().for_each(|parent| state.shards[*parent].0.closed = true);
        for range in ranges {
            let id = ShardId::numbered(state.shards.len() as u64);
            let child = Shard { id, range: *range, parents: ids.clone(), closed: false };
            state.shards.push((child, began));
            state.logs.push(vec![]);
        }
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    pub fn set_clock(&self, clock_ms: i64) {
        self.state().clock_ms = clock_ms;
    }

    /// A page holds up to so many records from now on.
    pub fn set_page_max(&self, page_max: u64) {
        self.state().page_max = page_max;
    }

    /// The records of a shard from the `from`th on.
    pub fn log(&self, shard: usize, from: usize) -> Vec<Record> {
        self.state().logs[shard][from..].to_vec()
    }

    pub fn lengths(&self) -> Vec<usize> {
        self.state().logs.iter().map(Vec::len).collect()
    }

    /// Lets one record arrive that was under way; false: there is none.
    pub fn arrive(&self) -> bool {
        let mut state = self.state();
        if !state.late.is_empty() {
            let count = state.late.len() as u64;
            let pick = state.random.below(count) as usize;
            let put = state.late.swap_remove(pick);
            Self::put(&mut state, put);
            return true;
        }
        false
    }

    /// The shard that owns a record's key.
    fn owner(state: &State, put: &Put) -> usize {
        let key = put.hash_key.unwrap_or_else(|| HashKey::of(&put.partition_key));
        state.shards.iter().position(|(shard, _)| !shard.closed && shard.range.contains(key)).unwrap()
    }

    fn put(state: &mut State, put: Put) -> Appended {
        let owner = Self::owner(state, &put);
        let (id, began) = (state.shards[owner].0.id.clone(), state.shards[owner].1);
        let log = &mut state.logs[owner];
        let sequence = SequenceNumber::from_parts(1 + began, 1 + 3 * log.len() as u64);
        log.push(Record { sequence, arrived_at_ms: state.clock_ms, partition_key: put.partition_key, data: put.data });
        Appended { shard: id, sequence }
    }

    fn append_now(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        let state = &mut *self.state();
        assert!(puts.len() <= APPEND_RECORDS_MAX);
        let rates = state.rates;
        if state.random.per_mille(rates.not_appended) {
            return Err(AppendError::NotAppended("simulated".into()));
        }
        if state.random.per_mille(rates.unknown) {
            for put in puts {
                if state.random.per_mille(rates.late) {
                    state.late.push(put.clone());
                } else if state.random.below(2) == 0 {
                    Self::put(state, put);
                }
            }
            return Err(AppendError::Unknown("simulated".into()));
        }
        let mut order: Vec<usize> = (0..puts.len()).collect();
        if state.random.per_mille(rates.shuffled) {
            state.random.shuffle(&mut order);
        }
        let mut puts: Vec<Option<Put>> = puts.into_iter().map(Some).collect();
        let mut answers: Vec<Result<Appended, Refused>> = puts.iter().map(|_| Err(Refused::Throttled)).collect();
        for place in order {
            if !state.random.per_mille(rates.throttled) {
                answers[place] = Ok(Self::put(state, puts[place].take().unwrap()));
            }
        }
        Ok(answers)
    }

    fn read_now(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        let state = &mut *self.state();
        let rates = state.rates;
        if state.random.per_mille(rates.unavailable) {
            return Err(ReadError::Unavailable("simulated".into()));
        }
        let page_max = state.page_max;
        let count = (1 + state.random.below(page_max)).min(limits.records.get() as u64) as usize;
        let which = state.shards.iter().position(|(of, _)| of.id == *shard);
        let which = which.ok_or_else(|| ReadError::NoSuchShard(shard.clone()))?;
        let (log, closed) = (&state.logs[which], state.shards[which].0.closed);
        if from == Start::Latest {
            // Who asked for what comes from now on goes on from here, even if nothing came yet.
            // (Apart from the match: as an arm of it, optimised by rustc 1.95.0, it was answered from the first record.)
            let next = log.last().map_or(Start::TrimHorizon, |last| Start::After(last.sequence));
            return Ok(Page { records: vec![], next: Some(next), behind_ms: 0 });
        }
        let first = match from {
            Start::TrimHorizon => 0,
            Start::At(at) => log.partition_point(|record| record.sequence < at),
            Start::After(after) => log.partition_point(|record| record.sequence <= after),
            Start::AtTimestamp(ms) => log.iter().position(|record| record.arrived_at_ms >= ms).unwrap_or(log.len()),
            Start::Latest => log.len(),
        };
        let records: Vec<Record> = log[first..].iter().take(count).cloned().collect();
        let is_end = closed && first + records.len() == log.len();
        let next = records.last().map_or(from, |last| Start::After(last.sequence));
        let behind_ms = u64::from(first + records.len() < log.len());
        Ok(Page { records, next: (!is_end).then_some(next), behind_ms })
    }
}

impl Stream for SimStream {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        self.fuse.burn().await;
        let answer = self.append_now(puts);
        self.fuse.burn().await;
        answer
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(self.listed())
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.fuse.burn().await;
        self.read_now(shard, from, limits)
    }
}

#[test]
fn a_reader_begins_at_a_time_or_with_what_comes_next() {
    let fuse = Arc::new(Fuse::default());
    let stream = SimStream::new(1, 7, fuse, 0, 1);
    let shard = stream.ring().remove(0).0;
    let limits = Limits { records: 9.try_into().unwrap(), bytes: 1, wait: std::time::Duration::ZERO };
    let first = |from| stream.read_now(&shard, from, limits).unwrap();
    let began = first(Start::Latest).next.unwrap();
    for stamp in [10, 20, 20, 30] {
        stream.set_clock(stamp);
        let put = Put { partition_key: "k".into(), hash_key: None, data: bytes::Bytes::new() };
        assert!(stream.append_now(vec![put]).unwrap()[0].is_ok());
    }
    let sequence = |page: Page| page.records.first().map(|record| record.sequence);
    let log = stream.log(0, 0);
    assert_eq!(sequence(first(began)), Some(log[0].sequence));
    for (stamp, place) in [(5, Some(0)), (20, Some(1)), (21, Some(3)), (31, None)] {
        assert_eq!(sequence(first(Start::AtTimestamp(stamp))), place.map(|place: usize| log[place].sequence));
    }
    let now = first(Start::Latest);
    assert_eq!((now.records.len(), now.next), (0, Some(Start::After(log[3].sequence))));
}
