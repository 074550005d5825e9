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
//! | another generation counts from a record on | what stands before it is committed; the one that counts then is opened at its own resume point, and what it lacks before the record is read from the stream |
//! | a generation that does not count | is not folded here: `weir up` folds all of them, and `weir replay`, `promote` and `generations` do while they run |
//! | the time is nearly over | what is folded is committed |

mod opened;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadError, Record, Stream},
};
use processor::{
    consume::{Cadence, ConsumeError, Worker},
    delivered::Delivered,
    effects::Sink,
};
use projections::{
    fold::{LINEAGE_MAX, balance::Balance},
    generations::{self, Live},
    store::{Generation, Store},
};
use tokio::time::Instant;

use self::opened::{Opened, Opening};
use crate::{
    AnyStream, System, with_causes,
    workers::{is_overtaken, lost_text},
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
    /// And the rows know nothing of it.
    Unknown,
}

/// What the attempts at one batch come to know.
#[derive(Default)]
struct Course {
    /// Records are lost: the next attempt goes on with the oldest that is kept.
    has_lost: bool,
    /// The generation that is folded, and by which promotion; `None`: that is to be looked up.
    counts: Option<Live>,
}

impl From<ConsumeError> for Early {
    fn from(error: ConsumeError) -> Self {
        Self::Failed(error)
    }
}

/// See the module. Several of them may work on the same shards at the same time, in any processes.
pub struct Batches {
    opening: Opening,
    /// Those used last are at the end. Each has committed all that it has folded.
    kept: VecDeque<Opened>,
}

impl Batches {
    /// Nothing is kept yet.
    pub fn new(system: Arc<System>) -> Self {
        let stream = Arc::new(Delivered::new(system.stream.clone()));
        Self { opening: Opening::new(system, stream), kept: VecDeque::new() }
    }

    fn stream(&self) -> &Delivered<AnyStream> {
        &self.opening.stream
    }

    /// Folds and commits as much of the batch as there is time for.
    pub async fn fold(&mut self, batch: &Batch, until: Until) -> Outcome {
        let mut outcome = Outcome::default();
        let last = batch.records.iter().map(|record| record.sequence).max().unwrap_or_default();
        self.stream().hand_over(batch.shard.clone(), batch.records.clone());
        let left = match tokio::time::timeout_at(until.give_up, self.fold_all(&batch.shard, last, until, &mut outcome))
            .await
        {
            Ok(Ok(())) => None,
            Ok(Err(early)) => Some(words(&early)),
            Err(_) => Some(words(&Early::Time)),
        };
        outcome.left = left.filter(|_| outcome.durable_through < last);
        self.stream().forget();
        outcome
    }

    async fn fold_all(
        &mut self,
        shard: &ShardId,
        last: SequenceNumber,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut course = Course::default();
        let mut tries = 0;
        loop {
            match self.attempt(shard, last, until, &mut course, outcome).await {
                Err(Early::Failed(error)) if tries + 1 < OPENINGS_MAX => {
                    tries += 1;
                    course.has_lost = self.go_on_after(error, until, &mut course, outcome).await?;
                }
                // Each names a later promotion than the one before.
                Err(Early::Turned) => {}
                done => return done,
            }
        }
    }

    /// Does what has to be done before another attempt. True: the next goes on with the oldest record that is kept.
    async fn go_on_after(
        &mut self,
        error: ConsumeError,
        until: Until,
        course: &mut Course,
        outcome: &mut Outcome,
    ) -> Result<bool, Early> {
        match error {
            ConsumeError::Stream { source: ReadError::Trimmed { shard, asked, oldest }, .. } => {
                outcome.losses.push(lost_text(&shard, asked, oldest));
                Ok(true)
            }
            ConsumeError::NotYet { parent, .. } => {
                let counts = course.counts.unwrap_or_default();
                self.end_parents(parent, counts, until, outcome).await.map(|()| false)
            }
            error if is_overtaken(&error) => Ok(false),
            error => Err(error.into()),
        }
    }

    /// `Turned`: the course names the generation that counts from there on.
    async fn attempt(
        &mut self,
        shard: &ShardId,
        last: SequenceNumber,
        until: Until,
        course: &mut Course,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let has_lost = std::mem::take(&mut course.has_lost);
        let kept = self.take_kept(shard).await;
        let mut opened = match kept.filter(|kept| !has_lost && course.counts.is_none_or(|counts| counts == kept.counts))
        {
            Some(opened) => opened,
            None => {
                let counts = match course.counts {
                    Some(counts) => counts,
                    None => counts_of(&self.opening.record(shard).await?),
                };
                course.counts = Some(counts);
                self.open(shard, counts, None, until, outcome).await?
            }
        };
        course.counts = Some(opened.counts);
        let live = opened.worker.shard().live();
        if live.promotion > opened.counts.promotion {
            // Whoever follows with it has gone past the record at which it ceased to count.
            course.counts = Some(live);
            return Err(Early::Turned);
        }
        outcome.durable_through = outcome.durable_through.max(opened.worker.committed());
        if has_lost {
            opened.worker.pass_over_lost();
        }
        let done = self.go_on(&mut opened, Some(last), until, outcome).await;
        outcome.durable_through = outcome.durable_through.max(opened.worker.committed());
        match done {
            Err(Early::Failed(_)) => done,
            // One that has turned would not see that others went on.
            Err(Early::Turned) => {
                let record = self.opening.record(shard).await?;
                let after = opened.worker.shard().live().promotion.max(opened.counts.promotion);
                let next = record.promotions.iter().find(|promotion| promotion.number > after).ok_or(Early::Unknown)?;
                course.counts = Some(Live { generation: Generation(next.generation), promotion: next.number });
                done
            }
            done => {
                self.keep(opened);
                done
            }
        }
    }

    /// The worker that has folded what stands right before the batch, if there is one.
    async fn take_kept(&mut self, shard: &ShardId) -> Option<Opened> {
        let kept = self.kept.iter().position(|opened| opened.place.shard == *shard)?;
        let opened = self.kept.remove(kept)?;
        let follows = self.stream().follows(shard, opened.worker.committed()).await;
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
    async fn open(
        &mut self,
        shard: &ShardId,
        counts: Live,
        acts: Option<bool>,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<Opened, Early> {
        if Instant::now() >= until.stop {
            return Err(Early::Time);
        }
        outcome.openings += 1;
        Ok(self.opening.open(shard, counts, acts, &mut outcome.losses).await?)
    }

    /// As `advance`, with the other sink from the record on at which the generation begins to count. `Turned`: it ceases to.
    async fn go_on(
        &mut self,
        opened: &mut Opened,
        last: Option<SequenceNumber>,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        loop {
            let done = self.advance(opened, last, until, outcome).await;
            if !matches!(done, Err(Early::Turned)) {
                return done;
            }
            let acted = opened.acts();
            // A parent is folded to its end, whatever counts there; and what is promoted once more may stand before it ceased to count.
            let goes_on = last.is_none() || opened.worker.shard().live().promotion < opened.counts.promotion;
            if acted && !goes_on {
                return done;
            }
            let shard = opened.place.shard.clone();
            *opened = self.open(&shard, opened.counts, Some(!acted), until, outcome).await?;
        }
    }

    /// Steps and commits until the shard is folded up to `last` (`None`: to its end). All that was folded is committed, unless it failed.
    async fn advance(
        &self,
        opened: &mut Opened,
        last: Option<SequenceNumber>,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut held_until = None;
        let done = loop {
            let worker = &mut opened.worker;
            let is_there = last.is_some_and(|last| worker.shard().position() >= last);
            if is_there || worker.shard().is_ended() {
                break Ok(());
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
                opened.look(&self.opening.system).await?;
            }
            // Most often what holds a record back is there at the first look.
            let is_first_look = step.held_back && held_until.is_none();
            held_until = step.held_back.then(|| held_until.unwrap_or(now + HELD_MAX));
            if step.folded.is_empty() && !step.ended && !is_first_look {
                tokio::time::sleep(LOOK).await;
            }
        };
        outcome.has_moved |= commit(&mut opened.worker).await?;
        done
    }

    /// Folds a shard to its end, after its own parents.
    async fn end_parents(
        &mut self,
        parent: ShardId,
        counts: Live,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut waiting = vec![(parent, false)];
        let mut again = 0;
        while let Some((shard, has_lost)) = waiting.pop() {
            let error = match self.end_one(&shard, counts, has_lost, until, outcome).await {
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

    async fn end_one(
        &mut self,
        shard: &ShardId,
        counts: Live,
        has_lost: bool,
        until: Until,
        outcome: &mut Outcome,
    ) -> Result<(), Early> {
        let mut opened = self.open(shard, counts, None, until, outcome).await?;
        if has_lost {
            opened.worker.pass_over_lost();
        }
        self.go_on(&mut opened, None, until, outcome).await
    }
}

/// What counts by a record of generations.
fn counts_of(record: &generations::Record) -> Live {
    let last = record.finished().last();
    last.map_or(Live::default(), |last| Live { generation: Generation(last.generation), promotion: last.number })
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
        Early::Turned | Early::Unknown => "the stream says that another generation counts from here on, and these rows know nothing of it: run `weir \
                                           up` with the same --stream and --store until it has promoted the first one again"
            .to_owned(),
        Early::Held => {
            "a record names definitions that cannot be read yet: the shard that holds them has to be folded first"
                .to_owned()
        }
    }
}
