//! Decides what a sum of values is: the exact one; must never round before it is read, nor depend on the order of addends.
//!
//! - Values are finite and within ±2^360, down to the least subnormal. Each is a whole number of 2^-1074.
//! - Ordinary values (whose last bit is worth 2^-72 or more, below 2^44) go to an `i128` in units of 2^-72. That reaches
//!   2^55; a sum that would not fit is moved, exactly, into a wide number that covers the whole range, and so are values
//!   that the 128 bits cannot hold. An `i128` alone is not enough: 2^360 and 2^-1074 lie 1434 bits apart.
//! - The bytes say the sum and nothing else: equal sums have equal bytes, whatever path their addends took. Zero is one
//!   zero byte. Else, with the sum written as ±odd × 2^(k−1074): varint(2k + negative + 1), the length of the odd number
//!   in bytes, the odd number, least byte first. A few latencies take 11 or 12 bytes.

mod wide;

use self::wide::Wide;
use crate::canonical::{DecodeError, put_varint, take_byte, take_bytes, take_varint};

/// Values lie within ±2^360, the range that CloudWatch's PutMetricData accepts.
pub const VALUE_ABS_MAX: f64 = f64::from_bits((1023 + 360) << 52);

/// Most bytes of an encoded sum: 2 + 1 + 188.
pub const ENCODED_BYTES_MAX: usize = 191;

/// Bits of the greatest sum, in units of 2^-1074: 2^64 addends of 2^360 stay below 2^424.
const SUM_BITS_MAX: u32 = 424 + 1074;

/// Where the unit of `near`, 2^-72, stands among units of 2^-1074.
const NEAR_POSITION: u32 = 1074 - 72;

/// A value goes near with a shift of at most this (one multiplication by 2^shift); it is below 2^116 then, so that two
/// thousand of them fit at worst.
const NEAR_SHIFT_MAX: u32 = 63;

const SIGNIFICAND_BITS: u32 = 52;

/// The exact sum of up to 2^64 values. See the module for what it holds and how it is written.
#[derive(Clone, Default)]
pub struct Sum {
    /// In units of 2^-72.
    near: i128,
    /// The rest, from the first value or total that `near` could not hold.
    wide: Option<Box<Wide>>,
}

impl Sum {
    /// Adds one value. -0.0 counts as 0.0.
    ///
    /// # Panics
    /// If `v` is not finite or beyond ±2^360 (see `distribution::check`): a wrong sum would be worse.
    #[inline]
    pub fn add(&mut self, v: f64) {
        let bits = v.to_bits();
        // The biased exponent's significand counts units of 2^(exponent - 1075); a subnormal or zero wraps to a large shift.
        let shift = ((bits >> SIGNIFICAND_BITS) as u32 & 0x7ff).wrapping_sub(NEAR_POSITION + 1);
        if shift > NEAR_SHIFT_MAX {
            return self.add_times(v, 1);
        }
        let significand = bits & ((1 << SIGNIFICAND_BITS) - 1) | 1 << SIGNIFICAND_BITS;
        let magnitude = (u128::from(significand) * u128::from(1u64 << shift)) as i128;
        self.add_near(if v < 0.0 { -magnitude } else { magnitude });
    }

    /// Adds `v` × `n`, as `n` additions would.
    ///
    /// # Panics
    /// As [`Sum::add`].
    pub fn add_times(&mut self, v: f64, n: u64) {
        assert!(v.abs() <= VALUE_ABS_MAX, "{v} is not a finite number within ±2^360");
        let (significand, position) = units(v);
        let product = u128::from(significand) * u128::from(n);
        if product == 0 {
            return;
        }
        match position.checked_sub(NEAR_POSITION) {
            Some(shift) if shift < product.leading_zeros() => {
                let magnitude = (product << shift) as i128;
                self.add_near(if v < 0.0 { -magnitude } else { magnitude });
            }
            _ => self.wide.get_or_insert_with(|| Box::new(Wide::ZERO)).add_at(v < 0.0, product, position),
        }
    }

    /// Adds all that `other` has summed.
    pub fn merge(&mut self, other: &Sum) {
        self.add_near(other.near);
        match (&mut self.wide, &other.wide) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (None, Some(theirs)) => self.wide = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// The sum, rounded once, to nearest, ties to even. Always finite; an exact zero is 0.0.
    pub fn to_f64(&self) -> f64 {
        match self.wide {
            // The conversion rounds; the scaling is by a power of two, far from the ends of the range.
            None => self.near as f64 * f64::from_bits((1023 - 72) << SIGNIFICAND_BITS),
            Some(_) => self.total().magnitude().to_f64(),
        }
    }

    /// Appends the canonical bytes: 1 to [`ENCODED_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.wide.is_none() {
            let (position, odd) = match self.near.unsigned_abs() {
                0 => return out.push(0),
                magnitude => (magnitude.trailing_zeros(), magnitude >> magnitude.trailing_zeros()),
            };
            put_head(out, self.near < 0, NEAR_POSITION + position, odd.ilog2() + 1);
            return out.extend_from_slice(&odd.to_le_bytes()[..odd.ilog2() as usize / 8 + 1]);
        }
        let magnitude = self.total().magnitude();
        let Some(position) = magnitude.trailing_zeros() else {
            return out.push(0);
        };
        let bits = magnitude.bit_len() - position;
        put_head(out, magnitude.negative, position, bits);
        for chunk in (0..bits).step_by(64) {
            let len = (bits - chunk).div_ceil(8).min(8) as usize;
            out.extend_from_slice(&magnitude.bits_from(position + chunk).to_le_bytes()[..len]);
        }
    }

    /// Takes the sum that [`Sum::encode`] wrote off the front of `input`, and refuses any other bytes.
    pub fn decode(input: &mut &[u8]) -> Result<Sum, DecodeError> {
        let what = "sum";
        let mut sum = Sum::default();
        let Some(head) = take_varint(input, what)?.checked_sub(1) else {
            return Ok(sum);
        };
        let negative = head & 1 == 1;
        let position = u32::try_from(head >> 1).map_err(|_| DecodeError::OutOfRange { what })?;
        let len = take_byte(input, what)?;
        let odd = take_bytes(input, usize::from(len), what)?;
        let (Some(first), Some(last)) = (odd.first(), odd.last()) else {
            return Err(DecodeError::NotCanonical { what });
        };
        if first & 1 == 0 || *last == 0 {
            return Err(DecodeError::NotCanonical { what });
        }
        let bits = 8 * u32::from(len) - last.leading_zeros();
        if position.saturating_add(bits) > SUM_BITS_MAX {
            return Err(DecodeError::OutOfRange { what });
        }
        match position.checked_sub(NEAR_POSITION) {
            Some(shift) if shift + bits < i128::BITS => {
                let magnitude = (little_endian(odd) << shift) as i128;
                sum.near = if negative { -magnitude } else { magnitude };
            }
            _ => {
                let wide = sum.wide.insert(Box::new(Wide::ZERO));
                for (i, chunk) in odd.chunks(8).enumerate() {
                    wide.add_at(negative, little_endian(chunk), position + 64 * i as u32);
                }
            }
        }
        Ok(sum)
    }

    /// Passes over what [`Sum::encode`] wrote, by its lengths alone.
    pub fn pass(input: &mut &[u8]) -> Result<(), DecodeError> {
        let what = "sum";
        if take_varint(input, what)? == 0 {
            return Ok(());
        }
        let len = take_byte(input, what)?;
        take_bytes(input, usize::from(len), what).map(|_| ())
    }

    #[inline]
    fn add_near(&mut self, addend: i128) {
        match self.near.checked_add(addend) {
            Some(near) => self.near = near,
            None => self.spill(addend),
        }
    }

    #[cold]
    fn spill(&mut self, near: i128) {
        self.wide = Some(Box::new(self.total()));
        self.near = near;
    }

    fn total(&self) -> Wide {
        let mut total = self.wide.as_deref().cloned().unwrap_or(Wide::ZERO);
        total.add_at(self.near < 0, self.near.unsigned_abs(), NEAR_POSITION);
        total
    }
}

impl PartialEq for Sum {
    fn eq(&self, other: &Sum) -> bool {
        match (&self.wide, &other.wide) {
            (None, None) => self.near == other.near,
            _ => self.total() == other.total(),
        }
    }
}

impl Eq for Sum {}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        write!(f, "Sum(≈ {:e}, {bytes:02x?})", self.to_f64())
    }
}

/// The size of `v` as significand × 2^position units of 2^-1074.
fn units(v: f64) -> (u64, u32) {
    let bits = v.to_bits();
    let fraction = bits & ((1 << SIGNIFICAND_BITS) - 1);
    match (bits >> SIGNIFICAND_BITS) as u32 & 0x7ff {
        0 => (fraction, 0),
        exponent => (fraction | 1 << SIGNIFICAND_BITS, exponent - 1),
    }
}

/// What goes before an odd number of so many bits.
fn put_head(out: &mut Vec<u8>, negative: bool, position: u32, bits: u32) {
    put_varint(out, u64::from(2 * position + u32::from(negative) + 1));
    out.push(bits.div_ceil(8) as u8);
}

/// At most 16 bytes as a number.
fn little_endian(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u128::from(byte))
}

#[cfg(test)]
pub(crate) mod tests;
