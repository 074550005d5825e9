//! Decides which instant a timestamp means, in Unix milliseconds. It asks no clock: what it remembers of the last
//! timestamp (its minute) only saves work, and the year of a form without one comes from when its batch was read.
//!
//! | form | example |
//! |---|---|
//! | RFC 3339, ISO 8601 | `2026-01-02T03:04:05.123Z`, `T` in any case or a space, any number of decimals after `.` or `,`, seconds or none |
//! | its zones | `Z` `+01:00` `+0100` `+01`, after a space ` +0100` ` +01:00` ` Z` ` UTC` ` GMT`; none: the default zone |
//! | ISO 8601, basic | `20260102T030405Z`, decimals and zones as above |
//! | a date alone, as a whole value | `2026-01-02`: its first instant in the default zone |
//! | Apache, nginx access | `17/May/2015:10:05:03 +0000` |
//! | Go, nginx error | `2026/01/02 03:04:05.123`, zones as above |
//! | RFC 2822, HTTP | `Sat, 21 Nov 2026 00:39:38 GMT`, the weekday may be missing |
//! | ctime, Apache error | `Sat Nov 21 00:39:38.123 2026`, `Sat Nov 21 00:39:38 UTC 2026` |
//! | syslog (RFC 3164) | `Nov 21 00:39:38`, `Nov  1 00:39:38.123`, also with a year before the time |
//! | klog, glog | `I1121 00:39:38.123456`, `I20261121 00:39:38.123456` |
//! | Unix time | `1767225600.123`; seconds below 10^11, ms below 10^14, µs below 10^17, else ns |
//!
//! A form without a year means the latest instant of that name that is at most a day after its batch was read. `01/02/2026` may be of January or of
//! February and says no instant. Years go from 1970 to 9999, decimals
//! beyond milliseconds are cut off, a date that is not in the calendar is no timestamp, and second 60 is the last
//! millisecond of its minute, in any minute, since a leap second's minute depends on the zone. What has a timestamp's shape
//! and says no instant is told from what is no timestamp (`claims`).

mod claims;
mod forms;

use super::number::{self, Decimal};

/// A text means to be a timestamp, and names no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoInstant;

/// The last millisecond of the year 9999.
const TIME_MS_MAX: i64 = 253_402_300_799_999;
const MINUTE_MS: i64 = 60_000;

/// Reads timestamps, remembering the last minute seen of each of the two forms that come by the million.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    default_offset_ms: i64,
    /// `2026-01-02T03:04` and its instant as if it were UTC; always a pair that holds.
    iso: ([u8; 16], i64),
    /// `17/May/2015:10:05`, likewise.
    clf: ([u8; 17], i64),
    /// When the lines were read; `None`: nobody said, and a form without a year says no instant.
    read_at_ms: Option<i64>,
}

impl Clock {
    pub(super) fn new(default_offset_secs: i32) -> Self {
        let default_offset_ms = i64::from(default_offset_secs) * 1000;
        let (iso, clf) = ((*b"1970-01-01T00:00", 0), (*b"01/Jan/1970:00:00", 0));
        Clock { default_offset_ms, iso, clf, read_at_ms: None }
    }

    /// The timestamps from now on were read then.
    pub(super) fn read_at(&mut self, read_at_ms: i64) {
        self.read_at_ms = Some(read_at_ms);
    }

    /// The instant that all of `text` says; `Ok(None)`: it is no timestamp.
    pub(super) fn whole(&mut self, text: &[u8]) -> Result<Option<i64>, NoInstant> {
        let read = self.rfc3339(text).or_else(|| forms::any(self, text)).or_else(|| forms::date(self, text));
        if let Some((ms, end)) = read
            && end == text.len()
        {
            return Ok(Some(ms));
        }
        match number::whole(text) {
            Some(number) => unix(number).map(Some).ok_or(NoInstant),
            None if claims::timestamp(text) => Err(NoInstant),
            None => Ok(None),
        }
    }

    /// The instant that `text` begins with, and where that ends; `Ok(None)`: it begins with no timestamp.
    pub(super) fn prefix(&mut self, text: &[u8]) -> Result<Option<(i64, usize)>, NoInstant> {
        let read = self.rfc3339(text).or_else(|| forms::any(self, text)).or_else(|| forms::unix_prefix(text));
        let ends = |end: usize| !text.get(end).is_some_and(u8::is_ascii_alphanumeric);
        match read.filter(|(_, end)| ends(*end)) {
            Some(read) => Ok(Some(read)),
            None if claims::timestamp(text) => Err(NoInstant),
            None => Ok(None),
        }
    }

    /// `2026-01-02T03:04:05.123Z` at the start of `text`, and where it ends.
    #[inline]
    pub(super) fn rfc3339(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let minute: &[u8; 16] = text.first_chunk()?;
        let minute_ms = if *minute == self.iso.0 { self.iso.1 } else { self.iso_minute(minute)? };
        let (second_ms, end) = if let Some(b':') = text.get(16) { second(text, 16)? } else { (0, 16) };
        self.zoned(text, minute_ms + second_ms, end)
    }

    #[inline(never)]
    fn iso_minute(&mut self, text: &[u8; 16]) -> Option<i64> {
        let shape = text[4] == b'-' && text[7] == b'-' && text[13] == b':' && matches!(text[10], b'T' | b't' | b' ');
        let day = shape.then(|| days(four(text, 0)?, two(text, 5)?, two(text, 8)?))??;
        let ms = minute_ms(day, two(text, 11)?, two(text, 14)?)?;
        self.iso = (*text, ms);
        Some(ms)
    }

    /// `17/May/2015:10:05:03 +0000` at the start of `text`, and where it ends.
    #[inline]
    pub(super) fn clf(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let minute: &[u8; 17] = text.first_chunk()?;
        let minute_ms = if *minute == self.clf.0 { self.clf.1 } else { self.clf_minute(minute)? };
        let (second_ms, end) = second(text, 17)?;
        if text.get(end..).and_then(<[u8]>::first_chunk) == Some(b" +0000") {
            return in_range(minute_ms + second_ms, end + 6);
        }
        self.zoned(text, minute_ms + second_ms, end)
    }

    #[inline(never)]
    fn clf_minute(&mut self, text: &[u8; 17]) -> Option<i64> {
        let shape = text[2] == b'/' && text[6] == b'/' && text[11] == b':' && text[14] == b':';
        let day = shape.then(|| days(four(text, 7)?, month(&text[3..6])?, two(text, 0)?))??;
        let ms = minute_ms(day, two(text, 12)?, two(text, 15)?)?;
        self.clf = (*text, ms);
        Some(ms)
    }

    /// Applies the zone that stands at `at` to a local time.
    #[inline]
    fn zoned(&self, text: &[u8], local_ms: i64, at: usize) -> Option<(i64, usize)> {
        if let Some(b'Z' | b'z') = text.get(at) {
            return in_range(local_ms, at + 1);
        }
        let (offset_ms, end) = zone(text, at)?.unwrap_or((self.default_offset_ms, at));
        in_range(local_ms - offset_ms, end)
    }
}

#[inline(always)]
fn in_range(ms: i64, end: usize) -> Option<(i64, usize)> {
    (0..=TIME_MS_MAX).contains(&ms).then_some((ms, end))
}

/// `:05.123` at `at`: the milliseconds, and where it ends.
#[inline(always)]
fn second(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let &[b':', tens, ones]: &[u8; 3] = text.get(at..)?.first_chunk()? else { return None };
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 6 || ones > 9 {
        return None;
    }
    let second = i64::from(tens) * 10 + i64::from(ones);
    let (ms, end) = fraction(text, at + 3);
    match second {
        ..=59 => Some((second * 1000 + ms, end)),
        60 => Some((MINUTE_MS - 1, end)),
        _ => None,
    }
}

/// `.123` at `at`, cut off at milliseconds; nothing when there is no digit after the point.
#[inline(always)]
fn fraction(text: &[u8], at: usize) -> (i64, usize) {
    let Some(b'.' | b',') = text.get(at) else { return (0, at) };
    let (mut ms, mut unit, mut end) = (0, 100, at + 1);
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        ms += i64::from(digit - b'0') * unit;
        unit /= 10;
        end += 1;
    }
    if end == at + 1 { (0, at) } else { (ms, end) }
}

/// The offset of the zone at `at` in milliseconds, and where it ends; `Some(None)`: no zone stands there; `None`: one that
/// cannot be.
#[expect(clippy::option_option, reason = "a wrong zone is not the same as none")]
fn zone(text: &[u8], at: usize) -> Option<Option<(i64, usize)>> {
    let spaced = text.get(at) == Some(&b' ');
    let at = at + usize::from(spaced);
    let rest = text.get(at..).unwrap_or_default();
    let sign = match rest {
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ if spaced => return Some(zone_word(rest).map(|length| (0, at + length))),
        _ => return Some(None),
    };
    let digits = |at: usize| two(rest, at);
    let (hours, minutes, length) = match (digits(1), rest.get(3), digits(3), digits(4)) {
        (Some(hours), Some(b':'), _, Some(minutes)) => (hours, minutes, 6),
        (Some(hours), _, Some(minutes), _) => (hours, minutes, 5),
        (Some(hours), _, None, _) if !spaced => (hours, 0, 3),
        // After a space it may be anything, such as the dash before a message.
        _ => return Some(None),
    };
    if hours > 23 || minutes > 59 {
        return if spaced { Some(None) } else { None };
    }
    Some(Some((sign * i64::from(hours * 60 + minutes) * MINUTE_MS, at + length)))
}

fn zone_word(text: &[u8]) -> Option<usize> {
    let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    matches!(&text[..length], b"Z" | b"UTC" | b"GMT" | b"UT").then_some(length)
}

/// Unix time as a number: its size tells the unit.
pub(super) fn unix(number: Decimal<'_>) -> Option<i64> {
    let (whole, millionths) = number.whole_and_millionths()?;
    let ms = match whole {
        0..100_000_000_000 => whole * 1000 + millionths / 1000,
        100_000_000_000..100_000_000_000_000 => whole,
        100_000_000_000_000..100_000_000_000_000_000 => whole / 1000,
        _ => whole / 1_000_000,
    };
    i64::try_from(ms).ok().filter(|ms| *ms <= TIME_MS_MAX)
}

#[inline(always)]
fn two(text: &[u8], at: usize) -> Option<u32> {
    let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

#[inline(always)]
fn four(text: &[u8], at: usize) -> Option<u32> {
    Some(two(text, at)? * 100 + two(text, at + 2)?)
}

fn month(name: &[u8]) -> Option<u32> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name)).map(|index| index as u32 + 1)
}

fn minute_ms(days: i64, hour: u32, minute: u32) -> Option<i64> {
    (hour < 24 && minute < 60).then(|| (days * 1440 + i64::from(hour * 60 + minute)) * MINUTE_MS)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, in the years that we take (and one more on the way to UTC).
fn days(year: u32, month: u32, day: u32) -> Option<i64> {
    const BEFORE_MONTH: [u32; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if !(1..=12).contains(&month) || !(1969..=9999).contains(&year) {
        return None;
    }
    let (before, after) = (BEFORE_MONTH[month as usize - 1], BEFORE_MONTH[month as usize]);
    let length = after - before + u32::from(leap && month == 2);
    if !(1..=length).contains(&day) {
        return None;
    }
    let leap_days_through = |year: u32| year / 4 - year / 100 + year / 400;
    let leap_days = i64::from(leap_days_through(year - 1)) - i64::from(leap_days_through(1969));
    let in_year = before + u32::from(leap && month > 2) + day - 1;
    Some((i64::from(year) - 1970) * 365 + leap_days + i64::from(in_year))
}

#[cfg(test)]
mod tests;
