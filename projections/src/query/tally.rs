//! The balance as readers see it: what became of every line, with its JSON. Adds counts; decides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{SCAN_ROWS, damaged};
use crate::{
    fold::{balance::Balance, rows::Body},
    store::{Generation, Kind, ReadError, Span, Store, Subject},
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
pub async fn balance<S: Store>(store: &S, tenant: &str, generation: Generation) -> Result<Balance, ReadError> {
    let subject = Subject { tenant: tenant.to_owned(), generation, kind: Kind::Balance, name: String::new() };
    let span = Span::Of { subject, from: i64::MIN, to: i64::MAX };
    let mut total = Balance::default();
    let mut after = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        for row in &page.rows {
            total.add(&Balance::decode(&row.body).map_err(|error| damaged(&row.key, &error))?);
        }
        match page.next_after {
            Some(key) => after = Some(key),
            None => return Ok(total),
        }
    }
}
