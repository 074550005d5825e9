//! Reads a line of plain text: its timestamp, its level, and what `key=value` pairs say (logfmt). Nothing is malformed
//! here; what is not recognised is absent.
//!
//! - The timestamp stands at the start, also in brackets or behind a syslog priority; else a pair may say it.
//! - The level is what a pair says (`level=error`); else a word near the start: one in upper case (`ERROR`), one in
//!   brackets (`[error]`, `[core:error]`), or the first word after the timestamp or before a colon (`error: disk full`);
//!   else klog's letter (`E1121 …`); else the syslog priority's severity.
//! - RFC 5424's APP-NAME is the service.
//! - A pair's key stands at the start or after whitespace, a comma or an opening bracket, and has its role by `names`.

use super::Level;
use super::names::{self, KEY_BYTES_MAX, Place, Role};
use super::number;
use super::values::{self, Found, Named, Scalar, Tools};

/// The level is looked for in so many bytes and words behind the timestamp.
const LEVEL_WITHIN_BYTES: usize = 128;
const LEVEL_WITHIN_WORDS: usize = 8;
/// A word in brackets or in upper case is a level only from this length on: `E` alone may be anything.
const LEVEL_BYTES_MIN: usize = 3;

/// What a line of text says.
pub(super) fn read(line: &[u8], tools: &mut Tools) -> Found {
    let mut found = Found::new();
    let (severity, rfc5424, at) = priority(line).unwrap_or((None, false, 0));
    let bracket = usize::from(line.get(at) == Some(&b'['));
    let stamp = tools.clock.prefix(&line[at + bracket..]);
    found.no_instant = stamp.is_err();
    let stamp = stamp.unwrap_or(None);
    let after_stamp = stamp.map_or(at, |(_, end)| at + bracket + end);
    if rfc5424 {
        found.service = app_name(line, after_stamp);
    }
    pairs(line, &mut found, tools);
    // A timestamp in front is the log's own: it stands before what a pair says.
    if let Some((time_ms, _)) = stamp {
        found.time_ms = Some(time_ms);
    }
    let level = found.level.or_else(|| level_word(line, after_stamp, stamp.is_some()));
    found.level = level.or_else(|| klog_level(line)).or(severity);
    found
}

/// `<34>` or `<34>1 ` at the start: its severity, whether it is RFC 5424, and where the timestamp begins.
fn priority(line: &[u8]) -> Option<(Option<Level>, bool, usize)> {
    let end = line.strip_prefix(b"<")?.iter().take(4).position(|byte| *byte == b'>')? + 1;
    let number = number::whole(&line[1..end])?.to_u16().filter(|number| *number < 192)?;
    let rfc5424 = line[end + 1..].starts_with(b"1 ");
    Some((values::level_number(number % 8), rfc5424, end + 1 + if rfc5424 { 2 } else { 0 }))
}

/// The second word from `at` on: ` HOST APP `.
fn app_name(line: &[u8], at: usize) -> Named {
    let Some(rest) = line[at..].strip_prefix(b" ") else { return Named::Nowhere };
    let mut words = rest.split(|byte| *byte == b' ');
    let (host, app) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let from = at + 1 + host.len() + 1;
    let named = app != b"-" && values::is_service(app) && str::from_utf8(app).is_ok();
    if named { Named::Line(from, from + app.len()) } else { Named::Nowhere }
}

/// `E1121 00:39:38.123`: klog's letter with month and day.
fn klog_level(line: &[u8]) -> Option<Level> {
    let [letter @ (b'I' | b'W' | b'E' | b'F'), a, b, c, d, b' ', ..] = line else { return None };
    [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()).then(|| values::level(&[*letter]))?
}

/// A level's word near `from`, the end of the timestamp if there is one.
fn level_word(line: &[u8], from: usize, dated: bool) -> Option<Level> {
    let near = &line[from..line.len().min(from + LEVEL_WITHIN_BYTES)];
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut at = 0;
    for nth in 0..LEVEL_WITHIN_WORDS {
        at += near[at..].iter().position(is_word)?;
        let length = near[at..].iter().take_while(|byte| is_word(byte)).count();
        let word = &near[at..at + length];
        let before = at.checked_sub(1).map(|before| near[before]);
        let after = near.get(at + length);
        let first = nth == 0 && (dated || after == Some(&b':'));
        let bracketed =
            matches!(before, Some(b'[' | b'<' | b'(' | b':' | b'.')) && matches!(after, Some(b']' | b'>' | b')'));
        let stands_out = first || bracketed || word.iter().all(u8::is_ascii_uppercase);
        if length >= LEVEL_BYTES_MIN
            && stands_out
            && word[0].is_ascii_alphabetic()
            && let Some(level) = values::level(word)
        {
            return Some(level);
        }
        at += length;
    }
    None
}

/// Takes what the line's `key=value` pairs say; of the same key twice the last usable value.
fn pairs(line: &[u8], found: &mut Found, tools: &mut Tools) {
    let mut quoted_until = 0;
    for equals in memchr::memchr_iter(b'=', line) {
        if equals < quoted_until {
            continue;
        }
        let from = equals + 1;
        let quoted = line.get(from) == Some(&b'"');
        let end = if quoted { quote(line, from + 1) } else { None };
        if let Some(end) = end {
            quoted_until = end;
        }
        let Some(field) = names::field(Place::Top, key_before(line, equals)) else { continue };
        let (from, to) = match end {
            Some(end) => (from + 1, end),
            None => (from, from + line[from..].iter().take_while(|byte| !ends_value(**byte)).count()),
        };
        // In logfmt a backslash is Go's, not JSON's: such a value is left alone.
        let text = &line[from..to];
        let usable = !text.contains(&b'\\') && (names::role(field) != Role::Service || str::from_utf8(text).is_ok());
        if usable {
            found.take(field, line, Scalar::Text { from, to, escaped: false }, tools);
        }
    }
}

fn key_before(line: &[u8], equals: usize) -> &[u8] {
    let least = equals.saturating_sub(KEY_BYTES_MAX + 1);
    let is_key = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@' | b'-');
    let length = line[least..equals].iter().rev().take_while(is_key).count();
    let from = equals - length;
    let begins = from == 0 || matches!(line[from - 1], b' ' | b'\t' | b',' | b'[' | b'(' | b'{');
    if begins { &line[from..equals] } else { b"" }
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',' | b';' | b']' | b')' | b'}' | b'"')
}

/// Where the quote stands that ends the value whose inside begins at `from`.
fn quote(line: &[u8], from: usize) -> Option<usize> {
    let mut marks = memchr::memchr2_iter(b'"', b'\\', line.get(from..)?).map(|at| from + at);
    let mut escaped = None;
    marks.find(|at| {
        if escaped == Some(*at) {
            return false;
        }
        if line[*at] == b'\\' {
            escaped = Some(at + 1);
        }
        line[*at] == b'"'
    })
}

#[cfg(test)]
mod tests {
    use super::super::time::Clock;
    use super::*;

    fn read(line: &str) -> Found {
        super::read(line.as_bytes(), &mut Tools::new(Clock::new(0)))
    }

    const NOON: Option<i64> = Some(1_795_221_578_000); // 2026-11-21T00:39:38Z

    #[test]
    fn common_logs_say_their_time_and_level() {
        use Level::{Error, Fatal, Info, Warn};
        for (line, time_ms, level) in [
            ("2026-11-21T00:39:38Z ERROR disk full", NOON, Some(Error)),
            ("2026-11-21 00:39:38,000 - root - WARNING - low", NOON, Some(Warn)),
            ("2026-11-21 00:39:38.000  INFO 1 --- [main] c.e.App : up", NOON, Some(Info)),
            ("2026/11/21 00:39:38 [error] 12#0: *1 open() failed", NOON, Some(Error)),
            ("[Sat Nov 21 00:39:38.000000 2026] [core:error] [pid 1] x", NOON, Some(Error)),
            ("[2026-11-21T00:39:38Z] app.CRITICAL: x", NOON, Some(Fatal)),
            ("2026-11-21T00:39:38Z info starting", NOON, Some(Info)),
            ("Sat, 21 Nov 2026 00:39:38 GMT WARN x", NOON, Some(Warn)),
            ("time=2026-11-21T00:39:38Z level=warn msg=\"status=500 in \\\" text\"", NOON, Some(Warn)),
            ("error: disk full", None, Some(Error)),
            ("I1121 00:39:38.123 1 main.go:1] started", None, Some(Info)),
            ("Nov 21 00:39:38 host app[1]: hello", None, None),
            ("<11>Nov 21 00:39:38 host app[1]: hello", None, Some(Error)),
            ("no error here, 2026-11-21T00:39:38Z", None, None),
            ("GET /a?level=error", None, None),
        ] {
            let found = read(line);
            assert_eq!((found.time_ms, found.level), (time_ms, level), "{line}");
        }
    }

    #[test]
    fn pairs_say_status_latency_and_bytes() {
        let found = read("level=info status=503 duration=12.5ms size=99 path=\"/a=b status=200\" x=1");
        assert_eq!((found.status, found.latency_ms, found.bytes), (Some(503), Some(12.5), Some(99.0)));
        assert_eq!(read("done (status=200, elapsed=3)").latency_ms, Some(3.0));
        assert_eq!(read("xstatus=200 /status=200 status= status=x").status, None);
    }

    #[test]
    fn syslog_names_its_application() {
        let line = "<34>1 2026-11-21T00:39:38.003Z host su - ID47 - failed";
        let found = read(line);
        assert_eq!((found.time_ms, found.level), (NOON.map(|ms| ms + 3), Some(Level::Fatal)));
        let Named::Line(from, to) = found.service else { panic!("no name") };
        assert_eq!(&line[from..to], "su");
        assert!(matches!(read("<34>1 2026-11-21T00:39:38.003Z host - - - x").service, Named::Nowhere));
    }
}
