//! Decides into which bucket a value falls at each level, and which value stands for a bucket; must keep the order of values.
//!
//! - Keys of level 0 number the buckets of 1/64 octave in the order of values: 0 is zero's, negatives mirror positives.
//! - A level up, two neighbours of one sign are one bucket: size s becomes ⌈s/2⌉, and L levels up ⌈s/2^L⌉, so steps add up. Zero stays alone.
//! - All of ±2^360 falls into 719 buckets of [`LEVEL_MAX`], so no set of values needs a higher level.
//! - At level 0 the middle of a bucket stands for it. Of a joined one, from `a` to `b`, it is 2ab / (a + b), which is off by the same share from
//!   both ends and so by the least: (b − a) / (b + a), [`relative_error`].

use crate::sum::VALUE_ABS_MAX;

/// Buckets of level 0.
pub(super) const BUCKETS_PER_OCTAVE: i32 = 64;

/// The key of 2^360 at level 0: 1434 octaves above 2^-1074, whose key is 1.
pub(super) const KEY_MAX: i32 = 1434 * BUCKETS_PER_OCTAVE + 1;

/// The coarsest level: four octaves a bucket.
pub const LEVEL_MAX: u32 = 8;

const _: () = assert!(2 * joined(KEY_MAX, LEVEL_MAX) < super::BINS_MAX as i32);
const _: () = assert!(VALUE_ABS_MAX.to_bits() >> 52 == 1023 + 360);

/// Bits of an f64 below the exponent and the six that choose a bucket.
const BITS_BELOW_BUCKET: u32 = 46;

/// The key of a value within ±2^360 at level 0.
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

/// The key so many levels up.
#[inline]
pub(crate) const fn joined(key: i32, levels: u32) -> i32 {
    key.signum() * (((key.abs() - 1) >> levels) + 1)
}

/// The key of level 0 that is the nearest to zero in a bucket of this level.
pub(super) const fn first(key: i32, level: u32) -> i32 {
    key.signum() * (((key.abs() - 1) << level) + 1)
}

/// The value that stands for a bucket. Where f64 lie so far apart that none is near the middle, the nearest one.
pub(super) fn middle(key: i32, level: u32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let (octave, edges) = edges(key, level);
    let size = match level {
        0 => finest_middle(octave, u64::from(edges[0]) - 64),
        _ => {
            let [from, end] = edges.map(f64::from);
            let unit = f64::from_bits(if octave < 52 { 1 << octave } else { u64::from(octave - 51) << 52 });
            // All numbers but the quotient are exact, and so is the product unless it is subnormal.
            unit * (from * end / (32.0 * (from + end)))
        }
    };
    if key < 0 { -size } else { size }
}

/// The middle of a bucket of level 0; its lower edge where no f64 lies between.
fn finest_middle(octave: u32, bucket: u64) -> f64 {
    f64::from_bits(match octave {
        // Subnormal: bits count units. Below 2^-1067 a bucket holds one f64 or none.
        0..6 => (64 + bucket) >> (6 - octave),
        6 => 64 + bucket,
        7..52 => (129 + 2 * bucket) << (octave - 7),
        _ => u64::from(octave - 51) << 52 | (2 * bucket + 1) << (BITS_BELOW_BUCKET - 1),
    })
}

/// The octave from 2^-1074 in which a bucket begins, and where it begins and ends in 64ths of the octave's least value.
fn edges(key: i32, level: u32) -> (u32, [u32; 2]) {
    let from = (key.unsigned_abs() - 1) << level;
    let end = from + (1 << level);
    let octave = from / 64;
    (octave, [64 + from % 64, (64 + end % 64) << (end / 64 - octave)])
}

/// By what share of the value a quantile of a sketch of this level may be off, at most; and by half of 2^-1074 beside that, which only matters to
/// subnormals. From level 0: 1/128, 1/65, 1/33, 1/17, 1/9, 1/5, 1/3, 3/5, 15/17.
pub fn relative_error(level: u32) -> f64 {
    if level == 0 {
        return 1.0 / 128.0;
    }
    // The first bucket of an octave spans the greatest share of itself.
    let [from, end] = edges(1, level.min(LEVEL_MAX)).1.map(f64::from);
    (end - from) / (end + from)
}

/// Whether some value has this key; near 2^-1074 there are more buckets than values.
#[inline]
pub(super) fn is_key(key: i32, level: u32) -> bool {
    let key_max = joined(KEY_MAX, level);
    (-key_max..=key_max).contains(&key) && (key.abs() > (6 * BUCKETS_PER_OCTAVE) >> level || has_value(key, level))
}

#[cold]
fn has_value(key: i32, level: u32) -> bool {
    let from = first(key.abs(), level);
    key == 0 || (from..from + (1 << level)).any(|finest| key_of(middle(finest, 0)) == finest)
}

/// How many buckets a level down have values and are in this one.
pub(super) fn parts(key: i32, level: u32) -> u64 {
    let last = 2 * key.abs();
    if key == 0 { 1 } else { (last - 1..=last).filter(|&part| is_key(part, level - 1)).count() as u64 }
}
