//! Two generations side by side, before one of them is promoted: windows that differ and by how much, decisions of alarms that one of them made and the
//! other did not. Decides what is compared: what both can have; it writes nothing.
//!
//! Rows may move meanwhile. A row is what its shard says up to its last record, and both generations have folded each shard up to a position (`Common`)
//! before the first row is read. So
//!
//! | of one row in both | |
//! | --- | --- |
//! | neither goes further than that position, or both end with the same record | they can be compared |
//! | one is missing, and the other begins with a record up to there | the same: it ought to be there |
//! | one goes further | the other may only not have come so far: it is left out, and counted as such |
//!
//! Where rows are kept by time, one generation may lack what the other has, or hold only what came of it later: that is left out, too. A window is compared
//! as readers see it, all shards, partials and pages merged: how rows are cut is no difference. So it is left out if one row of it is.

use std::collections::BTreeMap;

use events::position::{SequenceNumber, ShardId};
use projections::{
    alarm::Alarm,
    cell::Cell,
    definitions,
    distribution::Distribution,
    fold::{
        alarms::Decision,
        sabotage::{self, Sabotage},
    },
    generations::compared::{Compared, DecisionDiffers, LeftOut, SHOWN_MAX, WindowDiffers},
    store::{Day, Generation, Kind, ReadError, Row, RowKey, Span, Store},
};

use crate::drive::{self, DriveError, SCAN_ROWS};

/// What both generations have.
#[derive(Debug, Clone)]
pub struct Common {
    /// Windows that begin from here on are all their own, Unix seconds.
    pub from_secs: i64,
    /// Of each shard that the stream lists: up to here both have committed it. Rows of others do not move: nothing comes to them any more.
    pub through: BTreeMap<ShardId, SequenceNumber>,
}

/// Whether the rows of one place can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Settled,
    /// One of them holds records that the other may only not have folded yet.
    Moving,
    /// One of them was past its time, in part at least.
    Past,
}

/// Rows of one kind and generation, those of one subject and place in time together.
struct Groups<'a, T> {
    store: &'a T,
    span: Span,
    page: std::vec::IntoIter<Row>,
    after: Option<RowKey>,
    at_end: bool,
    next: Option<Row>,
}

/// Tenant, name and place in time.
type Place = (String, String, i64);

fn place(row: &Row) -> Place {
    (row.key.subject.tenant.clone(), row.key.subject.name.clone(), row.key.at)
}

impl<'a, T: Store> Groups<'a, T> {
    fn new(store: &'a T, generation: Generation, kind: Kind) -> Self {
        let span = Span::All { tenant: None, generation, kind };
        Self { store, span, page: vec![].into_iter(), after: None, at_end: false, next: None }
    }

    async fn row(&mut self) -> Result<Option<Row>, ReadError> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.at_end {
                return Ok(None);
            }
            let page = self.store.scan(&self.span, self.after.as_ref(), SCAN_ROWS).await?;
            self.at_end = page.next_after.is_none();
            self.after = page.next_after;
            self.page = page.rows.into_iter();
        }
    }

    async fn next(&mut self) -> Result<Option<(Place, Vec<Row>)>, ReadError> {
        let first = match self.next.take() {
            Some(row) => row,
            None => match self.row().await? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let (of, mut rows) = (place(&first), vec![first]);
        while let Some(row) = self.row().await? {
            if place(&row) != of {
                self.next = Some(row);
                break;
            }
            rows.push(row);
        }
        Ok(Some((of, rows)))
    }
}

/// Both generations' rows of a kind, place by place.
async fn side_by_side<T: Store>(
    store: &T,
    (old, new): (Generation, Generation),
    kind: Kind,
    mut each: impl FnMut(&Place, &[Row], &[Row]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let (mut ours, mut theirs) = (Groups::new(store, old, kind), Groups::new(store, new, kind));
    let (mut left, mut right) = (ours.next().await?, theirs.next().await?);
    loop {
        let at = left.iter().chain(&right).map(|(place, _)| place).min().cloned();
        let Some(at) = at else { return Ok(()) };
        let (mut before, mut after) = (vec![], vec![]);
        if let Some((_, rows)) = left.take_if(|(place, _)| *place == at) {
            before = rows;
            left = ours.next().await?;
        }
        if let Some((_, rows)) = right.take_if(|(place, _)| *place == at) {
            after = rows;
            right = theirs.next().await?;
        }
        each(&at, &before, &after)?;
    }
}

impl Common {
    /// Of each row of a place that one of both has, or both.
    fn judge<T: Store>(&self, store: &T, kind: Kind, before: &[Row], after: &[Row]) -> Judged {
        let find = |rows: &[Row], of: &Row| -> Option<usize> {
            let is_same = |row: &Row| {
                (&row.key.shard, row.key.partial, row.key.page) == (&of.key.shard, of.key.partial, of.key.page)
            };
            rows.iter().position(is_same)
        };
        let both = before.iter().map(|row| (row, find(after, row).map(|at| &after[at])));
        let alone = after.iter().filter(|row| find(before, row).is_none()).map(|row| (row, None));
        let mut judged = Judged::Settled;
        for (row, other) in both.chain(alone) {
            let (is_past, is_beyond) = match other {
                // What began anew begins with a later record; where rows stay for ever that cannot be why.
                Some(other) => {
                    let ends = (row.applied_through, other.applied_through);
                    let is_anew = row.applied_from != other.applied_from && store.is_past(kind, Day::default());
                    (is_anew, ends.0 != ends.1 && self.is_beyond(row, ends.0.max(ends.1)))
                }
                None => (store.is_past(kind, row.folded_on), self.is_beyond(row, row.applied_from)),
            };
            match judged {
                _ if is_past => return Judged::Past,
                _ if is_beyond => judged = Judged::Moving,
                _ => {}
            }
        }
        judged
    }

    fn is_beyond(&self, row: &Row, position: SequenceNumber) -> bool {
        self.through.get(&row.key.shard).is_some_and(|through| position > *through)
            && !sabotage::breaks(Sabotage::MovingCompared)
    }
}

/// Compares what both can have: windows from a time on, decisions once alarms that began anew stand as they would have stood.
pub async fn compare<T: Store>(
    store: &T,
    (old, with): (Generation, &str),
    new: Generation,
    common: &Common,
    now_ms: i64,
) -> Result<Compared, DriveError> {
    let from_secs = common.from_secs;
    let mut compared = Compared {
        at_ms: now_ms,
        with: with.to_owned(),
        windows: 0,
        windows_differ: 0,
        first: vec![],
        decisions: 0,
        decisions_differ: 0,
        first_decisions: vec![],
        from_secs: (from_secs > i64::MIN).then_some(from_secs),
        moving: LeftOut::default(),
        past: LeftOut::default(),
    };
    side_by_side(store, (old, new), Kind::Window, |place, before, after| {
        if place.2 < from_secs {
            return Ok(());
        }
        let (judged, differs) = (common.judge(store, Kind::Window, before, after), window(place, before, after)?);
        count_window(&mut compared, judged, place.2, differs);
        Ok(())
    })
    .await?;
    // One of them may know definitions that the other has lost.
    let mut ranges = ranges(store, old).await?;
    for (alarm, range) in self::ranges(store, new).await? {
        let of: &mut i64 = ranges.entry(alarm).or_default();
        *of = range.max(*of);
    }
    side_by_side(store, (old, new), Kind::Transition, |place, before, after| {
        let range = ranges.get(&(place.0.clone(), place.1.clone())).copied().unwrap_or_default();
        if place.2 < from_secs.saturating_add(2 * range) {
            return Ok(());
        }
        let judged = common.judge(store, Kind::Transition, before, after);
        count_decision(&mut compared, judged, place, (became(before)?, became(after)?));
        Ok(())
    })
    .await?;
    Ok(compared)
}

fn count_window(compared: &mut Compared, judged: Judged, start_secs: i64, differs: Option<WindowDiffers>) {
    match (judged, differs) {
        (Judged::Moving, _) => compared.moving.window(start_secs),
        (Judged::Past, Some(_)) => compared.past.window(start_secs),
        (Judged::Past | Judged::Settled, None) => compared.windows += 1,
        (Judged::Settled, Some(differs)) => {
            compared.windows += 1;
            compared.windows_differ += 1;
            if compared.first.len() < SHOWN_MAX {
                compared.first.push(differs);
            }
        }
    }
}

/// `old` and `new`: what the alarm became.
fn count_decision(
    compared: &mut Compared,
    judged: Judged,
    (tenant, alarm, time_secs): &Place,
    (old, new): (Option<String>, Option<String>),
) {
    let is_none = old.is_none() && new.is_none();
    match judged {
        _ if is_none => {}
        Judged::Moving => compared.moving.decision(*time_secs),
        Judged::Past if old != new => compared.past.decision(*time_secs),
        Judged::Past | Judged::Settled => {
            compared.decisions += 1;
            if old != new {
                compared.decisions_differ += 1;
                if compared.first_decisions.len() < SHOWN_MAX {
                    let (tenant, alarm, time_secs) = (tenant.clone(), alarm.clone(), *time_secs);
                    compared.first_decisions.push(DecisionDiffers { tenant, alarm, time_secs, old, new });
                }
            }
        }
    }
}

fn unreadable(row: &Row, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged(format!("{} cannot be read: {error}; have the rows made anew from the stream", row.key))
}

fn merged(rows: &[Row]) -> Result<Cell, ReadError> {
    let mut merged = Cell::default();
    for row in rows {
        merged.merge(&Cell::decode(&row.body).map_err(|error| unreadable(row, &error))?);
    }
    Ok(merged)
}

/// The first metric that differs; `None`: none does.
fn window((tenant, service, start_secs): &Place, old: &[Row], new: &[Row]) -> Result<Option<WindowDiffers>, ReadError> {
    let (old, new) = (merged(old)?, merged(new)?);
    let windows = |cell: &Cell| {
        let windows = cell.windows().into_iter();
        windows.map(|(series, length, values)| ((series, length), values)).collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (windows(&old), windows(&new));
    let key = old.keys().chain(new.keys()).filter(|key| old.get(key) != new.get(key)).min();
    let numbers = |values: Option<&Distribution>| values.map_or((0, 0.0), |values| (values.count(), values.sum()));
    Ok(key.map(|key| {
        let ((old_count, old_sum), (new_count, new_sum)) = (numbers(old.get(key)), numbers(new.get(key)));
        let (tenant, service, start_secs) = (tenant.clone(), service.clone(), *start_secs);
        let metric = key.0.metric.clone();
        WindowDiffers { tenant, service, start_secs, metric, old_count, old_sum, new_count, new_sum }
    }))
}

/// What an alarm became in one minute; `None`: nothing new.
fn became(rows: &[Row]) -> Result<Option<String>, ReadError> {
    let mut became = None;
    for row in rows {
        let decision = Decision::decode(&row.body).map_err(|error| unreadable(row, &error))?;
        if decision.from != Some(decision.to) {
            became = Some(decision.to.as_str().to_owned());
        }
    }
    Ok(became)
}

/// How far each alarm looks back, Unix seconds, by any definition that it ever had.
async fn ranges<T: Store>(store: &T, generation: Generation) -> Result<BTreeMap<(String, String), i64>, DriveError> {
    let mut ranges = BTreeMap::new();
    for definition in drive::definitions(store, generation).await? {
        if definition.kind == definitions::ALARM
            && let Ok(alarm) = Alarm::parse(&definition.body)
        {
            let range: &mut i64 = ranges.entry((definition.tenant, definition.name)).or_default();
            *range = alarm.range_secs().max(*range);
        }
    }
    Ok(ranges)
}
