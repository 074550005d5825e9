//! Some records in one run of bytes. Decides how they stand there; which they are to be is the header's.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | length of the sequence number, n |
//! | n | the sequence number: big-endian, without leading zeros |
//! | 8 | arrival stamp: Unix milliseconds, signed, little-endian |
//! | 2 | length of the partition key, k: little-endian |
//! | 4 | length of the payload, d: little-endian |
//! | k | the partition key, UTF-8 |
//! | d | the payload |

use bytes::Bytes;

use super::{Block, Checksum, Codec, DATA_BYTES_MAX, Damaged};
use crate::{position::SequenceNumber, stream::Record};

/// Zstandard's level: most payloads were packed by their producer, and what was not packs well at any.
const LEVEL: i32 = 1;

/// How many bytes a record takes.
pub(super) fn bytes_of(record: &Record) -> usize {
    1 + record.sequence.to_bytes().len() + 8 + 2 + 4 + record.partition_key.len() + record.data.len()
}

/// Appends a record. `None`: it is longer than any stream takes.
pub(super) fn write(record: &Record, to: &mut Vec<u8>) -> Option<()> {
    let sequence = record.sequence.to_bytes();
    let key = u16::try_from(record.partition_key.len()).ok()?;
    let data = u32::try_from(record.data.len()).ok().filter(|_| record.data.len() <= DATA_BYTES_MAX)?;
    to.push(u8::try_from(sequence.len()).ok()?);
    to.extend_from_slice(&sequence);
    to.extend_from_slice(&record.arrived_at_ms.to_le_bytes());
    to.extend_from_slice(&key.to_le_bytes());
    to.extend_from_slice(&data.to_le_bytes());
    to.extend_from_slice(record.partition_key.as_bytes());
    to.extend_from_slice(&record.data);
    Some(())
}

/// As it is stored.
pub(super) fn pack(raw: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::None => raw.to_vec(),
        Codec::Zstd => {
            zstd::bulk::compress(raw, LEVEL).expect("zstd packs anything into a buffer that it sizes itself")
        }
    }
}

/// The records of a block; those that the header names, or an error.
pub(super) fn read(block: &Block, codec: Codec, stored: &[u8]) -> Result<Vec<Record>, Damaged> {
    if stored.len() < block.bytes {
        return Err(Damaged::Cut { what: "a block", needed: block.bytes, there: stored.len() });
    }
    if stored.len() > block.bytes || Checksum::of(stored) != block.checksum {
        return Err(Damaged::Checksum("a block"));
    }
    let nonsense = |what: &str| Damaged::Nonsense(format!("a block {what}"));
    let raw = match codec {
        Codec::None => stored.to_vec(),
        // The header's limit is the buffer's: no frame unpacks to more.
        Codec::Zstd => {
            zstd::bulk::decompress(stored, block.raw_bytes).map_err(|_| nonsense("does not unpack to its length"))?
        }
    };
    if raw.len() != block.raw_bytes {
        return Err(nonsense("does not unpack to its length"));
    }
    let mut rest = Bytes::from(raw);
    let mut records: Vec<Record> = Vec::with_capacity((block.records as usize).min(block.raw_bytes / 15));
    while !rest.is_empty() {
        let record = next(&mut rest).ok_or_else(|| nonsense("ends within a record, or holds one that is none"))?;
        if records.last().is_some_and(|last| last.sequence >= record.sequence) {
            return Err(nonsense("has records that are not in order"));
        }
        records.push(record);
    }
    if records.len() != block.records as usize {
        return Err(nonsense("has another number of records than its header says"));
    }
    Ok(records)
}

fn next(rest: &mut Bytes) -> Option<Record> {
    let mut take = |bytes: usize| (bytes <= rest.len()).then(|| rest.split_to(bytes));
    let length = usize::from(take(1)?[0]);
    let sequence = SequenceNumber::from_bytes(&take(length)?)?;
    let arrived_at_ms = i64::from_le_bytes(*take(8)?.first_chunk()?);
    let key = usize::from(u16::from_le_bytes(*take(2)?.first_chunk()?));
    let data = u32::from_le_bytes(*take(4)?.first_chunk()?) as usize;
    let partition_key = std::str::from_utf8(&take(key)?).ok()?.to_owned();
    let data = take(data).filter(|data| data.len() <= DATA_BYTES_MAX)?;
    Some(Record { sequence, arrived_at_ms, partition_key, data })
}
