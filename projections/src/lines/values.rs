//! Decides what a value says in its role, and which of several values counts. All formats come here, so that a word or a
//! number means the same wherever it stands. A value that cannot be used is as good as absent.

use super::names::{self, Field, Role};
use super::number::{self, Decimal};
use super::time::{self, Clock, NoInstant};
use super::{Level, SERVICE_BYTES_MAX};
use crate::sum::VALUE_ABS_MAX;

/// `best` of a role that has no value yet.
const NONE: Field = Field::MAX;

/// A value as it stands in the line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar<'a> {
    /// What stands from .. to, between quotes if there are any; with JSON's escapes in it, or without.
    Text {
        from: usize,
        to: usize,
        escaped: bool,
    },
    Number(Decimal<'a>),
    /// `true`, `false`, `null`.
    Other,
}

/// Where the service's name is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    Nowhere,
    Line(usize, usize),
    /// In [`Tools::service`], because the line has it with escapes.
    Tools,
}

/// What values are read with; kept from line to line so that nothing is allocated for one.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) clock: Clock,
    pub(super) service: String,
    unescaped: String,
}

impl Tools {
    pub(super) fn new(clock: Clock) -> Self {
        Tools { clock, service: String::new(), unescaped: String::new() }
    }
}

/// What was found in a line so far.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) time_ms: Option<i64>,
    /// A value means to be a time and is none: that tells where no other value is one.
    pub(super) no_instant: bool,
    pub(super) level: Option<Level>,
    pub(super) status: Option<u16>,
    pub(super) latency_ms: Option<f64>,
    pub(super) bytes: Option<f64>,
    pub(super) service: Named,
    best: [Field; Role::COUNT],
}

impl Found {
    pub(super) fn new() -> Self {
        Found {
            time_ms: None,
            no_instant: false,
            level: None,
            status: None,
            latency_ms: None,
            bytes: None,
            service: Named::Nowhere,
            best: [NONE; Role::COUNT],
        }
    }

    /// Whether a value of `field` would be of use: no better one is there.
    #[inline(always)]
    pub(super) fn wants(&self, field: Field, role: Role) -> bool {
        field <= self.best[role.index()]
    }

    #[inline(always)]
    fn put_time(&mut self, time_ms: Result<Option<i64>, NoInstant>) -> bool {
        self.no_instant |= time_ms.is_err();
        put(&mut self.time_ms, time_ms.unwrap_or(None))
    }

    /// Takes the time that `field`'s value was seen to say.
    #[inline(always)]
    pub(super) fn take_time(&mut self, field: Field, time_ms: i64) {
        self.time_ms = Some(time_ms);
        self.best[Role::Time.index()] = field;
    }

    /// Takes the value of `field` if it can be used and no better one is there.
    pub(super) fn take(&mut self, field: Field, line: &[u8], scalar: Scalar<'_>, tools: &mut Tools) {
        let role = names::role(field);
        if !self.wants(field, role) {
            return;
        }
        match scalar {
            Scalar::Text { from, to, escaped: false } => self.take_text(field, role, line, from, to, tools),
            Scalar::Text { from, to, escaped: true } => self.take_escaped(field, role, &line[from..to], tools),
            Scalar::Number(number) => self.take_number(field, role, number),
            Scalar::Other => {}
        }
    }

    /// As [`Found::take`], for a wanted field whose value is the text from .. to without escapes.
    #[inline(always)]
    pub(super) fn take_text(
        &mut self,
        field: Field,
        role: Role,
        line: &[u8],
        from: usize,
        to: usize,
        tools: &mut Tools,
    ) {
        let text = &line[from..to];
        if role != Role::Service {
            return self.take_meaning(field, role, text, &mut tools.clock);
        }
        if is_service(text) {
            self.service = Named::Line(from, to);
            self.best[role.index()] = field;
        }
    }

    #[cold]
    fn take_escaped(&mut self, field: Field, role: Role, raw: &[u8], tools: &mut Tools) {
        let mut text = std::mem::take(&mut tools.unescaped);
        let usable = unescape(raw, &mut text).is_some();
        if usable && role != Role::Service {
            self.take_meaning(field, role, text.as_bytes(), &mut tools.clock);
        } else if usable && is_service(text.as_bytes()) {
            // Only now the name may go where an earlier, worse one may be.
            std::mem::swap(&mut text, &mut tools.service);
            self.service = Named::Tools;
            self.best[role.index()] = field;
        }
        tools.unescaped = text;
    }

    /// Takes a text that is no service's name.
    #[inline(always)]
    fn take_meaning(&mut self, field: Field, role: Role, text: &[u8], clock: &mut Clock) {
        let taken = match role {
            Role::Time => self.put_time(clock.whole(text)),
            Role::Level => put(&mut self.level, level(text)),
            Role::Status => put(&mut self.status, number::whole(text).and_then(status)),
            Role::Latency(shift) => put(&mut self.latency_ms, latency_text(text, shift)),
            Role::Bytes => put(&mut self.bytes, number::whole(text).and_then(bytes)),
            Role::Service => false,
        };
        if taken {
            self.best[role.index()] = field;
        }
    }

    /// As [`Found::take`], for a wanted field.
    #[inline(always)]
    pub(super) fn take_number(&mut self, field: Field, role: Role, number: Decimal<'_>) {
        let taken = match role {
            Role::Time => self.put_time(time::unix(number).map(Some).ok_or(NoInstant)),
            Role::Level => put(&mut self.level, number.to_u16().and_then(level_number)),
            Role::Status => put(&mut self.status, status(number)),
            Role::Latency(shift) => put(&mut self.latency_ms, usable(number.to_f64(shift))),
            Role::Bytes => put(&mut self.bytes, bytes(number)),
            Role::Service => false,
        };
        if taken {
            self.best[role.index()] = field;
        }
    }
}

#[inline(always)]
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let usable = value.is_some();
    if usable {
        *place = value;
    }
    usable
}

/// Whether a metric may have this value.
#[inline(always)]
pub(super) fn usable(value: f64) -> Option<f64> {
    (value.abs() <= VALUE_ABS_MAX).then_some(value)
}

#[inline(always)]
pub(super) fn is_service(name: &[u8]) -> bool {
    (1..=SERVICE_BYTES_MAX).contains(&name.len())
}

#[inline(always)]
pub(super) fn status(number: Decimal<'_>) -> Option<u16> {
    number.to_u16().filter(|status| (100..=599).contains(status))
}

/// A size below zero (`-1`: unknown) is none.
#[inline(always)]
pub(super) fn bytes(number: Decimal<'_>) -> Option<f64> {
    usable(number.to_f64(0)).filter(|bytes| *bytes >= 0.0)
}

/// The level that a word names, in any case.
#[inline]
pub(super) fn level(word: &[u8]) -> Option<Level> {
    match word {
        b"INFO" | b"info" => Some(Level::Info),
        b"WARN" | b"warn" => Some(Level::Warn),
        b"ERROR" | b"error" => Some(Level::Error),
        b"DEBUG" | b"debug" => Some(Level::Debug),
        _ => level_any_case(word),
    }
}

fn level_any_case(word: &[u8]) -> Option<Level> {
    if let Some(number) = number::whole(word) {
        return number.to_u16().and_then(level_number);
    }
    let mut lower = [0; 13];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"t" | b"verbose" | b"finest" | b"finer" => Level::Trace,
        b"debug" | b"d" | b"dbg" | b"fine" => Level::Debug,
        b"info" | b"i" | b"inf" | b"information" | b"informational" | b"notice" | b"config" => Level::Info,
        b"warn" | b"w" | b"wrn" | b"warning" => Level::Warn,
        b"error" | b"e" | b"err" | b"severe" => Level::Error,
        b"fatal" | b"f" | b"ftl" | b"critical" | b"crit" | b"panic" | b"dpanic" | b"emerg" | b"emergency"
        | b"alert" => Level::Fatal,
        _ => return None,
    })
}

/// bunyan's and pino's numbers (one between two is the lower), and below ten syslog's severities.
pub(super) fn level_number(number: u16) -> Option<Level> {
    Some(match number {
        0..=2 | 60..=69 => Level::Fatal,
        3 | 50..=59 => Level::Error,
        4 | 40..=49 => Level::Warn,
        5 | 6 | 30..=39 => Level::Info,
        7 | 20..=29 => Level::Debug,
        10..=19 => Level::Trace,
        _ => return None,
    })
}

/// `12.5ms`, `1m30s`, `300 µs`, or a bare number in the unit of its key.
pub(super) fn latency_text(text: &[u8], shift: i8) -> Option<f64> {
    let (first, mut at) = number::decimal(text, 0)?;
    if at == text.len() {
        return usable(first.to_f64(shift));
    }
    let (mut sum, mut number) = (0.0, first);
    loop {
        at += usize::from(text.get(at) == Some(&b' '));
        let length = text[at..].iter().take_while(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b' ' | b'.')).count();
        let (shift, factor) = unit(&text[at..at + length])?;
        sum += number.to_f64(shift) * factor;
        at += length;
        if at == text.len() {
            return usable(sum);
        }
        (number, at) = number::decimal(text, at)?;
    }
}

/// A unit in milliseconds: a power of ten, times a factor that is 1 below a minute.
fn unit(name: &[u8]) -> Option<(i8, f64)> {
    Some(match name {
        b"ns" => (-6, 1.0),
        // The micro sign and the Greek letter.
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => (-3, 1.0),
        b"ms" | b"msec" | b"millis" => (0, 1.0),
        b"s" | b"sec" | b"secs" | b"second" | b"seconds" => (3, 1.0),
        b"m" | b"min" => (3, 60.0),
        b"h" => (3, 3600.0),
        _ => return None,
    })
}

/// Writes the text that `raw`, a JSON string's inside of valid grammar, stands for; `None` when half of a surrogate pair
/// is in it, for then it stands for no text.
pub(super) fn unescape(raw: &[u8], into: &mut String) -> Option<()> {
    into.clear();
    let mut rest = str::from_utf8(raw).ok()?;
    while let Some(at) = rest.find('\\') {
        into.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = &rest[at + 2..];
        into.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = hex(&mut rest)?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    rest = rest.strip_prefix("\\u")?;
                    let second = hex(&mut rest).filter(|second| (0xdc00..0xe000).contains(second))?;
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code)?
            }
            itself => char::from(itself),
        });
    }
    into.push_str(rest);
    Some(())
}

fn hex(rest: &mut &str) -> Option<u32> {
    let code = u32::from_str_radix(rest.get(..4)?, 16).ok()?;
    *rest = &rest[4..];
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_many_names() {
        for (words, level) in [
            ("trace TRACE Verbose 10 15", Level::Trace),
            ("debug Debug 20 7", Level::Debug),
            ("info Information NOTICE 30 6 5", Level::Info),
            ("warn Warning WARNING 40 4", Level::Warn),
            ("error Err SEVERE 50 3", Level::Error),
            ("fatal Critical crit PANIC emerg alert 60 0", Level::Fatal),
        ] {
            for word in words.split(' ') {
                assert_eq!(super::level(word.as_bytes()), Some(level), "{word}");
            }
        }
        for word in ["", "none", "8", "9", "70", "30.5", "informationally", "INFO "] {
            assert_eq!(super::level(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn a_latency_with_a_unit_is_in_milliseconds() {
        for (text, ms) in [
            ("12.5ms", Some(12.5)),
            ("1.2s", Some(1200.0)),
            ("300µs", Some(0.3)),
            ("300μs", Some(0.3)),
            ("300us", Some(0.3)),
            ("42ns", Some(0.000042)),
            ("12 ms", Some(12.0)),
            ("1m30.5s", Some(90_500.0)),
            ("1h2m3s", Some(3_723_000.0)),
            ("-5ms", Some(-5.0)),
            ("12", Some(12.0)),
            ("12 parsecs", None),
            ("ms", None),
            ("", None),
            ("1s2", None),
            ("1e400s", None),
        ] {
            assert_eq!(latency_text(text.as_bytes(), 0), ms, "{text}");
        }
        assert_eq!(latency_text(b"0.075", 3), Some(75.0));
        assert_eq!(latency_text(b"0.075ms", 3), Some(0.075));
    }

    #[test]
    fn values_reach_to_two_to_the_360_and_no_further() {
        assert_eq!(usable(VALUE_ABS_MAX), Some(2f64.powi(360)));
        assert_eq!(usable(-VALUE_ABS_MAX), Some(-(2f64.powi(360))));
        assert_eq!(usable(VALUE_ABS_MAX.next_up()), None);
        assert_eq!(usable(f64::INFINITY), None);
    }

    #[test]
    fn half_a_surrogate_pair_stands_for_no_text() {
        let text = |raw: &str| {
            let mut text = String::new();
            unescape(raw.as_bytes(), &mut text).map(|()| text)
        };
        assert_eq!(text(r#"a\u0041\n\/\"\\\ud83d\ude00é"#).as_deref(), Some("aA\n/\"\\😀é"));
        for raw in [r"\ud83d", r"\ud83dx", r"\ud83d\u0041", r"\ude00"] {
            assert_eq!(text(raw), None, "{raw}");
        }
    }
}
