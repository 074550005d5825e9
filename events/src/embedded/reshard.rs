//! Splits and merges. Decides when a shard closes and where its keys go; never moves a record: what a parent holds stays its own.
//!
//! | step | after a crash here |
//! |---|---|
//! | the children's folders and first segments are made, durably | leftovers that the metadata does not know; made again by the next one |
//! | the parents' logs are held: no group is under way, none begins | the same |
//! | the metadata is replaced: parents closed, children there, a higher epoch | the old metadata or the new one, and no child holds a record |
//! | children take appends, readers hear that the parents have ended | all of it stands |
//!
//! The epoch is raised, so every position of a child is higher than all of its parents: what has one order over a lineage (definitions, marks)
//! keeps it.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use super::{
    Embedded, OpenError, SHARDS_MAX, Shards, committer,
    disk::Disk,
    making,
    metadata::{self, Metadata, ShardEntry},
    recover::Expected,
    shard_log::ShardLog,
};
use crate::position::{HashKey, HashRange, ShardId};

/// A split or merge that did not happen, unless it says that the stream has ended.
#[derive(Debug, thiserror::Error)]
pub enum ReshardError {
    /// There is no such shard.
    #[error("the stream has no shard {0}")]
    NoSuchShard(ShardId),
    /// It has been split or merged before.
    #[error("{0} is closed: its children have its keys")]
    Closed(ShardId),
    /// Both children must get keys.
    #[error(
        "{shard} cannot be split there: the upper part begins behind its first key, and at its last one at the latest"
    )]
    OutsideRange {
        /// The shard.
        shard: ShardId,
    },
    /// A shard's keys are one range.
    #[error("{one} and {other} cannot be merged: their keys are no neighbours")]
    NotAdjacent {
        /// One of them.
        one: ShardId,
        /// The other.
        other: ShardId,
    },
    /// Each open shard takes disk, memory and a thread.
    #[error("there are {SHARDS_MAX} open shards, which is the limit: merge some first")]
    TooMany,
    /// The stream has ended.
    #[error("the stream has ended: {0}")]
    Ended(String),
    /// A child could not be made.
    #[error("the new shards could not be made")]
    Making(#[source] OpenError),
    /// The metadata could not be written.
    #[error("{file} could not be written")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

type Log<D> = Arc<ShardLog<D>>;

impl<D: Disk> Embedded<D> {
    /// Closes a shard and gives its keys to two children; `at` is the first key of the upper one. Returns them, the lower one first.
    ///
    /// When it returns, it is durable. Appends at the same time go to the parent or to a child. After an error in between it may have happened
    /// or not, and the stream has ended.
    pub fn split(&self, shard: &ShardId, at: HashKey) -> Result<[ShardId; 2], ReshardError> {
        let parent = self.open_shard(shard)?;
        let HashRange { from, through } = parent.shard.range;
        if at <= from || at > through {
            return Err(ReshardError::OutsideRange { shard: shard.clone() });
        }
        let (lower, upper) = (HashRange { from, through: HashKey(at.0 - 1) }, HashRange { from: at, through });
        let made = self.reshard(&[parent], &[lower, upper])?;
        Ok([made[0].clone(), made[1].clone()])
    }

    /// Closes two shards whose keys are neighbours, in either order, and gives them to one child.
    pub fn merge(&self, one: &ShardId, other: &ShardId) -> Result<ShardId, ReshardError> {
        let mut parents = [self.open_shard(one)?, self.open_shard(other)?];
        parents.sort_by_key(|parent| parent.shard.range.from);
        let [lower, upper] = [parents[0].shard.range, parents[1].shard.range];
        if lower.through.0.checked_add(1) != Some(upper.from.0) {
            return Err(ReshardError::NotAdjacent { one: one.clone(), other: other.clone() });
        }
        let made = self.reshard(&parents, &[HashRange { from: lower.from, through: upper.through }])?;
        Ok(made[0].clone())
    }

    fn open_shard(&self, id: &ShardId) -> Result<Log<D>, ReshardError> {
        let log = self.shard(id).map_err(|_| ReshardError::NoSuchShard(id.clone()))?;
        if log.view().closed { Err(ReshardError::Closed(id.clone())) } else { Ok(log) }
    }

    fn reshard(&self, parents: &[Log<D>], ranges: &[HashRange]) -> Result<Vec<ShardId>, ReshardError> {
        // One at a time: held until the end.
        let mut metadata = self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = self.0.shards();
        if let Some(closed) = parents.iter().find(|parent| parent.view().closed) {
            return Err(ReshardError::Closed(closed.shard.id.clone()));
        }
        if let Some(why) = self.ended() {
            return Err(ReshardError::Ended(why));
        }
        if shards.open.len() + ranges.len() - parents.len() > SHARDS_MAX {
            return Err(ReshardError::TooMany);
        }
        let mut next = metadata.clone();
        let entries = plan(&mut next, parents, ranges);
        let children = self.make(&next, &entries).map_err(ReshardError::Making)?;
        let failed = |source| ReshardError::Io { file: self.0.disk.describe(metadata::PATH), source };
        next.stage(&self.0.disk).map_err(failed)?;
        let held: Vec<_> = parents.iter().map(|parent| parent.hold()).collect();
        if let Some(why) = self.ended() {
            return Err(ReshardError::Ended(why));
        }
        let is_synced = !self.0.options.switches().breaks(super::Sabotage::ReshardNotSynced);
        let replaced = Metadata::replace(&self.0.disk, is_synced).and_then(|()| self.start(&children));
        if let Err(source) = replaced {
            // Nobody knows whether the parents are closed on the disk: neither they nor the children may take another record.
            let why = format!("replacing the metadata failed ({source}): open the stream again; end this process");
            shards.all.iter().for_each(|log| log.end(&why));
            children.iter().for_each(|child| child.close());
            return Err(failed(source));
        }
        *metadata = next;
        // First the children: who finds its shard closed looks for the owner again.
        self.0.set_shards(Shards::of(shards.all.iter().chain(&children).cloned().collect(), parents));
        parents.iter().for_each(|parent| parent.close_for_good());
        drop(held);
        Ok(children.iter().map(|child| child.shard.id.clone()).collect())
    }

    fn start(&self, children: &[Log<D>]) -> io::Result<()> {
        for child in children.iter().filter(|_| !self.0.inline) {
            let thread = committer::start(child.clone())?;
            self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(())
    }

    /// The children's files, and their logs, which nobody knows yet.
    fn make(&self, next: &Metadata, entries: &[ShardEntry]) -> Result<Vec<Log<D>>, OpenError> {
        let Self(opened) = self;
        let mut children = vec![];
        for entry in entries {
            let id = entry.id();
            let failed = |source| OpenError::Io { what: "made", file: opened.disk.describe(id.as_str()), source };
            making::make_shard(&opened.disk, next, entry.number, &opened.options).map_err(failed)?;
            let expected = Expected::of(&opened.disk, &id, entry, next.log_id, &opened.options);
            let (shard, found) = (entry.shard(), expected.recover()?);
            let (epoch, time) = (next.epoch, opened.time.clone());
            let log = ShardLog::new(&opened.disk, shard, found, epoch, next.log_id, &opened.options, time);
            children.push(Arc::new(log));
        }
        Ok(children)
    }
}

/// Changes the metadata to what it is to be; returns the children's entries.
fn plan<D: Disk>(next: &mut Metadata, parents: &[Log<D>], ranges: &[HashRange]) -> Vec<ShardEntry> {
    let is_parent = |entry: &ShardEntry| parents.iter().any(|parent| parent.shard.id == entry.id());
    let numbers = next.shards.iter().filter(|entry| is_parent(entry)).map(|entry| entry.number).collect();
    next.shards.iter_mut().filter(|entry| is_parent(entry)).for_each(|entry| entry.closed = true);
    next.epoch += 1;
    let first = next.shards.iter().map(|entry| entry.number + 1).max().unwrap_or(0);
    let numbers: Vec<u64> = numbers;
    let entries = (first..).zip(ranges).map(|(number, range)| ShardEntry::new(number, *range, numbers.clone()));
    let entries: Vec<ShardEntry> = entries.collect();
    next.shards.extend(entries.iter().cloned());
    entries
}
