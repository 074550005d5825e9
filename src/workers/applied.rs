//! How far shards can be read, as the rows say, whichever process folded them. Decides which generations' resume points tell.
//!
//! Of the generations that count now or did once, the one that is furthest has counted up to there: whatever does not count goes no further than what
//! does. So who asks need not know at which record of each shard one took over from the other.

use events::position::{SequenceNumber, ShardId};
use projections::{
    generations::Record,
    store::{Generation, ReadError, Store},
};

use super::Workers;

/// How far a shard is folded and can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Applied {
    /// Up to and including this position.
    pub(crate) through: SequenceNumber,
    /// It is closed, and that is its end.
    pub(crate) ended: bool,
}

impl Applied {
    /// True if there is as much here as there.
    pub(crate) fn reaches(self, other: Self) -> bool {
        self.ended || (!other.ended && self.through >= other.through)
    }
}

/// Those that count or did once, and are folded still.
fn counted(record: &Record) -> impl Iterator<Item = Generation> {
    let was = |of: &Generation| record.promotions.iter().any(|promotion| promotion.generation == of.0);
    record.folded().into_iter().filter(move |of| *of == Generation::default() || was(of))
}

impl Workers {
    /// How far one generation is with a shard.
    pub(crate) async fn applied_in(&self, generation: Generation, shard: &ShardId) -> Result<Applied, ReadError> {
        let point = self.store.resume_point(generation, shard).await?;
        Ok(point.map_or(Applied::default(), |point| Applied { through: point.position, ended: point.ended }))
    }

    /// How far whatever counts is with a shard.
    pub(crate) async fn applied(&self, shard: &ShardId) -> Result<Applied, ReadError> {
        Ok(self.applied_beside(None, shard).await?.unwrap_or_default())
    }

    /// The same without one that is asked for another's sake; `None`: there is no other.
    pub(crate) async fn applied_beside(
        &self,
        own: Option<Generation>,
        shard: &ShardId,
    ) -> Result<Option<Applied>, ReadError> {
        let mut most: Option<Applied> = None;
        for generation in counted(&self.record()).filter(|of| Some(*of) != own) {
            most = most.max(Some(self.applied_in(generation, shard).await?));
        }
        Ok(most)
    }
}
