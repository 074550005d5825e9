//! A shard's worker in the generation that counts there, with the sink that its state asks for. Decides which of the sinks that is, and what a record that
//! waits is waiting for; never that a generation counts, which its own definitions say.
//!
//! | the generation, at the shard's resume point | the sink | at the record that changes it |
//! | --- | --- | --- |
//! | was the first one always | `Patient`: no word of another generation stands on the stream | another generation is opened |
//! | counts, by a promotion | `Acting` | another generation is opened; where the promotion that made it count comes later still, `Follower` |
//! | does not count yet | `Follower`: nobody else may have folded it to the record that promotes it | `Acting` |
//!
//! A crew's words are those that this process has folded, and those that stand in the resume points of the other shards, which are read when a record
//! waits for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use events::{
    identity::CONTROL_KEY,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use processor::{
    consume::{ConsumeError, Worker},
    delivered::Delivered,
    effects::Sink,
    generations::{Acting, Crew, Follower, defined},
};
use projections::{
    fold::{Effect, Input, Place, snapshot},
    generations::{Live, Record},
    store::{Generation, Store},
};

use crate::{
    AnyStore, AnyStream, System,
    sink::Patient,
    workers::{lost_parent_text, place_in},
};

/// See the module.
pub(super) enum Turning {
    First(Patient<AnyStream>),
    Acting(Acting<AnyStream>),
    Follower(Follower),
}

impl Sink for Turning {
    async fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        match self {
            Self::First(sink) => sink.carry_out(shard, effects).await,
            Self::Acting(sink) => sink.carry_out(shard, effects).await,
            Self::Follower(sink) => sink.carry_out(shard, effects).await,
        }
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        match self {
            Self::First(sink) => sink.admit(input),
            Self::Acting(sink) => sink.admit(input),
            Self::Follower(sink) => sink.admit(input),
        }
    }

    fn acts(&self) -> Option<bool> {
        match self {
            Self::First(sink) => sink.acts(),
            Self::Acting(sink) => sink.acts(),
            Self::Follower(sink) => sink.acts(),
        }
    }

    fn keep(&mut self) -> Vec<u8> {
        match self {
            Self::First(sink) => sink.keep(),
            Self::Acting(sink) => sink.keep(),
            Self::Follower(sink) => sink.keep(),
        }
    }

    fn kept(&mut self) {
        match self {
            Self::First(sink) => sink.kept(),
            Self::Acting(sink) => sink.kept(),
            Self::Follower(sink) => sink.kept(),
        }
    }

    fn recall(&mut self, kept: &[u8], has_ended: bool) -> Result<(), String> {
        match self {
            Self::First(sink) => sink.recall(kept, has_ended),
            Self::Acting(sink) => sink.recall(kept, has_ended),
            Self::Follower(sink) => sink.recall(kept, has_ended),
        }
    }

    fn inherit(&mut self, parents: &[Vec<u8>]) -> Result<(), String> {
        match self {
            Self::First(sink) => sink.inherit(parents),
            Self::Acting(sink) => sink.inherit(parents),
            Self::Follower(sink) => sink.inherit(parents),
        }
    }
}

/// A worker, the generation that it folds and by which promotion, and where its shard stands among the others.
pub(super) struct Opened {
    pub(super) counts: Live,
    pub(super) place: Place,
    pub(super) worker: Worker<Delivered<AnyStream>, AnyStore, Turning>,
    /// `None`: no words of other generations are met.
    crew: Option<Arc<Crew>>,
    /// How far the other shards' words were recalled.
    recalled: HashMap<ShardId, SequenceNumber>,
}

impl Opened {
    /// What it has folded leaves.
    pub(super) fn acts(&mut self) -> bool {
        self.worker.sink().acts() == Some(true)
    }

    /// It holds a record back: looks whether by now there is what that waits for.
    pub(super) async fn look(&mut self, system: &System) -> Result<(), ConsumeError> {
        let (store, place) = (&*system.store, &self.place);
        let Some(crew) = self.crew.clone() else {
            let Turning::First(sink) = self.worker.sink() else { return Ok(()) };
            return sink.look(store, place).await;
        };
        let failed = |source| ConsumeError::Checkpoint { shard: place.shard.clone(), source };
        let control = store.resume_point(place.generation, place.owner(HashKey::of(CONTROL_KEY))).await;
        crew.defined_through(control.map_err(failed)?.map_or(SequenceNumber::ZERO, |point| point.position));
        let listed = system.stream.shards().await;
        let listed = listed.map_err(|source| ConsumeError::Stream { shard: place.shard.clone(), source })?;
        for other in listed.iter().filter(|other| other.id != place.shard) {
            let point = store.resume_point(place.generation, &other.id).await.map_err(failed)?;
            let Some(point) = point.filter(|point| self.recalled.get(&other.id) != Some(&point.position)) else {
                continue;
            };
            let Some((_, parts)) = store.checkpoint(place.generation, &other.id).await.map_err(failed)? else {
                continue;
            };
            // As one that has ended: its words are recalled, and the homes that it keeps are left as they are.
            let recalled = crew.follower(other.id.clone(), other.range).recall(&snapshot::kept_beside(&parts), true);
            recalled.map_err(|why| ConsumeError::Kept { shard: other.id.clone(), why })?;
            self.recalled.insert(other.id.clone(), point.position);
        }
        Ok(())
    }
}

/// What opens workers.
pub(super) struct Opening {
    pub(super) system: Arc<System>,
    pub(super) stream: Arc<Delivered<AnyStream>>,
    /// What this process knows of words, by generation.
    crews: BTreeMap<Generation, Arc<Crew>>,
}

impl Opening {
    pub(super) fn new(system: Arc<System>, stream: Arc<Delivered<AnyStream>>) -> Self {
        Self { system, stream, crews: BTreeMap::new() }
    }

    /// The record of generations.
    pub(super) async fn record(&self, shard: &ShardId) -> Result<Record, ConsumeError> {
        let looked = self.system.generations.look().await;
        looked.map_err(|source| ConsumeError::Checkpoint { shard: shard.clone(), source })
    }

    /// A worker at the shard's resume point in this generation. `acts`: whether it counts from the next record on, where its state does not say so yet.
    /// What its parents have lost is added to `losses`.
    pub(super) async fn open(
        &mut self,
        shard: &ShardId,
        counts: Live,
        acts: Option<bool>,
        losses: &mut Vec<String>,
    ) -> Result<Opened, ConsumeError> {
        let listed = ReadOnly::new(self.stream.clone()).shards().await;
        let listed = listed.map_err(|source| ConsumeError::Stream { shard: shard.clone(), source })?;
        let found = listed.iter().find(|listed| listed.id == *shard);
        // One that is not listed any more: what was handed over of it is all that is left, and it keeps no homes.
        let range = found.map_or(HashRange { from: HashKey(1), through: HashKey(0) }, |found| found.range);
        let place = match found {
            Some(found) => place_in(counts.generation, found, &listed),
            None => {
                let ring = listed.iter().filter(|listed| !listed.closed);
                let ring = ring.map(|listed| (listed.id.clone(), listed.range)).collect();
                Place { generation: counts.generation, shard: shard.clone(), ring }
            }
        };
        let is_first_always = counts == Live::default() && acts != Some(false);
        let crew = if is_first_always { None } else { Some(self.crew(shard, counts.generation).await?) };
        let mut worker = self.begin(&place, crew.as_ref(), range, acts != Some(false)).await?;
        if let Some(crew) = crew.as_ref().filter(|_| acts.is_none() && !worker.shard().acts()) {
            worker = self.begin(&place, Some(crew), range, false).await?;
        }
        losses.extend(worker.lost_parents().iter().map(|lost| lost_parent_text(shard, lost)));
        Ok(Opened { counts, place, worker, crew, recalled: HashMap::new() })
    }

    async fn begin(
        &self,
        place: &Place,
        crew: Option<&Arc<Crew>>,
        range: HashRange,
        acts: bool,
    ) -> Result<Worker<Delivered<AnyStream>, AnyStore, Turning>, ConsumeError> {
        let (shard, stream) = (place.shard.clone(), self.system.stream.clone());
        let sink = match crew {
            None => Turning::First(Patient::new(stream)),
            Some(crew) if acts => Turning::Acting(crew.acting(shard, range, stream)),
            Some(crew) => Turning::Follower(crew.follower(shard, range)),
        };
        let stream = ReadOnly::new(self.stream.clone());
        let mut worker = Worker::open(stream, self.system.store.clone(), sink, place.clone()).await?;
        worker.begin_at(crew.and_then(|crew| crew.start_ms()));
        Ok(worker)
    }

    async fn crew(&mut self, shard: &ShardId, generation: Generation) -> Result<Arc<Crew>, ConsumeError> {
        if let Some(crew) = self.crews.get(&generation) {
            return Ok(crew.clone());
        }
        let record = self.record(shard).await?;
        let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
        let defined = defined(&*self.system.store, generation, &starts).await;
        let defined = defined.map_err(|source| ConsumeError::Drive { shard: shard.clone(), source })?;
        let crew = Crew::new(generation, record.start_ms(generation), defined);
        self.crews.insert(generation, crew.clone());
        Ok(crew)
    }
}
