//! A shard whose parents the stream no longer has: it begins, and says what is missing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use events::{
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, ReadOnly, Refused, Shard, Start, Stream},
};
use processor::consume::Worker;
use processor::effects::Sink;
use projections::{
    fold::{self, Effect, Input, Place},
    store::{
        Generation, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

/// Lists these shards, and holds nothing.
struct Listed(Vec<Shard>);

impl Stream for Listed {
    async fn append(&self, _: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        Err(AppendError::NotAppended("nothing is taken here".into()))
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(self.0.clone())
    }

    async fn read(&self, _: &ShardId, from: Start, _: Limits) -> Result<Page, ReadError> {
        Ok(Page { records: vec![], next: Some(from), behind_ms: 0 })
    }
}

struct Deaf;

impl Sink for Deaf {
    async fn carry_out(&mut self, _: &ShardId, _: Vec<Effect>) -> Result<(), String> {
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}

const ALL: HashRange = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };

fn place(number: u64) -> Place {
    let shard = ShardId::numbered(number);
    Place { generation: Generation(0), ring: vec![(shard.clone(), ALL)], shard }
}

/// What the child of shard 0 says of its parents, where only the child is listed.
fn lost(store: Memory) -> Vec<(ShardId, SequenceNumber)> {
    let parents = vec![ShardId::numbered(0)];
    let child = Shard { id: ShardId::numbered(1), range: ALL, parents, closed: false };
    let stream = ReadOnly::new(Arc::new(Listed(vec![child])));
    let worker = block_on(Worker::open(stream, Arc::new(store), Deaf, place(1))).unwrap();
    worker.lost_parents().to_vec()
}

#[test]
fn a_child_of_a_parent_that_is_gone_and_was_never_folded_begins_and_says_so() {
    assert_eq!(lost(Memory::new(Commits::Whole)), [(ShardId::numbered(0), SequenceNumber::ZERO)]);
}

#[test]
fn a_parent_that_is_gone_was_lost_unless_it_was_folded_to_its_end() {
    for has_ended in [false, true] {
        let store = Memory::new(Commits::Whole);
        let mut parent = fold::Shard::new(place(0));
        if has_ended {
            parent.end();
        }
        block_on(store.commit(parent.commit())).unwrap();
        assert_eq!(lost(store).is_empty(), has_ended);
    }
}
