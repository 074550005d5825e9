//! Holds every row that was ever stored against the model, at the moment it is stored.

use events::position::SequenceNumber;
use projections::{
    alarm::State,
    cell::Cell,
    fold::{alarms::Decision, balance::Balance, rows::Body as _},
    series::LOGS_NAMESPACE,
    store::{Kind, Row},
};

use crate::{
    model::{Holds, ModelShard},
    store::{Change, SimStore},
};

/// What any worker says became of a record, a zombie's too: the same, whenever and by whomever it is folded.
pub fn outcome(model: &ModelShard, at: SequenceNumber, balance: &Balance) -> Result<(), String> {
    let same = match model.outcomes.get(&at) {
        Some(expected) => is_balance(expected, balance),
        None => balance.accepted() == 0,
    };
    let expected = model.outcomes.get(&at);
    if same { Ok(()) } else { Err(format!("{at:?} was folded to\n  {balance:?}, not\n  {expected:?}")) }
}

fn is_balance(expected: &Holds, balance: &Balance) -> bool {
    let Holds::Balance { folded, duplicate, dead, skipped } = expected else { return false };
    let reasons: Vec<(&str, u64)> = balance.skipped.iter().map(|(r, s)| (r.as_str(), s.count)).collect();
    (balance.folded, balance.duplicate, balance.dead) == (*folded, *duplicate, *dead)
        && reasons == skipped.iter().map(|(r, n)| (*r, *n)).collect::<Vec<_>>()
}

/// What has happened since the last look. `at` finds a shard's model by its name.
pub fn changes(store: &SimStore, shards: &[ModelShard], at: impl Fn(&str) -> usize) -> Result<(), String> {
    for change in store.take_changes() {
        match change {
            Change::Row { row, before } => {
                if row.applied_through <= before {
                    return Err(format!(
                        "{:?} went from {before:?} to {:?}: rows only move forward",
                        row.key, row.applied_through
                    ));
                }
                stored(&row, &shards[at(row.key.shard.as_str())])?;
            }
            Change::ResumePoint { shard, before, position, ended } => {
                let model = &shards[at(shard.as_str())];
                if position < before {
                    return Err(format!("the resume point of {shard} went back from {before:?} to {position:?}"));
                }
                if position > model.last {
                    return Err(format!("the resume point of {shard} is {position:?}, past its end {:?}", model.last));
                }
                if ended && (position != model.last || !model.closed) {
                    return Err(format!("the resume point of {shard} says at {position:?} that it has ended"));
                }
                durable(store, model, before, position)?;
            }
        }
    }
    Ok(())
}

/// Every row that was touched up to the resume point is stored through it.
fn durable(
    store: &SimStore,
    model: &ModelShard,
    before: SequenceNumber,
    position: SequenceNumber,
) -> Result<(), String> {
    let first = model.touches.partition_point(|touch| touch.0 <= before);
    for (touched, key) in model.touches[first..].iter().take_while(|touch| touch.0 <= position) {
        let stored = store.through(key);
        if stored.is_none_or(|through| through < *touched) {
            return Err(format!(
                "the resume point is {position:?}, but {key:?}, touched by {touched:?}, is stored through {stored:?}"
            ));
        }
    }
    Ok(())
}

fn stored(row: &Row, model: &ModelShard) -> Result<(), String> {
    if row.applied_through > model.last {
        return Err(format!("{:?} is through {:?}, past the end {:?}", row.key, row.applied_through, model.last));
    }
    let is_decision = matches!(row.key.subject.kind, Kind::Alarm | Kind::Transition);
    if !is_decision
        && !matches!(
            row.key.subject.kind,
            Kind::Window | Kind::Balance | Kind::Taken | Kind::Producer | Kind::Identified
        )
    {
        return Ok(());
    }
    let Some(history) = model.rows.get(&row.key) else {
        return Err(format!("{:?} was stored, and no line or decision belongs there", row.key));
    };
    let Ok(place) = history.binary_search_by_key(&row.applied_through, |moment| moment.0) else {
        return Err(format!("{:?} is through {:?}, which did not touch it", row.key, row.applied_through));
    };
    // A decision is a fact of one record, and replaces the one before.
    let begins = history[if is_decision { place } else { 0 }].0;
    if row.applied_from != begins {
        return Err(format!("{:?} is said to begin at {:?}, not {begins:?}", row.key, row.applied_from));
    }
    let differs = |holds: &dyn std::fmt::Debug| {
        let (through, expected) = &history[place];
        Err(format!("{:?} through {through:?} holds\n  {holds:?}, not\n  {expected:?}", row.key))
    };
    match &history[place].1 {
        Holds::Mark => Ok(()),
        Holds::Alarm(expected) => {
            let of = Decision::decode(&row.body).map_err(|error| error.to_string())?;
            let same = (of.tenant.as_str(), of.alarm.as_str(), of.from.map(State::as_str), of.to.as_str())
                == (expected.tenant.as_str(), expected.alarm.as_str(), expected.from, expected.to)
                && (of.time_secs, of.revision, &of.reason) == (expected.time_secs, expected.revision, &expected.reason);
            if same { Ok(()) } else { differs(&of) }
        }
        expected @ Holds::Balance { .. } => {
            let balance = Balance::decode(&row.body).map_err(|error| error.to_string())?;
            if is_balance(expected, &balance) { Ok(()) } else { differs(&balance) }
        }
        Holds::Window(metrics) => {
            let cell = Cell::decode(&row.body).map_err(|error| error.to_string())?;
            let mut windows = cell.windows();
            windows.sort_by(|a, b| a.0.metric.cmp(&b.0.metric));
            let namespace = if row.key.page == 0 { LOGS_NAMESPACE } else { "app" };
            let same = windows.len() == metrics.len()
                && windows.iter().zip(metrics).all(|((series, length, values), (metric, stat))| {
                    series.metric == *metric
                        && series.namespace == namespace
                        && *length == 60
                        && (values.count(), values.sum()) == (stat.count, stat.sum)
                        && (values.min(), values.max()) == (Some(stat.min), Some(stat.max))
                });
            let shown = || windows.iter().map(|w| (w.0.metric.clone(), w.2.count(), w.2.sum())).collect::<Vec<_>>();
            if same { Ok(()) } else { differs(&shown()) }
        }
    }
}

/// After all is folded and stored: nothing is missing.
pub fn complete(store: &SimStore, shards: &[ModelShard]) -> Result<(), String> {
    for model in shards {
        for (key, history) in &model.rows {
            let last = history.last().unwrap().0;
            let stored = store.through(key);
            if stored != Some(last) {
                return Err(format!("at the end {key:?} is through {stored:?}, not {last:?}"));
            }
        }
    }
    Ok(())
}
