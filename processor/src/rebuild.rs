//! Rows made anew from the stream: those that another revision of the fold made, beside the old ones, and those that are gone. Decides what of old
//! rows stays: what holds records that the stream no longer has.

use std::sync::Arc;

use events::{
    event::Event,
    position::{HashKey, SequenceNumber},
    stream::{ReadOnly, Stream},
};
use projections::{
    fold::{FOLD_REVISION, Place},
    store::{Checkpoint, Commit, Generation, Kind, Row, Store},
};

use crate::{
    consume::ConsumeError,
    replay::{Progress, Replay, ReplayError, ResumePoints, kept::Brought, resume_points},
};

/// Folds every shard up to where the rows of `old` stand into `new`, an empty store; a worker goes on from there. Effects up to there were
/// carried out when the old rows were made, and none is carried out again. `progress` hears how much is done.
pub async fn rebuild<S: Stream, T: Store, R: Store>(
    stream: ReadOnly<S>,
    old: &T,
    new: Arc<R>,
    places: Vec<Place>,
    progress: impl Fn(Progress),
) -> Result<(), ReplayError> {
    let generation = places.first().map_or(Generation::default(), |place| place.generation);
    let shards: Vec<_> = places.iter().map(|place| place.shard.clone()).collect();
    let until = resume_points(old, generation, &shards).await?;
    let mut replay = Replay::open(stream.clone(), new.clone(), places, &until).await?;
    let brought = Brought::read(&stream, old, generation, replay.oldest()).await?;
    replay.give(old, &Kind::ALL, |row, first| kept(&brought, row, first)).await?;
    replay.give_ends(old).await?;
    replay.through(&until, &progress).await?;
    for (shard, oldest) in replay.oldest() {
        if *oldest == SequenceNumber::MAX
            && let Some((checkpoint, parts)) = old.checkpoint(generation, shard).await?
        {
            // Nothing of the shard can be folded again: its state goes on as it was.
            let checkpoint = Checkpoint { fold_revision: FOLD_REVISION, ..checkpoint };
            let parts = checkpoint.parts.iter().cloned().zip(parts).collect();
            let source = new.commit(Commit { rows: vec![], parts, checkpoint }).await;
            source.map_err(|source| ConsumeError::Write { shard: shard.clone(), source })?;
        }
    }
    Ok(())
}

/// Folds every shard up to `until`, its end, into `new`, an empty store, where no rows are left. Returns what is still to be appended: what a shard
/// said to another, and a crash kept from the stream.
///
/// A live worker could not do this: it would take an empty store for one without definitions, and say again all that was ever said.
pub async fn restore<S: Stream, R: Store>(
    stream: ReadOnly<S>,
    new: Arc<R>,
    places: Vec<Place>,
    until: &ResumePoints,
    progress: impl Fn(Progress),
) -> Result<Vec<(HashKey, Event)>, ReplayError> {
    let mut replay = Replay::open(stream, new, places, until).await?;
    replay.through(until, &progress).await?;
    Ok(replay.unheard())
}

/// What stays of a row: one that holds records from before `first` cannot be made anew, and what later records add to it comes on top.
fn kept(brought: &Brought, row: Row, first: SequenceNumber) -> Option<Row> {
    match row.key.subject.kind {
        Kind::Taken | Kind::Producer | Kind::Identified | Kind::Definition => brought.before(row, first),
        _ => (row.applied_from < first).then_some(row),
    }
}
