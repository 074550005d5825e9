//! A stored sketch as it lies: keys and counts straight from its bytes, which ascend already, so that a reader who wants a few ranks builds no
//! table. It must accept the bytes that [`super::Sketch::decode`] accepts and no others: both read through [`each`].

use super::{BINS_MAX, BUCKETS_PER_OCTAVE, KEY_MAX, highest, is_key, joined, middle};
use crate::canonical::{DecodeError, take_varint};

const WHAT: &str = "sketch";

/// Keys that a dense array spans when sketches are added up (64 octaves); what spans more is sorted.
const DENSE_KEYS_MAX: i64 = 64 * BUCKETS_PER_OCTAVE as i64;

/// A key and how many values have it.
pub(crate) type Counted = (i32, u64);

/// The number of keys, at the front of a sketch.
pub(super) fn len(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let len = take_varint(input, WHAT)?;
    usize::try_from(len).ok().filter(|len| *len <= BINS_MAX).ok_or(DecodeError::OutOfRange { what: WHAT })
}

/// Calls `take` with so many keys, ascending, and their counts.
#[inline]
pub(super) fn each(input: &mut &[u8], len: usize, mut take: impl FnMut(i32, u64)) -> Result<(), DecodeError> {
    let out_of_range = DecodeError::OutOfRange { what: WHAT };
    let mut rest = *input;
    let mut before = -KEY_MAX - 1;
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
                    _ => take_varint(&mut rest, WHAT)?.checked_add(2).ok_or(out_of_range)?,
                };
                let gap = i64::try_from(head >> 1).expect("63 bits");
                let key = gap.saturating_add(i64::from(before) + 1);
                (i32::try_from(key).map_err(|_| out_of_range)?, n)
            }
        };
        if !is_key(key) {
            return Err(out_of_range);
        }
        take(key, n);
        before = key;
    }
    *input = rest;
    Ok(())
}

/// Appends the keys and counts of the sketch at the front of `input`; how many values it has.
pub(crate) fn read(input: &mut &[u8], into: &mut Vec<Counted>) -> Result<u64, DecodeError> {
    let len = len(input)?;
    into.reserve(len.min(input.len()));
    let mut count = 0u64;
    each(input, len, |key, n| {
        count = count.saturating_add(n);
        into.push((key, n));
    })?;
    Ok(count)
}

/// True if a sketch with so many keys may have joined low ones.
pub(crate) fn is_full(keys: usize) -> bool {
    keys >= BINS_MAX
}

/// Values at ranks, asked for in ascending order: one walk for all of them.
pub(crate) struct Ranks<'a> {
    counts: std::slice::Iter<'a, Counted>,
    /// The key that was reached, and how many values lie at or below it.
    reached: (i32, u64),
}

impl<'a> Ranks<'a> {
    /// Of keys that ascend.
    pub(crate) fn of(counts: &'a [Counted]) -> Self {
        Self { counts: counts.iter(), reached: (0, 0) }
    }

    /// The estimate for the value at `rank`, from 1 to the count, and not below the rank that was asked for before.
    pub(crate) fn at(&mut self, rank: u64) -> f64 {
        while self.reached.1 < rank {
            let (key, n) = self.counts.next().expect("a rank is at most the count");
            self.reached = (*key, self.reached.1.saturating_add(*n));
        }
        middle(self.reached.0)
    }
}

/// Adds sketches up, again and again in the same memory.
#[derive(Default)]
pub(crate) struct Sums {
    /// All zero between two sums.
    dense: Vec<u64>,
}

impl Sums {
    /// The keys and counts of all parts together, each of which ascends: what a sketch of all their values has.
    pub(crate) fn of<'a>(&mut self, parts: impl Iterator<Item = &'a [Counted]> + Clone) -> Vec<Counted> {
        let ends = |part: &[Counted]| Some((part.first()?.0, part.last()?.0));
        let ends = parts.clone().filter_map(ends).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let Some((least, greatest)) = ends else { return vec![] };
        let span = i64::from(greatest) - i64::from(least) + 1;
        if span > DENSE_KEYS_MAX {
            let mut all: Vec<Counted> = parts.flatten().copied().collect();
            all.sort_unstable_by_key(|(key, _)| *key);
            return highest(joined(all));
        }
        if self.dense.len() < span as usize {
            self.dense.resize(span as usize, 0);
        }
        for (key, n) in parts.flatten() {
            let count = &mut self.dense[(key - least) as usize];
            *count = count.saturating_add(*n);
        }
        let counts = self.dense[..span as usize].iter_mut().zip(least..).map(|(n, key)| (key, std::mem::take(n)));
        highest(counts.filter(|(_, n)| *n > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        sketch::{Sketch, rank},
        sum::tests::value,
    };

    fn counts_of(sketch: &Sketch) -> (Vec<u8>, Vec<Counted>, u64) {
        let mut bytes = vec![];
        sketch.encode(&mut bytes);
        let (mut input, mut counts) = (&bytes[..], vec![]);
        let count = read(&mut input, &mut counts).unwrap();
        assert!(input.is_empty());
        (bytes, counts, count)
    }

    /// Near each other, all over the range, or more keys than are kept.
    fn sketches() -> impl Strategy<Value = Sketch> {
        let near = prop::collection::vec((1.0f64..1e4, 1u64..300), 0..300);
        let far = prop::collection::vec((value(), 1u64..3), 0..60);
        let many = (0u32..2000, 1u64..3).prop_map(|(keys, n)| {
            let up = f64::from(BUCKETS_PER_OCTAVE).recip().exp2();
            (0..keys).map(|key| (up.powi(key as i32), n)).collect()
        });
        prop_oneof![4 => near, 2 => far, 1 => many].prop_map(|values| {
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
            prop_assert_eq!(is_full(counts.len()), sketch.is_full());
            qs.sort_by(f64::total_cmp);
            let mut ranks = Ranks::of(&counts);
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
                let summed = sums.of(parts.iter().map(Vec::as_slice));
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
                    (Ok(count), Ok(whole)) => {
                        prop_assert_eq!((here, count, counts), (there, whole.count(), whole.ascending().counts()));
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
