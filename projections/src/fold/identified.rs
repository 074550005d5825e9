//! Marks of what has an id and no place: log events of CloudWatch Logs and events of EventBridge, which may come more than once. Decides whether one
//! is new.
//!
//! There is a row for each source and minute of the events' own time, as a repeat says the same time. So an id is looked for in one row, a row is
//! written about as often as a window, and a repeat is known for as long as marks are kept.
//!
//! - An id is taken by the lowest position that brought it, and is never forgotten while the row lives: a row that is ahead of the record being folded
//!   gives the same answer, and the bytes depend on nothing but the records.
//! - A row has room for so many bytes (`Limits::id_bytes`). What comes with an id for which there is none is folded and not remembered, so a repeat
//!   of it counts again. A row that is ahead does not have it either, which says the same.
//! - An id is 64 bits of a hash, as a row holds few thousand: that an event is taken for another has a chance of 1 in 10^14 for each.
//! - One record brings an id once: what it brings again is told before (`events::wire::payload`).

use std::collections::HashMap;

use events::position::SequenceNumber;
use rustc_hash::FxBuildHasher;

use super::{limits::limits, rows::Body};
use crate::{
    canonical::{self, DecodeError},
    store::ROW_BYTES_MAX,
};

const VERSION: u8 = 1;
/// Of one id.
pub const ID_BYTES: usize = 8;
/// A sequence number with its length, a varint: what a record adds to a row besides its ids.
pub const RECORD_BYTES_MAX: usize = 1 + SequenceNumber::BYTES_MAX + 10;
/// Most bytes of ids in one row: some 40,000 ids where a record brings many.
pub const ID_BYTES_MAX: usize = ROW_BYTES_MAX - 1;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identified {
    /// Each record that took some, in order of position, with how many.
    records: Vec<(SequenceNumber, u64)>,
    /// In the order in which they were taken.
    ids: Vec<u64>,
    /// The number of the record that took each.
    by: HashMap<u64, u32, FxBuildHasher>,
}

impl Identified {
    /// True if the record at `position` takes what has this id. `ahead`: the row already holds this record's answer.
    pub fn take(&mut self, id: u64, position: SequenceNumber, ahead: bool) -> bool {
        if let Some(record) = self.by.get(&id) {
            return self.records[*record as usize].0 >= position;
        }
        if !ahead && self.bytes() + RECORD_BYTES_MAX + ID_BYTES <= limits().id_bytes {
            self.insert(id, position);
        }
        true
    }

    /// At least as many as the row has.
    fn bytes(&self) -> usize {
        self.records.len() * RECORD_BYTES_MAX + self.ids.len() * ID_BYTES
    }

    fn insert(&mut self, id: u64, position: SequenceNumber) {
        match self.records.last_mut() {
            Some((last, count)) if *last == position => *count += 1,
            _ => self.records.push((position, 1)),
        }
        self.ids.push(id);
        self.by.insert(id, self.records.len() as u32 - 1);
    }

    /// Takes over what an ancestor of the shard took, as far as a row can hold it: of two full ones some ids are not remembered, as of one.
    pub fn inherit(&mut self, older: Self) {
        let records = |row: &Self| {
            let ids = row.ids.iter().map(|id| (row.records[row.by[id] as usize].0, *id));
            ids.collect::<Vec<_>>()
        };
        let mut all = [records(self), records(&older)].concat();
        // Each record's ids keep their order.
        all.sort_by_key(|(position, _)| *position);
        *self = Self::default();
        for (position, id) in all {
            if !self.by.contains_key(&id) && self.bytes() + RECORD_BYTES_MAX + ID_BYTES <= ID_BYTES_MAX {
                self.insert(id, position);
            }
        }
    }

    /// Leaves what records before `first` took; the last of them. `None`: nothing.
    pub fn cut(&mut self, first: SequenceNumber) -> Option<SequenceNumber> {
        let records = self.records.partition_point(|(position, _)| *position < first);
        self.records.truncate(records);
        let ids: u64 = self.records.iter().map(|(_, count)| count).sum();
        for id in self.ids.drain(ids as usize..) {
            self.by.remove(&id);
        }
        self.records.last().map(|(position, _)| *position)
    }
}

impl Body for Identified {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut ids = self.ids.iter();
        for (position, count) in &self.records {
            canonical::put_position(&mut bytes, *position);
            canonical::put_varint(&mut bytes, *count);
            for id in ids.by_ref().take(*count as usize) {
                bytes.extend_from_slice(&id.to_le_bytes());
            }
        }
        bytes
    }

    fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        if canonical::take_byte(input, "version")? != VERSION {
            return Err(DecodeError::OutOfRange { what: "version of a mark of ids" });
        }
        let mut read = Self::default();
        while !input.is_empty() {
            let position = canonical::take_position(input)?;
            let count = canonical::take_varint(input, "number of ids")?;
            if count == 0 || read.records.last().is_some_and(|(before, _)| *before >= position) {
                return Err(DecodeError::NotCanonical { what: "order of records" });
            }
            for _ in 0..count {
                let id = canonical::take_bytes(input, ID_BYTES, "id")?.try_into().map(u64::from_le_bytes);
                let id = id.map_err(|_| DecodeError::Truncated { what: "id" })?;
                if read.by.contains_key(&id) {
                    return Err(DecodeError::NotCanonical { what: "ids, each once" });
                }
                read.insert(id, position);
            }
        }
        Ok(read)
    }

    /// Marks are read before their record folds, so nothing is ever taken in.
    fn take_in(&mut self, older: Self) {
        *self = older;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn at(position: u64) -> SequenceNumber {
        SequenceNumber::from_parts(1, 8 * position)
    }

    #[test]
    fn an_id_is_taken_once_and_by_the_record_that_brought_it_first() {
        let mut ids = Identified::default();
        assert!(ids.take(7, at(1), false));
        assert!(!ids.take(7, at(2), false));
        assert!(ids.take(8, at(2), false));
    }

    #[test]
    fn what_records_before_the_first_took_is_left_by_a_cut() {
        let mut ids = Identified::default();
        (1..=4).for_each(|n| assert!(ids.take(n, at(n), false) && ids.take(100 + n, at(n), false)));
        let mut before = Identified::default();
        (1..=2).for_each(|n| assert!(before.take(n, at(n), false) && before.take(100 + n, at(n), false)));
        assert_eq!((ids.cut(at(3)), ids), (Some(at(2)), before.clone()));
        assert_eq!((before.cut(at(1)), before), (None, Identified::default()));
    }

    #[test]
    fn a_full_row_fits_into_an_item_whatever_the_positions_are() {
        let mut ids = Identified::default();
        let mut long = SequenceNumber::MAX.to_bytes();
        for id in 0..20_000_u64 {
            long[SequenceNumber::BYTES_MAX - 8..].copy_from_slice(&id.to_be_bytes());
            assert!(ids.take(id, SequenceNumber::from_bytes(&long).unwrap(), false));
        }
        let bytes = ids.encode();
        assert!(bytes.len() <= ROW_BYTES_MAX && ids.ids.len() > 5_000, "{} ids, {} bytes", ids.ids.len(), bytes.len());
        let mut many = Identified::default();
        (0..100_000).for_each(|id| assert!(many.take(id, at(1 + id / 1_000), false)));
        assert!(many.encode().len() <= ROW_BYTES_MAX && many.ids.len() > 40_000, "{} ids", many.ids.len());
        // Without room it is taken each time.
        assert!(many.take(99_999, at(1_000), false));
    }

    proptest! {
        #[test]
        fn a_row_that_is_ahead_gives_the_answers_of_the_first_time(
            records in prop::collection::vec(prop::collection::btree_set(0..12_u64, 0..5), 1..12), room in 60..400_usize,
        ) {
            #[cfg(feature = "law")]
            crate::fold::limits::set(crate::fold::limits::Limits { id_bytes: room, ..crate::fold::limits::Limits::REAL });
            let _ = room;
            let mut ids = Identified::default();
            let mut answers = vec![];
            for (n, record) in records.iter().enumerate() {
                answers.push(record.iter().map(|id| ids.take(*id, at(n as u64 + 1), false)).collect::<Vec<_>>());
            }
            let mut again = Identified::decode(&ids.encode()).unwrap();
            prop_assert_eq!(&again, &ids);
            for (n, record) in records.iter().enumerate() {
                let said: Vec<bool> = record.iter().map(|id| again.take(*id, at(n as u64 + 1), true)).collect();
                prop_assert_eq!(&said, &answers[n]);
            }
            prop_assert_eq!(again, ids);
        }
    }
}
