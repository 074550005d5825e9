//! The stream on local files: one folder, one process. Decides when a record is durable and only then lets anybody see it; it never changes or
//! moves a record afterwards. `design.md` beside these files has the format, the reasons and the figures.
//!
//! Invariants:
//! - A reader sees a record only after the sync that covers it; what it saw is there after any crash, in the same place, byte for byte.
//! - Each opening raises the epoch durably, above that of every record there is, before it appends; (epoch, offset) is the sequence number, so no
//!   position is used twice.
//! - Arrival stamps never go back, unless a person confirmed that the clock did.
//! - After a failed sync nothing is known about the disk: every later call fails, and the process is to end.

mod committer;
pub mod disk;
mod error;
mod frame;
mod making;
mod metadata;
mod reader;
mod recover;
mod reshard;
mod sabotage;
mod segment;
mod shard_log;
mod spare;
mod tail;
#[cfg(test)]
mod tests;
mod time;

use std::{
    fmt, io,
    num::NonZeroU16,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
};

use disk::Disk;
pub use error::{OpenError, TrimError};
use making::load_or_make;
use metadata::{Confirmed, Metadata};
use recover::Expected;
pub use reshard::ReshardError;
pub use sabotage::Sabotage;
pub(crate) use sabotage::Switches;
use shard_log::{Failure, ShardLog};
use time::Time;

use crate::{
    position::{HashKey, SequenceNumber, ShardId},
    stream::{APPEND_RECORDS_MAX, AppendError, Appended, Limits, Page, Put, ReadError, Refused, Shard, Start, Stream},
};

/// Longest a host clock may lag behind the newest stamp before a person is asked.
pub const CLOCK_BEHIND_MS_MAX: i64 = 60_000;

/// Smallest segment: its header, and as much again.
pub const SEGMENT_BYTES_MIN: u64 = 2 * segment::HEADER_BYTES;

/// Most open shards.
pub const SHARDS_MAX: usize = 64;

const LOCK_PATH: &str = "lock";

/// The host's clock.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Clock for F {
    fn now_ms(&self) -> i64 {
        self()
    }
}

/// Who writes and syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commit {
    /// A thread for each shard: what many callers append meanwhile shares one sync.
    #[default]
    Thread,
    /// The caller, within `append`, which is ready at once. Reads do not wait. For simulations.
    Inline,
}

/// How a stream is made and opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many shards a new stream gets; an existing one keeps its own.
    pub shards: NonZeroU16,
    /// Room taken for one segment; less than `SEGMENT_BYTES_MIN` counts as that. Retention removes whole segments.
    pub segment_bytes: u64,
    /// Who writes and syncs.
    pub commit: Commit,
    /// A person says that the host's clock is right although it is behind the newest stamp.
    pub confirm_clock: bool,
    /// Which law is broken on purpose.
    #[cfg(any(test, feature = "law"))]
    pub sabotage: Option<Sabotage>,
}

impl Options {
    fn switches(&self) -> Switches {
        #[cfg(any(test, feature = "law"))]
        return Switches::of(self.sabotage);
        #[cfg(not(any(test, feature = "law")))]
        Switches::of(None)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: NonZeroU16::MIN,
            segment_bytes: 64 << 20,
            commit: Commit::Thread,
            confirm_clock: false,
            #[cfg(any(test, feature = "law"))]
            sabotage: None,
        }
    }
}

/// A person confirmed that the clock is right although it is behind: the caller is to append the event that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeReset {
    /// The newest stamp so far, Unix milliseconds.
    pub from_ms: i64,
    /// What the clock said when it was confirmed, Unix milliseconds.
    pub to_ms: i64,
}

/// The stream on a disk. Clones are handles of the same stream; the last one that goes closes it.
pub struct Embedded<D: Disk>(Arc<Opened<D>>);

impl<D: Disk> fmt::Debug for Embedded<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Embedded").field(&self.0.disk.describe("")).finish()
    }
}

impl<D: Disk> Clone for Embedded<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Opened<D: Disk> {
    disk: D,
    options: Options,
    time: Arc<Time>,
    shards: RwLock<Arc<Shards<D>>>,
    metadata: Mutex<Metadata>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<D::Lock>>,
    inline: bool,
}

/// The shards as they are between two reshardings.
#[derive(Debug)]
struct Shards<D: Disk> {
    /// Parents before children.
    all: Vec<Arc<ShardLog<D>>>,
    /// Those that take records: their ranges cover the ring, in this order.
    open: Vec<Arc<ShardLog<D>>>,
}

impl<D: Disk> Shards<D> {
    /// `closing`: those that close now.
    fn of(all: Vec<Arc<ShardLog<D>>>, closing: &[Arc<ShardLog<D>>]) -> Self {
        let closes = |log: &ShardLog<D>| closing.iter().any(|closing| closing.shard.id == log.shard.id);
        let mut open: Vec<_> = all.iter().filter(|log| !log.view().closed && !closes(log)).cloned().collect();
        open.sort_by_key(|log| log.shard.range.from);
        Self { all, open }
    }

    fn owner(&self, key: HashKey) -> &Arc<ShardLog<D>> {
        &self.open[self.open.partition_point(|log| log.shard.range.through < key)]
    }
}

/// What one shard is to take: which of the puts, and the puts.
type Part = (Vec<usize>, Vec<Put>);

impl<D: Disk> Embedded<D> {
    /// Opens the stream, or makes it if the folder has none. Takes as long as it takes to read the last segment of each shard.
    pub fn open(disk: D, clock: impl Clock, mut options: Options) -> Result<Self, OpenError> {
        options.segment_bytes = options.segment_bytes.max(SEGMENT_BYTES_MIN);
        let failed = |what, path: &str| {
            let file = disk.describe(path);
            move |source| OpenError::Io { what, file, source }
        };
        let lock = disk.lock(LOCK_PATH).map_err(failed("locked", LOCK_PATH))?;
        let Some(lock) = lock else {
            return Err(OpenError::InUse { folder: disk.describe("") });
        };
        let mut metadata = load_or_make(&disk, &options)?;
        let switches = options.switches();
        let mut recovered = Vec::with_capacity(metadata.shards.len());
        for entry in &metadata.shards {
            let id = entry.id();
            let expected = Expected::of(&disk, &id, entry, metadata.log_id, &options);
            recovered.push((entry.shard(), expected.recover()?));
        }
        // What is in the log is above what the metadata says where an older copy of that was put back.
        let seen = recovered.iter().map(|(_, shard)| shard.epoch).max().unwrap_or(0);
        let epoch = metadata.epoch.max(seen) + u64::from(!switches.breaks(Sabotage::EpochKept));
        let newest_ms = newest_stamp(&metadata, recovered.iter().map(|(_, shard)| (shard.tip, shard.tip_stamp_ms)));
        let now_ms = clock.now_ms();
        let mut base_ms = newest_ms;
        if let Some(newest_ms) = newest_ms.filter(|newest| *newest > now_ms.saturating_add(CLOCK_BEHIND_MS_MAX)) {
            if !options.confirm_clock {
                return Err(OpenError::ClockBehind { clock_ms: now_ms, newest_ms });
            }
            metadata.confirmed = Some(Confirmed { epoch, from_ms: newest_ms, to_ms: now_ms, told: false });
            base_ms = Some(now_ms);
        }
        metadata.epoch = epoch;
        metadata.store(&disk).map_err(failed("written", metadata::PATH))?;

        let time = Arc::new(Time::new(clock, base_ms));
        let shards: Vec<Arc<ShardLog<D>>> = recovered
            .into_iter()
            .map(|(shard, found)| {
                Arc::new(ShardLog::new(&disk, shard, found, epoch, metadata.log_id, &options, time.clone()))
            })
            .collect();
        let inline = options.commit == Commit::Inline;
        let mut threads = Vec::new();
        for shard in &shards {
            if shard.view().closed {
                shard.close_for_good();
                continue;
            }
            if inline {
                continue;
            }
            threads.push(committer::start(shard.clone()).map_err(failed("given a thread", shard.shard.id.as_str()))?);
        }
        Ok(Self(Arc::new(Opened {
            disk,
            shards: RwLock::new(Arc::new(Shards::of(shards, &[]))),
            time,
            options,
            metadata: metadata.into(),
            threads: threads.into(),
            lock: Some(lock).into(),
            inline,
        })))
    }

    /// The newest record of a shard that is durable: `ZERO` if it never had one.
    pub fn tip(&self, shard: &ShardId) -> Result<SequenceNumber, ReadError> {
        Ok(self.shard(shard)?.tip())
    }

    /// A random number that this stream was given when it was made, and that its copies share.
    pub fn log_id(&self) -> u64 {
        self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner).log_id
    }

    /// This opening's epoch: higher than that of every record before.
    pub fn epoch(&self) -> u64 {
        self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner).epoch
    }

    /// Why every call fails from now on, if so: the process is to end, unless it closed the stream itself.
    pub fn ended(&self) -> Option<String> {
        self.0.shards().all.iter().find_map(|shard| shard.view().ended.clone())
    }

    /// Removes the oldest segments of a shard whose records all arrived before `older_than_ms` and stand before `keep_from`; returns how many.
    /// The segment that is being written stays.
    pub fn trim(&self, shard: &ShardId, older_than_ms: i64, keep_from: SequenceNumber) -> Result<usize, TrimError> {
        let log = self.shard(shard).map_err(|_| TrimError::NoSuchShard(shard.clone()))?;
        log.trim(older_than_ms, keep_from)
    }

    /// The clock's setback that a person confirmed, now or at an earlier opening, until `time_reset_appended`.
    pub fn time_reset(&self) -> Option<TimeReset> {
        let metadata = self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = metadata.confirmed.filter(|confirmed| !confirmed.told)?;
        Some(TimeReset { from_ms: confirmed.from_ms, to_ms: confirmed.to_ms })
    }

    /// The event that tells of `time_reset` is durable: it need not be appended again. Called twice: nothing more happens.
    pub fn time_reset_appended(&self) -> io::Result<()> {
        let mut metadata = self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = metadata.clone();
        match &mut told.confirmed {
            Some(confirmed) if !confirmed.told => confirmed.told = true,
            _ => return Ok(()),
        }
        told.store(&self.0.disk)?;
        *metadata = told;
        Ok(())
    }

    /// Ends the stream for all handles, after what was appended is durable or refused. Later calls fail. Called twice: nothing more happens.
    pub fn close(&self) {
        self.0.close();
    }

    fn shard(&self, id: &ShardId) -> Result<Arc<ShardLog<D>>, ReadError> {
        let shards = self.0.shards();
        shards.all.iter().find(|log| log.shard.id == *id).cloned().ok_or_else(|| ReadError::NoSuchShard(id.clone()))
    }

    /// One call to each owner, for the puts that have no answer yet; returns those that are to be sent again, as their shard closed meanwhile.
    async fn append_round(&self, puts: Vec<(usize, Put)>, answers: &mut Answers) -> Result<Vec<(usize, Put)>, String> {
        let shards = self.0.shards();
        let mut parts: Vec<(&Arc<ShardLog<D>>, Part)> = Vec::new();
        for (place, put) in puts {
            let owner = shards.owner(put.hash_key.unwrap_or_else(|| HashKey::of(&put.partition_key)));
            let part = match parts.iter().position(|(shard, ..)| Arc::ptr_eq(shard, owner)) {
                Some(at) => &mut parts[at],
                None => {
                    parts.push((owner, Default::default()));
                    parts.last_mut().expect("just pushed")
                }
            };
            part.1.0.push(place);
            part.1.1.push(put);
        }
        let mut waiting = Vec::with_capacity(parts.len());
        for (log, (places, puts)) in parts {
            waiting.push((places, if self.0.inline { log.append_here(puts) } else { log.enqueue(puts).await }));
        }
        let mut again = vec![];
        for (places, answer) in waiting {
            match answer.wait().await {
                Ok(done) if done.moved.is_empty() => {
                    places.into_iter().zip(done.answers).for_each(|(place, answer)| answers.each[place] = Some(answer));
                }
                Ok(done) => again.extend(places.into_iter().zip(done.moved)),
                Err(Failure::Unknown(why)) => return Err(why),
                Err(Failure::Nothing(why)) => answers.failure = Some(why),
            }
        }
        Ok(again)
    }
}

/// What is known of an append.
struct Answers {
    each: Vec<Option<Result<Appended, Refused>>>,
    /// Why those that have no answer were not appended.
    failure: Option<String>,
}

impl<D: Disk> Opened<D> {
    fn shards(&self) -> Arc<Shards<D>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_shards(&self, shards: Shards<D>) {
        *self.shards.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shards);
    }

    fn close(&self) {
        // No split or merge is under way, and none begins.
        let _metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = self.shards();
        for shard in &shards.all {
            shard.close();
        }
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that panicked has said so, and has ended its shard.
            let _ = thread.join();
        }
        for shard in &shards.all {
            shard.spare.stop();
        }
        for shard in &shards.all {
            shard.end("it was closed");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl<D: Disk> Drop for Opened<D> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<D: Disk> Stream for Embedded<D> {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        if puts.len() > APPEND_RECORDS_MAX {
            let what = format!("{} records in one append, at most {APPEND_RECORDS_MAX} are taken", puts.len());
            return Err(AppendError::NotAppended(what));
        }
        let mut answers = Answers { each: vec![None; puts.len()], failure: None };
        let mut waiting = Vec::with_capacity(puts.len());
        for (place, put) in puts.into_iter().enumerate() {
            match put.check() {
                Ok(()) => waiting.push((place, put)),
                Err(why) => answers.each[place] = Some(Err(why)),
            }
        }
        // Each further round is a shard that was split or merged meanwhile.
        while !waiting.is_empty() {
            waiting = self.append_round(waiting, &mut answers).await.map_err(AppendError::Unknown)?;
        }
        match answers.failure {
            // Where one was taken, or never can be, each record has its own answer.
            Some(why) if answers.each.iter().all(Option::is_none) => Err(AppendError::NotAppended(why)),
            _ => Ok(answers.each.into_iter().map(|answer| answer.unwrap_or(Err(Refused::Failed))).collect()),
        }
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(self.0.shards().all.iter().map(|log| log.listed()).collect())
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.shard(shard)?.read(from, limits, self.0.inline).await
    }
}

/// The newest stamp that the clock must not lag behind: those of before a confirmed setback do not count.
fn newest_stamp(metadata: &Metadata, tips: impl Iterator<Item = (SequenceNumber, i64)>) -> Option<i64> {
    let confirmed = metadata.confirmed;
    let since = confirmed.map_or(0, |confirmed| confirmed.epoch);
    let stamps = tips.filter(|(tip, _)| tip.parts().is_some_and(|(epoch, _)| epoch >= since && epoch > 0));
    stamps.map(|(_, stamp)| stamp).chain(confirmed.map(|confirmed| confirmed.to_ms)).max()
}
