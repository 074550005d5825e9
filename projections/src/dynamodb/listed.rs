//! Lists of what there is, so that no read has to scan: tenants of a kind, and buckets of a subject. It lists before a row is written, and takes
//! nothing off a list while a row may lie behind it.
//!
//! A bucket's entry holds the days between which its rows were last folded into. So `expire` looks only into buckets with a row that may be past its
//! time, and takes off the list only those all of whose rows are. What this process knows to be listed it does not list again: an entry costs a write
//! the first time, and a read in each later process.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{
    operation::{put_item::PutItemError, update_item::UpdateItemError},
    types::ReturnConsumedCapacity,
};
use futures_util::stream::{self, StreamExt};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    DynamoDb, WRITES_AT_ONCE_MAX,
    call::{Answer, Failed, call, done},
    item::{self, EXPIRES_AT, FIRST_DAY, Item, LAST_DAY, NAME, TIME_BUCKET},
    layout::{self, Bucket, Place, Scope, Sort, Table},
    lock,
};
use crate::store::{Day, Kind};

/// Most entries that this process knows to be listed, of 40 bytes; with one more it forgets all, and asks again.
const KNOWN_MAX: usize = 200_000;
/// An entry is tried so often while others change it.
const ENTRY_TRIES_MAX: u32 = 8;
/// Entries outlive rows by so long, because DynamoDB removes rows when it likes.
const ENTRY_SECS: i64 = 14 * 24 * 60 * 60;

/// First and last day that entries are known to cover, by a hash of their places.
pub(super) type Known = HashMap<u128, Days>;

/// Days in which rows of a bucket were folded, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) first: Day,
    pub(super) last: Day,
}

impl Days {
    pub(super) const fn of(day: Day) -> Self {
        Self { first: day, last: day }
    }

    fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    pub(super) fn read(item: &Item) -> Option<Self> {
        Some(Self { first: Day(item::read_number(item, FIRST_DAY)?), last: Day(item::read_number(item, LAST_DAY)?) })
    }
}

/// What has to be listed before some rows are written. The tenant's entry has days too, which nobody reads.
#[derive(Debug, Default)]
pub(super) struct Wanted(BTreeMap<Place, (Scope, Option<Bucket>, Days)>);

impl Wanted {
    pub(super) fn add(&mut self, scope: Scope, name: &str, at: i64, day: Day) {
        // A tenant's entry is listed once, on no day.
        let tenant = (scope.clone(), None, Days::of(Day(0)));
        self.0.entry(layout::tenant_listed(&scope)).or_insert(tenant);
        if let Some(bucket) = scope.bucket(name, at) {
            let days = Days::of(day);
            let place = scope.listed(&bucket);
            self.0.entry(place).and_modify(|(_, _, of)| *of = of.and(days)).or_insert((scope, Some(bucket), days));
        }
    }
}

fn hash(place: &Place) -> u128 {
    let sort = match &place.sort {
        Sort::Text(text) => text.as_bytes(),
        Sort::Bytes(bytes) => bytes,
    };
    xxh3_128(&[place.partition.as_bytes(), &[0], sort].concat())
}

impl DynamoDb {
    /// Lists what is not known to be.
    pub(super) async fn list(&self, wanted: Wanted) -> Result<(), Failed> {
        let unknown: Vec<_> = {
            let known = lock(&self.known);
            let is_known = |place: &Place, days: Days| known.get(&hash(place)).is_some_and(|known| known.covers(days));
            wanted.0.into_iter().filter(|(place, (_, _, days))| !is_known(place, *days)).collect()
        };
        let mut listing = stream::iter(unknown)
            .map(|(place, (scope, bucket, days))| self.list_one(place, scope, bucket, days))
            .buffer_unordered(WRITES_AT_ONCE_MAX);
        while let Some(listed) = listing.next().await {
            listed?;
        }
        Ok(())
    }

    async fn list_one(&self, place: Place, scope: Scope, bucket: Option<Bucket>, days: Days) -> Result<(), Failed> {
        for _ in 0..ENTRY_TRIES_MAX {
            let stands = self.get(&place).await?;
            let listed = match (&stands, Days::read(stands.as_ref().unwrap_or(&Item::new()))) {
                (Some(_), Some(listed)) if listed.covers(days) => Some(listed),
                (Some(_), Some(listed)) => {
                    let both = listed.and(days);
                    self.widen(&place, &scope, bucket.as_ref(), both).await?.then_some(both)
                }
                _ => self.begin(&place, &scope, bucket.as_ref(), days).await?.then_some(days),
            };
            if let Some(listed) = listed {
                let mut known = lock(&self.known);
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.insert(hash(&place), listed);
                return Ok(());
            }
        }
        Err(Failed::before(format!(
            "the list {} in table {} is being changed by others; again",
            place.partition, self.state
        )))
    }

    /// The first row of a bucket, or of a tenant: its place in the index, then its entry. False: somebody else has begun it.
    async fn begin(&self, place: &Place, scope: &Scope, bucket: Option<&Bucket>, days: Days) -> Result<bool, Failed> {
        self.put_head(scope, bucket, days).await?;
        let mut entry = item::key(place);
        entry.insert(FIRST_DAY.to_owned(), item::number(days.first.0));
        entry.insert(LAST_DAY.to_owned(), item::number(days.last.0));
        if let Some(at) = self.entry_expires_at(scope.kind, bucket, days) {
            entry.insert(EXPIRES_AT.to_owned(), item::number(at));
        }
        let name = bucket.map_or(&scope.tenant, |bucket| &bucket.name);
        if !name.is_empty() {
            entry.insert(NAME.to_owned(), item::text(name));
        }
        let table = self.name(place.table);
        let request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(entry))
            .condition_expression("attribute_not_exists(#p)")
            .expression_attribute_names("#p", place.table.keys().0)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let stands = PutItemError::is_conditional_check_failed_exception;
        match call(self.pace, ("PutItem", table), stands, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(true)
            }
            Answer::Refused { .. } => Ok(false),
        }
    }

    /// An entry is given further days, if it is still there.
    async fn widen(&self, place: &Place, scope: &Scope, bucket: Option<&Bucket>, to: Days) -> Result<bool, Failed> {
        let table = self.name(place.table);
        let mut request = self
            .client
            .update_item()
            .table_name(table)
            .set_key(Some(item::key(place)))
            // Whoever came in between may have widened it in the other direction.
            .condition_expression("attribute_exists(#f) AND #f >= :f AND #l <= :l")
            .expression_attribute_names("#f", FIRST_DAY)
            .expression_attribute_names("#l", LAST_DAY)
            .expression_attribute_values(":f", item::number(to.first.0))
            .expression_attribute_values(":l", item::number(to.last.0))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        request = match self.entry_expires_at(scope.kind, bucket, to) {
            None => request.update_expression("SET #f = :f, #l = :l"),
            Some(at) => {
                self.put_head(scope, bucket, to).await?;
                request
                    .update_expression("SET #f = :f, #l = :l, #e = :e")
                    .expression_attribute_names("#e", EXPIRES_AT)
                    .expression_attribute_values(":e", item::number(at))
            }
        };
        let moved = UpdateItemError::is_conditional_check_failed_exception;
        match call(self.pace, ("UpdateItem", table), moved, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(true)
            }
            Answer::Refused { .. } => Ok(false),
        }
    }

    fn entry_expires_at(&self, kind: Kind, bucket: Option<&Bucket>, days: Days) -> Option<i64> {
        bucket?;
        Some(self.expires_at(kind, days.last)? + ENTRY_SECS)
    }

    async fn put_head(&self, scope: &Scope, bucket: Option<&Bucket>, days: Days) -> Result<(), Failed> {
        let Some((bucket, (place, index))) = bucket.and_then(|bucket| Some((bucket, scope.head(bucket)?))) else {
            return Ok(());
        };
        let mut head = item::key(&place);
        head.insert(TIME_BUCKET.to_owned(), item::text(index));
        if let Some(at) = self.entry_expires_at(scope.kind, Some(bucket), days) {
            head.insert(EXPIRES_AT.to_owned(), item::number(at));
        }
        let table = self.name(Table::Metrics);
        let request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(head))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = done(self.pace, ("PutItem", table), || request.clone().send()).await?;
        self.meter.write(answer.consumed_capacity());
        Ok(())
    }

    /// An item as it stands.
    pub(super) async fn get(&self, place: &Place) -> Result<Option<Item>, Failed> {
        let table = self.name(place.table);
        let request = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(item::key(place)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = done(self.pace, ("GetItem", table), || request.clone().send()).await?;
        self.meter.read(answer.consumed_capacity());
        Ok(answer.item)
    }

    /// This process no longer knows an entry.
    pub(super) fn forget(&self, place: &Place) {
        lock(&self.known).remove(&hash(place));
    }
}
