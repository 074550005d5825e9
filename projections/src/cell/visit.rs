//! Some series of a stored cell, without building the rest: what a query about one metric pays for. Decides nothing.
//!
//! What is not wanted is passed over by its lengths alone and not checked; rows are checked whole by the fold that meets them and by `verify`.

use super::{COUNTS, Count, VERSION};
use crate::{
    canonical::{self, DecodeError},
    distribution::Distribution,
    series::Series,
};

/// Names a series of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A count of lines.
    Count(Count),
    /// The built-in latency.
    Latency,
    /// The built-in size.
    Bytes,
    /// Encoded series, and the length of its window in seconds.
    Other(&'a [u8], i64),
}

/// The last section of a cell that may hold something wanted, in stored order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    /// Counts of lines.
    Counts,
    /// The built-in latency.
    Latency,
    /// The built-in size.
    Bytes,
    /// Series that an API named.
    Others,
}

/// Where a cell may hold something wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Counts of lines, by their bits; others are not asked about.
    pub counts: u64,
    /// The last section.
    pub through: Through,
}

impl Wanted {
    /// Everywhere.
    pub const ALL: Self = Self { counts: u64::MAX, through: Through::Others };
}

/// The values of a series as they are stored.
#[derive(Debug)]
pub enum Values<'i, 'a> {
    /// So many ones.
    Ones(u64),
    /// The distribution at the front of this, to be taken off.
    Stored(&'i mut &'a [u8]),
}

/// Asks `wants` about each series that has a value, in stored order, and calls `found` with what it answered and the values.
pub fn visit<'a, K>(
    mut body: &'a [u8],
    Wanted { counts, through }: Wanted,
    mut wants: impl FnMut(Name<'a>) -> Option<K>,
    mut found: impl FnMut(K, Values<'_, 'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let input = &mut body;
    if canonical::take_byte(input, "version")? != VERSION {
        return Err(DecodeError::OutOfRange { what: "version of a window row" });
    }
    let bitmap = canonical::take_varint(input, "counts")?;
    if bitmap >> COUNTS != 0 {
        return Err(DecodeError::OutOfRange { what: "counts" });
    }
    let mut bits = bitmap;
    while bits != 0 && (through > Through::Counts || bits & counts != 0) {
        let lines = canonical::take_varint(input, "count")?;
        let (bit, count) = (bits & bits.wrapping_neg(), Count::ALL[bits.trailing_zeros() as usize]);
        bits ^= bit;
        if counts & bit != 0
            && let Some(key) = wants(Name::Count(count))
        {
            found(key, Values::Ones(lines))?;
        }
    }
    for (name, section) in [(Name::Latency, Through::Latency), (Name::Bytes, Through::Bytes)] {
        if through < section {
            return Ok(());
        }
        // An empty one is a series without a value: nobody is asked about it.
        let is_empty = input.first() == Some(&0);
        let key = if is_empty { None } else { wants(name) };
        match key {
            Some(key) => found(key, Values::Stored(input))?,
            // Nothing behind the last section that may hold something is looked at.
            None if section < through => Distribution::pass(input)?,
            None => {}
        }
    }
    if through < Through::Others {
        return Ok(());
    }
    for _ in 0..canonical::take_varint(input, "number of series")? {
        let series = Series::pass(input)?;
        let length = canonical::take_varint(input, "window length")?;
        let length = i64::try_from(length).map_err(|_| DecodeError::OutOfRange { what: "window length" })?;
        let key = wants(Name::Other(series, length));
        match key {
            Some(key) => found(key, Values::Stored(input))?,
            None => Distribution::pass(input)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::cell::{BYTES, Cell, LATENCY};

    fn named(name: Name<'_>) -> (Series, i64) {
        match name {
            Name::Count(count) => (Series::of_logs(count.metric(), "Count"), 60),
            Name::Latency => (Series::of_logs(LATENCY, "Milliseconds"), 60),
            Name::Bytes => (Series::of_logs(BYTES, "Bytes"), 60),
            Name::Other(mut series, length) => (Series::decode(&mut series).unwrap(), length),
        }
    }

    fn taken(values: Values<'_, '_>) -> Result<Distribution, DecodeError> {
        match values {
            Values::Ones(count) => {
                let mut ones = Distribution::default();
                ones.add_times(1.0, count);
                Ok(ones)
            }
            Values::Stored(input) => Distribution::decode(input),
        }
    }

    /// A cell with any mixture of series.
    fn cells() -> impl Strategy<Value = Cell> {
        let line =
            (any::<bool>(), prop::option::of(100u16..600), prop::option::of(0.0..9e9), prop::option::of(0.0..9.0));
        let other = ("[a-c]{1,2}", prop_oneof![Just(60i64), Just(1)], -1e30..1e30);
        (prop::collection::vec(line, 0..200), prop::collection::vec(other, 0..9)).prop_map(|(lines, others)| {
            let mut cell = Cell::default();
            for (continues, status, latency_ms, bytes) in lines {
                if continues {
                    cell.add_continuation();
                } else {
                    cell.add_line(&crate::lines::Line {
                        time_ms: None,
                        service: None,
                        level: None,
                        status,
                        latency_ms,
                        bytes,
                    });
                }
            }
            for (metric, length, value) in others {
                let dimensions = [("d".to_owned(), metric.clone())];
                let series = Series::new("Custom", &metric, &dimensions, "None").unwrap();
                cell.add_value(&series, length, value).unwrap();
            }
            cell
        })
    }

    proptest! {
        #[test]
        fn a_visit_finds_what_the_whole_cell_holds(cell in cells(), mask in any::<u64>()) {
            let body = cell.encode();
            let wants = |key: &(Series, i64)| mask >> (xxhash_rust::xxh3::xxh3_64(&key.0.encode()) % 64) & 1 == 1;
            let mut found = vec![];
            visit(&body, Wanted::ALL, |name| Some(named(name)).filter(|key| wants(key)), |(series, length), values| {
                found.push((series, length, taken(values)?));
                Ok(())
            }).unwrap();
            found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
            let whole: Vec<_> = cell.windows().into_iter().filter(|(series, length, _)| wants(&(series.clone(), *length))).collect();
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn what_lies_past_the_wanted_places_changes_nothing(cell in cells(), counts: u64, section in 0..4usize) {
            let through = [Through::Counts, Through::Latency, Through::Bytes, Through::Others][section];
            let wants = |name: &Name<'_>| match name {
                Name::Count(count) => counts >> *count as u32 & 1 == 1,
                Name::Latency => through >= Through::Latency,
                Name::Bytes => through >= Through::Bytes,
                Name::Other(..) => through >= Through::Others,
            };
            let found = |wanted| {
                let mut found = vec![];
                visit(&cell.encode(), wanted, |name| wants(&name).then(|| named(name)), |(series, length), values| {
                    found.push((series, length, taken(values)?));
                    Ok(())
                }).unwrap();
                found
            };
            prop_assert_eq!(found(Wanted { counts, through }), found(Wanted::ALL));
        }

        #[test]
        fn a_visit_of_any_bytes_ends(body in prop::collection::vec(any::<u8>(), 0..60), cell in cells(), at in any::<prop::sample::Index>()) {
            let mut broken = cell.encode();
            let at = at.index(broken.len());
            broken[at] ^= 0x55;
            for body in [body, broken] {
                let _ = visit(&body, Wanted::ALL, |name| matches!(name, Name::Bytes).then_some(()), |(), values| taken(values).map(|_| ()));
                let _ = visit(&body, Wanted::ALL, |_| Some(()), |(), values| taken(values).map(|_| ()));
            }
        }
    }
}
