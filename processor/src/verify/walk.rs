//! Rows of two stores side by side, in key order. Decides what comes next where a stored row cannot be read.

use std::num::NonZeroUsize;

use projections::store::{ReadError, Row, RowKey, Span, Store};

use crate::drive::SCAN_ROWS;

/// What stands at one place.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is looked at and gone; damage is rare, and boxing would cost every row"
)]
pub(super) enum Pair {
    /// The stored row and the replayed one: at least one of them.
    Rows(RowKey, Option<Row>, Option<Row>),
    /// A stored row cannot be read, and why. Which one it is cannot be told; most likely the one that the stream has next, if it has one.
    Damaged(Option<RowKey>, String),
}

/// See the module.
pub(super) struct SideBySide<'a, T, R> {
    ours: Walk<'a, T>,
    theirs: Walk<'a, R>,
    stored: Option<Result<Row, String>>,
    replayed: Option<Row>,
}

impl<'a, T: Store, R: Store> SideBySide<'a, T, R> {
    pub async fn begin(store: &'a T, scratch: &'a R, span: &'a Span) -> Result<Self, ReadError> {
        let (mut ours, mut theirs) = (Walk::new(store, span), Walk::new(scratch, span));
        let (stored, replayed) = (ours.next_or_damaged().await?, theirs.next().await?);
        Ok(Self { ours, theirs, stored, replayed })
    }

    pub async fn next(&mut self) -> Result<Option<Pair>, ReadError> {
        let stored = match self.stored.take() {
            Some(Err(why)) => return self.damaged(why).await.map(Some),
            Some(Ok(row)) => Some(row),
            None => None,
        };
        let Some(key) = stored.iter().chain(&self.replayed).map(|row| row.key.clone()).min() else { return Ok(None) };
        let (left, later) = match stored {
            Some(row) if row.key == key => (Some(row), None),
            other => (None, other),
        };
        self.stored = if left.is_some() { self.ours.next_or_damaged().await? } else { later.map(Ok) };
        let right = if self.replayed.as_ref().is_some_and(|row| row.key == key) { self.replayed.take() } else { None };
        if right.is_some() {
            self.replayed = self.theirs.next().await?;
        }
        Ok(Some(Pair::Rows(key, left, right)))
    }

    async fn damaged(&mut self, why: String) -> Result<Pair, ReadError> {
        // Behind all that the stream has there is no place from which to go on.
        let Some(row) = self.replayed.take() else { return Ok(Pair::Damaged(None, why)) };
        self.ours.go_on_behind(row.key.clone());
        (self.stored, self.replayed) = (self.ours.next_or_damaged().await?, self.theirs.next().await?);
        Ok(Pair::Damaged(Some(row.key), why))
    }
}

/// Rows one by one.
pub(super) struct Walk<'a, T> {
    store: &'a T,
    span: &'a Span,
    page: std::vec::IntoIter<Row>,
    page_rows: NonZeroUsize,
    after: Option<RowKey>,
    ended: bool,
}

impl<'a, T: Store> Walk<'a, T> {
    pub fn new(store: &'a T, span: &'a Span) -> Self {
        Self { store, span, page: vec![].into_iter(), page_rows: SCAN_ROWS, after: None, ended: false }
    }

    pub async fn next(&mut self) -> Result<Option<Row>, ReadError> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.store.scan(self.span, self.after.as_ref(), self.page_rows).await?;
            self.ended = page.next_after.is_none();
            self.after = page.next_after;
            self.page = page.rows.into_iter();
        }
    }

    /// The next row, or why it cannot be read: those before damage are had one by one.
    async fn next_or_damaged(&mut self) -> Result<Option<Result<Row, String>>, ReadError> {
        loop {
            match self.next().await {
                Ok(row) => return Ok(row.map(Ok)),
                Err(ReadError::Damaged(why)) if self.page_rows == NonZeroUsize::MIN => return Ok(Some(Err(why))),
                Err(ReadError::Damaged(_)) => self.page_rows = NonZeroUsize::MIN,
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes over everything up to a row.
    fn go_on_behind(&mut self, key: RowKey) {
        self.after = Some(key);
        self.page_rows = SCAN_ROWS;
    }
}
