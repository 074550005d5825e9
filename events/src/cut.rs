//! Where a batch may end. Decides cuts from the bytes alone, so that every reader of the same bytes, at any pace, may cut; never parses.
//!
//! Invariants:
//! - A batch begins at a line's first byte that is no continuation, and holds whole lines.
//! - All lines of a batch begin in one slice of the origin.
//! - Whether a line continues the one before it is a function of the lines between them and the last head, not of the cut.

use memchr::{memchr, memchr_iter, memrchr};

use crate::identity::SLICE_BYTES;

/// A line longer than this is cut: its first `LINE_KEPT_BYTES` travel, the rest is named in an edit and the line is counted as skipped.
pub const LINE_BYTES_MAX: usize = 256 << 10;
/// What is kept of a line that is too long: enough to recognise it.
pub const LINE_KEPT_BYTES: usize = 1 << 10;
/// A head and its continuations: after so many bytes the next line is a head, whatever it looks like.
pub const GROUP_BYTES_MAX: usize = 64 << 10;

/// True if the line looks like more of the line before it: a stack trace's frames, a wrapped message.
/// An indented `{` opens a JSON document and is no continuation.
pub(crate) fn looks_continued(line: &[u8]) -> bool {
    match line.first() {
        Some(b' ' | b'\t') => line.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b != b'{'),
        Some(b'C') => line.starts_with(b"Caused by: "),
        _ => false,
    }
}

/// True if the line says nothing: it ends a group, and is skipped.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Physical lines; the last may lack its newline.
pub fn count_lines(body: &[u8]) -> u64 {
    let ended = body.last().is_none_or(|last| *last == b'\n');
    memchr_iter(b'\n', body).count() as u64 + u64::from(!ended)
}

/// False for a first byte that nearly every line of every log has: such a line continues nothing and is not blank. Else the whole line says.
#[inline]
pub fn may_continue(first: u8) -> bool {
    matches!(first, b' ' | b'\t' | b'C' | b'\r' | b'\n')
}

/// Follows heads and continuations line by line.
#[derive(Debug, Default, Clone, Copy)]
pub struct Groups {
    /// Bytes since the first byte of the current head; 0: there is no head.
    since_head: usize,
}

impl Groups {
    /// Takes the next line (without its newline); true if it continues the current head. `too_long`: it is longer than `LINE_BYTES_MAX`, and
    /// then never continues anything, so that a cut before it is always allowed.
    #[inline]
    pub fn continues(&mut self, line: &[u8], too_long: bool) -> bool {
        if line.first().is_none_or(|first| may_continue(*first)) {
            if is_blank(line) {
                self.since_head = 0;
                return false;
            }
            if self.since_head > 0 && self.since_head < GROUP_BYTES_MAX && !too_long && looks_continued(line) {
                self.since_head += line.len() + 1;
                return true;
            }
        }
        self.begin(line);
        false
    }

    /// As `continues` for a line whose first byte is one that `may_continue` denies.
    #[inline]
    pub fn begin(&mut self, line: &[u8]) {
        self.since_head = line.len() + 1;
    }
}

/// What to do with the bytes that were read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The first so many bytes, ends of lines included, are a batch.
    Batch(usize),
    /// The first line is longer than `LINE_BYTES_MAX`: read on to its end, keep its head only.
    TooLong,
    /// Not enough bytes to know: read on. Never the answer at the end, nor for a window of `WINDOW_BYTES_MIN` and more.
    NeedMore,
}

/// A window of this size always holds a cut, whatever its bytes.
pub const WINDOW_BYTES_MIN: usize = GROUP_BYTES_MAX + 2 * LINE_BYTES_MAX + 2;

/// Finds the next batch in `window`, whose first byte begins a head and stands at `offset` in the origin.
///
/// `at_end`: nothing follows the window. `target`: the longest batch wanted; only one group that is longer may pass it.
pub fn next_cut(window: &[u8], offset: u64, at_end: bool, target: usize) -> Cut {
    let slice_left = (SLICE_BYTES - offset % SLICE_BYTES) as usize;
    if window.is_empty() {
        return Cut::NeedMore;
    }
    if at_end && window.len() <= target.min(slice_left) {
        return Cut::Batch(window.len());
    }
    if !at_end && window.len() < target.min(slice_left) && window.len() < WINDOW_BYTES_MIN {
        return Cut::NeedMore;
    }
    // Where the slice ends within reach, cut exactly there: else each slice would end in a batch of one line.
    if slice_left <= target.min(window.len())
        && let Some(cut) = slice_end(window, slice_left, at_end).filter(|cut| *cut <= target + LINE_BYTES_MAX)
    {
        return Cut::Batch(cut);
    }
    match last_plain_head(window, target.min(slice_left), at_end) {
        Some(cut) => Cut::Batch(cut),
        None => first_group(window, at_end),
    }
}

/// The line that begins at `at`, without its newline; `None`: its end is not in the window, and may yet come.
fn line_at(window: &[u8], at: usize, at_end: bool) -> Option<&[u8]> {
    let rest = &window[at..];
    match memchr(b'\n', rest) {
        Some(end) => Some(&rest[..end]),
        None if at_end || rest.len() > LINE_BYTES_MAX => Some(rest),
        None => None,
    }
}

/// The first line's begin at or past the end of the slice, if that line is certainly a head.
fn slice_end(window: &[u8], slice_left: usize, at_end: bool) -> Option<usize> {
    let begin = slice_left + memchr(b'\n', &window[slice_left - 1..])?;
    if begin == window.len() {
        return at_end.then_some(begin);
    }
    let line = line_at(window, begin, at_end)?;
    (is_blank(line) || !looks_continued(line)).then_some(begin)
}

/// The last line's begin, at most `reach`, before which a cut is allowed whatever came before.
fn last_plain_head(window: &[u8], reach: usize, at_end: bool) -> Option<usize> {
    let mut reach = reach.min(window.len());
    while let Some(newline) = memrchr(b'\n', &window[..reach]) {
        let begin = newline + 1;
        if begin == window.len() {
            if at_end {
                return Some(begin);
            }
        } else if line_at(window, begin, at_end).is_some_and(|line| is_blank(line) || !looks_continued(line)) {
            return Some(begin);
        }
        reach = newline;
    }
    None
}

/// The first group alone, however long: line by line from the head that the window begins with.
fn first_group(window: &[u8], at_end: bool) -> Cut {
    let mut groups = Groups::default();
    let mut begin = 0;
    while begin < window.len() {
        let Some(line) = line_at(window, begin, at_end) else {
            return Cut::NeedMore;
        };
        let too_long = line.len() > LINE_BYTES_MAX;
        if begin == 0 && too_long && window.get(line.len()).is_none() && !at_end {
            return Cut::TooLong;
        }
        let continues = groups.continues(line, too_long);
        if begin > 0 && !continues {
            return Cut::Batch(begin);
        }
        if begin == 0 && too_long {
            return Cut::TooLong;
        }
        begin += line.len() + 1;
    }
    if at_end { Cut::Batch(window.len()) } else { Cut::NeedMore }
}

/// Lines of a batch, each without its newline, with the offset of its first byte.
pub fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut begin = 0;
    let mut newlines = memchr_iter(b'\n', body);
    std::iter::from_fn(move || {
        if begin >= body.len() {
            return None;
        }
        let end = newlines.next().unwrap_or(body.len());
        let line = (begin, &body[begin..end]);
        begin = end + 1;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Cuts `text` as a reader would that gets it in pieces of `piece` bytes.
    fn cut_all(text: &[u8], piece: usize, target: usize, offset: u64) -> Vec<(u64, usize)> {
        let (mut at, mut have, mut cuts) = (0, 0, vec![]);
        while at < text.len() {
            match next_cut(&text[at..have], offset + at as u64, have == text.len(), target) {
                Cut::Batch(len) => {
                    cuts.push((offset + at as u64, len));
                    at += len;
                }
                Cut::TooLong => {
                    let len = memchr(b'\n', &text[at..]).map_or(text.len() - at, |end| end + 1);
                    cuts.push((offset + at as u64, len));
                    at += len;
                    have = have.max(at);
                }
                Cut::NeedMore => {
                    assert!(have < text.len(), "the end is known and there is still no cut");
                    have = (have + piece).min(text.len());
                }
            }
        }
        cuts
    }

    fn heads(text: &[u8]) -> Vec<usize> {
        let mut groups = Groups::default();
        lines(text).filter(|(_, line)| !groups.continues(line, line.len() > LINE_BYTES_MAX)).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_stack_trace_stays_with_its_head() {
        let text = b"a failed\n  at f\n  at g\nCaused by: b\n\tat h\nnext\n";
        for target in [1, 10, 20, 40] {
            assert_eq!(cut_all(text, 5, target, 0), [(0, 42), (42, 5)], "target {target}");
        }
    }

    #[test]
    fn an_indented_json_line_is_a_head() {
        let text = b"{\"a\":1}\n  {\"a\":2}\n";
        assert_eq!(cut_all(text, 100, 8, 0), [(0, 8), (8, 10)]);
    }

    #[test]
    fn a_batch_ends_where_the_slice_does() {
        let text = b"0123456789\n".repeat(10);
        let cuts = cut_all(&text, 1000, 60, SLICE_BYTES - 25);
        assert_eq!(cuts[0], (SLICE_BYTES - 25, 33), "the line that begins in the slice belongs to it");
    }

    #[test]
    fn a_line_without_an_end_is_given_up_after_its_limit() {
        let text = vec![b'x'; LINE_BYTES_MAX + 2];
        assert_eq!(next_cut(&text, 0, false, 1000), Cut::TooLong);
        assert_eq!(next_cut(&text[..1000], 0, false, 1000), Cut::NeedMore);
    }

    proptest! {
        #[test]
        fn cuts_lie_at_heads_and_cover_the_bytes_at_any_pace(
            words in proptest::collection::vec(prop_oneof!["[a-zC ]{0,6}", Just("Caused by: x".to_owned()), Just("\t at".to_owned()), Just(String::new())], 0..60),
            ended in any::<bool>(), piece in 1usize..40, target in 1usize..80, near in 0u64..200,
        ) {
            let mut text = words.join("\n").into_bytes();
            if ended { text.push(b'\n'); }
            let offset = SLICE_BYTES - near;
            let cuts = cut_all(&text, piece, target, offset);
            let all_heads = heads(&text);
            let mut at = offset;
            for (from, len) in &cuts {
                prop_assert_eq!(*from, at);
                let begin = (from - offset) as usize;
                prop_assert!(all_heads.contains(&begin), "batch at {} begins with a continuation", begin);
                let last = all_heads.iter().rev().find(|head| **head < begin + len).unwrap();
                prop_assert_eq!((offset + *last as u64) / SLICE_BYTES, from / SLICE_BYTES, "a head of another slice");
                at += *len as u64;
            }
            prop_assert_eq!(at, offset + text.len() as u64);
        }
    }
}
