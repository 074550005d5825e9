//! The workers of a running system: decides which shards have one. A shard has a worker once all shards that it took its keys from have ended, and, where
//! other processes work on the same shards, while this process has its lease (`leasing`). For which generation it works is decided in `work`; what a
//! worker does is `processor`'s.

mod applied;
mod notes;
#[cfg(test)]
mod resharded;
#[cfg(any(test, feature = "aws"))]
mod shared;
mod trouble;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    stream::{Shard, Stream},
};
use processor::ledger::Ledger;
use projections::{
    fold::Place,
    generations::{Live, Record, record::Read},
    store::Generation,
};
use tokio::{runtime::Handle, sync::RwLock};

pub(crate) use self::{
    applied::Applied,
    notes::{Notes, held, lost_parent_text, lost_shard, lost_text},
    trouble::{OVERTAKEN_PAUSE, PAUSE, PAUSE_MAX, is_overtaken, is_too_early, lost_records, passes, spread},
};
use crate::{
    pair::{AnyStore, AnyStream, Manner},
    run::{self, PairWorker},
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
    /// What generations there are, by the newest that was read, and its version.
    record: Mutex<(u64, Arc<Record>)>,
    /// A generation that counts by what the stream says, and that is not among the rows.
    unknown: Mutex<Option<Live>>,
    /// Which generations this process follows with.
    pub(crate) following: Following,
}

/// Which generations are followed with. One process does that with each, the one that has its lease; where there is only one, that has them all.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// Those that are to be followed with, by some process; `None`: that was not looked at yet.
    pub(crate) wanted: Mutex<Option<BTreeSet<Generation>>>,
    /// Those whose lease this process has.
    pub(crate) mine: Mutex<BTreeSet<Generation>>,
}

/// The open shards with their ranges, as a fold that begins now finds them; what decisions go by comes with the ticks.
pub(crate) fn place_in(generation: Generation, shard: &Shard, all: &[Shard]) -> Place {
    let ring = all.iter().filter(|shard| !shard.closed).map(|shard| (shard.id.clone(), shard.range)).collect();
    Place { generation, shard: shard.id.clone(), ring }
}

/// The places of all shards that are listed, in the first generation.
pub(crate) fn places(shards: &[Shard]) -> Vec<Place> {
    shards.iter().map(|shard| place_in(Generation::default(), shard, shards)).collect()
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
            record: Mutex::default(),
            unknown: Mutex::default(),
            following: Following::default(),
        })
    }

    /// What generations there are, by the newest that was read.
    pub(crate) fn record(&self) -> Arc<Record> {
        held(&self.record).1.clone()
    }

    /// The record was read; returns the newest that is known, which may be newer.
    pub(crate) fn learn(&self, read: &Read) -> Arc<Record> {
        let mut known = held(&self.record);
        if read.version() >= known.0 {
            *known = (read.version(), Arc::new(read.record.clone()));
        }
        known.1.clone()
    }

    /// A generation that counts by what the stream says, and that was not among the rows when a worker came to that: the latest.
    pub(crate) fn unknown(&self) -> Option<Live> {
        *held(&self.unknown)
    }

    /// Where the worker of a shard begins to look for what counts there: most often that is what counts for readers.
    pub(crate) fn place_of(&self, shard: &Shard, all: &[Shard]) -> Place {
        place_in(self.record().live(), shard, all)
    }

    /// A thread of the system, which ends with it.
    pub(crate) fn spawn(
        &self,
        name: &str,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> io::Result<()> {
        self.spawn_on(name, None, work)
    }

    /// As `spawn`; `runtime`: where the connections live that it opens, `None`: it opens none of its own, and may use the system's.
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
            let runtime = runtime.or_else(|| self.runtime.clone());
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
        all.iter().filter(may).map(|shard| self.place_of(shard, all)).collect()
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
            workers.work(place, &seen, opened).await
        })
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

    /// True if this process follows with a generation.
    pub(crate) fn follows(&self, generation: Generation) -> bool {
        self.manner.is_alone || held(&self.following.mine).contains(&generation)
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
