//! What a header says of a batch's lines: which were cut by ingest, and which are new. Decides it line by line, in the order of the body.
//!
//! Invariant: it only ever goes forward, so a batch costs its lines, edits and ranges added up, not multiplied: each of them may be many in a
//! small request.

use std::ops::Range;

use events::wire::{Edit, Header, Removed};

/// A walk along a batch's lines, with its edits and the ranges of the origin that are new beside them.
pub(super) struct Beside<'a> {
    /// What was not passed yet, in order.
    edits: &'a [Edit],
    /// What was not passed yet, in order; `None`: all is new.
    fresh: Option<&'a [Range<u64>]>,
    /// Where the batch begins in its origin; `None`: it has none, and all is new.
    from: Option<u64>,
    /// Bytes of the origin that the passed edits removed.
    removed: u64,
    #[cfg(test)]
    steps: usize,
}

/// What is said of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Ingest kept only the head of it.
    pub(super) is_cut: bool,
    /// Its first byte in the origin is in one of the ranges.
    pub(super) is_fresh: bool,
}

impl<'a> Beside<'a> {
    /// `fresh`: in order, without overlap.
    pub(super) fn new(header: &'a Header, fresh: Option<&'a [Range<u64>]>) -> Self {
        let from = header.extent.as_ref().map(|extent| extent.from);
        Self {
            edits: &header.edits,
            fresh,
            from,
            removed: 0,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// What is said of the line of so many bytes (without its newline) at `at` in the body. Lines come in order; any may be left out.
    pub(super) fn line(&mut self, at: usize, length: usize) -> Said {
        // What stands before the line moves it in the origin; what stands in it does not.
        while let Some(edit) = self.next_edit(at.checked_sub(1)) {
            self.removed = self.removed.saturating_add(edit.removed_bytes);
        }
        let is_fresh = self.is_fresh(at);
        let mut is_cut = false;
        while let Some(edit) = self.next_edit(Some(at + length)) {
            self.removed = self.removed.saturating_add(edit.removed_bytes);
            is_cut |= edit.reason == Removed::TooLong;
        }
        Said { is_cut, is_fresh }
    }

    /// Passes the next edit, if it stands at or before a place in the body.
    fn next_edit(&mut self, last: Option<usize>) -> Option<&'a Edit> {
        let (edit, rest) = self.edits.split_first()?;
        if edit.body_offset as usize > last? {
            return None;
        }
        self.edits = rest;
        self.step();
        Some(edit)
    }

    fn is_fresh(&mut self, at: usize) -> bool {
        self.step();
        let (Some(ranges), Some(from)) = (&mut self.fresh, self.from) else { return true };
        let offset = from.saturating_add(at as u64).saturating_add(self.removed);
        while let Some((range, rest)) = ranges.split_first()
            && range.end <= offset
        {
            *ranges = rest;
            #[cfg(test)]
            {
                self.steps += 1;
            }
        }
        ranges.first().is_some_and(|range| range.contains(&offset))
    }

    fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::{
        identity::{Origin, OriginKind},
        wire::{Content, Extent},
    };
    use proptest::prelude::*;

    use super::*;

    fn header(edits: Vec<Edit>, from: u64) -> Header {
        let origin = Origin { kind: OriginKind::File, name: "/a".into(), version: "1".into() };
        Header {
            edits,
            extent: Some(Extent { origin, from, to: u64::MAX }),
            ..Header::plain("t", Content::Lines, 0, 0)
        }
    }

    fn edit(body_offset: u32, removed_bytes: u64, too_long: bool) -> Edit {
        let reason = if too_long { Removed::TooLong } else { Removed::Redacted };
        Edit { body_offset, removed_bytes, reason }
    }

    /// The same by looking at all edits and ranges for each line.
    fn looked_up(header: &Header, fresh: &[Range<u64>], at: usize, length: usize) -> Said {
        let place = |edit: &Edit| edit.body_offset as usize;
        let reached = |edit: &&Edit| (at..=at + length).contains(&place(edit));
        let is_cut = header.edits.iter().filter(reached).any(|edit| edit.reason == Removed::TooLong);
        let removed: u64 = header.edits.iter().filter(|edit| place(edit) < at).map(|edit| edit.removed_bytes).sum();
        let offset = header.extent.as_ref().unwrap().from + at as u64 + removed;
        Said { is_cut, is_fresh: fresh.iter().any(|range| range.contains(&offset)) }
    }

    proptest! {
        #[test]
        fn it_says_what_a_look_at_everything_says(
            lengths in prop::collection::vec((0..4usize, any::<bool>()), 0..30),
            mut edits in prop::collection::vec((0..60u32, 0..9u64, any::<bool>()), 0..12),
            ranges in prop::collection::vec((0..9u64, 1..9u64), 0..9), from in 0..5u64,
        ) {
            edits.sort_unstable();
            let header = header(edits.into_iter().map(|(at, removed, cut)| edit(at, removed, cut)).collect(), from);
            let mut end = 0;
            let ranges: Vec<_> = ranges.into_iter().map(|(gap, length)| {
                let start = end + gap;
                end = start + length;
                start..end
            }).collect();
            let (mut beside, mut at) = (Beside::new(&header, Some(&ranges)), 0);
            for (length, asked) in lengths {
                if asked {
                    prop_assert_eq!(beside.line(at, length), looked_up(&header, &ranges, at, length));
                }
                at += length + 1;
            }
        }
    }

    #[test]
    fn many_lines_with_many_edits_and_ranges_cost_their_sum() {
        const LINES: usize = 100_000;
        const MANY: usize = 1_000;
        // Half of them at the end, where a look from the start is longest.
        let place = |i: usize| if i.is_multiple_of(2) { i as u32 } else { (LINES - MANY + i) as u32 };
        let mut places: Vec<u32> = (0..MANY).map(place).collect();
        places.sort_unstable();
        let header = header(places.into_iter().map(|at| edit(at, 1, false)).collect(), 0);
        let ranges: Vec<_> = (0..MANY as u64).map(|i| 2 * i..2 * i + 1).collect();
        let mut beside = Beside::new(&header, Some(&ranges));
        // Blank lines: a byte each.
        (0..LINES).for_each(|at| {
            beside.line(at, 0);
        });
        assert!(beside.steps <= LINES + 2 * MANY, "{} steps", beside.steps);
    }
}
