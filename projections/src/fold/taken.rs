//! Marks: which bytes of one slice were taken, and by which record. Decides what of a batch is new.
//!
//! Invariants:
//! - A byte is taken once, by the lowest position that brought it.
//! - What a position took can be told again as long as the position lies past the resume point: so a mark that is ahead of the record being
//!   folded still gives the same answer.
//! - Ranges behind the resume point are joined and keep the highest position. Who meets a joined range at or past its own position works on a
//!   state that another worker has overtaken.
//! - A mark fits into one row. What was taken lies in at most so many pieces with gaps between (`Limits::pieces`): a batch that would make one more
//!   is refused whole and takes nothing. This depends on the bytes that lower positions took and on nothing else: not on which ranges were joined.

use std::ops::Range;

use events::position::SequenceNumber;

use super::{
    limits::limits,
    rows::Body,
    sabotage::{self, Sabotage},
};
use crate::{
    canonical::{self, DecodeError},
    store::ROW_BYTES_MAX,
};

const VERSION: u8 = 1;
/// Most pieces, with gaps between, that a mark holds. Whoever sends a slice in order makes one; this many are left by thousands of lost batches.
pub const PIECES_MAX: usize = 1_500;
/// A mark of more ranges than this asks for a commit, after which those of one piece are joined.
pub const RANGES_CROWDED: usize = 2 * PIECES_MAX;
/// One batch may fill every gap, and so add one range more than there are pieces.
const RANGES_MAX: usize = RANGES_CROWDED + PIECES_MAX + 1;
/// Two varints, a sequence number with its length, a flag.
const RANGE_BYTES_MAX: usize = 10 + 10 + 1 + SequenceNumber::BYTES_MAX + 1;
const ORIGIN_BYTES_MAX: usize = 3 * events::identity::ORIGIN_NAME_BYTES_MAX;
const _: () = assert!(ORIGIN_BYTES_MAX + 32 + RANGES_MAX * RANGE_BYTES_MAX <= ROW_BYTES_MAX);

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

/// What a record takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These bytes; none if all were taken before.
    Takes(Vec<Range<u64>>),
    /// Nothing, as there is no room for another piece. These bytes are still free.
    Refused(Vec<Range<u64>>),
}

impl Taken {
    /// What the record at `position` takes of `from..to`. `ahead`: the mark already holds this record's answer.
    pub fn take(&mut self, from: u64, to: u64, position: SequenceNumber, ahead: bool) -> Result<Answer, Overtaken> {
        let overlapping = || self.ranges.iter().filter(|range| range.from < to && from < range.to);
        let is_overtaken = overlapping().any(|range| range.joined && range.position >= position);
        if is_overtaken && !sabotage::breaks(Sabotage::OvertakenNotSeen) {
            return Err(Overtaken);
        }
        if ahead {
            // A record that was not refused left nothing free.
            let left = gaps(from..to, overlapping().filter(|range| range.position <= position));
            if !left.is_empty() && !sabotage::breaks(Sabotage::RefusalForgotten) {
                return Ok(Answer::Refused(left));
            }
            let ours = overlapping().filter(|range| range.position == position);
            return Ok(Answer::Takes(ours.map(|range| range.from.max(from)..range.to.min(to)).collect()));
        }
        let free = gaps(from..to, overlapping());
        if !self.has_room(from, to) {
            return Ok(if free.is_empty() { Answer::Takes(free) } else { Answer::Refused(free) });
        }
        for range in &free {
            let place = self.ranges.partition_point(|other| other.from < range.start);
            self.ranges.insert(place, TakenRange { from: range.start, to: range.end, position, joined: false });
        }
        Ok(Answer::Takes(free))
    }

    /// True if `from..to` can be taken whole: it makes no piece more than there are, or not too many.
    fn has_room(&self, from: u64, to: u64) -> bool {
        let pieces_max = limits().pieces;
        if sabotage::breaks(Sabotage::RangesCounted) {
            return self.ranges.len() < pieces_max;
        }
        if self.ranges.len() < pieces_max {
            return true;
        }
        let (mut pieces, mut reached, mut end, mut reaches) = (0, 0, None, false);
        for range in &self.ranges {
            if end != Some(range.from) {
                pieces += 1;
                reached += usize::from(reaches);
                reaches = false;
            }
            reaches |= range.from <= to && from <= range.to;
            end = Some(range.to);
        }
        reached += usize::from(reaches);
        // Whatever it reaches becomes one piece with it.
        pieces + 1 - reached <= pieces.max(pieces_max)
    }

    /// True if a position before this one took the byte.
    pub fn holds(&self, byte: u64, before: SequenceNumber) -> bool {
        self.ranges.iter().any(|range| (range.from..range.to).contains(&byte) && range.position < before)
    }

    /// True if it is time to commit, so that ranges can be joined.
    pub fn is_crowded(&self) -> bool {
        self.ranges.len() > RANGES_CROWDED
    }

    /// Joins neighbours that lie behind the resume point.
    pub fn join(&mut self, resume_point: SequenceNumber) {
        self.ranges.dedup_by(|next, range| {
            let joins = range.to == next.from && range.position.max(next.position) <= resume_point;
            if joins {
                range.to = next.to;
                range.position = match sabotage::breaks(Sabotage::JoinKeepsLowest) {
                    false => range.position.max(next.position),
                    true => range.position.min(next.position),
                };
                range.joined = true;
            }
            joins
        });
    }
}

impl Taken {
    /// Takes over what an ancestor of the shard took, which no record of this shard can have taken before: all of it lies behind every resume
    /// point of this one, so it is joined.
    pub fn inherit(&mut self, mut older: Self) {
        if self.origin.is_empty() {
            self.origin = older.origin;
        }
        older.ranges.iter_mut().for_each(|range| range.joined = true);
        for range in older.ranges {
            let overlapping = self.ranges.iter().filter(|own| own.from < range.to && range.from < own.to);
            for free in gaps(range.from..range.to, overlapping) {
                let place = self.ranges.partition_point(|other| other.from < free.start);
                self.ranges.insert(place, TakenRange { from: free.start, to: free.end, ..range });
            }
        }
        self.join(SequenceNumber::MAX);
    }
}

/// What of `whole` none of these ranges, which come in order, covers.
fn gaps<'a>(whole: Range<u64>, ranges: impl Iterator<Item = &'a TakenRange>) -> Vec<Range<u64>> {
    let (mut free, mut at) = (vec![], whole.start);
    for range in ranges {
        if at < range.from {
            free.push(at..range.from);
        }
        at = at.max(range.to);
    }
    if at < whole.end {
        free.push(at..whole.end);
    }
    free
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
        let origin = canonical::take_text(input, ORIGIN_BYTES_MAX, "origin")?.to_owned();
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
