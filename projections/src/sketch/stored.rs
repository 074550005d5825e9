//! A stored sketch as it lies: keys and counts straight from its bytes, which ascend already, so that a reader who wants a few ranks builds no
//! table. It must accept the bytes that [`super::Sketch::decode`] accepts and no others: both read through [`each`].

use super::{
    BINS_MAX,
    bucket::{BUCKETS_PER_OCTAVE, KEY_MAX, LEVEL_MAX, is_key, joined, key_of, middle, parts},
};
use crate::canonical::{DecodeError, take_varint};

const WHAT: &str = "sketch";

const OUT_OF_RANGE: DecodeError = DecodeError::OutOfRange { what: WHAT };

/// Keys that a dense array spans when sketches are added up (64 octaves at level 0); what spans more is sorted.
const DENSE_KEYS_MAX: i64 = 64 * BUCKETS_PER_OCTAVE as i64;

/// So many numbers of keys begin a sketch of each level.
pub(super) const HEADS_PER_LEVEL: u64 = BINS_MAX as u64 + 1;

/// A key and how many values have it.
pub(crate) type Counted = (i32, u64);

/// What a sketch says: keys of one level, which ascend, each once.
#[derive(Debug, PartialEq)]
pub(crate) struct Counts {
    pub(crate) level: u32,
    pub(crate) counts: Vec<Counted>,
}

impl Counts {
    /// Of keys of level 0, which ascend, a key perhaps more than once; at the least level that fits, and at this one at least.
    pub(super) fn of(level: u32, counts: Vec<Counted>) -> Self {
        let mut all = Counts { level: 0, counts };
        all.join(level);
        all.fit();
        all
    }

    /// Joins all keys in pairs until there are at most `BINS_MAX`, which [`LEVEL_MAX`] is enough for.
    fn fit(&mut self) {
        while self.counts.len() > BINS_MAX {
            self.join(1);
        }
    }

    /// Goes up so many levels, and makes one of equal keys.
    fn join(&mut self, levels: u32) {
        self.level += levels;
        if levels > 0 {
            self.counts.iter_mut().for_each(|(key, _)| *key = joined(*key, levels));
        }
        self.counts.dedup_by(|(key, n), (kept_key, kept)| {
            let same = key == kept_key;
            if same {
                *kept = kept.saturating_add(*n);
            }
            same
        });
    }
}

/// The least and the greatest key of a sketch, and their level.
pub(crate) struct Ends {
    pub(crate) level: u32,
    pub(crate) least: i32,
    pub(crate) greatest: i32,
}

impl Ends {
    pub(crate) fn of(level: u32, counts: &[Counted]) -> Option<Self> {
        Some(Self { level, least: counts.first()?.0, greatest: counts.last()?.0 })
    }

    /// Whether these may be the least and the greatest value.
    pub(crate) fn are_of(&self, min: f64, max: f64) -> bool {
        [min, max].map(|v| joined(key_of(v), self.level)) == [self.least, self.greatest]
    }
}

/// What is at the front of a sketch.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) level: u32,
    /// Keys that follow.
    pub(super) len: usize,
}

pub(super) fn head(input: &mut &[u8]) -> Result<Head, DecodeError> {
    let head = take_varint(input, WHAT)?;
    let (level, len) = (head / HEADS_PER_LEVEL, (head % HEADS_PER_LEVEL) as usize);
    // Each key has two parts a level down, at most, where they were too many.
    if level > u64::from(LEVEL_MAX) || level > 0 && 2 * len <= BINS_MAX {
        return Err(OUT_OF_RANGE);
    }
    Ok(Head { level: level as u32, len })
}

/// What the first key of a level is counted from.
pub(super) fn before_first(level: u32) -> i32 {
    -joined(KEY_MAX, level) - 1
}

/// Calls `take` with so many keys, ascending, and their counts. An error may come after that.
#[inline]
pub(super) fn each(input: &mut &[u8], head: Head, mut take: impl FnMut(i32, u64)) -> Result<(), DecodeError> {
    let Head { level, len } = head;
    let mut rest = *input;
    let mut before = before_first(level);
    // Buckets that these values may have a level down.
    let mut finer = 0;
    for _ in 0..len {
        let (key, n) = match rest {
            // Nearly all take one byte each. Whether a count follows is as good as random, so it is no branch.
            &[head, next, ..] if (head | next & (head & 1).wrapping_neg()) < 0x80 => {
                let counted = head & 1;
                rest = &rest[1 + usize::from(counted)..];
                (before + 1 + i32::from(head >> 1), 1 + u64::from(counted) * (1 + u64::from(next)))
            }
            _ => {
                let head = take_varint(&mut rest, WHAT)?;
                let n = match head & 1 {
                    0 => 1,
                    _ => take_varint(&mut rest, WHAT)?.checked_add(2).ok_or(OUT_OF_RANGE)?,
                };
                let gap = i64::try_from(head >> 1).expect("63 bits");
                let key = gap.saturating_add(i64::from(before) + 1);
                (i32::try_from(key).map_err(|_| OUT_OF_RANGE)?, n)
            }
        };
        if !is_key(key, level) {
            return Err(OUT_OF_RANGE);
        }
        if level > 0 {
            finer += n.min(parts(key, level));
        }
        take(key, n);
        before = key;
    }
    if level > 0 && finer <= BINS_MAX as u64 {
        // They would have been written a level down.
        return Err(DecodeError::NotCanonical { what: WHAT });
    }
    *input = rest;
    Ok(())
}

/// What follows the head.
pub(super) fn rest(input: &mut &[u8], head: Head) -> Result<Counts, DecodeError> {
    let mut counts = Vec::with_capacity(head.len.min(input.len()));
    each(input, head, |key, n| counts.push((key, n)))?;
    Ok(Counts { level: head.level, counts })
}

/// Appends the keys and counts of the sketch at the front of `input`; their level, and how many values it has.
pub(crate) fn read(input: &mut &[u8], into: &mut Vec<Counted>) -> Result<(u32, u64), DecodeError> {
    let head = head(input)?;
    into.reserve(head.len.min(input.len()));
    let mut count = 0u64;
    each(input, head, |key, n| {
        count = count.saturating_add(n);
        into.push((key, n));
    })?;
    Ok((head.level, count))
}

/// Values at ranks, asked for in ascending order: one walk for all of them.
pub(crate) struct Ranks<'a> {
    level: u32,
    counts: std::slice::Iter<'a, Counted>,
    /// The key that was reached, and how many values lie at or below it.
    reached: (i32, u64),
}

impl<'a> Ranks<'a> {
    /// Of keys that ascend.
    pub(crate) fn of(level: u32, counts: &'a [Counted]) -> Self {
        Self { level, counts: counts.iter(), reached: (0, 0) }
    }

    /// The estimate for the value at `rank`, from 1 to the count, and not below the rank that was asked for before.
    pub(crate) fn at(&mut self, rank: u64) -> f64 {
        while self.reached.1 < rank {
            let (key, n) = self.counts.next().expect("a rank is at most the count");
            self.reached = (*key, self.reached.1.saturating_add(*n));
        }
        middle(self.reached.0, self.level)
    }
}

/// Adds sketches up, again and again in the same memory.
#[derive(Default)]
pub(crate) struct Sums {
    /// All zero between two sums.
    dense: Vec<u64>,
}

impl Sums {
    /// The keys and counts of all parts together, each of which ascends: what a sketch of all their values has. A part comes with its level.
    pub(crate) fn of<'a>(&mut self, all: impl Iterator<Item = (u32, &'a [Counted])> + Clone) -> Counts {
        let level = all.clone().map(|(level, _)| level).max().unwrap_or_default();
        let ends = |(from, part): (u32, &[Counted])| {
            let up = |(key, _): &Counted| joined(*key, level - from);
            Some((up(part.first()?), up(part.last()?)))
        };
        let ends = all.clone().filter_map(ends).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let Some((least, greatest)) = ends else { return Counts { level: 0, counts: vec![] } };
        let span = i64::from(greatest) - i64::from(least) + 1;
        let mut sum = Counts { level, counts: vec![] };
        if span > DENSE_KEYS_MAX {
            let up =
                |(from, part): (u32, &'a [Counted])| part.iter().map(move |(key, n)| (joined(*key, level - from), *n));
            sum.counts = all.flat_map(up).collect();
            sum.counts.sort_unstable_by_key(|(key, _)| *key);
            sum.join(0);
        } else {
            if self.dense.len() < span as usize {
                self.dense.resize(span as usize, 0);
            }
            let mut add = |key: i32, n: u64| {
                let count = &mut self.dense[(key - least) as usize];
                *count = count.saturating_add(n);
            };
            for (from, part) in all {
                match level - from {
                    0 => part.iter().for_each(|(key, n)| add(*key, *n)),
                    levels => part.iter().for_each(|(key, n)| add(joined(*key, levels), *n)),
                }
            }
            let counts = self.dense[..span as usize].iter_mut().zip(least..).map(|(n, key)| (key, std::mem::take(n)));
            sum.counts = counts.filter(|(_, n)| *n > 0).collect();
        }
        sum.fit();
        sum
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        sketch::{Sketch, rank, tests::wide},
        sum::tests::value,
    };

    fn counts_of(sketch: &Sketch) -> (Vec<u8>, Counts, u64) {
        let mut bytes = vec![];
        sketch.encode(&mut bytes);
        let (mut input, mut counts) = (&bytes[..], vec![]);
        let (level, count) = read(&mut input, &mut counts).unwrap();
        assert!(input.is_empty());
        (bytes, Counts { level, counts }, count)
    }

    /// Near each other, all over the range, or at any level.
    fn sketches() -> impl Strategy<Value = Sketch> {
        let near = prop::collection::vec((1.0f64..1e4, 1u64..300), 0..300);
        let far = prop::collection::vec((value(), 1u64..3), 0..60);
        let many = (wide(), 1u64..3).prop_map(|(values, n)| values.into_iter().map(|v| (v, n)).collect());
        prop_oneof![2 => near, 2 => far, 2 => many].prop_map(|values: Vec<_>| {
            let mut sketch = Sketch::default();
            values.iter().for_each(|(v, n)| sketch.add_times(*v, *n));
            sketch
        })
    }

    proptest! {
        #[test]
        fn a_stored_sketch_has_the_ranks_of_the_one_that_was_written(
            sketch in sketches(), mut qs in prop::collection::vec(0.0..=1.0, 1..5),
        ) {
            let (_, counts, count) = counts_of(&sketch);
            prop_assert_eq!(count, sketch.count());
            prop_assert_eq!(counts.level, sketch.level());
            qs.sort_by(f64::total_cmp);
            let mut ranks = Ranks::of(counts.level, &counts.counts);
            for q in qs {
                prop_assert_eq!(rank(q, count).map(|rank| ranks.at(rank)), sketch.quantile(q));
            }
        }

        #[test]
        fn sums_of_stored_sketches_are_the_merged_sketch(groups in prop::collection::vec(prop::collection::vec(sketches(), 0..5), 1..4)) {
            let mut sums = Sums::default();
            for sketches in groups {
                let mut merged = Sketch::default();
                sketches.iter().for_each(|sketch| merged.merge(sketch));
                let parts: Vec<_> = sketches.iter().map(|sketch| counts_of(sketch).1).collect();
                let summed = sums.of(parts.iter().map(|part| (part.level, &part.counts[..])));
                prop_assert_eq!(summed, merged.ascending().counts());
            }
        }

        #[test]
        fn bytes_are_refused_or_accepted_as_the_whole_sketch_refuses_or_accepts_them(
            sketch in sketches(), at in any::<prop::sample::Index>(), to: u8, cut: bool, noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (mut bytes, ..) = counts_of(&sketch);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if cut { bytes.truncate(at); }
            for bytes in [bytes, noise] {
                let (mut here, mut there, mut counts) = (&bytes[..], &bytes[..], vec![]);
                match (read(&mut here, &mut counts), Sketch::decode(&mut there)) {
                    (Ok((level, count)), Ok(whole)) => {
                        prop_assert_eq!((here, count), (there, whole.count()));
                        prop_assert_eq!(Counts { level, counts }, whole.ascending().counts());
                        let mut written = vec![];
                        whole.encode(&mut written);
                        prop_assert_eq!(&written[..], &bytes[..bytes.len() - here.len()]);
                    }
                    (here, there) => prop_assert_eq!(here.err(), there.err()),
                }
            }
        }
    }
}
