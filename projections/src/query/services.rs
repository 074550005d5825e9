//! The services that a query looks at, one after the other: those of every generation that is read. Decides their order, which is that of their names.

use std::{collections::VecDeque, sync::Arc};

use super::{Cursor, Query, SCAN_ROWS, subject};
use crate::store::{Generation, Kind, Partial, ReadError, RowKey, Span, Store};

/// The services of one generation.
struct Lane {
    generation: Generation,
    /// Behind all rows that were looked at.
    after: Option<RowKey>,
    at_end: bool,
    found: VecDeque<String>,
}

/// See the module.
pub(super) struct Services<'a> {
    query: &'a Query,
    lanes: Vec<Lane>,
    one_is_given: bool,
}

impl<'a> Services<'a> {
    pub(super) fn new(query: &'a Query, cursor: Option<&Cursor>) -> Self {
        let lane = |generation| {
            // A key before all rows of the cursor's service, so that a page does not list the services of the pages before it.
            let after = cursor.map(|cursor| RowKey {
                subject: subject(query, generation, Kind::Service, &cursor.service),
                at: i64::MIN,
                shard: events::position::ShardId::named(""),
                partial: Partial(0),
                page: 0,
            });
            Lane { generation, after, at_end: false, found: VecDeque::new() }
        };
        Self { query, lanes: query.view.generations().into_iter().map(lane).collect(), one_is_given: false }
    }

    pub(super) async fn next<S: Store>(&mut self, store: &S) -> Result<Option<Arc<str>>, ReadError> {
        if let Some(service) = &self.query.service {
            let is_first = !std::mem::replace(&mut self.one_is_given, true);
            return Ok(is_first.then(|| service.as_str().into()));
        }
        for lane in &mut self.lanes {
            lane.fill(store, &self.query.tenant).await?;
        }
        let Some(next) = self.lanes.iter().filter_map(|lane| lane.found.front()).min().cloned() else {
            return Ok(None);
        };
        for lane in &mut self.lanes {
            // Each shard that met the service has listed it; those behind the page that was read come with the next one.
            loop {
                lane.found.retain(|name| *name != next);
                if !lane.found.is_empty() || lane.at_end {
                    break;
                }
                lane.fill(store, &self.query.tenant).await?;
            }
        }
        Ok(Some(next.into()))
    }
}

impl Lane {
    /// Until a service is there, or the end.
    async fn fill<S: Store>(&mut self, store: &S, tenant: &str) -> Result<(), ReadError> {
        while self.found.is_empty() && !self.at_end {
            let span = Span::All { tenant: Some(tenant.to_owned()), generation: self.generation, kind: Kind::Service };
            let rows = store.scan(&span, self.after.as_ref(), SCAN_ROWS).await?;
            self.at_end = rows.next_after.is_none();
            self.after = rows.next_after;
            for row in rows.rows {
                if self.found.back() != Some(&row.key.subject.name) {
                    self.found.push_back(row.key.subject.name);
                }
            }
        }
        Ok(())
    }
}
