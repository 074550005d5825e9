//! The ticker: one `Ticked` to every open shard, so that a minute passes even in silence. Decides nothing: a second ticker, or one with a wrong
//! clock, changes nothing, because the fold's time is the stream's own stamp.

use events::{
    event::{Event, Ticked},
    position::SequenceNumber,
    stream::{Appended, Stream},
};
use projections::{
    fold::FOLD_REVISION,
    store::{Generation, Store},
};

use crate::{
    append::{append_all, system_event},
    drive,
};

/// A tick could not be made or appended; the next one makes up for it.
#[derive(Debug, thiserror::Error)]
#[error("the tick could not be appended: {0}")]
pub struct TickError(String);

/// A tick that was appended.
#[derive(Debug, Clone)]
pub struct Tick {
    /// The revision of definitions that it names.
    pub definitions: SequenceNumber,
    /// Where it stands: at least once on every shard that was open.
    pub appended: Vec<Appended>,
}

/// Appends one tick to every open shard.
pub async fn tick<S: Stream, T: Store>(stream: &S, store: &T, generation: Generation) -> Result<Tick, TickError> {
    let failed = |error: &dyn std::fmt::Display| TickError(error.to_string());
    let definitions = drive::newest_revision(store, generation).await.map_err(|error| failed(&error))?;
    let shards = stream.shards().await.map_err(|error| failed(&error))?;
    let open: Vec<_> = shards.into_iter().filter(|shard| !shard.closed).collect();
    let ticked = Ticked {
        definitions,
        open_shards: open.iter().map(|shard| shard.id.clone()).collect(),
        fold_revision: FOLD_REVISION,
    };
    let puts = open.iter().map(|shard| system_event(shard.range.from, Event::Ticked(ticked.clone()))).collect();
    let appended = append_all(stream, puts).await.map_err(|error| failed(&error))?;
    Ok(Tick { definitions, appended })
}
