//! A store in memory that plays DynamoDB (row by row, the resume point last, a crash between any two) or the embedded pair (all at once).
//! It keeps a list of what changed, so that every row that was ever stored is checked.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use projections::store::{
    Checkpoint, Commit, Committed, Day, Generation, Kind, NAME_BYTES_MAX, PART_BYTES_MAX, PartName, ROW_BYTES_MAX,
    ReadError, Row, RowKey, Rows, Span, Store, WriteError, Written, law::random::Random,
};
use rustc_hash::FxHashMap;

use crate::fuse::Fuse;

/// Of a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub refused: u16,
    pub request_lost: u16,
    pub answer_lost: u16,
    pub partial: u16,
    pub unavailable: u16,
}

/// A promise of the port that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenStore {
    RowConditionUnchecked,
    ResumePointFirst,
    ResumePointGoesBack,
    ReadsStale,
}

/// What happened to the store.
#[derive(Debug, Clone)]
pub enum Change {
    /// `before`: the position of the row that it replaced.
    Row {
        row: Arc<Row>,
        before: SequenceNumber,
    },
    ResumePoint {
        shard: ShardId,
        before: SequenceNumber,
        position: SequenceNumber,
        ended: bool,
    },
}

#[derive(Debug)]
struct State {
    random: Random,
    rates: Rates,
    rows: BTreeMap<RowKey, Arc<Row>>,
    stale: FxHashMap<RowKey, Arc<Row>>,
    points: FxHashMap<(Generation, ShardId), Checkpoint>,
    /// Of every name that was ever used: what a resume point does not name any more, nobody can name again.
    parts: FxHashMap<(Generation, ShardId, PartName), Bytes>,
    changes: Vec<Change>,
}

impl State {
    fn point(&self, generation: Generation, shard: &ShardId) -> Option<&Checkpoint> {
        self.points.get(&(generation, shard.clone()))
    }

    fn bodies(&self, point: &Checkpoint) -> Vec<Bytes> {
        let key = |name: &PartName| (point.generation, point.shard.clone(), name.clone());
        point.parts.iter().map(|name| self.parts[&key(name)].clone()).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct SimStore {
    atomic: bool,
    broken: Option<BrokenStore>,
    fuse: Arc<Fuse>,
    state: Mutex<State>,
}

impl SimStore {
    pub fn new(atomic: bool, broken: Option<BrokenStore>, seed: u64, fuse: Arc<Fuse>) -> Self {
        let state = State {
            random: Random::new(seed),
            rates: Rates::default(),
            rows: BTreeMap::new(),
            stale: FxHashMap::default(),
            points: FxHashMap::default(),
            parts: FxHashMap::default(),
            changes: vec![],
        };
        Self { atomic, broken, fuse, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.state().changes)
    }

    /// All rows, in order.
    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.state().rows.values().cloned().collect()
    }

    /// What a row is through, if there is one.
    pub fn through(&self, key: &RowKey) -> Option<SequenceNumber> {
        self.state().rows.get(key).map(|row| row.applied_through)
    }

    /// The highest revision that can be read with all before it.
    pub fn newest_definition(&self) -> Option<SequenceNumber> {
        let state = self.state();
        let rows = state.rows.values().filter(|row| row.key.subject.kind == Kind::Definition);
        let point = |row: &Row| state.point(row.key.subject.generation, &row.key.shard);
        rows.filter(|row| point(row).is_some_and(|point| row.applied_through <= point.position))
            .map(|row| row.applied_through)
            .max()
    }

    /// The snapshot of a resume point.
    pub fn snapshot(&self, shard: &ShardId) -> Vec<u8> {
        let state = self.state();
        state.point(Generation::default(), shard).map_or(vec![], |point| state.bodies(point).concat())
    }

    /// True if the resume point says so.
    pub fn has_ended(&self, shard: &ShardId) -> bool {
        self.state().point(Generation::default(), shard).is_some_and(|point| point.ended)
    }

    pub fn resume_point(&self, shard: &ShardId) -> SequenceNumber {
        self.state().point(Generation::default(), shard).map_or(SequenceNumber::ZERO, |point| point.position)
    }

    fn put(&self, state: &mut State, row: Row) -> Written {
        let standing = state.rows.get(&row.key).map(|row| row.applied_through);
        let before = standing.unwrap_or(SequenceNumber::ZERO);
        if standing.is_some_and(|standing| standing >= row.applied_through)
            && self.broken != Some(BrokenStore::RowConditionUnchecked)
        {
            return Written::Lost(before);
        }
        let row = Arc::new(row);
        let stale = match state.rows.get_mut(&row.key) {
            Some(standing) => Some(std::mem::replace(standing, row.clone())),
            None => state.rows.insert(row.key.clone(), row.clone()),
        };
        if let Some(stale) = stale.filter(|_| self.broken == Some(BrokenStore::ReadsStale)) {
            state.stale.insert(row.key.clone(), stale);
        }
        state.changes.push(Change::Row { row, before });
        Written::Stored
    }

    fn move_point(
        &self,
        state: &mut State,
        new: &Checkpoint,
        parts: &[(PartName, Bytes)],
    ) -> Result<(), SequenceNumber> {
        let (generation, shard) = (new.generation, new.shard.clone());
        let standing = state.point(generation, &shard);
        let before = standing.map_or(SequenceNumber::ZERO, |point| point.position);
        let known = |name| standing.is_some_and(|point| point.parts.contains(name));
        let is_known = |name| known(name) || parts.iter().any(|(offered, _)| offered == name);
        if !new.parts.iter().all(is_known) {
            return Err(before);
        }
        let is_past = standing.is_some_and(|point| (point.position, point.ended) >= (new.position, new.ended));
        if is_past && self.broken != Some(BrokenStore::ResumePointGoesBack) {
            return Err(before);
        }
        for (name, body) in parts {
            let standing = state.parts.insert((generation, shard.clone(), name.clone()), body.clone());
            assert!(standing.is_none_or(|standing| standing == *body), "{name:?} was used for something else before");
        }
        state.changes.push(Change::ResumePoint {
            shard: shard.clone(),
            before,
            position: new.position,
            ended: new.ended,
        });
        state.points.insert((generation, shard), new.clone());
        Ok(())
    }

    async fn commit_now(&self, commit: Commit, rows_max: usize) -> Committed {
        let Commit { rows, parts, checkpoint } = commit;
        let mut answers: Vec<Option<Written>> = rows.iter().map(|_| None).collect();
        let mut rows: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
        let mut early = None;
        if self.broken == Some(BrokenStore::ResumePointFirst) {
            early = Some(self.move_point(&mut self.state(), &checkpoint, &parts));
        }
        if !self.atomic {
            // DynamoDB writes a batch in any order.
            self.state().random.shuffle(&mut rows);
        }
        let is_part = rows_max < rows.len();
        for (place, row) in rows.into_iter().take(rows_max) {
            if !self.atomic {
                self.fuse.burn().await;
            }
            answers[place] = Some(self.put(&mut self.state(), row));
        }
        let answers = answers.into_iter().flatten().collect();
        if is_part {
            return Committed { rows: answers, checkpoint: Ok(()) };
        }
        if !self.atomic {
            self.fuse.burn().await;
        }
        let moved = early.unwrap_or_else(|| self.move_point(&mut self.state(), &checkpoint, &parts));
        Committed { rows: answers, checkpoint: moved }
    }

    fn fails_to_read(&self) -> Result<(), ReadError> {
        let state = &mut *self.state();
        let fails = state.random.per_mille(state.rates.unavailable);
        if fails { Err(ReadError::Unavailable("simulated".into())) } else { Ok(()) }
    }

    fn within(span: &Span, key: &RowKey) -> bool {
        match span {
            Span::Of { subject, from, to } => key.subject == *subject && *from <= key.at && key.at < *to,
            Span::All { tenant, generation, kind } => {
                (*generation, *kind) == (key.subject.generation, key.subject.kind)
                    && tenant.as_ref().is_none_or(|tenant| *tenant == key.subject.tenant)
            }
        }
    }
}

/// Nothing of what cannot be stored whole is stored.
fn check(rows: &[Row], parts: &[(PartName, Bytes)]) -> Result<(), WriteError> {
    let names = |row: &Row| [row.key.subject.tenant.len(), row.key.subject.name.len()];
    let is_name = |row: &Row| {
        let texts = [&row.key.subject.tenant, &row.key.subject.name];
        names(row).iter().all(|length| *length <= NAME_BYTES_MAX) && texts.iter().all(|text| !text.contains('\0'))
    };
    let fits = rows.iter().all(|row| is_name(row) && row.body.len() <= ROW_BYTES_MAX);
    let parts_fit = parts.iter().all(|(_, body)| body.len() <= PART_BYTES_MAX);
    if fits && parts_fit { Ok(()) } else { Err(WriteError::NotWritten("it is too large".into())) }
}

impl Store for SimStore {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        check(&rows, &[])?;
        let state = &mut *self.state();
        Ok(rows.into_iter().map(|row| self.put(state, row)).collect())
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        self.fuse.burn().await;
        check(&commit.rows, &commit.parts)?;
        let (rates, pick, part) = {
            let state = &mut *self.state();
            let count = commit.rows.len() as u64;
            (state.rates, state.random.below(1000) as u16, state.random.below(count) as usize)
        };
        let refused = rates.refused;
        let request_lost = refused + rates.request_lost;
        let answer_lost = request_lost + rates.answer_lost;
        let partial = answer_lost + rates.partial;
        let lost = || Err(WriteError::Unknown("simulated".into()));
        if pick < refused {
            return Err(WriteError::NotWritten("simulated".into()));
        }
        if pick < request_lost {
            return lost();
        }
        if (answer_lost..partial).contains(&pick) && !self.atomic {
            self.commit_now(commit, part).await;
            return lost();
        }
        let committed = self.commit_now(commit, usize::MAX).await;
        self.fuse.burn().await;
        if pick < answer_lost { lost() } else { Ok(committed) }
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.fuse.burn().await;
        self.fails_to_read()?;
        let state = self.state();
        Ok(state.point(generation, shard).map(|point| (point.clone(), state.bodies(point))))
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        self.fuse.burn().await;
        self.fails_to_read()?;
        let state = self.state();
        let stale = |key| state.stale.get(key).filter(|_| self.broken == Some(BrokenStore::ReadsStale));
        let row = |key| stale(key).or_else(|| state.rows.get(key)).map(|row| Row::clone(row));
        Ok(keys.iter().map(row).collect())
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        self.fuse.burn().await;
        self.fails_to_read()?;
        let state = self.state();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows: Vec<Row> = state
            .rows
            .range::<RowKey, _>((from, Bound::Unbounded))
            .map(|(_, row)| row)
            .filter(|row| Self::within(span, &row.key))
            .take(limit.get() + 1)
            .map(|row| Row::clone(row))
            .collect();
        let is_more = rows.len() > limit.get();
        rows.truncate(limit.get());
        let next_after = is_more.then(|| rows.last().map(|row| row.key.clone())).flatten();
        Ok(Rows { rows, next_after })
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        let state = &mut *self.state();
        let count = state.rows.len();
        let is_past = |key: &RowKey, row: &Row| {
            (key.subject.generation, key.subject.kind) == (generation, kind) && kind.expires() && row.folded_on < before
        };
        state.rows.retain(|key, row| !is_past(key, row));
        Ok((count - state.rows.len()) as u64)
    }
}

/// The laws of the port, without faults. Its deaths are the simulator's own: a future that nobody polls any more; so the law of crashes says nothing
/// here, and worlds hold what it says at every step.
mod laws {
    mod whole {
        projections::store_laws!(|| super::super::SimStore::new(true, None, 1, Default::default()));
    }

    mod row_by_row {
        projections::store_laws!(|| super::super::SimStore::new(false, None, 1, Default::default()));
    }
}
