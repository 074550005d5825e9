//! The embedded stream on a simulated disk with a clock that a test sets, and batches to put on it: what tests of whole histories begin with.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use events::{
    embedded::{Commit, Embedded, Options, disk::simulated::SimulatedDisk},
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    stream::{Put, ReadOnly, Shard, Stream},
    wire::Codec,
};
use processor::verify::{self, Report};
use projections::{
    fold::Place,
    store::{
        Generation, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

/// 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;
pub const GENERATION: Generation = Generation(0);

pub type LocalStream = Embedded<SimulatedDisk>;

/// Segments are small, so that short histories have some that are whole.
pub fn options(shards: u16) -> Options {
    Options {
        shards: NonZeroU16::new(shards).unwrap(),
        segment_bytes: 64 << 10,
        commit: Commit::Inline,
        ..Options::default()
    }
}

pub fn stream(shards: u16, clock: &Arc<AtomicI64>) -> Arc<LocalStream> {
    let stamps = clock.clone();
    let opened = Embedded::open(SimulatedDisk::new(1), move || stamps.load(Ordering::SeqCst), options(shards));
    Arc::new(opened.unwrap())
}

pub fn places(shards: Vec<Shard>) -> Vec<Place> {
    let ring: Vec<_> = shards.into_iter().map(|shard| (shard.id, shard.range)).collect();
    let place = |(shard, _): &(_, _)| Place { generation: GENERATION, shard: Clone::clone(shard), ring: ring.clone() };
    ring.iter().map(place).collect()
}

/// A batch of a file, or of a producer without one.
pub fn batch(identity: Identity, read_at_ms: i64, text: &str) -> Put {
    let source = Source { tenant: "local".into(), service: None, identity, read_at_ms, definitions: None };
    let mut packer = Packer::new(source, Codec::None, 1 << 16);
    packer.push(text.as_bytes());
    let packed = packer.next(true).unwrap();
    Put { partition_key: packed.partition_key, hash_key: None, data: packed.data }
}

/// Some bytes of a file.
pub fn part_of_file(name: &str, from: u64, read_at_ms: i64, text: &str) -> Put {
    let origin = Origin { kind: OriginKind::File, name: name.into(), version: "1".into() };
    batch(Identity::Origin { origin, from }, read_at_ms, text)
}

pub fn verify<S: Stream, T: Store>(stream: &Arc<S>, store: &T, places: Vec<Place>) -> Report {
    let (stream, scratch) = (ReadOnly::new(stream.clone()), Arc::new(Memory::new(Commits::Whole)));
    block_on(verify::verify(stream, store, scratch, places, async {}, |_| {})).unwrap()
}
