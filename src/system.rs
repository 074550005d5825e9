//! The whole system in one process: the stream, a worker for each shard, the store, the ticker. Wires parts; decides nothing, and does not know which
//! stream and which store it has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use api::operator::AppendFailed;
use events::{
    embedded::disk::Locked,
    identity::Producer,
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Put, ReadError, ReadOnly, Shard, Stream},
};
use processor::{
    ledger::Ledger,
    replay::{Progress, ReplayError},
    tick::{Tick, TickError},
    verify::{self, Report},
};
use projections::{
    generations::View,
    store::{self, Generation},
};

use crate::{
    AnyStore, AnyStream, LocalStore,
    archive::Archive,
    generations::Generations,
    made::SCRATCH,
    now_ms,
    ticker::Ticker,
    verifying::Verifying,
    with_causes,
    workers::{Applied, Workers, place_in},
};

/// Rows that other processes write are compared so often until a difference counts.
const COMPARES_MAX: u32 = 3;

/// Why a system does not go on at the moment, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldUp {
    /// Something is wrong.
    Trouble(String),
    /// All is well; another process has to go on first.
    Waits(String),
}

/// A data folder that this process has.
pub(crate) struct Own {
    pub(crate) _lock: Locked,
    /// Where each shard ended when this process opened it: what is not readable up to there was left by a crash.
    pub(crate) found: Vec<(ShardId, SequenceNumber)>,
    /// How far the rows had it then. A shard whose parents have to end first has no worker for a moment that could say so.
    pub(crate) resumed: BTreeMap<ShardId, Applied>,
}

/// See the module. Dropping it without `close` is a crash, from which the next opening recovers.
pub struct System {
    /// The data folder; beside a pair that is elsewhere, a cache.
    pub(crate) folder: PathBuf,
    /// `None`: the pair is elsewhere, and other processes may have it too.
    pub(crate) own: Option<Own>,
    /// This opening made the stream.
    pub(crate) is_new: bool,
    /// What its readers' lists are called: what was read into one stream says nothing about another.
    pub(crate) lists: String,
    pub(crate) stream: Arc<AnyStream>,
    pub(crate) store: Arc<AnyStore>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) instance: String,
    pub(crate) producer: Producer,
    pub(crate) counter: AtomicU64,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) verifying: Verifying,
    pub(crate) generations: Arc<Generations>,
    /// What tells the stream from every other, and from one that was made anew in its place.
    pub(crate) identity: String,
    pub(crate) archive: Archive,
}

impl System {
    /// The data folder; beside a pair that is elsewhere, a cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// False: the stream and the rows are elsewhere, and other processes may have them too.
    pub fn is_local(&self) -> bool {
        self.own.is_some()
    }

    /// This opening made the stream: nothing was read into it before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// How the names of folders begin that list which files were read into this system's stream.
    pub fn lists(&self) -> &str {
        &self.lists
    }

    /// The store.
    pub fn store(&self) -> &AnyStore {
        &self.store
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.workers.ledger
    }

    /// How far behind its newest record each shard is, in milliseconds.
    pub fn behind_ms(&self) -> Vec<u64> {
        self.workers.behind_ms()
    }

    /// The generation that readers see.
    pub fn generation(&self) -> Generation {
        self.generations.view().live()
    }

    /// Where readers find windows.
    pub fn view(&self) -> View {
        self.generations.view()
    }

    /// A random name of this opening: who finds an address in the folder asks whether it still is this one's.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// An identity for batches that come from nowhere, handed out once: each call gives another counter, and no two openings have one together.
    pub fn producer(&self) -> Producer {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        Producer { counter, ..self.producer.clone() }
    }

    /// How many shards the stream has.
    pub async fn shards(&self) -> Result<usize, ReadError> {
        self.stream.shards().await.map(|shards| shards.len())
    }

    /// The highest revision of definitions that could be read when this process last ticked; `ZERO` before its first tick, and without any.
    pub fn revision(&self) -> SequenceNumber {
        self.ticker.revision()
    }

    /// Whether minutes pass: in words what is, or what is wrong and follows from it.
    pub fn ticking(&self) -> Result<String, String> {
        self.ticker.said(now_ms())
    }

    /// Appends one record; returns once it is durable.
    pub async fn append(&self, put: Put) -> Result<Appended, AppendFailed> {
        let answers = self.stream.append(vec![put]).await?;
        match answers.into_iter().next() {
            Some(Ok(appended)) => Ok(appended),
            Some(Err(refused)) => Err(refused.into()),
            None => Err(AppendError::Unknown("the stream gave no answer".into()).into()),
        }
    }

    /// Ticks now, so that definitions come into force without waiting for the minute.
    pub async fn tick(&self) -> Result<Tick, TickError> {
        if !self.is_local() {
            // Who looks after no generations may not know which counts by now. Where that cannot be read, the tick says so, as it reads the same rows.
            let _ = self.generations.look().await;
        }
        self.ticker.tick(&*self.stream, &*self.store).await
    }

    /// Starts the ticker, and what looks after generations.
    pub(crate) fn begin_attending(&self) -> Result<(), (&'static str, std::io::Error)> {
        let (stream, store, workers) = (self.stream.clone(), self.store.clone(), self.workers.clone());
        let ticker = self.ticker.clone();
        let ticking = async move {
            ticker.run(&*stream, &*store, &workers.stop).await;
            Ok(())
        };
        self.workers.spawn("ticker", ticking).map_err(|error| ("ticker", error))?;
        let generations = self.generations.clone();
        self.workers.spawn("generations", generations.supervise()).map_err(|error| ("generations", error))
    }

    /// Starts the same, and what looks for shards that have no worker yet.
    pub(crate) fn begin(&self) -> Result<(), (&'static str, std::io::Error)> {
        self.begin_attending()?;
        self.workers.spawn("shards", self.workers.clone().supervise()).map_err(|error| ("shards", error))
    }

    /// What was gone from the stream before it was folded, since this was last asked; in words.
    pub fn losses(&self) -> Vec<String> {
        let mut losses = self.workers.notes.losses();
        losses.extend(self.archive.losses());
        losses
    }

    /// Which shards this process took over from others, and which others took from it, since this was last asked; in words.
    pub fn news(&self) -> Vec<String> {
        self.workers.notes.news()
    }

    /// Why it does not go on at the moment: what is out of reach, or the other process for which somebody here waits.
    pub fn held_up(&self) -> Option<HeldUp> {
        let trouble = self.stream.trouble().or_else(|| self.workers.said().err());
        trouble.map(HeldUp::Trouble).or_else(|| self.workers.notes.waited_for().map(HeldUp::Waits))
    }

    /// Folds the stream again beside the rows, in a scratch file of the folder, and compares.
    ///
    /// Where other processes work on the same rows, or a commit is more than one write, rows may be ahead of the resume points for a moment, or since
    /// a crash. So it is begun when all is folded that was durable, and a difference counts once it is found again.
    pub async fn verify(&self, progress: impl Fn(Progress)) -> Result<Report, ReplayError> {
        let mut tries = 0;
        loop {
            tries += 1;
            if !self.is_local() {
                self.settle().await.map_err(ReplayError::Stream)?;
            }
            let report = self.compare(&progress).await?;
            if report.differences == 0 || self.is_local() || tries == COMPARES_MAX {
                return Ok(report);
            }
        }
    }

    async fn compare(&self, progress: impl Fn(Progress)) -> Result<Report, ReplayError> {
        let scratch = self.folder.join(format!("{SCRATCH}{}-{}.redb", now_ms(), self.instance));
        let opened = LocalStore::open(&scratch).map_err(|error| {
            let why = format!("no room to replay into: {}", with_causes(&error));
            ReplayError::Read(store::ReadError::Unavailable(why))
        });
        let answer = match opened {
            Ok(rows) => {
                let shown = self.verifying.begin();
                let progress = |done| {
                    shown.at(done);
                    progress(done);
                };
                // What readers see is what counts; a generation that follows is compared with it.
                let record = self.generations.look().await?;
                let (live, from_ms) = (record.live(), record.start_ms(record.live()));
                let all = |shards: &[Shard]| shards.iter().map(|shard| place_in(live, shard, shards)).collect();
                let (rows, pause) = (Arc::new(rows), self.workers.commits.write());
                match self.archived().await {
                    Ok(Some(whole)) => {
                        let places = all(&whole.shards().await?);
                        let stream = ReadOnly::new(whole);
                        verify::verify_from(stream, &*self.store, rows, places, from_ms, pause, progress).await
                    }
                    Ok(None) => {
                        let places = all(&self.stream.shards().await?);
                        let stream = ReadOnly::new(self.stream.clone());
                        verify::verify_from(stream, &*self.store, rows, places, from_ms, pause, progress).await
                    }
                    Err(error) => Err(ReplayError::Archive(Box::new(error))),
                }
            }
            Err(error) => Err(error),
        };
        // One that stays behind costs room until the folder is opened again, and the answer matters more.
        let _ = std::fs::remove_file(&scratch);
        answer
    }

    /// Why the system cannot go on, if it cannot: the stream has ended (a sync failed), or a worker has stopped. The process is to end then, and
    /// the next start recovers.
    pub fn why_stopped(&self) -> Option<String> {
        self.stream.local().and_then(|stream| stream.ended()).or_else(|| self.workers.ledger.why_stopped())
    }

    /// Commits what was folded, on one machine also what was appended, and stops.
    pub fn close(self) -> Option<String> {
        self.close_telling(|_| {})
    }

    /// As `close`; `tell` hears what was lost until then, and what is left for whoever comes next.
    pub fn close_telling(self, mut tell: impl FnMut(String)) -> Option<String> {
        self.workers.end();
        self.losses().into_iter().for_each(|loss| tell(format!("lost: {loss}")));
        self.archive.left().into_iter().for_each(tell);
        let why = self.why_stopped();
        if let Some(stream) = self.stream.local() {
            stream.close();
        }
        why
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.workers.stop.store(true, Ordering::SeqCst);
    }
}
