//! One record through the fold: reads what it names, folds, reads what it opened. Decides nothing; the only place where fold and store meet.

use std::collections::BTreeMap;

use events::position::{SequenceNumber, ShardId};
use projections::{
    definitions::{self, Definition},
    fold::{
        Folded, Input, Shard, Stop,
        sabotage::{self, Sabotage},
    },
    generations::Live,
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

/// Reads every definition that was ever applied, in the order of their revisions.
pub async fn definitions<T: Store>(store: &T, generation: Generation) -> Result<Vec<Definition>, DriveError> {
    let mut found = vec![];
    each(store, generation, |row| {
        found.push(decode(row)?);
        Ok(())
    })
    .await?;
    found.sort_by_key(|definition: &Definition| definition.revision);
    Ok(found)
}

/// Those in force at a revision: no more is held, however often one was applied.
async fn in_force<T: Store>(
    store: &T,
    generation: Generation,
    revision: SequenceNumber,
) -> Result<Vec<Definition>, DriveError> {
    let through = if sabotage::breaks(Sabotage::LaterDefinitionsUsed) { SequenceNumber::MAX } else { revision };
    let mut newest = BTreeMap::new();
    each(store, generation, |row| {
        // Of each tenant they come in the order of their revisions, which are their names.
        let definition = decode(row)?;
        if definition.revision <= through {
            definitions::supersede(&mut newest, definition);
        }
        Ok(())
    })
    .await?;
    Ok(newest.into_values().collect())
}

fn decode(row: &Row) -> Result<Definition, DriveError> {
    Definition::decode(&row.body).map_err(|_| DriveError::BadDefinition(row.key.subject.name.clone()))
}

async fn each<T: Store>(
    store: &T,
    generation: Generation,
    mut visit: impl FnMut(&Row) -> Result<(), DriveError>,
) -> Result<(), DriveError> {
    let span = Span::All { tenant: None, generation, kind: Kind::Definition };
    let mut after: Option<RowKey> = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        page.rows.iter().try_for_each(&mut visit)?;
        match page.next_after {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// The highest revision that can be read back with all that came before it: what a tick, an API write or a batch may name.
///
/// A store that writes row by row may hold a definition and not the one before it; up to the resume point it holds all.
pub async fn newest_revision<T: Store>(store: &T, generation: Generation) -> Result<SequenceNumber, DriveError> {
    // Their rows' positions are their revisions: no body is read, and none is held.
    let mut found: Vec<(SequenceNumber, ShardId)> = vec![];
    each(store, generation, |row| {
        found.push((row.applied_through, row.key.shard.clone()));
        Ok(())
    })
    .await?;
    let Some((_, control)) = found.iter().max().cloned() else { return Ok(SequenceNumber::ZERO) };
    let checkpoint = store.resume_point(generation, &control).await?;
    let durable = checkpoint.map_or(SequenceNumber::ZERO, |checkpoint| match checkpoint.ended {
        // Nothing of it is missing, also where its generation begins behind it.
        true => SequenceNumber::MAX,
        false => checkpoint.position,
    });
    let readable = found.iter().filter(|(revision, shard)| *shard != control || *revision <= durable);
    Ok(readable.map(|(revision, _)| *revision).max().unwrap_or_default())
}

/// Whether the shard's generation counts once a record that was admitted is folded, and which one does.
pub(crate) async fn acts_after<T: Store>(
    shard: &Shard,
    store: &T,
    generation: Generation,
    input: &Input,
) -> Result<(bool, Live), DriveError> {
    let Some(revision) = shard.wants_definitions(input) else { return Ok((shard.acts(), shard.live())) };
    let live = Live::of(&in_force(store, generation, revision).await?);
    Ok((live.generation == generation, live))
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
        let all = in_force(store, generation, revision).await?;
        shard.define(input, revision, &all);
    }
    let marks = read(store, shard.wants(input)).await?;
    let folded = shard.fold(input, marks)?;
    let stored = read(store, shard.unmet()).await?;
    shard.meet(stored)?;
    Ok(folded)
}
