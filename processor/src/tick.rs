//! The ticker: one `Ticked` to every open shard, so that a minute passes even in silence. Decides nothing: a second ticker, or one with a wrong
//! clock, changes nothing, because the fold's time is the stream's own stamp.

use events::{
    event::{Event, OpenShard, Ticked},
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

/// So often, at most, the shards are listed for one tick; where they split faster than that, the next tick makes up for it.
const LISTED_MAX: usize = 4;

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

/// Appends one tick to every open shard. Where one was taken by a shard that it does not list, the list was older than a split or merge, and to that shard
/// it is none: then once more, with a newer list. Those that have met this minute do not heed the second.
pub async fn tick<S: Stream, T: Store>(stream: &S, store: &T, generation: Generation) -> Result<Tick, TickError> {
    let failed = |error: &dyn std::fmt::Display| TickError(error.to_string());
    let definitions = drive::newest_revision(store, generation).await.map_err(|error| failed(&error))?;
    let mut tick = Tick { definitions, appended: vec![] };
    for _ in 0..LISTED_MAX {
        let shards = stream.shards().await.map_err(|error| failed(&error))?;
        let open = shards.into_iter().filter(|shard| !shard.closed);
        let open: Vec<OpenShard> = open.map(|shard| OpenShard { shard: shard.id, range: shard.range }).collect();
        let ticked = Ticked { definitions, open_shards: open.clone(), fold_revision: FOLD_REVISION };
        let put = |open: &OpenShard| system_event(open.range.from, Event::Ticked(ticked.clone()));
        let appended = append_all(stream, open.iter().map(put).collect()).await.map_err(|error| failed(&error))?;
        let is_listed = |taken: &Appended| open.iter().any(|open| open.shard == taken.shard);
        let are_listed = appended.iter().all(is_listed);
        tick.appended.extend(appended);
        if are_listed {
            break;
        }
    }
    Ok(tick)
}
