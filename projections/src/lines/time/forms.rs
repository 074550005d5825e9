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
        [b'0'..=b'9', _, _, _, b'/', ..] => slashed(clock, text),
        [b'0'..=b'9', ..] => rfc2822(clock, text, 0),
        // `Sat, 21 Nov 2026` or `Sat Nov 21`: the weekday is not compared with the date.
        [b'A'..=b'Z', b'a'..=b'z', b'a'..=b'z', b',', b' ', ..] => rfc2822(clock, text, 5),
        [b'A'..=b'Z', b'a'..=b'z', b'a'..=b'z', b' ', ..] => ctime(clock, text),
        _ => None,
    }
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
        let in_minute = match second {
            ..=59 => i64::from(second) * 1000 + ms,
            60 => super::MINUTE_MS - 1,
            _ => return None,
        };
        Some(minute_ms(days, hour, minute)? + in_minute)
    }
}
