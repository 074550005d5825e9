//! One digest of all windows: equal for equal metrics, whichever shards, pages, positions, generations and producers they came by.

use xxhash_rust::xxh3::Xxh3;

use super::{SCAN_ROWS, damaged};
use crate::{
    canonical,
    cell::Cell,
    store::{Generation, Kind, ReadError, RowKey, Span, Store},
};

/// xxh3-128 as lower-case hex over all tenants' windows, in order of (tenant, service, start, series, length): of each the tenant, the service
/// and the series as texts, start and length as varints, and the merged distribution's canonical bytes.
///
/// Rows that change while it runs may be in it or not: it means something once everything is folded. Memory is that of one merged window.
pub async fn digest<S: Store>(store: &S, generation: Generation) -> Result<String, ReadError> {
    let span = Span::All { tenant: None, generation, kind: Kind::Window };
    let mut digest = Xxh3::new();
    let mut window: Option<(RowKey, Cell)> = None;
    let mut after = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        for row in page.rows {
            let cell = Cell::decode(&row.body).map_err(|error| damaged(&row.key, &error))?;
            match &mut window {
                Some((key, merged)) if key.subject == row.key.subject && key.at == row.key.at => merged.merge(&cell),
                _ => {
                    if let Some((key, merged)) = window.replace((row.key, cell)) {
                        add(&mut digest, &key, &merged);
                    }
                }
            }
        }
        match page.next_after {
            Some(key) => after = Some(key),
            None => break,
        }
    }
    if let Some((key, merged)) = &window {
        add(&mut digest, key, merged);
    }
    Ok(format!("{:032x}", digest.digest128()))
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
