//! The sketch against the exact nearest-rank quantile of the same values, sorted.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{
    bucket::{KEY_MAX, is_key},
    *,
};
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
    uniform_from(1)
}

fn uniform_from(mut state: u64) -> impl Iterator<Item = f64> {
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

/// Up to 2,500 values over some stretch of all buckets: at any level, of both signs if it lies around zero.
pub(crate) fn wide() -> impl Strategy<Value = Vec<f64>> {
    (8u32..18, -KEY_MAX..KEY_MAX, 0usize..2500, any::<u64>()).prop_map(|(width, from, len, seed)| {
        let keys = uniform_from(seed).map(|u| (from + (u * f64::from(width).exp2()) as i32).min(KEY_MAX));
        keys.map(|key| middle(key, 0).clamp(-VALUE_ABS_MAX, VALUE_ABS_MAX)).take(len).collect()
    })
}

/// The level that values have, and how many buckets of it, by its definition.
fn level_and_buckets(values: &[f64]) -> (u32, usize) {
    let buckets = |level: u32| {
        let bucket = |&v: &f64| match key_of(v) {
            0 => (0, 0),
            key => (key.signum(), (key.abs() - 1) / (1 << level)),
        };
        values.iter().map(bucket).collect::<std::collections::HashSet<_>>().len()
    };
    (0..=LEVEL_MAX).map(|level| (level, buckets(level))).find(|&(_, buckets)| buckets <= BINS_MAX).unwrap()
}

/// `estimate` for `exact` at a level.
fn is_close(estimate: f64, exact: f64, level: u32) -> bool {
    // Half a unit of subnormals is no f64.
    let rounded = if level > 0 && exact.abs() < f64::MIN_POSITIVE { f64::from_bits(1) } else { 0.0 };
    (estimate - exact).abs() <= exact.abs() * relative_error(level) * (1.0 + 1e-12) + rounded
}

/// Compares every quantile worth asking for with the value at its rank, found without the code under test; the level.
fn assert_close(name: &str, values: &[f64]) -> u32 {
    let sketch = sketch_of(values);
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    assert_eq!(sketch.count(), values.len() as u64);
    let (level, _) = level_and_buckets(values);
    assert_eq!(sketch.level(), level, "{name}");
    // Per mille, so that the rank is whole arithmetic.
    for per_mille in [0usize, 1, 10, 50, 70, 100, 250, 333, 500, 750, 900, 950, 990, 999, 1000] {
        let rank = (per_mille * values.len()).div_ceil(1000).max(1);
        let exact = sorted[rank - 1];
        let estimate = sketch.quantile(per_mille as f64 / 1000.0).unwrap();
        let n = values.len();
        assert!(is_close(estimate, exact, level), "{name}, n {n}, q {per_mille}/1000: {estimate:e} for {exact:e}");
    }
    level
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
fn quantiles_of_windows_of_any_width_are_within_the_error_of_their_level() {
    let n = 50_000;
    let (normals, uniforms): (Vec<f64>, Vec<f64>) = (normal().take(n).collect(), uniform().take(n).collect());
    let map = |values: &[f64], f: &dyn Fn(f64) -> f64| values.iter().map(|&v| f(v)).collect::<Vec<_>>();
    let exponents = |u: f64, octaves: f64| (octaves * (2.0 * (u - 0.5).abs() - 0.5)).exp2().copysign(u - 0.5);
    assert_eq!(assert_close("lognormal of sigma 1.5", &map(&normals, &|z| (1.5 * z).exp())), 0);
    assert_eq!(assert_close("lognormal of sigma 8", &map(&normals, &|z| (8.0 * z).exp())), 3);
    assert_eq!(assert_close("both signs, twelve decades", &map(&uniforms, &|u| exponents(u, 40.0))), 3);
    assert_eq!(assert_close("both signs, ±2^360 and its inverse", &map(&uniforms, &|u| exponents(u, 720.0))), 7);
    let all = |u: f64| (1434.0 * 2.0 * (u - 0.5).abs() - 1074.0).exp2().copysign(u - 0.5);
    assert_eq!(assert_close("both signs, from 2^-1074", &map(&uniforms, &all)), 8);
    // A thousand buckets, and as many at the other end: too many by a little, and by two octaves that lie as far apart as any.
    for (low, high) in [(1e-300, 1e100), (-1e100, -1e-300), (-1e100, 1e100), (1.0, 2f64.powi(17))] {
        let clusters = |u: f64| if u < 0.5 { low * (u * 30.0).exp2() } else { high * ((u - 0.5) * 30.0).exp2() };
        assert_eq!(assert_close("two clusters", &map(&uniforms, &clusters)), 1, "{low} and {high}");
    }
    // One value far off is answered for, and costs the others nothing.
    let mut lonely = map(&uniforms, &|u| (u * 15.0).exp2());
    lonely.extend([1e-300; 2000]);
    assert_eq!(assert_close("one far off", &lonely), 0);
}

#[test]
fn the_error_of_each_level_is_what_its_widest_bucket_has_and_no_less() {
    let said: Vec<f64> = (0..=LEVEL_MAX).map(relative_error).collect();
    assert_eq!(said, [1. / 128., 1. / 65., 1. / 33., 1. / 17., 1. / 9., 1. / 5., 1. / 3., 3. / 5., 15. / 17.]);
    for (level, said) in said.iter().enumerate().skip(1) {
        // The least value of an octave whose number four divides.
        let estimate = middle(joined(key_of(0.25), level as u32), level as u32);
        assert!((estimate / 0.25 - 1.0 - said).abs() < 1e-15, "{level}");
    }
    assert!(said[0] < RELATIVE_ERROR);
    assert_eq!(relative_error(u32::MAX), relative_error(LEVEL_MAX));
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
    assert_eq!(
        sketch.ascending().counts().counts.iter().map(|&(_, n)| n).collect::<Vec<_>>(),
        [(1 << 32) + 198, 1 << 40]
    );
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
fn a_sketch_of_a_level_is_written_as_its_keys_at_that_level() {
    let values: Vec<f64> = (0..1025).map(|i| f64::from_bits((1023 * 64 + i) << 46)).collect();
    let expected = format!("820c85e60900{}00", "0100".repeat(511));
    assert_eq!(hex(&bytes_of(&sketch_of(&values))), expected);
    assert_eq!(sketch_of(&values[1..]).level(), 0);
}

#[test]
fn the_size_of_a_sketch_in_bytes_stays_within_what_is_said() {
    let latencies: Vec<f64> = normal().take(100_000).map(|z| (3.0 + z).exp()).collect();
    assert!(bytes_of(&sketch_of(&latencies[..55])).len() <= 80);
    assert!(bytes_of(&sketch_of(&latencies)).len() <= 1600);
    let mut all = Sketch::default();
    for key in (-KEY_MAX..=KEY_MAX).filter(|&key| is_key(key, 0)) {
        all.add_times(middle(key, 0).clamp(-VALUE_ABS_MAX, VALUE_ABS_MAX), u64::MAX / 1_000_000);
    }
    let bytes = bytes_of(&all);
    assert!(bytes.len() <= ENCODED_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Sketch::decode(&mut &bytes[..]).unwrap(), all);
    assert_eq!(all.level(), LEVEL_MAX);
}

#[test]
fn past_the_most_keys_all_are_joined_in_any_order_and_no_count_is_lost() {
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
    assert_eq!(read.level(), 5);
    for q in [0.01, 0.5, 0.99] {
        assert!(is_close(read.quantile(q).unwrap(), values[(9_000.0 * q) as usize - 1], 5), "{q}");
    }
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

/// Neighbours from the least key of a level on, all with so many values but the first.
fn neighbours(level: u64, keys: u64, first: u64, others: u64) -> Vec<u8> {
    let mut bytes = vec![];
    put_varint(&mut bytes, keys + 1025 * level);
    for n in std::iter::once(first).chain(std::iter::repeat_n(others, keys as usize - 1)) {
        put_varint(&mut bytes, u64::from(n > 1));
        if n > 1 {
            put_varint(&mut bytes, n - 2);
        }
    }
    bytes
}

#[test]
fn a_level_is_refused_where_fewer_joins_would_have_done() {
    let what = "sketch";
    let decode = |bytes: &[u8]| Sketch::decode(&mut &bytes[..]).map(|sketch| sketch.level());
    assert_eq!(decode(&neighbours(0, 1024, 1, 1)), Ok(0));
    for level in 1..=7 {
        // The first, of -2^360, is one bucket a level down: no value lies below it.
        assert_eq!(decode(&neighbours(level, 513, 1, 2)), Ok(level as u32));
        assert_eq!(decode(&neighbours(level, 1024, 1, 2)), Ok(level as u32));
        assert_eq!(decode(&neighbours(level, 1024, 2, 1)), Err(DecodeError::NotCanonical { what }), "{level}");
        assert_eq!(decode(&neighbours(level, 512, 9, 9)), Err(DecodeError::OutOfRange { what }), "{level}");
        assert_eq!(decode(&neighbours(level, 513, 1, 1)), Err(DecodeError::NotCanonical { what }), "{level}");
    }
    for level in [9, 10, 1 << 20, u64::MAX / 1025 - 1] {
        assert_eq!(decode(&neighbours(level, 600, 2, 2)), Err(DecodeError::OutOfRange { what }), "{level}");
    }
    let mut head = vec![];
    put_varint(&mut head, 600 + 1025);
    assert_eq!(decode(&head), Err(DecodeError::Truncated { what }));
}

#[test]
fn keys_of_a_level_are_those_of_some_value_and_no_others() {
    for level in 0..=LEVEL_MAX {
        let keys: std::collections::BTreeSet<i32> =
            (0..1 << 12).map(|units| joined(key_of(f64::from_bits(units)), level)).collect();
        for key in 0..=*keys.last().unwrap() {
            assert_eq!((is_key(key, level), is_key(-key, level)), (keys.contains(&key), keys.contains(&key)), "{key}");
        }
        let most = joined(KEY_MAX, level);
        assert_eq!([most, most + 1, -most - 1].map(|key| is_key(key, level)), [true, false, false]);
    }
}

proptest! {
    #[test]
    fn keys_ascend_with_values_and_middles_are_near(a in value(), b in value()) {
        let (a, b) = (a.min(b), a.max(b));
        prop_assert!(key_of(a) <= key_of(b));
        prop_assert_eq!(key_of(-a), -key_of(a));
        for level in 0..=LEVEL_MAX {
            let [a_key, b_key] = [a, b].map(|v| joined(key_of(v), level));
            prop_assert!(a_key <= b_key);
            prop_assert!(middle(a_key, level) <= middle(b_key, level));
            prop_assert_eq!(joined(key_of(-a), level), -a_key);
            prop_assert_eq!(a_key == 0, a == 0.0);
            prop_assert!(is_close(middle(a_key, level), a, level), "{} for {a} at {level}", middle(a_key, level));
            prop_assert!(is_key(a_key, level));
            prop_assert_eq!(joined(joined(key_of(a), level / 2), level - level / 2), a_key);
            prop_assert_eq!(joined(first(a_key, level), level), a_key);
        }
    }

    #[test]
    fn wide_windows_are_the_same_for_every_order_and_every_tree_of_merges(
        windows in prop::collection::vec(wide(), 1..4), picks in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let values = windows.concat();
        let whole = sketch_of(&values);
        let (level, buckets) = level_and_buckets(&values);
        prop_assert_eq!((whole.level(), whole.ascending().counts().counts.len()), (level, buckets));
        // Some parts are narrow, as they came; the others mix all.
        let mut parts: Vec<Sketch> = windows.iter().map(|window| sketch_of(window)).collect();
        let mut reversed = values.clone();
        reversed.reverse();
        parts.push(Sketch::default());
        parts.extend(reversed.chunks(1 + picks[0].index(2000)).map(sketch_of));
        let mut twice = whole.clone();
        twice.merge(&whole);
        for pick in picks.iter().cycle() {
            if parts.len() == 1 { break; }
            let part = parts.swap_remove(pick.index(parts.len()));
            let mut input = bytes_of(&part);
            input.push(7);
            let mut input = &input[..];
            let mut passed = input;
            let read = Sketch::decode(&mut input).unwrap();
            Sketch::pass(&mut passed).unwrap();
            prop_assert_eq!((input, passed), (&[7][..], &[7][..]));
            prop_assert_eq!(bytes_of(&read), bytes_of(&part));
            let at = pick.index(parts.len());
            parts[at].merge(if pick.index(2) == 0 { &part } else { &read });
        }
        // Each value was in two parts.
        prop_assert_eq!(bytes_of(&parts[0]), bytes_of(&twice));
        prop_assert_eq!(&parts[0], &twice);
        prop_assert_eq!(twice.level(), level);
        let mut added = Sketch::decode(&mut &bytes_of(&whole)[..]).unwrap();
        values.iter().for_each(|&v| added.add(v));
        prop_assert_eq!(bytes_of(&added), bytes_of(&twice));
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
