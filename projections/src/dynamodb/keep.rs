//! How long rows are kept: one item of the pair says it, and no process has a value of its own, so no two can disagree for longer than a look. Decides
//! when a row expires, and whether one that still stands is past its time; it removes nothing.
//!
//! | kind | kept |
//! | --- | --- |
//! | windows, balances, services, changes of alarms, dead letters | n days |
//! | marks of files and objects, of producers, of strangers' events | 2 n days: a line may come again for as long as a row may hold it |
//! | definitions, states of alarms, generations | for as long as the tables |
//!
//! Days are counted from the later of two: the day of the fold's time at the last record that touched the row, and the day on which it was written.
//! What a replay writes of a day long past is so not born expired.

use std::time::Duration;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use tokio::time::Instant;

use super::{
    DAY_SECS, DynamoDb,
    call::{Failed, done},
    item::{self, EXPIRES_AT, FOLDED_ON, Item},
    layout::{Place, Sort, Table},
    lock,
};
use crate::store::{Day, Kind, ReadError, WriteError};

/// The partition of what says whose rows these are and how long they stay. No shard's: these hold a `/`.
pub(super) const PARTITION: &str = "stream";
const SORT: &str = "retention";
const KEEP_DAYS: &str = "KeepDays";
/// The value is looked at so often, by a read of one unit: so long two processes may disagree after it was changed.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// What this process knows of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// `None`: rows stay.
    days: Option<u16>,
    /// When the item was last read; `None`: it is not looked at, as the tables were not bound to a stream.
    looked: Option<Instant>,
}

/// For how many days rows of a kind are kept where windows are kept for `days`; `None`: they do not expire.
fn days_of(kind: Kind, days: u16) -> Option<i64> {
    match kind {
        _ if !kind.expires() => None,
        Kind::Taken | Kind::Producer | Kind::Identified => Some(2 * i64::from(days)),
        _ => Some(days.into()),
    }
}

impl DynamoDb {
    /// For how many days rows are kept; `None`: for as long as the tables.
    pub async fn kept(&self) -> Result<Option<u16>, ReadError> {
        Ok(self.look_at_keep().await?)
    }

    /// The same, as it was when this process last looked: at `bind`, and every ten minutes.
    pub fn known_to_keep(&self) -> Option<u16> {
        lock(&self.kept).days
    }

    /// From now on rows are kept for so many days, whoever writes them; `None`, or 0: for as long as the tables. They are written with the time at
    /// which they expire, and DynamoDB removes them for nothing, some days late; nobody is shown them meanwhile. Rows that stand are not touched:
    /// they stay in the tables, and are not shown once they are past this. Other processes know within ten minutes.
    ///
    /// The days must not be fewer than those for which the stream keeps its records: what can be folded again must not have expired.
    pub async fn keep(&self, days: Option<u16>) -> Result<(), WriteError> {
        let days = days.filter(|days| *days > 0);
        let place = place();
        let table = self.name(Table::Checkpoints);
        let mut item = item::key(&place);
        item.insert(KEEP_DAYS.to_owned(), item::number(days.unwrap_or(0)));
        let request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        // The same again is the same.
        let answer = done(self.pace, ("PutItem", table), || request.clone().send()).await?;
        self.meter.write(answer.consumed_capacity());
        *lock(&self.kept) = Kept { days, looked: Some(Instant::now()) };
        Ok(())
    }

    /// Reads the item, and goes on looking at it.
    pub(super) async fn look_at_keep(&self) -> Result<Option<u16>, Failed> {
        Ok(self.learn_keep(self.get(&place()).await?.as_ref()))
    }

    /// The item was just read.
    pub(super) fn learn_keep(&self, item: Option<&Item>) -> Option<u16> {
        let days = item.and_then(|item| item::read_number(item, KEEP_DAYS)).filter(|days| *days > 0);
        *lock(&self.kept) = Kept { days, looked: Some(Instant::now()) };
        days
    }

    /// Looks at it again if that was long ago.
    pub(super) async fn see_to_keep(&self) -> Result<(), Failed> {
        let looked = lock(&self.kept).looked;
        if looked.is_some_and(|looked| looked.elapsed() >= LOOK) {
            self.look_at_keep().await?;
        }
        Ok(())
    }

    /// When a row of a kind that is written now expires: at the end of its last day.
    pub(super) fn expires_at(&self, kind: Kind, folded_on: Day) -> Option<i64> {
        let days = days_of(kind, lock(&self.kept).days?)?;
        Some((i64::from(folded_on.max((self.today)()).0) + days + 1) * DAY_SECS)
    }

    /// True if a row of a kind, last folded into on a day, has been past its time since it was last written, if it was written on that day.
    pub(super) fn is_past_time(&self, kind: Kind, folded_on: Day) -> bool {
        let days = lock(&self.kept).days.and_then(|days| days_of(kind, days));
        days.is_some_and(|days| i64::from(folded_on.0) + days < i64::from((self.today)().0))
    }

    /// True if an item is a row past its time, which DynamoDB has not removed yet, or was written before rows were kept by time: it is as good as gone.
    pub(super) fn is_gone(&self, kind: Kind, item: &Item) -> bool {
        match item::read_number::<i64>(item, EXPIRES_AT) {
            Some(at) => at <= i64::from((self.today)().0) * DAY_SECS,
            None => item::read_number(item, FOLDED_ON).is_some_and(|day| self.is_past_time(kind, Day(day))),
        }
    }
}

pub(super) fn place() -> Place {
    Place { table: Table::Checkpoints, partition: PARTITION.into(), sort: Sort::Text(SORT.into()) }
}

/// As if the item said so.
#[cfg(all(test, feature = "law"))]
pub(super) fn assume(store: &DynamoDb, days: u16) {
    lock(&store.kept).days = Some(days).filter(|days| *days > 0);
}
