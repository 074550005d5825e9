//! Text that some producer put on the stream: lines, and documents of JSON among them. Decides which of them are more than a line; what a line says
//! is the fold's business.
//!
//! | document | what becomes of it |
//! | --- | --- |
//! | `{"id", "detail-type", "source", "time", "detail", …}` | an event of EventBridge: its `detail` at its `time`, of the service `source/detail-type`, known by its `id` |
//! | `{"_aws": …}` | values of metrics (`emf`) |
//! | `{"Measured": {"data": [datum, …]}}` | the same in our own words |
//! | any other | a line |
//!
//! A document that is not wholly one of the first three is the last. Lines that are no such documents stay together as they were written.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::{memchr, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    DecodeError, emf,
    part::{Budget, Entries, Entry, Part, Said},
};
use crate::{
    calendar,
    event::{BATCH_EVENTS_MAX, Datum, Measured},
    identity::check_service,
};

/// An event as EventBridge puts it on a stream (the page "AWS service event metadata" of its user guide).
#[derive(Deserialize)]
struct Bridged<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "detail-type", borrow)]
    detail_type: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    detail: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    #[serde(rename = "Measured")]
    measured: Measured,
}

enum Special {
    Bridged(Entries),
    Values(Vec<Datum>),
}

/// A text that is being taken apart.
pub(super) struct Text<'a> {
    budget: &'a mut Budget,
    parts: Vec<Part>,
    /// Lines that wait for those that follow.
    lines: Vec<u8>,
    entries: Vec<Entry>,
}

impl<'a> Text<'a> {
    pub(super) fn read(text: &Bytes, budget: &'a mut Budget) -> Result<Vec<Part>, DecodeError> {
        if let Err(error) = str::from_utf8(text) {
            let first = text.iter().take(4).copied().collect();
            return Err(DecodeError::NotText { first, at: error.valid_up_to() });
        }
        let mut taken = Self { budget, parts: vec![], lines: vec![], entries: vec![] };
        if let Some(documents) = array(text) {
            for document in documents {
                taken.document(document.get().as_bytes())?;
            }
        } else if let Some(documents) = documents(text) {
            for document in documents {
                taken.document(document.get().as_bytes())?;
            }
        } else if is_plain(text) {
            return Ok(vec![Part::Lines(text.clone())]);
        } else {
            taken.each_line(text)?;
        }
        taken.flush_entries();
        taken.flush_lines();
        Ok(taken.parts)
    }

    fn each_line(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let document = line.trim_ascii();
            if !document.starts_with(b"{") || !self.take_special(document)? {
                self.flush_entries();
                self.lines.extend_from_slice(line);
            }
        }
        Ok(())
    }

    fn document(&mut self, document: &[u8]) -> Result<(), DecodeError> {
        if self.take_special(document)? {
            return Ok(());
        }
        if memchr(b'\n', document).is_none() {
            self.flush_entries();
            self.lines.extend_from_slice(document);
            self.lines.push(b'\n');
        } else {
            self.flush_lines();
            self.entries.push(entry(Said::Document(Bytes::copy_from_slice(document))));
        }
        Ok(())
    }

    /// False: it is a line.
    fn take_special(&mut self, document: &[u8]) -> Result<bool, DecodeError> {
        match special(document, self.budget)? {
            None => return Ok(false),
            Some(Special::Values(values)) => {
                self.flush_lines();
                self.entries.push(entry(Said::Values(values)));
            }
            Some(Special::Bridged(entries)) => {
                self.flush_lines();
                self.flush_entries();
                self.parts.push(Part::Entries(entries));
            }
        }
        Ok(true)
    }

    fn flush_lines(&mut self) {
        if !self.lines.is_empty() {
            self.parts.push(Part::Lines(std::mem::take(&mut self.lines).into()));
        }
    }

    fn flush_entries(&mut self) {
        if !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            self.parts.push(Part::Entries(Entries { service: None, source: None, entries }));
        }
    }
}

fn entry(said: Said) -> Entry {
    Entry { id: None, repeated: false, time_ms: None, dated: false, said }
}

/// The elements of an array that holds objects and nothing else.
fn array(text: &[u8]) -> Option<Vec<&RawValue>> {
    if !text.trim_ascii_start().starts_with(b"[") {
        return None;
    }
    let elements: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
    let are_objects = !elements.is_empty() && elements.iter().all(|element| element.get().starts_with('{'));
    are_objects.then_some(elements)
}

/// One object on several lines, or several on one. `None`: these are lines.
fn documents(text: &[u8]) -> Option<Vec<&RawValue>> {
    let text = text.trim_ascii();
    if !text.starts_with(b"{") {
        return None;
    }
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let first = documents.next()?.ok()?;
    let is_one = documents.byte_offset() == text.len();
    if is_one || memchr(b'\n', text).is_some() {
        return is_one.then(|| vec![first]);
    }
    let mut all = vec![first];
    for document in documents {
        all.push(document.ok().filter(|document| document.get().starts_with('{'))?);
    }
    Some(all)
}

/// No line of it can be a document that is more than a line.
fn is_plain(text: &[u8]) -> bool {
    !emf::may_be(text) && MARKS.iter().all(|mark| memmem::find(text, mark).is_none())
}

const BRIDGED: &[u8] = b"\"detail-type\"";
const MEASURED: &[u8] = b"\"Measured\"";
const MARKS: [&[u8]; 2] = [BRIDGED, MEASURED];

fn special(document: &[u8], budget: &mut Budget) -> Result<Option<Special>, DecodeError> {
    if let Some(values) = emf::values(document, None, budget)? {
        return Ok(Some(Special::Values(values)));
    }
    let has = |mark: &[u8]| memmem::find(document, mark).is_some();
    if has(BRIDGED)
        && let Ok(event) = serde_json::from_slice::<Bridged<'_>>(document)
        && let Some(entries) = bridged(&event)
    {
        return Ok(Some(Special::Bridged(entries)));
    }
    if has(MEASURED)
        && let Ok(Ours { measured: Measured { data } }) = serde_json::from_slice(document)
        && (1..=BATCH_EVENTS_MAX).contains(&data.len())
    {
        budget.take_values(data.len() * size_of::<Datum>() + document.len())?;
        return Ok(Some(Special::Values(data)));
    }
    Ok(None)
}

fn bridged(event: &Bridged<'_>) -> Option<Entries> {
    let name = format!("{}/{}", event.source, event.detail_type);
    let name = if check_service(&name).is_ok() { name } else { event.source.clone().into_owned() };
    let entry = Entry {
        id: (!event.id.is_empty()).then(|| xxhash_rust::xxh3::xxh3_64(event.id.as_bytes())),
        repeated: false,
        time_ms: Some(instant(&event.time)?),
        dated: true,
        said: Said::Document(Bytes::copy_from_slice(event.detail.get().as_bytes())),
    };
    let service = check_service(&name).is_ok().then_some(name);
    let source = super::hashed(&["bridge", &event.source, &event.detail_type]);
    Some(Entries { service, source: Some(source), entries: vec![entry] })
}

/// Unix milliseconds of `2026-11-21T00:39:38Z`, with or without a fraction: EventBridge writes no other zone.
fn instant(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_at_checked(19)?;
    let bytes = seconds.as_bytes();
    let shape = b"0000-00-00T00:00:00";
    let fits =
        bytes.iter().zip(shape).all(|(byte, like)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like });
    let number = |from: usize, to: usize| seconds.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let millis = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(digits) if (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<3}")[..3].parse::<i64>().ok()?
        }
        _ => return None,
    };
    let days = calendar::days(year, month, day);
    let exists = calendar::date(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    (fits && exists).then(|| (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

#[cfg(test)]
mod tests;
