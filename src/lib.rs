//! The whole system in one process: the embedded stream, a worker for each shard, the store, the ticker. Wires parts; decides nothing.
//!
//! A data folder holds:
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | held by the one process that has the folder open, and names it |
//! | `address` | how other commands reach that process, while it serves |
//! | `stream/` | the embedded stream |
//! | `rows.redb` | rows and resume points |
//! | `rows-new.redb` | rows that are being made anew, beside the old ones |
//! | `verify-*.redb` | what `verify` folds into, for as long as it runs |
//! | `readers*/` | which files were read, and how far, for each tenant and system; `readers*.known` says that there is such a list |

mod causes;
mod folder;
mod made;
mod operator;
mod run;
mod ticker;
mod verifying;
mod waiting;

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use api::operator::AppendFailed;
use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Event, TimeReset},
    identity::Producer,
    position::{HashRange, SequenceNumber, ShardId},
    stream::{AppendError, Appended, Put, ReadOnly, Stream},
};
use processor::{
    consume::{ConsumeError, Live, Worker, append_all, system_event},
    ingest::list::compare,
    ledger::Ledger,
    replay::{Progress, ReplayError},
    tick::TickError,
    verify::{self, Report},
};
use projections::{embedded as rows, fold::Place, store::Generation};
use tokio::sync::Semaphore;

pub use causes::with_causes;
pub use folder::{holder, serving, serving_as};
pub use made::Opening;
pub use verifying::VERIFY;

use made::SCRATCH;
use ticker::Ticker;
use verifying::Verifying;

/// The stream of a data folder.
pub type LocalStream = stream::Embedded<RealDisk>;
/// The store of a data folder.
pub type LocalStore = rows::Embedded;

/// How the names of folders begin that list which files were read into the stream beside them.
pub const LISTS: &str = "readers";
/// How the names of folders begin that list which files were read into other systems: their positions say nothing about this stream.
pub const LISTS_ELSEWHERE: &str = "readers-at-";

/// Most shards of a new folder: each takes 128 MiB of disk in advance, two threads, and a sync of its own for what is appended to it.
pub const SHARDS_MAX: u16 = 64;

/// A data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder {0} is in use by another weir process")]
    InUse(PathBuf),
    /// The folder cannot be made or locked.
    #[error("the data folder {folder} cannot be used: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// More shards than a new folder may have; nothing was made.
    #[error(
        "{0} shards are too many: a new data folder has at most {SHARDS_MAX}, each of which takes 128 MiB of disk in advance"
    )]
    TooManyShards(NonZeroU16),
    /// The stream.
    #[error(transparent)]
    Stream(#[from] stream::OpenError),
    /// The rows.
    #[error(transparent)]
    Rows(#[from] rows::OpenError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] Box<ConsumeError>),
    /// That time went back could not be written down.
    #[error("the confirmed clock could not be written to the stream: {0}; start again with --confirm-clock")]
    TimeReset(String),
    /// Rows that are gone, or that an earlier revision of the fold made, could not be made anew.
    #[error("the rows could not be made anew from the stream: {0}. Nothing was changed: start again")]
    Rebuild(#[from] Box<ReplayError>),
    /// What shards have to say to each other could not be appended.
    #[error(
        "the rows could not be made anew: what a crash kept from the stream could not be appended: {0}; start again"
    )]
    Unheard(String),
    /// A thread of the system.
    #[error(
        "the thread {name} could not be started: {source}. A limit of the machine, the user (`ulimit -u`) or the container may be reached: raise it, or \
         end other programs, and start again"
    )]
    Thread {
        /// Which.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The shards could not be listed.
    #[error(transparent)]
    Shards(#[from] Box<events::stream::ReadError>),
}

/// How a data folder is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Shards of a new folder, at most `SHARDS_MAX`; `None`: one for each core, at most eight. An existing folder keeps its own.
    pub shards: Option<NonZeroU16>,
    /// A person says that the host's clock is right although it is behind the newest stamp.
    pub confirm_clock: bool,
    /// What this process is called by those who wait for the folder, such as `weir ingest`.
    pub who: String,
}

/// See the module. Dropping it without `close` is a crash, from which the next opening recovers.
pub struct System {
    folder: PathBuf,
    stream: Arc<LocalStream>,
    store: Arc<LocalStore>,
    ledger: Arc<Ledger>,
    places: Vec<Place>,
    stop: Arc<AtomicBool>,
    /// A permit for each worker that commits; `verify` takes all of them while it compares.
    commits: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    behind_ms: Arc<Vec<AtomicU64>>,
    instance: String,
    counter: AtomicU64,
    ticker: Arc<Ticker>,
    /// Where each shard ended when this process opened it: what is not readable up to there was left by a crash.
    found: Vec<(ShardId, SequenceNumber)>,
    /// How many wait until all that is durable can be read.
    waiters: Arc<AtomicUsize>,
    verifying: Verifying,
    _lock: File,
}

/// Unix milliseconds by the host's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Every list of what was read into this folder's stream hears whether the stream has lost something of it.
fn compare_lists(folder: &Path, found: &[(ShardId, SequenceNumber)]) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_own = name.to_str().is_some_and(|name| name.starts_with(LISTS) && !name.starts_with(LISTS_ELSEWHERE));
        if is_own && entry.file_type()?.is_dir() {
            compare(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// A person has confirmed that time went back: every shard hears of it, once, before anything else is stamped anew.
async fn confirm_time(stream: &LocalStream, ring: &[(ShardId, HashRange)]) -> Result<(), OpenError> {
    let Some(reset) = stream.time_reset() else { return Ok(()) };
    let event = Event::TimeReset(TimeReset { was_ms: reset.from_ms });
    let puts = ring.iter().map(|(_, range)| system_event(range.from, event.clone())).collect();
    append_all(stream, puts).await.map_err(OpenError::TimeReset)?;
    stream.time_reset_appended().map_err(|error| OpenError::TimeReset(error.to_string()))
}

impl System {
    /// Opens a data folder, and starts its workers and its ticker.
    pub async fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_saying(folder, options, |_| {}).await
    }

    /// As `open`; `say` hears of what takes long.
    pub async fn open_saying(folder: &Path, options: Options, say: impl Fn(Opening)) -> Result<Self, OpenError> {
        let is_new = !folder.join("stream").join("stream").exists();
        if let Some(many) = options.shards.filter(|shards| is_new && shards.get() > SHARDS_MAX) {
            return Err(OpenError::TooManyShards(many));
        }
        let held = folder::lock(folder, &options.who)?;
        let failed = |source| OpenError::Folder { folder: folder.to_owned(), source };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8)) as u16;
        let settings = stream::Options {
            shards: options.shards.or(NonZeroU16::new(cores)).unwrap_or(NonZeroU16::MIN),
            confirm_clock: options.confirm_clock,
            ..stream::Options::default()
        };
        let disk = RealDisk::in_folder(folder.join("stream")).map_err(failed)?;
        let stream = Arc::new(LocalStream::open(disk, now_ms, settings)?);
        let shards = stream.shards().await.map_err(Box::new)?;
        let ring: Vec<_> = shards.iter().map(|shard| (shard.id.clone(), shard.range)).collect();
        let places: Vec<Place> = shards
            .iter()
            .map(|shard| Place { generation: Generation::default(), shard: shard.id.clone(), ring: ring.clone() })
            .collect();
        // Before anything is appended: afterwards nobody could tell what a crash left, and what the stream has lost.
        let found = tips(&stream, &places)?;
        compare_lists(folder, &found).map_err(failed)?;
        confirm_time(&stream, &ring).await?;
        let store = made::rows(folder, &stream, &places, say).await?;
        let mut system = Self {
            folder: folder.to_owned(),
            stream,
            store,
            ledger: Arc::default(),
            behind_ms: Arc::new(places.iter().map(|_| AtomicU64::new(0)).collect()),
            commits: Arc::new(Semaphore::new(places.len())),
            places,
            stop: Arc::default(),
            threads: vec![],
            instance: format!("{:016x}", RandomState::new().build_hasher().finish()),
            counter: AtomicU64::new(0),
            ticker: Arc::new(Ticker::new(now_ms())),
            found,
            waiters: Arc::default(),
            verifying: Verifying::default(),
            _lock: held,
        };
        system.start().await?;
        Ok(system)
    }

    async fn start(&mut self) -> Result<(), OpenError> {
        for (number, place) in self.places.clone().into_iter().enumerate() {
            let sink = Live(self.stream.clone());
            let worker = Worker::open(ReadOnly::new(self.stream.clone()), self.store.clone(), sink, place.clone())
                .await
                .map_err(Box::new)?;
            let tip = self.stream.tip(&place.shard).map_err(Box::new)?;
            if tip < worker.committed() {
                let (shard, resume_point) = (place.shard.clone(), worker.committed());
                return Err(Box::new(ConsumeError::StreamShorter { shard, resume_point, tip }).into());
            }
            self.ledger.committed(&place.shard, worker.committed());
            let (ledger, stop, behind) = (self.ledger.clone(), self.stop.clone(), self.behind_ms.clone());
            let waiters = self.waiters.clone();
            let commits = self.commits.clone();
            self.spawn(format!("worker-{number}"), async move {
                let done = run::consume(worker, &place, &ledger, &commits, &waiters, &stop, &behind[number]).await;
                done.map_err(|error| with_causes(&error))
            })?;
        }
        let (stream, store, stop) = (self.stream.clone(), self.store.clone(), self.stop.clone());
        let ticker = self.ticker.clone();
        self.spawn("ticker".into(), async move {
            ticker.run(&*stream, &*store, &stop).await;
            Ok(())
        })
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> Result<(), OpenError> {
        let thread = run::spawn(name.clone(), self.ledger.clone(), work);
        self.threads.push(thread.map_err(|source| OpenError::Thread { name, source })?);
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The store.
    pub fn store(&self) -> &LocalStore {
        &self.store
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How far behind its newest record each shard is, in milliseconds.
    pub fn behind_ms(&self) -> Vec<u64> {
        self.behind_ms.iter().map(|behind| behind.load(Ordering::Relaxed)).collect()
    }

    /// The generation that readers see.
    pub fn generation(&self) -> Generation {
        Generation::default()
    }

    /// A random name of this opening: who finds an address in the folder asks whether it still is this one's.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// An identity for batches that come from nowhere, handed out once: each call gives another counter, and each opening has an epoch of its own.
    pub fn producer(&self) -> Producer {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        Producer { id: "api".into(), epoch: self.stream.epoch(), counter }
    }

    /// How many shards the stream has.
    pub async fn shards(&self) -> Result<usize, events::stream::ReadError> {
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
    pub async fn tick(&self) -> Result<(), TickError> {
        self.ticker.tick(&*self.stream, &*self.store).await
    }

    /// Folds the stream again beside the rows, in a scratch file of the folder, and compares.
    pub async fn verify(&self, progress: impl Fn(Progress)) -> Result<Report, ReplayError> {
        let scratch = self.folder.join(format!("{SCRATCH}{}.redb", now_ms()));
        let opened = LocalStore::open(&scratch).map_err(|error| {
            ReplayError::Read(projections::store::ReadError::Unavailable(format!(
                "no room to replay into: {}",
                with_causes(&error)
            )))
        });
        let answer = match opened {
            Ok(rows) => {
                let stream = ReadOnly::new(self.stream.clone());
                let all = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                let pause = self.commits.acquire_many(all);
                let shown = self.verifying.begin();
                let progress = |done| {
                    shown.at(done);
                    progress(done);
                };
                verify::verify(stream, &*self.store, Arc::new(rows), self.places.clone(), pause, progress).await
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
        self.stream.ended().or_else(|| self.ledger.why_stopped())
    }

    /// Folds and commits what was appended, and stops.
    pub fn close(mut self) -> Option<String> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that panicked has told the ledger.
            let _ = thread.join();
        }
        let why = self.why_stopped();
        self.stream.close();
        why
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// The last durable position of each shard.
fn tips(
    stream: &LocalStream,
    places: &[Place],
) -> Result<Vec<(ShardId, SequenceNumber)>, Box<events::stream::ReadError>> {
    places.iter().map(|place| Ok((place.shard.clone(), stream.tip(&place.shard).map_err(Box::new)?))).collect()
}
