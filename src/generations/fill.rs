//! A generation that begins in the archive. Its shards are folded from there and from the stream behind it, each in a thread of the process that was
//! asked, until all stand where the one that counts does; from then on it is a generation like others, and whoever follows with it reads the stream alone.
//! Decides when that is so.
//!
//! | a shard | is folded through |
//! | --- | --- |
//! | that is closed, or that only the archive has | its end; its children begin then |
//! | else | what the archive has of it, and at least what the one that counts has committed |
//!
//! While it is filled the generation is `Opening`, so nobody else folds it. What fails and may pass is tried again. What does not (a segment that is
//! damaged, or is another stream's) ends the filling with its reason, and asking for the same replay again goes on at the resume points. Two that fill the same
//! one harm nothing: one of them is overtaken, and goes on from there. Nothing here can act: the sink's type holds no stream.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use events::{
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{ReadOnly, Shard, Stream},
};
use processor::{
    archive::archived::Archived,
    consume::{ConsumeError, Worker},
    generations::{Crew, Follower},
};
use projections::{
    generations::{Record, Standing},
    store::{Generation, Store},
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    Generations,
    work::{AHEAD_PAUSE, AHEAD_WAITS_MAX},
};
use crate::{
    AnyStore, AnyStream,
    archive::AnyObjects,
    now_ms, with_causes,
    workers::{OVERTAKEN_PAUSE, PAUSE, PAUSE_MAX, Workers, held, is_overtaken, lost_records, passes, place_in, spread},
};

/// Between two looks at what there is to fold.
const LOOK: Duration = Duration::from_millis(200);

/// Where troubles stand that are no shard's.
fn of_all() -> ShardId {
    ShardId::named("")
}

/// The archive and the stream behind it.
pub(crate) type Whole = Archived<AnyStream, AnyObjects>;
type Filler = Worker<Whole, AnyStore, Follower>;

/// What of an archive is missing, in words. `is_cut`: what was once on the stream is not all there.
pub(crate) fn missing(whole: &Whole, is_cut: bool) -> Vec<String> {
    let unarchived = if is_cut { whole.unarchived() } else { vec![] };
    whole.said().iter().cloned().chain(unarchived).collect()
}

/// Where a shard is that has a thread.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    ended: bool,
    /// It has been where the stream and the one that counts go on.
    is_there: bool,
}

/// See the module.
pub(crate) struct Fill {
    generation: Generation,
    name: String,
    /// The first record of each shard that it holds.
    starts: BTreeMap<ShardId, SequenceNumber>,
    whole: Arc<Whole>,
    crew: Arc<Crew>,
    shards: Mutex<BTreeMap<ShardId, At>>,
    troubles: Mutex<BTreeMap<ShardId, String>>,
    /// Why it could not go on.
    failed: Mutex<Option<String>>,
    /// It can never be filled.
    is_spent: AtomicBool,
    /// More of it was committed since the record was told so last.
    has_moved: AtomicBool,
    over: AtomicBool,
}

impl Fill {
    pub(crate) fn new(record: &Record, crew: Arc<Crew>, whole: Arc<Whole>) -> Arc<Self> {
        let (generation, shards, troubles) = (crew.generation(), Mutex::default(), Mutex::default());
        let (failed, is_spent, over) = (Mutex::default(), AtomicBool::default(), AtomicBool::default());
        let has_moved = AtomicBool::default();
        let name = record.name(generation).to_owned();
        let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
        Arc::new(Self { generation, name, starts, whole, crew, shards, troubles, failed, is_spent, has_moved, over })
    }

    /// What is filled.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// True: it is under way.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// For people: from where it reads, what is missing there, and why it does not go on.
    pub(crate) fn told(&self) -> Value {
        let missing = missing(&self.whole, self.crew.start_ms().is_some());
        json!({"place": self.whole.describe(), "missing": missing, "failed": *held(&self.failed)})
    }

    pub(crate) fn troubles(&self) -> Vec<String> {
        held(&self.troubles).values().cloned().collect()
    }

    fn is_told(&self, workers: &Workers) -> bool {
        workers.stop.load(Ordering::SeqCst) || self.over.load(Ordering::SeqCst)
    }

    fn fail(&self, why: String) {
        held(&self.failed).get_or_insert(why);
        self.over.store(true, Ordering::SeqCst);
    }

    /// Fills until all is there, or it cannot go on.
    pub(crate) async fn run(self: Arc<Self>, generations: Arc<Generations>, runtime: Option<Handle>) {
        let workers = generations.workers.clone();
        while !self.is_told(&workers) {
            match self.attend(&generations, runtime.as_ref()).await {
                Ok(true) => {
                    self.over.store(true, Ordering::SeqCst);
                    if let Err(why) = generations.stands(self.generation, Standing::Filling).await {
                        self.fail(why);
                    }
                    return;
                }
                Ok(false) => drop(held(&self.troubles).remove(&of_all())),
                Err(why) => drop(held(&self.troubles).insert(of_all(), why)),
            }
            workers.is_stopped_within(LOOK).await;
        }
        if self.is_spent.load(Ordering::SeqCst)
            && let Err(why) = generations.stands(self.generation, Standing::Ended).await
        {
            held(&self.troubles).insert(of_all(), why);
        }
    }

    /// A thread for each shard whose parents have ended. True: all shards are there.
    async fn attend(self: &Arc<Self>, generations: &Generations, runtime: Option<&Handle>) -> Result<bool, String> {
        let record = generations.look().await.map_err(|error| with_causes(&error))?;
        if record.standing(self.generation) != Standing::Opening {
            self.fail("the generation is not being opened any more".to_owned());
            return Ok(false);
        }
        // Else it would pass for one that was given up, and end once another is opened.
        let is_due = record.entry(self.generation).is_some_and(|entry| entry.is_progress_due(now_ms()));
        if is_due && self.has_moved.swap(false, Ordering::SeqCst) {
            let moved = |record: &mut Record| {
                record.progresses(self.generation, now_ms());
                Ok::<_, String>(())
            };
            generations.change(moved).await??;
        }
        let listed = Arc::new(self.whole.shards().await.map_err(|error| with_causes(&error))?);
        let mut is_all = true;
        for shard in listed.iter() {
            let known = held(&self.shards).get(&shard.id).copied();
            is_all &= known.is_some_and(|at| at.ended || at.is_there);
            let has_ended = |parent: &ShardId| held(&self.shards).get(parent).is_some_and(|at| at.ended);
            let is_listed = |parent: &&ShardId| listed.iter().any(|shard| shard.id == **parent);
            if known.is_some() || !shard.parents.iter().filter(is_listed).all(has_ended) {
                continue;
            }
            let (own, workers) = (self.clone(), generations.workers.clone());
            let (shard, listed, live) = (shard.clone(), listed.clone(), record.live());
            let (name, id) = (format!("g{}-{}", self.generation.0, shard.id), shard.id.clone());
            let work = async move {
                own.work(&workers, &shard, &listed, live).await;
                Ok(())
            };
            // Known before it begins: what the thread says of it, it may say at once.
            held(&self.shards).insert(id.clone(), At::default());
            if let Err(error) = generations.workers.spawn_on(&name, runtime.cloned(), work) {
                held(&self.shards).remove(&id);
                return Err(format!("no thread for {name}: {error}"));
            }
        }
        Ok(is_all)
    }

    async fn work(&self, workers: &Workers, shard: &Shard, listed: &[Shard], live: Generation) {
        let (mut pause, mut has_lost) = (PAUSE, false);
        while !self.is_told(workers) {
            let error = match self.go_on(workers, shard, listed, live, std::mem::take(&mut has_lost)).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if let Some(lost) = lost_records(&error) {
                workers.notes.lose(format!("generation `{}`: {lost}", self.name));
                has_lost = true;
                continue;
            }
            if !passes(&error) {
                return self.fail(with_causes(&error));
            }
            let wait = if is_overtaken(&error) {
                OVERTAKEN_PAUSE
            } else {
                held(&self.troubles).insert(shard.id.clone(), with_causes(&error));
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                wait
            };
            workers.is_stopped_within(spread(wait)).await;
        }
    }

    async fn go_on(
        &self,
        workers: &Workers,
        shard: &Shard,
        listed: &[Shard],
        live: Generation,
        has_lost: bool,
    ) -> Result<(), ConsumeError> {
        let place = place_in(self.generation, shard, listed);
        let follower = self.crew.follower(shard.id.clone(), shard.range);
        let (stream, store) = (ReadOnly::new(self.whole.clone()), workers.store.clone());
        let mut worker: Filler = Worker::open(stream, store, follower, place).await?;
        worker.begin_at(self.crew.start_ms());
        worker.begin_with(self.starts.get(&shard.id).copied());
        if has_lost {
            worker.pass_over_lost();
        }
        let is_control = shard.range.contains(HashKey::of(CONTROL_KEY));
        let (mut waited, mut until) = (0, SequenceNumber::ZERO);
        loop {
            let at = worker.shard().position();
            if at >= until {
                until = self.until(workers, shard, live).await?;
            }
            let (is_there, stopping) = (at >= until, self.is_told(workers));
            if is_there || stopping {
                self.commit(&mut worker, shard, is_control).await?;
                held(&self.shards).entry(shard.id.clone()).or_default().is_there |= is_there;
                if stopping {
                    return Ok(());
                }
                workers.is_stopped_within(LOOK).await;
                continue;
            }
            if waited < AHEAD_WAITS_MAX && self.crew.is_ahead(&shard.id) {
                waited += 1;
                tokio::time::sleep(AHEAD_PAUSE).await;
                continue;
            }
            waited = 0;
            let step = worker.step_until(Duration::ZERO, until).await?;
            if step.turns {
                // Only the archive knows of the one that had this number. Another name gets another number.
                self.is_spent.store(true, Ordering::SeqCst);
                let name = &self.name;
                self.fail(format!(
                    "the archive says that a generation of the number of `{name}` counted once, so this one ends: take another name"
                ));
                return Ok(());
            }
            let is_idle = step.folded.is_empty() && !step.passed_gap;
            if step.ended || step.held_back || worker.is_due(&workers.manner.cadence, is_idle, false) {
                self.commit(&mut worker, shard, is_control).await?;
            }
            if step.ended {
                held(&self.shards).entry(shard.id.clone()).or_default().ended = true;
                return Ok(());
            }
            if is_idle {
                tokio::time::sleep(AHEAD_PAUSE).await;
            }
        }
    }

    /// How far a shard is to be folded here.
    async fn until(&self, workers: &Workers, shard: &Shard, live: Generation) -> Result<SequenceNumber, ConsumeError> {
        let listed = self.whole.shards().await;
        let listed = listed.map_err(|source| ConsumeError::Stream { shard: shard.id.clone(), source })?;
        if listed.iter().any(|of| of.id == shard.id && of.closed) {
            return Ok(SequenceNumber::MAX);
        }
        let point = workers.store.resume_point(live, &shard.id).await;
        let point = point.map_err(|source| ConsumeError::Checkpoint { shard: shard.id.clone(), source })?;
        let committed = point.map_or(SequenceNumber::ZERO, |point| point.position);
        Ok(committed.max(self.whole.archived_through(&shard.id).unwrap_or_default()))
    }

    async fn commit(&self, worker: &mut Filler, shard: &Shard, is_control: bool) -> Result<(), ConsumeError> {
        let before = worker.committed();
        let committed = worker.commit().await?;
        self.has_moved.fetch_or(committed > before, Ordering::SeqCst);
        if is_control {
            self.crew.defined_through(committed);
        }
        held(&self.troubles).remove(&shard.id);
        Ok(())
    }
}
