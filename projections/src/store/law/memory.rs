//! A store in memory. It plays DynamoDB in simulations: a commit can go item by item, and the process can die between any two.
//!
//! Invariants:
//! - Unless it is broken on purpose it keeps every law of the port, whole commits or not.
//! - After its death it answers nothing until it is revived, and then holds each item that was put before.

mod broken;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

pub use self::broken::Broken;
use crate::store::{
    Checkpoint, Commit, Committed, Day, Generation, Kind, PART_BYTES_MAX, PartName, ROW_BYTES_MAX, ReadError, Row,
    RowKey, Rows, Span, Store, WriteError, Written, key,
};

/// How a commit goes into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// All or nothing, as the embedded database does.
    Whole,
    /// Rows, then parts, then the resume point, then what it no longer names, one item at a time, as DynamoDB does.
    ItemByItem,
}

#[derive(Debug, Clone, Default)]
struct Items {
    rows: BTreeMap<RowKey, Row>,
    checkpoints: BTreeMap<(Generation, ShardId), Checkpoint>,
    parts: BTreeMap<(Generation, ShardId, PartName), Bytes>,
}

#[derive(Debug, Default)]
struct State {
    items: Items,
    /// What was there before the last change, for `Broken::ReadsLate`.
    before: Items,
    /// Changes that it will still make; `None`: it lives for ever.
    changes_left: Option<u64>,
    is_dead: bool,
}

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    commits: Commits,
    broken: Option<Broken>,
    state: Mutex<State>,
}

/// It died; whoever waited does not hear whether the change was made.
struct Died;

impl From<Died> for WriteError {
    fn from(_: Died) -> Self {
        Self::Unknown("the store died".to_owned())
    }
}

impl Memory {
    /// An empty store.
    pub fn new(commits: Commits) -> Self {
        Self { commits, broken: None, state: Mutex::default() }
    }

    /// An empty store that breaks a law.
    pub fn broken(commits: Commits, broken: Broken) -> Self {
        Self { broken: Some(broken), ..Self::new(commits) }
    }

    /// Makes it die after so many changes: rows, parts and resume points put, parts removed; or whole commits.
    pub fn die_after(&self, changes: u64) {
        self.state().changes_left = Some(changes);
    }

    /// A new process with what the dead one left.
    #[must_use]
    pub fn revived(self) -> Self {
        {
            let mut state = self.state();
            state.is_dead = false;
            state.changes_left = None;
        }
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// Makes one change, or dies.
    fn change<T>(&self, change: impl FnOnce(&mut Items) -> T) -> Result<T, Died> {
        let mut state = self.state();
        state.is_dead |= state.changes_left == Some(0);
        if state.is_dead {
            return Err(Died);
        }
        state.changes_left = state.changes_left.map(|left| left - 1);
        if self.is(Broken::ReadsLate) {
            state.before = state.items.clone();
        }
        Ok(change(&mut state.items))
    }

    fn look<T>(&self, look: impl FnOnce(&Items) -> T) -> Result<T, ReadError> {
        let state = self.state();
        match (state.is_dead, self.is(Broken::ReadsLate)) {
            (true, _) => Err(ReadError::Unavailable("the store died".to_owned())),
            (false, true) => Ok(look(&state.before)),
            (false, false) => Ok(look(&state.items)),
        }
    }

    fn put_row(&self, items: &mut Items, row: Row) -> Written {
        let Some(standing) = items.rows.get(&row.key) else {
            items.rows.insert(row.key.clone(), row);
            return Written::Stored;
        };
        let (stands, comes) = (standing.applied_through, row.applied_through);
        let wins = match self.broken {
            Some(Broken::EqualReplaces) => comes >= stands,
            Some(Broken::AnythingReplaces) => true,
            _ => comes > stands,
        };
        if !wins {
            return Written::Lost(if self.is(Broken::LostHearsItself) { comes } else { stands });
        }
        let body = if self.is(Broken::OldBodyStays) { standing.body.clone() } else { row.body.clone() };
        let folded_on = if self.is(Broken::OldDayStays) { standing.folded_on } else { row.folded_on };
        items.rows.insert(row.key.clone(), Row { body, folded_on, ..row });
        Written::Stored
    }

    fn put_rows_one_by_one(&self, rows: Vec<Row>) -> Result<Vec<Written>, Died> {
        let mut written = Vec::with_capacity(rows.len());
        for row in rows {
            if self.is(Broken::LoserEndsTheWrite) && written.iter().any(|written| *written != Written::Stored) {
                written.push(Written::Stored);
                continue;
            }
            if self.is(Broken::ChecksThenPuts) {
                let stands = self.state().items.rows.get(&row.key).map(|standing| standing.applied_through);
                std::thread::yield_now();
                written.push(match stands {
                    Some(stands) if stands >= row.applied_through => Written::Lost(stands),
                    _ => self.change(|items| items.rows.insert(row.key.clone(), row)).map(|_| Written::Stored)?,
                });
                continue;
            }
            written.push(self.change(|items| self.put_row(items, row))?);
        }
        Ok(written)
    }

    /// `Err`: the position that stands. `Ok`: the parts that the resume point before it named and this one does not.
    fn move_checkpoint(
        &self,
        items: &mut Items,
        new: &Checkpoint,
        offered: &[PartName],
    ) -> Result<Vec<PartName>, SequenceNumber> {
        let standing = items.checkpoints.get(&(new.generation, new.shard.clone()));
        let position = standing.map_or(SequenceNumber::ZERO, |standing| standing.position);
        let is_behind = |standing: &Checkpoint| match self.broken {
            Some(Broken::ResumePointGoesBack) => false,
            Some(Broken::EndIsNoPlace) => new.position <= standing.position,
            _ => (new.position, new.ended) <= (standing.position, standing.ended),
        };
        if standing.is_some_and(is_behind) {
            return Err(position);
        }
        let known = standing.map_or(&[][..], |standing| &standing.parts);
        let is_known = |name: &PartName| match self.broken {
            Some(Broken::NamesGoneParts) => true,
            Some(Broken::KeepsUnnamedParts) => {
                items.parts.contains_key(&(new.generation, new.shard.clone(), name.clone()))
            }
            _ => known.contains(name) || offered.contains(name),
        };
        if !new.parts.iter().all(is_known) {
            return Err(position);
        }
        let kept: BTreeSet<&PartName> = match self.broken {
            Some(Broken::ForgetsReferredParts) => offered.iter().collect(),
            Some(Broken::KeepsUnnamedParts) => known.iter().collect(),
            _ => new.parts.iter().collect(),
        };
        let unnamed = known.iter().filter(|name| !kept.contains(name)).cloned().collect();
        items.checkpoints.insert((new.generation, new.shard.clone()), new.clone());
        Ok(unnamed)
    }

    fn commit_items(&self, commit: Commit) -> Result<Committed, Died> {
        let Commit { rows, parts, checkpoint } = commit;
        let (generation, shard) = (checkpoint.generation, checkpoint.shard.clone());
        let name_in_store = |name: &PartName| (generation, shard.clone(), name.clone());
        let offered: Vec<PartName> = parts.iter().map(|(name, _)| name.clone()).collect();
        let move_it = || self.change(|items| self.move_checkpoint(items, &checkpoint, &offered));
        let early = if self.is(Broken::ResumePointFirst) { Some(move_it()?) } else { None };
        let rows = self.put_rows_one_by_one(rows)?;
        for (name, body) in parts.iter().filter(|(name, _)| checkpoint.parts.contains(name)) {
            self.change(|items| items.parts.insert(name_in_store(name), body.clone()))?;
        }
        let moved = early.map_or_else(move_it, Ok)?;
        // Only what the resume point before it named: another's new parts may wait for their own.
        let stands =
            self.look(|items| items.checkpoints.get(&(generation, shard.clone())).cloned()).unwrap_or_default();
        let swept = match &moved {
            Ok(unnamed) => unnamed.clone(),
            Err(_) if self.is(Broken::LoserSweepsParts) => offered,
            // The names are this commit's own, but it may have lost to itself.
            Err(_) => {
                let is_named = |name: &PartName| stands.as_ref().is_some_and(|stands| stands.parts.contains(name));
                offered.into_iter().filter(|name| !is_named(name)).collect()
            }
        };
        for name in swept {
            self.change(|items| items.parts.remove(&name_in_store(&name)))?;
        }
        Ok(Committed { rows, checkpoint: moved.map(|_| ()) })
    }

    fn commit_whole(&self, commit: Commit) -> Result<Committed, Died> {
        self.change(|items| {
            let inside = Self { commits: Commits::ItemByItem, broken: self.broken, state: Mutex::default() };
            inside.state().items = std::mem::take(items);
            let committed = inside.commit_items(commit);
            *items = std::mem::take(&mut inside.state().items);
            committed
        })?
    }

    fn is_within(&self, span: &Span, key: &RowKey) -> bool {
        let is_named = |has: &str, wanted: &str, prefix| has == wanted || self.is(prefix) && has.starts_with(wanted);
        match span {
            Span::Of { subject, from, to } => {
                let of = &key.subject;
                (of.generation, of.kind) == (subject.generation, subject.kind)
                    && is_named(&of.tenant, &subject.tenant, Broken::TenantPrefix)
                    && is_named(&of.name, &subject.name, Broken::SubjectPrefix)
                    && (*from <= key.at && key.at < *to || self.is(Broken::SpanHoldsItsEnd) && key.at == *to)
            }
            Span::All { tenant, generation, kind } => {
                let is_tenant = |tenant: &String| is_named(&key.subject.tenant, tenant, Broken::TenantPrefix);
                (*generation, *kind) == (key.subject.generation, key.subject.kind)
                    && tenant.as_ref().is_none_or(is_tenant)
            }
        }
    }

    fn page(&self, items: &Items, span: &Span, after: Option<&RowKey>, limit: usize) -> Rows {
        let from = match after {
            Some(after) if self.is(Broken::PageRepeats) => Bound::Included(after),
            Some(after) if !self.is(Broken::PageByCount) => Bound::Excluded(after),
            _ => Bound::Unbounded,
        };
        let mut rows: Vec<&Row> = items
            .rows
            .range::<RowKey, _>((from, Bound::Unbounded))
            .map(|(_, row)| row)
            .filter(|row| self.is_within(span, &row.key))
            .collect();
        if self.is(Broken::PageByCount) {
            let seen = after.and_then(|after| rows.iter().position(|row| row.key == *after));
            rows.drain(..seen.map_or(0, |seen| (seen / limit + 1) * limit).min(rows.len()));
        }
        if self.is(Broken::UnsignedPlaces) {
            rows.sort_by_key(|row| (&row.key.subject, row.key.at.cast_unsigned()));
        }
        let is_full = rows.len() > limit;
        rows.truncate(if is_full && self.is(Broken::PageSkips) { limit + 1 } else { limit });
        let next_after = is_full.then(|| rows.last().map(|row| row.key.clone())).flatten();
        Rows { rows: rows.into_iter().take(limit).cloned().collect(), next_after }
    }
}

fn check(rows: &[Row], parts: &[(PartName, Bytes)]) -> Result<(), WriteError> {
    let refuse = |why: String| Err(WriteError::NotWritten(why));
    for row in rows {
        if let Err(error) = key::encode(&row.key) {
            return refuse(error.to_string());
        }
        if row.body.len() > ROW_BYTES_MAX {
            return refuse(format!("{:?} has {} bytes, {ROW_BYTES_MAX} are allowed", row.key, row.body.len()));
        }
    }
    match parts.iter().find(|(_, body)| body.len() > PART_BYTES_MAX) {
        Some((name, body)) => refuse(format!("{name:?} has {} bytes, {PART_BYTES_MAX} are allowed", body.len())),
        None => Ok(()),
    }
}

impl Store for Memory {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        if self.is(Broken::RefusesLate) {
            let good = rows.iter().take_while(|row| check(std::slice::from_ref(row), &[]).is_ok()).cloned().collect();
            self.put_rows_one_by_one(good)?;
        }
        check(&rows, &[])?;
        Ok(self.put_rows_one_by_one(rows)?)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        check(&commit.rows, &commit.parts)?;
        Ok(match self.commits {
            Commits::Whole => self.commit_whole(commit)?,
            Commits::ItemByItem => self.commit_items(commit)?,
        })
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.look(|items| {
            let Some(point) = items.checkpoints.get(&(generation, shard.clone())) else { return Ok(None) };
            let body = |name: &PartName| {
                let found = items.parts.get(&(generation, shard.clone(), name.clone())).cloned();
                found.ok_or_else(|| ReadError::Damaged(format!("part {name:?} of {shard} in {generation:?} is gone")))
            };
            let bodies = point.parts.iter().map(body).collect::<Result<_, _>>()?;
            Ok(Some((point.clone(), bodies)))
        })?
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        let mut answers: Vec<_> = self.look(|items| keys.iter().map(|key| items.rows.get(key).cloned()).collect())?;
        if self.is(Broken::AnswersSorted) {
            answers.sort_by(|a: &Option<Row>, b| a.as_ref().map(|row| &row.key).cmp(&b.as_ref().map(|row| &row.key)));
        }
        if self.is(Broken::MissingLeftOut) {
            answers.retain(Option::is_some);
        }
        Ok(answers)
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        self.look(|items| self.page(items, span, after, limit.get()))
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        let is_past = |key: &RowKey, row: &Row| {
            let is_generation = key.subject.generation == generation || self.is(Broken::ExpiresEveryGeneration);
            let is_before = match self.broken {
                Some(Broken::ExpiresItsEnd) => row.folded_on <= before,
                Some(Broken::ExpiresByPlace) => Day::of(key.at.saturating_mul(1000)) < before,
                _ => row.folded_on < before,
            };
            let may_go = kind.expires() || self.is(Broken::ExpiresEveryKind);
            is_generation && key.subject.kind == kind && is_before && may_go
        };
        let seen: Option<Vec<RowKey>> = self.is(Broken::ExpiresWhatItSaw).then(|| {
            let state = self.state();
            state.items.rows.iter().filter(|(key, row)| is_past(key, row)).map(|(key, _)| key.clone()).collect()
        });
        // Until others have replaced one of them: so the fault shows at once.
        let stand = |seen: &Vec<RowKey>| {
            let state = self.state();
            seen.iter().all(|key| state.items.rows.get(key).is_some_and(|row| is_past(key, row)))
        };
        for _ in 0..10_000 {
            if !seen.as_ref().is_some_and(|seen| !seen.is_empty() && stand(seen)) {
                break;
            }
            std::thread::yield_now();
        }
        let removed = self.change(|items| {
            let count = items.rows.len();
            items.rows.retain(|key, row| match &seen {
                Some(seen) => !seen.contains(key),
                None => !is_past(key, row),
            });
            count - items.rows.len()
        })?;
        Ok(removed as u64)
    }
}
