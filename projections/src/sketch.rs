//! Decides what is kept of a window's values for quantiles: a count for each bucket; must never depend on their order.
//!
//! - A bucket is 1/64 of an octave: the exponent of the value and six bits after its leading one. Its middle is within
//!   1/128 (0.79 %) of every value in it; the stated error is [`RELATIVE_ERROR`]. Zero has its own bucket, each sign has
//!   its own buckets, and subnormals have octaves like all others.
//! - Keys number the buckets in the order of their values. What is kept is (key, count) and nothing else, so a merge is an
//!   addition, and any order, batching or sharding of the same values gives the same bytes.
//! - At most [`BINS_MAX`] keys are kept: the highest ones, and what lies below the lowest of them counts there. Which keys are kept is decided by
//!   the set of all values alone, so this too is the same in any order; only low quantiles of a window that spans more lose their error bound.
//! - In memory keys stand in a list as they come, since most windows have few, and from [`LISTED_MAX`] on in a table.
//! - The bytes: varint(number of keys), then for each, ascending, varint(2 × (key − the key before − 1) + (count > 1)) and,
//!   where count > 1, varint(count − 2). The key before the first is −`KEY_MAX` − 1. So a value that is alone in its
//!   bucket takes a byte, or two when the next is an octave off.

pub(crate) mod stored;
mod table;

use self::table::Table;
use crate::canonical::{DecodeError, put_varint, take_varint};
use crate::sum::VALUE_ABS_MAX;

/// A quantile is within this share of the exact nearest-rank one.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Values of a window that are listed one by one, 4 bytes each; more go to a table.
pub const LISTED_MAX: usize = 128;

/// Capacities of the list: most windows pass one or two of them.
const LISTED_STEPS: [usize; 3] = [16, 64, LISTED_MAX];

/// Most keys of a sketch: sixteen octaves without a gap, a microsecond to a minute. A row must fit into one item whatever its lines say.
pub const BINS_MAX: usize = 1024;

/// Most bytes of an encoded sketch: a key takes up to 3 and its count up to 10.
pub const ENCODED_BYTES_MAX: usize = 3 + 13 * BINS_MAX;

/// The key of 2^360: 1434 octaves above 2^-1074, whose key is 1.
const KEY_MAX: i32 = 1434 * BUCKETS_PER_OCTAVE + 1;

const BUCKETS_PER_OCTAVE: i32 = 64;

/// Keys beside the arrays at which the table is made anew from its highest keys.
const STRAYS_MAX: usize = 4 * BINS_MAX;

/// Bits of an f64 below the exponent and the six that choose a bucket.
const BITS_BELOW_BUCKET: u32 = 46;

/// Counts of values by bucket. Counts, and their total, stop at 2^64 − 1.
#[derive(Clone, Default)]
pub struct Sketch {
    /// Empty once there is a table.
    listed: Vec<i32>,
    table: Option<Box<Table>>,
}

impl Sketch {
    /// Counts a value, which must be finite and within ±2^360.
    #[inline]
    pub fn add(&mut self, v: f64) {
        debug_assert!(v.abs() <= VALUE_ABS_MAX, "{v} is not a finite number within ±2^360");
        let key = key_of(v);
        match &mut self.table {
            Some(table) if table.strays() <= STRAYS_MAX => table.add(key, 1),
            None if self.listed.len() < self.listed.capacity() => self.listed.push(key),
            _ => self.add_key(key, 1),
        }
    }

    /// Counts a value `n` times.
    pub fn add_times(&mut self, v: f64, n: u64) {
        debug_assert!(v.abs() <= VALUE_ABS_MAX, "{v} is not a finite number within ±2^360");
        if n > 0 {
            self.add_key(key_of(v), n);
        }
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Sketch) {
        match &other.table {
            Some(table) => table.counts().for_each(|(key, n)| self.add_key(key, n)),
            None => other.listed.iter().for_each(|&key| self.add_key(key, 1)),
        }
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        match &self.table {
            Some(table) => table.counts().fold(0, |sum, (_, n)| sum.saturating_add(n)),
            None => self.listed.len() as u64,
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.table.is_none() && self.listed.is_empty()
    }

    /// The value at [`rank`] in ascending order, within [`RELATIVE_ERROR`]; `None` if there is no value or `q` is not in 0..=1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        Some(self.ascending().at(rank(q, self.count())?))
    }

    /// Appends the canonical bytes: 1 to [`ENCODED_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.ascending() {
            Ascending::Listed(keys) => {
                let runs = || keys.chunk_by(|a, b| a == b);
                put_counts(out, runs().count(), runs().map(|run| (run[0], run.len() as u64)));
            }
            Ascending::Counted(counts) => put_counts(out, counts.len(), counts.into_iter()),
        }
    }

    /// Takes the sketch that [`Sketch::encode`] wrote off the front of `input`, and refuses any other bytes. Memory stays
    /// in proportion to the bytes.
    pub fn decode(input: &mut &[u8]) -> Result<Sketch, DecodeError> {
        let mut sketch = Sketch::default();
        let len = stored::len(input)?;
        sketch.listed.reserve_exact(LISTED_MAX.min(input.len()).min(len));
        stored::each(input, len, |key, n| {
            if n == 1 && sketch.table.is_none() && sketch.listed.len() < sketch.listed.capacity() {
                sketch.listed.push(key);
            } else {
                sketch.add_key(key, n);
            }
        })?;
        Ok(sketch)
    }

    /// Passes over what [`Sketch::encode`] wrote, by its lengths alone.
    pub fn pass(input: &mut &[u8]) -> Result<(), DecodeError> {
        for _ in 0..take_varint(input, "sketch")? {
            if take_varint(input, "sketch")? & 1 == 1 {
                take_varint(input, "sketch")?;
            }
        }
        Ok(())
    }

    /// True if it may have joined low keys.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.ascending(), Ascending::Counted(counts) if counts.len() == BINS_MAX)
    }

    /// The least and the greatest key.
    pub(crate) fn ends(&self) -> Option<(i32, i32)> {
        let ends = |keys: &mut dyn Iterator<Item = i32>| {
            let first = keys.next()?;
            Some(keys.fold((first, first), |(min, max), key| (min.min(key), max.max(key))))
        };
        match &self.table {
            Some(table) => ends(&mut table.counts().map(|(key, _)| key)),
            None => ends(&mut self.listed.iter().copied()),
        }
    }

    /// What was counted, in the order of values.
    pub(crate) fn ascending(&self) -> Ascending {
        match &self.table {
            None => {
                let mut keys = self.listed.clone();
                keys.sort_unstable();
                Ascending::Listed(keys)
            }
            Some(table) => {
                let mut counts: Vec<(i32, u64)> = table.counts().collect();
                counts.sort_unstable_by_key(|&(key, _)| key);
                Ascending::Counted(highest(joined(counts)))
            }
        }
    }

    #[cold]
    fn add_key(&mut self, key: i32, n: u64) {
        if self.table.is_none() {
            let len = self.listed.len();
            match usize::try_from(n) {
                Ok(n) if n <= LISTED_MAX.saturating_sub(len) => {
                    if len + n > self.listed.capacity() {
                        let capacity = LISTED_STEPS.into_iter().find(|&step| len + n <= step).unwrap_or(LISTED_MAX);
                        self.listed.reserve_exact(capacity - len);
                    }
                    self.listed.extend(std::iter::repeat_n(key, n));
                    return;
                }
                _ => self.tabulate(),
            }
        }
        let table = self.table.get_or_insert_default();
        table.add(key, n);
        if table.strays() > STRAYS_MAX {
            let Ascending::Counted(counts) = self.ascending() else { return };
            self.table = Some(Box::new(Table::counted(&counts)));
        }
    }

    fn tabulate(&mut self) {
        self.table = Some(Box::new(Table::of(std::mem::take(&mut self.listed))));
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Sketch) -> bool {
        self.ascending().counts() == other.ascending().counts()
    }
}

impl Eq for Sketch {}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.ascending().counts().into_iter().map(|(key, n)| (middle(key), n))).finish()
    }
}

/// The `BINS_MAX` highest keys; the counts below them go to the lowest of these.
fn highest(mut counts: Vec<(i32, u64)>) -> Vec<(i32, u64)> {
    let Some(cut) = counts.len().checked_sub(BINS_MAX).filter(|cut| *cut > 0) else { return counts };
    let below = counts.drain(..cut).fold(0u64, |sum, (_, n)| sum.saturating_add(n));
    counts[0].1 = counts[0].1.saturating_add(below);
    counts
}

/// The nearest rank of `q` among `n` values: max(1, ceil(q × n)), where `q` is the decimal that was meant and not the
/// f64 beside it (0.07 of 100 is the 7th, though their product is a little more than 7). `None` if `n` is 0 or `q` is
/// not in 0..=1.
pub fn rank(q: f64, n: u64) -> Option<u64> {
    if n == 0 || !(0.0..=1.0).contains(&q) {
        return None;
    }
    let exact = q * n as f64;
    let nearest = exact.round();
    let rank = if (exact - nearest).abs() <= nearest * f64::EPSILON { nearest } else { exact.ceil() };
    Some((rank as u64).clamp(1, n))
}

/// A sketch in the order of its values.
pub(crate) enum Ascending {
    Listed(Vec<i32>),
    /// Each key once.
    Counted(Vec<(i32, u64)>),
}

impl Ascending {
    /// The estimate for the value at `rank`, from 1 to the count.
    pub(crate) fn at(&self, rank: u64) -> f64 {
        match self {
            Ascending::Listed(keys) => middle(keys[rank as usize - 1]),
            Ascending::Counted(counts) => stored::Ranks::of(counts).at(rank),
        }
    }

    /// Each key once, with its count.
    fn counts(self) -> Vec<(i32, u64)> {
        match self {
            Ascending::Listed(keys) => joined(keys.into_iter().map(|key| (key, 1)).collect()),
            Ascending::Counted(counts) => counts,
        }
    }
}

fn put_counts(out: &mut Vec<u8>, len: usize, counts: impl Iterator<Item = (i32, u64)>) {
    put_varint(out, len as u64);
    let mut before = -KEY_MAX - 1;
    for (key, n) in counts {
        put_varint(out, (key - before - 1) as u64 * 2 + u64::from(n > 1));
        if n > 1 {
            put_varint(out, n - 2);
        }
        before = key;
    }
}

/// One count for each of the keys, which ascend.
fn joined(mut counts: Vec<(i32, u64)>) -> Vec<(i32, u64)> {
    counts.dedup_by(|(key, n), (kept_key, kept)| {
        let same = key == kept_key;
        if same {
            *kept = kept.saturating_add(*n);
        }
        same
    });
    counts
}

/// The bucket of a value within ±2^360: ascending with the value, 0 for zero, negated for negatives.
#[inline]
pub(crate) fn key_of(v: f64) -> i32 {
    let bits = v.to_bits();
    let size = bits & !(1 << 63);
    let coarse = (size >> BITS_BELOW_BUCKET) as i32;
    let key = match coarse < BUCKETS_PER_OCTAVE {
        true => subnormal_key(size),
        // From the octave of biased exponent 1, 2^-1022, to the count from 2^-1074; and key 1 is the first.
        false => coarse + 51 * BUCKETS_PER_OCTAVE + 1,
    };
    if bits >> 63 == 1 { -key } else { key }
}

/// The key of `units` × 2^-1074.
#[cold]
fn subnormal_key(units: u64) -> i32 {
    match units.checked_ilog2() {
        None => 0,
        Some(octave) => octave as i32 * BUCKETS_PER_OCTAVE + ((units << 6 >> octave) as i32 - BUCKETS_PER_OCTAVE) + 1,
    }
}

/// The middle of a bucket; its lower edge where no f64 lies between.
fn middle(key: i32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let (octave, bucket) = ((key.abs() - 1) / BUCKETS_PER_OCTAVE, (key.abs() - 1) % BUCKETS_PER_OCTAVE);
    let bits = match octave {
        // Subnormal: bits count units. Below 2^-1067 a bucket holds one f64 or none.
        0..6 => (64 + bucket as u64) >> (6 - octave),
        6 => 64 + bucket as u64,
        7..52 => (129 + 2 * bucket as u64) << (octave - 7),
        _ => (octave as u64 - 51) << 52 | (2 * bucket as u64 + 1) << (BITS_BELOW_BUCKET - 1),
    };
    let size = f64::from_bits(bits);
    if key < 0 { -size } else { size }
}

/// Whether some value has this key; near 2^-1074 there are more keys than values.
fn is_key(key: i32) -> bool {
    (-KEY_MAX..=KEY_MAX).contains(&key) && (key.abs() > 6 * BUCKETS_PER_OCTAVE || key_of(middle(key)) == key)
}

#[cfg(test)]
mod tests;
