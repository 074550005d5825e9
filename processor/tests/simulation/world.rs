//! One seed: a world of shards, workers and senders, and a schedule of what happens to them. After every step the rows are held against the model.

use std::sync::Arc;

use bytes::Bytes;
use events::{
    event::Ticked,
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber},
    stream::{Put, ReadOnly, Shard, Stream as _},
};
use processor::consume::{ConsumeError, Worker};
use processor::effects::Live;
use projections::{
    fold::{Place, sabotage::Sabotage},
    store::{Generation, law::random::Random},
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    actors::{BrokenIngest, Sender, Sent, Surroundings},
    alarms, check,
    fuse::Fuse,
    input::{BEGIN_MS, File},
    model::{Meaning, ModelShard},
    reference,
    shape::Shape,
    store::{BrokenStore, SimStore},
    stream::SimStream,
};

/// A law that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Fold(Sabotage),
    Store(BrokenStore),
    Ingest(BrokenIngest),
}

pub type SimWorker = Worker<SimStream, SimStore, Live<SimStream>>;

/// A process that folds one shard.
pub struct Process {
    /// Boxed, because it is moved at every turn.
    pub worker: Box<SimWorker>,
    pub name: u64,
    /// No other was ever opened beside it: nobody may overtake it.
    pub alone: bool,
    /// It hardly ever gets a turn.
    pub sleepy: bool,
}

/// See the module.
pub struct World {
    pub shape: Shape,
    pub random: Random,
    pub broken: Option<Broken>,
    pub runtime: Arc<tokio::runtime::Runtime>,
    pub fuse: Arc<Fuse>,
    pub stream: Arc<SimStream>,
    pub store: Arc<SimStore>,
    pub places: Vec<Place>,
    pub processes: Vec<Vec<Process>>,
    pub models: Vec<ModelShard>,
    /// What alarms of all shards have in common.
    pub alarms: alarms::Common,
    pub meanings: FxHashMap<Bytes, Arc<Meaning>>,
    pub senders: Vec<Sender>,
    pub files: Vec<File>,
    /// Lines and data that count, on whatever shard.
    pub counted: FxHashSet<u64>,
    pub clock_ms: i64,
    pub ticked_minute: i64,
    pub slow: Option<usize>,
    /// The tick of one who listed the shards before they split or merged.
    pub listed_before: Option<Ticked>,
    /// The step at which it is over.
    pub outage: u64,
    pub ids: u64,
    pub names: u64,
    pub step: u64,
    /// Nothing is held against the model: a broken law goes on unseen.
    pub is_unchecked: bool,
    /// What happened, if somebody wants to know.
    pub trace: Option<Vec<String>>,
}

/// What a run looked at: two runs of a seed must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    pub records: u64,
    pub rows: u64,
}

impl World {
    pub fn new(seed: u64, broken: Option<Broken>, runtime: Arc<tokio::runtime::Runtime>, traced: bool) -> Self {
        let shape = Shape::of(&mut Random::new(seed), broken);
        Self::of(seed, shape, broken, runtime, traced)
    }

    /// A world of this shape.
    pub fn of(
        seed: u64,
        shape: Shape,
        broken: Option<Broken>,
        runtime: Arc<tokio::runtime::Runtime>,
        traced: bool,
    ) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9));
        let fuse = Arc::new(Fuse::default());
        let stream =
            Arc::new(SimStream::new(shape.shards, random.next(), fuse.clone(), shape.begin_ms, shape.page_max));
        let broken_store = if let Some(Broken::Store(broken)) = broken { Some(broken) } else { None };
        let store = Arc::new(SimStore::new(shape.atomic, broken_store, random.next(), fuse.clone()));
        let ring = stream.ring();
        let places: Vec<Place> = ring
            .iter()
            .map(|(shard, _)| Place { generation: Generation::default(), shard: shard.clone(), ring: ring.clone() })
            .collect();
        let begin_ms = shape.begin_ms;
        let models = places.iter().map(|place| ModelShard::new(place.clone(), shape.limits)).collect();
        let mut world = Self {
            processes: places.iter().map(|_| vec![]).collect(),
            shape,
            random,
            broken,
            runtime,
            fuse,
            stream,
            store,
            places,
            models,
            alarms: alarms::Common::default(),
            meanings: FxHashMap::default(),
            senders: vec![],
            files: vec![],
            counted: FxHashSet::default(),
            clock_ms: begin_ms,
            ticked_minute: 0,
            slow: None,
            listed_before: None,
            outage: 0,
            ids: 0,
            names: 0,
            step: 0,
            is_unchecked: false,
            trace: traced.then(Vec::new),
        };
        for number in 0..world.shape.files {
            let now_ms = world.clock_ms + world.random.below(600_000) as i64;
            let file = File::write(&mut world.random, &mut world.ids, number, now_ms, world.shape.odd);
            world.files.push(file);
        }
        for number in 0..world.shape.producers {
            let sender = world.surrounded(|around| Sender::producer(around, number));
            world.senders.push(sender);
        }
        world.set_faults(true);
        world
    }

    pub fn set_faults(&mut self, on: bool) {
        self.stream.set_rates(if on { self.shape.stream } else { Default::default() });
        self.store.set_rates(if on { self.shape.store } else { Default::default() });
    }

    pub fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:4} {:>7} s  {}", self.step, (self.clock_ms - BEGIN_MS) / 1000, what(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    /// Lends what senders need.
    pub fn surrounded<T>(&mut self, work: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
        let broken = if let Some(Broken::Ingest(broken)) = self.broken { Some(broken) } else { None };
        let definitions = self.newest_definition();
        work(&mut Surroundings {
            random: &mut self.random,
            ids: &mut self.ids,
            now_ms: self.clock_ms,
            odd: self.shape.odd,
            eager_epochs: self.shape.eager_epochs,
            hasty: self.shape.hasty,
            definitions,
            broken,
        })
    }

    /// What a producer has read back from the store.
    fn newest_definition(&mut self) -> Option<SequenceNumber> {
        let mut newest = self.store.newest_definition();
        if self.broken == Some(Broken::Ingest(BrokenIngest::NamesUnstored)) {
            let is_control = |shard: &Shard| !shard.closed && shard.range.contains(HashKey::of(CONTROL_KEY));
            let control = self.stream.listed().iter().position(is_control).unwrap();
            let log = self.stream.log(control, 0);
            newest = log.iter().rev().find(|record| reference::is_definition(record)).map(|record| record.sequence);
        }
        newest.filter(|_| self.random.below(2) == 0)
    }

    /// Appends once; which of them are acknowledged. `None`: the answer was lost.
    pub fn append(&mut self, sent: &[Sent]) -> Option<Vec<bool>> {
        for sent in sent {
            self.meanings.insert(sent.put.data.clone(), sent.meaning.clone());
        }
        let puts: Vec<Put> = sent.iter().map(|sent| sent.put.clone()).collect();
        let stream = self.stream.clone();
        let answer = self.fuse.run(&self.runtime, None, stream.append(puts)).expect("no fuse is lit");
        match answer {
            Ok(answers) => Some(answers.into_iter().map(|answer| answer.is_ok()).collect()),
            Err(events::stream::AppendError::NotAppended(_)) => Some(vec![false; sent.len()]),
            Err(events::stream::AppendError::Unknown(_)) => None,
        }
    }

    /// Opens a worker at the resume point, beside those that are there.
    pub fn open(&mut self, shard: usize) -> Result<(), String> {
        let sink = Live(self.stream.clone());
        let (stream, place) = (ReadOnly::new(self.stream.clone()), self.places[shard].clone());
        let opened = self.fuse.run(&self.runtime, None, Worker::open(stream, self.store.clone(), sink, place));
        match opened.expect("no fuse is lit") {
            Ok(worker) => {
                self.names += 1;
                let name = self.names;
                self.say(|_| format!("shard {shard}: worker {name} opens at {:?}", worker.committed()));
                let alone = self.processes[shard].is_empty();
                self.processes[shard].iter_mut().for_each(|process| process.alone = false);
                let sleepy = self.shape.zombies && self.random.below(3) == 0;
                self.processes[shard].push(Process { worker: Box::new(worker), name, alone, sleepy });
                Ok(())
            }
            Err(error) => self.judge(shard, &error, false),
        }
    }

    /// One worker folds a page, and perhaps commits. `after`: it dies there.
    pub fn work(&mut self, shard: usize, which: usize, commits: bool, after: Option<u32>) -> Result<(), String> {
        // Death comes while it folds, or while it commits.
        let (after, in_commit) = if commits && self.random.below(2) == 0 { (None, after) } else { (after, None) };
        let Process { mut worker, name, alone, sleepy } = self.processes[shard].remove(which);
        let before = worker.shard().position();
        let fuse = self.fuse.clone();
        let done = self.fuse.run(&self.runtime, after, async {
            let step = worker.step(std::time::Duration::ZERO).await?;
            if let Some(after) = in_commit {
                fuse.light(after);
            }
            let committed = if commits { Some(worker.commit().await?) } else { None };
            Ok::<_, ConsumeError>((step.folded, committed))
        });
        let position = worker.shard().position();
        self.say(|_| {
            let done = done.as_ref().map(|done| done.as_ref().map(|(folded, committed)| (folded.len(), committed)));
            format!("shard {shard}: worker {name} {before:?} -> {position:?} {done:?}")
        });
        match done {
            Some(Ok((folded, _))) => {
                self.tell();
                for (at, balance) in folded.iter().filter(|_| !self.is_unchecked) {
                    check::outcome(&self.models[shard], *at, balance)?;
                }
                self.processes[shard].insert(which, Process { worker, name, alone, sleepy });
                Ok(())
            }
            Some(Err(error)) => self.judge(shard, &error, alone),
            None => Ok(()),
        }
    }

    /// A worker has stopped: was it allowed to?
    fn judge(&mut self, shard: usize, error: &ConsumeError, alone: bool) -> Result<(), String> {
        use processor::drive::DriveError;
        use projections::fold::Stop;
        let what = || Err(format!("shard {shard}: a worker stopped: {error}"));
        match error {
            ConsumeError::NotYet { parent, .. } if !self.store.has_ended(parent) => Ok(()),
            ConsumeError::Overtaken { .. } if alone => what(),
            ConsumeError::Drive { source: DriveError::Stop(Stop::Overtaken(_)), .. } if alone => what(),
            ConsumeError::Drive { source: DriveError::Stop(Stop::NewerRevision { .. }), .. } => {
                self.tell();
                let (point, last) = (self.store.resume_point(&self.places[shard].shard), self.models[shard].last);
                if point == last && self.models[shard].ended {
                    return Ok(());
                }
                Err(format!(
                    "shard {shard}: stopped at a newer revision with its resume point at {point:?}, not {last:?}"
                ))
            }
            ConsumeError::Drive { source: DriveError::Stop(Stop::Overtaken(_)) | DriveError::Read(_), .. }
            | ConsumeError::Overtaken { .. }
            | ConsumeError::Stream { .. }
            | ConsumeError::Checkpoint { .. }
            | ConsumeError::Write { .. }
            | ConsumeError::Effect { .. } => Ok(()),
            _ => what(),
        }
    }

    /// Tells the model what has come.
    pub fn tell(&mut self) {
        // A shard waits for another's word, which may be on its way in this very step.
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for shard in 0..self.models.len() {
                for record in self.stream.log(shard, self.models[shard].told) {
                    let (at, arrived_at_ms) = (record.sequence, record.arrived_at_ms);
                    let meaning = match self.meanings.get(&record.data) {
                        Some(meaning) if !matches!(**meaning, Meaning::System) => meaning.clone(),
                        _ => Arc::new(reference::meaning(&record)),
                    };
                    if !self.models[shard].tell(at, arrived_at_ms, &meaning, &mut self.alarms) {
                        break;
                    }
                    moved = true;
                }
            }
        }
    }

    /// After every step.
    pub fn check(&mut self) -> Result<(), String> {
        self.tell();
        if self.is_unchecked {
            self.store.take_changes();
            return Ok(());
        }
        if let Some(wrong) = self.alarms.wrong.take() {
            return Err(wrong);
        }
        for (model, length) in self.models.iter().zip(self.stream.lengths()) {
            if model.told < length {
                return Err(format!("after {:?} stands a RolledUp that its source had no reason to say", model.last));
            }
        }
        let places = &self.places;
        let at = |name: &str| places.iter().position(|place| place.shard.as_str() == name).unwrap();
        check::changes(&self.store, &self.models, at)?;
        for id in self.models.iter_mut().flat_map(|model| model.fresh.drain(..)) {
            if !self.counted.insert(id) {
                return Err(format!("line {id} was new twice"));
            }
        }
        Ok(())
    }
}
