//! The rarer forms of timestamps. Each either reads its form from the first byte or says `None`; none of them guesses.

use super::{Clock, days, fraction, minute_ms, month};
use crate::lines::number;

/// Longest Unix time that a text line may begin with: 19 digits of nanoseconds and a fraction.
const UNIX_BYTES_MAX: usize = 30;

/// Any form but RFC 3339 and Unix time at the start of `text`, and where it ends.
#[inline(never)]
pub(super) fn any(clock: &mut Clock, text: &[u8]) -> Option<(i64, usize)> {
    match text {
        [b'0'..=b'9', _, b'/', ..] => clock.clf(text),
        [b'0'..=b'9', _, _, _, _, _, _, _, b'T' | b't', ..] => basic(clock, text),
        [b'0'..=b'9', _, _, _, b'/', ..] => slashed(clock, text),
        [b'0'..=b'9', ..] => rfc2822(clock, text, 0),
        // `Sat, 21 Nov 2026` or `Sat Nov 21`: the weekday is not compared with the date.
        [b'A'..=b'Z', b'a'..=b'z', b'a'..=b'z', b',', b' ', ..] => rfc2822(clock, text, 5),
        [b'A'..=b'Z', b'a'..=b'z', b'a'..=b'z', b' ', ..] => rfc3164(clock, text).or_else(|| ctime(clock, text)),
        [b'I' | b'W' | b'E' | b'F', b'0'..=b'9', ..] => klog(clock, text),
        _ => None,
    }
}

/// `2026-01-02` and nothing else.
pub(super) fn date(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: 0 };
    let year = read.digits(4, 4)?;
    read.byte(b'-')?;
    let month = read.digits(2, 2)?;
    read.byte(b'-')?;
    let days = days(year, month, read.digits(2, 2)?)?;
    let ms = minute_ms(days, 0, 0)?;
    if read.at == text.len() { super::in_range(ms - clock.default_offset_ms, read.at) } else { None }
}

/// `20260102T030405.123Z`
fn basic(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let pair = |at| super::two(text, at);
    let days = days(super::four(text, 0)?, pair(4)?, pair(6)?)?;
    let (hour, minute, second) = (pair(9)?, pair(11)?, pair(13)?);
    let (ms, end) = fraction(text, 15);
    clock.zoned(text, minute_ms(days, hour, minute)? + in_minute(second, ms)?, end)
}

/// `Nov 21 00:39:38` of syslog, the day padded with a space; some put the year before the time.
fn rfc3164(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: 0 };
    let month = read.month()?;
    read.byte(b' ')?;
    let _padding = read.byte(b' ');
    let day = read.digits(1, 2)?;
    read.byte(b' ')?;
    let at = read.at;
    let year = read.digits(4, 4).filter(|_| read.byte(b' ').is_some());
    read.at = if year.is_some() { read.at } else { at };
    let (ms, end) = time_and_zone(clock, &mut read)?;
    dated(clock, year, month, day, ms, end)
}

/// `I1121 00:39:38.123456`, or with the year before month and day.
fn klog(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: 1 };
    let digits = text[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (year, at) = match digits {
        4 => (None, 1),
        8 => (Some(super::four(text, 1)?), 5),
        _ => return None,
    };
    let (month, day) = (super::two(text, at)?, super::two(text, at + 2)?);
    read.at = at + 4;
    read.byte(b' ')?;
    let (ms, end) = time_and_zone(clock, &mut read)?;
    dated(clock, year, month, day, ms, end)
}

/// `03:04:05.123 UTC` in milliseconds from the beginning of the day in UTC, and where it ends.
fn time_and_zone(clock: &Clock, read: &mut Reader<'_>) -> Option<(i64, usize)> {
    let ms = read.time_of_day(0)?;
    if let Some(b'Z') = read.text.get(read.at) {
        return Some((ms, read.at + 1));
    }
    let (offset_ms, end) = super::zone(read.text, read.at)?.unwrap_or((clock.default_offset_ms, read.at));
    Some((ms - offset_ms, end))
}

/// The instant of a date with a time of day, in the year that it names; else in the latest year that puts it at most a day after its reading.
fn dated(clock: &Clock, year: Option<u32>, month: u32, day: u32, in_day_ms: i64, end: usize) -> Option<(i64, usize)> {
    const DAY_MS: i64 = 24 * 60 * super::MINUTE_MS;
    /// So that 29 February finds its year, also around one that is not a leap year although it can be divided by four.
    const YEARS: u32 = 8;
    let instant = |year| Some(minute_ms(days(year, month, day)?, 0, 0)? + in_day_ms);
    if let Some(year) = year {
        return super::in_range(instant(year)?, end);
    }
    let latest_ms = clock.read_at_ms?.saturating_add(DAY_MS);
    let latest = u32::try_from(events::calendar::date(latest_ms.div_euclid(DAY_MS)).0).ok()?;
    // One more, as the zone may put the first hours of a year into the one before.
    let years = (0..=YEARS).map(|back| (latest + 1).saturating_sub(back));
    let ms = years.filter_map(instant).find(|ms| *ms <= latest_ms)?;
    super::in_range(ms, end)
}

/// `1767225600.123 ` at the start of a text line: ten digits and more, so that no small number is taken for a time.
pub(super) fn unix_prefix(text: &[u8]) -> Option<(i64, usize)> {
    let digits = text.iter().take(UNIX_BYTES_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, end) = number::decimal(text, 0).filter(|_| matches!(digits, 10 | 13 | 16 | 19))?;
    let ends = matches!(text.get(end), None | Some(b' ' | b'\t' | b']' | b',' | b':'));
    Some((super::unix(number).filter(|_| ends && end <= UNIX_BYTES_MAX)?, end))
}

/// `2026/01/02 03:04:05`
fn slashed(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: 0 };
    let year = read.digits(4, 4)?;
    read.byte(b'/')?;
    let month = read.digits(2, 2)?;
    read.byte(b'/')?;
    let days = days(year, month, read.digits(2, 2)?)?;
    read.byte(b' ').or_else(|| read.byte(b'T'))?;
    let ms = read.time_of_day(days)?;
    clock.zoned(text, ms, read.at)
}

/// `21 Nov 2026 00:39:38 +0000`, also with dashes as in `21-Nov-2026`.
fn rfc2822(clock: &Clock, text: &[u8], from: usize) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: from };
    let day = read.digits(1, 2)?;
    let between = *text.get(read.at).filter(|byte| matches!(byte, b' ' | b'-'))?;
    read.byte(between)?;
    let month = read.month()?;
    read.byte(between)?;
    let days = days(read.digits(4, 4)?, month, day)?;
    read.byte(b' ')?;
    let ms = read.time_of_day(days)?;
    clock.zoned(text, ms, read.at)
}

/// `Sat Nov 21 00:39:38.123 2026`, a zone word may stand before the year.
fn ctime(clock: &Clock, text: &[u8]) -> Option<(i64, usize)> {
    let mut read = Reader { text, at: 4 };
    let month = read.month()?;
    read.byte(b' ')?;
    let _padding = read.byte(b' ');
    let day = read.digits(1, 2)?;
    read.byte(b' ')?;
    // The year comes last: read the time as if it were day 0.
    let time_ms = read.time_of_day(0)?;
    let zone = super::zone(text, read.at)?;
    let (offset_ms, after_zone) = zone.unwrap_or((clock.default_offset_ms, read.at));
    // ` 2026` alone is no zone; a zone before the year has a sign or is a word.
    read.at = after_zone;
    read.byte(b' ')?;
    let days = days(read.digits(4, 4)?, month, day)?;
    super::in_range(minute_ms(days, 0, 0)? + time_ms - offset_ms, read.at)
}

/// A place in a timestamp; each step answers `None` where the text is otherwise.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self, byte: u8) -> Option<()> {
        (self.text.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Between `min` and `max` digits and no more.
    fn digits(&mut self, min: usize, max: usize) -> Option<u32> {
        let rest = self.text.get(self.at..)?;
        let count = rest.iter().take(max + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if !(min..=max).contains(&count) {
            return None;
        }
        self.at += count;
        Some(rest[..count].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    fn month(&mut self) -> Option<u32> {
        let name = self.text.get(self.at..self.at + 3)?;
        self.at += 3;
        month(name)
    }

    /// `03:04:05.123` of a day.
    fn time_of_day(&mut self, days: i64) -> Option<i64> {
        let hour = self.digits(2, 2)?;
        self.byte(b':')?;
        let minute = self.digits(2, 2)?;
        self.byte(b':')?;
        let second = self.digits(2, 2)?;
        let (ms, end) = fraction(self.text, self.at);
        self.at = end;
        Some(minute_ms(days, hour, minute)? + in_minute(second, ms)?)
    }
}

fn in_minute(second: u32, ms: i64) -> Option<i64> {
    match second {
        ..=59 => Some(i64::from(second) * 1000 + ms),
        60 => Some(super::MINUTE_MS - 1),
        _ => None,
    }
}
