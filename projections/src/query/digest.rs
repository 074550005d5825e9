//! One digest of all windows: equal for equal metrics, whichever shards, pages, positions, generations and producers they came by.

use xxhash_rust::xxh3::Xxh3;

use super::{SCAN_ROWS, damaged};
use crate::{
    canonical,
    cell::Cell,
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store},
};

/// xxh3-128 as lower-case hex over all tenants' windows, in order of (tenant, service, start, series, length): of each the tenant, the service
/// and the series as texts, start and length as varints, and the merged distribution's canonical bytes.
///
/// It is given rows in key order. Memory is that of one merged window.
#[derive(Default)]
pub struct Digest {
    digest: Xxh3,
    window: Option<(RowKey, Cell)>,
}

impl Digest {
    /// Adds the next window's row.
    pub fn add(&mut self, row: &Row) -> Result<(), ReadError> {
        let cell = Cell::decode(&row.body).map_err(|error| damaged(&row.key, &error))?;
        match &mut self.window {
            Some((key, merged)) if key.subject == row.key.subject && key.at == row.key.at => merged.merge(&cell),
            _ => {
                if let Some((key, merged)) = self.window.replace((row.key.clone(), cell)) {
                    add(&mut self.digest, &key, &merged);
                }
            }
        }
        Ok(())
    }

    /// All rows were added.
    pub fn end(mut self) -> String {
        if let Some((key, merged)) = &self.window {
            add(&mut self.digest, key, merged);
        }
        format!("{:032x}", self.digest.digest128())
    }
}

/// The digest of what a store holds. Rows that change while it runs may be in it or not: it means something while nobody writes.
pub async fn digest<S: Store>(store: &S, generation: Generation) -> Result<String, ReadError> {
    let span = Span::All { tenant: None, generation, kind: Kind::Window };
    let mut digest = Digest::default();
    let mut after = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        for row in page.rows {
            digest.add(&row)?;
        }
        match page.next_after {
            Some(key) => after = Some(key),
            None => break,
        }
    }
    Ok(digest.end())
}

fn add(digest: &mut Xxh3, key: &RowKey, merged: &Cell) {
    let mut bytes = Vec::with_capacity(256);
    for (series, length, values) in merged.windows() {
        bytes.clear();
        canonical::put_text(&mut bytes, &key.subject.tenant);
        canonical::put_text(&mut bytes, &key.subject.name);
        let series = series.encode();
        canonical::put_varint(&mut bytes, series.len() as u64);
        bytes.extend_from_slice(&series);
        canonical::put_signed(&mut bytes, key.at);
        canonical::put_signed(&mut bytes, length);
        values.encode(&mut bytes);
        digest.update(&bytes);
    }
}
