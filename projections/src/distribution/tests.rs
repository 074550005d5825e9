//! A window's values in any order and any parts, and its bytes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::{sketch::tests::wide, sum::tests::value};

fn distribution_of(values: &[f64]) -> Distribution {
    let mut distribution = Distribution::default();
    values.iter().for_each(|&v| distribution.add(v));
    distribution
}

fn bytes_of(distribution: &Distribution) -> Vec<u8> {
    let mut bytes = Vec::new();
    distribution.encode(&mut bytes);
    bytes
}

/// Few distinct values, so that parts of equal values are common, or many, or more than a sketch keeps apart.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let few = prop::sample::select(vec![0.0, -0.0, 1.0, 200.0, -3.5]);
    prop_oneof![3 => prop::collection::vec(few, 0..12), 3 => prop::collection::vec(value(), 0..180), 1 => wide()]
}

proptest! {
    #[test]
    fn order_batches_and_shards_leave_no_trace(
        (values, shuffled) in values().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        mut cuts in prop::collection::vec(0usize..180, 0..5),
        through_bytes: bool,
    ) {
        let whole = distribution_of(&values);
        cuts.sort_unstable();
        let mut merged = Distribution::default();
        let mut rest = &shuffled[..];
        for cut in cuts.into_iter().rev() {
            let (left, right) = rest.split_at(cut.min(rest.len()));
            let mut part = distribution_of(right);
            if through_bytes {
                part = Distribution::decode(&mut &bytes_of(&part)[..]).unwrap();
            }
            merged.merge(&part);
            rest = left;
        }
        let mut first = distribution_of(rest);
        first.merge(&merged);
        prop_assert_eq!(bytes_of(&first), bytes_of(&whole));
        prop_assert_eq!(&first, &whole);
        prop_assert_eq!(first.quantiles([0.0, 0.5, 0.9, 1.0]), whole.quantiles([0.0, 0.5, 0.9, 1.0]));
        prop_assert_eq!(first.average(), whole.average());
    }

    #[test]
    fn what_it_says_is_what_the_values_say(values in values()) {
        let distribution = distribution_of(&values);
        let mut sorted: Vec<f64> = values.iter().map(|&v| positive_zero(v)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut sum = Sum::default();
        values.iter().for_each(|&v| sum.add(v));
        prop_assert_eq!(distribution.exact_sum(), sum.clone());
        prop_assert_eq!(distribution.count(), values.len() as u64);
        prop_assert_eq!(distribution.is_empty(), values.is_empty());
        prop_assert_eq!(distribution.min(), sorted.first().copied());
        prop_assert_eq!(distribution.max(), sorted.last().copied());
        prop_assert_eq!(distribution.quantile(0.0), distribution.min());
        prop_assert_eq!(distribution.quantile(1.0), distribution.max());
        if let (Some(estimate), Some(average)) = (distribution.quantile(0.9), distribution.average()) {
            let exact = sorted[(9 * sorted.len()).div_ceil(10) - 1];
            let level = distribution.varied.as_ref().map_or(0, |varied| varied.sketch.level());
            let least = if level > 0 { f64::from_bits(1) } else { 0.0 };
            prop_assert!((estimate - exact).abs() <= exact.abs() * sketch::relative_error(level) * (1.0 + 1e-12) + least);
            prop_assert!(sorted[0] <= average && average <= *sorted.last().unwrap());
        }
    }

    #[test]
    fn adding_n_times_is_n_additions(runs in prop::collection::vec((value(), 0u64..200), 0..5)) {
        let mut at_once = Distribution::default();
        runs.iter().for_each(|&(v, n)| at_once.add_times(v, n));
        let mut singly = Distribution::default();
        runs.iter().for_each(|&(v, n)| (0..n).for_each(|_| singly.add(v)));
        prop_assert_eq!(bytes_of(&at_once), bytes_of(&singly));
    }

    #[test]
    fn bytes_are_read_back_and_what_follows_is_left(values in values()) {
        let distribution = distribution_of(&values);
        let mut bytes = bytes_of(&distribution);
        bytes.push(0xaa);
        let mut input = &bytes[..];
        prop_assert_eq!(Distribution::decode(&mut input).unwrap(), distribution);
        prop_assert_eq!(input, &[0xaa][..]);
    }

    #[test]
    fn a_cut_is_refused_and_a_changed_byte_is_refused_or_another_distribution(
        values in values(), at in 0usize..400, to: u8,
    ) {
        let bytes = bytes_of(&distribution_of(&values));
        if at < bytes.len() {
            prop_assert!(Distribution::decode(&mut &bytes[..at]).is_err());
            let mut changed = bytes.clone();
            changed[at] = to;
            let mut input = &changed[..];
            if let Ok(read) = Distribution::decode(&mut input) {
                prop_assert_eq!(bytes_of(&read), &changed[..changed.len() - input.len()]);
            }
        }
    }

    #[test]
    fn whatever_bytes_are_accepted_are_what_would_be_written(form in 0u8..4, noise in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [&[form], &noise[..]].concat();
        let mut input = &bytes[..];
        if let Ok(read) = Distribution::decode(&mut input) {
            prop_assert_eq!(bytes_of(&read), &bytes[..bytes.len() - input.len()]);
        }
    }
}

#[test]
fn every_format_ever_written_is_still_written() {
    let cases: &[(&[f64], &str)] = &[
        (&[], "00"),
        (&[0.0, -0.0], "010200"),
        (&[1.0; 200], "01c801023ff0"),
        (&[12.345], "0101084028b0a3d70a3d71"),
        (&[1.0, 2.0], "02023ff00140e51001030284cc137e"),
        (
            &[12.345, 12.5, 13.0, 87.6, 87.6, 0.25],
            "02023fd0084055e66666666666831008d1a3703d0a97aa010584ca13c2050206dd0200",
        ),
    ];
    for (values, expected) in cases {
        let hex: String = bytes_of(&distribution_of(values)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex, expected, "{values:?}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_and_minus_zero_is_zero() {
    for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, VALUE_ABS_MAX.next_up(), -VALUE_ABS_MAX.next_up(), f64::MAX] {
        assert_eq!(check(v).unwrap_err().value.to_bits(), v.to_bits());
    }
    for v in [0.0, 1.0, -1.0, f64::from_bits(1), VALUE_ABS_MAX, -VALUE_ABS_MAX] {
        assert_eq!(check(v), Ok(v));
    }
    assert!(check(-0.0).unwrap().is_sign_positive());
}

#[test]
fn bytes_that_contradict_themselves_are_refused() {
    let refused = |bytes: &[u8]| Distribution::decode(&mut &bytes[..]).unwrap_err();
    assert_eq!(refused(&[1, 0, 0]), DecodeError::NotCanonical { what: "count" });
    assert_eq!(refused(&[1, 1, 3, 0x3f, 0xf0, 0]), DecodeError::NotCanonical { what: "value" });
    assert_eq!(refused(&[1, 1, 1, 0x80]), DecodeError::NotCanonical { what: "value" }, "-0.0");
    assert_eq!(refused(&[1, 1, 2, 0x7f, 0xf8]), DecodeError::OutOfRange { what: "value" }, "NaN");
    assert_eq!(refused(&[1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1]), DecodeError::OutOfRange { what: "value" });
    assert_eq!(refused(&[3]), DecodeError::OutOfRange { what: "form of a distribution" });
    // A sketch of one value, or of others than the least and the greatest.
    let what = "range of a distribution";
    let pair = distribution_of(&[1.0, 2.0]);
    let mut other = bytes_of(&pair);
    other[2..4].copy_from_slice(&[0x3f, 0xe0]);
    assert_eq!(refused(&other), DecodeError::OutOfRange { what });
    other[2..4].copy_from_slice(&[0x40, 0x00]);
    assert!(Distribution::decode(&mut &other[..]).is_err());
}

#[test]
fn equal_values_spelled_as_if_they_varied_are_refused() {
    for (min, max) in [(1.0, 1.0), (1.001, 1.0)] {
        let values = [min, max];
        let (mut sum, mut sketch) = (Sum::default(), Sketch::default());
        values.iter().for_each(|&v| sum.add(v));
        values.iter().for_each(|&v| sketch.add(v));
        let mut bytes = vec![2];
        put_value(&mut bytes, min);
        put_value(&mut bytes, max);
        sum.encode(&mut bytes);
        sketch.encode(&mut bytes);
        let refused = DecodeError::OutOfRange { what: "range of a distribution" };
        assert_eq!(Distribution::decode(&mut &bytes[..]), Err(refused));
    }
}

#[test]
fn an_average_of_equal_values_is_their_value_in_spite_of_rounding() {
    for n in 1..2000 {
        let mut distribution = Distribution::default();
        distribution.add_times(0.1, n);
        assert_eq!(distribution.average(), Some(0.1), "{n}");
    }
}

#[test]
fn a_distribution_is_small_while_its_values_are_equal() {
    assert!(size_of::<Distribution>() <= 32);
    assert!(size_of::<Varied>() <= 64);
}
