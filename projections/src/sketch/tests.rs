//! The sketch against the exact nearest-rank quantile of the same values, sorted.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::sum::tests::value;

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|&v| sketch.add(v));
    sketch
}

fn bytes_of(sketch: &Sketch) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Uniform numbers in (0, 1), the same in every run.
fn uniform() -> impl Iterator<Item = f64> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / 53f64.exp2()
    })
}

fn normal() -> impl Iterator<Item = f64> {
    let mut uniform = uniform();
    std::iter::repeat_with(move || {
        let (radius, angle) = (uniform.next().unwrap(), uniform.next().unwrap());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    })
}

/// Compares every quantile worth asking for with the value at its rank, found without the code under test.
fn assert_close(name: &str, values: &[f64]) {
    let sketch = sketch_of(values);
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    assert_eq!(sketch.count(), values.len() as u64);
    // The bound holds for values whose keys are among the highest `BINS_MAX`: all of them, but for windows over hundreds of octaves.
    let mut keys: Vec<i32> = values.iter().map(|&v| key_of(v)).collect();
    keys.sort_unstable();
    keys.dedup();
    let lowest = keys[keys.len().saturating_sub(BINS_MAX)];
    assert!(keys.len() <= BINS_MAX || name.contains("all exponents"), "{name} spans {} keys", keys.len());
    // Per mille, so that the rank is whole arithmetic.
    for per_mille in [0usize, 1, 10, 50, 70, 100, 250, 333, 500, 750, 900, 950, 990, 999, 1000] {
        let rank = (per_mille * values.len()).div_ceil(1000).max(1);
        let exact = sorted[rank - 1];
        if key_of(exact) < lowest {
            continue;
        }
        let estimate = sketch.quantile(per_mille as f64 / 1000.0).unwrap();
        // A little over the 1/128 of the design, well under the stated error.
        let within = (estimate - exact).abs() <= exact.abs() / 127.0;
        assert!(within, "{name}, n {}, q {per_mille}/1000: {estimate:e} for {exact:e}", values.len());
    }
}

#[test]
fn quantiles_are_within_the_stated_error_for_every_shape_and_size() {
    for n in [1, 2, 3, 7, 55, 127, 128, 129, 1000, 5000] {
        let normals: Vec<f64> = normal().take(n).collect();
        let uniforms: Vec<f64> = uniform().take(n).collect();
        let map = |values: &[f64], f: &dyn Fn(f64) -> f64| values.iter().map(|&v| f(v)).collect::<Vec<_>>();
        assert_close("lognormal", &map(&normals, &|z| (3.0 + z).exp()));
        assert_close("whole lognormal with zeros", &map(&normals, &|z| z.exp().floor()));
        assert_close("uniform", &map(&uniforms, &|u| 1000.0 * u));
        assert_close("exponential", &map(&uniforms, &|u| -20.0 * u.ln()));
        assert_close("constant", &vec![12.345; n]);
        assert_close("bimodal", &map(&uniforms, &|u| if u < 0.7 { 1.0 + u } else { 30_000.0 + u }));
        assert_close("negative", &map(&normals, &|z| -z.exp()));
        assert_close("mixed", &map(&normals, &|z| 40.0 * z));
        assert_close(
            "all exponents",
            &map(&uniforms, &|u| f64::from_bits((u * VALUE_ABS_MAX.to_bits() as f64) as u64)),
        );
        assert_close(
            "both signs, all exponents",
            &map(&uniforms, &|u| {
                let size = f64::from_bits(((u - 0.5).abs() * 2.0 * VALUE_ABS_MAX.to_bits() as f64) as u64);
                size.copysign(u - 0.5)
            }),
        );
        assert_close("subnormal", &map(&uniforms, &|u| f64::from_bits((u * 52f64.exp2()) as u64)));
        assert_close("least subnormals", &map(&uniforms, &|u| f64::from_bits((u * 300.0) as u64)));
    }
}

#[test]
fn the_rank_is_that_of_the_decimal_that_was_meant() {
    assert_eq!(rank(0.07, 100), Some(7));
    assert_eq!(rank(0.55, 100), Some(55));
    for n in 1..20_000u64 {
        for per_mille in [1, 7, 70, 290, 500, 550, 570, 580, 900, 950, 990, 999, 1000] {
            assert_eq!(rank(per_mille as f64 / 1000.0, n), Some((per_mille * n).div_ceil(1000)), "{per_mille} of {n}");
        }
        assert_eq!(rank(0.0, n), Some(1));
    }
    assert_eq!(rank(1.0, u64::MAX), Some(u64::MAX));
    for q in [-0.1, 1.1, f64::NAN] {
        assert_eq!(rank(q, 10), None);
    }
    assert_eq!(rank(0.5, 0), None);
}

#[test]
fn counts_beyond_32_and_64_bits_are_kept_and_stop() {
    let mut sketch = sketch_of(&[1.0; 200]);
    sketch.add_times(1.0, u64::from(u32::MAX) - 1);
    sketch.add_times(2.0, 1 << 40);
    assert_eq!(sketch.ascending().counts().iter().map(|&(_, n)| n).collect::<Vec<_>>(), [(1 << 32) + 198, 1 << 40]);
    sketch.add_times(0.0, u64::MAX);
    sketch.add(0.0);
    sketch.add_times(2.0, u64::MAX);
    assert_eq!(sketch.count(), u64::MAX);
    let bytes = bytes_of(&sketch);
    assert_eq!(Sketch::decode(&mut &bytes[..]).unwrap(), sketch);
}

#[test]
fn every_format_ever_written_is_still_written() {
    let latencies = [12.345, 12.5, 13.0, 87.6, 87.6, 0.25];
    let cases: &[(&[f64], &str)] = &[
        (&[], "00"),
        (&[0.0], "01829a0b"),
        (&[1.0], "0184cc13"),
        (&[1.0, 1.0, 1.0], "0185cc1301"),
        (&[-1.0, 0.0, 1.0], "0380e80280b20880b208"),
        (&latencies, "0584ca13c2050206dd0200"),
        (&[-VALUE_ABS_MAX, f64::from_bits(1), VALUE_ABS_MAX], "0300829a0bfe990b"),
    ];
    for (values, expected) in cases {
        assert_eq!(&hex(&bytes_of(&sketch_of(values))), expected, "{values:?}");
    }
}

#[test]
fn the_size_of_a_sketch_in_bytes_stays_within_what_is_said() {
    let latencies: Vec<f64> = normal().take(100_000).map(|z| (3.0 + z).exp()).collect();
    assert!(bytes_of(&sketch_of(&latencies[..55])).len() <= 80);
    assert!(bytes_of(&sketch_of(&latencies)).len() <= 1600);
    let mut all = Sketch::default();
    for key in (-KEY_MAX..=KEY_MAX).filter(|&key| is_key(key)) {
        all.add_times(middle(key).clamp(-VALUE_ABS_MAX, VALUE_ABS_MAX), u64::MAX / 1_000_000);
    }
    let bytes = bytes_of(&all);
    assert!(bytes.len() <= ENCODED_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Sketch::decode(&mut &bytes[..]).unwrap(), all);
}

#[test]
fn past_the_most_keys_the_highest_are_kept_in_any_order_and_no_count_is_lost() {
    let values: Vec<f64> = (0..9_000).map(|i| 1.02f64.powi(i % 9_000 - 3_000)).collect();
    let up = sketch_of(&values);
    let mut reversed = values.clone();
    reversed.reverse();
    let down = sketch_of(&reversed);
    let mut merged = Sketch::default();
    for part in values.chunks(700) {
        let through_bytes = bytes_of(&sketch_of(part));
        merged.merge(&Sketch::decode(&mut &through_bytes[..]).unwrap());
    }
    let bytes = bytes_of(&up);
    assert_eq!((bytes_of(&down), bytes_of(&merged)), (bytes.clone(), bytes.clone()));
    assert!(bytes.len() <= ENCODED_BYTES_MAX);
    let read = Sketch::decode(&mut &bytes[..]).unwrap();
    assert_eq!(read.count(), 9_000);
    let exact = values[8_909];
    assert!((read.quantile(0.99).unwrap() - exact).abs() <= RELATIVE_ERROR * exact);
}

#[test]
fn other_spellings_of_a_sketch_are_refused() {
    let what = "sketch";
    let decode = |bytes: &[u8]| Sketch::decode(&mut &bytes[..]).map(|_| ());
    let with_head = |head: u64, rest: &[u8]| {
        let mut bytes = vec![1];
        put_varint(&mut bytes, head);
        [&bytes[..], rest].concat()
    };
    let zero = 2 * KEY_MAX as u64;
    assert_eq!(decode(&with_head(zero, &[])), Ok(()));
    assert_eq!(decode(&with_head(2 * zero, &[])), Ok(()));
    assert_eq!(decode(&with_head(2 * zero + 2, &[])), Err(DecodeError::OutOfRange { what }), "above 2^360");
    assert_eq!(decode(&with_head(u64::MAX - 1, &[])), Err(DecodeError::OutOfRange { what }));
    assert_eq!(decode(&with_head(zero + 4, &[])), Err(DecodeError::OutOfRange { what }), "no f64 lies there");
    let count_of_65_bits = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(decode(&with_head(zero + 1, &count_of_65_bits)), Err(DecodeError::OutOfRange { what }));
    assert_eq!(decode(&[2, 0]), Err(DecodeError::Truncated { what }));
}

proptest! {
    #[test]
    fn keys_ascend_with_values_and_middles_are_near(a in value(), b in value()) {
        let (a, b) = (a.min(b), a.max(b));
        prop_assert!(key_of(a) <= key_of(b));
        prop_assert_eq!(key_of(-a), -key_of(a));
        prop_assert!((middle(key_of(a)) - a).abs() <= a.abs() / 127.0);
        prop_assert!(is_key(key_of(a)));
    }

    #[test]
    fn order_and_parts_leave_no_trace(
        (values, shuffled) in prop::collection::vec(value(), 0..200).prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        cuts in prop::collection::vec(0usize..200, 0..4),
    ) {
        let whole = sketch_of(&values);
        let mut parts = vec![&shuffled[..]];
        for cut in cuts {
            let last = parts.pop().unwrap();
            let (left, right) = last.split_at(cut.min(last.len()));
            parts.extend([left, right]);
        }
        let mut merged = Sketch::default();
        parts.iter().rev().for_each(|part| merged.merge(&sketch_of(part)));
        prop_assert_eq!(bytes_of(&merged), bytes_of(&whole));
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(merged.count(), values.len() as u64);
    }

    #[test]
    fn bytes_are_read_back_and_what_follows_is_left(weights in prop::collection::vec((value(), 1u64..100), 0..100)) {
        let mut sketch = Sketch::default();
        weights.iter().for_each(|&(v, n)| sketch.add_times(v, n));
        let mut singly = Sketch::default();
        weights.iter().for_each(|&(v, n)| (0..n).for_each(|_| singly.add(v)));
        prop_assert_eq!(bytes_of(&singly), bytes_of(&sketch));
        let mut bytes = bytes_of(&sketch);
        bytes.push(0xaa);
        let mut input = &bytes[..];
        let read = Sketch::decode(&mut input).unwrap();
        prop_assert_eq!(input, &[0xaa][..]);
        prop_assert_eq!(&read, &sketch);
        prop_assert_eq!(read.quantile(0.9), sketch.quantile(0.9));
    }

    #[test]
    fn whatever_bytes_are_accepted_are_what_would_be_written(
        pairs in 0u64..6, first in 0u64..400_000, rest in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let mut likely = Vec::new();
        put_varint(&mut likely, pairs);
        put_varint(&mut likely, first);
        likely.extend_from_slice(&rest);
        for bytes in [&likely[..], &rest[..]] {
            let mut input = bytes;
            if let Ok(sketch) = Sketch::decode(&mut input) {
                prop_assert_eq!(bytes_of(&sketch), &bytes[..bytes.len() - input.len()]);
                sketch.quantile(0.5);
            }
        }
    }
}
