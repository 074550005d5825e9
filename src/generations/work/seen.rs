//! One that is followed with, as its generation's supervisor sees it: which shards have a thread, and how far these are. Decides nothing of how they are
//! folded.

use std::sync::{Arc, atomic::Ordering};

use events::{position::ShardId, stream::Shard};

use super::{At, Followed, held};

impl Followed {
    /// These are the stream's shards now; returns those that have no thread yet, and are expected to have one from now on.
    pub(crate) fn expect(&self, listed: &Arc<Vec<Shard>>) -> Vec<Shard> {
        *held(&self.listed) = listed.clone();
        let mut shards = held(&self.shards);
        let is_new = |shard: &&Shard| !shards.contains_key(&shard.id);
        let new: Vec<Shard> = listed.iter().filter(is_new).cloned().collect();
        shards.extend(new.iter().map(|shard| (shard.id.clone(), At::default())));
        new
    }

    /// The shard has no thread after all.
    pub(crate) fn forget(&self, shard: &ShardId) {
        held(&self.shards).remove(shard);
    }

    /// Has all threads end once they have committed.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Every shard has been where the one that counts was.
    pub(crate) fn has_caught_up(&self) -> bool {
        let shards = held(&self.shards);
        !shards.is_empty() && shards.values().all(|at| at.has_caught_up || at.ended)
    }

    /// No shard counts.
    pub(crate) fn follows(&self) -> bool {
        let shards = held(&self.shards);
        !shards.is_empty() && shards.values().all(|at| !at.counts)
    }

    /// The time of the fold that all open shards have reached, Unix milliseconds.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        held(&self.shards).values().filter(|at| !at.ended).map(|at| at.time_ms).min()
    }

    /// Why shards are not folded at the moment.
    pub(crate) fn troubles(&self) -> Vec<String> {
        held(&self.troubles).values().cloned().collect()
    }
}
