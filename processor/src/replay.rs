//! The stream, folded again into an empty store by the live fold with the live code. Decides what a replay may see; it can append nothing.
//!
//! A recorded `RolledUp` is only a barrier here: its value is the one that this replay computed, and a shard waits until the replay of the source
//! has come that far. What the stream no longer has is taken as it was recorded, or as it stands in rows.

mod barrier;
pub(crate) mod kept;
pub(crate) mod said;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use events::{
    event::Event,
    identity::CONTROL_KEY,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{ReadOnly, Shard, Start, Stream},
};
use projections::{
    fold::{
        FOLD_REVISION, Place,
        alarms::{HOMES, point},
        sabotage::{self, Sabotage},
    },
    store::{Checkpoint, Commit, Generation, Kind, ReadError, Row, RowKey, Span, Store},
};

use self::{barrier::Barrier, said::Said};
use crate::{
    consume::{ConsumeError, Worker},
    drive::{DriveError, SCAN_ROWS},
};

/// The replay could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The replay's worker.
    #[error("the stream could not be folded again: {0}")]
    Replay(#[from] ConsumeError),
    /// Rows could not be read.
    #[error("rows could not be read: {0}")]
    Read(#[from] ReadError),
    /// Definitions could not be read.
    #[error("definitions could not be read: {0}")]
    Definitions(#[source] DriveError),
    /// The archive could not be used.
    #[error(transparent)]
    Archive(Box<crate::archive::ArchiveError>),
    /// The stream could not be read.
    #[error("the stream could not be read: {0}")]
    Stream(#[from] events::stream::ReadError),
    /// Every shard waits for another: a rolled-up record names a position that its source never reached.
    #[error("the replay stands still at {0:?}: each shard waits for what another has to say")]
    Stuck(Vec<ShardId>),
}

/// Where the rows of each shard stand.
pub type ResumePoints = HashMap<ShardId, SequenceNumber>;

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records folded.
    pub records: u64,
    /// Bytes of the stream that are done, where its positions tell bytes.
    pub bytes: u64,
    /// Bytes of the stream in all; 0 where its positions do not tell bytes.
    pub bytes_total: u64,
}

/// Bytes of a shard's log before a position; 0 where the stream's positions do not tell them.
pub fn bytes_before(position: SequenceNumber) -> u64 {
    position.parts().map_or(0, |(_, offset)| offset)
}

/// One shard on its way.
struct Replaying<S, R> {
    place: Place,
    /// No more records will come: once all are folded it is to say so, as its children wait for that.
    closed: bool,
    /// It owns the key of definitions, or owned it.
    is_control: bool,
    /// `None`: its parents have not ended yet.
    worker: Option<Worker<S, R, Barrier>>,
}

/// All shards of a stream, on their way from its oldest record. See the module.
pub struct Replay<S, R> {
    stream: ReadOnly<S>,
    workers: Vec<Replaying<S, R>>,
    scratch: Arc<R>,
    generation: Generation,
    oldest_definition: SequenceNumber,
    defined: Arc<Mutex<SequenceNumber>>,
    oldest: HashMap<ShardId, SequenceNumber>,
    begins_ms: HashMap<ShardId, i64>,
    /// See `open_from`.
    from_ms: Option<i64>,
    orphans: Vec<ShardId>,
    /// Shards of which the stream has nothing left, listed or not.
    gone: BTreeSet<ShardId>,
    said: Arc<Mutex<Said>>,
    believes: Arc<AtomicBool>,
    records: u64,
}

impl<S: Stream, R: Store> Replay<S, R> {
    /// A replay of every shard into `scratch`, an empty store. `stand`: where the rows stand that were made of the stream before.
    pub async fn open(
        stream: ReadOnly<S>,
        scratch: Arc<R>,
        places: Vec<Place>,
        stand: &ResumePoints,
    ) -> Result<Self, ReplayError> {
        Self::open_from(stream, scratch, places, stand, None).await
    }

    /// The same, with the records that arrived at a time or later, Unix milliseconds, as if the stream had lost all others.
    pub(crate) async fn open_from(
        stream: ReadOnly<S>,
        scratch: Arc<R>,
        places: Vec<Place>,
        stand: &ResumePoints,
        from_ms: Option<i64>,
    ) -> Result<Self, ReplayError> {
        let listed = stream.shards().await?;
        let (mut oldest, mut begins_ms) = (HashMap::new(), HashMap::new());
        let is_closed = |id: &ShardId| listed.iter().any(|shard| shard.id == *id && shard.closed);
        for place in &places {
            let start = from_ms.map_or(Start::TrimHorizon, Start::AtTimestamp);
            let first = match stream.first_from(&place.shard, start).await? {
                Some(first) => {
                    begins_ms.insert(place.shard.clone(), first.arrived_at_ms);
                    first.sequence
                }
                None if stand.get(&place.shard).is_some_and(|at| *at > SequenceNumber::ZERO) => SequenceNumber::MAX,
                // It ended before the time from which on records count: what it held is in rows alone.
                None if from_ms.is_some() && is_closed(&place.shard) && !sabotage::breaks(Sabotage::EndedIsNew) => {
                    SequenceNumber::MAX
                }
                None => SequenceNumber::ZERO,
            };
            oldest.insert(place.shard.clone(), first);
        }
        let generation = places.first().map_or(Generation::default(), |place| place.generation);
        let is_gone = |shard: &ShardId| oldest.get(shard) == Some(&SequenceNumber::MAX);
        let kept: Vec<HashRange> = listed.iter().filter(|shard| !is_gone(&shard.id)).map(|shard| shard.range).collect();
        let is_kept = |home: &HashKey| kept.iter().any(|range| range.contains(*home));
        let gone = (0..HOMES).map(point).filter(|home| !is_kept(home)).collect();
        let is_lost = |parent: &ShardId| !oldest.contains_key(parent) || is_gone(parent);
        let orphans = listed.iter().filter(|shard| shard.parents.iter().any(is_lost));
        let orphans = orphans.map(|shard| shard.id.clone()).collect();
        let named = listed.iter().flat_map(|shard| shard.parents.iter().chain([&shard.id]));
        let gone_shards = named.filter(|shard| is_lost(shard)).cloned().collect();
        let (said, defined) = (Arc::new(Mutex::new(Said::new(gone))), Arc::default());
        let control_key = HashKey::of(CONTROL_KEY);
        let controls = listed.iter().filter(|shard| shard.range.contains(control_key));
        let oldest_definition = oldest_definition(controls, &oldest, stand);
        let workers = places.into_iter().map(|place| {
            let own = listed.iter().find(|shard| shard.id == place.shard);
            Replaying {
                closed: own.is_some_and(|shard| shard.closed),
                is_control: own.is_some_and(|shard| shard.range.contains(control_key)),
                worker: None,
                place,
            }
        });
        let workers = workers.collect();
        Ok(Self {
            stream,
            workers,
            scratch,
            generation,
            oldest_definition,
            defined,
            oldest,
            begins_ms,
            from_ms,
            orphans,
            gone: gone_shards,
            said,
            believes: Arc::default(),
            records: 0,
        })
    }

    /// Opens a shard's worker, if that was not done; false: its parents have not ended.
    async fn begin(&mut self, number: usize) -> Result<bool, ReplayError> {
        let of = &self.workers[number];
        if of.worker.is_some() {
            return Ok(true);
        }
        let (said, defined, oldest) = (self.said.clone(), Arc::clone(&self.defined), self.oldest.clone());
        let (oldest_definition, believes) = (self.oldest_definition, self.believes.clone());
        let sink = Barrier { said, defined, oldest_definition, oldest, believes };
        match Worker::open(self.stream.clone(), self.scratch.clone(), sink, of.place.clone()).await {
            Ok(mut worker) => {
                worker.begin_at(self.from_ms);
                self.workers[number].worker = Some(worker);
            }
            Err(ConsumeError::NotYet { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// The oldest record of each shard; `ZERO`: it never had any; `MAX`: all are gone.
    pub fn oldest(&self) -> &HashMap<ShardId, SequenceNumber> {
        &self.oldest
    }

    /// When the oldest record of each shard arrived.
    pub(crate) fn begins_ms(&self) -> &HashMap<ShardId, i64> {
        &self.begins_ms
    }

    /// Shards of whose parents, or one of them, the stream has nothing left: what they began with cannot be made again.
    pub(crate) fn orphans(&self) -> &[ShardId] {
        &self.orphans
    }

    /// Records folded so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Most that was remembered at once of what shards told each other: does not grow with the stream's age.
    pub fn said_most(&self) -> usize {
        self.said.lock().map_or(0, |said| said.most())
    }

    /// What was said and does not stand on the stream up to here, with the key that it is for: the effects that a crash prevented.
    pub(crate) fn unheard(&self) -> Vec<(HashKey, Event)> {
        self.said.lock().map_or(vec![], |said| said.unheard())
    }

    /// Gives the replay what `choose` keeps of rows of these kinds, for records that the stream no longer has.
    pub(crate) async fn give<T: Store>(
        &self,
        store: &T,
        kinds: &[Kind],
        choose: impl Fn(Row, SequenceNumber) -> Option<Row>,
    ) -> Result<(), ReplayError> {
        for kind in kinds {
            let span = Span::All { tenant: None, generation: self.generation, kind: *kind };
            let mut after: Option<RowKey> = None;
            loop {
                let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
                let first = |row: &Row| first_of(&self.oldest, &row.key.shard);
                let given: Vec<Row> = page
                    .rows
                    .into_iter()
                    .filter_map(|row| {
                        let first = first(&row);
                        choose(row, first)
                    })
                    .collect();
                if !given.is_empty() {
                    let shard = ShardId::numbered(0);
                    self.scratch.write(given).await.map_err(|source| ConsumeError::Write { shard, source })?;
                }
                match page.next_after {
                    Some(key) => after = Some(key),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Gives the replay the states in which shards have ended of which the stream has nothing left: their children begin with them.
    pub(crate) async fn give_ends<T: Store>(&self, store: &T) -> Result<(), ReplayError> {
        for shard in &self.gone {
            let Some((checkpoint, parts)) = store.checkpoint(self.generation, shard).await? else { continue };
            if checkpoint.ended {
                let checkpoint = Checkpoint { fold_revision: FOLD_REVISION, ..checkpoint };
                let parts = checkpoint.parts.iter().cloned().zip(parts).collect();
                let given = self.scratch.commit(Commit { rows: vec![], parts, checkpoint }).await;
                given.map_err(|source| ConsumeError::Write { shard: shard.clone(), source })?;
            }
        }
        Ok(())
    }

    fn progress(&self, until: &ResumePoints) -> Progress {
        let mut progress = Progress { records: self.records, ..Progress::default() };
        for Replaying { place: Place { shard, .. }, worker, .. } in &self.workers {
            let position = worker.as_ref().map_or(SequenceNumber::ZERO, |worker| worker.shard().position());
            let first = bytes_before(self.oldest.get(shard).copied().unwrap_or_default());
            let end = bytes_before(until.get(shard).copied().unwrap_or_default());
            progress.bytes += bytes_before(position).clamp(first.min(end), end) - first.min(end);
            progress.bytes_total += end - first.min(end);
        }
        progress
    }

    /// Folds and commits every shard up to and including a position. `progress` hears how much is done.
    pub async fn through(&mut self, until: &ResumePoints, progress: &impl Fn(Progress)) -> Result<(), ReplayError> {
        // Who is ahead of its listeners waits for them, unless nobody else can go on: they may wait for just what it says next.
        let mut none_waits = false;
        loop {
            let (mut moved, mut waiting, mut is_one_ahead) = (false, vec![], false);
            for number in 0..self.workers.len() {
                let shard = self.workers[number].place.shard.clone();
                let until = until.get(&shard).copied().unwrap_or_default();
                let (all_gone, begins) =
                    (self.oldest.get(&shard) == Some(&SequenceNumber::MAX), self.workers[number].worker.is_none());
                if !self.begin(number).await? {
                    waiting.extend((until > SequenceNumber::ZERO).then_some(shard));
                    continue;
                }
                moved |= begins && !all_gone;
                let Replaying { closed, is_control, worker: Some(worker), .. } = &mut self.workers[number] else {
                    continue;
                };
                let is_through = worker.shard().position() >= until || all_gone;
                if is_through && (!*closed || worker.shard().is_ended()) {
                    continue;
                }
                if !none_waits && !is_through && self.said.lock().is_ok_and(|said| said.is_ahead(&shard)) {
                    waiting.push(shard);
                    is_one_ahead = true;
                    continue;
                }
                let step = worker.step_until(Duration::ZERO, until).await?;
                moved |= !step.folded.is_empty() || step.ended || step.passed_gap;
                self.records += step.folded.len() as u64;
                let committed = worker.commit().await?;
                if *is_control && let Ok(mut defined) = self.defined.lock() {
                    *defined = committed.max(*defined);
                }
                if worker.shard().position() < until && !all_gone {
                    waiting.push(shard);
                }
            }
            progress(self.progress(until));
            if waiting.is_empty() {
                return Ok(());
            }
            // Where definitions are lost, and nobody has given them, sources say nothing of what stands on the stream: that is taken as it was recorded,
            // once nobody can say it any more.
            let may_believe = self.oldest_definition > SequenceNumber::ZERO;
            let believed = self.believes.swap(!moved && !is_one_ahead && may_believe, Ordering::Relaxed);
            if !moved && !is_one_ahead && (believed || !may_believe) {
                return Err(ReplayError::Stuck(waiting));
            }
            none_waits = !moved;
        }
    }
}

/// From where on definitions are read from the stream, by the shards that owned their key one after another: what the first of them have lost was
/// defined before all that is left.
fn oldest_definition<'a>(
    controls: impl Iterator<Item = &'a Shard>,
    oldest: &HashMap<ShardId, SequenceNumber>,
    stand: &ResumePoints,
) -> SequenceNumber {
    let (mut lost_through, mut has_lost) = (SequenceNumber::ZERO, false);
    for shard in controls {
        match first_of(oldest, &shard.id) {
            SequenceNumber::MAX => {
                lost_through = stand.get(&shard.id).copied().unwrap_or_default().max(lost_through);
                has_lost = true;
            }
            // It has none yet, and what its parents had is lost: what comes is behind that.
            SequenceNumber::ZERO if has_lost => break,
            SequenceNumber::ZERO if shard.parents.iter().any(|parent| !oldest.contains_key(parent)) => {
                return SequenceNumber::MAX;
            }
            first => return first,
        }
    }
    lost_through.next()
}

/// The oldest record that the stream has of a shard; of one that it does not list any more it has none.
pub(crate) fn first_of(oldest: &HashMap<ShardId, SequenceNumber>, shard: &ShardId) -> SequenceNumber {
    oldest.get(shard).copied().unwrap_or(SequenceNumber::MAX)
}

/// Reads them; `ZERO`: nothing of the shard was committed.
pub(crate) async fn resume_points<T: Store>(
    store: &T,
    generation: Generation,
    shards: &[ShardId],
) -> Result<ResumePoints, ReadError> {
    let mut points = ResumePoints::new();
    for shard in shards {
        let checkpoint = store.resume_point(generation, shard).await?;
        points.insert(shard.clone(), checkpoint.map_or(SequenceNumber::ZERO, |checkpoint| checkpoint.position));
    }
    Ok(points)
}
