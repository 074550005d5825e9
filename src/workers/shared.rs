//! Workers of a stream that other processes read too: what those who share it out ask and tell. Decides nothing.

use std::sync::atomic::Ordering;

use events::position::{SequenceNumber, ShardId};

use super::{Seen, Workers, held};

impl Workers {
    /// The shards that have a worker now.
    pub(crate) fn running(&self) -> Vec<ShardId> {
        let shards = held(&self.shards);
        let is_running = |seen: &Seen| !seen.is_over.load(Ordering::SeqCst);
        shards.iter().filter(|(_, seen)| is_running(seen)).map(|(shard, _)| shard.clone()).collect()
    }

    /// Has the worker of a shard end once it has committed.
    pub(crate) fn tell(&self, shard: &ShardId) {
        if let Some(seen) = held(&self.shards).get(shard) {
            seen.is_told.store(true, Ordering::SeqCst);
        }
    }

    /// Another process waits until the rows of a shard that has a worker here can be read up to a position.
    pub(crate) fn want(&self, shard: &ShardId, through: SequenceNumber) {
        if let Some(seen) = held(&self.shards).get(shard) {
            *held(&seen.wanted) = through;
        }
    }

    /// Those that a worker of this process has folded to their end; and those that are gone, of which that was said.
    pub(crate) fn ended(&self) -> Vec<(ShardId, bool)> {
        let shards = held(&self.shards);
        let ended = shards.iter().filter(|(_, seen)| seen.has_ended.load(Ordering::SeqCst));
        ended.map(|(shard, seen)| (shard.clone(), seen.is_gone.load(Ordering::SeqCst))).collect()
    }
}
