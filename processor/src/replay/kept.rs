//! What of old rows stands for the records that a stream no longer has. Decides how a row was before the oldest record that is left, where its kind
//! can tell.
//!
//! A mark joins the ranges of records that were folded long ago, and keeps the highest position alone: where that one is still on the stream, the
//! lower ones may be or not. The stream tells. Bytes of a joined range that none of its records up to that position brings were taken before. Bytes
//! that one of them brings were taken by it, or before as well, and it is a repeat: that is lost, and it is taken for the first. So what a producer
//! repeats across the place where the stream was cut may be taken again; `verify::doubt` looks for it.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{Limits, ReadOnly, Start, Stream},
    wire,
};
use projections::{
    fold::{
        identified::Identified,
        producers::Marks,
        rows::Body,
        taken::{Taken, TakenRange},
    },
    store::{Generation, Kind, Row, RowKey, Span, Store},
};

use super::{ReplayError, first_of};
use crate::drive::SCAN_ROWS;

const PAGE: Limits = Limits { records: NonZeroUsize::new(1_000).unwrap(), bytes: 2 << 20, wait: Duration::ZERO };

/// Bytes of one slice that a record on the stream brings.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: u64,
    to: u64,
    position: SequenceNumber,
}

/// What the stream still brings of the slices whose marks joined it with what it has lost: by shard, tenant and name of the mark.
#[derive(Debug, Default)]
pub struct Brought(HashMap<(ShardId, String, String), Vec<Piece>>);

fn is_across(range: &TakenRange, first: SequenceNumber) -> bool {
    range.joined && range.position >= first
}

impl Brought {
    /// Reads it. Costs one scan of the marks, and no record where none of them lies across the place where the stream was cut.
    pub async fn read<S: Stream, T: Store>(
        stream: &ReadOnly<S>,
        store: &T,
        generation: Generation,
        oldest: &HashMap<ShardId, SequenceNumber>,
    ) -> Result<Self, ReplayError> {
        let (mut brought, mut through) = (Self::default(), BTreeMap::<ShardId, SequenceNumber>::new());
        let span = Span::All { tenant: None, generation, kind: Kind::Taken };
        let mut after: Option<RowKey> = None;
        loop {
            let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
            for row in page.rows {
                let first = first_of(oldest, &row.key.shard);
                if row.applied_from >= first || row.applied_through < first {
                    continue;
                }
                let ranges = Taken::decode(&row.body).map_or(vec![], |taken| taken.ranges);
                if let Some(last) = ranges.iter().filter(|range| is_across(range, first)).map(|r| r.position).max() {
                    let end = through.entry(row.key.shard.clone()).or_default();
                    *end = last.max(*end);
                    brought.0.insert((row.key.shard, row.key.subject.tenant, row.key.subject.name), vec![]);
                }
            }
            match page.next_after {
                Some(key) => after = Some(key),
                None => break,
            }
        }
        for (shard, through) in through {
            let first = oldest.get(&shard).copied().unwrap_or_default();
            brought.listen(stream, &shard, first, through).await?;
        }
        Ok(brought)
    }

    async fn listen<S: Stream>(
        &mut self,
        stream: &ReadOnly<S>,
        shard: &ShardId,
        first: SequenceNumber,
        through: SequenceNumber,
    ) -> Result<(), ReplayError> {
        let mut from = Start::At(first);
        loop {
            let page = stream.read(shard, from, PAGE).await?;
            let Some(last) = page.records.last() else { return Ok(()) };
            from = Start::After(last.sequence);
            let is_over = last.sequence >= through;
            for record in page.records {
                let Ok(header) = wire::decode(&record.data).map(|batch| batch.header) else { continue };
                let Some(extent) = header.extent else { continue };
                let name = extent.origin.partition_key(&header.tenant, extent.from);
                if let Some(pieces) = self.0.get_mut(&(shard.clone(), header.tenant, name)) {
                    pieces.push(Piece { from: extent.from, to: extent.to, position: record.sequence });
                }
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// The part of a row that records before `first` made, where its kind can tell; `None`: there is none.
    pub fn before(&self, mut row: Row, first: SequenceNumber) -> Option<Row> {
        if row.applied_from >= first {
            return None;
        }
        match row.key.subject.kind {
            Kind::Taken => {
                let mut taken = Taken::decode(&row.body).ok()?;
                taken.ranges = taken.ranges.into_iter().flat_map(|range| self.parts(&row, range, first)).collect();
                row.applied_through = taken.ranges.iter().map(|range| range.position).max()?;
                row.body = taken.encode().into();
            }
            Kind::Producer if row.applied_through >= first => {
                let mut marks = Marks::decode(&row.body).ok()?;
                row.applied_through = marks.cut(first)?;
                row.body = marks.encode().into();
            }
            Kind::Identified if row.applied_through >= first => {
                let mut ids = Identified::decode(&row.body).ok()?;
                row.applied_through = ids.cut(first)?;
                row.body = ids.encode().into();
            }
            _ if row.applied_through >= first => return None,
            _ => {}
        }
        Some(row)
    }

    /// What of a range was taken before `first`.
    fn parts(&self, row: &Row, range: TakenRange, first: SequenceNumber) -> Vec<TakenRange> {
        if range.position < first {
            return vec![range];
        }
        if !range.joined {
            return vec![];
        }
        let key = (row.key.shard.clone(), row.key.subject.tenant.clone(), row.key.subject.name.clone());
        let mut pieces: Vec<Piece> = self.0.get(&key).cloned().unwrap_or_default();
        pieces.retain(|piece| piece.position <= range.position);
        pieces.sort_unstable_by_key(|piece| piece.from);
        let (mut parts, mut at) = (vec![], range.from);
        // Some record before `first`: which of them is known of the mark's first one alone.
        let part = |from, to| TakenRange { from, to, position: row.applied_from, joined: true };
        for piece in pieces {
            if at < piece.from.min(range.to) {
                parts.push(part(at, piece.from.min(range.to)));
            }
            at = at.max(piece.to);
        }
        if at < range.to {
            parts.push(part(at, range.to));
        }
        parts
    }
}
