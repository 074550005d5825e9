//! Decides how the counts of a busy window lie in memory: an array around most keys, a tree for strays; must never lose one.
//!
//! Where a count lies depends on the order of arrival and means nothing: a key's count is what both places say together. Keys are of level 0, so that
//! to add one asks for no level; a joined bucket lies at its [`first`] key, and whoever reads joins all keys to `level` at least.

use std::collections::BTreeMap;

use super::{first, stored::Counts};

/// Keys that one array may span (32 octaves: a microsecond to an hour); four bytes each. A key further off goes to the
/// tree, which costs more time and is bounded by `STRAYS_MAX`.
const ARRAY_KEYS_MAX: u32 = 32 * OCTAVE;

/// Arrays begin and end at whole octaves, so that they seldom grow.
const OCTAVE: u32 = super::bucket::BUCKETS_PER_OCTAVE as u32;

/// Counts by key: zero, and both signs by size.
#[derive(Clone, Default)]
pub(super) struct Table {
    /// Some counts are known no finer.
    pub(super) level: u32,
    zero: u64,
    positive: Side,
    negative: Side,
}

impl Table {
    pub(super) fn of(mut keys: Vec<i32>) -> Table {
        let mut table = Table::default();
        let spanned = table.positive.span(keys.iter().copied()) && table.negative.span(keys.iter().map(|key| -key));
        if !spanned {
            // An array settles around its first key, which should not be a stray one.
            let middle = keys.len() / 2;
            keys.select_nth_unstable(middle);
            keys.swap(0, middle);
        }
        keys.iter().for_each(|&key| table.add(key, 1));
        table
    }

    /// A table with these counts.
    pub(super) fn counted(Counts { level, counts }: &Counts) -> Table {
        let mut table = Table { level: *level, ..Table::default() };
        // From the highest down: the array settles around what most readers ask for, and is bounded downwards.
        counts.iter().rev().for_each(|&(key, n)| table.add(first(key, *level), n));
        table
    }

    /// Keys that no array reaches.
    #[inline]
    pub(super) fn strays(&self) -> usize {
        self.positive.far.len() + self.negative.far.len()
    }

    #[inline]
    pub(super) fn add(&mut self, key: i32, n: u64) {
        match key {
            1.. => self.positive.add(key as u32, n),
            0 => self.zero = self.zero.saturating_add(n),
            _ => self.negative.add(key.unsigned_abs(), n),
        }
    }

    /// Every key with a count, in no order, a key perhaps twice.
    pub(super) fn counts(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let negative = self.negative.counts().map(|(size, n)| (-(size as i32), n));
        let zero = (self.zero > 0).then_some((0, self.zero));
        negative.chain(zero).chain(self.positive.counts().map(|(size, n)| (size as i32, n)))
    }
}

#[derive(Clone, Default)]
struct Side {
    /// The key of `near[0]`.
    first: u32,
    near: Vec<u32>,
    far: BTreeMap<u32, u64>,
}

impl Side {
    #[inline]
    fn add(&mut self, key: u32, n: u64) {
        if let Some(count) = self.near.get_mut(key.wrapping_sub(self.first) as usize)
            && let Some(more) = u64::from(*count).checked_add(n)
            && let Ok(more) = u32::try_from(more)
        {
            *count = more;
            return;
        }
        self.add_uncovered(key, n);
    }

    /// Makes the array reach all of `keys` that are positive, at once; false if it may not.
    fn span(&mut self, keys: impl Iterator<Item = i32>) -> bool {
        let (least, greatest) = keys
            .filter(|&key| key > 0)
            .fold((u32::MAX, 0), |(least, greatest), key| (least.min(key as u32), greatest.max(key as u32)));
        if greatest == 0 {
            return true;
        }
        let (first, end) = (least - least % OCTAVE, greatest - greatest % OCTAVE + OCTAVE);
        let fits = end - first <= ARRAY_KEYS_MAX;
        if fits {
            (self.first, self.near) = (first, vec![0; (end - first) as usize]);
        }
        fits
    }

    /// Keys that the array does not reach yet, and counts too large for it.
    #[cold]
    fn add_uncovered(&mut self, key: u32, n: u64) {
        let octave = key - key % OCTAVE;
        let end = self.first + self.near.len() as u32;
        let (first, end) = match self.near.is_empty() {
            true => (octave, octave + OCTAVE),
            false => (self.first.min(octave), end.max(octave + OCTAVE)),
        };
        let covered = (self.first..self.first + self.near.len() as u32).contains(&key);
        match u32::try_from(n) {
            Ok(n) if !covered && end - first <= ARRAY_KEYS_MAX => {
                let mut near = vec![0; (end - first) as usize];
                let shift = (self.first.max(first) - first) as usize;
                near[shift..shift + self.near.len()].copy_from_slice(&self.near);
                near[(key - first) as usize] = n;
                (self.first, self.near) = (first, near);
            }
            _ => {
                let count = self.far.entry(key).or_default();
                *count = count.saturating_add(n);
            }
        }
    }

    fn counts(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let near = (self.first..).zip(&self.near).filter(|&(_, &n)| n > 0).map(|(key, &n)| (key, u64::from(n)));
        near.chain(self.far.iter().map(|(&key, &n)| (key, n)))
    }
}
