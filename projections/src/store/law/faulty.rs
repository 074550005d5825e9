//! Faults in front of any store, from a seed. It decides what goes wrong; it never changes what a store says of what went right.
//!
//! A fault is a pair, what happened and what was reported:
//!
//! |                    | `NotWritten` | `Unknown`       |
//! |--------------------|--------------|-----------------|
//! | did not happen     | `Refused`    | `RequestLost`   |
//! | happened           | (a lie)      | `AnswerLost`    |
//! | happened in part   | (a lie)      | `Partial`       |
//! | will happen later  | (a lie)      | `Late`          |
//!
//! In part: the first rows, one by one; a resume point never, since it comes last. Reads fail as `Unavailable`.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use events::position::ShardId;

use super::random::Random;
use crate::store::{
    Checkpoint, Commit, Committed, Day, Generation, Kind, ReadError, Row, RowKey, Rows, Span, Store, WriteError,
    Written,
};

/// Most writes that wait to happen later; with one more, one of them happens at the next call.
pub const LATE_MAX: usize = 16;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Did not happen, and this was reported.
    Refused,
    /// Did not happen, and the answer was lost.
    RequestLost,
    /// Happened, and the answer was lost.
    AnswerLost,
    /// Happened in part, and the answer was lost.
    Partial,
    /// Happens at some later call, and the answer was lost.
    Late,
    /// A read was not answered.
    Unavailable,
}

/// How often of a thousand calls each fault comes; at most 1,000 for the writes' together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// `Fault::Refused`.
    pub refused: u16,
    /// `Fault::RequestLost`.
    pub request_lost: u16,
    /// `Fault::AnswerLost`.
    pub answer_lost: u16,
    /// `Fault::Partial`.
    pub partial: u16,
    /// `Fault::Late`.
    pub late: u16,
    /// `Fault::Unavailable`.
    pub unavailable: u16,
}

impl Rates {
    /// Each fault as often as the others.
    pub const fn each(per_mille: u16) -> Self {
        Self {
            refused: per_mille,
            request_lost: per_mille,
            answer_lost: per_mille,
            partial: per_mille,
            late: per_mille,
            unavailable: per_mille,
        }
    }
}

#[derive(Debug, Clone)]
enum Write {
    Rows(Vec<Row>),
    Commit(Commit),
    Expire(Generation, Kind, Day),
}

#[derive(Debug)]
struct State {
    random: Random,
    rates: Rates,
    late: Vec<Write>,
    counts: BTreeMap<Fault, u64>,
}

/// A store behind faults. The same seed and the same calls, one after the other, give the same faults.
#[derive(Debug)]
pub struct Faulty<S> {
    store: S,
    seed: u64,
    state: Mutex<State>,
}

impl<S: Store> Faulty<S> {
    /// Puts faults in front of a store.
    pub fn new(store: S, seed: u64, rates: Rates) -> Self {
        let state = State { random: Random::new(seed), rates, late: Vec::new(), counts: BTreeMap::new() };
        Self { store, seed, state: Mutex::new(state) }
    }

    /// The store itself, to look at behind the faults' back.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Other rates from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    /// How often each fault came.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.state().counts.clone()
    }

    /// Lets everything happen that was to happen later.
    pub async fn settle(&self) {
        loop {
            let Some(write) = self.take_late(|_| true) else { return };
            self.happen(write).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the late writes, in any order, if `wanted`.
    fn take_late(&self, wanted: impl FnOnce(&mut State) -> bool) -> Option<Write> {
        let mut state = self.state();
        if state.late.is_empty() || !wanted(&mut state) {
            return None;
        }
        let waiting = state.late.len() as u64;
        let which = state.random.below(waiting) as usize;
        Some(state.late.swap_remove(which))
    }

    /// What the store says of it is lost.
    async fn happen(&self, write: Write) {
        match write {
            Write::Rows(rows) => drop(self.store.write(rows).await),
            Write::Commit(commit) => drop(self.store.commit(commit).await),
            Write::Expire(generation, kind, before) => drop(self.store.expire(generation, kind, before).await),
        }
    }

    /// Before each call, late writes may happen.
    async fn pass_time(&self) {
        let is_time = |state: &mut State| state.late.len() > LATE_MAX || state.random.per_mille(300);
        while let Some(write) = self.take_late(is_time) {
            self.happen(write).await;
        }
    }

    fn draw_for_write(&self) -> Option<Fault> {
        let mut state = self.state();
        let Rates { refused, request_lost, answer_lost, partial, late, .. } = state.rates;
        let mut drawn = state.random.below(1000);
        for (fault, rate) in [
            (Fault::Refused, refused),
            (Fault::RequestLost, request_lost),
            (Fault::AnswerLost, answer_lost),
            (Fault::Partial, partial),
            (Fault::Late, late),
        ] {
            if drawn < u64::from(rate) {
                *state.counts.entry(fault).or_default() += 1;
                return Some(fault);
            }
            drawn -= u64::from(rate);
        }
        None
    }

    fn draw_for_read(&self) -> Result<(), ReadError> {
        let mut state = self.state();
        let rate = state.rates.unavailable;
        if !state.random.per_mille(rate) {
            return Ok(());
        }
        *state.counts.entry(Fault::Unavailable).or_default() += 1;
        Err(ReadError::Unavailable(format!("fault of seed {}", self.seed)))
    }

    /// Lets a write suffer its fault.
    async fn suffer(&self, fault: Fault, write: Write) -> WriteError {
        let said = format!("{fault:?}, fault of seed {}", self.seed);
        match fault {
            Fault::Refused => return WriteError::NotWritten(said),
            Fault::RequestLost | Fault::Unavailable => {}
            Fault::AnswerLost => self.happen(write).await,
            Fault::Late => self.state().late.push(write),
            Fault::Partial => {
                if let Write::Rows(rows) | Write::Commit(Commit { rows, .. }) = write {
                    let count = self.state().random.below(rows.len() as u64 + 1) as usize;
                    for row in rows.into_iter().take(count) {
                        drop(self.store.write(vec![row]).await);
                    }
                }
            }
        }
        WriteError::Unknown(said)
    }
}

impl<S: Store> Store for Faulty<S> {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        self.pass_time().await;
        match self.draw_for_write() {
            None => self.store.write(rows).await,
            Some(fault) => Err(self.suffer(fault, Write::Rows(rows)).await),
        }
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        self.pass_time().await;
        match self.draw_for_write() {
            None => self.store.commit(commit).await,
            Some(fault) => Err(self.suffer(fault, Write::Commit(commit)).await),
        }
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.pass_time().await;
        self.draw_for_read()?;
        self.store.checkpoint(generation, shard).await
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        self.pass_time().await;
        self.draw_for_read()?;
        self.store.read(keys).await
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        self.pass_time().await;
        self.draw_for_read()?;
        self.store.scan(span, after, limit).await
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        self.pass_time().await;
        match self.draw_for_write() {
            None => self.store.expire(generation, kind, before).await,
            Some(fault) => Err(self.suffer(fault, Write::Expire(generation, kind, before)).await),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::law::{
        block_on,
        commits::{checkpoint, part},
        everything, key,
        memory::{Commits, Memory},
        row, seq,
    };

    const RECORDS: u64 = 40;

    fn commit(number: u64) -> Commit {
        let name = format!("part {number}");
        let rows = (0..=number % 4).map(|at| row(key("web", at.cast_signed()), number)).collect();
        // The part before it is only referred to: it must have come through.
        let before = format!("part {}", number - 1);
        let named: &[&str] = if number == 1 { &[&name] } else { &[&before, &name] };
        Commit { rows, parts: vec![part(&name)], checkpoint: checkpoint(number, named) }
    }

    type Outcome = (Vec<Row>, Option<(Checkpoint, Vec<Bytes>)>);

    fn outcome(store: &impl Store) -> Outcome {
        let rows = block_on(store.scan(&everything(None), None, 1000.try_into().unwrap())).unwrap().rows;
        (rows, block_on(store.checkpoint(Generation(0), &ShardId::numbered(0))).unwrap())
    }

    /// A worker that repeats what was not acknowledged, or one that takes a lost answer for a good one.
    fn run(seed: u64, rates: Rates, repeats: bool) -> (Outcome, BTreeMap<Fault, u64>) {
        let store = Faulty::new(Memory::new(Commits::ItemByItem), seed, rates);
        for number in 1..=RECORDS {
            loop {
                match block_on(store.commit(commit(number))) {
                    Ok(_) => break,
                    Err(WriteError::Unknown(_)) if !repeats => break,
                    Err(_) => {}
                }
            }
        }
        block_on(store.settle());
        (outcome(store.store()), store.counts())
    }

    #[test]
    fn who_repeats_what_was_not_acknowledged_ends_where_no_fault_was() {
        let (expected, none) = run(0, Rates::default(), true);
        assert_eq!((none, expected.1.as_ref().unwrap().0.position), (BTreeMap::new(), seq(RECORDS)));
        let mut counts = BTreeMap::new();
        for seed in 0..50 {
            let (found, counted) = run(seed, Rates::each(120), true);
            assert_eq!(found, expected, "seed {seed}");
            counted.into_iter().for_each(|(fault, count)| *counts.entry(fault).or_insert(0) += count);
        }
        assert!(counts.len() == 5 && counts.values().all(|count| *count > 100), "every fault came: {counts:?}");
    }

    #[test]
    fn who_takes_a_lost_answer_for_a_good_one_is_found() {
        let (expected, _) = run(0, Rates::default(), true);
        let wrong = (0..50).filter(|seed| run(*seed, Rates::each(120), false).0 != expected).count();
        assert!(wrong > 5, "{wrong} of 50 seeds");
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        assert_eq!(run(7, Rates::each(150), false), run(7, Rates::each(150), false));
        assert_ne!(run(7, Rates::each(150), false), run(8, Rates::each(150), false));
    }

    #[test]
    fn a_read_that_fails_changes_nothing() {
        let store = Faulty::new(Memory::new(Commits::Whole), 3, Rates { unavailable: 500, ..Rates::default() });
        block_on(store.commit(commit(1))).unwrap();
        let keys = [key("web", 0)];
        let answers: Vec<_> = (0..100).map(|_| block_on(store.read(&keys))).collect();
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        assert!((20..80).contains(&failed), "{failed}");
        assert!(answers.into_iter().flatten().all(|rows| rows == [Some(row(key("web", 0), 1))]));
    }

    mod without_faults {
        use super::*;

        crate::store_laws!(|| Faulty::new(Memory::new(Commits::ItemByItem), 0, Rates::default()));
    }
}
