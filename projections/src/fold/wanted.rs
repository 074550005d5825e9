//! Which rows must be read before a record folds: those that decide what becomes of it. Decides nothing else of the record.
//!
//! They are the mark that says what of it is new, and the pages of API metrics that may have no room for another series. A page that is already
//! through the record answers as it did then: no page ever loses a series, so there was room for one if and only if the page holds it.

use std::collections::HashSet;

use events::{identity, position::SequenceNumber, wire::Header};
use rustc_hash::FxHashSet;

use super::{
    AHEAD_MAX_MS, Input, Shard, Stop,
    input::{self, Body, Named},
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
    store::{Kind, Row, RowKey},
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
        let mut keys: Vec<RowKey> = self.wanted_marks(input);
        if let Body::Events(batch, events, named) = &input.body
            && !sabotage::breaks(Sabotage::PageNotRead)
        {
            self.wanted_pages(input, &batch.header, events, named, &mut keys);
        }
        self.wanted = Wanted { of: input.sequence, keys: keys.clone() };
        keys
    }

    /// The shard's own row, and those of its ancestors: once it has one of its own, that holds what theirs hold.
    fn wanted_marks(&self, input: &Input) -> Vec<RowKey> {
        let Some((kind, subject)) = input.mark(&self.place) else { return vec![] };
        let open = if kind == Kind::Taken { self.taken.find(&subject) } else { self.producers.find(&subject) };
        if open.is_some() {
            return vec![];
        }
        let own = self.key(subject, 0, 0);
        let theirs = self.lineage.iter().map(|ancestor| RowKey { shard: ancestor.clone(), ..own.clone() });
        let theirs: Vec<RowKey> = theirs.collect();
        std::iter::once(own).chain(theirs).collect()
    }

    /// Every page that `measure` may touch and that is not open; perhaps some that it will not touch.
    fn wanted_pages(
        &self,
        input: &Input,
        header: &Header,
        events: &[events::event::Event],
        named: &[Option<Named>],
        keys: &mut Vec<RowKey>,
    ) {
        let latest_ms = self.time_ms.max(input.arrived_at_ms).saturating_add(AHEAD_MAX_MS);
        let mut seen: FxHashSet<(&str, i64, u16)> = HashSet::default();
        for (datum, named) in input::data(events).zip(named) {
            let Some(named) = named else { continue };
            let (name, start_secs, page) = place(header, datum, named);
            let is_late_or_known =
                start_secs.saturating_mul(1000) > latest_ms || !seen.insert((name, start_secs, page));
            if is_late_or_known || identity::check_service(name).is_err() {
                continue;
            }
            let open = self.services.known(&header.tenant, name);
            let open = open.and_then(|service| self.windows.find(&WindowKey { service, start_secs, page }));
            if open.is_none() {
                keys.push(self.key(self.subject(&header.tenant, Kind::Window, name), start_secs, page));
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
        let mut ancestors = vec![];
        let mut mark = None;
        for (key, row) in wanted.keys.into_iter().zip(read) {
            match key.subject.kind {
                Kind::Taken | Kind::Producer if key.shard == self.place.shard => mark = Some((key, row)),
                Kind::Taken | Kind::Producer => ancestors.extend(row),
                _ => {
                    self.pages.insert(key, Stored::of(row.as_ref())?);
                }
            }
        }
        let Some((key, row)) = mark else { return Ok(()) };
        if sabotage::breaks(Sabotage::ChildWithoutMarks) {
            ancestors.clear();
        }
        // What was stored was written before what it holds could be joined or forgotten.
        if key.subject.kind == Kind::Taken {
            let stored = of_lineage(row.as_ref(), &ancestors, Taken::inherit)?;
            self.taken.admit(&key.subject, stored.tidied(|marks| marks.join(self.resume_point)));
        } else {
            let stored = of_lineage(row.as_ref(), &ancestors, Marks::inherit)?;
            self.producers.admit(&key.subject, stored.tidied(|marks| marks.tidy(self.resume_point)));
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
