//! What a shard waits for that other shards of its generation have to fold first, looked for in the rows. Decides nothing: whichever process folded it,
//! and whether it is still there, what can be waited for is what was committed.

use std::collections::BTreeMap;

use events::{
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
};
use projections::{
    fold::{Place, snapshot},
    store::Store,
};

use super::{Follower, defined};
use crate::consume::ConsumeError;

/// Up to where the definitions of a shard's generation can be read. What the control shard has gone past is readable, or nowhere any more. `starts`: the
/// first record of each shard that the generation holds.
pub async fn readable<T: Store>(
    store: &T,
    place: &Place,
    starts: &BTreeMap<ShardId, SequenceNumber>,
) -> Result<SequenceNumber, ConsumeError> {
    let failed = |source| ConsumeError::Drive { shard: place.shard.clone(), source };
    let newest = defined(store, place.generation, starts).await.map_err(failed)?;
    let control = store.resume_point(place.generation, place.owner(HashKey::of(CONTROL_KEY))).await;
    let control = control.map_err(|error| failed(error.into()))?;
    Ok(newest.max(control.map_or(SequenceNumber::ZERO, |point| point.position)))
}

/// The word that the next record needs, if its source has committed it: it stands in the source's resume point until the shard has heard it.
pub async fn hear<T: Store>(follower: &mut Follower, store: &T, place: &Place) -> Result<(), ConsumeError> {
    let Some(source) = follower.wants().cloned() else { return Ok(()) };
    let stored = store.checkpoint(place.generation, &source).await;
    let stored = stored.map_err(|source| ConsumeError::Checkpoint { shard: place.shard.clone(), source })?;
    let kept = stored.map_or(vec![], |(_, parts)| snapshot::kept_beside(&parts));
    follower.hear(&kept).map_err(|why| ConsumeError::Kept { shard: place.shard.clone(), why })
}
