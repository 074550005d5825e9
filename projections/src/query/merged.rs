//! Rows of one subject that several generations have a part of, in order of time. Decides nothing but the order.

use std::num::NonZeroUsize;

use crate::{
    generations::Source,
    store::{ReadError, Row, RowKey, Span, Store},
};

/// One generation's rows of the range.
struct Lane {
    span: Span,
    source: Source,
    page: std::vec::IntoIter<Row>,
    after: Option<RowKey>,
    at_end: bool,
    next: Option<Row>,
}

/// See the module. Memory: a page of each generation.
pub(super) struct Merged {
    lanes: Vec<Lane>,
    rows: NonZeroUsize,
}

impl Merged {
    pub(super) fn new(spans: Vec<(Span, Source)>, rows: NonZeroUsize) -> Self {
        let lane =
            |(span, source)| Lane { span, source, page: vec![].into_iter(), after: None, at_end: false, next: None };
        Self { lanes: spans.into_iter().map(lane).collect(), rows }
    }

    /// The next row by place in time; rows of one place come in any order.
    pub(super) async fn next<S: Store>(&mut self, store: &S) -> Result<Option<Row>, ReadError> {
        for lane in &mut self.lanes {
            lane.fill(store, self.rows).await?;
        }
        let at = |lane: &&mut Lane| lane.next.as_ref().map_or(i64::MAX, |row| row.key.at);
        let first = self.lanes.iter_mut().filter(|lane| lane.next.is_some()).min_by_key(at);
        Ok(first.and_then(|lane| lane.next.take()))
    }
}

impl Lane {
    async fn fill<S: Store>(&mut self, store: &S, rows: NonZeroUsize) -> Result<(), ReadError> {
        while self.next.is_none() {
            let source = &self.source;
            self.next = self.page.find(|row| source.takes(row.key.partial));
            if self.next.is_some() || self.at_end {
                return Ok(());
            }
            let page = store.scan(&self.span, self.after.as_ref(), rows).await?;
            self.at_end = page.next_after.is_none();
            self.after = page.next_after;
            self.page = page.rows.into_iter();
        }
        Ok(())
    }
}
