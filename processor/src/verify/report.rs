//! What a verify found, in words and numbers for people and programs. Decides what is named of a difference, and how much of what was not compared.

use std::collections::BTreeMap;

use events::position::ShardId;
use projections::{
    store::{Kind, RowKey},
    when::Second,
};
use serde::Serialize;

use super::same::What;

/// Most groups of rows that are named in `Report::older`; what lies in further groups is only counted.
pub const OLDER_MAX: usize = 500;
/// What a snapshot is called where rows have the name of their kind.
const SNAPSHOT: &str = "Snapshot";

/// A row, or the snapshot of a resume point, that is not what the stream says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Tenant of the row; empty: the snapshot of a shard, which is of all tenants.
    pub tenant: String,
    /// Its kind.
    pub kind: String,
    /// Its subject: of a window the service.
    pub subject: String,
    /// Its place in time, as its key has it.
    pub at: i64,
    /// The same as text, where its kind has a time.
    pub time: Option<Second>,
    /// The first metric that differs, of a window.
    pub metric: Option<String>,
    /// Its shard.
    pub shard: String,
    /// The row in words.
    pub row: String,
    /// What differs.
    pub what: String,
}

/// Rows of one kind, and of windows of one service, that hold records which the stream no longer has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Older {
    /// Their tenant; empty: snapshots, which are of all tenants.
    pub tenant: String,
    /// Their kind.
    pub kind: String,
    /// The service, of windows.
    pub service: Option<String>,
    /// How many.
    pub rows: u64,
    /// The time of the first, where the kind has one.
    pub first: Option<Second>,
    /// The time of the last.
    pub last: Option<Second>,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records folded again.
    pub records: u64,
    /// Rows compared; the snapshot of a shard's resume point counts as one.
    pub rows: u64,
    /// Rows that differ.
    pub differences: u64,
    /// The first of them in key order; snapshots come last.
    pub first_difference: Option<Difference>,
    /// Rows that hold records older than the stream's oldest, or differ and may depend on such: they cannot be recomputed, and were not compared.
    pub older_than_stream: u64,
    /// Which rows these are: at most `OLDER_MAX` groups.
    pub older: Vec<Older>,
    /// How many of them are in no group.
    pub older_unnamed: u64,
    /// Rows that are past their time, or were when they were last touched: the stream, or its archive, tells of more than is kept.
    pub expired: u64,
    /// Rows of those that differ because they are damaged; after a hundred no more are looked for.
    pub damaged: u64,
    /// The first record of each shard that the stream still has.
    pub from: BTreeMap<String, String>,
    /// The last record of each shard that the compared rows hold.
    pub through: BTreeMap<String, String>,
    /// Of all windows, as they were compared (see `projections::query::Digest`); `None`: one of them cannot be read.
    pub digest: Option<String>,
}

impl Report {
    /// One more was compared.
    pub(super) fn compared(&mut self, difference: Option<Difference>) {
        self.rows += 1;
        if let Some(difference) = difference {
            self.differences += 1;
            self.first_difference.get_or_insert(difference);
        }
    }

    /// One more could not be.
    pub(super) fn is_older(&mut self, key: &RowKey) {
        let subject = &key.subject;
        let service = (subject.kind == Kind::Window).then(|| subject.name.clone());
        self.add_older(subject.tenant.clone(), format!("{:?}", subject.kind), service, time(key));
    }

    pub(super) fn is_older_snapshot(&mut self) {
        self.add_older(String::new(), SNAPSHOT.to_owned(), None, None);
    }

    fn add_older(&mut self, tenant: String, kind: String, service: Option<String>, time: Option<Second>) {
        self.older_than_stream += 1;
        let is_same = |of: &Older| (&of.tenant, &of.kind, &of.service) == (&tenant, &kind, &service);
        // Nearly always the last one, as they come in key order.
        match self.older.iter().rposition(is_same) {
            Some(place) => {
                let of = &mut self.older[place];
                of.rows += 1;
                (of.first, of.last) = (of.first.min(time), of.last.max(time));
            }
            None if self.older.len() < OLDER_MAX => {
                self.older.push(Older { tenant, kind, service, rows: 1, first: time, last: time });
            }
            None => self.older_unnamed += 1,
        }
    }
}

impl Difference {
    pub(super) fn of(key: &RowKey, what: What) -> Self {
        Self {
            tenant: key.subject.tenant.clone(),
            kind: format!("{:?}", key.subject.kind),
            subject: key.subject.name.clone(),
            at: key.at,
            time: time(key),
            metric: what.metric,
            shard: key.shard.to_string(),
            row: key.to_string(),
            what: what.text,
        }
    }

    /// A damaged row behind all that the stream has: which one it is cannot be told.
    pub(super) fn unnamed(kind: Kind, why: String) -> Self {
        Self { kind: format!("{kind:?}"), row: "a row".into(), what: why, ..Self::default() }
    }

    pub(super) fn of_snapshot(shard: &ShardId, what: String) -> Self {
        Self {
            kind: SNAPSHOT.to_owned(),
            shard: shard.to_string(),
            row: format!("the state of {shard} at its resume point"),
            what,
            ..Self::default()
        }
    }
}

/// When it is about, where its kind says so in Unix seconds.
fn time(key: &RowKey) -> Option<Second> {
    matches!(key.subject.kind, Kind::Window | Kind::Balance | Kind::DeadLetter | Kind::Transition)
        .then_some(Second(key.at))
}
