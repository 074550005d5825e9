//! What is to be stored, and what may be forgotten once it is.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    FOLD_REVISION, IDLE_RECORDS, IDLE_ROWS_MAX, Shard,
    rows::Open,
    sabotage::{self, Sabotage},
};
use crate::store::{Checkpoint, Commit, PartName, Row, RowKey};

impl Shard {
    /// The rows that changed, the snapshot, and the resume point that they allow.
    pub fn commit(&self) -> Commit {
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows_to_write());
        rows.extend(self.windows.to_write().map(|(key, open, body)| row(self.window_key(key), open, body)));
        rows.extend(self.taken.to_write().map(|(key, open, body)| row(self.key(key.clone(), 0, 0), open, body)));
        rows.extend(self.producers.to_write().map(|(key, open, body)| row(self.key(key.clone(), 0, 0), open, body)));
        rows.extend(
            self.identified.to_write().map(|((of, at), open, body)| row(self.key(of.clone(), *at, 0), open, body)),
        );
        rows.extend(self.seen.to_write().map(|(key, open, body)| row(self.key(key.clone(), 0, 0), open, body)));
        let balances = self.balances.to_write();
        rows.extend(balances.map(|((tenant, minute, partial), open, body)| {
            row(self.balance_key(tenant, *minute, *partial), open, body)
        }));
        rows.extend(self.facts.values().cloned());
        if sabotage::breaks(Sabotage::ResumePointBeforeRows) {
            rows.truncate(rows.len() / 2);
        }
        let place = &self.place;
        // The content makes the name: a part that did not change is the one that stands, and need not be written again.
        let parts: Vec<(PartName, Bytes)> = self
            .snapshot()
            .into_iter()
            .enumerate()
            .map(|(i, body)| (PartName(format!("{i}-{:032x}", xxh3_128(&body))), body))
            .collect();
        let checkpoint = Checkpoint {
            generation: place.generation,
            shard: place.shard.clone(),
            position: self.position,
            fold_revision: FOLD_REVISION,
            ended: self.ended,
            parts: parts.iter().map(|(name, _)| name.clone()).collect(),
        };
        Commit { rows, parts, checkpoint }
    }

    /// The commit that `commit` gave is stored: rows that are idle leave memory, marks behind the resume point are joined.
    pub fn committed(&mut self) {
        let position = self.position;
        let since = self.record.saturating_sub(IDLE_RECORDS);
        let many = self.windows.count() > IDLE_ROWS_MAX;
        self.windows.let_go(if many { self.record } else { since }, |_| {});
        self.balances.let_go(since, |_| {});
        self.seen.let_go(since, |_| {});
        self.resume_point = position;
        self.crowded = false;
        self.taken.let_go(since, |marks| marks.join(position));
        self.producers.let_go(since, |marks| marks.tidy(position));
        self.identified.let_go(since, |_| {});
        self.facts.clear();
        self.services.forget_windows();
        if self.services.forget_earlier(self.windows.keys()) {
            self.alarms.forget_numbers();
        }
    }
}

fn row<B>(key: RowKey, open: &Open<B>, body: Bytes) -> Row {
    let Open { applied_from, applied_through, folded_on, .. } = *open;
    Row { key, applied_from, applied_through, folded_on, fold_revision: FOLD_REVISION, body }
}
