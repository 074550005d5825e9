//! A worker: one shard of the stream, folded into the store from its resume point on. Decides when rows are written, which has no meaning.
//!
//! | when | what |
//! | --- | --- |
//! | `CHANGED_ROWS_MAX` rows changed | commit at once: memory is bounded |
//! | the oldest record that is not committed is as old as the pair's `Cadence` says | commit |
//! | caught up, and somebody waits | commit at once |
//!
//! Effects are carried out before the resume point passes the record that decided them.
//!
//! A worker that failed, or was dropped in the middle of a step, is of no more use: what it holds may be half of a record. Another one opens at the
//! resume point. Only where a newer revision of the fold begins, it commits what stands before.

mod error;
mod lineage;

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use events::{
    event::Event,
    position::{SequenceNumber, ShardId},
    stream::{Limits, ReadOnly, Start, Stream},
};
use projections::{
    fold::{
        CHANGED_ROWS_MAX, FOLD_REVISION, Input, Place, Shard, Stop,
        balance::Balance,
        sabotage::{self, Sabotage},
        snapshot,
    },
    generations::Live,
    store::{Store, Written},
};

pub use self::error::ConsumeError;
use crate::{
    drive::{self, DriveError},
    effects::Sink,
};

/// How much one read of the stream may bring.
const PAGE_BYTES: usize = 2 << 20;
const PAGE_RECORDS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
/// A commit is tried so often before the worker gives up; it then starts again from its resume point.
const TRIES_MAX: u32 = 5;

/// How long a folded record waits for its commit: what a commit costs is a property of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// Longest while there is work.
    pub busy: Duration,
    /// Longest while there is work, and somebody waits for what was folded.
    pub awaited: Duration,
    /// Longest once the worker has caught up.
    pub idle: Duration,
}

impl Cadence {
    /// Of a store where a commit is a sync of this machine's disk.
    pub const EMBEDDED: Self =
        Self { busy: Duration::from_secs(10), awaited: Duration::from_secs(10), idle: Duration::from_millis(500) };
    /// Of a store where each row of a commit is paid: a row that a service writes to all the time is written about once a minute.
    pub const PAID: Self =
        Self { busy: Duration::from_secs(60), awaited: Duration::from_secs(5), idle: Duration::from_secs(60) };
}

/// What one step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Each folded record with what became of its lines.
    pub folded: Vec<(SequenceNumber, Balance)>,
    /// Nothing more was readable.
    pub caught_up: bool,
    /// How far behind the shard's newest record the fold is.
    pub behind_ms: u64,
    /// The page was empty, and there is more behind it.
    pub passed_gap: bool,
    /// The sink holds the next record back.
    pub held_back: bool,
    /// Definitions were made or came into force: whoever made them waits until that can be read, in this process or another.
    pub defines: bool,
    /// At the next record the generation begins to count, or ceases to: commit, and go on with another sink.
    pub turns: bool,
    /// Where it turns: what counts at that record.
    pub counts: Live,
    /// The shard is closed, and all of it is folded: a commit says so for its children, and there is nothing more to do.
    pub ended: bool,
}

/// See the module.
pub struct Worker<S, T, K> {
    stream: ReadOnly<S>,
    store: Arc<T>,
    sink: K,
    place: Place,
    shard: Shard,
    committed: SequenceNumber,
    /// The resume point says that the shard has ended.
    end_committed: bool,
    /// Since when there are records that are folded and not committed.
    waiting_since: Option<Instant>,
    /// A step has begun and not ended well.
    in_step: bool,
    /// The records after this position are lost, and it goes on with the oldest that is kept.
    lost_after: Option<SequenceNumber>,
    /// See `lost_parents`.
    lost_parents: Vec<(ShardId, SequenceNumber)>,
    /// See `begin_at`.
    begins_ms: Option<i64>,
    /// See `begin_with`.
    first: Option<SequenceNumber>,
}

impl<S: Stream, T: Store, K: Sink> Worker<S, T, K> {
    /// A worker at the shard's resume point; of a shard that has none, at its beginning, with the state of its parents. `NotYet`: one of them has not
    /// ended.
    pub async fn open(stream: ReadOnly<S>, store: Arc<T>, mut sink: K, place: Place) -> Result<Self, ConsumeError> {
        let (shard_id, mut end_committed, mut lost_parents) = (place.shard.clone(), false, vec![]);
        let stored = store
            .checkpoint(place.generation, &place.shard)
            .await
            .map_err(|source| ConsumeError::Checkpoint { shard: shard_id.clone(), source })?;
        let kept = stored.as_ref().map_or(vec![], |(_, parts)| snapshot::kept_beside(parts));
        let has_ended = stored.as_ref().is_some_and(|(checkpoint, _)| checkpoint.ended);
        sink.recall(&kept, has_ended).map_err(|why| ConsumeError::Kept { shard: shard_id.clone(), why })?;
        let shard = match stored {
            None => {
                let begun = lineage::begin(&stream, &*store, place.clone()).await?;
                sink.inherit(&begun.kept).map_err(|why| ConsumeError::Kept { shard: shard_id, why })?;
                lost_parents = begun.lost;
                begun.shard
            }
            Some((checkpoint, _)) if checkpoint.fold_revision != FOLD_REVISION => {
                return Err(ConsumeError::Revision { shard: shard_id, stored: checkpoint.fold_revision });
            }
            Some((checkpoint, parts)) => {
                let mut shard = Shard::restore(place.clone(), checkpoint.position, &parts)
                    .map_err(|source| ConsumeError::Snapshot { shard: shard_id, source })?;
                end_committed = checkpoint.ended;
                if checkpoint.ended {
                    shard.end();
                }
                shard
            }
        };
        let committed = shard.position();
        let lost_after = None;
        let (waiting_since, in_step) = (None, false);
        Ok(Self {
            stream,
            store,
            sink,
            place,
            shard,
            committed,
            end_committed,
            waiting_since,
            in_step,
            lost_after,
            lost_parents,
            begins_ms: None,
            first: None,
        })
    }

    /// A shard of which nothing is folded begins with the first record that arrived at or after this time, Unix milliseconds.
    pub fn begin_at(&mut self, time_ms: Option<i64>) {
        self.begins_ms = time_ms;
    }

    /// This is the first record of a shard of which nothing is folded: if it is gone before it was read, that is a loss as any other.
    pub fn begin_with(&mut self, first: Option<SequenceNumber>) {
        self.first = first;
    }

    /// The stream no longer has the records that come next: go on with the oldest that it has. What they said is in no row, which is to be told.
    pub fn pass_over_lost(&mut self) {
        self.lost_after = Some(self.shard.position());
    }

    /// Of a shard that begins: parents that the stream no longer has and that were not folded to their end, and how far they were (`ZERO`: not at
    /// all). What they said after that is in no row, which is to be told.
    pub fn lost_parents(&self) -> &[(ShardId, SequenceNumber)] {
        &self.lost_parents
    }

    /// The shard's fold.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut K {
        &mut self.sink
    }

    /// The resume point.
    pub fn committed(&self) -> SequenceNumber {
        self.committed
    }

    /// True if something is folded and not committed.
    pub fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// True if it is time to commit. `awaited`: somebody waits for what was folded.
    pub fn is_due(&self, cadence: &Cadence, caught_up: bool, awaited: bool) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let age = since.elapsed();
        // Children wait for the end.
        self.shard.is_ended()
            || self.shard.changed_rows() >= CHANGED_ROWS_MAX
            || age >= if awaited { cadence.awaited } else { cadence.busy }
            || (caught_up && (awaited || age >= cadence.idle))
    }

    /// Reads a page and folds it. Waits up to `wait` for the first record.
    pub async fn step(&mut self, wait: Duration) -> Result<Step, ConsumeError> {
        self.step_until(wait, SequenceNumber::MAX).await
    }

    /// As `step`, but folds no record past `until`.
    pub async fn step_until(&mut self, wait: Duration, until: SequenceNumber) -> Result<Step, ConsumeError> {
        if std::mem::replace(&mut self.in_step, true) {
            return Err(ConsumeError::Failed(self.place.shard.clone()));
        }
        match self.fold_page(wait, until).await {
            Err(error @ ConsumeError::Drive { source: DriveError::Stop(Stop::NewerRevision { .. }), .. }) => {
                // Nothing of that tick was folded, and the newer program goes on from here.
                self.in_step = false;
                if !sabotage::breaks(Sabotage::StopsWithoutCommit) {
                    self.commit().await?;
                }
                Err(error)
            }
            answer => {
                self.in_step = answer.is_err();
                answer
            }
        }
    }

    async fn fold_page(&mut self, wait: Duration, until: SequenceNumber) -> Result<Step, ConsumeError> {
        if self.shard.is_ended() {
            return Ok(Step { caught_up: true, ended: true, ..Step::default() });
        }
        let start = match self.shard.position() {
            SequenceNumber::ZERO if self.lost_after.is_none() && self.first.is_some() => {
                self.first.map_or(Start::TrimHorizon, Start::At)
            }
            SequenceNumber::ZERO => self.begins_ms.map_or(Start::TrimHorizon, Start::AtTimestamp),
            position if self.lost_after == Some(position) => Start::TrimHorizon,
            position => Start::After(position),
        };
        let limits = Limits { records: PAGE_RECORDS, bytes: PAGE_BYTES, wait };
        let page = self
            .stream
            .read(&self.place.shard, start, limits)
            .await
            .map_err(|source| ConsumeError::Stream { shard: self.place.shard.clone(), source })?;
        // A page of Kinesis may be empty although more will come.
        let caught_up = page.records.is_empty() && page.behind_ms == 0;
        let passed_gap = page.records.is_empty() && page.behind_ms > 0;
        let mut step = Step { caught_up, behind_ms: page.behind_ms, passed_gap, ..Step::default() };
        let (count, is_last) = (page.records.len(), page.next.is_none());
        for record in page.records {
            let is_beyond = record.sequence > until;
            // Who follows another generation looks one record further: at that one its own may begin to count.
            if is_beyond && self.sink.acts() != Some(false) {
                break;
            }
            let input = Input::of(&record);
            if is_beyond && self.shard.wants_definitions(&input).is_none() {
                break;
            }
            let Some(input) = self.sink.admit(input) else {
                step.held_back = !is_beyond;
                break;
            };
            if let Some(counts) = self.turns_at(&input).await? {
                (step.turns, step.counts) = (true, counts);
                break;
            }
            if is_beyond {
                break;
            }
            step.defines |= self.shard.wants_definitions(&input).is_some()
                || input.events().any(|event| matches!(event, Event::Defined(_)));
            let balance = self.fold(&input).await?;
            step.folded.push((record.sequence, balance));
            if self.shard.changed_rows() >= CHANGED_ROWS_MAX {
                break;
            }
        }
        if is_last && step.folded.len() == count {
            self.shard.end();
            step.ended = true;
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        Ok(step)
    }

    /// What counts from this record on, if the generation counts there and the sink does not act, or the other way round.
    async fn turns_at(&self, input: &Input) -> Result<Option<Live>, ConsumeError> {
        let Some(acts) = self.sink.acts() else { return Ok(None) };
        let after = drive::acts_after(&self.shard, &*self.store, self.place.generation, input).await;
        let (after, live) = after.map_err(|source| ConsumeError::Drive { shard: self.place.shard.clone(), source })?;
        Ok((after != acts && !(acts && sabotage::breaks(Sabotage::OldActsOn))).then_some(live))
    }

    async fn fold(&mut self, input: &Input) -> Result<Balance, ConsumeError> {
        let shard = self.place.shard.clone();
        let folded = drive::fold(&mut self.shard, &*self.store, self.place.generation, input)
            .await
            .map_err(|source| ConsumeError::Drive { shard: shard.clone(), source })?;
        if !folded.effects.is_empty() {
            match self.sink.carry_out(&shard, folded.effects).await {
                Err(why) if !sabotage::breaks(Sabotage::EffectsDropped) => {
                    return Err(ConsumeError::Effect { shard, why });
                }
                _ => {}
            }
        }
        self.waiting_since.get_or_insert_with(Instant::now);
        Ok(folded.balance)
    }

    /// Writes what changed and moves the resume point; returns where it stands. Nothing folded since: nothing is written.
    pub async fn commit(&mut self) -> Result<SequenceNumber, ConsumeError> {
        if self.in_step {
            return Err(ConsumeError::Failed(self.place.shard.clone()));
        }
        if self.shard.position() == self.committed && self.shard.is_ended() == self.end_committed {
            self.waiting_since = None;
            return Ok(self.committed);
        }
        let shard = self.place.shard.clone();
        let resume_point = self.shard.position();
        let (mut attempt, kept) = (0, self.sink.keep());
        let committed = loop {
            attempt += 1;
            // Made again for each attempt, the same each time: a copy for the next would take as much memory as all that is being written.
            let mut commit = self.shard.commit();
            snapshot::keep_beside(&mut commit, &kept);
            match self.store.commit(commit).await {
                Ok(committed) => break committed,
                // The same commit again is harmless, whether or not it happened.
                Err(_) if attempt < TRIES_MAX => tokio::time::sleep(Duration::from_millis(20 << attempt)).await,
                Err(source) => return Err(ConsumeError::Write { shard, source }),
            }
        };
        let lost = committed.rows.iter().find_map(|row| if let Written::Lost(at) = row { Some(*at) } else { None });
        if let Some(position) = lost.filter(|_| sabotage::breaks(Sabotage::LoserStops)) {
            return Err(ConsumeError::Overtaken { shard, position });
        }
        if let Err(position) = committed.checkpoint
            && (attempt == 1 || position != resume_point)
        {
            return Err(ConsumeError::Overtaken { shard, position });
        }
        self.shard.committed();
        self.sink.kept();
        self.committed = resume_point;
        self.end_committed = self.shard.is_ended();
        self.waiting_since = None;
        Ok(self.committed)
    }
}
