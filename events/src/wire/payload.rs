//! What a record's payload is, told apart by its first bytes, so that any producer works. Decides where one unit of the balance ends and the next
//! begins, whose it is and what identity it has; never what a line means.
//!
//! | first bytes | what it is |
//! | --- | --- |
//! | `E7 57 45 52` | a Weir batch (`wire`) |
//! | `F3 89 9A C2` | records of the Kinesis Producer Library, each a payload of its own (`aggregate`), if all of it is right |
//! | `1F 8B` | gzip, one member or several: log events of CloudWatch Logs (`subscription`), else what the text in it is |
//! | `[` | JSON: an array of objects, each read as a line; else lines |
//! | `{` | JSON: one document, several without a line end between, or lines (`document`) |
//! | other UTF-8 | lines |
//! | nothing | one blank line |
//!
//! Whatever else it is, is dead, with the bytes. `wire/format.md` says what becomes of each form.
//!
//! Invariants:
//! - It depends on the payload's bytes alone.
//! - Forms nest to a depth that is written here: aggregate, gzip, text, document. Nothing calls itself.
//! - All that one record unpacks to has at most `BODY_BYTES_MAX` bytes, and its metrics to [`VALUES_BYTES_MAX`]; what is
//!   beyond is dead, and costs no more work than what is not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read,
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{
    BODY_BYTES_MAX, DecodeError, Extent, Header,
    aggregate::{self, SubRecord},
    decode_within,
    document::Text,
    encode, is_batch,
    part::{Budget, Entries, Part, VALUES_BYTES_MAX, dead, skipped},
    strange, subscription,
};
use crate::identity::Origin;

const GZIP: [u8; 2] = [0x1F, 0x8B];

/// A part of a payload, in the order of its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Of the record in an aggregate that it is from, counted from 0; `None`: the payload is no aggregate.
    pub number: Option<u32>,
    /// What it is.
    pub part: Part,
}

/// Takes a payload apart. Never fails: what is dead is a part too.
pub fn pieces(payload: &Bytes) -> Vec<Piece> {
    let mut budget = Budget { bytes: BODY_BYTES_MAX, value_bytes: VALUES_BYTES_MAX };
    let whole = |part| Piece { number: None, part };
    if is_batch(payload) {
        // Nearly every record is this.
        return vec![whole(batch(payload, &mut budget))];
    }
    let records = match aggregate::records(payload) {
        Ok(None) => {
            let mut pieces: Vec<Piece> = parts(payload, &mut budget).into_iter().map(whole).collect();
            tell_repeated_entries(&mut pieces);
            return pieces;
        }
        Ok(Some(records)) => records,
        Err(aggregate::TooMany) => return vec![whole(dead(DecodeError::TooManyRecords, payload))],
    };
    if records.is_empty() {
        return vec![whole(skipped("blank", payload))];
    }
    let mut pieces = vec![];
    for (number, record) in records.iter().enumerate() {
        let piece = |part| Piece { number: Some(number as u32), part };
        pieces.extend(sub_record(record, &mut budget).into_iter().map(piece));
    }
    tell_repeats(&mut pieces);
    tell_repeated_entries(&mut pieces);
    pieces
}

fn sub_record(record: &SubRecord, budget: &mut Budget) -> Vec<Part> {
    if record.keys.is_none() {
        return vec![dead(DecodeError::BadIndex, &record.data)];
    }
    parts(&record.data, budget)
}

fn parts(payload: &Bytes, budget: &mut Budget) -> Vec<Part> {
    if is_batch(payload) {
        return vec![batch(payload, budget)];
    }
    let unpacked = if payload.starts_with(&GZIP) { unpack(payload, budget) } else { Ok(payload.clone()) };
    // What is dead is kept as it came.
    unpacked.and_then(|text| text_parts(&text, budget)).unwrap_or_else(|error| vec![dead(error, payload)])
}

fn text_parts(text: &Bytes, budget: &mut Budget) -> Result<Vec<Part>, DecodeError> {
    if text.is_empty() {
        return Ok(vec![skipped("blank", text)]);
    }
    match subscription::read(text, budget)? {
        Some(parts) => Ok(parts),
        None => Text::read(text, budget),
    }
}

fn batch(payload: &Bytes, budget: &mut Budget) -> Part {
    match decode_within(payload, budget.bytes) {
        Ok(batch) => {
            budget.bytes -= batch.body.len();
            Part::Batch(batch)
        }
        Err(error) => dead(error, payload),
    }
}

fn unpack(packed: &[u8], budget: &mut Budget) -> Result<Bytes, DecodeError> {
    let mut unpacked = Vec::with_capacity((4 * packed.len()).min(budget.bytes));
    // One byte further, so that what is too large shows.
    let mut reader = MultiGzDecoder::new(packed).take(budget.bytes as u64 + 1);
    let read = reader.read_to_end(&mut unpacked);
    let left = budget.bytes.checked_sub(unpacked.len());
    // What could not be used is work too: an aggregate of a thousand bombs is one bomb.
    budget.bytes = left.unwrap_or_default();
    if left.is_none() {
        return Err(DecodeError::TooLarge);
    }
    read.map_err(|error| strange("gzip", error))?;
    Ok(unpacked.into())
}

/// A mark answers for a whole record, so it cannot tell two parts of one record from each other: what is there twice is told here.
fn tell_repeats(pieces: &mut [Piece]) {
    // By tenant and origin, the extents so far, none of which overlaps another: first byte, and first after.
    let mut extents: HashMap<(String, Origin), BTreeMap<u64, u64>> = HashMap::new();
    let mut producers = HashSet::new();
    for piece in pieces {
        let Part::Batch(batch) = &piece.part else { continue };
        let Header { tenant, extent, producer, .. } = &batch.header;
        let is_whole = match (extent, producer) {
            (Some(Extent { origin, from, to }), _) if from < to => {
                let known = extents.entry((tenant.clone(), origin.clone())).or_default();
                let before = known.range(..to).next_back().filter(|(_, end)| *end > from);
                match before.map(|(begin, end)| begin <= from && to <= end) {
                    Some(is_whole) => is_whole,
                    None => {
                        known.insert(*from, *to);
                        continue;
                    }
                }
            }
            (None, Some(producer)) if !producers.insert((tenant.clone(), producer.clone())) => true,
            _ => continue,
        };
        let batch = batch.clone();
        piece.part = match is_whole {
            true => Part::Repeated(batch),
            false => Part::Dead { error: DecodeError::Overlaps, bytes: encode(&batch.header, &batch.body) },
        };
    }
}

/// The same for entries: by what sent them and the hash of their id.
fn tell_repeated_entries(pieces: &mut [Piece]) {
    let mut known: HashSet<(String, u64)> = HashSet::new();
    for piece in pieces {
        let Part::Entries(Entries { source: Some(source), entries, .. }) = &mut piece.part else { continue };
        for entry in entries {
            if let Some(id) = entry.id {
                entry.repeated = !known.insert((source.clone(), id));
            }
        }
    }
}

#[cfg(test)]
mod tests;
