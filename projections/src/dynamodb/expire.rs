//! Rows past their time are removed: found through lists, each deleted on condition that it still is of an earlier day. It never scans a table, and
//! removes no row of a later day, however it comes.

use aws_sdk_dynamodb::{operation::delete_item::DeleteItemError, types::ReturnConsumedCapacity};
use futures_util::stream::{self, StreamExt};

use super::{
    DynamoDb, WRITES_AT_ONCE_MAX,
    call::{Answer, Failed, call},
    item::{self, FOLDED_ON, LAST_DAY},
    layout::{self, Place, Scope, Table},
    listed::Days,
    walk::{Bounds, Merged, Only},
};
use crate::store::{Day, Generation, Kind, WriteError};

/// Rows of a page that is looked through.
const ROWS_AT_ONCE: usize = 1_000;

impl DynamoDb {
    pub(super) async fn expire_rows(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        if !kind.expires() {
            return Ok(0);
        }
        let mut removed = 0;
        let mut tenants = self.tenants(generation, kind, None);
        while let Some((sort, _)) = tenants.next().await? {
            let Some(tenant) = layout::read_tenant(&sort) else { continue };
            let scope = Scope { tenant, generation, kind };
            if layout::is_bucketed(kind) {
                removed += self.expire_buckets(&scope, before).await?;
            } else {
                for partition in scope.shared_partitions() {
                    removed += self.expire_partition(layout::table(kind), partition, before).await?;
                }
            }
        }
        Ok(removed)
    }

    /// Only buckets that hold a row which may be past its time are looked into; those in which all are leave the list.
    async fn expire_buckets(&self, scope: &Scope, before: Day) -> Result<u64, Failed> {
        let mut removed = 0;
        let mut listed = self.buckets(scope, None);
        while let Some((sort, entry)) = listed.next().await? {
            let (Some(bucket), Some(days)) = (layout::read_bucket(&sort), Days::read(&entry)) else { continue };
            if days.first >= before {
                continue;
            }
            let partition = scope.bucket_partition(&bucket);
            removed += self.expire_partition(layout::table(scope.kind), partition, before).await?;
            if days.last < before {
                let place = scope.listed(&bucket);
                // The head goes first: who begins the bucket anew puts it before the entry, and it stays.
                if let Some((head, _)) = scope.head(&bucket) {
                    self.delete(&head, None).await?;
                }
                let is_off = self.delete(&place, Some((LAST_DAY, before))).await?;
                self.forget(&place);
                // A row that was put meanwhile by who knew the entry is listed again, by that one or here.
                let left = match is_off {
                    true => self.days(layout::table(scope.kind), scope.bucket_partition(&bucket)).await?,
                    false => None,
                };
                match left {
                    Some(days) => self.list_bucket(scope, &bucket, days).await?,
                    None if !is_off => {
                        let expires_at = item::read_number(&entry, item::EXPIRES_AT);
                        self.put_head(scope, Some(&bucket), expires_at).await?;
                    }
                    None => {}
                }
            }
        }
        Ok(removed)
    }

    /// First and last day on which rows of a partition were folded, if there are any.
    async fn days(&self, table: Table, partition: String) -> Result<Option<Days>, Failed> {
        let only = Only {
            filter: Some("attribute_exists(#d)".to_owned()),
            projection: Some("#p, #k, #d".to_owned()),
            names: vec![("#d".into(), FOLDED_ON.into()), ("#k".into(), table.keys().1.into())],
            values: vec![],
        };
        let mut rows = Merged::new(self, table, vec![partition], Bounds::default(), ROWS_AT_ONCE).only(only);
        let mut days = None::<Days>;
        while let Some((_, item)) = rows.next().await? {
            let Some(of) = item::read_number(&item, FOLDED_ON).map(|day| Days::of(Day(day))) else { continue };
            days = Some(days.map_or(of, |days| days.and(of)));
        }
        Ok(days)
    }

    async fn expire_partition(&self, table: Table, partition: String, before: Day) -> Result<u64, Failed> {
        let (_, sort_key) = table.keys();
        let only = Only {
            filter: Some("#d < :d".to_owned()),
            projection: Some("#p, #k".to_owned()),
            names: vec![("#d".into(), FOLDED_ON.into()), ("#k".into(), sort_key.into())],
            values: vec![(":d".into(), item::number(before.0))],
        };
        let mut past = Merged::new(self, table, vec![partition], Bounds::default(), ROWS_AT_ONCE).only(only);
        let mut removed = 0;
        loop {
            let mut places = vec![];
            while places.len() < ROWS_AT_ONCE
                && let Some((_, item)) = past.next().await?
            {
                places.extend(item::place(table, &item));
            }
            if places.is_empty() {
                return Ok(removed);
            }
            let delete = |place: Place| async move { self.delete(&place, Some((FOLDED_ON, before))).await };
            let mut deleting = stream::iter(places).map(delete).buffer_unordered(WRITES_AT_ONCE_MAX);
            while let Some(deleted) = deleting.next().await {
                removed += u64::from(deleted?);
            }
        }
    }

    /// Deletes an item, if a day in it is still before another. True: it did.
    async fn delete(&self, place: &Place, only: Option<(&str, Day)>) -> Result<bool, Failed> {
        let table = self.name(place.table);
        let mut request = self
            .client
            .delete_item()
            .table_name(table)
            .set_key(Some(item::key(place)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if let Some((attribute, before)) = only {
            request = request
                .condition_expression("#d < :d")
                .expression_attribute_names("#d", attribute)
                .expression_attribute_values(":d", item::number(before.0));
        }
        let stays = DeleteItemError::is_conditional_check_failed_exception;
        match call(self.pace, ("DeleteItem", table), stays, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(true)
            }
            // An earlier try may have deleted it: then it is gone, as it should be, and not counted.
            Answer::Refused { .. } => Ok(false),
        }
    }
}
