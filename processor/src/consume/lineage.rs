//! Where a shard without a resume point begins: at nothing, or where its parents ended. Decides whether it may; parents come before children.

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use projections::{
    fold::{
        FOLD_REVISION, Place, Shard,
        sabotage::{self, Sabotage},
        snapshot,
    },
    store::Store,
};

use super::ConsumeError;

/// What a shard begins with.
pub(super) struct Begun {
    pub shard: Shard,
    /// Parents that are gone and were not folded to their end, and how far they were.
    pub lost: Vec<(ShardId, SequenceNumber)>,
    /// What the parents' resume points hold beside the fold.
    pub kept: Vec<Vec<u8>>,
}

/// The state before the first record. A parent that the stream does not list any more can never be read to its end: what its resume point holds is taken,
/// and what came after is lost, as with every record that retention has removed. That is told: `Begun::lost`.
pub(super) async fn begin<S: Stream, T: Store>(
    stream: &ReadOnly<S>,
    store: &T,
    place: Place,
) -> Result<Begun, ConsumeError> {
    let of = |shard: &ShardId| shard.clone();
    let listed = stream.shards().await;
    let listed = listed.map_err(|source| ConsumeError::Stream { shard: of(&place.shard), source })?;
    let own = listed.iter().find(|shard| shard.id == place.shard);
    let (mut parents, mut lost) = (vec![], vec![]);
    for parent in own.map_or(&[][..], |shard| &shard.parents) {
        let stored = store.checkpoint(place.generation, parent).await;
        let stored = stored.map_err(|source| ConsumeError::Checkpoint { shard: of(parent), source })?;
        let is_listed = listed.iter().any(|shard| shard.id == *parent);
        let has_ended = stored.as_ref().is_some_and(|(checkpoint, _)| checkpoint.ended);
        if is_listed && !has_ended && !sabotage::breaks(Sabotage::ChildBeforeParent) {
            return Err(ConsumeError::NotYet { shard: place.shard.clone(), parent: of(parent) });
        }
        if !is_listed && !has_ended {
            let position = stored.as_ref().map_or(SequenceNumber::ZERO, |(checkpoint, _)| checkpoint.position);
            lost.push((of(parent), position));
        }
        let Some((checkpoint, parts)) = stored else { continue };
        if checkpoint.fold_revision != FOLD_REVISION {
            return Err(ConsumeError::Revision { shard: of(parent), stored: checkpoint.fold_revision });
        }
        parents.push((of(parent), parts));
    }
    let Some(range) = own.map(|own| own.range).filter(|_| !parents.is_empty()) else {
        return Ok(Begun { shard: Shard::new(place), lost, kept: vec![] });
    };
    let kept = parents.iter().map(|(_, parts)| snapshot::kept_beside(parts)).collect();
    let shard = place.shard.clone();
    let shard = Shard::inherit(place, range, &parents).map_err(|source| ConsumeError::Snapshot { shard, source })?;
    Ok(Begun { shard, lost, kept })
}
