//! Decides whether a line is of an Apache or nginx access log, common or combined, and reads it:
//!
//! `host ident user [17/May/2015:10:05:03 +0000] "request" 200 203023 "referer" "agent" 0.123`
//!
//! It has that shape when three words or more stand before ` [`, then a digit, `] "`, a quoted request, a status of one to three
//! digits and a size (`-` for none of either). What follows may be missing, cut off, or anything: of it only a time taken
//! is read, the first that is there behind referer and agent. That is a decimal with a point (`0.123`, also quoted),
//! `rt=` or `request_time=` with a number, both in seconds, or a number with its unit (`12ms`). A bare whole number is
//! none: it may be bytes, microseconds or a count. A backslash takes the byte after it out of the syntax.

use super::block;
use super::number;
use super::time::Clock;
use super::values::{self, Found};

/// Fields in quotes after the size that are never a time: referer and agent.
const QUOTED_SKIPPED: usize = 2;
/// Hosts up to this length are looked for byte by byte.
const HOST_BYTES: usize = 32;
/// At most so many fields behind the size are looked at for the time taken.
const FIELDS_MAX: usize = 32;

/// Finds what an access log's line says; `None`: it is none, and nothing was found.
#[inline]
pub(super) fn read(line: &[u8], found: &mut Found, clock: &mut Clock) -> Option<()> {
    let (time_ms, at) = time(line, bracket(line)? + 1, clock)?;
    let at = quote_after(line, at)?;
    if line.get(at) != Some(&b' ') {
        return None;
    }
    let (status, at) = status(line, at + 1)?;
    if line.get(at) != Some(&b' ') {
        return None;
    }
    let (bytes, at) = size(line, at + 1)?;
    let latency_ms = match line.get(at) {
        None => None,
        Some(b' ') => time_taken(line, at),
        Some(_) => return None,
    };
    // What stands in an access log's brackets means to be a time, whatever its shape.
    found.no_instant = time_ms.is_none();
    (found.time_ms, found.status, found.bytes, found.latency_ms) = (time_ms, status, bytes, latency_ms);
    Some(())
}

/// Where the bracket stands behind `host ident user ` and perhaps more words.
#[inline]
fn bracket(line: &[u8]) -> Option<usize> {
    // Nearly all lines have neither ident nor user, and a host of less than two blocks.
    let host = line.iter().take(HOST_BYTES).position(|byte| *byte == b' ').unwrap_or(0);
    if host > 0 && line.get(host..).and_then(<[u8]>::first_chunk) == Some(b" - - [") {
        return Some(host + 5);
    }
    let bracket = memchr::memchr(b'[', line)?;
    let (b' ', words) = line[..bracket].split_last()? else { return None };
    let mut words = words.split(|byte| *byte == b' ');
    let three = [words.next(), words.next(), words.next()];
    three.iter().all(|word| word.is_some_and(|word| !word.is_empty())).then_some(bracket)
}

/// The time up to `] "`, and where the request begins.
#[inline]
fn time(line: &[u8], from: usize, clock: &mut Clock) -> Option<(Option<i64>, usize)> {
    let rest = line.get(from..)?;
    if let Some((time_ms, end)) = clock.clf(rest)
        && rest.get(end..)?.starts_with(b"] \"")
    {
        return Some((Some(time_ms), from + end + 3));
    }
    // Other logs have words in brackets: the name of a thread, a level.
    let end = rest.first().is_some_and(u8::is_ascii_digit).then(|| memchr::memchr(b']', rest))??;
    rest[end..].starts_with(b"] \"").then(|| (clock.whole(&rest[..end]).unwrap_or(None), from + end + 3))
}

/// Where the field whose inside begins at `from` ends, behind its quote.
#[inline]
fn quote_after(line: &[u8], from: usize) -> Option<usize> {
    let mut at = block::find_end_or_escape::<false>(line, from)?;
    while line[at] != b'"' {
        at = block::find_end_or_escape::<false>(line, at + 2)?;
    }
    Some(at + 1)
}

/// `200` or `-` at `at`, and where it ends.
#[inline]
fn status(line: &[u8], at: usize) -> Option<(Option<u16>, usize)> {
    let rest = line.get(at..)?;
    if rest.first() == Some(&b'-') {
        return Some((None, at + 1));
    }
    let digit = |nth: usize| rest.get(nth).filter(|byte| byte.is_ascii_digit()).map(|byte| u16::from(byte - b'0'));
    match (digit(0), digit(1), digit(2), digit(3)) {
        (Some(a), Some(b), Some(c), None) => {
            Some((Some(a * 100 + b * 10 + c).filter(|status| (100..=599).contains(status)), at + 3))
        }
        (Some(_), None, ..) => Some((None, at + 1)),
        (Some(_), Some(_), None, _) => Some((None, at + 2)),
        _ => None,
    }
}

/// `12345` or `-` at `at`, and where it ends.
#[inline]
fn size(line: &[u8], at: usize) -> Option<(Option<f64>, usize)> {
    if line.get(at) == Some(&b'-') {
        return Some((None, at + 1));
    }
    let (number, end) = number::decimal(line, at)?;
    Some((values::bytes(number), end))
}

/// The time taken in milliseconds, from the fields at `at` on, each with a space before it.
#[inline]
fn time_taken(line: &[u8], mut at: usize) -> Option<f64> {
    let mut quoted_skipped = 0;
    for _ in 0..FIELDS_MAX {
        while line.get(at) == Some(&b' ') {
            at += 1;
        }
        let field = if *line.get(at)? == b'"' {
            let end = quote_after(line, at + 1)?;
            let inside = &line[at + 1..end - 1];
            at = end;
            if quoted_skipped < QUOTED_SKIPPED {
                quoted_skipped += 1;
                continue;
            }
            inside
        } else {
            // A time taken without a name can be read where it stands, if it ends there.
            if let Some((number, end)) = number::decimal(line, at)
                && matches!(line.get(end), None | Some(b' '))
            {
                at = end;
                match values::usable(number.to_f64(3)) {
                    Some(ms) if number.has_point() => return Some(ms),
                    _ => continue,
                }
            }
            let length = line[at..].iter().take_while(|byte| **byte != b' ').count();
            at += length;
            &line[at - length..at]
        };
        if let Some(ms) = as_time_taken(field) {
            return Some(ms);
        }
    }
    None
}

fn as_time_taken(field: &[u8]) -> Option<f64> {
    let named = field.strip_prefix(b"rt=").or_else(|| field.strip_prefix(b"request_time="));
    let text = named.unwrap_or(field);
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    match number::whole(text) {
        Some(number) if named.is_some() || number.has_point() => values::usable(number.to_f64(3)),
        Some(_) => None,
        None => values::latency_text(text, 3),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> Option<Found> {
        let mut found = Found::new();
        super::read(line.as_bytes(), &mut found, &mut Clock::new(0)).map(|()| found)
    }

    const HEAD: &str = r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" "#;

    #[test]
    fn a_combined_line_says_time_status_bytes_and_time_taken() {
        let found = read(&format!(r#"{HEAD}200 12345 "https://example.org/" "Mozilla/5.0 (X11)" 0.012"#)).unwrap();
        assert_eq!(found.time_ms, Some(1_767_225_600_000));
        assert_eq!((found.status, found.bytes, found.latency_ms), (Some(200), Some(12345.0), Some(12.0)));
        assert_eq!(found.level, None);
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let found = read(&format!("{HEAD}304 -")).unwrap();
        assert_eq!((found.status, found.bytes, found.latency_ms), (Some(304), None, None));
        let found = read(&format!("{HEAD}- 0 \"-\" \"-\"")).unwrap();
        assert_eq!((found.status, found.bytes, found.latency_ms), (None, Some(0.0), None));
        for none in ["0", "00", "000", "99", "600"] {
            assert_eq!(read(&format!("{HEAD}{none} 7")).unwrap().bytes, Some(7.0), "{none}");
            assert_eq!(read(&format!("{HEAD}{none} 7")).unwrap().status, None, "{none}");
        }
        assert_eq!(read(&HEAD.replace("01/Jan", "31/Feb").replace("\" ", "\" 200 1")).unwrap().time_ms, None);
    }

    #[test]
    fn escaped_quotes_end_no_field() {
        let line = r#"::1 - "bob" [01/Jan/2026:00:00:00 +0000] "GET /\"a b\" 500 1 \\" 404 7 "\"" "a \" 0.5 b\\" 0.25"#;
        let found = read(line).unwrap();
        assert_eq!((found.status, found.bytes, found.latency_ms), (Some(404), Some(7.0), Some(250.0)));
    }

    #[test]
    fn a_time_taken_is_read_in_each_of_its_forms_and_nothing_else_is() {
        for (tail, ms) in [
            (r#""-" "-" 0.012"#, Some(12.0)),
            (r#""-" "-" "0.012""#, Some(12.0)),
            (r#""-" "-" rt=0.012 uct=0.5"#, Some(12.0)),
            (r#""-" "-" rt="0.012""#, Some(12.0)),
            (r#""-" "-" rt=2"#, Some(2000.0)),
            (r#""-" "-" "10.0.0.1" 0.012 0.010 ."#, Some(12.0)),
            (r#""-" "-" 7 "router" "http://1" 12ms"#, Some(12.0)),
            ("0.012", Some(12.0)),
            (r#""1.5" "2.5""#, None),
            (r#""-" "-" 512 1024"#, None),
            (r#""-" "-" "-" -"#, None),
            (r#""-" "Mozilla 0.5"#, None),
        ] {
            assert_eq!(read(&format!("{HEAD}200 1 {tail}")).unwrap().latency_ms, ms, "{tail}");
        }
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "[Sat Nov 21 00:39:38 2026] [core:error] [pid 1] x",
            "2026-11-21 00:39:38 INFO [main] \"x\" 200 5",
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] GET / 200 1"#,
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET / 200 1"#,
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /" 2000 1"#,
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /" 200"#,
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /" 200 "#,
            r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /" 200 12x"#,
            r#"1.2.3.4 - [01/Jan/2026:00:00:00 +0000] "GET /" 200 1"#,
        ] {
            assert!(read(line).is_none(), "{line}");
        }
    }
}
