//! The embedded stream under its law suite, crashes and harm.
#![allow(clippy::unwrap_used)]

mod crash;
mod golden;
mod harm;
mod reshard;
mod waiting;

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;

use super::{
    disk::{Disk, RealDisk, simulated::SimulatedDisk},
    *,
};
use crate::stream::{Record, law::block_on};

const LIMITS: Limits = Limits { records: NonZeroUsize::MAX, bytes: usize::MAX, wait: Duration::ZERO };

fn put(key: &str, data: impl Into<Bytes>) -> Put {
    Put { partition_key: key.to_owned(), hash_key: None, data: data.into() }
}

fn small() -> Options {
    Options { segment_bytes: 8192, commit: Commit::Inline, ..Options::default() }
}

fn open<D: Disk>(disk: &D, options: Options) -> Embedded<D> {
    Embedded::open(disk.clone(), || 1_000, options).unwrap()
}

fn append<D: Disk>(stream: &Embedded<D>, puts: Vec<Put>) -> Vec<SequenceNumber> {
    block_on(stream.append(puts)).unwrap().into_iter().map(|answer| answer.unwrap().sequence).collect()
}

fn read_all<D: Disk>(stream: &Embedded<D>, shard: u64, mut from: Start) -> Result<Vec<Record>, ReadError> {
    let mut all = Vec::new();
    loop {
        let page = block_on(stream.read(&ShardId::numbered(shard), from, LIMITS))?;
        let is_empty = page.records.is_empty();
        all.extend(page.records);
        match page.next {
            Some(next) if !is_empty => from = next,
            _ => return Ok(all),
        }
    }
}

fn data(records: &[Record]) -> Vec<Bytes> {
    records.iter().map(|record| record.data.clone()).collect()
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_a_kill_and_a_close() {
    let disk = SimulatedDisk::new(1);
    let mut expected = Vec::new();
    for round in 0..30u8 {
        let stream = open(&disk, small());
        for i in 0..5u8 {
            let bytes = Bytes::from(vec![round * 5 + i; usize::from(round) * 37]);
            append(&stream, vec![put("a", bytes.clone()), put("b", bytes.clone())]);
            expected.extend([bytes.clone(), bytes]);
            let all = read_all(&stream, 0, Start::TrimHorizon).unwrap();
            assert_eq!(data(&all), expected);
        }
        match round % 3 {
            0 => disk.power_loss(u64::from(round)),
            1 => disk.kill(),
            _ => stream.close(),
        }
    }
    let stream = open(&disk, small());
    let all = read_all(&stream, 0, Start::TrimHorizon).unwrap();
    assert_eq!(data(&all), expected);
    assert!(all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    assert!(disk.list("shardId-000000000000").unwrap().len() > 10, "several segments");
}

#[test]
fn a_real_folder_holds_what_was_appended_by_many_threads_and_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
    let options = Options { segment_bytes: 64 << 10, shards: 2.try_into().unwrap(), ..Options::default() };
    let stream = open(&disk, options.clone());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let stream = &stream;
            scope.spawn(move || {
                for i in 0..50 {
                    append(stream, vec![put(&format!("{thread}-{i}"), vec![thread; 3000]); 2]);
                }
            });
        }
    });
    let before: Vec<_> = (0..2).map(|shard| read_all(&stream, shard, Start::TrimHorizon).unwrap()).collect();
    assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 400);
    let second = Embedded::open(disk.clone(), || 1_000, options.clone()).unwrap_err();
    assert!(matches!(&second, OpenError::InUse { folder } if folder.ends_with("stream")), "{second}");
    drop(stream);
    let stream = open(&disk, options);
    let after: Vec<_> = (0..2).map(|shard| read_all(&stream, shard, Start::TrimHorizon).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn the_stream_obeys_the_laws_of_its_port_on_a_real_folder() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    block_on(crate::stream::law::suite(async |shards| {
        made.set(made.get() + 1);
        let disk = RealDisk::in_folder(folder.path().join(made.get().to_string())).unwrap();
        let options = Options { shards, segment_bytes: 64 << 10, ..Options::default() };
        Embedded::open(disk, ticking(), options).unwrap()
    }));
}

#[test]
fn the_stream_obeys_the_laws_of_its_port_when_the_caller_commits() {
    block_on(crate::stream::law::suite(async |shards| {
        let options = Options { shards, ..small() };
        Embedded::open(SimulatedDisk::new(1), ticking(), options).unwrap()
    }));
}

struct Own;

impl<D: Disk> crate::stream::law::Resharder<Embedded<D>> for Own {
    async fn split(&self, stream: &Embedded<D>, shard: &Shard, at: HashKey) {
        stream.split(&shard.id, at).unwrap();
    }

    async fn merge(&self, stream: &Embedded<D>, lower: &Shard, upper: &Shard) {
        // In either order.
        stream.merge(&upper.id, &lower.id).unwrap();
    }
}

#[test]
fn the_stream_obeys_the_laws_of_splits_and_merges() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    let threaded = async |shards| {
        made.set(made.get() + 1);
        let disk = RealDisk::in_folder(folder.path().join(made.get().to_string())).unwrap();
        Embedded::open(disk, ticking(), Options { shards, segment_bytes: 64 << 10, ..Options::default() }).unwrap()
    };
    block_on(crate::stream::law::reshard_suite(threaded, &Own));
    let inline =
        async |shards| Embedded::open(SimulatedDisk::new(1), ticking(), Options { shards, ..small() }).unwrap();
    block_on(crate::stream::law::reshard_suite(inline, &Own));
}

#[test]
fn the_stream_obeys_the_law_of_retention() {
    let stream = Embedded::open(SimulatedDisk::new(1), ticking(), small()).unwrap();
    let trim = async |stream: &Embedded<SimulatedDisk>, shard: &ShardId, last: SequenceNumber| {
        // Whole segments go; so the one that holds the last has to end.
        let records = read_all(stream, 0, Start::After(last)).unwrap();
        let gone = records.iter().find(|record| {
            stream.trim(shard, i64::MAX, record.sequence).unwrap();
            read_all(stream, 0, Start::TrimHorizon).unwrap()[0].sequence > last
        });
        assert!(gone.is_some());
    };
    block_on(crate::stream::law::what_was_trimmed_is_said(&stream, trim));
}

/// A clock that moves with each look at it.
fn ticking() -> impl Clock {
    let now = std::sync::atomic::AtomicI64::new(1_700_000_000_000);
    move || now.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
