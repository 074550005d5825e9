//! One record through the fold: reads what it names, folds, reads what it opened. Decides nothing; the only place where fold and store meet.

use events::position::{SequenceNumber, ShardId};
use projections::{
    definitions::Definition,
    fold::{
        Folded, Input, Shard, Stop,
        sabotage::{self, Sabotage},
    },
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store},
};

/// Rows of one page of a scan.
pub(crate) const SCAN_ROWS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1_000).unwrap();

/// A record could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The fold stops here.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// What the fold needs could not be read, perhaps after the record was folded: the state must be thrown away.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored definition cannot be read.
    #[error("the definition in row {0} cannot be decoded")]
    BadDefinition(String),
}

/// Reads the definitions that a tenant-wide scan finds, in the order of their revisions.
pub async fn definitions<T: Store>(store: &T, generation: Generation) -> Result<Vec<Definition>, DriveError> {
    Ok(scan(store, generation).await?.into_iter().map(|(_, definition)| definition).collect())
}

async fn scan<T: Store>(store: &T, generation: Generation) -> Result<Vec<(ShardId, Definition)>, DriveError> {
    let span = Span::All { tenant: None, generation, kind: Kind::Definition };
    let mut found = vec![];
    let mut after: Option<RowKey> = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        for row in page.rows {
            let definition =
                Definition::decode(&row.body).map_err(|_| DriveError::BadDefinition(row.key.subject.name.clone()))?;
            found.push((row.key.shard, definition));
        }
        match page.next_after {
            Some(key) => after = Some(key),
            None => break,
        }
    }
    found.sort_by_key(|(_, definition)| definition.revision);
    Ok(found)
}

/// The highest revision that can be read back with all that came before it: what a tick, an API write or a batch may name.
///
/// A store that writes row by row may hold a definition and not the one before it; up to the resume point it holds all.
pub async fn newest_revision<T: Store>(store: &T, generation: Generation) -> Result<SequenceNumber, DriveError> {
    let mut found = scan(store, generation).await?;
    let Some(control) = found.last().map(|(shard, _)| shard.clone()) else { return Ok(SequenceNumber::ZERO) };
    let checkpoint = store.checkpoint(generation, &control).await?;
    let durable = checkpoint.map_or(SequenceNumber::ZERO, |(checkpoint, _)| checkpoint.position);
    found.retain(|(shard, definition)| *shard != control || definition.revision <= durable);
    Ok(found.last().map_or(SequenceNumber::ZERO, |(_, definition)| definition.revision))
}

async fn read<T: Store>(store: &T, keys: Vec<RowKey>) -> Result<Vec<Option<Row>>, ReadError> {
    if keys.is_empty() { Ok(vec![]) } else { store.read(&keys).await }
}

/// Folds a record that was decoded.
pub async fn fold<T: Store>(
    shard: &mut Shard,
    store: &T,
    generation: Generation,
    input: &Input,
) -> Result<Folded, DriveError> {
    let mut wanted = shard.wants_definitions(input);
    if sabotage::breaks(Sabotage::StoreDefinitionsUsed) {
        wanted = Some(newest_revision(store, generation).await?);
    }
    if let Some(revision) = wanted {
        let all = definitions(store, generation).await?;
        shard.define(input, revision, &all);
    }
    let marks = read(store, shard.wants(input)).await?;
    let folded = shard.fold(input, marks)?;
    let stored = read(store, shard.unmet()).await?;
    shard.meet(stored)?;
    Ok(folded)
}
