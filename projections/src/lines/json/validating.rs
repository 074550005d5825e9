//! Reads a JSON line of any layout and notes where its scalars stand. It decides what is valid and which key's value
//! counts; it must never need more memory than its bounds, however deep or long the line.

use super::super::names::{self, Field, Fields, Place};
use super::super::values::{Found, Tools, unescape};
use super::{scalar, string_end};

/// Deepest nesting of a line that is read; one deeper is malformed. As serde_json has it.
const DEPTH_MAX: usize = 127;
/// A line with more scalars is read, but its layout is not learned.
const SCALARS_MAX: usize = 128;

#[derive(Debug, Clone, Copy)]
enum Inside {
    Array,
    Object(Place),
}

/// What was seen in the line read last; meaningful when it was valid.
#[derive(Debug)]
pub(super) struct Reading {
    /// Every scalar that is not a key, from .. to, in the line's order, up to [`SCALARS_MAX`].
    scalars: Vec<(usize, usize)>,
    more_scalars: bool,
    /// The fields whose last value is a scalar that counts, and where that stands.
    given: Fields,
    given_at: [usize; Fields::BITS as usize],
    nesting: [Inside; DEPTH_MAX],
    key: String,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            scalars: Vec::with_capacity(SCALARS_MAX),
            more_scalars: false,
            given: 0,
            given_at: [0; Fields::BITS as usize],
            nesting: [Inside::Array; DEPTH_MAX],
            key: String::new(),
        }
    }
}

/// What the key before a value says of it.
#[derive(Clone, Copy)]
struct Under {
    field: Option<Field>,
    place: Place,
}

impl Reading {
    /// Reads a whole line; `None`: it is malformed.
    pub(super) fn validate<const STRICT: bool>(&mut self, line: &[u8]) -> Option<()> {
        self.scalars.clear();
        self.more_scalars = false;
        self.given = 0;
        let (mut depth, mut at) = (0, 0);
        let mut under = Under { field: None, place: Place::Top };
        loop {
            // A value begins at `at`.
            match line.get(at)? {
                open @ (b'{' | b'[') => {
                    let inside = if *open == b'{' { Inside::Object(under.place) } else { Inside::Array };
                    *self.nesting.get_mut(depth)? = inside;
                    depth += 1;
                    at = skip_space(line, at + 1);
                    // The two closing brackets stand two after their opening ones.
                    if line.get(at) != Some(&(open + 2)) {
                        (at, under) = self.element::<STRICT>(line, at, inside)?;
                        continue;
                    }
                }
                _ => {
                    let (_, end) = scalar::<STRICT>(line, at)?;
                    self.note(at, end, under.field);
                    at = end;
                }
            }
            // A value ended, or an empty container's closing bracket is next.
            loop {
                at = skip_space(line, at);
                if depth == 0 {
                    return (at == line.len()).then_some(());
                }
                let inside = self.nesting[depth - 1];
                match (inside, line.get(at)?) {
                    (Inside::Array, b']') | (Inside::Object(_), b'}') => (depth, at) = (depth - 1, at + 1),
                    // After an opening bracket no comma may come: `element` was asked there.
                    (_, b',') => {
                        (at, under) = self.element::<STRICT>(line, skip_space(line, at + 1), inside)?;
                        break;
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Goes from the beginning of an element to the beginning of its value.
    fn element<const STRICT: bool>(&mut self, line: &[u8], at: usize, inside: Inside) -> Option<(usize, Under)> {
        let Inside::Object(place) = inside else {
            return Some((at, Under { field: None, place: Place::Elsewhere }));
        };
        if line.get(at) != Some(&b'"') {
            return None;
        }
        let (to, escaped) = string_end::<STRICT>(line, at + 1)?;
        let colon = skip_space(line, to + 1);
        if line.get(colon) != Some(&b':') {
            return None;
        }
        let under = self.key(place, &line[at + 1..to], escaped);
        Some((skip_space(line, colon + 1), under))
    }

    /// What a key says, and forgets what the same key said before.
    fn key(&mut self, place: Place, raw: &[u8], escaped: bool) -> Under {
        if place == Place::Elsewhere {
            return Under { field: None, place };
        }
        let key = match escaped {
            false => raw,
            true if unescape(raw, &mut self.key).is_some() => self.key.as_bytes(),
            true => b"",
        };
        let field = names::field(place, key);
        self.given &= !(names::under(place, key) | field.map_or(0, |field| 1 << field));
        Under { field, place: names::place(place, key) }
    }

    fn note(&mut self, from: usize, to: usize, field: Option<Field>) {
        if let Some(field) = field {
            self.given |= 1 << field;
            self.given_at[field as usize] = from;
        }
        if self.scalars.len() < SCALARS_MAX {
            self.scalars.push((from, to));
        } else {
            self.more_scalars = true;
        }
    }

    /// What the line says.
    pub(super) fn found(&self, line: &[u8], tools: &mut Tools) -> Found {
        let mut found = Found::new();
        for (field, at) in self.fields() {
            let (value, _) = scalar::<false>(line, at).expect("a scalar was read here");
            found.take(field, line, value, tools);
        }
        found
    }

    /// All scalars with the field that each is the value of; `None`: too many.
    pub(super) fn scalars(&self) -> Option<impl Iterator<Item = (usize, usize, Option<Field>)>> {
        let field_at = |from| self.fields().find(|(_, at)| *at == from).map(|(field, _)| field);
        (!self.more_scalars).then(|| self.scalars.iter().map(move |(from, to)| (*from, *to, field_at(*from))))
    }

    fn fields(&self) -> impl Iterator<Item = (Field, usize)> {
        let mut left = self.given;
        std::iter::from_fn(move || {
            let field = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            self.given_at.get(field).map(|at| (field as Field, *at))
        })
    }
}

#[inline(always)]
fn skip_space(line: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = line.get(at) {
        at += 1;
    }
    at
}
