//! The stream, folded again into an empty store by the live fold with the live code. Decides what a replay may see; it can append nothing.
//!
//! A recorded `RolledUp` is only a barrier here: its value is the one that this replay computed, and a shard waits until the replay of the source
//! has come that far. What the stream no longer has is taken as it was recorded, or as it stands in rows.

pub(crate) mod kept;
mod said;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    event::Event,
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{Limits, ReadOnly, Start, Stream},
};
use projections::{
    fold::{
        Effect, Input, Place,
        sabotage::{self, Sabotage},
    },
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store},
};

use self::said::Said;
use crate::{
    consume::{ConsumeError, Sink, Worker},
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
    /// The stream could not be read.
    #[error("the stream could not be read: {0}")]
    Stream(#[from] events::stream::ReadError),
    /// Every shard waits for another: a rolled-up record names a position that its source never reached.
    #[error("the replay stands still at {0:?}: each shard waits for what another has to say")]
    Stuck(Vec<ShardId>),
}

/// The sink of a replay: it can tell and hear, and do nothing else.
pub struct Barrier {
    said: Arc<Mutex<Said>>,
    /// The key under which the others address this shard.
    home: HashKey,
    /// How far the replay of the control shard has come: a record that names a later definition waits.
    defined: Arc<Mutex<SequenceNumber>>,
    control: ShardId,
    /// Records from before are gone from the stream: what they said is taken as recorded.
    oldest: HashMap<ShardId, SequenceNumber>,
}

impl Sink for Barrier {
    async fn carry_out(&mut self, _: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        let mut said = self.said.lock().map_err(|_| "another shard's replay panicked".to_owned())?;
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(rolled_up) = event {
                said.say(hash_key, rolled_up);
            }
        }
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let (Ok(mut said), Ok(defined)) = (self.said.lock(), self.defined.lock()) else { return None };
        let oldest_definition = self.oldest.get(&self.control).copied().unwrap_or_default();
        if input.definitions().is_some_and(|revision| revision > *defined && revision >= oldest_definition) {
            return None;
        }
        let admitted = input.map_rolled_up(|recorded| {
            let oldest = self.oldest.get(&recorded.source).copied().unwrap_or_default();
            let believes = sabotage::breaks(Sabotage::ReplayBelievesRecorded);
            if recorded.source_position < oldest || believes {
                return Some(recorded.clone());
            }
            said.of(self.home, recorded)
        })?;
        // Only now: of a record that has to wait nothing was heard.
        for event in admitted.events() {
            if let Event::RolledUp(word) = event {
                said.heard(self.home, word);
            }
        }
        Some(admitted)
    }
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

/// All shards of a stream, on their way from its oldest record. See the module.
pub struct Replay<S, R> {
    workers: Vec<(ShardId, Worker<S, R, Barrier>)>,
    scratch: Arc<R>,
    generation: Generation,
    control: ShardId,
    defined: Arc<Mutex<SequenceNumber>>,
    oldest: HashMap<ShardId, SequenceNumber>,
    begins_ms: HashMap<ShardId, i64>,
    said: Arc<Mutex<Said>>,
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
        let (mut oldest, mut begins_ms) = (HashMap::new(), HashMap::new());
        for place in &places {
            let limits = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };
            let first = stream.read(&place.shard, Start::TrimHorizon, limits).await?.records.into_iter().next();
            let first = match first {
                Some(first) => {
                    begins_ms.insert(place.shard.clone(), first.arrived_at_ms);
                    first.sequence
                }
                None if stand.get(&place.shard).is_some_and(|at| *at > SequenceNumber::ZERO) => SequenceNumber::MAX,
                None => SequenceNumber::ZERO,
            };
            oldest.insert(place.shard.clone(), first);
        }
        let generation = places.first().map_or(Generation::default(), |place| place.generation);
        let is_gone = |shard: &ShardId| oldest.get(shard) == Some(&SequenceNumber::MAX);
        let ring = places.first().map_or(&[][..], |place| &place.ring[..]);
        let gone = ring.iter().filter(|(shard, _)| is_gone(shard)).map(|(_, range)| range.from).collect();
        let (said, defined) = (Arc::new(Mutex::new(Said::new(gone))), Arc::default());
        let control =
            places.first().map_or(ShardId::numbered(0), |place| place.owner(HashKey::of(CONTROL_KEY)).clone());
        let mut workers = vec![];
        for place in places {
            let (said, defined, control) = (said.clone(), Arc::clone(&defined), control.clone());
            let own = place.ring.iter().find(|(shard, _)| *shard == place.shard);
            let home = own.map_or(HashKey(0), |(_, range)| range.from);
            let sink = Barrier { said, home, defined, control, oldest: oldest.clone() };
            workers.push((place.shard.clone(), Worker::open(stream.clone(), scratch.clone(), sink, place).await?));
        }
        Ok(Self { workers, scratch, generation, control, defined, oldest, begins_ms, said, records: 0 })
    }

    /// The oldest record of each shard; `ZERO`: it never had any; `MAX`: all are gone.
    pub fn oldest(&self) -> &HashMap<ShardId, SequenceNumber> {
        &self.oldest
    }

    /// When the oldest record of each shard arrived.
    pub(crate) fn begins_ms(&self) -> &HashMap<ShardId, i64> {
        &self.begins_ms
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

    fn is_ahead(&self, shard: &ShardId) -> bool {
        self.said.lock().is_ok_and(|said| said.is_ahead(shard))
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
                let first = |row: &Row| self.oldest.get(&row.key.shard).copied().unwrap_or_default();
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

    fn progress(&self, until: &ResumePoints) -> Progress {
        let mut progress = Progress { records: self.records, ..Progress::default() };
        for (shard, worker) in &self.workers {
            let first = bytes_before(self.oldest.get(shard).copied().unwrap_or_default());
            let end = bytes_before(until.get(shard).copied().unwrap_or_default());
            progress.bytes += bytes_before(worker.shard().position()).clamp(first.min(end), end) - first.min(end);
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
                let (shard, worker) = &self.workers[number];
                let until = until.get(shard).copied().unwrap_or_default();
                let all_gone = self.oldest.get(shard) == Some(&SequenceNumber::MAX);
                if worker.shard().position() >= until || all_gone {
                    continue;
                }
                if !none_waits && self.is_ahead(shard) {
                    waiting.push(shard.clone());
                    is_one_ahead = true;
                    continue;
                }
                let (shard, worker) = &mut self.workers[number];
                let step = worker.step_until(Duration::ZERO, until).await?;
                moved |= !step.folded.is_empty();
                self.records += step.folded.len() as u64;
                let committed = worker.commit().await?;
                if *shard == self.control
                    && let Ok(mut defined) = self.defined.lock()
                {
                    *defined = committed;
                }
                if worker.shard().position() < until {
                    waiting.push(shard.clone());
                }
            }
            progress(self.progress(until));
            if waiting.is_empty() {
                return Ok(());
            }
            if !moved && !is_one_ahead {
                return Err(ReplayError::Stuck(waiting));
            }
            none_waits = !moved;
        }
    }
}

/// Reads them; `ZERO`: nothing of the shard was committed.
pub(crate) async fn resume_points<T: Store>(
    store: &T,
    generation: Generation,
    shards: &[ShardId],
) -> Result<ResumePoints, ReadError> {
    let mut points = ResumePoints::new();
    for shard in shards {
        let checkpoint = store.checkpoint(generation, shard).await?;
        points.insert(shard.clone(), checkpoint.map_or(SequenceNumber::ZERO, |(checkpoint, _)| checkpoint.position));
    }
    Ok(points)
}
