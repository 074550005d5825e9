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
/// An entry is tried so often while others change it. Each time one of them has changed it and is done; three that go on and on beat a fourth eight times
/// in a row once in ten.
const ENTRY_TRIES_MAX: u32 = 64;
/// So often without a wait.
const ENTRY_TRIES_AT_ONCE: u32 = 4;
/// Entries outlive rows by so long, because DynamoDB removes rows when it likes.
const ENTRY_SECS: i64 = 14 * 24 * 60 * 60;

/// Rows are not written behind an entry that outlives them by less.
const ENTRY_SECS_MIN: i64 = 7 * 24 * 60 * 60;

/// What entries are known to say, by a hash of their places.
pub(super) type Known = HashMap<u128, Entry>;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    days: Days,
    /// `None`: never.
    expires_at: Option<i64>,
}

impl Entry {
    fn read(item: &Item) -> Option<Self> {
        Some(Self { days: Days::read(item)?, expires_at: item::read_number(item, EXPIRES_AT) })
    }

    /// True if rows of these days, which expire then, may be written behind it.
    fn covers(self, days: Days, rows_expire: Option<i64>) -> bool {
        let outlives = match (self.expires_at, rows_expire) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(entry), Some(rows)) => entry >= rows + ENTRY_SECS_MIN,
        };
        self.days.covers(days) && outlives
    }

    /// The entry behind which both what it covers and such rows may stand.
    fn and(self, days: Days, rows_expire: Option<i64>) -> Self {
        let expires_at = self.expires_at.zip(rows_expire).map(|(entry, rows)| entry.max(rows + ENTRY_SECS));
        Self { days: self.days.and(days), expires_at }
    }
}

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

    pub(super) fn and(self, other: Self) -> Self {
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
            let is_known = |place: &Place, (scope, bucket, days): &(Scope, Option<Bucket>, Days)| {
                let expire = self.rows_expire(scope.kind, bucket.as_ref(), *days);
                known.get(&hash(place)).is_some_and(|known| known.covers(*days, expire))
            };
            wanted.0.into_iter().filter(|(place, of)| !is_known(place, of)).collect()
        };
        let mut listing = stream::iter(unknown)
            .map(|(place, (scope, bucket, days))| self.list_one(place, scope, bucket, days))
            .buffer_unordered(WRITES_AT_ONCE_MAX);
        while let Some(listed) = listing.next().await {
            listed?;
        }
        Ok(())
    }

    /// What of this could have been taken off the lists while rows were put, because it is of days that others may have let expire. Who has these
    /// rows put lists them again: who takes an entry off a list then looks whether there are rows, and one of both sees what the other did.
    pub(super) fn of_old_days(&self, wanted: &Wanted) -> Wanted {
        let today = (self.today)().0;
        let is_old = |(_, (_, bucket, days)): &(&Place, &(Scope, Option<Bucket>, Days))| {
            bucket.is_some() && days.last.0.saturating_add(1) < today
        };
        Wanted(wanted.0.iter().filter(is_old).map(|(place, of)| (place.clone(), of.clone())).collect())
    }

    async fn list_one(&self, place: Place, scope: Scope, bucket: Option<Bucket>, days: Days) -> Result<(), Failed> {
        let rows_expire = self.rows_expire(scope.kind, bucket.as_ref(), days);
        for tries in 0..ENTRY_TRIES_MAX {
            if tries >= ENTRY_TRIES_AT_ONCE {
                self.pace.wait(1).await;
            }
            let stands = self.get(&place).await?;
            let listed = match stands.as_ref().and_then(Entry::read) {
                Some(listed) if listed.covers(days, rows_expire) => Some(listed),
                Some(listed) => {
                    let both = listed.and(days, rows_expire);
                    self.widen(&place, (&scope, bucket.as_ref()), listed, both).await?.then_some(both)
                }
                None => {
                    let first = Entry { days, expires_at: rows_expire.map(|rows| rows + ENTRY_SECS) };
                    self.begin(&place, &scope, bucket.as_ref(), first).await?.then_some(first)
                }
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
    async fn begin(&self, place: &Place, scope: &Scope, bucket: Option<&Bucket>, first: Entry) -> Result<bool, Failed> {
        let Entry { days, expires_at } = first;
        self.put_head(scope, bucket, expires_at).await?;
        let mut entry = item::key(place);
        entry.insert(FIRST_DAY.to_owned(), item::number(days.first.0));
        entry.insert(LAST_DAY.to_owned(), item::number(days.last.0));
        if let Some(at) = expires_at {
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

    /// An entry is given further days, or a later end, if it is still there.
    async fn widen(
        &self,
        place: &Place,
        (scope, bucket): (&Scope, Option<&Bucket>),
        from: Entry,
        to: Entry,
    ) -> Result<bool, Failed> {
        let table = self.name(place.table);
        let mut request = self
            .client
            .update_item()
            .table_name(table)
            .set_key(Some(item::key(place)))
            .expression_attribute_names("#f", FIRST_DAY)
            .expression_attribute_names("#l", LAST_DAY)
            .expression_attribute_names("#e", EXPIRES_AT)
            .expression_attribute_values(":f", item::number(to.days.first.0))
            .expression_attribute_values(":l", item::number(to.days.last.0))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        // Whoever came in between may have widened it in the other direction.
        let wider = "attribute_exists(#f) AND #f >= :f AND #l <= :l";
        request = match to.expires_at {
            None => request.condition_expression(wider).update_expression("SET #f = :f, #l = :l REMOVE #e"),
            Some(at) => request
                .condition_expression(format!("{wider} AND #e <= :e"))
                .update_expression("SET #f = :f, #l = :l, #e = :e")
                .expression_attribute_values(":e", item::number(at)),
        };
        if to.expires_at != from.expires_at {
            self.put_head(scope, bucket, to.expires_at).await?;
        }
        let moved = UpdateItemError::is_conditional_check_failed_exception;
        match call(self.pace, ("UpdateItem", table), moved, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(true)
            }
            Answer::Refused { .. } => Ok(false),
        }
    }

    /// When the last of some rows expires, if they are written now; `None`: never, or they are no bucket's.
    fn rows_expire(&self, kind: Kind, bucket: Option<&Bucket>, days: Days) -> Option<i64> {
        bucket.and_then(|_| self.expires_at(kind, days.last))
    }

    /// A bucket's place in the index.
    pub(super) async fn put_head(
        &self,
        scope: &Scope,
        bucket: Option<&Bucket>,
        expires_at: Option<i64>,
    ) -> Result<(), Failed> {
        let Some((place, index)) = bucket.and_then(|bucket| scope.head(bucket)) else { return Ok(()) };
        let mut head = item::key(&place);
        head.insert(TIME_BUCKET.to_owned(), item::text(index));
        if let Some(at) = expires_at {
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

    /// Looks at entries again, whatever this process knows, and begins those that are gone.
    pub(super) async fn list_again(&self, wanted: Wanted) -> Result<(), Failed> {
        wanted.0.keys().for_each(|place| self.forget(place));
        self.list(wanted).await
    }

    /// Lists one bucket as what rows of some days need.
    pub(super) async fn list_bucket(&self, scope: &Scope, bucket: &Bucket, days: Days) -> Result<(), Failed> {
        let mut wanted = Wanted::default();
        for day in [days.first, days.last] {
            wanted.add(scope.clone(), &bucket.name, bucket.start, day);
        }
        self.list_again(wanted).await
    }
}
