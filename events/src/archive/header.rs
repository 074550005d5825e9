//! What a segment says of itself. Decides which headers are believed; knows no record.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    BLOCK_BYTES_MAX, BLOCKS_MAX, Checksum, Codec, Damaged, HEADER_BYTES_MAX, MAGIC, PREFIX_BYTES, Place,
    STREAM_BYTES_MAX, block, is_plain,
};
use crate::{
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{Record, Shard},
};

/// A header that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The stream, as its owner names it.
    pub stream: String,
    /// The shard with its range and parents; `closed`: no records come after this segment.
    pub shard: Shard,
    /// The last position of the segment before; `ZERO`: it is the shard's first.
    pub after: SequenceNumber,
    /// The checksum of the header before. `None`: there is none.
    pub previous: Option<Checksum>,
    /// Records between `after` and the first one were gone from the stream before they were archived.
    pub is_behind_hole: bool,
    /// The last position that it covers: the name of the next one.
    pub last: SequenceNumber,
    /// The highest arrival stamp of the shard's archive up to here, Unix milliseconds.
    pub highest_ms: i64,
    /// What it holds. `None`: nothing, it only says that the shard has ended.
    pub held: Option<Held>,
    /// How blocks are packed.
    pub codec: Codec,
    /// Where records lie.
    pub blocks: Vec<Block>,
    /// Of this header.
    pub checksum: Checksum,
}

/// The records of a segment, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Position of the first.
    #[serde(with = "decimal")]
    pub first: SequenceNumber,
    /// Arrival stamp of the first, Unix milliseconds.
    pub first_ms: i64,
    /// Arrival stamp of the last.
    pub last_ms: i64,
    /// How many.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// Some of the records, packed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First byte in the segment.
    pub from: u64,
    /// Stored bytes.
    pub bytes: usize,
    /// Unpacked bytes.
    pub raw_bytes: usize,
    /// How many records.
    pub records: u32,
    /// Position of the first.
    pub first: SequenceNumber,
    /// The highest arrival stamp of the shard's archive up to the end of this block.
    pub highest_ms: i64,
    /// Of the stored bytes.
    pub checksum: Checksum,
}

/// As it is written. Positions and keys are decimal text, as JSON's numbers end at 2^53 in many readers.
#[derive(Serialize, Deserialize)]
struct Written {
    stream: String,
    shard: String,
    from_key: String,
    through_key: String,
    parents: Vec<String>,
    #[serde(with = "decimal")]
    after: SequenceNumber,
    #[serde(with = "decimal")]
    last: SequenceNumber,
    previous: Option<String>,
    is_behind_hole: bool,
    is_last_of_shard: bool,
    highest_ms: i64,
    held: Option<Held>,
    codec: Codec,
    blocks: Vec<WrittenBlock>,
}

#[derive(Serialize, Deserialize)]
struct WrittenBlock {
    bytes: usize,
    raw_bytes: usize,
    records: u32,
    #[serde(with = "decimal")]
    first: SequenceNumber,
    highest_ms: i64,
    sha256: String,
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::position::SequenceNumber;

    pub fn serialize<S: Serializer>(position: &SequenceNumber, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(position)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SequenceNumber, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn nonsense<T>(what: impl Into<String>) -> Result<T, Damaged> {
    Err(Damaged::Nonsense(what.into()))
}

/// How long a segment's header and what stands before it are, by its first `PREFIX_BYTES`.
pub(super) fn length(bytes: &[u8]) -> Result<usize, Damaged> {
    let cut = |needed| Damaged::Cut { what: "its beginning", needed, there: bytes.len() };
    let (magic, version) = (MAGIC.len() - 1, MAGIC[MAGIC.len() - 1]);
    if bytes.len() < PREFIX_BYTES {
        return Err(cut(PREFIX_BYTES));
    }
    if bytes[..magic] != MAGIC[..magic] {
        return Err(Damaged::NotASegment);
    }
    if bytes[magic] != version {
        return Err(Damaged::Version(bytes[magic]));
    }
    let length = bytes[MAGIC.len()..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
    if length > HEADER_BYTES_MAX {
        return nonsense(format!("its header has {length} bytes, at most {HEADER_BYTES_MAX} are read"));
    }
    Ok(PREFIX_BYTES + length)
}

impl Segment {
    /// How many bytes of a segment have to be there for `read`, by its first `PREFIX_BYTES`.
    pub fn header_bytes(first: &[u8]) -> Result<usize, Damaged> {
        length(first)
    }

    /// Reads the header of the segment that has this place's name, from its first bytes.
    pub fn read(bytes: &[u8], place: &Place) -> Result<Self, Damaged> {
        let end = length(bytes)?;
        let Some(header) = bytes.get(PREFIX_BYTES..end) else {
            return Err(Damaged::Cut { what: "its header", needed: end, there: bytes.len() });
        };
        let checksum = Checksum::of(header);
        if checksum.0 != bytes[PREFIX_BYTES - 32..PREFIX_BYTES] {
            return Err(Damaged::Checksum("its header"));
        }
        let written: Written =
            serde_json::from_slice(header).map_err(|error| Damaged::Nonsense(format!("its header: {error}")))?;
        let segment = written.read(checksum, end)?;
        segment.check()?;
        let elsewhere = |what, found: String, expected: String| Err(Damaged::Elsewhere { what, found, expected });
        match segment {
            of if of.stream != place.stream => elsewhere("stream", of.stream, place.stream.clone()),
            of if of.shard.id != place.shard => elsewhere("shard", of.shard.id.to_string(), place.shard.to_string()),
            of if of.after != place.after => {
                elsewhere("place", format!("after {}", of.after), format!("after {}", place.after))
            }
            segment => Ok(segment),
        }
    }

    /// Prefix and header, and the checksum of the header.
    pub(super) fn write(&self) -> (Vec<u8>, Checksum) {
        let written = Written {
            stream: self.stream.clone(),
            shard: self.shard.id.to_string(),
            from_key: self.shard.range.from.0.to_string(),
            through_key: self.shard.range.through.0.to_string(),
            parents: self.shard.parents.iter().map(ToString::to_string).collect(),
            after: self.after,
            last: self.last,
            previous: self.previous.map(|checksum| checksum.to_string()),
            is_behind_hole: self.is_behind_hole,
            is_last_of_shard: self.shard.closed,
            highest_ms: self.highest_ms,
            held: self.held,
            codec: self.codec,
            blocks: self.blocks.iter().map(WrittenBlock::of).collect(),
        };
        let header = serde_json::to_vec(&written).expect("text and numbers are JSON");
        let checksum = Checksum::of(&header);
        let length = u32::try_from(header.len()).expect("a builder's segment has few blocks").to_le_bytes();
        ([&MAGIC[..], &length, &checksum.0, &header].concat(), checksum)
    }

    /// What no writer says is not believed, whatever its checksum.
    fn check(&self) -> Result<(), Damaged> {
        let range = self.shard.range;
        if self.stream.is_empty() || self.stream.len() > STREAM_BYTES_MAX {
            return nonsense("its stream's name is too long, or empty");
        }
        if range.from > range.through || self.shard.parents.len() > 2 {
            return nonsense("its shard has no range, or more than two parents");
        }
        if std::iter::once(&self.shard.id).chain(&self.shard.parents).any(|shard| !is_plain(shard.as_str())) {
            return nonsense("a shard has a name that no shard has");
        }
        if self.previous.is_some() != (self.after > SequenceNumber::ZERO) {
            return nonsense("it names no header before it, or one where there is none");
        }
        let Some(held) = self.held else {
            let is_end = self.shard.closed && self.blocks.is_empty() && self.last == self.after;
            return if is_end {
                Ok(())
            } else {
                nonsense("it holds nothing, and does not say that its shard has ended")
            };
        };
        let records: u64 = self.blocks.iter().map(|block| u64::from(block.records)).sum();
        let is_in_order = self.blocks.windows(2).all(|pair| pair[0].first < pair[1].first);
        if records != held.records || !is_in_order || self.blocks.first().map(|block| block.first) != Some(held.first) {
            return nonsense("its blocks are not what it says that it holds");
        }
        if !(self.after < held.first && held.first <= self.last)
            || self.blocks.iter().any(|block| block.first > self.last)
        {
            return nonsense("its positions are not in order");
        }
        Ok(())
    }

    /// Where a block is stored, for a range of bytes to ask for.
    pub fn range(&self, number: usize) -> Option<Range<u64>> {
        self.blocks.get(number).map(|block| block.from..block.from + block.bytes as u64)
    }

    /// The first block that may hold a record which is not `before`, as told by its first position.
    pub fn block_of(&self, position: SequenceNumber) -> usize {
        self.blocks.partition_point(|block| block.first <= position).saturating_sub(1)
    }

    /// The records of a block, from its stored bytes.
    pub fn records(&self, number: usize, stored: &[u8]) -> Result<Vec<Record>, Damaged> {
        let Some(block) = self.blocks.get(number) else { return nonsense("it has no such block") };
        let next = self.blocks.get(number + 1).map(|next| next.first);
        let records = block::read(block, self.codec, stored)?;
        let last = records.last().map(|record| record.sequence);
        let ends_well = match next {
            Some(next) => last.is_some_and(|last| last < next),
            None => last == Some(self.last),
        };
        if !ends_well || records.first().map(|record| record.sequence) != Some(block.first) {
            return nonsense("a block's records are not those that the header names");
        }
        Ok(records)
    }
}

impl WrittenBlock {
    fn of(block: &Block) -> Self {
        let Block { bytes, raw_bytes, records, first, highest_ms, checksum, .. } = *block;
        Self { bytes, raw_bytes, records, first, highest_ms, sha256: checksum.to_string() }
    }
}

impl Written {
    fn read(self, checksum: Checksum, header_end: usize) -> Result<Segment, Damaged> {
        let key = |text: &str| match text.parse() {
            Ok(key) => Ok(HashKey(key)),
            Err(_) => nonsense("an end of its range is no key"),
        };
        let sum = |text: &str| match Checksum::parse(text) {
            Some(checksum) => Ok(checksum),
            None => nonsense("a checksum in it is none"),
        };
        if self.blocks.len() > BLOCKS_MAX {
            return nonsense(format!("it has {} blocks, at most {BLOCKS_MAX} are read", self.blocks.len()));
        }
        let (mut blocks, mut from) = (Vec::with_capacity(self.blocks.len()), header_end as u64);
        for written in &self.blocks {
            let WrittenBlock { bytes, raw_bytes, records, first, highest_ms, ref sha256 } = *written;
            if bytes.max(raw_bytes) > BLOCK_BYTES_MAX || records == 0 {
                return nonsense(format!("a block is empty, or longer than {BLOCK_BYTES_MAX} bytes"));
            }
            blocks.push(Block { from, bytes, raw_bytes, records, first, highest_ms, checksum: sum(sha256)? });
            from += bytes as u64;
        }
        let range = HashRange { from: key(&self.from_key)?, through: key(&self.through_key)? };
        let parents = self.parents.iter().map(|parent| ShardId::named(parent)).collect();
        let shard = Shard { id: ShardId::named(&self.shard), range, parents, closed: self.is_last_of_shard };
        Ok(Segment {
            stream: self.stream,
            shard,
            after: self.after,
            previous: self.previous.as_deref().map(sum).transpose()?,
            is_behind_hole: self.is_behind_hole,
            last: self.last,
            highest_ms: self.highest_ms,
            held: self.held,
            codec: self.codec,
            blocks,
            checksum,
        })
    }
}
