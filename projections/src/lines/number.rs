//! Decides which value a decimal text has: the `f64` nearest to it, exactly as `str::parse` has it, only sooner. It never
//! rounds twice: a unit (µs, s) is applied to the decimal exponent, not to the rounded value.

/// Powers of ten that an `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Up to here every whole number is an `f64`.
const MANTISSA_MAX: u64 = 1 << 53;
/// As many digits always fit into a `u64`.
const DIGITS_MAX: usize = 19;
/// An exponent beyond this is cut to it: the value is 0 or infinite in any case.
const EXPONENT_MAX: i64 = 1_000_000;

/// A decimal as it was written: ± mantissa × 10^exponent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    text: &'a [u8],
    negative: bool,
    /// Meaningless unless `exact`.
    mantissa: u64,
    exponent: i64,
    /// All digits are in the mantissa.
    exact: bool,
}

#[inline(always)]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// The number at `from` in JSON's grammar, and where it ends. Whether a number may end there is the caller's question.
#[inline(always)]
pub(super) fn json(bytes: &[u8], from: usize) -> Option<(Decimal<'_>, usize)> {
    let digits = from + usize::from(bytes.get(from) == Some(&b'-'));
    if bytes.get(digits) == Some(&b'0') && digit(bytes, digits + 1).is_some() {
        return None;
    }
    decimal(bytes, from)
}

/// The number at `from`, as in JSON but with any number of leading zeros, and where it ends.
#[inline(always)]
pub(super) fn decimal(bytes: &[u8], from: usize) -> Option<(Decimal<'_>, usize)> {
    match short(bytes, from) {
        Some(decimal) => Some(decimal),
        None => decimal_of_any_length(bytes, from),
    }
}

/// The same for a number of up to seven bytes without sign and exponent that ends before the eighth. Its length costs no
/// branch: lengths of numbers in logs are what a processor predicts worst.
#[inline(always)]
fn short(bytes: &[u8], from: usize) -> Option<(Decimal<'_>, usize)> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*bytes.get(from..)?.first_chunk()?);
    // A digit's byte becomes its value; of any other byte the highest bit is set in `others`.
    let values = word ^ (EACH * 0x30);
    let others = (((values & (EACH * 0x7f)) + EACH * 0x76) | values) & (EACH * 0x80);
    let whole_bits = others.trailing_zeros() & !7;
    if whole_bits == 0 || whole_bits == 64 {
        return None;
    }
    let (mut digits, mut digits_bits, mut end_bits) = (values, whole_bits, whole_bits);
    if (word >> whole_bits) as u8 == b'.' {
        end_bits = (others & (others - 1)).trailing_zeros() & !7;
        digits_bits = end_bits - 8;
        if end_bits == 64 || digits_bits == whole_bits {
            return None;
        }
        // Take the point out.
        let whole = values & ((1 << whole_bits) - 1);
        digits = whole | (values >> 8 >> whole_bits << whole_bits);
    }
    if matches!((word >> end_bits) as u8, b'e' | b'E' | b'.') {
        return None;
    }
    // Zeros in front, then neighbours are joined: pairs, fours, all eight.
    let digits = digits << (64 - digits_bits);
    let pairs = (digits.wrapping_mul(2561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    let mantissa = fours.wrapping_mul(42_949_672_960_001) >> 32;
    let end = from + end_bits as usize / 8;
    let exponent = -i64::from((digits_bits - whole_bits) / 8);
    Some((Decimal { text: &bytes[from..end], negative: false, mantissa, exponent, exact: true }, end))
}

#[inline(never)]
fn decimal_of_any_length(bytes: &[u8], from: usize) -> Option<(Decimal<'_>, usize)> {
    let negative = bytes.get(from) == Some(&b'-');
    let first = from + usize::from(negative);
    let (mut at, mut mantissa) = (first, 0u64);
    while let Some(digit) = digit(bytes, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - first;
    if digits == 0 {
        return None;
    }
    let mut exponent = 0;
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = fraction;
        while let Some(digit) = digit(bytes, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        if at == fraction {
            return None;
        }
        digits += at - fraction;
        exponent = -((at - fraction) as i64);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let (power, end) = power_of_ten(bytes, at + 1)?;
        exponent += power;
        at = end;
    }
    let text = &bytes[from..at];
    Some((Decimal { text, negative, mantissa, exponent, exact: digits <= DIGITS_MAX }, at))
}

/// What stands after `e`.
#[cold]
fn power_of_ten(bytes: &[u8], from: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(from) == Some(&b'-');
    let first = from + usize::from(matches!(bytes.get(from), Some(b'-' | b'+')));
    let (mut at, mut power) = (first, 0);
    while let Some(digit) = digit(bytes, at) {
        power = (power * 10 + digit as i64).min(EXPONENT_MAX);
        at += 1;
    }
    (at > first).then_some((if negative { -power } else { power }, at))
}

/// The number that all of `text` is.
#[inline]
pub(super) fn whole(text: &[u8]) -> Option<Decimal<'_>> {
    let (decimal, end) = decimal(text, 0)?;
    (end == text.len()).then_some(decimal)
}

impl Decimal<'_> {
    /// The `f64` nearest to this × 10^`shift`; infinite when there is none.
    #[inline]
    pub(super) fn to_f64(self, shift: i8) -> f64 {
        let power = self.exponent + i64::from(shift);
        if !self.exact || self.mantissa > MANTISSA_MAX || !(-22..=22).contains(&power) {
            return self.to_f64_by_text(shift);
        }
        // Both operands are exact, so the one rounding of the operation is the only one.
        let mantissa = self.mantissa as f64;
        let power_abs = POWERS[power.unsigned_abs() as usize];
        let value = if power < 0 { mantissa / power_abs } else { mantissa * power_abs };
        if self.negative { -value } else { value }
    }

    #[cold]
    fn to_f64_by_text(self, shift: i8) -> f64 {
        let text = str::from_utf8(self.text).expect("a decimal is ASCII");
        let parsed = if shift == 0 {
            text.parse()
        } else {
            let (digits, power) = match text.split_once(['e', 'E']) {
                None => (text, 0),
                Some((digits, _)) => (digits, power_of_ten(self.text, digits.len() + 1).map_or(0, |(power, _)| power)),
            };
            format!("{digits}e{}", power + i64::from(shift)).parse()
        };
        parsed.expect("a decimal is a number")
    }

    /// Whether it is written with a point.
    #[inline(always)]
    pub(super) fn has_point(self) -> bool {
        self.text.contains(&b'.')
    }

    /// The value when it is a whole number below 2^16 without a sign.
    #[inline]
    pub(super) fn to_u16(self) -> Option<u16> {
        if self.exact && self.exponent == 0 && !self.negative {
            return u16::try_from(self.mantissa).ok();
        }
        let value = self.to_f64(0);
        (value >= 0.0 && value <= f64::from(u16::MAX) && value.fract() == 0.0).then_some(value as u16)
    }

    /// Whole and millionth part, cut off, of a value that is not negative and written without a large exponent.
    pub(super) fn whole_and_millionths(self) -> Option<(u64, u64)> {
        if self.negative {
            return None;
        }
        if self.exact && (-19..=0).contains(&self.exponent) {
            let unit = 10u128.pow(self.exponent.unsigned_abs() as u32);
            let mantissa = u128::from(self.mantissa);
            return Some(((mantissa / unit) as u64, (mantissa % unit * 1_000_000 / unit) as u64));
        }
        let value = self.to_f64(0);
        (value < 1e19).then(|| (value as u64, (value.fract() * 1e6) as u64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn bits(text: &str) -> u64 {
        whole(text.as_bytes()).unwrap().to_f64(0).to_bits()
    }

    proptest! {
        #[test]
        fn a_decimal_has_the_bits_that_str_parse_gives(text in "-?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?") {
            prop_assert_eq!(bits(&text), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn a_short_decimal_has_the_bits_that_str_parse_gives(text in "-?[0-9]{1,9}(\\.[0-9]{1,9})?(e-?[0-9])?") {
            prop_assert_eq!(bits(&text), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn what_follows_a_number_changes_nothing(text in "-?[0-9]{0,9}\\.?[0-9]{0,8}e?", next in "[,}.e+ a0-9\"\\xff]{0,9}") {
            let text = format!("{text}{next}");
            let read = |(decimal, end): (Decimal<'_>, usize)| (decimal.to_f64(0).to_bits(), decimal.has_point(), decimal.text.len(), end);
            let long = decimal_of_any_length(text.as_bytes(), 0).map(read);
            prop_assert_eq!(decimal(text.as_bytes(), 0).map(read), long, "{}", text);
        }

        #[test]
        fn an_f64_printed_comes_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            prop_assert_eq!(bits(&format!("{value:e}")), value.to_bits());
            prop_assert_eq!(bits(&format!("{value}")), value.to_bits());
        }

        #[test]
        fn a_unit_moves_the_decimal_point_and_does_not_round_again(
            text in "-?[0-9]{1,12}(\\.[0-9]{1,15})?", exponent in -400i64..400, shift in -6i8..7,
        ) {
            let shifted = format!("{text}e{}", exponent + i64::from(shift)).parse::<f64>().unwrap();
            let text = format!("{text}e{exponent}");
            prop_assert_eq!(whole(text.as_bytes()).unwrap().to_f64(shift).to_bits(), shifted.to_bits());
        }

        #[test]
        fn jsons_grammar_is_serde_jsons(text in "[-+]?0{0,2}[0-9]{0,3}\\.?[0-9]{0,3}[eE]?[-+]?[0-9]{0,3}[.x]?") {
            let ours = json(text.as_bytes(), 0).is_some_and(|(_, end)| end == text.len());
            prop_assert_eq!(ours, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
        }
    }

    #[test]
    fn digits_beyond_a_u64_do_not_wrap_around() {
        for text in
            ["18446744073709551617", "0.18446744073709551617", "-184467440737095516170", "00018446744073709551617"]
        {
            assert_eq!(bits(text), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn seconds_with_a_fraction_are_exact_milliseconds() {
        for (text, ms) in [("0.075", 75.0), ("0.001", 1.0), ("4.35", 4350.0), ("1.1", 1100.0)] {
            assert_eq!(whole(text.as_bytes()).unwrap().to_f64(3), ms);
        }
    }

    #[test]
    fn a_status_is_a_whole_number_however_written() {
        for (text, status) in [("200", Some(200)), ("2e2", Some(200)), ("200.0", Some(200)), ("200.5", None)] {
            assert_eq!(whole(text.as_bytes()).unwrap().to_u16(), status, "{text}");
        }
        assert_eq!(whole(b"-200").unwrap().to_u16(), None);
        assert_eq!(whole(b"99999999999999999999999").unwrap().to_u16(), None);
    }
}
