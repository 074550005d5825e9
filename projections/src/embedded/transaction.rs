//! What happens inside a write transaction: rows by their condition, then a resume point by its own. It commits nothing.

use std::{collections::HashSet, ops::Bound};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    file::{CHECKPOINTS, PARTS, ROWS},
    format,
    writer::Trouble,
};
use crate::store::{Checkpoint, Day, Generation, PartName, RowKey, Written, key};

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// A row as it is to stand, and its place among the rows that were offered.
pub(super) struct Offered {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) applied_through: SequenceNumber,
    pub(super) place: usize,
}

/// Writes rows that are sorted by key. New ones that are neighbours go in through one descent of the tree.
pub(super) fn put_rows(transaction: &WriteTransaction, offered: &[Offered]) -> Result<Vec<Written>, Trouble> {
    let mut table = transaction.open_table(ROWS)?;
    let mut written = vec![Written::Stored; offered.len()];
    let mut next = 0;
    while let Some(first) = offered.get(next) {
        let standing = match table.get(first.key.as_slice())? {
            Some(value) => Some(header(&first.key, value.value())?.applied_through),
            None => None,
        };
        match standing {
            Some(standing) if standing >= first.applied_through => {
                written[first.place] = Written::Lost(standing);
                next += 1;
            }
            Some(_) => {
                table.insert(first.key.as_slice(), first.value.as_slice())?;
                next += 1;
            }
            None => next += insert_neighbours(&mut table, &offered[next..])?,
        }
    }
    Ok(written)
}

/// Inserts the first row and those after it that come before the next row that stands; returns how many.
fn insert_neighbours(table: &mut Rows<'_>, offered: &[Offered]) -> Result<usize, Trouble> {
    let Some(first) = offered.first() else { return Ok(0) };
    let mut cursor = table.lower_bound_mut(Bound::Included(first.key.as_slice()))?;
    let end = cursor.peek_next()?.map(|(key, _)| key.value().to_vec());
    let mut count = 0;
    while let Some(next) = offered.get(count)
        && end.as_ref().is_none_or(|end| next.key < *end)
        // The same row twice: the second meets the first as one that stands.
        && (count == 0 || offered[count - 1].key < next.key)
    {
        cursor.insert_before(next.key.as_slice(), next.value.as_slice())?;
        count += 1;
    }
    cursor.close()?;
    Ok(count)
}

fn header(key: &[u8], value: &[u8]) -> Result<format::Header, Trouble> {
    match format::read_row(key, value) {
        Some((header, _)) => Ok(header),
        None => {
            let row = key::decode(key).map_or_else(|| format!("the row {key:x?}"), |key| key.to_string());
            Err(Trouble::Refused(format!("what stands in place of {row} is damaged")))
        }
    }
}

/// Moves a resume point, with its parts; `Err`: the position of the one that stands instead.
pub(super) fn move_checkpoint(
    transaction: &WriteTransaction,
    checkpoint: &Checkpoint,
    new_parts: &[(PartName, Bytes)],
) -> Result<Result<(), SequenceNumber>, Trouble> {
    let at = checkpoint_key(checkpoint.generation, &checkpoint.shard);
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let standing = match checkpoints.get(at.as_slice())? {
        Some(value) => Some(format::read_checkpoint(&at, value.value()).ok_or_else(|| {
            Trouble::Refused(format!(
                "the resume point of {} in generation {} is damaged",
                checkpoint.shard, checkpoint.generation.0
            ))
        })?),
        None => None,
    };
    if let Some(standing) = &standing
        && (standing.position, standing.ended) >= (checkpoint.position, checkpoint.ended)
    {
        return Ok(Err(standing.position));
    }
    let mut known: HashSet<&PartName> = standing.iter().flat_map(|standing| &standing.parts).collect();
    known.extend(new_parts.iter().map(|(name, _)| name));
    // Another worker's resume point has dropped what this one only refers to.
    if !checkpoint.parts.iter().all(|name| known.contains(name)) {
        return Ok(Err(standing.map_or(SequenceNumber::ZERO, |standing| standing.position)));
    }
    let named: HashSet<&PartName> = checkpoint.parts.iter().collect();
    let mut parts = transaction.open_table(PARTS)?;
    for name in standing.iter().flat_map(|standing| &standing.parts).filter(|name| !named.contains(name)) {
        parts.remove(part_key(&at, name).as_slice())?;
    }
    for (name, body) in new_parts.iter().filter(|(name, _)| named.contains(name)) {
        let key = part_key(&at, name);
        parts.insert(key.as_slice(), format::part(&key, body).as_slice())?;
    }
    checkpoints.insert(at.as_slice(), format::checkpoint(&at, checkpoint).as_slice())?;
    Ok(Ok(()))
}

pub(super) fn checkpoint_key(generation: Generation, shard: &ShardId) -> Vec<u8> {
    [generation.0.to_be_bytes().as_slice(), shard.as_str().as_bytes(), &[0]].concat()
}

pub(super) fn part_key(checkpoint: &[u8], PartName(name): &PartName) -> Vec<u8> {
    [checkpoint, name.as_bytes()].concat()
}

/// Removes those of these rows that are still of a day before `before`: a commit may have replaced some since they were looked at. Returns how
/// many.
pub(super) fn expire(transaction: &WriteTransaction, keys: &[RowKey], before: Day) -> Result<u64, Trouble> {
    let mut table = transaction.open_table(ROWS)?;
    let mut removed = 0;
    for key in keys {
        let bytes = key::encode(key).map_err(|error| Trouble::Refused(error.to_string()))?;
        let is_past = match table.get(bytes.as_slice())? {
            Some(value) => header(&bytes, value.value())?.folded_on < before,
            None => false,
        };
        if is_past {
            table.remove(bytes.as_slice())?;
            removed += 1;
        }
    }
    Ok(removed)
}
