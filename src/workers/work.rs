//! The worker of one shard for as long as this process has the shard: decides for which generation it works, and when one that failed begins again.
//!
//! A worker acts, so it works for the generation that counts at its place. Which one that is need not be known before: a worker's sink has it stop at the
//! first record at which its own generation does not count, and that record says which one does. So a wrong guess costs an opening, and does no harm.
//!
//! | a worker | then the shard is gone on with |
//! | --- | --- |
//! | comes to a record from which on another generation counts | for that one, by the same thread under the same lease, once whoever follows with it has come so far |
//! | has a state in which another counts, and no record yet | the same |
//!
//! | a worker | on one machine | where other processes work on the same shards |
//! | --- | --- | --- |
//! | was overtaken by another | ends the process: nobody else can have done it | begins again at the resume point, after a moment |
//! | could not read or write | ends the process: the disk failed | begins again after a pause that doubles, up to `PAUSE_MAX`; `/health` says so |
//! | met what cannot mend itself | ends the process | ends the process |

use std::{sync::atomic::Ordering, time::Duration};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadError, ReadOnly, Stream},
};
use processor::{
    consume::{ConsumeError, Worker},
    generations::Crew,
};
use projections::{
    fold::Place,
    generations::{Live, record},
    store::Generation,
};
use tokio::time::Instant;

use super::{
    OVERTAKEN_PAUSE, PAUSE, PAUSE_MAX, Seen, Workers, held, is_overtaken, is_too_early, lost_parent_text, lost_records,
    lost_shard, spread, trouble::passes,
};
use crate::{
    run::{self, Course, Done, PairWorker},
    sink::Patient,
    with_causes,
};

/// Whoever waits for another generation to be folded as far is told of after so long.
const WORD_AFTER: Duration = Duration::from_secs(10);

impl Workers {
    /// A worker at a shard's resume point.
    pub(crate) async fn open(&self, place: Place) -> Result<PairWorker, ConsumeError> {
        let (record, generation) = (self.record(), place.generation);
        let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
        let own = place.ring.iter().find(|(shard, _)| *shard == place.shard).map(|(_, range)| *range);
        let range = match own {
            Some(range) => Some(range),
            // A closed one has no place on the ring.
            None => {
                let listed = self.stream.shards().await;
                let listed = listed.map_err(|source| ConsumeError::Stream { shard: place.shard.clone(), source })?;
                listed.into_iter().find(|shard| shard.id == place.shard).map(|shard| shard.range)
            }
        };
        let stream = self.stream.clone();
        let sink = match range {
            Some(range) => {
                let crew = Crew::new(generation, record.start_ms(generation), SequenceNumber::MAX);
                Patient::of(crew.acting(place.shard.clone(), range, stream), starts)
            }
            // The reading that comes next says that there is no such shard.
            None => Patient::new(stream),
        };
        // Until something was promoted, nothing but the first can have been named.
        let is_first = generation == Generation::default() && record.promotions.is_empty();
        let sink = if self.manner.is_alone && is_first { sink.of_whole_rows() } else { sink };
        let mut worker = Worker::open(ReadOnly::new(self.reading.clone()), self.store.clone(), sink, place).await?;
        worker.begin_at(record.start_ms(generation));
        Ok(worker)
    }

    /// Works on a shard until it has ended, or the system does, or another process has it.
    pub(super) async fn work(
        &self,
        mut place: Place,
        seen: &Seen,
        mut opened: Option<PairWorker>,
    ) -> Result<(), String> {
        let (mut pause, mut stood) = (PAUSE, None);
        loop {
            let worker = match opened.take() {
                Some(worker) => Ok(worker),
                None => self.open(place.clone()).await,
            };
            let done = match worker {
                Ok(worker) => {
                    let at = Some((place.generation, worker.committed()));
                    if std::mem::replace(&mut stood, at) != at {
                        pause = PAUSE;
                    }
                    self.go_on(worker, &place, seen).await
                }
                Err(error) => Err(error),
            };
            let done = match done {
                Ok(Done::Turned { at, counts }) => match self.hand_over(&place, seen, at, counts).await {
                    Ok(Some(next)) => {
                        place.generation = next;
                        continue;
                    }
                    Ok(None) => Ok(Done::Told),
                    Err(error) => Err(error),
                },
                done => done,
            };
            let error = match done {
                Ok(Done::Ended) => {
                    // Of a shard that closed before its generation began the generation has no position.
                    if let Some(Ok(tip)) = self.stream.local().map(|stream| stream.tip(&place.shard)) {
                        self.ledger.committed(&place.shard, tip);
                    }
                    seen.has_ended.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(error) if !self.manner.is_alone && self.is_loss(seen, &error) => continue,
                Err(error) if !self.manner.is_alone && self.is_gone(&place, seen, &error).await => return Ok(()),
                Err(error) if (self.manner.is_alone && !is_too_early(&error)) || !passes(&error) => {
                    return Err(with_causes(&error));
                }
                Err(error) => error,
            };
            let wait = match (is_overtaken(&error), is_too_early(&error)) {
                (true, _) => OVERTAKEN_PAUSE,
                // Each try reads the list of shards and what its parents left.
                (_, true) => OVERTAKEN_PAUSE.max(self.manner.follow_look),
                _ => {
                    let (wait, secs) = (pause, pause.as_secs_f64());
                    pause = (pause * 2).min(PAUSE_MAX);
                    let said = format!("{}; it is tried again within {secs:.1} s", with_causes(&error));
                    *held(&seen.trouble) = Some(said);
                    wait
                }
            };
            if self.is_stopped_within(spread(wait)).await || seen.is_told.load(Ordering::SeqCst) {
                // What is not committed is folded again by whoever comes next.
                return Ok(());
            }
        }
    }

    fn is_told(&self, seen: &Seen) -> bool {
        self.stop.load(Ordering::SeqCst) || seen.is_told.load(Ordering::SeqCst)
    }

    async fn go_on(&self, mut worker: PairWorker, place: &Place, seen: &Seen) -> Result<Done, ConsumeError> {
        if seen.has_lost.swap(false, Ordering::SeqCst) {
            worker.pass_over_lost();
        }
        self.say_lost_parents(place, seen, worker.lost_parents());
        // Where another process has set the resume point, what it folded is not folded here.
        if worker.shard().acts() {
            self.ledger.passed(&place.shard, worker.committed());
        }
        let course = Course {
            place,
            store: &self.store,
            ledger: &self.ledger,
            manner: &self.manner,
            commits: &self.commits,
            behind_ms: &seen.behind_ms,
            is_told: &|| self.is_told(seen),
            is_awaited: &|committed| {
                self.waiters.load(Ordering::SeqCst) > 0
                    || self.ledger.is_awaited(&place.shard)
                    || *held(&seen.wanted) > committed
            },
            well: &|| *held(&seen.trouble) = None,
        };
        run::consume(worker, course).await
    }

    /// Waits until the generation that counts behind a position has been folded up to there. `None`: the worker is to end.
    async fn hand_over(
        &self,
        place: &Place,
        seen: &Seen,
        at: SequenceNumber,
        counts: Live,
    ) -> Result<Option<Generation>, ConsumeError> {
        let (since, next) = (Instant::now(), counts.generation);
        let failed = |source| ConsumeError::Checkpoint { shard: place.shard.clone(), source };
        let is_known = || next == Generation::default() || self.record().entry(next).is_some();
        if !is_known() {
            let read = record::read(&*self.store).await.map_err(failed)?;
            self.learn(&read);
        }
        if !is_known() {
            // Nothing of it is among the rows. Once what is has been promoted, it counts again from a later record on.
            self.miss(counts);
            return Ok((!self.is_told_within(seen, self.manner.follow_look).await).then_some(place.generation));
        }
        loop {
            let point = self.applied_in(next, &place.shard).await.map_err(failed)?;
            if point.ended || point.through >= at {
                *held(&seen.trouble) = None;
                // Two that are not sure which of them counts are not to ask each other without end.
                return Ok((!self.is_told_within(seen, self.manner.turn_look).await).then_some(next));
            }
            if since.elapsed() >= WORD_AFTER {
                let (shard, name, through) = (&place.shard, self.record().name(next).to_owned(), point.through);
                *held(&seen.trouble) = Some(format!(
                    "{shard}: the generation `{name}` counts behind {at}, and whoever folds it beside has come to {through} only"
                ));
            }
            if self.is_told_within(seen, self.manner.turn_look).await {
                return Ok(None);
            }
        }
    }

    fn miss(&self, counts: Live) {
        let mut unknown = held(&self.unknown);
        *unknown = unknown.filter(|unknown| unknown.promotion > counts.promotion).or(Some(counts));
    }

    async fn is_told_within(&self, seen: &Seen, wait: Duration) -> bool {
        self.is_told(seen) || self.is_stopped_within(wait).await || self.is_told(seen)
    }

    /// A shard may go from the list while its worker stands still: what it held is lost, and nothing more will come.
    async fn is_gone(&self, place: &Place, seen: &Seen, error: &ConsumeError) -> bool {
        if !self.is_unlisted(error).await {
            return false;
        }
        let point = self.applied_in(place.generation, &place.shard).await.unwrap_or_default();
        seen.is_gone.store(true, Ordering::SeqCst);
        seen.has_ended.store(true, Ordering::SeqCst);
        self.notes.lose(lost_shard(&place.shard, point.through));
        true
    }

    /// The stream does not list a shard any more that could not be read.
    pub(crate) async fn is_unlisted(&self, error: &ConsumeError) -> bool {
        let ConsumeError::Stream { shard, source: ReadError::NoSuchShard(_) } = error else { return false };
        self.stream.shards().await.is_ok_and(|all| all.iter().all(|listed| listed.id != *shard))
    }

    /// Whoever did not fold for longer than the stream keeps its records goes on with the oldest that it has, and says what is lost.
    fn is_loss(&self, seen: &Seen, error: &ConsumeError) -> bool {
        let Some(lost) = lost_records(error) else { return false };
        seen.has_lost.store(true, Ordering::SeqCst);
        self.notes.lose(lost);
        true
    }

    /// A shard that begins without all that its parents said goes on, and says what is missing; once, however often it begins.
    fn say_lost_parents(&self, place: &Place, seen: &Seen, lost: &[(ShardId, SequenceNumber)]) {
        if lost.is_empty() || seen.has_said_parents.swap(true, Ordering::SeqCst) {
            return;
        }
        lost.iter().for_each(|lost| self.notes.lose(lost_parent_text(&place.shard, lost)));
    }
}
