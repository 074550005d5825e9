//! One generation's shards in this process, each in a thread. Decides how far a shard is folded and by which sink.
//!
//! | the generation | its shard is folded | effects |
//! | --- | --- | --- |
//! | counts | as records come; the ledger hears of it, and who waits for rows waits for these | leave |
//! | does not | up to where the one that counts has committed, so that both can be compared standing still | cannot leave: the sink's type holds no stream |
//!
//! Which of the two a shard is stands in its own state: the definitions in force at its resume point. At the record that changes it the worker stops, and
//! one with the other sink begins. What fails while it does not count is told and tried again; nobody else is in its way.

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
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use processor::{
    consume::{ConsumeError, Worker},
    effects::Sink,
    generations::Crew,
};
use projections::{fold::Place, generations::Live, store::Store};

use super::Told;
use crate::{
    AnyStore, AnyStream, with_causes,
    workers::{PAUSE, PAUSE_MAX, Seen, Workers, held, is_overtaken, is_too_early, passes, spread},
};

/// Pause of one that waits for what another shard, or the one that counts, does next.
const FOLLOW_PAUSE: Duration = Duration::from_millis(20);
/// A shard that is ahead of the others waits so often for them; then it goes on, as they may wait for just what it says next.
const AHEAD_WAITS_MAX: u32 = 5;

/// Where a shard is.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    committed: SequenceNumber,
    time_ms: i64,
    acts: bool,
    ended: bool,
    /// What counts by the definitions in force.
    live: Live,
    /// It has been where the one that counts was.
    has_caught_up: bool,
}

/// How work on a shard ended.
enum End {
    Told,
    Ended,
    Turned,
}

/// See the module.
pub(crate) struct Followed {
    pub(crate) crew: Arc<Crew>,
    /// It is folded no longer.
    pub(crate) over: Told,
    /// No generation counts that is known, so there is none to stay behind.
    pub(crate) alone: Told,
    shards: Mutex<BTreeMap<ShardId, At>>,
    troubles: Mutex<BTreeMap<ShardId, String>>,
}

impl Followed {
    pub(crate) fn new(crew: Arc<Crew>) -> Arc<Self> {
        let (shards, troubles) = (Mutex::default(), Mutex::default());
        Arc::new(Self { crew, over: AtomicBool::default(), alone: AtomicBool::default(), shards, troubles })
    }

    /// The last promotion that a shard has come to, if one of another generation.
    pub(crate) fn promoted(&self) -> Option<Live> {
        let shards = held(&self.shards);
        let lives = shards.values().map(|at| at.live).filter(|live| live.generation != self.crew.generation());
        lives.max_by_key(|live| live.promotion)
    }

    /// A shard that has a thread from now on.
    pub(crate) fn expect(&self, shard: &ShardId) {
        held(&self.shards).entry(shard.clone()).or_default();
    }

    /// How far each shard is committed.
    pub(crate) fn committed(&self) -> BTreeMap<ShardId, SequenceNumber> {
        held(&self.shards).iter().map(|(shard, at)| (shard.clone(), at.committed)).collect()
    }

    /// Every shard has been where the one that counts was.
    pub(crate) fn has_caught_up(&self) -> bool {
        let shards = held(&self.shards);
        !shards.is_empty() && shards.values().all(|at| at.has_caught_up || at.ended)
    }

    /// No shard counts.
    pub(crate) fn follows(&self) -> bool {
        let shards = held(&self.shards);
        !shards.is_empty() && shards.values().all(|at| !at.acts)
    }

    /// The time of the fold that all open shards have reached, Unix milliseconds.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        held(&self.shards).values().filter(|at| !at.ended).map(|at| at.time_ms).min()
    }

    /// Why shards are not folded at the moment.
    pub(crate) fn troubles(&self) -> Vec<String> {
        held(&self.troubles).values().cloned().collect()
    }

    fn is_told(&self, workers: &Workers) -> bool {
        workers.stop.load(Ordering::SeqCst) || self.over.load(Ordering::SeqCst)
    }

    fn note(&self, shard: &ShardId, change: impl FnOnce(&mut At)) {
        change(held(&self.shards).entry(shard.clone()).or_default());
    }

    /// Works on a shard until it has ended (true), or the generation or the system does. `turned`: it has come to the record at which it ceases to
    /// count.
    pub(crate) async fn work(&self, workers: &Workers, place: &Place, turned: bool) -> Result<bool, String> {
        let (mut pause, seen) = (PAUSE, Seen::default());
        // Where a worker has come to the record at which it turns, its state does not say so yet.
        let mut next = turned.then_some(false);
        loop {
            if self.is_told(workers) && next != Some(true) {
                return Ok(false);
            }
            let mut acts = next == Some(true);
            let error = match self.go_on(workers, place, next.take(), &mut acts, &seen).await {
                Ok(End::Told) => return Ok(false),
                Ok(End::Ended) => return Ok(true),
                Ok(End::Turned) => {
                    next = Some(!acts);
                    pause = PAUSE;
                    continue;
                }
                Err(error) => error,
            };
            if !workers.manner.is_alone && workers.is_loss(&seen, &error) {
                continue;
            }
            let is_own_fault = acts && (workers.manner.is_alone || !passes(&error)) && !is_too_early(&error);
            if is_own_fault {
                return Err(with_causes(&error));
            }
            let is_nobodys = is_overtaken(&error) || is_too_early(&error);
            let wait = if is_nobodys { FOLLOW_PAUSE * 5 } else { pause };
            if !is_nobodys {
                pause = (pause * 2).min(PAUSE_MAX);
                held(&self.troubles).insert(place.shard.clone(), with_causes(&error));
            }
            if workers.is_stopped_within(spread(wait)).await {
                return Ok(false);
            }
        }
    }

    /// `turned`: whether it counts from the next record on, where its state does not say so yet. `acts` says afterwards whether it counted.
    async fn go_on(
        &self,
        workers: &Workers,
        place: &Place,
        turned: Option<bool>,
        acts: &mut bool,
        seen: &Seen,
    ) -> Result<End, ConsumeError> {
        let listed = workers.stream.shards().await;
        let listed = listed.map_err(|source| ConsumeError::Stream { shard: place.shard.clone(), source })?;
        let range = listed.iter().find(|shard| shard.id == place.shard).map(|shard| shard.range);
        // One that is not listed any more keeps no homes.
        let range = range.unwrap_or(HashRange { from: HashKey(1), through: HashKey(0) });
        let is_control = range.contains(HashKey::of(CONTROL_KEY));
        let (stream, store) = (ReadOnly::new(workers.stream.clone()), workers.store.clone());
        let follower = self.crew.follower(place.shard.clone(), range);
        let worker = Worker::open(stream.clone(), store.clone(), follower, place.clone()).await?;
        *acts = turned.unwrap_or_else(|| worker.shard().acts());
        if !*acts {
            return self.consume(workers, worker, place, is_control, seen).await;
        }
        let acting = self.crew.acting(place.shard.clone(), range, workers.stream.clone());
        let worker = Worker::open(stream, store, acting, place.clone()).await?;
        workers.ledger.passed(&place.shard, worker.committed());
        self.consume(workers, worker, place, is_control, seen).await
    }

    async fn consume<K: Sink>(
        &self,
        workers: &Workers,
        mut worker: Worker<AnyStream, AnyStore, K>,
        place: &Place,
        is_control: bool,
        seen: &Seen,
    ) -> Result<End, ConsumeError> {
        let (ledger, manner, shard) = (&workers.ledger, &workers.manner, &place.shard);
        let acts = worker.sink().acts() == Some(true);
        worker.begin_at(self.crew.start_ms());
        if seen.has_lost.swap(false, Ordering::SeqCst) {
            worker.pass_over_lost();
        }
        let (mut waited, mut counted) = (0, SequenceNumber::ZERO);
        loop {
            let committed = worker.committed();
            let is_ended = worker.shard().is_ended();
            let is_alone = acts || self.alone.load(Ordering::SeqCst);
            let (time_ms, live) = (worker.shard().time_ms(), worker.shard().live());
            counted = counted.max(known(workers, shard));
            if !is_alone && !manner.is_alone && committed >= counted {
                // Another process may have the shard: then only its resume point tells.
                let point = workers.store.resume_point(live.generation, shard).await;
                let point = point.map_err(|source| ConsumeError::Checkpoint { shard: shard.clone(), source })?;
                counted = counted.max(point.map_or(SequenceNumber::ZERO, |point| point.position));
            }
            let until = if is_alone { SequenceNumber::MAX } else { counted };
            self.note(shard, |at| {
                (at.committed, at.time_ms, at.acts, at.ended, at.live) = (committed, time_ms, acts, is_ended, live);
                at.has_caught_up |= acts || (committed >= until && until > SequenceNumber::ZERO);
            });
            if is_control {
                self.crew.defined_through(committed);
            }
            let stopping = if acts { workers.stop.load(Ordering::SeqCst) } else { self.is_told(workers) };
            if !acts && !stopping && waited < AHEAD_WAITS_MAX && self.crew.is_ahead(shard) {
                waited += 1;
                tokio::time::sleep(FOLLOW_PAUSE).await;
                continue;
            }
            waited = 0;
            let wait = match acts && !stopping {
                true if worker.is_waiting() => manner.busy_wait,
                true => manner.idle_wait,
                false => Duration::ZERO,
            };
            let step = worker.step_until(wait, until).await?;
            let is_idle = step.folded.is_empty() && !step.passed_gap;
            let awaited = ledger.is_awaited(shard) || workers.waiters.load(Ordering::SeqCst) > 0;
            if acts {
                ledger.folded(shard, step.folded);
            }
            let is_last = stopping && (!acts || step.caught_up || !manner.is_alone);
            let is_due = worker.is_due(&manner.cadence, is_idle, awaited || !acts);
            if is_due || is_last || step.ended || step.turns || (step.held_back && worker.is_waiting()) {
                let held = if acts { Some(workers.commits.read().await) } else { None };
                let committed = worker.commit().await?;
                if acts {
                    ledger.committed(shard, committed);
                }
                drop(held);
                self::held(&self.troubles).remove(shard);
            }
            if step.ended {
                self.note(shard, |at| (at.committed, at.ended) = (worker.committed(), true));
                return Ok(End::Ended);
            }
            if step.turns {
                return Ok(End::Turned);
            }
            if is_last {
                return Ok(End::Told);
            }
            if is_idle && !(acts && step.caught_up) {
                tokio::time::sleep(if manner.is_alone { FOLLOW_PAUSE } else { manner.idle_wait }).await;
            }
        }
    }
}

/// How far the generation that counts has committed a shard, as far as this process knows.
fn known(workers: &Workers, shard: &ShardId) -> SequenceNumber {
    let applied = workers.ledger.applied_through();
    applied.into_iter().find(|(of, _)| of == shard).map_or(SequenceNumber::ZERO, |(_, at)| at)
}
