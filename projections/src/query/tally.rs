//! The balance as readers see it: what became of every line, with its JSON. Adds counts; decides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{SCAN_ROWS, damaged};
use crate::{
    fold::{balance::Balance, rows::Body},
    generations::View,
    store::{Kind, ReadError, Span, Store, Subject},
};

/// accepted = folded + skipped + duplicate + dead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Everything that came in.
    pub accepted: u64,
    /// Counted in a window.
    pub folded: u64,
    /// By reason.
    pub skipped: BTreeMap<String, u64>,
    /// The first line that was skipped for the reason, cut short; bytes that are no text are replaced.
    pub samples: BTreeMap<String, String>,
    /// Brought before.
    pub duplicate: u64,
    /// In records that could not be decoded.
    pub dead: u64,
}

impl From<&Balance> for Tally {
    fn from(balance: &Balance) -> Self {
        let samples = balance
            .skipped
            .iter()
            .map(|(reason, skipped)| (reason.clone(), String::from_utf8_lossy(&skipped.sample).into_owned()));
        Self {
            accepted: balance.accepted(),
            folded: balance.folded,
            skipped: balance.skipped.iter().map(|(reason, skipped)| (reason.clone(), skipped.count)).collect(),
            samples: samples.collect(),
            duplicate: balance.duplicate,
            dead: balance.dead,
        }
    }
}

/// What became of every line that a tenant ever sent, over all shards.
pub async fn balance<S: Store>(store: &S, tenant: &str, view: &View) -> Result<Balance, ReadError> {
    let mut total = Balance::default();
    for (part, sources) in view.minutes(i64::MIN, i64::MAX) {
        for source in sources {
            let (tenant, generation) = (tenant.to_owned(), source.generation);
            let subject = Subject { tenant, generation, kind: Kind::Balance, name: String::new() };
            let span = Span::Of { subject, from: part.start, to: part.end };
            let mut after = None;
            loop {
                let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
                for row in page.rows.iter().filter(|row| source.takes(row.key.partial)) {
                    total.add(&Balance::decode(&row.body).map_err(|error| damaged(&row.key, &error))?);
                }
                match page.next_after {
                    Some(key) => after = Some(key),
                    None => break,
                }
            }
        }
    }
    Ok(total)
}
