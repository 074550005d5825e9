//! Decides what a window keeps of its values: count, exact sum, least, greatest, sketch; must never depend on their order.
//!
//! - The same values give the same bytes, whatever the order, the batching or the shards. Counts stop at 2^64 − 1, which no
//!   window reaches; up to there this is a law.
//! - While all values are equal (every counter of lines is such a window) their count says everything: neither sum nor
//!   sketch is kept, in memory or in bytes. They are derived at read, or when another value comes.
//! - The bytes begin with a form. 0: empty. 1: all values equal: varint(count), value. 2: min, max, sum, sketch, whose total
//!   is the count. A value is the length of its big-endian bits without trailing zero bytes, then these bytes. (A statistic
//!   set, which has no values, would be a form 3 with a count of its own beside the sketch's, and no quantiles.)

pub(crate) mod stored;

use crate::canonical::{DecodeError, put_varint, take_byte, take_bytes, take_varint};
use crate::sketch::{self, Sketch, stored::Ends};
use crate::sum::{self, Sum, VALUE_ABS_MAX};

/// Most bytes of an encoded distribution.
pub const ENCODED_BYTES_MAX: usize = 1 + 9 + 9 + sum::ENCODED_BYTES_MAX + sketch::ENCODED_BYTES_MAX;

/// A value that no distribution takes.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{value:?} is not a finite number within ±2^360")]
pub struct OutOfRange {
    /// The value as it came.
    pub value: f64,
}

/// The value as distributions take it: finite, within ±2^360, and 0.0 for -0.0.
#[inline]
pub fn check(v: f64) -> Result<f64, OutOfRange> {
    // A NaN compares with nothing.
    if v.abs() <= VALUE_ABS_MAX { Ok(positive_zero(v)) } else { Err(OutOfRange { value: v }) }
}

/// The values of one window. See the module for what is kept and how it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Distribution {
    count: u64,
    /// +∞ while empty, and `max` then -∞. Neither is ever -0.0, so equal values have equal bits.
    min: Bound,
    max: Bound,
    /// Kept once two values differ, so exactly when `min` < `max`.
    varied: Option<Box<Varied>>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Varied {
    sum: Sum,
    sketch: Sketch,
}

/// An f64 that is never NaN, so that it equals itself.
#[derive(Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { count: 0, min: Bound(f64::INFINITY), max: Bound(f64::NEG_INFINITY), varied: None }
    }
}

impl Distribution {
    const FORM: &str = "form of a distribution";

    /// Adds a value that [`check`] has passed.
    ///
    /// # Panics
    /// In debug builds if it would not have passed.
    #[inline]
    pub fn add(&mut self, v: f64) {
        debug_assert!(check(v).is_ok(), "{v} is not a finite number within ±2^360");
        let v = positive_zero(v);
        match &mut self.varied {
            Some(varied) => {
                self.count = self.count.saturating_add(1);
                if v < self.min.0 {
                    self.min = Bound(v);
                }
                if v > self.max.0 {
                    self.max = Bound(v);
                }
                varied.sum.add(v);
                varied.sketch.add(v);
            }
            None if self.min.0 == v => self.count = self.count.saturating_add(1),
            None => self.add_times(v, 1),
        }
    }

    /// Adds a value that [`check`] has passed `n` times.
    ///
    /// # Panics
    /// As [`Distribution::add`].
    pub fn add_times(&mut self, v: f64, n: u64) {
        if n == 0 {
            return;
        }
        debug_assert!(check(v).is_ok(), "{v} is not a finite number within ±2^360");
        let v = positive_zero(v);
        if self.varied.is_some() || self.count > 0 && self.min.0 != v {
            let varied = self.vary();
            varied.sum.add_times(v, n);
            varied.sketch.add_times(v, n);
        }
        self.count = self.count.saturating_add(n);
        self.min = Bound(self.min.0.min(v));
        self.max = Bound(self.max.0.max(v));
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Distribution) {
        let Some(theirs) = &other.varied else {
            return self.add_times(other.min.0, other.count);
        };
        if self.count == 0 {
            return self.clone_from(other);
        }
        let varied = self.vary();
        varied.sum.merge(&theirs.sum);
        varied.sketch.merge(&theirs.sketch);
        self.count = self.count.saturating_add(other.count);
        self.min = Bound(self.min.0.min(other.min.0));
        self.max = Bound(self.max.0.max(other.max.0));
    }

    /// Values added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no value was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The least value, exactly.
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min.0)
    }

    /// The greatest value, exactly.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max.0)
    }

    /// The sum, rounded once; 0.0 while empty.
    pub fn sum(&self) -> f64 {
        self.exact_sum().to_f64()
    }

    /// The sum.
    pub fn exact_sum(&self) -> Sum {
        match &self.varied {
            Some(varied) => varied.sum.clone(),
            None => {
                let mut sum = Sum::default();
                if self.count > 0 {
                    sum.add_times(self.min.0, self.count);
                }
                sum
            }
        }
    }

    /// The rounded sum by the count, within [min, max] in spite of the rounding.
    pub fn average(&self) -> Option<f64> {
        let average = || (self.sum() / self.count as f64).clamp(self.min.0, self.max.0);
        (self.count > 0).then(average)
    }

    /// The nearest-rank quantile within [`sketch::RELATIVE_ERROR`], or within [`sketch::relative_error`] where values spread so far that their sketch
    /// has a level; exact at the first and the last rank; `None` if there is no value or `q` is not in 0..=1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.quantiles([q]).map(|[value]| value)
    }

    /// Several quantiles for little more than the price of one, each as [`Distribution::quantile`] has it; `None` if one is.
    pub fn quantiles<const N: usize>(&self, qs: [f64; N]) -> Option<[f64; N]> {
        let ascending = self.varied.as_ref().map(|varied| varied.sketch.ascending());
        let mut values = [0.0; N];
        for (value, q) in values.iter_mut().zip(qs) {
            *value = match (sketch::rank(q, self.count)?, &ascending) {
                (1, _) | (_, None) => self.min.0,
                (rank, _) if rank == self.count => self.max.0,
                (rank, Some(ascending)) => ascending.at(rank).clamp(self.min.0, self.max.0),
            };
        }
        Some(values)
    }

    /// Appends the canonical bytes: 1 to [`ENCODED_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.varied {
            None if self.count == 0 => out.push(0),
            None => {
                out.push(1);
                put_varint(out, self.count);
                put_value(out, self.min.0);
            }
            Some(varied) => {
                out.push(2);
                put_value(out, self.min.0);
                put_value(out, self.max.0);
                varied.sum.encode(out);
                varied.sketch.encode(out);
            }
        }
    }

    /// Takes the distribution that [`Distribution::encode`] wrote off the front of `input`, and refuses any other bytes.
    pub fn decode(input: &mut &[u8]) -> Result<Distribution, DecodeError> {
        match take_byte(input, Self::FORM)? {
            0 => Ok(Distribution::default()),
            1 => {
                let count = take_varint(input, "count")?;
                let value = Bound(take_value(input)?);
                if count == 0 {
                    return Err(DecodeError::NotCanonical { what: "count" });
                }
                Ok(Distribution { count, min: value, max: value, varied: None })
            }
            2 => {
                let (min, max) = (take_value(input)?, take_value(input)?);
                let varied = Varied { sum: Sum::decode(input)?, sketch: Sketch::decode(input)? };
                let count = varied.sketch.count();
                check_range((min, max), varied.sketch.ends(), count)?;
                Ok(Distribution { count, min: Bound(min), max: Bound(max), varied: Some(Box::new(varied)) })
            }
            _ => Err(DecodeError::OutOfRange { what: Self::FORM }),
        }
    }

    /// Passes over what [`Distribution::encode`] wrote, by its lengths alone.
    pub fn pass(input: &mut &[u8]) -> Result<(), DecodeError> {
        match take_byte(input, Self::FORM)? {
            0 => Ok(()),
            1 => {
                take_varint(input, "count")?;
                pass_value(input)
            }
            2 => {
                pass_value(input)?;
                pass_value(input)?;
                Sum::pass(input)?;
                Sketch::pass(input)
            }
            _ => Err(DecodeError::OutOfRange { what: Self::FORM }),
        }
    }

    /// Makes explicit what a count of equal values says.
    fn vary(&mut self) -> &mut Varied {
        self.varied.get_or_insert_with(|| {
            let mut varied = Box::<Varied>::default();
            if self.count > 0 {
                varied.sum.add_times(self.min.0, self.count);
                varied.sketch.add_times(self.min.0, self.count);
            }
            varied
        })
    }
}

impl std::fmt::Debug for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Distribution");
        shown.field("count", &self.count).field("min", &self.min.0).field("max", &self.max.0);
        if let Some(varied) = &self.varied {
            shown.field("sum", &varied.sum).field("sketch", &varied.sketch);
        }
        shown.finish()
    }
}

/// Refuses bounds that are not those of the sketch beside them.
fn check_range((min, max): (f64, f64), ends: Option<Ends>, count: u64) -> Result<(), DecodeError> {
    if min < max && ends.is_some_and(|ends| ends.are_of(min, max)) && count >= 2 {
        Ok(())
    } else {
        Err(DecodeError::OutOfRange { what: "range of a distribution" })
    }
}

/// 0.0 for -0.0, any other value as it is.
#[inline]
fn positive_zero(v: f64) -> f64 {
    v + 0.0
}

fn put_value(out: &mut Vec<u8>, v: f64) {
    let len = 8 - v.to_bits().trailing_zeros() as usize / 8;
    out.push(len as u8);
    out.extend_from_slice(&v.to_bits().to_be_bytes()[..len]);
}

fn pass_value(input: &mut &[u8]) -> Result<(), DecodeError> {
    let len = usize::from(take_byte(input, "value")?);
    take_bytes(input, len, "value").map(|_| ())
}

fn take_value(input: &mut &[u8]) -> Result<f64, DecodeError> {
    let what = "value";
    let len = usize::from(take_byte(input, what)?);
    let taken = take_bytes(input, len, what)?;
    let mut bits = [0; 8];
    bits.get_mut(..len).ok_or(DecodeError::OutOfRange { what })?.copy_from_slice(taken);
    let v = f64::from_bits(u64::from_be_bytes(bits));
    if taken.last() == Some(&0) || v.to_bits() == (-0.0f64).to_bits() {
        return Err(DecodeError::NotCanonical { what });
    }
    check(v).map_err(|_| DecodeError::OutOfRange { what })
}

#[cfg(test)]
mod tests;
