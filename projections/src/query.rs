//! What readers ask of the rows: metrics over time, the balance, alarms, one digest of all windows. Pure over the Store port: it asks no clock
//! and writes nothing.
//!
//! Partials of a window (shards, pages) stand next to each other in key order, so that everything here is one pass over a range.
//!
//! Invariants:
//! - Items come in order of (service, window start, series), whatever wrote the rows, and each window is whole: it holds all rows of its period.
//! - Memory is bounded by the page that was asked for, never by the range: of one window only as many series are kept as the page still takes.

pub mod alarms;
mod cursor;
mod digest;
mod item;
mod json;
mod merged;
mod names;
mod services;
pub mod tally;

use std::{num::NonZeroUsize, sync::Arc};

use crate::{
    cell::visit::{self, Values},
    distribution::stored::{Part, Pool},
    generations::{Source, View},
    series::Series,
    store::{Generation, KeyRef, Kind, ReadError, Span, Store, Subject},
};

pub use self::{
    alarms::{alarms, in_force},
    cursor::{BadCursor, Cursor},
    digest::{Digest, digest},
    item::{BadStatistic, Dimensions, Item, Shown, Statistics},
    json::write_items,
    tally::{Tally, balance},
};
use self::{merged::Merged, names::Names, services::Services};

/// Lengths of a window that can be asked for, in seconds.
pub const PERIODS_SECS: [u32; 3] = [60, 300, 3600];
/// Rows of one page of a scan.
const SCAN_ROWS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
/// Fewer parts of a window than this are merged only when it is complete.
const PARTS_MIN: usize = 256;
/// A scan for few items reads at least so many rows.
const SCAN_ROWS_MIN: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// From the credential.
    pub tenant: String,
    /// Which generations' rows.
    pub view: View,
    /// One service; `None`: all, one after the other.
    pub service: Option<String>,
    /// One namespace.
    pub namespace: Option<String>,
    /// One metric name.
    pub metric: Option<String>,
    /// First window start, Unix seconds; rounded down to the period.
    pub from_secs: i64,
    /// First window start that is not wanted. The last window is whole even where it ends later.
    pub to_secs: i64,
    /// Seconds of a window: one of `PERIODS_SECS`.
    pub period_secs: u32,
}

/// A page of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// At most as many as asked for.
    pub items: Vec<Item>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// The items after `after`, at most `limit`. With a cursor the range is that of the first page, so that a range up to now stays where it was.
pub async fn metrics<S: Store>(
    store: &S,
    query: &Query,
    after: Option<&Cursor>,
    limit: NonZeroUsize,
) -> Result<Page, ReadError> {
    let mut gather = Gather::new(query, after, limit);
    let mut services = Services::new(query, after);
    while let Some(service) = services.next(store).await? {
        if gather.service(store, service).await? {
            break;
        }
    }
    Ok(gather.page())
}

fn subject(query: &Query, generation: Generation, kind: Kind, name: &str) -> Subject {
    Subject { tenant: query.tenant.clone(), generation, kind, name: name.to_owned() }
}

/// The page that is being made.
struct Gather<'a> {
    query: &'a Query,
    period: i64,
    from_secs: i64,
    /// First window start that is not wanted.
    to_secs: i64,
    after: Option<&'a Cursor>,
    names: Names,
    limit: usize,
    /// One more than the page holds tells that there is a next one.
    items: Vec<Item>,
    /// Of the open window.
    parts: Vec<(Arc<Series>, Part)>,
    pool: Pool,
}

impl<'a> Gather<'a> {
    fn new(query: &'a Query, after: Option<&'a Cursor>, limit: NonZeroUsize) -> Self {
        let period = i64::from(query.period_secs.max(1));
        let (from_secs, to_secs) =
            after.map_or((query.from_secs, query.to_secs), |cursor| (cursor.from_secs, cursor.to_secs));
        Self {
            query,
            period,
            from_secs: floor(from_secs, period),
            to_secs,
            after,
            names: Names::new(query.namespace.as_deref(), query.metric.as_deref()),
            limit: limit.get(),
            items: Vec::with_capacity(limit.get().min(SCAN_ROWS.get()) + 1),
            parts: Vec::new(),
            pool: Pool::default(),
        }
    }

    /// Adds the items of one service; true: the page is full.
    async fn service<S: Store>(&mut self, store: &S, service: Arc<str>) -> Result<bool, ReadError> {
        let resume = self.after.filter(|cursor| *cursor.service == *service);
        let from = resume.map_or(self.from_secs, |cursor| cursor.start_secs.max(self.from_secs));
        // The last window is whole: its rows may lie past the range.
        let to = ceil(self.to_secs, self.period);
        if from >= to {
            return Ok(false);
        }
        let mut start: Option<i64> = None;
        for (part, sources) in self.query.view.windows(from, to) {
            let spans = sources.into_iter().map(|source| {
                let subject = subject(self.query, source.generation, Kind::Window, &service);
                (Span::Of { subject, from: part.start, to: part.end }, source)
            });
            let mut spans: Vec<_> = spans.collect();
            let is_full = match (spans.pop(), spans.is_empty()) {
                (Some((span, source)), true) => self.walk(store, &service, &span, &source, resume, &mut start).await?,
                (last, _) => {
                    spans.extend(last);
                    self.merged(store, &service, spans, resume, &mut start).await?
                }
            };
            if is_full {
                return Ok(true);
            }
        }
        Ok(start.is_some_and(|start| self.close(&service, start)))
    }

    /// Adds the rows of a span where they lie; true: the page is full.
    async fn walk<S: Store>(
        &mut self,
        store: &S,
        service: &Arc<str>,
        span: &Span,
        source: &Source,
        resume: Option<&Cursor>,
        start: &mut Option<i64>,
    ) -> Result<bool, ReadError> {
        let mut after_key = None;
        loop {
            let mut is_full = false;
            let rows = self.scan_rows();
            let look = |key: KeyRef<'_>, body: &[u8]| {
                if source.takes(key.partial) {
                    is_full = self.look(service, key, body, resume, start)?;
                }
                Ok(!is_full)
            };
            let next_after = store.walk(span, after_key.as_ref(), rows, look).await?;
            match next_after {
                _ if is_full => return Ok(true),
                Some(key) => after_key = Some(key),
                None => return Ok(false),
            }
        }
    }

    /// The same for windows that several generations have a part of.
    async fn merged<S: Store>(
        &mut self,
        store: &S,
        service: &Arc<str>,
        spans: Vec<(Span, Source)>,
        resume: Option<&Cursor>,
        start: &mut Option<i64>,
    ) -> Result<bool, ReadError> {
        let mut rows = Merged::new(spans, self.scan_rows());
        while let Some(row) = rows.next(store).await? {
            if self.look(service, KeyRef::from(&row.key), &row.body, resume, start)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds a row to its window, and closes the one before; true: the page is full, and the row was not added.
    fn look(
        &mut self,
        service: &Arc<str>,
        key: KeyRef<'_>,
        body: &[u8],
        resume: Option<&Cursor>,
        start: &mut Option<i64>,
    ) -> Result<bool, ReadError> {
        let of = floor(key.at, self.period);
        if let Some(before) = start.filter(|start| *start != of)
            && self.close(service, before)
        {
            return Ok(true);
        }
        *start = Some(of);
        self.add(key, body, resume.filter(|cursor| cursor.start_secs == of))?;
        Ok(false)
    }

    /// Rows worth asking for at once: about those that the page still takes.
    fn scan_rows(&self) -> NonZeroUsize {
        let windows = self.missing().saturating_mul(self.period as usize / 60);
        NonZeroUsize::new(windows.max(SCAN_ROWS_MIN)).unwrap_or(SCAN_ROWS).min(SCAN_ROWS)
    }

    /// Items that the page still takes.
    fn missing(&self) -> usize {
        self.limit.saturating_add(1) - self.items.len()
    }

    /// Adds a partial to the open window. `resume`: the page before ended in this window.
    fn add(&mut self, key: KeyRef<'_>, body: &[u8], resume: Option<&Cursor>) -> Result<(), ReadError> {
        let Self { names, parts, pool, .. } = self;
        let is_new = |series: &Arc<Series>| resume.is_none_or(|cursor| cursor.series < **series);
        let wanted = names.wanted(key.page);
        let wants = |name| names.wants(name).filter(is_new);
        let found = |series, values: Values<'_, '_>| {
            let part = match values {
                Values::Ones(count) => Part::equal(1.0, count),
                Values::Stored(input) => pool.read(input)?,
            };
            parts.push((series, part));
            Ok(())
        };
        visit::visit(body, wanted, wants, found).map_err(|error| damaged(key, &error))?;
        // A page needs no more of a window than the first series that it still takes, however many the window has.
        if self.parts.len() >= self.missing().saturating_mul(2).max(PARTS_MIN) {
            self.merge();
            self.pool.keep(self.parts.iter_mut().map(|(_, part)| part));
        }
        Ok(())
    }

    /// Merges the parts of each series, and keeps the first series.
    fn merge(&mut self) {
        self.parts.sort_by(|a, b| a.0.cmp(&b.0));
        let mut rest = std::mem::take(&mut self.parts).into_iter().peekable();
        let mut same = vec![];
        while let Some((series, part)) = rest.next().filter(|_| self.parts.len() < self.missing()) {
            same.push(part);
            while let Some((_, more)) = rest.next_if(|(of, _)| *of == series) {
                same.push(more);
            }
            let part = if same.len() > 1 { self.pool.merge(&same) } else { same.swap_remove(0) };
            same.clear();
            self.parts.push((series, part));
        }
    }

    /// The window is complete: its series become items. True: the page is full.
    fn close(&mut self, service: &Arc<str>, start_secs: i64) -> bool {
        if self.parts.len() > 1 {
            self.merge();
        }
        let period = self.query.period_secs;
        let Self { items, parts, pool, .. } = self;
        for (series, part) in parts.drain(..) {
            if let Some(item) = Item::of(service.clone(), series, (start_secs, period), &part, pool) {
                items.push(item);
            }
        }
        pool.clear();
        self.missing() == 0
    }

    fn page(mut self) -> Page {
        let has_more = self.items.len() > self.limit;
        self.items.truncate(self.limit);
        let last = self.items.last().filter(|_| has_more);
        let next = last.map(|item| Cursor::behind(self.query, (self.from_secs, self.to_secs), item));
        Page { items: self.items, next }
    }
}

fn floor(secs: i64, period: i64) -> i64 {
    secs.saturating_sub(secs.rem_euclid(period))
}

fn ceil(secs: i64, period: i64) -> i64 {
    let past = secs.rem_euclid(period);
    if past == 0 { secs } else { secs.saturating_add(period - past) }
}

fn damaged<'a>(key: impl Into<KeyRef<'a>>, error: &dyn std::fmt::Display) -> ReadError {
    let key = key.into();
    ReadError::Damaged(format!("{key} cannot be read: {error}; have the rows made anew from the stream"))
}

#[cfg(test)]
mod tests;
