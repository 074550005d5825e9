//! A verify that has the archive beside a stream that has let go of most records: it folds what a verify of the whole stream folds, and says the same.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use events::{
    position::{HashKey, SequenceNumber},
    stream::Stream,
};
use processor::{append::append_all, consume::Worker, effects::Live as Sink, verify::Report};
use projections::store::law::{
    block_on,
    memory::{Commits, Memory},
};

use crate::{
    local,
    world::{World, work},
};

/// Folds all that is there, parents before children.
fn fold(world: &World, store: &Arc<Memory>) {
    let shards = world.shards();
    for place in local::places(shards.clone()) {
        let sink = Sink(world.live.clone());
        let stream = events::stream::ReadOnly::new(world.live.clone());
        let is_closed = shards.iter().any(|shard| shard.id == place.shard && shard.closed);
        let mut worker = block_on(Worker::open(stream, store.clone(), sink, place)).unwrap();
        loop {
            let step = block_on(worker.step(Duration::ZERO)).unwrap();
            if step.ended || (step.caught_up && !is_closed) {
                block_on(worker.commit()).unwrap();
                break;
            }
        }
    }
}

fn lines(world: &World, minutes: std::ops::Range<u32>) {
    for minute in minutes {
        world.clock.fetch_add(60_000, Ordering::SeqCst);
        let now_ms = world.clock.load(Ordering::SeqCst);
        let puts = (0..4).map(|file| {
            let text: String = (0..20)
                .map(|line| {
                    format!("{{\"service\":\"shop-{file}\",\"status\":200,\"latency_ms\":{}}}\n", minute * 7 + line)
                })
                .collect();
            local::part_of_file(&format!("{file}-{minute}.log"), 0, now_ms, &text)
        });
        block_on(append_all(&*world.live, puts.collect())).unwrap();
    }
}

fn verify<S: Stream>(stream: &Arc<S>, store: &Memory) -> Report {
    let shards = block_on(stream.shards()).unwrap();
    local::verify(stream, store, local::places(shards))
}

/// A history with a split in its middle, folded and archived.
fn world() -> (World, Arc<Memory>) {
    let (world, store) = (World::new(2), Arc::new(Memory::new(Commits::Whole)));
    for minute in 0..20 {
        if minute == 10 {
            world.live.inner.split(&world.shard(), HashKey(1 << 126)).unwrap();
        }
        lines(&world, minute..minute + 1);
        assert_eq!(world.archive(), [""; 0]);
    }
    fold(&world, &store);
    // The stream has more than the archive, and rows hold it.
    lines(&world, 20..22);
    fold(&world, &store);
    (world, store)
}

/// The stream keeps what is not archived, and the record before it.
fn let_go(world: &World) {
    for shard in world.shards() {
        let archived = world.archiver(&shard).archived_through();
        let all = &world.all()[&shard.id];
        let newest = all.iter().rposition(|record| record.sequence <= archived);
        if let Some(before) = newest.and_then(|newest| newest.checked_sub(1)) {
            world.live.trim(&shard.id, all[before].sequence);
        }
        if shard.closed {
            world.live.forget(&shard.id);
        }
    }
}

#[test]
fn the_digest_of_archive_and_stream_is_that_of_the_whole_stream() {
    let (world, store) = world();
    let whole = verify(&world.live, &store);
    assert_eq!((whole.differences, whole.older_than_stream), (0, 0), "{:?}", whole.first_difference);
    let_go(&world);
    let without = verify(&world.live, &store);
    assert!(without.older_than_stream > 0 && without.records < whole.records / 2, "the stream alone does not say it");
    let archived = verify(&world.open().unwrap(), &store);
    assert_eq!(archived, whole, "the same records, rows, digest, from and through");
}

#[test]
fn of_an_archive_with_a_hole_it_is_said_from_where_it_verifies() {
    let (world, store) = world();
    let_go(&world);
    let open = world.shards().into_iter().find(|shard| shard.parents.is_empty() && !shard.closed).unwrap();
    let segments = block_on(world.reader().segments(&open.id, SequenceNumber::ZERO)).unwrap();
    assert!(segments.len() > 3);
    world.objects.take(&events::archive::name(&open.id, segments[1]).unwrap());
    let whole = world.open().unwrap();
    assert_eq!(whole.said().len(), 1);
    let report = verify(&whole, &store);
    assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    assert!(report.older_than_stream > 0, "what the hole swallowed is not compared");
    let first = block_on(world.reader().segment(&open.id, segments[2])).unwrap().unwrap().held.unwrap().first;
    assert_eq!(report.from[open.id.as_str()], first.to_string());
    assert!(work(&mut world.archiver(&open)).is_empty(), "the archiver does not mind");
}
