//! A stream that has forgotten its beginning: rows that cannot be recomputed are said, the others still verify, and what was taken stays taken.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use events::{
    embedded::{Commit, Embedded, Options, disk::simulated::SimulatedDisk},
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    stream::{Put, ReadOnly, Stream},
    wire::Codec,
};
use processor::{
    consume::{Live, Worker, append_all},
    rebuild, verify,
};
use projections::{
    fold::Place,
    store::{
        Generation, Kind, Span, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

const START_MS: i64 = 1_767_225_600_000;
const GENERATION: Generation = Generation(0);

/// Forty lines of one minute as a file.
fn file(number: i64) -> Put {
    let at = START_MS / 1000 + number * 60;
    let text = format!(
        "{{\"ts\":{at},\"service\":\"shop\",\"latency_ms\":{number}.5,\"status\":200,\"pad\":\"{}\"}}\n",
        "x".repeat(60)
    );
    let source = Source {
        tenant: "local".into(),
        service: None,
        identity: Identity::Origin {
            origin: Origin { kind: OriginKind::File, name: format!("/{number}.log"), version: "1".into() },
            from: 0,
        },
        read_at_ms: at * 1000,
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 1 << 16);
    packer.push(text.repeat(40).as_bytes());
    let packed = packer.next(true).unwrap();
    Put { partition_key: packed.partition_key, hash_key: None, data: packed.data }
}

#[test]
fn verify_says_which_rows_are_older_than_the_stream_and_compares_the_others() {
    let clock = Arc::new(AtomicI64::new(START_MS));
    let stamps = clock.clone();
    let options =
        Options { shards: NonZeroU16::MIN, segment_bytes: 64 << 10, commit: Commit::Inline, ..Options::default() };
    let stream =
        Arc::new(Embedded::open(SimulatedDisk::new(1), move || stamps.load(Ordering::SeqCst), options).unwrap());
    let shard = block_on(stream.shards()).unwrap().remove(0);
    let place = Place { generation: GENERATION, shard: shard.id.clone(), ring: vec![(shard.id.clone(), shard.range)] };
    let store = Arc::new(Memory::new(Commits::Whole));
    let opened = Worker::open(ReadOnly::new(stream.clone()), store.clone(), Live(stream.clone()), place.clone());
    let mut worker = block_on(opened).unwrap();
    let mut fold_all = || {
        let mut duplicate = 0;
        loop {
            let step = block_on(worker.step(Duration::ZERO)).unwrap();
            duplicate += step.folded.iter().map(|(_, balance)| balance.duplicate).sum::<u64>();
            if step.caught_up {
                block_on(worker.commit()).unwrap();
                return duplicate;
            }
        }
    };
    for number in 0..60 {
        clock.fetch_add(60_000, Ordering::SeqCst);
        block_on(append_all(&*stream, vec![file(number)])).unwrap();
    }
    assert_eq!(fold_all(), 0);
    let removed = stream.trim(&shard.id, clock.load(Ordering::SeqCst), stream.tip(&shard.id).unwrap()).unwrap();
    assert!(removed > 0, "small segments, so some are whole and old");
    // The first file again: the stream has forgotten it, the marks have not.
    block_on(append_all(&*stream, vec![file(0), file(60)])).unwrap();
    assert_eq!(fold_all(), 40);
    let scratch = Arc::new(Memory::new(Commits::Whole));
    let verified =
        verify::verify(ReadOnly::new(stream.clone()), &*store, scratch, vec![place.clone()], async {}, |_| {});
    let report = block_on(verified).unwrap();
    assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    let span = Span::All { tenant: None, generation: GENERATION, kind: Kind::Window };
    let windows = block_on(store.scan(&span, None, 1000.try_into().unwrap())).unwrap().rows;
    let first = block_on(ReadOnly::new(stream.clone()).oldest(&shard.id)).unwrap().unwrap();
    let older = windows.iter().filter(|row| row.applied_from < first).count() as u64;
    assert!(older > 10 && older < 60, "{older} of {} windows", windows.len());
    assert!(report.older_than_stream >= older && report.rows > 0, "{report:?}");
    assert_eq!(report.from[shard.id.as_str()], first.to_string());
    // Made anew, they hold the same: the older ones as they were, the others from the stream; a worker goes on with them.
    let anew = Arc::new(Memory::new(Commits::Whole));
    let rebuilt = rebuild::rebuild(ReadOnly::new(stream.clone()), &*store, anew.clone(), vec![place.clone()], |_| {});
    block_on(rebuilt).unwrap();
    assert_eq!(block_on(anew.scan(&span, None, 1000.try_into().unwrap())).unwrap().rows, windows);
    let opened = Worker::open(ReadOnly::new(stream.clone()), anew, Live(stream.clone()), place);
    assert_eq!(block_on(opened).unwrap().committed(), stream.tip(&shard.id).unwrap());
}
