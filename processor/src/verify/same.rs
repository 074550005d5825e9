//! When two rows say the same, and in words what differs. Decides nothing of what may be lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use events::position::SequenceNumber;
use projections::{
    cell::Cell,
    distribution::Distribution,
    fold::{producers::Marks, rows::Body, taken::Taken},
    store::{Kind, Row, RowKey},
};

/// What differs.
#[derive(Debug, Clone)]
pub(super) struct What {
    /// The first metric of a window that differs.
    pub metric: Option<String>,
    /// In words.
    pub text: String,
}

impl From<&str> for What {
    fn from(text: &str) -> Self {
        Self { metric: None, text: text.to_owned() }
    }
}

impl What {
    /// Why a row cannot be read; it names the row, which stands there already.
    pub fn damage(key: &RowKey, why: &str) -> Self {
        let text = why.strip_prefix(&key.to_string()).map_or_else(|| why.to_owned(), |rest| format!("it{rest}"));
        Self { metric: None, text }
    }
}

/// `None`: they are the same.
pub(super) fn difference(stored: Option<&Row>, replayed: Option<&Row>) -> Option<What> {
    let (stored, replayed) = match (stored, replayed) {
        (Some(stored), Some(replayed)) => (stored, replayed),
        (Some(_), None) => return Some("the stream says nothing of this row".into()),
        (None, _) => return Some("the stream says that there is such a row, and there is none".into()),
    };
    if canonical(stored) != canonical(replayed) {
        return Some(metric(stored, replayed).unwrap_or_else(|| "it holds something else than the stream says".into()));
    }
    if places(stored) == places(replayed) {
        return None;
    }
    let text = format!("it is {} where the stream says {}", said(stored), said(replayed));
    Some(What { metric: None, text })
}

/// All but key and body.
fn places(row: &Row) -> impl PartialEq + use<> {
    let Row { key: _, applied_from, applied_through, folded_on, fold_revision, body: _ } = row;
    (*applied_from, *applied_through, *folded_on, *fold_revision)
}

fn said(row: &Row) -> String {
    let Row { applied_from, applied_through, folded_on, fold_revision, .. } = row;
    format!("from {applied_from} through {applied_through}, on day {}, by revision {fold_revision}", folded_on.0)
}

/// The body without what depends on when rows were written: which marks were joined, and which old counters were forgotten.
fn canonical(row: &Row) -> Bytes {
    let canonical = match row.key.subject.kind {
        Kind::Taken => Taken::decode(&row.body).ok().map(|mut taken| {
            taken.join(SequenceNumber::MAX);
            taken.ranges.iter_mut().for_each(|range| range.joined = true);
            taken.encode()
        }),
        Kind::Producer => Marks::decode(&row.body).ok().map(|mut marks| {
            marks.tidy(SequenceNumber::MAX);
            marks.encode()
        }),
        _ => None,
    };
    canonical.map_or_else(|| row.body.clone(), Bytes::from)
}

/// The first metric of a window in which two rows differ, and how; `None`: it is no window, or cannot be read.
fn metric(stored: &Row, replayed: &Row) -> Option<What> {
    if stored.key.subject.kind != Kind::Window {
        return None;
    }
    let windows = |row: &Row| {
        let windows = Cell::decode(&row.body).ok()?.windows();
        Some(windows.into_iter().map(|(series, length, values)| ((series, length), values)).collect::<BTreeMap<_, _>>())
    };
    let (stored, replayed) = (windows(stored)?, windows(replayed)?);
    let mut keys: Vec<_> = stored.keys().chain(replayed.keys()).collect();
    keys.sort();
    let key = keys.into_iter().find(|key| stored.get(*key) != replayed.get(*key))?;
    let said = |values: Option<&Distribution>| {
        values.map_or("none".to_owned(), |values| format!("{} values with the sum {}", values.count(), values.sum()))
    };
    let (ours, theirs, metric) = (said(stored.get(key)), said(replayed.get(key)), key.0.metric.clone());
    let how = if ours == theirs { "others than the stream says".into() } else { format!("the stream says {theirs}") };
    let text = format!("of `{metric}` it has {ours}, {how}");
    Some(What { metric: Some(metric), text })
}
