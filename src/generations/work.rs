//! The shards that a generation follows with, in the process that has this to do, each in a thread. Decides how far a shard is folded, and when its
//! thread has nothing to do. Nothing here can act: the sink's type holds no stream, and it stops before the first record at which its generation counts.
//!
//! | a shard of the generation | its thread |
//! | --- | --- |
//! | is behind what counts or did | folds up to there, so that both can be compared standing still |
//! | is there | looks how far that is by now; reads nothing of the stream until it has moved |
//! | is ahead, as it was filled from an archive | waits, and says so, until that has come to it: only then it has caught up |
//! | counts | does nothing until another promotion is begun: whoever has the shard's lease acts (`workers`) |
//! | has parents that the generation has not folded to their end | looks whether they have ended; opens nothing |
//!
//! Which of these it is stands in the rows: another process may act, and another may have followed before. Two that follow with one generation at the same
//! time harm nothing; one of them is overtaken, and begins again at the other's resume point. What fails is told and tried again; nobody else is in its
//! way.

mod seen;

#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use events::{
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{ReadOnly, Shard},
};
use processor::{
    consume::{ConsumeError, Worker},
    generations::{Crew, Follower, hear, readable},
};
use projections::fold::Place;
use tokio::time::Instant;

use crate::{
    AnyStore, AnyStream, with_causes,
    workers::{
        Applied, OVERTAKEN_PAUSE, PAUSE, PAUSE_MAX, Workers, held, is_overtaken, is_too_early, lost_parent_text,
        lost_records, lost_shard, place_in, spread,
    },
};

/// Pause of one that is ahead of the others, or held back by one.
pub(super) const AHEAD_PAUSE: Duration = Duration::from_millis(20);
/// A shard that is ahead of the others waits so often for them; then it goes on, as they may wait for just what it says next.
pub(super) const AHEAD_WAITS_MAX: u32 = 5;
/// How often one that is held back looks whether what it waits for is among the rows.
const HELD_LOOK: Duration = Duration::from_millis(200);

/// Where a shard is.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    time_ms: i64,
    /// Its generation counts there.
    counts: bool,
    ended: bool,
    /// It has been where the one that counts was, neither behind nor ahead: one that was filled from an archive may be.
    has_caught_up: bool,
}

/// How work on a shard ended that did not fail.
enum End {
    /// The generation is to be followed with no longer, or not here.
    Told,
    /// It is folded to its end.
    Ended,
    /// It counts since the promotion of this number.
    Counts(u16),
}

fn ahead_text(shard: &ShardId, own: Applied, until: Applied) -> String {
    format!(
        "{shard}: it was filled up to {}, and the one that counts has come to {}: that is waited for",
        own.through, until.through
    )
}

type FollowingWorker = Worker<AnyStream, AnyStore, Follower>;

/// See the module.
pub(crate) struct Followed {
    crew: Arc<Crew>,
    /// The first record of each shard that the generation holds.
    starts: BTreeMap<ShardId, SequenceNumber>,
    /// What it is called.
    name: String,
    /// It is to be followed with no longer, or not here.
    over: AtomicBool,
    /// The stream's shards, as they were listed last.
    listed: Mutex<Arc<Vec<Shard>>>,
    /// Those that have a thread, or had one.
    shards: Mutex<BTreeMap<ShardId, At>>,
    troubles: Mutex<BTreeMap<ShardId, String>>,
    /// What was said of a shard's parents.
    said: Mutex<BTreeSet<ShardId>>,
    /// How often its shards have looked how far they may go, and read a page of the stream.
    #[cfg(test)]
    pub(crate) done: [AtomicU64; 2],
}

impl Followed {
    pub(crate) fn new(crew: Arc<Crew>, starts: BTreeMap<ShardId, SequenceNumber>, name: String) -> Arc<Self> {
        let (listed, shards, troubles) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (over, said) = (AtomicBool::default(), Mutex::default());
        Arc::new(Self {
            crew,
            starts,
            name,
            over,
            listed,
            shards,
            troubles,
            said,
            #[cfg(test)]
            done: Default::default(),
        })
    }

    fn is_told(&self, workers: &Workers) -> bool {
        workers.stop.load(Ordering::SeqCst) || self.over.load(Ordering::SeqCst)
    }

    /// True: it is to end.
    async fn is_told_within(&self, workers: &Workers, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while !self.is_told(workers) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(left.min(OVERTAKEN_PAUSE / 2)).await;
        }
        true
    }

    fn note(&self, shard: &ShardId, change: impl FnOnce(&mut At)) {
        change(held(&self.shards).entry(shard.clone()).or_default());
    }

    /// Works on a shard until it has ended, or the generation or the system does.
    pub(crate) async fn work(&self, workers: &Workers, shard: &Shard) {
        let (mut pause, mut has_lost, mut counts) = (PAUSE, false, None);
        while !self.is_told(workers) {
            let begun = workers.record().promotions.last().map_or(0, |promotion| promotion.number);
            if counts.is_some_and(|since| since >= begun) {
                if self.is_told_within(workers, workers.manner.follow_look).await {
                    return;
                }
                continue;
            }
            let error = match self.go_on(workers, shard, std::mem::take(&mut has_lost)).await {
                Ok(End::Told | End::Ended) => return,
                Ok(End::Counts(since)) => {
                    (counts, pause) = (Some(since), PAUSE);
                    // A promotion that was begun has not come to this shard yet.
                    if self.is_told_within(workers, workers.manner.follow_look).await {
                        return;
                    }
                    continue;
                }
                Err(error) => error,
            };
            if let Some(lost) = lost_records(&error) {
                workers.notes.lose(format!("generation `{}`: {lost}", self.name));
                has_lost = true;
                continue;
            }
            if workers.is_unlisted(&error).await {
                let point = workers.applied_in(self.crew.generation(), &shard.id).await.unwrap_or_default();
                if !point.ended {
                    let lost = lost_shard(&shard.id, point.through);
                    workers.notes.lose(format!("generation `{}`: {lost}", self.name));
                }
                self.note(&shard.id, |at| at.ended = true);
                return;
            }
            let wait = if is_overtaken(&error) {
                OVERTAKEN_PAUSE
            } else if is_too_early(&error) {
                workers.manner.follow_look.max(OVERTAKEN_PAUSE)
            } else {
                held(&self.troubles).insert(shard.id.clone(), with_causes(&error));
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                wait
            };
            if self.is_told_within(workers, spread(wait)).await {
                return;
            }
        }
    }

    /// How far a shard of this generation may be folded; `None`: to whatever comes, as there is none that it could stay behind.
    async fn until(&self, workers: &Workers, shard: &ShardId) -> Result<Option<Applied>, ConsumeError> {
        #[cfg(test)]
        self.done[0].fetch_add(1, Ordering::SeqCst);
        let until = workers.applied_beside(Some(self.crew.generation()), shard).await;
        until.map_err(|source| ConsumeError::Checkpoint { shard: shard.clone(), source })
    }

    /// Waits until there is something to fold; opens nothing before. `None`: there is.
    async fn rest(&self, workers: &Workers, shard: &Shard) -> Result<Option<End>, ConsumeError> {
        let failed = |source| ConsumeError::Checkpoint { shard: shard.id.clone(), source };
        let mut was_ahead = false;
        loop {
            let own = workers.applied_in(self.crew.generation(), &shard.id).await.map_err(failed)?;
            let until = self.until(workers, &shard.id).await?;
            let is_there = until.is_some_and(|until| own.reaches(until));
            let ahead = until.filter(|until| !until.reaches(own));
            match ahead {
                Some(until) => drop(held(&self.troubles).insert(shard.id.clone(), ahead_text(&shard.id, own, until))),
                None if was_ahead => drop(held(&self.troubles).remove(&shard.id)),
                None => {}
            }
            was_ahead = ahead.is_some();
            self.note(&shard.id, |at| {
                at.ended = own.ended && !was_ahead;
                at.has_caught_up |= is_there && !was_ahead && own.through > SequenceNumber::ZERO;
            });
            if own.ended && !was_ahead {
                return Ok(Some(End::Ended));
            }
            if self.is_told(workers) {
                return Ok(Some(End::Told));
            }
            if !is_there {
                let parent = match own.through {
                    SequenceNumber::ZERO => self.unended_parent(workers, shard).await.map_err(failed)?,
                    _ => None,
                };
                return match parent {
                    Some(parent) => Err(ConsumeError::NotYet { shard: shard.id.clone(), parent }),
                    None => Ok(None),
                };
            }
            // What counts is asked for less often: only another promotion makes it follow.
            let record = workers.record();
            let counts = record.live() == self.crew.generation() && record.unfinished().is_none();
            let look = if counts { workers.manner.shards_look } else { workers.manner.follow_look };
            self.is_told_within(workers, look).await;
        }
    }

    /// A parent that this generation has not folded to its end, and that the stream still lists.
    async fn unended_parent(
        &self,
        workers: &Workers,
        shard: &Shard,
    ) -> Result<Option<ShardId>, projections::store::ReadError> {
        let listed = held(&self.listed).clone();
        for parent in shard.parents.iter().filter(|parent| listed.iter().any(|of| of.id == **parent)) {
            if !workers.applied_in(self.crew.generation(), parent).await?.ended {
                return Ok(Some(parent.clone()));
            }
        }
        Ok(None)
    }

    async fn go_on(&self, workers: &Workers, shard: &Shard, has_lost: bool) -> Result<End, ConsumeError> {
        if let Some(end) = self.rest(workers, shard).await? {
            return Ok(end);
        }
        let place = place_in(self.crew.generation(), shard, &held(&self.listed).clone());
        let follower = self.crew.follower(shard.id.clone(), shard.range);
        let (stream, store) = (ReadOnly::new(workers.stream.clone()), workers.store.clone());
        let mut worker = Worker::open(stream, store, follower, place.clone()).await?;
        worker.begin_at(self.crew.start_ms());
        worker.begin_with(self.starts.get(&shard.id).copied());
        if has_lost {
            worker.pass_over_lost();
        }
        if !worker.lost_parents().is_empty() && held(&self.said).insert(shard.id.clone()) {
            for lost in worker.lost_parents() {
                workers.notes.lose(format!("generation `{}`: {}", self.name, lost_parent_text(&shard.id, lost)));
            }
        }
        self.consume(workers, worker, &place, shard.range.contains(HashKey::of(CONTROL_KEY))).await
    }

    async fn consume(
        &self,
        workers: &Workers,
        mut worker: FollowingWorker,
        place: &Place,
        is_control: bool,
    ) -> Result<End, ConsumeError> {
        let (manner, shard) = (&workers.manner, &place.shard);
        let (mut waited, mut until) = (0, self.until(workers, shard).await?);
        let mut looked = Instant::now();
        loop {
            let at = Applied { through: worker.shard().position(), ended: worker.shard().is_ended() };
            if until.is_some_and(|until| at.reaches(until)) {
                until = self.until(workers, shard).await?;
            }
            let stopping = self.is_told(workers);
            let is_there = until.is_some_and(|until| at.reaches(until));
            if stopping || is_there {
                self.commit(&mut worker, place, is_control, until).await?;
                if stopping {
                    return Ok(End::Told);
                }
                self.is_told_within(workers, manner.follow_look).await;
                continue;
            }
            if waited < AHEAD_WAITS_MAX && self.crew.is_ahead(shard) {
                waited += 1;
                tokio::time::sleep(AHEAD_PAUSE).await;
                continue;
            }
            waited = 0;
            let through = until.filter(|until| !until.ended).map_or(SequenceNumber::MAX, |until| until.through);
            #[cfg(test)]
            self.done[1].fetch_add(1, Ordering::SeqCst);
            let step = worker.step_until(Duration::ZERO, through).await?;
            // At the end of a shard at which its generation counts, that is its own worker's to say.
            let is_others = step.ended && step.folded.is_empty() && worker.shard().acts();
            let is_idle = step.folded.is_empty() && !step.passed_gap;
            let is_due = worker.is_due(&manner.cadence, is_idle, false);
            if !is_others && (is_due || step.ended || step.turns || step.held_back) {
                self.commit(&mut worker, place, is_control, until).await?;
            }
            if step.turns || is_others {
                let live = if step.turns { step.counts } else { worker.shard().live() };
                self.note(shard, |at| (at.counts, at.has_caught_up) = (true, true));
                return Ok(End::Counts(live.promotion));
            }
            self.note(shard, |at| at.counts = false);
            if step.ended {
                self.note(shard, |at| at.ended = true);
                return Ok(End::Ended);
            }
            if step.held_back && looked.elapsed() >= HELD_LOOK {
                self.look(workers, &mut worker, place).await?;
                looked = Instant::now();
            }
            if is_idle {
                self.is_told_within(workers, manner.follow_look).await;
            }
        }
    }

    async fn commit(
        &self,
        worker: &mut FollowingWorker,
        place: &Place,
        is_control: bool,
        until: Option<Applied>,
    ) -> Result<(), ConsumeError> {
        // What the control shard has defined is told at once: another may be held back by just that.
        let through = worker.commit().await?;
        if is_control {
            self.crew.defined_through(through);
        }
        held(&self.troubles).remove(&place.shard);
        let at = Applied { through, ended: worker.shard().is_ended() };
        let is_there = through > SequenceNumber::ZERO && until.is_none_or(|until| at.reaches(until));
        let time_ms = worker.shard().time_ms();
        self.note(&place.shard, |at| {
            at.time_ms = time_ms;
            at.has_caught_up |= is_there;
        });
        Ok(())
    }

    /// What holds a record back another process may have folded; or that one has gone on from here, and what is waited for was of use to it only.
    async fn look(&self, workers: &Workers, worker: &mut FollowingWorker, place: &Place) -> Result<(), ConsumeError> {
        let (shard, committed) = (&place.shard, worker.committed());
        self.crew.defined_through(readable(&*workers.store, place, &self.starts).await?);
        hear(worker.sink(), &*workers.store, place).await?;
        let point = workers.applied_in(place.generation, shard).await;
        let point = point.map_err(|source| ConsumeError::Checkpoint { shard: shard.clone(), source })?;
        match point.through > committed {
            true => Err(ConsumeError::Overtaken { shard: shard.clone(), position: point.through }),
            false => Ok(()),
        }
    }
}
