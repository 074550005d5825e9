//! Rows by their keys, a hundred a request. What a request leaves undone is asked for again, up to a bound.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use futures_util::stream::{self, StreamExt};

use super::{
    DynamoDb, READS_AT_ONCE_MAX,
    call::{Failed, TRIES_MAX, done},
    item::{self, Item},
    layout::{self, Place, Scope, Table},
    walk,
};
use crate::store::{ReadError, Row, RowKey};

/// Most keys of one request (DynamoDB API reference, `BatchGetItem`).
const KEYS_MAX: usize = 100;

impl DynamoDb {
    pub(super) async fn read_rows(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        // What no key can hold is nowhere.
        let places: Vec<Option<Place>> = keys.iter().map(|key| layout::place(key).ok()).collect();
        let wanted: HashSet<&Place> = places.iter().flatten().collect();
        let wanted: Vec<Place> = wanted.into_iter().cloned().collect();
        let batches: Vec<Vec<Place>> = wanted.chunks(KEYS_MAX).map(<[_]>::to_vec).collect();
        self.see_to_keep().await?;
        let mut found = HashMap::new();
        let mut reading = stream::iter(batches).map(|batch| self.read_batch(batch)).buffer_unordered(READS_AT_ONCE_MAX);
        while let Some(items) = reading.next().await {
            found.extend(items?);
        }
        let row = |(key, place): (&RowKey, Option<Place>)| {
            let Some((place, item)) = place.and_then(|place| Some((found.get(&place)?.clone(), place))) else {
                return Ok(None);
            };
            if self.is_gone(key.subject.kind, &place) {
                return Ok(None);
            }
            walk::read(&Scope::of(&key.subject), &key.subject.name, &item.sort, place).map(Some)
        };
        keys.iter().zip(places).map(row).collect()
    }

    /// A batch throws only if nothing went through; else it hands back what is left.
    pub(super) async fn read_batch(&self, mut left: Vec<Place>) -> Result<Vec<(Place, Item)>, Failed> {
        let (mut found, mut tries) = (vec![], 0);
        while !left.is_empty() {
            let mut tables = HashMap::<&str, Vec<Item>>::new();
            for place in &left {
                tables.entry(self.name(place.table)).or_default().push(item::key(place));
            }
            let mut request = self.client.batch_get_item().return_consumed_capacity(ReturnConsumedCapacity::Total);
            for (table, keys) in tables {
                let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
                request = request.request_items(table, keys.map_err(|error| Failed::before(error.to_string()))?);
            }
            let what = ("BatchGetItem", self.name(left[0].table));
            let answer = done(self.pace, what, || request.clone().send()).await?;
            self.meter.read(answer.consumed_capacity());
            let before = left.len();
            left =
                self.places(answer.unprocessed_keys.unwrap_or_default().into_iter().map(|(of, keys)| (of, keys.keys)));
            for (place, item) in self.items(answer.responses.unwrap_or_default()) {
                found.push((place, item));
            }
            // Cut at 16 MB is not throttled: only what makes no progress is counted.
            tries = if left.len() < before { 0 } else { tries + 1 };
            if tries == TRIES_MAX {
                let why = format!(
                    "BatchGetItem on table {}: {} keys were left undone {tries} times; the table takes no more reads at the moment. Raise its \
                     maximum throughput, or ask less often",
                    what.1,
                    left.len()
                );
                return Err(Failed::before(why));
            }
            if !left.is_empty() {
                self.pace.wait(tries + 1).await;
            }
        }
        Ok(found)
    }

    fn table(&self, name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| self.name(*table) == name)
    }

    fn items(&self, answers: HashMap<String, Vec<Item>>) -> Vec<(Place, Item)> {
        let mut items = vec![];
        for (name, of_table) in answers {
            let Some(table) = self.table(&name) else { continue };
            items.extend(of_table.into_iter().filter_map(|found| Some((item::place(table, &found)?, found))));
        }
        items
    }

    fn places(&self, left: impl Iterator<Item = (String, Vec<Item>)>) -> Vec<Place> {
        self.items(left.collect()).into_iter().map(|(place, _)| place).collect()
    }
}
