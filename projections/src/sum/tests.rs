//! The sum against exact whole numbers of another implementation, in units of 2^-1074.
#![allow(clippy::unwrap_used)]

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;

/// Values of every kind: ordinary, whole, subnormal, at the ends of the range, of any exponent.
pub(crate) fn value() -> impl Strategy<Value = f64> {
    let sized = prop_oneof![
        8 => (-20f64..20.0).prop_map(|e| e.exp2()),
        4 => (0u64..100_000).prop_map(|n| n as f64),
        4 => (0u64..100_000).prop_map(|n| n as f64 / 1000.0),
        2 => (0u64..1 << 60).prop_map(f64::from_bits),
        4 => (0u64..=VALUE_ABS_MAX.to_bits()).prop_map(f64::from_bits),
        1 => (0u64..1 << 52).prop_map(f64::from_bits),
        1 => prop_oneof![Just(0.0), Just(f64::from_bits(1)), Just(f64::MIN_POSITIVE), Just(VALUE_ABS_MAX)],
    ];
    (sized, any::<bool>()).prop_map(|(size, negative)| if negative { -size } else { size })
}

fn sum_of(values: &[f64]) -> Sum {
    let mut sum = Sum::default();
    values.iter().for_each(|&v| sum.add(v));
    sum
}

fn bytes_of(sum: &Sum) -> Vec<u8> {
    let mut bytes = Vec::new();
    sum.encode(&mut bytes);
    bytes
}

fn exact(v: f64) -> BigInt {
    let bits = v.to_bits() & !(1 << 63);
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    let size = if exponent == 0 { BigInt::from(fraction) } else { BigInt::from(fraction | 1 << 52) << (exponent - 1) };
    if v < 0.0 { -size } else { size }
}

fn exact_total(values: &[f64]) -> BigInt {
    values.iter().map(|&v| exact(v)).sum()
}

/// Asserts that no f64 is nearer to `total`, and that a tie went to the even one.
fn assert_rounded(rounded: f64, total: &BigInt) -> Result<(), TestCaseError> {
    let off = |v: f64| (exact(v) - total).magnitude().clone();
    let mine = off(rounded);
    for neighbour in [rounded.next_up(), rounded.next_down()] {
        let theirs = off(neighbour);
        prop_assert!(
            mine < theirs || mine == theirs && rounded.to_bits() & 1 == 0,
            "{rounded:e} against {neighbour:e}"
        );
    }
    Ok(())
}

fn from_bytes(bytes: &[u8]) -> Result<Sum, DecodeError> {
    let mut input = bytes;
    let sum = Sum::decode(&mut input)?;
    assert!(input.is_empty());
    Ok(sum)
}

proptest! {
    #[test]
    fn a_sum_is_the_exact_one_rounded_once(values in prop::collection::vec(value(), 0..40)) {
        let sum = sum_of(&values);
        assert_rounded(sum.to_f64(), &exact_total(&values))?;
    }

    #[test]
    fn neighbours_of_a_tie_go_to_their_own_side(big in value(), halves in 0u32..4, crumb in value()) {
        // A half of the last place of `big`, sometimes with a crumb on either side of it.
        let ulp = big.abs().next_up() - big.abs();
        let values = [vec![big], vec![ulp / 2.0; halves as usize], vec![crumb]].concat();
        let values: Vec<f64> = values.into_iter().filter(|v| v.abs() <= VALUE_ABS_MAX).collect();
        assert_rounded(sum_of(&values).to_f64(), &exact_total(&values))?;
        assert_rounded(sum_of(&values[..values.len() - 1]).to_f64(), &exact_total(&values[..values.len() - 1]))?;
    }

    #[test]
    fn equal_sums_and_only_they_have_equal_bytes(
        values in prop::collection::vec(value(), 0..20), cut in 0usize..20, cancelled in prop::collection::vec(value(), 0..20),
    ) {
        let plain = sum_of(&values);
        let (left, right) = values.split_at(cut.min(values.len()));
        let mut roundabout = sum_of(&cancelled);
        roundabout.merge(&sum_of(right));
        cancelled.iter().for_each(|&v| roundabout.add(-v));
        roundabout.merge(&sum_of(left));
        prop_assert_eq!(bytes_of(&roundabout), bytes_of(&plain));
        prop_assert_eq!(&roundabout, &plain);
        if exact_total(&cancelled) != BigInt::ZERO {
            roundabout.merge(&sum_of(&cancelled));
            prop_assert_ne!(bytes_of(&roundabout), bytes_of(&plain));
            prop_assert_ne!(&roundabout, &plain);
        }
    }

    #[test]
    fn adding_n_times_is_exact(v in value(), n: u64, bits in 0u32..64, rest in prop::collection::vec(value(), 0..4)) {
        let n = n >> bits;
        let mut sum = sum_of(&rest);
        sum.add_times(v, n);
        let total = exact_total(&rest) + exact(v) * n;
        assert_rounded(sum.to_f64(), &total)?;
        let mut halves = sum_of(&rest);
        halves.add_times(v, n / 2);
        halves.add_times(v, n - n / 2);
        prop_assert_eq!(bytes_of(&halves), bytes_of(&sum));
    }

    #[test]
    fn bytes_are_read_back_and_what_follows_is_left(values in prop::collection::vec(value(), 0..20)) {
        let sum = sum_of(&values);
        let mut bytes = bytes_of(&sum);
        bytes.push(0xaa);
        let mut input = &bytes[..];
        let mut read = Sum::decode(&mut input).unwrap();
        prop_assert_eq!(input, &[0xaa][..]);
        prop_assert_eq!(&read, &sum);
        prop_assert_eq!(read.to_f64().to_bits(), sum.to_f64().to_bits());
        values.iter().for_each(|&v| read.add(-v));
        prop_assert_eq!(bytes_of(&read), [0]);
    }

    #[test]
    fn whatever_bytes_are_accepted_are_what_would_be_written(
        head in 0u64..4000, len in 0u8..200, odd in prop::collection::vec(any::<u8>(), 0..200), noise in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let mut likely = Vec::new();
        put_varint(&mut likely, head);
        likely.push(len);
        likely.extend_from_slice(&odd);
        for bytes in [likely, noise] {
            let mut input = &bytes[..];
            if let Ok(sum) = Sum::decode(&mut input) {
                prop_assert_eq!(bytes_of(&sum), &bytes[..bytes.len() - input.len()]);
                prop_assert!(sum.to_f64().is_finite());
            }
        }
    }

    #[test]
    fn a_cut_or_changed_spelling_is_refused(values in prop::collection::vec(value(), 1..20), cut in 0usize..200) {
        let bytes = bytes_of(&sum_of(&values));
        if cut < bytes.len() {
            prop_assert_eq!(from_bytes(&bytes[..cut]).unwrap_err(), DecodeError::Truncated { what: "sum" });
        }
    }
}

#[test]
fn every_format_ever_written_is_still_written() {
    let cases: &[(&[f64], &str)] = &[
        (&[], "00"),
        (&[1.5, -1.5], "00"),
        (&[-0.0], "00"),
        (&[1.0], "e5100101"),
        (&[-1.0], "e6100101"),
        (&[59999.0], "e510025fea"),
        (&[12.345], "831007713d0ad7a3b018"),
        (&[0.001, 12.345, 59999.0], "ed0f0a7ff2a7c64b3789b5a60e"),
        (&[f64::from_bits(1)], "010101"),
        (
            &[VALUE_ABS_MAX, -f64::from_bits(1)],
            "01b4ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03",
        ),
        (&[VALUE_ABS_MAX], "b5160101"),
    ];
    for (values, expected) in cases {
        let hex: String = bytes_of(&sum_of(values)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex, expected, "{values:?}");
    }
}

#[test]
fn a_few_latencies_take_at_most_14_bytes() {
    let latencies = [0.001, 0.25, 12.345, 87.6, 431.0, 1033.07, 59999.0];
    assert!(bytes_of(&sum_of(&latencies)).len() <= 14);
}

#[test]
fn the_greatest_sum_is_finite_and_written_and_read() {
    let mut sum = Sum::default();
    sum.add_times(VALUE_ABS_MAX, u64::MAX);
    sum.add(-f64::from_bits(1));
    let mut below = Sum::default();
    below.add_times(-VALUE_ABS_MAX, u64::MAX);
    for sum in [sum, below] {
        assert_eq!(sum.to_f64().abs(), 424f64.exp2());
        assert_eq!(from_bytes(&bytes_of(&sum)).unwrap(), sum);
        assert!(bytes_of(&sum).len() <= ENCODED_BYTES_MAX);
    }
}

#[test]
fn a_sum_that_outgrows_128_bits_goes_on_exactly() {
    let v = 43f64.exp2() + 1.0 / 64.0;
    let mut sum = Sum::default();
    (0..100_000).for_each(|_| sum.add(v));
    let mut at_once = Sum::default();
    at_once.add_times(v, 100_000);
    assert!(sum.wide.is_some());
    assert_eq!(bytes_of(&sum), bytes_of(&at_once));
    assert_eq!(sum.to_f64(), 100_000.0 * 43f64.exp2() + 100_000.0 / 64.0);
}

#[test]
fn sums_about_the_end_of_128_bits_are_read_back() {
    for size in [54f64, 55.0, 56.0].map(f64::exp2) {
        for v in [size, size.next_down(), size.next_up(), -size, -size.next_down(), -size.next_up()] {
            for n in [1, 2, 3] {
                let mut at_once = Sum::default();
                at_once.add_times(v, n);
                let mut singly = sum_of(&[v / 4096.0]);
                (1..4096 * n).for_each(|_| singly.add(v / 4096.0));
                assert_eq!(singly, at_once);
                assert_eq!(from_bytes(&bytes_of(&singly)).unwrap(), at_once);
                assert_eq!(singly.to_f64(), at_once.to_f64());
                assert_eq!(singly.to_f64(), v * n as f64);
            }
        }
    }
}

#[test]
#[should_panic(expected = "not a finite number within")]
fn a_value_out_of_range_is_never_summed() {
    Sum::default().add(f64::NAN);
}

#[test]
fn other_spellings_of_a_sum_are_refused() {
    let what = "sum";
    // Even, padded, empty, zero by another way, an overlong head, too great, a huge length.
    assert_eq!(from_bytes(&[1, 1, 2]), Err(DecodeError::NotCanonical { what }));
    assert_eq!(from_bytes(&[1, 2, 1, 0]), Err(DecodeError::NotCanonical { what }));
    assert_eq!(from_bytes(&[1, 0]), Err(DecodeError::NotCanonical { what }));
    assert_eq!(from_bytes(&[1, 1, 0]), Err(DecodeError::NotCanonical { what }));
    assert_eq!(from_bytes(&[0x81, 0x00, 1, 1]), Err(DecodeError::NotCanonical { what }));
    let mut above = Vec::new();
    put_varint(&mut above, u64::from(2 * SUM_BITS_MAX + 1));
    assert_eq!(from_bytes(&[&above[..], &[1, 1]].concat()), Err(DecodeError::OutOfRange { what }));
    assert_eq!(from_bytes(&[1, 255, 1]), Err(DecodeError::Truncated { what }));
}
