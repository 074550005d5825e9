//! How a row and a resume point stand in the file. It must never hand out bytes that are not the ones that were written.
//!
//! ```text
//! row:          checksum u64 | applied_through | applied_from | folded_on u16 | fold_revision u32 | body
//! part:         checksum u64 | body
//! resume point: checksum u64 | position | fold_revision u32 | ended u8 | count of parts u32 | (length u32, name) of each part
//! ```
//! Numbers are little-endian; a sequence number is one byte of length and its bytes. The checksum is XXH3-64 of what follows, seeded with
//! the XXH3-64 of the key, so that a value under another's key is damage too: the database checks its pages only when it repairs.

use bytes::Bytes;
use events::position::SequenceNumber;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::store::{Checkpoint, Day, PartName, Row};

/// Raised when keys or values change; a file with another is not opened.
pub(super) const VERSION: u64 = 1;

const CHECKSUM_BYTES: usize = 8;

/// A row's value.
pub(super) fn row(key: &[u8], row: &Row) -> Vec<u8> {
    let (through, from) = (row.applied_through.to_bytes(), row.applied_from.to_bytes());
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + 1 + through.len() + 1 + from.len() + 2 + 4 + row.body.len());
    value.extend_from_slice(&[0; CHECKSUM_BYTES]);
    push_sequence_number(&mut value, &through);
    push_sequence_number(&mut value, &from);
    value.extend_from_slice(&row.folded_on.0.to_le_bytes());
    value.extend_from_slice(&row.fold_revision.to_le_bytes());
    value.extend_from_slice(&row.body);
    seal(&mut value, key);
    value
}

/// What stands before a row's body.
pub(super) struct Header {
    pub(super) applied_through: SequenceNumber,
    pub(super) applied_from: SequenceNumber,
    pub(super) folded_on: Day,
    pub(super) fold_revision: u32,
}

/// Header and body of a row; `None`: damaged.
pub(super) fn read_row<'a>(key: &[u8], value: &'a [u8]) -> Option<(Header, &'a [u8])> {
    let rest = unseal(key, value)?;
    let (applied_through, rest) = split_sequence_number(rest)?;
    let (applied_from, rest) = split_sequence_number(rest)?;
    let (folded_on, rest) = rest.split_first_chunk()?;
    let (fold_revision, body) = rest.split_first_chunk()?;
    let (folded_on, fold_revision) = (Day(u16::from_le_bytes(*folded_on)), u32::from_le_bytes(*fold_revision));
    Some((Header { applied_through, applied_from, folded_on, fold_revision }, body))
}

/// A part's value.
pub(super) fn part(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + body.len());
    value.extend_from_slice(&[0; CHECKSUM_BYTES]);
    value.extend_from_slice(body);
    seal(&mut value, key);
    value
}

/// The body of a part; `None`: damaged.
pub(super) fn read_part(key: &[u8], value: &[u8]) -> Option<Bytes> {
    unseal(key, value).map(Bytes::copy_from_slice)
}

/// A resume point's value.
pub(super) fn checkpoint(key: &[u8], checkpoint: &Checkpoint) -> Vec<u8> {
    let mut value = vec![0; CHECKSUM_BYTES];
    push_sequence_number(&mut value, &checkpoint.position.to_bytes());
    value.extend_from_slice(&checkpoint.fold_revision.to_le_bytes());
    value.push(checkpoint.ended.into());
    push_length(&mut value, checkpoint.parts.len());
    for PartName(name) in &checkpoint.parts {
        push_length(&mut value, name.len());
        value.extend_from_slice(name.as_bytes());
    }
    seal(&mut value, key);
    value
}

/// A resume point as it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResumePoint {
    pub(super) position: SequenceNumber,
    pub(super) fold_revision: u32,
    pub(super) ended: bool,
    pub(super) parts: Vec<PartName>,
}

/// The resume point that `checkpoint` wrote; `None`: damaged.
pub(super) fn read_checkpoint(key: &[u8], value: &[u8]) -> Option<ResumePoint> {
    let (position, rest) = split_sequence_number(unseal(key, value)?)?;
    let (fold_revision, rest) = rest.split_first_chunk()?;
    let (ended, rest) = rest.split_first().filter(|(ended, _)| **ended <= 1)?;
    let (count, mut rest) = split_length(rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let (length, after) = split_length(rest)?;
        let (name, after) = after.split_at_checked(length)?;
        parts.push(PartName(String::from_utf8(name.to_vec()).ok()?));
        rest = after;
    }
    let fold_revision = u32::from_le_bytes(*fold_revision);
    rest.is_empty().then_some(ResumePoint { position, fold_revision, ended: *ended == 1, parts })
}

fn seal(value: &mut [u8], key: &[u8]) {
    let sum = xxh3_64_with_seed(&value[CHECKSUM_BYTES..], xxh3_64(key));
    value[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, rest) = value.split_first_chunk()?;
    (u64::from_le_bytes(*sum) == xxh3_64_with_seed(rest, xxh3_64(key))).then_some(rest)
}

fn push_sequence_number(value: &mut Vec<u8>, number: &[u8]) {
    value.push(number.len() as u8);
    value.extend_from_slice(number);
}

fn split_sequence_number(bytes: &[u8]) -> Option<(SequenceNumber, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (number, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((SequenceNumber::from_bytes(number)?, rest))
}

fn push_length(value: &mut Vec<u8>, length: usize) {
    value.extend_from_slice(&(length as u32).to_le_bytes());
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*length) as usize, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::position::ShardId;

    use super::*;
    use crate::store::{Generation, Kind, Partial, RowKey, Subject};

    fn example() -> Row {
        let subject =
            Subject { tenant: "t".into(), generation: Generation(0), kind: Kind::Service, name: "web".into() };
        Row {
            key: RowKey { subject, at: 0, shard: ShardId::numbered(0), partial: Partial(0), page: 0 },
            applied_from: SequenceNumber::ZERO,
            applied_through: SequenceNumber::from_parts(1, 2),
            folded_on: Day(0x5006),
            fold_revision: 3,
            body: Bytes::from_static(b"body"),
        }
    }

    fn resume_point() -> Checkpoint {
        Checkpoint {
            generation: Generation(0),
            shard: ShardId::numbered(0),
            position: SequenceNumber::from_parts(1, 2),
            fold_revision: 3,
            ended: true,
            parts: vec![PartName("a".into()), PartName(String::new())],
        }
    }

    #[test]
    fn the_stored_bytes_are_those_of_version_1() {
        let value = row(b"key", &example());
        assert_eq!(value[8..], *b"\x09\x01\0\0\0\0\0\0\0\x02\x00\x06\x50\x03\0\0\0body");
        assert_eq!(value[..8], 0xef8d_4d3b_906a_7637_u64.to_le_bytes(), "{:x?}", &value[..8]);
        let value = checkpoint(b"key", &resume_point());
        assert_eq!(value[8..], *b"\x09\x01\0\0\0\0\0\0\0\x02\x03\0\0\0\x01\x02\0\0\0\x01\0\0\0a\0\0\0\0");
        assert_eq!(part(b"key", b"body")[8..], *b"body");
    }

    #[test]
    fn what_was_written_is_read_back_and_any_changed_byte_is_seen() {
        let mut value = row(b"key", &example());
        let (header, body) = read_row(b"key", &value).unwrap();
        let Header { applied_through, applied_from, folded_on, fold_revision } = header;
        let (key, body) = (example().key, Bytes::copy_from_slice(body));
        assert_eq!(Row { key, applied_from, applied_through, folded_on, fold_revision, body }, example());
        assert!(read_row(b"kez", &value).is_none(), "under another's key");
        let Checkpoint { position, fold_revision, ended, parts, .. } = resume_point();
        let point = checkpoint(b"key", &resume_point());
        assert_eq!(read_checkpoint(b"key", &point).unwrap(), ResumePoint { position, fold_revision, ended, parts });
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(read_row(b"key", &value).is_none(), "byte {at}");
            value[at] ^= 1;
            assert!(read_row(b"key", &value[..at]).is_none(), "cut at {at}");
        }
        for at in 0..point.len() {
            assert!(read_checkpoint(b"key", &point[..at]).is_none(), "cut at {at}");
        }
    }
}
