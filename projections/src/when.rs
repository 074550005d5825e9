//! Times as people write and read them. Decides which instant a text means; asks no clock: now is a parameter.
//!
//! | form | example |
//! | --- | --- |
//! | RFC 3339, a space or `T`, any number of decimals | `2026-01-02T03:04:05.123Z`, `2026-01-02 03:04:05+01:00` |
//! | a date: its first instant in UTC | `2026-01-02` |
//! | Unix time: below 10^11 seconds, else milliseconds | `1767322800`, `1767322800123` |
//! | now, and before it | `now`, `-15m`, `-1h`, `-7d`; s, m, h, d, w |
//!
//! Written by hand and held against jiff in the tests: an answer prints a time for every item, so that printing must cost nothing, and the pure
//! crates stay without one more dependency.

use events::calendar;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_SECS: i64 = 86_400;
/// The first instant that RFC 3339 can write, `0000-01-01T00:00:00Z`, in Unix milliseconds.
const FIRST_MS: i64 = -62_167_219_200_000;
/// The last one.
const LAST_MS: i64 = 253_402_300_799_999;

/// The text names no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no time{why}: write RFC 3339 (2026-01-02T03:04:05Z), a date, epoch seconds or milliseconds, now, or -15m"
)]
pub struct BadTime {
    text: String,
    why: &'static str,
}

fn bad(text: &str, why: &'static str) -> BadTime {
    BadTime { text: text.chars().take(60).collect(), why }
}

/// The text names no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of time: write a whole number and one of s, m, h, d, w, such as 15m")]
pub struct BadSpan(String);

/// The instant that a text means, Unix milliseconds.
pub fn parse(text: &str, now_ms: i64) -> Result<i64, BadTime> {
    let ms = if text == "now" {
        now_ms
    } else if let Some(span) = text.strip_prefix('-') {
        let span = span_secs(span).map_err(|_| bad(text, " before now"))?;
        now_ms.saturating_sub(span.saturating_mul(1000))
    } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| bad(text, " up to the year 9999"))?;
        if number < 100_000_000_000 { number * 1000 } else { number }
    } else {
        written(text)?
    };
    if (FIRST_MS..=LAST_MS).contains(&ms) { Ok(ms) } else { Err(bad(text, " up to the year 9999")) }
}

/// The seconds of a span such as `15m`.
pub fn span_secs(text: &str) -> Result<i64, BadSpan> {
    let refuse = || BadSpan(text.chars().take(60).collect());
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => DAY_SECS,
        Some(b'w') => 7 * DAY_SECS,
        _ => return Err(refuse()),
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || number.len() > 10 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    number.parse::<i64>().map(|number| number * unit).map_err(|_| refuse())
}

/// A date, or a date with a time and a zone.
fn written(text: &str) -> Result<i64, BadTime> {
    let refuse = || bad(text, "");
    let bytes = text.as_bytes();
    let day = date(bytes).ok_or_else(refuse)?;
    if bytes.len() == 10 {
        return Ok(day * DAY_SECS * 1000);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') {
        return Err(refuse());
    }
    let shape = bytes.get(13) == Some(&b':') && bytes.get(16) == Some(&b':');
    let (Some(hour), Some(minute), Some(second), true) =
        (number(bytes, 11, 2), number(bytes, 14, 2), number(bytes, 17, 2), shape)
    else {
        return Err(refuse());
    };
    if hour > 23 || minute > 59 || second > 60 {
        return Err(refuse());
    }
    let (fraction_ms, end) = fraction(bytes, 19).ok_or_else(refuse)?;
    // A leap second's name is the last millisecond of its minute: its minute depends on the zone, and our time has no place for it.
    let in_minute_ms = if second == 60 { 59_999 } else { second * 1000 + fraction_ms };
    let offset_secs = match zone(&bytes[end..]) {
        Some(offset_secs) => offset_secs,
        None if bytes.len() == end => return Err(bad(text, " without a zone (end it with Z for UTC)")),
        None => return Err(bad(text, " with a known zone (Z, or +01:00, whose + is %2B in an address)")),
    };
    Ok((day * DAY_SECS + hour * 3600 + minute * 60 - offset_secs) * 1000 + in_minute_ms)
}

/// The day that `YYYY-MM-DD` at the start names, from 1970-01-01 on.
fn date(bytes: &[u8]) -> Option<i64> {
    let shape = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    let (year, month, day) = (number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?);
    let days = calendar::days(year, month, day);
    (shape && calendar::date(days) == (year, month, day)).then_some(days)
}

fn number(bytes: &[u8], at: usize, digits: usize) -> Option<i64> {
    let digits = bytes.get(at..at + digits)?;
    digits.iter().try_fold(0, |number, b| b.is_ascii_digit().then(|| number * 10 + i64::from(b - b'0')))
}

/// `.123` at `at` in milliseconds, cut off there, and where it ends.
fn fraction(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    if bytes.get(at) != Some(&b'.') {
        return Some((0, at));
    }
    let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let ms = (0..3).fold(0, |ms, place| {
        let digit = if place < digits { i64::from(bytes[at + 1 + place] - b'0') } else { 0 };
        ms * 10 + digit
    });
    (digits > 0).then_some((ms, at + 1 + digits))
}

/// `Z`, `+01:00`, `-05:30` as seconds east of UTC.
fn zone(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes {
        [b'Z' | b'z'] => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(bytes, 1, 2)?, number(bytes, 4, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A second, Unix; its text is RFC 3339 in UTC with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Second(pub i64);

impl Second {
    /// The text's bytes; `None` outside the years 0 to 9999, which RFC 3339 cannot write.
    fn digits(self) -> Option<[u8; 20]> {
        Spelt::default().digits(self).copied()
    }
}

/// The text of the second before, for who spells many of one day: the date is most of the work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spelt(Option<(i64, [u8; 20])>);

impl Spelt {
    /// The text's bytes; `None` outside the years 0 to 9999, which RFC 3339 cannot write.
    pub(crate) fn digits(&mut self, second: Second) -> Option<&[u8; 20]> {
        if !(FIRST_MS / 1000..=LAST_MS / 1000).contains(&second.0) {
            return None;
        }
        let put = |text: &mut [u8; 20], at: usize, number: i64| {
            text[at] = b'0' + (number / 10) as u8;
            text[at + 1] = b'0' + (number % 10) as u8;
        };
        let of = second.0.div_euclid(DAY_SECS);
        if self.0.is_none_or(|(day, _)| day != of) {
            let (year, month, day) = calendar::date(of);
            let mut text = *b"0000-00-00T00:00:00Z";
            for (at, number) in [(0, year / 100), (2, year % 100), (5, month), (8, day)] {
                put(&mut text, at, number);
            }
            self.0 = Some((of, text));
        }
        let (_, text) = self.0.as_mut()?;
        let secs = second.0.rem_euclid(DAY_SECS);
        for (at, number) in [(11, secs / 3600), (14, secs / 60 % 60), (17, secs % 60)] {
            put(text, at, number);
        }
        Some(text)
    }
}

impl std::fmt::Display for Second {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.digits() {
            Some(digits) => f.write_str(std::str::from_utf8(&digits).expect("digits are ASCII")),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl Serialize for Second {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.digits() {
            Some(digits) => serializer.serialize_str(std::str::from_utf8(&digits).expect("digits are ASCII")),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Second {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(secs) = text.strip_suffix('s').and_then(|secs| secs.parse().ok()) {
            return Ok(Self(secs));
        }
        parse(&text, 0).map(|ms| Self(ms.div_euclid(1000))).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_767_322_845_678;

    #[test]
    fn each_form_means_its_instant() {
        for (text, ms) in [
            ("now", NOW),
            ("-15m", NOW - 900_000),
            ("-0s", NOW),
            ("-2w", NOW - 14 * 86_400_000),
            ("0", 0),
            ("1767322800", 1_767_322_800_000),
            ("99999999999", 99_999_999_999_000),
            ("1767322800123", 1_767_322_800_123),
            ("2026-01-02", 1_767_312_000_000),
            ("2026-01-02T03:00:00Z", 1_767_322_800_000),
            ("2026-01-02t03:00:00.1239z", 1_767_322_800_123),
            ("2026-01-02 04:30:00+01:30", 1_767_322_800_000),
            ("2026-01-01T22:00:00.5-05:00", 1_767_322_800_500),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999),
            ("0000-01-01", FIRST_MS),
            ("9999-12-31T23:59:59.999Z", LAST_MS),
        ] {
            assert_eq!(parse(text, NOW), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_and_says_what_is() {
        for text in [
            "",
            " ",
            "-",
            "-15",
            "-m",
            "-1y",
            "- 1h",
            "now ",
            "yesterday",
            "2026-02-30",
            "2026-1-2",
            "2026-01-02T",
            "2026-01-02T03:04Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+1",
            "2026-01-02T03:04:05 01:00",
            "99999999999999999999",
            "999999999999999",
            "1.5",
            "９",
            "2026-01-02T03:04:05é",
            "-99999999999w",
            "-9999999999w",
        ] {
            let refused = parse(text, NOW).unwrap_err().to_string();
            assert!(refused.contains("-15m"), "{text}: {refused}");
        }
        assert!(parse("2026-01-02T03:04:05", NOW).unwrap_err().to_string().contains("end it with Z"));
    }

    #[test]
    fn a_second_outside_the_calendar_still_has_a_text() {
        for secs in [i64::MIN, FIRST_MS / 1000 - 1, LAST_MS / 1000 + 1, i64::MAX] {
            let text = serde_json::to_string(&Second(secs)).unwrap();
            assert_eq!(serde_json::from_str::<Second>(&text).unwrap(), Second(secs), "{text}");
        }
    }

    #[test]
    fn many_seconds_are_spelt_as_each_alone() {
        let mut spelt = Spelt::default();
        for secs in [0, 59, 86_399, 86_400, -1, -86_400, 951_782_400, 951_782_401, i64::MAX, 951_868_800] {
            let alone = Second(secs).digits();
            assert_eq!(spelt.digits(Second(secs)).copied(), alone, "{secs}");
        }
    }

    proptest! {
        #[test]
        fn texts_agree_with_jiff(secs in FIRST_MS / 1000..=LAST_MS / 1000) {
            // jiff's own range begins a little after ours ends in some zones, never in UTC.
            let theirs = jiff::Timestamp::from_second(secs).unwrap().to_string();
            prop_assert_eq!(Second(secs).to_string(), theirs.clone());
            prop_assert_eq!(parse(&theirs, 0).unwrap(), secs * 1000);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}", date in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.Zz+é-]{0,20}") {
            let _ = (parse(&text, NOW), parse(&date, NOW), span_secs(&text));
            if let (Ok(ours), Ok(theirs)) = (parse(&date, NOW), date.parse::<jiff::Timestamp>())
                && !date.contains(":60")
            {
                prop_assert_eq!(ours, theirs.as_millisecond());
            }
        }
    }
}
