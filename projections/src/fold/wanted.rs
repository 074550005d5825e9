//! Which rows must be read before a record folds: those that decide what becomes of it. Decides nothing else of the record.
//!
//! They are the mark that says what of it is new, and the pages of API metrics that may have no room for another series. A page that is already
//! through the record answers as it did then: no page ever loses a series, so there was room for one if and only if the page holds it.

use std::collections::HashSet;

use events::{identity, position::SequenceNumber, wire::Header};
use rustc_hash::FxHashSet;

use super::{
    AHEAD_MAX_MS, Input, Shard, Stop,
    identified::Identified,
    input::{Body, Named},
    lines_in::UNNAMED_SERVICE,
    producers::Marks,
    rows::{self, Stored},
    sabotage::{self, Sabotage},
    services::WindowKey,
    taken::Taken,
};
use crate::{
    canonical::DecodeError,
    cell::WINDOW_SECS,
    store::{Kind, Row, RowKey, Subject},
};

/// What was asked for, until it is folded.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    of: SequenceNumber,
    keys: Vec<RowKey>,
}

/// Where a value belongs: service, start of its window, page.
pub(super) fn place<'a>(header: &'a Header, datum: &'a events::event::Datum, named: &Named) -> (&'a str, i64, u16) {
    let name = datum.service.as_deref().or(header.service.as_deref()).unwrap_or(UNNAMED_SERVICE);
    let time_ms = datum.time_ms.unwrap_or(header.read_at_ms);
    (name, time_ms.div_euclid(60_000) * WINDOW_SECS, named.page)
}

impl Shard {
    /// Rows that must be read before the record is folded, each once. Asked once, right before the record is folded.
    pub fn wants(&mut self, input: &Input) -> Vec<RowKey> {
        let mut keys: Vec<RowKey> = vec![];
        for body in &input.bodies {
            let marks = body.marks(&self.place).into_iter().filter(|(subject, at)| !self.is_open(subject, *at));
            for (subject, at) in marks {
                // The shard's own row, and those of its ancestors: once it has one of its own, that holds what theirs hold.
                let own = self.key(subject, at, 0);
                let theirs = self.lineage.iter().map(|ancestor| RowKey { shard: ancestor.clone(), ..own.clone() });
                let theirs: Vec<RowKey> = theirs.collect();
                keys.push(own);
                keys.extend(theirs);
            }
            if !sabotage::breaks(Sabotage::PageNotRead) {
                self.wanted_pages(input, body, &mut keys);
            }
        }
        let mut seen: FxHashSet<RowKey> = HashSet::default();
        if keys.len() > 1 {
            keys.retain(|key| seen.insert(key.clone()));
        }
        self.wanted = Wanted { of: input.sequence, keys: keys.clone() };
        keys
    }

    fn is_open(&self, mark: &Subject, at: i64) -> bool {
        match mark.kind {
            Kind::Taken => self.taken.find(mark).is_some(),
            Kind::Producer => self.producers.find(mark).is_some(),
            _ => self.identified.find(&(mark.clone(), at)).is_some(),
        }
    }

    /// Every page that `measure` may touch and that is not open; perhaps some that it will not touch.
    fn wanted_pages(&self, input: &Input, body: &Body, keys: &mut Vec<RowKey>) {
        let Some(header) = body.values_header() else { return };
        let latest_ms = self.time_ms.max(input.arrived_at_ms).saturating_add(AHEAD_MAX_MS);
        let mut seen: FxHashSet<(&str, i64, u16)> = HashSet::default();
        let partial = self.live.partial();
        for (datum, named) in body.values() {
            let Some(named) = named else { continue };
            let (name, start_secs, page) = place(header, datum, named);
            let is_late_or_known =
                start_secs.saturating_mul(1000) > latest_ms || !seen.insert((name, start_secs, page));
            if is_late_or_known || identity::check_service(name).is_err() {
                continue;
            }
            let open = self.services.known(&header.tenant, name);
            let open = open.and_then(|service| self.windows.find(&WindowKey { service, start_secs, partial, page }));
            if open.is_none() {
                keys.push(self.key_in(partial, self.subject(&header.tenant, Kind::Window, name), start_secs, page));
            }
        }
    }

    /// Takes in what was read for the record.
    pub(super) fn admit(&mut self, input: &Input, read: Vec<Option<Row>>) -> Result<(), Stop> {
        let wanted = std::mem::take(&mut self.wanted);
        debug_assert!(
            (wanted.of, wanted.keys.len()) == (input.sequence, read.len()),
            "a record was folded without the rows that it wants"
        );
        self.pages.clear();
        // Each mark, with those of its ancestors, which come right behind it.
        let mut marks: Vec<(RowKey, Option<Row>, Vec<Row>)> = vec![];
        for (key, row) in wanted.keys.into_iter().zip(read) {
            match key.subject.kind {
                Kind::Window => {
                    self.pages.insert(key, Stored::of(row.as_ref())?);
                }
                _ if key.shard == self.place.shard => marks.push((key, row, vec![])),
                _ if sabotage::breaks(Sabotage::ChildWithoutMarks) => {}
                _ => {
                    if let Some((_, _, ancestors)) = marks.last_mut() {
                        ancestors.extend(row);
                    }
                }
            }
        }
        for (key, row, ancestors) in marks {
            // What was stored was written before what it holds could be joined or forgotten.
            match key.subject.kind {
                Kind::Taken => {
                    let stored = of_lineage(row.as_ref(), &ancestors, Taken::inherit)?;
                    self.taken.admit(&key.subject, stored.tidied(|marks| marks.join(self.resume_point)));
                }
                Kind::Producer => {
                    let stored = of_lineage(row.as_ref(), &ancestors, Marks::inherit)?;
                    self.producers.admit(&key.subject, stored.tidied(|marks| marks.tidy(self.resume_point)));
                }
                _ => {
                    let stored = of_lineage(row.as_ref(), &ancestors, Identified::inherit)?;
                    self.identified.admit(&(key.subject, key.at), stored);
                }
            }
        }
        Ok(())
    }
}

/// The shard's own mark, or what it begins with: what its ancestors took.
fn of_lineage<B: rows::Body>(
    own: Option<&Row>,
    ancestors: &[Row],
    inherit: fn(&mut B, B),
) -> Result<Stored<B>, DecodeError> {
    if own.is_some() || ancestors.is_empty() {
        return Stored::of(own);
    }
    let mut mark = B::default();
    for row in ancestors {
        inherit(&mut mark, B::decode(&row.body)?);
    }
    Ok(Stored::begun(mark))
}
