//! Reads a JSON line in one of two ways: where a line of the same layout was read before, it checks that the keys stand
//! where they stood and reads only the values (`predicted`); else it reads the line as if it were the first
//! (`validating`). Both say the same of every line, down to the last bit: they share the scanning of scalars below and
//! the meaning of values, and a layout holds every byte between the scalars.
//!
//! A line is malformed when RFC 8259's grammar does not hold, when it is not UTF-8, or when it nests deeper than
//! `DEPTH_MAX`. Half a surrogate pair is grammar: the line is read, though a string with one has no meaning as a value.

mod predicted;
mod validating;

use super::block;
use super::number;
use super::values::{Found, Scalar, Tools};

/// Reads JSON lines; what it remembers changes only how fast.
#[derive(Debug, Default)]
pub(super) struct Reader {
    layouts: predicted::Layouts,
    reading: validating::Reading,
}

impl Reader {
    /// Finds what a line says whose first byte is `{`; `None`: it is malformed. `plain` as for [`super::Parser::parse`].
    #[inline]
    pub(super) fn read(&mut self, line: &[u8], plain: bool, found: &mut Found, tools: &mut Tools) -> Option<()> {
        if !plain {
            return self.read_odd(line, found, tools);
        }
        match self.layouts.read(line, 0, found, tools) {
            Some(_) => Some(()),
            None => self.read_anew(line, found, tools),
        }
    }

    /// Finds what the line at `from` of a plain batch says and where it ends, if it reads as an earlier one; else what was
    /// found means nothing.
    #[inline]
    pub(super) fn read_predicted(
        &mut self,
        batch: &[u8],
        from: usize,
        found: &mut Found,
        tools: &mut Tools,
    ) -> Option<usize> {
        self.layouts.read(batch, from, found, tools)
    }

    /// As [`Reader::read`], for a plain line of which it is known that it does not read as an earlier one.
    #[inline(never)]
    pub(super) fn read_anew(&mut self, line: &[u8], found: &mut Found, tools: &mut Tools) -> Option<()> {
        self.reading.validate::<false>(line)?;
        self.layouts.learn(line, &self.reading);
        *found = self.reading.found(line, tools);
        Some(())
    }

    /// Whether a line whose first byte is `[` is a JSON array that begins with an object. Text may begin so as well, such as `[error] x`.
    pub(super) fn is_array_of_objects(&mut self, line: &[u8]) -> bool {
        let first = line[1..].iter().find(|byte| !byte.is_ascii_whitespace());
        first == Some(&b'{') && str::from_utf8(line).is_ok() && self.reading.validate::<true>(line).is_some()
    }

    /// A line with control bytes or bytes that are not UTF-8: valid only if the former are whitespace between tokens.
    #[cold]
    fn read_odd(&mut self, line: &[u8], found: &mut Found, tools: &mut Tools) -> Option<()> {
        str::from_utf8(line).ok()?;
        self.reading.validate::<true>(line)?;
        *found = self.reading.found(line, tools);
        Some(())
    }
}

/// The string, number or word at `at`, and where it ends. `STRICT`: control bytes were not ruled out before.
#[inline(always)]
fn scalar<const STRICT: bool>(line: &[u8], at: usize) -> Option<(Scalar<'_>, usize)> {
    match line.get(at)? {
        b'"' => {
            let (to, escaped) = string_end::<STRICT>(line, at + 1)?;
            Some((Scalar::Text { from: at + 1, to, escaped }, to + 1))
        }
        b'-' | b'0'..=b'9' => number::json(line, at).map(|(number, end)| (Scalar::Number(number), end)),
        b't' => word(line, at, b"true"),
        b'f' => word(line, at, b"false"),
        b'n' => word(line, at, b"null"),
        _ => None,
    }
}

fn word<'a>(line: &'a [u8], at: usize, word: &[u8]) -> Option<(Scalar<'a>, usize)> {
    line[at..].starts_with(word).then_some((Scalar::Other, at + word.len()))
}

/// Where the quote stands that ends the string whose inside begins at `from`, and whether there are escapes in it.
#[inline(always)]
fn string_end<const STRICT: bool>(line: &[u8], from: usize) -> Option<(usize, bool)> {
    let at = block::find_end_or_escape::<STRICT>(line, from)?;
    if line[at] == b'"' { Some((at, false)) } else { Some((escaped_string_end::<STRICT>(line, at)?, true)) }
}

/// The same from the first mark at `at` that is not a quote.
#[inline(never)]
fn escaped_string_end<const STRICT: bool>(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = match (line[at], line.get(at + 1)) {
            (b'"', _) => return Some(at),
            (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at + 2,
            (b'\\', Some(b'u')) if line.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at + 6,
            _ => return None,
        };
        at = block::find_end_or_escape::<STRICT>(line, at)?;
    }
}

#[cfg(test)]
mod agreement;
