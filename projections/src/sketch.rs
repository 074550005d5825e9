//! Decides what is kept of a window's values for quantiles: a count for each bucket; must never depend on their order.
//!
//! - A bucket is 1/64 of an octave: the exponent of the value and six bits after its leading one. Its middle is within
//!   1/128 (0.79 %) of every value in it; the stated error is [`RELATIVE_ERROR`]. Zero has its own bucket, each sign has
//!   its own buckets, and subnormals have octaves like all others.
//! - Keys number the buckets in the order of their values. What is kept is (key, count) and nothing else, so a merge is an
//!   addition, and any order, batching or sharding of the same values gives the same bytes.
//! - At most [`BINS_MAX`] buckets are kept. Where values fall into more, all buckets are joined in pairs, again and again until they fit: the level
//!   is how many times. It is the least that fits and so decided by the set of all values alone; a union's is not below those of its parts, and joining
//!   adds up, so this too is the same in any order. What it costs says [`relative_error`]. The idea, to coarsen the whole sketch rather than to
//!   give up one end of it, is that of UDDSketch (Epicoco et al., "UDDSketch: Accurate Tracking of Quantiles in Data Streams", arXiv:2004.08604).
//! - In memory keys stand in a list as they come, since most windows have few, and from [`LISTED_MAX`] on in a table.
//! - The bytes: varint(number of keys + 1025 × level), then for each, ascending, varint(2 × (key − the key before − 1) + (count > 1)) and,
//!   where count > 1, varint(count − 2). The key before the first is −k − 1, where k is the greatest of the level. So a value that is alone in its
//!   bucket takes a byte, or two when the next is an octave off.

mod bucket;
pub(crate) mod stored;
mod table;

pub use self::bucket::{LEVEL_MAX, relative_error};
pub(crate) use self::bucket::{joined, key_of};
use self::{
    bucket::{first, middle},
    stored::{Counted, Counts, Ranks},
    table::Table,
};
use crate::canonical::{DecodeError, put_varint, take_varint};
use crate::sum::VALUE_ABS_MAX;

/// A quantile is within this share of the exact nearest-rank one, unless values fall into more than [`BINS_MAX`] buckets: then see [`relative_error`].
pub const RELATIVE_ERROR: f64 = 0.01;

/// Values of a window that are listed one by one, 4 bytes each; more go to a table.
pub const LISTED_MAX: usize = 128;

/// Capacities of the list: most windows pass one or two of them.
const LISTED_STEPS: [usize; 3] = [16, 64, LISTED_MAX];

/// Most keys of a sketch; at level 0, sixteen octaves without a gap, a millisecond to a minute. A row must fit into one item whatever its lines say.
pub const BINS_MAX: usize = 1024;

/// Most bytes of an encoded sketch: a key takes up to 3 and its count up to 10.
pub const ENCODED_BYTES_MAX: usize = 3 + 13 * BINS_MAX;

/// Keys beside the arrays at which the table is made anew from joined ones.
const STRAYS_MAX: usize = 4 * BINS_MAX;

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
            Some(table) => {
                if table.level > 0 {
                    let mine = self.tabulated();
                    mine.level = mine.level.max(table.level);
                }
                table.counts().for_each(|(key, n)| self.add_key(key, n));
            }
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

    /// How often all buckets were joined in pairs: 0 unless values fall into more than [`BINS_MAX`] buckets of 1/64 octave.
    pub fn level(&self) -> u32 {
        self.ascending().counts().level
    }

    /// The value at [`rank`] in ascending order, within [`relative_error`] of the level; `None` if there is no value or `q` is not in 0..=1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        Some(self.ascending().at(rank(q, self.count())?))
    }

    /// Appends the canonical bytes: 1 to [`ENCODED_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.ascending() {
            Ascending::Listed(keys) => {
                let runs = || keys.chunk_by(|a, b| a == b);
                put_counts(out, 0, runs().count(), runs().map(|run| (run[0], run.len() as u64)));
            }
            Ascending::Counted(Counts { level, counts }) => put_counts(out, level, counts.len(), counts.into_iter()),
        }
    }

    /// Takes the sketch that [`Sketch::encode`] wrote off the front of `input`, and refuses any other bytes. Memory stays
    /// in proportion to the bytes.
    pub fn decode(input: &mut &[u8]) -> Result<Sketch, DecodeError> {
        let mut sketch = Sketch::default();
        let head = stored::head(input)?;
        if head.level > 0 {
            let counts = stored::rest(input, head)?;
            sketch.table = Some(Box::new(Table::counted(&counts)));
            return Ok(sketch);
        }
        sketch.listed.reserve_exact(LISTED_MAX.min(input.len()).min(head.len));
        stored::each(input, head, |key, n| {
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
        for _ in 0..take_varint(input, "sketch")? % stored::HEADS_PER_LEVEL {
            if take_varint(input, "sketch")? & 1 == 1 {
                take_varint(input, "sketch")?;
            }
        }
        Ok(())
    }

    /// The level, and its least and its greatest key, of a sketch that was decoded.
    pub(crate) fn ends(&self) -> Option<stored::Ends> {
        let of = |level, keys: &mut dyn Iterator<Item = i32>| {
            let first = keys.next()?;
            let (least, greatest) =
                keys.fold((first, first), |(least, greatest), key| (least.min(key), greatest.max(key)));
            Some(stored::Ends { level, least: joined(least, level), greatest: joined(greatest, level) })
        };
        match &self.table {
            Some(table) => of(table.level, &mut table.counts().map(|(key, _)| key)),
            None => of(0, &mut self.listed.iter().copied()),
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
                let mut counts: Vec<Counted> = table.counts().collect();
                counts.sort_unstable_by_key(|&(key, _)| key);
                Ascending::Counted(Counts::of(table.level, counts))
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
                _ => {}
            }
        }
        let table = self.tabulated();
        table.add(key, n);
        if table.strays() > STRAYS_MAX {
            let Ascending::Counted(counts) = self.ascending() else { return };
            self.table = Some(Box::new(Table::counted(&counts)));
        }
    }

    fn tabulated(&mut self) -> &mut Table {
        self.table.get_or_insert_with(|| Box::new(Table::of(std::mem::take(&mut self.listed))))
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
        let Counts { level, counts } = self.ascending().counts();
        f.debug_map().entries(counts.into_iter().map(|(key, n)| (middle(key, level), n))).finish()
    }
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
    /// Keys of level 0.
    Listed(Vec<i32>),
    Counted(Counts),
}

impl Ascending {
    /// The estimate for the value at `rank`, from 1 to the count.
    pub(crate) fn at(&self, rank: u64) -> f64 {
        match self {
            Ascending::Listed(keys) => middle(keys[rank as usize - 1], 0),
            Ascending::Counted(Counts { level, counts }) => Ranks::of(*level, counts).at(rank),
        }
    }

    fn counts(self) -> Counts {
        match self {
            Ascending::Listed(keys) => Counts::of(0, keys.into_iter().map(|key| (key, 1)).collect()),
            Ascending::Counted(counts) => counts,
        }
    }
}

fn put_counts(out: &mut Vec<u8>, level: u32, len: usize, counts: impl Iterator<Item = Counted>) {
    put_varint(out, len as u64 + stored::HEADS_PER_LEVEL * u64::from(level));
    let mut before = stored::before_first(level);
    for (key, n) in counts {
        put_varint(out, (key - before - 1) as u64 * 2 + u64::from(n > 1));
        if n > 1 {
            put_varint(out, n - 2);
        }
        before = key;
    }
}

#[cfg(test)]
pub(crate) mod tests;
