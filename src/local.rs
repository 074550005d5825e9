//! A system on a data folder. Decides what has to be so before anything is appended: the folder is this process's alone, its clock does not stand
//! before the last stamp, its rows are of this program's fold, and the lists of what was read know whether the stream has lost something.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Event, TimeReset},
    identity::Producer,
    position::{HashRange, SequenceNumber, ShardId},
    stream::Stream,
};
use processor::{
    append::{append_all, system_event},
    consume::ConsumeError,
    ingest::list::compare,
    replay::ReplayError,
};
use projections::{embedded as rows, fold::Place};

use crate::{
    AnyStore, AnyStream, LISTS, LISTS_ELSEWHERE, LocalStream, Opening, System,
    archive::Archive,
    chance, folder,
    generations::Generations,
    made, now_ms,
    pair::Manner,
    system::Own,
    ticker::Ticker,
    verifying::Verifying,
    workers::{Workers, is_too_early, places},
};

/// Most shards of a new folder: each takes 128 MiB of disk in advance, two threads, and a sync of its own for what is appended to it.
pub const SHARDS_MAX: u16 = stream::SHARDS_MAX as u16;

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
    /// Which generations there are could not be read.
    #[error("which generations there are could not be read: {0}")]
    Generations(#[source] projections::store::ReadError),
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

/// The last durable position of each shard.
pub(crate) fn tips(
    stream: &LocalStream,
    places: &[Place],
) -> Result<Vec<(ShardId, SequenceNumber)>, Box<events::stream::ReadError>> {
    places.iter().map(|place| Ok((place.shard.clone(), stream.tip(&place.shard).map_err(Box::new)?))).collect()
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
        let stream = LocalStream::open(disk, now_ms, settings)?;
        let shards = stream.shards().await.map_err(Box::new)?;
        let places = places(&shards);
        let ring = places.first().map_or(&[][..], |place| &place.ring);
        // Before anything is appended: afterwards nobody could tell what a crash left, and what the stream has lost.
        let found = tips(&stream, &places)?;
        compare_lists(folder, &found).map_err(failed)?;
        confirm_time(&stream, ring).await?;
        let epoch = stream.epoch();
        let before = tips(&stream, &places)?;
        let identity = format!("embedded stream {:016x}", stream.log_id());
        let stream = Arc::new(AnyStream::Local(stream));
        let store = made::rows(folder, &stream, &places, before, say).await?;
        let store = Arc::new(AnyStore::Local(store));
        let workers = Workers::new(stream.clone(), store.clone(), Manner::LOCAL, None);
        let ticker = Arc::new(Ticker::new(now_ms()));
        let mut system = Self {
            folder: folder.to_owned(),
            own: Some(Own { _lock: held, found, resumed: BTreeMap::new() }),
            is_new,
            lists: LISTS.to_owned(),
            stream,
            store,
            instance: format!("{:016x}", chance()),
            producer: Producer { id: "api".into(), epoch, counter: 0 },
            counter: AtomicU64::new(0),
            generations: Generations::new(workers.clone(), ticker.clone()),
            ticker,
            workers,
            verifying: Verifying::default(),
            identity,
            archive: Archive::default(),
        };
        system.generations.look().await.map_err(OpenError::Generations)?;
        for shard in &shards {
            // What cannot be read its worker says.
            let applied = system.workers.applied(&shard.id).await.unwrap_or_default();
            if let Some(own) = &mut system.own {
                own.resumed.insert(shard.id.clone(), applied);
            }
        }
        system.start_here(&shards).await?;
        Ok(system)
    }

    async fn start_here(&self, shards: &[events::stream::Shard]) -> Result<(), OpenError> {
        for place in self.workers.without(shards) {
            let shard = place.shard.clone();
            let worker = match self.workers.open(place.clone()).await {
                // A parent has to end first in the generation that counts for readers.
                Err(error) if is_too_early(&error) => {
                    let name = format!("worker of {shard}");
                    self.workers.start(place, None).map_err(|source| OpenError::Thread { name, source })?;
                    continue;
                }
                opened => opened.map_err(Box::new)?,
            };
            if let Some(stream) = self.stream.local() {
                let (tip, resume_point) = (stream.tip(&shard).map_err(Box::new)?, worker.committed());
                if tip < resume_point {
                    return Err(Box::new(ConsumeError::StreamShorter { shard, resume_point, tip }).into());
                }
            }
            self.ledger().committed(&shard, worker.committed());
            let name = format!("worker of {shard}");
            self.workers.start(place, Some(worker)).map_err(|source| OpenError::Thread { name, source })?;
        }
        self.begin().map_err(|(name, source)| OpenError::Thread { name: name.into(), source })
    }
}
