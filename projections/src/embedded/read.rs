//! Reads from one snapshot of the database: they wait for no writer and change nothing.

use std::ops::Bound;

use bytes::Bytes;
use events::position::ShardId;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::{
    SCAN_BYTES_MAX,
    file::{CHECKPOINTS, PARTS, ROWS},
    format, transaction,
};
use crate::store::{Checkpoint, Day, Generation, KeyRef, Kind, ReadError, Row, RowKey, Rows, Span, Subject, key};

/// Why a read has no answer.
pub(super) enum Trouble {
    /// The database or the disk.
    Database(redb::Error),
    /// What stands there is not what was written.
    Damaged(String),
    /// Who was shown the rows says so.
    Reader(ReadError),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(super) fn rows(database: &Database, keys: &[RowKey]) -> Result<Vec<Option<Row>>, Trouble> {
    let table = database.begin_read()?.open_table(ROWS)?;
    keys.iter()
        .map(|key| {
            // Nothing was ever written under a name that no key can hold.
            let Ok(bytes) = key::encode(key) else { return Ok(None) };
            let value = table.get(bytes.as_slice())?;
            value.map(|value| row(key.clone(), &bytes, value.value())).transpose()
        })
        .collect()
}

fn row(key: RowKey, bytes: &[u8], value: &[u8]) -> Result<Row, Trouble> {
    let Some((header, body)) = format::read_row(bytes, value) else {
        return Err(bad_row(&key));
    };
    Ok(whole(key, header, body))
}

fn whole(key: RowKey, header: format::Header, body: &[u8]) -> Row {
    let format::Header { applied_through, applied_from, folded_on, fold_revision } = header;
    Row { key, applied_from, applied_through, folded_on, fold_revision, body: Bytes::copy_from_slice(body) }
}

pub(super) fn checkpoint(
    database: &Database,
    generation: Generation,
    shard: &ShardId,
) -> Result<Option<(Checkpoint, Vec<Bytes>)>, Trouble> {
    let snapshot = database.begin_read()?;
    let Some(point) = point(&snapshot, generation, shard)? else { return Ok(None) };
    let at = transaction::checkpoint_key(generation, shard);
    let table = snapshot.open_table(PARTS)?;
    let mut bodies = Vec::with_capacity(point.parts.len());
    for name in &point.parts {
        let key = transaction::part_key(&at, name);
        let value = table.get(key.as_slice())?;
        let body = value.and_then(|value| format::read_part(&key, value.value()));
        bodies.push(body.ok_or_else(|| damaged(&format!("part `{}` of the resume point", name.0), generation, shard))?);
    }
    Ok(Some((point, bodies)))
}

/// As `checkpoint`, and no part is read.
pub(super) fn resume_point(
    database: &Database,
    generation: Generation,
    shard: &ShardId,
) -> Result<Option<Checkpoint>, Trouble> {
    point(&database.begin_read()?, generation, shard)
}

fn point(snapshot: &ReadTransaction, generation: Generation, shard: &ShardId) -> Result<Option<Checkpoint>, Trouble> {
    let at = transaction::checkpoint_key(generation, shard);
    let Some(value) = snapshot.open_table(CHECKPOINTS)?.get(at.as_slice())? else { return Ok(None) };
    let point = format::read_checkpoint(&at, value.value());
    let point = point.ok_or_else(|| damaged("the resume point", generation, shard))?;
    let format::ResumePoint { position, fold_revision, ended, parts } = point;
    Ok(Some(Checkpoint { generation, shard: shard.clone(), position, fold_revision, ended, parts }))
}

fn damaged(what: &str, generation: Generation, shard: &ShardId) -> Trouble {
    Trouble::Damaged(format!("{what} of {shard} in generation {} is damaged", generation.0))
}

/// A page of a span: at most `limit` rows, and no more once their bodies have `SCAN_BYTES_MAX` bytes.
pub(super) fn scan(database: &Database, span: &Span, after: Option<&RowKey>, limit: usize) -> Result<Rows, Trouble> {
    let mut rows = Vec::new();
    let next_after = pages(database, span, after, limit, |key, header, body| {
        rows.push(whole(key.into(), header, body));
        Ok(true)
    })?;
    Ok(Rows { rows, next_after })
}

/// As `scan`, shown instead of given.
pub(super) fn walk(
    database: &Database,
    span: &Span,
    after: Option<&RowKey>,
    limit: usize,
    mut each: impl FnMut(KeyRef<'_>, &[u8]) -> Result<bool, ReadError>,
) -> Result<Option<RowKey>, Trouble> {
    pages(database, span, after, limit, |key, _, body| each(key, body).map_err(Trouble::Reader))
}

/// The keys of rows of a kind, of any tenant, that were last folded into before a day, among at most `limit` rows behind `after`; and where to
/// go on.
pub(super) fn past(
    database: &Database,
    (generation, kind, before): (Generation, Kind, Day),
    after: Option<&RowKey>,
    limit: usize,
) -> Result<(Vec<RowKey>, Option<RowKey>), Trouble> {
    let span = Span::All { tenant: None, generation, kind };
    let mut past = Vec::new();
    let next_after = pages(database, &span, after, limit, |key, header, _| {
        if header.folded_on < before {
            past.push(key.into());
        }
        Ok(true)
    })?;
    Ok((past, next_after))
}

/// Shows a page of a span; where the next one goes on.
fn pages(
    database: &Database,
    span: &Span,
    after: Option<&RowKey>,
    limit: usize,
    each: impl FnMut(KeyRef<'_>, format::Header, &[u8]) -> Result<bool, Trouble>,
) -> Result<Option<RowKey>, Trouble> {
    let table = database.begin_read()?.open_table(ROWS)?;
    let mut page = Page { each, rows: 0, limit, bytes: 0, last: Vec::new(), ended: false };
    let Ok(range) = key::range(span) else { return Ok(None) };
    let Ok(after) = after.map(key::encode).transpose() else { return Ok(None) };
    match (range, span) {
        (Some(range), Span::Of { subject, .. }) => {
            let prefix = range.from[..range.from.len() - key::AT_BYTES].to_vec();
            page.take(&table, range, after.as_deref(), Some((subject, &prefix)))?;
        }
        (Some(range), Span::All { .. }) => {
            page.take(&table, range, after.as_deref(), None)?;
        }
        (None, Span::All { generation, kind, .. }) => {
            let mut from = after.clone().unwrap_or_default();
            while let Some(found) = table.range(from.as_slice()..)?.next() {
                let (found, _) = found?;
                let Some(tenant) = key::tenant(found.value()) else { return Err(bad_key(found.value())) };
                let Ok(start) = key::kind(tenant, *generation, *kind) else { return Err(bad_key(found.value())) };
                let range = key::Range { to: key::after_all(&start), from: start };
                if page.take(&table, range, after.as_deref(), None)? {
                    break;
                }
                from = key::after_all(&[tenant.as_bytes(), &[0]].concat());
            }
        }
        (None, Span::Of { .. }) => {}
    }
    Ok(if page.is_full() { key::decode(&page.last) } else { None })
}

struct Page<F> {
    each: F,
    rows: usize,
    limit: usize,
    bytes: usize,
    /// The key of the row that filled the page.
    last: Vec<u8>,
    /// Who is shown the rows wants no more.
    ended: bool,
}

impl<F: FnMut(KeyRef<'_>, format::Header, &[u8]) -> Result<bool, Trouble>> Page<F> {
    fn is_full(&self) -> bool {
        self.ended || self.rows >= self.limit || self.bytes >= SCAN_BYTES_MAX
    }

    /// Shows rows of a range, behind `after`, until the page is full; true if it is. `of`: the subject of all of them, and how their keys begin.
    fn take(
        &mut self,
        table: &Table,
        range: key::Range,
        after: Option<&[u8]>,
        of: Option<(&Subject, &[u8])>,
    ) -> Result<bool, Trouble> {
        let from = match after {
            Some(after) if after >= range.from.as_slice() => Bound::Excluded(after),
            _ => Bound::Included(range.from.as_slice()),
        };
        if after.is_some_and(|after| after >= range.to.as_slice()) || range.from >= range.to {
            return Ok(self.is_full());
        }
        for entry in table.range::<&[u8]>((from, Bound::Excluded(range.to.as_slice())))? {
            if self.is_full() {
                break;
            }
            let (key, value) = entry?;
            let (bytes, value) = (key.value(), value.value());
            let key = match of {
                Some((subject, prefix)) => key::view_of(subject, prefix, bytes),
                None => key::view(bytes),
            };
            let key = key.ok_or_else(|| bad_key(bytes))?;
            let (header, body) = format::read_row(bytes, value).ok_or_else(|| bad_row(&key.into()))?;
            self.ended = !(self.each)(key, header, body)?;
            self.rows += 1;
            self.bytes += body.len();
            if self.is_full() {
                self.last = bytes.to_vec();
            }
        }
        Ok(self.is_full())
    }
}

fn bad_row(key: &RowKey) -> Trouble {
    Trouble::Damaged(format!("{key} is damaged"))
}

fn bad_key(bytes: &[u8]) -> Trouble {
    Trouble::Damaged(format!("a row's name is damaged (`{}`)", bytes.escape_ascii()))
}
