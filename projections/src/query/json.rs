//! Many items as JSON text, byte for byte what each item's `Serialize` gives, in a third of the time: names are spelt once for each series, and
//! whole numbers, of which counts are made, are not put through the printing of fractions. Decides nothing.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{Dimensions, Item, Statistics};
use crate::when::{Second, Spelt};

/// What stands before an item's timestamp, and after its statistics.
struct Names {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Appends the items as a JSON array, each with these statistics.
pub fn write_items(items: &[Item], statistics: Statistics, out: &mut Vec<u8>) {
    // By address: all items of a page that mean the same series share it, and none of them goes away meanwhile.
    let mut names: HashMap<(*const u8, *const crate::series::Series), Names, FxBuildHasher> = HashMap::default();
    let mut spelt = Spelt::default();
    out.reserve(items.len() * 256 + 2);
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let address = (item.service.as_ptr(), &raw const *item.series);
        let names = names.entry(address).or_insert_with(|| Names::of(item));
        out.extend_from_slice(&names.before);
        time(out, item.timestamp, &mut spelt);
        field(out, "period");
        whole(out, u64::from(item.period));
        if statistics.has(0) {
            field(out, Statistics::NAMES[0]);
            whole(out, item.count);
        }
        let mut last: Option<(u64, std::ops::Range<usize>)> = None;
        for (place, value) in (1..).zip(item.numbers()) {
            if statistics.has(place) {
                field(out, Statistics::NAMES[place]);
                let start = out.len();
                match &last {
                    // Of equal values all statistics but the sum are equal too.
                    Some((bits, spelt)) if *bits == value.to_bits() => out.extend_from_within(spelt.clone()),
                    _ => number(out, value),
                }
                last = Some((value.to_bits(), start..out.len()));
            }
        }
        out.extend_from_slice(&names.after);
    }
    out.push(b']');
}

impl Names {
    fn of(item: &Item) -> Self {
        let mut before = b"{\"service\":".to_vec();
        text(&mut before, &*item.service);
        field(&mut before, "namespace");
        text(&mut before, &item.series.namespace);
        field(&mut before, "metric");
        text(&mut before, &item.series.metric);
        field(&mut before, "dimensions");
        text(&mut before, &Dimensions(&item.series.dimensions));
        field(&mut before, "timestamp");
        let mut after = vec![];
        field(&mut after, "unit");
        text(&mut after, &item.series.unit);
        after.push(b'}');
        Self { before, after }
    }
}

fn text(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("texts and objects of texts always encode, and memory takes them");
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn time(out: &mut Vec<u8>, second: Second, spelt: &mut Spelt) {
    match spelt.digits(second) {
        Some(digits) => {
            out.push(b'"');
            out.extend_from_slice(digits);
            out.push(b'"');
        }
        None => text(out, &second),
    }
}

/// As its `Display`, without the machinery of formatting.
fn whole(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn number(out: &mut Vec<u8>, value: f64) {
    const EXACT_MAX: f64 = 1e15;
    if value.fract() == 0.0 && (0.0..EXACT_MAX).contains(&value) && value.is_sign_positive() {
        whole(out, value as u64);
        out.extend_from_slice(b".0");
    } else {
        text(out, &value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_whole_number_is_spelt_as_always(number: u64, shift in 0u32..65) {
            let number = number.checked_shr(shift).unwrap_or(0);
            let mut out = vec![];
            super::whole(&mut out, number);
            prop_assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
