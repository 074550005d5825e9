//! What one log line says. It decides which format a line has and reads time, service, level, status, latency and size
//! from it; it knows no metric, no window and no clock, and a line is read without a look at any other.
//!
//! A line's answer depends on its bytes, the default zone and when its batch was read alone. What a [`Parser`] remembers of earlier lines (where
//! the keys of a JSON line stood, the last minute) makes it faster and is checked again in each line; the tests compare a
//! parser that has read much with a new one, and both with serde_json.
//!
//! How a line is told apart, after a `\r` at its end and a byte order mark at its start are cut off:
//! 1. a NUL byte anywhere: skipped, [`Skip::Binary`];
//! 2. nothing but whitespace: skipped, [`Skip::Blank`];
//! 3. `{` first (behind spaces and tabs): JSON (module `json`, keys in `names`), else [`Skip::MalformedJson`];
//! 4. `[` and `{` first, and all of it JSON: many events on one line, skipped, [`Skip::JsonArray`];
//! 5. the shape of an access log: module `combined`;
//! 6. plain text: module `text`.
//!
//! A line whose time means to be one and is none is skipped, [`Skip::BadTime`]; one without a time is undated.

mod block;
mod combined;
mod json;
mod names;
mod number;
mod text;
mod time;
mod values;

use values::{Found, Named, Tools};

/// Longest name of a service; a longer one counts as absent.
pub const SERVICE_BYTES_MAX: usize = 255;

/// What one line says, in the units of the built-in metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line<'a> {
    /// Unix milliseconds; `None`: undated, the batch's `read_at` counts.
    pub time_ms: Option<i64>,
    /// The service that the line itself names: 1 ..= [`SERVICE_BYTES_MAX`] bytes.
    pub service: Option<&'a str>,
    /// How bad it is.
    pub level: Option<Level>,
    /// HTTP's status, in 100 ..= 599.
    pub status: Option<u16>,
    /// Milliseconds taken: finite, within ±2^360.
    pub latency_ms: Option<f64>,
    /// Bytes sent: 0 ..= 2^360.
    pub bytes: Option<f64>,
}

impl Line<'_> {
    /// A line of which nothing is known.
    pub const NOTHING: Self =
        Self { time_ms: None, service: None, level: None, status: None, latency_ms: None, bytes: None };
}

/// How bad a line says it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Finest detail.
    Trace,
    /// For developers.
    Debug,
    /// As it should be; syslog's notice as well.
    Info,
    /// May become an error.
    Warn,
    /// Something failed.
    Error,
    /// The program or more than it failed: critical, alert, panic, emergency.
    Fatal,
}

impl Level {
    /// The level in lower case, as names of metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }
}

/// Why a line says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// Nothing but whitespace.
    Blank,
    /// It begins as a JSON object and is not a valid one.
    MalformedJson,
    /// It is a JSON array of objects, as some log shippers send unless they are told to send lines: many events, where a line is one.
    JsonArray,
    /// There is a NUL byte in it.
    Binary,
    /// Its time is before 1970, after 9999, in no calendar or in no zone.
    BadTime,
}

impl Skip {
    /// The word that counters use.
    pub fn as_str(self) -> &'static str {
        match self {
            Skip::Blank => "blank",
            Skip::MalformedJson => "malformed_json",
            Skip::JsonArray => "json_array",
            Skip::Binary => "binary",
            Skip::BadTime => "bad_time",
        }
    }
}

/// Reads lines, one after the other. Make one for each thread and keep it.
#[derive(Debug)]
pub struct Parser {
    json: json::Reader,
    tools: Tools,
}

impl Parser {
    /// A parser that takes timestamps without a zone to be so many seconds east of UTC.
    pub fn new(default_zone_offset_secs: i32) -> Self {
        Parser { json: json::Reader::default(), tools: Tools::new(time::Clock::new(default_zone_offset_secs)) }
    }

    /// The lines from now on were read then, Unix milliseconds: it tells the year of timestamps that name none.
    pub fn read_at(&mut self, read_at_ms: i64) {
        self.tools.clock.read_at(read_at_ms);
    }

    /// What `line` says, given without its `\n`. `plain` may be true when [`is_plain`] holds for bytes that the line is
    /// a whole part of, and spares a second look at each byte; where it is false the line itself is checked.
    #[inline]
    pub fn parse<'a>(&'a mut self, line: &'a [u8], plain: bool) -> Result<Line<'a>, Skip> {
        if !plain || !matches!(line, [b'{', .., b'}']) {
            return self.parse_other(line, plain);
        }
        let mut found = Found::new();
        self.json.read(line, true, &mut found, &mut self.tools).ok_or(Skip::MalformedJson)?;
        self.line(line, &found)
    }

    /// What the line at `*at` of a batch says; `at` goes behind its `\n`. `None`: the batch ends there. The answers are those
    /// of [`Parser::parse`] for each line, only sooner: a line that reads as an earlier one is not searched for its end.
    #[inline]
    pub fn next<'a>(&'a mut self, batch: &'a [u8], at: &mut usize, plain: bool) -> Option<Result<Line<'a>, Skip>> {
        let from = *at;
        let first = batch.get(from)?;
        let mut found = Found::new();
        let json = plain && *first == b'{';
        if json && let Some(end) = self.json.read_predicted(batch, from, &mut found, &mut self.tools) {
            *at = end + 1;
            return Some(self.line(batch, &found));
        }
        let length = memchr::memchr(b'\n', &batch[from..]).unwrap_or(batch.len() - from);
        let line = &batch[from..from + length];
        *at = from + length + 1;
        if json && line.ends_with(b"}") {
            let read = self.json.read_anew(line, &mut found, &mut self.tools);
            return Some(read.ok_or(Skip::MalformedJson).and_then(|()| self.line(line, &found)));
        }
        Some(self.parse(line, plain))
    }

    #[inline(never)]
    fn parse_other<'a>(&'a mut self, line: &'a [u8], plain: bool) -> Result<Line<'a>, Skip> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let plain = plain || is_plain(line);
        if !plain && memchr::memchr(0, line).is_some() {
            return Err(Skip::Binary);
        }
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let line = match line.first() {
            Some(first) if !is_space(*first) => line,
            _ => &line[line.iter().position(|byte| !is_space(*byte)).ok_or(Skip::Blank)?..],
        };
        let mut found = Found::new();
        if line[0] == b'{' {
            self.json.read(line, plain, &mut found, &mut self.tools).ok_or(Skip::MalformedJson)?;
        } else if line[0] == b'[' && self.json.is_array_of_objects(line) {
            return Err(Skip::JsonArray);
        } else if combined::read(line, &mut found, &mut self.tools.clock).is_none() {
            found = text::read(line, &mut self.tools);
        }
        self.line(line, &found)
    }

    #[inline(always)]
    fn line<'a>(&'a self, line: &'a [u8], found: &Found) -> Result<Line<'a>, Skip> {
        if found.no_instant && found.time_ms.is_none() {
            return Err(Skip::BadTime);
        }
        let service = match found.service {
            Named::Nowhere => None,
            Named::Line(from, to) => str::from_utf8(&line[from..to]).ok(),
            Named::Tools => Some(self.tools.service.as_str()),
        };
        let Found { time_ms, level, status, latency_ms, bytes, .. } = *found;
        Ok(Line { time_ms, service, level, status, latency_ms, bytes })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c')
}

/// Whether these bytes are UTF-8 without a control byte below 0x20 other than `\n`: the check to make once for a batch.
pub fn is_plain(batch: &[u8]) -> bool {
    // Both loops have no branch inside, so the compiler makes vectors of them.
    const CHUNK_BYTES: usize = 4096;
    let mut ascii = true;
    for chunk in batch.chunks(CHUNK_BYTES) {
        // As signed bytes, all that is not ASCII is below 0x20 as well.
        let odd = chunk.iter().fold(false, |odd, byte| odd | (((*byte as i8) < 0x20) & (*byte != b'\n')));
        if odd {
            if chunk.iter().fold(false, |control, byte| control | ((*byte < 0x20) & (*byte != b'\n'))) {
                return false;
            }
            ascii = false;
        }
    }
    ascii || str::from_utf8(batch).is_ok()
}

#[cfg(test)]
mod tests;
