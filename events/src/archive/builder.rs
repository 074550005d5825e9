//! A segment while it is made: records go in, and whole bytes come out. Decides where blocks end; when a segment ends is its owner's.

use bytes::Bytes;

use super::{BLOCK_BYTES, BLOCKS_MAX, Block, Checksum, Codec, Damaged, Place, Segment, block, header::Held};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::{Record, Shard},
};

/// Records of one shard behind one position, in order. It holds them packed: less than `BLOCK_BYTES` and one record of it are not.
#[derive(Debug, Clone)]
pub struct Builder {
    place: Place,
    previous: Option<Checksum>,
    codec: Codec,
    is_behind_hole: bool,
    last: SequenceNumber,
    highest_ms: i64,
    held: Option<Held>,
    blocks: Vec<Block>,
    packed: Vec<u8>,
    /// The block that is being filled, and its first position.
    raw: Vec<u8>,
    first: SequenceNumber,
    records: u32,
}

/// Whether more segments will follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Records may come.
    Open,
    /// The shard is closed, and all of it is archived.
    LastOfShard,
}

/// A segment, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What its header says.
    pub segment: Segment,
    /// The object.
    pub bytes: Bytes,
}

impl Builder {
    /// The segment behind another one.
    pub fn after(before: &Segment, codec: Codec) -> Self {
        let mut builder = Self::first(before.stream.clone(), before.shard.id.clone(), codec);
        (builder.place.after, builder.last) = (before.last, before.last);
        (builder.previous, builder.highest_ms) = (Some(before.checksum), before.highest_ms);
        builder
    }

    /// The first segment of a shard.
    pub fn first(stream: String, shard: ShardId, codec: Codec) -> Self {
        Self {
            place: Place { stream, shard, after: SequenceNumber::ZERO },
            previous: None,
            codec,
            is_behind_hole: false,
            last: SequenceNumber::ZERO,
            highest_ms: i64::MIN,
            held: None,
            blocks: vec![],
            packed: vec![],
            raw: vec![],
            first: SequenceNumber::ZERO,
            records: 0,
        }
    }

    /// Where it will stand.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The position of its last record; that behind which it begins, if it has none yet.
    pub fn last(&self) -> SequenceNumber {
        self.last
    }

    /// What it holds so far.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.raw.len()
    }

    /// Records before the first one were gone from the stream. Only before the first record is pushed.
    pub fn begins_behind_hole(&mut self) {
        self.is_behind_hole = true;
    }

    /// It has as many blocks as a segment should have: it is to be sealed.
    pub fn is_full(&self) -> bool {
        self.blocks.len() >= BLOCKS_MAX / 2
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &Record) -> Result<(), Damaged> {
        let refused = |what: &str| Damaged::Nonsense(format!("{} {what}", record.sequence));
        if record.sequence <= self.last {
            return Err(refused("does not come after what the segment holds"));
        }
        let length = self.raw.len();
        if block::write(record, &mut self.raw).is_none() {
            self.raw.truncate(length);
            return Err(refused("is longer than a record of an archive may be"));
        }
        if self.records == 0 {
            self.first = record.sequence;
        }
        self.records += 1;
        self.last = record.sequence;
        self.highest_ms = self.highest_ms.max(record.arrived_at_ms);
        let held = self.held.get_or_insert(Held {
            first: record.sequence,
            first_ms: record.arrived_at_ms,
            last_ms: record.arrived_at_ms,
            records: 0,
            bytes: 0,
        });
        held.last_ms = record.arrived_at_ms;
        held.records += 1;
        held.bytes += record.data.len() as u64;
        if self.raw.len() >= BLOCK_BYTES {
            self.close_block();
        }
        Ok(())
    }

    /// How many bytes a record takes before it is packed.
    pub fn bytes_of(record: &Record) -> usize {
        block::bytes_of(record)
    }

    fn close_block(&mut self) {
        if self.records == 0 {
            return;
        }
        let packed = block::pack(&self.raw, self.codec);
        self.blocks.push(Block {
            from: 0,
            bytes: packed.len(),
            raw_bytes: self.raw.len(),
            records: std::mem::take(&mut self.records),
            first: self.first,
            highest_ms: self.highest_ms,
            checksum: Checksum::of(&packed),
        });
        self.packed.extend_from_slice(&packed);
        self.raw.clear();
    }

    /// The whole of it. `shard`: as the stream lists it. `None`: it holds nothing, and nothing is to be said.
    pub fn seal(mut self, shard: &Shard, closing: Closing) -> Option<Sealed> {
        self.close_block();
        let is_last = closing == Closing::LastOfShard;
        if self.held.is_none() && !is_last {
            return None;
        }
        let mut segment = Segment {
            stream: self.place.stream,
            shard: Shard { id: self.place.shard, closed: is_last, ..shard.clone() },
            after: self.place.after,
            previous: self.previous,
            is_behind_hole: self.is_behind_hole,
            last: self.last,
            highest_ms: self.highest_ms,
            held: self.held,
            codec: self.codec,
            blocks: self.blocks,
            checksum: Checksum([0; 32]),
        };
        let (mut bytes, checksum) = segment.write();
        segment.checksum = checksum;
        let mut from = bytes.len() as u64;
        for block in &mut segment.blocks {
            block.from = from;
            from += block.bytes as u64;
        }
        bytes.extend_from_slice(&self.packed);
        Some(Sealed { segment, bytes: Bytes::from(bytes) })
    }
}
