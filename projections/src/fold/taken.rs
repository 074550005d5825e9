//! Marks: which bytes of one slice were taken, and by which record. Decides what of a batch is new.
//!
//! Invariants:
//! - A byte is taken once, by the lowest position that brought it.
//! - What a position took can be told again as long as the position lies past the resume point: so a mark that is ahead of the record being
//!   folded still gives the same answer.
//! - Ranges behind the resume point are joined and keep the highest position. Who meets a joined range at or past its own position works on a
//!   state that another worker has overtaken.

use std::ops::Range;

use events::position::SequenceNumber;

use super::{
    rows::Body,
    sabotage::{self, Sabotage},
};
use crate::canonical::{self, DecodeError};

const VERSION: u8 = 1;

/// Some bytes that were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRange {
    /// First byte.
    pub from: u64,
    /// First byte after.
    pub to: u64,
    /// The record that took them; of a joined range the highest of several.
    pub position: SequenceNumber,
    /// It stands for several records behind the resume point.
    pub joined: bool,
}

/// The marks of one slice, in order of offset, without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Who it is about, for lists of what was ingested.
    pub origin: String,
    /// See the type.
    pub ranges: Vec<TakenRange>,
}

/// This worker's state was overtaken: it must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken;

impl Taken {
    /// What the record at `position` takes of `from..to`. `ahead`: the mark already holds this record's answer.
    pub fn take(
        &mut self,
        from: u64,
        to: u64,
        position: SequenceNumber,
        ahead: bool,
    ) -> Result<Vec<Range<u64>>, Overtaken> {
        let overlapping = self.ranges.iter().filter(|range| range.from < to && from < range.to);
        let is_overtaken = overlapping.clone().any(|range| range.joined && range.position >= position);
        if is_overtaken && !sabotage::breaks(Sabotage::OvertakenNotSeen) {
            return Err(Overtaken);
        }
        if ahead {
            let ours = overlapping.filter(|range| range.position == position);
            return Ok(ours.map(|range| range.from.max(from)..range.to.min(to)).collect());
        }
        let mut free = vec![];
        let mut at = from;
        for range in overlapping {
            if at < range.from {
                free.push(at..range.from);
            }
            at = at.max(range.to);
        }
        if at < to {
            free.push(at..to);
        }
        for range in &free {
            let place = self.ranges.partition_point(|other| other.from < range.start);
            self.ranges.insert(place, TakenRange { from: range.start, to: range.end, position, joined: false });
        }
        Ok(free)
    }

    /// Joins neighbours that lie behind the resume point.
    pub fn join(&mut self, resume_point: SequenceNumber) {
        self.ranges.dedup_by(|next, range| {
            let joins = range.to == next.from && range.position.max(next.position) <= resume_point;
            if joins {
                range.to = next.to;
                range.position = range.position.max(next.position);
                range.joined = true;
            }
            joins
        });
    }
}

impl Body for Taken {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        canonical::put_text(&mut bytes, &self.origin);
        canonical::put_varint(&mut bytes, self.ranges.len() as u64);
        for range in &self.ranges {
            canonical::put_varint(&mut bytes, range.from);
            canonical::put_varint(&mut bytes, range.to);
            canonical::put_position(&mut bytes, range.position);
            bytes.push(u8::from(range.joined));
        }
        bytes
    }

    fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        if canonical::take_byte(input, "version")? != VERSION {
            return Err(DecodeError::OutOfRange { what: "version of a mark" });
        }
        let origin = canonical::take_text(input, 3 * events::identity::ORIGIN_NAME_BYTES_MAX, "origin")?.to_owned();
        let count = canonical::take_varint(input, "number of ranges")?;
        let mut ranges: Vec<TakenRange> = vec![];
        for _ in 0..count {
            let range = TakenRange {
                from: canonical::take_varint(input, "range")?,
                to: canonical::take_varint(input, "range")?,
                position: canonical::take_position(input)?,
                joined: canonical::take_byte(input, "joined")? == 1,
            };
            if range.from >= range.to || ranges.last().is_some_and(|before| before.to > range.from) {
                return Err(DecodeError::NotCanonical { what: "order of ranges" });
            }
            ranges.push(range);
        }
        Ok(Self { origin, ranges })
    }

    /// Marks are read before their record folds, so nothing is ever taken in.
    fn take_in(&mut self, older: Self) {
        *self = older;
    }
}
