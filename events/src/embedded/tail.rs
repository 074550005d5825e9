//! The newest records of a shard, in memory as they were handed in: who follows the stream reads them without a disk, a copy or a checksum.
//! Holds only durable ones, without a gap up to the newest; how many is bounded here.

use std::collections::VecDeque;

use crate::stream::Record;

/// Most bytes of records kept a shard; the oldest go first. (A payload that is a slice keeps all of its buffer alive: that is not counted.)
const TAIL_BYTES_MAX: usize = 4 << 20;
/// What a record costs besides its key and payload.
const RECORD_OVERHEAD_BYTES: usize = 160;

#[derive(Debug, Default)]
pub(super) struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Tail {
    pub fn push(&mut self, record: Record) {
        self.bytes += cost(&record);
        self.records.push_back(record);
        while self.bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= cost(&oldest);
        }
    }

    /// The oldest that is kept.
    pub fn first(&self) -> Option<&Record> {
        self.records.front()
    }

    /// The records from the first one for which `before` does not hold; it holds for a prefix.
    pub fn from(&self, before: impl FnMut(&Record) -> bool) -> impl Iterator<Item = &Record> {
        self.records.range(self.records.partition_point(before)..)
    }
}

fn cost(record: &Record) -> usize {
    record.data.len() + record.partition_key.len() + RECORD_OVERHEAD_BYTES
}
