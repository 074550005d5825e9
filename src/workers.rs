//! The workers of a running system: decides which shards have one, and when one that failed begins again. A shard has a worker once all shards that
//! it took its keys from have ended, and, where other processes work on the same shards, while this process has its lease (`leasing`); what a worker
//! does is `processor`'s.
//!
//! | a worker | on one machine | where other processes work on the same shards |
//! | --- | --- | --- |
//! | was overtaken by another | ends the process: nobody else can have done it | begins again at the resume point, after a moment |
//! | could not read or write | ends the process: the disk failed | begins again after a pause that doubles, up to `PAUSE_MAX`; `/health` says so |
//! | met what cannot mend itself | ends the process | ends the process |

mod notes;
#[cfg(test)]
mod resharded;
#[cfg(any(test, feature = "aws"))]
mod shared;
mod trouble;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadError, ReadOnly, Shard, Stream},
};
use processor::{
    consume::{ConsumeError, Worker},
    generations::Crew,
    ledger::Ledger,
};
use projections::{
    fold::Place,
    store::{Generation, Store},
};
use tokio::{runtime::Handle, sync::RwLock};

use self::trouble::OVERTAKEN_PAUSE;
pub(crate) use self::{
    notes::{Notes, held, lost_parent_text, lost_shard, lost_text},
    trouble::{PAUSE, PAUSE_MAX, is_overtaken, is_too_early, passes, spread},
};
use crate::{
    generations::Followed,
    pair::{AnyStore, AnyStream, Manner},
    run::{self, Course, Done, PairWorker},
    sink::Patient,
    with_causes,
};

/// How often those who pause look whether they are to end.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// A shard that has, or had, a worker.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How far behind its newest record it is.
    behind_ms: AtomicU64,
    /// It is closed, and folded to its end.
    has_ended: AtomicBool,
    /// Why its worker does not work at the moment.
    trouble: Mutex<Option<String>>,
    /// The records behind its resume point are gone from the stream.
    pub(crate) has_lost: AtomicBool,
    /// What its parents have lost was said.
    has_said_parents: AtomicBool,
    /// Its worker is to end: another process has the shard now.
    is_told: AtomicBool,
    /// Its worker has ended, however it did.
    is_over: AtomicBool,
    /// The stream has no such shard any more, which was said.
    is_gone: AtomicBool,
    /// Another process waits for its rows up to here.
    wanted: Mutex<SequenceNumber>,
}

/// Whatever happens to a worker, it is known that it has ended.
struct Over(Arc<Seen>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// See the module.
pub(crate) struct Workers {
    pub(crate) stream: Arc<AnyStream>,
    /// The same stream, as workers read it.
    reading: Arc<AnyStream>,
    pub(crate) store: Arc<AnyStore>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) manner: Manner,
    /// Whoever commits reads it; `verify` writes it while it compares.
    pub(crate) commits: RwLock<()>,
    /// How many wait until all that is durable can be read.
    pub(crate) waiters: AtomicUsize,
    /// Up to where they wait for each shard.
    pub(crate) awaited: Mutex<BTreeMap<ShardId, SequenceNumber>>,
    pub(crate) stop: AtomicBool,
    shards: Mutex<HashMap<ShardId, Arc<Seen>>>,
    pub(crate) notes: Notes,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where connections live that all workers share; `None`: there are none.
    runtime: Option<Handle>,
    /// The first generation's shards, once they no longer count.
    pub(crate) first: Arc<Followed>,
}

/// The open shards with their ranges, as a fold that begins now finds them; what decisions go by comes with the ticks.
pub(crate) fn place_of(shard: &Shard, all: &[Shard]) -> Place {
    place_in(Generation::default(), shard, all)
}

/// The same in a generation.
pub(crate) fn place_in(generation: Generation, shard: &Shard, all: &[Shard]) -> Place {
    let ring = all.iter().filter(|shard| !shard.closed).map(|shard| (shard.id.clone(), shard.range)).collect();
    Place { generation, shard: shard.id.clone(), ring }
}

/// The places of all shards that are listed.
pub(crate) fn places(shards: &[Shard]) -> Vec<Place> {
    shards.iter().map(|shard| place_of(shard, shards)).collect()
}

impl Workers {
    pub(crate) fn new(
        stream: Arc<AnyStream>,
        store: Arc<AnyStore>,
        manner: Manner,
        runtime: Option<Handle>,
    ) -> Arc<Self> {
        Self::reading(stream.clone(), stream, store, manner, runtime)
    }

    /// As `new`, with a way of its own by which workers read: replays and all else go on by the other.
    pub(crate) fn reading(
        stream: Arc<AnyStream>,
        reading: Arc<AnyStream>,
        store: Arc<AnyStore>,
        manner: Manner,
        runtime: Option<Handle>,
    ) -> Arc<Self> {
        Arc::new(Self {
            stream,
            reading,
            store,
            ledger: Arc::default(),
            manner,
            commits: RwLock::default(),
            waiters: AtomicUsize::default(),
            awaited: Mutex::default(),
            stop: AtomicBool::default(),
            shards: Mutex::default(),
            notes: Notes::default(),
            threads: Mutex::default(),
            runtime,
            first: Followed::new(Crew::new(Generation::default(), None, SequenceNumber::ZERO)),
        })
    }

    /// A worker at a shard's resume point.
    pub(crate) async fn open(&self, place: Place) -> Result<PairWorker, ConsumeError> {
        let stream = self.stream.clone();
        let sink = if self.manner.is_alone { Patient::of_whole_rows(stream) } else { Patient::new(stream) };
        Worker::open(ReadOnly::new(self.reading.clone()), self.store.clone(), sink, place).await
    }

    /// A thread of the system, which ends with it.
    pub(crate) fn spawn(
        &self,
        name: &str,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> io::Result<()> {
        self.spawn_on(name, self.runtime.clone(), work)
    }

    /// As `spawn`; `runtime`: where the connections live that it opens, `None`: it opens none.
    pub(crate) fn spawn_on(
        &self,
        name: &str,
        runtime: Option<Handle>,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> io::Result<()> {
        let mut threads = held(&self.threads);
        // What begins after the system was told to end would not be waited for.
        if !self.stop.load(Ordering::SeqCst) {
            // Those that have ended have told the ledger if anything was wrong.
            threads.retain(|thread| !thread.is_finished());
            threads.push(run::spawn(name.to_owned(), self.ledger.clone(), runtime, work)?);
        }
        Ok(())
    }

    /// Those of the shards that may have a worker, and have none.
    pub(crate) fn without(&self, all: &[Shard]) -> Vec<Place> {
        let shards = held(&self.shards);
        let is_listed = |id: &ShardId| all.iter().any(|shard| shard.id == *id);
        // One that is no longer listed holds no more records.
        let has_ended =
            |id: &ShardId| !is_listed(id) || shards.get(id).is_some_and(|seen| seen.has_ended.load(Ordering::SeqCst));
        let may = |shard: &&Shard| !shards.contains_key(&shard.id) && shard.parents.iter().all(has_ended);
        all.iter().filter(may).map(|shard| place_of(shard, all)).collect()
    }

    /// Starts a worker, which was opened already or will be. The shard's last one has ended, if there was one.
    pub(crate) fn start(self: &Arc<Self>, place: Place, opened: Option<PairWorker>) -> io::Result<()> {
        let seen = Arc::<Seen>::default();
        let number = {
            let mut shards = held(&self.shards);
            shards.insert(place.shard.clone(), seen.clone());
            shards.len() - 1
        };
        let (workers, over) = (self.clone(), Over(seen.clone()));
        self.spawn(&format!("worker-{number}"), async move {
            let _over = over;
            workers.work(&place, &seen, opened).await
        })
    }

    /// Works on a shard until it has ended, or the system does.
    async fn work(&self, place: &Place, seen: &Seen, mut opened: Option<PairWorker>) -> Result<(), String> {
        let (mut pause, mut stood) = (PAUSE, None);
        loop {
            let worker = match opened.take() {
                Some(worker) => Ok(worker),
                None => self.open(place.clone()).await,
            };
            let done = match worker {
                Ok(mut worker) => {
                    if seen.has_lost.swap(false, Ordering::SeqCst) {
                        worker.pass_over_lost();
                    }
                    self.say_lost_parents(place, seen, worker.lost_parents());
                    // Where another process has set the resume point, what it folded is not folded here.
                    if worker.shard().acts() {
                        self.ledger.passed(&place.shard, worker.committed());
                    }
                    if stood.replace(worker.committed()) != Some(worker.committed()) {
                        pause = PAUSE;
                    }
                    self.consume(worker, place, seen).await
                }
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(Done::Told) => return Ok(()),
                Ok(Done::Turned) => {
                    // Readers have another generation from here on.
                    seen.behind_ms.store(0, Ordering::Relaxed);
                    let has_ended = self.first.work(self, place, true).await?;
                    seen.has_ended.fetch_or(has_ended, Ordering::SeqCst);
                    return Ok(());
                }
                Ok(Done::Ended) => {
                    seen.has_ended.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                Err(error) if !self.manner.is_alone && self.is_loss(seen, &error) => continue,
                Err(error) if !self.manner.is_alone && self.is_gone(seen, &error).await => return Ok(()),
                Err(error) if (self.manner.is_alone && !is_too_early(&error)) || !passes(&error) => {
                    return Err(with_causes(&error));
                }
                Err(error) => error,
            };
            let is_nobodys_fault = is_overtaken(&error) || is_too_early(&error);
            let wait = if is_nobodys_fault { OVERTAKEN_PAUSE } else { pause };
            if !is_nobodys_fault {
                pause = (pause * 2).min(PAUSE_MAX);
                let secs = wait.as_secs_f64();
                *held(&seen.trouble) = Some(format!("{}; it is tried again within {secs:.1} s", with_causes(&error)));
            }
            if self.is_stopped_within(spread(wait)).await || seen.is_told.load(Ordering::SeqCst) {
                // What is not committed is folded again by whoever comes next.
                return Ok(());
            }
        }
    }

    async fn consume(&self, worker: PairWorker, place: &Place, seen: &Seen) -> Result<Done, ConsumeError> {
        let course = Course {
            place,
            store: &self.store,
            ledger: &self.ledger,
            manner: &self.manner,
            commits: &self.commits,
            behind_ms: &seen.behind_ms,
            is_told: &|| self.stop.load(Ordering::SeqCst) || seen.is_told.load(Ordering::SeqCst),
            is_awaited: &|committed| {
                self.waiters.load(Ordering::SeqCst) > 0
                    || self.ledger.is_awaited(&place.shard)
                    || *held(&seen.wanted) > committed
            },
            well: &|| *held(&seen.trouble) = None,
        };
        run::consume(worker, course).await
    }

    /// A shard may go from the list while its worker stands still: what it held is lost, and nothing more will come.
    async fn is_gone(&self, seen: &Seen, error: &ConsumeError) -> bool {
        let ConsumeError::Stream { shard, source: ReadError::NoSuchShard(_) } = error else { return false };
        if !self.stream.shards().await.is_ok_and(|all| all.iter().all(|listed| listed.id != *shard)) {
            return false;
        }
        let committed = self.store.resume_point(Generation::default(), shard).await.ok().flatten();
        seen.is_gone.store(true, Ordering::SeqCst);
        seen.has_ended.store(true, Ordering::SeqCst);
        self.notes.lose(lost_shard(shard, committed.map_or(SequenceNumber::ZERO, |point| point.position)));
        true
    }

    /// Whoever did not fold for longer than the stream keeps its records goes on with the oldest that it has, and says what is lost.
    pub(crate) fn is_loss(&self, seen: &Seen, error: &ConsumeError) -> bool {
        let ConsumeError::Stream { source: ReadError::Trimmed { shard, asked, oldest }, .. } = error else {
            return false;
        };
        seen.has_lost.store(true, Ordering::SeqCst);
        self.notes.lose(lost_text(shard, *asked, *oldest));
        true
    }

    /// A shard that begins without all that its parents said goes on, and says what is missing; once, however often it begins.
    fn say_lost_parents(&self, place: &Place, seen: &Seen, lost: &[(ShardId, SequenceNumber)]) {
        if lost.is_empty() || seen.has_said_parents.swap(true, Ordering::SeqCst) {
            return;
        }
        lost.iter().for_each(|lost| self.notes.lose(lost_parent_text(&place.shard, lost)));
    }

    pub(crate) async fn is_stopped_within(&self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        while tokio::time::Instant::now() < until && !self.stop.load(Ordering::SeqCst) {
            tokio::time::sleep(STOP_LOOK.min(wait)).await;
        }
        self.stop.load(Ordering::SeqCst)
    }

    /// Looks now and then for shards that have no worker yet.
    pub(crate) async fn supervise(self: Arc<Self>) -> Result<(), String> {
        let ended = |workers: &Self| {
            held(&workers.shards).values().filter(|seen| seen.has_ended.load(Ordering::SeqCst)).count()
        };
        let mut known = ended(&self);
        while !self.stop.load(Ordering::SeqCst) {
            let due = tokio::time::Instant::now() + self.manner.shards_look;
            // Whose parent has just ended is not to wait.
            while tokio::time::Instant::now() < due && ended(&self) == known {
                if self.is_stopped_within(STOP_LOOK).await {
                    return Ok(());
                }
            }
            known = ended(&self);
            let listed = self.stream.shards().await;
            self.notes.is_unlisted(listed.as_ref().err().map(|error| with_causes(error)));
            for place in listed.map(|all| self.without(&all)).unwrap_or_default() {
                let shard = place.shard.clone();
                self.start(place, None).map_err(|error| format!("no thread for the worker of {shard}: {error}"))?;
            }
        }
        Ok(())
    }

    /// How far behind its newest record each shard is, in milliseconds.
    pub(crate) fn behind_ms(&self) -> Vec<u64> {
        let shards = held(&self.shards);
        let running = shards.values().filter(|seen| !seen.is_over.load(Ordering::SeqCst));
        running.map(|seen| seen.behind_ms.load(Ordering::Relaxed)).collect()
    }

    /// Whether every shard is worked on, in words.
    pub(crate) fn said(&self) -> Result<String, String> {
        let shards = held(&self.shards);
        let running = shards.values().filter(|seen| !seen.is_over.load(Ordering::SeqCst));
        self.notes.said(running.filter_map(|seen| held(&seen.trouble).clone()).collect())
    }

    /// Tells all to end, and waits for them.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let threads = std::mem::take(&mut *held(&self.threads));
        for thread in threads {
            // One that panicked has told the ledger.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
