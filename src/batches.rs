//! Batches of a shard's records that an event source hands over, folded without threads. Decides how far a batch is folded in the time there is, and says
//! only what is durable; what a fold is, `processor` says. Nothing is taken as folded because it was handed over: the resume point alone tells.
//!
//! | what is met | then |
//! | --- | --- |
//! | records at or before the resume point | are passed over |
//! | records before the batch that are not folded | are read from the stream first; where they are gone, that is a loss, which is said |
//! | a parent that was not folded to its end | is read from the stream to its end first |
//! | a worker kept from the batch before, with other records before this one | is let go: somebody else has gone on; another begins at the resume point |
//! | another worker was quicker with the commit | the same |
//! | a record that names definitions which cannot be read yet | what stands before it is committed; it is waited for a moment, then left for a retry |
//! | another generation counts from a record on | what stands before it is committed, the rest is left for `weir up`, which folds every generation |
//! | the time is nearly over | what is folded is committed |

use std::{collections::VecDeque, sync::Arc, time::Duration};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadError, ReadOnly, Record, Stream},
};
use processor::{
    consume::{Cadence, ConsumeError, Worker},
    delivered::Delivered,
    effects::Sink,
};
use projections::{
    fold::{LINEAGE_MAX, Place, balance::Balance},
    store::Store,
};
use tokio::time::Instant;

use crate::{
    AnyStore, AnyStream, System,
    sink::Patient,
    with_causes,
    workers::{is_overtaken, lost_parent_text, lost_text, places},
};

/// Workers that are kept for the next batch of their shards; with one more, that which was used longest ago is let go.
const KEPT_MAX: usize = 4;
/// How often a batch's worker may begin anew because another was quicker, or because records are lost. Then the rest is left for a retry.
const OPENINGS_MAX: u32 = 5;
/// Generations of parents that are folded to their ends for one batch; a fold begins with no more ancestors either.
const PARENTS_MAX: usize = LINEAGE_MAX;
/// How long definitions are waited for that cannot be read yet. Then the rest is left for a retry, as the time waited for is paid.
const HELD_MAX: Duration = Duration::from_secs(5);
/// How often who waits looks again.
const LOOK: Duration = Duration::from_millis(200);

/// A worker, and where its shard stands among the others.
struct Opened {
    place: Place,
    worker: Worker<Delivered<AnyStream>, AnyStore, Patient<AnyStream>>,
}

/// Records of one shard, as they were handed over: none between them is missing.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The shard.
    pub shard: ShardId,
    /// Not empty; in order.
    pub records: Vec<Record>,
}

/// How long a batch may take.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// No further page is folded then: what is left of the time is for the commit.
    pub stop: Instant,
    /// Whatever is under way is given up then.
    pub give_up: Instant,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The resume point: all of the shard through it is durable, and will not be asked for again.
    pub durable_through: SequenceNumber,
    /// The resume point of the shard, or of a parent that has to end first, was moved: a retry will find less to do.
    pub has_moved: bool,
    /// Records that were folded, those that stood before the batch and those of parents with them.
    pub records: u64,
    /// What became of their lines.
    pub balance: Balance,
    /// How often a worker was begun; 0: one was there that had folded the batch before.
    pub openings: u32,
    /// What was gone from the stream before it was folded, in words.
    pub losses: Vec<String>,
    /// Why not all of the batch is durable, in words.
    pub left: Option<String>,
}

/// Why work on a shard ended early.
enum Early {
    /// It failed.
    Failed(ConsumeError),
    /// There was no time.
    Time,
    /// Definitions that a record names cannot be read yet.
    Held,
    /// Another generation counts from the next record on.
    Turned,
}

impl From<ConsumeError> for Early {
    fn from(error: ConsumeError) -> Self {
        Self::Failed(error)
    }
}

/// See the module. Several of them may work on the same shards at the same time, in any processes.
pub struct Batches {
    system: Arc<System>,
    stream: Arc<Delivered<AnyStream>>,
    /// Those used last are at the end. Each has committed all that it has folded.
    kept: VecDeque<Opened>,
}

impl Batches {
    /// Nothing is kept yet.
    pub fn new(system: Arc<System>) -> Self {
        let stream = Arc::new(Delivered::new(system.stream.clone()));
        Self { system, stream, kept: VecDeque::new() }
    }

    /// Folds and commits as much of the batch as there is time for.
    pub async fn fold(&mut self, batch: &Batch, until: Until) -> Outcome {
        let mut outcome = Outcome::default();
        let last = batch.records.iter().map(|record| record.sequence).max().unwrap_or_default();
        self.stream.hand_over(batch.shard.clone(), batch.records.clone());
        let left = match tokio::time::timeout_at(until.give_up, self.fold_all(&batch.shard, last, until, &mut outcome))
            .await
        {
            Ok(Ok(())) => None,
            Ok(Err(early)) => Some(words(&early)),
            Err(_) => Some(words(&Early::Time)),
        };
        outcome.left = left.filter(|_| outcome.durable_through < last);
        self.stream.forget();
        outcome
    }

    async fn fold_all(
        &mut self,
        shard: &ShardId,
        last: SequenceNumber,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut has_lost = false;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(shard, last, until, has_lost, outcome).await {
                Err(Early::Failed(error)) if tries < OPENINGS_MAX => {
                    has_lost = self.go_on_after(error, until, outcome).await?;
                }
                done => return done,
            }
        }
    }

    /// Does what has to be done before another attempt. True: the next goes on with the oldest record that is kept.
    async fn go_on_after(&self, error: ConsumeError, until: Until, outcome: &mut Outcome) -> Result<bool, Early> {
        match error {
            ConsumeError::Stream { source: ReadError::Trimmed { shard, asked, oldest }, .. } => {
                outcome.losses.push(lost_text(&shard, asked, oldest));
                Ok(true)
            }
            ConsumeError::NotYet { parent, .. } => self.end_parents(parent, until, outcome).await.map(|()| false),
            error if is_overtaken(&error) => Ok(false),
            error => Err(error.into()),
        }
    }

    async fn attempt(
        &mut self,
        shard: &ShardId,
        last: SequenceNumber,
        until: Until,
        has_lost: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut opened = match self.take_kept(shard).await {
            Some(opened) if !has_lost => opened,
            _ => self.open(shard, until, outcome).await?,
        };
        outcome.durable_through = outcome.durable_through.max(opened.worker.committed());
        if has_lost {
            opened.worker.pass_over_lost();
        }
        let done = self.advance(&mut opened, Some(last), until, outcome).await;
        outcome.durable_through = outcome.durable_through.max(opened.worker.committed());
        // One that has turned would not see that others went on.
        if !matches!(done, Err(Early::Failed(_) | Early::Turned)) {
            self.keep(opened);
        }
        done
    }

    /// The worker that has folded what stands right before the batch, if there is one.
    async fn take_kept(&mut self, shard: &ShardId) -> Option<Opened> {
        let kept = self.kept.iter().position(|opened| opened.place.shard == *shard)?;
        let opened = self.kept.remove(kept)?;
        let follows = self.stream.follows(shard, opened.worker.committed()).await;
        // What is wrong with the stream is said by the reading that comes next.
        follows.is_ok_and(|follows| follows).then_some(opened)
    }

    fn keep(&mut self, opened: Opened) {
        self.kept.push_back(opened);
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    /// A worker at the shard's resume point.
    async fn open(&self, shard: &ShardId, until: Until, outcome: &mut Outcome) -> Result<Opened, Early> {
        if Instant::now() >= until.stop {
            return Err(Early::Time);
        }
        let listed = ReadOnly::new(self.stream.clone()).shards().await;
        let listed = listed.map_err(|source| ConsumeError::Stream { shard: shard.clone(), source })?;
        let all = places(&listed);
        let ring = all.first().map_or(vec![], |place| place.ring.clone());
        let place = all.into_iter().find(|place| place.shard == *shard);
        // One that is not listed any more: what was handed over of it is all that is left.
        let place = place.unwrap_or(Place { generation: self.system.generation(), shard: shard.clone(), ring });
        outcome.openings += 1;
        let sink = Patient::new(self.system.stream.clone());
        let stream = ReadOnly::new(self.stream.clone());
        let worker = Worker::open(stream, self.system.store.clone(), sink, place.clone()).await?;
        outcome.losses.extend(worker.lost_parents().iter().map(|lost| lost_parent_text(shard, lost)));
        Ok(Opened { place, worker })
    }

    /// Steps and commits until the shard is folded up to `last` (`None`: to its end). All that was folded is committed, unless it failed.
    async fn advance(
        &self,
        Opened { place, worker }: &mut Opened,
        last: Option<SequenceNumber>,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut held_until = None;
        let done = loop {
            let is_there = last.is_some_and(|last| worker.shard().position() >= last);
            if is_there || worker.shard().is_ended() {
                break Ok(());
            }
            if !worker.shard().acts() {
                break Err(Early::Turned);
            }
            let now = Instant::now();
            if now >= until.stop {
                break Err(Early::Time);
            }
            if held_until.is_some_and(|held_until| now >= held_until) {
                break Err(Early::Held);
            }
            let before = worker.committed();
            let step = worker.step_until(Duration::ZERO, last.unwrap_or(SequenceNumber::MAX)).await;
            // Where a newer revision of the fold begins, it has committed.
            outcome.has_moved |= worker.committed() > before;
            let step = step?;
            outcome.count(&step.folded);
            if step.turns {
                break Err(Early::Turned);
            }
            if worker.is_due(&Cadence::PAID, false, false) || step.held_back {
                outcome.has_moved |= commit(worker).await?;
            }
            if step.held_back {
                worker.sink().look(&*self.system.store, place).await?;
            }
            // Most often what holds a record back is there at the first look.
            let is_first_look = step.held_back && held_until.is_none();
            held_until = step.held_back.then(|| held_until.unwrap_or(now + HELD_MAX));
            if step.folded.is_empty() && !step.ended && !is_first_look {
                tokio::time::sleep(LOOK).await;
            }
        };
        outcome.has_moved |= commit(worker).await?;
        done
    }

    /// Folds a shard to its end, after its own parents.
    async fn end_parents(&self, parent: ShardId, until: Until, outcome: &mut Outcome) -> Result<(), Early> {
        let mut waiting = vec![(parent, false)];
        let mut again = 0;
        while let Some((shard, has_lost)) = waiting.pop() {
            let error = match self.end_one(&shard, has_lost, until, outcome).await {
                Ok(()) => continue,
                Err(Early::Failed(error)) => error,
                Err(early) => return Err(early),
            };
            match error {
                ConsumeError::NotYet { parent, .. } if waiting.len() < PARENTS_MAX => {
                    waiting.extend([(shard, has_lost), (parent, false)]);
                }
                ConsumeError::Stream { source: ReadError::Trimmed { asked, oldest, .. }, .. } if !has_lost => {
                    outcome.losses.push(lost_text(&shard, asked, oldest));
                    waiting.push((shard, true));
                }
                // Who folds its other child may end it at the same time.
                error if is_overtaken(&error) && again < OPENINGS_MAX => {
                    again += 1;
                    waiting.push((shard, has_lost));
                }
                error => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn end_one(&self, shard: &ShardId, has_lost: bool, until: Until, outcome: &mut Outcome) -> Result<(), Early> {
        let mut opened = self.open(shard, until, outcome).await?;
        if has_lost {
            opened.worker.pass_over_lost();
        }
        self.advance(&mut opened, None, until, outcome).await
    }
}

/// Commits what the worker has folded. True: there was something.
async fn commit<S: Stream, T: Store, K: Sink>(worker: &mut Worker<S, T, K>) -> Result<bool, ConsumeError> {
    let is_waiting = worker.is_waiting();
    worker.commit().await?;
    Ok(is_waiting)
}

impl Outcome {
    fn count(&mut self, folded: &[(SequenceNumber, Balance)]) {
        self.records += folded.len() as u64;
        folded.iter().for_each(|(_, balance)| self.balance.add(balance));
    }
}

fn words(early: &Early) -> String {
    match early {
        Early::Failed(error) => with_causes(error),
        Early::Time => "the time was over".to_owned(),
        Early::Turned => "another generation counts from here on, and functions fold the first one only: run `weir up` with the same --stream and \
                          --store, or go back with `weir promote`"
            .to_owned(),
        Early::Held => {
            "a record names definitions that cannot be read yet: the shard that holds them has to be folded first"
                .to_owned()
        }
    }
}
