//! Stored distributions as a reader needs them: their numbers, and their sketches side by side in one piece of memory that is used again for
//! every window. Decides nothing that [`Distribution`] does not decide; it must say what a decoded and merged one would say.

use std::ops::Range;

use super::{Distribution, check_range, take_value};
use crate::{
    canonical::{DecodeError, take_byte, take_varint},
    sketch::{
        self,
        stored::{Counted, Ends, Ranks, Sums},
    },
    sum::Sum,
};

/// What one stored distribution says. Its sketch, if its values differ, lies in the [`Pool`] that read it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) count: u64,
    /// As in [`Distribution`]: infinite while empty, equal exactly when all values are.
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// `None` where all values are equal, and then there are no `counts`.
    sum: Option<Sum>,
    counts: Range<usize>,
    /// Of the keys of `counts`.
    level: u32,
}

impl Part {
    /// So many equal values.
    pub(crate) fn equal(value: f64, count: u64) -> Self {
        Self { count, min: value, max: value, sum: None, counts: 0..0, level: 0 }
    }

    const EMPTY: Self =
        Self { count: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, sum: None, counts: 0..0, level: 0 };

    /// The sum, rounded once.
    pub(crate) fn sum(&self) -> f64 {
        /// Up to here a count is an f64, and its product with one is the exact sum, rounded once.
        const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;
        match &self.sum {
            Some(sum) => sum.to_f64(),
            None if (1..=EXACT_MAX).contains(&self.count) => self.min * self.count as f64,
            None => {
                let mut sum = Sum::default();
                self.add_to(&mut sum);
                sum.to_f64()
            }
        }
    }

    fn add_to(&self, sum: &mut Sum) {
        match &self.sum {
            Some(mine) => sum.merge(mine),
            None if self.count > 0 => sum.add_times(self.min, self.count),
            None => {}
        }
    }
}

/// Where sketches lie.
#[derive(Default)]
pub(crate) struct Pool {
    counts: Vec<Counted>,
    sums: Sums,
}

impl Pool {
    /// Takes the distribution that [`Distribution::encode`] wrote off the front of `input`; refuses what [`Distribution::decode`] refuses.
    pub(crate) fn read(&mut self, input: &mut &[u8]) -> Result<Part, DecodeError> {
        match take_byte(input, Distribution::FORM)? {
            0 => Ok(Part::EMPTY),
            1 => {
                let count = take_varint(input, "count")?;
                let value = take_value(input)?;
                if count == 0 {
                    return Err(DecodeError::NotCanonical { what: "count" });
                }
                Ok(Part::equal(value, count))
            }
            2 => {
                let (min, max) = (take_value(input)?, take_value(input)?);
                let sum = Sum::decode(input)?;
                let from = self.counts.len();
                let (level, count) = sketch::stored::read(input, &mut self.counts)?;
                check_range((min, max), Ends::of(level, &self.counts[from..]), count)?;
                Ok(Part { count, min, max, sum: Some(sum), counts: from..self.counts.len(), level })
            }
            _ => Err(DecodeError::OutOfRange { what: Distribution::FORM }),
        }
    }

    /// All values of the parts as one.
    pub(crate) fn merge(&mut self, parts: &[Part]) -> Part {
        let (mut merged, mut sum) = (Part::EMPTY, Sum::default());
        for part in parts {
            merged.count = merged.count.saturating_add(part.count);
            merged.min = merged.min.min(part.min);
            merged.max = merged.max.max(part.max);
            part.add_to(&mut sum);
        }
        if merged.min < merged.max {
            // What a count of equal values says of a sketch.
            let equals: Vec<Counted> =
                parts.iter().map(|part| (sketch::key_of(part.min.min(part.max)), part.count)).collect();
            let all = parts.iter().zip(&equals).filter(|(part, _)| part.count > 0);
            let all = self.sums.of(all.map(|(part, equal)| match part.counts.is_empty() {
                true => (0, std::slice::from_ref(equal)),
                false => (part.level, &self.counts[part.counts.clone()]),
            }));
            let from = self.counts.len();
            self.counts.extend(all.counts);
            merged.level = all.level;
            merged.counts = from..self.counts.len();
            merged.sum = Some(sum);
        }
        merged
    }

    /// Quantiles that ascend, each as [`Distribution::quantile`] has it; `None` if one is.
    pub(crate) fn quantiles<const N: usize>(&self, part: &Part, qs: [f64; N]) -> Option<[f64; N]> {
        let mut values = [part.min; N];
        if part.counts.is_empty() {
            let is_answered = part.count > 0 && qs.iter().all(|q| (0.0..=1.0).contains(q));
            return is_answered.then_some(values);
        }
        let mut ranks = Ranks::of(part.level, &self.counts[part.counts.clone()]);
        for (value, q) in values.iter_mut().zip(qs) {
            match sketch::rank(q, part.count)? {
                1 => {}
                rank if rank == part.count => *value = part.max,
                rank => *value = ranks.at(rank).clamp(part.min, part.max),
            }
        }
        Some(values)
    }

    /// Gives up all sketches but those of these parts.
    pub(crate) fn keep<'a>(&mut self, parts: impl Iterator<Item = &'a mut Part>) {
        let mut kept = Vec::new();
        for part in parts {
            let from = kept.len();
            kept.extend_from_slice(&self.counts[part.counts.clone()]);
            part.counts = from..kept.len();
        }
        self.counts = kept;
    }

    /// Gives up all sketches; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{sketch::tests::wide, sum::tests::value};

    const QS: [f64; 6] = [0.0, 0.07, 0.5, 0.9, 0.99, 1.0];

    fn distributions() -> impl Strategy<Value = Distribution> {
        let values = prop_oneof![
            prop::collection::vec((value(), 1u64..3), 0..20),
            prop::collection::vec((1.0f64..1e4, 1u64..300), 0..300),
            (wide(), 1u64..3).prop_map(|(values, n)| values.into_iter().map(|v| (v, n)).collect()),
            (prop::sample::select(vec![0.0, 1.0, -3.5]), 0u64..9).prop_map(|equal| vec![equal]),
        ];
        values.prop_map(|values| {
            let mut distribution = Distribution::default();
            values.iter().for_each(|(v, n)| distribution.add_times(*v, *n));
            distribution
        })
    }

    fn says(distribution: &Distribution, pool: &Pool, part: &Part) -> Result<(), TestCaseError> {
        prop_assert_eq!(part.count, distribution.count());
        prop_assert_eq!(Some(part.min).filter(|_| part.count > 0), distribution.min());
        prop_assert_eq!(Some(part.max).filter(|_| part.count > 0), distribution.max());
        prop_assert_eq!(part.sum().to_bits(), distribution.sum().to_bits());
        prop_assert_eq!(pool.quantiles(part, QS), distribution.quantiles(QS));
        Ok(())
    }

    proptest! {
        #[test]
        fn stored_and_merged_parts_say_what_the_merged_distributions_say(
            windows in prop::collection::vec(prop::collection::vec(distributions(), 1..5), 1..4), keep: bool,
        ) {
            let mut pool = Pool::default();
            for window in windows {
                let (mut whole, mut parts) = (Distribution::default(), vec![]);
                for distribution in &window {
                    let mut bytes = vec![];
                    distribution.encode(&mut bytes);
                    let part = pool.read(&mut &bytes[..]).unwrap();
                    says(distribution, &pool, &part)?;
                    parts.push(part);
                    whole.merge(distribution);
                }
                if keep && parts.len() > 2 {
                    // As a reader does in the middle of a window that has more parts than it likes to hold.
                    let first = pool.merge(&parts[..2]);
                    parts.splice(..2, [first]);
                    pool.keep(parts.iter_mut());
                }
                let merged = pool.merge(&parts);
                says(&whole, &pool, &merged)?;
                pool.clear();
            }
        }

        #[test]
        fn a_pool_refuses_what_a_distribution_refuses(distribution in distributions(), at in any::<prop::sample::Index>(), to: u8, cut: bool) {
            let mut bytes = vec![];
            distribution.encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if cut { bytes.truncate(at); }
            let (mut here, mut there, mut pool) = (&bytes[..], &bytes[..], Pool::default());
            match (pool.read(&mut here), Distribution::decode(&mut there)) {
                (Ok(part), Ok(whole)) => {
                    prop_assert_eq!(here, there);
                    says(&whole, &pool, &part)?;
                }
                (here, there) => prop_assert_eq!(here.err(), there.err()),
            }
        }
    }
}
