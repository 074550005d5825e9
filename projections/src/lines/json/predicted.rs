//! Reads a JSON line on the bet that its keys stand as in an earlier line. It decides nothing: when any byte between the
//! scalars differs, or a scalar is not one, it says so and the validating reader reads the line.
//!
//! Why that is enough: a valid line is its scalars and the bytes between them. If those bytes are the same and each
//! scalar is a whole scalar again, then the line is valid again, with the same keys in the same places; so what was
//! concluded from the keys (which field a scalar is, which of two equal keys is the last) holds again.

use super::super::block;
use super::super::names::{Field, Role, role};
use super::super::number;
use super::super::values::{Found, Scalar, Tools};
use super::validating::Reading;
use super::{scalar, string_end};

/// How many layouts are remembered: producers that take turns on one stream.
const LAYOUTS_MAX: usize = 4;
/// A layout with more bytes between its scalars is not learned.
const BETWEEN_BYTES_MAX: usize = 8192;
/// When layouts are learned in vain, at most so many lines are read without learning before the next is tried.
const PAUSE_LINES_MAX: u32 = 255;

/// The layouts seen last.
#[derive(Debug, Default, Clone)]
pub(super) struct Layouts {
    /// The one that held last stands first.
    known: Vec<Layout>,
    /// Lines yet to be read before a layout is learned again.
    pause: u32,
    /// How long the next pause is: grows with each layout that is dropped without ever having held.
    next_pause: u32,
}

/// The bytes around the scalars of a line.
#[derive(Debug, Default, Clone)]
struct Layout {
    slots: Vec<Slot>,
    between: Vec<u8>,
    tail_from: usize,
    held: bool,
}

/// What stands before a scalar, and what that scalar is.
#[derive(Debug, Clone)]
struct Slot {
    /// The first bytes of what stands before, and a bit for each of them.
    head: [u8; 16],
    head_mask: u32,
    from: usize,
    to: usize,
    field: Option<(Field, Role)>,
}

impl Layouts {
    /// Finds what the line at `from` says and where it ends, if its layout is known; else what was found means nothing.
    /// What follows the line may follow in `bytes`: a string never goes over a newline, and the bytes around never had one.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8], from: usize, found: &mut Found, tools: &mut Tools) -> Option<usize> {
        let first = self.known.first_mut()?;
        match first.read(bytes, from, found, tools) {
            Some(end) => {
                first.held = true;
                Some(end)
            }
            None => self.read_by_another(bytes, from, found, tools),
        }
    }

    #[inline(never)]
    fn read_by_another(&mut self, bytes: &[u8], from: usize, found: &mut Found, tools: &mut Tools) -> Option<usize> {
        let others = &mut self.known.iter_mut().enumerate().skip(1);
        let (index, end) = others.find_map(|(index, layout)| {
            let end = layout.read(bytes, from, found, tools)?;
            layout.held = true;
            Some((index, end))
        })?;
        self.known[..=index].rotate_right(1);
        Some(end)
    }

    /// Remembers the layout of a line that none of the known ones fits, unless learning has not paid of late.
    pub(super) fn learn(&mut self, line: &[u8], reading: &Reading) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some(scalars) = reading.scalars() else { return };
        let mut layout = if self.known.len() < LAYOUTS_MAX { Layout::default() } else { self.drop_last() };
        if layout.learn(line, scalars).is_some() {
            self.known.insert(0, layout);
        }
    }

    fn drop_last(&mut self) -> Layout {
        let dropped = self.known.pop().unwrap_or_default();
        self.next_pause =
            if dropped.held { self.next_pause / 2 } else { (self.next_pause * 2 + 1).min(PAUSE_LINES_MAX) };
        self.pause = self.next_pause;
        dropped
    }
}

impl Layout {
    fn learn(&mut self, line: &[u8], scalars: impl Iterator<Item = (usize, usize, Option<Field>)>) -> Option<()> {
        self.slots.clear();
        self.between.clear();
        self.held = false;
        let mut at = 0;
        for (from, to, field) in scalars {
            let before = &line[at..from];
            if self.between.len() + before.len() > BETWEEN_BYTES_MAX {
                return None;
            }
            let mut head = [0; 16];
            let head_length = before.len().min(16);
            head[..head_length].copy_from_slice(&before[..head_length]);
            let start = self.between.len();
            self.between.extend_from_slice(before);
            self.slots.push(Slot {
                head,
                head_mask: (1 << head_length) - 1,
                from: start,
                to: self.between.len(),
                field: field.map(|field| (field, role(field))),
            });
            at = to;
        }
        self.tail_from = self.between.len();
        let tail = &line[at..];
        self.between.extend_from_slice(tail);
        (self.between.len() <= BETWEEN_BYTES_MAX).then_some(())
    }

    /// Finds what the line at `from` says and where it ends, if it has this layout; else what was found means nothing.
    #[inline(never)]
    fn read(&self, bytes: &[u8], from: usize, found: &mut Found, tools: &mut Tools) -> Option<usize> {
        *found = Found::new();
        let mut at = from;
        for slot in &self.slots {
            at = self.before(slot, bytes, at)?;
            at = match slot.field {
                None => skip(bytes, at)?,
                Some((field, role)) => value(found, field, role, bytes, at, tools)?,
            };
        }
        let tail = &self.between[self.tail_from..];
        let end = at + tail.len();
        let holds = bytes.get(at..end)? == tail && matches!(bytes.get(end), None | Some(b'\n'));
        holds.then_some(end)
    }

    /// Where the slot's scalar begins, if before it stands what stood there.
    #[inline(always)]
    fn before(&self, slot: &Slot, line: &[u8], at: usize) -> Option<usize> {
        let length = slot.to - slot.from;
        let holds = match block::equal_at(line, at, &slot.head) {
            Some(equal) if length <= 16 => equal & slot.head_mask == slot.head_mask,
            Some(equal) if equal != 0xffff => false,
            _ => line.get(at..at + length)? == &self.between[slot.from..slot.to],
        };
        holds.then_some(at + length)
    }
}

/// Where the scalar at `at` ends.
#[inline(always)]
fn skip(line: &[u8], at: usize) -> Option<usize> {
    if line.get(at) == Some(&b'"') {
        return Some(string_end::<false>(line, at + 1)?.0 + 1);
    }
    any_scalar(line, at).map(|(_, end)| end)
}

/// Takes the scalar at `at` as the value of `field`, and says where it ends. Each role's common form is tried first, and
/// only where the general way would say the same.
#[inline(always)]
fn value(found: &mut Found, field: Field, role: Role, line: &[u8], at: usize, tools: &mut Tools) -> Option<usize> {
    if found.wants(field, role) {
        match role {
            // A timestamp of the common form need not be searched for its closing quote first.
            Role::Time => {
                if line.get(at) == Some(&b'"')
                    && let Some((time_ms, length)) = tools.clock.rfc3339(line.get(at + 1..)?)
                    && line.get(at + 1 + length) == Some(&b'"')
                {
                    found.take_time(field, time_ms);
                    return Some(at + length + 2);
                }
            }
            Role::Level | Role::Service => {
                if line.get(at) == Some(&b'"')
                    && let Some((to, false)) = string_end::<false>(line, at + 1)
                {
                    found.take_text(field, role, line, at + 1, to, tools);
                    return Some(to + 1);
                }
            }
            Role::Status | Role::Latency(_) | Role::Bytes => {
                if let Some((number, end)) = number::json(line, at) {
                    found.take_number(field, role, number);
                    return Some(end);
                }
            }
        }
    }
    let (value, end) = any_scalar(line, at)?;
    found.take(field, line, value, tools);
    Some(end)
}

#[inline(never)]
fn any_scalar(line: &[u8], at: usize) -> Option<(Scalar<'_>, usize)> {
    scalar::<false>(line, at)
}
