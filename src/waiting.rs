//! Waiting until what is durable can be read. Decides when that is so, and when it never will be: the consumer has stopped.

use std::{sync::atomic::Ordering, time::Duration};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{Appended, ReadError, Stream},
};
use processor::{replay::bytes_before, tick::Tick};

use crate::{
    System,
    local::tips,
    workers::{Workers, held, places},
};

/// How often who waits for rows looks.
const ROWS_LOOK: Duration = Duration::from_millis(5);
/// How long at most without looking whether the consumer is still there.
const CONSUMER_LOOK: Duration = Duration::from_secs(60);

/// Who waits for all that is durable gives up when no resume point has moved for so long.
const STILL_MAX: Duration = Duration::from_secs(180);
/// Shards that are split while they are marked are marked again, so often.
const MARKS_MAX: u32 = 3;

/// Where a tick stands on each shard.
fn marks(tick: Tick) -> Vec<(ShardId, SequenceNumber)> {
    tick.appended.into_iter().map(|Appended { shard, sequence }| (shard, sequence)).collect()
}

/// Somebody waits, until this is dropped: workers that have caught up commit at once, and others' are asked to.
struct Waiting<'a>(&'a Workers);

impl<'a> Waiting<'a> {
    fn new(workers: &'a Workers, through: &[(ShardId, SequenceNumber)]) -> Self {
        let mut awaited = held(&workers.awaited);
        for (shard, through) in through {
            let most = awaited.entry(shard.clone()).or_default();
            *most = (*through).max(*most);
        }
        workers.waiters.fetch_add(1, Ordering::SeqCst);
        Self(workers)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut awaited = held(&self.0.awaited);
        if self.0.waiters.fetch_sub(1, Ordering::SeqCst) == 1 {
            awaited.clear();
        }
    }
}

impl System {
    /// Waits until what a crash left on the stream can be read, however long it takes; an answer before then would lack lines that are durable.
    /// Ends early if the consumer stops.
    pub async fn recovered(&self) {
        let Some(own) = &self.own else { return };
        while !self.readable(&own.found, CONSUMER_LOOK).await && self.ledger().why_stopped().is_none() {}
    }

    /// Bytes of the stream that are in no rows yet, of those that `recovered` waits for.
    pub fn recovering_bytes(&self) -> u64 {
        let Some(own) = &self.own else { return 0 };
        let applied = self.ledger().applied_through();
        let behind = |(shard, tip): &(ShardId, SequenceNumber)| {
            let resumed = own.resumed.get(shard).copied().unwrap_or_default();
            let by_workers = applied.iter().find(|(of, _)| of == shard).map_or(SequenceNumber::ZERO, |(_, at)| *at);
            // What has ended is folded, wherever its generation began.
            let done = if resumed.ended { *tip } else { resumed.through.max(by_workers) };
            bytes_before(*tip).saturating_sub(bytes_before(done))
        };
        own.found.iter().map(behind).sum()
    }

    /// Waits until all that is durable now can be read. False: not within `wait`, or the consumer has stopped.
    pub async fn caught_up(&self, wait: Duration) -> Result<bool, ReadError> {
        let deadline = tokio::time::Instant::now() + wait;
        let durable = self.durable().await?;
        Ok(self.readable(&durable, deadline.saturating_duration_since(tokio::time::Instant::now())).await)
    }

    /// Waits until a tick can be read on every shard that it was for. Where there are others by now, that is all that is durable. False: as `caught_up`.
    pub(crate) async fn has_ticked(&self, tick: Tick, wait: Duration) -> Result<bool, ReadError> {
        let marks = marks(tick);
        if self.is_local() || !self.are_marked(&marks).await? {
            return self.caught_up(wait).await;
        }
        Ok(self.readable(&marks, wait).await)
    }

    /// Every open shard has a mark.
    async fn are_marked(&self, marks: &[(ShardId, SequenceNumber)]) -> Result<bool, ReadError> {
        let mut open = self.stream.shards().await?.into_iter().filter(|shard| !shard.closed);
        Ok(open.all(|shard| marks.iter().any(|(of, _)| *of == shard.id)))
    }

    /// Waits until all that is durable now is folded, however long that takes. Ends with an error if nothing of it has moved for `STILL_MAX`.
    pub(crate) async fn settle(&self) -> Result<(), ReadError> {
        let durable = self.durable().await?;
        loop {
            let before = self.ledger().applied_through();
            if self.readable(&durable, STILL_MAX).await {
                return Ok(());
            }
            let why = match (self.why_stopped(), self.workers.said()) {
                (Some(why), _) | (None, Err(why)) => why,
                (None, Ok(_)) => "no worker has gone on".to_owned(),
            };
            if self.why_stopped().is_some() || before == self.ledger().applied_through() {
                return Err(ReadError::Unavailable(format!("what is durable could not be folded first: {why}")));
            }
        }
    }

    /// A position on each shard up to which all that is durable now has to be read. Kinesis does not tell where its shards end: what is appended
    /// now stands behind all that is there, so that is a tick on each. A shard that is closed needs none: those that took its keys have no worker
    /// before it is folded to its end.
    async fn durable(&self) -> Result<Vec<(ShardId, SequenceNumber)>, ReadError> {
        let shards = self.stream.shards().await?;
        if let Some(stream) = self.stream.local() {
            return tips(stream, &places(&shards)).map_err(|error| *error);
        }
        let mut marks = vec![];
        for _ in 0..MARKS_MAX {
            let tick = self.ticker.tick(&*self.stream, &*self.store).await;
            let tick = tick.map_err(|error| ReadError::Unavailable(error.to_string()))?;
            marks = self::marks(tick);
            // Where a shard was split in between, only one of the two has it.
            if self.are_marked(&marks).await? {
                return Ok(marks);
            }
        }
        Ok(marks)
    }

    async fn readable(&self, through: &[(ShardId, SequenceNumber)], wait: Duration) -> bool {
        let _waiting = Waiting::new(&self.workers, through);
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let applied = self.ledger().applied_through();
            let is_applied = |(shard, tip): &(ShardId, SequenceNumber)| {
                *tip == SequenceNumber::ZERO || applied.iter().any(|(of, at)| of == shard && at >= tip)
            };
            if through.iter().all(is_applied) {
                return true;
            }
            if self.ledger().why_stopped().is_some() || tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(ROWS_LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{num::NonZeroU16, path::Path};

    use api::operator::{Operator, Reshard};

    use super::*;
    use crate::Options;

    async fn open(folder: &Path) -> System {
        System::open(folder, Options { shards: NonZeroU16::new(1), ..Options::default() }).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn shards_that_were_split_and_folded_are_behind_by_nothing_as_soon_as_the_folder_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let system = open(folder.path()).await;
        assert_eq!(system.recovering_bytes(), 0, "a new one");
        system.tick().await.unwrap();
        let first = system.stream.shards().await.unwrap()[0].id.clone();
        Operator::reshard(&system, Reshard::Split(first)).await.unwrap();
        assert!(system.caught_up(CONSUMER_LOOK).await.unwrap());
        // Each child has a record that stands behind another.
        system.tick().await.unwrap();
        system.tick().await.unwrap();
        assert!(system.caught_up(CONSUMER_LOOK).await.unwrap());
        assert_eq!(system.close(), None);
        let system = open(folder.path()).await;
        let found = &system.own.as_ref().unwrap().found;
        assert!(found.len() == 3 && found.iter().all(|(_, tip)| bytes_before(*tip) > 0), "{found:?}");
        assert_eq!(system.recovering_bytes(), 0);
        system.recovered().await;
        assert_eq!(system.close(), None);
    }
}
