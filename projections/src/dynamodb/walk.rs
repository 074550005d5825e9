//! Ranges of rows in key order, by queries alone: which partitions there are stands in lists, and partitions that share a range are merged. It
//! reads consistently, and never more than a page needs and its partitions' first answers hold.

use std::{collections::VecDeque, ops::Range};

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures_util::{
    future,
    stream::{self, StreamExt},
};

use super::{
    DynamoDb, READS_AT_ONCE_MAX, SCAN_BYTES_MAX,
    call::{Failed, done},
    item::{self, Flaw, Item},
    layout::{self, Bucket, Scope, Sort, Table},
};
use crate::store::{Generation, Kind, ReadError, Row, RowKey, Rows, Span};

/// A subject's range of so many buckets is read without a look at the list: two days of windows, and a query more at either end.
const BUCKETS_UNLISTED_MAX: usize = 9;
/// Partitions whose first pages are read at once, where a page will need them all.
const BUCKETS_AT_ONCE: usize = 4;
/// So many rows of a bucket there are as a rule: one a minute.
const BUCKET_ROWS: usize = 360;
/// Names and tenants are listed by pages of this many.
const LISTED_AT_ONCE: usize = 200;

/// Sort keys of one partition: from one on, up to but not including another.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    pub(super) from: Option<Sort>,
    pub(super) to: Option<Sort>,
}

/// What a query adds to the key: rows of which only these come, and which of their attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Only {
    pub(super) filter: Option<String>,
    pub(super) projection: Option<String>,
    pub(super) names: Vec<(String, String)>,
    pub(super) values: Vec<(String, aws_sdk_dynamodb::types::AttributeValue)>,
}

/// One partition's items from where it has come to.
struct Cursor {
    partition: String,
    ready: VecDeque<(Sort, Item)>,
    /// Where the next page begins; the first one begins with none.
    next: Option<Item>,
    is_at_end: bool,
}

/// Items of several partitions of one table, together in the order of their sort keys.
pub(super) struct Merged<'a> {
    store: &'a DynamoDb,
    table: Table,
    bounds: Bounds,
    only: Only,
    page_rows: usize,
    cursors: Vec<Cursor>,
}

impl<'a> Merged<'a> {
    /// `page_rows`: how many of each partition come with one request, at most.
    pub(super) fn new(
        store: &'a DynamoDb,
        table: Table,
        partitions: Vec<String>,
        bounds: Bounds,
        page_rows: usize,
    ) -> Self {
        let cursor = |partition| Cursor { partition, ready: VecDeque::new(), next: None, is_at_end: false };
        let is_empty = matches!(&bounds, Bounds { from: Some(from), to: Some(to) } if from >= to);
        let cursors = if is_empty { vec![] } else { partitions.into_iter().map(cursor).collect() };
        Self { store, table, bounds, only: Only::default(), page_rows, cursors }
    }

    pub(super) fn only(self, only: Only) -> Self {
        Self { only, ..self }
    }

    /// Makes ready what is next in each partition.
    async fn fill(&mut self) -> Result<(), Failed> {
        let (store, table, bounds, only, rows) = (self.store, self.table, &self.bounds, &self.only, self.page_rows);
        let waiting = self.cursors.iter_mut().filter(|cursor| cursor.ready.is_empty() && !cursor.is_at_end);
        let filled = waiting.map(|cursor| async move {
            // A filter leaves pages empty.
            while cursor.ready.is_empty() && !cursor.is_at_end {
                let (items, next) =
                    store.query(table, &cursor.partition, bounds, only, rows, cursor.next.take()).await?;
                for item in items {
                    let sort = item::place(table, &item).map(|place| place.sort);
                    let Some(sort) = sort else { continue };
                    cursor.ready.push_back((sort, item));
                }
                cursor.is_at_end = next.is_none();
                cursor.next = next;
            }
            Ok(())
        });
        future::try_join_all(filled).await.map(|_| ())
    }

    /// The next item.
    pub(super) async fn next(&mut self) -> Result<Option<(Sort, Item)>, Failed> {
        self.fill().await?;
        let first = self.cursors.iter_mut().filter(|cursor| !cursor.ready.is_empty());
        let first = first.min_by(|a, b| a.ready.front().map(|of| &of.0).cmp(&b.ready.front().map(|of| &of.0)));
        Ok(first.and_then(|cursor| cursor.ready.pop_front()))
    }
}

/// Rows that a scan has come to.
struct Page {
    rows: Vec<Row>,
    body_bytes: usize,
    limit: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.body_bytes >= SCAN_BYTES_MAX
    }

    fn wanted(&self) -> usize {
        self.limit - self.rows.len()
    }

    fn push(&mut self, row: Row) {
        self.body_bytes += row.body.len();
        self.rows.push(row);
    }

    /// True: the page is full, and more may come.
    async fn take(&mut self, scope: &Scope, name: &str, merged: &mut Merged<'_>) -> Result<bool, ReadError> {
        while let Some((sort, item)) = merged.next().await? {
            if merged.store.is_gone(scope.kind, &item) {
                continue;
            }
            self.push(read(scope, name, &sort, item)?);
            if self.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The row of an item; `name` only where the place does not say it.
pub(super) fn read(scope: &Scope, name: &str, sort: &Sort, item: Item) -> Result<Row, ReadError> {
    let damaged = |what: String| ReadError::Damaged(format!("{what}; restore the table to a point before, or replay"));
    let key = scope.key(name, sort).ok_or_else(|| {
        damaged(format!(
            "a {:?} row of tenant {} has a sort key that nobody writes: {sort:?}",
            scope.kind, scope.tenant
        ))
    })?;
    let name = key.to_string();
    item::read_row(key, item)
        .map_err(|flaw: Flaw| damaged(format!("{name} has no {flaw}, or another than was written")))
}

impl DynamoDb {
    pub(super) async fn walk_rows(&self, span: &Span, after: Option<&RowKey>, limit: usize) -> Result<Rows, ReadError> {
        self.see_to_keep().await?;
        let mut page = Page { rows: vec![], body_bytes: 0, limit };
        let is_full = match span {
            Span::Of { subject, from, to } => {
                if layout::place(&first_of(subject)).is_err() || from >= to {
                    return Ok(Rows { rows: vec![], next_after: None });
                }
                let after = after.filter(|after| after.subject == *subject);
                self.walk_subject(&mut page, &Scope::of(subject), &subject.name, *from..*to, after).await?
            }
            Span::All { tenant: Some(tenant), generation, kind } => {
                let scope = Scope { tenant: tenant.clone(), generation: *generation, kind: *kind };
                self.walk_tenant(&mut page, &scope, after).await?
            }
            Span::All { tenant: None, generation, kind } => {
                self.walk_tenants(&mut page, *generation, *kind, after).await?
            }
        };
        let next_after = page.rows.last().filter(|_| is_full).map(|row| row.key.clone());
        Ok(Rows { rows: page.rows, next_after })
    }

    async fn walk_tenants(
        &self,
        page: &mut Page,
        generation: Generation,
        kind: Kind,
        after: Option<&RowKey>,
    ) -> Result<bool, ReadError> {
        let mut tenants = self.tenants(generation, kind, after.map(|after| after.subject.tenant.as_str()));
        while let Some((sort, _)) = tenants.next().await? {
            let Some(tenant) = layout::read_tenant(&sort) else { continue };
            let scope = Scope { tenant, generation, kind };
            if self.walk_tenant(page, &scope, after).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tenants that have rows of a kind, from one on.
    pub(super) fn tenants(&self, generation: Generation, kind: Kind, from: Option<&str>) -> Merged<'_> {
        let bounds = Bounds { from: from.map(layout::tenant_sort), to: None };
        Merged::new(self, Table::State, layout::tenant_lists(generation, kind), bounds, LISTED_AT_ONCE)
    }

    async fn walk_tenant(&self, page: &mut Page, scope: &Scope, after: Option<&RowKey>) -> Result<bool, ReadError> {
        let after = after.filter(|after| after.subject.tenant == scope.tenant);
        if !layout::is_bucketed(scope.kind) {
            let from = after.and_then(|after| layout::place(after).ok()).map(|place| place.sort.successor());
            let partitions = scope.shared_partitions();
            let page_rows = page.wanted().div_ceil(partitions.len()) + 1;
            let bounds = Bounds { from, to: None };
            let mut rows = Merged::new(self, layout::table(scope.kind), partitions, bounds, page_rows);
            return page.take(scope, "", &mut rows).await;
        }
        let from = after.and_then(|after| scope.bucket(&after.subject.name, after.at));
        let listed = self.buckets(scope, from.as_ref());
        self.walk_listed(page, scope, i64::MIN..i64::MAX, after, true, listed).await
    }

    /// A tenant's buckets, from one on.
    pub(super) fn buckets(&self, scope: &Scope, from: Option<&Bucket>) -> Merged<'_> {
        let bounds = Bounds { from: from.map(|from| layout::bucket_sort(&from.name, from.start)), to: None };
        Merged::new(self, Table::State, scope.bucket_lists(), bounds, LISTED_AT_ONCE)
    }

    async fn walk_subject(
        &self,
        page: &mut Page,
        scope: &Scope,
        name: &str,
        at: Range<i64>,
        after: Option<&RowKey>,
    ) -> Result<bool, ReadError> {
        let behind = after.and_then(|after| layout::place(after).ok()).map(|place| place.sort.successor());
        if !layout::is_bucketed(scope.kind) {
            let (from, to) = scope.sorts(name, &at).map_err(|error| ReadError::Unavailable(error.to_string()))?;
            let bounds = Bounds { from: Some(behind.map_or(from.clone(), |behind| behind.max(from))), to: Some(to) };
            let partition = vec![scope.shared_partition(name)];
            let mut rows = Merged::new(self, layout::table(scope.kind), partition, bounds, page.wanted());
            return page.take(scope, name, &mut rows).await;
        }
        let at = after.map_or(at.start, |after| after.at.max(at.start))..at.end;
        if at.is_empty() {
            return Ok(false);
        }
        if let Some(buckets) = scope.buckets(name, &at, BUCKETS_UNLISTED_MAX) {
            return self.walk_buckets(page, scope, &at, after, false, buckets).await;
        }
        let (Some(first), Some(last)) = (scope.bucket(name, at.start), scope.bucket(name, at.end - 1)) else {
            return Ok(false);
        };
        let to = layout::bucket_sort(name, last.start).successor();
        let bounds = Bounds { from: Some(layout::bucket_sort(name, first.start)), to: Some(to) };
        let listed = Merged::new(self, Table::State, vec![scope.bucket_list(name)], bounds, LISTED_AT_ONCE);
        self.walk_listed(page, scope, at, after, false, listed).await
    }

    /// Buckets as their list names them.
    async fn walk_listed(
        &self,
        page: &mut Page,
        scope: &Scope,
        at: Range<i64>,
        after: Option<&RowKey>,
        to_the_last: bool,
        mut listed: Merged<'_>,
    ) -> Result<bool, ReadError> {
        loop {
            let mut buckets = vec![];
            let at_once = page.wanted().div_ceil(BUCKET_ROWS).min(BUCKETS_AT_ONCE);
            while buckets.len() < at_once
                && let Some((sort, _)) = listed.next().await?
            {
                buckets.extend(layout::read_bucket(&sort));
            }
            if buckets.is_empty() {
                return Ok(false);
            }
            if self.walk_buckets(page, scope, &at, after, to_the_last, buckets).await? {
                return Ok(true);
            }
        }
    }

    /// Rows of buckets, in order; a few buckets are asked at once. `to_the_last`: that of the last place in time too, which no range ends behind.
    async fn walk_buckets(
        &self,
        page: &mut Page,
        scope: &Scope,
        at: &Range<i64>,
        after: Option<&RowKey>,
        to_the_last: bool,
        buckets: Vec<Bucket>,
    ) -> Result<bool, ReadError> {
        let at_once = page.wanted().div_ceil(BUCKET_ROWS).clamp(1, BUCKETS_AT_ONCE);
        let page_rows = page.wanted();
        let of = |bucket: Bucket| self.bucket_rows(scope, at, after, to_the_last, bucket, page_rows);
        let mut opened = stream::iter(buckets.into_iter().map(of)).buffered(at_once.min(READS_AT_ONCE_MAX));
        while let Some(rows) = opened.next().await {
            let (name, mut rows) = rows?;
            if page.take(scope, &name, &mut rows).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A bucket's rows, of which the first are there.
    async fn bucket_rows(
        &self,
        scope: &Scope,
        at: &Range<i64>,
        after: Option<&RowKey>,
        to_the_last: bool,
        bucket: Bucket,
        page_rows: usize,
    ) -> Result<(String, Merged<'_>), ReadError> {
        let span = scope.span(&bucket);
        let within = span.start.max(at.start)..span.end.min(at.end);
        let sorts = scope.sorts(&bucket.name, &within);
        let (mut from, to) = sorts.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let after = after.filter(|after| scope.bucket(&after.subject.name, after.at).as_ref() == Some(&bucket));
        if let Some(place) = after.and_then(|after| layout::place(after).ok()) {
            from = from.max(place.sort.successor());
        }
        let to = (within.end != i64::MAX || !to_the_last).then_some(to);
        let partition = vec![scope.bucket_partition(&bucket)];
        let bounds = Bounds { from: Some(from), to };
        let mut rows = Merged::new(self, layout::table(scope.kind), partition, bounds, page_rows);
        rows.fill().await?;
        Ok((bucket.name, rows))
    }

    /// One page of one partition, and where the next begins.
    async fn query(
        &self,
        table: Table,
        partition: &str,
        bounds: &Bounds,
        only: &Only,
        rows: usize,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), Failed> {
        let (name, (partition_key, sort_key)) = (self.name(table), table.keys());
        let mut request = self
            .client
            .query()
            .table_name(name)
            .consistent_read(true)
            .expression_attribute_names("#p", partition_key)
            .expression_attribute_values(":p", item::text(partition))
            .limit(i32::try_from(rows.max(1)).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .set_filter_expression(only.filter.clone())
            .set_projection_expression(only.projection.clone())
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let range = match (&bounds.from, &bounds.to) {
            (None, None) => "#p = :p",
            (Some(_), None) => "#p = :p AND #s >= :from",
            (None, Some(_)) => "#p = :p AND #s < :to",
            // No item lies at the end itself: ends are beginnings of keys, or successors.
            (Some(_), Some(_)) => "#p = :p AND #s BETWEEN :from AND :to",
        };
        request = request.key_condition_expression(range);
        if bounds.from.is_some() || bounds.to.is_some() {
            request = request.expression_attribute_names("#s", sort_key);
        }
        for (placeholder, bound) in [(":from", &bounds.from), (":to", &bounds.to)] {
            if let Some(bound) = bound {
                request = request.expression_attribute_values(placeholder, item::sort(bound));
            }
        }
        for (placeholder, attribute) in &only.names {
            request = request.expression_attribute_names(placeholder, attribute);
        }
        for (placeholder, value) in &only.values {
            request = request.expression_attribute_values(placeholder, value.clone());
        }
        let answer = done(self.pace, ("Query", name), || request.clone().send()).await?;
        self.meter.read(answer.consumed_capacity());
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key.filter(|key| !key.is_empty())))
    }
}

/// Any key of a subject, to see whether its names can be in one.
fn first_of(subject: &crate::store::Subject) -> RowKey {
    let shard = events::position::ShardId::numbered(0);
    RowKey { subject: subject.clone(), at: 0, shard, partial: crate::store::Partial(0), page: 0 }
}
