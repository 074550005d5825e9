//! Records that the Kinesis Producer Library has put into one (the page "KPL Aggregated Record Format" of amazon-kinesis-producer). Decides which
//! bytes are such a record and what lies in it; never what a record in it means.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | `F3 89 9A C2` |
//! | 4..n − 16 | Protocol Buffers, `AggregatedRecord`: 1 table of partition keys, 2 table of explicit hash keys, 3 records |
//! | last 16 | MD5 of the Protocol Buffers |
//!
//! A record: 1 index of its partition key, 2 index of its explicit hash key (if it has one), 3 its data, 4 tags (nobody writes them).
//!
//! - What is too short, has another MD5 or is no such message is no aggregate but a payload like any other, as for every reader of these records.
//! - A record with an index that is in no table is no record: it is told apart, and those beside it are as good as without it.
//! - The data is given where it lies. It is never looked into for another aggregate.
//! - All records count, whichever shard owns the hash of their keys. Readers that hand an aggregate to both children of a split drop what is not in
//!   their range; here a record of the stream is folded by one shard only.
//!
//! Two messages of four fields are read by hand: a library for Protocol Buffers would be more code to build and trust than this.

use bytes::Bytes;
use md5::{Digest, Md5};

/// First bytes of an aggregate.
pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Most records of one aggregate; one with more is a dead letter. A writer that fills 1 MiB with lines of 16 bytes stays below.
pub const RECORDS_MAX: usize = 65_536;

const MD5_BYTES: usize = 16;
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// One record of an aggregate; its number counts from 0 in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubRecord {
    /// Its own; the keys of the record that holds it say nothing of it. `None`: it names one that is in no table.
    pub keys: Option<Keys>,
    /// What its producer put.
    pub data: Bytes,
}

/// What would have placed a record, had it been put alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// UTF-8, if its writer kept to the format.
    pub partition_key: Bytes,
    /// Decimal digits, if its writer kept to the format.
    pub explicit_hash_key: Option<Bytes>,
}

/// More than [`RECORDS_MAX`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The records of an aggregate; `Ok(None)`: it is none.
pub fn records(payload: &Bytes) -> Result<Option<Vec<SubRecord>>, TooMany> {
    let Some(message) = message(payload) else { return Ok(None) };
    let Some(read) = read(&message) else { return Ok(None) };
    if read.records.len() > RECORDS_MAX {
        return Err(TooMany);
    }
    let key = |table: &[Bytes], index: u64| table.get(usize::try_from(index).ok()?).cloned();
    let keys = |record: &Indexed| {
        let partition_key = key(&read.partition_keys, record.partition_key)?;
        let explicit_hash_key = match record.explicit_hash_key {
            Some(index) => Some(key(&read.explicit_hash_keys, index)?),
            None => None,
        };
        Some(Keys { partition_key, explicit_hash_key })
    };
    Ok(Some(read.records.iter().map(|record| SubRecord { keys: keys(record), data: record.data.clone() }).collect()))
}

/// The bytes between magic and MD5, if these are right.
fn message(payload: &Bytes) -> Option<Bytes> {
    let length = payload.strip_prefix(&MAGIC)?.len().checked_sub(MD5_BYTES).filter(|length| *length > 0)?;
    let message = payload.slice(MAGIC.len()..MAGIC.len() + length);
    (Md5::digest(&message).as_slice() == &payload[MAGIC.len() + length..]).then_some(message)
}

#[derive(Default)]
struct Aggregate {
    partition_keys: Vec<Bytes>,
    explicit_hash_keys: Vec<Bytes>,
    records: Vec<Indexed>,
}

struct Indexed {
    partition_key: u64,
    explicit_hash_key: Option<u64>,
    data: Bytes,
}

fn read(message: &Bytes) -> Option<Aggregate> {
    let (mut aggregate, mut at) = (Aggregate::default(), 0);
    while let Some(field) = Field::next(message, &mut at)? {
        match field {
            Field { number: 1, value: Value::Bytes(key) } => aggregate.partition_keys.push(key),
            Field { number: 2, value: Value::Bytes(key) } => aggregate.explicit_hash_keys.push(key),
            // What is past the limit is not kept, only counted.
            Field { number: 3, value: Value::Bytes(record) } if aggregate.records.len() <= RECORDS_MAX => {
                aggregate.records.push(read_record(&record)?);
            }
            Field { number: 1..=2, .. } => return None,
            Field { number: 3, value: Value::Number(_) } => return None,
            _ => {}
        }
    }
    Some(aggregate)
}

fn read_record(message: &Bytes) -> Option<Indexed> {
    let (mut partition_key, mut explicit_hash_key, mut data, mut at) = (None, None, None, 0);
    while let Some(field) = Field::next(message, &mut at)? {
        match (field.number, field.value) {
            (1, Value::Number(index)) => partition_key = Some(index),
            (2, Value::Number(index)) => explicit_hash_key = Some(index),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some(Indexed { partition_key: partition_key?, explicit_hash_key, data: data? })
}

/// One field of a message. Tags and fields that a later version may add are passed over.
struct Field {
    number: u64,
    value: Value,
}

enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Field {
    /// `Some(None)`: the message ends here; `None`: it is malformed.
    fn next(message: &Bytes, at: &mut usize) -> Option<Option<Self>> {
        if *at == message.len() {
            return Some(None);
        }
        let tag = varint(message, at)?;
        let number = tag >> 3;
        let value = match tag & 7 {
            VARINT => Value::Number(varint(message, at)?),
            LENGTH => {
                let length = usize::try_from(varint(message, at)?).ok()?;
                Value::Bytes(take(message, at, length)?)
            }
            FIXED_64 => Value::Bytes(take(message, at, 8)?),
            FIXED_32 => Value::Bytes(take(message, at, 4)?),
            _ => return None,
        };
        // A number of eight or four bytes is of no field that is known.
        let is_known = number <= 3 && matches!(tag & 7, FIXED_64 | FIXED_32);
        (number > 0 && !is_known).then_some(Some(Self { number, value }))
    }
}

fn take(message: &Bytes, at: &mut usize, length: usize) -> Option<Bytes> {
    let end = at.checked_add(length).filter(|end| *end <= message.len())?;
    let bytes = message.slice(*at..end);
    *at = end;
    Some(bytes)
}

fn varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        // The tenth byte has one bit left.
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
