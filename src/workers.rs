//! The workers of a running system: decides which shards have one, and when one that failed begins again. A shard has a worker once all shards that
//! it took its keys from have ended; what a worker does is `processor`'s.
//!
//! | a worker | on one machine | where other processes work on the same shards |
//! | --- | --- | --- |
//! | was overtaken by another | ends the process: nobody else can have done it | begins again at the resume point, after a moment |
//! | could not read or write | ends the process: the disk failed | begins again after a pause that doubles, up to `PAUSE_MAX`; `/health` says so |
//! | met what cannot mend itself | ends the process | ends the process |

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Shard, Stream},
};
use processor::{
    consume::{ConsumeError, Worker},
    drive::DriveError,
    generations::Crew,
    ledger::Ledger,
};
use projections::{
    fold::{Place, Stop},
    store::{self, Generation},
};
use tokio::{runtime::Handle, sync::RwLock};

use crate::{
    chance,
    generations::Followed,
    pair::{AnyStore, AnyStream, Manner},
    run::{self, Done},
    sink::Patient,
    with_causes,
};

/// First pause of a worker that could not read or write; it doubles with each attempt that moves nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// About so long waits one that was overtaken, so that two do not run into each other again at once; or one that waits for its parents.
const OVERTAKEN_PAUSE: Duration = Duration::from_millis(100);
/// How often those who pause look whether they are to end.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// A worker on the system's pair.
pub(crate) type PairWorker = Worker<AnyStream, AnyStore, Patient<AnyStream>>;

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
}

/// See the module.
pub(crate) struct Workers {
    pub(crate) stream: Arc<AnyStream>,
    pub(crate) store: Arc<AnyStore>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) manner: Manner,
    /// Whoever commits reads it; `verify` writes it while it compares.
    pub(crate) commits: RwLock<()>,
    /// How many wait until all that is durable can be read.
    pub(crate) waiters: AtomicUsize,
    pub(crate) stop: AtomicBool,
    shards: Mutex<HashMap<ShardId, Arc<Seen>>>,
    /// Why the shards could not be listed when they were last looked for.
    unlisted: Mutex<Option<String>>,
    /// What was gone from the stream before it was folded, in words that nobody has been told yet.
    losses: Mutex<Vec<String>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where connections live that all workers share; `None`: there are none.
    runtime: Option<Handle>,
    /// The first generation's shards, once they no longer count.
    pub(crate) first: Arc<Followed>,
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open shards with their ranges, as a fold that begins now finds them.
fn place_of(shard: &Shard, all: &[Shard]) -> Place {
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

/// Another worker has gone on from further: what this one holds is of no more use.
pub(crate) fn is_overtaken(error: &ConsumeError) -> bool {
    matches!(
        error,
        ConsumeError::Overtaken { .. } | ConsumeError::Drive { source: DriveError::Stop(Stop::Overtaken(_)), .. }
    )
}

/// It can only be waited for: another worker has to end a parent first.
pub(crate) fn is_too_early(error: &ConsumeError) -> bool {
    matches!(error, ConsumeError::NotYet { .. })
}

/// Another attempt can mend it.
pub(crate) fn passes(error: &ConsumeError) -> bool {
    use events::stream::ReadError;
    match error {
        ConsumeError::Stream { source: ReadError::Unavailable(_), .. }
        | ConsumeError::Checkpoint { source: store::ReadError::Unavailable(_), .. }
        | ConsumeError::Drive { source: DriveError::Read(store::ReadError::Unavailable(_)), .. }
        | ConsumeError::Write { .. }
        | ConsumeError::Effect { .. }
        | ConsumeError::Failed(_) => true,
        error => is_overtaken(error) || is_too_early(error),
    }
}

/// Between half and the whole of it: workers that failed together do not come again together.
pub(crate) fn spread(pause: Duration) -> Duration {
    pause / 2 + (pause / 2).mul_f64(f64::from(chance() as u32) / f64::from(u32::MAX))
}

impl Workers {
    pub(crate) fn new(
        stream: Arc<AnyStream>,
        store: Arc<AnyStore>,
        manner: Manner,
        runtime: Option<Handle>,
    ) -> Arc<Self> {
        Arc::new(Self {
            stream,
            store,
            ledger: Arc::default(),
            manner,
            commits: RwLock::default(),
            waiters: AtomicUsize::default(),
            stop: AtomicBool::default(),
            shards: Mutex::default(),
            unlisted: Mutex::default(),
            losses: Mutex::default(),
            threads: Mutex::default(),
            runtime,
            first: Followed::new(Crew::new(Generation::default(), None, SequenceNumber::ZERO)),
        })
    }

    /// A worker at a shard's resume point.
    pub(crate) async fn open(&self, place: Place) -> Result<PairWorker, ConsumeError> {
        let stream = self.stream.clone();
        let sink = if self.manner.is_alone { Patient::of_whole_rows(stream) } else { Patient::new(stream) };
        Worker::open(ReadOnly::new(self.stream.clone()), self.store.clone(), sink, place).await
    }

    /// A thread of the system, which ends with it.
    pub(crate) fn spawn(
        &self,
        name: &str,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> io::Result<()> {
        let mut threads = held(&self.threads);
        // What begins after the system was told to end would not be waited for.
        if !self.stop.load(Ordering::SeqCst) {
            threads.push(run::spawn(name.to_owned(), self.ledger.clone(), self.runtime.clone(), work)?);
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

    /// Starts a worker, which was opened already or will be.
    pub(crate) fn start(self: &Arc<Self>, place: Place, opened: Option<PairWorker>) -> io::Result<()> {
        let seen = Arc::<Seen>::default();
        let number = {
            let mut shards = held(&self.shards);
            shards.insert(place.shard.clone(), seen.clone());
            shards.len() - 1
        };
        let workers = self.clone();
        self.spawn(&format!("worker-{number}"), async move { workers.work(&place, &seen, opened).await })
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
                    let well = || *held(&seen.trouble) = None;
                    run::consume(worker, place, self, &seen.behind_ms, well).await
                }
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(Done::Told) => return Ok(()),
                Ok(Done::Turned) => return self.first.work(self, place, true).await,
                Ok(Done::Ended) => {
                    seen.has_ended.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                Err(error) if !self.manner.is_alone && self.is_loss(seen, &error) => continue,
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
            if self.is_stopped_within(spread(wait)).await {
                // What is not committed is folded again by whoever comes next.
                return Ok(());
            }
        }
    }

    /// Whoever did not fold for longer than the stream keeps its records goes on with the oldest that it has, and says what is lost.
    pub(crate) fn is_loss(&self, seen: &Seen, error: &ConsumeError) -> bool {
        let ConsumeError::Stream { source: events::stream::ReadError::Trimmed { shard, asked, oldest }, .. } = error
        else {
            return false;
        };
        seen.has_lost.store(true, Ordering::SeqCst);
        held(&self.losses).push(format!(
            "{shard}: the records after {asked} were gone from the stream before they were folded: what they say is in no row. It goes on with \
             {oldest}. Keep the stream's records for longer than weir may be away"
        ));
        true
    }

    /// A shard that begins without all that its parents said goes on, and says what is missing; once, however often it begins.
    fn say_lost_parents(&self, place: &Place, seen: &Seen, lost: &[(ShardId, SequenceNumber)]) {
        if lost.is_empty() || seen.has_said_parents.swap(true, Ordering::SeqCst) {
            return;
        }
        let text = |(parent, position): &(ShardId, SequenceNumber)| {
            let folded = match *position {
                SequenceNumber::ZERO => "was never folded".to_owned(),
                position => format!("was folded up to {position} only"),
            };
            format!(
                "{}: its parent {parent} is gone from the stream and {folded}: what else it held is in no row. Keep the stream's records for longer \
                 than weir may be away",
                place.shard
            )
        };
        held(&self.losses).extend(lost.iter().map(text));
    }

    /// What was lost since this was last asked.
    pub(crate) fn losses(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.losses))
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
            *held(&self.unlisted) = listed.as_ref().err().map(|error| with_causes(error));
            for place in listed.map(|all| self.without(&all)).unwrap_or_default() {
                let shard = place.shard.clone();
                self.start(place, None).map_err(|error| format!("no thread for the worker of {shard}: {error}"))?;
            }
        }
        Ok(())
    }

    /// How far behind its newest record each shard is, in milliseconds.
    pub(crate) fn behind_ms(&self) -> Vec<u64> {
        held(&self.shards).values().map(|seen| seen.behind_ms.load(Ordering::Relaxed)).collect()
    }

    /// Whether every shard is worked on, in words.
    pub(crate) fn said(&self) -> Result<String, String> {
        let mut troubles: Vec<String> =
            held(&self.shards).values().filter_map(|seen| held(&seen.trouble).clone()).collect();
        troubles.extend(held(&self.unlisted).clone());
        if troubles.is_empty() { Ok("every shard has a worker".to_owned()) } else { Err(troubles.join("; ")) }
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
